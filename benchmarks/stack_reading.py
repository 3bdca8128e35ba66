"""Measure how many samples per second training can read from patch stacks with a warm cache.

    python prepare_datasets_2D.py --dataset DRIVE --data_root $DATASETS --out /tmp/drive --n_samples 40000
    python -m benchmarks.stack_reading /tmp/drive

The first epoch warms the cache; the second is measured in clock and CPU seconds, by default at the paper's batch size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.timing import least_seconds
from tools.cli import run
from tools.data.prepared import PreparedDataset
from tools.Data_Loader_2d import build_stack_batches_2d


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder written by prepare_datasets_2D.py")
    parser.add_argument("--batch_size", type=int, default=256, help="samples in a batch")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    prepared = PreparedDataset.load(given.folder)
    batches = build_stack_batches_2d(given.folder, prepared.images, given.batch_size, 0, patch_size=prepared.patch_size)
    steps = batches.steps_per_epoch

    def epoch() -> None:
        """Read all samples once."""
        for step in range(steps):
            batches.batch(step)

    epoch()
    clock, cpu = least_seconds(epoch, repeats=1)
    samples = steps * given.batch_size
    print(f"{samples / clock:10.0f}  samples per second ({samples} samples in batches of {given.batch_size})")
    print(f"{samples / cpu:10.0f}  samples per CPU second")


if __name__ == "__main__":
    run(main)
