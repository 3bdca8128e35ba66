"""Where an image lies on the earth: its coordinate reference system and its place in it, read by rasterio."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating]
LON_LAT = "EPSG:4326"
"""The coordinates of GeoJSON (RFC 7946 §4)."""
EQUATOR, ECCENTRICITY = 6_378_137.0, 0.0818191908426
"""Radius in metres and first eccentricity of the ellipsoid WGS 84 (NGA.STND.0036)."""


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

    def pixel_metres(self, position: ArrayLike) -> float:
        """Metres on the ground that the pixel at a position ``(2,)`` (y, x) spans: the geometric mean of both sides."""
        corner = np.asarray(position, dtype=float)
        sides = [metres(self.longitude_latitude(np.stack([corner, corner + side])))[0] for side in np.eye(2)]
        return float(np.sqrt(np.prod(sides)))


def metres(lon_lat: Floats) -> Floats:
    """``(N - 1,)`` metres between successive places ``(N, 2)``, longitude and latitude in degrees, near each other.

    Along the radii of curvature of the ellipsoid WGS 84, so whatever the reference system of the image is: a metre of
    Web Mercator is half a metre of ground at 60 degrees north, and a degree is no length at all.
    """
    lon, lat = np.radians(lon_lat).T
    middle = (lat[1:] + lat[:-1]) / 2
    bend = 1 - ECCENTRICITY**2 * np.sin(middle) ** 2
    north = EQUATOR * (1 - ECCENTRICITY**2) / bend**1.5 * np.diff(lat)
    east = EQUATOR / np.sqrt(bend) * np.cos(middle) * np.diff(lon)
    return np.hypot(north, east)


def ground_pixel(path: Path, shape: Sequence[int]) -> float | None:
    """Metres on the ground that a pixel in the middle of an image file spans, whose ``shape`` is (y, x).

    None without a georeference, or without rasterio, which reads it.
    """
    if importlib.util.find_spec("rasterio") is None or not path.is_file():
        return None
    place = GeoReference.of_image(path)
    return place.pixel_metres(np.array(shape[:2]) / 2) if place else None
