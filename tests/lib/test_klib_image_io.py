"""Reading of image files of many kinds; writing of images and of stacks that can be mapped into memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage
from PIL import ImageOps

from lib.errors import UserError
from lib.klib import tiff
from lib.klib.decoded import ReadOptions
from lib.klib.image_io import (
    image_files,
    image_from_array,
    open_stack,
    read_image,
    read_mask,
    stack_writer,
    write_png,
    write_tiff,
)

GRAY = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
RGB = np.stack([GRAY, GRAY[::-1], 255 - GRAY], axis=-1)
GRAY_16 = GRAY.astype(np.uint16) * 257


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.ppm", "a.tif"])
def test_8_bit_rgb_is_divided_by_255(tmp_path: Path, name: str) -> None:
    PillowImage.fromarray(RGB).save(tmp_path / name)
    image = read_image(tmp_path / name, channels=3)
    assert image.pixels.dtype == np.float32
    assert np.array_equal(image.pixels, RGB.astype(np.float32) / np.float32(255))
    assert image.notes == ()


def test_jpeg_is_read_as_rgb(tmp_path: Path) -> None:
    PillowImage.fromarray(np.full((8, 8, 3), (200, 100, 50), np.uint8)).save(tmp_path / "a.jpg", quality=95)
    assert np.allclose(read_image(tmp_path / "a.jpg", channels=3).pixels * 255, (200, 100, 50), atol=3)


@pytest.mark.parametrize("options", [{"compression": "lzw"}, {"compression": "deflate"}, {"planarconfig": "separate"}])
def test_compressed_and_planar_tiffs(tmp_path: Path, options: dict[str, str]) -> None:
    array = np.moveaxis(RGB, -1, 0) if "planarconfig" in options else RGB
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", **options)
    assert np.array_equal(read_image(tmp_path / "a.tif", channels=3).pixels, RGB / np.float32(255))


def test_gray_is_repeated_and_colour_turned_into_luminance(tmp_path: Path) -> None:
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
def test_palette_is_turned_into_colours(tmp_path: Path, name: str) -> None:
    PillowImage.fromarray(RGB).quantize(6).save(tmp_path / name)
    image = read_image(tmp_path / name, channels=3)
    assert np.array_equal(image.pixels, RGB / np.float32(255))
    assert image.notes == ("palette turned into colours",)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_one_bit_images(tmp_path: Path, name: str) -> None:
    PillowImage.fromarray(GRAY > 100).save(tmp_path / name)
    image = read_image(tmp_path / name, channels=1)
    assert np.array_equal(image.pixels[..., 0], GRAY > 100)
    assert image.notes == ("1-bit image",)
    mask, notes = read_mask(tmp_path / name)
    assert np.array_equal(mask, GRAY > 100) and notes == ()


def test_16_bit_gray_and_colour(tmp_path: Path) -> None:
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
def test_other_values_are_scaled_to_the_unit_range(
    tmp_path: Path, array: np.ndarray, expected: np.ndarray, note: str | None
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", array)
    image = read_image(tmp_path / "a.tif", channels=1)
    assert np.allclose(image.pixels[..., 0], expected, atol=1e-6)
    assert (image.notes == ()) if note is None else (note in image.notes[0])


def test_float_colour_without_a_sample_axis(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB / np.float32(255), photometric="minisblack")
    assert np.array_equal(read_image(tmp_path / "a.tif", channels=3).pixels, RGB / np.float32(255))


def test_imagej_colour_with_channels_first(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(RGB, -1, 0), imagej=True, metadata={"axes": "CYX"})
    assert np.array_equal(read_image(tmp_path / "a.tif", channels=3).pixels, RGB / np.float32(255))


def test_white_is_zero_is_inverted(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GRAY, photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "a.tif", channels=1).pixels[..., 0], (255 - GRAY) / np.float32(255))


def test_first_of_several_images_is_read(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(GRAY[:1], photometric="minisblack")
    image = read_image(tmp_path / "a.tif", channels=3)
    assert image.pixels.shape == (2, 3, 3)
    assert image.notes == ("image 1 of 2 in the file taken",)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_viewers_turn_them(tmp_path: Path, name: str, orientation: int) -> None:
    exif = PillowImage.Exif()
    exif[274] = orientation
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, RGB, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    else:
        PillowImage.fromarray(RGB).save(tmp_path / name, exif=exif)
    image = read_image(tmp_path / name, channels=3)
    with PillowImage.open(tmp_path / name) as stored:
        stored.getexif()[274] = orientation
        shown = np.asarray(ImageOps.exif_transpose(stored))
    # Pillow turns TIFFs by itself when it reads their pixels.
    assert np.array_equal(image.pixels, shown / np.float32(255))
    assert image.notes == (() if orientation == 1 else (f"turned as its orientation flag says ({orientation})",))


TWELVE = np.linspace(0, 4095, 60 * 80).reshape(60, 80).astype(np.uint16)


def test_12_bits_are_brought_to_what_the_weights_know(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", TWELVE)
    dark = read_image(tmp_path / "a.tif", channels=1)
    assert dark.pixels.max() == pytest.approx(1 / 16, rel=1e-3)
    known = read_image(tmp_path / "a.tif", channels=1, how=ReadOptions(bright=0.9))
    assert np.percentile(known.pixels, 99.9) == pytest.approx(0.9, abs=0.01) and known.pixels.max() <= 1
    assert "values made 14.4 times brighter" in known.notes[1]
    white = read_image(tmp_path / "a.tif", channels=1, how=ReadOptions(white=50, bright=0.9))
    assert (white.pixels == 1).mean() == pytest.approx(0.5, abs=0.01) and "percentile 50" in white.notes[0]


@pytest.mark.parametrize(
    ("array", "bright"),
    [(TWELVE * 16, 0.9), (TWELVE * 8, 0.9), (GRAY // 4, 0.9), (TWELVE, 0.1)],
    ids=["16 bits", "half as bright", "8 bits", "weights that know dark images"],
)
def test_values_that_are_as_bright_as_known_stay(tmp_path: Path, array: np.ndarray, bright: float) -> None:
    tifffile.imwrite(tmp_path / "a.tif", array)
    known = read_image(tmp_path / "a.tif", channels=1, how=ReadOptions(bright=bright))
    assert np.array_equal(known.pixels, read_image(tmp_path / "a.tif", channels=1).pixels)


def planes(*names: str) -> np.ndarray:
    """A plane for each name, all of one number."""
    return np.stack([np.full((6, 8), 10 * (number + 1), np.uint8) for number, _ in enumerate(names)])


def test_one_of_several_channels_is_chosen(tmp_path: Path) -> None:
    names = ("DAPI", "GFP")
    metadata = {"axes": "CYX", "Channel": {"Name": list(names)}}
    tifffile.imwrite(tmp_path / "a.ome.tif", planes(*names), photometric="minisblack", metadata=metadata)
    with pytest.raises(UserError, match=r"a.ome.tif: has 2 channels \(1 DAPI, 2 GFP\); choose one with --channel"):
        read_image(tmp_path / "a.ome.tif", channels=3)
    image = read_image(tmp_path / "a.ome.tif", channels=1, how=ReadOptions(channel=(2,)))
    assert (image.pixels == np.float32(20 / 255)).all() and image.notes == ("channel 2 of 2 taken",)
    with pytest.raises(UserError, match=r"has 2 channels, so there is no channel 3; give another --channel"):
        read_image(tmp_path / "a.ome.tif", channels=3, how=ReadOptions(channel=(3,)))
    with pytest.raises(UserError, match=r"--channel: 2 given; give one, or three"):
        read_image(tmp_path / "a.ome.tif", channels=3, how=ReadOptions(channel=(1, 2)))


def test_a_colour_of_a_photograph_is_chosen(tmp_path: Path) -> None:
    PillowImage.fromarray(RGB).save(tmp_path / "a.png")
    green = read_image(tmp_path / "a.png", channels=1, how=ReadOptions(channel=(2,)))
    assert np.array_equal(green.pixels[..., 0], RGB[..., 1] / np.float32(255))
    turned = read_image(tmp_path / "a.png", channels=3, how=ReadOptions(channel=(3, 2, 1)))
    assert np.array_equal(turned.pixels, RGB[..., ::-1] / np.float32(255))


def test_a_time_point_is_chosen(tmp_path: Path) -> None:
    metadata = {"axes": "TYX"}
    tifffile.imwrite(tmp_path / "a.ome.tif", planes("1", "2", "3"), photometric="minisblack", metadata=metadata)
    with pytest.raises(UserError, match=r"is a series \(3 x 6 x 8\), .* choose one with --timepoint"):
        read_image(tmp_path / "a.ome.tif", channels=1)
    image = read_image(tmp_path / "a.ome.tif", channels=1, how=ReadOptions(timepoint=3))
    assert (image.pixels == np.float32(30 / 255)).all() and image.notes == ("time point 3 of 3 taken",)
    with pytest.raises(UserError, match=r"has 3 time points, so there is no number 4"):
        read_image(tmp_path / "a.ome.tif", channels=1, how=ReadOptions(timepoint=4))


def test_the_size_of_a_pixel(tmp_path: Path) -> None:
    """From OME and ImageJ files that name a unit; a resolution alone is that of a printer."""
    ome = {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "a.ome.tif", GRAY, metadata=ome)
    image = read_image(tmp_path / "a.ome.tif", channels=1)
    assert image.spacing == (0.5, 0.25) and image.has_unit
    tifffile.imwrite(tmp_path / "b.ome.tif", GRAY, metadata=ome, extratags=[(274, "H", 1, 6, True)])
    assert read_image(tmp_path / "b.ome.tif", channels=1).spacing == (0.25, 0.5)
    known = dict(imagej=True, resolution=(4.0, 2.0))
    tifffile.imwrite(tmp_path / "c.tif", GRAY, **known, metadata={"unit": "um"})
    assert read_image(tmp_path / "c.tif", channels=1).spacing == (0.5, 0.25)
    tifffile.imwrite(tmp_path / "d.tif", GRAY, **known)
    tifffile.imwrite(tmp_path / "e.tif", GRAY, resolution=(300, 300))
    assert read_image(tmp_path / "d.tif", channels=1).spacing is None
    assert read_image(tmp_path / "e.tif", channels=1).spacing is None


def geotiff(path: Path, bands: np.ndarray, colours: list[str], **options: object) -> Path:
    """A tile in UTM zone 33 with bands ``(band, y, x)``."""
    rasterio = pytest.importorskip("rasterio")
    form = dict(height=bands.shape[1], width=bands.shape[2], count=len(bands), dtype=bands.dtype, crs="EPSG:32633")
    transform = rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5e6)
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **form, **options) as image:
        image.write(bands)
        image.colorinterp = [rasterio.enums.ColorInterp[name] for name in colours]
    return path


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "colours", [["red", "green", "blue"], ["blue", "green", "red", "undefined"], ["undefined", "red", "green", "blue"]]
)
def test_bands_of_a_geotiff_come_in_any_order(tmp_path: Path, interleave: str, dtype: type, colours: list[str]) -> None:
    values = {"red": 200, "green": 150, "blue": 100, "undefined": 7}
    unit = np.iinfo(dtype).max / 255
    bands = np.stack([np.full((16, 20), values[name] * unit, dtype) for name in colours])
    image = read_image(geotiff(tmp_path / "a.tif", bands, colours, interleave=interleave), channels=3)
    assert image.pixels.shape == (16, 20, 3)
    np.testing.assert_allclose(image.pixels[3, 4], np.array([200, 150, 100]) / 255, atol=1e-6)


def test_bands_without_colours_must_be_chosen(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", planes(*"12345"), ["undefined"] * 5)
    with pytest.raises(UserError, match=r"5 bands of which none is said to be red.* three as red, green and blue"):
        read_image(path, channels=3)
    image = read_image(path, channels=3, how=ReadOptions(channel=(4, 3, 2)))
    np.testing.assert_allclose(image.pixels[0, 0], np.array([40, 30, 20]) / 255, atol=1e-6)


def test_arrays_are_prepared_as_files_are(tmp_path: Path) -> None:
    for array in (GRAY, GRAY[..., np.newaxis], RGB, GRAY_16, GRAY > 100, GRAY.astype(np.float32)):
        tifffile.imwrite(tmp_path / "a.tif", array)
        from_file = read_image(tmp_path / "a.tif", channels=3)
        from_array = image_from_array(array, channels=3)
        assert np.array_equal(from_array.pixels, from_file.pixels) and from_array.notes == from_file.notes


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), "float64 of shape .3,. is not an image"),
        (np.zeros((0, 4)), "is not an image"),
        (np.array([["a"]]), "is not an image"),
        (np.zeros((4, 5, 6)), "has 6 channels"),
        (np.full((4, 5), np.nan), "20 values are NaN"),
    ],
)
def test_arrays_that_are_no_images(array: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=rf"^array: .*{message}"):
        image_from_array(array, channels=3)


def _volume(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((5, 8, 9), np.uint8))


def _with_nan(path: Path) -> None:
    tifffile.imwrite(path, np.array([[np.nan, 1]], np.float32))


def _text(path: Path) -> None:
    path.write_text("not an image")


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


def _corrupt_png_header(path: Path) -> None:
    write_png(path, GRAY)
    content = bytearray(path.read_bytes())
    content[18] ^= 0xFF
    path.write_bytes(content)


def _message(path: Path) -> str:
    """The message of the error that reading the image raises."""
    with pytest.raises(UserError) as caught:
        read_image(path, channels=3)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_volume, "is a volume (5 x 8 x 9), a 2D image is wanted; give one plane, or use the 3D script"),
        (_with_nan, "1 values are NaN"),
        (_truncated_tiff, "broken or not complete"),
        (_truncated_plain_tiff, "broken or not complete"),
        (_truncated_png, "broken or not complete"),
        (Path.mkdir, "is a folder"),
        (lambda path: None, "no such file"),
    ],
)
def test_unreadable_files(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "image.tif"
    make(path)
    assert message in _message(path)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (_corrupt_png_header, "image.png"),
        (_corrupt_png_header, "known-by-its-first-bytes"),
        (_truncated_png, "image.png"),
    ],
)
def test_broken_file_of_a_known_format(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    make(tmp_path / name)
    message = _message(tmp_path / name)
    assert "broken or not complete" in message and message.endswith("; copy it again")


@pytest.mark.parametrize(
    ("make", "name", "wanted"),
    [
        (_text, "image.txt", "an image"),
        (Path.touch, "image", "an image"),
        (_text, "volume.nii", "an image"),
        (_text, "image.png", "a PNG image"),
        (_text, "image.tif", "a TIF image"),
        (Path.touch, "image.JPG", "a JPG image"),
    ],
)
def test_file_of_no_known_format(tmp_path: Path, make: Callable[[Path], None], name: str, wanted: str) -> None:
    make(tmp_path / name)
    assert f"{name}: is not {wanted}; known are .tif, .tiff, .png" in _message(tmp_path / name)


def test_png_without_imagecodecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png(tmp_path / "a.png", GRAY)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert "needs the package imagecodecs, which is not installed; run `pip install imagecodecs`" in _message(
        tmp_path / "a.png"
    )


def test_without_imagecodecs_other_files_are_read(tmp_path: Path) -> None:
    """In a fresh interpreter, because tifffile looks for the package when it is imported."""
    tifffile.imwrite(tmp_path / "plain.tif", GRAY)
    tifffile.imwrite(tmp_path / "lzw.tif", RGB, compression="lzw", predictor=True)
    PillowImage.fromarray(GRAY).save(tmp_path / "a.jpg")
    script = f"""
import sys
sys.modules["imagecodecs"] = None
from lib.errors import UserError
from lib.klib.image_io import read_image
for name in ("plain.tif", "a.jpg"):
    assert read_image({str(tmp_path)!r} + "/" + name, channels=1).pixels.shape == (2, 3, 1)
try:
    read_image({str(tmp_path)!r} + "/lzw.tif", channels=1)
except UserError as error:
    sys.exit(str(error))
"""
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert "lzw.tif: reading it needs the package imagecodecs" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("high", [1, 255])
def test_mask_of_two_values(tmp_path: Path, high: int) -> None:
    tifffile.imwrite(tmp_path / "a.tif", (GRAY > 100).astype(np.uint8) * high)
    mask, notes = read_mask(tmp_path / "a.tif")
    assert mask.dtype == bool
    assert np.array_equal(mask, GRAY > 100)
    assert notes == ()


def test_mask_with_other_values_is_cut_at_half_its_maximum(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", GRAY)
    mask, notes = read_mask(tmp_path / "a.png")
    assert np.array_equal(mask, GRAY > 127)
    assert notes == ("values between 0 and 255 cut at 127.5",)


def test_one_bit_empty_and_3d_masks(tmp_path: Path) -> None:
    for number, array in enumerate((GRAY > 100, np.zeros((2, 3), np.uint8), np.ones((4, 5, 6), np.uint8))):
        write_tiff(tmp_path / f"{number}.tif", array)
        assert np.array_equal(read_mask(tmp_path / f"{number}.tif")[0], array > 0)


def test_images_of_a_folder_in_natural_order(tmp_path: Path) -> None:
    for name in ("10.tif", "2.PNG", "1.jpg", "a2b.tif", "notes.txt", "._1.jpg"):
        (tmp_path / name).touch()
    assert [p.name for p in image_files(tmp_path)] == ["1.jpg", "2.PNG", "10.tif", "a2b.tif"]
    assert image_files(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_folder_without_images(tmp_path: Path) -> None:
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


def test_file_that_cannot_be_written(tmp_path: Path) -> None:
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
    """The file is sparse and takes little space on the disk."""
    shape = (5, 1024, 1024, 1024)
    with stack_writer(tmp_path / "big.tif", shape, np.uint8) as stack:
        stack[-1, -1, -1, -3:] = (1, 2, 3)
    mapped = open_stack(tmp_path / "big.tif")
    assert mapped.shape == shape
    assert mapped[-1, -1, -1, -3:].tolist() == [1, 2, 3]


def test_interrupted_stack_leaves_no_file(tmp_path: Path) -> None:
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


# What benchmarks/fuzz.py found.


def test_a_list_of_pages_that_leads_back_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GRAY)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        at = page.offset + tiff.tiff.tagnosize + len(page.tags) * tiff.tiff.tagsize
        own = page.offset
    data = bytearray(path.read_bytes())
    data[at : at + 4] = own.to_bytes(4, "little")
    path.write_bytes(data)
    assert "its list of pages leads back to its beginning" in _message(path)


def test_a_file_that_says_to_hold_more_than_it_can(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), tile=(16, 16), compression="zlib")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages.first.tags["ImageLength"].valueoffset
    data[at : at + 4] = (1 << 28).to_bytes(4, "little")
    path.write_bytes(data)
    assert "bytes cannot hold" in _message(path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_numbers(tmp_path: Path, dtype: type) -> None:
    largest = np.finfo(dtype).max
    tifffile.imwrite(tmp_path / "a.tif", np.array([[-largest, 0, largest]], dtype=dtype))
    assert read_image(tmp_path / "a.tif", channels=1).pixels.ravel().tolist() == [0, 0.5, 1]


def test_memory_that_runs_out_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GRAY)

    def fail(*_: object) -> None:
        raise MemoryError("Unable to allocate 768. GiB")

    monkeypatch.setattr(tiff, "_series_array", fail)
    assert "does not fit into memory (Unable to allocate 768. GiB)" in _message(tmp_path / "a.tif")
