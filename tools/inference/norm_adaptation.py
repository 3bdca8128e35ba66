"""Fit a network to the light of an image: batch norms that look at the image at hand.

A network trained on one camera's images expects their brightness and contrast. While it was trained, its batch norms
took them out of every batch; in tracing they use the mean statistics of the training images instead, and a dimmer
image comes out fainter: with probabilities too low, its thin branches are lost. Statistics half way between the two (after
Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation", NeurIPS 2020) cost
nothing at tile_shape and keep the probabilities right elsewhere; docs/models/DRIVE.md has the numbers.
"""

from __future__ import annotations

import copy
import itertools

import numpy as np
import torch

from lib.klib.windows import crop, crops
from models.nenet import STRIDE, NENet

TILE = {2: 192, 3: 64}
"""Side of the tiles looked at in images and in volumes, in work pixels."""
MOST_TILES = 16
"""Tiles looked at: more change nothing that can be measured."""
TOGETHER = 2
"""Tiles in a batch, as in training: statistics of batches of another size are not comparable."""
DARK = 0.02
"""Below this in every channel a pixel lies outside the field of view."""


@torch.no_grad()
def adapted(net: NENet, pixels: np.ndarray, share: float) -> NENet:
    """A copy of a network whose norms lie between its own statistics and those of an image.

    Only the norms before the walked path are moved: what they see depends on the image alone.

    Parameters
    ----------
    net
        In ``eval`` mode, norms not folded.
    pixels
        ``(*S, C)`` float32 in [0, 1], in work pixels.
    share
        Weight of the image, in [0, 1].

    Returns
    -------
    NENet
        In ``eval`` mode. Unchanged where the image has nothing to see.
    """
    copied = copy.deepcopy(net)
    tiles = _tiles(pixels)
    if share == 0 or not len(tiles):
        return copied
    norms = copied.image_norms()
    trained = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    for first in range(0, len(tiles), TOGETHER):
        batch = torch.from_numpy(np.moveaxis(tiles[first : first + TOGETHER], -1, 1).copy())
        copied.centerline(copied.encode(batch.to(norms[0].weight.device)))
    for norm, (mean, variance) in zip(norms, trained, strict=True):
        norm.running_mean.mul_(share).add_(mean, alpha=1 - share)
        norm.running_var.mul_(share).add_(variance, alpha=1 - share)
    return copied.eval()


def _tiles(pixels: np.ndarray) -> np.ndarray:
    """``(N, *tile, C)`` at most :data:`MOST_TILES` tiles, evenly spread over what is not dark."""
    shape = np.array(pixels.shape[:-1])
    side = np.maximum(np.minimum(TILE[len(shape)], shape) // STRIDE * STRIDE, STRIDE)
    starts = [np.linspace(0, max(size - n, 0), -(-size // n)).astype(int) for size, n in zip(shape, side, strict=True)]
    # One at a time: together they are as large as the image.
    chosen = [at for at in itertools.product(*starts) if _is_lit(crop(pixels, at, tuple(side)))]
    if len(chosen) > MOST_TILES:
        chosen = [chosen[k] for k in np.linspace(0, len(chosen) - 1, MOST_TILES).round().astype(int)]
    return crops(pixels, np.array(chosen, dtype=int).reshape(-1, len(shape)), tuple(side))


def _is_lit(tile: np.ndarray) -> bool:
    """Whether most pixels of a tile ``(*tile, C)`` are not dark."""
    return bool((tile > DARK).any(axis=-1).mean() > 0.5)
