"""Settings of a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.contract import MAX_PAST
from tools.tracing.growth.gds import Search


@dataclass(frozen=True)
class TraceSettings:
    """How an image is traced. Lengths are in work pixels, thresholds are probabilities.

    Attributes
    ----------
    search
        Settings of the search for candidates.
    seed_threshold
        Seeds are pixels with at least this centerline probability (docs/paper.md §5: 0.5).
    stop_threshold
        A front stops at a centerline probability below this (docs/paper.md §5: 0.5).
    side_by_side
        Whether branches may run a few pixels beside each other, as neurites do. If so, nodes are moved onto the ridge
        beside them, a front stops by the probability at its own place (else by the highest of the pixels around it),
        and no join turns aside across a valley. For retinas and roads this costs breaks (docs/experiments.md).
    meet
        A node nearer than this to a traced edge has met it (docs/paper.md §5: r in 2D, 1.5·r in 3D).
    seed_gap
        A seed nearer than this to a traced edge is skipped (docs/paper.md §5: 2·r in 2D, r in 3D).
    seed_spacing
        Seeds nearer than this to each other or to an active front are not traced at the same time. Ours: a front that
        has walked knows which branch it is on, a seed does not.
    branch_edge
        A further candidate starts a new front if its path has at least this mean edge probability. Ours.
    branch_angle
        Least angle in degrees between the directions of two such candidates. Ours.
    gap_edge
        A step may cross a valley straight ahead if its path has at least this mean edge probability. Ours.
    cross
        Whether a front that meets a traced branch may go on straight ahead on its other side, where another branch
        would be joined to it. Ours.
    walked_nodes
        Number of walked nodes shown to the network (docs/paper.md §5: 15). Those beyond 4 lie outside the patch.
    fronts
        Most fronts advanced together; 1 is the paper's procedure, in which a front is followed until it stops.
    method
        ``gds`` prefers the candidate nearest along the edge, ``brightest`` that of the highest node probability.
    joins
        Whether a trace is joined to the branch that it meets.
    random_seed
        Random seed of the order in which seeds are taken.
    origin
        ``(ndim,)`` work pixel at which the image begins in a larger one: it decides on that order, too. Empty: 0.
    """

    search: Search
    seed_threshold: float = 0.6
    stop_threshold: float = 0.4
    side_by_side: bool = False
    meet: float = 3.0
    seed_gap: float = 4.0
    seed_spacing: float = 40.0
    branch_edge: float = 0.6
    branch_angle: float = 45.0
    gap_edge: float = 0.5
    cross: bool = False
    walked_nodes: int = MAX_PAST
    fronts: int = 64
    method: Literal["gds", "brightest"] = "gds"
    joins: bool = True
    random_seed: int = 0
    origin: tuple[int, ...] = ()
