"""Sources of training batches that draw fresh samples from training images, and a thread that prefetches batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lib.errors import UserError
from tools.data.batches import Batch, draw_patches, draw_tiles
from tools.data.training_image import TrainingImage

_MOST_DRAWS = 1000
"""Batches drawn in search of one with a state."""
_PREFETCHED = 2
"""Batches kept ready while a step runs."""


class BatchSource(Protocol):
    """A source of training batches.

    Attributes
    ----------
    steps_per_epoch
        Steps that count as one epoch.
    """

    @property
    def steps_per_epoch(self) -> int:
        """See the attributes."""
        ...

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the part of a step's batch that process ``rank`` of ``world`` trains on, with uint8 images.

        The result depends on the arguments alone.
        """
        ...


def step_rng(seed: int, step: int, rank: int) -> np.random.Generator:
    """Random generator for the batch of one step and process."""
    return np.random.default_rng([seed, step, rank])


def prefetched(
    source: BatchSource, steps: Iterable[int], rank: int = 0, world: int = 1, *, pin: bool = False
) -> Generator[Batch, None, None]:
    """Yield the batches of ``steps`` in order, and draw the next ones in a thread meanwhile.

    With ``pin`` they lie in page-locked memory. A single thread draws, so the source need not be thread-safe. Its
    exceptions are raised here unchanged. Close the generator (``contextlib.closing``) if it is not exhausted.
    """
    waiting: deque[Future[Batch]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")

    def draw(step: int) -> Batch:
        batch = source.batch(step, rank, world)
        return batch.pinned() if pin else batch

    try:
        for step in steps:
            waiting.append(pool.submit(draw, step))
            if len(waiting) > _PREFETCHED:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def image_shares(images: Sequence[TrainingImage], *, equal_parts: bool = False) -> np.ndarray:
    """Shares ``(N,)`` of samples to draw from each image: in proportion to its sites; 0 for an image without a tree.

    With ``equal_parts`` the images of every dataset have the same share together.
    """
    sites = np.array([max(len(image.walks.sites), 1) if len(image.tree) else 0 for image in images], dtype=float)
    if equal_parts:
        _, dataset = np.unique([image.source.dataset for image in images], return_inverse=True)
        sites /= np.maximum(np.bincount(dataset, sites), 1)[dataset]
    return sites / sites.sum()


def _with_a_state(draw: Callable[[], Batch]) -> Batch:
    """Draw again in the rare case that no tile of the batch holds a state.

    Raises
    ------
    UserError
        If none does for :data:`_MOST_DRAWS` times.
    """
    for _ in range(_MOST_DRAWS):
        if len((batch := draw()).owner):
            return batch
    raise UserError("no tile holds a place from which a walk fits; give a larger --tile_size or a smaller --patch_size")


@dataclass(frozen=True)
class OnlineTiles:
    """Fresh tiles, each with many states, so that a tile is encoded once.

    Attributes
    ----------
    training_images
        Images to draw from; at least one has a branch long enough for a walk.
    steps_per_epoch
        Steps that count as one epoch.
    tiles
        Tiles in a batch, over all processes; each process has at least one.
    states_per_tile, tile_shape, patch_shape
        See :func:`~tools.data.batches.draw_tiles`.
    seed
        Random seed of the run.
    turn
        Whether tiles are flipped and turned.
    background, stem, crossings
        See :func:`~tools.data.batches.draw_tiles`.
    equal_parts
        Whether each dataset has an equal share of the tiles; otherwise it has one in proportion to its sites.
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
    stem: tuple[int, ...] = (1,)
    crossings: float = 0.0
    equal_parts: bool = False

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """See :meth:`BatchSource.batch`."""
        rng = step_rng(self.seed, step, rank)
        shares = image_shares(self.training_images, equal_parts=self.equal_parts)

        def draw() -> Batch:
            chosen = rng.choice(len(shares), max(1, self.tiles // world), p=shares)
            return draw_tiles(
                [self.training_images[index] for index in chosen],
                rng,
                tile_shape=self.tile_shape,
                patch_shape=self.patch_shape,
                n_states=self.states_per_tile,
                turn=self.turn,
                background=self.background,
                stem=self.stem,
                crossings=self.crossings,
            )

        return _with_a_state(draw)


@dataclass(frozen=True)
class OnlinePatches:
    """Fresh patches, each with one state in its middle, as the paper trains (docs/paper.md §3).

    Attributes
    ----------
    training_images, steps_per_epoch, patch_shape, seed
        See :class:`OnlineTiles`.
    patches
        Patches in a batch, over all processes.
    """

    training_images: Sequence[TrainingImage]
    steps_per_epoch: int
    patches: int
    patch_shape: tuple[int, ...]
    seed: int

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """See :meth:`BatchSource.batch`."""
        rng = step_rng(self.seed, step, rank)
        shares = image_shares(self.training_images)

        def draw() -> Batch:
            """Draw the whole batch."""
            counts = rng.multinomial(max(1, self.patches // world), shares)
            drawn = zip(self.training_images, counts.tolist(), strict=True)
            return Batch.join(
                [draw_patches(image, rng, patch_shape=self.patch_shape, count=n) for image, n in drawn if n]
            )

        return _with_a_state(draw)
