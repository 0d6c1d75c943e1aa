"""What the checks of all proof assistants share: when they end, what they say, and how axioms are audited."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from tendsto.assistants.protocol import Outcome, Theorem
from tendsto.assistants.sandbox import Run
from tendsto.validation import integer, positive

MESSAGES = 20_000
"""How many characters of what an assistant says about a source a certificate keeps."""

REASON = 500
"""How many characters of an error message stand in a theorem's reason."""

_OUT_OF_MEMORY = re.compile(r"(out of|not enough|allocate) memory|bad_alloc|failed to create thread", re.IGNORECASE)


class Stop(Exception):
    """The check ends here, with this outcome for the whole file."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome: Outcome = outcome


def stop_unless_exited_well(run: Run, subject: str, error: str) -> None:
    """Stop if a command failed; `error` is what it says then.

    **Raises** `Stop`.
    """
    if (run.status, run.code) == ("exited", 0):
        return
    if run.status == "timed out":
        raise Stop("timed out", f"{subject}: ran out of time")
    if _OUT_OF_MEMORY.search(run.errors):
        raise Stop("out of memory", f"{subject}: needs more memory than allowed")
    if run.status == "killed":
        raise Stop("crashed", f"{subject}: ended by signal {run.code}")
    if run.code == 1:
        raise Stop("rejected", f"{subject}: {error}")
    raise Stop("crashed", f"{subject}: exit code {run.code}: {error}")


def audited(theorem: Theorem, axioms: tuple[str, ...], allowed: tuple[str, ...]) -> Theorem:
    """The finding about a proof that rests on these axioms."""
    surplus = [axiom for axiom in axioms if axiom not in allowed]
    reason = f"rests on what is not allowed: {', '.join(surplus)}" if surplus else ""
    return replace(theorem, axioms=axioms, reason=reason)


def forbidden(text: str, words: re.Pattern[str], because: Mapping[str, str]) -> str:
    """What is said against a text that contains one of the words; empty if none does."""
    found = words.search(text)
    if found is None:
        return ""
    line = text.count("\n", 0, found.start()) + 1
    return f"line {line} contains `{found[1]}`, which {because[found[1]]}"


def validate(
    source: str,
    theorems: Mapping[str, str],
    preamble: str,
    seconds: float,
    memory: int,
    *,
    name: re.Pattern[str],
    language: str,
) -> None:
    """Look at the arguments of `ProofAssistant.check`.

    **Raises** `TypeError` or `ValueError`, naming the one at fault.
    """
    for argument, text in (("source", source), ("preamble", preamble), *theorems.items()):
        if not isinstance(text, str):
            raise TypeError(f"{argument}: expected a text, got {type(text).__name__}")
    if not theorems:
        raise ValueError("theorems: must not be empty; a check that requests nothing can never fail")
    for theorem, statement in theorems.items():
        if not name.fullmatch(theorem):
            raise ValueError(f"theorems: {theorem!r} is not a name of {language}, such as `bound` or `Section.bound`")
        if not statement.strip():
            raise ValueError(f"theorems: the statement of {theorem} must not be empty")
    positive("seconds", seconds)
    integer("memory", memory, low=2**20)
