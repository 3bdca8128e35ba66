"""Images with their gold trees, ready to draw training batches from.

A *scene* is one image in work space with its tree. A *tile* is a square of it with tracing states inside. In patch
training, the paper's way, a tile is one patch with one state in its middle; so both ways share one :class:`Batch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import affine_transform
from torch import Tensor

from lib.klib.drawing import draw_edges
from lib.klib.image_io import open_stack, write_tiff
from lib.klib.spaces import patch_corner
from lib.swclib import SwcForest, read_swc, write_swc
from tools.sampling import (
    TUBE_RADIUS,
    Kind,
    SampleShape,
    StateMaps,
    States,
    Walks,
    draw_states,
    negative_states,
)

IMAGE_FILE, TREE_FILE, IGNORE_FILE = "image.tif", "tree.swc", "ignore.tif"
_PLACES = 32
"""Random pixels of which the brightest becomes the place of a tile off the tree."""


@dataclass(frozen=True)
class Scene:
    """One training image in work space.

    Attributes
    ----------
    name
        Stem of the source image.
    pixels
        ``(*S, C)`` uint8.
    tree
        The gold in work pixels, pixel-centre.
    centerline
        ``(*S,)`` bool: the tree drawn with :data:`~tools.sampling.TUBE_RADIUS`.
    walks
        Every walk along the tree; none stands on an ignored pixel.
    ignored
        ``(*S,)`` bool: pixels that the centerline loss leaves out, because the tree does not tell what they show; None
        where it tells everywhere. The node and edge losses look at them all the same: wherever a tube goes that is not
        in the tree, it is not the one that a walk follows.
    """

    name: str
    pixels: np.ndarray
    tree: SwcForest
    centerline: np.ndarray
    walks: Walks
    ignored: np.ndarray | None = None

    @classmethod
    def build(
        cls,
        name: str,
        pixels: np.ndarray,
        tree: SwcForest,
        sample_shape: SampleShape,
        ignored: np.ndarray | None = None,
    ) -> Scene:
        """Draw the centerline and lay out the walks."""
        shape = pixels.shape[:-1]
        ends = tree.positions(len(shape))[tree.edges]
        walks = Walks(tree, len(shape), sample_shape, ignored)
        return cls(name, pixels, tree, draw_edges(ends, TUBE_RADIUS, shape), walks, ignored)

    @classmethod
    def load(cls, folder: Path, sample_shape: SampleShape) -> Scene:
        """Open what :meth:`save` left in ``folder``."""
        pixels, tree = np.array(open_stack(folder / IMAGE_FILE)), read_swc(folder / TREE_FILE, allow_empty=True)
        mask = folder / IGNORE_FILE
        ignored = np.array(open_stack(mask)) > 0 if mask.is_file() else None
        return cls.build(folder.name, pixels, tree, sample_shape, ignored)

    def save(self, folder: Path) -> None:
        """Write the work image and the work tree, from which :meth:`load` makes the scene again."""
        write_tiff(folder / IMAGE_FILE, self.pixels)
        write_swc(folder / TREE_FILE, self.tree, comment=["work pixels, pixel-centre coordinates"])
        if self.ignored is not None:
            write_tiff(folder / IGNORE_FILE, self.ignored.view(np.uint8) * np.uint8(255))

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape in work pixels."""
        return self.pixels.shape[:-1]

    def ignored_crops(self, corner: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """``(N, *shape)`` bool of :attr:`ignored` in the boxes at ``corner`` ``(N, ndim)``."""
        if self.ignored is None:
            return np.zeros((len(corner), *shape), dtype=bool)
        return crops(self.ignored, corner, shape)

    def mixed_states(self, rng: np.random.Generator, count: int) -> States:
        """Walks, seeds and negatives in random order, as the paper mixes them; only negatives where no walk fits."""
        n_negative = int(rng.binomial(count, self.walks.shape.negative_share)) if len(self.walks.sites) else count
        parts = [negative_states(rng, n_negative, self.shape)]
        if n_negative < count:
            parts.append(self.walks.states(rng, rng.choice(self.walks.sites, count - n_negative)))
        mixed = States.concatenate(parts)
        return mixed[rng.permutation(count)]


def crop(array: np.ndarray, corner: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Copy of the box of ``shape`` at ``corner``; zero where it hangs over the border. Further axes are kept whole."""
    return crops(array, np.array(corner)[None], shape)[0]


def crops(array: np.ndarray, corner: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Copies ``(N, *shape, ...)`` of the boxes at ``corner`` ``(N, ndim)``, as :func:`crop` makes one."""
    out = np.zeros((len(corner), *shape, *array.shape[len(shape) :]), dtype=array.dtype)
    low = np.maximum(corner, 0)
    high = np.maximum(np.minimum(corner + np.array(shape), array.shape[: len(shape)]), low)
    boxes = np.stack([low, high, low - corner, high - corner], axis=2).tolist()
    for row, box in enumerate(boxes):
        source = tuple(slice(a, b) for a, b, _, _ in box)
        out[(row, *(slice(c, d) for _, _, c, d in box))] = array[source]
    return out


@dataclass(frozen=True)
class Symmetry:
    """A flip of some axes, then perhaps a swap of the last two: what maps a tile onto itself.

    Attributes
    ----------
    flips
        One bool per axis.
    swap
        Whether y and x change places (the tile must be square in them).
    """

    flips: tuple[bool, ...]
    swap: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, ndim: int) -> Symmetry:
        """A random one; all are equally likely."""
        return cls(tuple(bool(b) for b in rng.integers(0, 2, ndim)), bool(rng.integers(0, 2)))

    def pixels(self, array: np.ndarray) -> np.ndarray:
        """Apply to ``(*shape, ...)``."""
        array = np.flip(array, [axis for axis, flip in enumerate(self.flips) if flip])
        last = len(self.flips) - 1
        return np.ascontiguousarray(np.swapaxes(array, last - 1, last) if self.swap else array)

    def positions(self, positions: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Apply to positions ``(..., ndim)`` in a tile of ``shape``."""
        moved = np.where(self.flips, np.array(shape) - 1 - positions, positions)
        return moved[..., [*range(len(shape) - 2), -1, -2]] if self.swap else moved


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


def warped(scene: Scene, *, angle: float, scale: float) -> Scene:
    """The scene turned by ``angle`` (radians) and resized by ``scale``, both in the plane of the last two axes.

    The canvas grows or shrinks with it, so that nothing is cut off; what lay outside the image is black.
    """
    ndim = len(scene.shape)
    forward = np.eye(ndim)
    forward[-2:, -2:] = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shape = np.ceil(np.abs(forward) @ scene.shape).astype(int)
    middle, new_middle = (np.array(scene.shape) - 1) / 2, (shape - 1) / 2
    backward = np.linalg.inv(forward)
    warp = {"matrix": backward, "offset": middle - backward @ new_middle, "output_shape": tuple(shape)}
    channels = [affine_transform(channel, **warp, order=1) for channel in np.moveaxis(scene.pixels, -1, 0)]
    ignored = None if scene.ignored is None else affine_transform(scene.ignored, **warp, order=0)
    xyz = np.array(scene.tree.xyz)
    xyz[:, ndim - 1 :: -1] = (scene.tree.positions(ndim) - middle) @ forward.T + new_middle
    tree = replace(scene.tree, xyz=xyz, radius=scene.tree.radius * scale)
    return Scene.build(scene.name, np.stack(channels, axis=-1), tree, scene.walks.shape, ignored)


def with_warped(scenes: Sequence[Scene], copies: int, largest_scale: float, seed: int) -> list[Scene]:
    """The scenes and ``copies`` of each, turned by any angle and resized by 1 / ``largest_scale`` to ``largest_scale``.

    Drawn once, before training: interpolating a whole image costs more than cutting a tile out of it.
    """
    rng = np.random.default_rng(seed)
    more = []
    for scene in scenes:
        for _ in range(copies):
            angle, power = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1)
            more.append(warped(scene, angle=angle, scale=largest_scale**power))
    return [*scenes, *more]


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
    scene: Scene,
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
        place = _bright_place(scene, rng)
    else:
        place = scene.walks.nodes[rng.integers(len(scene.walks.nodes))]
    middle = place + rng.uniform(-0.5, 0.5, ndim) * (tile - patch_shape)
    corner = patch_corner(middle, tile_shape)
    states = _states_inside(scene, rng, corner, tile, np.array(patch_shape), n_states)
    symmetry = Symmetry.draw(rng, ndim) if augment else Symmetry((False,) * ndim, False)
    states = states.mapped(lambda p: symmetry.positions(p - corner, tile_shape))
    state_corner = np.clip(patch_corner(states.center, patch_shape), 0, tile - patch_shape)
    return _batch(
        symmetry.pixels(crop(scene.pixels, corner, tile_shape)),
        symmetry.pixels(crop(scene.centerline, corner, tile_shape)),
        symmetry.pixels(scene.ignored_crops(corner[None], tile_shape)[0]),
        state_corner,
        draw_states(states, state_corner, patch_shape),
    )


def _bright_place(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """The brightest of some random pixels: ``(ndim,)``."""
    places = rng.integers(0, scene.shape, (_PLACES, len(scene.shape)))
    return places[scene.pixels[tuple(places.T)].sum(axis=-1, dtype=np.int64).argmax()]


def _states_inside(
    scene: Scene, rng: np.random.Generator, corner: np.ndarray, tile: np.ndarray, patch: np.ndarray, count: int
) -> States:
    """States on sites so far inside the tile that their patches are, too."""
    sites = scene.walks.sites
    place = scene.walks.nodes[scene.walks.tail[sites]] - corner
    sites = sites[np.all((place >= patch // 2) & (place <= tile - 1 - patch // 2), axis=1)]
    chosen = rng.choice(sites, count) if len(sites) else np.zeros(0, dtype=np.int64)
    return scene.walks.states(rng, chosen)


def draw_patches(scene: Scene, rng: np.random.Generator, *, patch_shape: tuple[int, ...], count: int) -> Batch:
    """``count`` patches, one state in the middle of each (none in a negative one), as the paper trains."""
    states = scene.mixed_states(rng, count)
    corner = patch_corner(states.center, patch_shape)
    maps = draw_states(states, corner, patch_shape)
    return patch_batch(
        crops(scene.pixels, corner, patch_shape),
        crops(scene.centerline, corner, patch_shape),
        {name: getattr(maps, name).numpy() for name in ("walk", "edge", "node", "branch")},
        states.kind,
        scene.ignored_crops(corner, patch_shape),
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
