"""Talk to Lean 4 by files alone: what many tactics make of a state is one reading of one file, in the sandbox."""

from __future__ import annotations

import bisect
import re
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tendsto.assistants import Lean
from tendsto.assistants.checking import REASON
from tendsto.assistants.lean import Message, forbidden_command, listed_axioms
from tendsto.assistants.lean_session import goal
from tendsto.assistants.protocol import Failure, NotInstalled, Opening, State
from tendsto.proof.lean_file import Gap, OpenDeclaration, filled, open_declarations
from tendsto.validation import integer, positive

HEARTBEATS = 40_000
"""Lean's own measure of what one attempt may cost, a fifth of its default; a second or a few."""

WHOLE_PROOF = 200_000
"""The same where a whole proof is read that a person or a model wrote: Lean's default."""

ADDRESS_SPACE = 64 * 2**30
"""In bytes; Lean maps all of an imported library."""

TOO_MANY = "maximum number of errors"
"""What Lean says begins so where it leaves a file, after a hundred."""

_SORRY = re.compile(r"\bsorry\b")
_GIVES_UP = re.compile(r"(?<![\w.])(?:sorry|admit|stop)(?![\w'])")
_DECLARES = re.compile(
    r"(?<![\w.])(?:axiom|constant|opaque|theorem|lemma|example|def|abbrev|instance|structure|inductive|class|mutual"
    r"|namespace|section|end|universe|variable|attribute|export|import|alias|deriving)(?![\w'])"
)
_TIME = re.compile(r"\(deterministic\) timeout|maximum number of heartbeats|maximum recursion depth")
_UNSOLVED = "unsolved goals\n"


class Reading(NamedTuple):
    """What Lean says of attempts at a theorem.

    **Arguments**

    - `before`: the first error in the file before them; empty if there is none.
    - `said`: of each attempt, lines counted in it from 1 on; None if it was not read to its end.
    - `end`: what ended the reading before the last; empty if nothing did.
    """

    before: str
    said: list[list[Message] | None]
    end: Literal["", "timed out", "crashed"] = ""


def read_attempts(
    lean: Lean, before: str, attempts: Sequence[str], *, seconds: float, memory: int = ADDRESS_SPACE
) -> Reading:
    """Have Lean read attempts, each in its place after the text before them; whatever one does, the others are read.

    **Arguments**

    - `attempts`: whole declarations with different names; Lean says something of each.

    **Raises** `NotInstalled` without Lean; `ValueError` for a time that is not positive.
    """
    deadline = time.monotonic() + seconds
    reading = _read_once(lean, before, attempts, seconds, memory)
    left = [number for number, said in enumerate(reading.said) if said is None]
    if reading.before or reading.end or not left or time.monotonic() >= deadline:
        return reading
    rest = read_attempts(
        lean, before, [attempts[number] for number in left], seconds=deadline - time.monotonic(), memory=memory
    )
    said = list(reading.said)
    for number, one in zip(left, rest.said, strict=True):
        said[number] = one
    return Reading(rest.before, said, rest.end)


def _read_once(lean: Lean, before: str, attempts: Sequence[str], seconds: float, memory: int) -> Reading:
    source, starts = f"{before.rstrip()}\n", []
    for attempt in attempts:
        starts.append(source.count("\n") + 1)
        source += f"{attempt.rstrip()}\n"
    of: list[list[Message]] = [[] for _ in attempts]
    end: Literal["", "timed out", "crashed"] = ""
    last = -1
    try:
        for message in lean.messages(source, seconds=seconds, memory=memory):
            if message.text.startswith(TOO_MANY):
                last = max(last, 1)  # the first of all is read far enough to have failed
                break
            last = bisect.bisect_right(starts, message.line) - 1
            if last >= 0:
                of[last].append(message._replace(line=message.line - starts[last] + 1))
            elif message.severity == "error":
                return Reading(message.text, [None] * len(attempts))
        else:
            last = len(attempts)
    except NotInstalled:
        raise
    except TimeoutError:
        end = "timed out"
    except RuntimeError:
        end = "crashed"
    # What Lean was at when it ended, and all after it, is unknown.
    return Reading("", [said if number < last else None for number, said in enumerate(of)], end)


@dataclass(frozen=True)
class LeanFileSession:
    """A `ProofSession`, and a `BatchSession`, with Lean 4's compiler.

    A state is the theorem with the tactics so far; what a tactic makes of it is what Lean then says is unsolved. Every
    question has Lean read the file before the theorem again, once for all tactics that are asked about: many tactics at
    a time cost little more than one. `LeanSession` keeps a process instead, but in no sandbox.

    A tactic with one of the words that `Lean` refuses is refused, one that gives up (`sorry`), and one with a word that
    begins a declaration: whatever it closes, no axiom comes after it. A state that is `finished` is a reason to put the
    whole proof to `Lean.check`: it may rest on a `sorry` elsewhere in the file.

    **Arguments**

    - `lean`: the compiler.
    - `heartbeats`: what one attempt may cost; 0 for no limit.
    - `memory`: its address space, in bytes.

    **Raises** `ValueError` or `TypeError` for limits that are none; its methods `NotInstalled` without Lean.
    """

    lean: Lean
    heartbeats: int = HEARTBEATS
    memory: int = ADDRESS_SPACE

    def __post_init__(self) -> None:
        integer("heartbeats", self.heartbeats, low=0)
        integer("memory", self.memory, low=2**20)

    def start(self, before: str, statement: str, *, seconds: float = 600.0) -> State | Failure:
        """The state at the beginning of a proof; see `ProofSession.start`.

        **Arguments**

        - `before`: the file up to the theorem, its imports included.
        - `statement`: the theorem up to its proof, `theorem t (n : Nat) : n + 0 = n`; or whole, the proof to be found
          being its first `sorry`.
        """
        whole = statement if _SORRY.search(statement) else f"{statement} := sorry"
        if not open_declarations(whole):
            return Failure("error", "expected a theorem with a gap for its proof")
        (state,) = self._ask(State(Opening((before,), whole), (), (), ""), ["skip"], seconds)
        return State(state.opening, (), state.goals, state.text) if isinstance(state, State) else state

    def run(self, state: State, tactic: str, *, seconds: float = 10.0) -> State | Failure:
        """What one tactic makes of a state; see `ProofSession.run`."""
        return self.run_all(state, [tactic], seconds=seconds)[0]

    def run_all(self, state: State, tactics: Sequence[str], *, seconds: float = 10.0) -> list[State | Failure]:
        """What each of several tactics makes of a state; see `BatchSession.run_all`.

        **Raises** `TypeError` if a tactic is no text; `ValueError` for a time that is not positive.
        """
        positive("seconds", seconds)
        refused = [refusal(tactic) for tactic in tactics]
        asked = [tactic for tactic, reason in zip(tactics, refused, strict=True) if not reason]
        answers = iter(self._ask(state, asked, seconds) if asked else ())
        return [Failure("refused", reason) if reason else next(answers) for reason in refused]

    def close(self) -> None:
        """There is nothing to end."""

    def _ask(self, state: State, tactics: Sequence[str], seconds: float) -> list[State | Failure]:
        (before,) = state.opening.before
        declaration = open_declarations(state.opening.statement)[0]
        gap = declaration.gaps[0]
        attempts = [
            attempt(declaration, number, {gap: proof_in(declaration, gap, (*state.path, tactic))}, self.heartbeats)
            for number, tactic in enumerate(tactics)
        ]
        reading = read_attempts(self.lean, before, attempts, seconds=seconds, memory=self.memory)
        if reading.before:
            return [failure(reading.before)] * len(tactics)
        in_time = "Lean's process died" if reading.end == "crashed" else f"no answer within {seconds:g} s"
        late = Failure(reading.end or "timed out", in_time)
        line = 2 + f"{declaration.scope}{declaration.body[: gap.start]}".count("\n")
        return [
            late if said is None else _answer(state, tactic, line, said)
            for tactic, said in zip(tactics, reading.said, strict=True)
        ]


def attempt(declaration: OpenDeclaration, number: int, fillings: dict[Gap, str], heartbeats: int = HEARTBEATS) -> str:
    """A theorem under a name of its own with some gaps filled, and the question what it rests on."""
    name = f"{declaration.name.removesuffix('»')}_attempt_{number}{'»' * declaration.name.endswith('»')}"
    return (
        f"set_option maxHeartbeats {heartbeats} in\n"
        f"{declaration.scope}theorem {name}{declaration.levels}{filled(declaration.body, fillings)}\n"
        f"#print axioms {name}"
    )


def proof_in(declaration: OpenDeclaration, gap: Gap, tactics: Sequence[str]) -> str:
    """A proof by tactics that fits in the place of a gap; in parentheses Lean does not ask for a column."""
    steps = textwrap.indent("\n".join(tactics), " " * indentation(declaration, gap))
    end = "\n)" if "--" in steps.rpartition("\n")[2] else ")"  # a comment would hide it
    return f"(by\n{steps}{end}" if gap.place == "term" else f"exact (by\n{steps}{end}"


def indentation(declaration: OpenDeclaration, gap: Gap) -> int:
    """How far the tactics of `proof_in` are indented."""
    line = declaration.body[: gap.start].rpartition("\n")[2]
    return len(line) - len(line.lstrip()) + 4


def refusal(tactic: str, *, gaps: bool = False) -> str:
    """Why a tactic that is not trusted is not run; empty if it may be. With `gaps` it may give up."""
    if not isinstance(tactic, str):
        raise TypeError(f"tactic: expected a text, got {type(tactic).__name__}")
    if not tactic.strip():
        return "expected a tactic, got nothing"
    if tactic.count("/-") != tactic.count("-/") or tactic.count('"') % 2:
        return "begins a comment or a string that does not end"
    if not gaps and _GIVES_UP.search(tactic):
        return "gives up"
    if found := _DECLARES.search(tactic):
        return f"{found[0]} begins a command, not a tactic"
    return forbidden_command(tactic)


def _answer(state: State, tactic: str, line: int, said: Sequence[Message]) -> State | Failure:
    errors = [it for it in said if it.severity == "error"]
    path = (*state.path, tactic)
    if not errors:
        if any(listed_axioms(it.text) is not None for it in said):
            return State(state.opening, path, (), "no goals", finished=True)
        return Failure("crashed", "Lean does not say what the proof rests on")
    first = errors[0]
    if len(errors) == 1 and first.line == line and first.text.startswith(_UNSOLVED):
        goals = [it for it in re.split(r"\n\n+", first.text.removeprefix(_UNSOLVED).strip()) if it]
        return State(state.opening, path, tuple(map(goal, goals)), "\n\n".join(goals))
    return failure(first.text)


def failure(said: str) -> Failure:
    """What an error that Lean tells is."""
    return Failure("timed out" if _TIME.search(said) else "error", textwrap.shorten(said, REASON, placeholder=" …"))
