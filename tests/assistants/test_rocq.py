"""`Rocq`: true theorems pass; every known way to fake one, for real, does not."""

import os
import shutil

import pytest

from tendsto.assistants import NotInstalled, Rocq

needs_rocq = pytest.mark.skipif(shutil.which("coqc") is None, reason="needs Rocq: apt install coq")

GOOD = "Theorem t : forall n : nat, n + 0 = n. Proof. induction n; simpl; auto. Qed."


def check(source, statement="False", **options):
    return Rocq().check(source, {"t": statement}, **options)


@needs_rocq
def test_accepts_a_theorem_without_axioms():
    certificate = check(GOOD, "forall n : nat, n + 0 = n")
    assert certificate.accepted
    assert certificate.outcome == "accepted"
    assert certificate.theorems["t"].axioms == ()
    assert certificate.assistant == "Rocq"
    assert certificate.version
    assert certificate.seconds > 0


@needs_rocq
def test_lists_the_axioms_of_the_real_numbers_and_allows_them():
    reals = "From Coq Require Import Reals Lra.\nOpen Scope R_scope.\n"
    source = f"{reals}Theorem t : forall x : R, x < x + 1. Proof. intros; lra. Qed."
    found = check(source, "forall x : R, x < x + 1", preamble=reals)
    assert found.accepted
    assert "ClassicalDedekindReals.sig_forall_dec" in found.theorems["t"].axioms
    strict = Rocq(axioms=()).check(source, {"t": "forall x : R, x < x + 1"}, preamble=reals)
    assert strict.outcome == "rejected"
    assert "sig_forall_dec" in strict.theorems["t"].reason


@needs_rocq
@pytest.mark.parametrize(
    ("source", "statement"),
    [
        ("Set Implicit Arguments. Theorem t : forall (A : Type) (x : A), x = x. Proof. reflexivity. Qed.", None),
        ("Global Set Printing All. Global Set Printing Width 2. Theorem t : True. Proof I.", "True"),
    ],
    ids=["implicit arguments", "printing options"],
)
def test_accepts_harmless_settings(source, statement):
    assert check(source, statement or "forall (A : Type) (x : A), x = x").accepted


FALSE = {
    "admitted": "Theorem t : False. Proof. Admitted.",
    "admit": "Theorem t : False. Proof. assert (h : False). admit. exact h. Admitted.",
    "axiom": "Axiom a : False. Theorem t : False. Proof a.",
    "axiom under the name of an allowed one": """
        Module ClassicalDedekindReals. Axiom sig_forall_dec : False. End ClassicalDedekindReals.
        Theorem t : False. Proof ClassicalDedekindReals.sig_forall_dec.""",
    "axiom through a functor": """
        Module Type E. End E. Module N (X : E). Theorem p : False. Admitted. End N.
        Module W. End W. Module Q := N W. Theorem t : False. Proof Q.p.""",
    "declared module": """
        Module Type S. Parameter p : False. End S. Declare Module M : S. Theorem t : False. Proof M.p.""",
    "variable outside a section": "Variable v : False. Theorem t : False. Proof v.",
    "False redefined": "Definition False := True. Theorem t : False. Proof I.",
    "statement shadowed": """
        Module Expected. Definition s0 := True. End Expected. Theorem t : Expected.s0. Proof I.""",
    "coercion": """
        Definition Fake := True. Theorem t : Fake. Proof I.
        Axiom false : Fake -> False. Coercion false : Fake >-> False.""",
    "guard checking off": """
        Unset Guard Checking. Fixpoint f (n : nat) : False := f n. Theorem t : False. Proof (f 0).""",
    "guard checking off for importers": """
        Global Unset Guard Checking. Fixpoint f (n : nat) : False := f n. Theorem t : False. Proof (f 0).""",
    "guard checking bypassed": """
        #[bypass_check(guard)] Fixpoint f (n : nat) : False := f n. Theorem t : False. Proof (f 0).""",
    "universe checking off": """
        Require Import Coq.Logic.Hurkens. Unset Universe Checking.
        Theorem t : False. Proof (TypeNeqSmallType.paradox Type eq_refl).""",
    "universe checking bypassed": """
        Require Import Coq.Logic.Hurkens.
        #[bypass_check(universes)] Definition t : False := TypeNeqSmallType.paradox Type eq_refl.""",
    "positivity checking off": """
        Unset Positivity Checking. Inductive bad := mk : (bad -> False) -> bad.
        Definition no (b : bad) : False := match b with mk f => f b end. Theorem t : False. Proof (no (mk no)).""",
    "positivity checking bypassed": """
        #[bypass_check(positivity)] Inductive bad := mk : (bad -> False) -> bad.
        Definition no (b : bad) : False := match b with mk f => f b end. Theorem t : False. Proof (no (mk no)).""",
    "unchecked cast": "Theorem t : False. Proof. vm_cast_no_check I. Qed.",
    "unchecked term": "Theorem t : False. Proof. exact_no_check I. Qed.",
    "unfinished": "Theorem t : False. Proof.",
    "absent": "Theorem u : True. Proof I.",
    "syntax error": "Theorem t : False Proof. Qed",
    "early end": "Quit.",
    "the certificate itself": "Require certificate. Theorem t : False. Proof I.",
    "empty": "",
}


@needs_rocq
@pytest.mark.parametrize("attack", FALSE)
def test_rejects_every_proof_of_false(attack):
    certificate = check(FALSE[attack])
    assert certificate.outcome == "rejected"
    assert not certificate.theorems["t"].accepted
    assert certificate.theorems["t"].reason


@needs_rocq
@pytest.mark.parametrize(
    ("source", "statement"),
    [
        ('Notation "a < b" := True : nat_scope. Theorem t : forall n : nat, n < n. Proof (fun _ => I).', None),
        ("Notation lt := (fun _ _ : nat => True). Theorem t : forall n : nat, lt n n. Proof (fun _ => I).", None),
        ("Theorem t : forall n : nat, n = 1 -> n < n + n. Proof. intros n ->. constructor. Qed.", None),
        ("Axiom unused : False. Theorem t : True. Proof I.", "True"),
        (
            "Unset Guard Checking. Fixpoint f (n : nat) : False := f n. Set Guard Checking. Theorem t : True. Proof I.",
            "True",
        ),
    ],
    ids=["notation", "abbreviation", "weaker statement", "unused axiom", "unused fixpoint"],
)
def test_rejects_another_statement_and_any_axiom_of_the_source(source, statement):
    assert check(source, statement or "forall n : nat, n < n").outcome == "rejected"


@needs_rocq
def test_tells_good_theorems_from_bad_ones_in_one_file():
    source = f"{GOOD} Theorem u : forall n : nat, n = 0 -> n = 0. Proof. trivial. Qed."
    certificate = Rocq().check(source, {"t": "forall n : nat, n + 0 = n", "u": "forall n : nat, n = 0"})
    assert certificate.outcome == "rejected"
    assert certificate.theorems["t"].accepted
    assert "unify" in certificate.theorems["u"].reason


@needs_rocq
def test_names_a_statement_that_cannot_be_read():
    certificate = check(GOOD, "forall n : nat, n +")
    assert certificate.outcome == "rejected"
    assert "Syntax error" in certificate.theorems["t"].reason


@needs_rocq
@pytest.mark.parametrize(
    "command",
    [
        'Load "/etc/passwd".',
        'Timeout 0xaLoad "/etc/passwd".',
        'Redirect "out" Print nat.',
        'Notation "x %(*" := x (at level 1). Definition a := 0 %(*. Redirect "out" Print nat. (* *).',
        'Cd "/tmp".',
        "Drop.",
        'Declare ML\nModule "evil".',
        'Declare (* between *) ML (* words *) Module "evil".',
        'Add LoadPath "/tmp" as T.',
        'Add Rec LoadPath "/tmp" as T.',
        'Add ML Path "/tmp".',
        'Require Extraction. Extraction "f.ml" nat.',
        "Require Extraction. Extraction TestCompile nat.",
        'Set Extraction Output Directory "/tmp".',
        'Print Universes "f.dot".',
        'Print Sorted Universes "f.dot".',
        "Goal True. native_compute. Abort.",
        'From Coq Extra Dependency "/etc/passwd".',
    ],
)
def test_refuses_commands_that_reach_outside(command):
    certificate = check(f"{GOOD}\n{command}", "forall n : nat, n + 0 = n")
    assert certificate.outcome == "refused"
    assert "line 2" in certificate.theorems["t"].reason


@needs_rocq
def test_time_and_memory_run_out_as_ordinary_outcomes():
    slow = """
        Fixpoint parity (n : nat) : bool := match n with O => true | S m => xorb (parity m) (parity m) end.
        Definition never := Eval vm_compute in parity 80."""
    assert check(slow, seconds=2.0).outcome == "timed out"
    greedy = """
        Fixpoint double (n : nat) (l : list nat) := match n with O => l | S m => double m (l ++ l)%list end.
        Definition big := Eval vm_compute in double 40 (cons 0 nil)."""
    assert check(greedy, memory=600 * 2**20).outcome == "out of memory"
    assert check(GOOD, "forall n : nat, n + 0 = n", memory=100 * 2**20).outcome == "out of memory"


@needs_rocq
def test_a_source_cannot_talk_its_way_to_another_outcome():
    talk = f'{GOOD} Goal True. idtac "Error: out of memory"; exact I. Qed.'
    assert check(talk, "forall n : nat, n + 0 = n").accepted


@needs_rocq
def test_a_checker_that_checks_nothing_is_noticed(tmp_path, monkeypatch):
    checker = tmp_path / "bin" / "coqchk"
    checker.parent.mkdir()
    checker.write_text("""#!/bin/sh
cat <<END
* Theory: Set is predicative
* Axioms: <none>
* Constants/Inductives relying on type-in-type: <none>
* Constants/Inductives relying on unsafe (co)fixpoints: <none>
* Inductives whose positivity is assumed: <none>
END
""")
    checker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{checker.parent}:{os.environ['PATH']}")
    certificate = check(GOOD, "forall n : nat, n + 0 = n")
    assert certificate.outcome == "rejected"
    assert "left out submission, certificate" in certificate.theorems["t"].reason


def test_says_how_to_get_rocq(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotInstalled, match="apt install coq"):
        check(GOOD)


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (("", {}), ValueError, "theorems"),
        (("", {"t. Axiom a": "True"}), ValueError, "t. Axiom a"),
        (("", {"t": " "}), ValueError, "statement of t"),
        ((b"", {"t": "True"}), TypeError, "source"),
    ],
)
def test_names_the_argument_at_fault(arguments, error, named):
    with pytest.raises(error, match=named):
        Rocq().check(*arguments)
    with pytest.raises(ValueError, match="seconds"):
        check(GOOD, seconds=0.0)
    with pytest.raises(ValueError, match="memory"):
        check(GOOD, memory=1)
