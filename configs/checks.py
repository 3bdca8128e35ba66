"""Checks of option values, made before any work begins.

Each check raises a :class:`~lib.errors.UserError` of one line that names the option, its value and the values allowed.
Comparisons are written so that NaN fails them.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from configs.options import PrepareOptions, TraceOptions, TraceOptions3D, TrainOptions
from lib.errors import UserError
from models.nenet import STRIDE

Limit = tuple[Callable[[Any], bool], str]
"""A test for allowed values, and the error message for others, with ``{name}`` and ``{value}`` to fill in."""

SHARE: Limit = (lambda value: 0 <= value <= 1, "--{name} {value}: give a share from 0 to 1")
PERCENTILE: Limit = (lambda value: 0 <= value <= 100, "--{name} {value}: give a percentile, 0 to 100")
LEAST_WINDOW = 5.0
"""Work pixels: in a smaller window tubes would be their own surroundings."""
LARGEST_SHIFT = 1e6
"""Image pixels. A larger shift must be a mistake: no image is that large, and an SWC file would lose decimals."""


def at_least(least: float, message: str) -> Limit:
    """Allow finite values from ``least`` on."""
    return (lambda value: least <= value < math.inf), message


def above(bound: float, message: str) -> Limit:
    """Allow finite values above ``bound``."""
    return (lambda value: bound < value < math.inf), message


def _check_choices(options: object) -> None:
    """Refuse values that a ``Literal`` does not list; the command line has refused them already, Python has not."""
    for name, hint in get_type_hints(type(options)).items():
        literals = [part for part in (hint, *get_args(hint)) if get_origin(part) is Literal]
        choices = [choice for literal in literals for choice in get_args(literal)]
        value = getattr(options, name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and float in get_args(hint)
        if choices and value is not None and value not in choices and not is_number:
            raise UserError(f"--{name} must be {' or '.join(map(str, choices))}, got {value}")


def check_limits(options: object, limits: Mapping[str, Limit]) -> None:
    """Refuse options whose values are not allowed.

    Raises
    ------
    UserError
        If there is one.
    """
    _check_choices(options)
    for name, (allowed, message) in limits.items():
        value = getattr(options, name)
        if not allowed(value):
            raise UserError(message.format(name=name, value=shown(value)))


def shown(value: Any) -> str:
    """A value as it is typed on the command line."""
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def check_axes(name: str, values: Sequence[float], ndim: int) -> None:
    """Refuse values of option ``name`` unless there is one for each of the ``ndim`` axes.

    Raises
    ------
    UserError
        If there are more or fewer values.
    """
    if len(values) != ndim:
        axes = " ".join("zyx"[-ndim:])
        raise UserError(f"--{name} {shown(values)}: {len(values)} numbers, but {ndim}D has {ndim} axes; give {axes}")


def check_spacing(sizes: Sequence[float], ndim: int) -> None:
    """Refuse ``--spacing`` unless it has a positive size for each of the ``ndim`` axes.

    Raises
    ------
    UserError
        If it has not.
    """
    check_axes("spacing", sizes, ndim)
    if not all(0 < size < math.inf for size in sizes):
        raise UserError(f"--spacing must be above 0, got {shown(sizes)}")


# ---- prepare -------------------------------------------------------------------------------------------------------

_PREPARE_LIMITS: dict[str, Limit] = {
    "scale": (lambda value: 0 < value <= 100, "--{name} must be above 0 and at most 100, got {value}"),
    "step": above(0, "--{name} must be above 0 (work pixels), got {value}"),
    "jitter": at_least(0, "--{name} must be 0 or more (work pixels), got {value}"),
    "n_samples": at_least(0, "--{name} must be 0 or more, got {value}"),
    "margin": at_least(1, "--{name} must be 1 or more (nodes), got {value}"),
    "substeps": at_least(1, "--{name} must be 1 or more, got {value}"),
    "workers": at_least(0, "--{name} must be 0 or more (0: one per core), got {value}"),
    "seed": at_least(0, "--{name} must be 0 or more, got {value}"),
    "white": PERCENTILE,
    "local_contrast": (
        lambda value: value == 0 or LEAST_WINDOW <= value < math.inf,
        f"--{{name}} {{value}}: give at least {LEAST_WINDOW:g} (work pixels), or 0 to leave it out",
    ),
}


def check_prepare_options(options: PrepareOptions, ndim: int) -> None:
    """Check the options of a prepare script for images of ``ndim`` dimensions.

    Raises
    ------
    UserError
        If a value is not allowed.
    """
    check_limits(options, _PREPARE_LIMITS)
    if options.local_contrast and ndim == 3:
        raise UserError("--local_contrast is for images; the dark background of a volume would be taken for a frame")
    check_axes("patch_size", options.patch_size, ndim)
    if options.spacing is not None:
        check_spacing(options.spacing, ndim)
    if min(options.patch_size) < STRIDE or any(size % STRIDE for size in options.patch_size):
        allowed = f"multiples of {STRIDE} (the network halves a patch four times)"
        raise UserError(f"--patch_size must be {allowed}, got {' x '.join(map(str, options.patch_size))}")


# ---- train ---------------------------------------------------------------------------------------------------------

_AT_LEAST_ONE = "width batch_size nb_epoch epoch_size states_per_tile validation_size save_every log_every"
_NOT_NEGATIVE = "lr_final warmup warps frozen_epochs edge_weight connectivity_weight max_steps seed"
_TRAIN_LIMITS: dict[str, Limit] = {
    **dict.fromkeys(_AT_LEAST_ONE.split(), at_least(1, "--{name} {value}: give at least 1")),
    **dict.fromkeys(_NOT_NEGATIVE.split(), at_least(0, "--{name} {value}: give 0 or more")),
    **dict.fromkeys(("lr", "r"), above(0, "--{name} {value}: give more than 0")),
    "warp_scale": at_least(1, "--{name} {value}: give 1 or more"),
    "background": (lambda value: 0 <= value < 1, "--{name} {value}: give a share from 0 to below 1"),
    "average": SHARE,
    "beta": (lambda value: 0 < value < 1, "--{name} {value}: give a weight between 0 and 1"),
}


def check_train_options(options: TrainOptions, ndim: int) -> None:
    """Check the options of ``--mode train`` for images of ``ndim`` dimensions.

    Raises
    ------
    UserError
        If a value is not allowed, or contradicts another.
    """
    check_limits(options, _TRAIN_LIMITS)
    if options.sampling == "stacks" and options.features == "tile":
        raise UserError("--features tile needs --sampling online; for --sampling stacks, give --features patch")
    for name in ("patch_size", "tile_size", "stem"):
        check_axes(name, getattr(options, name), ndim)
    if min(options.stem) < 1:
        raise UserError(f"--stem {shown(options.stem)}: give 1 or more along every axis")
    for name in ("patch_size", "tile_size"):
        # What is encoded is halved four times on the trunk's grid: tiles, or each patch.
        encoded = name == "tile_size" or options.features == "patch"
        units = [STRIDE * factor if encoded else math.lcm(STRIDE, factor) for factor in options.stem]
        sizes = getattr(options, name)
        if any(size <= 0 or size % unit for size, unit in zip(sizes, units, strict=True)):
            raise UserError(f"--{name} {shown(sizes)}: give multiples of {shown(units)}")
    tile, patch = shown(options.tile_size), shown(options.patch_size)
    if options.tile_size[-1] != options.tile_size[-2]:
        raise UserError(f"--tile_size {tile}: tiles are turned by 90°, so y and x must be equal")
    # Validation uses tiles, whatever --features is.
    if any(t <= p for t, p in zip(options.tile_size, options.patch_size, strict=True)):
        raise UserError(f"--tile_size {tile} must be larger than --patch_size {patch} along every axis")


# ---- trace ---------------------------------------------------------------------------------------------------------

_PROBABILITY: Limit = (lambda value: 0 < value < 1, "--{name} {value}: give a probability between 0 and 1")
_TRACE_LIMITS: dict[str, Limit] = {
    **dict.fromkeys(("seed_threshold", "stop_threshold"), _PROBABILITY),
    **dict.fromkeys(("sure", "adapt"), SHARE),
    "r": above(0, "--{name} {value}: must be positive"),
    "scale": (lambda value: value == "auto" or 0 < value < math.inf, "--{name} {value}: must be positive, or auto"),
    **dict.fromkeys(
        ("spur", "gap", "soma"), at_least(0, "--{name} {value}: give a length in work pixels, 0 to turn it off")
    ),
    "white": PERCENTILE,
    "swc_shift": (
        lambda value: abs(value) <= LARGEST_SHIFT,
        f"--{{name}} {{value}}: give image pixels, at most {LARGEST_SHIFT:g}",
    ),
    **dict.fromkeys(("fronts", "num_vec"), at_least(1, "--{name} {value}: must be at least 1")),
    **dict.fromkeys(("seed", "together"), at_least(0, "--{name} {value}: give 0 or more")),
}


def check_trace_options(options: TraceOptions, ndim: int) -> None:
    """Check the options of ``--mode test`` for images of ``ndim`` dimensions, after the weight file has completed them.

    Raises
    ------
    UserError
        If a value is not allowed.
    """
    if isinstance(options, TraceOptions3D):
        _check_volume_options(options)
    check_limits(options, _TRACE_LIMITS)
    if not 1 <= (options.views or 0) <= 2**ndim:
        raise UserError(f"--views {options.views}: give 1 to {2**ndim}, the number of mirrored views in {ndim}D")
    if options.spacing is not None:
        check_spacing(options.spacing, ndim)
    if options.tile < 0 or options.tile % STRIDE:
        raise UserError(f"--tile {options.tile}: give a multiple of {STRIDE}")
    if options.geodesic == "geodistk" and importlib.util.find_spec("GeodisTK") is None:
        raise UserError("--geodesic geodistk: the package GeodisTK is not installed; run `make geodistk`")


def _check_volume_options(options: TraceOptions3D) -> None:
    if not 0 < options.memory < math.inf:
        raise UserError(f"--memory {options.memory}: must be positive, in gigabytes")
    if options.dark is not None and not 0 <= options.dark <= 1:
        raise UserError(f"--dark {options.dark}: give a brightness from 0 to 1, on the square-root curve")
