"""Mending a file: what holds stays to the letter, what is broken is filled or left open, and nothing else changes."""

import json
import shutil
import subprocess
from types import SimpleNamespace

import pytest
import typer
from rocq_texts import Tries
from typer.testing import CliRunner

from tendsto import cli_sketch
from tendsto.assistants import RocqSession
from tendsto.papers.hybridprover import kernel_of
from tendsto.proof import repair
from tendsto.proof.repair import Mended, mend, mended_text
from tendsto.proof.rocq_file import written_proofs

pytestmark = pytest.mark.skipif(shutil.which("coqtop") is None, reason="needs Rocq: apt install coq")

FILE = """From Coq Require Import Arith Lia. (* what follows *)
Lemma fine (n : nat) : n + 0 = n.
Proof.  lia. (* kept *) Qed.

Theorem sq (n m : nat) (H : n <= m) : n * n <= m * m.
Proof.
  assert (h1 : n * n <= n * m) by (apply no_such_lemma; lia).
  assert (h2 : n * m <= m * m). { nia. }
  lia.
Qed.
Definition two := 2.

Lemma wrong (n : nat) : n < n.
Proof. assert (h : n = n). { reflexivity. } foo. Qed.

Lemma transparent : nat. Proof. exact zero. Defined.
Lemma after (n : nat) : n <= n + two. Proof. prove_with []. Admitted.
"""


@pytest.fixture(scope="module")
def session():
    with RocqSession() as one:
        yield one


@pytest.fixture
def quick(session, monkeypatch):
    """The session's kernel in the place of a fresh process."""
    check = kernel_of(session)
    quick = SimpleNamespace(check_proof=lambda before, statement, proof, **_: check(before, statement, proof))
    monkeypatch.setattr(repair, "Rocq", lambda: quick)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "File.v"
    path.write_text(FILE)
    return path


def test_the_theorems_of_a_file_with_their_proofs():
    found = written_proofs(FILE)
    assert [(it.name, it.end) for it in found] == [
        ("fine", "Qed."), ("sq", "Qed."), ("wrong", "Qed."), ("transparent", "Defined."), ("after", "Admitted.")
    ]  # fmt: skip
    assert found[0].proof == "lia."
    assert FILE[found[2].start : found[2].stop].startswith("Lemma wrong")
    assert FILE[found[2].start : found[2].stop].endswith("foo. Qed.")
    assert found[1].opening.before[-1] == "Qed."
    assert [it.end for it in written_proofs("Lemma a : True. exact I. Lemma b : True. exact I.")] == ["", ""]


def test_each_proof_is_kept_filled_or_left_open(file, quick):
    told = []
    done = list(mend(file, automation=Tries("nia.", "lia.", "unfold two; lia."), on_hole=lambda *it: told.append(it)))
    assert [(it.name, it.outcome) for it in done] == [
        ("fine", "holds"), ("sq", "proved"), ("wrong", "open"), ("transparent", "skipped"), ("after", "proved")
    ]  # fmt: skip
    assert [(written.name, filling.outcome) for written, filling in told] == [
        ("sq", "proved"), ("wrong", "failed"), ("after", "proved")
    ]  # fmt: skip
    text = mended_text(file, done)
    expected = FILE.replace(" by (apply no_such_lemma; lia).", ". { nia. }")
    expected = expected.replace("Proof. assert (h : n = n). { reflexivity. } foo. Qed.",
                                "Proof.\n  assert (h : n = n). { reflexivity. } admit.\nAdmitted.")  # fmt: skip
    assert text.partition("Lemma after")[0] == expected.partition("Lemma after")[0]
    (file.parent / "Mended.v").write_text(text.replace("exact zero. Defined", "exact 0. Defined"))
    run = subprocess.run(["coqc", "-q", "Mended.v"], cwd=file.parent, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert file.read_text() == FILE


def test_later_proofs_rest_on_earlier_ones_and_on_the_project(tmp_path):
    (tmp_path / "_CoqProject").write_text("-Q lib Lib\n")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "Base.v").write_text("Definition two := 2.\n")
    subprocess.run(["coqc", "-q", "-Q", "lib", "Lib", "lib/Base.v"], cwd=tmp_path, check=True)
    file = tmp_path / "File.v"
    file.write_text(
        "From Coq Require Import Lia.\nFrom Lib Require Import Base.\n"
        "Lemma held : two = 2. Proof. reflexivity. Qed.\n"
        "Lemma filled : two + two = 4. Proof. foo. Qed.\n"
        "Lemma open n : n < n + two. Proof. foo. Qed.\n"
        "Lemma last n : n < n + 2 /\\ two + two = 4. Proof. rewrite <- held. split. { apply open. } { foo. } Qed.\n"
    )
    done = list(mend(file, automation=Tries("exact eq_refl.", "exact filled.")))
    assert [(it.name, it.outcome) for it in done] == [
        ("held", "holds"), ("filled", "proved"), ("open", "open"), ("last", "proved")
    ]  # fmt: skip
    assert done[3].text.endswith("rewrite <- held. split. { apply open. } { exact eq_refl. }\nQed.")


def test_a_whole_proof_that_is_admitted_is_proved_and_one_alone_rests_on_those_before(tmp_path, quick):
    file = tmp_path / "File.v"
    file.write_text("Lemma whole : 1 = 1. Proof. reflexivity. Admitted.\nLemma rests : 1 + 0 = 1. Proof. foo. Qed.\n")
    (whole, rests) = mend(file, automation=Tries("exact whole."))
    assert (whole.outcome, whole.masked, rests.outcome) == ("proved", (), "proved")
    assert whole.text.endswith("reflexivity.\nQed.")
    (alone,) = mend(file, theorem="rests", automation=Tries("exact whole."))
    assert alone.outcome == "proved"


def test_theorems_are_told_apart_by_name_and_line(tmp_path):
    file = tmp_path / "File.v"
    file.write_text("Lemma a : 1 = 1. Proof. foo. Qed. Lemma b : 2 = 2. Proof. foo. Qed.\n")
    assert mended_text(file, [Mended("b", 1, "proved", "B"), Mended("a", 1, "proved", "A")]) == "A B\n"
    file = tmp_path / "File.lean"
    file.write_text("theorem t : P := a\nnamespace N\ntheorem t : P := b\nend N\n")
    assert mended_text(file, [Mended("t", 3, "proved", "B")]) == "theorem t : P := a\nnamespace N\nB\nend N\n"


def test_one_theorem_alone(file):
    (only,) = mend(file, theorem="sq", automation=Tries("nia."))
    assert (only.name, only.line, only.outcome) == ("sq", 5, "proved")
    assert mended_text(file, [only]) == FILE.replace(" by (apply no_such_lemma; lia).", ". { nia. }")
    with pytest.raises(ValueError, match=r"theorem: .*'absent'.*fine, sq"):
        list(mend(file, theorem="absent"))


def command(monkeypatch, *words, automation=None):
    automation = automation or Tries("nia.", "unfold two; lia.")
    monkeypatch.setattr(repair, "Portfolio", lambda: automation)
    app = typer.Typer()
    app.command()(cli_sketch.sketch)
    return CliRunner().invoke(app, [*map(str, words), "--workers", "1"])


def test_the_command_tells_what_was_kept_masked_and_filled(file, quick, monkeypatch):
    done = command(monkeypatch, file, "--theorem", "sq")
    assert done.exit_code == 0, done.output
    assert "sq (line 5): proved" in done.stdout
    assert "masked: by (apply no_such_lemma; lia)." in done.stdout
    assert "hole 1: by (apply no_such_lemma; lia).  →  nia." in done.stdout
    assert "assert (h1 : n * n <= n * m). { nia. }" in done.stdout
    assert "sq: hole 1: n * n <= n * m" in done.stderr


def test_the_command_writes_the_file_and_exits_with_what_is_left(file, quick, monkeypatch):
    out = file.parent / "out.v"
    done = command(monkeypatch, file, "--json", "--out", out)
    assert done.exit_code == 1
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["outcome"] for row in rows] == ["holds", "proved", "open", "skipped", "proved"]
    assert rows[2]["holes"][0]["goal"].endswith("⊢ n < n")
    assert rows[4]["holes"][0]["hints"] == []
    assert "{ nia. }" in out.read_text()
    assert "skipped" in done.stderr


def test_the_command_stops_with_a_sentence(file, monkeypatch):
    assert command(monkeypatch, file, "--theorem", "absent").exit_code == 2
    file.write_text("Lemma t : True. (* ")
    done = command(monkeypatch, file)
    assert (done.exit_code, "does not end" in done.stderr) == (2, True)


class Interrupted(Tries):
    """Meets Ctrl-C at a goal that is no inequality."""

    def solve(self, session, state):
        if "<=" in state.goals[0].conclusion:
            return super().solve(session, state)
        raise KeyboardInterrupt


@pytest.mark.parametrize("to_file", [True, False])
def test_an_interrupt_loses_nothing_that_was_done(to_file, file, quick, monkeypatch):
    out = file.parent / "out.v"
    words = [file, "--out", out] if to_file else [file]
    done = command(monkeypatch, *words, automation=Interrupted("nia."))
    assert done.exit_code == 130
    assert ("what was done before is in" in done.stderr) == to_file
    mended = out.read_text() if to_file else done.stdout
    assert "assert (h1 : n * n <= n * m). { nia. }" in mended
    assert ("{ reflexivity. } foo. Qed." in mended) == to_file


def test_an_interrupt_before_anything_is_done_writes_nothing(file, quick, monkeypatch):
    out = file.parent / "out.v"
    file.write_text("Lemma wrong (n : nat) : n < n. Proof. foo. Qed.")
    done = command(monkeypatch, file, "--out", out, automation=Interrupted())
    assert (done.exit_code, out.exists()) == (130, False)
    assert "what was done" not in done.stderr


def test_what_cannot_be_written_is_told(file, quick, monkeypatch):
    done = command(monkeypatch, file, "--theorem", "fine", "--out", file / "below.v")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "File.v" in done.stderr
