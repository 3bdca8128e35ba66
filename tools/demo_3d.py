"""Trace a volume made on the spot, whose truth is known, and say how much of it came back. ``make demo-3d``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs.options import TraceOptions3D
from lib.klib.image_io import write_png, write_tiff
from lib.swclib import SwcForest, read_swc, write_swc
from lib.swclib.metrics import score
from tools.cli import parse, run
from tools.demo import ROOT, demo_folder, say
from tools.error_pictures import error_picture
from tools.simulation import demo_volume
from tools.tracing.tracing_tools_3D import build_trace_job_3d

SHOWN = ("SSD_F1", "L_F1", "PE", "JE", "coverage")
NAME = "neuron"


@dataclass(frozen=True)
class DemoOptions:
    """Trace a simulated neuron."""

    weights: Path = ROOT / "weights" / "FMOST.safetensors"
    """Weight file for volumes."""
    seed: int = 0
    """Seed of the volume."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""


def main(argv: list[str] | None = None) -> None:
    """Simulate, trace into ``out/demo_3d``, compare with the truth."""
    options = parse(DemoOptions, argv, description=__doc__)
    out = demo_folder("demo_3d")
    image = out / f"{NAME}.tif"
    volume, gold, _ = demo_volume(options.seed)
    write_tiff(image, volume)
    write_swc(out / f"{NAME}_gold.swc", gold, comment=["what the simulated volume shows"])
    given = TraceOptions3D(options.weights, images=image, out=out, swc_origin="centre", threads=options.threads)
    job = build_trace_job_3d(given)
    traced = job.trace_file(image)
    trace = read_swc(traced.swc, allow_empty=True)
    say(traced, (f"{NAME}{end}" for end in (".tif", "_gold.swc", ".swc", "_overlay.png", ".json", "_errors.png")))
    print(f"against the truth: {compared(gold, trace, job.read(image).pixels, out / f'{NAME}_errors.png')}")


def compared(gold: SwcForest, trace: SwcForest, pixels: np.ndarray, picture: Path) -> str:
    """The scores of a trace in a line; draws where it is wrong."""
    result = score(gold, trace)
    write_png(picture, error_picture(gold, trace, result, pixels))
    row = result.row()
    return ", ".join(f"{name} {row[name]:.3f}" for name in SHOWN if row.get(name) is not None)


if __name__ == "__main__":
    run(main)
