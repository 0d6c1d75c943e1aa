"""Talk to Lean 4 one tactic at a time, through the REPL that `lean-interact` drives."""

from __future__ import annotations

import re
import textwrap
from typing import Any, Protocol

from tendsto import extras
from tendsto.assistants.checking import REASON
from tendsto.assistants.lean import forbidden_command
from tendsto.assistants.protocol import Failure, Goal, Opening, State
from tendsto.validation import positive

REPLAY = 60.0
"""Seconds for each step that leads a new process back to a state before a tactic is tried in it."""

_TIME = re.compile(r"\(deterministic\) timeout|maximum number of heartbeats")
_NAMES = re.compile(r"(?P<names>\S+(?: \S+)*?) : (?P<what>.*)", re.DOTALL)


class Server(Protocol):
    """What a session asks of `lean_interact.LeanServer`."""

    def run(self, request: Any, *, timeout: float | None = None) -> Any:
        """Send one request and return its answer."""
        ...

    def is_alive(self) -> bool:
        """Whether the process runs."""
        ...

    def restart(self) -> None:
        """Kill the process and start another."""
        ...

    def kill(self) -> None:
        """End the process."""
        ...


class LeanSession:
    """A `ProofSession` with Lean 4.

    ```python
    from lean_interact import LeanREPLConfig, LeanServer, LocalProject

    config = LeanREPLConfig(project=LocalProject(directory="my-project"), memory_hard_limit_mb=8192)
    session = LeanSession(LeanServer(config))
    ```

    A tactic with one of the words that `Lean` refuses is refused here too, before Lean sees it. The process has the
    limits that `config` sets and that on time, but it is in no sandbox, and it runs in one process what a check would
    keep apart: a state that is `finished` is a reason to put the whole proof to `Lean.check`, not a proof.

    A tactic that does not end costs the process. The next call starts another and leads it back.

    **Arguments**

    - `server`: a `lean_interact.LeanServer`; `pip install 'tendsto[proof]'` brings it. It downloads Lean's REPL when
      its configuration is made, unless that names one.
    """

    def __init__(self, server: Server) -> None:
        self._interface = extras.load("lean_interact.interface", extra="proof")
        self._server = server
        self._environments: dict[str, int] = {}
        self._numbers: dict[tuple[Opening, tuple[str, ...]], int] = {}

    def start(self, before: str, statement: str, *, seconds: float = 600.0) -> State | Failure:
        """The state at the beginning of a proof; see `ProofSession.start`.

        **Arguments**

        - `before`: the file up to the theorem, its imports included.
        - `statement`: the theorem up to its proof, `theorem t (n : Nat) : n + 0 = n`.
        """
        positive("seconds", seconds)
        try:
            return self._open(Opening((before,), statement), seconds)
        except _Unusable as failure:
            return failure.failure

    def run(self, state: State, tactic: str, *, seconds: float = 10.0) -> State | Failure:
        """What one tactic makes of a state; see `ProofSession.run`.

        **Raises** `TypeError` if `tactic` is no text; `ValueError` for a time that is not positive.
        """
        positive("seconds", seconds)
        if not isinstance(tactic, str):
            raise TypeError(f"tactic: expected a text, got {type(tactic).__name__}")
        if not tactic.strip():
            return Failure("refused", "expected a tactic, got nothing")
        if reason := forbidden_command(tactic):
            return Failure("refused", reason)
        try:
            self._lead(state)
            return self._step(state.opening, state.path, tactic, seconds)
        except _Unusable as failure:
            return failure.failure

    def close(self) -> None:
        """End the process; the next call starts another."""
        self._forget()
        self._server.kill()

    def _lead(self, state: State) -> None:
        """Have the process know a state, by the tactics that lead to it."""
        if not self._server.is_alive():
            self._forget()
        if (state.opening, state.path) in self._numbers:
            return
        self._must(self._open(state.opening, REPLAY))
        for n, tactic in enumerate(state.path):
            self._must(self._step(state.opening, state.path[:n], tactic, REPLAY))

    def _must(self, reached: State | Failure) -> None:
        if isinstance(reached, Failure):
            raise _Unusable(reached)

    def _open(self, opening: Opening, seconds: float) -> State | Failure:
        if not self._server.is_alive():
            self._forget()
        (before,) = opening.before
        if before.strip() and before not in self._environments:
            head = self._ask(self._interface.Command(cmd=before), seconds)
            if error := _errors(head):
                return _failure(error)
            self._environments[before] = head.env
        command = self._interface.Command(cmd=f"{opening.statement} := by sorry", env=self._environments.get(before))
        answer = self._ask(command, seconds)
        if error := _errors(answer):
            return _failure(error)
        if len(answer.sorries) != 1 or answer.sorries[0].proof_state is None:
            return Failure("error", f"expected one theorem, got {len(answer.sorries)}")
        self._numbers[opening, ()] = answer.sorries[0].proof_state
        return _state(opening, (), [answer.sorries[0].goal])

    def _step(self, opening: Opening, path: tuple[str, ...], tactic: str, seconds: float) -> State | Failure:
        request = self._interface.ProofStep(proof_state=self._numbers[opening, path], tactic=tactic)
        answer = self._ask(request, seconds)
        if error := _errors(answer):
            return _failure(error)
        given_up = bool(answer.sorries) or "sorry" in answer.proof_status
        finished = answer.proof_status == "Completed" and not answer.goals and not given_up
        if not answer.goals and not finished and not given_up:
            return Failure("error", f"no goals are left, yet the proof is not accepted: {answer.proof_status}")
        self._numbers[opening, (*path, tactic)] = answer.proof_state
        return _state(opening, (*path, tactic), answer.goals, finished=finished, given_up=given_up)

    def _ask(self, request: Any, seconds: float) -> Any:
        if not self._server.is_alive():
            self._server.restart()
        try:
            return self._server.run(request, timeout=seconds)
        except TimeoutError:  # the server has killed the process
            raise _Unusable(Failure("timed out", f"no answer within {seconds:g} s")) from None
        except (OSError, ValueError) as error:  # the process is gone, or does not answer in JSON
            self.close()
            said = textwrap.shorten(str(error), REASON, placeholder=" …")
            raise _Unusable(Failure("crashed", f"Lean's process died: {said}")) from None
        except BaseException:
            self.close()  # in the middle of an answer nothing is known of the process
            raise

    def _forget(self) -> None:
        self._environments.clear()
        self._numbers.clear()


class _Unusable(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def goal(text: str) -> Goal:
    """The goal that Lean prints, of several the first: hypotheses, names a line, and the conclusion after `⊢`.

    A line may have several names of one type; one that begins with a space continues the line before. `case` lines name
    a goal and say nothing else of it.

    **Raises** `ValueError` if there is no conclusion.
    """
    entries: list[str] = []
    for line in text.splitlines():
        if line.startswith(" ") and entries:
            entries[-1] += f" {line.strip()}"
        elif line.strip():
            entries.append(line)
    hypotheses: list[tuple[str, str]] = []
    for entry in entries:
        if entry.startswith(("⊢ ", "| ")):
            return Goal(tuple(hypotheses), " ".join(entry.split()[1:]))
        if found := _NAMES.match(entry):
            what = " ".join(found["what"].split())
            hypotheses += [(name, what) for name in found["names"].split()]
    raise ValueError(f"text: no goal of Lean's: {text[:80]!r}")


def _state(
    opening: Opening, path: tuple[str, ...], goals: list[str], *, finished: bool = False, given_up: bool = False
) -> State:
    text = "\n\n".join(one.strip() for one in goals) or "no goals"
    return State(opening, path, tuple(goal(one) for one in goals), text, finished, given_up)


def _errors(answer: Any) -> str:
    """What Lean has against a request; empty if it accepts it."""
    if hasattr(answer, "message"):  # the answer is nothing but an error
        return str(answer.message) or "no message"
    return "\n".join(message.data for message in answer.messages if message.severity == "error")


def _failure(error: str) -> Failure:
    message = textwrap.shorten(error.removeprefix("Lean error:"), REASON, placeholder=" …")
    return Failure("timed out" if _TIME.search(error) else "error", message)
