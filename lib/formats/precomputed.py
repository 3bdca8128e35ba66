"""Neuroglancer's precomputed skeletons: a folder with a file for each tree, in nanometres."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib.files import atomic_folder, write_json
from lib.formats.graph import BranchGraph, Rows

NANOMETRES = 1000.0
"""Per micrometre."""


def write(folder: Path, graph: BranchGraph) -> None:
    """Write ``info``, the skeleton of each tree under its number from 1, and their lengths as segment properties.

    A voxel of unknown size counts as 1 nm. Loops are closed. A folder from an earlier run is replaced.

    Raises
    ------
    UserError
        If a file cannot be written.
    """
    size = np.array(graph.voxel_size or (1 / NANOMETRES,) * graph.ndim) * NANOMETRES
    places = np.zeros((len(graph.forest), 3), np.float32)
    # Neuroglancer's voxel 0 reaches from 0 to 1, so its centre is at a half.
    places[:, : graph.ndim] = ((graph.forest.positions(graph.ndim) + 0.5) * size)[:, ::-1]
    radius = (graph.forest.radius * size[-1]).astype(np.float32)
    vertices = {"radius": radius, "probability": graph.probability.astype(np.float32)}
    if graph.confidence is not None:
        vertices["confidence"] = graph.confidence.astype(np.float32)
    attributes = [{"id": name, "data_type": "float32", "num_components": 1} for name in vertices]
    edges, tree = np.concatenate([graph.forest.edges, graph.loops]), graph.forest.components
    trees = range(len(graph.forest.roots))
    with atomic_folder(folder) as made:
        for number in trees:
            (made / str(number + 1)).write_bytes(_skeleton(number, places, vertices, attributes, edges, tree))
        write_json(made / "info", {
            "@type": "neuroglancer_skeletons",
            "transform": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
            "vertex_attributes": attributes,
            "segment_properties": "segment_properties",
        })  # fmt: skip
        lengths = np.bincount(
            tree[edges[:, 1]], np.linalg.norm(np.diff(places[edges], axis=1)[:, 0], axis=1), len(trees)
        )
        write_json(made / "segment_properties" / "info", {
            "@type": "neuroglancer_segment_properties",
            "inline": {
                "ids": [str(number + 1) for number in trees],
                "properties": [
                    {"id": "label", "type": "label", "values": [f"tree {number + 1}" for number in trees]},
                    {"id": "length_nm", "type": "number", "data_type": "float32", "values": lengths.round(1).tolist()},
                ],
            },
        })  # fmt: skip


def _skeleton(
    number: int,
    places: np.ndarray,
    vertices: Mapping[str, np.ndarray],
    attributes: Sequence[Mapping[str, Any]],
    edges: Rows,
    tree: Rows,
) -> bytes:
    """The file of one tree."""
    rows = np.flatnonzero(tree == number)
    own = edges[tree[edges[:, 1]] == number]
    skeleton = importlib.import_module("osteoid").Skeleton(
        places[rows], np.searchsorted(rows, own).astype(np.uint32), segid=number + 1, extra_attributes=attributes
    )
    for name, values in vertices.items():
        setattr(skeleton, name, values[rows])
    return skeleton.to_precomputed()
