"""Images with their gold trees, from which training samples are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib.klib.drawing import draw_edges
from lib.klib.image_io import open_stack, write_tiff
from lib.klib.windows import crops
from lib.swclib import SwcForest, read_swc, write_swc
from lib.swclib.forest import KIND_TYPE
from models.contract import TUBE_RADIUS
from tools.data.sampling import SampleShape, States, Walks, negative_states

IMAGE_FILE, TREE_FILE, IGNORE_FILE = "image.tif", "tree.swc", "ignore.tif"


class Source(NamedTuple):
    """Where a training image comes from: the name of its dataset, and work pixels per pixel of the source image."""

    dataset: str = ""
    scale: float = 1.0


_UNKNOWN_SOURCE = Source()


@dataclass(frozen=True)
class TrainingImage:
    """One training image of shape ``*S`` in work pixels, with its gold tree.

    Attributes
    ----------
    name
        Stem of the source image.
    pixels
        ``(*S, C)`` uint8.
    tree
        The gold tree in work pixels, pixel-centre.
    centerline
        ``(*S,)`` bool: the tree drawn with radius :data:`~models.contract.TUBE_RADIUS`.
    walks
        Every walk along the tree; none has its current node on an ignored pixel.
    ignored
        ``(*S,)`` bool: pixels left out of the centerline loss, because the gold tree may be incomplete there; None if
        the tree is complete. The node and edge losses include these pixels: a tube that the gold tree lacks is never
        the branch that a walk follows.
    source
        See :class:`Source`.
    kinds
        ``(*S,)`` uint8: the kind of the tube of each centerline pixel; 0 where it is unknown or tubes of two kinds
        cross, and off the centerline. None if the kinds were not told apart.
    """

    name: str
    pixels: np.ndarray
    tree: SwcForest
    centerline: np.ndarray
    walks: Walks
    ignored: np.ndarray | None = None
    source: Source = _UNKNOWN_SOURCE
    kinds: np.ndarray | None = None

    @classmethod
    def build(
        cls,
        name: str,
        pixels: np.ndarray,
        tree: SwcForest,
        sample_shape: SampleShape,
        ignored: np.ndarray | None = None,
        source: Source = _UNKNOWN_SOURCE,
    ) -> TrainingImage:
        """Draw the centerline and find the walks; see the attributes for the arguments."""
        shape = pixels.shape[:-1]
        ends = tree.positions(len(shape))[tree.edges]
        walks = Walks(tree, len(shape), sample_shape, ignored)
        centerline = draw_edges(ends, TUBE_RADIUS, shape)
        return cls(name, pixels, tree, centerline, walks, ignored, source, _draw_kinds(tree, shape))

    @classmethod
    def load(cls, folder: Path, sample_shape: SampleShape, source: Source = _UNKNOWN_SOURCE) -> TrainingImage:
        """Load what :meth:`save` wrote to ``folder``; the source is not stored there.

        Raises
        ------
        UserError
            If a file is missing or broken.
        """
        pixels, tree = np.array(open_stack(folder / IMAGE_FILE)), read_swc(folder / TREE_FILE, allow_empty=True)
        mask = folder / IGNORE_FILE
        ignored = np.array(open_stack(mask)) > 0 if mask.is_file() else None
        return cls.build(folder.name, pixels, tree, sample_shape, ignored, source)

    def save(self, folder: Path) -> None:
        """Write the image, its tree and the ignored pixels, if any; the walks are rebuilt by :meth:`load`.

        Raises
        ------
        UserError
            If a file cannot be written.
        """
        write_tiff(folder / IMAGE_FILE, self.pixels)
        write_swc(folder / TREE_FILE, self.tree, comment=["work pixels, pixel-centre coordinates"])
        if self.ignored is not None:
            write_tiff(folder / IGNORE_FILE, self.ignored.view(np.uint8) * np.uint8(255))

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape in work pixels."""
        return self.pixels.shape[:-1]

    @property
    def n_kinds(self) -> int:
        """Number of kinds of tube in the image."""
        return 0 if self.kinds is None else int(self.tree.types.max()) - KIND_TYPE

    def ignored_crops(self, corner: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Crop :attr:`ignored` to ``(N, *shape)`` bool, in boxes whose first pixels are ``corner`` ``(N, ndim)``."""
        if self.ignored is None:
            return np.zeros((len(corner), *shape), dtype=bool)
        return crops(self.ignored, corner, shape)

    def kind_crops(self, corner: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Crop :attr:`kinds` in the same way, to ``(N, *shape)`` uint8."""
        if self.kinds is None:
            return np.zeros((len(corner), *shape), dtype=np.uint8)
        return crops(self.kinds, corner, shape)

    def mixed_states(self, rng: np.random.Generator, count: int) -> States:
        """Draw ``count`` walks, seeds and negatives in the paper's shares and random order (docs/paper.md §3).

        An image without a branch that is long enough for a walk gives only negatives.
        """
        sites = self.walks.sites
        n_negative = int(rng.binomial(count, self.walks.shape.negative_share)) if len(sites) else count
        parts = [negative_states(rng, n_negative, self.shape)]
        if n_negative < count:
            parts.append(self.walks.states(rng, rng.choice(sites, count - n_negative)))
        return States.concatenate(parts)[rng.permutation(count)]


def _draw_kinds(tree: SwcForest, shape: tuple[int, ...]) -> np.ndarray | None:
    """See :attr:`TrainingImage.kinds`."""
    of_edge = np.maximum(tree.types[tree.edges[:, 1]] - KIND_TYPE, 0)
    if not of_edge.any():
        return None
    ends, kinds, claimed = tree.positions(len(shape))[tree.edges], np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for kind in np.unique(of_edge):
        drawn = draw_edges(ends[of_edge == kind], TUBE_RADIUS, shape)
        kinds[drawn] = kind
        claimed += drawn
    kinds[claimed > 1] = 0
    return kinds
