"""Mail: asked for, confirmed, sent once, ended; through a real SMTP server on this machine."""

from __future__ import annotations

import email
import email.policy
import json
import re
from datetime import date, timedelta

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message
from benchmarks.site.server import free_port
from fastapi.testclient import TestClient
from itsdangerous import TimestampSigner
from site_forms import submit
from sqlalchemy import select
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from tendsto.cli import app
from tendsto.evidence import Budget, check
from tendsto.site import digest, shelf
from tendsto.site.app import create_app
from tendsto.site.database import Subscription
from tendsto.site.formats import Imported
from tendsto.site.search import Filters
from tendsto.site.settings import MailServer, Settings
from tendsto.site.site import Site

NEWS = Imported(
    "Fresh & <b>bold</b> news of games",
    "2601.00001",
    "An $x<y$ abstract.",
    ("Ada",),
    date(2026, 1, 2),
    date(2026, 1, 2),
)
OTHER = Imported("Something else", "2601.00002", "Nothing of the kind.", (), date(2026, 1, 2), date(2026, 1, 2))


class Letterbox(Message):
    """Keeps what it is handed, or refuses it."""

    def __init__(self) -> None:
        super().__init__()
        self.messages, self.refused = [], set()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.refused:
            return "550 no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    def prepare_message(self, session, envelope):
        return email.message_from_bytes(envelope.content, policy=email.policy.default)

    def handle_message(self, message):
        self.messages.append(message)


@pytest.fixture
def letterbox():
    box = Letterbox()
    box.port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    yield box
    controller.stop()


@pytest.fixture
def site(tmp_path, papers, letterbox, database):
    server = MailServer.from_address(f"smtp://127.0.0.1:{letterbox.port}", "tendsto@example.org")
    opened = Site(Settings(tmp_path, mail=server, database=database), papers, learns=False)
    yield opened
    opened.close()


def subscriptions(site) -> list[tuple[str, str]]:
    with Session(site.engine) as session:
        rows = session.scalars(select(Subscription).order_by(Subscription.id))
        return [(row.address, row.query) for row in rows]


def link_in(message, site, part: str) -> str:
    text = message.get_body(("plain",)).get_content()
    found = re.search(rf"{re.escape(site.settings.address)}(/{part}/\S+)", text)
    return found[1]


def take_in(site, *papers) -> None:
    with Session(site.engine) as session, session.begin():
        shelf.take_in(session, papers)


def refuse(address: str, error: OSError) -> None:
    raise AssertionError(f"{address}: {error}")


def test_a_subscription_is_asked_for_confirmed_sent_and_ended(client, site, letterbox):
    answer = submit(client, "/subscribe?q=games", "/subscribe", address="ada@example.org")
    assert "Look into your mail" in answer.text
    (request,) = letterbox.messages
    assert (request["To"], request["From"]) == ("ada@example.org", "Tendsto <tendsto@example.org>")
    confirm = link_in(request, site, "subscribe/confirm")
    # Neither the request nor opening the link stores an address: programs open links too.
    client.get(confirm).raise_for_status()
    assert subscriptions(site) == []
    assert not any(b"ada@example.org" in path.read_bytes() for path in site.settings.folder.glob("site.sqlite*"))
    submit(client, confirm, confirm)
    submit(client, confirm, confirm)
    assert subscriptions(site) == [("ada@example.org", "q=games")]

    assert digest.send_news(site, refuse) == 0
    take_in(site, NEWS, OTHER)
    assert digest.send_news(site, refuse) == 1
    message = letterbox.messages[1]
    assert message["To"] == "ada@example.org"
    text, page = (message.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert "Fresh & <b>bold</b> news of games" in text
    assert "Fresh &amp; &lt;b&gt;bold&lt;/b&gt; news of games" in page
    assert "Something else" not in text + page
    assert digest.send_news(site, refuse) == 0

    leave = link_in(message, site, "unsubscribe")
    assert message["List-Unsubscribe"] == f"<{site.settings.address}{leave}>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    client.get(leave).raise_for_status()
    assert len(subscriptions(site)) == 1
    mail_program = TestClient(create_app(site), base_url=site.settings.address)
    assert mail_program.post(leave, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    assert subscriptions(site) == []
    take_in(site, Imported("More games", "2601.00003"))
    assert digest.send_news(site, refuse) == 0


def test_links_that_are_forged_or_old_do_nothing(client, site, letterbox, monkeypatch):
    submit(client, "/subscribe", "/subscribe", address="ada@example.org")
    confirm = link_in(letterbox.messages[0], site, "subscribe/confirm")
    assert client.get(confirm[:-2]).status_code == 404
    assert client.get("/subscribe/confirm/x").status_code == 404
    leave = digest.unsubscribe_link(site, "ada@example.org", "").removeprefix(site.settings.address)
    assert client.get(confirm.replace(confirm.rpartition("/")[2], leave.rpartition("/")[2])).status_code == 404
    later = TimestampSigner.get_timestamp
    three_days = timedelta(days=3).total_seconds()
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda signer: later(signer) + int(three_days))
    assert client.get(confirm).status_code == 404
    assert client.post("/unsubscribe/x").status_code == 404
    assert subscriptions(site) == []


@pytest.mark.parametrize(
    "address", ["", "ada", "ada@", "a b@example.org", "a@example.org\r\nBcc: b@example.org", "a" * 300]
)
def test_what_is_no_address_gets_no_mail(client, letterbox, address):
    assert submit(client, "/subscribe", "/subscribe", address=address).status_code == 422
    assert letterbox.messages == []


def test_nobody_is_flooded_with_requests_to_confirm(client, letterbox):
    codes = [submit(client, "/subscribe", "/subscribe", address="ada@example.org").status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    assert len(letterbox.messages) == 3


def test_the_same_state_gives_the_same_bytes(site):
    take_in(site, NEWS)
    with Session(site.engine) as session:
        one, other = (
            digest.compose(site, digest.since(session, date(2025, 10, 1)), recipient="a@b.org") for _ in range(2)
        )
        fewer = digest.compose(site, digest.since(session, date(2025, 11, 1)), recipient="a@b.org")
    assert one == other
    message = email.message_from_bytes(one, policy=email.policy.default)
    assert message["Date"].datetime.date() == date(2026, 1, 2)
    text = message.get_body(("plain",)).get_content()
    assert ("Optimization by Directional Attacks" in text, "Deep Self-Evolving" in text, "STP:" in text) == (
        True,
        True,
        False,
    )
    assert message["Message-ID"] != email.message_from_bytes(fewer, policy=email.policy.default)["Message-ID"]


def test_verdicts_are_news_once(site, papers, letterbox):
    with Session(site.engine) as session:
        digest.subscribe(session, "ada@example.org", "")
        digest.subscribe(session, "bea@example.org", "q=nothing+of+the+kind")
        check([papers["toy-sums"].claims["twice_two_is_four"]], Budget(), store=site.store)
        shelf.read_verdicts(session, site.store)
        session.commit()
    assert digest.send_news(site, refuse) == 1
    assert "holds: toy-sums/twice_two_is_four" in letterbox.messages[0].get_body(("plain",)).get_content()
    assert digest.send_news(site, refuse) == 0


def test_a_verdict_that_another_has_replaced_is_no_news(site, papers, letterbox):
    check([papers["toy-sums"].claims["twice_two_is_four"]], Budget(), store=site.store)
    (path,) = site.store.folder.glob("verdicts/toy-sums/*.json")
    with Session(site.engine) as session:
        digest.subscribe(session, "ada@example.org", "")
        for finished in ("2100-01-01T00:00:00+00:00", "2100-01-02T00:00:00+00:00"):
            plain = json.loads(path.read_text())
            plain["verdict"]["finished"] = finished
            path.write_text(json.dumps(plain))
            assert shelf.read_verdicts(session, site.store) == 1
        session.commit()
    assert digest.send_news(site, refuse) == 1
    assert letterbox.messages[0].get_body(("plain",)).get_content().count("toy-sums/twice_two_is_four") == 1


@pytest.mark.parametrize("number", [100, 101])
def test_what_a_digest_leaves_out_is_told(site, letterbox, number):
    with Session(site.engine) as session:
        digest.subscribe(session, "ada@example.org", "")
    take_in(site, *(Imported(f"Paper {place}", listed=date(2030, 1, 1)) for place in range(number)))
    assert digest.send_news(site, refuse) == 1
    with Session(site.engine) as session:
        found = digest.since(session, date(2030, 1, 1))
    assert (len(found.papers), found.more) == (100, number > 100)
    for kind in ("plain", "html"):
        assert ("there are more" in letterbox.messages[0].get_body((kind,)).get_content()) == (number > 100)


def test_who_leaves_one_search_keeps_the_other(site):
    with Session(site.engine) as session:
        for query in ("q=games", "q=proofs"):
            digest.subscribe(session, "ada@example.org", query)
        assert digest.unsubscribe(
            site, session, digest.unsubscribe_link(site, "ada@example.org", "q=games").rpartition("/")[2]
        )
    assert subscriptions(site) == [("ada@example.org", "q=proofs")]


def test_who_could_not_be_reached_is_sent_it_with_the_next_run(site, letterbox):
    with Session(site.engine) as session:
        for address in ("gone@example.org", "ada@example.org"):
            digest.subscribe(session, address, "")
    take_in(site, NEWS)
    letterbox.refused.add("gone@example.org")
    failures = []
    assert digest.send_news(site, lambda address, error: failures.append(address)) == 1
    assert failures == ["gone@example.org"]
    letterbox.refused.clear()
    assert digest.send_news(site, refuse) == 1
    assert [it["To"] for it in letterbox.messages] == ["ada@example.org", "gone@example.org"]
    assert digest.send_news(site, refuse) == 0


def test_a_search_survives_its_subscription():
    filters = Filters(field="optimize", year=2024, seconds=10.0, status="not run")
    assert digest.read_query(digest.write_query("a&b=c é", filters)) == ("a&b=c é", filters)


def test_the_command_writes_the_same_file_twice_and_sends_once(tmp_path, letterbox, database):
    def run(*arguments):
        return CliRunner().invoke(
            app,
            ["digest", "--folder", str(tmp_path / "site"), "--database", database, *map(str, arguments)],
            catch_exceptions=False,
        )

    files = [tmp_path / name for name in ("one.eml", "two.eml")]
    for path in files:
        assert run("--since", "2025-10-01", "--out", path).exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert b"Tendsto: 2 papers" in files[0].read_bytes()
    site = Site(Settings(tmp_path / "site", database=database), {}, learns=False)
    with Session(site.engine) as session:
        digest.subscribe(session, "ada@example.org", "")
    take_in(site, NEWS)
    site.close()
    smtp = ("--smtp", f"smtp://127.0.0.1:{letterbox.port}", "--sender", "tendsto@example.org")
    assert run(*smtp).output == "Sent: 1\n"
    assert run(*smtp).output == "Sent: 0\n"
    assert run().exit_code == run("--since", "2025-10-01", *smtp).exit_code == 2
    assert run("--smtp", "nonsense", "--sender", "a@b").exit_code == 2
