"""Seeds: their places, their order, and which of them are dropped or wait."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.morphology import skeletonize

from tools.tracing.growth.gds import Search
from tools.tracing.growth.seeds import Seeds, skeleton_pixels
from tools.tracing.growth.settings import TraceSettings

EVERYWHERE = TraceSettings(Search(r=2), seed_threshold=0.5, seed_gap=0.0, seed_spacing=0.0)


def test_seeds_lie_on_the_skeleton_and_their_order_depends_on_the_random_seed():
    centerline = np.zeros((40, 60), np.float32)
    centerline[19:22, 5:55] = 0.9
    first, again, other = (Seeds.on_map(centerline, replace(EVERYWHERE, random_seed=s)).take(99) for s in (0, 0, 1))
    np.testing.assert_allclose(first[:, 0], 20, atol=0.1)
    assert len(first) > 40
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_seeds_near_the_trace_are_dropped_and_those_near_each_other_wait():
    seeds = Seeds(np.array([[0.0, 0], [0, 3], [0, 4], [10, 5], [13.9, 5], [14, 5], [10, 14]]), 4.0, spacing=4.0)
    seeds.cover(np.array([[[10.0, 0], [10, 10.0]]]))
    assert seeds.take(9).tolist() == [[0, 0], [0, 4], [14, 5], [10, 14]]
    assert seeds.take(9, np.array([[0.0, 0]])).shape == (0, 2)
    assert seeds.take(9).tolist() == [[0, 3]]
    assert seeds.take(9).shape == (0, 2)


@pytest.mark.parametrize("shape", [(40, 60), (16, 24, 30)])
def test_the_skeleton_does_not_depend_on_the_empty_space_around_it(shape):
    rng = np.random.default_rng(0)
    inside = tuple(slice(5, -4) for _ in shape)
    centerline = np.zeros(shape, np.float32)
    centerline[inside] = gaussian_filter(rng.random(centerline[inside].shape), 1.5)
    pixels = skeleton_pixels(centerline, float(np.median(centerline[inside])))
    whole = np.argwhere(skeletonize(centerline >= np.median(centerline[inside])))
    np.testing.assert_array_equal(pixels, whole)
    np.testing.assert_array_equal(skeleton_pixels(np.pad(centerline, 3), 0.5) - 3, skeleton_pixels(centerline, 0.5))


def test_seeds_of_one_tile_come_together():
    centerline = np.zeros((16, 64, 64), np.float32)
    centerline[8, 10:60:8] = 0.9
    tiled = Seeds.on_map(centerline, EVERYWHERE, tile_shape=(16, 32, 32)).take(999)
    tile = (tiled // (16, 32, 32)) @ (4, 2, 1)
    assert len(tiled) > 100 and (np.diff(tile) >= 0).all() and len(set(tile.tolist())) == 4
    untiled = Seeds.on_map(centerline, EVERYWHERE).take(999)
    assert sorted(map(tuple, tiled)) == sorted(map(tuple, untiled))


def test_an_empty_map_has_no_seeds():
    seeds = Seeds.on_map(np.zeros((4, 5, 6), np.float32), EVERYWHERE)
    seeds.cover(np.zeros((1, 2, 3)))
    assert seeds.take(3).shape == (0, 3)
