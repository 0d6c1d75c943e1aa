"""Mend the proofs of a Lean file: what holds stays, what is broken becomes a gap, and gaps are filled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tendsto.assistants import Lean
from tendsto.proof.filling import Filling
from tendsto.proof.lean_file import Gap, OpenDeclaration, Stated, documented, filled, open_declarations, stated_theorems
from tendsto.proof.lean_file_session import ADDRESS_SPACE, TOO_MANY
from tendsto.proof.lean_masking import mask_theorem
from tendsto.proof.lean_proving import LEAN_CLOSERS, check_whole, close_gaps
from tendsto.proof.masking import Masked
from tendsto.proof.project import lean_around
from tendsto.proof.repair import Mended, line_of
from tendsto.proof.sketch import Hole, Unusable
from tendsto.validation import positive


def mend_lean(
    path: Path,
    *,
    theorem: str | None = None,
    lean: Lean | None = None,
    closers: Sequence[str] = LEAN_CLOSERS,
    seconds: float = 120.0,
    on_hole: Callable[[Stated, Filling], None] | None = None,
) -> Iterator[Mended]:
    """Mend the proofs of a Lean file, in its order; each as it is done.

    Lean reads the file once; theorems without an error and without a `sorry` are left alone. Of the others what is
    broken is masked (`mask_lean_errors`), and automation is tried in what is then open. A proof that is a term becomes
    one gap if it is broken. The file is not changed: `mended_text` puts the results together.

    **Arguments**

    - `path`: the file; `theorem`: only this one of it.
    - `lean`: by default that of the file's project, `lean_around`.
    - `closers`: what fills gaps, as in `fill_gaps`.
    - `seconds`: wall time for each theorem, and for the file.
    - `on_hole`: is told of each gap that is done.

    **Raises** `NotInstalled` without Lean; `OSError` for what cannot be read; `TimeoutError` if Lean does not read the
    file in time; `ValueError` for a file without such a theorem, or a time that is not positive.
    """
    positive("seconds", seconds)
    text = path.read_text(encoding="utf-8")
    stated = stated_theorems(text)
    if theorem is not None and theorem not in {it.name for it in stated}:
        known = ", ".join(it.name for it in stated) or "none"
        raise ValueError(f"theorem: {path} proves no {theorem!r}; it proves: {known}")
    lean = lean or lean_around(path)
    outcome, said = lean.read(text, seconds=seconds, memory=ADDRESS_SPACE)
    if outcome not in ("accepted", "rejected"):
        raise TimeoutError(f"{path}: Lean {outcome} while it read the file")
    wrong = [it.line for it in said if it.severity == "error"]
    if any(it.text.startswith(TOO_MANY) for it in said):
        wrong += range(max(wrong), line_of(text, len(text)) + 1)  # of what follows nothing is known
    before, at = "", 0
    for it in stated:
        start = documented(text, it.start)
        before += text[at:start]
        at = it.stop
        first, last = line_of(text, it.start), line_of(text, it.stop)
        broken = any(first <= line <= last for line in wrong)
        new = "" if broken else text[it.start : it.stop]
        if theorem is None or it.name == theorem:
            done = replace(_Work(lean, before, it, text, closers, seconds).mend(broken, on_hole), line=first)
            new = "" if done.outcome == "skipped" else done.text
            yield done
        before += text[start : it.start] + new if new else ""


@dataclass(frozen=True)
class _Work:
    """A theorem of a file that is being mended."""

    lean: Lean
    before: str
    stated: Stated
    text: str  # of the file
    closers: Sequence[str]
    seconds: float

    def mend(self, broken: bool, on_hole: Callable[[Stated, Filling], None] | None) -> Mended:
        """Mask it if it is broken, and fill its gaps."""
        deadline = time.monotonic() + self.seconds
        whole = self.text[self.stated.start : self.stated.stop]
        masked: tuple[Masked, ...] = ()
        if broken:
            sketched = mask_theorem(self.lean, self.before, whole, seconds=self.seconds)
            if isinstance(sketched, Unusable):
                return self._done("skipped", whole, reason=sketched.reason)
            whole, sketch = sketched
            masked = sketch.masked
        found = open_declarations(whole)
        if not found:
            return self._checked(whole, masked) if masked else self._done("holds", whole)
        (declaration,) = found
        left = max(deadline - time.monotonic(), 1.0)
        closed = close_gaps(self.lean, self.before, declaration, declaration.gaps, self.closers, seconds=left).found
        fillings = tuple(_filling(declaration, n, closed.get(gap, "")) for n, gap in enumerate(declaration.gaps))
        for filling in fillings:
            if on_hole is not None:
                on_hole(self.stated, filling)
        whole = f"{whole.removesuffix(declaration.body)}{filled(declaration.body, closed)}"
        if len(closed) < len(declaration.gaps):
            return self._done("open", whole, masked, fillings)
        return self._checked(whole, masked, fillings)

    def _checked(self, whole: str, masked: tuple[Masked, ...], fillings: tuple[Filling, ...] = ()) -> Mended:
        proof = check_whole(self.lean, self.before, self.stated.name, whole, self.seconds)
        outcome: Literal["proved", "open"] = "proved" if proof.outcome == "proved" else "open"
        return self._done(outcome, whole, masked, fillings, proof.reason)

    def _done(
        self,
        outcome: Literal["holds", "proved", "open", "skipped"],
        text: str,
        masked: tuple[Masked, ...] = (),
        fillings: tuple[Filling, ...] = (),
        reason: str = "",
    ) -> Mended:
        return Mended(self.stated.name, 0, outcome, text, masked, fillings, reason)


def _filling(declaration: OpenDeclaration, number: int, proof: str) -> Filling:
    gap: Gap = declaration.gaps[number]
    around = declaration.body[: gap.start].rpartition("\n")[2] + declaration.body[gap.start :].partition("\n")[0]
    hole = Hole(number, None, None, (), around.strip(), (gap.start, gap.start + len("sorry")))
    if proof:
        return Filling(hole, proof, "automation", "proved")
    return Filling(hole, outcome="failed", reason="no automation fills it")
