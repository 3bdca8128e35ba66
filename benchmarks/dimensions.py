"""What the benchmarks of training need for each number of dimensions, and a small dataset whose trees are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import train_2D
import train_3D
from configs import config_2d, config_3d
from configs.options import PrepareOptions, PrepareOptions3D, TrainOptions, TrainOptions3D
from configs.presets import DatasetPreset
from lib.klib.image_io import write_png, write_tiff
from lib.klib.volume_io import Volume
from lib.swclib import SwcForest, write_swc
from tools.data.prepare import PrepareSpec, prepare
from tools.data.prepared import PreparedDataset
from tools.dataset_2d import PREPARE_2D
from tools.dataset_3d import PREPARE_3D
from tools.simulation import demo_volume
from tools.training.run import TrainSpec

TOY_IMAGES = {"training": ("a", "b"), "test": ("c",)}
"""Names of the images of :func:`write_toy_dataset` by split."""


class Dimension(NamedTuple):
    """Options, data and presets of 2D or 3D training.

    Attributes
    ----------
    prepare, prepare_spec, train, train_spec
        Types of the options, and what differs between the dimensions.
    presets
        The known datasets.
    shipped
        Shipped weights on which two devices are compared.
    toy_shape
        Shape ``(z, y, x)`` of the volumes of the small dataset; in 2D they are seen from above.
    toy_train
        Options of training that suit images of this size.
    """

    prepare: type[PrepareOptions]
    prepare_spec: PrepareSpec
    train: type[TrainOptions]
    train_spec: TrainSpec
    presets: Sequence[DatasetPreset]
    shipped: str
    toy_shape: tuple[int, int, int]
    toy_train: Mapping[str, Any]


_TOY_TRAIN = {"batch_size": 16, "states_per_tile": 8, "validation_size": 64, "lr": 2e-3}
DIMENSIONS = {
    2: Dimension(
        *(PrepareOptions, PREPARE_2D, TrainOptions, train_2D.SPEC, config_2d.DATASETS, "DRIVE"),
        toy_shape=(16, 192, 192),
        toy_train={**_TOY_TRAIN, "tile_size": (128, 128)},
    ),
    3: Dimension(
        *(PrepareOptions3D, PREPARE_3D, TrainOptions3D, train_3D.SPEC, config_3d.DATASETS, "FMOST"),
        toy_shape=(32, 96, 128),
        toy_train={**_TOY_TRAIN, "batch_size": 8, "states_per_tile": 4},
    ),
}
"""By number of dimensions."""


def write_toy_dataset(folder: Path, ndim: int) -> None:
    """Write a dataset folder, as the prepare scripts take it, of three simulated images with their trees."""
    for split, names in TOY_IMAGES.items():
        for name in names:
            simulated = demo_volume(ord(name), DIMENSIONS[ndim].toy_shape)
            _write_case(folder / split, name, simulated.volume, simulated.gold, ndim)


def _write_case(folder: Path, name: str, volume: np.ndarray, gold: SwcForest, ndim: int) -> None:
    """Write a volume and its tree, or both as seen from above."""
    if ndim == 3:
        write_tiff(folder / "images" / f"{name}.tif", volume)
    else:
        grey = np.rint(255 * Volume(volume).unit().max(axis=0)).astype(np.uint8)
        write_png(folder / "images" / f"{name}.png", np.repeat(grey, 3, axis=-1))
        gold = SwcForest.from_positions(gold.positions(3)[:, 1:], gold.parent)
    write_swc(folder / "swc" / f"{name}.swc", gold)


def prepare_toy_dataset(folder: Path, ndim: int) -> Path:
    """Write the small dataset and prepare it for training; returns the prepared folder."""
    write_toy_dataset(folder / "images", ndim)
    prepare_folder(folder / "images", folder / "prepared", ndim, "toy", {"workers": 1})
    return folder / "prepared"


def prepare_folder(data: Path, out: Path, ndim: int, dataset: str, options: Mapping[str, Any]) -> PreparedDataset:
    """Prepare the training images of a dataset folder with some options, the others at their defaults."""
    kind = DIMENSIONS[ndim]
    return prepare(kind.prepare(dataset=dataset, data_root=data, out=out, **options), kind.prepare_spec)
