"""A training run from its options: data, sources of batches, network, trainer. The 2D and 3D scripts call this."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

import torch

from configs.options import TrainOptions
from lib.errors import UserError
from models.checkpoint import WeightsHeader
from models.nenet import STRIDE, NENet
from tools.augment import to_unit
from tools.devices import choose_device
from tools.preparing import PreparedDataset
from tools.scenes import Batch
from tools.sources import OnlinePatches, OnlineTiles
from tools.training import BatchSource, Progress, Trainer, faster_precision, start_network, write_options

VALIDATION_SEED = 2025
"""Validation samples are the same in every run, whatever its seed."""
VALIDATION_TILES = 8
"""Tiles in one validation batch."""


class Augment(Protocol):
    """Turns a uint8 batch into an augmented float one; ``turn`` asks for flips and quarter turns of its patches."""

    def __call__(self, batch: Batch, generator: torch.Generator, *, turn: bool) -> Batch: ...


@dataclass(frozen=True)
class Door:
    """What differs between 2D and 3D training.

    Attributes
    ----------
    build
        Network of a width.
    augment
        See :class:`Augment`.
    stacks
        Batches from the stacks of a prepared folder: ``(folder, names, batch_size, seed, patch_size=...)``.
    """

    build: Callable[[int], NENet]
    augment: Augment
    stacks: Callable[..., BatchSource]


def train_run(options: TrainOptions, door: Door) -> Progress:
    """Run one training, or what is left of it with ``--resume``.

    Raises
    ------
    UserError
        If the options do not fit together or to the data, or a file cannot be read or written.
    """
    device = choose_device(options.device, options.threads)
    _check(options)
    prepared = PreparedDataset.load(options.data)
    kept, held = split_images(prepared.images, options.hold_out)
    train = _training_source(options, prepared, kept, door)
    validation = _validation_source(options, prepared, held)
    net = start_network(door.build, options)
    precision = options.precision
    if precision == "auto":
        precision = faster_precision(net, to_unit(train.batch(0)), torch.device(device))
    options = replace(options, device=device, precision=precision, hold_out=list(held))
    write_options(options)

    def augment(batch: Batch, generator: torch.Generator) -> Batch:
        return door.augment(batch, generator, turn=options.sampling == "stacks" or options.features == "patch")

    return Trainer(net, _header(net, prepared, options), train, validation, augment, to_unit, options).run()


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
        raise UserError(f"all {len(images)} images are held out, none is left to train on; add images")
    return kept, held


def _check(options: TrainOptions) -> None:
    """Refuse options that cannot be."""
    if options.sampling == "stacks" and options.features == "tile":
        raise UserError("--features tile needs fresh samples; take --sampling online, or --features patch for stacks")
    for name in ("patch_size", "tile_size"):
        if wrong := [size for size in getattr(options, name) if size <= 0 or size % STRIDE]:
            raise UserError(f"--{name}: {wrong[0]} is not a multiple of {STRIDE}")
    if options.features == "tile" and any(t < p for t, p in zip(options.tile_size, options.patch_size, strict=True)):
        raise UserError(f"--tile_size {options.tile_size} is smaller than --patch_size {options.patch_size}")
    for name in ("width", "batch_size", "nb_epoch", "epoch_size", "states_per_tile", "validation_size", "save_every"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: give at least 1")


def _training_source(
    options: TrainOptions, prepared: PreparedDataset, names: Sequence[str], door: Door
) -> BatchSource:
    """Batches as ``--sampling`` and ``--features`` say."""
    if options.sampling == "stacks":
        return door.stacks(options.data, names, options.batch_size, options.seed, patch_size=options.patch_size)
    scenes = prepared.scenes(options.data, names)
    steps = math.ceil(options.epoch_size / options.batch_size)
    if options.features == "patch":
        return OnlinePatches(scenes, steps, options.batch_size, options.patch_size, options.seed)
    return OnlineTiles(
        scenes,
        steps_per_epoch=steps,
        tiles=math.ceil(options.batch_size / options.states_per_tile),
        states_per_tile=options.states_per_tile,
        tile_shape=options.tile_size,
        patch_shape=options.patch_size,
        seed=options.seed,
    )


def _validation_source(options: TrainOptions, prepared: PreparedDataset, names: Sequence[str]) -> BatchSource:
    """The same tiles of the held-out images for every way of training, so that runs can be compared."""
    per_batch = VALIDATION_TILES * options.states_per_tile
    return OnlineTiles(
        prepared.scenes(options.data, names),
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
        training=json.loads(json.dumps(asdict(options), default=str)) | {"images": list(prepared.images)},
    )


