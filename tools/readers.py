"""Readers of image files for training and tracing: one for 2D and one for 3D, with pixels in [0, 1]."""

from __future__ import annotations

from pathlib import Path

from lib.klib.decoded import ALL, ReadOptions
from lib.klib.image_io import Image, read_image
from lib.klib.volume_io import read_volume
from models.RPNet_2D import IN_CHANNELS


def read_image_2d(path: Path, how: ReadOptions = ALL) -> Image:
    """Read an image as RGB, 8-bit values divided by 255 (docs/paper.md §3).

    Parameters
    ----------
    path
        The image file.
    how
        Which channels to take, and how values become 0 to 1.

    Returns
    -------
    Image
        Pixels ``(y, x, 3)``.

    Raises
    ------
    UserError
        See :func:`~lib.klib.image_io.read_image`.
    """
    return read_image(path, channels=IN_CHANNELS, how=how)


def read_image_3d(path: Path, how: ReadOptions = ALL) -> Image:
    """Read a volume as one channel on the square-root curve (docs/paper.md §3).

    Parameters
    ----------
    path
        The volume file, or a folder of slices.
    how
        Which channel and time point to take, and how values become 0 to 1.

    Returns
    -------
    Image
        Pixels ``(z, y, x, 1)``, and the size of a voxel if the file gives it.

    Raises
    ------
    UserError
        See :func:`~lib.klib.volume_io.read_volume`.
    """
    volume = read_volume(path, how)
    return Image(volume.unit(how), (*volume.notes, *volume.top_note(how)), volume.spacing, volume.has_unit)
