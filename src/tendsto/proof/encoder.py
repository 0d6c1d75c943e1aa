"""Premise selection by a learned encoder of goals and premises, after LeanDojo's retriever."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from tendsto import extras
from tendsto.proof.corpus import Corpus
from tendsto.proof.index_set import IndexSet
from tendsto.proof.retrieval import Query, ScoringRetriever, queries
from tendsto.validation import integer, positive

_CHUNK = 1024


def similarity_loss(
    similarities: Float[Array, "batch candidates"], labels: Bool[Array, "batch candidates"]
) -> Float[Array, ""]:
    """The mean over all entries of (cosine − label)²: the loss of LeanDojo's retriever (Section 5)."""
    return jnp.mean(jnp.square(similarities - labels))


class Batch(NamedTuple):
    """What one training step compares.

    **Arguments**

    - `queries`: the number of each example's query.
    - `candidates`: premises: the examples' positives, then block after block one negative of each example.
    - `labels`: whether a candidate is among *all* premises that the query's proof uses, so that one example's negative
      may be another's positive.
    """

    queries: Int[np.ndarray, " batch"]
    candidates: Int[np.ndarray, " candidates"]
    labels: Bool[np.ndarray, "batch candidates"]


class BatchSampler:
    """Draws training batches with negatives from the file that defines the positive (Section 5 of arXiv 2306.15626).

    There is an example for every premise that a query's proof uses. Of its `negatives`, `in_file` are accessible
    premises of the file that *defines* the positive, the others accessible premises of other files; none is the
    positive itself. Where one of the two pools has too few, the other one fills up; where both together have too few,
    premises are drawn more than once. An example whose query can use nothing but the positive is left out.

    **Arguments**

    - `corpus`, `queries`: what to draw from.
    - `negatives`: negatives of each example, n; `in_file`: those of the positive's file, in [0, n].

    **Raises** `ValueError` if no example is left.
    """

    def __init__(self, corpus: Corpus, queries: Sequence[Query], *, negatives: int = 3, in_file: int = 1) -> None:
        integer("negatives", negatives, low=1)
        integer("in_file", in_file, low=0, high=negatives)
        self.queries, self.negatives, self.in_file = queries, negatives, in_file
        self.examples = [
            (number, premise)
            for number, query in enumerate(queries)
            for premise in query.premises
            if len(query.accessible) > (premise in query.accessible)
        ]
        if not self.examples:
            raise ValueError("queries: no proof uses a premise beside which another is accessible")
        self._bounds = np.array([(it.first, it.stop) for it in corpus.files for _ in range(it.first, it.stop)])

    def draw(self, generator: np.random.Generator, size: int) -> Batch:
        """A batch of `size` examples, drawn with replacement."""
        chosen = [self.examples[it] for it in generator.integers(len(self.examples), size=size)]
        negatives = np.stack([self.draw_negatives(generator, *it) for it in chosen], axis=1)
        positives = np.array([premise for _, premise in chosen])
        candidates = np.concatenate([positives, negatives.ravel()])
        labels = np.stack([np.isin(candidates, self.queries[number].premises) for number, _ in chosen])
        return Batch(np.array([number for number, _ in chosen]), candidates, labels)

    def draw_negatives(self, generator: np.random.Generator, query: int, premise: int) -> Int[np.ndarray, " negatives"]:
        """Negatives for one example, those of the positive's file first."""
        accessible = self.queries[query].accessible
        first, stop = self._bounds[premise]
        file = np.arange(first, stop)
        of_file = file[accessible.contains(file)]
        inside = of_file[of_file != premise]
        # Of the others only the number is needed: as most are accessible, there may be very many.
        below = int(np.searchsorted(np.append(accessible.stops, stop), first, side="right"))
        before = int((accessible.stops - accessible.starts)[:below].sum())
        if below < len(accessible.starts):
            before += max(0, int(first - accessible.starts[below]))
        outside = len(accessible) - len(of_file)

        within = min(self.in_file, len(inside))
        others = min(self.negatives - within, outside)
        within = min(self.negatives - others, len(inside))
        places = generator.choice(outside, others, replace=False) if others else np.zeros(0, dtype=np.int64)
        places = places + len(of_file) * (places >= before)
        drawn = [generator.choice(inside, within, replace=False) if within else inside[:0], accessible.take(places)]
        missing = self.negatives - within - others
        return np.concatenate([*drawn, generator.choice(np.concatenate(drawn), missing)] if missing else drawn)


class Features(NamedTuple):
    """Texts as bags of hashed byte n-grams, padded: which buckets occur, and with which weight."""

    buckets: Int[np.ndarray, "texts length"]
    weights: Float[np.ndarray, "texts length"]


def byte_ngrams(texts: Sequence[str], *, buckets: int, length: int, sizes: Sequence[int] = (3, 5)) -> Features:
    """Hash the n-grams of the UTF-8 bytes of each text into `buckets`; each bag has unit length.

    A bucket that f n-grams of a text fall into has weight √f before the bag is scaled. Of a text with more than
    `length` of them those of the smaller buckets are kept.
    """
    encoded = [f" {' '.join(text.split())} ".encode() for text in texts]
    data = np.frombuffer(b"".join(encoded), dtype=np.uint8).astype(np.uint64)
    text = np.repeat(np.arange(len(texts)), [len(it) for it in encoded])
    keys = []
    for size in sizes:
        count = max(0, len(data) - size + 1)
        value = np.full(count, size, dtype=np.uint64)
        for at in range(size):
            value = (value ^ data[at : at + count]) * np.uint64(0x9E3779B97F4A7C15)
            value ^= value >> np.uint64(29)
        whole = text[:count] == text[size - 1 :]  # those that begin and end in the same text
        keys.append(text[:count][whole] * buckets + (value[whole] % np.uint64(buckets)).astype(np.int64))
    found, counts = np.unique(np.concatenate(keys), return_counts=True)
    row, bucket = np.divmod(found, buckets)
    column = np.arange(len(row)) - np.searchsorted(row, row)
    kept = column < length
    places = np.zeros((len(texts), length), dtype=np.int32)
    weights = np.zeros((len(texts), length), dtype=np.float32)
    places[row[kept], column[kept]] = bucket[kept]
    weights[row[kept], column[kept]] = np.sqrt(counts[kept])
    return Features(places, weights / np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-12))


class TextEncoder(eqx.Module):
    """A bag of n-grams to a unit vector: embeddings, summed, and a residual layer with two matrices."""

    embedding: Float[Array, "buckets dim"]
    hidden: Float[Array, "dim width"]
    out: Float[Array, "width dim"]

    @classmethod
    def create(cls, rarity: Float[np.ndarray, " buckets"], dim: int, width: int, key: Key[Array, ""]) -> TextEncoder:
        """Random embeddings scaled by the rarity of each bucket: at first, cosines are about those of TF-IDF."""
        one, two = jax.random.split(key)
        embedding = jax.random.normal(one, (len(rarity), dim), dtype=jnp.float32) * rarity[:, None] / dim**0.5
        hidden = jax.random.normal(two, (dim, width), dtype=jnp.float32) / dim**0.5
        return cls(embedding.astype(jnp.float32), hidden, jnp.zeros((width, dim), dtype=jnp.float32))

    def __call__(
        self, buckets: Int[Array, "texts length"], weights: Float[Array, "texts length"]
    ) -> Float[Array, "texts dim"]:
        """Unit vectors of texts; a text without n-grams has the zero vector."""
        bag = jnp.einsum("tld,tl->td", self.embedding[buckets], weights)
        vector = bag + jax.nn.gelu(bag @ self.hidden) @ self.out
        return vector / jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(vector), axis=-1, keepdims=True), 1e-12))


class EmbeddingRetriever(ScoringRetriever):
    """A retriever whose score is the cosine between the embeddings of goal and premise, by one shared encoder.

    A premise is read as its source with `<a>full_name</a>` in the place of its name; see `Premise.marked`.
    """

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
        """The unit vector of each text."""

    def fit(self, corpus: Corpus, train: Iterable[int] = ()) -> Self:
        self.corpus = corpus
        self._premises = self.embed([it.marked() for it in corpus.premises])
        return self

    def scores(self, texts: Sequence[str], accessible: Sequence[IndexSet]) -> Float[np.ndarray, "queries premises"]:
        return np.asarray(self.embed(texts) @ self._premises.T)


class DualEncoderRetriever(EmbeddingRetriever):
    """A small encoder of byte n-grams trained as LeanDojo's retriever is: the same loss, batches and negatives.

    With S the cosines between B goals and the B(1 + n) candidates of a `Batch`, and L its labels, the loss is
    mean (S − L)². AdamW with a linear warm-up and then a constant rate, gradients clipped to norm 1, as in the paper's
    code; the paper's encoder is ByT5 (see `TransformersRetriever`), trained for days on a GPU.

    **Arguments**

    - `steps`, `batch_size`: how long and how wide to train; `learning_rate`: after `warm_up` steps.
    - `negatives`, `in_file`: see `BatchSampler`.
    - `dim`, `buckets`, `length`: of the embedding; the number of hashed n-grams, and of those read of a text.
    - `seed`: of all randomness.
    - `on_step`: called after each step with its number and its loss.
    """

    def __init__(
        self,
        *,
        steps: int = 2000,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        warm_up: int = 50,
        negatives: int = 3,
        in_file: int = 1,
        dim: int = 128,
        buckets: int = 1 << 14,
        length: int = 192,
        seed: int = 0,
        on_step: Callable[[int, float], None] | None = None,
    ) -> None:
        for name, value in (("steps", steps), ("batch_size", batch_size), ("dim", dim), ("buckets", buckets)):
            integer(name, value, low=1)
        integer("length", length, low=1)
        integer("warm_up", warm_up, low=0)
        integer("negatives", negatives, low=1)
        integer("in_file", in_file, low=0, high=negatives)
        integer("seed", seed, low=0)
        positive("learning_rate", learning_rate)
        self.steps, self.batch_size, self.learning_rate, self.warm_up = steps, batch_size, learning_rate, warm_up
        self.negatives, self.in_file, self.dim, self.buckets = negatives, in_file, dim, buckets
        self.length, self.seed, self.on_step = length, seed, on_step

    def fit(self, corpus: Corpus, train: Iterable[int] = ()) -> Self:
        """Train on the proofs of the theorems `train`; raises `ValueError` if none uses a premise."""
        known = queries(corpus, train)
        if not known:
            raise ValueError("train: no proof of these theorems uses a premise")
        sampler = BatchSampler(corpus, known, negatives=self.negatives, in_file=self.in_file)
        premises = self._features([it.marked() for it in corpus.premises])
        goals = self._features([it.text for it in known])
        occurs = np.bincount(premises.buckets[premises.weights > 0], minlength=self.buckets)
        rarity = np.log1p(len(corpus.premises) / (1.0 + occurs)).astype(np.float32)
        self.encoder = TextEncoder.create(rarity, self.dim, self.dim, jax.random.key(self.seed))
        self._train(sampler, jax.tree.map(jnp.asarray, goals), jax.tree.map(jnp.asarray, premises))
        return super().fit(corpus, ())

    def embed(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
        parts = []
        for start in range(0, len(texts), _CHUNK):
            features = self._features([*texts[start : start + _CHUNK], *[""] * (_CHUNK - len(texts) + start)])
            parts.append(np.asarray(_embed(self.encoder, *map(jnp.asarray, features)))[: len(texts) - start])
        return np.concatenate(parts)

    def _features(self, texts: Sequence[str]) -> Features:
        return byte_ngrams(texts, buckets=self.buckets, length=self.length)

    def _train(self, sampler: BatchSampler, goals: Features, premises: Features) -> None:
        optimiser = optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(
                optax.linear_schedule(0.0, self.learning_rate, self.warm_up) if self.warm_up else self.learning_rate
            ),
        )
        state = optimiser.init(eqx.filter(self.encoder, eqx.is_array))

        @eqx.filter_jit(donate="all-except-first")
        def step(fixed: Any, encoder: TextEncoder, state: Any, batch: Any) -> Any:
            goals, premises = fixed
            numbers, candidates, labels = batch

            def loss(encoder: TextEncoder) -> Float[Array, ""]:
                left = encoder(goals.buckets[numbers], goals.weights[numbers])
                right = encoder(premises.buckets[candidates], premises.weights[candidates])
                return similarity_loss(left @ right.T, labels)

            value, gradients = eqx.filter_value_and_grad(loss)(encoder)
            updates, state = optimiser.update(gradients, state, encoder)
            return eqx.apply_updates(encoder, updates), state, value

        generator = np.random.default_rng(self.seed)
        for number in range(1, self.steps + 1):
            batch = jax.tree.map(jnp.asarray, sampler.draw(generator, self.batch_size))
            self.encoder, state, value = step((goals, premises), self.encoder, state, tuple(batch))
            if self.on_step is not None:
                self.on_step(number, float(value))


@eqx.filter_jit
def _embed(
    encoder: TextEncoder, buckets: Int[Array, "texts length"], weights: Float[Array, "texts length"]
) -> Float[Array, "texts dim"]:
    return encoder(buckets, weights)


class TransformersRetriever(EmbeddingRetriever):
    """An encoder of Hugging Face's transformers: the mean of the last hidden states over what is no padding.

    LeanDojo's own checkpoints are of this form (`kaiyuy/leandojo-lean4-retriever-byt5-small`). Needs the extra `torch`.

    **Arguments**

    - `model`: an encoder, such as a `transformers.T5EncoderModel`, on the device where it is to run.
    - `tokenizer`: its tokenizer.
    - `length`: the largest number of tokens read of a text.
    - `batch_size`: how many texts are encoded at a time.
    """

    def __init__(self, model: Any, tokenizer: Any, *, length: int = 1024, batch_size: int = 32) -> None:
        integer("length", length, low=1)
        integer("batch_size", batch_size, low=1)
        self.model, self.tokenizer, self.length, self.batch_size = model, tokenizer, length, batch_size

    @classmethod
    def from_pretrained(cls, name: str, **settings: Any) -> Self:
        """Load a T5 encoder and its tokenizer by the name of a checkpoint or from a folder.

        **Raises** `MissingExtra` without transformers and PyTorch, `OSError` for a checkpoint that is not to be had.
        """
        extras.load("torch", extra="torch")
        transformers = extras.load("transformers", extra="torch")
        model = transformers.T5EncoderModel.from_pretrained(name).eval()
        return cls(model, transformers.AutoTokenizer.from_pretrained(name), **settings)

    def embed(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
        torch = extras.load("torch", extra="torch")
        parts = []
        with torch.inference_mode():
            for start in range(0, len(texts), self.batch_size):
                inputs = self.tokenizer(
                    list(texts[start : start + self.batch_size]),
                    padding=True,
                    truncation=True,
                    max_length=self.length,
                    return_tensors="pt",
                ).to(self.model.device)
                states = self.model(**inputs).last_hidden_state
                kept = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
                means = (states * kept).sum(1) / kept.sum(1)
                parts.append(torch.nn.functional.normalize(means, dim=1).float().cpu().numpy())
        return np.concatenate(parts)
