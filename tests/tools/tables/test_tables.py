"""Parts of the tables: the source hash, published results, the shared map, costs, comparisons and documents."""

from __future__ import annotations

import time
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from configs.options import TraceRun
from lib.errors import UserError
from lib.klib.image_io import Image
from lib.swclib.metrics import mean_row
from tests.tools.tables.tables_data import SHAPE, TubePredictor, install, write_weights
from tools.tables import sources
from tools.tables.bench import Bench
from tools.tables.document import Figure, Heading, Table, Text, as_html, as_markdown
from tools.tables.known import KNOWN, PUBLISHED
from tools.tables.methods import METHODS, Method
from tools.tables.options import TablesOptions, parse_assignments, parse_scales, select
from tools.tables.plan import Plan, duration
from tools.tables.scores import compare
from tools.tables.sources import content_hash, source_hash
from tools.tables.traces import TRACE_MODULES
from tools.tracing.tracing_tools_2D import build_trace_job_2d

ROOT = Path(__file__).resolve().parents[3]


# ---- sources ---------------------------------------------------------------------------------------------------------


def test_source_files_are_those_that_make_a_trace_not_those_that_score_or_draw():
    found = {str(path.relative_to(ROOT)) for path in sources.source_files(TRACE_MODULES)}
    needed = {
        "tools/tracing/growth/gds.py",
        "tools/inference/predictor.py",
        "models/nenet.py",
        "lib/klib/skeleton.py",
        "lib/__init__.py",
    }
    assert needed | {"tools/tables/skeletons.py", "tools/inference/norm_adaptation.py", "lib/swclib/forest.py"} <= found
    others = ("lib/swclib/metrics/", "tools/pictures/contact", "tools/tables/report", "tools/training", "evaluate")
    assert not [name for name in found if name.startswith(others)]


def test_source_hash_covers_all_imported_files(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    for name, text in {
        "tools/__init__.py": "",
        "tools/a.py": "from tools import b\nimport numpy\n",
        "tools/b.py": "from lib.c import something\n",
        "lib/__init__.py": "",
        "lib/c.py": "something = 1\n",
        "tools/d.py": "",
        "tools/spec.py": "import tools.d\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    first = source_hash(["tools.a"])
    (tmp_path / "tools/d.py").write_text("unused = 1\n")
    assert source_hash(["tools.a"]) == first and len(sources.source_files(["tools.a"])) == 5
    with_spec = source_hash(["tools.a"], ["tools.spec"])
    assert with_spec != first
    (tmp_path / "tools/d.py").write_text("unused = 2\n")
    assert source_hash(["tools.a"], ["tools.spec"]) == with_spec
    (tmp_path / "lib/c.py").write_text("something = 2\n")
    assert source_hash(["tools.a"]) != first


def test_an_image_can_be_a_folder(tmp_path):
    (tmp_path / "a.zarr" / "0").mkdir(parents=True)
    (tmp_path / "a.zarr" / "0" / "x").write_text("1")
    first = content_hash(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "0" / "x").write_text("2")
    assert content_hash(tmp_path / "a.zarr") != first


# ---- datasets and options --------------------------------------------------------------------------------------------


def test_published_scores_are_those_of_paper_md():
    lines = (ROOT / "docs" / "paper.md").read_text().split("## 6.")[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    names = [name.replace("-F1", "_F1") for name in cells[0][1:]]
    table = {row[0]: dict(zip(names, map(float, row[1:]), strict=True)) for row in cells[2:]}
    assert table == PUBLISHED
    assert {dataset.published_as for dataset in KNOWN.values() if dataset.published_as} <= set(table)


def test_all_options_methods_and_datasets_are_documented():
    text = (ROOT / "docs" / "tables.md").read_text()
    words = [*TablesOptions.__dataclass_fields__, *METHODS, *KNOWN]
    assert not [word for word in words if f"`{word}`" not in text]


def test_the_optional_dependencies_match_the_requirements_file():
    lines = (ROOT / "requirements-tables.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(project["optional-dependencies"]["tables"]) == sorted(pins)
    assert {method.package for method in METHODS.values()} - {""} == {pin.split("==")[0] for pin in pins}


def test_names_match_in_any_case_and_count_once():
    assert select("datasets", ["drive", "DRIVE", "Road"], KNOWN) == ["DRIVE", "ROAD"]
    assert select("datasets", [], KNOWN) == list(KNOWN)
    assert parse_assignments("weights", ["op=a=b.safetensors"], KNOWN) == {"OP": "a=b.safetensors"}
    assert parse_scales(["drive=1.5"], KNOWN) == {"DRIVE": 1.5}
    with pytest.raises(UserError, match="--scale DRIVE=nan"):
        parse_scales(["DRIVE=nan"], KNOWN)


# ---- methods ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def predictor(tmp_path, monkeypatch) -> type[TubePredictor]:
    """The predictor class of all jobs."""
    return install(monkeypatch, tmp_path)


@pytest.fixture
def bench(tmp_path, predictor) -> Bench:
    """A bench with that predictor."""
    return Bench(build_trace_job_2d, TraceRun(write_weights(tmp_path), Path(), Path(), device="cpu"))


IMAGE = Image(np.full((*SHAPE, 3), 0.2, np.float32), ())


def test_methods_share_the_map_and_keep_their_own_settings(bench, predictor, monkeypatch):
    calls = []

    def predict(self, tips):
        # Patches that are encoded by themselves are those of a partial function.
        calls.append(("patch" if isinstance(tips.image.crops, partial) else "tile", len(tips.positions)))
        return super(predictor, self).predict(tips)

    monkeypatch.setattr(predictor, "predict", predict)
    forests = {}
    for name in ("netracer", "single-front", "netracer", "skeleton"):
        calls.clear()
        made = bench.make(METHODS[name], IMAGE)
        forests[name] = made.forest
        assert made.map_seconds > 0
        if name == "netracer":
            assert {features for features, _ in calls} == {"tile"} and max(count for _, count in calls) > 1
        if name == "single-front":
            assert set(calls) == {("patch", 1)}
        if name == "skeleton":
            assert not calls
    assert predictor.encoded == 1
    assert all(forest.length == pytest.approx(100, abs=10) for forest in forests.values())
    bench.make(METHODS["netracer"], Image(IMAGE.pixels + 0.1, ()))
    assert predictor.encoded == 2


def test_weights_are_loaded_once(bench, monkeypatch):
    monkeypatch.setattr("tools.tracing.job.load_weights", lambda *_, **__: pytest.fail("loaded again"))
    for name in ("netracer", "single-front", "skeleton"):
        assert len(bench.make(METHODS[name], IMAGE).forest)


def test_images_are_encoded_with_the_shipped_features(bench, predictor, monkeypatch):
    encode, features = predictor.encode, []

    def record_features(self, pixels, **options):
        features.append(self.features)
        return encode(self, pixels, **options)

    monkeypatch.setattr(predictor, "encode", record_features)
    bench.make(METHODS["single-front"], IMAGE)
    bench.make(METHODS["netracer"], Image(IMAGE.pixels + 0.1, ()))
    assert features == ["tile", "tile"]


def test_no_method_is_charged_for_the_map(bench, predictor, monkeypatch):
    encode = predictor.encode

    def slow(self, pixels, **options):
        time.sleep(0.5)
        return encode(self, pixels, **options)

    monkeypatch.setattr(predictor, "encode", slow)
    made = bench.make(METHODS["skeleton"], IMAGE)
    assert made.map_seconds >= 0.5 > made.seconds > 0


def test_an_error_in_a_package_is_reported_in_one_line(bench):
    def broken(mask, sizes, rules):
        raise IndexError("list\nindex")

    method = Method("broken", "fails", make=broken, package="numpy")
    with pytest.raises(UserError, match=r"^numpy failed \(IndexError: list index\)$"):
        bench.make(method, IMAGE)
    with pytest.raises(IndexError):
        bench.make(Method("own", "fails", make=broken), IMAGE)


def test_methods_without_a_package_are_always_available():
    assert [method.name for method in METHODS.values() if method.package == "" and method.unavailable] == []
    assert Method("x", "", package="no-such-package-0").unavailable.startswith("not installed: pip install no-such")


# ---- costs, comparisons, documents -----------------------------------------------------------------------------------


def test_a_plan_suggests_to_leave_out_a_method_that_dominates():
    methods = {"netracer": 50.0, "single-front": 300.0, "gold": 0.0}
    plan = Plan({("DRIVE", "01", "netracer"): 400.0}, methods, to_make=4, reused=2, measured=1)
    cost, advice = plan.report()
    assert cost == (
        "4 traces to make, 2 reused; about 7 min; 1 of 4 times are means of earlier runs, the others rules of thumb"
    )
    assert advice == "75% of that is single-front; without it: --methods netracer gold"
    assert len(Plan({("DRIVE", "01", "netracer"): 800.0}, methods, to_make=4).report()) == 1
    assert Plan().report() == []
    assert [duration(seconds) for seconds in (40, 1500, 12600)] == ["40 s", "25 min", "3.5 h"]


def test_jumps_are_compared_on_images_that_both_methods_traced():
    ours = {"a": {"JE_closed": 1}, "b": {"JE_closed": 5}, "c": {"JE_closed": 0}, "d": {"JE_closed": None}, "e": {}}
    other = {"a": {"JE_closed": 4}, "b": {"JE_closed": 4}, "c": {"JE_closed": 0}, "d": {"JE_closed": 9}}
    found = compare(ours, other, "closed")
    assert (found.fewer, found.equal, found.more, found.images) == (1, 1, 1, 3)
    assert (found.total, found.total_other, found.largest) == (6, 8, "a")
    assert compare(other, ours, "closed").largest == "b" and compare({}, {}, "closed").largest is None
    assert compare(other, other, "closed").largest is None


def test_a_mean_leaves_out_missing_values():
    assert mean_row([{"a": 1, "b": None}, {"a": 2, "b": None}, {"b": None}]) == {"a": 1.5, "b": None}
    assert mean_row([]) == {}


def test_markdown_and_html_have_the_same_content():
    table = Table(["name", "<x>"], [["a|b", "1"], ["c", "2"], ["d", "3"]], strong=1, reference=2, summary="more")
    picture = np.zeros((4, 6, 3), np.uint8)
    blocks = [Heading("Title", 1), Text("words", ["one", "two"]), table, Figure([picture], "a & b")]
    text = as_markdown(blocks)
    assert "# Title" in text and "- one\n- two" in text and "| a\\|b | 1 |" in text and "| **c** | **2** |" in text
    assert "| *d* | 3 |" in text
    assert "*Picture in tables.html: a & b*" in text
    page = as_html(blocks, "T")
    assert "<th>&lt;x&gt;</th>" in page and "a &amp; b" in page and '<tr class="strong"><td>c</td>' in page
    assert '<tr class="reference"><td>d</td>' in page
    assert page.count("data:image/jpeg;base64,") == 1 and "<details><summary>more</summary>" in page
