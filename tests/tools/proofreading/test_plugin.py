"""The reader and the writer of the plugin, without napari."""

from __future__ import annotations

import numpy as np
import pytest

from lib.errors import UserError
from lib.swclib import SwcForest, SwcSpace, read_swc, swc_space, write_swc
from tools.proofreading.plugin import get_reader, read_trees, write_trees

FOREST = SwcForest.from_positions(
    [(5, 5), (5, 9), (9, 9), (1, 9), (20, 20), (20, 24)], [-1, 0, 1, 1, -1, 4], radius=[3, 2, 1, 1, 2, 2], types=2
)


@pytest.mark.parametrize("space", [SwcSpace("centre", "voxel"), SwcSpace("corner", "um", (0.5, 0.25)), SwcSpace()])
def test_a_file_that_is_opened_and_saved_has_the_same_trees(tmp_path, space):
    path, again = tmp_path / "a.swc", tmp_path / "b.swc"
    write_swc(path, space.coordinates(FOREST), comment=space.head(2) if space.units else ())
    ((data, settings, kind),) = read_trees(str(path))
    assert kind == "vectors" and data[0].tolist() == [[5, 5], [0, 4]]
    assert write_trees(str(again), data, settings) == [str(again)]
    nodes = [[text for text in file.read_text().splitlines() if text[0] != "#"] for file in (path, again)]
    assert nodes[0] == nodes[1]
    assert swc_space(again).origin == (space.origin or "centre") and swc_space(again).voxel_size == space.voxel_size


def test_a_volume_has_three_axes(tmp_path):
    forest = SwcForest.from_positions([(1, 2, 3), (4, 5, 6)], [-1, 0])
    write_swc(tmp_path / "a.swc", forest)
    ((data, _, _),) = read_trees([str(tmp_path / "a.swc")])
    assert data.tolist() == [[[1, 2, 3], [3, 3, 3]]]


def test_other_vectors_are_trees_where_their_ends_meet(tmp_path):
    data = np.array([[[0, 0], [0, 5]], [[0, 5], [5, 0]], [[0, 5], [-5, 0]]], float)
    write_trees(str(tmp_path / "a.swc"), data, {})
    forest = read_swc(tmp_path / "a.swc")
    assert len(forest) == 4 and len(forest.roots) == 1 and forest.length == 15
    data = np.array([[[0, 0], [0, 5]], [[0, 5], [5, 0]], [[5, 5], [-5, -5]]], float)
    with pytest.raises(UserError, match="cycle"):
        write_trees(str(tmp_path / "b.swc"), data, {})
    data[2] = [[9, 9], [-4, -4]]
    with pytest.raises(UserError, match="has a parent already"):
        write_trees(str(tmp_path / "b.swc"), data, {})


def test_only_swc_files_are_read():
    assert get_reader("a.SWC") is read_trees and get_reader(["a.swc", "b.tif"]) is None
