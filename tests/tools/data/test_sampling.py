"""States and their labels on small trees with known results."""

from __future__ import annotations

import numpy as np
import pytest

from lib.klib.spaces import patch_corner
from lib.swclib import SwcForest
from models.contract import EDGES_AHEAD, MAX_PAST, PAST_SHARES
from tools.data.sampling import STATE_MAPS, Kind, SampleShape, States, Walks, draw_states, negative_states

PATCH = (64, 64)
PLAIN = SampleShape(jitter_share=0.0, seed_share=0.0, substeps=1)
SEEDS = SampleShape(seed_share=1.0, substeps=1)
JITTER = SampleShape(jitter_share=1.0, seed_share=0.0, substeps=2)


def chain(*positions: tuple[float, ...]) -> SwcForest:
    """A tree without forks."""
    return SwcForest.from_positions(np.array(positions), np.arange(len(positions)) - 1)


STRAIGHT = chain((50, 0), (50, 200))
"""Along x at y = 50; 21 nodes, 10 px from each other, once resampled."""


def fork() -> SwcForest:
    """A trunk along x to (100, 100), a continuation that rises a little, and a side branch straight down."""
    return SwcForest.from_positions([(100, 0), (100, 100), (90, 200), (200, 100)], [-1, 0, 1, 1])


def drawn_states(walks: Walks, count: int, seed: int = 0) -> States:
    rng = np.random.default_rng(seed)
    return walks.states(rng, rng.choice(walks.sites, count))


def test_sites_have_five_nodes_on_both_sides() -> None:
    walks = Walks(STRAIGHT, 2, PLAIN)
    x = walks.nodes[walks.tail[walks.sites], 1]
    # Nodes 5 to 15 of 0 to 20, in both directions.
    assert ((x > 49) & (x < 151)).all()
    assert set(x.round()) == {50.0 + 10 * i for i in range(11)}
    forward = walks.nodes[walks.head[walks.sites], 1] > x
    assert forward.sum() == (~forward).sum()


def test_a_finer_grid_keeps_the_step() -> None:
    walks = Walks(STRAIGHT, 2, SampleShape(jitter_share=0.0, seed_share=0.0, substeps=5))
    states = drawn_states(walks, 200)
    assert set(states.center[:, 1].round() % 10) == {0, 2, 4, 6, 8}
    np.testing.assert_allclose(np.abs(states.ahead[:, 0, 0, 1] - states.center)[:, 1], 10, atol=1e-9)


@pytest.mark.parametrize("ndim", [2, 3])
def test_walk_on_a_straight_tube(ndim: int) -> None:
    forest = STRAIGHT if ndim == 2 else chain((7, 50, 0), (7, 50, 200))
    states = drawn_states(Walks(forest, ndim, PLAIN), 300)
    assert (states.kind == Kind.WALK).all()
    ahead = states.ahead[:, 0, :, 1, -1] - states.center[:, -1:]
    direction = np.sign(ahead[:, :1])
    np.testing.assert_allclose(ahead * direction, np.tile([10.0, 20.0, 30.0], (300, 1)), atol=1e-9)
    assert np.isnan(states.ahead[:, 1]).all()
    # The walked path leads back from the current node, and its oldest segment is three times as long.
    back = (states.center[:, None, -1] - states.walked[:, :, 1, -1]) * direction
    count = np.isfinite(back).sum(axis=1)
    for row, past in zip(back, count, strict=True):
        np.testing.assert_allclose(row[:past], [*range(10, 10 * past, 10), 10 * (past - 1) + 30])
    np.testing.assert_allclose(np.bincount(count, minlength=5)[1:] / 300, PAST_SHARES, atol=0.07)


def test_both_directions_are_walked() -> None:
    states = drawn_states(Walks(STRAIGHT, 2, PLAIN), 200)
    forward = (states.ahead[:, 0, 0, 1, 1] > states.center[:, 1]).mean()
    assert 0.3 < forward < 0.7


def test_at_a_fork_the_walk_turns_least() -> None:
    walks = Walks(fork(), 2, PLAIN)
    states = drawn_states(walks, 2000)
    at_fork = states[np.all(np.abs(states.center - [100, 90]) < 1e-6, axis=1)]
    from_trunk = at_fork[at_fork.ahead[:, 0, 0, 1, 1] > 95]
    assert len(from_trunk)
    assert (from_trunk.ahead[:, 0, 1, 1, 0] < 100).all()
    # Coming up the side branch, the trunk is at a right angle; the continuation rises, so it turns less.
    up = states[np.all(np.abs(states.center - [110, 100]) < 1e-6, axis=1)]
    up = up[up.ahead[:, 0, 0, 1, 0] < 105]
    assert len(up)
    assert (up.ahead[:, 0, 1, 1, 1] > 100).all()


def test_jitter_moves_across_the_branch_only() -> None:
    walks = Walks(STRAIGHT, 2, JITTER)
    states = drawn_states(walks, 500)
    across = states.center[:, 0] - 50
    assert np.abs(across).max() <= 3
    assert np.abs(across).max() > 2.5
    assert abs(across.mean()) < 0.3
    np.testing.assert_allclose(states.center[:, 1], walks.nodes[walks.tail[states.site], 1], atol=1e-9)
    np.testing.assert_allclose(walks.jitter_of(states), np.abs(across), atol=1e-9)
    # The next node stays on the branch, and both paths start at the current node.
    np.testing.assert_allclose(states.ahead[:, 0, 0, 1, 0], 50, atol=1e-9)
    np.testing.assert_allclose(states.ahead[:, 0, 0, 0], states.center)
    np.testing.assert_allclose(states.walked[:, 0, 0], states.center)


def test_jitter_in_3d_uses_both_normals() -> None:
    states = drawn_states(Walks(chain((20, 50, 0), (20, 50, 200)), 3, JITTER), 300)
    off = states.center - [20, 50, 0]
    assert (np.abs(off[:, :2]).max(axis=0) > 2).all()
    assert np.abs(off[:, :2]).max() <= 3 + 1e-9


def test_half_of_the_walks_are_jittered() -> None:
    walks = Walks(STRAIGHT, 2, SampleShape(seed_share=0.0))
    assert 0.4 < (walks.jitter_of(drawn_states(walks, 1000)) > 0).mean() < 0.6


def test_seed_has_both_neighbours_and_a_dot() -> None:
    states = drawn_states(Walks(STRAIGHT, 2, SEEDS), 50)
    assert (states.kind == Kind.SEED).all()
    nodes = np.sort(states.ahead[:, :, 0, 1, 1] - states.center[:, 1:], axis=1)
    np.testing.assert_allclose(nodes, np.tile([-10.0, 10.0], (50, 1)), atol=1e-9)
    corner = patch_corner(states.center, PATCH)
    maps = draw_states(states, corner, PATCH)
    walk = maps.walk.numpy()
    assert (walk.sum(axis=(1, 2)) == 5).all()
    assert maps.edge[:, 32, 22:43].all()
    assert maps.node[:, 32, 22].all()
    assert maps.node[:, 32, 42].all()
    assert not maps.node[:, 32, 32].any()


def test_share_of_seeds() -> None:
    states = drawn_states(Walks(STRAIGHT, 2, SampleShape()), 2000)
    assert (states.kind == Kind.SEED).mean() == pytest.approx(0.1, abs=0.03)


def test_walked_path_leaves_the_patch() -> None:
    states = drawn_states(Walks(STRAIGHT, 2, PLAIN), 100)
    long_walk = states[np.isfinite(states.walked[:, :, 0, 0]).sum(axis=1) == MAX_PAST]
    maps = draw_states(long_walk, patch_corner(long_walk.center, PATCH), PATCH)
    border = maps.walk[:, :, 0].any(dim=1) | maps.walk[:, :, -1].any(dim=1)
    assert border.all()
    assert maps.walk[:, 32, 32].all()


def test_branch_is_walk_and_three_edges() -> None:
    states = drawn_states(Walks(STRAIGHT, 2, PLAIN), 40)
    maps = draw_states(states, patch_corner(states.center, PATCH), PATCH)
    assert not (maps.walk & ~maps.branch).any()
    assert not (maps.edge & ~maps.branch).any()
    right = states.ahead[:, 0, 0, 1, 1] > states.center[:, 1]
    for branch, walk, forward in zip(maps.branch[:, 32], maps.walk[:, 32], right, strict=True):
        ahead = (branch & ~walk).nonzero().flatten()
        # 30 px ahead plus the radius, minus the pixel of the walked path's round end.
        assert len(ahead) == 10 * EDGES_AHEAD
        assert ahead.min() == 34 if forward else ahead.max() == 30


def test_edge_and_node_lie_where_the_next_node_is() -> None:
    states = drawn_states(Walks(STRAIGHT, 2, PLAIN), 20)
    maps = draw_states(states, patch_corner(states.center, PATCH), PATCH)
    for index in range(20):
        node = maps.node[index].nonzero().float().mean(dim=0).numpy() + patch_corner(states.center[[index]], PATCH)[0]
        np.testing.assert_allclose(node, states.ahead[index, 0, 0, 1], atol=1e-3)
        assert maps.node[index].sum() == 21
        assert maps.edge[index, 32].sum() == 13


def test_negatives_have_empty_maps() -> None:
    states = negative_states(np.random.default_rng(0), 20, (100, 120))
    assert (states.kind == Kind.NEGATIVE).all()
    assert (states.site == -1).all()
    assert ((states.center >= 0) & (states.center <= [99, 119])).all()
    maps = draw_states(states, patch_corner(states.center, PATCH), PATCH)
    assert not any(getattr(maps, name).any() for name in STATE_MAPS)


@pytest.mark.parametrize("forest", [chain((50, 0), (50, 60)), SwcForest.from_positions([(5, 5)], [-1])])
def test_short_trees_have_no_sites(forest: SwcForest) -> None:
    walks = Walks(forest, 2, SampleShape())
    assert len(walks.sites) == 0
    states = negative_states(np.random.default_rng(0), 3, (100, 100))
    assert walks.jitter_of(states).tolist() == [0, 0, 0]


def test_rows_and_concatenation() -> None:
    states = drawn_states(Walks(STRAIGHT, 2, PLAIN), 6)
    joined = States.concatenate([states[np.array([4])], negative_states(np.random.default_rng(0), 2, PATCH)])
    assert len(joined) == 3
    assert joined.site.tolist() == [states.site[4], -1, -1]
    np.testing.assert_array_equal(joined.ahead[0], states.ahead[4])
