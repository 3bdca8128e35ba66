"""L-F1: the share of each tree's length that is matched along unbroken, unused paths.

Equal to the metric ``length`` of PyNeval 1.1.1 (Zhang et al., Frontiers in Neuroinformatics 15, 2021) with its
defaults; an independent implementation based on PyNeval's behaviour. A gold edge is matched if

1. both of its ends are near a test edge ("near" is defined in `length_f1`);
2. the path along the test tree between the two feet is as long as the gold edge, within ``tolerance``;
3. no earlier gold edge has used that path.

Terms: an *edge* of the test tree is identified by its child row; a *foot* is the place on a test edge nearest to a gold
node; the fraction along an edge is 0 at the child and 1 at the parent.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numba import njit
from rtree import index as rtree_index

from lib.swclib.forest import ROOT, SwcForest
from lib.swclib.metrics.f1 import F1
from lib.swclib.nearest import EdgeSearch

NearIn = Literal["radii", "pixels"]
GAP = 0.001  # PyNeval leaves this fraction of an edge free at the end of a used interval, so that neighbours may touch
NOT_MATCHED = -1.0


class _Tree(NamedTuple):
    """The test tree: positions ``(N, 3)``; per node ``(N,)`` the parent, the length of the edge to it, the depth."""

    parent: np.ndarray
    xyz: np.ndarray
    step: np.ndarray
    depth: np.ndarray


class _Feet(NamedTuple):
    """Test edges near each gold node, nearest first: those of node g are rows ``first[g]`` to ``first[g + 1]``."""

    first: np.ndarray
    edge: np.ndarray
    foot: np.ndarray


class _Usage(NamedTuple):
    """Used parts of each test edge: all of it (``whole``, ``(N,)``), or intervals ``low`` to ``high`` in a linked list.

    The list of edge e starts at ``head[e]`` and continues at ``following``; -1 ends it. ``count`` intervals are in use.
    """

    whole: np.ndarray
    head: np.ndarray
    following: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray


def length_f1(
    gold: SwcForest, test: SwcForest, *, threshold: float = 2.0, tolerance: float = 0.2, near_in: NearIn = "radii"
) -> F1:
    """Return the L-F1 of two trees; its counts are lengths.

    Parameters
    ----------
    gold, test
        Trees in the same coordinates.
    threshold, near_in
        A gold node is near a test edge if their distance is at most ``threshold`` times the node's radius (``"radii"``,
        PyNeval's default ``radius_mode`` 1), or at most ``threshold`` (``"pixels"``, mode 2).
    tolerance
        The two lengths must differ by less than this fraction of the gold edge.
    """
    if len(gold.edges) == 0 or len(test.edges) == 0:
        return F1(0.0, gold.length, 0.0, test.length)
    radius = threshold * gold.radius if near_in == "radii" else np.full(len(gold), threshold)
    used_length = _match_all(gold, test, _near_feet(gold, test, radius), tolerance)
    matched = used_length != NOT_MATCHED
    return F1(float(gold.edge_lengths[matched].sum()), gold.length, float(used_length[matched].sum()), test.length)


def _near_feet(gold: SwcForest, test: SwcForest, radius: np.ndarray) -> _Feet:
    """Find the test edges near each gold node.

    Edges at the same distance, such as the two edges at a corner, are ordered as by PyNeval, because the first one that
    fits is used up.
    """
    child = _pyneval_order(test)
    child = child[test.parent[child] != ROOT]
    starts, ends, margin = test.xyz[child], test.xyz[test.parent[child]], test.radius[child, None]
    rank = _rtree_rank(np.minimum(starts, ends) - margin, np.maximum(starts, ends) + margin)
    hits = EdgeSearch(starts, ends).within(gold.xyz, radius)
    hits = hits[np.lexsort((rank[hits.edge], hits.distance, hits.point))]
    return _Feet(np.searchsorted(hits.point, np.arange(len(gold) + 1)), child[hits.edge], hits.foot)


def _rtree_rank(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Rank of each box, int64 ``(M,)``, in the order in which PyNeval's R-tree reports the hits of any search.

    PyNeval inserts the boxes one by one into an index of the package rtree. A search visits the nodes of the tree in an
    order that does not depend on the query, so one search for all boxes gives the ranks.

    Parameters
    ----------
    low, high
        ``(M, ndim)`` corners of the boxes, in the order of insertion.
    """
    tree = rtree_index.Index(properties=rtree_index.Property(dimension=low.shape[1]))
    for number, box in enumerate(np.hstack([low, high]).tolist()):
        tree.insert(number, box)
    found = tree.intersection([*low.min(axis=0), *high.max(axis=0)])
    return np.argsort(np.fromiter(found, np.int64, len(low)))


def _match_all(gold: SwcForest, test: SwcForest, near: _Feet, tolerance: float) -> np.ndarray:
    """Match the gold edges in PyNeval's order; return the matched lengths in the order of ``gold.edges``."""
    edge_of_child = np.full(len(gold), ROOT)
    edge_of_child[gold.edges[:, 1]] = np.arange(len(gold.edges))
    turn = edge_of_child[_pyneval_order(gold)]
    turn = turn[turn != ROOT]
    step = np.zeros(len(test))
    step[test.edges[:, 1]] = test.edge_lengths
    tree = _Tree(test.parent, test.xyz, step, test.depth)
    usage = _no_usage(len(test), len(turn))
    used_length = np.empty(len(turn))
    used_length[turn] = _match_in_turn(gold.edges[turn], gold.edge_lengths[turn], near, tree, usage, tolerance)
    return used_length


def _pyneval_order(forest: SwcForest) -> np.ndarray:
    """Rows in the order in which PyNeval visits them: depth first, the last sibling in the file first.

    The order affects the score, because earlier edges use up paths.
    """
    children: list[list[int]] = [[] for _ in range(len(forest))]
    parent = forest.parent.tolist()
    stack = []
    for row in np.argsort(forest.file_order).tolist():
        (stack if parent[row] == ROOT else children[parent[row]]).append(row)
    order = []
    while stack:
        order.append(stack.pop())
        stack.extend(children[order[-1]])
    return np.array(order, dtype=np.int64)


def _no_usage(n_nodes: int, n_gold_edges: int) -> _Usage:
    capacity = 2 * n_gold_edges  # a matched gold edge adds at most two intervals
    return _Usage(
        whole=np.zeros(n_nodes, dtype=np.bool_),
        head=np.full(n_nodes, -1),
        following=np.empty(capacity, dtype=np.int64),
        low=np.empty(capacity),
        high=np.empty(capacity),
        count=np.zeros(1, dtype=np.int64),
    )


@njit(cache=True)
def _match_in_turn(edges, lengths, feet, tree, usage, tolerance):  # pragma: no cover - compiled
    """Length of the path that each gold edge takes (NOT_MATCHED if none); ``edges`` ``(M, 2)`` as (parent, child)."""
    result = np.full(len(edges), NOT_MATCHED)
    for g in range(len(edges)):
        result[g] = _match_one(edges[g, 1], edges[g, 0], lengths[g], feet, tree, usage, tolerance)
    return result


@njit(cache=True)
def _match_one(child, parent, length, feet, tree, usage, tolerance):  # pragma: no cover - compiled
    """Take the first path that fits and is free, with the feet of the child in the outer loop."""
    for i in range(feet.first[child], feet.first[child + 1]):
        for j in range(feet.first[parent], feet.first[parent + 1]):
            a, b = feet.edge[i], feet.edge[j]
            meet = _meet(a, b, tree, length * (1 + tolerance) * (1 + 1e-9))
            if meet == ROOT:
                continue
            path = _path_length(feet.foot[i], feet.foot[j], a, b, meet, tree)
            if abs(path - length) < length * tolerance and _claim(feet.foot[i], feet.foot[j], a, b, meet, tree, usage):
                return path
    return NOT_MATCHED


@njit(cache=True)
def _meet(a, b, tree, longest):  # pragma: no cover - compiled
    """Lowest common ancestor of two nodes; ROOT if there is none or the path must be longer than ``longest``."""
    first_a, first_b, walked = a, b, 0.0
    while a != b:
        if tree.depth[a] >= tree.depth[b]:
            walked += tree.step[a] if a != first_a else 0.0
            a = tree.parent[a]
        else:
            walked += tree.step[b] if b != first_b else 0.0
            b = tree.parent[b]
        if a == ROOT or walked > longest:
            return ROOT
    return a


@njit(cache=True)
def _path_length(foot_a, foot_b, a, b, meet, tree):  # pragma: no cover - compiled
    """Length of the path from a foot on edge ``a`` to one on edge ``b``; ``meet`` is their common ancestor."""
    if a == b:
        return _distance(foot_a, foot_b)
    length = _distance(foot_a, tree.xyz[a if a == meet else tree.parent[a]])
    length += _distance(foot_b, tree.xyz[b if b == meet else tree.parent[b]])
    for start in (a, b):
        node = start if start == meet else tree.parent[start]
        while node != meet:
            length += tree.step[node]
            node = tree.parent[node]
    return length


@njit(cache=True)
def _claim(foot_a, foot_b, a, b, meet, tree, usage):  # pragma: no cover - compiled
    """Mark the path as used if it is free; return whether it was."""
    if a == b:
        at_a, at_b = _fraction(foot_a, a, tree), _fraction(foot_b, a, tree)
        low, high = min(at_a, at_b), max(at_a, at_b) - GAP
        if not _is_free(a, low, high, usage):
            return False
        _use(a, low, high, usage)
        return True
    low_a, high_a = _interval(foot_a, a, meet, tree)
    low_b, high_b = _interval(foot_b, b, meet, tree)
    if not (_is_free(a, low_a, high_a, usage) and _is_free(b, low_b, high_b, usage)):
        return False
    for start in (a, b):
        node = start if start == meet else tree.parent[start]
        while node != meet:
            if usage.whole[node] or usage.head[node] != -1:
                return False
            node = tree.parent[node]
    _use(a, low_a, high_a, usage)
    _use(b, low_b, high_b, usage)
    for start in (a, b):
        node = start if start == meet else tree.parent[start]
        while node != meet:
            usage.whole[node] = True
            node = tree.parent[node]
    return True


@njit(cache=True)
def _interval(foot, edge, meet, tree):  # pragma: no cover - compiled
    """Part of the edge on the path: from the foot to the parent, or to the child if that is the common ancestor."""
    fraction = _fraction(foot, edge, tree)
    return (0.0, fraction - GAP) if edge == meet else (fraction, 1.0 - GAP)


@njit(cache=True)
def _is_free(edge, low, high, usage):  # pragma: no cover - compiled
    """Whether ``low`` to ``high`` of the edge is unused; an empty interval is free unless the whole edge is used."""
    if usage.whole[edge]:
        return False
    k = usage.head[edge] if low < high else -1
    while k != -1:
        if usage.low[k] <= high and low <= usage.high[k]:
            return False
        k = usage.following[k]
    return True


@njit(cache=True)
def _use(edge, low, high, usage):  # pragma: no cover - compiled
    if low < high:
        k = usage.count[0]
        usage.low[k], usage.high[k], usage.following[k] = low, high, usage.head[edge]
        usage.head[edge] = k
        usage.count[0] = k + 1


@njit(cache=True)
def _fraction(foot, edge, tree):  # pragma: no cover - compiled
    return _distance(foot, tree.xyz[edge]) / tree.step[edge]


@njit(cache=True)
def _distance(a, b):  # pragma: no cover - compiled
    d0, d1, d2 = a[0] - b[0], a[1] - b[1], a[2] - b[2]
    return np.sqrt(d0 * d0 + d1 * d1 + d2 * d2)
