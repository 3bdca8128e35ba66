"""Forests: node order, derived values, paths and branches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lib.swclib import SwcForest
from lib.swclib.forest import find_cycle, topological_order

# 0 ── 1 ── 2 ── 3        a fork at 1 with a short branch to 4, and a second tree 5 ── 6
#      └── 4
FORK = SwcForest.from_positions(
    [[0, 0], [0, 10], [0, 20], [0, 30], [4, 10], [50, 0], [50, 5]], parent=[-1, 0, 1, 2, 1, -1, 5]
)


def random_forest(n: int, seed: int, n_roots: int = 3) -> SwcForest:
    rng = np.random.default_rng(seed)
    parent = np.array([-1 if i < n_roots else rng.integers(max(0, i - 4), i) for i in range(n)])
    return SwcForest.from_positions(rng.uniform(0, 100, (n, 3)), parent)


def as_lists(branches: list[np.ndarray]) -> list[list[int]]:
    return [branch.tolist() for branch in branches]


def test_derived_values():
    assert FORK.roots.tolist() == [0, 5]
    assert FORK.leaves.tolist() == [3, 4, 6]
    assert FORK.branch_points.tolist() == [1]
    assert FORK.n_children.tolist() == [1, 2, 1, 0, 0, 1, 0]
    assert FORK.degree.tolist() == [1, 3, 2, 1, 1, 1, 1]
    assert FORK.edges.tolist() == [[0, 1], [1, 2], [2, 3], [1, 4], [5, 6]]
    assert FORK.edge_lengths.tolist() == [10, 10, 10, 4, 5]
    assert FORK.length == 39
    assert FORK.components.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert FORK.depth.tolist() == [0, 1, 2, 3, 2, 0, 1]
    assert FORK.root_distance.tolist() == [0, 10, 20, 30, 14, 0, 5]


def test_positions_reverse_the_axes():
    forest = SwcForest.from_positions([[1, 2, 3]], parent=[-1])
    assert forest.xyz.tolist() == [[3, 2, 1]]
    assert forest.positions(3).tolist() == [[1, 2, 3]]
    assert forest.positions(2).tolist() == [[2, 3]]
    assert SwcForest.from_positions([[2, 3]], parent=[-1]).xyz.tolist() == [[3, 2, 0]]


def test_path_distance_and_common_ancestor():
    assert FORK.path_distance([3, 4, 0, 2, 3], [4, 3, 3, 2, 6]).tolist() == [24, 24, 30, 0, np.inf]
    assert FORK.path_distance(3, [0, 5]).tolist() == [30, np.inf]
    assert FORK.common_ancestor([3, 4, 2, 3], [4, 1, 3, 6]).tolist() == [1, 1, 2, -1]


def test_path_distance_equals_dijkstra():
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import dijkstra

    forest = random_forest(120, seed=1)
    graph = coo_matrix((forest.edge_lengths, forest.edges.T), shape=(len(forest),) * 2)
    a, b = np.meshgrid(np.arange(len(forest)), np.arange(len(forest)))
    np.testing.assert_allclose(forest.path_distance(a, b), dijkstra(graph, directed=False), rtol=1e-12)


def test_path_distance_in_a_deep_tree():
    n = 100_000
    line = SwcForest.from_positions(np.stack([np.zeros(n), np.arange(n)], axis=1), parent=np.arange(-1, n - 1))
    assert line.path_distance([0, n - 1, 10], [n - 1, 7, 20]).tolist() == [n - 1, n - 8, 10]


@pytest.mark.parametrize(("distance", "row"), [(0, 0), (9, 1), (10, 1), (10.5, 2), (99, 2)])
def test_row_along_a_branch(distance, row):
    forest = SwcForest.from_positions([[0, 0], [0, 10], [0, 20]], parent=[-1, 0, 1])
    branch = np.arange(3)
    assert forest.row_along(branch, distance) == row
    assert forest.row_along(branch[::-1], distance) == 2 - row


def test_branches():
    assert as_lists(FORK.branches()) == [[0, 1], [1, 2, 3], [1, 4], [5, 6]]
    assert as_lists(FORK.branches_from_ends()) == [[0, 1], [3, 2, 1], [4, 1], [5, 6], [6, 5]]


@pytest.mark.parametrize("seed", range(5))
def test_every_edge_is_in_one_branch(seed):
    forest = random_forest(200, seed)
    edges = [pair for branch in as_lists(forest.branches()) for pair in pairwise(branch)]
    assert sorted(edges) == sorted(map(tuple, forest.edges.tolist()))
    inner = np.concatenate([branch[1:-1] for branch in forest.branches()])
    assert (forest.n_children[inner] == 1).all()


def test_empty_forest_and_nodes_without_edges():
    empty = SwcForest.empty()
    assert len(empty) == 0 and empty.length == 0 and empty.branches() == []
    assert empty.components.tolist() == [] and empty.positions(2).shape == (0, 2)
    assert empty.path_distance([], []).tolist() == []
    single = SwcForest.from_positions([[1, 1], [2, 2]], parent=[-1, -1])
    assert single.branches() == [] and single.leaves.tolist() == [0, 1]


def test_sorted_moves_only_the_rows_it_must():
    assert topological_order([-1, 0, 1]).tolist() == [0, 1, 2]
    assert topological_order([3, -1, 1, 1]).tolist() == [1, 3, 0, 2]
    forest = SwcForest.from_positions([[0, 0], [0, 1], [0, 2], [0, 3]], parent=[3, -1, 1, 1])
    assert forest.parent.tolist() == [-1, 0, 1, 0]
    assert forest.file_order.tolist() == [1, 3, 0, 2]
    assert forest.positions(2)[:, 1].tolist() == [1, 3, 0, 2]


def test_a_forest_of_undirected_edges_has_leaves_as_roots():
    forest = SwcForest.from_edges([[0, 0], [0, 9], [9, 0], [50, 50]], [(0, 1), (2, 0)])
    assert sorted(forest.positions(2)[forest.roots].tolist()) == [[0, 9], [50, 50]]
    assert forest.length == 18 and (forest.degree[forest.roots] <= 1).all()
    assert SwcForest.from_edges(np.zeros((3, 2)), []).parent.tolist() == [-1, -1, -1]


def test_cycles_are_found():
    assert find_cycle(np.array([-1, 0, 3, 2])) == 2
    assert find_cycle(np.array([1, 2, 1])) == 1
    assert find_cycle(np.array([-1, 0, 0])) == -1
    with pytest.raises(ValueError, match="cycle"):
        topological_order([1, 2, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parent": [0, 1]}, "before its child"),
        ({"parent": [-2, 0]}, "before its child"),
        ({"parent": [-1]}, "shape"),
        ({"xyz": [[0, 0, np.nan], [0, 0, 0]]}, "finite"),
        ({"radius": [1, -1]}, "negative"),
    ],
)
def test_wrong_arrays_are_refused(change, message):
    good = {"ids": [1, 2], "types": [0, 0], "xyz": np.zeros((2, 3)), "radius": [1, 1], "parent": [-1, 0]}
    with pytest.raises(ValueError, match=message):
        SwcForest(**(good | change))


def test_the_arrays_are_read_only_but_not_those_passed_in():
    xyz = np.zeros((1, 3))
    forest = SwcForest(np.array([1]), np.array([0]), xyz, np.array([1.0]), np.array([-1]))
    with pytest.raises(ValueError):
        forest.xyz[0, 0] = 5
    xyz[0, 0] = 5.0
