"""The curve of held-out scores over core-hours, on small images whose trees are known."""

from __future__ import annotations

from benchmarks import learning_curve
from benchmarks.dimensions import prepare_toy_dataset
from tools import calibrate

CONFIG = """
width: 2
batch_size: 8
states_per_tile: 4
tile_size: [80, 80]
validation_size: 4
nb_epoch: 2
epoch_size: 16
precision: fp32
layout: channels_first
hold_out: [b]
"""


def test_every_epoch_has_a_row_and_a_second_start_goes_on_after_the_last(tmp_path, capsys, monkeypatch):
    for name, few in {"SEEDS": (0.5,), "STOPS": (0.3,), "MOVES": ()}.items():
        monkeypatch.setattr(calibrate, name, few)
    data, run = prepare_toy_dataset(tmp_path / "toy", 2), tmp_path / "run"
    (tmp_path / "config.yaml").write_text(CONFIG)
    words = [f"--data={data}", f"--config={tmp_path / 'config.yaml'}", f"--run={run}", "--threads=1"]
    learning_curve.main(words)
    first, second = learning_curve.read_rows(run / "scores.csv")
    assert (first["step"], second["step"]) == (2, 4)
    assert 0 < first["core_hours"] < second["core_hours"]
    assert all(0 <= row[name] <= 1 for row in (first, second) for name in learning_curve.COLUMNS)

    learning_curve.write_rows(run / "scores.csv", [first])
    (run / "curve.png").unlink()
    capsys.readouterr()
    learning_curve.main(words)
    assert len(capsys.readouterr().out.splitlines()) == 1
    rows = learning_curve.read_rows(run / "scores.csv")
    assert [row["step"] for row in rows] == [2, 4]
    assert {name: rows[1][name] for name in learning_curve.COLUMNS} == {
        name: second[name] for name in learning_curve.COLUMNS
    }
    assert (run / "curve.png").stat().st_size > 1000
