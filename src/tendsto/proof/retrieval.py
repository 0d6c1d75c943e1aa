"""Premise selection: which of the accessible premises a proof of the goal at hand is likely to use."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from tendsto import extras
from tendsto.proof.corpus import Corpus, Theorem
from tendsto.proof.index_set import IndexSet
from tendsto.validation import integer, positive, real

Ranking = list[tuple[int, float]]
"""Premises by their number with their scores, best first."""

_TOKEN = re.compile(r"[^\W\d][\w']*|\d+|[^\w\s]+")
_NAME = re.compile(r"[^\W\d][\w']*")
_BATCH = 256


def tokens(text: str) -> list[str]:
    """The identifiers, numbers and runs of symbols of a statement or goal, in order.

    ```pycon
    >>> tokens("take_cat s1 : n.+1 <= size s1")
    ['take_cat', 's1', ':', 'n', '.+', '1', '<=', 'size', 's1']

    ```
    """
    return _TOKEN.findall(text)


class Query(NamedTuple):
    """A goal, what may be used to prove it, and what its proof does use.

    **Arguments**

    - `text`: the goal as the assistant prints it or, where a proof was not replayed, the statement without name.
    - `theorem`: the number of the theorem.
    - `accessible`: the premises that may be used.
    - `premises`: the numbers of those that the proof uses.
    """

    text: str
    theorem: int
    accessible: IndexSet
    premises: tuple[int, ...]


def queries(corpus: Corpus, theorems: Iterable[int]) -> list[Query]:
    """The queries that the proofs of `theorems` answer, those that use no premise left out.

    One for every tactic with a recorded state, as in Section 4 of arXiv 2306.15626; of a theorem without states one,
    its statement.

    **Arguments**

    - `theorems`: numbers of theorems of `corpus`.
    """
    found = []
    for number in theorems:
        theorem = corpus.theorems[number]
        if not theorem.premises:
            continue
        accessible = corpus.accessible_to(theorem)
        if not any(it.state_before for it in theorem.tactics):
            found.append(Query(goal(theorem), number, accessible, theorem.premises))
            continue
        for tactic in (it for it in theorem.tactics if it.state_before):
            named = {corpus.places.premise(it) for it in tactic.provenances}
            used = tuple(it for it in theorem.premises if it in named)
            found.append(Query(tactic.state_before, number, accessible, used))
    return [it for it in found if it.premises]


def goal(theorem: Theorem) -> str:
    """The statement of a theorem without its keyword and name, which a goal does not show."""
    name = theorem.full_name.rpartition(".")[2]
    ends = (found.end() for found in _NAME.finditer(theorem.statement) if found[0] == name)
    return theorem.statement[next(ends, 0) :].strip()


@runtime_checkable
class PremiseRetriever(Protocol):
    """Something that ranks the premises of a corpus for a goal; used as scikit-learn's estimators are."""

    def fit(self, corpus: Corpus, train: Iterable[int]) -> Self:
        """Learn from the premises of `corpus` and the proofs of the theorems `train`; from no other proof."""
        ...

    def rank(self, query: str, accessible: IndexSet, k: int = 100) -> Ranking:
        """The `k` best of the accessible premises for a goal; fewer, if fewer are accessible."""
        ...

    def rank_batch(self, texts: Sequence[str], accessible: Sequence[IndexSet], k: int = 100) -> list[Ranking]:
        """What `rank` gives for each of several goals, in less time."""
        ...


class ScoringRetriever(ABC):
    """A retriever that gives every premise a score; of equal scores, the premise that comes first is better."""

    corpus: Corpus | None = None

    @abstractmethod
    def fit(self, corpus: Corpus, train: Iterable[int]) -> Self: ...

    @abstractmethod
    def scores(self, texts: Sequence[str], accessible: Sequence[IndexSet]) -> Float[np.ndarray, "queries premises"]:
        """The score of every premise for each goal; those of premises that are not accessible mean nothing."""

    def rank(self, query: str, accessible: IndexSet, k: int = 100) -> Ranking:
        return self.rank_batch([query], [accessible], k)[0]

    def rank_batch(self, texts: Sequence[str], accessible: Sequence[IndexSet], k: int = 100) -> list[Ranking]:
        integer("k", k, low=1)
        if len(texts) != len(accessible):
            raise ValueError(f"accessible: expected one set for each of {len(texts)} goals, got {len(accessible)}")
        self.fitted()
        found = []
        for start in range(0, len(texts), _BATCH):
            members = accessible[start : start + _BATCH]
            for row, allowed in zip(self.scores(texts[start : start + _BATCH], members), members, strict=True):
                numbers = np.asarray(allowed)
                best = top(row[numbers], k)
                found.append(list(zip(numbers[best].tolist(), row[numbers[best]].tolist(), strict=True)))
        return found

    def fitted(self) -> Corpus:
        """The corpus that it was fitted on; raises `ValueError` if it was not."""
        if self.corpus is None:
            raise ValueError(f"{type(self).__name__}: fit it first")
        return self.corpus


def top(scores: Float[np.ndarray, " n"], k: int) -> Int[np.ndarray, " k"]:
    """The places of the `k` largest scores, largest first; of equal ones the first place first."""
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        places = np.flatnonzero(scores >= least)
    else:
        places = np.arange(len(scores))
    return places[np.argsort(-scores[places], kind="stable")][:k]


class BM25Retriever(ScoringRetriever):
    r"""Words shared with the source of a premise, weighted by how rare they are (Robertson and Zaragoza, 2009).

    The score of premise p for a goal is, over the words w of the goal, repeated as often as they stand there,

        Σ_w log(1 + (N − n_w + ½)/(n_w + ½)) · f / (f + k₁ (1 − b + b·|p|/mean|p|)),

    with N premises, n_w of them with w, and w standing f times in p. Computed by `bm25s` (its method `lucene`); extra
    `proof`. It learns from no proof.

    **Arguments**

    - `k1`: how fast repetition saturates, ≥ 0; `b`: how much long premises pay for their length, in [0, 1].
    """

    def __init__(self, k1: float = 1.5, b: float = 0.75) -> None:
        real("k1", k1, low=0.0)
        real("b", b, low=0.0, high=1.0)
        self.k1, self.b = k1, b

    def fit(self, corpus: Corpus, train: Iterable[int] = ()) -> Self:
        bm25s = extras.load("bm25s", extra="proof")
        self.corpus = corpus
        if not corpus.premises:  # of which there is no mean length
            return self
        self._index = bm25s.BM25(k1=self.k1, b=self.b, method="lucene")
        self._index.index([tokens(it.code) or [""] for it in corpus.premises], show_progress=False)
        return self

    def scores(self, texts: Sequence[str], accessible: Sequence[IndexSet]) -> Float[np.ndarray, "queries premises"]:
        if not self.fitted().premises:
            return np.zeros((len(texts), 0))
        known = self._index.vocab_dict
        ids = [[known[it] for it in tokens(text) if it in known] for text in texts]
        nothing = np.zeros(len(self.fitted().premises), dtype=np.float32)
        return np.stack([self._index.get_scores(it) if it else nothing for it in ids])


class NearestNeighbourRetriever(ScoringRetriever):
    r"""The premises of the training theorems whose statements are nearest, as hammers select them.

    With c the cosine of the TF-IDF vectors of words, the score of a premise is Σ c² over those of the `neighbours`
    nearest training theorems whose proofs use it. A premise that no training proof uses has the score 0.

    **Arguments**

    - `neighbours`: how many theorems count.
    """

    def __init__(self, neighbours: int = 100) -> None:
        integer("neighbours", neighbours, low=1)
        self.neighbours = neighbours

    def fit(self, corpus: Corpus, train: Iterable[int]) -> Self:
        self.corpus = corpus
        known = queries(corpus, train)
        if not known:
            raise ValueError("train: no proof of these theorems uses a premise")
        self._vectorizer = TfidfVectorizer(analyzer=tokens)
        self._known = self._vectorizer.fit_transform([it.text for it in known])
        self._uses = _membership([it.premises for it in known], len(corpus.premises))
        return self

    def scores(self, texts: Sequence[str], accessible: Sequence[IndexSet]) -> Float[np.ndarray, "queries premises"]:
        cosines = (self._vectorizer.transform(texts) @ self._known.T).toarray()
        for row in cosines:
            nearest = top(row, self.neighbours)
            kept = row[nearest]
            row[:] = 0.0
            row[nearest] = kept**2
        return np.asarray((sparse.csr_array(cosines) @ self._uses).toarray())


class RecencyRetriever(ScoringRetriever):
    """The premises that end last before the goal: of its own file from its place upwards, then of those it imports.

    The n-th of them has the score 1/n. It reads neither goal nor proofs: a retriever that does not find more has
    learnt nothing.
    """

    def fit(self, corpus: Corpus, train: Iterable[int] = ()) -> Self:
        self.corpus = corpus
        return self

    def scores(self, texts: Sequence[str], accessible: Sequence[IndexSet]) -> Float[np.ndarray, "queries premises"]:
        found = np.zeros((len(texts), len(self.fitted().premises)))
        for row, allowed in zip(found, accessible, strict=True):
            row[np.asarray(allowed)] = 1.0 / np.arange(len(allowed), 0, -1)
        return found


class CombinedRetriever(ScoringRetriever):
    """The sum of what several retrievers say, each scaled to [0, 1] over the accessible premises.

    **Arguments**

    - `retrievers`: those to combine.
    - `weights`: what each counts; by default all the same.
    """

    def __init__(self, retrievers: Sequence[ScoringRetriever], weights: Sequence[float] | None = None) -> None:
        weights = [1.0] * len(retrievers) if weights is None else list(weights)
        if not retrievers:
            raise ValueError("retrievers: must not be empty")
        if len(weights) != len(retrievers):
            raise ValueError(f"weights: expected {len(retrievers)}, one for each retriever, got {len(weights)}")
        for weight in weights:
            positive("weights", weight)
        self.retrievers, self.weights = tuple(retrievers), tuple(weights)

    def fit(self, corpus: Corpus, train: Iterable[int]) -> Self:
        self.corpus, train = corpus, list(train)
        for retriever in self.retrievers:
            retriever.fit(corpus, train)
        return self

    def scores(self, texts: Sequence[str], accessible: Sequence[IndexSet]) -> Float[np.ndarray, "queries premises"]:
        total = np.zeros((len(texts), len(self.fitted().premises)))
        for retriever, weight in zip(self.retrievers, self.weights, strict=True):
            for row, found, allowed in zip(total, retriever.scores(texts, accessible), accessible, strict=True):
                numbers = np.asarray(allowed)
                if len(numbers) and (spread := np.ptp(found[numbers])) > 0:
                    row[numbers] += weight * (found[numbers] - found[numbers].min()) / spread
        return total


def recall_at(k: int, rankings: Sequence[Ranking], premises: Sequence[Sequence[int]]) -> float:
    r"""R@k: the mean over queries of |best k ∩ used| / |used|.

    As LeanDojo evaluates it: a query whose proof uses m premises can reach 1 only for k ≥ m. Queries whose proof uses
    none have no recall and must be left out.

    **Arguments**

    - `rankings`: what a retriever gave for each query.
    - `premises`: the premises that each proof uses, each once.

    **Raises** `ValueError` if a proof uses none, if there is no query, or for unequal numbers.
    """
    integer("k", k, low=1)
    return float(np.mean(recalls_at(k, rankings, premises)))


def recalls_at(k: int, rankings: Sequence[Ranking], premises: Sequence[Sequence[int]]) -> Float[np.ndarray, " queries"]:
    """What `recall_at` is the mean of: the recall of each query."""
    _comparable(rankings, premises)
    return np.array(
        [
            len({number for number, _ in ranking[:k]} & set(used)) / len(set(used))
            for ranking, used in zip(rankings, premises, strict=True)
        ]
    )


def mean_reciprocal_rank(rankings: Sequence[Ranking], premises: Sequence[Sequence[int]]) -> float:
    """MRR: the mean over queries of 1 / (rank of the best premise that the proof uses), 0 where none is ranked.

    **Raises** as `recall_at` does.
    """
    _comparable(rankings, premises)
    found = []
    for ranking, used in zip(rankings, premises, strict=True):
        hits = (place for place, (number, _) in enumerate(ranking, start=1) if number in set(used))
        found.append(1.0 / next(hits, np.inf))
    return float(np.mean(found))


def _comparable(rankings: Sequence[Ranking], premises: Sequence[Sequence[int]]) -> None:
    if not rankings or len(rankings) != len(premises):
        raise ValueError(f"premises: expected as many as rankings and at least one, got {len(premises)}")
    if not all(len(it) for it in premises):
        raise ValueError("premises: a query whose proof uses none has no recall; leave it out")


def _membership(members: Sequence[Sequence[int]], size: int) -> sparse.csr_array:
    """The matrix with a 1 in row i at each of `members[i]`."""
    starts = np.cumsum([0, *map(len, members)])
    columns = np.array([it for row in members for it in row], dtype=np.int64)
    return sparse.csr_array((np.ones(len(columns)), columns, starts), shape=(len(members), size))
