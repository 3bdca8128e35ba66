"""The SWC files of a trace that holds bodies of cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.klib.spaces import Spaces
from lib.swclib import SwcForest, concatenate, read_swc
from lib.swclib.forest import SOMA_TYPE
from tools.tracing.trace import TUBE_TYPE, Trace

SHAPE = (20, 40, 60)


def cell(y: float) -> SwcForest:
    """A body and two neurites."""
    places = [[10, y, 30], [10, y, 40], [10, y, 50], [10, y, 20], [10, y, 10]]
    types = [SOMA_TYPE, 0, 0, 0, 0]
    return SwcForest.from_positions(places, [-1, 0, 1, 0, 3], [8.0, 1, 1, 1, 1], types)


def trace_of(*trees: SwcForest) -> Trace:
    """A trace whose map holds the neurites alone."""
    forest = concatenate(trees)
    centerline = np.zeros(SHAPE, np.float32)
    z, y, x = forest.positions(3)[forest.types != SOMA_TYPE].astype(int).T
    centerline[z, y, x] = 0.6
    return Trace(forest, centerline, Spaces.scaled(SHAPE, 1.0), np.zeros((0, 2), int))


def test_the_body_of_a_cell_is_a_root_of_type_1(tmp_path: Path) -> None:
    trace = trace_of(cell(10))
    trace.write(tmp_path / "one.swc")
    forest = read_swc(tmp_path / "one.swc")
    assert forest.types.tolist() == [SOMA_TYPE, *[TUBE_TYPE] * 4] and forest.parent[0] == -1
    assert trace.somata() == [{"at": [30.0, 10.0, 10.0], "radius": 8.0}]
    np.testing.assert_allclose(trace.swc_probability, [1, *[0.6] * 4], rtol=1e-6)


def test_several_cells_have_no_type_in_one_file_but_in_a_file_each(tmp_path: Path) -> None:
    trace = trace_of(cell(10), cell(30))
    trace.write(tmp_path / "both.swc")
    assert set(read_swc(tmp_path / "both.swc").types.tolist()) == {TUBE_TYPE}
    assert [soma["at"] for soma in trace.somata()] == [[30.0, 10.0, 10.0], [30.0, 30.0, 10.0]]
    trace.write_each_tree(tmp_path)
    for name in ("1.swc", "2.swc"):
        assert read_swc(tmp_path / name).types.tolist() == [SOMA_TYPE, *[TUBE_TYPE] * 4]


def test_the_width_of_a_branch_is_not_that_of_the_body() -> None:
    assert trace_of(cell(10)).branches.width.max() == 2.0
