"""Holes are filled each on its own, under hints and without, once for each goal, and the whole is checked."""

import functools
import shutil
import threading

import pytest
from rocq_texts import BEFORE, SQUARES, Tries

from tendsto.assistants import Certificate, Failure, Goal, Opening, Rocq, RocqSession, State, sentences
from tendsto.proof.filling import Focused, HoleCache, fill_holes, normalised
from tendsto.proof.search import ProofResult
from tendsto.proof.sketch import mask_errors

needs_rocq = pytest.mark.skipif(shutil.which("coqtop") is None, reason="needs Rocq: apt install coq")
certified = functools.partial(Rocq().check_proof, recheck=False)
MONO = Tries("apply Nat.mul_le_mono; exact H.").tactics

TWO = "assert (h1 : n * n <= n * m). { admit. } assert (h2 : n * m <= m * m). { admit. } lia."


@pytest.fixture(scope="module")
def session():
    with RocqSession() as one:
        yield one


class Same:
    """A factory that hands out one session, and counts how often."""

    def __init__(self, session):
        self.session, self.opened, self.inside, self.most, self.lock = session, 0, 0, 0, threading.Lock()

    def __call__(self):
        self.opened += 1
        return self

    def __enter__(self):
        return self.session

    def __exit__(self, *_):
        return None


def replayed(session):
    """A quick check: the session finishes it."""

    def check(before, statement, proof):
        state = session.start(before, statement)
        for sentence in sentences(proof):
            state = session.run(state, sentence.text)
        return Certificate("accepted" if state.finished else "rejected", {}, "", 0.0, "", "", "")

    return check


def fill(sketch, session, solver, **options):
    return fill_holes(sketch, Same(session), solver, check=options.pop("check", replayed(session)), **options)


@needs_rocq
def test_a_sketch_whose_holes_are_filled_is_a_proof(session):
    solver, told = Tries(), []
    sketch = mask_errors(TWO, session, SQUARES)
    report = fill(sketch, session, solver, on_hole=told.append, check=certified)
    assert report.proved
    assert report.script == TWO.replace("admit.", "nia.")
    assert [(it.proof, it.by, it.outcome, it.cached) for it in report.fillings] == [
        ("nia.", "solver", "proved", False)
    ] * 2
    assert told == list(report.fillings)
    assert [state.goals[0] for state in solver.asked] == [it.goal for it in report.sketch.holes]
    assert all(len(state.goals) == 1 for state in solver.asked)


@needs_rocq
def test_what_stays_open_is_left_a_hole_and_nothing_is_certified(session):
    def never(*_):
        raise AssertionError("a proof with holes is not even checked")

    report = fill(mask_errors(TWO, session, SQUARES), session, Tries("foo."), check=never)
    assert not report.proved
    assert (report.script, report.certificate) == (TWO, None)
    assert [(it.outcome, it.reason) for it in report.fillings] == [("failed", "nothing works")] * 2


@needs_rocq
@pytest.mark.parametrize(("outcome", "expected"), [("failed", "exhausted"), ("open", "open")])
def test_running_out_of_time_is_not_failing(outcome, expected, session):
    solvers = {
        "first": lambda *_: ProofResult(outcome, reason="slow"),
        "second": lambda *_: ProofResult("exhausted", reason="empty"),
    }
    (filling,) = fill(mask_errors("admit.", session, SQUARES), session, solvers).fillings
    assert filling.outcome == expected


@needs_rocq
def test_solvers_are_tried_in_order_and_the_one_that_succeeds_is_named(session):
    first, second, third = Tries("assumption."), Tries("nia."), Tries("lia.")
    report = fill(mask_errors(TWO, session, SQUARES), session, {"a": first, "b": second, "c": third})
    assert [it.by for it in report.fillings] == ["b", "b"]
    assert (len(first.asked), len(second.asked), len(third.asked)) == (2, 2, 0)


def seen(solver):
    return [[name for name, _ in state.goals[0].hypotheses] for state in solver.asked]


HINTED = Opening((BEFORE,), "Lemma t (a b c d : nat) (H : a <= b) (K : c <= d) (L : a = c) : a * a <= b * b.")


@needs_rocq
@pytest.mark.parametrize(
    ("hints", "contexts"),
    [
        ("(* using: H *)", [["a", "b", "H"]]),
        ("(* using: K,H *)", [["a", "b", "c", "d", "H", "K"]]),
        ("(* using: *)", [["a", "b"], ["a", "b", "c", "d", "H", "K", "L"]]),
        ("(* using: K *)", [["a", "b", "c", "d", "K"], ["a", "b", "c", "d", "H", "K", "L"]]),
        ("(* using: Nat.mul_le_mono *)", [["a", "b", "c", "d", "H", "K", "L"]]),
        ("", [["a", "b", "c", "d", "H", "K", "L"]]),
    ],
)
def test_hints_clear_the_rest_and_give_way_where_they_fail(hints, contexts, session):
    solver = Tries(*MONO)
    report = fill(mask_errors(f"admit. {hints}", session, HINTED), session, solver)
    assert seen(solver) == contexts
    assert report.proved
    assert report.fillings[0].cleared == (len(contexts[-1]) < 7)
    assert ("clear" in report.script) == report.fillings[0].cleared
    without = Tries(*MONO)
    assert fill(mask_errors(f"admit. {hints}", session, HINTED), session, without, use_hints=False).proved
    assert seen(without) == [["a", "b", "c", "d", "H", "K", "L"]]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Goal((("x", "nat"), ("H", "x <= 1")), "x = 0"), Goal((("y", "nat"), ("K", "y <= 1")), "y = 0"), True),
        (Goal((("x", "nat"), ("H", "x <= 1")), "x = 0"), Goal((("x", "nat"), ("H", "x <= 2")), "x = 0"), False),
        (Goal((("x", "nat"), ("H", "x <= 1")), "x = 0"), Goal((("x", "nat"),), "x = 0"), False),
        (Goal((("x", "nat"), ("y", "nat")), "x <= y"), Goal((("x", "nat"), ("y", "nat")), "y <= x"), False),
        (Goal((("x", "nat"), ("y", "nat")), "x <= y"), Goal((("y", "nat"), ("x", "nat")), "y <= x"), True),
        (Goal((("n", "nat"),), "Nat.n n"), Goal((("m", "nat"),), "Nat.m m"), False),
        (Goal((("n", "nat"),), "n' = n"), Goal((("m", "nat"),), "n' = m"), True),
        (Goal((("n", "nat"),), "n' = n"), Goal((("m", "nat"),), "m' = m"), False),
    ],
)
def test_goals_are_the_same_up_to_the_names_of_hypotheses(one, other, same):
    assert (normalised(one) == normalised(other)) == same


RENAMED = """assert (h1 : forall a b : nat, a <= b -> a * 1 <= b). { intros a b K. admit. }
assert (h2 : forall c d : nat, c <= d -> c * 1 <= d). { clear h1. intros c d L. admit. }
apply Nat.mul_le_mono; exact H."""


@needs_rocq
def test_a_goal_is_solved_once_under_whatever_names(session):
    class ByName(Tries):
        def __call__(self, session, state):
            self.tactics = (f"rewrite Nat.mul_1_r. exact {state.goals[0].hypotheses[-1][0]}.",)
            self.asked.append(state)
            found = session.run(state, "rewrite Nat.mul_1_r.")
            found = session.run(found, f"exact {state.goals[0].hypotheses[-1][0]}.")
            return ProofResult("proved", found.path)

    solver, cache = ByName(), HoleCache()
    report = fill(mask_errors(RENAMED, session, SQUARES), session, solver, cache=cache)
    assert report.proved
    assert [it.cached for it in report.fillings] == [False, True]
    assert "exact K." in report.script
    assert "exact L." in report.script
    assert (len(solver.asked), cache.calls, cache.hits) == (1, 1, 1)
    again = fill(mask_errors(RENAMED, session, SQUARES), session, solver, cache=cache)
    assert again.proved
    assert (len(solver.asked), cache.calls, cache.hits) == (1, 1, 3)
    elsewhere = Opening((BEFORE, "Definition one := 1."), SQUARES.statement)
    fill(mask_errors(RENAMED, session, elsewhere), session, solver, cache=cache)
    assert len(solver.asked) == 2


@needs_rocq
def test_an_answer_that_does_not_hold_here_is_not_taken(session):
    cache = HoleCache()
    sketch = mask_errors("admit.", session, SQUARES)
    fill(sketch, session, Tries(*MONO), cache=cache)
    (key,) = cache.entries
    filling, names = cache.entries[key]
    cache.entries[key] = (type(filling)(filling.hole, "foo.", "liar", "proved"), names)
    report = fill(sketch, session, Tries(*MONO), cache=cache)
    assert report.proved
    assert (report.fillings[0].by, cache.calls, cache.hits) == ("solver", 2, 0)


@needs_rocq
def test_holes_are_filled_side_by_side_each_with_a_session_of_its_own():
    opened, busy, together = [], set(), threading.Barrier(2, timeout=60)

    class Own(RocqSession):
        def __init__(self):
            super().__init__()
            opened.append(self)

    class Meets(Tries):
        def __call__(self, session, state):
            assert session.session not in busy
            busy.add(session.session)
            together.wait()
            result = super().__call__(session, state)
            busy.remove(session.session)
            return result

    with RocqSession() as one:
        sketch = mask_errors(TWO, one, SQUARES)
        report = fill_holes(sketch, Own, Meets("nia."), workers=2, check=replayed(one))
    assert report.proved
    assert len(opened) == 2
    assert all(it._process is None for it in opened)


@needs_rocq
def test_after_the_first_that_stays_open_no_further_hole_is_begun(session):
    solver = Tries("foo.")
    report = fill(mask_errors(TWO, session, SQUARES), session, solver, all_or_none=True)
    assert len(solver.asked) == 1
    assert [it.outcome for it in report.fillings] == ["failed", "unreached"]


@needs_rocq
def test_a_hole_that_cannot_be_reached_is_told(session):
    class Forgets:
        def start(self, *_, **__):
            return Failure("crashed", "gone")

    (filling,) = fill(mask_errors("admit.", session, SQUARES), Forgets(), Tries()).fillings
    assert (filling.outcome, filling.reason) == ("unreached", "crashed: gone")


@needs_rocq
def test_a_focused_goal_is_finished_when_its_braces_can_be_closed(session):
    state = session.start(BEFORE, "Lemma t (n : nat) : (n = n /\\ 0 = 0) /\\ n < 1.")
    for sentence in ("split.", "{"):
        state = session.run(state, sentence)
    focus = Focused(session, len(state.path))
    assert isinstance(focus.run(state, "}"), Failure)
    for wrong in ("admit.", "(give_up).", "shelve.", "exact I. (* "):
        assert focus.run(state, wrong).kind == "refused"
    inner = focus.run(state, "split.")
    inner = focus.run(focus.run(inner, "{"), "reflexivity.")
    assert (inner.goals, inner.finished) == ((), False)
    closed = focus.run(inner, "}")
    assert len(closed.goals) == 1
    assert focus.run(closed, "reflexivity.").finished
    bullets = focus.run(focus.run(focus.run(state, "split."), "-"), "reflexivity.")
    assert not bullets.finished
    assert focus.run(focus.run(bullets, "-"), "reflexivity.").finished
    finished = focus.run(state, "split; reflexivity.")
    assert finished.finished
    assert focus.run(finished, "}").kind == "refused"
    assert isinstance(session.run(state, "split; reflexivity."), State)
    assert not session.run(state, "split; reflexivity.").finished


def test_arguments_out_of_range_are_named(session):
    sketch = mask_errors("admit.", session, SQUARES)
    with pytest.raises(ValueError, match="workers: "):
        fill(sketch, session, Tries(), workers=0)
    with pytest.raises(ValueError, match="seconds: "):
        fill(sketch, session, Tries(), seconds=0)
