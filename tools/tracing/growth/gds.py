"""GDS, the geodesic distance-based search of NETracer (docs/paper.md §1), for many tips at once.

The node map shows where the next node may be, the edge map which path leads there. The search keeps the candidate that
is *nearest along the edge*, not the brightest: a bright node on a neighbouring branch is far away along our edge.

Legend: ``B`` tips, each with maps of spatial shape ``*S``, ``(y, x)`` or ``(z, y, x)``; ``K`` candidates of all tips
in flat arrays. Positions are pixel-centre coordinates of the maps. Radii of nodes are in pixels, lengths of steps in
*units*: pixels of the finest axis, see :attr:`Search.spacing`. In 2D both are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache

import numpy as np

from tools.tracing.growth.geodesic import Solver, as_volumes, lifted, shortest_paths
from tools.tracing.growth.peaks import SLACK, find_peaks

STEP_LIMIT = 10.0
"""A step longer than this many node radii is refused (docs/paper.md §5)."""


@dataclass(frozen=True)
class Search:
    """Settings of the search.

    Attributes
    ----------
    r
        Node radius in pixels: 2 for DRIVE, CHASEDB1 and 3D, 3 for ROAD (docs/paper.md §5). Candidates of one tip are
        farther than this from each other and from the tip.
    num_vec
        Bins of direction around the tip (docs/paper.md §5); only the brightest candidate of a bin is kept.
    border
        Pixels along the border of the map that are ignored, one number or one per axis (docs/paper.md §5: 4).
    floor
        A peak must be above this share of its map's highest value (docs/paper.md §5: half).
    min_node
        A peak must also be above this probability, or every empty map would have candidates. Ours: with β = 0.9 the
        network's output of 0.02 stands for a probability of 1 in 440 (docs/paper.md §6).
    spacing
        ``(ndim,)`` size of a pixel in units, see :func:`~lib.klib.spaces.relative_spacing`; None means 1.
    solver
        Solver of the geodesic distances.
    slack
        See :data:`~tools.tracing.growth.peaks.SLACK`.
    """

    r: float
    num_vec: int = 50
    border: int | tuple[int, ...] = 4
    floor: float = 0.5
    min_node: float = 0.02
    spacing: tuple[float, ...] | None = None
    solver: Solver = "dijkstra"
    slack: float = SLACK

    def in_units(self, steps: np.ndarray) -> np.ndarray:
        """Steps ``(..., ndim)`` in pixels, converted to units."""
        return steps if self.spacing is None else steps * np.array(self.spacing)

    @property
    def longest(self) -> float:
        """Length of the longest step allowed, in units."""
        return STEP_LIMIT * self.r

    @property
    def reach(self) -> float:
        """Distance from the tip within which a path may bend, in units: one node radius beyond the longest step."""
        return self.longest + self.r


@dataclass(frozen=True)
class Candidates:
    """Candidates for the next node, those of each tip together.

    Attributes
    ----------
    owner
        ``(K,)`` int64, row of the tip in the batch, ascending.
    position
        ``(K, ndim)`` float64 position in the map, to a fraction of a pixel.
    score
        ``(K,)`` float64 node probability at the peak.
    geodesic
        ``(K,)`` float64 distance from the tip along the edge map; inf beyond the reach, NaN if not measured.
    edge_mean
        ``(K,)`` float64 mean edge probability on that path: high if the edge leads there, low if the path crosses
        background; NaN if not measured.
    """

    owner: np.ndarray
    position: np.ndarray
    score: np.ndarray
    geodesic: np.ndarray
    edge_mean: np.ndarray

    def __len__(self) -> int:
        return len(self.owner)

    def take(self, rows: np.ndarray) -> Candidates:
        """The candidates at ``rows``: indices or a mask."""
        return Candidates(*(getattr(self, field.name)[rows] for field in fields(self)))

    def winners(self) -> Candidates:
        """The first candidate of every tip that has one."""
        return self.take(np.diff(self.owner, prepend=-1) != 0)


def search_batch(
    node: np.ndarray, edge: np.ndarray, tips: np.ndarray, search: Search, *, use_edge: bool = True
) -> Candidates:
    """Candidates of every tip, the best first.

    Parameters
    ----------
    node, edge
        ``(B, *S)`` probabilities.
    tips
        ``(B, ndim)`` positions of the tips in their maps.
    search
        See :class:`Search`.
    use_edge
        False sorts by score and measures no distance: the node-only search that the paper compares with.

    Returns
    -------
    Candidates
        Of each tip by geodesic distance. Ties occur where an edge of probability 1 costs nothing; then the candidate
        nearer in a straight line comes first, then the brighter.

    Raises
    ------
    ValueError
        If the shapes of maps and tips do not fit.
    """
    found = find_candidates(node, tips, search)
    if not use_edge:
        return found
    starts, targets = (_nearest_pixel(p, node.shape[1:]) for p in (tips, found.position))
    paths = shortest_paths(
        edge, starts, found.owner, targets, reach=search.reach, spacing=search.spacing, solver=search.solver
    )
    straight = np.linalg.norm(search.in_units(found.position - np.asarray(tips)[found.owner]), axis=1)
    order = np.lexsort((-found.score, straight, paths.distance, found.owner))
    return Candidates(found.owner, found.position, found.score, paths.distance, paths.edge_mean).take(order)


def find_candidates(node: np.ndarray, tips: np.ndarray, search: Search) -> Candidates:
    """Peaks of the node maps, the brightest of each tip first; ``geodesic`` and ``edge_mean`` are NaN.

    Parameters
    ----------
    node
        ``(B, *S)`` node probabilities.
    tips
        ``(B, ndim)`` positions of the tips in their maps.
    search
        See :class:`Search`.

    Raises
    ------
    ValueError
        If the shapes of maps and tips do not fit.
    """
    node, tips = np.ascontiguousarray(node, dtype=np.float32), np.asarray(tips, dtype=np.float64)
    ndim = node.ndim - 1
    if tips.shape != (len(node), ndim):
        raise ValueError(f"node (B, *S) and tips (B, ndim) do not fit: {node.shape} and {tips.shape}")
    sizes = 1.0 if search.spacing is None else search.spacing
    rows = np.broadcast_to(search.border, ndim), np.broadcast_to(sizes, ndim), unit_directions(search.num_vec, ndim)
    border, spacing, directions = (lifted(np.atleast_2d(row)) for row in rows)
    floor, min_node = np.float32(search.floor), np.float32(search.min_node)
    limits = float(search.r), floor, min_node, search.slack, spacing[0], float(search.longest)
    owner, position, score = find_peaks(*as_volumes(node, tips), border[0], *limits, directions)
    unknown = np.full(len(owner), np.nan)
    return Candidates(owner, position[:, -ndim:], score, unknown, unknown)


@cache
def unit_directions(count: int, ndim: int) -> np.ndarray:
    """``(count, ndim)`` evenly spread unit vectors: equal angles from the x axis in 2D, a Fibonacci sphere in 3D."""
    index = np.arange(count)
    if ndim == 2:
        angle = 2 * math.pi * index / count
        return np.stack([np.sin(angle), np.cos(angle)], axis=1)
    height = 1 - (2 * index + 1) / count
    angle = math.pi * (3 - math.sqrt(5)) * index
    across = np.sqrt(1 - height**2)
    return np.stack([height, across * np.sin(angle), across * np.cos(angle)], axis=1)


def _nearest_pixel(position: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The pixel of a map of ``shape`` nearest to each position ``(N, ndim)``, int64."""
    return np.clip(np.floor(np.asarray(position) + 0.5), 0, np.array(shape) - 1).astype(np.int64)
