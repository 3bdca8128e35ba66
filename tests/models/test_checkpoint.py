"""Weight files: round trips, and one-line errors for files that cannot be read or written."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lib.errors import UserError
from models.checkpoint import WeightsHeader, load_tensors, load_weights, save_tensors, save_weights
from models.nenet import NENet

HEADER = WeightsHeader(
    ndim=2,
    in_channels=3,
    width=2,
    dataset="DRIVE",
    scale=2.0,
    swc_origin="corner",
    patch_size=(64, 64),
    step=10.0,
    r=2.0,
    features="tile",
    thresholds={"seed": 0.7, "stop": 0.4, "spur": 12.0},
    metrics={"dice_edge": 0.5},
    training={"lr": 3e-4, "images": ["21", "22"]},
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_weights(tmp_path / "best.safetensors", NENet(2, 3, 2), HEADER)
    return tmp_path / "best.safetensors"


def refused(path: Path, ndim: int | None = None) -> str:
    """The error message of loading ``path``, without the path."""
    with pytest.raises(UserError) as error:
        load_weights(path, ndim=ndim)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


def rewritten(path: Path, **changed: object) -> Path:
    """Change the header of a weight file; None removes a key."""
    tensors, header = load_tensors(path)
    save_tensors(path, tensors, {k: v for k, v in (header | changed).items() if v is not None})
    return path


def test_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = NENet(2, 3, 2)
    with torch.no_grad():
        net.first.norm1.running_var.fill_(1e6)  # more than half precision can hold
        net.first.norm1.running_mean.fill_(1 / 3)
    save_weights(tmp_path / "w.safetensors", net, HEADER)
    loaded, header = load_weights(tmp_path / "w.safetensors", ndim=2)
    assert header == HEADER
    assert not loaded.training
    wanted = net.state_dict()
    for name, tensor in loaded.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        assert tensor.dtype == torch.float32
        stored = wanted[name] if "running_" in name else wanted[name].half().float()
        assert torch.equal(tensor, stored), name


def test_weights_are_half_precision_and_statistics_single(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        kinds = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    for name, dtype in kinds.items():
        assert dtype == (torch.float32 if "running_" in name else torch.float16), name


def test_keys_of_later_versions_are_ignored(saved: Path) -> None:
    assert load_weights(rewritten(saved, weather="fine"))[1] == HEADER


def test_missing_file(tmp_path: Path) -> None:
    message = refused(tmp_path / "none.safetensors")
    assert message.startswith("no such weight file; give one made by --mode train, or shipped weights; known are ")


@pytest.mark.parametrize("keep", [0, 4, 100, 5000])
def test_truncated_file(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    assert refused(saved).startswith("damaged or not a safetensors file (")


def test_not_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_text("PNG? JPEG? Who knows. " * 50)
    assert refused(path).startswith("damaged or not a safetensors file (")


def test_safetensors_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file({"a": torch.zeros(2)}, path, metadata=metadata)
        assert refused(path) == "a safetensors file, but not NETracer's; give one made by --mode train"


@pytest.mark.parametrize("header", ["[1, 2]", "{broken", "3"])
def test_header_that_is_not_an_object(tmp_path: Path, header: str) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata={"netracer": header})
    assert refused(path).startswith("damaged or not a safetensors file (")


def test_wrong_dimension(saved: Path) -> None:
    assert refused(saved, ndim=3) == "these weights are for 2D, not 3D; give others"


def test_checkpoint_of_a_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_tensors(path, {"net.a": torch.zeros(1)}, {"kind": "the state of a run", "step": 3})
    wanted = "holds the state of a run, not weights of format 1; give best.safetensors or last.safetensors"
    assert refused(path) == wanted


def test_other_version(saved: Path) -> None:
    assert refused(rewritten(saved, format=99)).startswith("holds format 99, not weights of format 1")


def test_incomplete_header(saved: Path) -> None:
    assert refused(rewritten(saved, scale=None)) == "its header has no scale; train or copy the file again"


@pytest.mark.parametrize("changed", [{"ndim": 5}, {"width": "two"}])
def test_header_without_a_valid_network(saved: Path, changed: dict[str, object]) -> None:
    assert refused(rewritten(saved, **changed)).startswith("its header describes no network (")


@pytest.mark.parametrize("changed", [{"width": 4}, {"in_channels": 1}, {"ndim": 3}])
def test_tensors_that_do_not_match(saved: Path, changed: dict[str, object]) -> None:
    assert refused(rewritten(saved, **changed)).startswith("its tensors do not match its header (first: ")


def test_missing_and_unknown_tensors(saved: Path) -> None:
    tensors, header = load_tensors(saved)
    bias = tensors.pop("first.conv1.bias")
    save_tensors(saved, tensors, header)
    assert "(first: first.conv1.bias)" in refused(saved)
    save_tensors(saved, tensors | {"first.conv1.bias": bias, "zebra": bias.clone()}, header)
    assert "(first: zebra)" in refused(saved)


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    path = tmp_path / "file" / "w.safetensors"
    with pytest.raises(UserError, match=r"w\.safetensors: cannot be written \(.*\); check its folder and the space"):
        save_weights(path, NENet(2, 3, 2), HEADER)
    assert (tmp_path / "file").read_text() == "not a folder"


def test_no_partial_file_is_left(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk is full, the earlier file stays and no other file appears."""
    before = saved.read_bytes()

    def full(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"some of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("models.checkpoint.save_file", full)
    with pytest.raises(UserError, match="No space left on device"):
        save_weights(saved, NENet(2, 3, 2), replace(HEADER, dataset="other"))
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_header_is_plain_json(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        header = json.loads(file.metadata()["netracer"])
    assert header == json.loads(json.dumps(asdict(HEADER)))
