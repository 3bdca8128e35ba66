"""GeoPackage (OGC 12-128): a line for each branch in the image's own reference system, the table as attributes."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lib.files import atomic_write
from lib.formats.graph import BranchGraph

LAYER = "branches"


def write(path: Path, graph: BranchGraph) -> None:
    """Write the layer ``branches``.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    shapely, raw = importlib.import_module("shapely"), importlib.import_module("pyogrio.raw")
    lines = [shapely.LineString(graph.coordinates[rows]) for rows, _ in graph.lines]
    columns = {name: _column([row.get(name) for _, row in graph.lines]) for name in graph.columns}
    with atomic_write(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        temporary.unlink()  # GDAL makes the file itself, and takes an empty one for a broken one
        raw.write(
            temporary,
            np.array(shapely.to_wkb(lines), dtype=object),
            field_data=[values for values, _ in columns.values()],
            fields=list(columns),
            field_mask=[missing for _, missing in columns.values()],
            layer=LAYER,
            driver="GPKG",
            geometry_type="LineString" if graph.ndim == 2 else "LineString Z",
            crs=graph.crs,
            layer_options={"DESCRIPTION": f"{graph.origin}; coordinates: {graph.coordinates_are}"},
        )


def _column(values: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Values of one attribute as an array, and which of them are missing."""
    missing = np.array([value is None for value in values], dtype=bool)
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        dtype, empty = (bool, False) if kinds else (np.float64, np.nan)
    elif kinds == {int} and not missing.any():
        dtype, empty = np.int64, 0
    elif kinds <= {int, float}:
        dtype, empty = np.float64, np.nan
    else:
        dtype, empty = object, ""
    return np.array([empty if value is None else value for value in values], dtype=dtype), missing
