"""`Rocq.check_proof`: a proof from a stranger, where its theorem stands in a trusted file."""

import shutil
import subprocess

import pytest

from tendsto.assistants import Rocq
from tendsto.assistants.rocq import open_blocks, theorem_name

needs_rocq = pytest.mark.skipif(shutil.which("coqc") is None, reason="needs Rocq: apt install coq")

BEFORE = """From Coq Require Import Arith Lia Classical.
Set Implicit Arguments.
Inductive tree := leaf | node (l r : tree).
Fixpoint size t := match t with leaf => 1 | node l r => size l + size r end.
Axiom two_is_three : 2 = 3.
Lemma later : forall A (x y : A), x = y. Proof. Admitted.
Module Forest. Section Walk. Variable t : tree. Hypothesis seven : size t = 7. Notation "x ++ y" := (x + y).
"""
STATEMENT = "Lemma grown (n : nat) : size t ++ n = n + 7."


def check(proof, statement=STATEMENT, before=BEFORE, axioms=None, **options):
    assistant = Rocq() if axioms is None else Rocq(axioms=axioms)
    certificate = assistant.check_proof(before, statement, proof, **options)
    (theorem,) = certificate.theorems.values()
    return certificate.outcome, theorem


@needs_rocq
def test_a_proof_from_the_hypotheses_of_its_section():
    outcome, theorem = check("(* by what is known *)\n- rewrite seven. { lia. }")
    assert (outcome, theorem.axioms, theorem.reason) == ("accepted", (), "")
    assert (theorem.name, theorem.statement) == ("grown", STATEMENT)


@needs_rocq
@pytest.mark.parametrize(
    ("proof", "axioms"),
    [
        ("exfalso. discriminate two_is_three.", ("two_is_three",)),
        ("apply later.", ("later",)),
        ("apply NNPP. intro no. apply no. rewrite seven. lia.", ("Classical_Prop.classic",)),
    ],
)
def test_what_it_rests_on_is_listed(proof, axioms):
    outcome, theorem = check(proof, recheck=False)
    assert (outcome, theorem.axioms) == ("accepted", axioms)


@needs_rocq
def test_an_axiom_of_a_library_that_is_not_allowed():
    outcome, theorem = check("apply NNPP. intro no. apply no. rewrite seven. lia.", axioms=())
    assert outcome == "rejected"
    assert "Classical_Prop.classic" in theorem.reason


@needs_rocq
@pytest.mark.parametrize(
    ("proof", "outcome", "reason"),
    [
        ("reflexivity.", "rejected", "Unable to unify"),
        ("rewrite seven.", "rejected", "incomplete proof"),
        ("admit.", "rejected", "given up goals"),
        (
            "rewrite seven. lia. Qed. Axiom more : False. Goal True. exact I.",
            "refused",
            "a command, not a tactic: Qed.",
        ),
        ("Admitted. Lemma other : True. exact I.", "refused", "a command"),
        ("rewrite seven. (* lia.", "refused", "comment"),
        ('idtac "', "refused", "string"),
        ("do 1000000000 (try fail).", "timed out", "out of time"),
        ("revert n. fix loop 1. exact loop.", "rejected", "ill-formed"),
    ],
)
def test_what_is_no_proof_is_not_accepted(proof, outcome, reason):
    found, theorem = check(proof, seconds=3.0)
    assert found == outcome
    assert reason in theorem.reason


@needs_rocq
def test_the_second_opinion_finds_an_axiom_that_only_the_proof_brings(monkeypatch):
    # Were commands not refused, one could state an axiom in the middle of a proof; the file compiles.
    monkeypatch.setattr("tendsto.assistants.rocq.refusal", lambda tactic: "")
    proof = "rewrite seven. Axiom surplus : True. lia."
    assert check(proof, recheck=False)[0] == "accepted"
    outcome, theorem = check(proof)
    assert outcome == "rejected"
    assert "surplus" in theorem.reason


@needs_rocq
def test_the_twin_of_the_statement_is_no_proof(monkeypatch):
    monkeypatch.setattr("tendsto.assistants.rocq.secrets.token_hex", lambda length: "known")
    outcome, theorem = check("exact (tendsto_known_expected n).", recheck=False)
    assert outcome == "rejected"
    assert "tendsto_known_expected" in theorem.reason


@needs_rocq
def test_another_statement_under_the_same_name_is_not_accepted(monkeypatch):
    monkeypatch.setattr("tendsto.assistants.rocq.refusal", lambda tactic: "")
    swapped = "Abort. Lemma grown : True. Proof. exact I."
    outcome, theorem = check(swapped)
    assert outcome == "rejected"
    assert 'has type "True"' in theorem.reason


@needs_rocq
@pytest.mark.parametrize("opened", ["Module Type T.", "Module F (K : Kind)."])
def test_a_theorem_in_a_functor_is_rejected_with_the_reason(opened):
    outcome, theorem = check("exact I.", "Lemma t : True.", f"Module Type Kind. End Kind.\n{opened}")
    assert outcome == "rejected"
    assert "in a functor or a module type" in theorem.reason


@needs_rocq
def test_files_of_a_project_are_found(tmp_path):
    (tmp_path / "base.v").write_text("Definition one := 1.")
    unknown = Rocq().check_proof("From Own Require Import base.", "Lemma a : one = 1.", "reflexivity.")
    assert unknown.outcome == "rejected"
    subprocess.run(["coqc", "-Q", str(tmp_path), "Own", str(tmp_path / "base.v")], check=True)
    options = {"options": ("-Q", str(tmp_path), "Own"), "directories": [tmp_path]}
    found = Rocq().check_proof("From Own Require Import base.", "Lemma a : one = 1.", "reflexivity.", **options)
    assert found.accepted


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("Theorem t : True.", "t"),
        ("  #[local] Lemma a' (n : nat) : n = n.", "a'"),
        ("Local Corollary été : True.", "été"),
    ],
)
def test_the_name_of_a_theorem(statement, name):
    assert theorem_name(statement) == name


@pytest.mark.parametrize(
    "statement", ["Goal True.", "Definition t : True.", "Lemma a : True. Lemma b : True.", "Lemma a"]
)
def test_what_states_no_theorem_is_refused(statement):
    with pytest.raises(ValueError, match=r"statement|text"):
        theorem_name(statement)


def test_open_blocks():
    text = """Section A. Module B. Module C := D. Module Type E. Section F. End F. (* Section G. *)
        Module Import H. Check "Section I. ". Module J (K : E) := L K. Definition Section_x := 1. Module M (K : E)."""
    assert open_blocks(text) == (
        ("Section", "A"),
        ("Module", "B"),
        ("Functor", "E"),
        ("Module", "H"),
        ("Functor", "M"),
    )
    with pytest.raises(ValueError, match="ends what is not open"):
        open_blocks("Section A. End B.")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1, STATEMENT, "lia."), TypeError, "before: expected a text"),
        (("", "Goal True.", "exact I."), ValueError, "statement: expected one sentence"),
        (("", "Lemma a : True.", None), TypeError, "proof: expected a text"),
    ],
)
def test_bad_input_names_the_argument(arguments, error, message):
    with pytest.raises(error, match=message):
        Rocq().check_proof(*arguments)
