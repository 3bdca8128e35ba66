"""The graph of a trace: joins, loops, trees and roots."""

from __future__ import annotations

import numpy as np
import pytest

from lib.swclib import Nearest, SwcForest
from tools.tracing.growth.graph import TraceGraph


def line(graph: TraceGraph, *positions) -> list[int]:
    """Add nodes connected in a row."""
    nodes = [graph.add_node(np.array(positions[0], float))]
    for position in positions[1:]:
        nodes.append(graph.grow(nodes[-1], np.array(position, float)))
    return nodes


def nearest(graph: TraceGraph, place, exclude=()) -> Nearest:
    """The edge nearest to a place."""
    near = graph.nearest(np.array(place, float), 9.0, exclude)
    assert near is not None
    return near


def join_at(graph: TraceGraph, node: int, place) -> bool:
    """Join a node to the edge nearest to a place, its own excluded."""
    return graph.join(node, nearest(graph, place, graph.edges_at(node)))


def neighbours(forest: SwcForest, place) -> list[list[float]]:
    """Sorted positions of the neighbours of the node at a place."""
    positions = forest.positions(2).round(3).tolist()
    row = positions.index(list(place))
    pairs = [pair for pair in forest.edges.tolist() if row in pair]
    return sorted(positions[a if b == row else b] for a, b in pairs)


def test_a_join_cuts_the_edge():
    graph = TraceGraph(2)
    line(graph, (0, 0), (0, 10))
    tip = line(graph, (9, 4), (3, 4))[-1]
    assert join_at(graph, tip, (3, 4))
    forest = graph.forest()
    assert len(forest.roots) == 1
    assert neighbours(forest, (0, 4)) == [[0, 0], [0, 10], [3, 4]]
    assert forest.length == pytest.approx(10 + 6 + 3)


def test_joins_on_one_edge_are_ordered_along_it():
    graph = TraceGraph(2)
    line(graph, (0, 0), (0, 30))
    for column in (20, 5, 25, 10):
        join_at(graph, line(graph, (9, column), (4, column))[-1], (4, column))
    forest = graph.forest()
    assert len(forest.roots) == 1 and forest.length == pytest.approx(30 + 4 * 9)
    assert neighbours(forest, (0, 10)) == [[0, 5], [0, 20], [4, 10]]
    assert neighbours(forest, (0, 25)) == [[0, 20], [0, 30], [4, 25]]


@pytest.mark.parametrize("column, expected", [(1.4, 0), (9.0, 10), (1.6, 1.6)])
def test_a_join_near_an_end_of_the_edge_takes_that_end(column, expected):
    graph = TraceGraph(2)
    line(graph, (0, 0), (0, 10))
    join_at(graph, graph.add_node(np.array([3, column])), (3, column))
    assert [3, column] in neighbours(graph.forest(), (0, expected))
    assert len(graph.positions) == (3 if expected != column else 4)


def test_a_join_near_an_earlier_one_takes_its_node():
    graph = TraceGraph(2)
    line(graph, (0, 0), (0, 20))
    for row, column in ((5, 10.0), (-5, 11.0)):
        join_at(graph, graph.add_node(np.array([row, column])), (row, column))
    forest = graph.forest()
    assert neighbours(forest, (0, 10)) == [[-5, 11], [0, 0], [0, 20], [5, 10]]
    assert len(forest) == 5


def test_a_join_inside_a_tree_is_a_loop_left_open_and_recorded_once():
    graph = TraceGraph(2)
    nodes = line(graph, (0, 0), (0, 10), (0, 20), (0, 30), (10, 30), (20, 30), (20, 20), (20, 10), (10, 10), (4, 10))
    assert not join_at(graph, nodes[-1], (2, 10))
    assert np.array(graph.loops).tolist() == [[[4, 10], [0, 10]]]
    # The same loop from its other side.
    assert not join_at(graph, nodes[1], (5, 10))
    assert len(graph.loops) == 1
    assert len(graph.edges) == 9 and len(graph.forest().roots) == 1


def test_a_join_beside_an_earlier_one_is_no_loop():
    graph = TraceGraph(2)
    left, right = line(graph, (0, 0), (0, 10)), line(graph, (0, 25), (0, 15))
    assert join_at(graph, right[-1], (0, 11))
    assert not join_at(graph, left[-1], (0, 18))
    assert graph.loops == []
    aside = line(graph, (12, 2), (2, 3))
    assert join_at(graph, aside[-1], (0, 3))
    assert not graph.join(left[0], nearest(graph, (4, 3)))
    assert graph.loops == []


def test_trees_are_known_after_many_joins():
    rng, graph = np.random.default_rng(0), TraceGraph(2)
    label = np.arange(200)
    for _ in label:
        graph.add_node(rng.uniform(0, 100, 2))
    for a, b in rng.integers(0, 200, (260, 2)).tolist():
        assert graph.connect(a, b) == (label[a] != label[b])
        label[label == label[a]] = label[b]
    trees = np.array([graph.tree_of(node) for node in range(200)])
    np.testing.assert_array_equal(trees[:, None] == trees, label[:, None] == label)
    forest = graph.forest()
    assert len(forest) == 200 and len(forest.roots) == len(set(label.tolist()))


def test_a_node_that_cuts_an_edge_belongs_to_its_tree():
    graph = TraceGraph(2)
    line(graph, (0, 0), (0, 20))
    join_at(graph, graph.add_node(np.array([3.0, 10])), (3, 10))
    other = graph.add_node(np.array([-4.0, 10]))
    assert join_at(graph, other, (-4, 10))
    assert len({graph.tree_of(node) for node in range(5)}) == 1


def test_roots_are_ends():
    graph = TraceGraph(2)
    middle = graph.add_node(np.array([0.0, 0]))
    for position in ((0, 9), (9, 0), (-9, 0)):
        graph.grow(middle, np.array(position, float))
    alone = graph.add_node(np.array([50.0, 50]))
    forest = graph.forest()
    assert (forest.degree[forest.roots] <= 1).all()
    assert forest.positions(2)[forest.roots].tolist() == [[0, 9], [50, 50]]
    assert alone == 4 and forest.degree.max() == 3


def test_an_empty_graph_gives_an_empty_forest():
    assert len(TraceGraph(3).forest()) == 0
    assert TraceGraph(3).segments().shape == (0, 2, 3)


def test_a_graph_made_from_a_forest_can_grow():
    forest = SwcForest.from_positions([[0, 0], [0, 10], [0, 20], [30, 0], [30, 10]], [-1, 0, 1, -1, 3])
    graph = TraceGraph.from_forest(forest, 2)
    assert graph.edges == [tuple(pair) for pair in forest.edges.tolist()]
    assert graph.tree_of(2) == graph.tree_of(0) != graph.tree_of(4)
    assert graph.connect(2, 4) and not graph.connect(0, 3)
    whole = graph.forest()
    assert len(whole.roots) == 1 and whole.length == pytest.approx(30 + np.hypot(30, 10))


def test_a_node_leads_to_its_neighbours_and_along_its_loops():
    graph = TraceGraph(2)
    nodes = line(graph, (0, 0), (0, 20), (20, 20), (20, 0), (4, 0))
    assert graph.leads_to(nodes[1]) == [(0, 0), (20, 20)]
    join_at(graph, nodes[-1], (0, 0))
    assert graph.leads_to(nodes[0]) == [(0, 20), (4, 0)]


def test_segments_start_at_the_given_edge():
    graph = TraceGraph(2)
    line(graph, (0, 0), (0, 10), (0, 20))
    assert graph.segments(1).tolist() == [[[0, 10], [0, 20]]]
