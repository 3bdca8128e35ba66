"""Training runs from options: refused options, reports, starting from weights, resuming, several processes."""

from __future__ import annotations

import itertools
import json
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import train_2D
from configs.checks import check_train_options
from configs.options import TrainOptions, TrainOptions3D
from lib.devices import choose_device
from lib.errors import UserError
from models.checkpoint import load_tensors, load_weights, save_weights
from models.nenet import NENet
from tests.tools.training.training_runs import (
    PATCH,
    ROOT,
    SMALL,
    SPEC,
    options,
    rows,
    start,
    training_image,
    words,
    write_dataset,
)
from tools.cli import parse_mode
from tools.data.augment import to_unit
from tools.data.batch_sources import OnlineTiles
from tools.data.prepared import PreparedDataset
from tools.training.arithmetic import LAYOUTS, PRECISIONS, step_seconds
from tools.training.run import (
    OPTIONS_FILE,
    earlier_run,
    report_run,
    split_images,
    start_network,
    train_run,
    write_options,
)
from tools.training.trainer import STATE_FILE, Progress


@pytest.fixture(scope="module")
def short(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped after one step."""
    run = tmp_path_factory.mktemp("short") / "run"
    train_run(options(data, run, max_steps=1), SPEC)
    return run


def refused(chosen: TrainOptions) -> str:
    """The error message, of one line, with which a run is refused."""
    with pytest.raises(UserError) as error:
        train_run(chosen, SPEC)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- bad options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"width": 0}, "--width 0: give at least 1"),
        ({"batch_size": 0}, "--batch_size 0: give at least 1"),
        ({"log_every": 0}, "--log_every 0: give at least 1"),
        ({"save_every": -1}, "--save_every -1: give at least 1"),
        ({"threads": -2}, "--threads -2: give 0 (torch's choice) or more"),
        ({"seed": -1}, "--seed -1: give 0 or more"),
        ({"max_steps": -5}, "--max_steps -5: give 0 or more"),
        ({"lr": 0.0}, "--lr 0.0: give more than 0"),
        ({"lr": float("nan")}, "--lr nan: give more than 0"),
        ({"beta": 1.0}, "--beta 1.0: give a weight between 0 and 1"),
        ({"patch_size": (40, 32)}, "--patch_size 40 32: give multiples of 16 16"),
        ({"patch_size": (0, 32)}, "--patch_size 0 32: give multiples of 16 16"),
        ({"patch_size": (48, 48), "features": "patch", "stem": (2, 2)}, "--patch_size 48 48: give multiples of 32 32"),
        ({"stem": (0, 1)}, "--stem 0 1: give 1 or more along every axis"),
        ({"stem": (2,)}, "--stem 2: 1 numbers, but 2D has 2 axes; give y x"),
        ({"patch_size": (16, 32)}, "--patch_size 16 32: half of it must be more than a step of 6 px and a border of 4"),
        ({"tile_size": (100, 96)}, "--tile_size 100 96: give multiples of 16 16"),
        ({"tile_size": (80, 80), "stem": (2, 2)}, "--tile_size 80 80: give multiples of 32 32"),
        ({"tile_size": (64, 96)}, "--tile_size 64 96: tiles are turned by 90°, so y and x must be equal"),
        ({"tile_size": (32, 32)}, "--tile_size 32 32 must be larger than --patch_size 32 32 along every axis"),
        (
            {"sampling": "stacks"},
            "--features tile needs --sampling online; for --sampling stacks, give --features patch",
        ),
        ({"hold_out": ["z"]}, "--hold_out z: no such image; there are a, b"),
        ({"hold_out": ["b", "a"]}, "all 2 images are held out, none is left to train on; add images, or hold out few"),
        ({"features": "patch", "sampling": "stacks", "patch_size": (48, 48)}, "give --patch_size as when the dataset"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_options_are_refused(data: Path, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    assert message in refused(options(data, tmp_path / "run", **changed))
    assert not (tmp_path / "run").exists()


def test_paper_defaults_are_allowed() -> None:
    check_train_options(TrainOptions(), ndim=2)
    check_train_options(TrainOptions3D(), ndim=3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_refused(data: Path, tmp_path: Path) -> None:
    message = "--device cuda: no GPU that torch can use; take --device cpu or auto"
    assert refused(options(data, tmp_path / "run", device="cuda")) == message
    assert choose_device("auto") == "cpu"


def test_threads_are_set() -> None:
    before = torch.get_num_threads()
    assert choose_device("cpu", 2) == "cpu" and torch.get_num_threads() == 2
    assert choose_device("cpu", 0) == "cpu" and torch.get_num_threads() == 2
    torch.set_num_threads(before)


PAGES = """
import resource, torch
from models.nenet import NENet
from lib.devices import choose_device
choose_device("cpu", 1)
net, image = NENet(2, 1, 4).eval(), torch.zeros(1, 1, 1600, 1600)
with torch.inference_mode():
    net.encode(image)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        net.encode(image)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_memory_is_reused() -> None:
    # In a separate process, because the memory that other tests have freed would change the result. A whole network,
    # because arrays of a single size do not find their own freed memory: alignment makes each request a bit larger.
    pages = subprocess.check_output([sys.executable, "-c", PAGES], cwd=ROOT, text=True)
    assert int(pages) < 150_000  # pages of 4 KiB; about 36 000 with reuse, 900 000 without


def test_unprepared_data(tmp_path: Path) -> None:
    message = refused(options(tmp_path, tmp_path / "run"))
    assert message == f"{tmp_path}: has no dataset.json; make it with prepare_datasets_2D.py (or 3D) --out {tmp_path}"


def test_run_folder_that_cannot_be_written(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    assert "options.json: cannot be written (" in refused(options(data, tmp_path / "run"))


def test_single_image(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", ("only",))
    message = "the only image is held out, none is left to train on; add images, or hold out fewer"
    assert refused(options(tmp_path / "data", tmp_path / "run")) == message


def test_images_without_a_walk(tmp_path: Path) -> None:
    """Drawing samples would never end."""
    write_dataset(tmp_path)
    table = json.loads((tmp_path / "dataset.json").read_text())
    table["sample_shape"]["margin"] = 500
    (tmp_path / "dataset.json").write_text(json.dumps(table))
    assert "no branch in a is long enough for a walk" in refused(options(tmp_path, tmp_path / "run"))


def test_default_split_holds_out_the_last_tenth() -> None:
    names = [str(n) for n in range(20)]
    assert split_images(names, [])[1] == ("18", "19")
    assert split_images(["a", "b", "c"], []) == (("a", "b"), ("c",))
    assert split_images(["a", "b", "c"], ["a"]) == (("b", "c"), ("a",))


def test_help_shows_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        train_2D.main(["--mode", "train", "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    for name in asdict(TrainOptions()):
        assert f"--{name}" in shown, name


def test_words_gives_the_same_options(data: Path, tmp_path: Path) -> None:
    line = words(data, tmp_path, hold_out=["a"])
    assert parse_mode(train_2D.MODES, line, description="", presets={})[1] == options(data, tmp_path, hold_out=["a"])


# ---- reports -------------------------------------------------------------------------------------------------------


def test_stages_are_reported(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tools.training.run"):
        train_run(options(data, tmp_path, precision="auto", warps=2, max_steps=1), SPEC)
    stages = [record.message for record in caplog.records if record.name == "tools.training.run"]
    assert stages[:4] == [
        "loading 1 training images ...",
        "making 2 turned and resized copies of each training image ...",
        "loading 1 held-out images ...",
        "measuring which precision and layout are fastest ...",
    ]
    assert stages[4].startswith("training in ")


def test_command_reports_stages_on_stderr_and_files_on_stdout(data: Path, tmp_path: Path) -> None:
    process = start(str(ROOT / "train_2D.py"), *words(data, tmp_path, max_steps=1))
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert errors.startswith("loading 1 training images ...\n")
    files = "best.safetensors, last.safetensors, metrics.csv and curves.png"
    written, following = output.splitlines()
    assert written == f"1 step done; {files} are in {tmp_path}"
    assert (
        following == f"next: python -m tools.calibrate --weights {tmp_path / 'last.safetensors'}, with --data and --out"
    )


def test_report_names_only_files_that_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, expected in (
        (None, "no file is in"),
        ("last.safetensors", "last.safetensors is in"),
        ("metrics.csv", "last.safetensors and metrics.csv are in"),
    ):
        if name:
            (tmp_path / name).touch()
        report_run(Progress(step=3), tmp_path)
        assert capsys.readouterr().out.splitlines()[0] == f"3 steps done; {expected} {tmp_path}"


# ---- starting from weights -----------------------------------------------------------------------------------------


def saved_net(path: Path, short: Path, net: NENet) -> Path:
    header = load_weights(short / "last.safetensors")[1]
    shape = {"ndim": net.ndim, "in_channels": net.in_channels, "width": net.width}
    save_weights(path, net, type(header)(**{**asdict(header), **shape}))
    return path


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (NENet(2, 3, 4), "width 4, but --width is 2; give the same"),
        (NENet(2, 1, 2), "for 1 channels, not 3; give others"),
        (NENet(3, 1, 2), "these weights are for 3D, not 2D; give others"),
    ],
    ids=["width", "channels", "ndim"],
)
def test_init_from_another_network_is_refused(
    data: Path, short: Path, tmp_path: Path, net: NENet, message: str
) -> None:
    init = saved_net(tmp_path / "w.safetensors", short, net)
    assert refused(options(data, tmp_path / "run", init=init)) == f"{init}: {message}"


def test_init_loads_the_weights(data: Path, short: Path) -> None:
    init = short / "last.safetensors"
    net = start_network(SPEC.build, options(data, short, init=init), PreparedDataset.load(data))
    wanted, _ = load_weights(init)
    assert net.training
    assert all(torch.equal(tensor, wanted.state_dict()[name]) for name, tensor in net.state_dict().items())


def test_random_weights_depend_on_the_seed(data: Path, tmp_path: Path) -> None:
    prepared = PreparedDataset.load(data)
    first, same, other = (start_network(SPEC.build, options(data, tmp_path, seed=seed), prepared) for seed in (1, 1, 2))
    weights = [net.first.conv1.weight for net in (first, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_measuring_precision_does_not_change_the_network(data: Path) -> None:
    net = NENet(2, 3, 2)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    batch = to_unit(OnlineTiles([training_image("a", 0)], 1, 2, 4, (64, 64), PATCH, 0).batch(0))
    seconds = step_seconds(net, batch, torch.device("cpu"))
    assert seconds.keys() == set(itertools.product(PRECISIONS, LAYOUTS)) and min(seconds.values()) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


# ---- resuming ------------------------------------------------------------------------------------------------------


def test_a_run_is_not_overwritten(data: Path, short: Path) -> None:
    assert refused(options(data, short)) == (
        f"{short}: already holds a run; give --resume to go on with it, or another --run"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"width": 4}, "--width 2, not --width 4"),
        ({"hold_out": ["a"]}, "--hold_out b, not --hold_out a"),
        (
            {"tile_size": (80, 80), "lr": 1e-3, "nb_epoch": 3},
            """--lr 0.01 --nb_epoch 2 --tile_size 64 64, not \
--lr 0.001 --nb_epoch 3 --tile_size 80 80""",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_resuming_with_other_options_is_refused(data: Path, short: Path, changed: dict[str, Any], message: str) -> None:
    before = (short / OPTIONS_FILE).read_text()
    assert refused(options(data, short, resume=True, **changed)) == (
        f"{short}: was started with {message}; leave these out, --resume takes them from the run"
    )
    assert (short / OPTIONS_FILE).read_text() == before


def test_options_that_are_not_given_are_those_of_the_run(data: Path, short: Path, monkeypatch) -> None:
    monkeypatch.setattr(train_2D, "train_command", lambda options, spec: options)

    def given(*more: str) -> TrainOptions:
        return train_2D.main(["--mode", "train", "--resume", "--run", str(short), *more])

    expected = options(data, short, resume=True, hold_out=["b"], device="auto")
    assert given() == expected
    assert given("--lr", "0.5", "--patch_size", "48", "48") == replace(expected, lr=0.5, patch_size=(48, 48))
    assert "started with --lr 0.01, not --lr 0.5;" in refused(given("--lr", "0.5"))


def test_there_must_be_a_run_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone: holds no run to go on with; give its folder, or --data to begin one"):
        train_2D.main(["--mode", "train", "--resume", "--run", str(tmp_path / "gone")])


def test_options_of_the_computation_may_change(data: Path, short: Path) -> None:
    changed = {"threads": 3, "device": "auto", "save_every": 7, "log_every": 9, "max_steps": 2, "precision": "auto"}
    chosen = options(data.parent, short, resume=True, hold_out=["b"], init=Path("gone"), **changed)
    assert earlier_run(chosen)["precision"] == "fp32"


def test_options_are_stored(data: Path, tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_bytes(b"")
    chosen = options(data, tmp_path, resume=True)
    assert earlier_run(chosen) == {}  # the file may be missing
    write_options(chosen)
    assert earlier_run(chosen)["width"] == SMALL["width"]
    (tmp_path / OPTIONS_FILE).write_text("{")
    with pytest.raises(UserError, match=r"options\.json: not valid"):
        earlier_run(chosen)


@pytest.mark.parametrize(
    ("given", "chosen"), [({}, ["bf16", "channels_last"]), ({"precision": "fp32"}, ["fp32", "channels_first"])]
)
def test_the_fastest_arithmetic_is_taken_and_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], chosen: list[str]
) -> None:
    auto = {"precision": "auto", "layout": "auto"} | given
    keys = list(itertools.product(PRECISIONS, LAYOUTS))
    for resume in (False, True):
        # The second measurement says the opposite of the first.
        order = range(4) if resume else (1, 3, 2, 0)
        measured = dict(zip(keys, order, strict=True))
        monkeypatch.setattr("tools.training.arithmetic.step_seconds", lambda *_, measured=measured: measured)
        train_run(options(data, tmp_path, **auto, max_steps=1 + resume, resume=resume), SPEC)
        stored = json.loads((tmp_path / OPTIONS_FILE).read_text())
        assert [stored["precision"], stored["layout"]] == chosen


# ---- several processes ---------------------------------------------------------------------------------------------

TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "--")
"""Without the last word, torchrun takes the script's ``--run`` for an abbreviation of its own ``--run-path``."""
SPY = f"""
import hashlib, json, os, sys
sys.path.insert(0, {str(ROOT)!r})
import train_2D, tools.training.run
from tools.training.trainer import Trainer

def digest(*tensors):
    return hashlib.sha256(b"".join(t.detach().contiguous().numpy().tobytes() for t in tensors)).hexdigest()

class Spy(Trainer):
    def step(self, step, raw):
        self.seen = [*getattr(self, "seen", []), digest(raw.image)]
        return super().step(step, raw)

    def run(self):
        try:
            return super().run()
        finally:
            report = {{"step": self.progress.step, "images": self.seen, "weights": digest(*self.net.parameters())}}
            rank = os.environ["RANK"]
            with open(os.path.join(self.options.run, "rank" + rank + ".json"), "w") as file:
                json.dump(report, file)

tools.training.run.Trainer = Spy
from tools.cli import run
run(train_2D.main)
"""
"""train_2D.py, where each process also writes a JSON file with its images and final weights."""


def reports(run: Path) -> list[dict[str, Any]]:
    return [json.loads((run / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes(data: Path, tmp_path: Path) -> None:
    """Each draws its own samples, one validates and writes, and Ctrl-C stops both at the same step and weights."""
    (tmp_path / "spy.py").write_text(SPY)
    run = tmp_path / "run"
    line = words(data, run, nb_epoch=300, precision="auto", save_every=100_000, log_every=1)
    process = start(*TORCHRUN, str(tmp_path / "spy.py"), *line)
    # Wait until the first epoch ends, so that the main process has validated while the other waited.
    while not (run / "metrics.csv").is_file() or len(rows(run)) < 8:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert process.returncode != 0
    first, second = reports(run)
    step = load_tensors(run / STATE_FILE)[1]["step"]
    assert first["step"] == second["step"] == step >= 6
    assert f"stopped at step {step} of 900 and saved; --resume goes on" in errors
    assert not set(first["images"]) & set(second["images"])
    assert first["weights"] == second["weights"]
    assert [row["step"] for row in rows(run) if row["loss"]] == [str(n) for n in range(1, step + 1)]
    assert load_weights(run / "best.safetensors")[1].metrics["dice_edge"] >= 0
    net = load_weights(run / "last.safetensors")[0]
    state = load_tensors(run / STATE_FILE)[0]
    assert torch.equal(net.first.norm1.running_mean, state["average.module.first.norm1.running_mean"])


def test_two_processes_finish(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(*TORCHRUN, str(ROOT / "train_2D.py"), *words(data, run, epoch_size=16, nb_epoch=1))
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert load_tensors(run / STATE_FILE)[1]["step"] == 2
