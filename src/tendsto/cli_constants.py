"""The commands of the constants room: search for formulas, name a number, scan a field."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from tendsto.cli_options import AsJson, Cluster, Workers, clear_failures, cores, stop

if TYPE_CHECKING:
    from tendsto.constants import Find

Degree = Annotated[str, typer.Option(metavar="A,B", help="Largest degrees of a(n) and b(n).")]
Largest = Annotated[int, typer.Option("--box", help="Largest absolute value of a coefficient.", min=1)]


def discover(
    constant: Annotated[str, typer.Argument(help="The constant to look for, such as pi or zeta3; or `any`.")],
    degree: Degree = "1,2",
    box: Largest = 3,
    depth: Annotated[int, typer.Option(help="Depth at which the factorial reduction must show.", min=120)] = 480,
    out: Annotated[Path, typer.Option(help="Parquet file of the finds.", dir_okay=False)] = Path("formulas.parquet"),
    workers: Workers = None,
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """Search polynomial continued fractions for formulas of a constant; run again to go on after Ctrl-C.

    Formulas are told as they come. The file also holds fractions that reduce factorially to other limits.
    """
    degree_a, degree_b = _degrees(degree)
    constants = _load()
    if constant not in ("any", *constants.LIBRARY):
        stop(f"{constant!r} is not one of any, {', '.join(constants.LIBRARY)}")
    told = 0

    def tell(find: Find) -> None:
        nonlocal told
        if find.constant == constant or (constant == "any" and find.constant not in ("", "rational", "quadratic")):
            told += 1
            typer.echo(json.dumps(_plain(find)) if as_json else f"{find.formula} = {find.relation}")

    with clear_failures(f"what was found is in {out}, run again to go on"):
        table = constants.discover(
            constants.Box(degree_a, degree_b, box),
            None if constant == "any" else [constant],
            out=out,
            depth=depth,
            workers=workers or cores(),
            cluster=cluster,
            on_find=tell,
        )
    typer.echo(f"{told} told, {len(table)} fractions with factorial reduction in {out}", err=as_json)


def identify(
    digits: Annotated[str | None, typer.Argument(help="The digits, the last of them good to one unit.")] = None,
    a: Annotated[str | None, typer.Option(metavar="A2,A1,A0", help="Or a fraction: coefficients of a(n).")] = None,
    b: Annotated[str | None, typer.Option(metavar="B2,B1,B0", help="And those of b(n), highest power first.")] = None,
    constant: Annotated[list[str] | None, typer.Option(help="Only try this constant; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Name a number: a rational, a quadratic irrational or a Möbius image of a known constant.

    Exits with 1 if the digits do not carry any relation: many relations fit any number, and those are refused.
    """
    constants = _load()
    for name in constant or ():
        if name not in constants.LIBRARY:
            stop(f"--constant: {name!r} is not one of {', '.join(constants.LIBRARY)}")
    if (digits is None) == (a is None) or (a is None) != (b is None):
        stop("give the digits of a number, or a fraction with --a and --b")
    try:
        value = digits if a is None or b is None else constants.PCF(_integers("--a", a), _integers("--b", b))
        found = constants.identify(value, [constants.LIBRARY[name] for name in constant] if constant else None)
    except ValueError as error:
        stop(str(error))
    if as_json:
        named = {"relation": str(found), "latex": found.to_latex(), "digits": found.digits} if found else {}
        typer.echo(json.dumps({"value": str(value), "relation": None} | named))
    else:
        typer.echo(f"{found}  (seen to {found.digits} digits)" if found else "no name: its digits carry no relation")
    if not found:
        raise typer.Exit(1)


def field(
    name: Annotated[str, typer.Argument(help="A known field, such as zeta3.")],
    scan: Annotated[bool, typer.Option("--scan", help="Scan its directions for irrationality exponents.")] = False,
    largest: Annotated[int, typer.Option(help="Largest coordinate of a direction.", min=1)] = 3,
    steps: Annotated[int, typer.Option(help="Unit steps along each direction.", min=1)] = 240,
    out: Annotated[Path | None, typer.Option(help="Draw the scan to this file (svg, png or pdf).")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a conservative matrix field, its limit and, with --scan, how irrational it is seen in each direction."""
    constants = _load()
    try:
        known = constants.known_field(name)
    except (KeyError, ValueError) as error:
        stop(str(error.args[0]))
    if scan:
        table = constants.scan_directions(known.field, largest=largest, steps=steps, limit=known.limit(3 * steps + 50))
        if out is not None:
            constants.plot_scan(table).figure.savefig(out)
        for row in table.to_dict("records"):
            if as_json:
                typer.echo(json.dumps(row))
        if not as_json:
            typer.echo(table.to_string(index=False, float_format=lambda value: f"{value:+.4f}"))
        if out is not None:
            typer.echo(f"Map: {out}", err=as_json)
        return
    matrices = {str(axis): str(matrix.tolist()) for axis, matrix in known.field.matrices.items()}
    plain = {"field": name, "limit": str(known.formula()), "digits": known.limit(30).str(30), "matrices": matrices}
    if as_json:
        typer.echo(json.dumps(plain))
        return
    for axis, matrix in matrices.items():
        typer.echo(f"M_{axis} = {matrix}")
    typer.echo(f"conservative: {'yes' if known.field.verify() else 'no'}")
    typer.echo(f"limit from (1, 1): {plain['limit']} = {plain['digits']}")


formulas = typer.Typer(
    help="Build a data set of continued fractions by how they converge, and cluster it by constant.",
    no_args_is_help=True,
)


@formulas.command(epilog="Example: tendsto formulas build --degree 2,2 --box 3 --depth 1000 --out metrics.parquet")
def build(
    degree: Degree = "1,2",
    box: Largest = 3,
    depth: Annotated[int, typer.Option(help="Depth of the convergent in place of the limit.", min=112)] = 2000,
    out: Annotated[Path, typer.Option(help="Parquet file of the metrics.", dir_okay=False)] = Path("metrics.parquet"),
    threshold: Annotated[float, typer.Option(help="Factorial growth that counts as none.", min=0.0)] = 0.25,
    reduced_only: Annotated[
        bool, typer.Option("--reduced-only", help="Do not measure fractions whose factorial growth cannot cancel.")
    ] = False,
    workers: Workers = None,
    cluster: Cluster = None,
    as_json: AsJson = False,
) -> None:
    """Measure how all fractions of a box converge; run again to go on after Ctrl-C.

    No constant is looked at. Fractions that stand for the same number as another of the box are left out.
    """
    degree_a, degree_b = _degrees(degree)
    constants = _load()
    import pandas as pd

    with clear_failures(f"what is done is kept beside {out}, run again to go on"):
        whole = constants.Box(degree_a, degree_b, box)
        constants.build_metrics(
            whole,
            out=out,
            depth=depth,
            factorial_threshold=threshold,
            reduced_only=reduced_only,
            workers=workers or cores(),
            cluster=cluster,
        )
        status = pd.read_parquet(out, columns=["status"])["status"].value_counts()
    if as_json:
        typer.echo(json.dumps({"out": str(out), "box": whole.size, "rows": int(status.sum()), **status.to_dict()}))
        return
    for name, count in status.items():
        typer.echo(f"{count:>12,}  {name}")
    typer.echo(f"{status.sum():,} of the {whole.size:,} fractions of the box in {out}, no two known to be the same")


@formulas.command(epilog="Example: tendsto formulas cluster metrics.parquet --json")
def cluster(
    table: Annotated[
        Path, typer.Argument(metavar="FILE", help="Metrics that build wrote.", exists=True, dir_okay=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Cluster a data set, and name the clusters by the known formulas in them or by a few integer relations.

    Takes part what reduces factorially, converges exponentially, and is no rational number. JSON tells the formulas.
    """
    constants = _load()
    import pandas as pd

    with clear_failures("nothing is kept"):
        rows = constants.reducing(pd.read_parquet(table))
        found = constants.label_clusters(rows)
    clusters = sorted(found.clusters, key=lambda it: -len(it.members))
    if as_json:
        for each in clusters:
            members = rows.iloc[each.members]
            plain = {
                "constant": each.constant.name,
                "evidence": each.evidence,
                "verified": each.verified,
                "formulas": [
                    {"a": a.tolist(), "b": b.tolist()} for a, b in zip(members["a"], members["b"], strict=True)
                ],
            }
            typer.echo(json.dumps(plain))
    elif clusters:
        typer.echo(found.to_frame().sort_values("members", ascending=False, kind="stable").to_string(index=False))
    inside = sum(len(it.members) for it in clusters)
    typer.echo(
        f"{len(clusters)} clusters hold {inside} of {len(rows)} formulas, from {found.relations} integer relations",
        err=as_json,
    )


def _load() -> ModuleType:
    """The constants room, or a line that says what brings it."""
    try:
        from tendsto import constants
    except ImportError as error:
        stop(str(error))
    return constants


def _plain(find: Find) -> dict[str, object]:
    delta = find.delta if math.isfinite(find.delta) else None
    return {"a": find.formula.a, "b": find.formula.b} | vars(find) | {"formula": str(find.formula), "delta": delta}


def _degrees(text: str) -> tuple[int, int]:
    found = _integers("--degree", text)
    if len(found) != 2:
        stop(f"--degree: expected two numbers such as 1,2, got {text!r}")
    return found[0], found[1]


def _integers(name: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        stop(f"{name}: expected integers such as 2,1,0, got {text!r}")
