"""Features of volumes: tiles equal the whole volume, kept features equal recomputed ones, and memory is limited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.errors import UserError
from lib.klib.windows import box, tiles
from models.nenet import NENet
from tools.inference import staged_encoder as staging
from tools.inference.encoded_image import Crops, Tips
from tools.inference.feature_cache import FeatureTiles
from tools.inference.memory_plan import GIGA, HELD, PROGRAM, Plan
from tools.inference.predictor import Predictor
from tools.inference.staged_encoder import StagedEncoder

PATCH = (16, 32, 32)
SHAPE = (20, 70, 64)


def network(seed: int = 0, stem: tuple[int, ...] = (1, 1, 1)) -> NENet:
    """A small random network whose weights carry signals far, as trained ones do; those of PyTorch do not."""
    torch.manual_seed(seed)
    net = NENet(3, 1, 2, stem).eval()
    for module in net.modules():
        if isinstance(module, (torch.nn.Conv3d, torch.nn.ConvTranspose3d)):
            torch.nn.init.kaiming_normal_(module.weight)
    return net


def volume(shape=SHAPE) -> np.ndarray:
    """Noise."""
    return np.random.default_rng(1).random((*shape, 1), dtype=np.float32)


def predictor(memory: float = 4 * GIGA, **options) -> Predictor:
    """A predictor of volumes."""
    net = network(stem=options.pop("stem", (1, 1, 1)))
    return Predictor(net, PATCH, tile=options.pop("tile", 32), memory=memory, **options)


def states(shape=SHAPE, count: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Tips, some in the corners, and the walked paths of seeds."""
    tips = np.random.default_rng(2).uniform(0, np.array(shape) - 1, (count, 3))
    tips[0], tips[1] = 0, np.array(shape) - 1
    walked = np.full((count, 4, 2, 3), np.nan)
    walked[:, 0] = tips[:, None]
    return tips, walked


def reader(image: torch.Tensor):
    """Returns a function that reads boxes of an image."""
    return lambda low, high: image[(..., *box(low, high))]


def encoded(net: NENet, image: torch.Tensor, side: int) -> torch.Tensor:
    """Features of a whole image, from windows of ``side`` pixels."""
    size = np.array(image.shape[2:])
    encoder = StagedEncoder(net, reader(image), size, tile=32, coarse_tile=8)
    whole = torch.zeros(1, net.width, *size)
    for low, high in tiles(size, side, 16):
        features, inner = encoder.window(low, high)
        whole[(..., *box(low, high))] = features[(..., *inner)]
    return whole


# ---- tiles equal the whole -------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_windows_equal_the_whole_up_to_rounding():
    net = network()
    image = torch.rand(1, 1, 16, 112, 64)
    whole = net.encode(image)
    assert whole.std() > 0.05
    assert (encoded(net, image, 48) - whole).abs().max() < 1e-5 * whole.abs().max()


@pytest.mark.parametrize("name, shorter", [("HALO", 16), ("COARSE_HALO", 12)])
@torch.inference_mode()
def test_a_shorter_halo_changes_the_map(monkeypatch, name, shorter):
    net = network()
    image = torch.rand(1, 1, 16, 160, 32)
    whole = net.centerline(net.encode(image))
    off = {}
    for halo in (getattr(staging, name), shorter):
        monkeypatch.setattr(staging, name, halo)
        encoder = StagedEncoder(net, reader(image), image.shape[2:], tile=64, coarse_tile=8)
        low, high = np.array([0, 64, 0]), np.array([16, 96, 32])
        features, inner = encoder.window(low, high)
        off[halo] = (net.centerline(features)[(..., *inner)] - whole[(..., *box(low, high))]).abs().max()
    assert off[20] < 1e-5
    assert off[shorter] > 1e-4


def test_the_map_does_not_depend_on_the_tiles():
    pixels = volume()
    small, large = (predictor(tile=tile).encode(pixels).centerline for tile in (48, 192))
    assert small.shape == SHAPE and small.std() > 0.01
    np.testing.assert_allclose(small, large, atol=1e-5)


@pytest.mark.parametrize("stem", [(1, 1, 1), (1, 2, 2)])
def test_the_map_equals_that_of_the_encoder_on_the_whole_volume(stem):
    pixels = volume((16, 64, 96))
    staged = predictor(stem=stem).encode(pixels).centerline
    net = network(stem=stem)
    with torch.inference_mode():
        features = net.encode(torch.from_numpy(pixels)[None].movedim(-1, 1))
        logits = net.centerline(features)[0, 0]
    np.testing.assert_allclose(staged, torch.sigmoid(logits - np.log(9)), atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 32, 32), (17, 33, 47)])
def test_the_map_has_the_size_of_the_volume(shape):
    assert predictor().encode(volume(shape)).centerline.shape == shape


def test_views_are_averaged():
    pixels = volume((16, 32, 48))
    plain = predictor(views=8).encode(pixels).centerline
    mirrored = predictor(views=8).encode(np.flip(pixels, (0, 2))).centerline
    np.testing.assert_allclose(np.flip(mirrored, (0, 2)), plain, atol=1e-5)


def test_dark_tiles_are_not_encoded():
    pixels = volume((16, 64, 32)) * 0.5 + 0.4
    pixels[:, :32] = 0.1
    asked = predictor(dark=0.2).encode(pixels).centerline
    assert (asked[:, :32] == 0).all() and (asked[:, 32:] > 0).all()
    np.testing.assert_allclose(asked[:, 32:], predictor().encode(pixels).centerline[:, 32:], atol=1e-6)


# ---- patches ---------------------------------------------------------------------------------------------------------


def test_tips_are_in_the_middle_of_their_patches_also_at_the_border():
    one = predictor()
    tips, walked = states()
    node, edge, corner = one.predict(Tips(one.encode(volume()), tips, walked))
    assert node.shape == edge.shape == (7, *PATCH)
    assert (corner == np.floor(tips + 0.5) - np.array(PATCH) // 2).all()
    assert (corner < 0).any() and (corner + PATCH > SHAPE).any()


def test_what_is_computed_again_equals_what_was_kept():
    one = predictor()
    kept, forgotten = one.encode(volume()), one.encode(volume())
    assert kept.crops.__self__.all_fit and kept.tile_shape is None
    cache = forgotten.crops.__self__
    cache._memory = 1.0
    cache._kept.clear()
    for _ in range(2):
        maps = (one.predict(Tips(image, *states(count=3))) for image in (kept, forgotten))
        for a, b in zip(*maps, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    assert len(cache._kept) == 1


def test_with_a_known_map_features_are_computed_when_needed():
    one = predictor()
    first = one.encode(volume())
    second = one.encode(volume(), centerline=first.centerline)
    assert not second.crops.__self__._kept
    maps = (one.predict(Tips(image, *states())) for image in (first, second))
    for a, b in zip(*maps, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_half_precision_moves_a_probability_by_a_thousandth_at_most():
    one = predictor()
    image = one.encode(volume())
    node, edge, _ = one.predict(Tips(image, *states()))
    with torch.inference_mode():
        exact = replace(image, crops=exact_crops(one, volume()))
        exact_node, exact_edge, _ = one.predict(Tips(exact, *states()))
    assert node.std() > 0.01
    off = np.abs(np.stack([node - exact_node, edge - exact_edge]))
    assert off.max() < 2e-3 and off.mean() < 1e-4  # Random weights change more than trained ones.


def exact_crops(one: Predictor, pixels: np.ndarray) -> Crops:
    """Crops of all features in single precision, zero beyond the border."""
    rim = max(PATCH)
    canvas = tuple(-(-np.array(pixels.shape[:3]) // 16) * 16)
    image = np.zeros((*canvas, 1), np.float32)
    image[tuple(map(slice, pixels.shape[:3]))] = pixels
    features = torch.nn.functional.pad(one.net.encode(torch.from_numpy(image)[None].movedim(-1, 1))[0], (rim,) * 6)

    def crops(corner: np.ndarray, shape: Sequence[int]) -> torch.Tensor:
        return torch.stack([features[(..., *box(low + rim, low + rim + shape))] for low in corner])

    return crops


# ---- tiles of features -----------------------------------------------------------------------------------------------

CANVAS = (32, 64, 48)
WHOLE = np.random.default_rng(0).integers(0, 99, (3, *CANVAS)).astype(np.float32)


def feature_tiles(memory: float) -> tuple[FeatureTiles, list[tuple[int, ...]]]:
    """Tiles of known features, and the list of computed tiles."""
    computed = []

    def compute(low: np.ndarray, high: np.ndarray) -> torch.Tensor:
        computed.append(tuple(low.tolist()))
        return torch.from_numpy(WHOLE[(..., *box(low, high))])

    return FeatureTiles(CANVAS, 16, NENet(3, 1, 3), memory, compute), computed


@pytest.mark.parametrize("memory", [0.0, 3e5, 1e9])
def test_crops_of_tiles_equal_crops_of_the_whole(memory):
    held, _ = feature_tiles(memory)
    corner = np.random.default_rng(1).integers(-6, 50, (30, 3))
    rim = np.pad(WHOLE, [(0, 0)] + [(64, 64)] * 3)
    for low, one in zip(corner, held.crops(corner, (9, 20, 17)), strict=True):
        np.testing.assert_array_equal(one, rim[(..., *box(low + 64, low + 64 + (9, 20, 17)))])


def test_a_batch_computes_each_tile_once_and_the_next_batch_none():
    held, computed = feature_tiles(1e9)
    corner = np.array([[0, 0, 0], [8, 8, 8], [0, 0, 8]])
    held.crops(corner, (16, 16, 16))
    assert len(computed) == len(set(computed)) == 8
    held.crops(corner, (16, 16, 16))
    assert len(computed) == 8 and held.all_fit


def test_the_tile_used_longest_ago_is_dropped_first():
    held, computed = feature_tiles(2 * 16**3 * 3 * 2)
    for z, y, x in ((0, 0, 0), (0, 16, 0), (0, 0, 0), (0, 32, 0), (0, 0, 0), (0, 16, 0)):
        held.crops(np.array([[z, y, x]]), (16, 16, 16))
    assert computed == [(0, 0, 0), (0, 16, 0), (0, 32, 0), (0, 16, 0)]
    assert not held.all_fit


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_less_memory_means_smaller_tiles_and_fewer_features():
    plans = [Plan.of(gigabytes * GIGA, (208, 512, 512), 8) for gigabytes in (3, 4, 8)]
    assert plans[0].tile <= plans[1].tile <= plans[2].tile
    assert plans[0].kept < plans[1].kept < plans[2].kept
    assert all(plan.tile % 16 == 0 and plan.coarse_tile % 4 == 0 for plan in plans)


def test_a_volume_of_512_512_200_fits_into_4_gigabytes():
    for width in (8, 12, 16):
        assert Plan.of(4 * GIGA, (208, 512, 512), width).tile >= 64


def test_a_gpu_keeps_the_features_in_its_own_memory():
    canvas, gpu = (208, 512, 512), 20 * GIGA
    plan = Plan.of(2.5 * GIGA, canvas, 8, device_memory=gpu)
    assert plan.tile == 192 and 10 * GIGA < plan.kept < gpu
    with pytest.raises(UserError, match=r"voxels need \d\.\d GB of memory on the GPU, 0\.2 are free: give a smaller"):
        Plan.of(2.5 * GIGA, canvas, 8, device_memory=0.2 * GIGA)
    with pytest.raises(UserError, match="--memory is 1: give more"):
        Plan.of(1 * GIGA, canvas, 8, device_memory=gpu)


def test_too_little_memory_is_reported():
    voxels = 512 * 512 * 208
    with pytest.raises(UserError, match=r"208 x 512 x 512 voxels need 2\.\d GB of memory, --memory is 1: give more"):
        Plan.of(1 * GIGA, (208, 512, 512), 8)
    assert PROGRAM + HELD * voxels < 2.5 * GIGA


# ---- untrained kernel weights ----------------------------------------------------------------------------------------


def test_kernel_weights_that_saw_only_padding_are_zeroed():
    torch.manual_seed(0)
    net = NENet(3, 1, 2).eval()
    flat = torch.rand(1, 1, 16, 48, 48)
    with torch.no_grad():
        before = net.encode(flat)
        deep = net.encode(torch.cat([flat, flat], dim=2))[:, :, :16]
        net.zero_untrained((16, 48, 48))
        after = net.encode(flat)
    torch.testing.assert_close(after, before)  # Sizes as in training give the same result.
    assert not torch.allclose(deep, before, atol=1e-3)
    weight = net.encoders[3].conv1.weight
    assert (weight[:, :, [0, 2]] == 0).all() and (weight[:, :, 1] != 0).all()
    assert (net.encoders[2].conv1.weight != 0).any(dim=(0, 1))[[0, 2]].all()


def test_no_weight_is_zeroed_if_training_images_were_large():
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.zero_untrained((32, 64, 64))
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])
