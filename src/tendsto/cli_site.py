"""The commands of the site: serve it, write it as files, fill it with papers, send its digest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tendsto.cli_options import stop
from tendsto.extras import MissingExtra, load

if TYPE_CHECKING:
    from tendsto.site.settings import Settings
    from tendsto.site.site import Site

site = typer.Typer(help="The site as files.", no_args_is_help=True)
Folder = Annotated[
    Path,
    typer.Option(help="Folder of the verdicts (--out of tendsto check) and of the site's database.", file_okay=False),
]

Smtp = Annotated[
    str, typer.Option(metavar="URL", help="Where mail is handed in: smtp://localhost:25, smtps://user:pass@host.")
]
Sender = Annotated[str, typer.Option(metavar="ADDRESS", help="Whom mail is from.")]
Database = Annotated[
    str,
    typer.Option(
        envvar="TENDSTO_DATABASE",
        metavar="URL",
        help="Keep papers, queue and subscriptions in PostgreSQL: postgresql://user:password@host/name.",
    ),
]


def serve(
    folder: Folder = Path("report"),
    host: Annotated[
        str, typer.Option(help="Address to listen on; others can reach any but this machine's own.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    public: Annotated[bool, typer.Option("--public", help="Others may reach it: runs ask for a token.")] = False,
    address: Annotated[
        str, typer.Option(metavar="URL", help="How others reach it, for links in mails and feeds.")
    ] = "",
    smtp: Smtp = "",
    sender: Sender = "",
    workers: Annotated[int, typer.Option(help="Claims that run at a time.", min=1)] = 1,
    largest_budget: Annotated[
        Literal["quick", "standard", "full"], typer.Option(help="What one run may spend at most.")
    ] = "full",
    database: Database = "",
) -> None:
    """Serve the front page: a feed of papers, a search, and a button that runs each claim."""
    _load()
    import uvicorn

    from tendsto.site.app import create_app
    from tendsto.site.settings import MailServer, Settings

    with _clear_failures():
        mail = MailServer.from_address(smtp, sender) if smtp else None
        settings = Settings(folder, host, port, public, address, mail, workers, largest_budget, database)
        app = create_app(_open(settings))
    typer.echo(f"Tendsto: {settings.address}")
    if settings.public:
        settings.secret("admin-token")
        typer.echo(f"Runs ask for the token in {settings.folder / 'site.admin-token'}")
    uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False, timeout_graceful_shutdown=3)


@site.command(epilog="Example: tendsto site build --out public")
def build(
    folder: Folder = Path("report"),
    out: Annotated[Path, typer.Option(help="Folder to write the files into.", file_okay=False)] = Path("public"),
    address: Annotated[str, typer.Option(metavar="URL", help="Where they will lie, for links in feeds.")] = "",
    database: Database = "",
) -> None:
    """Write the same pages as files for any web host: nothing can be run, all else works."""
    _load()
    from tendsto.site.settings import Settings
    from tendsto.site.static_build import build as write

    with _clear_failures(), closing(_open(Settings(folder, address=address, database=database), frozen=True)) as opened:
        count = write(opened, out)
    typer.echo(f"Site: {out / 'index.html'} ({count} files)")


def import_papers(
    files: Annotated[list[Path] | None, typer.Argument(help="Atom of arXiv, JSON of Daily Papers, or BibTeX.")] = None,
    folder: Folder = Path("report"),
    arxiv: Annotated[str, typer.Option(metavar="QUERY", help="Ask arXiv now, such as cat:math.OC.")] = "",
    most: Annotated[int, typer.Option(help="How many to ask arXiv for at most.", min=1, max=30_000)] = 100,
    daily_papers: Annotated[str, typer.Option(metavar="DATE", help="Ask Daily Papers now for a day.")] = "",
    database: Database = "",
) -> None:
    """List papers from files, or from the services that are named; nothing is fetched unless it is asked for."""
    _load()
    import httpx2
    from sqlalchemy.orm import Session

    from tendsto.site import fetch, formats, shelf
    from tendsto.site.settings import Settings

    if not (files or arxiv or daily_papers):
        stop("name files to import, or --arxiv or --daily-papers")
    batches = []
    for path in files or []:
        try:
            batches.append(formats.read(path.read_bytes()))
        except (OSError, ValueError) as error:
            stop(f"{path}: {error}")
    with _clear_failures(), closing(_open(Settings(folder, database=database), learn=False)) as opened:
        try:
            if arxiv:
                batches.extend(fetch.from_arxiv(arxiv, most))
            if daily_papers:
                batches.append(fetch.from_daily_papers(daily_papers))
        except (httpx2.HTTPError, ValueError) as error:
            stop(f"cannot fetch: {error}")
        with Session(opened.engine) as session, session.begin():
            counts = shelf.take_in(session, (paper for batch in batches for paper in batch))
        opened.learn()
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
    typer.echo(f"Papers: {told or 'none'}")


def digest(
    folder: Folder = Path("report"),
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DATE", help="What is new from this day on.")
    ] = None,
    query: Annotated[str, typer.Option(help="Only papers with these words.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Write the digest to this file, such as digest.eml.", dir_okay=False)
    ] = None,
    smtp: Smtp = "",
    sender: Sender = "",
    address: Annotated[str, typer.Option(metavar="URL", help="How the site is reached, for the links.")] = "",
    database: Database = "",
) -> None:
    """Write a digest to a file, or send every subscriber what is new to them since their last one."""
    _load()
    from sqlalchemy.orm import Session

    from tendsto.files import write_atomically
    from tendsto.site import digest as mail
    from tendsto.site.settings import MailServer, Settings

    if (out is None) == (not smtp):
        stop("say where to: --out FILE, or --smtp URL")
    if (since is None) != (out is None):
        stop("--since goes with --out; a subscriber's digest begins where the last one ended")
    failures: list[str] = []
    with _clear_failures():
        server = MailServer.from_address(smtp, sender) if smtp else None
        with closing(_open(Settings(folder, address=address, mail=server, database=database), learn=False)) as opened:
            if out is not None and since is not None:
                with Session(opened.engine) as session:
                    found = mail.since(session, since.date(), query)
                    message = mail.compose(opened, found, query=query)
                with write_atomically(out) as stream:
                    stream.write(message)
                typer.echo(f"Digest: {out} ({len(found.papers)} papers, {len(found.verdicts)} verdicts)")
                return
            sent = mail.send_news(opened, lambda name, error: failures.append(f"{name}: {error}"))
    typer.echo(f"Sent: {sent}")
    for failure in failures:
        typer.echo(f"tendsto: not sent: {failure}", err=True)
    if failures:
        raise typer.Exit(1)


def _open(settings: Settings, *, frozen: bool = False, learn: bool = True) -> Site:
    from tendsto.papers import catalogue
    from tendsto.site.site import Site

    return Site(settings, catalogue(), frozen=frozen, learns=learn)


@contextmanager
def _clear_failures() -> Iterator[None]:
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        stop(f"database: {error.orig}")
    except typer.Exit:  # it is a RuntimeError, and has been explained
        raise
    except (OSError, ValueError, RuntimeError, MissingExtra) as error:
        stop(str(error))


def _load() -> None:
    """Stop with a line that says what brings the site where its packages are missing."""
    try:
        for module in ("fastapi", "uvicorn", "sqlalchemy"):
            load(module, extra="site")
    except MissingExtra as error:
        stop(str(error))
