"""Crossings split into two trees: where a trace has joined two branches that cross, each continues straight on.

A front that meets a traced branch from one side is joined to it, and so is a front from the other side. The result is
two forks, or one fork of four branches, and two neurites have become one tree. Or the second front stops short of the
branch: one fork, and an end that faces it across the branch. Or both fronts stop short: two ends that face each other
across a third tree are joined.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from lib.swclib import SwcForest, rewire, spans, subset
from lib.swclib.forest import adjacency
from lib.swclib.nearest import EdgeSearch
from lib.vectors import unit
from tools.tracing.valley import STRAIGHT

REACH = 10.0
"""Units. Forks no farther from each other along a branch are one meeting of branches: a step of the trace."""
LOOK = 10.0
"""Units of a branch, from the meeting on, that give its direction."""
FACING = math.cos(math.radians(45))
"""Cosine of the greatest angle between a branch and the way on from its end to what continues it."""
TOUCHING = 3.0
"""Units between an end and a meeting within which the way from one to the other has no direction."""
ACROSS = 24.0
"""Units: two ends on both sides of another tree are joined at most this far from each other."""
BESIDE = 3.0
"""Units between such a line and the tree that it crosses."""

Arm = np.ndarray
"""int ``(K,)`` rows of a branch that leaves a meeting; the first lies in it."""


@dataclass
class Meeting:
    """Forks near each other: the rows of the forks and of the nodes between them, and the branches that leave them."""

    core: set[int] = field(default_factory=set)
    arms: list[Arm] = field(default_factory=list)


def split_crossings(forest: SwcForest, gap: float = 0.0, taken: Sequence[int] | np.ndarray = ()) -> SwcForest:
    """Split every meeting of four branches that form two straight pairs.

    The nearest nodes of each pair outside the meeting are joined, and the nodes inside are dropped, because the map
    there belongs to both. Where three branches meet, one that ends nearby, facing them, is the fourth. Other meetings
    stay.

    Parameters
    ----------
    forest
        A finished trace in units; its roots are ends.
    gap
        Longest way in units from such an end to the meeting; 0 takes no ends.
    taken
        Rows of ends that belong to something else.

    Returns
    -------
    SwcForest
        The branches of each crossing go straight on; its roots are ends.
    """
    ends, joined, dropped = Ends(forest), list[tuple[int, int]](), list[int]()
    for meeting in _meetings(forest):
        fours = [meeting.arms] if len(meeting.arms) == 4 else []
        if len(meeting.arms) == 3 and gap > 0:
            fours = [[*meeting.arms, arm] for arm in ends.facing(meeting, gap, {*taken, *chain.from_iterable(joined)})]
        if pairs := _straightest_pairs(fours, forest):
            joined += [(int(one[1]), int(other[1])) for one, other in pairs]
            dropped += meeting.core
    if not dropped:
        return forest
    kept = forest.edges[~np.isin(forest.edges, dropped).any(axis=1)]
    count, tree = connected_components(adjacency(kept, len(forest)), directed=False)
    trees = DisjointSet(range(count))
    # Two meetings may each join what the other one has cut off: the second join would close a loop.
    joined = [pair for pair in joined if trees.merge(*tree[list(pair)].tolist())]
    rewired = rewire(forest, np.concatenate([kept, joined]))
    return subset(rewired, ~np.isin(rewired.file_order, dropped))


def join_across(forest: SwcForest, taken: Sequence[int] | np.ndarray = ()) -> SwcForest:
    """Join ends of one type that continue each other across a third tree.

    The straightest come first; no end is joined twice, and no edge closes a loop.

    Parameters
    ----------
    forest
        A finished trace in units; its roots are ends.
    taken
        Rows of ends that belong to something else.
    """
    ends = Ends(forest)
    pairs = ends.search.query_pairs(ACROSS, output_type="ndarray").reshape(-1, 2)
    pairs = pairs[~np.isin(ends.rows[pairs], list(taken)).any(axis=1)]
    one, other = ends.rows[pairs].T
    way = unit(forest.xyz[other] - forest.xyz[one])
    ahead = -(ends.inward[pairs[:, 0]] * way).sum(axis=1), (ends.inward[pairs[:, 1]] * way).sum(axis=1)
    turn = np.minimum(*ahead)
    fits = np.flatnonzero((turn >= FACING) & (forest.types[one] == forest.types[other]))
    fits = fits[_lead_across(forest, one[fits], other[fits])]
    order = fits[np.argsort(-turn[fits], kind="stable")]
    trees, used, joined = DisjointSet(range(len(forest.roots))), set[int](), list[tuple[int, int]]()
    for pair in zip(one[order].tolist(), other[order].tolist(), strict=True):
        if used.isdisjoint(pair) and trees.merge(*forest.components[list(pair)].tolist()):
            joined.append(pair)
            used.update(pair)
    return rewire(forest, np.concatenate([forest.edges, joined])) if joined else forest


def _lead_across(forest: SwcForest, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``(M,)`` whether an edge of a third tree lies within :data:`BESIDE` of the line between two nodes."""
    start, end = forest.xyz[one], forest.xyz[other]
    places = start[:, None] + np.linspace(0, 1, 9)[:, None] * (end - start)[:, None]
    hits = EdgeSearch.of(forest).within(places.reshape(-1, 3), BESIDE)
    pair, tree = hits.point // 9, forest.components[forest.edges[hits.edge, 1]]
    third = (tree != forest.components[one[pair]]) & (tree != forest.components[other[pair]])
    crosses = np.zeros(len(one), dtype=bool)
    crosses[pair[third]] = True
    return crosses


class Ends:
    """The ends of a forest: their ``rows`` ``(E,)``, and unit vectors ``inward`` ``(E, 3)`` into their branches."""

    def __init__(self, forest: SwcForest) -> None:
        self.forest = forest
        self._branches = forest.branches_from_ends()
        self.rows = np.array([branch[0] for branch in self._branches], dtype=int)
        behind = np.array([forest.row_along(branch, LOOK) for branch in self._branches], dtype=int)
        self.inward = unit(forest.xyz[behind] - forest.xyz[self.rows])
        self.search = KDTree(forest.xyz[self.rows])

    def facing(self, meeting: Meeting, gap: float, taken: Collection[int]) -> Iterator[Arm]:
        """Arms that begin in a meeting and go on at an end at most ``gap`` away that faces it, none of ``taken``.

        The end of a short arm of the meeting itself faces nothing.
        """
        core, place = np.array(sorted(meeting.core)), self.forest.xyz
        short = {int(arm[-1]) for arm in meeting.arms if self.forest.along(arm)[-1] < LOOK}
        near = sorted(set(chain.from_iterable(self.search.query_ball_point(place[core], gap))))
        for number in np.array(near, dtype=int)[~np.isin(self.rows[near], [*taken, *short])].tolist():
            ways = place[self.rows[number]] - place[core]
            distances = np.linalg.norm(ways, axis=1)
            nearest = int(np.argmin(distances))
            if distances[nearest] <= TOUCHING or ways[nearest] @ self.inward[number] >= FACING * distances[nearest]:
                yield np.concatenate([core[[nearest]], self._branches[number]])


def _meetings(forest: SwcForest) -> list[Meeting]:
    """The meetings of branches that can be split."""
    is_fork = forest.degree > 2
    branches, ends, length = spans(forest)
    inside = is_fork[ends].all(axis=1) & (length <= REACH)
    _, group = connected_components(adjacency(ends[inside], len(forest)), directed=False)
    meetings: dict[int, Meeting] = defaultdict(Meeting)
    for fork in np.flatnonzero(is_fork).tolist():
        meetings[group[fork]].core.add(fork)
    for branch, within in zip(branches, inside, strict=True):
        if within:
            meetings[group[branch[0]]].core.update(branch.tolist())
            continue
        for arm in (branch, branch[::-1]):
            if is_fork[arm[0]]:
                meetings[group[arm[0]]].arms.append(arm)
    # Two forks joined by one long edge share it: neither can be split without the other.
    return [meeting for meeting in meetings.values() if not any(is_fork[arm[1]] for arm in meeting.arms)]


def _straightest_pairs(fours: Iterable[Sequence[Arm]], forest: SwcForest) -> list[tuple[Arm, Arm]]:
    """Two pairs of arms that continue each other, of those of the fours that bend least; nothing if all bend more."""
    straightest, pairs = STRAIGHT, list[tuple[Arm, Arm]]()
    for arms in fours:
        directions = np.array([_direction(arm, forest) for arm in arms])
        straight = -directions @ directions.T
        for (a, b), (c, d) in (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))):
            worst = min(straight[a, b], straight[c, d])
            if worst >= straightest and not any(_lies_behind(arms[k], arms[m], forest) for k, m in ((a, b), (c, d))):
                straightest, pairs = worst, [(arms[a], arms[b]), (arms[c], arms[d])]
    return pairs


def _lies_behind(arm: Arm, other: Arm, forest: SwcForest) -> bool:
    """Whether an arm leads to where another one begins: joined, they would close a loop."""
    from_meeting, from_arm = forest.path_distance(arm[:2], other[1])
    return bool(from_arm < from_meeting)


def _direction(arm: Arm, forest: SwcForest) -> np.ndarray:
    """Unit vector along :data:`LOOK` units of an arm, without the edge that leaves the meeting.

    That edge leads from the middle of the other branch to the rim of this one.
    """
    last = forest.row_along(arm[1:], LOOK)
    first = arm[1] if last != arm[1] else arm[0]
    return unit(forest.xyz[last] - forest.xyz[first])
