"""From a dataset folder to training data: scenes and patch stacks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from configs.options import PrepareOptions
from lib.errors import UserError
from lib.klib.image_io import read_image
from lib.klib.spaces import Spaces
from lib.swclib import SwcForest, rescale
from tools.datasets import Case, check_tree_inside, load_tree
from tools.sampling import SampleShape
from tools.scenes import Scene

TRAINING_FOLDER = "training_datasets"
DATASET_FILE = "dataset.json"


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
    """

    dataset: str
    scale: float
    swc_origin: str
    patch_size: tuple[int, ...]
    sample_shape: SampleShape
    images: tuple[str, ...]
    n_samples: tuple[int, ...]

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
            raise UserError(f"{folder}: has no {DATASET_FILE}; make it with prepare_datasets_2D.py --out {folder}")
        try:
            raw = json.loads(path.read_text())
            raw["sample_shape"] = SampleShape(**raw["sample_shape"])
            return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()})
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: not understood ({error}); prepare the dataset again") from None

    def save(self, folder: Path) -> None:
        """Write it; done last, so that its presence says that the folder is complete."""
        (folder / DATASET_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    def scenes(self, folder: Path, names: Sequence[str]) -> list[Scene]:
        """Load some of the images for online sampling."""
        return [Scene.load(folder / TRAINING_FOLDER / name, self.sample_shape) for name in names]


def sample_shape(options: PrepareOptions) -> SampleShape:
    """The sampling part of the options."""
    return SampleShape(options.step, options.margin, options.jitter, substeps=options.substeps)


def build_scene(case: Case, options: PrepareOptions) -> tuple[Scene, tuple[str, ...]]:
    """Read one image and its tree into work space.

    Returns
    -------
    scene, notes
        Notes say what was converted on the way.

    Raises
    ------
    UserError
        If a file cannot be read, the tree does not lie on the image, or the image is smaller than a patch.
    """
    image = read_image(case.image, channels=3)
    tree, notes = load_tree(case, options.swc_origin)
    check_tree_inside(tree, image.pixels.shape[:-1], case.swc or case.label or case.image)
    spaces = Spaces.scaled(image.pixels.shape[:-1], options.scale)
    if np.any(np.array(spaces.work_shape) < options.patch_size):
        size, patch = " x ".join(map(str, spaces.work_shape)), " x ".join(map(str, options.patch_size))
        raise UserError(f"{case.image}: {size} work pixels, smaller than a patch of {patch}; give a larger --scale")
    pixels = np.rint(spaces.resize(image.pixels) * 255).astype(np.uint8)
    return Scene.build(case.name, pixels, tree_to_work(tree, spaces), sample_shape(options)), image.notes + notes


def tree_to_work(tree: SwcForest, spaces: Spaces) -> SwcForest:
    """A forest in pixel-centre image positions, in work positions; radii grow with the scale."""
    return rescale(tree, spaces.scale, shift=spaces.to_work(np.zeros(len(spaces.work_shape))))
