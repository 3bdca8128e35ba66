"""From a dataset folder to training data: scenes and patch stacks.

Written is ``<out>/training_datasets/<image>/`` for every image and, last, ``<out>/dataset.json``. All of it is made in
a hidden folder beside ``out`` that takes its name when it is complete.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from configs.options import PrepareOptions
from lib.errors import UserError, known_names
from lib.klib.image_io import Image, read_mask, write_png
from lib.klib.spaces import Spaces, check_holds_patch, normalised
from lib.swclib import SwcForest, rescale
from tools.datasets import IMAGE_FOLDERS, Case, check_tree_inside, check_tree_lit, dataset_root, find_cases, load_tree
from tools.sampling import Kind, SampleShape
from tools.scenes import Scene
from tools.stacks import (
    STACK_FILES,
    ImageStacks,
    StackBatches,
    bytes_per_sample,
    draw_samples,
    open_stacks,
    write_stacks,
)
from tools.visualisation import contact_sheet
from tools.workers import Crew, cores, crew

TRAINING_FOLDER = "training_datasets"
DATASET_FILE = "dataset.json"
PREVIEW_FILE = "preview.png"
_PREVIEW_ROWS, _PREVIEW_IMAGES = 12, 6
_SPARE_BYTES = 16 << 20
"""Room asked for beside the stacks: tables, the preview."""


def no_spacing(path: Path) -> None:
    """Of images whose files do not tell the size of a pixel."""


def nothing_ignored(scene: Scene, options: PrepareOptions) -> None:
    """Of images whose trees tell everything."""


@dataclass(frozen=True)
class PrepareDoor:
    """What differs between preparing 2D and 3D data. It travels to worker processes, so it must pickle.

    Attributes
    ----------
    read
        Reads one image, ``(*S, channels)``, as the options say; a function of a module, as the others.
    channels
        Of an image.
    negative_share
        See :class:`~tools.sampling.SampleShape`.
    ndim
        2 or 3.
    spacing
        Size of a pixel as an image file says it, ``(ndim,)``; None where it does not.
    ignored
        Finds pixels ``(*S,)`` of a scene that its tree does not tell about, or None.
    """

    read: Callable[[Path, PrepareOptions], Image]
    channels: int
    negative_share: float
    ndim: int
    spacing: Callable[[Path], tuple[float, ...] | None] = no_spacing
    ignored: Callable[[Scene, PrepareOptions], np.ndarray | None] = nothing_ignored


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
    seed
        Seed they were drawn with.
    notes
        What was converted on the way, for the images where something was.
    spacing
        Size of a pixel as given or read, ``(ndim,)``; empty where it is not known.
    white
        Percentile of an image's values that became 1; 0: none.
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
            raise UserError(
                f"{folder}: has no {DATASET_FILE}; make it with prepare_datasets_2D.py (or 3D) --out {folder}"
            )
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

    def stacks(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        batch_size: int,
        seed: int,
        patch_shape: Sequence[int],
        channels: int,
    ) -> StackBatches:
        """Open the stacks of some of the images, see :func:`~tools.stacks.open_stacks`.

        Raises
        ------
        UserError
            If an image is not in the dataset, or as :func:`~tools.stacks.open_stacks` does.
        """
        stored = dict(zip(self.images, self.n_samples, strict=True))
        for name in names:
            if name not in stored:
                raise UserError(f"{folder}: has no image {name}; it has {', '.join(self.images)}")
        # An image too small for its share of samples has no stacks; that is right as long as another has.
        filled = [name for name in names if stored[name]] or names
        folders = {name: folder / TRAINING_FOLDER / name for name in filled}
        return open_stacks(folders, batch_size=batch_size, seed=seed, patch_shape=patch_shape, channels=channels)


def open_stack_batches(
    folder: Path, names: Sequence[str], batch_size: int, seed: int, *, patch_size: Sequence[int], channels: int
) -> StackBatches:
    """Batches from the stacks of some images of a folder written by a prepare script.

    Parameters
    ----------
    folder
        The prepared folder, with ``dataset.json`` in it.
    names
        Images to take.
    batch_size
        Samples in a batch, over all processes.
    seed
        Seed of the run; it sets the order of every epoch.
    patch_size
        Patch that the network is trained with, in pixels, y x (z y x).
    channels
        That the network takes.

    Raises
    ------
    UserError
        If the folder was not prepared, an image is not in it, or stacks are missing, broken or of another patch size.
    """
    prepared = PreparedDataset.load(folder)
    return prepared.stacks(
        folder, names, batch_size=batch_size, seed=seed, patch_shape=tuple(patch_size), channels=channels
    )


# ---- one image -----------------------------------------------------------------------------------------------------


def sample_shape(options: PrepareOptions, door: PrepareDoor) -> SampleShape:
    """The sampling part of the options."""
    return SampleShape(
        options.step,
        options.margin,
        options.jitter,
        substeps=options.substeps,
        negative_share=door.negative_share,
        spacing=normalised(options.spacing) if options.spacing else (),
    )


def build_scene(case: Case, options: PrepareOptions, door: PrepareDoor) -> tuple[Scene, tuple[str, ...]]:
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
    image = door.read(case.image, options)
    tree, notes = load_tree(case, options.swc_origin)
    source = case.swc or case.label or case.image
    check_tree_inside(tree, image.pixels.shape[:-1], source, options.spacing)
    if door.ndim == 3:
        check_tree_lit(tree, image.pixels, source, options.spacing)
    spaces = Spaces.scaled(image.pixels.shape[:-1], options.scale)
    advice = "give a larger --scale" if door.ndim == 2 else "give a smaller --patch_size, or add empty slices"
    check_holds_patch(spaces.work_shape, options.patch_size, advice, case.image)
    pixels = np.rint(spaces.resize(image.pixels) * 255).astype(np.uint8)
    ignored = case_ignored(case, spaces)
    scene = Scene.build(case.name, pixels, tree_to_work(tree, spaces), sample_shape(options, door), ignored)
    if ignored is None and (ignored := door.ignored(scene, options)) is not None:
        scene = Scene.build(case.name, pixels, scene.tree, scene.walks.shape, ignored)
    if ignored is not None:
        notes = (*notes, f"{ignored.mean():.1%} of the pixels ignored by the centerline loss")
    return scene, image.notes + notes


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
class _SceneTask:
    """Make the scene of one case and save it in ``folder``."""

    case: Case
    folder: Path
    options: PrepareOptions
    door: PrepareDoor


@dataclass(frozen=True)
class _SceneResult:
    """``sites``: how many places on its tree a sample may stand at."""

    sites: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _StacksTask:
    """Draw ``count`` samples of the scene in ``folder`` with the generator of image number ``index``."""

    folder: Path
    index: int
    count: int
    options: PrepareOptions
    door: PrepareDoor


def _make_scene(task: _SceneTask) -> _SceneResult:
    scene, notes = build_scene(task.case, task.options, task.door)
    scene.save(task.folder)
    sites = len(scene.walks.sites)
    return _SceneResult(sites, notes if sites else (*notes, "no branch is long enough for a walk, so no samples"))


def _make_stacks(task: _StacksTask) -> None:
    """The scene is read back, so that stored and online samples come from the very same files."""
    scene = Scene.load(task.folder, sample_shape(task.options, task.door))
    rng = _image_rng(task.options.seed, task.index)
    write_stacks(scene, task.folder, rng, count=task.count, patch_shape=task.options.patch_size)


def _image_rng(seed: int, index: int) -> np.random.Generator:
    """Generator of one image: of the seed and its place in the dataset, so that who works on it does not matter."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))


# ---- the whole dataset ---------------------------------------------------------------------------------------------


def prepare(
    options: PrepareOptions, door: PrepareDoor, *, known: Collection[str] = (), progress: bool = False
) -> PreparedDataset:
    """Make the training data of a dataset in ``options.out``, which appears only when complete.

    The result depends on the input files and the options, not on the number of workers.

    Parameters
    ----------
    options
        See :class:`~configs.options.PrepareOptions`. An earlier result in ``out`` is replaced.
    door
        See :class:`PrepareDoor`.
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
    check_options(options, door.ndim)
    cases = find_cases(_locate(options, known))
    options = replace(options, spacing=common_spacing(cases, options, door))
    _check_replaceable(options.out)
    workers = min(options.workers or cores(), len(cases))
    with _workspace(options.out) as space, crew(workers) as each:
        folders = [space / TRAINING_FOLDER / case.name for case in cases]
        scene_tasks = [_SceneTask(case, folder, options, door) for case, folder in zip(cases, folders, strict=True)]
        scenes = _all_scenes(each, scene_tasks, progress)
        counts = shared_out(options.n_samples, [scene.sites for scene in scenes])
        _check_room(space, counts, options, door)
        each_count = enumerate(zip(folders, counts, strict=True))
        stacks_tasks = [_StacksTask(folder, i, count, options, door) for i, (folder, count) in each_count if count]
        _all_stacks(each, stacks_tasks, progress)
        prepared = _described(options, door, cases, counts, scenes)
        if options.preview:
            write_png(space / PREVIEW_FILE, preview(prepared, space))
        prepared.save(space)
    return prepared


def _all_scenes(each: Crew, tasks: Sequence[_SceneTask], progress: bool) -> list[_SceneResult]:
    """Make and save every scene."""
    results: dict[int, _SceneResult] = {}
    for index, result in tqdm(each(_make_scene, tasks), "images", len(tasks), disable=not progress, unit="image"):
        results[index] = result
    scenes = [results[index] for index in range(len(tasks))]
    if not any(scene.sites for scene in scenes):
        first = tasks[0]
        length = 2 * first.options.margin * first.options.step
        raise UserError(
            f"{first.case.image.parent}: no image has a branch of {length:g} work pixels (--margin on both sides of a "
            "node); check the trees, or give a smaller --margin or --step, or a larger --scale"
        )
    return scenes


def _all_stacks(each: Crew, tasks: Sequence[_StacksTask], progress: bool) -> None:
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
    door: PrepareDoor,
    cases: Sequence[Case],
    counts: Sequence[int],
    scenes: Sequence[_SceneResult],
) -> PreparedDataset:
    return PreparedDataset(
        dataset=options.dataset,
        scale=options.scale,
        swc_origin=options.swc_origin,
        patch_size=options.patch_size,
        sample_shape=sample_shape(options, door),
        images=tuple(case.name for case in cases),
        n_samples=tuple(counts),
        seed=options.seed,
        notes={case.name: scene.notes for case, scene in zip(cases, scenes, strict=True) if scene.notes},
        spacing=options.spacing or (),
        white=getattr(options, "white", 0.0),
    )


def common_spacing(cases: Sequence[Case], options: PrepareOptions, door: PrepareDoor) -> tuple[float, ...] | None:
    """Size of a pixel of all images: as the options say, else as the files do; None where neither does.

    Raises
    ------
    UserError
        If the files do not agree: a step must be as long in all of them.
    """
    if options.spacing:
        return tuple(options.spacing)
    found = {case.image: spacing for case in cases if (spacing := door.spacing(case.image))}
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
        (scene,) = prepared.scenes(folder, [name])
        drawn = draw_samples(scene, rng, _PREVIEW_ROWS, prepared.patch_size)
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

_LIMITS: dict[str, tuple[Callable[[float], bool], str]] = {
    "scale": (lambda v: 0 < v <= 100, "above 0 (work pixels per image pixel, at most 100)"),
    "step": (lambda v: 0 < v < np.inf, "above 0 (work pixels)"),
    "jitter": (lambda v: 0 <= v < np.inf, "0 or more (work pixels)"),
    "n_samples": (lambda v: v >= 0, "0 or more"),
    "margin": (lambda v: v >= 1, "1 or more (nodes)"),
    "substeps": (lambda v: v >= 1, "1 or more"),
    "workers": (lambda v: v >= 0, "0 or more (0: one per core)"),
    "seed": (lambda v: v >= 0, "0 or more"),
}


def check_options(options: PrepareOptions, ndim: int) -> None:
    """Refuse values that have no meaning in ``ndim`` dimensions.

    Raises
    ------
    UserError
        Naming the option, its value and what it may be.
    """
    for name, (allowed, wanted) in _LIMITS.items():
        value = getattr(options, name)
        if not allowed(value):
            raise UserError(f"--{name} must be {wanted}, got {value}")
    check_axes("patch_size", options.patch_size, ndim)
    if options.spacing is not None:
        check_axes("spacing", options.spacing, ndim)
        if not all(0 < size < np.inf for size in options.spacing):
            raise UserError(f"--spacing must be above 0, got {' '.join(map(str, options.spacing))}")
    if not 0 <= getattr(options, "white", 0.0) <= 100:
        raise UserError(f"--white must be a percentile, 0 to 100, got {options.white}")
    if min(options.patch_size) < 16 or any(size % 16 for size in options.patch_size):
        sizes = " x ".join(map(str, options.patch_size))
        raise UserError(f"--patch_size must be multiples of 16 (the network halves a patch four times), got {sizes}")


def check_axes(name: str, values: Sequence[float], ndim: int) -> None:
    """Refuse an option that has not one value for each axis.

    Raises
    ------
    UserError
        Naming the option, and what was given.
    """
    if len(values) != ndim:
        given, axes = " ".join(map(str, values)), " ".join("zyx"[-ndim:])
        raise UserError(f"--{name} {given}: {len(values)} numbers, but {ndim}D has {ndim} axes; give {axes}")


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


def _check_room(space: Path, counts: Sequence[int], options: PrepareOptions, door: PrepareDoor) -> None:
    """Refuse to start what the disk cannot hold: a full disk under a memory map kills the process."""
    needed = sum(counts) * bytes_per_sample(options.patch_size, door.channels) + _SPARE_BYTES
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
