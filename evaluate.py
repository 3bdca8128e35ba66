"""Score traces against gold trees.

    python evaluate.py GOLD TEST [--protocol paper|experiment|closed] [--threshold 2] [--spacing 1 0.33 0.33]
                                 [--json scores.json] [--csv scores.csv]
                                 [--picture pictures/ --images images/ --swc_origin corner] [--kinds av/] [--graph]

GOLD and TEST are two SWC files or two folders of SWC files. docs/metrics.md explains each number and colour.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

import numpy as np

from lib.errors import UserError, counted
from lib.files import atomic_write, write_csv
from lib.swclib import CORNER, SwcForest, SwcOrigin, SwcSpace, read_swc, rescale, swc_files, swc_space, translate
from lib.swclib.metrics import CLOSE_LENGTH, CLOSE_RADIUS, Protocol, Row, Score, mean_row, score
from lib.swclib.metrics.kinds import KindScore, kind_score
from lib.swclib.metrics.roads import gold_graph, road_scores, trace_graph
from lib.swclib.metrics.spaces import space_warnings
from tools.cli import Parser, rewrite_arguments, run

TABLE = {
    "SSD-F1": ("SSD_F1", 3),
    "L-F1": ("L_F1", 3),
    "PE": ("PE", 3),
    "matched": ("PE_matched_fraction", 3),
    "JE": ("JE", 1),
    "ABL": ("ABL", 1),
    "coverage": ("coverage", 3),
    "on gold": ("on_gold", 3),
    "paths": ("paths_F1", 3),
    "breaks": ("breaks", 1),
    "merges": ("false_merges", 1),
}
"""Column of the printed table: its name in the JSON, and decimals."""
KINDS_TABLE = {
    "changes": ("kind_changes", 1),
    "purity": ("kind_purity", 3),
    "straight": ("crossings_straight", 3),
    "held": ("crossings_held", 3),
}
"""Columns that follow with ``--kinds``."""
LONGEST_EDGE = 1e5
"""In the unit of the coordinates; no image is so wide that two neighbouring nodes are so far apart."""
GRAPH_TABLE = {"APLS": ("APLS", 3), "TOPO-F1": ("TOPO_F1", 3)}
"""Columns that follow with ``--graph``."""
PATHS = ("gold", "test", "json", "csv", "picture", "images", "kinds")
"""Options that are paths."""


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of the script, explained in `parse_arguments`."""

    gold: Path
    test: Path
    protocol: Protocol
    threshold: float
    spacing: list[float]
    close_radius: float
    close_length: float
    json: Path | None
    csv: Path | None
    picture: Path | None
    images: Path | None
    swc_origin: SwcOrigin
    kinds: Path | None
    graph: bool


@dataclass(frozen=True)
class Case:
    """A scored pair of trees and the files they come from."""

    gold_path: Path
    test_path: Path
    gold: SwcForest
    test: SwcForest
    result: Score
    shift: float
    kinds: KindScore | None
    roads: Row

    @property
    def name(self) -> str:
        """Name in tables and of pictures."""
        return self.test_path.stem

    def row(self) -> Row:
        """All columns."""
        return self.result.row() | (self.kinds.row() if self.kinds else {}) | self.roads


def main(argv: list[str] | None = None) -> int:
    """Score all pairs, then print the table and write the requested files."""
    options = parse_arguments(argv)
    pairs, unpaired = find_pairs(options.gold, options.test)
    if unpaired:
        first, more = ", ".join(map(str, unpaired[:3])), f" and {len(unpaired) - 3} more" if len(unpaired) > 3 else ""
        report("note", f"{counted(len(unpaired), 'file')} without a partner, not scored: {first}{more}")
    if options.images and options.images.is_file() and len(pairs) > 1:
        raise UserError(f"--images is one file, {options.images}, but there are {len(pairs)} pairs; give a folder")
    rows, warnings = {}, []
    for gold, test in pairs:
        case = score_files(gold, test, options)
        rows[case.name] = case.row()
        warnings += [f"{case.name}: {line}" for line in space_warnings(case.gold, case.test, case.result)]
        if options.picture:
            write_picture(case, options, options.picture)
    for line in warnings:
        report("warning", line)
    mean = mean_row(list(rows.values()))
    spacing = " ".join(f"{size:g}" for size in options.spacing)
    sys.stdout.write(
        f"gold: {options.gold}\ntest: {options.test}\n"
        f"protocol {options.protocol}, threshold {options.threshold:g}, spacing {spacing}\n\n"
        f"{format_table(rows, mean, columns_of(options))}\n"
    )
    if options.json:
        content = {
            **{name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()},
            "pairs": {test.stem: {"gold": str(gold), "test": str(test)} for gold, test in pairs},
            "unpaired": list(map(str, unpaired)),
            "unit": unit_of(options),
            "warnings": warnings,
            "cases": rows,
            "mean": mean,
        }
        write_text(options.json, json.dumps(content, indent=2, allow_nan=False) + "\n")
    if options.csv:
        unit = {"unit": unit_of(options)}
        write_csv(options.csv, [{"case": name, **row, **unit} for name, row in (*rows.items(), ("mean", mean))])
    return 0


def columns_of(options: EvaluateOptions) -> dict[str, tuple[str, int]]:
    """The columns of the printed table."""
    return TABLE | (KINDS_TABLE if options.kinds else {}) | (GRAPH_TABLE if options.graph else {})


def report(kind: str, message: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(f"{kind}: {message}\n")


def parse_arguments(argv: list[str] | None) -> EvaluateOptions:
    """Read the options from ``argv``, by default the arguments of the process.

    Raises
    ------
    UserError
        If an option is unknown, missing or invalid.
    """
    hints = get_type_hints(EvaluateOptions)
    parser = Parser(hints=hints, description="Score traces against gold trees.", allow_abbrev=False)
    parser.add_argument("gold", type=str, help="SWC file, or folder of SWC files, with the true trees")
    parser.add_argument("test", type=str, help="SWC file, or folder, to score: 01 against 01.swc, 01_*.swc or 01.*.swc")
    for name, default, text in (
        ("protocol", "paper", "how to count PE and JE (docs/metrics.md)"),
        ("threshold", 2.0, "distance below which places match, in the unit of --spacing"),
        ("spacing", "1", "pixel size: one number, or y x, or z y x"),
        ("close_radius", CLOSE_RADIUS, "protocol closed: largest distance from the end of a cut loop to an edge"),
        ("close_length", CLOSE_LENGTH, "protocol closed: shortest path around a loop"),
        ("json", None, "write all numbers to this JSON file"),
        ("csv", None, "write all numbers to this CSV file"),
        ("picture", None, "write a picture of the errors of each pair to this folder"),
        ("images", None, "image to draw on, or folder of images named like the traces (default: black background)"),
        ("swc_origin", "centre", "for --picture and --kinds: coordinate 0 in the first pixel, if the SWC does not say"),
        ("kinds", None, "score by kind of tube, too: label images in a folder av (3: both) or another (255: both)"),
        ("graph", False, "score as networks of roads, too, with loops closed: APLS and TOPO"),
    ):
        kind = str if hints[name] not in (float, bool, Protocol) and name != "swc_origin" else hints[name]
        parser.add_argument(f"--{name}", type=kind, default=default, help=text)
    values = parser.parse_args(rewrite_arguments(sys.argv[1:] if argv is None else argv, hints, positionals=True))
    for name in ("threshold", "close_radius", "close_length"):
        if not 0 < values[name] < float("inf"):
            raise UserError(f"--{name} is {values[name]:g}; give a number above 0")
    if values.images and not values.picture:
        raise UserError("--images gives the background of --picture; give --picture DIR too")
    paths = {name: Path(values[name]) if values[name] else None for name in PATHS}
    return EvaluateOptions(**{**vars(values), **paths, "spacing": parse_spacing(values.spacing)})


def unit_of(options: EvaluateOptions) -> str:
    """Unit of the lengths in a table: ``voxel`` of the files (a pixel in 2D), or that of ``--spacing``."""
    return "voxel" if options.spacing == [1.0] else "that of --spacing"


def parse_spacing(text: str) -> list[float]:
    """Read one, two (y, x) or three (z, y, x) positive numbers from text such as ``1,0.33,0.33``.

    Raises
    ------
    UserError
        If the text is anything else.
    """
    text = text.strip("[]() ")
    try:
        values = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) not in (1, 2, 3) or not all(0 < value < float("inf") for value in values):
        raise UserError(f"--spacing is '{text}'; give one positive number, or y x, or z y x, such as 1 0.33 0.33")
    return values


def find_pairs(gold: Path, test: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Pair two files, or the files of two folders by name.

    Returns
    -------
    pairs, unpaired
        (gold file, test file) pairs, and the files without a partner.

    Raises
    ------
    UserError
        If a path is missing, only one is a folder, no files match, or a test matches several gold files.
    """
    for path in (gold, test):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; check the name")
    if gold.is_dir() != test.is_dir():
        folder, file = (gold, test) if gold.is_dir() else (test, gold)
        raise UserError(f"{folder} is a folder and {file} a file; give two files or two folders")
    if not gold.is_dir():
        return [(gold, test)], []
    gold_files, test_files = swc_files(gold), swc_files(test)
    pairs = [(match, file) for file in test_files if (match := find_gold(file, gold_files))]
    if not pairs:
        raise UserError(f"no file in {test} has the name of a gold file in {gold}; name traces like their gold")
    return pairs, sorted({*gold_files, *test_files} - {file for pair in pairs for file in pair})


def find_gold(test: Path, gold_files: Sequence[Path]) -> Path | None:
    """Return the gold file with the same stem, else the one whose stem continues with ``_`` or ``.``, else None."""
    same = [gold for gold in gold_files if gold.stem == test.stem]
    found = same or [gold for gold in gold_files if gold.stem.startswith((f"{test.stem}_", f"{test.stem}."))]
    if len(found) > 1:
        names = ", ".join(gold.name for gold in found)
        raise UserError(f"{test} matches several gold files: {names}; give it the name of one of them")
    return found[0] if found else None


def score_files(gold: Path, test: Path, options: EvaluateOptions) -> Case:
    """Read and score a pair of files; a trace without length is reported on stderr.

    Trees in micrometres are turned into voxels. If the heads of both files name different origins, the test is moved to
    that of the gold.

    Raises
    ------
    UserError
        If a file is not valid SWC, the gold has no edges, or one is in micrometres of voxels of unknown size.
    """
    gold_tree, test_tree = read_swc(gold), read_swc(test, allow_empty=True)
    spaces, loops = (swc_space(gold), swc_space(test)), read_loops(test) if options.graph else None
    if any(space.voxel_size or space.units != "um" for space in spaces):
        gold_tree, test_tree = in_voxels((gold, test), (gold_tree, test_tree), spaces)
        loops = loops and spaces[1].in_voxels(loops, spaces[0].voxel_size)
    origins = spaces[0].origin, spaces[1].origin
    if None not in origins and origins[0] != origins[1]:
        shift = CORNER if origins[0] == "corner" else -CORNER
        test_tree = translate(test_tree, (shift, shift))
        loops = loops and translate(loops, (shift, shift))
    for path, tree in ((gold, gold_tree), (test, test_tree)):
        check_edges(path, tree)
    if len(gold_tree.edges) == 0:
        nodes = counted(len(gold_tree), "node")
        raise UserError(f"{gold}: this gold tree has {nodes} and no edge; give one with branches")
    if len(test_tree) == 0:
        report("note", f"{test} is an empty trace: nothing is found, so nothing is wrong")
    elif len(test_tree.edges) == 0:
        report("note", f"{test} has {counted(len(test_tree), 'node')} and no edge: a trace without length")
    spacing = options.spacing[0] if len(options.spacing) == 1 else options.spacing
    result = score(
        gold_tree,
        test_tree,
        protocol=options.protocol,
        threshold=options.threshold,
        spacing=spacing,
        close_radius=options.close_radius,
        close_length=options.close_length,
    )
    origin = origins[0] or origins[1] or options.swc_origin
    shift = -CORNER if origin == "corner" else 0.0
    kinds = score_kinds(test, test_tree, shift, options.kinds)
    roads = score_roads(test, gold_tree, test_tree, loops, spacing) if options.graph else {}
    return Case(gold, test, gold_tree, test_tree, result, shift, kinds, roads)


def score_roads(
    test: Path, gold_tree: SwcForest, test_tree: SwcForest, loops: SwcForest | None, spacing: float | Sequence[float]
) -> Row:
    """Score a trace as a network of roads, with the ``loops`` of :func:`read_loops` closed."""
    closed = "by the rule of docs/metrics.md" if loops is None else f"{len(loops) // 2}, from {test.stem}.json"
    report("note", f"{test}: loops closed {closed}")
    segments = None if loops is None else rescale(loops, spacing).xyz.reshape(-1, 2, 3)
    graphs = gold_graph(rescale(gold_tree, spacing)), trace_graph(rescale(test_tree, spacing), segments)
    return dict(road_scores(*graphs))


def check_edges(path: Path, tree: SwcForest) -> None:
    """Refuse a tree with an edge longer than :data:`LONGEST_EDGE`: it must be a mistake, and would take for ever.

    Raises
    ------
    UserError
        If there is one.
    """
    long = np.flatnonzero(~(tree.edge_lengths <= LONGEST_EDGE))
    if len(long):
        node, length = tree.ids[tree.edges[long[0], 1]], tree.edge_lengths[long[0]]
        raise UserError(f"{path}: node {node} lies {length:.3g} from its parent; correct its coordinates")


def read_loops(swc: Path) -> SwcForest | None:
    """The loops that a trace leaves open, from the JSON beside it: pairs of nodes, no edges. None without it."""
    try:
        ends = json.loads(swc.with_suffix(".json").read_text(encoding="utf-8"))["loops_left_open"]
        places = np.array([[loop["from"], loop["to"]] for loop in ends], dtype=np.float64).reshape(-1, 3)
        return SwcForest.from_positions(places[:, ::-1], np.full(len(places), -1))
    except (OSError, ValueError, TypeError, LookupError):
        return None


def in_voxels(
    paths: tuple[Path, Path], trees: tuple[SwcForest, SwcForest], spaces: tuple[SwcSpace, SwcSpace]
) -> list[SwcForest]:
    """Gold and test in voxels. Where only one file says that it is in micrometres, the other is taken as voxels.

    Raises
    ------
    UserError
        If a tree is in micrometres, and neither file says how large a voxel is.
    """
    found = []
    for path, tree, space, other in zip(paths, trees, spaces, spaces[::-1], strict=True):
        try:
            found.append(space.in_voxels(tree, other.voxel_size))
        except ValueError as error:
            raise UserError(f"{path}: is {error}, and the other file is not; give both in one unit") from None
        if space.units is None and other.units == "um":
            report("note", f"{path} does not name its unit: taken as voxels")
    return found


def score_kinds(test: Path, tree: SwcForest, shift: float, folder: Path | None) -> KindScore | None:
    """Score a trace by the label image of its name in a folder; ``shift`` leads to pixel-centre coordinates.

    Imports are local so that other scoring stays light.
    """
    if folder is None:
        return None
    from lib.klib.image_io import find_image, read_labels
    from lib.klib.kinds import kinds_to_forest
    from tools.data.folders import SHARED_VALUES

    path = find_image(folder, (test.stem,))
    if path is None:
        raise UserError(f"{folder}: holds no image of kinds for {test.name}; add it, or leave out --kinds")
    labels, shared = read_labels(path), SHARED_VALUES.get(path.parent.name, SHARED_VALUES["kinds"])
    return kind_score(kinds_to_forest(labels, shared), translate(tree, (shift, shift)), labels, shared)


def write_picture(case: Case, options: EvaluateOptions, folder: Path) -> None:
    """Write the error picture of a pair to ``folder``; imports are local so that scoring stays light."""
    from lib.klib.image_io import find_image, write_png
    from tools.pictures.errors import error_picture, read_for_picture

    path = find_image(options.images, (case.test_path.stem, case.gold_path.stem)) if options.images else None
    if options.images and path is None:
        report("note", f"no image for {case.name} in {options.images}; its background is black")
    image = read_for_picture(path) if path else None
    changes = case.kinds.places - np.array([case.shift, case.shift, 0.0]) if case.kinds else None
    picture = error_picture(case.gold, case.test, case.result, image, shift=case.shift, changes=changes)
    write_png(folder / f"{case.name}.png", picture)


def format_table(cases: dict[str, Row], mean: Row, columns: Mapping[str, tuple[str, int]]) -> str:
    """Return some columns as text: one line per case, then the mean."""
    lines = [["", *columns]]
    for name, row in (*cases.items(), ("mean", mean)):
        lines.append([name, *(_format(row[column], decimals) for column, decimals in columns.values())])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    rule = "-" * len(texts[0])
    return "\n".join([texts[0], rule, *texts[1:-1], rule, texts[-1]])


def _format(value: float | int | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def write_text(path: Path, text: str) -> None:
    """Write a file that is complete as soon as it exists under its name."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main)
