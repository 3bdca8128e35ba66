"""The paper's 3D network as an instance of NENet (docs/paper.md §2)."""

from __future__ import annotations

from collections.abc import Sequence

from models.nenet import NENet

IN_CHANNELS = 1
WIDTH = 32
"""The published base width: 26.86 M parameters."""


def build_rpnet_3d(width: int = WIDTH, stem: int | Sequence[int] = 1, kinds: int = 0) -> NENet:
    """NENet for grayscale volumes ``(N, 1, z, y, x)``."""
    return NENet(ndim=3, in_channels=IN_CHANNELS, width=width, stem=stem, kinds=kinds)
