"""Atomic writing of files: a file is complete or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lib.errors import UserError
from lib.files import atomic_write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("complete")
        assert temporary.suffix == ".txt" and not path.exists()
    assert path.read_text() == "complete" and names(path.parent) == ["a.txt"]


def test_old_file_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_system_errors_are_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "folder.txt", tmp_path / "file" / "a.txt"):
        with pytest.raises(UserError) as caught, atomic_write(path) as temporary:
            temporary.touch()
        assert str(caught.value).startswith(f"{path}: cannot be written (") and "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"\(two words\)"), atomic_write(tmp_path / "a.txt"):
        raise OSError("two\nwords")
    assert names(tmp_path) == ["file", "folder.txt"]


def test_files_have_the_usual_mode_whatever_made_them(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with atomic_write(tmp_path / "a.txt") as temporary:
        private = tmp_path / "private"
        os.close(os.open(private, os.O_CREAT, 0o600))
        private.replace(temporary)
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "usual").stat().st_mode
