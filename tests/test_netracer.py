"""The Python interface: arrays in, traces out."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from skimage import data

import netracer
from lib.swclib import subset
from models.checkpoint import WeightsHeader, save_weights
from models.nenet import NENet

ROOT = Path(__file__).resolve().parents[1]
PART = (slice(300, 560), slice(700, 960))
"""Of the retina of scikit-image: beside the optic disc."""


@pytest.fixture(scope="module")
def tracer() -> netracer.Tracer:
    return netracer.load_tracer(ROOT / "weights" / "DRIVE.safetensors", device="cpu")


@pytest.fixture(scope="module")
def retina() -> np.ndarray:
    return np.ascontiguousarray(data.retina()[PART])


@pytest.fixture(scope="module")
def trace(tracer: netracer.Tracer, retina: np.ndarray) -> netracer.Trace:
    return tracer.trace(retina, scale=0.8)


def volume_weights(tmp_path: Path) -> Path:
    """Weights of an untrained 3D network."""
    path = tmp_path / "volume.safetensors"
    header = WeightsHeader(3, 1, 2, "X", 1.0, "corner", (16, 16, 16), 5.0, 2.0, "tile", spacing=(2.0, 1.0, 1.0))
    save_weights(path, NENet(3, 1, 2), header)
    return path


def test_an_array_becomes_trees_in_its_own_pixels(trace, retina):
    assert trace.forest.length > 300 and len(trace.forest.roots) < 30
    assert trace.centerline.shape == (208, 208) and trace.centerline.dtype == np.float32
    positions = trace.forest.positions(2)
    assert (positions > -1).all() and (positions < np.array(retina.shape[:2])).all()
    # Vessels are darker than what lies around them.
    pixels = np.rint(positions).astype(int).clip(0, 259)
    green = retina[..., 1]
    assert np.median(green[tuple(pixels.T)]) < np.median(green)


def test_uint8_uint16_and_float_arrays_of_one_image_give_one_trace(tracer, trace, retina):
    unit = retina / np.float32(255)
    wide = retina.astype(np.uint16) * 257
    for array in (unit, unit.astype(np.float64), wide, np.dstack([retina, np.full(retina.shape[:2], 255, np.uint8)])):
        np.testing.assert_allclose(tracer.trace(array, scale=0.8).forest.xyz, trace.forest.xyz, atol=1e-4)


def test_a_written_trace_reads_back(trace, tmp_path):
    trace.write(tmp_path / "retina.swc", comment=["a retina"])
    text = (tmp_path / "retina.swc").read_text()
    assert "# a retina\n# units: image pixels (x, y), radius too; 0 is the centre of the first pixel\n# Meta: {" in text
    forest = netracer.read_swc(tmp_path / "retina.swc")
    np.testing.assert_allclose(forest.xyz, trace.forest.xyz, atol=1e-3)
    assert netracer.read_swc(tmp_path / "retina.swc", origin="corner").xyz.tolist() == forest.xyz.tolist()
    bare = [line for line in text.splitlines(True) if "units" not in line and "Meta" not in line]
    (tmp_path / "bare.swc").write_text("".join(bare))
    corner = netracer.read_swc(tmp_path / "bare.swc", origin="corner")
    np.testing.assert_allclose(forest.xyz - corner.xyz, np.tile([0.5, 0.5, 0], (len(forest), 1)))


def test_a_trace_is_shown_in_one_line(trace):
    assert re.fullmatch(
        r"Trace\(SwcForest\(\d+ nodes, \d+ trees?, length \d+\.\d\) of an image of 260 x 260\)", repr(trace)
    )


def test_a_trace_agrees_with_itself_and_not_with_half_of_it(trace):
    perfect = netracer.evaluate(trace.forest, trace).row()
    assert perfect["SSD_F1"] == 1 and perfect["coverage"] == pytest.approx(1)
    longest = np.bincount(trace.forest.components).argmax()
    part = subset(trace.forest, trace.forest.components == longest)
    assert netracer.evaluate(trace.forest, part).row()["coverage"] < 0.95
    with pytest.raises(netracer.UserError, match="no edge"):
        netracer.evaluate(netracer.SwcForest.empty(), trace)


def test_options_hold_for_one_image_or_for_all(tracer, retina, trace):
    pruned = tracer.trace(retina, scale=0.8, spur=60.0)
    assert len(pruned.forest.branch_points) < len(trace.forest.branch_points)
    again = tracer.trace(retina, scale=0.8)
    np.testing.assert_array_equal(again.forest.xyz, trace.forest.xyz)
    with pytest.raises(netracer.UserError, match="scales: unknown option; did you mean scale"):
        tracer.trace(retina, scales=0.8)
    with pytest.raises(netracer.UserError, match="--method must be gds or brightest, got best"):
        tracer.trace(retina, method="best")
    with pytest.raises(netracer.UserError, match="--spur -1"):
        tracer.trace(retina, spur=-1.0)


def test_shipped_weights_are_found_by_name():
    assert netracer.load_tracer("DRIVE", device="cpu").header.dataset == "DRIVE"
    with pytest.raises(netracer.UserError, match=r"nowhere\.safetensors"):
        netracer.load_tracer("nowhere.safetensors")
    with pytest.raises(netracer.UserError, match="did you mean DRIVE"):
        netracer.load_tracer("DRIV")


def test_volumes_are_traced_by_the_weights_dimension(tmp_path):
    tracer = netracer.load_tracer(volume_weights(tmp_path), device="cpu", seed_threshold=0.99, stop_threshold=0.98)
    volume = np.random.default_rng(0).integers(0, 4000, (20, 40, 44)).astype(np.uint16)
    trace = tracer.trace(volume, spacing=(3.0, 1.0, 1.0))
    assert trace.centerline.shape == volume.shape
    assert tracer._job.sizes(None) == (3.0, 1.0, 1.0)
    with pytest.raises(netracer.UserError, match="--spacing"):
        tracer.trace(volume, spacing=(1.0, -1.0, 1.0))
    with pytest.raises(netracer.UserError, match="not a volume"):
        tracer.trace(volume[0])
    with pytest.raises(netracer.UserError, match="axes"):
        tracer.trace(np.dstack([volume[0]] * 3))


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((40, 40, 40), np.uint8), "volume|channels"),
        (np.full((80, 80, 3), np.nan, np.float32), "NaN"),
        (np.zeros((10, 10), np.uint8), "smaller than a patch"),
        (np.zeros((80, 80), complex), "complex"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(tracer, array, message):
    with pytest.raises(netracer.UserError, match=message) as error:
        tracer.trace(array)
    assert "\n" not in str(error.value)


def installed() -> bool:
    """Whether NETracer is installed in this environment, as `make` does it."""
    try:
        metadata.version("netracer")
    except metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.skipif(not installed(), reason="not installed; make does it with pip install --no-deps -e .")
def test_it_is_importable_from_anywhere(tmp_path):
    code = "import netracer; print(netracer.__version__, netracer.load_tracer('DRIVE').header.scale)"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.split() == [netracer.__version__, "2.0"], run.stderr
