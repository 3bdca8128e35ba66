"""Writing of files so that a file exists only when complete, with a one-line error where that fails."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lib.errors import UserError


@contextmanager
def reporting_write_errors(path: Path) -> Iterator[None]:
    """Turn an error of the operating system while ``path`` is written into a one-line message.

    Raises
    ------
    UserError
        Instead of any OSError in the block.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise UserError(f"{path}: cannot be written ({reason}); check its folder and the space on the disk") from error


def make_folder(path: Path, option: str = "--out") -> None:
    """Make an output folder if needed, before the work begins.

    Raises
    ------
    UserError
        If it cannot be made or written to; the message names the ``option`` that gave it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be made ({error.strerror}); give another folder") from None
    if not os.access(path, os.W_OK):
        raise UserError(f"{option} {path}: cannot be written to; give another folder")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary file name beside ``path``, which is renamed to ``path`` on success and deleted on failure.

    The temporary name starts with a dot and keeps the suffix, because some writers choose the format by it. The folder
    is made if needed.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    with reporting_write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            # Writers that make a private file and rename it, as safetensors does, leave it unreadable for others.
            temporary.chmod(mode)
            os.replace(temporary, path)
        finally:
            # A file that could not be made cannot be deleted either; that must not hide the first error.
            with suppress(OSError):
                temporary.unlink()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, with values of other types as their text; the file appears only when complete.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows as CSV; what a row lacks, and None, are empty cells. The file appears only when complete.

    Parameters
    ----------
    path
        The file.
    rows
        By name of column.
    columns
        Columns that come first, whether or not a row has them.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    names = dict.fromkeys([*columns, *(name for row in rows for name in row)])
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Give a hidden folder beside ``out``, which replaces ``out`` on success and is deleted on failure.

    Raises
    ------
    UserError
        If a file cannot be written.
    """
    # A link to a folder on another disk stays a link.
    out = out.resolve()
    space = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    made = [folder for folder in (space, *space.parents) if not folder.exists()]
    try:
        space.mkdir(parents=True)
        yield space
        _replace(out, space)
    except BaseException as error:
        shutil.rmtree(space, ignore_errors=True)
        for folder in made[1:]:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            path, reason = error.filename or out, error.strerror or error
            raise UserError(f"{path}: cannot be written ({reason}); check --out and its disk") from error
        raise


def _replace(out: Path, made: Path) -> None:
    """Rename ``made`` to ``out``, and delete the former ``out`` if there was one."""
    if not out.exists():
        made.rename(out)
        return
    former = made.with_suffix(".old")
    out.rename(former)
    try:
        made.rename(out)
    except BaseException:
        former.rename(out)
        raise
    shutil.rmtree(former)
