"""Batch norms adapted to an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.nenet import NENet
from tools.inference.arithmetic import Arithmetic
from tools.inference.norm_adaptation import DARK, _tiles, adapted
from tools.inference.predictor import Predictor

FLOAT32 = Arithmetic()


@pytest.fixture(scope="module")
def net() -> NENet:
    """A small network whose batch norms have statistics."""
    torch.manual_seed(0)
    made = NENet(2, 3, 2)
    with torch.no_grad():
        for _ in range(5):
            made(torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64))
    return made.eval()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Noise, 400 × 300."""
    return np.random.default_rng(0).uniform(0.2, 0.9, (400, 300, 3)).astype(np.float32)


def statistics(net: NENet) -> list[torch.Tensor]:
    return [value.clone() for name, value in net.named_buffers() if "running" in name]


def test_a_share_of_0_changes_nothing(net, image):
    before = statistics(net)
    same = zip(statistics(adapted(net, image, 0.0, FLOAT32)), before, strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_a_share_of_one_half_gives_the_mean_and_leaves_the_network_unchanged(net, image):
    before = statistics(net)
    half, whole = (statistics(adapted(net, image, share, FLOAT32)) for share in (0.5, 1.0))
    for own, middle, of_image in zip(before, half, whole, strict=True):
        torch.testing.assert_close(middle, (own + of_image) / 2)
    assert all(torch.equal(a, b) for a, b in zip(statistics(net), before, strict=True))
    assert not adapted(net, image, 1.0, FLOAT32).training


def test_statistics_are_nearly_the_same_in_bf16(net, image):
    exact, rounded = (adapted(net, image, 1.0, Arithmetic(dtype)) for dtype in (torch.float32, torch.bfloat16))
    assert all(value.dtype == torch.float32 for value in statistics(rounded))
    for one, other in zip(statistics(exact), statistics(rounded), strict=True):
        torch.testing.assert_close(other, one, rtol=0.02, atol=0.02)
    assert next(rounded.parameters()).dtype == torch.float32


def test_norms_after_the_walked_path_are_unchanged(net, image):
    fitted = adapted(net, image, 1.0, FLOAT32)
    for part in ("walk_encoder", "merge", "edge_trunk", "edge_head", "node_head"):
        same = zip(statistics(getattr(fitted, part)), statistics(getattr(net, part)), strict=True)
        assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(fitted.first.norm1.running_mean, net.first.norm1.running_mean)


def test_the_brightness_of_an_image_is_removed(net, image):
    def probabilities(share: float, gain: float) -> np.ndarray:
        return (
            Predictor(adapted(net, image * gain, share, FLOAT32), (32, 32)).encode(image * np.float32(gain)).centerline
        )

    plain, fitted = (np.abs(probabilities(share, 1.0) - probabilities(share, 0.6)).mean() for share in (0.0, 1.0))
    assert fitted < 0.5 * plain


def test_a_predictor_adapts_to_each_image_separately(net, image):
    predictor = Predictor(adapted(net, image, 0.0, FLOAT32), (32, 32), adapt=0.5)
    first = predictor.encode(image).centerline
    predictor.encode(image * np.float32(0.5))
    assert np.array_equal(predictor.encode(image).centerline, first)


def test_dark_surroundings_are_ignored(image):
    framed = np.pad(image, ((300, 300), (300, 300), (0, 0)))
    tiles = _tiles(framed, np.array([16, 16]))
    assert 0 < len(tiles) <= 16
    assert (tiles.max(axis=-1) > DARK).reshape(len(tiles), -1).mean(axis=1).min() > 0.5


def test_a_black_image_leaves_the_network_unchanged(net):
    black = adapted(net, np.zeros((100, 100, 3), np.float32), 0.5, FLOAT32)
    assert all(torch.equal(a, b) for a, b in zip(statistics(black), statistics(net), strict=True))


def test_small_images_and_volumes_are_accepted(net):
    adapted(net, np.full((20, 200, 3), 0.5, np.float32), 0.5, FLOAT32)
    volume = np.random.default_rng(0).uniform(0.1, 1, (16, 48, 40, 1)).astype(np.float32)
    adapted(NENet(3, 1, 2).eval(), volume, 0.5, FLOAT32)
