"""Tiles, patches and their symmetries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lib.klib.spaces import patch_corner
from lib.klib.windows import crop, crops
from lib.swclib import SwcForest
from tools.data.batches import Batch, draw_patches, draw_tile, patch_batch
from tools.data.sampling import Kind, SampleShape, draw_states
from tools.data.symmetries import Symmetry
from tools.data.training_image import TrainingImage
from tools.data.warps import warped, with_warped

PATCH = (32, 32)


def zigzag_scene(shape: tuple[int, int] = (160, 200)) -> TrainingImage:
    """A crooked tube that is bright on a dark image, with its tree."""
    positions = [(30, 10), (80, 80), (60, 130), (120, 190)]
    tree = SwcForest.from_positions(positions, [-1, 0, 1, 2])
    blank = TrainingImage.build("zigzag", np.zeros((*shape, 3), np.uint8), tree, SampleShape(margin=3))
    pixels = np.repeat(blank.centerline[..., None] * np.uint8(200), 3, axis=2)
    return TrainingImage.build("zigzag", pixels, tree, SampleShape(margin=3))


def test_crop_is_zero_outside() -> None:
    array = np.arange(1, 13).reshape(3, 4)
    assert crop(array, (-1, 2), (3, 3)).tolist() == [[0, 0, 0], [3, 4, 0], [7, 8, 0]]
    assert not crop(array, (5, -9), (2, 2)).any()
    assert not crop(array, (-9, 1), (2, 2)).any()


def test_many_crops_are_single_ones() -> None:
    array = np.random.default_rng(0).integers(0, 255, (10, 12, 3), dtype=np.uint8)
    corner = np.random.default_rng(1).integers(-8, 14, (30, 2))
    np.testing.assert_array_equal(crops(array, corner, (5, 6)), [crop(array, c, (5, 6)) for c in corner])


def test_saved_scene_is_the_same(tmp_path: Path) -> None:
    training_image = zigzag_scene()
    training_image.save(tmp_path / "zigzag")
    loaded = TrainingImage.load(tmp_path / "zigzag", SampleShape(margin=3))
    np.testing.assert_array_equal(loaded.pixels, training_image.pixels)
    np.testing.assert_array_equal(loaded.centerline, training_image.centerline)
    np.testing.assert_allclose(loaded.walks.nodes, training_image.walks.nodes, atol=1e-3)
    assert loaded.name == "zigzag"


def test_a_scene_without_a_tree_can_be_saved_and_drawn_from(tmp_path: Path) -> None:
    TrainingImage.build("bare", np.zeros((80, 90, 3), np.uint8), SwcForest.empty(), SampleShape()).save(
        tmp_path / "bare"
    )
    loaded = TrainingImage.load(tmp_path / "bare", SampleShape())
    assert len(loaded.tree) == 0 and not loaded.centerline.any()
    patches = draw_patches(loaded, np.random.default_rng(0), patch_shape=PATCH, count=4)
    assert len(patches.image) == 4 and len(patches.owner) == 0


def all_symmetries(ndim: int) -> list[Symmetry]:
    flips = np.stack(np.meshgrid(*[[False, True]] * ndim), axis=-1).reshape(-1, ndim).tolist()
    return [Symmetry(tuple(flip), swap) for flip in flips for swap in (False, True)]


@pytest.mark.parametrize("shape", [(9, 9), (5, 9, 9)])
def test_symmetry_moves_pixels_and_positions_alike(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for symmetry in all_symmetries(len(shape)):
        place = rng.integers(0, shape)
        image = np.zeros(shape)
        image[tuple(place)] = 1
        (moved,) = np.argwhere(symmetry.pixels(image))
        np.testing.assert_array_equal(symmetry.positions(place.astype(float), shape), moved)
        seen.add(symmetry.pixels(np.arange(np.prod(shape)).reshape(shape)).tobytes())
    assert len(seen) == 2 ** (len(shape) + 1)


def test_random_symmetries_are_all_met() -> None:
    rng = np.random.default_rng(0)
    assert len({Symmetry.draw(rng, 2) for _ in range(100)}) == 8


def test_mixture_of_kinds() -> None:
    kind = zigzag_scene().mixed_states(np.random.default_rng(0), 3000).kind
    negative, seed = (kind == Kind.NEGATIVE).mean(), (kind == Kind.SEED).sum() / (kind != Kind.NEGATIVE).sum()
    assert negative == pytest.approx(1 / 3, abs=0.03)
    assert seed == pytest.approx(0.1, abs=0.03)


def test_without_a_site_all_is_negative() -> None:
    tree = SwcForest.from_positions([(5, 5), (5, 9)], [-1, 0])
    training_image = TrainingImage.build("short", np.zeros((40, 40, 3), np.uint8), tree, SampleShape())
    assert (training_image.mixed_states(np.random.default_rng(0), 10).kind == Kind.NEGATIVE).all()


def test_patches_show_their_place_and_negatives_keep_only_the_centerline() -> None:
    training_image = zigzag_scene()
    batch = draw_patches(training_image, np.random.default_rng(0), patch_shape=PATCH, count=200)
    assert batch.image.shape == (200, 3, *PATCH)
    # The picture is its own centerline.
    torch.testing.assert_close(batch.image[:, :1] > 0, batch.centerline)
    positive = len(batch.owner)
    assert 100 < positive < 170
    assert all(getattr(batch, name).shape == (positive, 1, *PATCH) for name in ("walk", "edge", "node", "branch"))
    negative = np.setdiff1d(np.arange(200), batch.owner)
    assert batch.centerline[negative].any()
    # Where the path is, the tube is: all but the jittered ones.
    covered = (batch.edge & batch.centerline[batch.owner]).sum() / batch.edge.sum()
    assert covered > 0.8


def test_patches_from_arrays_are_those_drawn() -> None:
    training_image = zigzag_scene()
    drawn = draw_patches(training_image, np.random.default_rng(3), patch_shape=PATCH, count=20)
    states = training_image.mixed_states(np.random.default_rng(3), 20)
    corner = patch_corner(states.center, PATCH)
    maps = draw_states(states, corner, PATCH)
    labels = {name: getattr(maps, name).numpy() * np.uint8(255) for name in ("walk", "edge", "node", "branch")}
    line = crops(training_image.centerline, corner, PATCH) * np.uint8(255)
    again = patch_batch(crops(training_image.pixels, corner, PATCH), line, labels, states.kind)
    for name, value in vars(drawn).items():
        torch.testing.assert_close(getattr(again, name), value)


@pytest.mark.parametrize("augment", [False, True])
def test_states_of_a_tile_lie_inside_and_on_its_tube(augment: bool) -> None:
    training_image, rng = zigzag_scene(), np.random.default_rng(1)
    parts = [
        draw_tile(training_image, rng, tile_shape=(96, 96), patch_shape=PATCH, n_states=8, augment=augment)
        for _ in range(6)
    ]
    batch = Batch.join(parts)
    assert batch.image.shape == (6, 3, 96, 96)
    torch.testing.assert_close(batch.image[:, :1] > 0, batch.centerline)
    assert len(batch.owner) > 20
    assert (batch.corner >= 0).all()
    assert (batch.corner + 32 <= 96).all()
    hits = [
        float((batch.edge[k, 0] & batch.centerline[owner, 0, y : y + 32, x : x + 32]).sum() / batch.edge[k].sum())
        for k, (owner, (y, x)) in enumerate(zip(batch.owner.tolist(), batch.corner.tolist(), strict=True))
    ]
    assert np.mean(hits) > 0.8


def volume_scene(ignored: np.ndarray | None = None) -> TrainingImage:
    """A crooked tube in a volume whose slices are three times as thick as their pixels are wide."""
    positions = [(4, 10, 12), (8, 50, 40), (14, 60, 90), (20, 90, 110)]
    tree = SwcForest.from_positions(positions, [-1, 0, 1, 2])
    shape = SampleShape(step=6.0, margin=2, jitter=1.0, substeps=2, spacing=(3.0, 1.0, 1.0))
    blank = TrainingImage.build("volume", np.zeros((24, 100, 120, 1), np.uint8), tree, shape)
    return TrainingImage.build("volume", blank.centerline[..., None] * np.uint8(200), tree, shape, ignored)


@pytest.mark.parametrize("make", [zigzag_scene, volume_scene])
@pytest.mark.parametrize(("angle", "scale"), [(0.0, 1.0), (np.pi / 2, 1.0), (0.7, 1.0), (2.5, 1.3), (4.0, 0.8)])
def test_a_warped_tree_stays_on_its_tube(make, angle: float, scale: float) -> None:
    training_image = make()
    moved = warped(training_image, angle=angle, scale=scale)
    ndim = len(training_image.shape)
    nodes = moved.tree.positions(ndim)
    assert np.all(nodes >= 0) and np.all(nodes <= np.array(moved.shape) - 1)
    rows = tuple(np.rint(moved.walks.nodes).astype(int).T)
    assert np.median(moved.pixels[rows][:, 0]) > 150
    # Lengths grow in the plane; slices stay slices.
    plane = training_image.tree.positions(ndim)[:, -2:], nodes[:, -2:]
    before, after = (np.linalg.norm(np.diff(places, axis=0), axis=1) for places in plane)
    np.testing.assert_allclose(after, scale * before)
    if ndim == 3:
        assert moved.shape[0] == training_image.shape[0]
        np.testing.assert_allclose(nodes[:, 0], training_image.tree.positions(3)[:, 0])


def test_an_untouched_warp_is_the_scene() -> None:
    training_image = volume_scene()
    same = warped(training_image, angle=0.0, scale=1.0)
    np.testing.assert_array_equal(same.pixels, training_image.pixels)
    np.testing.assert_allclose(same.tree.xyz, training_image.tree.xyz)


def test_what_is_ignored_turns_with_the_image() -> None:
    training_image = volume_scene()
    training_image = volume_scene(ignored=training_image.pixels[..., 0] > 0)
    moved = warped(training_image, angle=0.5, scale=1.1)
    bright = moved.pixels[..., 0] > 100
    assert (moved.ignored & bright).sum() > 0.9 * bright.sum() and moved.ignored.sum() < 1.5 * bright.sum()


def test_steps_are_as_long_in_a_warped_scene() -> None:
    moved = warped(volume_scene(), angle=0.8, scale=1.2)
    walks = moved.walks
    along = (walks.nodes[walks.head] - walks.nodes[walks.tail]) * walks.spacing
    np.testing.assert_allclose(np.linalg.norm(along, axis=1), 3.0, rtol=0.1)


def test_copies_are_drawn_from_the_seed() -> None:
    training_images = [zigzag_scene(), volume_scene()]
    first, same, other = (with_warped(training_images, 2, 1.5, seed) for seed in (1, 1, 2))
    assert [training_image.name for training_image in first] == [
        "zigzag",
        "volume",
        "zigzag",
        "zigzag",
        "volume",
        "volume",
    ]
    assert first[0] is training_images[0] and with_warped(training_images, 0, 1.5, 1) == training_images
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, same, strict=True))
    assert any(a.shape != b.shape for a, b in zip(first, other, strict=True))
    ratio = np.array([training_image.tree.length / training_images[0].tree.length for training_image in first[2:4]])
    assert np.all((ratio >= 1 / 1.5) & (ratio <= 1.5))


def test_no_walk_stands_where_the_image_is_ignored() -> None:
    ignored = np.zeros((24, 100, 120), bool)
    ignored[:, :, 60:] = True
    training_image = volume_scene(ignored)
    places = training_image.walks.nodes[training_image.walks.tail[training_image.walks.sites]]
    assert len(places) and places[:, 2].max() < 60 < volume_scene().walks.nodes[:, 2].max()


def test_tiles_and_patches_carry_what_is_ignored(tmp_path: Path) -> None:
    ignored = np.random.default_rng(0).random((24, 100, 120)) > 0.5
    training_image = volume_scene(ignored)
    training_image.save(tmp_path / "volume")
    assert np.array_equal(TrainingImage.load(tmp_path / "volume", training_image.walks.shape).ignored, ignored)
    # The image is made to say the same: then every crop and turn of both must agree.
    training_image = TrainingImage.build(
        "both", ignored[..., None] * np.uint8(255), training_image.tree, training_image.walks.shape, ignored
    )
    rng = np.random.default_rng(2)
    shapes = {"tile_shape": (24, 32, 32), "patch_shape": (16, 16, 16)}
    tile = draw_tile(training_image, rng, **shapes, n_states=2, augment=True)
    assert torch.equal(tile.image > 0, tile.ignored)
    patches = draw_patches(training_image, rng, patch_shape=(16, 16, 16), count=5)
    assert torch.equal(patches.image > 0, patches.ignored)
    assert not draw_tile(volume_scene(), rng, **shapes, n_states=2, augment=True).ignored.any()


def test_some_tiles_lie_off_the_tree_where_it_is_bright() -> None:
    training_image = volume_scene()
    pixels = training_image.pixels.copy()
    pixels[:, 80:, :30] = 255
    training_image = TrainingImage.build("volume", pixels, training_image.tree, training_image.walks.shape)
    rng = np.random.default_rng(0)
    shapes = {"tile_shape": (16, 16, 16), "patch_shape": (16, 16, 16), "n_states": 0, "augment": False}
    off = [not draw_tile(training_image, rng, **shapes, background=0.9).centerline.any() for _ in range(30)]
    on = [draw_tile(training_image, rng, **shapes).centerline.any() for _ in range(30)]
    assert sum(off) > 15 and all(on)
