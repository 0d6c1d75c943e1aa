"""The feed: its cards to the letter, its periods, and what is new."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from lxml import html
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tendsto.listing import listing
from tendsto.site import feed, shelf
from tendsto.site.app import create_app
from tendsto.site.database import Paper, now
from tendsto.site.feed import Period
from tendsto.site.formats import Imported
from tendsto.site.settings import Settings
from tendsto.site.site import Site

with (Path(__file__).parents[1] / "listing.tsv").open(encoding="utf-8", newline="") as file:
    PRINTED = {row["slug"]: row for row in csv.DictReader(file, delimiter="\t")}
HEAD = date(2025, 11, 14)


def open_site(folder, today) -> TestClient:
    site = Site(Settings(folder), {}, today=lambda: today, learns=False)
    return TestClient(create_app(site), base_url=site.settings.address)


def cards(client) -> dict[str, dict[str, str]]:
    """What each card of the whole feed prints."""
    found, address = {}, "/"
    while address:
        page = html.fromstring(client.get(address).raise_for_status().text)
        for entry in page.xpath("//article[contains(@class, 'entry')]"):
            text = {
                name: " ".join(" ".join(entry.xpath(path)).split())
                for name, path in {
                    "title": "./h2/a//text()",
                    "people": ".//details/summary/text() | ./div/span[not(@class)]/text()",
                    "organization": ".//span[@class='organization']/text()",
                    "date": "./div/time/text()",
                    "comments": ".//span[@class='comments']/text()",
                }.items()
            }
            assert entry.get("id") not in found
            found[entry.get("id")] = text
        address = next(iter(page.xpath("//p[@class='more']/a/@href")), None)
    return found


def test_the_cards_print_what_the_feed_printed(tmp_path):
    shown = cards(open_site(tmp_path, HEAD))
    assert shown.keys() == PRINTED.keys()
    dated = [paper.date for paper in map(listing().get, shown) if paper.date]
    assert dated == sorted(dated, reverse=True)
    assert list(shown)[-1] == "countermath"  # which has no date
    for slug, row in PRINTED.items():
        count = row["authors"]
        people = "" if not count.isdecimal() else f"{count} author{'s' * (count != '1')}"
        assert shown[slug] == {
            "title": row["title"],
            "people": people,
            "organization": "Microsoft" if slug == "dser" else "",
            "date": row["date"],
            "comments": row["comments"],
        }


def test_a_page_that_is_just_full_is_the_last(site, client):
    with Session(site.engine) as session, session.begin():
        missing = 2 * feed.PAGE - shelf.count_papers(session)
        shelf.take_in(session, [Imported(f"Paper {number}") for number in range(missing)])
    assert len(cards(client)) == 2 * feed.PAGE
    assert html.fromstring(client.get("/page/2").text).xpath("//p[@class='more']") == []
    assert client.get("/page/3").status_code == 404


def test_without_the_rule_of_the_year_just_the_cards_of_that_year_change(tmp_path):
    with_rule, without = (cards(open_site(tmp_path / str(day), day)) for day in (HEAD, date(1, 1, 1)))
    changed = {slug for slug in PRINTED if with_rule[slug]["date"] != without[slug]["date"]}
    assert changed == {slug for slug, row in PRINTED.items() if row["date"] and ", " not in row["date"]}
    assert len(changed) == 14
    assert all(without[slug]["date"] == f"{with_rule[slug]['date']}, 2025" for slug in changed)


def test_periods_lead_to_the_nearest_ones_that_hold_something(tmp_path):
    client = open_site(tmp_path, HEAD)
    address, days = "/date/2025-10-20", []
    while address:
        page = html.fromstring(client.get(address).raise_for_status().text)
        assert address not in dict(days)
        days.append((address, [entry.get("id") for entry in page.xpath("//article")]))
        address = next(iter(page.xpath("//div[@class='turn']/a[@rel='prev']/@href")), None)
    dates = sorted({paper.date for paper in listing().values() if paper.date}, reverse=True)
    assert [address for address, _ in days] == [f"/date/{day}" for day in dates]
    assert days[0][1] == ["dser"]
    assert days[-1] == ("/date/2014-09-02", ["rrlbs"])
    assert sum(len(shown) for _, shown in days) == 50


def test_a_week_belongs_to_its_iso_year(tmp_path):
    client = open_site(tmp_path, HEAD)
    page = html.fromstring(client.get("/week/2024-W51").text)
    assert page.xpath("//h1/text()") == ["Week 51, 2024"]
    assert {entry.get("id") for entry in page.xpath("//article")} == {"formula-discovery"}
    assert Period.around("week", date(2024, 12, 31)).name == "2025-W01"
    assert Period.around("week", date(2021, 1, 3)).name == "2020-W53"


@given(st.sampled_from(["date", "week", "month"]), st.dates())
def test_a_period_holds_its_day_and_its_address_leads_back(kind, day):
    period = Period.around(kind, day)
    assert period.first <= day <= period.last
    assert Period.parse(kind, period.name) == period


NOWHERE = """
/date/2024-13-01 /date/20240101 /date/2024-05-23/page/2 /week/2024-W54 /week/2023-W53 /week/0000-W01
/month/2024-00 /month/24-01 /page/0 /page/7
/nothing /papers/nothing /tag/nothing /runs/1 /compare/nash-mp/nothing
"""


@pytest.mark.parametrize("address", NOWHERE.split())
def test_an_address_that_leads_nowhere_says_so(tmp_path, address):
    client = open_site(tmp_path, HEAD)
    answer = client.get(address)
    assert answer.status_code == 404
    assert "text/html" in answer.headers["content-type"]


def test_what_came_since_the_last_visit_is_new(tmp_path, monkeypatch):
    client = open_site(tmp_path, HEAD)
    moment = now()
    monkeypatch.setattr("tendsto.site.pages.now", lambda: moment)
    site = client.app.state.site

    def new():
        page = html.fromstring(client.get("/").text)
        return [it.getparent().getparent().get("id") for it in page.xpath("//span[@class='new']")]

    assert new() == []
    with Session(site.engine) as session:
        session.execute(update(Paper).where(Paper.slug == "stp").values(added=moment + timedelta(hours=1)))
        session.commit()
    moment += timedelta(hours=2)
    assert new() == ["stp"]
    moment += timedelta(minutes=10)
    assert new() == ["stp"]
    moment += timedelta(hours=2)
    assert new() == []


def test_a_paper_that_left_the_catalogue_leaves_the_site(tmp_path, papers):
    Site(Settings(tmp_path), papers, learns=False).engine.dispose()
    site = Site(Settings(tmp_path), {}, {}, learns=False)
    with Session(site.engine) as session:
        assert session.scalars(select(Paper)).all() == []
