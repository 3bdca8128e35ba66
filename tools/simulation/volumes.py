"""Images of simulated trees.

The order is that of a microscope: neurites shine, the optics blur them, tissue adds light and shading, slices are
displaced, photons and the camera add noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter, shift

from lib.klib.spaces import interpolated
from lib.swclib import SwcForest
from tools.simulation.effects import Effects
from tools.simulation.trees import FINE_STEP, longest_paths, smooth_noise
from tools.simulation.tubes import draw_tubes

_THICK = 4.0
"""Radius in pixels from which beads and gaps fade out: trunks and somata have none."""
_WIDTH_AT_HALF = 2 * np.sqrt(np.log(2))
"""Full width of exp(-x²) at half its height."""
Segments = tuple[np.ndarray, np.ndarray, np.ndarray]
"""``(S, 2, 3)`` ends, ``(S, 2)`` radius and ``(S, 2)`` brightness, as in `tools.simulation.tubes.draw_tubes`."""


def render(forest: SwcForest, shape: Sequence[int], aspect: float, effects: Effects, rng: Generator) -> np.ndarray:
    """Simulate the image of a forest.

    Parameters
    ----------
    forest
        Trees by `tools.simulation.trees.smoothed`, in pixels of a slice in all directions; 0 is the centre of the
        first voxel. Neurites beyond the volume contribute the light that reaches into it.
    shape
        Shape of the volume in voxels (z, y, x).
    aspect
        Distance of the slices in pixels.
    effects
        Effects of light and camera, beads and gaps.
    rng
        Draws all that is random.

    Returns
    -------
    ndarray
        ``shape`` uint16, or uint8 if ``effects.bits`` is 8.
    """
    light = _optics(neurite_segments(forest, effects, rng), shape, aspect, effects, rng)
    counts = effects.signal * light
    counts += _tissue(shape, aspect, effects, rng)
    counts *= _illumination(shape, effects, rng)
    _displace_slices(counts, effects, rng)
    return _camera(counts, effects, rng)


def neurite_segments(forest: SwcForest, effects: Effects, rng: Generator) -> Segments:
    """Cut a forest into segments, and give them the radius and brightness of uneven branches, beads and gaps.

    Each path through the branch points has a brightness of its own.
    """
    points = forest.positions(3)
    segments: tuple[list[np.ndarray], ...] = ([np.zeros((0, 2, 3))], [np.zeros((0, 2))], [np.zeros((0, 2))])
    for path in longest_paths(forest):
        nodes = (points[path], *_profile(forest.radius[path], effects, rng))
        for values, pairs in zip(nodes, segments, strict=True):
            pairs.append(np.stack([values[:-1], values[1:]], axis=1))
    ends, radius, brightness = map(np.concatenate, segments)
    return ends, radius, brightness


def _profile(radius: np.ndarray, effects: Effects, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Radius and brightness at the nodes of one path."""
    n = len(radius)
    thin = np.clip(2 - radius / _THICK, 0, 1)
    log_light = rng.normal() * effects.brightness_spread
    log_light = log_light + smooth_noise((n, 1), 40.0, rng)[:, 0] * effects.brightness_drift
    bead = thin * _bumps(n, effects.bead_spacing, (1.0, 2.5), rng) * effects.bead_size
    width = max(effects.gap_length, 1.0) / _WIDTH_AT_HALF
    gap = thin * _bumps(n, effects.gap_spacing, (0.5 * width, 1.5 * width), rng)
    light = np.exp(log_light) * (1 + bead / 2) * (1 - effects.gap_depth * np.minimum(gap, 1))
    return radius * (1 + bead), light


def _bumps(n: int, spacing: float, widths: tuple[float, float], rng: Generator) -> np.ndarray:
    """``(n,)`` sum of smooth bumps of height 0.4 to 1 at random places, at a mean distance of ``spacing`` pixels."""
    total = np.zeros(n)
    if spacing <= 0:
        return total
    count = rng.poisson(n * FINE_STEP / spacing)
    bumps = rng.uniform(0, n * FINE_STEP, count), rng.uniform(0.4, 1.0, count), rng.uniform(*widths, count)
    along = np.arange(n) * FINE_STEP
    for place, height, width in zip(*bumps, strict=True):
        near = slice(*np.searchsorted(along, (place - 3 * width, place + 3 * width)))
        total[near] += height * np.exp(-(((along[near] - place) / width) ** 2))
    return total


def _optics(segments: Segments, shape: Sequence[int], aspect: float, effects: Effects, rng: Generator) -> np.ndarray:
    """Draw and blur neurites, blobs and specks; ``shape`` float32, 1 for a thick neurite of brightness 1."""
    ends, radius, brightness = segments
    sigma = np.array([effects.psf_axial / aspect, effects.psf, effects.psf])
    margin = np.ceil(4 * sigma).astype(int)
    padded = tuple(int(n) for n in np.array(shape) + 2 * margin)
    sharp = draw_tubes(ends + margin * (aspect, 1, 1), radius, brightness, padded, aspect)
    sharp += _blobs(padded, aspect, effects, rng)
    blurred = gaussian_filter(sharp, sigma, mode="nearest", truncate=4.0)
    inner = tuple(slice(m, m + n) for m, n in zip(margin, shape, strict=True))
    light = np.ascontiguousarray(blurred[inner])
    if effects.haze > 0:
        light *= 1 - effects.haze
        light += effects.haze * _haze(blurred, aspect, effects.haze_size)[inner]
    return light


def _haze(light: np.ndarray, aspect: float, size: float) -> np.ndarray:
    """Blur widely, for speed on a grid that is four times coarser within a slice."""
    blurred = gaussian_filter(_halved(_halved(light)), (size / aspect, size / 4, size / 4), mode="nearest")
    return _interpolated(blurred, light.shape)


def _halved(volume: np.ndarray) -> np.ndarray:
    """Means of 2×2 pixels of every slice; an odd last row or column is repeated."""
    even = np.pad(volume, ((0, 0), (0, volume.shape[1] % 2), (0, volume.shape[2] % 2)), mode="edge")
    return (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4


def _interpolated(coarse: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Interpolate a coarse grid linearly to a shape; the corners coincide."""
    out = coarse.astype(np.float32, copy=False)
    for axis, size in enumerate(shape):
        out = interpolated(out, axis, np.linspace(0, out.shape[axis] - 1, size))
    return out


def _blobs(shape: Sequence[int], aspect: float, effects: Effects, rng: Generator) -> np.ndarray:
    """Draw autofluorescent blobs (ellipsoids of many sizes) and specks, unblurred."""
    volume = np.zeros(shape, np.float32)
    millions = np.prod(shape) / 1e6
    count = rng.poisson(effects.blob_density * millions)
    radius = effects.blob_radius * np.exp(0.4 * rng.standard_normal((count, 1)) + 0.2 * rng.standard_normal((count, 3)))
    bright = effects.blob_brightness * np.exp(0.6 * rng.standard_normal(count))
    for place, axes, value in zip(rng.uniform(0, shape, (count, 3)), radius / (aspect, 1, 1), bright, strict=True):
        box = tuple(
            slice(max(0, int(p - 3 * a)), int(p + 3 * a) + 2) for p, a in zip(place, np.maximum(axes, 0.3), strict=True)
        )
        grid = np.ogrid[tuple(slice(b.start, min(b.stop, n)) for b, n in zip(box, shape, strict=True))]
        squares = sum(((g - p) / max(a, 0.3)) ** 2 for g, p, a in zip(grid, place, axes, strict=True))
        volume[box] += value * np.exp(-squares)
    specks = tuple(rng.integers(0, shape, (rng.poisson(effects.speck_density * millions), 3)).T)
    # A speck is one voxel here; the blur spreads it over about ten.
    np.add.at(volume, specks, rng.exponential(1.0, len(specks[0])).astype(np.float32))
    return volume


def _tissue(shape: Sequence[int], aspect: float, effects: Effects, rng: Generator) -> np.ndarray:
    """Counts of the background, textured by clouds and by grains of a quarter of their size."""
    relative = np.ones(shape, np.float32)
    for size, strength in ((effects.texture_size, 1.0), (effects.texture_size / 4, 0.5)):
        if effects.texture * effects.background > 0 and size >= 1:
            relative += strength * effects.texture * _clouds(shape, aspect, size, rng)
    return effects.background * np.maximum(relative, 0)


def _clouds(shape: Sequence[int], aspect: float, size: float, rng: Generator) -> np.ndarray:
    """Smooth noise in a volume, of a standard deviation of about 1."""
    cells = [int(np.ceil(n / step)) + 2 for n, step in zip(shape, (max(size / aspect, 1.0), size, size), strict=True)]
    coarse = gaussian_filter(rng.standard_normal(cells), 0.6, mode="wrap")
    return _interpolated(coarse / coarse.std(), shape)


def _illumination(shape: Sequence[int], effects: Effects, rng: Generator) -> np.ndarray:
    """Factor of the light, which falls with depth, varies across a slice and flickers between slices."""
    depth = 1 - effects.depth_loss * np.linspace(0, 1, shape[0])
    slices = depth * np.exp(effects.slice_flicker * rng.standard_normal(shape[0]))
    field = np.clip(_interpolated(rng.standard_normal((3, 3)), shape[1:]), -2, 2) / 2
    return (slices[:, None, None] * (1 + effects.shading * field)).astype(np.float32)


def _displace_slices(counts: np.ndarray, effects: Effects, rng: Generator) -> None:
    """Shift each slice sideways, in place."""
    moves = np.clip(rng.standard_normal((len(counts), 2)), -2.5, 2.5) * effects.misregistration
    moves -= moves.mean(axis=0)
    if effects.misregistration > 0:
        for z, move in enumerate(moves):
            counts[z] = shift(counts[z], move, order=3, mode="nearest")


def _camera(counts: np.ndarray, effects: Effects, rng: Generator) -> np.ndarray:
    """Add photon and read noise and the offset, and convert to integers."""
    noisy = np.maximum(counts, 0)
    if effects.gain > 0:
        noisy = (rng.poisson(noisy / effects.gain) * effects.gain).astype(np.float32)
    if effects.read_noise > 0:
        noisy += effects.read_noise * rng.standard_normal(noisy.shape, np.float32)
    if effects.noise_blur > 0:
        noisy = gaussian_filter(noisy, (0, effects.noise_blur, effects.noise_blur), mode="nearest")
    top = 2**effects.bits - 1
    return np.clip(np.rint(noisy + effects.offset), 0, top).astype(np.uint8 if effects.bits == 8 else np.uint16)
