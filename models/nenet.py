"""NENet, the network of NETracer (ICCV 2025, section "Node-Edge Estimation Network"), for 2D and 3D.

Legend: ``N`` patches, ``C`` image channels, ``W`` base width, ``*S`` spatial shape, ``(y, x)`` or ``(z, y, x)``.

Everything before the walked path depends on the image alone. :meth:`NENet.encode` does that part once per image or
tile; :meth:`NENet.heads` does what one tracing step needs, on crops of those features.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

LEVELS = 4
STRIDE = 2**LEVELS
"""Spatial shapes given to :meth:`NENet.encode` are multiples of this, in pixels: four halvings lie on the way down."""

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Maps(NamedTuple):
    """Logits of the three heads, each of shape ``(N, 1, *S)``."""

    centerline: Tensor
    node: Tensor
    edge: Tensor


class DoubleConv(nn.Module):
    """Two 3×3(×3) convolutions with batch norm; residual where input and output have the same width."""

    def __init__(self, ndim: Literal[2, 3], in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = _CONV[ndim](in_channels, out_channels, 3, padding=1)
        self.norm1 = _NORM[ndim](out_channels)
        self.conv2 = _CONV[ndim](out_channels, out_channels, 3, padding=1)
        self.norm2 = _NORM[ndim](out_channels)
        self.residual = in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in, *S)`` to ``(N, out, *S)``."""
        y = torch.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return torch.relu(y + x if self.residual else y)


class ConvNormRelu(nn.Module):
    """One convolution, batch norm, ReLU: the steps down and up, and the merge of walked path and features."""

    def __init__(self, ndim: Literal[2, 3], conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.norm = _NORM[ndim](channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the three in order."""
        return torch.relu(self.norm(self.conv(x)))


class NENet(nn.Module):
    """V-Net trunk with a centerline, a node and an edge head.

    Parameters
    ----------
    ndim
        2 for images, 3 for volumes.
    in_channels
        Channels of the image: 3 (RGB) for the paper's 2D network, 1 for its 3D network.
    width
        Base width ``W``. The paper's networks have 64 in 2D (37.67 M parameters) and 32 in 3D (26.86 M).
    """

    def __init__(self, ndim: Literal[2, 3], in_channels: int, width: int) -> None:
        super().__init__()
        if ndim not in (2, 3):
            raise ValueError(f"ndim is 2 or 3, got {ndim}")
        self.ndim, self.in_channels, self.width = ndim, in_channels, width
        widths = [width * 2**level for level in range(LEVELS + 1)]
        pairs = list(pairwise(widths))

        def block(in_width: int, out_width: int) -> DoubleConv:
            return DoubleConv(ndim, in_width, out_width)

        self.first = block(in_channels, width)
        self.downs = nn.ModuleList(ConvNormRelu(ndim, _CONV[ndim](a, b, 2, stride=2), b) for a, b in pairs)
        self.encoders = nn.ModuleList(block(b, b) for _, b in pairs)
        self.ups = nn.ModuleList(ConvNormRelu(ndim, _UP[ndim](b, a, 2, stride=2), a) for a, b in reversed(pairs))
        self.decoders = nn.ModuleList(block(a, a) for a, _ in reversed(pairs))
        self.features = block(width, width)
        self.centerline_head = nn.Sequential(block(width, width), block(width, width), _CONV[ndim](width, 1, 1))
        self.walk_encoder = block(1, width)
        self.merge = ConvNormRelu(ndim, _CONV[ndim](2 * width, width, 3, padding=1), width)
        self.edge_trunk = nn.Sequential(block(width, width), block(width, width))
        self.edge_head = nn.Sequential(block(width, width), _CONV[ndim](width, 1, 1))
        self.node_head = nn.Sequential(block(width, width), block(width, width), _CONV[ndim](width, 1, 1))

    def encode(self, image: Tensor) -> Tensor:
        """Image ``(N, C, *S)``, ``S`` multiples of 16, to features ``(N, W, *S)``."""
        x, skips = self.descend(self.first(image), 0, LEVELS)
        return self.features(self.ascend(x, skips))

    def descend(self, x: Tensor, top: int, bottom: int) -> tuple[Tensor, list[Tensor]]:
        """Way down the V from level ``top`` to level ``bottom``, each half as fine as the one above.

        Returns
        -------
        x, skips
            The features of the bottom level, and those of each level above it, the finest first.
        """
        skips = []
        for level in range(top, bottom):
            skips.append(x)
            x = self.encoders[level](self.downs[level](x))
        return x, skips

    def ascend(self, x: Tensor, skips: list[Tensor], bottom: int = LEVELS) -> Tensor:
        """Way up from level ``bottom``, over as many levels as there are ``skips`` (which are used up)."""
        for level in reversed(range(bottom - len(skips), bottom)):
            # Ups and decoders are counted from the bottom.
            x = self.decoders[LEVELS - 1 - level](self.ups[LEVELS - 1 - level](x) + skips.pop())
        return x

    def centerline(self, features: Tensor) -> Tensor:
        """Features ``(N, W, *S)`` to centerline logits ``(N, 1, *S)``."""
        return self.centerline_head(features)

    def heads(self, features: Tensor, walked: Tensor) -> tuple[Tensor, Tensor]:
        """What one tracing step needs.

        Parameters
        ----------
        features
            ``(N, W, *S)``, from :meth:`encode` or a crop of it; any ``S``.
        walked
            Mask of the walked path, ``(N, 1, *S)``, 0 or 1.

        Returns
        -------
        node, edge
            Logits, each ``(N, 1, *S)``.
        """
        walk = self.walk_encoder(walked)
        trunk = self.edge_trunk(self.merge(torch.cat([features, walk], dim=1)))
        return self.node_head(trunk + walk), self.edge_head(trunk)

    def forward(self, image: Tensor, walked: Tensor) -> Maps:
        """All three maps of patches: image ``(N, C, *S)`` and walked path ``(N, 1, *S)``, ``S`` multiples of 16."""
        features = self.encode(image)
        node, edge = self.heads(features, walked)
        return Maps(self.centerline(features), node, edge)

    def image_norms(self) -> list[nn.Module]:
        """The batch norms of everything that depends on the image alone: before the walked path, and the centerline."""
        parts = (self.first, self.downs, self.encoders, self.ups, self.decoders, self.features, self.centerline_head)
        return [module for part in parts for module in part.modules() if isinstance(module, _NORM[self.ndim])]

    @torch.no_grad()
    def mute_unseen(self, seen: Sequence[int]) -> NENet:
        """Set to 0, in place, the kernel weights that training left as they were drawn; returns the network itself.

        Where the images of training were so small along an axis, ``seen`` ``(ndim,)`` pixels, that a level was one
        pixel wide, all that its kernels met beside that pixel was padding: those weights are noise, and would add it
        in a larger image. In 3D the paper's patches of 16 slices are such a case.
        """
        for level in range(1, LEVELS + 1):
            for axis, size in enumerate(seen):
                if size >> level > 1:
                    continue
                blocks = [self.encoders[level - 1]] + ([self.decoders[LEVELS - 1 - level]] if level < LEVELS else [])
                for conv in (conv for block in blocks for conv in (block.conv1, block.conv2)):
                    conv.weight.index_fill_(2 + axis, torch.tensor([0, 2], device=conv.weight.device), 0)
        return self

    def fold_norms(self) -> NENet:
        """Fold every batch norm into its convolution, in place, for faster inference; returns the network itself.

        The network computes the same function as in ``eval`` mode (to rounding) and can no longer be trained.
        """
        self.eval()
        for module in list(self.modules()):
            if isinstance(module, DoubleConv):
                module.conv1, module.norm1 = fuse_conv_bn_eval(module.conv1, module.norm1), nn.Identity()
                module.conv2, module.norm2 = fuse_conv_bn_eval(module.conv2, module.norm2), nn.Identity()
            elif isinstance(module, ConvNormRelu):
                transposed = isinstance(module.conv, (nn.ConvTranspose2d, nn.ConvTranspose3d))
                module.conv = fuse_conv_bn_eval(module.conv, module.norm, transpose=transposed)
                module.norm = nn.Identity()
        return self
