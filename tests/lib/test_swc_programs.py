"""Traces in MorphIO, NeuroM and navis; their environments are made by ``make oracle``, and without them nothing runs.

The traces of ``make demo`` and ``make demo-3d`` are read too, where they have been made.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lib.klib.spaces import Spaces
from lib.swclib import SwcForest, SwcSpace, concatenate, read_swc
from tools.simulation import demo_volume
from tools.tracing.trace import Trace

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = [path for name in ("neurom", "navis") if (path := ROOT / f".venv-oracle-{name}" / "bin" / "python").exists()]
DEMOS = sorted(path for path in ROOT.glob("out/demo*/*.swc") if not path.stem.endswith("_gold"))
SPACES = {"um": SwcSpace("centre", "um", (1.0, 0.33, 0.33)), "voxel": SwcSpace("corner", "voxel")}

pytestmark = pytest.mark.skipif(len(PROGRAMS) < 2, reason="needs the environments of make oracle")


def read_by_all(path: Path) -> dict[str, dict]:
    """What each program finds in a file, by its name and version."""
    script = Path(__file__).with_name("swc_programs.py")
    runs = [subprocess.run([python, script, path], capture_output=True, text=True, check=True) for python in PROGRAMS]
    assert not any("ERROR" in run.stderr for run in runs)
    return {name: found for run in runs for name, found in json.loads(run.stdout)[str(path)].items()}


def check(path: Path) -> dict[str, dict]:
    """Every program finds the whole trace."""
    trace, found = read_swc(path), read_by_all(path)
    assert {name.split()[0] for name in found} == {"morphio", "neurom", "navis"} and len(found) == 4
    for name, values in found.items():
        assert "error" not in values, (name, values)
        assert values["length"] == pytest.approx(trace.length, rel=1e-4), name
        assert values.get("trees", len(trace.roots)) == len(trace.roots) and not values.get("failed")
    return found


@pytest.mark.parametrize("units", SPACES)
def test_a_simulated_neuron_with_doubled_and_lone_nodes(tmp_path, units):
    gold = demo_volume(0, (32, 96, 128)).gold
    nodes = np.concatenate([gold.positions(3), gold.positions(3)[-1:], [[1, 2, 3]]])
    parent = [*gold.parent, len(gold) - 1, -1]
    forest = concatenate([SwcForest.from_positions(nodes, parent, radius=1.5), SwcForest.from_positions(nodes, parent)])
    trace = Trace(forest, np.zeros((32, 96, 128)), Spaces.scaled((32, 96, 128), 1.0), np.zeros((0, 2, 3)))
    trace = Trace(trace.forest, trace.centerline, trace.spaces, trace.loops, space=SPACES[units])
    trace.write(tmp_path / "a.swc")
    found = check(tmp_path / "a.swc")
    navis = next(values for name, values in found.items() if name.startswith("navis"))
    assert navis["units"] == ("1 micrometer" if units == "um" else "1 dimensionless")
    assert read_swc(tmp_path / "a.swc", origin="centre").length == pytest.approx(2 * gold.length, rel=1e-3)


@pytest.mark.parametrize("path", DEMOS, ids=lambda path: path.stem)
def test_the_traces_of_the_demos(path):
    check(path)
