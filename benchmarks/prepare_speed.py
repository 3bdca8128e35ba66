"""How many samples a second does prepare make on one core, and how long do the paper's 150 000 DRIVE patches take?

    python -m benchmarks.prepare_speed --data_root ../shared/data --out /tmp/prepare_speed

The first part draws and writes the samples of one image in this process and counts CPU seconds, so that other work on
the machine does not matter. With ``--whole`` the second part runs the script's own job on all cores, by the clock.
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
from tools.data.folders import find_cases
from tools.data.patch_stacks import draw_samples, write_stacks
from tools.data.prepare import build_training_image, prepare
from tools.dataset_2d import PREPARE_2D


def per_core(options: PrepareOptions, count: int) -> dict[str, float]:
    """Samples per CPU second, drawn only, and drawn and written; and CPU seconds to make the training_image."""
    torch.set_num_threads(1)
    started = time.process_time()
    training_image, _ = build_training_image(
        find_cases(options.data_root / options.dataset / options.split)[0], options, PREPARE_2D
    )
    made = time.process_time()
    for _ in range(count // 250):
        draw_samples(training_image, np.random.default_rng(0), 250, options.patch_size)
    drawn = time.process_time()
    write_stacks(training_image, options.out, np.random.default_rng(0), count=count, patch_shape=options.patch_size)
    written = time.process_time()
    return {
        "CPU seconds to make a training_image": made - started,
        "samples per CPU second, drawn": count // 250 * 250 / (drawn - made),
        "samples per CPU second, drawn and written": count / (written - drawn),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, required=True, help="folder that holds DRIVE/training")
    parser.add_argument("--out", type=Path, default=Path("out/prepare_speed"), help="a new folder; it is deleted after")
    parser.add_argument("--count", type=int, default=7500, help="samples of the first part (an image's share)")
    parser.add_argument("--whole", action="store_true", help="also prepare all 150 000, 4.9 GB")
    given = parser.parse_args()
    options = PrepareOptions(dataset="DRIVE", data_root=given.data_root, out=given.out, **PREPARE_PRESETS["DRIVE"])
    # An existing folder is refused here, so that none but ours is deleted below.
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
    main()
