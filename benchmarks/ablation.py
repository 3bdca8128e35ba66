"""Measure what the edge head, its connectivity loss and the geodesic search add, on held-out images.

    python -m benchmarks.ablation --data data/DRIVE --config configs/DRIVE_ablation.yaml --out out/ablation --seeds 3

Trains each variant once for every random seed, on the same batches, and traces the held-out images. Each network gets
the thresholds that are best for it on a few training images, because the calibration of outputs differs between runs.
Finished runs in ``--out`` are reused, and others are resumed. Prints means over the random seeds and the standard
deviations between them, as a Markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

import train_2D
import train_3D
from configs.options import TrainOptions, TrainOptions3D
from lib.swclib.metrics import Row, mean_row
from tools.calibrate import best_thresholds, in_image_pixels, spread, traced
from tools.cli import parse
from tools.data.prepared import PreparedDataset
from tools.data.training_image import TrainingImage
from tools.tables.scores import score_row
from tools.tracing.by_dimension import DIMENSIONS
from tools.tracing.job import TraceJob
from tools.training.run import train_run
from tools.training.trainer import LAST_FILE

CALIBRATED_ON = 3
"""Number of training images on which the thresholds are chosen."""
COLUMNS = ("SSD_F1", "L_F1", "JE_closed", "paths_F1_closed", "breaks_closed", "false_merges_closed", "ABL", "coverage")
TRAINING = {2: (TrainOptions, train_2D.SPEC), 3: (TrainOptions3D, train_3D.SPEC)}
"""Options and specification of training, by number of dimensions."""


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes
    ----------
    name
        Label of the row.
    run
        Name of the training run; variants with the same name share their network.
    training
        Options of training that differ from ``--config``.
    method
        ``--method`` of tracing.
    """

    name: str
    run: str
    training: Mapping[str, Any]
    method: Literal["gds", "brightest"] = "gds"


VARIANTS = (
    Variant("full", "full", {}),
    Variant("no GDS: the brightest node", "full", {}, "brightest"),
    Variant("no L_conn", "no_connectivity", {"connectivity_weight": 0.0}),
    Variant("no edge head", "no_edge", {"connectivity_weight": 0.0, "edge_weight": 0.0}, "brightest"),
)


def main() -> None:
    """Train, trace, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    prepared = PreparedDataset.load(given.data)
    ndim = len(prepared.patch_size)
    option_type, spec = TRAINING[ndim]
    options = parse(option_type, ["--config", str(given.config)], description=__doc__)
    options = replace(options, data=given.data, threads=given.threads)
    held_out = prepared.training_images(given.data, options.hold_out)
    others = [name for name in prepared.images if name not in options.hold_out]
    seen = prepared.training_images(given.data, spread(others, CALIBRATED_ON))
    rows: dict[str, list[Row]] = {variant.name: [] for variant in VARIANTS}
    for seed in range(given.seeds):
        for variant in VARIANTS:
            run = given.out / f"{variant.run}_{seed}"
            train_run(replace(options, run=run, seed=seed, resume=True, **variant.training), spec)
            files = (run / LAST_FILE, given.data, run)
            job = DIMENSIONS[ndim].build(DIMENSIONS[ndim].run(*files, method=variant.method, threads=given.threads))
            best, _ = best_thresholds(job, seen)
            rows[variant.name].append(mean_row(list(scores(job, held_out, best.thresholds))))
            print(f"seed {seed}, {variant.name}: {cells([rows[variant.name][-1]])}, {best.thresholds}", flush=True)
    print(f"\n| | {' | '.join(COLUMNS)} |\n| --- |{' --- |' * len(COLUMNS)}")
    for name, means in rows.items():
        print(f"| {name} | {cells(means)} |")


def scores(job: TraceJob, images: list[TrainingImage], thresholds: dict[str, float]) -> Iterator[Row]:
    """All scores of each image, in image pixels."""
    forests = list(traced(job, images, thresholds))
    for gold, test in in_image_pixels(forests, images, 0.0):
        yield score_row(gold, test)


def cells(means: list[Row]) -> str:
    """Mean and standard deviation of each column over runs."""
    columns = (np.array([row[name] for row in means], float) for name in COLUMNS)
    return " | ".join(f"{column.mean():.3f} ± {column.std():.3f}" for column in columns)


if __name__ == "__main__":
    main()
