"""What a decoder gives, and what it is asked to take: arrays with named axes, time points, channels, units."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lib.errors import UserError, counted

Spacing = tuple[float, ...]
"""Size of a voxel, ``(z, y, x)``, in micrometres, or in a unit that the file does not name."""

_MICRONS = dict(nm=1e-3, nanometer=1e-3, mm=1e3, millimeter=1e3, cm=1e4, m=1e6, meter=1e6, inch=2.54e4)
_MICRONS |= dict.fromkeys(("um", "µm", "μm", "\\u00b5m", "micron", "microns", "micrometer"), 1.0)
"""Micrometres per unit, by the names that OME, ImageJ, OME-Zarr and NIfTI use."""


@dataclass(frozen=True)
class ReadOptions:
    """What to take of a file, and how its values become 0 to 1.

    Attributes
    ----------
    channel
        Channels to take, the first is 1: one, or three as red, green and blue; empty takes all.
    timepoint
        Time point to take, the first is 1; None if there is one.
    white
        Percentile of the values that becomes 1; with 0 the value depends on the type.
    bright
        The :data:`BRIGHT` percentile of values that the weights know, 0 to 1. With ``white`` 0, values of more than 8
        bits that are much darker (in volumes 12 bits) are brought there; 0 leaves all as they are.
    """

    channel: tuple[int, ...] = ()
    timepoint: int | None = None
    white: float = 0.0
    bright: float = 0.0


ALL = ReadOptions()
"""A whole file, its values by their type."""
BRIGHT = {2: 99.9, 3: 99.99}
"""Percentile that tells how bright an image is, by dimension: the brightest values may be broken pixels, but the
neurites of a volume are few."""
DARK = 0.5
"""Part of the known brightness below which an image is brightened: 12 bits in a file of 16 are a sixteenth."""
TWELVE_BITS = 4095
"""Volumes with larger values are not brightened: where neurites are rarer than :data:`BRIGHT` takes them to be, the
percentile is that of the background."""


@dataclass(frozen=True)
class Decoded:
    """Pixels as stored in a file.

    Attributes
    ----------
    array
        Numbers of any dtype, one axis per letter of ``axes``.
    axes
        ``"YX"``, ``"YXC"``, ``"ZYX"`` or ``"ZYXC"``.
    notes
        One line per conversion.
    spacing
        Size of a voxel, or pixel; None where the file does not give it, in 2D also where it names no unit.
    has_unit
        Whether the size is known to be in micrometres.
    channels
        What is said of the channels, if C are those of a microscope or of a sensor and not colours; else empty.
    """

    array: NDArray[Any]
    axes: str
    notes: tuple[str, ...] = ()
    spacing: Spacing | None = None
    has_unit: bool = False
    channels: str = ""


@contextmanager
def decoding_errors(path: Path | str) -> Iterator[None]:
    """Turn every error of a decoder into a one-line message: decoders raise errors of many types on broken files.

    Raises
    ------
    UserError
        Instead of any other error in the block.
    """
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{path}: does not fit into memory ({one_line(error)}); give a part of it") from error
    except Exception as error:
        package = error.name if isinstance(error, ImportError) else None
        if "requires the 'imagecodecs' package" in str(error):  # tifffile, for a compression it cannot decode itself
            package = "imagecodecs"
        if package is None:
            raise UserError(f"{path}: broken or not complete ({one_line(error)}); copy it again") from error
        advice = f"run `pip install {package}`, or save the image as uncompressed TIFF"
        raise UserError(f"{path}: reading it needs the package {package}, which is not installed; {advice}") from error


def one_line(error: Exception) -> str:
    """Message of an error in one line of at most 160 characters."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def microns(unit: str | None) -> float | None:
    """Micrometres per unit of length; None if the unit is unknown or missing."""
    return _MICRONS.get((unit or "").lower())


def in_microns(sizes: Sequence[float], unit: str | None) -> tuple[Spacing, bool]:
    """Sizes in micrometres, and whether they are: those in an unknown unit are left as they are."""
    scale = microns(unit)
    return tuple(float(size) * (scale or 1.0) for size in sizes), scale is not None


def at_timepoint(path: Path | str, array: Any, axes: str, how: ReadOptions) -> tuple[Any, str, tuple[str, ...]]:
    """Take the time point that was chosen, before anything else of a series is read.

    Parameters
    ----------
    path
        For messages.
    array
        Anything with a shape that can be indexed.
    axes
        A letter for each axis, T for time.
    how
        Which time point.

    Returns
    -------
    array, axes, notes
        Without time; a series without slices is kept, because stacks are often saved so.

    Raises
    ------
    UserError
        If there is no such time point, or there are several and none was chosen.
    """
    axis = axes.find("T")
    count = array.shape[axis] if axis >= 0 else 1
    if how.timepoint is None and count > 1:
        if any(size > 1 for size, name in zip(array.shape, axes, strict=True) if name not in "TYXCS"):
            raise UserError(f"{path}: has {count} time points; choose one with --timepoint")
        return array, axes, (f"{count} time points read as slices",)
    if how.timepoint is not None and not 1 <= how.timepoint <= count:
        found = f"{count} time points" if count > 1 else "one time point"
        raise UserError(f"{path}: has {found}, so there is no number {how.timepoint}; give another --timepoint")
    if axis < 0:
        return array, axes, ()
    index: list[Any] = [slice(None)] * len(axes)
    index[axis] = (how.timepoint or 1) - 1
    note = (f"time point {how.timepoint} of {count} taken",) if count > 1 else ()
    return array[tuple(index)], axes.replace("T", ""), note


def with_channels(path: Path | str, decoded: Decoded, how: ReadOptions) -> Decoded:
    """Take the channels that were chosen.

    Raises
    ------
    UserError
        If there is no such channel, or their number is neither one nor three.
    """
    if not how.channel:
        return decoded
    count = decoded.array.shape[-1] if "C" in decoded.axes else 1
    if wrong := [each for each in how.channel if not 1 <= each <= count]:
        raise UserError(
            f"{path}: has {counted(count, 'channel')}, so there is no channel {wrong[0]}; give another --channel"
        )
    if len(how.channel) not in (1, 3):
        raise UserError(f"--channel: {len(how.channel)} given; give one, or three as red, green and blue")
    if "C" not in decoded.axes:
        return decoded
    chosen = [each - 1 for each in how.channel]
    note = f"channel{'s' if chosen[1:] else ''} {', '.join(map(str, how.channel))} of {count} taken"
    array = decoded.array[..., chosen if chosen[1:] else chosen[0]]
    axes = decoded.axes if chosen[1:] else decoded.axes.replace("C", "")
    return replace(decoded, array=array, axes=axes, notes=(*decoded.notes, note), channels="")


_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda array: array[:, ::-1],
    3: lambda array: array[::-1, ::-1],
    4: lambda array: array[::-1],
    5: lambda array: array.swapaxes(0, 1),
    6: lambda array: array.swapaxes(0, 1)[:, ::-1],
    7: lambda array: array[::-1, ::-1].swapaxes(0, 1),
    8: lambda array: array.swapaxes(0, 1)[::-1],
}
"""How pixels ``(y, x[, C])`` are turned for each orientation flag (TIFF 6.0, tag 274) but 1, upright."""


def upright(decoded: Decoded, orientation: int | None) -> Decoded:
    """Turn a photograph as its orientation flag says (TIFF tag 274), so that traces fit what viewers show."""
    turn = _TURNS.get(int(orientation or 1))
    if turn is None or not decoded.axes.startswith("Y"):
        return decoded
    note = f"turned as its orientation flag says ({int(orientation or 1)})"
    # From 5 on rows become columns.
    spacing = decoded.spacing[::-1] if decoded.spacing and int(orientation or 1) >= 5 else decoded.spacing
    return replace(decoded, array=turn(decoded.array), notes=(*decoded.notes, note), spacing=spacing)
