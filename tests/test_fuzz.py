"""The fuzzer: its mutations, a short run, and that it finds what must not happen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import fuzz
from benchmarks.fuzz import mutated, run_case
from lib.errors import UserError


def test_the_same_seed_makes_the_same_file():
    data = bytes(range(200))
    files = [mutated(data, data[::-1], np.random.default_rng((0, case))) for case in range(50)]
    assert files == [mutated(data, data[::-1], np.random.default_rng((0, case))) for case in range(50)]
    assert len(set(files)) > 45 and sum(file == data for file in files) <= 2


@pytest.fixture
def folder(tmp_path):
    fuzz.make_sound_files(tmp_path / "sound")
    return tmp_path


def test_all_sound_files_are_read(folder, monkeypatch):
    """Without mutations every reader gives a result, or one line about what is not broken in the file."""
    monkeypatch.setattr(fuzz, "mutated", lambda data, other, random: data)
    seen, said = set(), []
    noted = {name: (kind, noting(read, said)) for name, (kind, read) in fuzz.TARGETS.items()}
    monkeypatch.setattr(fuzz, "TARGETS", noted)
    for case in range(60):
        target, what = run_case(case, 0, folder)
        assert what is None, what
        seen.add(target)
    assert seen == set(fuzz.TARGETS)
    assert len(said) < 40 and not [message for message in said if "broken" in message or "no such" in message]


def noting(read, said: list[str]):
    """A reader whose one-line messages are kept."""

    def noted(path: Path, out: Path, random: np.random.Generator) -> None:
        try:
            read(path, out, random)
        except UserError as error:
            said.append(str(error))
            raise

    return noted


def bad(what: str):
    """A reader that does what it must not."""

    def read(path: Path, out: Path, random: np.random.Generator) -> None:
        if what == "raises":
            raise KeyError("no such key")
        if what == "says much":
            raise UserError("one line\nand another")
        if what == "leaves":
            (out / ".half.tmp").touch()

    return read


@pytest.mark.parametrize(
    ("what", "found"),
    [("raises", "KeyError"), ("says much", "several lines"), ("leaves", "left behind: .half.tmp"), ("reads", None)],
)
def test_what_must_not_happen_is_found(folder, monkeypatch, what, found):
    monkeypatch.setattr(fuzz, "TARGETS", {"bad": ("swc", bad(what))})
    target, message = run_case(0, 0, folder)
    assert target == "bad" and ((message is None) if found is None else found in message)


def test_a_short_run_finds_nothing(tmp_path, capsys):
    code = fuzz.main(["--minutes", "10", "--cases", "21", "--out", str(tmp_path / "fuzz"), "--seed", "3"])
    printed = capsys.readouterr()
    assert code == 0, printed.out + printed.err
    assert int(printed.out.split()[0]) > 20
