"""Images read by windows: what whole-file readers give, from files, folders and addresses, and what is refused."""

from __future__ import annotations

import gc
import itertools
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from lib.errors import UserError
from lib.klib import lazy
from lib.klib.decoded import ALL, ReadOptions
from lib.klib.image_io import read_image, write_png
from lib.klib.lazy import LazyImage, open_image
from lib.klib.volume_io import read_volume

zarr = pytest.importorskip("zarr")

PLANE, VOLUME = (40, 56), (6, 20, 24)
TILED = {"tile": (16, 16), "compression": "zlib"}


def plane(*more: int, dtype: type = np.uint8, top: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, (*PLANE, *more)).astype(dtype)


def volume(*before: int, dtype: type = np.uint8, top: int = 256) -> np.ndarray:
    return np.random.default_rng(1).integers(0, top, (*before, *VOLUME)).astype(dtype)


def write(path: Path, array: np.ndarray, **options: object) -> Path:
    kind = "rgb" if array.ndim == 3 and array.shape[-1] in (3, 4) else "minisblack"
    tifffile.imwrite(path, array, **({"photometric": kind} | options))
    return path


def write_slices(folder: Path, array: np.ndarray, first: int = 8, **options: object) -> Path:
    folder.mkdir()
    for number, each in enumerate(array, start=first):
        write(folder / f"z{number}.tif", each, **options)
    return folder


def write_zarr(path: Path | str, array: np.ndarray, axes: str, version: int = 3, chunk: int = 15) -> Path | str:
    """An OME-Zarr image, version 0.4 in Zarr 2 or 0.5 in Zarr 3, with voxels of 1 x 0.5 x 0.25 µm."""
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    chunks = tuple(min(chunk, size) for size in array.shape)
    group.create_array("0", shape=array.shape, chunks=chunks, dtype=array.dtype)[:] = array
    kinds = {"t": "time", "c": "channel"}
    units = {name: {"unit": "micrometer"} for name in "zyx"}
    named = [{"name": name, "type": kinds.get(name, "space"), **units.get(name, {})} for name in axes]
    scale = [{"z": 1.0, "y": 0.5, "x": 0.25}.get(name, 1.0) for name in axes]
    levels = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}]
    image = {"multiscales": [{"axes": named, "datasets": levels}]}
    group.attrs.update({"ome": {"version": "0.5", **image}} if version == 3 else image)
    return path


def windows(shape: tuple[int, ...]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Boxes that cover an image, two along every axis, and meet inside a chunk."""
    sides = [max(1, 3 * size // 5) for size in shape]
    for low in itertools.product(*(range(0, size, side) for size, side in zip(shape, sides, strict=True))):
        yield np.array(low), np.minimum(np.array(low) + sides, shape)


def assembled(image: LazyImage, of_window: Callable[[np.ndarray], np.ndarray] = lambda raw: raw) -> np.ndarray:
    """The whole image from its windows."""
    parts = {tuple(low): (high, of_window(image.read(low, high))) for low, high in windows(image.shape)}
    first = next(iter(parts.values()))[1]
    out = np.empty((*image.shape, *first.shape[image.ndim :]), first.dtype)
    for low, (high, part) in parts.items():
        out[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = part
    return out


def check_volume(path: Path, how: ReadOptions = ALL) -> LazyImage:
    """Compare with :func:`read_volume`."""
    image, whole = open_image(path, 3, how), read_volume(path, how)
    raw = assembled(image)
    assert np.array_equal(raw, whole.raw) and raw.dtype == whole.raw.dtype.newbyteorder("=")
    assert (image.shape, image.spacing, image.has_unit) == (whole.raw.shape, whole.spacing, whole.has_unit)
    assert image.notes == whole.notes
    top, notes = image.top(how)
    assert top == whole.top(how) and notes == whole.top_note(how)
    np.testing.assert_allclose(assembled(image, lambda part: image.unit(part, top)), whole.unit(how), atol=1e-6)
    return image


def check_plane(path: Path, how: ReadOptions = ALL) -> LazyImage:
    """Compare with :func:`read_image`."""
    image, whole = open_image(path, 2, how), read_image(path, channels=3, how=how)
    top, notes = image.top(how)
    pixels = assembled(image, lambda part: image.unit(part, top))
    assert pixels.dtype == np.float32 and pixels.shape == whole.pixels.shape
    np.testing.assert_allclose(pixels, whole.pixels, atol=1e-6)
    assert (image.spacing, image.has_unit) == (whole.spacing, whole.has_unit)
    gray = "gray image repeated to three channels"
    assert [*image.notes, *notes] == [note for note in whole.notes if note != gray]
    return image


def refused(path: Path | str, ndim: int, how: ReadOptions = ALL) -> str:
    with pytest.raises(UserError) as caught:
        open_image(path, ndim, how)
    return one_line_naming(path, caught.value)


def unread(image: LazyImage) -> str:
    with pytest.raises(UserError) as caught:
        image.read(np.zeros(image.ndim, int), np.array(image.shape))
    return one_line_naming(image.source, caught.value)


def one_line_naming(path: Path | str, error: UserError) -> str:
    message = str(error)
    assert "\n" not in message and message.startswith(str(path)) and "; " in message
    return message


# --- volumes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_ome_zarr_volume(tmp_path: Path, version: int, dtype: type) -> None:
    image = check_volume(write_zarr(tmp_path / "a.zarr", volume(dtype=dtype), "zyx", version))
    assert image.spacing == (1.0, 0.5, 0.25) and image.has_unit and image.dtype == dtype


@pytest.mark.parametrize("version", [2, 3])
def test_channels_and_time_points_of_an_ome_zarr(tmp_path: Path, version: int) -> None:
    path = write_zarr(tmp_path / "c.zarr", volume(3), "czyx", version)
    check_volume(path, ReadOptions(channel=(2,)))
    assert "has 3 channels; choose one with --channel" in refused(path, 3)
    assert "no channel 4" in refused(path, 3, ReadOptions(channel=(4,)))
    assert "no channel 0" in refused(path, 3, ReadOptions(channel=(0,)))
    path = write_zarr(tmp_path / "t.zarr", volume(2, 3), "tczyx", version)
    check_volume(path, ReadOptions(channel=(3,), timepoint=2))
    assert "has 2 time points; choose one with --timepoint" in refused(path, 3, ReadOptions(channel=(3,)))
    assert "no number 3" in refused(path, 3, ReadOptions(channel=(3,), timepoint=3))
    assert "no number 0" in refused(path, 3, ReadOptions(channel=(3,), timepoint=0))
    assert "has 3 channels" in refused(path, 3, ReadOptions(timepoint=1))
    check_volume(write_zarr(tmp_path / "s.zarr", volume(1, 1), "tczyx", version))


def test_what_an_image_does_not_have_cannot_be_chosen(tmp_path: Path) -> None:
    for path, ndim in [
        (write_zarr(tmp_path / "a.zarr", volume(), "zyx"), 3),
        (write(tmp_path / "a.tif", volume(), compression="zlib"), 3),
        (write(tmp_path / "b.tif", plane()), 2),
    ]:
        assert "has 1 channel, so there is no channel 2" in refused(path, ndim, ReadOptions(channel=(2,)))
        assert "has one time point" in refused(path, ndim, ReadOptions(timepoint=2))
        assert open_image(path, ndim, ReadOptions(channel=(1,), timepoint=1)).ndim == ndim


def test_a_plain_zarr_array_with_any_name(tmp_path: Path) -> None:
    for version, name in itertools.product((2, 3), ("a.zarr", "a")):
        array = zarr.create_array(str(tmp_path / name), shape=VOLUME, chunks=(4, 8, 8), dtype="u2", zarr_format=version)
        array[:] = volume(dtype=np.uint16)
        assert np.array_equal(assembled(open_image(tmp_path / name, 3)), volume(dtype=np.uint16))
        if name == "a.zarr":
            check_volume(tmp_path / name)
        array.store.close()
        (tmp_path / name).rename(tmp_path / f"old {version} {name}")
    deep = zarr.create_array(str(tmp_path / "d.zarr"), shape=(1,) * 6, dtype="u1")
    assert "has 6 axes" in refused(tmp_path / "d.zarr", 3) and deep.ndim == 6


def test_the_level_of_an_ome_zarr_and_an_image_in_a_group(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", volume(), "zyx")
    assert np.array_equal(assembled(open_image(path / "0", 3)), volume())
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    group.attrs["bioformats2raw.layout"] = 3
    write_zarr(tmp_path / "g.zarr" / "0", volume(), "zyx")
    assert "is a group without an image of its own; give one in it, such as" in refused(tmp_path / "g.zarr", 3)
    assert np.array_equal(assembled(open_image(tmp_path / "g.zarr" / "0", 3)), volume())


def test_a_coarser_level_is_read(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    for number, array in enumerate((volume(2), volume(2)[..., ::2, ::2, ::2])):
        group.create_array(str(number), shape=array.shape, dtype="u1")[:] = array
    datasets = [{"path": "0"}, {"path": "1"}]
    group.attrs["ome"] = {"multiscales": [{"axes": [{"name": name} for name in "czyx"], "datasets": datasets}]}
    image = open_image(tmp_path / "a.zarr", 3, ReadOptions(channel=(2,)))
    assert image.shape_of(1) == (3, 10, 12) and image.spacing is None
    assert np.array_equal(image.read((1, 2, 3), (3, 9, 12), level=1), volume(2)[1, 2:6:2, 4:18:2, 6:24:2])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True, "rowsperstrip": 7},
        TILED,
        {"imagej": True, "resolution": (4, 2), "metadata": {"spacing": 2.0, "unit": "um", "axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}},
        {"ome": True, "compression": "lzw", "metadata": {"axes": "ZYX"}},
        {"metadata": None, "contiguous": False},
        {"metadata": None, "compression": "zlib"},
        {"byteorder": ">", "compression": "zlib"},
        {"bigtiff": True},
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_multi_page_tiffs(tmp_path: Path, options: dict, dtype: type) -> None:
    check_volume(write(tmp_path / "a.tif", volume(dtype=dtype), **options))


def test_tiff_written_page_by_page(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for each in volume():
            tiff.write(each, contiguous=False, metadata=None, photometric="minisblack", compression="zlib")
    check_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("ome", [False, True])
def test_channels_and_time_points_of_a_tiff(tmp_path: Path, ome: bool) -> None:
    kind = {"ome": True, "compression": "zlib"} if ome else {"imagej": True}
    names = {"Channel": {"Name": ["DAPI", "GFP", "RFP"]}} if ome else {}
    array = volume(2, 3).transpose(0, 2, 1, 3, 4)
    path = write(tmp_path / "a.tif", array, metadata={"axes": "TZCYX", **names}, **kind)
    for channel, timepoint in itertools.product((1, 3), (1, 2)):
        check_volume(path, ReadOptions(channel=(channel,), timepoint=timepoint))
    assert "has 2 time points; choose one with --timepoint" in refused(path, 3, ReadOptions(channel=(1,)))
    message = refused(path, 3, ReadOptions(timepoint=1))
    assert ("3 channels (1 DAPI, 2 GFP, 3 RFP)" if ome else "3 channels") in message and "--channel" in message
    assert "no channel 4" in refused(path, 3, ReadOptions(timepoint=1, channel=(4,)))
    assert "choose one with --channel" in refused(path, 3, ReadOptions(timepoint=1, channel=(1, 2, 3)))


@pytest.mark.parametrize("axes", ["TYX", "CYX"])
def test_stacks_saved_as_a_series_or_as_channels(tmp_path: Path, axes: str) -> None:
    path = write(tmp_path / "a.ome.tif", volume(), metadata={"axes": axes})
    image = check_volume(path)
    assert "read as slices" in image.notes[0]
    assert open_image(path, 2, ReadOptions(timepoint=2) if axes == "TYX" else ReadOptions(channel=(2,))).shape == (
        20,
        24,
    )


def test_a_folder_of_slices_in_natural_order(tmp_path: Path) -> None:
    plain = check_volume(write_slices(tmp_path / "a", volume()))  # z10 comes after z9
    assert plain.notes == ("6 slices, z8.tif to z13.tif",)
    check_volume(write_slices(tmp_path / "b", volume(dtype=np.uint16), **TILED))
    check_volume(write_slices(tmp_path / "c", volume()[:1]))
    colours = np.moveaxis(volume(3), 0, -1)
    check_volume(write_slices(tmp_path / "d", colours), ReadOptions(channel=(2,)))
    assert "has 3 channels; choose one with --channel" in refused(tmp_path / "d", 3)


def test_slices_that_do_not_fit(tmp_path: Path) -> None:
    folder = write_slices(tmp_path / "a", volume())
    write(folder / "z10.tif", volume()[2].T)  # as many pixels, in another order
    image = open_image(folder, 3)
    assert np.array_equal(image.read((0, 0, 0), (2, 20, 24)), volume()[:2])
    with pytest.raises(UserError, match=r"z10.tif: is 24 x 20 .*, z8.tif is 20 x 24 .*; slices must be equal$"):
        image.read((1, 0, 0), (4, 5, 5))
    write(folder / "z10.tif", volume(dtype=np.int8)[2])
    with pytest.raises(UserError, match=r"z10.tif: is .*int8.*, z8.tif is .*uint8.*; slices must be equal$"):
        image.read((1, 0, 0), (4, 5, 5))
    (folder / "z10.tif").unlink()
    assert "slice 10 is missing, after z9.tif" in refused(folder, 3)
    with pytest.raises(UserError, match=r"z10.tif: .*No such file"):
        image.read((1, 0, 0), (4, 5, 5))


def test_folders_that_are_not_slices(tmp_path: Path) -> None:
    folder = tmp_path / "png"
    folder.mkdir()
    assert "must hold TIFF slices alone" in refused(folder, 3)
    write_png(folder / "1.png", plane())
    assert "must hold TIFF slices alone" in refused(folder, 3)
    write(folder / "2.tif", plane())
    assert "must hold TIFF slices alone" in refused(folder, 3)
    (folder / "1.png").rename(folder / "1.tif")
    assert "must hold TIFF slices alone" in refused(folder, 3)
    stacks = write_slices(tmp_path / "stacks", np.stack([volume(), volume()]))
    with pytest.raises(UserError, match=r"z8.tif: is a volume, and lies in a folder of slices; take it out"):
        open_image(stacks, 3)


def test_a_volume_of_another_format_is_decoded(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(volume().T, np.diag([0.5, 0.5, 2.0, 1.0])), tmp_path / "a.nii.gz")
    check_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    "array", [volume(dtype=np.float32) / 255, volume(dtype=np.float32), volume() > 128, volume(dtype=np.int16, top=900)]
)
def test_volumes_of_other_values(tmp_path: Path, array: np.ndarray) -> None:
    check_volume(write(tmp_path / "a.tif", array.astype(array.dtype if array.dtype != np.float64 else np.float32)))


@pytest.mark.parametrize("how", [ReadOptions(white=99), ReadOptions(bright=0.9), ReadOptions(white=50, bright=0.9)])
@pytest.mark.parametrize("top", [4000, 60_000])
def test_brightness_of_a_volume(tmp_path: Path, how: ReadOptions, top: int) -> None:
    check_volume(write(tmp_path / "a.tif", volume(dtype=np.uint16, top=top)), how)


# --- planes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
@pytest.mark.parametrize(
    "options",
    [{}, {"rowsperstrip": 7}, {"compression": "lzw", "rowsperstrip": 7}, TILED, {"tile": (16, 32)}, {"byteorder": ">"}],
)
def test_gray_rgb_and_rgba_tiffs(tmp_path: Path, channels: tuple[int, ...], options: dict) -> None:
    extra = {"extrasamples": ["unassalpha"]} if channels == (4,) else {}
    check_plane(write(tmp_path / "a.tif", plane(*channels), **options, **extra))


@pytest.mark.parametrize("options", [{}, TILED])
def test_planar_colours_and_alpha_of_gray(tmp_path: Path, options: dict) -> None:
    planar = {"photometric": "rgb", "planarconfig": "separate"}
    check_plane(write(tmp_path / "a.tif", np.moveaxis(plane(3), -1, 0), **planar, **options))
    alpha = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    check_plane(write(tmp_path / "b.tif", plane(2), **alpha, **options))


def test_jpeg_tiles(tmp_path: Path) -> None:
    smooth = np.stack([np.add.outer(np.arange(64), np.arange(96)) + shift for shift in (0, 40, 80)], axis=-1)
    options = {"tile": (32, 32), "compression": "jpeg", "photometric": "rgb"}
    check_plane(write(tmp_path / "a.tif", smooth.astype(np.uint8), **options))


@pytest.mark.parametrize("name", ["g.png", "c.png", "a.png", "c.jpg", "p.gif", "c.bmp", "png.tif", "tif.png"])
def test_planes_of_other_formats_and_with_wrong_suffixes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "tif.png":
        write(path, plane(3), **TILED, photometric="rgb")
    elif name == "p.gif":
        PillowImage.fromarray(plane(3)).quantize(9).save(path)
    else:
        form = {"g": plane(), "a": plane(4)}.get(name[0], plane(3))
        PillowImage.fromarray(form).save(path, format="PNG" if name == "png.tif" else None)
    check_plane(path)


def test_a_channel_of_a_plane_is_chosen(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", plane(3), **TILED)
    write_png(tmp_path / "a.png", plane(3))
    for name, channel in itertools.product(("a.tif", "a.png"), ((2,), (3, 1, 2), (3, 3, 3))):
        check_plane(tmp_path / name, ReadOptions(channel=channel))
        assert "no channel 4" in refused(tmp_path / name, 2, ReadOptions(channel=(4,)))


@pytest.mark.parametrize("kind", ["imagej", "ome", "zarr"])
def test_channels_of_a_microscope_are_not_colours(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("a.zarr" if kind == "zarr" else "a.tif")

    def make(count: int) -> Path:
        array = np.moveaxis(plane(count), -1, 0)
        if kind == "zarr":
            write_zarr(path, array, "cyx")
        else:
            write(path, array, metadata={"axes": "CYX"}, photometric="minisblack", **{kind: True})
        return path

    for count in (2, 4, 5):
        message = refused(make(count), 2)
        assert f"has {count} channels; choose one with --channel, or three as red, green and blue" in message
        image = open_image(path, 2, ReadOptions(channel=(2,)))
        assert np.array_equal(assembled(image), plane(count)[..., 1])
    image = open_image(make(3), 2)
    assert np.array_equal(assembled(image), plane(3)) and "taken as red, green and blue" in image.notes[-1]
    if kind != "zarr":
        check_plane(path)
        check_plane(path, ReadOptions(channel=(3, 2, 1)))


def test_a_plane_of_an_ome_zarr(tmp_path: Path) -> None:
    image = open_image(write_zarr(tmp_path / "a.zarr", plane()[None, None, None], "tczyx"), 2)
    assert np.array_equal(assembled(image), plane()) and image.spacing == (0.5, 0.25)
    image = open_image(
        write_zarr(tmp_path / "b.zarr", np.stack([plane(), plane().max() - plane()]), "tyx"),
        2,
        ReadOptions(timepoint=2),
    )
    assert np.array_equal(assembled(image), plane().max() - plane())
    assert "has 2 time points; choose one with --timepoint" in refused(tmp_path / "b.zarr", 2)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("options", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}])
def test_bands_of_a_geotiff(tmp_path: Path, interleave: str, options: dict) -> None:
    def make(*colours: str) -> Path:
        rasterio = pytest.importorskip("rasterio")
        form = {"height": 40, "width": 56, "count": len(colours), "dtype": "uint8", "crs": "EPSG:32633"}
        form |= {"transform": rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5e6), "interleave": interleave}
        with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **form, **options) as image:
            image.write(np.moveaxis(plane(len(colours)), -1, 0))
            image.colorinterp = [rasterio.enums.ColorInterp[name] for name in colours]
        return tmp_path / "a.tif"

    image = check_plane(make("blue", "green", "red", "undefined"))
    assert np.array_equal(assembled(image), plane(4)[..., [2, 1, 0]])
    assert image.notes == ("bands 3, 2, 1 taken as red, green and blue",)
    check_plane(tmp_path / "a.tif", ReadOptions(channel=(4,)))
    check_plane(tmp_path / "a.tif", ReadOptions(channel=(4, 3, 1)))
    check_plane(make("red", "green", "blue"))
    check_plane(make("gray"))
    for count in (4, 5):
        message = refused(make(*["undefined"] * count), 2)
        assert f"{count} bands of which none is said to be red, green or blue; choose one with --channel" in message
    check_plane(tmp_path / "a.tif", ReadOptions(channel=(5, 3, 2)))


VALUES = {
    "16 bits": plane(dtype=np.uint16, top=60_000),
    "12 bits": plane(dtype=np.uint16, top=4096),
    "colours of 16 bits": plane(3, dtype=np.uint16, top=4096),
    "unit": plane(dtype=np.float32) / np.float32(255),
    "unit colours": plane(3, dtype=np.float32) / np.float32(255),
    "float bytes": plane(dtype=np.float32),
    "int16 bytes": plane(dtype=np.int16),
    "bool": plane() > 128,
    "two values": np.where(plane() > 250, np.uint8(200), np.uint8(0)),
    "two bright values": np.where(plane() > 250, np.uint16(1000), np.uint16(0)),
    "black": plane() * np.uint8(0),
    "black floats": plane(dtype=np.float32) * np.float32(0),
}


@pytest.mark.parametrize("how", [ALL, ReadOptions(white=99.9), ReadOptions(white=60), ReadOptions(bright=0.8)])
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_values_of_a_plane(tmp_path: Path, values: np.ndarray, how: ReadOptions) -> None:
    check_plane(write(tmp_path / "a.tif", values), how)


def test_values_by_type_are_those_of_the_whole_to_the_last_bit(tmp_path: Path) -> None:
    for values in (plane(), plane(dtype=np.uint16, top=65_536), plane(dtype=np.float32) / np.float32(255)):
        image = open_image(write(tmp_path / "a.tif", values), 2)
        top, _ = image.top(ALL)
        assert top == {"uint8": 255, "uint16": 65535}.get(values.dtype.name, 1)
        pixels = image.unit(image.read((0, 0), PLANE), top)
        assert np.array_equal(pixels, read_image(tmp_path / "a.tif", channels=3).pixels)


def test_values_of_no_known_range_need_a_white_point(tmp_path: Path) -> None:
    for values in (plane(dtype=np.float32) * 40, plane(dtype=np.int16) - np.int16(9), plane(dtype=np.float32) * -1):
        image = open_image(write(tmp_path / "a.tif", values), 2)
        with pytest.raises(UserError, match=r"a.tif: (float32|int16) values .* to .*; give --white, or save it with"):
            image.top(ALL)
        if values.max() > 0:
            check_plane(tmp_path / "a.tif", ReadOptions(white=99))
        else:
            with pytest.raises(UserError, match="give --white, or save it with 8 or 16 bits"):
                image.top(ReadOptions(white=99))


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    holes = plane(dtype=np.float32) / 255
    holes[30, 40] = np.nan
    image = open_image(write(tmp_path / "a.tif", holes.astype(np.float32), **TILED), 2)
    assert image.read((0, 0), (16, 16)).shape == (16, 16)
    assert "1 values are NaN or infinite" in unread(image)
    with pytest.raises(UserError, match="1 values are NaN or infinite"):
        image.top(ALL)
    path = write(tmp_path / "c.tif", plane().astype(np.complex64))
    assert "has no pixels (complex64" in refused(path, 2)


# --- windows ----------------------------------------------------------------------------------------------------


def test_the_sample_of_a_large_image_is_spread_over_it(tmp_path: Path) -> None:
    class Ramp:
        """A very large image whose values are its rows."""

        shape, dtype, read = (100_000, 90_000), np.dtype(np.uint32), 0

        def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
            rows, columns = (np.arange(each.start, each.stop, dtype=np.uint32) for each in index)
            self.read += rows.size * columns.size
            return np.broadcast_to(rows[:, None], (rows.size, columns.size))

    ramp = Ramp()
    sample = LazyImage("ramp", [ramp], "YX", {}, 2).sample()
    assert sample.shape == (64, 256, 256) and ramp.read == sample.size
    assert sample.min() == 0 and sample.max() == 99_999
    assert abs(np.median(sample) / 50_000 - 1) < 0.1


@pytest.mark.parametrize("shape", [(300, 40), (40, 600, 3)])
def test_the_sample_of_a_plane_has_windows_of_one_size(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    sample = open_image(write(tmp_path / "a.tif", array, **TILED), 2).sample()
    side = tuple(min(256, size) for size in shape[:2])
    assert sample.shape == (-(-max(shape) // 256), *side, *shape[2:])
    assert np.array_equal(sample[0], array[: side[0], : side[1]])
    assert np.array_equal(sample[-1], array[-side[0] :, -side[1] :])


@pytest.mark.parametrize("kind", ["tiles", "strips"])
def test_a_window_of_a_tiff_decodes_its_tiles_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    array = np.random.default_rng(0).integers(0, 255, (256, 512), dtype=np.uint8)
    form = {"tile": (32, 32)} if kind == "tiles" else {"rowsperstrip": 16}
    image = open_image(write(tmp_path / "a.tif", array, compression="zlib", **form), 2)
    read, reads = tifffile.tifffile.FileCache.read, []
    monkeypatch.setattr(
        tifffile.tifffile.FileCache,
        "read",
        lambda self, file, offset, count: reads.append(offset) or read(self, file, offset, count),
    )
    assert np.array_equal(image.read((40, 70), (60, 120)), array[40:60, 70:120])
    assert len(reads) == 2  # of 128 tiles, or of 16 strips


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"imagej": True}, {"compression": "zlib"}])
def test_an_uncompressed_tiff_is_mapped_and_what_is_read_is_a_copy(
    tmp_path: Path, byteorder: str, options: dict
) -> None:
    array = volume(dtype=np.uint16, top=60_000)
    image = open_image(write(tmp_path / "a.tif", array, byteorder=byteorder, **options), 3)
    assert isinstance(image.levels[0], np.memmap) != ("compression" in options)
    part = image.read((0, 0, 0), (2, 3, 4))
    part[:] = 7
    assert part.dtype.isnative and np.array_equal(assembled(image), array)
    image = open_image(write_slices(tmp_path / "slices", array, byteorder=byteorder), 3)
    assert np.array_equal(assembled(image), array)


def test_a_page_of_a_folder_is_read_only_where_it_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, opened = open_image(write_slices(tmp_path / "a", volume(), **TILED), 3), []
    head = lazy._head
    monkeypatch.setattr(lazy, "_head", lambda path: opened.append(path.name) or head(path))
    image.read((2, 0, 0), (4, 5, 5))
    assert opened == ["z10.tif", "z11.tif"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files of Linux")
@pytest.mark.parametrize("name", ["tiled.tif", "mapped.tif", "slices"])
def test_no_file_stays_open(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "slices":
        write_slices(path, volume(), **TILED)
    else:
        write(path, volume(), **(TILED if name == "tiled.tif" else {}))

    def files() -> int:
        return sum(
            os.path.realpath(f"/proc/self/fd/{each}").startswith(str(path)) for each in os.listdir("/proc/self/fd")
        )

    gc.disable()
    try:
        for _ in range(8):
            image = open_image(path, 3)
            image.read((0, 0, 0), (2, 3, 4))
            assert files() <= 1
            del image
            assert files() == 0
        write(tmp_path / "p.tif", plane(), photometric="palette", colormap=np.zeros((3, 256), np.uint16))
        for _ in range(8):
            refused(tmp_path / "p.tif", 2)
        assert files() == 0
    finally:
        gc.enable()


# --- addresses --------------------------------------------------------------------------------------------------


class _Quiet(SimpleHTTPRequestHandler):
    """Files of a folder; those named ``forbidden`` are refused."""

    def do_GET(self) -> None:
        if "forbidden" in self.path:
            self.send_error(403)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Address at which the folder of a test is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("as_path", [False, True])
@pytest.mark.parametrize("version", [2, 3])
def test_an_image_at_a_web_address(tmp_path: Path, served: str, version: int, as_path: bool) -> None:
    pytest.importorskip("aiohttp")
    write_zarr(tmp_path / "a.ome.zarr", volume(2), "czyx", version)
    address = f"{served}/a.ome.zarr"
    image = open_image(Path(address) if as_path else address, 3, ReadOptions(channel=(2,)))
    assert image.source == address and image.spacing == (1.0, 0.5, 0.25)
    assert np.array_equal(assembled(image), volume(2)[1])
    whole = open_image(f"{address}/0", 3, ReadOptions(channel=(1,)))
    assert np.array_equal(assembled(whole), volume(2)[0])


def test_web_addresses_that_cannot_be_read(tmp_path: Path, served: str) -> None:
    pytest.importorskip("aiohttp")
    for as_path in (False, True):
        address = f"{served}/missing.zarr"
        with pytest.raises(UserError) as caught:
            open_image(Path(address) if as_path else address, 3)
        assert "no Zarr image there" in one_line_naming(address, caught.value)
    write_zarr(tmp_path / "forbidden.zarr", volume(), "zyx")
    assert "cannot be read (403" in refused(f"{served}/forbidden.zarr", 3)
    write_zarr(tmp_path / "a.zarr", volume(), "zyx", chunk=8)
    image = open_image(f"{served}/a.zarr", 3)
    first = tmp_path / "a.zarr" / "0" / "c" / "0" / "0" / "0"
    first.write_bytes(first.read_bytes()[:20])
    assert "cannot be read" in unread(image)
    assert np.array_equal(image.read((0, 8, 8), (6, 16, 16)), volume()[:, 8:16, 8:16])
    nowhere = "http://127.0.0.1:9/a.zarr"
    assert "cannot be read (Cannot connect" in refused(nowhere, 3)


@pytest.mark.parametrize("as_path", [False, True])
def test_an_image_in_the_memory_of_fsspec(as_path: bool) -> None:
    fsspec = pytest.importorskip("fsspec")
    address = "memory://netracer-tests/a.zarr"
    write_zarr(address, volume(), "zyx", chunk=8)
    image = open_image(Path(address) if as_path else address, 3)
    assert image.source == address and np.array_equal(assembled(image), volume())
    fsspec.filesystem("memory").pipe("netracer-tests/a.zarr/0/c/0/1/1", b"broken")
    assert "cannot be read" in unread(image)
    fsspec.filesystem("memory").rm("netracer-tests/a.zarr/0/c/0/1/1")
    filled = volume()
    filled[:, 8:16, 8:16] = 0
    assert np.array_equal(assembled(image), filled)
    fsspec.filesystem("memory").rm("netracer-tests", recursive=True)
    assert "no Zarr image there" in refused(address, 3)


@pytest.mark.parametrize("address", ["file://{}", "simplecache::file://{}"])
def test_the_address_of_a_file(tmp_path: Path, address: str) -> None:
    pytest.importorskip("fsspec")
    write_zarr(tmp_path / "a.zarr", volume(), "zyx")
    for given in (address.format(tmp_path / "a.zarr"), Path(address.format(tmp_path / "a.zarr"))):
        assert np.array_equal(assembled(open_image(given, 3)), volume())


def test_addresses_that_need_another_package() -> None:
    pytest.importorskip("fsspec")
    assert "Protocol not known: teleport" in refused("teleport://a/b.zarr", 3)
    try:
        import s3fs  # noqa: F401
    except ImportError:
        assert "reading it needs the package s3fs, which is not installed" in refused("s3://a/b.zarr", 3)


# --- refusals ---------------------------------------------------------------------------------------------------


def test_a_missing_path(tmp_path: Path) -> None:
    for name, ndim in itertools.product(("a.tif", "a.zarr", "a", "a.png", "a.nii"), (2, 3)):
        assert refused(tmp_path / name, ndim) == f"{tmp_path / name}: no such file; check the path"
    for name in ("b.zarr", "c.ome.zarr"):
        (tmp_path / name).mkdir()
        assert "no Zarr image there" in refused(tmp_path / name, 3)


def test_volumes_where_a_plane_is_wanted_and_planes_where_a_volume_is(tmp_path: Path) -> None:
    for path in (
        write(tmp_path / "v.tif", volume()),
        write(tmp_path / "w.tif", volume(), metadata=None, compression="zlib"),
        write_zarr(tmp_path / "v.zarr", volume(), "zyx"),
        write_slices(tmp_path / "slices", volume()),
    ):
        assert "(6 x 20 x 24), a 2D image is wanted; give one plane, or use the 3D script" in refused(path, 2)
    for path in (
        write(tmp_path / "p.tif", plane()),
        write(tmp_path / "c.tif", plane(3), **TILED),
        write_zarr(tmp_path / "p.zarr", plane(), "yx"),
    ):
        assert "a volume is wanted; give a stack, or use the 2D script" in refused(path, 3)
    write_png(tmp_path / "p.png", plane())
    assert "a volume is wanted" in refused(tmp_path / "p.png", 3)


def test_axes_in_another_order(tmp_path: Path) -> None:
    turned = np.random.default_rng(0).integers(0, 9, (64, 60, 12), dtype=np.uint8)
    for path in (write(tmp_path / "a.tif", turned), write_zarr(tmp_path / "a.zarr", turned, "zyx")):
        assert "its axes seem to be in the order x, y, z: save it with z first" in refused(path, 3)
    assert "has the axes xyz" in refused(write_zarr(tmp_path / "b.zarr", volume(), "xyz"), 3)
    rgb = np.moveaxis(volume(2, 3), 1, -1)
    both = write(tmp_path / "b.ome.tif", rgb, photometric="rgb", metadata={"axes": "CZYXS"})
    assert "has the axes czyxc" in refused(both, 3)


def test_colours_that_are_not_stored_as_they_are_shown(tmp_path: Path) -> None:
    PillowImage.fromarray(plane(3)).quantize(9).save(tmp_path / "a.tif")
    assert "has a palette" in refused(tmp_path / "a.tif", 2)
    assert "white is zero" in refused(write(tmp_path / "b.tif", plane(), photometric="miniswhite"), 2)
    assert "CMYK" in refused(write(tmp_path / "c.tif", plane(4), photometric="separated"), 2)
    turned = write(tmp_path / "d.tif", plane(), extratags=[(274, "H", 1, 6, True)])
    assert "is turned, as its orientation flag says" in refused(turned, 2)
    upright = write(tmp_path / "e.tif", plane(), extratags=[(274, "H", 1, 1, True)])
    check_plane(upright)


def test_the_first_of_several_images_is_taken(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(plane(3), photometric="rgb", **TILED)
        writer.write(plane()[:9], photometric="minisblack")
    assert check_plane(tmp_path / "a.tif").notes == ("image 1 of 2 in the file taken",)


def test_an_array_of_floats_whose_last_axis_is_colours(tmp_path: Path) -> None:
    check_plane(write(tmp_path / "a.tif", plane(3) / np.float32(255), photometric="minisblack"))
    compressed = {"photometric": "minisblack", "compression": "zlib"}
    check_plane(write(tmp_path / "b.tif", plane(4) / np.float32(255), **compressed))


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"metadata": None, "contiguous": False}, {"ome": True}, TILED]
)
def test_truncated_tiffs(tmp_path: Path, options: dict) -> None:
    array = np.random.default_rng(0).integers(0, 255, (8, 64, 64), dtype=np.uint8)
    path = write(tmp_path / "a.tif", array, **options)
    path.write_bytes(path.read_bytes()[: 8 * 64 * 64 // 2])
    try:
        image = open_image(path, 3)
    except UserError as error:
        assert "not complete" in one_line_naming(path, error)
    else:
        assert "not complete" in unread(image)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "lzw"}, {"compression": "jpeg"}])
def test_tiles_that_are_cut_off_or_corrupt(tmp_path: Path, options: dict) -> None:
    array = np.random.default_rng(0).integers(0, 255, (64, 96), dtype=np.uint8)
    path = write(tmp_path / "a.tif", array, tile=(16, 16), **options)
    whole = path.read_bytes()
    path.write_bytes(whole[:-600])
    image = open_image(path, 2)
    assert image.read((0, 0), (16, 16)).shape == (16, 16)
    assert "not complete" in unread(image)
    if options:
        with tifffile.TiffFile(path) as tiff:
            offset = tiff.pages.first.dataoffsets[3]
        path.write_bytes(whole[:offset] + b"\xff" * 200 + whole[offset + 200 :])
        assert "not complete" in unread(open_image(path, 2))


def test_a_list_of_pages_that_leads_back_to_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", plane(), metadata=None)
    with tifffile.TiffFile(path) as tiff:
        first, tags = tiff.pages.first.offset, len(tiff.pages.first.tags)
    data = bytearray(path.read_bytes())
    at = first + 2 + tags * 12
    data[at : at + 4] = first.to_bytes(4, "little")
    path.write_bytes(data)
    assert "its list of pages leads back to its beginning" in refused(path, 3)


def test_broken_files(tmp_path: Path) -> None:
    for name, ndim in itertools.product(("a.tif", "a.png"), (2, 3)):
        (tmp_path / name).write_bytes(b"not an image")
        refused(tmp_path / name, ndim)
    (tmp_path / "b.tif").write_bytes(b"II*\0" + b"\xff" * 40)
    refused(tmp_path / "b.tif", 2)


@pytest.mark.parametrize("version", [2, 3])
def test_corrupt_chunks_are_refused_and_missing_ones_are_zero(tmp_path: Path, version: int) -> None:
    path = write_zarr(tmp_path / "a.zarr", volume(), "zyx", version, chunk=8)
    chunk = path / "0" / ("c/0/1/1" if version == 3 else "0.1.1")
    stored = chunk.read_bytes()
    image = open_image(path, 3)
    for bad in (b"", b"broken", stored[: len(stored) // 2]):
        chunk.write_bytes(bad)
        assert "broken or not complete" in unread(image)
    assert np.array_equal(image.read((0, 0, 0), (6, 8, 24)), volume()[:, :8])
    chunk.unlink()
    filled = volume()
    filled[:, 8:16, 8:16] = 0
    assert np.array_equal(assembled(image), filled)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_folders_that_are_broken(tmp_path: Path, version: int) -> None:
    path = write_zarr(tmp_path / "a.zarr", volume(), "zyx", version)
    level = path / "0" / ("zarr.json" if version == 3 else ".zarray")
    level.write_text("{")
    assert "broken or not complete" in refused(path, 3)
    level.unlink()
    assert "broken or not complete" in refused(path, 3)


@pytest.mark.parametrize("name", ["a.zarr", "tiled.tif", "slices", "memory://a.zarr"])
def test_the_package_zarr_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = name if "://" in name else tmp_path / name
    if name == "a.zarr":
        write_zarr(path, volume(), "zyx")
    elif name == "tiled.tif":
        write(path, volume(), **TILED)
    elif name == "slices":
        write_slices(path, volume())
        write(path / "z8.tif", volume()[0], **TILED)
    monkeypatch.setitem(sys.modules, "zarr", None)
    if name == "slices":
        # Slices that are not compressed do not need it.
        image = open_image(path, 3)
        assert np.array_equal(image.read((1, 0, 0), VOLUME), volume()[1:])
        with pytest.raises(UserError, match=r"z8.tif: .* needs the package zarr, which is not installed"):
            image.read((0, 0, 0), VOLUME)
    else:
        message = refused(path, 3)
        assert re.search(r"reading it (by windows )?needs the package zarr, which is not installed; ", message)
        assert "run `pip install zarr`" in message
    write(tmp_path / "b.tif", volume())
    check_volume(tmp_path / "b.tif")


def test_the_size_of_an_image_is_known_without_decoding_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nibabel = pytest.importorskip("nibabel")
    write_png(tmp_path / "a.png", np.zeros((20, 30, 3), np.uint8))
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    monkeypatch.setattr(lazy, "decode", None)
    monkeypatch.setattr(lazy, "read_volume", None)
    assert lazy.shape_of(tmp_path / "a.png", 2) == (20, 30)
    assert lazy.shape_of(tmp_path / "a.nii.gz", 3) == (7, 6, 5)
    with pytest.raises(UserError):
        lazy.shape_of(tmp_path / "none.png", 2)
