"""The script that traces image files: folders, refusals and help."""

from __future__ import annotations

import importlib.util
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.swclib import read_swc
from tests.tools.tracing.tubes import call, pixels, refused, save, script, write
from tools.tracing.job import Prepared, TraceJob


def test_broken_image_does_not_stop_the_others(weights, oracle, photo, tmp_path, capsys):
    good = write(photo.with_name("second.tif"), pixels())
    good.with_name("broken.tif").write_bytes(good.read_bytes()[:900])
    assert script(weights, photo.parent, tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert [line.split(":")[0].split("/")[-1] for line in captured.out.splitlines()] == ["eye.swc", "second.swc"]
    error, last = captured.err.splitlines()[-2:]
    assert error.startswith("error: ") and "broken.tif" in error and last == "1 of 3 files failed, see above"
    assert not list((tmp_path / "out").glob("*broken*"))


def test_shipped_weights_are_found_by_name(oracle, photo, tmp_path, capsys):
    assert script("DRIVE", photo, tmp_path / "out") == 0
    assert "# trace of eye.png with DRIVE.safetensors\n" in (tmp_path / "out" / "eye.swc").read_text()
    assert script("DRIV", photo, tmp_path / "out") == 2
    assert "DRIV: no such weight file" in (line := refused(capsys)) and "did you mean DRIVE?" in line


def test_each_image_is_reported_before_the_next_begins(weights, oracle, photo, tmp_path, capsys, monkeypatch):
    write(photo.with_name("second.tif"), pixels())
    shown = []

    read = TraceJob.read

    def watched(job: TraceJob, image: Path, **options) -> Image:
        shown.append(capsys.readouterr().out)
        return read(job, image)

    monkeypatch.setattr(TraceJob, "read", watched)
    assert script(weights, photo.parent, tmp_path / "out") == 0
    assert shown[0] == "" and "eye.swc: " in shown[1] and "in 2 trees" in shown[1]


def test_an_image_is_forgotten_before_the_next_is_read(weights, oracle, photo, tmp_path, monkeypatch):
    """A volume may take all the memory that there is."""
    for name in ("second", "third"):
        write(photo.with_name(f"{name}.tif"), pixels())
    read, prepare, made, alive = TraceJob.read, TraceJob.prepare, [], []

    def watched_prepare(job: TraceJob, *args, **options) -> Prepared:
        prepared = prepare(job, *args, **options)
        made.append(weakref.ref(prepared))
        return prepared

    def watched_read(job: TraceJob, image: Path, **options) -> Image:
        alive.append(sum(prepared() is not None for prepared in made))
        return read(job, image)

    monkeypatch.setattr(TraceJob, "prepare", watched_prepare)
    monkeypatch.setattr(TraceJob, "read", watched_read)
    assert script(weights, photo.parent, tmp_path / "out") == 0
    assert alive == [0, 0, 0]


def test_images_traced_together_give_the_same_files(weights, photo, tmp_path, capsys):
    """With a real network: one image is broken, and there is room for more than there are."""
    for number, side in enumerate((70, 96, 64)):
        write(
            photo.with_name(f"noise{number}.tif"),
            np.random.default_rng(number).integers(0, 255, (side, 80, 3), np.uint8),
        )
    photo.with_name("broken.tif").write_bytes(b"no image")
    options = "--seed_threshold", 0.02, "--stop_threshold", 0.01
    outs = [tmp_path / f"out{together}" for together in (1, 3)]
    for together, out in zip((1, 3), outs, strict=True):
        assert script(weights, photo.parent, out, "--together", together, *options) == 2
        shown = capsys.readouterr()
        assert len(shown.out.splitlines()) == 4 and "1 of 5 files failed" in shown.err
    for swc in sorted(outs[0].glob("*.swc")):
        ours, theirs = (read_swc(out / swc.name) for out in outs)
        assert len(ours) > 3 and ours.parent.tolist() == theirs.parent.tolist()
        np.testing.assert_allclose(ours.xyz, theirs.xyz, atol=1e-3)


def test_two_images_with_one_stem_are_refused(weights, oracle, photo, tmp_path, capsys):
    write(photo.with_suffix(".tif"), pixels())
    assert script(weights, photo.parent, tmp_path / "out") == 2
    assert "another image has the stem eye" in refused(capsys)
    assert not (tmp_path / "out").exists()


def test_output_into_the_image_folder_is_refused(weights, oracle, photo, capsys):
    assert script(weights, photo.parent, photo.parent) == 2
    assert "give another --out" in refused(capsys)
    assert [path.name for path in photo.parent.iterdir()] == ["eye.png"]


def test_swc_not_written_by_netracer_is_not_replaced(weights, oracle, photo, capsys):
    gold = photo.with_suffix(".swc")
    gold.write_text("1 1 0 0 0 1 -1\n")
    assert script(weights, photo, photo.parent) == 2
    assert "eye.swc: was not written by NETracer and would be replaced" in refused(capsys)
    assert gold.read_text() == "1 1 0 0 0 1 -1\n"
    assert sorted(path.name for path in photo.parent.iterdir()) == ["eye.png", "eye.swc"]
    gold.unlink()
    for _ in range(2):  # An earlier trace is replaced.
        assert script(weights, photo, photo.parent) == 0


def test_folder_without_images_is_refused(weights, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert script(weights, tmp_path / "empty", tmp_path / "out") == 2
    assert "no image in this folder" in refused(capsys)


def test_black_image_gives_empty_trace(weights, tmp_path, capsys):
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


def test_image_smaller_than_a_patch_is_refused(weights, tmp_path, capsys):
    small = write(tmp_path / "photos" / "small.png", np.zeros((15, 40, 3), np.uint8))
    assert script(weights, small, tmp_path / "out") == 2
    assert "small.png: 30 x 80 work pixels, smaller than a patch of 32 x 32" in refused(capsys)
    assert script(weights, small, tmp_path / "out", "--scale", "2.2") == 0


def test_missing_damaged_or_3d_weights_are_refused(weights, photo, tmp_path, capsys):
    out = tmp_path / "out"
    assert script(tmp_path / "none.safetensors", photo, out) == 2
    line = refused(capsys)
    assert (
        "none.safetensors: no such weight file" in line
        and "known are CHASEDB1, DRIVE, FMOST, OP, RETINA_AV, ROAD" in line
    )
    assert script(save(tmp_path / "volume.safetensors", ndim=3), photo, out) == 2
    assert "weights are for 3D, not 2D" in refused(capsys)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:-500])
    assert script(cut, photo, out) == 2
    assert "cut.safetensors: damaged" in refused(capsys)
    assert not out.exists()


def test_missing_image_is_refused(weights, tmp_path, capsys):
    assert script(weights, tmp_path / "none.png", tmp_path / "out") == 2
    assert "none.png: no such file or folder" in refused(capsys)


def test_out_that_is_a_file_is_refused(weights, oracle, photo, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert script(weights, photo, tmp_path / "out") == 2
    assert "cannot be made" in refused(capsys)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("words, message", [
    ("--sede 3", "unknown option --sede; did you mean --seed?"),
    ("--scale 0", "--scale 0.0: must be positive"),
    ("--scale .nan", "--scale nan: must be positive"),
    ("--r -1", "--r -1.0: must be positive"),
    ("--seed_threshold 1.5", "--seed_threshold 1.5: give a probability between 0 and 1"),
    ("--stop_threshold 0", "--stop_threshold 0.0: give a probability between 0 and 1"),
    ("--spur -3", "--spur -3.0: give a length in work pixels, 0 to turn it off"),
    ("--gap .inf", "--gap inf: give a length in work pixels, 0 to turn it off"),
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
    ("--scale abc", "--scale must be a number or auto, got abc"),
    ("--tile 100", "--tile 100: give a multiple of 16"),
    ("--tile -16", "--tile -16: give a multiple of 16"),
    ("--method best", "--method must be gds or brightest"),
])  # fmt: skip
def test_meaningless_options_are_refused(weights, photo, tmp_path, capsys, words, message):
    assert script(weights, photo, tmp_path / "out", *words.split()) == 2
    assert message in refused(capsys)
    assert not (tmp_path / "out").exists()


def test_geodistk_without_the_package_is_refused(weights, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert script(weights, photo, tmp_path / "out", "--geodesic", "geodistk") == 2
    assert "GeodisTK is not installed; run `make geodistk`" in refused(capsys)


def test_weights_are_required(photo, tmp_path, capsys):
    assert call(["--mode", "test", "--images", photo, "--out", tmp_path / "out"]) == 2
    assert refused(capsys) == "error: --weights is missing; see --help"


def test_help_of_tracing_explains_its_options(capsys):
    assert call(["--mode", "test", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "--weights",
        "or the name of shipped weights",
        "--gap",
        "--geodesic",
        "--views",
        "in work pixels",
    ):
        assert words in shown
    assert "--nb_epoch" not in shown


def test_help_without_a_mode_explains_both(capsys):
    assert call(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "--nb_epoch" in shown and "--stop_threshold" in shown


@pytest.mark.parametrize("argv", [[], ["--mode", "trace"], ["--weights", "w.safetensors"]])
def test_missing_or_unknown_mode_is_refused(argv, capsys):
    assert call(argv) == 2
    assert "give --mode train or --mode test" in refused(capsys)
