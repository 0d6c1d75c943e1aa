"""Corpora of sources without .glob files, compiled for real."""

import shutil
import subprocess
from pathlib import Path

import pytest
import rocq_project

from tendsto.assistants import NotInstalled
from tendsto.proof import Corpus

needs_rocq = pytest.mark.skipif(shutil.which("coqc") is None, reason="needs Rocq: apt install coq")


@pytest.fixture
def project(tmp_path):
    return rocq_project.write(tmp_path, compiled=False)


@needs_rocq
def test_compiled_sources_give_what_their_globs_give(project, tmp_path_factory):
    told = []
    found = Corpus.from_sources(project, on_file=told.append)
    assert found == Corpus.from_glob(rocq_project.write(tmp_path_factory.mktemp("compiled")))
    assert [it.name for it in told] == ["base.v", "user.v"]
    assert sorted(it.name for it in project.iterdir()) == ["base.v", "user.v"]


@needs_rocq
def test_the_project_file_names_libraries_and_old_globs_are_not_believed(project):
    (project / "sub").mkdir()
    (project / "user.v").rename(project / "sub" / "user.v")
    source = (project / "sub" / "user.v").read_text().replace("Require Import base.", "From Root Require Import base.")
    (project / "sub" / "user.v").write_text(source)
    (project / "sub" / "user.glob").write_text(rocq_project.USER_GLOB)  # of the text before
    (project / "_CoqProject").write_text("-arg -w -Q . Root\n# a comment\nbase.v\n")
    found = Corpus.from_sources(project / "sub")
    assert [it.path for it in found.files] == ["Root/sub/user.v"]
    assert [it.full_name for it in found.theorems] == ["Root.sub.user.ex1", "Root.sub.user.ex2"]
    both = Corpus.from_sources(project)
    assert both.files[1].imports == ("Root/base.v",)
    assert both.premises[both.theorems[2].premises[1]].full_name == "Root.base.flipK"


@needs_rocq
def test_files_of_the_standard_library_keep_their_names():
    where = subprocess.run(["coqc", "-where"], capture_output=True, text=True, check=True).stdout.strip()
    theories = Path(where) / "theories"
    found = Corpus.from_sources(theories / "Bool" / "Bool.v", theories / "Bool" / "IfProp.v")
    assert [(it.path, it.imports) for it in found.files] == [
        ("Coq/Bool/Bool.v", ()),
        ("Coq/Bool/IfProp.v", ("Coq/Bool/Bool.v",)),
    ]
    assert found.violations() == []
    assert "Coq.Bool.Bool.negb_involutive" in {it.full_name for it in found.theorems}
    assert len(found.theorems) > 100


@needs_rocq
def test_what_runs_again_loads_the_copy_or_what_is_installed(project):
    (project / "sub").mkdir()
    (project / "user.v").rename(project / "sub" / "user.v")
    source = (project / "sub" / "user.v").read_text().replace("Require Import base.", "From Root Require Import base.")
    (project / "sub" / "user.v").write_text(source)
    (project / "_CoqProject").write_text("-Q . Root\n")
    found = Corpus.from_sources(project / "sub", states=True)
    assert found.theorems[1].tactics[1].state_before.splitlines()[-1] == "  flip even = odd"
    where = subprocess.run(["coqc", "-where"], capture_output=True, text=True, check=True).stdout.strip()
    installed = Corpus.from_sources(Path(where) / "theories" / "Bool" / "IfProp.v", states=True)
    assert len(installed.theorems) > 5
    assert all(tactic.state_before for theorem in installed.theorems for tactic in theorem.tactics)


@needs_rocq
def test_a_project_that_is_built_in_part_is_run_in_its_copy(project):
    (project / "base.glob").write_text(rocq_project.BASE_GLOB)  # but there is no base.vo
    found = Corpus.from_sources(project, states=True)
    assert all(tactic.state_before for theorem in found.theorems for tactic in theorem.tactics)


@needs_rocq
def test_what_does_not_compile_is_named(project):
    (project / "user.v").write_text("Require Import base.\nLemma wrong : flip odd = odd. Proof. reflexivity. Qed.")
    with pytest.raises(ValueError, match=r"user\.v: does not compile: .*Unable to unify"):
        Corpus.from_sources(project)
    with pytest.raises(TimeoutError, match=r"ran out of time"):
        Corpus.from_sources(project, seconds=1e-3)


def test_without_rocq_only_what_is_compiled_is_read(project, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(NotInstalled, match=r"needs Rocq"):
        Corpus.from_sources(project)
    rocq_project.write(project)
    assert len(Corpus.from_sources(project).theorems) == 4
    with pytest.raises(NotInstalled, match=r"needs Rocq"):
        Corpus.from_sources(project, states=True)
