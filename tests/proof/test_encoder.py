"""The trained encoder: its loss, batches and features by hand, that it learns, and transformers' encoders."""

import numpy as np
import pytest

from tendsto.proof import (
    BatchSampler,
    Corpus,
    DualEncoderRetriever,
    File,
    IndexSet,
    Premise,
    Query,
    Theorem,
    TransformersRetriever,
    queries,
    similarity_loss,
)
from tendsto.proof.encoder import byte_ngrams

# Three files of 4, 3 and 5 premises.
BOUNDS = ((0, 4), (4, 7), (7, 12))
FILES = tuple(File(name, (), *bounds) for name, bounds in zip("abc", BOUNDS, strict=True))
PREMISES = tuple(
    Premise(name, f"{name}.p{i}", "theorem", i, i + 1, f"Lemma p{i} : {name}{name}{name}.")
    for name, (first, stop) in zip("abc", BOUNDS, strict=True)
    for i in range(first, stop)
)


def sampler(accessible, premises, **settings):
    query = Query("goal", 0, IndexSet.of(np.array(sorted(accessible))), tuple(premises))
    return BatchSampler(Corpus(FILES, PREMISES, ()), [query], **settings)


def drawn(accessible, premise, **settings):
    found = sampler(accessible, [premise], **settings)
    generator = np.random.default_rng(0)
    return [found.draw_negatives(generator, 0, premise).tolist() for _ in range(300)]


def test_the_loss_is_the_mean_square_over_all_entries():
    similarities = np.array([[0.5, 0.0, -1.0, 0.25], [1.0, 1.0, 0.0, 0.0]])
    labels = np.array([[True, False, False, False], [False, True, False, True]])
    assert float(similarity_loss(similarities, labels)) == pytest.approx((0.25 + 1 + 0.0625 + 1 + 1) / 8)


@pytest.mark.parametrize("accessible", [set(range(12)), {0, 1, 3, 5, 6, 7, 9, 11}, {2, 5, 6, 8}])
@pytest.mark.parametrize("in_file", [0, 1, 2])
def test_negatives_come_from_the_file_of_the_positive_and_from_others(accessible, in_file):
    for premise in (min(accessible), 5, max(accessible)):
        first, stop = next(bounds for bounds in BOUNDS if bounds[0] <= premise < bounds[1])
        inside = {it for it in accessible if first <= it < stop} - {premise}
        outside = accessible - set(range(first, stop))
        within = min(in_file, len(inside))
        others = min(3 - within, len(outside))
        within = min(3 - others, len(inside))
        batches = drawn(accessible, premise, in_file=in_file)
        for found in batches:
            assert len(found) == len(set(found)) == 3
            assert set(found[:within]) <= inside
            assert set(found[within:]) <= outside
        seen = {it for found in batches for it in found}
        assert seen == (inside if within else set()) | (outside if others else set())


def test_pools_that_are_too_small_fill_each_other_up_and_then_repeat():
    assert all(sorted(it) == [0, 1, 3] for it in drawn({0, 1, 2, 3}, 2))  # nothing outside
    assert all(set(it) <= {4, 6, 9} and len(set(it)) == 3 for it in drawn({4, 5, 6, 9}, 5))
    assert all(sorted(it) == [0, 1, 9] for it in drawn({0, 1, 2, 9}, 2, in_file=1))
    assert all(set(it) == {1, 9} for it in drawn({1, 2, 9}, 2))  # one is drawn again
    assert all(it == [9, 9, 9] for it in drawn({2, 9}, 2))
    with pytest.raises(ValueError, match=r"^queries: no proof uses a premise beside which"):
        sampler({2}, [2])


def test_a_batch_labels_every_premise_of_each_proof():
    corpus = Corpus(FILES, PREMISES, ())
    whole = IndexSet(np.array([0]), np.array([12]))
    asked = [Query("x", 0, whole, (0, 5)), Query("y", 1, whole, (5, 8, 9)), Query("z", 2, whole, (2,))]
    found = BatchSampler(corpus, asked)
    batch = found.draw(np.random.default_rng(0), 40)
    assert batch.candidates.shape == (160,)
    assert batch.labels.shape == (40, 160)
    for row, query in enumerate(batch.queries):
        positive, negatives = batch.candidates[row], batch.candidates[40 + row :: 40]
        assert positive in asked[query].premises
        assert positive not in negatives
        in_file = next(bounds for bounds in BOUNDS if bounds[0] <= positive < bounds[1])
        assert [in_file[0] <= it < in_file[1] for it in negatives] == [True, False, False]
        assert [bool(it) for it in batch.labels[row]] == [it in asked[query].premises for it in batch.candidates]
    assert {asked[query].premises[0] for query in batch.queries} == {0, 5, 2}
    examples = {(int(q), int(c)) for q, c in zip(batch.queries, batch.candidates, strict=False)}
    assert examples == {(n, premise) for n, query in enumerate(asked) for premise in query.premises}


def bags(texts, **settings):
    features = byte_ngrams(texts, **{"buckets": 1 << 20, "length": 100} | settings)
    rows = zip(features.buckets, features.weights, strict=True)
    return [{int(b): float(w) for b, w in zip(buckets, weights, strict=True) if w > 0} for buckets, weights in rows]


def test_bags_hold_the_ngrams_of_bytes():
    one, two, other = bags(["abcab", "abcab", "abc"], sizes=(2,))
    assert one == two
    # " abcab ": " a", "ab" twice, "bc", "ca", "b "
    assert sorted(one.values()) == pytest.approx(sorted(np.sqrt([1, 2, 1, 1, 1]) / np.sqrt(6)))
    assert len(set(one) & set(other)) == 3  # " a", "ab", "bc"
    assert len(set(bags(["é"], sizes=(2,))[0])) == 3  # two bytes between two blanks
    assert bags(["a  \n b", "a b"])[0] == bags(["a b"])[0]
    assert bags(["", "zz"], sizes=(4,))[0] == {}
    alone, beside = bags(["tail"])[0], bags(["head", "tail", "more"])[1]
    assert alone == beside
    assert len(bags(["a long text with many of them"], length=7)[0]) == 7
    assert max(bags(["a long text with many of them"], buckets=5)[0]) < 5


def library(theorems=60):
    """Goals of topic i use premise i, whose words they do not share."""
    codes = [f"Lemma {word} : {word}." for word in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")]
    goals = ["red", "green", "blue", "white", "black", "yellow"]
    premises = tuple(Premise("a", f"a.{code.split()[1]}", "theorem", 0, 1, code) for code in codes)
    proofs = tuple(
        Theorem("a", f"a.t{i}", 9, 9, f"Lemma t{i} : {goals[i % 6]} {i // 6}.", "", (), (i % 6,))
        for i in range(theorems)
    )
    return Corpus((File("a", (), 0, 6),), premises, proofs)


def test_the_encoder_learns_what_words_do_not_say():
    corpus = library()
    losses = []
    settings = {"steps": 150, "dim": 16, "buckets": 1 << 10, "length": 64, "learning_rate": 1e-2, "warm_up": 5}
    encoder = DualEncoderRetriever(**settings, on_step=lambda step, loss: losses.append((step, loss)))
    encoder.fit(corpus, range(48))
    assert [step for step, _ in losses] == list(range(1, 151))
    assert np.mean([it for _, it in losses[-20:]]) < 0.2 * losses[0][1]
    asked = queries(corpus, range(48, 60))
    found = encoder.rank_batch([it.text for it in asked], [it.accessible for it in asked], 6)
    assert [ranking[0][0] for ranking in found] == [it.premises[0] for it in asked]
    assert all(-1.0001 <= score <= 1.0001 for ranking in found for _, score in ranking)
    vectors = encoder.embed(["red", "a goal that is unlike any other"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], rel=1e-4)
    assert vectors.dtype == np.float32
    again = DualEncoderRetriever(**settings).fit(corpus, range(48))
    assert np.array_equal(again.embed(["red"]), encoder.embed(["red"]))
    other = DualEncoderRetriever(**settings | {"seed": 1, "steps": 1}).fit(corpus, range(48))
    assert not np.allclose(other.embed(["red"]), encoder.embed(["red"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps: must lie"),
        ({"in_file": 4}, "in_file: must lie"),
        ({"negatives": 0}, "negatives: must lie"),
        ({"learning_rate": 0.0}, "learning_rate: must lie"),
        ({"length": 0}, "length: must lie"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        DualEncoderRetriever(**settings)


def test_without_proofs_there_is_nothing_to_learn():
    with pytest.raises(ValueError, match=r"^train: no proof of these theorems uses a premise"):
        DualEncoderRetriever().fit(library(), [])


def test_encoders_of_transformers_rank_by_the_mean_over_what_is_no_padding():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = {"vocab_size": 384, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    model = transformers.T5EncoderModel(transformers.T5Config(**shape)).eval()
    corpus = library()
    retriever = TransformersRetriever(model, transformers.ByT5Tokenizer(), length=32, batch_size=4).fit(corpus)
    texts = ["a", "a longer goal than the first", "x" * 100]
    found = retriever.embed(texts)
    for text, vector in zip(texts, found, strict=True):
        # ByT5: a byte b is the token b + 3, and 1 ends the text; there is no padding where a text is alone.
        ids = torch.tensor([[*(byte + 3 for byte in text.encode()[:31]), 1]])
        with torch.no_grad():
            mean = model(input_ids=ids).last_hidden_state[0].mean(0).numpy()
        assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    premises = retriever.embed([it.marked() for it in corpus.premises])
    everything = IndexSet(np.array([0]), np.array([6]))
    scores = dict(retriever.rank("a", everything))
    assert [scores[it] for it in range(6)] == pytest.approx((premises @ found[0]).tolist(), abs=1e-5)
