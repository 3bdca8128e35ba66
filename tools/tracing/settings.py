"""From options to the settings of the tracer and of the clean-up; what is not given comes from the weight file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Protocol, TypeVar, cast, get_args

from configs.checks import check_trace_options
from configs.options import Crossings, TraceOptions
from lib.swclib import SwcOrigin, SwcUnits
from models.checkpoint import WeightsHeader
from tools.tracing.cleanup.pipeline import CleanupSettings
from tools.tracing.growth.gds import Search
from tools.tracing.growth.geodesic import Solver
from tools.tracing.growth.settings import TraceSettings

Options = TypeVar("Options", bound=TraceOptions)


class CompleteOptions(Protocol):
    """Trace options after :func:`with_defaults`; see :class:`~configs.options.TraceOptions` for each."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    scale: float | Literal["auto"]
    white: float
    swc_origin: SwcOrigin
    swc_units: SwcUnits | None
    spacing: tuple[float, ...] | None
    swc_shift: float
    field: Literal["auto", "whole"]
    seed_threshold: float
    stop_threshold: float
    spur: float
    gap: float
    sure: float
    soma: float
    refine: bool
    r: float
    num_vec: int
    fronts: int
    together: int
    features: Literal["tile", "patch"]
    views: int
    adapt: float
    method: Literal["gds", "brightest"]
    joins: bool
    crossings: Crossings
    geodesic: Solver
    precision: Literal["auto", "fp32", "bf16"]
    tile: int
    seed: int


def training_size(header: WeightsHeader) -> Sequence[int]:
    """Size in work pixels of the images that the network saw in training."""
    return header.training.get("tile_size" if header.features == "tile" else "patch_size", header.patch_size)


def with_defaults(options: Options, header: WeightsHeader) -> Options:
    """Options in which everything that was not given is taken from the weight file.

    Raises
    ------
    UserError
        If an option has no meaning.
    """
    thresholds = header.thresholds
    of_weights = {
        "scale": header.scale,
        "white": header.white,
        "swc_origin": header.swc_origin,
        "r": header.r,
        "swc_shift": thresholds.get("swc_shift", 0.0),
        "features": header.features,
        "views": int(thresholds.get("views", 1)),
        "adapt": thresholds.get("adapt", 0.0),
        "seed_threshold": thresholds.get("seed", TraceSettings.seed_threshold),
        "stop_threshold": thresholds.get("stop", TraceSettings.stop_threshold),
        "spur": thresholds.get("spur", CleanupSettings.spur),
        "gap": thresholds.get("gap", CleanupSettings.gap),
        "sure": thresholds.get("sure", CleanupSettings.sure),
        "soma": thresholds.get("soma", 0.0),
        "crossings": get_args(Crossings)[int(thresholds.get("apart", 0))],
        "dark": thresholds.get("dark", 0.0),
    }
    missing = {name: value for name, value in of_weights.items() if getattr(options, name, value) is None}
    options = replace(options, **missing)
    check_trace_options(options, header.ndim)
    return options


def complete(options: TraceOptions, header: WeightsHeader) -> CompleteOptions:
    """As :func:`with_defaults`, in a type that says that nothing is missing."""
    return cast(CompleteOptions, with_defaults(options, header))


def trace_settings(options: CompleteOptions) -> TraceSettings:
    """The tracer's part of the options."""
    return TraceSettings(
        search=Search(r=options.r, num_vec=options.num_vec, solver=options.geodesic),
        seed_threshold=options.seed_threshold,
        stop_threshold=options.stop_threshold,
        fronts=options.fronts,
        cross=options.crossings == "through",
        method=options.method,
        joins=options.joins,
        random_seed=options.seed,
    )


def cleanup_settings(options: CompleteOptions) -> CleanupSettings:
    """The clean-up's part of the options."""
    return CleanupSettings(
        gap=options.gap,
        gap_probability=options.stop_threshold,
        spur=options.spur,
        sure=options.sure,
        centre=options.refine,
        split_crossings=options.crossings != "joined",
    )
