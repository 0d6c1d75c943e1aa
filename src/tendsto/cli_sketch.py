"""The command that mends proofs: mask what is broken, keep what holds, fill the holes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tendsto.cli_options import AsJson, Workers, clear_failures, cores

if TYPE_CHECKING:
    from tendsto.proof.filling import Filling
    from tendsto.proof.lean_file import Stated
    from tendsto.proof.repair import Mended
    from tendsto.proof.rocq_file import WrittenProof


def sketch(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A Rocq or Lean file.", exists=True, dir_okay=False)],
    theorem: Annotated[str | None, typer.Option(help="Only this theorem.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the mended file here.", dir_okay=False)] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Longest time for one sentence of a proof; in Lean, for one theorem.",
            min=0.1,
            show_default="10; in Lean 120",
        ),
    ] = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Mend broken proofs: keep what holds, mask what is broken, and fill the holes by automation.

    `admit.`, `prove_with [h1, h2].` and Lean's `sorry` are holes too; a comment (* using: h1, h2 *) beside one names
    the hypotheses to use. A proof that is completed was checked by a fresh process; one that is not ends in Admitted,
    or keeps a `sorry`. Ctrl-C hands over what was done. Exits with 1 if a theorem stays open.
    """
    from tendsto.files import write_atomically
    from tendsto.proof.lean_repair import mend_lean
    from tendsto.proof.repair import mend, mended_text

    def tell(written: WrittenProof | Stated, filling: Filling) -> None:
        goal = filling.hole.goal.conclusion if filling.hole.goal else filling.hole.original
        what = " ".join(filling.proof.split()) if filling.proof else f"{filling.outcome}: {filling.reason}"
        typer.echo(f"{written.name}: hole {filling.hole.id + 1}: {goal}\n    {what}", err=True)

    done: list[Mended] = []

    def hand_over() -> None:
        if out is not None:
            with write_atomically(out) as stream:
                stream.write(mended_text(file, done).encode())
        elif not as_json:
            for one in done:
                if one.outcome in ("proved", "open"):
                    typer.echo(f"\n{one.text}")

    with clear_failures():
        if file.suffix == ".lean":
            mending = mend_lean(file, theorem=theorem, seconds=seconds or 120.0, on_hole=tell)
        else:
            mending = mend(file, theorem=theorem, workers=workers or cores(), seconds=seconds or 10.0, on_hole=tell)
        try:
            for one in mending:
                done.append(one)
                typer.echo(json.dumps(_plain(one)) if as_json else _told(one))
        except BaseException:
            if done:
                hand_over()
                if out is not None:
                    typer.echo(f"what was done before is in {out}", err=True)
            raise
        hand_over()
    counts = Counter(one.outcome for one in done)
    summary = ", ".join(f"{number} {name}" for name, number in counts.items()) or "no proofs"
    typer.echo(summary + (f"; written to {out}" if out else ""), err=as_json)
    if counts["open"] or counts["skipped"]:
        raise typer.Exit(1)


def _told(one: Mended) -> str:
    lines = [f"{one.name} (line {one.line}): {one.outcome}" + (f": {one.reason}" if one.reason else "")]
    lines += [f"    masked: {' '.join(it.text.split())}\n            {it.kind}: {it.message}" for it in one.masked]
    for filling in one.fillings:
        stood = " ".join(filling.hole.original.split()) or "nothing"
        now = " ".join(filling.proof.split()) or f"open ({filling.outcome}: {filling.reason})"
        lines.append(f"    hole {filling.hole.id + 1}: {stood}  →  {now}")
    return "\n".join(lines)


def _plain(one: Mended) -> dict[str, Any]:
    return {
        "theorem": one.name,
        "line": one.line,
        "outcome": one.outcome,
        "reason": one.reason,
        "masked": [{"text": it.text, "kind": it.kind, "message": it.message} for it in one.masked],
        "holes": [
            {
                "goal": str(it.hole.goal),
                "original": it.hole.original,
                "hints": it.hole.hints,
                "proof": it.proof,
                "outcome": it.outcome,
                "reason": it.reason,
            }
            for it in one.fillings
        ],
        "text": one.text,
    }
