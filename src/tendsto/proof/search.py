"""Find proofs by best-first search over the states that a policy's tactics lead to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from tendsto.assistants.protocol import Certificate, Failure, Opening, ProofSession, State
from tendsto.proof.corpus import Corpus, Premise
from tendsto.proof.index_set import IndexSet
from tendsto.proof.policies import PolicyUnavailable, Suggestion, TacticPolicy
from tendsto.proof.retrieval import PremiseRetriever
from tendsto.proof.tree import Answer, Attempt, Node, ProofTree, answer_of
from tendsto.validation import integer, positive

ProofOutcome = Literal["proved", "failed", "exhausted", "open"]

Check = Callable[[str, str, str], Certificate]
"""Decides whether a proof holds: the file before the theorem, its statement, the proof; `Rocq().check_proof` is one."""


@runtime_checkable
class BatchSession(Protocol):
    """A session that answers for many tactics at once in less time than one after the other."""

    def run_all(self, state: State, tactics: Sequence[str], *, seconds: float = 10.0) -> list[State | Failure]:
        """What each of several tactics makes of a state; see `ProofSession.run`. The time is for all together."""
        ...


class PremiseSelector(Protocol):
    """Chooses what may help in a state."""

    def select(self, state: State, k: int) -> Sequence[Premise]:
        """At most `k` premises that the proof may use, the best first."""
        ...


@dataclass(frozen=True)
class AccessiblePremises:
    """The premises of a corpus that may be used at one place, ranked by a retriever for each state.

    **Arguments**

    - `retriever`: fitted on `corpus`.
    - `accessible`: what may be used there, `corpus.accessible_to(theorem)`.
    """

    retriever: PremiseRetriever
    corpus: Corpus
    accessible: IndexSet

    def select(self, state: State, k: int) -> list[Premise]:
        """The `k` best of the accessible premises for the goals as they are printed."""
        if k < 1:
            return []
        return [self.corpus.premises[number] for number, _ in self.retriever.rank(state.text, self.accessible, k)]


@dataclass
class SearchStats:
    """What a search has spent.

    **Arguments**

    - `expansions`: states whose tactics were tried.
    - `states`: different states met.
    - `tactics`: the number of tactics run, by what came of them.
    - `checks`: proofs that were checked independently.
    - `seconds`: wall time of all; `retrieval_seconds`, `policy_seconds`, `assistant_seconds`, `check_seconds`: of it
      in each part.
    """

    expansions: int = 0
    states: int = 1
    tactics: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    seconds: float = 0.0
    retrieval_seconds: float = 0.0
    policy_seconds: float = 0.0
    assistant_seconds: float = 0.0
    check_seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The same as objects that `json.dumps` takes."""
        return {**asdict(self), "tactics": dict(self.tactics)}


@dataclass(frozen=True)
class ProofResult:
    """The outcome of a search for a proof.

    **Arguments**

    - `outcome`: `proved`; `failed` (every tactic that the policy knows, in every state that they lead to, was tried
      and does not work); `exhausted` (nothing is left to try, but some tactic never answered, or states lead to each
      other in a circle); or `open` (out of time or expansions, the policy was not available, or the proof could not
      be opened).
    - `proof`: the tactics from the opening on, if it is proved.
    - `certificate`: the independent check of that proof, if one was asked for.
    - `stats`: what was spent.
    - `reason`: why there is no proof, in words; empty if there is.
    - `tree`: the states met; give it back to `prove` to search on.
    """

    outcome: ProofOutcome
    proof: tuple[str, ...] = ()
    certificate: Certificate | None = None
    stats: SearchStats = field(default_factory=SearchStats)
    reason: str = ""
    tree: ProofTree | None = None

    @property
    def script(self) -> str:
        """The proof as it is written in a file, a tactic a line."""
        return "\n".join(self.proof)


@dataclass(frozen=True)
class BestFirstProver:
    r"""Best-first search for a proof (LeanDojo, arXiv 2306.15626, Section 5 and Appendix C).

    A node is a state of the proof. Its priority is the log-probability of the path on which it was first met,
    $\sum_i \log p(t_i \mid s_i)$. The unexpanded node with the highest priority is expanded: premises are
    retrieved, the policy suggests tactics, and they are run in descending probability until one ends the proof. What
    is proved and what has failed is carried back to the root; see `ProofTree`.

    It ends when the root is proved or has failed, when no node is left, or out of time or expansions. Two departures
    from the reference code: a proof found in the very step in which a limit trips is reported; and `max_expansions`
    is not exceeded by one. An expansion that runs out of time is not recorded, unless it ended the proof.

    With a policy that is a function of its arguments the search is one too, but for tactics near their time limit.

    **Arguments**

    - `session`: runs the tactics; a `BatchSession` all of a state at once.
    - `policy`: suggests them.
    - `retriever`: selects premises for the policy, which gets none without.
    - `check`: an independent check of what the session takes for a proof, `Rocq().check_proof`. With it only a proof
      that was accepted is reported; one that was not counts as a tactic that did not work, or gave no answer.
    - `num_tactics`: how many tactics are tried in a state (the paper's 64).
    - `num_premises`: how many premises are retrieved for a state (the paper's 100).
    - `seconds`: wall time for a theorem (the paper's 10 minutes).
    - `tactic_seconds`: wall time for one tactic.
    - `max_expansions`: the largest number of expansions of a theorem; `None` for no limit.
    - `on_expansion`: is told of each expansion: the tree, the node and what is spent so far.

    **Raises** `ValueError` or `TypeError` for a limit out of range.
    """

    session: ProofSession
    policy: TacticPolicy
    retriever: PremiseSelector | None = None
    check: Check | None = None
    num_tactics: int = 64
    num_premises: int = 100
    seconds: float = 600.0
    tactic_seconds: float = 10.0
    max_expansions: int | None = None
    on_expansion: Callable[[ProofTree, Node, SearchStats], None] | None = None

    def __post_init__(self) -> None:
        integer("num_tactics", self.num_tactics, low=1)
        integer("num_premises", self.num_premises, low=0)
        positive("seconds", self.seconds)
        positive("tactic_seconds", self.tactic_seconds)
        if self.max_expansions is not None:
            integer("max_expansions", self.max_expansions, low=1)

    def prove(self, start: Opening | State, tree: ProofTree | None = None) -> ProofResult:
        """Search for a proof.

        **Arguments**

        - `start`: the theorem, or a state of its proof.
        - `tree`: the tree of an earlier search of the same start, to go on from; its limits count anew.

        **Raises** `ValueError` if the assistant does not accept the theorem's statement or the file before it, or
        `tree` belongs to another start.
        """
        search = _Search(self, time.monotonic() + self.seconds)
        state = search.open(start)
        if isinstance(state, Failure):
            if state.kind in ("error", "refused"):
                raise ValueError(f"start: the assistant does not accept it: {state.message}")
            return ProofResult("open", stats=search.spent(), reason=f"the proof did not open: {state.message}")
        if tree is not None and (tree.root.state.opening, tree.root.state.text) != (state.opening, state.text):
            raise ValueError("tree: belongs to another start")
        return search.run(state, tree if tree is not None else ProofTree(state))


class _Search:
    """One call of `BestFirstProver.prove`."""

    def __init__(self, prover: BestFirstProver, deadline: float) -> None:
        self.prover = prover
        self.deadline = deadline
        self.stats = SearchStats()
        self.certified: dict[tuple[str, ...], Certificate] = {}

    def open(self, start: Opening | State) -> State | Failure:
        if isinstance(start, State):
            return start
        clock = time.monotonic()
        seconds = self.prover.seconds
        state = self.prover.session.start("\n".join(start.before), start.statement, seconds=seconds)
        self.stats.assistant_seconds += time.monotonic() - clock
        return state

    def spent(self) -> SearchStats:
        self.stats.seconds = time.monotonic() - (self.deadline - self.prover.seconds)
        return self.stats

    def run(self, state: State, tree: ProofTree) -> ProofResult:
        if state.finished:
            return self._end(tree, "proved", "")
        while True:
            if tree.root.status == "proved":
                return self._end(tree, "proved", "")
            if tree.root.status == "failed":
                return self._end(tree, "failed", "no tactic that the policy suggests works")
            if (node := tree.best()) is None:
                return self._end(tree, "exhausted", "every state that the policy leads to was tried")
            if self.stats.expansions == self.prover.max_expansions:
                return self._end(tree, "open", f"no proof within {self.stats.expansions} expansions")
            try:
                attempts = self._expand(node)
            except PolicyUnavailable as error:
                return self._end(tree, "open", str(error))
            if attempts is None:
                return self._end(tree, "open", f"no proof within {self.prover.seconds:g} s")
            tree.expand(attempts)
            self.stats.expansions += 1
            self.stats.states = len(tree.nodes)
            if self.prover.on_expansion is not None:
                self.prover.on_expansion(tree, node, self.spent())

    def _expand(self, node: Node) -> list[Attempt] | None:
        """What the tactics make of a node's state; `None` if time runs out before one ends the proof."""
        attempts = []
        for suggestion, result in self._results(node.state, self._suggestions(node.state)):
            attempts.append(self._attempt(suggestion, result))
            if attempts[-1].answer == "finished":
                return attempts
        return attempts if time.monotonic() < self.deadline else None

    def _results(self, state: State, suggestions: Sequence[Suggestion]) -> Iterator[tuple[Suggestion, State | Failure]]:
        """The answers of the session, until time runs out."""
        session, seconds = self.prover.session, self.prover.tactic_seconds
        left = self.deadline - time.monotonic()
        if isinstance(session, BatchSession) and suggestions and left > 0:
            clock = time.monotonic()
            tactics = [it.tactic for it in suggestions]
            results = session.run_all(state, tactics, seconds=min(left, seconds * len(tactics)))
            self.stats.assistant_seconds += time.monotonic() - clock
            yield from zip(suggestions, results, strict=True)
            return
        for suggestion in suggestions:
            left = self.deadline - time.monotonic()
            if left <= 0:
                return
            clock = time.monotonic()
            result = session.run(state, suggestion.tactic, seconds=min(left, seconds))
            self.stats.assistant_seconds += time.monotonic() - clock
            yield suggestion, result

    def _suggestions(self, state: State) -> list[Suggestion]:
        prover = self.prover
        clock = time.monotonic()
        premises = prover.retriever.select(state, prover.num_premises) if prover.retriever is not None else ()
        retrieved = time.monotonic()
        suggestions = prover.policy.suggest(state, premises, prover.num_tactics)
        self.stats.retrieval_seconds += retrieved - clock
        self.stats.policy_seconds += time.monotonic() - retrieved
        return sorted(suggestions, key=lambda it: -it.log_probability)

    def _attempt(self, suggestion: Suggestion, result: State | Failure) -> Attempt:
        answer = answer_of(result)
        if isinstance(result, State) and answer == "finished":
            answer = self._checked(result)
        self.stats.tactics[answer] += 1
        return Attempt(suggestion, answer, result if isinstance(result, State) and answer == "state" else None)

    def _checked(self, state: State) -> Answer:
        certificate = self._certificate(state.opening, state.path)
        if certificate is None or certificate.accepted:
            return "finished"
        return "rejected" if certificate.outcome in ("rejected", "refused") else "timed out"

    def _certificate(self, opening: Opening, proof: tuple[str, ...]) -> Certificate | None:
        if self.prover.check is None:
            return None
        if proof not in self.certified:
            clock = time.monotonic()
            self.certified[proof] = self.prover.check("\n".join(opening.before), opening.statement, "\n".join(proof))
            self.stats.checks += 1
            self.stats.check_seconds += time.monotonic() - clock
        return self.certified[proof]

    def _end(self, tree: ProofTree, outcome: ProofOutcome, reason: str) -> ProofResult:
        if outcome != "proved":
            return ProofResult(outcome, (), None, self.spent(), reason, tree)
        root = tree.root.state
        proof = (*root.path, *(tree.shortest_proof() or ()))
        certificate = self._certificate(root.opening, proof)
        if certificate is None or certificate.accepted:
            return ProofResult("proved", proof, certificate, self.spent(), "", tree)
        # Two states with the same text may differ in what is not printed, and the shortest way may pass both.
        for path, accepted in self.certified.items():
            if accepted.accepted:
                return ProofResult("proved", path, accepted, self.spent(), "", tree)
        reason = f"the check does not accept the proof that was found: {certificate.messages}"
        return ProofResult("open", (), certificate, self.spent(), reason, tree)
