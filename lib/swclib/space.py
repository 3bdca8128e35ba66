"""Where the coordinates of an SWC file lie: their unit, the size of a voxel, the place of coordinate 0.

NETracer says it in the head of every trace, in words and as JSON, in the line ``# Meta:`` that navis reads too.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from lib.swclib.forest import SwcForest
from lib.swclib.transform import per_axis, translate

SwcOrigin = Literal["corner", "centre"]
"""Where coordinate 0 of an SWC lies in the first pixel: at its corner (DRIVE, CHASEDB1) or at its centre."""
SwcUnits = Literal["um", "voxel"]
"""Unit of an SWC's coordinates and radii: micrometres, or voxels (pixels in 2D)."""
CORNER = 0.5
"""Pixels from a pixel's corner to its centre; adding it converts pixel-centre coordinates to those of the corner."""
_ORIGIN = re.compile(r"^#.*\b0 is the (corner|centre) of the first (?:pixel|voxel)\b", re.MULTILINE)
_META = re.compile(r"^#\s*Meta:\s*(\{.*\})\s*$", re.MULTILINE | re.IGNORECASE)
_MICROMETRES = re.compile(r"(1(\.0*)? ?)?(um|µm|μm|microns?|micromet(er|re)s?)")
"""Micrometres as navis and others write them."""


@dataclass(frozen=True)
class SwcSpace:
    """What an SWC file says of its coordinates.

    Attributes
    ----------
    origin
        Place of coordinate 0 in the first pixel, in x and y; None if the file does not say.
    units
        None if the file does not say.
    voxel_size
        Micrometres, (z, y, x), or (y, x) for images; None if unknown.
    """

    origin: SwcOrigin | None = None
    units: SwcUnits | None = None
    voxel_size: tuple[float, ...] | None = None

    @classmethod
    def of_text(cls, text: str) -> SwcSpace:
        """Read what the text of an SWC file says: its ``# Meta:`` line, and the origin in words as well."""
        meta: dict[str, Any] = {}
        if found := _META.search(text):
            try:
                meta = json.loads(found[1])
            except ValueError:
                meta = {}  # Another program's line: it says nothing that we understand.
        words = _ORIGIN.search(text)
        origin = meta.get("origin", words and words[1])
        units = meta.get("coordinates")
        if units is None and _MICROMETRES.fullmatch(str(meta.get("units", ""))):
            units = "um"
        return cls(
            origin if origin in get_args(SwcOrigin) else None,
            units if units in get_args(SwcUnits) else None,
            _sizes(str(meta.get("voxel_size_um", ""))),
        )

    def head(self, ndim: int) -> list[str]:
        """Lines of a file's head that say it, in words and as JSON; sizes of voxels are in the order x y z there."""
        place = "pixel" if ndim == 2 else "voxel"
        unit = "micrometres" if self.units == "um" else {2: "image pixels", 3: "voxels of the file"}[ndim]
        words = [f"units: {unit} (x, y{', z' if ndim == 3 else ''}), radius too"]
        if ndim == 3 and self.units != "um":
            words = [f"units: {unit} (x, y, z); radius is in pixels of a slice"]
        if self.origin:
            words.append(f"0 is the {self.origin} of the first {place}")
        meta: dict[str, Any] = {"coordinates": self.units, "origin": self.origin}
        if self.voxel_size:
            sizes = [f"{size:.6g}" for size in self.voxel_size[::-1]]
            words.append(f"a {place} is {' x '.join(sizes)} um")
            # As text: navis complains about lists that it does not know.
            meta |= {
                "voxel_size_um": " ".join(sizes),
                "units": [f"{size} micrometer" for size in (*sizes, sizes[0])[:3]],
            }
        if self.units == "um":
            meta["units"] = "1 micrometer"
        said = {name: value for name, value in meta.items() if value is not None}
        return ["; ".join(words), f"Meta: {json.dumps(said)}"]

    def in_voxels(self, forest: SwcForest, voxel_size: tuple[float, ...] | None = None) -> SwcForest:
        """The trees of such a file in voxels, with coordinate 0 where it was.

        Parameters
        ----------
        forest
            Coordinates as in the file.
        voxel_size
            Used if the file does not name its own.

        Raises
        ------
        ValueError
            If the file is in micrometres and no size of a voxel is known.
        """
        if self.units != "um":
            return forest
        size = self.voxel_size or voxel_size
        if size is None:
            raise ValueError("in micrometres, and the size of a voxel is unknown")
        return _scaled(forest, 1 / per_axis(size))

    def centred(self, forest: SwcForest) -> SwcForest:
        """The trees of such a file in voxels, with 0 at the centre of the first; raises the error of `in_voxels`."""
        forest = self.in_voxels(forest)
        return translate(forest, (-CORNER, -CORNER)) if self.origin == "corner" else forest

    def coordinates(self, forest: SwcForest) -> SwcForest:
        """The reverse of :meth:`centred`: trees in voxels, 0 at the centre of the first, in the file's coordinates."""
        forest = translate(forest, (CORNER, CORNER)) if self.origin == "corner" else forest
        return _scaled(forest, per_axis(self.voxel_size)) if self.units == "um" and self.voxel_size else forest


def _sizes(text: str) -> tuple[float, ...] | None:
    """Two or three positive numbers (x y z), as (z, y, x); None if the text is anything else."""
    try:
        sizes = tuple(map(float, text.split()))[::-1]
    except ValueError:
        return None
    return sizes if len(sizes) in (2, 3) and all(0 < size < math.inf for size in sizes) else None


def _scaled(forest: SwcForest, factor: np.ndarray) -> SwcForest:
    """Multiply positions by a factor per axis (z, y, x), and radii, which are in pixels of a slice, by that of x."""
    return replace(forest, xyz=forest.xyz * factor[::-1], radius=forest.radius * factor[-1])
