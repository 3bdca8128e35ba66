"""Whole paths, breaks and false merges: whether what is connected in one tree is connected in the other.

All three derive from the *free space* of two trees (Alt and Godau, Int. J. Comput. Geom. Appl. 5:75, 1995; for maps Alt
et al., J. Algorithms 49:262, 2003): the pairs (p, q) of a place p on the gold and a place q on the test that are nearer
to each other than ``reach``. A *piece* is a connected component of the free space: two pairs belong to it if one can
walk along both trees at once, back and forth, from one pair to the other without leaving the free space. A piece is
what one tree recovers of the other without a break. It does not depend on the roots, the direction of walking or the
node spacing.

The pairs of one gold edge and one test edge form a convex *cell*. Cells touch where a node of one tree is near an edge
of the other (a *hit*), so the pieces are the connected components of a graph of hits and cells, without any sampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from lib.swclib.forest import ROOT, SwcForest, enumerate_groups
from lib.swclib.metrics.closures import CLOSE_LENGTH, CLOSE_RADIUS, Closures, find_closures
from lib.swclib.metrics.f1 import F1
from lib.swclib.nearest import EdgeSearch
from lib.swclib.transform import subdivide

MIN_PIECE = 4.0  # multiple of ``reach``: a line that crosses at 30 degrees or more is near for at most this length


@dataclass(frozen=True)
class PieceChanges:
    """Places where a connected tree passes from one piece to the next.

    Attributes
    ----------
    places
        float64 ``(value, 3)`` in SWC order (x, y, z): where the next piece begins, coming from the root.
    pieces
        Number of pieces that recover the tree, without those that merely touch it, such as crossing lines.
    """

    places: np.ndarray
    pieces: int

    @property
    def value(self) -> int:
        """Number of changes: the pieces beyond the first of each tree."""
        return len(self.places)


@dataclass(frozen=True)
class Continuity:
    """How well connections are recovered.

    Attributes
    ----------
    paths
        Root-to-leaf paths: ``matched_gold`` of the gold are recovered whole, ``matched_test`` of the test are followed
        whole by the gold.
    breaks
        Changes along the gold: connections that the test lacks.
    merges
        Changes along the test: connections that the gold lacks.
    """

    paths: F1
    breaks: PieceChanges
    merges: PieceChanges


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
        Distance below which two places are near.
    close_radius, close_length
        ``radius`` and ``min_loop`` of `find_closures`; with ``close_radius`` None no loop is closed. The tree that is
        compared against may then continue across its closures, so a test that runs through a cut of the gold makes no
        false merge, and a cut of the test makes no break. Closures of the test stay within one tree, because a gap
        between two of its trees is a real one.
    """
    gold, test = subdivide(gold, reach), subdivide(test, reach)
    gold_net, test_net = _Net.of(gold), _Net.of(test)
    if close_radius is None:
        of_gold, of_test = _pieces(gold_net, test_net, reach)
    else:
        test_closures = find_closures(test, radius=close_radius, min_loop=close_length, between_trees=False)
        gold_closures = find_closures(gold, radius=close_radius, min_loop=close_length)
        of_gold, _ = _pieces(gold_net, _Net.of(test, test_closures), reach)
        _, of_test = _pieces(_Net.of(gold, gold_closures), test_net, reach)
    paths = F1(*_whole_paths(gold, of_gold, reach), *_whole_paths(test, of_test, reach))
    return Continuity(paths, _piece_changes(gold, of_gold, reach), _piece_changes(test, of_test, reach))


def are_connected(
    gold: SwcForest,
    test: SwcForest,
    first: np.ndarray,
    second: np.ndarray,
    *,
    reach: float = 4.0,
    close_radius: float = CLOSE_RADIUS,
) -> np.ndarray:
    """Whether what two nodes of the test recover is connected in the gold, along the way that the test takes.

    Parameters
    ----------
    gold, test
        Trees in the same coordinates.
    first, second
        ``(K,)`` rows of the test.
    reach, close_radius
        See `continuity`; the loops that the gold cuts are closed.

    Returns
    -------
    ndarray
        float ``(K,)``: 1 if a piece holds both nodes, 0 if none does, NaN where one of them is far from the gold.
    """
    _, pieces = _pieces(_Net.of(gold, find_closures(gold, radius=close_radius)), _Net.of(test), reach)
    shape = (len(test), int(pieces.piece.max(initial=0)) + 1)
    holds = csr_matrix((np.ones(len(pieces.node)), (pieces.node, pieces.piece)), shape=shape)
    shared = np.asarray(holds[first].multiply(holds[second]).sum(axis=1)).ravel() > 0
    is_known = np.diff(holds.indptr) > 0
    return np.where(is_known[first] & is_known[second], shared.astype(float), np.nan)


@dataclass(frozen=True)
class _Net:
    """A tree and its closures as a graph of nodes ``xyz`` ``(V, 3)`` and ``edges`` ``(E, 2)``.

    ``edge[first[v] : first[v + 1]]`` are the edges on which node v lies: those it ends, and for the foot of a closure
    also the edge that the foot is on.
    """

    xyz: np.ndarray
    edges: np.ndarray
    edge: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, forest: SwcForest, closures: Closures | None = None) -> _Net:
        xyz, edges = forest.xyz, forest.edges
        node, edge = edges.ravel(), np.repeat(np.arange(len(edges)), 2)
        if closures is not None:
            foot = len(xyz) + np.arange(len(closures.end))
            added = len(edges) + np.arange(len(foot))
            node = np.concatenate([node, closures.end, foot, foot])
            edge = np.concatenate([edge, added, added, closures.edge])
            xyz = np.concatenate([xyz, closures.foot])
            edges = np.concatenate([edges, np.stack([closures.end, foot], axis=1)])
        first = np.searchsorted(np.sort(node), np.arange(len(xyz) + 1))
        return cls(xyz, edges, edge[np.argsort(node, kind="stable")], first)

    def hits(self, other: _Net, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of a node of another net and an edge of this one that are nearer than ``reach``."""
        search = EdgeSearch(self.xyz[self.edges[:, 1]], self.xyz[self.edges[:, 0]])
        near = search.within(other.xyz, reach)
        is_near = near.distance < reach
        return near.point[is_near], near.edge[is_near]

    def edges_at(self, node: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All edges on which the nodes ``(K,)`` lie, as pairs of an index into ``node`` and an edge, by index."""
        index, number = enumerate_groups(self.first[node + 1] - self.first[node])
        return index, self.edge[self.first[node][index] + number]


class _Pieces(NamedTuple):
    """The pieces that each node is in: unique, sorted pairs of ``node`` ``(K,)`` and ``piece`` ``(K,)``."""

    node: np.ndarray
    piece: np.ndarray


def _pieces(gold: _Net, test: _Net, reach: float) -> tuple[_Pieces, _Pieces]:
    """Find the pieces of the free space; list them by gold node and by test node."""
    gold_node, test_edge = test.hits(gold, reach)
    test_node, gold_edge = gold.hits(test, reach)
    # A hit is on the border of all cells around its node.
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
    """Count the root-to-leaf paths with both ends in one piece, and all root-to-leaf paths.

    The part of a tree that a piece covers is connected, so a piece with both ends covers everything between. Each end
    may be missed by ``reach``, or by a quarter of the path if that is less.
    """
    leaf = tree.leaves[tree.root_distance[tree.leaves] > 0]
    length = tree.root_distance[leaf]
    tolerance = np.minimum(reach, length / 4)
    low = tree.ancestor_within(leaf, tolerance)
    # The lowest node within `tolerance` of the root is the parent of the highest node beyond it.
    high = tree.parent[tree.ancestor_within(leaf, np.nextafter(length - tolerance, 0))]
    n_pieces = int(pieces.piece.max(initial=0)) + 1
    covered = pieces.node * n_pieces + pieces.piece
    first = np.searchsorted(pieces.node, low)
    path, number = enumerate_groups(np.searchsorted(pieces.node, low, side="right") - first)
    needed = high[path] * n_pieces + pieces.piece[first[path] + number]
    return len(np.unique(path[np.isin(needed, covered)])), len(leaf)


def _piece_changes(tree: SwcForest, pieces: _Pieces, reach: float) -> PieceChanges:
    """Assign every node to the longest piece it is in, and list where all but the first piece of a tree begin."""
    weight = np.bincount(tree.edges.ravel(), np.repeat(tree.edge_lengths / 2, 2), minlength=len(tree))
    extent = np.bincount(pieces.piece, weight[pieces.node])
    by_extent = np.lexsort((pieces.piece, -extent[pieces.piece], pieces.node))
    node, longest = np.unique(pieces.node[by_extent], return_index=True)
    piece = pieces.piece[by_extent][longest]
    is_long = extent[piece] >= MIN_PIECE * reach
    node, piece = node[is_long], piece[is_long]
    by_depth = np.lexsort((node, tree.root_distance[node], piece))
    begin = node[by_depth][np.unique(piece[by_depth], return_index=True)[1]]
    begin = begin[np.lexsort((begin, tree.root_distance[begin], tree.components[begin]))]
    is_first = np.diff(tree.components[begin], prepend=ROOT) != 0
    return PieceChanges(tree.xyz[begin[~is_first]], len(begin))
