"""The commands of the constants room: search for formulas, name a number, scan a field."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from tendsto.constants import Find

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def discover(
    constant: Annotated[str, typer.Argument(help="The constant to look for, such as pi or zeta3; or `any`.")],
    degree: Annotated[str, typer.Option(metavar="A,B", help="Largest degrees of a(n) and b(n).")] = "1,2",
    box: Annotated[int, typer.Option(help="Largest absolute value of a coefficient.", min=1)] = 3,
    depth: Annotated[int, typer.Option(help="Depth at which the factorial reduction must show.", min=120)] = 480,
    out: Annotated[Path, typer.Option(help="Parquet file of the finds.", dir_okay=False)] = Path("formulas.parquet"),
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine.", min=1, show_default="one a core")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler to run on, tcp://host:8786.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search polynomial continued fractions for formulas of a constant; run again to go on after Ctrl-C.

    Formulas are told as they come. The file also holds fractions that reduce factorially to other limits.
    """
    degree_a, degree_b = _degrees(degree)
    constants = _load()
    from joblib import cpu_count

    if constant not in ("any", *constants.LIBRARY):
        _stop(f"{constant!r} is not one of any, {', '.join(constants.LIBRARY)}")
    told = 0

    def tell(find: Find) -> None:
        nonlocal told
        if find.constant == constant or (constant == "any" and find.constant not in ("", "rational", "quadratic")):
            told += 1
            typer.echo(json.dumps(_plain(find)) if as_json else f"{find.formula} = {find.relation}")

    try:
        table = constants.discover(
            constants.Box(degree_a, degree_b, box),
            None if constant == "any" else [constant],
            out=out,
            depth=depth,
            workers=workers or int(cpu_count()),
            cluster=cluster,
            on_find=tell,
        )
    except KeyboardInterrupt:
        typer.echo(f"tendsto: interrupted; what was found is in {out}, run again to go on", err=True)
        raise typer.Exit(130) from None
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        _stop(str(error))
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
            _stop(f"--constant: {name!r} is not one of {', '.join(constants.LIBRARY)}")
    if (digits is None) == (a is None) or (a is None) != (b is None):
        _stop("give the digits of a number, or a fraction with --a and --b")
    try:
        value = digits if a is None or b is None else constants.PCF(_integers("--a", a), _integers("--b", b))
        found = constants.identify(value, [constants.LIBRARY[name] for name in constant] if constant else None)
    except ValueError as error:
        _stop(str(error))
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
        _stop(str(error.args[0]))
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


def _load() -> ModuleType:
    """The constants room, or a line that says what brings it."""
    try:
        from tendsto import constants
    except ImportError as error:
        _stop(str(error))
    return constants


def _plain(find: Find) -> dict[str, object]:
    delta = find.delta if math.isfinite(find.delta) else None
    return {"a": find.formula.a, "b": find.formula.b} | vars(find) | {"formula": str(find.formula), "delta": delta}


def _degrees(text: str) -> tuple[int, int]:
    found = _integers("--degree", text)
    if len(found) != 2:
        _stop(f"--degree: expected two numbers such as 1,2, got {text!r}")
    return found[0], found[1]


def _integers(name: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        _stop(f"{name}: expected integers such as 2,1,0, got {text!r}")


def _stop(message: str) -> NoReturn:
    typer.echo(f"tendsto: {message}", err=True)
    raise typer.Exit(2)
