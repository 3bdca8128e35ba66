"""Training curves of a metrics file."""

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
from lib.files import written


def curves(csv_path: str | Path, png_path: str | Path) -> None:
    """Draw the training curves of a metrics file: losses, Dice and learning rate over the steps.

    Parameters
    ----------
    csv_path : with a column ``step`` and any of ``loss*``, ``val_loss*``, ``dice_*`` and ``lr``; fields may be blank
    png_path : the picture; it appears only when complete

    Raises
    ------
    UserError
        if the file is missing, has no ``step`` or no rows, or a field is not a number.
    """
    metrics = _read_metrics(Path(csv_path))
    figure = Figure(figsize=(8, 9), layout="constrained")
    losses, dice, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
    _draw_curves(losses, metrics, ("loss", "val_loss"), "loss")
    _draw_curves(dice, metrics, ("dice",), "Dice")
    _draw_curves(rate, metrics, ("lr",), "learning rate")
    losses.set_yscale("log")
    losses.yaxis.set_major_formatter("{x:g}")
    losses.yaxis.set_minor_formatter("")
    dice.set_ylim(0, 1)
    rate.set_xlabel("step")
    with written(Path(png_path)) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _read_metrics(path: Path) -> dict[str, NDArray[np.floating]]:
    """Return column -> values, NaN where blank. Columns of words (``split``) are left out by the drawing."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; training writes it as metrics.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "step" not in rows[0]:
        raise UserError(f"{path}: has no rows with a 'step'; give the metrics.csv of a training run")
    names = [name for name in rows[0] if name and name.startswith(("step", "loss", "val_loss", "dice", "lr"))]
    return {name: np.array([_number(path, i, name, row[name]) for i, row in enumerate(rows, 2)]) for name in names}


def _number(path: Path, line: int, name: str, field: str | None) -> float:
    try:
        return float(field) if field and field.strip() else np.nan
    except ValueError:
        raise UserError(f"{path}, line {line}: {name} is '{field}', not a number; correct or delete the line") from None


def _draw_curves(axes: Axes, metrics: Mapping[str, NDArray], starts: tuple[str, ...], title: str) -> None:
    """Draw the columns whose names start as given; a noisy curve is drawn pale, its running mean over it."""
    names = [name for name, values in metrics.items() if name.startswith(starts) and np.isfinite(values).any()]
    for name in names:
        known = np.isfinite(metrics[name]) & np.isfinite(metrics["step"])
        step, values = metrics["step"][known], metrics[name][known]
        window = len(values) // 40
        marker = "o" if len(values) < 40 else None
        (line,) = axes.plot(step, values, marker=marker, markersize=3, alpha=0.25 if window > 1 else 1, label=name)
        if window > 1:
            line.set_label(None)
            axes.plot(step, uniform_filter1d(values, window, mode="nearest"), color=line.get_color(), label=name)
    axes.set_ylabel(title)
    axes.grid(alpha=0.3)
    if names:
        axes.legend(fontsize="small")
