"""The one exception for mistakes a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user gave: a file, a field, an option.

    The message is one line that names the file (with its line or field), what was found there and what to do. The
    scripts print it without a traceback and exit with code 2.
    """
