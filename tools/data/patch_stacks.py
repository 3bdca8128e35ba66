"""Patch stacks: the training samples of one image as TIFF stacks, written once and memory-mapped for reading.

``<out>/training_datasets/<image>/`` holds one stack for each map, all in the same order, and ``samples.csv`` with a row
for each sample. The files are the same in 2D and 3D; ``*P`` is the shape of a patch in work pixels.
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
from lib.files import atomic_write
from lib.klib.image_io import open_stack, stack_writer
from lib.klib.spaces import patch_corner
from lib.klib.windows import crops
from tools.data.batches import Batch, patch_batch
from tools.data.sampling import STATE_MAPS, Kind, States, draw_states
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
"""Stack of the pixels left out of the centerline loss; only for images with ignored pixels."""
SAMPLES_FILE = "samples.csv"
_CHUNK = 256
"""Samples drawn at once while writing, which bounds the memory needed."""
_READERS = 2
"""Threads that read one batch; copying from a memory map releases the interpreter lock."""


@dataclass(frozen=True)
class Patches:
    """Drawn samples.

    Attributes
    ----------
    maps
        uint8 maps by the names in :data:`STACK_FILES`, and :data:`IGNORED` if the image has ignored pixels: the image
        ``(N, *P, C)`` and labels ``(N, *P)`` of 0 and 255.
    states
        The ``N`` states.
    """

    maps: dict[str, np.ndarray]
    states: States


def draw_samples(
    training_image: TrainingImage, rng: np.random.Generator, count: int, patch_shape: Sequence[int]
) -> Patches:
    """Draw ``count`` samples in the paper's shares (docs/paper.md §3), each in the middle of its patch."""
    states = training_image.mixed_states(rng, count)
    corner = patch_corner(states.center, patch_shape)
    labels = {name: maps.numpy() for name, maps in vars(draw_states(states, corner, tuple(patch_shape))).items()}
    labels["centerline"] = crops(training_image.centerline, corner, patch_shape)
    if training_image.ignored is not None:
        labels[IGNORED] = training_image.ignored_crops(corner, patch_shape)
    # A bool is one byte, 0 or 1, so no copy is needed before the multiplication.
    maps = {name: label.view(np.uint8) * np.uint8(255) for name, label in labels.items()}
    return Patches({"image": crops(training_image.pixels, corner, patch_shape)} | maps, states)


def bytes_per_sample(patch_shape: Sequence[int], channels: int) -> int:
    """Bytes of one sample in the stacks of an image without ignored pixels."""
    return int(np.prod(patch_shape)) * (channels + len(STACK_FILES) - 1)


def write_stacks(
    training_image: TrainingImage, folder: Path, rng: np.random.Generator, *, count: int, patch_shape: Sequence[int]
) -> None:
    """Draw ``count`` samples (at least 1) of one image, and write its stacks and ``samples.csv`` to ``folder``.

    Raises
    ------
    UserError
        If the disk is full or the folder cannot be written.
    """
    label_shape = (count, *patch_shape)
    shapes = {"image": (*label_shape, training_image.pixels.shape[-1])}
    names = _stack_files(has_ignored=training_image.ignored is not None)
    with ExitStack() as files:
        stacks = {
            name: files.enter_context(stack_writer(folder / file, shapes.get(name, label_shape), np.uint8))
            for name, file in names.items()
        }
        table = files.enter_context(files.enter_context(atomic_write(folder / SAMPLES_FILE)).open("w", newline=""))
        table.write(",".join([*"zyx"[-len(patch_shape) :], "branch", "jitter", "kind"]) + "\n")
        for first in range(0, count, _CHUNK):
            patches = draw_samples(training_image, rng, min(_CHUNK, count - first), patch_shape)
            for name, stack in stacks.items():
                stack[first : first + len(patches.states)] = patches.maps[name]
            _write_rows(table, training_image, patches.states)


def _stack_files(*, has_ignored: bool) -> dict[str, str]:
    """File of each map of an image with or without ignored pixels."""
    return STACK_FILES | ({IGNORED: IGNORE_FILE} if has_ignored else {})


def _write_rows(table: TextIO, training_image: TrainingImage, states: States) -> None:
    """Write to ``samples.csv``: the current node in work pixels, its site, its jitter, and the kind of sample."""
    jitters = training_image.walks.jitter_of(states)
    for center, site, jitter, kind in zip(states.center, states.site, jitters, states.kind, strict=True):
        position = ",".join(f"{value:.3f}" for value in center)
        table.write(f"{position},{site},{jitter:.3f},{int(kind)}\n")


@dataclass(frozen=True)
class ImageStacks:
    """The opened stacks of one image.

    Attributes
    ----------
    maps
        Memory-mapped stacks, as in :attr:`Patches.maps`; read from disk when indexed.
    kind
        ``(N,)`` :class:`~tools.data.sampling.Kind` of each sample.
    """

    maps: dict[str, np.ndarray]
    kind: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> ImageStacks:
        """Open what :func:`write_stacks` wrote to ``folder``.

        Raises
        ------
        UserError
            If a file is missing or broken, or the files differ in the number of samples or the patch shape.
        """
        if not (folder / SAMPLES_FILE).is_file():
            advice = "prepared without --n_samples; use --sampling online, or prepare again with it"
            raise UserError(f"{folder}: has no stacks; {advice}")
        kind = _read_kinds(folder / SAMPLES_FILE)
        names = _stack_files(has_ignored=(folder / IGNORE_FILE).is_file())
        maps = {name: _open_map(folder / file, len(kind)) for name, file in names.items()}
        shapes = {name: stack.shape[1:-1] if name == "image" else stack.shape[1:] for name, stack in maps.items()}
        for name, shape in shapes.items():
            if shape != shapes["image"]:
                found = f"patches of {_size(shape)}, those of the image are {_size(shapes['image'])}"
                raise UserError(f"{folder / names[name]}: {found}; prepare the dataset again")
        return cls(maps, kind)

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Shape of a patch in work pixels."""
        return self.maps["walk"].shape[1:]

    def __len__(self) -> int:
        return len(self.kind)


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _open_map(path: Path, count: int) -> np.ndarray:
    """Open one stack as a plain array, because indexing is slower in numpy's memmap class."""
    stack = open_stack(path).view(np.ndarray)
    # tifffile drops the first axis of a stack of one sample.
    stack = stack[np.newaxis] if count == 1 and len(stack) != 1 else stack
    if len(stack) != count:
        raise UserError(f"{path}: {len(stack)} patches, but {SAMPLES_FILE} lists {count}; prepare the dataset again")
    return stack


def _read_kinds(path: Path) -> np.ndarray:
    """Read the column ``kind`` of ``samples.csv``, ``(N,)``."""
    try:
        with path.open(newline="") as table:
            return np.array([int(row["kind"]) for row in csv.DictReader(table)], dtype=np.int64)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not understood ({error}); prepare the dataset again") from None


@dataclass(frozen=True)
class StackBatches:
    """Training batches from the stacks of several images, a :class:`~tools.data.batch_sources.BatchSource`.

    Every epoch contains each sample once, in an order that depends on the random seed and the epoch alone. Samples that
    do not fill the last batch are left out.

    Attributes
    ----------
    images
        The opened stacks, all with the same patch shape.
    batch_size
        Samples in a batch, over all processes.
    seed
        Random seed of the run.
    """

    images: Sequence[ImageStacks]
    batch_size: int
    seed: int

    @cached_property
    def _first(self) -> np.ndarray:
        """``(images + 1,)`` number of the first sample of each image, counted over all images, and of all samples."""
        return np.concatenate([[0], np.cumsum([len(image) for image in self.images])])

    @cached_property
    def _kind(self) -> np.ndarray:
        return np.concatenate([image.kind for image in self.images])

    @cached_property
    def _positive(self) -> np.ndarray:
        """Numbers of the samples that show a state."""
        return np.flatnonzero(self._kind != Kind.NEGATIVE)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_READERS, thread_name_prefix="stacks")

    @cached_property
    def _orders(self) -> dict[int, np.ndarray]:
        """Order of samples in the latest epoch."""
        return {}

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch, at least 1."""
        return max(1, len(self) // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Numbers ``(len(self),)`` of all samples in the order of an epoch."""
        if epoch not in self._orders:
            self._orders.clear()
            self._orders[epoch] = np.random.default_rng([self.seed, epoch]).permutation(len(self))
        return self._orders[epoch]

    def chosen(self, step: int, rank: int = 0, world: int = 1) -> np.ndarray:
        """Sorted numbers of the samples in a step's batch for process ``rank`` of ``world``."""
        epoch, place = divmod(step, self.steps_per_epoch)
        chosen = self.order(epoch)[place * self.batch_size : (place + 1) * self.batch_size][rank::world]
        if len(chosen) and (self._kind[chosen] != Kind.NEGATIVE).any():
            return np.sort(chosen)
        # The node and edge heads learn nothing from a batch without a state, so one replaces the first sample.
        state = np.random.default_rng([self.seed, step, rank]).choice(self._positive, 1)
        return np.sort(np.concatenate([state, chosen[1:]]))

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """See :meth:`tools.data.batch_sources.BatchSource.batch`."""
        chosen = self.chosen(step, rank, world)
        names = (*STACK_FILES, IGNORED)
        maps = dict(zip(names, self._threads.map(self._gathered, names, repeat(chosen)), strict=True))
        states = {name: maps[name] for name in STATE_MAPS}
        return patch_batch(maps["image"], maps["centerline"], states, self._kind[chosen], maps[IGNORED])

    def _gathered(self, name: str, chosen: np.ndarray) -> np.ndarray:
        """Read the samples ``chosen`` (sorted) of one map; 0 where an image lacks the map."""
        like = self.images[0].maps[name if name in STACK_FILES else "centerline"]
        out = np.zeros((len(chosen), *like.shape[1:]), dtype=np.uint8)
        for image, rows, part in self._by_image(chosen):
            if name in image.maps:
                np.take(image.maps[name], rows, axis=0, out=out[part], mode="clip")
        return out

    def _by_image(self, chosen: np.ndarray) -> Iterator[tuple[ImageStacks, np.ndarray, slice]]:
        """Yield each image with samples in ``chosen``, the rows of its stacks, and their place in the batch."""
        bounds = np.searchsorted(chosen, self._first)
        for index, image in enumerate(self.images):
            begin, end = bounds[index], bounds[index + 1]
            if end > begin:
                yield image, chosen[begin:end] - self._first[index], slice(begin, end)


def open_stacks(
    folders: Mapping[str, Path], *, batch_size: int, seed: int, patch_shape: Sequence[int], channels: int
) -> StackBatches:
    """Open the stacks of several images for training.

    Parameters
    ----------
    folders
        Folder of the stacks of each image, by the image's name.
    batch_size, seed
        See :class:`StackBatches`.
    patch_shape
        Patch in work pixels that the network is trained on, y x (z y x).
    channels
        Input channels of the network.

    Raises
    ------
    UserError
        If stacks are missing or broken, their patches have another shape, or no sample shows a state.
    """
    images = [ImageStacks.open(folder) for folder in folders.values()]
    for folder, image in zip(folders.values(), images, strict=True):
        found, expected = image.maps["image"].shape[1:], (*patch_shape, channels)
        if found != expected:
            sizes = f"patches of {_size(found)}, {_size(expected)} wanted"
            raise UserError(f"{folder}: {sizes}; give --patch_size as when the dataset was prepared")
    batches = StackBatches(images, batch_size, seed)
    if not len(batches) or not len(batches._positive):
        raise UserError(f"{', '.join(folders)}: no sample shows a tube; prepare again with more samples")
    return batches
