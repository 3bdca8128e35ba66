"""Precision and memory layout in which a training step is fastest on this machine.

Tracing has a measurement of its own, :mod:`tools.inference.arithmetic`, which does not depend on the network.
"""

from __future__ import annotations

import itertools
import math
import time
from copy import deepcopy

import torch
from accelerate.utils import broadcast_object_list

from lib.errors import UserError
from models.nenet import NENet
from tools.data.batches import Batch
from tools.training.trainer import TrainingNet

PRECISIONS = ("fp32", "bf16")
LAYOUTS = ("channels_first", "channels_last")
_MEASURING = 20.0
"""Seconds after which the measurement of a combination is not repeated."""


def fastest_arithmetic(
    net: NENet, batch: Batch, device: torch.device, *, precision: str, layout: str
) -> dict[str, str]:
    """Measure which ``precision`` and ``layout`` are fastest; all processes get the choice of the first one.

    Parameters
    ----------
    net, batch, device
        As for :func:`step_seconds`.
    precision, layout
        ``auto``, or the only value allowed.

    Raises
    ------
    UserError
        If no combination fits into the memory of the GPU.
    """
    wanted, measured = (precision, layout), step_seconds(net, batch, device)
    allowed = [key for key in measured if all(value in ("auto", own) for value, own in zip(wanted, key, strict=True))]
    best = min(allowed, key=measured.__getitem__)
    best, seconds = broadcast_object_list([(best, measured[best])])[0]
    if math.isinf(seconds):
        raise UserError("the memory of the GPU is too small for a training step; give a smaller --batch_size")
    return dict(zip(("precision", "layout"), best, strict=True))


def step_seconds(net: NENet, batch: Batch, device: torch.device, *, repeats: int = 3) -> dict[tuple[str, str], float]:
    """Measure a training step of a network in each precision and layout.

    Parameters
    ----------
    net
        The network; not changed.
    batch
        A batch of float images.
    device
        Where to measure.
    repeats
        Number of steps measured for each combination.

    Returns
    -------
    dict
        Seconds of the fastest step by ``(precision, layout)``; infinite where the GPU has too little memory.
    """
    batch, seconds = batch.to(device), {}
    for layout, precision in itertools.product(LAYOUTS, PRECISIONS):
        times: list[float] = []
        try:
            # A copy, because a step updates the batch-norm statistics.
            model = TrainingNet(deepcopy(net).to(device).arrange(channels_last=layout == "channels_last"))
            while len(times) < repeats and sum(times) < _MEASURING:
                times.append(_timed_step(model, batch, device, bf16=precision == "bf16"))
        except torch.cuda.OutOfMemoryError:
            times = [math.inf]
        seconds[precision, layout] = min(times)
    return seconds


def _timed_step(model: TrainingNet, batch: Batch, device: torch.device, *, bf16: bool) -> float:
    """Seconds of one forward and backward pass."""
    started = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        maps = model(batch.image, batch.owner, batch.corner, batch.walk)
    torch.stack([logits.float().mean() for logits in maps if logits is not None]).sum().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
