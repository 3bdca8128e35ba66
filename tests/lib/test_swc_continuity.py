"""Whole paths, breaks and false merges, compared with hand-made cases and with a sampled free space."""

from __future__ import annotations

import numpy as np
import pytest

from lib.swclib import SwcForest, concatenate, reroot, subdivide
from lib.swclib.metrics import Continuity, continuity, score

EMPTY = SwcForest.empty()


def line(*points: tuple[float, ...]) -> SwcForest:
    """A path through (y, x) or (z, y, x) points."""
    return SwcForest.from_positions(points, np.arange(-1, len(points) - 1))


def along_x(start: float, end: float, y: float = 0.0) -> SwcForest:
    return line((y, start), (y, end))


def numbers(found: Continuity) -> list[float]:
    """Recovered gold paths, followed test paths, breaks, false merges."""
    return [found.paths.matched_gold, found.paths.matched_test, found.breaks.value, found.merges.value]


LINE = along_x(0, 100)
ARMS = line((0, 0), (0, 40), (10, 40), (10, 0))
"""Two arms with spacing 10, open at x = 0; `BRIDGED` is open at the other side."""
BRIDGED = line((0, 40), (0, 0), (10, 0), (10, 40))


@pytest.mark.parametrize(
    ("gold", "test", "wanted"),
    [
        (LINE, LINE, [1, 1, 0, 0]),
        (LINE, along_x(100, 0), [1, 1, 0, 0]),
        (LINE, concatenate([along_x(0, 45), along_x(55, 100)]), [0, 2, 1, 0]),
        (LINE, concatenate([along_x(0, 49), along_x(51, 100)]), [0, 2, 1, 0]),
        (LINE, line((0, 0), (0, 40), (20, 50), (0, 60), (0, 100)), [0, 0, 1, 1]),
        (LINE, along_x(0, 50), [0, 1, 0, 0]),
        (LINE, along_x(0, 100, y=3.99), [1, 1, 0, 0]),
        (LINE, along_x(0, 100, y=4.0), [0, 0, 0, 0]),
        (LINE, concatenate([LINE, line((-30, 50), (30, 50))]), [1, 1, 0, 0]),
        (concatenate([LINE, along_x(0, 100, 30)]), line((0, 0), (0, 100), (30, 100), (30, 0)), [2, 0, 0, 1]),
        (ARMS, BRIDGED, [0, 0, 1, 1]),
        (LINE, EMPTY, [0, 0, 0, 0]),
        (EMPTY, LINE, [0, 0, 0, 0]),
        (LINE, line((0, 3)), [0, 0, 0, 0]),
        (line((0, 0, 0), (60, 0, 0)), line((0, 0, 1), (60, 0, 1)), [1, 1, 0, 0]),
    ],
    ids=[
        "equal",
        "reversed",
        "gap",
        "gap below the reach",
        "detour",
        "half missing",
        "just within reach",
        "exactly at the reach",
        "crossing line is not a piece",
        "two gold trees joined",
        "opposite ends joined",
        "empty test",
        "empty gold",
        "one node",
        "along z",
    ],
)
def test_hand_made_cases(gold, test, wanted):
    assert numbers(continuity(gold, test)) == wanted


def test_totals_and_f1():
    fork = SwcForest.from_positions([[0, 0], [0, 50], [0, 100], [50, 50], [9, 9]], [-1, 0, 1, 1, -1])
    found = continuity(fork, LINE)
    assert (found.paths.matched_gold, found.paths.total_gold) == (1, 2)  # a single node has no path
    assert (found.paths.matched_test, found.paths.total_test) == (1, 1)
    assert found.paths.value == pytest.approx(2 / 3)


def test_a_break_is_placed_where_the_next_piece_begins():
    found = continuity(LINE, concatenate([along_x(0, 45), along_x(55, 100)]))
    assert found.breaks.places.tolist() == [[52, 0, 0]]  # the gold is cut at multiples of 4
    assert found.breaks.pieces == 2


def test_place_of_a_false_merge():
    gold = concatenate([LINE, along_x(0, 100, 32)])
    found = continuity(gold, line((0, 0), (0, 100), (32, 100), (32, 0)))
    assert found.merges.places.tolist() == [[100, 32, 0]]  # y = 28 is exactly 4 away


def test_closed_loops_make_neither_breaks_nor_merges():
    assert numbers(continuity(ARMS, BRIDGED, close_radius=10)) == [1, 1, 0, 0]
    assert numbers(continuity(ARMS, BRIDGED, close_radius=9.9)) == [0, 0, 1, 1]
    assert numbers(continuity(ARMS, BRIDGED, close_radius=10, close_length=100)) == [0, 0, 1, 1]


def test_a_gap_between_two_trees_of_the_test_is_not_closed():
    test = concatenate([along_x(0, 49), along_x(51, 100)])
    assert continuity(LINE, test, close_radius=6).breaks.value == 1


@pytest.mark.parametrize(("missing", "recovered"), [(7.9, 1), (8.1, 0)])
def test_ends_may_be_missed_by_the_reach(missing, recovered):
    # The last 4 of the path are ignored, and the test may be 4 from the rest.
    assert continuity(LINE, along_x(0, 100 - missing)).paths.matched_gold == recovered
    assert continuity(LINE, along_x(missing, 100)).paths.matched_gold == recovered


def random_walks(n: int, seed: int, step: float) -> SwcForest:
    rng = np.random.default_rng(seed)
    parent = np.array([-1, -1, *(i - 1 if rng.random() < 0.85 else rng.integers(0, i) for i in range(2, n))])
    positions = np.zeros((n, 2))
    positions[1] = 15.3
    for i in range(2, n):
        positions[i] = positions[parent[i]] + rng.normal(0, step, 2)
    return SwcForest.from_positions(positions, parent)


def disturbed(gold: SwcForest, seed: int) -> SwcForest:
    """The gold with some edges cut and all nodes moved."""
    rng = np.random.default_rng(seed)
    parent = np.where(rng.random(len(gold)) < 0.1, -1, gold.parent)
    return SwcForest.from_positions(gold.positions(2) + rng.normal(0, 1.2, (len(gold), 2)), parent)


@pytest.mark.parametrize("seed", range(6))
def test_roots_and_node_spacing_do_not_matter(seed):
    gold = random_walks(80, seed, 6.0)
    test = disturbed(gold, seed)
    found = continuity(gold, test)
    assert found.breaks.value > 0
    rerooted = continuity(gold, reroot(test, 40))
    assert numbers(rerooted)[::2] == numbers(found)[::2] and rerooted.merges.value == found.merges.value
    assert numbers(continuity(gold, subdivide(test, 0.7))) == numbers(found)


@pytest.mark.parametrize("seed", range(6))
def test_whole_paths_equal_those_of_a_sampled_free_space(seed):
    gold = random_walks(40, seed, 6.0)
    test = disturbed(gold, seed)
    found = continuity(gold, test).paths
    assert (found.matched_gold, found.matched_test) == (sampled_paths(gold, test, 4.0), sampled_paths(test, gold, 4.0))
    assert found.matched_test > 0


def sampled_paths(gold: SwcForest, test: SwcForest, reach: float) -> int:
    """Count recovered gold paths on a graph of pairs of places with spacing 0.3 along both trees."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    gold = subdivide(gold, reach)
    fine_gold, fine_test = subdivide(gold, 0.3), subdivide(test, 0.3)
    rows = np.flatnonzero((fine_gold.xyz[:, None] == gold.xyz).all(axis=2).any(axis=1))  # where the nodes of `gold` are
    near = np.linalg.norm(fine_gold.xyz[:, None] - fine_test.xyz, axis=2) < reach
    number = np.arange(near.size).reshape(near.shape)
    a, b = fine_gold.edges.T
    c, d = fine_test.edges.T
    links = [
        (number[a][near[a] & near[b]], number[b][near[a] & near[b]]),
        (number[:, c][near[:, c] & near[:, d]], number[:, d][near[:, c] & near[:, d]]),
    ]
    start, end = np.concatenate(links, axis=1)
    graph = coo_matrix((np.ones(len(start)), (start, end)), shape=(near.size, near.size))
    piece = connected_components(graph, directed=False)[1].reshape(near.shape)
    count = 0
    for leaf in gold.leaves[gold.root_distance[gold.leaves] > 0]:
        path = [leaf]
        while gold.parent[path[-1]] >= 0:
            path.append(gold.parent[path[-1]])
        length = gold.root_distance[leaf]
        tolerance = min(reach, length / 4)
        low = [row for row in path if length - gold.root_distance[row] <= tolerance][-1]
        high = next(row for row in path if gold.root_distance[row] <= tolerance)
        i, j = rows[low], rows[high]
        count += bool(set(piece[i][near[i]]) & set(piece[j][near[j]]))
    return count


def test_continuity_in_the_score():
    test = concatenate([along_x(0, 45), along_x(55, 100)])
    row = score(LINE, test).row()
    assert (row["breaks"], row["false_merges"], row["paths_F1"], row["paths_precision"]) == (1, 0, 0, 1)
    assert (row["paths_gold"], row["paths_test"]) == (1, 2)
    assert score(LINE, EMPTY).row()["false_merges"] is None
    assert score(ARMS, BRIDGED, protocol="closed", close_radius=10).row()["paths_F1"] == 1
    assert score(ARMS, BRIDGED, protocol="closed", close_radius=9).row()["breaks"] == 1
    assert score(ARMS, BRIDGED, close_radius=10).row()["breaks"] == 1  # only `closed` closes loops


def test_subdivide_keeps_nodes_and_edges_of_length_zero():
    forest = SwcForest.from_positions([[0, 0], [0, 5], [3, 5], [0, 5]], [-1, 0, 1, 1], radius=[1, 2, 3, 4])
    cut = subdivide(forest, 2.5)
    assert cut.positions(2).tolist() == [[0, 0], [0, 2.5], [0, 5], [1.5, 5], [3, 5], [0, 5]]
    assert cut.parent.tolist() == [-1, 0, 1, 2, 3, 2] and cut.radius.tolist() == [1, 2, 2, 3, 3, 4]
    assert len(subdivide(EMPTY, 1)) == 0


def test_ancestor_within_a_distance():
    assert subdivide(LINE, 10).ancestor_within([10, 10, 3], [25, 1e9, 0]).tolist() == [8, 0, 3]
