"""The block tree of a Rocq proof: claims, the blocks that prove them, and the steps between."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from tendsto.assistants import Sentence
from tendsto.assistants.sentences import without_comments

Granularity = Literal["leaf", "block"]

HOLE = "admit."
"""What stands in the place of a proof that is left out."""

DEEPEST = 200
"""How deep blocks may nest."""

_BULLET = re.compile(r"-+|\++|\*+")
_CLAIM = re.compile(r"(?:assert|enough|cut|have|suff|suffices)(?![\w'])")
_DEFINES = re.compile(r"(?:assert|enough)\s*\(\s*[^\s:]+\s*:=|(?:have|suff)[^:]*:=")
_TOKEN = re.compile(r"[(\[{]|[)\]}]|;|\bby\b")
_GIVES_UP = re.compile(r"(?<![\w'.])(?:admit|give_up|shelve|shelve_unifiable)(?![\w'])")
_HIDDEN = re.compile(r'\(\*.*?\*\)|"[^"]*"', re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A sentence that states nothing new."""

    sentence: Sentence

    @property
    def start(self) -> int:
        """Where it begins in the script."""
        return self.sentence.start

    @property
    def end(self) -> int:
        """Where it ends in the script."""
        return self.sentence.end


@dataclass(frozen=True)
class Claim(Step):
    """A sentence that states what is proved next: by itself (`by` says from where on), or by what follows."""

    by: int | None


@dataclass(frozen=True)
class Block:
    """A pair of braces or what belongs to one bullet; a brace that nothing closes has no `closer`, nor has a bullet."""

    opener: Sentence
    items: tuple[Item, ...]
    closer: Sentence | None

    @property
    def start(self) -> int:
        """Where it begins in the script."""
        return self.opener.start

    @property
    def end(self) -> int:
        """Where it ends in the script."""
        return self.closer.end if self.closer else self.items[-1].end if self.items else self.opener.end

    @property
    def bullet(self) -> bool:
        """Whether it is opened by a bullet."""
        return is_bullet(self.opener.text)


Item: TypeAlias = Step | Claim | Block


class Edit(NamedTuple):
    """A part of a script and what takes its place."""

    start: int
    end: int
    text: str


def is_bullet(text: str) -> bool:
    """Whether a sentence is a bullet."""
    return _BULLET.fullmatch(text) is not None


def block_tree(found: Sequence[Sentence]) -> tuple[Item, ...]:
    """The block tree of a proof's sentences.

    A brace that closes nothing is a step. A bullet belongs to the innermost block that it can: one of a kind that is
    open ends all that are open within it, any other opens a new level.

    **Raises** `ValueError` for blocks that nest deeper than `DEEPEST`.
    """
    items, rest = _items(found, 0, (), 0)
    assert rest == len(found)
    return items


def _items(found: Sequence[Sentence], at: int, bullets: tuple[str, ...], braces: int) -> tuple[tuple[Item, ...], int]:
    if len(bullets) + braces > DEEPEST:
        raise ValueError(f"script: blocks nest deeper than {DEEPEST}")
    items: list[Item] = []
    while at < len(found):
        sentence = found[at]
        if (sentence.text == "}" and braces) or sentence.text in bullets:
            break
        at += 1
        if is_bullet(sentence.text):
            inner, at = _items(found, at, (*bullets, sentence.text), braces)
            items.append(Block(sentence, inner, None))
        elif sentence.text.endswith("{"):
            inner, at = _items(found, at, (), braces + 1)
            closed = at < len(found) and found[at].text == "}"
            items.append(Block(sentence, inner, found[at] if closed else None))
            at += closed
        else:
            items.append(_step(sentence))
    return tuple(items), at


def _step(sentence: Sentence) -> Step:
    text = _HIDDEN.sub(lambda it: " " * len(it[0]), sentence.text)
    if not _CLAIM.match(text) or _DEFINES.match(text):
        return Step(sentence)
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "([{":
            depth += 1
        elif token[0] in ")]}":
            depth -= 1
        elif depth == 0:
            # `have h : P; first by t.` is one tactic, of which only a part is the justification.
            head = sentence.text[: token.start()].rstrip()
            return Claim(sentence, sentence.start + len(head)) if token[0] == "by" else Step(sentence)
    return Claim(sentence, None)


def sentences_of(items: Iterable[Item]) -> Iterator[Sentence]:
    """All sentences of a tree, in order."""
    for item in items:
        if isinstance(item, Block):
            yield item.opener
            yield from sentences_of(item.items)
            if item.closer:
                yield item.closer
        else:
            yield item.sentence


def depth(items: Iterable[Item]) -> int:
    """How many levels of blocks a tree has."""
    return max((1 + depth(item.items) for item in items if isinstance(item, Block)), default=0)


def tail_of(items: Sequence[Item]) -> int:
    """Where the steps begin that come after the last claim or block."""
    structured = (n for n, item in enumerate(items) if isinstance(item, (Claim, Block)))
    return max(structured, default=-1) + 1


def justifications(items: Sequence[Item], granularity: Granularity) -> list[Edit]:
    """The edits that put a hole in the place of each justification.

    A block without claims and blocks of its own is a leaf, and so are the steps after the last of them: each becomes
    one hole. With `granularity="block"` the outermost blocks are not looked into. A claim that neither has a
    justification of its own nor a block (its proof then ends where the assistant says) is left to the last leaf.
    """
    structured = [n for n, item in enumerate(items) if _is_structure(items, n)]
    edits = []
    for n in structured:
        item = items[n]
        if isinstance(item, Block):
            if granularity == "block" or not item.items:
                first = item.items[0].start if item.items else item.opener.end
                last = item.items[-1].end if item.items else item.opener.end
                edits.append(Edit(first, last, HOLE if item.items else f" {HOLE}"))
            else:
                edits += justifications(item.items, granularity)
        elif isinstance(item, Claim) and item.by is not None:
            edits.append(Edit(item.by, item.end, in_braces()))
        elif isinstance(item, Step) and not isinstance(item, Claim):
            edits.append(Edit(item.start, item.end, f"{{ {HOLE} }}"))
    rest = items[max(structured, default=-1) + 1 :]
    if rest:
        edits.append(Edit(rest[0].start, rest[-1].end, HOLE))
    return edits


def _is_structure(items: Sequence[Item], n: int) -> bool:
    item, after = items[n], items[n + 1] if n + 1 < len(items) else None
    if isinstance(item, Claim):
        return item.by is not None or isinstance(after, Block) or _terminates(after)
    if isinstance(item, Block):
        return True
    before = items[n - 1] if n else None
    return _terminates(item) and isinstance(before, Claim) and before.by is None


def _terminates(item: Item | None) -> bool:
    return isinstance(item, Step) and item.sentence.text.startswith("by ")


def in_braces(comment: str = "") -> str:
    """The hole in the place of `by …` at the end of a claim."""
    return f". {{ {HOLE}{comment} }}"


def edited(text: str, edits: Iterable[Edit], origins: dict[int, str]) -> tuple[str, dict[int, str]]:
    """A text with its edits, and what the holes in it stand for, by position.

    Of an edit within another one nothing is left; what is inserted comes before what is replaced from there on. An
    origin that an edit covers is forgotten; a new hole's is the text whose place it takes.
    """
    pieces: list[str] = []
    places: dict[int, str] = {}
    at = length = 0
    old = sorted(origins.items())
    for edit in sorted(edits, key=lambda it: (it.start, it.start != it.end, -it.end)):
        if edit.start < at:
            continue
        places |= {p - at + length: origin for p, origin in old if at <= p < edit.start}
        pieces += [text[at : edit.start], edit.text]
        length += edit.start - at
        if HOLE in edit.text:
            places[length + edit.text.index(HOLE)] = text[edit.start : edit.end]
        length += len(edit.text)
        at = edit.end
    places |= {p - at + length: origin for p, origin in old if p >= at}
    return "".join([*pieces, text[at:]]), places


def gives_up(text: str) -> bool:
    """Whether a tactic contains a word that leaves a goal unproved."""
    return _GIVES_UP.search(without_comments(text)) is not None
