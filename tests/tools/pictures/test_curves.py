"""Training curves are drawn from a metrics file, or its error is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from skimage.io import imread

from lib.errors import UserError
from tools.pictures.curves import curves


def write_metrics(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["step,epoch,split,loss,loss_node,lr,val_loss,dice_node", *rows]) + "\n")
    return path


def test_blank_fields_are_allowed(tmp_path: Path) -> None:
    rows = [f"{step},0,train,{1 / (step + 1)},,0.001,{0.5 if step % 10 == 9 else ''}," for step in range(100)]
    curves(write_metrics(tmp_path / "metrics.csv", *rows), tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").std() > 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.png", "metrics.csv"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "no rows"),
        (("1,0,train,0.5,,,,", "2,0,train,0.x5,,,,"), r"metrics\.csv, line 3: loss is '0\.x5', not a number"),
    ],
)
def test_broken_metrics_are_reported(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        curves(write_metrics(tmp_path / "metrics.csv", *rows), tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_missing_metrics_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
