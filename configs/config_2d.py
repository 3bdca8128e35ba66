"""2D: the presets of the paper's datasets. A preset only changes defaults; any option may still be given."""

from __future__ import annotations

from typing import Any

PREPARE_PRESETS: dict[str, dict[str, Any]] = {
    "DRIVE": {"scale": 2.0, "swc_origin": "corner", "n_samples": 150_000},
    "CHASEDB1": {"scale": 1.5, "swc_origin": "corner", "n_samples": 30_000},
    "ROAD": {"scale": 1.0, "swc_origin": "centre", "n_samples": 150_000},
}
"""Scale, SWC origin and number of patches (docs/paper.md §3)."""
TRAIN_PRESETS: dict[str, dict[str, Any]] = {
    "DRIVE": {"hold_out": ["38", "39", "40"]},
    "CHASEDB1": {"epoch_size": 30_000},
    "ROAD": {"batch_size": 128, "r": 3.0},
}
"""Batch size, node radius and epoch (docs/paper.md §3 to §5); the images held out are ours."""
