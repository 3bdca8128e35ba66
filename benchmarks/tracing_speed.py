"""Measure how fast tracing is, compared with the paper's procedure and for growing images.

    python -m benchmarks.tracing_speed --weights weights/DRIVE.safetensors --image photo.png --scale 2

Both procedures run in turn in one process, so that other work on the machine slows both. Without --image, the retina of
scikit-image is traced. Images of 2 and 4 times the area are copies of the image side by side.
"""

from __future__ import annotations

import argparse
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
from skimage import data

from configs.options import TraceRun
from tools.cli import run
from tools.demo import SCALE
from tools.readers import read_image_2d
from tools.tracing.job import TraceJob
from tools.tracing.tracing_tools_2D import build_trace_job_2d

TILINGS = {"1x": (1, 1, 1), "2x": (1, 2, 1), "4x": (2, 2, 1)}
OURS, PAPER = "ours", "paper's procedure"
PAPER_OPTIONS = {"fronts": 1, "features": "patch"}
"""The paper advances one front at a time and runs the whole network on its patch (docs/paper.md §5)."""


def main(argv: list[str] | None = None) -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("weights/DRIVE.safetensors"))
    parser.add_argument("--image", type=Path)
    parser.add_argument("--scale", type=float)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args(argv)
    pixels = read_image_2d(given.image).pixels if given.image else data.retina()[..., :3] / np.float32(255)
    scale = given.scale or (None if given.image else SCALE)
    options = TraceRun(given.weights, images=Path(), out=Path(), scale=scale, threads=given.threads)
    fast = build_trace_job_2d(options)
    fast.trace(pixels[:200, :200])  # Compilation is not timed.
    compare(fast, build_trace_job_2d(replace(options, **PAPER_OPTIONS)), pixels, given.repeats)
    grow(fast, pixels)


def compare(fast: TraceJob, paper: TraceJob, pixels: np.ndarray, repeats: int) -> None:
    """Trace with both procedures in turn and print the fastest of ``repeats`` runs."""
    runs: dict[str, list[dict[str, float]]] = {OURS: [], PAPER: []}
    for _ in range(repeats):
        for name, job in ((OURS, fast), (PAPER, paper)):
            runs[name].append(measured(job, pixels))
    print(f"{'procedure':20}{'s':>8}{'nodes':>8}{'ms/step':>9}{'search/network':>16}")
    best = {name: min(each, key=lambda run: run["total"]) for name, each in runs.items()}
    for name, took in best.items():
        share = took["search"] / (took["encode"] + took["network"])
        per_step = 1000 * (took["network"] + took["search"]) / max(took["steps"], 1)
        print(f"{name:20}{took['total']:8.1f}{took['nodes']:8.0f}{per_step:9.2f}{share:16.2f}")
    print(f"ratio: {best[PAPER]['total'] / best[OURS]['total']:.1f}")


def grow(job: TraceJob, pixels: np.ndarray) -> None:
    """Trace 1, 2 and 4 times the area and print the time per traced length."""
    print(f"\n{'area':6}{'length px':>11}{'s':>8}{'s per 1000 px':>15}{'peak GB so far':>16}")
    for name, tiling in TILINGS.items():
        took = measured(job, np.tile(pixels, tiling))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        pace = 1000 * took["total"] / took["length"]
        print(f"{name:6}{took['length']:11.0f}{took['total']:8.1f}{pace:15.2f}{peak:16.2f}")


def measured(job: TraceJob, pixels: np.ndarray) -> dict[str, float]:
    """Seconds by stage, and size of the trace (length in image pixels)."""
    trace = job.trace(pixels)
    seconds = {**trace.seconds, "total": sum(trace.seconds.values())}
    return seconds | {"steps": trace.counts["steps"], "nodes": len(trace.forest), "length": trace.forest.length}


if __name__ == "__main__":
    run(main)
