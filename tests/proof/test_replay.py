"""Finished proofs run again in Rocq: the states between their tactics, and where a replay stops."""

import shutil

import pytest
import rocq_project

from tendsto.assistants import RocqSession
from tendsto.proof import Corpus
from tendsto.proof.replay import replay, replay_file, with_states

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
