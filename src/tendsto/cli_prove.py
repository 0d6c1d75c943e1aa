"""The command that proves what a project admits."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tendsto.cli_options import AsJson, Cluster, Workers, clear_failures, cores, stop

if TYPE_CHECKING:
    from tendsto.proof.project import OpenTheorem
    from tendsto.proof.proving import Finding


def prove(
    path: Annotated[Path, typer.Argument(help="A Rocq or Lean file, or a folder of them.", exists=True)],
    names: Annotated[list[str] | None, typer.Argument(metavar="[THEOREM]...", help="Only these theorems.")] = None,
    seconds: Annotated[float, typer.Option(help="Time for each theorem.", min=1.0)] = 60.0,
    corpus: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A corpus that `corpus build` wrote.", exists=True, file_okay=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for what is found, and proofs.patch.", file_okay=False)] = Path(
        "proofs"
    ),
    imports: Annotated[
        list[str] | None,
        typer.Option("--import", metavar="SENTENCE", help="What a proof may add to the file; by default automation."),
    ] = None,
    no_imports: Annotated[bool, typer.Option("--no-imports", help="Add nothing to the file.")] = False,
    closers: Annotated[
        list[str] | None,
        typer.Option("--closer", metavar="PROOF", help="Tried first in the gaps of a Lean proof: 'by my_tactic'."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="A language model that is asked as well, at --endpoint.")
    ] = None,
    endpoint: Annotated[
        str, typer.Option(metavar="URL", help="Any OpenAI-compatible endpoint; its key is in OPENAI_API_KEY.")
    ] = "http://localhost:8000/v1",
    token_budget: Annotated[int | None, typer.Option(help="Tokens that each process may spend.", min=1)] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what was left open.")] = False,
    workers: Workers = None,
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """Prove what a Rocq or Lean project leaves open, and write a patch; run again to go on after Ctrl-C.

    Tried are automation (lia, nia, ring, sauto, hammer), what stands there already with its gaps filled, and a search;
    in Lean, automation (simp, omega, ring, aesop, grind, exact?) in every sorry, and a search. Each proof is checked in
    a fresh process, its axioms listed. Exits with 1 if a theorem is left open.
    """
    with clear_failures(f"what is proved so far is in {out / 'proofs.patch'}, run again to go on"):
        from tendsto.proof.project import open_theorems

        theorems = open_theorems(path)
        if names:
            if unknown := set(names) - {theorem.name for theorem in theorems}:
                stop(f"{path} leaves no theorem {min(unknown)!r} open")
            theorems = tuple(theorem for theorem in theorems if theorem.name in names)
        if not theorems:
            typer.echo(f"{path} leaves no theorem open", err=True)
            return
        lean = {theorem.path.suffix == ".lean" for theorem in theorems}
        if imports and lean == {True}:
            stop("--import is for Rocq files")
        if model and len(lean) > 1:
            stop("--model writes one language: name the Rocq files, or those of Lean")
        from tendsto.proof.automation import IMPORTS
        from tendsto.proof.language_models import ChatModel
        from tendsto.proof.lean_proving import LEAN_CLOSERS
        from tendsto.proof.proving import Means, prove, troubles, write_patch

        brought = () if no_imports else tuple(imports) if imports else IMPORTS
        asked = None if model is None else ChatModel(model, endpoint, token_budget=token_budget, samples=8)
        if asked is not None and lean == {True}:
            asked.language = "Lean 4"
        tried = (*(closers or ()), *LEAN_CLOSERS)
        means = Means(seconds, None if corpus is None else str(corpus), brought, asked, tried)
        found: dict[OpenTheorem, Finding] = {}

        def begin(theorem: OpenTheorem) -> None:
            typer.echo(f"{len(found)} of {len(theorems)} done; trying {theorem.name} ({theorem.path.name})", err=True)

        for theorem, finding in prove(
            theorems, means, store=out, retry=retry, workers=workers or cores(), cluster=cluster, on_start=begin
        ):
            found[theorem] = finding
            typer.echo(json.dumps(asdict(finding)) if as_json else _line(finding))
            patch = write_patch(found, out)  # whatever comes, it holds what is proved so far
        together = dict(troubles(found))
    counts = Counter(finding.outcome for finding in found.values())
    typer.echo(", ".join(f"{count} {outcome}" for outcome, count in counts.items()), err=as_json)
    for file, reason in together.items():
        typer.echo(f"{file} does not compile with all proofs together: {reason}", err=True)
    if counts["proved"]:
        typer.echo(f"Apply with: patch -p1 -d {patch.root} < {patch.path}", err=as_json)
    if counts["proved"] < len(found) or together:
        raise typer.Exit(1)


def _line(finding: Finding) -> str:
    if finding.outcome != "proved":
        return f"{finding.outcome:8}{finding.name}  {finding.seconds:.0f} s  {finding.reason}"
    rests = f", resting on {', '.join(finding.axioms)}" if finding.axioms else ""
    brought = f", with {' '.join(finding.imports)}" if finding.imports else ""
    return f"proved  {finding.name}  {finding.seconds:.0f} s  by {finding.by}{rests}{brought}"
