"""Files are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.errors import UserError
from lib.files import written


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with written(path) as temporary:
        temporary.write_text("whole")
        assert temporary.suffix == ".txt" and not path.exists()
    assert path.read_text() == "whole" and names(path.parent) == ["a.txt"]


def test_what_was_there_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), written(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_errors_of_the_system_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "folder.txt", tmp_path / "file" / "a.txt"):
        with pytest.raises(UserError) as caught, written(path) as temporary:
            temporary.touch()
        assert str(caught.value).startswith(f"{path}: cannot be written (") and "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"\(two words\)"), written(tmp_path / "a.txt"):
        raise OSError("two\nwords")
    assert names(tmp_path) == ["file", "folder.txt"]
