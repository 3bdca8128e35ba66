"""Measure how long scoring takes: all metrics of a pair, large trees, and PyNeval in comparison.

    python -m benchmarks.metrics_speed [GOLD.swc TEST.swc]

Without files, the pair is synthetic and as large as that of a DRIVE image. Times are CPU seconds, the least of several
runs. PyNeval is measured if ``make oracle`` has built `.venv-oracle`, in that interpreter and without reading files.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.timing import least_seconds
from lib.swclib import SwcForest, read_swc, write_swc
from lib.swclib.metrics import Protocol, score
from tools.cli import run

ORACLE = Path(".venv-oracle/bin/python")
PYNEVAL = """
import json, sys, time
from pyneval.metric import length_metric, ssd_metric
from pyneval.metric.utils.config_utils import get_default_configs
from pyneval.pyneval_io.swc_io import read_swc_tree
seconds = {}
for name, metric in (("ssd", ssd_metric.ssd_metric), ("length", length_metric.length_metric)):
    gold, test = read_swc_tree(sys.argv[1]), read_swc_tree(sys.argv[2])
    start = time.process_time()
    metric(gold, test, get_default_configs(name))
    seconds[name] = time.process_time() - start
print(json.dumps(seconds))
"""
DRIVE_NODES = 5000
"""Nodes of the gold tree of a DRIVE image."""

Pair = tuple[SwcForest, SwcForest]
"""Gold tree and test tree."""


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args(argv)
    if given.files:
        gold, test = map(read_swc, given.files)
    else:
        gold, test = synthetic_pair(DRIVE_NODES)
    score(gold, test)  # Compilation is not timed.
    print(f"{'gold nodes':>10} {'test nodes':>10} {'protocol':>9} {'s':>8} {'peak MB':>8}")
    ours = show((gold, test), "paper", given.repeats)
    show((gold, test), "closed", given.repeats)
    for n in (25_000, 50_000, 100_000):
        show(synthetic_pair(n), "paper", 1)
    if ORACLE.exists():
        theirs = pyneval_seconds(gold, test)
        print("PyNeval: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in theirs.items()), end="")
        print(f"; together {sum(theirs.values()) / ours:.0f} times as long as all our metrics")


def synthetic_pair(n: int) -> Pair:
    """Trees of ``n`` nodes, one every 1.4 px and a branch every 25 nodes, and a copy with shifted nodes and some cuts.

    A branch starts at one of the last 250 nodes, so that more nodes cover more area at the same density, as in images.
    """
    rng = np.random.default_rng(n)
    side = 14.0 * np.sqrt(n)
    parent = np.arange(-1, n - 1)
    starts = np.arange(0, n, 25)
    forks = rng.integers(np.maximum(starts - 250, 0), np.maximum(starts, 1))
    parent[starts] = np.where(rng.random(len(starts)) < 0.9, forks, -1)
    parent[0] = -1
    angle = np.cumsum(np.where(parent == np.arange(-1, n - 1), rng.normal(0, 0.2, n), rng.uniform(0, 6.28, n)))
    step = 1.4 * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    positions = np.zeros((n, 2))
    for row in range(n):
        positions[row] = rng.uniform(0, side, 2) if parent[row] < 0 else positions[parent[row]] + step[row]
    gold = SwcForest.from_positions(positions, parent, radius=rng.uniform(0.5, 2.5, n))
    cut = np.where(rng.random(n) < 0.002, -1, gold.parent)
    return gold, SwcForest.from_positions(gold.positions(2) + rng.normal(0, 0.5, (n, 2)), cut, gold.radius)


def show(pair: Pair, protocol: Protocol, repeats: int) -> float:
    """Print a row and return the least time in seconds."""
    # Copies have no cached values.
    _, best = least_seconds(lambda: score(*map(replace, pair), protocol=protocol), repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(pair[0]):10} {len(pair[1]):10} {protocol:>9} {best:8.3f} {peak:8.0f}", flush=True)
    return best


def pyneval_seconds(gold: SwcForest, test: SwcForest) -> dict[str, float]:
    """CPU seconds of PyNeval's two metrics, by name."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("gold.swc", "test.swc")]
        for path, tree in zip(paths, (gold, test), strict=True):
            write_swc(path, tree)
        command = [ORACLE, "-c", PYNEVAL, *paths]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    run(main)
