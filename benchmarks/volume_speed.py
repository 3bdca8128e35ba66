"""Measure the time, the network's share of it and the peak memory from a volume's file to its SWC.

    python -m benchmarks.volume_speed --weights weights/FMOST.safetensors --size 300 300 300 --threads 2

The volume is a simulated neuron, written as a 16-bit TIFF, and traced in a separate process, whose peak memory is
measured.
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
from tools.cli import run
from tools.simulation import demo_volume
from tools.tracing.run import trace_file
from tools.tracing.tracing_tools_3D import build_trace_job_3d

WARM_UP = (48, 96, 96)
"""Size ``(z, y, x)`` of a volume that is traced first, so that compilation is not timed."""


def main(argv: list[str] | None = None) -> None:
    """Make the volume, trace it in a child process and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("weights/FMOST.safetensors"))
    parser.add_argument("--size", type=int, nargs=3, default=(300, 300, 300), help="z y x")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--memory", type=float, default=4.0)
    parser.add_argument("--file", type=Path, help="trace this volume in this process and print one line of JSON")
    parser.add_argument("--image", type=Path, help="a volume to trace instead of a simulated one")
    given = parser.parse_args(argv)
    if given.file:
        print(json.dumps(measured(given.file, given)))
        return
    with tempfile.TemporaryDirectory() as folder:
        simulated = Path(folder) / "volume.tif"
        write_tiff(simulated, demo_volume(0, WARM_UP)[0])
        in_child_process(simulated, given)
        if not given.image:
            write_tiff(simulated, demo_volume(0, tuple(given.size))[0])
        report(in_child_process(given.image or simulated, given))


def in_child_process(image: Path, given: argparse.Namespace) -> dict[str, float]:
    """Result of :func:`measured` in a new process."""
    words = [sys.executable, "-m", "benchmarks.volume_speed", "--file", image, "--weights", given.weights]
    words += ["--threads", given.threads, "--memory", given.memory]
    return json.loads(subprocess.check_output(list(map(str, words))).splitlines()[-1])


def measured(image: Path, given: argparse.Namespace) -> dict[str, float]:
    """Trace a file; return seconds by stage, counts and the peak memory in GB."""
    started = time.perf_counter()
    out = image.parent / "out"
    out.mkdir(exist_ok=True)
    options = TraceRun3D(given.weights, image, out, threads=given.threads, memory=given.memory)
    traced = trace_file(build_trace_job_3d(options), image, options)
    if traced.swc is None:
        raise SystemExit(traced.message)
    record = json.loads(traced.swc.with_suffix(".json").read_text())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    whole = {"whole": time.perf_counter() - started, "peak_GB": peak, "nodes": traced.nodes}
    length = next(value for name, value in record.items() if name.startswith("length_"))  # its unit ends the name
    return record["seconds"] | record["counts"] | {"length": length} | whole


def report(result: dict[str, float]) -> None:
    """Print a measurement."""
    network = result["encode"] + result["network"]
    for name in ("whole", "encode", "network", "search", "clean", "radius"):
        print(f"{name:10}{result.get(name, 0.0):9.1f} s")
    share, ratio = network / result["whole"], result["search"] / max(network, 1e-9)
    print(f"search / network {ratio:.2f}, network {share:.0%} of the time")
    print(f"{result['steps']:.0f} steps, {result['nodes']:.0f} nodes, {result['length']:.0f} voxels of neurite")
    print(f"peak memory {result['peak_GB']:.2f} GB")


if __name__ == "__main__":
    run(main)
