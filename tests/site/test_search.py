"""The search: filters, reasons, pages, and queries that are no queries."""

from __future__ import annotations

from datetime import date

import pytest
from lxml import html
from sqlalchemy import update
from sqlalchemy.orm import Session

from tendsto.listing import listing
from tendsto.site import shelf
from tendsto.site.database import Claim
from tendsto.site.formats import Imported
from tendsto.site.meaning import Meaning
from tendsto.site.search import Filters, matching, search


def found(site, query="", **filters) -> set[str]:
    with Session(site.engine) as session:
        return {str(hit.paper.slug) for hit in search(session, None, query, Filters(**filters), size=100).hits}


def test_filters_keep_what_they_name(site, papers):
    cards = listing()
    assert found(site, field="federated") == {slug for slug, card in cards.items() if card.field == "federated"} | {
        "toy-crashes"
    }
    assert found(site, tag="games") == {slug for slug, card in cards.items() if "games" in card.tags}
    assert found(site, year=2014) == {"rrlbs"}
    assert found(site, status="no method") == cards.keys() - papers.keys()
    proved = {slug for slug, entry in papers.items() if any(it.evidence == "proved" for it in entry.claims.values())}
    assert found(site, evidence="proved") == proved
    assert found(site, "halpern", field="optimize") == {"vr-halpern"}
    assert found(site, "halpern", field="proof") == set()


def test_filters_on_claims_must_fit_the_same_claim(site):
    with Session(site.engine) as session:
        session.execute(update(Claim).where(Claim.name == "twice_two_is_four").values(ruling="holds", seconds=5.0))
        session.execute(update(Claim).where(Claim.name == "worst_sum_is_bounded").values(ruling="fails", seconds=50.0))
        session.commit()
    assert found(site, status="holds") == found(site, status="fails") == {"toy-sums"}
    assert found(site, seconds=10.0) == {"toy-sums"}
    assert found(site, seconds=4.9) == set()
    assert found(site, status="holds", seconds=5.0) == {"toy-sums"}
    assert found(site, status="fails", seconds=10.0) == set()
    assert found(site, status="holds", evidence="certified") == {"toy-sums"}
    assert found(site, status="fails", evidence="certified") == set()


@pytest.mark.parametrize(
    "query", ['"', "AND", "halpern OR", "NEAR(a b)", "title:x", "*", "^a", "x" * 2000, "é ñ 漢字", "a'; DROP"]
)
def test_any_text_is_a_query(site, client, query):
    found(site, query)
    assert client.get("/search", params={"q": query[:1000]}).status_code == 200
    with Session(site.engine) as session:
        matching(session, query, Filters(), 10)


def test_words_are_found_by_their_beginning_their_stem_and_without_accents(site):
    assert "vr-halpern" in found(site, "halp")
    assert "vr-halpern" in found(site, "iterations halpern")
    assert found(site, "moulines") == found(site, "Moulínes") == {"nash-mp"}


def test_all_words_must_fit_where_enough_papers_have_them(site):
    one, other, both = (found(site, query) for query in ("proof", "theorem", "theorem proof"))
    assert len(both) >= 10
    assert both <= one & other
    assert both < one | other
    assert found(site, "halpern theorem") > found(site, "halpern")


def test_a_year_has_all_its_days(site):
    days = [date(2018, 12, 31), date(2019, 1, 1), date(2019, 12, 31), date(2020, 1, 1)]
    with Session(site.engine) as session, session.begin():
        shelf.take_in(session, [Imported(str(day), published=day) for day in days])
        hits = search(session, None, "", Filters(year=2019)).hits
        assert {hit.paper.published for hit in hits} & set(days) == set(days[1:3])


def test_every_rank_has_its_reason(site):
    site.learn()
    with Session(site.engine) as session:
        first, *rest = search(session, site.meaning, "halpern iteration").hits
    assert first.paper.slug == "vr-halpern"
    assert first.reason.startswith("title: halpern, iteration · claims: ")
    assert " · meaning 0." in first.reason
    assert all(hit.reason for hit in rest)


def test_ranks_by_words_and_by_meaning_are_fused_under_the_same_filters(site):
    site.learn()
    query = "which premises a proof needs"
    with Session(site.engine) as session:
        words = [hit.paper.id for hit in search(session, None, query, size=100).hits]
        close = [identity for identity, cosine in site.meaning.nearest(query, 100) if cosine >= 0.08]
        fused = [hit.paper.id for hit in search(session, site.meaning, query, size=100).hits]
        proofs = search(session, site.meaning, query, Filters(field="proof"), size=100).hits
    ranks = [{identity: rank for rank, identity in enumerate(one, 1)} for one in (words, close)]
    scores = {it: sum(1 / (60 + rank[it]) for rank in ranks if it in rank) for it in {*words, *close}}
    assert fused == sorted(scores, key=lambda it: (-scores[it], it))
    assert fused != words
    assert set(words) - set(close)
    assert len(close) < len(listing())
    assert {hit.paper.field for hit in proofs} == {"proof"}


def test_pages_follow_one_another(site):
    site.learn()
    with Session(site.engine) as session:
        for query in ("", "gradient"):
            whole = search(session, site.meaning, query, size=15)
            pages = [search(session, site.meaning, query, size=5, page=page) for page in (1, 2, 3)]
            assert [hit.paper.id for page in pages for hit in page.hits] == [hit.paper.id for hit in whole.hits]
            assert all(page.more for page in pages[:2])
            assert search(session, site.meaning, query, size=5, page=40).hits == []


def test_a_paper_is_not_like_itself_and_a_tag_recommends_others(site, client):
    site.learn()
    page = html.fromstring(client.get("/papers/fedau").text)
    near = page.xpath("//section[@aria-label='More like this']//a/@href")
    assert len(near) == 5
    assert "/papers/fedau" not in near
    assert {listing()[address.rpartition("/")[2]].field for address in near[:3]} == {"federated"}
    page = html.fromstring(client.get("/tag/federated").text)
    tagged = {entry.get("id") for entry in page.xpath("//article")}
    recommended = {address.rpartition("/")[2] for address in page.xpath("//section[@class='similar']//a/@href")}
    assert len(recommended) == 5
    assert not tagged & recommended


def test_what_was_learnt_is_read_again_and_only_for_the_same_papers(site, tmp_path):
    site.learn()
    path = tmp_path / "site.meaning.npz"
    again = Meaning.load(path, site.meaning.stamp)
    assert again.nearest("federated averaging", 3) == site.meaning.nearest("federated averaging", 3)
    assert Meaning.load(path, "another") is None
    path.write_bytes(path.read_bytes()[:1000])
    assert Meaning.load(path, site.meaning.stamp) is None


@pytest.mark.parametrize("texts", [[], ["one"], ["the of", "and", "is a"], ["same words here"] * 3])
def test_too_little_to_learn_from_is_no_error(texts):
    learnt = Meaning.learn("x", enumerate(texts))
    assert learnt is None or learnt.nearest("words", 2) is not None
