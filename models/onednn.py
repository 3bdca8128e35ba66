"""Faster convolutions on a CPU, through oneDNN; for inference only.

PyTorch adds and rectifies the output of a convolution in passes of their own, which take half of the time where bf16
units compute the convolution. oneDNN does both while it writes the output. PyTorch also computes small 3D convolutions
of a single image, and those with few channels, with a slow native kernel: the coarse levels and the first layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from models.nenet import ConvNormRelu, DoubleConv


class FusedConv(nn.Module):
    """A trained convolution, and what follows it, in one call of oneDNN."""

    def __init__(self, conv: _ConvNd, *, relu: bool) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str), "padding is given in pixels"
        self.weight, self.bias, self._relu = conv.weight, conv.bias, "relu" if relu else None
        self._geometry = (conv.padding, conv.stride, conv.dilation, conv.groups)

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """``(N, in, *S)`` to ``(N, out, *S')``; ``added``, of that shape, is added before the ReLU."""
        ops, filters = torch.ops.mkldnn, (self.weight, self.bias, *self._geometry)
        if added is None:
            return ops._convolution_pointwise(x, *filters, self._relu or "none", [], "")
        return ops._convolution_pointwise.binary(x, added, *filters, "add", 1.0, self._relu, [], "")


class FusedDoubleConv(nn.Module):
    """A :class:`~models.nenet.DoubleConv` whose norms are folded."""

    def __init__(self, block: DoubleConv) -> None:
        super().__init__()
        assert isinstance(block.norm1, nn.Identity) and isinstance(block.norm2, nn.Identity), "norms are folded"
        self.conv1, self.conv2 = FusedConv(block.conv1, relu=True), FusedConv(block.conv2, relu=True)
        self.residual = block.residual

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in, *S)`` to ``(N, out, *S)``."""
        return self.conv2(self.conv1(x), x if self.residual else None)


def is_fusible(dtype: torch.dtype) -> bool:
    """Whether this machine can run :class:`FusedConv` in a number format: bf16 needs AVX-512 or newer units."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def fuse(net: nn.Module) -> nn.Module:
    """Run the convolutions of a network in oneDNN, in place; returns the network itself.

    Its norms are folded, and its layout is channels last: oneDNN fuses in no other. Convolutions that double the
    resolution stay as they are.
    """
    for name, child in net.named_children():
        setattr(net, name, _fused(child))
    return net


def _fused(module: nn.Module) -> nn.Module:
    if isinstance(module, DoubleConv):
        return FusedDoubleConv(module)
    if isinstance(module, ConvNormRelu) and not module.conv.transposed:
        assert isinstance(module.norm, nn.Identity), "norms are folded"
        return FusedConv(module.conv, relu=True)
    if isinstance(module, (nn.Conv2d, nn.Conv3d)):
        return FusedConv(module, relu=False)
    return fuse(module)
