"""The YAML files in configs are valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs import config_3d
from configs.checks import check_train_options
from configs.config_2d import TRAIN_PRESETS
from configs.options import TrainOptions, TrainOptions3D
from tools.cli import parse

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_yaml_files_are_valid(path):
    dataset = path.stem.split("_")[0]
    ndim = 3 if dataset in config_3d.TRAIN_PRESETS else 2
    kind, presets = (TrainOptions3D, config_3d.TRAIN_PRESETS) if ndim == 3 else (TrainOptions, TRAIN_PRESETS)
    options = parse(kind, ["--config", str(path)], description="", presets=presets)
    check_train_options(options, ndim=ndim)
    assert options.dataset == dataset


def test_drive_config_holds_out_its_images():
    path = next(path for path in CONFIGS if path.stem == "DRIVE_cpu")
    options = parse(TrainOptions, ["--config", str(path)], description="", presets=TRAIN_PRESETS)
    assert options.hold_out == ["38", "39", "40"] and options.tile_size == (192, 192) and options.width == 16
