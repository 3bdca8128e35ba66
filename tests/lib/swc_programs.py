"""Read SWC files as other programs do. Runs in an environment of its own (``make oracle``), which lacks this project.

python tests/lib/swc_programs.py FILE...   prints, for each file, what each program that is installed finds: JSON
"""

from __future__ import annotations

import json
import sys
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any


def in_morphio(path: str) -> dict[str, Any]:
    """Cable length and number of trees in MorphIO; a section begins with the last point of its parent."""
    import morphio
    import numpy as np

    cell = morphio.Morphology(path)
    steps = [np.diff(section.points.astype(float), axis=0) for section in cell.iter()]
    length = sum(float(np.linalg.norm(step, axis=1).sum()) for step in steps)
    return {"length": length, "trees": len(cell.root_sections)}


def in_navis(path: str) -> dict[str, Any]:
    """Cable length, in units of the file, unit and number of trees in navis."""
    import navis

    neuron = navis.read_swc(path)
    return {"length": float(neuron.cable_length), "trees": len(neuron.root), "units": str(neuron.units)}


def in_neurom(path: str) -> dict[str, Any]:
    """Cable length and failed checks of NeuroM."""
    import neurom
    from neurom.check import morphology_checks as checks

    cell = neurom.load_morphology(path)
    names = ("all_nonzero_neurite_radii", "all_nonzero_section_lengths", "all_nonzero_segment_lengths")
    failed = [name for name in names if not getattr(checks, f"has_{name}")(cell).status]
    return {"length": float(neurom.get("total_length", cell)), "failed": failed}


READERS = {"morphio": in_morphio, "navis": in_navis, "neurom": in_neurom}


def main(paths: list[str]) -> None:
    """Print what each program finds, by file and program; an error is its text."""
    warnings.simplefilter("ignore")
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        found[path] = {}
        for name in filter(find_spec, READERS):
            program = f"{name} {version(name)}"
            try:
                found[path][program] = READERS[name](path)
            except Exception as error:  # Whatever another program raises is its finding.
                found[path][program] = {"error": f"{type(error).__name__}: {error}"}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
