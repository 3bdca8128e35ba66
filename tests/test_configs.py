"""The YAML files in configs are valid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs import config_2d, config_3d
from configs.checks import check_prepare_options, check_train_options
from configs.config_2d import TRAIN_PRESETS
from configs.options import PrepareOptions, PrepareOptions3D, TrainOptions, TrainOptions3D
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


@pytest.mark.parametrize("preset", [*config_2d.DATASETS, *config_3d.DATASETS], ids=lambda preset: preset.name)
def test_presets_are_valid(preset):
    """Each value is what the command line would make of it, and passes the checks."""
    volume = preset.ndim == 3
    for kind, check, defaults in (
        (PrepareOptions3D if volume else PrepareOptions, check_prepare_options, preset.prepare),
        (TrainOptions3D if volume else TrainOptions, check_train_options, preset.train),
    ):
        words = [f"--{name}={v if isinstance(v, str) else json.dumps(v)}" for name, v in defaults.items()]
        options = parse(kind, words, description="")
        assert {name: getattr(options, name) for name in defaults} == dict(defaults)
        check(options, preset.ndim)


def test_drive_config_holds_out_its_images():
    path = next(path for path in CONFIGS if path.stem == "DRIVE_cpu")
    options = parse(TrainOptions, ["--config", str(path)], description="", presets=TRAIN_PRESETS)
    assert options.hold_out == ["38", "39", "40"] and options.tile_size == (192, 192) and options.width == 16
