"""Check many claims: on this machine's cores or on a Dask cluster, keeping each verdict as it lands."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager, closing, contextmanager

from joblib.externals.loky.process_executor import ProcessPoolExecutor

from tendsto.evidence import provenance
from tendsto.evidence.claim import Budget, Claim, find_claim
from tendsto.evidence.judge import Exhibits, check_claim, died
from tendsto.evidence.store import Store
from tendsto.evidence.verdict import Verdict

Checked = tuple[Verdict, Exhibits]

# With one thread each, workers do not compete for cores, and no sum is split in a way that depends on how
# many cores there are. `NPROC` is XLA's.
_THREADS = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_SECONDS_TO_CONNECT = 5
_SECONDS_TO_NOTICE = 0.5

Pool = Callable[[], AbstractContextManager[tuple[Executor, int]]]
"""Opens the workers: an executor, and how many tasks it runs at a time."""


def _ignore(_: object) -> None:
    """For who does not want to be told."""


def check(
    claims: Iterable[Claim],
    budget: Budget,
    *,
    workers: int = 1,
    cluster: str | None = None,
    store: Store | None = None,
    resume: bool = True,
    on_start: Callable[[Claim], None] = _ignore,
    on_verdict: Callable[[Verdict], None] = _ignore,
) -> list[Verdict]:
    """Check `claims`, one a worker at a time, and return their verdicts in the order given.

    **Arguments**

    - `claims`: from `tendsto.papers.catalogue()`, or any claim in a module that other processes can import.
    - `budget`: how much each may spend, and the seed.
    - `workers`: processes on this machine, each of one thread; 1 runs in this process as it is.
    - `cluster`: the address of a Dask scheduler ("tcp://host:8786"), whose workers then do the work.
    - `store`: where each verdict is kept as it lands; None keeps none.
    - `resume`: take a verdict from the store where the claim, the seed and the versions are as they were.
    - `on_start`, `on_verdict`: called in this process as a claim starts and as a verdict lands.

    A claim whose process dies is run again alone, and is `not run` if its process dies again; the
    others go on. Numbers do not depend on `workers` or `cluster`, up to the arithmetic of the machines.

    **Raises** `ValueError` for fewer than one worker; `OSError` if a verdict cannot be written;
    `ConnectionError` if the cluster does not answer; `ImportError` if Dask is not installed.
    """
    if workers < 1:
        raise ValueError(f"workers: must be at least 1, got {workers}")
    claims = list(claims)
    verdicts: dict[tuple[str, str], Verdict] = {}
    digests: dict[tuple[str, str], str] = {}

    def keep(claim: Claim, verdict: Verdict) -> None:
        verdicts[_key(claim)] = verdict
        on_verdict(verdict)

    for claim in claims:
        stored = store.load(claim, budget) if store and resume else None
        if stored:
            keep(claim, stored)
        elif store:
            digests[_key(claim)] = provenance.digest(claim, budget)
    open_claims = [claim for claim in claims if _key(claim) not in verdicts]
    with closing(_run(open_claims, budget, workers, cluster, on_start)) as running:
        for claim, (verdict, exhibits) in running:
            if store:
                store.save(verdict, exhibits, digests[_key(claim)])
            keep(claim, verdict)
    return [verdicts[_key(claim)] for claim in claims]


def _key(claim: Claim) -> tuple[str, str]:
    return claim.module, claim.name


def _run(
    claims: list[Claim],
    budget: Budget,
    workers: int,
    cluster: str | None,
    on_start: Callable[[Claim], None],
) -> Generator[tuple[Claim, Checked]]:
    if not claims:
        return
    if cluster is not None:
        yield from _in_processes(claims, budget, _cluster(cluster), on_start)
    elif workers > 1:
        yield from _in_processes(claims, budget, lambda: _local(min(workers, len(claims))), on_start)
    else:
        for claim in claims:
            on_start(claim)
            yield claim, check_claim(claim, budget)


def _in_processes(
    claims: list[Claim], budget: Budget, pool: Pool, on_start: Callable[[Claim], None]
) -> Iterator[tuple[Claim, Checked]]:
    """Run `claims` on the workers of `pool`.

    A local worker that dies takes down all that were running, and which was at fault is not known: each
    of them is run again alone.
    """
    waiting = deque(claims)
    while waiting:
        suspects = yield from _until_broken(waiting, budget, pool, on_start)
        for claim in suspects:
            if (yield from _until_broken(deque([claim]), budget, pool, on_start)):
                reason = "the worker process died; it may have run out of memory"
                yield claim, (died(claim, budget, reason), Exhibits())


def _until_broken(
    waiting: deque[Claim], budget: Budget, pool: Pool, on_start: Callable[[Claim], None]
) -> Generator[tuple[Claim, Checked], None, list[Claim]]:
    """Take claims from `waiting` until none is left or the pool breaks; return those it broke under."""
    running: dict[Future[Checked], Claim] = {}
    broken: list[Claim] = []
    with pool() as (executor, width):
        while running or (waiting and not broken):
            while waiting and not broken and len(running) < width:
                claim = waiting.popleft()
                on_start(claim)
                try:
                    running[executor.submit(_check_in_worker, claim.module, claim.name, budget)] = claim
                except BrokenExecutor:
                    broken.append(claim)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                claim = running.pop(future)
                try:
                    checked = future.result()
                except BrokenExecutor:
                    broken.append(claim)
                    continue
                except Exception as error:  # a remote worker died, or cannot import the claim
                    reason = " ".join(f"the worker failed: {type(error).__name__}: {error}".split())
                    checked = died(claim, budget, reason), Exhibits()
                yield claim, checked
    return broken


def _check_in_worker(module: str, name: str, budget: Budget) -> Checked:
    one_thread()
    return check_claim(find_claim(module, name), budget)


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
        initializer=_end_with,
        initargs=(os.getpid(),),
    )
    try:
        yield executor, workers
    finally:
        executor.shutdown(kill_workers=True)


def _end_with(parent: int) -> None:
    """End this worker soon after its parent: a parent that is killed cannot tell its workers to stop."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_TO_NOTICE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _cluster(address: str) -> Pool:
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
