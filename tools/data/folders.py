"""Find the images of a dataset folder with their trees, labels and masks.

A dataset folder holds::

    images_color/ or images/     01.tif          one image or volume per case
    swc/                         01_manual1.swc  its gold tree, and/or
    labels/                      01.png          its hand-made binary mask, whose skeleton can be the gold tree
    av/ or kinds/                01.png          optional kinds of tube, for trees that cross
    ignore/                      01.png          optional mask of pixels where the gold tree is incomplete

A file belongs to the image whose stem it has, alone or followed by ``_`` or ``.``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.errors import UserError
from lib.klib.image_io import SUFFIXES, image_files, read_labels, read_mask, stem
from lib.klib.kinds import kinds_to_forest
from lib.klib.skeleton import mask_to_forest
from lib.swclib import SwcForest, SwcOrigin, read_swc, swc_space

IMAGE_FOLDERS = ("images_color", "images")
SHARED_VALUES = {"av": 3, "kinds": 255}
"""Folders of images of the kinds of tube, and the value in each that stands for several kinds or an uncertain one."""
KIND_NAMES = {"av": ("artery", "vein")}
"""Names of the kinds 1, 2 and so on in such a folder, where they are known."""
_EXPECTED = "images_color/ or images/, with swc/ or labels/ beside it"


@dataclass(frozen=True)
class Case:
    """One image, named by its stem, and the files that belong to it."""

    name: str
    image: Path
    swc: Path | None = None
    label: Path | None = None
    ignore: Path | None = None
    kinds: Path | None = None


def dataset_root(data_root: str | Path, dataset: str, split: str) -> Path:
    """Find the folder of a split (``training`` or ``test``) of a dataset.

    Returns
    -------
    Path
        ``<data_root>/<DATASET>/<split>`` if it exists; otherwise, for own data, ``<data_root>/<split>`` or
        ``data_root``, whichever holds images.

    Raises
    ------
    UserError
        If none of them exists.
    """
    data_root = Path(data_root)
    for name in (dataset.upper(), dataset):
        if (data_root / name / split).is_dir():
            return data_root / name / split
    for folder in (data_root / split, data_root):
        if any((folder / name).is_dir() for name in IMAGE_FOLDERS):
            return folder
    raise UserError(f"{data_root}: holds neither {dataset.upper()}/{split}/ nor {_EXPECTED}; check the path")


def find_cases(
    root: str | Path, *, need_tree: bool = True, files: Callable[[Path], list[Path]] = image_files
) -> list[Case]:
    """List the cases of a dataset folder in natural order.

    Parameters
    ----------
    root
        A folder with the layout described in :mod:`tools.data.folders`.
    need_tree
        Whether every image must have an SWC file or a label.
    files
        Lists the images of a folder.

    Raises
    ------
    UserError
        If a folder is missing or empty, an image lacks a tree that it needs, an SWC file or a mask has no image, or two
        files of one kind belong to the same image.
    """
    root = Path(root)
    images = _images_by_stem(root, files)
    swc = _assign(_files(root / "swc", (".swc",)), images, must_match=True)
    labels = _assign(_files(root / "labels", SUFFIXES), images)
    ignore = _assign(_files(root / "ignore", SUFFIXES), images, must_match=True)
    kinds = _assign([file for name in SHARED_VALUES for file in _files(root / name, SUFFIXES)], images)
    groups = (swc, labels, ignore, kinds)
    cases = [Case(name, path, *(group.get(name) for group in groups)) for name, path in images.items()]
    if need_tree:
        _check_trees(root, cases)
    return cases


def load_kinds(case: Case) -> tuple[SwcForest, tuple[str, ...]]:
    """Make the gold trees of a case from its image of kinds: tubes of different kinds never join.

    Tubes that only its ``label`` shows are of unknown kind.

    Returns
    -------
    SwcForest
        In image pixels, pixel-centre; types are those of :mod:`lib.klib.kinds`.
    tuple of str
        Notes.

    Raises
    ------
    UserError
        If it has no such image, that cannot be read, or its size is not that of the label.
    """
    if case.kinds is None:
        raise UserError(f"{case.image}: has no image of kinds; add one to av/ or kinds/, or leave out --kinds")
    labels, shared = read_labels(case.kinds), SHARED_VALUES[case.kinds.parent.name]
    if case.label is not None:
        mask, _ = read_mask(case.label)
        if mask.shape != labels.shape:
            found, expected = (" x ".join(map(str, shape)) for shape in (labels.shape, mask.shape))
            raise UserError(f"{case.kinds}: is {found}, {case.label.name} is {expected}; give both in the same size")
        labels = np.where(mask & (labels == 0), shared, labels)
    return kinds_to_forest(labels, shared), (f"trees of one kind each, from {case.kinds.parent.name}/",)


def load_tree(case: Case, origin: SwcOrigin) -> tuple[SwcForest, tuple[str, ...]]:
    """Load the gold tree of a case: its SWC file, or else the skeleton of its label.

    Parameters
    ----------
    case
        A case with an SWC file or a label.
    origin
        Where coordinate 0 of the SWC file lies in the first pixel, if its head does not say: at its corner (0.5 is
        subtracted from x and y) or at its centre.

    Returns
    -------
    SwcForest
        In image pixels, pixel-centre.
    tuple of str
        Notes on the origin, or on how a label was converted.

    Raises
    ------
    UserError
        If the case has neither file, a file cannot be read, or the label is empty or full.
    """
    if case.swc is not None:
        stated = swc_space(case.swc)
        by = "the head of the SWC" if stated.origin else "--swc_origin"
        notes = (f"coordinate 0 is the {stated.origin or origin} of the first pixel, by {by}",)
        if stated.units == "um":
            notes += ("micrometres turned into voxels, by the head of the SWC",)
        return read_swc(case.swc, origin=origin), notes
    if case.label is None:
        raise UserError(f"{case.image}: has no SWC file and no label; add one to swc/ or labels/")
    return _tree_of_label(case.label)


def check_tree_inside(
    forest: SwcForest, shape: Sequence[int], path: str | Path, spacing: Sequence[float] | None = None
) -> None:
    """Refuse a tree with more than 5 % of its nodes more than 2 pixels outside its image.

    Parameters
    ----------
    forest
        In image pixels, pixel-centre.
    shape
        Spatial shape of the image.
    path
        The SWC file, for the message.
    spacing
        Size of a pixel, where it is known, ``(ndim,)``.

    Raises
    ------
    UserError
        With the extents of the tree and the image, and the likely cause.
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
    """Guess why a tree does not fit its image, from the extent of its nodes."""
    if spacing and not np.allclose(spacing, 1) and (low >= -2.5).all() and (high / spacing <= border + 2).all():
        return f"it seems to be in µm: divide z y x by {_joined(spacing)}, the size of a voxel"
    if (low >= -2.5).all() and len(high) == 3 and (high > border + 2).all():
        return f"it seems to be in µm: the size of a voxel is likely at least {_joined(high / border)} (z y x)"
    if (low >= -2.5).all():
        ratio = (high / border)[-2:]  # often only the plane is scaled, not the slices
        if ratio.max() > 1.1 and ratio.min() > 0.8 * ratio.max():
            return f"its coordinates seem {ratio.mean():.2g} times too large; scale them to pixels"
        exchanged = high[[*range(len(high) - 2), -1, -2]]
        if (exchanged <= border + 2).all():
            return "x and y seem to be exchanged"
    return "give coordinates in pixels of this image"


def _joined(sizes: Iterable[float]) -> str:
    return " ".join(f"{size:.2g}" for size in sizes)


def check_tree_on_signal(
    forest: SwcForest, pixels: np.ndarray, path: str | Path, spacing: Sequence[float] | None = None
) -> None:
    """Refuse a tree that fits into its volume but lies on dark voxels, because its coordinates are in µm.

    Parameters
    ----------
    forest
        In image pixels, pixel-centre.
    pixels
        ``(z, y, x, C)`` volume of bright neurites, in [0, 1].
    path
        The SWC file, for the message.
    spacing
        Size of a voxel, where it is known, ``(3,)``.

    Raises
    ------
    UserError
        If the mean intensity at the nodes is at most 1.5 times that of the volume plus 0.02, and either dividing the
        nodes by ``spacing`` would raise it above that, or the extents of the tree and of the bright voxels differ by
        more than a quarter. The message gives the likely size.
    """
    intensity = pixels[..., 0]
    positions = forest.positions(intensity.ndim)
    needed = 1.5 * float(intensity.mean()) + 0.02
    if not len(forest) or _mean_intensity(intensity, positions) > needed:
        return
    size = spacing if spacing and _mean_intensity(intensity, positions / np.array(spacing)) > needed else None
    if size is None:
        ratio = _extent(positions) / np.maximum(_extent(_brightest(intensity)), 1)
        size = None if (np.abs(np.log(ratio[1:])) < 0.25).any() else ratio
    if size is not None:
        found = "its nodes lie on dark voxels, and its extent is not that of the bright voxels"
        raise UserError(f"{path}: {found}; if it is in µm, divide z y x by the size of a voxel, likely {_joined(size)}")


def _mean_intensity(intensity: np.ndarray, positions: np.ndarray) -> float:
    """Mean intensity at the positions ``(N, ndim)`` inside the volume; 0 if at most 9 in 10 are inside."""
    voxel = np.rint(positions).astype(int)
    inside = ((voxel >= 0) & (voxel < intensity.shape)).all(axis=1)
    return float(intensity[tuple(voxel[inside].T)].mean()) if inside.mean() > 0.9 else 0.0


def _brightest(intensity: np.ndarray, share: float = 0.002) -> np.ndarray:
    """Positions ``(N, ndim)`` of the brightest voxels."""
    threshold = np.quantile(intensity[::2, ::2, ::2], 1 - share)
    return np.argwhere(intensity >= max(threshold, np.finfo(np.float32).tiny))


def _extent(positions: np.ndarray) -> np.ndarray:
    """Length ``(ndim,)`` that holds the central 96 % of the positions along each axis."""
    low, high = np.quantile(positions, (0.02, 0.98), axis=0)
    return np.maximum(high - low, 0.5)


def _tree_of_label(path: Path) -> tuple[SwcForest, tuple[str, ...]]:
    mask, notes = read_mask(path)
    if mask.all() or not mask.any():
        found = "full" if mask.any() else "empty"
        raise UserError(f"{path}: the label is {found}, so it has no centerline; give a mask of the tubes only")
    forest, loops = mask_to_forest(mask)
    return forest, (*notes, f"tree taken from the label's skeleton, {loops} loops cut")


def _images_by_stem(root: Path, files: Callable[[Path], list[Path]]) -> dict[str, Path]:
    """Images by their stem, in natural order."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give one that holds {_EXPECTED}")
    folder = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), None)
    if folder is None:
        raise UserError(f"{root}: has no folder of images; it must hold {_EXPECTED}")
    images: dict[str, Path] = {}
    for path in files(folder):
        name = stem(path)
        if name in images:
            raise UserError(f"{path}: has the same name as {images[name].name}; keep one of them")
        images[name] = path
    return images


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of a folder in order; none if the folder is missing."""
    if not folder.is_dir():
        return []
    endings = tuple(suffixes)
    return sorted(f for f in folder.iterdir() if f.name.lower().endswith(endings) and not f.name.startswith("."))


def _assign(files: Sequence[Path], images: dict[str, Path], *, must_match: bool = False) -> dict[str, Path]:
    """Map the stem of an image to the one file that belongs to it."""
    assigned: dict[str, Path] = {}
    for file in files:
        owner = _owner(file, images)
        if owner is None:
            if must_match:
                raise UserError(f"{file}: has no image; the file name must begin with that of an image")
            continue
        if owner in assigned:
            raise UserError(f"{file}: and {assigned[owner].name} both belong to {images[owner].name}; keep one of them")
        assigned[owner] = file
    return assigned


def _owner(file: Path, images: dict[str, Path]) -> str | None:
    """Stem of the image that a file belongs to: the longest that fits, so that 01_left.swc goes to 01_left, not 01."""
    name = stem(file)
    owners = [image for image in images if name == image or name.startswith((f"{image}_", f"{image}."))]
    return max(owners, key=len, default=None)


def _check_trees(root: Path, cases: Sequence[Case]) -> None:
    treeless = [case for case in cases if case.swc is case.label is case.kinds is None]
    if treeless:
        first, more = treeless[0], f" (and {len(treeless) - 1} more)" if len(treeless) > 1 else ""
        wanted = f"{root / 'swc' / first.name}.swc or a mask {root / 'labels' / first.name}.png"
        raise UserError(f"{first.image}: has no tree{more}; add {wanted}")
