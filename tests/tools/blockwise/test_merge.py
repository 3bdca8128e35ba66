"""Cells cut, compared and merged: small cases whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from lib.swclib.forest import SOMA_TYPE, adjacency
from tests.tools.blockwise.forests import KnownTrees
from tools.blockwise.cells import OVERLAP, CellTrace
from tools.blockwise.grid import Grid, parsed_region
from tools.blockwise.merge import cleaned, merge, shortest_joins
from tools.blockwise.seams import find_seam

ONE = np.ones(2)
GRID = Grid((100, 100), 50, 16, (16, 16))


def chain(*places, cut: str = "") -> CellTrace:
    """A line through places ``(y, x)``; ``cut`` holds b or e where its beginning or end was cut."""
    positions = np.array(places, float)
    count = len(positions)
    is_cut = np.zeros(count, bool)
    is_cut[0], is_cut[-1] = "b" in cut, "e" in cut
    edges = np.stack([np.arange(count - 1), np.arange(1, count)], axis=1)
    ones = np.ones(count)
    return CellTrace(
        positions, ones, ones.astype(int), ones, ones, is_cut, np.zeros(count, bool), edges, np.zeros((0, 2), int)
    )


def line(y0, x0, y1, x1, cut="") -> CellTrace:
    """A straight line with a node every 2 units."""
    count = max(int(np.hypot(y1 - y0, x1 - x0) / 2), 1) + 1
    return chain(*np.linspace((y0, x0), (y1, x1), count), cut=cut)


def both(one: CellTrace, other: CellTrace) -> CellTrace:
    """Two traces as one."""
    values = {
        name: np.concatenate([getattr(one, name), getattr(other, name)])
        for name in ("positions", "radius", "types", "probability", "ahead", "is_cut", "is_doubtful")
    }
    return CellTrace(**values, edges=np.concatenate([one.edges, other.edges + len(one)]), loops=one.loops)


def joined(**traces: CellTrace):
    """Merge traces of the cells ``c00``, ``c01``, ``c10`` and ``c11``."""
    cells = {tuple(map(int, name[1:])): trace for name, trace in traces.items()}
    numbers = {cell: GRID.number(cell) for cell in cells}
    by_number = {numbers[cell]: trace for cell, trace in cells.items()}
    seams = [
        find_seam(numbers[cell], trace, GRID.box(cell), {n: t for n, t in by_number.items() if n != numbers[cell]}, ONE)
        for cell, trace in cells.items()
    ]
    return merge(list(numbers.values()), list(cells.values()), seams, ONE)


# ---- grid ----------------------------------------------------------------------------------------------------------


def test_cells_cover_the_image_once_and_windows_stay_inside():
    grid, seen = Grid((100, 130), 64, 32, (48, 48)), np.zeros((100, 130), int)
    for cell in grid:
        low, high = grid.box(cell)
        seen[low[0] : high[0], low[1] : high[1]] += 1
        first, last = grid.window(cell)
        assert (first >= 0).all() and (last <= grid.shape).all() and (last - first >= 48).all()
        assert (first <= low).all() and (last >= high).all()
    assert (seen == 1).all() and len(grid) == 6 == len(list(grid))
    assert grid.neighbours((0, 0)) == [(0, 1), (1, 0), (1, 1)]
    assert grid.overlapping(np.array([60, 60]), np.array([64, 65])) == [(0, 0), (0, 1)]


@pytest.mark.parametrize(
    ("shape", "side", "reduction"),
    [((100, 100), 2048, 1), ((20_000, 20_000), 2048, 16), ((20_000,) * 3, 256, 64), ((10**7, 10), 2048, 2048)],
)
def test_the_small_picture_has_a_whole_number_of_pixels_for_each_cell(shape, side, reduction):
    assert Grid(shape, side, 64, (64,) * len(shape)).reduction == reduction


@pytest.mark.parametrize("text", ["1:2", "5:4,0:9", "0:9,0:10,0:3", "a:b,0:9", "0:9,0:11"])
def test_wrong_regions_are_refused(text):
    from lib.errors import UserError

    with pytest.raises(UserError, match="--region"):
        parsed_region(text, (10, 10))
    assert [corner.tolist() for corner in parsed_region(":5,2:", (10, 10))] == [[0, 2], [5, 10]]


# ---- cut -----------------------------------------------------------------------------------------------------------


def test_a_cut_puts_a_node_on_the_face():
    cut = line(10, 0, 10, 40).cut_to(np.array([0.0, 4.5]), np.array([20.0, 17.5]))
    assert sorted(cut.positions[cut.is_cut, 1].tolist()) == pytest.approx([4.5, 17.5])
    assert cut.positions[:, 1].min() == 4.5 and cut.positions[:, 1].max() == 17.5
    assert len(cut.edges) == len(cut) - 1 and not cut.is_cut[1:-2].any()


def test_a_cell_trace_survives_its_file(tmp_path):
    trace = line(0, 0, 9, 9, cut="e")
    trace.save(tmp_path / "a.npz")
    again = CellTrace.load(tmp_path / "a.npz")
    assert all(np.array_equal(getattr(trace, name), getattr(again, name)) for name in ("positions", "edges", "is_cut"))
    assert again.step == trace.step and not list(tmp_path.glob(".*"))


# ---- joins ---------------------------------------------------------------------------------------------------------


def test_a_tube_through_a_face_becomes_one_line():
    over = 50 + OVERLAP
    merged = joined(c00=line(20, 10, 20, over - 0.5, cut="e"), c01=line(20.4, 49.5 - OVERLAP, 20.4, 90, cut="b"))
    forest = merged.forest
    assert len(forest.roots) == 1 and (forest.degree <= 2).all()
    assert forest.length == pytest.approx(80, abs=0.6)


def test_a_tube_along_a_face_is_neither_lost_nor_doubled():
    """Each cell takes it to be in the other."""
    forest = joined(c00=line(10, 49.9, 40, 49.9), c01=line(10, 49.2, 40, 49.2)).forest
    assert len(forest.roots) == 1 and forest.length == pytest.approx(30, abs=0.5)
    alone = joined(c00=CellTrace.empty(2), c01=line(10, 49.2, 40, 49.2)).forest
    assert alone.length == pytest.approx(30)


def test_two_tubes_four_apart_stay_two():
    first = both(line(20, 10, 20, 52.5, cut="e"), line(24, 10, 24, 52.5, cut="e"))
    second = both(line(20.3, 46.5, 20.3, 90, cut="b"), line(23.8, 46.5, 23.8, 90, cut="b"))
    forest = joined(c00=first, c01=second).forest
    assert len(forest.roots) == 2 and (forest.degree <= 2).all() and forest.length == pytest.approx(160, abs=1)
    missing = joined(c00=line(20, 10, 20, 52.5, cut="e"), c01=second).forest
    assert len(missing.roots) == 2


def test_tubes_that_cross_at_a_face_are_not_joined():
    first = both(line(20, 10, 20, 52.5, cut="e"), line(5, 50, 45, 50))
    forest = joined(c00=first, c01=line(20.2, 46.5, 20.2, 90, cut="b")).forest
    assert len(forest.roots) == 2 and (forest.degree <= 2).all()


def test_a_tube_through_a_corner_is_one_line():
    def piece(first: float, last: float) -> CellTrace:
        return line(first, first + 1.5, last, last + 1.5, cut="be")

    forest = joined(c00=piece(10, 51.5), c01=piece(46.5, 52.5), c10=CellTrace.empty(2), c11=piece(46.6, 90)).forest
    assert len(forest.roots) == 1 and (forest.degree <= 2).all()
    assert forest.length == pytest.approx(80 * 2**0.5, abs=1.5)


def test_a_ring_stays_open_at_one_place_and_its_loop_is_kept():
    """Both cells left a gap of their own in it; only one of the two is needed."""
    angle = np.linspace(0, 2 * np.pi, 73)
    ring = np.stack([25 + 20 * np.sin(angle), 50 - 20 * np.cos(angle)], axis=1)
    left, right = chain(*ring[:19]), chain(*ring[54:-1])
    first = both(left, right)
    first = CellTrace(**{**vars(first), "loops": np.array([[0, len(first) - 1]])})
    merged = joined(c00=first, c01=chain(*ring[17:57]))
    assert len(merged.forest.roots) == 1 and len(merged.loops) == 1
    assert merged.forest.length == pytest.approx(40 * np.pi, abs=4)


def test_a_loop_through_a_face_is_cut_at_the_weaker_arm_of_its_fork():
    """A stem that forks in the first cell; both arms are one line in the second."""
    stem, arms = np.stack([np.full(13, 25.0), np.arange(6.0, 31, 2)], axis=1), {}
    for side in (-1, 1):
        arms[side] = np.stack([25 + side * np.linspace(2, 12, 12), np.linspace(31, 52.5, 12)], axis=1)
    first = chain(*stem, *arms[1], cut="e")
    fork, count = len(stem) - 1, len(first)
    first = both(first, chain(*arms[-1], cut="e"))
    first = replace(first, edges=np.concatenate([first.edges, [[fork, count]]]), probability=first.probability.copy())
    first.probability[count] = 0.6  # the first node of the arm on which y falls
    first.probability[count + 5] = 0.4  # weaker, but in the middle of a branch
    turn = np.linspace(np.pi / 2, -np.pi / 2, 30)
    bow = np.stack([25 + 12 * np.sin(turn), 54 + 20 * np.cos(turn)], axis=1)
    low, high = ((25 + side * 11.5, 47.0) for side in (-1, 1))
    merged = joined(c00=first, c01=chain(high, *bow, low, cut="be"))
    assert len(merged.forest.roots) == 1 and (merged.forest.degree <= 2).all()
    cut = np.sort(merged.forest.xyz[np.argsort(merged.forest.ids)][merged.loops[0] - 1][:, :2], axis=0)
    assert merged.loops.shape == (1, 2) and cut.tolist() == [[30.0, 23.0], [31.0, 25.0]]


def test_a_tree_taken_for_noise_everywhere_is_dropped_unless_it_is_long():
    def noisy(trace: CellTrace) -> CellTrace:
        return CellTrace(**{**vars(trace), "is_doubtful": np.ones(len(trace), bool), "step": 10.0})

    one, other = line(20, 10, 20, 52.5, cut="e"), line(20, 46.5, 20, 90, cut="b")
    assert len(cleaned(joined(c00=noisy(one), c01=noisy(other)), 10)) == 0
    assert len(cleaned(joined(c00=noisy(one), c01=other), 10)) > 30
    short = CellTrace(**{**vars(noisy(one)), "step": 0.5})
    assert len(cleaned(joined(c00=short, c01=noisy(other)), 10)) > 30


def test_a_spur_that_a_join_makes_is_cut_and_a_branch_stays():
    stub = both(line(20, 10, 20, 52.5, cut="e"), line(20.5, 50, 26, 52.4))
    merged = joined(c00=stub, c01=line(20.2, 46.5, 20.2, 90, cut="b"))
    assert (cleaned(merged, 10).degree <= 2).all()


def test_joins_are_those_of_kruskal():
    rng = np.random.default_rng(0)
    for _ in range(20):
        count = 30
        edges = np.array([(a, a + 1) for a in range(0, count - 1, 3)])
        joins = rng.integers(0, count, (60, 2))
        chosen = shortest_joins(edges, joins, count)
        tree, slow = {n: {n} for n in range(count)}, []
        for a, b in np.concatenate([edges, joins]).tolist():
            slow.append(tree[a] is not tree[b])
            if slow[-1]:
                tree[a] |= tree[b]
                for node in tree[a]:
                    tree[node] = tree[a]
        assert chosen.tolist() == slow[len(edges) :]
        graph = adjacency(np.concatenate([edges, joins[chosen]]), count)
        assert connected_components(graph, directed=False)[0] == len({id(each) for each in tree.values()})


# ---- the whole way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [None, (2.0, 1.0, 1.0)])
def test_a_volume_of_any_voxels_is_traced_in_cells_as_in_one_piece(tmp_path, spacing):
    ys = [[[20, 12, 30], [24, 60, 40], [26, 116, 44]], [[24, 60, 40], [22, 80, 100]], [[30, 20, 63.5], [30, 110, 64.0]]]
    known = KnownTrees(tmp_path, ys, (48, 128, 128), spacing=spacing, sure=0.5)
    whole, cells = known.in_one_piece(), known.in_cells(64, 32)
    assert len(cells.roots) == len(whole.roots)
    assert cells.length == pytest.approx(whole.length, rel=0.02)
    assert (cells.degree > 2).sum() == (whole.degree > 2).sum()


@pytest.mark.parametrize("centre", [(24, 66, 62), (24, 64, 64), (27, 68, 62), (22, 67, 63)])
def test_a_soma_in_four_cells_is_one_root(tmp_path, centre):
    shape, radius = (48, 128, 128), 11.0
    away = np.array([[0.1, 1, 0], [0, 0, 1], [-0.1, -1, 0.2], [0.1, 0.1, -1], [0, 0.7, 0.7]])
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    lines = [[centre + radius * each, centre + 50 * each] for each in away]
    distance = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - centre, axis=-1)
    pixels = np.where(distance < radius, 180, 20).astype(np.uint8)
    for start, end in lines:
        z, y, x = np.rint(np.linspace(start, end, 80)).astype(int).T
        pixels[z, y, x] = pixels[z, y + 1, x] = pixels[z + 1, y, x] = 250
    known = KnownTrees(tmp_path, np.round(lines, 3).tolist(), shape, pixels=pixels, soma=7.0)
    whole, cells = known.in_one_piece(), known.in_cells(64, 32)
    for forest in (whole, cells):
        assert forest.types[forest.roots].tolist() == [SOMA_TYPE]
        assert forest.n_children[forest.roots].tolist() == [len(lines)]
        np.testing.assert_allclose(forest.positions(3)[forest.roots[0]], centre, atol=0.7)
        assert (forest.types == SOMA_TYPE).sum() == 1
    assert cells.length == pytest.approx(whole.length, rel=0.02)
    assert cells.radius[cells.types != SOMA_TYPE].max() == 1.0  # as given to nodes of tubes, not to what lies between


def test_a_neurite_between_two_cells_belongs_to_one(tmp_path):
    shape, centres, radius = (48, 256, 64), np.array([[24.0, 40.0, 32.0], [24.0, 216.0, 32.0]]), 10.0
    at = np.moveaxis(np.indices(shape), 0, -1)
    inside = np.any([np.linalg.norm(at - centre, axis=-1) < radius for centre in centres], axis=0)
    pixels = np.where(inside, 180, 20).astype(np.uint8)
    pixels[24, 50:206, 32] = pixels[24, 50:206, 33] = 250
    known = KnownTrees(tmp_path, [[[24, 50, 32], [24, 128, 32.5], [24, 206, 32]]], shape, pixels=pixels, soma=7.0)
    whole, cells = known.in_one_piece(), known.in_cells(64, 32)
    assert (whole.types == SOMA_TYPE).sum() == 1
    assert (cells.types == SOMA_TYPE).sum() == 2 and (cells.parent[cells.types == SOMA_TYPE] == -1).all()


def test_a_cut_beside_a_soma_makes_no_second_one():
    trace = replace(chain((10, 10), (10, 30)), types=np.array([SOMA_TYPE, 0]))
    assert trace.cut_to(np.zeros(2), np.array([20.0, 18.0])).types.tolist() == [SOMA_TYPE, 0]
