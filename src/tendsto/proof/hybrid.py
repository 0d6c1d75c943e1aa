"""Proofs in one piece where they hold, and where they fail their structure, its holes filled by tactics."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, TypeVar

from tendsto.assistants import Certificate, Failure, Opening, ProofSession, Rocq, State, sentences
from tendsto.assistants.sentences import without_comments
from tendsto.proof.filling import Filling, HoleCache, Solver, Worker, fill_holes, normalised
from tendsto.proof.policies import TacticPolicy, WholeProofPolicy
from tendsto.proof.search import BestFirstProver, Check, PremiseSelector, ProofResult
from tendsto.proof.sketch import Sketch, Unusable, mask_errors, proof_text, sketch
from tendsto.validation import integer, positive, real

T = TypeVar("T")
Stage = Literal["whole", "sketch+automation", "sketch+tactic"]


class Automation(Protocol):
    """Proves goals by itself; `Portfolio` is one."""

    def solve(self, session: ProofSession, state: State) -> ProofResult:
        """Try to finish a state."""
        ...


@dataclass(frozen=True)
class HoleBudget:
    """How much the tactic search of one hole may spend; the paper does not say, these are this library's own.

    **Arguments**

    - `expansions`: states whose tactics are tried.
    - `seconds`: wall time.
    """

    expansions: int = 32
    seconds: float = 20.0

    def __post_init__(self) -> None:
        integer("expansions", self.expansions, low=1)
        positive("seconds", self.seconds)


@dataclass(frozen=True)
class ProofReport:
    """What a `HybridProver` found about a theorem, and how.

    **Arguments**

    - `proof`: the text between `Proof.` and `Qed.`; empty if none was accepted.
    - `stage`: what it took: `whole` (a candidate as it came), `sketch+automation` (the holes of a sketch were closed by
      automation alone) or `sketch+tactic` (some by tactic search); None without a proof.
    - `certificate`: the assistant's answer to the proof.
    - `fillings`: the holes of the sketch that became the proof, with the solver of each.
    - `candidates`, `distinct`: how many whole proofs were drawn, and how many of them are different texts.
    - `sketches`, `tried`: how many different sketches they gave, and how many of these were worked at.
    - `solver_calls`, `cache_hits`: goals that went to the solvers, and goals already known.
    - `seconds`: wall time.
    - `reason`: why there is no proof.
    """

    proof: str = ""
    stage: Stage | None = None
    certificate: Certificate | None = None
    fillings: tuple[Filling, ...] = ()
    candidates: int = 0
    distinct: int = 0
    sketches: int = 0
    tried: int = 0
    solver_calls: int = 0
    cache_hits: int = 0
    seconds: float = 0.0
    reason: str = ""

    @property
    def proved(self) -> bool:
        """Whether the assistant accepted a proof."""
        return self.certificate is not None and self.certificate.accepted

    def to_json(self) -> dict[str, Any]:
        """The same as objects that `json.dumps` takes."""
        plain = asdict(self)
        plain["certificate"] = self.certificate.outcome if self.certificate else None
        return plain


@dataclass(frozen=True)
class HybridProver:
    r"""Proves a theorem by whole proofs first, then by the sketches of those that fail (HybridProver).

    1. Draw `n_candidates` whole proofs.
    2. Drop what is no proof text (empty, a comment that does not end, another theorem), and what came twice.¹
    3. Run all; the first that the assistant accepts ends the search.
    4. Reduce each that failed to its sketch: a hole in the place of each justification.
    5. Replay the sketches; drop those that cannot be, and those whose goals are those of another;¹ the fewest parts
       taken out come first, then the fewest holes, then the shortest.¹
    6. Prove each hole: the cache of goals known from other sketches,¹ then automation, then best-first search with
       tactics from the policy.¹ One that stays open ends the sketch.
    7. Check the completed sketch as a whole; the first that is accepted ends the search.

    Whatever is proved by a whole proof alone is also proved here, from the same candidates. With independent holes that
    the solvers close with probability $p_i$, sketches $s$ succeed with probability
    $1 - \prod_s (1 - \prod_{i \in s} p_i)$.

    ¹ A choice of this library's own, where the paper's text does not say.

    **Arguments**

    - `session_factory`: opens a session, one for each worker; `RocqSession` is one.
    - `whole`: writes the candidates.
    - `tactic`: suggests tactics for the holes; without it, automation stands alone.
    - `automation`: proves goals by itself, a `Portfolio`; may be None.
    - `n_candidates`: whole proofs that are drawn (the paper's 128).
    - `n_tactics`: tactics that are tried in a state of a hole (the paper's 128).
    - `hole_budget`: what the search of one hole may spend.
    - `max_sketches`: how many sketches are worked at.
    - `temperature`: of the whole proofs.
    - `keep_proved`: leave justifications that hold in the sketches, and make holes only of what is broken, in the
      manner of DSP+; the paper makes a hole of each.
    - `retriever`: selects premises for the tactic policy.
    - `workers`: how many candidates, and then holes, are worked at together.
    - `check`: the final check, by default `Rocq().check_proof`.
    - `tactic_seconds`: for each sentence of a candidate.

    **Raises** `ValueError` or `TypeError` for arguments out of range.

    Source: Hu et al., "HybridProver: Augmenting Theorem Proving with LLM-Driven Proof Synthesis and Refinement" (2025),
    for Isabelle; the rules for Rocq's sketches are this library's own.
    """

    session_factory: Callable[[], Worker]
    whole: WholeProofPolicy
    tactic: TacticPolicy | None = None
    automation: Automation | None = None
    n_candidates: int = 128
    n_tactics: int = 128
    hole_budget: HoleBudget = HoleBudget()
    max_sketches: int = 16
    temperature: float = 1.0
    keep_proved: bool = False
    retriever: PremiseSelector | None = None
    workers: int = 1
    check: Check | None = None
    tactic_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in ("n_candidates", "n_tactics", "max_sketches", "workers"):
            integer(name, getattr(self, name), low=1)
        real("temperature", self.temperature, low=0.0)
        positive("tactic_seconds", self.tactic_seconds)

    def prove(self, opening: Opening) -> ProofReport:
        """Search for a proof of a theorem.

        **Raises** `ValueError` if the assistant does not accept the theorem's statement or the file before it.
        """
        started = time.perf_counter()
        drawn = self.whole.propose(opening, self.n_candidates, self.temperature)
        candidates = _distinct(drawn, opening)
        cache = HoleCache()
        sketches: list[Sketch] = []
        tried = 0

        def report(**found: Any) -> ProofReport:
            return ProofReport(
                candidates=len(drawn),
                distinct=len(candidates),
                sketches=len(sketches),
                tried=tried,
                solver_calls=cache.calls,
                cache_hits=cache.hits,
                seconds=time.perf_counter() - started,
                **found,
            )

        check = self.check or Rocq().check_proof
        running = self._each(lambda session, it: self._runs(session, opening, it), candidates)
        for candidate, holds in zip(candidates, running, strict=True):
            if holds and (certificate := check("\n".join(opening.before), opening.statement, candidate)).accepted:
                return report(proof=candidate, stage="whole", certificate=certificate)
        sketches += _ranked(self._each(lambda session, it: self._sketch(session, opening, it), candidates))
        solvers = self._solvers()
        if not solvers:
            return report(reason="no candidate holds, and there is nothing to fill holes with")
        for one in sketches[: self.max_sketches]:
            tried += 1
            filled = fill_holes(
                one,
                self.session_factory,
                solvers,
                workers=self.workers,
                cache=cache,
                check=check,
                seconds=self.tactic_seconds,
                all_or_none=True,
            )
            if filled.proved:
                by_hand = any(filling.by == "tactic" for filling in filled.fillings)
                stage: Stage = "sketch+tactic" if by_hand else "sketch+automation"
                return report(
                    proof=filled.script, stage=stage, certificate=filled.certificate, fillings=filled.fillings
                )
        return report(reason=f"no candidate holds, and none of {tried} sketches could be completed")

    def _each(self, call: Callable[[ProofSession, str], T], candidates: Sequence[str]) -> list[T]:
        """What `call` makes of each candidate, with a session of the worker's own."""
        sessions: queue.SimpleQueue[ProofSession] = queue.SimpleQueue()

        def work(candidate: str) -> T:
            session = sessions.get()
            try:
                return call(session, candidate)
            finally:
                sessions.put(session)

        with ExitStack() as stack:
            for _ in range(min(self.workers, len(candidates))):
                sessions.put(stack.enter_context(self.session_factory()))
            if self.workers == 1:
                return [work(candidate) for candidate in candidates]
            return list(stack.enter_context(ThreadPoolExecutor(self.workers)).map(work, candidates))

    def _runs(self, session: ProofSession, opening: Opening, candidate: str) -> bool:
        """Whether a candidate finishes the proof, as far as the session sees."""
        state = session.start("\n".join(opening.before), opening.statement)
        if isinstance(state, Failure):
            raise ValueError(f"opening: the assistant does not accept it: {state.message}")
        for sentence in sentences(candidate):
            following = session.run(state, sentence.text, seconds=self.tactic_seconds)
            if isinstance(following, Failure):
                return False
            state = following
        return state.finished

    def _sketch(self, session: ProofSession, opening: Opening, candidate: str) -> Sketch | Unusable:
        if self.keep_proved:
            return mask_errors(candidate, session, opening, seconds=self.tactic_seconds)
        return sketch(candidate, session, opening, seconds=self.tactic_seconds)

    def _solvers(self) -> dict[str, Solver]:
        solvers: dict[str, Solver] = {}
        if self.automation is not None:
            solvers["automation"] = self.automation.solve
        if (policy := self.tactic) is not None:

            def search(session: ProofSession, state: State) -> ProofResult:
                prover = BestFirstProver(
                    session,
                    policy,
                    self.retriever,
                    num_tactics=self.n_tactics,
                    seconds=self.hole_budget.seconds,
                    max_expansions=self.hole_budget.expansions,
                )
                return prover.prove(state)

            solvers["tactic"] = search
        return solvers


def _distinct(drawn: Iterable[str], opening: Opening) -> list[str]:
    """The candidates that are proofs of the theorem by their form; of those that differ in blanks and comments one."""
    found: dict[str, str] = {}
    for text in drawn:
        try:
            body = proof_text(text, None, opening)
        except ValueError:
            continue
        found.setdefault(" ".join(without_comments(body).split()), body)
    return list(found.values())


def _ranked(sketches: Iterable[Sketch | Unusable]) -> list[Sketch]:
    """The sketches with different goals, those first that lost and leave open the least."""
    found: dict[object, Sketch] = {}
    usable = [it for it in sketches if isinstance(it, Sketch) and it.holes]
    for one in sorted(usable, key=lambda it: (len(it.masked), len(it.holes), len(it.text))):
        goals = tuple(normalised(hole.goal) for hole in one.holes if hole.goal is not None)
        found.setdefault(goals, one)
    return list(found.values())
