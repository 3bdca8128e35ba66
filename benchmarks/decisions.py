"""Measure single decisions: does the node that a search picks lie on the tube that was walked?

    python -m benchmarks.decisions --data data/AV --weights RETINA_AV
    python -m benchmarks.decisions --data data/FMOST --weights out/crossings/full_0/last.safetensors

States are drawn on the gold trees of images held out of the training: anywhere, and near places where two trees cross
or touch. In each, GDS and the brightest candidate pick the next node from the same maps. A trace joins thousands of
such decisions, and the rules of the tracer and its clean-up hide most mistakes; here each counts. Prints a Markdown
table.

The gold must keep crossing trees apart: volumes, or images prepared with ``--kinds``; RETINA_AV needs those prepared
with ``--local_contrast 50``, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from benchmarks.parallel_neurites import METHODS
from lib.errors import UserError
from lib.swclib import SwcForest, rescale
from lib.swclib.nearest import EdgeSearch
from models.checkpoint import weight_file
from tools.cli import run
from tools.data.prepared import PreparedDataset
from tools.data.sampling import Kind, States
from tools.data.training_image import TrainingImage
from tools.inference.encoded_image import EncodedImage, Tips
from tools.tracing.by_dimension import DIMENSIONS
from tools.tracing.growth.gds import search_batch
from tools.tracing.job import TraceJob

WITHIN = 3.0
"""Units: a node nearer than this lies on a tube: the radii of a drawn node and a drawn tube (docs/paper.md §3)."""
PLACES = ("anywhere", "near crossings")
"""Where states are drawn."""


class Outcome(IntEnum):
    """Where the picked node lies."""

    NONE = 0
    """There is no candidate."""
    RIGHT = 1
    """On the edges ahead."""
    OWN_TREE = 2
    """Elsewhere on the tree that was walked: back, or on another branch of a fork."""
    JUMP = 3
    """On another tree."""
    NOWHERE = 4
    """On no tree."""


def main(argv: list[str] | None = None) -> None:
    """Draw states, decide and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder written by a prepare script")
    parser.add_argument("--weights", nargs="+", required=True, help="weight files, or names of shipped weights")
    parser.add_argument("--images", nargs="+", help="by default those held out of the training of the weights")
    parser.add_argument("--states", type=int, default=500, help="most states of each kind in an image")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args(argv)
    prepared = PreparedDataset.load(given.data)
    spec = DIMENSIONS[len(prepared.patch_size)]
    print("| weights | states | right, GDS / brightest | jumps | right with one alone | p |")
    print(f"|{' --- |' * 6}")
    for name in given.weights:
        job = spec.build(spec.run(weight_file(name), Path(), Path(), threads=given.threads))
        prepared.check_local_contrast(job.weights, job.header.local_contrast)
        names = given.images or [each for each in job.header.held_out if each in prepared.images]
        if not names:
            raise UserError(f"{name}: none of the images of {given.data} was held out; give --images")
        images = prepared.training_images(given.data, names)
        found = [outcomes(job, image, given.states) for image in images]
        for place, of_images in zip(PLACES, zip(*found, strict=True), strict=True):
            print(f"| {name} | {row(place, np.concatenate(of_images))} |", flush=True)


def outcomes(job: TraceJob, image: TrainingImage, count: int) -> list[np.ndarray]:
    """Outcomes ``(N, 2)`` of at most ``count`` states of an image for each of :data:`PLACES`; see :func:`decided`."""
    walks, encoded = image.walks, job.predictor.encode(image.pixels / np.float32(255))
    found = []
    for sites in (walks.sites, walks.sites[walks.near_crossing[walks.sites]]):
        rng = np.random.default_rng(0)
        states = walks.states(rng, rng.choice(sites, min(count, len(sites)), replace=False))
        found.append(decided(job, encoded, states[np.flatnonzero(states.kind == Kind.WALK)], image))
    return found


def decided(job: TraceJob, encoded: EncodedImage, states: States, image: TrainingImage) -> np.ndarray:
    """Outcomes ``(N, 2)`` of the states of an image, by :data:`~benchmarks.parallel_neurites.METHODS`."""
    if not len(states):
        return np.zeros((0, len(METHODS)), dtype=int)
    node, edge, corner = job.predictor.predict(Tips(encoded, states.center, states.walked))
    tips, columns = states.center - corner, []
    for method in METHODS:
        best = search_batch(node, edge, tips, job.tracer.settings.search, use_edge=method == "gds").winners()
        picked = np.full(tips.shape, np.nan)
        picked[best.owner] = best.position + corner[best.owner]
        columns.append(judged(picked, states, image))
    return np.stack(columns, axis=1)


def judged(picked: np.ndarray, states: States, image: TrainingImage) -> np.ndarray:
    """Outcome ``(N,)`` of the nodes picked in some states, ``(N, ndim)`` work positions, NaN where there is none."""
    spacing, chosen = image.walks.spacing, np.flatnonzero(np.isfinite(picked[:, 0]))
    points = SwcForest.from_positions(picked[chosen] * spacing, np.full(len(chosen), -1)).xyz
    hits = EdgeSearch.of(rescale(image.tree, spacing.tolist())).within(points, WITHIN)
    tree = image.tree.components[image.tree.edges[:, 1]][hits.edge]
    is_own = tree == image.walks.tree[states.site[chosen]][hits.point]
    outcome = np.full(len(chosen), Outcome.NOWHERE)
    outcome[hits.point] = Outcome.JUMP
    outcome[hits.point[is_own]] = Outcome.OWN_TREE
    outcome[distances(picked[chosen], states.ahead[chosen, 0], spacing) <= WITHIN] = Outcome.RIGHT
    result = np.full(len(picked), Outcome.NONE)
    result[chosen] = outcome
    return result


def distances(points: np.ndarray, segments: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Distance ``(N,)`` in units of each point ``(N, ndim)`` to the nearest of its segments ``(N, K, 2, ndim)``."""
    begin, along = segments[:, :, 0] * spacing, np.diff(segments, axis=2)[:, :, 0] * spacing
    away = (points * spacing)[:, None] - begin
    fraction = (away * along).sum(axis=2) / np.maximum((along**2).sum(axis=2), 1e-9)
    return np.nanmin(np.linalg.norm(away - np.clip(fraction, 0, 1)[..., None] * along, axis=2), axis=1)


def row(place: str, found: np.ndarray) -> str:
    """A row of the table: the last number is the chance of so uneven a split if both methods were as good."""
    if not len(found):
        return f"0 {place} | | | |"
    right, jumps = (100 * (found == each).mean(axis=0) for each in (Outcome.RIGHT, Outcome.JUMP))
    alone = only_right(found)
    chance = binomtest(alone[0], sum(alone)).pvalue if sum(alone) else 1.0
    shares = (f"{gds:.2f} / {brightest:.2f} %" for gds, brightest in (right, jumps))
    return " | ".join([f"{len(found)} {place}", *shares, f"{alone[0]} / {alone[1]}", f"{chance:.2g}"])


def only_right(found: np.ndarray) -> Sequence[int]:
    """Number of decisions that only the first method gets right, and only the second."""
    is_right = found == Outcome.RIGHT
    return [int((is_right[:, one] & ~is_right[:, 1 - one]).sum()) for one in (0, 1)]


if __name__ == "__main__":
    run(main)
