"""Fixtures of the traces of images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lib.klib.spaces import Spaces
from tests.tools.tracing.oracle import OraclePredictor
from tests.tools.tracing.tubes import SCALE, SHAPE, TUBES, pixels, save, write
from tools.tracing import job as job_module


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """The weight file of an untrained network."""
    torch.manual_seed(0)
    return save(tmp_path_factory.mktemp("weights") / "tiny.safetensors", ndim=2)


@pytest.fixture
def oracle(monkeypatch):
    """Make every job see the two tubes."""
    spaces = Spaces.scaled(SHAPE, SCALE)

    def build(net, patch_shape, **options) -> OraclePredictor:
        return OraclePredictor(spaces.to_work(TUBES).tolist(), spaces.work_shape, (64, 64))

    monkeypatch.setattr(job_module, "Predictor", build)


@pytest.fixture
def photo(tmp_path) -> Path:
    """An RGB image with the tubes in it."""
    return write(tmp_path / "photos" / "eye.png", pixels())
