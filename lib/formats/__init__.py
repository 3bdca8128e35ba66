"""Formats of a trace besides SWC and CSV. A new one is one file here with a function ``write``, and its line below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lib.formats import geojson, gpkg, graphml, precomputed
from lib.formats.graph import BranchGraph


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes
    ----------
    ending
        What follows the name of the image in that of its file, or folder.
    write
        Writes the file, or folder.
    packages
        What it imports.
    extra
        The extra of pyproject.toml that installs them.
    is_map
        Whether it places an image on the earth, if its file does.
    dimensions
        Of the images that it can hold.
    """

    ending: str
    write: Callable[[Path, BranchGraph], None]
    packages: tuple[str, ...]
    extra: str
    is_map: bool = False
    dimensions: tuple[int, ...] = (2, 3)

    def needed(self, ndim: int) -> tuple[str, ...]:
        """Packages needed for images of ``ndim`` dimensions."""
        return (*self.packages, *(("rasterio",) if self.is_map and ndim == 2 else ()))


FORMATS: Mapping[str, Format] = {
    "geojson": Format(".geojson", geojson.write, (), "geo", is_map=True, dimensions=(2,)),
    "gpkg": Format(".gpkg", gpkg.write, ("pyogrio", "shapely"), "geo", is_map=True, dimensions=(2,)),
    "graphml": Format(".graphml", graphml.write, ("networkx",), "geo", is_map=True),
    "precomputed": Format("_precomputed", precomputed.write, ("osteoid",), "precomputed"),
}
"""By the name in ``--formats``."""
