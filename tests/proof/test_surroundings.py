"""A file beside a corpus: what it imports, what it states, and what a theorem in it may use."""

import pytest
import rocq_project

from tendsto.proof import Corpus, File
from tendsto.proof.surroundings import with_file

TEXT = """(* Require Import user. *)
Require Import base.
Lemma mine : flip even = odd. Proof. reflexivity. Qed.
Definition d := 1.
Theorem after : True. Admitted.
"""


@pytest.fixture
def corpus(tmp_path):
    return Corpus.from_glob(rocq_project.write(tmp_path))


def test_what_a_file_requires_and_states(corpus):
    found = with_file(corpus, "mine.v", TEXT)
    assert found.files[-1].imports == ("base.v",)
    assert [premise.full_name for premise in found.premises[len(corpus.premises) :]] == ["mine", "after"]
    assert found.premises[: len(corpus.premises)] == corpus.premises
    mine = found.premises[len(corpus.premises)]
    assert TEXT[mine.start : mine.end] == mine.code == "Lemma mine : flip even = odd."


@pytest.mark.parametrize(
    ("required", "imports"),
    [
        ("From a Require Import x y.", ["a/b/x.v", "a/y.v"]),
        ("From a.b Require x.", ["a/b/x.v"]),
        ("Require Export b.x.", ["a/b/x.v"]),
        ("From c Require Import x.", ["c/x.v"]),
        ("From b Require Import x.", []),
        ("Require Import\n  x.", ["a/b/x.v", "c/x.v"]),
        ("From a Require Import (* c *) x.", ["a/b/x.v"]),
        ("From a Require Import xx.", []),
    ],
)
def test_libraries_are_found_by_their_names(required, imports):
    library = Corpus(tuple(File(path, (), 0, 0) for path in ("a/b/x.v", "a/y.v", "c/x.v")), (), ())
    assert list(with_file(library, "mine.v", required).files[-1].imports) == imports


def test_only_what_stands_before_a_theorem_is_accessible(corpus):
    found = with_file(corpus, "mine.v", TEXT)

    def names(position):
        return [found.premises[number].full_name for number in found.accessible("mine.v", position)]

    assert names(TEXT.index("Theorem"))[-2:] == ["base.ex1", "mine"]
    assert {found.premises[number].path for number in found.accessible("mine.v", TEXT.index("Lemma"))} == {"base.v"}


def test_a_file_that_is_there_already_is_refused(corpus):
    with pytest.raises(ValueError, match=r"path: base\.v is in the corpus already"):
        with_file(corpus, "base.v", TEXT)
