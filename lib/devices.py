"""Choice of the device, and settings of the memory allocator."""

from __future__ import annotations

import ctypes
import platform
from typing import Literal

import torch

from lib.errors import UserError

# Parameters of glibc's mallopt(3), from <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def choose_device(wanted: Literal["auto", "cpu", "cuda"], threads: int = 0) -> str:
    """Choose the device, set the number of CPU threads and, on a CPU, let the allocator reuse memory.

    Parameters
    ----------
    wanted
        ``auto`` takes a GPU if there is one.
    threads
        Number of CPU threads; 0 leaves it to torch.

    Returns
    -------
    str
        ``cuda`` or ``cpu``.

    Raises
    ------
    UserError
        If a GPU is requested and there is none, or ``threads`` is negative.
    """
    if threads < 0:
        raise UserError(f"--threads {threads}: give 0 (torch's choice) or more")
    if threads:
        torch.set_num_threads(threads)
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no GPU that torch can use; take --device cpu or auto")
    if wanted != "cpu" and torch.cuda.is_available():
        return "cuda"
    reuse_memory()
    return "cpu"


def device_memory(device: str) -> float | None:
    """Bytes free on a GPU, with those that torch holds and does not use; None for a CPU, whose memory all share."""
    if device != "cuda":
        return None
    return float(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


def reuse_memory() -> None:
    """Let glibc's allocator keep freed memory; with other allocators nothing happens.

    By default glibc requests every large array from the system and returns it at once. The system clears each page
    before it is used again, which took 40 % of the time when a volume was encoded tile by tile.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for parameter, size in ((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, (1 << 31) - 1), (_TOP_PAD, 1 << 26)):
        libc.mallopt(parameter, size)
