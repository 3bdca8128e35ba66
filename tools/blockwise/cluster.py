"""Cells on the processes of this machine or of a cluster, by dask.distributed."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import dask.config
import torch
from distributed import Client, LocalCluster, as_completed, get_worker

from lib.errors import UserError
from tools.blockwise.grid import Cell
from tools.blockwise.plan import Plan, seam_of, trace_cell
from tools.blockwise.seams import Seam

ATTEMPTS = 3
"""Times that a cell is tried."""
AHEAD = 3
"""Tasks for each thread that are with the scheduler at a time: enough that no worker waits."""
SEAMS = 16
"""Cells in a task that looks for seams."""


@dataclass(frozen=True)
class CellOutcome:
    """What became of a cell.

    Attributes
    ----------
    cell
        The cell.
    reason
        Why there is no trace; empty if there is one.
    stops_all
        Whether the reason is one for all cells: the disk is full, the folder cannot be written.
    """

    cell: Cell
    reason: str = ""
    stops_all: bool = False


@contextmanager
def connected(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A client of the scheduler at an address, or of worker processes that are started here and end with the block.

    Raises
    ------
    UserError
        If there is no scheduler at the address, or it has no workers.
    """
    # A cell that kills its worker is tried as often as one that fails.
    with dask.config.set(
        {"distributed.scheduler.allowed-failures": ATTEMPTS - 1, "distributed.comm.timeouts.connect": "20s"}
    ):
        if scheduler:
            try:
                client = Client(scheduler)
            except (OSError, ValueError) as error:
                raise UserError(f"--scheduler {scheduler}: cannot be reached ({error}); check that it runs") from None
            with client:
                if not client.scheduler_info()["workers"]:
                    raise UserError(f"--scheduler {scheduler}: has no workers; start some with `dask worker`")
                yield client
            return
        local = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "memory_limit": 0}
        with (
            LocalCluster(**local, dashboard_address="127.0.0.1:0", silence_logs=50) as cluster,
            Client(cluster) as client,
        ):
            yield client


def run_cells(client: Client, plan: Plan, cells: Sequence[Cell], group: int = 1) -> Iterator[CellOutcome]:
    """Trace cells, ``group`` in a task; the outcomes come as they are finished.

    A cell that fails is tried again; its outcome comes when it has failed :data:`ATTEMPTS` times.
    """
    waiting = deque(tuple(cells[first : first + group]) for first in range(0, len(cells), group))
    failures, cells_of = Counter[Cell](), dict[Any, tuple[Cell, ...]]()
    running = as_completed(loop=client.loop)

    def submit() -> None:
        some = waiting.popleft()
        future = client.submit(trace_group, plan, some, pure=False)
        cells_of[future.key] = some
        running.add(future)

    for _ in range(min(len(waiting), AHEAD * sum(cast(dict[str, int], client.nthreads()).values()))):
        submit()
    for future in running:
        some = cells_of.pop(future.key)
        if future.status == "finished":
            outcomes = future.result()
        else:
            # Of a group that killed its worker, nobody knows which cell did it: each is tried by itself.
            reason = _reason(future.exception())
            outcomes = [CellOutcome(cell, reason=reason) for cell in some if not plan.file_of(cell).exists()]
            if len(some) > 1:
                waiting.extend((outcome.cell,) for outcome in outcomes)
                outcomes = []
            else:
                failures.update({cell: ATTEMPTS for cell in some})
        for outcome in outcomes:
            failures[outcome.cell] += bool(outcome.reason)
            if outcome.reason and not outcome.stops_all and failures[outcome.cell] < ATTEMPTS:
                waiting.append((outcome.cell,))
            else:
                yield outcome
        if waiting:
            submit()


def run_seams(client: Client, plan: Plan, cells: Sequence[Cell]) -> list[Seam]:
    """Find how the finished cells meet, in their order."""
    groups = [cells[first : first + SEAMS] for first in range(0, len(cells), SEAMS)]
    futures = client.map(seam_group, groups, plan=plan, pure=False)
    return [seam for group in cast(list[list[Seam]], client.gather(futures)) for seam in group]


def seam_group(cells: Sequence[Cell], plan: Plan) -> list[Seam]:
    """Find how some finished cells meet their neighbours, on a worker."""
    return [seam_of(plan, cell) for cell in cells]


def _reason(error: BaseException | None) -> str:
    """Why a task failed, in a line."""
    if type(error).__name__ == "KilledWorker":
        return f"its worker ended {ATTEMPTS} times, perhaps for lack of memory"
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def trace_group(plan: Plan, cells: Sequence[Cell]) -> list[CellOutcome]:
    """Trace some cells on a worker and write their files; cells that have one already are left as they are."""
    _take_own_device()
    return [_traced(plan, cell) for cell in cells if not plan.file_of(cell).exists()]


def _traced(plan: Plan, cell: Cell) -> CellOutcome:
    try:
        trace = trace_cell(plan, cell)
    except UserError as error:
        return CellOutcome(cell, reason=str(error))
    except Exception as error:  # one cell must not stop the others, whatever is wrong with it
        return CellOutcome(cell, reason=_reason(error))
    try:
        trace.save(plan.file_of(cell))
    except UserError as error:
        return CellOutcome(cell, reason=str(error), stops_all=True)
    return CellOutcome(cell)


def _take_own_device() -> None:
    """Of several GPUs of a machine, take the one of the number at the end of this worker's name.

    Workers started here are named 0, 1, ..., those of ``dask worker --name gpu --nworkers 8`` gpu-0, gpu-1, ...
    """
    count, number = torch.cuda.device_count(), re.search(r"\d+$", str(get_worker().name))
    if count > 1 and number:
        torch.cuda.set_device(int(number[0]) % count)
