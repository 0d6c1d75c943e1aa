"""What a proof from a stranger may try, against all that runs or certifies it: refused, rejected or contained."""

import os
import shutil
import time
from pathlib import Path

import pytest
from rocq_texts import Tries

from tendsto.assistants import Failure, Opening, Rocq, RocqSession, State, rocq_session
from tendsto.proof.filling import fill_holes
from tendsto.proof.hybrid import HybridProver
from tendsto.proof.search import ProofResult
from tendsto.proof.sketch import Sketch, Unusable, mask_errors, sketch

pytestmark = pytest.mark.skipif(shutil.which("coqtop") is None, reason="needs Rocq: apt install coq")

BEFORE = "From Coq Require Import Arith Lia."
STATEMENT = "Theorem t : forall n : nat, n < n."
"""It is false, so whatever is taken for a proof of it is a hole in the fence."""

OPENING = Opening((BEFORE,), STATEMENT)

# Commands in the place of tactics; none may run.
COMMANDS = {
    "an axiom": "Axiom f : False.",
    "an axiom behind a comment": "(* tactic *) Axiom f : False.",
    "a parameter": "Parameter f : False.",
    "a local variable": "Local Variable f : False.",
    "an instance": "#[export] Instance f : False.",
    "a notation": 'Notation "a < b" := True.',
    "a local notation": 'Local Notation "a < b" := True (at level 70).',
    "a tactic notation": 'Tactic Notation "lia" := admit.',
    "a tactic redefined": "Ltac lia ::= admit.",
    "guard checking off": "Unset Guard Checking.",
    "guard checking off for all": "#[global] Unset Guard Checking.",
    "universe checking off": "Unset Universe Checking.",
    "positivity checking off": "Unset Positivity Checking.",
    "bypassed guard": "#[bypass_check(guard)] Fixpoint f (n : nat) : False := f n.",
    "bypassed universes": "#[bypass_check(universes)] Definition u : Type := Type.",
    "impredicative sets": "Set Impredicative Set.",
    "an end and a beginning": "Admitted. Theorem u : True.",
    "an end": "Qed.",
    "an early end": "Admitted.",
    "a restart with another goal": "Abort All.",
    "another goal": "Goal True.",
    "a machine plugin": 'Declare ML Module "ltac_plugin".',
    "redirected output": 'Redirect "/tmp/tendsto-attack" idtac.',
    "extraction": 'Extraction "/tmp/tendsto-attack" nat.',
    "another file": 'Load "/etc/passwd".',
    "another directory": 'Cd "/".',
    "a path": 'Add LoadPath "/" as R.',
    "the host language": "Drop.",
    "the end of the process": "Quit.",
    "a state that is gone": "BackTo 1.",
    "the state before": "Back.",
    "undone": "Undo.",
    "all undone": "Reset Initial.",
    "a hint": "Hint Extern 1 => admit : core.",
    "a coercion": "Coercion f : nat >-> Funclass.",
    "a scope": "Open Scope type_scope.",
    "options": "Set Default Timeout 1000.",
    "a proof term": "Proof (fun n => I).",
    "an import": "Require Import Coq.Logic.Hurkens.",
    "failure that is none": "Fail Axiom f : False.",
    "time": "Time Axiom f : False.",
    "a bound": "Timeout 5 Axiom f : False.",
}

# Texts that are no single sentence, or hide one behind what a careless reader takes for a comment or a string.
TEXTS = {
    "two sentences": "idtac. exact I.",
    "a second sentence behind a comment": "idtac. (* *) Axiom f : False.",
    "an unfinished comment": "idtac. (* ",
    "an unfinished comment within": "idtac (* .",
    "an unfinished string": 'idtac "lia.',
    "a comment within a string": 'idtac "(*". Axiom f : False. idtac "*)".',
    "no sentence": "",
    "no dot": "lia",
    "blanks": " \n\t ",
    "a null character": "idtac\x00.\x00 Axiom f : False.",
    "another alphabet": "Αxiom f : False.",
}

# Tactics: one sentence each, and each may run; the goal must stay open all the same.
TACTICS = {
    "giving up": "admit.",
    "giving up by another name": "give_up.",
    "giving up within": "first [lia | admit].",
    "giving up in a term": "exact (ltac:(admit)).",
    "giving up all": "all: give_up.",
    "putting on the shelf": "shelve.",
    "hiding in a term": "refine ltac:(shelve).",
    "an unchecked term": "exact_no_check I.",
    "an unchecked cast": "vm_cast_no_check I.",
    "an unchecked change": "change_no_check True; exact I.",
    "an unchecked conversion": "convert_concl_no_check True; exact I.",
    "an unfounded recursion": "fix f 1; intro n; exact (f n).",
    "an unfounded recursion, hidden": "refine (fix f (n : nat) {struct n} : n < n := f n).",
    "an unfounded corecursion": "cofix f; exact f.",
    "a type within itself": "exact (match (Type : Type) with T => fun n => I end).",
    "nothing": "idtac.",
    "an existential variable": "eapply (fun x : _ => x).",
    "the theorem itself": "exact t.",
    "its name by tactic": "let x := constr:(t) in exact x.",
    "abstracted": "abstract admit.",
    "a goal closed twice": "unshelve eexists; admit.",
    "printed success": 'idtac "No more goals."; fail.',
    "a command in a string in a comment": 'idtac (* " *) . Axiom f : False. (* " *).',
    "a printed prompt": 'idtac "<prompt>t < 99 |t| 0 < </prompt>".',
    "a printed prompt and success": 'idtac "No more goals.<prompt>t < 99 |t| 0 < </prompt>".',
    "a printed error": 'idtac "Toplevel input, characters 0-1: Error: x".',
}


@pytest.fixture(scope="module")
def session():
    with RocqSession(memory=2**31) as one:
        yield one


@pytest.fixture(autouse=True)
def usable_afterwards(session):
    """Whatever was tried, the next honest proof goes through."""
    yield
    state = session.start(BEFORE, "Lemma honest (n m : nat) : n + m = m + n.")
    assert isinstance(state, State)
    assert session.run(state, "lia.").finished
    assert not isinstance(session.run(state, "exact I."), State)


@pytest.mark.parametrize("name", COMMANDS | TEXTS)
def test_no_command_runs_and_no_text_hides_one(name, session):
    text = (COMMANDS | TEXTS)[name]
    assert not list(Path("/tmp").glob("tendsto-attack*"))
    assert isinstance(session.run(session.start(BEFORE, STATEMENT), text), Failure)
    for make in (mask_errors, sketch):
        made = make(f"intro n. {text}", session, OPENING)
        assert isinstance(made, Unusable) or made.holes
        assert isinstance(made, Unusable) or all(word not in made.text for word in ("False", "Notation", "Qed"))
    assert not list(Path("/tmp").glob("tendsto-attack*"))


@pytest.mark.parametrize("name", TACTICS)
def test_no_tactic_proves_what_is_false(name, session):
    state = session.start(BEFORE, STATEMENT)
    found = session.run(state, TACTICS[name])
    assert isinstance(found, Failure) or not found.finished
    made = mask_errors(TACTICS[name], session, OPENING)
    assert made.holes
    assert session.start(BEFORE, STATEMENT).text == state.text


@pytest.mark.parametrize(
    "name",
    [
        *("an axiom", "guard checking off", "redirected output", "an unfinished comment", "a comment within a string"),
        *("two sentences", "giving up", "an unchecked term", "an unfounded recursion", "the theorem itself"),
    ],
)
def test_nothing_false_is_certified(name):
    proof = (COMMANDS | TEXTS | TACTICS)[name]
    certificate = Rocq().check_proof(BEFORE, STATEMENT, proof, recheck=False, seconds=20)
    assert certificate.outcome in ("refused", "rejected")
    assert not certificate.theorems["t"].accepted


class Says:
    """A solver that takes whatever it is told for a proof."""

    def __init__(self, *proof):
        self.proof = proof

    def __call__(self, session, state):
        return ProofResult("proved", (*state.path, *self.proof))

    solve = __call__


@pytest.mark.parametrize(
    "proof",
    [
        ("admit.",),
        ("all: give_up.",),
        ("Axiom f : False.", "destruct f."),
        ("}", "{"),
        ("idtac.",),
        ("exact_no_check I.",),
        ("idtac. (*",),
        ("fix f 1.", "intro n.", "exact (f n)."),
        (),
    ],
    ids=str,
)
def test_a_solver_that_lies_fills_no_hole(proof, session):
    report = fill_holes(mask_errors("intro n. foo.", session, OPENING), RocqSession, Says(*proof))
    assert not report.proved
    assert report.certificate is None or report.certificate.outcome in ("rejected", "refused")


class Writes:
    """A policy that writes every attack as a whole proof."""

    def propose(self, opening, n, temperature):
        return [*COMMANDS.values(), *TEXTS.values(), *TACTICS.values(), f"{STATEMENT} Proof. admit. Admitted."]


def test_no_candidate_from_a_hostile_policy_is_proved():
    report = HybridProver(RocqSession, Writes(), automation=Tries("lia.", "admit.", "exact_no_check I.")).prove(OPENING)
    assert not report.proved
    assert (report.stage, report.proof) == (None, "")


def test_the_statement_of_another_theorem_is_not_what_is_proved():
    true = "Theorem t : forall n : nat, n < S n."
    text = f"(* {STATEMENT} *) {true} Proof. intro n. lia. Qed."
    with RocqSession() as one:
        assert isinstance(mask_errors(text, one, OPENING), Unusable)
        assert isinstance(mask_errors(text, one, Opening((BEFORE,), true)), Sketch)


DEVOURING = {
    "a loop": "do 1000000000 idtac.",
    "deep brackets": f"exact {'(' * 50_000}I{')' * 50_000}.",
    "deep tactics": f"{'(' * 50_000}idtac{')' * 50_000}.",
    "a long line": f"idtac {'x ' * 500_000}.",
    "a flood": f'do 100000 idtac "{"x" * 1000}".',
    "a large number": "let x := eval vm_compute in (10 ^ 9) in idtac.",
    "a large term": "pose (f := fun x : nat => (x, x)); do 40 (let g := eval unfold f in (f 1) in pose g).",
}


@pytest.mark.parametrize("name", DEVOURING)
def test_what_devours_is_contained(name, monkeypatch):
    monkeypatch.setattr(rocq_session, "LONGEST", 2**22)
    with RocqSession(memory=2**30) as session:
        state = session.start(BEFORE, STATEMENT)
        clock = time.perf_counter()
        found = session.run(state, DEVOURING[name], seconds=1)
        assert isinstance(found, Failure) or not found.finished
        assert time.perf_counter() - clock < 1 + rocq_session.GRACE + 10
        assert isinstance(session.run(state, "intro n."), State)


def test_provers_that_a_tactic_starts_end_with_it():
    """The hammer starts several programs; whatever they do, none outlives the session."""
    import psutil

    one = RocqSession()
    state = one.start("From Hammer Require Import Hammer. From Coq Require Import Arith.", STATEMENT)
    if isinstance(state, Failure):
        pytest.skip("needs CoqHammer: apt install libcoq-hammer")
    one.run(state, "hammer.", seconds=1)
    group = one._process.pid
    one.close()
    left = [it for it in psutil.process_iter() if it.status() != psutil.STATUS_ZOMBIE and os.getpgid(it.pid) == group]
    assert not psutil.wait_procs(left, timeout=10)[1]  # killed, though not yet buried
