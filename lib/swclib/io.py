"""Reading and writing SWC files; every malformed input raises a one-line error that names the file and line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from lib import VERSION
from lib.errors import UserError
from lib.files import atomic_write
from lib.swclib.forest import ROOT, SwcForest, find_cycle
from lib.swclib.space import SwcOrigin, SwcSpace

COLUMNS = ("id", "type", "x", "y", "z", "radius", "parent")
PROGRAM = "NETracer"
"""First word of the header that `write_swc` writes."""
LARGEST_ID = 2**53  # float64 holds whole numbers exactly up to here


def read_swc(path: str | os.PathLike[str], *, allow_empty: bool = False, origin: SwcOrigin | None = None) -> SwcForest:
    """Read a forest from an SWC file (Cannon et al. 1998: ``id type x y z radius parent``).

    Accepted are comments, blank lines, CRLF, a byte order mark, several roots, ids with gaps or written as ``1.0``,
    parents after their children, commas between columns, and further columns, which are ignored.

    Parameters
    ----------
    path
        The file.
    allow_empty
        Whether a file without nodes gives an empty forest (the trace of an empty image) instead of an error.
    origin
        Where the file puts coordinate 0, if its head does not say (:func:`swc_space`); None keeps its coordinates.

    Returns
    -------
    SwcForest
        Coordinates as in the file, or with ``origin`` in voxels, 0 at the centre of the first. Nodes are in file order,
        except that parents precede their children.

    Raises
    ------
    UserError
        If the file is missing, unreadable or malformed, or with ``origin`` in micrometres of voxels of unknown size.
    """
    path = Path(path)
    text = _read_text(path)
    line_numbers, rows = _split_lines(path, text)
    if not rows:
        if allow_empty:
            return SwcForest.empty()
        raise UserError(f"{path}: no nodes in this file; an SWC line is '{' '.join(COLUMNS)}'")
    table = _to_numbers(path, line_numbers, rows)
    _check_values(path, line_numbers, table)
    ids, types = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    parent = _parent_rows(path, line_numbers, ids, table[:, 6].astype(np.int64))
    forest = SwcForest.sorted(ids, types, table[:, 2:5], table[:, 5], parent)
    if origin is None:
        return forest
    space = SwcSpace.of_text(text)
    try:
        return replace(space, origin=space.origin or origin).centred(forest)
    except ValueError as error:
        raise UserError(f"{path}: is {error}; convert it to voxels") from None


def write_swc(path: str | os.PathLike[str], forest: SwcForest, *, comment: Sequence[str] = ()) -> None:
    """Write a header and the nodes, numbered from 1, parents first, with four decimals.

    The file is complete as soon as it exists under its name. An empty forest gives a file with only the header.

    Parameters
    ----------
    path
        The file; its folder is created if needed.
    forest
        The forest to write.
    comment
        Header lines without ``#``, such as the unit and origin of the coordinates.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    header = [f"{PROGRAM} {VERSION}", *(line for text in comment for line in text.splitlines()), " ".join(COLUMNS)]
    lines = [f"# {line}" for line in header] + _node_lines(forest)
    with atomic_write(Path(path)) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def is_netracer_swc(path: str | os.PathLike[str]) -> bool:
    """Whether the first line of the file shows that `write_swc` wrote it.

    Raises
    ------
    UserError
        If the file cannot be read.
    """
    return _read_text(Path(path)).startswith(f"# {PROGRAM} ")


def swc_space(path: str | os.PathLike[str]) -> SwcSpace:
    """Unit and origin of the coordinates of an SWC file, as far as its head says them.

    Traces say them, and simulated trees their origin (``0 is the centre of the first voxel``).

    Raises
    ------
    UserError
        If the file cannot be read.
    """
    return SwcSpace.of_text(_read_text(Path(path)))


def swc_files(path: Path) -> list[Path]:
    """List the file, or the SWC files of a folder sorted by name.

    Raises
    ------
    UserError
        If the path does not exist, or the folder holds no SWC file.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; give an SWC file or a folder of them")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".swc" and not file.name.startswith("."))
    if not files:
        raise UserError(f"{path}: no SWC files in this folder; give one that holds *.swc")
    return files


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
    # Comments may be in any encoding; a data line that is not UTF-8 fails later, with its line number.
    return data.decode("utf-8-sig", errors="replace")


def _split_lines(path: Path, text: str) -> tuple[np.ndarray, list[list[str]]]:
    """Return the line number (from 1) and the seven fields of every node."""
    line_numbers, rows = [], []
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        fields = line.partition("#")[0].replace(",", " ").split()
        if not fields:
            continue
        if len(fields) < len(COLUMNS):
            wanted = f"an SWC line needs {len(COLUMNS)}: {' '.join(COLUMNS)}"
            # A message has one line: vertical tabs and their like become spaces.
            found = " ".join(line.split())[:60]
            raise UserError(f"{path}, line {number}: {len(fields)} columns ('{found}'); {wanted}")
        line_numbers.append(number)
        rows.append(fields[: len(COLUMNS)])
    return np.array(line_numbers), rows


def _to_numbers(path: Path, line_numbers: np.ndarray, rows: list[list[str]]) -> np.ndarray:
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError:
        line_number, name, field = next(
            (number, name, field)
            for number, fields in zip(line_numbers, rows, strict=True)
            for name, field in zip(COLUMNS, fields, strict=True)
            if not _is_number(field)
        )
        message = f"{path}, line {line_number}: {name} is '{field[:40]}', not a number; correct it"
        raise UserError(message) from None


def _is_number(field: str) -> bool:
    try:
        np.array(field, dtype=np.float64)
    except ValueError:
        return False
    return True


def _check_values(path: Path, line_numbers: np.ndarray, table: np.ndarray) -> None:
    """Refuse numbers that are invalid in their column."""
    whole = table[:, [0, 1, 6]]
    not_whole = (whole != np.round(whole)) | (abs(whole) > LARGEST_ID)
    checks = [
        (~np.isfinite(table), COLUMNS, "not a finite number; correct it or remove the node"),
        (not_whole, ("id", "type", "parent"), "not a whole number; correct it"),
        (table[:, :1] < 0, ("id",), "negative; number the nodes from 0 or 1"),
        (table[:, 5:6] < 0, ("radius",), "negative; give 0 if it is unknown"),
    ]
    for is_wrong, names, complaint in checks:
        if is_wrong.any():
            row, column = np.argwhere(is_wrong)[0]
            value = table[row, COLUMNS.index(names[column])]
            raise UserError(f"{path}, line {line_numbers[row]}: {names[column]} is {value:g}, {complaint}")


def _parent_rows(path: Path, line_numbers: np.ndarray, ids: np.ndarray, parent_ids: np.ndarray) -> np.ndarray:
    """Turn parent ids into rows, or refuse ids and parents that do not form a forest."""

    def refuse(row: int, message: str) -> NoReturn:
        raise UserError(f"{path}, line {line_numbers[row]}: {message}")

    by_id = np.argsort(ids, kind="stable")
    repeated = np.flatnonzero(np.diff(ids[by_id]) == 0)
    if len(repeated):
        first, second = by_id[repeated[0] : repeated[0] + 2].tolist()
        refuse(second, f"id {ids[second]} is already used in line {line_numbers[first]}; give every node its own id")
    place = np.minimum(np.searchsorted(ids[by_id], parent_ids), len(ids) - 1)
    parent = by_id[place]
    is_root = parent_ids == ROOT
    missing = np.flatnonzero(~is_root & (ids[parent] != parent_ids))
    if len(missing):
        row = missing[0]
        refuse(row, f"parent {parent_ids[row]} of node {ids[row]} is not in the file; add it, or write -1 for a root")
    parent = np.where(is_root, ROOT, parent)
    self_parent = np.flatnonzero(parent == np.arange(len(ids)))
    if len(self_parent):
        refuse(self_parent[0], f"node {ids[self_parent[0]]} is its own parent; write -1 for a root")
    if (row := find_cycle(parent)) != ROOT:
        refuse(row, f"the parents of node {ids[row]} form a cycle; write -1 as the parent of one of them")
    return parent
