"""Pictures: what is drawn lies where it should, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread

from lib.errors import UserError
from lib.swclib import SwcForest
from tools.pictures.contact_sheet import contact_sheet
from tools.pictures.curves import curves
from tools.pictures.overlay import overlay

GRAY = np.full((20, 31, 3), 0.5)


def line(*positions: tuple[float, ...]) -> SwcForest:
    return SwcForest.from_positions(np.array(positions, float), np.arange(len(positions)) - 1)


@pytest.mark.parametrize("zoom", [1, 2, 3, 7])
def test_overlay_without_a_tree_is_the_dimmed_enlarged_image(zoom: int) -> None:
    image = np.random.default_rng(0).random((20, 31, 3))
    picture = overlay(image, SwcForest.empty(), zoom=zoom)
    assert picture.dtype == np.uint8
    assert picture.shape == (20 * zoom, 31 * zoom, 3)
    assert np.array_equal(picture, np.rint(0.8 * 255 * image).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1))


@pytest.mark.parametrize("length", [565, 584, 599, 601, 999])
def test_overlay_has_the_exact_size(length: int) -> None:
    assert overlay(np.zeros((3, length, 1)), SwcForest.empty()).shape == (6, 2 * length, 3)
    assert overlay(np.zeros((length, 3, 1)), SwcForest.empty()).shape == (2 * length, 6, 3)


def test_overlay_does_not_enlarge_large_images() -> None:
    assert overlay(np.zeros((4, 1300, 3)), SwcForest.empty()).shape == (4, 1300, 3)


@pytest.mark.parametrize("forest", [line((6, 4), (6, 24)), line((9, 6, 4), (2, 6, 24))])
def test_line_lies_on_pixel_centres(forest: SwcForest) -> None:
    """The centre of pixel 6 is at (6 + 0.5) * 8 output pixels, measured between the pixels 51 and 52."""
    picture = overlay(GRAY, forest, zoom=8, marks=False)
    y, x = np.nonzero((picture != 102).any(axis=2))
    assert y.mean() == pytest.approx(51.5, abs=0.1)
    assert x.mean() == pytest.approx((4 + 24 + 1) / 2 * 8 - 0.5, abs=0.1)


def test_trees_have_different_colours_and_the_longest_the_first() -> None:
    positions = np.array([(15, 2), (15, 9), (5, 2), (5, 29)], float)
    picture = overlay(GRAY, SwcForest.from_positions(positions, [-1, 0, -1, 2]), zoom=4, width=4, marks=False)
    assert picture[22, 60].tolist() == [0x56, 0xB4, 0xE9]
    assert picture[62, 20].tolist() == [0xF0, 0xE4, 0x42]


def test_roots_and_branch_points_are_marked() -> None:
    positions = np.array([(10, 3), (10, 15), (4, 25), (16, 25)], float)
    forest = SwcForest.from_positions(positions, [-1, 0, 1, 1])
    changed = (overlay(GRAY, forest, zoom=4) != overlay(GRAY, forest, zoom=4, marks=False)).any(axis=2)
    assert changed[:, :30].any()
    assert changed[:, 55:70].any()
    assert not changed[:, 80:].any()
    assert overlay(GRAY, line((3, 3)), zoom=2).shape == (40, 62, 3)


def test_volume_is_shown_from_three_sides() -> None:
    """One bright voxel at (z, y, x) = (1, 4, 7) of 3 x 6 x 10 voxels."""
    volume = np.zeros((3, 6, 10, 1), np.float32)
    volume[1, 4, 7] = 1
    picture = overlay(volume, SwcForest.empty(), zoom=1)
    assert picture.shape == (6 + 4 + 3, 10 + 4 + 3, 3)
    lit = {tuple(place) for place in np.argwhere(picture[..., 0] == 204).tolist()}
    assert lit == {(4, 7), (4, 10 + 4 + 1), (6 + 4 + 1, 7)}
    assert np.array_equal(picture, overlay((255 * volume[..., 0]).astype(np.uint8), SwcForest.empty(), zoom=1))


def test_tree_lies_in_all_three_projections() -> None:
    volume = np.full((12, 20, 31, 1), 0.5)
    picture = overlay(volume, line((2, 6, 4), (2, 6, 24), (9, 6, 24)), zoom=4, marks=False)
    drawn = (picture != 102).any(axis=2)
    parts = {"xy": drawn[:80, :124], "zy": drawn[:80, 128:], "xz": drawn[84:, :124]}
    wanted = {"xy": (6.5, 4.5, 24.5), "zy": (6.5, 2.5, 9.5), "xz": (2.5, 4.5, 24.5)}
    for name, (down, left, right) in wanted.items():
        y, x = np.nonzero(parts[name])
        assert np.median(y) == pytest.approx(down * 4 - 0.5, abs=1), name
        assert (x.min() + 1.5, x.max() - 1.5) == pytest.approx((left * 4 - 0.5, right * 4 - 0.5), abs=1.1), name


def test_spacing_stretches_the_projections() -> None:
    picture = overlay(np.zeros((5, 20, 30, 1)), SwcForest.empty(), zoom=1, spacing=(3, 1, 1))
    assert picture.shape == (20 + 4 + 15, 30 + 4 + 15, 3)


def samples(count: int, shape: tuple[int, ...] = (16, 16)) -> dict[str, np.ndarray]:
    """Dark patches with a label of one pixel at the origin."""
    label = np.zeros((count, *shape), np.uint8)
    label[(slice(None), *[0] * len(shape))] = 255
    return {"image": np.zeros((count, *shape, 3), np.uint8), "walk": label, "edge": label}


def test_sheet_shows_labels_in_their_place() -> None:
    sheet = contact_sheet(samples(3), ["walk"] * 3, zoom=4)
    title, kind, pitch = 22, 90, 16 * 4 + 4
    assert sheet.shape == (title + 3 * pitch, kind + 3 * pitch, 3)
    tile = sheet[title : title + 64, kind + pitch : kind + pitch + 64].copy()
    assert tile[3, 3].tolist() == [0x56, 0xB4, 0xE9], "the outline, which is open where the patch ends"
    assert 0 < tile[0, 0, 2] < 0xE9, "the veil"
    assert (tile[32:36, 32:36] == 255).all(), "the current node"
    tile[:4, :4] = tile[32:36, 32:36] = 0
    assert not tile.any()


def test_sheet_shows_each_kind_and_not_too_many_rows() -> None:
    kinds = ["walk"] * 500 + ["seed", "negative"]
    maps = samples(502)
    maps["image"][500], maps["image"][501] = 200, 100
    sheet = contact_sheet(maps, kinds, count=4, zoom=1)
    assert sheet.shape[0] == 22 + 4 * 20
    first_column = sheet[22:, 90:106]
    assert (first_column == 200).all(axis=(1, 2)).any()
    assert (first_column == 100).all(axis=(1, 2)).any()


def test_sheet_of_volumes_is_a_projection() -> None:
    maps = samples(2, (5, 16, 16))
    maps["image"] = np.zeros((2, 5, 16, 16), np.float32)
    maps["image"][:, 3, 8, 2] = 1
    sheet = contact_sheet(maps, ["walk", "seed"], zoom=2)
    assert sheet[22 + 16, 90 + 4].tolist() == [255, 255, 255]


def test_sheet_of_unequal_maps_is_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        contact_sheet(samples(3), ["walk"] * 2)


def metrics(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["step,epoch,split,loss,loss_node,lr,val_loss,dice_node", *rows]) + "\n")
    return path


def test_curves_with_blanks_make_a_picture(tmp_path: Path) -> None:
    rows = [f"{step},0,train,{1 / (step + 1)},,0.001,{0.5 if step % 10 == 9 else ''}," for step in range(100)]
    curves(metrics(tmp_path / "metrics.csv", *rows), tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").std() > 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.png", "metrics.csv"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((), "no rows"),
        (("1,0,train,0.5,,,,", "2,0,train,0.x5,,,,"), r"metrics\.csv, line 3: loss is '0\.x5', not a number"),
    ],
)
def test_broken_metrics_are_told(tmp_path: Path, rows: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        curves(metrics(tmp_path / "metrics.csv", *rows), tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_missing_metrics_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
