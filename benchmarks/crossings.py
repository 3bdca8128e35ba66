"""Measure what keeps a trace in its tube: the edge head, its connectivity loss, the geodesic search, golds that cross.

    python prepare_datasets_2D.py --dataset DRIVE --also HRF LES_AV --data_root $DATASETS --kinds --margin 1 \\
        --substeps 5 --out data/AV
    python prepare_datasets_2D.py --dataset DRIVE --also HRF LES_AV --data_root $DATASETS --margin 1 --substeps 5 \\
        --out data/FORK
    python -m benchmarks.crossings --data data/AV --forking data/FORK --data_root $DATASETS \\
        --config configs/DRIVE_crossings_cpu.yaml --out out/crossings

Trains each network once for every random seed, on the same batches, and traces the held-out images. Each variant gets
the thresholds that are best for it on a few training images, because the calibration of outputs differs between runs.
Finished runs in ``--out`` are reused, and others are resumed. Prints means over the random seeds and the standard
deviations between them, as a Markdown table. Prepared volumes work as well, without ``--forking`` and ``--data_root``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.dimensions import DIMENSIONS as TRAINING
from configs.options import Crossings
from lib.errors import UserError
from lib.files import write_json
from lib.klib.image_io import find_image, read_labels
from lib.klib.kinds import kinds_to_forest
from lib.swclib import SwcForest, rescale
from lib.swclib.metrics import Row, mean_row
from lib.swclib.metrics.kinds import kind_score
from tools.calibrate import Grown, best_thresholds, cleaned, in_image_pixels, sizes, spread, tracer
from tools.cli import parse, run
from tools.data.folders import SHARED_VALUES
from tools.data.prepared import PreparedDataset
from tools.data.training_image import TrainingImage
from tools.tables.scores import score_row
from tools.tables.skeletons import Rules, skeleton, skeleton_forest
from tools.tracing.by_dimension import DIMENSIONS
from tools.tracing.job import TraceJob
from tools.training.run import train_run
from tools.training.trainer import LAST_FILE

CALIBRATED_ON = 3
"""Number of training images on which the thresholds are chosen."""
COLUMNS = ("SSD_F1", "L_F1", "JE_closed", "paths_F1_closed", "breaks_closed", "false_merges_closed", "ABL")
KIND_COLUMNS = ("kind_changes", "kind_purity", "crossings_straight", "crossings_held")


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
        ``--method`` of tracing, or ``skeleton``: the skeleton of the map.
    crossings
        ``--crossings`` of tracing.
    kinds
        Whether the clean-up may use the head that tells kinds of tube apart.
    forks
        Whether the network learns from the gold trees of ``--forking``, which fork where tubes cross.
    """

    name: str
    run: str = "full"
    training: Mapping[str, Any] = field(default_factory=dict)
    method: Literal["gds", "brightest", "skeleton"] = "gds"
    crossings: Crossings = "through"
    kinds: bool = True
    forks: bool = False


NO_CONNECTIVITY, NO_EDGE = {"connectivity_weight": 0.0}, {"connectivity_weight": 0.0, "edge_weight": 0.0}
VARIANTS = (
    Variant("full"),
    Variant("full, brightest node instead of GDS", method="brightest"),
    Variant("kinds unused", kinds=False),
    Variant("kinds unused, brightest node instead of GDS", method="brightest", kinds=False),
    Variant("kinds unused, no L_conn", "no_connectivity", NO_CONNECTIVITY, kinds=False),
    Variant("kinds unused, no edge head", "no_edge", NO_EDGE, "brightest", kinds=False),
    Variant("golds that fork", "forks", {"crossings": 0.0}, crossings="joined", forks=True),
    Variant("golds that fork, crossings split", "forks", {"crossings": 0.0}, crossings="split", forks=True),
    Variant("golds that fork, fronts go through", "forks", {"crossings": 0.0}, forks=True),
    Variant("skeleton of the map", method="skeleton", crossings="joined", kinds=False),
)


def main(argv: list[str] | None = None) -> None:
    """Train, trace, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="prepared folder whose gold trees cross")
    parser.add_argument("--forking", type=Path, help="the same images, prepared without --kinds")
    parser.add_argument("--data_root", type=Path, help="folder of the datasets, for their label images of kinds")
    parser.add_argument("--config", type=Path, required=True, help="options of training")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="the random seeds, such as 0 1 2")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args(argv)
    prepared = PreparedDataset.load(given.data)
    ndim = len(prepared.patch_size)
    options = parse(TRAINING[ndim].train, ["--config", str(given.config)], description=__doc__)
    options = replace(options, threads=given.threads)
    held_out = prepared.training_images(given.data, options.hold_out)
    others = [name for name in prepared.images if name not in options.hold_out]
    seen = prepared.training_images(given.data, spread(others, CALIBRATED_ON))
    usable = [each for each in VARIANTS if given.forking or not each.forks]
    # Where kinds are not told apart, the variants without them are the others again.
    variants = usable if prepared.kinds else distinct(usable)
    rows: dict[str, list[Row]] = {variant.name: [] for variant in variants}
    for seed in given.seeds:
        for variant in variants:
            run = given.out / f"{variant.run}_{seed}"
            data = given.forking if variant.forks else given.data
            trained = replace(options, data=data, run=run, seed=seed, resume=True, **variant.training)
            train_run(trained, TRAINING[ndim].train_spec)
            scored = run / f"{variant.name}.json"
            if not scored.is_file():
                job = build_job(variant, run, ndim, given.threads)
                thresholds, row = tuned_scores(variant, job, held_out, seen, given.data_root)
                write_json(scored, {"thresholds": thresholds, "scores": row})
            rows[variant.name].append(json.loads(scored.read_text())["scores"])
            print(f"seed {seed}, {variant.name}: {cells(rows[variant.name][-1:])}", flush=True)
    columns = shown_columns(rows[variants[0].name][0])
    print(f"\n| | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}")
    for name, means in rows.items():
        print(f"| {name} | {cells(means)} |")


def distinct(variants: list[Variant]) -> list[Variant]:
    """The first ones of those that differ in their use of kinds alone."""
    alike = [replace(variant, name="", kinds=False) for variant in variants]
    return [variant for number, variant in enumerate(variants) if alike[number] not in alike[:number]]


def build_job(variant: Variant, run: Path, ndim: int, threads: int) -> TraceJob:
    """The trace job of a variant; a skeleton has the thresholds of a trace of its network."""
    method = "gds" if variant.method == "skeleton" else variant.method
    files = (run / LAST_FILE, run, run)
    options = DIMENSIONS[ndim].run(*files, method=method, crossings=variant.crossings, threads=threads)
    return DIMENSIONS[ndim].build(options)


def tuned_scores(
    variant: Variant,
    job: TraceJob,
    images: list[TrainingImage],
    seen: list[TrainingImage],
    data_root: Path | None = None,
) -> tuple[dict[str, float], Row]:
    """The thresholds that are best on the images ``seen``, and the mean scores of ``images`` with them."""
    thresholds = best_thresholds(job, seen)[0].thresholds
    return thresholds, mean_row(list(scores(variant, job, images, thresholds, data_root)))


def scores(
    variant: Variant,
    job: TraceJob,
    images: list[TrainingImage],
    thresholds: dict[str, float],
    data_root: Path | None,
) -> Iterator[Row]:
    """All scores of each image, in image pixels; those of kinds where ``data_root`` has the label images."""
    forests = [trace(variant, job, image, thresholds) for image in images]
    for (gold, test), image in zip(in_image_pixels(forests, images, 0.0), images, strict=True):
        row = score_row(gold, test)
        if data_root:
            labels, shared = read_kinds(data_root, image)
            # Centres of pixels: (work + 0.5) / scale - 0.5.
            centred = rescale(test, 1.0, shift=(0.5 / image.source.scale - 0.5,) * 2)
            row |= kind_score(kinds_to_forest(labels, shared), centred, labels, shared).row()
        yield row


def trace(variant: Variant, job: TraceJob, image: TrainingImage, thresholds: dict[str, float]) -> SwcForest:
    """The tree of an image, in work pixels."""
    pixels = image.pixels / np.float32(255)
    if variant.method == "skeleton":
        centerline = job.predictor.encode(pixels).centerline
        rules = Rules(thresholds["stop"], thresholds["spur"], thresholds["sure"], image.walks.shape.step)
        return skeleton_forest(centerline, rules, skeleton, sizes(image))
    result = tracer(job, image, thresholds["seed"], thresholds["stop"]).trace(pixels)
    kinds = result.kinds if variant.kinds else None
    return cleaned(job, Grown(result.forest, result.centerline, kinds, sizes(image)), thresholds)


def read_kinds(data_root: Path, image: TrainingImage) -> tuple[np.ndarray, int]:
    """The label image of the kinds in a training image, and its value for several kinds.

    Raises
    ------
    UserError
        If there is none.
    """
    dataset = image.source.dataset
    folder = data_root / dataset / "training" / "av"
    path = find_image(folder, (image.name.removeprefix(f"{dataset}_"),))
    if path is None:
        raise UserError(f"{folder}: holds no label image for {image.name}; add it, or leave out --data_root")
    return read_labels(path), SHARED_VALUES["av"]


def shown_columns(row: Row) -> list[str]:
    """Columns of the table: those that a row has."""
    return [name for name in COLUMNS + KIND_COLUMNS if name in row]


def cells(means: list[Row]) -> str:
    """Mean and standard deviation of each column over runs."""
    columns = (np.array([row[name] for row in means], float) for name in shown_columns(means[0]))
    return " | ".join(f"{column.mean():.3f} ± {column.std():.3f}" for column in columns)


if __name__ == "__main__":
    run(main)
