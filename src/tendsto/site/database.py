"""What the site remembers: papers, their claims and verdicts, the queue of runs, and who subscribes."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Iterable
from contextlib import ExitStack, closing, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    Engine,
    ForeignKey,
    Index,
    UniqueConstraint,
    create_engine,
    event,
    make_url,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from tendsto.extras import load
from tendsto.site.dialects import VERSION, Characters, dialect_of
from tendsto.site.settings import Settings

_MOST_SEARCHED = 60_000
_LONGEST_WORD = 100


class Base(DeclarativeBase):
    """The tables; both databases order text by code points."""

    type_annotation_map = {  # noqa: RUF012
        list[str]: JSON,
        dict[str, Any]: JSON,
        str: Characters,
    }


class Paper(Base):
    """A paper as the feed lists it, of the catalogue or imported.

    `key` names it in addresses: the catalogue's slug, else the arXiv identifier, else a digest of its title.
    `published` is when it appeared, `listed` the day of the feed that it stands in; `changed` counts how
    often its words were.
    """

    __tablename__ = "paper"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    slug: Mapped[str | None] = mapped_column(unique=True)
    arxiv: Mapped[str | None] = mapped_column(index=True)
    title: Mapped[str]
    abstract: Mapped[str]
    authors: Mapped[list[str]]
    author_count: Mapped[int | None]
    organization: Mapped[str | None]
    published: Mapped[date | None] = mapped_column(index=True)
    listed: Mapped[date | None]
    comments: Mapped[int]
    upvotes: Mapped[int]
    field: Mapped[str] = mapped_column(index=True)
    extra: Mapped[dict[str, Any]]
    added: Mapped[datetime]
    changed: Mapped[int] = mapped_column(index=True)
    tags: Mapped[list[Tag]] = relationship(cascade="all, delete-orphan", order_by="Tag.name")
    claims: Mapped[list[Claim]] = relationship(cascade="all, delete-orphan", order_by="Claim.id")

    __table_args__ = (
        Index("paper_by_day", "listed", "id"),
        Index("paper_by_day_last", text("listed DESC NULLS LAST"), text("id DESC")).ddl_if(dialect="postgresql"),
    )


class Tag(Base):
    """A word that papers are sorted under."""

    __tablename__ = "tag"

    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True, index=True)


class Claim(Base):
    """A claim of the catalogue, with what its last verdict says."""

    __tablename__ = "claim"

    id: Mapped[int] = mapped_column(primary_key=True)
    paper_id: Mapped[int] = mapped_column(ForeignKey("paper.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    statement: Mapped[str]
    source: Mapped[str]
    evidence: Mapped[str]
    ruling: Mapped[str] = mapped_column(default="not run")
    seconds: Mapped[float | None]

    __table_args__ = (UniqueConstraint("paper_id", "name"),)


class StoredVerdict(Base):
    """A verdict that once stood in the store; `current` says that its file still does.

    `outdated` says that its code or libraries have changed since; None until that has been looked at.
    """

    __tablename__ = "verdict"

    id: Mapped[int] = mapped_column(primary_key=True)
    paper: Mapped[str]
    claim: Mapped[str]
    budget: Mapped[str]
    seed: Mapped[int] = mapped_column(BigInteger)
    ruling: Mapped[str]
    seconds: Mapped[float]
    finished: Mapped[str]
    body: Mapped[str]
    current: Mapped[bool]
    outdated: Mapped[bool | None]

    __table_args__ = (UniqueConstraint("paper", "claim", "budget", "seed", "finished"),)


class VerdictFile(Base):
    """A file of the store as it was last read."""

    __tablename__ = "verdict_file"

    path: Mapped[str] = mapped_column(primary_key=True)
    stamp: Mapped[str]


class Run(Base):
    """A claim that a visitor asked to run."""

    __tablename__ = "run"

    id: Mapped[int] = mapped_column(primary_key=True)
    visitor: Mapped[str] = mapped_column(index=True)
    paper: Mapped[str]
    claim: Mapped[str]
    budget: Mapped[str]
    seed: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(index=True)
    ruling: Mapped[str | None]
    message: Mapped[str] = mapped_column(default="")
    queued: Mapped[datetime]
    started: Mapped[datetime | None]
    ended: Mapped[datetime | None]


class Subscription(Base):
    """A confirmed mail address, what it asks for, and the last paper and verdict that it was sent."""

    __tablename__ = "subscription"

    id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str]
    query: Mapped[str]
    last_paper: Mapped[int]
    last_verdict: Mapped[int]

    __table_args__ = (UniqueConstraint("address", "query"),)


def open_database(settings: Settings) -> Engine:
    """The database of the site: that which `settings` name, else a file in its folder, made if there is none.

    Readers never wait for a writer, and a killed process leaves it sound.

    **Raises** `ValueError` if another version of the site wrote it; `DBAPIError` if it cannot be reached or made;
    `MissingExtra` without the package that talks to it.
    """
    if settings.database:
        load("psycopg", extra="postgresql")
        url = make_url(settings.database).set(drivername="postgresql+psycopg")
    else:
        settings.folder.mkdir(parents=True, exist_ok=True)
        path = settings.folder / "site.sqlite"
        _make_file(path)
        url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, pool_size=20, max_overflow=30, pool_pre_ping=True)
    speech = dialect_of(engine)
    event.listen(engine, "connect", lambda connection, _: _configure(connection, speech.connected))
    with ExitStack() as failure:
        failure.callback(engine.dispose)
        with engine.begin() as connection:
            connection.execute(text(speech.alone))
            found = int(connection.scalar(text(speech.read_version)) or 0)
            if found not in (0, VERSION):
                raise ValueError(f"database: {url!r} has version {found}, this Tendsto writes version {VERSION}")
            if not found:
                Base.metadata.create_all(connection, checkfirst=False)
                for statement in (*speech.create, speech.write_version):
                    connection.execute(text(statement))
        failure.pop_all()
    return engine


def _make_file(path: Path) -> None:
    """An empty SQLite file that has its write-ahead log: of several who turn one on at once, SQLite fails some.

    Where it cannot be made, whoever opens it says why.
    """
    if path.exists():
        return
    with suppress(OSError, sqlite3.Error), TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        with closing(sqlite3.connect(made)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        path.hardlink_to(made)


def _configure(connection: Any, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.execute(statement)
    connection.commit()


def lock(session: Session, *tables: type[Base]) -> None:
    """Wait until nobody else writes to `tables`, and hold others back until the transaction ends.

    What is read from here on stays true until it is acted on. Readers are never held back. Every caller that takes
    several takes them in the same order, so that no two wait for each other.
    """
    for table in tables:
        session.execute(text(dialect_of(session).lock.format(table=table.__tablename__)))


def now() -> datetime:
    """The time in UTC, as the database holds it."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)


def write_text(session: Session, papers: Iterable[Paper]) -> None:
    """Bring what the word search knows of `papers` up to date; they must have been flushed."""
    rows = [
        {
            "rowid": paper.id,
            "title": _words(paper.title),
            "claims": _words("\n".join(claim.statement for claim in paper.claims)),
            "authors": _words(", ".join(paper.authors)),
            "abstract": _words(paper.abstract),
        }
        for paper in papers
    ]
    if rows:
        session.execute(text("DELETE FROM paper_text WHERE rowid = :rowid"), [{"rowid": row["rowid"]} for row in rows])
        session.execute(
            text(
                "INSERT INTO paper_text(rowid, title, claims, authors, abstract)"
                " VALUES (:rowid, :title, :claims, :authors, :abstract)"
            ),
            rows,
        )


def _words(text: str) -> str:
    """The words of `text`, split as a query is: what each database takes for a word is not the same."""
    return " ".join(split_words(text[:_MOST_SEARCHED]))


def split_words(text: str) -> list[str]:
    """The words of a text or of a query, in lower case."""
    return [word[:_LONGEST_WORD] for word in re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text.casefold()))]


def find_paper(session: Session, key: str) -> Paper | None:
    """The paper called `key`, or with that arXiv identifier; with its claims and tags."""
    paper = session.scalars(
        select(Paper).where(Paper.key == key).options(selectinload(Paper.claims), selectinload(Paper.tags))
    ).first()
    return paper or session.scalars(select(Paper).where(Paper.arxiv == key).order_by(Paper.id)).first()
