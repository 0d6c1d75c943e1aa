"""Best-first search against its definition, on graphs that a fake assistant knows, and on Rocq."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from fake_assistant import OPENING, FakeSession, TablePolicy, random_table, state

from tendsto.assistants import Certificate, Failure, State
from tendsto.proof import search
from tendsto.proof.corpus import Corpus, File, Premise
from tendsto.proof.index_set import IndexSet
from tendsto.proof.policies import PolicyUnavailable, Suggestion
from tendsto.proof.retrieval import RecencyRetriever
from tendsto.proof.search import AccessiblePremises, BestFirstProver, ProofResult
from tendsto.proof.tree import Attempt, Edge, Node, ProofTree, answer_of

UNDECIDED = ("timed out", "crashed")


def prove(table, tree: ProofTree | None = None, **options) -> ProofResult:
    session = FakeSession(table)
    return BestFirstProver(session, TablePolicy(table), **options).prove(OPENING, tree)


def attempts(table, session: FakeSession, node: Node) -> list[Attempt]:
    """All that the table has for a node, without stopping at a proof."""
    found = []
    for suggestion in TablePolicy(table).suggest(node.state, (), 99):
        result = session.run(node.state, suggestion.tactic)
        answer = answer_of(result)
        found.append(Attempt(suggestion, answer, result if isinstance(result, State) and answer == "state" else None))
    return found


def distances(tree: ProofTree) -> list[float]:
    """The length of the shortest proof below each node, by relaxing all edges until nothing changes."""
    best = [math.inf] * len(tree.nodes)
    for _ in tree.nodes:
        for node in tree.nodes:
            for edge in node.edges or ():
                after = 0.0 if edge.answer == "finished" else math.inf
                best[node.number] = min(best[node.number], 1 + (after if edge.target is None else best[edge.target]))
    return best


def child_status(tree: ProofTree, edge: Edge) -> str:
    if edge.target is not None:
        return tree.nodes[edge.target].status
    return {"finished": "proved", "timed out": "open", "crashed": "open"}.get(edge.answer, "failed")


def assert_invariants(tree: ProofTree, table) -> None:
    assert tree.expansions == sum(node.edges is not None for node in tree.nodes)
    for node, distance in zip(tree.nodes, distances(tree), strict=True):
        children = [child_status(tree, edge) for edge in node.edges or ()]
        assert (node.status == "proved") == ("proved" in children)
        assert (node.status == "failed") == (node.edges is not None and all(it == "failed" for it in children))
        assert node.distance == distance
        proof = tree.shortest_proof(node.number)
        assert (proof is None) == math.isinf(distance)
        if proof is not None:
            assert len(proof) == distance
            at = node.state
            for tactic in proof:
                after = FakeSession(table).run(at, tactic)
                assert isinstance(after, State)
                at = after
            assert at.finished


@pytest.mark.parametrize("seed", range(200))
def test_at_every_step_status_and_distance_are_what_their_definitions_say(seed):
    table = random_table(seed, circles=seed % 2 == 0)
    session = FakeSession(table)
    tree = ProofTree(state("root"))
    assert_invariants(tree, table)
    while (node := tree.best()) is not None:
        waiting = [it for it in tree.nodes if it.edges is None]
        assert node.log_probability == max(it.log_probability for it in waiting)
        tree.expand(attempts(table, session, node))
        assert_invariants(tree, table)
    assert len({it.state.text for it in tree.nodes}) == len(tree.nodes)
    assert {tactic for _, tactic in session.ran} == {t for it in tree.nodes for t in table[it.state.text]}


@pytest.mark.parametrize("seed", range(200))
def test_the_outcome_is_what_the_whole_graph_says(seed):
    table = random_table(seed, circles=seed % 2 == 0)
    seen = []
    result = prove(table, on_expansion=lambda tree, node, stats: seen.append((node.number, stats.expansions)))
    reachable, waiting = {"root"}, ["root"]
    while waiting:
        for answer, _ in table[waiting.pop()].values():
            if answer.startswith("→") and answer[1:] not in reachable:
                reachable.add(answer[1:])
                waiting.append(answer[1:])
    answers = [answer for name in reachable for answer, _ in table[name].values()]
    assert (result.outcome == "proved") == ("finished" in answers)
    assert result.outcome != "open"
    if result.outcome == "failed":
        assert not set(answers) & set(UNDECIDED)
    if result.outcome == "exhausted" and seed % 2:
        assert set(answers) & set(UNDECIDED)
    assert result.stats.expansions == len(seen) == len({number for number, _ in seen})
    assert [expansions for _, expansions in seen] == list(range(1, len(seen) + 1))
    assert result.tree is not None
    assert result.stats.states == len(result.tree.nodes)
    assert prove(table).proof == result.proof


def test_the_likeliest_path_is_followed_and_a_sum_of_logarithms_decides():
    table = {
        "root": {"a": ("→a", 0.5), "b": ("→b", 0.3)},
        "a": {"aa": ("→aa", 0.5), "ab": ("→ab", 0.4)},  # paths 0.25 and 0.2, both below b's 0.3
        "b": {"bb": ("→bb", 0.9)},  # 0.27
        "aa": {"no": ("error", 0.1)},
        "ab": {"no": ("error", 0.1)},
        "bb": {"no": ("error", 0.1)},
    }
    order = []
    result = prove(table, on_expansion=lambda tree, node, stats: order.append(node.state.text))
    assert order == ["root", "a", "b", "bb", "aa", "ab"]
    assert result.outcome == "failed"


def test_tactics_run_in_descending_probability_until_one_ends_the_proof():
    table = {"root": {"c": ("error", 0.1), "a": ("error", 0.5), "b": ("finished", 0.3)}}
    session = FakeSession(table)
    result = BestFirstProver(session, TablePolicy(table)).prove(OPENING)
    assert session.ran == [("root", "a"), ("root", "b")]
    assert result.proof == ("b",)


def test_no_more_tactics_are_run_than_asked_for():
    table = {"root": {"a": ("error", 0.5), "b": ("error", 0.3), "c": ("finished", 0.2)}}
    assert prove(table, num_tactics=2).outcome == "failed"
    assert prove(table, num_tactics=3).outcome == "proved"


def test_a_state_met_again_by_a_likelier_path_keeps_its_first_priority_and_is_expanded_once():
    table = {
        "root": {"a": ("→a", 0.9), "x": ("→x", 0.05)},
        "a": {"up": ("→x", 0.9)},
        "x": {"end": ("finished", 0.5), "again": ("→x", 0.5)},
    }
    result = prove(table)
    assert result.tree is not None
    by_text = {node.state.text: node for node in result.tree.nodes}
    assert by_text["x"].log_probability == pytest.approx(math.log(0.05))
    assert result.proof == ("x", "end")
    assert result.stats.expansions == 3


def test_the_shortest_proof_known_is_the_one_reported():
    table = {
        "root": {"long": ("→a", 0.6), "short": ("→b", 0.3)},
        "a": {"on": ("→b", 0.9)},
        "b": {"end": ("finished", 0.5)},
    }
    result = prove(table)
    assert result.proof == ("short", "end")


@pytest.mark.parametrize("answer", ["timed out", "crashed"])
def test_a_tactic_that_never_answers_proves_no_failure(answer):
    table = {"root": {"a": ("→a", 0.6), "b": ("error", 0.3)}, "a": {"slow": (answer, 0.9)}}
    result = prove(table)
    assert result.outcome == "exhausted"
    assert [node.status for node in result.tree.nodes] == ["open", "open"]
    assert result.stats.tactics[answer] == 1


@pytest.mark.parametrize("answer", ["error", "refused", "given up"])
def test_a_tactic_that_does_not_work_is_a_failure(answer):
    assert prove({"root": {"a": ("→a", 0.6)}, "a": {"no": (answer, 0.9)}}).outcome == "failed"


def test_a_state_without_suggestions_has_failed():
    assert prove({"root": {"a": ("→a", 0.6)}, "a": {}}).outcome == "failed"


def test_states_that_lead_to_each_other_exhaust_the_search():
    result = prove({"root": {"a": ("→a", 0.6)}, "a": {"back": ("→root", 0.9)}})
    assert result.outcome == "exhausted"
    assert result.stats.expansions == 2


CHAIN = {
    "root": {"1": ("→s1", 0.9)},
    "s1": {"2": ("→s2", 0.9)},
    "s2": {"3": ("finished", 0.9)},
}


def test_the_limit_on_expansions_is_exact_and_a_proof_in_the_last_one_counts():
    assert prove(CHAIN, max_expansions=2).outcome == "open"
    assert prove(CHAIN, max_expansions=2).stats.expansions == 2
    assert prove(CHAIN, max_expansions=3).outcome == "proved"


def test_a_proof_found_as_time_runs_out_is_reported(monkeypatch):
    session = FakeSession(CHAIN, seconds=2.0)
    monkeypatch.setattr(search.time, "monotonic", lambda: session.clock)
    prover = BestFirstProver(session, TablePolicy(CHAIN), seconds=6.0, tactic_seconds=5.0)
    result = prover.prove(OPENING)
    assert session.clock == 6.0  # the limit is reached by the tactic that ends the proof
    assert result.outcome == "proved"


def test_an_expansion_that_runs_out_of_time_is_not_recorded_and_a_later_search_makes_up_for_it(monkeypatch):
    session = FakeSession(CHAIN, seconds=2.0)
    monkeypatch.setattr(search.time, "monotonic", lambda: session.clock)
    prover = BestFirstProver(session, TablePolicy(CHAIN), seconds=3.0)
    first = prover.prove(OPENING)
    assert (first.outcome, first.stats.expansions, session.clock) == ("open", 1, 3.0)
    assert [node.edges is None for node in first.tree.nodes] == [False, True]
    second = BestFirstProver(session, TablePolicy(CHAIN), seconds=10.0).prove(OPENING, first.tree)
    assert second.proof == ("1", "2", "3")
    assert session.ran == [("root", "1"), ("s1", "2"), ("s1", "2"), ("s2", "3")]


@pytest.mark.parametrize("seed", range(0, 200, 10))
def test_a_search_in_two_parts_through_json_is_the_whole_search(seed):
    table = random_table(seed)
    whole = prove(table)
    half = max(1, whole.stats.expansions // 2)
    first = prove(table, max_expansions=half)
    text = json.dumps(first.tree.to_json())
    tree = ProofTree.from_json(json.loads(text))
    assert tree.to_json() == first.tree.to_json()
    second = prove(table, tree)
    assert (second.outcome, second.proof) == (whole.outcome, whole.proof)
    assert second.tree.to_json() == whole.tree.to_json()
    assert second.tree.expansions == whole.tree.expansions
    if whole.stats.expansions > 1:
        assert first.stats.expansions + second.stats.expansions == whole.stats.expansions
    assert json.loads(json.dumps(second.stats.to_json()))["tactics"] == dict(second.stats.tactics)


def test_what_is_no_tree_is_refused():
    with pytest.raises(ValueError, match="content: is no tree"):
        ProofTree.from_json({"opening": {"before": []}})
    with pytest.raises(ValueError, match="tree: belongs to another start"):
        prove(CHAIN, ProofTree(state("another")))
    with pytest.raises(ValueError, match="no node is left"):
        prove({"root": {}}).tree.expand([])


def certificate(outcome, messages: str = "") -> Certificate:
    return Certificate(outcome, {}, messages, 0.0, "fake", "1", "none")


def test_only_what_the_check_accepts_is_proved():
    table = {
        "root": {"cheat": ("finished", 0.6), "a": ("→a", 0.3)},
        "a": {"end": ("finished", 0.5)},
    }
    asked = []

    def check(before, statement, proof) -> Certificate:
        asked.append((before, statement, proof))
        return certificate("rejected" if "cheat" in proof else "accepted")

    result = prove(table, check=check)
    assert result.proof == ("a", "end")
    assert result.certificate is not None
    assert result.certificate.accepted
    assert asked == [(OPENING.before[0], OPENING.statement, proof) for proof in ("cheat", "a\nend")]
    assert result.stats.checks == 2
    assert result.stats.tactics == {"rejected": 1, "state": 1, "finished": 1}
    table["root"].pop("a")
    assert prove(table, check=check).outcome == "failed"
    assert prove(table, check=lambda *_: certificate("timed out")).outcome == "exhausted"


def test_where_the_shortest_way_is_not_accepted_the_way_that_was_checked_is_reported():
    table = {
        "root": {"a": ("→a", 0.6), "c": ("→c", 0.05)},
        "a": {"d": ("→d", 0.9)},
        "d": {"b": ("→b", 0.01)},
        "c": {"b'": ("→b", 0.9)},
        "b": {"end": ("finished", 0.5)},
    }
    assert prove(table, check=lambda *_: certificate("accepted")).proof == ("c", "b'", "end")

    def check(before, statement, proof) -> Certificate:
        return certificate("rejected" if "'" in proof else "accepted")

    result = prove(table, check=check)
    assert result.proof == ("a", "d", "b", "end")
    assert result.certificate is not None
    assert result.certificate.accepted
    assert result.stats.checks == 2


def test_a_proof_under_way_goes_on_from_its_path():
    start = state("s1", ("1",))
    result = BestFirstProver(FakeSession(CHAIN), TablePolicy(CHAIN)).prove(start)
    assert result.proof == ("1", "2", "3")
    assert result.script == "1\n2\n3"
    assert BestFirstProver(FakeSession(CHAIN), TablePolicy(CHAIN)).prove(state("", ("x",), finished=True)).proof == (
        "x",
    )


class Closed(FakeSession):
    def __init__(self, failure: Failure) -> None:
        super().__init__({})
        self.failure = failure

    def start(self, before: str, statement: str, *, seconds: float = 600.0) -> State | Failure:
        return self.failure


def test_a_theorem_that_cannot_be_opened():
    policy = TablePolicy({})
    with pytest.raises(ValueError, match="start: the assistant does not accept it: unknown name"):
        BestFirstProver(Closed(Failure("error", "unknown name")), policy).prove(OPENING)
    slow = BestFirstProver(Closed(Failure("timed out", "no answer")), policy).prove(OPENING)
    assert (slow.outcome, slow.reason) == ("open", "the proof did not open: no answer")


class Selector:
    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def select(self, at: State, k: int) -> list[str]:
        self.asked.append((at.text, k))
        return [f"premise of {at.text}"]


def test_premises_are_retrieved_for_every_state():
    selector, given = Selector(), []

    class Policy(TablePolicy):
        def suggest(self, at, premises, k) -> list[Suggestion]:
            given.append(premises)
            return super().suggest(at, premises, k)

    prover = BestFirstProver(FakeSession(CHAIN), Policy(CHAIN), selector, num_premises=7)
    prover.prove(OPENING)
    assert selector.asked == [("root", 7), ("s1", 7), ("s2", 7)]
    assert given == [["premise of root"], ["premise of s1"], ["premise of s2"]]


def test_a_policy_that_cannot_say_leaves_the_search_open():
    class Silent(TablePolicy):
        def suggest(self, at, premises, k) -> list[Suggestion]:
            if at.text == "s1":
                raise PolicyUnavailable("the budget is spent")
            return super().suggest(at, premises, k)

    result = BestFirstProver(FakeSession(CHAIN), Silent(CHAIN)).prove(OPENING)
    assert (result.outcome, result.reason, result.stats.expansions) == ("open", "the budget is spent", 1)
    assert prove(CHAIN, result.tree).proof == ("1", "2", "3")


def test_only_accessible_premises_are_ranked_for_a_state():
    premises = tuple(Premise("a.v", f"a.p{n}", "theorem", n, n + 1, f"Lemma p{n} : x{n % 3} = 0.") for n in range(9))
    corpus = Corpus((File("a.v", (), 0, 9),), premises, ())
    accessible = IndexSet.of(np.array([0, 2, 3, 5]))
    selector = AccessiblePremises(RecencyRetriever().fit(corpus), corpus, accessible)
    assert selector.select(state("x0 = 0"), 3) == [premises[5], premises[3], premises[2]]
    assert selector.select(state("x0 = 0"), 0) == []


@pytest.mark.parametrize("name", ["num_tactics", "seconds", "tactic_seconds", "max_expansions"])
def test_limits_are_checked(name):
    with pytest.raises(ValueError, match=f"{name}: must"):
        BestFirstProver(FakeSession({}), TablePolicy({}), **{name: 0})
