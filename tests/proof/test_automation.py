"""The portfolio of closing tactics, on a fake assistant and on Rocq with E and CSDP."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from fake_assistant import OPENING

from tendsto.assistants import Certificate, Failure, Goal, Opening, Rocq, RocqSession, State, sentences
from tendsto.proof.automation import HAMMER_WITH_E, IMPORTS, ROCQ, Closer, Portfolio, PremiseAutomation
from tendsto.proof.corpus import Premise
from tendsto.proof.nearest_tactics import NearestNeighbourTactics
from tendsto.proof.policies import MixedPolicy, PremiseTemplates
from tendsto.proof.search import BestFirstProver

rocq = pytest.mark.skipif(shutil.which("coqtop") is None, reason="needs Rocq: apt install coq")


def goals(*conclusions: str, path: tuple[str, ...] = (), messages: str = "") -> State:
    return State(
        OPENING,
        path,
        tuple(Goal((), it) for it in conclusions),
        "\n".join(conclusions) or "No more goals.",
        finished=not conclusions,
        messages=messages,
    )


class Fake:
    """Knows which goals each tactic closes; `first [ idtac | t ]` fails where t is not loaded."""

    def __init__(self, closes: dict[str, set[str]], says: str = "", timing_out: tuple[str, ...] = ()) -> None:
        self.closes, self.says, self.timing_out = closes, says, timing_out
        self.ran: list[tuple[str, float]] = []

    def run(self, state: State, tactic: str, *, seconds: float = 10.0) -> State | Failure:
        if tactic.startswith("first [ idtac | "):
            known = f"{tactic.removeprefix('first [ idtac | ').removesuffix(' ].')}." in self.closes
            return state if known else Failure("error", "not found")
        self.ran.append((tactic, seconds))
        first, *others = [goal.conclusion for goal in state.goals]
        path = (*state.path, tactic)
        if tactic in self.timing_out:
            return Failure("timed out", "")
        if tactic == "split.":
            return goals(f"{first}l", f"{first}r", *others, path=path)
        if first in self.closes[tactic]:
            return goals(*others, path=path, messages=self.says if tactic == "hammer." else "")
        return Failure("error", self.says if tactic == "hammer." else "")


SPLIT, LIA, RING, HAMMER = Closer("split.", 1), Closer("lia.", 2), Closer("ring.", 3), Closer("hammer.", 9)


def test_every_goal_is_closed_by_the_first_tactic_that_can():
    session = Fake({"split.": set(), "lia.": {"a"}, "ring.": {"a", "b"}})
    result = Portfolio((SPLIT, LIA, RING)).solve(session, goals("a", "b", "a", path=("before.",)))
    assert (result.outcome, result.proof) == ("proved", ("before.", "lia.", "ring.", "lia."))
    assert session.ran[:2] == [("split.", 1), ("lia.", 2)]
    assert result.stats.tactics == {"state": 5, "error": 1, "finished": 1}


def test_what_is_not_loaded_is_skipped():
    session = Fake({"ring.": {"a"}})
    assert Portfolio((LIA, RING)).loaded(session, goals("a")) == (RING,)
    assert Portfolio((LIA, RING)).solve(session, goals("a")).proof == ("ring.",)
    assert [tactic for tactic, _ in session.ran] == ["ring."]


def test_no_answer_is_not_a_failure():
    closes: dict[str, set[str]] = {"lia.": set(), "ring.": set()}
    assert Portfolio((LIA, RING)).solve(Fake(closes), goals("a")).outcome == "failed"
    result = Portfolio((LIA, RING)).solve(Fake(closes, timing_out=("lia.",)), goals("a"))
    assert (result.outcome, result.proof) == ("exhausted", ())
    assert "nothing closes a" in result.reason


SAYS = "Eprover succeeded\nReplace the hammer tactic with:\n\tsauto use: b."


def test_what_the_hammer_finds_is_written_out_and_must_work_itself():
    closes = {"hammer.": {"a"}, "sauto use: b.": {"a"}}
    found = Portfolio((HAMMER,)).solve(Fake(closes, says=SAYS), goals("a"))
    assert found.proof == ("sauto use: b.",)
    # What it prints also counts where another prover's complaint is taken for its failure.
    misread = Portfolio((HAMMER,)).solve(Fake({**closes, "hammer.": set()}, says=SAYS), goals("a"))
    assert misread.proof == ("sauto use: b.",)
    assert (
        Portfolio((HAMMER,)).solve(Fake({**closes, "sauto use: b.": set()}, says=SAYS), goals("a")).outcome == "failed"
    )
    # What it closes before it asks a prover it prints on one line, without the dot.
    alone = Fake({"hammer.": {"a"}, "sfirstorder.": {"a"}}, says="Replace the hammer tactic with: sfirstorder ")
    assert Portfolio((HAMMER,)).solve(alone, goals("a")).proof == ("sfirstorder.",)
    silent = Portfolio((HAMMER,)).solve(Fake(closes), goals("a"))
    assert silent.outcome == "failed"


@pytest.mark.parametrize("outcome", ["accepted", "rejected"])
def test_the_whole_proof_is_checked(outcome):
    asked = []

    def check(before, statement, proof):
        asked.append(proof)
        return Certificate(outcome, {}, "why", 0.0, "fake", "1", "none")

    result = Portfolio((LIA,), check).solve(Fake({"lia.": {"a", "b"}}), goals("a", "b"))
    assert asked == ["lia.\nlia."]
    assert result.certificate is not None
    assert result.outcome == {"accepted": "proved", "rejected": "failed"}[outcome]
    assert result.proof == {"accepted": ("lia.", "lia."), "rejected": ()}[outcome]


def test_in_a_search_all_are_equally_probable_but_the_hammer():
    found = Portfolio((LIA, HAMMER, RING)).suggest(goals("a"), (), 9)
    assert [tactic for tactic, _ in found] == ["lia.", "ring."]
    assert found[0].log_probability == found[1].log_probability == pytest.approx(-0.6931471805599453)


def test_an_empty_portfolio_and_odd_times_are_refused():
    with pytest.raises(ValueError, match="closers: must not be empty"):
        Portfolio(())
    with pytest.raises(ValueError, match="closers: must"):
        Portfolio((Closer("lia.", 0.0),))


def lemma(name: str) -> Premise:
    return Premise("a.v", f"Coq.Lists.List.{name}", "theorem", 0, 1, "")


def test_premises_are_handed_to_hauto_as_it_stands_and_after_an_induction():
    state = State(OPENING, (), (Goal((("A", "Type"), ("n", "nat")), "forall l k : list A, l = k"),), "")
    found = [tactic for tactic, _ in PremiseAutomation(num_premises=2).suggest(state, list(map(lemma, "pqr")), 9)]
    shot = "hauto lq: on use: p, q."
    assert found == [shot, f"induction n; {shot}", f"induction l; {shot}"]
    assert PremiseAutomation(inductions=0).suggest(state, (), 9)[0].tactic == "hauto lq: on."
    assert (
        PremiseAutomation(1, 0, limit=100).suggest(state, [lemma("p")], 9)[0].tactic
        == "hauto lq: on limit: 100 use: p."
    )
    assert PremiseAutomation().suggest(goals(), (), 9) == []


@pytest.fixture(scope="module")
def session() -> Iterator[RocqSession]:
    with RocqSession() as opened:
        yield opened


def opening(before: str, statement: str) -> Opening:
    return Opening(tuple(it.text for it in sentences(before)), statement)


def begin(session: RocqSession, before: str, statement: str) -> State:
    state = session.start(before, statement)
    assert isinstance(state, State), state
    return state


@rocq
def test_rocq_searches_and_its_compiler_accepts(session):
    lists = "Require Import List. Import ListNotations."
    theorem = opening(lists, "Lemma t (A : Type) (l : list A) : l ++ [] = l.")
    prover = BestFirstProver(session, PremiseTemplates(), check=Rocq().check_proof, max_expansions=30)
    result = prover.prove(theorem)
    assert result.outcome == "proved"
    assert any(tactic == "induction l." for tactic in result.proof)
    assert result.certificate is not None
    assert result.certificate.accepted
    false = opening(lists, "Lemma t (A : Type) (l : list A) : l ++ l = l.")
    assert prover.prove(false).outcome in ("open", "exhausted")
    with pytest.raises(ValueError, match=r"start: the assistant does not accept it: .*nowhere"):
        prover.prove(opening("", "Lemma t : nowhere."))


@rocq
def test_rocq_learns_a_proof_and_proves_another_theorem_by_it(session):
    policy = NearestNeighbourTactics()
    known = opening("", "Lemma t (n : nat) : n + 0 = n.")
    proof = "Proof. induction n as [|k IH]. - reflexivity. - simpl. rewrite IH. reflexivity. Qed."
    assert policy.learn_proof(session, known, proof) == 5
    other = opening("", "Lemma u (m : nat) : m * 0 = 0.")
    alone = BestFirstProver(session, policy, max_expansions=40).prove(other)
    assert alone.outcome == "proved"
    assert alone.proof[0] == "induction m as [|k IH]."
    mixed = MixedPolicy([policy, PremiseTemplates()])
    assert BestFirstProver(session, mixed, max_expansions=40).prove(other).outcome == "proved"


@rocq
def test_rocq_closes_goals_with_what_the_file_has_loaded(session):
    quick = Portfolio(tuple(it for it in ROCQ if it.tactic in ("easy.", "lia.", "lra.", "hauto lq: on.")))
    plain = begin(session, "", "Lemma t (a b : nat) : a < b -> 2 * a < 2 * b.")
    assert [it.tactic for it in quick.loaded(session, plain)] == ["easy."]
    assert quick.solve(session, plain).outcome == "failed"
    heard = session.run(plain, 'idtac "what is said".')
    assert isinstance(heard, State)
    assert heard.messages == "what is said"
    assert all(it.startswith("From ") for it in IMPORTS)
    with_lia = begin(session, IMPORTS[0], "Lemma t (a b : nat) : a < b -> 2 * a < 2 * b.")
    assert [it.tactic for it in quick.loaded(session, with_lia)] == ["easy.", "lia.", "lra."]
    assert quick.solve(session, with_lia).proof == ("lia.",)
    halves = session.run(begin(session, IMPORTS[0], "Lemma t (a : nat) : a < 1 + a /\\ True."), "split.")
    assert isinstance(halves, State)
    assert quick.solve(session, halves).proof == ("split.", "lia.", "easy.")


@rocq
@pytest.mark.skipif(shutil.which("csdp") is None, reason="needs CSDP: apt install coinor-csdp")
def test_rocq_asks_the_semidefinite_solver(session):
    reals = f"From Coq Require Import Reals. {IMPORTS[0]} Open Scope R_scope."
    state = begin(session, reals, "Lemma t (a b c : R) : a * a + b * b + c * c >= a * b + b * c + c * a.")
    psatz = Portfolio((Closer("lra.", 5), Closer("psatz R 2.", 20)))
    assert psatz.solve(session, state).proof == ("psatz R 2.",)


def _has_hammer() -> bool:
    if shutil.which("coqtop") is None or shutil.which("eprover") is None:
        return False
    with RocqSession() as opened:
        return isinstance(opened.start(HAMMER_WITH_E, "Goal True."), State)


@rocq
@pytest.mark.slow
def test_rocq_asks_e_through_the_hammer_and_the_proof_names_no_prover(session):
    if not _has_hammer():
        pytest.skip("needs CoqHammer and E: apt install libcoq-hammer eprover")
    one = "Set Hammer GSMode 0. Set Hammer Predictions 128. Set Hammer SAutoLimit 0."  # E once, not eight times
    before = f"{HAMMER_WITH_E}\n{one}\nRequire Import List. Import ListNotations."
    state = begin(session, before, "Lemma t (A : Type) (k l : list A) : length (k ++ l) = length l + length k.")
    result = Portfolio((Closer("hammer.", 120),)).solve(session, state)
    assert result.outcome == "proved"
    assert "hammer" not in result.script
    assert "app_length" in result.script
    assert Rocq().check_proof(before, state.opening.statement, result.script).accepted
