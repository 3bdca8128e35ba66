"""What a training run writes down: metrics.csv, TensorBoard events, a picture of the curves."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from lib.files import reported, written
from tools.pictures.curves import curves

COLUMNS = (
    "step",
    "epoch",
    "loss",
    "loss_centerline",
    "loss_node",
    "loss_edge",
    "loss_connectivity",
    "lr",
    "val_loss",
    "dice_centerline",
    "dice_node",
    "dice_edge",
)


class RunLog:
    """Rows of numbers of one run, as a context manager.

    Parameters
    ----------
    folder
        The run's folder.
    first_step
        Rows after this step are dropped: a resumed run writes them again.
    active
        False on all processes but one; nothing is written then.

    Raises
    ------
    UserError
        If the folder cannot be written; so does :meth:`row`.
    """

    def __init__(self, folder: Path, *, first_step: int, active: bool = True) -> None:
        self.path = folder / "metrics.csv"
        self.picture = folder / "curves.png"
        self.active = active
        if not active:
            return
        rows = [row for row in _rows(self.path) if int(row["step"]) <= first_step] if first_step else []
        with written(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        with reported(folder / "tensorboard"):
            # Steps from purge_step on are hidden: they are logged again.
            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self.active:
            self._events.close()

    def row(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Add one row; columns without a value stay blank."""
        if not self.active:
            return
        with reported(self.path), self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow({"step": step, "epoch": f"{epoch:.4f}", **values})
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write out the events and draw the curves."""
        if not self.active:
            return
        with reported(self.picture):
            self._events.flush()
            if _rows(self.path):
                curves(self.path, self.picture)


def _rows(path: Path) -> list[dict[str, str]]:
    """The complete rows of an earlier part of the run; a row cut off by a kill is left out."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if None not in row.values() and (row.get("step") or "").isdigit()]
