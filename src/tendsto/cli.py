"""The `tendsto` command: list papers, show one, check claims, build the report."""

from __future__ import annotations

import ast
import difflib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tendsto import __version__, cli_constants, cli_proof, cli_prove, cli_site, cli_sketch
from tendsto.cli_options import AsJson, Cluster, Workers, cores, heed_interrupts, stop

# Nothing above or at this level imports JAX: help and completion must answer at once.
if TYPE_CHECKING:
    from rich.console import Console

    from tendsto.evidence import Claim, Verdict
    from tendsto.papers import Entry

app = typer.Typer(
    name="tendsto",
    help="Methods with a convergence guarantee, and the evidence that the guarantee holds.",
    epilog="Start with: tendsto papers, then tendsto show SLUG, then tendsto check SLUG.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_WIDTH_OF_A_PIPE = 100


class BudgetChoice(StrEnum):
    """How much a claim may spend."""

    quick = "quick"
    standard = "standard"
    full = "full"


def _complete(incomplete: str) -> list[str]:
    """The papers, and after a slash the claims, that begin so; read from their files, not imported."""
    slug, slash, _ = incomplete.partition("/")
    folder = Path(__file__).parent / "papers"
    if not slash:
        slugs = [path.stem.replace("_", "-") for path in folder.glob("[!_]*.py")]
        return sorted(name for name in slugs if name.startswith(incomplete))
    path = folder / f"{slug.replace('-', '_')}.py"
    names = _claim_names(path) if path.is_file() else []
    return [f"{slug}/{name}" for name in names if f"{slug}/{name}".startswith(incomplete)]


def _claim_names(path: Path) -> list[str]:
    functions = (node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.FunctionDef))
    return [
        node.name for node in functions if any(ast.unparse(mark).startswith("claim(") for mark in node.decorator_list)
    ]


Out = Annotated[Path, typer.Option(help="Folder of the verdicts and the report.", file_okay=False)]
Slug = Annotated[str, typer.Argument(metavar="SLUG", help="The paper.", autocompletion=_complete)]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="SLUG[/CLAIM]", help="What to check.", autocompletion=_complete),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tendsto {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Hold the options that come before a command."""


@app.command(epilog="Example: tendsto papers --field optimize --search variance")
def papers(
    field: Annotated[str | None, typer.Option(help="Only this field, such as optimize.")] = None,
    search: Annotated[str | None, typer.Option(help="Only papers that mention this text.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the papers of the catalogue."""
    from tendsto.papers import catalogue

    fields = sorted({entry.card.field for entry in catalogue().values()})
    if field is not None and field not in fields:
        stop(f"--field: {field!r} is not one of {', '.join(fields) or '(the catalogue is empty)'}")
    found = [
        entry
        for entry in catalogue().values()
        if field in (None, entry.card.field) and (search or "").casefold() in _searchable(entry)
    ]
    if as_json:
        for entry in found:
            typer.echo(json.dumps(_plain_card(entry)))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title_justify="left")
    for title in ("slug", "date", "field", "claims", "title"):
        table.add_column(title, no_wrap=title in ("slug", "date"), overflow="fold", header_style="bold")
    for entry in found:
        card = entry.card
        table.add_row(card.slug, str(card.date), card.field, str(len(entry.claims)), Text(card.title))
    _console().print(table)


@app.command(epilog="Example: tendsto show ef21-w")
def show(slug: Slug, as_json: AsJson = False, out: Out = Path("report")) -> None:
    """Show a paper: what it states, its methods with their formulas, its claims, and the last verdicts on them."""
    from rich.padding import Padding
    from rich.text import Text

    from tendsto.evidence import Store
    from tendsto.evidence.explanation import explain, unwrap
    from tendsto.evidence.notation import to_unicode

    entry = _paper(slug)
    verdicts: dict[str, list[Verdict]] = {name: [] for name in entry.claims}
    for verdict in Store(out).verdicts():
        if verdict.paper == slug and verdict.claim in verdicts:
            verdicts[verdict.claim].append(verdict)
    if as_json:
        claims = [
            {
                "claim": name,
                "statement": claim.statement,
                "source": claim.source,
                "evidence": claim.evidence,
                "verdicts": [json.loads(verdict.to_json()) for verdict in verdicts[name]],
            }
            for name, claim in entry.claims.items()
        ]
        methods = [vars(method) for method in explain(entry.card)]
        typer.echo(json.dumps(_plain_card(entry) | {"summary": entry.summary, "methods": methods, "claims": claims}))
        return
    card, console = entry.card, _console()
    console.print(Text(card.title, style="bold"))
    console.print(Text(", ".join(card.authors)))
    console.print(Text(f"https://arxiv.org/abs/{card.arxiv}  {card.date}  {card.field}", style="dim"))
    for paragraph in unwrap(entry.summary):
        console.print(Text(f"\n{to_unicode(paragraph)}"))

    def indented(text: str, by: int, style: str = "") -> None:
        console.print(Padding(Text(to_unicode(text), style=style), (0, 0, 0, by), expand=False))

    for method in explain(card):
        console.print(Text(f"\ntendsto.{method.name}", style="cyan"))
        indented(method.sentence, 2)
        for formula in method.formulas:
            indented(f"${formula}$", 4)
    console.print()
    for name, claim in entry.claims.items():
        console.print(Text(f"{slug}/{name}", style="bold"))
        indented(f"{claim.statement}  ({claim.source}; {claim.evidence})", 2)
        for verdict in verdicts[name]:
            indented(f"{verdict.verdict} at {verdict.budget}, seed {verdict.seed}: {verdict.reason}", 2, "dim")


@app.command(epilog="Example: tendsto check ef21-w --budget standard --workers 4")
def check(
    names: Names = None,
    everything: Annotated[bool, typer.Option("--all", help="Check the whole catalogue.")] = False,
    budget: Annotated[BudgetChoice, typer.Option(help="How much each claim may spend.")] = BudgetChoice.quick,
    seed: Annotated[int, typer.Option(help="The seed of all randomness.", min=0, max=2**32 - 1)] = 0,
    workers: Workers = None,
    cluster: Cluster = None,
    as_json: AsJson = False,
    out: Out = Path("report"),
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Keep verdicts whose code and seed have not changed.")
    ] = True,
) -> None:
    """Check claims, keep the verdicts and build the report.

    Exits with 0 when every claim holds or lacks a requirement here, 1 when one fails, is unsound or
    breaks, 2 when the command cannot be carried out, and 130 when it is interrupted.
    """
    from tendsto.evidence import Budget, Store
    from tendsto.evidence import check as check_claims
    from tendsto.evidence.report import write_report
    from tendsto.evidence.terminal import RunProgress, remarks, verdict_table
    from tendsto.papers import catalogue
    from tendsto.workers import one_thread

    one_thread()
    claims, spend, store = _select(names or [], everything), Budget(budget.value, seed), Store(out)
    _require_writable(out)

    def kept() -> str:
        count = sum(store.load(claim, spend) is not None for claim in claims)
        return f"{count} of {len(claims)} verdicts are kept in {out}: run again without --fresh to go on"

    with RunProgress(len(claims)) as progress, _clear_failures(kept):

        def land(verdict: Verdict) -> None:
            progress.land(verdict)
            if as_json:
                typer.echo(verdict.to_json())

        verdicts = check_claims(
            claims,
            spend,
            workers=workers or cores(),
            cluster=cluster,
            store=store,
            resume=resume,
            on_start=progress.start,
            on_verdict=land,
        )
        page = write_report(store, catalogue())
    if not as_json:
        console = _console()
        console.print(verdict_table(verdicts))
        for remark in remarks(verdicts):
            console.print(remark)
    typer.echo(f"Report: {page}", err=as_json)
    if any(verdict.errored or verdict.verdict in ("fails", "unsound") for verdict in verdicts):
        raise typer.Exit(1)


@app.command(epilog="Example: tendsto report --out results")
def report(out: Out = Path("report")) -> None:
    """Build the report again from the verdicts that are stored."""
    from tendsto.evidence import Store
    from tendsto.evidence.report import write_report
    from tendsto.papers import catalogue

    if not out.is_dir():
        stop(f"--out: there is no folder {out}; tendsto check writes it")
    try:
        page = write_report(Store(out), catalogue())
    except OSError as error:
        stop(_cannot_write(error))
    typer.echo(f"Report: {page}")


app.command(epilog="Example: tendsto discover pi --degree 1,2 --box 5 --out pi.parquet")(cli_constants.discover)
# Negative numbers are digits to name, not options.
app.command(epilog="Example: tendsto identify 0.785398163397448", context_settings={"ignore_unknown_options": True})(
    cli_constants.identify
)
app.command(epilog="Example: tendsto field zeta3 --scan --out zeta3.svg")(cli_constants.field)
app.command(epilog="Example: tendsto serve --folder report")(cli_site.serve)
app.command("import", epilog="Example: tendsto import papers.bib")(cli_site.import_papers)
app.command(epilog="Example: tendsto digest --since 2025-05-01 --out digest.eml")(cli_site.digest)
app.add_typer(cli_site.site, name="site")
app.add_typer(cli_constants.formulas, name="formulas")
app.add_typer(cli_proof.corpus, name="corpus")
app.command(epilog="Example: tendsto prove theories/Lists.v --seconds 120 --corpus mathcomp")(cli_prove.prove)
app.command(epilog="Example: tendsto sketch theories/Lists.v --theorem rev_app --out mended.v")(cli_sketch.sketch)


def main() -> None:
    """Run the command; the entry point of `tendsto`."""
    heed_interrupts()
    app()


def _select(names: list[str], everything: bool) -> list[Claim]:
    """The claims that the command line names, each once."""
    from tendsto.papers import catalogue

    if everything == bool(names):
        stop("name papers or claims to check, or --all for every one, not both")
    if everything:
        return [claim for entry in catalogue().values() for claim in entry.claims.values()]
    chosen: dict[tuple[str, str], Claim] = {}
    for name in names:
        slug, slash, wanted = name.partition("/")
        claims = _paper(slug).claims
        if slash and wanted not in claims:
            stop(f"{slug} has no claim {wanted!r}{_guess(wanted, claims)}")
        chosen |= {(slug, key): claim for key, claim in claims.items() if key == wanted or not slash}
    return list(chosen.values())


def _paper(slug: str) -> Entry:
    from tendsto.papers import catalogue

    if slug not in catalogue():
        stop(f"there is no paper {slug!r}{_guess(slug, catalogue()) or '; tendsto papers lists them'}")
    return catalogue()[slug]


def _guess(name: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(name, known)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _require_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        stop(f"--out: {_cannot_write(error)}")


@contextmanager
def _clear_failures(kept: Callable[[], str]) -> Iterator[None]:
    """Turn what can stop a run from outside into one line that ends with what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        code, cause = 130, "interrupted"
    except (ConnectionError, ImportError) as error:
        code, cause = 2, str(error)
    except OSError as error:
        code, cause = 2, _cannot_write(error)
    else:
        return
    typer.echo(f"tendsto: {cause}; {kept()}", err=True)
    raise typer.Exit(code)


def _cannot_write(error: OSError) -> str:
    return f"cannot write {error.filename or 'a file'}: {error.strerror or error}"


def _searchable(entry: Entry) -> str:
    card = entry.card
    statements = (claim.statement for claim in entry.claims.values())
    return "\n".join([card.slug, card.title, *card.authors, entry.summary, *statements]).casefold()


def _plain_card(entry: Entry) -> dict[str, Any]:
    return vars(entry.card) | {"date": str(entry.card.date), "claims": list(entry.claims)}


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH_OF_A_PIPE)


if __name__ == "__main__":
    main()
