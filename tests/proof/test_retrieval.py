"""Premise selection: scores against their formulas, rankings against sets, metrics by hand."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import rocq_project
from hypothesis import given
from hypothesis import strategies as st

from tendsto.proof import (
    BM25Retriever,
    CombinedRetriever,
    Corpus,
    File,
    IndexSet,
    NearestNeighbourRetriever,
    Premise,
    PremiseRetriever,
    RecencyRetriever,
    Tactic,
    Theorem,
    goal,
    mean_reciprocal_rank,
    queries,
    recall_at,
    tokens,
)
from tendsto.proof.retrieval import ScoringRetriever, recalls_at, top

CODES = (
    "Lemma addnC : commutative addn.",
    "Lemma mulnC : commutative muln.",
    "Lemma addnA : associative addn.",
    "Lemma take0 s : take 0 s = [::].",
    "Lemma size_take s : size (take n s) = minn n (size s).",
    "Lemma take_size s : take (size s) s = s.",
)
GOALS = (
    ("size (take n0 s)", (4,)),
    ("commutative addn", (0, 2)),
    ("associative muln -> addn", (1, 2)),
    ("take (size s + 0) s = s", (0, 5)),
)


@pytest.fixture(scope="module")
def corpus():
    premises = tuple(Premise("a", f"a.p{i}", "theorem", 10 * i, 10 * i + 9, code) for i, code in enumerate(CODES))
    theorems = tuple(
        Theorem("a", f"a.t{i}", 100, 109, f"Lemma t{i} : {text}.", "", (), used) for i, (text, used) in enumerate(GOALS)
    )
    return Corpus((File("a", (), 0, len(CODES)),), premises, theorems)


def everything(corpus):
    return IndexSet(np.array([0]), np.array([len(corpus.premises)]))


def retrievers():
    return [
        BM25Retriever(),
        NearestNeighbourRetriever(2),
        RecencyRetriever(),
        CombinedRetriever([BM25Retriever(), RecencyRetriever()]),
    ]


def test_words_numbers_and_symbols():
    assert tokens("x.+1 <= foo' 12é _a") == ["x", ".+", "1", "<=", "foo'", "12", "é", "_a"]


def test_a_goal_has_no_name(corpus):
    assert goal(corpus.theorems[0]) == ": size (take n0 s)."
    named = replace(corpus.theorems[0], full_name="m.ab", statement="#[local] Lemma  ab (ab' a : nat) : ab' = a.")
    assert goal(named) == "(ab' a : nat) : ab' = a."
    assert goal(replace(named, statement="Lemma xab ab x.ab.")) == "x.ab."


def test_queries_are_statements_or_states(tmp_path):
    corpus = Corpus.from_glob(rocq_project.write(tmp_path))
    found = queries(corpus, range(4))
    assert [(it.theorem, it.text) for it in found] == [(2, ": flip odd = even."), (3, ": flip (flip odd) = odd.")]
    assert found[1].accessible == corpus.accessible_to(corpus.theorems[3])
    assert found[1].premises == corpus.theorems[3].premises
    two = corpus.theorems[3]
    traced = tuple(it._replace(state_before=f"goal {n}") for n, it in enumerate(two.tactics))
    idle = Tactic("idtac.", "idtac.", (), "goal 2")
    of_states = queries(replace(corpus, theorems=(replace(two, tactics=(*traced, idle)),)), [0])
    assert [(it.text, it.premises) for it in of_states] == [("goal 0", (6,)), ("goal 1", (5,))]
    in_part = replace(two, tactics=(traced[0], *two.tactics[1:]))  # its proof could not be run to the end
    assert [it.text for it in queries(replace(corpus, theorems=(in_part,)), [0])] == ["goal 0"]


def test_bm25_is_its_formula(corpus):
    k1, b = 1.2, 0.6
    documents = [Counter(tokens(code)) for code in CODES]
    mean = np.mean([sum(it.values()) for it in documents])
    for text in ["size (take n s) size", "commutative zzz", "zzz"]:
        expected = []
        for document in documents:
            score = 0.0
            for word in tokens(text):
                count = sum(word in it for it in documents)
                idf = math.log(1 + (len(documents) - count + 0.5) / (count + 0.5))
                frequency = document[word]
                length = 1 - b + b * sum(document.values()) / mean
                score += idf * frequency / (frequency + k1 * length)
            expected.append(score)
        found = BM25Retriever(k1, b).fit(corpus).rank(text, everything(corpus))
        assert [score for _, score in sorted(found)] == pytest.approx(expected, rel=1e-5)


def test_nearest_neighbours_are_their_formula(corpus):
    train, text = [0, 1, 3], "take (size s) addn"
    statements = [Counter(tokens(goal(corpus.theorems[it]))) for it in train]

    def weights(document):  # of scikit-learn: smoothed inverse document frequency, unit length
        raw = {
            word: count * (1 + math.log((1 + len(train)) / (1 + sum(word in it for it in statements))))
            for word, count in document.items()
            if any(word in it for it in statements)
        }
        length = math.hypot(*raw.values())
        return {word: value / length for word, value in raw.items()}

    query = weights(Counter(tokens(text)))
    cosines = [sum(query.get(word, 0) * value for word, value in weights(it).items()) for it in statements]
    assert len(set(cosines)) == 3
    for neighbours in (1, 2, 3):
        nearest = sorted(range(3), key=lambda it: -cosines[it])[:neighbours]
        expected = [
            sum(cosines[it] ** 2 for it in nearest if premise in corpus.theorems[train[it]].premises)
            for premise in range(len(CODES))
        ]
        found = NearestNeighbourRetriever(neighbours).fit(corpus, train).rank(text, everything(corpus))
        assert [score for _, score in sorted(found)] == pytest.approx(expected)


def test_nearest_neighbours_never_find_what_no_training_proof_used(corpus):
    found = NearestNeighbourRetriever().fit(corpus, [0, 1]).rank("associative muln -> addn", everything(corpus))
    assert {number for number, score in found if score > 0} <= {0, 2, 4}
    with pytest.raises(ValueError, match=r"^train: no proof"):
        NearestNeighbourRetriever().fit(corpus, [])


def test_recency_goes_up_the_file_then_through_imports(tmp_path):
    corpus = Corpus.from_glob(rocq_project.write(tmp_path))
    found = RecencyRetriever().fit(corpus).rank("", corpus.accessible_to(corpus.theorems[3]))
    assert [corpus.premises[number].full_name for number, _ in found] == [
        *("user.ex1", "base.ex1", "base.flipK", "base.flip", "base.odd", "base.even", "base.parity")
    ]
    assert [score for _, score in found] == [1 / n for n in range(1, 8)]


def test_combination_is_the_sum_of_scaled_scores(corpus):
    text, allowed = "take (size s) s", IndexSet.of(np.array([0, 2, 3, 5]))
    parts = [BM25Retriever().fit(corpus), RecencyRetriever().fit(corpus)]
    expected = np.zeros(len(CODES))
    for part, weight in zip(parts, (3.0, 0.5), strict=True):
        scores = dict(part.rank(text, allowed))
        low, high = min(scores.values()), max(scores.values())
        for number, score in scores.items():
            expected[number] += weight * (score - low) / (high - low)
    found = CombinedRetriever([BM25Retriever(), RecencyRetriever()], [3.0, 0.5]).fit(corpus, []).rank(text, allowed)
    assert dict(found) == pytest.approx({it: expected[it] for it in (0, 2, 3, 5)})


@pytest.mark.parametrize("retriever", retrievers(), ids=lambda it: type(it).__name__)
def test_every_retriever_ranks_only_what_is_accessible(corpus, retriever):
    assert isinstance(retriever, PremiseRetriever)
    with pytest.raises(ValueError, match=r"fit it first"):
        type(retriever)(*([[BM25Retriever()]] if isinstance(retriever, CombinedRetriever) else [])).rank(
            "a", everything(corpus)
        )
    retriever.fit(corpus, [0, 1, 3])
    sets = [IndexSet.of(np.array(it, dtype=int)) for it in ([], [2], [0, 1, 5], range(6))]
    texts = ["take s", "addn", "size (take s)", "nothing of this"]
    batch = retriever.rank_batch(texts, sets, 2)
    for text, allowed, ranking in zip(texts, sets, batch, strict=True):
        assert ranking == retriever.rank(text, allowed, 2)
        assert len(ranking) == min(2, len(allowed))
        assert {number for number, _ in ranking} <= set(allowed)
        scores = [score for _, score in ranking]
        assert scores == sorted(scores, reverse=True)
        whole = retriever.rank(text, allowed)
        assert whole[:2] == ranking
        assert {number for number, _ in whole} == set(allowed)
    with pytest.raises(ValueError, match=r"^k: must lie in \[1"):
        retriever.rank("a", everything(corpus), 0)
    with pytest.raises(ValueError, match=r"^accessible: expected one set for each of 2 goals, got 1"):
        retriever.rank_batch(["a", "b"], [everything(corpus)])


class Fixed(ScoringRetriever):
    """The same given scores for every goal."""

    def __init__(self, values):
        self.values, self.corpus = np.asarray(values), object()

    def fit(self, corpus, train):
        return self

    def scores(self, texts, accessible):
        return np.stack([self.values] * len(texts))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.data())
def test_fewer_candidates_never_lower_recall(values, data):
    numbers = range(len(values))
    used = data.draw(st.sets(st.sampled_from(numbers), min_size=1))
    allowed = used | data.draw(st.sets(st.sampled_from(numbers)))
    k = data.draw(st.integers(1, 5))
    retriever = Fixed(values)
    few, all_of_them = (retriever.rank("", IndexSet.of(np.array(sorted(it))), k) for it in (allowed, set(numbers)))
    assert recall_at(k, [few], [sorted(used)]) >= recall_at(k, [all_of_them], [sorted(used)])
    expected = sorted(numbers, key=lambda it: (-values[it], it))
    assert [number for number, _ in all_of_them] == expected[:k]
    assert list(top(np.array(values), k)) == expected[:k]


def test_metrics_by_hand():
    rankings = [[(3, 0.9), (1, 0.5), (2, 0.1)], [(0, 1.0)], [(5, 2.0), (4, 1.0)]]
    used = [(1, 2), (7,), (5,)]
    assert recall_at(1, rankings, used) == pytest.approx((0 + 0 + 1) / 3)
    assert recall_at(2, rankings, used) == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert list(recalls_at(3, rankings, used)) == [1.0, 0.0, 1.0]
    assert mean_reciprocal_rank(rankings, used) == pytest.approx((1 / 2 + 0 + 1) / 3)
    with pytest.raises(ValueError, match=r"^premises: a query whose proof uses none"):
        recall_at(1, rankings, [(1,), (), (2,)])
    with pytest.raises(ValueError, match=r"^premises: expected as many"):
        mean_reciprocal_rank(rankings, [(1,)])


def test_unfitted_retrievers_say_so(corpus):
    with pytest.raises(ValueError, match=r"^RecencyRetriever: fit it first"):
        RecencyRetriever().rank("a", everything(corpus))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BM25Retriever(k1=-1), "k1: must lie"),
        (lambda: BM25Retriever(b=1.5), "b: must lie"),
        (lambda: NearestNeighbourRetriever(0), "neighbours: must lie"),
        (lambda: CombinedRetriever([]), "retrievers: must not be empty"),
        (lambda: CombinedRetriever([BM25Retriever()], [1.0, 2.0]), "weights: expected 1"),
        (lambda: CombinedRetriever([BM25Retriever()], [0.0]), "weights: must lie"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_a_library_without_premises_is_ranked_to_nothing():
    nothing = IndexSet(np.array([], dtype=np.int64), np.array([], dtype=np.int64))
    for retriever in (BM25Retriever(), RecencyRetriever(), CombinedRetriever([BM25Retriever(), RecencyRetriever()])):
        assert retriever.fit(Corpus((), (), ()), []).rank("n + 0", nothing, 5) == []
