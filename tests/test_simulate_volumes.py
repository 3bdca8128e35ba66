"""simulate_volumes.py: files, alignment, reproducibility and errors."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import tifffile

import simulate_volumes
from lib.errors import UserError
from lib.klib.ome_zarr import open_zarr
from lib.klib.volume_io import read_volume
from lib.swclib import read_swc
from tools.simulation import job
from tools.simulation.job import SimulateOptions

NEURON = "\n".join(
    ["1 2 -100 0 0 2 -1", "2 2 -60 20 10 2 1", "3 2 -20 10 20 1.5 2", "4 2 40 30 12 1 3", "5 2 -20 50 30 1 3", ""]
)
SMALL = ["--size", "16", "48", "48"]


@pytest.fixture
def neuron(tmp_path: Path) -> Path:
    path = tmp_path / "morphologies" / "cell.one.swc"
    path.parent.mkdir()
    path.write_text(NEURON)
    return path


def simulate(*arguments: object) -> None:
    simulate_volumes.main([str(argument) for argument in arguments])


def test_files_are_complete_and_aligned(neuron, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--preset", "clean", "--blocks", 2, "--spacing", 2, 0.5, 0.5, "--split", "test", *SMALL]
    simulate("--swc", neuron, "--out", out, *options)
    names = ["cell_one_001", "cell_one_002"]
    assert sorted(p.name for p in (out / "test" / "images").iterdir()) == [f"{name}.tif" for name in names]
    assert sorted(p.name for p in (out / "test" / "settings").iterdir()) == [f"{name}.json" for name in names]
    for name in names:
        with tifffile.TiffFile(out / "test" / "images" / f"{name}.tif") as tiff:
            volume, metadata = tiff.asarray(), tiff.imagej_metadata
            assert len(tiff.pages) == 16 and tiff.pages[0].tags["XResolution"].value == (2, 1)
        assert volume.shape == (16, 48, 48) and volume.dtype == np.uint16
        assert metadata["spacing"] == 2.0 and metadata["unit"] == "um"
        gold = read_swc(out / "test" / "swc" / f"{name}.swc").positions(3)
        assert (gold >= 0).all() and (gold <= np.array(volume.shape) - 1).all()
        on = volume[tuple(np.rint(gold).astype(int).T)].astype(float)
        assert np.median(on) > 2000 and np.median(volume) < 200
        settings = json.loads((out / "test" / "settings" / f"{name}.json").read_text())
        assert settings["options"]["gain"] == 0 and settings["options"]["spacing"] == [2.0, 0.5, 0.5]
    printed = capsys.readouterr().out
    assert printed.startswith("clean: 2 volumes in") and "cell_one_002: 16 x 48 x 48 voxels" in printed


def test_volume_does_not_depend_on_others(neuron, tmp_path):
    (neuron.parent / "another.swc").write_text(NEURON.replace("30 12", "35 18"))
    simulate("--swc", neuron, "--out", tmp_path / "a", *SMALL, "--turn", "--seed", 3)
    simulate("--swc", neuron.parent, "--out", tmp_path / "b", *SMALL, "--turn", "--seed", 3, "--blocks", 2)
    simulate("--swc", neuron, "--out", tmp_path / "c", *SMALL, "--turn", "--seed", 4)
    a, b, c = (tmp_path / run / "training" for run in "abc")
    for file in ("images/cell_one_001.tif", "swc/cell_one_001.swc"):
        assert (a / file).read_bytes() == (b / file).read_bytes() != (c / file).read_bytes()
    assert len(list((b / "images").iterdir())) == 4
    first, second = (tifffile.imread(b / "images" / f"cell_one_00{k}.tif") for k in (1, 2))
    assert (first != second).any()


def test_whole_extent_in_micrometres(neuron, tmp_path):
    simulate("--swc", neuron, "--out", tmp_path, "--preset", "ccf", "--size", 0, 0, 0, "--spacing", 2, 2, 2)
    volume = tifffile.imread(tmp_path / "training" / "images" / "cell_one_001.tif")
    assert np.abs(np.array(volume.shape) - (30 / 2 + 16, 50 / 2 + 16, 140 / 2 + 16)).max() <= 2
    gold = read_swc(tmp_path / "training" / "swc" / "cell_one_001.swc")
    assert np.ptp(gold.xyz[:, 0]) >= 69.9
    assert gold.length == pytest.approx(read_swc(neuron).length / 2, rel=0.03)


def test_zarr_is_written_tile_by_tile(neuron, tmp_path):
    pytest.importorskip("zarr")
    options = ["--swc", neuron, "--size", 16, 134, 150, "--spacing", 2, 0.5, 0.5, "--gain", 0, "--read_noise", 0]
    for form in ("tiff", "zarr"):
        simulate("--out", tmp_path / form, "--format", form, *options)
    folder, tiff = tmp_path / "zarr" / "training", tmp_path / "tiff" / "training"
    path = folder / "images" / "cell_one_001.ome.zarr"
    assert list(path.parent.iterdir()) == [path]
    image = open_zarr(path)
    assert [level.shape for level in image.levels] == [(16, 134, 150), (8, 67, 75), (4, 34, 38)]
    assert json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["name"] == path.name
    volume = read_volume(path)
    assert volume.spacing == (2.0, 0.5, 0.5) and volume.has_unit and volume.raw.dtype == np.uint16
    # Without noise, the tiles hold what a volume rendered at once does.
    assert abs(volume.raw - tifffile.imread(tiff / "images" / "cell_one_001.tif").astype(int)).max() <= 1
    assert abs(image.levels[1][:].mean() / volume.raw.mean() - 1) < 0.01
    gold = read_swc(folder / "swc" / "cell_one_001.swc")
    assert (gold.xyz == read_swc(tiff / "swc" / "cell_one_001.swc").xyz).all() and len(gold) > 20
    points = gold.positions(3)
    assert (points >= 0).all() and (points <= np.array(volume.raw.shape) - 1).all()
    assert "truth of cell_one_001.ome.zarr" in (folder / "swc" / "cell_one_001.swc").read_text()
    assert json.loads((folder / "settings" / "cell_one_001.json").read_text())["options"]["format"] == "zarr"


def test_zarr_replaces_another_and_may_be_large(neuron, tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    monkeypatch.setattr(job, "_MOST_VOXELS", 1)
    for size in (20, 24):
        simulate("--swc", neuron, "--out", tmp_path, "--format", "zarr", "--size", 16, size, 20, "--bits", 8)
    (path,) = (tmp_path / "training" / "images").iterdir()
    assert read_volume(path).raw.shape == (16, 24, 20) and read_volume(path).raw.dtype == np.uint8
    with pytest.raises(UserError, match=r"too large .* give a smaller --size, or --format zarr"):
        simulate("--swc", neuron, "--out", tmp_path, *SMALL)
    monkeypatch.setattr(job.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--format zarr: needs the package zarr, which is not installed"):
        simulate("--swc", neuron, "--out", tmp_path, "--format", "zarr", *SMALL)


def test_pairs_need_no_morphology(tmp_path):
    simulate("--preset", "Parallel", "--blocks", 2, "--out", tmp_path, "--size", 20, 40, 48)
    gold_trees = [read_swc(tmp_path / "training" / "swc" / f"parallel_00{k}.swc") for k in (1, 2)]
    assert [len(gold.roots) for gold in gold_trees] == [2, 2] and not np.allclose(
        gold_trees[0].xyz[0], gold_trees[1].xyz[0]
    )
    assert tifffile.imread(tmp_path / "training" / "images" / "parallel_001.tif").shape == (20, 40, 48)


def test_command_line_overrides_file_and_file_overrides_preset(neuron, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("preset: op\ngain: 2.5\nsignal: 99\n")
    simulate("--config", config, "--signal", 50, "--swc", neuron, "--out", tmp_path / "out", *SMALL)
    options = json.loads((tmp_path / "out/training/settings/cell_one_001.json").read_text())["options"]
    assert (options["preset"], options["bits"], options["gain"], options["signal"]) == ("op", 8, 2.5, 50)
    assert tifffile.imread(tmp_path / "out/training/images/cell_one_001.tif").dtype == np.uint8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--preset fmots", r"--preset is fmots; did you mean fmost\?"),
        ("--preset xyz", "known are fmost, ccf, op, clean, parallel"),
        ("", "--swc is missing"),
        ("--swc {folder}/none.swc", "none.swc: no such file or folder"),
        ("--swc {folder}/empty", "empty: no SWC files in this folder"),
        ("--swc {folder}/empty.swc", "empty.swc: no nodes in this file"),
        ("--swc {folder}/tiny.swc", "spans only 0 x 0 x 3 pixels .* give a larger --scale"),
        ("--swc {neuron} --read_noise -3", "--read_noise -3.0: give 0 or more"),
        ("--swc {neuron} --gap_depth 1.5", "--gap_depth 1.5: give a share from 0 to 1"),
        ("--swc {neuron} --signal nan", "--signal must be a number, got nan"),
        ("--swc {neuron} --bits 12", "--bits 12: give 8 or 16"),
        ("--swc {neuron} --format nii", "--format nii: give tiff or zarr"),
        ("--swc {neuron} --blocks 0", "--blocks 0: give more than 0"),
        ("--swc {neuron} --size 16 -1 16", "--size 16 -1 16: give 0 or more"),
        ("--swc {neuron} --size 16 16", "--size must be"),
        ("--swc {neuron} --size 5000 5000 5000", "5000 x 5000 x 5000 voxels is too large .* smaller --size"),
        ("--swc {neuron} --size 0 0 0 --scale 900", "too large for the memory; give a smaller --size"),
        ("--swc {neuron} --spacing 1 0 0", "--spacing 1.0 0.0 0.0: give more than 0"),
        ("--swc {neuron} --spacing 1 0.3 0.4", "pixels of a slice must be square"),
        ("--swc {neuron} --nearest 5 --farthest 4", "--farthest is 4, less than --nearest"),
        ("--swc {neuron} --nearest 1", "--nearest 1.0: give 3 or more"),
        ("--preset parallel --size 4 64 64", "two neurites need 16 or more"),
        ("--swc {neuron} --out {neuron}", "cannot be made"),
        ("--swc {neuron} --gian 3", r"unknown option --gian; did you mean --gain\?"),
    ],
)
def test_errors_are_reported(neuron, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.swc").write_text("# nothing\n")
    (tmp_path / "tiny.swc").write_text("1 2 0 0 0 1 -1\n2 2 3 0 0 1 1\n")
    arguments = arguments.format(folder=tmp_path, neuron=neuron).split()
    with pytest.raises(UserError, match=message):
        simulate("--out", tmp_path / "out", *arguments)
    assert not list(tmp_path.glob("out/**/*.tif"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_unwritable_folder_is_reported(neuron, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(UserError, match="cannot be"):
        simulate("--swc", neuron, "--out", tmp_path / "out", *SMALL)


def test_every_option_is_documented():
    text = (Path(simulate_volumes.__file__).parent / "docs" / "parameters.md").read_text()
    section = text.split("## simulate_volumes.py")[1].split("\n## ")[0]
    assert not [field.name for field in fields(SimulateOptions) if f"`{field.name}`" not in section]
