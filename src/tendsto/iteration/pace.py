"""Drive a compiled loop in slices of a fraction of a second: for progress, Ctrl-C and checkpoints."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SLICE_SECONDS = 0.25
_FIRST_SLICE = 64
_GROWTH = 8
_SECONDS_BEFORE_A_BAR_SHOWS = 2.0


def slices(start: int, stop: int) -> Iterator[int]:
    """Yield increasing step numbers up to `stop`, spaced so that the caller spends about a quarter second on each.

    Where the slices end never changes what is computed, only when the host gets to look.
    """
    size = _FIRST_SLICE
    while start < stop:
        start = min(start + size, stop)
        began = time.perf_counter()
        yield start
        elapsed = max(time.perf_counter() - began, 1e-9)
        size = max(1, int(size * min(_GROWTH, _SLICE_SECONDS / elapsed)))


@runtime_checkable
class Reporter(Protocol):
    """Takes the number of steps done so far."""

    def __call__(self, done: int) -> None: ...


@contextmanager
def progress_bar(description: str, total: int, show: bool | None) -> Iterator[Reporter]:
    """A progress bar on standard error that appears once the work has taken two seconds.

    `show=None` shows it only on a terminal; `True` and `False` decide.
    """
    if show is None:
        show = sys.stderr.isatty()
    began = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,} steps"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(description, total=total)

    def report(done: int) -> None:
        if show and not bar.live.is_started and time.monotonic() - began > _SECONDS_BEFORE_A_BAR_SHOWS:
            bar.start()
        bar.update(task, completed=done)

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()
