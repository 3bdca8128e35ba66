"""Writing of files so that a file exists only when complete, with a one-line error where that fails."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
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
            yield temporary
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
