"""Is what is connected in one tree connected in the other? Whole paths, breaks and false merges.

All three are read from the *free space* of two trees (Alt and Godau, Int. J. Comput. Geom. Appl. 5:75, 1995; for maps
Alt et al., J. Algorithms 49:262, 2003): the pairs (p, q) of a place p on the gold and a place q on the test nearer to
each other than ``reach``. Two pairs belong to one *piece* if one can walk from the first to the second, along the gold
and along the test at the same time and back and forth at will, without leaving the free space. A piece is what one tree
recovers of the other without a break. It does not depend on roots, on the direction of walking or on how densely the
nodes lie.

The pairs of one gold edge and one test edge are a convex *cell*. Cells touch where a node of one tree is near an edge
of the other, so the pieces are the connected components of a graph over these *hits*: no place is ever sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from lib.swclib.forest import ROOT, SwcForest
from lib.swclib.metrics.f1 import F1
from lib.swclib.metrics.jumps import CLOSE_LENGTH, Closures, closures
from lib.swclib.nearest import EdgeSearch
from lib.swclib.transform import subdivide

LEAST_PIECE = 4.0  # in reaches: a line that crosses at 30 degrees or more lies within reach for at most this far


@dataclass(frozen=True)
class Changes:
    """Where a tree goes on although the piece of it that the other tree recovers ends.

    Attributes
    ----------
    places : float64, shape (value, 3)
        In SWC order (x, y, z): where, coming from the root, the next piece begins.
    pieces : int
        How many pieces the tree is recovered in; those that only touch it (crossing lines) are left out.
    """

    places: np.ndarray
    pieces: int

    @property
    def value(self) -> int:
        """Number of changes: over all trees, the pieces beyond the first."""
        return len(self.places)


@dataclass(frozen=True)
class Continuity:
    """How connected the recovered trees are.

    Attributes
    ----------
    paths : F1
        Root-to-leaf paths: ``matched_gold`` of the ``total_gold`` in the gold are recovered whole, and
        ``matched_test`` of the ``total_test`` in the test are followed by the gold.
    breaks : Changes
        Of the gold: joins that the test lacks.
    merges : Changes
        Of the test: connections that the gold does not have.
    """

    paths: F1
    breaks: Changes
    merges: Changes


def continuity(
    gold: SwcForest,
    test: SwcForest,
    *,
    reach: float = 4.0,
    close_radius: float | None = None,
    close_length: float = CLOSE_LENGTH,
) -> Continuity:
    """Return whole paths, breaks and false merges.

    Parameters
    ----------
    gold, test
        Trees in the same coordinates.
    reach
        What counts as near.
    close_radius, close_length
        Let the tree that is followed go on where it had to cut a loop (`closures`; of the test only inside one tree,
        because a gap between two of its trees need not be): then a test that runs through a cut of the gold makes no
        false merge, and a cut of the test where the gold has none makes no break. None: cuts are gaps.
    """
    gold, test = subdivide(gold, reach), subdivide(test, reach)
    gold_net, test_net = _Net.of(gold), _Net.of(test)
    of_gold, of_test = _pieces(gold_net, test_net, reach)
    if close_radius is not None:
        in_test = closures(test, radius=close_radius, least_way=close_length, across=False)
        in_gold = closures(gold, radius=close_radius, least_way=close_length)
        of_gold, _ = _pieces(gold_net, _Net.of(test, in_test), reach)
        _, of_test = _pieces(_Net.of(gold, in_gold), test_net, reach)
    paths = F1(*_whole_paths(gold, of_gold, reach), *_whole_paths(test, of_test, reach))
    return Continuity(paths, _changes(gold, of_gold, reach), _changes(test, of_test, reach))


@dataclass(frozen=True)
class _Net:
    """A tree and its closures as edges between nodes.

    ``xyz`` (V, 3); ``edges`` (E, 2) as rows of it; ``edge`` (T,) lists the edges on which each node lies, those of node
    v from ``first[v]`` to ``first[v + 1]``: the edges it ends, and where it is the foot of a closure that edge too.
    """

    xyz: np.ndarray
    edges: np.ndarray
    edge: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, forest: SwcForest, closing: Closures | None = None) -> _Net:
        xyz, edges = forest.xyz, forest.edges
        node, edge = edges.ravel(), np.repeat(np.arange(len(edges)), 2)
        if closing is not None:
            foot = len(xyz) + np.arange(len(closing.end))
            added = len(edges) + np.arange(len(foot))
            node, edge = (
                np.concatenate([node, closing.end, foot, foot]),
                np.concatenate([edge, added, added, closing.edge]),
            )
            xyz, edges = np.concatenate([xyz, closing.foot]), np.concatenate([edges, np.stack([closing.end, foot], 1)])
        first = np.searchsorted(np.sort(node), np.arange(len(xyz) + 1))
        return cls(xyz, edges, edge[np.argsort(node, kind="stable")], first)

    def hits(self, nodes_of: _Net, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of a node of another net and an edge of this one nearer than ``reach``."""
        search = EdgeSearch(self.xyz[self.edges[:, 1]], self.xyz[self.edges[:, 0]])
        near = search.within(nodes_of.xyz, reach)
        is_near = near.distance < reach
        return near.point[is_near], near.edge[is_near]

    def edges_at(self, node: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All edges on which the nodes (K,) lie: the index into ``node`` and the edge, by index."""
        count = self.first[node + 1] - self.first[node]
        index = np.repeat(np.arange(len(node)), count)
        within = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)
        return index, self.edge[self.first[node][index] + within]


class _Pieces(NamedTuple):
    """Which pieces each node takes part in: pairs of ``node`` (K,) and ``piece`` (K,), sorted and each once."""

    node: np.ndarray
    piece: np.ndarray


def _pieces(gold: _Net, test: _Net, reach: float) -> tuple[_Pieces, _Pieces]:
    """Find the pieces of the free space, and list them by node of the gold and by node of the test."""
    gold_node, test_edge = test.hits(gold, reach)
    test_node, gold_edge = gold.hits(test, reach)
    # A hit lies on the border of all cells around its node.
    hit, edge = gold.edges_at(gold_node)
    other_hit, other_edge = test.edges_at(test_node)
    cell = np.concatenate(
        [edge * len(test.edges) + test_edge[hit], gold_edge[other_hit] * len(test.edges) + other_edge]
    )
    hit = np.concatenate([hit, len(gold_node) + other_hit])
    n_hits = len(gold_node) + len(test_node)
    cells, cell = np.unique(cell, return_inverse=True)
    size = n_hits + len(cells)
    first = np.searchsorted(hit, np.arange(size + 1))
    links = csr_matrix((np.ones(len(hit), np.int8), n_hits + cell, first), shape=(size, size))
    n_pieces, piece = connected_components(links, directed=False)
    by_gold = np.unique(gold_node * n_pieces + piece[: len(gold_node)])
    by_test = np.unique(test_node * n_pieces + piece[len(gold_node) : n_hits])
    return _Pieces(*np.divmod(by_gold, max(n_pieces, 1))), _Pieces(*np.divmod(by_test, max(n_pieces, 1)))


def _whole_paths(tree: SwcForest, pieces: _Pieces, reach: float) -> tuple[int, int]:
    """Count the paths from a root to a leaf of which one piece holds both ends, and all paths.

    A piece is connected and so is what it covers of a tree: with both ends it covers all that lies between. The ends
    themselves may be missed by ``reach``, or by a quarter of the path if that is less.
    """
    leaf = tree.leaves[tree.root_distance[tree.leaves] > 0]
    length = tree.root_distance[leaf]
    spared = np.minimum(reach, length / 4)
    low = tree.ancestor_within(leaf, spared)
    # The last node within `spared` of the root is the parent of the highest one beyond it.
    high = tree.parent[tree.ancestor_within(leaf, np.nextafter(length - spared, 0))]
    n_pieces = int(pieces.piece.max(initial=0)) + 1
    known = pieces.node * n_pieces + pieces.piece
    first = np.searchsorted(pieces.node, low)
    count = np.searchsorted(pieces.node, low, side="right") - first
    path = np.repeat(np.arange(len(leaf)), count)
    within = np.arange(len(path)) - np.repeat(np.cumsum(count) - count, count)
    wanted = high[path] * n_pieces + pieces.piece[first[path] + within]
    return len(np.unique(path[np.isin(wanted, known)])), len(leaf)


def _changes(tree: SwcForest, pieces: _Pieces, reach: float) -> Changes:
    """Give every node to the longest piece it takes part in, and mark where all but a tree's first begin."""
    weight = np.bincount(tree.edges.ravel(), np.repeat(tree.edge_lengths / 2, 2), minlength=len(tree))
    extent = np.bincount(pieces.piece, weight[pieces.node])
    by_extent = np.lexsort((pieces.piece, -extent[pieces.piece], pieces.node))
    node, place = np.unique(pieces.node[by_extent], return_index=True)
    piece = pieces.piece[by_extent][place]
    is_long = extent[piece] >= LEAST_PIECE * reach
    node, piece = node[is_long], piece[is_long]
    by_way = np.lexsort((node, tree.root_distance[node], piece))
    begin = node[by_way][np.unique(piece[by_way], return_index=True)[1]]
    begin = begin[np.lexsort((begin, tree.root_distance[begin], tree.components[begin]))]
    is_first = np.diff(tree.components[begin], prepend=ROOT) != 0
    return Changes(tree.xyz[begin[~is_first]], len(begin))
