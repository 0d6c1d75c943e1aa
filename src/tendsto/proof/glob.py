"""Read the `.glob` files in which Rocq's compiler writes what every identifier of a file stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "prf": "theorem",
        "thm": "theorem",
        "ax": "axiom",
        "prfax": "axiom",
        "defax": "axiom",
        "def": "definition",
        "ex": "definition",
        "canonstruc": "definition",
        "coe": "definition",
        "subst": "definition",
        "inst": "instance",
        "ind": "inductive",
        "coind": "inductive",
        "variant": "inductive",
        "rec": "record",
        "indrec": "record",
        "corec": "record",
        "class": "class",
        "constr": "constructor",
        "proj": "projection",
        "meth": "projection",
        "scheme": "scheme",
        "abbrev": "abbreviation",
    }
)
"""The kinds of definition that a proof can name, by the word that stands in a `.glob` file."""

# References to what is no premise: a bound variable, a notation, a section.
_NOT_A_PREMISE = frozenset({"var", "binder", "not", "sec", "mod", "modtype", "lib"})
_SPAN = re.compile(r"(\d+):(\d+)\Z")


class Definition(NamedTuple):
    """Where a file defines a name: `kind` is one of the values of `KINDS`, `modules` the modules it stands in."""

    kind: str
    start: int
    end: int
    modules: str
    name: str


class Reference(NamedTuple):
    """Where a file uses a name that `library` defines within `modules`; `kind` as in `Definition`, "" if unknown."""

    start: int
    end: int
    library: str
    modules: str
    name: str
    kind: str


@dataclass(frozen=True)
class Glob:
    """The content of one `.glob` file; offsets count bytes of the source, ends are exclusive.

    **Arguments**

    - `library`: the logical name of the file, `mathcomp.ssreflect.ssrnat`.
    - `digest`: the MD5 sum of the source that was compiled, or `NO`.
    - `requires`: logical names of the libraries that it loads, in the order of the file.
    - `definitions`: the theorems, definitions, constructors, … by position.
    - `references`: the uses of such names by position, each once.
    """

    library: str
    digest: str
    requires: tuple[str, ...]
    definitions: tuple[Definition, ...]
    references: tuple[Reference, ...]


def read_glob(path: str | os.PathLike[str]) -> Glob:
    """Read a `.glob` file.

    **Raises** `OSError` if it cannot be read, `ValueError` naming file and line if it is damaged.
    """
    name = Path(path)
    try:
        lines = name.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: is not UTF-8 at byte {error.start}") from None
    if len(lines) < 3 or not lines[0].startswith("DIGEST ") or lines[1][:1] != "F" or len(lines[1]) < 2:
        raise ValueError(f"{name}: does not begin as a .glob file does, with DIGEST and F")
    if lines.pop():
        raise ValueError(f"{name}:{len(lines) + 1}: ends within a line")
    requires: dict[str, None] = {}
    definitions: set[Definition] = set()
    references: set[Reference] = set()
    for number, line in enumerate(lines[2:], start=3):
        fields = line.split(" ")
        if line[0:1] == "R" and len(fields) == 5:
            kind = fields[4]
            if kind == "lib":
                requires[fields[1]] = None
            elif kind not in _NOT_A_PREMISE:
                start, end = _span(name, number, fields[0][1:])
                references.add(Reference(start, end, fields[1], fields[2], fields[3], KINDS.get(kind, "")))
        elif line[0:1] != "R" and len(fields) == 4:
            if fields[0] in KINDS:
                start, end = _span(name, number, fields[1])
                definitions.add(Definition(KINDS[fields[0]], start, end, fields[2], fields[3]))
        else:
            raise _damaged(name, number, line)
    return Glob(
        lines[1][1:],
        lines[0].removeprefix("DIGEST "),
        tuple(requires),
        tuple(sorted(definitions, key=lambda it: it[1:])),
        tuple(sorted(references)),
    )


def _span(path: Path, number: int, text: str) -> tuple[int, int]:
    found = _SPAN.match(text)
    if found is None or int(found[2]) + 1 < int(found[1]):
        raise _damaged(path, number, text)
    return int(found[1]), int(found[2]) + 1


def _damaged(path: Path, number: int, text: str) -> ValueError:
    return ValueError(f"{path}:{number}: is damaged: {text[:60]!r}")
