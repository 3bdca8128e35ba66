"""What is known of a dataset: one record each, in ``config_2d.py`` and ``config_3d.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class DatasetPreset:
    """A dataset with its defaults; an option given on the command line always weighs more.

    Attributes
    ----------
    name
        Of its folder, of ``--dataset`` and of its weight file.
    ndim
        2 or 3.
    prepare, train
        Defaults of the options of the prepare script and of ``--mode train`` (docs/paper.md §3 to §5).
    source
        Where its images are published; empty: the tables do not know the dataset.
    images
        Folder and names of its images, as it should lie on the disk.
    official
        Number of images of each split as published; a split that is missing here has no official number.
    published_as, published
        Name of its row in the paper, and the paper's mean scores (docs/paper.md §6); empty: the paper does not have it.
    borrowed_weights, borrowed_scale
        Dataset whose weights the tables take where it has none of its own (empty: none fit), and the work pixels per
        image pixel with them.
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
    borrowed_weights: str = ""
    borrowed_scale: float = 1.0

    @property
    def swc_origin(self) -> Literal["corner", "centre"]:
        """Where coordinate 0 of its gold SWCs lies in the first pixel."""
        return self.prepare.get("swc_origin", "centre")
