"""SWC forests: read, write, check, resample, search, score."""

from __future__ import annotations

from lib.swclib.edge_index import EdgeIndex, Nearest
from lib.swclib.forest import SwcForest
from lib.swclib.io import is_own_swc, read_swc, write_swc
from lib.swclib.transform import (
    concatenate,
    renumber,
    reroot,
    resample,
    rescale,
    subdivide,
    subset,
    translate,
)

__all__ = [
    "EdgeIndex",
    "Nearest",
    "SwcForest",
    "concatenate",
    "is_own_swc",
    "read_swc",
    "renumber",
    "reroot",
    "resample",
    "rescale",
    "subdivide",
    "subset",
    "translate",
    "write_swc",
]
