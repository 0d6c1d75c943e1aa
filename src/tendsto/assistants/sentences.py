"""Cut Rocq source into sentences, the units that Rocq runs, by its rules for comments, strings and dots."""

from __future__ import annotations

import re
from typing import NamedTuple


class Sentence(NamedTuple):
    """One sentence of a Rocq file; `text == source[start:end]`, offsets in characters.

    **Arguments**

    - `text`: from its first to its last character, the final dot and comments within it included.
    - `start`, `end`: where it stands, end exclusive.
    """

    text: str
    start: int
    end: int


_BLANK = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"[^"]*"')  # one with a doubled quotation mark is read as two, side by side
_IN_COMMENT = re.compile(r'[(*"]')
# What stands alone at the start of a sentence: a bullet, or a brace, before which a goal may be selected.
_ALONE = re.compile(r"-+|\++|\*+|\}|(?:(?:[0-9]+|\[[ \t\r\n]*[^\W\d][\w']*[ \t\r\n]*\])[ \t\r\n]*:[ \t\r\n]*)?\{")
# A dot ends a sentence if nothing or a blank follows; so do three dots. Two dots are part of a notation.
_WITHIN = re.compile(r'(?P<end>(?<!\.)(?:\.|\.\.\.)(?=[ \t\r\n]|\Z))|(?P<comment>\(\*)|(?P<string>")')


def sentences(text: str) -> tuple[Sentence, ...]:
    r"""Cut a Rocq file into its sentences.

    A sentence ends with `.` or `...` before a blank or the end of the text; a bullet (`-`, `++`, `***`, …) and a brace
    (`{`, `}`, `2:{`, `[name]:{`) are sentences of their own. Comments nest, and strings within them hide their
    delimiters; in a string `""` stands for a quotation mark. Comments before a sentence are no part of it.

    **Arguments**

    - `text`: Rocq source.

    **Raises** `ValueError` naming the line of a sentence, comment or string that does not end.

    ```pycon
    >>> [it.text for it in sentences("Goal 1.+1 = 2. (* two. *) - reflexivity. Qed.")]
    ['Goal 1.+1 = 2.', '-', 'reflexivity.', 'Qed.']

    ```
    """
    found = []
    start = _skip(text, 0)
    while start < len(text):
        end = _end(text, start)
        found.append(Sentence(text[start:end], start, end))
        start = _skip(text, end)
    return tuple(found)


def without_comments(text: str) -> str:
    """`text` with a blank in the place of each comment.

    **Raises** `ValueError` naming the line of a comment or string that does not end.
    """
    pieces, start, at = [], 0, 0
    while (found := _WITHIN.search(text, at)) is not None:
        at = found.end()
        if found["string"]:
            at = _after_string(text, found.start())
        elif found["comment"]:
            pieces += [text[start : found.start()], " "]
            start = at = _after_comment(text, found.start())
    return "".join([*pieces, text[start:]])


def _skip(text: str, at: int) -> int:
    """The first position from `at` on that is neither blank nor comment."""
    while True:
        at = _BLANK.match(text, at).end()  # type: ignore[union-attr]  # it matches the empty text
        if not text.startswith("(*", at):
            return at
        at = _after_comment(text, at)


def _end(text: str, start: int) -> int:
    if alone := _ALONE.match(text, start):
        return alone.end()
    at = start
    while (found := _WITHIN.search(text, at)) is not None:
        if found["end"]:
            return found.end()
        at = (_after_comment if found["comment"] else _after_string)(text, found.start())
    raise _unfinished("sentence", text, start)


def _after_comment(text: str, start: int) -> int:
    depth, at = 0, start
    while True:
        if text.startswith("(*", at):
            depth, at = depth + 1, at + 2
        elif text.startswith("*)", at):
            depth, at = depth - 1, at + 2
            if depth == 0:
                return at
        elif text.startswith('"', at):
            at = _after_string(text, at)
        else:
            at += 1
        found = _IN_COMMENT.search(text, at)
        if found is None:
            raise _unfinished("comment", text, start)
        at = found.start()


def _after_string(text: str, start: int) -> int:
    found = _STRING.match(text, start)
    if found is None:
        raise _unfinished("string", text, start)
    return found.end()


def _unfinished(what: str, text: str, start: int) -> ValueError:
    return ValueError(f"text: the {what} that begins in line {text.count(chr(10), 0, start) + 1} does not end")
