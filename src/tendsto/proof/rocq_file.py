"""The theorems of a Rocq file with their proofs, as text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tendsto.assistants import Opening, sentences
from tendsto.assistants.rocq import theorem_name

_BEGINS = re.compile(r"Proof\b[^.]*\.")
_ENDS = re.compile(r"(?:Qed|Defined|Admitted|Abort|Save\b.*)\s*\.", re.DOTALL)


@dataclass(frozen=True)
class WrittenProof:
    """A theorem of a file, with its proof.

    **Arguments**

    - `name`: as stated.
    - `opening`: the theorem, where it stands.
    - `proof`: the text of its tactics.
    - `end`: what ends it, `Qed.`; empty where the file ends first, or the next theorem begins.
    - `start`, `stop`: where the whole stands in the file, statement and end included.
    """

    name: str
    opening: Opening
    proof: str
    end: str
    start: int
    stop: int


def written_proofs(text: str) -> tuple[WrittenProof, ...]:
    """The theorems of a Rocq file that are proved by tactics, in order.

    **Raises** `ValueError` naming the line of a sentence, comment or string that does not end.
    """
    found = sentences(text)
    proofs = []
    at = 0
    while at < len(found):
        stated, at = found[at], at + 1
        name = _name(stated.text)
        if not name:
            continue
        before = tuple(it.text for it in found[: at - 1])
        first = at + 1 if at < len(found) and _BEGINS.fullmatch(found[at].text) else at
        at = first
        while at < len(found) and not _ENDS.fullmatch(found[at].text) and not _name(found[at].text):
            at += 1
        ended = at < len(found) and _ENDS.fullmatch(found[at].text) is not None
        proof = text[found[first].start : found[at - 1].end] if at > first else ""
        at += ended
        proofs.append(
            WrittenProof(
                name,
                Opening(before, stated.text),
                proof,
                found[at - 1].text if ended else "",
                stated.start,
                found[at - 1].end,
            )
        )
    return tuple(proofs)


def _name(sentence: str) -> str:
    try:
        return theorem_name(sentence)
    except ValueError:
        return ""
