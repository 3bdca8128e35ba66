"""Seeds, the places where traces start: on the centerline map, except near what is already traced."""

from __future__ import annotations

from itertools import chain

import numpy as np
from scipy.spatial import KDTree
from skimage.morphology import skeletonize

from tools.tracing.growth.geodesic import compiled
from tools.tracing.growth.settings import TraceSettings
from tools.tracing.ridge import uphill


class Seeds:
    """Places from which a trace may still start.

    A large image has five times as many seeds as nodes, so covered seeds are found for each new edge, not the reverse.

    Parameters
    ----------
    positions
        ``(N, ndim)`` in work pixels, in the order in which they are taken.
    gap
        Seeds nearer than this to a traced edge are dropped, in work pixels.
    spacing
        Seeds nearer than this to a seed taken with them, or to an active front, wait, in work pixels. A front that has
        walked knows which branch it is on; a seed does not.
    """

    def __init__(self, positions: np.ndarray, gap: float, spacing: float = 0.0) -> None:
        self._positions, self._gap, self._spacing = positions, gap, spacing
        self._free = np.ones(len(positions), dtype=bool)
        self._places = KDTree(positions) if len(positions) else None

    @classmethod
    def on_map(
        cls, centerline: np.ndarray, settings: TraceSettings, *, tile_shape: tuple[int, ...] | None = None
    ) -> Seeds:
        """Seeds on the skeleton of a centerline map, in random order (docs/paper.md §1).

        Parameters
        ----------
        centerline
            ``(*S,)`` probabilities.
        settings
            Threshold of the skeleton, distances and random seed.
        tile_shape
            ``(ndim,)`` in work pixels. If given, all seeds of one tile are taken before those of the next, so that the
            features of an image larger than memory are rarely computed twice.
        """
        pixels = skeleton_pixels(centerline, settings.seed_threshold)
        pixels = pixels[np.argsort(scrambled(pixels + (settings.origin or (0,)), settings.random_seed), kind="stable")]
        if tile_shape is not None:
            tiles = pixels // np.array(tile_shape)
            pixels = pixels[np.lexsort(tiles.T[::-1])]
        return cls(uphill(pixels, centerline), settings.seed_gap, settings.seed_spacing)

    def take(self, count: int, tips: np.ndarray | None = None) -> np.ndarray:
        """Take the next free seeds, at most ``count``: ``(K, ndim)`` in work pixels.

        None lies within ``spacing`` of another or of ``tips`` ``(F, ndim)``, the positions of the active fronts.
        """
        if count <= 0:
            return self._positions[:0]
        tips = np.empty((0, self._positions.shape[1])) if tips is None else np.ascontiguousarray(tips)
        taken = _apart(self._positions, np.flatnonzero(self._free), tips, self._spacing, count)
        self._free[taken] = False
        return self._positions[taken]

    def done(self) -> tuple[int, int]:
        """Number of seeds that were taken or dropped, and of all seeds."""
        return int(np.count_nonzero(~self._free)), len(self._free)

    def cover(self, segments: np.ndarray) -> None:
        """Drop the seeds near newly traced edges ``(M, 2, ndim)``."""
        if self._places is None or not len(segments):
            return
        start, along = segments[:, 0], segments[:, 1] - segments[:, 0]
        reach = np.linalg.norm(along, axis=1) / 2 + self._gap
        near = self._places.query_ball_point(start + along / 2, reach, return_sorted=False)
        edge = np.repeat(np.arange(len(segments)), [len(rows) for rows in near])
        row = np.fromiter(chain.from_iterable(near), dtype=np.int64, count=len(edge))
        offset = self._positions[row] - start[edge]
        squared = np.maximum((along**2).sum(axis=1), 1e-12)[edge]
        fraction = np.clip((offset * along[edge]).sum(axis=1) / squared, 0, 1)
        distance = np.linalg.norm(offset - fraction[:, None] * along[edge], axis=1)
        self._free[row[distance < self._gap]] = False


def scrambled(pixels: np.ndarray, seed: int) -> np.ndarray:
    """A random number ``(N,)`` for each pixel ``(N, ndim)``, which depends on its place and the seed alone.

    So a window of an image takes its seeds in the same order as the whole. The mixing is that of SplitMix64 (Steele et
    al., OOPSLA 2014).
    """
    number = np.full(len(pixels), seed, dtype=np.uint64)
    for axis in pixels.T.astype(np.uint64):
        number = number + axis + np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            number = (number ^ (number >> np.uint64(shift))) * np.uint64(factor)
        number ^= number >> np.uint64(31)
    return number


def skeleton_pixels(centerline: np.ndarray, threshold: float) -> np.ndarray:
    """Pixels ``(N, ndim)`` of the skeleton of a map ``(*S,)`` at a threshold, in the order of the map.

    Only the bounding box of the pixels above the threshold is searched, which saves time in nearly empty volumes.
    """
    above = centerline >= threshold
    if not above.any():
        return np.zeros((0, above.ndim), dtype=np.int64)
    across = [tuple(other for other in range(above.ndim) if other != axis) for axis in range(above.ndim)]
    sides = [np.flatnonzero(above.any(axis=others))[[0, -1]] for others in across]
    inside = above[tuple(slice(first, last + 1) for first, last in sides)]
    return np.argwhere(skeletonize(np.pad(inside, 1))) + [first - 1 for first, _ in sides]


@compiled
def _apart(positions, rows, tips, spacing, count):
    """The first ``count`` of ``rows`` whose positions are at least ``spacing`` from tips and from each other."""
    occupied, taken = np.empty((len(tips) + count, tips.shape[1])), np.empty(count, np.int64)
    occupied[: len(tips)] = tips
    found = 0
    for row in rows:
        if found == count:
            break
        for other in occupied[: len(tips) + found]:
            if ((positions[row] - other) ** 2).sum() < spacing**2:
                break
        else:
            occupied[len(tips) + found], taken[found] = positions[row], row
            found += 1
    return taken[:found]
