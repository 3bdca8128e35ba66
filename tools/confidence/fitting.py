"""Evidence and truth of traces of which the gold tree is known, and the model that fits them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lib.swclib import SwcForest, rescale
from tools.confidence.evidence import TraceEvidence
from tools.confidence.model import KINDS, ConfidenceModel, Logistic
from tools.confidence.truth import Truth
from tools.tracing.trace import Trace


def judged(trace: Trace, gold: SwcForest, *, pixel: float | None = None) -> tuple[TraceEvidence, Truth]:
    """Evidence and truth of a trace.

    Parameters
    ----------
    trace
        Any trace.
    gold
        The gold tree in pixel-centre positions of the traced image.
    pixel
        Size of a pixel of the original image in work pixels; None if that is the traced image.
    """
    forest, truth = (rescale(each, units(trace)) for each in (trace.in_image(trace.swc_forest), gold))
    evidence, scale = trace.evidence, float(trace.spaces.scale[-1])
    of_trace = forest, trace.branches, evidence.insides.node, evidence.ends.node
    return evidence, Truth.of(truth, *of_trace, pixel=pixel or scale, ndim=len(trace.spaces.image_shape))


def units(trace: Trace) -> list[float]:
    """``(ndim,)`` size of a pixel of the traced image in units, work pixels of the finest axis."""
    return (np.array(trace.pixel_sizes) / trace.pixel_size * float(trace.spaces.scale[-1])).tolist()


def fitted(images: Sequence[tuple[TraceEvidence, Truth]]) -> ConfidenceModel:
    """The model that fits the traces of some images."""
    missed = [truth.missed for _, truth in images if np.isfinite(truth.missed)]
    models = {kind: Logistic.fit(*known_items(images, kind)) for kind in KINDS}
    return ConfidenceModel(**models, missed=round(float(np.mean(missed)), 1) if missed else 0.0)


def known_items(images: Sequence[tuple[TraceEvidence, Truth]], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers ``(K, F)`` and truth ``(K,)`` of all items of a kind of which the truth is known."""
    values = np.concatenate([getattr(evidence, kind).values for evidence, _ in images])
    truth = np.concatenate([getattr(true, kind) for _, true in images])
    known = ~np.isnan(truth)
    return values[known], truth[known]
