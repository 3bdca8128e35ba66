"""Make 2D training data from images with gold trees (SWC files or label masks).

    python prepare_datasets_2D.py --dataset DRIVE --data_root $DATASETS --out data/DRIVE
    python prepare_datasets_2D.py --data_root my_images --scale 1.5 --out data/mine --preview

Each image becomes a folder in <out>/training_datasets. It holds the image and its tree in work pixels, from which
online sampling draws, and, with --n_samples, stacks of patches with their labels. Options may also be given in a YAML
file (--config); those on the command line override it.
"""

from __future__ import annotations

from configs.config_2d import PREPARE_PRESETS
from configs.options import PrepareOptions
from tools.cli import parse, run
from tools.data.prepare import prepare_and_report
from tools.dataset_2d import PREPARE_2D


def main(argv: list[str] | None = None) -> None:
    """Prepare a dataset and report what was made."""
    options = parse(PrepareOptions, argv, description=__doc__, presets=PREPARE_PRESETS)
    prepare_and_report(options, PREPARE_2D, PREPARE_PRESETS)


if __name__ == "__main__":
    run(main)
