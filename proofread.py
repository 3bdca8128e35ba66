"""Proofread a trace: look at what the tracer doubts, accept or correct it, save the trees.

    python proofread.py IMAGE TRACE.swc [--swc_origin corner]

Needs napari: pip install -e '.[napari]'. The tables and the map that the tracer wrote beside the SWC are used where
they are there. All that is done is written at once to TRACE_journal.jsonl; Ctrl+S writes TRACE_corrected.swc. Opened
again, the window is where it was left. docs/proofreading.md explains keys and files.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

from lib.errors import UserError
from lib.swclib import SwcOrigin
from tools.cli import Parser, run
from tools.proofreading.session import Session


@dataclass(frozen=True)
class ProofreadOptions:
    """Files to open."""

    image: Path
    trace: Path
    swc_origin: SwcOrigin


def parse_arguments(argv: list[str] | None) -> ProofreadOptions:
    """Read the command line."""
    parser = Parser(hints=get_type_hints(ProofreadOptions), description=__doc__)
    parser.add_argument("image", type=str, help="image or volume")
    parser.add_argument("trace", type=str, help="its trace, an SWC file")
    origin_help = "where coordinate 0 of the SWC lies in the first pixel, if its head does not say"
    parser.add_argument("--swc_origin", type=SwcOrigin, default="centre", help=origin_help)
    values = parser.parse_args(argv)
    return ProofreadOptions(Path(values.image), Path(values.trace), values.swc_origin)


def main(argv: list[str] | None = None) -> None:
    """Open the window."""
    options = parse_arguments(argv)
    for package in ("napari", "qtpy"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{package}: is not installed; run `pip install -e '.[napari]'` in the folder of NETracer")
    session = Session.open(options.image, options.trace, origin=options.swc_origin)
    sys.stdout.writelines(f"note: {note}\n" for note in session.notes)
    sys.stdout.flush()  # the window stays open for long
    from tools.proofreading.window import show

    show(session)


if __name__ == "__main__":
    run(main)
