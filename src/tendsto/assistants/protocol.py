"""What every proof assistant is asked and answers: a source, the statements it must prove, and a certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

Outcome = Literal["accepted", "rejected", "refused", "timed out", "out of memory", "crashed"]


class NotInstalled(RuntimeError):
    """Raised when a proof assistant is missing; its message says how to get it ("needs Rocq: apt install coq")."""


@dataclass(frozen=True)
class Theorem:
    """What a proof assistant found about one requested theorem.

    **Arguments**

    - `name`, `statement`: what was requested.
    - `axioms`: all that its proof rests on beyond the assistant's logic, as the assistant names it; empty also
      where the theorem was not accepted for another reason.
    - `reason`: why it was not accepted; empty if it was.
    """

    name: str
    statement: str
    axioms: tuple[str, ...] = ()
    reason: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the source proves the statement from allowed axioms only."""
        return not self.reason


@dataclass(frozen=True)
class Certificate:
    """The answer of a proof assistant to one source; failure of any kind is a value of `outcome`.

    **Arguments**

    - `outcome`: `accepted` (every requested theorem is), `rejected` (the assistant does not accept the source or
      one of the theorems), `refused` (the source contains a command that reads, writes or runs something),
      `timed out`, `out of memory` or `crashed`.
    - `theorems`: the findings by name, one for each theorem requested.
    - `messages`: what the assistant said about the source, for a reader.
    - `seconds`: wall time of the whole check.
    - `assistant`, `version`: who checked.
    - `isolation`: what the operating system enforced beside the limits on time, memory and file size.
    """

    outcome: Outcome
    theorems: Mapping[str, Theorem]
    messages: str
    seconds: float
    assistant: str
    version: str
    isolation: str

    @property
    def accepted(self) -> bool:
        """Whether every requested theorem is proved from allowed axioms only."""
        return self.outcome == "accepted"


@runtime_checkable
class ProofAssistant(Protocol):
    """A program whose small kernel decides what is proved."""

    def check(
        self,
        source: str,
        theorems: Mapping[str, str],
        *,
        preamble: str = "",
        seconds: float = 60.0,
        memory: int = 2 * 2**30,
    ) -> Certificate:
        """Decide whether `source` proves each of `theorems`.

        The source is untrusted: it may come from a stranger or a language model. The statements and the preamble
        are trusted, for what is certified is what *they* say.

        **Arguments**

        - `source`: a whole file in the assistant's language.
        - `theorems`: the statement that each name must prove, in the assistant's language.
        - `preamble`: what the statements need to be read (imports, notation scopes); the source neither sees nor
          changes it.
        - `seconds`: wall time for the whole check; `memory`: address space of each process, in bytes.

        **Returns** a `Certificate`; a source that fails, hangs or devours memory is an ordinary answer.

        **Raises** `ValueError` or `TypeError` for arguments that are no source, names, statements or limits.
        """
        ...


@dataclass(frozen=True)
class Goal:
    """What is left to prove, and from what.

    **Arguments**

    - `hypotheses`: names with their types (and bodies, `x := 3 : nat`), in order; a name is listed once.
    - `conclusion`: what is to be proved.
    """

    hypotheses: tuple[tuple[str, str], ...]
    conclusion: str

    def __str__(self) -> str:
        return "\n".join([*(f"{name} : {what}" for name, what in self.hypotheses), f"⊢ {self.conclusion}"])


@dataclass(frozen=True)
class Opening:
    """Where a proof begins.

    **Arguments**

    - `before`: the sentences of the file up to the theorem.
    - `statement`: the sentence that states it, `Theorem t : forall n, n + 0 = n.`
    """

    before: tuple[str, ...]
    statement: str


@dataclass(frozen=True)
class State:
    """A proof under way: an immutable value, whatever the assistant's process has done since.

    **Arguments**

    - `opening`: the theorem, where it stands.
    - `path`: the tactics that led here.
    - `goals`: what is left, the one that the next tactic acts on first.
    - `text`: the goals as the assistant prints them, without the numbers that change from run to run. Two states
      of one theorem with the same text are the same to a search.
    - `finished`: the assistant has accepted the proof, its end included.
    - `given_up`: a tactic has left a goal unproved (`admit`).
    - `messages`: what the assistant said while the last tactic ran; two states that differ in it alone are equal.
    """

    opening: Opening
    path: tuple[str, ...]
    goals: tuple[Goal, ...]
    text: str
    finished: bool = False
    given_up: bool = False
    messages: str = field(default="", compare=False)


@dataclass(frozen=True)
class Failure:
    """Why a tactic led nowhere.

    **Arguments**

    - `kind`: `error` (the assistant does not accept it), `refused` (it is no single tactic, or a command that
      reads, writes or runs something), `timed out`, or `crashed` (the process died: out of memory, a bug). Only
      an error shows that the tactic cannot work here.
    - `message`: what the assistant said.
    """

    kind: Literal["error", "refused", "timed out", "crashed"]
    message: str


class ProofSession(Protocol):
    """A conversation with a proof assistant, one tactic at a time, about states that stay what they are."""

    def start(self, before: str, statement: str, *, seconds: float = 600.0) -> State | Failure:
        """The state at the beginning of a proof.

        **Arguments**

        - `before`: the file up to the theorem; it is trusted.
        - `statement`: the sentence that states the theorem, or opens the goal; trusted as well.
        - `seconds`: wall time for what is not yet loaded.
        """
        ...

    def run(self, state: State, tactic: str, *, seconds: float = 10.0) -> State | Failure:
        """What one tactic makes of a state; the tactic is not trusted."""
        ...

    def close(self) -> None:
        """End the process; the next call starts another."""
        ...
