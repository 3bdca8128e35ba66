"""Whether a trace stays in its tube: changes from one kind of tube to another, and crossings passed straight.

Tubes of two kinds, such as arteries and veins, cross and never join. A trace that goes on from one kind into the other
has jumped. docs/metrics.md explains the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from lib.swclib.forest import KIND_TYPE, SwcForest, adjacency
from lib.swclib.metrics.f1 import share
from lib.swclib.nearest import EdgeSearch
from lib.swclib.transform import resample

NEAR = 3.0
"""Pixels between a trace and the label or the gold tree whose kind it is said to follow."""
SHORTEST_RUN = 6.0
"""Pixels: a shorter piece of another kind is no change, labels are not exact to a pixel."""
SIDE = 10.0
"""Pixels along a gold tube from a crossing to the places on both sides that a trace must connect."""
DETOUR = 1.5
"""A path in the trace, at most this many times as long as that of the gold tree plus :data:`NEAR`, connects them."""
_STEP = 1.0
_TOUCH = 1.5
"""Pixels between two gold tubes that cross: their polylines meet somewhere between two nodes."""


@dataclass(frozen=True)
class KindScore:
    """How well a trace stays in tubes of one kind.

    Attributes
    ----------
    changes
        Places where a trace goes on from a tube of one kind into one of another.
    places
        ``(changes, 3)`` positions of these, (x, y, z).
    purity
        Share of the length of known kind that is of the kind most frequent in its tree; None if no kind is known.
    held
        Passes of a gold tube through a crossing, of which the trace has both sides.
    straight
        Those of them where the trace connects both sides and joins neither to the other tube.
    passes
        All passes.
    """

    changes: int
    places: NDArray[np.floating]
    purity: float | None
    held: int
    straight: int
    passes: int

    def row(self) -> dict[str, float | int | None]:
        """Columns of a table."""
        straight = share(self.straight, self.held) if self.held else None
        held = share(self.held, self.passes) if self.passes else None
        return {
            "kind_changes": self.changes,
            "kind_purity": self.purity,
            "crossings_straight": straight,
            "crossings_held": held,
        }


@dataclass(frozen=True)
class Passes:
    """Passes of gold tubes through crossings: places ``(P, 3)`` at the crossing and :data:`SIDE` before and after it.

    ``kind`` ``(P,)`` is the type of the tube's nodes, ``length`` ``(P,)`` the way along it from before to after.
    """

    at: NDArray[np.floating]
    before: NDArray[np.floating]
    after: NDArray[np.floating]
    kind: NDArray[np.integer]
    length: NDArray[np.floating]

    def __len__(self) -> int:
        return len(self.kind)


def kind_score(gold: SwcForest, test: SwcForest, labels: NDArray[np.integer], shared: int) -> KindScore:
    """Score a trace by the kinds of the tubes that it follows.

    Parameters
    ----------
    gold
        Gold trees that cross, of which every node's type is its kind, see `lib.klib.kinds.kinds_to_forest`.
    test
        The trace; like the gold trees in pixel-centre coordinates.
    labels
        ``(y, x)`` or ``(z, y, x)`` label image of the kinds.
    shared
        Its value for several kinds or an uncertain one.
    """
    fine = resample(test, _STEP)
    kind = _without_short_runs(fine, node_kinds(fine, labels, shared))
    changes = _changes(fine, kind)
    passes = find_passes(gold)
    held, straight = _passed(passes, fine, kind)
    return KindScore(len(changes), fine.xyz[changes], _purity(fine, kind), held, straight, len(passes))


def node_kinds(forest: SwcForest, labels: NDArray[np.integer], shared: int) -> NDArray[np.integer]:
    """Kind of each node ``(N,)``: that of the nearest tube within :data:`NEAR` pixels, 0 if it is shared or none."""
    # scipy has no stubs: pyright does not know that there are two results.
    distance, nearest = distance_transform_edt(labels == 0, return_indices=True)  # pyright: ignore[reportGeneralTypeIssues]
    pixel = np.rint(forest.positions(labels.ndim)).astype(int)
    index = tuple(np.clip(pixel, 0, np.array(labels.shape) - 1).T)
    kind = labels[tuple(axis[index] for axis in nearest)].astype(int)
    return np.where((distance[index] <= NEAR) & (kind != shared), kind, 0)


def _without_short_runs(forest: SwcForest, kind: NDArray[np.integer]) -> NDArray[np.integer]:
    """Kinds ``(N,)`` with 0 in runs shorter than :data:`SHORTEST_RUN`."""
    parent, child = forest.edges.T
    same = kind[parent] == kind[child]
    _, run = connected_components(adjacency(forest.edges[same], len(forest)), directed=False)
    length = np.bincount(run[child[same]], forest.edge_lengths[same], minlength=run.max(initial=-1) + 1)
    return np.where(length[run] >= SHORTEST_RUN, kind, 0)


def _changes(forest: SwcForest, kind: NDArray[np.integer]) -> NDArray[np.integer]:
    """Rows where the kind changes, directly or across a stretch of unknown kind.

    Of the runs around such a stretch, all but those of the most frequent kind are changes.
    """
    parent, child = forest.edges.T
    known = kind > 0
    direct = child[known[parent] & known[child] & (kind[parent] != kind[child])]
    inside = forest.edges[~known[parent] & ~known[child]]
    _, stretch = connected_components(adjacency(inside, len(forest)), directed=False)
    rims = known[parent] != known[child]
    rim = np.where(known[parent[rims]], parent[rims], child[rims])
    beside = stretch[np.where(known[parent[rims]], child[rims], parent[rims])]
    order = np.argsort(beside, kind="stable")
    groups = np.split(rim[order], np.flatnonzero(np.diff(beside[order])) + 1)
    across = [rows[kind[rows] != np.bincount(kind[rows]).argmax()] for rows in groups if len(rows)]
    return np.concatenate([direct, *across])


def _purity(forest: SwcForest, kind: NDArray[np.integer]) -> float | None:
    child = forest.edges[:, 1]
    known = kind[child] > 0
    lengths = np.zeros((len(forest.roots), kind.max(initial=0) + 1))
    np.add.at(lengths, (forest.components[child[known]], kind[child[known]]), forest.edge_lengths[known])
    return float(lengths.max(axis=1).sum() / lengths.sum()) if lengths.sum() else None


def find_passes(gold: SwcForest) -> Passes:
    """Every pass of a gold tube through one of another kind, once for each of the two."""
    fine = resample(gold, _STEP)
    hits = EdgeSearch.of(fine).within(fine.xyz, _TOUCH)
    own, other = fine.types[hits.point], fine.types[fine.edges[hits.edge, 1]]
    touching = np.zeros(len(fine), dtype=bool)
    touching[hits.point[(own != other) & (own != KIND_TYPE) & (other != KIND_TYPE)]] = True
    rows = [found for branch in fine.branches() for found in _passes_of(branch, touching, fine)]
    at, before, after = (np.array([row[k] for row in rows], dtype=int) for k in range(3))
    crosses = _on_opposite_sides(fine, before, after, fine.types[at])
    at, before, after = at[crosses], before[crosses], after[crosses]
    length = np.abs(fine.root_distance[after] - fine.root_distance[before])
    return Passes(fine.xyz[at], fine.xyz[before], fine.xyz[after], fine.types[at], length)


def _passes_of(branch: NDArray[np.integer], touching: NDArray[np.bool_], fine: SwcForest) -> list[tuple[int, int, int]]:
    """Rows at, before and after each stretch of a branch that touches another kind, unless the branch ends there."""
    padded = np.concatenate([[False], touching[branch], [False]])
    begins, ends = np.flatnonzero(padded[1:] & ~padded[:-1]), np.flatnonzero(padded[:-1] & ~padded[1:]) - 1
    along, found = fine.along(branch), []
    for begin, end in zip(begins, ends, strict=True):
        if along[begin] >= SIDE and along[-1] - along[end] >= SIDE:
            before = int(np.searchsorted(along, along[begin] - SIDE, side="right")) - 1
            after = int(np.searchsorted(along, along[end] + SIDE))
            found.append((int(branch[(begin + end) // 2]), int(branch[before]), int(branch[after])))
    return found


def _on_opposite_sides(
    fine: SwcForest, before: NDArray[np.integer], after: NDArray[np.integer], kind: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """Whether the nearest tubes of other kinds lie between two places; tubes that only touch do not."""
    crosses = np.zeros(len(before), dtype=bool)
    edge_kind = fine.types[fine.edges[:, 1]]
    for own in np.unique(kind):
        others = fine.xyz[fine.edges[(edge_kind != own) & (edge_kind != KIND_TYPE)]]
        search, rows = EdgeSearch(others[:, 1], others[:, 0]), np.flatnonzero(kind == own)
        sides = [fine.xyz[end[rows]] - search.nearest(fine.xyz[end[rows]]).foot for end in (before, after)]
        crosses[rows] = (sides[0] * sides[1]).sum(axis=1) < 0
    return crosses


def _passed(passes: Passes, test: SwcForest, kind: NDArray[np.integer]) -> tuple[int, int]:
    """Passes of which the trace holds both sides, and those that it passes straight."""
    if not len(passes) or not len(test):
        return 0, 0
    tree = KDTree(test.xyz)
    near = [tree.query_ball_point(side, NEAR) for side in (passes.before, passes.after)]
    others = tree.query_ball_point(passes.at, SIDE)
    held = straight = 0
    for before, after, other, length in zip(*near, others, passes.length.tolist(), strict=True):
        if not before or not after:
            continue
        held += 1
        one, two = np.repeat(before, len(after)), np.tile(after, len(before))
        paths = test.path_distance(one, two)
        best = int(np.argmin(paths))
        if paths[best] > DETOUR * length + NEAR:
            continue
        own = kind[one[best]] or kind[two[best]]
        foreign = np.array([row for row in other if kind[row] not in (0, own)], dtype=int)
        straight += not (own and (test.path_distance(one[best], foreign) <= 2 * SIDE + length).any())
    return held, straight
