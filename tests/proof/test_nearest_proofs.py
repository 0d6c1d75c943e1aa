"""Proofs of similar theorems: which, in which order, and that nothing else is known."""

from collections import Counter

import numpy as np
import pytest

from tendsto.assistants import Opening
from tendsto.proof import Corpus
from tendsto.proof.corpus import File, Premise, Theorem
from tendsto.proof.nearest_proofs import NearestProofs

STATEMENTS = {
    "add_comm": "Lemma add_comm : forall n m, n + m = m + n.",
    "mul_comm": "Lemma mul_comm : forall n m, n * m = m * n.",
    "rev_rev": "Lemma rev_rev : forall l, rev (rev l) = l.",
    "copy": "Lemma copy : forall a b, a + b = b + a.",
}
PROOFS = {name: f"Proof. (* {name} *)\n  intros. exact {name}_proof.\nQed." for name in STATEMENTS} | {
    "copy": "intros. exact add_comm_proof. Qed."
}
ASKED = Opening((), "Theorem asked : forall n m : nat, n + m + 0 = m + n.")


@pytest.fixture(scope="module")
def corpus():
    premises = tuple(Premise("f.v", f"f.{n}", "theorem", i, i + 1, s) for i, (n, s) in enumerate(STATEMENTS.items()))
    theorems = tuple(
        Theorem("f.v", f"f.{n}", i, i + 1, s, PROOFS[n], (), ()) for i, (n, s) in enumerate(STATEMENTS.items())
    )
    return Corpus((File("f.v", (), 0, len(premises)),), premises, theorems)


def test_the_nearest_come_first_without_their_frame_and_once(corpus):
    proposed = NearestProofs().fit(corpus, range(4)).propose(ASKED, 10, 0.0)
    assert proposed == [
        "intros. exact add_comm_proof.",
        "intros. exact mul_comm_proof.",
        "intros. exact rev_rev_proof.",
    ]
    assert NearestProofs().fit(corpus, range(4)).propose(ASKED, 2, 0.0) == proposed[:2]


def test_only_the_training_proofs_are_known(corpus):
    assert NearestProofs().fit(corpus, [2]).propose(ASKED, 10, 0.0) == ["intros. exact rev_rev_proof."]


def test_drawn_in_proportion_to_similarity(corpus):
    policy = NearestProofs().fit(corpus, [0, 1])
    cosines = np.asarray((policy._vectorizer.transform([ASKED.statement[14:]]) @ policy._statements.T).toarray())[0]
    share = cosines[0] ** 2 / (cosines**2).sum()  # at temperature 1/2
    first = Counter(NearestProofs(seed).fit(corpus, [0, 1]).propose(ASKED, 1, 0.5)[0] for seed in range(400))
    deviation = np.sqrt(share * (1 - share) / 400)
    assert abs(first["intros. exact add_comm_proof."] / 400 - share) < 4 * deviation
    assert 0.5 < share < 1 - 4 * deviation


def test_bad_input_names_the_argument(corpus):
    with pytest.raises(ValueError, match="fit it first"):
        NearestProofs().propose(ASKED, 1, 0.0)
    with pytest.raises(ValueError, match="train: must not be empty"):
        NearestProofs().fit(corpus, [])
    policy = NearestProofs().fit(corpus, [0])
    with pytest.raises(ValueError, match="temperature"):
        policy.propose(ASKED, 1, -1.0)
    with pytest.raises(ValueError, match="n: must"):
        policy.propose(ASKED, 0, 0.0)
