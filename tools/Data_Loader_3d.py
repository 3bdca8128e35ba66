"""The patch stacks of a 3D dataset as training batches."""

from __future__ import annotations

from functools import partial

from models.RPNet_3D import IN_CHANNELS
from tools.data.prepared import open_stack_batches

build_stack_batches_3d = partial(open_stack_batches, channels=IN_CHANNELS)
"""See :func:`~tools.data.prepared.open_stack_batches`; patches are of ``(z, y, x)``."""
