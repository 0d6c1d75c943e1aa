"""The theorems of a Lean file that `sorry` leaves open, as text, and what may stand in a gap's place."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, NamedTuple

from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, String

_SCOPE = r"(?:(?:open|set_option|variable|omit|include)\b[^\n]*?\bin\s+)*"
DRESS = (
    r"(?:@\[(?:[^\[\]]|\[[^\]]*\])*\]\s*"
    r"|(?:public|private|protected|nonrec|noncomputable|partial|unsafe|scoped|local|meta)\s+)*"
)
"""Attributes and modifiers, which may stand before the keyword of a declaration."""

_THEOREM = re.compile(
    rf"^(?P<indent>[ \t]*)(?P<scope>{_SCOPE}){DRESS}(?:theorem|lemma)\s+"
    r"(?P<name>(?:«[^»\n]*»|[^\s:(\[{⦃«])+?)(?P<levels>\.\{[^}]*\})?(?=[\s:(\[{⦃])",
    re.MULTILINE,
)
_COMMAND = re.compile(
    r"^(?P<indent>[ \t]*)(?:@\[|#\w|(?:public|private|protected|nonrec|noncomputable|partial|unsafe|meta|theorem|lemma"
    r"|def|abbrev|example|instance|axiom|opaque|structure|class|inductive|coinductive|irreducible_def|mutual|namespace"
    r"|section|end|open|variable|universe|omit|include|import|export|alias|attribute|set_option|deriving|local|scoped"
    r"|notation|notation3|infix[lr]?|prefix|postfix|macro|macro_rules|syntax|elab|elab_rules|initialize|run_cmd"
    r"|declare_syntax_cat|seal|unseal|add_decl_doc|grind_pattern)\b)",
    re.MULTILINE,
)
_DOCUMENTATION = re.compile(r"/--(?:(?!-/).)*-/\s*", re.DOTALL)
_WHERE = re.compile(r"(?<=\s)where\b")
_ALTERNATIVE = re.compile(r"\n[ \t]*\|")
_LOCAL = re.compile(r"\b(?:let|have)\s[^;\n]*$")
_OPEN, _CLOSED = "([{⟨⦃", ")]}⟩⦄"

Place = Literal["term", "tactic", "either"]


@dataclass(frozen=True)
class Gap:
    """A `sorry`: where it begins in the theorem's body, and whether a term or a tactic is to stand there."""

    start: int
    place: Place


@dataclass(frozen=True)
class OpenDeclaration:
    """A theorem of a Lean file whose proof has gaps.

    **Arguments**

    - `name`: as stated, without the namespaces that it stands in.
    - `scope`: what is set for it alone, `open Nat in`; `levels`: its universes, `.{u v}`.
    - `body`: what follows the name, the proof with its gaps included.
    - `gaps`: in order.
    - `start`: where the declaration begins in the file, with its documentation; `body_start`, `stop`: its body.
    """

    name: str
    scope: str
    levels: str
    body: str
    gaps: tuple[Gap, ...]
    start: int
    body_start: int
    stop: int


class Stated(NamedTuple):
    """A theorem that a file states: its name as written, its text up to the proof, and where it and the proof lie."""

    name: str
    statement: str
    start: int
    proof: int
    stop: int


def stated_theorems(text: str) -> list[Stated]:
    """The theorems and lemmas of a file, in order."""
    found = []
    for head, stop, body in _heads(without_comments(text)):
        proof = head.end() + proof_start(body)
        found.append(Stated(head["name"], text[head.start() : proof].strip(), head.start(), proof, stop))
    return found


def proved_theorems(text: str) -> list[Stated]:
    """Those whose proofs and statements have no gap."""
    code = without_comments(text)
    return [it for it in stated_theorems(text) if not re.search(r"\bsorry\b", code[it.start : it.stop])]


def without_proofs(text: str) -> str:
    """A file with `sorry` in the place of every proof of a theorem, which Lean reads in less time."""
    pieces, done = [], 0
    for it in proved_theorems(text):
        pieces += [text[done : it.proof].rstrip(), " := sorry"]
        done = it.stop
    return "".join([*pieces, text[done:]])


def open_declarations(text: str) -> tuple[OpenDeclaration, ...]:
    """The theorems and lemmas whose proofs have gaps, in order; a gap in a statement makes it none of them."""
    return tuple(_declarations(text, without_comments(text)))


def _declarations(text: str, code: str) -> Iterator[OpenDeclaration]:
    for head, stop, body in _heads(code):
        gaps = tuple(Gap(found.start(), _place(body[: found.start()])) for found in re.finditer(r"\bsorry\b", body))
        if gaps and proof_start(body) <= gaps[0].start:
            yield OpenDeclaration(
                head["name"],
                head["scope"],
                head["levels"] or "",
                text[head.end() : stop],
                gaps,
                documented(text, head.start()),
                head.end(),
                stop,
            )


def _heads(code: str) -> Iterator[tuple[re.Match[str], int, str]]:
    """The beginning of each theorem up to its name, where it ends, and all between."""
    commands, heads = list(_COMMAND.finditer(code)), list(_THEOREM.finditer(code))
    for head, other in zip_longest(heads, heads[1:]):
        following = commands[bisect.bisect_left(commands, head.end(), key=re.Match.start) :]
        # A proof stands further to the right than the command that it belongs to.
        ends = (it.start() for it in following if len(it["indent"]) <= len(head["indent"]))
        body = code[head.end() : min(next(ends, len(code)), other.start() if other else len(code))].rstrip()
        yield head, head.end() + len(body), body


def documented(text: str, start: int) -> int:
    """Where the documentation of what begins at `start` begins; without any, `start`."""
    found = max(0, text.rfind("/--", 0, start))
    return found if _DOCUMENTATION.fullmatch(text, found, start) else start


def without_comments(text: str) -> str:
    """`text` with blanks for comments and strings; every other character stays where it is."""
    lexer = get_lexer_by_name("lean4")
    return "".join(
        re.sub(r"[^\n]", " ", value) if kind in Comment or kind in String else value
        for _, kind, value in lexer.get_tokens_unprocessed(text)
    )


def proof_start(body: str) -> int:
    """Where the proof begins: in no brackets at the first `:=` of no `let`, at `where`, or at a line's first `|`."""
    depth = 0
    for at, letter in enumerate(body):
        depth += (letter in _OPEN) - (letter in _CLOSED)
        defines = body.startswith(":=", at) and not _LOCAL.search(body[:at])
        if depth == 0 and (defines or _WHERE.match(body, at) or _ALTERNATIVE.match(body, at)):
            return at
    return len(body)


def _place(before: str) -> Place:
    said = before.rstrip()
    if said.endswith(":="):
        return "term"
    if re.search(r"(?:\bby|[·;{]|<;>)$", said):
        return "tactic"
    begins_line = not before.rpartition("\n")[2].strip()
    return "either" if begins_line or said.endswith("=>") else "term"


def forms(closer: str, place: Place) -> tuple[str, ...]:
    """How a proof term, `by omega`, is written in a gap.

    ```pycon
    >>> forms("by omega", "tactic"), forms("h", "tactic"), forms("by omega", "either")
    (('omega',), ('exact h',), ('(by omega)', '(omega)'))

    ```
    """
    tactic = closer.removeprefix("by ") if closer.startswith("by ") else f"exact {closer}"
    return {"term": (f"({closer})",), "tactic": (tactic,), "either": (f"({closer})", f"({tactic})")}[place]


def filled(body: str, fillings: dict[Gap, str]) -> str:
    """The body with texts in the place of some of its gaps; one that begins a line leaves no blanks before it."""
    for gap, text in sorted(fillings.items(), key=lambda item: -item[0].start):
        before = body[: gap.start]
        if text.startswith("\n"):
            before = before.rstrip(" ")
        body = f"{before}{text}{body[gap.start + len('sorry') :]}"
    return body
