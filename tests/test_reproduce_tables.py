"""The table script: its files, which traces it reuses, and its messages where something is missing."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from tqdm import tqdm

import reproduce_tables
from lib.errors import UserError
from lib.swclib import write_swc
from tests.tools.tables.tables_data import TubePredictor, gold, install, write_dataset, write_weights
from tools.cli import run
from tools.tables import run as run_module
from tools.tables import traces
from tools.tables.bench import Bench


@pytest.fixture
def root(tmp_path) -> Path:
    """A data folder with a tiny DRIVE."""
    write_dataset(tmp_path / "data", "DRIVE")
    return tmp_path / "data"


@pytest.fixture
def predictor(monkeypatch, tmp_path) -> type[TubePredictor]:
    """The predictor class of all jobs; the source hash stays the same while a test runs."""
    write_weights(tmp_path / "weights")
    monkeypatch.setattr(traces, "source_hash", lambda *modules: "this")
    return install(monkeypatch, tmp_path / "weights")


def make(root: Path, *words: str, datasets: str = "DRIVE", methods: str = "netracer gold") -> Path:
    """Run the script without pictures and return its folder."""
    out = root.parent / "out"
    argv = ["--data_root", root, "--out", out, "--datasets", *datasets.split(), "--methods", *methods.split()]
    assert reproduce_tables.main([str(word) for word in [*argv, "--pictures=false", "--device", "cpu", *words]]) == 0
    return out


def rows(out: Path) -> list[dict[str, str]]:
    """Lines of the CSV file."""
    with (out / "tables.csv").open() as file:
        return list(csv.DictReader(file))


# ---- output ----------------------------------------------------------------------------------------------------------


def test_scores_of_every_image_their_mean_and_the_published_mean(root, predictor, capsys):
    out = make(root)
    lines = {(row["method"], row["image"]): row for row in rows(out)}
    assert set(lines) == {*((m, i) for m in ("netracer", "gold") for i in ("01", "02", "mean")), ("published", "mean")}
    assert float(lines["netracer", "01"]["SSD_F1"]) > 0.95 and lines["netracer", "mean"]["weights"] == "DRIVE weights"
    assert lines["published", "mean"]["SSD_F1"] == "0.925" and lines["published", "mean"]["coverage"] == ""
    assert float(lines["gold", "01"]["ABL"]) == pytest.approx(50) and lines["gold", "01"]["seconds"] == ""
    header = (out / "tables.csv").read_text().splitlines()[0].split(",")
    assert header.index("coverage") == header.index("ABL") + 1
    assert {"PE_experiment", "JE_experiment", "JE_closed", "breaks_closed", "SSD_gold_nodes"} <= set(header)
    text = (out / "tables.md").read_text()
    assert (
        "| **netracer, 2 images** | **" in text
        and "| *published (width 64, 4 500 000 samples), all 20 test images* | 0.925" in text
    )
    assert "01, 02: 2 of the 20 of the official test split (2 are in the folder)" in text
    assert "coordinate 0 is the corner of the first pixel" in text and "at scale 1 (work" in text
    assert "trained on the training images of DRIVE except 02" in text
    assert "width 2 (the paper's: 64)" in text and "started from DRIVE.safetensors (earlier runs are not" in text
    assert "16 000 states in the last training run, 0.4% of the paper's schedule of 4 500 000" in text
    assert "netracer, 2 images" in capsys.readouterr().out


def test_branch_length_is_always_next_to_coverage(root, predictor):
    text = (make(root) / "tables.md").read_text()
    tables = [line for line in text.splitlines() if line.startswith("|") and "ABL" in line]
    assert tables and all("| ABL (coverage) |" in line for line in tables)
    assert "| 50.0 (1.00) |" in text and "| 74.4 (?) |" in text


def test_the_html_file_is_self_contained(root, predictor):
    predictor.distracted = True
    out = make(root, "--pictures=true", "--images", "01", methods="netracer node-only")
    page = (out / "tables.html").read_text()
    images = re.findall(r'src="([^"]{30})', page)
    # The shipped trace, then without and with GDS, whole and as close-ups.
    assert len(images) == 5 and all(image.startswith("data:image/jpeg;base64,") for image in images)
    assert not re.search(r"<link|<script|@import|url\(|https?:", page)
    assert "left node-only, right netracer" in page


def test_the_jumps_that_gds_prevents_are_counted(root, predictor):
    predictor.distracted = True
    text = (make(root, methods="netracer node-only") / "tables.md").read_text()
    found = re.search(
        r"JE \(closed\): GDS has fewer jumps than node-only on 2 of 2 .*; (\d+) jumps against (\d+)", text
    )
    assert found and int(found[1]) < int(found[2])


def test_every_table_says_that_weights_are_of_another_camera(root, predictor):
    write_dataset(root, "CHASEDB1", images=["01L"])
    out = make(root, datasets="CHASEDB1")
    heads = [
        line for line in (out / "tables.md").read_text().splitlines() if line.startswith("| ") and "SSD-F1" in line
    ]
    assert len(heads) == 3 and all("(another camera: DRIVE weights)" in line for line in heads)
    record = json.loads((out / "traces/CHASEDB1/test/netracer/01L.json").read_text())
    assert record["made_with"]["settings"]["scale"] == 0.75 and record["made_with"]["settings"]["swc_shift"] == 0


def test_a_datasets_own_weights_take_precedence(root, predictor, tmp_path):
    write_dataset(root, "CHASEDB1", images=["01L"])
    write_weights(tmp_path / "weights", "CHASEDB1")
    text = (make(root, datasets="CHASEDB1") / "tables.md").read_text()
    assert "another camera" not in text and "netracer (CHASEDB1 weights)" in text


def test_training_images_among_the_images_are_named(root, predictor):
    write_dataset(root, "DRIVE", split="training", images=["01", "02", "03"])
    text = (make(root, "--split", "training", "--images", "01", "02", methods="gold") / "tables.md").read_text()
    assert "Beware: the weights were trained on 01; " in text and "Images: 01, 02: 2 of the 20" in text


# ---- reuse and cost --------------------------------------------------------------------------------------------------


def test_a_second_run_reuses_all_traces_with_the_same_scores(root, predictor):
    out = make(root)
    first = rows(out)
    assert predictor.encoded == 2
    assert rows(make(root)) == first and predictor.encoded == 2
    assert "2 of 2 traces, with their times, are from an earlier run" in (out / "tables.md").read_text()


def test_one_map_serves_every_method(root, predictor):
    make(root, methods="netracer single-front node-only no-joins skeleton")
    assert predictor.encoded == 2


@pytest.mark.parametrize("change", ["setting", "weights", "code", "image", "trace", "record", "option"])
def test_a_trace_that_is_out_of_date_is_made_again(root, predictor, monkeypatch, tmp_path, change):
    out, words = make(root, "--images", "01"), []
    kept = out / "traces/DRIVE/test/netracer/01.swc"
    if change == "setting":
        words = ["--scale", "DRIVE=1.5"]
    elif change == "weights":
        write_weights(tmp_path / "weights", seed=1)
    elif change == "code":
        monkeypatch.setattr(traces, "source_hash", lambda *modules: "other")
    elif change == "image":
        image = root / "DRIVE/test/images_color/01.tif"
        image.write_bytes((image.parent / "02.tif").read_bytes())
    elif change == "trace":
        write_swc(kept, gold())
    elif change == "record":
        kept.with_suffix(".json").write_text("{")
    else:
        words = ["--retrace"]
    make(root, "--images", "01", *words)
    assert predictor.encoded == 2
    if change != "option":
        make(root, "--images", "01", *words)
        assert predictor.encoded == 2


def test_the_cost_is_announced_before_the_first_trace(root, predictor, capsys, monkeypatch):
    announced = []
    monkeypatch.setattr(Bench, "make", lambda *args: announced.append(capsys.readouterr().err) or pytest.fail())
    with pytest.raises(pytest.fail.Exception):
        make(root, methods="netracer single-front gold")
    assert announced[0].startswith("plan: 4 traces to make, 0 reused; about 2 min; 0 of 4 times are means of earlier")
    assert "is single-front; without it: --methods netracer gold\n" in announced[0]


def test_the_cost_is_estimated_from_records_of_earlier_runs(root, predictor, capsys):
    out = make(root, "--images", "01")
    record = out / "traces/DRIVE/test/netracer/01.json"
    times = {"seconds": 3000.0, "map_seconds": 600.0}
    record.write_text(json.dumps(json.loads(record.read_text()) | times))
    capsys.readouterr()
    make(root)
    assert "plan: 1 traces to make, 1 reused; about 60 min; 1 of 1 times are means" in capsys.readouterr().err
    make(root)
    assert "plan: 0 traces to make, 2 reused; about 8 s\n" in capsys.readouterr().err


def test_the_bar_shows_the_method_and_the_time_left(root, predictor, capsys, monkeypatch):
    monkeypatch.setattr(run_module, "tqdm", lambda **options: tqdm(**options | {"disable": False, "mininterval": 0}))
    make(root)
    err = capsys.readouterr().err
    assert re.search(r"DRIVE, image 1 of 2, netracer +0%\|[^\r]*<\?\]", err)
    assert re.search(r"DRIVE, image 1 of 2, gold +45%\|[^\r]*<\d\d:\d\d\]", err)
    assert re.search(r"DRIVE, image 2 of 2, netracer +50%\|[^\r]*<\d\d:\d\d\]", err)


def test_without_a_terminal_there_are_lines(root, predictor, capsys):
    make(root)
    running = [f"DRIVE, image {number} of 2, {method}" for number in (1, 2) for method in ("netracer", "gold")]
    assert capsys.readouterr().err.splitlines()[1:] == running


def test_an_swc_file_of_another_origin_is_not_replaced(root, predictor):
    mine = root.parent / "out/traces/DRIVE/test/netracer/01.swc"
    mine.parent.mkdir(parents=True)
    mine.write_text("1 0 0 0 0 1 -1\n")
    text = (make(root) / "tables.md").read_text()
    assert "01.swc: was not written by NETracer" in text and "netracer, 1 image" in text
    assert mine.read_text() == "1 0 0 0 0 1 -1\n"


# ---- missing parts and mistakes --------------------------------------------------------------------------------------


def test_a_missing_dataset_is_reported_and_the_others_are_traced(root, predictor, capsys):
    out = make(root, datasets="ROAD DRIVE FMOST")
    text = (out / "tables.md").read_text()
    assert "ROAD/test/images_color/1.jpg" in text and "Massachusetts Roads (Mnih, University of Toronto)" in text
    assert "FMOST/test/swc/" in text and "netracer, 2 images" in text
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert [note.split(": ")[:2] for note in notes] == [["note", "ROAD"], ["note", "FMOST"]]


def test_a_dataset_without_weights_is_reported(root, predictor):
    (root / "OP/test/images").mkdir(parents=True)
    (root / "OP/test/swc").mkdir()
    (root / "OP/test/images/OP_1.tif").write_bytes(b"never opened")
    (root / "OP/test/swc/OP_1.swc").write_text("1 0 0 0 0 1 -1\n2 0 9 0 0 1 1\n")
    assert "no weights/OP.safetensors yet" in (make(root, datasets="DRIVE OP") / "tables.md").read_text()


def test_a_missing_package_has_a_row(root, predictor, monkeypatch):
    monkeypatch.setattr("tools.tables.methods.version", lambda package: None)
    text = (make(root, methods="netracer kimimaro") / "tables.md").read_text()
    assert "| kimimaro | not installed: pip install kimimaro (versions: requirements-tables.txt) |" in text


def test_an_image_that_cannot_be_read_does_not_stop_the_others(root, predictor):
    (root / "DRIVE/test/images_color/01.tif").write_bytes(b"no picture")
    text = (make(root) / "tables.md").read_text()
    assert "- 01, netracer: " in text and "| **netracer, 1 image** |" in text and "| gold, 2 images |" in text


def test_a_dataset_without_the_selected_images_is_named(root, predictor, capsys):
    write_dataset(root, "CHASEDB1", images=["01L"])
    make(root, "--images", "01L", datasets="DRIVE CHASEDB1", methods="gold")
    assert "note: DRIVE: " in (err := capsys.readouterr().err) and "has none of --images 01L" in err


@pytest.mark.parametrize(
    "words, message",
    [
        ("--datasets DRVE", "--datasets: DRVE is unknown; did you mean DRIVE?.*known are DRIVE, CHASEDB1"),
        ("--methods skeletn", "--methods: skeletn is unknown; did you mean skeleton?.*known are netracer,"),
        ("--weights weights.safetensors", "--weights weights.safetensors: give it as DATASET=value"),
        ("--weights MINE=a.safetensors", "--weights: MINE is unknown"),
        ("--scale DRIVE=big", "--scale DRIVE=big: give a positive number"),
        ("--weights DRIVE=none.safetensors", "no table could be made: DRIVE: none.safetensors: no such weight file"),
        ("--images 01 77", "--images 77: no such image; the test split has 01, 02"),
        ("--methods kimimaro", "no table could be made: DRIVE: kimimaro: not installed"),
        ("--data_root nowhere", "--data_root nowhere: no such folder"),
        ("--split training", "training: no such folder; needs DRIVE/training/images_color/01.tif.*grand-challenge"),
        ("--out {file}/out", "cannot be made"),
        ("--treads 2", "unknown option --treads; did you mean --threads?"),
    ],
)
def test_mistakes(root, predictor, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.setattr("tools.tables.methods.version", lambda package: None)
    (tmp_path / "file").write_text("")
    defaults = ["--data_root", str(root), "--out", str(tmp_path / "out"), "--datasets", "DRIVE", "--device", "cpu"]
    argv = [*defaults, *words.format(file=tmp_path / "file").split()]
    with pytest.raises(UserError, match=message):
        reproduce_tables.main(argv)
    with pytest.raises(SystemExit) as left:
        run(lambda _: reproduce_tables.main(argv))
    assert left.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out" / "tables.md").exists()
