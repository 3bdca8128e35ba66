"""Measure how many work pixels and states training takes in a second, and the parts of a training step.

    python -m benchmarks.training_speed --data data/DRIVE --config configs/DRIVE_cpu.yaml --threads 1
    python -m benchmarks.training_speed --data data/DRIVE --width 16 --batch_size 16 --threads 1 \
        --precision fp32 --against ../older --new_options --layout channels_last

Any option of --mode train may be given. Without --data, a small simulated dataset is made (--ndim 2 or 3).

With --against, the training scripts of this checkout and of another one run in turn, as from the command line, for a
few steps and for --steps more. What the further steps take, in CPU seconds and by the clock, is compared. Give
--precision, so that no run measures which is faster. Options that only this version knows come last, after
--new_options; an older version may need an older interpreter (--python).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.dimensions import DIMENSIONS, prepare_toy_dataset
from lib.errors import UserError
from tools.cli import parse, run
from tools.data.prepared import PreparedDataset
from tools.training.run import make_trainer
from tools.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 3
"""Steps before those that are measured: the first ones compile and allocate."""
PARTS = ("drawing", "augmentation", "network")
Seconds = np.ndarray
"""``(2,)`` seconds by the clock, and of CPU time."""


class StepCosts(NamedTuple):
    """Medians over training steps whose parts run one after the other.

    Attributes
    ----------
    parts
        Seconds by :data:`PARTS`. The network's are those of both passes, losses, optimiser and averaging.
    pixels, states
        Mean numbers of work pixels and states in a step.
    """

    parts: dict[str, Seconds]
    pixels: float
    states: float

    @property
    def clock(self) -> float:
        """Seconds of a step by the clock."""
        return float(sum(seconds[0] for seconds in self.parts.values()))


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
    parser.add_argument("--data", type=Path, help="a folder written by a prepare script")
    parser.add_argument("--config", type=Path, help="YAML file of options of --mode train")
    parser.add_argument(
        "--ndim", type=int, choices=(2, 3), default=2, help="dimensions of the data made without --data"
    )
    parser.add_argument("--steps", type=int, default=10, help="steps that are measured")
    parser.add_argument("--against", type=Path, help="folder of another checkout")
    parser.add_argument("--python", default=sys.executable, help="interpreter for the other checkout")
    parser.add_argument("--repeats", type=int, default=3, help="with --against, runs of each length and checkout")
    parser.add_argument("--new_options", nargs=argparse.REMAINDER, default=[], help="options of this checkout alone")
    given, words = parser.parse_known_args(argv)
    with tempfile.TemporaryDirectory() as name:
        data = (given.data or prepare_toy_dataset(Path(name), given.ndim)).resolve()
        # The file comes first: what is given on the command line takes precedence.
        words = [*([f"--config={given.config.resolve()}"] if given.config else []), f"--data={data}", *words]
        ndim = len(PreparedDataset.load(data).patch_size)
        if given.against:
            sys.stdout.write(compare(given, words, ndim))
        else:
            sys.stdout.write(report(build([*words, *given.new_options], ndim, Path(name) / "run"), given.steps))


def build(words: Sequence[str], ndim: int, folder: Path) -> Trainer:
    """The trainer of a command line; its files go to ``folder``."""
    kind = DIMENSIONS[ndim]
    options = parse(kind.train, words, description=__doc__, presets={each.name: each.train for each in kind.presets})
    return make_trainer(replace(options, run=folder, resume=False), kind.train_spec)


def now(device: torch.device) -> Seconds:
    """The clock and the CPU time of this process, once the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return np.array([time.perf_counter(), time.process_time()])


def step_costs(trainer: Trainer, steps: int) -> StepCosts:
    """Measure the parts of ``steps`` training steps, after :data:`WARM_UP` others."""
    augment, spent, sizes = trainer.augment, defaultdict[str, list[Seconds]](list), []

    def timed(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any) -> Any:
            started = now(trainer.accelerator.device)
            result = call(*args)
            spent[part].append(now(trainer.accelerator.device) - started)
            return result

        return measured

    trainer.augment = timed("augmentation", augment)
    for step in range(WARM_UP + steps):
        batch = timed("drawing", trainer.source.batch)(step)
        timed("step", trainer.step)(step, batch)
        sizes.append((batch.centerline.numel(), len(batch.owner)))
    trainer.augment = augment
    columns = {part: np.array(seconds[WARM_UP:]) for part, seconds in spent.items()}
    columns["network"] = columns["step"] - columns["augmentation"]
    means = np.mean(sizes[WARM_UP:], axis=0).tolist()
    return StepCosts({part: np.median(columns[part], axis=0) for part in PARTS}, *means)


def drawing_ahead(trainer: Trainer, steps: int) -> Seconds:
    """Mean seconds of a step as in training: a thread draws the next batches meanwhile."""
    started = now(trainer.accelerator.device)
    with closing(trainer.draw(range(steps))) as batches:
        for step, batch in enumerate(batches):
            trainer.step(step, batch)
    return (now(trainer.accelerator.device) - started) / steps


def report(trainer: Trainer, steps: int) -> str:
    """A table of the parts of a step, and the speed of training."""
    costs, options = step_costs(trainer, steps), trainer.options
    whole = drawing_ahead(trainer, steps)
    rows = {**costs.parts, "sum": np.sum([*costs.parts.values()], axis=0), "step, drawn ahead": whole}
    return "\n".join([
        f"{options.precision}, {options.layout}, on {options.device}",
        *milliseconds(rows),
        f"{costs.pixels:.0f} work pixels and {costs.states:.0f} states a step, drawn ahead:",
        f"{costs.pixels / whole[0]:14.0f}  work pixels a second",
        f"{costs.states / whole[0]:14.1f}  states a second\n",
    ])  # fmt: skip


def milliseconds(rows: Mapping[str, Seconds]) -> list[str]:
    """Lines of a table of seconds of a step."""
    head = f"{'milliseconds a step':24}{'clock':>10}{'CPU':>10}"
    return [head, *(f"{name:24}{1000 * clock:10.1f}{1000 * cpu:10.1f}" for name, (clock, cpu) in rows.items())]


def compare(given: argparse.Namespace, words: Sequence[str], ndim: int) -> str:
    """Run both checkouts in turn; a table of the seconds of a step, and their ratio."""
    ours = (ROOT, sys.executable, [*words, *given.new_options])
    other = (given.against, given.python, words)
    lengths = (WARM_UP, WARM_UP + given.steps)
    # (repeats, lengths, checkouts, 2)
    seconds = np.array([
        [[child_seconds(*side, ndim, steps) for side in (ours, other)] for steps in lengths]
        for _ in range(given.repeats)
    ])  # fmt: skip
    per_step = (seconds[:, 1] - seconds[:, 0]) / given.steps
    clock, cpu = np.median(per_step[:, 1] / per_step[:, 0], axis=0)
    ours_step, other_step = np.median(per_step, axis=0)
    ratio = f"{'the other / this version':24}{clock:10.2f}{cpu:10.2f}  (medians of {given.repeats} runs)\n"
    return "\n".join([*milliseconds({"this version": ours_step, "the other": other_step}), ratio])


def child_seconds(root: Path, python: str, words: Sequence[str], ndim: int, steps: int) -> Seconds:
    """Seconds that the training script of a checkout takes.

    Raises
    ------
    UserError
        If the script fails.
    """
    with tempfile.TemporaryDirectory() as run:
        # One long epoch, without validation or checkpoints.
        long = f"--epoch_size 10000000 --save_every 1000000 --max_steps {steps} --run {run}"
        command = [python, f"train_{ndim}D.py", "--mode", "train", *words, *long.split()]
        started = _children()
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        seconds = _children() - started
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{root / command[1]} fails, give other options: {reason}")
    return seconds


def _children() -> Seconds:
    """The clock, and the CPU time of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.perf_counter(), used.ru_utime + used.ru_stime])


if __name__ == "__main__":
    run(main)
