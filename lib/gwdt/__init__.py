"""Gray-weighted distance transform, and the radius of tubes computed from it."""

from __future__ import annotations

from lib.gwdt.radius import boundary_distance, radius_at
from lib.gwdt.transform import gwdt

__all__ = ["boundary_distance", "gwdt", "radius_at"]
