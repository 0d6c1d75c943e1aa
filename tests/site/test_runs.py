"""The queue of runs: fair, cancelled, honest, and whole after a server that was killed."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import time

import httpx2
import psutil
import pytest
from site_forms import submit
from site_server import ROOT, TOYS, serving
from sqlalchemy import select
from sqlalchemy.orm import Session

from tendsto.evidence import Budget, check
from tendsto.site import runs, shelf
from tendsto.site.database import Claim, Run, StoredVerdict, now, open_database
from tendsto.site.settings import Settings

SECONDS = 120
LONG = 600.0


def wait(found, seconds: float = SECONDS):
    """What `found` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError("it did not come")


def ask(session, site, visitor, claim="toy-sums/twice_two_is_four", seed=0) -> Run:
    return runs.ask(session, site.papers, visitor, claim, "quick", seed, site.settings)


def test_visitors_take_turns_and_each_keeps_their_order(site):
    with Session(site.engine) as session:
        for seed in range(4):
            ask(session, site, "greedy", seed=seed)
        ask(session, site, "late", seed=10)
        ask(session, site, "later", seed=20)
        ask(session, site, "late", seed=11)
        order = []
        while run := runs.next_run(session):
            order.append((run.visitor, run.seed))
            run.state, run.started = "running", run.queued.replace(year=2000, second=len(order))
            session.commit()
    assert order == [
        *(("greedy", 0), ("late", 10), ("later", 20)),
        *(("greedy", 1), ("late", 11), ("greedy", 2), ("greedy", 3)),
    ]


def test_the_same_run_asked_for_twice_is_one(site):
    with Session(site.engine) as session:
        first = ask(session, site, "ada")
        assert ask(session, site, "ada").id == first.id
        assert ask(session, site, "bea").id != first.id
        runs.cancel(session, first)
        assert ask(session, site, "ada").id != first.id
        assert first.state == "cancelled"


def test_the_place_in_the_queue_and_the_time_it_takes(site, papers):
    with Session(site.engine) as session:
        one, two = ask(session, site, "ada"), ask(session, site, "bea")
        assert (runs.place(session, one), runs.place(session, two)) == (0, 1)
        assert runs.expected_seconds(session, one) is None
        (verdict,) = check([papers["toy-sums"].claims["twice_two_is_four"]], Budget(), store=site.store)
        shelf.read_verdicts(session, site.store)
        assert runs.expected_seconds(session, one) == verdict.seconds


@pytest.fixture
def started(site, monkeypatch):
    """A queue that runs, in processes that know the toy papers."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(TOYS)]))
    site.runner.start()
    yield site
    site.runner.stop()


def test_a_run_ends_as_its_claim_does(started):
    """A control that holds makes the verdict unsound, and a process that is killed has none."""
    site = started
    with Session(site.engine) as session:
        for claim in ("cannot_tell", "is_killed"):
            ask(session, site, "ada", f"toy-crashes/{claim}")

        def ended():
            session.expire_all()
            found = session.scalars(select(Run).order_by(Run.id)).all()
            return found if all(run.state not in runs.OPEN for run in found) else None

        honest, killed = wait(ended)
        assert (honest.state, honest.ruling) == ("done", "unsound")
        assert (killed.state, killed.ruling) == ("failed", None)
        assert "SIGKILL" in killed.message
        among = Claim.name.in_(("cannot_tell", "is_killed"))
        rulings = dict(session.execute(select(Claim.name, Claim.ruling).where(among)).all())
        assert rulings == {"cannot_tell": "unsound", "is_killed": "not run"}
        (stored,) = site.store.verdicts()
        assert (stored.claim, stored.control) == ("cannot_tell", "holds")


def test_a_claim_whose_control_holds_is_never_shown_as_holding(site, client, papers):
    check([papers["toy-crashes"].claims["cannot_tell"]], Budget(), store=site.store)
    with Session(site.engine) as session, session.begin():
        shelf.read_verdicts(session, site.store)
    for address in ("/papers/toy-crashes", "/search?q=ways+to+break"):
        text = client.get(address).text
        assert "badge unsound" in text
        assert "badge holds" not in text


def test_a_later_verdict_replaces_an_earlier_one_which_stays_as_history(site, client, papers, monkeypatch):
    claim = papers["toy-sums"].claims["twice_two_is_four"]
    check([claim], Budget(), store=site.store)
    path = next(site.store.folder.glob("verdicts/toy-sums/*.json"))

    def read() -> int:
        with Session(site.engine) as session, session.begin():
            return shelf.read_verdicts(session, site.store)

    assert read() == 1
    plain = json.loads(path.read_text())
    plain["verdict"] |= {"finished": "2100-01-01T00:00:00+00:00", "verdict": "fails"}
    path.write_text(json.dumps(plain))
    assert read() == 1
    with Session(site.engine) as session:
        rows = session.execute(select(StoredVerdict.ruling, StoredVerdict.current).order_by(StoredVerdict.id)).all()
        assert [tuple(row) for row in rows] == [("holds", False), ("fails", True)]
        assert session.scalar(select(Claim.ruling).where(Claim.name == "twice_two_is_four")) == "fails"
    page = client.get("/papers/toy-sums").text
    assert "2 verdicts" in page
    path.write_text("damaged")
    assert read() == 0
    path.unlink()
    assert read() == 0
    with Session(site.engine) as session:
        assert session.scalar(select(Claim.ruling).where(Claim.name == "twice_two_is_four")) == "not run"
        assert len(session.scalars(select(StoredVerdict)).all()) == 2


def test_the_last_verdict_rules_in_whatever_order_they_are_read(site, papers):
    claim = papers["toy-sums"].claims["twice_two_is_four"]
    rules = ["fails", "fails", "unsound"]
    for seed, (day, verdict) in enumerate([(2, "fails"), (1, "holds"), (3, "unsound")]):
        check([claim], Budget(seed=seed), store=site.store)
        (path,) = site.store.folder.glob(f"verdicts/toy-sums/*.{seed}.json")
        plain = json.loads(path.read_text())
        plain["verdict"] |= {"finished": f"2100-01-0{day}T00:00:00+00:00", "verdict": verdict}
        path.write_text(json.dumps(plain))
        with Session(site.engine) as session, session.begin():
            assert shelf.read_verdicts(session, site.store) == 1
            assert session.scalar(select(Claim.ruling).where(Claim.name == "twice_two_is_four")) == rules[seed]


def test_a_verdict_whose_code_has_changed_is_marked(site, client, papers):
    check([papers["toy-sums"].claims["twice_two_is_four"]], Budget(), store=site.store)

    def audited() -> str:
        with Session(site.engine) as session, session.begin():
            shelf.read_verdicts(session, site.store)
            assert shelf.audit(session, site.store, site.papers)
            assert not shelf.audit(session, site.store, site.papers)
        return client.get("/papers/toy-sums").text

    assert "Outdated" not in audited()
    path = next(site.store.folder.glob("verdicts/toy-sums/*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": "another"}))
    assert "Outdated" in audited()


def workers(folder) -> list[int]:
    """The processes that run claims for the site in `folder`."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if {"tendsto.site.worker", str(folder)} <= set(process.info["cmdline"] or ())
    ]


def test_a_server_that_is_killed_leaves_its_queue_whole(tmp_path, database):
    with (
        serving(tmp_path, "--database", database, seconds=LONG) as server,
        httpx2.Client(base_url=server.address) as browser,
    ):
        for seed in range(2):
            fields = {"claim": "toy-sums/twice_two_is_four", "budget": "quick", "seed": str(seed)}
            assert submit(browser, "/papers/toy-sums", "/runs", **fields).status_code == 303
        wait(lambda: "<strong>running</strong>" in browser.get("/runs/1").text)
        (worker,) = workers(tmp_path)
        server.kill()
        wait(lambda: worker not in workers(tmp_path))
        if not database:
            with sqlite3.connect(tmp_path / "site.sqlite") as file:
                assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        server.start()
        states = [re.search("<strong>(.*?)</strong>", browser.get(f"/runs/{it}").text)[1] for it in (1, 2)]
        assert states[0] == "interrupted"
        assert states[1] in runs.OPEN
        wait(lambda: "<strong>running</strong>" in browser.get("/runs/2").text)
    engine = open_database(Settings(tmp_path, database=database))
    with Session(engine) as session:
        assert session.scalars(select(Run.state).order_by(Run.id)).all() == ["interrupted", "interrupted"]
    engine.dispose()


def test_who_cancels_a_run_frees_the_place_for_the_next(started, client, monkeypatch):
    monkeypatch.setenv("TOY_SECONDS", str(LONG))
    for seed in range(2):
        fields = {"claim": "toy-sums/twice_two_is_four", "budget": "quick", "seed": str(seed)}
        assert submit(client, "/papers/toy-sums", "/runs", **fields).status_code == 303
    wait(lambda: "<strong>running</strong>" in client.get("/runs/1").text)
    (worker,) = workers(started.settings.folder)
    stranger = type(client)(client.app, base_url=started.settings.address)
    assert "/runs/1/cancel" not in stranger.get("/runs/1").text
    assert "/runs/2" in client.get("/papers/toy-sums").text
    assert "/runs/2" not in stranger.get("/papers/toy-sums").text
    assert submit(client, "/runs/1", "/runs/1/cancel").status_code == 303
    assert "<strong>cancelled</strong>" in client.get("/runs/1").text
    wait(lambda: "<strong>running</strong>" in client.get("/runs/2").text)
    assert worker not in workers(started.settings.folder)


def test_progress_is_streamed_until_the_run_ends(site, client):
    with Session(site.engine) as session:
        run = ask(session, site, "ada")
        runs.cancel(session, run)
    events = client.get("/runs/1/events")
    assert events.headers["content-type"].startswith("text/event-stream")
    status, news, end = events.text.strip().split("\n\n")
    assert status.startswith("event: status")
    assert "cancelled" in status
    assert news.splitlines() == ["event: news", "data: Run 1 cancelled"]
    assert end.startswith("event: end")


def test_a_run_that_takes_too_long_is_ended(started, monkeypatch):
    monkeypatch.setitem(runs._SECONDS, "quick", -1)
    with Session(started.engine) as session:
        run = ask(session, started, "ada")

        def ended():
            session.refresh(run)
            return run.state == "failed"

        wait(ended)
        assert "more than -1 seconds" in run.message
        assert run.ended <= now()


def test_a_process_that_cannot_be_started_fails_its_run_and_not_the_queue(site, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no more processes")

    monkeypatch.setattr("tendsto.site.runs.subprocess.Popen", refuse)
    with Session(site.engine) as session:
        runs_asked = [ask(session, site, "ada", seed=seed) for seed in range(2)]
        site.runner._begin()
        for run in runs_asked:
            session.refresh(run)
            assert (run.state, "no more processes" in run.message) == ("failed", True)


def test_a_run_that_is_cancelled_as_it_is_due_does_not_start(site, monkeypatch):
    with Session(site.engine) as session:
        run = ask(session, site, "ada")

        def due(other):
            runs.cancel(session, run)
            monkeypatch.setattr(runs, "next_run", lambda _: None)
            return other.get(Run, run.id)

        monkeypatch.setattr(runs, "next_run", due)
        site.runner._begin()
        session.refresh(run)
        assert (run.state, site.runner._children) == ("cancelled", {})


def begun(site, monkeypatch, program: str) -> psutil.Process:
    """A run that has begun, whose process is a shell with this program."""

    def spawn(run, log):
        return subprocess.Popen(["sh", "-c", program], stdout=log, stderr=log, start_new_session=True)

    monkeypatch.setattr(site.runner, "_spawn", spawn)
    with Session(site.engine) as session:
        ask(session, site, "ada")
    site.runner._begin()
    (child,) = site.runner._children.values()
    return psutil.Process(child.process.pid)


def cancel_first(site) -> None:
    with Session(site.engine) as session:
        runs.cancel(session, session.get_one(Run, 1))


def test_what_a_run_has_started_ends_with_it(site, monkeypatch):
    shell = begun(site, monkeypatch, "sleep 600 & wait")
    (started,) = wait(shell.children)
    cancel_first(site)
    site.runner._look()
    wait(lambda: not started.is_running() or started.status() == psutil.STATUS_ZOMBIE)


def test_a_run_that_is_cancelled_as_it_ends_stays_cancelled(site, monkeypatch):
    ended = begun(site, monkeypatch, "true")
    wait(lambda: ended.status() == psutil.STATUS_ZOMBIE)
    cancel_first(site)
    site.runner._look()
    with Session(site.engine) as session:
        assert session.get_one(Run, 1).state == "cancelled"
    assert site.runner._children == {}
