"""The one exception for mistakes a user can mend, and what an unknown name was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: a file, a field, an option.

    The message is one line that names the file (with its line or field), what was found there and what to do. The
    scripts print it without a traceback and exit with code 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean X?`` with the known name nearest to ``name``, whatever its case; empty if none is near."""
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"did you mean {by_lower[near[0]]}?" if near else ""


def known_names(name: str, known: Iterable[str]) -> str:
    """What to say of an unknown ``name``: the nearest of the known ones, where one is near, and all of them."""
    names = list(known)
    return f"{did_you_mean(name, names)} known are {', '.join(names)}".lstrip()
