"""Neurites as light: the share of each voxel that lies inside a tube, times the tube's brightness."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

_THINNEST = 0.5
"""A tube thinner than this radius is drawn with it, dimmer by as much as its cross-section is smaller."""


def draw_tubes(
    ends: np.ndarray, radius: np.ndarray, light: np.ndarray, shape: Sequence[int], aspect: float
) -> np.ndarray:
    """Draw tapered tubes into a volume.

    Parameters
    ----------
    ends
        ``(S, 2, 3)`` starts and ends (z, y, x) in pixels of a slice, along z too; the centre of the first voxel is 0.
    radius, light
        ``(S, 2)`` radius in pixels (> 0) and brightness at both ends, linear in between.
    shape
        Of the volume, (z, y, x) voxels.
    aspect
        Distance of the slices in pixels.

    Returns
    -------
    ndarray
        ``shape`` float32: brightness times the share of the voxel inside a tube, the largest where tubes overlap. The
        share is that of a half space at the tube's surface (error below 0.05 in a voxel); the light of a whole
        cross-section is right for all radii.
    """
    slabs = max(1, round(aspect))
    fine = np.zeros((shape[0] * slabs, shape[1], shape[2]), np.float32)
    step = aspect / slabs
    shifted = np.array(ends, dtype=np.float64)
    # The first of the slabs that make up a slice lies this far before the slice's centre.
    shifted[..., 0] += (aspect - step) / 2
    _draw(shifted, np.asarray(radius, np.float64), np.asarray(light, np.float64), step, fine)
    return fine.reshape(shape[0], slabs, shape[1], shape[2]).mean(axis=1)


@numba.njit(cache=True, nogil=True)
def _draw(ends, radius, light, step, out):
    """Draw into slabs ``step`` pixels apart."""
    for s in range(len(ends)):
        start, along = ends[s, 0], ends[s, 1] - ends[s, 0]
        squared = max((along**2).sum(), 1e-12)
        reach = max(radius[s, 0], radius[s, 1], _THINNEST) + 0.5
        low, high = np.minimum(start, ends[s, 1]) - reach, np.maximum(start, ends[s, 1]) + reach
        for z in range(max(0, int(np.ceil(low[0] / step))), min(out.shape[0], int(high[0] / step) + 1)):
            dz = z * step - start[0]
            for y in range(max(0, int(np.ceil(low[1]))), min(out.shape[1], int(high[1]) + 1)):
                dy = y - start[1]
                for x in range(max(0, int(np.ceil(low[2]))), min(out.shape[2], int(high[2]) + 1)):
                    dx = x - start[2]
                    t = min(max((dz * along[0] + dy * along[1] + dx * along[2]) / squared, 0.0), 1.0)
                    apart = (dz - t * along[0]) ** 2 + (dy - t * along[1]) ** 2 + (dx - t * along[2]) ** 2
                    value = _share(np.sqrt(apart), radius[s, 0] + t * (radius[s, 1] - radius[s, 0]))
                    value *= light[s, 0] + t * (light[s, 1] - light[s, 0])
                    if value > out[z, y, x]:
                        out[z, y, x] = value


@numba.njit(cache=True)
def _share(distance, radius):
    """Share inside a tube of a voxel at a distance from its axis.

    A ramp of width 1 at radius R has the cross-section π(R² + 1/12), so R is chosen to give the π·radius² wanted.
    """
    drawn = np.sqrt(max(radius**2 - 1.0 / 12.0, _THINNEST**2))
    dimmed = radius**2 / (drawn**2 + 1.0 / 12.0)
    return dimmed * min(max(drawn + 0.5 - distance, 0.0), 1.0)
