"""The shipped weights load, are small, and say what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage import data

from benchmarks.card_figures import BODY, BODY_RADIUS, simulated_cell
from configs.options import TraceRun, TraceRun3D
from lib.klib.volume_io import Volume
from lib.swclib.forest import SOMA_TYPE
from lib.swclib.metrics import score
from models.checkpoint import load_weights
from tools.inference.encoded_image import Tips
from tools.inference.predictor import Predictor
from tools.simulation import demo_volume
from tools.tracing.tracing_tools_2D import build_trace_job_2d
from tools.tracing.tracing_tools_3D import build_trace_job_3d

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = sorted((ROOT / "weights").glob("*.safetensors"))


def test_there_are_weights():
    assert "DRIVE" in [path.stem for path in WEIGHTS]
    assert sum(path.stat().st_size for path in WEIGHTS) < 60e6


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_weights_say_what_they_are(path):
    net, header = load_weights(path)
    assert path.stat().st_size < 20e6
    assert header.dataset == path.stem
    assert 0 < header.thresholds["stop"] <= header.thresholds["seed"] < 1
    assert header.metrics and header.training["hold_out"]
    assert (ROOT / "docs" / "models" / f"{path.stem}.md").is_file()
    assert net.width == header.width
    assert not [value for value in header.training.values() if isinstance(value, str) and "/" in value]


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_weights_can_be_run_patch_by_patch_as_in_the_paper(path):
    """Their patches need not be halved four times by their networks, whose trunk is coarser than the image."""
    net, header = load_weights(path)
    predictor = Predictor(net, header.patch_size, features="patch")
    image = predictor.encode(np.full((*(2 * np.array(header.patch_size)), net.in_channels), 0.5, np.float32))
    tip = np.array(header.patch_size, float)
    node, edge, _ = predictor.predict(Tips(image, tip[None], np.repeat(tip[None, None, None], 2, axis=2)))
    assert node.shape == edge.shape == (1, *header.patch_size)


def test_a_real_vessel_tree_is_found():
    options = TraceRun(
        ROOT / "weights" / "DRIVE.safetensors", images=Path(), out=Path(), scale=0.8, swc_origin="centre"
    )
    pixels = data.retina()[300:700, 700:1100, :3] / np.float32(255)
    trace = build_trace_job_2d(options).trace(pixels)
    forest = trace.forest
    # By eye some 1500 px of vessels lie in this corner beside the optic disc.
    assert 800 < forest.length < 4000
    assert trace.centerline.shape == (320, 320)
    on_line = trace.centerline[tuple(np.rint((forest.positions(2) + 0.5) * 0.8 - 0.5).astype(int).T.clip(0, 319))]
    assert np.median(on_line) > 0.3


@pytest.mark.skipif(not (ROOT / "weights" / "FMOST.safetensors").is_file(), reason="not trained yet")
def test_a_simulated_neuron_is_found():
    volume, gold, spacing = demo_volume(0)
    options = TraceRun3D(ROOT / "weights" / "FMOST.safetensors", images=Path(), out=Path())
    job = build_trace_job_3d(options)
    forest = job.trace(Volume(volume).unit(job.levels), spacing=spacing).forest
    result = score(gold, forest).row()
    assert result["SSD_F1"] > 0.8 and result["L_F1"] > 0.75


def test_the_neurites_of_a_simulated_cell_are_joined_at_its_body():
    simulated = simulated_cell()
    job = build_trace_job_3d(TraceRun3D(ROOT / "weights" / "FMOST.safetensors", images=Path(), out=Path()))
    forest = job.trace(Volume(simulated.volume).unit(job.levels)).forest
    (body,) = np.flatnonzero(forest.types == SOMA_TYPE)
    assert body in forest.roots and forest.n_children[body] == 7
    np.testing.assert_allclose(forest.positions(3)[body], BODY, atol=1.0)
    assert forest.radius[body] == pytest.approx(BODY_RADIUS, abs=2.0)
    assert score(simulated.gold, forest).row()["paths_F1"] > 0.9
