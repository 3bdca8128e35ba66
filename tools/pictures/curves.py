"""The training curves of a metrics file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from lib.errors import UserError
from lib.files import atomic_write

_LONG = 40
"""Rows of a column from which single points are not marked; the running mean spans 1/40 of the rows."""


def curves(csv_path: str | Path, png_path: str | Path) -> None:
    """Draw losses, Dice and learning rate over the steps.

    Parameters
    ----------
    csv_path
        Metrics file with a column ``step`` and any of ``loss*``, ``val_loss*``, ``dice_*``, ``accuracy_*`` and ``lr``;
        fields may be blank.
    png_path
        The picture; it appears only when complete.

    Raises
    ------
    UserError
        If the file is missing, has no ``step`` or no rows, or a field is not a number; or if the picture cannot be
        written.
    """
    metrics = _read_metrics(Path(csv_path))
    figure = Figure(figsize=(8, 9), layout="constrained")
    losses, dice, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
    _draw_curves(losses, metrics, ("loss", "val_loss"), "loss")
    _draw_curves(dice, metrics, ("dice", "accuracy"), "Dice, accuracy")
    _draw_curves(rate, metrics, ("lr",), "learning rate")
    losses.set_yscale("log")
    losses.yaxis.set_major_formatter("{x:g}")
    losses.yaxis.set_minor_formatter("")
    dice.set_ylim(0, 1)
    rate.set_xlabel("step")
    with atomic_write(Path(png_path)) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _read_metrics(path: Path) -> dict[str, NDArray[np.floating]]:
    """Read the columns of numbers by name, NaN where blank; columns of words such as ``split`` are left out."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; training writes it as metrics.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "step" not in rows[0]:
        raise UserError(f"{path}: has no rows with a 'step'; give the metrics.csv of a training run")
    drawn = ("step", "loss", "val_loss", "dice", "accuracy", "lr")
    names = [name for name in rows[0] if name and name.startswith(drawn)]
    return {name: np.array([_number(path, i, name, row[name]) for i, row in enumerate(rows, 2)]) for name in names}


def _number(path: Path, line: int, name: str, field: str | None) -> float:
    try:
        return float(field) if field and field.strip() else np.nan
    except ValueError:
        raise UserError(f"{path}, line {line}: {name} is '{field}', not a number; correct or delete the line") from None


def _draw_curves(axes: Axes, metrics: Mapping[str, NDArray], prefixes: tuple[str, ...], title: str) -> None:
    """Draw the columns whose names start with a prefix; a long curve is drawn pale below its running mean."""
    for name, column in metrics.items():
        known = np.isfinite(column) & np.isfinite(metrics["step"])
        if not name.startswith(prefixes) or not known.any():
            continue
        step, values = metrics["step"][known], column[known]
        window = len(values) // _LONG
        marker = "o" if len(values) < _LONG else None
        (line,) = axes.plot(step, values, marker=marker, markersize=3, alpha=0.25 if window > 1 else 1, label=name)
        if window > 1:
            line.set_label(None)
            axes.plot(step, uniform_filter1d(values, window, mode="nearest"), color=line.get_color(), label=name)
    axes.set_ylabel(title)
    axes.grid(alpha=0.3)
    if axes.has_data():
        axes.legend(fontsize="small")
