"""The tables of a trace: a row for each branch, and one for the image. docs/branches.md defines the columns."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from lib.files import write_csv
from lib.swclib import SwcForest
from lib.swclib.branches import fractal_dimension
from lib.swclib.forest import SOMA_TYPE
from tools.tracing.trace import Trace

WIDTHS = ("mean", "median", "least", "largest")
TABLES = ("branches", "summary")
"""Tables that are also written for all images of a folder together."""
Row = dict[str, Any]


def branch_rows(trace: Trace) -> list[Row]:
    """A row for each branch of a trace, in the order of the SWC; lengths in its unit, ids and coordinates as in it."""
    forest, unit, ndim = trace.swc_forest, trace.unit, len(trace.spaces.image_shape)
    branches, confidence = trace.branches, _confidences(trace)
    places = trace.in_image(forest).positions(ndim)
    probability = trace.swc_probability
    inside = (
        np.ones(len(forest)) if trace.field is None else map_coordinates(trace.field, places.T, order=0, output=float)
    )
    rows = []
    for number, nodes in enumerate(branches.rows):
        begin, end = int(nodes[0]), int(nodes[-1])
        above = int(branches.parent[number])
        both_ends = {
            f"{name}_{axis}_{unit}": _rounded(forest.xyz[row, at])
            for name, row in (("begin", begin), ("end", end))
            for at, axis in enumerate("xyz"[:ndim])
        }
        widths = zip(WIDTHS, branches.width[number].tolist(), strict=True)
        rows.append({
            "id": number + 1,
            "parent": above + 1 if above >= 0 else None,
            "tree": int(branches.tree[number]) + 1,
            "begin_node": begin + 1,
            "end_node": end + 1,
            "order_strahler": int(branches.strahler[number]),
            "order_from_root": int(branches.from_root[number]),
            **both_ends,
            f"length_{unit}": _rounded(branches.length[number]),
            f"chord_{unit}": _rounded(branches.chord[number]),
            "tortuosity": _rounded(branches.tortuosity[number]),
            **{f"width_{name}_{unit}": _rounded(value) for name, value in widths},
            "mean_probability": _rounded(probability[nodes].mean()),
            **{name: None if values is None else _rounded(values[number]) for name, values in confidence.items()},
            "angle_deg": _rounded(branches.angle[number]),
            "inside_field": _rounded(inside[nodes].mean()),
            "kind": trace.kind(int(forest.types[end])),
        })  # fmt: skip
    return rows


def _confidences(trace: Trace) -> dict[str, np.ndarray | None]:
    """The columns of confidence, ``(B,)`` each; None where the weights have no model."""
    known = trace.confidence
    return {
        name: None if known is None else getattr(known, kind)
        for name, kind in (("confidence", "branches"), ("confidence_join", "joins"), ("confidence_inside", "insides"))
    }


def branch_columns(trace: Trace) -> list[str]:
    """Names of the columns of :func:`branch_rows`, for a table without rows."""
    ends = np.stack([np.zeros(len(trace.spaces.image_shape)), np.ones(len(trace.spaces.image_shape))])
    line = replace(trace, forest=SwcForest.from_positions(ends, [-1, 0]), loops=np.zeros((0, 2), int))
    return list(branch_rows(line)[0])


def summary_row(trace: Trace, image: str) -> Row:
    """The row of an image: counts, and sums and means over its trees."""
    forest, unit, ndim = trace.swc_forest, trace.unit, len(trace.spaces.image_shape)
    sizes = np.array(trace.pixel_sizes)
    area = trace.field_share * float(np.prod(sizes * trace.spaces.image_shape))
    lengths = forest.edge_lengths
    is_soma = forest.types == SOMA_TYPE
    # The radius of a body is not that of a tube: its edges are as wide as their other ends.
    radii, at_soma = forest.radius[forest.edges], is_soma[forest.edges]
    widths = np.where(at_soma, radii[:, ::-1], radii).sum(axis=1)
    extent = float((sizes * trace.spaces.image_shape)[-2:].min())
    dimension = fractal_dimension(forest, trace.pixel_size, extent)
    return {
        "image": image,
        "trees": len(forest.roots),
        "branches": len(forest.branches()),
        "branch_points": int((forest.degree > 2).sum()),
        "ends": int(((forest.degree == 1) & ~is_soma).sum()),
        "loops_left_open": len(trace.loops),
        f"length_{unit}": _rounded(forest.length),
        f"{'area' if ndim == 2 else 'volume'}_{unit}{ndim}": _rounded(area),
        f"length_density_per_{unit}{'' if ndim == 2 else '2'}": float(f"{forest.length / area:.6g}"),
        f"width_mean_{unit}": _rounded(np.average(widths, weights=lengths)) if forest.length else None,
        "fractal_dimension": None if dimension is None else _rounded(dimension),
    }


def join_tables(folder: Path, names: Sequence[str], ending: str) -> None:
    """Write one table of all images, ``branches.csv`` from ``<name>_branches.csv``, with the image in its first column.

    Parameters
    ----------
    folder
        Folder of the tables.
    names
        Images, in the order in which they are to come.
    ending
        ``branches`` or ``summary``.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    rows: list[Row] = []
    for name in names:
        with (folder / f"{name}_{ending}.csv").open(newline="", encoding="utf-8") as file:
            rows += [{"image": name, **row} for row in csv.DictReader(file)]
    write_csv(folder / f"{ending}.csv", rows)


def _rounded(value: float) -> float | None:
    """Four decimals, as in the SWC; None for NaN."""
    return None if np.isnan(value) else round(float(value), 4)
