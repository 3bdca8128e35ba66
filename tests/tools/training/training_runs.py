"""A tiny prepared dataset and short training runs on it, for tests."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs.options import TrainOptions
from lib.klib.contrast import with_local_contrast
from lib.swclib import SwcForest
from lib.swclib.forest import KIND_TYPE
from models.checkpoint import load_tensors
from models.RPNet_2D import build_rpnet_2d
from tools.data.patch_stacks import write_stacks
from tools.data.prepared import TRAINING_FOLDER, PreparedDataset
from tools.data.sampling import SampleShape
from tools.data.training_image import TrainingImage
from tools.Data_Loader_2d import build_stack_batches_2d
from tools.dataset_2d import augment_2d
from tools.tracing.tracing_tools_2D import BORDER
from tools.training.run import TrainSpec

ROOT = Path(__file__).parents[3]
SPEC = TrainSpec(build=build_rpnet_2d, augment=augment_2d, stacks=build_stack_batches_2d, ndim=2, border=BORDER)
PATCH = (32, 32)
SHAPE = SampleShape(step=6.0, margin=2, jitter=2.0)
SAMPLES = 24
SMALL: dict[str, Any] = {
    "width": 2,
    "batch_size": 8,
    "states_per_tile": 4,
    "epoch_size": 24,
    "nb_epoch": 2,
    "patch_size": PATCH,
    "tile_size": (64, 64),
    "validation_size": 32,
    "lr": 1e-2,
    "device": "cpu",
    "precision": "fp32",
    "layout": "channels_first",
    "threads": 1,  # The number of threads changes the order of sums and so the last bits.
    "log_every": 1,
    "save_every": 1000,
}
"""Options of a run of six short steps."""


def training_image(name: str, seed: int, *, kinds: bool = False) -> TrainingImage:
    """An image of 112 × 128 pixels with three bright tubes, two of which cross, on noise; the second is of kind 2."""
    rng = np.random.default_rng(seed)
    ends = [[(12, 8), (60, 60), (100, 120)], [(100, 10), (50, 70), (10, 118)], [(60, 6), (104, 60), (106, 110)]]
    positions = np.concatenate(ends) + rng.uniform(-3, 3, (9, 2))
    types = KIND_TYPE + np.repeat([1, 2, 1], 3) if kinds else 0
    tree = SwcForest.from_positions(positions, [-1, 0, 1, -1, 3, 4, -1, 6, 7], types=types)
    blank = TrainingImage.build(name, np.zeros((112, 128, 3), np.uint8), tree, SHAPE)
    pixels = rng.integers(20, 70, (112, 128, 3)) + 120 * blank.centerline[..., None]
    return TrainingImage.build(name, pixels.astype(np.uint8), tree, SHAPE)


def write_dataset(
    folder: Path, names: tuple[str, ...] = ("a", "b"), *, kinds: bool = False, local_contrast: float = 0.0
) -> Path:
    """Write a prepared folder with stored patches."""
    for seed, name in enumerate(names):
        made, place = training_image(name, seed, kinds=kinds), folder / TRAINING_FOLDER / name
        seen = with_local_contrast(made.pixels / np.float32(255), local_contrast)
        made = replace(made, pixels=np.rint(seen * 255).astype(np.uint8))
        made.save(place)
        write_stacks(made, place, np.random.default_rng(seed), count=SAMPLES, patch_shape=PATCH)
    given = "toy", 1.0, "centre", PATCH, SHAPE, names, (SAMPLES,) * len(names)
    PreparedDataset(*given, kinds=2 * kinds, local_contrast=local_contrast).save(folder)
    return folder


def options(data: Path, run: Path, **changed: Any) -> TrainOptions:
    """Options of a short run."""
    return TrainOptions(data=data, run=run, **{**SMALL, **changed})


def words(data: Path, run: Path, **changed: Any) -> list[str]:
    """The same options as a command line of ``train_2D.py``."""
    line = ["--mode", "train", "--data", str(data), "--run", str(run)]
    for name, value in {**SMALL, **changed}.items():
        values = map(str, value) if isinstance(value, (tuple, list)) else [str(value).lower()]
        line += [f"--{name}", *values]
    return line


def start(*command: str) -> subprocess.Popen[str]:
    """Start Python on one thread, in the repository, in a process group of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )


def rows(run: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv."""
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_run(first: Path, second: Path) -> None:
    """Check that two runs wrote the same tensors, bit for bit, and the same metrics."""
    for name in ("state.safetensors", "last.safetensors", "best.safetensors"):
        (a, _), (b, _) = load_tensors(first / name), load_tensors(second / name)
        assert a.keys() == b.keys()
        for key, tensor in a.items():
            assert torch.equal(tensor, b[key]), f"{name}: {key}"
    assert rows(first) == rows(second)
