"""Tiles, patches and their symmetries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lib.klib.spaces import patch_corner
from lib.swclib import SwcForest
from tools.sampling import Kind, SampleShape, draw_states
from tools.scenes import Batch, Scene, Symmetry, crop, crops, draw_patches, draw_tile, patch_batch

PATCH = (32, 32)


def zigzag_scene(shape: tuple[int, int] = (160, 200)) -> Scene:
    """A crooked tube that is bright on a dark image, with its tree."""
    positions = [(30, 10), (80, 80), (60, 130), (120, 190)]
    tree = SwcForest.from_positions(positions, [-1, 0, 1, 2])
    blank = Scene.build("zigzag", np.zeros((*shape, 3), np.uint8), tree, SampleShape(margin=3))
    pixels = np.repeat(blank.centerline[..., None] * np.uint8(200), 3, axis=2)
    return Scene.build("zigzag", pixels, tree, SampleShape(margin=3))


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
    scene = zigzag_scene()
    scene.save(tmp_path / "zigzag")
    loaded = Scene.load(tmp_path / "zigzag", SampleShape(margin=3))
    np.testing.assert_array_equal(loaded.pixels, scene.pixels)
    np.testing.assert_array_equal(loaded.centerline, scene.centerline)
    np.testing.assert_allclose(loaded.walks.nodes, scene.walks.nodes, atol=1e-3)
    assert loaded.name == "zigzag"


def test_a_scene_without_a_tree_can_be_saved_and_drawn_from(tmp_path: Path) -> None:
    Scene.build("bare", np.zeros((80, 90, 3), np.uint8), SwcForest.empty(), SampleShape()).save(tmp_path / "bare")
    loaded = Scene.load(tmp_path / "bare", SampleShape())
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
    scene = Scene.build("short", np.zeros((40, 40, 3), np.uint8), tree, SampleShape())
    assert (scene.mixed_states(np.random.default_rng(0), 10).kind == Kind.NEGATIVE).all()


def test_patches_show_their_place_and_negatives_keep_only_the_centerline() -> None:
    scene = zigzag_scene()
    batch = draw_patches(scene, np.random.default_rng(0), patch_shape=PATCH, count=200)
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
    scene = zigzag_scene()
    drawn = draw_patches(scene, np.random.default_rng(3), patch_shape=PATCH, count=20)
    states = scene.mixed_states(np.random.default_rng(3), 20)
    corner = patch_corner(states.center, PATCH)
    maps = draw_states(states, corner, PATCH)
    labels = {name: getattr(maps, name).numpy() * np.uint8(255) for name in ("walk", "edge", "node", "branch")}
    line = crops(scene.centerline, corner, PATCH) * np.uint8(255)
    again = patch_batch(crops(scene.pixels, corner, PATCH), line, labels, states.kind)
    for name, value in vars(drawn).items():
        torch.testing.assert_close(getattr(again, name), value)


@pytest.mark.parametrize("augment", [False, True])
def test_states_of_a_tile_lie_inside_and_on_its_tube(augment: bool) -> None:
    scene, rng = zigzag_scene(), np.random.default_rng(1)
    parts = [
        draw_tile(scene, rng, tile_shape=(96, 96), patch_shape=PATCH, n_states=8, augment=augment) for _ in range(6)
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
