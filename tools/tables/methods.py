"""The rows of a table: how each traces. docs/tables.md explains them to a reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tools.tables.skeletons import TEASAR, Make, kimimaro_skeleton, skan_skeleton, skeleton
from tools.tables.sources import version

GOLD = "gold"
"""The method that does nothing: the gold against itself."""
SHIPPED, NODE_ONLY = "netracer", "node-only"


@dataclass(frozen=True)
class Method:
    """One way from an image to a tree.

    Attributes
    ----------
    name
        As in ``--methods``.
    what
        Said in the report, in a few words.
    changes
        What is changed of the shipped options of a trace.
    make
        For methods that trace nothing: makes a forest of the mask of the map, see :mod:`tools.tables.skeletons`.
    parameters
        Of ``make``, kept with its trees.
    package
        What must be installed for it.
    """

    name: str
    what: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    make: Make | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    package: str = ""

    @property
    def unavailable(self) -> str:
        """Why it cannot be run here; empty if it can."""
        missing = self.package and version(self.package) is None
        return f"not installed: pip install {self.package} (versions: requirements-tables.txt)" if missing else ""


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(SHIPPED, "NETracer as shipped: many fronts, features encoded once, GDS, joins"),
        Method(
            "single-front",
            "the paper's procedure: one front, the whole network on every patch (--fronts 1 --features patch)",
            {"fronts": 1, "features": "patch"},
        ),
        Method(NODE_ONLY, "the brightest node, no look at the edge (--method brightest)", {"method": "brightest"}),
        Method("no-joins", "traces that meet stay apart (--joins false --gap 0)", {"joins": False, "gap": 0.0}),
        Method("skeleton", "skeleton of the same map, scikit-image", make=skeleton),
        Method("skan", "skeleton of the same map, graph and pruning by skan", make=skan_skeleton, package="skan"),
        Method(
            "kimimaro",
            "TEASAR skeleton of the same map, kimimaro",
            make=kimimaro_skeleton,
            parameters=TEASAR,
            package="kimimaro",
        ),
        Method(GOLD, "the gold against itself: its ABL is the mark, its JE what a count can do to a perfect trace"),
    )
}
"""Every method by name, in the order of the tables."""
