"""What the two databases say differently: SQLite, in the folder of the verdicts, and PostgreSQL, on a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, String, TypeDecorator
from sqlalchemy.engine import Dialect as Driver
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

VERSION = 1

# What is put around a word that fits, in a text that is shown with its words marked.
OPENED, CLOSED = "\ue000", "\ue001"


@dataclass(frozen=True)
class Dialect:
    """The statements of one database.

    **Arguments**

    - `connected`: what every connection is told: how long to wait for a lock at most; of SQLite also a write-ahead
      log, so that readers never wait for a writer and a killed process leaves the file sound.
    - `alone`: hold back all others who would make the tables.
    - `read_version`, `write_version`: the version of the tables, None or 0 where there are none.
    - `create`: what the word search needs. A word is found by its stem and without its accents, and none is left out.
    - `lock`: hold back other writers of `{table}` until the transaction ends.
    - `changes`: a value that is another one after anyone's write.
    - `word`, `beginning`: a word to look for, and one that may go on.
    - `every`, `some`: what joins them where all must fit, or any.
    - `matches`: the condition that the text of a paper fits `:expression`.
    - `rank`: the order from the best: a title counts three times, a claim twice.
    - `marked`: the text of `{column}`, number `{place}`, with the words that fit between `OPENED` and `CLOSED`.
    """

    connected: tuple[str, ...]
    alone: str
    read_version: str
    write_version: str
    create: tuple[str, ...]
    lock: str
    changes: str
    word: str
    beginning: str
    every: str
    some: str
    matches: str
    rank: str
    marked: str


_DIALECTS = {
    "sqlite": Dialect(
        connected=(
            "PRAGMA busy_timeout = 10000",
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = NORMAL",
            "PRAGMA foreign_keys = ON",
        ),
        alone="BEGIN IMMEDIATE",
        read_version="PRAGMA user_version",
        write_version=f"PRAGMA user_version = {VERSION}",
        create=(
            "CREATE VIRTUAL TABLE paper_text USING fts5(title, claims, authors, abstract,"
            " tokenize = 'porter unicode61 remove_diacritics 2', prefix = '2 3')",
        ),
        lock="DELETE FROM {table} WHERE FALSE",
        changes="PRAGMA data_version",
        word='"{}"',
        beginning='"{}"*',
        every=" AND ",
        some=" OR ",
        matches="paper_text MATCH :expression",
        rank="bm25(paper_text, 3.0, 2.0, 1.0, 1.0)",
        marked=f"highlight(paper_text, {{place}}, '{OPENED}', '{CLOSED}')",
    ),
    "postgresql": Dialect(
        connected=("SET lock_timeout = '10s'",),
        alone="SELECT pg_advisory_xact_lock(hashtext('tendsto'))",
        read_version="SELECT obj_description(to_regclass('paper'), 'pg_class')",
        write_version=f"COMMENT ON TABLE paper IS '{VERSION}'",
        create=(
            "DO $$ BEGIN IF current_setting('server_encoding') <> 'UTF8' THEN RAISE EXCEPTION"
            " 'the database holds %, and not UTF8', current_setting('server_encoding'); END IF; END $$",
            "CREATE EXTENSION IF NOT EXISTS unaccent",
            "CREATE TEXT SEARCH DICTIONARY tendsto_stem (TEMPLATE = snowball, LANGUAGE = porter)",
            "CREATE TEXT SEARCH CONFIGURATION tendsto (COPY = simple)",
            "ALTER TEXT SEARCH CONFIGURATION tendsto ALTER MAPPING FOR asciiword, word, numword"
            " WITH unaccent, tendsto_stem",
            "CREATE TABLE paper_text (rowid integer PRIMARY KEY, title text, claims text, authors text, abstract text,"
            " words tsvector GENERATED ALWAYS AS ("
            "setweight(to_tsvector('tendsto', title), 'A') || setweight(to_tsvector('tendsto', claims), 'B') ||"
            " setweight(to_tsvector('tendsto', authors), 'C') || setweight(to_tsvector('tendsto', abstract), 'D')"
            ") STORED)",
            "CREATE INDEX paper_words ON paper_text USING gin (words)",
        ),
        lock="LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE",
        changes="SELECT CAST(pg_current_snapshot() AS text)",
        word="'{}'",
        beginning="'{}':*",
        every=" & ",
        some=" | ",
        matches="words @@ to_tsquery('tendsto', :expression)",
        rank="-ts_rank('{0.33, 0.33, 0.67, 1}', words, to_tsquery('tendsto', :expression), 1)",
        marked="ts_headline('tendsto', {column}, to_tsquery('tendsto', :expression),"
        f" 'HighlightAll = true, StartSel = {OPENED}, StopSel = {CLOSED}')",
    ),
}


def dialect_of(bound: Engine | Session) -> Dialect:
    """That of the engine or the session."""
    engine = bound.get_bind() if isinstance(bound, Session) else bound
    return _DIALECTS[engine.dialect.name]


class Characters(TypeDecorator[str]):
    """Text that is ordered by code points in both databases; a null character, which only SQLite holds, is U+FFFD."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Driver) -> TypeEngine[Any]:
        return dialect.type_descriptor(String(collation="C" if dialect.name == "postgresql" else None))

    def process_bind_param(self, value: str | None, dialect: Driver) -> str | None:
        return value.replace("\0", "\ufffd") if value else value
