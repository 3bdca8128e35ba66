"""The paper's 2D network as an instance of NENet (docs/paper.md §2)."""

from __future__ import annotations

from collections.abc import Sequence

from models.nenet import NENet

IN_CHANNELS = 3
WIDTH = 64
"""The published base width: 37.67 M parameters."""


def build_rpnet_2d(width: int = WIDTH, stem: int | Sequence[int] = 1, kinds: int = 0) -> NENet:
    """NENet for RGB images ``(N, 3, y, x)``."""
    return NENet(ndim=2, in_channels=IN_CHANNELS, width=width, stem=stem, kinds=kinds)
