"""Training, saving, loading and tracing on a GPU, without one: see :mod:`tests.fake_cuda`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from configs.options import TrainOptions
from lib.errors import UserError
from lib.swclib import SwcForest
from models.checkpoint import WeightsHeader
from models.nenet import NENet
from tests.fake_cuda import CudaTensor, FakeCuda
from tests.tools.training.training_runs import (
    SHAPE,
    SPEC,
    assert_same_run,
    options,
    write_dataset,
)
from tools.data.augment import to_unit
from tools.data.batch_sources import OnlinePatches, OnlineTiles
from tools.data.training_image import TrainingImage
from tools.dataset_3d import augment_3d
from tools.inference import arithmetic
from tools.inference.encoded_image import Tips
from tools.inference.predictor import Predictor
from tools.training import arithmetic as training
from tools.training.run import OPTIONS_FILE, train_run
from tools.training.trainer import Trainer


@pytest.fixture
def gpu() -> Iterator[FakeCuda]:
    """A fake GPU."""
    with FakeCuda().active() as device:
        yield device


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder; no test changes it."""
    return write_dataset(tmp_path_factory.mktemp("toy"))


# ---- the fake GPU itself ---------------------------------------------------------------------------------------------


def there(*shape: int) -> Tensor:
    """Random numbers on the GPU."""
    return torch.rand(shape, device="cuda")


def backward_into_the_cpu() -> None:
    features, factor = there(3).requires_grad_(), torch.ones(3)
    features.register_hook(lambda gradient: gradient * factor)
    features.sum().backward()


def resumed_in_another_layout() -> None:
    weight = nn.Parameter(there(2, 3, 3, 3).contiguous(memory_format=torch.channels_last))
    optimizer = torch.optim.Adam([weight], fused=True)
    for _ in range(2):
        weight.sum().backward()
        optimizer.step()
        optimizer.state[weight]["exp_avg"] = there(2, 3, 3, 3)


MIXES: list[Callable[[], Any]] = [
    lambda: there(3) + torch.rand(3),
    lambda: torch.rand(3).mul_(there(3)),
    lambda: torch.tensor(1.0).add_(there()),
    lambda: torch.rand(3) * there(),
    lambda: torch.stack([there(), torch.tensor(1.0)]),
    lambda: torch.cat([there(3), torch.rand(3)]),
    lambda: there(3).index_select(0, torch.tensor([1])),
    lambda: torch.rand(3)[torch.tensor([1], device="cuda")],
    lambda: nn.Conv2d(1, 1, 3).to("cuda")(torch.rand(1, 1, 4, 4)),
    lambda: nn.BatchNorm1d(3)(there(2, 3)),
    lambda: there(3).index_put_((torch.tensor([1, 2], device="cuda"),), torch.rand(2)),
    backward_into_the_cpu,
]
WAITS: list[Callable[[], Any]] = [
    lambda: there(3).sum().item(),
    lambda: float(there(3).sum()),
    lambda: bool(there(3).any()),
    lambda: int(there(3).argmax()),
    lambda: there(3).tolist(),
    lambda: there(3).cpu(),
    lambda: there(3).to("cpu"),
    lambda: torch.rand(3).copy_(there(3)),
    lambda: there(3).nonzero(),
    lambda: there(3).unique(),
    lambda: there(3)[there(3) > 0.5],
    lambda: there(3).masked_select(there(3) > 0.5),
    lambda: there(3).index_put_((there(3) >= 0,), there(3)),
    lambda: there(3)[torch.tensor([1])],
    lambda: there(3)[[0, 1]],
    lambda: torch.equal(there(3), there(3)),
    lambda: torch.repeat_interleave(there(2), torch.tensor([1, 2], device="cuda")),
    lambda: torch.cuda.synchronize(),
    lambda: f"{there(3).sum():.2f}",
]
CPU_ONLY: list[Callable[[], Any]] = [
    lambda: there(3).numpy(),
    lambda: np.asarray(there(3)),
    lambda: torch.mkldnn_convolution(there(1, 1, 4, 4, 4), there(1, 1, 3, 3, 3), None, (0,) * 3, (1,) * 3, (1,) * 3, 1),
    lambda: torch.randn(3, generator=torch.Generator(), device="cuda"),
    lambda: there(3).normal_(generator=torch.Generator()),
    lambda: torch.randn(3, generator=torch.Generator("cuda")),
    resumed_in_another_layout,
]
FINE: list[Callable[[], Any]] = [
    lambda: there(3) * torch.tensor(2.0),
    lambda: there(3)[1:] + 1,
    lambda: torch.where(there(3) > 0.5, 1.0, there(3)),
    lambda: there(3).masked_fill_(there(3) > 0.5, 0),
    lambda: there(3)[torch.tensor([1], device="cuda")],
    lambda: there(3).copy_(torch.rand(3)),
    lambda: torch.rand(3).to("cuda", non_blocking=True).cuda(),
    lambda: torch.randn(3, generator=torch.Generator("cuda").manual_seed(0), device="cuda"),
    lambda: there(3).requires_grad_().index_select(0, torch.tensor([1], device="cuda")).sum().backward(),
]


def line_of(function: Callable[[], Any]) -> str:
    """Pattern of the place where a function is written."""
    code = function.__code__
    last = max(line for *_, line in code.co_lines() if line)
    return rf"^tests/test_cuda\.py:({'|'.join(map(str, range(code.co_firstlineno, last + 1)))}): "


@pytest.mark.parametrize("wrong", MIXES)
def test_a_mix_of_devices_is_found(gpu: FakeCuda, wrong: Callable[[], Any]) -> None:
    with pytest.raises(AssertionError, match=line_of(wrong) + ".*mixes"):
        wrong()


@pytest.mark.parametrize("slow", WAITS)
@pytest.mark.parametrize("inference", [False, True])
def test_waiting_for_the_gpu_is_found(gpu: FakeCuda, slow: Callable[[], Any], inference: bool) -> None:
    with torch.inference_mode(inference):
        slow()
        with gpu.step(), pytest.raises(AssertionError, match=line_of(slow) + ".*waits for the GPU"):
            slow()


@pytest.mark.parametrize("wrong", CPU_ONLY)
def test_a_call_for_the_cpu_is_found(gpu: FakeCuda, wrong: Callable[[], Any]) -> None:
    with pytest.raises(
        AssertionError, match=line_of(wrong) + ".*(CPU only|on the GPU|of another device|in different layouts)"
    ):
        wrong()


@pytest.mark.parametrize("right", FINE)
@pytest.mark.parametrize("inference", [False, True])
def test_what_a_gpu_does_is_allowed(gpu: FakeCuda, right: Callable[[], Any], inference: bool) -> None:
    with gpu.step(), torch.inference_mode(inference and "backward" not in right.__code__.co_names):
        right()


def test_copies_to_the_cpu_are_counted(gpu: FakeCuda) -> None:
    with gpu.step(copies=1):
        assert type(there(3).cpu()) is Tensor and gpu.copies == 1
        with pytest.raises(AssertionError, match="a copy to the CPU waits"):
            there(3).cpu()


def test_modules_and_their_copies_move_to_the_gpu(gpu: FakeCuda) -> None:
    net = NENet(2, 1, 2).to("cuda")
    assert all(isinstance(tensor, CudaTensor) for tensor in net.state_dict().values())
    assert all(isinstance(weight, nn.Parameter) and weight.is_leaf for weight in net.parameters())
    assert there(2).device.type == "cuda" and not there(2).cpu().is_cuda


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A GPU for which no training step may wait."""
    whole_step = Trainer.step

    def step(self: Trainer, *args: Any) -> dict[str, Tensor]:
        assert all(isinstance(weight, CudaTensor) for weight in self.net.parameters())
        with gpu.step():
            return whole_step(self, *args)

    monkeypatch.setattr(Trainer, "step", step)
    return gpu


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"features": "patch", "frozen_epochs": 1},
        {"features": "patch", "sampling": "stacks", "precision": "bf16"},
        {"precision": "bf16", "layout": "channels_last", "frozen_epochs": 1, "stem": (2, 2), "background": 0.5},
    ],
    ids=lambda changed: " ".join(changed) or "plain",
)
def test_a_run_and_a_resumed_one_agree(watched: FakeCuda, data: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    changed = {"device": "cuda", "epoch_size": 16} | changed  # two epochs of two steps
    train_run(options(data, whole, max_steps=4, **changed), SPEC)
    for last in (3, 4):
        train_run(options(data, parts, max_steps=last, resume=last > 3, **changed), SPEC)
    assert_same_run(whole, parts)
    assert (whole / "best.safetensors").is_file() and watched.copies
    assert watched.pinned >= 7 * (4 + 4)  # Seven tensors of each batch, of training alone.


def volume() -> TrainingImage:
    """A volume with one tube."""
    pixels = np.random.default_rng(0).integers(0, 255, (20, 48, 48, 1), dtype=np.uint8)
    return TrainingImage.build(
        "v", pixels, SwcForest.from_positions([(10, 8, 8), (10, 24, 26), (9, 40, 40)], [-1, 0, 1]), SHAPE
    )


@pytest.mark.parametrize("turn", [False, True])
def test_steps_on_volumes(gpu: FakeCuda, turn: bool) -> None:
    patch = (16, 16, 16)
    source = (
        OnlineTiles([volume()], 1, 2, 2, (32, 32, 32), patch, 0)
        if not turn
        else OnlinePatches([volume()], 1, 4, patch, 0)
    )
    chosen = TrainOptions(device="cuda", width=2)
    header = WeightsHeader(3, 1, 2, "toy", 1.0, "centre", patch, 6.0, 2.0, "tile")
    trainer = Trainer(NENet(3, 1, 2), header, source, source, partial(augment_3d, turn=turn), to_unit, chosen)
    with gpu.step():
        for step in range(2):
            terms = trainer.step(step, source.batch(step))
    assert all(math.isfinite(float(term)) for term in terms.values())
    assert 0 <= trainer.validate()["dice_edge"] <= 1


# ---- measuring -------------------------------------------------------------------------------------------------------


def test_precision_and_layout_are_measured(gpu: FakeCuda, data: Path, tmp_path: Path) -> None:
    train_run(options(data, tmp_path, device="cuda", precision="auto", layout="auto", max_steps=1), SPEC)
    assert (tmp_path / "last.safetensors").is_file()


def test_a_gpu_too_small_for_float32(
    gpu: FakeCuda, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*args: Any, bf16: bool) -> float:
        if not bf16:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return 1.0

    monkeypatch.setattr(training, "_timed_step", step)
    auto = {"device": "cuda", "layout": "auto", "max_steps": 1}
    train_run(options(data, tmp_path / "auto", precision="auto", **auto), SPEC)
    assert json.loads((tmp_path / "auto" / OPTIONS_FILE).read_text())["precision"] == "bf16"
    with pytest.raises(UserError, match="memory of the GPU is too small for a training step; give a smaller --batch"):
        train_run(options(data, tmp_path / "fp32", precision="fp32", **auto), SPEC)


# ---- tracing ---------------------------------------------------------------------------------------------------------

CASES = [
    ((70, 90), (32, 32), {}),
    ((70, 90), (32, 32), {"features": "patch", "precision": "bf16"}),
    ((70, 90), (32, 32), {"tile": 64, "views": 2, "adapt": 0.5, "precision": "bf16"}),
    ((20, 70, 64), (16, 32, 32), {"memory": 4e9, "tile": 64}),
    ((20, 70, 64), (16, 32, 32), {"memory": 4e9, "tile": 32, "adapt": 0.5, "precision": "bf16"}),
    ((20, 40, 32), (16, 32, 32), {"features": "patch"}),
]


@pytest.mark.parametrize(("shape", "patch", "chosen"), CASES)
def test_the_maps_of_the_gpu_are_those_of_the_cpu(gpu: FakeCuda, shape, patch, chosen) -> None:
    pixels = np.random.default_rng(1).random((*shape, 1), dtype=np.float32)
    tips = np.array(shape) * np.array([[0.3], [0.6], [0.9]])
    walked = np.repeat(tips[:, None, None], 2, axis=2)
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        predictor = Predictor(NENet(len(shape), 1, 2), patch, device=device, **chosen)
        image = predictor.encode(pixels)
        with gpu.step(copies=len(predictor._batches(len(tips))) * (device == "cuda")):
            maps = [image.centerline, *predictor.predict(Tips(image, tips, walked))[:2]]
        known = predictor.encode(pixels, centerline=image.centerline)
        np.testing.assert_array_equal(predictor.predict(Tips(known, tips, walked))[0], maps[1])
        found.append(maps)
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.02 if "precision" in chosen else 1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_arithmetic_of_tracing_is_measured(gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch, ndim: int) -> None:
    monkeypatch.setattr(arithmetic, "_SIZES", {ndim: (2, (32,) * ndim)})
    assert arithmetic.fastest_arithmetic.__wrapped__(ndim, "cuda").dtype in (torch.float32, torch.bfloat16)
