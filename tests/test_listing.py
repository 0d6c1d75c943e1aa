"""The listing, against the feed as it was printed (`listing.tsv`) and against the cards of the catalogue."""

import csv
import re
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from pylatexenc.latex2text import get_default_latex_context_db

from tendsto.evidence.notation import to_html, to_unicode
from tendsto.listing import card_date, listing, vocabulary
from tendsto.papers import catalogue

TODAY = date(2025, 11, 14)  # the head of the feed
with (Path(__file__).parent / "listing.tsv").open(encoding="utf-8", newline="") as file:
    PRINTED = {row["slug"]: row for row in csv.DictReader(file, delimiter="\t")}

FIELDS = {"optimize", "federated", "training", "learning", "inverse", "scientific", "constants", "proof", "certify"}

# Where the catalogue's card follows arXiv, while the feed prints a title without its second part, or the day before.
OTHERWISE_IN_THE_CATALOGUE = {
    "cbo": {
        "title": "Gradient is All You Need? How Consensus-Based Optimization can be Interpreted as a Stochastic "
        "Relaxation of Gradient Descent"
    },
    "dp-stationary": {"date": date(2022, 6, 2)},
    "formula-discovery": {"date": date(2024, 12, 22)},
    "matrix-sensing": {"date": date(2023, 10, 3)},
}


def dates(today):
    return {paper.slug: card_date(paper.date, today) for paper in listing().values() if paper.date}


def test_the_papers_are_those_of_the_feed_in_its_order():
    assert len(listing()) == 51
    assert [(paper.slug, paper.title, paper.arxiv) for paper in listing().values()] == [
        (row["slug"], row["title"], row["arxiv"]) for row in PRINTED.values()
    ]


def test_dates_are_printed_to_the_letter():
    printed = {slug: row["date"] for slug, row in PRINTED.items() if row["date"]}
    assert dates(TODAY) == printed
    assert len(printed) == 50
    assert sum(", " not in text for text in printed.values()) == 14
    assert listing()["countermath"].date is None


def test_without_the_rule_of_the_year_just_the_cards_of_2025_change():
    every_year = dates(today=date(1, 1, 1))
    changed = {slug for slug, text in dates(TODAY).items() if text != every_year[slug]}
    assert changed == {slug for slug, row in PRINTED.items() if row["date"] and not re.search(r", \d{4}$", row["date"])}
    assert len(changed) == 14


@pytest.mark.parametrize(
    ("day", "today", "text"),
    [
        (date(2014, 9, 2), date(2025, 11, 14), "Sep 2, 2014"),
        (date(2025, 1, 1), date(2025, 12, 31), "Jan 1"),
        (date(2024, 12, 31), date(2025, 1, 1), "Dec 31, 2024"),
        (date(2026, 5, 10), date(2025, 5, 10), "May 10, 2026"),
    ],
    ids=str,
)
def test_the_year_is_left_out_if_it_is_the_present_one(day, today, text):
    assert card_date(day, today) == text


def test_cards_print_a_number_of_authors_or_an_organisation_or_neither():
    printed = {paper.slug: str(paper.author_count or paper.organization or "") for paper in listing().values()}
    assert printed == {slug: row["authors"] for slug, row in PRINTED.items()}
    assert sum(text.isdigit() for text in printed.values()) == 49
    assert [text for text in printed.values() if text and not text.isdigit()] == ["Microsoft"]


def test_comments_are_counted_where_there_are_any():
    comments = {paper.slug: paper.comments for paper in listing().values() if paper.comments}
    assert comments == {slug: int(row["comments"]) for slug, row in PRINTED.items() if row["comments"]}
    assert list(comments.values()) == [3, 6, 2, 1, 2, 2]


@pytest.mark.parametrize("slug", PRINTED)
def test_an_entry_is_complete(slug):
    paper = listing()[slug]
    assert paper.field in FIELDS
    assert paper.authors
    assert len(set(paper.authors)) == len(paper.authors)
    assert paper.author_count in (len(paper.authors), None)
    assert paper.author_count is None or paper.organization is None
    assert 60 <= len(paper.summary.split()) <= 120
    assert paper.summary == " ".join(paper.summary.split())
    assert 3 <= len(set(paper.tags)) == len(paper.tags) <= 6
    assert set(paper.tags) <= set(vocabulary())
    assert hash(paper)  # nothing in it can be changed


@pytest.mark.parametrize("slug", PRINTED)
def test_formulas_show_on_a_page_and_in_a_terminal(slug):
    summary = listing()[slug].summary
    assert summary.count("$") % 2 == 0
    for shown in (to_html(summary), to_unicode(summary)):
        assert "<code>" not in shown  # the source of a formula that cannot be converted
        assert "\\" not in shown
    known = get_default_latex_context_db()  # what is not known is left out without a word
    assert all(known.get_macro_spec(command) for command in re.findall(r"\\([a-zA-Z]+)", summary))


def test_every_tag_joins_papers():
    used = Counter(tag for paper in listing().values() for tag in paper.tags)
    assert list(vocabulary()) == sorted(used)
    assert min(used.values()) >= 2


def test_entries_agree_with_the_cards_of_the_catalogue():
    cards = {entry.card.slug: entry.card for entry in catalogue().values() if entry.module.startswith("tendsto.")}
    assert cards.keys() <= listing().keys()
    assert OTHERWISE_IN_THE_CATALOGUE.keys() <= cards.keys()
    shared = ("title", "authors", "arxiv", "date", "field")
    differences = {
        slug: {name: getattr(card, name) for name in shared if getattr(card, name) != getattr(listing()[slug], name)}
        for slug, card in cards.items()
    }
    assert {slug: found for slug, found in differences.items() if found} == OTHERWISE_IN_THE_CATALOGUE
