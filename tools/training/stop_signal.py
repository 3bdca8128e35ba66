"""Stopping a run by Ctrl-C or SIGTERM, at the same step in all of its processes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_DOUBLE_SIGNAL = 1.0
"""Seconds during which a second signal counts as a repetition: torchrun forwards a Ctrl-C that all have received."""


class StopSignal:
    """Records Ctrl-C and SIGTERM, and stops all processes of a run at the same step.

    A process that stopped alone would leave the others waiting for its gradients.
    """

    def __init__(self, processes: int) -> None:
        self._received = False
        self._since = 0.0
        # gloo exchanges the flag in main memory; NCCL would make every step wait for the GPU.
        self._group = torch.distributed.new_group(backend="gloo") if processes > 1 else None

    def agreed(self) -> bool:
        """Whether any process has received a signal. All processes must call this, and all get the same answer."""
        if self._group is None:
            return self._received
        flag = torch.tensor(int(self._received))
        torch.distributed.all_reduce(flag, group=self._group)
        return bool(flag)

    def _record(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self._received and now - self._since > _DOUBLE_SIGNAL:
            raise KeyboardInterrupt
        self._received, self._since = True, now

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Record signals inside the context; a second signal raises KeyboardInterrupt."""
        if threading.current_thread() is not threading.main_thread():
            # Python allows signal handlers only in the main thread.
            yield
            return
        before = {number: signal.signal(number, self._record) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
