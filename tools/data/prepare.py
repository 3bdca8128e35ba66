"""Prepare a dataset folder for training: write its training images and their patch stacks.

The result is ``<out>/training_datasets/<image>/`` for every image and, last, ``<out>/dataset.json``. It is made in a
hidden folder beside ``out``, which is renamed when it is complete.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from configs.checks import check_prepare_options
from configs.options import PrepareOptions
from lib.errors import UserError, counted, known_names
from lib.files import atomic_folder
from lib.klib.contrast import channels_seen, with_local_contrast
from lib.klib.decoded import ReadOptions
from lib.klib.image_io import Image, image_files, read_mask, write_png
from lib.klib.spaces import Spaces, check_holds_patch, relative_spacing
from lib.parallel import WorkerPool, cores, worker_pool
from lib.swclib import SwcForest, rescale
from tools.data.folders import (
    IMAGE_FOLDERS,
    KIND_NAMES,
    Case,
    check_tree_inside,
    check_tree_on_signal,
    dataset_root,
    find_cases,
    load_kinds,
    load_tree,
)
from tools.data.patch_stacks import bytes_per_sample, write_stacks
from tools.data.prepared import DATASET_FILE, KINDS_PREVIEW_FILE, PREVIEW_FILE, TRAINING_FOLDER, PreparedDataset
from tools.data.preview import preview, preview_kinds
from tools.data.sampling import SampleShape
from tools.data.training_image import Source, TrainingImage
from tools.data.unlabelled import unlabelled_neurites

Presets = Mapping[str, Mapping[str, Any]]
_OWN = {"scale": PrepareOptions.scale, "swc_origin": PrepareOptions.swc_origin}
"""Options that each dataset has of its own, and their defaults. The others are the same for all."""
_SPARE_BYTES = 16 << 20
"""Disk space required beside the stacks, for tables and the preview."""


@dataclass(frozen=True)
class PrepareSpec:
    """What differs between preparing 2D and 3D data. Worker processes receive it, so its functions must pickle.

    Attributes
    ----------
    read
        Reads one image file, see :mod:`tools.readers`.
    channels
        Channels of an image.
    negative_share
        See :class:`~tools.data.sampling.SampleShape`.
    ndim
        2 or 3.
    spacing
        Reads the size of a pixel ``(ndim,)`` from an image file, in µm; None where the file does not give it.
    files
        Lists the images of a folder.
    """

    read: Callable[..., Image]
    channels: int
    negative_share: float
    ndim: int
    spacing: Callable[[Path, ReadOptions], tuple[float, ...] | None] | None = None
    files: Callable[[Path], list[Path]] = image_files


# ---- one image -----------------------------------------------------------------------------------------------------


def sample_shape(options: PrepareOptions, spec: PrepareSpec) -> SampleShape:
    """How the options say that states are drawn."""
    return SampleShape(
        options.step,
        options.margin,
        options.jitter,
        substeps=options.substeps,
        negative_share=spec.negative_share,
        spacing=relative_spacing(options.spacing) if options.spacing else (),
    )


def build_training_image(
    case: Case, options: PrepareOptions, spec: PrepareSpec
) -> tuple[TrainingImage, tuple[str, ...]]:
    """Read one image with its tree, and convert both to work space.

    Returns
    -------
    TrainingImage
        The image in work space.
    tuple of str
        Notes on conversions.

    Raises
    ------
    UserError
        If a file cannot be read, the tree does not fit the image, or the image is smaller than a patch.
    """
    image = spec.read(case.image, read_options(options))
    tree, notes = load_kinds(case) if options.kinds else load_tree(case, options.swc_origin)
    gold = (case.kinds if options.kinds else case.swc or case.label) or case.image
    check_tree_inside(tree, image.pixels.shape[:-1], gold, options.spacing)
    if spec.ndim == 3:
        check_tree_on_signal(tree, image.pixels, gold, options.spacing)
    spaces = Spaces.scaled(image.pixels.shape[:-1], options.scale)
    advice = "give a larger --scale" if spec.ndim == 2 else "give a smaller --patch_size, or add empty slices"
    check_holds_patch(spaces.work_shape, options.patch_size, advice, case.image)
    values = with_local_contrast(spaces.resize(image.pixels), options.local_contrast)
    pixels = np.rint(values * 255).astype(np.uint8)
    ignored = case_ignored(case, spaces)
    work_tree, shape = tree_to_work(tree, spaces), sample_shape(options, spec)
    source = Source(options.dataset, options.scale)
    build = partial(TrainingImage.build, case.name, pixels, work_tree, shape, source=source)
    training_image = build(ignored)
    incomplete = getattr(options, "ignore_unlabelled", [])
    if ignored is None and (case.name in incomplete or incomplete == ["all"]):
        ignored = unlabelled_neurites(training_image)
        training_image = build(ignored)
    if ignored is not None:
        notes = (*notes, f"{ignored.mean():.1%} of the pixels ignored by the centerline loss")
    return training_image, image.notes + notes


def read_options(options: PrepareOptions) -> ReadOptions:
    """What to take of the image files."""
    return ReadOptions(tuple(options.channel), options.timepoint, options.white)


def case_ignored(case: Case, spaces: Spaces) -> np.ndarray | None:
    """Read the mask of ignored pixels of a case, in work pixels; None if it has none.

    Raises
    ------
    UserError
        If the mask cannot be read, or its shape differs from that of the image.
    """
    if case.ignore is None:
        return None
    mask, _ = read_mask(case.ignore)
    if mask.shape != spaces.image_shape:
        found, expected = (" x ".join(map(str, shape)) for shape in (mask.shape, spaces.image_shape))
        raise UserError(f"{case.ignore}: is {found}, its image {expected}; give a mask of the same size")
    return spaces.resize(mask[..., None].astype(np.float32))[..., 0] >= 0.5


def tree_to_work(tree: SwcForest, spaces: Spaces) -> SwcForest:
    """Convert a forest from image to work pixels, both pixel-centre; radii are scaled, too."""
    shift = spaces.to_work(np.zeros(len(spaces.work_shape)))
    return rescale(tree, spaces.scale.tolist(), shift=shift.tolist())


class _ImageTask(NamedTuple):
    """Save the training image of a case in ``folder``; ``options`` are those of its dataset."""

    case: Case
    folder: Path
    options: PrepareOptions


class _ImageResult(NamedTuple):
    """What is known of a saved training image: its numbers of sites and of kinds, and notes on conversions."""

    sites: int
    kinds: int
    notes: tuple[str, ...]


class _StacksTask(NamedTuple):
    """Draw ``count`` samples of the training image in ``folder``, image number ``index`` of the dataset."""

    folder: Path
    index: int
    count: int


def _save_training_image(task: _ImageTask, spec: PrepareSpec) -> _ImageResult:
    training_image, notes = build_training_image(task.case, task.options, spec)
    training_image.save(task.folder)
    sites = len(training_image.walks.sites)
    if not sites:
        notes = (*notes, "no branch is long enough for a walk, so no samples")
    return _ImageResult(sites, training_image.n_kinds, notes)


def _save_stacks(task: _StacksTask, options: PrepareOptions, spec: PrepareSpec) -> None:
    """Draw from the saved training image, so that stored and online samples come from the same files."""
    training_image = TrainingImage.load(task.folder, sample_shape(options, spec))
    # The generator depends on the image alone, not on the worker that draws its samples.
    rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(task.index,)))
    write_stacks(training_image, task.folder, rng, count=task.count, patch_shape=options.patch_size)


# ---- the whole dataset ---------------------------------------------------------------------------------------------


def prepare_and_report(options: PrepareOptions, spec: PrepareSpec, known: Presets) -> None:
    """Prepare a dataset and write a summary to stdout; see :func:`prepare`."""
    started = time.perf_counter()
    prepared = prepare(options, spec, known=known, progress=sys.stderr.isatty())
    sys.stdout.write(summary(prepared, options, time.perf_counter() - started) + "\n")


def prepare(
    options: PrepareOptions, spec: PrepareSpec, *, known: Presets = MappingProxyType({}), progress: bool = False
) -> PreparedDataset:
    """Make the training data of a dataset in ``options.out``, which appears only when complete.

    The result depends on the input files and the options, not on the number of workers.

    Parameters
    ----------
    options
        See :class:`~configs.options.PrepareOptions`. An earlier result in ``out`` is replaced.
    spec
        See :class:`PrepareSpec`.
    known
        Default options by dataset, for those of ``options.also``. The names are listed in the message if a dataset is
        unknown.
    progress
        Whether to show a progress bar on stderr.

    Raises
    ------
    UserError
        If an option is invalid, input is missing or broken, or ``out`` cannot be written or holds other files. Nothing
        is left behind.
    """
    check_prepare_options(options, spec.ndim)
    sources = _sources(options, spec, known)
    options = replace(options, spacing=common_spacing([case for case, _ in sources], options, spec))
    _check_replaceable(options.out)
    workers = min(options.workers or cores(), len(sources))
    with atomic_folder(options.out) as space, worker_pool(workers) as pool:
        tasks = [
            _ImageTask(case, space / TRAINING_FOLDER / case.name, replace(own, spacing=options.spacing))
            for case, own in sources
        ]
        results = _save_training_images(pool, tasks, spec, progress)
        counts = apportioned(options.n_samples, [result.sites for result in results])
        _check_free_space(space, counts, options, spec)
        counted = enumerate(zip(tasks, counts, strict=True))
        stacks = [_StacksTask(task.folder, index, count) for index, (task, count) in counted if count]
        _save_all_stacks(pool, stacks, options, spec, progress)
        prepared = PreparedDataset(
            dataset=options.dataset,
            scale=options.scale,
            swc_origin=options.swc_origin,
            patch_size=options.patch_size,
            sample_shape=sample_shape(options, spec),
            images=tuple(task.case.name for task in tasks),
            n_samples=tuple(counts),
            seed=options.seed,
            notes={task.case.name: list(made.notes) for task, made in zip(tasks, results, strict=True) if made.notes},
            spacing=options.spacing or (),
            white=options.white,
            local_contrast=options.local_contrast,
            sources={task.case.name: Source(task.options.dataset, task.options.scale) for task in tasks},
            kinds=max(result.kinds for result in results),
            kind_names=_kind_names([task.case for task in tasks]) if options.kinds else (),
        )
        if options.preview:
            write_png(space / PREVIEW_FILE, preview(prepared, space))
            if prepared.kinds:
                write_png(space / KINDS_PREVIEW_FILE, preview_kinds(prepared, space))
        prepared.save(space)
    return prepared


def _kind_names(cases: Sequence[Case]) -> tuple[str, ...]:
    """Names of the kinds of tube, if all images of kinds have the same."""
    names = {KIND_NAMES.get(case.kinds.parent.name, ()) for case in cases if case.kinds}
    return names.pop() if len(names) == 1 else ()


def _save_training_images(
    pool: WorkerPool, tasks: Sequence[_ImageTask], spec: PrepareSpec, progress: bool
) -> list[_ImageResult]:
    saved = pool(partial(_save_training_image, spec=spec), tasks)
    by_index = dict(tqdm(saved, "images", len(tasks), disable=not progress, unit="image"))
    results = [by_index[index] for index in range(len(tasks))]
    if not any(result.sites for result in results):
        first = tasks[0]
        length = 2 * first.options.margin * first.options.step
        raise UserError(
            f"{first.case.image.parent}: no image has a branch of {length:g} work pixels (--margin on both sides of a "
            "node); check the trees, or give a smaller --margin or --step, or a larger --scale"
        )
    return results


def _save_all_stacks(
    pool: WorkerPool, tasks: Sequence[_StacksTask], options: PrepareOptions, spec: PrepareSpec, progress: bool
) -> None:
    # The largest first, so that none of them is left to a single worker at the end.
    tasks = sorted(tasks, key=lambda task: -task.count)
    total = sum(task.count for task in tasks)
    save = partial(_save_stacks, options=options, spec=spec)
    with tqdm(desc="samples", total=total, disable=not progress, unit="sample", unit_scale=True) as bar:
        for index, _ in pool(save, tasks):
            bar.update(tasks[index].count)


def apportioned(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to non-negative ``weights`` that sum to ``total``; all 0 if the weights are.

    The numbers are rounded by the largest-remainder method.
    """
    shares = np.asarray(weights, dtype=float)
    if not shares.sum():
        return [0] * len(shares)
    exact = total * shares / shares.sum()
    counts = np.floor(exact).astype(int)
    by_remainder = np.argsort(counts - exact, kind="stable")
    counts[by_remainder[: total - counts.sum()]] += 1
    return counts.tolist()


def common_spacing(cases: Sequence[Case], options: PrepareOptions, spec: PrepareSpec) -> tuple[float, ...] | None:
    """Size of a pixel ``(ndim,)`` in all images: from the options, else from the files; None if neither gives it.

    Raises
    ------
    UserError
        If the files disagree: a step must have the same length in all images.
    """
    if options.spacing:
        return tuple(options.spacing)
    if spec.spacing is None:
        return None
    found = {case.image: spacing for case in cases if (spacing := spec.spacing(case.image, read_options(options)))}
    if not found:
        return None
    first, spacing = next(iter(found.items()))
    for image, other in found.items():
        if not np.allclose(relative_spacing(other), relative_spacing(spacing), rtol=0.1):
            sizes = [" ".join(f"{size:g}" for size in sizes) for sizes in (other, spacing)]
            advice = "give --spacing to use one for all, or resample the volume"
            raise UserError(f"{image}: voxels of {sizes[0]}, those of {first.name} are {sizes[1]}; {advice}")
    return tuple(spacing)


def summary(prepared: PreparedDataset, options: PrepareOptions, seconds: float) -> str:
    """A few lines on what was prepared, what was converted, and where the result is."""
    size, count = " x ".join(map(str, prepared.patch_size)), sum(prepared.n_samples)
    made = f"{counted(count, 'sample')} of {size} px" if count else "for online sampling"
    scales = " ".join(f"{scale:g}" for scale in sorted({source.scale for source in prepared.sources.values()}))
    images = f"{counted(len(prepared.images), 'image')} at scale {scales}"
    lines = [f"{' '.join([prepared.dataset, *options.also])}: {images}, {made}, in {seconds:.0f} s"]
    lines += [f"  {note}: {names}" for note, names in _images_by_note(prepared).items()]
    lines.append(f"  written: {options.out}")
    if options.preview:
        lines.append(f"  look at: {options.out / PREVIEW_FILE}")
        lines += [f"  look at: {options.out / KINDS_PREVIEW_FILE}"] * bool(prepared.kinds)
    return "\n".join(lines)


def _images_by_note(prepared: PreparedDataset) -> dict[str, str]:
    """Names of the images that each note is about."""
    images: dict[str, list[str]] = {}
    for name, notes in prepared.notes.items():
        for note in notes:
            images.setdefault(note, []).append(name)
    every = len(prepared.images)
    return {note: "all images" if len(names) == every else ", ".join(names) for note, names in images.items()}


# ---- checks --------------------------------------------------------------------------------------------------------


def _sources(options: PrepareOptions, spec: PrepareSpec, known: Presets) -> list[tuple[Case, PrepareOptions]]:
    """Every case of the dataset and of ``--also``, with the options of its own dataset."""
    sources = [(case, options) for case in find_cases(_locate(options, known), files=spec.files)]
    for name in map(str.upper, options.also):
        if name not in known:
            raise UserError(f"--also {name}: unknown; {known_names(name, known)}")
        if not (options.data_root / name).is_dir():
            raise UserError(f"--also {name}: {options.data_root} holds no folder {name}")
        own = replace(options, dataset=name, **{key: known[name].get(key, default) for key, default in _OWN.items()})
        cases = find_cases(dataset_root(options.data_root, name, options.split), files=spec.files)
        sources += [(replace(case, name=f"{name}_{case.name}"), own) for case in cases]
    return sources


def _locate(options: PrepareOptions, known: Presets) -> Path:
    """Find the folder of the images; an unknown dataset name is reported with the known ones."""
    root, name = options.data_root, options.dataset
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give as --data_root the one that holds {name}, or your images")
    own = any((folder / images).is_dir() for folder in (root, root / options.split) for images in IMAGE_FOLDERS)
    if not own and name.upper() not in known and not (root / name.upper()).is_dir():
        raise UserError(
            f"--dataset {name}: unknown; {known_names(name, known)}; "
            f"for your own data, --data_root must hold {' or '.join(IMAGE_FOLDERS)}, and swc or labels"
        )
    return dataset_root(root, name, options.split)


def _check_replaceable(out: Path) -> None:
    """Refuse to replace anything but an empty folder or an earlier result without other files in it."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder as --out")
    inside = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    foreign = [name for name in inside if name not in (TRAINING_FOLDER, DATASET_FILE, PREVIEW_FILE, KINDS_PREVIEW_FILE)]
    if foreign:
        raise UserError(f"{out}: holds {foreign[0]}, not made by this script; give another --out or move it away")
    if inside:
        # Another program's dataset.json is refused here.
        PreparedDataset.load(out)


def _check_free_space(space: Path, counts: Sequence[int], options: PrepareOptions, spec: PrepareSpec) -> None:
    """Refuse stacks that do not fit on the disk: when it is full, writing to a memory map kills the process."""
    channels = channels_seen(spec.channels, options.local_contrast)
    needed = sum(counts) * bytes_per_sample(options.patch_size, channels) + _SPARE_BYTES
    free = shutil.disk_usage(space).free
    if needed > free:
        found = f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free"
        raise UserError(f"{options.out}: no space on its disk ({found}); give a smaller --n_samples or another --out")
