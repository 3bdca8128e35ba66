"""Single decisions: where picked nodes lie, on drawn tubes, and the table for a small network."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import decisions
from benchmarks.decisions import Outcome, distances, judged
from benchmarks.dimensions import prepare_toy_dataset
from lib.errors import UserError
from lib.swclib import SwcForest
from tests.tools.tracing.tubes import save
from tools.data.sampling import SampleShape
from tools.data.training_image import TrainingImage


@pytest.fixture
def crossing() -> TrainingImage:
    """Two trees that cross: along x with a fork at (40, 60) downwards, and along y at x = 30."""
    across = [[40.0, 0.0], [40.0, 60.0], [40.0, 100.0], [80.0, 60.0]]
    nodes = [*across, [0.0, 30.0], [80.0, 30.0]]
    tree = SwcForest.from_positions(np.array(nodes), np.array([-1, 0, 1, 1, -1, 4]))
    return TrainingImage.build("a", np.zeros((90, 110, 3), np.uint8), tree, SampleShape(10.0, margin=1, jitter=0.0))


def test_a_node_lies_ahead_or_on_its_tree_or_on_another_or_nowhere(crossing):
    walks = crossing.walks
    begin, end = walks.nodes[walks.tail], walks.nodes[walks.head]
    at = [k for k in walks.sites.tolist() if tuple(begin[k]) == (40, 20) and end[k, 1] > 20]
    states = walks.states(np.random.default_rng(1), np.array(at * 6))
    picked = np.array([[41.0, 30.0], [40.0, 10.0], [30.0, 30.0], [70.0, 60.0], [60.0, 50.0], [np.nan, np.nan]])
    expected = [Outcome.RIGHT, Outcome.OWN_TREE, Outcome.JUMP, Outcome.OWN_TREE, Outcome.NOWHERE, Outcome.NONE]
    assert judged(picked, states, crossing).tolist() == expected


def test_distances_count_thick_slices_and_leave_out_what_is_absent():
    segments = np.array([[[[0.0, 0.0], [0.0, 4.0]], [[np.nan] * 2] * 2]])
    assert distances(np.array([[2.0, 1.0]]), segments, np.array([3.0, 1.0])) == pytest.approx([6.0])
    assert distances(np.array([[0.0, 7.0]]), segments, np.ones(2)) == pytest.approx([3.0])


def test_the_row_of_a_table():
    found = np.array([[Outcome.RIGHT, Outcome.JUMP]] * 9 + [[Outcome.JUMP, Outcome.RIGHT]] + [[Outcome.RIGHT] * 2] * 10)
    assert decisions.row("anywhere", found) == "20 anywhere | 95.00 / 55.00 % | 5.00 / 45.00 % | 9 / 1 | 0.021"


def test_the_table(tmp_path, capsys):
    data = prepare_toy_dataset(tmp_path / "toy", 2)
    weights = save(tmp_path / "w.safetensors", ndim=2)
    words = [f"--data={data}", f"--weights={weights}", "--states=20", "--threads=1"]
    with pytest.raises(UserError, match=r"none of the images of .* was held out; give --images"):
        decisions.main(words)
    capsys.readouterr()
    decisions.main([*words, "--images", "b"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[1].split(" ", 1)[1] for line in lines[2:]] == ["anywhere", "near crossings"]
    assert int(lines[2].split(" | ")[1].split()[0]) > 0
