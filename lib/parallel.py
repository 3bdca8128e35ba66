"""A pool of worker processes: results as they are completed, and the true reason if a worker fails."""

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
from multiprocessing.process import BaseProcess
from typing import Protocol, TypeVar

import torch

from lib.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
_EXIT_CODE_WAIT = 3.0
"""Seconds to wait for the exit code of a worker that died: the pool's own thread may be collecting it."""


class WorkerPool(Protocol):
    """Runs ``function(task)`` for every task; yields ``(index of the task, result)`` in the order of completion.

    The exception of a task is raised in place of its result.
    """

    def __call__(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[int, Result]]: ...


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def worker_pool(workers: int) -> Iterator[WorkerPool]:
    """Start ``workers`` processes; with one worker, tasks run in this process.

    The processes are spawned, because forking is not safe once torch has started threads: functions must be importable
    and tasks picklable. An exception in the block ends the processes at once.

    Raises
    ------
    UserError
        If a process dies; the message gives its signal or exit code.
    """
    if workers <= 1:
        yield _run_here
        return
    earlier_children = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)
    started: set[BaseProcess] = set()

    def run_in_pool(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[int, Result]]:
        futures = {pool.submit(function, task): index for index, task in enumerate(tasks)}
        started.update(set(multiprocessing.active_children()) - earlier_children)
        return _completed(futures)

    try:
        yield run_in_pool
    except BaseException as error:
        cause = _cause_of_death(started) if isinstance(error, BrokenProcessPool) else ""
        for process in started:
            process.terminate()
        if cause:
            raise UserError(f"a worker process died ({cause}); give fewer --workers") from error
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _run_here(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[int, Result]]:
    return enumerate(map(function, tasks))


def _completed(futures: dict[Future[Result], int]) -> Iterator[tuple[int, Result]]:
    for future in as_completed(futures):
        yield futures[future], future.result()


def _prepare_worker() -> None:
    """Use one core, leave Ctrl-C to the main process, print a traceback when C code crashes, end with the parent."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent process is gone; otherwise a worker would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _cause_of_death(processes: Iterable[BaseProcess]) -> str:
    """Signal or exit code of the first process that died."""
    deadline = time.monotonic() + _EXIT_CODE_WAIT
    while True:
        # The pool ends the other processes by SIGTERM, so that code explains nothing.
        codes = [code for process in processes if (code := process.exitcode) not in (None, 0, -signal.SIGTERM)]
        if codes or time.monotonic() >= deadline:
            return _described(codes[0]) if codes else "no reason known"
        time.sleep(0.05)


def _described(code: int) -> str:
    if code > 0:
        return f"exit code {code}, see its message above"
    name = signal.Signals(-code).name
    return f"{name}: killed, most often because memory ran out" if code == -signal.SIGKILL else name
