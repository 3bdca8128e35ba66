"""SWC files: read what is out there, refuse what is wrong in one line, write what everyone can read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib import VERSION
from lib.errors import UserError
from lib.files import written
from lib.swclib.forest import ROOT, SwcForest, find_cycle

COLUMNS = ("id", "type", "x", "y", "z", "radius", "parent")
MAKER = "NETracer"
"""First word of the header of every file that is written here."""
LARGEST_ID = 2**53  # whole numbers are exact in float64 up to here


def read_swc(path: str | os.PathLike[str], *, allow_empty: bool = False) -> SwcForest:
    """Read a forest from an SWC file (Cannon et al. 1998: ``id type x y z radius parent``).

    Accepted: comments, blank lines, CRLF, a byte order mark, several roots, ids with gaps or written as ``1.0``,
    parents after children, commas between columns, further columns (ignored).

    Parameters
    ----------
    path
        The file.
    allow_empty
        Whether a file without nodes is an empty forest (the trace of an empty image) or an error.

    Returns
    -------
    SwcForest with coordinates as in the file, in file order save that parents come before children.

    Raises
    ------
    UserError
        With file, line, what was found and what to do.
    """
    path = Path(path)
    line_numbers, rows = _split_lines(path, _read_text(path))
    if not rows:
        if allow_empty:
            return SwcForest.empty()
        raise UserError(f"{path}: no nodes in this file; an SWC line is '{' '.join(COLUMNS)}'")
    table = _to_numbers(path, line_numbers, rows)
    _check_values(path, line_numbers, table)
    ids, types = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    parent = _parent_rows(path, line_numbers, ids, table[:, 6].astype(np.int64))
    return SwcForest.sorted(ids, types, table[:, 2:5], table[:, 5], parent)


def write_swc(path: str | os.PathLike[str], forest: SwcForest, *, comment: Sequence[str] = ()) -> None:
    """Write a forest: header, then nodes numbered from 1, parents first, four decimals.

    The file appears under its name only when it is complete. An empty forest gives a file with only the header.

    Parameters
    ----------
    path
        The file; its folder is made if needed.
    forest
        What to write.
    comment
        Header lines, such as units and origin of the coordinates; ``# `` is put before each.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    path = Path(path)
    header = [f"{MAKER} {VERSION}", *(line for text in comment for line in text.splitlines()), " ".join(COLUMNS)]
    lines = [f"# {line}" for line in header] + _node_lines(forest)
    with written(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def is_own_swc(path: str | os.PathLike[str]) -> bool:
    """Whether :func:`write_swc` made this file: its first line says so.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    return _read_text(Path(path)).startswith(f"# {MAKER} ")


def _node_lines(forest: SwcForest) -> list[str]:
    # Adding 0.0 turns -0.0 into 0.0.
    numbers = (np.round(np.column_stack([forest.xyz, forest.radius]), 4) + 0.0).tolist()
    parent = np.where(forest.parent == ROOT, ROOT, forest.parent + 1).tolist()
    types = forest.types.tolist()
    return [
        f"{row + 1} {types[row]} {x:.4f} {y:.4f} {z:.4f} {radius:.4f} {parent[row]}"
        for row, (x, y, z, radius) in enumerate(numbers)
    ]


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name one SWC file in it")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the name") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if b"\0" in data:
        raise UserError(f"{path}: not a text file; give an SWC file (text, '{' '.join(COLUMNS)}')")
    # Comments in other encodings do no harm; a data line in one fails later, with its line number.
    return data.decode("utf-8-sig", errors="replace")


def _split_lines(path: Path, text: str) -> tuple[np.ndarray, list[list[str]]]:
    """Return line numbers (from 1) and the seven fields of every line that holds a node."""
    line_numbers, rows = [], []
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        fields = line.partition("#")[0].replace(",", " ").split()
        if not fields:
            continue
        if len(fields) < len(COLUMNS):
            wanted = f"an SWC line needs {len(COLUMNS)}: {' '.join(COLUMNS)}"
            raise UserError(f"{path}, line {number}: {len(fields)} columns ('{line.strip()[:60]}'); {wanted}")
        line_numbers.append(number)
        rows.append(fields[: len(COLUMNS)])
    return np.array(line_numbers), rows


def _to_numbers(path: Path, line_numbers: np.ndarray, rows: list[list[str]]) -> np.ndarray:
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError:
        for number, fields in zip(line_numbers, rows, strict=True):
            _refuse_non_numbers(path, number, fields)
        raise


def _refuse_non_numbers(path: Path, line_number: int, fields: list[str]) -> None:
    for name, field in zip(COLUMNS, fields, strict=True):
        try:
            np.array(field, dtype=np.float64)
        except ValueError:
            message = f"{path}, line {line_number}: {name} is '{field[:40]}', not a number; correct it"
            raise UserError(message) from None


def _check_values(path: Path, line_numbers: np.ndarray, table: np.ndarray) -> None:
    """Refuse numbers that mean nothing in their column."""
    whole = table[:, [0, 1, 6]]
    not_whole = (whole != np.round(whole)) | (abs(whole) > LARGEST_ID)
    checks = [
        (~np.isfinite(table), COLUMNS, "not a finite number; correct it or drop the node"),
        (not_whole, ("id", "type", "parent"), "not a whole number; correct it"),
        (table[:, :1] < 0, ("id",), "negative; number the nodes from 0 or 1"),
        (table[:, 5:6] < 0, ("radius",), "negative; give 0 where it is not known"),
    ]
    for is_wrong, names, complaint in checks:
        if is_wrong.any():
            row, column = np.argwhere(is_wrong)[0]
            value = table[row, COLUMNS.index(names[column])]
            raise UserError(f"{path}, line {line_numbers[row]}: {names[column]} is {value:g}, {complaint}")


def _parent_rows(path: Path, line_numbers: np.ndarray, ids: np.ndarray, parent_ids: np.ndarray) -> np.ndarray:
    """Turn parent ids into rows, or refuse ids and parents that make no forest."""

    def refuse(row: int, message: str) -> None:
        raise UserError(f"{path}, line {line_numbers[row]}: {message}")

    by_id = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(np.diff(ids[by_id]) == 0)
    if len(twice):
        first, second = by_id[twice[0]], by_id[twice[0] + 1]
        refuse(second, f"id {ids[second]} is already used in line {line_numbers[first]}; give every node its own id")
    place = np.minimum(np.searchsorted(ids[by_id], parent_ids), len(ids) - 1)
    parent = by_id[place]
    is_root = parent_ids == ROOT
    missing = np.flatnonzero(~is_root & (ids[parent] != parent_ids))
    if len(missing):
        row = missing[0]
        refuse(row, f"parent {parent_ids[row]} of node {ids[row]} is not in the file; add it, or write -1 for a root")
    parent = np.where(is_root, ROOT, parent)
    own = np.flatnonzero(parent == np.arange(len(ids)))
    if len(own):
        refuse(own[0], f"node {ids[own[0]]} is its own parent; write -1 for a root")
    if (row := find_cycle(parent)) != ROOT:
        refuse(row, f"the parents of node {ids[row]} run in a circle; write -1 as the parent of one of them")
    return parent
