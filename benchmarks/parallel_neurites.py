"""Count how often a trace jumps between two parallel neurites, with GDS and without.

    python -m benchmarks.parallel_neurites --weights weights/FMOST.safetensors

Each case is a simulated volume of two neurites (preset ``parallel``). A traced tree that follows both of them, each for
at least :data:`MIN_FOLLOWED` voxels, is a jump.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.spatial import KDTree

from configs.options import TraceRun3D
from lib.klib.volume_io import Volume
from lib.swclib import SwcForest, resample
from tools.cli import run
from tools.simulation import Simulated, parallel_pair
from tools.tracing.job import TraceJob
from tools.tracing.tracing_tools_3D import build_trace_job_3d

MIN_FOLLOWED = 8.0
"""Voxels along a neurite: about the length of a step, and longer than a touch of two neurites."""
METHODS: tuple[Literal["gds", "brightest"], ...] = ("gds", "brightest")


def main(argv: list[str] | None = None) -> None:
    """Trace all cases with both methods and print how many have no jump."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("weights/FMOST.safetensors"))
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--apart", type=float, default=4.0, help="distance of the centerlines in voxels")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args(argv)
    options = TraceRun3D(given.weights, images=Path(), out=Path(), threads=given.threads)
    jobs = {method: build_trace_job_3d(replace(options, method=method)) for method in METHODS}
    print(f"{'case':>5}" + "".join(f"{method:>24}" for method in METHODS) + "   (jumps, share traced)")
    outcomes: dict[str, list[tuple[int, float]]] = {method: [] for method in METHODS}
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
    """Number of jumps in a case, and the share of its length that is traced."""
    pixels = Volume(case.volume).unit(job.levels)
    forest = job.trace(pixels, spacing=case.spacing).forest
    return jumps(case.gold, forest), coverage(case.gold, forest)


def jumps(gold: SwcForest, forest: SwcForest) -> int:
    """Number of traced trees that follow more than one gold tree."""
    gold, test = resample(gold, 1.0), resample(forest, 1.0)
    if not len(test):
        return 0
    _, nearest = KDTree(gold.xyz).query(test.xyz)
    along = np.zeros((len(test.roots), len(gold.roots)))
    np.add.at(along, (test.components, gold.components[nearest]), 1.0)
    return int(((along >= MIN_FOLLOWED).sum(axis=1) > 1).sum())


def coverage(gold: SwcForest, forest: SwcForest, within: float = 2.0) -> float:
    """Share of the length of the gold trees that has a trace within ``within`` voxels."""
    if not len(forest):
        return 0.0
    distance, _ = KDTree(resample(forest, 1.0).xyz).query(resample(gold, 1.0).xyz)
    return float((distance <= within).mean())


if __name__ == "__main__":
    run(main)
