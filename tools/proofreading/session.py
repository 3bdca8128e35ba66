"""A session of proofreading: the trees, the queue of doubts, and a journal of all that was done.

>>> session = Session.open(Path("eye.tif"), Path("out/eye.swc"))
>>> doubt = session.next_doubt()  # "ends here?"
>>> session.draw(doubt.node, (949.0, 140.0))  # from this node, along the tube, to this place (y, x)
>>> session.undo()
>>> session.save()
>>> session.close()

Positions are those of the image: (y, x) or (z, y, x), 0 is the centre of the first pixel. Nodes are named by their ids
in the SWC; new nodes get ids of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.errors import UserError
from lib.swclib import SwcForest, SwcOrigin, SwcSpace, read_swc, subdivide, subset, swc_space, tidied, write_swc
from lib.swclib.forest import ROOT
from tools.proofreading.doubts import Doubt, parents, read_confidence, read_queue
from tools.proofreading.history import History
from tools.proofreading.journal import Journal, Record
from tools.proofreading.nodes import Links, row_of
from tools.proofreading.operations import Accept, Cut, Delete, Draw, Join, Move, Operation
from tools.proofreading.picking import nearest_edge
from tools.proofreading.picture import Picture, RidgeMap, check_together, map_path, map_under, open_picture
from tools.proofreading.route import find_route

SNAP = 4.0
"""Pixels within which the end of a drawn piece is joined to a node of another tree."""
ON_ITS_OWN = 1.5
"""Pixels within which a place lies on the tree from which a piece is drawn."""
FREE = 6.0
"""Pixels around both ends of a drawn piece in which it may follow a tube that is traced already."""
REACH = 2.5
"""Trees count that lie within so many distances of both ends."""
NEAR = 20.0
"""Pixels from the doubt that is shown within which an operation is the answer to it."""
STEPS = 2.0, 8.0
"""Least and largest distance in pixels of the nodes of a drawn piece; it is that of the trace in between."""


class Session:
    """Trees that are being corrected; made by :meth:`open`.

    Parameters
    ----------
    trace
        SWC file that was opened; it is never changed.
    picture
        The image.
    space
        Unit and origin of the coordinates of the SWC.
    forest
        The trees of the file, in image positions.
    queue
        Doubts by rank; empty if nobody wrote any.
    confidence
        ``(N,)`` of the edge above each node of the forest; None if nothing is known.

    Attributes
    ----------
    spacing
        ``(ndim,)`` size of a pixel, 1 along x.
    centerline, spaces
        Map on which pieces are drawn, and its place in the image.
    at
        Place in the queue, -1 before the first doubt was shown.
    notes
        What the user should know, a line each: what was assumed, what is missing, what of the journal was left out.
    """

    def __init__(
        self,
        trace: Path,
        picture: Picture,
        space: SwcSpace,
        forest: SwcForest,
        queue: Sequence[Doubt] = (),
        confidence: np.ndarray | None = None,
    ) -> None:
        self.trace, self.picture, self.space, self.queue = trace, picture, space, queue
        self.confidence = None if confidence is None else dict(zip(forest.ids.tolist(), confidence, strict=True))
        size = np.array(space.voxel_size or picture.spacing or np.ones(picture.ndim))[-picture.ndim :]
        self.spacing = size / size[-1]
        self.centerline, self.spaces = map_under(trace, picture, forest, self.spacing)
        self.at = -1
        missing = f"{map_path(trace)}: is not there, so pieces are drawn on the image itself, which is less sure"
        self.notes = [missing] if isinstance(self.centerline, RidgeMap) else []
        self._journal = Journal(trace)
        self._history = History(forest, self._journal)
        self._gone_at = -1, frozenset[int]()
        try:
            records, left_out = self._history.replay()
        except UserError:
            self.close()
            raise
        for record in records:
            self._show_again(record)
        self.notes += [left_out] if left_out else []

    @classmethod
    def open(cls, image: Path, trace: Path, *, origin: SwcOrigin = "centre") -> Session:
        """Open a trace with its image, where it was left.

        Parameters
        ----------
        image
            Image or volume.
        trace
            SWC file. The tables, the map and the journal are looked for beside it. Only one session at a time can have
            it open, see :meth:`close`.
        origin
            Where coordinate 0 of the SWC lies, if its head does not say.

        Raises
        ------
        UserError
            If a file cannot be read, or does not belong to the others, or another session has the trace open.
        """
        picture, said = open_picture(image), swc_space(trace)
        space = replace(said, origin=said.origin or origin)
        forest = read_swc(trace, allow_empty=True, origin=origin)
        check_together(image, picture, trace, forest)

        def to_image(xyz: np.ndarray) -> np.ndarray:
            zero = np.zeros(len(xyz))
            places = SwcForest.sorted(np.arange(len(xyz)), zero, xyz, zero, np.full(len(xyz), ROOT))
            return space.centred(places).positions(picture.ndim)

        review, branches = (trace.with_name(f"{trace.stem}_{name}.csv") for name in ("review", "branches"))
        queue = read_queue(review, branches, forest, to_image)
        session = cls(trace, picture, space, forest, queue, read_confidence(branches, forest))
        session.notes += _assumed(trace, said, space)
        return session

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return self.picture.ndim

    @property
    def forest(self) -> SwcForest:
        """The trees as they are now, in image positions; nodes keep their ids."""
        return self._history.forest

    @property
    def nodes(self) -> np.ndarray:
        """Table of the nodes, see :mod:`tools.proofreading.nodes`."""
        return self._history.nodes

    @property
    def revision(self) -> int:
        """A number that grows with every change of the trees."""
        return self._history.revision

    # ---- the queue -------------------------------------------------------------------------------------------------

    @property
    def doubt(self) -> Doubt | None:
        """The doubt that is shown; None before the first."""
        return self.queue[self.at] if 0 <= self.at < len(self.queue) else None

    @property
    def answers(self) -> dict[int, str]:
        """By rank of the doubt ``accepted``, ``corrected``, or ``deleted`` with its branch; the others are open."""
        return dict.fromkeys(self._gone, "deleted") | {
            rank: "accepted" if isinstance(each, Accept) else "corrected"
            for each in self._history.operations
            if (rank := each.doubt) is not None
        }

    @property
    def _gone(self) -> frozenset[int]:
        """Ranks of the doubts whose branch is not there any more."""
        if self._gone_at[0] != self.revision:
            parent = parents(self.forest)
            self._gone_at = self.revision, frozenset(doubt.rank for doubt in self.queue if doubt.is_gone(parent))
        return self._gone_at[1]

    def next_doubt(self) -> Doubt | None:
        """Show the next open doubt, after the last one again the first; None if none is open."""
        answers, count = self.answers, len(self.queue)
        ahead = [(self.at + step) % count for step in range(1, count + 1)]
        return self._look(next((at for at in ahead if self.queue[at].rank not in answers), None))

    def previous_doubt(self) -> Doubt | None:
        """Show the doubt before this one, open or not, whose branch is still there; None if there is none."""
        before = range(self.at - 1, -1, -1)
        return self._look(next((at for at in before if self.queue[at].rank not in self._gone), None))

    def _look(self, at: int | None) -> Doubt | None:
        if at is None:
            return None
        if at != self.at:
            self._history.journal.append({"op": "look", "doubt": self.queue[at].rank})
            self.at = at
        return self.doubt

    # ---- operations ------------------------------------------------------------------------------------------------

    def accept(self) -> Operation:
        """Say that the trace is right at the doubt that is shown.

        Raises
        ------
        UserError
            If none is shown; as all operations, if the journal cannot be written.
        """
        if self.doubt is None:
            raise UserError("no doubt is shown; go to the next one first")
        return self._do(Accept(doubt=self.doubt.rank))

    def cut(self, a: int, b: int) -> Operation:
        """Remove the edge between two neighbours; raises UserError if there is none."""
        return self._do(Cut(a, b))

    def join(self, a: int, b: int) -> Operation:
        """Add a straight edge between nodes of two trees; raises UserError if it would close a loop."""
        return self._do(Join(a, b))

    def delete(self, node: int, beside: int | None = None) -> Operation:
        """Remove a branch, from fork or end to fork or end.

        Parameters
        ----------
        node
            A node of the branch.
        beside
            Its neighbour on the branch; needed if the node is a fork, at which several branches meet.

        Raises
        ------
        UserError
            If there is no such branch, or the node is a fork and no neighbour is given.
        """
        if beside is None:
            row, links = row_of(self.nodes, node), Links(self.nodes)
            if links.degree[row] > 2:
                raise UserError(f"node {node}: several branches meet there; choose a node on one of them")
            if links.degree[row] == 0:
                raise UserError(f"node {node}: has no edge; choose a node on a branch")
            beside = int(self.nodes["id"][links.of(row)[0]])
        return self._do(Delete(node, beside))

    def move(self, node: int, position: Sequence[float]) -> Operation:
        """Move a node to a position ``(ndim,)``; raises UserError if it lies outside the image."""
        return self._do(Move(node, self._inside(position)))

    def draw(self, tip: int, target: Sequence[float]) -> Operation:
        """Fill the way from a node to a place: the cheapest path over the map, joined to a tree on which it ends.

        Parameters
        ----------
        tip
            Node at which the piece begins.
        target
            ``(ndim,)`` position. Within :data:`SNAP` of a node of another tree the piece ends there, and joins it.

        Raises
        ------
        UserError
            If the place lies outside the image, or on the same tree, as an SWC cannot hold a loop.
        """
        place = np.array(self._inside(target))
        row = row_of(self.nodes, tip)
        end = self._other_tree_at(row, place)
        begin, place = self._positions(row), place if end is None else self._positions(end)
        traced = self._traced_around(begin, place)
        line = find_route(self.centerline, self.spaces.to_work(begin), self.spaces.to_work(place), traced)
        line = self.spaces.to_image(line)
        line[[0, -1]] = begin, place
        line = _resampled(line, self.spacing, float(np.clip(self._step(), *STEPS)))
        radius = np.interp(
            np.linspace(0, 1, len(line)), [0, 1], self.nodes["radius"][[row, row if end is None else end]]
        )
        inner = slice(1, None if end is None else -1)
        path = tuple(tuple(each) for each in np.round(line[inner], 4).tolist())
        joined = None if end is None else int(self.nodes["id"][end])
        return self._do(Draw(tip, path, tuple(np.round(radius[inner], 4).tolist()), joined))

    def aim(self, place: np.ndarray, sight: np.ndarray) -> np.ndarray:
        """Place meant by a click on a volume: a node within :data:`SNAP` of the line of sight, or its brightest place.

        Parameters
        ----------
        place
            ``(3,)`` any position on the line of sight.
        sight
            ``(3,)`` its direction, in positions.

        Raises
        ------
        UserError
            If the line passes the volume by.
        """
        under = nearest_edge(self.forest, place, self.spacing, sight)
        if under and under.distance <= SNAP:
            return self._positions(row_of(self.nodes, under.nodes[0]))
        step = sight / np.abs(sight).max() / 2
        count = 2 * int(np.abs(place).max() + max(self.picture.shape))
        line = place + np.arange(-count, count + 1)[:, None] * step
        line = line[((line >= 0) & (line <= np.array(self.picture.shape) - 1)).all(axis=1)]
        if not len(line):
            raise UserError("the cursor is beside the volume; put it on a tube")
        pixels = np.clip(np.rint(self.spaces.to_work(line)).astype(int), 0, self.centerline.shape - 1)
        return line[self.centerline.brightness(pixels).argmax()]

    def branch(self, a: int, b: int) -> list[int]:
        """Ids of the nodes of the branch of an edge, from one fork or end to the other."""
        rows = Links(self.nodes).branch(row_of(self.nodes, a), row_of(self.nodes, b))
        return self.nodes["id"][rows].tolist()

    def undo(self) -> Operation | None:
        """Take the last operation back, show the doubt that it answered, and return it; None if there is none."""
        return self._back_at(self._history.undo())

    def redo(self) -> Operation | None:
        """Do again what was taken back last, as :meth:`undo`; None if there is nothing."""
        return self._back_at(self._history.redo())

    # ---- files -----------------------------------------------------------------------------------------------------

    @property
    def corrected(self) -> Path:
        """File that :meth:`save` writes."""
        return self.trace.with_name(f"{self.trace.stem}_corrected.swc")

    def save(self) -> Path:
        """Write the trees beside the trace, in its unit and with its origin; the journal stays.

        Returns
        -------
        Path
            :attr:`corrected`.

        Raises
        ------
        UserError
            If it cannot be written.
        """
        forest = tidied(self.space.coordinates(self.forest))
        comment = [f"{self.trace.name}, corrected by hand", *self.space.head(self.ndim)]
        write_swc(self.corrected, forest, comment=comment)
        return self.corrected

    def close(self) -> None:
        """Let others open the trace; nothing can be done in this session any more."""
        self._journal.close()

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _do(self, operation: Operation) -> Operation:
        """Do an operation, as the answer to the doubt that is shown if it happens there."""
        if self.doubt is not None and self._is_near(operation, self.doubt):
            operation = replace(operation, doubt=self.doubt.rank)
        self._history.do(operation)
        return operation

    def _is_near(self, operation: Operation, doubt: Doubt) -> bool:
        """Whether an operation names the node of a doubt, or one near its place."""
        if doubt.node in operation.places():
            return True
        rows = np.flatnonzero(np.isin(self.nodes["id"], operation.places()))
        offsets = (self._positions(rows) - np.array(doubt.position)) * self.spacing
        return bool((np.linalg.norm(offsets, axis=1) <= NEAR).any())

    def _back_at(self, operation: Operation | None) -> Operation | None:
        """Show the doubt that an operation answered."""
        if operation is not None:
            ranks = [doubt.rank for doubt in self.queue]
            self._look(ranks.index(operation.doubt) if operation.doubt in ranks else None)
        return operation

    def _show_again(self, record: Record) -> None:
        """Go to the doubt that a record of the journal names."""
        ranks = [doubt.rank for doubt in self.queue]
        if record.get("doubt") in ranks:
            self.at = ranks.index(record["doubt"])

    def _positions(self, rows: int | np.ndarray) -> np.ndarray:
        """Positions ``(..., ndim)`` of rows ``(...)``."""
        return self.nodes["xyz"][rows][..., : self.ndim][..., ::-1].copy()

    def _inside(self, position: Sequence[float]) -> tuple[float, ...]:
        """A position with four decimals, as files hold it, if it lies inside the image."""
        place = np.round(np.asarray(position, dtype=np.float64), 4)
        if place.shape != (self.ndim,) or not ((place >= -0.5) & (place <= np.array(self.picture.shape) - 0.5)).all():
            raise UserError("the place lies outside the image; choose one inside")
        return tuple(place.tolist())

    def _other_tree_at(self, row: int, place: np.ndarray) -> int | None:
        """Row of the node of another tree within reach of a place; None if there is none."""
        forest = self.forest
        is_own = forest.components == forest.components[forest.ids == self.nodes["id"][row]]
        other = nearest_edge(subset(forest, ~is_own), place, self.spacing)
        if other and other.distance <= SNAP:
            return row_of(self.nodes, other.nodes[0])
        own = nearest_edge(subset(forest, is_own), place, self.spacing)
        if own and own.distance <= ON_ITS_OWN:
            raise UserError("the place lies on the same tree, and an SWC cannot hold a loop; choose another place")
        return None

    def _traced_around(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Positions ``(K, ndim)`` in pixels of the map, along all trees around two places but not at these."""
        forest, ends = self.forest, np.stack([begin, end])
        reach = REACH * np.abs(end - begin).max() + NEAR
        places = forest.positions(self.ndim)
        inside = ((places > ends.min(axis=0) - reach) & (places < ends.max(axis=0) + reach)).all(axis=1)
        along = subdivide(subset(forest, inside), float(1 / self.spaces.scale.max())).positions(self.ndim)
        away = [np.linalg.norm((along - each) * self.spacing, axis=1) > FREE for each in ends]
        return self.spaces.to_work(along[np.logical_and(*away)])

    def _step(self) -> float:
        """Usual length of an edge in pixels."""
        return float(np.median(self.forest.edge_lengths)) if len(self.forest.edges) else STEPS[0]


def _assumed(trace: Path, said: SwcSpace, space: SwcSpace) -> list[str]:
    """What is assumed of the coordinates of a trace whose head says less than everything."""
    assumed = [] if said.origin else [f"0 is the {space.origin} of the first pixel (--swc_origin)"]
    assumed += [] if said.units else ["the unit is a pixel of the image"]
    return [f"{trace}: its head does not say it, so it is assumed that {' and '.join(assumed)}"] if assumed else []


def _resampled(line: np.ndarray, spacing: np.ndarray, step: float) -> np.ndarray:
    """Points ``(n, ndim)`` evenly spaced along a line, by about ``step``; both ends stay."""
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line * spacing, axis=0), axis=1))])
    at = np.linspace(0, along[-1], max(1, round(along[-1] / step)) + 1)
    return np.stack([np.interp(at, along, column) for column in line.T], axis=1)
