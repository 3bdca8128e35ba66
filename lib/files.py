"""Writing files so that they are whole or not there, and saying in one line why they could not be written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lib.errors import UserError


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn an error of the operating system while writing ``path`` into one line for the user."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise UserError(f"{path}: cannot be written ({reason}); check its folder and the space on the disk") from error


def make_folder(path: Path, option: str = "--out") -> None:
    """Make a folder to write to, if needed, so that a place that cannot be written is known before the work.

    Raises
    ------
    UserError
        If it cannot be made or written to; the line names the ``option`` that gave it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be made ({error.strerror}); give another folder") from None
    if not os.access(path, os.W_OK):
        raise UserError(f"{option} {path}: cannot be written to; give another folder")


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``, renamed to ``path`` on success and deleted on failure.

    The temporary name has the same suffix, by which some writers choose the format, and starts with a dot. The folder
    is made if needed.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    with reported(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
        finally:
            # Where it could not be made it cannot be deleted either, and that must not hide why.
            with suppress(OSError):
                temporary.unlink()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file; it appears under its name only when complete.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    with written(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n")
