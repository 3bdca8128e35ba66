"""The same work for many cases in several processes: results as they come, and the real error when one fails."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch

from lib.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
UNKNOWN = "no reason known"
_MOMENT = 3.0
"""Seconds to wait for the exit code of a worker that died."""


class WorkerPool(Protocol):
    """Does ``function(task)`` for every task; yields ``(index of the task, result)`` in the order of completion.

    An exception of a task is raised where its result would come; a :class:`~lib.errors.UserError` stays one.
    """

    def __call__(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[int, Result]]: ...


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def worker_pool(workers: int) -> Iterator[WorkerPool]:
    """A worker_pool of ``workers`` processes; one worker works in this process.

    Functions and tasks must be importable and picklable: the processes are started afresh, which is the one way that
    is safe once torch has started threads. Leaving the block by an exception ends the processes at once.

    Raises
    ------
    UserError
        If a process dies, with the signal or exit code it died of.
    """
    if workers <= 1:
        yield _alone
        return
    bystanders = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)
    started: set[multiprocessing.process.BaseProcess] = set()

    def together(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[int, Result]]:
        futures = {pool.submit(function, task): index for index, task in enumerate(tasks)}
        started.update(set(multiprocessing.active_children()) - bystanders)
        return _completed(futures)

    try:
        yield together
    except BaseException as error:
        cause = _cause_of_death(started) if isinstance(error, BrokenProcessPool) else ""
        for process in started:
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise UserError(f"a worker process died ({cause}); give fewer --workers") from error
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _alone(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[int, Result]]:
    for index, task in enumerate(tasks):
        yield index, function(task)


def _completed(futures: dict[Future[Result], int]) -> Iterator[tuple[int, Result]]:
    for future in as_completed(futures):
        yield futures[future], future.result()


def _prepare_worker() -> None:
    """One core for each worker; Ctrl-C is the business of the main process; a crash in C tells where it was."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this, a worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _cause_of_death(processes: Iterable[multiprocessing.process.BaseProcess]) -> str:
    """What a process died of. The pool's own thread may be collecting its exit code just now: that takes a moment."""
    deadline = time.monotonic() + _MOMENT
    while (cause := _cause([process.exitcode for process in processes])) == UNKNOWN and time.monotonic() < deadline:
        time.sleep(0.05)
    return cause


def _cause(codes: Iterable[int | None]) -> str:
    """What the first process died of. The pool ends the others by SIGTERM, so that says nothing."""
    for code in codes:
        if code is None or code in (0, -signal.SIGTERM):
            continue
        if code > 0:
            return f"exit code {code}, see its message above"
        name = signal.Signals(-code).name
        return f"{name}: killed, most often because memory ran out" if code == -signal.SIGKILL else name
    return UNKNOWN
