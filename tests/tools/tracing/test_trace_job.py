"""From image files to SWC files: what is written, what is said, what is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import train_2D
from configs.options import TraceOptions, TraceRun
from lib.errors import UserError
from lib.files import write_json
from lib.klib.image_io import read_image, write_png, write_tiff
from lib.klib.spaces import Spaces
from lib.swclib import SwcForest, read_swc, resample
from models.checkpoint import WeightsHeader, save_weights
from models.nenet import NENet
from tests.tools.tracing.oracle import OraclePredictor
from tools.cli import run
from tools.tracing import job as job_module
from tools.tracing.run import trace_files
from tools.tracing.settings import trace_settings, with_defaults
from tools.tracing.trace import in_swc_coordinates
from tools.tracing.tracing_tools_2D import build_trace_job_2d

SHAPE = (60, 110)
SCALE = 2.0
TUBES = np.array([[[25.25, 10.0], [25.25, 99.0]], [[35.25, 10.0], [35.25, 99.0]]])
"""Two tubes, (y, x) in pixel-centre image pixels; each is near enough to the other to be no noise."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A network that has learnt nothing and sees nothing."""
    torch.manual_seed(0)
    return save(tmp_path_factory.mktemp("weights") / "tiny.safetensors", ndim=2)


def save(path: Path, *, ndim: int) -> Path:
    """Write a weight file."""
    patch = (32, 32) if ndim == 2 else (16, 32, 32)
    header = WeightsHeader(ndim, 3 if ndim == 2 else 1, 2, "TEST", SCALE, "corner", patch, 10.0, 2.0, "tile")
    save_weights(path, NENet(header.ndim, header.in_channels, header.width), header)
    return path


@pytest.fixture
def oracle(monkeypatch):
    """Makes every job see the two tubes."""
    spaces = Spaces.scaled(SHAPE, SCALE)

    def build(net, patch_shape, **options) -> OraclePredictor:
        return OraclePredictor(spaces.to_work(TUBES).tolist(), spaces.work_shape, (64, 64))

    monkeypatch.setattr(job_module, "Predictor", build)


@pytest.fixture
def photo(tmp_path) -> Path:
    """An RGB image with the tubes in it."""
    return write(tmp_path / "photos" / "eye.png", pixels())


def pixels() -> np.ndarray:
    """``(*SHAPE, 3)`` uint8."""
    picture = np.full((*SHAPE, 3), 40, np.uint8)
    for row in (25, 35):
        picture[row : row + 1, 10:100] = 220
    return picture


def write(path: Path, array: np.ndarray) -> Path:
    """Write an image by its suffix."""
    path.parent.mkdir(exist_ok=True)
    (write_png if path.suffix == ".png" else write_tiff)(path, array)
    return path


def options(weights: Path, images: Path, **changes) -> TraceOptions:
    """Options that trace into ``out`` beside the folder of the images."""
    out = (images if images.is_dir() else images.parent).parent / "out"
    return TraceRun(**{"weights": weights, "images": images, "out": out, "fronts": 8, "device": "cpu"} | changes)


def trace(weights: Path, images: Path, **changes):
    """Trace and give back what :func:`trace_files` does."""
    run = options(weights, images, **changes)
    return trace_files(build_trace_job_2d(run), run)


def call(argv: list[str]) -> int:
    """Exit code of the script."""
    with pytest.raises(SystemExit) as left:
        run(lambda _: train_2D.main([str(word) for word in argv]))
    return left.value.code


def script(weights: Path, images: Path, out: Path, *more: str) -> int:
    """Exit code of ``--mode test``."""
    return call(["--mode", "test", "--weights", weights, "--images", images, "--out", out, "--device", "cpu", *more])


def refused(capsys) -> str:
    """The one line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


# ---- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin, shift", [("corner", 0.5), ("centre", 0.0)])
def test_tubes_come_back_where_they_are(weights, oracle, photo, origin, shift):
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


def test_a_scale_that_does_not_divide_the_image_shifts_nothing(weights, photo, monkeypatch):
    spaces = Spaces.scaled(SHAPE, 1.37)
    assert not np.allclose(spaces.scale, 1.37)

    def build(*_, **__):
        return OraclePredictor(spaces.to_work(TUBES).tolist(), spaces.work_shape, (64, 64))

    monkeypatch.setattr(job_module, "Predictor", build)
    (traced,) = trace(weights, photo, swc_origin="centre", scale=1.37)
    rows = read_swc(traced.swc).xyz[:, 1]
    np.testing.assert_allclose(np.minimum(abs(rows - 25.25), abs(rows - 35.25)), 0, atol=0.25)


def test_four_files_are_written_and_nothing_else(weights, oracle, photo):
    (traced,) = trace(weights, photo)
    names = sorted(path.name for path in traced.swc.parent.iterdir())
    assert names == ["eye.json", "eye.swc", "eye_centerline.tif", "eye_overlay.png"]
    centerline = tifffile.imread(traced.swc.with_name("eye_centerline.tif"))
    assert centerline.shape == (120, 220) and centerline.max() == round(0.95 * 255)
    assert read_image(traced.swc.with_name("eye_overlay.png"), channels=3).pixels.ndim == 3


def test_the_report_says_what_was_done(weights, oracle, tmp_path):
    gray = write(tmp_path / "photos" / "gray.tif", pixels()[..., 0])
    (traced,) = trace(weights, gray)
    report = json.loads(traced.swc.with_name("gray.json").read_text())
    assert report["image"] == "gray.tif" and report["nodes"] == traced.nodes and report["trees"] == 2
    assert report["length_px"] == pytest.approx(178, abs=8)
    assert set(report["counts"]) == {"seeds", "steps", "nodes", "joins", "loops"}
    assert set(report["seconds"]) == {"encode", "network", "search", "clean", "total"}
    assert report["seconds"]["total"] >= report["seconds"]["search"] > 0
    assert any("gray" in note for note in report["notes"])
    assert report["options"]["scale"] == SCALE and report["options"]["swc_origin"] == "corner"
    assert report["loops_left_open"] == []


def test_loops_left_open_are_told_in_the_coordinates_of_the_swc(weights, photo, monkeypatch):
    angle = np.linspace(0, 2 * np.pi, 61)
    ring = np.stack([30 + 22 * np.sin(angle), 60 + 40 * np.cos(angle)], axis=1)
    spaces = Spaces.scaled(SHAPE, SCALE)
    lines = [*spaces.to_work(TUBES).tolist(), spaces.to_work(ring).tolist()]
    monkeypatch.setattr(job_module, "Predictor", lambda *_, **__: OraclePredictor(lines, spaces.work_shape, (64, 64)))
    (traced,) = trace(weights, photo)
    loops = json.loads(traced.swc.with_name("eye.json").read_text())["loops_left_open"]
    assert loops
    forest = read_swc(traced.swc)
    traces = resample(forest, 1.0).xyz
    for loop in loops:
        for place in (loop["from"], loop["to"]):
            assert np.linalg.norm(traces - place, axis=1).min() < 2.5


@pytest.mark.parametrize("kind", ["gray", "rgba", "16 bit", "16 bit RGB", "float"])
def test_images_of_all_kinds_are_traced(weights, oracle, tmp_path, kind):
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


def test_the_same_seed_writes_the_same_file(weights, oracle, photo, tmp_path):
    texts = [trace(weights, photo, out=tmp_path / name)[0].swc.read_text() for name in "ab"]
    assert texts[0] == texts[1]


def test_a_real_network_goes_through(weights, photo, capsys):
    for features in ("tile", "patch"):
        (traced,) = trace(weights, photo, features=features, seed_threshold=0.02, stop_threshold=0.01, views=4)
        assert traced.swc.is_file() and not traced.message.startswith("error")


# ---- many images -----------------------------------------------------------------------------------------------------


def test_a_broken_image_does_not_stop_the_others(weights, oracle, photo, tmp_path, capsys):
    good = write(photo.with_name("second.tif"), pixels())
    good.with_name("broken.tif").write_bytes(good.read_bytes()[:900])
    assert script(weights, photo.parent, tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert [line.split(":")[0].split("/")[-1] for line in captured.out.splitlines()] == ["eye.swc", "second.swc"]
    last = captured.err.splitlines()[-1]
    assert last.startswith("error: ") and "broken.tif" in last
    assert not list((tmp_path / "out").glob("*broken*"))


def test_two_images_of_one_stem_are_refused(weights, oracle, photo, tmp_path, capsys):
    write(photo.with_suffix(".tif"), pixels())
    assert script(weights, photo.parent, tmp_path / "out") == 2
    assert "another image has the stem eye" in refused(capsys)
    assert not (tmp_path / "out").exists()


def test_the_folder_of_the_images_is_not_written_to(weights, oracle, photo, capsys):
    assert script(weights, photo.parent, photo.parent) == 2
    assert "give another --out" in refused(capsys)
    assert [path.name for path in photo.parent.iterdir()] == ["eye.png"]


def test_an_swc_that_is_no_trace_is_not_replaced(weights, oracle, photo, capsys):
    gold = photo.with_suffix(".swc")
    gold.write_text("1 1 0 0 0 1 -1\n")
    assert script(weights, photo, photo.parent) == 2
    assert "eye.swc: was not written by NETracer and would be replaced" in refused(capsys)
    assert gold.read_text() == "1 1 0 0 0 1 -1\n"
    assert sorted(path.name for path in photo.parent.iterdir()) == ["eye.png", "eye.swc"]
    gold.unlink()
    for _ in range(2):  # An earlier trace is replaced.
        assert script(weights, photo, photo.parent) == 0


def test_a_folder_without_images_is_told(weights, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert script(weights, tmp_path / "empty", tmp_path / "out") == 2
    assert "no image in this folder" in refused(capsys)


# ---- odd and bad input -----------------------------------------------------------------------------------------------


def test_a_black_image_is_an_empty_trace(weights, tmp_path, capsys):
    black = write(tmp_path / "photos" / "black.png", np.zeros((70, 80, 3), np.uint8))
    out = tmp_path / "out"
    assert script(weights, black, out) == 0
    assert "nothing was found to trace" in capsys.readouterr().out
    text = (out / "black.swc").read_text()
    assert all(line.startswith("#") for line in text.splitlines())
    assert len(read_swc(out / "black.swc", allow_empty=True)) == 0
    report = json.loads((out / "black.json").read_text())
    assert report["nodes"] == 0 and any("nothing was found" in note for note in report["notes"])
    with Image.open(out / "black_overlay.png") as picture:
        assert picture.size[0] > 0


def test_an_image_smaller_than_a_patch(weights, tmp_path, capsys):
    small = write(tmp_path / "photos" / "small.png", np.zeros((15, 40, 3), np.uint8))
    assert script(weights, small, tmp_path / "out") == 2
    assert "small.png: 30 x 80 work pixels, smaller than a patch of 32 x 32" in refused(capsys)
    assert script(weights, small, tmp_path / "out", "--scale", "2.2") == 0


def test_weights_that_are_missing_broken_or_of_another_dimension(weights, photo, tmp_path, capsys):
    out = tmp_path / "out"
    assert script(tmp_path / "none.safetensors", photo, out) == 2
    assert "none.safetensors: no such weight file" in refused(capsys)
    assert script(save(tmp_path / "volume.safetensors", ndim=3), photo, out) == 2
    assert "weights for 3D, 2D wanted" in refused(capsys)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:-500])
    assert script(cut, photo, out) == 2
    assert "cut.safetensors: damaged" in refused(capsys)
    assert not out.exists()


def test_missing_images(weights, tmp_path, capsys):
    assert script(weights, tmp_path / "none.png", tmp_path / "out") == 2
    assert "none.png: no such file or folder" in refused(capsys)


def test_out_that_is_a_file(weights, oracle, photo, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert script(weights, photo, tmp_path / "out") == 2
    assert "cannot be made" in refused(capsys)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("name", ["eye.swc", "eye.json", "eye_overlay.png", "eye_centerline.tif"])
def test_a_result_that_cannot_be_written_leaves_nothing_half_done(weights, oracle, photo, tmp_path, capsys, name):
    (tmp_path / "out" / name).mkdir(parents=True)  # A folder is in the place of the file.
    assert script(weights, photo, tmp_path / "out") == 2
    assert f"{name}: cannot be written" in refused(capsys)
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_json_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_json(tmp_path / "file" / "report.json", {})


@pytest.mark.parametrize("words, said", [
    ("--sede 3", "unknown option --sede; did you mean --seed?"),
    ("--scale 0", "--scale 0.0: must be positive"),
    ("--scale .nan", "--scale nan: must be positive"),
    ("--r -1", "--r -1.0: must be positive"),
    ("--seed_threshold 1.5", "--seed_threshold 1.5: give a probability between 0 and 1"),
    ("--stop_threshold 0", "--stop_threshold 0.0: give a probability between 0 and 1"),
    ("--spur -3", "--spur -3.0: give 0 (none) or a length"),
    ("--gap .inf", "--gap inf: give 0 (none) or a length"),
    ("--fronts 0", "--fronts 0: must be at least 1"),
    ("--num_vec 0", "--num_vec 0: must be at least 1"),
    ("--views 0", "--views 0: give 1 to 4"),
    ("--views 5", "--views 5: give 1 to 4"),
    ("--seed -1", "--seed -1: give 0 or more"),
    ("--swc_shift .nan", "--swc_shift nan: give image pixels, at most 1e+06"),
    ("--swc_shift .inf", "--swc_shift inf: give image pixels"),
    ("--swc_shift 1e300", "--swc_shift 1e+300: give image pixels"),
    ("--sure -0.1", "--sure -0.1: give a share from 0 to 1"),
    ("--sure 1.5", "--sure 1.5: give a share from 0 to 1"),
    ("--sure .nan", "--sure nan: give a share from 0 to 1"),
    ("--scale abc", "--scale must be a number, got abc"),
    ("--tile 100", "--tile 100: give a multiple of 16"),
    ("--tile 0", "--tile 0: give a multiple of 16"),
    ("--method best", "--method must be gds or brightest"),
])  # fmt: skip
def test_options_that_mean_nothing(weights, photo, tmp_path, capsys, words, said):
    assert script(weights, photo, tmp_path / "out", *words.split()) == 2
    assert said in refused(capsys)
    assert not (tmp_path / "out").exists()


def test_geodistk_without_the_package(weights, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert script(weights, photo, tmp_path / "out", "--geodesic", "geodistk") == 2
    assert "GeodisTK is not installed; run `make geodistk`" in refused(capsys)


def test_weights_must_be_named(photo, tmp_path, capsys):
    assert call(["--mode", "test", "--images", photo, "--out", tmp_path / "out"]) == 2
    assert refused(capsys) == "error: --weights is missing; see --help"


# ---- the script ------------------------------------------------------------------------------------------------------


def test_help_of_tracing_explains_the_options(capsys):
    assert call(["--mode", "test", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("--weights", "Weight file (.safetensors).", "--gap", "--geodesic", "--views", "in work pixels"):
        assert words in said
    assert "--nb_epoch" not in said


def test_help_without_a_mode_explains_both(capsys):
    assert call(["--help"]) == 0
    said = capsys.readouterr().out
    assert "--nb_epoch" in said and "--stop_threshold" in said


@pytest.mark.parametrize("argv", [[], ["--mode", "trace"], ["--weights", "w.safetensors"]])
def test_no_mode_or_an_unknown_one(argv, capsys):
    assert call(argv) == 2
    assert "give --mode train or --mode test" in refused(capsys)


# ---- settings --------------------------------------------------------------------------------------------------------


def test_what_is_not_given_comes_from_the_weight_file():
    header = WeightsHeader(2, 3, 2, "X", 1.5, "centre", (32, 32), 10.0, 3.0, "patch",
                           thresholds={"seed": 0.7, "stop": 0.3, "spur": 12.0, "gap": 7.0})  # fmt: skip
    given = options(Path("w"), Path("i"), spur=5.0, seed_threshold=0.9)
    full = with_defaults(given, header)
    assert (full.scale, full.swc_origin, full.r, full.features) == (1.5, "centre", 3.0, "patch")
    assert (full.seed_threshold, full.stop_threshold, full.spur, full.gap) == (0.9, 0.3, 5.0, 7.0)
    settings = trace_settings(full)
    assert (settings.search.r, settings.seed_threshold, settings.stop_threshold) == (3.0, 0.9, 0.3)


@pytest.mark.parametrize(
    ("thresholds", "given", "becomes"),
    [({}, None, "joined"), ({"apart": 1.0}, None, "apart"), ({"apart": 1.0}, "joined", "joined")],
)
def test_what_becomes_of_crossings_is_said_by_the_weight_file_unless_it_is_given(thresholds, given, becomes):
    header = WeightsHeader(2, 3, 2, "X", 1.5, "centre", (32, 32), 10.0, 3.0, "patch", thresholds=thresholds)
    assert with_defaults(options(Path("w"), Path("i"), crossings=given), header).crossings == becomes


def test_corners_are_half_a_pixel_from_centres_in_the_plane_only():
    forest = SwcForest.from_positions([[1.0, 2.0, 3.0]], [-1])
    assert in_swc_coordinates(forest, "corner").xyz.tolist() == [[3.5, 2.5, 1.0]]
    assert in_swc_coordinates(forest, "centre").xyz.tolist() == [[3.0, 2.0, 1.0]]
    assert in_swc_coordinates(forest, "corner", -0.25).xyz.tolist() == [[3.25, 2.25, 1.0]]
