"""Simulated volumes with their gold: blocks of morphologies, pairs of neurites and grown neurons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from lib.swclib import SwcForest, concatenate, resample, rescale, subset, translate
from lib.vectors import unit
from tools.simulation.effects import EFFECTS, Effects
from tools.simulation.trees import (
    FINE_STEP,
    clip,
    neurite,
    random_normal,
    smooth_noise,
    smoothed,
    with_neighbours,
    without_short_trees,
)
from tools.simulation.volumes import Scene, draw_scene

GOLD_STEP = 2.0
"""Distance in pixels of the nodes of a gold tree: a chord of this length leaves a bend of radius 10 by 0.05."""
_MARGIN = 48.0
"""Pixels around a block in which neurites are kept, so that neighbours may enter, and light reach in, from outside."""
_PAIR_SHAPE = (24, 64, 160)
_DEMO_SHAPE = (48, 192, 192)
Spacing = tuple[float, float, float]
"""Size of a voxel (z, y, x) in µm."""


class Simulated(NamedTuple):
    """A volume with known truth.

    Attributes
    ----------
    volume
        ``(z, y, x)`` uint16 or uint8.
    gold
        Neurites in voxels; 0 is the centre of the first voxel, and the radius is in pixels of a slice. Trees are cut
        at the centres of the outermost voxels.
    spacing
        Size of a voxel (z, y, x) in µm.
    """

    volume: np.ndarray
    gold: SwcForest
    spacing: Spacing


class Simulation(NamedTuple):
    """A volume that is not rendered yet, and its truth; ``gold`` and ``spacing`` are those of `Simulated`."""

    scene: Scene
    gold: SwcForest
    spacing: Spacing

    def rendered(self) -> Simulated:
        """Render the whole volume."""
        return Simulated(self.scene.whole(), self.gold, self.spacing)


def simulate_block(
    forest: SwcForest, corner: Sequence[float], shape: Sequence[int], spacing: Spacing, effects: Effects, rng: Generator
) -> Simulated:
    """Simulate a block of a morphology; the parameters are those of `plan_block`."""
    return plan_block(forest, corner, shape, spacing, effects, rng).rendered()


def plan_block(
    forest: SwcForest, corner: Sequence[float], shape: Sequence[int], spacing: Spacing, effects: Effects, rng: Generator
) -> Simulation:
    """Draw a block of a morphology, to be rendered.

    Parameters
    ----------
    forest
        Morphology in pixels of a slice in all directions.
    corner
        Position (z, y, x) in the morphology of the centre of the first voxel.
    shape
        Shape of the block in voxels (z, y, x).
    spacing
        Size of a voxel (z, y, x) in µm; only the ratio of z to x changes the image.
    effects, rng
        As in `tools.simulation.volumes.draw_scene`.
    """
    aspect = spacing[0] / spacing[2]
    size = _extent(shape, aspect)
    around = clip(translate(forest, [-value for value in corner]), -_MARGIN * np.ones(3), size + _MARGIN)
    fine = smoothed(around, effects, rng)
    count = int(rng.poisson(effects.neighbours * np.prod(shape) / 1e6))
    fine, labelled = with_neighbours(fine, size, count, effects, rng)
    scene = draw_scene(fine, shape, aspect, effects, rng)
    return Simulation(scene, gold_standard(subset(fine, labelled[fine.components]), shape, aspect), spacing)


def gold_standard(forest: SwcForest, shape: Sequence[int], aspect: float) -> SwcForest:
    """Make the gold tree of a volume.

    Parameters
    ----------
    forest
        Trees that were drawn, in pixels of a slice; 0 is the centre of the first voxel.
    shape
        Shape of the volume in voxels (z, y, x).
    aspect
        Distance of the slices in pixels.

    Returns
    -------
    SwcForest
        The part inside the volume in voxels, with nodes ``GOLD_STEP`` pixels apart; radii stay in pixels.
    """
    inside = clip(forest, np.zeros(3), _extent(shape, aspect))
    gold = resample(without_short_trees(inside, GOLD_STEP), GOLD_STEP)
    return replace(rescale(gold, (1 / aspect, 1, 1)), radius=gold.radius)


def _extent(shape: Sequence[int], aspect: float) -> np.ndarray:
    """``(3,)`` distance between the centres of the outermost voxels (z, y, x), in pixels."""
    return (np.array(shape) - 1) * (aspect, 1, 1)


def parallel_pair(
    seed: int | Sequence[int],
    *,
    shape: Sequence[int] = _PAIR_SHAPE,
    separation: float = 4.0,
    radius: float = 1.2,
    effects: Effects | None = None,
) -> Simulated:
    """Simulate two neurites side by side; the parameters are those of `plan_pair`."""
    return plan_pair(seed, shape=shape, separation=separation, radius=radius, effects=effects).rendered()


def plan_pair(
    seed: int | Sequence[int],
    *,
    shape: Sequence[int] = _PAIR_SHAPE,
    separation: float = 4.0,
    radius: float = 1.2,
    effects: Effects | None = None,
) -> Simulation:
    """Draw two wavy neurites that run side by side from end to end of a volume of cubic voxels, to be rendered.

    Parameters
    ----------
    seed
        Random seed of this case.
    shape
        Shape of the volume (z, y, x); the neurites run along x, tilted at random as far as z and y allow.
    separation
        Distance of the two centrelines in voxels; its direction is random.
    radius
        Mean radius in voxels; that of each neurite lies within 20 % of it.
    effects
        By default the preset parallel, in which the two neurites differ in brightness.
    """
    rng = np.random.default_rng(seed)
    effects = effects or Effects(**EFFECTS["parallel"])
    line = _tilted_line(np.array(shape, float), 2 * separation, rng)
    normal = random_normal(line[-1] - line[0], rng)
    pair = concatenate(
        [neurite(line + side * separation * normal, radius * rng.uniform(0.8, 1.2)) for side in (-0.5, 0.5)]
    )
    return _in_cubic_voxels(pair, shape, effects, rng)


def _in_cubic_voxels(forest: SwcForest, shape: Sequence[int], effects: Effects, rng: Generator) -> Simulation:
    """A volume of a whole forest."""
    scene = draw_scene(forest, shape, 1.0, effects, rng)
    return Simulation(scene, gold_standard(forest, shape, 1.0), (1.0, 1.0, 1.0))


def _tilted_line(shape: np.ndarray, margin: float, rng: Generator) -> np.ndarray:
    """``(n, 3)`` points ``FINE_STEP`` apart in x, through the middle of a volume and beyond both ends."""
    x = np.arange(-_MARGIN, shape[2] + _MARGIN, FINE_STEP)
    room = np.maximum(shape[:2] / 2 - margin, 0)
    slope = rng.uniform(-room, room) / (shape[2] / 2)
    line = np.column_stack([shape[axis] / 2 - 0.5 + slope[axis] * (x - shape[2] / 2) for axis in (0, 1)] + [x])
    line[:, :2] += 0.8 * smooth_noise((len(x), 2), 40.0, rng)
    return line


def demo_volume(seed: int, shape: Sequence[int] = _DEMO_SHAPE) -> Simulated:
    """Simulate a randomly grown neuron with one neurite beside it and one across it, in the preset fmost.

    Parameters
    ----------
    seed
        Random seed.
    shape
        Shape of the volume (z, y, x), of cubic voxels.
    """
    rng = np.random.default_rng(seed)
    effects = Effects()
    size = _extent(shape, 1.0)
    fine = smoothed(grow_tree(size, rng), effects, rng)
    for parallel_share in (1.0, 0.0):
        fine, _ = with_neighbours(fine, size, 1, replace(effects, parallel_share=parallel_share), rng)
    return _in_cubic_voxels(fine, shape, effects, rng).rendered()


def grow_tree(size: np.ndarray, rng: Generator, branches: int = 12, step: float = 3.0) -> SwcForest:
    """Grow a tree by random walks that branch, each thinner than its parent.

    Parameters
    ----------
    size
        ``(3,)`` size (z, y, x) in pixels of the box that holds the tree; the root lies near its face x = 0.
    rng
        Draws the walks.
    branches
        Number of walks.
    step
        Distance of nodes in pixels.
    """
    nodes: list[np.ndarray] = [size * (0.5, rng.uniform(0.3, 0.7), 0.02)]
    parent, radius = [-1], [2.6]
    waiting = [(0, np.array([0.0, 0.0, 1.0]), 0.75 * size[2])]
    for _ in range(branches):
        if not waiting:
            break
        origin, direction, length = waiting.pop(0)
        walk = _walk(nodes[origin], direction, int(length / step), step, size, rng)
        first = len(nodes)
        walk_radius = max(radius[origin] * rng.uniform(0.7, 0.9), 0.9)
        nodes += list(walk)
        parent += [origin, *range(first, first + len(walk) - 1)]
        radius += [walk_radius] * len(walk)
        for node in np.sort(rng.choice(len(walk), min(3, len(walk) - 1), replace=False)):
            along = walk[node] - (walk[node - 1] if node else nodes[origin])
            side = random_normal(along, rng) * (0.4, 1, 1) + 0.8 * along / step
            waiting.append((first + int(node), unit(side), length * rng.uniform(0.4, 0.8)))
    return SwcForest.from_positions(np.array(nodes), parent, radius, types=2)


def _walk(
    start: np.ndarray, direction: np.ndarray, count: int, step: float, size: np.ndarray, rng: Generator
) -> np.ndarray:
    """``(count, 3)`` points of a walk of equal steps; its direction drifts, and turns inwards near the border."""
    points, here = [], start
    for _ in range(max(count, 4)):
        inward = np.clip((size / 2 - here) / (size / 2), -1, 1) ** 5
        direction = unit(direction + rng.normal(0, 0.07, 3) * (0.5, 1, 1) + 0.3 * inward)
        here = np.clip(here + step * direction, 2.0, size - 2.0)
        points.append(here)
    return np.array(points)
