"""Worker pools: results, and errors in workers; threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.errors import UserError
from lib.parallel import worker_pool

ROOT = Path(__file__).resolve().parents[2]


def square(number: int) -> int:
    return number * number


def raise_user_error(number: int) -> int:
    raise UserError(f"{number}: no good")


def divide_by_zero(number: int) -> int:
    raise ZeroDivisionError(f"at {number}")


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleep(number: int) -> int:
    time.sleep(number)
    return number


def test_one_and_two_workers_give_the_same_results() -> None:
    for workers in (1, 2):
        with worker_pool(workers) as run:
            assert dict(run(square, [3, 4, 5])) == {0: 9, 1: 16, 2: 25}


@pytest.mark.parametrize("workers", [1, 2])
def test_user_error_is_passed_on_unchanged(workers: int) -> None:
    with pytest.raises(UserError, match=r"^7: no good$"), worker_pool(workers) as run:
        list(run(raise_user_error, [7]))


def test_other_error_shows_the_traceback_of_the_worker() -> None:
    with pytest.raises(ZeroDivisionError, match="at 1") as caught, worker_pool(2) as run:
        list(run(divide_by_zero, [1]))
    assert "in divide_by_zero" in str(caught.value.__cause__)


def test_signal_of_a_dead_worker_is_reported() -> None:
    with pytest.raises(UserError, match=r"a worker process died \(SIGKILL: killed, .*memory"), worker_pool(2) as run:
        list(run(die, [1, 2]))


def test_error_ends_the_workers_at_once() -> None:
    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt), worker_pool(2) as run:
        run(sleep, [120, 120])
        raise KeyboardInterrupt
    assert time.perf_counter() - started < 60


@pytest.mark.parametrize("entry", ["netracer", "train_2D", "prepare_datasets_2D", "tools.calibrate", "models.nenet"])
def test_polling_of_openmp_threads_is_limited_before_torch_is_loaded(entry: str) -> None:
    watch = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch': print(os.environ.get('GOMP_SPINCOUNT')); sys.stdout.flush(); os._exit(0)\n"
        f"sys.meta_path.insert(0, Watch())\nimport {entry}"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    ran = subprocess.run([sys.executable, "-c", watch], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.stdout.strip() == "20000", ran.stderr
