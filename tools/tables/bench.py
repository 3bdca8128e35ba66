"""All methods on one image: the network's map is made once and shared, everything else is timed by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from configs.options import TraceRun
from lib.errors import UserError
from lib.klib.image_io import Image
from lib.swclib import SwcForest
from tools.inference.predictor import Predictor
from tools.progress import Progress, silent
from tools.tables.methods import Method
from tools.tables.skeletons import Rules, skeletonised
from tools.tracing.growth.gds import search_batch
from tools.tracing.growth.tracer import Tracer, TraceResult
from tools.tracing.job import TraceJob


class EncodedOnce:
    """A predictor that encodes an image only if it is another one than before.

    Attributes
    ----------
    seconds
        What encoding the present image took.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.seconds = 0.0
        self._pixels = np.zeros(0, np.float32)
        self._map = np.zeros(0, np.float32)

    def set_image(self, pixels: np.ndarray, *, progress: Progress = silent) -> np.ndarray:
        """As :meth:`~tools.inference.predictor.Predictor.set_image`, at once where ``pixels`` ``(*S, C)`` are set already."""
        if not np.array_equal(pixels, self._pixels):
            started = time.perf_counter()
            self._map = self.predictor.set_image(pixels, progress=progress)
            self._pixels, self.seconds = pixels, time.perf_counter() - started
        return self._map.copy()


class Borrowed:
    """The interface of a predictor for one method, over the one image that all methods share.

    An image encoded as a tile can also be looked at patch by patch: its pixels are kept, its map is the same.
    """

    def __init__(self, once: EncodedOnce, features: str) -> None:
        self._once, self._features = once, features

    @property
    def network_seconds(self) -> float:
        """Time in the network, see :class:`~tools.inference.predictor.Predictor`."""
        return self._once.predictor.network_seconds

    @property
    def tile_shape(self) -> tuple[int, ...] | None:
        """Where seeds are best taken together, see :class:`~tools.inference.predictor.Predictor`."""
        return getattr(self._once.predictor, "tile_shape", None)

    def set_image(self, pixels: np.ndarray, *, progress: Progress = silent) -> np.ndarray:
        """The map of ``pixels``, not computed again."""
        return self._once.set_image(pixels, progress=progress)

    def predict(self, tips: np.ndarray, walked: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As :meth:`~tools.inference.predictor.Predictor.predict`, with this method's features."""
        self._once.predictor.features = self._features
        return self._once.predictor.predict(tips, walked)


class MapTracer:
    """The interface of a tracer for a method that makes a forest of the map alone."""

    def __init__(
        self, predictor: Borrowed, method: Method, rules: Rules, spacing: tuple[float, ...] | None = None
    ) -> None:
        self._predictor, self._method, self._rules, self._spacing = predictor, method, rules, spacing

    def with_spacing(self, spacing: tuple[float, ...]) -> MapTracer:
        """The same for pixels of another size, in units of its finest axis."""
        return MapTracer(self._predictor, self._method, self._rules, spacing)

    def trace(self, pixels: np.ndarray, *, progress: Progress = silent) -> TraceResult:
        """The forest of a work image ``(*S, C)``."""
        centerline = self._predictor.set_image(pixels, progress=progress)
        started = time.perf_counter()
        forest = self.trace_map(centerline)
        loops = np.zeros((0, 2, centerline.ndim))
        return TraceResult(forest, centerline, loops, seconds={"search": time.perf_counter() - started})

    def trace_map(self, centerline: np.ndarray) -> SwcForest:
        """The forest of a map ``(*S,)``.

        Raises
        ------
        UserError
            If the map has no skeleton, or another package fails.
        """
        try:
            return skeletonised(centerline, self._rules, self._method.make, self._spacing)
        except UserError:
            raise
        except Exception as error:
            if not self._method.package:
                raise
            # Whatever another package stumbles over is the end of one row, not of the tables.
            reason = " ".join(str(error).split())
            raise UserError(f"{self._method.package} failed ({type(error).__name__}: {reason})") from error


@dataclass(frozen=True)
class Made:
    """A forest and what it took.

    Attributes
    ----------
    forest
        As it is written: in image pixels, with the origin of the dataset's SWCs.
    seconds
        From the map to the forest.
    map_seconds
        Of the map, shared by all methods.
    """

    forest: SwcForest
    seconds: float
    map_seconds: float


class Bench:
    """One weight file and one scale, for all methods and images of a dataset.

    Parameters
    ----------
    build
        Makes the trace jobs.
    options
        Of the shipped settings; what is not given comes from the weight file.

    Attributes
    ----------
    options
        The same, complete.
    header
        Of the weight file.
    read
        Reads an image.

    Raises
    ------
    UserError
        If the weights cannot be used.
    """

    def __init__(self, build: Callable[[TraceRun], TraceJob], options: TraceRun) -> None:
        shipped = build(options)
        self.options, self.header, self.read = shipped.options, shipped.header, shipped.read
        self.build, self._once = build, EncodedOnce(shipped.tracer.predictor)
        self._jobs: dict[str, TraceJob] = {}

    def options_of(self, method: Method) -> TraceRun:
        """The complete options that a method traces with; those of a map method are the map's and its clean-up's."""
        return replace(self.options, **method.changes)

    def make(self, method: Method, image: Image) -> Made:
        """Trace an image with one method.

        Raises
        ------
        UserError
            If the image is too small, or its map has no skeleton.
        """
        if method.name not in self._jobs:
            self._jobs[method.name] = self._job(method)
            self._warm_up(method)
        job = self._jobs[method.name]
        trace = job.trace(image.pixels, spacing=image.spacing)
        seconds = sum(spent for stage, spent in trace.seconds.items() if stage != "encode")
        return Made(trace.swc_forest, seconds, self._once.seconds)

    def _job(self, method: Method) -> TraceJob:
        """The trace job of a method, with the shared map in it."""
        options = self.options_of(method)
        predictor = Borrowed(self._once, options.features)
        if method.make is None:
            job = self.build(options)
            job.tracer = Tracer(predictor, job.tracer.settings)
            return job
        # Its forest is clean already, and to be left as it is.
        job = self.build(replace(options, refine=False, gap=0.0, spur=0.0, sure=0.0))
        rules = Rules(options.stop_threshold, options.spur, options.sure, self.header.step)
        job.tracer = MapTracer(predictor, method, rules)
        return job

    def _warm_up(self, method: Method) -> None:
        """Let everything be compiled that is compiled at its first use: that time belongs to no image."""
        ndim, tracer = self.header.ndim, self._jobs[method.name].tracer
        bar = np.zeros((32,) * ndim, np.float32)
        bar[(slice(14, 18),) * (ndim - 1) + (slice(4, 28),)] = 0.9
        if method.make is not None:
            # What fails here fails on the images, too, and is told there.
            with suppress(UserError):
                tracer.trace_map(bar)
            return
        node = np.zeros_like(bar)
        node[(slice(15, 18),) * (ndim - 1) + (slice(23, 26),)] = 0.9
        search_batch(node[None], bar[None], np.full((1, ndim), 16.0), tracer.settings.search)
