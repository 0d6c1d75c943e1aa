"""Propose the proofs of the most similar theorems as they stand: what an author copies first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from tendsto.assistants.protocol import Opening
from tendsto.assistants.rocq import theorem_name
from tendsto.assistants.sentences import sentences
from tendsto.proof.corpus import Corpus
from tendsto.proof.retrieval import goal, tokens
from tendsto.validation import integer, real


class NearestProofs:
    r"""A policy for whole proofs without a model: the proofs of the theorems with the nearest statements.

    Statements are compared by the cosine $c$ of their TF-IDF vectors of words. At temperature 0 the proofs come in
    descending order of $c$; at temperature $T$ they are drawn one after the other, without replacement, with
    probabilities proportional to $c^{1/T}$.

    Many are wrong in details, which is what sketches are made from (`HybridProver`).

    **Arguments**

    - `seed`: of what is drawn.
    """

    def __init__(self, seed: int = 0) -> None:
        integer("seed", seed, low=0)
        self.seed = seed
        self._proofs: list[str] | None = None

    def fit(self, corpus: Corpus, train: Iterable[int]) -> Self:
        """Know the proofs of the theorems `train`, and no other.

        **Raises** `ValueError` if there are none.
        """
        known = [corpus.theorems[number] for number in train]
        if not known:
            raise ValueError("train: must not be empty")
        self._proofs = [_body(theorem.proof) for theorem in known]
        self._vectorizer = TfidfVectorizer(analyzer=tokens)
        self._statements = self._vectorizer.fit_transform([goal(theorem) for theorem in known])
        return self

    def propose(self, opening: Opening, n: int, temperature: float) -> list[str]:
        """At most `n` different proofs; see `WholeProofPolicy.propose`.

        **Raises** `ValueError` if it was not fitted, or for arguments out of range.
        """
        integer("n", n, low=1)
        real("temperature", temperature, low=0.0)
        if self._proofs is None:
            raise ValueError("NearestProofs: fit it first")
        said = opening.statement.partition(theorem_name(opening.statement))[2]
        cosines = np.asarray((self._vectorizer.transform([said]) @ self._statements.T).toarray())[0]
        like = np.flatnonzero(cosines > 0)
        scores = np.log(cosines[like])
        if temperature > 0:
            # The order of log p + Gumbel noise is that of drawing without replacement.
            scores = scores / temperature + np.random.default_rng(self.seed).gumbel(size=len(like))
        order = like[np.argsort(-scores, kind="stable")].tolist()
        return list(dict.fromkeys(self._proofs[number] for number in order))[:n]


def _body(proof: str) -> str:
    """A proof's text between `Proof.` and `Qed.`"""
    found = sentences(proof)
    first = 1 if found and found[0].text.startswith("Proof") else 0
    last = len(found) - (found[-1].text in ("Qed.", "Defined.", "Save.")) if found else 0
    return proof[found[first].start : found[last - 1].end] if first < last else ""
