"""The lines that a script writes about the files it made."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Protocol


class Outcome(Protocol):
    """Outcome of one file: a line about it, and whether it failed."""

    @property
    def line(self) -> str:
        """What was made, or why nothing was."""
        ...

    @property
    def failed(self) -> bool:
        """Whether nothing was made."""
        ...


def report(outcomes: Iterable[Outcome]) -> int:
    """Write a line per file as soon as it is done, failures on stderr; exit code 2 if any failed."""
    code = 0
    for outcome in outcomes:
        if outcome.failed:
            code = 2
            sys.stderr.write(f"error: {outcome.line}\n")
        else:
            sys.stdout.write(f"{outcome.line}\n")
            sys.stdout.flush()
    return code
