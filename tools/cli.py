"""What the scripts share: options from dataclasses, and mistakes told in one line."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser, set_parsing_settings

from lib.errors import UserError

Options = TypeVar("Options")

# Fields of the option dataclasses are documented by the string below them; --help shows those.
set_parsing_settings(docstring_parse_attribute_docstrings=True)


class _Parser(ArgumentParser):
    """Tells a mistake in one line, with the nearest known option where one is unknown."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the first line of ``message`` as a :class:`UserError`."""
        line = " ".join(str(message).split())
        for unknown in re.findall(r"--[\w-]+", line) if "nrecognized" in line else ():
            known = [name for action in self._actions for name in action.option_strings]
            near = difflib.get_close_matches(unknown, known, n=1)
            line = f"unknown option {unknown}" + (f"; did you mean {near[0]}?" if near else "; see --help")
            break
        raise UserError(line)


def parse(
    options: type[Options],
    argv: Sequence[str] | None,
    *,
    description: str,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    extra: Callable[[ArgumentParser], None] | None = None,
) -> Options:
    """Read a dataclass from the command line, a YAML file (``--config``) and a dataset's preset, in this order of weight.

    Parameters
    ----------
    options
        The dataclass; every field is an option of its name.
    argv
        Arguments; None takes those of the process.
    description
        First lines of ``--help``.
    presets
        Defaults by dataset name, looked up with what ``--dataset`` gives.
    extra
        Adds further arguments that are only looked at by the script itself.

    Raises
    ------
    UserError
        If an option is unknown or a value does not fit.
    """
    parser = _Parser(description=description, exit_on_error=True)
    parser.add_argument("--config", action="config", help="YAML file of options; unknown keys are refused")
    if extra is not None:
        extra(parser)
    names = parser.add_class_arguments(options)
    arguments = list(sys.argv[1:] if argv is None else argv)
    if presets:
        parser.set_defaults(dict(presets.get(_given(arguments, "--dataset") or "", {})))
    values = parser.parse_args(arguments)
    return parser.instantiate_classes(values) if False else options(**{name: values[name] for name in names})


def _given(argv: Sequence[str], option: str) -> str | None:
    """Value of an option before real parsing."""
    for index, word in enumerate(argv):
        if word == option and index + 1 < len(argv):
            return argv[index + 1]
        if word.startswith(option + "="):
            return word.split("=", 1)[1]
    return None


def run(main: Callable[[list[str] | None], int | None]) -> NoReturn:
    """Call ``main`` and leave the process: a user's mistake is one line on stderr and exit code 2, Ctrl-C is 130."""
    try:
        code = main(None) or 0
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader of a pipe went away (`| head`): not an error, but Python must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
