"""From fine trees to the volume that a microscope would show of them.

In the order of nature: neurites shine, the optics blur them, tissue shines and shades, slices are displaced, photons
and the camera add noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter, shift

from lib.swclib import SwcForest
from tools.simulation.effects import Effects
from tools.simulation.trees import FINE, smooth_noise, through_forks
from tools.simulation.tubes import draw_tubes

_THICK = 4.0
"""Beads and gaps fade out on neurites thicker than this radius in pixels: trunks and somata have none."""
_WIDTH_AT_HALF = 2 * np.sqrt(np.log(2))
"""Of exp(-x²)."""


def render(
    forest: SwcForest, shape: Sequence[int], aspect: float, effects: Effects, rng: np.random.Generator
) -> np.ndarray:
    """A simulated volume of a forest.

    Parameters
    ----------
    forest
        Fine trees (`tools.simulation.trees.rounded`), in pixels of a slice in all directions; the centre of the first
        voxel is 0. What lies beyond the volume counts as far as its light reaches into it.
    shape
        Of the volume, (z, y, x).
    aspect
        Distance of the slices in pixels.
    effects
        What is done to it.
    rng
        All randomness.

    Returns
    -------
    ndarray
        ``shape`` uint16, or uint8 with ``effects.bits`` 8.
    """
    light = _optics(*neurites(forest, effects, rng), shape, aspect, effects, rng)
    counts = effects.signal * light
    counts += _tissue(shape, aspect, effects, rng)
    counts *= _illumination(shape, effects, rng)
    _displace_slices(counts, effects, rng)
    return _camera(counts, effects, rng)


def neurites(
    forest: SwcForest, effects: Effects, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segments with the radius and brightness of beads, gaps and uneven branches: ends, radius, light of `draw_tubes`.

    At a fork the two branches keep their own brightness.
    """
    points = forest.positions(3)
    ends, radii, lights = [np.zeros((0, 2, 3))], [np.zeros((0, 2))], [np.zeros((0, 2))]
    for path in through_forks(forest):
        radius, light = _profile(forest.radius[path], effects, rng)
        for values, pairs in ((points[path], ends), (radius, radii), (light, lights)):
            pairs.append(np.stack([values[:-1], values[1:]], axis=1))
    return np.concatenate(ends), np.concatenate(radii), np.concatenate(lights)


def _profile(radius: np.ndarray, effects: Effects, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Radius and brightness along one path of ``n`` nodes."""
    n = len(radius)
    thin = np.clip(2 - radius / _THICK, 0, 1)
    log_light = rng.normal() * effects.brightness_spread
    log_light = log_light + smooth_noise((n, 1), 40.0, rng)[:, 0] * effects.brightness_drift
    bead = thin * _bumps(n, effects.bead_spacing, (1.0, 2.5), rng) * effects.bead_size
    width = max(effects.gap_length, 1.0) / _WIDTH_AT_HALF
    gap = thin * _bumps(n, effects.gap_spacing, (0.5 * width, 1.5 * width), rng)
    light = np.exp(log_light) * (1 + bead / 2) * (1 - effects.gap_depth * np.minimum(gap, 1))
    return radius * (1 + bead), light


def _bumps(n: int, spacing: float, widths: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """``(n,)`` a sum of smooth bumps of height 0.4 to 1 at random places, on average ``spacing`` pixels apart."""
    total = np.zeros(n)
    if spacing <= 0:
        return total
    count = rng.poisson(n * FINE / spacing)
    drawn = rng.uniform(0, n * FINE, count), rng.uniform(0.4, 1.0, count), rng.uniform(*widths, count)
    along = np.arange(n) * FINE
    for place, height, width in zip(*drawn, strict=True):
        near = slice(*np.searchsorted(along, (place - 3 * width, place + 3 * width)))
        total[near] += height * np.exp(-(((along[near] - place) / width) ** 2))
    return total


def _optics(
    ends: np.ndarray,
    radius: np.ndarray,
    light: np.ndarray,
    shape: Sequence[int],
    aspect: float,
    effects: Effects,
    rng: np.random.Generator,
) -> np.ndarray:
    """Neurites, blobs and specks, blurred; ``shape`` float32 in units of the signal."""
    sigma = np.array([effects.psf_axial / aspect, effects.psf, effects.psf])
    margin = np.ceil(4 * sigma).astype(int)
    padded = tuple(int(n) for n in np.array(shape) + 2 * margin)
    moved = ends + margin * (aspect, 1, 1)
    sharp = draw_tubes(moved, radius, light, padded, aspect)
    sharp += _blobs(padded, aspect, effects, rng)
    blurred = gaussian_filter(sharp, sigma, mode="nearest", truncate=4.0)
    inner = tuple(slice(m, m + n) for m, n in zip(margin, shape, strict=True))
    seen = np.ascontiguousarray(blurred[inner])
    if effects.haze > 0:
        seen *= 1 - effects.haze
        seen += effects.haze * _haze(blurred, aspect, effects.haze_size)[inner]
    return seen


def _haze(light: np.ndarray, aspect: float, size: float) -> np.ndarray:
    """A wide blur, taken on a grid four times as coarse in a slice."""
    gathered = _halved(_halved(light))
    blurred = gaussian_filter(gathered, (size / aspect, size / 4, size / 4), mode="nearest")
    return _stretched(blurred, light.shape)


def _halved(volume: np.ndarray) -> np.ndarray:
    """Means of 2×2 pixels of every slice; a last odd row or column is repeated."""
    even = np.pad(volume, ((0, 0), (0, volume.shape[1] % 2), (0, volume.shape[2] % 2)), mode="edge")
    return (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4


def _stretched(coarse: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A coarse grid drawn out to a shape, linear in between, from corner to corner."""
    out = coarse.astype(np.float32, copy=False)
    for axis, size in enumerate(shape):
        place = np.linspace(0, out.shape[axis] - 1, size)
        below = np.minimum(place.astype(int), max(out.shape[axis] - 2, 0))
        rest = (place - below).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(out.ndim)])
        upper = np.minimum(below + 1, out.shape[axis] - 1)
        out = np.take(out, below, axis) * (1 - rest) + np.take(out, upper, axis) * rest
    return out


def _blobs(shape: Sequence[int], aspect: float, effects: Effects, rng: np.random.Generator) -> np.ndarray:
    """Autofluorescent blobs (round, lop-sided, of all sizes) and specks, before the blur."""
    volume = np.zeros(shape, np.float32)
    million = np.prod(shape) / 1e6
    count = rng.poisson(effects.blob_density * million)
    radius = effects.blob_radius * np.exp(0.4 * rng.standard_normal((count, 1)) + 0.2 * rng.standard_normal((count, 3)))
    bright = effects.blob_brightness * np.exp(0.6 * rng.standard_normal(count))
    for place, axes, value in zip(rng.uniform(0, shape, (count, 3)), radius / (aspect, 1, 1), bright, strict=True):
        box = tuple(
            slice(max(0, int(p - 3 * a)), int(p + 3 * a) + 2) for p, a in zip(place, np.maximum(axes, 0.3), strict=True)
        )
        grid = np.ogrid[tuple(slice(b.start, min(b.stop, n)) for b, n in zip(box, shape, strict=True))]
        squares = sum(((g - p) / max(a, 0.3)) ** 2 for g, p, a in zip(grid, place, axes, strict=True))
        volume[box] += value * np.exp(-squares)
    specks = tuple(rng.integers(0, shape, (rng.poisson(effects.speck_density * million), 3)).T)
    # The blur spreads a speck of one voxel over some ten.
    np.add.at(volume, specks, rng.exponential(1.0, len(specks[0])).astype(np.float32))
    return volume


def _tissue(shape: Sequence[int], aspect: float, effects: Effects, rng: np.random.Generator) -> np.ndarray:
    """Counts of the background with its texture: clouds, and grains a quarter of their size."""
    relative = np.ones(shape, np.float32)
    for size, strength in ((effects.texture_size, 1.0), (effects.texture_size / 4, 0.5)):
        if effects.texture * effects.background > 0 and size >= 1:
            relative += strength * effects.texture * _clouds(shape, aspect, size, rng)
    return effects.background * np.maximum(relative, 0)


def _clouds(shape: Sequence[int], aspect: float, size: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of standard deviation about 1 in a volume."""
    cells = [int(np.ceil(n / step)) + 2 for n, step in zip(shape, (max(size / aspect, 1.0), size, size), strict=True)]
    coarse = gaussian_filter(rng.standard_normal(cells), 0.6, mode="wrap")
    return _stretched(coarse / coarse.std(), shape)


def _illumination(shape: Sequence[int], effects: Effects, rng: np.random.Generator) -> np.ndarray:
    """Factor of the light: falling with depth, uneven across a slice, flickering between slices."""
    depth = 1 - effects.depth_loss * np.linspace(0, 1, shape[0])
    slices = depth * np.exp(effects.slice_flicker * rng.standard_normal(shape[0]))
    field = np.clip(_stretched(rng.standard_normal((3, 3)), shape[1:]), -2, 2) / 2
    return (slices[:, None, None] * (1 + effects.shading * field)).astype(np.float32)


def _displace_slices(counts: np.ndarray, effects: Effects, rng: np.random.Generator) -> None:
    """Move each slice sideways, in place."""
    moves = np.clip(rng.standard_normal((len(counts), 2)), -2.5, 2.5) * effects.misregistration
    moves -= moves.mean(axis=0)
    if effects.misregistration > 0:
        for z, move in enumerate(moves):
            counts[z] = shift(counts[z], move, order=3, mode="nearest")


def _camera(counts: np.ndarray, effects: Effects, rng: np.random.Generator) -> np.ndarray:
    """Photons, read noise, black level, digits."""
    noisy = np.maximum(counts, 0)
    if effects.gain > 0:
        noisy = (rng.poisson(noisy / effects.gain) * effects.gain).astype(np.float32)
    if effects.read_noise > 0:
        noisy += effects.read_noise * rng.standard_normal(noisy.shape, np.float32)
    if effects.noise_blur > 0:
        noisy = gaussian_filter(noisy, (0, effects.noise_blur, effects.noise_blur), mode="nearest")
    top = 2**effects.bits - 1
    return np.clip(np.rint(noisy + effects.offset), 0, top).astype(np.uint8 if effects.bits == 8 else np.uint16)
