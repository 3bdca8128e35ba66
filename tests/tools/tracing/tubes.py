"""Two tubes in a small image, and helpers that trace them from Python or from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import train_2D
from configs.options import TraceRun
from lib.klib.contrast import channels_seen
from lib.klib.image_io import write_png, write_tiff
from models.checkpoint import WeightsHeader, save_weights
from models.nenet import NENet
from tools.cli import run
from tools.tracing.run import trace_files
from tools.tracing.tracing_tools_2D import build_trace_job_2d

SHAPE = (60, 110)
SCALE = 2.0
TUBES = np.array([[[25.25, 10.0], [25.25, 99.0]], [[35.25, 10.0], [35.25, 99.0]]])
"""Two tubes, (y, x) in pixel-centre image pixels, so close to each other that neither is dropped as isolated."""


def save(path: Path, *, ndim: int, local_contrast: float = 0.0) -> Path:
    """Write a weight file."""
    patch = (32, 32) if ndim == 2 else (16, 32, 32)
    channels, calibrated = 3 if ndim == 2 else 1, {"swc_shift": 0.0}
    given = "TEST", SCALE, "corner", patch, 10.0, 2.0, "tile", calibrated
    header = WeightsHeader(ndim, channels_seen(channels, local_contrast), 2, *given, local_contrast=local_contrast)
    save_weights(path, NENet(header.ndim, header.in_channels, header.width), header)
    return path


def pixels() -> np.ndarray:
    """``(*SHAPE, 3)`` uint8."""
    picture = np.full((*SHAPE, 3), 40, np.uint8)
    for row in (25, 35):
        picture[row : row + 1, 10:100] = 220
    return picture


def write(path: Path, array: np.ndarray) -> Path:
    """Write an image by its suffix."""
    path.parent.mkdir(exist_ok=True)
    (write_png if path.suffix == ".png" else write_tiff)(path, array)
    return path


def write_geotiff(path: Path, array: np.ndarray, pixel: float) -> Path:
    """Write an RGB image that lies in the middle of UTM zone 33, so many metres a pixel."""
    rasterio = pytest.importorskip("rasterio")
    path.parent.mkdir(exist_ok=True)
    form = dict(width=array.shape[1], height=array.shape[0], count=3, dtype=array.dtype, crs="EPSG:32633")
    transform = rasterio.Affine(pixel, 0, 5e5, 0, -pixel, 5e6)
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **form) as image:
        image.write(np.moveaxis(array, -1, 0))
    return path


def options(weights: Path, images: Path, **changes) -> TraceRun:
    """Options of a run that traces into ``out`` beside the folder of the images."""
    out = (images if images.is_dir() else images.parent).parent / "out"
    return TraceRun(**{"weights": weights, "images": images, "out": out, "fronts": 8, "device": "cpu"} | changes)


def trace(weights: Path, images: Path, **changes):
    """Trace; returns the outcomes of the files."""
    run = options(weights, images, **changes)
    return list(trace_files(build_trace_job_2d(run), run))


def call(argv: list[str]) -> int:
    """Exit code of the script."""
    with pytest.raises(SystemExit) as left:
        run(lambda _: train_2D.main([str(word) for word in argv]))
    return left.value.code


def script(weights: Path, images: Path, out: Path, *more: str) -> int:
    """Exit code of ``--mode test``."""
    return call(["--mode", "test", "--weights", weights, "--images", images, "--out", out, "--device", "cpu", *more])


def refused(capsys) -> str:
    """The one line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]
