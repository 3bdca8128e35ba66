"""What the edge head, its connectivity loss and the geodesic search add, on images held out of training.

    python -m benchmarks.ablation --data data/DRIVE --config configs/DRIVE_ablation.yaml --out out/ablation --seeds 3

Trains each variant below once for every seed, on the same batches, and traces the held-out images with the thresholds
that are best for it on a few images trained on: what an output is worth differs from run to run. Runs that are finished
in ``--out`` are used again, others go on where they stopped. Printed are means over the seeds, and the standard
deviations between them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import train_2D
import train_3D
from configs.options import TrainOptions, TrainOptions3D
from lib.swclib.metrics import Row, mean_row
from tools.calibrate import best_thresholds, in_image_pixels, spread, traced
from tools.cli import parse
from tools.data.prepared import PreparedDataset
from tools.data.training_image import TrainingImage
from tools.tables.scores import scored
from tools.tracing.by_dimension import DIMENSIONS
from tools.tracing.job import TraceJob
from tools.training.run import train_run
from tools.training.trainer import LAST_FILE

CHOOSING = 3
"""Images trained on by which the thresholds are chosen."""
SHOWN = ("SSD_F1", "L_F1", "JE_closed", "paths_F1_closed", "breaks_closed", "false_merges_closed", "ABL", "coverage")
TRAINERS = {2: (TrainOptions, train_2D.SPEC), 3: (TrainOptions3D, train_3D.SPEC)}


@dataclass(frozen=True)
class Variant:
    """A row of the table: which network, traced how."""

    name: str
    run: str
    training: Mapping[str, Any]
    method: str = "gds"


VARIANTS = (
    Variant("full", "full", {}),
    Variant("no GDS: the brightest node", "full", {}, "brightest"),
    Variant("no L_conn", "no_connectivity", {"connectivity_weight": 0.0}),
    Variant("no edge head", "no_edge", {"connectivity_weight": 0.0, "edge_weight": 0.0}, "brightest"),
)


def main() -> None:
    """Train, trace, score, and print a table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    prepared = PreparedDataset.load(given.data)
    ndim = len(prepared.patch_size)
    kind, trainer = TRAINERS[ndim]
    options = parse(kind, ["--config", str(given.config)], description=__doc__)
    options = replace(options, data=given.data, threads=given.threads)
    training_images = prepared.training_images(given.data, options.hold_out)
    others = [name for name in prepared.images if name not in options.hold_out]
    seen = prepared.training_images(given.data, spread(others, CHOOSING))
    rows: dict[str, list[Row]] = {variant.name: [] for variant in VARIANTS}
    for seed in range(given.seeds):
        for variant in VARIANTS:
            run = given.out / f"{variant.run}_{seed}"
            train_run(replace(options, run=run, seed=seed, resume=True, **variant.training), trainer)
            traced_with = {"weights": run / LAST_FILE, "method": variant.method, "threads": given.threads}
            job = DIMENSIONS[ndim].build(DIMENSIONS[ndim].options(images=given.data, out=run, **traced_with))
            best, _ = best_thresholds(job, seen, prepared.scale)
            rows[variant.name].append(mean_row(list(scores(job, training_images, best.thresholds))))
            print(f"seed {seed}, {variant.name}: {cells([rows[variant.name][-1]])}, {best.thresholds}", flush=True)
    print(f"\n| | {' | '.join(SHOWN)} |\n| --- |{' --- |' * len(SHOWN)}")
    for name, means in rows.items():
        print(f"| {name} | {cells(means)} |")


def scores(job: TraceJob, training_images: list[TrainingImage], thresholds: dict[str, float]) -> Iterator[Row]:
    """Every metric of each held-out image, in image pixels."""
    forests = list(traced(job, training_images, thresholds))
    for gold, test in in_image_pixels(forests, training_images, job.header.scale, 0.0):
        yield scored(gold, test)


def cells(means: list[Row]) -> str:
    """Mean and standard deviation of each shown number over runs."""
    columns = (np.array([row[name] for row in means], float) for name in SHOWN)
    return " | ".join(f"{column.mean():.3f} ± {column.std():.3f}" for column in columns)


if __name__ == "__main__":
    main()
