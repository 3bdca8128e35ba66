"""Feed broken files to everything that reads files: each must give a result, or one line and exit code 2.

    python -m benchmarks.fuzz --minutes 30 --out out/fuzz

Sound files of every kind are made, mutated (bytes flipped, lost, repeated, numbers replaced, two files spliced), and
read as the scripts read them. A find is any other exception, a death or 20 s of silence, or a half-written file left
behind. Each is kept in <out>/finds with the command that repeats it; the exit code is then 1.
"""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import resource
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from io import StringIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from lib.errors import UserError

SILENCE = 20.0
"""Seconds after which a reader hangs."""
HUNG = f"no answer in {SILENCE:g} s"
MEMORY = 12 << 30
"""Bytes of address space of the process that reads: a header may ask for more than there is."""
MUTATIONS = 6
"""Largest number of mutations of a file."""
NUMBERS = (b"0", b"-1", b"nan", b"inf", b"1e999", b"99999999999999999999", b"0.0000001", b"", b"x", b"\xff")
"""What a number in a text becomes."""
WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
"""What four bytes become."""


@dataclass(frozen=True)
class FuzzOptions:
    """Feed broken files to everything that reads files."""

    minutes: float = 1.0
    """Minutes to run."""
    out: Path = Path("out/fuzz")
    """Folder for sound files, work and finds."""
    seed: int = 0
    """Random seed; the same seed gives the same files."""
    cases: int = 0
    """Most cases to run; 0: as many as the minutes allow."""
    case: int | None = None
    """Repeat this case only."""


@dataclass(frozen=True)
class Find:
    """What must not happen, and how it came."""

    case: int
    target: str
    what: str


# ---- mutation ------------------------------------------------------------------------------------------------------


def mutated(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """A file with one to :data:`MUTATIONS` mutations; ``other`` is a file of the same kind to splice with."""
    changed = bytearray(data)
    for _ in range(random.integers(1, MUTATIONS + 1)):
        mutate = MUTATORS[random.integers(len(MUTATORS))]
        if changed:
            changed = mutate(changed, other, random)
    return bytes(changed)


def _place(data: bytearray, random: np.random.Generator) -> int:
    """A place in a file, mostly near its head, where formats keep what matters."""
    end = len(data) if random.random() < 0.5 else min(len(data), 512)
    return int(random.integers(end))


def _flip(data: bytearray, _: bytes, random: np.random.Generator) -> bytearray:
    data[_place(data, random)] ^= 1 << random.integers(8)
    return data


def _word(data: bytearray, _: bytes, random: np.random.Generator) -> bytearray:
    at, order = _place(data, random), ("little", "big")[random.integers(2)]
    data[at : at + 4] = int(random.choice(WORDS)).to_bytes(4, order)  # type: ignore[arg-type]
    return data


def _cut(data: bytearray, _: bytes, random: np.random.Generator) -> bytearray:
    return data[: _place(data, random)]


def _lose(data: bytearray, _: bytes, random: np.random.Generator) -> bytearray:
    at = _place(data, random)
    del data[at : at + int(random.integers(1, 64))]
    return data


def _repeat(data: bytearray, _: bytes, random: np.random.Generator) -> bytearray:
    at = _place(data, random)
    data[at:at] = data[at : at + int(random.integers(1, 64))]
    return data


def _splice(data: bytearray, other: bytes, random: np.random.Generator) -> bytearray:
    return data[: _place(data, random)] + other[random.integers(len(other) + 1) :]


def _number(data: bytearray, _: bytes, random: np.random.Generator) -> bytearray:
    digits = [at for at, byte in enumerate(data[:4096]) if 48 <= byte <= 57]
    if digits:
        at = end = digits[random.integers(len(digits))]
        while end < len(data) and (48 <= data[end] <= 57 or data[end] in b".-"):
            end += 1
        data[at:end] = NUMBERS[random.integers(len(NUMBERS))]
    return data


MUTATORS = (_flip, _word, _cut, _lose, _repeat, _splice, _number)


# ---- sound files ---------------------------------------------------------------------------------------------------


def make_sound_files(folder: Path) -> None:
    """Write small sound files of every kind, a folder for each kind."""
    random = np.random.default_rng(0)
    for kind, make in MAKERS.items():
        (folder / kind).mkdir(parents=True)
        make(folder / kind, random)


def _make_trees(folder: Path, _: np.random.Generator) -> None:
    from lib.swclib import SwcForest, SwcSpace, write_swc

    fork = SwcForest.from_positions([[9, 9], [40, 40], [70, 30], [60, 70]], [-1, 0, 1, 1], radius=2.0)
    write_swc(folder / "plain.swc", fork)
    write_swc(folder / "um.swc", fork, comment=SwcSpace("corner", "um", (0.5, 0.5)).head(2))


def _make_images(folder: Path, random: np.random.Generator) -> None:
    import tifffile
    from PIL import Image

    colours = random.integers(0, 255, (96, 80, 3), dtype=np.uint8)
    rgb = partial(tifffile.imwrite, photometric="rgb")
    gray = partial(tifffile.imwrite, photometric="minisblack")
    rgb(folder / "lzw.tif", colours, compression="lzw")
    rgb(folder / "tiled.tif", colours, tile=(32, 32), compression="jpeg")
    rgb(folder / "planar.tif", np.moveaxis(colours, -1, 0).copy(), planarconfig="separate")
    gray(folder / "big.tif", colours[..., 0].astype(np.uint16) * 16, bigtiff=True)
    gray(folder / "float.tif", colours[..., 0].astype(np.float32) / 255, extratags=[(274, "H", 1, 6, True)])
    gray(folder / "channels.ome.tif", np.moveaxis(colours, -1, 0)[:2], metadata={"axes": "CYX"})
    exif = Image.Exif()
    exif[274] = 6
    for ending, more in {"png": {}, "jpg": {"exif": exif}, "bmp": {}, "gif": {}, "ppm": {}}.items():
        Image.fromarray(colours).save(folder / f"a.{ending}", **more)
    with suppress(ImportError):
        _write_geotiff(folder / "tile.tif", colours)


def _write_geotiff(path: Path, colours: np.ndarray) -> None:
    import rasterio

    form: dict[str, Any] = dict(width=80, height=96, count=3, dtype="uint8", crs="EPSG:32633")
    with rasterio.open(path, "w", driver="GTiff", transform=rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5e6), **form) as tile:
        tile.write(np.moveaxis(colours, -1, 0))


def _make_volumes(folder: Path, random: np.random.Generator) -> None:
    import tifffile

    stack = random.integers(0, 4000, (6, 40, 32)).astype(np.uint16)
    write = partial(tifffile.imwrite, photometric="minisblack")
    write(folder / "plain.tif", stack)
    write(folder / "zip.tif", stack, compression="zlib")
    write(folder / "imagej.tif", stack, imagej=True, metadata={"spacing": 2.0, "unit": "um", "axes": "ZYX"})
    series = np.stack([stack, stack])[:, :, None].repeat(2, axis=2)
    write(folder / "hyper.ome.tif", series, metadata={"axes": "TZCYX", "PhysicalSizeX": 0.3})
    with suppress(ImportError):
        import nibabel

        nibabel.save(nibabel.Nifti1Image(stack.T, np.eye(4)), folder / "a.nii")  # type: ignore[attr-defined]


def _make_weights(folder: Path, _: np.random.Generator) -> None:
    import torch

    from models.checkpoint import WeightsHeader, save_weights
    from models.nenet import NENet

    torch.manual_seed(0)
    for ndim, channels, patch in ((2, 3, (32, 32)), (3, 1, (16, 32, 32))):
        header = WeightsHeader(ndim, channels, 2, "FUZZ", 1.0, "centre", patch, 5.0, 2.0, "tile", {"seed": 0.5})
        save_weights(folder / f"{ndim}d.safetensors", NENet(ndim, channels, 2), header)


def _make_options(folder: Path, _: np.random.Generator) -> None:
    texts = {
        "train": "dataset: DRIVE\nwidth: 8\npatch_size: [48, 48]\nlr: 2.0e-3\nhold_out: ['38', '39']\nresume: false\n",
        "trace": "weights: a.safetensors\nimages: a.png\nout: out\nscale: auto\nformats: [swc, csv]\nspacing: [1, 2]\n",
        "prepare": "dataset: DRIVE\nscale: 2.0\nswc_origin: corner\nalso: [HRF]\nn_samples: 10\nwhite: 99.9\n",
        "simulate": "preset: fmost\nblocks: 2\nsize: [32, 64, 64]\nturn: true\nseed: 5\n",
    }
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)


MAKERS: Mapping[str, Callable[[Path, np.random.Generator], None]] = {
    "swc": _make_trees,
    "image": _make_images,
    "volume": _make_volumes,
    "weights": _make_weights,
    "yaml": _make_options,
}
"""Makes the sound files of each kind."""


# ---- readers -------------------------------------------------------------------------------------------------------


def _choices(random: np.random.Generator) -> Any:
    """Options of reading."""
    from lib.klib.decoded import ReadOptions

    channel = ((), (), (1,), (2,), (3, 2, 1))[random.integers(5)]
    timepoint = (None, None, 1, 2)[random.integers(4)]
    return ReadOptions(channel, timepoint, (0.0, 99.9)[random.integers(2)], (0.0, 0.8)[random.integers(2)])


def read_image(path: Path, out: Path, random: np.random.Generator) -> None:
    """An image, for tracing in 2D, as a label, as a mask, and its place on the earth."""
    from lib.formats.georeference import GeoReference
    from lib.klib.image_io import read_labels, read_mask
    from tools.readers import read_image_2d

    image = read_image_2d(path, _choices(random))
    if not (np.isfinite(image.pixels).all() and image.pixels.min() >= 0 and image.pixels.max() <= 1):
        raise AssertionError("values are not in 0 to 1")
    for read in (read_labels, read_mask):
        with suppress(UserError):
            read(path)
    with suppress(ImportError):
        GeoReference.of_image(path)


def read_volume(path: Path, out: Path, random: np.random.Generator) -> None:
    """A volume, for tracing in 3D, and the size of its voxels."""
    from lib.klib.volume_io import volume_spacing
    from tools.readers import read_image_3d

    volume_spacing(path)
    image = read_image_3d(path, _choices(random))
    if not (np.isfinite(image.pixels).all() and image.pixels.min() >= 0 and image.pixels.max() <= 1):
        raise AssertionError("values are not in 0 to 1")


def read_slices(path: Path, out: Path, random: np.random.Generator) -> None:
    """A folder of slices of which one is broken."""
    from tools.readers import read_image_3d

    folder = out / "slices"
    folder.mkdir()
    sound = path.parents[1] / "sound" / "image" / path.name.removeprefix("mutated_")
    for number in range(3):
        shutil.copy(path if number == 1 else sound, folder / f"{number}{path.suffix}")
    read_image_3d(folder, _choices(random))


def evaluate(path: Path, out: Path, random: np.random.Generator) -> None:
    """A trace against a sound gold tree, or the reverse."""
    from evaluate import main

    pair = [str(path.parents[1] / "sound" / "swc" / "plain.swc"), str(path)]
    main([*pair[:: random.choice([1, -1])], "--json", str(out / "a.json"), "--csv", str(out / "a.csv")])


def prepare(path: Path, out: Path, random: np.random.Generator) -> None:
    """A dataset of one image with its tree, of which one is broken."""
    from prepare_datasets_2D import main

    sound, root = path.parents[1] / "sound", out / "mine"
    is_tree = path.suffix == ".swc"
    for name in ("images", "swc"):
        (root / name).mkdir(parents=True)
    image = sound / "image" / "a.png" if is_tree else path
    shutil.copy(image, root / "images" / f"a{image.suffix}")
    shutil.copy(path if is_tree else sound / "swc" / "plain.swc", root / "swc" / "a.swc")
    words = ["--margin", "1", "--step", "5", "--workers", "1", "--patch_size", "16", "16"]
    main(["--data_root", str(root), "--out", str(out / "prepared"), *words])


def read_weights(path: Path, out: Path, random: np.random.Generator) -> None:
    """A weight file."""
    from models.checkpoint import load_weights

    load_weights(path)


def read_yaml(path: Path, out: Path, random: np.random.Generator) -> None:
    """Options of a script."""
    from configs.config_2d import PREPARE_PRESETS, TRAIN_PRESETS
    from configs.options import PrepareOptions, TraceRun, TraceRun3D, TrainOptions
    from tools.cli import parse
    from tools.simulation.job import PRESETS, SimulateOptions

    words = ["--config", str(path)]
    if "simulate" in path.name:
        parse(SimulateOptions, words, description="", presets=PRESETS, preset_option="preset")
    elif "trace" in path.name:
        parse((TraceRun, TraceRun3D)[random.integers(2)], words, description="")
    elif "prepare" in path.name:
        parse(PrepareOptions, words, description="", presets=PREPARE_PRESETS)
    else:
        parse(TrainOptions, words, description="", presets=TRAIN_PRESETS)


Target = Callable[[Path, Path, np.random.Generator], None]
TARGETS: Mapping[str, tuple[str, Target]] = {
    "evaluate": ("swc", evaluate),
    "prepare, tree": ("swc", prepare),
    "image": ("image", read_image),
    "prepare, image": ("image", prepare),
    "slices": ("image", read_slices),
    "volume": ("volume", read_volume),
    "weights": ("weights", read_weights),
    "options": ("yaml", read_yaml),
}
"""Kind of file and reader of each target."""


# ---- cases ---------------------------------------------------------------------------------------------------------


def run_case(case: int, seed: int, folder: Path) -> tuple[str, str | None]:
    """Make and read the file of a case.

    Returns
    -------
    target
        Its name.
    what
        None for a result or a line; else what happened.
    """
    random = np.random.default_rng((seed, case))
    target = list(TARGETS)[random.integers(len(TARGETS))]
    kind, read = TARGETS[target]
    files = sorted((folder / "sound" / kind).iterdir())
    sound, other = (files[index] for index in random.integers(len(files), size=2))
    shutil.rmtree(folder / "work", ignore_errors=True)
    out = folder / "work" / "out"
    out.mkdir(parents=True)
    path = folder / "work" / f"mutated_{sound.name}"
    path.write_bytes(mutated(sound.read_bytes(), other.read_bytes(), random))
    what = None
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            read(path, out, random)
    except UserError as error:
        what = None if len(str(error).splitlines()) == 1 else f"a message of several lines: {error}"
    except BaseException:
        what = traceback.format_exc()
    if what is None and (left := [each.name for each in out.rglob(".*")]):
        what = f"left behind: {', '.join(left)}"
    return target, what


def _worker(connection: Connection, folder: Path, seed: int) -> None:
    """Run the cases that come through a connection; a process of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    faulthandler.enable()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the scripts at the top
    while True:
        connection.send(run_case(connection.recv(), seed, folder))


class _Reader:
    """A process that runs cases, and is started anew after it died or hung."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._start()

    def _start(self) -> None:
        self._connection, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_worker, args=(there, self._folder, self._seed), daemon=True)
        self._process.start()
        there.close()
        self._first = True

    def __call__(self, case: int) -> tuple[str, str | None]:
        """Run a case; what was silent is asked a second time, because another job may have stopped the machine."""
        answer = self._ask(case)
        return self._ask(case) if answer[1] == HUNG else answer

    def _ask(self, case: int) -> tuple[str, str | None]:
        self._connection.send(case)
        try:
            # The first case imports torch, which may take long on a machine that has not read it before.
            if self._connection.poll(SILENCE * (10 if self._first else 1)):
                self._first = False
                return self._connection.recv()
            what = HUNG
        except EOFError:
            self._process.join()
            what = f"the process died ({self._process.exitcode})"
        self.stop()
        self._start()
        return "unknown", what

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()


def fuzz(options: FuzzOptions) -> tuple[Counter[str], list[Find]]:
    """Run cases for some minutes; returns their number by target, and the finds."""
    folder = options.out.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    make_sound_files(folder / "sound")
    (folder / "finds").mkdir()
    counts, finds, reader = Counter[str](), list[Find](), _Reader(folder, options.seed)
    end = time.monotonic() + 60 * options.minutes
    for case in range(options.cases or sys.maxsize) if options.case is None else (options.case,):
        if time.monotonic() >= end:
            break
        target, what = reader(case)
        counts[target] += 1
        if what:
            finds.append(Find(case, target, what))
            kept = folder / "finds" / f"{case}"
            shutil.copytree(folder / "work", kept, dirs_exist_ok=True)
            (kept / "what.txt").write_text(f"{target}\n{what}\n")
            sys.stderr.write(f"case {case}, {target}: {what.strip().splitlines()[-1]}\n")
    reader.stop()
    return counts, finds


def main(argv: list[str] | None = None) -> int:
    """Fuzz and report."""
    from tools.cli import parse

    options = parse(FuzzOptions, argv, description=__doc__)
    counts, finds = fuzz(options)
    sys.stdout.write(f"{sum(counts.values())} cases: {json.dumps(counts)}; {len(finds)} finds\n")
    for find in finds:
        again = f"python -m benchmarks.fuzz --seed {options.seed} --case {find.case}"
        sys.stdout.write(f"{find.target}: {find.what.strip().splitlines()[-1]}\n  {again}\n")
    return 1 if finds else 0


if __name__ == "__main__":
    from tools.cli import run

    run(main)
