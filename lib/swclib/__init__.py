"""SWC forests: read, write, check, resample, search, score."""

from __future__ import annotations

from lib.swclib.edge_index import EdgeIndex, Nearest
from lib.swclib.forest import SwcForest
from lib.swclib.io import read_swc, write_swc
from lib.swclib.transform import (
    concatenate,
    drop_short_components,
    renumber,
    reroot,
    resample,
    rescale,
    subset,
    translate,
)

__all__ = [
    "EdgeIndex",
    "Nearest",
    "SwcForest",
    "concatenate",
    "drop_short_components",
    "read_swc",
    "renumber",
    "reroot",
    "resample",
    "rescale",
    "subset",
    "translate",
    "write_swc",
]
