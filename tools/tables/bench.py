"""Run all methods on one image: the network's centerline map is computed once, the rest is timed for each method."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from configs.options import TraceRun, TraceRun3D
from lib.devices import choose_device
from lib.errors import UserError
from lib.klib.image_io import Image
from lib.swclib import SwcForest
from tools.inference.encoded_image import EncodedImage, Tips
from tools.inference.predictor import Predictor, as_patches
from tools.progress import Progress, silent
from tools.tables.methods import Method
from tools.tables.skeletons import Rules, skeleton_forest
from tools.tracing.growth.gds import search_batch
from tools.tracing.growth.settings import TraceSettings
from tools.tracing.growth.tracer import MapPredictor, Tracer, TraceResult
from tools.tracing.job import TraceJob
from tools.tracing.settings import CompleteOptions, cleanup_settings


class SharedPredictor:
    """A predictor that several methods use in turn on the same image, which is encoded once.

    Parameters
    ----------
    predictor
        The shipped predictor; it encodes the image as the shipped method needs it.

    Attributes
    ----------
    features
        ``tile`` or ``patch``: how to predict for the present method. An image encoded as tiles can also be predicted
        patch by patch, from the same map.
    map_seconds
        Time taken to encode the present image.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor, self.features = predictor, predictor.features
        self.map_seconds = 0.0
        self._image: EncodedImage | None = None

    @property
    def network_seconds(self) -> float:
        """Time in the network, see :class:`~tools.inference.predictor.Predictor`."""
        return self._predictor.network_seconds

    def encode(
        self, pixels: np.ndarray, *, centerline: np.ndarray | None = None, progress: Progress = silent
    ) -> EncodedImage:
        """As :meth:`~tools.inference.predictor.Predictor.encode`; the present image is not encoded again."""
        if self._image is None or not np.array_equal(pixels, self._image.pixels):
            started = time.perf_counter()
            self._image = self._predictor.encode(pixels, progress=progress)
            self.map_seconds = time.perf_counter() - started
        image = as_patches(self._image) if self.features == "patch" else self._image
        return replace(image, centerline=image.centerline.copy())

    def predict(self, *batch: Tips) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :meth:`tools.inference.predictor.Predictor.predict`."""
        return self._predictor.predict(*batch)


class MapTracer(Tracer):
    """A tracer for a method that makes its forest from the centerline map alone."""

    def __init__(
        self,
        predictor: MapPredictor,
        settings: TraceSettings,
        method: Method,
        rules: Rules,
        spacing: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(predictor, settings)
        self._method, self._rules, self._spacing = method, rules, spacing

    def with_spacing(self, spacing: tuple[float, ...]) -> MapTracer:
        """The same tracer for pixels of another size ``(ndim,)``, in units of its finest axis."""
        return MapTracer(self.predictor, self.settings, self._method, self._rules, spacing)

    def trace(
        self,
        pixels: np.ndarray,
        *,
        centerline: np.ndarray | None = None,
        field: np.ndarray | None = None,
        progress: Progress = silent,
    ) -> TraceResult:
        """Forest of the skeleton of the map of an image ``(*S, C)``."""
        mapped = self.predictor.encode(pixels, centerline=centerline, progress=progress).centerline
        return self.of_map(mapped if field is None else mapped * field)

    def of_map(self, centerline: np.ndarray) -> TraceResult:
        """Forest of a map ``(*S,)``.

        Raises
        ------
        UserError
            If the map has no skeleton, or another package fails.
        """
        started = time.perf_counter()
        assert self._method.make is not None
        try:
            forest = skeleton_forest(centerline, self._rules, self._method.make, self._spacing)
        except UserError:
            raise
        except Exception as error:
            if not self._method.package:
                raise
            # A failure of another package costs one cell of the tables and must not end the run.
            reason = " ".join(str(error).split())
            raise UserError(f"{self._method.package} failed ({type(error).__name__}: {reason})") from error
        loops = np.zeros((0, 2, centerline.ndim))
        return TraceResult(forest, centerline, loops, seconds={"search": time.perf_counter() - started})


@dataclass(frozen=True)
class TimedForest:
    """A forest and the time it took.

    Attributes
    ----------
    forest
        In image pixels, with the SWC origin of the dataset.
    seconds
        From the map to the forest.
    map_seconds
        For the map, which all methods share.
    """

    forest: SwcForest
    seconds: float
    map_seconds: float


class Bench:
    """Runs all methods on the images of a dataset, with one weight file and one scale.

    Parameters
    ----------
    build
        Builds a trace job from options.
    options
        Options of the shipped method; those not given are taken from the weight file.

    Attributes
    ----------
    options
        The complete options.
    weights
        The weight file.
    device
        Where the network runs.
    header
        Header of the weight file.
    read
        Reads an image.

    Raises
    ------
    UserError
        If the weights cannot be used.
    """

    def __init__(self, build: Callable[[Any], TraceJob], options: TraceRun | TraceRun3D) -> None:
        self._shipped = shipped = build(options)
        self.options, self.header, self.read = shipped.options, shipped.header, shipped.read
        self.weights, self.device = options.weights, choose_device(options.device, options.threads)
        self.build, self._predictor = build, SharedPredictor(shipped.predictor)
        self._jobs: dict[str, TraceJob] = {}

    def options_of(self, method: Method) -> CompleteOptions:
        """The complete options of a method; a method that makes skeletons uses those of the map and the clean-up."""
        return replace(self.options, **method.changes)

    def make(self, method: Method, image: Image) -> TimedForest:
        """Trace an image with one method.

        Raises
        ------
        UserError
            If the image is too small, or its map has no skeleton.
        """
        if method.name not in self._jobs:
            self._jobs[method.name] = self._job(method)
            self._compile(self._jobs[method.name].tracer)
        self._predictor.features = self.options_of(method).features
        trace = self._jobs[method.name].trace(image.pixels, spacing=image.spacing)
        seconds = sum(spent for stage, spent in trace.seconds.items() if stage != "encode")
        return TimedForest(trace.swc_forest, seconds, self._predictor.map_seconds)

    def _job(self, method: Method) -> TraceJob:
        """The trace job of a method, with the shared predictor."""
        job, options = copy(self._shipped), self.options_of(method)
        settings = job.spec.settings(options)
        if method.make is None:
            job.tracer = Tracer(self._predictor, settings)
        else:
            rules = Rules(options.stop_threshold, options.spur, options.sure, self.header.step)
            job.tracer = MapTracer(self._predictor, settings, method, rules)
            # The skeleton is already cleaned up and must stay as it is.
            options = replace(options, refine=False, gap=0.0, spur=0.0, sure=0.0)
        job.options, job.cleanup = options, cleanup_settings(options)
        return job

    def _compile(self, tracer: Tracer) -> None:
        """Run everything that is compiled at its first use, so that no image is charged for it."""
        ndim = self.header.ndim
        bar = np.zeros((32,) * ndim, np.float32)
        bar[(slice(14, 18),) * (ndim - 1) + (slice(4, 28),)] = 0.9
        if isinstance(tracer, MapTracer):
            # What fails here also fails on the images, and is reported there.
            with suppress(UserError):
                tracer.of_map(bar)
            return
        node = np.zeros_like(bar)
        node[(slice(15, 18),) * (ndim - 1) + (slice(23, 26),)] = 0.9
        search_batch(node[None], bar[None], np.full((1, ndim), 16.0), tracer.settings.search)
