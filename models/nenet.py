"""NENet, the network of NETracer, in 2D and 3D (docs/paper.md §2).

Shapes: ``N`` patches, ``C`` image channels, ``W`` base width, ``*S`` spatial shape in work pixels, ``(y, x)`` or
``(z, y, x)``, ``*T`` the same in trunk pixels.

The paper's network computes on the work grid. An image that was enlarged for tracing holds nothing new there, so with a
*stem* above 1 all layers compute on a coarser grid, whose pixels cover several work pixels each, and the last layer of
each head gives one logit for each of them.

All layers before the walked path depend on the image alone. :meth:`NENet.encode` runs them once per image or tile, and
:meth:`NENet.heads` runs the rest at every tracing step, on crops of those features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, pad
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

LEVELS = 4
STRIDE = 2**LEVELS
"""Trunk pixels. The encoder halves its input four times, so the sizes of the trunk's grid must be multiples of this."""


class PaddedConv3d(nn.Conv3d):
    """A 3D convolution that pads two slices itself.

    For a volume of exactly two slices and a kernel of three, oneDNN's bf16 gradient of the weights reads memory that
    nobody has written (kernel ``jit_bf16:avx512_core_bf16``, PyTorch 2.13); the forward pass is right. A tile of 32
    slices has two at level 4, with a stem of 2 at level 3.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``(N, in, *S)`` to ``(N, out, *S')``, with the size of :class:`torch.nn.Conv3d`."""
        assert not isinstance(self.padding, str), "padding is given in pixels"
        z, y, x = self.padding
        if input.shape[2] != 2 or not z:
            return super().forward(input)
        padded = pad(input, (0, 0, 0, 0, z, z))
        return conv3d(padded, self.weight, self.bias, self.stride, (0, y, x), self.dilation, self.groups)


_CONV = {2: nn.Conv2d, 3: PaddedConv3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
"""Memory format by dimension."""


class Maps(NamedTuple):
    """Logits of the three heads, each ``(N, 1, *S)``, and of the kinds of tube ``(N, kinds, *S)``, if there are any."""

    centerline: Tensor
    node: Tensor
    edge: Tensor
    kind: Tensor | None = None


HEADS = ("centerline", "node", "edge")
"""Names of the paper's heads."""


def space_to_depth(x: Tensor, stem: Sequence[int]) -> Tensor:
    """Stack the work pixels that each trunk pixel covers as channels: ``(N, C, *S)`` to ``(N, C·prod(stem), *T)``."""
    if math.prod(stem) == 1:
        return x
    for axis, factor in enumerate(stem, 2):
        x = x.unflatten(axis + axis - 2, (-1, factor))
    axes = range(len(stem))
    return x.permute(0, 1, *(3 + 2 * axis for axis in axes), *(2 + 2 * axis for axis in axes)).flatten(1, 1 + len(stem))


def depth_to_space(x: Tensor, stem: Sequence[int]) -> Tensor:
    """Undo :func:`space_to_depth`: ``(N, C·prod(stem), *T)`` to ``(N, C, *S)``."""
    if math.prod(stem) == 1:
        return x
    ndim = len(stem)
    x = x.unflatten(1, (-1, *stem)).permute(0, 1, *(axis for a in range(ndim) for axis in (2 + ndim + a, 2 + a)))
    for axis in range(2, 2 + ndim):
        x = x.flatten(axis, axis + 1)
    return x


class DoubleConv(nn.Module):
    """Two 3×3(×3) convolutions with batch norm; residual if input and output have the same width."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = _CONV[ndim](in_channels, out_channels, 3, padding=1)
        self.norm1 = _NORM[ndim](out_channels)
        self.conv2 = _CONV[ndim](out_channels, out_channels, 3, padding=1)
        self.norm2 = _NORM[ndim](out_channels)
        self.residual = in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in, *S)`` to ``(N, out, *S)``."""
        y = torch.relu_(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return torch.relu_(y.add_(x) if self.residual else y)


class ConvNormRelu(nn.Module):
    """A convolution, batch norm and ReLU; used to halve, to double, and to merge the walked path with the features."""

    def __init__(self, ndim: int, conv: _ConvNd, channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.norm = _NORM[ndim](channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in, *S)`` to ``(N, channels, *S')``, with the output size of the convolution."""
        return torch.relu_(self.norm(self.conv(x)))


class NENet(nn.Module):
    """V-Net with a centerline head, a node head and an edge head.

    Parameters
    ----------
    ndim
        2 for images, 3 for volumes.
    in_channels
        Channels of the image: 3 (RGB) for the paper's 2D network, 1 for its 3D network.
    width
        Base width ``W``; the paper's networks have 64 in 2D (37.67 M parameters) and 32 in 3D (26.86 M).
    stem
        Work pixels that a trunk pixel covers along each axis, or one number for all axes; the paper's networks have 1.
    kinds
        Kinds of tube, such as arteries and veins, that a further head tells apart; 0 leaves it out, as in the paper.

    Raises
    ------
    ValueError
        If ``ndim`` is neither 2 nor 3, or ``stem`` has another number of axes.
    """

    def __init__(self, ndim: int, in_channels: int, width: int, stem: int | Sequence[int] = 1, kinds: int = 0) -> None:
        super().__init__()
        if ndim not in (2, 3):
            raise ValueError(f"ndim must be 2 or 3, got {ndim}")
        self.ndim, self.in_channels, self.width, self.kinds = ndim, in_channels, width, kinds
        self.stem = (stem,) * ndim if isinstance(stem, int) else tuple(stem)
        if len(self.stem) != ndim:
            raise ValueError(f"stem must have {ndim} numbers, got {self.stem}")
        covered = math.prod(self.stem)
        widths = [width * 2**level for level in range(LEVELS + 1)]
        pairs = list(pairwise(widths))

        def block(in_width: int, out_width: int) -> DoubleConv:
            return DoubleConv(ndim, in_width, out_width)

        self.first = block(in_channels * covered, width)
        self.downs = nn.ModuleList(ConvNormRelu(ndim, _CONV[ndim](a, b, 2, stride=2), b) for a, b in pairs)
        self.encoders = nn.ModuleList(block(b, b) for _, b in pairs)
        self.ups = nn.ModuleList(ConvNormRelu(ndim, _UP[ndim](b, a, 2, stride=2), a) for a, b in reversed(pairs))
        self.decoders = nn.ModuleList(block(a, a) for a, _ in reversed(pairs))
        self.features = block(width, width)
        self.centerline_head = nn.Sequential(block(width, width), block(width, width), _CONV[ndim](width, covered, 1))
        if kinds:
            self.kind_head = nn.Sequential(block(width, width), _CONV[ndim](width, covered * kinds, 1))
        self.walk_encoder = block(covered, width)
        self.merge = ConvNormRelu(ndim, _CONV[ndim](2 * width, width, 3, padding=1), width)
        self.edge_trunk = nn.Sequential(block(width, width), block(width, width))
        self.edge_head = nn.Sequential(block(width, width), _CONV[ndim](width, covered, 1))
        self.node_head = nn.Sequential(block(width, width), block(width, width), _CONV[ndim](width, covered, 1))

    def encode(self, image: Tensor) -> Tensor:
        """Image ``(N, C, *S)`` to features ``(N, W, *T)``; the sizes in ``*T`` must be multiples of :data:`STRIDE`."""
        x, skips = self.descend(self.enter(image), 0, LEVELS)
        return self.features(self.ascend(x, skips))

    def enter(self, image: Tensor) -> Tensor:
        """Image ``(N, C, *S)`` to features of level 0 on the way down, ``(N, W, *T)``."""
        return self.first(space_to_depth(image, self.stem))

    def descend(self, x: Tensor, top: int, bottom: int) -> tuple[Tensor, list[Tensor]]:
        """Run the encoder from level ``top`` to level ``bottom``; each level has half the resolution of the one above.

        Parameters
        ----------
        x
            Features of level ``top``, ``(N, W·2^top, *S)``.
        top, bottom
            Levels, from 0 (full resolution) to :data:`LEVELS`.

        Returns
        -------
        x
            Features of level ``bottom``.
        skips
            Features of each level above it, finest first.
        """
        skips: list[Tensor] = []
        for level in range(top, bottom):
            skips.append(x)
            x = self.encoders[level](self.downs[level](x))
        return x, skips

    def ascend(self, x: Tensor, skips: list[Tensor], bottom: int = LEVELS) -> Tensor:
        """Run the decoder up from level ``bottom``, one level per entry of ``skips``; empties ``skips``."""
        for level in reversed(range(bottom - len(skips), bottom)):
            # ``ups`` and ``decoders`` start with the coarsest level.
            x = self.decoders[LEVELS - 1 - level](self.ups[LEVELS - 1 - level](x) + skips.pop())
        return x

    def centerline(self, features: Tensor) -> Tensor:
        """Features ``(N, W, *T)`` to centerline logits ``(N, 1, *S)``."""
        return depth_to_space(self.centerline_head(features), self.stem)

    def kind(self, features: Tensor) -> Tensor | None:
        """Features ``(N, W, *T)`` to logits of the kinds ``(N, kinds, *S)``; None without a head for them."""
        return depth_to_space(self.kind_head(features), self.stem) if self.kinds else None

    def heads(self, features: Tensor, walked: Tensor) -> tuple[Tensor, Tensor]:
        """Node and edge logits of one tracing step.

        Parameters
        ----------
        features
            ``(N, W, *T)`` output of :meth:`encode`, or a crop of it of any size.
        walked
            ``(N, 1, *S)`` mask of the walked path, 0 or 1.

        Returns
        -------
        node, edge
            Logits, each ``(N, 1, *S)``.
        """
        walk = self.walk_encoder(space_to_depth(walked, self.stem))
        trunk = self.edge_trunk(self.merge(torch.cat([features, walk], dim=1)))
        return depth_to_space(self.node_head(trunk + walk), self.stem), depth_to_space(self.edge_head(trunk), self.stem)

    def forward(self, image: Tensor, walked: Tensor) -> Maps:
        """Image ``(N, C, *S)`` and mask of the walked path ``(N, 1, *S)`` to all maps."""
        features = self.encode(image)
        node, edge = self.heads(features, walked)
        return Maps(self.centerline(features), node, edge, self.kind(features))

    def arrange(self, *, channels_last: bool) -> NENet:
        """Order the weights, and so all features, in memory, in place; returns the network itself."""
        # The stubs of torch do not know memory_format.
        return self.to(memory_format=CHANNELS_LAST[self.ndim] if channels_last else torch.contiguous_format)  # pyright: ignore

    def image_batch_norms(self) -> list[nn.Module]:
        """Batch norms of the layers that depend on the image alone: the V-Net and the centerline head."""
        parts = [self.first, self.downs, self.encoders, self.ups, self.decoders, self.features, self.centerline_head]
        parts += [self.kind_head] if self.kinds else []
        return [module for part in parts for module in part.modules() if isinstance(module, _NORM[self.ndim])]

    @torch.no_grad()
    def zero_untrained(self, seen: Sequence[int]) -> NENet:
        """Set to 0, in place, the kernel weights that training never changed; returns the network itself.

        Where a level is one pixel wide along an axis, the outer weights of a kernel only meet padding. They keep their
        random initial values, which would add noise in larger images. The paper's 3D patches, 16 slices deep, are such
        a case.

        Parameters
        ----------
        seen
            ``(ndim,)`` size of the images seen in training, in work pixels.
        """
        trunk = [size // factor for size, factor in zip(seen, self.stem, strict=True)]
        for level in range(1, LEVELS + 1):
            blocks = [self.encoders[level - 1]] + ([self.decoders[LEVELS - 1 - level]] if level < LEVELS else [])
            convs = [part for block in blocks for part in block.modules() if isinstance(part, _ConvNd)]
            for axis, size in enumerate(trunk):
                if size >> level <= 1:
                    for conv in convs:
                        conv.weight.index_fill_(2 + axis, torch.tensor([0, 2], device=conv.weight.device), 0)
        return self

    def fold_norms(self) -> NENet:
        """Fold every batch norm into its convolution, in place, for faster inference; returns the network itself.

        The network then computes what it computed in ``eval`` mode, up to rounding, and can no longer be trained.
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
