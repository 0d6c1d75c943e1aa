"""`LeanSession` against answers in the REPL's documented format.

No Lean REPL is at hand. The exchanges in `recorded/lean_repl.json` were written by hand after the REPL's manual and
were not recorded from a live one. All between them and the session is real: the client `lean-interact` with its
process, its models of the answers, its time-outs, and a program in the REPL's place that reads and writes JSON.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tendsto.assistants import Failure, Goal, LeanSession
from tendsto.assistants.lean_session import goal

# The client limits its process between fork and exec, where JAX, if another test has started it, warns of its threads.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")

lean_interact = pytest.importorskip("lean_interact", reason="needs the extra 'proof'")

RECORDING = Path(__file__).parent / "recorded" / "lean_repl.json"
REPL = Path(__file__).parents[1] / "support" / "recorded_repl.py"
STATEMENT = "theorem t (n : Nat) : n + 0 = n ∧ 0 + n = n"


@pytest.fixture
def session(tmp_path):
    lake = tmp_path / "lake"
    lake.write_text(f"#!/bin/sh\nexec {sys.executable} {REPL} {RECORDING} {tmp_path}/log\n")
    lake.chmod(0o755)
    config = SimpleNamespace(
        is_setup=lambda: True,
        lake_path=lake,
        working_dir=tmp_path,
        _cache_repl_dir=tmp_path,
        memory_hard_limit_mb=None,
        enable_incremental_optimization=False,
        enable_parallel_elaboration=False,
    )
    session = LeanSession(lean_interact.LeanServer(config))
    session.log = tmp_path / "log"
    yield session
    session.close()


@pytest.fixture
def last(session):
    """A state with one goal left, two tactics into the proof."""
    state = session.start("import Mathlib", STATEMENT)
    return session.run(session.run(state, "constructor"), "rfl")


def asked(session):
    return [json.loads(line) for line in session.log.read_text().splitlines()]


def test_a_proof_from_beginning_to_end(session):
    first = session.start("import Mathlib", STATEMENT)
    assert first.goals == (Goal((("n", "Nat"),), "n + 0 = n ∧ 0 + n = n"),)
    both = session.run(first, "constructor")
    assert [one.conclusion for one in both.goals] == ["n + 0 = n", "0 + n = n"]
    assert both.text == "case left\nn : Nat\n⊢ n + 0 = n\n\ncase right\nn : Nat\n⊢ 0 + n = n"
    assert not both.finished
    one = session.run(both, "rfl")
    assert one.path == ("constructor", "rfl")
    end = session.run(one, "simp")
    assert (end.finished, end.given_up, end.goals, end.text) == (True, False, (), "no goals")
    assert end.opening.statement == STATEMENT


def test_states_stay_what_they_are(session):
    first = session.start("import Mathlib", STATEMENT)
    both = session.run(first, "constructor")
    session.run(session.run(both, "rfl"), "simp")
    assert session.run(first, "constructor") == both
    assert session.start("import Mathlib", STATEMENT) == first
    assert [request.get("cmd") for request in asked(session)].count("import Mathlib") == 1


def test_a_file_may_begin_with_the_theorem(session):
    assert session.run(session.start("", "theorem u : True"), "trivial").finished


def test_a_sorry_finishes_nothing(session, last):
    end = session.run(last, "sorry")
    assert end.given_up
    assert not end.finished


@pytest.mark.parametrize(
    ("tactic", "kind", "said"),
    [
        ("exact h.elim", "error", "Unknown identifier `h.elim`"),
        ("exact True.intro", "error", "Type mismatch True.intro has type True but is expected"),
        ("decide", "error", "not accepted: Error: kernel type check failed"),
        ("omega_nat", "timed out", "(deterministic) timeout at `whnf`"),
        ("repeat skip", "timed out", "no answer within 0.5 s"),
        ("norm_num", "crashed", "Lean's process died"),
        ("ring", "crashed", "nothing that is JSON"),
        ("run_tac pure ()", "refused", "line 1 contains `run_tac`"),
        ("exact by_elab default", "refused", "line 1 contains `by_elab`"),
        ("native_decide", "refused", "compiled code"),
        (" ", "refused", "got nothing"),
    ],
)
def test_every_failure_has_its_kind(session, last, tactic, kind, said):
    failure = session.run(last, tactic, seconds=0.5 if tactic == "repeat skip" else 10.0)
    assert isinstance(failure, Failure)
    assert failure.kind == kind
    assert said in failure.message
    assert session.run(last, "simp").finished


def test_after_a_time_out_a_new_process_is_led_back(session, last):
    before = len(asked(session))
    assert session.run(last, "repeat skip", seconds=0.5).kind == "timed out"
    assert session.run(last, "simp").finished
    tried, *led = asked(session)[before:]
    assert tried["tactic"] == "repeat skip"
    assert [one.get("cmd") or one["tactic"] for one in led] == [
        "import Mathlib",
        f"{STATEMENT} := by sorry",
        "constructor",
        "rfl",
        "simp",
    ]


def test_refused_tactics_are_never_sent(session, last):
    before = len(asked(session))
    session.run(last, "run_tac pure ()")
    assert len(asked(session)) == before


@pytest.mark.parametrize(
    ("before", "statement", "said"),
    [
        ("import Nowhere", STATEMENT, "unknown module prefix 'Nowhere'"),
        ("import Mathlib", "theorem t : 1 + 1 =", "unexpected token ':='"),
        ("import Mathlib", "def two := 2", "expected one theorem, got 0"),
    ],
)
def test_a_beginning_that_lean_does_not_accept(session, before, statement, said):
    failure = session.start(before, statement)
    assert isinstance(failure, Failure)
    assert failure.kind == "error"
    assert said in failure.message


def test_a_closed_session_begins_anew(session, last):
    session.close()
    assert session.run(last, "simp").finished


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("⊢ True", Goal((), "True")),
        (
            "case succ\nn m : ℕ\nih : n + 0 = n\n⊢ n + 1 + 0 =\n    n + 1",
            Goal((("n", "ℕ"), ("m", "ℕ"), ("ih", "n + 0 = n")), "n + 1 + 0 = n + 1"),
        ),
        (
            "α : Type u_1\ninst✝¹ : Ring α\nf : ℕ → ℕ := fun x =>\n  x + 1\nh : ∀ x : ℕ, f x = x\n⊢ ∃ y : ℕ, y = 2",
            Goal(
                (
                    ("α", "Type u_1"),
                    ("inst✝¹", "Ring α"),
                    ("f", "ℕ → ℕ := fun x => x + 1"),
                    ("h", "∀ x : ℕ, f x = x"),
                ),
                "∃ y : ℕ, y = 2",
            ),
        ),
        ("x : ℕ\n| x + 0", Goal((("x", "ℕ"),), "x + 0")),
    ],
)
def test_reads_the_goals_that_lean_prints(text, expected):
    assert goal(text) == expected


def test_names_what_is_no_goal(session, last):
    with pytest.raises(ValueError, match="no goal"):
        goal("n : Nat")
    with pytest.raises(TypeError, match="tactic"):
        session.run(last, 3)
    with pytest.raises(ValueError, match="seconds"):
        session.run(last, "simp", seconds=0.0)
