"""3D convolutions on a CPU, past the rule by which PyTorch chooses who computes them.

For one image at a time PyTorch gives small 3D convolutions, and those of few channels, to a kernel that was measured
ten times as slow as oneDNN; the coarse levels and the first layer of a network are such ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DirectConv3d(nn.Module):
    """A trained :class:`torch.nn.Conv3d` that oneDNN computes whatever its size; for inference."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self._manner = (conv.padding, conv.stride, conv.dilation, conv.groups)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in, *S)`` to ``(N, out, *S)``."""
        return torch.mkldnn_convolution(x, self.weight, self.bias, *self._manner)


def through_onednn(net: nn.Module) -> nn.Module:
    """Replace the 3D convolutions of a network, in place, where oneDNN is there; returns the network itself."""
    if not torch.backends.mkldnn.is_available():
        return net
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv3d):
                setattr(module, name, DirectConv3d(child))
    return net
