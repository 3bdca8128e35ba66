"""A tiny prepared dataset for all tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.training.training_runs import write_dataset


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared folder; no test changes it."""
    return write_dataset(tmp_path_factory.mktemp("toy"))
