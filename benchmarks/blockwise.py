"""Measure tracing in cells: against one piece, killed at random, on twice the volume, and the merge of many cells.

    python -m benchmarks.blockwise whole --weights FMOST --images block.ome.zarr --gold block.swc --cell 256
    python -m benchmarks.blockwise kills --weights FMOST --images block.ome.zarr --cell 128 --times 10
    python -m benchmarks.blockwise twice --weights FMOST --images block.tif --cell 128 --workers 1
    python -m benchmarks.blockwise records --count 10000000
    python -m benchmarks.blockwise forests --count 200

``whole`` traces in both ways and compares the traces, everywhere and near the faces of the cells. ``kills`` kills a
worker or the driver at random moments, starts again, and compares the bytes. ``twice`` traces a volume two and four
times over, inside one that repeats on all sides, and compares seconds and memory. ``records`` merges made cells with
that many joins. ``forests`` traces random known trees, whose maps need no network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

from lib.klib.image_io import write_tiff
from lib.klib.lazy import open_image
from lib.swclib import SwcForest, read_swc
from lib.swclib.metrics.continuity import continuity
from netracer import evaluate
from tests.tools.blockwise.forests import KnownTrees, random_forest
from tools.blockwise.cells import CellTrace
from tools.blockwise.merge import merge, shortest_joins
from tools.blockwise.seams import Seam
from tools.cli import run

NEAR = 10.0
"""Pixels around a face in which breaks and false merges are counted."""
ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("SSD_F1", "SSD_precision", "SSD_recall", "L_F1", "paths_F1", "ABL", "JE", "breaks", "false_merges")


def main(argv: list[str] | None = None) -> None:
    """Run one of the measurements and print it as JSON, a line for each."""
    measures = {each.__name__: each for each in (whole, kills, twice, records, forests)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=measures)
    parser.add_argument("--weights", default="FMOST")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--gold", type=Path)
    parser.add_argument("--cell", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--precision", default="auto")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        measures[given.what](given, Path(folder))


def say(**values: object) -> None:
    """Print a line of results."""
    print(json.dumps({name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}))
    sys.stdout.flush()


# ---- against one piece ---------------------------------------------------------------------------------------------


def command(given: argparse.Namespace, out: Path, *more: object) -> list[str]:
    """The command line of a trace."""
    ndim = 2 if is_plane(given.images) else 3
    words = [sys.executable, ROOT / f"train_{ndim}D.py", "--mode", "test", "--weights", given.weights]
    words += ["--images", given.images, "--out", out, "--precision", given.precision, *more]
    return list(map(str, words))


def is_plane(path: Path) -> bool:
    """Whether a file holds an image and not a volume."""
    try:
        open_image(path, 3)
    except Exception:
        return True
    return False


def whole(given: argparse.Namespace, folder: Path) -> None:
    """Trace in cells and in one piece, and compare."""
    ndim = 2 if is_plane(given.images) else 3
    image = open_image(given.images, ndim)
    copy = folder / "whole.tif"
    write_tiff(copy, image.read([0] * ndim, image.shape))
    spacing = [] if image.spacing is None else ["--spacing", *image.spacing]
    subprocess.run(command(given, folder / "cells", "--cell", given.cell, "--workers", given.workers), check=True)
    given.images = copy
    subprocess.run(command(given, folder / "one", "--threads", 1, "--field", "whole", *spacing), check=True)
    report = json.loads((folder / "cells" / "run.json").read_text())
    cells, one = (read_swc(next((folder / name).glob("*.swc"))) for name in ("cells", "one"))
    faces = Faces(image.shape, given.cell, report["options"]["scale"])
    gold = read_swc(given.gold) if given.gold else None
    pairs = {"cells on one": (one, cells), "one on cells": (cells, one)}
    if gold is not None:
        pairs |= {"one on gold": (gold, one), "cells on gold": (gold, cells)}
    for name, (truth, test) in pairs.items():
        row = evaluate(truth, test).row()
        say(pair=name, **{key: row[key] for key in SHOWN}, **faces.errors(truth, test))
    of_cells = list(report["seconds_of_cells"].values())
    say(seconds_of_cells=float(np.mean(of_cells)), peak_gb=report["peak_memory_gb"], merge=report["seconds_of_merge"])


class Faces:
    """The faces of the cells of an image of ``shape``, in image pixels."""

    def __init__(self, shape: Sequence[int], side: int, scale: float) -> None:
        self.at = [np.arange(side, size * scale, side) / scale - 0.5 for size in shape]

    def distance(self, xyz: np.ndarray) -> np.ndarray:
        """``(N,)`` distance of places ``(N, 3)`` to the nearest face."""
        places = xyz[:, : len(self.at)][:, ::-1]
        each = [np.abs(places[:, [axis]] - at).min(axis=1, initial=np.inf) for axis, at in enumerate(self.at)]
        return np.min(each, axis=0)

    def errors(self, truth: SwcForest, test: SwcForest) -> dict[str, float]:
        """Breaks and false merges near the faces, and the share of the truth that lies there."""
        found = continuity(truth, test)
        near = {
            name: int((self.distance(each.places) <= NEAR).sum())
            for name, each in (("breaks_near_faces", found.breaks), ("false_merges_near_faces", found.merges))
        }
        return near | {"length_near_faces": float((self.distance(truth.xyz) <= NEAR).mean())}


# ---- killed --------------------------------------------------------------------------------------------------------


def kills(given: argparse.Namespace, folder: Path) -> None:
    """Kill a worker, then the driver, at random moments; compare the bytes, and that no finished cell is done again."""
    rng, more = np.random.default_rng(0), ("--cell", given.cell)
    subprocess.run(command(given, folder / "quiet", *more, "--workers", 1), check=True)
    total, wanted = len(finished(folder / "quiet")), digest(folder / "quiet")
    subprocess.run(command(given, folder / "two", *more, "--workers", 2), check=True)
    say(workers=2, same=digest(folder / "two") == wanted)
    for number in range(given.times):
        out, victim = folder / f"run{number}", "worker" if number % 2 else "driver"
        process = subprocess.Popen(command(given, out, *more, "--workers", given.workers), start_new_session=True)
        wanted_cells = int(rng.integers(0, total))
        while process.poll() is None and len(finished(out)) < wanted_cells:
            time.sleep(0.05)
        time.sleep(float(rng.uniform(0, 2)))
        kill(process, victim)
        code = process.wait()
        done = finished(out)
        if victim == "driver":
            subprocess.run(command(given, out, *more, "--workers", given.workers), check=True)
        again = [file.name for file, at in done.items() if file.stat().st_mtime_ns != at]
        say(killed=victim, code=code, cells_before=len(done), same=digest(out) == wanted, done_again=again)
        shutil.rmtree(out)


def finished(out: Path) -> dict[Path, int]:
    """Files of the finished cells of a run, and when they were written."""
    return {file: file.stat().st_mtime_ns for file in out.glob("cells/[0-9]*.npz")}


def kill(process: subprocess.Popen, victim: str) -> None:
    """Kill a worker of a run, or all of it at once."""
    if process.poll() is not None:
        return
    children = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    for each in workers[:1] if victim == "worker" else [*children, psutil.Process(process.pid)]:
        each.send_signal(signal.SIGKILL)


def digest(out: Path) -> str:
    """What is in the SWC of a run."""
    return hashlib.sha256(next(out.glob("*.swc")).read_bytes()).hexdigest()


# ---- twice the volume ----------------------------------------------------------------------------------------------


def twice(given: argparse.Namespace, folder: Path) -> None:
    """Trace repetitions of a volume whose cells all have a halo on all sides; its sizes must be multiples of --cell."""
    image = open_image(given.images, 3)
    volume = image.read([0] * 3, image.shape)
    for times in (2, 4):
        inner = np.tile(volume, (1, 1, times))
        file, ends = folder / f"{times}.tif", [f"{given.cell}:{given.cell + size}" for size in inner.shape]
        write_tiff(file, np.pad(inner, given.cell, mode="wrap"))
        given.images = file
        more = ("--cell", given.cell, "--workers", given.workers, "--region", ",".join(ends))
        subprocess.run(command(given, folder / str(times), *more), check=True)
        report = json.loads((folder / str(times) / "run.json").read_text())
        seconds = list(report["seconds_of_cells"].values())
        say(cells=len(seconds), seconds_of_cells=float(np.mean(seconds)), peak_gb=report["peak_memory_gb"])


# ---- merge ---------------------------------------------------------------------------------------------------------


def records(given: argparse.Namespace, folder: Path) -> None:
    """Merge made cells: pieces of one node, each joined to one in the next cell, with ``--count`` joins in all."""
    of_cell = 100_000
    cells = max(2, given.count // of_cell + 1)
    place = np.random.default_rng(0).uniform(0, 1e5, (of_cell, 3))
    rows, ones, no = np.arange(of_cell), np.ones(of_cell), np.zeros(of_cell, bool)
    pairs = np.zeros((0, 2), np.int64)
    traces = [
        CellTrace(place + np.array([number, 0, 0]), ones, ones.astype(int), ones, ones, no, no, pairs, pairs)
        for number in range(cells)
    ]
    joined = [np.stack([0 * rows + at, rows, 0 * rows + at - 1, rows], axis=1) for at in range(1, cells)]
    joins = [np.zeros((0, 4), np.int64), *joined]
    seams = [Seam(np.full((of_cell, 2), -1), each) for each in joins]
    ends = np.concatenate([of_cell * each[:, [0, 2]] + each[:, [1, 3]] for each in joins])
    before, started = peak(), time.perf_counter()
    assert shortest_joins(pairs, ends, of_cell * cells).all()
    say(records=len(ends), choosing_seconds=time.perf_counter() - started, peak_gb=peak(), peak_gb_before=before)
    del ends, joined, joins
    started = time.perf_counter()
    assert len(merge(range(cells), traces, seams, np.ones(3)).forest.roots) == of_cell
    say(nodes=of_cell * cells, merging_seconds=time.perf_counter() - started, peak_gb=peak())


def peak() -> float:
    """Peak memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


# ---- known trees ---------------------------------------------------------------------------------------------------


def forests(given: argparse.Namespace, folder: Path) -> None:
    """Trace random known trees in cells and in one piece: two images for each volume."""
    total = np.zeros((2, 2), dtype=int)
    for number in range(given.count):
        shape = (80, 140, 140) if number % 3 == 2 else (200, 200)
        lines = random_forest(np.random.default_rng(number), shape, 64)
        known = KnownTrees(folder, lines, shape, sure=0.5)
        both = [evaluate(known.gold, trace).row() for trace in (known.in_one_piece(), known.in_cells(64))]
        errors = np.array([[row["breaks"] or 0, row["false_merges"] or 0] for row in both])
        total += errors
        if (errors[0] != errors[1]).any():
            say(forest=number, one=errors[0].tolist(), cells=errors[1].tolist())
    say(forests=given.count, breaks_and_false_merges_in_one_piece=total[0].tolist(), in_cells=total[1].tolist())


if __name__ == "__main__":
    run(main)
