"""Check, time, train, calibrate and score on a rented GPU, with one command.

    python -m benchmarks.gpu_run --data $DATASETS --dataset DRIVE --minutes 25 --out out/gpu_drive

The same command again goes on with the training, then calibrates and traces again. Without --data, a small simulated
dataset is made; without a GPU, all runs on the CPU. <out> then holds table.md, curves.png, scores.json, the weights in
half precision, whole and in pieces below 16 MB, and the traces of the test images.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

import evaluate
from benchmarks.dimensions import DIMENSIONS, prepare_folder, write_toy_dataset
from benchmarks.training_speed import step_costs
from configs.options import TrainOptions
from lib.errors import UserError, counted
from lib.files import atomic_write, make_folder, write_json
from lib.klib.contrast import with_local_contrast, without_local_contrast
from models.checkpoint import load_weights
from models.nenet import NENet
from tools import calibrate
from tools.cli import parse, run
from tools.data.augment import to_unit
from tools.data.batch_sources import OnlineTiles
from tools.data.batches import Batch
from tools.data.folders import IMAGE_FOLDERS
from tools.data.prepared import DATASET_FILE
from tools.inference.encoded_image import Tips
from tools.inference.predictor import Predictor
from tools.tracing.by_dimension import DIMENSIONS as TRACING
from tools.tracing.run import trace_files
from tools.training.arithmetic import LAYOUTS, PRECISIONS
from tools.training.log import CURVES_FILE
from tools.training.run import make_trainer
from tools.training.trainer import LAST_FILE, Trainer, TrainingNet, losses

TIMING_SHARE, END_SHARE = 0.2, 0.35
"""Shares of the minutes for timing, and for calibration, tracing and scoring."""
SPARE = 0.8
"""Share of the time for training that the planned steps take; validation and checkpoints need the rest."""
STATES_PER_TILE = (8, 16, 32)
PIECE = 15 << 20
"""Bytes of a piece of the weights."""
TOLERANCES = {"losses": 1e-4, "gradients": 1e-2, "maps, float32": 1e-3, "maps, as users run it": 0.05}
"""Relative errors of the losses, and of all gradients together, in float32 against float64 on the CPU; and differences
of probabilities against the CPU. As users run it, a GPU may round the factors of convolutions (TF32)."""


@dataclass(frozen=True)
class GpuOptions:
    """Check, time, train, calibrate and score with one command."""

    out: Path
    """Folder for the results; an earlier call of this command is continued there."""
    data: Path | None = None
    """Folder with the input, as for the prepare scripts: <dataset>/training and <dataset>/test, or training and test
    directly. Without it, a small simulated dataset is made."""
    dataset: str = "custom"
    """Name of a known dataset, which sets other defaults, or any name for your own data."""
    ndim: Literal[2, 3] = 2
    """2 for images, 3 for volumes."""
    minutes: float = 25.0
    """Minutes that the command may take."""
    calls: int = 1
    """Number of calls of this length, with the same --out, in which the whole training is to fit. It is never longer
    than the paper's."""
    width: int | None = None
    """Channels at full resolution; by default the paper's: 64, in 3D 32."""


def main(argv: list[str] | None = None) -> None:
    """Run everything that the time allows, and write the results."""
    job = Job(parse(GpuOptions, argv, description=__doc__), time.monotonic())
    job.plan()
    job.train()
    job.calibrate()
    job.score()
    job.write()


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Interrupt the block after some seconds as Ctrl-C does; a training run then saves itself.

    Raises
    ------
    TimeoutError
        If the block was interrupted.
    """
    expired = []

    def interrupt(*_: object) -> None:
        # Python drops exceptions in destructors, so it is repeated, but not where a run is saving itself.
        if not expired or signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            expired.append(True)
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGALRM, interrupt)
    # A command in the background of a script inherits that Ctrl-C is ignored.
    ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), 1.0)
    try:
        yield
    except (KeyboardInterrupt, SystemError):  # Compiled code turns the one into the other.
        if not expired:
            raise
        raise TimeoutError from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.signal(signal.SIGINT, ctrl_c)


class Job:
    """The stages of the command. What they find is kept in ``plan.json``, for the next call and for the table."""

    def __init__(self, options: GpuOptions, started: float) -> None:
        make_folder(options.out)
        self.options, self.kind, self.out = options, DIMENSIONS[options.ndim], options.out
        self.end, self.ends = started + 60 * options.minutes, END_SHARE * 60 * options.minutes
        self.data = options.data or self.out / "images"
        if not options.data and not self.data.is_dir():
            write_toy_dataset(self.data, options.ndim)
        preset = next((each for each in self.kind.presets if each.name.lower() == options.dataset.lower()), None)
        self.dataset = preset.name if preset else options.dataset
        self.presets = (preset.prepare, preset.train) if preset else ({}, {})
        self.weights = self.out / f"{self.dataset}.safetensors"
        stored = self.out / "plan.json"
        self.found: dict[str, Any] = json.loads(stored.read_text()) if stored.is_file() else {}

    @property
    def left(self) -> float:
        """Seconds left of the command's minutes."""
        return self.end - time.monotonic()

    def begin(self, stage: str) -> None:
        """Keep what is known, and name the stage that begins."""
        write_json(self.out / "plan.json", self.found)
        sys.stderr.write(f"{stage} ({self.left / 60:.1f} minutes left) ...\n")

    def train_options(self) -> TrainOptions:
        """Options of the training run; those that were planned take precedence."""
        chosen = {"dataset": self.dataset, "data": self.out / "data", "run": self.out / "run", **self.presets[1]}
        chosen |= {} if self.options.data else self.kind.toy_train
        chosen |= {"width": self.options.width} if self.options.width else {}
        return self.kind.train(**chosen | self.found.get("train", {}), resume=True)

    def plan(self) -> None:
        """Prepare the data, check the device, time training and plan its schedule, unless an earlier call did."""
        if not (self.out / "data" / DATASET_FILE).is_file():
            self.begin("preparing the training images")
            prepare_folder(self.data, self.out / "data", self.options.ndim, self.dataset, self.presets[0])
        if "train" in self.found:
            return
        options = replace(self.train_options(), precision="fp32", layout="channels_first")
        trainer = make_trainer(options, self.kind.train_spec)
        self.begin(f"comparing {trainer.options.device} with the CPU")
        net = self.kind.train_spec.build(8 // self.options.ndim, options.stem, 0, 0.0)
        checks = check_step(trainer, net) | check_maps(trainer, self.kind.shipped)
        self.begin(f"timing width {options.width}")
        timing = time_all(trainer, 60 * self.options.minutes * TIMING_SHARE)
        self.found = {"checks": checks, "timing": timing, "minutes": 0.0, **self.schedule(options, timing)}

    def schedule(self, options: TrainOptions, timing: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The fastest arithmetic, and as many steps as there is time for.

        States per tile stay as the options say: with more of them a batch shows fewer tiles, so speed is not all.
        """
        usable = [row for row in timing if "seconds" in row and row["states_per_tile"] == options.states_per_tile]
        if not usable:
            failed = timing[0].get("failed", "no time")
            raise UserError(f"--width {options.width}: no step ran ({failed}); give a smaller one, or more --minutes")
        best = min(usable, key=lambda row: row["seconds"])
        seconds = SPARE * self.options.calls * (self.left - self.ends)
        paper = options.nb_epoch * math.ceil(options.epoch_size / options.batch_size)
        steps = min(paper, max(1, int(seconds / max(best["seconds"], best["drawing"]))))
        epochs = max(1, min(options.nb_epoch, steps // 20))
        per_epoch = math.ceil(steps / epochs)
        chosen = {name: best[name] for name in ("precision", "layout")}
        chosen |= {"nb_epoch": epochs, "epoch_size": per_epoch * options.batch_size}
        chosen |= {"warmup": min(150, steps // 10), "log_every": min(50, per_epoch)}
        return {"train": chosen, "compile": best["compile"]}

    def train(self) -> None:
        """Train until the schedule or the time ends."""
        trainer = make_trainer(self.train_options(), self.kind.train_spec)
        if self.found["compile"]:
            torch.compiler.reset()
            trainer.model.compile()
        self.begin(f"training, {trainer.total} steps in all")
        started = time.monotonic()
        with suppress(TimeoutError), at_most(self.left - self.ends):
            trainer.run()
        self.found["minutes"] += (time.monotonic() - started) / 60
        self.found["steps"] = f"{trainer.progress.step} of {trainer.total}"

    def calibrate(self) -> None:
        """Write the weight file, calibrated if there is time.

        Raises
        ------
        UserError
            If no step was trained.
        """
        last = self.out / "run" / LAST_FILE
        if not last.is_file():
            raise UserError(f"--minutes {self.options.minutes:g}: the time was up before the first step; give more")
        self.begin("calibrating")
        words = [f"--weights={last}", f"--data={self.out / 'data'}", f"--out={self.weights}"]
        self.found["calibrated"] = "thresholds calibrated"
        try:
            with at_most(0.75 * self.left):
                calibrate.main(words)
        except TimeoutError:
            shutil.copy(last, self.weights)
            self.found["calibrated"] = "no time to calibrate the thresholds"

    def score(self) -> None:
        """Trace the test images, as many as there is time for, and score the traces."""
        self.found["scores"] = {}
        roots = [self.data / name / "test" for name in (self.dataset.upper(), self.dataset, ".")]
        folders = [root / name for root in roots for name in IMAGE_FOLDERS if (root / name).is_dir()]
        if not folders:
            return
        self.begin("tracing the test images")
        gold, traces, kind = folders[0].parent / "swc", self.out / "traces", TRACING[self.options.ndim]
        shutil.rmtree(traces, ignore_errors=True)  # Those of an earlier call.
        files = kind.run(weights=self.weights, images=folders[0], out=traces, swc_shift=None)
        with suppress(TimeoutError), at_most(0.9 * self.left):
            for traced in trace_files(kind.build(files), files):
                sys.stderr.write(f"{traced.line}\n")
        if gold.is_dir() and any(traces.glob("*.swc")):
            evaluate.main([str(gold), str(traces), "--json", str(self.out / "scores.json")])
            self.found["scores"] = json.loads((self.out / "scores.json").read_text())

    def write(self) -> None:
        """Write the pieces of the weights, the curves and the table."""
        pieces = counted(split(self.weights), "piece")
        self.begin("writing the table")
        with suppress(FileNotFoundError):  # Nothing was logged yet.
            shutil.copy(self.out / "run" / CURVES_FILE, self.out)
        name, text = self.weights.name, table(self.found, self.train_options())
        text += f"\n{name} is also there in {pieces}, joined by `cat {name}.?? > {name}`.\n"
        with atomic_write(self.out / "table.md") as temporary:
            temporary.write_text(text)
        sys.stdout.write(f"{text}written: {self.out / 'table.md'}\n")


def tiles_of(trainer: Trainer, **changed: int) -> OnlineTiles:
    """The trainer's source of batches, with other numbers of tiles or states."""
    assert isinstance(trainer.source, OnlineTiles)
    return replace(trainer.source, **changed)


def check_step(trainer: Trainer, net: NENet) -> dict[str, float]:
    """Errors of the losses and gradients of one batch: float32 on the device against float64 on the CPU."""
    batch, device = to_unit(tiles_of(trainer, tiles=1, states_per_tile=2).batch(0)), trainer.accelerator.device
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        terms, gradients = _gradients(deepcopy(net).double(), batch, trainer.options)
        found_terms, found = _gradients(deepcopy(net).to(device), batch.to(device), trainer.options)
    return {
        "losses": float((found_terms / terms - 1).abs().max()),
        "gradients": float((found - gradients).norm() / gradients.norm()),
    }


def _gradients(net: NENet, batch: Batch, options: TrainOptions) -> tuple[Tensor, Tensor]:
    """The terms of the loss, and all gradients in a row, in float64 on the CPU."""
    model, kind = TrainingNet(net), next(net.parameters()).dtype
    terms = losses(model(batch.image.to(kind), batch.owner, batch.corner, batch.walk), batch, options)
    reduce(torch.add, terms.values()).backward()
    gradients = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
    return torch.stack([*terms.values()]).detach().double().cpu(), torch.cat(gradients).double().cpu()


def check_maps(trainer: Trainer, shipped: str) -> dict[str, float]:
    """Largest differences of a predictor's maps, with shipped weights, between the device and the CPU."""
    net, header = load_weights(Path(shipped))
    image = tiles_of(trainer, tiles=1).batch(0).image[0]
    photograph = without_local_contrast(np.moveaxis(image.numpy(), 0, -1) / np.float32(255))
    pixels = with_local_contrast(photograph, header.local_contrast)
    tip, unwalked = np.array([pixels.shape[:-1]]) / 2, np.full((1, 1, 2, net.ndim), np.nan)

    def maps(device: str) -> np.ndarray:
        predictor = Predictor(deepcopy(net), header.patch_size, device=device)
        image = predictor.encode(pixels)
        found = image.centerline, *predictor.predict(Tips(image, tip, unwalked))[:2]
        return np.concatenate([each.ravel() for each in found])

    device, exact = trainer.accelerator.device.type, maps("cpu")
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        strict = maps(device)
    found = {"maps, float32": strict, "maps, as users run it": maps(device)}
    return {name: float(np.abs(values - exact).max()) for name, values in found.items()}


def time_all(trainer: Trainer, seconds: float) -> list[dict[str, Any]]:
    """Time every combination of layout, precision, compilation and states per tile, until the time is up.

    Those without compilation come first, because each compilation takes up to a minute.
    """
    own = trainer.options.states_per_tile
    counts = [own, *(count for count in STATES_PER_TILE if count != own)]
    names = ("compile", "states_per_tile", "precision", "layout")
    values = itertools.product((False, True), counts, PRECISIONS, LAYOUTS)
    rows: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in values]
    with suppress(TimeoutError), at_most(seconds):
        for row in rows:
            row |= time_one(trainer, **row)
    return rows


def time_one(trainer: Trainer, *, compile: bool, states_per_tile: int, precision: Any, layout: Any) -> dict[str, Any]:
    """Seconds of a step and of drawing its batch, with a copy of the network, or why it does not run."""
    options = replace(trainer.options, precision=precision, layout=layout, states_per_tile=states_per_tile)
    tiles = math.ceil(options.batch_size / states_per_tile)
    source = tiles_of(trainer, tiles=tiles, states_per_tile=states_per_tile)
    parts = source, trainer.validation, trainer.augment, trainer.plain, options
    torch.compiler.reset()  # It would stop compiling at the eighth network.
    try:
        copy = Trainer(deepcopy(trainer.net), trainer.header, *parts)
        if compile:
            copy.model.compile()
        costs = step_costs(copy, 3)
    except SystemError:  # The time is up, see at_most.
        raise
    except torch.OutOfMemoryError:
        return {"failed": "out of memory"}
    except Exception as error:  # Compilers raise errors of many kinds.
        return {"failed": f"not available ({type(error).__name__})"}
    drawing = float(costs.parts["drawing"][0])
    return {"seconds": costs.clock - drawing, "drawing": drawing, "pixels": costs.pixels, "states": costs.states}


def split(path: Path) -> int:
    """Write a file again in pieces ``<name>.00``, ``.01``, ...; returns their number."""
    for old in path.parent.glob(f"{path.name}.??"):
        old.unlink()
    whole = path.read_bytes()
    pieces = [whole[first : first + PIECE] for first in range(0, len(whole), PIECE)]
    for number, piece in enumerate(pieces):
        path.with_name(f"{path.name}.{number:02}").write_bytes(piece)
    return len(pieces)


def table(found: Mapping[str, Any], options: TrainOptions) -> str:
    """All that was found, as Markdown."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"
    lines = [f"# {options.dataset}, width {options.width}, on {device}, torch {torch.__version__}", ""]
    lines += ["| compared with the CPU | error | tolerance | |", "| --- " * 4 + "|"]
    for name, error in found["checks"].items():
        most = TOLERANCES[name]
        lines.append(f"| {name} | {error:.1e} | {most:g} | {'agrees' if error <= most else '**differs**'} |")
    lines += ["", "| states per tile | precision | layout | compiled | ms a step | ms drawing | Mpx/s | states/s |"]
    lines += ["| --- " * 8 + "|", *map(timing_line, found["timing"]), ""]
    arithmetic = f"{options.precision}, {options.layout}, {'' if found['compile'] else 'not '}compiled"
    lines += [
        f"Trained {found['steps']} steps in {found['minutes']:.1f} minutes, {arithmetic}; {found['calibrated']}.",
        "",
    ]
    scores = found["scores"]
    means = calibrate.listed({name: scores["mean"][name] for name in calibrate.SHOWN}) if scores else "not scored"
    return "\n".join([*lines, f"Test images ({len(scores.get('cases', ()))}), means: {means}."]) + "\n"


def timing_line(row: Mapping[str, Any]) -> str:
    """A row of the table of times. A step is given without drawing, which a thread does meanwhile."""
    cells = [str(row["states_per_tile"]), row["precision"], row["layout"], "yes" if row["compile"] else "no"]
    if seconds := row.get("seconds"):
        speeds = (1e3 * seconds, 1e3 * row["drawing"], row["pixels"] / seconds / 1e6, row["states"] / seconds)
        cells += [f"{speed:.3g}" for speed in speeds]
    else:
        cells += [row.get("failed", "no time"), "", "", ""]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run(main)
