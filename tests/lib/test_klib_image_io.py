"""Reading any picture a user may bring, and writing what can be mapped back."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from lib.errors import UserError
from lib.klib.image_io import image_files, open_stack, read_image, read_mask, stack_writer, write_png, write_tiff

GRAY = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
RGB = np.stack([GRAY, GRAY[::-1], 255 - GRAY], axis=-1)
GRAY_16 = GRAY.astype(np.uint16) * 257


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.ppm", "a.tif"])
def test_rgb_of_8_bits_is_exactly_value_over_255(tmp_path: Path, name: str) -> None:
    PillowImage.fromarray(RGB).save(tmp_path / name)
    image = read_image(tmp_path / name, channels=3)
    assert image.pixels.dtype == np.float32
    assert np.array_equal(image.pixels, RGB.astype(np.float32) / np.float32(255))
    assert image.notes == ()


def test_jpeg_is_read_as_rgb(tmp_path: Path) -> None:
    PillowImage.fromarray(np.full((8, 8, 3), (200, 100, 50), np.uint8)).save(tmp_path / "a.jpg", quality=95)
    assert np.allclose(read_image(tmp_path / "a.jpg", channels=3).pixels * 255, (200, 100, 50), atol=3)


@pytest.mark.parametrize("options", [{"compression": "lzw"}, {"compression": "deflate"}, {"planarconfig": "separate"}])
def test_tiff_of_any_packing(tmp_path: Path, options: dict[str, str]) -> None:
    array = np.moveaxis(RGB, -1, 0) if "planarconfig" in options else RGB
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", **options)
    assert np.array_equal(read_image(tmp_path / "a.tif", channels=3).pixels, RGB / np.float32(255))


def test_gray_is_repeated_and_colour_made_gray_with_a_note(tmp_path: Path) -> None:
    write_png(tmp_path / "gray.png", GRAY)
    write_png(tmp_path / "rgb.png", RGB)
    gray = read_image(tmp_path / "gray.png", channels=3)
    assert np.array_equal(gray.pixels, np.repeat(GRAY[..., None], 3, axis=2) / np.float32(255))
    assert gray.notes == ("gray image repeated to three channels",)
    assert read_image(tmp_path / "gray.png", channels=1).notes == ()
    luminance = read_image(tmp_path / "rgb.png", channels=1)
    assert luminance.pixels.shape == (2, 3, 1)
    assert luminance.pixels.dtype == np.float32
    assert luminance.notes == ("colour turned into luminance",)


@pytest.mark.parametrize("base", [GRAY[..., None], RGB])
def test_alpha_is_dropped_with_a_note(tmp_path: Path, base: np.ndarray) -> None:
    array = np.concatenate([base, np.full((2, 3, 1), 7, np.uint8)], axis=-1)
    PillowImage.fromarray(array).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", channels=3)
    assert np.array_equal(image.pixels, np.broadcast_to(base, (2, 3, 3)) / np.float32(255))
    assert "alpha" in image.notes[0]


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.tif"])
def test_palette_gives_the_colours(tmp_path: Path, name: str) -> None:
    PillowImage.fromarray(RGB).quantize(6).save(tmp_path / name)
    image = read_image(tmp_path / name, channels=3)
    assert np.array_equal(image.pixels, RGB / np.float32(255))
    assert image.notes == ("palette turned into colours",)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_one_bit_is_black_and_white(tmp_path: Path, name: str) -> None:
    PillowImage.fromarray(GRAY > 100).save(tmp_path / name)
    image = read_image(tmp_path / name, channels=1)
    assert np.array_equal(image.pixels[..., 0], GRAY > 100)
    assert image.notes == ("1-bit image",)
    mask, notes = read_mask(tmp_path / name)
    assert np.array_equal(mask, GRAY > 100) and notes == ()


def test_16_bits_of_gray_and_colour(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GRAY_16)
    image = read_image(tmp_path / "a.tif", channels=1)
    assert np.allclose(image.pixels[..., 0], GRAY / 255, atol=1e-7)
    assert image.notes == ("16-bit scaled by 1/65535 (brightest value 65535)",)
    colour = RGB.astype(np.uint16) * 257 + (RGB < 255).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(colour))
    assert np.array_equal(read_image(tmp_path / "a.png", channels=3).pixels, colour / np.float32(65535))


@pytest.mark.parametrize(
    ("array", "expected", "note"),
    [
        (GRAY / np.float32(255), GRAY / 255, None),
        (GRAY.astype(np.float32), GRAY / 255, "scaled by 1/255"),
        (GRAY.astype(np.float32) * 4 - 20, GRAY / 255, "-20 to 1000 rescaled"),
        (GRAY.astype(np.int16) * 100, GRAY / 255, "int16 values 0 to 25500 rescaled"),
        (GRAY > 100, GRAY > 100, "1-bit"),
        (np.full((2, 3), -1, np.float32), np.zeros((2, 3)), "rescaled"),
    ],
)
def test_other_values_are_brought_to_the_unit_range(
    tmp_path: Path, array: np.ndarray, expected: np.ndarray, note: str | None
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", array)
    image = read_image(tmp_path / "a.tif", channels=1)
    assert np.allclose(image.pixels[..., 0], expected, atol=1e-6)
    assert (image.notes == ()) if note is None else (note in image.notes[0])


def test_float_colour_without_a_sample_axis(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB / np.float32(255), photometric="minisblack")
    assert np.array_equal(read_image(tmp_path / "a.tif", channels=3).pixels, RGB / np.float32(255))


def test_channels_first_imagej_is_colour(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(RGB, -1, 0), imagej=True, metadata={"axes": "CYX"})
    assert np.array_equal(read_image(tmp_path / "a.tif", channels=3).pixels, RGB / np.float32(255))


def test_white_is_zero_is_inverted(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GRAY, photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "a.tif", channels=1).pixels[..., 0], (255 - GRAY) / np.float32(255))


def test_first_of_pages_of_different_size(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(GRAY[:1], photometric="minisblack")
    image = read_image(tmp_path / "a.tif", channels=3)
    assert image.pixels.shape == (2, 3, 3)
    assert image.notes == ("image 1 of 2 in the file taken",)


def test_rotation_flag_is_told_and_not_obeyed(tmp_path: Path) -> None:
    exif = PillowImage.Exif()
    exif[274] = 6
    PillowImage.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    image = read_image(tmp_path / "a.jpg", channels=3)
    assert image.pixels.shape == (2, 3, 3)
    assert image.notes == ("orientation flag 6 ignored",)


def _volume(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((5, 8, 9), np.uint8))


def _with_nan(path: Path) -> None:
    tifffile.imwrite(path, np.array([[np.nan, 1]], np.float32))


def _text(path: Path) -> None:
    path.write_text("not a picture")


def _truncated_tiff(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    tifffile.imwrite(path, noise, compression="lzw", photometric="rgb")
    path.write_bytes(path.read_bytes()[:3000])


def _truncated_plain_tiff(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:1000])


def _truncated_png(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    write_png(path, noise)
    path.write_bytes(path.read_bytes()[:3000])


def _empty(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_volume, "is a volume (5 x 8 x 9), a 2D image is wanted; give one plane, or use the 3D script"),
        (_with_nan, "1 values are NaN"),
        (_text, "not an image"),
        (_empty, "not an image"),
        (_truncated_tiff, "not whole"),
        (_truncated_plain_tiff, "not whole"),
        (_truncated_png, "not whole"),
        (Path.mkdir, "is a folder"),
        (lambda path: None, "no such file"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path, make, said: str) -> None:
    path = tmp_path / "picture.tif"
    make(path)
    with pytest.raises(UserError, match=r"picture\.tif") as caught:
        read_image(path, channels=3)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("high", [1, 255])
def test_mask_of_two_values(tmp_path: Path, high: int) -> None:
    tifffile.imwrite(tmp_path / "a.tif", (GRAY > 100).astype(np.uint8) * high)
    mask, notes = read_mask(tmp_path / "a.tif")
    assert mask.dtype == bool
    assert np.array_equal(mask, GRAY > 100)
    assert notes == ()


def test_mask_with_values_between_is_cut_at_half(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", GRAY)
    mask, notes = read_mask(tmp_path / "a.png")
    assert np.array_equal(mask, GRAY > 127)
    assert notes == ("values between 0 and 255 cut at 127.5",)


def test_mask_of_one_bit_and_empty_mask_and_volume(tmp_path: Path) -> None:
    for number, array in enumerate((GRAY > 100, np.zeros((2, 3), np.uint8), np.ones((4, 5, 6), np.uint8))):
        write_tiff(tmp_path / f"{number}.tif", array)
        assert np.array_equal(read_mask(tmp_path / f"{number}.tif")[0], array > 0)


def test_images_of_a_folder_in_natural_order(tmp_path: Path) -> None:
    for name in ("10.tif", "2.PNG", "1.jpg", "a2b.tif", "notes.txt", "._1.jpg"):
        (tmp_path / name).touch()
    assert [p.name for p in image_files(tmp_path)] == ["1.jpg", "2.PNG", "10.tif", "a2b.tif"]
    assert image_files(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image in this folder"):
        image_files(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        image_files(tmp_path / "nowhere")


@pytest.mark.parametrize("shape", [(2, 3), (5, 6, 3), (4, 5, 6), (2, 7, 8, 3)])
def test_tiff_round_trip(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    write_tiff(tmp_path / "new" / "a.tif", array)
    assert np.array_equal(tifffile.imread(tmp_path / "new" / "a.tif"), array)
    assert np.array_equal(open_stack(tmp_path / "new" / "a.tif"), array)


def test_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_png(tmp_path / "file" / "a.png", GRAY)


@pytest.mark.parametrize("shape", [(7, 64, 64, 3), (7, 64, 64), (1, 4, 4, 3), (3, 4, 8, 8)])
def test_stack_round_trip(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    with stack_writer(tmp_path / "node_img.tif", shape, np.uint8) as stack:
        assert not (tmp_path / "node_img.tif").exists()
        for index, value in enumerate(values):
            stack[index] = value
    mapped = open_stack(tmp_path / "node_img.tif")
    assert isinstance(mapped, np.memmap)
    assert mapped.shape == shape
    assert np.array_equal(mapped, values)
    assert np.array_equal(tifffile.imread(tmp_path / "node_img.tif"), values)
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 0


def test_stack_of_more_than_4_gb(tmp_path: Path) -> None:
    """The file is sparse: it takes a few pages of disk."""
    shape = (5, 1024, 1024, 1024)
    with stack_writer(tmp_path / "big.tif", shape, np.uint8) as stack:
        stack[-1, -1, -1, -3:] = (1, 2, 3)
    mapped = open_stack(tmp_path / "big.tif")
    assert mapped.shape == shape
    assert mapped[-1, -1, -1, -3:].tolist() == [1, 2, 3]


def test_broken_off_stack_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), stack_writer(tmp_path / "a.tif", (2, 4, 4), np.uint8):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_stack_larger_than_the_disk_and_empty_stack(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="GB are free"), stack_writer(tmp_path / "a.tif", (10**9, 10**6), np.uint8):
        pass
    with pytest.raises(ValueError, match="at least one pixel"), stack_writer(tmp_path / "a.tif", (0, 4), np.uint8):
        pass


def test_stack_that_cannot_be_mapped(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GRAY, compression="deflate")
    with pytest.raises(UserError, match=r"a\.tif: cannot be memory-mapped"):
        open_stack(tmp_path / "a.tif")
    with pytest.raises(UserError, match="no such file"):
        open_stack(tmp_path / "b.tif")
