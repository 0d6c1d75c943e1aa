"""Suggest the tactics that worked in the most similar goals seen so far, as Tactician does."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from tendsto.assistants.protocol import Goal, Opening, ProofSession, State
from tendsto.proof.corpus import Premise
from tendsto.proof.policies import Local, Suggestion, local_names, ranked
from tendsto.proof.replay import replay
from tendsto.validation import integer

_TOKEN = re.compile(r"[^\W\d][\w']*(?:\.[^\W\d][\w']*)*|\d+|[^\w\s]+")
_NO_TACTIC = re.compile(r"(?:[-+*]+|\}|(?:\S+\s*:\s*)?\{|Proof\b.*|Qed\.|Defined\.)\Z", re.DOTALL)


class _Slot(NamedTuple):
    """A place in a recorded tactic for a local name: what its type was like, and where it stood."""

    words: frozenset[str]
    place: int


@dataclass(frozen=True)
class _Record:
    """A tactic with its local names cut out: texts and slots."""

    parts: tuple[str | _Slot, ...]

    def instantiate(self, goal: Goal) -> str | None:
        """The tactic with the goal's own local names; `None` if it has too few."""
        local = local_names(goal)
        left = {place: _words(it.what, local) for place, it in enumerate(local)}
        chosen: dict[_Slot, str] = {}
        for part in self.parts:
            if isinstance(part, str) or part in chosen:
                continue
            if not left:
                return None
            best = max(left, key=lambda place: (_jaccard(part.words, left[place]), -abs(place - part.place), -place))
            chosen[part] = local[best].name
            del left[best]
        return "".join(part if isinstance(part, str) else chosen[part] for part in self.parts)


class NearestNeighbourTactics:
    r"""A policy that remembers: the tactics of the $n$ nearest goals, weighted by the square of their similarity.

    A goal is the set $F$ of its features: the tokens of its conclusion, pairs of tokens that stand side by side in it,
    and the tokens of its hypotheses' types; local names are all one token. With
    $w_f = \log(1 + N/N_f)$, where $N_f$ of the $N$ recorded goals have $f$ (one, if
    none has), the similarity of two goals is the weighted
    Jaccard index

    $$ J(F, G) = \sum_{f \in F \cap G} w_f \Big/ \sum_{f \in F \cup G} w_f. $$

    A recorded tactic keeps in the place of each local name (a hypothesis, or a variable that the conclusion begins
    with) the tokens of its type; in a new goal the local name whose type is most like that takes the place (of
    several, the one that stands at the most similar place among them), no two the same.

    It learns online (`learn`), at once. Only what was learned before is known: to judge it fairly, learn the proofs of
    a file in their order, each after it was tried.

    Source: Blaauwbroek, Urban and Geuvers, "Tactic learning and proving for the Coq proof assistant" (LPAR 2020) and
    "The Tactician" (CICM 2020); they take each tactic's nearest record alone, here the neighbours vote.

    **Arguments**

    - `neighbours`: $n$.

    **Raises** `ValueError` if it is not positive.
    """

    def __init__(self, neighbours: int = 100) -> None:
        integer("neighbours", neighbours, low=1)
        self.neighbours = neighbours
        self._records: list[_Record] = []
        self._features: list[Int[np.ndarray, " features"]] = []
        self._numbers: dict[str, int] = {}
        self._matrix: scipy.sparse.csr_array | None = None

    def __len__(self) -> int:
        return len(self._records)

    def learn(self, state: State, tactic: str) -> None:
        """Remember that a tactic was right in a state; one that has no goals teaches nothing."""
        if not state.goals:
            return
        goal = state.goals[0]
        self._records.append(_Record(_abstracted(tactic, local_names(goal))))
        numbers = {self._numbers.setdefault(feature, len(self._numbers)) for feature in _features_of(goal)}
        self._features.append(np.array(sorted(numbers), dtype=np.int64))
        self._matrix = None

    def learn_proof(
        self, session: ProofSession, opening: Opening, proof: str | Iterable[str], *, seconds: float = 60.0
    ) -> int:
        """Replay a proof and learn each of its tactics (bullets, braces and `Proof.` are not).

        **Arguments**

        - `session`: runs it.
        - `opening`: the theorem, where it stands.
        - `proof`: its sentences, or a text that consists of them; `Qed.` may stand at the end.
        - `seconds`: wall time for the opening and for each tactic.

        **Returns** how many tactics were learned; a proof that does not run teaches what comes before.
        """
        known = len(self)
        text = proof if isinstance(proof, str) else "\n".join(proof)
        for step in replay(session, "\n".join(opening.before), opening.statement, text, seconds=seconds).steps:
            if not _NO_TACTIC.match(step.tactic):
                self.learn(step.before, step.tactic)
        return len(self) - known

    def suggest(self, state: State, premises: Sequence[Premise], k: int) -> list[Suggestion]:
        """The `k` heaviest tactics of the neighbours, with this goal's names; see `TacticPolicy.suggest`."""
        if not state.goals or not self._records:
            return []
        goal = state.goals[0]
        similarity = self._similarities(goal)
        recent = np.arange(len(similarity))[::-1]
        order = recent[np.argsort(-similarity[recent], kind="stable")][: self.neighbours]
        weights: dict[str, float] = {}
        for number in order.tolist():
            tactic = self._records[number].instantiate(goal)
            if tactic is not None and similarity[number] > 0:
                weights[tactic] = weights.get(tactic, 0.0) + float(similarity[number]) ** 2
        return ranked(weights, k)

    def _similarities(self, goal: Goal) -> Float[np.ndarray, " records"]:
        if self._matrix is None:
            columns = np.concatenate(self._features)
            starts = np.concatenate([[0], np.cumsum([len(it) for it in self._features])])
            shape = (len(self._features), len(self._numbers))
            self._matrix = scipy.sparse.csr_array((np.ones(len(columns)), columns, starts), shape=shape)
        matrix = self._matrix
        count = np.asarray(matrix.sum(axis=0))
        weight = np.log1p(len(self._records) / count)
        features = _features_of(goal)
        known = np.array(sorted(self._numbers[it] for it in features if it in self._numbers), dtype=np.int64)
        unknown = (len(features) - len(known)) * np.log1p(len(self._records))  # as if one record had it
        there = np.zeros(len(weight))
        there[known] = weight[known]
        common = np.asarray(matrix @ there)
        return np.asarray(common / (matrix @ weight + there.sum() + unknown - common))


def _features_of(goal: Goal) -> set[str]:
    local = local_names(goal)
    conclusion = _tokens(goal.conclusion, local)
    features = {f"⊢ {token}" for token in conclusion}
    features |= {f"⊢ {first} {second}" for first, second in itertools.pairwise(conclusion)}
    return features | {token for _, what in goal.hypotheses for token in _tokens(what, local)}


def _tokens(text: str, local: Sequence[Local]) -> list[str]:
    own = {it.name for it in local}
    return ["_" if token in own else token for token in _TOKEN.findall(text)]


def _words(what: str, local: Sequence[Local]) -> frozenset[str]:
    return frozenset(_tokens(what, local))


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0


def _abstracted(tactic: str, local: Sequence[Local]) -> tuple[str | _Slot, ...]:
    slots = {it.name: _Slot(_words(it.what, local), place) for place, it in enumerate(local)}
    parts: list[str | _Slot] = []
    done = 0
    for found in _TOKEN.finditer(tactic):
        if (slot := slots.get(found[0])) is not None:
            parts += [tactic[done : found.start()], slot]
            done = found.end()
    return (*parts, tactic[done:])
