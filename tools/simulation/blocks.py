"""Simulated volumes with their gold: cut from morphologies, or made from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lib.swclib import SwcForest, concatenate, resample, rescale, subset, translate
from tools.simulation.effects import EFFECTS, Effects
from tools.simulation.trees import FINE, clip, random_normal, rounded, smooth_noise, with_neighbours, without_crumbs
from tools.simulation.volumes import render

GOLD_STEP = 2.0
"""Distance of the nodes of a gold in pixels: a chord of that length leaves a bend of radius 10 by 0.05."""
_AROUND = 48.0
"""Pixels around a block in which neurites are kept, so that what runs beside them comes from outside too."""
_PAIR_SHAPE, _APART = (24, 64, 160), 4.0
_DEMO_SHAPE = (48, 192, 192)


@dataclass(frozen=True)
class Simulated:
    """A volume whose truth is known.

    Attributes
    ----------
    volume
        ``(z, y, x)`` uint16 or uint8.
    gold
        Its neurites in voxels; the centre of the first voxel is 0, the radius is in pixels of a slice. Trees are cut
        at the centres of the outermost voxels.
    spacing
        ``(z, y, x)`` size of a voxel in µm.
    """

    volume: np.ndarray
    gold: SwcForest
    spacing: tuple[float, float, float]


def simulate_block(
    forest: SwcForest,
    corner: Sequence[float],
    shape: Sequence[int],
    spacing: tuple[float, float, float],
    effects: Effects,
    rng: np.random.Generator,
) -> Simulated:
    """Simulate a block of a morphology.

    Parameters
    ----------
    forest
        In pixels of a slice in all directions.
    corner
        Position (z, y, x) in the forest of the centre of the block's first voxel.
    shape
        Of the block in voxels, (z, y, x).
    spacing
        Size of a voxel in µm; only the ratio of z to x matters to the image.
    effects, rng
        As in `tools.simulation.volumes.render`.
    """
    aspect = spacing[0] / spacing[2]
    size = (np.array(shape) - 1) * (aspect, 1, 1)
    around = clip(translate(forest, -np.asarray(corner, float)), -_AROUND * np.ones(3), size + _AROUND)
    fine = rounded(around, effects, rng)
    count = int(rng.poisson(effects.neighbours * np.prod(shape) / 1e6))
    fine, labelled = with_neighbours(fine, size, count, effects, rng)
    volume = render(fine, shape, aspect, effects, rng)
    return Simulated(volume, gold_of(subset(fine, labelled[fine.components]), shape, aspect), spacing)


def gold_of(fine: SwcForest, shape: Sequence[int], aspect: float) -> SwcForest:
    """The part of a fine forest inside a volume, in voxels, with nodes ``GOLD_STEP`` pixels apart."""
    size = (np.array(shape) - 1) * (aspect, 1, 1)
    inside = resample(without_crumbs(clip(fine, np.zeros(3), size), GOLD_STEP), GOLD_STEP)
    voxels = rescale(inside, (1 / aspect, 1, 1))
    return replace(voxels, radius=inside.radius)


def parallel_pair(
    seed: int | Sequence[int],
    *,
    shape: Sequence[int] = _PAIR_SHAPE,
    apart: float = _APART,
    radius: float = 1.2,
    effects: Effects | None = None,
) -> Simulated:
    """Two wavy neurites that run side by side from end to end of a volume of cubic voxels.

    Parameters
    ----------
    seed
        Of this case.
    shape
        Of the volume; the neurites run along x, tilted at random as far as the other sides allow.
    apart
        Distance of the two centrelines in voxels, in a random direction.
    radius
        Mean radius; each neurite's own lies within 20 % of it.
    effects
        Default: the preset parallel, whose two neurites differ in brightness.
    """
    rng = np.random.default_rng(seed)
    effects = effects or Effects(**EFFECTS["parallel"])
    line = _tilted_line(np.array(shape, float), 2 * apart, rng)
    normal = random_normal(line[-1] - line[0], rng)
    trees = []
    for side in (-0.5, 0.5):
        own = radius * rng.uniform(0.8, 1.2)
        points = line + side * apart * normal
        trees.append(SwcForest.from_positions(points, np.arange(-1, len(points) - 1), own, types=2))
    pair = concatenate(trees)
    volume = render(pair, shape, 1.0, effects, rng)
    return Simulated(volume, gold_of(pair, shape, 1.0), (1.0, 1.0, 1.0))


def _tilted_line(shape: np.ndarray, margin: float, rng: np.random.Generator) -> np.ndarray:
    """``(n, 3)`` points ``FINE`` apart in x, through the middle of a volume, beyond both its ends."""
    x = np.arange(-10.0, shape[2] + 10, FINE)
    room = np.maximum(shape[:2] / 2 - margin, 0)
    slope = rng.uniform(-room, room) / (shape[2] / 2)
    line = np.column_stack([shape[axis] / 2 - 0.5 + slope[axis] * (x - shape[2] / 2) for axis in (0, 1)] + [x])
    line[:, :2] += 0.8 * smooth_noise((len(x), 2), 40.0, rng)
    return line


def demo_volume(seed: int, shape: Sequence[int] = _DEMO_SHAPE) -> tuple[np.ndarray, SwcForest, tuple[float, ...]]:
    """A volume of a neuron grown at random, with one neurite beside it and one across; nothing else is needed.

    Parameters
    ----------
    seed
        Of all randomness.
    shape
        Of the volume, cubic voxels.

    Returns
    -------
    volume (uint16, preset fmost), gold (voxels, all three trees), spacing (z, y, x)
    """
    rng = np.random.default_rng(seed)
    effects = Effects()
    size = np.array(shape) - 1.0
    fine = rounded(grown_tree(size, rng), effects, rng)
    for share in (1.0, 0.0):
        fine, _ = with_neighbours(fine, size, 1, replace(effects, parallel_share=share), rng)
    return render(fine, shape, 1.0, effects, rng), gold_of(fine, shape, 1.0), (1.0, 1.0, 1.0)


def grown_tree(size: np.ndarray, rng: np.random.Generator, branches: int = 12, step: float = 3.0) -> SwcForest:
    """A tree that grows into a box of ``size`` ``(3,)`` pixels from its side: walks that turn slowly and fork.

    Each branch is thinner than its parent; walks turn back where they come near the border.
    """
    start = size * (0.5, rng.uniform(0.3, 0.7), 0.02)
    nodes: list[np.ndarray] = [start]
    parent, radius = [-1], [2.6]
    waiting = [(0, np.array([0.0, 0.0, 1.0]), 0.75 * size[2])]
    for _ in range(branches):
        if not waiting:
            break
        origin, direction, length = waiting.pop(0)
        grown = _walk(nodes[origin], direction, int(length / step), step, size, rng)
        first = len(nodes)
        own = max(radius[origin] * rng.uniform(0.7, 0.9), 0.9)
        nodes += list(grown)
        parent += [origin, *range(first, first + len(grown) - 1)]
        radius += [own] * len(grown)
        for fork in np.sort(rng.choice(len(grown), min(3, len(grown) - 1), replace=False)):
            along = grown[fork] - (grown[fork - 1] if fork else nodes[origin])
            side = random_normal(along, rng) * (0.4, 1, 1) + 0.8 * along / step
            waiting.append((first + int(fork), side / np.linalg.norm(side), length * rng.uniform(0.4, 0.8)))
    return SwcForest.from_positions(np.array(nodes), parent, radius, types=2)


def _walk(
    start: np.ndarray, direction: np.ndarray, count: int, step: float, size: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """``(count, 3)`` places of a walk of even steps whose direction changes slowly and points inwards at the border."""
    places, here = [], start
    for _ in range(max(count, 4)):
        inward = np.clip((size / 2 - here) / (size / 2), -1, 1) ** 5
        direction = direction + rng.normal(0, 0.07, 3) * (0.5, 1, 1) + 0.3 * inward
        direction = direction / np.linalg.norm(direction)
        here = np.clip(here + step * direction, 2.0, size - 2.0)
        places.append(here)
    return np.array(places)
