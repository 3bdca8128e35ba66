"""Stages of the work on one image, and the bar that shows them."""

from __future__ import annotations

import gc
import io
import sys
from itertools import groupby

import numpy as np
import pytest
import torch

from models.nenet import NENet
from tests.tools.tracing.oracle import OraclePredictor
from tests.tools.tracing.tubes import options, pixels, save, write
from tools.inference.predictor import Predictor
from tools.progress import loading, progress_bar
from tools.tracing.growth.gds import Search
from tools.tracing.growth.settings import TraceSettings
from tools.tracing.growth.tracer import Tracer
from tools.tracing.run import trace_file
from tools.tracing.tracing_tools_2D import build_trace_job_2d


class Record:
    """Remembers every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def __call__(self, stage: str, done: int, total: int, /) -> None:
        self.calls.append((stage, done, total))

    @property
    def stages(self) -> list[str]:
        """Stages in the order in which they came."""
        return [stage for stage, _ in groupby(stage for stage, _, _ in self.calls)]

    def parts(self, stage: str) -> list[tuple[int, int]]:
        """Parts done and their number, at each call in which it is known."""
        return [(done, total) for name, done, total in self.calls if name == stage and total]


def test_stages_come_in_order(tmp_path):
    torch.manual_seed(0)
    image = write(tmp_path / "photos" / "eye.png", pixels())
    run = options(save(tmp_path / "w.safetensors", ndim=2), image, seed_threshold=0.02, stop_threshold=0.01, tile=64)
    run.out.mkdir()
    record = Record()
    trace_file(build_trace_job_2d(run), image, run, record)
    assert record.stages == ["reading", "encoding", "tracing", "cleaning up", "measuring radii", "writing"]
    for stage in ("encoding", "tracing"):
        done, totals = zip(*record.parts(stage), strict=True)
        assert list(done) == sorted(done) and done[-1] == totals[-1] and len(set(totals)) == 1


@pytest.mark.parametrize(("ndim", "memory", "tiles"), [(2, None, 2 * 6), (3, 4e9, 2 * 2 * 4)])
def test_every_tile_of_every_view_is_reported(ndim, memory, tiles):
    torch.manual_seed(0)
    net = NENet(ndim, 3 if ndim == 2 else 1, 2).eval()
    shape = (60, 100) if ndim == 2 else (16, 64, 64)
    record = Record()
    predictor = Predictor(net, (16,) * ndim, tile=48 if ndim == 2 else 32, views=2, memory=memory)
    predictor.encode(np.random.default_rng(0).random((*shape, net.in_channels), np.float32), progress=record)
    assert record.stages == ["encoding"]
    assert record.parts("encoding") == [(done, tiles) for done in range(1, tiles + 1)]


def test_tracing_reports_the_share_of_seeds_done():
    oracle = OraclePredictor([[[20.0, 5.0], [20.0, 150.0]]], (40, 160), (64, 64))
    record = Record()
    Tracer(oracle, TraceSettings(Search(r=2.0))).trace(np.zeros((40, 160, 3), np.float32), progress=record)
    done, totals = zip(*record.parts("tracing"), strict=True)
    assert 0 < done[0] <= done[-1] == totals[0]


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_the_bar_is_shown_only_in_a_terminal(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    with progress_bar("image 2 of 3, eye.png") as progress:
        progress("reading", 0, 0)
        progress("encoding", 1, 4)
        progress("encoding", 4, 4)
        progress("cleaning up", 0, 0)
    shown = sys.stderr.getvalue()
    if stream is Terminal:
        order = [shown.index(f"image 2 of 3, eye.png: {stage}") for stage in ("reading", "encoding", "cleaning up")]
        assert order == sorted(order) and " 25%" in shown and "1/4" in shown
    else:
        assert shown == ""


def test_a_stage_is_never_shown_with_the_total_of_the_next(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar("eye.png") as progress:
        progress("encoding", 4, 4)
        progress("tracing", 0, 23006)
    shown = sys.stderr.getvalue().split("\r")
    assert any("tracing" in line and "0/23006" in line for line in shown)
    assert not any("encoding" in line and "23006" in line for line in shown)


def test_what_is_loaded_is_no_garbage():
    frozen = gc.get_freeze_count()
    try:
        with loading():
            assert not gc.isenabled()
            modules = [[] for _ in range(100)]
        assert gc.isenabled() and gc.get_freeze_count() >= frozen + len(modules)
    finally:
        gc.unfreeze()
