"""Maps of whole images and of tips: tiles, borders, views and crops of features."""

from __future__ import annotations

import copy
import time

import numpy as np
import pytest
import torch

from lib.klib.drawing import tubes
from lib.klib.spaces import patch_corner
from lib.klib.windows import tiles
from models.nenet import NENet
from tools.inference import view
from tools.inference.encoded_image import CanvasFeatures, EncodedImage, Tips
from tools.inference.predictor import Predictor, as_patches
from tools.inference.view import HALO
from tools.tracing.growth.fronts import Fronts, stepped

PATCH = (32, 32)
SHAPE = (150, 210)


def network(seed: int = 0, *, ndim: int = 2, strong: bool = True, stem: int = 1) -> NENet:
    """A small random network; ``strong`` weights carry signals far, as trained ones do; those of PyTorch do not."""
    torch.manual_seed(seed)
    net = NENet(ndim, 3 if ndim == 2 else 1, 2, stem).eval()
    if strong:
        for module in net.modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
                torch.nn.init.kaiming_normal_(module.weight)
    return net


def whole_features(encoded: EncodedImage) -> torch.Tensor:
    """All features ``(*canvas, W)`` that are kept of an image."""
    kept = encoded.crops.__self__
    assert isinstance(kept, CanvasFeatures)
    return kept._values


def image(shape=SHAPE, channels: int = 3) -> np.ndarray:
    """Noise."""
    return np.random.default_rng(1).random((*shape, channels), dtype=np.float32)


def states(count: int = 9, shape=SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Tips, some on the border, and their walked paths."""
    rng = np.random.default_rng(2)
    tips = rng.uniform(0, np.array(shape) - 1, (count, len(shape)))
    tips[0], tips[1] = 0, np.array(shape) - 1
    walked = np.full((count, 4, 2, len(shape)), np.nan)
    walked[:, 0, 0], walked[:, 0, 1] = tips, tips - rng.normal(0, 6, tips.shape)
    return tips, walked


# ---- tiles -----------------------------------------------------------------------------------------------------------


def test_tiles_equal_one_tile_up_to_the_error_of_the_halo():
    pixels = image()
    whole, tiled = (Predictor(network(), PATCH, tile=tile) for tile in (512, 64))
    a, b = whole.encode(pixels).centerline, tiled.encode(pixels).centerline
    assert a.std() > 0.05, "a constant map would make the comparison meaningless"
    # Random weights see far beyond the halo. With trained ones (width 16, a DRIVE image at scale 2, tiles of 256 and
    # 512) a probability changes by 0.006 at most and 5e-6 on average; off the grid of the stride by 0.24 and 4e-3.
    assert np.abs(a - b).max() < 0.1 and np.abs(a - b).mean() < 2e-3


@pytest.mark.parametrize("stem", [1, 2])
def test_tiles_equal_one_tile_exactly_with_a_halo_of_full_reach(monkeypatch, stem):
    monkeypatch.setattr(view, "HALO", 128)
    pixels = image((150 * stem, 330 * stem))
    a, b = (Predictor(network(stem=stem), PATCH, tile=tile).encode(pixels).centerline for tile in (512, 64))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_encoder_sees_110_pixels_far():
    reach = 0
    for place in (160, 175):
        pixels = torch.rand(1, 3, 320, 320, requires_grad=True)
        network().encode(pixels)[0, :, place, place].sum().backward()
        seen = torch.nonzero(pixels.grad.abs().sum((0, 1)))
        reach = max(reach, int((seen - place).abs().max()))
    assert 100 < reach <= 110


@pytest.mark.parametrize("side", [16, 64, 512])
def test_tiles_cover_each_pixel_once_on_the_grid_of_the_stride(side):
    covered = np.zeros((160, 272), int)
    for low, high in tiles(covered.shape, side, 16):
        assert (low % 16 == 0).all() and (high % 16 == 0).all() and (high - low <= side).all()
        covered[low[0] : high[0], low[1] : high[1]] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (64, 81), (31, 16)])
def test_the_map_has_the_size_of_the_image(shape):
    assert Predictor(network(), PATCH).encode(image(shape)).centerline.shape == shape


def test_a_tile_off_the_stride_is_refused():
    with pytest.raises(ValueError, match="multiple of 16, got 100"):
        Predictor(network(), PATCH, tile=100)


# ---- maps of tips ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", [1, 2])
def test_crops_of_features_equal_the_heads_on_the_whole_image(stem):
    predictor = Predictor(network(stem=stem), PATCH)
    encoded = predictor.encode(image())
    side = 32 // stem
    tips, walked = states()
    node, edge, corner = predictor.predict(Tips(encoded, tips, walked))
    features = whole_features(encoded).movedim(-1, 0)
    np.testing.assert_array_equal(corner, patch_corner(tips, PATCH) // stem * stem)
    for k, low in enumerate(corner // stem + predictor._rim):
        own = features[:, low[0] : low[0] + side, low[1] : low[1] + side][None]
        walk = tubes(torch.from_numpy((walked[k : k + 1] - corner[k]).astype(np.float32)), 1.0, PATCH)
        with torch.inference_mode():
            logits = predictor.net.heads(own, walk[:, None].float())
        for ours, theirs in zip((node[k], edge[k]), logits, strict=True):
            np.testing.assert_allclose(ours, torch.sigmoid(theirs)[0, 0], atol=1e-5)


def test_the_map_of_a_coarse_trunk_lies_on_the_image():
    """Work pixels, the rim of the canvas and sizes that no trunk pixel divides: nothing is shifted."""
    net, pixels = network(stem=2), image((61, 95))
    rim = 2 * 16  # Half a patch is 8 trunk pixels, rounded up to the stride.
    canvas = np.zeros((128, 160, 3), np.float32)
    canvas[rim : rim + 61, rim : rim + 95] = pixels
    with torch.inference_mode():
        logits = net.centerline(net.encode(torch.from_numpy(canvas)[None].movedim(-1, 1)))[0, 0]
    wanted = torch.sigmoid(logits - np.log(9))[rim : rim + 61, rim : rim + 95]
    np.testing.assert_allclose(Predictor(net, PATCH).encode(pixels).centerline, wanted, atol=1e-5)


def test_a_patch_that_cuts_trunk_pixels_is_refused():
    with pytest.raises(ValueError, match=r"multiple of \(2, 2\), got \(32, 33\)"):
        Predictor(network(stem=2), (32, 33))


def test_patches_equal_the_network_on_patches():
    net, pixels = network(), image()
    tips, walked = states()
    corner = patch_corner(tips, PATCH)
    rim = np.pad(pixels, ((32, 32), (32, 32), (0, 0)))
    patches = np.stack([rim[y + 32 : y + 64, x + 32 : x + 64] for y, x in corner])
    walk = tubes(torch.from_numpy((walked - corner[:, None, None]).astype(np.float32)), 1.0, PATCH)
    with torch.inference_mode():
        maps = net(torch.from_numpy(patches).movedim(-1, 1), walk[:, None].float())
    predictor = Predictor(net, PATCH, features="patch")
    encoded = predictor.encode(pixels)
    node, edge, _ = predictor.predict(Tips(encoded, tips, walked))
    np.testing.assert_allclose(node, torch.sigmoid(maps.node)[:, 0], atol=1e-4)
    np.testing.assert_allclose(edge, torch.sigmoid(maps.edge)[:, 0], atol=1e-4)
    kept = Predictor(network(), PATCH).encode(pixels)
    for ours, theirs in zip(predictor.predict(Tips(as_patches(kept), tips, walked)), (node, edge), strict=False):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_patch_that_cannot_be_halved_four_times_is_encoded_with_its_surroundings():
    net, pixels, (tips, walked) = network(stem=2), image(), states()
    small, large = (48, 48), (64, 64)
    maps = Predictor(network(stem=2), small, features="patch")
    node, _, corner = maps.predict(Tips(maps.encode(pixels), tips, walked))
    rim = np.pad(pixels, ((64, 64), (64, 64), (0, 0)))
    patches = np.stack([rim[y + 56 : y + 120, x + 56 : x + 120] for y, x in corner])
    walk = tubes(torch.from_numpy((walked - corner[:, None, None]).astype(np.float32)), 1.0, small)[:, None].float()
    with torch.inference_mode():
        features = net.encode(torch.from_numpy(patches).movedim(-1, 1))
        assert features.shape[2:] == (large[0] // 2, large[1] // 2)
        expected = torch.sigmoid(net.heads(features[..., 4:-4, 4:-4], walk)[0])[:, 0]
    np.testing.assert_allclose(node, expected, atol=1e-4)


@pytest.mark.parametrize("features", ["tile", "patch"])
def test_a_batch_equals_single_tips(features):
    predictor = Predictor(network(), PATCH, features=features)
    encoded = predictor.encode(image())
    tips, walked = states()
    together = predictor.predict(Tips(encoded, tips, walked))
    for k in range(len(tips)):
        one = predictor.predict(Tips(encoded, tips[k : k + 1], walked[k : k + 1]))
        for whole, single in zip(together, one, strict=True):
            np.testing.assert_allclose(whole[k], single[0], atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"adapt": 0.5}, {"features": "patch", "adapt": 0.5}])
def test_tips_of_several_images_equal_those_of_each(options):
    predictor = Predictor(network(), PATCH, **options)
    batch = []
    for number, shape in enumerate([SHAPE, (64, 81), (33, 47)]):
        tips, walked = states(3 + number, shape)
        batch.append(Tips(predictor.encode(image(shape) / (1 + number)), tips, walked))
    together = predictor.predict(*batch)
    alone = [np.concatenate(maps) for maps in zip(*(predictor.predict(tips) for tips in batch), strict=True)]
    assert together[0].std() > 0.01 and len(together[0]) == 3 + 4 + 5
    for ours, theirs in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_volumes_without_a_memory_limit():
    predictor = Predictor(network(ndim=3, strong=False), (16, 16, 16))
    pixels = image((12, 24, 20), 1)
    encoded = predictor.encode(pixels)
    assert encoded.centerline.shape == (12, 24, 20)
    node, edge, corner = predictor.predict(Tips(encoded, *states(3, (12, 24, 20))))
    assert node.shape == edge.shape == (3, 16, 16, 16) and corner.shape == (3, 3)


# ---- views -----------------------------------------------------------------------------------------------------------


def test_with_four_views_the_map_of_a_mirrored_image_is_mirrored():
    predictor, pixels = Predictor(network(), PATCH, views=4), image((70, 90))
    plain = predictor.encode(pixels).centerline
    for axes in ((0,), (1,), (0, 1)):
        mirrored = predictor.encode(np.flip(pixels, axes)).centerline
        np.testing.assert_allclose(np.flip(mirrored, axes), plain, atol=1e-5)


def test_features_do_not_depend_on_the_views():
    one, four = (whole_features(Predictor(network(), PATCH, views=views).encode(image())) for views in (1, 4))
    np.testing.assert_array_equal(one, four)


def test_with_a_known_map_only_features_are_computed():
    plain, known = Predictor(network(), PATCH, views=4), np.full(SHAPE, 0.5, np.float32)
    encoded = plain.encode(image(), centerline=known)
    assert encoded.centerline is known
    np.testing.assert_array_equal(whole_features(encoded), whole_features(plain.encode(image())))


def test_the_map_is_a_probability_corrected_for_beta():
    low, high = (Predictor(network(), PATCH, beta=beta).encode(image()).centerline for beta in (0.9, 0.5))
    odds = (high / (1 - high)) / (low / (1 - low))
    np.testing.assert_allclose(odds[(low > 1e-3) & (high < 0.999)], 9, rtol=0.01)


# ---- time ------------------------------------------------------------------------------------------------------------


def test_network_seconds_add_up():
    predictor, pixels = Predictor(network(), PATCH, tile=64), image()
    started = time.perf_counter()
    encoded = predictor.encode(pixels)
    after = predictor.network_seconds
    assert 0 < after < time.perf_counter() - started
    predictor.predict(Tips(encoded, *states()))
    assert after < predictor.network_seconds < time.perf_counter() - started


# ---- walked paths ----------------------------------------------------------------------------------------------------


def test_walked_paths_are_drawn_as_in_training():
    seed = np.full((1, 5, 2), np.nan)
    seed[0, 0] = (20, 20)
    once = stepped(seed, np.array([[20.0, 30]]))
    long = once
    for column in (40, 50, 60, 70):
        long = stepped(long, np.array([[20.0, column]]))
    walked = Fronts(np.arange(3), np.concatenate([seed, once, long]), np.zeros(3, int)).walked()
    assert walked.shape == (3, 4, 2, 2)
    assert walked[0, 0].tolist() == [[20, 20], [20, 20]] and np.isnan(walked[0, 1:, 1]).all()
    # The oldest segment is three times as long.
    assert walked[1, 0].tolist() == [[20, 30], [20, 0]] and np.isnan(walked[1, 1:, 1]).all()
    assert walked[2, :3].tolist() == [[[20, c], [20, c - 10]] for c in (70, 60, 50)]
    assert walked[2, 3].tolist() == [[20, 40], [20, 10]]


def test_a_path_longer_than_those_of_training_is_not_extended():
    path = np.stack([np.full(7, 5.0), np.arange(7) * -10.0], axis=1)
    walked = Fronts(np.zeros(1, int), path[None], np.zeros(1, int)).walked()
    assert walked[0, 5].tolist() == [[5, -50], [5, -60]]


def test_the_halo_is_a_multiple_of_the_stride():
    assert HALO % 16 == 0


# ---- kinds of tube ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [1, 4])
@pytest.mark.parametrize("stem", [1, 2])
def test_probabilities_of_kinds_are_those_of_the_network(views: int, stem: int) -> None:
    torch.manual_seed(0)
    net = NENet(2, 3, 2, stem, kinds=3).eval()
    pixels = image((96, 128))
    encoded = Predictor(copy.deepcopy(net), PATCH, views=views).encode(pixels)
    assert encoded.kinds is not None and encoded.kinds.shape == (3, 96, 128)
    np.testing.assert_allclose(encoded.kinds.sum(axis=0), 1, atol=1e-5)
    if views == 1:
        half = 16 * stem
        canvas = np.pad(pixels, ((half, half), (half, half), (0, 0)))
        with torch.inference_mode():
            logits = net.kind(net.encode(torch.from_numpy(canvas)[None].movedim(-1, 1)))
        assert logits is not None
        wanted = logits.softmax(dim=1)[0, :, half:-half, half:-half]
        np.testing.assert_allclose(encoded.kinds, wanted, atol=1e-5)


def test_a_network_without_kinds_maps_none() -> None:
    assert Predictor(network(), PATCH).encode(image()).kinds is None
