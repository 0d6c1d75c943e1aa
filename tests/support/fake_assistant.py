"""A proof assistant whose theorems are graphs: what each tactic does in each state is written in a table."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from tendsto.assistants import Failure, Opening, State
from tendsto.proof.policies import Suggestion

Table = Mapping[str, Mapping[str, tuple[str, float]]]
"""For each state its tactics: what comes of it ("→b" or an answer) and its probability."""

OPENING = Opening(("Require Import Graphs.",), "Theorem t : reachable.")
FAILURES = ("error", "refused", "timed out", "crashed")


def state(text: str, path: tuple[str, ...] = (), **more: bool) -> State:
    return State(OPENING, path, (), text, **more)


class FakeSession:
    """Answers from a table; `ran` holds what was asked, and `clock` advances by what a tactic takes."""

    def __init__(self, table: Table, root: str = "root", seconds: float = 0.0) -> None:
        self.table, self.root, self.seconds = table, root, seconds
        self.ran: list[tuple[str, str]] = []
        self.clock = 0.0

    def start(self, before: str, statement: str, *, seconds: float = 600.0) -> State | Failure:
        assert (before, statement) == ("Require Import Graphs.", "Theorem t : reachable.")
        return state(self.root)

    def run(self, at: State, tactic: str, *, seconds: float = 10.0) -> State | Failure:
        self.ran.append((at.text, tactic))
        self.clock += min(self.seconds, seconds)
        if self.seconds > seconds:
            return Failure("timed out", "")
        answer = self.table[at.text][tactic][0]
        path = (*at.path, tactic)
        if answer in FAILURES:
            return Failure(answer, "")  # type: ignore[arg-type]
        if answer == "finished":
            return state("No more goals.", path, finished=True)
        if answer == "given up":
            return state("No more goals, but you gave up.", path, given_up=True)
        return state(answer.removeprefix("→"), path)

    def close(self) -> None:
        pass


class TablePolicy:
    """Suggests what the table has, in the table's order."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def suggest(self, at: State, premises: Sequence[object], k: int) -> list[Suggestion]:
        return [Suggestion(tactic, math.log(share)) for tactic, (_, share) in self.table[at.text].items()][:k]


def random_table(seed: int, states: int = 12, circles: bool = True) -> dict[str, dict[str, tuple[str, float]]]:
    """A graph of states with random tactics; without circles, tactics only lead to states with a larger number."""
    chance = random.Random(seed)
    names = ["root", *(f"s{number}" for number in range(1, states))]
    answers = ["finished", "given up", *FAILURES]
    table: dict[str, dict[str, tuple[str, float]]] = {}
    for number, name in enumerate(names):
        table[name] = {}
        targets = names if circles else names[number + 1 :]
        for tactic in range(chance.randrange(0 if number else 1, 5)):
            leads = bool(targets) and chance.random() < 0.6
            answer = f"→{chance.choice(targets)}" if leads else chance.choice(answers)
            table[name][f"{name}.{tactic}"] = (answer, chance.uniform(0.01, 0.24))
    return table
