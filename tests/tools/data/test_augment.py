"""Augmentation: images and labels are turned alike, black stays black, results depend on the generator alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tools.data.augment import ColourJitter, _blurred, to_unit, turn_patches
from tools.data.batches import Batch
from tools.data.sampling import STATE_MAPS
from tools.dataset_2d import augment_2d
from tools.dataset_3d import augment_3d

UNCHANGED = ColourJitter(gain=0, gain_channel=0, contrast=0, gamma=1, noise=0, blur=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(count: int, shape: tuple[int, ...], owner: list[int]) -> Batch:
    """Random patches whose label maps all follow from the image, pixel by pixel."""
    image = torch.randint(1, 256, (count, 3, *shape), dtype=torch.uint8, generator=generator(9))
    label = image[:, :1] > 128
    states = {name: label[owner] for name in STATE_MAPS}
    corner = torch.zeros((len(owner), len(shape)), dtype=torch.int64)
    tiles = {"image": image, "centerline": label, "ignored": label, "kind": label[:, 0].long()}
    return Batch(**tiles, owner=torch.tensor(owner), corner=corner, **states)


@pytest.mark.parametrize(("shape", "axes"), [((16, 16), (0, 1)), ((4, 16, 16), (0, 1, 2)), ((8, 16), (0, 1))])
def test_turned_image_and_labels_agree(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    owner = [0, 2, 3, 5, 11, 11, 30]
    before = numbered(64, shape, owner)
    batch = turn_patches(before, generator(), axes=axes)
    label = batch.image[:, :1] > 128
    assert batch.image.shape == before.image.shape
    assert torch.equal(batch.centerline, label) and torch.equal(batch.ignored, label)
    assert torch.equal(batch.kind, label[:, 0].long())
    for name in STATE_MAPS:
        assert torch.equal(getattr(batch, name), label[owner]), name
    assert torch.equal(batch.owner, before.owner) and torch.equal(batch.corner, before.corner)


def symmetries(patch: Tensor, axes: tuple[int, ...], *, square: bool) -> list[Tensor]:
    """All symmetries of a patch ``(C, *S)``."""
    turned = [patch]
    for axis in axes:
        turned += [each.flip(axis + 1) for each in turned]
    return turned + [each.transpose(-1, -2) for each in turned if square]


@pytest.mark.parametrize("shape", [(16, 16), (8, 16)])
def test_every_symmetry_occurs_and_no_other(shape: tuple[int, int]) -> None:
    before = numbered(1, shape, [0])
    turned = turn_patches(Batch.join([before] * 200), generator(), axes=(0, 1)).image
    known = symmetries(before.image[0], (0, 1), square=shape[0] == shape[1])
    seen = [next(i for i, each in enumerate(known) if torch.equal(each, patch)) for patch in turned]
    assert set(seen) == set(range(len(known)))
    assert len(known) == (8 if shape[0] == shape[1] else 4)


@pytest.mark.parametrize("turn", [False, True])
def test_same_generator_same_batch(turn: bool) -> None:
    batch = numbered(6, (16, 16), [0, 1, 5])
    first, same = (augment_2d(batch, generator(3), turn=turn) for _ in range(2))
    other = augment_2d(batch, generator(4), turn=turn)
    assert all(torch.equal(getattr(first, name), getattr(same, name)) for name in vars(first))
    assert not torch.equal(first.image, other.image)


def test_without_turn_only_colours_change() -> None:
    batch = numbered(6, (16, 16), [0, 1, 5])
    moved = augment_2d(batch, generator(), turn=False)
    assert torch.equal(moved.centerline, batch.centerline) and torch.equal(moved.walk, batch.walk)


def test_black_stays_black() -> None:
    image = torch.rand((4, 3, 16, 16), generator=generator())
    image[..., :5, :] = 0
    image[:, 1:, 5:8] = 0  # black in two channels of three: inside the field of view
    image[:, 0, 5:8] = 0.5
    moved = ColourJitter().apply(image, generator(1))
    assert not moved[..., :5, :].any()
    assert (moved[:, 0, 5:8] != 0.5).any()


def test_colours_change_little_and_stay_in_range() -> None:
    image = torch.rand((16, 3, 16, 16), generator=generator())
    moved = ColourJitter().apply(image, generator(1))
    assert moved.min() >= 0 and moved.max() <= 1
    assert 0.01 < float((moved - image).abs().mean()) < 0.25


def test_zero_strengths_change_nothing() -> None:
    image = torch.rand((2, 1, 4, 8, 8), generator=generator())
    torch.testing.assert_close(UNCHANGED.apply(image, generator()), image)


def test_each_tile_has_its_own_colours() -> None:
    image = torch.full((2, 3, 8, 8), 0.5)
    plain = ColourJitter(noise=0)
    first, second = plain.apply(image, generator())
    assert not torch.equal(first, second)
    assert len(first.flatten(1).unique(dim=1).T) == 1


def test_light_changes_the_photograph_alone() -> None:
    """Local contrast beside it is blurred and noisy with it, but as bright as before."""
    batch = numbered(2, (16, 16), [0])
    six = batch.with_image(torch.full((2, 6, 16, 16), 128, dtype=torch.uint8))
    moved = augment_2d(six, generator(), turn=False).image.mean(dim=(2, 3))
    torch.testing.assert_close(moved[:, 3:], torch.full((2, 3), 128 / 255), atol=0.01, rtol=0)
    assert ((moved[:, :3] - 128 / 255).abs() > 0.01).any(dim=1).all()
    flat = torch.full((2, 6, 16, 16), 0.5)
    flat[..., 8:] = 0.75
    blurred = ColourJitter(noise=0, blur=3).apply(flat, generator(4), lit=3)
    assert not torch.equal(blurred[:, 3:], flat[:, 3:])


def test_to_unit() -> None:
    batch = numbered(2, (16, 16), [0])
    unit = to_unit(batch.with_image(torch.tensor([0, 51, 255], dtype=torch.uint8)))
    assert torch.equal(unit.image, torch.tensor([0, 0.2, 1]))


@pytest.mark.parametrize("shape", [(33, 33), (15, 33, 33)])
def test_blur_is_a_gaussian_in_every_direction(shape: tuple[int, ...]) -> None:
    point = torch.zeros((1, 1, *shape))
    middle = tuple(size // 2 for size in shape)
    point[(0, 0, *middle)] = 1
    blurred = _blurred(point, torch.tensor([1.5]))[0, 0]
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-4)
    for axis, size in enumerate(shape):
        offsets = torch.arange(size) - size // 2
        profile = blurred.sum(dim=[other for other in range(len(shape)) if other != axis])
        assert float((profile * offsets**2).sum()) == pytest.approx(1.5**2, rel=0.05)


def test_each_tile_has_its_own_blur_and_zero_is_none() -> None:
    image = torch.rand((3, 2, 20, 20), generator=generator())
    both = _blurred(image, torch.tensor([0.0, 1.0, 2.0]))
    torch.testing.assert_close(both[0], image[0])
    torch.testing.assert_close(both[1:2], _blurred(image[1:2], torch.tensor([1.0])), atol=1e-5, rtol=0)
    assert both[2].std() < both[1].std() < image.std()
    flat = torch.full((1, 1, 9, 9), 0.4)
    torch.testing.assert_close(_blurred(flat, torch.tensor([2.0])), flat)


def test_haze_lifts_the_background_of_a_volume() -> None:
    black = torch.zeros((8, 1, 4, 8, 8))
    lifted = replace(UNCHANGED, haze=0.2, keep_black=False).apply(black, generator())
    levels = lifted.flatten(1)
    assert (levels.std(dim=1) == 0).all() and 0.05 < float(levels.max()) <= 0.2 and float(levels.min()) == 0
    assert not replace(UNCHANGED, haze=0.2).apply(black, generator()).any()


def test_a_volume_is_transposed_in_its_plane_only() -> None:
    before = numbered(1, (4, 16, 16), [0])
    before = replace(before, image=before.image[:, :1])
    turned = turn_patches(Batch.join([before] * 300), generator(), axes=(0, 1, 2)).image
    known = symmetries(before.image[0], (0, 1, 2), square=True)
    seen = {next(i for i, each in enumerate(known) if torch.equal(each, patch)) for patch in turned}
    assert seen == set(range(16))
    assert augment_3d(before, generator(), turn=True).image.shape == before.image.shape
