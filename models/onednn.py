"""Faster 3D convolutions on a CPU, through oneDNN.

For a single image, PyTorch computes small 3D convolutions and those with few channels with a slow native kernel instead
of oneDNN. The coarse levels and the first layer of the network are affected.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DirectConv3d(nn.Module):
    """A trained :class:`torch.nn.Conv3d` that always runs in oneDNN; for inference only."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str), "padding is given in pixels"
        self.weight, self.bias = conv.weight, conv.bias
        self._geometry = (conv.padding, conv.stride, conv.dilation, conv.groups)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in, *S)`` to ``(N, out, *S)``."""
        return torch.mkldnn_convolution(x, self.weight, self.bias, *self._geometry)


def use_onednn(net: nn.Module) -> nn.Module:
    """Replace the 3D convolutions of a network in place, if oneDNN is available; returns the network itself."""
    if not torch.backends.mkldnn.is_available():
        return net
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv3d):
                setattr(module, name, DirectConv3d(child))
    return net
