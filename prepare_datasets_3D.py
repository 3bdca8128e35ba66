"""Make 3D training data from volumes with gold trees (SWC files or label masks).

    python prepare_datasets_3D.py --dataset OP --data_root $DATASETS --out data/OP
    python prepare_datasets_3D.py --data_root my_volumes --spacing 1 0.35 0.35 --out data/mine --preview

Each volume becomes a folder in <out>/training_datasets. It holds the volume and its tree in work voxels, from which
online sampling draws, and, with --n_samples, stacks of patches with their labels. Options may also be given in a YAML
file (--config); those on the command line override it.
"""

from __future__ import annotations

from configs.config_3d import PREPARE_PRESETS
from configs.options import PrepareOptions3D
from tools.cli import parse, run
from tools.data.prepare import prepare_and_report
from tools.dataset_3d import PREPARE_3D


def main(argv: list[str] | None = None) -> None:
    """Prepare a dataset and report what was made."""
    options = parse(PrepareOptions3D, argv, description=__doc__, presets=PREPARE_PRESETS)
    prepare_and_report(options, PREPARE_3D, PREPARE_PRESETS)


if __name__ == "__main__":
    run(main)
