"""The tactics of a Lean file with the goals before and after each, as Lean's trace of its elaboration tells them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

OPTION = "trace.Elab.info=true"
"""The setting under which Lean says what it made of each piece of a file."""

_NODE = re.compile(r" *(?=• )")
_TACTIC = re.compile(
    r" *• \[?Tactic\]? @ ⟨(?P<line>\d+), (?P<column>\d+)⟩-⟨(?P<last>\d+), (?P<end>\d+)⟩(?: @ (?P<by>\S+))?\s*"
)
_SEQUENCES = ("evalTacticSeq1Indented", "evalTacticSeqBracketed")


class TacticRun(NamedTuple):
    """A tactic that Lean ran: where it stands, lines from 1 and columns from 0 on, and the goals around it."""

    line: int
    column: int
    last_line: int
    end_column: int
    before: str
    after: str


def tactic_runs(traces: Iterable[str]) -> list[TacticRun]:
    """The tactics in what Lean says under `OPTION`, in their order; of one that ran several times the first run.

    A tactic is a step of a sequence, nested ones included, which the file itself has (no macro wrote it) and which
    changes the goals: those that LeanDojo traces (Section 4 of arXiv 2306.15626). Goals are separated by a blank line.
    """
    found: dict[tuple[int, int, int, int], TacticRun] = {}
    for trace in traces:
        for run in _runs(trace.splitlines()):
            found.setdefault(run[:4], run)
    return sorted(found.values(), key=lambda it: (it.line, it.column, -it.last_line, -it.end_column))


def _runs(lines: list[str]) -> Iterator[TacticRun]:
    nodes = _nodes(lines)
    around: list[tuple[int, str]] = []
    for (number, indent), (stop, _) in pairwise([*nodes, (len(lines), 0)]):
        while around and around[-1][0] >= indent:
            around.pop()
        tactic = _TACTIC.fullmatch(lines[number])
        within = around[-1][1] if around else ""
        around.append((indent, (tactic["by"] or "") if tactic else ""))
        if tactic is None or not within.endswith(_SEQUENCES):
            continue
        body = [line[indent + 2 :] for line in lines[number + 1 : stop]]
        before, after = _goals(body)
        if before not in (after, "no goals") and not body[0].startswith('"'):
            line, column, last, end = (int(tactic[name]) for name in ("line", "column", "last", "end"))
            yield TacticRun(line, column, last, end, before, after)


def _nodes(lines: list[str]) -> list[tuple[int, int]]:
    """The lines at which the nodes of the tree begin, and how far each is indented.

    What is inside a node stands two further; a goal's `•` at the beginning of a line stands further than that.
    """
    found: list[tuple[int, int]] = []
    for number, line in enumerate(lines):
        node = _NODE.match(line)
        if node and (not found or node.end() <= found[-1][1] + 2):
            found.append((number, node.end()))
    return found


def _goals(body: list[str]) -> tuple[str, str]:
    """The goals before and after, from the lines of a node: its syntax, `before`, goals, `after`, goals."""
    marks = [number for number, line in enumerate(body) if re.fullmatch(r"(?:before|after)(?: no goals)?\s*", line)]
    first = next(it for it in marks if body[it].startswith("before"))
    second = next(it for it in marks if it > first and body[it].startswith("after"))
    return _separated(body[first:second]), _separated(body[second:])


def _separated(lines: list[str]) -> str:
    if "no goals" in lines[0]:
        return "no goals"
    goals: list[list[str]] = [[]]
    concluded = False
    for line in lines[1:]:
        if concluded and not line.startswith(" "):
            goals.append([])
            concluded = False
        goals[-1].append(line.rstrip())
        concluded |= line.startswith("⊢")
    return "\n\n".join("\n".join(goal) for goal in goals).strip()
