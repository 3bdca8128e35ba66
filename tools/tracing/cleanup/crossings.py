"""Crossings split into two trees: where a trace has joined two branches that cross, each continues straight on.

A front that meets a traced branch from one side is joined to it, and so is a front from the other side. The result is
two forks, or one fork of four branches, and two neurites have become one tree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse.csgraph import connected_components

from lib.swclib import SwcForest, rewire, spans, subset
from lib.swclib.forest import adjacency
from tools.tracing.valley import STRAIGHT

REACH = 10.0
"""Units. Forks no farther from each other along a branch are one meeting of branches: a step of the trace."""
LOOK = 10.0
"""Units of a branch, from the meeting on, that give its direction."""


@dataclass
class Meeting:
    """Forks near each other: the rows of the forks and of the nodes between them, and the branches that leave them.

    Each branch begins at its fork.
    """

    core: set[int] = field(default_factory=set)
    arms: list[np.ndarray] = field(default_factory=list)


def split_crossings(forest: SwcForest) -> SwcForest:
    """Split every meeting of four branches that form two straight pairs.

    The nearest nodes of each pair outside the meeting are joined, and the nodes inside are dropped, because the map
    there belongs to both. Meetings of other numbers of branches stay.

    Parameters
    ----------
    forest
        A finished trace in units; its roots are ends.

    Returns
    -------
    SwcForest
        One more tree for each crossing; its roots are ends.
    """
    joined: list[tuple[int, int]] = []
    dropped: list[int] = []
    for meeting in _meetings(forest):
        if pairs := _straight_pairs(meeting.arms, forest):
            joined += [(one[1], other[1]) for one, other in pairs]
            dropped += meeting.core
    if not dropped:
        return forest
    kept = forest.edges[~np.isin(forest.edges, dropped).any(axis=1)]
    rewired = rewire(forest, np.concatenate([kept, joined]))
    return subset(rewired, ~np.isin(rewired.file_order, dropped))


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


def _straight_pairs(arms: Sequence[np.ndarray], forest: SwcForest) -> list[tuple[np.ndarray, np.ndarray]]:
    """Four arms as two pairs that continue each other, or nothing."""
    if len(arms) != 4:
        return []
    directions = np.array([_direction(arm, forest) for arm in arms])
    straight = -directions @ directions.T
    pairings = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    worst = [min(straight[pair] for pair in pairing) for pairing in pairings]
    best = int(np.argmax(worst))
    return [(arms[one], arms[other]) for one, other in pairings[best]] if worst[best] >= STRAIGHT else []


def _direction(arm: np.ndarray, forest: SwcForest) -> np.ndarray:
    """Unit vector along the first :data:`LOOK` units of an arm, without the edge that leaves the meeting.

    That edge leads from the middle of the other branch to the rim of this one.
    """
    last = forest.row_along(arm, LOOK)
    first = arm[1] if last != arm[1] else arm[0]
    along = forest.xyz[last] - forest.xyz[first]
    return along / max(float(np.linalg.norm(along)), 1e-9)
