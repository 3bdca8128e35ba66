"""SSD-F1 and L-F1 equal PyNeval's to 1e-6.

PyNeval is GPL and needs other library versions, so it runs in its own environment (``make oracle``), and only these
tests call it. Without that environment they are skipped.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib.swclib import SwcForest, concatenate, read_swc, reroot, resample, subset, write_swc
from lib.swclib.metrics import length_f1, ssd_f1

ORACLE = Path(__file__).parents[2] / ".venv-oracle" / "bin" / "python"
SCRIPT = """
import json, sys
from pyneval.metric import length_metric, ssd_metric
from pyneval.metric.utils.config_utils import get_default_configs
from pyneval.pyneval_io.swc_io import read_swc_tree
for name, metric in (("ssd", ssd_metric.ssd_metric), ("length", length_metric.length_metric)):
    result = metric(read_swc_tree(sys.argv[1]), read_swc_tree(sys.argv[2]), get_default_configs(name))[0]
    print(json.dumps([result["f1_score"], result["precision"], result["recall"]]))
"""

pytestmark = pytest.mark.skipif(not ORACLE.exists(), reason="PyNeval is not installed in .venv-oracle")


def random_trees(seed: int) -> SwcForest:
    """Smooth trees with side branches: 252 nodes with spacing 1.4 on a quarter-pixel grid, as in DRIVE."""
    rng = np.random.default_rng(seed)
    points, parents = [], []
    for _ in range(9):
        start = rng.integers(len(points)) if len(parents) > 2 * 28 and rng.random() < 0.7 else -1
        angle = np.cumsum(rng.normal(0, 0.3, 28)) + rng.uniform(0, 2 * np.pi)
        steps = 1.4 * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        origin = points[start] if start >= 0 else rng.uniform(0, 40, 2)
        parents += [start, *range(len(points), len(points) + 27)]
        points += list(np.round((origin + np.cumsum(steps, axis=0)) * 4) / 4)
    return SwcForest.from_positions(points, parents, radius=rng.uniform(0.5, 2.5, len(points)))


def jittered(forest: SwcForest, size: float) -> SwcForest:
    is_flat = not forest.xyz[:, 2].any()
    noise = np.random.default_rng(1).normal(0, size, forest.xyz.shape) * [1, 1, not is_flat]
    return replace(forest, xyz=forest.xyz + noise)


def without_some_branches(forest: SwcForest) -> SwcForest:
    keep = np.ones(len(forest), dtype=bool)
    for branch in forest.branches()[::5]:
        keep[branch[1:-1]] = False
    return subset(forest, keep)


CHANGES = {
    "same": lambda forest: forest,
    "jitter 0.3": lambda forest: jittered(forest, 0.3),
    "jitter 1": lambda forest: jittered(forest, 1.0),
    "jitter 3": lambda forest: jittered(forest, 3.0),
    "branches missing": without_some_branches,
    "branches added": lambda forest: concatenate([jittered(forest, 0.3), random_trees(99)]),
    "resampled": lambda forest: resample(forest, 2.0),
    "resampled, jitter": lambda forest: jittered(resample(forest, 5.0), 0.5),
    "another root": lambda forest: reroot(jittered(forest, 0.5), len(forest) // 2),
}


def check_equal(folder: Path, gold_path: Path, test: SwcForest) -> None:
    """Score ``test``, written to a file, against the gold file with PyNeval and with ours, and compare."""
    test_path = folder / "test.swc"
    write_swc(test_path, test)
    command = [ORACLE, "-c", SCRIPT, gold_path, test_path]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    gold, test = read_swc(gold_path), read_swc(test_path)
    for ours, text in zip((ssd_f1(gold, test), length_f1(gold, test)), output.splitlines(), strict=True):
        assert [ours.value, ours.precision, ours.recall] == pytest.approx(json.loads(text), abs=1e-6)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("seed", [0, 1])
def test_equal_to_pyneval(tmp_path, change, seed):
    gold = random_trees(seed)
    write_swc(tmp_path / "gold.swc", gold)
    check_equal(tmp_path, tmp_path / "gold.swc", CHANGES[change](gold))
