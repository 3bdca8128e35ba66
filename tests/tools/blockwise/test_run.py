"""Tracing in cells from the command line: the same bytes whatever happens, and what is said when something does."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from scipy.spatial import KDTree
from skimage.data import retina
from skimage.io import imread
from skimage.transform import resize

import train_2D
from configs.options import TraceRun, TraceRun3D
from lib.errors import UserError
from lib.klib.image_io import write_tiff
from lib.klib.ome_zarr import create_zarr, fill_levels
from lib.swclib import SwcForest, SwcSpace, read_swc, write_swc
from models.checkpoint import load_weights, save_weights, weight_file
from tests.tools.tracing.tubes import call, write_geotiff
from tools.blockwise import cluster
from tools.blockwise.cells import CellTrace
from tools.blockwise.grid import Cell
from tools.blockwise.run import CellRun

SCRIPT = Path(train_2D.__file__)
OPTIONS = [
    "--mode",
    "test",
    "--weights",
    "DRIVE",
    "--scale",
    "0.8",
    "--cell",
    "128",
    "--precision",
    "fp32",
    "--views",
    "1",
]


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """A part of a retina with a dozen vessels, nine cells at work scale."""
    path = tmp_path_factory.mktemp("photos") / "eye.tif"
    write_tiff(path, retina()[500:940, 300:740])
    return path


@pytest.fixture(scope="module")
def traced(photo) -> Path:
    """The folder of a trace by one worker."""
    out = photo.parent / "one"
    assert script(photo, out, "--workers", "1") == 0
    return out


def script(photo: Path, out: Path, *more: str) -> int:
    """Trace from the command line, in this process."""
    arguments = [*OPTIONS, "--images", str(photo), "--out", str(out), *more]
    return call(arguments)


def started(photo: Path, out: Path, *more: str) -> subprocess.Popen:
    """The same in a process of its own."""
    command = [sys.executable, str(SCRIPT), *OPTIONS, "--images", str(photo), "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def digest(out: Path) -> str:
    """What is in the SWC of a folder."""
    return hashlib.sha256((out / "eye.swc").read_bytes()).hexdigest()


def cells(out: Path) -> dict[str, float]:
    """Names and times of the files of the finished cells."""
    return {file.name: file.stat().st_mtime_ns for file in (out / "cells").glob("[0-9]*.npz")}


def wait_for_cells(process: subprocess.Popen, out: Path, count: int) -> None:
    """Wait until some cells are finished."""
    while len(cells(out)) < count and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()


def ends_in_review(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Places ``(K, 2)`` and confidence ``(K,)`` of the doubtful ends of a trace."""
    with (folder / "eye_review.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["question"] == "ends here?"]
    table = np.array([[float(row[name]) for name in ("x", "y", "confidence")] for row in rows])
    return table[:, :2], table[:, 2]


def test_a_trace_in_cells_is_that_of_the_whole(photo, traced, tmp_path):
    from netracer import evaluate

    assert call([*OPTIONS[:6], *OPTIONS[8:], "--field", "whole", "--images", str(photo), "--out", str(tmp_path)]) == 0
    whole, parts = read_swc(tmp_path / "eye.swc"), read_swc(traced / "eye.swc")
    assert evaluate(whole, parts).row()["SSD_F1"] > 0.98
    report = json.loads((traced / "run.json").read_text())
    assert report["cells"] == 9 and report["failed_cells"] == [] and len(report["seconds_of_cells"]) == 9
    assert report["settings"]["halo"] == 128  # twice the window of local contrast, in whole strides
    written = {
        "eye.swc",
        "eye_branches.csv",
        "eye_summary.csv",
        "eye_overlay.png",
        "eye_review.csv",
        "run.json",
        "cells",
    }
    assert {each.name for each in traced.iterdir()} == written
    (place, sure), (place_of_whole, sure_of_whole) = map(ends_in_review, (traced, tmp_path))
    apart, nearest = KDTree(place_of_whole).query(place)
    same = apart < 1
    assert same.mean() > 0.7 and np.abs(sure[same] - sure_of_whole[nearest[same]]).mean() < 0.02
    of_cells, of_whole = (imread(folder / "eye_overlay.png").astype(float) for folder in (traced, tmp_path))
    assert of_cells.shape == (704, 704, 3)  # work pixels, doubled
    lines = resize(of_whole, of_cells.shape, order=1)
    assert np.corrcoef(of_cells.ravel(), lines.ravel())[0, 1] > 0.9


def test_a_killed_driver_goes_on_where_it_was_with_other_workers_and_groups(photo, traced, tmp_path, monkeypatch):
    process = started(photo, tmp_path, "--workers", "1")
    wait_for_cells(process, tmp_path, 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before, run_cells = cells(tmp_path), cluster.run_cells
    monkeypatch.setattr(cluster, "run_cells", lambda client, plan, some, group: run_cells(client, plan, some, 4))
    assert script(photo, tmp_path, "--workers", "2") == 0
    assert digest(tmp_path) == digest(traced)
    assert before.items() <= cells(tmp_path).items()


def test_a_killed_worker_is_replaced(photo, traced, tmp_path):
    process = started(photo, tmp_path, "--workers", "1")
    wait_for_cells(process, tmp_path, 1)
    children = psutil.Process(process.pid).children(recursive=True)
    worker = next(child for child in children if "spawn_main" in " ".join(child.cmdline()))
    worker.kill()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "eye.swc: " in out and digest(tmp_path) == digest(traced)


def test_other_settings_in_the_same_folder_are_refused(photo, traced, capsys):
    before = cells(traced)
    assert script(photo, traced, "--stop_threshold", "0.5") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "stop_threshold" in error and "another --out" in error
    assert cells(traced) == before


def refusal(capsys) -> str:
    """The one line of the error that was written last."""
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_another_image_of_the_same_name_and_size_is_refused(photo, traced, tmp_path, capsys):
    write_tiff(tmp_path / "eye.tif", imread(photo)[::-1])
    before = digest(traced)
    assert script(tmp_path / "eye.tif", traced, "--workers", "1") == 2
    assert "a run of another image" in refusal(capsys) and digest(traced) == before


def test_the_folder_of_a_run_in_cells_is_not_taken_for_one_piece(photo, traced, capsys):
    before = digest(traced)
    assert call([*OPTIONS[:6], *OPTIONS[8:], "--images", str(photo), "--out", str(traced)]) == 2
    assert "--cell 128" in refusal(capsys) and digest(traced) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "-1"], "--workers -1: give 0 or more"),
        (["--cell", "-5"], "--cell -5: give at least 64"),
        (["--cell", "8"], "--cell 8: give at least 64"),
        (["--mask", "gold.swcx"], "gold.swcx: no such file"),
    ],
)
def test_what_cannot_be_traced_leaves_nothing_that_stands_in_the_way(photo, tmp_path, capsys, words, said):
    assert script(photo, tmp_path, *words) == 2
    assert said in refusal(capsys) and not (tmp_path / "run.json").exists()


def test_too_little_memory_for_a_cell_is_told_before_the_first(tmp_path, capsys):
    levels = create_zarr(tmp_path / "a.ome.zarr", (128, 256, 256), np.dtype(np.uint8), (1, 1, 1), chunk=64, least=64)
    fill_levels(levels)
    files = {"weights": "FMOST", "images": tmp_path / "a.ome.zarr", "out": tmp_path / "out"}
    with pytest.raises(UserError, match=r"--memory is 0\.5: give more, or a smaller --cell"):
        CellRun(TraceRun3D(**files, cell=256, memory=0.5, precision="fp32", white=0.0), 3)
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize("space", [SwcSpace("corner", "um", (0.5, 0.5)), SwcSpace("centre", "voxel")])
def test_a_tree_as_a_mask_is_read_as_its_head_says(photo, tmp_path, space):
    tree = SwcForest.from_positions([(100, 50), (140, 200)], [-1, 0])
    write_swc(tmp_path / "box.swc", space.coordinates(tree), comment=space.head(2))
    files = {"weights": "DRIVE", "images": photo, "out": tmp_path / "out", "mask": tmp_path / "box.swc"}
    assert CellRun(TraceRun(**files, cell=128, precision="fp32"), 2).plan.region == ((100, 50), (141, 201))


def test_cells_of_a_georeferenced_image_have_the_scale_of_its_pixels_on_the_ground(tmp_path):
    net, header = load_weights(weight_file("DRIVE"))
    save_weights(tmp_path / "w.safetensors", net, replace(header, seen={**header.seen, "metres": 1.0}))
    tile = write_geotiff(tmp_path / "tiles" / "city.tif", np.full((300, 400, 3), 90, np.uint8), 0.5)
    files = {"weights": tmp_path / "w.safetensors", "images": tile, "precision": "fp32", "cell": 128}
    for scale, wanted in ((None, 1.0), ("auto", 1.0), (0.8, 0.8)):
        work = CellRun(TraceRun(**files, scale=scale, out=tmp_path / f"out {scale}"), 2)
        assert work.plan.spaces.work_shape == (300 * wanted, 400 * wanted) and work.plan.options.scale == wanted
    write_tiff(tile, np.full((300, 400, 3), 90, np.uint8))
    with pytest.raises(UserError, match=r"--scale auto: an image traced in cells is never read as a whole"):
        CellRun(TraceRun(**files, scale="auto", out=tmp_path / "plain"), 2)


@pytest.mark.parametrize("most", [2**26, 0])  # the coarse level is read at once, or window by window
def test_cells_that_the_coarsest_level_shows_dark_are_left_out(tmp_path, monkeypatch, most):
    monkeypatch.setattr("tools.blockwise.run.MOST_COARSE", most)
    volume = np.full((64, 128, 192), 5, np.uint8)
    volume[10:12, 90:92, 80:185] = 200  # a tube of 2 x 2 voxels through two of six cells
    levels = create_zarr(tmp_path / "a.ome.zarr", volume.shape, volume.dtype, (1, 1, 1), chunk=64, least=64)
    levels[0][:] = volume
    fill_levels(levels)
    files = {"weights": "FMOST", "images": tmp_path / "a.ome.zarr", "out": tmp_path / "out"}
    work = CellRun(TraceRun3D(**files, cell=64, precision="fp32", white=0.0), 3)
    assert len(work.grid) == 6 and work.cells() == [(0, 1, 1), (0, 1, 2)]


def test_what_is_done_is_not_done_again(photo, traced, capsys):
    before, digested = cells(traced), digest(traced)
    (traced / "eye.swc").unlink()
    assert script(photo, traced, "--workers", "1") == 0
    assert "0 cells to trace of 9" in capsys.readouterr().err
    assert cells(traced) == before and digest(traced) == digested


def test_a_region_and_a_mask_restrict_what_is_traced(photo, tmp_path):
    mask = tmp_path / "mask.tif"
    write_tiff(mask, np.kron([[1, 0], [1, 0]], np.ones((10, 10))).astype(np.uint8))
    assert script(photo, tmp_path, "--region", "100:300,:", "--mask", str(mask), "--workers", "1") == 0
    places = read_swc(tmp_path / "eye.swc", origin="corner").positions(2)
    assert len(places) > 20 and (places >= [99, -1]).all() and (places <= [301, 221]).all()
    assert json.loads((tmp_path / "run.json").read_text())["cells"] == 4


def test_a_cell_is_tried_three_times_and_a_full_disk_stops_all(monkeypatch, tmp_path):
    tried: list[Cell] = []

    def fails(plan, cell: Cell) -> CellTrace:
        tried.append(cell)
        raise ValueError("bad luck")

    class FakePlan:
        def file_of(self, cell: Cell) -> Path:
            return tmp_path / f"{cell}.npz"

    monkeypatch.setattr(cluster, "trace_cell", fails)
    monkeypatch.setattr(cluster, "_take_own_device", lambda: None)
    outcome = cluster.trace_group(FakePlan(), [(0, 0)])[0]
    assert outcome.reason == "ValueError: bad luck" and not outcome.stops_all

    def full(self, path: Path) -> None:
        raise UserError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(cluster, "trace_cell", lambda plan, cell: CellTrace.empty(2))
    monkeypatch.setattr(CellTrace, "save", full)
    outcome = cluster.trace_group(FakePlan(), [(0, 0)])[0]
    assert outcome.stops_all and "No space left" in outcome.reason


@pytest.mark.parametrize("name, device", [(3, 1), ("gpu-0", 0), ("gpu-5", 1), ("gpu", None)])
def test_each_worker_takes_a_gpu_of_its_own(monkeypatch, name, device) -> None:
    taken = []
    monkeypatch.setattr(cluster, "get_worker", lambda: SimpleNamespace(name=name))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    cluster._take_own_device()
    assert taken == ([] if device is None else [device])


def test_a_corrupt_part_of_the_image_fails_its_cells_and_the_rest_is_delivered(traced, photo, tmp_path, capsys):
    import zarr

    store = tmp_path / "eye.zarr"
    pixels = retina()[500:940, 300:740, 1]
    array = zarr.create_array(str(store), shape=(440, 440), chunks=(110, 110), dtype="u1")
    array[:] = pixels
    chunk = sorted(file for file in (store / "c").rglob("*") if file.is_file())[-1]
    chunk.write_bytes(b"broken")
    assert script(store, tmp_path / "out", "--workers", "1", "--white", "0") == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: cell at y ")]
    assert errors and all("broken or not complete" in line for line in errors)
    assert all("; chunk 3/3 of level 0" in line for line in errors)
    assert "eye.swc: " in captured.out and len(read_swc(tmp_path / "out" / "eye.swc")) > 50
    assert len(json.loads((tmp_path / "out" / "run.json").read_text())["failed_cells"]) == len(errors)
