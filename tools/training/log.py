"""Logs of a training run: metrics.csv, TensorBoard events and curves.png."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from lib.files import atomic_write, reporting_write_errors
from tools.pictures.curves import curves

COLUMNS: list[str] = [
    *("step", "epoch", "loss", "loss_centerline", "loss_node", "loss_edge", "loss_connectivity"),
    *("loss_kind", "lr", "val_loss", "dice_centerline", "dice_node", "dice_edge", "accuracy_kind"),
]
METRICS_FILE, CURVES_FILE = "metrics.csv", "curves.png"


class RunLog:
    """Context manager that logs the metrics of one run.

    Parameters
    ----------
    folder
        The run's folder.
    first_step
        Step at which the run starts or resumes; existing rows of later steps are dropped, as they will come again.
    active
        Whether this process writes; in a distributed run, only one does.

    Raises
    ------
    UserError
        If the folder cannot be written; :meth:`row` and :meth:`flush` raise it, too.
    """

    def __init__(self, folder: Path, *, first_step: int, active: bool = True) -> None:
        self.path = folder / METRICS_FILE
        self.picture = folder / CURVES_FILE
        self.active = active
        if not active:
            return
        rows = [row for row in _rows(self.path) if int(row["step"]) <= first_step] if first_step else []
        with atomic_write(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        with reporting_write_errors(folder / "tensorboard"):
            # TensorBoard hides earlier events from purge_step on, because those steps are logged again.
            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self.active:
            self._events.close()

    def row(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Add one row; columns without a value stay blank.

        Parameters
        ----------
        step
            Number of steps done.
        epoch
            Number of epochs done, with fraction.
        values
            Values of further columns.
        """
        if not self.active:
            return
        with reporting_write_errors(self.path), self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow({"step": step, "epoch": f"{epoch:.4f}", **values})
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write buffered events to disk and draw the curves."""
        if not self.active:
            return
        with reporting_write_errors(self.picture):
            self._events.flush()
            if _rows(self.path):
                curves(self.path, self.picture)


def _rows(path: Path) -> list[dict[str, str]]:
    """The complete rows of a metrics file; a row cut off when the run was killed is dropped."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if None not in row.values() and (row.get("step") or "").isdigit()]
