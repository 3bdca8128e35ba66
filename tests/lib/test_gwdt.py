"""Gray-weighted distances against hand-computed ones, another solver and Euclidean distances; radii of tubes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.graph import MCP_Geometric

from lib.gwdt import boundary_distance, gwdt, radius_at


def reference(image, threshold, spacing):
    """Distances by scikit-image: Dijkstra's algorithm from the whole background with the same cost of a step."""
    solver = MCP_Geometric(image.astype(float), fully_connected=True, sampling=spacing)
    return solver.find_costs(np.argwhere(image <= threshold))[0]


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((23, 31), (1, 1)),
        ((23, 31), (2.5, 0.7)),
        ((1, 40), (1, 1)),
        ((9, 17, 14), (1, 1, 1)),
        ((9, 17, 14), (3, 0.33, 0.4)),
        ((1, 12, 13), (5, 1, 1)),
    ],
)
def test_equals_the_reference(shape, spacing):
    rng = np.random.default_rng(1)
    for threshold, power in ((0.02, 1), (0.3, 4)):
        image = rng.random(shape) ** power
        image.flat[rng.integers(image.size)] = 0
        expected = reference(image, threshold, spacing)
        np.testing.assert_allclose(gwdt(image, threshold=threshold, spacing=spacing), expected, atol=1e-4, rtol=1e-5)


def test_winding_path_is_followed_to_its_end():
    """A winding corridor between bright walls needs one scan for every turn."""
    image = np.full((21, 21), 50.0)
    for row in range(1, 20, 2):
        image[row, 1:20] = 1
        image[row + 1, 19 if row % 4 == 1 else 1] = 1
    image[1, 1] = 0
    np.testing.assert_allclose(gwdt(image), reference(image, 0, (1, 1)), rtol=1e-5)


def test_hand_computed_distances():
    row = np.array([[0, 2, 4, 6.0]])
    np.testing.assert_allclose(gwdt(row), [[0, 1, 4, 9]])
    np.testing.assert_allclose(gwdt(row, spacing=(1, 3)), [[0, 3, 12, 27]])
    # The intensity of a background voxel counts in the step that leaves it.
    np.testing.assert_allclose(gwdt(row, threshold=2), [[0, 0, 3, 8]])
    corner = np.array([[0, 9], [9, 1.0]])
    np.testing.assert_allclose(gwdt(corner), [[0, 4.5], [4.5, np.sqrt(2) / 2]])
    cube = np.array([[[0, 9], [9, 9]], [[9, 9], [9, 1.0]]])
    assert gwdt(cube, spacing=(2, 1, 1))[1, 1, 1] == pytest.approx(np.sqrt(6) / 2)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((60, 60), (1, 1)), ((24, 24, 24), (1, 1, 1)), ((16, 40, 40), (2, 1, 1))]
)
def test_binary_mask_gives_a_chamfer_distance(shape, spacing):
    """It is at most half a step too short, and at most 8 % (3D: 13 %) too long."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1) * spacing
    middle = np.array(shape) * spacing / 2
    mask = np.linalg.norm(grid - middle, axis=-1) < 0.45 * min(np.array(shape) * spacing)
    exact = distance_transform_edt(mask, sampling=spacing)
    # The step out of the background has the mean of 0 and 1: half its length is missing.
    missing = 0.5 * np.linalg.norm(spacing)
    found = gwdt(mask, spacing=spacing)[mask]
    longest = {2: 1.083, 3: 1.13}[len(shape)] if min(spacing) == max(spacing) else 1.2
    assert (found >= exact[mask] - missing - 1e-4).all() and (found <= longest * exact[mask]).all()


def test_no_background_and_no_foreground():
    assert np.isinf(gwdt(np.ones((3, 4, 5)))).all()
    assert (gwdt(np.zeros((3, 4))) == 0).all()
    assert gwdt(np.zeros((0, 4))).shape == (0, 4)


def test_result_does_not_depend_on_layout_or_repetition():
    image = np.random.default_rng(0).integers(0, 60000, (6, 12, 14)).astype(np.uint16)
    kept = image.copy()
    once = gwdt(image, threshold=30000)
    assert once.dtype == np.float32 and once.flags.owndata and (image == kept).all()
    assert once.tobytes() == gwdt(image, threshold=30000).tobytes()
    assert once.tobytes() == gwdt(np.asfortranarray(image), threshold=30000).tobytes()
    with_border = np.pad(image, 1)[1:-1, 1:-1, 1:-1]
    assert once.tobytes() == gwdt(with_border, threshold=30000).tobytes()


@pytest.mark.parametrize(
    ("image", "spacing", "message"),
    [
        (np.ones(5), None, "2 or 3 axes"),
        (-np.ones((3, 3)), None, "0 or more"),
        (np.full((3, 3), np.nan), None, "not NaN"),
        (np.ones((3, 3)), (1, 1, 1), "2 positive numbers"),
        (np.ones((3, 3)), (1, 0), "2 positive numbers"),
    ],
)
def test_invalid_input(image, spacing, message):
    with pytest.raises(ValueError, match=message):
        gwdt(image, spacing=spacing)


# --- radius ---------------------------------------------------------------------------------------------------------


def tube(radius, shape, spacing=(1, 1, 1), blur=0.8, noise=0.0, base=100.0, tilt=(0.1, 0.3)):
    """A straight tube through the middle along x, its axis voxels, and positions on its axis."""
    z, y, x = (np.arange(n) * s for n, s in zip(shape, spacing, strict=True))
    direction = np.array([*tilt, 1.0]) / np.linalg.norm([*tilt, 1.0])
    middle = np.array([z[-1], y[-1], x[-1]]) / 2 + 0.2
    offset = np.stack(np.meshgrid(z, y, x, indexing="ij"), axis=-1) - middle
    away = np.linalg.norm(offset - (offset @ direction)[..., None] * direction, axis=-1)
    image = base + 1000 * gaussian_filter(np.clip(radius + 0.5 - away, 0, 1), blur / np.array(spacing))
    image = image + noise * np.random.default_rng(0).standard_normal(image.shape)
    along = np.arange(-100.0, 100, 0.25)[:, None]
    line = (middle + along * direction) / spacing
    line = line[((line > 0) & (line < np.array(shape) - 1)).all(axis=1)]
    axis = np.zeros(shape, bool)
    axis[tuple(np.rint(line).astype(int).T)] = True
    inner = line[np.abs(line - np.array(shape) / 2)[:, 2] < shape[2] / 4]
    return image, axis, inner


@pytest.mark.parametrize("radius", [1.5, 2, 3, 5])
@pytest.mark.parametrize("noise", [0, 80])
def test_radius_of_a_tube(radius, noise):
    image, axis, line = tube(radius, (28, 40, 48), noise=noise)
    found = radius_at(boundary_distance(image, axis), line)
    assert abs(np.median(found) - radius) < 0.35 and found.std() < 0.3


@pytest.mark.parametrize("radius", [2, 4])
def test_radius_with_thick_slices(radius):
    spacing = (1.5, 0.5, 0.5)
    image, axis, line = tube(radius * 0.5, (16, 60, 70), spacing, blur=0.4)
    found = radius_at(boundary_distance(image, axis, spacing=spacing), line, spacing=spacing) / 0.5
    assert abs(np.median(found) - radius) < 0.6


def test_radius_grows_with_the_tube_and_not_with_its_brightness():
    medians = []
    for radius in (1, 2, 3, 4):
        image, axis, line = tube(radius, (26, 30, 40))
        found = radius_at(boundary_distance(image, axis), line)
        np.testing.assert_allclose(found, radius_at(boundary_distance(7 * image + 500, axis), line), atol=1e-3)
        medians.append(np.median(found))
    assert (np.diff(medians) > 0.5).all()


def test_radius_in_2d():
    image, axis, line = tube(3, (25, 40, 50), tilt=(0, 0.3))
    middle = int(np.argmax(axis.sum(axis=(1, 2))))
    plane = boundary_distance(image[middle], axis[middle])
    assert plane.shape == image[middle].shape
    assert abs(np.median(radius_at(plane, line[:, 1:])) - 3) < 0.4


def test_tube_without_centerline_has_no_radius():
    image, axis, line = tube(2, (20, 30, 40))
    assert (boundary_distance(image, np.zeros_like(axis)) == 0).all()
    assert (radius_at(boundary_distance(image, np.zeros_like(axis)), line) == 0).all()
    with pytest.raises(ValueError, match="one shape"):
        boundary_distance(image, axis[1:])
    # A centerline on a dark background has no radius either.
    dark = np.zeros_like(axis)
    dark[1, 1, 1:-1] = True
    assert boundary_distance(np.zeros(axis.shape), dark).max() == 0
    assert radius_at(boundary_distance(image, axis), np.zeros((0, 3))).shape == (0,)
