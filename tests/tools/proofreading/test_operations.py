"""Cut, join, delete, draw, move on scenes whose right correction is known."""

from __future__ import annotations

import numpy as np
import pytest

from lib.errors import UserError
from lib.swclib import SwcForest, SwcSpace
from tests.tools.proofreading.scenes import line, make
from tools.proofreading.session import Session

SHAPE = (60, 120)
TUBE = [(30, 5), (30, 115)]
FORK = SwcForest.from_positions(
    [(30, 10), (30, 20), (30, 30), (20, 40), (10, 50), (40, 40), (50, 50)], [-1, 0, 1, 2, 3, 2, 5], radius=2, types=2
)
"""A Y: ids 1 to 3 are the stem, 4 and 5 one arm, 6 and 7 the other."""


def parents(session: Session) -> dict[int, int | None]:
    """Id of the parent of every node, None at a root."""
    forest = session.forest
    return {
        int(node): int(forest.ids[above]) if above >= 0 else None
        for node, above in zip(forest.ids, forest.parent, strict=True)
    }


@pytest.fixture
def fork(tmp_path) -> Session:
    return make(tmp_path, SHAPE, [TUBE], [FORK])


@pytest.fixture
def gap(tmp_path) -> Session:
    """A straight tube of which the middle is missing: ids 1 to 9 end at x = 42, ids 10 to 18 begin at x = 78."""
    return make(tmp_path, SHAPE, [TUBE], [line((30, 10), (30, 42)), line((30, 78), (30, 110))])


def test_cut_makes_the_far_side_a_tree(fork):
    fork.cut(3, 6)
    assert parents(fork) == {1: None, 2: 1, 3: 2, 4: 3, 5: 4, 6: None, 7: 6}
    with pytest.raises(UserError, match="no edge between"):
        fork.cut(3, 6)


def test_cut_at_an_end_leaves_no_lone_node(fork):
    fork.cut(5, 4)
    assert 5 not in parents(fork) and len(fork.forest.roots) == 1
    fork.cut(1, 2)
    assert parents(fork) == {2: None, 3: 2, 4: 3, 6: 3, 7: 6}


def test_join_turns_the_second_tree_around(gap):
    gap.join(9, 18)  # the far end of the second piece
    assert len(gap.forest.roots) == 1 and parents(gap)[18] == 9 and parents(gap)[10] == 11
    assert gap.forest.length == pytest.approx(32 + 32 + 68)


def test_a_loop_is_refused_and_changes_nothing(fork):
    before = fork.forest
    with pytest.raises(UserError, match="loop"):
        fork.join(5, 7)
    with pytest.raises(UserError, match="loop"):
        fork.draw(5, (50, 50))
    assert fork.forest is before and not fork.undo()


def test_delete_takes_a_branch_and_leaves_the_fork(fork):
    fork.delete(6)
    assert parents(fork) == {1: None, 2: 1, 3: 2, 4: 3, 5: 4}
    fork.delete(2)  # the former fork is none any more: all of the tree is one branch
    assert not len(fork.forest)


def test_delete_the_stem_makes_the_arms_trees_of_their_own(fork):
    with pytest.raises(UserError, match="several branches meet"):
        fork.delete(3)
    fork.delete(3, 2)
    assert parents(fork) == {3: None, 4: 3, 5: 4, 6: 3, 7: 6}


def test_delete_through_a_root_in_the_middle_of_a_branch(tmp_path):
    forest = SwcForest.from_positions([(30, 50), (30, 60), (30, 40), (30, 30)], [-1, 0, 0, 2])
    session = make(tmp_path, SHAPE, [TUBE], [forest])
    session.delete(4)
    assert not len(session.forest)


def test_move(fork):
    fork.move(4, (21.5, 39.25))
    assert fork.forest.positions(2)[3].tolist() == [21.5, 39.25]
    with pytest.raises(UserError, match="outside the image"):
        fork.move(4, (21.5, 300))
    with pytest.raises(UserError, match="not in the trace"):
        fork.move(99, (1, 1))


def test_draw_fills_a_gap_of_a_straight_tube(gap):
    gap.draw(9, (31.5, 77))  # a click beside the first node of the second piece
    forest = gap.forest
    assert len(forest.roots) == 1 and len(forest.leaves) == 1
    assert forest.length == pytest.approx(100, abs=0.5)
    assert np.abs(forest.positions(2)[:, 0] - 30).max() < 0.3
    assert forest.edge_lengths.max() < 5 and set(forest.types) == {2} and set(forest.radius) == {2.0}


def test_draw_to_a_free_end_and_back_from_it(gap):
    gap.draw(9, (30, 60))
    tip = int(gap.forest.ids.max())
    assert len(gap.forest.roots) == 2
    gap.draw(tip, (30, 78))
    assert len(gap.forest.roots) == 1 and gap.forest.length == pytest.approx(100, abs=0.5)


def test_draw_follows_a_bend_and_an_arm_of_a_y(tmp_path):
    tubes = [[(30, 5), (30, 60)], [(30, 60), (8, 100)], [(30, 60), (52, 100)]]
    session = make(tmp_path, SHAPE, tubes, [line((30, 10), (30, 60), (52, 100))])
    fork = int(session.forest.ids[np.abs(session.forest.positions(2) - (30, 60)).sum(axis=1).argmin()])
    session.draw(fork, (8, 100))
    drawn = session.forest.positions(2)[session.forest.ids > 24]
    off = np.abs((drawn - (30, 60)) @ (np.array([40, 22]) / np.hypot(40, 22)))
    assert off.max() < 0.8 and len(session.forest.branch_points) == 1


def test_draw_stays_in_its_tube_beside_a_traced_one(tmp_path):
    """Of two parallel tubes 8 px apart the upper one has a faint gap; the lower one would be a bright way around."""
    tubes = [[(26, 5), (26, 50)], [(26, 62), (26, 115)], [(34, 5), (34, 115)]]
    trees = [line((26, 10), (26, 46)), line((34, 10), (34, 110))]
    session = make(tmp_path, SHAPE, tubes, trees)
    session.draw(10, (26, 110))
    drawn = session.forest.positions(2)[session.forest.ids > sum(map(len, trees))]
    assert len(drawn) > 10 and np.abs(drawn[:, 0] - 26).max() < 1


def test_draw_goes_straight_over_a_crossing(tmp_path):
    session = make(
        tmp_path,
        (120, 120),
        [[(5, 5), (115, 115)], [(5, 115), (115, 5)]],
        [line((8, 8), (40, 40)), line((112, 8), (8, 112))],
    )
    tip = int(session.forest.ids[session.forest.components == 0].max())
    session.draw(tip, (110, 110))
    drawn = session.forest.positions(2)
    drawn = drawn[session.forest.components == 0]
    assert np.abs(drawn[:, 0] - drawn[:, 1]).max() < 1.5 and len(session.forest.roots) == 2


def test_draw_on_the_image_where_there_is_no_map(tmp_path):
    session = make(tmp_path, SHAPE, [TUBE], [line((30, 10), (30, 42)), line((30, 78), (30, 110))], with_map=False)
    session.draw(9, (30, 78))
    assert len(session.forest.roots) == 1 and np.abs(session.forest.positions(2)[:, 0] - 30).max() < 0.5


def test_draw_in_an_anisotropic_volume(tmp_path):
    """Slices are 3 pixels apart; the map is that of the volume. The way down one tube, not across to the other."""
    space = SwcSpace("centre", "um", (3.0, 1.0, 1.0))
    tubes = [[(4, 20, 5), (16, 20, 75)], [(10, 36, 5), (10, 36, 75)]]
    trees = [line((4, 20, 5), (7, 20, 22.5)), line((10, 36, 5), (10, 36, 75))]
    session = make(tmp_path, (22, 50, 80), tubes, trees, space)
    assert session.spacing.tolist() == [3, 1, 1]
    tip = int(session.forest.ids[session.forest.components == 0].max())
    session.draw(tip, (16, 20, 75))
    drawn = session.forest.positions(3)[session.forest.components == 0]
    along = 4 + (drawn[:, 2] - 5) * 12 / 70
    assert np.abs(drawn[:, 1] - 20).max() < 0.7 and np.abs(drawn[:, 0] - along).max() < 0.7


def test_draw_refuses_a_place_outside_the_image(gap):
    with pytest.raises(UserError, match="outside"):
        gap.draw(9, (-4, 50))
