"""Where an image lies on the earth: its coordinate reference system and its place in it, read by rasterio."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
LON_LAT = "EPSG:4326"
"""The coordinates of GeoJSON (RFC 7946 §4)."""


@dataclass(frozen=True)
class GeoReference:
    """Coordinate reference system and place of an image.

    Attributes
    ----------
    crs
        ``EPSG:32633``, or WKT where it has no such number.
    transform
        ``(a, b, c, d, e, f)``: x = a·column + b·row + c and y = d·column + e·row + f, with 0 at the corner of the
        first pixel.
    """

    crs: str
    transform: tuple[float, ...]

    @classmethod
    def of_image(cls, path: Path) -> GeoReference | None:
        """Read it from an image file of any format that GDAL knows, or a world file beside it; None if it has none."""
        rasterio = importlib.import_module("rasterio")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # one warning for every image without a georeference
                with rasterio.open(path) as image:
                    crs, transform = image.crs, image.transform
        except rasterio.errors.RasterioIOError:
            return None  # a format that our reader knows and GDAL does not
        return None if crs is None or transform.is_identity else cls(crs.to_string(), tuple(transform)[:6])

    def coordinates(self, positions: Floats) -> Floats:
        """``(N, 2)`` x and y in the reference system of pixel-centre positions ``(N, 2)`` (y, x)."""
        a, b, c, d, e, f = self.transform
        row, column = (np.asarray(positions) + 0.5).T
        return np.stack([a * column + b * row + c, d * column + e * row + f], axis=1)

    def longitude_latitude(self, positions: Floats) -> Floats:
        """``(N, 2)`` longitude and latitude (WGS 84) in degrees of pixel-centre positions ``(N, 2)`` (y, x)."""
        x, y = self.coordinates(positions).T
        transform = importlib.import_module("rasterio.warp").transform
        return np.array(transform(self.crs, LON_LAT, x.tolist(), y.tolist())).T.reshape(-1, 2)

    @property
    def pixel(self) -> float:
        """Size of a pixel in the unit of the coordinates: the geometric mean of both sides."""
        a, b, _, d, e, _ = self.transform
        return abs(a * e - b * d) ** 0.5

    @property
    def metres(self) -> float | None:
        """Metres per unit of the coordinates; None where they are degrees."""
        crs = importlib.import_module("rasterio.crs").CRS.from_string(self.crs)
        return float(crs.linear_units_factor[1]) if crs.is_projected else None
