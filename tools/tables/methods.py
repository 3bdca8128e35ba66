"""The methods, one for each row of a table; docs/tables.md explains them to readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tools.tables.skeletons import TEASAR, MakeSkeleton, kimimaro_skeleton, skan_skeleton, skeleton
from tools.tables.sources import version

GOLD = "gold"
"""The method that traces nothing: the gold tree is scored against itself."""
SHIPPED, NODE_ONLY, SINGLE_FRONT = "netracer", "node-only", "single-front"


@dataclass(frozen=True)
class Method:
    """A way from an image to a tree.

    Attributes
    ----------
    name
        Name in ``--methods``.
    summary
        Short description for the report.
    seconds
        Rule of thumb for an image of DRIVE on two CPU cores, without the map (docs/tables.md, Cost).
    changes
        Trace options that differ from the shipped ones.
    make
        For methods that do not trace: makes a forest from the mask of the map, see :mod:`tools.tables.skeletons`.
    parameters
        Parameters of ``make``, stored with its trees.
    package
        Package that must be installed.
    """

    name: str
    summary: str
    seconds: float = 0.0
    changes: Mapping[str, Any] = field(default_factory=dict)
    make: MakeSkeleton | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    package: str = ""

    @property
    def unavailable(self) -> str:
        """Why the method cannot be run here; empty if it can."""
        missing = self.package and version(self.package) is None
        return f"not installed: pip install {self.package} (versions: requirements-tables.txt)" if missing else ""


_ALL = (
    Method(SHIPPED, "NETracer as shipped: many fronts, features encoded once, GDS, joins", 5.0),
    Method(
        SINGLE_FRONT,
        "the paper's procedure: one front, the whole network on every patch (--fronts 1 --features patch)",
        39.0,
        {"fronts": 1, "features": "patch"},
    ),
    Method(NODE_ONLY, "the brightest candidate node, without the edge map", 5.0, {"method": "brightest"}),
    Method("no-joins", "traces that meet are not joined", 5.0, {"joins": False, "gap": 0.0}),
    Method("skeleton", "skeleton of the same map, scikit-image", 1.0, make=skeleton),
    Method("skan", "skeleton of the same map, graph and pruning by skan", 1.0, make=skan_skeleton, package="skan"),
    Method("kimimaro", "TEASAR skeleton of the same map", 1.0, {}, kimimaro_skeleton, TEASAR, "kimimaro"),
    Method(
        GOLD, "the gold tree against itself: its ABL is the target, its JE what the count gives for a perfect trace"
    ),
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}
"""Every method by name, in the order of the tables."""
