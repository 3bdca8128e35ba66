"""The queue, undo and redo, the journal, and the files of a session."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lib.errors import UserError
from lib.swclib import SwcSpace, read_swc, swc_space
from tests.tools.proofreading.scenes import journal, line, make, reopen, state
from tools.proofreading.session import Session

SHAPE = (60, 120)
TUBES = [[(30, 5), (30, 115)], [(10, 5), (10, 115)]]
REVIEW = """rank,question,branch,node,x,y,confidence,gain
2,ends here?,1,9,42,30,0.4,3.5
1,real?,2,12,86,30,0.2,7
3,joined here?,3,30,40,10,0.6,1
"""


@pytest.fixture
def session(tmp_path) -> Session:
    trees = [line((30, 10), (30, 42)), line((30, 78), (30, 110)), line((10, 10), (10, 110))]
    return make(tmp_path, SHAPE, TUBES, trees, review=REVIEW, confidence=[0.9, 0.3, 0.5])


def test_the_queue_goes_by_rank_and_skips_what_is_answered(session):
    assert session.doubt is None and [doubt.rank for doubt in session.queue] == [1, 2, 3]
    assert session.next_doubt() is session.queue[0] and session.queue[0].position == (30, 86)
    session.accept()
    assert session.next_doubt() is session.queue[1]
    session.draw(9, (30, 78))
    assert session.answers == {1: "accepted", 2: "corrected"}
    assert session.next_doubt() is session.queue[2] and session.next_doubt() is session.queue[2]
    assert session.previous_doubt() is session.queue[1] and session.previous_doubt() is session.queue[0]
    assert session.previous_doubt() is None and session.at == 0
    session.undo()
    assert session.answers == {1: "accepted"}


def test_an_operation_far_from_the_doubt_is_no_answer(session):
    session.next_doubt()
    session.cut(20, 21)
    assert session.answers == {}
    session.delete(12)
    assert session.answers == {1: "corrected"}


def test_nothing_to_accept_without_a_queue(tmp_path):
    session = make(tmp_path, SHAPE, TUBES, [line((30, 10), (30, 42))])
    assert session.next_doubt() is None and session.previous_doubt() is None and session.confidence is None
    with pytest.raises(UserError, match="no doubt is shown"):
        session.accept()


def test_confidence_of_the_edges(session):
    assert session.confidence is not None
    assert session.confidence[5] == 0.9 and session.confidence[18] == 0.3 and np.isnan(session.confidence[1])


def test_a_crash_loses_nothing(session, tmp_path):
    session.next_doubt()
    session.accept()
    session.next_doubt()
    session.draw(9, (30, 78))
    session.move(3, (31.25, 18))
    session.undo()
    expected = state(session)
    with (tmp_path / "eye_journal.jsonl").open("a") as file:
        file.write('{"op": "cut", "a": 3')  # the crash
    again = reopen(tmp_path)
    assert state(again) == expected and again.answers == session.answers and again.doubt == session.doubt
    assert again.redo() and again.forest.positions(2)[2].tolist() == [31.25, 18]
    assert journal(tmp_path)[-1] == {"op": "redo"}


def test_opening_alone_writes_nothing(session, tmp_path):
    assert not (tmp_path / "eye_journal.jsonl").exists()


def test_a_journal_of_another_trace_is_refused(session, tmp_path):
    session.cut(2, 3)
    text = (tmp_path / "eye.swc").read_text()
    (tmp_path / "eye.swc").write_text(text + "99 2 1 1 0 1 -1\n")
    with pytest.raises(UserError, match="journal of another SWC"):
        reopen(tmp_path)
    (tmp_path / "eye.swc").write_text(text)
    assert state(reopen(tmp_path)) == state(session)


@pytest.mark.parametrize(
    "line",
    ["what?", "[1]", '{"op": "fly"}', '{"op": "cut", "a": 1}', '{"op": "cut", "a": 1, "b": 9}', '{"op": "redo"}'],
)
def test_a_broken_journal_is_refused_with_its_line(session, tmp_path, line):
    session.cut(2, 3)
    with (tmp_path / "eye_journal.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"eye_journal\.jsonl, line 3: .*; move the journal away"):
        reopen(tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rank,question\n1,real?\n", "column 'x' is missing"),
        (REVIEW.replace("0.4", "much"), "line 2"),
        (REVIEW.replace("\n2,", "\n1,"), "a rank occurs twice"),
    ],
)
def test_a_broken_queue_is_refused(session, tmp_path, text, complaint):
    (tmp_path / "eye_review.csv").write_text(text)
    with pytest.raises(UserError, match=complaint):
        reopen(tmp_path)


def test_save_keeps_untouched_trees_byte_by_byte_and_the_head(session, tmp_path):
    session.cut(13, 14)
    assert session.save() == tmp_path / "eye_corrected.swc"
    before, after = (
        [text for text in (tmp_path / name).read_text().splitlines() if text[0] != "#"]
        for name in ("eye.swc", "eye_corrected.swc")
    )
    assert before[:13] == after[:13] and len(before) == len(after)
    assert [text.replace(" 13", " -1") if k == 13 else text for k, text in enumerate(before)] == after
    assert swc_space(tmp_path / "eye_corrected.swc") == swc_space(tmp_path / "eye.swc")


@pytest.mark.parametrize("space", [SwcSpace("corner", "voxel"), SwcSpace("corner", "um", (0.5, 0.25))])
def test_coordinates_of_the_file_come_back(tmp_path, space):
    """Nodes lie on the tube in the image, whatever the origin and the unit, and so do those that are drawn."""
    review = "rank,question,branch,node,x,y,confidence,gain\n1,real?,1,9,10.625,15.25,0.5,1\n"
    trees = [line((30, 10), (30, 42)), line((30, 78), (30, 110))]
    session = make(tmp_path, SHAPE, TUBES, trees, space, review=review if space.units == "um" else "")
    assert session.forest.positions(2)[8] == pytest.approx([30, 42])
    assert [doubt.position for doubt in session.queue] == [(30, 42)] * len(session.queue)
    session.draw(9, (30, 78))
    saved = read_swc(session.save())
    scale = np.array(space.voxel_size or (1, 1))
    assert saved.positions(2)[:, 0] == pytest.approx(30.5 * scale[0], abs=0.2)
    assert saved.length == pytest.approx(100 * scale[1], abs=0.5 * scale[1])
    assert swc_space(session.corrected) == swc_space(session.trace)


def test_depth_in_a_plane_is_refused(tmp_path):
    make(tmp_path, SHAPE, TUBES, [line((30, 10), (30, 42))])
    (tmp_path / "eye.swc").write_text("1 2 10 30 5 1 -1\n2 2 14 30 5 1 1\n")
    with pytest.raises(UserError, match="has depth"):
        reopen(tmp_path)


def test_an_empty_trace_can_be_opened_and_saved(tmp_path):
    session = make(tmp_path, SHAPE, TUBES, [])
    assert not len(session.forest) and session.save().exists()


def test_every_record_is_json_of_its_own(session, tmp_path):
    session.next_doubt()
    session.draw(9, (30, 60))
    head, look, draw = journal(tmp_path)
    assert head["trace"] == "eye.swc" and look == {"op": "look", "doubt": 1}
    assert draw["op"] == "draw" and draw["tip"] == 9 and len(draw["path"]) == len(draw["radius"])
    assert json.loads(json.dumps(draw)) == draw
