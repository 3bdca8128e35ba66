"""Options of the table script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lib.errors import UserError, known_names


@dataclass(frozen=True)
class TablesOptions:
    """Trace and score whole datasets, and compare with the paper's scores."""

    data_root: Path
    """Folder that holds <DATASET>/<split>."""
    out: Path
    """Folder for tables.md, tables.csv, tables.html and the traces, which later runs reuse."""
    datasets: list[str] = field(default_factory=list)
    """Names of datasets with images published (configs/config_2d.py and config_3d.py); without it, all."""
    methods: list[str] = field(default_factory=list)
    """Methods; without it, all. docs/tables.md describes each."""
    weights: list[str] = field(default_factory=list)
    """DATASET=file: weights to use instead of weights/<DATASET>.safetensors."""
    scale: list[str] = field(default_factory=list)
    """DATASET=number: scale to use instead of that of the weights (for borrowed weights: of the dataset)."""
    split: Literal["training", "test"] = "test"
    """Which images; training lets you choose settings without looking at the test images."""
    images: list[str] = field(default_factory=list)
    """Names (without suffix) of the images, such as 38 39 40; without it, all of the split."""
    pictures: bool = True
    """Draw error pictures into tables.html."""
    retrace: bool = False
    """Trace again what could be reused."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto uses a GPU if there is one."""
    threads: int = 0
    """Number of CPU threads; 0 lets PyTorch choose."""


def select(option: str, names: Sequence[str], known: Iterable[str]) -> list[str]:
    """Known names that match ``names`` in any case, each once; all known names if ``names`` is empty.

    Raises
    ------
    UserError
        If a name is unknown.
    """
    by_lower = {name.lower(): name for name in known}
    for name in names:
        if name.lower() not in by_lower:
            raise UserError(f"--{option}: {name} is unknown; {known_names(name, by_lower.values())}")
    return list(dict.fromkeys(by_lower[name.lower()] for name in names)) or list(by_lower.values())


def parse_assignments(option: str, words: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """Values of ``NAME=value`` words by known name, which is matched in any case.

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
        values[select(option, [name], known)[0]] = value
    return values


def parse_scales(words: Sequence[str], known: Iterable[str]) -> dict[str, float]:
    """Scales of ``--scale`` in work pixels per image pixel, by dataset.

    Raises
    ------
    UserError
        As :func:`parse_assignments`, and if a scale is not a positive number.
    """
    values = {}
    for name, text in parse_assignments("scale", words, known).items():
        try:
            values[name] = float(text)
        except ValueError:
            values[name] = 0.0
        if not 0 < values[name] < float("inf"):
            raise UserError(f"--scale {name}={text}: give a positive number of work pixels per image pixel")
    return values
