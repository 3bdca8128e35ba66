"""The documents say what the code does."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from configs.options import PrepareOptions, TraceOptions, TrainOptions

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("options", [PrepareOptions, TrainOptions, TraceOptions])
def test_every_option_is_explained(options):
    text = (ROOT / "docs" / "parameters.md").read_text()
    assert not [field.name for field in fields(options) if f"`{field.name}`" not in text]
