"""Find the images of a dataset folder and the trees and labels that belong to them.

A dataset folder holds::

    images_color/ or images/     01.tif          one image or volume per case
    swc/                         01_manual1.swc  its gold tree, and/or
    labels/                      01.png          its hand-made binary mask, the tree being the mask's skeleton
    ignore/                      01.png          perhaps a mask of what its tree does not tell about

A file belongs to the image whose stem it repeats, alone or going on with ``_`` or ``.``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lib.errors import UserError
from lib.klib.image_io import SUFFIXES, image_files, read_mask, stem
from lib.klib.skeleton import mask_to_forest
from lib.klib.spaces import CORNER, SwcOrigin
from lib.swclib import SwcForest, read_swc, translate

IMAGE_FOLDERS = ("images_color", "images")
_EXPECTED = "images_color/ or images/, with swc/ or labels/ beside it"


@dataclass(frozen=True)
class Case:
    """One image and what is known of it; `name` is the image's stem."""

    name: str
    image: Path
    swc: Path | None = None
    label: Path | None = None
    ignore: Path | None = None


def dataset_root(data_root: str | Path, dataset: str, split: Literal["training", "test"]) -> Path:
    """Find the folder of a dataset's split.

    Returns
    -------
    ``<data_root>/<DATASET>/<split>`` if that is there; else, for own data, ``<data_root>/<split>`` or `data_root`
    itself, whichever holds images.

    Raises
    ------
    UserError
        if none of them is there.
    """
    data_root = Path(data_root)
    for name in (dataset.upper(), dataset):
        if (data_root / name / split).is_dir():
            return data_root / name / split
    for folder in (data_root / split, data_root):
        if any((folder / name).is_dir() for name in IMAGE_FOLDERS):
            return folder
    raise UserError(f"{data_root}: holds neither {dataset.upper()}/{split}/ nor {_EXPECTED}; check the path")


def find_cases(root: str | Path, *, need_tree: bool = True) -> list[Case]:
    """List the cases of a dataset folder in natural order.

    Parameters
    ----------
    root : the folder; its layout stands at the head of this module
    need_tree : each image must have an SWC file or a label

    Raises
    ------
    UserError
        if a folder is missing or empty, an image has no tree although one is needed, an SWC file has no image, or two
        files claim the same place.
    """
    root = Path(root)
    images = _images_by_stem(root)
    swc = _assign(_files(root / "swc", (".swc",)), images, must_match=True)
    labels = _assign(_files(root / "labels", SUFFIXES), images)
    ignore = _assign(_files(root / "ignore", SUFFIXES), images, must_match=True)
    cases = [Case(name, path, swc.get(name), labels.get(name), ignore.get(name)) for name, path in images.items()]
    if need_tree:
        _check_trees(root, cases)
    return cases


def load_tree(case: Case, origin: SwcOrigin) -> tuple[SwcForest, tuple[str, ...]]:
    """Load the gold tree of a case: its SWC file, or without one the skeleton of its label.

    Parameters
    ----------
    case : a case with an SWC file or a label
    origin : where the SWC file puts 0: at the corner of the first pixel (0.5 is subtracted from x and y), or its centre

    Returns
    -------
    forest : in pixel-centre coordinates of the image
    notes : what was done to a label to make a tree of it

    Raises
    ------
    UserError
        if the case has neither, a file cannot be read, or the label is empty or full.
    """
    if case.swc is not None:
        forest = read_swc(case.swc)
        return (translate(forest, (-CORNER, -CORNER)) if origin == "corner" else forest), ()
    if case.label is None:
        raise UserError(f"{case.image}: has no SWC file and no label; add one to swc/ or labels/")
    return _tree_of_label(case.label)


def check_tree_inside(
    forest: SwcForest, shape: Sequence[int], path: str | Path, spacing: Sequence[float] | None = None
) -> None:
    """Refuse a tree that does not lie on its image: more than 5 % of its nodes more than 2 pixels beyond the border.

    Parameters
    ----------
    forest : in pixel-centre coordinates of the image
    shape : of the image, (y, x) or (z, y, x), without channels
    path : the SWC file, named in the message
    spacing : size of a pixel, where it is known

    Raises
    ------
    UserError
        giving the extents of both and, if they look like it, the factor between them.
    """
    if not len(forest):
        return
    positions = forest.positions(len(shape))
    border = np.array(shape) - 0.5
    outside = ((positions < -2.5) | (positions > border + 2)).any(axis=1).mean()
    if outside <= 0.05:
        return
    low, high = positions.min(axis=0), positions.max(axis=0)
    extent = ", ".join(
        f"{axis} {a:.0f} to {b:.0f} (image 0 to {size - 1})"
        for axis, a, b, size in zip("zyx"[-len(shape) :], low, high, shape, strict=True)
    )
    advice = _advice(low, high, border, spacing)
    raise UserError(f"{path}: {outside:.0%} of the nodes lie outside the image: {extent}; {advice}")


def _advice(low: np.ndarray, high: np.ndarray, border: np.ndarray, spacing: Sequence[float] | None) -> str:
    """Guess from the extents of a tree that does not fit its image why it does not."""
    if spacing and not np.allclose(spacing, 1) and (low >= -2.5).all() and (high / spacing <= border + 2).all():
        return f"it looks to be in µm: divide z y x by {_shown(spacing)}, the size of a voxel"
    if (low >= -2.5).all() and len(high) == 3 and (high > border + 2).all():
        return f"it looks to be in µm: the size of a voxel is likely at least {_shown(high / border)} (z y x)"
    if (low >= -2.5).all():
        ratio = (high / border)[-2:]  # slices are often not scaled with the plane
        if ratio.max() > 1.1 and ratio.min() > 0.8 * ratio.max():
            return f"its coordinates look {ratio.mean():.2g} times too large, scale them to pixels"
        exchanged = high[[*range(len(high) - 2), -1, -2]]
        if (exchanged <= border + 2).all():
            return "x and y look exchanged"
    return "give coordinates in pixels of this image"


def _shown(sizes: Sequence[float]) -> str:
    return " ".join(f"{size:.2g}" for size in sizes)


def check_tree_lit(
    forest: SwcForest, pixels: np.ndarray, path: str | Path, spacing: Sequence[float] | None = None
) -> None:
    """Refuse a tree that lies in the dark because its coordinates are not voxels, though they fit into the volume.

    Parameters
    ----------
    forest : in pixel-centre coordinates of the volume
    pixels : the volume, (z, y, x, channels), of bright neurites
    path : the SWC file, named in the message
    spacing : size of a voxel, where it is known

    Raises
    ------
    UserError
        if the nodes lie on voxels that are no brighter than others, and their extent is not that of the bright voxels,
        or they would be bright if divided by the size of a voxel; with the likely size.
    """
    light = pixels[..., 0]
    positions = forest.positions(light.ndim)
    needed = 1.5 * float(light.mean()) + 0.02
    if not len(forest) or _light_at(light, positions) > needed:
        return
    size = spacing if spacing and _light_at(light, positions / np.array(spacing)) > needed else None
    if size is None:
        ratio = _extent(positions) / np.maximum(_extent(_brightest(light)), 1)
        size = None if (np.abs(np.log(ratio[1:])) < 0.25).any() else ratio
    if size is not None:
        found = "its nodes lie on dark voxels, and its extent is not that of what is bright"
        raise UserError(f"{path}: {found}; if it is in µm, divide z y x by the size of a voxel, likely {_shown(size)}")


def _light_at(light: np.ndarray, positions: np.ndarray) -> float:
    """Mean value of the voxels at positions ``(N, ndim)`` that lie inside; 0 where fewer than 9 of 10 do."""
    voxel = np.rint(positions).astype(int)
    inside = ((voxel >= 0) & (voxel < light.shape)).all(axis=1)
    return float(light[tuple(voxel[inside].T)].mean()) if inside.mean() > 0.9 else 0.0


def _brightest(light: np.ndarray, share: float = 0.002) -> np.ndarray:
    """Positions ``(N, ndim)`` of the brightest voxels."""
    return np.argwhere(light >= max(np.quantile(light[::2, ::2, ::2], 1 - share), np.finfo(np.float32).tiny))


def _extent(positions: np.ndarray) -> np.ndarray:
    """``(ndim,)`` length over which most of the positions are spread."""
    low, high = np.quantile(positions, (0.02, 0.98), axis=0)
    return np.maximum(high - low, 0.5)


def _tree_of_label(path: Path) -> tuple[SwcForest, tuple[str, ...]]:
    mask, notes = read_mask(path)
    if mask.all() or not mask.any():
        found = "full" if mask.any() else "empty"
        raise UserError(f"{path}: the label is {found}, so it has no centerline; give a mask of the tubes alone")
    forest, loops = mask_to_forest(mask)
    return forest, (*notes, f"tree taken from the label's skeleton, {loops} loops cut")


def _images_by_stem(root: Path) -> dict[str, Path]:
    """Return image stem -> image, in natural order."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give one that holds {_EXPECTED}")
    folder = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), None)
    if folder is None:
        raise UserError(f"{root}: has no folder of images; it must hold {_EXPECTED}")
    images: dict[str, Path] = {}
    for path in image_files(folder):
        name = stem(path)
        if name in images:
            raise UserError(f"{path}: has the same name as {images[name].name}; keep one of them")
        images[name] = path
    return images


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """List the files of a folder that may be missing."""
    if not folder.is_dir():
        return []
    return sorted(
        p for p in folder.iterdir() if p.name.lower().endswith(tuple(suffixes)) and not p.name.startswith(".")
    )


def _assign(files: Sequence[Path], images: dict[str, Path], *, must_match: bool = False) -> dict[str, Path]:
    """Return image stem -> the one file that belongs to it."""
    assigned: dict[str, Path] = {}
    for file in files:
        owner = _owner(file, images)
        if owner is None:
            if must_match:
                raise UserError(f"{file}: has no image; an image must be named as it begins, such as {file.stem}.tif")
            continue
        if owner in assigned:
            raise UserError(f"{file}: and {assigned[owner].name} both belong to {images[owner].name}; keep one of them")
        assigned[owner] = file
    return assigned


def _owner(file: Path, images: dict[str, Path]) -> str | None:
    """Return the longest image stem that the file's stem repeats, so that 01_left.swc goes to 01_left and not to 01."""
    name = stem(file)
    owners = [image for image in images if name == image or name.startswith((f"{image}_", f"{image}."))]
    return max(owners, key=len, default=None)


def _check_trees(root: Path, cases: Sequence[Case]) -> None:
    bare = [case for case in cases if case.swc is None and case.label is None]
    if bare:
        more = f" (and {len(bare) - 1} more)" if len(bare) > 1 else ""
        name = bare[0].name
        wanted = f"{root / 'swc' / name}.swc or a mask {root / 'labels' / name}.png"
        raise UserError(f"{bare[0].image}: has no tree{more}; add {wanted}")
