"""prepare_datasets_3D on small synthetic volumes: results, a short training run, and errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import prepare_datasets_2D
import prepare_datasets_3D
import train_3D
from configs.config_3d import PREPARE_PRESETS, TRAIN_PRESETS
from configs.options import PrepareOptions3D, TrainOptions3D
from lib.errors import UserError
from lib.klib.drawing import draw_edges
from lib.klib.spaces import Spaces
from lib.swclib import SwcForest
from models.checkpoint import load_weights
from tools.cli import parse
from tools.data import prepare as preparing
from tools.data.batch_sources import OnlinePatches
from tools.data.patch_stacks import IGNORED, STACK_FILES, ImageStacks
from tools.data.prepared import TRAINING_FOLDER, PreparedDataset
from tools.data.sampling import Kind, SampleShape
from tools.data.training_image import TrainingImage
from tools.data.unlabelled import unlabelled_neurites
from tools.Data_Loader_3d import build_stack_batches_3d
from tools.dataset_3d import PREPARE_3D
from tools.tracing.tracing_tools_3D import BORDER
from tools.training.run import check_patch

SHAPE = (24, 72, 80)
LINE = ((5.0, 8.0, 9.0), (18.0, 62.0, 70.0))
OTHER = ((6.0, 60.0, 8.0), (16.0, 12.0, 72.0))
"""Ends of neurites, (z, y, x)."""


def stack(*lines: Sequence[Sequence[float]], shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Bright tubes on shot noise, 16-bit."""
    rng = np.random.default_rng(0)
    tubes = draw_edges(np.array(lines), 2.0, shape) if lines else 0
    return (rng.poisson(900, shape) + 20_000 * tubes).astype(np.uint16)


def write_volume(path: Path, pixels: np.ndarray, spacing: Sequence[float] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    more: dict[str, Any] = {"photometric": "minisblack"}
    if spacing:
        metadata = {"spacing": spacing[0], "unit": "um", "axes": "ZYX"}
        more |= {"imagej": True, "resolution": (1 / spacing[2], 1 / spacing[1]), "metadata": metadata}
    tifffile.imwrite(path, pixels, **more)


def write_line(path: Path, line: Sequence[Sequence[float]] = LINE, size: Sequence[float] = (1, 1, 1)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    positions = np.array(line) * size
    rows = [f"{i + 1} 0 {x} {y} {z} 1 {i or -1}" for i, (z, y, x) in enumerate(positions)]
    path.write_text("\n".join(rows) + "\n")


def make_dataset(root: Path, names: Sequence[str] = ("a", "b"), spacing: Sequence[float] | None = (3, 1, 1)) -> Path:
    for name in names:
        write_volume(root / "images" / f"{name}.tif", stack(LINE), spacing)
        write_line(root / "swc" / f"{name}.swc")
    return root


def options(root: Path, out: Path, **changes: Any) -> PrepareOptions3D:
    given = PrepareOptions3D(
        data_root=root, out=out, n_samples=40, patch_size=(16, 32, 32), step=6.0, margin=2, workers=1
    )
    return replace(given, **changes)


def prepare(given: PrepareOptions3D) -> PreparedDataset:
    return preparing.prepare(given, PREPARE_3D)


def refused(given: PrepareOptions3D) -> str:
    with pytest.raises(UserError) as caught:
        prepare(given)
    assert not given.out.exists() and "\n" not in str(caught.value)
    return str(caught.value)


# ---- results -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patch", [(16, 32, 32), (16, 64, 64)])
def test_stacks_of_every_kind(tmp_path: Path, patch: tuple[int, ...]) -> None:
    prepared = prepare(options(make_dataset(tmp_path / "data"), tmp_path / "out", patch_size=patch, preview=True))
    assert prepared.n_samples == (20, 20) and prepared.spacing == (3.0, 1.0, 1.0)
    assert PreparedDataset.load(tmp_path / "out") == prepared
    stacks = [ImageStacks.open(tmp_path / "out" / TRAINING_FOLDER / name) for name in prepared.images]
    assert stacks[0].maps["image"].shape == (20, *patch, 1) and set(stacks[0].maps) == set(STACK_FILES)
    assert {Kind(kind) for each in stacks for kind in each.kind} == set(Kind)
    walk = stacks[0].kind == Kind.WALK
    for name in STACK_FILES:
        assert stacks[0].maps[name][walk].reshape(walk.sum(), -1).any(axis=1).all(), name
    assert (tmp_path / "out" / "preview.png").stat().st_size > 1000


def test_thick_patches(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_volume(root / "images" / "a.tif", stack(LINE, shape=(40, 72, 80)))
    write_line(root / "swc" / "a.swc")
    prepare(options(root, tmp_path / "out", patch_size=(32, 64, 64), n_samples=6))
    shape = ImageStacks.open(tmp_path / "out" / TRAINING_FOLDER / "a").maps["walk"].shape
    assert shape == (6, 32, 64, 64)


def test_work_volume_lies_on_the_papers_curve(tmp_path: Path) -> None:
    prepared = prepare(options(make_dataset(tmp_path / "data"), tmp_path / "out", n_samples=0))
    (image,) = prepared.training_images(tmp_path / "out", ["a"])
    np.testing.assert_array_equal(image.pixels[..., 0], np.rint(np.sqrt(stack(LINE).astype(float))))


def test_one_negative_to_four_positives() -> None:
    assert PREPARE_3D.negative_share == pytest.approx(1 / 5)


def test_steps_are_lengths_in_space(tmp_path: Path) -> None:
    prepared = prepare(options(make_dataset(tmp_path / "data"), tmp_path / "out", n_samples=0, substeps=1))
    assert prepared.sample_shape.spacing == (3.0, 1.0, 1.0)
    (image,) = prepared.training_images(tmp_path / "out", ["a"])
    along = np.diff(image.walks.nodes, axis=0) * (3, 1, 1)
    np.testing.assert_allclose(np.linalg.norm(along, axis=1), 6.0, rtol=0.05)
    states = image.walks.states(np.random.default_rng(0), np.repeat(image.walks.sites, 50))
    jitter = image.walks.jitter_of(states)
    # Up to 1 along each normal of the branch, measured in space, not in voxels.
    assert 1.0 < jitter.max() <= np.sqrt(2) + 1e-9 and (jitter > 0).mean() == pytest.approx(0.45, abs=0.1)
    direction = (np.array(LINE[1]) - LINE[0]) * (3, 1, 1)
    place = image.walks.nodes[image.walks.tail[states.site]]
    assert np.abs((states.center - place) * (3, 1, 1) @ direction).max() < 1e-6 * np.linalg.norm(direction)


def test_given_spacing_overrides_the_files(tmp_path: Path) -> None:
    prepared = prepare(options(make_dataset(tmp_path / "data"), tmp_path / "out", n_samples=0, spacing=(1, 0.5, 0.5)))
    assert prepared.spacing == (1, 0.5, 0.5) and prepared.sample_shape.spacing == (2.0, 1.0, 1.0)


def test_neurites_far_from_the_gold_tree_are_ignored(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    write_volume(root / "images" / "a.tif", stack(LINE, OTHER), (3, 1, 1))
    prepared = prepare(options(root, tmp_path / "out", ignore_unlabelled=["a"]))
    a, b = prepared.training_images(tmp_path / "out", ["a", "b"])
    assert b.ignored is None and "ignored by the centerline loss" in str(prepared.notes["a"])
    other, own = (draw_edges(np.array([line]), 1.0, SHAPE) for line in (OTHER, LINE))
    ignored = a.ignored
    assert ignored is not None and not (ignored & own).any() and ignored[other].mean() > 0.7 and ignored.mean() < 0.1
    stacks = ImageStacks.open(tmp_path / "out" / TRAINING_FOLDER / "a")
    assert stacks.maps[IGNORED].any()
    batches = build_stack_batches_3d(tmp_path / "out", ["a", "b"], 40, 0, patch_size=(16, 32, 32))
    assert batches.batch(0).ignored.any()


def test_specks_are_not_ignored() -> None:
    given = options(Path(), Path())
    tree = preparing.tree_to_work(SwcForest.from_positions(LINE, [-1, 0]), Spaces.scaled(SHAPE, 1.0))
    pixels = np.full((*SHAPE, 1), 30, np.uint8)
    pixels[10:12, 60:62, 10:12] = 255
    shape = preparing.sample_shape(given, PREPARE_3D)
    assert not unlabelled_neurites(TrainingImage.build("a", pixels, tree, shape)).any()
    pixels[10:14, 60:64, 5:60] = 255
    assert unlabelled_neurites(TrainingImage.build("a", pixels, tree, shape)).any()


def test_a_mask_of_ignored_voxels(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", ["a"])
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :, 50:] = 1
    write_volume(root / "ignore" / "a.tif", mask)
    prepared = prepare(options(root, tmp_path / "out", n_samples=0))
    (image,) = prepared.training_images(tmp_path / "out", ["a"])
    assert image.ignored is not None and np.array_equal(image.ignored, mask > 0)
    write_volume(root / "ignore" / "a.tif", mask[:, :, :-1])
    assert "a.tif: is 24 x 72 x 79, its image 24 x 72 x 80" in refused(options(root, tmp_path / "no"))


# ---- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", ["tile", "patch"])
def test_a_short_run(tmp_path: Path, features: str, capsys: pytest.CaptureFixture) -> None:
    root = make_dataset(tmp_path / "data")
    sampling = "stacks" if features == "patch" else "online"
    prepare(options(root, tmp_path / "prep", white=99.9))
    words = f"--mode train --dataset mine --data {tmp_path / 'prep'} --run {tmp_path / 'run'} --width 2 --batch_size 4"
    words += " --states_per_tile 2 --patch_size 16 32 32 --tile_size 32 48 48 --epoch_size 40 --nb_epoch 1 --threads 1"
    words += f" --features {features} --sampling {sampling} --validation_size 16 --precision fp32 --device cpu"
    assert train_3D.main([*words.split(), "--max_steps", "2"]) == 0
    assert "2 steps done" in capsys.readouterr().out
    net, header = load_weights(tmp_path / "run" / "last.safetensors", ndim=3)
    assert net.ndim == 3 and header.spacing == (3.0, 1.0, 1.0) and header.white == 99.9
    assert header.in_channels == 1 and header.patch_size == (16, 32, 32)


def test_online_patches(tmp_path: Path) -> None:
    prepared = prepare(options(make_dataset(tmp_path / "data"), tmp_path / "out", n_samples=0))
    batch = OnlinePatches(prepared.training_images(tmp_path / "out", ["a"]), 1, 10, (16, 32, 32), 0).batch(0)
    assert batch.image.shape == (10, 1, 16, 32, 32) and batch.walk.shape[1:] == (1, 16, 32, 32)


def test_presets_are_those_of_the_paper() -> None:
    given = parse(TrainOptions3D, ["--dataset", "fmost"], description="", presets=TRAIN_PRESETS)
    assert (given.dataset, given.batch_size, given.width, given.lr) == ("FMOST", 32, 32, 3e-4)
    assert given.patch_size == (16, 64, 64)
    given = parse(PrepareOptions3D, ["--dataset", "op"], description="", presets=PREPARE_PRESETS)
    assert given.spacing == (1.0, 0.33, 0.33) and given.jitter == 1.0 and given.scale == 1.0
    check_patch(given.patch_size, preparing.sample_shape(given, PREPARE_3D), BORDER)
    given = parse(PrepareOptions3D, ["--dataset", "CCF"], description="", presets=PREPARE_PRESETS)
    check_patch(given.patch_size, preparing.sample_shape(given, PREPARE_3D), BORDER)


def test_a_step_that_leaves_the_patch_is_refused(tmp_path: Path) -> None:
    shape = preparing.sample_shape(options(Path(), Path(), step=8.0), PREPARE_3D)
    with pytest.raises(UserError, match="a step of 8 px and a border of 2 px along z"):
        check_patch((16, 64, 64), shape, BORDER)


# ---- errors --------------------------------------------------------------------------------------------------------


def test_plane_given_to_3d_and_volume_to_2d(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", ["a"])
    with pytest.raises(UserError, match=r"a\.tif: is a volume .* use the 3D script"):
        prepare_datasets_2D.main(["--data_root", str(root), "--out", str(tmp_path / "out"), "--workers", "1"])
    write_volume(root / "images" / "a.tif", stack(LINE)[0])
    with pytest.raises(UserError, match=r"a\.tif: is a 2D image .* use the 2D script"):
        prepare_datasets_3D.main(["--data_root", str(root), "--out", str(tmp_path / "out"), "--workers", "1"])


def test_data_prepared_for_the_other_dimension(tmp_path: Path) -> None:
    PreparedDataset("toy", 1.0, "centre", (64, 64), SampleShape(), ("a", "b"), (0, 0)).save(tmp_path)
    with pytest.raises(UserError, match="was prepared for 2D"):
        train_3D.main(f"--mode train --data {tmp_path} --run {tmp_path / 'run'} --device cpu".split())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"patch_size": (64, 64)}, "--patch_size 64 64: 2 numbers, but 3D has 3 axes; give z y x"),
        ({"spacing": (1.0, 0.5)}, "--spacing 1.0 0.5: 2 numbers, but 3D has 3 axes"),
        ({"spacing": (1.0, 0.0, 1.0)}, "--spacing must be above 0"),
        ({"white": 101.0}, "--white 101.0: give a percentile, 0 to 100"),
        ({"patch_size": (12, 64, 64)}, "--patch_size must be multiples of 16"),
    ],
)
def test_invalid_options(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    assert expected in refused(options(make_dataset(tmp_path / "data", ["a"]), tmp_path / "out", **changes))


def test_thinner_than_a_patch(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", ["a"])
    write_volume(root / "images" / "a.tif", stack(shape=(12, 72, 80)) + stack(LINE)[6:18])
    write_line(root / "swc" / "a.swc", (np.array(LINE) * (0.5, 1, 1)).tolist())
    message = refused(options(root, tmp_path / "out"))
    assert "a.tif: 12 x 72 x 80 work pixels, smaller than a patch of 16 x 32 x 32; give a smaller --patch" in message


def test_tree_outside_the_volume(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", ["a"])
    write_line(root / "swc" / "a.swc", (np.array(LINE) - (0, 0, 100)).tolist())
    assert "a.swc: 100% of the nodes lie outside the image" in refused(options(root, tmp_path / "out"))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [(1.0, 0.33, 0.33), (3.0, 2.0, 2.0)])
def test_tree_in_micrometres(tmp_path: Path, size: tuple[float, ...], known: bool) -> None:
    root = make_dataset(tmp_path / "data", ["a"], spacing=None)
    write_line(root / "swc" / "a.swc", size=size)
    message = refused(options(root, tmp_path / "out", spacing=size if known else None))
    assert "a.swc: " in message and "µm" in message
    if known:
        assert f"{size[0]:.2g} {size[1]:.2g} {size[2]:.2g}" in message
    elif size[1] < 1:
        likely = [float(word) for word in message.split("likely ")[1].split()]
        assert likely[1:] == pytest.approx(size[1:], rel=0.25)


def test_volumes_with_different_spacings_are_refused(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    write_volume(root / "images" / "b.tif", stack(LINE), (1, 1, 1))
    assert "b.tif: voxels of 1 1 1, those of a.tif are 3 1 1; give --spacing" in refused(options(root, tmp_path / "o"))
