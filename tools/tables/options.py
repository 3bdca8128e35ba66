"""What a user can say to the tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lib.errors import UserError, known_names


@dataclass(frozen=True)
class TablesOptions:
    """Trace and score whole datasets, with the paper's numbers beside."""

    data_root: Path
    """Folder that holds <DATASET>/<split>."""
    out: Path
    """Folder to write: tables.md, tables.csv, tables.html, and the traces, which a later run uses again."""
    datasets: list[str] = field(default_factory=list)
    """Datasets, of DRIVE, CHASEDB1, ROAD, OP and FMOST; none named: all."""
    methods: list[str] = field(default_factory=list)
    """Methods; none named: all. docs/tables.md says what each is."""
    weights: list[str] = field(default_factory=list)
    """DATASET=file for weights other than weights/<DATASET>.safetensors."""
    scale: list[str] = field(default_factory=list)
    """DATASET=number for another scale than that of the weights (or of the dataset, where weights are borrowed)."""
    split: Literal["training", "test"] = "test"
    """Which images; training for choosing settings without a look at the test images."""
    images: list[str] = field(default_factory=list)
    """Stems of the images, such as 38 39 40; none named: all of the split."""
    pictures: bool = True
    """Draw error pictures into tables.html."""
    retrace: bool = False
    """Trace again even what could be used again."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""


def chosen(option: str, names: Sequence[str], known: Iterable[str]) -> list[str]:
    """The known names that were asked for, without regard to case and each once; all if none was.

    Raises
    ------
    UserError
        If a name is unknown; the line names the known ones, the nearest first.
    """
    by_lower = {name.lower(): name for name in known}
    for name in names:
        if name.lower() not in by_lower:
            raise UserError(f"--{option}: {name} is unknown; {known_names(name, by_lower.values())}")
    return list(dict.fromkeys(by_lower[name.lower()] for name in names)) or list(by_lower.values())


def assigned(option: str, words: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """``NAME=value`` words as a table; names without regard to case.

    Raises
    ------
    UserError
        If a word has no ``=`` or no value, or its name is unknown.
    """
    values = {}
    for word in words:
        name, _, value = word.partition("=")
        if not value:
            raise UserError(f"--{option} {word}: give it as DATASET=value, such as DRIVE=...")
        values[chosen(option, [name], known)[0]] = value
    return values


def scales(words: Sequence[str], known: Iterable[str]) -> dict[str, float]:
    """The scales of ``--scale``.

    Raises
    ------
    UserError
        As :func:`assigned`, and if a scale is no positive number.
    """
    values = {}
    for name, text in assigned("scale", words, known).items():
        try:
            values[name] = float(text)
        except ValueError:
            values[name] = 0.0
        if not 0 < values[name] < float("inf"):
            raise UserError(f"--scale {name}={text}: give a positive number of work pixels per image pixel")
    return values
