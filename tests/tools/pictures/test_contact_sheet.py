"""Contact sheets show labels in place."""

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
    assert (tile[:4, :4] == [0x56, 0xB4, 0xE9]).all(), "the label, in full colour"
    assert (tile[32:36, 32:36] == 255).all(), "the current node"
    tile[:4, :4] = tile[32:36, 32:36] = 0
    assert not tile.any()


def test_volumes_are_projected_along_z() -> None:
    maps = samples(2, (5, 16, 16))
    maps["image"] = np.zeros((2, 5, 16, 16), np.float32)
    maps["image"][:, 3, 8, 2] = 1
    sheet = contact_sheet(maps, ["walk", "seed"], zoom=2)
    assert sheet[22 + 16, 90 + 4].tolist() == [255, 255, 255]


def test_maps_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        contact_sheet(samples(3), ["walk"] * 2)
