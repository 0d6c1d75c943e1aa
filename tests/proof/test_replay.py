"""Finished proofs run again in Rocq: the states between their tactics, and where a replay stops."""

import os
import shutil
import subprocess
from dataclasses import replace
from functools import partial

import pytest
import rocq_project

from tendsto.assistants import Goal, Opening, Rocq, RocqSession, State
from tendsto.assistants.rocq_session import goal
from tendsto.proof import Corpus, Located, Project, queries, replay_corpus
from tendsto.proof.replay import replay, replay_file, with_states
from tendsto.proof.running import FileRun, run_files
from tendsto.proof.surroundings import known_tactics, ranked_premises

pytestmark = pytest.mark.skipif(shutil.which("coqtop") is None, reason="needs Rocq: apt install coq")


@pytest.fixture(scope="module")
def session():
    with RocqSession() as opened:
        yield opened


def conclusions(state):
    return [goal.conclusion for goal in state.goals]


def test_the_states_of_a_proof(session):
    proof = "Proof.\nintros a b. split.\n- exact I.\n- (* arithmetic *) { change (a = a). reflexivity. }\nQed."
    found = replay(session, "", "Lemma t : forall a b : nat, True /\\ a = a.", proof)
    assert found.failure is None
    tactics = ["intros a b.", "split.", "-", "exact I.", "-", "{", "change (a = a).", "reflexivity.", "}"]
    assert [step.tactic for step in found.steps] == tactics
    assert conclusions(found.steps[1].after) == ["True", "a = a"]
    assert found.steps[1].before.goals[0].hypotheses == (("a", "nat"), ("b", "nat"))
    assert all(one.after == two.before for one, two in zip(found.steps, found.steps[1:], strict=False))
    assert found.steps[-1].after.finished


@pytest.mark.parametrize(
    ("proof", "steps", "kind", "message"),
    [
        ("intros a. exact nowhere. exact I.", 1, "error", "nowhere"),
        ("intros a. Set Printing All. exact I.", 1, "refused", "a command"),
        ("intros a.", 1, "error", "not finished"),
    ],
)
def test_where_a_replay_stops(session, proof, steps, kind, message):
    found = replay(session, "", "Lemma t : nat -> True.", proof)
    assert len(found.steps) == steps
    assert found.failure.kind == kind
    assert message in found.failure.message


def test_a_statement_that_does_not_hold_up(session):
    found = replay(session, "", "Lemma t : nowhere.", "exact I.")
    assert found.steps == ()
    assert "nowhere" in found.failure.message


def test_a_corpus_gets_its_states(session, tmp_path):
    rocq_project.write(tmp_path)
    corpus = Corpus.from_glob(tmp_path)
    replays = dict(replay_file(session, corpus, "base.v", tmp_path / "base.v"))
    assert [corpus.theorems[number].full_name for number in replays] == ["base.flipK", "base.ex1"]
    assert all(one.failure is None for one in replays.values())
    flip, first = (with_states(corpus.theorems[number], one) for number, one in replays.items())
    assert [tactic.text for tactic in flip.tactics] == ["destruct p.", "reflexivity.", "reflexivity."]
    assert [tactic.state_before.splitlines()[-1].strip() for tactic in flip.tactics] == [
        "flip (flip p) = p",
        "flip (flip even) = even",
        "flip (flip odd) = odd",
    ]
    assert first.tactics[0].state_after == "No more goals."


def test_another_file_is_refused(session, tmp_path):
    rocq_project.write(tmp_path)
    corpus = Corpus.from_glob(tmp_path)
    with pytest.raises(ValueError, match=r"user\.v is not the file that holds base\.flipK"):
        next(replay_file(session, corpus, "base.v", tmp_path / "user.v"))


@pytest.fixture
def compiled(tmp_path):
    """The project as its compiler leaves it, and where its files lie."""
    rocq_project.write(tmp_path)
    for name in ("base", "user"):
        subprocess.run(["coqc", "-Q", ".", "", f"{name}.v"], cwd=tmp_path, check=True)
    return {f"{name}.v": Located(tmp_path / f"{name}.v", Project.around(tmp_path)) for name in ("base", "user")}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_whole_corpus_gets_its_states_once(session, compiled, tmp_path, workers):
    corpus, told = Corpus.from_glob(tmp_path), []
    found = replay_corpus(corpus, compiled, store=tmp_path / "states", workers=workers, on_file=told.append)
    for path in compiled:
        with RocqSession(compiled[path].project.options, directories=compiled[path].project.directories) as own:
            for number, replayed in replay_file(own, corpus, path, compiled[path].source):
                assert replayed.failure is None
                assert found.theorems[number] == with_states(corpus.theorems[number], replayed)
    assert [it.name for it in told] == ["base.v", "user.v"]
    assert replay_corpus(corpus, compiled, store=tmp_path / "states", on_file=told.append) == found
    assert len(told) == 2
    found.to_leandojo(tmp_path / "written")
    assert Corpus.from_leandojo(tmp_path / "written").theorems == found.theorems


def test_what_has_changed_is_run_again(compiled, tmp_path):
    def told():
        names = []
        Corpus.from_sources(
            tmp_path, states=True, store=tmp_path / "states", on_file=lambda path: names.append(path.name)
        )
        return names

    assert told() == ["base.v", "user.v"]
    assert told() == []
    user, base = tmp_path / "user.v", tmp_path / "base.v"
    user.write_text(user.read_text().replace("now rewrite", "now  rewrite"))
    assert told() == ["base.v", "user.v", "user.v"]  # both are compiled, one is run
    subprocess.run(["coqc", "-Q", ".", "", "user.v"], cwd=tmp_path, check=True)
    assert told() == []
    base.write_text(base.read_text().replace("both.", "both!"))
    assert told() == ["base.v", "user.v", "base.v", "user.v"]


def test_what_does_not_run_again_is_said(compiled, tmp_path):
    base = tmp_path / "base.v"
    base.write_text(
        base.read_text().replace("  - reflexivity.\nQed.", "  - Local Set Printing All. reflexivity.\nQed.")
    )
    subprocess.run(["coqc", "-Q", ".", "", "base.v"], cwd=tmp_path, check=True)
    corpus, failures = Corpus.from_glob(base), []
    found = replay_corpus(corpus, compiled, on_failure=lambda theorem, why: failures.append((theorem.full_name, why)))
    assert [(name, "command" in why) for name, why in failures] == [("base.flipK", True)]
    assert [bool(it.state_before) for it in found.theorems[0].tactics] == [True, True, False, False]
    assert [bool(it.state_before) for it in found.theorems[1].tactics] == [True]
    alone = replay_corpus(replace(corpus, theorems=corpus.theorems[:1]), compiled)  # no proof ends, but one begins
    assert alone.theorems == found.theorems[:1]


def test_another_version_of_rocq_runs_all_again(compiled, tmp_path, monkeypatch):
    corpus, told = Corpus.from_glob(tmp_path), []
    for version in ("8.0", "8.0", "9.0"):
        monkeypatch.setattr(Rocq, "version", lambda self, version=version: version)
        replay_corpus(corpus, compiled, store=tmp_path / "states", on_file=told.append)
    assert [it.name for it in told] == ["base.v", "user.v"] * 2


def test_a_worker_that_dies_is_told(tmp_path):
    with pytest.raises(RuntimeError, match=r"a\.v: the worker process died"):
        list(run_files([FileRun(tmp_path / "a.v", "key", partial(os._exit, 3))], store=tmp_path / "states", workers=2))
    assert not (tmp_path / "states").exists()


def test_files_that_cannot_be_run_again(compiled, tmp_path):
    corpus = Corpus.from_glob(tmp_path)
    with pytest.raises(TimeoutError, match=r"base\.v: Rocq ran out of time"):
        replay_corpus(corpus, compiled, seconds=1e-3)
    with pytest.raises(TimeoutError, match=r"\.v: Rocq ran out of time"):
        replay_corpus(corpus, compiled, seconds=1e-3, workers=2)
    with pytest.raises(ValueError, match=r"files: must say where user\.v lies"):
        replay_corpus(corpus, {"base.v": compiled["base.v"]})
    (tmp_path / "base.vo").unlink()
    with pytest.raises(ValueError, match=r"user\.v: none of its proofs runs again: .*[Cc]annot find"):
        replay_corpus(corpus, compiled, store=tmp_path / "states")
    (kept,) = (tmp_path / "states").iterdir()  # the other file is not begun again
    kept.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"states/base-\w+\.json: is damaged"):
        replay_corpus(corpus, compiled, store=tmp_path / "states")


def test_states_are_what_retrieval_and_search_learn_from(compiled, tmp_path):
    corpus = replay_corpus(Corpus.from_glob(tmp_path), compiled)
    asked = queries(corpus, range(4))
    assert [it.text.splitlines()[-1].strip() for it in asked] == [
        "flip odd = even",
        "flip (flip odd) = odd",
        "flip even = odd",
    ]
    corpus.to_leandojo(tmp_path / "written")
    policy = known_tactics(str(tmp_path / "written"))
    assert len(policy) == sum(len(it.tactics) for it in corpus.theorems)
    near = State(Opening((), ""), (), (Goal((("q", "parity"),), "flip (flip q) = q"),), "")
    assert policy.suggest(near, (), 3)[0].tactic == "destruct q."
    assert len(known_tactics(None)) == 0
    # Proofs that are known vote for their premises.
    known, unknown = (ranked_premises(it, "/x.v", "Require Import user.") for it in (str(tmp_path / "written"), None))
    assert [len(it.retriever.retrievers) for it in (known, unknown)] == [3, 2]


def test_what_rocq_prints_is_a_goal(session):
    state = session.start("", "Lemma t : forall a b : nat, a = b -> a = b /\\ b = a.")
    for tactic in ("intros a b e.", "split."):
        state = session.run(state, tactic)
    assert goal(state.text) == state.goals[0] == Goal((("a", "nat"), ("b", "nat"), ("e", "a = b")), "a = b")
    with pytest.raises(ValueError, match=r"no goal of Rocq's"):
        goal("No more goals.")
