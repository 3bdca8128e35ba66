"""A training run from its options: data, sources of batches, network, trainer. The 2D and 3D scripts call this."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from configs.checks import check_train_options
from configs.options import TrainOptions
from lib.devices import choose_device
from lib.errors import UserError
from lib.files import reported, written
from models.checkpoint import WeightsHeader, load_weights
from models.nenet import NENet
from tools.data.augment import to_unit
from tools.data.batch_sources import BatchSource, OnlinePatches, OnlineTiles
from tools.data.batches import Batch
from tools.data.prepared import PreparedDataset
from tools.data.sampling import SampleShape
from tools.data.training_image import TrainingImage
from tools.data.warps import with_warped
from tools.training.trainer import STATE_FILE, Progress, Trainer, TrainingNet

OPTIONS_FILE = "options.json"
MAY_DIFFER = frozenset(
    ("data", "run", "resume", "init", "precision", "device", "threads", "save_every", "log_every", "max_steps")
)
"""Options that a resumed run may be given anew; the others make it another run."""
VALIDATION_SEED = 2025
"""Validation samples are the same in every run, whatever its seed."""
VALIDATION_TILES = 8
"""Tiles in one validation batch."""
_MEASURING = 20.0
"""Seconds after which a precision is not measured once more."""


class Augment(Protocol):
    """Turns a uint8 batch into an augmented float one; ``turn`` asks for flips and quarter turns of its patches."""

    def __call__(self, batch: Batch, generator: torch.Generator, *, turn: bool) -> Batch: ...


@dataclass(frozen=True)
class TrainSpec:
    """What differs between 2D and 3D training.

    Attributes
    ----------
    build
        Network of a width.
    augment
        See :class:`Augment`.
    stacks
        Batches from the stacks of a prepared folder: ``(folder, names, batch_size, seed, patch_size=...)``.
    ndim
        2 or 3.
    border
        Pixels along the rim of a patch in which the search looks for no next node, one per axis.
    """

    build: Callable[[int], NENet]
    augment: Augment
    stacks: Callable[..., BatchSource]
    ndim: int
    border: tuple[int, ...]


def train_run(options: TrainOptions, spec: TrainSpec) -> Progress:
    """Run one training, or what is left of it with ``--resume``. Under torchrun, every process calls this.

    Raises
    ------
    KeyboardInterrupt
        If it was stopped by Ctrl-C or SIGTERM, after saving.
    UserError
        If the options do not fit together, to the data or to the run that is resumed; if the folder already holds a run
        and ``--resume`` is not given; or if a file cannot be read or written.
    """
    device = choose_device(options.device, options.threads)
    check_train_options(options, spec.ndim)
    prepared = PreparedDataset.load(options.data)
    if len(prepared.patch_size) != spec.ndim:
        raise UserError(f"{options.data}: was prepared for {len(prepared.patch_size)}D; use that script")
    check_patch(options.patch_size, prepared.sample_shape, spec.border)
    kept, held = split_images(prepared.images, options.hold_out)
    options = replace(options, device=device, hold_out=list(held))
    before = earlier_run(options)
    processes = PartialState(cpu=device == "cpu")
    train = _training_source(options, prepared, kept, spec)
    validation = _validation_source(options, prepared, held)
    net = start_network(spec.build, options, resumed=before is not None)
    options = replace(options, precision=_precision(options, before, net, train, processes))
    if processes.is_main_process:
        write_options(options)
        _clear_leftovers(options.run)

    def augment(batch: Batch, generator: torch.Generator) -> Batch:
        return spec.augment(batch, generator, turn=options.features == "patch")

    return Trainer(net, _header(net, prepared, options), train, validation, augment, to_unit, options).run()


def report_run(progress: Progress, options: TrainOptions) -> None:
    """Say on stdout what a run has made; of several processes only the first does."""
    if PartialState().is_main_process:
        made = "best and last weights, metrics.csv and curves.png"
        sys.stdout.write(f"{progress.step} steps done; {made} are in {options.run}\n")


# ---- options -------------------------------------------------------------------------------------------------------


def split_images(images: Sequence[str], hold_out: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Images to train on and images held out; without a wish the last tenth (at least one) is held out.

    Raises
    ------
    UserError
        If an image to hold out is not there, or none would be left to train on.
    """
    if unknown := [name for name in hold_out if name not in images]:
        raise UserError(f"--hold_out {unknown[0]}: no such image; there are {', '.join(images)}")
    held = tuple(hold_out) or tuple(images[-max(1, len(images) // 10) :])
    kept = tuple(name for name in images if name not in held)
    if not kept:
        held_out = "the only image is" if len(images) == 1 else f"all {len(images)} images are"
        raise UserError(f"{held_out} held out, none is left to train on; add images, or hold out fewer")
    return kept, held


def check_patch(patch_size: Sequence[int], shape: SampleShape, border: Sequence[int]) -> None:
    """Refuse patches in which the next node, a step from the middle, cannot lie, or only on their ``border``.

    Raises
    ------
    UserError
        If the search would never see it.
    """
    step = shape.step / np.array(shape.spacing or (1.0,) * len(patch_size))
    room = np.array(patch_size) / 2 - step - border
    if np.any(room <= 0):
        axis = int(np.argmin(room))
        needed = f"a step of {step[axis]:.3g} px and a border of {border[axis]} px along {'zyx'[axis - len(step)]}"
        patch = " ".join(map(str, patch_size))
        raise UserError(f"--patch_size {patch}: half of it must be more than {needed}; give a larger one")


def earlier_run(options: TrainOptions) -> Mapping[str, Any] | None:
    """Options of the run in ``options.run`` that is to be resumed; None where there is nothing to resume.

    Raises
    ------
    UserError
        If there is a run but ``--resume`` is not given, or it is given with other options than the run's.
    """
    if not (options.run / STATE_FILE).is_file():
        return None
    if not options.resume:
        raise UserError(f"{options.run}: already holds a run; give --resume to go on with it, or another --run")
    before = _read_options(options.run / OPTIONS_FILE)
    for name, value in _as_json(options).items():
        if name not in MAY_DIFFER and before.get(name, value) != value:
            found = f"is {_shown(value)}, but {options.run} was started with {_shown(before[name])}"
            raise UserError(f"--{name} {found}; give the same to --resume")
    return before


def _read_options(path: Path) -> Mapping[str, Any]:
    """What :func:`write_options` wrote; nothing where it is gone."""
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not understood ({error}); delete it to resume without comparing options") from None


def _as_json(options: TrainOptions) -> dict[str, Any]:
    """Options as they look after writing and reading."""
    return json.loads(json.dumps(asdict(options), default=str))


def _shown(value: Any) -> str:
    """An option's value as one would type it."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def write_options(options: TrainOptions) -> None:
    """Keep the run's options beside its checkpoints.

    Raises
    ------
    UserError
        If they cannot be written.
    """
    path = options.run / OPTIONS_FILE
    with written(path) as temporary:
        temporary.write_text(json.dumps(_as_json(options), indent=2) + "\n")


def _clear_leftovers(folder: Path) -> None:
    """Delete the temporary files of a run that was killed while writing."""
    for leftover in folder.glob(".*.tmp*"):
        with reported(leftover):
            leftover.unlink()


# ---- network and precision -----------------------------------------------------------------------------------------


def start_network(build: Callable[[int], NENet], options: TrainOptions, *, resumed: bool = False) -> NENet:
    """A fresh network from the seed, or the weights of ``--init`` (which a resumed run needs no more).

    Raises
    ------
    UserError
        If those weights cannot be read or are of another network.
    """
    if options.init is None or resumed:
        torch.manual_seed(options.seed)
        return build(options.width)
    with torch.device("meta"):
        wanted = build(options.width)
    net, header = load_weights(options.init, ndim=wanted.ndim)
    if header.width != options.width:
        raise UserError(f"{options.init}: width {header.width}, but --width is {options.width}; give the same")
    if header.in_channels != wanted.in_channels:
        raise UserError(f"{options.init}: for {header.in_channels} channels, {wanted.in_channels} wanted; give others")
    return net.train()


def _precision(
    options: TrainOptions, before: Mapping[str, Any] | None, net: NENet, train: BatchSource, processes: PartialState
) -> str:
    """Precision to train in. A resumed run keeps its own: measured anew, it might come out otherwise."""
    if options.precision != "auto":
        return options.precision
    if before and "precision" in before:
        return before["precision"]
    batch = train.batch(0, processes.process_index, processes.num_processes)
    measured = [faster_precision(net, to_unit(batch), processes.device)]
    return broadcast_object_list(measured)[0]


def faster_precision(net: NENet, batch: Batch, device: torch.device, *, repeats: int = 3) -> str:
    """``bf16`` or ``fp32``, whichever runs a training step of this network on this device faster, measured now."""
    # A copy, because a step moves the batch-norm statistics.
    model, batch = TrainingNet(deepcopy(net)).to(device), batch.to(device)
    seconds = {}
    for precision in ("fp32", "bf16"):
        times: list[float] = []
        while len(times) < repeats and sum(times) < _MEASURING:
            times.append(_timed_step(model, batch, device, bf16=precision == "bf16"))
        seconds[precision] = min(times)
    return min(seconds, key=seconds.__getitem__)


def _timed_step(model: TrainingNet, batch: Batch, device: torch.device, *, bf16: bool) -> float:
    """Seconds of one forward and backward pass."""
    started = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        maps = model(batch.image, batch.owner, batch.corner, batch.walk)
    sum(logits.float().mean() for logits in maps).backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


# ---- batches -------------------------------------------------------------------------------------------------------


def _training_images(options: TrainOptions, prepared: PreparedDataset, names: Sequence[str]) -> list[TrainingImage]:
    """Scenes to draw from; refused if no state could ever be drawn."""
    training_images = prepared.training_images(options.data, names)
    if not any(len(training_image.walks.sites) for training_image in training_images):
        found = f"no branch in {', '.join(names)} is long enough for a walk"
        raise UserError(f"{options.data}: {found}; choose others to --hold_out, or prepare with a smaller --margin")
    return training_images


def _training_source(
    options: TrainOptions, prepared: PreparedDataset, names: Sequence[str], spec: TrainSpec
) -> BatchSource:
    """Batches as ``--sampling`` and ``--features`` say."""
    if options.sampling == "stacks":
        return spec.stacks(options.data, names, options.batch_size, options.seed, patch_size=options.patch_size)
    training_images = with_warped(
        _training_images(options, prepared, names), options.warps, options.warp_scale, options.seed
    )
    steps = math.ceil(options.epoch_size / options.batch_size)
    if options.features == "patch":
        return OnlinePatches(training_images, steps, options.batch_size, options.patch_size, options.seed)
    return OnlineTiles(
        training_images,
        steps_per_epoch=steps,
        tiles=math.ceil(options.batch_size / options.states_per_tile),
        states_per_tile=options.states_per_tile,
        tile_shape=options.tile_size,
        patch_shape=options.patch_size,
        seed=options.seed,
        background=options.background,
    )


def _validation_source(options: TrainOptions, prepared: PreparedDataset, names: Sequence[str]) -> BatchSource:
    """The same tiles of the held-out images for every way of training, so that runs can be compared."""
    per_batch = VALIDATION_TILES * options.states_per_tile
    return OnlineTiles(
        _training_images(options, prepared, names),
        steps_per_epoch=math.ceil(options.validation_size / per_batch),
        tiles=VALIDATION_TILES,
        states_per_tile=options.states_per_tile,
        tile_shape=options.tile_size,
        patch_shape=options.patch_size,
        seed=VALIDATION_SEED,
        turn=False,
    )


def _header(net: NENet, prepared: PreparedDataset, options: TrainOptions) -> WeightsHeader:
    """What the run's weight files say of themselves."""
    return WeightsHeader(
        ndim=net.ndim,
        in_channels=net.in_channels,
        width=net.width,
        dataset=options.dataset,
        scale=prepared.scale,
        swc_origin=prepared.swc_origin,
        patch_size=tuple(options.patch_size),
        step=prepared.sample_shape.step,
        r=options.r,
        features=options.features,
        spacing=prepared.spacing,
        white=prepared.white,
        training=_as_json(options) | {"images": list(prepared.images)},
    )
