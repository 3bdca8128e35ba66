"""Images with their gold trees, ready to draw training batches from.

A *training_image* is one image in work space with its tree. A *tile* is a square of it with tracing states inside. In patch
training, the paper's way, a tile is one patch with one state in its middle; so both ways share one :class:`Batch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lib.klib.spaces import patch_corner
from lib.klib.windows import crop, crops
from tools.data.sampling import Kind, StateMaps, States, draw_states
from tools.data.symmetries import Symmetry
from tools.data.training_image import TrainingImage

_PLACES = 32
"""Random pixels of which the brightest becomes the place of a tile off the tree."""


@dataclass(frozen=True)
class Batch:
    """What one training step sees: ``T`` tiles and ``K`` states in them; spatial shapes ``*S`` (tile), ``*P`` (patch).

    Attributes
    ----------
    image
        ``(T, C, *S)`` uint8 (or float in [0, 1] once augmented).
    centerline, ignored
        ``(T, 1, *S)`` bool; what is ignored is left out of the centerline loss.
    owner
        ``(K,)`` int64, the tile of each state.
    corner
        ``(K, ndim)`` int64, first pixel of each state's patch in its tile.
    walk, edge, node, branch
        ``(K, 1, *P)`` bool.
    """

    image: Tensor
    centerline: Tensor
    ignored: Tensor
    owner: Tensor
    corner: Tensor
    walk: Tensor
    edge: Tensor
    node: Tensor
    branch: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on ``device``."""
        return Batch(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})

    def with_image(self, image: Tensor) -> Batch:
        """The same batch with other image values."""
        return replace(self, image=image)

    @staticmethod
    def join(tiles: Sequence[Batch]) -> Batch:
        """Stack batches; owners are renumbered."""
        names = ("image", "centerline", "ignored", "corner", "walk", "edge", "node", "branch")
        joined = {name: torch.cat([getattr(tile, name) for tile in tiles]) for name in names}
        first = np.cumsum([0] + [len(tile.image) for tile in tiles[:-1]])
        owner = torch.cat([tile.owner + int(start) for tile, start in zip(tiles, first, strict=True)])
        return Batch(owner=owner, **joined)


def _channels_first(pixels: np.ndarray) -> Tensor:
    """``(*S, C)`` to ``(1, C, *S)``."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 0)))[None]


def _batch(
    pixels: np.ndarray, centerline: np.ndarray, ignored: np.ndarray, corner: np.ndarray, maps: StateMaps
) -> Batch:
    """One tile as a batch."""
    states = {name: getattr(maps, name)[:, None] for name in ("walk", "edge", "node", "branch")}
    owner = torch.zeros(len(corner), dtype=torch.int64)
    return Batch(
        image=_channels_first(pixels),
        centerline=torch.from_numpy(centerline)[None, None],
        ignored=torch.from_numpy(ignored)[None, None],
        owner=owner,
        corner=torch.from_numpy(corner),
        **states,
    )


def draw_tile(
    training_image: TrainingImage,
    rng: np.random.Generator,
    *,
    tile_shape: tuple[int, ...],
    patch_shape: tuple[int, ...],
    n_states: int,
    augment: bool,
    background: float = 0.0,
) -> Batch:
    """A tile at a random place on the tree, with up to ``n_states`` states whose patches lie inside it.

    With ``augment`` the tile is flipped and turned at random. A share ``background`` of the tiles lies anywhere,
    rather where the image is bright: a tree fills little of a volume, and what else glows there must be seen, too.
    """
    ndim = len(tile_shape)
    tile = np.array(tile_shape)
    if background and rng.random() < background:
        place = _bright_place(training_image, rng)
    else:
        place = training_image.walks.nodes[rng.integers(len(training_image.walks.nodes))]
    middle = place + rng.uniform(-0.5, 0.5, ndim) * (tile - patch_shape)
    corner = patch_corner(middle, tile_shape)
    states = _states_inside(training_image, rng, corner, tile, np.array(patch_shape), n_states)
    symmetry = Symmetry.draw(rng, ndim) if augment else Symmetry((False,) * ndim, False)
    states = states.mapped(lambda p: symmetry.positions(p - corner, tile_shape))
    state_corner = np.clip(patch_corner(states.center, patch_shape), 0, tile - patch_shape)
    return _batch(
        symmetry.pixels(crop(training_image.pixels, corner, tile_shape)),
        symmetry.pixels(crop(training_image.centerline, corner, tile_shape)),
        symmetry.pixels(training_image.ignored_crops(corner[None], tile_shape)[0]),
        state_corner,
        draw_states(states, state_corner, patch_shape),
    )


def _bright_place(training_image: TrainingImage, rng: np.random.Generator) -> np.ndarray:
    """The brightest of some random pixels: ``(ndim,)``."""
    places = rng.integers(0, training_image.shape, (_PLACES, len(training_image.shape)))
    return places[training_image.pixels[tuple(places.T)].sum(axis=-1, dtype=np.int64).argmax()]


def _states_inside(
    training_image: TrainingImage,
    rng: np.random.Generator,
    corner: np.ndarray,
    tile: np.ndarray,
    patch: np.ndarray,
    count: int,
) -> States:
    """States on sites so far inside the tile that their patches are, too."""
    sites = training_image.walks.sites
    place = training_image.walks.nodes[training_image.walks.tail[sites]] - corner
    sites = sites[np.all((place >= patch // 2) & (place <= tile - 1 - patch // 2), axis=1)]
    chosen = rng.choice(sites, count) if len(sites) else np.zeros(0, dtype=np.int64)
    return training_image.walks.states(rng, chosen)


def draw_patches(
    training_image: TrainingImage, rng: np.random.Generator, *, patch_shape: tuple[int, ...], count: int
) -> Batch:
    """``count`` patches, one state in the middle of each (none in a negative one), as the paper trains."""
    states = training_image.mixed_states(rng, count)
    corner = patch_corner(states.center, patch_shape)
    maps = draw_states(states, corner, patch_shape)
    return patch_batch(
        crops(training_image.pixels, corner, patch_shape),
        crops(training_image.centerline, corner, patch_shape),
        {name: getattr(maps, name).numpy() for name in ("walk", "edge", "node", "branch")},
        states.kind,
        training_image.ignored_crops(corner, patch_shape),
    )


def patch_batch(
    pixels: np.ndarray,
    centerline: np.ndarray,
    maps: dict[str, np.ndarray],
    kind: np.ndarray,
    ignored: np.ndarray | None = None,
) -> Batch:
    """Patches ``(N, *P, C)`` and their maps ``(N, *P)`` as a batch; negatives keep only their centerline."""
    ignored = np.zeros_like(centerline) if ignored is None else ignored
    owner = np.flatnonzero(kind != Kind.NEGATIVE)
    ndim = pixels.ndim - 2
    states = {name: torch.from_numpy(array[owner, None] > 0) for name, array in maps.items()}
    return Batch(
        image=torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 1))),
        centerline=torch.from_numpy(centerline[:, None] > 0),
        ignored=torch.from_numpy(ignored[:, None] > 0),
        owner=torch.from_numpy(owner),
        corner=torch.zeros((len(owner), ndim), dtype=torch.int64),
        **states,
    )
