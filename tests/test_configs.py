"""The YAML files in configs are understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.config_2d import TRAIN_PRESETS
from configs.options import TrainOptions
from tools.cli import parse
from tools.train_run import check_options

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_yaml_files_are_valid(path):
    options = parse(TrainOptions, ["--config", str(path)], description="", presets=TRAIN_PRESETS)
    check_options(options, ndim=2)
    assert options.dataset == path.stem.split("_")[0]


def test_the_shipped_weights_were_trained_with_their_images_held_out():
    path = next(path for path in CONFIGS if path.stem == "DRIVE_cpu")
    options = parse(TrainOptions, ["--config", str(path)], description="", presets=TRAIN_PRESETS)
    assert options.hold_out == ["38", "39", "40"] and options.tile_size == (192, 192) and options.width == 16
