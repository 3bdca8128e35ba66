"""3D: the presets of the datasets. A preset only changes defaults; any option may still be given."""

from __future__ import annotations

from typing import Any

PREPARE_PRESETS: dict[str, dict[str, Any]] = {
    "OP": {"spacing": (1.0, 0.33, 0.33), "step": 8.0, "margin": 3, "ignore_unlabelled": ["OP_2", "OP_7", "OP_8"]},
    "FMOST": {"margin": 1},
    "CCF": {"margin": 1},
}
"""Voxel size in µm, and volumes that show more than their golds. Blocks cut neurites at every side: a network that
has seen no walk near such an end stops 10 voxels before the border."""
TRAIN_PRESETS: dict[str, dict[str, Any]] = {
    "OP": {"hold_out": ["OP_8"]},
    "FMOST": {},
    "CCF": {},
}
"""The volume held out is our choice."""
