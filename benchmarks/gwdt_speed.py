"""Measure how many voxels per second the gray-weighted distance transform processes on one core.

    python -m benchmarks.gwdt_speed $DATASETS/OP/training/images/OP_8.tif data/FMOST/test/images/*.tif

Each volume is measured at three thresholds: the median (half of a noisy volume is foreground, the worst case), the mean
plus half a standard deviation, and the mean plus one (little but neurites). Without files, the volume is simulated.
Clock and CPU seconds are the least of three calls, without compilation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tifffile

from benchmarks.timing import least_seconds
from lib.gwdt import gwdt
from tools.cli import run
from tools.simulation import demo_volume


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help="volumes (TIFF)")
    given = parser.parse_args(argv)
    gwdt(np.ones((3, 3, 3), np.uint8))
    print(f"{'volume':28s} {'Mvoxels':>8s} {'threshold':>10s} {'foreground':>11s} {'Mvox/s':>10s} {'per CPU s':>10s}")
    volumes = {path.stem: path for path in given.files} or {"simulated": None}
    for name, path in volumes.items():
        volume = tifffile.imread(path) if path else demo_volume(0, (96, 256, 256))[0]
        mean, deviation = float(volume.mean()), float(volume.std())
        for threshold in (float(np.median(volume)), mean + deviation / 2, mean + deviation):
            clock, cpu = least_seconds(lambda v=volume, t=threshold: gwdt(v, threshold=t))
            share, size = (volume > threshold).mean(), volume.size / 1e6
            print(f"{name:28s} {size:8.1f} {threshold:10.1f} {share:11.4f} {size / clock:10.1f} {size / cpu:10.1f}")


if __name__ == "__main__":
    run(main)
