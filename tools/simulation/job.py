"""From SWC files to folders of simulated volumes: what ``simulate_volumes.py`` does."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from tqdm import tqdm

from lib.errors import UserError, known_names
from lib.files import make_folder, written
from lib.parallel import cores, worker_pool
from lib.swclib import SwcForest, read_swc, resample, rescale, write_swc
from tools.simulation.blocks import Simulated, parallel_pair, simulate_block
from tools.simulation.effects import EFFECTS, Effects
from tools.simulation.trees import turned, well_filled

IMAGES, TREES, SETTINGS = "images", "swc", "settings"
_MARGIN = 8
"""Voxels around a morphology along an axis whose size is not given."""
_MOST_VOXELS = 1 << 30
_PLANNING_STEP = 4.0
"""Distance of nodes, in pixels, by which blocks are chosen."""


@dataclass(frozen=True)
class SimulateOptions(Effects):
    """Make volumes with known truth from SWC morphologies."""

    preset: str = "fmost"
    """fmost, ccf, op, clean, or parallel (two neurites side by side, without an SWC); sets the defaults of the rest."""
    swc: Path | None = None
    """SWC file or folder of them."""
    out: Path = Path("data/FMOST")
    """Folder to write: <out>/<split>/images, swc and settings. Files of the same names are replaced."""
    split: str = "training"
    """Sub-folder."""
    blocks: int = 1
    """Blocks cut from each SWC where it is densest, each at another place; for preset parallel, cases."""
    size: tuple[int, int, int] = (64, 256, 256)
    """Block in voxels, z y x; 0 takes the whole extent of the morphology along that axis."""
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Size of a voxel in µm, z y x."""
    scale: float = 1.0
    """Pixels (voxels along x) per unit of the SWC, the same in all directions; 0: the SWC is in µm, so 1 / spacing."""
    turn: bool = False
    """Turn each block's morphology about z by a random angle, and mirror it at random, before it is cut."""
    seed: int = 0
    """Seed of all randomness; a volume depends on it, its SWC's name and its number alone."""
    workers: int = 1
    """Processes; 0 is one per core. The result does not depend on it."""


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fmost": EFFECTS["fmost"],
    "ccf": {**EFFECTS["ccf"], "spacing": (1.0, 0.3, 0.3), "scale": 0.0, "size": (32, 512, 512)},
    "op": {**EFFECTS["op"], "spacing": (1.0, 0.33, 0.33), "size": (64, 512, 512)},
    "clean": EFFECTS["clean"],
    "parallel": {**EFFECTS["parallel"], "size": (24, 64, 160), "blocks": 100},
}
"""Defaults of the options for each preset."""


@dataclass(frozen=True)
class Made:
    """One volume that was written.

    Attributes
    ----------
    name
        Of its files, without suffix.
    shape
        In voxels.
    trees, length
        Of its gold; the length in voxels.
    """

    name: str
    shape: tuple[int, ...]
    trees: int
    length: float


@dataclass(frozen=True)
class _Task:
    """One volume to make; ``corner`` (z, y, x) in pixels of the (turned) morphology."""

    options: SimulateOptions
    source: Path | None
    number: int
    corner: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        stem = self.source.stem.replace(".", "_") if self.source else "parallel"
        return f"{stem}_{self.number:03d}"

    def generator(self, purpose: int) -> np.random.Generator:
        """Randomness of this volume, the same whatever others are made; ``purpose`` 0 turns, 1 is all else."""
        return np.random.default_rng([self.options.seed, zlib.crc32(self.name.encode()), purpose])


def simulate(options: SimulateOptions, *, progress: bool = False) -> list[Made]:
    """Make all volumes.

    Parameters
    ----------
    options
        What to make; each field says what it does.
    progress
        Whether to show a bar.

    Returns
    -------
    One entry per volume, in order.

    Raises
    ------
    UserError
        If an option or an SWC cannot be used, or the result not be written.
    """
    check(options)
    tasks = _plan(options)
    for name in (IMAGES, TREES, SETTINGS):
        make_folder(options.out / options.split / name)
    made: dict[int, Made] = {}
    with worker_pool(min(options.workers or cores(), len(tasks))) as each:
        for index, one in tqdm(each(_simulate_one, tasks), total=len(tasks), disable=not progress, unit="volume"):
            made[index] = one
    return [made[index] for index in sorted(made)]


# --- what can be used -----------------------------------------------------------------------------------------------

_AT_LEAST_0 = (lambda v: v >= 0, "0 or more")
_SHARE = (lambda v: 0 <= v <= 1, "a share, 0 to 1")
_POSITIVE = (lambda v: v > 0, "above 0")
_LIMITS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **{field.name: _AT_LEAST_0 for field in fields(Effects)},
    **dict.fromkeys(("gap_depth", "parallel_share", "unlabelled", "haze", "depth_loss", "shading"), _SHARE),
    **dict.fromkeys(("least_radius", "radius_scale", "signal", "blocks"), _POSITIVE),
    "offset": (lambda v: True, ""),
    "bits": (lambda v: v in (8, 16), "8 or 16"),
    "nearest": (lambda v: v >= 3, "3 or more: two lines nearer than that cannot be told apart"),
    "size": (lambda v: min(v) >= 0, "0 or more"),
    "spacing": (lambda v: min(v) > 0 and max(v) < np.inf, "above 0"),
    "scale": _AT_LEAST_0,
    "seed": _AT_LEAST_0,
    "workers": (lambda v: v >= 0, "0 or more (0: one per core)"),
}


def check(options: SimulateOptions) -> None:
    """Refuse options that mean nothing."""
    if options.preset not in PRESETS:
        raise UserError(f"--preset is {options.preset}; {known_names(options.preset, PRESETS)}")
    for name, (is_fine, wanted) in _LIMITS.items():
        value = getattr(options, name)
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        if not np.isfinite(value).all() or not is_fine(value):
            raise UserError(f"--{name} is {shown}; give {wanted or 'a finite number'}")
    if options.spacing[1] != options.spacing[2]:
        y, x = options.spacing[1:]
        raise UserError(f"--spacing has {y:g} along y and {x:g} along x; pixels of a slice must be square")
    if options.farthest < options.nearest:
        raise UserError(f"--farthest is {options.farthest:g}, less than --nearest ({options.nearest:g}); give more")
    if options.preset == "parallel" and min(options.size) < 16:
        raise UserError(f"--size is {' '.join(map(str, options.size))}; two neurites need 16 or more along each axis")
    if options.preset != "parallel" and options.swc is None:
        raise UserError("--swc is missing; give an SWC file or a folder of them (preset parallel needs none)")


def swc_files(path: Path) -> list[Path]:
    """The file, or the SWC files of a folder in the order of their names."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; give an SWC file or a folder of them")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".swc" and not file.name.startswith("."))
    if not files:
        raise UserError(f"{path}: no SWC files in this folder; give one that holds *.swc")
    return files


# --- plan -----------------------------------------------------------------------------------------------------------


def _plan(options: SimulateOptions) -> list[_Task]:
    """All volumes with their places."""
    numbers = range(1, options.blocks + 1)
    if options.preset == "parallel" and options.swc is None:
        return [_Task(options, None, number, shape=options.size) for number in numbers]
    return [task for file in swc_files(options.swc) for task in _plan_file(options, file)]


def _plan_file(options: SimulateOptions, file: Path) -> list[_Task]:
    """Blocks of one morphology, each where most length is that earlier ones do not hold."""
    coarse = resample(_in_pixels(file, options), _PLANNING_STEP)
    _check_extent(file, coarse, options)
    weight = np.ones(len(coarse))
    aspect = np.array([options.spacing[0] / options.spacing[2], 1, 1])
    tasks = []
    for number in range(1, options.blocks + 1):
        blank = _Task(options, file, number)
        rng = blank.generator(0)
        forest = turned(coarse, rng) if options.turn else coarse
        points = forest.xyz[:, ::-1]
        whole = np.ceil(np.ptp(points, axis=0) / aspect).astype(int) + 1 + 2 * _MARGIN
        shape = np.where(np.array(options.size) == 0, whole, options.size)
        _check_shape(file, shape)
        size = (shape - 1) * aspect
        corner = well_filled(forest, size, weight, rng)
        # A place already shown counts a little, or a morphology smaller than its blocks would have none left.
        weight[((points >= corner) & (points <= corner + size)).all(axis=1)] *= 0.2
        tasks.append(_Task(options, file, number, tuple(corner.tolist()), tuple(shape.tolist())))
    return tasks


def _in_pixels(file: Path, options: SimulateOptions) -> SwcForest:
    """A morphology in pixels of a slice."""
    return rescale(read_swc(file), options.scale or 1 / options.spacing[2])


def _check_extent(file: Path, forest: SwcForest, options: SimulateOptions) -> None:
    extent = np.ptp(forest.xyz[:, ::-1], axis=0)
    if extent.max() < 16:
        found = " x ".join(f"{value:.3g}" for value in extent)
        scale = options.scale or 1 / options.spacing[2]
        raise UserError(
            f"{file}: spans only {found} pixels (z y x) at {scale:g} pixels per unit; give a larger --scale"
        )


def _check_shape(file: Path, shape: np.ndarray) -> None:
    if np.prod(shape.astype(float)) > _MOST_VOXELS:
        found = " x ".join(map(str, shape))
        raise UserError(f"{file}: a block of {found} voxels is too large for the memory; give a smaller --size")


# --- make -----------------------------------------------------------------------------------------------------------


def _simulate_one(task: _Task) -> Made:
    """Make and write one volume."""
    options, rng = task.options, task.generator(1)
    effects = Effects(**{field.name: getattr(options, field.name) for field in fields(Effects)})
    if task.source is None:
        simulated = parallel_pair(rng.integers(1 << 32), shape=task.shape, effects=effects)
    else:
        forest = _in_pixels(task.source, options)
        if options.turn:
            forest = turned(forest, task.generator(0))
        simulated = simulate_block(forest, task.corner, task.shape, options.spacing, effects, rng)
    _write(task, simulated)
    gold = simulated.gold
    return Made(task.name, simulated.volume.shape, len(gold.roots), gold.length)


def _write(task: _Task, simulated: Simulated) -> None:
    """The gold last: with it a volume is complete."""
    folder = task.options.out / task.options.split
    write_volume(folder / IMAGES / f"{task.name}.tif", simulated.volume, simulated.spacing)
    with written(folder / SETTINGS / f"{task.name}.json") as temporary:
        temporary.write_text(json.dumps(_settings(task, simulated), indent=2, default=str) + "\n")
    comment = (
        f"simulated, preset {task.options.preset}; truth of {task.name}.tif",
        "coordinates in voxels, the centre of the first voxel is 0; radius in pixels of a slice",
    )
    write_swc(folder / TREES / f"{task.name}.swc", simulated.gold, comment=comment)


def _settings(task: _Task, simulated: Simulated) -> dict[str, Any]:
    """All that makes the volume again."""
    return {
        "name": task.name,
        "source": task.source.name if task.source else None,
        "number": task.number,
        "corner_pixels_zyx": task.corner,
        "shape_zyx": simulated.volume.shape,
        "origin": "centre of the first voxel",
        "options": {key: value for key, value in asdict(task.options).items() if key not in ("out", "swc", "workers")},
    }


def write_volume(path: Path, volume: np.ndarray, spacing: Sequence[float]) -> None:
    """Write a volume ``(z, y, x)`` as a multi-page TIFF that says its spacing (z, y, x, µm) as ImageJ does.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    with written(path) as temporary:
        tifffile.imwrite(
            temporary,
            volume,
            imagej=True,
            resolution=(1 / spacing[2], 1 / spacing[1]),
            metadata={"axes": "ZYX", "spacing": spacing[0], "unit": "um"},
        )
