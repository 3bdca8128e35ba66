"""The tables of branches and images."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib.klib.spaces import Spaces
from lib.swclib import SwcForest, SwcSpace, read_swc
from tests.tools.tracing.oracle import OraclePredictor
from tests.tools.tracing.tubes import SCALE, SHAPE, pixels, trace, write
from tools.tracing import job as job_module
from tools.tracing.tables import branch_columns, branch_rows, summary_row
from tools.tracing.trace import Trace


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def of(forest: SwcForest, shape: tuple[int, ...] = (100, 200), **more) -> Trace:
    """A trace with a map of which every pixel is 0.5."""
    return Trace(forest, np.full(shape, 0.5), Spaces.scaled(shape, 1.0), np.zeros((0, 2), int), **more)


LINE = SwcForest.from_positions([[10.0, 20.0], [10.0, 60.0], [10.0, 120.0]], [-1, 0, 1], radius=[1.0, 2.0, 3.0])


def test_the_row_of_a_branch_by_hand():
    (row,) = branch_rows(of(LINE, space=SwcSpace("corner", "voxel")))
    assert row == {
        "id": 1, "parent": None, "tree": 1, "begin_node": 1, "end_node": 3, "order_strahler": 1, "order_from_root": 1,
        "begin_x_px": 20.5, "begin_y_px": 10.5, "end_x_px": 120.5, "end_y_px": 10.5,
        "length_px": 100, "chord_px": 100, "tortuosity": 1,
        "width_mean_px": 4.2, "width_median_px": 4, "width_least_px": 2, "width_largest_px": 6,
        "mean_probability": 0.5, "confidence": None, "confidence_join": None, "confidence_inside": None,
        "angle_deg": None, "inside_field": 1, "kind": None,
    }  # fmt: skip


def test_micrometres_are_named_in_the_columns():
    (row,) = branch_rows(of(LINE, space=SwcSpace("centre", "um", (2.0, 0.5))))
    assert row["begin_x_um"] == 10 and row["begin_y_um"] == 20 and row["length_um"] == 50
    summary = summary_row(of(LINE, space=SwcSpace("centre", "um", (2.0, 0.5))), "a.png")
    assert summary["area_um2"] == 20000 and summary["length_density_per_um"] == 0.0025


def test_the_row_of_an_image_by_hand():
    row = summary_row(of(LINE), "a.png")
    assert row["image"] == "a.png" and row["trees"] == row["branches"] == 1 and row["ends"] == 2
    assert row["length_px"] == 100 and row["area_px2"] == 20000 and row["length_density_per_px"] == 0.005
    assert row["width_mean_px"] == 4.2 and float(row["fractal_dimension"]) == pytest.approx(1, abs=0.1)


def test_volumes_have_three_coordinates_and_a_density_by_volume():
    forest = SwcForest.from_positions([[1.0, 2.0, 3.0], [4.0, 2.0, 3.0]], [-1, 0])
    (row,) = branch_rows(of(forest, (8, 9, 10)))
    assert (row["begin_x_voxel"], row["begin_y_voxel"], row["begin_z_voxel"], row["end_z_voxel"]) == (3, 2, 1, 4)
    assert summary_row(of(forest, (8, 9, 10)), "a.tif")["length_density_per_voxel2"] == float(f"{3 / 720:.6g}")


@pytest.mark.parametrize(("names", "said"), [(("artery", "vein"), ["artery", "vein", None]), ((), [1, 2, None])])
def test_kinds_of_tube_by_name(tmp_path, names, said):
    nodes = [[10.0, 10.0], [10.0, 30.0], [20.0, 10.0], [20.0, 30.0], [30.0, 10.0], [30.0, 30.0]]
    types = np.array([11, 11, 12, 12, 2, 2])
    made = of(SwcForest.from_positions(nodes, [-1, 0, -1, 2, -1, 4], types=types), kind_names=names)
    assert [row["kind"] for row in branch_rows(made)] == said
    made.write(tmp_path / "a.swc")
    head = (tmp_path / "a.swc").read_text()
    assert ("# types: 11 artery, 12 vein" if names else "# types: 10 plus the kind of tube") in head


def test_an_empty_trace_has_tables_too():
    assert branch_rows(of(SwcForest.empty())) == []
    assert branch_columns(of(SwcForest.empty())) == list(branch_rows(of(LINE))[0])
    row = summary_row(of(SwcForest.empty()), "a.png")
    assert row["length_px"] == 0 and row["width_mean_px"] is row["fractal_dimension"] is None


def test_a_traced_semicircle(weights, tmp_path, monkeypatch):
    angle = np.linspace(0, np.pi, 61)
    arc = np.stack([10 + 40 * np.sin(angle), 55 + 40 * np.cos(angle)], axis=1)
    spaces = Spaces.scaled(SHAPE, SCALE)
    lines = [spaces.to_work(arc).tolist()]
    monkeypatch.setattr(job_module, "Predictor", lambda *_, **__: OraclePredictor(lines, spaces.work_shape, (64, 64)))
    (traced,) = trace(weights, write(tmp_path / "photos" / "arc.png", pixels()), sure=0.3)
    rows = read(traced.swc.with_name("arc_branches.csv"))
    assert len(rows) == 1
    assert float(rows[0]["length_px"]) == pytest.approx(40 * math.pi, rel=0.02)
    assert float(rows[0]["tortuosity"]) == pytest.approx(math.pi / 2, rel=0.01)
    assert float(rows[0]["mean_probability"]) > 0.8


def test_tables_of_a_folder_and_ids_that_fit_the_swc(weights, oracle, photo, tmp_path):
    write(photo.with_name("b.png"), pixels())
    first, second = trace(weights, photo.parent)
    rows, summary = read(first.swc.with_name("branches.csv")), read(first.swc.with_name("summary.csv"))
    assert {row["image"] for row in rows} == {"b", "eye"} and [row["image"] for row in summary] == ["b", "eye"]
    for traced in (first, second):
        forest = read_swc(traced.swc)
        for row in [row for row in rows if row["image"] == traced.swc.stem]:
            begin, end = int(row["begin_node"]) - 1, int(row["end_node"]) - 1
            assert forest.path_distance(begin, end) == pytest.approx(float(row["length_px"]), abs=0.01)
            assert forest.xyz[end, 0] == pytest.approx(float(row["end_x_px"]), abs=1e-3)


def test_a_trace_in_cells_without_a_tree_has_tables_without_rows():
    trace = replace(of(SwcForest.empty(), (100, 200)), centerline=None, node_probability=np.zeros(0))
    assert branch_rows(trace) == [] and "mean_probability" in branch_columns(trace)
    assert summary_row(trace, "dark")["trees"] == 0
