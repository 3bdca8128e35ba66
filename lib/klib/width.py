"""Width of tubes in an image, measured across them with sub-pixel accuracy.

At every place the grey values along the normal are compared with those of an ideal tube: a step of some width, blurred
by the optics and the pixels. The width that explains most of the profile is the tube's. What the method withstands by
construction: a bright stripe along the middle (the central reflex of retinal vessels), as the whole profile counts; a
slope of the background, which is fitted too; neighbours, because the profile ends where another tube is nearer; and a
faint line within a tube, because a profile of little contrast counts less than a longer one with more.

Fitting a blurred step to vessel profiles: Lowell et al., IEEE Trans. Med. Imaging 23 (2004) 1196. That profiles are
averaged along the branch, and their length chosen, is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter1d, map_coordinates
from scipy.special import ndtr

from lib.swclib import SwcForest
from lib.vectors import unit

Floats = NDArray[np.floating]

HALF_WINDOWS = (5.0, 9.0, 17.0, 32.0)
"""Half lengths of the profiles, in pixels: each width is tried in the shortest that shows both sides of such a tube."""
SAMPLES = 49
"""Samples of a profile."""
WIDTHS = 1.1 ** np.arange(39)
"""Pixels, 1 to 37: widths that are tried. Less than one cannot be told from a fainter tube."""
OFFSETS = 7
"""Offsets of the middle of the tube from the trace that are tried."""
FARTHEST = 0.7, 0.1
"""The largest of them, in pixels and as a share of the width: traces lie farther beside the middle of wide tubes."""
BLURS = (0.4, 0.55, 0.75, 1.0, 1.35, 1.8, 2.4, 3.2)
"""Standard deviations of the blur, in pixels, of which the one that fits an image best is taken."""
SPACING = 2.0
"""Pixels between the places along a branch at which a width is measured."""
ALONG = 2.0
"""Standard deviation, in places along a branch, over which profiles are averaged."""
USUAL = 0.5
"""What the share of bright places in the image counts for a branch: the stripe of a wide vessel is bright."""
CHANGE = 0.3
"""Price of a change between two places by one of :data:`WIDTHS`, in shares of a profile."""
WIDE, NARROWER = 6.0, 0.05
"""From so many pixels on a tube twice as wide must explain so much more: where nothing explains much, none is wide."""
STRIPE = 1 / 3
"""Width of the bright stripe along the middle of a vessel, as a share of the vessel's."""
FAINTER = 0.8
"""Largest contrast of the stripe, as a share of that of the vessel."""
STRIPED_FROM = 5.0
"""Pixels: narrower vessels show no stripe, and a stripe could imitate blur."""
FLANK, SIDES = 1.4, 2.5
"""A half window is at least so many half widths and blurs long, so that the sides of the tube are seen."""
NEARER = 0.7
"""Pixels by which another tube must be nearer for a profile to end there."""
CLEAR = 0.8
"""A profile counts in full from so much of the largest variance at its place, and in proportion below."""
TRIED_ON = 200
"""Places at which blur and channel are chosen."""
AT_ONCE = 4096
"""Places compared at a time, which bounds the memory."""


@dataclass(frozen=True)
class _Places:
    """Places ``(N, 2)`` along branches, unit normals ``(N, 2)``, and the number of the branch ``(N,)`` of each."""

    position: Floats
    normal: Floats
    branch: NDArray[np.integer]

    @classmethod
    def along(cls, branches: Sequence[Floats]) -> _Places:
        normals = []
        for branch in branches:
            # The direction over a few pixels: nodes are not exact to a tenth of one.
            smooth = gaussian_filter1d(branch, ALONG, axis=0, mode="nearest") if len(branch) > 2 else branch
            tangent = np.gradient(smooth, axis=0) if len(branch) > 1 else np.ones((1, 2))
            normals.append(unit(tangent)[:, ::-1] * [1.0, -1.0])
        numbers = np.repeat(np.arange(len(branches)), [len(branch) for branch in branches])
        return cls(np.concatenate(branches), np.concatenate(normals), numbers)

    def at(self, rows: NDArray[np.integer]) -> _Places:
        """Some of the places."""
        return _Places(self.position[rows], self.normal[rows], self.branch[rows])

    def split(self, values: Floats) -> list[Floats]:
        """Values ``(N, ...)`` by branch."""
        return np.split(values, np.flatnonzero(np.diff(self.branch)) + 1)

    def averaged(self, profiles: Floats) -> Floats:
        """Profiles ``(N, SAMPLES)`` averaged with their neighbours on the branch."""
        return np.concatenate([gaussian_filter1d(each, ALONG, axis=0, mode="nearest") for each in self.split(profiles)])


def tube_widths(pixels: Floats, branches: Sequence[Floats]) -> list[Floats]:
    """Width of the tube at every node of some branches, in pixels.

    Parameters
    ----------
    pixels
        ``(y, x, channels)`` the image; the channel with the clearest tubes is used.
    branches
        ``(n, 2)`` positions (y, x) of each branch, 0 at the centre of the first pixel, about :data:`SPACING` apart.

    Returns
    -------
    list of ndarray
        ``(n,)`` widths of each branch.
    """
    if not branches:
        return []
    places = _Places.along(branches)
    other = _distance_to_tubes(places.position, pixels.shape[:2])
    channels = np.moveaxis(np.asarray(pixels, dtype=np.float32), -1, 0)
    few = np.unique(np.linspace(0, len(places.position) - 1, TRIED_ON).astype(int))
    clear = [_worths(_windows(each, other, places.at(few)), BLURS[3])[0].max(axis=2) for each in channels]
    best = int(np.argmax([each.max(axis=0).mean() for each in clear]))
    brighter = float((clear[best][0] > clear[best][1]).mean())
    windows = [
        (places.averaged(profiles), seen, half) for profiles, seen, half in _windows(channels[best], other, places)
    ]
    tried = [(profiles[few], seen[few], half) for profiles, seen, half in windows]
    usual = 0 if brighter > 0.5 else 1
    by_blur = np.array([_worths(tried, blur)[0, usual].max(axis=1).mean() for blur in BLURS])
    blur = float(_peak(by_blur, np.array(BLURS)))
    prior = USUAL * np.array([brighter, 1 - brighter])
    tables = places.split(np.moveaxis(_shares(windows, blur), 2, 0))
    contrasts = places.split(_contrasts(windows, blur))
    return [
        _smoothest(*_of_one_brightness(table, contrast, prior))
        for table, contrast in zip(tables, contrasts, strict=True)
    ]


_Window = tuple[Floats, Floats, float]
"""Profiles ``(N, SAMPLES)``, which of their samples are seen ``(N, SAMPLES)``, and their half length."""


def _windows(channel: Floats, other: Floats, places: _Places) -> list[_Window]:
    """Profiles of every length."""
    return [(_sampled(channel, places, half), _unobstructed(other, places, half), half) for half in HALF_WINDOWS]


def _shares(windows: Sequence[_Window], blur: float) -> Floats:
    """``(2, 2, N, W)`` share of each profile that tubes of each width explain, see :func:`_explained`."""
    parts = []
    for widths, (profiles, seen, half) in zip(_widths_of_windows(blur), windows, strict=True):
        rows = range(0, len(profiles), AT_ONCE)
        found = [_explained(profiles[r : r + AT_ONCE], seen[r : r + AT_ONCE], half, widths, blur) for r in rows]
        parts.append(np.concatenate(found, axis=2))
    return np.concatenate(parts, axis=3)


def _widths_of_windows(blur: float) -> list[Floats]:
    """The widths that are tried in each window: each in the shortest one that is long enough for it."""
    limits = [0.0, *(2 * (half - SIDES * blur) / FLANK for half in HALF_WINDOWS[:-1]), np.inf]
    return [WIDTHS[(low <= WIDTHS) & (high > WIDTHS)] for low, high in pairwise(np.maximum.accumulate(limits))]


def _worths(windows: Sequence[_Window], blur: float) -> Floats:
    """``(2, 2, N, W)`` what tubes of each width explain, by the contrast of the profiles that show it."""
    return _shares(windows, blur) * _contrasts(windows, blur)


def _contrasts(windows: Sequence[_Window], blur: float) -> Floats:
    """``(N, W)`` what the profile counts in which a width is tried, 0 to 1, by the largest variance at its place.

    A short profile within a wide tube holds a faint line, or nothing; a narrow width can explain that all too well.
    """
    variances = np.stack([_variance(profiles, seen) for profiles, seen, _ in windows])
    shares = np.minimum(variances / np.maximum(CLEAR * variances.max(axis=0), 1e-12), 1.0)
    return np.repeat(shares.T, [len(widths) for widths in _widths_of_windows(blur)], axis=1)


def _variance(profiles: Floats, seen: Floats) -> Floats:
    """``(N,)`` variance of the samples of each profile that are seen."""
    count = np.maximum(seen.sum(axis=1, keepdims=True), 1.0)
    mean = (profiles * seen).sum(axis=1, keepdims=True) / count
    return ((profiles - mean) ** 2 * seen / count).sum(axis=1)


def _of_one_brightness(table: Floats, contrast: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """``(n, W)`` the share that tubes of each width explain along a branch, of its ``(n, 2, 2, W)``, and their worth.

    The worth is the share times the ``contrast`` ``(n, W)``. The branch is bright or dark, whichever explains more with
    the ``prior`` ``(2,)`` added. A stripe does not count: a bright tube with a dark stripe could pass for a dark tube.
    """
    worth = gaussian_filter1d(table * contrast[:, None, None], ALONG, axis=0, mode="nearest")
    brightness = (worth[:, 0].max(axis=2).mean(axis=0) + prior).argmax()
    return gaussian_filter1d(table[:, 1, brightness], ALONG, axis=0, mode="nearest"), worth[:, 1, brightness]


def node_widths(pixels: Floats, forest: SwcForest) -> Floats:
    """Width of the tube at every node of a forest ``(N,)``, in pixels; 0 at a node without edges.

    Parameters
    ----------
    pixels
        See :func:`tube_widths`.
    forest
        In pixels, 0 at the centre of the first. A branch point has the width of the branch that leads to it.
    """
    widths, branches = np.zeros(len(forest)), forest.branches()
    positions, measured = forest.positions(2), []
    along = [forest.along(rows) for rows in branches]
    for rows, walked in zip(branches, along, strict=True):
        places = np.linspace(0, walked[-1], max(2, round(walked[-1] / SPACING) + 1))
        measured.append(np.stack([np.interp(places, walked, axis) for axis in positions[rows].T], axis=1))
    # Backwards: the branch that leads to a node is before those that leave it.
    for rows, walked, found in reversed([*zip(branches, along, tube_widths(pixels, measured), strict=True)]):
        widths[rows] = np.interp(walked, np.linspace(0, walked[-1], len(found)), found)
    return widths


def _distance_to_tubes(positions: Floats, shape: Sequence[int]) -> Floats:
    """``(y, x)`` distance of each pixel to the nearest place on any branch."""
    empty = np.ones(shape, dtype=bool)
    pixel = np.clip(np.rint(positions).astype(int), 0, np.array(shape) - 1)
    empty[tuple(pixel.T)] = False
    return np.asarray(distance_transform_edt(empty), dtype=np.float32)


def _sampled(image: Floats, places: _Places, half: float) -> Floats:
    """``(N, SAMPLES)`` values of an image along the normals."""
    along = np.linspace(-half, half, SAMPLES)
    spots = places.position[:, None] + along[:, None] * places.normal[:, None]
    return map_coordinates(image, np.moveaxis(spots, -1, 0), order=1, mode="nearest")


def _unobstructed(other: Floats, places: _Places, half: float) -> Floats:
    """``(N, SAMPLES)`` 1 along a profile until another tube is nearer than its own, 0 from there on."""
    along = np.abs(np.linspace(-half, half, SAMPLES))
    own = (_sampled(other, places, half) > along - NEARER).astype(np.float32)
    middle = SAMPLES // 2
    right = np.minimum.accumulate(own[:, middle:], axis=1)
    left = np.minimum.accumulate(own[:, middle::-1], axis=1)[:, ::-1]
    return np.concatenate([left[:, :-1], right], axis=1)


def _explained(profiles: Floats, seen: Floats, half: float, widths: Floats, blur: float) -> Floats:
    """``(2, 2, N, W)`` share of the squares of each profile that a blurred step on a sloping background explains.

    By least squares over the samples that are seen: with background and slope taken out of step ``t`` and profile
    ``y``, the step explains ``(t·y)² / t·t`` of ``y·y``. A stripe ``s`` along the middle explains more where it is of
    the other sign than the step. The first axis is without and with a stripe, the second bright steps and dark ones.
    """
    along = np.linspace(-half, half, SAMPLES, dtype=np.float32)
    width, middle = (grid.ravel()[:, None] for grid in np.meshgrid(widths, np.linspace(-1, 1, OFFSETS), indexing="ij"))
    middle = middle * np.minimum(FARTHEST[0] + FARTHEST[1] * width, half / 3)

    def blurred(wide: Floats) -> Floats:
        ends = ((along - middle + side * wide / 2) / blur for side in (1, -1))
        return np.subtract(*map(ndtr, ends)).astype(np.float32)

    shapes = [blurred(width), blurred(width * STRIPE)]
    # Orthonormal background and slope for each place, 0 where nothing is seen: (N, SAMPLES).
    flat = seen / np.sqrt(np.maximum(seen.sum(axis=1, keepdims=True), 1e-6))
    sloped = seen * along - flat * (flat @ along)[:, None]
    sloped /= np.sqrt(np.maximum((sloped**2).sum(axis=1, keepdims=True), 1e-6))
    y = profiles * seen
    for each in (flat, sloped):
        y = y - each * (each * y).sum(axis=1, keepdims=True)
    background = [(flat @ shape.T, sloped @ shape.T) for shape in shapes]

    def product(one: int, other: int) -> Floats:
        (a_flat, a_sloped), (b_flat, b_sloped) = background[one], background[other]
        return seen @ (shapes[one] * shapes[other]).T - a_flat * b_flat - a_sloped * b_sloped

    tt, ts, ss = np.maximum(product(0, 0), 1e-5), product(0, 1), product(1, 1)
    ty, sy = (y @ shape.T for shape in shapes)
    contrast, gain = ty / tt, ty**2 / tt
    # The stripe, with the step taken out of it.
    left, rest = sy - ts * contrast, np.maximum(ss - ts**2 / tt, 1e-5)
    stripe = left / rest
    with_stripe = contrast - ts / tt * stripe
    striped = (
        (stripe * contrast < 0) & (np.abs(stripe) <= FAINTER * np.abs(with_stripe)) & (width[:, 0] >= STRIPED_FROM)
    )
    squares = np.maximum((y**2).sum(axis=1, keepdims=True), 1e-9)
    shares = [gain / squares, (gain + np.where(striped, left * stripe, 0.0)) / squares]
    tables = [np.where(sign * contrast > 0, share, 0.0) for share in shares for sign in (1, -1)]
    return np.stack([table.reshape(len(y), len(widths), OFFSETS).max(axis=2) for table in tables]).reshape(
        2, 2, len(y), len(widths)
    )


def _peak(score: Floats, values: Floats, best: NDArray[np.integer] | None = None) -> Floats:
    """The value at the highest ``score`` ``(..., V)``, or that near its ``best``, between those that were tried.

    By a parabola over the logarithms of the values.
    """
    best = np.clip(score.argmax(axis=-1) if best is None else best, 1, len(values) - 2)[..., None]
    below, at, above = (np.take_along_axis(score, best + step, axis=-1)[..., 0] for step in (-1, 0, 1))
    bend = np.minimum(below - 2 * at + above, -1e-12)
    shift = np.clip((below - above) / (2 * bend), -1, 1)
    return values[best[..., 0]] * (values[1] / values[0]) ** shift


def _smoothest(share: Floats, worth: Floats) -> Floats:
    """``(n,)`` widths along a branch for their worths ``(n, W)``: the sum is largest, less a price for every change.

    Found exactly, by dynamic programming, and refined between the widths that are tried by the ``share`` ``(n, W)``,
    which does not change from one window to the next.
    """
    grid = np.arange(share.shape[1])
    price = CHANGE * np.abs(grid - grid[:, None])
    worth = worth - NARROWER * np.log2(np.maximum(WIDTHS / WIDE, 1.0))
    total, before = worth[0], np.zeros(share.shape, dtype=np.int64)
    for row in range(1, len(share)):
        reached = total - price
        before[row] = reached.argmax(axis=1)
        total = reached[grid, before[row]] + worth[row]
    path = np.empty(len(share), dtype=np.int64)
    path[-1] = total.argmax()
    for row in range(len(share) - 1, 0, -1):
        path[row - 1] = before[row, path[row]]
    return _peak(share, WIDTHS, path)
