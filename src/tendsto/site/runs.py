"""The queue of claims that visitors asked to run, and the thread that runs them in processes of their own."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, get_args

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from tendsto.evidence import Store
from tendsto.evidence.claim import BudgetName
from tendsto.papers import Entry
from tendsto.site import shelf
from tendsto.site.database import Run, StoredVerdict, lock, now
from tendsto.site.settings import Settings

OPEN = ("queued", "running")
_WAITING_FOR_ONE = 10
_WAITING_FOR_ALL = 200
_SECONDS = {"quick": 900, "standard": 4 * 3600, "full": 48 * 3600}
_SECONDS_TO_END = 5.0
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_BETWEEN_READS = 2.0
_LONGEST_MESSAGE = 500


class QueueFull(Exception):
    """No more runs are taken for now; the message says why."""


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    started: datetime
    seconds: int
    log: IO[bytes]


def ask(
    session: Session, papers: Mapping[str, Entry], visitor: str, name: str, budget: str, seed: int, settings: Settings
) -> Run:
    """Queue a run of the claim `name` ("slug/claim") for `visitor`; the same run asked for again is the one queued.

    **Raises** `LookupError` if the catalogue has no such claim; `ValueError` for a budget that is none or more than
    the site spends, or a seed out of range; `QueueFull` if too many runs wait.
    """
    slug, _, claim = name.partition("/")
    if slug not in papers or claim not in papers[slug].claims:
        raise LookupError(f"claim: there is no {name!r} in the catalogue")
    sizes = get_args(BudgetName)
    allowed = sizes[: sizes.index(settings.largest_budget) + 1]
    if budget not in allowed:
        raise ValueError(f"budget: {budget!r} is not one of {', '.join(allowed)}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed: must be in [0, 2**32), got {seed}")
    lock(session, Run)
    same = select(Run).where(
        Run.visitor == visitor,
        Run.paper == slug,
        Run.claim == claim,
        Run.budget == budget,
        Run.seed == seed,
        Run.state.in_(OPEN),
    )
    if found := session.scalars(same).first():
        session.commit()
        return found
    waiting = select(func.count()).where(Run.state == "queued")
    if session.scalar(waiting.where(Run.visitor == visitor)) >= _WAITING_FOR_ONE:  # type: ignore[operator]
        raise QueueFull(f"{_WAITING_FOR_ONE} of your runs wait already; cancel one, or come back when one has ended")
    if session.scalar(waiting) >= _WAITING_FOR_ALL:  # type: ignore[operator]
        raise QueueFull("too many runs wait already; come back when some have ended")
    run = Run(visitor=visitor, paper=slug, claim=claim, budget=budget, seed=seed, state="queued", queued=now())
    session.add(run)
    session.commit()
    return run


def cancel(session: Session, run: Run) -> None:
    """Cancel `run`; if it is running, its process ends at the runner's next look."""
    session.execute(
        update(Run).where(Run.id == run.id, Run.state.in_(OPEN)).values(state="cancelled", ended=now(), message="")
    )
    session.commit()
    session.refresh(run)


def next_run(session: Session) -> Run | None:
    """The run that is due: visitors take turns, and each visitor's runs go in the order they were asked for."""
    served = select(Run.visitor, func.max(Run.started).label("last")).group_by(Run.visitor).subquery()
    return session.scalars(
        select(Run)
        .join(served, served.c.visitor == Run.visitor)
        .where(Run.state == "queued")
        .order_by(served.c.last.is_not(None), served.c.last, Run.id)
    ).first()


def place(session: Session, run: Run) -> int:
    """How many runs are due before `run` at most: those that wait, and were asked for before it or by others."""
    ahead = select(func.count()).where(Run.state == "queued", Run.id < run.id)
    return session.scalar(ahead) or 0


def expected_seconds(session: Session, run: Run) -> float | None:
    """How long the same claim took at the same budget the last time; None if it never ran here."""
    return session.scalar(
        select(StoredVerdict.seconds)
        .where(
            StoredVerdict.paper == run.paper,
            StoredVerdict.claim == run.claim,
            StoredVerdict.budget == run.budget,
            StoredVerdict.ruling != "not run",
        )
        .order_by(StoredVerdict.id.desc())
        .limit(1)
    )


@dataclass
class Runner:
    """Runs what is queued, `settings.workers` at a time, until it is stopped.

    A process that ends is looked after here alone: the state of a run changes from `queued` to `running`, and then to
    `done` (its verdict stands in the store), `failed`, `cancelled` or `interrupted` (the server went away under it).
    """

    engine: Engine
    papers: Mapping[str, Entry]
    settings: Settings
    _children: dict[int, _Child] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Mark what the last server left running as interrupted, and start to run what waits."""
        with Session(self.engine) as session, session.begin():
            session.execute(
                update(Run)
                .where(Run.state == "running")
                .values(state="interrupted", ended=now(), message="The server stopped while it ran.")
            )
            session.execute(update(StoredVerdict).values(outdated=None))
        self._thread = threading.Thread(target=self._loop, name="runner", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the processes, mark their runs as interrupted, and return when the thread has ended."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _loop(self) -> None:
        read_next = 0.0
        while not self._stop.is_set():
            self._attempt(self._look)
            self._attempt(self._begin)
            if time.monotonic() >= read_next:
                self._attempt(self._read)
                read_next = time.monotonic() + _SECONDS_BETWEEN_READS
            self._stop.wait(_SECONDS_BETWEEN_LOOKS)
        for identity in list(self._children):
            self._end(identity)
            self._attempt(functools.partial(self._close, identity, "interrupted", "The server was stopped."))

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # a full disk or a locked database must not end the queue
            print(f"tendsto: the queue of runs: {type(error).__name__}: {error}", file=sys.stderr)

    def _begin(self) -> None:
        while len(self._children) < self.settings.workers and not self._stop.is_set():
            with Session(self.engine) as session:
                run = next_run(session)
                if run is None:
                    return
                taken = (
                    update(Run).where(Run.id == run.id, Run.state == "queued").values(state="running", started=now())
                )
                if session.scalar(taken.returning(Run.id)) is None:  # cancelled a moment ago
                    continue
                session.commit()
                log = tempfile.TemporaryFile()  # noqa: SIM115  # the child writes to it, and `_close` closes it
                try:
                    process = self._spawn(run, log)
                except OSError as error:
                    run.state, run.ended, run.message = "failed", now(), f"It could not be started: {error}"
                    session.commit()
                    log.close()
                    continue
                self._children[run.id] = _Child(process, now(), _SECONDS[run.budget], log)

    def _spawn(self, run: Run, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "tendsto.site.worker", str(self.settings.folder), str(os.getpid())),
                *(run.paper, run.claim, run.budget, str(run.seed)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _read(self) -> None:
        """Take over what `tendsto check` or an end of the queue left in the store."""
        store = Store(self.settings.folder)
        with Session(self.engine) as session, session.begin():
            shelf.read_verdicts(session, store)
            shelf.audit(session, store, self.papers)

    def _look(self) -> None:
        for identity, child in list(self._children.items()):
            code = child.process.poll()
            if code is not None:
                self._land(identity, child, code)
                continue
            with Session(self.engine) as session:
                state = session.scalar(select(Run.state).where(Run.id == identity))
            if state != "running":
                self._end(identity)
                self._children.pop(identity).log.close()
            elif (now() - child.started).total_seconds() > child.seconds:
                self._end(identity)
                self._close(identity, "failed", f"It took more than {child.seconds} seconds.")

    def _land(self, identity: int, child: _Child, code: int) -> None:
        with Session(self.engine) as session, session.begin():
            shelf.read_verdicts(session, Store(self.settings.folder))
        if code == 0:
            self._close(identity, "done", "")
        elif code < 0:
            self._close(identity, "failed", f"Its process was ended by {signal.Signals(-code).name}.")
        else:
            self._close(identity, "failed", _last_line(child.log))

    def _close(self, identity: int, state: str, message: str) -> None:
        with Session(self.engine) as session, session.begin():
            lock(session, Run)  # it may be cancelled this moment
            run = session.get_one(Run, identity)
            if run.state == "running":
                run.state, run.ended, run.message = state, now(), message[:_LONGEST_MESSAGE]
                if state == "done":
                    run.ruling = session.scalar(
                        select(StoredVerdict.ruling).where(
                            StoredVerdict.paper == run.paper,
                            StoredVerdict.claim == run.claim,
                            StoredVerdict.budget == run.budget,
                            StoredVerdict.seed == run.seed,
                            StoredVerdict.current,
                        )
                    )
        self._children.pop(identity).log.close()

    def _end(self, identity: int) -> None:
        process = self._children[identity].process
        for kind in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, kind)
                process.wait(_SECONDS_TO_END)
                return
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "It ended without a word."
