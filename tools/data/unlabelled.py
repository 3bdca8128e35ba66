"""What a volume shows beyond its gold tree: golds of single neurons leave out those beside them."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter, uniform_filter
from skimage.morphology import remove_small_objects

from tools.data.training_image import TrainingImage

FAR = 6.0
"""Distance from the gold, in voxels of the finest axis, up to which the gold is trusted to tell all."""
SMOOTHED = 1.0
"""Standard deviation, in voxels, of the Gaussian that takes the noise off."""
AROUND = (5, 41, 41)
"""Box, z y x in voxels, whose mean is the brightness of the surroundings: a thin tube does not lift it much."""
RISE = 0.08
"""How far, of the full range on the square-root curve, a neurite stands out of its surroundings."""
SPECK = 100
"""Voxels: connected pieces that are smaller are specks, which the network shall learn to leave alone."""
GROWN = 2
"""Voxels by which what was found is grown, to take in its rim."""


def unlabelled(training_image: TrainingImage) -> np.ndarray:
    """Voxels that stand out of their surroundings as a neurite does, and lie far from the gold: ``(*S,)`` bool.

    A voxel stands out if, smoothed, it is brighter by :data:`RISE` than the mean of the box around it, and belongs to
    at least :data:`SPECK` touching ones. What stands out is grown by :data:`GROWN` voxels in every direction; of it,
    all that is farther than :data:`FAR` from the gold's centerline is returned.
    """
    light = training_image.pixels.mean(axis=-1, dtype=np.float32) / 255
    smooth = gaussian_filter(light, SMOOTHED)
    stands_out = smooth - uniform_filter(light, AROUND[-light.ndim :]) > RISE
    grown = binary_dilation(remove_small_objects(stands_out, SPECK), iterations=GROWN)
    spacing = training_image.walks.spacing
    return grown & (distance_transform_edt(~training_image.centerline, sampling=spacing) > FAR)
