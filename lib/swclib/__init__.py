"""SWC forests: reading, writing, checks, resampling, nearest edges and metrics."""

from __future__ import annotations

from lib.swclib.edge_index import EdgeIndex, Nearest
from lib.swclib.forest import SwcForest
from lib.swclib.io import is_netracer_swc, read_swc, swc_files, swc_space, write_swc
from lib.swclib.space import CORNER, SwcOrigin, SwcSpace, SwcUnits
from lib.swclib.spurs import prune_spurs, spans
from lib.swclib.transform import (
    concatenate,
    reroot,
    resample,
    rescale,
    rewire,
    rooted_at_somata,
    subdivide,
    subset,
    tidied,
    translate,
)

__all__ = [
    "CORNER",
    "EdgeIndex",
    "Nearest",
    "SwcForest",
    "SwcOrigin",
    "SwcSpace",
    "SwcUnits",
    "concatenate",
    "is_netracer_swc",
    "prune_spurs",
    "read_swc",
    "reroot",
    "resample",
    "rescale",
    "rewire",
    "rooted_at_somata",
    "spans",
    "subdivide",
    "subset",
    "swc_files",
    "swc_space",
    "tidied",
    "translate",
    "write_swc",
]
