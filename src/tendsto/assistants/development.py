"""A formal proof on disk: a source, and beside it the statements that it has to prove."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tendsto.assistants.protocol import Certificate, ProofAssistant


@dataclass(frozen=True)
class FalseVariant:
    """A false sentence close to a theorem, for a control.

    **Arguments**

    - `theorem`: the theorem whose statement becomes false.
    - `replace`, `by`: a wording that occurs once in the statement and once in the source, and the false one.
    """

    theorem: str
    replace: str
    by: str


@dataclass(frozen=True)
class Development:
    """A source in a proof assistant's language and the statements requested of it.

    **Arguments**

    - `source`: the file that holds the proofs; nothing it says is trusted.
    - `theorems`: the statement that each name must prove.
    - `preamble`: imports, scopes and definitions that the statements need.
    - `false`: a false variant of one theorem.
    """

    source: str
    theorems: Mapping[str, str]
    preamble: str = ""
    false: FalseVariant | None = None

    def __post_init__(self) -> None:
        if self.false is None:
            return
        if self.false.theorem not in self.theorems:
            raise ValueError(f"false: {self.false.theorem!r} is not one of {', '.join(self.theorems)}")
        if self.false.replace == self.false.by:
            raise ValueError(f"false: {self.false.by!r} changes nothing")
        for where, text in (("its statement", self.theorems[self.false.theorem]), ("the source", self.source)):
            if (count := text.count(self.false.replace)) != 1:
                raise ValueError(f"false: {self.false.replace!r} must occur once in {where}, not {count} times")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Development:
        """Read `name.v` and the `name.toml` beside it.

        The TOML file has a text `preamble`, a table `theorems` of statements by name, and a table `false` with the
        fields of a `FalseVariant`; the first and the last may be left out.

        **Raises** `OSError` if a file cannot be read, `ValueError` naming it if it does not have this form.
        """
        source = Path(path)
        manifest = source.with_suffix(".toml")
        try:
            content = tomllib.loads(manifest.read_text(encoding="utf-8"))
            unknown = set(content) - {"preamble", "theorems", "false"}
            if unknown:
                raise ValueError(f"unknown entry {min(unknown)!r}")
            theorems = _texts("theorems", content.get("theorems"))
            preamble = _texts("the file", {"preamble": content.get("preamble", "")})["preamble"]
            false = FalseVariant(**_texts("false", content["false"])) if "false" in content else None
            return cls(source.read_text(encoding="utf-8"), theorems, preamble, false)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{manifest}: {error}") from None

    def check(self, assistant: ProofAssistant, *, seconds: float = 60.0) -> Certificate:
        """Have `assistant` check it; see `ProofAssistant.check`."""
        return assistant.check(self.source, self.theorems, preamble=self.preamble, seconds=seconds)

    def falsified(self) -> Development:
        """The same proofs put to the false variant, in statement and source; they must break.

        **Raises** `ValueError` if there is no false variant.
        """
        false, statement = self._false()
        return Development(self.source.replace(false.replace, false.by), {false.theorem: statement}, self.preamble)

    def postulated(self) -> Development:
        """The false variant stated as an axiom: it compiles, so the audit of axioms alone must catch it.

        **Raises** `ValueError` if there is no false variant.
        """
        false, statement = self._false()
        source = f"{self.preamble}\nAxiom {false.theorem} : (\n{statement}\n).\n"
        return Development(source, {false.theorem: statement}, self.preamble)

    def _false(self) -> tuple[FalseVariant, str]:
        if self.false is None:
            raise ValueError("false: this development names no false variant")
        return self.false, self.theorems[self.false.theorem].replace(self.false.replace, self.false.by)


def _texts(name: str, table: Any) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
        raise TypeError(f"{name}: must be a table of texts, got {table!r}")
    return table
