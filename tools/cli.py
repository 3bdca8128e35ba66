"""What the scripts share: options from dataclasses, and mistakes told in one line."""

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
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse_from_object
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, set_parsing_settings

from lib.errors import UserError, did_you_mean

Options = TypeVar("Options")

# Fields of the option dataclasses are documented by the string below them; --help shows those.
set_parsing_settings(docstring_parse_attribute_docstrings=True)

_WANTED = {"int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list", "str": "a word"}


class _Help(DefaultHelpFormatter):
    """Keeps the lines of the description as they are, and names types without Python's brackets."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text.strip()

    def _expand_help(self, action: Any) -> str:
        said = re.sub(r"<class '([\w.]+)'>", r"\1", super()._expand_help(action))
        # What is not given has no value yet ("default: null"): where it comes from then, the description says.
        said = re.sub(r", default: null\)$", ")", said)
        return re.sub(r"type: (?:Optional\[(.*)\]|(\w+) \| None)\)$", r"type: \1\2)", said)


class Parser(ArgumentParser):
    """Tells a mistake in one line, with the nearest known option where one is unknown."""

    def __init__(self, *args: Any, hints: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Take ``hints``, the type of each option, beside what :class:`ArgumentParser` takes."""
        super().__init__(*args, formatter_class=_Help, **kwargs)
        self.hints = dict(hints or {})

    def validate(self, cfg: Namespace, skip_none: bool = True, skip_required: bool = False, **kwargs: Any) -> None:
        """Tell all that is missing, where jsonargparse tells the first."""
        missing = [] if skip_required else [name for name in self._required() if cfg.get(name) is None]
        if missing:
            *others, last = map(self._shown, missing)
            names = f"{', '.join(others)} and {last} are" if others else f"{last} is"
            self.error(f"{names} missing; see --help")
        super().validate(cfg, skip_none=skip_none, skip_required=skip_required, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what ``message`` says as a :class:`UserError`."""
        raise UserError(self._in_one_line(" ".join(str(message).split())))

    def _in_one_line(self, line: str) -> str:
        """Put jsonargparse's ways of saying it into words for a user."""
        if match := re.search(r"nrecognized arguments: (\S+)", line):
            word = match[1].split("=")[0]
            return f"unknown option {word}{self._near(word)}" if word.startswith("-") else f"what is {word!r} for?"
        if match := re.search(r"Key '([\w.]+)' is not expected", line):
            return f"--config: unknown key {match[1]}{self._near(f'--{match[1]}').replace('--', '', 1)}"
        if match := re.search(r"Parser key \"(\w+)\":(?:.*(?:Got|Given) value: (.*))?", line):
            name, found = match.groups()
            if name in self.hints:
                return f"--{name} must be {wanted(self.hints[name])}" + (f", got {found}" if found else "")
        if match := re.search(r"argument (--\w+): expected one argument", line):
            return f"{match[1]}: its value is missing; see --help"
        return line.replace('Parser key "config"', "--config")

    def explain(self, explanations: Mapping[str, str]) -> None:
        """Set the help text of options: jsonargparse reads those of the class itself, not of classes it inherits."""
        for action in self._actions:
            action.help = explanations.get(action.dest, action.help)

    def _required(self) -> list[str]:
        """Names of what must be given, in the order of ``--help``."""
        return [action.dest for action in self._actions if action.dest in self.required_args]

    def _shown(self, name: str) -> str:
        """An argument's name as it is typed, or as ``--help`` shows a place in the line."""
        is_option = any(action.dest == name and action.option_strings for action in self._actions)
        return f"--{name}" if is_option else name.upper()

    def _near(self, option: str) -> str:
        known = [name for action in self._actions for name in action.option_strings]
        return f"; {did_you_mean(option, known) or 'see --help'}"


def wanted(hint: Any) -> str:
    """What a value of type ``hint`` looks like, in words."""
    hint = _given_type(hint)
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"one for each axis, each {wanted(get_args(hint)[0])}, such as 64 64 (in 3D 16 64 64)"
    if get_origin(hint) is list:
        return f"a list, each {wanted(get_args(hint)[0])}"
    return _WANTED.get(getattr(hint, "__name__", ""), str(hint))


def _explanations(options: type) -> dict[str, str]:
    """The string below each field of a dataclass and of those it inherits."""
    classes = [each for each in reversed(options.__mro__) if is_dataclass(each)]
    parameters = [parameter for each in classes for parameter in parse_from_object(each).params]
    return {parameter.arg_name: parameter.description or "" for parameter in parameters}


def _given_type(hint: Any) -> Any:
    """The type of an option where it is given: ``None`` beside a type only says that it need not be."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    return hint


def parse(
    options: type[Options],
    argv: Sequence[str] | None,
    *,
    description: str,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    preset_option: str = "dataset",
) -> Options:
    """Read a dataclass from the command line, a YAML file (``--config``) and a dataset's preset; the first weighs most.

    Parameters
    ----------
    options
        The dataclass; every field is an option of its name. A bool may be given bare (``--preview``), a list or tuple
        as words (``--patch_size 64 64``).
    argv
        Arguments; None takes those of the process.
    description
        First lines of ``--help``.
    presets
        Defaults by dataset name, looked up without regard to case; the dataset then has the preset's name.
    preset_option
        Option that names the preset.

    Raises
    ------
    UserError
        If an option is unknown or a value does not fit.
    """
    parser = Parser(hints=get_type_hints(options), description=description, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file of options; unknown keys are refused")
    parser.add_class_arguments(options)
    parser.explain(_explanations(options))
    arguments = as_written(list(sys.argv[1:] if argv is None else argv), parser.hints)
    preset = _preset(parser, arguments, presets, preset_option) if presets else None
    if preset:
        parser.set_defaults(dict(presets[preset]))
    values = parser.parse_args(arguments)
    parsed = options(**{field.name: values[field.name] for field in fields(options)})
    return replace(parsed, **{preset_option: preset}) if preset else parsed


def parse_mode(
    modes: Mapping[str, type],
    argv: Sequence[str] | None,
    *,
    description: str,
    presets: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> tuple[str, Any]:
    """Read ``--mode`` and then the options of that mode; ``--help`` without a mode explains the options of all.

    Parameters
    ----------
    modes
        Option dataclass of each mode.
    argv, description
        As in :func:`parse`.
    presets
        Presets of each mode that has any.

    Returns
    -------
    mode, options

    Raises
    ------
    UserError
        As :func:`parse`, and if the mode is missing or unknown.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    mode = _given(words, "--mode")
    if mode is None and {"-h", "--help"} & set(words):
        for name, options in modes.items():
            print(f"\n==== --mode {name} " + "=" * 60)
            with suppress(SystemExit):
                parse(options, ["--help"], description=description, presets=presets.get(name))
        raise SystemExit(0)
    if mode not in modes:
        found = "is missing" if mode is None else f"{mode} is unknown"
        raise UserError(f"--mode {found}; give --mode {' or --mode '.join(modes)}")
    place = next(i for i, word in enumerate(words) if word.split("=")[0] == "--mode")
    rest = words[:place] + words[place + (1 if "=" in words[place] else 2) :]
    return mode, parse(modes[mode], rest, description=description, presets=presets.get(mode))


def as_written(argv: Sequence[str], hints: Mapping[str, Any], *, positionals: bool = False) -> list[str]:
    """Rewrite ``--flag`` to ``--flag=true``, ``--list a b`` to ``--list=["a", "b"]``, by the types of the options.

    Where a script has ``positionals``, a list of numbers ends at a word that is none: it may be one of them.
    """
    words, result = list(argv), []
    while words:
        word = words.pop(0)
        hint = _given_type(hints.get(word.removeprefix("--"))) if word.startswith("--") else None
        if hint is bool and (not words or words[0].lower() not in ("true", "false")):
            word += "=true"
        elif get_origin(hint) in (list, tuple) and words and not words[0].startswith("["):
            is_text = str in get_args(hint)
            ends_list = _is_no_number if positionals and not is_text else _is_option
            items = []
            while words and not ends_list(words[0]):
                items += [item for item in words.pop(0).split(",") if item]
            if items or not positionals:
                word += "=" + (json.dumps(items) if is_text else f"[{','.join(items)}]")
        result.append(word)
    return result


def _is_option(word: str) -> bool:
    """Whether a word begins the next option."""
    return word.startswith("--")


def _is_no_number(word: str) -> bool:
    """Whether a word is neither a number nor several with commas between."""
    try:
        [float(item) for item in word.split(",") if item]
    except ValueError:
        return True
    return False


def _preset(parser: ArgumentParser, arguments: Sequence[str], presets: Mapping[str, Any], option: str) -> str | None:
    """Name of the preset that the command line, or else the YAML file, asks for with ``option``."""
    asked = _given(arguments, f"--{option}")
    if asked is None and any(word.split("=")[0] == "--config" for word in arguments):
        asked = parser.parse_args(arguments)[option]
    return next((name for name in presets if name.lower() == (asked or "").lower()), None)


def _given(argv: Sequence[str], option: str) -> str | None:
    """Value of an option before real parsing; the last one counts."""
    value = None
    for index, word in enumerate(argv):
        if word == option and index + 1 < len(argv):
            value = argv[index + 1]
        elif word.startswith(option + "="):
            value = word.split("=", 1)[1]
    return value


def run(main: Callable[[list[str] | None], int | None]) -> NoReturn:
    """Call ``main`` and leave the process: a user's mistake is one line on stderr and exit code 2, Ctrl-C is 130.

    SIGTERM, too, lets ``main`` clean up what it has half done (exit code 143).
    """
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
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
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.exit(code)
