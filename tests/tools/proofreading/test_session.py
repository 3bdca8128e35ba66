"""The queue, undo and redo, the journal, and the files of a session."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from lib.errors import UserError
from lib.swclib import SwcForest, SwcSpace, read_swc, swc_space
from tests.tools.proofreading.scenes import journal, line, make, reopen, state
from tools.proofreading.doubts import INSIDE, JOIN
from tools.proofreading.session import Session

SHAPE = (60, 120)
TUBES = [[(30, 5), (30, 115)], [(10, 5), (10, 115)]]
REVIEW = """rank,question,branch,node,x,y,confidence,gain
2,ends here?,1,9,42,30,0.4,3.5
1,real?,2,12,86,30,0.2,7
3,joined here?,3,30,54,10,0.6,1
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
    session.close()
    with (tmp_path / "eye_journal.jsonl").open("a") as file:
        file.write('{"op": "cut", "a": 3')  # the crash
    again = reopen(tmp_path)
    assert state(again) == expected and again.answers == session.answers and again.doubt == session.doubt
    assert again.redo() and again.forest.positions(2)[2].tolist() == [31.25, 18]
    assert journal(tmp_path)[-1] == {"op": "redo"}


def test_opening_alone_leaves_nothing(session, tmp_path):
    session.close()
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
def test_a_journal_counts_up_to_the_line_that_does_not_fit(session, tmp_path, line):
    session.cut(2, 3)
    expected, path = state(session), tmp_path / "eye_journal.jsonl"
    whole = path.read_text()
    for copy in ("eye_journal_backup.jsonl", "eye_journal_backup_2.jsonl"):
        broken = f'{whole}{line}\n{{"op": "move", "node": 3, "position": [1, 1]}}\n'
        path.write_text(broken)
        again = reopen(tmp_path)
        assert state(again) == expected and path.read_text() == whole
        assert (tmp_path / copy).read_text() == broken
        (note,) = again.notes
        assert f"lines 3 to 4 were left out, all of it is kept as {copy}; line 3 does not fit: " in note
        assert "\n" not in note
    assert again.undo() and not reopen(tmp_path).notes


def test_a_trace_is_open_only_once(session, tmp_path):
    paths = tmp_path / "eye.tif", tmp_path / "eye.swc"
    with pytest.raises(UserError, match=r"eye_journal\.jsonl: this trace is open in another window"):
        Session.open(*paths)
    session.cut(2, 3)
    session.close()
    again = Session.open(*paths)
    assert state(again) == state(session)
    with pytest.raises(UserError, match="was closed"):
        session.cut(3, 4)
    del again
    assert len(Session.open(*paths).forest) == len(session.forest)


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_a_killed_process_holds_nothing(session, tmp_path):
    session.close()
    code = (
        "import sys, time; from pathlib import Path; from tools.proofreading.journal import Journal;"
        "journal = Journal(Path(sys.argv[1])); print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "eye.swc"], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        with pytest.raises(UserError, match="is open in another window"):
            reopen(tmp_path)
        other.kill()
    reopen(tmp_path).cut(2, 3)


def test_what_is_deleted_is_not_asked_until_that_is_undone(session):
    """Rank 1 is in the tree that goes, and so is none of the others."""
    assert session.next_doubt() is session.queue[0] and session.next_doubt() is session.queue[1]
    session.delete(12)
    assert session.answers == {1: "deleted"}
    assert session.previous_doubt() is None
    assert session.next_doubt() is session.queue[2] and session.next_doubt() is session.queue[1]
    session.undo()
    assert session.answers == {} and session.previous_doubt() is session.queue[0]


def test_a_join_is_not_asked_when_its_branch_is_deleted(tmp_path):
    """A join lies at a fork, which stays when the branch goes; a cut in the middle of the branch leaves it open."""
    places = [(30, 10), (30, 20), (30, 30), (25, 35), (20, 40), (15, 45), (35, 35), (40, 40)]
    tree = SwcForest.from_positions(places, [-1, 0, 1, 2, 3, 4, 2, 6], types=2)
    (tmp_path / "eye_branches.csv").write_text("id,begin_node,end_node\n1,1,3\n2,3,6\n3,3,8\n")
    review = "rank,question,branch,node,x,y,confidence,gain\n1,joined here?,2,3,30,30,0.4,1\n"
    review += "2,joined here?,2,4,35,25,0.4,1\n"
    session = make(tmp_path, SHAPE, TUBES, [tree], review=review)
    assert session.queue[0].beside == 4 and session.queue[1].beside is None
    assert [doubt.words for doubt in session.queue] == [JOIN, INSIDE]
    session.cut(5, 6)  # no answer, as no doubt is shown
    assert session.answers == {}
    session.undo()
    session.delete(6)
    assert session.answers == {1: "deleted", 2: "deleted"} and 3 in session.forest.ids
    assert session.next_doubt() is None
    session.undo()
    assert session.answers == {} and session.next_doubt() is session.queue[0]


def test_undo_and_redo_go_back_to_the_doubt(session, tmp_path):
    session.next_doubt()
    session.accept()
    session.next_doubt()
    undone = session.undo()
    assert undone is not None
    assert (undone.name, undone.doubt) == ("accept", 1)
    assert session.doubt is session.queue[0] and session.answers == {}
    again = reopen(tmp_path)
    assert again.doubt is again.queue[0] and again.next_doubt() is again.queue[1]
    assert again.redo() == undone and again.doubt is again.queue[0] and again.redo() is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rank,question\n1,real?\n", "column 'x' is missing"),
        (REVIEW.replace("0.4", "much"), "line 2"),
        (REVIEW.replace("\n2,", "\n1,"), "a rank occurs twice"),
        (REVIEW.replace(",9,", ",99,"), "line 2: node 99 is not in the trace; the queue is that of another"),
        (REVIEW.replace(",42,", ",44,"), r"line 2: node 9 lies at 30.0, 42.0 in the trace, not at 30.0, 44.0"),
        (REVIEW.replace(",42,", ",nan,"), "line 2: .* must be finite"),
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


@pytest.mark.parametrize(
    ("shape", "trees", "complaint"),
    [
        (SHAPE, [], "holds no nodes"),
        (
            SHAPE,
            [line((90, 10), (90, 42)), line((30, 10), (30, 20))],
            r"9 of 12 nodes lie outside .*\(60 x 120 pixels\)",
        ),
        ((4, *SHAPE), [line((0, 30, 10), (0, 30, 42))], "is flat .*eye.tif has 4 slices"),
    ],
)
def test_a_trace_of_another_image_is_refused(tmp_path, shape, trees, complaint):
    with pytest.raises(UserError, match=complaint) as refused:
        make(tmp_path, shape, [[[0.0] * len(shape), [size - 1.0 for size in shape]]], trees)
    assert "\n" not in str(refused.value)


def test_a_part_of_a_trace_may_lie_outside(tmp_path):
    assert make(tmp_path, SHAPE, TUBES, [line((30, 10), (30, 42)), line((90, 10), (90, 20))])


def test_what_is_missing_or_assumed_is_said(session, tmp_path):
    assert session.notes == []
    (tmp_path / "eye_centerline.tif").unlink()
    text = (tmp_path / "eye.swc").read_text()
    (tmp_path / "eye.swc").write_text("".join(row for row in text.splitlines(keepends=True) if row[0] != "#"))
    missing, assumed = reopen(tmp_path).notes
    assert "eye_centerline.tif: is not there, so pieces are drawn on the image itself" in missing
    assert "0 is the centre of the first pixel (--swc_origin) and the unit is a pixel of the image" in assumed


def test_every_record_is_json_of_its_own(session, tmp_path):
    session.next_doubt()
    session.draw(9, (30, 60))
    head, look, draw = journal(tmp_path)
    assert head["trace"] == "eye.swc" and look == {"op": "look", "doubt": 1}
    assert draw["op"] == "draw" and draw["tip"] == 9 and len(draw["path"]) == len(draw["radius"])
    assert json.loads(json.dumps(draw)) == draw
