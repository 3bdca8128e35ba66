"""Neurites that a gold tree lacks: the gold tree of a single neuron leaves out the neurons beside it."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter, uniform_filter
from skimage.morphology import remove_small_objects

from tools.data.training_image import TrainingImage

TRUSTED_DISTANCE = 6.0
"""Distance from the gold tree, in voxels of the finest axis, within which it is taken to be complete."""
SMOOTHING = 1.0
"""Standard deviation, in voxels, of the Gaussian that removes noise."""
SURROUNDINGS = (5, 41, 41)
"""Box, z y x in voxels, whose mean is the background; it is wide, so that a thin tube hardly raises the mean."""
CONTRAST = 0.08
"""Least brightness of a neurite above its surroundings, as a share of the full range on the square-root curve."""
SMALLEST = 100
"""Voxels in the smallest connected piece that counts as a neurite; the network must learn to leave out specks."""
MARGIN = 2
"""Voxels by which neurites are dilated, so that their rims are included."""


def unlabelled_neurites(training_image: TrainingImage) -> np.ndarray:
    """Find voxels that look like neurites and lie far from the gold tree.

    Smoothed voxels that are brighter by :data:`CONTRAST` than the mean of their surroundings are kept where at least
    :data:`SMALLEST` of them touch. They are dilated by :data:`MARGIN`. Of these, the voxels farther than
    :data:`TRUSTED_DISTANCE` from the centerline are returned.

    Returns
    -------
    ndarray
        ``(*S,)`` bool.
    """
    intensity = training_image.pixels.mean(axis=-1, dtype=np.float32) / 255
    box = SURROUNDINGS[-intensity.ndim :]
    # scipy has no stubs: pyright takes the type of a default for that of the parameter.
    background = uniform_filter(intensity, box)  # pyright: ignore[reportArgumentType]
    bright = gaussian_filter(intensity, SMOOTHING) - background > CONTRAST
    large = remove_small_objects(bright, max_size=SMALLEST - 1)
    neurites = np.asarray(binary_dilation(large, iterations=MARGIN), dtype=bool)
    distance = distance_transform_edt(~training_image.centerline, sampling=training_image.walks.spacing)
    return neurites & (np.asarray(distance) > TRUSTED_DISTANCE)
