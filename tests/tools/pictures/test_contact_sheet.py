"""Contact sheets show labels in place and every kind of sample."""

from __future__ import annotations

import numpy as np
import pytest

from tools.pictures.contact_sheet import contact_sheet


def samples(count: int, shape: tuple[int, ...] = (16, 16)) -> dict[str, np.ndarray]:
    """Black patches with labels of one pixel at the origin."""
    label = np.zeros((count, *shape), np.uint8)
    label[(slice(None), *[0] * len(shape))] = 255
    return {"image": np.zeros((count, *shape, 3), np.uint8), "walk": label, "edge": label}


def test_labels_and_current_node_are_in_place() -> None:
    sheet = contact_sheet(samples(3), ["walk"] * 3, zoom=4)
    title, kind, pitch = 22, 90, 16 * 4 + 4
    assert sheet.shape == (title + 3 * pitch, kind + 3 * pitch, 3)
    tile = sheet[title : title + 64, kind + pitch : kind + pitch + 64].copy()
    assert tile[3, 3].tolist() == [0x56, 0xB4, 0xE9], "the outline"
    assert 0 < tile[0, 0, 2] < 0xE9, "the transparent inside"
    assert (tile[32:36, 32:36] == 255).all(), "the current node"
    tile[:4, :4] = tile[32:36, 32:36] = 0
    assert not tile.any()


def test_every_kind_is_shown_within_the_count() -> None:
    kinds = ["walk"] * 500 + ["seed", "negative"]
    maps = samples(502)
    maps["image"][500], maps["image"][501] = 200, 100
    sheet = contact_sheet(maps, kinds, count=4, zoom=1)
    assert sheet.shape[0] == 22 + 4 * 20
    first_column = sheet[22:, 90:106]
    assert (first_column == 200).all(axis=(1, 2)).any()
    assert (first_column == 100).all(axis=(1, 2)).any()


def test_volumes_are_projected_along_z() -> None:
    maps = samples(2, (5, 16, 16))
    maps["image"] = np.zeros((2, 5, 16, 16), np.float32)
    maps["image"][:, 3, 8, 2] = 1
    sheet = contact_sheet(maps, ["walk", "seed"], zoom=2)
    assert sheet[22 + 16, 90 + 4].tolist() == [255, 255, 255]


def test_maps_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        contact_sheet(samples(3), ["walk"] * 2)
