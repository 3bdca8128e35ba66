"""Simulate 3D volumes with known truth from SWC morphologies.

    python simulate_volumes.py --swc $DATASETS/morphologies/fmost_vta --out data/FMOST --preset fmost --blocks 8
    python simulate_volumes.py --swc fibre.swc --preset ccf --out data/CCF --size 0 0 0
    python simulate_volumes.py --preset parallel --blocks 100 --out data/parallel
    python simulate_volumes.py --swc cell.swc --preset fmost --size 512 1024 1024 --format zarr --out data/BIG

Each block becomes <out>/<split>/images/<name>.tif, with its exactly aligned gold in swc/<name>.swc and its settings in
settings/<name>.json; with --format zarr it becomes <name>.ome.zarr, which may be larger than the memory. Every effect
is an option; docs/simulation.md compares the volumes with real stacks. Options may also stand in a YAML file
(--config); the command line overrides it.
"""

from __future__ import annotations

import sys
import time

from lib.errors import counted
from tools.cli import parse, run
from tools.simulation.job import PRESETS, SimulateOptions, WrittenVolume, simulate


def main(argv: list[str] | None = None) -> None:
    """Simulate the volumes and print a summary."""
    options = parse(SimulateOptions, argv, description=str(__doc__), presets=PRESETS, preset_option="preset")
    started = time.perf_counter()
    volumes = simulate(options, progress=sys.stderr.isatty())
    sys.stdout.write(summary(volumes, options, time.perf_counter() - started) + "\n")


def summary(volumes: list[WrittenVolume], options: SimulateOptions, seconds: float) -> str:
    """Describe the folder, and each volume in one line."""
    made = f"{counted(len(volumes), 'volume')} in {seconds:.0f} s"
    lines = [f"{options.preset}: {made}, written to {options.out / options.split}"]
    for volume in volumes:
        shape = " x ".join(map(str, volume.shape))
        lines.append(
            f"  {volume.name}: {shape} voxels, {counted(volume.trees, 'tree')}, {volume.length:.0f} voxels long"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
