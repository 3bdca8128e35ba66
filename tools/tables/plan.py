"""What a run will cost: how many traces it makes, how many it reuses, and about how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from tools.tables.methods import GOLD, SINGLE_FRONT
from tools.tables.study import Study
from tools.tables.traces import ImageFile

MAP_SECONDS = 10.0
"""Rule of thumb for the centerline map of an image of DRIVE on two CPU cores (docs/tables.md, Cost)."""
SCORING_SECONDS = 2.0
"""Rule of thumb for scoring a trace of DRIVE in three protocols (docs/tables.md, Cost)."""
DOMINANT = 0.4
"""If the method ``single-front`` takes more than this share of the time, the plan says how to leave it out."""


@dataclass
class Plan:
    """Cost of a run.

    Attributes
    ----------
    parts
        Estimated seconds by dataset, image and method; the first method to trace an image is charged for its map.
    methods
        Estimated seconds of tracing by method.
    to_make, reused
        Number of traces.
    measured
        Number of traces to make whose time is estimated from records of earlier runs.
    """

    parts: dict[tuple[str, str, str], float] = field(default_factory=dict)
    methods: dict[str, float] = field(default_factory=dict)
    to_make: int = 0
    reused: int = 0
    measured: int = 0

    @property
    def seconds(self) -> float:
        """Estimated seconds of the run without its pictures."""
        return sum(self.parts.values())

    def report(self) -> list[str]:
        """The plan in one or two lines; none if nothing is to be traced or reused."""
        if not self.to_make + self.reused:
            return []
        line = f"{self.to_make} traces to make, {self.reused} reused; about {duration(self.seconds)}"
        if self.to_make:
            line += f"; {self.measured} of {self.to_make} times are means of earlier runs, the others rules of thumb"
        lines = [line]
        share = self.methods.get(SINGLE_FRONT, 0.0) / self.seconds
        others = " ".join(name for name in self.methods if name != SINGLE_FRONT)
        if share > DOMINANT and others:
            lines.append(f"{share:.0%} of that is {SINGLE_FRONT}; without it: --methods {others}")
        return lines


def make_plan(studies: Sequence[Study]) -> Plan:
    """Estimate the cost of all studies from the records of earlier runs, or else from rules of thumb."""
    plan = Plan()
    for study in studies:
        plan.methods |= {method.name: plan.methods.get(method.name, 0.0) for method in study.methods}
        earlier = {method.name: study.store.measured(method) for method in study.methods}
        maps = [trace.map_seconds for traces in earlier.values() for trace in traces]
        for case in study.cases:
            image = ImageFile(case.image, study.bench)
            map_seconds = fmean(maps or [MAP_SECONDS])
            for method in study.methods:
                part = (study.dataset.name, case.name, method.name)
                plan.parts[part] = SCORING_SECONDS
                if method.name == GOLD:
                    continue
                if study.store.reusable(method, image):
                    plan.reused += 1
                    continue
                times = [trace.seconds for trace in earlier[method.name]]
                expected = fmean(times or [method.seconds])
                plan.parts[part] += expected + map_seconds
                map_seconds = 0.0
                plan.methods[method.name] += expected
                plan.measured += bool(times)
                plan.to_make += 1
    return plan


def duration(seconds: float) -> str:
    """Seconds in words, such as ``40 s``, ``25 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
