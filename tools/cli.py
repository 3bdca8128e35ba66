"""Command lines of the scripts: options from dataclasses, and errors reported in one line."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse_from_object
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, set_parsing_settings

from lib.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")

# The string below each field of an option dataclass is its text in --help.
set_parsing_settings(docstring_parse_attribute_docstrings=True)

_TYPE_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list", "str": "a word"}


class _Help(DefaultHelpFormatter):
    """Keeps the line breaks of the description and shows types without Python's syntax."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text.strip()

    def _expand_help(self, action: Any) -> str:
        text = re.sub(r"<class '([\w.]+)'>", r"\1", super()._expand_help(action))
        text = re.sub(r"tuple\[(\w+), (?:\.\.\.)?\]", r"\1 for each axis", text)
        # An option without a value has no default to show; its own text says where the value comes from.
        text = re.sub(r", default: null\)$", ")", text)
        return re.sub(r"Optional\[(.*)\](?=[,)])", r"\1", text).replace(" | null", "")


class Parser(ArgumentParser):
    """Reports a wrong command line in one line, and suggests the most similar option for an unknown one.

    Parameters
    ----------
    hints
        Type of each option, for error messages.
    args, kwargs
        As for :class:`jsonargparse.ArgumentParser`.
    """

    def __init__(self, *args: Any, hints: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, formatter_class=_Help, **kwargs)
        self.hints = dict(hints or {})

    def validate(
        self,
        namespace: Namespace,
        skip_unset: bool = True,
        skip_required: bool = False,
        branch: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Report all missing options at once; jsonargparse reports only the first."""
        missing = [] if skip_required else [name for name in self._required() if namespace.get(name) is None]
        if missing:
            *others, last = map(self._display_name, missing)
            names = f"{', '.join(others)} and {last} are" if others else f"{last} is"
            self.error(f"{names} missing; see --help")
        super().validate(namespace, skip_unset, skip_required, branch, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a :class:`UserError` with ``message`` in plain words."""
        raise UserError(self._in_plain_words(" ".join(str(message).split())))

    def _in_plain_words(self, line: str) -> str:
        """An error message of jsonargparse in words that a user understands."""
        if match := re.search(r"nrecognized arguments: (\S+)", line):
            word = match[1].split("=")[0]
            return (
                f"unknown option {word}{self._suggestion(word)}"
                if word.startswith("-")
                else f"unexpected word {word!r}"
            )
        if match := re.search(r"Option '([\w.]+)' is not accepted", line):
            return f"--config: unknown key {match[1]}{self._suggestion(f'--{match[1]}').replace('--', '', 1)}"
        if match := re.search(r"Parser key \"(\w+)\":(?:.*(?:Got|Given) value: (.*))?", line):
            name, found = match.groups()
            if name in self.hints:
                return f"--{name} must be {_in_words(self.hints[name])}" + (f", got {found}" if found else "")
        if match := re.search(r"argument (--\w+): expected one argument", line):
            return f"{match[1]} needs a value; see --help"
        return line.replace('Parser key "config"', "--config")

    def explain(self, explanations: Mapping[str, str]) -> None:
        """Set the help texts by option name; jsonargparse does not see those that a dataclass inherits."""
        for action in self._actions:
            action.help = explanations.get(action.dest, action.help)

    def _required(self) -> list[str]:
        """Names of the required arguments, in the order of ``--help``."""
        return [action.dest for action in self._actions if action.required]

    def _display_name(self, name: str) -> str:
        """An argument's name as it is typed, or, for a positional argument, as ``--help`` shows it."""
        is_option = any(action.dest == name and action.option_strings for action in self._actions)
        return f"--{name}" if is_option else name.upper()

    def _suggestion(self, option: str) -> str:
        known = [name for action in self._actions for name in action.option_strings]
        return f"; {did_you_mean(option, known) or 'see --help'}"


def _in_words(hint: Any) -> str:
    """Description of the values of type ``hint``."""
    hint = _required_type(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_in_words, get_args(hint)))
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"{_in_words(get_args(hint)[0])} for each axis, such as 64 64 (in 3D 16 64 64)"
    if get_origin(hint) is list:
        return f"a list, each {_in_words(get_args(hint)[0])}"
    return _TYPE_WORDS.get(getattr(hint, "__name__", ""), str(hint))


def _explanations(options: type) -> dict[str, str]:
    """Help text of each field of a dataclass, its own or that of a base class."""
    classes = filter(is_dataclass, reversed(options.__mro__))
    parameters = [parameter for each in classes for parameter in parse_from_object(each).params]
    return {parameter.arg_name: parameter.description or "" for parameter in parameters}


def _required_type(hint: Any) -> Any:
    """``X`` for a hint ``X | None``, otherwise the hint itself."""
    if get_origin(hint) in (Union, types.UnionType):
        parts = [part for part in get_args(hint) if part is not type(None)]
        return parts[0] if len(parts) == 1 else Union[tuple(parts)]  # noqa: UP007
    return hint


def parse(
    options: type[Options],
    argv: Sequence[str] | None,
    *,
    description: str | None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    preset_option: str = "dataset",
    stored: Callable[[Any], Sequence[str]] | None = None,
) -> Options:
    """Fill a dataclass from the command line, a YAML file (``--config``) and a preset; earlier ones take precedence.

    Parameters
    ----------
    options
        The dataclass; every field becomes an option of the same name. A bool needs no value (``--preview``), and the
        items of a list or tuple are separate words (``--patch_size 64 64``).
    argv
        The arguments; None uses those of the process.
    description
        First lines of ``--help``.
    presets
        Default values by preset name. Names match in any case; the result holds the name as written here.
    preset_option
        Option that selects the preset.
    stored
        Called with the options so far; returns further arguments, which come after those of the YAML file and before
        the preset.

    Returns
    -------
    Options
        The filled dataclass.

    Raises
    ------
    UserError
        If an option is unknown or missing, or has a wrong value.
    """
    presets = presets or {}
    parser = Parser(hints=get_type_hints(options), description=description, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file of options; unknown keys are refused")
    parser.add_class_arguments(options)
    parser.explain(_explanations(options))
    arguments = rewrite_arguments(sys.argv[1:] if argv is None else argv, parser.hints)
    try:
        preset = _preset(parser, arguments, presets, preset_option)
        if preset:
            parser.set_defaults(dict(presets[preset]))
        values = parser.parse_args(arguments)
        if stored:
            values = parser.parse_args([*stored(values), *arguments])
    except UnicodeDecodeError:
        raise UserError("--config: not a text file (UTF-8); give a YAML file") from None
    parsed = options(**{field.name: values[field.name] for field in fields(options)})
    return replace(parsed, **{preset_option: preset}) if preset else parsed


def parse_mode(
    modes: Mapping[str, type],
    argv: Sequence[str] | None,
    *,
    description: str | None,
    presets: Mapping[str, Mapping[str, Mapping[str, Any]]],
    stored: Callable[[Any], Sequence[str]] | None = None,
) -> tuple[str, Any]:
    """Read ``--mode`` and the options of that mode; ``--help`` without a mode shows the options of all modes.

    Parameters
    ----------
    modes
        Option dataclass of each mode.
    argv, description
        As in :func:`parse`.
    presets
        Presets of each mode that has any.
    stored
        As in :func:`parse`.

    Returns
    -------
    mode
        Name of the mode.
    options
        The filled dataclass of the mode.

    Raises
    ------
    UserError
        If the mode is missing or unknown, or as in :func:`parse`.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    mode = _value_of("--mode", words)
    if mode is None and {"-h", "--help"} & set(words):
        for name, options in modes.items():
            sys.stdout.write(f"\n==== --mode {name} {'=' * 60}\n")
            with suppress(SystemExit):
                parse(options, ["--help"], description=description, presets=presets.get(name))
        raise SystemExit(0)
    if mode is None or mode not in modes:
        found = "is missing" if mode is None else f"{mode} is unknown"
        raise UserError(f"--mode {found}; give --mode {' or --mode '.join(modes)}")
    place = next(i for i, word in enumerate(words) if word.split("=")[0] == "--mode")
    rest = words[:place] + words[place + (1 if "=" in words[place] else 2) :]
    return mode, parse(modes[mode], rest, description=description, presets=presets.get(mode), stored=stored)


def rewrite_arguments(argv: Sequence[str], hints: Mapping[str, Any], *, positionals: bool = False) -> list[str]:
    """Rewrite arguments for jsonargparse: ``--flag`` to ``--flag=true``, ``--list a b`` to ``--list=["a", "b"]``.

    Parameters
    ----------
    argv
        The arguments as typed.
    hints
        Type of each option.
    positionals
        Whether the script has positional arguments. A list of numbers then ends before the first word that is not a
        number.

    Returns
    -------
    list
        The arguments as jsonargparse expects them.
    """
    words, result = list(argv), []
    while words:
        word = words.pop(0)
        hint = _required_type(hints.get(word.removeprefix("--"))) if word.startswith("--") else None
        if hint is bool and (not words or words[0].lower() not in ("true", "false")):
            word += "=true"
        elif get_origin(hint) in (list, tuple) and words and not words[0].startswith("["):
            is_text = str in get_args(hint)
            ends_list = _is_not_numeric if positionals and not is_text else _is_option
            items = []
            while words and not ends_list(words[0]):
                items += [item for item in words.pop(0).split(",") if item]
            if items or not positionals:
                word += "=" + (json.dumps(items) if is_text else f"[{','.join(items)}]")
        result.append(word)
    return result


def _is_option(word: str) -> bool:
    return word.startswith("--")


def _is_not_numeric(word: str) -> bool:
    """Whether a word is anything but a number or numbers separated by commas."""
    try:
        [float(item) for item in word.split(",") if item]
    except ValueError:
        return True
    return False


def _preset(parser: ArgumentParser, arguments: Sequence[str], presets: Mapping[str, Any], option: str) -> str | None:
    """Name of the preset selected by ``option`` on the command line or else in the YAML file; None if there is none."""
    selected = _value_of(f"--{option}", arguments)
    if presets and selected is None and any(word.split("=")[0] == "--config" for word in arguments):
        selected = parser.parse_args(arguments)[option]
    return next((name for name in presets if name.lower() == (selected or "").lower()), None)


def _value_of(option: str, argv: Sequence[str]) -> str | None:
    """Value of an option, read before all options are parsed; the last one counts."""
    value = None
    for index, word in enumerate(argv):
        if word == option and index + 1 < len(argv):
            value = argv[index + 1]
        elif word.startswith(option + "="):
            value = word.split("=", 1)[1]
    return value


def run(main: Callable[[list[str] | None], int | None]) -> NoReturn:
    """Call ``main`` and exit the process.

    A :class:`UserError`, and memory that runs out, become one line on stderr and exit code 2. Ctrl-C gives exit code
    130, and SIGTERM 143, both after ``main`` has cleaned up.
    """
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        code = main(None) or 0
        sys.stdout.flush()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        code = 2
    except MemoryError as error:
        sys.stderr.write(f"error: not enough memory ({error}); give less at a time\n")
        code = 2
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader of a pipe has exited (`| head`): not an error, but Python must not flush stdout into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.exit(code)
