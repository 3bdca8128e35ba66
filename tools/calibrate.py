"""Choose the thresholds of a weight file on images held out of its training, and write them into it.

    python -m tools.calibrate --weights runs/drive/last.safetensors --data data/DRIVE --out weights/DRIVE.safetensors

What an output of the network is worth depends on the run: a threshold belongs to the weights it was chosen for. Tried
is every combination below, then what lies around the best until nothing there is better; taken is the one with the
best mean of SSD-F1 and L-F1 over the held-out images, and over ``--seen_images`` of the others where the held-out ones
are too few to stand for all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from lib.errors import UserError
from lib.swclib import SwcForest, rescale, translate
from lib.swclib.metrics import mean_row, position_error, score
from models.checkpoint import load_weights, save_weights
from tools.cli import parse, run
from tools.data.prepared import PreparedDataset
from tools.data.training_image import TrainingImage
from tools.tracing.by_dimension import DIMENSIONS
from tools.tracing.cleanup.pipeline import CleanupSettings, clean_up
from tools.tracing.growth.tracer import Tracer
from tools.tracing.job import TraceJob
from tools.tracing.settings import cleanup_settings

STOPS = (0.2, 0.3)
SEEDS = (0.4, 0.5)
MOVES = ((-0.1, 0.0), (0.1, 0.0), (0.0, -0.1), (0.0, 0.1))
"""What is tried around the best pair of a probability to start and one to go on: a best on the edge of a grid is none."""
SPURS = (10.0, 20.0)
SURES = (0.3, 0.5)
DIM = 0.7
"""Each image is also traced this much darker: thresholds shall hold in another light than that of a few images."""
SHIFTS = np.round(np.arange(-0.8, 0.81, 0.05), 2)
"""Image pixels. Golds made by thinning masks lean to one side wherever a tube is an even number of pixels wide."""
SHOWN = ("SSD_F1", "L_F1", "PE", "PE_matched_fraction", "JE", "ABL", "coverage")


@dataclass(frozen=True)
class CalibrateOptions:
    """Choose thresholds on held-out images and write them into a weight file."""

    weights: Path
    """Weight file of a training run."""
    data: Path
    """The prepared folder it was trained on."""
    out: Path
    """Weight file to write: the same weights, with thresholds and what they score."""
    views: int = 4
    """Mirrored views averaged for the centerline map."""
    adapt: float = 0.5
    """Share of each image's own statistics in the batch norms."""
    crossings: Literal["joined", "apart"] = "joined"
    """What traces are to do with branches that cross: a matter of what is traced, not of the network."""
    seen_images: int = 0
    """Images of those trained on that count beside the held-out ones: for a network that does no better on them than on
    new ones, where what is held out is unlike the rest. The scores written are of held-out images only."""
    shift_images: int = 3
    """Further images, of those trained on, for the shift of the golds: a matter of the golds, not of the network."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""


@dataclass(frozen=True)
class Trial:
    """One combination of thresholds, and the trace of each image with it, in work pixels."""

    thresholds: dict[str, float]
    forests: list[SwcForest]


@dataclass(frozen=True)
class Grown:
    """A trace before it is clean_up: the forest, the probabilities ``(*S,)`` it grew on, and the size of a pixel."""

    forest: SwcForest
    centerline: np.ndarray
    spacing: tuple[float, ...] | None


def main(argv: list[str] | None = None) -> None:
    """Parse, calibrate, write, and say what was chosen."""
    options = parse(CalibrateOptions, argv, description=__doc__)
    net, header = load_weights(options.weights)
    prepared = PreparedDataset.load(options.data)
    held = list(header.training.get("hold_out", ()))
    if missing := [name for name in held if name not in prepared.images] or not held:
        raise UserError(f"{options.data}: does not hold the images held out in training ({missing or 'none'})")
    others = [name for name in prepared.images if name not in held]
    seen = spread(others, options.seen_images)
    training_images = prepared.training_images(options.data, [*held, *seen])
    job = trace_job(options, header.ndim)
    lit = in_two_lights(training_images)
    best, scores = best_thresholds(job, lit, header.scale)
    # The traces in full light come first.
    forests = best.forests[: len(training_images)]
    further = prepared.training_images(
        options.data, [name for name in others if name not in seen][: options.shift_images]
    )
    further_forests = list(traced(job, further, best.thresholds))
    shift = best_shift([*zip([*training_images, *further], [*forests, *further_forests], strict=True)], header.scale)
    held_out = mean_scores(forests[: len(held)], training_images[: len(held)], header.scale, shift)
    manner = {"views": options.views, "adapt": options.adapt, "apart": float(options.crossings == "apart")}
    thresholds = best.thresholds | manner | {"swc_shift": shift}
    print(f"chosen on {', '.join([*held, *seen])}: {thresholds}\nin both lights, before the shift: {scores}")
    print(f"held out, {', '.join(held)}: {held_out}")
    metrics = dict(header.metrics) | {"held_out": {"images": held, **held_out}, "chosen_on": [*held, *seen]}
    save_weights(options.out, net, replace(header, thresholds=thresholds, metrics=metrics))
    print(f"written: {options.out}")


def trace_job(options: CalibrateOptions, ndim: int) -> TraceJob:
    """The job that traces with these weights, so that thresholds are chosen on what a user gets."""
    kind = DIMENSIONS[ndim]
    given = {name: getattr(options, name) for name in ("views", "adapt", "crossings", "threads")}
    return kind.build(kind.run(weights=options.weights, images=options.data, out=options.out, **given))


def spread(names: Sequence[str], count: int) -> list[str]:
    """So many of the names, or all, at even distances."""
    places = np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)
    return [names[place] for place in places]


def in_two_lights(training_images: Sequence[TrainingImage]) -> list[TrainingImage]:
    """The training_images, and after them the same, dimmed."""
    return [
        *training_images,
        *(
            replace(training_image, pixels=(training_image.pixels * DIM).astype(np.uint8))
            for training_image in training_images
        ),
    ]


def best_thresholds(
    job: TraceJob, training_images: Sequence[TrainingImage], scale: float
) -> tuple[Trial, dict[str, float]]:
    """The best trial and its scores: of the grid, and of what lies around the best until nothing there is better."""
    tried: set[tuple[float, float]] = set()
    fresh, best = valid(itertools.product(SEEDS, STOPS)), None
    while fresh:
        tried |= fresh
        found = best_trial(trials(job, training_images, sorted(fresh)), training_images, scale)
        best = found if best is None else max(best, found, key=merit)
        seed, stop = best[0].thresholds["seed"], best[0].thresholds["stop"]
        fresh = valid((seed + up, stop + on) for up, on in MOVES) - tried
    if best is None:
        raise ValueError("no probability to go on lies 0.1 below one to start")
    return best


def valid(pairs: Iterable[tuple[float, float]]) -> set[tuple[float, float]]:
    """Those of the pairs (probability to start, probability to go on) that a trace can use, to two decimals."""
    rounded = {(round(seed, 2), round(stop, 2)) for seed, stop in pairs}
    return {(seed, stop) for seed, stop in rounded if 0 < stop <= seed - 0.09 and seed < 1}


def trials(
    job: TraceJob, training_images: Sequence[TrainingImage], pairs: Sequence[tuple[float, float]]
) -> Iterator[Trial]:
    """Every combination of thresholds; each image is encoded once, and traced once for each of the ``pairs``."""
    results: dict[tuple[float, float], list[Grown]] = {pair: [] for pair in pairs}
    for training_image in tqdm(training_images, unit="image"):
        centerline = job.tracer.predictor.set_image(training_image.pixels / np.float32(255))
        for seed, stop in pairs:
            forest = tracer(job, training_image, seed, stop).grow(centerline).forest
            results[seed, stop].append(Grown(forest, centerline, sizes(training_image)))
    for (seed, stop), grown in results.items():
        for spur, sure in itertools.product(SPURS, SURES):
            thresholds = {"seed": seed, "stop": stop, "gap": CleanupSettings.gap, "spur": spur, "sure": sure}
            yield Trial(thresholds, [tidied(job, each, thresholds) for each in grown])


def traced(
    job: TraceJob, training_images: Sequence[TrainingImage], thresholds: dict[str, float]
) -> Iterator[SwcForest]:
    """Traces of images with given thresholds, in work pixels."""
    for training_image in training_images:
        result = tracer(job, training_image, thresholds["seed"], thresholds["stop"]).trace(
            training_image.pixels / np.float32(255)
        )
        yield tidied(job, Grown(result.forest, result.centerline, sizes(training_image)), thresholds)


def tracer(job: TraceJob, training_image: TrainingImage, seed: float, stop: float) -> Tracer:
    """The job's tracer with other thresholds, for the pixels of a training_image."""
    options = replace(job.options, seed_threshold=seed, stop_threshold=stop)
    tracer = Tracer(job.tracer.predictor, job.spec.settings(options))
    return tracer if sizes(training_image) is None else tracer.spaced(sizes(training_image))


def sizes(training_image: TrainingImage) -> tuple[float, ...] | None:
    """Size of a pixel along each axis, in units of the finest; None where they are the same."""
    return training_image.walks.shape.spacing or None


def tidied(job: TraceJob, grown: Grown, thresholds: dict[str, float]) -> SwcForest:
    """A trace clean_up as the job does it, with given thresholds."""
    chosen = {name: thresholds[name] for name in ("gap", "spur", "sure")}
    options = replace(job.options, stop_threshold=thresholds["stop"], **chosen)
    return clean_up(grown.forest, grown.centerline, cleanup_settings(options), spacing=grown.spacing)


def mean_scores(
    forests: Sequence[SwcForest], training_images: Sequence[TrainingImage], scale: float, shift: float = 0.0
) -> dict[str, float | None]:
    """Mean scores of traces against the golds, both in image pixels, the traces moved by ``shift``."""
    pairs = in_image_pixels(forests, training_images, scale, shift)
    means = mean_row([score(gold, test).row() for gold, test in pairs])
    return {name: None if means[name] is None else round(means[name], 4) for name in SHOWN}


def in_image_pixels(
    forests: Sequence[SwcForest], training_images: Sequence[TrainingImage], scale: float, shift: float
) -> Iterator[tuple[SwcForest, SwcForest]]:
    """Gold and trace of each training_image, the trace moved by ``shift``."""
    for forest, training_image in zip(forests, training_images, strict=True):
        gold, test = (rescale(tree, (1 / scale,) * len(training_image.shape)) for tree in (training_image.tree, forest))
        yield gold, translate(test, (shift, shift))


def best_trial(
    candidates: Iterator[Trial], training_images: Sequence[TrainingImage], scale: float
) -> tuple[Trial, dict[str, float]]:
    """The trial with the best mean of SSD-F1 and L-F1, and its scores."""
    return max(((trial, mean_scores(trial.forests, training_images, scale)) for trial in candidates), key=merit)


def merit(scored: tuple[Trial, dict[str, float]]) -> float:
    """What the best trial has the most of."""
    return scored[1]["SSD_F1"] + scored[1]["L_F1"]


def best_shift(pairs: Sequence[tuple[TrainingImage, SwcForest]], scale: float) -> float:
    """The shift of both axes, in image pixels, at which traces lie nearest to the nodes of the golds (PE), or 0."""
    training_images, forests = zip(*pairs, strict=True)
    found = {}
    for shift in map(float, SHIFTS):
        errors = [position_error(*pair).value for pair in in_image_pixels(forests, training_images, scale, shift)]
        if errors := [error for error in errors if error is not None]:
            found[shift] = round(float(np.mean(errors)), 4)
    return min(found, key=found.__getitem__, default=0.0)


if __name__ == "__main__":
    run(main)
