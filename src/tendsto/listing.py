"""The papers of the feed: what the card of each shows, whether or not its method is here yet."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date as Date
from functools import cache
from importlib import resources
from typing import Any

# Not `strftime`, whose names follow the locale of the process.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Listed:
    """A paper of the feed.

    **Arguments**

    - `slug`: its short name, that of its card in the catalogue where it has one.
    - `title`, `arxiv`: as the feed prints them, and the identifier of the paper at arXiv.
    - `authors`: their names, in order.
    - `field`: the room that its method belongs to (`optimize`, `federated`, …).
    - `tags`: three to six of the `vocabulary`.
    - `summary`: what it asks, does and asserts, in one paragraph; formulas between single dollars.
    - `date`: the day that the feed prints; a card may lack it.
    - `author_count`: their number, if the card prints it.
    - `organization`: what the card prints in its place.
    - `comments`: how many there are; a card prints the number if it is positive.
    """

    slug: str
    title: str
    arxiv: str
    authors: tuple[str, ...]
    field: str
    tags: tuple[str, ...]
    summary: str
    date: Date | None = None
    author_count: int | None = None
    organization: str | None = None
    comments: int = 0


@cache
def listing() -> dict[str, Listed]:
    """Every paper of the feed by its slug, in the order of the feed."""
    papers = [
        Listed(
            **entry
            | {
                "authors": tuple(entry["authors"]),
                "tags": tuple(entry["tags"]),
                "summary": " ".join(entry["summary"].split()),
            }
        )
        for entry in _document()["papers"]
    ]
    return {paper.slug: paper for paper in papers}


@cache
def vocabulary() -> tuple[str, ...]:
    """The tags that papers of the feed may have, in alphabetical order."""
    return tuple(_document()["tags"])


def card_date(date: Date, today: Date) -> str:
    """A date as a card prints it: `Sep 2, 2014`, or `Sep 2` if the year is that of `today`."""
    day = f"{_MONTHS[date.month - 1]} {date.day}"
    return day if date.year == today.year else f"{day}, {date.year}"


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(resources.files("tendsto").joinpath("listing.toml").read_text(encoding="utf-8"))
