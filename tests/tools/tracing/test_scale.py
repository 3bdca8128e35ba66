"""The scale of an image from its pixels on the ground or the width of its tubes.

Networks see only tubes that are as wide as in training.
"""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter

from lib.errors import UserError
from lib.klib.spaces import Spaces
from lib.swclib import SwcForest, SwcSpace, read_swc
from models.checkpoint import load_weights, read_header, save_weights
from tests.tools.tracing.tubes import SCALE, SHAPE, options, pixels, trace, write_geotiff
from tools.tracing import job as job_module
from tools.tracing.job import Prepared
from tools.tracing.scale import fitting_scale, ground_scale, mismatch, weighted_quantiles
from tools.tracing.trace import Trace
from tools.tracing.tracing_tools_2D import radii_2d

KNOWN = 6.0


def tree(size: int, unit: float) -> np.ndarray:
    """An image of ``size`` pixels with tubes 6, 3 and 1.5 times ``unit`` wide, dark on a bright ground."""
    y, x = np.mgrid[:size, :size] + 0.5
    shade = np.zeros((size, size))
    for place, width in ((0.25, 6.0), (0.5, 3.0), (0.75, 1.5)):
        across = abs(y - place * size - 0.1 * size * np.sin(2 * np.pi * x / size))
        shade = np.maximum(shade, across < width * unit / 2)
    grey = 0.8 - 0.4 * gaussian_filter(shade, 0.6)
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.float32)


class Seeing:
    """Sees the axes of tubes between half and one and a half times as wide as known, and nothing else."""

    def encode(self, pixels: np.ndarray, views: int = 0) -> SimpleNamespace:
        mask = pixels[..., 0] < 0.6
        distance = np.asarray(distance_transform_edt(mask))
        ridge = mask & (distance >= np.maximum(np.roll(distance, 1, 0), np.roll(distance, -1, 0)))
        width = 2 * distance - 1
        return SimpleNamespace(centerline=np.where(ridge & (width > KNOWN / 2) & (width < 1.5 * KNOWN), 0.9, 0.0))


def job(seen: dict[str, float]) -> SimpleNamespace:
    """The part of a trace job that is used."""

    def prepare(pixels: np.ndarray, *, spacing: object, scale: float) -> Prepared:
        spaces = Spaces.scaled(pixels.shape[:-1], scale)
        return Prepared(spaces.resize(pixels), pixels, spaces, None, None, None, SwcSpace(), None)

    return SimpleNamespace(
        header=SimpleNamespace(seen=seen, scale=2.0, patch_size=(64, 64)),
        options=SimpleNamespace(seed_threshold=0.5),
        spec=SimpleNamespace(ndim=2, radii=radii_2d),
        predictor=Seeing(),
        prepare=prepare,
    )


@pytest.mark.parametrize("unit", [0.5, 1.0, 2.0, 5.0])
def test_the_widest_tubes_become_as_wide_as_known(unit):
    found = fitting_scale(job({"width": KNOWN}), tree(480, unit))
    assert found == pytest.approx(1 / unit, rel=0.25)


def test_an_image_without_tubes_keeps_the_scale_of_the_weights():
    assert fitting_scale(job({"width": KNOWN}), np.full((200, 200, 3), 0.8, np.float32)) == 2.0


def test_weights_that_know_no_width_are_refused():
    with pytest.raises(UserError, match=r"--scale auto: these weights do not say how wide"):
        fitting_scale(job({}), tree(200, 1.0))


def test_quantiles_are_by_length():
    forest = SwcForest.from_positions([[0.0, 0.0], [0.0, 1.0], [0.0, 10.0]], [-1, 0, 1])
    assert weighted_quantiles(forest, np.array([1.0, 1.0, 3.0]), (0.05, 0.5)) == [1.0, 2.0]


def traced(pixels: np.ndarray, scale: float) -> Trace:
    """What a trace job has made of an image, as far as it is used."""
    spaces = Spaces.scaled(pixels.shape[:-1], scale)
    return Trace(SwcForest.empty(), Seeing().encode(spaces.resize(pixels)).centerline, spaces, np.zeros((0, 2), int))


@pytest.mark.parametrize(("unit", "scale", "is_said"), [(1.0, 1.0, False), (1.0, 2.0, True), (3.0, 1.0, True)])
def test_a_scale_that_is_plainly_too_large_is_said_to_be(unit, scale, is_said):
    image, given = tree(480, unit), job({"width": KNOWN})
    given.options.scale = scale
    said = mismatch(given, traced(image, scale), image)
    assert said.startswith(f"the scale {scale:g} seems not to fit: ") == is_said and bool(said) == is_said
    given.options.scale = "auto"
    assert mismatch(given, traced(image, scale), image) == ""


def test_weights_that_know_no_width_say_nothing_of_the_scale():
    given, image = job({}), tree(480, 3.0)
    given.options.scale = 1.0
    assert mismatch(given, traced(image, 1.0), image) == ""


def test_auto_measures_in_each_image(weights, oracle, photo, tmp_path, monkeypatch):
    net, header = load_weights(weights)
    save_weights(tmp_path / "w.safetensors", net, replace(header, seen={"width": 2.0}))
    monkeypatch.setattr(job_module, "fitting_scale", lambda job, pixels, spacing: 2.0)
    (traced,) = trace(tmp_path / "w.safetensors", photo, scale="auto")
    assert "scale 2, from the width of the tubes" in traced.message
    assert read_header(tmp_path / "w.safetensors").seen == {"width": 2.0}
    assert options(weights, photo, scale="auto").scale == "auto"


@pytest.mark.parametrize(
    ("given", "known", "pixel", "scale"),
    [
        (None, 1.0, 0.3, 0.6),  # the weights were trained at twice their pixels of 1 m
        ("auto", 0.5, 0.25, 1.0),
        (None, 1.0, 1.004, 2.0),  # two digits: UTM and the ground differ by less
        (0.7, 1.0, 0.3, None),
        (None, 0.0, 0.3, None),
        (None, 1.0, 10.0, None),  # a satellite's pixel holds the whole road
        (None, 1.0, 0.02, None),
    ],
)
def test_a_georeferenced_image_is_brought_to_the_size_on_the_ground_of_the_training_images(
    tmp_path, given, known, pixel, scale
):
    tile = write_geotiff(tmp_path / "tile.tif", np.full((40, 50, 3), 90, np.uint8), pixel)
    header = job({"metres": known} if known else {}).header
    assert ground_scale(given, header, tile, (40, 50)) == (None if scale is None else pytest.approx(scale))


def test_an_image_without_a_place_keeps_the_scale_of_the_weights(photo):
    assert ground_scale(None, job({"metres": 1.0}).header, photo, SHAPE) is None


@pytest.mark.parametrize("is_given", [False, True])
def test_the_scale_of_a_tile_is_that_of_its_pixels_on_the_ground(weights, oracle, tmp_path, is_given):
    net, header = load_weights(weights)
    save_weights(tmp_path / "w.safetensors", net, replace(header, scale=4 * SCALE, seen={"metres": 1.0}))
    tile = write_geotiff(tmp_path / "photos" / "eye.tif", pixels(), 0.25)
    (traced,) = trace(tmp_path / "w.safetensors", tile, **({"scale": SCALE} if is_given else {}))
    assert ("scale 2, from the size of a pixel on the ground" in traced.message) == (not is_given)
    assert len(read_swc(traced.swc).roots) == 2
    assert json.loads((traced.swc.parent / "eye.json").read_text())["options"]["scale"] == SCALE
