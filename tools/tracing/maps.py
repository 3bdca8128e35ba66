"""Maps of an image: probabilities of the centerlines, and distances to the surface of the tubes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.gwdt import boundary_distance, radius_at
from lib.klib.drawing import draw_edges
from lib.klib.image_io import stem

AXIS_RADIUS = 0.8
"""Work pixels around a traced edge that belong to the axis of its tube: a line one pixel wide without holes."""
THINNEST = 0.5
"""Least radius written, in pixels of a slice: many programs refuse 0."""


@dataclass(frozen=True)
class ImageMaps:
    """Maps of an image in work pixels.

    Attributes
    ----------
    centerline
        ``(*S,)`` float32 probabilities.
    distance
        ``(*S,)`` float32 distance to the surface of the tubes, in pixels of the finest axis; 0 outside them.
    """

    centerline: np.ndarray
    distance: np.ndarray


def map_paths(folder: Path, image: Path) -> tuple[Path, Path]:
    """Files of the centerline map and of the distance map of an image."""
    return folder / f"{stem(image)}.pro.skl.tif", folder / f"{stem(image)}.pro.dis.tif"


def as_bytes(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities as uint8, of which 255 is a probability of 1."""
    return np.rint(probabilities * 255).astype(np.uint8)


def surface_distance(pixels: np.ndarray, axis: np.ndarray, sizes: Sequence[float] | None) -> np.ndarray:
    """Distance of each pixel to the surface of the tubes.

    Parameters
    ----------
    pixels
        ``(*S, 1)`` on the square-root curve (docs/paper.md §3), which is undone.
    axis
        ``(*S,)`` bool, pixels on the axis of a tube.
    sizes
        Size of a pixel along each axis, in units of the finest; None means 1.

    Returns
    -------
    ndarray
        ``(*S,)`` float32, in pixels of the finest axis.
    """
    return boundary_distance(np.square(pixels[..., 0]), axis, spacing=sizes).astype(np.float32, copy=False)


def radii(distance: np.ndarray, positions: np.ndarray, sizes: Sequence[float] | None) -> np.ndarray:
    """``(N,)`` radius at positions ``(N, ndim)`` in pixels of a slice; at least :data:`THINNEST`."""
    radius = radius_at(distance, positions, spacing=sizes)
    return np.maximum(radius / (1.0 if sizes is None else sizes[-1]), THINNEST)


def axis_of(segments: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Array of ``shape``, bool: the pixels on segments ``(M, 2, ndim)`` in work pixels."""
    return draw_edges(segments, AXIS_RADIUS, shape)
