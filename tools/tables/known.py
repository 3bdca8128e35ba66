"""The datasets of the paper and what was published on them: the one place in the code that holds those numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from configs.config_2d import PREPARE_PRESETS
from lib.klib.spaces import SwcOrigin

PUBLISHED: dict[str, dict[str, float]] = {
    "ROAD": {"SSD_F1": 0.718, "L_F1": 0.836, "PE": 1.263, "JE": 8.2, "ABL": 234.4},
    "DRIVE": {"SSD_F1": 0.925, "L_F1": 0.824, "PE": 0.633, "JE": 1.9, "ABL": 74.4},
    "CHASEDB1": {"SSD_F1": 0.837, "L_F1": 0.860, "PE": 0.771, "JE": 4.3, "ABL": 131.6},
    "fMOST-VTA": {"SSD_F1": 0.919, "L_F1": 0.913, "PE": 0.693, "JE": 2.3, "ABL": 219.3},
    "DIADEM-CCF": {"SSD_F1": 0.792, "L_F1": 0.755, "PE": 2.491, "JE": 5.1, "ABL": 107.1},
}
"""Means over the test images (docs/paper.md §6)."""


@dataclass(frozen=True)
class KnownDataset:
    """A dataset the tables know.

    Attributes
    ----------
    name
        Name of its folder and of its weight file.
    ndim
        2 or 3.
    source
        Where its images are published.
    images
        Folder and names of the images, as the dataset should lie on the disk.
    official
        Number of cases of each split as published; a split that is not there has no official number.
    scale
        Work pixels per image pixel where weights of another dataset are used.
    borrowed
        Dataset whose weights are taken where it has none of its own; empty: none fit.
    swc_origin
        Where its gold SWCs have their 0.
    published
        Name of its row in :data:`PUBLISHED`; empty: the paper does not have it.
    """

    name: str
    ndim: int
    source: str
    images: str
    official: Mapping[str, int] = field(default_factory=dict)
    scale: float = 1.0
    borrowed: str = ""
    swc_origin: SwcOrigin = "centre"
    published: str = ""

    def needs(self, split: str) -> str:
        """Which files are needed, in which folders, and where they are published."""
        folder = f"{self.name}/{split}"
        trees = f"{folder}/swc/<image>.swc or <image>_*.swc (gold trees; else binary masks in {folder}/labels)"
        return f"needs {folder}/{self.images} and {trees}; images are published at {self.source}"


def _flat(name: str, source: str, images: str, training: int, test: int, scale: float) -> KnownDataset:
    """A 2D dataset; what its preset says is taken from there."""
    return KnownDataset(
        name=name,
        ndim=2,
        source=source,
        images=images,
        official={"training": training, "test": test},
        scale=scale,
        borrowed="DRIVE",
        swc_origin=PREPARE_PRESETS[name]["swc_origin"],
        published=name,
    )


KNOWN: dict[str, KnownDataset] = {
    dataset.name: dataset
    for dataset in (
        _flat("DRIVE", "drive.grand-challenge.org", "images_color/01.tif ...", 20, 20, 2.0),
        # SSD-F1 of DRIVE's weights on the training images 06L and 12R: .688 at 0.75, .683 at 1, .472 at 1.5.
        _flat("CHASEDB1", "Kingston University (CHASE_DB1)", "images_color/01L.tif ...", 20, 8, 0.75),
        _flat("ROAD", "Massachusetts Roads (Mnih, University of Toronto)", "images_color/1.jpg ...", 804, 13, 1.0),
        KnownDataset("OP", 3, "the DIADEM challenge (olfactory projection fibers)", "images/OP_1.tif ..."),
        KnownDataset("FMOST", 3, "the NETracer paper's repository", "images/*.tif", published="fMOST-VTA"),
    )
}
"""Every dataset by name."""
