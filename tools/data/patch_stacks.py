"""Patch stacks: training samples of one image as TIFF stacks, written once, memory-mapped when read.

``<out>/training_datasets/<image>/`` holds one stack per map, all in the same order, and ``samples.csv`` which tells
what each row is. 2D and 3D have the same files; ``*P`` below is the shape of a patch.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import TextIO

import numpy as np

from lib.errors import UserError
from lib.files import written
from lib.klib.image_io import open_stack, stack_writer
from lib.klib.spaces import patch_corner
from lib.klib.windows import crops
from tools.data.batches import Batch, patch_batch
from tools.data.sampling import Kind, States, draw_states
from tools.data.training_image import TrainingImage

STACK_FILES = {
    "image": "node_img.tif",
    "centerline": "node_skl.tif",
    "branch": "node_skl_b.tif",
    "walk": "node_walk.tif",
    "node": "node_point.tif",
    "edge": "node_edge.tif",
}
"""File of each map, under the published names (docs/paper.md §3)."""
IGNORED = "ignored"
IGNORE_FILE = "node_ignore.tif"
"""What the centerline loss leaves out; a stack only of images that have something to ignore."""
SAMPLES_FILE = "samples.csv"
MADE_OF_STATES = ("branch", "walk", "node", "edge")
_CHUNK = 256
"""Samples drawn at once while writing."""
_READERS = 2
"""Threads that read one batch; copying out of a memory map lets the interpreter go."""


@dataclass(frozen=True)
class Patches:
    """Drawn samples: ``maps`` as in :data:`STACK_FILES`, uint8, the image ``(N, *P, C)``, labels ``(N, *P)`` 0/255."""

    maps: dict[str, np.ndarray]
    states: States


def draw_samples(
    training_image: TrainingImage, rng: np.random.Generator, count: int, patch_shape: Sequence[int]
) -> Patches:
    """``count`` samples of all kinds, mixed as the paper mixes them, each in the middle of its patch."""
    states = training_image.mixed_states(rng, count)
    corner = patch_corner(states.center, patch_shape)
    drawn = draw_states(states, corner, tuple(patch_shape))
    labels = {name: getattr(drawn, name).numpy() for name in MADE_OF_STATES}
    labels["centerline"] = crops(training_image.centerline, corner, patch_shape)
    if training_image.ignored is not None:
        labels[IGNORED] = training_image.ignored_crops(corner, patch_shape)
    # A bool is one byte, 0 or 1: times 255 it is the label.
    maps = {name: label.view(np.uint8) * np.uint8(255) for name, label in labels.items()}
    return Patches({"image": crops(training_image.pixels, corner, patch_shape)} | maps, states)


def bytes_per_sample(patch_shape: Sequence[int], channels: int) -> int:
    """Room that one sample takes in the stacks, where nothing is ignored."""
    return int(np.prod(patch_shape)) * (channels + len(STACK_FILES) - 1)


def write_stacks(
    training_image: TrainingImage, folder: Path, rng: np.random.Generator, *, count: int, patch_shape: Sequence[int]
) -> None:
    """Draw ``count`` samples (at least 1) of one image and write its stacks and ``samples.csv`` into ``folder``.

    Raises
    ------
    UserError
        If the disk has no room or the folder cannot be written.
    """
    channels = training_image.pixels.shape[-1]
    wanted = STACK_FILES if training_image.ignored is None else STACK_FILES | {IGNORED: IGNORE_FILE}
    with ExitStack() as files:
        shapes = {name: _stack_shape(name, count, patch_shape, channels) for name in wanted}
        stacks = {
            name: files.enter_context(stack_writer(folder / file, shapes[name], np.uint8))
            for name, file in wanted.items()
        }
        table = files.enter_context(files.enter_context(written(folder / SAMPLES_FILE)).open("w", newline=""))
        table.write(",".join([*"zyx"[-len(patch_shape) :], "branch", "jitter", "kind"]) + "\n")
        for first in range(0, count, _CHUNK):
            patches = draw_samples(training_image, rng, min(_CHUNK, count - first), patch_shape)
            for name, stack in stacks.items():
                stack[first : first + len(patches.states)] = patches.maps[name]
            _write_rows(table, training_image, patches.states)


def _stack_shape(name: str, count: int, patch_shape: Sequence[int], channels: int) -> tuple[int, ...]:
    return (count, *patch_shape, channels) if name == "image" else (count, *patch_shape)


def _write_rows(table: TextIO, training_image: TrainingImage, states: States) -> None:
    """Rows of ``samples.csv``: centre in work pixels, directed edge of the tree, pixels moved off it, :class:`Kind`."""
    moved = training_image.walks.moved(states)
    for center, site, jitter, kind in zip(states.center, states.site, moved, states.kind, strict=True):
        position = ",".join(f"{value:.3f}" for value in center)
        table.write(f"{position},{site},{jitter:.3f},{int(kind)}\n")


@dataclass(frozen=True)
class ImageStacks:
    """The stacks of one image, opened.

    Attributes
    ----------
    maps
        As in :data:`STACK_FILES`, and :data:`IGNORED` where there is one: memory-mapped, read when indexed.
    kind
        ``(N,)`` :class:`~tools.data.sampling.Kind` of every sample.
    """

    maps: dict[str, np.ndarray]
    kind: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> ImageStacks:
        """Open what :func:`write_stacks` left in ``folder``.

        Raises
        ------
        UserError
            If a file is missing, broken, or its number of samples is not that of the others.
        """
        if not (folder / SAMPLES_FILE).is_file():
            advice = "prepared with --n_samples 0; use --sampling online, or prepare again with samples"
            raise UserError(f"{folder}: has no stacks; {advice}")
        kind = _read_kinds(folder / SAMPLES_FILE)
        wanted = STACK_FILES | ({IGNORED: IGNORE_FILE} if (folder / IGNORE_FILE).is_file() else {})
        maps = {name: _open_map(folder / file, len(kind)) for name, file in wanted.items()}
        shapes = {name: stack.shape[1:-1] if name == "image" else stack.shape[1:] for name, stack in maps.items()}
        for name, shape in shapes.items():
            if shape != shapes["image"]:
                found = f"patches of {_size(shape)}, those of the image are {_size(shapes['image'])}"
                raise UserError(f"{folder / wanted[name]}: {found}; prepare the dataset again")
        return cls(maps, kind)

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Shape of a patch in pixels."""
        return self.maps["walk"].shape[1:]

    def __len__(self) -> int:
        return len(self.kind)


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _open_map(path: Path, count: int) -> np.ndarray:
    """One stack; as a plain array over the map, because numpy's memmap class makes each indexing slower."""
    stack = open_stack(path).view(np.ndarray)
    # tifffile drops the first axis of a stack of one.
    stack = stack[np.newaxis] if count == 1 and len(stack) != 1 else stack
    if len(stack) != count:
        raise UserError(f"{path}: {len(stack)} patches, but {SAMPLES_FILE} lists {count}; prepare the dataset again")
    return stack


def _read_kinds(path: Path) -> np.ndarray:
    """``(N,)`` last column of ``samples.csv``."""
    try:
        with path.open(newline="") as table:
            return np.array([int(row["kind"]) for row in csv.DictReader(table)], dtype=np.int64)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not understood ({error}); prepare the dataset again") from None


@dataclass(frozen=True)
class StackBatches:
    """Training batches from the stacks of many images (a :class:`~tools.data.batch_sources.BatchSource`).

    Every epoch shows each sample once, in an order drawn from the seed and the epoch's number, so the batch of a step
    is a function of the seed and the step alone. Samples that do not fill a last batch are left out of the epoch.

    Attributes
    ----------
    images
        The opened stacks, all with the same patch shape.
    batch_size
        Samples in a batch, over all processes.
    seed
        Seed of the run.
    """

    images: Sequence[ImageStacks]
    batch_size: int
    seed: int

    @cached_property
    def _first(self) -> np.ndarray:
        """Global index of the first sample of each image, and their number at the end: ``(images + 1,)``."""
        return np.concatenate([[0], np.cumsum([len(image) for image in self.images])])

    @cached_property
    def _kind(self) -> np.ndarray:
        return np.concatenate([image.kind for image in self.images])

    @cached_property
    def _positive(self) -> np.ndarray:
        """Global indices of the samples that show a state."""
        return np.flatnonzero(self._kind != Kind.NEGATIVE)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_READERS, thread_name_prefix="stacks")

    @cached_property
    def _orders(self) -> dict[int, np.ndarray]:
        """The order of the epoch read last."""
        return {}

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch, at least one."""
        return max(1, len(self) // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Global sample indices ``(len(self),)`` in the order of an epoch."""
        if epoch not in self._orders:
            self._orders.clear()
            self._orders[epoch] = np.random.default_rng([self.seed, epoch]).permutation(len(self))
        return self._orders[epoch]

    def chosen(self, step: int, rank: int = 0, world: int = 1) -> np.ndarray:
        """Global indices of a step's samples for process ``rank`` of ``world``, sorted."""
        epoch, place = divmod(step, self.steps_per_epoch)
        whole = self.order(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        chosen = whole[rank::world]
        if len(chosen) and (self._kind[chosen] != Kind.NEGATIVE).any():
            return np.sort(chosen)
        # Heads cannot learn from a (tiny) batch without a state: one is put in.
        state = np.random.default_rng([self.seed, step, rank]).choice(self._positive, 1)
        return np.sort(np.concatenate([state, chosen[1:]]))

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Batch of a step, uint8 images, the share of process ``rank`` of ``world``."""
        chosen = self.chosen(step, rank, world)
        names = (*STACK_FILES, IGNORED)
        maps = dict(zip(names, self._threads.map(self._gathered, names, repeat(chosen)), strict=True))
        states = {name: maps[name] for name in MADE_OF_STATES}
        return patch_batch(maps["image"], maps["centerline"], states, self._kind[chosen], maps[IGNORED])

    def _gathered(self, name: str, chosen: np.ndarray) -> np.ndarray:
        """The samples ``chosen`` (sorted) of one map; 0 where an image has none of that name."""
        like = self.images[0].maps[name if name in STACK_FILES else "centerline"]
        out = np.zeros((len(chosen), *like.shape[1:]), dtype=np.uint8)
        for image, rows, part in self._by_image(chosen):
            if name in image.maps:
                np.take(image.maps[name], rows, axis=0, out=out[part], mode="clip")
        return out

    def _by_image(self, chosen: np.ndarray) -> Iterator[tuple[ImageStacks, np.ndarray, slice]]:
        """For each image that has some of ``chosen``: the image, its rows, and their place in the batch."""
        bounds = np.searchsorted(chosen, self._first)
        for index, image in enumerate(self.images):
            begin, end = bounds[index], bounds[index + 1]
            if end > begin:
                yield image, chosen[begin:end] - self._first[index], slice(begin, end)


def open_stacks(
    folders: Mapping[str, Path], *, batch_size: int, seed: int, patch_shape: Sequence[int], channels: int
) -> StackBatches:
    """Open the stacks of some images for training.

    Parameters
    ----------
    folders
        Image name to the folder of its stacks.
    batch_size, seed
        As in :class:`StackBatches`.
    patch_shape, channels
        What the network wants.

    Raises
    ------
    UserError
        If stacks are missing or broken, their patches have another shape, or none of them shows a state.
    """
    images = [ImageStacks.open(folder) for folder in folders.values()]
    for folder, image in zip(folders.values(), images, strict=True):
        found, wanted = image.maps["image"].shape[1:], (*patch_shape, channels)
        if found != wanted:
            sizes = f"patches of {_size(found)}, {_size(wanted)} wanted"
            raise UserError(f"{folder}: {sizes}; give --patch_size as when the dataset was prepared")
    batches = StackBatches(images, batch_size, seed)
    if not len(batches) or not len(batches._positive):
        raise UserError(f"{', '.join(folders)}: no sample shows a tube; prepare again with more samples")
    return batches
