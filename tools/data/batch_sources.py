"""Where training batches come from: fresh tiles or patches of training_images, or the stored stacks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tools.data.batches import Batch, draw_patches, draw_tile
from tools.data.training_image import TrainingImage

_AHEAD = 2
"""Batches that wait ready while a step runs."""


class BatchSource(Protocol):
    """Where training batches come from."""

    steps_per_epoch: int

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Batch of a step, uint8 images, the share of process ``rank`` of ``world``; the same at every call."""
        ...


def step_rng(seed: int, step: int, rank: int) -> np.random.Generator:
    """Generator of one step's batch."""
    return np.random.default_rng([seed, step, rank])


def drawn_ahead(source: BatchSource, steps: Iterable[int], rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """Batches of ``steps`` in order, the next ones drawn in a thread while the caller works on one.

    One thread, so a source need not be safe for several. What goes wrong in it is raised here, as itself. Close the
    generator (``contextlib.closing``) when it is not used up.
    """
    waiting: deque[Future[Batch]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    try:
        for step in steps:
            waiting.append(pool.submit(source.batch, step, rank, world))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _weights(training_images: Sequence[TrainingImage]) -> np.ndarray:
    """Share of samples of each training_image: in proportion to what can be walked in it; a training_image without a tree has none."""
    sites = np.array(
        [
            max(len(training_image.walks.sites), 1) if len(training_image.tree) else 0
            for training_image in training_images
        ],
        dtype=float,
    )
    return sites / sites.sum()


@dataclass(frozen=True)
class OnlineTiles:
    """Fresh tiles with many states in each ("train as you trace").

    Attributes
    ----------
    training_images
        Images to draw from; at least one has a branch long enough for a walk.
    steps_per_epoch
        Steps that count as an epoch.
    tiles
        Tiles in a batch, over all processes (each has at least one).
    states_per_tile, tile_shape, patch_shape
        As in :func:`~tools.data.batches.draw_tile`; the tile is larger than the patch.
    seed
        Seed of the run.
    turn
        Whether tiles are flipped and turned.
    background
        Share of tiles off the trees, see :func:`~tools.data.batches.draw_tile`.
    """

    training_images: Sequence[TrainingImage]
    steps_per_epoch: int
    tiles: int
    states_per_tile: int
    tile_shape: tuple[int, ...]
    patch_shape: tuple[int, ...]
    seed: int
    turn: bool = True
    background: float = 0.0

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Batch of a step; drawn again in the rare case that no state lies in any of its tiles."""
        rng = step_rng(self.seed, step, rank)
        while True:
            chosen = rng.choice(
                len(self.training_images), max(1, self.tiles // world), p=_weights(self.training_images)
            )
            batch = Batch.join([self._tile(self.training_images[index], rng) for index in chosen])
            if len(batch.owner):
                return batch

    def _tile(self, training_image: TrainingImage, rng: np.random.Generator) -> Batch:
        return draw_tile(
            training_image,
            rng,
            tile_shape=self.tile_shape,
            patch_shape=self.patch_shape,
            n_states=self.states_per_tile,
            augment=self.turn,
            background=self.background,
        )


@dataclass(frozen=True)
class OnlinePatches:
    """Fresh patches, the paper's way, without storing them; attributes as in :class:`OnlineTiles`."""

    training_images: Sequence[TrainingImage]
    steps_per_epoch: int
    patches: int
    patch_shape: tuple[int, ...]
    seed: int

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Batch of a step; drawn again if it holds no state."""
        rng = step_rng(self.seed, step, rank)
        while True:
            counts = rng.multinomial(max(1, self.patches // world), _weights(self.training_images))
            drawn = zip(self.training_images, counts, strict=True)
            parts = [draw_patches(s, rng, patch_shape=self.patch_shape, count=int(n)) for s, n in drawn if n]
            batch = Batch.join(parts)
            if len(batch.owner):
                return batch
