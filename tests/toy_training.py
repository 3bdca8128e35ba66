"""Arguments of a benchmark that trains: small images whose trees are known, and options that train for a few steps."""

from __future__ import annotations

from pathlib import Path

from benchmarks.dimensions import prepare_toy_dataset

_CONFIG = """
width: 2
batch_size: 8
states_per_tile: 4
tile_size: [80, 80]
validation_size: 4
epoch_size: 16
precision: fp32
layout: channels_first
hold_out: [b]
"""


def toy_training(folder: Path, **options: object) -> list[str]:
    """Prepare the images and write the options, these and others; returns --data, --config and --threads."""
    data, config = prepare_toy_dataset(folder / "toy", 2), folder / "config.yaml"
    config.write_text(_CONFIG + "".join(f"{name}: {value}\n" for name, value in options.items()))
    return [f"--data={data}", f"--config={config}", "--threads=1"]
