"""What the site refuses: forged forms, strangers' names, runs of anything but named claims, and hostile words."""

from __future__ import annotations

import os
import stat

import pytest
from fastapi.testclient import TestClient
from lxml import html
from site_forms import submit
from sqlalchemy import select
from sqlalchemy.orm import Session

from tendsto.site import shelf
from tendsto.site.app import create_app
from tendsto.site.database import Run
from tendsto.site.formats import Imported
from tendsto.site.security import HEADERS
from tendsto.site.settings import MailServer, Settings
from tendsto.site.site import Site

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'
RUN = {"claim": "toy-sums/twice_two_is_four", "budget": "quick", "seed": "0"}


def queued(site) -> list[str]:
    with Session(site.engine) as session:
        return list(session.scalars(select(Run.claim).order_by(Run.id)))


@pytest.mark.parametrize(
    "address", ["/", "/papers/nash-mp", "/search?q=x", "/static/site.css", "/api/counts", "/nothing"]
)
def test_every_answer_has_the_headers(client, address):
    answer = client.get(address)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_a_form_of_this_site_queues_a_named_claim(client, site):
    answer = submit(client, "/papers/toy-sums", "/runs", **RUN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/1")
    assert queued(site) == ["twice_two_is_four"]


def test_a_forged_form_is_refused(client, site):
    page = html.fromstring(client.get("/papers/toy-sums").text)
    token = page.xpath("//input[@name='csrf']/@value")[0]
    for fields, headers in (
        (RUN, {}),
        (RUN | {"csrf": "0" * 64}, {}),
        (RUN | {"csrf": "é"}, {}),
        (RUN | {"csrf": token}, {"Origin": "https://evil.example"}),
    ):
        assert client.post("/runs", data=fields, headers=headers).status_code == 403
    other = TestClient(client.app, base_url=site.settings.address)
    assert other.post("/runs", data=RUN | {"csrf": token}).status_code == 403
    assert queued(site) == []


@pytest.mark.parametrize("cookie", ["", "x", "x.y", "x.\xe9", "\xe9.\xe9"])
def test_a_forged_cookie_is_no_visitor_s(client, cookie):
    forged = "; ".join(f"{name}={cookie}" for name in ("visitor", "admin", "seen"))
    assert client.get("/", headers={"cookie": forged.encode("latin-1")}).status_code == 200
    answer = client.get("/papers/toy-sums", headers={"cookie": forged.encode("latin-1")})
    assert (answer.status_code, "visitor" in answer.cookies) == (200, True)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8000", "https://papers.example.org"])
def test_cookies_stay_with_the_site(tmp_path, papers, address):
    site = Site(Settings(tmp_path, address=address), papers, learns=False)
    made = TestClient(create_app(site), base_url=address).get("/papers/toy-sums").headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax"} <= set(made.split("; "))
    assert ("Secure" in made.split("; ")) == address.startswith("https:")
    site.close()


def test_every_form_asks_for_its_token(client):
    """Only the link of a mail program may do without, whose address is the authority."""
    posts = [route.path for router in client.app.routes for route in _routes(router) if "POST" in route.methods]
    assert len(posts) >= 6
    for path in posts:
        filled = path.replace("{identity}", "1").replace("{token}", "x")
        expected = 404 if path == "/unsubscribe/{token}" else 403
        assert client.post(filled, data={"csrf": "x"}).status_code == expected


def _routes(router):
    inner = getattr(router, "routes", None) or getattr(getattr(router, "original_router", None), "routes", None)
    return [route for it in inner for route in _routes(it)] if inner else [router] if hasattr(router, "methods") else []


@pytest.mark.parametrize(
    "change",
    [
        {"claim": "os/system"},
        {"claim": "toy-sums/../toy-sums/twice_two_is_four"},
        {"claim": "tests.toys/CARD"},
        {"budget": "endless"},
        {"seed": "-1"},
        {"seed": str(2**32)},
        {"seed": "1; ls"},
    ],
    ids=str,
)
def test_only_named_claims_at_named_budgets_are_run(client, site, change):
    assert submit(client, "/papers/toy-sums", "/runs", **(RUN | change)).status_code == 422
    assert queued(site) == []


def test_a_budget_above_the_largest_is_refused(tmp_path, papers):
    site = Site(Settings(tmp_path, largest_budget="standard"), papers, learns=False)
    client = TestClient(create_app(site), base_url=site.settings.address)
    assert submit(client, "/papers/toy-sums", "/runs", **(RUN | {"budget": "full"})).status_code == 422
    assert submit(client, "/papers/toy-sums", "/runs", **(RUN | {"budget": "standard"})).status_code == 303


def test_one_visitor_cannot_fill_the_queue(client, site):
    for seed in range(10):
        assert submit(client, "/papers/toy-sums", "/runs", **(RUN | {"seed": str(seed)})).status_code == 303
    assert submit(client, "/papers/toy-sums", "/runs", **(RUN | {"seed": "11"})).status_code == 429
    assert submit(client, "/papers/toy-sums", "/runs", **(RUN | {"seed": "3"})).headers["location"] == "/runs/4"
    assert len(queued(site)) == 10


def test_a_public_site_runs_claims_for_its_administrator_alone(tmp_path, papers):
    settings = Settings(tmp_path, "0.0.0.0", public=True, address="https://papers.example.org")
    site = Site(settings, papers, learns=False)
    client = TestClient(create_app(site), base_url=settings.address)
    page = client.get("/papers/toy-sums")
    assert "secure" in page.headers["set-cookie"].lower()
    assert 'name="budget"' not in page.text
    token = html.fromstring(page.text).xpath("//input[@name='csrf']/@value")[0]
    assert client.post("/runs", data=RUN | {"csrf": token}).status_code == 403
    assert submit(client, "/admin", "/admin", token="guess").status_code == 403
    assert client.post("/runs", data=RUN | {"csrf": token}).status_code == 403
    assert submit(client, "/admin", "/admin", token=settings.secret("admin-token")).status_code == 303
    assert client.post("/runs", data=RUN | {"csrf": token}, follow_redirects=False).status_code == 303
    stranger = TestClient(client.app, base_url=settings.address)
    stranger.cookies.set("admin", client.cookies["admin"])
    assert 'name="budget"' not in stranger.get("/papers/toy-sums").text


def test_a_public_site_slows_down_who_asks_too_often(tmp_path, papers):
    settings = Settings(tmp_path, "0.0.0.0", public=True, address="https://papers.example.org")
    client = TestClient(create_app(Site(settings, papers, learns=False)), base_url=settings.address)
    codes = {client.get("/robots.txt").status_code for _ in range(601)}
    assert codes == {200, 429}


def test_forms_are_slowed_down_anywhere(client):
    codes = [client.post("/runs", data=RUN).status_code for _ in range(31)]
    assert codes == [403] * 30 + [429]


def test_others_are_reached_only_when_that_is_meant(tmp_path):
    with pytest.raises(ValueError, match="needs --public"):
        Settings(tmp_path, "0.0.0.0")
    with pytest.raises(ValueError, match="address"):
        Settings(tmp_path, address="javascript:alert(1)")


def test_a_name_that_is_not_the_site_s_is_not_answered(client):
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/", headers={"Host": "localhost"}).status_code == 200


def test_secrets_are_made_once_and_are_the_owner_s_alone(tmp_path):
    old = os.umask(0)
    try:
        one, other = (Settings(tmp_path / name) for name in ("a", "b"))
        assert len({one.secret("secret"), other.secret("secret"), one.secret("admin-token")}) == 3
        assert one.secret("secret") == Settings(tmp_path / "a").secret("secret")
        for path in tmp_path.glob("*/site.*"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_a_password_for_mail_is_not_shown():
    server = MailServer.from_address("smtps://me%40example.org:hidd%2fen@mail.example.org", "a@example.org")
    assert (server.port, server.encryption) == (465, "tls")
    assert (server.user, server.password) == ("me@example.org", "hidd/en")
    assert "hidd" not in repr(server)
    for address, sender in (("http://h", "a@b"), ("smtp:", "a@b"), ("smtp://h", "no address")):
        with pytest.raises(ValueError, match=r"smtp|sender"):
            MailServer.from_address(address, sender)


def hostile(site):
    paper = Imported(EVIL, "2601.00001", f"$x<y$ {EVIL} $\\text{{{EVIL}}}$", (EVIL,), tags=(EVIL,), organization=EVIL)
    with Session(site.engine) as session, session.begin():
        shelf.take_in(session, [paper])
    site.learn()


@pytest.mark.parametrize(
    "address",
    ["/", "/papers/2601.00001", "/search?q=alert", f"/search?q={EVIL}", "/papers/toy-hostile", "/subscribe?q=<b>"],
)
def test_what_was_typed_is_shown_and_never_run(client, site, address):
    hostile(site)
    text = client.get(address).raise_for_status().text
    page = html.fromstring(text)
    assert all(script.get("src", "").startswith("/static/") and not script.text for script in page.iter("script"))
    assert not [name for element in page.iter() for name in element.keys() if name.startswith("on")]  # noqa: SIM118
    assert {image.get("src").split("/")[1] for image in page.iter("img")} <= {"figures"}
    for element, attribute, link, _ in page.iterlinks():
        assert link.startswith(("/", "https://arxiv.org/abs/", "#")), (element.tag, attribute, link)
    assert "alert" in text or "b&gt;" in text


def test_feeds_and_json_carry_hostile_words_as_words(client, site):
    hostile(site)
    assert b"<script" not in client.get("/feed.atom?q=alert").content
    assert client.get("/api/papers/2601.00001").json()["title"] == EVIL
    assert client.get("/api/papers/2601.00001").headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "name",
    ["../site.py", "..%2fsite.py", "vendor%2f..%2f..%2fsite.py", "/etc/passwd", ".hidden", "package.json", "vendor"],
)
def test_only_the_site_s_own_files_are_served(client, name):
    assert client.get(f"/static/{name}").status_code == 404
    assert client.get(f"/figures/toy-sums/{name}").status_code == 404
