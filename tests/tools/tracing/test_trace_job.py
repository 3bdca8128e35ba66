"""Traces of images: where they lie, and which images can be traced."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from lib.klib.contrast import with_local_contrast
from lib.klib.spaces import Spaces
from lib.swclib import read_swc
from tests.tools.tracing.oracle import OraclePredictor
from tests.tools.tracing.tubes import SCALE, SHAPE, TUBES, options, pixels, save, trace, write
from tools.inference.encoded_image import EncodedImage
from tools.inference.predictor import Predictor
from tools.tracing import job as job_module
from tools.tracing.tracing_tools_2D import build_trace_job_2d


@pytest.mark.parametrize("origin, shift", [("corner", 0.5), ("centre", 0.0)])
def test_tubes_are_traced_where_they_lie(weights, oracle, photo, origin, shift):
    (traced,) = trace(weights, photo, swc_origin=origin)
    forest = read_swc(traced.swc)
    assert len(forest.roots) == traced.trees == 2 and len(forest) == traced.nodes
    rows = forest.xyz[:, 1] - shift
    for tree, row in zip(range(2), sorted((25.25, 35.25), key=lambda r: abs(r - rows[forest.components == 0][0])),
                         strict=True):  # fmt: skip
        own = forest.components == tree
        np.testing.assert_allclose(rows[own], row, atol=0.3)
        assert abs(np.mean(rows[own]) - row) < 0.1
        columns = forest.xyz[own, 0] - shift
        assert columns.min() == pytest.approx(10, abs=3) and columns.max() == pytest.approx(99, abs=3)
    assert f"0 is the {origin} of the first pixel" in traced.swc.read_text()


def test_scale_that_does_not_divide_the_image_shifts_nothing(weights, photo, monkeypatch):
    spaces = Spaces.scaled(SHAPE, 1.37)
    assert not np.allclose(spaces.scale, 1.37)

    def build(*_, **__):
        return OraclePredictor(spaces.to_work(TUBES).tolist(), spaces.work_shape, (64, 64))

    monkeypatch.setattr(job_module, "Predictor", build)
    (traced,) = trace(weights, photo, swc_origin="centre", scale=1.37)
    rows = read_swc(traced.swc).xyz[:, 1]
    np.testing.assert_allclose(np.minimum(abs(rows - 25.25), abs(rows - 35.25)), 0, atol=0.25)


def test_the_network_sees_local_contrast(tmp_path, photo, monkeypatch):
    torch.manual_seed(0)
    file = save(tmp_path / "w.safetensors", ndim=2, local_contrast=20.0)
    seen = []
    encode = Predictor.encode

    def watched(predictor: Predictor, image: np.ndarray, **more) -> EncodedImage:
        seen.append(image)
        return encode(predictor, image, **more)

    monkeypatch.setattr(Predictor, "encode", watched)
    image = pixels() / np.float32(255)
    expected = with_local_contrast(Spaces.scaled(SHAPE, SCALE).resize(image), 20.0)
    job = build_trace_job_2d(options(file, photo))
    np.testing.assert_array_equal(job.prepare(image).pixels, expected)
    job.trace(image)
    job.make_maps(image)
    np.testing.assert_array_equal(seen[0], expected)
    np.testing.assert_array_equal(seen[1], expected)


@pytest.mark.parametrize("kind", ["gray", "rgba", "16 bit", "16 bit RGB", "float"])
def test_all_pixel_types_are_traced(weights, oracle, tmp_path, kind):
    rgb = pixels()
    array = {
        "gray": rgb[..., 0],
        "rgba": np.dstack([rgb, np.full(SHAPE, 255, np.uint8)]),
        "16 bit": rgb[..., 0].astype(np.uint16) * 257,
        "16 bit RGB": rgb.astype(np.uint16) * 257,
        "float": rgb[..., 0] / np.float32(255),
    }[kind]
    (traced,) = trace(weights, write(tmp_path / "photos" / "some.tif", array))
    assert traced.trees == 2
    notes = json.loads(traced.swc.with_name("some.json").read_text())["notes"]
    assert bool(notes)


def test_same_random_seed_writes_same_file(weights, oracle, photo, tmp_path):
    texts = [trace(weights, photo, out=tmp_path / name)[0].swc.read_text() for name in "ab"]
    assert texts[0] == texts[1]


def test_trace_with_a_network(weights, photo, capsys):
    for features in ("tile", "patch"):
        (traced,) = trace(weights, photo, features=features, seed_threshold=0.02, stop_threshold=0.01, views=4)
        assert traced.swc.is_file() and not traced.message.startswith("error")
