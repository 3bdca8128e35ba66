"""The one drawing primitive: everything drawn into a patch is "nearer to a polyline than a radius".

Walked paths, edges, centerlines and node discs (a segment of length 0) are all tubes. The same function serves the
preparation of patch stacks (CPU), online training (any device) and the tracer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_CHUNK_PIXELS = 1 << 18
"""Pixels worked on at once: a chunk of this many float32 stays in a core's cache."""
_WINDOW = 24
"""Side, in pixels, of the windows in which :func:`draw_edges` draws; longer edges are cut into pieces that fit."""


def _squared_distance(start: Tensor, end: Tensor, shape: Sequence[int]) -> Tensor:
    """Squared distance of every pixel to one segment per patch: ``(N, ndim)`` twice to ``(N, *shape)``."""
    ndim = len(shape)
    along = end - start
    unit = along / along.square().sum(-1, keepdim=True).clamp(min=1e-12)
    offsets, fraction = [], 0
    for axis, size in enumerate(shape):
        view = [-1] + [1] * ndim
        view[axis + 1] = size
        grid = torch.arange(size, device=start.device, dtype=start.dtype)
        offset = (grid - start[:, axis, None]).view(view)
        offsets.append(offset)
        fraction = fraction + offset * unit[:, axis].view(-1, *[1] * ndim)
    fraction = fraction.clamp_(0, 1)
    total = 0
    for axis, offset in enumerate(offsets):
        total = total + (offset - fraction * along[:, axis].view(-1, *[1] * ndim)).square_()
    return total


def tubes(segments: Tensor, radius: float, shape: Sequence[int]) -> Tensor:
    """Draw polylines of a given radius into a batch of patches.

    Parameters
    ----------
    segments
        ``(N, S, 2, ndim)`` start and end of ``S`` segments for each of ``N`` patches, in the patch's pixel-centre
        coordinates, ``(y, x)`` or ``(z, y, x)``. A segment with NaN in it is absent; one of length 0 is a disc.
    radius
        Pixels whose centre is at most this far (in pixels) from a segment are drawn.
    shape
        Spatial shape of a patch.

    Returns
    -------
    Tensor
        ``(N, *shape)`` bool, on the device of ``segments``.
    """
    count, n_segments = segments.shape[:2]
    drawn = torch.zeros((count, *shape), dtype=torch.bool, device=segments.device)
    chunk = max(1, _CHUNK_PIXELS // int(np.prod(shape))) if segments.device.type == "cpu" else max(count, 1)
    for first in range(0, count, chunk):
        part = slice(first, first + chunk)
        for index in range(n_segments):
            start, end = segments[part, index].float().unbind(1)
            # A comparison with NaN is false: absent segments draw nothing.
            drawn[part] |= _squared_distance(start, end, shape) <= radius**2
    return drawn


def _pieces(segments: np.ndarray, longest: float) -> np.ndarray:
    """Cut segments ``(M, 2, ndim)`` into equal pieces no longer than ``longest`` pixels."""
    length = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1)
    count = np.maximum(1, np.ceil(length / longest)).astype(int)
    owner = np.repeat(np.arange(len(segments)), count)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    start, along = segments[owner, 0], (segments[:, 1] - segments[:, 0])[owner]
    fraction = np.stack([step, step + 1], axis=1) / count[owner][:, None]
    return start[:, None] + fraction[..., None] * along[:, None]


def draw_edges(segments: np.ndarray, radius: float, shape: Sequence[int]) -> np.ndarray:
    """Draw many segments into one image, at a cost that grows with their length and not with the image.

    Parameters
    ----------
    segments
        ``(M, 2, ndim)`` starts and ends in pixel-centre coordinates; parts outside the image are cut off.
    radius
        As in :func:`tubes`; at most 8 pixels.
    shape
        Spatial shape of the image.

    Returns
    -------
    ndarray
        ``shape`` bool.
    """
    ndim = len(shape)
    longest = _WINDOW - 2 * radius - 2
    if longest < 4:
        raise ValueError(f"radius must be at most {(_WINDOW - 6) / 2}, got {radius}")
    # A border of one window makes every window lie inside the canvas.
    canvas = np.zeros([size + 2 * _WINDOW for size in shape], dtype=bool)
    pieces = _pieces(np.asarray(segments, dtype=float).reshape(-1, 2, ndim), longest)
    low = np.floor(pieces.min(axis=1) - radius).astype(int)
    inside = np.all((low > -_WINDOW) & (low < np.array(shape)), axis=1)
    pieces, low = pieces[inside], low[inside]
    window = (_WINDOW,) * ndim
    drawn = tubes(torch.from_numpy(pieces - low[:, None])[:, None], radius, window).numpy()
    owner, *offset = np.nonzero(drawn)
    canvas[tuple(low[owner, axis] + _WINDOW + offset[axis] for axis in range(ndim))] = True
    return canvas[(slice(_WINDOW, -_WINDOW),) * ndim]
