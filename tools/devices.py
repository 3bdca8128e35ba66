"""Where to compute."""

from __future__ import annotations

from typing import Literal

import torch

from lib.errors import UserError


def choose_device(wanted: Literal["auto", "cpu", "cuda"], threads: int = 0) -> str:
    """The device to use; also sets the number of CPU threads, where one is given.

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
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
