"""Trace a real photograph that anyone may use: the retina of scikit-image (CC0, inside its wheel). ``make demo``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from skimage import data

from configs.options import TraceOptions
from lib.files import make_folder
from lib.klib.image_io import write_png
from tools.cli import run
from tools.tracing.job import TracedFile
from tools.tracing.tracing_tools_2D import build_trace_job_2d

ROOT = Path(__file__).resolve().parents[1]
SCALE = 0.8
"""Its vessels are about 2.5 times as wide as DRIVE's, which are traced at scale 2."""


def main(argv: list[str] | None = None) -> None:
    """Trace the retina into ``out/demo`` and say what came out."""
    out = demo_folder("demo")
    image = out / "retina.png"
    write_png(image, np.ascontiguousarray(data.retina()[..., :3]))
    options = TraceOptions(
        ROOT / "weights" / "DRIVE.safetensors", images=image, out=out, scale=SCALE, swc_origin="centre", swc_shift=0.0
    )
    say(build_trace_job_2d(options).trace_file(image), ("retina.swc", "retina_overlay.png", "retina.json"))


def demo_folder(name: str) -> Path:
    """A folder of ``out`` in the repository, made if needed; raises UserError if it cannot be made."""
    out = ROOT / "out" / name
    make_folder(out)
    return out


def say(traced: TracedFile, names: Iterable[str]) -> None:
    """Say what was traced, and the ``names`` of files that were written beside the trace."""
    what = f"{traced.nodes} nodes in {traced.trees} trees, traced in {traced.seconds:.1f} s on this machine"
    print(f"{traced.image.stem}: {what}")
    for name in names:
        print(f"  {(traced.swc.parent / name).relative_to(ROOT)}")


if __name__ == "__main__":
    run(main)
