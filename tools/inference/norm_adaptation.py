"""Adaptation of a network's batch norms to the brightness and contrast of an image.

In training, batch norms remove the brightness and contrast of each batch. In tracing they use the mean statistics of
the training images instead, so a dimmer image gets lower probabilities and loses its thin branches. A mean of both
statistics (Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation", NeurIPS
2020) costs nothing on images like those of the training and corrects others; docs/models/DRIVE.md has the numbers.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from lib.klib.windows import crop, crops, spread
from models.nenet import STRIDE, NENet
from tools.inference.arithmetic import Arithmetic

TILE = {2: 192, 3: 64}
"""Side in work pixels of the tiles from which statistics are taken, in images and in volumes."""
MOST_TILES = 16
"""Most tiles used: more change nothing measurable."""
BATCH = 2
"""Tiles in a batch, as in training: statistics of batches of another size are not comparable."""
DARK = 0.02
"""A pixel with all channels below this, of [0, 1], lies outside the field of view."""


@torch.no_grad()
def adapted(net: NENet, pixels: np.ndarray, share: float, arithmetic: Arithmetic) -> NENet:
    """A copy of a network whose batch norms use a mean of its own statistics and those of an image.

    Only the norms before the walked path change: their input depends on the image alone.

    Parameters
    ----------
    net
        In ``eval`` mode, batch norms not folded.
    pixels
        ``(*S, C)`` float32 in [0, 1], in work pixels.
    share
        Weight of the image, in [0, 1].
    arithmetic
        How convolutions compute. Weights and statistics are float32 in any case.

    Returns
    -------
    NENet
        In ``eval`` mode; equal to ``net`` where the image is dark.
    """
    copied = copy.deepcopy(net).arrange(channels_last=arithmetic.channels_last)
    tiles = _tiles(pixels, STRIDE * np.array(net.stem))
    if share == 0 or not len(tiles):
        return copied
    norms = [norm for norm in copied.image_batch_norms() if isinstance(norm, _BatchNorm)]
    statistics = [b for norm in norms for name, b in norm.named_buffers() if name in ("running_mean", "running_var")]
    trained = [buffer.clone() for buffer in statistics]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # The plain mean over all batches.
        norm.train()
    device = statistics[0].device
    with torch.autocast(device.type, torch.bfloat16, enabled=arithmetic.dtype == torch.bfloat16):
        for first in range(0, len(tiles), BATCH):
            batch = torch.from_numpy(np.moveaxis(tiles[first : first + BATCH], -1, 1).copy())
            features = copied.encode(batch.to(device))
            copied.centerline(features)
            copied.kind(features)
    for own, before in zip(statistics, trained, strict=True):
        own.mul_(share).add_(before, alpha=1 - share)
    return copied.eval()


def _tiles(pixels: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """At most :data:`MOST_TILES` tiles ``(N, *tile, C)``, evenly spread over the parts that are not dark.

    Their sides are multiples of ``unit`` ``(ndim,)``.
    """
    shape = np.array(pixels.shape[:-1])
    side = np.maximum(np.minimum(TILE[len(shape)], shape) // unit * unit, unit)
    # One at a time: all tiles together are as large as the image.
    chosen = [at for at in spread(shape, side, -(-shape // side)) if _is_lit(crop(pixels, at, tuple(side)))]
    if len(chosen) > MOST_TILES:
        chosen = [chosen[k] for k in np.linspace(0, len(chosen) - 1, MOST_TILES).round().astype(int)]
    return crops(pixels, np.array(chosen, dtype=int).reshape(-1, len(shape)), tuple(side))


def _is_lit(tile: np.ndarray) -> bool:
    """Whether most pixels of a tile ``(*tile, C)`` are not dark."""
    return bool((tile > DARK).any(axis=-1).mean() > 0.5)
