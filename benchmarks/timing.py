"""Clock and CPU seconds of a call, for the other benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable


def least_seconds(call: Callable[[], object], repeats: int = 3) -> tuple[float, float]:
    """Least clock and CPU seconds of ``repeats`` calls."""
    seconds = []
    for _ in range(repeats):
        clock, cpu = time.perf_counter(), time.process_time()
        call()
        seconds.append((time.perf_counter() - clock, time.process_time() - cpu))
    clocks, cpus = zip(*seconds, strict=True)
    return min(clocks), min(cpus)
