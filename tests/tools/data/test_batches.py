"""Tiles and patches drawn from training images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lib.klib.spaces import patch_corner
from lib.klib.windows import crop, crops
from lib.swclib import SwcForest
from lib.swclib.forest import KIND_TYPE
from tests.tools.data.images import PATCH, volume_image, zigzag_image
from tools.data.batches import Batch, draw_patches, draw_tiles, patch_batch
from tools.data.sampling import STATE_MAPS, Kind, SampleShape, draw_states
from tools.data.training_image import TrainingImage


def test_crop_is_zero_outside() -> None:
    array = np.arange(1, 13).reshape(3, 4)
    assert crop(array, (-1, 2), (3, 3)).tolist() == [[0, 0, 0], [3, 4, 0], [7, 8, 0]]
    assert not crop(array, (5, -9), (2, 2)).any()
    assert not crop(array, (-9, 1), (2, 2)).any()


def test_crops_are_single_crops() -> None:
    array = np.random.default_rng(0).integers(0, 255, (10, 12, 3), dtype=np.uint8)
    corner = np.random.default_rng(1).integers(-8, 14, (30, 2))
    np.testing.assert_array_equal(crops(array, corner, (5, 6)), [crop(array, c, (5, 6)) for c in corner.tolist()])


def test_patches_show_their_labels_and_negatives_only_a_centerline() -> None:
    batch = draw_patches(zigzag_image(), np.random.default_rng(0), patch_shape=PATCH, count=200)
    assert batch.image.shape == (200, 3, *PATCH)
    torch.testing.assert_close(batch.image[:, :1] > 0, batch.centerline)
    positive = len(batch.owner)
    assert 100 < positive < 170
    assert all(getattr(batch, name).shape == (positive, 1, *PATCH) for name in STATE_MAPS)
    negative = np.setdiff1d(np.arange(200), batch.owner)
    assert batch.centerline[negative].any()
    # Edges lie on the centerline, except those of jittered nodes.
    covered = (batch.edge & batch.centerline[batch.owner]).sum() / batch.edge.sum()
    assert covered > 0.8


def test_patches_from_arrays_equal_drawn_ones() -> None:
    image = zigzag_image()
    drawn = draw_patches(image, np.random.default_rng(3), patch_shape=PATCH, count=20)
    states = image.mixed_states(np.random.default_rng(3), 20)
    corner = patch_corner(states.center, PATCH)
    labels = {name: maps.numpy() * np.uint8(255) for name, maps in vars(draw_states(states, corner, PATCH)).items()}
    centerline = crops(image.centerline, corner, PATCH) * np.uint8(255)
    again = patch_batch(crops(image.pixels, corner, PATCH), centerline, labels, states.kind)
    for name, value in vars(drawn).items():
        torch.testing.assert_close(getattr(again, name), value)


@pytest.mark.parametrize(("turn", "stem"), [(False, (1, 1)), (True, (1, 1)), (True, (2, 4))])
def test_states_lie_inside_their_tile_and_on_its_tube(turn: bool, stem: tuple[int, int]) -> None:
    image, rng = zigzag_image(), np.random.default_rng(1)
    shapes = {"tile_shape": (96, 96), "patch_shape": PATCH}
    batch = draw_tiles([image] * 6, rng, **shapes, n_states=8, turn=turn, stem=stem)
    assert batch.image.shape == (6, 3, 96, 96)
    torch.testing.assert_close(batch.image[:, :1] > 0, batch.centerline)
    assert len(batch.owner) > 20
    assert (batch.corner >= 0).all() and not (batch.corner % torch.tensor(stem)).any()
    assert (batch.corner + 32 <= 96).all()
    covered = [
        float((batch.edge[k, 0] & batch.centerline[owner, 0, y : y + 32, x : x + 32]).sum() / batch.edge[k].sum())
        for k, (owner, (y, x)) in enumerate(zip(batch.owner.tolist(), batch.corner.tolist(), strict=True))
    ]
    assert np.mean(covered) > 0.8


def test_tiles_and_patches_carry_ignored_pixels() -> None:
    ignored = np.random.default_rng(0).random((24, 100, 120)) > 0.5
    tree, shape = volume_image().tree, volume_image().walks.shape
    # The image shows its ignored pixels, so every crop and turn of both must agree.
    image = TrainingImage.build("both", ignored[..., None] * np.uint8(255), tree, shape, ignored)
    rng = np.random.default_rng(2)
    given: dict[str, Any] = {"tile_shape": (24, 32, 32), "patch_shape": (16, 16, 16), "n_states": 2, "turn": True}
    tile = draw_tiles([image], rng, **given)
    assert torch.equal(tile.image > 0, tile.ignored)
    patches = draw_patches(image, rng, patch_shape=(16, 16, 16), count=5)
    assert torch.equal(patches.image > 0, patches.ignored)
    assert not draw_tiles([volume_image()], rng, **given).ignored.any()


def test_background_tiles_lie_on_bright_pixels_off_the_tree() -> None:
    image = volume_image()
    pixels = image.pixels.copy()
    pixels[:, 80:, :30] = 255
    image = TrainingImage.build("volume", pixels, image.tree, image.walks.shape)
    rng = np.random.default_rng(0)
    given: dict[str, Any] = {"tile_shape": (16, 16, 16), "patch_shape": (16, 16, 16), "n_states": 0, "turn": False}
    off = [not draw_tiles([image], rng, **given, background=0.9).centerline.any() for _ in range(30)]
    on = [draw_tiles([image], rng, **given).centerline.any() for _ in range(30)]
    assert sum(off) > 15 and all(on)


def crossing_image() -> TrainingImage:
    """Two straight tubes of kinds 1 and 2 that cross in the middle of an image of 200 × 200 pixels."""
    places = np.array([[100.0, 5], [100, 195], [5, 100], [195, 100]])
    types = [KIND_TYPE + 1] * 2 + [KIND_TYPE + 2] * 2
    tree = SwcForest.from_positions(places, [-1, 0, -1, 2], types=types)
    blank = TrainingImage.build("cross", np.zeros((200, 200, 3), np.uint8), tree, SampleShape(margin=1))
    pixels = blank.centerline[..., None] * np.full(3, 200, np.uint8)
    return TrainingImage.build("cross", pixels, tree, SampleShape(margin=1))


def tiles(crossings: float, *, turn: bool = False) -> Batch:
    """Tiles of the whole image, with many states."""
    return draw_tiles(
        [crossing_image()] * 20,
        np.random.default_rng(0),
        tile_shape=(192, 192),
        patch_shape=PATCH,
        n_states=16,
        turn=turn,
        crossings=crossings,
    )


def test_states_near_crossings_are_drawn_more_often() -> None:
    image = crossing_image()
    near = [image.walks.near_crossing[image.walks.sites].mean(), 0.5]
    found = []
    for crossings in (0.0, 0.5):
        batch = tiles(crossings)
        # In such patches both tubes are seen: the centerline has more pixels than one tube can have.
        patches = crops(batch.centerline[:, 0].numpy()[0], batch.corner[batch.owner == 0].numpy(), PATCH)
        found.append((patches.sum(axis=(1, 2)) > 4 * PATCH[0]).mean())
    assert near[0] < 0.25 and found[1] > found[0] + 0.15


def test_beside_a_crossing_no_seed_is_drawn() -> None:
    walks = crossing_image().walks
    near = walks.sites[walks.near_crossing[walks.sites]]
    far = walks.sites[~walks.near_crossing[walks.sites]]
    rng = np.random.default_rng(0)
    assert not (walks.states(rng, np.repeat(near, 20)).kind == Kind.SEED).any()
    assert (walks.states(rng, np.repeat(far, 20)).kind == Kind.SEED).any()
    distance = np.abs(walks.nodes[walks.tail[near]] - 100).max(axis=1)
    assert distance.max() <= 15 + 3.1 and len(near) > 0


def test_states_at_a_crossing_go_straight_on() -> None:
    walks = crossing_image().walks
    states = walks.states(np.random.default_rng(0), walks.sites)
    walk = states.kind == Kind.WALK
    ahead = states.ahead[walk, 0, 0, 1] - walks.nodes[walks.tail[states.site[walk]]]
    assert (np.abs(ahead).min(axis=1) < 0.01).all()


@pytest.mark.parametrize("turn", [False, True])
def test_kinds_lie_on_the_centerline_and_are_unknown_where_tubes_cross(turn: bool) -> None:
    batch = tiles(0.0, turn=turn)
    known = batch.kind > 0
    assert batch.kind.shape == batch.centerline[:, 0].shape and set(batch.kind.unique().tolist()) == {0, 1, 2}
    assert not (known & ~batch.centerline[:, 0]).any()
    unknown = batch.centerline[:, 0] & ~known
    assert unknown.sum(dim=(1, 2)).max() <= 9


def test_an_image_without_kinds_has_none() -> None:
    image = zigzag_image()
    assert image.kinds is None and image.n_kinds == 0 and not image.walks.near_crossing.any()
    assert crossing_image().n_kinds == 2
