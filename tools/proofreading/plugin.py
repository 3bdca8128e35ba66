"""The plugin of napari: opens SWC files as a layer of vectors, an edge each, and saves such a layer as SWC.

The layer lies on the image as napari opens it, in pixels, whatever the unit and the origin of the file. Each vector
goes from a parent to its child; the features hold their ids, types and radii, the metadata what the head of the file
said, so that a file that was opened and saved has the same trees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba

from lib.errors import UserError
from lib.swclib import SwcForest, SwcSpace, read_swc, swc_space, write_swc
from lib.swclib.forest import ROOT
from tools.pictures.overlay import TREE_COLOURS

Layer = tuple[Any, dict[str, Any], str]
SPACE = "netracer_space"
"""Key of the metadata of a layer with what the file says of its coordinates."""
END_COLUMNS = ("id", "type", "radius")
"""Features of both ends of an edge: ``parent_id`` and ``child_id``, and so on."""


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[Layer]] | None:
    """The reader of a file, as napari asks for it; None if it is no SWC."""
    paths = [path] if isinstance(path, str) else path
    return read_trees if all(each.lower().endswith(".swc") for each in paths) else None


def read_trees(path: str | list[str]) -> list[Layer]:
    """Layers of vectors of SWC files.

    Raises
    ------
    UserError
        If a file cannot be read.
    """
    return [_layer(Path(each)) for each in ([path] if isinstance(path, str) else path)]


def _layer(path: Path) -> Layer:
    space = swc_space(path)
    forest = read_swc(path, allow_empty=True, origin="centre")
    ndim = 3 if forest.xyz[:, 2].any() else 2
    above, child = forest.edges.T
    places = forest.positions(ndim)
    vectors = np.stack([places[above], places[child] - places[above]], axis=1)
    columns = {"id": forest.ids, "type": forest.types, "radius": forest.radius}
    features = {f"{end}_{name}": columns[name][row] for end, row in _ends(above, child) for name in END_COLUMNS}
    palette = np.array([to_rgba(colour) for colour in TREE_COLOURS])
    settings = {
        "name": path.stem,
        "features": features,
        "metadata": {SPACE: asdict(replace(space, origin=space.origin or "centre"))},
        "edge_color": palette[forest.components[child] % len(palette)],
        "vector_style": "line",
        "edge_width": 1.5,
        "ndim": ndim,
    }
    return vectors, settings, "vectors"


def _ends(above: np.ndarray, child: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [("parent", above), ("child", child)]


def write_trees(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a layer of vectors as SWC, in the unit and with the origin of the file that it came from.

    Parameters
    ----------
    path
        The file.
    data
        ``(M, 2, ndim)`` start of each edge, and the way to its end.
    attributes
        Of the layer. Without our features, ends in the same place are one node.

    Returns
    -------
    list of str
        The file that was written.

    Raises
    ------
    UserError
        If the vectors form loops, or the file cannot be written.
    """
    vectors = np.asarray(data, dtype=np.float64)
    ndim = vectors.shape[-1]
    if ndim not in (2, 3):
        raise UserError(f"{path}: vectors of {ndim} dimensions are no trees; choose a layer of 2 or 3")
    ends = np.stack([vectors[:, 0], vectors.sum(axis=1)], axis=1)
    features = {name: np.asarray(values) for name, values in dict(attributes.get("features", {})).items()}
    space = SwcSpace(**attributes.get("metadata", {}).get(SPACE, {"origin": "centre", "units": "voxel"}))
    write_swc(path, space.coordinates(_forest(path, ends, features)), comment=space.head(ndim))
    return [path]


def _forest(path: str, ends: np.ndarray, features: dict[str, np.ndarray]) -> SwcForest:
    """Trees of edges ``(M, 2, ndim)`` from parents to children."""
    flat = ends.reshape(-1, ends.shape[-1])
    if all(f"{end}_id" in features for end in ("parent", "child")):
        names = np.stack([features["parent_id"], features["child_id"]], axis=1).ravel()
        ids, first, node = np.unique(names, return_index=True, return_inverse=True)
    else:
        _, first, node = np.unique(np.round(flat, 4), axis=0, return_index=True, return_inverse=True)
        ids = np.arange(1, len(first) + 1)
    above, child = node.reshape(-1, 2).T
    parent = np.full(len(ids), ROOT)
    parent[child] = above
    values = {name: _of_nodes(features, name, first, default) for name, default in (("type", 2), ("radius", 1.0))}
    xyz = np.zeros((len(ids), 3))
    xyz[:, : flat.shape[1]] = flat[first][:, ::-1]
    if len(np.unique(child)) < len(child):
        raise UserError(f"{path}: an edge leads to a node that has a parent already, a loop; remove one of them")
    try:
        return SwcForest.sorted(ids, values["type"], xyz, values["radius"], parent)
    except ValueError as error:
        raise UserError(f"{path}: {error}; remove an edge of it") from None


def _of_nodes(features: dict[str, np.ndarray], name: str, first: np.ndarray, default: float) -> np.ndarray:
    """Values ``(N,)`` of a feature at the nodes, of which ``first`` are places among the ends of all edges."""
    if not all(f"{end}_{name}" in features for end in ("parent", "child")):
        return np.full(len(first), default)
    return np.stack([features[f"parent_{name}"], features[f"child_{name}"]], axis=1).ravel()[first]
