"""Benchmarks on small trees, small simulated images and scripts that take a known time."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import dimensions, gpu_run, training_speed
from benchmarks.parallel_neurites import coverage, jumps
from lib.errors import UserError
from lib.swclib import SwcForest, concatenate, read_swc
from models.checkpoint import load_weights
from tools.data.folders import find_cases
from tools.readers import read_image_2d
from tools.training.trainer import STATE_FILE


def line(*positions: tuple[float, float, float]) -> SwcForest:
    """A path through (z, y, x) positions."""
    return SwcForest.from_positions(np.array(positions, float), np.arange(-1, len(positions) - 1))


GOLD = concatenate([line((5, 10, 0), (5, 10, 80)), line((5, 14, 0), (5, 14, 80))])
JUMPING = line((5, 10, 0), (5, 10, 38), (5, 14, 42), (5, 14, 80))


@pytest.mark.parametrize("trace, expected", [
    (GOLD, 0),
    (line((5, 10.8, 0), (5, 10.8, 80)), 0),
    (JUMPING, 1),
    (concatenate([JUMPING, line((5, 14, 0), (5, 14, 38))]), 1),
    (line((5, 10, 0), (5, 10, 75), (5, 14, 80)), 0),  # Only the end touches the other neurite.
    (SwcForest.empty(), 0),
])  # fmt: skip
def test_a_jump_is_a_tree_that_follows_both_neurites(trace, expected):
    assert jumps(GOLD, trace) == expected


def test_coverage_is_a_share_of_the_gold_length():
    assert coverage(GOLD, GOLD) == 1 and coverage(GOLD, SwcForest.empty()) == 0
    assert coverage(GOLD, line((5, 10, 0), (5, 10, 80))) == pytest.approx(0.5)


# ---- training ------------------------------------------------------------------------------------------------------

TINY = {"width": 2, "batch_size": 8, "states_per_tile": 4, "validation_size": 4, "device": "cpu"}
FIXED = [f"--{name}={value}" for name, value in {**TINY, "threads": 1}.items()]
FIXED += ["--precision=fp32", "--layout=channels_first"]
TILES = {2: ("80", "80"), 3: ("32", "80", "80")}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small 2D dataset, prepared."""
    return dimensions.prepare_toy_dataset(tmp_path_factory.mktemp("toy"), 2)


def trainer(prepared: Path, folder: Path, *words: str):
    """A trainer of 80 steps on that dataset."""
    schedule = ["--nb_epoch=20", "--epoch_size=32", "--tile_size", *TILES[2]]
    return training_speed.build([*FIXED, f"--data={prepared}", *schedule, *words], 2, folder / "run")


def test_gold_trees_of_the_small_dataset_lie_on_bright_pixels(prepared):
    (first, _) = find_cases(prepared.parent / "images" / "training")
    grey = read_image_2d(first.image).pixels.mean(axis=-1)
    nodes = read_swc(first.swc).positions(2).round().astype(int)
    assert np.median(grey[tuple(nodes.T)]) > np.quantile(grey, 0.9)


@pytest.mark.parametrize("ndim", [2, 3])
def test_training_speed_without_data(ndim, monkeypatch, capsys):
    monkeypatch.setattr(training_speed, "WARM_UP", 0)
    training_speed.main([f"--ndim={ndim}", "--steps=1", *FIXED, "--tile_size", *TILES[ndim]])
    text = capsys.readouterr().out
    pixels = 2 * np.prod([int(size) for size in TILES[ndim]])
    states, speed = re.search(rf"\n{pixels} work pixels and (\d+) states a step, .*\n +(\d+)  work", text).groups()
    assert int(states) in (4, 8) and int(speed) > 0


def test_parts_of_a_step_are_measured_apart(prepared, tmp_path):
    slow = trainer(prepared, tmp_path)
    draw, augment = slow.source.batch, slow.augment
    slow.source = SimpleNamespace(batch=lambda step: time.sleep(0.05) or draw(step))
    costs = training_speed.step_costs(slow, 3)
    clock, cpu = costs.parts["drawing"]
    assert clock > 0.05 > cpu and costs.pixels == 2 * 80 * 80
    assert costs.parts["network"][1] > costs.parts["augmentation"][1] > 0
    assert slow.augment is augment and len(slow.optimizer.state) > 0


def checkout(folder: Path, seconds: float) -> Path:
    """A checkout whose training takes this CPU time for each step."""
    folder.mkdir()
    (folder / "train_2D.py").write_text(f"""
import sys, time
words = sys.argv
steps = int(words[words.index("--max_steps") + 1])
if "--unknown" in words:
    sys.exit("error: unknown option --unknown")
while time.process_time() < 0.1 + {seconds} * steps:
    pass
""")
    return folder


def test_two_checkouts_are_compared(prepared, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training_speed, "ROOT", checkout(tmp_path / "new", 0.01))
    other = checkout(tmp_path / "old", 0.03)
    words = [f"--data={prepared}", f"--against={other}", "--repeats=1", "--steps=20"]
    training_speed.main([*words, "--new_options", "--stem", "2", "2"])
    ratio = float(capsys.readouterr().out.splitlines()[-1].split()[6])
    assert 2 < ratio < 4
    with pytest.raises(UserError, match="give other options: error: unknown option --unknown"):
        training_speed.main([*words, "--new_options", "--unknown"])


@pytest.mark.parametrize("ctrl_c", [signal.default_int_handler, signal.SIG_IGN])
def test_time_limit_interrupts_only_what_takes_longer(ctrl_c):
    before = signal.signal(signal.SIGINT, ctrl_c)
    try:
        check_time_limit()
        assert signal.getsignal(signal.SIGINT) is ctrl_c
    finally:
        signal.signal(signal.SIGINT, before)


def check_time_limit() -> None:
    with gpu_run.at_most(60):
        pass
    started = time.monotonic()
    with pytest.raises(TimeoutError), gpu_run.at_most(0.05):
        while time.monotonic() - started < 30:
            pass
    assert time.monotonic() - started < 20
    # Compiled code that is interrupted raises a SystemError.
    with pytest.raises(TimeoutError), gpu_run.at_most(0.05):
        try:
            while True:
                pass
        except KeyboardInterrupt as error:
            raise SystemError from error
    with pytest.raises(KeyboardInterrupt), gpu_run.at_most(60):
        signal.raise_signal(signal.SIGINT)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_training_that_runs_out_of_time_is_saved(prepared, tmp_path):
    stopped = trainer(prepared, tmp_path)
    step = stopped.step
    stopped.step = lambda number, raw: time.sleep(0.1) or step(number, raw)
    with pytest.raises(TimeoutError), gpu_run.at_most(1):
        stopped.run()
    assert 0 < stopped.progress.step < stopped.total
    assert (tmp_path / "run" / STATE_FILE).is_file()


def test_a_wrong_device_is_noticed(prepared, tmp_path, monkeypatch):
    chosen = trainer(prepared, tmp_path)
    errors = gpu_run.check_step(chosen, chosen.net)
    assert all(errors[name] <= gpu_run.TOLERANCES[name] for name in ("losses", "gradients"))
    to = type(chosen.net).to

    def damaged(net, *args, **kwargs):
        with torch.no_grad():
            next(net.parameters()).mul_(1.1)
        return to(net, *args, **kwargs)

    monkeypatch.setattr(type(chosen.net), "to", damaged)
    errors = gpu_run.check_step(chosen, chosen.net)
    assert errors["gradients"] > gpu_run.TOLERANCES["gradients"]


def test_a_combination_that_fails_is_reported(prepared, tmp_path, monkeypatch):
    def fail(net):
        raise torch.OutOfMemoryError if net.training else RuntimeError

    monkeypatch.setattr(torch.nn.Module, "compile", fail)
    combination = {"states_per_tile": 4, "precision": "fp32", "layout": "channels_last"}
    chosen = trainer(prepared, tmp_path)
    assert gpu_run.time_one(chosen, compile=True, **combination) == {"failed": "out of memory"}
    found = gpu_run.time_one(chosen, compile=False, **combination)
    assert found["seconds"] > 0 and found["pixels"] == 2 * 80 * 80
    assert chosen.progress.step == 0 and not chosen.optimizer.state


def test_gpu_run_from_nothing_to_a_table(tmp_path, monkeypatch, capsys):
    def fail(net):
        raise RuntimeError("no compiler")

    tiny = {**TINY, "tile_size": (80, 80), "epoch_size": 16, "nb_epoch": 1}
    kind = dimensions.DIMENSIONS[2]._replace(toy_train=tiny)
    monkeypatch.setitem(dimensions.DIMENSIONS, 2, kind)
    monkeypatch.setattr(torch.nn.Module, "compile", fail)
    monkeypatch.setattr(gpu_run, "STATES_PER_TILE", (4,))
    monkeypatch.setattr(gpu_run, "PRECISIONS", ("fp32",))
    monkeypatch.setattr(gpu_run, "PIECE", 50_000)
    gpu_run.main([f"--out={tmp_path}", "--minutes=10"])
    text = (tmp_path / "table.md").read_text()
    assert text in capsys.readouterr().out
    assert text.count("agrees") == 4 and text.count("not available (RuntimeError)") == 2 and "no time" not in text
    assert (
        "Trained 2 of 2 steps" in text and "thresholds calibrated" in text and "Test images (1), means: SSD_F1" in text
    )
    weights = tmp_path / "custom.safetensors"
    pieces = sorted(tmp_path.glob("custom.safetensors.??"))
    assert len(pieces) > 1 and b"".join(piece.read_bytes() for piece in pieces) == weights.read_bytes()
    assert load_weights(weights)[1].thresholds and (tmp_path / "curves.png").is_file()
    # The second call neither times nor trains again.
    monkeypatch.setattr(gpu_run, "time_all", fail)
    before = (tmp_path / "run" / STATE_FILE).read_bytes()
    gpu_run.main([f"--out={tmp_path}", "--minutes=10"])
    assert (tmp_path / "run" / STATE_FILE).read_bytes() == before


def test_more_calls_give_more_steps_but_no_more_than_the_paper(tmp_path):
    options = dimensions.DIMENSIONS[2].train(batch_size=10, epoch_size=1000, nb_epoch=30)
    row = {"states_per_tile": 16, "seconds": 0.5, "drawing": 0.1, "precision": "bf16", "layout": "channels_last"}
    slow = {**row, "seconds": 0.9, "layout": "channels_first", "compile": True}

    def planned(**changed) -> float:
        job = gpu_run.Job(gpu_run.GpuOptions(tmp_path, data=tmp_path, **changed), time.monotonic())
        plan = job.schedule(options, [slow, {**row, "compile": False}])
        assert plan["train"]["layout"] == "channels_last" and not plan["compile"]
        return plan["train"]["nb_epoch"] * plan["train"]["epoch_size"] / 10

    assert planned(minutes=25) == pytest.approx(0.8 * 0.65 * 25 * 60 / 0.5, rel=0.05)
    assert planned(minutes=25, calls=1000) == 3000
    with pytest.raises(UserError, match="no step ran \\(out of memory\\)"):
        job = gpu_run.Job(gpu_run.GpuOptions(tmp_path, data=tmp_path), time.monotonic())
        job.schedule(options, [{**row, "states_per_tile": 8, "failed": "out of memory"}])
