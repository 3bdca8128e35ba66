"""A dataset of two tubes on disk, and a predictor that draws its maps from them."""

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
from tools.inference.encoded_image import EncodedImage
from tools.progress import Progress, silent
from tools.tables import study
from tools.tracing import job as job_module

SHAPE = (48, 70)
SCALE = 1.0
TUBES = np.array([[[20.25, 8.0], [20.25, 58.0]], [[26.25, 8.0], [26.25, 58.0]]])
"""Ends of two tubes, (y, x) in image pixels, pixel-centre; too near to each other to be dropped as isolated."""


def write_dataset(data_root: Path, name: str, *, split: str = "test", images=("01", "02")) -> Path:
    """Write images and gold trees of the tubes (0 at the corner of the first pixel); return the folder of the split."""
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
    """Gold trees of the tubes, with a node every 2 px."""
    tree = SwcForest.from_positions(TUBES.reshape(-1, 2), np.array([-1, 0, -1, 2]))
    return translate(resample(tree, 2.0), (0.5, 0.5))


def write_weights(folder: Path, name: str = "DRIVE", *, seed: int = 0, scale: float = SCALE) -> Path:
    """Write an untrained network as the weights of a dataset."""
    torch.manual_seed(seed)
    folder.mkdir(exist_ok=True)
    training = {"hold_out": ["02"], "batch_size": 16, "init": "first/DRIVE.safetensors"}
    header = WeightsHeader(
        2, 3, 2, name, scale, "corner", (32, 32), 10.0, 2.0, "tile", {"sure": 0.0}, {"step": 1000}, training
    )  # fmt: skip
    save_weights(folder / f"{name}.safetensors", NENet(2, 3, 2), header)
    return folder / f"{name}.safetensors"


class TubePredictor(OraclePredictor):
    """An oracle that knows the tubes at any scale and counts the images that it encodes."""

    encoded = 0
    """Number of images encoded by all instances."""
    distracted = False
    """Whether the node map shows a brighter node on the other tube."""

    def __init__(self) -> None:
        self.features, self.network_seconds = "tile", 0.0

    def encode(
        self, pixels: np.ndarray, *, centerline: np.ndarray | None = None, progress: Progress = silent
    ) -> EncodedImage:
        type(self).encoded += 1
        spaces = Spaces(SHAPE, pixels.shape[:-1])
        tubes = spaces.to_work(TUBES).tolist()
        # Without a valley between the tubes in the map, only the edge map distinguishes them.
        floor = 0.5 if self.distracted else 0.01
        super().__init__(tubes, spaces.work_shape, (64, 64), bright_neighbours=self.distracted, floor=floor)
        return super().encode(pixels, progress=progress)


def install(monkeypatch, weights: Path) -> type[TubePredictor]:
    """Use the returned predictor class in all jobs, and ``weights`` as the folder of shipped weights."""
    predictor = type("InstalledPredictor", (TubePredictor,), {})
    monkeypatch.setattr(job_module, "Predictor", lambda *args, **options: predictor())
    monkeypatch.setattr(study, "WEIGHTS", weights)
    return predictor
