"""Images of simulated trees, whole or window by window.

The order is that of a microscope: neurites shine, the optics blur them, tissue adds light and shading, slices are
displaced, photons and the camera add noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from scipy.ndimage import gaussian_filter, shift

from lib.klib.spaces import interpolated
from lib.klib.windows import box
from lib.swclib import SwcForest
from tools.simulation.effects import Effects
from tools.simulation.trees import FINE_STEP, longest_paths, smooth_noise
from tools.simulation.tubes import draw_tubes

_THICK = 4.0
"""Radius in pixels from which beads and gaps fade out: trunks and somata have none."""
_WIDTH_AT_HALF = 2 * np.sqrt(np.log(2))
"""Full width of exp(-x²) at half its height."""
_COARSE = 4
"""Pixels of a slice, along y and x, in one of the grid on which haze is blurred."""
_SPLINE = 12
"""Pixels over which a displaced slice depends on its values: the cubic spline's memory falls to 1e-7."""
_MOST_CELLS = 256
"""Cells along an axis after which the clouds of a volume repeat: 64 MiB."""
_LEAST_AXIS = 0.3
"""Least axis of a blob in voxels."""
Segments = tuple[np.ndarray, np.ndarray, np.ndarray]
"""``(S, 2, 3)`` ends, ``(S, 2)`` radius and ``(S, 2)`` brightness, as in `tools.simulation.tubes.draw_tubes`."""


def render(forest: SwcForest, shape: Sequence[int], aspect: float, effects: Effects, rng: Generator) -> np.ndarray:
    """Simulate the whole image of a forest: ``shape`` uint16 or uint8; the parameters are those of `draw_scene`."""
    return draw_scene(forest, shape, aspect, effects, rng).whole()


def draw_scene(forest: SwcForest, shape: Sequence[int], aspect: float, effects: Effects, rng: Generator) -> Scene:
    """Draw all that is random in the image of a forest, except for the noise of each voxel.

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
    """
    segments = neurite_segments(forest, effects, rng)
    margin = np.max(_margins(aspect, effects), axis=0)
    return Scene(
        shape=tuple(int(size) for size in shape),
        aspect=aspect,
        effects=effects,
        segments=segments,
        blobs=_draw_blobs(-margin, np.array(shape) + margin, aspect, effects, rng),
        specks=_draw_specks(-margin, np.array(shape) + margin, effects, rng),
        clouds=_draw_clouds(shape, aspect, effects, rng),
        slices=_draw_slices(shape[0], effects, rng),
        shading=_Grid.spanning(shape[1:], rng.standard_normal((3, 3)).astype(np.float32)),
        moves=_draw_moves(shape[0], effects, rng),
        seed=int(rng.integers(1 << 62)),
    )


@dataclass(frozen=True)
class Scene:
    """A volume before it is rendered, made by `draw_scene`.

    Any window of it can be rendered alone: neighbouring windows fit together without a seam, and the memory needed
    depends on the window, not on the volume.

    Attributes
    ----------
    shape
        Shape of the volume in voxels (z, y, x).
    aspect, effects
        As in `draw_scene`.
    segments
        Neurites.
    blobs
        Autofluorescent ellipsoids: ``(N, 3)`` centres and half axes in voxels, ``(N,)`` brightness.
    specks
        Bright voxels: ``(N, 3)`` int places and ``(N,)`` brightness.
    clouds
        Texture of the tissue, as a share of the background.
    slices
        ``(shape[0],)`` factor of the light of each slice.
    shading
        Unevenness of the light across a slice, -2 to 2.
    moves
        ``(shape[0], 2)`` displacement (y, x) of each slice in pixels.
    seed
        Random seed of the noise of the camera.
    """

    shape: tuple[int, ...]
    aspect: float
    effects: Effects
    segments: Segments
    blobs: tuple[np.ndarray, np.ndarray, np.ndarray]
    specks: tuple[np.ndarray, np.ndarray]
    clouds: tuple[_Grid, ...]
    slices: np.ndarray
    shading: _Grid
    moves: np.ndarray
    seed: int

    @property
    def dtype(self) -> npt.DTypeLike:
        """Type of the counts."""
        return np.uint8 if self.effects.bits == 8 else np.uint16

    def whole(self) -> np.ndarray:
        """Render the whole volume at once."""
        return self.window(np.zeros(3, int), np.array(self.shape))

    def window(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Render the voxels from ``low`` (included) to ``high`` (excluded), ``(3,)`` int, inside the volume.

        The noise of a voxel depends on the window's first corner, all else only on the place of the voxel.
        """
        side = int(np.ceil(4 * self.effects.noise_blur)) * np.array([0, 1, 1])
        rng = np.random.default_rng([self.seed, *low.tolist()])
        noisy = _camera(self._displaced(low - side, high + side), self.effects, rng)
        return noisy[box(side, side + high - low)].astype(self.dtype)

    def _displaced(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Counts in a window, with slices displaced; float32."""
        if not self.moves.any():
            return self._counts(low, high)
        side = (int(np.ceil(np.abs(self.moves).max())) + _SPLINE) * np.array([0, 1, 1])
        counts = self._counts(low - side, high + side)
        for plane, move in zip(counts, self.moves[low[0] : high[0]], strict=True):
            plane[:] = shift(plane, move, order=3, mode="nearest")
        return counts[box(side, side + high - low)]

    def _counts(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Counts in a window where no slice is displaced; float32. It may reach beyond the volume along y and x."""
        counts = self.effects.signal * self._light(low, high)
        tissue = np.ones(counts.shape, np.float32)
        for cloud in self.clouds:
            tissue += cloud.window(low, high)
        counts += self.effects.background * np.maximum(tissue, 0)
        field = 1 + self.effects.shading / 2 * np.clip(self.shading.window(low[1:], high[1:]), -2, 2)
        counts *= self.slices[low[0] : high[0], None, None] * field
        return counts

    def _light(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Light of neurites, blobs and specks in a window, blurred; float32, 1 for a thick neurite of brightness 1."""
        near, far = _margins(self.aspect, self.effects)
        # Haze is blurred on a coarse grid, whose first pixel begins at a multiple of its size in all windows.
        unit = np.array([1, _COARSE, _COARSE])
        first, last = (low - np.maximum(near, far)) // unit * unit, -(-(high + np.maximum(near, far)) // unit) * unit
        sharp = self._sharp(first, last)
        core = sharp[box(low - near - first, high + near - first)]
        light = gaussian_filter(core, _widths(self.aspect, self.effects), mode="nearest", truncate=4.0)
        light = light[box(near, near + high - low)]
        if self.effects.haze == 0:
            return light
        coarse = sum(sharp[:, i::_COARSE, j::_COARSE] for i in range(_COARSE) for j in range(_COARSE)) / _COARSE**2
        haze = gaussian_filter(coarse, _widths(self.aspect, self.effects, self.effects.haze_size) / unit, truncate=4.0)
        for axis, size in enumerate(unit):
            centres = np.arange(low[axis], high[axis]) - first[axis] - (size - 1) / 2
            haze = interpolated(haze, axis, centres / size)
        return (1 - self.effects.haze) * light + self.effects.haze * haze

    def _sharp(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Light of neurites, blobs and specks in a window before the blur; float32."""
        scale = np.array([self.aspect, 1, 1])
        ends, radius, brightness = self.segments
        reach = radius.max(axis=1)[:, None] + 1
        starts, stops = np.minimum(ends[:, 0], ends[:, 1]) - reach, np.maximum(ends[:, 0], ends[:, 1]) + reach
        near = np.all((stops >= (low - 1) * scale) & (starts <= high * scale), axis=1)
        light = draw_tubes(ends[near] - low * scale, radius[near], brightness[near], tuple(high - low), self.aspect)
        _add_blobs(light, low, *self.blobs)
        places, shine = self.specks
        inside = np.all((places >= low) & (places < high), axis=1)
        np.add.at(light, tuple((places[inside] - low).T), shine[inside])
        return light


class _Grid(NamedTuple):
    """Values on a coarse periodic grid: voxel i lies at ``i * step`` along an axis."""

    values: np.ndarray
    step: tuple[float, ...]

    @classmethod
    def spanning(cls, shape: Sequence[int], values: np.ndarray, cells: Sequence[int] | None = None) -> _Grid:
        """Let the first and the last of ``cells`` (by default all) lie on those of a volume of this shape."""
        counts = values.shape if cells is None else cells
        return cls(values, tuple((n - 1) / max(size - 1, 1) for n, size in zip(counts, shape, strict=True)))

    def window(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Interpolate linearly in the voxels from ``low`` (included) to ``high`` (excluded)."""
        places = [np.arange(*ends) * step for *ends, step in zip(low, high, self.step, strict=True)]
        cells = [np.arange(int(np.floor(each[0])), int(np.floor(each[-1])) + 2) for each in places]
        part = self.values[np.ix_(*(each % n for each, n in zip(cells, self.values.shape, strict=True)))]
        for axis, (each, inside) in enumerate(zip(places, cells, strict=True)):
            part = interpolated(part, axis, each - inside[0])
        return part


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


def _widths(aspect: float, effects: Effects, spread: float = 0.0) -> np.ndarray:
    """``(3,)`` width in voxels of the point spread, itself spread further by ``spread`` pixels."""
    return np.hypot((effects.psf_axial, effects.psf, effects.psf), spread) / (aspect, 1, 1)


def _margins(aspect: float, effects: Effects) -> tuple[np.ndarray, np.ndarray]:
    """``(3,)`` voxels beyond a window from which light reaches into it, in focus and as haze."""
    near = np.ceil(4 * _widths(aspect, effects)).astype(int)
    if effects.haze == 0:
        return near, np.zeros(3, int)
    far = np.ceil(4 * _widths(aspect, effects, effects.haze_size)).astype(int)
    # Rounding of the blur's radius takes half a pixel of the coarse grid, interpolation one and a half.
    return near, far + 2 * _COARSE * np.array([0, 1, 1])


def _draw_blobs(
    low: np.ndarray, high: np.ndarray, aspect: float, effects: Effects, rng: Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place blobs (ellipsoids of many sizes) between two corners: see `Scene.blobs`."""
    count = rng.poisson(effects.blob_density * np.prod(high - low) / 1e6)
    radius = effects.blob_radius * np.exp(0.4 * rng.standard_normal((count, 1)) + 0.2 * rng.standard_normal((count, 3)))
    bright = effects.blob_brightness * np.exp(0.6 * rng.standard_normal(count))
    return rng.uniform(low, high, (count, 3)), np.maximum(radius / (aspect, 1, 1), _LEAST_AXIS), bright


def _add_blobs(light: np.ndarray, low: np.ndarray, centres: np.ndarray, axes: np.ndarray, bright: np.ndarray) -> None:
    """Add blobs to the light of the window that begins at ``low``."""
    first = np.maximum(np.floor(centres - 3 * axes).astype(int) - low, 0)
    last = np.minimum(np.floor(centres + 3 * axes).astype(int) + 2 - low, light.shape)
    for blob in np.flatnonzero((first < last).all(axis=1)):
        where = box(first[blob], last[blob])
        parts = zip(np.ogrid[where], centres[blob] - low, axes[blob], strict=True)
        squares = sum(((grid - centre) / axis) ** 2 for grid, centre, axis in parts)
        light[where] += bright[blob] * np.exp(-squares)


def _draw_specks(low: np.ndarray, high: np.ndarray, effects: Effects, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Place specks between two corners: see `Scene.specks`. The blur spreads the voxel of each over about ten."""
    count = rng.poisson(effects.speck_density * np.prod(high - low) / 1e6)
    return rng.integers(low, high, (count, 3)), rng.exponential(1.0, count).astype(np.float32)


def _draw_clouds(shape: Sequence[int], aspect: float, effects: Effects, rng: Generator) -> tuple[_Grid, ...]:
    """Texture of the background: clouds, and grains of a quarter of their size; see `Scene.clouds`."""
    clouds = []
    for size, strength in ((effects.texture_size, 1.0), (effects.texture_size / 4, 0.5)):
        if effects.texture * effects.background > 0 and size >= 1:
            steps = (max(size / aspect, 1.0), size, size)
            cells = [int(np.ceil(n / step)) + 2 for n, step in zip(shape, steps, strict=True)]
            noise = rng.standard_normal(tuple(min(n, _MOST_CELLS) for n in cells), np.float32)
            coarse = gaussian_filter(noise, 0.6, mode="wrap")
            clouds.append(_Grid.spanning(shape, coarse * (strength * effects.texture / coarse.std()), cells))
    return tuple(clouds)


def _draw_slices(count: int, effects: Effects, rng: Generator) -> np.ndarray:
    """``(count,)`` factor of the light, which falls with depth and flickers between slices; float32."""
    depth = 1 - effects.depth_loss * np.linspace(0, 1, count)
    return (depth * np.exp(effects.slice_flicker * rng.standard_normal(count))).astype(np.float32)


def _draw_moves(count: int, effects: Effects, rng: Generator) -> np.ndarray:
    """``(count, 2)`` displacement of each slice in pixels, of mean 0."""
    moves = np.clip(rng.standard_normal((count, 2)), -2.5, 2.5) * effects.misregistration
    return moves - moves.mean(axis=0)


def _camera(counts: np.ndarray, effects: Effects, rng: Generator) -> np.ndarray:
    """Add photon and read noise and the offset, and round and clip to the range of the file."""
    noisy = np.maximum(counts, 0)
    if effects.gain > 0:
        noisy = (rng.poisson(noisy / effects.gain) * effects.gain).astype(np.float32)
    if effects.read_noise > 0:
        noisy += effects.read_noise * rng.standard_normal(noisy.shape, np.float32)
    if effects.noise_blur > 0:
        noisy = gaussian_filter(noisy, (0, effects.noise_blur, effects.noise_blur), mode="nearest")
    return np.clip(np.rint(noisy + effects.offset), 0, 2**effects.bits - 1)
