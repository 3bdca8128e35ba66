"""The field of view of a fundus photograph: the bright disc in a dark frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, binary_opening, gaussian_filter
from skimage.measure import block_reduce
from skimage.measure import label as measure_label
from skimage.morphology import convex_hull_image
from skimage.transform import resize

LONGEST = 512
"""The field is found in an image reduced to at most so many pixels a side: its rim is smooth."""
CORNER = 0.04
"""Part of the shorter side that a corner takes; the frame is seen in the corners."""
DARK = 0.15
"""Brightest frame: the median of a corner, of the brightest channel."""
STEP = 0.08
"""Least difference between the middle of the image and the frame."""
RISE = 0.2
"""Part of that difference above the frame at which the field begins."""
SIZE = (0.3, 0.97)
"""Least and largest part of the image that a field covers."""
ROUND = 0.97
"""Least part of its convex hull that a field covers: discs, and discs cut off at the sides of the image."""


def field_of_view(pixels: NDArray[np.floating]) -> NDArray[np.bool_] | None:
    """Find the field of view.

    Parameters
    ----------
    pixels
        ``(y, x, channels)`` in [0, 1].

    Returns
    -------
    ndarray or None
        ``(y, x)`` bool; None if the image is no bright disc in a dark frame.
    """
    factor = max(1, int(np.ceil(max(pixels.shape[:2]) / LONGEST)))
    bright = gaussian_filter(block_reduce(pixels.max(axis=-1), factor, np.mean), 1.0)
    # The last block of a side may hold zeros beyond the image.
    bright = bright[: pixels.shape[0] // factor, : pixels.shape[1] // factor]
    corner = max(2, round(CORNER * min(bright.shape)))
    edges = slice(None, corner), slice(-corner, None)
    frames = [float(np.median(bright[y, x])) for y in edges for x in edges]
    frame, middle = float(np.median(frames)), float(np.median(bright))
    if max(frames) > DARK or middle - frame < STEP:
        return None
    is_bright = binary_opening(bright > frame + RISE * (middle - frame), iterations=2)
    parts = np.asarray(measure_label(is_bright, connectivity=1))
    if not parts.any():
        return None
    field = np.asarray(binary_fill_holes(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])))
    if not SIZE[0] < field.mean() < SIZE[1] or field.sum() < ROUND * np.asarray(convex_hull_image(field)).sum():
        return None
    return np.asarray(resize(field.astype(np.float32), pixels.shape[:2], order=1)) > 0.5
