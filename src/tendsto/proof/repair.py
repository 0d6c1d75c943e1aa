"""Mend the proofs of a file: what holds stays, what is broken becomes a hole, and holes are filled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tendsto.assistants import Opening, Rocq, RocqSession, sentences
from tendsto.proof.automation import Portfolio
from tendsto.proof.filling import Filling, FillReport, fill_holes
from tendsto.proof.hybrid import Automation
from tendsto.proof.lean_file import stated_theorems
from tendsto.proof.masking import Masked
from tendsto.proof.project import Project
from tendsto.proof.rocq_file import WrittenProof, written_proofs
from tendsto.proof.sketch import Unusable, mask_errors


@dataclass(frozen=True)
class Mended:
    """What came of one proof of a file.

    **Arguments**

    - `name`: the theorem.
    - `line`: where it is stated, from 1.
    - `outcome`: `holds` (the proof is whole and was left alone), `proved` (it is, after holes were filled), `open`
      (holes are left) or `skipped` (nothing could be made of it).
    - `text`: the theorem with its proof and its end, as it is now.
    - `masked`: what was taken out.
    - `fillings`: what came of the holes.
    - `reason`: why it was skipped, or why the whole is not accepted.
    """

    name: str
    line: int
    outcome: Literal["holds", "proved", "open", "skipped"]
    text: str
    masked: tuple[Masked, ...] = ()
    fillings: tuple[Filling, ...] = ()
    reason: str = ""


def mend(
    path: Path,
    *,
    theorem: str | None = None,
    automation: Automation | None = None,
    workers: int = 1,
    seconds: float = 10.0,
    on_hole: Callable[[WrittenProof, Filling], None] | None = None,
) -> Iterator[Mended]:
    """Mend the proofs of a Rocq file, in its order; each as it is done.

    A theorem that stays open is admitted for those after it. The file is trusted but for its proofs, and is not
    changed: `mended_text` puts the results together.

    **Arguments**

    - `path`: the file; its project's options come from the nearest `_CoqProject`.
    - `theorem`: only this one.
    - `automation`: what fills holes, by default `Portfolio()`.
    - `workers`: how many holes are worked at together.
    - `seconds`: for each sentence of a proof.
    - `on_hole`: is told of each hole that is done.

    **Raises** `OSError` for what cannot be read; `ValueError` for a text that is not Rocq's, or has no such theorem.
    """
    text = path.read_text(encoding="utf-8")
    proofs = written_proofs(text)
    if theorem is not None and theorem not in {it.name for it in proofs}:
        known = ", ".join(it.name for it in proofs) or "none"
        raise ValueError(f"theorem: {path} proves no {theorem!r} by tactics; it proves: {known}")
    project = Project.around(path)
    factory = functools.partial(RocqSession, project.options, directories=project.directories)
    check = functools.partial(Rocq().check_proof, options=project.options, directories=project.directories)
    solver = (automation or Portfolio()).solve
    before, at = "", 0
    with factory() as session:
        for written in proofs:
            before += text[at : written.start]
            at = written.stop
            if theorem is not None and written.name != theorem:
                before += text[written.start : written.stop]
                continue
            opening = Opening(tuple(it.text for it in sentences(before)), written.opening.statement)
            line = line_of(text, written.start)
            whole = text[written.start : written.stop]
            script = f"{written.proof}\n{written.end}" if written.proof else "admit."
            made = mask_errors(script, session, opening, seconds=seconds)
            if isinstance(made, Unusable):
                done = Mended(written.name, line, "skipped", whole, reason=made.reason)
            elif not made.holes and not made.masked and written.end == "Qed.":
                done = Mended(written.name, line, "holds", whole)
            else:
                tell = functools.partial(on_hole, written) if on_hole is not None else None
                report = fill_holes(made, factory, solver, workers=workers, check=check, seconds=seconds, on_hole=tell)
                done = _mended(written, line, report)
            before += done.text if done.outcome in ("holds", "proved") else f"{written.opening.statement}\nAdmitted."
            yield done


def mended_text(path: Path, mended: Sequence[Mended]) -> str:
    """The file, Rocq's or Lean's, with what came of its proofs."""
    text = path.read_text(encoding="utf-8")
    found = stated_theorems(text) if path.suffix == ".lean" else written_proofs(text)
    known = {(it.name, it.line): it.text for it in mended}
    pieces, at = [], 0
    for it in found:
        pieces += [text[at : it.start], known.get((it.name, line_of(text, it.start)), text[it.start : it.stop])]
        at = it.stop
    return "".join([*pieces, text[at:]])


def line_of(text: str, position: int) -> int:
    """The number of the line that a position is in, from 1."""
    return text.count("\n", 0, position) + 1


def _mended(written: WrittenProof, line: int, report: FillReport) -> Mended:
    certificate = report.certificate
    rejected = certificate.messages if certificate is not None and not report.proved else ""
    end = "Qed." if report.proved else "Admitted."
    return Mended(
        written.name,
        line,
        "proved" if report.proved else "open",
        f"{written.opening.statement}\nProof.\n  {report.script}\n{end}",
        report.sketch.masked,
        report.fillings,
        rejected,
    )
