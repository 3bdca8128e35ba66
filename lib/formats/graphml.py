"""GraphML: the graph of a trace with its loops closed, as networkx and osmnx read it."""

from __future__ import annotations

import importlib
from pathlib import Path

from lib.files import atomic_write
from lib.formats.graph import BranchGraph

IMAGE_CRS = 'ENGCRS["image",EDATUM["image"],CS[Cartesian,2],AXIS["x",east],AXIS["y",south],LENGTHUNIT["pixel",1]]'
"""Reference system of images without one, as WKT: osmnx does nothing without."""


def write(path: Path, graph: BranchGraph) -> None:
    """Write an undirected graph: nodes are ends, branch points and both sides of a closed loop.

    Every value is text, because osmnx reads no other. Nodes have ``x``, ``y`` (and ``z``), edges ``length`` in the same
    unit, ``geometry`` as WKT, the number of their ``branch``, and of its row what holds for every part of it; the graph
    ``crs``.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    networkx = importlib.import_module("networkx")
    known = {"crs": graph.crs or IMAGE_CRS, "coordinates": graph.coordinates_are}
    made = networkx.MultiGraph(**known, name=graph.name, description=graph.origin, simplified="True")
    for row in graph.junctions.tolist():
        place = zip("xyz", graph.coordinates[row].tolist(), strict=False)
        made.add_node(row + 1, **{axis: f"{value:.7f}" for axis, value in place})
    for rows, row in graph.sections:
        attributes = {name: str(value) for name, value in row.items() if _holds_for_parts(name) and value is not None}
        points = ", ".join(" ".join(f"{value:.7f}" for value in point) for point in graph.coordinates[rows])
        attributes["branch"] = attributes.pop("id", "")
        attributes["length"] = f"{graph.length(rows):.7f}"
        attributes["geometry"] = f"LINESTRING {'Z ' * (graph.ndim == 3)}({points})"
        made.add_edge(int(rows[0]) + 1, int(rows[-1]) + 1, **attributes)
    networkx.set_node_attributes(made, {node: str(degree) for node, degree in made.degree}, "street_count")
    with atomic_write(path) as temporary:
        networkx.write_graphml_xml(made, temporary)


def _holds_for_parts(name: str) -> bool:
    """Whether a column of the table holds for a part of a branch, too: an edge may be one."""
    return not name.startswith(("begin_", "end_", "length_", "chord_", "tortuosity", "angle_"))
