"""Sketches: proofs with holes, made from proofs that fail, from users' files or from a model's text."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tendsto.assistants import Failure, Goal, Opening, ProofSession, Sentence, sentences
from tendsto.assistants.rocq import forbidden_command, theorem_name
from tendsto.assistants.sentences import without_comments
from tendsto.proof.blocks import (
    HOLE,
    Edit,
    Granularity,
    block_tree,
    depth,
    edited,
    in_braces,
    justifications,
    sentences_of,
)
from tendsto.proof.masking import Masked, Pass, Stuck
from tendsto.validation import positive

_SELECTED = re.compile(r"(?:all|par|!|[\d\s,-]+|\[[^\]]*\])\s*:")
_COMMAND = re.compile(r"[A-Z#]")
_IMPORTS = re.compile(r"(?:From|Require|Import|Export)\b")
_BEGINS = re.compile(r"Proof\b[^.]*\.")
_ENDS = re.compile(r"(?:Qed|Admitted|Abort|Save\b.*|Defined\b.*)\s*\.", re.DOTALL)
_PROVE_WITH = re.compile(r"prove_with\s*\[([^\]]*)\]\s*\.")
_BY_PROVE_WITH = re.compile(r"\s*\bby\s*\(?\s*prove_with\s*\[([^\]]*)\]\s*\)?\s*\.\Z")
_USING = re.compile(r"\(\*\s*using:([^*]*)\*\)")


@dataclass(frozen=True)
class Hole:
    """A goal that a sketch leaves open.

    **Arguments**

    - `id`: its number in the sketch, from 0.
    - `goal`: what is to be proved from what; None in a sketch that was not replayed.
    - `hints`: the hypotheses that its author says suffice, `()` for none; None where nothing is said.
    - `path`: its place in the block tree: a position at each level.
    - `original`: the text that stood there; empty for a goal that was forgotten.
    - `span`: where its `admit.` stands in the sketch's text, end exclusive.
    """

    id: int
    goal: Goal | None
    hints: tuple[str, ...] | None
    path: tuple[int, ...]
    original: str
    span: tuple[int, int]


@dataclass(frozen=True)
class Sketch:
    """A proof with holes; but for them it holds, if it was replayed.

    **Arguments**

    - `opening`: the theorem, where it stands.
    - `text`: the tactics, with `admit.` at each hole.
    - `holes`: in the order of the text.
    - `masked`: what was taken out because it does not hold.
    - `passes`: how often the text was replayed.
    """

    opening: Opening
    text: str
    holes: tuple[Hole, ...]
    masked: tuple[Masked, ...] = ()
    passes: int = 0

    def splice(self, solutions: Mapping[int, str]) -> str:
        """The text with proofs in the place of holes, by the holes' numbers; holes without one stay.

        **Raises** `ValueError` for a number that is no hole's, or a text that does not consist of whole sentences: it
        could swallow what comes after it.
        """
        if unknown := set(solutions) - {hole.id for hole in self.holes}:
            raise ValueError(f"solutions: {sorted(unknown)} are not among the {len(self.holes)} holes")
        found = sentences(self.text)
        edits = [
            Edit(*hole.span, _fitting(solutions[hole.id].strip(), hole.span, found))
            for hole in self.holes
            if hole.id in solutions
        ]
        return edited(self.text, edits, {})[0]

    def before(self, hole: Hole) -> tuple[str, ...]:
        """The sentences of the text up to a hole."""
        return tuple(it.text for it in sentences(self.text) if it.end <= hole.span[0])


@dataclass(frozen=True)
class Unusable:
    """Why no sketch can be made of a text."""

    reason: str


def sketch(
    script: str,
    session: ProofSession | None,
    opening: Opening,
    granularity: Granularity = "leaf",
    *,
    seconds: float = 10.0,
) -> Sketch | Unusable:
    """The structure of a proof, with a hole in the place of each justification.

    The proof need not hold: its claims, case distinctions and the steps between stay, as far as the assistant accepts
    them (`mask_errors`); what proves a claim, and what comes after the last one, becomes a hole. A proof without
    structure becomes one hole.

    **Arguments**

    - `script`: the text between `Proof.` and `Qed.`, these and the statement included or not.
    - `session`: where it is replayed. Without one only the text is looked at: the holes have no goals, and the sketch
      may not hold.
    - `opening`: the theorem, where it stands.
    - `granularity`: `"leaf"` looks into blocks as deep as they go, `"block"` makes one hole of each outermost block.
    - `seconds`: for each sentence.

    **Returns** a sketch, or why there is none: a text that does not consist of sentences, that ends in `Defined.` (what
    others compute with would change), or that states another theorem.

    **Raises** `ValueError` for an unknown granularity, or a time that is not positive.

    Source: Hu et al., "HybridProver" (2025), the sketch builder; its rules for Rocq are this library's own.
    """
    if granularity not in ("leaf", "block"):
        raise ValueError(f"granularity: {granularity!r} is not one of leaf, block")
    positive("seconds", seconds)
    try:
        body = proof_text(script, session, opening)
        text = _with_hints(body)
        edits = justifications(block_tree(sentences(text)), granularity)
        text, origins = edited(text, edits, {})
        if session is None:
            return _unchecked(text, origins, opening)
        return _fixpoint(text, origins, session, opening, seconds)
    except ValueError as error:
        return Unusable(str(error))


def mask_errors(script: str, session: ProofSession, opening: Opening, *, seconds: float = 10.0) -> Sketch | Unusable:
    """What holds of a proof or sketch, with a hole in the place of what does not.

    The text is replayed until nothing in it needs to be changed. A claim that the assistant does not accept is taken
    out with the block that proves it; a block without claims of its own that breaks becomes a hole, as a whole; a step
    before a claim is taken out alone; goals that are left at the end of a block, which are no errors, become holes, and
    so do cases without a bullet. `admit.` is a hole, and so is the pseudo-tactic `prove_with [a, b].`, which names the
    hypotheses to use; after any hole a comment `(* using: a, b *)` does the same. Each pass takes sentences out, or
    closes a level: there are at most as many as there are sentences and levels, and one.

    **Arguments** and **Raises** as for `sketch`.

    **Returns** a sketch that holds but for its holes, or why there is none. The statement is never masked: a text that
    states anything but the theorem, as the assistant compares them, is unusable.

    Source: Cao et al., "Reviving DSP" (2025), masking of error lines; here on the syntax tree and not on lines.
    """
    positive("seconds", seconds)
    try:
        return _fixpoint(_with_hints(proof_text(script, session, opening)), {}, session, opening, seconds)
    except ValueError as error:
        return Unusable(str(error))


def _fitting(proof: str, span: tuple[int, int], around: Sequence[Sentence]) -> str:
    """A proof as it may stand in the place of a hole: in braces, unless it is one tactic or in braces already."""
    found = sentences(proof)
    n = next(n for n, it in enumerate(around) if (it.start, it.end) == span)
    opens = n > 0 and around[n - 1].text.endswith("{")
    alone = opens and n + 1 < len(around) and around[n + 1].text == "}"
    single = len(found) == 1 and not _SELECTED.match(proof)
    return proof if found and (alone or single) else f"{{ {proof} }}"


class _Refused(ValueError):
    """No sketch can be made of the text."""


def _fixpoint(
    text: str, origins: dict[int, str], session: ProofSession, opening: Opening, seconds: float
) -> Sketch | Unusable:
    first = session.start("\n".join(opening.before), opening.statement)
    if isinstance(first, Failure):
        raise _Refused(f"the theorem cannot be stated: {first.message}")
    masked: list[Masked] = []
    bound = None
    for passes in itertools.count(1):
        items = block_tree(sentences(text))
        if bound is None:
            bound = sum(1 for _ in sentences_of(items)) + depth(items) + 2
        assert passes <= bound, "masking does not end"
        current = Pass(session, text, seconds)
        try:
            current.run(items, first)
        except Stuck as stuck:
            if text == HOLE:
                raise _Refused("the assistant does not even accept `admit.`") from None
            masked.append(Masked(text, "error", str(stuck)))
            text, origins = HOLE, {0: text}
            continue
        masked += current.masked
        if not current.edits:
            holes = [
                Hole(n, gap.goal, None, gap.path, origins.get(gap.start, ""), (gap.start, gap.start + len(HOLE)))
                for n, gap in enumerate(current.gaps)
            ]
            return Sketch(opening, text, tuple(_hinted(text, holes)), tuple(masked), passes)
        text, origins = edited(text, current.edits, origins)
    raise AssertionError("unreachable")


def _unchecked(text: str, origins: dict[int, str], opening: Opening) -> Sketch:
    starts = [it.start for it in sentences(text) if it.text == HOLE]
    holes = [Hole(n, None, None, (), origins.get(p, ""), (p, p + len(HOLE))) for n, p in enumerate(starts)]
    return Sketch(opening, text, tuple(_hinted(text, holes)))


def proof_text(script: str, session: ProofSession | None, opening: Opening) -> str:
    """The tactics of a script, without imports, statement, `Proof.` and `Qed.`

    **Raises** `ValueError` for a text that does not consist of sentences or has no tactics, that ends in `Defined.`,
    or that states another theorem: compared as terms, or without a session by their words.
    """
    found = list(sentences(script))
    while found and _COMMAND.match(found[0].text) and not _ENDS.fullmatch(found[0].text):
        sentence = found.pop(0)
        if _BEGINS.fullmatch(sentence.text):
            break
        if not _IMPORTS.match(sentence.text):
            _refuse_another(sentence, session, opening)
    end = next((it for it in found if _ENDS.fullmatch(it.text)), None)
    if end is not None and end.text.startswith("Defined"):
        raise _Refused("script: ends in `Defined.`; what others compute with would change")
    if not found or found[0] is end:
        raise _Refused("script: has no tactics")
    return script[found[0].start : end.start if end else len(script)].rstrip()


def _refuse_another(stated: Sentence, session: ProofSession | None, opening: Opening) -> None:
    """Refuse a statement that is not the theorem's: by its term, or without an assistant by its words."""
    own, other = (_after_name(one) for one in (opening.statement, stated.text))
    if " ".join(without_comments(own).split()) == " ".join(without_comments(other).split()):
        return
    if session is None:
        raise _Refused("script: states another theorem, in other words")
    if reason := forbidden_command(other):
        raise _Refused(f"script: its statement: {reason}")
    secret = f"tendsto_{secrets.token_hex(8)}"
    before = [
        *opening.before,
        f"Lemma {secret}_own{own}\nAdmitted.",
        f"Definition {secret}_statement := ltac:(let T := type of @{secret}_own in exact T).",
        f"Lemma {secret}_other{other}\nAdmitted.",
    ]
    state = session.start("\n".join(before), f"Goal {secret}_statement.")
    if not isinstance(state, Failure):
        state = session.run(state, f"exact @{secret}_other.")
    if isinstance(state, Failure) or not state.finished:
        raise _Refused(f"script: states another theorem: {state.message if isinstance(state, Failure) else state.text}")


def _after_name(statement: str) -> str:
    name = theorem_name(statement)
    found = re.search(rf"(?<![\w']){re.escape(name)}(?![\w'])", statement)
    assert found is not None
    return statement[found.end() :]


def _with_hints(text: str) -> str:
    """`prove_with [a, b]` as a hole with a comment."""
    edits = []
    for it in sentences(text):
        if found := _PROVE_WITH.fullmatch(it.text):
            edits.append(Edit(it.start, it.end, f"{HOLE} (* using: {', '.join(_names(found[1]))} *)"))
        elif found := _BY_PROVE_WITH.search(it.text):
            comment = f" (* using: {', '.join(_names(found[1]))} *)"
            edits.append(Edit(it.start + found.start(), it.end, in_braces(comment)))
    return edited(text, edits, {})[0]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in re.split(r"[,\s]+", text) if name)


def _hinted(text: str, holes: Sequence[Hole]) -> list[Hole]:
    """Each hole with the hints that stand beside it: after it or its closing brace, else before it or its brace."""
    found = sentences(text)
    at = {(it.start, it.end): n for n, it in enumerate(found)}
    taken: set[int] = set()
    hinted = []
    for hole in holes:
        n = at[hole.span]
        last = n + 1 if n + 1 < len(found) and found[n + 1].text == "}" else n
        first = n - 1 if n and found[n - 1].text.endswith("{") else n
        stop = found[last + 1].start if last + 1 < len(found) else len(text)
        start = found[first - 1].end if first else 0
        after = [it for it in _USING.finditer(text, hole.span[1], stop) if it.start() not in taken]
        ahead = [it for it in _USING.finditer(text, start, hole.span[0]) if it.start() not in taken]
        if chosen := next(iter([*after, *ahead]), None):
            taken.add(chosen.start())
            hole = replace(hole, hints=_names(chosen[1]))
        hinted.append(hole)
    return hinted
