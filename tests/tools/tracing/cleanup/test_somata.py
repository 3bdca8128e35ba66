"""Somata found in drawn volumes, and trees joined at them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lib.swclib import SwcForest, concatenate
from lib.swclib.forest import SOMA_TYPE
from tools.tracing.cleanup.pipeline import CleanupSettings, clean_up
from tools.tracing.cleanup.somata import Somata, find_somata, join_at_somata, outside_somata

SHAPE = (48, 80, 80)
CENTRE = np.array([22.3, 41.2, 38.6])
RADIUS = 11.0
LEAST = 7.0
DARK, BRIGHT = 0.1, 0.5
ONE = np.ones(3)
GAP = 12.0


def line(start: Sequence[float], end: Sequence[float], step: float = 2.0) -> SwcForest:
    """A straight trace."""
    count = max(2, round(float(np.linalg.norm(np.subtract(end, start))) / step) + 1)
    return SwcForest.from_positions(np.linspace(start, end, count), np.arange(count) - 1)


def outwards(direction: Sequence[float], first: float, last: float, centre: np.ndarray = CENTRE) -> SwcForest:
    """A trace on a straight line through a centre, between two distances from it."""
    unit = np.array(direction) / np.linalg.norm(direction)
    return line(centre + first * unit, centre + last * unit)


def volume(
    tubes: Sequence[SwcForest] = (),
    balls: Sequence[tuple[np.ndarray, float]] = ((CENTRE, RADIUS),),
    thickness: float = 1.5,
    sizes: np.ndarray = ONE,
    brightness: float = BRIGHT,
) -> np.ndarray:
    """Pixels ``(*S, 1)`` with balls and tubes, in units, slightly blurred and noisy."""
    shape = np.round(np.array(SHAPE) / sizes).astype(int)
    at = np.stack(np.meshgrid(*[np.arange(n) * size for n, size in zip(shape, sizes, strict=True)], indexing="ij"), -1)
    inside = np.zeros(shape, dtype=bool)
    for centre, radius in balls:
        inside |= np.linalg.norm(at - centre, axis=-1) < radius
    image = np.where(inside, brightness, DARK)
    for tube in tubes:
        for place in tube.positions(3):
            image[np.linalg.norm(at - place, axis=-1) < thickness] = BRIGHT
    image = gaussian_filter(image, 0.7 / sizes) + np.random.default_rng(0).normal(0, 0.01, tuple(shape))
    return image[..., None].astype(np.float32)


def known(centre: np.ndarray = CENTRE, radius: float = RADIUS) -> Somata:
    """A soma as it is found."""
    grid = np.argwhere(np.ones(np.array(SHAPE) // 2)) * 2.0 + 0.5
    places = grid[np.linalg.norm(grid - centre, axis=1) < radius]
    return Somata(centre[None], np.array([radius]), places, np.zeros(len(places), dtype=int), 3**0.5)


NEURITES = [outwards(d, RADIUS, 36) for d in ((0, 1, 0.2), (0.1, -1, 0.4), (-0.1, 0.3, 1))]


@pytest.mark.parametrize("brightness", [0.4, 0.5, 0.9])
@pytest.mark.parametrize("sizes", [ONE, np.array([2.5, 1.0, 1.0])])
def test_a_soma_is_found_at_its_place(brightness: float, sizes: np.ndarray) -> None:
    trace = concatenate(NEURITES)
    found = find_somata(volume(NEURITES, sizes=sizes, brightness=brightness), trace.positions(3) / sizes, LEAST, sizes)
    assert found is not None and len(found) == 1
    assert np.linalg.norm(found.centre[0] - CENTRE) < 0.6
    assert found.radius[0] == pytest.approx(RADIUS, abs=1.5)
    distance, soma = found.nearest(
        np.array([CENTRE, CENTRE + np.array([0, RADIUS - 3, 0]), CENTRE + np.array([0, RADIUS + 12, 0])])
    )
    assert distance[:2].tolist() == [0, 0] and distance[2] == pytest.approx(12, abs=2) and soma.tolist() == [0, 0, 0]


def test_tubes_thick_ones_too_are_no_somata() -> None:
    thick = [line((24, 3, 40), (24, 77, 40), 1.0)]
    assert find_somata(volume(NEURITES, ()), concatenate(NEURITES).positions(3), LEAST, ONE) is None
    assert find_somata(volume(thick, (), thickness=9), thick[0].positions(3), LEAST, ONE) is None


def test_noise_and_an_even_volume_hold_no_soma() -> None:
    places = concatenate(NEURITES).positions(3)
    assert find_somata(volume((), ()), places, LEAST, ONE) is None
    assert find_somata(np.full((*SHAPE, 1), 0.7, np.float32), places, LEAST, ONE) is None
    assert find_somata(volume(NEURITES), np.zeros((0, 3)), LEAST, ONE) is None


def test_two_somata_one_cut_by_the_border() -> None:
    other = np.array([24.0, 77.0, 76.0])
    found = find_somata(
        volume(NEURITES, ((CENTRE, 9.0), (other, 14.0))), concatenate(NEURITES).positions(3), LEAST, ONE
    )
    assert found is not None and len(found) == 2
    assert found.nearest(np.stack([CENTRE, [24.0, 79.0, 79.0]]))[1].tolist() == [0, 1]


def test_neurites_are_joined_at_the_centre_and_what_is_inside_goes() -> None:
    inside = line(CENTRE - [0, 4, 4], CENTRE + np.array([0, 4, 3]))
    short_of_it = outwards((0.2, -0.4, -1), RADIUS + 6, 36)
    traces = [*NEURITES, short_of_it, inside]
    somata = known()
    joined = join_at_somata(outside_somata(concatenate(traces), somata), somata, GAP)
    assert len(joined.roots) == 1
    root = joined.roots[0]
    assert joined.types[root] == SOMA_TYPE and joined.radius[root] == RADIUS and joined.n_children[root] == 4
    np.testing.assert_allclose(joined.positions(3)[root], CENTRE)
    distances = np.linalg.norm(joined.positions(3) - CENTRE, axis=1)
    assert (distances[np.arange(len(joined)) != root] > RADIUS - 2).all()


def test_an_end_aslant_at_the_surface_is_joined_but_not_one_farther_away() -> None:
    somata, slant, further = known(), np.array([0, 0.85, 0.5]) * 30, np.array([0, 0, 5])
    start = CENTRE + np.array([0, 0, RADIUS + 1])
    at_surface, farther = line(start, start + slant), line(start + further, start + further + slant)
    assert (join_at_somata(at_surface, somata, GAP).types == SOMA_TYPE).sum() == 1
    assert (join_at_somata(farther, somata, GAP).types == SOMA_TYPE).sum() == 0


def test_a_tube_that_passes_by_or_ends_too_far_away_stays_apart() -> None:
    beside = line(CENTRE + np.array([0, RADIUS + 3, -30]), CENTRE + np.array([0, RADIUS + 3, 30]))
    far = outwards((0, -1, 0), RADIUS + GAP + 3, 38)
    turned_away = line(CENTRE + np.array([0, 0, RADIUS + 4]), CENTRE + np.array([0, 25, RADIUS + 4]))
    somata = known()
    joined = join_at_somata(concatenate([NEURITES[0], beside, far, turned_away]), somata, GAP)
    assert len(joined.roots) == 4 and (joined.types == SOMA_TYPE).sum() == 1
    assert joined.n_children[joined.types == SOMA_TYPE].tolist() == [1]


def test_no_loop_is_closed_and_a_tree_belongs_to_one_cell() -> None:
    # Out at one side, around, and back at the other.
    around = [outwards((0, 0, 1), RADIUS + 2, 30).positions(3), CENTRE + np.array([[0, 30, 30], [0, 30, -30]])]
    back = outwards((0, 0, -1), RADIUS + 2, 30).positions(3)[::-1]
    places = np.concatenate([*around, back])
    tree = SwcForest.from_positions(places, np.arange(len(places)) - 1)
    assert join_at_somata(tree, known(), GAP).n_children[0] == 1
    second = CENTRE + np.array([0.0, 34.0, 0.0])
    one, two = known(radius=8.0), known(second, 8.0)
    both = Somata(
        np.concatenate([one.centre, two.centre]),
        np.concatenate([one.radius, two.radius]),
        np.concatenate([one.places, two.places]),
        np.repeat([0, 1], [len(one.places), len(two.places)]),
        one.half_diagonal,
    )
    between = line(CENTRE + np.array([0, 10, 0]), second - [0, 11, 0])
    of_second = outwards((0, 0, 1), 9, 30, second)
    joined = join_at_somata(concatenate([between, of_second]), both, GAP)
    assert joined.types[joined.roots].tolist() == [SOMA_TYPE] * 2 and joined.n_children[joined.roots].tolist() == [1, 1]


def test_without_a_tree_near_it_a_soma_is_left_out() -> None:
    far = outwards((0, 1, 0), RADIUS + GAP + 4, 38)
    joined = join_at_somata(far, known(), GAP)
    assert len(joined) == len(far) and not (joined.types == SOMA_TYPE).any()
    assert len(join_at_somata(SwcForest.empty(), known(), GAP)) == 0


def test_the_clean_up_joins_at_a_soma_in_thick_slices() -> None:
    sizes = np.array([2.5, 1.0, 1.0])
    pixels = volume(NEURITES, sizes=sizes)
    trace = concatenate(NEURITES)
    in_work = SwcForest.from_positions(trace.positions(3) / sizes, trace.parent)
    somata = find_somata(pixels, in_work.positions(3), LEAST, sizes)
    centerline = np.where(pixels[..., 0] > 0.3, 0.9, 0.0).astype(np.float32)
    settings = CleanupSettings(centre=False, spur=0)
    cleaned = clean_up(in_work, centerline, settings, spacing=sizes.tolist(), somata=somata)
    assert len(cleaned.roots) == 1 and cleaned.types[cleaned.roots[0]] == SOMA_TYPE
    np.testing.assert_allclose(cleaned.positions(3)[cleaned.roots[0]] * sizes, CENTRE, atol=0.7)
    assert cleaned.radius[cleaned.roots[0]] == pytest.approx(RADIUS, abs=1.5)


@pytest.mark.parametrize("stem", [4, 6, 8, 10])
def test_the_short_stem_of_a_neurite_is_no_spur(stem: float) -> None:
    pixels, somata = volume(NEURITES), known()
    fork = outwards((0, -1, -1), RADIUS + 0.5, RADIUS + stem)
    at = fork.positions(3)[-1]
    arms = [line(at, at + np.array(way) * 14) for way in ((0.2, -1, 0.1), (-0.2, 0.1, -1))]
    places = np.concatenate([fork.positions(3), *[arm.positions(3)[1:] for arm in arms]])
    stem_end, first = len(fork) - 1, [len(fork), len(fork) + len(arms[0]) - 1]
    parents = [np.array([stem_end, *range(at, at + len(arm) - 2)]) for at, arm in zip(first, arms, strict=True)]
    tree = SwcForest.from_positions(places, np.concatenate([np.arange(len(fork)) - 1, *parents]))
    centerline = np.where(pixels[..., 0] > 0.3, 0.9, 0.0).astype(np.float32)
    settings = CleanupSettings(centre=False, spur=12)
    cleaned = clean_up(concatenate([*NEURITES[:2], tree]), centerline, settings, somata=somata)
    assert len(cleaned.roots) == 1 and cleaned.n_children[cleaned.roots].tolist() == [3]


def test_without_gaps_neurites_that_touch_a_body_are_joined() -> None:
    joined = join_at_somata(concatenate(NEURITES), known(), 0.0)
    assert len(joined.roots) == 1 and joined.n_children[joined.roots].tolist() == [3]


@pytest.mark.parametrize("third", [(1.0, 0.0, 0.2), (0.0, 1.0, 0.0)])
def test_stems_of_a_body_are_not_joined_through_it(third: tuple[float, float, float]) -> None:
    """Nor taken for arms of a crossing: two of them face each other, across a third one."""
    ways = ((1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), third)
    stems = concatenate([outwards(way, 10, 21) for way in ways])
    joined = clean_up(
        stems,
        np.zeros(SHAPE, np.float32),
        CleanupSettings(gap=GAP, spur=0, isolated=False, centre=False, split_crossings=True),
        somata=known(radius=8.0),
    )
    assert len(joined.roots) == 1 and joined.n_children[joined.roots[0]] == 3
