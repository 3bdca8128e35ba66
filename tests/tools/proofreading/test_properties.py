"""Properties that hold for any operations: undo and redo are exact, and the journal leads to the same trees."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lib.errors import UserError
from lib.klib.image_io import write_tiff
from lib.swclib import SwcForest, resample
from tests.tools.proofreading.scenes import line, make, reopen, state
from tools.proofreading.history import History
from tools.proofreading.operations import Cut, Delete, Join, Move
from tools.proofreading.route import ProbabilityMap, find_route
from tools.proofreading.session import Session

TUBES = [[(y, 5), (y, 95)] for y in (10, 30, 50)]


def random_operation(session: Session, rng: np.random.Generator) -> None:
    """Try one operation at random nodes and places."""
    forest = session.forest
    a, b = rng.choice(forest.ids, 2).tolist() if len(forest) else (1, 2)
    place = rng.uniform((0, 0), (59, 99))
    row = int(rng.integers(len(forest.edges))) if len(forest.edges) else 0
    edge = forest.ids[forest.edges[row]].tolist() if len(forest.edges) else (a, b)
    choices = [
        lambda: session.cut(*edge),
        lambda: session.join(a, b),
        lambda: session.delete(*edge),
        lambda: session.draw(a, place),
        lambda: session.move(a, place),
        session.undo,
        session.redo,
    ]
    try:
        choices[rng.choice(len(choices), p=[0.15, 0.2, 0.05, 0.25, 0.15, 0.1, 0.1])]()
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("seed", range(6))
def test_undo_redo_and_replay_are_exact(tmp_path, seed):
    rng = np.random.default_rng(seed)
    trees = [line((y, 10), (y, 40)) for y in (10, 30, 50)] + [line((y, 60), (y, 90)) for y in (10, 30, 50)]
    session = make(tmp_path, (60, 100), TUBES, trees)
    first = state(session)
    for _ in range(60):
        random_operation(session, rng)
        forest = session.forest
        assert len(np.unique(forest.ids)) == len(forest)
        assert len(forest.edges) == len(forest) - len(forest.roots)
    last = state(session)
    session = reopen(tmp_path)
    assert state(session) == last
    count = 0
    while session.undo():
        count += 1
    assert count > 5 and state(session) == first
    states = []
    for _ in range(count):
        assert session.redo()
        states.append(state(session))
    assert states[-1] == last
    session = reopen(tmp_path)
    assert state(session) == last
    for expected in [*states[-2::-1], first]:
        session.undo()
        assert state(session) == expected


class _NoJournal:
    def append(self, record):
        """Forget it."""


def grid_of_lines(count: int, length: int) -> SwcForest:
    """``count`` lines of ``length`` nodes."""
    y, x = np.divmod(np.arange(count * length), length)
    parent = np.where(x == 0, -1, np.arange(count * length) - 1)
    return SwcForest.from_positions(np.stack([10.0 * y, 5.0 * x], axis=1), parent, types=2)


def test_operations_on_50_000_nodes_are_quick():
    history = History(grid_of_lines(250, 200), _NoJournal())  # type: ignore[arg-type]
    assert len(history.forest) == 50_000
    operations = [Cut(50, 51), Join(50, 600), Delete(1001, 1002), Move(7, (3.0, 4.0))]
    for operation in operations * 2:  # the first round loads what is compiled
        began = time.process_time()
        history.do(operation)
        assert len(history.forest)
        took = time.process_time() - began
        history.undo()
    assert took < 0.05


@pytest.mark.parametrize("shape", [(1500, 1500), (300, 300, 300)])
def test_a_draw_is_quick(shape):
    """A hundred pixels through a map of noise, in which nothing guides the search."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 90, shape, dtype=np.uint8)
    centerline = ProbabilityMap(values, 255.0, np.ones(len(shape)))
    middle = np.array(shape) / 2
    find_route(centerline, middle, middle + 5)
    began = time.process_time()
    path = find_route(centerline, middle - 30, middle + 30)
    assert time.process_time() - began < 0.3
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 3


def test_a_coarse_search_finds_the_tube_that_a_fine_one_finds(tmp_path):
    """A winding tube so long that the search begins on a coarser grid."""
    at = np.linspace(0, 6 * np.pi, 400)
    wave = resample(
        SwcForest.from_positions(np.stack([300 + 80 * np.sin(at), 50 + 45 * at], axis=1), np.arange(400) - 1), 3.0
    )
    places = wave.positions(2)
    session = make(tmp_path, (600, 950), [places], [line((10, 10), (10, 20))])
    path = find_route(session.centerline, places[0], places[-1])
    off = np.linalg.norm(path[:, None] - places, axis=2).min(axis=1)
    assert off.max() < 2.5 and np.median(off) < 1.0


def test_a_gap_is_crossed_rather_than_gone_around_far_away(tmp_path):
    bend = [(250, 100), (20, 100), (20, 130), (250, 130)]
    session = make(tmp_path, (300, 240), [bend], [line((290, 10), (290, 20))])
    path = find_route(session.centerline, np.array([250.0, 100]), np.array([250.0, 130]))
    assert path[:, 0].min() == pytest.approx(250, abs=12)


def test_a_search_grows_where_the_tube_leaves_its_box(tmp_path):
    """The first box ends 31 px above both ends, the tip of the tube lies more than 40 px above them."""
    session = make(tmp_path, (100, 240), [[(60, 100), (10, 115), (60, 130)]], [line((90, 10), (90, 20))])
    path = find_route(session.centerline, np.array([60.0, 100]), np.array([60.0, 130]))
    assert path[:, 0].min() < 20


def test_the_map_of_the_tracer_may_be_coarser_than_the_image(tmp_path):
    session = make(tmp_path, (60, 120), [[(30, 5), (30, 115)]], [line((30, 10), (30, 42)), line((30, 78), (30, 110))])
    coarse = np.asarray(session.centerline.pixels).reshape(30, 2, 60, 2).max(axis=(1, 3))
    write_tiff(tmp_path / "eye_centerline.tif", coarse)
    session = reopen(tmp_path)
    session.draw(9, (30, 78))
    assert len(session.forest.roots) == 1 and np.abs(session.forest.positions(2)[:, 0] - 30).max() < 0.7
