"""What papers are about, as vectors: tf-idf, and the singular vectors of the corpus; no model is downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from tendsto.files import write_atomically

_DIMENSIONS = 128
_TERMS = 40_000
_SMALL = 500
"""Below so many papers every word counts, and the vectors keep all that tf-idf tells."""
_CONTRASTED = 5_000
_SEED = 0
_TOKEN = r"(?u)\b[^\W\d_][\w-]+\b"


@dataclass(frozen=True)
class Meaning:
    """Vectors of unit length, one a paper: `vectors[i]` is that of the paper with the identity `identities[i]`.

    `stamp` says which state of the database they were made from.
    """

    stamp: str
    identities: NDArray[np.int64]
    vectors: NDArray[np.float32]
    vocabulary: NDArray[np.str_]
    weights: NDArray[np.float64]
    components: NDArray[np.float32]

    @classmethod
    def learn(cls, stamp: str, papers: Iterable[tuple[int, str]]) -> Meaning | None:
        """Learn from the identities and texts of `papers`; None where fewer than three of them have words."""
        identities, texts = [], []
        for identity, text in papers:
            identities.append(identity)
            texts.append(text)
        small = len(texts) < _SMALL
        if len(texts) < 3:
            return None
        terms = _vectorizer(min_df=1 if small else 3, max_df=0.5, max_features=_TERMS)
        try:
            matrix = terms.fit_transform(texts)
        except ValueError:  # no word is left after common ones are taken out
            return None
        size = min(_DIMENSIONS, *(side - 1 for side in matrix.shape))
        if size < 1:
            return None
        reduction = TruncatedSVD(size, random_state=_SEED).fit(matrix)
        vectors = normalize(reduction.transform(matrix)).astype(np.float32)
        return cls(
            stamp,
            np.asarray(identities),
            vectors,
            np.asarray(terms.get_feature_names_out(), dtype=np.str_),
            terms.idf_,
            reduction.components_.astype(np.float32),
        )

    def save(self, path: Path) -> None:
        """Write the vectors to `path`."""
        with write_atomically(path) as stream:
            np.savez(stream, **vars(self))

    @classmethod
    def load(cls, path: Path, stamp: str) -> Meaning | None:
        """The vectors in `path`; None if there are none, or they were made from another state than `stamp`."""
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                if str(stored["stamp"]) != stamp:
                    return None
                return cls(stamp, *(stored[name] for name in list(cls.__dataclass_fields__)[1:]))
        except (OSError, ValueError, KeyError, BadZipFile):
            return None

    def nearest(self, text: str, count: int) -> list[tuple[int, float]]:
        """The papers closest in meaning to `text`, and the cosines of their angles, from the closest."""
        terms = _vectorizer(vocabulary=self.vocabulary.tolist())
        terms.idf_ = self.weights
        query = normalize(terms.transform([text]) @ self.components.T)[0].astype(np.float32)
        return self._best(self.vectors @ query, count)

    def similar(self, identity: int, count: int) -> list[tuple[int, float]]:
        """The papers closest in meaning to another one, without that one."""
        places = np.flatnonzero(self.identities == identity)
        if not places.size:
            return []
        scores = self.vectors @ self.vectors[places[0]]
        scores[places] = -np.inf
        return self._best(scores, count)

    def recommend(self, liked: Sequence[int], count: int) -> list[tuple[int, float]]:
        """The papers that a support vector machine puts nearest to those `liked`, without these.

        All others count as not liked (of a large corpus, an even sample of them). A score above 0 lies on the side of
        those liked.
        """
        wanted = np.isin(self.identities, liked)
        others = np.flatnonzero(~wanted)
        if not wanted.any() or not others.size:
            return []
        contrast = others[:: max(1, len(others) // _CONTRASTED)]
        chosen = np.concatenate([np.flatnonzero(wanted), contrast])
        machine = LinearSVC(C=0.1, class_weight="balanced", random_state=_SEED, max_iter=10_000)
        machine.fit(self.vectors[chosen].astype(np.float64), wanted[chosen])
        scores = (self.vectors @ machine.coef_[0] + machine.intercept_[0]).astype(np.float32)
        scores[wanted] = -np.inf
        return self._best(scores, count)

    def _best(self, scores: NDArray[np.float32], count: int) -> list[tuple[int, float]]:
        count = min(count, len(scores))
        places = np.argpartition(-scores, count - 1)[:count] if count else np.empty(0, dtype=int)
        ordered = places[np.lexsort((self.identities[places], -scores[places]))]
        return [(int(self.identities[it]), float(scores[it])) for it in ordered if np.isfinite(scores[it])]


def _vectorizer(**options: object) -> TfidfVectorizer:
    return TfidfVectorizer(
        stop_words="english",
        strip_accents="unicode",
        sublinear_tf=True,
        token_pattern=_TOKEN,
        ngram_range=(1, 1),
        **options,
    )
