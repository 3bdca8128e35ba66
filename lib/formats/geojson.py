"""GeoJSON (RFC 7946): a line for each branch, in longitude and latitude."""

from __future__ import annotations

import json
from pathlib import Path

from lib.files import atomic_write
from lib.formats.graph import BranchGraph

DECIMALS = 7
"""Of degrees, about a centimetre (RFC 7946 §11.2 asks for no more than is meant); of pixels, 4 as in the SWC."""


def write(path: Path, graph: BranchGraph) -> None:
    """Write a feature collection; without a reference system the coordinates are pixels, as its head then says.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    places = graph.coordinates if graph.longitude_latitude is None else graph.longitude_latitude
    points = places.round(DECIMALS if graph.place else 4).tolist()
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "LineString", "coordinates": [points[row] for row in rows]},
            "properties": {name: row.get(name) for name in graph.columns},
        }
        for rows, row in graph.lines
    ]
    content = {"type": "FeatureCollection", "name": graph.name, "description": graph.origin}
    if not graph.place:
        content["coordinates_are"] = graph.coordinates_are
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps({**content, "features": features}, allow_nan=False) + "\n", encoding="utf-8")
