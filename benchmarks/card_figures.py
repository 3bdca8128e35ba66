"""Draw the pictures of the model cards, on images that may be shown.

    python -m benchmarks.card_figures

The retina of scikit-image (CC0) traced with the weights for DRIVE and for CHASEDB1, and a simulated block traced with
those for fMOST, with its errors drawn as `evaluate.py --picture` does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from skimage import data

from configs.options import TraceRun, TraceRun3D
from lib.klib.image_io import write_png
from lib.klib.volume_io import Volume
from lib.swclib.metrics import score
from tools.demo import SCALE
from tools.pictures.errors import error_picture
from tools.pictures.overlay import overlay
from tools.simulation import demo_volume
from tools.tracing.tracing_tools_2D import build_trace_job_2d
from tools.tracing.tracing_tools_3D import build_trace_job_3d

OUT = Path("docs/figures")
RETINA_SCALES = {"DRIVE": SCALE, "CHASEDB1": 2 * SCALE}
"""CHASEDB1 (30 degrees of the eye on 999 px) is traced at scale 1.5: with twice the pixels a degree of DRIVE."""
PART = (slice(380, 1030), slice(250, 1250))
"""Of the retina: from the disc to beyond the macula."""


def main() -> None:
    """Write both pictures."""
    write_png(OUT / "retina.png", np.concatenate([retina(name) for name in RETINA_SCALES]))
    write_png(OUT / "block.png", block())


def retina(name: str) -> np.ndarray:
    """The traced part of the retina, half as large."""
    pixels = np.ascontiguousarray(data.retina()[..., :3])
    options = TraceRun(Path(f"weights/{name}.safetensors"), images=Path(), out=Path(), scale=RETINA_SCALES[name])
    forest = build_trace_job_2d(options).trace(pixels / np.float32(255)).forest
    return overlay(pixels, forest)[PART][::2, ::2]


def block() -> np.ndarray:
    """A simulated block and where its trace is wrong."""
    volume, gold, _ = demo_volume(1)
    job = build_trace_job_3d(TraceRun3D(Path("weights/FMOST.safetensors"), images=Path(), out=Path()))
    pixels = Volume(volume).unit(white=job.header.white)
    forest = job.trace(pixels).forest
    return error_picture(gold, forest, score(gold, forest), pixels)


if __name__ == "__main__":
    main()
