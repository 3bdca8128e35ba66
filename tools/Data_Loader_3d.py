"""Training batches from the patch stacks of a prepared 3D dataset."""

from __future__ import annotations

from functools import partial

from models.RPNet_3D import IN_CHANNELS
from tools.data.prepared import open_stack_batches

build_stack_batches_3d = partial(open_stack_batches, channels=IN_CHANNELS)
"""See :func:`~tools.data.prepared.open_stack_batches`; patches are ``(z, y, x)``."""
