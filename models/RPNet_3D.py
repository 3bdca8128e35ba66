"""The paper's 3D network as an instance of NENet (docs/paper.md §2)."""

from __future__ import annotations

from collections.abc import Sequence

from lib.klib.contrast import channels_seen
from models.nenet import NENet

IN_CHANNELS = 1
WIDTH = 32
"""The published base width: 26.86 M parameters."""


def build_rpnet_3d(
    width: int = WIDTH, stem: int | Sequence[int] = 1, kinds: int = 0, local_contrast: float = 0.0
) -> NENet:
    """NENet for grayscale volumes ``(N, 1, z, y, x)``, with ``local_contrast`` for ``(N, 2, z, y, x)``."""
    return NENet(ndim=3, in_channels=channels_seen(IN_CHANNELS, local_contrast), width=width, stem=stem, kinds=kinds)
