"""The states that a search for a proof has met: which are proved, which have failed, and what to look at next."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from tendsto.assistants.protocol import Failure, Goal, Opening, State
from tendsto.proof.policies import Suggestion

Status = Literal["open", "proved", "failed"]

Answer = Literal["state", "finished", "given up", "error", "refused", "rejected", "timed out", "crashed"]
"""What came of a tactic.

It led to a `state`; or ended the proof (`finished`); or left a goal unproved on purpose (`given up`); or the assistant
said no (`error`, `refused`); or it ended a proof that the independent check then `rejected`; or there was no answer
(`timed out`, `crashed`).
"""

_UNDECIDED = frozenset({"timed out", "crashed"})


class Attempt(NamedTuple):
    """A suggestion that was run: what came of it, and the state it led to if the answer is `state`."""

    suggestion: Suggestion
    answer: Answer
    state: State | None = None


@dataclass(frozen=True)
class Edge:
    """A tactic that was run in a state.

    **Arguments**

    - `tactic`, `log_probability`: what the policy suggested.
    - `answer`: what came of it.
    - `target`: the number of the node it led to, if the answer is a `state`.
    """

    tactic: str
    log_probability: float
    answer: Answer
    target: int | None = None


@dataclass
class Node:
    """A state of the proof.

    **Arguments**

    - `number`: its place in `ProofTree.nodes`, in the order of discovery.
    - `state`: the state as it was first reached.
    - `log_probability`: the sum of the tactics' log-probabilities on that first path; the search's priority.
    - `status`: `proved` if a tactic in it ends the proof or leads to a proved node; `failed` if it was expanded and
      every tactic led to a failed node or did not work; else `open`.
    - `distance`: the number of tactics in the shortest proof known from here, ∞ if there is none.
    - `edges`: the tactics tried, in order; `None` before it is expanded.
    - `parents`: the nodes with an edge to this one.
    """

    number: int
    state: State
    log_probability: float
    status: Status = "open"
    distance: float = math.inf
    edges: tuple[Edge, ...] | None = None
    parents: list[int] = field(default_factory=list)


class ProofTree:
    """What is known of the states below a root; pure bookkeeping, without a proof assistant.

    States are told apart by their text, so what is called a tree is a directed graph, and may have circles. A state
    that is met again by a likelier path keeps its first priority, as in the reference implementation of LeanDojo.

    A tactic that timed out or crashed its process shows nothing: a node with one is never `failed`.

    **Arguments**

    - `root`: the state that is to be proved.
    """

    def __init__(self, root: State) -> None:
        self.nodes: list[Node] = []
        self.expansions = 0
        self._numbers: dict[str, int] = {}
        self._queue: list[tuple[float, int]] = []
        self._add(root, 0.0)

    @property
    def root(self) -> Node:
        """The node of the state that is to be proved."""
        return self.nodes[0]

    def best(self) -> Node | None:
        """The unexpanded node with the highest priority, of several the one met first; `None` if all are expanded."""
        return self.nodes[self._queue[0][1]] if self._queue else None

    def expand(self, attempts: Sequence[Attempt]) -> None:
        """Record what the tactics made of the state of `best`, in the order in which they were run.

        **Raises** `ValueError` if every node is expanded.
        """
        if not self._queue:
            raise ValueError("attempts: no node is left to expand")
        node = self.nodes[heapq.heappop(self._queue)[1]]
        self.expansions += 1
        node.edges = tuple(self._edge(node, *attempt) for attempt in attempts)
        self._update(node.number)

    def shortest_proof(self, number: int = 0) -> tuple[str, ...] | None:
        """The tactics of the shortest proof known from a node; of several the one tried first; `None` if none is."""
        if self.nodes[number].status != "proved":
            return None
        tactics = []
        node: Node | None = self.nodes[number]
        while node is not None:
            edge = min(node.edges or (), key=self._distance)
            tactics.append(edge.tactic)
            node = None if edge.target is None else self.nodes[edge.target]
        return tuple(tactics)

    def to_json(self) -> dict[str, Any]:
        """The tree as objects that `json.dumps` takes; `from_json` gives it back."""
        opening = asdict(self.root.state.opening)
        nodes = [
            {
                "path": list(node.state.path),
                "goals": [asdict(goal) for goal in node.state.goals],
                "text": node.state.text,
                "log_probability": node.log_probability,
                "status": node.status,
                "distance": None if math.isinf(node.distance) else node.distance,
                "edges": None if node.edges is None else [asdict(edge) for edge in node.edges],
            }
            for node in self.nodes
        ]
        return {"opening": opening, "nodes": nodes}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ProofTree:
        """The tree that `to_json` wrote, to look at or to search on.

        **Raises** `ValueError` if the content does not have that form.
        """
        try:
            opening = Opening(tuple(content["opening"]["before"]), content["opening"]["statement"])
            tree = cls.__new__(cls)
            tree.nodes, tree._numbers, tree._queue = [], {}, []
            for entry in content["nodes"]:
                goals = tuple(
                    Goal(tuple((name, what) for name, what in goal["hypotheses"]), goal["conclusion"])
                    for goal in entry["goals"]
                )
                state = State(opening, tuple(entry["path"]), goals, entry["text"])
                tree._add(state, float(entry["log_probability"]))
            for node, entry in zip(tree.nodes, content["nodes"], strict=True):
                if entry["edges"] is None:
                    continue
                node.edges = tuple(Edge(**edge) for edge in entry["edges"])
                for edge in node.edges:
                    if edge.target is not None:
                        tree._link(node, tree.nodes[edge.target])
            tree.expansions = sum(node.edges is not None for node in tree.nodes)
            tree._queue = [entry for entry in tree._queue if tree.nodes[entry[1]].edges is None]
            heapq.heapify(tree._queue)
            for node in tree.nodes:
                tree._update(node.number)
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"content: is no tree of a search: {error!r}") from None
        return tree

    def _add(self, state: State, log_probability: float) -> int:
        number = len(self.nodes)
        self.nodes.append(Node(number, state, log_probability))
        self._numbers[state.text] = number
        heapq.heappush(self._queue, (-log_probability, number))
        return number

    def _edge(self, source: Node, suggestion: Suggestion, answer: Answer, state: State | None) -> Edge:
        if answer != "state":
            return Edge(*suggestion, answer)
        assert state is not None  # as the answer says
        number = self._numbers.get(state.text)
        if number is None:
            number = self._add(state, source.log_probability + suggestion.log_probability)
        self._link(source, self.nodes[number])
        return Edge(*suggestion, answer, number)

    def _link(self, source: Node, target: Node) -> None:
        if source.number not in target.parents:
            target.parents.append(source.number)

    def _update(self, number: int) -> None:
        """Carry a change at a node back to all that it concerns."""
        changed = [number]
        while changed:
            node = self.nodes[changed.pop()]
            edges = node.edges
            if edges is None:
                continue
            status: Status = "open"
            if any(self._status(edge) == "proved" for edge in edges):
                status = "proved"
            elif all(self._status(edge) == "failed" for edge in edges):
                status = "failed"
            distance = 1 + min(map(self._distance, edges), default=math.inf)
            if (status, distance) != (node.status, node.distance):
                node.status, node.distance = status, distance
                changed += node.parents

    def _status(self, edge: Edge) -> Status:
        if edge.target is not None:
            return self.nodes[edge.target].status
        if edge.answer == "finished":
            return "proved"
        return "open" if edge.answer in _UNDECIDED else "failed"

    def _distance(self, edge: Edge) -> float:
        """The number of tactics that the shortest known proof has after this one."""
        if edge.target is not None:
            return self.nodes[edge.target].distance
        return 0 if edge.answer == "finished" else math.inf


def answer_of(result: State | Failure) -> Answer:
    """What came of a tactic, of what a session returned for it."""
    if isinstance(result, Failure):
        return result.kind
    if result.finished:
        return "finished"
    return "given up" if result.given_up else "state"
