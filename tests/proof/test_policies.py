"""Policies without a model: templates, nearest neighbours, mixtures."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import numpy as np
import pytest
from fake_assistant import OPENING, FakeSession

from tendsto.assistants import Goal, Opening, State
from tendsto.proof.corpus import Premise
from tendsto.proof.nearest_tactics import NearestNeighbourTactics
from tendsto.proof.policies import MixedPolicy, PremiseTemplates, Suggestion, data_names, local_names, ranked


def at(conclusion: str, **hypotheses: str) -> State:
    return State(OPENING, (), (Goal(tuple(hypotheses.items()), conclusion),), conclusion)


def premise(name: str, kind: str = "theorem") -> Premise:
    return Premise("a.v", f"Coq.Lists.{name}", kind, 0, 1, "")


def probabilities(suggestions: list[Suggestion]) -> dict[str, float]:
    return {tactic: math.exp(log_probability) for tactic, log_probability in suggestions}


class Constant:
    def __init__(self, **tactics: float) -> None:
        self.tactics = tactics

    def suggest(self, state, premises, k) -> list[Suggestion]:
        return [Suggestion(f"{name}.", math.log(share)) for name, share in self.tactics.items()][:k]


def test_shares_are_of_all_also_where_few_are_returned():
    suggestions = ranked({"a": 1.0, "b": 3.0, "c": 0.0, "d": 1.0}, 2)
    assert [tactic for tactic, _ in suggestions] == ["b", "a"]
    assert probabilities(suggestions) == {"b": pytest.approx(0.6), "a": pytest.approx(0.2)}
    assert math.fsum(probabilities(ranked({"a": 1.0, "b": 3.0}, 9)).values()) == pytest.approx(1.0)
    assert ranked({}, 5) == []


def test_a_mixture_adds_probabilities():
    mixed = MixedPolicy([Constant(a=0.5, b=0.5), Constant(b=0.9, c=0.1)], [3, 1])
    found = mixed.suggest(at("g"), (), 10)
    assert [tactic for tactic, _ in found] == ["b.", "a.", "c."]
    assert probabilities(found) == {
        "b.": pytest.approx(0.75 * 0.5 + 0.25 * 0.9),
        "a.": pytest.approx(0.375),
        "c.": pytest.approx(0.025),
    }
    assert mixed.suggest(at("g"), (), 2) == found[:2]
    even = MixedPolicy([Constant(a=1.0), Constant(b=1.0)])
    assert probabilities(even.suggest(at("g"), (), 2)) == {"a.": pytest.approx(0.5), "b.": pytest.approx(0.5)}


def test_a_mixture_of_nothing_or_with_odd_weights_is_refused():
    with pytest.raises(ValueError, match="policies: must not be empty"):
        MixedPolicy([])
    for weights in ([1.0], [1.0, -1.0], [1.0, 0.0], [1.0, math.inf]):
        with pytest.raises(ValueError, match="weights: expected 2 positive"):
            MixedPolicy([Constant(), Constant()], weights)


def test_local_names_are_hypotheses_and_the_first_variables():
    goal = Goal(
        (("H", "a = b"), ("n", "nat")), "forall (A : Type) (l l' : list (option A)), In n l -> forall k : nat, k = k"
    )
    assert local_names(goal) == [
        ("H", "a = b"),
        ("n", "nat"),
        ("A", "Type"),
        ("l", "list (option A)"),
        ("l'", "list (option A)"),
    ]
    assert data_names(goal) == ["n", "l", "l'"]
    assert data_names(Goal((("A", "Type"), ("x", "A"), ("f", "A -> nat"), ("k", "list A")), "f x = 0")) == ["k"]
    assert local_names(Goal((), "forall n m : nat, n + m = m + n")) == [("n", "nat"), ("m", "nat")]
    assert local_names(Goal((), "n = m")) == []


@pytest.mark.parametrize("flavour", ["vanilla", "ssreflect"])
def test_templates_are_a_distribution_filled_with_premises_by_their_rank(flavour):
    policy = PremiseTemplates(flavour)
    state = at("forall n : nat, add n 0 = n", IH="n = m", A="Type")
    premises = [premise("best"), premise("second"), premise("twice", "definition")]
    found = probabilities(policy.suggest(state, premises, 1000))
    assert math.fsum(found.values()) == pytest.approx(1.0)
    assert found["rewrite best."] == pytest.approx(2 * found["rewrite second."])
    apply = {"vanilla": "apply", "ssreflect": "apply:"}[flavour]
    assert found[f"{apply} best."] == pytest.approx(2 * found[f"{apply} second."])
    unfold = "unfold " if flavour == "vanilla" else "rewrite /"
    assert f"{unfold}twice." in found
    assert f"{unfold}add." in found
    assert "rewrite twice." not in found
    induction = {"vanilla": "induction n.", "ssreflect": "elim: n."}[flavour]
    assert induction in found
    assert "rewrite IH." in found
    assert not any(re.search(r"\bA\b", tactic) for tactic in found)
    order = [score for _, score in policy.suggest(state, premises, 1000)]
    assert order == sorted(order, reverse=True)
    assert policy.suggest(state, premises, 7) == policy.suggest(state, premises, 1000)[:7]


def test_templates_for_lean_have_full_names_no_dots_and_a_fresh_name():
    state = State(OPENING, (), (Goal((("n", "Nat"), ("h", "n = 0")), "∀ (m : Nat), two n m"),), "")
    premises = [Premise("a", "Logic.self", "theorem", 0, 1, ""), Premise("a", "Logic.two", "definition", 1, 2, "")]
    found = {it.tactic: math.exp(it.log_probability) for it in PremiseTemplates("lean").suggest(state, premises, 1000)}
    assert math.isclose(sum(found.values()), 1)
    assert {"apply Logic.self", "rw [← Logic.self]", "simp [h]", "rw [h]", "induction n", "unfold Logic.two"} - {
        *found
    } == {"simp [h]"}
    assert "intro h2" in found
    assert "intro h{}" not in found
    assert not any(tactic.endswith(".") for tactic in found)
    assert math.isclose(found["apply Logic.self"], 3 * found["exact Logic.self"])


def test_templates_without_a_goal_or_of_another_flavour():
    assert PremiseTemplates().suggest(State(OPENING, (), (), ""), (), 5) == []
    with pytest.raises(ValueError, match="flavour: must be one of vanilla, ssreflect, lean"):
        PremiseTemplates("agda")  # type: ignore[arg-type]


def test_the_tactic_of_the_same_goal_comes_first():
    policy = NearestNeighbourTactics()
    policy.learn(at("n + 0 = n", n="nat"), "induction n.")
    policy.learn(at("P /\\ Q", P="Prop", Q="Prop"), "split.")
    policy.learn(at("length (a ++ b) = length a + length b", a="list A", b="list A"), "apply app_length.")
    assert policy.suggest(at("Q /\\ P", P="Prop", Q="Prop"), (), 1)[0].tactic == "split."
    assert policy.suggest(at("m + 0 = m", m="nat"), (), 1)[0].tactic == "induction m."
    found = policy.suggest(at("length (x ++ y) = length y + length x", x="list B", y="list B"), (), 5)
    assert found[0].tactic == "apply app_length."
    assert math.fsum(probabilities(found).values()) == pytest.approx(1.0)


def test_local_names_are_replaced_by_those_of_the_same_kind():
    policy = NearestNeighbourTactics()
    policy.learn(at("n + m = m + n", n="nat", m="nat", H="n = m"), "rewrite H, (add_comm n m).")
    other = at("q + p = p + q", E="q = p", p="nat", q="nat")
    assert policy.suggest(other, (), 1)[0].tactic == "rewrite E, (add_comm p q)."
    assert policy.suggest(at("0 + m = m", m="nat"), (), 5) == []  # three names are needed, one is there
    policy.learn(at("forall n m, n <= m -> P n"), "induction n.")
    assert policy.suggest(at("forall a b, a <= b -> P a"), (), 1)[0].tactic == "induction a."


def reference(records: list[tuple[set[str], str]], features: set[str]) -> dict[str, float]:
    """Votes of all records by the weighted Jaccard index, with plain sets."""
    count = {it: sum(it in known for known, _ in records) for known, _ in records for it in known}
    weight = {it: math.log(1 + len(records) / number) for it, number in count.items()}

    def total(members: set[str]) -> float:
        return sum(weight.get(it, math.log(1 + len(records))) for it in members)

    votes: dict[str, float] = {}
    for known, tactic in records:
        votes[tactic] = votes.get(tactic, 0.0) + (total(known & features) / total(known | features)) ** 2
    return {tactic: vote / sum(votes.values()) for tactic, vote in votes.items() if vote}


def test_votes_are_squares_of_the_weighted_jaccard_index():
    chance = np.random.default_rng(0)
    words = [f"w{number}" for number in range(12)]
    policy, records = NearestNeighbourTactics(), []

    def features(text: str) -> set[str]:
        parts = text.split()
        pairs = {f"⊢ {one} {other}" for one, other in pairwise(parts)}
        return {f"⊢ {it}" for it in parts} | pairs

    for number in range(30):
        text = " ".join(chance.choice(words, 4))
        records.append((features(text), f"tactic{number % 7}."))
        policy.learn(at(text), f"tactic{number % 7}.")
    query = " ".join([*chance.choice(words, 4), "never"])
    expected = reference(records, features(query))
    found = probabilities(policy.suggest(at(query), (), 99))
    assert found == {tactic: pytest.approx(share) for tactic, share in expected.items()}


def test_only_the_nearest_vote_and_of_equals_the_latest():
    policy = NearestNeighbourTactics(neighbours=1)
    policy.learn(at("a = b"), "old.")
    policy.learn(at("a = b"), "new.")
    policy.learn(at("c"), "far.")
    assert policy.suggest(at("a = b"), (), 9) == [Suggestion("new.", 0.0)]


def test_nothing_is_known_before_it_is_learned():
    policy = NearestNeighbourTactics()
    assert policy.suggest(at("a"), (), 5) == []
    policy.learn(at("b"), "later.")
    assert policy.suggest(at("a"), (), 5) == []  # nothing in common
    policy.learn(State(OPENING, (), (), "No more goals."), "idtac.")
    assert len(policy) == 1
    with pytest.raises(ValueError, match="neighbours: must"):
        NearestNeighbourTactics(0)


class Recorder(FakeSession):
    """A fake whose states have a goal with their own name."""

    def start(self, before, statement, *, seconds=600.0):
        return at("root")

    def run(self, state, tactic, *, seconds=10.0):
        after = super().run(state, tactic, seconds=seconds)
        if isinstance(after, State) and not after.finished:
            return State(after.opening, after.path, (Goal((), after.text),), after.text)
        return after


def test_a_proof_is_learned_step_by_step_without_its_bullets_until_it_breaks():
    table = {
        "root": {"split.": ("→two", 1.0)},
        "two": {"-": ("→one", 1.0)},
        "one": {"exact I.": ("→last", 1.0), "{": ("→one", 1.0)},
        "last": {"wrong.": ("error", 1.0)},
    }
    policy = NearestNeighbourTactics()
    opening = Opening((), "Theorem t : two.")
    assert policy.learn_proof(Recorder(table), opening, "Proof. split. - { exact I. wrong. exact I. Qed.") == 2
    assert policy.suggest(at("root"), (), 9)[0].tactic == "split."
    assert policy.suggest(at("one"), (), 9)[0].tactic == "exact I."
    assert policy.suggest(at("two"), (), 9) == []
