"""OME-Zarr written level by level and read again; addresses and paths; sizes of voxels."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from lib.errors import UserError
from lib.klib.ome_zarr import create_zarr, fill_levels, is_address, is_zarr, location, open_zarr

zarr = pytest.importorskip("zarr")


def written(path: Path, array: np.ndarray, *, chunk: int = 8, least: int = 8) -> list:
    levels = create_zarr(path, array.shape, array.dtype, (1.0, 0.5, 0.25), chunk=chunk, least=least)
    levels[0][:] = array
    fill_levels(levels)
    return levels


def noise(shape: tuple[int, ...], dtype: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, shape).astype(dtype)


def halved(array: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 x 2 voxels, computed voxel by voxel; beyond the border the last one is repeated."""
    out = np.empty([-(-size // 2) for size in array.shape])
    for place in np.ndindex(*out.shape):
        corners = itertools.product(
            *((2 * at, min(2 * at + 1, n - 1)) for at, n in zip(place, array.shape, strict=True))
        )
        out[place] = np.mean([array[corner] for corner in corners], dtype=float)
    return np.rint(out).astype(array.dtype) if array.dtype.kind in "ui" else out.astype(array.dtype)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((8, 16, 12), np.uint8), ((7, 13, 11), np.uint16), ((7, 13, 11), np.float32), ((1, 9, 18), np.int16)],
)
def test_levels_are_means_of_the_level_before(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    array = (noise(shape, np.int32) % 256 - (100 if dtype == np.int16 else 0)).astype(dtype)
    levels = written(tmp_path / "a.zarr", array, chunk=4, least=4)
    assert max(levels[-1].shape) <= 4 and all(level.dtype == dtype for level in levels)
    for number, level in enumerate(levels[1:], start=1):
        expected = halved(np.asarray(levels[number - 1]))
        assert level.shape == expected.shape
        np.testing.assert_allclose(np.asarray(level), expected, rtol=1e-6)


def test_a_constant_volume_stays_constant(tmp_path: Path) -> None:
    for level in written(tmp_path / "a.zarr", np.full((5, 21, 33), 65_535, np.uint16)):
        assert (np.asarray(level) == 65_535).all()


def test_as_many_levels_as_needed(tmp_path: Path) -> None:
    shapes = [level.shape for level in create_zarr(tmp_path / "a.zarr", (20, 65, 130), "u1", (1, 1, 1), least=64)]
    assert shapes == [(20, 65, 130), (10, 33, 65), (5, 17, 33)]
    assert [level.shape for level in create_zarr(tmp_path / "b.zarr", (9, 64, 64), "u1", (1, 1, 1))] == [(9, 64, 64)]
    assert shapes and create_zarr(tmp_path / "c.zarr", (9, 100, 64), "u1", (1, 1, 1))[0].chunks == (9, 64, 64)


def test_every_chunk_of_a_coarser_level_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = create_zarr(tmp_path / "a.zarr", (10, 42, 50), "u1", (1, 1, 1), chunk=8, least=32)
    levels[0][:] = noise((10, 42, 50), np.uint8) // 4 + 1
    kept, stored = zarr.storage.LocalStore.set, []

    async def count(store: object, key: str, value: object) -> None:
        stored.append(key)
        await kept(store, key, value)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", count)
    fill_levels(levels)
    assert len(stored) == len(set(stored)) == 1 * 3 * 4


def test_metadata_are_those_of_version_0_5(tmp_path: Path) -> None:
    written(tmp_path / "brain.ome.zarr", noise((6, 20, 25)))
    head = json.loads((tmp_path / "brain.ome.zarr" / "zarr.json").read_text())
    assert head["zarr_format"] == 3 and head["node_type"] == "group"
    ome = head["attributes"]["ome"]
    assert ome["version"] == "0.5"
    (image,) = ome["multiscales"]
    assert image["axes"] == [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    assert [level["path"] for level in image["datasets"]] == ["0", "1", "2"]
    for number, level in enumerate(image["datasets"]):
        scale, translation = level["coordinateTransformations"]
        factor = 2**number
        assert scale == {"type": "scale", "scale": [1.0 * factor, 0.5 * factor, 0.25 * factor]}
        assert translation["type"] == "translation"
        # The middle of the first voxel is that of the finest voxels that it covers.
        middle = np.mean(np.arange(factor)) * np.array([1.0, 0.5, 0.25])
        np.testing.assert_allclose(translation["translation"], middle)
        array = json.loads((tmp_path / "brain.ome.zarr" / level["path"] / "zarr.json").read_text())
        assert array["node_type"] == "array" and len(array["shape"]) == 3


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    array = noise((6, 20, 25))
    levels = written(tmp_path / "a.zarr", array)
    image = open_zarr(tmp_path / "a.zarr")
    assert image.axes == "ZYX" and image.spacing == (1.0, 0.5, 0.25) and image.has_unit
    assert np.array_equal(image.levels[0], array)
    assert [level.shape for level in image.levels] == [level.shape for level in levels]
    assert all(np.array_equal(found, level) for found, level in zip(image.levels, levels, strict=True))


def multiscale(path: Path, axes: list[dict], scale: list[float] | None, **more: object) -> Path:
    group = zarr.open_group(str(path), mode="w")
    group.create_array("0", shape=(2,) * len(axes), dtype="u1")
    transforms = [{"type": "identity"}] if scale is None else [{"type": "scale", "scale": scale}]
    levels = [{"path": "0", "coordinateTransformations": transforms}]
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": levels, **more}]}
    return path


def test_sizes_of_voxels(tmp_path: Path) -> None:
    in_nm = [{"name": "time", "unit": "second"}, *({"name": name, "unit": "nanometer"} for name in "zyx")]
    image = open_zarr(multiscale(tmp_path / "a.zarr", in_nm, [3, 1000, 500, 250]))
    assert image.axes == "TZYX" and image.spacing == (1.0, 0.5, 0.25) and image.has_unit
    image = open_zarr(multiscale(tmp_path / "b.zarr", [{"name": name} for name in "zyx"], [4, 2, 1]))
    assert image.spacing == (4.0, 2.0, 1.0) and not image.has_unit
    image = open_zarr(multiscale(tmp_path / "c.zarr", [{"name": name} for name in "cyx"], [1, 3, 2]))
    assert image.spacing == (3.0, 2.0)
    assert open_zarr(multiscale(tmp_path / "d.zarr", in_nm, None)).spacing is None


def test_a_scale_of_all_levels_counts_too(tmp_path: Path) -> None:
    more = {"coordinateTransformations": [{"type": "scale", "scale": [2.0, 0.5, 0.5]}]}
    axes = [{"name": name, "unit": "micrometer"} for name in "zyx"]
    assert open_zarr(multiscale(tmp_path / "a.zarr", axes, [1, 1, 2], **more)).spacing == (2.0, 0.5, 1.0)


@pytest.mark.parametrize(
    "address",
    [
        "http://host/brain.ome.zarr",
        "https://host:80/a b/c.zarr",
        "s3://bucket/brain.zarr",
        "memory://brain.zarr",
        "file:///data/brain.zarr",
        "simplecache::https://host/brain.zarr",
    ],
)
def test_an_address_stays_one_as_a_path(address: str) -> None:
    assert location(address) == address and location(Path(address)) == address
    assert is_address(address) and is_address(Path(address))


@pytest.mark.parametrize("path", ["/data/brain.zarr", "brain.zarr", "../a/b.zarr", "C:/data/a.zarr", "a:b/c.zarr"])
def test_a_path_is_no_address(path: str) -> None:
    assert location(Path(path)) == path and not is_address(path) and not is_address(Path(path))


def test_a_zarr_folder_is_known_by_what_lies_in_it(tmp_path: Path) -> None:
    for version, name in itertools.product((2, 3), ("group", "array")):
        path = tmp_path / f"{name}{version}"
        make = (
            zarr.create_group
            if name == "group"
            else lambda store, **how: zarr.create_array(store, shape=(1,), dtype="u1", **how)
        )
        make(str(path), zarr_format=version)
        assert is_zarr(path)
    (tmp_path / "slices").mkdir()
    assert not is_zarr(tmp_path / "slices") and not is_zarr(tmp_path / "missing") and is_zarr(Path("missing.ZARR"))


def test_a_chunk_that_is_cut_off_is_not_read(tmp_path: Path) -> None:
    numcodecs = pytest.importorskip("numcodecs")
    array = noise((8, 8, 8), np.uint8)
    blosc = {2: numcodecs.Blosc(), 3: zarr.codecs.BloscCodec()}
    for version, name in ((2, "0.0.0"), (3, "c/0/0/0")):
        path = tmp_path / f"{version}.zarr"
        form = {"compressors": blosc[version], "zarr_format": version}
        zarr.create_array(str(path), shape=array.shape, chunks=array.shape, dtype="u1", **form)[:] = array
        opened = open_zarr(path).levels[0]
        assert np.array_equal(opened[:], array)
        chunk = path / name
        chunk.write_bytes(chunk.read_bytes()[:-1])
        with pytest.raises(ValueError, match="is not complete"):
            opened[:]
        chunk.unlink()
        assert not np.asarray(opened[:]).any()


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a.zarr: no Zarr image there; check where it lies$"):
        open_zarr(tmp_path / "a.zarr")
