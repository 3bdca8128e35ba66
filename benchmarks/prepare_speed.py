"""Measure how many samples per second the prepare script makes on one core, and the time for the paper's DRIVE patches.

    python -m benchmarks.prepare_speed --data_root $DATASETS --out /tmp/prepare_speed

The first part draws and writes the samples of one image in this process and counts CPU seconds, so that other work on
the machine does not matter. With ``--whole``, a second part prepares all 150 000 patches on all cores and counts clock
seconds.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from configs.config_2d import PREPARE_PRESETS
from configs.options import PrepareOptions
from lib.parallel import cores
from tools.cli import run
from tools.data.folders import find_cases
from tools.data.patch_stacks import draw_samples, write_stacks
from tools.data.prepare import build_training_image, prepare
from tools.dataset_2d import PREPARE_2D


def per_core(options: PrepareOptions, count: int) -> dict[str, float]:
    """CPU seconds to load a training image, and samples per CPU second, drawn only and drawn and written, by label."""
    torch.set_num_threads(1)
    started = time.process_time()
    case = find_cases(options.data_root / options.dataset / options.split)[0]
    image, _ = build_training_image(case, options, PREPARE_2D)
    loaded = time.process_time()
    for _ in range(count // 250):
        draw_samples(image, np.random.default_rng(0), 250, options.patch_size)
    drawn = time.process_time()
    write_stacks(image, options.out, np.random.default_rng(0), count=count, patch_shape=options.patch_size)
    written = time.process_time()
    return {
        "CPU seconds to load a training image": loaded - started,
        "samples per CPU second, drawn": count // 250 * 250 / (drawn - loaded),
        "samples per CPU second, drawn and written": count / (written - drawn),
    }


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, required=True, help="folder that holds DRIVE/training")
    parser.add_argument(
        "--out", type=Path, default=Path("out/prepare_speed"), help="a new folder; it is deleted at the end"
    )
    parser.add_argument("--count", type=int, default=7500, help="samples of the first part (an image's share)")
    parser.add_argument("--whole", action="store_true", help="also prepare all 150 000, 4.9 GB")
    given = parser.parse_args(argv)
    options = PrepareOptions("DRIVE", given.data_root, given.out, n_samples=150_000, **PREPARE_PRESETS["DRIVE"])
    # An existing folder is refused here, so that only our own is deleted below.
    given.out.mkdir(parents=True)
    try:
        for name, value in per_core(options, given.count).items():
            print(f"{value:10.2f}  {name}")
        if given.whole:
            started = time.perf_counter()
            prepare(replace(options, out=given.out / "whole"), PREPARE_2D)
            seconds = time.perf_counter() - started
            print(f"{seconds:10.2f}  seconds for all {options.n_samples} samples on {cores()} cores")
    finally:
        shutil.rmtree(given.out, ignore_errors=True)


if __name__ == "__main__":
    run(main)
