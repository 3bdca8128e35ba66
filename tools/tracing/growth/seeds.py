"""Where traces start: places on the centerline map, less those that the trace has reached."""

from __future__ import annotations

from itertools import chain

import numpy as np
from scipy.ndimage import find_objects
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize

from tools.tracing.ridge import uphill


class Seeds:
    """Places that wait for a trace to start from them.

    A trace of a large image has five times as many seeds as nodes: what becomes of them is not asked seed by seed, but
    found edge by edge.

    Parameters
    ----------
    positions
        ``(N, ndim)`` work positions, in the order in which they are taken.
    gap
        Seeds nearer than this to a traced edge are dropped.
    spacing
        Seeds nearer than this to a seed taken together with them, or to a trace under way, wait: a trace that has
        walked knows where it comes from, a seed does not.
    """

    def __init__(self, positions: np.ndarray, gap: float, spacing: float = 0.0) -> None:
        self._positions, self._gap, self._spacing = positions, gap, spacing
        self._free = np.ones(len(positions), dtype=bool)
        self._places = cKDTree(positions) if len(positions) else None

    @classmethod
    def on_map(
        cls,
        centerline: np.ndarray,
        threshold: float,
        gap: float,
        seed: int,
        *,
        spacing: float = 0.0,
        tile_shape: tuple[int, ...] | None = None,
    ) -> Seeds:
        """Seeds on the skeleton of a map ``(*S,)`` at ``threshold``, in random order (paper, "Tracing").

        With ``tile_shape``, a shape in pixels, in random order inside each box of that shape, box by box: then what the
        network has to be asked for again stays little where an image is larger than memory.
        """
        pixels = np.random.default_rng(seed).permutation(skeleton_pixels(centerline, threshold))
        if tile_shape is not None:
            boxes = pixels // np.array(tile_shape)
            pixels = pixels[np.lexsort(boxes.T[::-1])]
        return cls(uphill(pixels, centerline), gap, spacing)

    def take(self, count: int, tips: np.ndarray | None = None) -> np.ndarray:
        """The next free seeds, at most ``count``: ``(K, ndim)``.

        None lies within ``spacing`` of another or of ``tips`` ``(F, ndim)``, the places where traces are under way.
        """
        rows, taken = np.flatnonzero(self._free) if count > 0 else np.zeros(0, dtype=np.int64), []
        if tips is not None and len(tips) and len(rows):
            rows = rows[cKDTree(tips).query(self._positions[rows])[0] >= self._spacing]
        while len(rows) and len(taken) < count:
            taken.append(rows[0])
            away = self._positions[rows[1:]] - self._positions[rows[0]]
            rows = rows[1:][(away**2).sum(axis=1) >= self._spacing**2]
        self._free[taken] = False
        return self._positions[taken]

    def cover(self, segments: np.ndarray) -> None:
        """Drop the seeds near newly traced edges ``(M, 2, ndim)``."""
        if self._places is None or not len(segments):
            return
        start, along = segments[:, 0], segments[:, 1] - segments[:, 0]
        reach = np.linalg.norm(along, axis=1) / 2 + self._gap
        around = self._places.query_ball_point(start + along / 2, reach)
        edge = np.repeat(np.arange(len(segments)), [len(rows) for rows in around])
        row = np.fromiter(chain.from_iterable(around), dtype=np.int64, count=len(edge))
        offset = self._positions[row] - start[edge]
        squared = np.maximum((along**2).sum(axis=1), 1e-12)[edge]
        fraction = np.clip((offset * along[edge]).sum(axis=1) / squared, 0, 1)
        distance = np.linalg.norm(offset - fraction[:, None] * along[edge], axis=1)
        self._free[row[distance < self._gap]] = False


def skeleton_pixels(centerline: np.ndarray, threshold: float) -> np.ndarray:
    """``(N, ndim)`` pixels of the skeleton of a map ``(*S,)`` at ``threshold``, in the order of the map.

    Only the box that holds something is looked at: of a volume that is mostly empty a part of the time.
    """
    sure = centerline >= threshold
    (inside,) = find_objects(sure.astype(np.uint8)) or [None]
    if inside is None:
        return np.zeros((0, sure.ndim), dtype=np.int64)
    low = np.array([side.start for side in inside])
    return np.argwhere(skeletonize(np.pad(sure[inside], 1))) + low - 1
