"""The exception for mistakes that a user can correct, and words for messages: suggestions and counts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the user's input: a file, a field, an option.

    The message is one line that names the file (with its line or field), what was found and what to do. The scripts
    print it without a traceback and exit with code 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean X?`` with the known name most similar to ``name``, ignoring case; empty if none is similar."""
    by_lower = {each.lower(): each for each in known}
    similar = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"did you mean {by_lower[similar[0]]}?" if similar else ""


def known_names(name: str, known: Iterable[str]) -> str:
    """End of the message about an unknown ``name``: :func:`did_you_mean` and a list of all known names."""
    names = list(known)
    return f"{did_you_mean(name, names)} known are {', '.join(names)}".lstrip()


def counted(number: int, noun: str) -> str:
    """``1 tree`` or ``2 trees``, for a noun whose plural ends in s."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
