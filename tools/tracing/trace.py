"""The trace of an image, and its SWC file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.klib.spaces import Spaces
from lib.swclib import CORNER, SwcForest, SwcOrigin, translate, write_swc
from lib.swclib.forest import KIND_TYPE

UNITS = {
    2: "image pixels; 0 is the {origin} of the first pixel; radius is not measured",
    3: "voxels of the file (x, y, z); 0 is the {origin} of the first voxel; radius is in pixels of a slice",
}
"""Units and origin of the SWC of images of two and three dimensions."""


@dataclass(frozen=True)
class Trace:
    """The trace of an image, with its map, counts and timings.

    Attributes
    ----------
    forest
        The trees, in pixel-centre image positions.
    centerline
        ``(*work_shape,)`` float32 probability of each work pixel to lie on a centerline.
    spaces
        Conversion between image and work positions.
    loops
        ``(L, 2, ndim)`` image positions of the ends of joins that were left out because they would close a loop.
    counts
        Seeds, steps, nodes, joins and loops, see :class:`~tools.tracing.growth.tracer.TraceResult`.
    stops
        Number of fronts stopped by each rule of :mod:`tools.tracing.growth.stopping`.
    seconds
        Seconds by stage.
    swc_origin, swc_shift
        Position of coordinate 0 in the first pixel, and image pixels added to x and y, in SWC files.
    """

    forest: SwcForest
    centerline: np.ndarray
    spaces: Spaces
    loops: np.ndarray
    counts: Mapping[str, int] = field(default_factory=dict)
    stops: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    swc_origin: SwcOrigin = "centre"
    swc_shift: float = 0.0

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.spaces.image_shape))
        return f"Trace({self.forest} of an image of {size})"

    @property
    def swc_forest(self) -> SwcForest:
        """The trees in the coordinates of an SWC file."""
        return in_swc_coordinates(self.forest, self.swc_origin, self.swc_shift)

    def write(self, path: str | Path, *, comment: Sequence[str] = ()) -> None:
        """Write the trees as SWC, with units and origin in its head; the file appears only when complete.

        Parameters
        ----------
        path
            File to write.
        comment
            Further lines at its head.

        Raises
        ------
        UserError
            If it cannot be written.
        """
        units = UNITS[len(self.spaces.work_shape)].format(origin=self.swc_origin)
        kinds = [f"types: {KIND_TYPE} plus the kind of tube"] if (self.forest.types > KIND_TYPE).any() else []
        write_swc(Path(path), self.swc_forest, comment=[*comment, f"units: {units}", *kinds])

    def loop_ends(self) -> list[dict[str, list[float]]]:
        """Both ends, ``from`` and ``to``, of each open loop as (x, y, z) in SWC coordinates."""
        ends = self.loops.reshape(-1, len(self.spaces.work_shape))
        nodes = SwcForest.from_positions(ends, np.full(len(ends), -1))
        xyz = in_swc_coordinates(nodes, self.swc_origin, self.swc_shift).xyz
        return [{"from": start, "to": end} for start, end in np.round(xyz, 2).reshape(-1, 2, 3).tolist()]


def in_swc_coordinates(forest: SwcForest, origin: SwcOrigin, shift: float = 0.0) -> SwcForest:
    """Convert pixel-centre image positions to SWC coordinates; z stays.

    Parameters
    ----------
    forest
        Pixel-centre image positions.
    origin
        Position of coordinate 0 in the first pixel.
    shift
        Image pixels added to x and y.
    """
    moved = shift + (CORNER if origin == "corner" else 0.0)
    return translate(forest, (moved, moved))
