"""Scores of a trace: every metric in every protocol, in one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from configs.presets import DatasetPreset
from lib.swclib import SwcForest, SwcSpace, read_swc
from lib.swclib.metrics import Protocol, Row, score
from lib.swclib.metrics.roads import gold_graph, road_scores, trace_graph
from tools.data.folders import Case, load_tree
from tools.tables.methods import NODE_ONLY
from tools.tables.traces import Trace

Numbers = Mapping[str, float | int | None]
"""A row that is only read."""
OTHER_PROTOCOLS: dict[Protocol, tuple[str, ...]] = {
    "experiment": ("PE", "PE_matched_fraction", "JE"),
    "closed": ("JE", "paths_F1", "paths_precision", "paths_recall", "breaks", "false_merges"),
}
"""Numbers whose value differs between a protocol and ``paper`` (docs/metrics.md)."""
COMPARED: tuple[Protocol, ...] = ("closed", "paper")
"""Protocols in which jumps are compared; the first does not count loops that the gold tree cuts."""


def gold_tree(case: Case, dataset: DatasetPreset) -> SwcForest:
    """The gold tree of a case in the coordinates of the dataset's SWC files.

    Raises
    ------
    UserError
        As :func:`~tools.data.folders.load_tree`.
    """
    if case.swc is not None:
        return read_swc(case.swc)
    return SwcSpace(dataset.swc_origin).coordinates(load_tree(case, dataset.swc_origin)[0])


def score_row(gold: SwcForest, test: SwcForest, *, is_network: bool = False) -> Row:
    """All scores of a pair; those of another protocol than ``paper`` have its name as suffix, such as ``JE_closed``.

    With ``is_network`` also those of a network of roads, in which all methods' loops are closed by one rule.
    """
    row = score(gold, test).row()
    for protocol, names in OTHER_PROTOCOLS.items():
        other = score(gold, test, protocol=protocol).row()
        row |= {f"{name}_{protocol}": other[name] for name in names}
    return row | (road_scores(gold_graph(gold), trace_graph(test)) if is_network else {})


def trace_row(gold: SwcForest, trace: Trace, *, is_network: bool = False) -> Row:
    """The scores and times of a trace on disk.

    Raises
    ------
    UserError
        If the trace cannot be read.
    """
    row = score_row(gold, read_swc(trace.swc, allow_empty=True), is_network=is_network)
    return row | {"seconds": trace.seconds, "map_seconds": trace.map_seconds}


@dataclass(frozen=True)
class Comparison:
    """Jumps of the shipped method and of ``node-only``, image by image.

    Attributes
    ----------
    protocol
        Protocol of JE.
    fewer, equal, more
        Number of images on which the shipped method has fewer jumps, equally many, more.
    total, total_other
        Jumps on all those images, of the shipped method and of ``node-only``.
    largest
        The image with the largest reduction; None if there is no reduction.
    """

    protocol: Protocol
    fewer: int
    equal: int
    more: int
    total: float
    total_other: float
    largest: str | None

    @property
    def images(self) -> int:
        """Number of images compared."""
        return self.fewer + self.equal + self.more

    def sentence(self) -> str:
        """The comparison in words."""
        return (
            f"JE ({self.protocol}): GDS has fewer jumps than {NODE_ONLY} on {self.fewer} of {self.images} images, "
            f"equally many on {self.equal}, more on {self.more}; {self.total:g} jumps against {self.total_other:g} "
            "in total."
        )


def compare(ours: Mapping[str, Numbers], other: Mapping[str, Numbers], protocol: Protocol) -> Comparison:
    """Compare JE, in one protocol, on the images that both methods traced.

    Parameters
    ----------
    ours, other
        Rows of the shipped method and of ``node-only``, by image.
    protocol
        Protocol of JE.
    """
    column = "JE" if protocol == "paper" else f"JE_{protocol}"
    total, total_other = 0.0, 0.0
    saved: dict[str, float] = {}
    for name in ours:
        own, theirs = ours[name].get(column), other.get(name, {}).get(column)
        if own is not None and theirs is not None:
            total, total_other, saved[name] = total + own, total_other + theirs, theirs - own
    best = max(saved, key=saved.__getitem__, default=None)
    return Comparison(
        protocol=protocol,
        fewer=sum(change > 0 for change in saved.values()),
        equal=sum(change == 0 for change in saved.values()),
        more=sum(change < 0 for change in saved.values()),
        total=total,
        total_other=total_other,
        largest=best if best is not None and saved[best] > 0 else None,
    )
