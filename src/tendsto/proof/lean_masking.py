"""Mask what is broken in Lean proofs, line by line, until Lean accepts them but for their gaps (DSP+)."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tendsto.assistants import Lean
from tendsto.assistants.checking import REASON
from tendsto.assistants.lean import Message
from tendsto.proof.lean_file import OpenDeclaration, open_declarations, stated_theorems, without_comments
from tendsto.proof.lean_file_session import (
    WHOLE_PROOF,
    attempt,
    failure,
    indentation,
    proof_in,
    read_attempts,
    refusal,
)
from tendsto.proof.masking import Masked
from tendsto.proof.sketch import Unusable
from tendsto.validation import positive

_BY = re.compile(r":=\s*by\b[ \t]*")
_SORRY = re.compile(r"\bsorry\b")
_HOLE = re.compile(r"\s*(?:by\s+)?sorry\s*\Z")
_CASE = re.compile(r"\||(?:case|next)\b")
_BULLET = re.compile(r"\s*·\s*")
_OPEN, _CLOSED = "([{⟨⦃", ")]}⟩⦄"
_REDUCES = re.compile(r"(?:suffices|show)\b")
_TOKEN = re.compile(r"[(\[{⟨⦃]|[)\]}⟩⦄]|:=|=>|\b(?:by|from)\b")
_NO_GOALS = re.compile(r"(?:error: )?no goals", re.IGNORECASE)
_NOT_ENDED = "unexpected token"
_UNSOLVED = "unsolved goals"


class LeanSketch(NamedTuple):
    """A proof by tactics that Lean accepts but for its gaps.

    **Arguments**

    - `text`: the tactics, with `sorry` for what is left open.
    - `masked`: what was taken out because it does not hold.
    - `passes`: how often Lean read it.
    """

    text: str
    masked: tuple[Masked, ...]
    passes: int

    @property
    def holes(self) -> int:
        """How many gaps it has."""
        return len(_SORRY.findall(without_comments(self.text)))


def mask_lean_errors(
    lean: Lean, before: str, declaration: OpenDeclaration, proofs: Sequence[str], *, seconds: float = 60.0
) -> list[LeanSketch | Unusable]:
    """Turn proofs of a theorem that may be broken into sketches that hold; Lean reads all of them at once.

    Where Lean sees an error, the line is masked with all that belongs to it, further to the right below it:

    - what states something (`have h : p := …`, `| zero => …`, `· …`) keeps that, with a `sorry` for its proof; if that
      does not hold either, a claim goes, and a case goes with the distinction that it is one of;
    - any other line goes if it is an outermost one; within, it and what follows there becomes one `sorry`.

    Lean reads what is left until there is no error; then what is unsolved gets a `sorry` at the end of its block, and
    Lean reads it again.

    Source: error-line masking of "Reviving DSP for Advanced Theorem Proving in the Era of Reasoning Models" (arXiv
    2506.11487). There a broken outermost line goes with what it claims, and only the end of the proof gets a `sorry`.

    **Arguments**

    - `before`: the file up to the theorem.
    - `declaration`: the theorem; its first gap is where the proofs go.
    - `proofs`: tactics, a line or several each; they are not trusted.
    - `seconds`: wall time for all.

    **Returns** for each a sketch, or why there is none: it has a word that is refused, Lean sees an error outside of
    it, or does not answer in time.

    **Raises** `NotInstalled` without Lean; `ValueError` for a time that is not positive.
    """
    positive("seconds", seconds)
    deadline = time.monotonic() + seconds
    gap = declaration.gaps[0]
    # An attempt has a line before the theorem, and the proof begins on the line after its gap's.
    first = 3 + f"{declaration.scope}{declaration.body[: gap.start]}".count("\n")
    indented = indentation(declaration, gap)
    drafts = [_Draft(textwrap.dedent(proof).strip("\n")) for proof in proofs]
    for draft in drafts:
        if reason := refusal(draft.text, gaps=True):
            draft.result = Unusable(reason)
    while waiting := [draft for draft in drafts if draft.result is None]:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        texts = [
            attempt(declaration, number, {gap: proof_in(declaration, gap, [draft.text])}, WHOLE_PROOF)
            for number, draft in enumerate(waiting)
        ]
        reading = read_attempts(lean, before, texts, seconds=left)
        for draft, said in zip(waiting, reading.said, strict=True):
            if reading.before or said is None:
                draft.result = Unusable(_shortened(reading.before or f"Lean {reading.end or 'timed out'}"))
            else:
                errors = (it for it in said if it.severity == "error")
                draft.mask([it._replace(line=it.line - first, column=it.column - indented) for it in errors])
    return [draft.result or Unusable("out of time") for draft in drafts]


def mask_theorem(lean: Lean, before: str, text: str, *, seconds: float = 60.0) -> tuple[str, LeanSketch] | Unusable:
    """A theorem with a sketch of its proof in the proof's place, and the sketch; what holds as it is stays as it is.

    **Arguments**

    - `before`: the file up to the theorem; `text`: the theorem. A proof that is a term becomes one gap.
    - `seconds`: as in `mask_lean_errors`.

    **Returns** why there is no sketch, as `mask_lean_errors` does, or if the text is no theorem.

    **Raises** as `mask_lean_errors` does.
    """
    stated = stated_theorems(text)
    found = open_declarations(f"{text[: stated[0].proof].rstrip()} := sorry") if stated else ()
    if not found:
        return Unusable("its statement cannot be read")
    head, proof = text[: stated[0].proof].rstrip(), text[stated[0].proof :]
    begins = _BY.match(proof)
    if begins is None:
        masked = Masked(proof.strip(), "error", "it is a term, of which no part is kept")
        sketch: LeanSketch | Unusable = LeanSketch("sorry", (masked,), 0)
    else:
        # What follows `by` on its line stands in the column of the lines below it.
        column = len(text[: stated[0].proof + begins.end()].rpartition("\n")[2])
        tactics = f"{' ' * column}{proof[begins.end() :]}"
        (sketch,) = mask_lean_errors(lean, before, found[0], [tactics], seconds=seconds)
    if isinstance(sketch, Unusable):
        return sketch
    if not sketch.masked and sketch.passes == 1:
        return text, sketch
    indent = " " * (len(head) - len(head.lstrip()) + 2)
    return f"{head} := by\n{textwrap.indent(sketch.text, indent)}", sketch


@dataclass
class _Node:
    """A tactic that begins a line, or follows a bullet, and those below it that belong to it.

    The root's children are the outermost ones.
    """

    number: int
    column: int
    code: str  # its line from there on, without comments
    lines: list[str] = field(default_factory=list)  # the same as it stands, and comments and blank lines below
    children: list[_Node] = field(default_factory=list)

    def all_nodes(self) -> Iterator[_Node]:
        """Itself and all below it, in order."""
        yield self
        for child in self.children:
            yield from child.all_nodes()

    @property
    def depth(self) -> tuple[int, bool]:
        """How far to the right it stands; a case's `|` further than what it stands below."""
        return self.column, self.code.startswith("|")

    @property
    def bullet(self) -> bool:
        """Whether it is a bullet; what follows it on the line is its first child."""
        return self.code.startswith("·")

    @property
    def head(self) -> str:
        """The part of its line that says what is proved there; empty if it has none."""
        case, reduces, nested = _CASE.match(self.code), _REDUCES.match(self.code), 0
        for token in _TOKEN.finditer(self.code):
            nested += (token[0] in _OPEN) - (token[0] in _CLOSED)
            states = token[0] == "=>" if case else token[0] == ":=" or (reduces and token[0] in ("by", "from"))
            if nested == 0 and states:
                return self.code[: token.end()]
        return ""

    @property
    def claims(self) -> bool:
        """Whether it states one more thing to prove, which can be left out, and not a case."""
        return bool(self.head) and not _CASE.match(self.code)

    @property
    def is_hole(self) -> bool:
        """Whether nothing but a gap proves it."""
        return bool(_HOLE.match(self.code[len(self.head) :])) and not self.children

    @property
    def inner(self) -> int | None:
        """The column in which its block goes on; None if it has none."""
        if self.children:
            return self.children[0].column
        return self.column + 2 if self.bullet else 0 if self.number < 0 else None


def _tree(text: str) -> _Node:
    """The tactics of a proof by how far they are indented; a `|` belongs to what begins in its column above it."""
    root = _Node(-1, -1, "")
    around = [root]
    for number, (line, code) in enumerate(zip(text.split("\n"), without_comments(text).split("\n"), strict=True)):
        if not code.strip():
            around[-1].lines.append(line)
            continue
        column = len(code) - len(code.lstrip())
        for start in [column, *(it.end() for it in [_BULLET.match(code)] if it and code[it.end() :].strip())]:
            node = _Node(number, start, code[start:], [line[start:]])
            while around[-1] is not root and around[-1].depth >= node.depth:
                around.pop()
            around[-1].children.append(node)
            around.append(node)
    return root


class _Draft:
    """A proof on its way to a sketch, or to the reason why there is none."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.masked: list[Masked] = []
        self.passes = 0
        self.most = 3 * text.count("\n") + 6  # each pass makes a line a gap, takes one out, or ends a block
        self.result: LeanSketch | Unusable | None = None

    def mask(self, errors: Sequence[Message]) -> None:
        """Take out what Lean does not accept; lines of messages count from 0 at the proof's first."""
        self.passes += 1
        wrong = [it for it in errors if not it.text.startswith(_UNSOLVED)]
        outside = [it for it in errors if it.line < -1 or (it.line < 0 and it in wrong)]
        if not errors:
            self.result = LeanSketch(self.text, tuple(self.masked), self.passes)
        elif outside:
            self.result = Unusable(_shortened(outside[0].text))
        elif self.passes > self.most:
            self.result = Unusable(f"masking has not ended after {self.most} passes")
        else:
            root = _tree(self.text)
            nodes = list(root.all_nodes())
            rewriting = _Rewriting(
                {id(_at(nodes, it)): it.text for it in reversed(wrong)},
                set() if wrong else {id(_at(nodes, it)) for it in errors},
                self.masked,
            )
            self.text = "\n".join(rewriting.of(root))


def _at(nodes: Sequence[_Node], error: Message) -> _Node:
    """The tactic that an error is about: the last on its line, or the lines before, that does not begin after it.

    Where a tactic cannot begin, the one before it has not ended, unless there is only a gap left of that.
    """
    at = max(n for n, it in enumerate(nodes) if (it.number, it.column) <= (error.line, max(error.column, 0)))
    on_line = [n for n, it in enumerate(nodes) if it.number == error.line]
    if on_line and on_line[0] > 1 and error.column <= nodes[on_line[-1]].column:
        before = nodes[on_line[0] - 1]
        if error.text.startswith(_NOT_ENDED) and not before.is_hole:
            return before
    return nodes[at]


@dataclass
class _Rewriting:
    """One pass over a proof.

    **Arguments**

    - `wrong`: what Lean says against a tactic; `unsolved`: those where it says that goals are left; both by identity.
    - `masked`: what is taken out is added here.
    """

    wrong: dict[int, str]
    unsolved: set[int]
    masked: list[Masked]

    def of(self, root: _Node) -> list[str]:
        """The lines of the proof."""
        self._blame(root)
        return [*root.lines, *self._block(root)]

    def _blame(self, node: _Node) -> None:
        """Where there is only a gap left in a case, or of a tactic, and it is wrong, what it belongs to is."""
        for child in node.children:
            self._blame(child)
            said = self.wrong.get(id(child), "")
            if said and node.number >= 0 and child.is_hole and not child.claims and not _NO_GOALS.match(said):
                self.wrong.setdefault(id(node), self.wrong.pop(id(child)))

    def _block(self, node: _Node) -> list[str]:
        """The lines of what belongs to a tactic."""
        kept: list[str] = []
        for n, child in enumerate(node.children):
            said = self.wrong.get(id(child), "")
            if not said and id(child) in self.unsolved and child.inner is None:
                said = _UNSOLVED
            indent = " " * child.column
            if not said:
                kept += self._kept(child)
            elif child.head and not child.is_hole and not _NO_GOALS.match(said):
                self._take([child], said)
                kept.append(f"{indent}{child.head} sorry")
            elif node.number < 0 or child.claims or _NO_GOALS.match(said):
                self._take([child], said)
            else:
                self._take(node.children[n:], said)
                return [*kept, f"{indent}sorry"]
        if node.inner is not None and (id(node) in self.unsolved or (node.children and not kept)):
            kept.append(f"{' ' * node.inner}sorry")
        return kept

    def _kept(self, node: _Node) -> list[str]:
        """The lines of a tactic that holds, with what belongs to it."""
        block = self._block(node)
        first, *others = node.lines
        beside = node.bullet and node.children and node.children[0].number == node.number
        if beside or (node.bullet and not first.removeprefix("·").strip() and not others and block):
            return [f"{' ' * node.column}· {block[0].lstrip()}", *block[1:]]
        return [f"{' ' * node.column}{first}", *others, *block]

    def _take(self, nodes: Sequence[_Node], said: str) -> None:
        if all(node.is_hole for node in nodes):  # what stood there has been noted
            return
        of_line = {it.number: it for node in reversed(nodes) for it in reversed(list(node.all_nodes()))}
        text = "\n".join(f"{' ' * of_line[it].column}{of_line[it].lines[0]}" for it in sorted(of_line))
        kind = "redundant" if _NO_GOALS.match(said) else failure(said).kind
        self.masked.append(Masked(textwrap.dedent(text).strip(), kind, _shortened(said)))


def _shortened(text: str) -> str:
    return textwrap.shorten(text, REASON, placeholder=" …")
