"""A training run from its options: data, batches, network and trainer. The 2D and 3D scripts call this."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import PartialState

from configs.checks import check_train_options, shown
from configs.options import TrainOptions
from lib.devices import choose_device
from lib.errors import UserError, counted
from lib.files import reporting_write_errors, write_json
from lib.klib.contrast import channels_seen
from models.checkpoint import WeightsHeader, load_weights
from models.nenet import NENet
from tools.data.augment import to_unit
from tools.data.batch_sources import BatchSource, OnlinePatches, OnlineTiles
from tools.data.batches import Batch
from tools.data.prepared import PreparedDataset
from tools.data.sampling import SampleShape
from tools.data.training_image import TrainingImage
from tools.data.warps import with_warped_copies
from tools.training.arithmetic import fastest_arithmetic
from tools.training.log import CURVES_FILE, METRICS_FILE
from tools.training.trainer import BEST_FILE, LAST_FILE, STATE_FILE, Progress, Trainer

OPTIONS_FILE = "options.json"
MAY_DIFFER = frozenset(
    "data run resume init precision layout device threads save_every log_every max_steps".split()  # noqa: SIM905
)
"""Options that may change when a run is resumed."""
_NOT_TAKEN = frozenset(("run", "resume", "device", "max_steps"))
"""Options that ``--resume`` does not take from the earlier command: the folder may have moved, the machine may be
another, and a run that was stopped early goes on to its end."""
VALIDATION_SEED = 2025
"""Random seed of the validation samples, the same for all runs so that they can be compared."""
VALIDATION_TILES = 8
"""Number of tiles in a validation batch."""

_log = logging.getLogger(__name__)


class Augment(Protocol):
    """Turns a uint8 batch into an augmented float one; with ``turn``, patches are also flipped and turned by 90°."""

    def __call__(self, batch: Batch, generator: torch.Generator, *, turn: bool) -> Batch: ...


@dataclass(frozen=True)
class TrainSpec:
    """What differs between 2D and 3D training.

    Attributes
    ----------
    build
        Builds a network of the given width, stem, number of kinds and window of local contrast.
    augment
        See :class:`Augment`.
    stacks
        Opens the stored patches of a prepared folder: ``(folder, names, batch_size, seed, patch_size=...)``.
    ndim
        2 or 3.
    border
        ``(ndim,)`` width in pixels of the rim of a patch in which tracing finds no next node.
    """

    build: Callable[[int, Sequence[int], int, float], NENet]
    augment: Augment
    stacks: Callable[..., BatchSource]
    ndim: int
    border: tuple[int, ...]


def train_run(options: TrainOptions, spec: TrainSpec) -> Progress:
    """Train a network, or continue a run with ``--resume``. Under torchrun, every process calls this.

    Returns
    -------
    Progress
        The progress at the end.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C or SIGTERM stopped the run, after saving.
    UserError
        If options contradict each other, the data or the run to resume; if the folder already holds a run and
        ``--resume`` is not given; if a file cannot be read or written; or if a step does not fit into the GPU's memory.
    """
    return make_trainer(options, spec).run()


def make_trainer(options: TrainOptions, spec: TrainSpec) -> Trainer:
    """Load the data and build the network of a run; raises as :func:`train_run`."""
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
    net = start_network(spec.build, options, prepared, resumed=before is not None)
    arithmetic = {name: getattr(options, name) for name in ("precision", "layout")}
    if before:
        # A resumed run keeps its own, because another measurement might differ.
        arithmetic |= {name: before.get(name, value) for name, value in arithmetic.items() if value == "auto"}
    if "auto" in arithmetic.values():
        _announce("measuring which precision and layout are fastest")
        batch = train.batch(0, processes.process_index, processes.num_processes)
        arithmetic = fastest_arithmetic(net, to_unit(batch), torch.device(processes.device or "cpu"), **arithmetic)
    options = replace(options, **arithmetic)
    if processes.is_main_process:
        write_options(options)
        _clear_leftovers(options.run)

    chosen = f"{options.precision}, {options.layout}, on {device}"
    _announce(f"training in {chosen}; the first step takes longer than the others")
    augment = partial(spec.augment, turn=options.features == "patch")
    return Trainer(net, _header(net, prepared, options), train, validation, augment, to_unit, options)


def train_command(options: TrainOptions, spec: TrainSpec) -> int:
    """Run ``--mode train``: report the stages on stderr, train, and name the files written on stdout.

    Returns
    -------
    int
        The exit code, 0.

    Raises
    ------
    KeyboardInterrupt, UserError
        As in :func:`train_run`.
    """
    logging.basicConfig(format="%(message)s")
    _log.setLevel(logging.INFO)
    report_run(train_run(options, spec), options.run)
    return 0


def report_run(progress: Progress, folder: Path) -> None:
    """Write on stdout how many steps are done and which files the run's folder holds; only on the main process."""
    names = (BEST_FILE, LAST_FILE, METRICS_FILE, CURVES_FILE)
    if PartialState().is_main_process:
        *others, last = [name for name in names if (folder / name).is_file()] or ["no file"]
        listed = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        sys.stdout.write(f"{counted(progress.step, 'step')} done; {listed} in {folder}\n")
        if (folder / LAST_FILE).is_file():
            sys.stdout.write(f"next: python -m tools.calibrate --weights {folder / LAST_FILE}, with --data and --out\n")


def _announce(stage: str) -> None:
    """Log the stage that begins, on the main process."""
    if PartialState().is_main_process:
        _log.info("%s ...", stage)


# ---- options -------------------------------------------------------------------------------------------------------


def split_images(images: Sequence[str], hold_out: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide the images into those to train on and those held out.

    Parameters
    ----------
    images
        Names of all images.
    hold_out
        Names of images to hold out; if empty, the last tenth of ``images``, at least one.

    Returns
    -------
    kept, held
        Names to train on, and names held out.

    Raises
    ------
    UserError
        If an image to hold out does not exist, or no image is left to train on.
    """
    if unknown := [name for name in hold_out if name not in images]:
        raise UserError(f"--hold_out {unknown[0]}: no such image; there are {', '.join(images)}")
    held = tuple(hold_out) or tuple(images[-max(1, len(images) // 10) :])
    kept = tuple(name for name in images if name not in held)
    if not kept:
        subject = "the only image is" if len(images) == 1 else f"all {len(images)} images are"
        raise UserError(f"{subject} held out, none is left to train on; add images, or hold out fewer")
    return kept, held


def check_patch(patch_size: Sequence[int], shape: SampleShape, border: Sequence[int]) -> None:
    """Refuse patches so small that the next node, one step from the centre, lies outside or in the border.

    Parameters
    ----------
    patch_size
        ``(ndim,)`` in work pixels.
    shape
        Step between nodes and pixel spacing of the samples.
    border
        ``(ndim,)`` width in pixels of the rim in which tracing finds no next node.

    Raises
    ------
    UserError
        If tracing could not find the next node along some axis.
    """
    step = shape.step / np.array(shape.spacing or (1.0,) * len(patch_size))
    room = np.array(patch_size) / 2 - step - border
    if np.any(room <= 0):
        axis = int(np.argmin(room))
        needed = f"a step of {step[axis]:.3g} px and a border of {border[axis]} px along {'zyx'[axis - len(step)]}"
        raise UserError(f"--patch_size {shown(patch_size)}: half of it must be more than {needed}; give a larger one")


def earlier_run(options: TrainOptions) -> Mapping[str, Any] | None:
    """Options of the run to resume; None if ``options.run`` holds no run.

    Raises
    ------
    UserError
        If there is a run but ``--resume`` is not given, or other options than :data:`MAY_DIFFER` differ.
    """
    if not (options.run / STATE_FILE).is_file():
        return None
    if not options.resume:
        raise UserError(f"{options.run}: already holds a run; give --resume to go on with it, or another --run")
    before = _read_options(options.run / OPTIONS_FILE)
    now = {name: value for name, value in _as_json(options).items() if name not in MAY_DIFFER}
    differing = {name: value for name, value in now.items() if before.get(name, value) != value}
    if differing:
        found = f"was started with {_shown({name: before[name] for name in differing})}, not {_shown(differing)}"
        raise UserError(f"{options.run}: {found}; leave these out, --resume takes them from the run")
    return before


def stored_words(given: Any) -> list[str]:
    """Arguments with the options of the run that ``--resume`` goes on with; none for a new run or another mode.

    Raises
    ------
    UserError
        If the run's options cannot be read.
    """
    if not getattr(given, "resume", False):
        return []
    path = given.run / OPTIONS_FILE
    if not path.is_file() and given.data == TrainOptions.data:
        raise UserError(f"{given.run}: holds no run to go on with; give its folder, or --data to begin one there")
    stored = _read_options(path)
    names = [field.name for field in fields(TrainOptions) if field.name in stored and field.name not in _NOT_TAKEN]
    texts = {name: v if isinstance(v := stored[name], str) else json.dumps(v) for name in names}
    return [f"--{name}={text}" for name, text in texts.items()]


def _read_options(path: Path) -> Mapping[str, Any]:
    """Options written by :func:`write_options`; empty if the file does not exist."""
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not valid ({error}); delete it to resume without comparing options") from None


def _as_json(options: TrainOptions) -> dict[str, Any]:
    """Options as JSON values."""
    return json.loads(json.dumps(asdict(options), default=str))


def _shown(options: Mapping[str, Any]) -> str:
    """Options as they are typed on the command line."""
    return " ".join(f"--{name} {shown(value)}" for name, value in options.items())


def write_options(options: TrainOptions) -> None:
    """Write the run's options to options.json in its folder.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    write_json(options.run / OPTIONS_FILE, asdict(options))


def _clear_leftovers(folder: Path) -> None:
    """Delete the temporary files of a run that was killed while writing."""
    for leftover in folder.glob(".*.tmp*"):
        with reporting_write_errors(leftover):
            leftover.unlink()


# ---- network -------------------------------------------------------------------------------------------------------


def start_network(
    build: Callable[[int, Sequence[int], int, float], NENet],
    options: TrainOptions,
    prepared: PreparedDataset,
    *,
    resumed: bool = False,
) -> NENet:
    """A network with random weights, or with those of ``--init``, which a resumed run does not need.

    Kinds of tube and local contrast are those of the data. Weights that never saw local contrast give it no weight at
    first, so the network begins as what they are.

    Raises
    ------
    UserError
        If the weights cannot be read or belong to a network of another shape.
    """
    torch.manual_seed(options.seed)
    expected = build(options.width, options.stem, prepared.kinds, prepared.local_contrast)
    if options.init is None or resumed:
        return expected
    net, header = load_weights(options.init, ndim=expected.ndim)
    if header.width != options.width:
        raise UserError(f"{options.init}: width {header.width}, but --width is {options.width}; give the same")
    if net.stem != expected.stem:
        raise UserError(f"{options.init}: its stem is {net.stem}, not {expected.stem}; give the same as --stem")
    if header.local_contrast:
        prepared.check_local_contrast(options.init, header.local_contrast)
    unseen = 0.0 if header.local_contrast else prepared.local_contrast
    if channels_seen(header.in_channels, unseen) != expected.in_channels:
        raise UserError(f"{options.init}: for {header.in_channels} channels, not {expected.in_channels}; give others")
    shared = net.state_dict()
    if net.kinds != expected.kinds:  # The head of the kinds is trained anew, or left out.
        shared = {name: tensor for name, tensor in shared.items() if not name.startswith("kind_head.")}
    if unseen:  # Local contrast comes after the channels of the image.
        name = "first.conv1.weight"
        shared[name] = torch.cat([shared[name], torch.zeros_like(shared[name])], dim=1)
    expected.load_state_dict(shared, strict=net.kinds == expected.kinds)
    return expected.train()


# ---- batches -------------------------------------------------------------------------------------------------------


def _training_images(options: TrainOptions, prepared: PreparedDataset, names: Sequence[str]) -> list[TrainingImage]:
    """Load training images; refused if none has a branch long enough for a sample."""
    images = prepared.training_images(options.data, names)
    if not any(len(image.walks.sites) for image in images):
        found = f"no branch in {', '.join(names)} is long enough for a walk"
        raise UserError(f"{options.data}: {found}; choose others to --hold_out, or prepare with a smaller --margin")
    return images


def _training_source(
    options: TrainOptions, prepared: PreparedDataset, names: Sequence[str], spec: TrainSpec
) -> BatchSource:
    """Source of training batches for ``--sampling`` and ``--features``."""
    if options.sampling == "stacks":
        _announce(f"opening the patches of {len(names)} training images")
        return spec.stacks(options.data, names, options.batch_size, options.seed, patch_size=options.patch_size)
    _announce(f"loading {len(names)} training images")
    images = _training_images(options, prepared, names)
    if options.warps:
        _announce(f"making {options.warps} turned and resized copies of each training image")
    images = with_warped_copies(images, options.warps, options.warp_scale, options.seed)
    steps = math.ceil(options.epoch_size / options.batch_size)
    if options.features == "patch":
        return OnlinePatches(images, steps, options.batch_size, options.patch_size, options.seed)
    return _tiles(options, images, steps, math.ceil(options.batch_size / options.states_per_tile), options.seed)


def _validation_source(options: TrainOptions, prepared: PreparedDataset, names: Sequence[str]) -> BatchSource:
    """Source of validation batches: tiles of the held-out images, whatever ``--features`` is, so that runs compare."""
    _announce(f"loading {len(names)} held-out images")
    per_batch = VALIDATION_TILES * options.states_per_tile
    images, steps = _training_images(options, prepared, names), math.ceil(options.validation_size / per_batch)
    return replace(_tiles(options, images, steps, VALIDATION_TILES, VALIDATION_SEED), turn=False, background=0.0)


def _tiles(options: TrainOptions, images: Sequence[TrainingImage], steps: int, tiles: int, seed: int) -> OnlineTiles:
    """Tiles as the options say, ``tiles`` in a batch and ``steps`` batches in an epoch."""
    return OnlineTiles(
        images,
        steps_per_epoch=steps,
        tiles=tiles,
        states_per_tile=options.states_per_tile,
        tile_shape=options.tile_size,
        patch_shape=options.patch_size,
        seed=seed,
        background=options.background,
        stem=options.stem,
        crossings=options.crossings,
        equal_parts=options.equal_parts,
    )


def _header(net: NENet, prepared: PreparedDataset, options: TrainOptions) -> WeightsHeader:
    """Header of the run's weight files, without metrics."""
    # Of files and folders only the names: where they lay is nobody else's business.
    names = {key: value.name for key, value in vars(options).items() if isinstance(value, Path)}
    return WeightsHeader(
        ndim=net.ndim,
        in_channels=net.in_channels,
        width=net.width,
        stem=net.stem,
        kinds=net.kinds,
        kind_names=prepared.kind_names,
        dataset=options.dataset,
        scale=prepared.scale,
        swc_origin=prepared.swc_origin,
        patch_size=tuple(options.patch_size),
        step=prepared.sample_shape.step,
        r=options.r,
        features=options.features,
        spacing=prepared.spacing,
        white=prepared.white,
        local_contrast=prepared.local_contrast,
        training=_as_json(options) | names | {"images": list(prepared.images)},
    )
