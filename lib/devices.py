"""Where to compute, and what becomes of the memory there."""

from __future__ import annotations

import ctypes
import platform
from typing import Literal

import torch

from lib.errors import UserError

# Parameters of glibc's mallopt(3), from <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def choose_device(wanted: Literal["auto", "cpu", "cuda"], threads: int = 0) -> str:
    """The device to use; also sets the number of CPU threads, where one is given, and lets a CPU reuse its memory.

    Raises
    ------
    UserError
        If a GPU is asked for and there is none, or ``threads`` is negative.
    """
    if threads < 0:
        raise UserError(f"--threads {threads}: give 0 (torch's choice) or more")
    if threads:
        torch.set_num_threads(threads)
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no GPU that torch can use; take --device cpu or auto")
    device = "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
    if device == "cpu":
        reuse_memory()
    return device


def reuse_memory() -> None:
    """Let the process keep what it frees, where its allocator is glibc's.

    By default glibc asks the system for every large array and gives it back at once. The system clears each page before
    it lends it again: 40 % of the time of encoding a volume tile by tile.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for parameter, size in ((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, (1 << 31) - 1), (_TOP_PAD, 1 << 26)):
        libc.mallopt(parameter, size)
