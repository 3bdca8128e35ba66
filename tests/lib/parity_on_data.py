"""SSD-F1 and L-F1 equal PyNeval's on the gold trees of ../shared/data; slow, so only ``make oracle`` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.swclib import read_swc
from tests.lib.test_swc_parity import CHANGES, ORACLE, check_equal

DATA = Path(__file__).parents[3] / "shared" / "data"
GOLD_FILES = sorted(DATA.glob("*/test/swc/*.swc"))
NAMES = [name for name in CHANGES if name != "branches added"]

pytestmark = pytest.mark.skipif(
    not (GOLD_FILES and ORACLE.exists()), reason="no data, or PyNeval is not installed in .venv-oracle"
)


@pytest.mark.parametrize("number", range(len(GOLD_FILES)), ids=[f"{path.parts[-4]} {path.stem}" for path in GOLD_FILES])
def test_equal_to_pyneval_on_gold_trees(tmp_path, number):
    """The changes alternate over the files; with 22 gold trees each is used at least twice."""
    check_equal(tmp_path, GOLD_FILES[number], CHANGES[NAMES[number % len(NAMES)]](read_swc(GOLD_FILES[number])))
