"""From a volume's file to its SWC: seconds, the network's share, peak memory, also of a volume larger than a cube.

    python -m benchmarks.volume_speed --weights weights/FMOST.safetensors --size 300 300 300 --threads 2

The volume is simulated (a neuron grown at random), written as a 16-bit TIFF, and traced in a process of its own, whose
peak memory is told.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from configs.options import TraceRun3D
from lib.klib.image_io import write_tiff
from tools.simulation import demo_volume
from tools.tracing.run import trace_file
from tools.tracing.tracing_tools_3D import build_trace_job_3d

WARM_UP = (48, 96, 96)
"""A small volume traced before, which compiles what numba has not cached yet."""


def main() -> None:
    """Make the volume, trace it in a child process, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("weights/FMOST.safetensors"))
    parser.add_argument("--size", type=int, nargs=3, default=(300, 300, 300), help="z y x")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--memory", type=float, default=4.0)
    parser.add_argument("--file", type=Path, help="trace this volume in this process and print one line of JSON")
    parser.add_argument("--image", type=Path, help="a volume to trace instead of a simulated one")
    given = parser.parse_args()
    if given.file:
        print(json.dumps(measured(given.file, given)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for shape in (WARM_UP, tuple(given.size)):
            image = given.image if given.image and shape != WARM_UP else Path(folder) / "volume.tif"
            if image.parent == Path(folder):
                write_tiff(image, demo_volume(0, shape)[0])
            words = [sys.executable, "-m", "benchmarks.volume_speed", "--file", image, "--weights", given.weights]
            words += ["--threads", given.threads, "--memory", given.memory]
            result = json.loads(subprocess.check_output(list(map(str, words))).splitlines()[-1])
    tell(result)


def measured(image: Path, given: argparse.Namespace) -> dict[str, float]:
    """Trace one file; seconds by stage, counts and peak memory in GB."""
    started = time.perf_counter()
    out = image.parent / "out"
    out.mkdir(exist_ok=True)
    options = TraceRun3D(given.weights, image, out, threads=given.threads, memory=given.memory)
    traced = trace_file(build_trace_job_3d(options), image, options)
    report = json.loads(traced.swc.with_suffix(".json").read_text())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    whole = {"whole": time.perf_counter() - started, "peak_GB": peak, "nodes": traced.nodes}
    return report["seconds"] | report["counts"] | {"length": report["length_px"]} | whole


def tell(result: dict[str, float]) -> None:
    """Print a table of one measurement."""
    network = result["encode"] + result["network"]
    for name in ("whole", "encode", "network", "search", "clean", "radius"):
        print(f"{name:10}{result.get(name, 0.0):9.1f} s")
    print(
        f"search / network {result['search'] / max(network, 1e-9):.2f}, network {network / result['whole']:.0%} of all"
    )
    print(f"{result['steps']:.0f} steps, {result['nodes']:.0f} nodes, {result['length']:.0f} voxels of neurite")
    print(f"peak memory {result['peak_GB']:.2f} GB")


if __name__ == "__main__":
    main()
