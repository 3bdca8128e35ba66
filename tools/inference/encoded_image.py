"""What is kept of an image to predict the maps of its tips: its centerline map, and features to be cropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.klib.windows import box
from models.contract import crop_features
from models.nenet import NENet

Crops = Callable[[np.ndarray, Sequence[int]], Tensor]
"""From the first trunk pixels ``(N, ndim)`` of patches and their size in trunk pixels to features ``(N, W, *size)``."""


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image after :meth:`tools.inference.predictor.Predictor.encode`.

    Attributes
    ----------
    pixels
        ``(*S, C)`` float32 in [0, 1], in work pixels.
    centerline
        ``(*S,)`` float32 probability of each pixel to lie on a centerline.
    net
        The network that encodes it, adapted to it.
    crops
        Gives features of patches, kept or computed when they are needed.
    tile_shape
        Shape in work pixels of the tiles of an image whose features do not all fit into memory. Tips in one tile are
        then best advanced together. None where the order does not matter.
    kinds
        ``(kinds, *S)`` float32 probabilities of the kinds of tube, if the network tells them apart.
    """

    pixels: np.ndarray
    centerline: np.ndarray
    net: NENet
    crops: Crops
    tile_shape: tuple[int, ...] | None = None
    kinds: np.ndarray | None = None


class Tips(NamedTuple):
    """Tips of one image.

    Attributes
    ----------
    image
        The image.
    positions
        ``(N, ndim)`` in work pixels.
    walked
        ``(N, W, 2, ndim)`` segments of the walked paths in work pixels; absent ones are NaN.
    """

    image: EncodedImage
    positions: np.ndarray
    walked: np.ndarray


class CanvasFeatures:
    """All features of a canvas, on the device of the network.

    Parameters
    ----------
    canvas
        ``(ndim,)`` size in trunk pixels.
    rim
        ``(ndim,)`` trunk pixels of the canvas before the first one of the image.
    net
        The network, whose number format they have.
    """

    def __init__(self, canvas: np.ndarray, rim: np.ndarray, net: NENet) -> None:
        weight, self._rim = next(net.parameters()), rim
        self._values = torch.zeros((*canvas.tolist(), net.width), dtype=weight.dtype, device=weight.device)

    def put(self, low: np.ndarray, features: Tensor) -> None:
        """Keep the features ``(W, *tile)`` of the tile that begins at the canvas pixel ``low``."""
        self._values[box(low, low + features.shape[1:])] = features.movedim(0, -1)

    def crops(self, corner: np.ndarray, shape: Sequence[int]) -> Tensor:
        """See :data:`Crops`. Patches must not extend beyond the canvas."""
        owner = torch.zeros(len(corner), dtype=torch.int64)
        return crop_features(self._values[None].movedim(-1, 1), owner, torch.from_numpy(corner + self._rim), shape)
