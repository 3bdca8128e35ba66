"""Draw the pictures of the README and of the model cards, from images that may be published.

    python -m benchmarks.card_figures

Writes four files into docs/figures: ``traced.png``, the images of `make demo` and `make demo-3d` with their traces;
``retina.png``, part of the same retina (scikit-image, CC0) traced with the weights of DRIVE and of CHASEDB1;
``block.png``, a simulated block traced with the weights of FMOST, and its errors;
and ``soma.png``, a simulated cell traced without looking for its body, and with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from configs.options import TraceRun, TraceRun3D
from lib.files import atomic_write
from lib.klib.image_io import write_png
from lib.klib.volume_io import Volume
from lib.swclib import SwcForest
from lib.swclib.metrics import score
from tools.cli import run
from tools.demo import ROOT, SCALE
from tools.pictures.errors import error_picture
from tools.pictures.overlay import overlay
from tools.simulation import Effects, Simulated, demo_volume, simulate_block
from tools.tracing.tracing_tools_2D import build_trace_job_2d
from tools.tracing.tracing_tools_3D import build_trace_job_3d

OUT = ROOT / "docs" / "figures"
WEIGHTS = ROOT / "weights"
RETINA_SCALES = {"DRIVE": SCALE, "CHASEDB1": 2 * SCALE}
"""Work pixels per image pixel. CHASEDB1 (30 degrees of the eye on 999 px, scale 1.5) has twice as many work pixels per
degree as DRIVE."""
PART = (slice(380, 1030), slice(250, 1250))
"""Part of the retina from the optic disc to beyond the macula, in image pixels."""
HEIGHT, GAP = 800, 16
"""Height of ``traced.png`` and white space between its two pictures, in pixels."""
BODY, BODY_RADIUS, REACH = (36.0, 74.0, 78.0), 11.0, 66.0
"""Centre (z, y, x) and radius of the body of the simulated cell, and length of its neurites, in voxels."""
CELL_SHAPE = (72, 148, 156)
"""Shape of its volume."""


def main(_argv: list[str] | None = None) -> None:
    """Write the four pictures."""
    retinas = {name: retina(name, scale) for name, scale in RETINA_SCALES.items()}
    _, neuron, neuron_trace = trace_neuron(0)
    write_traced(OUT / "traced.png", retinas["DRIVE"], overlay(neuron, neuron_trace))
    write_png(OUT / "retina.png", np.concatenate([picture[PART][::2, ::2] for picture in retinas.values()]))
    gold, volume, trace = trace_neuron(1)
    write_png(OUT / "block.png", error_picture(gold, trace, score(gold, trace), volume))
    of_cell = simulated_cell().volume
    write_traced(OUT / "soma.png", *(overlay(*traced(of_cell, soma)) for soma in (0.0, None)))


def retina(name: str, scale: float) -> np.ndarray:
    """The retina with its trace by the weights of a dataset, uint8 ``(y, x, 3)``."""
    pixels = np.ascontiguousarray(data.retina()[..., :3])
    run = TraceRun(WEIGHTS / f"{name}.safetensors", images=Path(), out=Path(), scale=scale)
    return overlay(pixels, build_trace_job_2d(run).trace(pixels / np.float32(255)).forest)


def cell() -> SwcForest:
    """A cell with a body, and seven neurites that wind away from it."""
    positions, parent, radius = [np.array(BODY)], [-1], [BODY_RADIUS]
    for angle in np.linspace(0, 2 * np.pi, 7, endpoint=False):
        along = np.arange(2.0, REACH, 2.0)
        flat = angle + 0.25 * np.sin(along / 15 + 3 * angle) * along / REACH
        rise = 0.3 * np.sin(2 * angle + along / 25)
        away = along[:, None] * np.stack([rise, np.sin(flat), np.cos(flat)], axis=1)
        parent += [0, *range(len(positions), len(positions) + len(along) - 1)]
        positions += list(BODY + away)
        radius += [1.8] * len(along)
    return SwcForest.from_positions(np.array(positions), parent, radius, types=2)


def simulated_cell() -> Simulated:
    """A block that holds the cell alone."""
    effects = Effects(neighbours=0)
    return simulate_block(cell(), (0, 0, 0), CELL_SHAPE, (1, 1, 1), effects, np.random.default_rng(0))


def trace_neuron(seed: int) -> tuple[SwcForest, np.ndarray, SwcForest]:
    """Gold tree, pixels ``(z, y, x, 1)`` and trace of a simulated neuron."""
    simulated = demo_volume(seed)
    return simulated.gold, *traced(simulated.volume)


def traced(volume: np.ndarray, soma: float | None = None) -> tuple[np.ndarray, SwcForest]:
    """Pixels ``(z, y, x, 1)`` of a volume, and its trace by the weights of FMOST; ``soma`` as in --mode test."""
    job = build_trace_job_3d(TraceRun3D(WEIGHTS / "FMOST.safetensors", images=Path(), out=Path(), soma=soma))
    pixels = Volume(volume).unit(job.levels)
    return pixels, job.trace(pixels).forest


def write_traced(path: Path, *pictures: np.ndarray) -> None:
    """Write pictures side by side at the same height."""
    images = [Image.fromarray(picture) for picture in pictures]
    images = [image.resize((round(image.width * HEIGHT / image.height), HEIGHT)) for image in images]
    sheet = Image.new("RGB", (sum(image.width + GAP for image in images) - GAP, HEIGHT), "white")
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + GAP
    with atomic_write(path) as temporary:
        sheet.save(temporary, "PNG", optimize=True)


if __name__ == "__main__":
    run(main)
