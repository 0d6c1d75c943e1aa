"""SQLite and PostgreSQL: the same site on both, whoever writes at once and whatever is killed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from tendsto.listing import listing
from tendsto.site import digest, runs, shelf
from tendsto.site.database import Paper, Run, Subscription, open_database
from tendsto.site.formats import Imported
from tendsto.site.search import Filters, matching, search
from tendsto.site.settings import Settings
from tendsto.site.site import Site

WRITERS = 4


def imported(number: int) -> Imported:
    return Imported(f"Zebra number {number}", f"2601.{number:05}", "Of games.")


def test_writers_at_once_neither_fail_nor_write_twice(tmp_path, papers, database):
    """From the empty database on: each makes the tables, lists, imports, asks for a run and subscribes."""
    settings, failures = Settings(tmp_path, database=database), []
    together = threading.Barrier(WRITERS)

    def write(place: int) -> None:
        try:
            together.wait()
            site = Site(settings, papers, learns=False)
            together.wait()
            with Session(site.engine) as session, session.begin():
                shelf.take_in(session, map(imported, range(place, place + 20)))
            with Session(site.engine) as session:
                runs.ask(session, papers, "ada", "toy-sums/twice_two_is_four", "quick", 0, settings)
                digest.subscribe(session, "ada@example.org", "")
            site.close()
        except Exception as error:
            failures.append(error)
            together.abort()

    threads = [threading.Thread(target=write, args=(place,)) for place in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    engine = open_database(settings)
    fresh = {f"2601.{number:05}" for number in range(19 + WRITERS)}
    with Session(engine) as session:
        keys = list(session.scalars(select(Paper.key)))
        assert sorted(keys) == sorted(fresh | listing().keys() | papers.keys())
        assert session.scalar(text("SELECT count(*) FROM paper_text")) == len(keys)
        assert {paper.key for paper in matching(session, "zebra", Filters(), 100)} == fresh
        assert [session.scalar(select(func.count(table.id))) for table in (Run, Subscription)] == [1, 1]
    engine.dispose()


def test_a_file_is_made_by_many_at_once(tmp_path):
    """Fifty times: without care one in ten fails."""
    together = threading.Barrier(WRITERS)

    def open_one(folder: Path) -> str:
        together.wait()
        engine = open_database(Settings(folder))
        with engine.connect() as connection:
            mode = connection.scalar(text("PRAGMA journal_mode"))
        engine.dispose()
        return mode

    with ThreadPoolExecutor(WRITERS) as pool:
        for number in range(50):
            folder = tmp_path / str(number)
            assert list(pool.map(open_one, [folder] * WRITERS)) == ["wal"] * WRITERS
            assert [path.name for path in folder.iterdir()] == ["site.sqlite"]


def test_what_a_database_cannot_hold_is_not_found_and_breaks_nothing(client):
    for address in ("/papers/%00", "/tag/%00", "/papers/toy-%00sums", f"/runs/{2**31}", f"/runs/{2**63}"):
        assert client.get(address).status_code == 404
    for address in ("/search?q=%00&tag=%00&field=%00", f"/search?q={'x' * 1000}", f"/search?q={'漢' * 1000}"):
        assert client.get(address).status_code == 200
    assert client.get("/api/daily_papers?submitter=%00").status_code == 422


def test_the_largest_seed_is_kept(site):
    with Session(site.engine) as session:
        runs.ask(session, site.papers, "ada", "toy-sums/twice_two_is_four", "quick", 2**32 - 1, site.settings)
        assert session.scalars(select(Run.seed)).all() == [2**32 - 1]


def test_a_text_longer_than_any_is_listed_and_found(site):
    with Session(site.engine) as session, session.begin():
        words = " ".join(f"{number:x}漢字" for number in range(300_000))
        shelf.take_in(session, [Imported("Endless", "2601.00001", f"beginning {words}", upvotes=2**31 - 1)])
    with Session(site.engine) as session:
        assert [paper.title for paper in matching(session, "endless beginning", Filters(), 5)] == ["Endless"]


@pytest.fixture
def on_server(tmp_path, papers, postgresql):
    """A site on PostgreSQL."""
    opened = Site(Settings(tmp_path / "server", database=postgresql.create_database()), papers, learns=False)
    yield opened
    opened.close()


@pytest.mark.parametrize("query", ["halpern iteration", "x_k (finite-sum) Moulínes", "1/n O(1/k^2)", "prov", "the"])
def test_both_find_the_same_for_the_same_reasons(tmp_path, papers, on_server, query):
    other = Site(Settings(tmp_path), papers, learns=False)
    found = []
    for site in (other, on_server):
        with Session(site.engine) as session:
            found.append({hit.paper.key: hit.reason for hit in search(session, None, query, size=200).hits})
    assert found[0] == found[1]
    assert found[0]
    other.close()


def test_a_word_of_the_title_counts_more_than_one_of_the_abstract(site):
    """Two papers of the same words; without weights the first would stand first."""
    with Session(site.engine) as session, session.begin():
        shelf.take_in(session, [Imported("Plain", "2601.00001", "Zebra."), Imported("Zebra", "2601.00002", "Plain.")])
    with Session(site.engine) as session:
        assert [hit.paper.title for hit in search(session, None, "zebra").hits] == ["Zebra", "Plain"]


def test_a_server_that_is_killed_loses_nothing_that_was_written(on_server, postgresql):
    with Session(on_server.engine) as session, session.begin():
        shelf.take_in(session, [imported(1)])
    assert on_server.kept.get("a", lambda: 1) == 1
    unwritten = Session(on_server.engine)
    shelf.take_in(unwritten, [imported(2)])
    postgresql.kill()
    with pytest.raises(DBAPIError):
        unwritten.commit()
    unwritten.close()
    for _ in range(2):
        with pytest.raises(DBAPIError), Session(on_server.engine) as session:
            session.scalar(select(Paper.id))
        with pytest.raises(DBAPIError):
            on_server.kept.get("a", lambda: 2)
    postgresql.start()
    # The site goes on by itself.
    assert on_server.kept.get("a", lambda: 2) == 2
    with Session(on_server.engine) as session:
        assert [paper.title for paper in matching(session, "zebra", Filters(), 5)] == ["Zebra number 1"]
        assert session.scalars(select(Paper.key).where(Paper.key == "2601.00002")).all() == []


def test_a_database_of_another_version_is_left_alone(on_server):
    with on_server.engine.begin() as connection:
        connection.execute(text("COMMENT ON TABLE paper IS '7'"))
    address = on_server.settings.database.replace("tests@", "tests:secret@")
    with pytest.raises(ValueError, match="has version 7") as raised:
        open_database(Settings(on_server.settings.folder, database=address))
    assert "secret" not in str(raised.value)
    assert "secret" not in repr(Settings(on_server.settings.folder, database=address))


def test_a_database_that_cannot_hold_every_letter_is_refused(tmp_path, postgresql):
    with pytest.raises(DBAPIError, match="not UTF8"):
        open_database(Settings(tmp_path, database=postgresql.create_database("LATIN1")))
