"""Projects on disk: what they leave open, and patches that the real `patch` applies."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tendsto.proof.project import Project, open_theorems, patch, with_imports, with_proofs

FILE = """(* Lemma not_this : False. Admitted. *)
From Coq Require Import Lia.

Lemma first (n : nat) : n + 0 = n. (* easy *)
Proof.
  (* by induction *)
  induction n; auto.
Qed.

Theorem second :
  forall n : nat, n <= n * n.
Proof.
Admitted.

Definition choice : nat.
Proof. Admitted.

Section Inner.
Local Fact third' : True /\\ True. Proof. split. - exact I.
  - admit. Admitted .
Remark fourth : "a . Admitted. b" = "". Abort.
End Inner.
Lemma last : 1 = 1. Admitted."""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sub" / "file.v"
    path.parent.mkdir()
    path.write_text(FILE)
    return path


def test_admitted_theorems_are_found_where_they_stand(file):
    found = open_theorems(file)
    assert [theorem.name for theorem in found] == ["second", "third'", "last"]
    second, third, last = found
    assert second.statement == "Theorem second :\n  forall n : nat, n <= n * n."
    assert second.before.endswith("Qed.\n\n")
    assert second.attempt == ""
    assert third.attempt == "split. - exact I.\n  - admit."
    assert "admit." not in last.before  # what was tried at others is left out
    assert "True /\\ True.\nAdmitted.\nRemark" in last.before
    assert FILE[third.start : third.end].endswith("Admitted .")
    assert last.end == len(FILE)
    assert open_theorems(file.parent.parent) == found


def test_proofs_take_the_place_of_what_was_admitted(file):
    second, third, last = open_theorems(file)
    text = with_proofs(FILE, {last: "reflexivity.", second: "induction n.\n- auto.\n- nia."})
    assert "n <= n * n.\nProof.\n  induction n.\n  - auto.\n  - nia.\nQed.\n\nDefinition choice" in text
    assert text.endswith("Lemma last : 1 = 1.\nProof.\n  reflexivity.\nQed.")
    file.write_text(text)
    assert [theorem.name for theorem in open_theorems(file)] == [third.name]


@pytest.mark.skipif(shutil.which("patch") is None, reason="needs patch: apt install patch")
def test_patch_applies_the_patch(file, tmp_path):
    _, third, last = open_theorems(file)
    proofs = {last: "reflexivity.", third: "split; exact I."}
    diff = patch(proofs, root=tmp_path)
    expected = with_proofs(FILE, proofs)
    subprocess.run(["patch", "-p1", "--quiet"], input=diff, text=True, cwd=tmp_path, check=True)
    assert file.read_text() == expected
    assert patch({}) == ""


def test_imports_stand_just_before_the_theorem_that_needs_them(file):
    second, _, last = open_theorems(file)
    imports = {last: ["From Coq Require Import Lra.", "From Coq Require Import Psatz."], second: []}
    text = with_proofs(FILE, {last: "lra.", second: "nia."}, imports)
    assert (
        "End Inner.\nFrom Coq Require Import Lra.\nFrom Coq Require Import Psatz.\nLemma last : 1 = 1.\nProof." in text
    )
    assert "Qed.\n\nTheorem second :" in text
    assert with_imports("A.\n", ["B.", "C."]) == "A.\n\nB.\nC.\n"
    assert with_imports("A.\n", []) == "A.\n"


def test_a_file_that_changed_is_not_patched(file):
    second, *_ = open_theorems(file)
    file.write_text(FILE.replace("Lemma first", "Lemma the_very_first"))
    with pytest.raises(ValueError, match="second is no longer open there"):
        patch({second: "auto."})


def test_the_options_of_a_project(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "_CoqProject").write_text('# names\n-Q deep "My.Name"\n-R . Top -arg "-w none"\n-I src\ndeep/a.v\n')
    project = Project.around(tmp_path / "deep" / "a.v")
    deep, top, src = (str((tmp_path / name).resolve()) for name in ("deep", ".", "src"))
    assert project.options == ("-Q", deep, "My.Name", "-R", top, "Top", "-w", "none", "-I", src)
    assert project.directories == (Path(deep), Path(top), Path(src))
    (tmp_path / "_CoqProject").write_text("-Q deep")
    with pytest.raises(ValueError, match="_CoqProject: -Q needs 2 values"):
        Project.around(tmp_path)


def test_without_a_project_file_a_file_sees_its_folder(file):
    folder = str(file.parent.resolve())
    assert Project.around(file) == Project(("-Q", folder, ""), (Path(folder),))


def test_what_is_no_rocq_file_is_named(tmp_path):
    (tmp_path / "odd.v").write_text("Lemma a : True.\n(* ")
    with pytest.raises(ValueError, match=r"odd\.v: text: the comment that begins in line 2"):
        open_theorems(tmp_path)
