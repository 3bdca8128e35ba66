"""Training samples drawn from an image and its gold tree, for prepared patches and online training alike.

A *state* is the input of one step of the tracer: the current node and the path walked to it. Its labels are the next
nodes and the edges to them. Sizes and shares are the paper's (docs/paper.md §3).

Shapes: ``M`` edges of the tree; ``N`` states; ``W`` = 4 walked segments; ``B`` = 2 branches, the second only in seeds;
``F`` = 3 edges ahead on each branch. Positions are in work pixels, pixel-centre, ``(y, x)`` or ``(z, y, x)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import IntEnum

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lib.klib.drawing import tubes
from lib.swclib import SwcForest, resample, rescale
from lib.swclib.forest import enumerate_groups
from lib.swclib.nearest import EdgeSearch
from lib.vectors import unit
from models.contract import EDGES_AHEAD, MAX_PAST, NODE_RADIUS, PAST_SHARES, TUBE_RADIUS, extended


class Kind(IntEnum):
    """What a sample shows; ``samples.csv`` holds the number."""

    WALK = 0
    SEED = 1
    NEGATIVE = 2


@dataclass(frozen=True)
class SampleShape:
    """How states are drawn from a tree.

    Attributes
    ----------
    step
        Distance between consecutive nodes, in work pixels of the finest axis.
    margin
        Nodes by which a branch must continue before and after the current one.
    jitter
        Largest distance by which the current node is moved off the branch ("path correction"), in the unit of ``step``.
    jitter_share
        Share of walks whose current node is moved.
    seed_share
        Share of states at seed points, with no path walked yet: both neighbours are next nodes.
    substeps
        Current nodes lie on a grid this many times finer than ``step``; 1 is the paper's own grid.
    negative_share
        Share of patches at random places: one for two positives in 2D, one for four in 3D.
    spacing
        ``(ndim,)`` size of a pixel in units of its smallest side; empty if it is the same in all directions. Labels
        are drawn with their radius in pixels, even where slices are thick: no tube is thinner than a slice.
    """

    step: float = 10.0
    margin: int = 5
    jitter: float = 3.0
    jitter_share: float = 0.5
    seed_share: float = 0.1
    substeps: int = 5
    negative_share: float = 1 / 3
    spacing: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Convert the spacing from any sequence, such as a list read from JSON."""
        object.__setattr__(self, "spacing", tuple(self.spacing))


CROSSING = 3.0
"""Work pixels: tubes of two trees that come so near cross or touch, as each is drawn with a radius of one."""


@dataclass(frozen=True)
class States:
    """Tracing states with their labels, as segments; missing segments are NaN.

    Attributes
    ----------
    kind
        ``(N,)`` :class:`Kind`.
    center
        ``(N, ndim)`` the current node.
    walked
        ``(N, W, 2, ndim)`` walked path, newest segment first.
    ahead
        ``(N, B, F, 2, ndim)`` edges ahead of the current node, nearest first.
    site
        ``(N,)`` directed edge of :class:`Walks` on which the state was drawn; −1 in negatives.
    """

    kind: np.ndarray
    center: np.ndarray
    walked: np.ndarray
    ahead: np.ndarray
    site: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: np.ndarray) -> States:
        """Return the states in the given rows, in that order."""
        return States(*(array[rows] for array in vars(self).values()))

    def mapped(self, convert: Callable[[np.ndarray], np.ndarray]) -> States:
        """Apply ``convert`` to every array of positions ``(..., ndim)``."""
        return replace(self, **{name: convert(getattr(self, name)) for name in ("center", "walked", "ahead")})

    @staticmethod
    def concatenate(parts: list[States]) -> States:
        """Concatenate states in the given order."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return States(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True)
class StateMaps:
    """Maps of the states drawn into patches of ``shape``, each ``(N, *shape)`` bool.

    Attributes
    ----------
    walk
        The walked path.
    edge
        The edges to the next nodes.
    node
        The next nodes.
    branch
        The current branch: the walked path and the edges ahead.
    """

    walk: Tensor
    edge: Tensor
    node: Tensor
    branch: Tensor


STATE_MAPS = tuple(field.name for field in fields(StateMaps))
"""Names of the maps of a state."""


def draw_states(states: States, corner: np.ndarray, shape: tuple[int, ...], device: str = "cpu") -> StateMaps:
    """Draw the maps of states into patches.

    Parameters
    ----------
    states
        ``N`` states.
    corner
        ``(N, ndim)`` work index of the first pixel of each patch.
    shape
        Shape of a patch in work pixels.
    device
        Where to draw, and where the maps are.
    """
    local = states.mapped(lambda p: p - corner.reshape(len(corner), *[1] * (p.ndim - 2), corner.shape[-1]))
    walked, ahead = (torch.from_numpy(a.astype(np.float32)).to(device) for a in (local.walked, local.ahead))
    next_edges, later = ahead[:, :, 0], ahead[:, :, 1:].flatten(1, 2)
    nodes = next_edges[:, :, 1:].expand(-1, -1, 2, -1)
    # One call for all tubes, each kind in patches of its own; missing segments are NaN.
    kinds = pad_sequence([part.transpose(0, 1) for part in (walked, next_edges, later)], True, math.nan)
    walk, edge, rest = tubes(kinds.transpose(1, 2).flatten(0, 1), TUBE_RADIUS, shape).unflatten(0, (3, -1))
    return StateMaps(walk=walk, edge=edge, node=tubes(nodes, NODE_RADIUS, shape), branch=walk | edge | rest)


class Walks:
    """Every walk along a tree, in both directions, stored as arrays over the directed edges of the resampled tree.

    The tree is resampled to ``step / substeps``, a distance in space, not in pixels. Directed edge ``e < M`` runs from
    parent to child, and ``e + M`` runs back. At a fork, a walk continues into the branch that turns least.

    Parameters
    ----------
    forest
        The gold tree in work pixels.
    ndim
        2 or 3.
    shape
        See :class:`SampleShape`.
    ignored
        ``(*S,)`` bool: pixels that cannot hold the current node of a walk; None if all can.

    Attributes
    ----------
    nodes
        ``(nodes, ndim)`` positions of the resampled nodes in work pixels.
    tail, head
        ``(2 * M,)`` rows of ``nodes`` where each directed edge begins and ends.
    tree
        ``(2 * M,)`` number of the tree of each directed edge, as in the forest's ``components``.
    sites
        ``(sites,)`` directed edges on which a state can be drawn: its current node is their tail, and it walks towards
        their head.
    site_places
        ``(ndim, sites)`` positions of the current nodes of the sites, in work pixels.
    near_crossing
        ``(2 * M,)`` bool: directed edges that begin within a step and a half of a place where an edge of another tree
        is at most :data:`CROSSING` away.
    """

    def __init__(self, forest: SwcForest, ndim: int, shape: SampleShape, ignored: np.ndarray | None = None) -> None:
        self.shape = shape
        spacing = shape.spacing or (1.0,) * ndim
        self.spacing = np.array(spacing)
        fine = resample(rescale(forest, spacing), shape.step / shape.substeps)
        self.nodes = fine.positions(ndim) / self.spacing
        self.tail = np.concatenate([fine.edges[:, 0], fine.edges[:, 1]])
        self.head = np.concatenate([fine.edges[:, 1], fine.edges[:, 0]])
        self.tree = fine.components[self.tail]
        self._after = self._straightest()
        reverse = self._reverse(np.arange(len(self.tail)))
        self._before = self._reverse(self._after[reverse])
        reach = shape.margin * shape.substeps
        # The edge itself is the first of those ahead.
        allowed = (self._follow(self._after, reach - 1) >= 0) & (self._follow(self._before, reach) >= 0)
        if ignored is not None:
            pixel = np.clip(np.rint(self.nodes).astype(int), 0, np.array(ignored.shape) - 1)
            allowed &= ~ignored[tuple(pixel.T)][self.tail]
        self.sites = np.flatnonzero(allowed)
        self.site_places = np.ascontiguousarray(self.nodes[self.tail[self.sites]].T)
        self.near_crossing = _near_crossing(fine, 1.5 * shape.step)[self.tail]

    def _reverse(self, edge: np.ndarray) -> np.ndarray:
        """Return the edges in the opposite direction; −1 stays −1."""
        half = len(self.tail) // 2
        return np.where(edge < 0, -1, (edge + half) % max(2 * half, 1))

    def _follow(self, link: np.ndarray, count: int, start: np.ndarray | None = None) -> np.ndarray:
        """Follow ``link`` for ``count`` edges from ``start`` (default: every edge); −1 where the branch ends before."""
        edge = np.arange(len(self.tail)) if start is None else start
        for _ in range(count):
            edge = np.where(edge < 0, -1, link[edge])
        return edge

    def _straightest(self) -> np.ndarray:
        """For every directed edge, the edge from its head that turns least; −1 at a leaf."""
        degree = np.bincount(self.tail, minlength=len(self.nodes))
        order = np.argsort(self.tail, kind="stable")
        first = np.cumsum(degree) - degree
        edge, rank = enumerate_groups(degree[self.head])
        following = order[first[self.head[edge]] + rank]
        keep = following != self._reverse(edge)
        edge, following = edge[keep], following[keep]
        leaving = self._direction(following, degree)
        arriving = -self._direction(self._reverse(edge), degree)
        cosine = np.einsum("ij,ij->i", arriving, leaving)
        best = np.lexsort((following, -cosine, edge))
        edge, following = edge[best], following[best]
        straightest = np.flatnonzero(np.diff(edge, prepend=-1))
        after = np.full(len(self.tail), -1)
        after[edge[straightest]] = following[straightest]
        return after

    def _direction(self, edge: np.ndarray, degree: np.ndarray) -> np.ndarray:
        """Unit direction in space ``(len(edge), ndim)`` of a branch, measured over one ``step`` or up to a fork.

        The resampled edges alone are no measure: in a hand-drawn skeleton they follow the pixel grid.
        """
        # Two edges leave a node of degree 2: the reverse of the arriving one, and the one ahead. Subtracting the index
        # of the former from the sum of both leaves that of the latter.
        total = np.bincount(self.tail, weights=np.arange(len(self.tail)), minlength=len(self.nodes)).astype(int)
        end = edge.copy()
        for _ in range(self.shape.substeps - 1):
            node = self.head[end]
            end = np.where(degree[node] == 2, total[node] - self._reverse(end), end)
        return unit((self.nodes[self.head[end]] - self.nodes[self.tail[edge]]) * self.spacing)

    def _chain(self, start: np.ndarray, link: np.ndarray, ends: np.ndarray, count: int) -> np.ndarray:
        """Positions ``(N, count, ndim)`` of nodes one ``step`` from each other along a branch; NaN beyond its end."""
        chain = np.full((len(start), count, self.nodes.shape[1]), np.nan)
        edge = start
        for index in range(count):
            edge = self._follow(link, self.shape.substeps - (index == 0), edge)
            chain[edge >= 0, index] = self.nodes[ends[edge[edge >= 0]]]
        return chain

    def states(self, rng: np.random.Generator, sites: np.ndarray) -> States:
        """Draw one random state, a walk or a seed, on each directed edge of ``sites`` ``(N,)``."""
        ahead = self._chain(sites, self._after, self.head, EDGES_AHEAD)
        past = self._chain(self._before[sites], self._before, self.tail, MAX_PAST)
        current = self.nodes[self.tail[sites]]
        # Beside a crossing, a place alone does not tell which of the two tubes to follow.
        seed = (rng.random(len(sites)) < self.shape.seed_share) & ~self.near_crossing[sites]
        center = np.where(seed[:, None], current, self._jittered(rng, current, ahead[:, 0]))
        walked = np.where(seed[:, None, None, None], np.nan, self._walked(rng, current, center, past))
        walked[seed, 0] = current[seed][:, None]
        back = np.where(seed[:, None, None], past[:, :EDGES_AHEAD], np.nan)
        branches = np.stack([_segments(center, ahead), _segments(center, back)], axis=1)
        return States(np.where(seed, Kind.SEED, Kind.WALK), center, walked, branches, sites)

    def jitter_of(self, states: States) -> np.ndarray:
        """Distance ``(N,)`` of each current node from its branch, in the unit of ``step``; 0 in negatives."""
        on_branch = self.nodes[self.tail[states.site]] if len(self.tail) else states.center
        distance = np.linalg.norm((states.center - on_branch) * self.spacing, axis=1)
        return np.where(states.site >= 0, distance, 0.0)

    def _jittered(self, rng: np.random.Generator, current: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Move a share of the current nodes off the branch, by up to ``jitter`` along each of its normals."""
        count, ndim = current.shape
        size = rng.uniform(-1, 1, (count, ndim - 1)) * self.shape.jitter
        size *= (rng.random(count) < self.shape.jitter_share)[:, None]
        moved = np.einsum("nk,nkd->nd", size, _normals((following - current) * self.spacing))
        return current + moved / self.spacing

    def _walked(
        self, rng: np.random.Generator, current: np.ndarray, center: np.ndarray, past: np.ndarray
    ) -> np.ndarray:
        """Segments ``(N, W, 2, ndim)`` over 1 to 4 past nodes, the oldest one extended."""
        count = 1 + rng.choice(MAX_PAST, size=len(past), p=PAST_SHARES)
        count = np.minimum(count, np.isfinite(past[..., 0]).sum(axis=1))
        past = np.where(np.arange(MAX_PAST)[None, :, None] < count[:, None, None], past, np.nan)
        rows, last = np.arange(len(past)), count - 1
        before = np.where((last > 0)[:, None], past[rows, np.maximum(last - 1, 0)], current)
        past[rows, last] = extended(before, past[rows, last])
        return _segments(center, past)


def _near_crossing(forest: SwcForest, reach: float) -> np.ndarray:
    """``(nodes,)`` bool: nodes within ``reach`` of one at most :data:`CROSSING` from an edge of another tree."""
    if len(forest.roots) < 2 or not len(forest.edges):
        return np.zeros(len(forest), dtype=bool)
    hits, tree = EdgeSearch.of(forest).within(forest.xyz, CROSSING), forest.components
    at = np.unique(hits.point[tree[hits.point] != tree[forest.edges[hits.edge, 1]]])
    if not len(at):
        return np.zeros(len(forest), dtype=bool)
    return KDTree(forest.xyz[at]).query(forest.xyz, distance_upper_bound=reach)[0] <= reach


def _segments(start: np.ndarray, chain: np.ndarray) -> np.ndarray:
    """Segments ``(N, K, 2, ndim)`` from ``start`` ``(N, ndim)`` along the nodes of ``chain`` ``(N, K, ndim)``."""
    begin = np.concatenate([start[:, None], chain[:, :-1]], axis=1)
    segments = np.stack([begin, chain], axis=2)
    return np.where(np.isfinite(segments).all(axis=(2, 3), keepdims=True), segments, np.nan)


def _normals(direction: np.ndarray) -> np.ndarray:
    """Unit vectors ``(N, ndim − 1, ndim)`` perpendicular to ``direction`` ``(N, ndim)``."""
    along = unit(direction)
    if direction.shape[1] == 2:
        return np.stack([-along[:, 1], along[:, 0]], axis=1)[:, None]
    # Start from the axis least along the direction, so that the cross product cannot vanish.
    first = unit(np.cross(along, np.eye(3)[np.abs(along).argmin(axis=1)]))
    return np.stack([first, np.cross(along, first)], axis=1)


def negative_states(rng: np.random.Generator, count: int, work_shape: tuple[int, ...]) -> States:
    """Draw ``count`` states at random places of an image of ``work_shape``, without a walked path or a next node.

    Only the centerline label of their patches is used.
    """
    ndim = len(work_shape)
    center = rng.uniform(0, np.array(work_shape) - 1, (count, ndim))
    return States(
        kind=np.full(count, Kind.NEGATIVE),
        center=center,
        walked=np.full((count, MAX_PAST, 2, ndim), np.nan),
        ahead=np.full((count, 2, EDGES_AHEAD, 2, ndim), np.nan),
        site=np.full(count, -1),
    )
