"""The window on a real retina, with real clicks and keys."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from scipy.spatial import KDTree

from lib.swclib import read_swc
from tests.tools.proofreading.scenes import reopen, state
from tests.window.conftest import at_first_of_two, end_branch, queue_at


def at(screen, node: int) -> np.ndarray:
    """Position of a node."""
    forest = screen.session.forest
    return forest.positions(screen.session.ndim)[np.flatnonzero(forest.ids == node)[0]]


def test_the_queue_by_keys(retina, opened):
    forest = read_swc(retina / "eye.swc")
    rows = end_branch(forest, (60, 200))
    review = queue_at(
        retina / "eye.swc", [("ends here?", rows[-1]), ("real?", rows[len(rows) // 2]), ("joined here?", 0)]
    )
    screen = opened(retina, "eye", review)
    screen.press("N")
    doubt = screen.session.doubt
    assert doubt is not None and doubt.rank == 1 and screen.window.marked == [doubt.node]
    assert screen.window.viewer.scene.camera.center[-2:] == pytest.approx(doubt.position, abs=0.5)
    assert "end here" in screen.window.panel.question.text()
    screen.press("A")
    assert screen.session.answers == {1: "accepted"} and screen.session.doubt.rank == 2
    screen.press("P")
    assert screen.session.doubt.rank == 1 and screen.window.panel.progress.value() == 1
    screen.press("N")
    screen.press("U")
    assert screen.session.answers == {} and screen.session.doubt.rank == 1 and screen.window.marked == [doubt.node]
    assert screen.window.viewer.scene.camera.center[-2:] == pytest.approx(doubt.position, abs=0.5)
    assert "undone: accept at doubt 1" in screen.window.panel.message.text()
    screen.press("Ctrl+Y")
    assert screen.session.answers == {1: "accepted"}
    screen = opened(retina, "eye", review)
    assert screen.session.doubt.rank == 1 and screen.session.answers == {1: "accepted"}
    screen.press("N")
    screen.press("N")
    assert screen.session.doubt.rank == 3


def test_keys_mean_what_is_under_the_mouse_after_a_flight(retina, opened):
    """The mouse rests in the middle of the canvas while the view flies on: there is the next doubt then."""
    forest = read_swc(retina / "eye.swc")
    screen, (_, second) = at_first_of_two(opened, retina / "eye.swc", (60, 100), (100, 200))
    screen.window.accept()
    screen.window._safely(screen.window.delete)
    assert "still moving" in screen.window.panel.message.text()
    screen.wait()
    assert len(screen.session.forest) == len(forest)
    screen.press("D")
    ids = set(forest.ids.tolist()) - set(screen.session.forest.ids.tolist())
    assert ids == set(forest.ids[second[1:]].tolist()) and screen.session.answers == {1: "accepted", 2: "corrected"}
    screen.press("U")
    screen.leave()
    screen.press("D")
    assert "the mouse is not over the image" in screen.window.panel.message.text()
    assert len(screen.session.forest) == len(forest)


def test_the_window_is_large_shows_all_and_says_what_is_assumed(retina, opened, tmp_path):
    screen = opened(retina, "eye")
    assert not screen.window.panel.message.text()
    screen.session.close()
    (tmp_path / "eye_centerline.tif").unlink()
    from tools.proofreading.window import Window  # needs napari

    window = Window(reopen(tmp_path))
    assert "eye_centerline.tif: is not there" in window.panel.message.text()
    frame, canvas = window.viewer.window._qt_window, window.canvas
    assert frame.width() >= 1400 and frame.height() >= 900
    shown = np.array([canvas.height(), canvas.width()]) / window.viewer.scene.camera.zoom
    size = window.session.picture.shape
    assert (shown >= size).all() and (shown < 1.2 * np.array(size)).any()
    assert window.viewer.scene.camera.center[-2:] == pytest.approx((np.array(size) - 1) / 2, abs=1)
    window.viewer.close()


def test_a_branch_is_deleted_and_drawn_again_by_the_tracer(retina, opened):
    screen = opened(retina, "eye")
    before, forest = state(screen.session), screen.session.forest
    rows = end_branch(forest, (80, 140))
    places = forest.positions(2)[rows]
    middle = places[len(places) // 2]
    screen.look_at(middle)
    screen.hover(middle)
    screen.press("D")
    assert len(screen.session.forest) == len(forest) - len(rows) + 1
    screen.click(places[0])
    assert screen.window.marked == [forest.ids[rows[0]]]
    screen.hover(places[-1])
    screen.press("W")
    drawn = screen.session.forest
    new = drawn.positions(2)[drawn.ids > forest.ids.max()]
    distance, _ = KDTree(places).query(new)
    assert len(new) > 8 and distance.max() < 4 and np.median(distance) < 1.5
    assert len(drawn.roots) == len(forest.roots)
    screen.press("Ctrl+Z")
    screen.press("U")
    assert state(screen.session) == before and "undone: delete" in screen.window.viewer.status
    screen.press("Ctrl+Shift+Z")
    screen.press("Ctrl+Y")
    assert len(screen.session.forest) == len(drawn)


def test_cut_and_join_with_two_clicks(retina, opened):
    screen = opened(retina, "eye")
    forest = screen.session.forest
    rows = end_branch(forest, (60, 140))
    a, b = rows[len(rows) // 2 : len(rows) // 2 + 2]
    places = forest.positions(2)
    screen.look_at(places[a], zoom=20.0)
    screen.hover(places[[a, b]].mean(axis=0))
    screen.press("X")
    assert len(screen.session.forest.roots) == len(forest.roots) + 1
    screen.click(places[a])
    screen.click(places[b])
    assert sorted(screen.window.marked) == sorted(forest.ids[[a, b]])
    screen.press("J")
    assert len(screen.session.forest.roots) == len(forest.roots) and screen.window.marked == []
    assert screen.session.forest.length == pytest.approx(forest.length)


def test_a_node_is_moved_and_the_trees_are_saved(retina, opened, tmp_path):
    screen = opened(retina, "eye")
    forest = screen.session.forest
    row = end_branch(forest, (60, 140))[-1]
    place, node = forest.positions(2)[row], int(forest.ids[row])
    target = place + np.array([3, 4])
    screen.look_at(place, zoom=10.0)
    screen.hover(place)
    screen.press("M")
    assert screen.window.moving == node
    screen.hover(target)
    assert screen.window.layers.marks.data[0] == pytest.approx(target, abs=0.2)
    screen.click(target)
    assert at(screen, node) == pytest.approx(target, abs=0.2) and screen.window.moving is None
    screen.press("Ctrl+S")
    saved = read_swc(tmp_path / "eye_corrected.swc")
    assert len(saved) == len(forest) and "saved as eye_corrected.swc" in screen.window.panel.message.text()
    screen.session.close()
    assert state(reopen(tmp_path)) == state(screen.session)


def test_what_is_refused_is_said(retina, opened):
    screen = opened(retina, "eye")
    corner = np.array([5.0, 5.0])
    screen.look_at(corner)
    screen.hover(corner)
    for key, words in [
        ("X", "no edge is under the cursor"),
        ("D", "no branch is under"),
        ("M", "no node is under"),
        ("J", "mark two ends"),
        ("W", "mark the end"),
        ("U", "nothing to undo"),
        ("A", "no doubt is shown"),
        ("P", "no doubt before"),
    ]:
        screen.press(key)
        assert words in screen.window.panel.message.text()
    assert not screen.session.undo()


def test_colours_and_hiding(retina, opened):
    screen = opened(retina, "eye")
    screen.session.confidence = {int(node): 0.5 for node in screen.session.forest.ids}
    by_tree = np.array(screen.window.layers.edges.edge_color)
    screen.press("C")
    assert len(np.unique(screen.window.layers.edges.edge_color, axis=0)) == 1 < len(np.unique(by_tree, axis=0))
    screen.press("C")
    assert np.array_equal(screen.window.layers.edges.edge_color, by_tree)
    screen.press("H")
    assert not screen.window.layers.edges.visible
    screen.press("H")
    assert screen.window.layers.edges.visible


@pytest.mark.skipif(shutil.which("xdotool") is None, reason="xdotool is not installed")
def test_keys_and_mouse_of_the_x_server(retina, opened):
    """The same way as a user's hands: through the X server, with the keyboard focus where the window put it."""
    screen = opened(retina, "eye")
    forest = screen.session.forest
    rows = end_branch(forest, (80, 140))
    middle = forest.positions(2)[rows][len(rows) // 2]
    screen.look_at(middle)
    from qtpy.QtCore import QPoint

    def xdotool(command: str) -> None:
        subprocess.run(["xdotool", *command.split()], check=True)
        screen.wait(0.5)

    corner = screen.window.canvas.mapToGlobal(QPoint(*screen.pixel(middle)))
    xdotool(f"windowfocus {int(screen.window.viewer.window._qt_window.winId())}")
    xdotool(f"mousemove {corner.x() + 4} {corner.y()}")
    xdotool(f"mousemove {corner.x()} {corner.y()}")
    xdotool("key Delete")
    assert len(screen.session.forest) == len(forest) - len(rows) + 1
    xdotool("key ctrl+z")
    assert len(screen.session.forest) == len(forest)
    xdotool(f"mousemove {corner.x()} {corner.y()} click 1")
    assert len(screen.window.marked) == 1
