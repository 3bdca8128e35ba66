"""Choose the thresholds of a weight file and fit its confidence on images held out of its training.

    python -m tools.calibrate --weights runs/drive/last.safetensors --data data/DRIVE --out weights/DRIVE.safetensors

The best thresholds differ between training runs, so each weight file has its own. Every combination of the values below
is tried, then the neighbours of the best until none is better. The best combination has the highest mean of SSD-F1 and
L-F1 on the held-out images, and on ``--seen_images`` training images where the held-out ones are too few. The model of
the confidence (:mod:`tools.confidence`) is fitted to the traces that the best thresholds give on the held-out images.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from tqdm import tqdm

from configs.options import Crossings
from lib.errors import UserError
from lib.klib.contrast import without_local_contrast
from lib.klib.decoded import BRIGHT
from lib.klib.spaces import Spaces
from lib.swclib import SwcForest, SwcSpace, rescale, translate
from lib.swclib.metrics import mean_row, position_error, score
from models.checkpoint import WeightsHeader, load_weights, save_weights
from tools.cli import parse, run
from tools.confidence.fitting import fitted, judged
from tools.confidence.model import ConfidenceModel
from tools.data.prepared import PreparedDataset
from tools.data.training_image import TrainingImage
from tools.tracing.by_dimension import DIMENSIONS
from tools.tracing.cleanup.pipeline import CleanupSettings, clean_up
from tools.tracing.growth.tracer import Tracer
from tools.tracing.job import Prepared, TraceJob
from tools.tracing.scale import tube_widths, weighted_quantiles
from tools.tracing.settings import cleanup_settings

STOPS = (0.2, 0.3)
"""First values of the probability at which traces stop."""
SEEDS = (0.4, 0.5)
"""First values of the probability at which traces start."""
MOVES = ((-0.1, 0.0), (0.1, 0.0), (0.0, -0.1), (0.0, 0.1))
"""Steps (start, stop) from the best pair to its neighbours, so that the best does not lie at the edge of the grid."""
SPURS = (10.0, 20.0)
"""Lengths of spurs, in work pixels."""
SURES = (0.3, 0.5)
"""Mean probabilities above which short isolated trees are kept."""
DIM = 0.7
"""Brightness of the second copy of each image, so that the thresholds also hold in another light."""
SHIFTS = np.round(np.arange(-0.8, 0.81, 0.05), 2)
"""Image pixels. Gold trees made by thinning a mask lie to one side of tubes that are an even number of pixels wide."""
SHOWN = ("SSD_F1", "L_F1", "PE", "PE_matched_fraction", "JE", "ABL", "coverage")


@dataclass(frozen=True)
class CalibrateOptions:
    """Choose the thresholds of a weight file on images held out of its training."""

    weights: Path
    """Weight file of a training run."""
    data: Path
    """Prepared folder that the network was trained on."""
    out: Path
    """Weight file to write: the same weights, with thresholds and scores."""
    views: int = 4
    """Number of mirrored copies of the image over which the centerline map is averaged."""
    adapt: float | None = None
    """Share, 0 to 1, of each image's own statistics in the batch norms. Without it 0.5; 0 for volumes and for weights
    that see local contrast, which makes up for light."""
    crossings: Crossings = "joined"
    """Branches that cross, as in --mode test. Stored in the weight file."""
    soma: float = 0.0
    """Least radius of the body of a cell, as in --mode test. Stored in the weight file."""
    seen_images: int = 0
    """Number of training images that count beside the held-out ones when thresholds are chosen, for datasets with few
    or unusual held-out images. The scores in the weight file are of held-out images only."""
    shift_images: int = 3
    """Number of further training images used to measure how far gold trees lie beside the middle of their tubes."""
    metres: float = 0.0
    """Metres on the ground that a pixel of the training images spans, before --scale. Georeferenced images of other
    sizes are then brought to that scale. 0: not known, or no images of the ground. Stored in the weight file."""
    confidence_only: bool = False
    """Keep the thresholds and scores of the weight file, and fit its confidence alone."""
    threads: int = 0
    """Number of CPU threads; 0 lets PyTorch choose."""


@dataclass(frozen=True)
class Trial:
    """A combination of thresholds and the traces that it gives, one per image, in work pixels."""

    thresholds: dict[str, float]
    forests: list[SwcForest]


@dataclass(frozen=True)
class Grown:
    """A trace before clean-up.

    Attributes
    ----------
    forest
        The trace, in work pixels.
    centerline
        ``(*S,)`` centerline probability.
    kinds
        ``(kinds, *S)`` probabilities of the kinds of tube; None if the network does not tell them apart.
    spacing
        ``(ndim,)`` pixel size in units of the smallest; None if it is the same along all axes.
    """

    forest: SwcForest
    centerline: np.ndarray
    kinds: np.ndarray | None
    spacing: tuple[float, ...] | None


Scored = tuple[Trial, dict[str, float | None]]
"""A trial and its mean scores."""


def main(argv: list[str] | None = None) -> None:
    """Choose thresholds, write the weight file and report the scores on stdout."""
    options = parse(CalibrateOptions, argv, description=__doc__)
    net, header = load_weights(options.weights)
    prepared = PreparedDataset.load(options.data)
    prepared.check_local_contrast(options.weights, header.local_contrast)
    options = with_adapt(options, header)
    held = header.held_out
    if missing := [name for name in held if name not in prepared.images] or not held:
        raise UserError(f"{options.data}: does not hold the images held out in training ({missing or 'none'})")
    trained = [name for name in prepared.images if name not in held]
    seen = spread(trained, options.seen_images)
    images = prepared.training_images(options.data, [*held, *seen])
    if not options.confidence_only:
        unused = [name for name in trained if name not in seen][: options.shift_images]
        header = with_thresholds(options, header, images, prepared.training_images(options.data, unused), len(held))
    save_weights(options.out, net, replace(header, confidence={}))  # one that does not load must not stand in the way
    model = fitted_confidence(options, images[: len(held)], header)
    save_weights(options.out, net, replace(header, confidence=model.as_json()))
    sys.stdout.write(f"written: {options.out}\n")


def with_adapt(options: CalibrateOptions, header: WeightsHeader) -> CalibrateOptions:
    """The options with ``--adapt``, which suits the weights if it is not given."""
    suits = 0.0 if header.ndim == 3 or header.local_contrast else 0.5
    return replace(options, adapt=suits if options.adapt is None else options.adapt)


def with_thresholds(
    options: CalibrateOptions,
    header: WeightsHeader,
    images: Sequence[TrainingImage],
    further: Sequence[TrainingImage],
    held: int,
) -> WeightsHeader:
    """The header with the best thresholds, the scores of the held-out images, and what images are like.

    Parameters
    ----------
    images
        Images on which the thresholds are chosen; the first ``held`` were held out of the training.
    further
        More images for the shift.
    """
    job = trace_job(options, header.ndim)
    names = [image.name for image in images]
    chosen_on = f"held out: {', '.join(names[:held])}; trained on: {', '.join(names[held:]) or 'none'}"
    sys.stderr.write(f"{chosen_on}; each as it is and at {DIM} of its brightness\n")
    best, scores = best_thresholds(job, with_dimmed(images))
    # The traces of the undimmed images come first.
    forests = best.forests[: len(images)]
    further_forests = list(traced(job, tqdm(further, "further images, for the shift", unit="image"), best.thresholds))
    shift = best_shift([*zip([*images, *further], [*forests, *further_forests], strict=True)])
    held_out = mean_scores(forests[:held], images[:held], shift)
    fixed = {
        "views": options.views,
        "adapt": options.adapt,
        "apart": float(get_args(Crossings).index(options.crossings)),
        "soma": options.soma,
    }
    thresholds = best.thresholds | fixed | {"swc_shift": shift}
    sys.stdout.write(
        f"chosen on {', '.join(names)}: {listed(thresholds)}\n"
        f"scores with all copies, before the shift: {listed(scores)}\n"
        f"scores on the held-out images {', '.join(names[:held])}: {listed(held_out)}\n"
    )
    metrics = dict(header.metrics) | {"held_out": {"images": names[:held], **held_out}, "chosen_on": names}
    seen = appearance(job, [*images, *further]) | ({"metres": options.metres} if options.metres else {})
    return replace(header, thresholds=thresholds, metrics=metrics, seen=seen)


def fitted_confidence(
    options: CalibrateOptions, images: Sequence[TrainingImage], header: WeightsHeader
) -> ConfidenceModel:
    """The confidence model that fits the traces of held-out images and their gold trees.

    Not of dimmed copies: with them, the confidence of images as they are was less right (docs/experiments.md). The
    weights with their thresholds are read from ``options.out``.
    """
    kind = DIMENSIONS[header.ndim]
    # The images are in work pixels already.
    given = {"scale": 1.0, "field": "whole", "threads": options.threads}
    job = kind.build(kind.run(weights=options.out, images=options.data, out=options.out, **given))
    found = []
    for image in tqdm(images, "fitting the confidence", unit="image"):
        trace = job.trace(without_local_contrast(image.pixels) / np.float32(255), spacing=sizes(image))
        shift = -header.thresholds.get("swc_shift", 0.0) * image.source.scale
        found.append(judged(trace, translate(image.tree, (shift, shift)), pixel=image.source.scale))
    return fitted(found)


def appearance(job: TraceJob, images: Sequence[TrainingImage]) -> dict[str, float]:
    """What images are like, see ``seen`` of :class:`~models.checkpoint.WeightsHeader`: the median over them."""
    widths, bright = [], []
    for image in tqdm(images, "widths of the tubes", unit="image"):
        pixels, spaces = image.pixels / np.float32(255), Spaces.scaled(image.shape, 1.0)
        photograph = without_local_contrast(pixels)
        bright.append(float(np.percentile(photograph, BRIGHT[job.spec.ndim])))
        prepared = Prepared(pixels, photograph, spaces, sizes(image), None, job.tracer, SwcSpace(), None)
        forest, width = tube_widths(job, prepared)
        if len(forest):
            widths.append(weighted_quantiles(forest, width, (0.1, 0.5, 0.9)))
    known = {"bright": round(float(np.median(bright)), 3)}
    if widths:
        known |= zip(("narrow", "width", "wide"), np.median(widths, axis=0).round(2).tolist(), strict=True)
    return known


def listed(values: Mapping[str, float | None]) -> str:
    """Names and values in one line; – where a value is not known."""
    return ", ".join(f"{name} {'–' if value is None else format(value, 'g')}" for name, value in values.items())


def trace_job(options: CalibrateOptions, ndim: int) -> TraceJob:
    """The trace job of the weight file, the same that users run."""
    kind = DIMENSIONS[ndim]
    given = {name: getattr(options, name) for name in ("views", "adapt", "crossings", "soma", "threads")}
    return kind.build(kind.run(weights=options.weights, images=options.data, out=options.out, **given))


def spread(names: Sequence[str], count: int) -> list[str]:
    """``count`` of the names, or all if there are fewer, evenly spaced."""
    places = np.linspace(0, len(names) - 1, min(count, len(names))).round()
    return [names[int(place)] for place in places]


def with_dimmed(images: Sequence[TrainingImage]) -> list[TrainingImage]:
    """The images, followed by a copy of each at :data:`DIM` of its brightness, of which local contrast is the same."""
    copies = [replace(image, pixels=image.pixels.copy()) for image in images]
    for image in copies:
        photograph = without_local_contrast(image.pixels)
        photograph[:] = photograph * DIM
    return [*images, *copies]


def best_thresholds(job: TraceJob, images: Sequence[TrainingImage]) -> Scored:
    """Search for the best thresholds: on the grid first, then around the best until no neighbour is better.

    Parameters
    ----------
    job
        The trace job.
    images
        Images to trace and score.

    Returns
    -------
    trial, scores
        The best trial and its mean scores.

    Raises
    ------
    ValueError
        If no pair of :data:`SEEDS` and :data:`STOPS` is valid.
    """
    tried: set[tuple[float, float]] = set()
    fresh, best = valid(itertools.product(SEEDS, STOPS)), None
    while fresh:
        tried |= fresh
        found = best_trial(trials(job, images, sorted(fresh)), images)
        best = found if best is None else max(best, found, key=merit)
        seed, stop = best[0].thresholds["seed"], best[0].thresholds["stop"]
        fresh = valid((seed + up, stop + on) for up, on in MOVES) - tried
    if best is None:
        raise ValueError("no stop threshold is at least 0.1 below a seed threshold")
    return best


def valid(pairs: Iterable[tuple[float, float]]) -> set[tuple[float, float]]:
    """The usable pairs (start, stop), rounded to two decimals: stop is at least 0.1 below start."""
    rounded = {(round(seed, 2), round(stop, 2)) for seed, stop in pairs}
    return {(seed, stop) for seed, stop in rounded if 0 < stop <= seed - 0.09 and seed < 1}


def trials(job: TraceJob, images: Sequence[TrainingImage], pairs: Sequence[tuple[float, float]]) -> Iterator[Trial]:
    """Trace with each of the ``pairs`` (start, stop), and clean up with all combinations of the other thresholds.

    Each image is encoded only once.
    """
    results: dict[tuple[float, float], list[Grown]] = {pair: [] for pair in pairs}
    for image in (bar := tqdm(images, unit="image")):
        bar.set_description_str(f"tracing {image.name} with {len(pairs)} pairs of thresholds")
        encoded = job.predictor.encode(image.pixels / np.float32(255))
        for seed, stop in pairs:
            forest = tracer(job, image, seed, stop).grow(encoded).forest
            results[seed, stop].append(Grown(forest, encoded.centerline, encoded.kinds, sizes(image)))
    combinations = [*itertools.product(pairs, SPURS, SURES)]
    for (seed, stop), spur, sure in tqdm(combinations, "cleaning up and scoring", unit="combination"):
        thresholds = {"seed": seed, "stop": stop, "gap": CleanupSettings.gap, "spur": spur, "sure": sure}
        yield Trial(thresholds, [cleaned(job, each, thresholds) for each in results[seed, stop]])


def traced(job: TraceJob, images: Iterable[TrainingImage], thresholds: dict[str, float]) -> Iterator[SwcForest]:
    """Traces of images with the given thresholds, in work pixels."""
    for image in images:
        result = tracer(job, image, thresholds["seed"], thresholds["stop"]).trace(image.pixels / np.float32(255))
        yield cleaned(job, Grown(result.forest, result.centerline, result.kinds, sizes(image)), thresholds)


def tracer(job: TraceJob, image: TrainingImage, seed: float, stop: float) -> Tracer:
    """The job's tracer with other thresholds, for the pixel spacing of an image."""
    options = replace(job.options, seed_threshold=seed, stop_threshold=stop)
    tracer, spacing = Tracer(job.predictor, job.spec.settings(options)), sizes(image)
    return tracer if spacing is None else tracer.with_spacing(spacing)


def sizes(image: TrainingImage) -> tuple[float, ...] | None:
    """``(ndim,)`` pixel size in units of the smallest; None if it is the same along all axes."""
    return image.walks.shape.spacing or None


def cleaned(job: TraceJob, grown: Grown, thresholds: dict[str, float]) -> SwcForest:
    """A trace after the job's clean-up with the given thresholds."""
    chosen = {name: thresholds[name] for name in ("gap", "spur", "sure")}
    options = replace(job.options, stop_threshold=thresholds["stop"], **chosen)
    settings = cleanup_settings(options)
    return clean_up(grown.forest, grown.centerline, settings, spacing=grown.spacing, kinds=grown.kinds)


def mean_scores(
    forests: Sequence[SwcForest], images: Sequence[TrainingImage], shift: float = 0.0
) -> dict[str, float | None]:
    """Mean scores of traces against the gold trees, in image pixels, after moving the traces by ``shift``."""
    pairs = in_image_pixels(forests, images, shift)
    means = mean_row([score(gold, test).row() for gold, test in pairs])
    return {name: None if (mean := means[name]) is None else round(mean, 4) for name in SHOWN}


def in_image_pixels(
    forests: Sequence[SwcForest], images: Sequence[TrainingImage], shift: float
) -> Iterator[tuple[SwcForest, SwcForest]]:
    """Gold tree and trace of each image, in image pixels, the trace moved by ``shift`` in x and y."""
    for forest, image in zip(forests, images, strict=True):
        gold, test = (rescale(tree, (1 / image.source.scale,) * len(image.shape)) for tree in (image.tree, forest))
        yield gold, translate(test, (shift, shift))


def best_trial(candidates: Iterable[Trial], images: Sequence[TrainingImage]) -> Scored:
    """The trial with the best mean of SSD-F1 and L-F1, and its scores."""
    return max(((trial, mean_scores(trial.forests, images)) for trial in candidates), key=merit)


def merit(scored: Scored) -> float:
    """Sum of SSD-F1 and L-F1, by which trials are compared."""
    return sum(scored[1][name] or 0.0 for name in ("SSD_F1", "L_F1"))


def best_shift(pairs: Sequence[tuple[TrainingImage, SwcForest]]) -> float:
    """Shift in x and y, in image pixels, that brings traces nearest to the nodes of the gold trees (PE); 0 if unknown.

    Parameters
    ----------
    pairs
        Images with their traces, in work pixels.
    """
    images, forests = zip(*pairs, strict=True)
    found = {}
    for shift in map(float, SHIFTS):
        errors = [position_error(*pair).value for pair in in_image_pixels(forests, images, shift)]
        if errors := [error for error in errors if error is not None]:
            found[shift] = round(float(np.mean(errors)), 4)
    return min(found, key=found.__getitem__, default=0.0)


if __name__ == "__main__":
    run(main)
