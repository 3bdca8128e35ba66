"""APLS and TOPO of graphs that can be computed by hand."""

from __future__ import annotations

import networkx
import numpy as np
import pytest

from lib.swclib import SwcForest
from lib.swclib.metrics.roads import Places, RoadGraph, apls, road_scores, topo


def line(*places: tuple[float, float]) -> RoadGraph:
    """A road through (x, y) places."""
    xyz = np.array([(x, y, 0.0) for x, y in places])
    return RoadGraph(xyz, np.stack([np.arange(len(xyz) - 1), np.arange(1, len(xyz))], axis=1))


def joined(*graphs: RoadGraph) -> RoadGraph:
    """Graphs that have no node in common."""
    first = np.cumsum([0, *(len(graph.xyz) for graph in graphs)])
    edges = [graph.edges + start for graph, start in zip(graphs, first, strict=False)]
    return RoadGraph(np.concatenate([graph.xyz for graph in graphs]), np.concatenate(edges))


ROAD = line((0, 0), (100, 0))
EMPTY = RoadGraph(np.zeros((0, 3)), np.zeros((0, 2), dtype=np.int64))
SQUARE = SwcForest.from_positions([[0.0, 0.0], [0.0, 100.0], [100.0, 100.0], [100.0, 0.0]], [-1, 0, 1, 2])
CLOSED = RoadGraph.of(SQUARE, np.array([[[0.0, 100.0, 0.0], [0.0, 0.0, 0.0]]]))


def test_a_place_on_an_edge_becomes_a_node():
    graph, nodes = ROAD.inserted(Places(np.array([0, 0, 0]), np.array([0.5, 0.25, 0.5])))
    assert graph.xyz[nodes, 0].tolist() == [50, 25, 50] and len(graph.edges) == 4
    assert graph.lengths.sum() == 100 and graph.distances(np.array([0]))[0, 1] == pytest.approx(100)


def test_points_go_to_the_nearest_place():
    found, places = ROAD.nearest(np.array([[30.0, 3.0, 0.0], [50.0, 9.0, 0.0], [-2.0, 0.0, 0.0]]), 4)
    assert found.tolist() == [0, 2] and places.fraction.tolist() == [0.3, 0.0]


def test_roads_are_cut_evenly_between_junctions():
    bent = line((0, 0), (30, 0), (30, 40), (30, 50))
    graph, nodes = bent.spaced(20)
    places = sorted(map(tuple, graph.xyz[nodes, :2].round(6).tolist()))
    assert places == [(0, 0), (20, 0), (30, 10), (30, 30), (30, 50)]


def test_a_ring_has_places_too():
    graph, nodes = CLOSED.spaced(50)
    assert len(nodes) == 8 and graph.lengths.sum() == pytest.approx(400)
    assert len({tuple(place) for place in graph.xyz[nodes].round(6).tolist()}) == 8


def test_shortest_ways_are_those_of_networkx():
    random = np.random.default_rng(0)
    xyz = np.column_stack([random.uniform(0, 99, (40, 2)), np.zeros(40)])
    edges = random.integers(0, 40, (70, 2))
    graph = RoadGraph(xyz, edges[edges[:, 0] != edges[:, 1]])
    known = networkx.Graph()
    for (a, b), length in zip(graph.edges.tolist(), graph.lengths.tolist(), strict=True):
        known.add_edge(a, b, weight=length)
    ways = dict(networkx.all_pairs_dijkstra_path_length(known))
    for a, found in enumerate(graph.distances(np.arange(40))):
        assert all(length == pytest.approx(ways.get(a, {a: 0.0}).get(b, np.inf)) for b, length in enumerate(found))


@pytest.mark.parametrize("graph", [ROAD, CLOSED, joined(ROAD, line((0, 50), (80, 90)))])
def test_a_graph_agrees_with_itself(graph):
    assert apls(graph, graph) == pytest.approx(1)
    agreement = topo(graph, graph)
    assert agreement.value == 1 and agreement.total_gold == agreement.total_test > 0


def test_apls_of_half_a_road():
    """Control points at 0, 50, 100: of three ways one is kept; and all of the shorter road's one way."""
    assert apls(ROAD, line((0, 0), (50, 0))) == pytest.approx(2 / (1 / (1 / 3) + 1 / 1))


def test_apls_of_a_detour():
    """0 and 100 are joined by a way of 120 instead of 100, which costs 0.2; 50 has no partner within 4."""
    detour = line((0, 0), (0, 10), (100, 10), (100, 0))
    one = 1 - (0.2 + 1 + 1) / 3
    # Back: control points at 0, 40, 80, 120 along the detour; only the first and the last have partners, 100 apart.
    back = 1 - (20 / 120 + 5) / 6
    assert apls(ROAD, detour) == pytest.approx(2 / (1 / one + 1 / back))


def test_apls_of_a_broken_road():
    """The ends are there, and 50; but no way leads over the gap from 20 to 30."""
    broken = joined(line((0, 0), (20, 0)), line((30, 0), (100, 0)))
    # Of the ways 0-50, 0-100 and 50-100 only the last is kept; back, both roads' own ways are.
    assert apls(ROAD, broken) == pytest.approx(2 / (1 / (1 / 3) + 1 / 1))


def test_an_open_loop_costs_the_ways_around_it():
    opened = RoadGraph.of(SQUARE)
    assert apls(CLOSED, opened) < 0.8 and apls(CLOSED, CLOSED) == pytest.approx(1)


@pytest.mark.parametrize(("gold", "test", "found"), [(ROAD, EMPTY, 0.0), (EMPTY, ROAD, None), (EMPTY, EMPTY, None)])
def test_apls_of_nothing(gold, test, found):
    assert apls(gold, test) == found


def test_topo_of_half_a_road():
    """Holes at 0, 5, ... 100. Starts at 0, 50 and 100: the last finds nothing, the others 11 marbles each."""
    agreement = topo(ROAD, line((0, 0), (50, 0)), match=4)
    assert (agreement.total_gold, agreement.total_test) == (3 * 21, 2 * 11)
    assert agreement.matched_gold == agreement.matched_test == 2 * 11


def test_topo_drives_no_farther_than_reach():
    assert topo(ROAD, ROAD, reach=20).total_gold == 5 + 9 + 5


def test_topo_counts_a_wrong_side_road_and_matches_one_to_one():
    side = RoadGraph(np.array([[0, 0, 0], [50, 0, 0], [100, 0, 0], [50, 40, 0.0]]), np.array([[0, 1], [1, 2], [1, 3]]))
    agreement = topo(ROAD, side, match=4)
    assert agreement.total_test - agreement.total_gold == 3 * 8 and agreement.matched_gold == agreement.total_gold
    doubled = joined(ROAD, line((0, 1), (100, 1)))
    # The second road is not joined to the first, so it is not reached.
    assert topo(ROAD, doubled, match=4).total_test == 3 * 21


def test_topo_of_nothing():
    assert topo(ROAD, EMPTY).total_gold == 3 * 21 and topo(EMPTY, ROAD).total_gold == 0
    assert road_scores(ROAD, EMPTY) == {"APLS": 0.0, "TOPO_F1": 0.0, "TOPO_precision": 0.0, "TOPO_recall": 0.0}
