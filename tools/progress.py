"""Progress of the work on one image: the callback that each stage reports to, and a bar that shows it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm

BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"


class Progress(Protocol):
    """Receives the name of a stage, how many of its parts are done, and how many there are; 0 where not known."""

    def __call__(self, stage: str, done: int, total: int, /) -> None: ...


def silent(stage: str, done: int, total: int, /) -> None:
    """Show nothing."""


def tell(line: str) -> None:
    """Write a line to stderr, above the bar."""
    tqdm.write(line, file=sys.stderr)


@contextmanager
def progress_bar(name: str) -> Iterator[Progress]:
    """Show the stage of the work on ``name``, its share done and the time left on stderr, if that is a terminal."""
    with tqdm(desc=name, disable=None, leave=False, bar_format=BAR) as bar:
        current = ""

        def show(stage: str, done: int, total: int, /) -> None:
            nonlocal current
            bar.total = total or None
            if stage == current:
                bar.update(done - bar.n)
                return
            current = stage
            # The name comes first: reset draws the bar.
            bar.set_description_str(f"{name}: {stage}", refresh=False)
            bar.reset()
            bar.n = done
            bar.refresh()

        yield show


@contextmanager
def loading() -> Iterator[None]:
    """Show that modules are imported, and let Python's search for garbage pass over all that they hold.

    None of it is garbage. Looking through it again and again takes a sixth of the time from an image to its SWC.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        with progress_bar("loading"):
            yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
