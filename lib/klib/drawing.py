"""Drawing of tubes: all pixels within a radius of a polyline.

Walked paths, edges, centerlines and node discs (segments of length 0) are all drawn as tubes, by the preparation of
patch stacks (CPU), by online training (any device) and by the tracer.

A tube covers a small part of its patch, so distances are computed only in small *windows* along the segments. A window
decides which pixels are looked at; the distance of a pixel is always that to its whole segment.

Shapes: ``N`` patches, ``S`` segments in each, ``K`` segments that are present, ``P`` windows of shape ``W``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

import numpy as np
import torch
from torch import Tensor

_CPU_CHUNK, _DEVICE_CHUNK = 1 << 17, 1 << 24
"""Window pixels processed at once: on a CPU so few that they stay in a core's cache; elsewhere memory is the limit."""
_PIECE = 13.0
"""Longest piece of a segment in one window, in pixels: a step of 10 px to a node 3 px off its path fits."""


def tubes(segments: Tensor, radius: float, shape: Sequence[int]) -> Tensor:
    """Draw tubes around segments into a batch of patches.

    Parameters
    ----------
    segments
        ``(N, S, 2, ndim)`` start and end of ``S`` segments for each of ``N`` patches, in the patch's pixel-centre
        coordinates, ``(y, x)`` or ``(z, y, x)``. A segment with NaN is absent; one of length 0 is a disc.
    radius
        Pixels whose centre is at most this far (in pixels) from a segment are drawn.
    shape
        Spatial shape of a patch.

    Returns
    -------
    Tensor
        ``(N, *shape)`` bool, on the device of ``segments``.
    """
    device = segments.device
    drawn = torch.zeros((len(segments), *shape), dtype=torch.bool, device=device)
    patch, slot = torch.isfinite(segments).flatten(2).all(2).nonzero(as_tuple=True)
    present = segments[patch, slot].float()
    if not len(present):
        return drawn
    longest = (present[:, 1] - present[:, 0]).norm(dim=1).max()
    window = _window_shape(min(float(longest), _PIECE), radius, shape)
    owner, low = _windows(present, radius, shape, window)
    strides = torch.tensor([prod(shape[axis + 1 :]) for axis in range(len(shape))], device=device)
    first = patch[owner] * prod(shape) + low @ strides
    inside = torch.cartesian_prod(*(torch.arange(size, device=device) for size in window)) @ strides
    chunk = max(1, (_CPU_CHUNK if device.type == "cpu" else _DEVICE_CHUNK) // prod(window))
    flat = drawn.view(-1)
    for begin in range(0, len(owner), chunk):
        part = slice(begin, begin + chunk)
        near = _squared_distance(present[owner[part]], low[part], window).flatten(1) <= radius**2
        row, pixel = near.nonzero(as_tuple=True)
        flat[first[part][row] + inside[pixel]] = True
    return drawn


def draw_edges(segments: np.ndarray, radius: float, shape: Sequence[int]) -> np.ndarray:
    """Draw many segments into one image; the cost grows with their length and not with the image.

    Parameters
    ----------
    segments
        ``(M, 2, ndim)`` starts and ends in pixel-centre coordinates; parts outside the image are cut off.
    radius
        As in :func:`tubes`.
    shape
        Spatial shape of the image.

    Returns
    -------
    ndarray
        ``shape`` bool.
    """
    batch = torch.from_numpy(np.asarray(segments, dtype=np.float32).reshape(1, -1, 2, len(shape)))
    return tubes(batch, radius, shape)[0].numpy()


def _window_shape(length: float, radius: float, shape: Sequence[int]) -> list[int]:
    """Shape of a window that holds a tube around ``length`` pixels in any direction."""
    # ``ceil(a) <= floor(b)`` spans at most ``b - a + 1`` pixels; 0.01 covers the rounding of float32 positions.
    return [min(size, ceil(length + 2 * radius + 1.01)) for size in shape]


def _windows(present: Tensor, radius: float, shape: Sequence[int], window: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Lay windows along segments ``(K, 2, ndim)``: the segment of each, ``(P,)``, and its first pixel ``(P, ndim)``.

    Windows lie inside the patch; pieces of a segment whose tube lies outside get none.
    """
    device = present.device
    start, along = present[:, 0], present[:, 1] - present[:, 0]
    count = (along.norm(dim=1) / _PIECE).ceil().clamp(min=1).long()
    owner = torch.repeat_interleave(torch.arange(len(present), device=device), count)
    piece = torch.arange(len(owner), device=device) - (count.cumsum(0) - count)[owner]
    fraction = torch.stack([piece, piece + 1], dim=1) / count[owner, None]
    ends = start[owner, None] + fraction[..., None] * along[owner, None]
    size = torch.tensor(list(shape), device=device)
    low, high = ends.amin(1) - radius - 0.005, ends.amax(1) + radius + 0.005
    is_visible = ((high >= 0) & (low <= size - 1)).all(dim=1)
    furthest = size - torch.tensor(list(window), device=device)
    return owner[is_visible], torch.minimum(low[is_visible].ceil().long().clamp(min=0), furthest)


def _squared_distance(segments: Tensor, low: Tensor, window: Sequence[int]) -> Tensor:
    """Squared distance ``(P, *W)`` of every pixel of each window to its segment ``(P, 2, ndim)``."""
    ndim = len(window)

    def column(values: Tensor, axis: int) -> Tensor:
        return values[:, axis].view(-1, *[1] * ndim)

    start, along = segments[:, 0], segments[:, 1] - segments[:, 0]
    unit = along / along.square().sum(-1, keepdim=True).clamp(min=1e-12)
    offsets = []
    for axis, size in enumerate(window):
        grid = torch.arange(size, device=low.device).view([-1 if other == axis else 1 for other in range(ndim)])
        offsets.append((grid + column(low, axis)).to(start.dtype) - column(start, axis))
    projected = [offset * column(unit, axis) for axis, offset in enumerate(offsets)]
    fraction = sum(projected[1:], projected[0]).clamp_(0, 1)
    squares = [(offset - fraction * column(along, axis)).square_() for axis, offset in enumerate(offsets)]
    return sum(squares[1:], squares[0])
