"""Close goals with the automation that Rocq and its packages have, and use premises with it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tendsto.assistants.protocol import Failure, ProofSession, State
from tendsto.proof.corpus import Premise
from tendsto.proof.policies import Suggestion, data_names, ranked, short_name
from tendsto.proof.search import Check, ProofOutcome, ProofResult, SearchStats
from tendsto.proof.tree import answer_of
from tendsto.validation import integer, positive


class Closer(NamedTuple):
    """A tactic that closes a goal or fails to, and the wall time it is given, in seconds."""

    tactic: str
    seconds: float


ROCQ = (
    Closer("reflexivity.", 5),
    Closer("assumption.", 2),
    Closer("easy.", 5),
    Closer("lia.", 10),
    Closer("nia.", 10),
    Closer("lra.", 10),
    Closer("nra.", 10),
    Closer("ring.", 5),
    Closer("field.", 5),
    Closer("auto with *.", 5),
    Closer("eauto.", 5),
    Closer("intuition.", 5),
    Closer("firstorder.", 5),
    Closer("sauto.", 10),
    Closer("hauto lq: on.", 10),
    Closer("psatz Z 2.", 10),
    Closer("psatz R 2.", 10),
    Closer("hammer.", 60),
)
"""From quick to slow. `hammer` asks the first-order provers that are installed (E), `psatz` asks CSDP."""

IMPORTS = ("From Coq Require Import Lia Lra Psatz.", "From Hammer Require Import Tactics.")
"""What brings most of `ROCQ` into a file that does not import it: micromega, and CoqHammer's tactics.

A proof that needs such a line is certified for the file *with* that line just before the theorem, and the line has to
go into the file with the proof. Further up it may break other proofs: CoqHammer loads libraries whose hints change what
`intuition` does (the proof of `in_seq` in the standard library's `List.v` fails below it).
"""

HAMMER_WITH_E = "From Hammer Require Import Hammer.\nUnset Hammer Vampire.\nUnset Hammer Z3.\nUnset Hammer CVC4."
"""What brings `hammer` into a file, with E as the only prover it asks.

The first call of a process reads all loaded libraries and looks for provers, which may take half a minute.
"""

_REPLACEMENT = re.compile(r"Replace the hammer tactic with:\s*(?P<tactic>\S.*?)\.?\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Portfolio:
    """Closing tactics, tried one after the other on the first goal until none is left.

    A tactic that the file has not loaded is skipped. What `hammer` finds is replaced by the tactic that it prints, and
    only counts if that closes the goal too: a proof never calls `hammer`, so it needs no prover to be checked.

    **Arguments**

    - `closers`: the tactics in their order, each one sentence with its dot.
    - `check`: an independent check of the whole proof, `Rocq().check_proof`; one that is not accepted is none.

    **Raises** `ValueError` if there is no tactic, or for a time that is not positive.
    """

    closers: tuple[Closer, ...] = ROCQ
    check: Check | None = None

    def __post_init__(self) -> None:
        if not self.closers:
            raise ValueError("closers: must not be empty")
        for closer in self.closers:
            positive("closers", closer.seconds)

    def loaded(self, session: ProofSession, state: State) -> tuple[Closer, ...]:
        """The tactics that the file before the theorem has loaded; nothing is tried."""
        return tuple(closer for closer in self.closers if _is_loaded(session, state, closer.tactic))

    def solve(self, session: ProofSession, state: State) -> ProofResult:
        """Close every goal of a state.

        **Returns** outcome `proved` with the tactics that closed the goals, in order, after those that led to the
        state; `failed` if every tactic that is loaded fails on one goal; `exhausted` if one of them gave no answer.
        """
        started = time.monotonic()
        stats = SearchStats()
        closers = self.loaded(session, state)
        while not state.finished:
            after, unanswered = self._close(session, state, closers, stats)
            stats.seconds = stats.assistant_seconds = time.monotonic() - started
            if after is None:
                outcome: ProofOutcome = "exhausted" if unanswered else "failed"
                return ProofResult(outcome, stats=stats, reason=f"nothing closes {state.goals[0].conclusion}")
            state = after
        if self.check is None:
            return ProofResult("proved", state.path, None, stats)
        opening = state.opening
        certificate = self.check("\n".join(opening.before), opening.statement, "\n".join(state.path))
        stats.checks += 1
        stats.check_seconds = time.monotonic() - started - stats.seconds
        stats.seconds = time.monotonic() - started
        if certificate.accepted:
            return ProofResult("proved", state.path, certificate, stats)
        reason = f"the check does not accept the proof that was found: {certificate.messages}"
        return ProofResult("failed", (), certificate, stats, reason)

    def suggest(self, state: State, premises: Sequence[Premise], k: int) -> list[Suggestion]:
        """The first `k` of the tactics but `hammer`, all equally probable; see `TacticPolicy.suggest`.

        In a search each runs under the search's own limit on time.
        """
        return ranked({it.tactic: 1.0 for it in self.closers if it.tactic != "hammer."}, k)

    def _close(
        self, session: ProofSession, state: State, closers: Sequence[Closer], stats: SearchStats
    ) -> tuple[State | None, bool]:
        """The state without its first goal, or none; and whether a tactic gave no answer."""
        unanswered = False
        for closer in closers:
            result = session.run(state, closer.tactic, seconds=closer.seconds)
            said = result.message if isinstance(result, Failure) else result.messages
            if found := _REPLACEMENT.search(said):
                result = session.run(state, f"{found['tactic']}.", seconds=closer.seconds)
            elif closer.tactic == "hammer." and isinstance(result, State):
                result = Failure("error", "hammer does not say how it proved the goal")
            stats.tactics[answer_of(result)] += 1
            if isinstance(result, Failure):
                unanswered |= result.kind in ("timed out", "crashed")
            elif result.finished or (not result.given_up and len(result.goals) < len(state.goals)):
                return result, False
        return None, unanswered


@dataclass(frozen=True)
class PremiseAutomation:
    """A policy of single shots: CoqHammer's `hauto` with premises, as it stands and after an induction.

    The suggestions are `hauto lq: on use: p₁, …, pₙ.` and, for each variable of the goal that looks like data,
    `induction x; hauto lq: on use: p₁, …, pₙ.`, all equally probable. The file must import `Hammer.Tactics.Tactics`.

    **Arguments**

    - `num_premises`: n, at most; without premises `use:` is left out.
    - `inductions`: for how many variables at most.
    - `limit`: the cost of search at which `hauto` gives up; `None` for its own, 1000. It counts steps, not seconds, so
      what it finds does not depend on how busy the machine is. With eight premises 100 takes about a second.

    **Raises** `ValueError` for a negative number.
    """

    num_premises: int = 8
    inductions: int = 2
    limit: int | None = None

    def __post_init__(self) -> None:
        integer("num_premises", self.num_premises, low=0)
        integer("inductions", self.inductions, low=0)
        if self.limit is not None:
            integer("limit", self.limit, low=1)

    def suggest(self, state: State, premises: Sequence[Premise], k: int) -> list[Suggestion]:
        """At most `1 + inductions` tactics; see `TacticPolicy.suggest`."""
        if not state.goals:
            return []
        names = ", ".join(short_name(it) for it in premises[: self.num_premises])
        limit = "" if self.limit is None else f" limit: {self.limit}"
        shot = f"hauto lq: on{limit} use: {names}." if names else f"hauto lq: on{limit}."
        variables = data_names(state.goals[0])[: self.inductions]
        return ranked(dict.fromkeys((shot, *(f"induction {name}; {shot}" for name in variables)), 1.0), k)


def _is_loaded(session: ProofSession, state: State, tactic: str) -> bool:
    # Rocq resolves the names in all branches before it runs the first.
    return isinstance(session.run(state, f"first [ idtac | {tactic.removesuffix('.')} ].", seconds=60.0), State)
