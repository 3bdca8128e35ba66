"""The curve of held-out scores over core-hours, on small images whose trees are known."""

from __future__ import annotations

from benchmarks import learning_curve
from lib.files import write_csv
from tests.toy_training import toy_training
from tools import calibrate


def test_every_epoch_has_a_row_and_a_second_start_goes_on_after_the_last(tmp_path, capsys, monkeypatch):
    for name, few in {"SEEDS": (0.5,), "STOPS": (0.3,), "MOVES": ()}.items():
        monkeypatch.setattr(calibrate, name, few)
    run = tmp_path / "run"
    words = [*toy_training(tmp_path, nb_epoch=2), f"--run={run}"]
    learning_curve.main(words)
    first, second = learning_curve.read_rows(run / "scores.csv")
    assert (first["step"], second["step"]) == (2, 4)
    assert 0 < first["core_hours"] < second["core_hours"]
    assert all(0 <= row[name] <= 1 for row in (first, second) for name in learning_curve.COLUMNS)

    write_csv(run / "scores.csv", [first])
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
