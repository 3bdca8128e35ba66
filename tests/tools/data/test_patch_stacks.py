"""Patch stacks: written, opened, and read as batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from lib.errors import UserError
from lib.swclib import SwcForest
from tools.data.batches import draw_patches
from tools.data.patch_stacks import STACK_FILES, ImageStacks, StackBatches, draw_samples, open_stacks, write_stacks
from tools.data.prepared import TRAINING_FOLDER, PreparedDataset
from tools.data.sampling import STATE_MAPS, Kind, SampleShape
from tools.data.training_image import TrainingImage
from tools.Data_Loader_2d import build_stack_batches_2d

PATCH = (32, 32)
SHAPE = SampleShape(margin=3)


def make_image(row: int) -> TrainingImage:
    """A horizontal tube in noise."""
    tree = SwcForest.from_positions([(row, 5), (row, 140)], [-1, 0])
    pixels = np.random.default_rng(row).integers(0, 255, (90, 150, 3), dtype=np.uint8)
    return TrainingImage.build(f"row{row}", pixels, tree, SHAPE)


def make_folder(root: Path, counts: dict[str, int]) -> Path:
    """A prepared folder with the given number of samples for each image."""
    for index, (name, count) in enumerate(counts.items()):
        folder = root / TRAINING_FOLDER / name
        image = make_image(30 + index)
        image.save(folder)
        if count:
            write_stacks(image, folder, np.random.default_rng(index), count=count, patch_shape=PATCH)
    PreparedDataset("x", 1.0, "centre", PATCH, SHAPE, tuple(counts), tuple(counts.values())).save(root)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("stacks"), {"a": 300, "b": 41, "c": 7})


def open_all(folder: Path, batch_size: int = 16, seed: int = 0) -> StackBatches:
    return build_stack_batches_2d(folder, ["a", "b", "c"], batch_size, seed, patch_size=PATCH)


def test_files_of_an_image(folder: Path) -> None:
    image = folder / TRAINING_FOLDER / "a"
    assert len(list(image.iterdir())) <= 10
    assert tifffile.imread(image / "node_img.tif").shape == (300, *PATCH, 3)
    for name in ("node_skl.tif", "node_skl_b.tif", "node_walk.tif", "node_point.tif", "node_edge.tif"):
        stack = tifffile.imread(image / name)
        assert stack.dtype == np.uint8
        assert stack.shape == (300, *PATCH)
        assert set(np.unique(stack)) == {0, 255}


def test_table_of_samples(folder: Path) -> None:
    image = folder / TRAINING_FOLDER / "a"
    header, *rows = (image / "samples.csv").read_text().splitlines()
    assert header == "y,x,branch,jitter,kind"
    y, x, branch, jitter, kind = np.array([row.split(",") for row in rows], dtype=float).T
    walks = TrainingImage.load(image, SHAPE).walks
    positive = kind != Kind.NEGATIVE
    assert set(kind) == {0, 1, 2}
    assert (branch[~positive] == -1).all()
    on_tree = walks.nodes[walks.tail[branch[positive].astype(int)]]
    np.testing.assert_allclose(np.hypot(y[positive] - 30, 0), jitter[positive], atol=2e-3)
    np.testing.assert_allclose(x[positive], on_tree[:, 1], atol=2e-3)
    # The position in the table is the middle of the patch.
    stack = ImageStacks.open(image)
    row = int(np.flatnonzero(kind == Kind.SEED)[0])
    corner = np.floor([y[row] + 0.5, x[row] + 0.5]).astype(int) - 16
    np.testing.assert_array_equal(stack.maps["image"][row][:4, :4], _crop(image, corner)[:4, :4])


def _crop(image: Path, corner: np.ndarray) -> np.ndarray:
    padded = np.pad(tifffile.imread(image / "image.tif"), ((32, 32), (32, 32), (0, 0)))
    y, x = corner + 32
    return padded[y : y + 32, x : x + 32]


def test_round_trip(tmp_path: Path) -> None:
    image = make_image(40)
    write_stacks(image, tmp_path, np.random.default_rng(5), count=100, patch_shape=PATCH)
    drawn = draw_samples(image, np.random.default_rng(5), 100, PATCH)
    stacks = ImageStacks.open(tmp_path)
    assert stacks.patch_shape == PATCH
    np.testing.assert_array_equal(stacks.kind, drawn.states.kind)
    for name in STACK_FILES:
        np.testing.assert_array_equal(stacks.maps[name], drawn.maps[name])


def test_stored_patches_equal_online_ones(tmp_path: Path) -> None:
    image = make_image(40)
    write_stacks(image, tmp_path, np.random.default_rng(5), count=60, patch_shape=PATCH)
    online = draw_patches(image, np.random.default_rng(5), patch_shape=PATCH, count=60)
    stored = open_stacks({"x": tmp_path}, batch_size=60, seed=0, patch_shape=PATCH, channels=3).batch(0)
    for name, value in vars(online).items():
        torch.testing.assert_close(getattr(stored, name), value)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_small_stacks(tmp_path: Path, count: int) -> None:
    write_stacks(make_image(40), tmp_path, np.random.default_rng(0), count=count, patch_shape=PATCH)
    stacks = ImageStacks.open(tmp_path)
    assert len(stacks) == count
    assert {len(stack) for stack in stacks.maps.values()} == {count}


def test_an_epoch_contains_each_sample_once(folder: Path) -> None:
    batches = open_all(folder)
    assert len(batches) == 348
    assert batches.steps_per_epoch == 348 // 16
    for epoch in (0, 1):
        steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
        seen = np.concatenate([batches.chosen(step) for step in steps])
        assert len(np.unique(seen)) == len(seen) == 336
    assert (batches.order(0) != batches.order(1)).any()


def test_a_batch_holds_the_samples_it_names(folder: Path) -> None:
    batches = open_all(folder)
    images = [ImageStacks.open(folder / TRAINING_FOLDER / name) for name in "abc"]
    whole = {name: np.concatenate([image.maps[name] for image in images]) for name in STACK_FILES}
    kind = np.concatenate([image.kind for image in images])
    for step in (0, 3, 25):
        chosen, batch = batches.chosen(step), batches.batch(step)
        np.testing.assert_array_equal(batch.image, np.moveaxis(whole["image"][chosen], -1, 1))
        np.testing.assert_array_equal(batch.centerline[:, 0], whole["centerline"][chosen] > 0)
        positive = np.flatnonzero(kind[chosen] != Kind.NEGATIVE)
        assert batch.owner.tolist() == positive.tolist()
        for name in STATE_MAPS:
            np.testing.assert_array_equal(getattr(batch, name)[:, 0], whole[name][chosen[positive]] > 0)


def test_a_step_is_a_function_of_seed_and_step(folder: Path) -> None:
    first, second, other = open_all(folder), open_all(folder), open_all(folder, seed=1)
    for step in range(60):
        first.chosen(step)
    np.testing.assert_array_equal(first.chosen(30), second.chosen(30))
    assert (other.chosen(30) != second.chosen(30)).any()


def test_processes_share_a_batch(folder: Path) -> None:
    batches = open_all(folder)
    parts = [batches.chosen(4, rank, 2) for rank in (0, 1)]
    assert [len(part) for part in parts] == [8, 8]
    assert sorted(np.concatenate(parts)) == batches.chosen(4).tolist()


def test_every_batch_has_a_state(folder: Path) -> None:
    batches = open_all(folder, batch_size=2)
    assert all(len(batches.batch(step).owner) for step in range(batches.steps_per_epoch))


def test_fewer_samples_than_a_batch(folder: Path) -> None:
    batches = build_stack_batches_2d(folder, ["c"], 64, 0, patch_size=PATCH)
    assert batches.steps_per_epoch == 1
    assert len(batches.batch(5).image) == 7


def test_image_without_samples_is_left_out(tmp_path: Path) -> None:
    made = make_folder(tmp_path, {"a": 10, "b": 0})
    assert len(build_stack_batches_2d(made, ["a", "b"], 4, 0, patch_size=PATCH)) == 10


def test_no_stacks(tmp_path: Path) -> None:
    made = make_folder(tmp_path, {"a": 0})
    with pytest.raises(UserError, match=r"a: has no stacks; prepared without --n_samples; use --sampling online"):
        build_stack_batches_2d(made, ["a"], 4, 0, patch_size=PATCH)


def test_other_patch_size(folder: Path) -> None:
    with pytest.raises(UserError, match=r"patches of 32 x 32 x 3, 64 x 64 x 3 wanted; give --patch_size"):
        build_stack_batches_2d(folder, ["a"], 4, 0, patch_size=(64, 64))


def test_unknown_image(folder: Path) -> None:
    with pytest.raises(UserError, match="has no image z; it has a, b, c"):
        build_stack_batches_2d(folder, ["z"], 4, 0, patch_size=PATCH)


def test_not_a_prepared_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no dataset.json; make it with prepare_datasets_2D.py"):
        build_stack_batches_2d(tmp_path, ["a"], 4, 0, patch_size=PATCH)


def test_broken_stacks(tmp_path: Path) -> None:
    made = make_folder(tmp_path, {"a": 12})
    image = made / TRAINING_FOLDER / "a"
    table = image / "samples.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-2]) + "\n")
    with pytest.raises(UserError, match=r"node_img.tif: 12 patches, but samples.csv lists 10; prepare"):
        ImageStacks.open(image)
    table.write_text("\n".join([lines[0], lines[1] + "?"]) + "\n")
    with pytest.raises(UserError, match=r"samples.csv: not understood .*; prepare the dataset again"):
        ImageStacks.open(image)
    table.write_text("\n".join(lines) + "\n")
    (image / "node_edge.tif").write_bytes(b"II*\0")
    with pytest.raises(UserError, match=r"node_edge\.tif: cannot be memory-mapped"):
        ImageStacks.open(image)
