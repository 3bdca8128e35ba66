"""The journal of a trace: a line of JSON for each step of the proofreader, written at once, so that a crash loses none.

The first line names the trace by the hash of its file. The others are operations, ``undo``, ``redo``, and ``look``,
the doubt that is shown.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from lib.errors import UserError
from lib.files import reporting_write_errors

Record = dict[str, Any]
VERSION = 1


class Journal:
    """Appends to, and reads, the journal of a trace; the file is made with its first record.

    Parameters
    ----------
    trace
        SWC file; the journal of ``a.swc`` is ``a_journal.jsonl`` beside it.
    """

    def __init__(self, trace: Path) -> None:
        self.path = trace.with_name(f"{trace.stem}_journal.jsonl")
        self._head = {"journal": VERSION, "trace": trace.name, "sha256": hashlib.sha256(trace.read_bytes()).hexdigest()}

    def records(self) -> list[Record]:
        """All records; a last line that a crash left incomplete is cut off.

        Raises
        ------
        UserError
            If the journal is of another trace, or broken.
        """
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with reporting_write_errors(self.path):
                self.path.write_bytes(whole)
        lines = whole.splitlines()
        records = [self._parsed(line, number) for number, line in enumerate(lines, start=1)]
        if records and records[0] != self._head | {"trace": records[0].get("trace")}:
            advice = "move it away to start anew, or take back the SWC that it was made for"
            raise UserError(f"{self.path}: is the journal of another SWC file, or of an earlier state of it; {advice}")
        return records[1:]

    def append(self, record: Record) -> None:
        """Write a record.

        Raises
        ------
        UserError
            If it cannot be written.
        """
        with reporting_write_errors(self.path):
            is_new = not self.path.exists() or not self.path.stat().st_size
            lines = [json.dumps(each) + "\n" for each in ([self._head] if is_new else []) + [record]]
            with self.path.open("ab") as file:
                file.write("".join(lines).encode())

    def _parsed(self, line: bytes, number: int) -> Record:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise UserError(f"{self.path}, line {number}: not a record; move the journal away to start anew")
        return record
