"""The evaluate script: pairs, table, output files and error messages."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evaluate
from lib.errors import UserError
from lib.klib.drawing import draw_edges
from lib.klib.image_io import write_png

LINE = "1 0 0 0 0 1 -1\n2 0 10 0 0 1 1\n"
SHIFTED = "1 0 0 1 0 1 -1\n2 0 10 1 0 1 1\n"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    gold, test = tmp_path / "gold", tmp_path / "test"
    gold.mkdir()
    test.mkdir()
    for name in ("01_manual1", "02", "03.v2", "11_manual1"):
        (gold / f"{name}.swc").write_text(LINE)
    for name, text in (("01", LINE), ("02", SHIFTED), ("03", "# nothing found\n"), ("1", LINE)):
        (test / f"{name}.swc").write_text(text)
    return gold, test


def test_two_files(folders, capsys):
    gold, test = folders
    assert evaluate.main([str(gold / "02.swc"), str(test / "02.swc")]) == 0
    out = capsys.readouterr().out
    assert f"gold: {gold / '02.swc'}\ntest: {test / '02.swc'}\nprotocol paper" in out
    assert [line.split()[:4] for line in out.splitlines() if line.split()[:1] in (["02"], ["mean"])] == [
        ["02", "1.000", "1.000", "1.000"],
        ["mean", "1.000", "1.000", "1.000"],
    ]


def test_two_folders_with_json_and_csv(folders, tmp_path, capsys):
    gold, test = folders
    evaluate.main([str(gold), str(test), "--json", str(tmp_path / "a.json"), "--csv", str(tmp_path / "a.csv")])
    report = json.loads((tmp_path / "a.json").read_text())
    assert list(report["cases"]) == ["01", "02", "03"]
    assert report["cases"]["01"]["PE"] == 0 and report["cases"]["02"]["PE"] == 1
    assert report["cases"]["03"]["PE"] is None and report["cases"]["03"]["SSD_F1"] == 0
    assert report["mean"]["SSD_F1"] == pytest.approx(2 / 3) and report["mean"]["PE"] == 0.5
    assert report["protocol"] == "paper" and report["threshold"] == 2
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert [row["case"] for row in rows] == ["01", "02", "03", "mean"] and rows[2]["PE"] == ""
    err = capsys.readouterr().err
    assert f"note: 2 files without a partner, not scored: {gold / '11_manual1.swc'}, {test / '1.swc'}\n" in err
    assert "03.swc is an empty trace" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{gold} {test}/01.swc", "two files or two folders"),
        ("{gold}/none.swc {test}/01.swc", "no such file"),
        ("{gold}/02.swc {test}/02.swc --threshold 0", "--threshold is 0"),
        ("{gold}/02.swc {test}/02.swc --spacing 1,2,3,4", "--spacing is '1,2,3,4'"),
        ("{gold}/02.swc {test}/02.swc --protocol other", "--protocol must be paper or experiment or closed"),
        ("{gold}/02.swc {test}/02.swc --json {gold}/02.swc/a.json", "cannot be written"),
        ("{test}/03.swc {test}/02.swc", "no nodes in this file"),
        ("{gold} {empty}", "no SWC files"),
        ("{gold}/02.swc {test}/02.swc --threshold far", "--threshold must be a number, got far"),
        ("{gold}/02.swc {test}/02.swc --treshold 3", "unknown option --treshold; did you mean --threshold?"),
        ("{gold}/02.swc {test}/02.swc --close_radius -1", "--close_radius is -1; give a number above 0"),
        ("{gold}/02.swc {test}/02.swc --images {gold}", "give --picture DIR too"),
        ("{gold}/02.swc {test}/02.swc --picture {empty} --images {empty}", "no image in this folder"),
        ("{gold} {test} --picture {empty} --images {gold}/02.swc", "is one file, .*02.swc, but there are 3 pairs"),
        ("{gold}/02.swc {test}/02.swc --swc_origin middle", "--swc_origin must be corner or centre"),
        ("{gold}/02.swc {test}/02.swc more", "unexpected word 'more'"),
        ("{gold}/02.swc", "^TEST is missing; see --help$"),
        ("", "^GOLD and TEST are missing; see --help$"),
    ],
)
def test_error_messages(folders, tmp_path, arguments, message):
    gold, test = folders
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        evaluate.main(arguments.format(gold=gold, test=test, empty=tmp_path / "empty").split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 0 5 5 0 1 -1\n", r"gold\.swc: this gold tree has 1 node and no edge"),
        ("1 0 0 0 0 1 -1\n2 0 nan 0 0 1 1\n", r"gold\.swc, line 2: x is nan, not a finite number"),
        ("", r"gold\.swc: no nodes in this file"),
    ],
)
def test_unusable_gold_files(tmp_path, text, message):
    (tmp_path / "gold.swc").write_text(text)
    (tmp_path / "test.swc").write_text(LINE)
    with pytest.raises(UserError, match=message):
        evaluate.main([str(tmp_path / "gold.swc"), str(tmp_path / "test.swc")])


def test_a_trace_of_one_node_is_scored(folders, tmp_path, capsys):
    (tmp_path / "02.swc").write_text("1 0 5 0 0 1 -1\n")
    evaluate.main([str(folders[0] / "02.swc"), str(tmp_path / "02.swc"), "--json", str(tmp_path / "a.json")])
    row = json.loads((tmp_path / "a.json").read_text())["cases"]["02"]
    assert (row["coverage"], row["on_gold"], row["JE"], row["L_F1"]) == (0, None, 0, 0)
    assert "02.swc has 1 node and no edge" in capsys.readouterr().err


def random_walk(path: Path, scale: float = 1.0, shift: float = 0.0) -> str:
    """A walk in all directions with 24 steps of 25 pixels, so that edges cross both axes."""
    turns = np.random.default_rng(5).uniform(0, 2 * np.pi, 24)
    steps = 25 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    points = np.cumsum(steps, axis=0) * scale + shift
    lines = [f"{k + 1} 0 {x} {y} 0 1 {k or -1}" for k, (x, y) in enumerate(points)]
    path.write_text("\n".join(lines))
    return str(path)


def test_many_files_without_a_partner_take_one_line(folders, capsys):
    gold, test = folders
    for number in range(20, 27):
        (gold / f"{number}.swc").write_text(LINE)
    evaluate.main([str(gold), str(test)])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "partner" in line]
    assert line.startswith("note: 9 files without a partner") and line.endswith(f"{gold / '21.swc'} and 6 more")


@pytest.mark.parametrize("stated", [("corner", "centre"), ("centre", "corner"), ("corner", None)])
def test_origins_in_the_heads_of_both_files_are_followed(tmp_path, stated):
    walk = random_walk(tmp_path / "walk.swc"), random_walk(tmp_path / "shifted.swc", 1.0, 0.5)
    names = ("gold", "test")
    for name, origin in zip(names, stated, strict=True):
        text = Path(walk[origin == "corner"]).read_text()
        head = f"# units: image pixels; 0 is the {origin} of the first pixel\n" if origin else ""
        (tmp_path / f"{name}.swc").write_text(head + text)
    options = evaluate.parse_arguments([str(tmp_path / f"{name}.swc") for name in names])
    case = evaluate.score_files(options.gold, options.test, options)
    apart = 0.0 if None not in stated else 0.5
    assert np.abs(case.gold.xyz - case.test.xyz)[:, :2] == pytest.approx(apart)


@pytest.mark.parametrize(
    ("scale", "shift", "message"),
    [
        (2.0, 0.0, "looks scaled by 2 against the gold"),
        (0.5, 0.0, "looks scaled by 0.5 against"),
        (1.0, 0.5, r"looks shifted by \+0\.[45]\d, \+0\.[45]\d pixels"),
        (1.0, -0.5, r"looks shifted by -0\.[45]\d, -0\.[45]\d pixels"),
        (1.0, 900.0, "nothing of the test lies near the gold"),
        (1.0, 0.1, None),
    ],
)
def test_different_coordinates_give_a_warning(tmp_path, capsys, scale, shift, message):
    gold, test = random_walk(tmp_path / "gold.swc"), random_walk(tmp_path / "test.swc", scale, shift)
    evaluate.main([gold, test, "--json", str(tmp_path / "a.json")])
    warnings = json.loads((tmp_path / "a.json").read_text())["warnings"]
    err = capsys.readouterr().err
    if message is None:
        assert warnings == [] and err == ""
    else:
        (line,) = warnings
        assert re.search(message, line) and line.startswith("test: ")
        assert err == f"warning: {line}\n"


def test_json_holds_files_options_and_all_numbers(folders, tmp_path):
    gold, test = folders
    evaluate.main([str(gold), str(test), "--json", str(tmp_path / "a.json"), "--close_radius", "4"])
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["pairs"]["01"] == {"gold": str(gold / "01_manual1.swc"), "test": str(test / "01.swc")}
    assert report["unpaired"] == [str(gold / "11_manual1.swc"), str(test / "1.swc")]
    assert (report["close_radius"], report["close_length"], report["warnings"]) == (4, 20, [])
    wanted = {"SSD_F1", "SSD_precision", "SSD_recall", "L_F1", "L_precision", "L_recall", "PE", "PE_matched_fraction"}
    wanted |= {"ABL", "JE", "coverage", "on_gold", "ends_F1", "forks_F1", "paths_F1", "breaks", "false_merges"}
    assert wanted <= set(report["cases"]["01"]) and set(report["mean"]) == set(report["cases"]["01"])


def test_error_pictures(folders, tmp_path, capsys):
    gold, test = folders
    (tmp_path / "images").mkdir()
    Image.new("RGB", (30, 20), "gray").save(tmp_path / "images" / "01.png")
    arguments = [str(gold), str(test), "--picture", str(tmp_path / "pictures"), "--images", str(tmp_path / "images")]
    evaluate.main(arguments)
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["01.png", "02.png", "03.png"]
    centre = np.asarray(Image.open(tmp_path / "pictures" / "01.png"))
    err = capsys.readouterr().err
    assert "no image for 02" in err and "no image for 01" not in err
    evaluate.main([*arguments, "--swc_origin", "corner"])
    assert (np.asarray(Image.open(tmp_path / "pictures" / "01.png")) != centre).any()


def test_drawing_libraries_load_only_for_pictures():
    script = "import sys, evaluate; print([n for n in ('matplotlib', 'skimage', 'torch') if n in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(Path(evaluate.__file__).parent)}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout == "[]\n"


def test_a_name_that_matches_two_gold_files(folders):
    gold, test = folders
    (gold / "01_manual2.swc").write_text(LINE)
    with pytest.raises(UserError, match=r"01_manual1\.swc, 01_manual2\.swc"):
        evaluate.main([str(gold), str(test)])


def test_no_matching_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.swc").write_text(LINE)
    with pytest.raises(UserError, match="name traces like their gold"):
        evaluate.main([str(tmp_path / "a"), str(tmp_path / "b")])


def test_parse_spacing():
    assert evaluate.parse_spacing("0.5") == [0.5] and evaluate.parse_spacing("[1, .3,.3]") == [1, 0.3, 0.3]


@pytest.mark.parametrize("words", [["1", "2", "2"], ["1,2,2"]])
def test_spacing_as_one_word_or_several(folders, tmp_path, words):
    gold, test = folders
    evaluate.main([str(gold), str(test), "--spacing", *words, "--json", str(tmp_path / "a.json")])
    assert json.loads((tmp_path / "a.json").read_text())["spacing"] == [1, 2, 2]


def test_an_error_is_one_line_and_exit_code_2():
    script = Path(evaluate.__file__)
    environment = {**os.environ, "PYTHONPATH": str(script.parent)}
    result = subprocess.run(
        [sys.executable, script, "none.swc", "none.swc"], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == "error: none.swc: no such file or folder; check the name\n"


def test_kinds_add_columns_and_marks(tmp_path, capsys):
    """A trace turns off at a crossing of two tubes; both files say that 0 is the corner of the first pixel."""
    lines = np.array([[[50.0, 20], [50, 140]]]), np.array([[[10.0, 80], [95, 80]]])
    one, two = (draw_edges(line, 2.5, (100, 160)) for line in lines)
    (tmp_path / "av").mkdir()
    write_png(tmp_path / "av" / "01.png", np.where(one & two, 3, one + 2 * two).astype(np.uint8))
    gold, test = tmp_path / "gold.swc", tmp_path / "01.swc"
    gold.write_text("1 0 20.5 50.5 0 1 -1\n2 0 140.5 50.5 0 1 1\n3 0 80.5 10.5 0 1 -1\n4 0 80.5 95.5 0 1 3\n")
    test.write_text("1 0 20.5 50.5 0 1 -1\n2 0 80.5 50.5 0 1 1\n3 0 80.5 95.5 0 1 2\n")
    words = [str(gold), str(test), "--swc_origin", "corner", "--kinds", str(tmp_path / "av")]
    results = ["--json", str(tmp_path / "scores.json"), "--picture", str(tmp_path / "pictures")]
    assert evaluate.main([*words, *results]) == 0
    assert "changes  purity  straight   held" in capsys.readouterr().out
    row = json.loads((tmp_path / "scores.json").read_text())["cases"]["01"]
    assert row["kind_changes"] == 1 and row["crossings_straight"] is None and row["crossings_held"] == 0
    picture = np.asarray(Image.open(tmp_path / "pictures" / "01.png"))
    pink = (abs(picture.astype(int) - [255, 157, 219]) < 50).all(axis=2)
    assert pink.any()
    (tmp_path / "av" / "01.png").rename(tmp_path / "av" / "02.png")
    with pytest.raises(UserError, match=r"holds no image of kinds for 01\.swc"):
        evaluate.main(words)


MICRONS = '# Meta: {"coordinates": "um", "origin": "centre", "voxel_size_um": "0.5 0.5 2"}\n'


@pytest.mark.parametrize(("gold", "test", "note"), [
    (LINE, MICRONS + "1 2 0 0 0 1 -1\n2 2 5 0 0 1 1\n", "02.swc does not name its unit: taken as voxels"),
    ('# Meta: {"coordinates": "voxel"}\n' + LINE, MICRONS + "1 2 0 0 0 1 -1\n2 2 5 0 0 1 1\n", ""),
    (MICRONS + "1 2 0 0 0 1 -1\n2 2 5 0 0 1 1\n", '# Meta: {"coordinates": "voxel"}\n' + LINE, ""),
    (MICRONS + "1 2 0 0 0 1 -1\n2 2 5 0 0 1 1\n", MICRONS + "1 2 0 0 0 1 -1\n2 2 5 0 0 1 1\n", ""),
    ('# Meta: {"units": "1 micrometer"}\n' + LINE, '# Meta: {"units": "micron"}\n' + LINE, ""),
    ('# Meta: {"units": "um"}\n1 2 0 0 0 1 -1\n2 2 5 0 0 1 1\n', MICRONS + "1 2 0 0 0 1 -1\n2 2 5 0 0 1 1\n", ""),
])  # fmt: skip
def test_micrometres_become_voxels(tmp_path, capsys, gold, test, note):
    for folder, text in (("gold", gold), ("test", test)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "02.swc").write_text(text)
    words = [str(tmp_path / folder / "02.swc") for folder in ("gold", "test")]
    evaluate.main([*words, "--json", str(tmp_path / "a.json")])
    row = json.loads((tmp_path / "a.json").read_text())["mean"]
    assert row["SSD_F1"] == 1 and row["PE"] == 0
    assert capsys.readouterr().err.endswith(f"{note}\n" if note else "")


def test_micrometres_without_the_size_of_a_voxel_are_refused(folders, tmp_path):
    test = tmp_path / "um.swc"
    test.write_text('# Meta: {"units": "1 micrometer"}\n' + LINE)
    with pytest.raises(
        UserError, match=r"um\.swc: is in micrometres, and the size of a voxel is unknown, and the other"
    ):
        evaluate.main([str(folders[0] / "02.swc"), str(test)])


def test_an_edge_that_is_far_too_long_is_refused(tmp_path, capsys):
    (tmp_path / "gold.swc").write_text("1 2 0 0 0 1 -1\n2 2 9 0 0 1 1\n")
    (tmp_path / "test.swc").write_text("1 2 0 0 0 1 -1\n2 2 1e20 0 0 1 1\n")
    with pytest.raises(UserError, match=r"test.swc: node 2 lies 1e\+20 from its parent; correct its coordinates"):
        evaluate.main([str(tmp_path / "gold.swc"), str(tmp_path / "test.swc")])


def test_roads_are_scored_as_networks_with_the_loops_of_the_trace(tmp_path, capsys):
    """The trace goes around a block and ends 9 px before its beginning; its JSON says that it closes there."""
    corners = [(0, 0), (100, 0), (100, 100), (0, 100)]

    def swc(places: list[tuple[int, int]]) -> str:
        return "".join(f"{n} 2 {x} {y} 0 1 {n - 1 or -1}\n" for n, (x, y) in enumerate(places, start=1))

    (tmp_path / "gold.swc").write_text(swc([*corners, (0, 1)]))
    (tmp_path / "test.swc").write_text(swc([*corners, (0, 20)]))
    argv = [str(tmp_path / "gold.swc"), str(tmp_path / "test.swc"), "--graph", "--json", str(tmp_path / "a.json")]
    evaluate.main(argv)
    assert re.search(r"APLS +TOPO-F1", capsys.readouterr().out)
    opened = json.loads((tmp_path / "a.json").read_text())["mean"]
    loop = {"from": [0, 20, 0], "to": [0, 0, 0]}
    (tmp_path / "test.json").write_text(json.dumps({"loops_left_open": [loop]}))
    evaluate.main(argv)
    closed = json.loads((tmp_path / "a.json").read_text())["mean"]
    assert closed["APLS"] == pytest.approx(1, abs=0.01) and closed["TOPO_F1"] == pytest.approx(1, abs=0.02)
    assert opened["APLS"] < 0.8 and closed["SSD_F1"] == opened["SSD_F1"]
