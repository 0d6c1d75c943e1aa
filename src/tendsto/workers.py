"""Run independent tasks on this machine's processes or on a Dask cluster; a lost worker loses nothing."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from joblib.externals.loky.process_executor import ProcessPoolExecutor

T = TypeVar("T")
R = TypeVar("R")

# With one thread each, workers do not compete for cores, and no sum is split in a way that depends on how
# many cores there are. `NPROC` is XLA's.
_THREADS = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_SECONDS_TO_CONNECT = 5
_SECONDS_TO_NOTICE = 0.5

_Pool = Callable[[], AbstractContextManager[tuple[Executor, int]]]
"""Opens the workers: an executor, and how many tasks it runs at a time."""


@dataclass(frozen=True)
class Failure:
    """Why a task has no result: its worker died, or raised."""

    reason: str


def _ignore(_: object) -> None:
    """For who does not want to be told."""


def run_tasks(
    call: Callable[[T], R],
    tasks: Iterable[T],
    *,
    workers: int = 1,
    cluster: str | None = None,
    on_start: Callable[[T], None] = _ignore,
) -> Generator[tuple[T, R | Failure]]:
    """Yield each task with what `call` makes of it, as they land.

    A local worker that dies takes down all that were running, and which was at fault is not known: each
    of them is run again alone, and fails if its process dies again. The others go on.

    **Arguments**

    - `call`: a function in a module that other processes can import (or a `functools.partial` of one).
    - `tasks`: what to call it with; they are asked for as workers become free.
    - `workers`: processes on this machine, each of one thread; 1 runs in this process as it is, where an
      exception passes through.
    - `cluster`: the address of a Dask scheduler ("tcp://host:8786"), whose workers then do the work.
    - `on_start`: called in this process as a task starts.

    **Raises** `ValueError` for fewer than one worker; `ConnectionError` if the cluster does not answer; `ImportError`
    if Dask is not installed.
    """
    if workers < 1:
        raise ValueError(f"workers: must be at least 1, got {workers}")
    if cluster is None and workers == 1:
        for task in tasks:
            on_start(task)
            yield task, call(task)
        return
    pool = _cluster(cluster) if cluster is not None else lambda: _local(workers)
    waiting = _Queue(tasks)
    while waiting:
        suspects = yield from _until_broken(call, waiting, pool, on_start)
        for suspect, _ in suspects:
            for task, error in (yield from _until_broken(call, _Queue([suspect]), pool, on_start)):
                yield task, Failure(_why_broken(error))


class _Queue(Iterator[T]):
    """An iterator that knows whether there is more, and takes back what could not be handed out."""

    def __init__(self, tasks: Iterable[T]) -> None:
        self.tasks = iter(tasks)
        self.next: deque[T] = deque()

    def __bool__(self) -> bool:
        if not self.next:
            self.next.extend(task for _, task in zip(range(1), self.tasks, strict=False))
        return bool(self.next)

    def __next__(self) -> T:
        if not self:
            raise StopIteration
        return self.next.popleft()


def _until_broken(
    call: Callable[[T], R], waiting: _Queue[T], pool: _Pool, on_start: Callable[[T], None]
) -> Generator[tuple[T, R | Failure], None, list[tuple[T, BrokenExecutor]]]:
    """Run tasks from `waiting` until none is left or the pool breaks; return those it broke under, and how."""
    running: dict[Future[R], T] = {}
    broken: list[tuple[T, BrokenExecutor]] = []
    with pool() as (executor, width):
        while running or (waiting and not broken):
            while waiting and not broken and len(running) < width:
                task = next(waiting)
                on_start(task)
                try:
                    running[executor.submit(_call_on_one_thread, call, task)] = task
                except BrokenExecutor as error:
                    broken.append((task, error))
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                try:
                    result: R | Failure = future.result()
                except BrokenExecutor as error:
                    broken.append((task, error))
                    continue
                except Exception as error:  # a remote worker died, or what it was to call cannot be imported there
                    result = Failure(" ".join(f"the worker failed: {type(error).__name__}: {error}".split()))
                yield task, result
    return broken


def _why_broken(error: BrokenExecutor) -> str:
    if "un-serialize" in str(error):
        return "the worker cannot load what it is to call, or with what: both must be importable"
    return "the worker process died; it may have run out of memory"


def _call_on_one_thread(call: Callable[[T], R], task: T) -> R:
    one_thread()
    return call(task)


def one_thread() -> None:
    """Have this process compute on one thread, unless its environment says otherwise already.

    XLA reads the number of its threads once, before it first computes: call this before that.
    """
    for variable in _THREADS:
        os.environ.setdefault(variable, "1")


@contextmanager
def _local(workers: int) -> Iterator[tuple[Executor, int]]:
    # Loky, unlike the standard library's pool, needs no guard around the main module of the caller's script.
    executor = ProcessPoolExecutor(
        max_workers=workers,
        env={variable: os.environ.get(variable, "1") for variable in _THREADS},
        initializer=end_with,
        initargs=(os.getpid(),),
    )
    try:
        yield executor, workers
    except BaseException:
        with _managers_silent():
            executor.shutdown(kill_workers=True)
        raise
    executor.shutdown()


@contextmanager
def _managers_silent() -> Iterator[None]:
    """Do not print what loky's manager thread raises when workers are killed in the middle of an answer."""
    said = threading.excepthook

    def others(arguments: threading.ExceptHookArgs) -> None:
        if arguments.thread is None or arguments.thread.name != "ExecutorManagerThread":
            said(arguments)

    threading.excepthook = others
    try:
        yield
    finally:
        threading.excepthook = said


def end_with(parent: int) -> None:
    """End this process soon after its parent: a parent that is killed cannot tell its workers to stop."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_TO_NOTICE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _cluster(address: str) -> _Pool:
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port
    except ImportError as error:
        raise ImportError("cluster: needs Dask: pip install 'tendsto[cluster]'") from error
    try:
        get_address_host_port(address, strict=True)
    except ValueError as error:
        raise ConnectionError(f"cluster: {address!r} is not an address such as tcp://host:8786") from error

    @contextmanager
    def pool() -> Iterator[tuple[Executor, int]]:
        try:
            client = Client(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
        except OSError as error:
            raise ConnectionError(f"cluster: no Dask scheduler answers at {address}") from error
        with client:
            try:
                client.wait_for_workers(1, timeout=_SECONDS_TO_CONNECT)
            except TimeoutError as error:
                raise ConnectionError(f"cluster: the Dask scheduler at {address} has no workers") from error
            with client.get_executor(pure=False) as executor:
                yield executor, sum(client.nthreads().values())

    return pool
