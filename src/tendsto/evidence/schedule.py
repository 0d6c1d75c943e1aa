"""Check many claims: on this machine's cores or on a Dask cluster, keeping each verdict as it lands."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import closing

from tendsto.evidence import provenance
from tendsto.evidence.claim import Budget, Claim, find_claim
from tendsto.evidence.judge import Exhibits, check_claim, died
from tendsto.evidence.store import Store
from tendsto.evidence.verdict import Verdict
from tendsto.workers import Failure, run_tasks

_Name = tuple[str, str]
"""The module that makes a claim, and the claim's name: what another process needs to find it."""


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
    claims = list(claims)
    verdicts: dict[_Name, Verdict] = {}
    digests: dict[_Name, str] = {}

    def keep(claim: Claim, verdict: Verdict) -> None:
        verdicts[_name(claim)] = verdict
        on_verdict(verdict)

    for claim in claims:
        stored = store.load(claim, budget) if store and resume else None
        if stored:
            keep(claim, stored)
        elif store:
            digests[_name(claim)] = provenance.digest(claim, budget)
    left = {_name(claim): claim for claim in claims if _name(claim) not in verdicts}
    running = run_tasks(
        functools.partial(_check, budget=budget),
        left,
        workers=min(workers, max(len(left), 1)) if workers > 0 else workers,
        cluster=cluster if left else None,
        on_start=lambda name: on_start(left[name]),
    )
    with closing(running):
        for name, outcome in running:
            claim = left[name]
            verdict, exhibits = (
                (died(claim, budget, outcome.reason), Exhibits()) if isinstance(outcome, Failure) else outcome
            )
            if store:
                store.save(verdict, exhibits, digests[name])
            keep(claim, verdict)
    return [verdicts[_name(claim)] for claim in claims]


def _name(claim: Claim) -> _Name:
    return claim.module, claim.name


def _check(name: _Name, budget: Budget) -> tuple[Verdict, Exhibits]:
    return check_claim(find_claim(*name), budget)
