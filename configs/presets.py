"""The record that describes a dataset; ``config_2d.py`` and ``config_3d.py`` hold one for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class DatasetPreset:
    """A dataset and its default options; options given on the command line or in a YAML file override them.

    Attributes
    ----------
    name
        Value of ``--dataset``, and name of the dataset's folder and weight file.
    ndim
        Number of dimensions of its images.
    prepare, train
        Default options of the prepare script and of ``--mode train`` (docs/paper.md §3 to §5).
    source
        Where the images are published; empty if the benchmark tables do not cover the dataset.
    images
        Sub-folder and file names of the images, shown to users whose copy of the dataset is missing.
    official
        Number of images in each published split; splits without an official size are left out.
    published_as, published
        Name of the dataset in the paper's table and the paper's mean scores (docs/paper.md §6); empty if the paper does
        not use the dataset.
    is_network
        Whether its tubes are roads, which have loops: the tables then also hold APLS and TOPO.
    borrowed_weights, borrowed_scale
        Dataset whose weights the tables use if there are none for this one (empty: none are suitable), and the work
        pixels per image pixel to use with them.
    """

    name: str
    ndim: Literal[2, 3]
    prepare: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    images: str = ""
    official: Mapping[str, int] = field(default_factory=dict)
    published_as: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    is_network: bool = False
    borrowed_weights: str = ""
    borrowed_scale: float = 1.0

    @property
    def swc_origin(self) -> Literal["corner", "centre"]:
        """Position of coordinate 0 in the first pixel in the gold SWC files."""
        return self.prepare.get("swc_origin", "centre")
