"""Fill the gaps of a Lean proof: with Lean's own automation, all of it in one reading of the file, then by search."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from tendsto.assistants import Failure, Lean
from tendsto.assistants.lean import listed_axioms
from tendsto.proof.lean_file import Gap, filled, forms, without_proofs
from tendsto.proof.lean_files import ADDRESS_SPACE, LeanFileSession, attempt, proof_in, read_attempts
from tendsto.proof.policies import TacticPolicy
from tendsto.proof.project import OpenLeanTheorem
from tendsto.proof.search import BestFirstProver, PremiseSelector
from tendsto.validation import positive

LEAN_CLOSERS = (
    *("by rfl", "by assumption", "by trivial", "by decide", "by simp", "by simp_all", "by omega", "by norm_num"),
    *("by ring", "by positivity", "by linarith", "by gcongr", "by field_simp", "by tauto", "by aesop", "by grind"),
    *("by nlinarith", "by exact?"),
)
"""Proofs that are tried in each gap; the first that holds is taken, and what Lean does not know holds nowhere."""

TACTICS, PREMISES = 48, 12
"""How many tactics a search tries in a state, and how many premises they may name."""

_SUGGESTED = re.compile(r"Try this:\s*(?:\[apply\]\s*)?(.+)", re.DOTALL)
_BEGINS_BLOCK = re.compile(r"(?:\n[ \t]+|\n[ \t]*·[ \t]*)\Z")
_SORRY = "sorryAx"


class LeanProof(NamedTuple):
    """What came of a theorem.

    **Arguments**

    - `outcome`: `proved`; `open`; or `broken`: Lean does not accept the file before it, or its statement.
    - `body`: what is to follow its name; `by`: `automation`, or `search` if that filled a gap; `axioms`: what it rests
      on; `reason`: why it is not proved.
    """

    outcome: Literal["proved", "open", "broken"]
    body: str = ""
    axioms: tuple[str, ...] = ()
    reason: str = ""
    by: str = ""


def fill_gaps(
    theorem: OpenLeanTheorem,
    lean: Lean,
    closers: Sequence[str] = LEAN_CLOSERS,
    *,
    policy: TacticPolicy | None = None,
    premises: PremiseSelector | None = None,
    seconds: float = 60.0,
) -> LeanProof:
    """Fill the gaps of a theorem, each on its own, and have Lean read the result where it stands, in a fresh process.

    The file is the user's own and is not refused any word; so are the closers. What is proved was accepted by Lean's
    kernel and rests on no `sorry`, its own or another theorem's.

    **Arguments**

    - `closers`: proof terms, `by omega`; tried first.
    - `policy`, `premises`: for a best-first search in the gaps that are left; without a policy there is none.
    - `seconds`: wall time for the attempts and the search, and again for the check.

    **Raises** `NotInstalled` without Lean; `ValueError` for a time that is not positive.
    """
    positive("seconds", seconds)
    started = time.monotonic()
    declaration = theorem.declaration
    tried = [(gap, form) for closer in closers for gap in declaration.gaps for form in forms(closer, gap.place)]
    attempts = [
        attempt(declaration, 0, {}),
        *(attempt(declaration, n, {it[0]: it[1]}) for n, it in enumerate(tried, 1)),
    ]
    reading = read_attempts(lean, theorem.before, attempts, seconds=seconds)
    early = [it.text for it in reading.said[0] or () if it.severity == "error"]
    if reading.before or early:
        return LeanProof("broken", reason=_shortened(reading.before or early[0]))
    found: dict[Gap, str] = {}
    for (gap, form), said in zip(tried, reading.said[1:], strict=True):
        texts = [it.text for it in said or ()]
        failed = any(it.severity == "error" for it in said or ())
        if gap not in found and not failed and any(listed_axioms(text) is not None for text in texts):
            found[gap] = _as_suggested(form, texts)
    late = f", {reading.end} after {time.monotonic() - started:.0f} s" if reading.end else ""
    gaps = [gap for gap in declaration.gaps if gap not in found]
    written = [{gap: found[gap] for gap in found}] * 2
    if gaps and policy is not None:
        for way, more in enumerate(_searched(theorem, lean, found, policy, premises, started + seconds)):
            written[way] = written[way] | more
    if left := len(declaration.gaps) - len(written[0]):
        return LeanProof("open", reason=f"nothing that was tried fills {left} of {len(declaration.gaps)} gaps{late}")
    by = "search" if gaps else "automation"
    for fillings in written[: 2 if gaps else 1]:
        proof = _checked(theorem, lean, filled(theorem.attempt, fillings), seconds)
        if proof.outcome == "proved":
            break
    return proof._replace(by=by if proof.outcome == "proved" else "")


def _searched(
    theorem: OpenLeanTheorem,
    lean: Lean,
    found: Mapping[Gap, str],
    policy: TacticPolicy,
    premises: PremiseSelector | None,
    deadline: float,
) -> tuple[dict[Gap, str], dict[Gap, str]]:
    """What a search puts in the gaps that are left, as a person writes it, and so that it fits anywhere."""
    session, before = LeanFileSession(lean), without_proofs(theorem.before)
    written: dict[Gap, str] = {}
    safe: dict[Gap, str] = {}
    left = [gap for gap in theorem.declaration.gaps if gap not in found]
    for place, gap in enumerate(left):
        # The first gap that is left in the text is the one that the session takes.
        statement = f"{theorem.statement}{filled(theorem.attempt, {**found, **safe})}"
        share = (deadline - time.monotonic()) / (len(left) - place)
        if share <= 0:
            break
        start = session.start(before, statement, seconds=share)
        if isinstance(start, Failure):
            break
        result = BestFirstProver(
            session, policy, premises, num_tactics=TACTICS, num_premises=PREMISES, seconds=share, tactic_seconds=2.0
        ).prove(start)
        if result.outcome != "proved":
            break
        safe[gap] = proof_in(theorem.declaration, gap, result.proof)
        written[gap] = _by_hand(theorem, gap, result.proof)
    return written, safe


def _by_hand(theorem: OpenLeanTheorem, gap: Gap, tactics: Sequence[str]) -> str:
    """A proof by tactics as a person writes it where that is certain to be read so, else as it fits anywhere."""
    body = theorem.attempt
    line = body.rfind("\n", 0, gap.start) + 1
    last = not body[gap.start + len("sorry") :].strip()
    if _BEGINS_BLOCK.search(body[: gap.start]):
        return textwrap.indent("\n".join(tactics), " " * (gap.start - line)).lstrip()
    if last and gap.place == "term" and body[: gap.start].rstrip().endswith(":="):
        head = theorem.statement.rpartition("\n")[2]
        indent = " " * (len(head) - len(head.lstrip()) + 2)
        return "by\n" + textwrap.indent("\n".join(tactics), indent)
    return proof_in(theorem.declaration, gap, tactics)


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
    return LeanProof("proved", body, axioms=axioms)


def _shortened(text: str) -> str:
    return textwrap.shorten(text, 500, placeholder=" …")
