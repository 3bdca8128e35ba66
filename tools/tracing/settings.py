"""From options to the settings of the tracer and of the clean-up; what is not given comes from the weight file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from configs.checks import check_trace_options
from configs.options import TraceOptions
from models.checkpoint import WeightsHeader
from tools.tracing.cleanup.pipeline import CleanupSettings
from tools.tracing.growth.gds import Search
from tools.tracing.growth.tracer import TraceSettings


def seen_in_training(header: WeightsHeader) -> Sequence[int]:
    """Size of the images that the network saw while it was trained."""
    return header.training.get("tile_size" if header.features == "tile" else "patch_size", header.patch_size)


def with_defaults(options: TraceOptions, header: WeightsHeader) -> TraceOptions:
    """Options with what was not given taken from the weight file."""
    of_weights = {
        "scale": header.scale,
        "swc_origin": header.swc_origin,
        "r": header.r,
        "swc_shift": header.thresholds.get("swc_shift", 0.0),
        "features": header.features,
        "views": int(header.thresholds.get("views", 1)),
        "adapt": header.thresholds.get("adapt", 0.0),
        "seed_threshold": header.thresholds.get("seed", TraceSettings.seed_threshold),
        "stop_threshold": header.thresholds.get("stop", TraceSettings.stop_threshold),
        "spur": header.thresholds.get("spur", CleanupSettings.spur),
        "gap": header.thresholds.get("gap", CleanupSettings.gap),
        "sure": header.thresholds.get("sure", CleanupSettings.sure),
        "crossings": "apart" if header.thresholds.get("apart", CleanupSettings.split_crossings) else "joined",
        "dark": header.thresholds.get("dark", 0.0),
    }
    missing = {name: value for name, value in of_weights.items() if getattr(options, name, value) is None}
    options = replace(options, **missing)
    check_trace_options(options, header.ndim)
    return options


def trace_settings(options: TraceOptions) -> TraceSettings:
    """The tracer's part of complete options."""
    return TraceSettings(
        search=Search(r=options.r, num_vec=options.num_vec, solver=options.geodesic),
        seed_threshold=options.seed_threshold,
        stop_threshold=options.stop_threshold,
        fronts=options.fronts,
        method=options.method,
        joins=options.joins,
        seed=options.seed,
    )


def cleanup_settings(options: TraceOptions) -> CleanupSettings:
    """The clean-up's part of complete options."""
    return CleanupSettings(
        gap=options.gap,
        gap_probability=options.stop_threshold,
        spur=options.spur,
        sure=options.sure,
        centre=options.refine,
        split_crossings=options.crossings == "apart",
    )
