"""Fill the gaps of a Lean proof with Lean's own automation, all of it in one reading of the file."""

from __future__ import annotations

import bisect
import re
import textwrap
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

from tendsto.assistants import Lean
from tendsto.assistants.lean import Message, listed_axioms
from tendsto.proof.lean_file import Gap, filled, forms
from tendsto.proof.project import OpenLeanTheorem
from tendsto.validation import positive

LEAN_CLOSERS = (
    *("by rfl", "by assumption", "by trivial", "by decide", "by simp", "by simp_all", "by omega", "by norm_num"),
    *("by ring", "by positivity", "by linarith", "by gcongr", "by field_simp", "by tauto", "by aesop", "by grind"),
    *("by nlinarith", "by exact?"),
)
"""Proofs that are tried in each gap; the first that holds is taken, and what Lean does not know holds nowhere."""

HEARTBEATS = 40_000
"""Lean's own measure of what one attempt may cost, a fifth of its default; a second or a few."""

ADDRESS_SPACE = 64 * 2**30
"""In bytes; Lean maps all of an imported library."""

_SUGGESTED = re.compile(r"Try this:\s*(?:\[apply\]\s*)?(.+)", re.DOTALL)
_SORRY = "sorryAx"


class LeanProof(NamedTuple):
    """What came of a theorem.

    **Arguments**

    - `outcome`: `proved`; `open`; or `broken`: Lean does not accept the file before it, or its statement.
    - `body`: what is to follow its name; `axioms`: what it rests on; `reason`: why it is not proved.
    """

    outcome: Literal["proved", "open", "broken"]
    body: str = ""
    axioms: tuple[str, ...] = ()
    reason: str = ""


class _Attempt(NamedTuple):
    """One gap filled; the first attempt fills none."""

    gap: Gap | None
    text: str
    lines: range


def fill_gaps(
    theorem: OpenLeanTheorem, lean: Lean, closers: Sequence[str] = LEAN_CLOSERS, *, seconds: float = 60.0
) -> LeanProof:
    """Fill the gaps of a theorem, each on its own, and have Lean read the result where it stands, in a fresh process.

    The file is the user's own and is not refused any word; so are the closers. What is proved was accepted by Lean's
    kernel and rests on no `sorry`, its own or another theorem's.

    **Arguments**

    - `closers`: proof terms, `by omega`.
    - `seconds`: wall time for the attempts, and again for the check.

    **Raises** `NotInstalled` without Lean; `ValueError` for a time that is not positive.
    """
    positive("seconds", seconds)
    source, attempts = _attempts(theorem, closers)
    started = time.monotonic()
    outcome, said = lean.read(source, seconds=seconds, memory=ADDRESS_SPACE)
    errors, information = _by_attempt(said, attempts)
    if early := errors[-1] or errors[0]:
        return LeanProof("broken", reason=_shortened(early[0]))
    found: dict[Gap, str] = {}
    for number, attempt in enumerate(attempts[1:], 1):
        done = not errors[number] and any(listed_axioms(text) is not None for text in information[number])
        if done and attempt.gap is not None and attempt.gap not in found:
            found[attempt.gap] = _as_suggested(attempt.text, information[number])
    gaps = theorem.declaration.gaps
    if left := len(gaps) - len(found):
        spent = time.monotonic() - started
        late = "" if outcome in ("accepted", "rejected") else f", {outcome} after {spent:.0f} s"
        return LeanProof("open", reason=f"nothing that was tried fills {left} of {len(gaps)} gaps{late}")
    return _checked(theorem, lean, filled(theorem.attempt, found), seconds)


def _attempts(theorem: OpenLeanTheorem, closers: Sequence[str]) -> tuple[str, list[_Attempt]]:
    declaration = theorem.declaration
    tried: list[tuple[Gap | None, str]] = [(None, "")]
    tried += [(gap, form) for closer in closers for gap in declaration.gaps for form in forms(closer, gap.place)]
    source, attempts = f"{theorem.before.rstrip()}\n", []
    for number, (gap, form) in enumerate(tried):
        name = f"{declaration.name.removesuffix('»')}_attempt_{number}{'»' * declaration.name.endswith('»')}"
        body = declaration.body if gap is None else filled(declaration.body, {gap: form})
        first = source.count("\n") + 1
        source += (
            f"set_option maxHeartbeats {HEARTBEATS} in\n"
            f"{declaration.scope}theorem {name}{declaration.levels}{body}\n#print axioms {name}\n"
        )
        attempts.append(_Attempt(gap, form, range(first, source.count("\n") + 1)))
    return source, attempts


def _by_attempt(
    said: Sequence[Message], attempts: Sequence[_Attempt]
) -> tuple[defaultdict[int, list[str]], defaultdict[int, list[str]]]:
    """Errors and what else Lean says, by the number of the attempt; -1 is the file before them."""
    errors, information = defaultdict[int, list[str]](list), defaultdict[int, list[str]](list)
    starts = [attempt.lines.start for attempt in attempts]
    for message in said:
        kept = errors if message.severity == "error" else information
        kept[bisect.bisect_right(starts, message.line) - 1].append(message.text)
    return errors, information


def _as_suggested(text: str, information: Sequence[str]) -> str:
    """The text of an attempt, with what Lean says that it found in the place of `exact?`."""
    found = [it[1].strip() for said in information if (it := _SUGGESTED.match(said))]
    return text.replace("exact?", found[0]) if found else text


def _checked(theorem: OpenLeanTheorem, lean: Lean, body: str, seconds: float) -> LeanProof:
    source = f"{theorem.before}{theorem.statement}{body}\n#print axioms {theorem.name}\n"
    outcome, said = lean.read(source, seconds=seconds, memory=ADDRESS_SPACE)
    if outcome != "accepted":
        errors = [message.text for message in said if message.severity == "error"]
        return LeanProof("open", reason=f"what was found is not accepted: {_shortened((errors or [outcome])[0])}")
    axioms = listed_axioms("".join(message.text for message in said if message.line == source.count("\n")))
    if axioms is None:
        return LeanProof("open", reason="Lean does not say what the proof rests on")
    if _SORRY in axioms:
        return LeanProof("open", reason="what was found rests on a theorem that is itself left open")
    return LeanProof("proved", body, axioms)


def _shortened(text: str) -> str:
    return textwrap.shorten(text, 500, placeholder=" …")
