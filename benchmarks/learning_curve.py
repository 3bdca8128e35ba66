"""Draw the score on held-out images over the core-hours of a training.

    python prepare_datasets_2D.py --dataset CHASEDB1 --data_root $DATASETS --out data/CHASEDB1
    python -m benchmarks.learning_curve --data data/CHASEDB1 --config configs/CHASEDB1_cpu.yaml --run runs/curve

Trains, and at the end of every epoch traces the held-out images with the weights of that moment, at the thresholds
that are best for them on a few training images. Writes ``scores.csv`` and ``curve.png`` into the run's folder.
Core-hours are CPU time of training alone. A run that was stopped goes on with the same command; the part of an epoch
before the stop is not counted.

Until the learning rate has fallen, at the end of the schedule, weights are worse than those of a run that ends there.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.crossings import CALIBRATED_ON, Variant, build_job, tuned_scores
from benchmarks.dimensions import DIMENSIONS
from lib.files import atomic_write, write_csv
from tools.calibrate import spread
from tools.cli import parse, run
from tools.data.prepared import PreparedDataset
from tools.training.run import make_trainer
from tools.training.trainer import Trainer

SCORES_FILE, CURVE_FILE = "scores.csv", "curve.png"
COLUMNS = {"SSD_F1": "SSD-F1", "L_F1": "L-F1"}
"""Scores drawn, and their names in the picture."""
SHOWN = 0.15
"""The picture begins this far below the lowest score of the last epoch: it is to show where the curve becomes flat."""


def main(argv: list[str] | None = None) -> None:
    """Train, trace, score and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="prepared folder")
    parser.add_argument("--config", type=Path, required=True, help="options of training")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--images", nargs="+", help="held-out images to score; default: all")
    parser.add_argument("--seen", nargs="+", help="training images on which thresholds are chosen; default: three")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args(argv)
    prepared = PreparedDataset.load(given.data)
    ndim = len(prepared.patch_size)
    kind = DIMENSIONS[ndim]
    options = parse(kind.train, ["--config", str(given.config)], description=__doc__)
    options = replace(options, data=given.data, run=given.run, threads=given.threads, resume=True)
    trainer = make_trainer(options, kind.train_spec)
    held = trainer.options.hold_out
    seen = given.seen or spread([name for name in prepared.images if name not in held], CALIBRATED_ON)
    scored, tuned = (prepared.training_images(given.data, names) for names in (given.images or held, seen))
    variant, rows = Variant("", crossings="joined"), read_rows(given.run / SCORES_FILE)
    for epoch in range(len(rows) + 1, options.nb_epoch + 1):
        hours = train_until(trainer, epoch) + (rows[-1]["core_hours"] if rows else 0.0)
        _, found = tuned_scores(variant, build_job(variant, given.run, ndim, given.threads), scored, tuned)
        means = {name: found[name] or 0.0 for name in COLUMNS}
        rows.append({"step": trainer.progress.step, "core_hours": hours, **means})
        write_csv(given.run / SCORES_FILE, rows)
        print(", ".join(f"{name} {value:.4g}" for name, value in rows[-1].items()), flush=True)
        draw(rows, given.run / CURVE_FILE)


def train_until(trainer: Trainer, epoch: int) -> float:
    """Train to the end of an epoch, counted from 1; returns the CPU hours that took."""
    trainer.options = replace(trainer.options, max_steps=epoch * trainer.source.steps_per_epoch)
    before = time.process_time()
    trainer.run()
    return (time.process_time() - before) / 3600


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows written so far; none without a file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def draw(rows: Sequence[dict[str, float]], path: Path) -> None:
    """Draw the scores over core-hours."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    hours, found = [row["core_hours"] for row in rows], np.array([[row[name] for name in COLUMNS] for row in rows])
    axes.plot(hours, found, marker="o", markersize=4, label=list(COLUMNS.values()))
    axes.set_xlim(0)
    axes.set_ylim(max(0.0, found[-1].min() - SHOWN), min(1.0, found.max() + SHOWN / 3))
    axes.set_xlabel("core-hours of training")
    axes.set_ylabel("mean of the held-out images")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


if __name__ == "__main__":
    run(main)
