"""prepare_datasets_2D on small synthetic datasets: results, errors and the command line."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prepare_datasets_2D
from configs.checks import check_prepare_options
from configs.config_2d import PREPARE_PRESETS
from configs.options import PrepareOptions
from lib.errors import UserError
from lib.klib.contrast import with_local_contrast
from lib.klib.decoded import ReadOptions
from lib.klib.drawing import draw_edges
from lib.klib.image_io import read_image, write_png, write_tiff
from lib.klib.spaces import Spaces
from lib.swclib.forest import KIND_TYPE
from tools.cli import run
from tools.data import prepare as preparing
from tools.data.patch_stacks import STACK_FILES, ImageStacks
from tools.data.prepare import apportioned
from tools.data.prepared import TRAINING_FOLDER, PreparedDataset
from tools.data.preview import rows_shown
from tools.data.sampling import Kind
from tools.dataset_2d import PREPARE_2D

SHAPE = (121, 141)
Line = Sequence[Sequence[float]]
LINE, STEEP = ((20.3, 15.6), (90.7, 118.2)), ((15.2, 88.4), (108.2, 60.7))
"""Ends of a tube, (y, x), pixel-centre."""


def tube_image(shape: Sequence[int] = SHAPE, line: Line = LINE) -> np.ndarray:
    """A bright tube of Gaussian profile, σ = 1.5 px, on black: ``(y, x, 3)`` uint8."""
    pixels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    start, end = np.array(line)
    fraction = np.clip((pixels - start) @ (end - start) / np.sum((end - start) ** 2), 0, 1)
    distance = np.linalg.norm(pixels - start - fraction[..., None] * (end - start), axis=-1)
    return np.repeat(np.rint(255 * np.exp(-(distance**2) / (2 * 1.5**2)))[..., None], 3, axis=2).astype(np.uint8)


def write_line(path: Path, line: Line = LINE, shift: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{i + 1} 0 {x + shift} {y + shift} 0 1 {i or -1}" for i, (y, x) in enumerate(line)]
    path.write_text("\n".join(rows) + "\n")


def make_dataset(root: Path, names: Sequence[str] = ("a", "b", "c"), shift: float = 0.0) -> Path:
    for name in names:
        write_tiff(root / "images" / f"{name}.tif", tube_image())
        write_line(root / "swc" / f"{name}.swc", shift=shift)
    return root


def options(root: Path, out: Path, **changes: Any) -> PrepareOptions:
    given = PrepareOptions(data_root=root, out=out, n_samples=60, patch_size=(32, 32), margin=3, workers=1)
    return replace(given, **changes)


def prepare(given: PrepareOptions, **more: Any) -> PreparedDataset:
    """Prepare 2D data."""
    return preparing.prepare(given, PREPARE_2D, **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ---- results -------------------------------------------------------------------------------------------------------


def test_what_is_written(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    prepared = prepare(options(make_dataset(tmp_path / "data"), out, preview=True))
    assert prepared == PreparedDataset.load(out)
    assert prepared.images == ("a", "b", "c")
    assert prepared.n_samples == (20, 20, 20)
    assert sorted(p.name for p in out.iterdir()) == ["dataset.json", "preview.png", "training_datasets"]
    files = {"image.tif", "tree.swc", "samples.csv", *STACK_FILES.values()}
    for name in prepared.images:
        assert {p.name for p in (out / TRAINING_FOLDER / name).iterdir()} == files
    assert len(files) <= 10
    assert [p.name for p in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("line", [LINE, STEEP])
@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0])
@pytest.mark.parametrize(("origin", "shift"), [("corner", 0.5), ("centre", 0.0)])
def test_labels_sit_on_the_image(tmp_path: Path, line: Line, scale: float, origin: str, shift: float) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    write_tiff(root / "images" / "a.tif", tube_image(SHAPE, line))
    write_line(root / "swc" / "a.swc", line, shift=shift)
    (image,) = prepare(options(root, out, scale=scale, swc_origin=origin)).training_images(out, ["a"])
    # The tree ends where the tube does.
    np.testing.assert_allclose(image.tree.positions(2), (np.array(line) + 0.5) * image.shape / SHAPE - 0.5, atol=1e-3)
    # Across the line, tube and label have the same centre of mass. Along it, the ends of the label are whole pixels.
    of_image = np.average(np.argwhere(np.ones(image.shape)), axis=0, weights=image.pixels[..., 0].ravel())
    of_label = np.argwhere(image.centerline).mean(axis=0)
    across = np.flip(image.tree.positions(2)[1] - image.tree.positions(2)[0]) * (1, -1)
    assert abs((of_label - of_image) @ across / np.linalg.norm(across)) < 0.05
    stacks = ImageStacks.open(out / TRAINING_FOLDER / "a")
    patch, label = stacks.maps["image"][..., 0], stacks.maps["centerline"] > 0
    # A label reaches one pixel from the axis of a tube with σ = 1.5 px: it is bright, and dark pixels are unlabelled.
    assert np.median(patch[label]) > 200
    assert np.percentile(patch[label], 2) > 100
    assert not label[patch < 40].any()


def test_the_result_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    for workers in (1, 2):
        prepare(options(root, tmp_path / f"out{workers}", workers=workers, preview=True))
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")


def test_random_seed_decides(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", ["a"])
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        prepare(options(root, tmp_path / name, seed=seed))
    one, same, other = (contents(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same
    assert one[f"{TRAINING_FOLDER}/a/node_walk.tif"] != other[f"{TRAINING_FOLDER}/a/node_walk.tif"]
    assert one[f"{TRAINING_FOLDER}/a/tree.swc"] == other[f"{TRAINING_FOLDER}/a/tree.swc"]


def test_each_image_has_its_own_random_samples(tmp_path: Path) -> None:
    prepare(options(make_dataset(tmp_path / "data", ["a", "b"]), tmp_path / "out"))
    tables = [(tmp_path / "out" / TRAINING_FOLDER / name / "samples.csv").read_text() for name in "ab"]
    assert tables[0] != tables[1]


def test_without_samples_only_images_and_trees_are_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared = prepare(options(make_dataset(tmp_path / "data", ["a"]), out, n_samples=0, preview=True))
    assert {p.name for p in (out / TRAINING_FOLDER / "a").iterdir()} == {"image.tif", "tree.swc"}
    assert (out / "preview.png").is_file()
    assert len(prepared.training_images(out, ["a"])[0].walks.sites)


def test_the_preview_shows_few_negatives_and_every_image() -> None:
    kinds = [np.repeat([Kind.NEGATIVE, Kind.WALK, Kind.SEED], counts) for counts in [(40, 8, 0), (6, 12, 4), (9, 0, 0)]]
    rows = rows_shown(kinds)
    kind, image = np.concatenate(kinds)[rows], np.repeat([0, 1, 2], [len(each) for each in kinds])[rows]
    assert kind.tolist() == [Kind.WALK] * 8 + [Kind.SEED] * 2 + [Kind.NEGATIVE] * 2
    assert image.tolist() == [0, 1] * 4 + [1, 1] + [0, 1]


def test_all_kinds_are_drawn(tmp_path: Path) -> None:
    prepare(options(make_dataset(tmp_path / "data", ["a"]), tmp_path / "out", n_samples=300))
    kind = ImageStacks.open(tmp_path / "out" / TRAINING_FOLDER / "a").kind
    assert set(kind) == {Kind.WALK, Kind.SEED, Kind.NEGATIVE}


def test_apportioned_counts_are_exact() -> None:
    assert apportioned(10, [1, 1, 1]) == [4, 3, 3]
    assert apportioned(7, [0, 2, 5]) == [0, 2, 5]
    assert apportioned(0, [1, 2]) == [0, 0]
    assert apportioned(5, [0, 0]) == [0, 0]
    assert sum(apportioned(150_000, np.random.default_rng(0).random(17).tolist())) == 150_000


def test_image_without_a_long_branch_gets_no_samples_and_a_note(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", ["a", "b"])
    write_line(root / "swc" / "b.swc", [(40, 40), (40, 52)])
    prepared = prepare(options(root, tmp_path / "out"))
    assert prepared.n_samples == (60, 0)
    assert prepared.notes["b"][-1] == "no branch is long enough for a walk, so no samples"


def test_all_black_image_is_valid(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", ["a"])
    write_tiff(root / "images" / "a.tif", np.zeros((*SHAPE, 3), np.uint8))
    prepare(options(root, tmp_path / "out"))
    assert not ImageStacks.open(tmp_path / "out" / TRAINING_FOLDER / "a").maps["image"].any()


def test_gray_image_and_label_are_converted_with_notes(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "labels").mkdir(parents=True)
    write_tiff(root / "images" / "a.tif", tube_image()[..., 0])
    write_png(root / "labels" / "a.png", (tube_image()[..., 0] > 100).astype(np.uint8) * 255)
    prepared = prepare(options(root, tmp_path / "out"))
    notes = prepared.notes["a"]
    assert any("gray" in note for note in notes)
    assert "tree taken from the label's skeleton, 0 loops cut" in notes


def test_earlier_result_is_replaced_completely(tmp_path: Path) -> None:
    root, out = make_dataset(tmp_path / "data"), tmp_path / "out"
    prepare(options(root, out, preview=True))
    (root / "images" / "c.tif").unlink()
    (root / "swc" / "c.swc").unlink()
    prepare(options(root, out))
    assert sorted(p.name for p in (out / TRAINING_FOLDER).iterdir()) == ["a", "b"]
    assert not (out / "preview.png").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "out"]


def test_the_spec_sets_the_share_of_negatives(tmp_path: Path) -> None:
    spec = replace(PREPARE_2D, negative_share=0.0)
    prepared = preparing.prepare(options(make_dataset(tmp_path / "data", ["a"]), tmp_path / "out"), spec)
    assert prepared.sample_shape.negative_share == 0
    assert (ImageStacks.open(tmp_path / "out" / TRAINING_FOLDER / "a").kind != Kind.NEGATIVE).all()


# ---- kinds of tube -------------------------------------------------------------------------------------------------


def kinds_dataset(root: Path, folder: str = "av") -> Path:
    """One image with two tubes of kinds 1 and 2 that cross, and a mask that has a third one, too."""
    shared = {"av": 3, "kinds": 255}[folder]
    lines = [np.array([line], float) for line in (LINE, STEEP, ((105.0, 20.0), (105.0, 50.0)))]
    one, two, third = (draw_edges(line, 2.0, SHAPE) for line in lines)
    labels = one + 2 * two.astype(np.uint8)
    labels[one & two] = shared
    write_tiff(root / "images" / "a.tif", np.maximum(tube_image(), tube_image(line=STEEP)))
    for name, array in {"labels": (one | two | third) * np.uint8(255), folder: labels}.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        write_png(root / name / "a.png", array)
    return root


@pytest.mark.parametrize("folder", ["av", "kinds"])
def test_gold_trees_of_kinds_cross_without_joining(tmp_path: Path, folder: str) -> None:
    out = tmp_path / "out"
    given = options(kinds_dataset(tmp_path / "data", folder), out, kinds=True, scale=2.0, n_samples=0, preview=True)
    prepared = prepare(given)
    picture = read_image(out / "preview_kinds.png", channels=3).pixels
    red, blue = ((abs(picture - colour) < 0.2).all(axis=2) for colour in ([1, 0.31, 0.31], [0.31, 0.63, 1]))
    assert red[40:180].any() and blue[40:180].any() and not (red & blue).any()
    assert prepared.kind_names == (("artery", "vein") if folder == "av" else ())
    assert prepared.kinds == 2 and prepared.notes["a"] == [f"trees of one kind each, from {folder}/"]
    (image,) = prepared.training_images(out, ["a"])
    assert sorted(image.tree.types[image.tree.roots]) == [KIND_TYPE, KIND_TYPE + 1, KIND_TYPE + 2]
    assert image.n_kinds == 2 and image.walks.near_crossing.any()
    for kind, line in ((1, LINE), (2, STEEP)):
        places = (np.linspace(*np.array(line), 20) + 0.5) * 2 - 0.5
        drawn = image.kinds[tuple(np.rint(places[2:-2]).astype(int).T)]
        assert set(drawn) <= {0, kind} and (drawn == kind).mean() > 0.7


def test_without_kinds_they_are_not_read(tmp_path: Path) -> None:
    prepared = prepare(options(kinds_dataset(tmp_path / "data"), tmp_path / "out", n_samples=0))
    assert prepared.kinds == 0


def test_kinds_need_an_image_of_the_size_of_the_label(tmp_path: Path) -> None:
    root = kinds_dataset(tmp_path / "data")
    write_png(root / "av" / "a.png", np.ones((50, 60), np.uint8))
    with pytest.raises(UserError, match=r"av/a\.png: is 50 x 60, a\.png is 121 x 141; give both in the same size"):
        prepare(options(root, tmp_path / "out", kinds=True))
    (root / "av" / "a.png").unlink()
    with pytest.raises(UserError, match="has no image of kinds; add one to av/ or kinds/, or leave out --kinds"):
        prepare(options(root, tmp_path / "out", kinds=True))


# ---- several datasets ----------------------------------------------------------------------------------------------


KNOWN = {"LEFT": {"scale": 2.0, "swc_origin": "corner"}, "RIGHT": {"scale": 3.0}}


def test_datasets_are_put_together_each_at_its_own_scale_and_origin(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data" / "LEFT" / "training", ["a", "b"], shift=0.5)
    make_dataset(tmp_path / "data" / "RIGHT" / "training", ["a"])
    given = options(tmp_path / "data", tmp_path / "out", dataset="LEFT", also=["right"], scale=2.0, swc_origin="corner")
    prepared = prepare(given, known=KNOWN)
    assert prepared.images == ("a", "b", "RIGHT_a") and prepared.sources["RIGHT_a"] == ("RIGHT", 3.0)
    images = prepared.training_images(tmp_path / "out", prepared.images)
    assert [image.source.scale for image in images] == [2.0, 2.0, 3.0]
    for image in images:
        # Pixel-centre coordinates in work space: the centre of pixel p lies at (p + 0.5)·scale − 0.5.
        wanted = (np.array(LINE) + 0.5) * image.source.scale - 0.5
        np.testing.assert_allclose(image.tree.positions(2), wanted, atol=0.01)
        assert image.shape == tuple(round(size * image.source.scale) for size in SHAPE)
    alone = prepare(options(tmp_path / "data", tmp_path / "alone", dataset="RIGHT", scale=3.0), known=KNOWN)
    (same,) = alone.training_images(tmp_path / "alone", alone.images)
    np.testing.assert_array_equal(same.pixels, images[2].pixels)


def test_further_datasets_must_be_known_and_there(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data" / "LEFT" / "training")
    given = options(tmp_path / "data", tmp_path / "out", dataset="LEFT")
    for also, message in (("LEFF", "unknown; .*did you mean LEFT"), ("RIGHT", "holds no folder RIGHT")):
        with pytest.raises(UserError, match=f"--also {also}: .*{message}"):
            prepare(replace(given, also=[also]), known=KNOWN)


# ---- errors --------------------------------------------------------------------------------------------------------


def refused(tmp_path: Path, given: PrepareOptions, known: Sequence[str] = tuple(PREPARE_PRESETS)) -> str:
    """The message with which ``given`` is refused; no file may be left behind."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        prepare(given, known=known)
    assert sorted(tmp_path.rglob("*")) == before
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_folder(tmp_path: Path) -> None:
    assert f"{tmp_path}/nowhere: no such folder" in refused(tmp_path, options(tmp_path / "nowhere", tmp_path / "out"))


def test_image_without_swc(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    (root / "swc" / "b.swc").unlink()
    message = refused(tmp_path, options(root, tmp_path / "new" / "out"))
    assert "b.tif: has no tree" in message


def test_swc_without_image(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    (root / "images" / "b.tif").unlink()
    assert "b.swc: has no image" in refused(tmp_path, options(root, tmp_path / "out"))


def test_local_contrast_is_that_of_the_work_image(tmp_path):
    root = make_dataset(tmp_path / "data", ["a"])
    prepared = prepare(options(root, tmp_path / "prep", scale=1.5, local_contrast=20.0))
    assert prepared.local_contrast == 20.0
    (image,) = prepared.training_images(tmp_path / "prep", ["a"])
    work = Spaces.scaled(SHAPE, 1.5).resize(PREPARE_2D.read(root / "images" / "a.tif", ReadOptions()).pixels)
    np.testing.assert_array_equal(image.pixels, np.rint(with_local_contrast(work, 20.0) * 255))
    for value in (-1.0, 2.0, np.inf):
        with pytest.raises(UserError, match=f"--local_contrast {value}: give at least 5"):
            check_prepare_options(options(root, tmp_path / "no", local_contrast=value), 2)
    with pytest.raises(UserError, match="--local_contrast is for images"):
        check_prepare_options(options(root, tmp_path / "no", local_contrast=20.0), 3)


@pytest.mark.parametrize("workers", [1, 2])
def test_swc_outside_its_image(tmp_path: Path, workers: int) -> None:
    root = make_dataset(tmp_path / "data")
    write_line(root / "swc" / "b.swc", [(20, 20), (400, 900)])
    message = refused(tmp_path, options(root, tmp_path / "new" / "out", workers=workers))
    assert "b.swc: 50% of the nodes lie outside the image" in message


def test_image_smaller_than_a_patch(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", ["a"])
    message = refused(tmp_path, options(root, tmp_path / "out", patch_size=(128, 128)))
    assert message.endswith("a.tif: 121 x 141 work pixels, smaller than a patch of 128 x 128; give a larger --scale")


def test_corrupt_tiff(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", ["a"])
    path = root / "images" / "a.tif"
    path.write_bytes(path.read_bytes()[:2000])
    assert "a.tif: is not complete, 2000 of" in refused(tmp_path, options(root, tmp_path / "out"))


def test_trees_too_short(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", ["a"])
    message = refused(tmp_path, options(root, tmp_path / "out", margin=50))
    assert "no image has a branch of 1000 work pixels" in message


def test_unknown_dataset_lists_the_known(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data" / "DRIVE" / "training", ["a"])
    message = refused(tmp_path, options(tmp_path / "data", tmp_path / "out", dataset="DRIV"))
    assert "--dataset DRIV: unknown; did you mean DRIVE? known are DRIVE, CHASEDB1, ROAD" in message
    message = refused(tmp_path, options(tmp_path / "data", tmp_path / "out", dataset="lungs"))
    assert "--dataset lungs: unknown; known are DRIVE, CHASEDB1, ROAD" in message
    prepare(options(tmp_path / "data", tmp_path / "out", dataset="DRIVE"), known=PREPARE_PRESETS)


def test_own_data_may_have_any_name(tmp_path: Path) -> None:
    prepared = prepare(options(make_dataset(tmp_path / "data", ["a"]), tmp_path / "out", dataset="lungs"))
    assert prepared.dataset == "lungs"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"scale": 0.0}, "--scale must be above 0"),
        ({"scale": -1.0}, "--scale must be above 0"),
        ({"scale": float("nan")}, "--scale must be above 0"),
        ({"n_samples": -1}, "--n_samples must be 0 or more, got -1"),
        ({"step": 0.0}, "--step must be above 0 (work pixels), got 0.0"),
        ({"jitter": -1.0}, "--jitter must be 0 or more"),
        ({"margin": 0}, "--margin must be 1 or more"),
        ({"substeps": 0}, "--substeps must be 1 or more"),
        ({"workers": -1}, "--workers must be 0 or more"),
        ({"seed": -1}, "--seed must be 0 or more"),
        ({"patch_size": (60, 64)}, "--patch_size must be multiples of 16"),
    ],
)
def test_invalid_values(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    assert expected in refused(tmp_path, options(make_dataset(tmp_path / "data", ["a"]), tmp_path / "out", **changes))


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    root, out = make_dataset(tmp_path / "data", ["a"]), tmp_path / "out"
    out.mkdir()
    prepare(options(root, out))  # an empty folder may be replaced
    (out / "thesis.txt").write_text("years of work")
    assert "out: holds thesis.txt, not made by this script" in refused(tmp_path, options(root, out))
    assert "images" in refused(tmp_path, options(root, root))


def test_another_programs_dataset_json_is_left_alone(tmp_path: Path) -> None:
    root, out = make_dataset(tmp_path / "data", ["a"]), tmp_path / "out"
    out.mkdir()
    (out / "dataset.json").write_text("{}")
    assert "dataset.json: not understood" in refused(tmp_path, options(root, out))


def test_out_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    root = make_dataset(tmp_path / "data", ["a"])
    assert "out: is a file; give a folder as --out" in refused(tmp_path, options(root, tmp_path / "out"))
    message = refused(tmp_path, options(root, tmp_path / "out" / "below"))
    assert "cannot be written (Not a directory); check --out and its disk" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path: Path) -> None:
    root, locked = make_dataset(tmp_path / "data", ["a"]), tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "cannot be written (Permission denied)" in refused(tmp_path, options(root, locked / "out"))


def test_disk_too_small(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", ["a"])
    message = refused(tmp_path, options(root, tmp_path / "out", n_samples=10**12))
    assert "out: no space on its disk (8192000.0 GB needed" in message


def test_disk_full_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "samples.csv")

    monkeypatch.setattr(preparing, "write_stacks", full)
    root, out = make_dataset(tmp_path / "data", ["a"]), tmp_path / "out"
    assert "samples.csv: cannot be written (No space left on device)" in refused(tmp_path, options(root, out))


def test_failure_keeps_the_earlier_result(tmp_path: Path) -> None:
    root, out = make_dataset(tmp_path / "data", ["a"]), tmp_path / "out"
    prepare(options(root, out))
    before = contents(out)
    write_line(root / "swc" / "a.swc", [(20, 20), (400, 900)])
    refused(tmp_path, options(root, out))
    assert contents(out) == before


# ---- command line ---------------------------------------------------------------------------------------------------


def run_script(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prepare_datasets_2D.py", *arguments])
    with pytest.raises(SystemExit) as left:
        run(prepare_datasets_2D.main)
    return int(left.value.code or 0)


def test_script_prints_a_short_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_dataset(tmp_path / "data" / "DRIVE" / "training", ["a", "b"], shift=0.5)
    write_tiff(root / "images" / "b.tif", tube_image()[..., 0])
    where = ("--dataset", "drive", "--data_root", str(tmp_path / "data"), "--out", str(tmp_path / "out"))
    assert run_script(monkeypatch, *where, "--n_samples", "40", "--workers", "1", "--margin", "3", "--preview") == 0
    output, errors = capsys.readouterr()
    assert output.startswith("DRIVE: 2 images at scale 2, 40 samples of 64 x 64 px, in ")
    assert "gray" in output
    assert "  coordinate 0 is the corner of the first pixel, by --swc_origin: all images\n" in output
    assert f"written: {tmp_path / 'out'}" in output
    assert f"look at: {tmp_path / 'out' / 'preview.png'}" in output
    assert len(output.splitlines()) <= 6
    assert errors == ""
    prepared = PreparedDataset.load(tmp_path / "out")
    assert (prepared.dataset, prepared.scale, prepared.swc_origin) == ("DRIVE", 2.0, "corner")


def test_script_reports_an_error_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = str(tmp_path / "nowhere")
    assert run_script(monkeypatch, "--data_root", nowhere, "--out", str(tmp_path / "out")) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("\n") == 1
    assert errors.startswith(f"error: {nowhere}: no such folder")
    assert not list(tmp_path.iterdir())
