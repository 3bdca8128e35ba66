"""Tracing inside the field of view."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np

from lib.swclib import read_swc
from tests.tools.tracing.tubes import SHAPE, options, trace, write
from tools.tracing.job import TraceJob
from tools.tracing.tracing_tools_2D import SPEC


def mask() -> np.ndarray:
    """The left half of the image."""
    left = np.zeros(SHAPE, np.uint8)
    left[:, :55] = 255
    return left


def test_nothing_is_traced_outside_a_mask_and_on_its_rim(weights, oracle, photo, tmp_path):
    folder = tmp_path / "masks"
    write(folder / "eye.png", mask())
    for masks in (folder, folder / "eye.png"):
        (traced,) = trace(weights, photo, masks=masks, sure=0.3)
        forest = read_swc(traced.swc, origin="centre")
        assert len(forest.roots) == 2 and 45 < forest.xyz[:, 0].max() < 55
    with traced.swc.with_name("eye_summary.csv").open() as file:
        (summary,) = csv.DictReader(file)
    assert float(summary["area_px2"]) == 60 * 55
    assert json.loads(traced.swc.with_suffix(".json").read_text())["field_of_view"] == 0.5
    with traced.swc.with_name("eye_branches.csv").open() as file:
        assert {row["inside_field"] for row in csv.DictReader(file)} == {"1.0"}


def test_the_field_is_found_unless_the_whole_image_or_a_mask_is_given(weights, oracle, photo):
    spec = replace(SPEC, find_field=lambda _: mask() > 0)
    job, whole = (TraceJob(weights, options(weights, photo, field=field), spec) for field in ("auto", "whole"))
    pixels = job.read(photo).pixels
    inside = job.prepare(pixels).field_inside
    assert inside is not None and 0.4 < inside.mean() < 0.5
    assert whole.prepare(pixels).field_inside is None
    right = mask() == 0
    for each in (job, whole):
        np.testing.assert_array_equal(each.prepare(pixels, mask=right).field, right)
    assert read_swc(trace(weights, photo)[0].swc).xyz[:, 0].max() > 90  # the tubes are no fundus photograph


def test_masks_that_do_not_fit_are_refused(weights, oracle, photo, tmp_path):
    (failed,) = trace(weights, photo, masks=write(tmp_path / "m" / "eye.png", mask()[:, :50]))
    assert "the mask is 60 x 50, the image 60 x 110" in failed.message
    other = write(tmp_path / "n" / "other.png", mask()).parent
    (failed,) = trace(weights, photo, masks=other)
    assert "holds no mask of the name eye" in failed.message
