"""The datasets of the tables, and the published results on them."""

from __future__ import annotations

from configs import config_2d, config_3d
from configs.presets import DatasetPreset

_ALL = (*config_2d.DATASETS, *config_3d.DATASETS)

KNOWN: dict[str, DatasetPreset] = {preset.name: preset for preset in _ALL if preset.source}
"""Every dataset of the tables by name."""

PUBLISHED = {preset.published_as: preset.published for preset in _ALL if preset.published_as}
"""Mean scores over the test images by the paper's name of the dataset (docs/paper.md §6)."""


def needed_files(dataset: DatasetPreset, split: str) -> str:
    """Message that says which files a split needs, in which folders, and where they are published."""
    folder = f"{dataset.name}/{split}"
    trees = f"{folder}/swc/<image>.swc or <image>_*.swc (gold trees; else binary masks in {folder}/labels)"
    return f"needs {folder}/{dataset.images} and {trees}; images are published at {dataset.source}"
