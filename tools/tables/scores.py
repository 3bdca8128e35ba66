"""Scores of traces: every metric of every protocol in one row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from configs.presets import DatasetPreset
from lib.swclib import SwcForest, read_swc
from lib.swclib.metrics import Protocol, Row, score
from tools.data.folders import Case, load_tree
from tools.tables.methods import NODE_ONLY
from tools.tables.traces import Trace
from tools.tracing.trace import in_swc_coordinates

CONTINUITY = ("paths_F1", "paths_precision", "paths_recall", "breaks", "false_merges")
COUNTED_OTHERWISE = {
    "experiment": ("PE", "PE_matched_fraction", "JE"),
    "closed": ("JE", *CONTINUITY),
}
"""Numbers that a protocol counts in its own way, beside those of ``paper`` (docs/metrics.md)."""
COMPARED = ("closed", "paper")
"""Protocols by which jumps are compared; the first tells jumps from the gold's own cut loops."""


def gold_of(case: Case, dataset: DatasetPreset) -> SwcForest:
    """The gold tree of a case in the coordinates of the dataset's SWCs.

    Raises
    ------
    UserError
        As :func:`~tools.data.folders.load_tree`.
    """
    if case.swc is not None:
        return read_swc(case.swc)
    return in_swc_coordinates(load_tree(case, dataset.swc_origin)[0], dataset.swc_origin)


def scored(gold: SwcForest, test: SwcForest) -> Row:
    """All numbers of one pair: those of ``paper`` by name, those of another protocol with its name behind."""
    row = score(gold, test).row()
    for protocol in ("experiment", "closed"):
        other = score(gold, test, protocol=protocol).row()
        row |= {f"{name}_{protocol}": other[name] for name in COUNTED_OTHERWISE[protocol]}
    return row


def scored_trace(gold: SwcForest, trace: Trace) -> Row:
    """The numbers of a trace on the disk, and its times.

    Raises
    ------
    UserError
        If the trace cannot be read.
    """
    row = scored(gold, read_swc(trace.swc, allow_empty=True))
    return row | {"seconds": trace.seconds, "map_seconds": trace.map_seconds}


@dataclass(frozen=True)
class Comparison:
    """Jumps of one method against another, image by image.

    Attributes
    ----------
    protocol
        Of JE.
    fewer, equal, more
        Number of images on which the first has fewer jumps, as many, more.
    total, total_other
        Jumps on all those images.
    largest
        The image of the largest reduction, None where there is no reduction.
    """

    protocol: Protocol
    fewer: int
    equal: int
    more: int
    total: int
    total_other: int
    largest: str | None

    @property
    def images(self) -> int:
        """Number of images compared."""
        return self.fewer + self.equal + self.more

    def sentence(self) -> str:
        """What was found, in words."""
        return (
            f"JE ({self.protocol}): GDS has fewer jumps than {NODE_ONLY} on {self.fewer} of {self.images} images, "
            f"as many on {self.equal}, more on {self.more}; {self.total} jumps against {self.total_other} in all."
        )


def compared(ours: dict[str, Row], other: dict[str, Row], protocol: Protocol) -> Comparison:
    """Compare JE on the images that both methods traced.

    Parameters
    ----------
    ours, other
        Rows by image.
    protocol
        ``paper``, ``experiment`` or ``closed``.
    """
    column = "JE" if protocol == "paper" else f"JE_{protocol}"
    pairs = {name: (ours[name][column], other[name][column]) for name in ours if name in other}
    pairs = {name: pair for name, pair in pairs.items() if None not in pair}
    drop = {name: theirs - own for name, (own, theirs) in pairs.items()}
    best = max(drop, key=drop.__getitem__, default=None)
    return Comparison(
        protocol=protocol,
        fewer=_count(change > 0 for change in drop.values()),
        equal=_count(change == 0 for change in drop.values()),
        more=_count(change < 0 for change in drop.values()),
        total=sum(own for own, _ in pairs.values()),
        total_other=sum(theirs for _, theirs in pairs.values()),
        largest=best if best is not None and drop[best] > 0 else None,
    )


def _count(flags: Iterable[bool]) -> int:
    return sum(1 for flag in flags if flag)
