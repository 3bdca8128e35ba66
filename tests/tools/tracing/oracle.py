"""A predictor that draws its maps from a known tree, with the interface of the real one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, dijkstra

from lib.klib.drawing import draw_edges
from lib.klib.spaces import patch_corner
from lib.swclib import SwcForest, resample
from models.contract import TUBE_RADIUS
from models.nenet import NENet
from tools.inference.arithmetic import Arithmetic
from tools.inference.encoded_image import EncodedImage, Tips
from tools.progress import Progress, silent

STEP = 10.0
"""Distance from a tip to the nodes that the oracle predicts, in units."""
FINE = 0.5
"""Spacing of the points of its tree, in pixels."""


def polylines(*lines: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Points ``(N, ndim)``, :data:`FINE` px from each other, and edges ``(M, 2)`` of lines; equal points become one."""
    positions, parents = [], []
    for line in lines:
        first = len(positions)
        positions += [list(point) for point in line]
        parents += [-1, *range(first, first + len(line) - 1)]
    ndim = len(positions[0])
    fine = resample(SwcForest.from_positions(np.array(positions, dtype=float), np.array(parents)), FINE)
    points, same = np.unique(fine.positions(ndim).round(6), axis=0, return_inverse=True)
    return points, same.ravel()[fine.edges]


def mapped(centerline: np.ndarray) -> EncodedImage:
    """An image of which only the centerline map is used."""
    pixels = np.zeros((*centerline.shape, 1), np.float32)
    return EncodedImage(pixels, centerline, NENet(centerline.ndim, 1, 1), lambda *_: torch.zeros(0))


class OraclePredictor:
    """A stand-in for :class:`tools.inference.predictor.Predictor` that knows the lines of an image.

    Parameters
    ----------
    lines
        As for :func:`polylines`, in work pixels.
    shape
        Shape of the image.
    patch_shape
        Shape of the maps.
    bright_neighbours
        Whether the node map also shows a brighter node on the nearest line that is not connected to the true one.
    floor
        Probability off the centerlines. If it is at least half of theirs, there are no valleys between lines.
    hidden
        Places ``(N, ndim)``; within 6 px of them the centerline map is empty.
    spacing
        Size of a pixel along each axis, in units.
    """

    arithmetic = Arithmetic()

    def __init__(
        self,
        lines: Sequence[Sequence[Sequence[float]]],
        shape: Sequence[int],
        patch_shape: Sequence[int],
        *,
        bright_neighbours: bool = False,
        floor: float = 0.01,
        hidden: Sequence[Sequence[float]] = (),
        spacing: float | Sequence[float] = 1.0,
    ) -> None:
        self.points, edges = polylines(*lines)
        self.shape, self.patch_shape, self.hidden = tuple(shape), tuple(patch_shape), hidden
        self.bright_neighbours, self.floor = bright_neighbours, floor
        self.network_seconds = 0.0
        self.largest_batch = 0
        count = len(self.points)
        length = np.linalg.norm(np.diff(self.points[edges], axis=1)[:, 0] * spacing, axis=1)
        self._graph = coo_matrix((length, edges.T), shape=(count, count)).tocsr()
        self._line = connected_components(self._graph, directed=False)[1]
        self._segments = self.points[edges]

    def encode(
        self, pixels: np.ndarray, *, centerline: np.ndarray | None = None, views: int = 0, progress: Progress = silent
    ) -> EncodedImage:
        """A map of ``centerline``, else 0.95 on centerlines, ``floor`` elsewhere; empty for images of other sizes."""
        if pixels.shape[:-1] != self.shape:
            # The scale of a trace is checked on the middle of its image, at half of it.
            return replace(mapped(np.zeros(pixels.shape[:-1], np.float32)), pixels=pixels)
        return replace(mapped(self._map() if centerline is None else centerline), pixels=pixels)

    def _map(self) -> np.ndarray:
        near = draw_edges(self._segments, TUBE_RADIUS, self.shape)
        grid = np.moveaxis(np.indices(self.shape), 0, -1)
        for place in self.hidden:
            near &= np.linalg.norm(grid - np.array(place), axis=-1) > 6
        return np.where(near, 0.95, self.floor).astype(np.float32)

    def predict(self, *batch: Tips) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Nodes one step along the tree and the edges to them: all of a seed, of other tips those ahead."""
        tips, walked = (np.concatenate(column) for column in list(zip(*batch, strict=True))[1:])
        corner = patch_corner(tips, self.patch_shape)
        self.largest_batch = max(self.largest_batch, len(tips))
        maps = [self._maps(tip, walk, low) for tip, walk, low in zip(tips, walked, corner, strict=True)]
        node, edge = (np.stack(column) for column in zip(*maps, strict=True))
        return node, edge, corner

    def _maps(self, tip: np.ndarray, walk: np.ndarray, corner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Node and edge map of one tip."""
        heading = tip - walk[0, 1]
        distance, before = dijkstra(
            self._graph, directed=False, indices=self._foot(tip, heading), limit=STEP + 1, return_predecessors=True
        )
        grid = np.moveaxis(np.indices(self.patch_shape), 0, -1) + corner
        node, edge = np.zeros(self.patch_shape, np.float32), np.full(self.patch_shape, 0.01, np.float32)
        for end in self._ends(distance, before):
            chain = [end]
            while before[chain[-1]] >= 0:
                chain.append(before[chain[-1]])
            path = self.points[chain[::-1]]
            if (path[min(6, len(path) - 1)] - path[0]) @ heading < 0:
                continue
            _draw_node(node, grid, path[-1], 0.7)
            if self.bright_neighbours:
                others = self.points[self._line != self._line[end]]
                _draw_node(node, grid, others[((others - path[-1]) ** 2).sum(axis=1).argmin()], 1.0)
            drawn = draw_edges(np.stack([path[:-1], path[1:]], axis=1) - corner, TUBE_RADIUS, self.patch_shape)
            edge[drawn] = 0.95
        return node, edge

    def _foot(self, tip: np.ndarray, heading: np.ndarray) -> int:
        """The point of the tree at a tip: of those near, the one whose line best follows the heading."""
        distance = np.linalg.norm(self.points - tip, axis=1)
        near = np.flatnonzero(distance <= max(1.5, distance.min()))
        if np.linalg.norm(heading) < 1e-6:
            return int(near[distance[near].argmin()])
        unit = heading / np.linalg.norm(heading)
        turn = []
        for point in near:
            others = self._graph[point].indices.tolist() + self._graph[:, point].nonzero()[0].tolist()
            along = self.points[others] - self.points[point]
            turn.append(1 - np.max(along @ unit / np.linalg.norm(along, axis=1)))
        return int(near[np.argmin(np.array(turn) + 0.2 * distance[near])])

    def _ends(self, distance: np.ndarray, before: np.ndarray) -> list[int]:
        """Points one step along the tree, and ends of the tree less than a step but more than 3 units away."""
        reached = np.flatnonzero(np.isfinite(distance) & (before >= 0))
        far = [n for n in reached if distance[n] >= STEP - FINE / 2 > distance[before[n]]]
        inner = set(before[reached].tolist())
        leaves = [n for n in reached if n not in inner and 3 < distance[n] < STEP - FINE / 2]
        return far + leaves


def _draw_node(node: np.ndarray, grid: np.ndarray, place: np.ndarray, height: float) -> None:
    """Draw a Gaussian of σ = 1.5 px into ``node``."""
    np.maximum(node, height * np.exp(-((grid - place) ** 2).sum(axis=-1) / 4.5), out=node)
