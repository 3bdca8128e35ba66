"""Error pictures of a study: every image as shipped, and one where GDS prevents jumps, beside the node-only trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lib.swclib import CORNER, SwcForest, read_swc
from lib.swclib.metrics import Protocol, Score, score
from tools.data.folders import Case
from tools.pictures.errors import error_picture
from tools.tables.document import Figure
from tools.tables.methods import NODE_ONLY, SHIPPED
from tools.tables.scores import COMPARED, Comparison, compare, gold_tree
from tools.tables.study import Study

ZOOM = 4
"""Picture pixels per image pixel in a close-up."""
CLOSE_UP_RADIUS = 60
"""Image pixels from the middle of a close-up to its sides."""


@dataclass(frozen=True)
class TracedImage:
    """An image with its gold tree and its traces by some methods.

    Attributes
    ----------
    pixels
        ``(*S, C)``.
    gold, traces
        Trees in the coordinates of the dataset's SWC files; traces by method.
    shift
        Pixels to add to these coordinates for pixel-centre coordinates.
    protocol
        Protocol whose jumps are circled.
    """

    pixels: np.ndarray
    gold: SwcForest
    traces: dict[str, SwcForest]
    shift: float
    protocol: Protocol

    @classmethod
    def load(cls, study: Study, case: Case, methods: list[str], protocol: Protocol) -> TracedImage:
        """Read the image, the gold tree and the traces of a case."""
        traces = {name: read_swc(study.traces[name][case.name].swc, allow_empty=True) for name in methods}
        shift = -CORNER if study.dataset.swc_origin == "corner" else 0.0
        return cls(study.bench.read(case.image).pixels, gold_tree(case, study.dataset), traces, shift, protocol)

    def score(self, method: str) -> Score:
        """The scores of a trace."""
        return score(self.gold, self.traces[method], protocol=self.protocol)

    def picture(self, method: str, zoom: int | None = None) -> np.ndarray:
        """The error picture of a trace, uint8 ``(y, x, 3)``."""
        scores = self.score(method)
        return error_picture(self.gold, self.traces[method], scores, self.pixels, shift=self.shift, zoom=zoom)

    def jumps(self, method: str) -> np.ndarray:
        """Positions ``(K, ndim)`` of the jumps of a trace, in image pixels."""
        return self.traces[method].positions(self.pixels.ndim - 1)[self.score(method).jump.nodes] + self.shift

    def close_up(self, method: str, position: np.ndarray) -> np.ndarray:
        """The part of an error picture around an image position ``(2,)``, enlarged."""
        shape = np.array(self.pixels.shape[:2])
        low = np.clip(position.astype(int) - CLOSE_UP_RADIUS, 0, np.maximum(shape - 2 * CLOSE_UP_RADIUS, 0))
        high = np.minimum(low + 2 * CLOSE_UP_RADIUS, shape)
        (top, left), (bottom, right) = low * ZOOM, high * ZOOM
        return self.picture(method, zoom=ZOOM)[top:bottom, left:right]


def figures(study: Study) -> Iterator[Figure]:
    """All pictures of a study."""
    shipped = study.traces.get(SHIPPED, {})
    for case in study.cases:
        if case.name in shipped:
            caption = f"{study.dataset.name} {case.name}, {SHIPPED} ({study.weights_label}); jumps: {COMPARED[0]}"
            yield Figure([TracedImage.load(study, case, [SHIPPED], COMPARED[0]).picture(SHIPPED)], caption)
    yield from gds_figures(study)


def gds_figures(study: Study) -> Iterator[Figure]:
    """The image on which GDS prevents most jumps, without and with it: whole and, in 2D, a close-up."""
    best = largest_reduction(study)
    if best is None:
        return
    methods = [NODE_ONLY, SHIPPED]
    (case,) = (case for case in study.cases if case.name == best.largest)
    image = TracedImage.load(study, case, methods, best.protocol)
    title = f"{study.dataset.name} {case.name}, left {NODE_ONLY}, right {SHIPPED}; jumps: {best.protocol}"
    yield Figure([image.picture(method) for method in methods], title)
    jump = prevented_jump(image)
    if jump is not None and study.dataset.ndim == 2:
        caption = f"The same, around (y, x) = ({jump[0]:.0f}, {jump[1]:.0f})"
        yield Figure([image.close_up(method, jump) for method in methods], caption)


def largest_reduction(study: Study) -> Comparison | None:
    """The first comparison in which GDS has fewer jumps on some image; None if there is none."""
    ours, other = study.rows.get(SHIPPED, {}), study.rows.get(NODE_ONLY, {})
    comparisons = (compare(ours, other, protocol) for protocol in COMPARED)
    return next((comparison for comparison in comparisons if comparison.largest is not None), None)


def prevented_jump(image: TracedImage) -> np.ndarray | None:
    """The jump ``(ndim,)`` of the node-only trace that is farthest from all jumps of the shipped one."""
    without, with_gds = image.jumps(NODE_ONLY), image.jumps(SHIPPED)
    if not len(without):
        return None
    if not len(with_gds):
        return without[0]
    distance = np.linalg.norm(without[:, None] - with_gds[None], axis=2).min(axis=1)
    return without[distance.argmax()]
