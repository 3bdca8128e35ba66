"""One weight file and one group of settings: from arrays to traces. The 2D and 3D scripts, the tables, calibration and
the Python interface call this."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from configs.options import TraceOptions, TraceRun
from lib.devices import choose_device
from lib.klib.image_io import Image
from lib.klib.spaces import Spaces, check_holds_patch, normalised
from lib.swclib import SwcForest, rescale
from models.checkpoint import load_weights
from tools.inference.predictor import Predictor
from tools.tracing.cleanup.pipeline import clean_up
from tools.tracing.growth.seeds import skeleton_pixels
from tools.tracing.growth.tracer import Tracer, TraceResult, TraceSettings
from tools.tracing.maps import ImageMaps, axis_of, radii, surface_distance
from tools.tracing.settings import cleanup_settings, seen_in_training, with_defaults
from tools.tracing.trace import Trace


@dataclass(frozen=True)
class TraceSpec:
    """What differs between tracing images and volumes.

    Attributes
    ----------
    ndim
        Dimension of the images.
    read
        Reads one image file, see :mod:`tools.readers`.
    picture
        Draws a forest (pixel-centre image positions) on an image ``(*S, C)``: uint8 ``(y, x, 3)``.
    settings
        The tracer's part of complete options.
    predictor
        Further arguments of :class:`~tools.inference.predictor.Predictor`, of complete options.
    maps
        Reads the maps of an image that were made before, if the run names some, of a work shape.
    has_radius
        Whether the radius is measured: where tubes are brighter than what lies around them.
    advice
        What to do about an image smaller than a patch.
    units
        What the SWC counts in.
    """

    ndim: int
    read: Callable[..., Image]
    picture: Callable[[np.ndarray, SwcForest], np.ndarray]
    settings: Callable[[TraceOptions], TraceSettings]
    predictor: Callable[[TraceOptions], dict[str, Any]] = lambda _: {}
    maps: Callable[[TraceRun, Path, tuple[int, ...]], ImageMaps | None] = lambda *_: None
    has_radius: bool = False
    advice: str = "give a larger --scale or image"
    units: str = "image pixels; 0 is the {origin} of the first pixel"


class TraceJob:
    """Traces any number of images with one weight file and one group of settings.

    Parameters
    ----------
    weights
        The weight file.
    options
        How to trace; what is not given is taken from the weight file.
    spec
        See :class:`TraceSpec`.

    Attributes
    ----------
    weights, spec
        As given.
    options
        The same, complete.
    header
        Of the weight file.

    Raises
    ------
    UserError
        If the weights cannot be used, or an option does not fit.
    """

    def __init__(self, weights: Path, options: TraceOptions, spec: TraceSpec) -> None:
        device = choose_device(options.device, options.threads)
        net, header = load_weights(weights, ndim=spec.ndim)
        self.options = with_defaults(options, header)
        self.weights, self.header, self.spec = weights, header, spec
        predictor = Predictor(
            net.mute_unseen(seen_in_training(header)),
            header.patch_size,
            features=self.options.features,
            device=device,
            tile=options.tile,
            views=self.options.views,
            beta=header.training.get("beta", 0.9),
            adapt=self.options.adapt,
            **spec.predictor(self.options),
        )
        self.tracer = Tracer(predictor, spec.settings(self.options))
        self.cleanup = cleanup_settings(self.options)

    def read(self, image: Path) -> Image:
        """Read one image file as the weights want it.

        Raises
        ------
        UserError
            If it cannot be read.
        """
        return self.spec.read(image, white=self.header.white)

    def trace(
        self,
        pixels: np.ndarray,
        *,
        spacing: Sequence[float] | None = None,
        maps: Callable[[tuple[int, ...]], ImageMaps | None] = lambda _: None,
    ) -> Trace:
        """Trace an image.

        Parameters
        ----------
        pixels
            ``(*S, C)`` float32 in [0, 1].
        spacing
            Size of a pixel along each axis, in any unit; what the options say weighs more.
        maps
            Gives maps of this image made before, of a work shape; None: they are made.

        Raises
        ------
        UserError
            If the image is smaller than a patch at this scale.
        """
        spaces, sizes = self._spaces(pixels), self._sizes(spacing)
        known = maps(spaces.work_shape)
        work = spaces.resize(pixels)
        tracer = self.tracer if sizes is None else self.tracer.spaced(sizes)
        result = tracer.trace(work) if known is None else tracer.trace(work, known.centerline)
        started = time.perf_counter()
        forest = clean_up(result.forest, result.centerline, self.cleanup, spacing=sizes)
        result.seconds["clean"] = time.perf_counter() - started
        if self.spec.has_radius and len(forest):
            started = time.perf_counter()
            forest = self._with_radii(forest, work, result, known, sizes)
            result.seconds["radius"] = time.perf_counter() - started
        return Trace(
            forest=rescale(forest, 1 / spaces.scale, shift=spaces.to_image(np.zeros(len(spaces.work_shape)))),
            centerline=result.centerline,
            spaces=spaces,
            loops=spaces.to_image(result.loops),
            counts=result.counts,
            stops=result.stops,
            seconds=result.seconds,
            swc_origin=self.options.swc_origin,
            swc_shift=self.options.swc_shift,
        )

    def _with_radii(
        self,
        forest: SwcForest,
        work: np.ndarray,
        result: TraceResult,
        maps: ImageMaps | None,
        sizes: tuple[float, ...] | None,
    ) -> SwcForest:
        """The forest, in work pixels, with the radius at each node."""
        positions = forest.positions(self.spec.ndim)
        if maps is None:
            axis = axis_of(positions[forest.edges], work.shape[:-1])
            maps = ImageMaps(result.centerline, surface_distance(work, axis, sizes))
        return replace(forest, radius=radii(maps.distance, positions, sizes))

    def maps(self, pixels: np.ndarray, *, spacing: Sequence[float] | None = None) -> ImageMaps:
        """The maps of an image ``(*S, C)`` in [0, 1]; its tubes are those of the skeleton of the centerline map.

        Raises
        ------
        UserError
            As :meth:`trace`.
        """
        work = self._spaces(pixels).resize(pixels)
        centerline = self.tracer.predictor.set_image(work)
        axis = np.zeros(centerline.shape, dtype=bool)
        axis[tuple(skeleton_pixels(centerline, self.options.stop_threshold).T)] = True
        return ImageMaps(centerline, surface_distance(work, axis, self._sizes(spacing)))

    def _spaces(self, pixels: np.ndarray) -> Spaces:
        """Image and work space of an image, which must not be smaller than a patch."""
        spaces = Spaces.scaled(pixels.shape[:-1], self.options.scale)
        check_holds_patch(spaces.work_shape, self.header.patch_size, self.spec.advice)
        return spaces

    def _sizes(self, spacing: Sequence[float] | None) -> tuple[float, ...] | None:
        """Size of a pixel in units of its finest axis; None where it is the same along all axes."""
        known = getattr(self.options, "spacing", None) or spacing or self.header.spacing
        sizes = normalised(known) if known else ()
        return sizes if set(sizes) - {1.0} else None
