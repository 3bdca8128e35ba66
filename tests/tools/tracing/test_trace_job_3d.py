"""Traces of volumes: radii, spacing, maps made before, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import train_2D
import train_3D
from configs.options import TraceRun3D
from lib.klib.image_io import write_tiff
from lib.swclib import read_swc
from models.checkpoint import WeightsHeader, save_weights
from models.nenet import NENet
from tests.tools.tracing.oracle import OraclePredictor
from tools.cli import run
from tools.tracing import job as job_module
from tools.tracing.job import TraceJob
from tools.tracing.run import map_files, trace_files
from tools.tracing.tracing_tools_3D import build_trace_job_3d

SHAPE = (24, 56, 72)
TUBES = np.array([[[10.0, 22.25, 6.0], [12.0, 22.25, 64.0]], [[12.0, 36.25, 6.0], [12.0, 36.25, 64.0]]])
"""Two tubes, (z, y, x) in voxels."""
RADIUS = 2.5


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """The weight file of an untrained network."""
    torch.manual_seed(0)
    return save(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def save(path: Path, **changes) -> Path:
    """Write a weight file for volumes."""
    header = {"training": {"tile_size": [16, 32, 32]}, "thresholds": {"swc_shift": 0.0}} | changes
    save_weights(
        path,
        NENet(3, 1, 2),
        WeightsHeader(3, 1, 2, "TEST", 1.0, "centre", (16, 32, 32), 10.0, 2.0, "tile", **header),
    )
    return path


@pytest.fixture
def oracle(monkeypatch):
    """Make every job see the two tubes."""
    monkeypatch.setattr(job_module, "Predictor", lambda *_, **__: OraclePredictor(TUBES.tolist(), SHAPE, (16, 48, 48)))


@pytest.fixture
def stack(tmp_path) -> Path:
    """A 16-bit volume with the tubes in it."""
    return write(tmp_path / "stacks" / "cell.tif", voxels())


def voxels(spacing=(1.0, 1.0, 1.0)) -> np.ndarray:
    """``SHAPE`` uint16: tubes of :data:`RADIUS` with soft walls, background 100."""
    grid = np.moveaxis(np.indices(SHAPE), 0, -1)
    distance = np.full(SHAPE, np.inf)
    for start, end in TUBES:
        along = np.clip((grid - start) @ (end - start) / ((end - start) ** 2).sum(), 0, 1)
        off = (grid - start - along[..., None] * (end - start)) * spacing
        distance = np.minimum(distance, np.linalg.norm(off, axis=-1))
    return (100 + 4000 / (1 + np.exp(3 * (distance - RADIUS)))).astype(np.uint16)


def write(path: Path, array: np.ndarray) -> Path:
    """Write a volume."""
    path.parent.mkdir(exist_ok=True)
    write_tiff(path, array)
    return path


def job_and_files(run: TraceRun3D) -> tuple[TraceJob, TraceRun3D]:
    """A job, and where its files are."""
    return build_trace_job_3d(run), run


def options(weights: Path, images: Path, **changes) -> TraceRun3D:
    """Options that trace into ``out`` beside the folder of the volumes."""
    given = {"weights": weights, "images": images, "out": images.parent.parent / "out", "device": "cpu"}
    return TraceRun3D(**given | changes)


def call(script, *argv) -> int:
    """Exit code of a script."""
    with pytest.raises(SystemExit) as left:
        run(lambda _: script.main([str(word) for word in argv]))
    return left.value.code


def refused(capsys, script, *argv) -> str:
    """The only line on stderr of a script that fails."""
    capsys.readouterr()
    assert call(script, *argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def words(weights: Path, images: Path, *more, mode: str = "test") -> list:
    """The command line of a mode."""
    out = images.parent.parent / "out"
    return ["--mode", mode, "--weights", weights, "--images", images, "--out", out, "--device", "cpu", *more]


# ---- what comes out --------------------------------------------------------------------------------------------------


def test_tubes_are_traced_with_their_radius(weights, oracle, stack):
    (traced,) = trace_files(*job_and_files(options(weights, stack)))
    forest = read_swc(traced.swc)
    assert len(forest.roots) == 2 and len(forest) == traced.nodes
    rows = forest.positions(3)[:, 1]
    np.testing.assert_allclose(np.minimum(abs(rows - 22.25), abs(rows - 36.25)), 0, atol=0.3)
    inner = (forest.xyz[:, 0] > 10) & (forest.xyz[:, 0] < 60)
    np.testing.assert_allclose(forest.radius[inner], RADIUS, atol=0.4)
    text = traced.swc.read_text()
    assert "units: voxels of the file (x, y, z); radius is in pixels of a slice; 0 is the centre of the first" in text
    names = sorted(path.name for path in traced.swc.parent.iterdir())
    tables = ["cell_branches.csv", "cell_centerline.tif", "cell_overlay.png", "cell_review.csv", "cell_summary.csv"]
    assert names == ["cell.json", "cell.swc", *tables]
    assert set(json.loads(traced.swc.with_suffix(".json").read_text())["seconds"]) >= {"encode", "search", "radius"}


@pytest.mark.parametrize("units", ["um", "voxel"])
def test_a_trace_of_anisotropic_voxels(weights, stack, monkeypatch, units):
    flat = (2.0, 1.0, 1.0)
    tubes = OraclePredictor(TUBES.tolist(), SHAPE, (16, 48, 48), spacing=flat)
    monkeypatch.setattr(job_module, "Predictor", lambda *_, **__: tubes)
    volume = write(stack.with_name("flat.tif"), voxels(flat))
    (traced,) = trace_files(*job_and_files(options(weights, volume, spacing=(0.6, 0.3, 0.3), swc_units=units)))
    report = json.loads(traced.swc.with_suffix(".json").read_text())
    if units == "um":
        assert read_swc(traced.swc).xyz.max(axis=0) == pytest.approx([64 * 0.3, 36.25 * 0.3, 12 * 0.6], abs=0.2)
        assert report["length_um"] == pytest.approx(read_swc(traced.swc).length, abs=0.06)
    forest = read_swc(traced.swc, origin="centre")
    assert len(forest.roots) == 2
    assert forest.xyz[:, 2].max() == pytest.approx(12, abs=0.5)
    inner = (forest.xyz[:, 0] > 10) & (forest.xyz[:, 0] < 60)
    np.testing.assert_allclose(np.median(forest.radius[inner]), RADIUS, atol=0.4)


def test_spacing_comes_from_the_options_else_the_file_else_the_weights(tmp_path, stack):
    known = save(tmp_path / "known.safetensors", spacing=(3.0, 1.0, 1.0))
    job = build_trace_job_3d(options(known, stack))
    assert job.sizes(None) == (3.0, 1.0, 1.0)
    assert job.sizes((0.5, 0.25, 0.25)) == (2.0, 1.0, 1.0)
    assert build_trace_job_3d(options(known, stack, spacing=(1.0, 1.0, 1.0))).sizes((2.0, 1.0, 1.0)) is None


@pytest.mark.parametrize(
    ("changes", "spacing", "note"),
    [
        ({}, [], "size of a voxel unknown, taken as a cube; if it is none, give --spacing"),
        ({"spacing": (1.0, 0.33, 0.33)}, [1, 0.33, 0.33], "voxels of 1 x 0.33 x 0.33 um (z y x), from --spacing"),
    ],
)
def test_the_size_of_a_voxel_is_reported(weights, oracle, stack, changes, spacing, note):
    (traced,) = trace_files(*job_and_files(options(weights, stack, **changes)))
    report = json.loads(traced.swc.with_suffix(".json").read_text())
    assert report.get("voxel_size_um", []) == spacing and "voxel_size_ratio" not in report
    assert note in report["notes"] and traced.line.endswith(note)


def test_micrometres_need_the_size_of_a_voxel(weights, stack, capsys):
    assert "--swc_units um: the size of a voxel is not known" in refused(
        capsys, train_3D, *words(weights, stack, "--swc_units", "um")
    )


def test_trace_with_a_network(weights, stack):
    changes = {"seed_threshold": 0.05, "stop_threshold": 0.01, "views": 2, "adapt": 0.5}
    for features in ("tile", "patch"):
        (traced,) = trace_files(*job_and_files(options(weights, stack, features=features, **changes)))
        assert traced.swc.is_file() and not traced.failed


# ---- maps ------------------------------------------------------------------------------------------------------------


def test_maps_are_written_and_used_for_a_trace(weights, oracle, stack):
    (mapped,) = map_files(*job_and_files(options(weights, stack)))
    skl, dis = (tifffile.imread(path) for path in mapped.maps)
    assert [path.name for path in mapped.maps] == ["cell.pro.skl.tif", "cell.pro.dis.tif"]
    assert skl.shape == dis.shape == SHAPE and skl.dtype == np.uint8 and skl.max() == round(0.95 * 255)
    assert dis.max() == pytest.approx(RADIUS, abs=0.5) and dis[0].max() == 0
    (traced,) = trace_files(*job_and_files(options(weights, stack, maps=mapped.maps[0].parent)))
    forest = read_swc(traced.swc)
    inner = (forest.xyz[:, 0] > 10) & (forest.xyz[:, 0] < 60)
    np.testing.assert_allclose(forest.radius[inner], RADIUS, atol=0.4)
    assert len(forest.roots) == 2


def test_script_makes_maps_and_traces(weights, stack, capsys):
    assert call(train_3D, *words(weights, stack, mode="test_dis")) == 0
    assert "cell.pro.skl.tif and " in capsys.readouterr().out
    assert call(train_3D, *words(weights, stack, "--maps", stack.parent.parent / "out")) == 0
    assert "cell.swc: " in capsys.readouterr().out


def test_maps_of_another_volume_are_refused(weights, oracle, stack, capsys):
    maps = stack.parent.parent / "maps"
    line = refused(capsys, train_3D, *words(weights, stack, "--maps", maps))
    assert "cell.pro.skl.tif; make it with --mode test_dis" in line
    for name in ("cell.pro.skl.tif", "cell.pro.dis.tif"):
        write(maps / name, np.zeros((24, 56, 73), np.uint8))
    line = refused(capsys, train_3D, *words(weights, stack, "--maps", maps))
    assert "cell.pro.skl.tif is 24 x 56 x 73, the volume 24 x 56 x 72: the map of another volume" in line
    assert not (stack.parent.parent / "out" / "cell.swc").exists()


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_images_of_the_other_dimension_are_refused(weights, stack, capsys, tmp_path):
    plane = write(stack.with_name("plane.tif"), np.arange(64 * 64, dtype=np.uint8).reshape(64, 64))
    assert "plane.tif: is a 2D image (64 x 64), a volume is wanted" in refused(capsys, train_3D, *words(weights, plane))
    flat = tmp_path / "flat.safetensors"
    save_weights(flat, NENet(2, 3, 2), WeightsHeader(2, 3, 2, "T", 1.0, "centre", (32, 32), 10.0, 2.0, "tile"))
    assert "cell.tif: is a volume" in refused(capsys, train_2D, *words(flat, stack))
    assert "weights are for 2D, not 3D" in refused(capsys, train_3D, *words(flat, stack))


@pytest.mark.parametrize("name, array, message", [
    ("thin", np.arange(10 * 40 * 40, dtype=np.uint16).reshape(10, 40, 40),
     "thin.tif: 10 x 40 x 40 work pixels, smaller than a patch of 16 x 32 x 32; give a larger --scale, or add empty"),
    ("turned", np.arange(60 * 60 * 18, dtype=np.uint16).reshape(60, 60, 18), "axes seem to be in the order x, y, z"),
    ("empty", np.zeros((20, 40, 40), np.uint8), "empty.tif: is empty"),
    ("holes", np.full((20, 40, 40), np.nan, np.float32), "holes.tif: 32000 values are NaN"),
])  # fmt: skip
def test_invalid_volumes_are_refused(weights, stack, capsys, name, array, message):
    assert message in refused(capsys, train_3D, *words(weights, write(stack.with_name(f"{name}.tif"), array)))
    assert not list((stack.parent.parent / "out").glob("*"))


def test_truncated_volume_is_refused(weights, stack, capsys):
    stack.write_bytes(stack.read_bytes()[:20_000])
    assert "cell.tif: " in refused(capsys, train_3D, *words(weights, stack))


@pytest.mark.parametrize("more, message", [
    (("--memory", 0.1), "voxels need 0.6 GB of memory, --memory is 0.1: give more"),
    (("--memory", 0), "--memory 0.0: must be positive"),
    (("--tile", 40), "--tile 40: give a multiple of 16"),
    (("--views", 9), "--views 9: give 1 to 8"),
    (("--spacing", 1, 0, 1), "--spacing must be above 0, got 1.0 0.0 1.0"),
    (("--spacing", 1, 1), "--spacing 1.0 1.0: 2 numbers, but 3D has 3 axes; give z y x"),
    (("--dark", 2), "--dark 2.0: give a brightness from 0 to 1"),
])  # fmt: skip
def test_meaningless_options_are_refused(weights, stack, capsys, more, message):
    assert message in refused(capsys, train_3D, *words(weights, stack, *more))
