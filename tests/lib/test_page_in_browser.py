"""The page of a trace in a browser, as its user has it; ``make page`` runs these, and fails without a browser."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from lib.formats.graph import BranchGraph
from lib.formats.page import write_page
from tests.lib.chromium import PROGRAM, Page
from tests.lib.test_formats import LOOPS, NODES, graph
from tools.pictures.overlay import SURENESS

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium: apt-get install chromium")

SPOT = (4, 15)
"""The white pixel (y, x) of an image that is black elsewhere."""
DOUBTS = [
    {"rank": 1, "question": "real?", "branch": 4, "node": 7, "x": 14, "y": 2, "z": 3, "confidence": 0.2, "gain": 9.0},
    {"rank": 2, "question": "ends here?", "branch": 2, "node": 6, "x": 2, "y": 6, "z": 3, "confidence": 0.7, "gain": 2},
]


def known(ndim: int) -> BranchGraph:
    """The ladder, with widths, confidences and kinds."""
    more = {"tree": 1, "width_mean_px": 3.0, "kind": "artery"}
    trace = graph(ndim)
    return replace(trace, table=[{**row, **more, "confidence": 0.1 * row["id"]} for row in trace.table])


def spot(ndim: int) -> np.ndarray:
    picture = np.zeros((*(6, 12, 20)[-ndim:], 1), np.uint8)
    picture[(..., *SPOT, 0)] = 255
    return picture


@contextmanager
def opened(folder: Path, picture: np.ndarray, trace: BranchGraph, doubts: list | None = None) -> Iterator[Page]:
    """The page of a trace, which must not complain of anything nor load anything."""
    write_page(folder / "eye.html", picture, trace, DOUBTS if doubts is None else doubts)
    with Page(folder / "eye.html", folder / "browser") as page:
        yield page
        assert page.errors == []
        loaded = page.run("performance.getEntriesByType('resource').map(each => each.name.slice(0, 5))")
        assert set(loaded) <= {"data:"}


@pytest.fixture(scope="module", params=[2, 3])
def page(request, tmp_path_factory) -> Iterator[Page]:
    """Pages of an image and of a volume, in which every test begins anew."""
    with opened(tmp_path_factory.mktemp("page"), spot(request.param), known(request.param)) as page:
        yield page


@pytest.fixture(autouse=True)
def anew(request) -> None:
    if "page" in request.fixturenames:
        page = request.getfixturevalue("page")
        page.key("Escape")
        page.key("f")


def where(page: Page, *place: float) -> np.ndarray:
    """A place (x, y[, z]) on the screen, in pixels."""
    return np.array(page.run(f"Object.values(toScreen(toPlace({[*map(float, place)]})))"))


def on_branch(page: Page, branch: int) -> np.ndarray:
    """A place on the screen that lies on a branch, counted from 1, and on no other one."""
    rows = known(2).branches[branch - 1][-2:]
    return where(page, *NODES[rows].mean(axis=0)[::-1], *([3.0] if page.run("isVolume") else []))


def zoom(page: Page) -> float:
    return page.run("camera.zoom")


def picture_of(page: Page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(float)


def test_a_click_marks_a_branch_and_shows_its_row(page):
    for branch in (3, 2):
        page.click(*on_branch(page, branch))
        page.wait(f"document.body.dataset.selected === '{branch}'")
        assert page.run("document.getElementById('chosen').textContent") == f"Branch {branch}"
        assert "artery" in page.run("document.getElementById('row').textContent")
    page.click(30, 30)
    page.wait("document.body.dataset.selected === undefined")


def test_the_marked_branch_is_lit(page):
    x, y = on_branch(page, 3).round().astype(int).tolist()
    patch = slice(y - 12, y + 13), slice(x - 12, x + 13)
    before = (picture_of(page)[patch].min(axis=2) > 240).sum()
    page.click(x, y)
    page.wait("document.body.dataset.selected === '3' && !isDue")
    assert (picture_of(page)[patch].min(axis=2) > 240).sum() > before + 60


def test_the_pointer_on_a_branch_tells_what_it_is(page):
    page.mouse("Moved", *on_branch(page, 3))
    page.wait("!document.getElementById('hover').hidden")
    text = page.run("document.getElementById('hover').textContent").splitlines()
    assert text == ["branch 3", "length 4 px", "width 3 px", "confidence 0.3", "kind artery"]
    page.mouse("Moved", 30, 30)
    page.wait("document.getElementById('hover').hidden")


def test_an_edge_that_closes_a_loop_is_a_line_too(page):
    middle = NODES[LOOPS[1]].mean(axis=0)[::-1]
    page.click(*where(page, *middle, *([3.0] if page.run("isVolume") else [])))
    page.wait(f"document.body.dataset.selected === '{len(known(2).table) + 2}'")


def test_a_click_in_the_queue_flies_there(page):
    box = "document.querySelectorAll('#doubts li')[1].getBoundingClientRect()"
    page.click(*page.run(f"[{box}.x + 20, {box}.y + 5]"))
    page.wait("document.body.dataset.selected === '2'")
    middle = np.array(page.run("[view.clientWidth / 2, view.clientHeight / 2]"))
    page.wait(f"Math.hypot(toScreen(marked).x - {middle[0]}, toScreen(marked).y - {middle[1]}) < 1")
    place = [DOUBTS[1][axis] for axis in "xyz"][: 3 if page.run("isVolume") else 2]
    assert where(page, *place) == pytest.approx(middle, abs=1)


def test_keys_walk_through_the_queue(page):
    page.run("visit(0)")
    for key, branch in (("n", 2), ("n", 2), ("p", 4), ("p", 4)):
        page.key(key)
        page.wait(f"document.body.dataset.selected === '{branch}'")


def test_the_wheel_zooms_where_the_pointer_is(page):
    before, place = zoom(page), on_branch(page, 3)
    page.mouse("Wheel", *place, deltaX=0, deltaY=-240)
    page.wait(f"camera.zoom > {1.1 * before}")
    assert on_branch(page, 3) == pytest.approx(place, abs=1.5)


def test_dragging_moves_an_image_and_turns_a_volume(page):
    before = np.stack([on_branch(page, branch) for branch in (2, 3)])
    page.drag(60, 60, 80, 30)
    page.wait("!isDue")
    moved = np.stack([on_branch(page, branch) for branch in (2, 3)]) - before
    if page.run("isVolume"):
        assert abs(moved[0] - moved[1]).max() > 5
    else:
        assert moved == pytest.approx(np.array([[80, 30]] * 2), abs=1)
    assert page.run("document.body.dataset.selected ?? null") is None


def test_colours_can_be_chosen(page):
    assert page.run("[...document.getElementById('colour').options].map(each => each.disabled)") == [False] * 4
    colour = "[...segmentColours.slice(6 * firstSegment[2], 6 * firstSegment[2] + 3)]"
    seen = set()
    for way in ("tree", "width", "confidence", "kind"):
        page.run(f"element('colour').value = '{way}'; element('colour').dispatchEvent(new Event('change'))")
        seen.add(json.dumps(page.run(colour)))
    assert len(seen) == 4


def test_keys_still_walk_through_the_queue_after_a_colour_was_chosen(page):
    page.run("visit(0); element('colour').focus(); element('colour').dispatchEvent(new Event('change'))")
    page.key("n")
    page.wait("document.body.dataset.selected === '2'")


def test_confidence_has_the_colours_of_the_overlay(page):
    shown = page.run("[0, 0.5, 1].map(share => onRamp(RAMPS.confidence, share).getHexString())")
    for colour, share in zip(shown, (0.0, 0.5, 1.0), strict=True):
        assert to_rgb(f"#{colour}") == pytest.approx(SURENESS(share)[:3], abs=0.01)


def test_nodes_lie_on_their_pixels(page):
    """To a tenth of a pixel, and not mirrored."""
    if page.run("isVolume"):
        page.run("camera.position.copy(controls.target).z -= 50; controls.update(); render()")
    page.run("element('lines').checked && element('lines').click()")
    page.wait("!isDue")
    shown = picture_of(page)[:, : page.run("view.clientWidth")].max(axis=2)
    page.run("element('lines').click()")
    rows, columns = np.nonzero(shown > 0.8 * shown[20:-20, 20:-20].max())
    wanted = where(page, *SPOT[::-1], *([3.0] if page.run("isVolume") else []))
    assert [columns.mean() + 0.5, rows.mean() + 0.5] == pytest.approx(wanted, abs=0.1 * zoom(page))


@pytest.mark.parametrize("ndim", [2, 3])
def test_without_confidence_the_choice_is_off_and_there_is_no_queue(tmp_path, ndim):
    rows = [{**row, "confidence": None} for row in known(ndim).table]
    with opened(tmp_path, np.zeros((1,) * (ndim + 1)), replace(known(ndim), table=rows), []) as page:
        assert page.run("[...element('colour').options].filter(each => each.disabled).map(each => each.value)") == [
            "confidence"
        ]
        assert page.run("getComputedStyle(element('queue')).display") == "none"
        page.key("n")
        page.click(*on_branch(page, 2))
        page.wait("document.body.dataset.selected === '2'")


@pytest.mark.parametrize("ndim", [2, 3])
def test_an_empty_trace(tmp_path, ndim):
    whole = graph(ndim)
    empty = replace(
        whole, forest=type(whole.forest).empty(), branches=[], table=[], loops=LOOPS[:0], probability=np.zeros(0)
    )
    with opened(tmp_path, spot(ndim), empty, []) as page:
        page.click(100, 100)
        page.mouse("Moved", 110, 110)
        assert page.run("document.body.dataset.selected ?? null") is None


def test_very_many_branches_are_thin_lines(tmp_path):
    write_page(tmp_path / "few.html", spot(2), known(2), DOUBTS)
    text = (tmp_path / "few.html").read_text()
    assert text.count("const MANY = 400000;") == 1
    (tmp_path / "many.html").write_text(text.replace("const MANY = 400000;", "const MANY = 1;"))
    with Page(tmp_path / "many.html", tmp_path / "browser") as page:
        assert page.run("lines.children[0].isLineSegments2 ?? null") is None
        page.run("colourBy('confidence')")
        page.click(*on_branch(page, 3))
        page.wait("document.body.dataset.selected === '3' && !isDue")
        assert page.errors == []
