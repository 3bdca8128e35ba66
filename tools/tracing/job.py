"""One weight file and one group of settings: from arrays to traces. The 2D and 3D scripts, the tables, calibration and
the Python interface call this."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.ndimage import distance_transform_edt

from configs.options import TraceOptions
from lib.devices import choose_device
from lib.errors import UserError
from lib.klib.contrast import with_local_contrast
from lib.klib.decoded import ReadOptions
from lib.klib.image_io import Image, image_files
from lib.klib.spaces import Spaces, WindowSpaces, check_holds_patch, relative_spacing
from lib.swclib import SwcForest, SwcSpace, rescale
from lib.swclib.forest import SOMA_TYPE
from models.checkpoint import load_weights, weight_file
from models.contract import BETA
from tools.confidence.model import ConfidenceModel
from tools.inference.predictor import Predictor
from tools.progress import Progress, silent
from tools.tracing.cleanup.pipeline import clean_up, open_loops
from tools.tracing.cleanup.somata import Somata, find_somata
from tools.tracing.growth.seeds import skeleton_pixels
from tools.tracing.growth.settings import TraceSettings
from tools.tracing.growth.tracer import Tracer, TraceResult
from tools.tracing.maps import ImageMaps, surface_distance
from tools.tracing.scale import fitting_scale, ground_scale
from tools.tracing.settings import CompleteOptions, cleanup_settings, complete, training_size
from tools.tracing.trace import Trace

GIVEN, IN_FILE = "--spacing", "its file"
"""Sources of the size of a pixel that may have a unit. Of that of the training volumes only the ratios count."""
RIM, LEAST_RIM = 0.003, 2.0
"""Part of the shorter side of an image, and least pixels, along the rim of the field of view where nothing is traced:
there the light falls off, and the edge of the field looks like a vessel."""
TOGETHER = 8
"""Images at a time on a GPU, which 64 tips of one image leave mostly idle. A volume fills it alone, one image a CPU."""


@dataclass(frozen=True)
class TraceSpec:
    """Differences between tracing images and volumes.

    Attributes
    ----------
    ndim
        Dimension of the images.
    read
        Reads one image file, see :mod:`tools.readers`.
    files
        Lists the images of a folder.
    settings
        The tracer's part of the options.
    predictor
        From complete options of this dimension to further arguments of :class:`~tools.inference.predictor.Predictor`.
    find_field
        Finds the field of view of an image ``(*S, C)``, ``(*S,)`` bool; None is the whole image.
    stored_maps
        Called with the options of a run, an image file and its work shape; returns the maps that an earlier run wrote,
        or None.
    stored_mask
        Called in the same way with the image shape; returns the mask that the user gave, bool, or None.
    radii
        Called with an image, its centerline map and the trace in work and in image pixels; returns ``(N,)`` radii in
        image pixels (in volumes pixels of a slice).
    advice
        What to do about an image smaller than a patch.
    """

    ndim: int
    read: Callable[..., Image]
    settings: Callable[[CompleteOptions], TraceSettings]
    radii: Callable[[Prepared, np.ndarray, SwcForest, SwcForest], np.ndarray]
    predictor: Callable[[Any], dict[str, Any]] = lambda _: {}
    find_field: Callable[[np.ndarray], np.ndarray | None] = lambda _: None
    stored_maps: Callable[[Any, Path, tuple[int, ...]], ImageMaps | None] = lambda *_: None
    stored_mask: Callable[[Any, Path, tuple[int, ...]], np.ndarray | None] = lambda *_: None
    files: Callable[[Path], list[Path]] = image_files
    advice: str = "give a larger --scale or image"


StoredMaps = Callable[[tuple[int, ...]], ImageMaps | None]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready to be traced.

    Attributes
    ----------
    pixels
        ``(*S, C)`` float32 in [0, 1], in work pixels.
    image
        ``(*image_shape, C)`` the same in image pixels.
    spaces
        Its image and work space.
    sizes
        Size of a pixel in units of its finest axis; None where it is the same along all axes.
    maps
        Its maps from an earlier run.
    tracer
        The tracer for pixels of this size.
    space
        Unit and origin of the coordinates in its SWC files.
    field
        ``(*image_shape,)`` bool, its field of view; None is the whole image.
    """

    pixels: np.ndarray
    image: np.ndarray
    spaces: Spaces
    sizes: tuple[float, ...] | None
    maps: ImageMaps | None
    tracer: Tracer
    space: SwcSpace
    field: np.ndarray | None

    @property
    def field_inside(self) -> np.ndarray | None:
        """``(*S,)`` bool, the work pixels in which to trace: the field without its rim; None is all."""
        if self.field is None:
            return None
        inside = np.asarray(distance_transform_edt(self.field)) > max(LEAST_RIM, RIM * min(self.field.shape))
        return self.spaces.resize(inside[..., None].astype(np.float32))[..., 0] > 0.5

    def to_image(self, forest: SwcForest) -> SwcForest:
        """A forest in work pixels in image pixels."""
        origin = self.spaces.to_image(np.zeros(len(self.spaces.image_shape)))
        return rescale(forest, (1 / self.spaces.scale).tolist(), shift=origin.tolist())

    @property
    def centerline(self) -> np.ndarray | None:
        """``(*S,)`` the centerline map, if it is known."""
        return None if self.maps is None else self.maps.centerline


class TraceJob:
    """Traces any number of images with one weight file and one group of settings.

    Parameters
    ----------
    weights
        The weight file, or the name of shipped weights.
    options
        Those not given are taken from the weight file.
    spec
        See :class:`TraceSpec`.

    Attributes
    ----------
    options
        Complete options.
    predictor, tracer, cleanup
        Predictor, tracer and settings of the clean-up.
    together
        Images of a folder to trace at a time.
    header
        Header of the weight file.

    Raises
    ------
    UserError
        If the weights cannot be used, or an option has no meaning.
    """

    def __init__(self, weights: Path, options: TraceOptions, spec: TraceSpec) -> None:
        device = choose_device(options.device, options.threads)
        net, header = load_weights(weights, ndim=spec.ndim)
        self.options = complete(options, header)
        self._given_scale: float | Literal["auto"] | None = options.scale
        self.weights, self.header, self.spec = weight_file(weights), header, spec
        self.predictor = Predictor(
            net.zero_untrained(training_size(header)),
            header.patch_size,
            features=self.options.features,
            device=device,
            precision=self.options.precision,
            tile=options.tile,
            views=self.options.views,
            beta=header.training.get("beta", BETA),
            adapt=self.options.adapt,
            **spec.predictor(self.options),
        )
        # --white 0 asks for values by their type and nothing else.
        self.bright = 0.0 if options.white is not None else float(header.seen.get("bright", 0.0))
        self.tracer = Tracer(self.predictor, spec.settings(self.options))
        self.cleanup = cleanup_settings(self.options)
        self.confidence_model = ConfidenceModel.from_json(header.confidence)
        self.together = options.together or (TOGETHER if device == "cuda" and spec.ndim == 2 else 1)

    def read(self, image: Path, *, channel: Sequence[int] = (), timepoint: int | None = None) -> Image:
        """Read one image file, its values scaled as in training.

        Parameters
        ----------
        image
            The file.
        channel, timepoint
            See :class:`~lib.klib.decoded.ReadOptions`.

        Raises
        ------
        UserError
            If it cannot be read.
        """
        return self.spec.read(image, replace(self.levels, channel=tuple(channel), timepoint=timepoint))

    @property
    def levels(self) -> ReadOptions:
        """How the values of images become 0 to 1."""
        return ReadOptions(white=self.options.white, bright=self.bright)

    def trace(
        self,
        pixels: np.ndarray,
        *,
        spacing: Sequence[float] | None = None,
        stored_maps: StoredMaps = lambda _: None,
        progress: Progress = silent,
    ) -> Trace:
        """Trace an image; see :meth:`prepare`.

        Parameters
        ----------
        progress
            Receives the stages: ``encoding``, ``tracing``, ``cleaning up`` and ``measuring radii``.
        """
        work = self.prepare(pixels, spacing=spacing, stored_maps=stored_maps)
        result = work.tracer.trace(work.pixels, centerline=work.centerline, field=work.field_inside, progress=progress)
        return self.finish(work, result, progress)

    def prepare(
        self,
        pixels: np.ndarray,
        *,
        spacing: Sequence[float] | None = None,
        has_unit: bool = False,
        stored_maps: StoredMaps = lambda _: None,
        mask: np.ndarray | None = None,
        scale: float | None = None,
        window: WindowSpaces | None = None,
    ) -> Prepared:
        """Make an image ready to be traced.

        Parameters
        ----------
        pixels
            ``(*S, C)`` float32 in [0, 1].
        spacing
            Size of a pixel along each axis; ``--spacing`` takes precedence.
        has_unit
            Whether ``spacing`` is in micrometres.
        mask
            ``(*S,)`` bool, the field of view; None leaves it to ``--field``.
        stored_maps
            Called with the work shape; returns maps of this image from an earlier run, or None to compute them.
        scale
            Instead of that of the options.
        window
            Its spaces, where the image is a window of a larger one.

        Raises
        ------
        UserError
            If the image is smaller than a patch at this scale, or its stored maps are not its own, or micrometres are
            wanted and the size of a pixel is unknown.
        """
        spaces = window or self._spaces(pixels, scale or self._scale(pixels, spacing))
        sizes, space = self.sizes(spacing), self.space(spacing, has_unit)
        maps, work = stored_maps(spaces.work_shape), self.work_pixels(pixels, spaces)
        tracer = self.tracer if sizes is None else self.tracer.with_spacing(sizes)
        tracer = tracer if window is None else tracer.at(window.work_low)
        field = self.spec.find_field(pixels) if mask is None and self.options.field == "auto" else mask
        return Prepared(work, pixels, spaces, sizes, maps, tracer, space, field)

    def finish(
        self,
        image: Prepared,
        result: TraceResult,
        progress: Progress = silent,
        *,
        window: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Trace:
        """Clean up a trace, measure its radii and bring it back to image pixels.

        For the parameters see :meth:`trace` and, for ``window``, :func:`~tools.tracing.cleanup.pipeline.clean_up`.
        """
        progress("cleaning up", 0, 0)
        with _timed(result.seconds, "clean"):
            known = {"centerline": result.centerline, "settings": self.cleanup, "spacing": image.sizes}
            somata = self._somata(image, result.forest)
            forest = clean_up(result.forest, **known, kinds=result.kinds, somata=somata, window=window)
            loops = open_loops(forest, **known, recorded=result.loops)
        spaces, in_image = image.spaces, image.to_image(forest)
        progress("measuring radii", 0, 0)
        with _timed(result.seconds, "radius"):
            radius = self.spec.radii(image, result.centerline, forest, in_image)
        return Trace(
            forest=replace(in_image, radius=np.where(in_image.types == SOMA_TYPE, in_image.radius, radius)),
            centerline=result.centerline,
            spaces=spaces,
            loops=loops,
            counts=result.counts,
            stops=result.stops,
            seconds=result.seconds,
            space=image.space,
            field=image.field,
            swc_shift=self.options.swc_shift,
            kind_names=self.header.kind_names,
            confidence_model=self.confidence_model,
        )

    def _somata(self, image: Prepared, forest: SwcForest) -> Somata | None:
        """The somata of an image of which the trace before the clean-up is known."""
        if not self.options.soma:
            return None
        sizes, ndim = np.array(image.sizes or (1.0,) * self.spec.ndim), self.spec.ndim
        return find_somata(image.pixels, forest.positions(ndim), self.options.soma, sizes)

    def work_pixels(self, pixels: np.ndarray, spaces: Spaces) -> np.ndarray:
        """An image ``(*S, C)`` in work pixels, as the network takes it."""
        return with_local_contrast(spaces.resize(pixels), self.header.local_contrast)

    def make_maps(
        self,
        pixels: np.ndarray,
        *,
        spacing: Sequence[float] | None = None,
        scale: float | None = None,
        progress: Progress = silent,
    ) -> ImageMaps:
        """Maps of an image; the axes of its tubes are the skeleton of the centerline map. See :meth:`prepare`."""
        work = self.work_pixels(pixels, self._spaces(pixels, scale or self._scale(pixels, spacing)))
        centerline = self.predictor.encode(work, progress=progress).centerline
        progress("measuring radii", 0, 0)
        axis = np.zeros(centerline.shape, dtype=bool)
        axis[tuple(skeleton_pixels(centerline, self.options.stop_threshold).T)] = True
        return ImageMaps(centerline, surface_distance(work, axis, self.sizes(spacing)))

    def ground_scale(self, image: Path, shape: Sequence[int]) -> float | None:
        """Scale of a georeferenced image file; see :func:`~tools.tracing.scale.ground_scale`."""
        return ground_scale(self._given_scale, self.header, image, shape)

    def _scale(self, pixels: np.ndarray, spacing: Sequence[float] | None) -> float:
        """Work pixels per image pixel: given, or measured."""
        scale = self.options.scale
        return fitting_scale(self, pixels, spacing) if scale == "auto" else scale

    def _spaces(self, pixels: np.ndarray, scale: float) -> Spaces:
        """Image and work space of an image, which must not be smaller than a patch."""
        spaces = Spaces.scaled(pixels.shape[:-1], scale)
        check_holds_patch(spaces.work_shape, self.header.patch_size, self.spec.advice)
        return spaces

    def sizes(self, spacing: Sequence[float] | None) -> tuple[float, ...] | None:
        """Size of a pixel in units of its finest axis; None where it is the same along all axes."""
        known, _ = self.spacing_of(spacing)
        sizes = relative_spacing(known) if known else ()
        return sizes if set(sizes) - {1.0} else None

    def space(self, spacing: Sequence[float] | None, has_unit: bool) -> SwcSpace:
        """Space of the SWC files of an image whose file gives ``spacing``."""
        size, source = self.spacing_of(spacing)
        known = source == GIVEN or (source == IN_FILE and has_unit)
        units = self.options.swc_units or ("um" if known else "voxel")
        if units == "um" and not known:
            raise UserError("--swc_units um: the size of a voxel is not known in micrometres; give --spacing")
        return SwcSpace(self.options.swc_origin, units, size if known else None)

    def spacing_of(self, spacing: Sequence[float] | None) -> tuple[tuple[float, ...], str]:
        """Size of a pixel of an image whose file gives ``spacing``, empty if unknown, and where the size comes from."""
        sources = {GIVEN: self.options.spacing, IN_FILE: spacing, "the training volumes": self.header.spacing}
        return next(((tuple(size), source) for source, size in sources.items() if size), ((), "nowhere"))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note the seconds spent inside under ``stage``."""
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started
