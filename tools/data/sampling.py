"""Training samples from an image and its gold tree: used by the prepare scripts and by online training alike.

A *state* is what the tracer knows when it asks the network for the next node: where it stands and the path it walked.
Its labels are where to go: the next node and the edge to it. Sizes and shares are the paper's (docs/paper.md §3).

Legend: ``M`` edges of the tree, ``N`` states, ``W`` = 4 walked segments, ``B`` = 2 branches of a seed or the one
of a walk, ``F`` = 3 edges ahead on each. All positions are in work pixels, pixel-centre, ``(y, x)`` or ``(z, y, x)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from lib.klib.drawing import tubes
from lib.swclib import SwcForest, resample, rescale
from models.contract import EDGES_AHEAD, MAX_PAST, NODE_RADIUS, PAST_SHARES, TUBE_RADIUS, extended


class Kind(IntEnum):
    """What a sample shows; its number stands in ``samples.csv``."""

    WALK = 0
    SEED = 1
    NEGATIVE = 2


@dataclass(frozen=True)
class SampleShape:
    """How states are drawn from a tree.

    Attributes
    ----------
    step
        Distance from one node to the next, in work pixels of the finest axis.
    margin
        Nodes that a branch must go on for, before and after the current one.
    jitter
        Largest distance by which the current node is moved off the branch ("path correction"), in the same unit.
    jitter_share
        Share of walks so moved.
    seed_share
        Share of states with no path walked yet: both neighbours are next nodes.
    substeps
        Current nodes lie on a grid this many times finer than ``step``; 1 is the paper's own grid.
    negative_share
        Share of patches at random places: one per two positives in 2D, per four in 3D (docs/paper.md §3).
    spacing
        ``(ndim,)`` size of a pixel in units of its smallest side; empty: the same in all directions. What is drawn
        keeps its radius in pixels: a tube one slice thick is as thin as can be seen.
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
        """Take the spacing as any sequence, such as JSON's list."""
        object.__setattr__(self, "spacing", tuple(self.spacing))


@dataclass(frozen=True)
class States:
    """A batch of tracing states with their labels, as segments; absent ones are NaN.

    Attributes
    ----------
    kind
        ``(N,)`` :class:`Kind`.
    center
        ``(N, ndim)`` the current node.
    walked
        ``(N, W, 2, ndim)`` walked path, newest segment first.
    ahead
        ``(N, B, F, 2, ndim)`` edges of the current branch after the current node, nearest first.
    site
        ``(N,)`` directed edge of :class:`Walks` on which the state was drawn, −1 in a negative.
    """

    kind: np.ndarray
    center: np.ndarray
    walked: np.ndarray
    ahead: np.ndarray
    site: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: np.ndarray) -> States:
        """The states of some rows, in that order."""
        return States(*(array[rows] for array in vars(self).values()))

    def mapped(self, convert: Callable[[np.ndarray], np.ndarray]) -> States:
        """The same states with every position array ``(..., ndim)`` passed through ``convert``."""
        return replace(self, **{name: convert(getattr(self, name)) for name in ("center", "walked", "ahead")})

    @staticmethod
    def concatenate(parts: list[States]) -> States:
        """All states of ``parts``, in order."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return States(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True)
class StateMaps:
    """Drawn states: walked path, next edge, next node and current branch, each ``(N, *shape)`` bool."""

    walk: Tensor
    edge: Tensor
    node: Tensor
    branch: Tensor


def draw_states(states: States, corner: np.ndarray, shape: tuple[int, ...], device: str = "cpu") -> StateMaps:
    """Draw states into patches whose first pixels are the work pixels ``corner`` ``(N, ndim)``."""
    local = states.mapped(lambda p: p - corner.reshape(len(corner), *[1] * (p.ndim - 2), corner.shape[-1]))
    walked, ahead = (torch.from_numpy(a.astype(np.float32)).to(device) for a in (local.walked, local.ahead))
    following = ahead[:, :, 0]
    nodes = following[:, :, 1:].expand(-1, -1, 2, -1)
    walk = tubes(walked, TUBE_RADIUS, shape)
    return StateMaps(
        walk=walk,
        edge=tubes(following, TUBE_RADIUS, shape),
        node=tubes(nodes, NODE_RADIUS, shape),
        branch=walk | tubes(ahead.flatten(1, 2), TUBE_RADIUS, shape),
    )


class Walks:
    """Every walk along a tree, in both directions, as arrays over its directed edges.

    The tree is resampled to ``step / substeps``, a distance in space and not in pixels; directed edge ``e < M`` runs
    from parent to child, ``e + M`` back. Where a walk meets a fork it goes straight on: into the branch that turns
    least.

    Parameters
    ----------
    forest
        The gold tree in work pixels.
    ndim
        2 or 3.
    shape
        See :class:`SampleShape`.
    ignored
        ``(*S,)`` bool: pixels on which no walk may stand; None: all may.
    """

    def __init__(self, forest: SwcForest, ndim: int, shape: SampleShape, ignored: np.ndarray | None = None) -> None:
        self.shape = shape
        self.spacing = np.array(shape.spacing or (1.0,) * ndim)
        fine = resample(rescale(forest, self.spacing), shape.step / shape.substeps)
        self.nodes = fine.positions(ndim) / self.spacing
        self.tail = np.concatenate([fine.edges[:, 0], fine.edges[:, 1]])
        self.head = np.concatenate([fine.edges[:, 1], fine.edges[:, 0]])
        self._after = self._straightest()
        reverse = self._reverse(np.arange(len(self.tail)))
        self._before = self._reverse(self._after[reverse])
        reach = shape.margin * shape.substeps
        goes_on = self._run(self._after, reach - 1) >= 0  # the edge itself is the first of them
        allowed = goes_on & (self._run(self._before, reach) >= 0)
        if ignored is not None:
            pixel = np.clip(np.rint(self.nodes).astype(int), 0, np.array(ignored.shape) - 1)
            allowed &= ~ignored[tuple(pixel.T)][self.tail]
        self.sites = np.flatnonzero(allowed)
        """Directed edges on which a walk may stand: at their tail, on the way to their head."""

    def _reverse(self, edge: np.ndarray) -> np.ndarray:
        """The same edges walked the other way; −1 stays −1."""
        half = len(self.tail) // 2
        return np.where(edge < 0, -1, (edge + half) % max(2 * half, 1))

    def _run(self, follow: np.ndarray, count: int, start: np.ndarray | None = None) -> np.ndarray:
        """The edge ``count`` steps of ``follow`` from each of ``start`` (default: all), −1 where the branch ends."""
        edge = np.arange(len(self.tail)) if start is None else start
        for _ in range(count):
            edge = np.where(edge < 0, -1, follow[edge])
        return edge

    def _straightest(self) -> np.ndarray:
        """For every directed edge the one that goes on from its head and turns least, −1 at a leaf."""
        n_edges = len(self.tail)
        degree = np.bincount(self.tail, minlength=len(self.nodes))
        order = np.argsort(self.tail, kind="stable")
        first = np.cumsum(degree) - degree
        owner = np.repeat(np.arange(n_edges), degree[self.head])
        rank = np.arange(len(owner)) - np.repeat(np.cumsum(degree[self.head]) - degree[self.head], degree[self.head])
        following = order[first[self.head[owner]] + rank]
        keep = following != self._reverse(owner)
        owner, following = owner[keep], following[keep]
        leaving = self._direction(following, degree)
        arriving = -self._direction(self._reverse(owner), degree)
        straight = np.einsum("ij,ij->i", arriving, leaving)
        best = np.lexsort((following, -straight, owner))
        owner, following = owner[best], following[best]
        lead = np.flatnonzero(np.diff(owner, prepend=-1))
        after = np.full(n_edges, -1)
        after[owner[lead]] = following[lead]
        return after

    def _direction(self, edge: np.ndarray, degree: np.ndarray) -> np.ndarray:
        """Unit direction in space in which a branch leaves, ``(len(edge), ndim)``: over one ``step`` or up to a fork.

        The fine edges themselves follow the pixel grid of a hand-drawn skeleton and point anywhere.
        """
        # At a node of degree 2 the two leaving edges are told apart by sum: sum − the reverse of the arriving one.
        total = np.bincount(self.tail, weights=np.arange(len(self.tail)), minlength=len(self.nodes)).astype(int)
        end = edge.copy()
        for _ in range(self.shape.substeps - 1):
            node = self.head[end]
            only = total[node] - self._reverse(end)
            end = np.where(degree[node] == 2, only, end)
        along = (self.nodes[self.head[end]] - self.nodes[self.tail[edge]]) * self.spacing
        return along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)

    def _chain(self, start: np.ndarray, follow: np.ndarray, ends: np.ndarray, count: int) -> np.ndarray:
        """``(N, count, ndim)`` nodes at multiples of one step from ``start``; NaN beyond the branch's end."""
        chain = np.full((len(start), count, self.nodes.shape[1]), np.nan)
        edge = start
        for index in range(count):
            edge = self._run(follow, self.shape.substeps - (index == 0), edge)
            chain[edge >= 0, index] = self.nodes[ends[edge[edge >= 0]]]
        return chain

    def states(self, rng: np.random.Generator, sites: np.ndarray) -> States:
        """One random state (a walk or a seed) for each directed edge in ``sites`` ``(N,)``."""
        ahead = self._chain(sites, self._after, self.head, EDGES_AHEAD)
        past = self._chain(self._before[sites], self._before, self.tail, MAX_PAST)
        current = self.nodes[self.tail[sites]]
        seed = rng.random(len(sites)) < self.shape.seed_share
        center = np.where(seed[:, None], current, self._jittered(rng, current, ahead[:, 0]))
        walked = np.where(seed[:, None, None, None], np.nan, self._walked(rng, current, center, past))
        walked[seed, 0] = current[seed][:, None]
        back = np.where(seed[:, None, None], past[:, :EDGES_AHEAD], np.nan)
        branches = np.stack([_segments(center, ahead), _segments(center, back)], axis=1)
        return States(np.where(seed, Kind.SEED, Kind.WALK), center, walked, branches, sites)

    def moved(self, states: States) -> np.ndarray:
        """How far the current node of each of ``states`` lies off its branch, in the unit of ``jitter``: ``(N,)``."""
        distance, on_branch = np.zeros(len(states)), states.site >= 0
        place = self.nodes[self.tail[states.site[on_branch]]]
        distance[on_branch] = np.linalg.norm((states.center[on_branch] - place) * self.spacing, axis=1)
        return distance

    def _jittered(self, rng: np.random.Generator, current: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Move a share of the current nodes off the branch, along its normals, by up to ``jitter`` pixels each."""
        count, ndim = current.shape
        size = rng.uniform(-1, 1, (count, ndim - 1)) * self.shape.jitter
        size *= (rng.random(count) < self.shape.jitter_share)[:, None]
        moved = np.einsum("nk,nkd->nd", size, _normals((following - current) * self.spacing))
        return current + moved / self.spacing

    def _walked(
        self, rng: np.random.Generator, current: np.ndarray, center: np.ndarray, past: np.ndarray
    ) -> np.ndarray:
        """Walked segments over 1 to 4 past nodes, the oldest extended: ``(N, W, 2, ndim)``."""
        count = 1 + rng.choice(MAX_PAST, size=len(past), p=PAST_SHARES)
        count = np.minimum(count, np.isfinite(past[..., 0]).sum(axis=1))
        past = np.where(np.arange(MAX_PAST)[None, :, None] < count[:, None, None], past, np.nan)
        rows, last = np.arange(len(past)), count - 1
        before = np.where((last > 0)[:, None], past[rows, np.maximum(last - 1, 0)], current)
        past[rows, last] = extended(before, past[rows, last])
        return _segments(center, past)


def _segments(start: np.ndarray, chain: np.ndarray) -> np.ndarray:
    """``(N, K, 2, ndim)`` segments from ``start`` ``(N, ndim)`` along the nodes of ``chain`` ``(N, K, ndim)``."""
    begin = np.concatenate([start[:, None], chain[:, :-1]], axis=1)
    segments = np.stack([begin, chain], axis=2)
    return np.where(np.isfinite(segments).all(axis=(2, 3), keepdims=True), segments, np.nan)


def _normals(direction: np.ndarray) -> np.ndarray:
    """``(N, ndim − 1, ndim)`` unit vectors across ``direction`` ``(N, ndim)``."""
    unit = direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    if direction.shape[1] == 2:
        return np.stack([-unit[:, 1], unit[:, 0]], axis=1)[:, None]
    # Start from the axis least along the direction, so that the cross product cannot vanish.
    helper = np.eye(3)[np.abs(unit).argmin(axis=1)]
    first = np.cross(unit, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.stack([first, np.cross(unit, first)], axis=1)


def negative_states(rng: np.random.Generator, count: int, work_shape: tuple[int, ...]) -> States:
    """States at random places with nothing walked and nowhere to go; only their centerline label teaches."""
    ndim = len(work_shape)
    center = rng.uniform(0, np.array(work_shape) - 1, (count, ndim))
    return States(
        kind=np.full(count, Kind.NEGATIVE),
        center=center,
        walked=np.full((count, MAX_PAST, 2, ndim), np.nan),
        ahead=np.full((count, 2, EDGES_AHEAD, 2, ndim), np.nan),
        site=np.full(count, -1),
    )
