"""Training images: saved and loaded, and the states drawn from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.swclib import SwcForest
from tests.tools.data.images import PATCH, volume_image, zigzag_image
from tools.data.batches import draw_patches
from tools.data.sampling import Kind, SampleShape
from tools.data.training_image import TrainingImage


def test_a_saved_image_loads_unchanged(tmp_path: Path) -> None:
    image = zigzag_image()
    image.save(tmp_path / "zigzag")
    loaded = TrainingImage.load(tmp_path / "zigzag", SampleShape(margin=3))
    np.testing.assert_array_equal(loaded.pixels, image.pixels)
    np.testing.assert_array_equal(loaded.centerline, image.centerline)
    np.testing.assert_allclose(loaded.walks.nodes, image.walks.nodes, atol=1e-3)
    assert loaded.name == "zigzag"


def test_ignored_pixels_load_unchanged(tmp_path: Path) -> None:
    ignored = np.random.default_rng(0).random((24, 100, 120)) > 0.5
    image = volume_image(ignored)
    image.save(tmp_path / "volume")
    loaded = TrainingImage.load(tmp_path / "volume", image.walks.shape).ignored
    assert loaded is not None and np.array_equal(loaded, ignored)


def test_an_image_without_a_tree_gives_negatives(tmp_path: Path) -> None:
    bare = TrainingImage.build("bare", np.zeros((80, 90, 3), np.uint8), SwcForest.empty(), SampleShape())
    bare.save(tmp_path / "bare")
    loaded = TrainingImage.load(tmp_path / "bare", SampleShape())
    assert len(loaded.tree) == 0 and not loaded.centerline.any()
    patches = draw_patches(loaded, np.random.default_rng(0), patch_shape=PATCH, count=4)
    assert len(patches.image) == 4 and len(patches.owner) == 0


def test_shares_of_kinds() -> None:
    kind = zigzag_image().mixed_states(np.random.default_rng(0), 3000).kind
    negative, seed = (kind == Kind.NEGATIVE).mean(), (kind == Kind.SEED).sum() / (kind != Kind.NEGATIVE).sum()
    assert negative == pytest.approx(1 / 3, abs=0.03)
    assert seed == pytest.approx(0.1, abs=0.03)


def test_without_sites_all_states_are_negatives() -> None:
    tree = SwcForest.from_positions([(5, 5), (5, 9)], [-1, 0])
    image = TrainingImage.build("short", np.zeros((40, 40, 3), np.uint8), tree, SampleShape())
    assert (image.mixed_states(np.random.default_rng(0), 10).kind == Kind.NEGATIVE).all()


def test_no_site_lies_on_ignored_pixels() -> None:
    ignored = np.zeros((24, 100, 120), bool)
    ignored[:, :, 60:] = True
    walks = volume_image(ignored).walks
    positions = walks.nodes[walks.tail[walks.sites]]
    assert len(positions) and positions[:, 2].max() < 60 < volume_image().walks.nodes[:, 2].max()
