"""A folder written by a prepare script: what it holds, and how to read it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lib.errors import UserError
from tools.data.patch_stacks import (
    StackBatches,
    open_stacks,
)
from tools.data.sampling import SampleShape
from tools.data.training_image import TrainingImage

TRAINING_FOLDER = "training_datasets"
DATASET_FILE = "dataset.json"
PREVIEW_FILE = "preview.png"


@dataclass(frozen=True)
class PreparedDataset:
    """What ``dataset.json`` says: how the images in a prepared folder were made.

    Attributes
    ----------
    dataset, scale, swc_origin, patch_size
        As given to the prepare script.
    sample_shape
        How states are drawn.
    images
        Names of the images, in order; each is a sub-folder of ``training_datasets``.
    n_samples
        Patches stored for each image.
    seed
        Seed they were drawn with.
    notes
        What was converted on the way, for the images where something was.
    spacing
        Size of a pixel as given or read, ``(ndim,)``; empty where it is not known.
    white
        Percentile of an image's values that became 1; 0: none.
    """

    dataset: str
    scale: float
    swc_origin: str
    patch_size: tuple[int, ...]
    sample_shape: SampleShape
    images: tuple[str, ...]
    n_samples: tuple[int, ...]
    seed: int = 0
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    spacing: tuple[float, ...] = ()
    white: float = 0.0

    @classmethod
    def load(cls, folder: Path) -> PreparedDataset:
        """Read it from a prepared folder.

        Raises
        ------
        UserError
            If the folder was not made by a prepare script, or not to its end.
        """
        path = folder / DATASET_FILE
        if not path.is_file():
            raise UserError(
                f"{folder}: has no {DATASET_FILE}; make it with prepare_datasets_2D.py (or 3D) --out {folder}"
            )
        try:
            raw = json.loads(path.read_text())
            raw["sample_shape"] = SampleShape(**raw["sample_shape"])
            return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()})
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: not understood ({error}); prepare the dataset again") from None

    def save(self, folder: Path) -> None:
        """Write it; done last, so that its presence says that the folder is complete."""
        (folder / DATASET_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    def training_images(self, folder: Path, names: Sequence[str]) -> list[TrainingImage]:
        """Load some of the images for online sampling."""
        return [TrainingImage.load(folder / TRAINING_FOLDER / name, self.sample_shape) for name in names]

    def stacks(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        batch_size: int,
        seed: int,
        patch_shape: Sequence[int],
        channels: int,
    ) -> StackBatches:
        """Open the stacks of some of the images, see :func:`~tools.data.patch_stacks.open_stacks`.

        Raises
        ------
        UserError
            If an image is not in the dataset, or as :func:`~tools.data.patch_stacks.open_stacks` does.
        """
        stored = dict(zip(self.images, self.n_samples, strict=True))
        for name in names:
            if name not in stored:
                raise UserError(f"{folder}: has no image {name}; it has {', '.join(self.images)}")
        # An image too small for its share of samples has no stacks; that is right as long as another has.
        filled = [name for name in names if stored[name]] or names
        folders = {name: folder / TRAINING_FOLDER / name for name in filled}
        return open_stacks(folders, batch_size=batch_size, seed=seed, patch_shape=patch_shape, channels=channels)


def open_stack_batches(
    folder: Path, names: Sequence[str], batch_size: int, seed: int, *, patch_size: Sequence[int], channels: int
) -> StackBatches:
    """Batches from the stacks of some images of a folder written by a prepare script.

    Parameters
    ----------
    folder
        The prepared folder, with ``dataset.json`` in it.
    names
        Images to take.
    batch_size
        Samples in a batch, over all processes.
    seed
        Seed of the run; it sets the order of every epoch.
    patch_size
        Patch that the network is trained with, in pixels, y x (z y x).
    channels
        That the network takes.

    Raises
    ------
    UserError
        If the folder was not prepared, an image is not in it, or stacks are missing, broken or of another patch size.
    """
    prepared = PreparedDataset.load(folder)
    return prepared.stacks(
        folder, names, batch_size=batch_size, seed=seed, patch_shape=tuple(patch_size), channels=channels
    )
