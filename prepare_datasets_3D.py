"""Make 3D training data from volumes and gold SWCs (or label masks).

    python prepare_datasets_3D.py --dataset OP --data_root ../shared/data --out data/OP
    python prepare_datasets_3D.py --data_root my_volumes --spacing 1 0.35 0.35 --out data/mine --preview

Each volume becomes a folder in <out>/training_datasets: the volume and its tree in work voxels (what online sampling
draws from) and, unless --n_samples is 0, stacks of patches with their labels. Options may also stand in a YAML file
(--config); those on the command line weigh more.
"""

from __future__ import annotations

import sys
import time

from configs.config_3d import PREPARE_PRESETS
from configs.options import PrepareOptions3D
from tools.cli import parse, run
from tools.data.prepare import prepare, summary
from tools.dataset_3d import PREPARE_3D


def main(argv: list[str] | None = None) -> None:
    """Parse, prepare, and say in a few lines what was made."""
    options = parse(PrepareOptions3D, argv, description=__doc__, presets=PREPARE_PRESETS)
    started = time.perf_counter()
    prepared = prepare(options, PREPARE_3D, known=PREPARE_PRESETS, progress=sys.stderr.isatty())
    print(summary(prepared, options, time.perf_counter() - started))


if __name__ == "__main__":
    run(main)
