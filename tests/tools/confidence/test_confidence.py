"""Evidence, truth and confidence of traces drawn by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from lib.errors import UserError
from lib.klib.spaces import Spaces
from lib.swclib import SwcForest, SwcSpace, concatenate, resample
from lib.swclib.branches import Branches
from lib.swclib.metrics.continuity import are_connected
from tools.confidence.evidence import TraceEvidence
from tools.confidence.fitting import fitted, judged
from tools.confidence.model import ConfidenceModel, Logistic
from tools.confidence.truth import Truth
from tools.tracing.review import review_rows
from tools.tracing.trace import Trace

SHAPE = (120, 200)


def lines(*paths: list[tuple[float, float]]) -> SwcForest:
    """A tree for each path of (y, x), with a node each pixel."""
    return concatenate([resample(SwcForest.from_positions(path, np.arange(-1, len(path) - 1)), 1.0) for path in paths])


def fork(stem: float = 100.0) -> SwcForest:
    """A stem from x = 10 to 190 at y = 60, and a branch down from x = ``stem``."""
    nodes = [(60, x) for x in np.arange(10.0, 191)] + [(y, stem) for y in np.arange(61.0, 101)]
    parent = [-1, *range(180), int(stem) - 10, *range(181, 220)]
    return SwcForest.from_positions(nodes, parent)


def traced(forest: SwcForest, centerline: np.ndarray | float = 0.9, scale: float = 1.0, **more) -> Trace:
    """The trace of an image with this map."""
    spaces = Spaces.scaled(SHAPE, scale)
    return Trace(forest, np.broadcast_to(centerline, spaces.work_shape) + 0.0, spaces, np.zeros((0, 2), int), **more)


def truth(trace: Trace, gold: SwcForest) -> Truth:
    """The truth of a trace."""
    return judged(trace, gold)[1]


def test_a_trace_on_the_gold_is_true_in_every_item():
    found = truth(traced(fork()), fork())
    assert found.branches.tolist() == [1, 1, 1] and found.insides.tolist() == [1, 1, 1]
    assert np.isnan(found.joins[0]) and found.joins[1:].tolist() == [1, 1]
    assert found.ends.tolist() == [1, 1, 1] and np.isnan(found.missed)


def test_a_branch_without_gold_is_false_and_its_join_unknown():
    found = truth(traced(fork()), lines([(60, 10), (60, 190)]))
    assert found.branches.tolist() == [1, 1, 0]
    assert found.joins[1] == 1 and np.isnan(found.joins[2]) and found.ends.tolist()[:2] == [1, 1]


def test_a_join_of_two_tubes_that_are_two_in_the_gold_is_false():
    gold = lines([(60, 10), (60, 190)], [(70, 100), (100, 100)])  # the gap is wider than the cut of a loop
    found = truth(traced(fork()), gold)
    assert found.branches.tolist() == [1, 1, 1] and found.joins[1:].tolist() == [1, 0]


def test_a_bridge_between_two_tubes_is_false_at_its_weakest_place():
    gold = lines([(60, 10), (60, 90)], [(60, 110), (60, 190)])
    weak = np.where(np.abs(np.arange(200) - 100) < 10, 0.2, 0.9) * np.ones(SHAPE)
    evidence, found = judged(traced(lines([(60, 10), (60, 190)]), weak), gold)
    assert abs(evidence.insides.node[0] - 90) <= 9 and found.insides.tolist() == [0]
    assert evidence.insides.values[0, 0] == pytest.approx(0.2, abs=0.01)
    assert evidence.insides.behind[0] == pytest.approx(90, abs=9)


def test_an_end_beyond_which_gold_goes_on_is_false():
    found = truth(traced(lines([(60, 10), (60, 100)])), lines([(60, 10), (60, 190)]))
    assert sorted(found.ends.tolist()) == [0, 1] and found.missed == pytest.approx(82, abs=3)


def test_a_loop_that_the_gold_cuts_is_no_false_join():
    gold = lines([(60, 10), (60, 190)], [(65, 100), (100, 100), (100, 20), (60, 20)])
    assert truth(traced(fork()), gold).joins[1:].tolist() == [1, 1]


def test_parallel_tubes_four_voxels_apart_are_two_in_volumes_alone():
    one, other = np.arange(10.0, 60), np.arange(61.0, 111)
    nodes = [(10, 20, x) for x in one] + [(10, 26, x) for x in other]
    trace = SwcForest.from_positions(nodes, np.arange(-1, len(nodes) - 1))
    gold = concatenate([SwcForest.from_positions(part, np.arange(-1, 49)) for part in (nodes[:50], nodes[50:])])
    branches = Branches.of(trace, look=10)
    found = Truth.of(gold, trace, branches, np.array([49]), np.array([0, 99]), pixel=1.0, ndim=3)
    assert found.insides.tolist() == [0]


def test_scale_and_micrometres_do_not_change_the_evidence():
    plain = traced(fork()).evidence
    scaled = traced(fork(), space=SwcSpace("corner", "um", (0.5, 0.5))).evidence
    for kind in ("branches", "joins", "insides", "ends"):
        np.testing.assert_allclose(getattr(plain, kind).values, getattr(scaled, kind).values, rtol=1e-6)
    finer = traced(fork(), scale=2.0).evidence
    assert finer.branches.values[0, 3] == pytest.approx(np.log1p(2 * np.expm1(plain.branches.values[0, 3])))


def test_what_is_behind_a_join_is_the_smaller_part():
    evidence = traced(fork(stem=150.0)).evidence
    assert evidence.branches.behind.tolist() == pytest.approx([140, 40, 40])
    assert evidence.joins.behind[1:].tolist() == pytest.approx([40, 40])
    assert np.isnan(evidence.ends.behind).all() and len(evidence.ends.node) == 3


def test_are_connected_does_not_know_what_is_far_from_the_gold():
    test, gold = lines([(60, 10), (60, 190)]), lines([(60, 10), (60, 100)])
    known = are_connected(gold, test, np.array([0, 0]), np.array([60, 170]))
    assert known[0] == 1 and np.isnan(known[1])


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_a_regression_on_items_that_are_all_alike_stays_finite(outcome):
    found = Logistic.fit(np.ones((50, 2)), np.full(50, outcome))
    assert abs(found(np.ones((1, 2)))[0] - outcome) < 0.05 and np.isfinite(found.bias)


def test_a_regression_finds_known_odds_and_survives_its_file():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20_000, 2)) * [1, 100] + [0, 5]
    odds = 1 + 2 * values[:, 0]
    found = Logistic.fit(values, (rng.random(20_000) < 1 / (1 + np.exp(-odds))).astype(float))
    shown = found(np.array([[0.0, 5.0], [1.0, 5.0], [-1.0, 300.0]]))
    np.testing.assert_allclose(shown, 1 / (1 + np.exp(-np.array([1.0, 3.0, -1.0]))), atol=0.03)


def model() -> ConfidenceModel:
    """Fitted to traces of which the dim branches are false."""
    found = []
    for probability in (0.3, 0.4, 0.5, 0.8, 0.9):
        gold = fork() if probability > 0.6 else lines([(60, 10), (60, 190)])
        centerline = np.full(SHAPE, 0.9)
        centerline[62:] = probability
        found.append(judged(traced(fork(), centerline), gold))
    return fitted(found)


def test_the_doubtful_branch_comes_first_in_the_review_and_its_file():
    again = ConfidenceModel.from_json(model().as_json())
    assert again == model()
    centerline = np.full(SHAPE, 0.9)
    centerline[62:] = 0.3
    trace = traced(fork(), centerline, confidence_model=again)
    sure = trace.confidence
    assert sure.branches[2] < 0.5 < sure.branches[:2].min() and np.isnan(sure.joins[0])
    rows = review_rows(trace)
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[0]["question"] == "real?" and rows[0]["branch"] == 3 and {"x", "y"} <= set(rows[0])
    assert all(one["gain"] >= other["gain"] for one, other in itertools.pairwise(rows))
    assert rows[0]["gain"] == pytest.approx((1 - rows[0]["confidence"]) * 40, abs=0.1)


def test_without_a_model_there_is_no_confidence_and_nothing_to_review():
    trace = traced(fork())
    assert ConfidenceModel.from_json({}) is None and trace.confidence is None and review_rows(trace) == []


def test_an_empty_trace_has_no_items():
    trace = replace(traced(SwcForest.empty()), confidence_model=model())
    assert review_rows(trace) == [] and len(trace.confidence.branches) == 0
    assert len(TraceEvidence.of(trace.swc_forest, trace.branches, np.zeros(0), np.zeros(0), 1.0).ends.node) == 0


def test_a_damaged_model_and_one_of_other_numbers_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"tools\.calibrate"):
        ConfidenceModel.from_json({"branches": {"mean": [1]}})
    stored = model().as_json()
    stored["ends"] = {name: value[:-1] if name != "bias" else value for name, value in stored["ends"].items()}
    with pytest.raises(UserError, match="ends are not judged by probability"):
        ConfidenceModel.from_json(stored)
