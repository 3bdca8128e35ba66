"""From a dataset folder to training data: training_images and patch stacks.

Written is ``<out>/training_datasets/<image>/`` for every image and, last, ``<out>/dataset.json``. All of it is made in
a hidden folder beside ``out`` that takes its name when it is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from configs.checks import check_prepare_options
from configs.options import PrepareOptions
from lib.errors import UserError, known_names
from lib.klib.image_io import Image, read_mask, write_png
from lib.klib.spaces import Spaces, check_holds_patch, normalised
from lib.parallel import WorkerPool, cores, worker_pool
from lib.swclib import SwcForest, rescale
from tools.data.folders import (
    IMAGE_FOLDERS,
    Case,
    check_tree_inside,
    check_tree_lit,
    dataset_root,
    find_cases,
    load_tree,
)
from tools.data.patch_stacks import (
    STACK_FILES,
    ImageStacks,
    bytes_per_sample,
    draw_samples,
    write_stacks,
)
from tools.data.prepared import DATASET_FILE, PREVIEW_FILE, TRAINING_FOLDER, PreparedDataset
from tools.data.sampling import Kind, SampleShape
from tools.data.training_image import TrainingImage
from tools.pictures.contact_sheet import contact_sheet

_PREVIEW_ROWS, _PREVIEW_IMAGES = 12, 6
_SPARE_BYTES = 16 << 20
"""Room asked for beside the stacks: tables, the preview."""


def no_spacing(path: Path) -> None:
    """Of images whose files do not tell the size of a pixel."""


def nothing_ignored(training_image: TrainingImage, options: PrepareOptions) -> None:
    """Of images whose trees tell everything."""


@dataclass(frozen=True)
class PrepareSpec:
    """What differs between preparing 2D and 3D data. It travels to worker processes, so it must pickle.

    Attributes
    ----------
    read
        Reads one image file, see :mod:`tools.readers`; a function of a module, as the others.
    channels
        Of an image.
    negative_share
        See :class:`~tools.data.sampling.SampleShape`.
    ndim
        2 or 3.
    spacing
        Size of a pixel as an image file says it, ``(ndim,)``; None where it does not.
    ignored
        Finds pixels ``(*S,)`` of a training_image that its tree does not tell about, or None.
    """

    read: Callable[..., Image]
    channels: int
    negative_share: float
    ndim: int
    spacing: Callable[[Path], tuple[float, ...] | None] = no_spacing
    ignored: Callable[[TrainingImage, PrepareOptions], np.ndarray | None] = nothing_ignored


# ---- one image -----------------------------------------------------------------------------------------------------


def sample_shape(options: PrepareOptions, spec: PrepareSpec) -> SampleShape:
    """The sampling part of the options."""
    return SampleShape(
        options.step,
        options.margin,
        options.jitter,
        substeps=options.substeps,
        negative_share=spec.negative_share,
        spacing=normalised(options.spacing) if options.spacing else (),
    )


def build_training_image(
    case: Case, options: PrepareOptions, spec: PrepareSpec
) -> tuple[TrainingImage, tuple[str, ...]]:
    """Read one image and its tree into work space.

    Returns
    -------
    training_image, notes
        Notes say what was converted on the way.

    Raises
    ------
    UserError
        If a file cannot be read, the tree does not lie on the image, or the image is smaller than a patch.
    """
    image = spec.read(case.image, white=getattr(options, "white", 0.0))
    tree, notes = load_tree(case, options.swc_origin)
    source = case.swc or case.label or case.image
    check_tree_inside(tree, image.pixels.shape[:-1], source, options.spacing)
    if spec.ndim == 3:
        check_tree_lit(tree, image.pixels, source, options.spacing)
    spaces = Spaces.scaled(image.pixels.shape[:-1], options.scale)
    advice = "give a larger --scale" if spec.ndim == 2 else "give a smaller --patch_size, or add empty slices"
    check_holds_patch(spaces.work_shape, options.patch_size, advice, case.image)
    pixels = np.rint(spaces.resize(image.pixels) * 255).astype(np.uint8)
    ignored = case_ignored(case, spaces)
    training_image = TrainingImage.build(
        case.name, pixels, tree_to_work(tree, spaces), sample_shape(options, spec), ignored
    )
    if ignored is None and (ignored := spec.ignored(training_image, options)) is not None:
        training_image = TrainingImage.build(
            case.name, pixels, training_image.tree, training_image.walks.shape, ignored
        )
    if ignored is not None:
        notes = (*notes, f"{ignored.mean():.1%} of the pixels ignored by the centerline loss")
    return training_image, image.notes + notes


def case_ignored(case: Case, spaces: Spaces) -> np.ndarray | None:
    """The mask in ``ignore/`` of a case, in work pixels; None where it has none.

    Raises
    ------
    UserError
        If it cannot be read, or has another shape than the image.
    """
    if case.ignore is None:
        return None
    mask, _ = read_mask(case.ignore)
    if mask.shape != spaces.image_shape:
        found, wanted = (" x ".join(map(str, shape)) for shape in (mask.shape, spaces.image_shape))
        raise UserError(f"{case.ignore}: is {found}, its image {wanted}; give a mask of the same size")
    return spaces.resize(mask[..., None].astype(np.float32))[..., 0] >= 0.5


def tree_to_work(tree: SwcForest, spaces: Spaces) -> SwcForest:
    """A forest in pixel-centre image positions, in work positions; radii grow with the scale."""
    return rescale(tree, spaces.scale, shift=spaces.to_work(np.zeros(len(spaces.work_shape))))


@dataclass(frozen=True)
class _ImageTask:
    """Make the training_image of one case and save it in ``folder``."""

    case: Case
    folder: Path
    options: PrepareOptions
    spec: PrepareSpec


@dataclass(frozen=True)
class _ImageResult:
    """``sites``: how many places on its tree a sample may stand at."""

    sites: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _StacksTask:
    """Draw ``count`` samples of the training_image in ``folder`` with the generator of image number ``index``."""

    folder: Path
    index: int
    count: int
    options: PrepareOptions
    spec: PrepareSpec


def _make_training_image(task: _ImageTask) -> _ImageResult:
    training_image, notes = build_training_image(task.case, task.options, task.spec)
    training_image.save(task.folder)
    sites = len(training_image.walks.sites)
    return _ImageResult(sites, notes if sites else (*notes, "no branch is long enough for a walk, so no samples"))


def _make_stacks(task: _StacksTask) -> None:
    """The training_image is read back, so that stored and online samples come from the very same files."""
    training_image = TrainingImage.load(task.folder, sample_shape(task.options, task.spec))
    rng = _image_rng(task.options.seed, task.index)
    write_stacks(training_image, task.folder, rng, count=task.count, patch_shape=task.options.patch_size)


def _image_rng(seed: int, index: int) -> np.random.Generator:
    """Generator of one image: of the seed and its place in the dataset, so that who works on it does not matter."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))


# ---- the whole dataset ---------------------------------------------------------------------------------------------


def prepare(
    options: PrepareOptions, spec: PrepareSpec, *, known: Collection[str] = (), progress: bool = False
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
        Names of the datasets with presets, told when ``options.dataset`` cannot be found.
    progress
        Whether to show a progress bar on stderr.

    Raises
    ------
    UserError
        If an option has no meaning, input is missing or broken, or ``out`` cannot be written or is a folder that was
        not made by this function. Nothing is left behind.
    """
    check_prepare_options(options, spec.ndim)
    cases = find_cases(_locate(options, known))
    options = replace(options, spacing=common_spacing(cases, options, spec))
    _check_replaceable(options.out)
    workers = min(options.workers or cores(), len(cases))
    with _workspace(options.out) as space, worker_pool(workers) as each:
        folders = [space / TRAINING_FOLDER / case.name for case in cases]
        image_tasks = [_ImageTask(case, folder, options, spec) for case, folder in zip(cases, folders, strict=True)]
        training_images = _make_training_images(each, image_tasks, progress)
        counts = shared_out(options.n_samples, [training_image.sites for training_image in training_images])
        _check_room(space, counts, options, spec)
        each_count = enumerate(zip(folders, counts, strict=True))
        stacks_tasks = [_StacksTask(folder, i, count, options, spec) for i, (folder, count) in each_count if count]
        _make_all_stacks(each, stacks_tasks, progress)
        prepared = _described(options, spec, cases, counts, training_images)
        if options.preview:
            write_png(space / PREVIEW_FILE, preview(prepared, space))
        prepared.save(space)
    return prepared


def _make_training_images(each: WorkerPool, tasks: Sequence[_ImageTask], progress: bool) -> list[_ImageResult]:
    """Make and save every training_image."""
    results: dict[int, _ImageResult] = {}
    for index, result in tqdm(
        each(_make_training_image, tasks), "images", len(tasks), disable=not progress, unit="image"
    ):
        results[index] = result
    training_images = [results[index] for index in range(len(tasks))]
    if not any(training_image.sites for training_image in training_images):
        first = tasks[0]
        length = 2 * first.options.margin * first.options.step
        raise UserError(
            f"{first.case.image.parent}: no image has a branch of {length:g} work pixels (--margin on both sides of a "
            "node); check the trees, or give a smaller --margin or --step, or a larger --scale"
        )
    return training_images


def _make_all_stacks(each: WorkerPool, tasks: Sequence[_StacksTask], progress: bool) -> None:
    """Draw and write the samples of every image that has some."""
    # The largest first: then no worker starts a large one when the others have finished.
    tasks = sorted(tasks, key=lambda task: -task.count)
    total = sum(task.count for task in tasks)
    with tqdm(desc="samples", total=total, disable=not progress, unit="sample", unit_scale=True) as bar:
        for index, _ in each(_make_stacks, tasks):
            bar.update(tasks[index].count)


def shared_out(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to ``weights`` (not negative) that sum to ``total``; all 0 where the weights are."""
    weights = np.asarray(weights, dtype=float)
    if not weights.sum():
        return [0] * len(weights)
    exact = total * weights / weights.sum()
    counts = np.floor(exact).astype(int)
    largest = np.argsort(counts - exact, kind="stable")
    counts[largest[: total - counts.sum()]] += 1
    return counts.tolist()


def _described(
    options: PrepareOptions,
    spec: PrepareSpec,
    cases: Sequence[Case],
    counts: Sequence[int],
    training_images: Sequence[_ImageResult],
) -> PreparedDataset:
    return PreparedDataset(
        dataset=options.dataset,
        scale=options.scale,
        swc_origin=options.swc_origin,
        patch_size=options.patch_size,
        sample_shape=sample_shape(options, spec),
        images=tuple(case.name for case in cases),
        n_samples=tuple(counts),
        seed=options.seed,
        notes={
            case.name: training_image.notes
            for case, training_image in zip(cases, training_images, strict=True)
            if training_image.notes
        },
        spacing=options.spacing or (),
        white=getattr(options, "white", 0.0),
    )


def common_spacing(cases: Sequence[Case], options: PrepareOptions, spec: PrepareSpec) -> tuple[float, ...] | None:
    """Size of a pixel of all images: as the options say, else as the files do; None where neither does.

    Raises
    ------
    UserError
        If the files do not agree: a step must be as long in all of them.
    """
    if options.spacing:
        return tuple(options.spacing)
    found = {case.image: spacing for case in cases if (spacing := spec.spacing(case.image))}
    if not found:
        return None
    first, spacing = next(iter(found.items()))
    for image, other in found.items():
        if not np.allclose(normalised(other), normalised(spacing), rtol=0.1):
            sizes = [" ".join(f"{size:g}" for size in sizes) for sizes in (other, spacing)]
            advice = "give --spacing to take one for all, or resample it"
            raise UserError(f"{image}: voxels of {sizes[0]}, those of {first.name} are {sizes[1]}; {advice}")
    return tuple(spacing)


def preview(prepared: PreparedDataset, folder: Path) -> np.ndarray:
    """Contact sheet, RGB ``(rows, columns, 3)``, of random samples of some images with their maps.

    Stored samples are shown where there are some; else fresh ones, as online training would draw them.
    """
    rng = np.random.default_rng([prepared.seed, 1])
    filled = [name for name, count in zip(prepared.images, prepared.n_samples, strict=True) if count]
    names = rng.permutation(filled or prepared.images)[:_PREVIEW_IMAGES]
    parts = [_some_samples(prepared, folder, str(name), rng) for name in names]
    maps = {name: np.concatenate([part[0][name] for part in parts]) for name in STACK_FILES}
    kinds = [Kind(kind).name.lower() for part in parts for kind in part[1]]
    return contact_sheet(maps, kinds, count=_PREVIEW_ROWS, rng=rng)


def _some_samples(
    prepared: PreparedDataset, folder: Path, name: str, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A few samples of one image: their maps and kinds."""
    if not any(prepared.n_samples):
        (training_image,) = prepared.training_images(folder, [name])
        drawn = draw_samples(training_image, rng, _PREVIEW_ROWS, prepared.patch_size)
        return drawn.maps, drawn.states.kind
    stacks = ImageStacks.open(folder / TRAINING_FOLDER / name)
    rows = np.sort(rng.permutation(len(stacks))[: 2 * _PREVIEW_ROWS])
    return {map_name: stack[rows] for map_name, stack in stacks.maps.items()}, stacks.kind[rows]


def summary(prepared: PreparedDataset, options: PrepareOptions, seconds: float) -> str:
    """What was made of what, and where it is."""
    size, count = " x ".join(map(str, prepared.patch_size)), sum(prepared.n_samples)
    made = f"{count} samples of {size} px" if count else "no stacks (--n_samples 0), for online sampling"
    images = f"{len(prepared.images)} images at scale {prepared.scale:g}"
    lines = [f"{prepared.dataset}: {images}, {made}, in {seconds:.0f} s"]
    lines += [f"  {note}: {names}" for note, names in _by_note(prepared).items()]
    lines.append(f"  written: {options.out}")
    if options.preview:
        lines.append(f"  look at: {options.out / PREVIEW_FILE}")
    return "\n".join(lines)


def _by_note(prepared: PreparedDataset) -> dict[str, str]:
    """Each conversion with the images it was made on."""
    images: dict[str, list[str]] = {}
    for name, notes in prepared.notes.items():
        for note in notes:
            images.setdefault(note, []).append(name)
    every = len(prepared.images)
    return {note: "all images" if len(names) == every else ", ".join(names) for note, names in images.items()}


# ---- checks --------------------------------------------------------------------------------------------------------


def _locate(options: PrepareOptions, known: Collection[str]) -> Path:
    """Folder of the images; a name that is neither a preset nor a folder is told with those that are."""
    root, name = options.data_root, options.dataset
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give as --data_root the one that holds {name}, or your images")
    own = any((folder / images).is_dir() for folder in (root, root / options.split) for images in IMAGE_FOLDERS)
    if not own and name.upper() not in known and not (root / name.upper()).is_dir():
        raise UserError(
            f"--dataset {name}: unknown; {known_names(name, known)}; "
            f"for your own data let --data_root hold {' or '.join(IMAGE_FOLDERS)}, and swc or labels"
        )
    return dataset_root(root, name, options.split)


def _check_replaceable(out: Path) -> None:
    """Only an earlier result, with nothing else in it, or an empty folder may be replaced."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder as --out")
    inside = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    foreign = [name for name in inside if name not in (TRAINING_FOLDER, DATASET_FILE, PREVIEW_FILE)]
    if foreign:
        raise UserError(f"{out}: holds {foreign[0]}, not made by this script; give another --out or move it away")
    if inside:
        # Read to see that it is really ours.
        PreparedDataset.load(out)


def _check_room(space: Path, counts: Sequence[int], options: PrepareOptions, spec: PrepareSpec) -> None:
    """Refuse to start what the disk cannot hold: a full disk under a memory map kills the process."""
    needed = sum(counts) * bytes_per_sample(options.patch_size, spec.channels) + _SPARE_BYTES
    free = shutil.disk_usage(space).free
    if needed > free:
        found = f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free"
        raise UserError(f"{options.out}: no space on its disk ({found}); give a smaller --n_samples or another --out")


@contextmanager
def _workspace(out: Path) -> Iterator[Path]:
    """A hidden folder beside ``out`` that becomes it when the block ends, and is deleted if the block raises."""
    # A link to a folder on another disk stays a link.
    out = out.resolve()
    space = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    made = [folder for folder in (space, *space.parents) if not folder.exists()]
    try:
        space.mkdir(parents=True)
        yield space
        _replace(out, space)
    except BaseException as error:
        shutil.rmtree(space, ignore_errors=True)
        for folder in made[1:]:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            reason = error.strerror or error
            path = error.filename or out
            raise UserError(f"{path}: cannot be written ({reason}); check --out and its disk") from error
        raise


def _replace(out: Path, made: Path) -> None:
    """Give ``made`` the name ``out``, and delete what had it before."""
    if not out.exists():
        made.rename(out)
        return
    former = made.with_suffix(".old")
    out.rename(former)
    try:
        made.rename(out)
    except BaseException:
        former.rename(out)
        raise
    shutil.rmtree(former)
