"""The paper's 2D network as an instance of NENet (docs/paper.md §2)."""

from __future__ import annotations

from collections.abc import Sequence

from lib.klib.contrast import PHOTOGRAPH_CHANNELS, channels_seen
from models.nenet import NENet

IN_CHANNELS = PHOTOGRAPH_CHANNELS
WIDTH = 64
"""The published base width: 37.67 M parameters."""


def build_rpnet_2d(
    width: int = WIDTH, stem: int | Sequence[int] = 1, kinds: int = 0, local_contrast: float = 0.0
) -> NENet:
    """NENet for RGB images ``(N, 3, y, x)``, with ``local_contrast`` for ``(N, 6, y, x)``."""
    return NENet(ndim=2, in_channels=channels_seen(IN_CHANNELS, local_contrast), width=width, stem=stem, kinds=kinds)
