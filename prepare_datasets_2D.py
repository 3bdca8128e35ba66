"""Make 2D training data from images and gold SWCs (or label masks).

    python prepare_datasets_2D.py --dataset DRIVE --data_root ../shared/data --out data/DRIVE
    python prepare_datasets_2D.py --data_root my_images --scale 1.5 --out data/mine --preview

Each image becomes a folder in <out>/training_datasets: the image and its tree in work pixels (what online sampling
draws from) and, unless --n_samples is 0, stacks of patches with their labels. Options may also stand in a YAML file
(--config); those on the command line weigh more.
"""

from __future__ import annotations

import sys
import time

from configs.config_2d import PREPARE_PRESETS
from configs.options import PrepareOptions
from tools.cli import parse, run
from tools.dataset_2d import PREPARE_2D
from tools.preparing import PREVIEW_FILE, PreparedDataset, prepare


def main(argv: list[str] | None = None) -> None:
    """Parse, prepare, and say in a few lines what was made."""
    options = parse(PrepareOptions, argv, description=__doc__, presets=PREPARE_PRESETS)
    started = time.perf_counter()
    prepared = prepare(options, PREPARE_2D, known=PREPARE_PRESETS, progress=sys.stderr.isatty())
    print(summary(prepared, options, time.perf_counter() - started))


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


if __name__ == "__main__":
    run(main)
