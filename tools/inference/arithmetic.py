"""Number format and memory layout in which a network runs fastest on this machine."""

from __future__ import annotations

import itertools
import time
from functools import lru_cache
from typing import Literal, NamedTuple

import torch

from models.nenet import NENet
from models.onednn import fuse, is_fusible

Precision = Literal["auto", "fp32", "bf16"]
GAIN = 0.8
"""Another combination replaces float32 with channels last only if it takes less than this share of its time, so that
noise does not decide: bf16 takes a third on CPUs with units for it, and several times as long on others."""
ROUNDS = 4
"""Times that each is measured; the shortest counts. The first one also allocates."""
_SIZES = {2: (16, (128, 128)), 3: (8, (32, 64, 64))}
"""Width of a network and shape of an image by dimension, on which the combinations are measured."""


class Arithmetic(NamedTuple):
    """How a network computes.

    Attributes
    ----------
    dtype
        Number format of weights and features.
    channels_last
        Whether the channels of a pixel lie side by side in memory.
    """

    dtype: torch.dtype = torch.float32
    channels_last: bool = True

    @property
    def precision(self) -> Literal["bf16", "fp32"]:
        """The number format as ``--precision`` names it."""
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

    def is_fused(self, device: str) -> bool:
        """Whether oneDNN computes what follows a convolution, too."""
        return device == "cpu" and self.channels_last and is_fusible(self.dtype)

    def apply(self, net: NENet) -> NENet:
        """Convert a network whose batch norms are folded, in place; returns the network itself."""
        net.to(self.dtype).arrange(channels_last=self.channels_last)
        if self.is_fused(next(net.parameters()).device.type):
            fuse(net)
        return net


def chosen_arithmetic(precision: Precision, ndim: int, device: str) -> Arithmetic:
    """The arithmetic for a precision; ``auto`` measures once per process."""
    if precision == "auto":
        return fastest_arithmetic(ndim, device)
    return Arithmetic(torch.float32 if precision == "fp32" else torch.bfloat16)


@lru_cache
def fastest_arithmetic(ndim: int, device: str) -> Arithmetic:
    """Measure a small network in every combination of number format and layout; on a CPU only what oneDNN can fuse.

    That halves the time, see :mod:`models.onednn`; bf16 without units for it takes several times as long. The result
    depends on the machine alone and not on the network to be run, so that every trace on it is made in the same way.
    """
    width, shape = _SIZES[ndim]
    image = torch.zeros((1, 1, *shape), device=device)
    every = list(itertools.starmap(Arithmetic, itertools.product((torch.float32, torch.bfloat16), (True, False))))
    tried = [each for each in every if each.is_fused(device)] or every
    runs = {each: each.apply(NENet(ndim, 1, width).fold_norms().to(device)) for each in tried}
    # In turn, so that another program that is busy for a moment slows down all of them.
    rounds = [{each: _seconds(net, image.to(each.dtype)) for each, net in runs.items()} for _ in range(ROUNDS)]
    seconds = {each: min(times[each] for times in rounds) for each in runs}
    fastest = min(seconds, key=seconds.__getitem__)
    return fastest if seconds[fastest] < GAIN * seconds[Arithmetic()] else Arithmetic()


@torch.inference_mode()
def _seconds(net: NENet, image: torch.Tensor) -> float:
    started = time.perf_counter()
    net.encode(image).sum().item()  # On a GPU, this waits for the result.
    return time.perf_counter() - started
