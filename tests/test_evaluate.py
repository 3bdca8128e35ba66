"""The evaluate script: pairs, table, files, mistakes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import evaluate
from lib.errors import UserError

LINE = "1 0 0 0 0 1 -1\n2 0 10 0 0 1 1\n"
SHIFTED = "1 0 0 1 0 1 -1\n2 0 10 1 0 1 1\n"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    gold, test = tmp_path / "gold", tmp_path / "test"
    gold.mkdir()
    test.mkdir()
    for name in ("01_manual1", "02", "03.v2", "11_manual1"):
        (gold / f"{name}.swc").write_text(LINE)
    for name, text in (("01", LINE), ("02", SHIFTED), ("03", "# nothing found\n"), ("1", LINE)):
        (test / f"{name}.swc").write_text(text)
    return gold, test


def test_two_files(folders, capsys):
    gold, test = folders
    assert evaluate.main([str(gold / "02.swc"), str(test / "02.swc")]) == 0
    out = capsys.readouterr().out
    assert f"gold: {gold / '02.swc'}\ntest: {test / '02.swc'}\nprotocol paper" in out
    assert [line.split()[:4] for line in out.splitlines() if line.split()[:1] in (["02"], ["mean"])] == [
        ["02", "1.000", "1.000", "1.000"],
        ["mean", "1.000", "1.000", "1.000"],
    ]


def test_two_folders_with_json_and_csv(folders, tmp_path, capsys):
    gold, test = folders
    evaluate.main([str(gold), str(test), "--json", str(tmp_path / "a.json"), "--csv", str(tmp_path / "a.csv")])
    report = json.loads((tmp_path / "a.json").read_text())
    assert list(report["cases"]) == ["01", "02", "03"]
    assert report["cases"]["01"]["PE"] == 0 and report["cases"]["02"]["PE"] == 1
    assert report["cases"]["03"]["PE"] is None and report["cases"]["03"]["SSD_F1"] == 0
    assert report["mean"]["SSD_F1"] == pytest.approx(2 / 3) and report["mean"]["PE"] == 0.5
    assert report["protocol"] == "paper" and report["threshold"] == 2
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert [row["case"] for row in rows] == ["01", "02", "03", "mean"] and rows[2]["PE"] == ""
    err = capsys.readouterr().err
    assert "11_manual1.swc has no partner" in err and f"{test / '1.swc'} has no partner" in err
    assert "03.swc is an empty trace" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{gold} {test}/01.swc", "two files or two folders"),
        ("{gold}/none.swc {test}/01.swc", "no such file"),
        ("{gold}/02.swc {test}/02.swc --threshold 0", "--threshold is 0"),
        ("{gold}/02.swc {test}/02.swc --spacing 1,2,3,4", "--spacing is '1,2,3,4'"),
        ("{gold}/02.swc {test}/02.swc --protocol other", "--protocol must be paper or experiment or closed"),
        ("{gold}/02.swc {test}/02.swc --json {gold}/02.swc/a.json", "cannot be written"),
        ("{test}/03.swc {test}/02.swc", "no nodes in this file"),
        ("{gold} {empty}", "no SWC files"),
        ("{gold}/02.swc {test}/02.swc --threshold far", "--threshold must be a number, got far"),
        ("{gold}/02.swc {test}/02.swc --treshold 3", "unknown option --treshold; did you mean --threshold?"),
        ("{gold}/02.swc {test}/02.swc more", "what is 'more' for?"),
        ("{gold}/02.swc", "^TEST is missing; see --help$"),
        ("", "^GOLD and TEST are missing; see --help$"),
    ],
)
def test_mistakes(folders, tmp_path, arguments, message):
    gold, test = folders
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        evaluate.main(arguments.format(gold=gold, test=test, empty=tmp_path / "empty").split())


def test_a_name_that_fits_two_golds(folders):
    gold, test = folders
    (gold / "01_manual2.swc").write_text(LINE)
    with pytest.raises(UserError, match=r"01_manual1\.swc, 01_manual2\.swc"):
        evaluate.main([str(gold), str(test)])


def test_no_pair_at_all(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.swc").write_text(LINE)
    with pytest.raises(UserError, match="name traces like their gold"):
        evaluate.main([str(tmp_path / "a"), str(tmp_path / "b")])


def test_spacing():
    assert evaluate.parse_spacing("0.5") == [0.5] and evaluate.parse_spacing("[1, .3,.3]") == [1, 0.3, 0.3]


def test_a_mistake_is_one_line_and_exit_code_2():
    script = Path(evaluate.__file__)
    environment = {**os.environ, "PYTHONPATH": str(script.parent)}
    result = subprocess.run(
        [sys.executable, script, "none.swc", "none.swc"], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == "error: none.swc: no such file or folder; check the name\n"
