"""The hybrid: whole proofs that hold end it, and sketches of those that fail are completed."""

import json
import shutil

import pytest
from rocq_texts import SQUARES, Tries

from tendsto.assistants import Certificate, Opening, RocqSession
from tendsto.papers.hybridprover import kernel_of, lent
from tendsto.proof.hybrid import HoleBudget, HybridProver
from tendsto.proof.policies import Suggestion

pytestmark = pytest.mark.skipif(shutil.which("coqtop") is None, reason="needs Rocq: apt install coq")

GOOD = "assert (h1 : n * n <= n * m). { nia. } assert (h2 : n * m <= m * m). { nia. } lia."
WRONG = GOOD.replace("{ nia. }", "{ foo. }")


@pytest.fixture(scope="module")
def session():
    with RocqSession() as one:
        yield one


class Writes:
    """A policy that writes what it is told."""

    def __init__(self, *texts):
        self.texts, self.asked = texts, []

    def propose(self, opening, n, temperature):
        self.asked.append((opening, n, temperature))
        return list(self.texts)[:n]


class Suggests:
    """A policy that suggests the same in every state."""

    def __init__(self, *tactics):
        self.tactics, self.asked = tactics, []

    def suggest(self, state, premises, k):
        self.asked.append(k)
        return [Suggestion(tactic, -1.0) for tactic in self.tactics][:k]


def prover(session, *texts, **options):
    options = {"automation": Tries("lia.", "nia."), "check": kernel_of(session)} | options
    return HybridProver(lent(session), Writes(*texts), **options)


def test_a_whole_proof_that_holds_ends_it(session):
    solver = Tries()
    report = prover(session, WRONG, GOOD, automation=solver).prove(SQUARES)
    assert (report.stage, report.proof, report.proved) == ("whole", GOOD, True)
    assert (report.candidates, report.distinct, report.sketches, report.tried) == (2, 2, 0, 0)
    assert solver.asked == []


def test_holes_that_automation_closes(session):
    report = prover(session, WRONG).prove(SQUARES)
    assert (report.stage, report.proof) == ("sketch+automation", GOOD)
    assert [(it.by, it.proof) for it in report.fillings] == [
        ("automation", "nia."),
        ("automation", "nia."),
        ("automation", "lia."),
    ]
    assert json.loads(json.dumps(report.to_json()))["certificate"] == "accepted"


def test_holes_that_need_tactics(session):
    report = prover(session, WRONG, automation=Tries("lia."), tactic=Suggests("idtac.", "nia.")).prove(SQUARES)
    assert report.stage == "sketch+tactic"
    assert [it.by for it in report.fillings] == ["tactic", "tactic", "automation"]
    assert prover(session, WRONG, automation=None, tactic=Suggests("nia.")).prove(SQUARES).stage == "sketch+tactic"


def test_budgets_of_the_search_are_kept(session):
    deep = Suggests("apply Nat.mul_le_mono.", "apply Nat.le_refl.", "exact H.")
    found = {}
    for expansions in (1, 8):
        one = prover(session, "foo.", automation=None, tactic=deep, hole_budget=HoleBudget(expansions, 20.0))
        found[expansions] = one.prove(SQUARES).stage
    assert found == {1: None, 8: "sketch+tactic"}


def test_what_cannot_be_completed_is_told(session):
    report = prover(session, WRONG, automation=Tries("lia.")).prove(SQUARES)
    assert (report.proved, report.stage, report.proof, report.tried) == (False, None, "", 1)
    assert "none of 1 sketches" in report.reason
    alone = prover(session, WRONG, automation=None).prove(SQUARES)
    assert "nothing to fill holes with" in alone.reason


def test_malformed_candidates_and_copies_are_dropped(session):
    texts = [
        "",
        "lia",
        "lia. (*",
        "Lemma t : True. exact I.",
        "exact I. Defined.",
        WRONG,
        f"  {WRONG} (* again *)",
        "foo.",
    ]
    report = prover(session, *texts, automation=Tries("bar.")).prove(SQUARES)
    assert (report.candidates, report.distinct, report.sketches) == (8, 2, 2)


def test_sketches_with_the_same_goals_are_one_and_the_most_whole_comes_first(session):
    lost = "assert (h0 : n * z = 0). { lia. } foo."
    same = WRONG.replace("foo", "bar")
    solver = Tries("nope.")
    report = prover(session, lost, WRONG, same, automation=solver).prove(SQUARES)
    assert (report.distinct, report.sketches, report.tried) == (3, 2, 2)
    conclusions = [state.goals[0].conclusion for state in solver.asked]
    assert conclusions == ["n * n <= n * m", "n * n <= m * m"]  # one hole of each: the first that stays open ends it
    assert prover(session, lost, WRONG, max_sketches=1, automation=Tries("nope.")).prove(SQUARES).tried == 1


def test_goals_that_sketches_share_are_solved_once(session):
    longer = WRONG.replace("lia.", "assert (h3 : n * 0 = 0). { lia. } lia.")
    false = WRONG.replace("n * m <= m * m", "n * m <= 0")
    solver = Tries("nia.", "lia.")
    report = prover(session, longer, false, automation=solver).prove(SQUARES)
    assert report.proved
    assert (report.tried, report.cache_hits, report.solver_calls) == (2, 1, 5)
    assert report.solver_calls == len(solver.asked) == len({str(it.goals[0]) for it in solver.asked})


def test_justifications_that_hold_may_stay(session):
    solver = Tries("lia.")
    half = GOOD.replace("{ nia. }", "{ foo. }", 1)
    assert not prover(session, half, automation=solver).prove(SQUARES).proved
    solver = Tries("nia.")
    report = prover(session, half, automation=solver, keep_proved=True).prove(SQUARES)
    assert report.proved
    assert len(solver.asked) == 1


def test_only_the_final_check_decides(session):
    def never(*_):
        return Certificate("rejected", {}, "no", 0.0, "", "", "")

    for text in (GOOD, WRONG):
        report = prover(session, text, check=never).prove(SQUARES)
        assert (report.proved, report.stage, report.proof) == (False, None, "")


def test_the_policy_is_asked_for_as_many_as_said(session):
    tactic = Suggests("nia.")
    one = prover(session, WRONG, n_candidates=7, temperature=0.5, automation=None, tactic=tactic, n_tactics=9)
    one.prove(SQUARES)
    assert one.whole.asked == [(SQUARES, 7, 0.5)]
    assert set(tactic.asked) == {9}


def test_what_does_not_finish_is_not_checked(session):
    def check(*_):
        raise AssertionError("it was checked")

    report = prover(session, GOOD.removesuffix(" lia."), automation=None, check=check).prove(SQUARES)
    assert report.reason == "no candidate holds, and there is nothing to fill holes with"


def test_two_workers_find_the_same():
    one = HybridProver(
        RocqSession, Writes(WRONG, GOOD.replace("lia.", "foo.")), automation=Tries("lia.", "nia."), workers=2
    )
    with RocqSession() as session:
        found = HybridProver(**{**vars(one), "check": kernel_of(session)}).prove(SQUARES)
    assert (found.stage, found.proof) == ("sketch+automation", GOOD)


def test_bad_input_names_the_argument(session):
    for name in ("n_candidates", "n_tactics", "max_sketches", "workers"):
        with pytest.raises(ValueError, match=f"{name}: "):
            prover(session, GOOD, **{name: 0})
    with pytest.raises(ValueError, match="temperature: "):
        prover(session, GOOD, temperature=-1)
    with pytest.raises(ValueError, match="expansions: "):
        HoleBudget(expansions=0)
    with pytest.raises(ValueError, match=r"opening: .*nowhere"):
        prover(session, GOOD).prove(Opening((), "Lemma t : nowhere."))
