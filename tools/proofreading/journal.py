"""The journal of a trace: a line of JSON for each step of the proofreader, written at once, so that a crash loses none.

The first line names the trace by the hash of its file. The others are operations, ``undo``, ``redo``, and ``look``,
the doubt that is shown. One session at a time has it: two that write would leave steps that do not fit each other.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sys
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from lib.errors import UserError
from lib.files import reporting_write_errors

Record = dict[str, Any]
VERSION = 1
LOCKED_BYTE = 2**30
"""Byte that is locked on Windows, where nobody can read what is locked: far behind the end of any journal."""


class Journal:
    """Appends to, and reads, the journal of a trace; it is held until it is closed, and goes if it is empty then.

    Parameters
    ----------
    trace
        SWC file; the journal of ``a.swc`` is ``a_journal.jsonl`` beside it.

    Raises
    ------
    UserError
        If another session holds it.
    """

    def __init__(self, trace: Path) -> None:
        self.path = trace.with_name(f"{trace.stem}_journal.jsonl")
        self._head = {"journal": VERSION, "trace": trace.name, "sha256": hashlib.sha256(trace.read_bytes()).hexdigest()}
        # Also called when nobody uses the journal any more, and at the end of the process.
        self._release = weakref.finalize(self, _release, _held(self.path), self.path)

    def records(self) -> list[Record]:
        """All records, empty for a line that holds none; a last line that a crash left incomplete is cut off.

        Raises
        ------
        UserError
            If the journal is of another trace.
        """
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with reporting_write_errors(self.path):
                self.path.write_bytes(whole)
        records = [_parsed(line) for line in whole.splitlines()]
        if records and records[0] != self._head | {"trace": records[0].get("trace")}:
            advice = "move it away to start anew, or take back the SWC that it was made for"
            raise UserError(f"{self.path}: is the journal of another SWC file, or of an earlier state of it; {advice}")
        return records[1:]

    def append(self, record: Record) -> None:
        """Write a record.

        Raises
        ------
        UserError
            If it cannot be written, or the journal is closed.
        """
        if not self._release.alive:
            raise UserError(f"{self.path}: was closed; open the trace again")
        with reporting_write_errors(self.path):
            is_new = not self.path.exists() or not self.path.stat().st_size
            lines = [json.dumps(each) + "\n" for each in ([self._head] if is_new else []) + [record]]
            with self.path.open("ab") as file:
                file.write("".join(lines).encode())

    def leave_out(self, number: int) -> str:
        """Cut a journal off before a line, after a copy of all of it was made.

        Parameters
        ----------
        number
            Of the first line that goes, from 1.

        Returns
        -------
        str
            Which lines were left out, and the name of the copy.

        Raises
        ------
        UserError
            If a file cannot be written.
        """
        lines = self.path.read_bytes().splitlines(keepends=True)
        copy = _unused(self.path.with_name(f"{self.path.stem}_backup.jsonl"))
        with reporting_write_errors(copy):
            shutil.copyfile(self.path, copy)
        with reporting_write_errors(self.path), self.path.open("r+b") as file:
            file.truncate(sum(map(len, lines[: number - 1])))  # in place: a new file would not be locked
        which = f"line {number} was" if number == len(lines) else f"lines {number} to {len(lines)} were"
        return f"{which} left out, all of it is kept as {copy.name}"

    def close(self) -> None:
        """Let other sessions have it; nothing can be appended any more."""
        self._release()


def _parsed(line: bytes) -> Record:
    """The record of a line; empty if it holds none."""
    with suppress(ValueError):
        if isinstance(record := json.loads(line), dict):
            return record
    return {}


def _unused(path: Path) -> Path:
    """The path, or if it is in use the first of ``a_2.jsonl``, ``a_3.jsonl``, ... that is not."""
    names = itertools.chain([path.name], (f"{path.stem}_{count}{path.suffix}" for count in itertools.count(2)))
    return next(free for name in names if not (free := path.with_name(name)).exists())


def _held(path: Path) -> BinaryIO | None:
    """The open file, locked where the disk has locks; None where it cannot be written, which no other session can then.

    Raises
    ------
    UserError
        If it is locked.
    """
    try:
        file = path.open("ab")
    except OSError:
        return None  # a folder to look at only: the first step says why it cannot be written
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):
        file.close()
        advice = "go on there, or close it first"
        raise UserError(f"{path}: this trace is open in another window or session; {advice}") from None
    except OSError:
        pass  # a disk without locks
    return file


def _lock(file: BinaryIO) -> None:
    """Lock a file until it is closed or the process ends, however it ends; raises OSError if another handle has it."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _release(file: BinaryIO | None, path: Path) -> None:
    """Close a file that :func:`_held` opened."""
    if file is None:
        return
    is_empty = path.exists() and not path.stat().st_size
    file.close()
    if is_empty:
        with suppress(OSError):
            path.unlink()
