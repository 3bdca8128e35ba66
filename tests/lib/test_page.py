"""The page of a trace, as text; ``test_page_in_browser.py`` opens it."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from lib.errors import UserError
from lib.formats.page import DOUBTS, page_content, write_page
from tests.lib.test_formats import LOOPS, NODES, graph

DARK = np.zeros((12, 20, 3), np.uint8)
DOUBT = {"rank": 1, "question": "real?", "branch": 2, "node": 4, "x": 10.0, "y": 2.0, "confidence": 0.25, "gain": 7.5}


def read(path: Path) -> dict:
    """The data in a page, found as a browser finds it."""
    found = re.search(r'<script id="content" type="application/json">(.*?)</script', path.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def unpacked(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def picture_of(content: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content["picture"]["jpeg"]))))


@pytest.mark.parametrize("ndim", [2, 3])
def test_lines_are_those_of_the_graph_with_its_loops(tmp_path, ndim):
    trace = graph(ndim)
    write_page(tmp_path / "eye.html", np.zeros((*(9, 12, 20)[-ndim:], 1), np.float32), trace)
    assert [each.name for each in tmp_path.iterdir()] == ["eye.html"]
    content = read(tmp_path / "eye.html")
    nodes, places = unpacked(content["nodes"], "<u4"), unpacked(content["places"], "<f4").reshape(-1, ndim)
    assert nodes.tolist() == [*map(len, trace.branches), 2, 2]
    wanted = np.concatenate([NODES[rows] for rows in [*trace.branches, *LOOPS]])
    assert places[:, :2].tolist() == wanted[:, ::-1].tolist()  # pixel centres, as the corners of the picture are
    assert ndim == 2 or (places[:, 2] == 3).all()
    assert content["table"]["closes_loop"] == [False] * len(trace.branches) + [True] * 2
    assert content["picture"]["corners"] == [[-0.5] * ndim, [19.5, 11.5, 8.5][:ndim]]


def test_voxels_that_are_no_cubes_have_their_shape():
    content = page_content(np.ones((9, 12, 20), np.uint8), graph(3, voxel_size=(1.0, 0.5, 0.25)), [{**DOUBT, "z": 3}])
    assert unpacked(content["places"], "<f4")[:3].tolist() == [2, 4, 12]
    assert content["picture"]["corners"] == [[-0.5, -1, -2], [19.5, 23, 34]]
    assert content["doubts"][0]["place"] == [10, 4, 12]


def test_a_photograph_keeps_its_colours_and_a_volume_shows_its_greatest_values():
    photograph = np.zeros((40, 60, 3))
    photograph[:20, :, 0] = 1
    shown = picture_of(page_content(photograph, graph()))
    assert shown.shape == (40, 60, 3)
    assert abs(shown[5, 30] - np.array([255.0, 0, 0])).max() < 4 and shown[35, 30].max() < 4
    volume = np.zeros((5, 40, 60, 1), np.uint8)
    volume[3, :, 30:] = 100
    shown = picture_of(page_content(volume, graph(3)))
    assert shown.shape == (40, 60) and shown[20, 10] < 4 and shown[20, 50] > 251


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_picture_made_smaller_covers_the_same_place(ndim):
    whole = page_content(np.zeros((*(8, 40, 60)[-ndim:], 1), np.float32), graph(ndim))["picture"]["corners"]
    small = page_content(np.zeros((*(4, 10, 15)[-ndim:], 1), np.float32), graph(ndim), (), (0.5, 0.25, 0.25)[-ndim:])
    assert small["picture"]["corners"] == whole


def test_names_cannot_end_the_script(tmp_path):
    name = "</script><script>alert('{{viewer}}')</script><!-- \u2028 &amp;"
    rows = [{**row, "kind": name} for row in graph().table]
    trace = replace(graph(), name=name, origin=name, table=rows)
    write_page(tmp_path / "eye.html", DARK, trace, [{**DOUBT, "question": name}])
    content = read(tmp_path / "eye.html")
    assert content["name"] == content["origin"] == content["doubts"][0]["question"] == name
    assert content["table"]["kind"][0] == name
    text = (tmp_path / "eye.html").read_text()
    assert "alert(" in text and "<script>alert(" not in text and text.count("</script") == 3


def test_nothing_is_loaded(tmp_path):
    write_page(tmp_path / "eye.html", DARK, graph())
    text = (tmp_path / "eye.html").read_text()
    template = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(src|href)=|url\(|@import|\{\{", template) and "default-src 'none'" in template


def test_without_confidence_there_is_neither_its_column_nor_a_queue():
    rows = [{**row, "confidence": None} for row in graph().table]
    content = page_content(DARK, replace(graph(), table=rows))
    assert "confidence" not in content["table"] and content["doubts"] == [] and content["doubts_in_all"] == 0


def test_numbers_of_every_kind_become_json():
    rows = [{**row, "confidence": np.float32(0.5), "angle_deg": np.nan} for row in graph().table]
    content = page_content(DARK, replace(graph(), table=rows), [{**DOUBT, "gain": np.float64("inf"), "x": np.int64(3)}])
    assert content["table"]["confidence"][0] == 0.5 and "angle_deg" not in content["table"]
    assert content["doubts"][0]["gain"] is None and content["doubts"][0]["place"] == [3, 2]
    json.dumps(content, allow_nan=False)


def test_a_long_queue_is_cut():
    content = page_content(DARK, graph(), [{**DOUBT, "rank": rank} for rank in range(DOUBTS + 5)])
    assert len(content["doubts"]) == DOUBTS and content["doubts_in_all"] == DOUBTS + 5


@pytest.mark.parametrize("ndim", [2, 3])
def test_an_empty_trace_has_a_page(tmp_path, ndim):
    whole = graph(ndim)
    empty = replace(
        whole, forest=type(whole.forest).empty(), branches=[], table=[], loops=LOOPS[:0], probability=np.zeros(0)
    )
    write_page(tmp_path / "eye.html", np.zeros((9, 12, 20)[-ndim:], np.uint8), empty)
    content = read(tmp_path / "eye.html")
    assert content["nodes"] == content["places"] == "" and content["table"] == {}


def test_the_page_of_a_photograph_is_small(tmp_path):
    write_page(tmp_path / "eye.html", data.retina(), graph())
    size = (tmp_path / "eye.html").stat().st_size
    assert 600_000 < size < 5_000_000
    assert picture_of(read(tmp_path / "eye.html")).shape == (1411, 1411, 3)


def test_a_folder_that_cannot_be_written_is_a_message(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"eye\.html: cannot be written"):
        write_page(tmp_path / "file" / "eye.html", DARK, graph())
