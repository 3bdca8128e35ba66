"""Options completed from the weight file."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.checkpoint import WeightsHeader
from tests.tools.tracing.tubes import options
from tools.tracing.settings import trace_settings, with_defaults


def test_missing_options_come_from_the_weight_file():
    header = WeightsHeader(2, 3, 2, "X", 1.5, "centre", (32, 32), 10.0, 3.0, "patch",
                           thresholds={"seed": 0.7, "stop": 0.3, "spur": 12.0, "gap": 7.0})  # fmt: skip
    given = options(Path("w"), Path("i"), spur=5.0, seed_threshold=0.9)
    full = with_defaults(given, header)
    assert (full.scale, full.swc_origin, full.r, full.features) == (1.5, "centre", 3.0, "patch")
    assert (full.seed_threshold, full.stop_threshold, full.spur, full.gap) == (0.9, 0.3, 5.0, 7.0)
    settings = trace_settings(full)
    assert (settings.search.r, settings.seed_threshold, settings.stop_threshold) == (3.0, 0.9, 0.3)


@pytest.mark.parametrize(
    ("thresholds", "given", "becomes"),
    [({}, None, "joined"), ({"apart": 1.0}, None, "split"), ({"apart": 1.0}, "joined", "joined")],
)
def test_crossings_come_from_the_weight_file_unless_given(thresholds, given, becomes):
    header = WeightsHeader(2, 3, 2, "X", 1.5, "centre", (32, 32), 10.0, 3.0, "patch", thresholds=thresholds)
    assert with_defaults(options(Path("w"), Path("i"), crossings=given), header).crossings == becomes
