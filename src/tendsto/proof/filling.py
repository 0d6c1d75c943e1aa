"""Fill the holes of a sketch: each on its own, in parallel, and the whole checked once at the end."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from tendsto.assistants import Certificate, Failure, Goal, ProofSession, Rocq, State, sentences
from tendsto.proof.blocks import gives_up
from tendsto.proof.search import Check, ProofOutcome, ProofResult
from tendsto.proof.sketch import Hole, Sketch
from tendsto.validation import integer, positive

Solver = Callable[[ProofSession, State], ProofResult]
"""Tries to finish a state; `Portfolio(...).solve` is one. The proof that it returns begins with the state's path."""

_TOKEN = re.compile(r"(?<![\w'.])[^\W\d][\w']*")
_CLEAR_ALL = "repeat match goal with it : _ |- _ => clear it end."


Worker = AbstractContextManager[ProofSession]
"""A session of one worker's own, entered before it is used; `RocqSession` is one."""


@dataclass(frozen=True)
class Filling:
    """What came of one hole.

    **Arguments**

    - `hole`: which.
    - `proof`: the text for it; empty if there is none.
    - `by`: the name of the solver that found it, also where the cache knew it.
    - `outcome`: `proved`; `failed` or `exhausted` (the solvers have nothing left to try); `open` (they ran out of time:
      it is not known that they would fail); or `unreached` (the assistant does not get to the hole, or another
      one stays open).
    - `cleared`: the proof uses the hinted hypotheses only.
    - `cached`: the cache knew the answer.
    - `seconds`: wall time.
    - `reason`: why there is no proof.
    """

    hole: Hole
    proof: str = ""
    by: str = ""
    outcome: ProofOutcome | Literal["unreached"] = "open"
    cleared: bool = False
    cached: bool = False
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class FillReport:
    """What came of all holes of a sketch.

    **Arguments**

    - `sketch`: whose they are.
    - `fillings`: in the order of its holes.
    - `script`: the sketch with the proofs that were found.
    - `certificate`: the assistant's answer to the whole; None where a hole is left.
    - `seconds`: wall time.
    """

    sketch: Sketch
    fillings: tuple[Filling, ...]
    script: str
    certificate: Certificate | None
    seconds: float

    @property
    def proved(self) -> bool:
        """Whether the theorem is proved: all holes are filled, and the whole was accepted."""
        return self.certificate is not None and self.certificate.accepted


class HoleCache:
    """Answers for goals already met, by the file before the theorem, the hypotheses and the conclusion.

    Two goals that differ only in what their hypotheses are called are one; the names in a known proof are changed, and
    the proof is run again. A goal that was not proved is not tried again, so a cache is for one set of solvers.

    `calls` counts the goals that went to the solvers, `hits` those that were known.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.hits = 0
        self.entries: dict[object, tuple[Filling, tuple[str, ...]]] = {}
        self._locks: dict[object, threading.Lock] = {}
        self._lock = threading.Lock()

    def key(self, state: State) -> object:
        """What the goal that a state acts on first is known by."""
        return state.opening.before, normalised(state.goals[0])

    @contextmanager
    def alone(self, key: object) -> Iterator[None]:
        """Have others with the same goal wait until the answer is there."""
        with self._lock:
            own = self._locks.setdefault(key, threading.Lock())
        with own:
            yield

    def count(self, known: bool) -> None:
        """Note whether a goal was known."""
        with self._lock:
            self.hits += known
            self.calls += not known


def normalised(goal: Goal) -> tuple[tuple[str, ...], str]:
    """The hypotheses and the conclusion of a goal, each hypothesis named by its position."""
    names = {name: f"\N{SECTION SIGN}{n}" for n, (name, _) in enumerate(goal.hypotheses)}
    return tuple(_renamed(what, names) for _, what in goal.hypotheses), _renamed(goal.conclusion, names)


def fill_holes(
    sketch: Sketch,
    session_factory: Callable[[], Worker],
    solver: Solver | Mapping[str, Solver],
    *,
    use_hints: bool = True,
    workers: int = 1,
    cache: HoleCache | None = None,
    check: Check | None = None,
    seconds: float = 10.0,
    all_or_none: bool = False,
    on_hole: Callable[[Filling], None] | None = None,
) -> FillReport:
    """Prove the goals that a sketch leaves open.

    A hole is proved where it stands, all others given up. With hints `a, b` everything but what these and the
    conclusion need is cleared before (`clear - a b`; with none, all that can be), for a proof under fewer hypotheses is
    one under all. Where that cannot be (a hint is no hypothesis), and where no proof is found so, the hole is tried
    with all that it has. The whole is checked once, by a fresh process, after the last hole.

    **Arguments**

    - `sketch`: a sketch that was replayed.
    - `session_factory`: opens a session, one for each worker; `RocqSession` is one.
    - `solver`: what proves a goal; or several by name, tried in this order.
    - `use_hints`: clear what the hints do not name.
    - `workers`: how many holes are worked at together, each by its own process.
    - `cache`: answers known from other sketches.
    - `check`: the final check, by default `Rocq().check_proof`.
    - `seconds`: for each sentence that is replayed.
    - `all_or_none`: begin with no further hole once one stays open.
    - `on_hole`: is told of each hole that is done, in the order in which they are.

    **Raises** `ValueError` or `TypeError` for arguments out of range.

    Source: Cao et al., "Reviving DSP" (2025), the prove phase; Hu et al., "HybridProver" (2025), refinement.
    """
    integer("workers", workers, low=1)
    positive("seconds", seconds)
    started = time.perf_counter()
    solvers = dict(solver) if isinstance(solver, Mapping) else {"solver": solver}
    known = HoleCache() if cache is None else cache
    sessions: queue.SimpleQueue[ProofSession] = queue.SimpleQueue()
    telling = threading.Lock()
    hopeless = threading.Event()

    def work(hole: Hole) -> Filling:
        if hopeless.is_set():
            return Filling(hole, outcome="unreached", reason="another hole stays open")
        session = sessions.get()
        try:
            clock = time.perf_counter()
            found = _Filler(sketch, hole, session, solvers, known, seconds).fill(use_hints)
            found = replace(found, seconds=time.perf_counter() - clock)
        finally:
            sessions.put(session)
        if all_or_none and not found.proof:
            hopeless.set()
        if on_hole is not None:
            with telling:
                on_hole(found)
        return found

    with ExitStack() as stack:
        for _ in range(min(workers, len(sketch.holes))):
            sessions.put(stack.enter_context(session_factory()))
        if workers == 1:
            fillings = tuple(work(hole) for hole in sketch.holes)
        else:
            fillings = tuple(stack.enter_context(ThreadPoolExecutor(workers)).map(work, sketch.holes))
    script = sketch.splice({it.hole.id: it.proof for it in fillings if it.proof})
    certificate = None
    if all(it.proof for it in fillings):
        opening = sketch.opening
        certificate = (check or Rocq().check_proof)("\n".join(opening.before), opening.statement, script)
    return FillReport(sketch, fillings, script, certificate, time.perf_counter() - started)


@dataclass(frozen=True)
class Focused:
    """A session in which a goal in braces counts as the whole: it is finished when these can be closed.

    What gives goals up is refused, and so is what closes those braces.

    **Arguments**

    - `session`: runs the tactics.
    - `depth`: how many sentences lead into the braces.
    """

    session: ProofSession
    depth: int

    def start(self, before: str, statement: str, *, seconds: float = 600.0) -> State | Failure:
        """As the session does."""
        return self.session.start(before, statement, seconds=seconds)

    def run(self, state: State, tactic: str, *, seconds: float = 10.0) -> State | Failure:
        """As the session does, but for what leaves the goal, one way or the other."""
        try:
            surrenders = gives_up(tactic)
        except ValueError as error:
            return Failure("refused", str(error))
        if surrenders:
            return Failure("refused", "it gives a goal up")
        inner = state.path[self.depth :]
        opened = sum(it.endswith("{") for it in inner) - inner.count("}")
        if tactic.strip() == "}" and opened == 0:
            return Failure("refused", "it leaves the goal")
        found = self.session.run(state, tactic, seconds=seconds)
        if isinstance(found, Failure) or found.goals:
            return found
        opened += tactic.strip().endswith("{") - (tactic.strip() == "}")
        finished = opened == 0 and not isinstance(self.session.run(found, "}", seconds=seconds), Failure)
        return replace(found, finished=finished, given_up=False)

    def close(self) -> None:
        """As the session does."""
        self.session.close()


@dataclass(frozen=True)
class _Filler:
    sketch: Sketch
    hole: Hole
    session: ProofSession
    solvers: Mapping[str, Solver]
    cache: HoleCache
    seconds: float

    def fill(self, use_hints: bool) -> Filling:
        state = self._reach()
        if isinstance(state, Failure):
            return Filling(self.hole, outcome="unreached", reason=f"{state.kind}: {state.message}")
        focus = Focused(self.session, len(state.path))
        tries = [state]
        if use_hints and self.hole.hints is not None:
            clear = f"clear - {' '.join(self.hole.hints)}." if self.hole.hints else _CLEAR_ALL
            cleared = focus.run(state, clear, seconds=self.seconds)
            if not isinstance(cleared, Failure) and cleared.text != state.text:
                tries.insert(0, cleared)
        filling = Filling(self.hole)
        for one in tries:
            filling = self._solve(focus, one, replace(filling, cleared=one is not state))
            if filling.proof:
                prefix = one.path[len(state.path) :]
                return replace(filling, proof="\n".join([*prefix, filling.proof]))
        return replace(filling, cleared=False)

    def _reach(self) -> State | Failure:
        opening = self.sketch.opening
        state = self.session.start("\n".join(opening.before), opening.statement)
        for sentence in (*self.sketch.before(self.hole), "{"):
            if isinstance(state, Failure):
                break
            state = self.session.run(state, sentence, seconds=self.seconds)
        return state

    def _solve(self, focus: Focused, state: State, filling: Filling) -> Filling:
        names = tuple(name for name, _ in state.goals[0].hypotheses)
        key = self.cache.key(state)
        with self.cache.alone(key):
            if key in self.cache.entries:
                known, old = self.cache.entries[key]
                proof = _renamed(known.proof, dict(zip(old, names, strict=False)))
                if not proof or self._holds(focus, state, proof):
                    self.cache.count(known=True)
                    return replace(known, hole=self.hole, proof=proof, cleared=filling.cleared, cached=True)
            self.cache.count(known=False)
            found = self._ask(focus, state, filling)
            self.cache.entries[key] = found, names
            return found

    def _ask(self, focus: Focused, state: State, filling: Filling) -> Filling:
        outcomes: list[tuple[ProofOutcome, str]] = []
        for name, solver in self.solvers.items():
            result = solver(focus, state)
            proof = "\n".join(result.proof[len(state.path) :])
            if result.outcome == "proved" and self._holds(focus, state, proof):
                return replace(filling, proof=proof, by=name, outcome="proved", reason="")
            if result.outcome == "proved":
                outcomes.append(("open", f"the proof that {name} found does not hold here"))
            else:
                outcomes.append((result.outcome, result.reason))
        # Only if no solver has anything left to try, the goal is known to be beyond them.
        order: tuple[ProofOutcome, ...] = ("open", "exhausted", "failed")
        worst = min(outcomes, key=lambda it: order.index(it[0]))
        return replace(filling, outcome=worst[0], reason=worst[1])

    def _holds(self, focus: Focused, state: State, proof: str) -> bool:
        """Whether a text finishes a state, sentence by sentence."""
        try:
            parts = sentences(proof)
        except ValueError:
            return False
        for sentence in parts:
            found = focus.run(state, sentence.text, seconds=self.seconds)
            if isinstance(found, Failure):
                return False
            state = found
        return state.finished


def _renamed(text: str, names: Mapping[str, str]) -> str:
    return _TOKEN.sub(lambda it: names.get(it[0], it[0]), text)
