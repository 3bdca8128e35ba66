"""Parts of the tables: which code makes a trace, what is published, how methods share a map, what is written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from configs.options import TraceRun
from lib.errors import UserError
from lib.klib.image_io import Image
from lib.swclib.metrics import mean_row
from tests.tools.tables.tables_data import SHAPE, install, write_weights
from tools.tables import sources
from tools.tables.bench import Bench
from tools.tables.document import Figure, Heading, Table, Text, as_html, as_markdown
from tools.tables.known import KNOWN, PUBLISHED
from tools.tables.methods import METHODS, Method
from tools.tables.options import TablesOptions, assigned, chosen, scales
from tools.tables.scores import compared
from tools.tables.sources import content_hash, source_hash
from tools.tables.traces import MAKERS
from tools.tracing.tracing_tools_2D import build_trace_job_2d

ROOT = Path(__file__).resolve().parents[3]


# ---- sources ---------------------------------------------------------------------------------------------------------


def test_what_makes_a_trace_is_found_and_what_only_scores_or_draws_is_not():
    found = {str(path.relative_to(ROOT)) for path in sources.sources(MAKERS)}
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


def test_the_hash_of_the_code_is_that_of_every_file(tmp_path, monkeypatch):
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
    assert source_hash(["tools.a"]) == first and len(sources.sources(["tools.a"])) == 5
    with_spec = source_hash(["tools.a"], ["tools.spec"])
    assert with_spec != first
    (tmp_path / "tools/d.py").write_text("unused = 2\n")
    assert source_hash(["tools.a"], ["tools.spec"]) == with_spec
    (tmp_path / "lib/c.py").write_text("something = 2\n")
    assert source_hash(["tools.a"]) != first


def test_an_image_may_be_a_folder(tmp_path):
    (tmp_path / "a.zarr" / "0").mkdir(parents=True)
    (tmp_path / "a.zarr" / "0" / "x").write_text("1")
    first = content_hash(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "0" / "x").write_text("2")
    assert content_hash(tmp_path / "a.zarr") != first


# ---- what is known ---------------------------------------------------------------------------------------------------


def test_published_numbers_are_those_of_the_document():
    lines = (ROOT / "docs" / "paper.md").read_text().split("## 6.")[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    names = [name.replace("-F1", "_F1") for name in cells[0][1:]]
    table = {row[0]: dict(zip(names, map(float, row[1:]), strict=True)) for row in cells[2:]}
    assert table == PUBLISHED
    assert {dataset.published_as for dataset in KNOWN.values() if dataset.published_as} <= set(table)


def test_everything_a_user_can_say_is_explained():
    text = (ROOT / "docs" / "tables.md").read_text()
    words = [*TablesOptions.__dataclass_fields__, *METHODS, *KNOWN]
    assert not [word for word in words if f"`{word}`" not in text]


def test_the_extra_and_the_requirements_agree():
    lines = (ROOT / "requirements-tables.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    extra = re.search(r"^tables = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert sorted(re.findall(r'"(.*?)"', extra[1])) == sorted(pins)
    assert {method.package for method in METHODS.values()} - {""} == {pin.split("==")[0] for pin in pins}


def test_names_are_found_in_any_case_and_each_once():
    assert chosen("datasets", ["drive", "DRIVE", "Road"], KNOWN) == ["DRIVE", "ROAD"]
    assert chosen("datasets", [], KNOWN) == list(KNOWN)
    assert assigned("weights", ["op=a=b.safetensors"], KNOWN) == {"OP": "a=b.safetensors"}
    assert scales(["drive=1.5"], KNOWN) == {"DRIVE": 1.5}
    with pytest.raises(UserError, match="--scale DRIVE=nan"):
        scales(["DRIVE=nan"], KNOWN)


# ---- methods ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Bench:
    """A bench whose predictor sees the tubes."""
    weights = write_weights(tmp_path)
    bench_predictor = install(monkeypatch, tmp_path)
    made = Bench(build_trace_job_2d, TraceRun(weights, Path(), Path(), device="cpu"))
    made.watched = bench_predictor
    return made


IMAGE = Image(np.full((*SHAPE, 3), 0.2, np.float32), ())


def test_methods_share_the_map_and_keep_their_own_settings(bench):
    asked = []

    def predict(self, tips, walked):
        asked.append((self.features, len(tips)))
        return super(bench.watched, self).predict(tips, walked)

    bench.watched.predict = predict
    forests = {}
    for name in ("netracer", "single-front", "netracer", "skeleton"):
        asked.clear()
        made = bench.make(METHODS[name], IMAGE)
        forests[name] = made.forest
        assert made.map_seconds > 0
        if name == "netracer":
            assert {features for features, _ in asked} == {"tile"} and max(count for _, count in asked) > 1
        if name == "single-front":
            assert set(asked) == {("patch", 1)}
        if name == "skeleton":
            assert not asked
    assert bench.watched.encoded == 1
    assert all(forest.length == pytest.approx(100, abs=10) for forest in forests.values())
    bench.make(METHODS["netracer"], Image(IMAGE.pixels + 0.1, ()))
    assert bench.watched.encoded == 2


def test_the_time_of_the_map_is_in_no_method(bench, monkeypatch):
    import time

    plain = bench.watched.set_image

    def slow(self, pixels, **options):
        time.sleep(0.5)
        return plain(self, pixels, **options)

    monkeypatch.setattr(bench.watched, "set_image", slow)
    made = bench.make(METHODS["skeleton"], IMAGE)
    assert made.map_seconds >= 0.5 > made.seconds > 0


def test_a_package_that_fails_is_one_line(bench):
    def broken(mask, sizes, rules):
        raise IndexError("list\nindex")

    method = Method("broken", "fails", make=broken, package="numpy")
    with pytest.raises(UserError, match=r"^numpy failed \(IndexError: list index\)$"):
        bench.make(method, IMAGE)
    with pytest.raises(IndexError):
        bench.make(Method("own", "fails", make=broken), IMAGE)


def test_methods_that_need_nothing_are_always_there():
    assert [method.name for method in METHODS.values() if method.package == "" and method.unavailable] == []
    assert Method("x", "", package="no-such-package-0").unavailable.startswith("not installed: pip install no-such")


# ---- numbers and documents -------------------------------------------------------------------------------------------


def test_jumps_are_compared_where_both_have_them():
    ours = {"a": {"JE_closed": 1}, "b": {"JE_closed": 5}, "c": {"JE_closed": 0}, "d": {"JE_closed": None}, "e": {}}
    other = {"a": {"JE_closed": 4}, "b": {"JE_closed": 4}, "c": {"JE_closed": 0}, "d": {"JE_closed": 9}}
    found = compared(ours, other, "closed")
    assert (found.fewer, found.equal, found.more, found.images) == (1, 1, 1, 3)
    assert (found.total, found.total_other, found.largest) == (6, 8, "a")
    assert compared(other, ours, "closed").largest == "b" and compared({}, {}, "closed").largest is None
    assert compared(other, other, "closed").largest is None


def test_a_mean_leaves_out_what_is_not_there():
    assert mean_row([{"a": 1, "b": None}, {"a": 2, "b": None}, {"b": None}]) == {"a": 1.5, "b": None}
    assert mean_row([]) == {}


def test_a_document_says_the_same_in_both_forms():
    table = Table(["name", "<x>"], [["a|b", "1"], ["c", "2"]], frozenset({1}), folded="more")
    picture = np.zeros((4, 6, 3), np.uint8)
    blocks = [Heading("Title", 1), Text("words", ["one", "two"]), table, Figure([picture], "a & b")]
    text = as_markdown(blocks)
    assert "# Title" in text and "- one\n- two" in text and "| a\\|b | 1 |" in text and "| **c** | **2** |" in text
    assert "*Picture in tables.html: a & b*" in text
    page = as_html(blocks, "T")
    assert "<th>&lt;x&gt;</th>" in page and "a &amp; b" in page and '<tr class="strong"><td>c</td>' in page
    assert page.count("data:image/jpeg;base64,") == 1 and "<details><summary>more</summary>" in page
