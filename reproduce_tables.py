"""Trace whole datasets, score the traces, and list the paper's scores beside them.

    python reproduce_tables.py --data_root $DATASETS --datasets DRIVE CHASEDB1 --out out/tables
    python reproduce_tables.py --data_root $DATASETS --datasets DRIVE --split training --images 38 39 --out out/a

Writes tables.md, tables.csv and tables.html. Traces are kept in <out>/traces and reused as long as image, weights,
code and settings are the same. docs/tables.md describes the methods and how to read the tables.
"""

from __future__ import annotations

import sys

from tools.cli import parse, run
from tools.tables.document import as_markdown
from tools.tables.options import TablesOptions
from tools.tables.report import means_table
from tools.tables.run import make_tables
from tools.tables.study import MissingStudy


def main(argv: list[str] | None = None) -> int:
    """Make the tables and show the means."""
    options = parse(TablesOptions, argv, description=__doc__)
    for study in make_tables(options):
        notes = [study.reason] if isinstance(study, MissingStudy) else study.notes
        if not isinstance(study, MissingStudy):
            sys.stdout.write(f"{study.dataset.name}, {study.split}\n{as_markdown([means_table(study)])}\n")
        for note in notes:
            sys.stderr.write(f"note: {study.dataset.name}: {note}\n")
    sys.stdout.write(f"written: {options.out / 'tables.md'}, tables.csv and tables.html\n")
    return 0


if __name__ == "__main__":
    run(main)
