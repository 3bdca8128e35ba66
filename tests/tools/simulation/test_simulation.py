"""Simulated volumes: light of tubes, alignment of the gold, and effects."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial import cKDTree

from lib.klib.windows import box, tiles
from lib.swclib import SwcForest
from tools.simulation import EFFECTS, Effects, demo_volume, parallel_pair, simulate_block
from tools.simulation.trees import clip, longest_paths, randomly_turned, smoothed, with_neighbours, without_short_trees
from tools.simulation.tubes import draw_tubes
from tools.simulation.volumes import draw_scene, neurite_segments, render

CLEAN = Effects(**EFFECTS["clean"])
UNIT = (1.0, 1.0, 1.0)


def line(*points, radius=2.0):
    return SwcForest.from_positions(np.array(points, float), np.arange(-1, len(points) - 1), radius)


def rng(seed=0):
    return np.random.default_rng(seed)


# --- tubes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.2, 0.5, 1.0, 2.5, 6.0])
@pytest.mark.parametrize("aspect", [1.0, 3.0, 1.7])
def test_light_of_a_cross_section_is_its_area(radius, aspect):
    shape = (int(20 / aspect) + 1, 21, 12)
    z, y = 9.3, 10.4
    volume = draw_tubes(np.array([[[z, y, -9], [z, y, 30]]]), np.full((1, 2), radius), np.ones((1, 2)), shape, aspect)
    # The few voxels of a thin tube sample it coarsely.
    assert volume[:, :, 5].sum() * aspect == pytest.approx(np.pi * radius**2, rel=0.05 if radius > 0.5 else 0.25)


def test_surface_voxels_hold_the_share_inside_the_tube():
    start, end, radius, fine = np.array([4.2, 3.1, 2.0]), np.array([9.7, 12.3, 14.6]), 2.4, 8
    volume = draw_tubes(np.array([[start, end]]), np.full((1, 2), radius), np.ones((1, 2)), (14, 16, 18), 1.0)
    sub = (np.arange(-0.5, 0.5, 1 / fine) + 0.5 / fine)[:, None]
    centres = np.stack(np.meshgrid(np.arange(14), np.arange(16), np.arange(18), indexing="ij"), axis=-1)
    offsets = np.stack(np.meshgrid(sub, sub, sub, indexing="ij"), axis=-1).reshape(-1, 3)
    points = (centres[..., None, :] + offsets) - start
    along = (end - start) / np.linalg.norm(end - start)
    t = np.clip(points @ along, 0, np.linalg.norm(end - start))
    share = (np.linalg.norm(points - t[..., None] * along, axis=-1) < radius).mean(axis=-1)
    assert abs(volume - share).max() < 0.12 and abs(volume - share).mean() < 0.005


def test_light_moves_with_the_tube():
    for shift in (0.0, 0.25, 0.5):
        ends = np.array([[[8 + shift, 7 - shift, -9], [8 + shift, 7 - shift, 30]]])
        slab = draw_tubes(ends, np.full((1, 2), 2.0), np.ones((1, 2)), (17, 15, 9), 1.0)[:, :, 4]
        z, y = (np.indices(slab.shape) * slab).sum(axis=(1, 2)) / slab.sum()
        assert abs(z - 8 - shift) < 0.02 and abs(y - 7 + shift) < 0.02


def test_tubes_taper_and_the_brightest_wins():
    ends = np.array([[[5, 5, 0], [5, 5, 20.0]], [[5, 5, 0], [5, 5, 20.0]]])
    volume = draw_tubes(ends, np.array([[3, 1.0], [1, 1]]), np.array([[1, 0.5], [0.1, 0.1]]), (11, 11, 21), 1.0)
    np.testing.assert_allclose(volume[5, 5, ::10], [1, 0.75, 0.5], atol=1e-5)
    assert volume[5, 8, 0] > 0.4 and volume[5, 8, 20] == 0


# --- trees ----------------------------------------------------------------------------------------------------------


def test_clip_cuts_edges_exactly_on_the_border():
    forest = SwcForest.from_positions(
        [[0, 5, -10], [0, 5, 10], [0, 5, 30], [0, 9, 10]], [-1, 0, 1, 1], radius=[1.0, 3.0, 5.0, 1.0]
    )
    cut = clip(forest, (-1, 0, 0), (1, 7, 20))
    assert len(cut.roots) == 1 and cut.length == pytest.approx(10 + 10 + 2)
    found = {tuple(p): r for p, r in zip(cut.positions(3).tolist(), cut.radius.tolist(), strict=True)}
    assert found == {(0, 5, 0): 2, (0, 5, 10): 3, (0, 5, 20): 4, (0, 7, 10): 2}
    assert cut.positions(3)[cut.roots[0]].tolist() == [0, 5, 0]


def test_clip_keeps_the_pieces_inside_as_trees():
    zigzag = line([0, 5, 5], [0, 5, 25], [0, 15, 25], [0, 15, -9], [0, 30, -9])
    cut = clip(zigzag, (-1, 0, 0), (1, 20, 20))
    assert len(cut.roots) == 2 and cut.length == pytest.approx(15 + 20)
    # Straight edges: through the box, past it, and before it.
    for end, length in (([0, 10, 40], 20), ([0, 60, 40], 0), ([0, 10, -40], 0)):
        through = clip(line([0, 10, -30], end), (-1, 0, 0), (1, 20, 20))
        assert through.length == pytest.approx(length) and len(through.roots) == (length > 0)
    alone = SwcForest.from_positions([[0, 1, 1], [9, 9, 9]], [-1, -1])
    assert clip(alone, (0, 0, 0), (2, 2, 2)).positions(3).tolist() == [[0, 1, 1]]
    assert len(clip(SwcForest.empty(), (0, 0, 0), (1, 1, 1))) == 0


def test_clip_keeps_all_length_of_a_large_tree():
    points = np.cumsum(rng().normal(0, 2, (500, 3)), axis=0)
    forest = SwcForest.from_positions(points, np.arange(-1, 499))
    low, high = points.min(0), points.max(0)
    middle = (low + high) / 2
    halves = [clip(forest, low, (high[0], high[1], middle[2])), clip(forest, (low[0], low[1], middle[2]), high)]
    assert sum(half.length for half in halves) == pytest.approx(forest.length)


def test_short_trees_are_dropped():
    forest = SwcForest.from_positions([[0, 0, 0], [0, 0, 5], [9, 0, 0], [9, 0, 1], [9, 1, 1]], [-1, 0, -1, 2, 3])
    assert without_short_trees(forest, 3).positions(3).tolist() == [[0, 0, 0], [0, 0, 5]]
    assert len(without_short_trees(forest, 2)) == 5


def test_longest_paths_hold_every_edge_once():
    parents = [-1, 0, 1, 2, 2, 4, 5, -1, 7, 7, 8]
    forest = SwcForest.from_positions(rng().normal(0, 9, (11, 3)), parents)
    paths = longest_paths(forest)
    edges = sorted((int(a), int(b)) for path in paths for a, b in pairwise(path))
    assert edges == sorted(map(tuple, forest.edges.tolist()))
    assert any(path.tolist() == [0, 1, 2, 4, 5, 6] for path in paths)


def test_smoothing_keeps_roots_and_leaves_and_rounds_corners():
    corner = line([0, 0, 0], [0, 0, 40], [0, 40, 40])
    smooth = smoothed(corner, replace(CLEAN, smoothing=8.0), rng())
    points = smooth.positions(3)
    np.testing.assert_allclose(points[[0, -1]], [[0, 0, 0], [0, 40, 40]], atol=1e-6)
    assert 1 < np.linalg.norm(points - [0, 0, 40], axis=1).min() < 6
    steps = np.diff(points, axis=0)
    unit = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    turns = np.sum(unit[1:] * unit[:-1], axis=1)
    assert turns.min() > 0.8


def test_smoothing_keeps_branches_connected():
    forest = SwcForest.from_positions([[0, 0, 0], [0, 10, 20], [0, 0, 40], [9, 30, 20]], [-1, 0, 1, 1])
    smooth = smoothed(forest, replace(CLEAN, smoothing=10.0), rng())
    assert len(smooth.branch_points) == 1 and smooth.edge_lengths.max() < 2.5


def test_turning_preserves_lengths():
    forest = line([3, 4, 50], [6, 8, 70], [9, 1, 2])
    for seed in range(3):
        np.testing.assert_allclose(randomly_turned(forest, rng(seed)).edge_lengths, forest.edge_lengths)
    assert not np.allclose(randomly_turned(forest, rng(0)).xyz, randomly_turned(forest, rng(1)).xyz)


def test_neighbours_keep_a_distance_and_may_be_unlabelled():
    host = smoothed(line([20, 30, -20], [25, 40, 60], [20, 30, 140]), CLEAN, rng())
    size = np.array([47.0, 80, 120])
    beside = Effects(parallel_share=1.0, nearest=4.0, farthest=6.0)
    forest, labelled = with_neighbours(host, size, 3, beside, rng())
    assert len(forest.roots) == len(labelled) > 1 and labelled.all()
    for tree in range(1, len(forest.roots)):
        points = forest.positions(3)[forest.components == tree]
        others = forest.positions(3)[forest.components < tree]
        nearest = cKDTree(others).query(points)[0]
        assert np.mean(nearest < 2.5) < 0.05
    first = forest.positions(3)[forest.components == 1]
    assert 3 < np.median(cKDTree(host.positions(3)).query(first)[0]) < 12
    _, labelled = with_neighbours(host, size, 3, replace(beside, unlabelled=1.0), rng())
    assert labelled.tolist() == [True] + [False] * (len(labelled) - 1)


# --- volumes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [UNIT, (1.2, 0.4, 0.4)])
def test_gold_lies_in_the_middle_of_the_light(spacing):
    aspect = spacing[0] / spacing[2]
    corner = np.array([30.0, 7.5, -11.25])
    forest = line([12, 10, -20], [20, 24, 35], [24, 26, 100], radius=2.0)
    forest = replace(forest, xyz=forest.xyz + corner[::-1])
    shape = (int(40 / aspect), 40, 72)
    made = simulate_block(forest, corner, shape, spacing, CLEAN, rng())
    assert made.volume.shape == shape and made.spacing == spacing
    inner = made.gold.positions(3)
    margin = 8 / np.array([aspect, 1, 1])
    inner = inner[((inner > margin) & (inner < np.array(shape) - 1 - margin)).all(axis=1)]
    assert len(inner) > 10
    for point in inner:
        # The neurite runs roughly along x, so its light in a (z, y) plane is centred on it.
        x = round(point[2])
        z, y = (np.indices(shape[:2]) * made.volume[:, :, x]).sum(axis=(1, 2)) / made.volume[:, :, x].sum()
        on_plane = inner[np.abs(inner[:, 2] - x) < 3]
        expected = [np.interp(x, on_plane[:, 2], on_plane[:, axis]) for axis in (0, 1)]
        assert abs(z - expected[0]) * aspect < 0.2 and abs(y - expected[1]) < 0.2


def test_gold_ends_on_the_border():
    made = simulate_block(line([8, 9, -30], [8, 9, 60]), (0, 0, 0), (16, 20, 32), UNIT, CLEAN, rng())
    ends = made.gold.positions(3)
    assert ends[:, 2].min() == pytest.approx(0) and ends[:, 2].max() == pytest.approx(31)
    np.testing.assert_allclose(made.gold.radius, 2.0, atol=1e-6)
    # Neurites beyond the border contribute light: the first plane is as bright as inner ones.
    assert made.volume[:, :, 0].sum() == pytest.approx(made.volume[:, :, 15].sum(), rel=0.02)


CHANGES = {
    "radius_scale": 1.5,
    "least_radius": 3.0,
    "smoothing": 12.0,
    "wobble": 2.0,
    "brightness_spread": 1.0,
    "brightness_drift": 1.0,
    "bead_spacing": 10.0,
    "gap_spacing": 20.0,
    "neighbours": 200.0,
    "signal": 5000.0,
    "background": 100.0,
    "offset": 7.0,
    "texture": 0.3,
    "blob_density": 900.0,
    "speck_density": 900.0,
    "psf": 1.5,
    "psf_axial": 2.0,
    "haze": 0.3,
    "depth_loss": 0.5,
    "shading": 0.5,
    "slice_flicker": 0.2,
    "misregistration": 1.0,
    "gain": 20.0,
    "read_noise": 10.0,
    "noise_blur": 1.0,
    "bits": 8,
}
"""Values of effects that change a volume by themselves."""
DEPENDENT_CHANGES = {
    "bead_size": (2.0, {"bead_spacing": 8.0}),
    "gap_length": (20.0, {"gap_spacing": 15.0}),
    "gap_depth": (0.1, {"gap_spacing": 15.0}),
    "parallel_share": (0.0, {"neighbours": 200.0}),
    "nearest": (9.0, {"neighbours": 200.0, "farthest": 9.0, "parallel_share": 1.0}),
    "farthest": (20.0, {"neighbours": 200.0, "parallel_share": 1.0}),
    "unlabelled": (1.0, {"neighbours": 200.0}),
    "texture_size": (5.0, {"texture": 0.2}),
    "blob_radius": (5.0, {"blob_density": 900.0}),
    "blob_brightness": (2.0, {"blob_density": 900.0}),
    "haze_size": (3.0, {"haze": 0.5}),
}
"""Value of an effect, and other effects without which it changes nothing."""


def zigzag():
    return line([8, 8, -40], [14, 16, 10], [8, 22, 40], [10, 10, 90], radius=1.5)


@pytest.mark.parametrize("name", [field.name for field in fields(Effects)])
def test_every_effect_changes_the_volume_reproducibly(name):
    value, others = DEPENDENT_CHANGES[name] if name in DEPENDENT_CHANGES else (CHANGES[name], {})
    plain = replace(CLEAN, background=50.0, **others)
    before = simulate_block(zigzag(), (0, 0, 0), (18, 32, 48), UNIT, plain, rng())
    after = simulate_block(zigzag(), (0, 0, 0), (18, 32, 48), UNIT, replace(plain, **{name: value}), rng())
    again = simulate_block(zigzag(), (0, 0, 0), (18, 32, 48), UNIT, replace(plain, **{name: value}), rng())
    assert (after.volume == again.volume).all() and (after.gold.xyz == again.gold.xyz).all()
    if name == "unlabelled":
        assert (before.volume == after.volume).all() and len(after.gold.roots) < len(before.gold.roots)
    else:
        assert (before.volume != after.volume).any()


def empty(shape=(20, 60, 60), **effects):
    settings = replace(CLEAN, background=400.0, **effects)
    return render(SwcForest.empty(), shape, 1.0, settings, rng()).astype(float)


def test_noise_has_the_given_strength():
    assert empty().std() == 0 and empty().mean() == 400
    assert empty(read_noise=12.0).std() == pytest.approx(12, rel=0.03)
    poisson = empty(gain=16.0)
    assert poisson.mean() == pytest.approx(400, rel=0.01)
    assert poisson.std() == pytest.approx(np.sqrt(400 * 16), rel=0.03)
    assert empty(texture=0.1, texture_size=6.0).std() == pytest.approx(40, rel=0.4)
    assert empty(offset=-390.0).mean() == 10 and empty(offset=-500.0).max() == 0


def test_light_fades_with_depth_and_saturates():
    slices = empty(depth_loss=0.4).mean(axis=(1, 2))
    assert slices[-1] == pytest.approx(0.6 * slices[0], rel=0.01) and (np.diff(slices) < 0).all()
    bright = render(zigzag(), (18, 32, 48), 1.0, replace(CLEAN, signal=1e6), rng())
    assert bright.dtype == np.uint16 and bright.max() == 65535
    assert render(zigzag(), (18, 32, 48), 1.0, replace(CLEAN, bits=8), rng()).dtype == np.uint8


def test_slices_are_displaced_around_the_gold():
    """The mean position of the slices stays."""
    straight = line([-20, 15.0, 20.0], [60, 15, 20], radius=3.0)
    volume = render(smoothed(straight, CLEAN, rng()), (40, 31, 41), 1.0, replace(CLEAN, misregistration=1.0), rng())
    y = (np.arange(31) @ volume.sum(axis=2).T.astype(float)) / volume.sum(axis=(1, 2))
    assert 0.5 < y.std() < 1.5 and y.mean() == pytest.approx(15, abs=0.05)


def test_thick_trunks_have_no_beads_or_gaps():
    effects = replace(CLEAN, bead_spacing=5.0, gap_spacing=5.0)
    for radius, changes in ((1.5, True), (12.0, False)):
        fine = smoothed(line([0, 0, 0], [0, 0, 200], radius=radius), CLEAN, rng())
        _, radii, light = neurite_segments(fine, effects, rng())
        assert bool(np.ptp(radii) > 0.3 and np.ptp(light) > 0.3) is changes


# --- windows --------------------------------------------------------------------------------------------------------

ALL_BUT_NOISE = Effects(
    signal=20_000.0,
    gain=0.0,
    read_noise=0.0,
    blob_density=150.0,
    speck_density=100.0,
    texture_size=8.0,
    haze=0.5,
    haze_size=2.0,
    shading=0.5,
    slice_flicker=0.1,
    misregistration=0.5,
    noise_blur=0.5,
)


@pytest.mark.parametrize("aspect", [1.0, 2.7])
@pytest.mark.parametrize("effects", [ALL_BUT_NOISE, replace(ALL_BUT_NOISE, haze=0.0, misregistration=0.0, psf=0.5)])
def test_a_window_is_that_of_the_whole(aspect, effects):
    corners = rng().uniform(-10, 70, (12, 3)) * (1, 1, 1.2)
    scene = draw_scene(smoothed(line(*corners), effects, rng()), (22, 61, 75), aspect, effects, rng())
    whole = scene.whole().astype(int)
    assert whole.max() > 10_000
    for low, high in tiles(scene.shape, 17, 1):
        window = scene.window(low, high)
        assert window.dtype == np.uint16 and abs(window - whole[box(low, high)]).max() <= 2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_haze_spreads_evenly_on_both_sides(axis):
    effects = replace(CLEAN, haze=1.0, haze_size=5.0)
    middle = np.array([20.0, 23.0, 26.0])
    along = np.roll([0, 0, 90], (axis + 1) % 3)
    volume = render(line(middle - along, middle + along), (41, 47, 53), 1.0, effects, rng()).astype(float)
    light = volume.sum(axis=(axis + 1) % 3)
    for places, expected in zip(np.indices(light.shape), np.delete(middle, (axis + 1) % 3), strict=True):
        assert (places * light).sum() / light.sum() == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_windows_join_without_a_seam(axis):
    scene = draw_scene(SwcForest.empty(), (40, 48, 56), 1.0, Effects(depth_loss=0.0, slice_flicker=0.0), rng())
    cut = np.where(np.arange(3) == axis, np.array(scene.shape) // 2, 0)
    low, high = np.zeros(3, int), np.array(scene.shape)
    halves = scene.window(low, np.where(cut > 0, cut, high)), scene.window(cut, high)
    steps = np.diff(np.concatenate(halves, axis=axis).astype(float), axis=axis)
    seam, others = steps.take(cut[axis] - 1, axis), np.delete(steps, cut[axis] - 1, axis)
    assert abs(seam.mean()) < 4 * others.std() / np.sqrt(seam.size) + 5
    assert seam.std() == pytest.approx(others.std(), rel=0.1)
    # The noise of the two windows is not the same.
    assert (halves[0].take(0, axis) != halves[1].take(0, axis)).mean() > 0.9


def test_clouds_repeat_in_a_volume_of_many_cells():
    scene = draw_scene(SwcForest.empty(), (40, 100_000, 20), 1.0, replace(CLEAN, background=9.0, texture=0.5), rng())
    assert max(cloud.values.nbytes for cloud in scene.clouds) < 1 << 20
    window = scene.window(np.array([10, 70_000, 3]), np.array([20, 70_050, 13]))
    assert window.std() > 1 and abs(np.diff(window.astype(int), axis=1)).max() < 10


# --- pairs and grown neurons ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_pair_runs_side_by_side(seed):
    pair = parallel_pair(seed)
    assert pair.volume.shape == (24, 64, 160) and pair.volume.dtype == np.uint16 and len(pair.gold.roots) == 2
    points = [pair.gold.positions(3)[pair.gold.components == tree] for tree in (0, 1)]
    assert all(np.ptp(p[:, 2]) > 150 for p in points)
    fine = np.concatenate([np.linspace(a, b, 20) for a, b in zip(points[1][:-1], points[1][1:], strict=True)])
    middle = points[0][5:-5]
    distance = cKDTree(fine).query(middle)[0]
    assert distance.min() > 3.3 and distance.max() < 4.1
    bright = [np.mean(pair.volume[tuple(np.rint(p).astype(int).T)]) for p in points]
    assert min(bright) > np.median(pair.volume) + 3 * pair.volume[:, :4].std()


def test_pairs_depend_only_on_the_random_seed():
    one, same, other = parallel_pair(3), parallel_pair(3), parallel_pair([3, 1])
    assert (one.volume == same.volume).all() and (one.gold.xyz == same.gold.xyz).all()
    assert not (one.volume == other.volume).all()
    far = parallel_pair(3, separation=10.0, shape=(40, 64, 64)).gold
    a, b = (far.positions(3)[far.components == tree] for tree in (0, 1))
    assert np.median(cKDTree(a).query(b)[0]) > 8.5


def test_demo_volume_shows_its_gold():
    volume, gold, spacing = demo_volume(5)
    assert volume.shape == (48, 192, 192) and volume.dtype == np.uint16 and spacing == UNIT
    points = gold.positions(3)
    assert (points >= 0).all() and (points <= np.array(volume.shape) - 1).all()
    assert len(gold.roots) >= 2 and gold.length > 500 and len(gold.branch_points) > 3
    on = volume[tuple(np.rint(points).astype(int).T)].astype(float)
    background, noise = np.median(volume), np.diff(volume[:, :, :2].astype(float), axis=2).std() / np.sqrt(2)
    assert np.mean(on > background + 3 * noise) > 0.8
    again, _, _ = demo_volume(5)
    assert (again == volume).all() and not (demo_volume(6)[0] == volume).all()
