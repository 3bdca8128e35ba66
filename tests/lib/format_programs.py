"""Read files as osmnx and cloud-volume do. Runs in an environment of its own (``make oracle``).

python tests/lib/format_programs.py FILE.graphml FOLDER_precomputed   prints what they find: JSON
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any


def in_osmnx(path: str) -> dict[str, Any]:
    """Numbers of nodes and edges, total length and reference system in osmnx."""
    import osmnx

    graph = osmnx.load_graphml(path)
    osmnx.stats.basic_stats(graph.to_directed())
    places = osmnx.convert.graph_to_gdfs(graph.to_directed(), edges=False)
    return {
        "nodes": len(graph),
        "edges": graph.number_of_edges(),
        "length": sum(edge["length"] for _, _, edge in graph.edges(data=True)),
        "drawn": sum(edge["geometry"].length for _, _, edge in graph.edges(data=True)),
        "crs": str(graph.graph["crs"]),
        "bounds": places.total_bounds.tolist(),
    }


def in_cloudvolume(folder: str) -> dict[str, Any]:
    """Cable length in nanometres and attributes of the first skeleton in cloud-volume."""
    import cloudvolume

    # It takes skeletons only as a part of a segmentation.
    with tempfile.TemporaryDirectory() as layer:
        shutil.copytree(folder, Path(layer) / "skeletons")
        info = cloudvolume.CloudVolume.create_new_info(
            1, "segmentation", "uint64", "raw", [1, 1, 1], [0, 0, 0], [64, 64, 64], skeletons="skeletons"
        )
        (Path(layer) / "info").write_text(json.dumps(info))
        skeleton = cloudvolume.CloudVolume(f"precomputed://file://{layer}").skeleton.get(1)
    return {"length": float(skeleton.cable_length()), "radius": skeleton.radius.tolist()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"osmnx": in_osmnx(sys.argv[1]), "cloudvolume": in_cloudvolume(sys.argv[2])}))
