"""Fused convolutions against the ones they stand for."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from models.nenet import NENet
from models.onednn import FusedConv, fuse, is_fusible

SHAPES = {2: (48, 80), 3: (16, 32, 48)}
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 0.05}


def trained(ndim: int, stem: int) -> NENet:
    """A network whose batch norms have statistics of their own, folded."""
    torch.manual_seed(0)
    net = NENet(ndim, 3 if ndim == 2 else 1, 8, stem=stem, kinds=2)
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.3)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return net.fold_norms()


def outputs(net: NENet, image: torch.Tensor, walked: torch.Tensor) -> list[torch.Tensor]:
    """Features, and all logits."""
    features = net.encode(image)
    kind = net.kind(features)
    assert kind is not None
    return [features, net.centerline(features), kind, *net.heads(features, walked)]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stem", [1, 2])
@torch.inference_mode()
def test_a_fused_network_computes_the_same(ndim: int, dtype: torch.dtype, stem: int) -> None:
    if not is_fusible(dtype):
        pytest.skip("oneDNN has no bf16 here")
    plain = trained(ndim, stem).to(dtype).arrange(channels_last=True)
    fused = deepcopy(plain)
    assert fuse(fused) is fused
    assert sum(isinstance(module, FusedConv) for module in fused.modules()) > 40
    shape = tuple(stem * size for size in SHAPES[ndim])
    image = torch.rand(1, plain.in_channels, *shape).to(dtype)
    walked = (torch.rand(1, 1, *shape) > 0.9).to(dtype)
    for expected, found in zip(outputs(plain, image, walked), outputs(fused, image, walked), strict=True):
        assert found.dtype == dtype and found.shape == expected.shape
        assert (found - expected).abs().max() <= ROUNDING[dtype] * expected.abs().max()


@torch.inference_mode()
def test_the_input_of_a_residual_block_is_left_alone() -> None:
    net = trained(2, 1).arrange(channels_last=True)
    x = torch.rand(1, 8, 16, 16)
    before = x.clone()
    fuse(net).features(x)
    assert torch.equal(x, before)


def test_norms_must_be_folded() -> None:
    with pytest.raises(AssertionError, match="folded"):
        fuse(NENet(2, 1, 2))
