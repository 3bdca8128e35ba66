"""The window on a volume, shown in 3D, with real clicks and keys."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from lib.swclib import read_swc
from tests.tools.proofreading.scenes import state
from tests.window.conftest import at_first_of_two, end_branch, queue_at
from tools.proofreading.layers import CLOSE, SIZES


def test_the_view_turns_so_that_the_branch_lies_flat(neuron, opened):
    forest = read_swc(neuron / "neuron.swc")
    rows = end_branch(forest, (30, 200))
    screen = opened(neuron, "neuron", queue_at(neuron / "neuron.swc", [("real?", rows[len(rows) // 2])]))
    screen.press("N")
    doubt, camera = screen.session.doubt, screen.window.viewer.scene.camera
    assert np.allclose(camera.center, doubt.position, atol=0.5)
    places = forest.positions(3)[rows]
    across = np.ptp(places @ np.array(camera.view_direction))
    along = np.ptp(places @ np.cross(camera.up_direction, camera.view_direction))
    size = np.linalg.svd(places - places.mean(axis=0), compute_uv=False)
    assert across < 0.35 * along and size[2] < size[0] / 4
    assert screen.window.viewer.dims.ndisplay == 3


def test_keys_mean_what_is_under_the_mouse_after_a_flight(neuron, opened):
    """The view also turns; lines and marks have their sizes when it arrives."""
    forest = read_swc(neuron / "neuron.swc")
    screen, (_, second) = at_first_of_two(opened, neuron / "neuron.swc", (20, 60), (60, 200))
    screen.press("A")
    unit = 1 / screen.window.viewer.scene.camera.zoom
    assert np.allclose(screen.window.layers.place.size, SIZES["place"] * unit, rtol=CLOSE)
    assert np.isclose(screen.window.layers.edges.edge_width, SIZES["edges"] * unit, rtol=CLOSE)
    screen.press("D")
    ids = set(forest.ids.tolist()) - set(screen.session.forest.ids.tolist())
    assert ids == set(forest.ids[second[1:]].tolist())


def test_a_branch_is_deleted_and_drawn_again_in_3d(neuron, opened):
    forest = read_swc(neuron / "neuron.swc", origin="centre")
    rows = end_branch(forest, (20, 200))
    screen = opened(neuron, "neuron", queue_at(neuron / "neuron.swc", [("real?", rows[len(rows) // 2])]))
    before = state(screen.session)
    places = forest.positions(3)[rows]
    screen.press("N")
    screen.hover(places[len(places) // 2])
    screen.press("Del")
    assert len(screen.session.forest) == len(forest) - len(rows) + 1
    assert screen.session.answers == {1: "corrected"}
    screen.click(places[0])
    assert screen.window.marked == [forest.ids[rows[0]]]
    screen.hover(places[-1])
    screen.press("W")
    drawn = screen.session.forest
    new = drawn.positions(3)[drawn.ids > forest.ids.max()]
    distance, _ = KDTree(places).query(new)
    assert len(new) > 3 and np.median(distance) < 1.5 and distance.max() < 4
    screen.press("U")
    screen.press("U")
    assert state(screen.session) == before


def test_a_node_is_moved_at_its_own_depth(neuron, opened):
    screen = opened(neuron, "neuron")
    forest = screen.session.forest
    row = end_branch(forest, (20, 200))[-1]
    place = forest.positions(3)[row]
    target = place + np.array([0, 2, 1])
    screen.look_at(place, zoom=12.0)
    screen.hover(place)
    screen.press("M")
    assert screen.window.moving == forest.ids[row]
    screen.click(target)
    after = screen.session.forest
    moved = after.positions(3)[after.ids == forest.ids[row]][0]
    assert np.allclose(moved, target, atol=0.2)
