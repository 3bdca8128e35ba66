"""Choice of number format and layout, and what it changes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from models.nenet import NENet
from tools.inference import arithmetic
from tools.inference.arithmetic import Arithmetic, chosen_arithmetic, fastest_arithmetic
from tools.inference.encoded_image import Tips
from tools.inference.predictor import Predictor

SLOW, FAST = Arithmetic(), Arithmetic(torch.bfloat16)


@pytest.mark.parametrize(("bf16", "chosen"), [(0.7, FAST), (0.9, SLOW), (3.0, SLOW)])
def test_another_format_is_taken_only_if_it_is_clearly_faster(monkeypatch, bf16: float, chosen: Arithmetic) -> None:
    def seconds(net: NENet, image: torch.Tensor) -> float:
        last = net.first.conv1.weight.is_contiguous(memory_format=torch.channels_last)
        return (bf16 if image.dtype == torch.bfloat16 else 1.0) + (not last)

    monkeypatch.setattr(arithmetic, "_seconds", seconds)
    # All formats are tried, also where oneDNN cannot fuse one.
    monkeypatch.setattr(Arithmetic, "is_fused", lambda *_: False)
    fastest_arithmetic.cache_clear()
    assert fastest_arithmetic(2, "cpu") == chosen
    fastest_arithmetic.cache_clear()


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_measurement_runs_and_its_choice_is_kept(ndim: int) -> None:
    chosen = chosen_arithmetic("auto", ndim, "cpu")
    assert chosen.dtype in (torch.float32, torch.bfloat16)
    assert chosen_arithmetic("auto", ndim, "cpu") is chosen
    assert chosen_arithmetic("fp32", ndim, "cpu") == Arithmetic()


@pytest.mark.parametrize(
    ("shape", "patch", "options"), [((90, 120), (32, 32), {}), ((20, 70, 64), (16, 32, 32), {"memory": 4e9})]
)
def test_bf16_changes_a_probability_by_a_hundredth(shape, patch, options) -> None:
    torch.manual_seed(0)
    net, pixels = NENet(len(shape), 1, 2), np.random.default_rng(1).random((*shape, 1), dtype=np.float32)
    tips = np.array(shape)[None] * np.array([[0.3], [0.6]])
    walked = np.repeat(tips[:, None, None], 2, axis=2)
    found = []
    for precision in ("fp32", "bf16"):
        predictor = Predictor(deepcopy(net), patch, precision=precision, tile=64, **options)
        image = predictor.encode(pixels)
        found.append([image.centerline, *predictor.predict(Tips(image, tips, walked))[:2]])
    for exact, rounded in zip(*found, strict=True):
        assert rounded.dtype == np.float32
        assert 0 < np.abs(exact - rounded).max() < 0.02


_ON_AN_OLD_CPU = """
import numpy as np
from models.nenet import NENet
from tools.inference.arithmetic import fastest_arithmetic
from tools.inference.predictor import Predictor

for ndim in (2, 3):
    assert fastest_arithmetic(ndim, "cpu").precision == "fp32"
    patch = (32,) * ndim
    found = Predictor(NENet(ndim, 1, 2), patch, precision="bf16").encode(np.full((*patch, 1), 0.5, np.float32))
    assert np.isfinite(found.centerline).all()
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instruction sets are those of x86")
def test_a_cpu_without_avx512_computes_in_float32_unless_told_otherwise() -> None:
    """oneDNN's fused convolutions refuse bf16 there; PyTorch's do not."""
    old = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    subprocess.run([sys.executable, "-c", _ON_AN_OLD_CPU], env=old, check=True, cwd=Path(__file__).parents[3])
