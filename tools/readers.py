"""One reader per dimension, for training and for tracing alike: image files to pixels in [0, 1]."""

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
        Not used: photographs have no white point of their own.

    Returns
    -------
    Image
        Pixels ``(y, x, 3)``.

    Raises
    ------
    UserError
        As :func:`~lib.klib.image_io.read_image`.
    """
    return read_image(path, channels=IN_CHANNELS)


def read_image_3d(path: Path, *, white: float = 0.0) -> Image:
    """Read a volume as one channel on the square-root curve (docs/paper.md §3).

    Parameters
    ----------
    path
        The volume.
    white
        Percentile of its values that becomes 1; 0: a value that depends on the type alone.

    Returns
    -------
    Image
        Pixels ``(z, y, x, 1)``, and the size of a voxel where the file says it.

    Raises
    ------
    UserError
        As :func:`~lib.klib.volume_io.read_volume`.
    """
    volume = read_volume(path)
    return Image(volume.unit(white=white), volume.notes, volume.spacing)
