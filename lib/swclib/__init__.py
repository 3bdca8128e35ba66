"""SWC forests: reading, writing, checks, resampling, nearest edges and metrics."""

from __future__ import annotations

from lib.swclib.edge_index import EdgeIndex, Nearest
from lib.swclib.forest import SwcForest
from lib.swclib.io import is_netracer_swc, read_swc, write_swc
from lib.swclib.transform import concatenate, reroot, resample, rescale, subdivide, subset, translate

__all__ = [
    "EdgeIndex",
    "Nearest",
    "SwcForest",
    "concatenate",
    "is_netracer_swc",
    "read_swc",
    "reroot",
    "resample",
    "rescale",
    "subdivide",
    "subset",
    "translate",
    "write_swc",
]
