"""The network: size, encoder and heads, folded batch norms, shapes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import pixel_unshuffle
from torch.nn.modules.batchnorm import _BatchNorm

from models.nenet import STRIDE, NENet, depth_to_space, space_to_depth
from models.RPNet_2D import build_rpnet_2d
from models.RPNet_3D import build_rpnet_3d

SHAPES = {2: (32, 48), 3: (16, 32, 16)}
CHANNELS = {2: 3, 3: 1}
WIDTH = 4


def small_net(ndim: int, stem: int | tuple[int, ...] = 1) -> NENet:
    """A network with random batch-norm statistics, in ``eval`` mode."""
    torch.manual_seed(ndim)
    net = NENet(ndim, CHANNELS[ndim], WIDTH, stem)
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return net.eval()


def inputs(ndim: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((2, CHANNELS[ndim], *SHAPES[ndim]), generator=generator)
    return image, (torch.rand((2, 1, *SHAPES[ndim]), generator=generator) > 0.9).float()


@pytest.mark.parametrize(("build", "millions"), [(build_rpnet_2d, 37.67), (build_rpnet_3d, 26.86)])
def test_number_of_parameters_is_the_papers(build, millions: float) -> None:
    with torch.device("meta"):
        net = build()
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("stem", [(1, 1), (2, 1), (1, 1, 1), (1, 2, 1)])
@torch.no_grad()
def test_forward_is_encode_centerline_and_heads(stem: tuple[int, ...]) -> None:
    ndim = len(stem)
    trunk = tuple(size // factor for size, factor in zip(SHAPES[ndim], stem, strict=True))
    net, (image, walked) = small_net(ndim, stem), inputs(ndim)
    maps = net(image, walked)
    features = net.encode(image)
    node, edge = net.heads(features, walked)
    assert features.shape == (2, WIDTH, *trunk)
    for logits, other in zip(maps[:3], (net.centerline(features), node, edge), strict=True):
        assert logits.shape == (2, 1, *SHAPES[ndim])
        torch.testing.assert_close(logits, other, rtol=0, atol=0)


@pytest.mark.parametrize("ndim", [2, 3])
@torch.no_grad()
def test_features_do_not_depend_on_the_walked_path(ndim: int) -> None:
    net, (image, walked) = small_net(ndim), inputs(ndim)
    first, second = net(image, walked), net(image, torch.zeros_like(walked))
    assert torch.equal(first.centerline, second.centerline)
    assert not torch.equal(first.node, second.node)
    assert not torch.equal(first.edge, second.edge)


@pytest.mark.parametrize("ndim", [2, 3])
@torch.no_grad()
def test_heads_on_a_crop_are_the_crop_of_the_heads(ndim: int) -> None:
    """Away from the border of the crop, which affects 13 pixels through the convolutions of the heads."""
    net = small_net(ndim)
    shape = (48,) * ndim
    generator = torch.Generator().manual_seed(1)
    features = torch.rand((1, WIDTH, *shape), generator=generator)
    walked = (torch.rand((1, 1, *shape), generator=generator) > 0.9).float()
    crop, inner = (..., *(slice(5, 40),) * ndim), 13
    for whole, part in zip(net.heads(features, walked), net.heads(features[crop], walked[crop]), strict=True):
        middle = (..., *(slice(inner, 35 - inner),) * ndim)
        torch.testing.assert_close(whole[crop][middle], part[middle], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ndim", [2, 3])
@torch.no_grad()
def test_folding_keeps_the_output(ndim: int) -> None:
    net, (image, walked) = small_net(ndim), inputs(ndim)
    before = net(image, walked)
    assert net.fold_norms() is net
    assert not any(isinstance(module, _BatchNorm) for module in net.modules())
    for logits, folded in zip(before[:3], net(image, walked)[:3], strict=True):
        torch.testing.assert_close(logits, folded, rtol=1e-4, atol=1e-5)


def test_folding_ends_training_mode() -> None:
    assert not NENet(2, 3, 2).train().fold_norms().training


@pytest.mark.parametrize("ndim", [1, 4, "2"])
def test_other_dimensions_are_refused(ndim) -> None:
    with pytest.raises(ValueError, match="ndim must be 2 or 3, got"):
        NENet(ndim, 3, 2)


@torch.no_grad()
def test_smallest_image_is_one_stride() -> None:
    assert small_net(2).encode(torch.zeros(1, 3, STRIDE, STRIDE)).shape == (1, WIDTH, STRIDE, STRIDE)


# ---- stem ----------------------------------------------------------------------------------------------------------


def test_a_stem_stacks_the_work_pixels_of_a_trunk_pixel() -> None:
    image = torch.arange(2 * 3 * 8 * 12).view(2, 3, 8, 12)
    stacked = space_to_depth(image, (2, 2))
    assert torch.equal(stacked, pixel_unshuffle(image, 2))
    assert torch.equal(depth_to_space(stacked, (2, 2)), image)


@pytest.mark.parametrize("stem", [(1, 2, 2), (2, 1, 3)])
def test_stacked_voxels_come_back_to_their_places(stem: tuple[int, ...]) -> None:
    volume = torch.arange(2 * 4 * 6 * 12).view(2, 1, 4, 6, 12)
    stacked = space_to_depth(volume, stem)
    depth, height, width = stem
    # The channels of the second trunk pixel along x.
    assert stacked[1, :, 0, 0, 1].tolist() == volume[1, 0, :depth, :height, width : 2 * width].flatten().tolist()
    assert torch.equal(depth_to_space(stacked, stem), volume)


def test_a_stem_adds_only_channels_at_the_first_and_last_layers() -> None:
    plain, coarse = NENet(2, 3, WIDTH), NENet(2, 3, WIDTH, stem=2)
    first = (4 - 1) * (3 + 1) * WIDTH * 9  # Of the image and of the walked path.
    last = 3 * (4 - 1) * (WIDTH + 1)
    assert sum(p.numel() for p in coarse.parameters()) - sum(p.numel() for p in plain.parameters()) == first + last


def test_a_stem_of_another_number_of_axes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stem must have 3 numbers, got \(2, 2\)"):
        NENet(3, 1, WIDTH, stem=(2, 2))


# Gradients of a step in bf16, against float32. MALLOC_PERTURB_ makes glibc fill memory that nobody has written.
GRADIENTS = """
import torch
from models.nenet import NENet
torch.manual_seed(0)
net = NENet(3, 1, 8, stem=(2, 1, 1)).eval()
image, walked = torch.rand(2, 1, 32, 16, 16), torch.zeros(2, 1, 32, 16, 16)
found = []
for bf16 in (False, True, True):
    net.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        maps = net(image, walked)
    sum(logits.float().square().mean() for logits in maps[:3]).backward()
    found.append(torch.cat([weight.grad.flatten() for weight in net.parameters()]))
print(float((found[1] - found[0]).norm() / found[0].norm()), torch.equal(found[1], found[2]))
"""


def test_gradients_in_bf16_do_not_depend_on_memory_that_nobody_has_written() -> None:
    environment = os.environ | {"MALLOC_PERTURB_": "1"}
    run = subprocess.run([sys.executable, "-c", GRADIENTS], env=environment, capture_output=True, text=True, check=True)
    distance, same = run.stdout.split()
    assert float(distance) < 0.05
    assert same == "True"
