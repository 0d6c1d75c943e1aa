"""The JSON interface: the shapes that clients of Daily Papers read, and no request that breaks it."""

from __future__ import annotations

from datetime import date

import schemathesis
from hypothesis import HealthCheck, given, settings
from sqlalchemy.orm import Session

from tendsto.evidence import Budget, check
from tendsto.site import shelf
from tendsto.site.app import create_app
from tendsto.site.formats import Imported, read
from tendsto.site.settings import Settings
from tendsto.site.site import Site

HOST = {"Host": "127.0.0.1"}


def import_one(site):
    extra = {"submittedBy": {"name": "someone"}, "ai_keywords": ["games"]}
    paper = Imported(
        *("Fresh news", "2505.99999", "Of games.", ("Ada",), date(2025, 5, 26), date(2025, 5, 28), "Org", 2, 7),
        extra=extra,
    )
    with Session(site.engine) as session, session.begin():
        shelf.take_in(session, [paper, Imported("Old", "math/0309136", published=date(2003, 9, 8))])
    return paper


def test_papers_of_a_day_in_the_shape_of_daily_papers(client, site):
    imported = import_one(site)
    (entry,) = client.get("/api/daily_papers?date=2025-05-28").json()
    assert entry["publishedAt"] == "2025-05-28T00:00:00.000Z"
    assert entry["paper"]["publishedAt"] == "2025-05-26T00:00:00.000Z"
    assert (entry["numComments"], entry["organization"]["fullname"]) == (2, "Org")
    paper = entry["paper"]
    assert (paper["id"], paper["upvotes"], paper["authors"]) == ("2505.99999", 7, [{"name": "Ada", "hidden": False}])
    assert paper["ai_keywords"] == ["games"]
    (back,) = read(client.get("/api/daily_papers?date=2025-05-28").content)
    assert (back.title, back.arxiv, back.authors, back.published, back.listed, back.comments) == (
        *(imported.title, imported.arxiv, imported.authors, imported.published, imported.listed, imported.comments),
    )
    for query in ("week=2025-W22", "month=2025-05", "submitter=someone", "month=2025-05&sort=trending"):
        assert "2505.99999" in [it["paper"]["id"] for it in client.get(f"/api/daily_papers?{query}").json()]
    assert client.get("/api/daily_papers?date=2025-05-26&submitter=someone").json() == []
    assert client.get("/api/daily_papers?date=2025-02-30").status_code == 404


def test_pages_of_papers_follow_one_another(client):
    pages = [client.get(f"/api/daily_papers?limit=20&p={page}").json() for page in range(4)]
    keys = [entry["paper"]["id"] for page in pages for entry in page]
    assert len(keys) == len(set(keys)) == 54
    assert keys == [entry["paper"]["id"] for entry in client.get("/api/daily_papers?limit=100").json()]


def test_what_trends_is_young_and_liked(client, site):
    """Hours before the newest h, votes v: 1000 / 26^1.5 > 10 / 2^1.5 > 400 / 26^1.5, where 400 / 26 > 10 / 2."""
    liked = {"B": (9, 1000), "A": (10, 10), "C": (9, 400), "D": (9, 400)}
    with Session(site.engine) as session, session.begin():
        shelf.take_in(session, [Imported(it, listed=date(2030, 1, day), upvotes=v) for it, (day, v) in liked.items()])
    address = "/api/daily_papers?month=2030-01&sort=trending"
    assert [it["title"] for it in client.get(address).json()] == ["B", "A", "D", "C"]
    assert [it["title"] for it in client.get(f"{address}&limit=2&p=1").json()] == ["D", "C"]


def test_one_paper_by_either_name(client, site):
    import_one(site)
    paper = client.get("/api/papers/2505.19731").json()
    assert paper == client.get("/api/papers/nash-mp").json()
    assert (paper["numComments"], paper["tendsto"]["slug"], paper["linkedModels"]) == (2, "nash-mp", [])
    assert sum(paper["tendsto"]["claims"].values()) == 13
    assert client.get("/api/papers/math/0309136").json()["title"] == "Old"
    assert client.get("/api/papers/nothing").json() == {"detail": "There is no such paper."}
    assert client.get("/papers/nash-mp.md").text.startswith("# Accelerating Nash Learning")


def test_a_search_finds(client):
    found = client.get("/api/papers/search?q=variance reduced halpern&limit=3").json()
    assert next(entry["tendsto"]["slug"] for entry in found) == "vr-halpern"
    assert len(found) == 3


def test_claims_and_verdicts(client, site, papers):
    claims = papers["toy-sums"].claims.values()
    check(claims, Budget(), store=site.store)
    with Session(site.engine) as session, session.begin():
        assert shelf.read_verdicts(session, site.store) == len(claims)
        assert shelf.read_verdicts(session, site.store) == 0
    rulings = {it["claim"]: it["verdict"] for it in client.get("/api/claims?paper=toy-sums").json()}
    assert rulings["twice_two_is_four"] == "holds"
    assert [it["claim"] for it in client.get("/api/claims?paper=toy-sums&verdict=not run").json()] == ["prover_agrees"]
    (verdict,) = client.get("/api/verdicts?paper=toy-sums&claim=twice_two_is_four").json()
    assert (verdict["measured"], verdict["control"]) == (4.0, "fails")
    assert client.get("/api/counts").json()["holds"] == list(rulings.values()).count("holds")


def test_no_request_breaks_it(tmp_path, papers, database):
    """Every answer is one that the OpenAPI document describes, whatever is asked."""
    site = Site(Settings(tmp_path, database=database), papers, learns=False)
    import_one(site)
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", create_app(site), headers=HOST)
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert len(operations) == len(create_app(site).openapi()["paths"]) == 7
    for operation in operations:

        @given(operation.as_strategy())
        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        def ask(case):
            case.call_and_validate(headers=HOST)

        ask()
