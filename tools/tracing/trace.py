"""The trace of an image, and its SWC file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from lib.klib.spaces import Spaces
from lib.swclib import SwcForest, SwcSpace, subset, tidied, translate, write_swc
from lib.swclib.branches import Branches
from lib.swclib.forest import KIND_TYPE, SOMA_TYPE
from tools.confidence.ahead import probability_ahead
from tools.confidence.evidence import TraceEvidence
from tools.confidence.model import Confidence, ConfidenceModel
from tools.tracing.cleanup.lookup import probabilities_at

LOOK = 10.0
"""Image pixels of a branch that give its direction at a branch point."""
TUBE_TYPE = 2
"""SWC type of the nodes of a trace (axon in Cannon et al. 1998): programs for neurons refuse 0, undefined."""


@dataclass(frozen=True)
class Trace:
    """The trace of an image, with its map, counts and timings.

    Attributes
    ----------
    forest
        The trees, in pixel-centre image positions.
    centerline
        ``(*work_shape,)`` float32 probability of each work pixel to lie on a centerline; None of an image traced in
        cells, of which nobody holds the whole map.
    spaces
        Conversion between image and work positions.
    loops
        int64 ``(L, 2)`` rows of the ends of edges that would close a loop, which a forest cannot hold.
    counts
        Seeds, steps, nodes, joins and loops, see :class:`~tools.tracing.growth.tracer.TraceResult`.
    stops
        Number of fronts stopped by each rule of :mod:`tools.tracing.growth.stopping`.
    seconds
        Seconds by stage.
    field
        ``(*image_shape,)`` bool, the field of view; None is the whole image.
    space
        Unit and origin of the coordinates in SWC files.
    swc_shift
        Image pixels added to x and y in SWC files.
    kind_names
        Names of the kinds of tube, from kind 1 on; empty if they have none.
    node_probability, node_ahead
        ``(N,)`` probability of the nodes of ``forest``, and ahead of its ends, where there is no map.
    confidence_model
        That of the weight file; None if it has none.
    """

    forest: SwcForest
    centerline: np.ndarray | None
    spaces: Spaces
    loops: np.ndarray
    counts: Mapping[str, int] = dataclass_field(default_factory=dict)
    stops: Mapping[str, int] = dataclass_field(default_factory=dict)
    seconds: Mapping[str, float] = dataclass_field(default_factory=dict)
    field: np.ndarray | None = None
    space: SwcSpace = dataclass_field(default_factory=lambda: SwcSpace("centre", "voxel"))
    swc_shift: float = 0.0
    kind_names: Sequence[str] = ()
    node_probability: np.ndarray | None = None
    node_ahead: np.ndarray | None = None
    confidence_model: ConfidenceModel | None = None

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.spaces.image_shape))
        return f"Trace({self.forest} of an image of {size})"

    @cached_property
    def swc_forest(self) -> SwcForest:
        """The trees as an SWC file holds them: its coordinates, no tree of one node, no edge without length."""
        types = np.where(self.forest.types > 0, self.forest.types, TUBE_TYPE)
        return tidied(self._in_file(replace(self.forest, types=types)))

    @cached_property
    def branches(self) -> Branches:
        """Branches of :attr:`swc_forest`, in its unit."""
        return Branches.of(self.swc_forest, look=LOOK * self.pixel_size)

    @cached_property
    def swc_probability(self) -> np.ndarray:
        """``(N,)`` centerline probability of the nodes of :attr:`swc_forest`."""
        return self.node_probabilities(self.in_image(self.swc_forest))

    @cached_property
    def evidence(self) -> TraceEvidence:
        """What speaks for and against each branch, join and end of :attr:`swc_forest`."""
        nodes = self.swc_probability, self._swc_ahead
        return TraceEvidence.of(self.swc_forest, self.branches, *nodes, self.work_unit)

    @cached_property
    def confidence(self) -> Confidence | None:
        """How sure each branch, join and end of :attr:`swc_forest` is; None if the weights have no model for it."""
        return self.confidence_model(self.evidence) if self.confidence_model else None

    @property
    def work_unit(self) -> float:
        """Length of a work pixel of the finest axis in the unit of the SWC file."""
        return self.pixel_size / float(self.spaces.scale[-1])

    def probabilities(self, positions: np.ndarray) -> np.ndarray:
        """Centerline probabilities ``(M,)`` at image positions ``(M, ndim)`` of nodes of the trace."""
        if self.centerline is not None:
            return probabilities_at(self.spaces.to_work(positions), self.centerline)
        return self._of_nodes(self.node_probability, positions)

    def node_probabilities(self, forest: SwcForest) -> np.ndarray:
        """Centerline probabilities ``(N,)`` of nodes in image positions; somata, which have none, get 1."""
        found = self.probabilities(forest.positions(len(self.spaces.image_shape)))
        return np.where(forest.types == SOMA_TYPE, 1.0, found)

    def _of_nodes(self, values: np.ndarray | None, positions: np.ndarray) -> np.ndarray:
        """Values ``(N,)`` of the nodes of :attr:`forest` at image positions ``(M, ndim)``; 0 where there are none."""
        if values is None or len(values) != len(self.forest) or not len(positions):
            return np.zeros(len(positions))
        _, node = KDTree(self.forest.positions(positions.shape[1])).query(positions)
        return values[node]

    @property
    def _swc_ahead(self) -> np.ndarray:
        """``(N,)`` probability ahead of the ends of :attr:`swc_forest`."""
        positions = self.in_image(self.swc_forest).positions(len(self.spaces.image_shape))
        if self.centerline is None:
            return self._of_nodes(self.node_ahead, positions)
        sizes = np.array(self.pixel_sizes) / self.spaces.scale / self.work_unit
        in_units = SwcForest.from_positions(self.spaces.to_work(positions) * sizes, self.swc_forest.parent)
        return probability_ahead(in_units, self.centerline, sizes)

    @property
    def field_share(self) -> float:
        """Share of the image that the field of view covers."""
        return 1.0 if self.field is None else float(self.field.mean())

    @property
    def unit(self) -> str:
        """Unit of lengths in an SWC file, as in the names of columns: ``um``, or ``px`` or ``voxel`` of its file."""
        if self.space.units == "um":
            return "um"
        return "px" if len(self.spaces.image_shape) == 2 else "voxel"

    @property
    def pixel_sizes(self) -> tuple[float, ...]:
        """``(ndim,)`` size of an image pixel in the unit of the SWC file."""
        in_microns = self.space.voxel_size if self.space.units == "um" else None
        return in_microns or (1.0,) * len(self.spaces.image_shape)

    @property
    def pixel_size(self) -> float:
        """The smallest of these."""
        return min(self.pixel_sizes)

    def kind(self, swc_type: int) -> str | int | None:
        """Kind of tube of nodes of a type: its name, its number if it has no name; None if the type is of no kind."""
        kind = swc_type - KIND_TYPE
        if kind < 1:
            return None
        return self.kind_names[kind - 1] if kind <= len(self.kind_names) else kind

    def in_image(self, forest: SwcForest) -> SwcForest:
        """A forest in the coordinates of the SWC file in pixel-centre image positions."""
        return translate(self.space.centred(forest), (-self.swc_shift, -self.swc_shift))

    def _in_file(self, forest: SwcForest) -> SwcForest:
        """A forest in pixel-centre image positions in the coordinates of an SWC file."""
        return self.space.coordinates(translate(forest, (self.swc_shift, self.swc_shift)))

    def write(self, path: str | Path, *, comment: Sequence[str] = ()) -> None:
        """Write the trees as SWC, with units and origin in its head; the file appears only when complete.

        Parameters
        ----------
        path
            File to write.
        comment
            Further lines at its head.

        Raises
        ------
        UserError
            If it cannot be written.
        """
        self._write(Path(path), self.swc_forest, comment)

    def write_each_tree(self, folder: Path, *, comment: Sequence[str] = ()) -> None:
        """Write every tree as an SWC file of its own, the longest first: ``1.swc``, ``2.swc`` and so on.

        Parameters
        ----------
        folder
            An empty folder.
        comment
            As in :meth:`write`.

        Raises
        ------
        UserError
            If a file cannot be written.
        """
        forest = self.swc_forest
        lengths = np.bincount(forest.components[forest.edges[:, 1]], forest.edge_lengths, len(forest.roots))
        order = np.argsort(-lengths, kind="stable")
        for number, tree in enumerate(order.tolist(), start=1):
            name = f"{number:0{len(str(len(order)))}}.swc"
            self._write(folder / name, subset(forest, forest.components == tree), comment)

    def _write(self, path: Path, forest: SwcForest, comment: Sequence[str]) -> None:
        named = (f"{KIND_TYPE + kind} {name}" for kind, name in enumerate(self.kind_names, start=1))
        is_soma = forest.types == SOMA_TYPE
        if is_soma.sum() > 1:  # other programs want one cell in a file
            forest = replace(forest, types=np.where(is_soma, TUBE_TYPE, forest.types))
        said = f"types: {', '.join(named) or f'{KIND_TYPE} plus the kind of tube'}"
        kinds = [said] if (forest.types > KIND_TYPE).any() else []
        write_swc(path, forest, comment=[*comment, *kinds, *self.space.head(len(self.spaces.work_shape))])

    def somata(self) -> list[dict[str, Any]]:
        """Centre ``at`` (x, y, z) and ``radius`` of the body of each cell, as in the SWC file."""
        rows = np.flatnonzero(self.swc_forest.types == SOMA_TYPE)
        places, radii = self.swc_forest.xyz[rows].round(2).tolist(), self.swc_forest.radius[rows].round(2).tolist()
        return [{"at": place, "radius": radius} for place, radius in zip(places, radii, strict=True)]

    def loop_ends(self) -> list[dict[str, list[float]]]:
        """Both ends, ``from`` and ``to``, of each open loop as (x, y, z) in SWC coordinates."""
        ends = np.round(self._in_file(self.forest).xyz, 2)[self.loops].tolist()
        return [{"from": start, "to": end} for start, end in ends]
