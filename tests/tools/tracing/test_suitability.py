"""Warnings about weights that seem not to suit an image."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lib.klib.spaces import Spaces
from lib.swclib import SwcForest, concatenate
from models.checkpoint import load_weights, save_weights
from tests.tools.tracing.tubes import trace
from tools.tracing.suitability import ADVICE, why_unsuited
from tools.tracing.trace import Trace

SHAPE = (200, 400)


def traced(length: float, probability: float, scale: float = 1.0) -> Trace:
    """Two straight trees of ``length`` image pixels on a map with one probability."""
    rows = [np.array([[row, 0.0], [row, length]]) for row in (10.0, 50.0)]
    forest = concatenate([SwcForest.from_positions(row, [-1, 0]) for row in rows])
    spaces = Spaces.scaled(SHAPE, scale)
    centerline = np.full(spaces.work_shape, probability, np.float32)
    return Trace(forest, centerline, spaces, loops=np.zeros((0, 2, 2)))


@pytest.mark.parametrize(
    ("length", "probability", "scale", "warned"),
    [
        pytest.param(80, 0.4, 1, True, id="short and faint"),
        pytest.param(80, 0.6, 1, False, id="short, but bright"),
        pytest.param(300, 0.4, 1, False, id="faint, but long"),
        pytest.param(80, 0.4, 2, False, id="long in work pixels"),
        pytest.param(300, 0.4, 0.4, True, id="short in work pixels"),
    ],
)
def test_trees_that_are_short_and_faint_get_a_warning(length, probability, scale, warned):
    assert bool(why_unsuited(traced(length, probability, scale), 0.5)) == warned


def test_a_warning_names_what_was_found_and_what_to_try():
    text = why_unsuited(traced(80, 0.4), 0.5)
    assert "2 trees of 80 work pixels on average, with 100 % of the nodes below the seed threshold" in text
    assert text.endswith(ADVICE)


def test_a_trace_is_unsuited_where_a_quarter_of_its_nodes_is_faint():
    trace = traced(80, 0.6)
    trace.centerline[:, 60:] = 0.4
    trace.centerline[30:, :] = 0.6
    assert why_unsuited(trace, 0.5)
    trace.centerline[:, 60:] = 0.6
    assert not why_unsuited(trace, 0.5)


def test_a_warning_stands_in_the_outcome_and_in_the_report(weights, photo):
    (outcome,) = trace(weights, photo, seed_threshold=0.99)
    assert "nothing was found to trace" in outcome.line and ADVICE in outcome.line
    assert outcome.message in json.loads(outcome.swc.with_suffix(".json").read_text())["notes"]


def test_a_suitable_image_gets_no_warning(weights, oracle, photo):
    (outcome,) = trace(weights, photo)
    assert outcome.message == ""
    assert json.loads(outcome.swc.with_suffix(".json").read_text())["notes"] == []


def test_weights_without_thresholds_are_said_to_be_uncalibrated(weights, oracle, photo):
    net, header = load_weights(weights)
    uncalibrated = weights.with_name("uncalibrated.safetensors")
    save_weights(uncalibrated, net, replace(header, thresholds={}))
    (outcome,) = trace(uncalibrated, photo)
    assert outcome.message == "the thresholds of these weights are not calibrated: run tools.calibrate"
