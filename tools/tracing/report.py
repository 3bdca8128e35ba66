"""The lines that a script writes about the files it made."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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


def report(outcomes: Sequence[Outcome]) -> int:
    """Write a line per file, failures last and on stderr; exit code 2 if any failed."""
    for outcome in sorted(outcomes, key=lambda outcome: outcome.failed):
        words = f"error: {outcome.line}" if outcome.failed else outcome.line
        sys.stdout.flush()
        (sys.stderr if outcome.failed else sys.stdout).write(f"{words}\n")
    return 2 if any(outcome.failed for outcome in outcomes) else 0
