"""Reading, refusing and writing SWC files."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from lib import VERSION
from lib.errors import UserError
from lib.swclib import SwcForest, read_swc, write_swc


def read_text(folder: Path, text: str | bytes, **options) -> SwcForest:
    path = folder / "tree.swc"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_swc(path, **options)


def test_reads_unusual_files(tmp_path):
    text = (
        "\ufeff# made by hand\r\n\r\n"
        "7 2 1.5 2.5 0 1 3\r\n"  # parent after child, ids with gaps
        "  3.0 1 0 0 0 2 -1 extra columns 9 # and a comment\r\n"
        "9,3, 5,5,5, 0.5, -1\n"
        "\t11\t3\t6\t5\t5\t1e-1\t9.0"
    )
    forest = read_text(tmp_path, text)
    assert forest.ids.tolist() == [3, 7, 9, 11]
    assert forest.types.tolist() == [1, 2, 3, 3]
    assert forest.parent.tolist() == [-1, 0, -1, 2]
    assert forest.xyz.tolist() == [[0, 0, 0], [1.5, 2.5, 0], [5, 5, 5], [6, 5, 5]]
    assert forest.radius.tolist() == [2, 1, 0.5, 0.1]
    assert forest.file_order.tolist() == [1, 0, 2, 3]


def test_comments_may_be_in_another_encoding(tmp_path):
    assert len(read_text(tmp_path, "# Ramón\n1 0 0 0 0 1 -1\n".encode("latin-1"))) == 1


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("1 0 0 0 0 1 -1\n2 0 0 0 0 1 5\n", 2, "parent 5 of node 2 is not in the file"),
        ("1 0 0 0 0 1 -1\n2 0 0 0 0 1 -2\n", 2, "parent -2 of node 2 is not in the file"),
        ("1 0 0 0 0 1 -1\n\n1 0 0 0 0 1 -1\n", 3, "id 1 is already used in line 1"),
        ("1 0 0 0 0 1 -1\n2 0 0 0 0 1 3\n3 0 0 0 0 1 2\n", 2, "form a cycle"),
        ("# head\n4 0 0 0 0 1 4\n", 2, "its own parent"),
        ("1 0 0 nan 0 1 -1\n", 1, "y is nan, not a finite number"),
        ("1 0 0 0 -inf 1 -1\n", 1, "z is -inf, not a finite number"),
        ("1 0 0 0 0 -3 -1\n", 1, "radius is -3, negative"),
        ("1 0 0 0 0 1\n", 1, "6 columns ('1 0 0 0 0 1')"),
        ("1 0 0\v0 0\x1c1\n", 1, "6 columns ('1 0 0 0 0 1')"),
        ("1 0 0 0 zero 1 -1\n", 1, "z is 'zero', not a number"),
        ("1.5 0 0 0 0 1 -1\n", 1, "id is 1.5, not a whole number"),
        ("1e300 0 0 0 0 1 -1\n", 1, "id is 1e+300, not a whole number"),
        ("-1 0 0 0 0 1 -1\n", 1, "id is -1, negative"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path, text, line, found):
    with pytest.raises(UserError) as error:
        read_text(tmp_path, text)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'tree.swc'}, line {line}: ")
    assert found in message
    assert "; " in message and "\n" not in message  # one line with advice


@pytest.mark.parametrize(
    ("data", "found"),
    [(b"", "no nodes"), (b"# only a comment\n", "no nodes"), (b"\x89PNG\r\n\x1a\n\0\0\0", "not a text file")],
)
def test_refuses_a_file_without_nodes(tmp_path, data, found):
    with pytest.raises(UserError, match=found):
        read_text(tmp_path, data)


def test_refuses_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(UserError, match=r"none\.swc: no such file"):
        read_swc(tmp_path / "none.swc")
    with pytest.raises(UserError, match="is a folder"):
        read_swc(tmp_path)


def test_write_then_read(tmp_path):
    forest = SwcForest.from_positions([[1.23456, -0.00001], [3, 4], [5, 6]], [-1, 0, -1], [0.5, 1, 2], [1, 2, 3])
    path = tmp_path / "out.swc"
    write_swc(path, forest, comment=["units: pixel", "origin: centre\nof the first pixel"])
    lines = path.read_text().splitlines()
    assert lines[0] == f"# NETracer {VERSION}"
    assert lines[1:4] == ["# units: pixel", "# origin: centre", "# of the first pixel"]
    assert lines[-3:] == [
        "1 1 0.0000 1.2346 0.0000 0.5000 -1",
        "2 2 4.0000 3.0000 0.0000 1.0000 1",
        "3 3 6.0000 5.0000 0.0000 2.0000 -1",
    ]
    again = read_swc(path)
    np.testing.assert_allclose(again.xyz, forest.xyz, atol=1e-3)
    np.testing.assert_allclose(again.radius, forest.radius, atol=1e-3)
    assert again.parent.tolist() == forest.parent.tolist() and again.types.tolist() == forest.types.tolist()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.swc"]


def test_an_empty_trace_is_only_a_header(tmp_path):
    path = tmp_path / "empty.swc"
    write_swc(path, SwcForest.empty())
    assert all(line.startswith("#") for line in path.read_text().splitlines())
    assert len(read_swc(path, allow_empty=True)) == 0
    with pytest.raises(UserError, match="no nodes"):
        read_swc(path)


def test_a_failed_write_leaves_no_file(tmp_path):
    folder = tmp_path / "taken.swc"
    folder.mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "such.swc", folder):
        with pytest.raises(UserError, match="cannot be written"):
            write_swc(path, SwcForest.empty())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "taken.swc"]


def test_large_files_are_fast(tmp_path):
    n = 100_000
    rng = np.random.default_rng(0)
    forest = SwcForest.from_positions(rng.uniform(0, 1000, (n, 3)), rng.integers(-1, np.arange(n)))
    start = time.process_time()
    write_swc(tmp_path / "large.swc", forest)
    again = read_swc(tmp_path / "large.swc")
    assert time.process_time() - start < 3  # seconds; about 0.8 in practice
    assert (again.parent == forest.parent).all()
