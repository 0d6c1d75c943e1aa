"""The commands of the proof room: build a corpus of proofs, look at it, search it."""

from __future__ import annotations

import json
import time
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tendsto.cli_options import AsJson, Workers, clear_failures, cores, stop

if TYPE_CHECKING:
    from tendsto.proof import Corpus, ScoringRetriever, Theorem

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="A corpus that build wrote, or LeanDojo's.", exists=True, file_okay=False)
]


class Retriever(StrEnum):
    """The ways to rank premises."""

    BM25 = "bm25"
    NEIGHBOURS = "neighbours"
    RECENCY = "recency"
    COMBINED = "combined"
    ENCODER = "encoder"


corpus = typer.Typer(
    help="Libraries of proofs as data: what they define, and what each proof uses.", no_args_is_help=True
)


@corpus.command(epilog="Example: tendsto corpus build $(coqc -where)/user-contrib/mathcomp --out mathcomp")
def build(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Rocq files or folders, or folders of Lean 4 projects.", exists=True),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the corpus, in LeanDojo's layout.", file_okay=False)],
    states: Annotated[bool, typer.Option("--states", help="Run the proofs, for the goals between tactics.")] = False,
    seconds: Annotated[float, typer.Option(help="Longest time for all that is compiled and run.", min=1.0)] = 600.0,
    memory: Annotated[float, typer.Option(help="Address space of each process, in GiB.", min=0.5)] = 4.0,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Read libraries of Rocq, or of Lean, into a corpus, with splits to train and test on.

    Rocq files without a `.glob` file of their compiler are compiled on a copy, in a sandbox. A Lean project is read as
    'lake build' left it, with its packages; Lean's own library is the folder that 'lean --print-prefix' names.

    With --states what each file gave is kept in the corpus's folder: after Ctrl-C, or when some files have changed, the
    same command runs only what is new.
    """
    started = time.perf_counter()
    stopped: Counter[str] = Counter()

    def tell(path: Path) -> None:
        typer.echo(f"{time.perf_counter() - started:6.0f} s  reading {path}", err=True)

    def tell_failure(theorem: Theorem, reason: str) -> None:
        if not stopped[theorem.path]:
            typer.echo(f"{theorem.path}: {theorem.full_name} does not run again to its end: {reason}", err=True)
        stopped[theorem.path] += 1

    lean = [path for path in paths if _is_lean(path)]
    if lean and len(lean) < len(paths):
        raise typer.BadParameter("Rocq and Lean go into a corpus each", param_hint="PATH...")
    with clear_failures("run again to go on" if states else ""):
        from tendsto.proof import Corpus
        from tendsto.proof.project import lean_around

        common: dict[str, Any] = {"seconds": seconds, "memory": int(memory * 2**30), "on_file": tell}
        if states:
            common |= {"store": out / "states", "workers": workers or cores()}
        try:
            if lean:
                found = Corpus.from_lean(*paths, lean=lean_around(paths[0] / "any") if states else None, **common)
            else:
                found = Corpus.from_sources(*paths, states=states, on_failure=tell_failure, **common)
        except TimeoutError as error:
            stop(f"{error}; with more --seconds it goes on from there" if states else str(error))
        typer.echo(f"read {len(found.files)} files in {time.perf_counter() - started:.1f} s", err=True)
        if stopped:
            typer.echo(f"{stopped.total()} proofs have goals only up to where they stop", err=True)
        found.to_leandojo(out)
    counts = _counts(found)
    if as_json:
        typer.echo(json.dumps({"out": str(out)} | counts))
    else:
        typer.echo(
            f"{counts['files']:,} files, {counts['premises']:,} premises, {counts['theorems']:,} theorems in {out}"
        )


@corpus.command(epilog="Example: tendsto corpus stats mathcomp")
def stats(folder: Folder, as_json: AsJson = False) -> None:
    """Count what a corpus holds, and the proofs that use what is not accessible to them (there should be none)."""
    found = _read(folder)
    counts = _counts(found)
    if as_json:
        typer.echo(json.dumps(counts))
        return
    for name in ("files", "theorems", "proofs that use premises", "proofs with goals", "inaccessible premises used"):
        typer.echo(f"{counts[name]:>10,}  {name}")
    typer.echo(f"{counts['premises a proof']:>10.2f}  premises a proof, on average")
    typer.echo(f"{counts['accessible premises']:>10,.0f}  premises accessible to a proof, on average")
    typer.echo(f"{counts['premises']:>10,}  premises, of them")
    for kind, count in counts["kinds"].items():
        typer.echo(f"{count:>10,}    {kind}")
    for name, parts in counts["splits"].items():
        typer.echo(f"split {name}: {', '.join(f'{count:,} {part}' for part, count in parts.items())}")


@corpus.command(epilog='Example: tendsto corpus search mathcomp "size (take n s)" -k 5')
def search(
    folder: Folder,
    query: Annotated[str, typer.Argument(help="A goal, a statement, or words of one.")],
    retriever: Annotated[Retriever, typer.Option(help="How premises are ranked.")] = Retriever.BM25,
    k: Annotated[int, typer.Option("-k", help="How many to show.", min=1)] = 10,
    kind: Annotated[list[str] | None, typer.Option(help="Only premises of this kind; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rank the premises of a corpus for a goal; those that learn are fitted on all its proofs first."""
    found = _read(folder)
    with clear_failures():
        import numpy as np

        from tendsto.proof import IndexSet

        if kind:
            found = found.of_kinds(kind)
        fitted = _retriever(retriever).fit(found, range(len(found.theorems)))
        ranking = fitted.rank(query, IndexSet(np.array([0]), np.array([len(found.premises)])), k)
    for number, score in ranking:
        premise = found.premises[number]
        if as_json:
            plain = {"full_name": premise.full_name, "kind": premise.kind, "path": premise.path, "score": score}
            line, column = found.file(premise.path).line_column(premise.start)
            typer.echo(json.dumps(plain | {"line": line, "column": column, "code": premise.code}))
        else:
            typer.echo(f"{score:8.3f}  {premise.full_name}\n          {' '.join(premise.code.split())[:160]}")


def _is_lean(path: Path) -> bool:
    """Whether a file, or some file of a folder, is Lean's."""
    if path.is_dir():
        lake = ("lakefile.toml", "lakefile.lean", "lean-toolchain")
        return any((path / name).is_file() for name in lake) or any(path.rglob("*.ilean"))
    return path.suffix in (".lean", ".ilean")


def _retriever(name: Retriever) -> ScoringRetriever:
    from tendsto import proof

    if name is Retriever.ENCODER:
        return proof.DualEncoderRetriever()
    if name is Retriever.COMBINED:
        parts = [proof.BM25Retriever(), proof.NearestNeighbourRetriever(), proof.RecencyRetriever()]
        return proof.CombinedRetriever(parts)
    simple: dict[Retriever, type[ScoringRetriever]] = {
        Retriever.BM25: proof.BM25Retriever,
        Retriever.NEIGHBOURS: proof.NearestNeighbourRetriever,
        Retriever.RECENCY: proof.RecencyRetriever,
    }
    return simple[name]()


def _counts(found: Corpus) -> dict[str, Any]:
    used = [len(it.premises) for it in found.theorems]
    return {
        "files": len(found.files),
        "theorems": len(found.theorems),
        "proofs that use premises": sum(it > 0 for it in used),
        "proofs with goals": sum(all(it.state_before for it in one.tactics) for one in found.theorems if one.tactics),
        "premises a proof": sum(used) / max(1, len(used)),
        "accessible premises": sum(len(found.accessible_to(it)) for it in found.theorems) / max(1, len(used)),
        "inaccessible premises used": len(found.violations()),
        "premises": len(found.premises),
        "kinds": dict(Counter(it.kind for it in found.premises).most_common()),
        "splits": {name: {part: len(of) for part, of in it._asdict().items()} for name, it in found.splits.items()},
    }


def _read(folder: Path) -> Corpus:
    with clear_failures():
        from tendsto.proof import Corpus

        return Corpus.from_leandojo(folder)
