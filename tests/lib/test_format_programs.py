"""Traces in osmnx and cloud-volume; their environment is made by ``make oracle``, and without it nothing runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lib.formats import FORMATS
from lib.formats.georeference import GeoReference
from tests.lib.test_formats import LOOPS, NODES, UTM, graph

PYTHON = Path(__file__).resolve().parents[2] / ".venv-oracle-formats" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="needs the environments of make oracle")


@pytest.mark.parametrize("place", [None, GeoReference("EPSG:32633", tuple(UTM)[:6])], ids=["pixels", "UTM"])
def test_the_ladder(tmp_path, place):
    content = graph(place=place, voxel_size=(0.5, 0.5))
    for name in ("graphml", "precomputed"):
        FORMATS[name].write(tmp_path / name, content)
    script = Path(__file__).with_name("format_programs.py")
    command = [PYTHON, script, tmp_path / "graphml", tmp_path / "precomputed"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    length = content.forest.length + sum(np.linalg.norm(NODES[a] - NODES[b]) for a, b in LOOPS)
    assert found["osmnx"]["edges"] - found["osmnx"]["nodes"] + 1 == 2
    assert (
        found["osmnx"]["length"]
        == pytest.approx(found["osmnx"]["drawn"])
        == pytest.approx(length * (0.5 if place else 1))
    )
    assert found["osmnx"]["crs"].startswith("EPSG:32633" if place else "ENGCRS")
    assert found["osmnx"]["bounds"] == pytest.approx(
        [*content.coordinates[content.junctions].min(axis=0), *content.coordinates[content.junctions].max(axis=0)]
    )
    assert found["cloudvolume"]["length"] == pytest.approx(length * 500)
    assert found["cloudvolume"]["radius"] == pytest.approx([1.5 * 500] * len(NODES))
