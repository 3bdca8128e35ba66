"""Trace an image or a volume that anyone may use, and say what came out. ``make demo`` and ``make demo-3d``.

    python -m tools.demo          the retina of scikit-image (CC0, inside its wheel), into out/demo
    python -m tools.demo --volume a simulated neuron whose truth is known, into out/demo_3d
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage import data

from configs.options import TraceRun, TraceRun3D
from lib.files import make_folder
from lib.klib.image_io import write_png, write_tiff
from lib.swclib import SwcForest, read_swc, write_swc
from lib.swclib.metrics import score
from tools.cli import parse, run
from tools.pictures.errors import error_picture
from tools.simulation import demo_volume
from tools.tracing.run import TracedFile, trace_file
from tools.tracing.tracing_tools_2D import build_trace_job_2d
from tools.tracing.tracing_tools_3D import build_trace_job_3d

ROOT = Path(__file__).resolve().parents[1]
SCALE = 0.8
"""Work pixels per image pixel: the retina's vessels are about 2.5 times as wide as DRIVE's, which are traced at scale 2."""
SHOWN_SCORES = ("SSD_F1", "L_F1", "PE", "JE", "coverage")


@dataclass(frozen=True)
class DemoOptions:
    """Trace a photograph of a retina, or with --volume a simulated neuron."""

    volume: bool = False
    """Trace a volume instead of a photograph."""
    weights: Path | None = None
    """Weight file; not given: DRIVE's for the photograph, FMOST's for the volume."""
    seed: int = 0
    """Seed of the simulated volume."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""


def main(argv: list[str] | None = None) -> None:
    """Parse and trace."""
    options = parse(DemoOptions, argv, description=str(__doc__))
    (trace_volume if options.volume else trace_photograph)(options)


def trace_photograph(options: DemoOptions) -> None:
    """Trace the retina into ``out/demo`` and say what came out."""
    out = _demo_folder("demo")
    image = out / "retina.png"
    write_png(image, np.ascontiguousarray(data.retina()[..., :3]))
    files = TraceRun(
        options.weights or ROOT / "weights" / "DRIVE.safetensors",
        images=image,
        out=out,
        scale=SCALE,
        swc_origin="centre",
        swc_shift=0.0,
        threads=options.threads,
    )
    traced = trace_file(build_trace_job_2d(files), image, files)
    _report(traced, ("retina.swc", "retina_overlay.png", "retina.json"))


def trace_volume(options: DemoOptions) -> None:
    """Simulate a neuron, trace it into ``out/demo_3d`` and compare the trace with the truth."""
    out, name = _demo_folder("demo_3d"), "neuron"
    image = out / f"{name}.tif"
    volume, gold, _ = demo_volume(options.seed)
    write_tiff(image, volume)
    write_swc(out / f"{name}_gold.swc", gold, comment=["what the simulated volume shows"])
    weights = options.weights or ROOT / "weights" / "FMOST.safetensors"
    files = TraceRun3D(weights, images=image, out=out, swc_origin="centre", threads=options.threads)
    job = build_trace_job_3d(files)
    traced = trace_file(job, image, files)
    endings = (".tif", "_gold.swc", ".swc", "_overlay.png", ".json", "_errors.png")
    trace = read_swc(out / f"{name}.swc", allow_empty=True)
    _report(traced, (f"{name}{ending}" for ending in endings))
    compared = _compared(gold, trace, job.read(image).pixels, out / f"{name}_errors.png")
    sys.stdout.write(f"against the truth: {compared}\n")


def _demo_folder(name: str) -> Path:
    """A folder of ``out`` in the repository, made if needed; raises UserError if it cannot be made."""
    out = ROOT / "out" / name
    make_folder(out)
    return out


def _report(traced: TracedFile, names: Iterable[str]) -> None:
    """Say what was traced, and the ``names`` of files that were written beside the image."""
    what = f"{traced.nodes} nodes in {traced.trees} trees, traced in {traced.seconds:.1f} s on this machine"
    lines = [f"{traced.image.stem}: {what}"]
    lines += [f"  {(traced.image.parent / name).relative_to(ROOT)}" for name in names]
    sys.stdout.write("\n".join(lines) + "\n")


def _compared(gold: SwcForest, trace: SwcForest, pixels: np.ndarray, picture: Path) -> str:
    """The scores of a trace in a line; draws where it is wrong."""
    result = score(gold, trace)
    write_png(picture, error_picture(gold, trace, result, pixels))
    row = result.row()
    return ", ".join(f"{name} {row[name]:.3f}" for name in SHOWN_SCORES if row.get(name) is not None)


if __name__ == "__main__":
    run(main)
