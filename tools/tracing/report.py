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
    done = failed = 0
    for outcome in outcomes:
        done += 1
        if outcome.failed:
            failed += 1
            sys.stderr.write(f"error: {outcome.line}\n")
        else:
            sys.stdout.write(f"{outcome.line}\n")
            sys.stdout.flush()
    if failed and done > 1:
        sys.stderr.write(f"{failed} of {done} files failed, see above\n")
    return 2 if failed else 0
