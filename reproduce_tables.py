"""Trace whole datasets, score the traces, and put the paper's numbers beside them.

    python reproduce_tables.py --data_root ../shared/data --datasets DRIVE CHASEDB1 --out out/tables
    python reproduce_tables.py --data_root ../shared/data --datasets DRIVE --split training --images 38 39 --out out/a

Writes tables.md, tables.csv and tables.html. Traces are kept in <out>/traces and used again as long as image, weights,
code and settings are the same. docs/tables.md says what each method is and how to read the tables.
"""

from __future__ import annotations

import sys

from tools.cli import parse, run
from tools.tables.document import as_markdown
from tools.tables.options import TablesOptions
from tools.tables.report import means_table
from tools.tables.run import make_tables


def main(argv: list[str] | None = None) -> int:
    """Make the tables and print the means."""
    options = parse(TablesOptions, argv, description=__doc__)
    studies = make_tables(options)
    for study in studies:
        if study.missing:
            print(f"note: {study.dataset.name}: {study.missing}", file=sys.stderr)
            continue
        print(f"{study.dataset.name}, {study.split}\n{as_markdown([means_table(study)])}")
        for note in study.notes:
            print(f"note: {study.dataset.name}: {note}", file=sys.stderr)
    print(f"written: {options.out / 'tables.md'}, tables.csv and tables.html")
    return 0


if __name__ == "__main__":
    run(main)
