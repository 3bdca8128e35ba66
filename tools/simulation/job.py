"""Folders of volumes simulated from SWC files, for ``simulate_volumes.py``."""

from __future__ import annotations

import importlib.util
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.random import Generator
from tqdm import tqdm

from configs.checks import SHARE, Limit, above, at_least, check_limits
from lib.errors import UserError, known_names
from lib.files import atomic_folder, atomic_write, make_folder, write_json
from lib.klib.ome_zarr import CHUNK, create_zarr, fill_levels
from lib.klib.windows import box, round_up, tiles
from lib.parallel import cores, worker_pool
from lib.swclib import SwcForest, read_swc, resample, rescale, swc_files, write_swc
from tools.simulation.blocks import Simulation, plan_block, plan_pair
from tools.simulation.effects import EFFECTS, Effects
from tools.simulation.trees import densest_corner, randomly_turned

IMAGES, TREES, SETTINGS = "images", "swc", "settings"
SUFFIXES = {"tiff": ".tif", "zarr": ".ome.zarr"}
"""Suffix of a volume by --format."""
_MARGIN = 8
"""Voxels on either side of a morphology along an axis whose size is not given."""
_MOST_VOXELS = 1 << 30
"""Of a TIFF: a float32 volume of 4 GiB, of which rendering keeps several."""
_TILE = 2 * CHUNK
"""Voxels along each side of the tiles in which an OME-Zarr is rendered."""
_SMALLEST_EXTENT = 16
"""Pixels that a morphology has to span; less is a wrong --scale."""
_PLANNING_STEP = 4.0
"""Distance in pixels of the nodes that are counted to choose blocks."""


@dataclass(frozen=True)
class SimulateOptions(Effects):
    """Simulate volumes with known truth from SWC morphologies."""

    preset: str = "fmost"
    """fmost, ccf, op, clean, or parallel (two neurites side by side, no SWC); sets the defaults of other options."""
    swc: Path | None = None
    """SWC file, or folder of SWC files."""
    out: Path = Path("data/FMOST")
    """Output folder: <out>/<split>/images, swc and settings. Files of the same names are replaced."""
    split: str = "training"
    """Subfolder."""
    format: str = "tiff"
    """tiff, or zarr (OME-Zarr): written tile by tile, so that a volume may be larger than the memory."""
    blocks: int = 1
    """Blocks to cut from each SWC, at different places where it is densest; for preset parallel, number of pairs."""
    size: tuple[int, int, int] = (64, 256, 256)
    """Size of a block in voxels, z y x; 0 takes the whole extent of the morphology along that axis."""
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Size of a voxel in µm, z y x."""
    scale: float = 1.0
    """Pixels (voxels along x) per unit of the SWC, in all directions; 0: 1 / spacing, for an SWC in µm."""
    turn: bool = False
    """Turn the morphology of each block about z by a random angle, and mirror it at random, before the cut."""
    seed: int = 0
    """Random seed; a volume depends only on it, on the name of its SWC and on its number."""
    workers: int = 1
    """Processes; 0 is one per core. The result does not depend on their number."""


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fmost": EFFECTS["fmost"],
    "ccf": {**EFFECTS["ccf"], "spacing": (1.0, 0.3, 0.3), "scale": 0.0, "size": (32, 512, 512)},
    "op": {**EFFECTS["op"], "spacing": (1.0, 0.33, 0.33), "size": (64, 512, 512)},
    "clean": EFFECTS["clean"],
    "parallel": {**EFFECTS["parallel"], "size": (24, 64, 160), "blocks": 100},
}
"""Defaults of the options by preset."""


@dataclass(frozen=True)
class WrittenVolume:
    """Summary of a volume that was written.

    Attributes
    ----------
    name
        Name of its files, without suffix.
    shape
        Shape of the volume in voxels (z, y, x).
    trees
        Number of gold trees.
    length
        Length of the gold trees in voxels.
    """

    name: str
    shape: tuple[int, ...]
    trees: int
    length: float


@dataclass(frozen=True)
class _Task:
    """A volume to simulate; ``corner`` (z, y, x) in pixels of the (turned) morphology, ``shape`` in voxels."""

    options: SimulateOptions
    source: Path | None
    number: int
    corner: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Name of the volume's files, without suffix."""
        stem = self.source.stem.replace(".", "_") if self.source else "parallel"
        return f"{stem}_{self.number:03d}"

    def generator(self, purpose: int) -> Generator:
        """Random generator of this volume, independent of other volumes; ``purpose`` 0 places it, 1 simulates it."""
        return np.random.default_rng([self.options.seed, zlib.crc32(self.name.encode()), purpose])


def simulate(options: SimulateOptions, *, progress: bool = False) -> list[WrittenVolume]:
    """Simulate and write all volumes.

    Parameters
    ----------
    options
        Sources, presets and effects.
    progress
        Whether to show a progress bar.

    Returns
    -------
    list of WrittenVolume
        One entry per volume, in the order of SWC names and block numbers.

    Raises
    ------
    UserError
        If an option or an SWC cannot be used, or a file cannot be written.
    """
    check_options(options)
    tasks = _plan(options)
    for name in (IMAGES, TREES, SETTINGS):
        make_folder(options.out / options.split / name)
    with worker_pool(min(options.workers or cores(), len(tasks))) as each:
        volumes = dict(tqdm(each(_simulate_one, tasks), total=len(tasks), disable=not progress, unit="volume"))
    return [volumes[index] for index in range(len(tasks))]


# --- allowed options ------------------------------------------------------------------------------------------------

_AT_LEAST_0, _POSITIVE = at_least(0, "--{name} {value}: give 0 or more"), above(0, "--{name} {value}: give more than 0")
_LIMITS: dict[str, Limit] = {
    **{field.name: _AT_LEAST_0 for field in fields(Effects)},
    **dict.fromkeys(("scale", "seed", "workers"), _AT_LEAST_0),
    **dict.fromkeys(("gap_depth", "parallel_share", "unlabelled", "haze", "depth_loss", "shading"), SHARE),
    **dict.fromkeys(("least_radius", "radius_scale", "signal", "blocks"), _POSITIVE),
    "offset": (math.isfinite, "--{name} {value}: give a finite number"),
    "bits": (lambda value: value in (8, 16), "--{name} {value}: give 8 or 16"),
    "nearest": at_least(3, "--{name} {value}: give 3 or more; nearer lines cannot be distinguished"),
    "format": (lambda value: value in SUFFIXES, "--{name} {value}: give tiff or zarr"),
    "size": (lambda value: min(value) >= 0, "--{name} {value}: give 0 or more"),
    "spacing": (lambda value: 0 < min(value) <= max(value) < math.inf, "--{name} {value}: give more than 0"),
}


def check_options(options: SimulateOptions) -> None:
    """Refuse options that are out of range or contradict each other.

    Raises
    ------
    UserError
        If an option cannot be used; the line names it and the values allowed.
    """
    if options.preset not in PRESETS:
        raise UserError(f"--preset is {options.preset}; {known_names(options.preset, PRESETS)}")
    check_limits(options, _LIMITS)
    if options.spacing[1] != options.spacing[2]:
        y, x = options.spacing[1:]
        raise UserError(f"--spacing has {y:g} along y and {x:g} along x; pixels of a slice must be square")
    if options.farthest < options.nearest:
        raise UserError(f"--farthest is {options.farthest:g}, less than --nearest ({options.nearest:g}); give more")
    if options.format == "zarr" and importlib.util.find_spec("zarr") is None:
        advice = "run `pip install -e '.[volumes]'` in the folder of NETracer"
        raise UserError(f"--format zarr: needs the package zarr, which is not installed; {advice}")
    if options.preset == "parallel" and min(options.size) < 16:
        raise UserError(f"--size is {' '.join(map(str, options.size))}; two neurites need 16 or more along each axis")
    if options.preset != "parallel" and options.swc is None:
        raise UserError("--swc is missing; give an SWC file or a folder of them (preset parallel needs none)")


# --- plan -----------------------------------------------------------------------------------------------------------


def _plan(options: SimulateOptions) -> list[_Task]:
    """Choose the place of every volume."""
    if options.swc is None:
        return [_Task(options, None, number, shape=options.size) for number in range(1, options.blocks + 1)]
    return [task for file in swc_files(options.swc) for task in _plan_file(options, file)]


def _plan_file(options: SimulateOptions, file: Path) -> list[_Task]:
    """Place the blocks of one morphology, each where it holds most length outside earlier blocks."""
    coarse = resample(_read_in_pixels(file, options), _PLANNING_STEP)
    _check_extent(file, coarse, options)
    weight = np.ones(len(coarse))
    aspect = np.array([options.spacing[0] / options.spacing[2], 1, 1])
    tasks = []
    for number in range(1, options.blocks + 1):
        task = _Task(options, file, number)
        rng = task.generator(0)
        forest = randomly_turned(coarse, rng) if options.turn else coarse
        points = forest.xyz[:, ::-1]
        whole = np.ceil(np.ptp(points, axis=0) / aspect).astype(int) + 1 + 2 * _MARGIN
        shape = np.where(np.array(options.size) == 0, whole, options.size)
        if options.format == "tiff":
            _check_shape(file, shape)
        size = (shape - 1) * aspect
        corner = densest_corner(forest, size, weight, rng)
        # Nodes of earlier blocks keep some weight, since a small morphology may have no others.
        weight[((points >= corner) & (points <= corner + size)).all(axis=1)] *= 0.2
        tasks.append(replace(task, corner=tuple(corner.tolist()), shape=tuple(shape.tolist())))
    return tasks


def _pixels_per_unit(options: SimulateOptions) -> float:
    return options.scale or 1 / options.spacing[2]


def _read_in_pixels(file: Path, options: SimulateOptions) -> SwcForest:
    """Read a morphology in pixels of a slice."""
    return rescale(read_swc(file), _pixels_per_unit(options))


def _check_extent(file: Path, forest: SwcForest, options: SimulateOptions) -> None:
    extent = np.ptp(forest.xyz[:, ::-1], axis=0)
    if extent.max() < _SMALLEST_EXTENT:
        found = " x ".join(f"{value:.3g}" for value in extent)
        scale = f"{_pixels_per_unit(options):g} pixels per unit"
        raise UserError(f"{file}: spans only {found} pixels (z y x) at {scale}; give a larger --scale")


def _check_shape(file: Path, shape: np.ndarray) -> None:
    if np.prod(shape.astype(float)) > _MOST_VOXELS:
        found = " x ".join(map(str, shape))
        raise UserError(
            f"{file}: a block of {found} voxels is too large for the memory; give a smaller --size, or --format zarr"
        )


# --- simulate ------------------------------------------------------------------------------------------------------


def _simulate_one(task: _Task) -> WrittenVolume:
    """Simulate and write one volume."""
    options, rng = task.options, task.generator(1)
    effects = Effects(**{field.name: getattr(options, field.name) for field in fields(Effects)})
    if task.source is None:
        simulation = plan_pair(int(rng.integers(1 << 32)), shape=task.shape, effects=effects)
    else:
        forest = _read_in_pixels(task.source, options)
        if options.turn:
            forest = randomly_turned(forest, task.generator(0))
        simulation = plan_block(forest, task.corner, task.shape, options.spacing, effects, rng)
    _write(task, simulation)
    gold = simulation.gold
    return WrittenVolume(task.name, simulation.scene.shape, len(gold.roots), gold.length)


def _write(task: _Task, simulation: Simulation) -> None:
    """Render a volume and write its files; the gold comes last and marks it as complete."""
    folder = task.options.out / task.options.split
    image = folder / IMAGES / f"{task.name}{SUFFIXES[task.options.format]}"
    write_volume = _write_zarr if task.options.format == "zarr" else _write_tiff
    write_volume(image, simulation)
    write_json(folder / SETTINGS / f"{task.name}.json", _settings(task))
    comment = (
        f"simulated, preset {task.options.preset}; truth of {image.name}",
        "units: voxels; 0 is the centre of the first voxel; radius is in pixels of a slice",
    )
    write_swc(folder / TREES / f"{task.name}.swc", simulation.gold, comment=comment)


def _settings(task: _Task) -> dict[str, Any]:
    """List all that is needed to simulate the volume again."""
    return {
        "name": task.name,
        "source": task.source.name if task.source else None,
        "number": task.number,
        "corner_pixels_zyx": task.corner,
        "shape_zyx": task.shape,
        "origin": "centre of the first voxel",
        "options": {key: value for key, value in asdict(task.options).items() if key not in ("out", "swc", "workers")},
    }


def _write_tiff(path: Path, simulation: Simulation) -> None:
    """Write a volume as a multi-page TIFF with its spacing (µm) in the tags of ImageJ."""
    z, y, x = simulation.spacing
    metadata = {"axes": "ZYX", "spacing": z, "unit": "um"}
    with atomic_write(path) as temporary:
        volume = simulation.scene.whole()
        tifffile.imwrite(temporary, volume, imagej=True, resolution=(1 / x, 1 / y), metadata=metadata)


def _write_zarr(path: Path, simulation: Simulation) -> None:
    """Render and write a volume as OME-Zarr, tile by tile."""
    scene = simulation.scene
    with atomic_folder(path) as space:
        levels = create_zarr(space, scene.shape, scene.dtype, simulation.spacing, name=path.name)
        for low, high in tiles(tuple(round_up(np.array(scene.shape), CHUNK)), _TILE, CHUNK):
            high = np.minimum(high, scene.shape)
            levels[0][box(low, high)] = scene.window(low, high)
        fill_levels(levels)
