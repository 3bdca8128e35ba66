"""Readers of image files for training and tracing: one for 2D and one for 3D, with pixels in [0, 1]."""

from __future__ import annotations

from pathlib import Path

from lib.klib.image_io import Image, read_image
from lib.klib.volume_io import read_volume
from models.RPNet_2D import IN_CHANNELS


def read_image_2d(path: Path, *, white: float = 0.0) -> Image:
    """Read an image as RGB, 8-bit values divided by 255 (docs/paper.md §3).

    Parameters
    ----------
    path
        The image file.
    white
        Not used; it gives both readers the same signature.

    Returns
    -------
    Image
        Pixels ``(y, x, 3)``.

    Raises
    ------
    UserError
        See :func:`~lib.klib.image_io.read_image`.
    """
    return read_image(path, channels=IN_CHANNELS)


def read_image_3d(path: Path, *, white: float = 0.0) -> Image:
    """Read a volume as one channel on the square-root curve (docs/paper.md §3).

    Parameters
    ----------
    path
        The volume file.
    white
        Percentile of the values that becomes 1; with 0, the value that becomes 1 depends on the data type alone.

    Returns
    -------
    Image
        Pixels ``(z, y, x, 1)``, and the size of a voxel if the file gives it.

    Raises
    ------
    UserError
        See :func:`~lib.klib.volume_io.read_volume`.
    """
    volume = read_volume(path)
    return Image(volume.unit(white=white), volume.notes, volume.spacing, volume.has_unit)
