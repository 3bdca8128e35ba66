"""Score traces against gold trees.

    python evaluate.py GOLD TEST [--protocol paper|experiment|closed] [--threshold 2] [--spacing 1,0.33,0.33]
                                 [--json scores.json] [--csv scores.csv]

GOLD and TEST are two SWC files or two folders of them. docs/metrics.md says what each number means.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

from lib.errors import UserError
from lib.files import written
from lib.swclib import read_swc
from lib.swclib.metrics import Protocol, score
from tools.cli import Parser, run

Row = dict[str, "float | int | None"]

# Column of the table -> (name in the JSON, decimals).
TABLE = {
    "SSD-F1": ("SSD_F1", 3),
    "L-F1": ("L_F1", 3),
    "PE": ("PE", 3),
    "matched": ("PE_matched_fraction", 3),
    "JE": ("JE", 1),
    "ABL": ("ABL", 1),
    "coverage": ("coverage", 3),
    "on gold": ("on_gold", 3),
}


@dataclass(frozen=True)
class EvaluateOptions:
    """What to score, and how; `parse_arguments` says what each field means."""

    gold: Path
    test: Path
    protocol: Protocol
    threshold: float
    spacing: list[float]
    json: Path | None
    csv: Path | None


def main(argv: list[str] | None = None) -> int:
    """Score and print; see the head of this file."""
    options = parse_arguments(argv)
    pairs = find_pairs(options.gold, options.test)
    cases = {test.stem: score_files(gold, test, options) for gold, test in pairs}
    mean = mean_row(list(cases.values()))
    print(f"gold: {options.gold}\ntest: {options.test}")
    print(f"protocol {options.protocol}, threshold {options.threshold:g}, spacing {options.spacing}\n")
    print(format_table(cases, mean))
    if options.json:
        settings = {name: str(getattr(options, name)) for name in ("gold", "test", "protocol")}
        settings |= {"threshold": options.threshold, "spacing": options.spacing}
        report = {**settings, "cases": cases, "mean": mean}
        write_text(options.json, json.dumps(report, indent=2, allow_nan=False) + "\n")
    if options.csv:
        write_text(options.csv, format_csv(cases, mean))
    return 0


def parse_arguments(argv: list[str] | None) -> EvaluateOptions:
    """Read the command line; None takes that of the process."""
    hints = get_type_hints(EvaluateOptions)
    parser = Parser(hints=hints, description="Score traces against gold trees.", allow_abbrev=False)
    parser.add_argument("gold", type=str, help="SWC file, or folder of SWC files, that counts as true")
    parser.add_argument(
        "test", type=str, help="SWC file, or folder, to be scored: 01.swc against 01.swc, 01_*.swc or 01.*.swc"
    )
    parser.add_argument("--protocol", type=Protocol, default="paper", help="how PE and JE count (docs/metrics.md)")
    parser.add_argument("--threshold", type=float, default=2.0, help="what counts as near, in units of --spacing")
    parser.add_argument("--spacing", type=str, default="1", help="size of a pixel: one number, y,x or z,y,x")
    parser.add_argument("--json", type=str, default=None, help="write all numbers to this file")
    parser.add_argument("--csv", type=str, default=None, help="write all numbers to this file")
    values = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if not 0 < values.threshold < float("inf"):
        raise UserError(f"--threshold is {values.threshold:g}; give a number above 0")
    return EvaluateOptions(
        gold=Path(values.gold),
        test=Path(values.test),
        protocol=values.protocol,
        threshold=values.threshold,
        spacing=parse_spacing(values.spacing),
        json=Path(values.json) if values.json else None,
        csv=Path(values.csv) if values.csv else None,
    )


def parse_spacing(text: str) -> list[float]:
    """Return one, two (y, x) or three (z, y, x) positive numbers from text such as ``1,0.33,0.33``."""
    try:
        values = [float(word) for word in text.strip("[]() ").replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) not in (1, 2, 3) or not all(0 < value < float("inf") for value in values):
        raise UserError(f"--spacing is '{text}'; give one positive number, y,x or z,y,x, such as 1,0.33,0.33")
    return values


def find_pairs(gold: Path, test: Path) -> list[tuple[Path, Path]]:
    """Return (gold file, test file) pairs; files of folders that find no partner are named on stderr."""
    for path in (gold, test):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; check the name")
    if gold.is_dir() != test.is_dir():
        folder, file = (gold, test) if gold.is_dir() else (test, gold)
        raise UserError(f"{folder} is a folder and {file} a file; give two files or two folders")
    if not gold.is_dir():
        return [(gold, test)]
    golds, tests = swc_files(gold), swc_files(test)
    partners = {file: find_gold(file, golds) for file in tests}
    pairs = [(partner, file) for file, partner in partners.items() if partner is not None]
    if not pairs:
        raise UserError(f"no file in {test} has the name of a gold file in {gold}; name traces like their gold")
    for file in sorted({*golds, *tests} - {file for pair in pairs for file in pair}):
        print(f"note: {file} has no partner and is not scored", file=sys.stderr)
    return pairs


def swc_files(folder: Path) -> list[Path]:
    """Return the SWC files of a folder by name, hidden ones left out."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".swc" and not path.name.startswith("."))
    if not files:
        raise UserError(f"{folder}: no SWC files in this folder; name a folder with *.swc")
    return files


def find_gold(test: Path, golds: Sequence[Path]) -> Path | None:
    """Return the gold file of the same stem, else the one whose stem goes on with ``_`` or ``.``."""
    same = [gold for gold in golds if gold.stem == test.stem]
    longer = [gold for gold in golds if gold.stem.startswith((f"{test.stem}_", f"{test.stem}."))]
    found = same or longer
    if len(found) > 1:
        names = ", ".join(gold.name for gold in found)
        raise UserError(f"{test} fits several gold files: {names}; name it like one of them")
    return found[0] if found else None


def score_files(gold: Path, test: Path, options: EvaluateOptions) -> Row:
    """Return all numbers of one pair of files; an empty trace is noted on stderr."""
    gold_tree, test_tree = read_swc(gold), read_swc(test, allow_empty=True)
    if len(test_tree) == 0:
        print(f"note: {test} is an empty trace: nothing is found, nothing can be wrong", file=sys.stderr)
    spacing = options.spacing[0] if len(options.spacing) == 1 else options.spacing
    return score(gold_tree, test_tree, protocol=options.protocol, threshold=options.threshold, spacing=spacing).row()


def mean_row(rows: Sequence[Row]) -> Row:
    """Return the mean of every column over the rows that have a value, None where none has."""
    mean: Row = {}
    for name in rows[0]:
        values = [row[name] for row in rows if row[name] is not None]
        mean[name] = sum(values) / len(values) if values else None
    return mean


def format_table(cases: dict[str, Row], mean: Row) -> str:
    """Return the main columns as text, one line per case and the mean below."""
    lines = [["", *TABLE]]
    for name, row in (*cases.items(), ("mean", mean)):
        lines.append([name, *(_format(row[column], decimals) for column, decimals in TABLE.values())])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    rule = "-" * len(texts[0])
    return "\n".join([texts[0], rule, *texts[1:-1], rule, texts[-1]])


def _format(value: float | int | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def format_csv(cases: dict[str, Row], mean: Row) -> str:
    """Return all columns as CSV, an empty cell where a value does not exist."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["case", *mean], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"case": name, **row} for name, row in (*cases.items(), ("mean", mean)))
    return text.getvalue()


def write_text(path: Path, text: str) -> None:
    """Write a file that appears under its name only when it is complete."""
    with written(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main)
