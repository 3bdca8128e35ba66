"""Make 3D volumes with known truth from SWC morphologies.

    python simulate_volumes.py --swc ../shared/data/morphologies/fmost_vta --out data/FMOST --preset fmost --blocks 8
    python simulate_volumes.py --swc fibre.swc --preset ccf --out data/CCF --size 0 0 0
    python simulate_volumes.py --preset parallel --blocks 100 --out data/parallel

Each block becomes <out>/<split>/images/<name>.tif with its gold, exactly aligned, in swc/<name>.swc and all settings
in settings/<name>.json. Every effect is an option; docs/simulation.md compares the result with real stacks. Options
may also stand in a YAML file (--config); those on the command line weigh more.
"""

from __future__ import annotations

import sys
import time

from tools.cli import parse, run
from tools.simulation.job import PRESETS, Made, SimulateOptions, simulate


def main(argv: list[str] | None = None) -> None:
    """Parse, simulate, and say what was made."""
    options = parse(SimulateOptions, argv, description=__doc__, presets=PRESETS, preset_option="preset")
    started = time.perf_counter()
    made = simulate(options, progress=sys.stderr.isatty())
    print(summary(made, options, time.perf_counter() - started))


def summary(made: list[Made], options: SimulateOptions, seconds: float) -> str:
    """One line per volume, and where they are."""
    lines = [f"{options.preset}: {len(made)} volumes in {seconds:.0f} s, written to {options.out / options.split}"]
    for one in made:
        shape = " x ".join(map(str, one.shape))
        lines.append(f"  {one.name}: {shape} voxels, {one.trees} trees, {one.length:.0f} voxels long")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
