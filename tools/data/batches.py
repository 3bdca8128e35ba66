"""Training batches drawn from training images.

A *tile* is a box of a training image, with several tracing states in it. The paper trains on *patches*: there a tile is
a single patch, with one state in its middle. Both fit into one :class:`Batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lib.klib.spaces import patch_corner
from lib.klib.windows import crop, crops
from tools.data.sampling import Kind, States, draw_states
from tools.data.symmetries import Symmetry
from tools.data.training_image import TrainingImage

_CANDIDATES = {2: 1, 3: 32}
"""Random pixels by dimension, the brightest of which becomes the centre of a background tile: most of a volume is dark
and teaches nothing."""


@dataclass(frozen=True)
class Batch:
    """Input and labels of one training step: ``T`` tiles with ``K`` states in them.

    ``*S`` is the shape of a tile and ``*P`` that of a patch, both in work pixels.

    Attributes
    ----------
    image
        ``(T, C, *S)`` uint8, or float in [0, 1] after augmentation.
    centerline
        ``(T, 1, *S)`` bool.
    ignored
        ``(T, 1, *S)`` bool: pixels left out of the centerline loss.
    owner
        ``(K,)`` int64, the tile of each state.
    corner
        ``(K, ndim)`` int64, first pixel of each state's patch in its tile.
    kind
        ``(T, *S)`` uint8 kind of the tube of each centerline pixel, 0 where unknown and off the centerline.
    walk, edge, node, branch
        ``(K, 1, *P)`` bool, see :class:`~tools.data.sampling.StateMaps`.
    """

    image: Tensor
    centerline: Tensor
    ignored: Tensor
    kind: Tensor
    owner: Tensor
    corner: Tensor
    walk: Tensor
    edge: Tensor
    node: Tensor
    branch: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Copy the batch to ``device``, but for ``owner`` and ``corner``: indices are computed from them on the CPU."""
        return self._moving(lambda tensor: tensor.to(device, non_blocking=True))

    def _moving(self, move: Callable[[Tensor], Tensor]) -> Batch:
        """The batch after ``move`` of each tensor that belongs on the device."""
        names = set(vars(self)) - {"owner", "corner"}
        return replace(self, **{name: move(getattr(self, name)) for name in names})

    def pinned(self) -> Batch:
        """Copy what :meth:`to` moves into page-locked memory, from which a GPU fetches it while the CPU goes on."""
        return self._moving(Tensor.pin_memory)

    def with_image(self, image: Tensor) -> Batch:
        """Return the batch with other image values."""
        return replace(self, image=image)

    @staticmethod
    def join(batches: Sequence[Batch]) -> Batch:
        """Concatenate batches of the same shapes; owners are renumbered."""
        first = np.cumsum([0] + [len(batch.image) for batch in batches[:-1]]).tolist()
        shifted = [replace(batch, owner=batch.owner + start) for batch, start in zip(batches, first, strict=True)]
        return Batch(**{name: torch.cat([vars(batch)[name] for batch in shifted]) for name in vars(shifted[0])})


@dataclass(frozen=True)
class _Tile:
    """A tile ``(*S, ...)`` cut out of a training image, and states in it, whose patches begin at ``corner``."""

    image: np.ndarray
    centerline: np.ndarray
    ignored: np.ndarray
    kind: np.ndarray
    states: States
    corner: np.ndarray


def draw_tiles(
    training_images: Sequence[TrainingImage],
    rng: np.random.Generator,
    *,
    tile_shape: tuple[int, ...],
    patch_shape: tuple[int, ...],
    n_states: int,
    turn: bool,
    background: float = 0.0,
    stem: Sequence[int] = (1,),
    crossings: float = 0.0,
) -> Batch:
    """Draw a tile of each image around a random node of its tree.

    Parameters
    ----------
    training_images
        One image with a tree for each tile.
    rng
        Source of randomness.
    tile_shape, patch_shape
        In work pixels; no side of a tile is shorter than that of a patch.
    n_states
        States to draw in each tile, whose patches lie inside the tile; none is drawn where no site allows it.
    turn
        Whether tiles are flipped and turned at random.
    background
        Probability that a tile is centred on a bright pixel anywhere in the image instead. A tree fills little of a
        volume, and the network must also see other bright structures.
    stem
        Patches begin at multiples of this, where a trunk pixel of the network begins.
    crossings
        Share of the states drawn from sites near a crossing, in tiles that hold one.

    Returns
    -------
    Batch
        The tiles, each with up to ``n_states`` states.
    """
    tile, patch = np.array(tile_shape), np.array(patch_shape)

    def cut(training_image: TrainingImage) -> _Tile:
        if background and rng.random() < background:
            centre = _bright_pixel(training_image, rng)
        else:
            centre = training_image.walks.nodes[rng.integers(len(training_image.walks.nodes))]
        corner = patch_corner(centre + rng.uniform(-0.5, 0.5, len(tile)) * (tile - patch), tile_shape)
        states = _states_inside(training_image, rng, corner, tile, patch, n_states, crossings)
        symmetry = Symmetry.draw(rng, len(tile)) if turn else Symmetry((False,) * len(tile), False)
        states = states.mapped(lambda positions: symmetry.positions(positions - corner, tile_shape))
        return _Tile(
            image=symmetry.pixels(crop(training_image.pixels, corner, tile_shape)),
            centerline=symmetry.pixels(crop(training_image.centerline, corner, tile_shape)),
            ignored=symmetry.pixels(training_image.ignored_crops(corner[None], tile_shape)[0]),
            kind=symmetry.pixels(training_image.kind_crops(corner[None], tile_shape)[0]),
            states=states,
            corner=np.clip(patch_corner(states.center, patch_shape), 0, tile - patch) // stem * stem,
        )

    return _batch_of([cut(training_image) for training_image in training_images], patch_shape)


def _batch_of(cuts: Sequence[_Tile], patch_shape: tuple[int, ...]) -> Batch:
    """Draw all states together: most of the time that a few states take is that of the calls."""
    corner = np.concatenate([one.corner for one in cuts])
    maps = draw_states(States.concatenate([one.states for one in cuts]), corner, patch_shape)
    return Batch(
        image=_channels_first(np.stack([one.image for one in cuts])),
        centerline=torch.from_numpy(np.stack([one.centerline for one in cuts]))[:, None],
        ignored=torch.from_numpy(np.stack([one.ignored for one in cuts]))[:, None],
        kind=torch.from_numpy(np.stack([one.kind for one in cuts])),
        owner=torch.repeat_interleave(torch.tensor([len(one.states) for one in cuts])),
        corner=torch.from_numpy(corner),
        **{name: drawn[:, None] for name, drawn in vars(maps).items()},
    )


def _channels_first(pixels: np.ndarray) -> Tensor:
    """Convert ``(N, *S, C)`` to ``(N, C, *S)``."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 1)))


def _bright_pixel(training_image: TrainingImage, rng: np.random.Generator) -> np.ndarray:
    """Position ``(ndim,)`` of the brightest of :data:`_CANDIDATES` random pixels."""
    ndim = len(training_image.shape)
    pixels = rng.integers(0, training_image.shape, (_CANDIDATES[ndim], ndim))
    return pixels[training_image.pixels[tuple(pixels.T)].sum(axis=-1, dtype=np.int64).argmax()]


def _states_inside(
    training_image: TrainingImage,
    rng: np.random.Generator,
    corner: np.ndarray,
    tile: np.ndarray,
    patch: np.ndarray,
    count: int,
    crossings: float,
) -> States:
    """Draw ``count`` states from the sites whose patches lie inside the tile, or none if there is no such site.

    Sites near a crossing are drawn with probability ``crossings``, where there are any.
    """
    walks, inside = training_image.walks, True
    for place, first, size, width in zip(walks.site_places, corner, tile, patch, strict=True):
        inside &= (place >= first + width // 2) & (place <= first + size - 1 - width // 2)
    sites = walks.sites[inside]
    if not len(sites):
        return walks.states(rng, sites)
    drawn = rng.choice(sites, count)
    if crossings and len(near := sites[walks.near_crossing[sites]]):
        drawn = np.where(rng.random(count) < crossings, rng.choice(near, count), drawn)
    return walks.states(rng, drawn)


def draw_patches(
    training_image: TrainingImage, rng: np.random.Generator, *, patch_shape: tuple[int, ...], count: int
) -> Batch:
    """Draw ``count`` patches of ``patch_shape`` work pixels with one state in the middle, none in negatives."""
    states = training_image.mixed_states(rng, count)
    corner = patch_corner(states.center, patch_shape)
    return patch_batch(
        crops(training_image.pixels, corner, patch_shape),
        crops(training_image.centerline, corner, patch_shape),
        {name: maps.numpy() for name, maps in vars(draw_states(states, corner, patch_shape)).items()},
        states.kind,
        training_image.ignored_crops(corner, patch_shape),
    )


def patch_batch(
    pixels: np.ndarray,
    centerline: np.ndarray,
    maps: Mapping[str, np.ndarray],
    kind: np.ndarray,
    ignored: np.ndarray | None = None,
) -> Batch:
    """Make a batch of patches, of unknown kinds; negatives keep only their centerline label.

    Parameters
    ----------
    pixels
        ``(N, *P, C)`` uint8.
    centerline, ignored
        ``(N, *P)`` label maps, positive where above 0; without ``ignored``, no pixel is ignored.
    maps
        ``(N, *P)`` label maps by the names in :data:`~tools.data.sampling.STATE_MAPS`.
    kind
        ``(N,)`` :class:`~tools.data.sampling.Kind`.
    """
    ignored = np.zeros_like(centerline) if ignored is None else ignored
    owner = np.flatnonzero(kind != Kind.NEGATIVE)
    return Batch(
        image=_channels_first(pixels),
        centerline=torch.from_numpy(centerline[:, None] > 0),
        ignored=torch.from_numpy(ignored[:, None] > 0),
        kind=torch.zeros(centerline.shape, dtype=torch.uint8),
        owner=torch.from_numpy(owner),
        corner=torch.zeros((len(owner), pixels.ndim - 2), dtype=torch.int64),
        **{name: torch.from_numpy(array[owner, None] > 0) for name, array in maps.items()},
    )
