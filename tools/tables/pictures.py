"""Error pictures of a study: every image as shipped, and one where GDS prevents jumps, beside the node-only trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lib.klib.spaces import CORNER
from lib.swclib import SwcForest, read_swc
from lib.swclib.metrics import Protocol, Score, score
from tools.data.folders import Case
from tools.pictures.errors import error_picture
from tools.tables.document import Figure
from tools.tables.methods import NODE_ONLY, SHIPPED
from tools.tables.scores import COMPARED, Comparison, compared, gold_of
from tools.tables.study import Study
from tools.tables.traces import Picture

ZOOM = 4
"""Output pixels per image pixel of a close-up."""
HALF = 60
"""Image pixels from the middle of a close-up to its side."""


@dataclass(frozen=True)
class Backdrop:
    """An image with its gold and the traces of some methods, as they lie on the disk.

    Attributes
    ----------
    pixels
        ``(*S, C)``.
    gold, traces
        Trees in the coordinates of the dataset's SWCs.
    shift
        Brings these to pixel-centre coordinates.
    protocol
        Whose jumps are circled.
    """

    pixels: np.ndarray
    gold: SwcForest
    traces: dict[str, SwcForest]
    shift: float
    protocol: Protocol

    def result(self, method: str) -> Score:
        """The scores of a trace."""
        return score(self.gold, self.traces[method], protocol=self.protocol)

    def drawn(self, method: str, zoom: int | None = None) -> np.ndarray:
        """The error picture of a method, uint8 ``(y, x, 3)``."""
        result = self.result(method)
        return error_picture(self.gold, self.traces[method], result, self.pixels, shift=self.shift, zoom=zoom)


def figures(study: Study) -> Iterator[Figure]:
    """All pictures of a study."""
    shipped = study.traces.get(SHIPPED, {})
    for case in study.cases:
        if case.name in shipped:
            caption = f"{study.dataset.name} {case.name}, {SHIPPED} ({study.weights_label}); jumps: {COMPARED[0]}"
            yield Figure([scene_of(study, case, [SHIPPED], COMPARED[0]).drawn(SHIPPED)], caption)
    yield from gds_figures(study)


def gds_figures(study: Study) -> Iterator[Figure]:
    """The image on which GDS reduces jumps most, with and without it: the whole and, in 2D, a close-up."""
    best = largest_reduction(study)
    if best is None:
        return
    (case,) = (case for case in study.cases if case.name == best.largest)
    backdrop = scene_of(study, case, [NODE_ONLY, SHIPPED], best.protocol)
    title = f"{study.dataset.name} {case.name}, left {NODE_ONLY}, right {SHIPPED}; jumps: {best.protocol}"
    yield Figure([backdrop.drawn(method) for method in (NODE_ONLY, SHIPPED)], title)
    place = prevented_jump(backdrop)
    if place is not None and study.dataset.ndim == 2:
        closeups = [close_up(backdrop, method, place) for method in (NODE_ONLY, SHIPPED)]
        yield Figure(closeups, f"The same, around (y, x) = ({place[0]:.0f}, {place[1]:.0f})")


def largest_reduction(study: Study) -> Comparison | None:
    """The first comparison by which GDS has fewer jumps on some image; None where it has nowhere fewer."""
    ours, other = study.rows.get(SHIPPED, {}), study.rows.get(NODE_ONLY, {})
    found = (compared(ours, other, protocol) for protocol in COMPARED)
    return next((comparison for comparison in found if comparison.largest is not None), None)


def scene_of(study: Study, case: Case, methods: list[str], protocol: Protocol) -> Backdrop:
    """Image, gold and traces of a case."""
    traces = {name: read_swc(study.traces[name][case.name].swc, allow_empty=True) for name in methods}
    pixels = Picture(case.image, study.bench).work.pixels
    shift = -CORNER if study.dataset.swc_origin == "corner" else 0.0
    return Backdrop(pixels, gold_of(case, study.dataset), traces, shift, protocol)


def prevented_jump(backdrop: Backdrop) -> np.ndarray | None:
    """The jump ``(ndim,)`` of the node-only trace that is farthest from any of the shipped one."""
    theirs, ours = (_jumps(backdrop, method) for method in (NODE_ONLY, SHIPPED))
    if not len(theirs):
        return None
    if not len(ours):
        return theirs[0]
    apart = np.linalg.norm(theirs[:, None] - ours[None], axis=2).min(axis=1)
    return theirs[apart.argmax()]


def _jumps(backdrop: Backdrop, method: str) -> np.ndarray:
    """Places ``(K, ndim)`` of a method's jumps."""
    ndim = backdrop.pixels.ndim - 1
    return backdrop.traces[method].positions(ndim)[backdrop.result(method).jump.nodes] + backdrop.shift


def close_up(backdrop: Backdrop, method: str, place: np.ndarray) -> np.ndarray:
    """A square of an error picture around a place ``(2,)``, enlarged."""
    shape = np.array(backdrop.pixels.shape[:2])
    low = np.clip(place.astype(int) - HALF, 0, np.maximum(shape - 2 * HALF, 0))
    high = np.minimum(low + 2 * HALF, shape)
    (top, left), (bottom, right) = low * ZOOM, high * ZOOM
    return backdrop.drawn(method, zoom=ZOOM)[top:bottom, left:right]
