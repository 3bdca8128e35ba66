"""Trace an image or a volume that needs no download: ``make demo`` and ``make demo-3d``.

python -m tools.demo                      the retina of scikit-image (CC0, part of its wheel), into out/demo
python -m tools.demo --weights RETINA_AV  the same, arteries red and veins blue
python -m tools.demo --volume             a simulated neuron with known truth, into out/demo_3d
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
from lib.swclib import read_swc, write_swc
from lib.swclib.metrics import score
from tools.cli import parse, run
from tools.pictures.errors import error_picture
from tools.progress import progress_bar
from tools.simulation import demo_volume
from tools.tracing.run import TracedFile, trace_file
from tools.tracing.tracing_tools_2D import build_trace_job_2d
from tools.tracing.tracing_tools_3D import build_trace_job_3d

ROOT = Path(__file__).resolve().parents[1]
SCALE = 0.8
"""Work pixels per image pixel: the vessels are about 2.5 times as wide as in DRIVE, which is traced at scale 2."""
SHOWN_SCORES = ("SSD_F1", "L_F1", "PE", "JE", "coverage")
MEANING = (
    "SSD_F1 and L_F1: agreement of the nodes and of the paths between them; 1 is a perfect trace, and so is PE 0 "
    "(mean distance in voxels), JE 0 (jumps) and coverage 1 (docs/metrics.md)"
)


@dataclass(frozen=True)
class DemoOptions:
    """Trace a photograph of a retina, or with --volume a simulated neuron."""

    volume: bool = False
    """Trace a volume instead of a photograph."""
    weights: Path | None = None
    """Weight file; by default that of DRIVE for the photograph, of FMOST for the volume."""
    seed: int = 0
    """Random seed of the simulated volume."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""


def main(argv: list[str] | None = None) -> None:
    """Trace the photograph or the volume and print a summary."""
    options = parse(DemoOptions, argv, description=str(__doc__))
    (trace_volume if options.volume else trace_photograph)(options)


def trace_photograph(options: DemoOptions) -> None:
    """Trace the retina into ``out/demo``."""
    image = _demo_folder("demo") / "retina.png"
    write_png(image, np.ascontiguousarray(data.retina()[..., :3]))
    files = TraceRun(
        options.weights or ROOT / "weights" / "DRIVE.safetensors",
        images=image,
        out=image.parent,
        scale=SCALE,
        swc_origin="centre",
        threads=options.threads,
    )
    with progress_bar(image.name) as progress:
        traced = trace_file(build_trace_job_2d(files), image, files, progress)
    _report(traced, (".swc", "_overlay.png", ".json"))


def trace_volume(options: DemoOptions) -> None:
    """Simulate a neuron, trace it into ``out/demo_3d`` and score the trace against the truth."""
    image = _demo_folder("demo_3d") / "neuron.tif"
    simulated = demo_volume(options.seed)
    write_tiff(image, simulated.volume)
    write_swc(image.with_name("neuron_gold.swc"), simulated.gold, comment=["gold standard of the simulated volume"])
    weights = options.weights or ROOT / "weights" / "FMOST.safetensors"
    files = TraceRun3D(weights, images=image, out=image.parent, swc_origin="centre", threads=options.threads)
    job = build_trace_job_3d(files)
    with progress_bar(image.name) as progress:
        traced = trace_file(job, image, files, progress)
    trace = read_swc(image.with_suffix(".swc"), allow_empty=True)
    result = score(simulated.gold, trace)
    picture = error_picture(simulated.gold, trace, result, job.read(image).pixels)
    write_png(image.with_name("neuron_errors.png"), picture)
    _report(traced, (".tif", "_gold.swc", ".swc", "_overlay.png", ".json", "_errors.png"))
    row = result.row()
    scores = (f"{name} {row[name]:.3f}" for name in SHOWN_SCORES if row.get(name) is not None)
    sys.stdout.write(f"against the truth: {', '.join(scores)}\n{MEANING}\n")


def _demo_folder(name: str) -> Path:
    """Make a folder of ``out`` in the repository."""
    folder = ROOT / "out" / name
    make_folder(folder)
    return folder


def _report(traced: TracedFile, endings: Iterable[str]) -> None:
    """Print a summary of the trace and the files beside the image, by the endings of their names."""
    image = traced.image.relative_to(ROOT)
    summary = f"{traced.size}, traced in {traced.seconds:.1f} s on this machine"
    files = [f"  {image.with_name(image.stem + ending)}" for ending in endings]
    sys.stdout.write("\n".join([f"{image.stem}: {summary}", *files]) + "\n")


if __name__ == "__main__":
    run(main)
