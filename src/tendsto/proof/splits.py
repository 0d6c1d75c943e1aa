"""Divide theorems for training and testing: at random, or so that what is tested needs premises never seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tendsto.validation import integer, real

if TYPE_CHECKING:
    from tendsto.proof.corpus import Corpus, Split


def split(corpus: Corpus, strategy: str, *, val: float, test: float, seed: int) -> Split:
    """Divide the theorems of `corpus`; see `Corpus.split`."""
    from tendsto.proof.corpus import Split

    total = len(corpus.theorems)
    validate, held = _count("val", val, total), _count("val", val, total) + _count("test", test, total)
    integer("seed", seed, low=0)
    if held > total:
        raise ValueError(f"test: {held} theorems to validate and test on, but the corpus has {total}")
    generator = np.random.default_rng(seed)
    if strategy == "random":
        order = generator.permutation(total)
        return Split(
            order[: total - held], order[total - held : total - held + validate], order[total - held + validate :]
        )
    if strategy != "novel_premises":
        raise ValueError(f"strategy: must be 'random' or 'novel_premises', got {strategy!r}")
    users = [corpus.uses[premise] for premise in generator.permutation(len(corpus.premises))]
    out: set[int] = set()
    for theorems in sorted(users, key=len):
        if len(out) >= held:
            break
        out.update(theorems)
    if len(out) < held:
        raise ValueError(f"test: {held} theorems to hold out, but only {len(out)} use a premise")
    shuffled = generator.permutation(sorted(out))
    train = np.array([number for number in range(total) if number not in out], dtype=np.int64)
    return Split(train, shuffled[:validate], shuffled[validate:])


def _count(name: str, share: float, total: int) -> int:
    real(name, share, low=0.0)
    if share < 1:
        return round(share * total)
    integer(name, share)
    return int(share)
