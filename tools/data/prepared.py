"""Read a folder written by a prepare script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lib.errors import UserError
from lib.files import write_json
from lib.klib.contrast import channels_seen
from tools.data.patch_stacks import StackBatches, open_stacks
from tools.data.sampling import SampleShape
from tools.data.training_image import Source, TrainingImage

TRAINING_FOLDER = "training_datasets"
DATASET_FILE = "dataset.json"
PREVIEW_FILE, KINDS_PREVIEW_FILE = "preview.png", "preview_kinds.png"


@dataclass(frozen=True)
class PreparedDataset:
    """Content of ``dataset.json``: the images in a prepared folder and the options they were prepared with.

    Attributes
    ----------
    dataset, scale, swc_origin, patch_size
        See :class:`~configs.options.PrepareOptions`.
    sample_shape
        How states are drawn.
    images
        Names of the images, in order; each is a sub-folder of ``training_datasets``.
    n_samples
        Number of samples stored for each image.
    seed
        Random seed of the samples.
    notes
        Notes on conversions, by the name of the image.
    spacing
        Size of a pixel as given or read from the files, ``(ndim,)``; empty if unknown.
    white
        Percentile of a volume's values that became 1; 0 if none was given.
    local_contrast
        Window of :func:`~lib.klib.contrast.with_local_contrast`, in work pixels; 0 if the images have no such channels.
    sources
        The dataset and the scale of each image: those of ``--also`` have others.
    kinds
        Kinds of tube in the gold trees; 0 if they were not told apart.
    kind_names
        Their names, from kind 1 on; empty if they have none.
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
    local_contrast: float = 0.0
    sources: Mapping[str, Source] = field(default_factory=dict)
    kinds: int = 0
    kind_names: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> PreparedDataset:
        """Read the description of a prepared folder.

        Raises
        ------
        UserError
            If no prepare script has completed the folder.
        """
        path = folder / DATASET_FILE
        if not path.is_file():
            advice = f"make it with prepare_datasets_2D.py (or 3D) --out {folder}"
            raise UserError(f"{folder}: has no {DATASET_FILE}; {advice}")
        try:
            values: dict[str, Any] = json.loads(path.read_text())
            values |= {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
            values["sample_shape"] = SampleShape(**values["sample_shape"])
            values["sources"] = {name: Source(*source) for name, source in values.get("sources", {}).items()}
            return cls(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: not understood ({error}); prepare the dataset again") from None

    def save(self, folder: Path) -> None:
        """Write ``dataset.json``, as the last file: a folder that has it is complete."""
        write_json(folder / DATASET_FILE, asdict(self))

    def check_local_contrast(self, weights: Path, seen: float) -> None:
        """Refuse ``weights`` that saw local contrast in another window than the images have.

        Raises
        ------
        UserError
            If the windows differ.
        """
        if seen != self.local_contrast:
            found = f"saw --local_contrast {seen:g}, the data has {self.local_contrast:g}"
            raise UserError(f"{weights}: {found}; prepare it with {seen:g}")

    def training_images(self, folder: Path, names: Sequence[str]) -> list[TrainingImage]:
        """Load the named images of the prepared ``folder`` for online sampling."""
        own = Source(self.dataset, self.scale)
        return [
            TrainingImage.load(folder / TRAINING_FOLDER / name, self.sample_shape, self.sources.get(name, own))
            for name in names
        ]


def open_stack_batches(
    folder: Path, names: Sequence[str], batch_size: int, seed: int, *, patch_size: Sequence[int], channels: int
) -> StackBatches:
    """Open the stacks of some images of a prepared folder.

    Parameters
    ----------
    folder
        A folder with ``dataset.json`` in it.
    names
        Images to take.
    batch_size
        Samples in a batch, over all processes.
    seed
        Random seed of the run, which sets the order of every epoch.
    patch_size
        Patch in work pixels that the network is trained on, y x (z y x).
    channels
        Channels of an image.

    Raises
    ------
    UserError
        If the folder was not prepared, lacks an image, or has stacks that are missing, broken or of another patch size.
    """
    prepared = PreparedDataset.load(folder)
    stored = dict(zip(prepared.images, prepared.n_samples, strict=True))
    for name in names:
        if name not in stored:
            raise UserError(f"{folder}: has no image {name}; it has {', '.join(prepared.images)}")
    channels = channels_seen(channels, prepared.local_contrast)
    # An image with too few sites for a sample has no stacks, which is an error only if no image has any.
    folders = {name: folder / TRAINING_FOLDER / name for name in [name for name in names if stored[name]] or names}
    return open_stacks(folders, batch_size=batch_size, seed=seed, patch_shape=patch_size, channels=channels)
