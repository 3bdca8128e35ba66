"""How often a trace jumps between two neurites that run side by side, with GDS and without.

    python -m benchmarks.parallel_neurites --weights weights/FMOST.safetensors

Each case is a simulated volume of two neurites whose centrelines are 4 voxels apart (preset parallel). A case is lost
if any traced tree follows both: if it runs along one for :data:`LONG` voxels and along the other as long.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from configs.options import TraceRun3D
from lib.klib.volume_io import Volume
from lib.swclib import SwcForest, resample
from tools.simulation import Simulated, parallel_pair
from tools.tracing.job import TraceJob
from tools.tracing.tracing_tools_3D import build_trace_job_3d

LONG = 8.0
"""Voxels along a neurite that are no accident: a step is about as long, two neurites touch for less."""
METHODS = ("gds", "brightest")


def main() -> None:
    """Trace all cases with both methods and print how many are without a jump."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("weights/FMOST.safetensors"))
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--apart", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    options = TraceRun3D(given.weights, images=Path(), out=Path(), threads=given.threads)
    jobs = {method: build_trace_job_3d(replace(options, method=method)) for method in METHODS}
    print(f"{'case':>5}" + "".join(f"{method:>24}" for method in METHODS) + "   (jumps, share traced)")
    outcomes = {method: [] for method in METHODS}
    for seed in range(given.cases):
        case = parallel_pair(seed, separation=given.apart)
        for method, job in jobs.items():
            outcomes[method].append(outcome(job, case))
        shown = (f"{outcomes[method][-1][0]:14d}{outcomes[method][-1][1]:10.2f}" for method in METHODS)
        print(f"{seed:5d}{''.join(shown)}", flush=True)
    for method, each in outcomes.items():
        jumps, traced = np.array(each).T
        print(f"{method}: {(jumps == 0).sum()} of {len(each)} without a jump, {traced.mean():.3f} of the length traced")


def outcome(job: TraceJob, case: Simulated) -> tuple[int, float]:
    """Jumps of a case, and the share of its neurites' length that was traced."""
    pixels = Volume(case.volume).unit(white=job.header.white)
    forest = job.trace(pixels, spacing=case.spacing).forest
    return jumps(case.gold, forest), coverage(case.gold, forest)


def jumps(gold: SwcForest, forest: SwcForest) -> int:
    """Number of traced trees that follow more than one gold tree."""
    truth, test = resample(gold, 1.0), resample(forest, 1.0)
    if not len(test):
        return 0
    _, nearest = cKDTree(truth.xyz).query(test.xyz)
    along = np.zeros((len(test.roots), len(truth.roots)))
    np.add.at(along, (test.components, truth.components[nearest]), 1.0)
    return int(((along >= LONG).sum(axis=1) > 1).sum())


def coverage(gold: SwcForest, forest: SwcForest, within: float = 2.0) -> float:
    """Share of the gold's length with a trace within that many voxels."""
    if not len(forest):
        return 0.0
    distance, _ = cKDTree(resample(forest, 1.0).xyz).query(resample(gold, 1.0).xyz)
    return float((distance <= within).mean())


if __name__ == "__main__":
    main()
