"""Fill the gaps of a Lean proof: with Lean's own automation, all of it in one reading of the file, then by search."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from tendsto.assistants import Lean, State
from tendsto.assistants.lean import listed_axioms
from tendsto.proof.corpus import Premise
from tendsto.proof.lean_file import (
    Gap,
    OpenDeclaration,
    Place,
    filled,
    forms,
    open_declarations,
    without_proofs,
)
from tendsto.proof.lean_file_session import (
    ADDRESS_SPACE,
    HEARTBEATS,
    WHOLE_PROOF,
    LeanFileSession,
    Reading,
    attempt,
    failure,
    proof_in,
    read_attempts,
)
from tendsto.proof.lean_masking import LeanSketch, mask_lean_errors, mask_theorem
from tendsto.proof.policies import (
    MixedPolicy,
    PolicyUnavailable,
    PremiseTemplates,
    Suggestion,
    TacticPolicy,
    WholeProofPolicy,
)
from tendsto.proof.project import OpenLeanTheorem
from tendsto.proof.search import BestFirstProver, PremiseSelector
from tendsto.proof.sketch import Unusable
from tendsto.proof.surroundings import known_tactics, ranked_premises
from tendsto.validation import positive

LEAN_CLOSERS = (
    *("by rfl", "by assumption", "by trivial", "by decide", "by simp", "by simp_all", "by omega", "by norm_num"),
    *("by ring", "by positivity", "by linarith", "by gcongr", "by field_simp", "by tauto", "by aesop", "by grind"),
    *("by nlinarith", "by exact?"),
)
"""Proofs that are tried in each gap; the first that holds is taken, and what Lean does not know holds nowhere."""

CANDIDATES = 8
"""How many whole proofs a model is asked for."""

TACTICS, PREMISES = 48, 12
"""How many tactics a search tries in a state, and how many premises they may name."""

TACTIC_SECONDS = 2.0
"""Wall time for one tactic in a search; all that are tried in a state have it together."""

_SUGGESTED = re.compile(r"Try this:\s*(?:\[apply\]\s*)?(.+)", re.DOTALL)
_BEGINS_BLOCK = re.compile(r"(?:\n[ \t]+|\n[ \t]*·[ \t]*)\Z")
_SORRY = "sorryAx"
_WAYS = ("automation", "model", "search")


@dataclass(frozen=True)
class LeanSearch:
    """A policy and a selector of premises for a Lean file, made when first asked for: automation may do without.

    **Arguments**

    - `corpus`: a folder in LeanDojo's layout, or None.
    - `path`, `before`: the file, and its text up to the theorem.
    """

    corpus: str | None
    path: str
    before: str

    def suggest(self, state: State, premises: Sequence[Premise], k: int) -> list[Suggestion]:
        """Templates and, of a corpus with goals, the tactics of the nearest; as `TacticPolicy.suggest`."""
        learned = known_tactics(self.corpus)
        policies: list[TacticPolicy] = [PremiseTemplates("lean"), *([learned] if len(learned) else [])]
        return MixedPolicy(policies).suggest(state, premises, k)

    def select(self, state: State, k: int) -> list[Premise]:
        """The premises that rank highest; as `PremiseSelector.select`."""
        return ranked_premises(self.corpus, self.path, self.before).select(state, k)


class LeanProof(NamedTuple):
    """What came of a theorem.

    **Arguments**

    - `outcome`: `proved`; `open`; or `broken`: Lean does not accept the file before it, or its statement.
    - `body`: what is to follow its name; `axioms`: what it rests on; `reason`: why it is not proved.
    - `by`: what filled its gaps, the last in this order: `automation`, `attempt` (the same, where the proof was broken
      and is masked), `model` (a whole proof), `search`.
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
    model: TacticPolicy | None = None,
    seconds: float = 60.0,
) -> LeanProof:
    """Fill the gaps of a theorem, each on its own, and have Lean read the result where it stands, in a fresh process.

    Where the proof is broken, what is broken becomes a gap first (`mask_theorem`).

    The file is the user's own and is not refused any word; so are the closers. What is proved was accepted by Lean's
    kernel and rests on no `sorry`, its own or another theorem's.

    **Arguments**

    - `closers`: proof terms, `by omega`; tried first.
    - `policy`, `premises`: for a best-first search in the gaps that are left; without a policy there is none.
    - `model`: takes part in the search as long as it answers; one that writes whole proofs is asked for some before.
    - `seconds`: wall time for the attempts and the search, and again for the check.

    **Raises** `NotInstalled` without Lean; `ValueError` for a time that is not positive.
    """
    positive("seconds", seconds)
    started = time.monotonic()
    declaration = theorem.declaration
    reading, found, heartbeats = close_gaps(
        lean, theorem.before, declaration, declaration.gaps, closers, seconds=seconds
    )
    early = [it.text for it in reading.said[0] or () if it.severity == "error"]
    if reading.before:
        return LeanProof("broken", reason=_shortened(reading.before))
    if early:
        return _attempted(theorem, lean, closers, policy, premises, model, started + seconds, early[0])
    late = f", {reading.end} after {time.monotonic() - started:.0f} s" if reading.end else ""
    fillings = [_Filling(gap, "automation", text, text) for gap, text in found.items()]
    reason = ""
    if len(found) < len(declaration.gaps) and policy is not None:
        session = LeanFileSession(lean, heartbeats)
        search = _Search(theorem, session, closers, policy, premises, model, started + seconds)
        reason = search.fill(fillings)
    if left := len(declaration.gaps) - len(fillings):
        tried_all = f"nothing that was tried fills {left} of {len(declaration.gaps)} gaps{late}"
        return LeanProof("open", reason=f"{tried_all}; {reason}" if reason else tried_all)
    by = max((it.by for it in fillings), key=_WAYS.index)
    for body in dict.fromkeys(
        filled(theorem.attempt, dict(chosen))
        for chosen in ([(it.gap, it.written) for it in fillings], [(it.gap, it.safe) for it in fillings])
    ):
        proof = check_whole(lean, theorem.before, theorem.name, f"{theorem.statement}{body}", seconds)
        if proof.outcome == "proved":
            return proof._replace(body=body, by=by)
    return proof


def _attempted(
    theorem: OpenLeanTheorem,
    lean: Lean,
    closers: Sequence[str],
    policy: TacticPolicy | None,
    premises: PremiseSelector | None,
    model: TacticPolicy | None,
    deadline: float,
    fault: str,
) -> LeanProof:
    """Fill the gaps of a theorem whose proof is broken, once what is broken in it is a gap as well."""
    text = f"{theorem.statement}{theorem.attempt}"
    if (left := deadline - time.monotonic()) <= 0:
        return LeanProof("broken", reason=_shortened(fault))
    sketched = mask_theorem(lean, theorem.before, text, seconds=left)
    if isinstance(sketched, Unusable):
        return LeanProof("broken", reason=_shortened(fault))
    body = sketched[0].removeprefix(theorem.statement)
    if (left := deadline - time.monotonic()) <= 0:
        return LeanProof("open", reason="out of time after its proof was masked")
    if declared := open_declarations(sketched[0]):
        masked = replace(theorem, attempt=body, declaration=declared[0])
        proof = fill_gaps(masked, lean, closers, policy=policy, premises=premises, model=model, seconds=left)
    else:
        proof = check_whole(lean, theorem.before, theorem.name, sketched[0], left)._replace(body=body)
    if proof.outcome == "broken":
        return proof._replace(reason=_shortened(fault))
    return proof._replace(by="attempt") if proof.by in ("", "automation") and proof.outcome == "proved" else proof


class Closing(NamedTuple):
    """What Lean says of a theorem, then of each closer in each gap.

    **Arguments**

    - `reading`: first of the theorem as it is; `found`: the gaps that are filled, with the first that does.
    - `heartbeats`: what an attempt could cost.
    """

    reading: Reading
    found: dict[Gap, str]
    heartbeats: int


def close_gaps(
    lean: Lean,
    before: str,
    declaration: OpenDeclaration,
    gaps: Sequence[Gap],
    closers: Sequence[str],
    *,
    seconds: float,
    heartbeats: int = HEARTBEATS,
) -> Closing:
    """Try closers in gaps of a theorem; if it takes Lean too long as it is, once more with Lean's own limit.

    **Arguments**

    - `before`: the file up to the theorem; `gaps`: those of it that are tried.
    - `closers`, `seconds`: as in `fill_gaps`.
    - `heartbeats`: what an attempt may cost, as Lean counts.
    """
    deadline = time.monotonic() + seconds
    tried = [(gap, form) for closer in closers for gap in gaps for form in forms(closer, gap.place)]
    fillings = [{}, *({gap: form} for gap, form in tried)]
    attempts = [attempt(declaration, n, filling, heartbeats) for n, filling in enumerate(fillings)]
    reading = read_attempts(lean, before, attempts, seconds=seconds)
    slow = any(failure(it.text).kind == "timed out" for it in reading.said[0] or () if it.severity == "error")
    if slow and heartbeats < WHOLE_PROOF and (left := deadline - time.monotonic()) > 0:
        return close_gaps(lean, before, declaration, gaps, closers, seconds=left, heartbeats=WHOLE_PROOF)
    found: dict[Gap, str] = {}
    for (gap, form), said in zip(tried, reading.said[1:], strict=True):
        texts = [it.text for it in said or ()]
        failed = any(it.severity == "error" for it in said or ())
        if gap not in found and not failed and any(listed_axioms(text) is not None for text in texts):
            found[gap] = _as_suggested(form, texts)
    return Closing(reading, found, heartbeats)


class _Filling(NamedTuple):
    """What goes in a gap: what found it, as a person writes it, and so that it fits anywhere."""

    gap: Gap
    by: str
    written: str
    safe: str


@dataclass
class _Search:
    """A search for what automation leaves open."""

    theorem: OpenLeanTheorem
    session: LeanFileSession
    closers: Sequence[str]
    policy: TacticPolicy
    premises: PremiseSelector | None
    model: TacticPolicy | None  # None once it does not answer
    deadline: float

    def fill(self, fillings: list[_Filling]) -> str:
        """Add fillings of the gaps that have none, in order, up to the first that stays open; what to say of it."""
        gaps = [gap for gap in self.theorem.declaration.gaps if gap not in {it.gap for it in fillings}]
        reason = ""
        for number, gap in enumerate(gaps):
            share = (self.deadline - time.monotonic()) / (len(gaps) - number)
            opened = self._open(gap, {it.gap: it.safe for it in fillings}, share)
            if opened is None:
                return reason
            start, gap = opened
            by, tactics, reason = self._find(start, time.monotonic() + share)
            if not tactics:
                return reason
            safe = proof_in(self.theorem.declaration, gap, tactics)
            fillings.append(_Filling(gap, by, _by_hand(self.theorem, gap, tactics), safe))
        return reason

    def _open(self, gap: Gap, known: dict[Gap, str], seconds: float) -> tuple[State, Gap] | None:
        """The state in the first gap that is left in the text, and the gap as it turns out to be.

        The proofs before the theorem are left out if it can be read so.
        """
        theorem, deadline = self.theorem, time.monotonic() + seconds
        places: dict[Place, tuple[Place, ...]] = {"either": ("tactic", "term")}
        for place in places.get(gap.place, (gap.place,)):
            marked = {gap: "(sorry)"} if place == "term" else {}
            statement = f"{theorem.statement}{filled(theorem.attempt, known | marked)}"
            for before in dict.fromkeys((without_proofs(theorem.before), theorem.before)):
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                start = self.session.start(before, statement, seconds=left)
                if isinstance(start, State):
                    return start, Gap(gap.start, place)
        return None

    def _find(self, start: State, deadline: float) -> tuple[str, tuple[str, ...], str]:
        """What found a proof of a state, its tactics, and what to say if there are none."""
        model: object = self.model
        reason = ""
        if isinstance(model, WholeProofPolicy):
            try:
                proposed = list(dict.fromkeys(model.propose(start.opening, CANDIDATES, 1.0)))
            except PolicyUnavailable as error:
                self.model, proposed, reason = None, [], f"model: {error}"
            left = deadline - time.monotonic()
            states = self.session.run_all(start, proposed, seconds=left) if left > 0 else []
            for proof, state in zip(proposed, states, strict=False):
                if isinstance(state, State) and state.finished:
                    return "model", (proof,), ""
            if mended := self._mended(start, proposed, 0.5 * (deadline - time.monotonic())):
                return "model", (mended,), ""
        policy = self.policy if self.model is None else MixedPolicy([self.policy, self.model])
        left = deadline - time.monotonic()
        if left <= 0:
            return "", (), reason
        prover = BestFirstProver(
            self.session,
            policy,
            self.premises,
            num_tactics=TACTICS,
            num_premises=PREMISES,
            seconds=left,
            tactic_seconds=TACTIC_SECONDS,
        )
        return "search", prover.prove(start).proof, reason

    def _mended(self, start: State, proofs: Sequence[str], seconds: float) -> str:
        """What holds of one of several broken proofs of a state, its gaps filled by automation; empty if none is."""
        deadline = time.monotonic() + seconds
        if seconds <= 0 or not proofs:
            return ""
        (before,) = start.opening.before
        declaration = open_declarations(start.opening.statement)[0]
        gap = declaration.gaps[0]
        masked = mask_lean_errors(self.session.lean, before, declaration, proofs, seconds=seconds)
        sketches = {it.text: it for it in masked if isinstance(it, LeanSketch)}
        for sketch in sorted(sketches.values(), key=lambda it: it.holes):
            if not sketch.holes:
                return sketch.text
            placed = proof_in(declaration, gap, [sketch.text])
            head = start.opening.statement.removesuffix(declaration.body)
            whole = open_declarations(f"{head}{filled(declaration.body, {gap: placed})}")[0]
            rest = len(declaration.body) - gap.start - len("sorry")
            # A sketch consists of tactics: what begins a line or follows a case's arrow is one.
            gaps = [
                Gap(it.start, "term" if it.place == "term" else "tactic")
                for it in whole.gaps
                if gap.start <= it.start < len(whole.body) - rest
            ]
            if (left := deadline - time.monotonic()) <= 0:
                break
            closing = close_gaps(self.session.lean, before, whole, gaps, self.closers, seconds=left)
            if len(closing.found) == len(gaps):
                body = filled(whole.body, closing.found)
                _, _, steps = body[gap.start : len(body) - rest].removesuffix(")").partition("\n")
                return textwrap.dedent(steps).rstrip()
        return ""


def _by_hand(theorem: OpenLeanTheorem, gap: Gap, tactics: Sequence[str]) -> str:
    """A proof by tactics as a person writes it where that is certain to be read so, else as it fits anywhere."""
    body = theorem.attempt
    line = body.rfind("\n", 0, gap.start) + 1
    last = not body[gap.start + len("sorry") :].strip()
    if gap.place != "term" and _BEGINS_BLOCK.search(body[: gap.start]):
        return textwrap.indent("\n".join(tactics), " " * (gap.start - line)).lstrip()
    head = theorem.statement.rpartition("\n")[2]
    indented = textwrap.indent("\n".join(tactics), " " * (len(head) - len(head.lstrip()) + 2))
    before = body[: gap.start].rstrip()
    if last and gap.place == "term" and before.endswith(":="):
        return f"by\n{indented}"
    if last and re.search(r":=\s*by\Z", before):
        return f"\n{indented}"
    return proof_in(theorem.declaration, gap, tactics)


def _as_suggested(text: str, information: Sequence[str]) -> str:
    """The text of an attempt, with what Lean says that it found in the place of `exact?`."""
    found = [it[1].strip() for said in information if (it := _SUGGESTED.match(said))]
    return text.replace("exact?", found[0]) if found else text


def check_whole(lean: Lean, before: str, name: str, text: str, seconds: float) -> LeanProof:
    """What Lean says of a theorem with its proof, `text`, read where it stands in a fresh process."""
    source = f"{before}{text}\n#print axioms {name}\n"
    outcome, said = lean.read(source, seconds=seconds, memory=ADDRESS_SPACE)
    if outcome != "accepted":
        errors = [message.text for message in said if message.severity == "error"]
        return LeanProof("open", reason=f"what was found is not accepted: {_shortened((errors or [outcome])[0])}")
    axioms = listed_axioms("".join(message.text for message in said if message.line == source.count("\n")))
    if axioms is None:
        return LeanProof("open", reason="Lean does not say what the proof rests on")
    if _SORRY in axioms:
        return LeanProof("open", reason="what was found rests on a theorem that is itself left open")
    return LeanProof("proved", axioms=axioms)


def _shortened(text: str) -> str:
    return textwrap.shorten(text, 500, placeholder=" …")
