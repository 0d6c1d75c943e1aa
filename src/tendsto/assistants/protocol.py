"""What every proof assistant is asked and answers: a source, the statements it must prove, and a certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Outcome = Literal["accepted", "rejected", "refused", "timed out", "out of memory", "crashed"]


class NotInstalled(Exception):
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
