"""Work in several processes, and how it fails."""

from __future__ import annotations

import os
import signal
import time

import pytest

from lib.errors import UserError
from lib.parallel import worker_pool


def square(number: int) -> int:
    return number * number


def complain(number: int) -> int:
    raise UserError(f"{number}: no good")


def stumble(number: int) -> int:
    raise ZeroDivisionError(f"at {number}")


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleep(number: int) -> int:
    time.sleep(number)
    return number


def test_one_worker_and_two_do_the_same() -> None:
    for workers in (1, 2):
        with worker_pool(workers) as each:
            assert dict(each(square, [3, 4, 5])) == {0: 9, 1: 16, 2: 25}


@pytest.mark.parametrize("workers", [1, 2])
def test_users_mistake_comes_through_as_it_is(workers: int) -> None:
    with pytest.raises(UserError, match=r"^7: no good$"), worker_pool(workers) as each:
        list(each(complain, [7]))


def test_own_error_shows_where_it_was() -> None:
    with pytest.raises(ZeroDivisionError, match="at 1") as caught, worker_pool(2) as each:
        list(each(stumble, [1]))
    assert "in stumble" in str(caught.value.__cause__)


def test_dead_worker_tells_what_it_died_of() -> None:
    with pytest.raises(UserError, match=r"a worker process died \(SIGKILL: killed, .*memory"), worker_pool(2) as each:
        list(each(die, [1, 2]))


def test_error_ends_the_others_at_once() -> None:
    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt), worker_pool(2) as each:
        each(sleep, [120, 120])
        raise KeyboardInterrupt
    assert time.perf_counter() - started < 60
