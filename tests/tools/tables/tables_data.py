"""A dataset of two tubes, on disk, and a predictor that sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from lib.klib.image_io import write_tiff
from lib.klib.spaces import Spaces
from lib.swclib import SwcForest, resample, translate, write_swc
from models.checkpoint import WeightsHeader, save_weights
from models.nenet import NENet
from tests.tools.tracing.oracle import OraclePredictor
from tools.progress import Progress, silent
from tools.tables import study
from tools.tracing import job as job_module

SHAPE = (48, 70)
SCALE = 1.0
TUBES = np.array([[[20.25, 8.0], [20.25, 58.0]], [[26.25, 8.0], [26.25, 58.0]]])
"""Two tubes, (y, x) in pixel-centre image pixels; each is near enough to the other to be no noise."""


def write_dataset(data_root: Path, name: str, *, split: str = "test", images=("01", "02")) -> Path:
    """Write images and golds of the tubes (0 at the corner of the first pixel); the folder of the split."""
    folder = data_root / name / split
    (folder / "images_color").mkdir(parents=True)
    (folder / "swc").mkdir()
    for number, image in enumerate(images):
        pixels = np.full((*SHAPE, 3), 40 + number, np.uint8)
        pixels[[20, 26], 8:59] = 220
        write_tiff(folder / "images_color" / f"{image}.tif", pixels)
        write_swc(folder / "swc" / f"{image}_gold.swc", gold())
    return folder


def gold() -> SwcForest:
    """The tubes as gold trees, a node every 2 px."""
    tree = SwcForest.from_positions(TUBES.reshape(-1, 2), np.array([-1, 0, -1, 2]))
    return translate(resample(tree, 2.0), (0.5, 0.5))


def write_weights(folder: Path, name: str = "DRIVE", *, seed: int = 0, scale: float = SCALE) -> Path:
    """Write a network that has learnt nothing, as the weights of a dataset."""
    torch.manual_seed(seed)
    folder.mkdir(exist_ok=True)
    header = WeightsHeader(
        2, 3, 2, name, scale, "corner", (32, 32), 10.0, 2.0, "tile", {"sure": 0.0}, training={"hold_out": ["02"]}
    )  # fmt: skip
    save_weights(folder / f"{name}.safetensors", NENet(2, 3, 2), header)
    return folder / f"{name}.safetensors"


class Watched(OraclePredictor):
    """An oracle that adapts to the size of the image, counts what it encodes, and can be drawn to a neighbour."""

    encoded = 0
    """Images encoded by any of them."""
    distracted = False
    """Whether the node map shows something brighter on the other tube."""

    def __init__(self) -> None:
        self.features, self.network_seconds = "tile", 0.0

    def set_image(self, pixels: np.ndarray, *, progress: Progress = silent) -> np.ndarray:
        type(self).encoded += 1
        spaces = Spaces(SHAPE, pixels.shape[:-1])
        tubes = spaces.to_work(TUBES).tolist()
        # Where the map has no valley between two tubes, the edge alone tells them apart.
        floor = 0.5 if self.distracted else 0.01
        super().__init__(tubes, spaces.work_shape, (64, 64), bright_neighbours=self.distracted, floor=floor)
        return super().set_image(pixels, progress=progress)


def install(monkeypatch, weights: Path) -> type[Watched]:
    """Make every job see the tubes, and ``weights`` the folder of shipped weights; the counting predictor."""
    watched = type("Watched", (Watched,), {})
    monkeypatch.setattr(job_module, "Predictor", lambda *args, **options: watched())
    monkeypatch.setattr(study, "WEIGHTS", weights)
    return watched
