"""Unit and origin of the coordinates of SWC files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lib.errors import UserError
from lib.swclib import SwcForest, SwcSpace, read_swc, swc_space, tidied, write_swc

TREE = SwcForest.from_positions([[1.0, 2.0, 3.0], [1.0, 2.0, 7.0]], [-1, 0], radius=2.0)
SIZE = (2.0, 0.5, 0.25)


def written(path: Path, space: SwcSpace, ndim: int = 3) -> Path:
    write_swc(path, space.coordinates(TREE), comment=space.head(ndim))
    return path


@pytest.mark.parametrize("space", [
    SwcSpace("corner", "um", SIZE),
    SwcSpace("centre", "um", SIZE),
    SwcSpace("corner", "voxel", SIZE),
    SwcSpace("centre", "voxel"),
    SwcSpace(None, "voxel"),
])  # fmt: skip
def test_what_is_written_is_read_back(tmp_path, space):
    path = written(tmp_path / "a.swc", space)
    assert swc_space(path) == space
    np.testing.assert_allclose(read_swc(path, origin="centre").xyz, TREE.xyz)
    np.testing.assert_allclose(read_swc(path, origin="centre").radius, 2.0)


def test_micrometres_by_hand(tmp_path):
    tree = read_swc(written(tmp_path / "a.swc", SwcSpace("corner", "um", SIZE)))
    assert tree.xyz.tolist() == [[3.5 * 0.25, 2.5 * 0.5, 2.0], [7.5 * 0.25, 2.5 * 0.5, 2.0]]
    assert tree.radius.tolist() == [0.5, 0.5]


def test_images_have_two_sizes(tmp_path):
    space = SwcSpace("centre", "um", (0.5, 0.25))
    path = written(tmp_path / "a.swc", space, ndim=2)
    assert swc_space(path) == space
    assert read_swc(path).xyz[0].tolist() == [0.75, 1.0, 1.0]


def test_the_head_says_it_in_words_and_for_navis():
    words, meta = SwcSpace("corner", "um", SIZE).head(3)
    expected = (
        "units: micrometres (x, y, z), radius too; 0 is the corner of the first voxel; a voxel is 0.25 x 0.5 x 2 um"
    )
    assert words == expected
    assert json.loads(meta.removeprefix("Meta: "))["units"] == "1 micrometer"
    voxels = json.loads(SwcSpace("corner", "voxel", SIZE).head(3)[1].removeprefix("Meta: "))
    assert voxels["units"] == ["0.25 micrometer", "0.5 micrometer", "2 micrometer"]
    assert "units" not in json.loads(SwcSpace("corner", "voxel").head(3)[1].removeprefix("Meta: "))


@pytest.mark.parametrize(("line", "units"), [
    ('# Meta: {"units": "1 micrometer"}', "um"),
    ('# Meta: {"units": "micron", "origin": 7}', "um"),
    ('# meta: {"units": "8 nanometer"}', None),
    ("# Meta: {not JSON}", None),
    ('# Meta: {"voxel_size_um": [1, "x", 2], "coordinates": "furlong"}', None),
    ('# Meta: {"voxel_size_um": "1 0 2"}', None),
    ('# Meta: {"voxel_size_um": "1 nan 2"}', None),
    ("# scale 1 1 1", None),
])  # fmt: skip
def test_heads_of_other_programs(tmp_path, line, units):
    path = tmp_path / "a.swc"
    path.write_text(f"{line}\n1 2 0 0 0 1 -1\n2 2 1 0 0 1 1\n")
    assert swc_space(path) == SwcSpace(None, units)


def test_micrometres_of_voxels_of_unknown_size_are_refused(tmp_path):
    path = tmp_path / "a.swc"
    path.write_text('# Meta: {"units": "1 micrometer"}\n1 2 0 0 0 1 -1\n')
    assert len(read_swc(path)) == 1
    with pytest.raises(UserError, match="in micrometres, and the size of a voxel is unknown; convert it to voxels"):
        read_swc(path, origin="centre")


def test_nodes_on_their_parents_and_trees_of_one_node_are_left_out():
    positions = [[0, 0], [0, 0], [0, 0.00001], [0, 5], [9, 9], [3, 3], [3, 3]]
    forest = SwcForest.from_positions(positions, [-1, 0, 1, 2, -1, -1, 5])
    tidy = tidied(forest)
    assert tidy.positions(2).tolist() == [[0, 0], [0, 5]] and tidy.parent.tolist() == [-1, 0]
    assert len(tidied(SwcForest.empty())) == 0


def test_both_branches_of_a_fork_that_lies_on_its_parent_stay():
    forest = SwcForest.from_positions([[0, 0], [0, 4], [0, 4], [4, 8], [-4, 8]], [-1, 0, 1, 2, 2])
    assert tidied(forest).parent.tolist() == [-1, 0, 1, 1]
    assert tidied(forest).length == pytest.approx(forest.length)
