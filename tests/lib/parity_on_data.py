"""SSD-F1 and L-F1 against PyNeval on the golds of ../shared/data: minutes, so only ``make oracle`` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.swclib import read_swc
from tests.lib.test_swc_parity import CHANGES, ORACLE, check_equal

DATA = Path(__file__).parents[3] / "shared" / "data"
GOLDS = sorted(DATA.glob("*/test/swc/*.swc"))
NAMES = [name for name in CHANGES if name != "branches added"]

pytestmark = pytest.mark.skipif(not (GOLDS and ORACLE.exists()), reason="no data, or no PyNeval in .venv-oracle")


@pytest.mark.parametrize("number", range(len(GOLDS)), ids=[f"{path.parts[-4]} {path.stem}" for path in GOLDS])
def test_golds_of_the_test_images(tmp_path, number):
    """Each gold is changed in another way; 22 golds see every change at least twice."""
    check_equal(tmp_path, GOLDS[number], CHANGES[NAMES[number % len(NAMES)]](read_swc(GOLDS[number])))
