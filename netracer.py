"""NETracer in Python: arrays in, traces out.

>>> import netracer
>>> from skimage import data
>>> tracer = netracer.load_tracer("DRIVE")
>>> trace = tracer.trace(data.retina(), scale=0.8)
>>> trace.write("retina.swc")

``trace.forest`` holds the trees, ``trace.centerline`` the map of centerline probabilities. Everything else of this
project may change from one version to the next; the names in ``__all__`` are meant to stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from configs.options import TraceOptions
from lib import VERSION as __version__
from lib.errors import UserError, known_names
from lib.klib.image_io import Image, image_from_array
from lib.klib.volume_io import volume_from_array
from lib.swclib import SwcForest, SwcOrigin, write_swc
from lib.swclib import read_swc as _read_swc
from lib.swclib.metrics import Protocol, Score, score
from models.checkpoint import WeightsHeader, read_header, weight_file
from models.RPNet_2D import IN_CHANNELS
from tools.tracing.by_dimension import DIMENSIONS
from tools.tracing.job import TraceJob
from tools.tracing.trace import Trace

__all__ = [
    "Score",
    "SwcForest",
    "Trace",
    "Tracer",
    "UserError",
    "__version__",
    "evaluate",
    "load_tracer",
    "read_swc",
    "write_swc",
]


class Tracer:
    """Traces images or volumes with one weight file; see :func:`load_tracer`.

    Attributes
    ----------
    header
        What the weight file says of itself: dataset, scale, thresholds, scores.
    """

    def __init__(self, weights: Path, **options: Any) -> None:
        self.header: WeightsHeader = read_header(weights)
        self._weights, self._dimension = weights, DIMENSIONS[self.header.ndim]
        # An array has no file whose origin could be followed.
        self._options = self._changed(self._dimension.options(swc_origin="centre"), options)
        self._job = TraceJob(weights, self._options, self._dimension.spec)
        self._asked = self._options

    @staticmethod
    def _changed(options: TraceOptions, changes: dict[str, Any]) -> TraceOptions:
        """Options with some changed; an unknown name is a user's mistake."""
        names = [field.name for field in fields(options)]
        for name in changes:
            if name not in names:
                raise UserError(f"{name}: unknown option; {known_names(name, names)}")
        return replace(options, **changes)

    def trace(self, image: np.ndarray, *, spacing: Sequence[float] | None = None, **options: Any) -> Trace:
        """Trace one image.

        Parameters
        ----------
        image
            In 2D ``(y, x)`` gray, ``(y, x, 3)`` RGB or ``(y, x, 4)`` RGBA; in 3D ``(z, y, x)``. uint8, uint16, bool or
            float; how values are brought to [0, 1] is that of image files (docs/own_data.md).
        spacing
            Size of a pixel along each axis, in micrometres; without it that of ``load_tracer``, else, for its ratios,
            that of the weights. With it ``write`` writes micrometres, unless ``swc_units="voxel"`` is given.
        **options
            Fields of :class:`~configs.options.TraceOptions` (in 3D ``TraceOptions3D``) for this image, such as
            ``scale``.

        Returns
        -------
        Trace
            Its ``forest`` is in pixel-centre positions of ``image``.

        Raises
        ------
        UserError
            If the array is no image of the weights' dimension, is smaller than a patch at this scale, holds NaN, or an
            option has no meaning.
        """
        if spacing is not None:
            options["spacing"] = tuple(spacing)
        wanted = self._changed(self._options, options)
        if wanted != self._asked:
            # The last job is kept: most callers trace many images with the same options.
            self._job, self._asked = TraceJob(self._weights, wanted, self._dimension.spec), wanted
        return self._job.trace(self._prepared(np.asarray(image)).pixels)

    def _prepared(self, array: np.ndarray) -> Image:
        """An array as the reader of image files would give it."""
        if self.header.ndim == 2:
            return image_from_array(array, channels=IN_CHANNELS, how=self._job.levels)
        volume = volume_from_array(array)
        return Image(volume.unit(self._job.levels), volume.notes)


def load_tracer(weights: str | Path, **options: Any) -> Tracer:
    """Load a tracer from a weight file.

    Parameters
    ----------
    weights
        A ``.safetensors`` file, or the name of shipped weights, such as ``"DRIVE"``.
    **options
        Fields of :class:`~configs.options.TraceOptions` (in 3D ``TraceOptions3D``); what is not given comes from the
        weight file.

    Raises
    ------
    UserError
        If the weights cannot be used, or an option has no meaning.
    """
    return Tracer(weight_file(weights), **options)


def read_swc(path: str | Path, *, origin: SwcOrigin = "centre") -> SwcForest:
    """Read the trees of an SWC file in pixel-centre positions.

    Parameters
    ----------
    path
        The file.
    origin
        Where the file puts coordinate 0 in the first pixel, if its head does not say; at its ``corner``, 0.5 is
        subtracted from x and y.

    Raises
    ------
    UserError
        If the file cannot be read or is no valid SWC; the message names the line.
    """
    return _read_swc(path, allow_empty=True, origin=origin)


def evaluate(
    gold: SwcForest,
    test: SwcForest | Trace,
    *,
    protocol: Protocol = "paper",
    threshold: float = 2.0,
    spacing: float | Sequence[float] = 1.0,
) -> Score:
    """Score a trace against a gold tree; docs/metrics.md defines each metric.

    Parameters
    ----------
    gold, test
        In the same coordinates, for instance both in pixel-centre positions.
    protocol
        How PE and JE count.
    threshold
        Distance up to which two places agree, in units of ``spacing``.
    spacing
        Size of a pixel: one number, or (y, x), or (z, y, x).

    Returns
    -------
    Score
        ``row()`` gives all numbers by name.

    Raises
    ------
    UserError
        If the gold tree has no edge.
    """
    if not len(gold.edges):
        raise UserError("the gold tree has no edge; give one with branches")
    forest = test.forest if isinstance(test, Trace) else test
    return score(gold, forest, protocol=protocol, threshold=threshold, spacing=spacing)
