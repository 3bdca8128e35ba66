"""Make 2D training data from images and gold SWCs (or label masks).

    python prepare_datasets_2D.py --dataset DRIVE --data_root ../shared/data --out data/DRIVE
    python prepare_datasets_2D.py --data_root my_images --scale 1.5 --out data/mine --preview

Each image becomes a folder in <out>/training_datasets: the image and its tree in work pixels (what online sampling
draws from) and, unless --n_samples is 0, stacks of patches with their labels. Options may also stand in a YAML file
(--config); those on the command line weigh more.
"""

from __future__ import annotations

import sys
import time

from configs.config_2d import PREPARE_PRESETS
from configs.options import PrepareOptions
from tools.cli import parse, run
from tools.data.prepare import prepare, summary
from tools.dataset_2d import PREPARE_2D


def main(argv: list[str] | None = None) -> None:
    """Parse, prepare, and say in a few lines what was made."""
    options = parse(PrepareOptions, argv, description=__doc__, presets=PREPARE_PRESETS)
    started = time.perf_counter()
    prepared = prepare(options, PREPARE_2D, known=PREPARE_PRESETS, progress=sys.stderr.isatty())
    print(summary(prepared, options, time.perf_counter() - started))


if __name__ == "__main__":
    run(main)
