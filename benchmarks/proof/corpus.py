"""Mathematical Components as a corpus: how long it takes to read, and what each retriever finds in it.

    python -m benchmarks.proof.corpus [--quick] [--json]

Premises are the theorems of the library, queries its statements without their names. Times are processor time, since
reading is one thread's work. `all` candidates are those of the whole library but the theorem itself. `--quick` leaves
out the encoder, which trains for 2,000 steps.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.contest import options, show
from tendsto.proof import (
    BM25Retriever,
    CombinedRetriever,
    Corpus,
    DualEncoderRetriever,
    IndexSet,
    NearestNeighbourRetriever,
    Query,
    RecencyRetriever,
    ScoringRetriever,
    mean_reciprocal_rank,
    queries,
    recall_at,
)

T = TypeVar("T")


def timed(call: Callable[[], T]) -> tuple[T, float]:
    began = time.process_time()
    result = call()
    return result, time.process_time() - began


def others(corpus: Corpus, query: Query) -> IndexSet:
    theorem = corpus.theorems[query.theorem]
    file = corpus.file(theorem.path)
    names = [it.full_name for it in corpus.premises[file.first : file.stop]]
    own = file.first + names.index(theorem.full_name)
    return IndexSet(np.array([0, own + 1]), np.array([own, len(corpus.premises)]))


def measured(retriever: ScoringRetriever, asked: Sequence[Query], allowed: Sequence[IndexSet]) -> dict[str, float]:
    rankings, took = timed(lambda: retriever.rank_batch([it.text for it in asked], allowed, 100))
    used = [it.premises for it in asked]
    return {
        "R@1": recall_at(1, rankings, used),
        "R@10": recall_at(10, rankings, used),
        "MRR": mean_reciprocal_rank(rankings, used),
        "ms a query": 1000 * took / len(asked),
    }


def retrievers(*, trained: bool) -> dict[str, ScoringRetriever]:
    simple = {"BM25": BM25Retriever, "nearest proofs": NearestNeighbourRetriever, "recency": RecencyRetriever}
    found: dict[str, ScoringRetriever] = {name: make() for name, make in simple.items()}
    found["sum of these three"] = CombinedRetriever([make() for make in simple.values()])
    if trained:
        found["encoder"] = DualEncoderRetriever()
        found["encoder without in-file negatives"] = DualEncoderRetriever(in_file=0)
    return found


def main() -> None:
    choice = options(__doc__)
    compiler = shutil.which("coqc") or sys.exit("Rocq is missing: apt install coq")
    where = subprocess.run([compiler, "-where"], capture_output=True, text=True, check=True).stdout.strip()
    folder = Path(where) / "user-contrib" / "mathcomp"
    if not folder.is_dir():
        sys.exit("mathcomp is missing: apt install libcoq-mathcomp")
    corpus, reading = timed(lambda: Corpus.from_glob(folder))
    violations, checking = timed(corpus.violations)
    lemmas = corpus.of_kinds(["theorem"])
    used = np.array([len(it.premises) for it in lemmas.theorems])
    show(
        "Mathematical Components",
        [
            {
                "files": len(corpus.files),
                "premises": len(corpus.premises),
                "theorems": len(corpus.theorems),
                "using lemmas": int((used > 0).sum()),
                "lemmas a proof": float(used.mean()),
                "read, s": reading,
                "violations": len(violations),
                "checked, s": checking,
            }
        ],
        as_json=choice.json,
    )
    for strategy in ("random", "novel_premises"):
        split = lemmas.split(strategy, val=0, test=0.04)
        asked = queries(lemmas, split.test.tolist())
        allowed = {"accessible": [it.accessible for it in asked], "all": [others(lemmas, it) for it in asked]}
        rows = []
        for name, retriever in retrievers(trained=not choice.quick).items():
            _, fitting = timed(lambda fit=retriever.fit, split=split: fit(lemmas, split.train.tolist()))
            for candidates, sets in allowed.items():
                row = {"retriever": name, "candidates": candidates, "fitted, s": fitting}
                rows.append(row | measured(retriever, asked, sets))
        show(f"{strategy}, {len(asked)} queries", rows, as_json=choice.json)


if __name__ == "__main__":
    main()
