"""Calibration on traces whose best thresholds and shifts are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lib.errors import UserError
from lib.swclib import SwcForest, resample, translate
from models.checkpoint import WeightsHeader, load_weights, save_weights
from models.nenet import NENet
from models.RPNet_2D import build_rpnet_2d
from models.RPNet_3D import build_rpnet_3d
from tests.tools.training.training_runs import write_dataset
from tools import calibrate
from tools.calibrate import Trial, appearance, best_shift, best_thresholds, best_trial, mean_scores, spread
from tools.data.prepared import TRAINING_FOLDER, PreparedDataset
from tools.data.sampling import SampleShape
from tools.data.training_image import Source, TrainingImage
from tools.tracing.tracing_tools_2D import radii_2d

SCALE = 2.0


@pytest.fixture(scope="module")
def training_image() -> TrainingImage:
    """A training image with a wave as its gold tree, with a node per pixel as in real gold trees."""
    x = np.arange(10.0, 190.0, 4.0)
    wave = np.stack([60 + 25 * np.sin(x / 20), x], axis=1)
    tree = resample(SwcForest.from_positions(wave, np.arange(-1, len(wave) - 1)), 1.0)
    return TrainingImage.build(
        "wave", np.zeros((120, 200, 3), np.uint8), tree, SampleShape(margin=1), source=Source("", SCALE)
    )


def test_shift_of_a_gold_tree_is_found(training_image):
    beside = translate(training_image.tree, (0.25 * SCALE, 0.25 * SCALE))
    assert best_shift([(training_image, beside)]) == pytest.approx(-0.25, abs=0.051)


def test_best_trial_is_the_best_trace(training_image):
    far = translate(training_image.tree, (3 * SCALE, 0))
    candidates = [Trial({"seed": 0.4}, [far]), Trial({"seed": 0.5}, [training_image.tree]), Trial({"seed": 0.6}, [far])]
    best, scores = best_trial(iter(candidates), [training_image])
    assert best.thresholds == {"seed": 0.5}
    assert scores["SSD_F1"] == 1 and scores["PE"] == 0


@pytest.mark.parametrize("best", [(0.2, 0.1), (0.7, 0.5), (0.4, 0.2)])
def test_search_goes_beyond_the_grid(training_image, monkeypatch, best):
    asked = []

    def trials(job, training_images, pairs):
        asked.extend(pairs)
        for pair in pairs:
            off = float(np.abs(np.array(pair) - best).sum())
            yield Trial(dict(zip(("seed", "stop"), pair, strict=True)), [translate(training_image.tree, (8 * off, 0))])

    monkeypatch.setattr(calibrate, "trials", trials)
    trial, _ = best_thresholds(None, [training_image])
    assert (trial.thresholds["seed"], trial.thresholds["stop"]) == best
    assert len(asked) == len(set(asked)) and all(stop < seed for seed, stop in asked)


def test_empty_trace_scores_zero(training_image):
    assert mean_scores([SwcForest.empty()], [training_image])["SSD_F1"] == 0


def header(hold_out: list[str]) -> WeightsHeader:
    """Header of an untrained network."""
    training = {"hold_out": hold_out}
    return WeightsHeader(2, 3, 2, "toy", 1.0, "centre", (32, 32), 6.0, 2.0, "tile", training=training)


def calibrated(folder: Path, *words: str, hold_out: str = "b") -> tuple[NENet, WeightsHeader]:
    """What is written for a toy dataset and an untrained network."""
    data, run, out = write_dataset(folder / "data"), folder / "run.safetensors", folder / "out.safetensors"
    save_weights(run, build_rpnet_2d(2), header([hold_out]))
    calibrate.main(["--weights", str(run), "--data", str(data), "--out", str(out), *words])
    return load_weights(out)


@pytest.fixture
def few_pairs(monkeypatch):
    """Try few pairs of thresholds."""
    monkeypatch.setattr(calibrate, "SEEDS", (0.5,))
    monkeypatch.setattr(calibrate, "MOVES", ())


def test_thresholds_are_added_and_weights_kept(tmp_path, few_pairs, capsys):
    after, written = calibrated(tmp_path, "--views", "2", "--crossings", "split", "--metres", "0.5")
    before, _ = load_weights(tmp_path / "run.safetensors")
    assert written.thresholds["views"] == 2 and written.thresholds["seed"] == 0.5 and "swc_shift" in written.thresholds
    assert written.thresholds["apart"] == 1 and written.thresholds["adapt"] == 0.5
    assert written.metrics["held_out"]["images"] == ["b"]
    assert 0 < written.seen["bright"] <= 1 and written.seen["metres"] == 0.5
    assert all((a == b).all() for a, b in zip(before.parameters(), after.parameters(), strict=True))
    out, err = capsys.readouterr()
    assert out.startswith("chosen on b: seed 0.5, stop 0.") and ", views 2, " in out and "{" not in out
    assert err.startswith("held out: b; trained on: none; each as it is and at 0.7 of its brightness\n")
    assert "tracing b with 2 pairs" in err and "cleaning up and scoring" in err


def test_training_images_can_count_but_are_not_scored(tmp_path, few_pairs):
    _, written = calibrated(tmp_path, "--views", "1", "--seen_images", "1")
    assert written.metrics["chosen_on"] == ["b", "a"] and written.metrics["held_out"]["images"] == ["b"]


@pytest.mark.parametrize(
    ("given", "changes", "adapt"),
    [(None, {}, 0.5), (None, {"local_contrast": 50.0}, 0.0), (None, {"ndim": 3}, 0.0), (0.2, {"ndim": 3}, 0.2)],
)
def test_norms_adapt_by_default_to_images_in_which_light_shows(tmp_path, given, changes, adapt):
    options = calibrate.CalibrateOptions(tmp_path, tmp_path, tmp_path, adapt=given)
    assert calibrate.with_adapt(options, replace(header(["a"]), **changes)).adapt == adapt


def test_spread_is_even():
    assert spread("abcdefg", 3) == ["a", "d", "g"] and spread("ab", 5) == ["a", "b"] and spread("ab", 0) == []


def test_the_width_of_tubes_and_the_brightness_are_measured(training_image):
    """Three tubes of 5 work pixels; the map sees their axes."""
    pixels = np.full((120, 200, 3), 200, np.uint8)
    centerline = np.zeros((120, 200), np.float32)
    for y in (30, 60, 90):
        pixels[y - 2 : y + 3, 10:190] = 90
        centerline[y, 10:190] = 0.9
    tubes = TrainingImage.build("tubes", pixels, training_image.tree, SampleShape(step=6.0, margin=2, jitter=1.0))
    spec = SimpleNamespace(ndim=2, radii=radii_2d)
    known = {
        "predictor": SimpleNamespace(encode=lambda _, views: SimpleNamespace(centerline=centerline)),
        "tracer": None,
    }
    seen = {"options": SimpleNamespace(seed_threshold=0.5), "header": SimpleNamespace(local_contrast=0.0)}
    job = SimpleNamespace(spec=spec, **seen, **known)
    looks = appearance(job, [tubes, tubes])
    assert looks["bright"] == pytest.approx(200 / 255, abs=1e-3)
    assert [looks[name] for name in ("narrow", "width", "wide")] == pytest.approx([5, 5, 5], abs=0.5)


def test_missing_held_out_image_is_refused(tmp_path):
    with pytest.raises(UserError, match="40"):
        calibrated(tmp_path, hold_out="40")
    assert not (tmp_path / "out.safetensors").exists()


def test_weights_that_see_local_contrast_are_calibrated_on_images_that_have_it(tmp_path, few_pairs):
    sees = replace(header(["b"]), in_channels=6, local_contrast=20.0)
    run, out = tmp_path / "run.safetensors", tmp_path / "out.safetensors"
    save_weights(run, build_rpnet_2d(2, local_contrast=20.0), sees)
    plain, data = write_dataset(tmp_path / "plain"), write_dataset(tmp_path / "data", local_contrast=20.0)
    with pytest.raises(UserError, match="saw --local_contrast 20, the data has 0"):
        calibrate.main(["--weights", str(run), "--data", str(plain), "--out", str(out)])
    calibrate.main(["--weights", str(run), "--data", str(data), "--out", str(out)])
    _, written = load_weights(out)
    assert written.local_contrast == 20.0 and written.confidence
    photographs = [image.pixels for image in PreparedDataset.load(plain).training_images(plain, ["b", "a"])]
    bright = np.median(np.percentile(photographs, 99.9, axis=(1, 2, 3))) / 255
    assert written.seen["bright"] == pytest.approx(bright, abs=1e-3)


def test_volumes_are_calibrated(tmp_path, few_pairs):
    tree = SwcForest.from_positions([(5.0, 8.0, 9.0), (18.0, 40.0, 40.0)], [-1, 0])
    shape = SampleShape(step=6.0, margin=2, jitter=1.0, spacing=(2.0, 1.0, 1.0))
    for name in ("a", "b"):
        pixels = np.random.default_rng(0).integers(0, 200, (24, 48, 48, 1)).astype(np.uint8)
        TrainingImage.build(name, pixels, tree, shape).save(tmp_path / "data" / TRAINING_FOLDER / name)
    PreparedDataset("toy", 1.0, "centre", (16, 32, 32), shape, ("a", "b"), (0, 0)).save(tmp_path / "data")
    training = {"hold_out": ["b"]}
    said = WeightsHeader(3, 1, 2, "toy", 1.0, "centre", (16, 32, 32), 6.0, 2.0, "tile", training=training)
    said = replace(said, spacing=(2.0, 1.0, 1.0))
    save_weights(tmp_path / "run.safetensors", build_rpnet_3d(2), said)
    weights, data, out = tmp_path / "run.safetensors", tmp_path / "data", tmp_path / "o.safetensors"
    words = ["--weights", weights, "--data", data, "--out", out]
    calibrate.main([*map(str, words), "--views", "1", "--shift_images", "1"])
    _, written = load_weights(tmp_path / "o.safetensors", ndim=3)
    assert written.thresholds["seed"] == 0.5 and written.spacing == (2.0, 1.0, 1.0)
