"""The files written for a trace."""

from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import networkx
import numpy as np
import pytest
import tifffile

from lib.errors import UserError
from lib.files import write_json
from lib.klib.image_io import read_image
from lib.klib.spaces import Spaces
from lib.swclib import SwcForest, SwcSpace, read_swc, resample
from models.checkpoint import load_weights, save_weights
from tests.tools.tracing.oracle import OraclePredictor
from tests.tools.tracing.tubes import SCALE, SHAPE, TUBES, pixels, refused, script, trace, write, write_geotiff
from tools.confidence.evidence import BRANCH, END, INSIDE, JOIN
from tools.confidence.model import ConfidenceModel, Logistic
from tools.tracing import job as job_module
from tools.tracing.outputs import OUTPUTS, Traced, check_formats
from tools.tracing.review import MOST_BEHIND
from tools.tracing.trace import Trace


def test_exactly_these_files_are_written(weights, oracle, photo):
    (traced,) = trace(weights, photo)
    names = sorted(path.name for path in traced.swc.parent.iterdir())
    tables = ["eye_branches.csv", "eye_centerline.tif", "eye_overlay.png", "eye_review.csv", "eye_summary.csv"]
    assert names == ["eye.json", "eye.swc", *tables]
    centerline = tifffile.imread(traced.swc.with_name("eye_centerline.tif"))
    assert centerline.shape == (120, 220) and centerline.max() == round(0.95 * 255)
    assert read_image(traced.swc.with_name("eye_overlay.png"), channels=3).pixels.ndim == 3


def test_report_holds_counts_times_and_options(weights, oracle, tmp_path):
    gray = write(tmp_path / "photos" / "gray.tif", pixels()[..., 0])
    (traced,) = trace(weights, gray)
    report = json.loads(traced.swc.with_name("gray.json").read_text())
    assert report["image"] == "gray.tif" and report["nodes"] == traced.nodes and report["trees"] == 2
    assert report["length_px"] == pytest.approx(178, abs=8)
    assert set(report["counts"]) == {"seeds", "steps", "nodes", "joins", "loops"}
    assert set(report["seconds"]) == {"encode", "network", "search", "clean", "radius", "total"}
    assert report["seconds"]["total"] >= report["seconds"]["search"] > 0
    assert any("gray" in note for note in report["notes"])
    assert report["options"]["scale"] == SCALE and report["options"]["swc_origin"] == "corner"
    assert report["loops_left_open"] == [] and report["precision"] == "fp32"


def test_open_loops_are_reported_in_swc_coordinates(weights, photo, monkeypatch):
    angle = np.linspace(0, 2 * np.pi, 61)
    ring = np.stack([30 + 22 * np.sin(angle), 60 + 40 * np.cos(angle)], axis=1)
    spaces = Spaces.scaled(SHAPE, SCALE)
    lines = [*spaces.to_work(TUBES).tolist(), spaces.to_work(ring).tolist()]
    monkeypatch.setattr(job_module, "Predictor", lambda *_, **__: OraclePredictor(lines, spaces.work_shape, (64, 64)))
    (traced,) = trace(weights, photo)
    loops = json.loads(traced.swc.with_name("eye.json").read_text())["loops_left_open"]
    assert loops
    forest = read_swc(traced.swc)
    traces = resample(forest, 1.0).xyz
    for loop in loops:
        for place in (loop["from"], loop["to"]):
            assert np.linalg.norm(traces - place, axis=1).min() < 2.5


@pytest.mark.parametrize("name", ["eye.swc", "eye.json", "eye_overlay.png", "eye_centerline.tif"])
def test_no_partial_file_remains_where_a_result_cannot_be_written(weights, oracle, photo, tmp_path, capsys, name):
    (tmp_path / "out" / name).mkdir(parents=True)  # A folder is in the place of the file.
    assert script(weights, photo, tmp_path / "out") == 2
    assert f"{name}: cannot be written" in refused(capsys)
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_json_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_json(tmp_path / "file" / "report.json", {})


def of(forest: SwcForest, **more) -> Trace:
    """A trace of a volume."""
    spaces = Spaces.scaled((20, 30, 40), 1.0)
    return Trace(forest, np.zeros((20, 30, 40)), spaces, np.zeros((0, 2), int), **more)


def test_the_shift_is_added_before_the_unit_changes(tmp_path):
    forest = SwcForest.from_positions([[1.0, 2.0, 3.0], [1.0, 2.0, 8.0]], [-1, 0])
    assert of(forest, swc_shift=-0.25).swc_forest.xyz[0].tolist() == [2.75, 1.75, 1.0]
    space = SwcSpace("corner", "um", (2.0, 0.5, 0.25))
    trace = of(forest, space=space, swc_shift=-0.25)
    assert trace.swc_forest.xyz[0].tolist() == [3.25 * 0.25, 2.25 * 0.5, 2.0]
    trace.write(tmp_path / "a.swc")
    np.testing.assert_allclose(read_swc(tmp_path / "a.swc", origin="centre").xyz, forest.xyz - [0.25, 0.25, 0])


def test_a_written_trace_has_a_type_and_no_tree_of_one_node(tmp_path):
    forest = SwcForest.from_positions([[1.0, 2.0], [1.0, 2.0], [1.0, 8.0], [5.0, 5.0]], [-1, 0, 1, -1])
    of(forest).write(tmp_path / "a.swc")
    written = read_swc(tmp_path / "a.swc")
    assert written.types.tolist() == [2, 2] and written.xyz[:, 0].tolist() == [2.0, 8.0]


def test_every_tree_has_a_file_of_its_own_and_old_ones_go(weights, oracle, photo, tmp_path):
    stale = tmp_path / "out" / "eye_trees" / "3.swc"
    stale.parent.mkdir(parents=True)
    stale.write_text("of an earlier run")
    (traced,) = trace(weights, photo, out=tmp_path / "out", one_file_per_tree=True)
    files = sorted((tmp_path / "out" / "eye_trees").iterdir())
    assert [path.name for path in files] == ["1.swc", "2.swc"]
    trees = [read_swc(path) for path in files]
    assert trees[0].length >= trees[1].length and [len(tree.roots) for tree in trees] == [1, 1]
    assert sum(tree.length for tree in trees) == pytest.approx(read_swc(traced.swc).length)


def test_a_new_output_needs_a_function_and_a_line_in_the_table(weights, oracle, photo, monkeypatch):
    def write_count(path: Path, traced: Traced) -> None:
        path.write_text(f"{len(traced.trace.forest.roots)} trees")

    monkeypatch.setitem(OUTPUTS, "count", {"_count.txt": write_count})
    (traced,) = trace(weights, photo, formats=["count"])
    assert [path.name for path in traced.written] == ["eye_count.txt"] and not traced.failed
    assert traced.written[0].read_text() == "2 trees"
    assert not (traced.written[0].parent / "eye.swc").exists()


ALL = ["swc", "csv", "geojson", "gpkg", "graphml", "precomputed", "html"]


def test_all_formats_of_a_tile_hold_the_same_branches(weights, oracle, tmp_path):
    tile = write_geotiff(tmp_path / "photos" / "eye.tif", pixels(), 0.5)
    (traced,) = trace(weights, tile, formats=ALL)
    folder = traced.swc.parent
    forest = read_swc(traced.swc, origin="centre")
    assert len(forest.roots) == 2 and forest.radius.max() < 3
    features = json.loads((folder / "eye.geojson").read_text())["features"]
    rows = (folder / "eye_branches.csv").read_text().splitlines()
    assert len(features) == len(rows) - 1 == 2
    for feature in features:
        # Half a metre a pixel, of which UTM shows 0.9996: the tubes are 178 px long together.
        metres = feature["properties"]["length_px"] / 2 / 0.9996
        assert feature["properties"]["length_m"] == pytest.approx(metres, abs=0.01)
    graph = networkx.read_graphml(folder / "eye.graphml")
    ends = sorted((float(node["x"]), float(node["y"])) for _, node in graph.nodes(data=True))
    wanted = sorted((5e5 + (x + 0.5) / 2, 5e6 - (y + 0.5) / 2) for x, y, _ in forest.xyz[forest.degree == 1])
    np.testing.assert_allclose(ends, wanted, atol=0.25)
    assert sorted(path.name for path in (folder / "eye_precomputed").iterdir()) == [
        "1",
        "2",
        "info",
        "segment_properties",
    ]


def test_maps_of_an_image_without_a_reference_system_say_so(weights, oracle, photo):
    (traced,) = trace(weights, photo, formats=["geojson"])
    assert "no coordinate reference system" in traced.message
    (traced,) = trace(weights, photo)
    assert "reference system" not in traced.message


def test_unknown_formats_and_missing_packages_are_one_line_before_tracing(
    weights, photo, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "out"
    assert script(weights, photo, out, "--formats", "swc", "geosjon") == 2
    assert "--formats geosjon: unknown; did you mean geojson?" in refused(capsys)
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pyogrio" else find(name))
    assert script(weights, photo, out, "--formats", "gpkg") == 2
    assert "--formats gpkg: needs the package pyogrio, which is not installed; run `pip install" in refused(capsys)
    assert not out.exists()


def test_maps_of_volumes_are_refused():
    with pytest.raises(UserError, match=r"--formats gpkg: holds maps of images, not volumes"):
        check_formats(["graphml", "gpkg"], 3)


def with_confidence(weights: Path, folder: Path) -> Path:
    """The weights with a confidence that is 0.9 for every branch, join and inside, and 0.5 for every end."""
    net, header = load_weights(weights)

    def alike(names: tuple[str, ...], odds: float) -> Logistic:
        none = (0.0,) * len(names)
        return Logistic(none, (1.0,) * len(names), none, float(np.log(odds)))

    model = ConfidenceModel(alike(BRANCH, 9), alike(JOIN, 9), alike(INSIDE, 9), alike(END, 1), missed=10.0)
    save_weights(folder / "sure.safetensors", net, replace(header, confidence=model.as_json()))
    return folder / "sure.safetensors"


def test_confidence_reaches_the_tables_and_the_picture(weights, oracle, photo, tmp_path):
    sure = with_confidence(weights, tmp_path)
    assert script(sure, photo, tmp_path / "out", "--overlay", "confidence") == 0
    rows = list(csv.DictReader((tmp_path / "out" / "eye_branches.csv").open()))
    assert {row["confidence"] for row in rows} == {"0.9"} and {row["confidence_join"] for row in rows} == {""}
    places = list(csv.DictReader((tmp_path / "out" / "eye_review.csv").open()))
    ends = [row for row in places if row["question"] == "ends here?"]
    assert len(ends) == 4 and {row["gain"] for row in ends} == {str(round(0.5 * 10 / SCALE, 2))}
    assert min(float(row["length_px"]) for row in rows) > MOST_BEHIND / SCALE
    assert float(places[0]["gain"]) == pytest.approx(0.1 * MOST_BEHIND / SCALE) and places[0]["question"] == "real?"
    plain = tmp_path / "plain"
    assert script(sure, photo, plain) == 0
    pictures = [read_image(folder / "eye_overlay.png", channels=3).pixels for folder in (tmp_path / "out", plain)]
    assert not np.array_equal(*pictures)


def test_confidence_that_the_weights_lack_is_refused_before_the_tracing(weights, photo, tmp_path, capsys):
    assert script(weights, photo, tmp_path / "out", "--overlay", "confidence") == 2
    assert "tools.calibrate" in refused(capsys) and not list((tmp_path / "out").glob("*"))
