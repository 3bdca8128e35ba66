"""The documents say what the code does."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from configs.options import (
    CellOptions,
    PrepareOptions,
    PrepareOptions3D,
    TraceOptions,
    TraceOptions3D,
    TrainOptions,
    TrainOptions3D,
)

ROOT = Path(__file__).resolve().parents[1]


ALL_OPTIONS = [
    PrepareOptions,
    PrepareOptions3D,
    TrainOptions,
    TrainOptions3D,
    TraceOptions,
    TraceOptions3D,
    CellOptions,
]


@pytest.mark.parametrize("options", ALL_OPTIONS)
def test_every_option_is_explained(options):
    text = (ROOT / "docs" / "parameters.md").read_text()
    assert not [field.name for field in fields(options) if f"`{field.name}`" not in text]
