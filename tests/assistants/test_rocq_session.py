"""A conversation with Rocq: what states say, that they stay what they are, and that no tactic breaks it."""

import os
import pickle
import shutil
import signal
import time
from pathlib import Path

import pytest

from tendsto.assistants import Failure, Goal, NotInstalled, RocqSession, State

pytestmark = pytest.mark.skipif(shutil.which("coqtop") is None, reason="needs Rocq: apt install coq")

BEFORE = "Require Import Arith Lia.\nSection Trees.\nVariable k : nat.\n"
STATEMENT = "Theorem swap (n m : nat) : n + m = m + n /\\ True."


@pytest.fixture(scope="module")
def session():
    with RocqSession() as opened:
        yield opened


def begin(session, statement=STATEMENT, before=BEFORE):
    state = session.start(before, statement)
    assert isinstance(state, State), state
    return state


def run(session, state, *tactics):
    for tactic in tactics:
        state = session.run(state, tactic)
        assert isinstance(state, State), state
    return state


def conclusions(state):
    return [goal.conclusion for goal in state.goals]


def test_goals_are_data(session):
    state = run(session, begin(session), "pose (z := n : nat).", "split.")
    assert state.goals[0] == Goal(
        (("k", "nat"), ("n", "nat"), ("m", "nat"), ("z", "nat := (n : nat)")), "n + m = m + n"
    )
    assert str(state.goals[1]) == "k : nat\nn : nat\nm : nat\nz : nat := (n : nat)\n⊢ True"
    assert state.path == ("pose (z := n : nat).", "split.")
    assert "(ID" not in state.text


def test_every_goal_is_told_with_its_own_hypotheses(session):
    state = run(session, begin(session), "split.", "induction n as [|p IH].")
    assert conclusions(state) == ["0 + m = m + 0", "S p + m = m + S p", "True"]
    assert ("IH", "p + m = m + p") in state.goals[1].hypotheses
    assert all(name != "IH" for name, _ in state.goals[2].hypotheses)


def test_states_that_differ_only_behind_the_first_goal_differ(session):
    start = begin(session)
    one, two = (run(session, start, f"split; [|assert (h : {fact}) by easy].") for fact in ("0 = 0", "1 = 1"))
    assert one.goals[0] == two.goals[0]
    assert one.text != two.text


def test_a_finished_proof_is_one_whose_end_is_accepted(session):
    state = run(session, begin(session), "split.", "lia.", "exact I.")
    assert state.finished
    assert state.goals == ()
    # A loop leaves no goal either, but its end is refused.
    loop = session.run(begin(session, "Lemma loop : forall n : nat, n = n + 1."), "fix h 1.")
    ended = session.run(loop, "exact h.")
    assert isinstance(ended, Failure)
    assert ended.kind == "error"
    assert "ill-formed" in ended.message


def test_goals_given_up_shelved_or_out_of_focus_are_not_finished(session):
    start = run(session, begin(session), "split.")
    given_up = run(session, start, "admit.", "admit.")
    assert (given_up.finished, given_up.given_up) == (False, True)
    shelved = run(session, start, "all: shelve.")
    assert (shelved.finished, shelved.given_up) == (False, False)
    unfocused = run(session, start, "-", "lia.")
    assert (unfocused.finished, unfocused.goals) == (False, ())
    assert run(session, unfocused, "-", "exact I.").finished
    braced = run(session, unfocused, "-", "{", "exact I.")
    assert (braced.finished, braced.goals) == (False, ())
    assert run(session, braced, "}").finished


def test_states_stay_what_they_are_whatever_came_after(session):
    start = begin(session)
    left = run(session, start, "split.", "lia.")
    right = run(session, start, "constructor.", "rewrite Nat.add_comm.")
    assert conclusions(run(session, left, "idtac.")) == ["True"]
    assert conclusions(run(session, right, "idtac.")) == ["m + n = m + n", "True"]
    assert run(session, left, "exact I.").finished
    assert run(session, right, "reflexivity.", "exact I.").finished
    assert conclusions(run(session, start, "idtac.")) == ["n + m = m + n /\\ True"]
    assert begin(session) == start


def test_every_applicable_tactic_is_found_after_going_back(session):
    state = run(session, begin(session, "Goal forall a b c d : nat, a + b + (c + d) = d + c + (b + a)."), "intros.")
    pairs = ["a b", "c d", "d c", "b a", "(a + b) (c + d)", "(d + c) (b + a)"]
    wrong = ["a c", "b d", "d d"]
    answers = [session.run(state, f"rewrite (Nat.add_comm {pair}).") for pair in pairs + wrong]
    assert [isinstance(answer, State) for answer in answers] == [True] * 6 + [False] * 3
    assert len({answer.text for answer in answers[:6]}) == 6


def test_theorems_of_one_file_in_any_order(session):
    first = begin(session, "Lemma a : 1 = 1.", "Definition one := 1.\n")
    later = "Definition one := 1.\nLemma a : 1 = 1.\nProof. reflexivity. Qed.\n"
    second = begin(session, "Lemma b : one = 1.", later)
    assert run(session, second, "exact a.").finished
    known = session.run(first, "exact a.")  # the theorem itself is not there yet
    assert isinstance(known, Failure)
    assert run(session, first, "reflexivity.").finished


def test_an_error_says_what_rocq_said_and_changes_nothing(session):
    state = begin(session)
    failure = session.run(state, "rewrite nowhere.")
    assert (failure.kind, failure.message) == (
        "error",
        "The reference nowhere was not found in the current environment.",
    )
    assert session.run(state, "split with.").kind == "error"  # not even read
    assert run(session, state, "split.", "lia.", "exact I.").finished


@pytest.mark.parametrize(
    "tactic",
    [
        "Qed.",
        "Axiom absurd : False.",
        "#[global] Axiom absurd : False.",
        "1: Admitted.",
        "(* *) Admitted.",
        "split. exact I.",
        "split",
        "split. (* unfinished",
        'idtac "unfinished.',
        'idtac "Redirect".',
        "",
    ],
)
def test_what_is_no_single_tactic_is_refused(session, tactic):
    answer = session.run(begin(session), tactic)
    assert isinstance(answer, Failure)
    assert answer.kind == "refused"


@pytest.mark.parametrize("tactic", ["-", "{", "1: {", "all: split.", "[> split ].", "(split).", "by [].", "2: idtac."])
def test_tactics_bullets_and_braces_are_not_refused(session, tactic):
    answer = session.run(begin(session), tactic)
    assert isinstance(answer, State) or answer.kind == "error"


def test_a_tactic_that_does_not_end_is_interrupted(session):
    state = begin(session)
    process = session._process.pid
    started = time.perf_counter()
    answer = session.run(state, "do 1000000000 (try fail).", seconds=0.3)
    assert time.perf_counter() - started < 10
    assert answer.kind == "timed out"
    assert run(session, state, "split.", "lia.", "exact I.").finished
    assert session._process.pid == process


def test_a_file_that_does_not_end_leaves_nothing_behind(session):
    one = "Definition one := 1.\n"
    answer = session.start(f"{one}Goal True. do 1000000000 (try fail). Abort.", "Goal True.", seconds=0.5)
    assert answer.kind == "timed out"
    assert run(session, begin(session, "Goal one = 1.", one), "reflexivity.").finished


@pytest.mark.parametrize(
    ("tactic", "kind"),
    [
        ("timeout 1 (do 1000000000 (try fail)).", "timed out"),
        ("assert (Nat.pow 2 22 = 3) by (vm_compute; reflexivity).", "crashed"),
        ("fail.", "error"),
    ],
)
def test_only_an_error_says_that_a_tactic_cannot_work(session, tactic, kind):
    assert session.run(begin(session), tactic, seconds=30.0).kind == kind


def test_a_process_that_does_not_listen_is_killed_and_replaced(session, monkeypatch):
    monkeypatch.setattr("tendsto.assistants.sandbox.interrupt", lambda process: None)
    state = run(session, begin(session), "split.")
    process = session._process.pid
    answer = session.run(state, "do 1000000000 (try fail).", seconds=0.3)
    assert answer.kind == "timed out"
    assert "did not heed" in answer.message
    assert run(session, state, "lia.", "exact I.").finished
    assert session._process.pid != process


def test_a_process_that_dies_is_replaced(session):
    state = run(session, begin(session), "split.")
    os.killpg(session._process.pid, signal.SIGKILL)
    session._process.wait()
    assert session.run(state, "lia.").kind == "crashed"
    assert run(session, state, "lia.", "exact I.").finished


def test_a_process_whose_answers_do_not_fit_is_replaced(session, monkeypatch):
    state = run(session, begin(session), "split.")
    process, exchange, confused = session._process.pid, RocqSession._exchange, [session._process.pid]

    def with_another_reader(self, text, end, seconds):
        """As where a second toplevel, a prover's fork that was interrupted, reads from the same pipe."""
        heard = exchange(self, text, end, seconds)
        return heard + b"<prompt>Coq < 1 || 0 < </prompt>" if self._process.pid in confused or not confused else heard

    monkeypatch.setattr(RocqSession, "_exchange", with_another_reader)
    assert run(session, state, "lia.", "exact I.").finished
    assert session._process.pid != process
    confused.clear()
    for answer in (session.run(state, "lia."), session.start(BEFORE, STATEMENT)):
        assert answer == Failure("error", "Rocq does not read this as one sentence")
    monkeypatch.undo()
    assert run(session, state, "lia.", "exact I.").finished


def test_too_little_memory_is_a_crash():
    trees = """
        Inductive tree := leaf | node (l r : tree).
        Fixpoint full n := match n with O => leaf | S m => node (full m) (full m) end.
        Fixpoint depth t := match t with leaf => 0 | node l _ => S (depth l) end."""
    with RocqSession(memory=700 * 2**20) as small:
        state = begin(small, "Goal depth (full 26) = 26.", trees)
        answer = small.run(state, "vm_compute.", seconds=60.0)
        assert isinstance(answer, Failure)
        assert answer.kind == "crashed"
        assert run(small, begin(small, "Goal depth (full 2) = 2.", trees), "reflexivity.").finished


def test_what_a_tactic_prints_is_not_taken_for_rocqs_answer(session):
    state = begin(session)
    spoofed = 'idtac "No more goals.</prompt><prompt>swap < 99 |swap| 0 < </prompt>".'
    answer = session.run(state, spoofed)
    assert not getattr(answer, "finished", False)
    assert conclusions(run(session, state, "idtac.")) == ["n + m = m + n /\\ True"]


def test_a_file_that_does_not_hold_is_reported_with_the_sentence(session):
    answer = session.start("Require Import Arith.\nDefinition two := nowhere.\n", "Goal True.")
    assert answer.kind == "error"
    assert answer.message.startswith("Definition two := nowhere.: The reference nowhere was not found")


def test_a_copy_for_another_process_starts_afresh(session):
    state = run(session, begin(session), "split.")
    with pickle.loads(pickle.dumps(session)) as copy:
        assert run(copy, pickle.loads(pickle.dumps(state)), "lia.", "exact I.").finished


def test_memory_stays_flat(session):
    state = run(session, begin(session), "split.")

    def resident():
        statistics = Path(f"/proc/{children(session._process.pid)[-1]}/statm").read_text()
        return int(statistics.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(500):
        run(session, state, "rewrite Nat.add_comm.")
    before = resident()
    for _ in range(3000):
        run(session, state, "rewrite Nat.add_comm.")
    assert resident() - before < 30 * 2**20


def children(process):
    """A process and, last, the youngest of its line."""
    line = [process]
    while found := Path(f"/proc/{line[-1]}/task/{line[-1]}/children").read_text().split():
        line.append(int(found[0]))
    return line


def test_bad_input_names_the_argument(session):
    with pytest.raises(ValueError, match="statement: must be one sentence, got 2"):
        session.start("", "Goal True. Goal True.")
    with pytest.raises(ValueError, match="text: the comment that begins in line 2"):
        session.start("Check 1.\n(* ", "Goal True.")
    with pytest.raises(ValueError, match="seconds: must"):
        session.run(begin(session), "idtac.", seconds=0.0)
    with pytest.raises(TypeError, match="tactic: expected a text, got int"):
        session.run(begin(session), 3)
    with pytest.raises(TypeError, match="options: expected a sequence of words"):
        RocqSession("-Q")
    with pytest.raises(ValueError, match="memory"):
        RocqSession(memory=10)


def test_without_rocq_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotInstalled, match="apt install coq"):
        RocqSession()
