"""Measure what confidence is worth: whether it is right, and how far answers to the review queue correct a trace.

    python -m benchmarks.proofreading --weights DRIVE --images $DATASETS/DRIVE/test/images_color \\
        --gold $DATASETS/DRIVE/test/swc --out out/proofreading/DRIVE

Traces the images. For each kind of item: the expected calibration error (ten bins of equal width), and the share of
the false items that the least certain fifth holds; ``reliability.png`` shows the bins. Then a perfect person, who knows
the gold tree, answers the queue: false branches are deleted, false joins cut, and missed pieces drawn where a trace
ends too early. Prints the mean scores after some answers, in the order of the queue, at random, and the longest first,
as a Markdown table; ``corrections.png`` draws them. ``--corrected`` writes the completely corrected traces to
``corrected/``, as SWC with coordinate 0 at the centre of the first pixel: gold trees to train on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from evaluate import find_gold
from lib.files import atomic_write, make_folder
from lib.klib.image_io import stem
from lib.swclib import SwcForest, SwcSpace, read_swc, rescale, subset, swc_files, translate, write_swc
from lib.swclib.forest import adjacency
from lib.swclib.metrics import mean_row, score
from models.checkpoint import read_header, weight_file
from tools.cli import run
from tools.confidence.evidence import TraceEvidence
from tools.confidence.fitting import judged, units
from tools.confidence.model import KINDS, Confidence
from tools.confidence.truth import BESIDE, REACH, Missed, Truth
from tools.tracing.by_dimension import DIMENSIONS
from tools.tracing.job import TraceJob
from tools.tracing.review import ReviewItem, ranked
from tools.tracing.trace import Trace

ANSWERS = (0, 10, 20, 50, 100)
"""Numbers of answers after which the traces are scored."""
ORDERS = ("gain", "random", "longest")
"""The review queue; at random, the mean over :data:`SEEDS`; what has most behind it first."""
SEEDS = (0, 1)
BINS = 10
SHOWN = ("SSD_F1", "L_F1", "paths_F1", "breaks", "false_merges")
"""Scores, with the loops of the gold closed (docs/metrics.md)."""


def main(argv: list[str] | None = None) -> None:
    """Trace, measure, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--gold", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=float)
    parser.add_argument("--corrected", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args(argv)
    make_folder(given.out)
    reviews = list(traced(given))
    if given.corrected:
        make_folder(given.out / "corrected")
        for review in reviews:
            head = SwcSpace("centre", "voxel").head(review.ndim)
            write_swc(given.out / "corrected" / f"{review.name}.swc", review.complete(), comment=head)
    sys.stdout.write(reliability_table(reviews) + "\n\n")
    draw_reliability(given.out / "reliability.png", reviews)
    rows = {order: corrected_scores(reviews, order) for order in ORDERS}
    sys.stdout.write(corrections_table(rows) + "\n")
    draw_corrections(given.out / "corrections.png", rows)


def traced(given: argparse.Namespace) -> Iterator[Review]:
    """The images that have a gold tree, traced."""
    header = read_header(weight_file(given.weights))
    kind = DIMENSIONS[header.ndim]
    files = {"images": given.images, "out": given.out}
    run = kind.run(weights=given.weights, **files, scale=given.scale, threads=given.threads)
    job: TraceJob = kind.build(run)
    for file in job.spec.files(given.images):
        gold = find_gold(file, swc_files(given.gold))
        if gold is None:
            continue
        image = job.read(file)
        trace = job.trace(image.pixels, spacing=image.spacing)
        shift = -header.thresholds.get("swc_shift", 0.0)
        centred = SwcSpace(header.swc_origin, "voxel").centred(read_swc(gold))  # pyright: ignore[reportArgumentType]
        sys.stderr.write(f"{file.name}: {trace}\n")
        yield Review(stem(file), trace, translate(centred, (shift, shift)))


# ---- is the confidence right ---------------------------------------------------------------------------------------


def known(reviews: Sequence[Review], kinds: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and truth ``(K,)`` of all items of some kinds of which the truth is known."""
    sure = np.concatenate([getattr(review.confidence, kind) for review in reviews for kind in kinds])
    true = np.concatenate([getattr(review.truth, kind) for review in reviews for kind in kinds])
    is_known = ~np.isnan(true) & ~np.isnan(sure)
    return sure[is_known], true[is_known]


def bins_of(sure: np.ndarray) -> np.ndarray:
    """``(K,)`` number of the bin of each confidence."""
    return np.minimum((sure * BINS).astype(int), BINS - 1)


def calibration_error(sure: np.ndarray, true: np.ndarray) -> float:
    """Expected calibration error (Naeini et al. 2015): mean difference of confidence and truth over the bins."""
    of_bins = np.bincount(bins_of(sure), sure - true, BINS)
    return float(np.abs(of_bins).sum() / max(len(sure), 1))


def false_in_fifth(sure: np.ndarray, true: np.ndarray) -> float:
    """Share of the false items that the least certain fifth holds."""
    first = np.argsort(sure, kind="stable")[: len(sure) // 5]
    return float((1 - true[first]).sum() / max((1 - true).sum(), 1))


def reliability_table(reviews: Sequence[Review]) -> str:
    """A Markdown table with a row for each kind of items, and one for branches and joins together."""
    groups = {kind: (kind,) for kind in KINDS} | {"branches and joins": ("branches", "joins")}
    groups |= {"branches, joins, insides": ("branches", "joins", "insides")}
    rows = ["| items | known | false | calibration error | false in the least certain fifth |", "| --- " * 5 + "|"]
    for name, kinds in groups.items():
        sure, true = known(reviews, kinds)
        numbers = f"{calibration_error(sure, true):.3f} | {false_in_fifth(sure, true):.2f}"
        rows.append(f"| {name} | {len(true)} | {int((1 - true).sum())} | {numbers} |")
    return "\n".join(rows)


def draw_reliability(path: Path, reviews: Sequence[Review]) -> None:
    """Draw the share of true items over the confidence, with the numbers of items."""
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(KINDS), sharey=True), KINDS, strict=True):
        sure, true = known(reviews, (kind,))
        place = bins_of(sure)
        counts = np.bincount(place, minlength=BINS)
        filled = np.flatnonzero(counts)
        means = [(np.bincount(place, each, BINS)[filled] / counts[filled]) for each in (sure, true)]
        axes.plot([0, 1], [0, 1], color="0.7", lw=1)
        axes.plot(*means, "o-", color="#0072B2")
        for x, y, count in zip(*means, counts[filled].tolist(), strict=True):
            axes.annotate(str(count), (x, y), textcoords="offset points", xytext=(4, -11), fontsize=7, color="0.4")
        axes.set(title=kind, xlabel="confidence", xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    figure.axes[0].set_ylabel("share that is true")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


# ---- what corrections are worth ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Review:
    """A trace, and a person who knows its gold tree, in pixel-centre positions of the image."""

    name: str
    trace: Trace
    gold: SwcForest

    @property
    def ndim(self) -> int:
        """Dimension of the image."""
        return len(self.trace.spaces.image_shape)

    @cached_property
    def _judged(self) -> tuple[TraceEvidence, Truth]:
        return judged(self.trace, self.gold)

    @property
    def evidence(self) -> TraceEvidence:
        """What speaks for and against each item."""
        return self._judged[0]

    @property
    def truth(self) -> Truth:
        """What is true of each item."""
        return self._judged[1]

    @property
    def confidence(self) -> Confidence:
        """How sure each item is."""
        if self.trace.confidence is None:
            raise SystemExit("the weights have no confidence: run tools.calibrate on them")
        return self.trace.confidence

    @cached_property
    def forest(self) -> SwcForest:
        """The trace in units."""
        return rescale(self.trace.in_image(self.trace.swc_forest), units(self.trace))

    @cached_property
    def missed(self) -> Missed:
        """What of the gold it lacks."""
        return Missed.of(rescale(self.gold, units(self.trace)), self.forest, self.evidence.ends.node, self.reach)

    def queue(self, order: str, seed: int) -> list[ReviewItem]:
        """The items in the order in which they are asked."""
        asked = ranked(self.trace)
        if order == "random":
            return [asked[at] for at in np.random.default_rng(seed).permutation(len(asked))]
        if order == "longest":
            return sorted(asked, key=lambda item: -item.gain / max(1 - item.confidence, 1e-6))
        return asked

    def corrected(self, answered: Sequence[ReviewItem]) -> SwcForest:
        """The trace in image pixels after some answers; what the gold does not tell stays."""
        wrong = [item for item in answered if getattr(self.truth, item.kind)[item.number] == 0]
        pieces = {int(self.missed.of_end[item.number]) for item in wrong if item.kind == "ends"}
        return self._mended([(item.kind, item.branch, item.node) for item in wrong], sorted(pieces))

    def complete(self) -> SwcForest:
        """The trace in image pixels with all that is false deleted or cut, and all that is missed drawn."""
        wrong = [
            (kind, int(evidence.branch[item]), int(evidence.node[item]))
            for kind in KINDS
            for evidence in [getattr(self.evidence, kind)]
            for item in np.flatnonzero(getattr(self.truth, kind) == 0).tolist()
        ]
        return self._mended(wrong, np.unique(self.missed.piece[self.missed.piece >= 0]).tolist())

    def _mended(self, wrong: Sequence[tuple[str, int, int]], pieces: Sequence[int]) -> SwcForest:
        """The trace without what is false, kind, branch and node, and with some of the pieces that it misses."""
        edges, places, cut = self.forest.edges, self.forest.xyz, np.zeros(len(self.forest), bool)
        for kind, branch, node in wrong:
            cut[self._cut(kind, branch, node)] = True
        edges = edges[~cut[edges[:, 1]]]
        for piece in pieces:
            places, edges = self._drawn(piece, places, edges)
        forest = SwcForest.from_edges(places[:, ::-1], edges)
        forest = subset(forest, forest.degree > 0)
        return rescale(forest, [1 / size for size in units(self.trace)])

    def _cut(self, kind: str, branch: int, node: int) -> np.ndarray:
        """Nodes whose edges to their parents go when an item is false."""
        rows = self.trace.branches.rows[branch]
        if kind == "branches":
            return rows[1:]
        if kind == "ends":
            return rows[:0]
        at = int(np.flatnonzero(rows == node)[0])
        return rows[at + 1 : at + 2]

    def _drawn(self, piece: int, places: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places and edges with a missed piece, joined where it begins and ends, unless that closes a loop."""
        gold, rows = self.missed.gold, np.flatnonzero(self.missed.piece == piece)
        row = np.full(len(gold), -1)
        row[rows] = len(places) + np.arange(len(rows))
        own = row[gold.edges]
        joined = np.concatenate([edges, own[(own >= 0).all(axis=1)]])
        ends = rows[np.bincount(own[(own >= 0).all(axis=1)].ravel(), minlength=row.max() + 1)[row[rows]] <= 1]
        distance, nearest = (np.asarray(each) for each in KDTree(places).query(gold.xyz[ends]))
        places = np.concatenate([places, gold.xyz[rows]])
        for end in np.argsort(distance, kind="stable"):
            _, tree = connected_components(adjacency(joined, len(places)), directed=False)
            link = np.array([nearest[end], row[ends[end]]])
            if distance[end] < BESIDE * self.reach and tree[link[0]] != tree[link[1]]:
                joined = np.concatenate([joined, link[None]])
        return places, joined

    @property
    def reach(self) -> float:
        """Units within which two trees run together."""
        return REACH[self.ndim]


Scores = Mapping[int, Mapping[str, float | None]]
"""Mean scores by the number of answers."""


def corrected_scores(reviews: Sequence[Review], order: str) -> Scores:
    """Mean scores of the images after some answers."""
    found = {}
    for answers in ANSWERS:
        rows = [
            score(review.gold, review.corrected(review.queue(order, seed)[:answers]), protocol="closed").row()
            for review in reviews
            for seed in (SEEDS if order == "random" else SEEDS[:1])
        ]
        found[answers] = {name: value for name, value in mean_row(rows).items() if name in SHOWN}
        sys.stderr.write(f"{order}, {answers} answers: {found[answers]}\n")
    return found


def corrections_table(rows: Mapping[str, Scores]) -> str:
    """A Markdown table with a row for each order and number of answers."""
    lines = [f"| order | answers | {' | '.join(SHOWN)} |", "| --- " * (2 + len(SHOWN)) + "|"]
    for order, scores in rows.items():
        for answers, row in scores.items():
            values = " | ".join("–" if row[name] is None else f"{row[name]:.3f}" for name in SHOWN)
            lines.append(f"| {order} | {answers} | {values} |")
    return "\n".join(lines)


def draw_corrections(path: Path, rows: Mapping[str, Scores]) -> None:
    """Draw the scores over the number of answers."""
    figure = Figure(figsize=(12, 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(SHOWN)), SHOWN, strict=True):
        for order, scores in rows.items():
            axes.plot(list(scores), [row[name] for row in scores.values()], "o-", label=order, ms=3)
        axes.set(title=name, xlabel="answers")
    figure.axes[0].legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


if __name__ == "__main__":
    run(main)
