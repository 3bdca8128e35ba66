"""Trees with all that was done to them: every operation can be undone and done again, and stands in the journal."""

from __future__ import annotations

import numpy as np

from lib.errors import UserError
from lib.swclib import SwcForest
from tools.proofreading.journal import Journal, Record
from tools.proofreading.nodes import Change, forest_of, table_of
from tools.proofreading.operations import Operation, from_json

Step = tuple[Operation, Change]


class History:
    """A table of nodes, and the operations that led to it.

    Parameters
    ----------
    forest
        The trees at the beginning.
    journal
        Gets a record of every step, before it counts.

    Attributes
    ----------
    nodes
        Table of the nodes now, see :mod:`tools.proofreading.nodes`; not to be changed from outside.
    revision
        Grows with every change.
    """

    def __init__(self, forest: SwcForest, journal: Journal) -> None:
        self.nodes = table_of(forest)
        self.revision = 0
        self.journal = journal
        self._done: list[Step] = []
        self._undone: list[Step] = []
        self._forest = -1, SwcForest.empty()

    @property
    def forest(self) -> SwcForest:
        """The trees now; nodes keep their ids."""
        if self._forest[0] != self.revision:
            self._forest = self.revision, forest_of(self.nodes)
        return self._forest[1]

    @property
    def operations(self) -> list[Operation]:
        """What was done and not undone, in order."""
        return [operation for operation, _ in self._done]

    def do(self, operation: Operation) -> None:
        """Apply an operation; what was undone before cannot be done again.

        Raises
        ------
        UserError
            If it is not possible, or cannot be written down; nothing has changed then.
        """
        step = self._step(operation)
        self.journal.append(operation.as_json())
        self._take(step)

    def undo(self) -> Operation | None:
        """Take the last operation back, and return it; None if there is none."""
        return self._turn("undo", self._done)

    def redo(self) -> Operation | None:
        """Do again what was taken back last, and return it; None if there is nothing."""
        return self._turn("redo", self._undone)

    def replay(self) -> tuple[list[Record], str]:
        """Do again what the journal holds, up to the first record that does not fit the trees: it and all after it go.

        Returns
        -------
        others
            Records that are no steps.
        left_out
            What of the journal was left out and why, in one line; empty if nothing was.
        """
        others = []
        for number, record in enumerate(self.journal.records(), start=2):
            try:
                if not self._again(record):
                    others.append(record)
            except (UserError, ValueError, LookupError, TypeError) as error:
                left_out = self.journal.leave_out(number)
                return others, f"{self.journal.path}: {left_out}; line {number} does not fit: {error}"
        return others, ""

    def _again(self, record: Record) -> bool:
        """Do what a record says; False if it is no step."""
        word = record.get("op")
        if word == "look":
            return False
        if word == "undo":
            self._undo()
        elif word == "redo":
            self._redo()
        else:
            self._take(self._step(from_json(record)))
        return True

    def _step(self, operation: Operation) -> Step:
        return operation, Change.between(self.nodes, operation.applied(self.nodes))

    def _take(self, step: Step) -> None:
        self._undone.clear()
        self._undone.append(step)
        self._redo()

    def _turn(self, word: str, steps: list[Step]) -> Operation | None:
        if not steps:
            return None
        operation = steps[-1][0]
        self.journal.append({"op": word})
        self._undo() if word == "undo" else self._redo()
        return operation

    def _undo(self) -> None:
        operation, change = self._done.pop()
        self._undone.append((operation, change))
        self._set(change.undone(self.nodes))

    def _redo(self) -> None:
        operation, change = self._undone.pop()
        self._done.append((operation, change))
        self._set(change.done(self.nodes))

    def _set(self, nodes: np.ndarray) -> None:
        self.nodes = nodes
        self.revision += 1
