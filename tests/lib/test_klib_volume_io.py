"""Volumes: file formats, spacing, the square-root curve, and files that are refused."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from lib.errors import UserError
from lib.klib.decoded import ReadOptions
from lib.klib.image_io import image_files, read_image, stem, volume_files, write_png
from lib.klib.volume_io import Volume, read_volume, volume_from_array, volume_spacing

SHAPE = (6, 8, 10)


def voxels(dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)


def write(path: Path, array: np.ndarray, **options: object) -> Path:
    tifffile.imwrite(path, array, **({"photometric": "minisblack"} | options))
    return path


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"imagej": True}, {"ome": True}, {"metadata": None, "contiguous": False}]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiffs_of_many_kinds(tmp_path: Path, options: dict, dtype: type) -> None:
    path = write(tmp_path / "a.tif", voxels(dtype), **options)
    assert np.array_equal(read_volume(path).raw, voxels(dtype))


def test_tiff_written_page_by_page(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for plane in voxels():
            tiff.write(plane, contiguous=False, metadata=None, photometric="minisblack")
    assert np.array_equal(read_volume(tmp_path / "a.tif").raw, voxels())


def is_mapped(array: object) -> bool:
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


def test_uncompressed_tiffs_are_mapped_and_compressed_ones_read(tmp_path: Path) -> None:
    mapped = read_volume(write(tmp_path / "a.tif", voxels())).raw
    assert is_mapped(mapped) and not mapped.flags.writeable
    assert not is_mapped(read_volume(write(tmp_path / "b.tif", voxels(), compression="zlib")).raw)


def test_spacing_from_metadata(tmp_path: Path) -> None:
    imagej = {"spacing": 2.0, "unit": "um", "axes": "ZYX"}
    ome = {"PhysicalSizeX": 350.0, "PhysicalSizeY": 350.0, "PhysicalSizeZ": 1000.0, "axes": "ZYX"}
    nm = {f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"}
    path = write(tmp_path / "i.tif", voxels(), imagej=True, resolution=(1 / 0.5, 1 / 0.4), metadata=imagej)
    assert volume_spacing(path) == pytest.approx((2.0, 0.4, 0.5))
    path = write(tmp_path / "o.ome.tif", voxels(), metadata=ome | nm)
    assert volume_spacing(path) == pytest.approx((1.0, 0.35, 0.35))
    assert read_volume(path).has_unit
    unknown = imagej | {"unit": "pixel"}
    path = write(tmp_path / "u.tif", voxels(), imagej=True, resolution=(1 / 0.5, 1 / 0.4), metadata=unknown)
    assert volume_spacing(path) == pytest.approx((2.0, 0.4, 0.5)) and not read_volume(path).has_unit
    # A resolution alone says nothing about the distance of the slices.
    assert volume_spacing(write(tmp_path / "p.tif", voxels(), resolution=(72, 72))) is None


def test_curve_of_the_paper() -> None:
    raw = np.array([0, 1, 100, 65025, 65535], np.uint16).reshape(1, 1, 5)
    np.testing.assert_allclose(Volume(raw).unit().ravel(), [0, 1 / 255, 10 / 255, 1, 1], atol=1e-6)
    eight = np.array([0, 1, 64, 255], np.uint8).reshape(1, 1, 4)
    np.testing.assert_allclose(Volume(eight).unit().ravel(), np.sqrt([0, 1 / 255, 64 / 255, 1]), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int16])
def test_bytes_are_the_rounded_curve(dtype: type) -> None:
    volume = Volume(voxels(dtype))
    assert volume.as_bytes().dtype == np.uint8
    np.testing.assert_array_equal(volume.as_bytes(), np.rint(volume.unit() * 255))


def test_white_point_removes_a_difference_in_brightness() -> None:
    bright = np.random.default_rng(1).integers(0, 4000, (8, 40, 40)).astype(np.uint16)
    dim = (bright // 4).astype(np.uint16)
    assert np.abs(Volume(bright).unit() - Volume(dim).unit()).mean() > 0.05
    assert np.abs(Volume(bright).unit(ReadOptions(white=99)) - Volume(dim).unit(ReadOptions(white=99))).mean() < 0.005


def test_12_bits_are_brought_to_what_the_weights_know() -> None:
    """The brightness of the 16-bit volume, and with it every value on the curve."""
    bright = np.random.default_rng(1).integers(0, 50_000, (8, 40, 40)).astype(np.uint16)
    known = float(np.percentile(Volume(bright).unit(), 99.99))
    twelve = Volume((bright // 16).astype(np.uint16))
    assert abs(twelve.unit(ReadOptions(bright=known)) - Volume(bright).unit()).max() < 0.02
    assert "values made 16 times brighter" in twelve.top_note(ReadOptions(bright=known))[0]
    # More than 12 bits is another picture, not another type; and 8 bits are always what they say.
    for volume in (Volume((bright // 8).astype(np.uint16)), Volume((bright // 2000).astype(np.uint8))):
        assert np.array_equal(volume.unit(ReadOptions(bright=known)), volume.unit())
        assert volume.top_note(ReadOptions(bright=known)) == ()


@pytest.mark.parametrize("ending", [".tif", ".png"])
def test_a_folder_of_slices(tmp_path: Path, ending: str) -> None:
    for number, plane in enumerate(voxels(), start=8):
        if ending == ".tif":
            write(tmp_path / f"z{number}.tif", plane)
        else:
            write_png(tmp_path / f"z{number}.png", plane)
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.raw, voxels())  # z10 comes after z9
    assert volume.notes == (f"6 slices, z8{ending} to z13{ending}",)
    assert volume_files(tmp_path) == [tmp_path]
    (tmp_path / f"z11{ending}").rename(tmp_path / f"z11{ending}.old")
    with pytest.raises(UserError, match=rf"slice 11 is missing, after z10{ending}; add it"):
        read_volume(tmp_path)


def test_folders_that_hold_volumes_or_folders_of_slices(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        for number in (1, 2, 3):
            write(tmp_path / name / f"{number}.tif", voxels()[number])
    assert volume_files(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    volume = write(tmp_path / "c.tif", voxels())
    assert volume_files(tmp_path) == [tmp_path / "a", tmp_path / "b", volume] and volume_files(volume) == [volume]
    write(tmp_path / "a" / "2.tif", voxels()[2, :4])
    with pytest.raises(UserError, match=r"2.tif: is 4 x 10, 1.tif is 8 x 10; slices must be equal"):
        read_volume(tmp_path / "a")
    write(tmp_path / "a" / "2.tif", voxels())
    with pytest.raises(UserError, match=r"2.tif: is a volume, and lies in a folder of slices"):
        read_volume(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no image in this folder"):
        volume_files(tmp_path / "empty")


def hyperstack(path: Path) -> tuple[Path, np.ndarray]:
    """Two time points, three channels."""
    array = np.random.default_rng(0).integers(0, 200, (2, *SHAPE[:1], 3, *SHAPE[1:]), dtype=np.uint8)
    if path.suffix == ".zarr":
        zarr = pytest.importorskip("zarr")
        made = zarr.open_group(str(path), mode="w")
        stored = array.transpose(0, 2, 1, 3, 4)
        made.create_array("0", shape=stored.shape, dtype="uint8")[:] = stored
        axes = [{"name": name} for name in "tczyx"]
        made.attrs.update({"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]})
    elif path.name.endswith(".ome.tif"):
        metadata = {"axes": "TZCYX", "Channel": {"Name": ["DAPI", "GFP", "RFP"]}}
        tifffile.imwrite(path, array, photometric="minisblack", metadata=metadata)
    else:
        tifffile.imwrite(path, array, imagej=True, metadata={"axes": "TZCYX"})
    return path, array


@pytest.mark.parametrize("name", ["a.ome.tif", "a.tif", "a.zarr"])
def test_channel_and_time_point_of_a_hyperstack(tmp_path: Path, name: str) -> None:
    path, array = hyperstack(tmp_path / name)
    assert "has 2 time points; choose one with --timepoint" in refused(path)
    with pytest.raises(UserError, match=r"has 3 different channels.*; choose one with --channel") as caught:
        read_volume(path, ReadOptions(timepoint=2))
    assert ("(1 DAPI, 2 GFP, 3 RFP)" in str(caught.value)) == (name == "a.ome.tif")
    volume = read_volume(path, ReadOptions(timepoint=2, channel=(3,)))
    assert np.array_equal(volume.raw, array[1, :, 2])
    assert volume.notes == ("time point 2 of 2 taken", "channel 3 of 3 taken")
    with pytest.raises(UserError, match="has 2 time points, so there is no number 3"):
        read_volume(path, ReadOptions(timepoint=3))


def test_a_time_series_of_a_nifti(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    array = np.random.default_rng(0).integers(0, 200, (2, *SHAPE)).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(array.T, np.eye(4)), tmp_path / "a.nii")
    assert "has 2 time points; choose one with --timepoint" in refused(tmp_path / "a.nii")
    assert np.array_equal(read_volume(tmp_path / "a.nii", ReadOptions(timepoint=2)).raw, array[1])


def test_a_missing_zarr_is_one_line(tmp_path: Path) -> None:
    assert volume_files(tmp_path / "a.zarr") == [tmp_path / "a.zarr"]
    assert refused(tmp_path / "a.zarr").endswith("a.zarr: no such file; check the path")


def test_equal_channels_and_slices_labelled_as_channels(tmp_path: Path) -> None:
    gray = np.repeat(voxels()[..., None], 3, axis=-1)
    assert np.array_equal(read_volume(write(tmp_path / "a.tif", gray, photometric="rgb")).raw, voxels())
    path = write(tmp_path / "c.ome.tif", voxels(), metadata={"axes": "CYX"})
    assert np.array_equal(read_volume(path).raw, voxels())


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message
    return message


def test_files_that_are_not_volumes(tmp_path: Path) -> None:
    plane = write(tmp_path / "p.tif", voxels()[0])
    assert "is a 2D image (8 x 10), a volume is wanted" in refused(plane)
    colours = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
    assert "has 3 different channels" in refused(write(tmp_path / "c.tif", colours, photometric="rgb"))
    holes = voxels(np.float32)
    holes[2, 3, 4] = np.nan
    assert "1 values are NaN" in refused(write(tmp_path / "n.tif", holes))
    assert "is empty, all its voxels are 0" in refused(write(tmp_path / "z.tif", np.zeros(SHAPE, np.uint8)))
    turned = np.random.default_rng(0).integers(0, 9, (64, 60, 12), dtype=np.uint8)
    assert "axes seem to be in the order x, y, z" in refused(write(tmp_path / "t.tif", turned))
    assert "no such file" in refused(tmp_path / "missing.tif")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"metadata": None, "contiguous": False}])
def test_truncated_tiffs(tmp_path: Path, options: dict) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (8, 64, 64), dtype=np.uint8)
    path = write(tmp_path / "a.tif", noise, **options)
    path.write_bytes(path.read_bytes()[: 8 * 64 * 64 // 2])
    assert "not complete" in refused(path)


def test_tall_volume_is_accepted(tmp_path: Path) -> None:
    tall = np.random.default_rng(0).integers(0, 9, (64, 16, 16), dtype=np.uint8)
    assert read_volume(write(tmp_path / "a.tif", tall)).raw.shape == (64, 16, 16)


def test_2d_reader_refers_volumes_to_the_3d_script(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a volume .* use the 3D script"):
        read_image(write(tmp_path / "a.tif", voxels()), channels=3)


@pytest.mark.parametrize(("name", "package"), [("a.nii.gz", "nibabel"), ("a.zarr", "zarr")])
def test_reader_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, package, None)
    assert f"run `pip install {package}`, or save the image as uncompressed TIFF" in refused(tmp_path / name)


@pytest.mark.parametrize(("name", "package"), [("a.nii.gz", "nibabel"), ("a.zarr", "zarr")])
def test_reader_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, package, type(sys)(package))
    assert "broken or not complete" in refused(tmp_path / name)


def test_arrays() -> None:
    np.testing.assert_array_equal(volume_from_array(voxels()).unit(), Volume(voxels()).unit())
    for array, message in (
        (voxels()[0], "is not a volume"),
        (np.zeros(SHAPE), "is empty"),
        (np.full(SHAPE, np.nan), "NaN"),
        (np.zeros((64, 60, 12)), "in the order x, y, z"),
    ):
        with pytest.raises(UserError, match=rf"^array: .*{message}"):
            volume_from_array(array)


class _Nifti:
    """The part of nibabel's image that is used; the volume is stored as (x, y, z)."""

    class header:
        get_zooms = staticmethod(lambda: (0.001, 0.002, 0.003))
        get_xyzt_units = staticmethod(lambda: ("mm", "sec"))

    dataobj = voxels().T


def test_nifti_axes_are_turned_to_zyx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nii").touch()
    nibabel = type(sys)("nibabel")
    nibabel.load = lambda path: _Nifti
    monkeypatch.setitem(sys.modules, "nibabel", nibabel)
    volume = read_volume(tmp_path / "a.nii")
    assert np.array_equal(volume.raw, voxels()) and volume.spacing == pytest.approx((3.0, 2.0, 1.0))


class _Group(dict):
    attrs = {  # noqa: RUF012
        "multiscales": [
            {
                "axes": [{"name": "c"}, *({"name": axis, "unit": "nanometer"} for axis in "zyx")],
                "datasets": [
                    {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1000, 350, 350]}]}
                ],
            }
        ]
    }


def test_ome_zarr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zarr").mkdir()
    zarr = type(sys)("zarr")
    zarr.open = lambda path, mode: _Group({"0": voxels()[None]})
    monkeypatch.setitem(sys.modules, "zarr", zarr)
    volume = read_volume(tmp_path / "a.zarr")
    assert np.array_equal(volume.raw, voxels()) and volume.spacing == pytest.approx((1.0, 0.35, 0.35))
    assert image_files(tmp_path) == image_files(tmp_path / "a.zarr") == [tmp_path / "a.zarr"]


@pytest.mark.parametrize("package", ["nibabel", "zarr"])
def test_installed_readers(tmp_path: Path, package: str) -> None:
    module = pytest.importorskip(package)
    if package == "nibabel":
        path = tmp_path / "a.nii.gz"
        module.save(module.Nifti1Image(voxels().T, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    else:
        path = tmp_path / "a.zarr"
        array = module.open_group(str(path), mode="w").create_array("0", shape=SHAPE, dtype="uint8")
        array[:] = voxels()
        module.open_group(str(path), mode="a").attrs.update(
            {"multiscales": [{"axes": [{"name": axis} for axis in "zyx"], "datasets": [{"path": "0"}]}]}
        )
    assert np.array_equal(read_volume(path).raw, voxels())


def test_stems() -> None:
    names = {"a.tif": "a", "a.ome.tif": "a", "a.b.tif": "a.b", "a.nii.gz": "a", "a.ome.zarr": "a", "A.TIF": "A"}
    assert {name: stem(Path(name)) for name in names} == names


@pytest.mark.parametrize("options", [{"metadata": {"axes": "ZYX"}}, {"imagej": True}])
def test_bytes_in_the_other_order_are_read_as_such(tmp_path, options):
    """Fiji writes the largest byte first."""
    values = np.arange(6 * 20 * 30, dtype=np.uint16).reshape(6, 20, 30)
    tifffile.imwrite(tmp_path / "big.tif", values, byteorder=">", **options)
    volume = read_volume(tmp_path / "big.tif")
    assert (volume.raw == values).all()
    assert volume.unit().max() == pytest.approx(np.sqrt(values.max() / 255**2), abs=1e-6)
