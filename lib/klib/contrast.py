"""Local contrast: how every pixel of a photograph differs from its surroundings, whatever their light and colour.

Networks see it beside the photograph, as further channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, zoom
from skimage.measure import block_reduce

PHOTOGRAPH_CHANNELS = 3
"""Channels of a photograph."""
DARK = 0.08
"""Brightest channel of a pixel of the frame around a photograph."""
FRAME = 16
"""Work pixels: dark places narrower than twice this belong to the image; the frame is wider."""
RIM = 4
"""Work pixels along the frame that count as frame: there a photograph is half dark."""
FLOOR = 0.01
"""Least deviation of a channel that counts: where there is nothing to see, noise is not made larger than this."""
LEVELS = 8.0
"""Standard deviations from 0 to 1: a pixel as bright as its surroundings has 0.5."""
BLOCKS = 8.0
"""Blocks of pixels per standard deviation of the window: its means are computed on those, and are smooth between."""


def channels_seen(channels: int, sigma: float) -> int:
    """Channels of :func:`with_local_contrast` for an image of ``channels``."""
    return channels * 2 if sigma else channels


def with_local_contrast(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Append to the channels of a photograph those of :func:`local_contrast`: ``(y, x, 6)``; as it is if 0."""
    return np.concatenate([pixels, local_contrast(pixels, sigma)], axis=-1) if sigma else pixels


def without_local_contrast(pixels: np.ndarray) -> np.ndarray:
    """The photograph or volume alone, a view of ``(*S, C)`` pixels that may have local contrast beside it."""
    return pixels[..., :PHOTOGRAPH_CHANNELS]


def local_contrast(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Subtract from each channel its mean in a Gaussian window around the pixel, and divide by its deviation there.

    A dark frame, as around photographs of the fundus, is left out of the means and becomes 0.

    Parameters
    ----------
    pixels
        ``(y, x, C)`` float32 in [0, 1].
    sigma
        Standard deviation of the window in pixels, several times the width of the widest tube.

    Returns
    -------
    ndarray
        ``(y, x, C)`` float32 in [0, 1].
    """
    weights = (~_frame(pixels))[..., None].astype(np.float32)
    weight = np.maximum(_smooth_blocks(weights, sigma), 1e-6)
    difference = pixels - _local_mean(pixels * weights, weight, sigma)
    deviation = np.sqrt(_local_mean(difference**2 * weights, weight, sigma))
    # Inside, no pixel is as black as the frame.
    return np.clip(difference / (deviation + FLOOR) / LEVELS + 0.5, 1 / 255, 1) * weights


def _frame(pixels: np.ndarray) -> np.ndarray:
    """``(y, x)`` bool: the frame and its rim.

    By what is near alone, unlike :func:`~lib.klib.field.field_of_view`: a window then has the frame of the whole image.
    """
    # Opened: what is dark and narrow is no frame. Beyond the image all goes on as at its border.
    dark = np.pad(pixels.max(axis=-1) <= DARK, FRAME, mode="edge")
    wide = binary_dilation(binary_erosion(dark, iterations=FRAME, border_value=1), iterations=FRAME)
    return binary_dilation(wide[FRAME:-FRAME, FRAME:-FRAME], iterations=RIM)


def _local_mean(weighted: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """Means ``(y, x, C)`` in the window, from values times weights ``(y, x, C)`` and smooth weights of the blocks."""
    block = _block(sigma)
    means = zoom(_smooth_blocks(weighted, sigma) / weight, (block, block, 1), order=1, mode="nearest", grid_mode=True)
    return np.asarray(means)[: len(weighted), : weighted.shape[1]]


def _smooth_blocks(values: np.ndarray, sigma: float) -> np.ndarray:
    """Means of the blocks of ``values`` ``(y, x, C)``, weighted by the window."""
    block = _block(sigma)
    sides: Any = (block, block, 1)  # scikit-image's annotation knows one side alone
    width = (sigma / block, sigma / block, 0)
    return gaussian_filter(block_reduce(values, sides, np.mean), width, mode="constant", truncate=3.0)


def _block(sigma: float) -> int:
    """Side of a block in pixels."""
    return max(1, round(sigma / BLOCKS))
