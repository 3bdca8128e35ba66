"""Error pictures draw every counted error in its colour and place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.errors import UserError
from lib.klib.image_io import find_image, write_tiff
from lib.swclib import SwcForest, concatenate
from lib.swclib.metrics import score
from tools.pictures.errors import EXTRA, MATCHED, MISSED, error_picture, find_errors, read_for_picture


def line(*positions: tuple[float, ...]) -> SwcForest:
    return SwcForest.from_positions(np.array(positions, float), np.arange(len(positions)) - 1)


GOLD = line((10, 5), (10, 50))
TEST = concatenate([line((11, 5), (11, 30)), line((30, 5), (30, 50))])


def is_colour(picture: np.ndarray, colour: str) -> np.ndarray:
    """Where a picture has about this colour: thin lines blend with the background."""
    rgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)])
    return (abs(picture.astype(int) - rgb) < 50).all(axis=2)


def length(segments: np.ndarray) -> float:
    return float(np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1).sum())


def test_drawn_lengths_are_those_of_the_score() -> None:
    errors = find_errors(GOLD, TEST, score(GOLD, TEST))
    # The test tree ends at 30 and runs 1 pixel beside the gold tree, which is within the threshold of 2 up to
    # 30 + sqrt(2² - 1²), rounded to whole pieces of 1 pixel.
    assert (length(errors.matched), length(errors.missed)) == (27, 18)
    assert length(errors.extra) == 45
    assert errors.extra[..., 1].min() == errors.extra[..., 1].max() == 30


@pytest.mark.parametrize("spacing", [1.0, 0.5, (2.0, 0.5)])
def test_positions_do_not_depend_on_the_spacing(spacing) -> None:
    gold, test = line((10, 5), (10, 50)), line((10, 5), (10, 30))
    result = score(gold, test, spacing=spacing, protocol="closed")
    errors = find_errors(gold, test, result)
    assert errors.matched[..., 1].max() == 10 and errors.missed[..., 0].max() == 50


def test_each_colour_is_in_place() -> None:
    picture = error_picture(GOLD, TEST, score(GOLD, TEST), np.zeros((40, 60, 1)), zoom=6)
    assert picture.shape[1] == 360 and picture.shape[0] > 240
    for colour, row, left, right in ((MATCHED, 10, 5, 32), (MISSED, 10, 32, 50), (EXTRA, 30, 5, 50)):
        y, x = np.nonzero(is_colour(picture[:240], colour))
        assert y.mean() == pytest.approx((row + 0.5) * 6 - 0.5, abs=0.6)
        assert (x.min(), x.max()) == pytest.approx(((left + 0.5) * 6, (right + 0.5) * 6), abs=4)


def test_shift_moves_the_drawing() -> None:
    result = score(GOLD, TEST)
    at, before = (error_picture(GOLD, TEST, result, np.zeros((40, 60, 1)), zoom=6, shift=d) for d in (0.0, -0.5))
    assert np.array_equal(is_colour(at, EXTRA)[3:240, 3:360], is_colour(before, EXTRA)[:237, :357])


def test_jumps_breaks_and_closed_loops_are_marked() -> None:
    gold = line((0, 0), (0, 40), (10, 40), (10, 0))
    test = line((0, 40), (0, 0), (10, 0), (10, 40))
    jumping = find_errors(gold, test, score(gold, test))
    assert jumping.jumps.tolist() == [[[0, 0, 0], [0, 10, 0]]]
    assert (len(jumping.breaks), len(jumping.merges), len(jumping.closed)) == (1, 1, 0)
    closed = find_errors(gold, test, score(gold, test, protocol="closed", close_radius=11))
    assert closed.closed.tolist() == [[[0, 0, 0], [0, 10, 0]], [[0, 10, 0], [0, 0, 0]]]
    assert (len(closed.jumps), len(closed.breaks), len(closed.merges)) == (0, 0, 0)
    plain = error_picture(gold, gold, score(gold, gold), np.zeros((20, 50, 1)), zoom=4)
    marked = error_picture(gold, test, score(gold, test), np.zeros((20, 50, 1)), zoom=4)
    white = (marked[:80, :200] == 255).all(axis=2)
    assert white[:, :40].sum() > 10 and not (plain[:80, :200] == 255).all(axis=2).any()


def test_without_an_image_the_canvas_fits_the_trees() -> None:
    far = line((-500, 8000), (-500, 9000))
    picture = error_picture(far, far, score(far, far))
    y, x = np.nonzero(is_colour(picture, MATCHED)[:-30])
    assert x.max() - x.min() == pytest.approx(1000, abs=20) and len(set(y.tolist())) < 5
    empty = SwcForest.empty()
    assert error_picture(far, empty, score(far, empty)).any()


def test_volumes_are_drawn_from_three_sides() -> None:
    gold = line((2, 10, 5), (7, 10, 50))
    result = score(gold, gold)
    with_image = error_picture(gold, gold, result, np.zeros((10, 40, 60, 1), np.uint8), zoom=2)
    assert with_image.shape[1] == 120 + 4 + 20 or with_image.shape[1] == 200  # the least width of a legend
    for part in (with_image[:80, :120], with_image[:80, 124:144], with_image[84:104, :120]):
        assert is_colour(part, MATCHED).any()
    assert is_colour(error_picture(gold, gold, result), MATCHED).sum() > 300


def test_images_are_found_by_stem(tmp_path: Path) -> None:
    for name in ("01.png", "02_image.png", "03_a.png", "03_b.png"):
        Image.new("RGB", (3, 2)).save(tmp_path / name)
    assert find_image(tmp_path, ("01", "01_manual1")) == tmp_path / "01.png"
    assert find_image(tmp_path, ("01_manual1",)) == tmp_path / "01.png"
    assert find_image(tmp_path, ("02", "02")) == tmp_path / "02_image.png"
    assert find_image(tmp_path, ("0", "4")) is None
    assert find_image(tmp_path / "01.png", ("7",)) == tmp_path / "01.png"
    with pytest.raises(UserError, match=r"03_a\.png, 03_b\.png all fit 03"):
        find_image(tmp_path, ("03",))


def test_planes_and_volumes_are_read(tmp_path: Path) -> None:
    Image.new("L", (30, 20), 51).save(tmp_path / "a.png")
    assert read_for_picture(tmp_path / "a.png").shape == (20, 30, 3)
    write_tiff(tmp_path / "b.tif", np.arange(24 * 20 * 30, dtype=np.uint16).reshape(24, 20, 30))
    assert read_for_picture(tmp_path / "b.tif").shape == (24, 20, 30, 1)
