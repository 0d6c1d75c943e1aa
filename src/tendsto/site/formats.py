"""Papers as others write them: arXiv's Atom, the JSON of Daily Papers, BibTeX; and the site's own feeds."""

from __future__ import annotations

import calendar
import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any

import feedparser
from bibtexparser.entrypoint import parse_string
from bibtexparser.middlewares.names import parse_single_name_into_parts, split_multiple_persons_names
from feedgen.feed import FeedGenerator
from pylatexenc.latex2text import LatexNodes2Text

from tendsto.site.database import Paper

GENERATOR = "Tendsto"
_NEW_ID = re.compile(r"(?:(?<![\d.])|(?<=[Xx]iv\.))(\d{4}\.\d{4,5})(v\d+)?(?:\.pdf)?(?![\d.]*\d)")
_OLD_ID = re.compile(r"(?<![a-z.-])([a-z]+(?:-[a-z]+)*)(?:\.[A-Z]{2})?(/\d{7})(?:v\d+)?(?:\.pdf)?(?!\d)")
# Neither XML nor a database takes these.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_MONTHS = {name.casefold(): number for number, name in enumerate(calendar.month_abbr) if name}


@dataclass(frozen=True)
class Imported:
    """A paper as some list gives it; what the list does not say is empty or None.

    `published` is the day it appeared, `listed` that under which it stands in a feed.
    """

    title: str
    arxiv: str | None = None
    abstract: str = ""
    authors: tuple[str, ...] = ()
    published: date | None = None
    listed: date | None = None
    organization: str | None = None
    comments: int = 0
    upvotes: int = 0
    tags: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What names it in addresses: the arXiv identifier, else a digest of its title."""
        return self.arxiv or f"p-{hashlib.sha256(self.title.casefold().encode()).hexdigest()[:12]}"


def arxiv_id(text: str) -> str | None:
    """The arXiv identifier in `text`, be it an address, with a version or without; None if there is none.

    Identifiers are text: `2306.10000` is another paper than `2306.1`. The old ones lose their subject class.
    """
    if found := _NEW_ID.search(text):
        return found[1]
    old = _OLD_ID.search(text)
    return old[1] + old[2] if old else None


# --- what comes in


def read(data: bytes) -> list[Imported]:
    """The papers in a file of any of the formats, which is told by how it begins.

    **Raises** `ValueError` if it is in none of them.
    """
    head = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    parsers: dict[bytes, Callable[[bytes], list[Imported]]] = {
        b"<": read_atom,
        b"[": read_daily_papers,
        b"{": read_daily_papers,
        b"@": read_bibtex,
        b"%": read_bibtex,
    }
    if head not in parsers:
        raise ValueError("the file is neither Atom, nor JSON of Daily Papers, nor BibTeX")
    return parsers[head](data)


def read_atom(data: bytes) -> list[Imported]:
    """The papers of an Atom feed, such as arXiv's query interface gives.

    **Raises** `ValueError` if `data` is no feed.
    """
    # Given a name feedparser would open it; given a stream it reads. What is typed HTML stays text here.
    feed = feedparser.parse(io.BytesIO(data), sanitize_html=False, resolve_relative_uris=False)
    if not feed.get("version"):
        raise ValueError(f"the file is no Atom feed ({feed.get('bozo_exception', 'it has no entries')})")
    ours = feed.feed.get("generator") == GENERATOR
    papers = []
    for entry in feed.entries:
        addresses = [entry.get("id", ""), *(link.get("href", "") for link in entry.get("links", []))]
        published = _day(entry.get("published"))
        updated = _day(dict.get(entry, "updated"))  # its own `get` would give `published` in its place
        papers.append(
            _listed(
                title=entry.get("title"),
                arxiv=next(filter(None, map(arxiv_id, addresses)), None),
                abstract=entry.get("summary"),
                authors=[author.get("name") for author in entry.get("authors", [])],
                published=published,
                listed=(updated if ours else None) or published,
                tags=[tag.get("term") for tag in entry.get("tags", [])],
                extra={
                    name: entry[name] for name in ("arxiv_comment", "arxiv_journal_ref", "arxiv_doi") if name in entry
                },
            )
        )
    return [paper for paper in papers if paper]


def read_daily_papers(data: bytes) -> list[Imported]:
    """The papers of a saved answer of Daily Papers: a list of entries, of papers, or one of either.

    The outer `publishedAt` is the day in the feed, that of the inner `paper` the day on arXiv. What else is there is
    kept.

    **Raises** `ValueError` if `data` is no such answer.
    """
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the file is not JSON ({error})") from error
    entries = plain if isinstance(plain, list) else [plain]
    if not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("the JSON is neither a paper nor a list of papers")
    return [paper for paper in map(_daily_paper, entries) if paper]


def _daily_paper(entry: dict[str, Any]) -> Imported | None:
    inner = entry.get("paper")
    paper: dict[str, Any] = inner if isinstance(inner, dict) else entry
    authors = paper.get("authors")
    organization = entry.get("organization") or paper.get("organization")
    published = _day(paper.get("publishedAt"))
    listed = _day(entry.get("publishedAt")) if paper is not entry else None
    known = {"id", "title", "summary", "authors", "publishedAt", "upvotes", "paper", "numComments", "organization"}
    return _listed(
        title=paper.get("title") or entry.get("title"),
        arxiv=arxiv_id(str(paper.get("id") or "")),
        abstract=paper.get("summary") or entry.get("summary"),
        authors=[
            author.get("name") if isinstance(author, dict) else author
            for author in (authors if isinstance(authors, list) else [])
            if not (isinstance(author, dict) and author.get("hidden"))
        ],
        published=published,
        listed=listed or _day(paper.get("submittedOnDailyAt")) or published,
        organization=organization.get("fullname") or organization.get("name")
        if isinstance(organization, dict)
        else None,
        comments=_count(entry.get("numComments")),
        upvotes=_count(paper.get("upvotes")),
        extra={name: value for name, value in (entry | paper).items() if name not in known},
    )


def read_bibtex(data: bytes) -> list[Imported]:
    """The papers of a BibTeX file; a block that is damaged is passed over.

    **Raises** `ValueError` if no block can be read.
    """
    library = parse_string(data.decode("utf-8", errors="replace"))
    if library.failed_blocks and not library.entries:
        raise ValueError("no entry of the BibTeX file can be read")
    return [paper for paper in (_bibtex_entry(entry.fields_dict) for entry in library.entries) if paper]


def _bibtex_entry(fields: Mapping[str, Any]) -> Imported | None:
    texts = {name.casefold(): str(item.value) for name, item in fields.items()}
    published, listed = _bibtex_day(texts)
    return _listed(
        title=_plain(texts.get("title")),
        arxiv=next(
            filter(None, (arxiv_id(texts.get(name, "")) for name in ("eprint", "url", "doi", "journal", "note"))), None
        ),
        abstract=_plain(texts.get("abstract")),
        authors=[_person(name) for name in split_multiple_persons_names(texts.get("author", ""))],
        published=published,
        listed=listed,
        tags=re.split(r"\s*[,;]\s*", _plain(texts.get("keywords"))) if "keywords" in texts else [],
        extra={name: texts[name] for name in ("doi", "journal", "booktitle", "url") if name in texts},
    )


def _bibtex_day(texts: Mapping[str, str]) -> tuple[date | None, date | None]:
    """The day it appeared, where all of it is given, and the first day that what is given allows."""
    whole = _day(texts.get("date"))
    if whole and re.match(r"\d{4}-\d{2}-\d{2}", texts["date"]):
        return whole, whole
    year = re.search(r"\d{4}", texts.get("year") or texts.get("date") or "")
    if not year or not int(year[0]):
        return None, None
    month = texts.get("month", "").strip().casefold()
    number = int(month) if month.isdecimal() and 1 <= int(month) <= 12 else _MONTHS.get(month[:3], 0)
    day = texts.get("day", "").strip()
    first = date(int(year[0]), number or 1, 1)
    if number and day.isdecimal() and 1 <= int(day) <= calendar.monthrange(first.year, number)[1]:
        return first.replace(day=int(day)), first.replace(day=int(day))
    return None, first


def _plain(text: str | None) -> str:
    """LaTeX as text, with formulas left as they are."""
    if not text:
        return ""
    try:
        return str(LatexNodes2Text(math_mode="verbatim", keep_comments=True).latex_to_text(text))
    except Exception:  # what people put into BibTeX need not be LaTeX
        return text.replace("{", "").replace("}", "")


def _person(name: str) -> str:
    try:
        parts = parse_single_name_into_parts(name, strict=False)
    except Exception:  # not a name by BibTeX's rules
        return _plain(name)
    return _plain(" ".join([*parts.first, *parts.von, *parts.last, *parts.jr]))


def _listed(
    *, title: object, arxiv: str | None, abstract: object, authors: Iterable[object], **more: Any
) -> Imported | None:
    """The paper with clean texts; None if it has neither title nor identifier."""
    name = clean(title) or (f"arXiv:{arxiv}" if arxiv else "")
    if not name:
        return None
    more["tags"] = tuple(dict.fromkeys(filter(None, map(clean, more.get("tags", ())))))
    more["extra"] = _tidy(more.get("extra", {}))
    return Imported(name, arxiv, clean(abstract), tuple(filter(None, map(clean, authors))), **more)


def clean(text: object) -> str:
    """`text` on one line without characters that neither XML nor a database can hold; empty if it is no text."""
    return " ".join(_FORBIDDEN.sub("", text).split()) if isinstance(text, str) else ""


def _tidy(value: Any) -> Any:
    """Plain data that can be written as strict JSON."""
    if isinstance(value, dict):
        return {_FORBIDDEN.sub("", str(name)): _tidy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if isinstance(value, str):
        return _FORBIDDEN.sub("", value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _count(value: object) -> int:
    return min(value, 2**31 - 1) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _day(value: object) -> date | None:
    """The day in UTC of a date or a time as ISO 8601 writes them; None if it is neither."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
        return (moment.astimezone(UTC) if moment.tzinfo else moment).date()
    except (ValueError, OverflowError):
        return None


# --- what goes out


def write_atom(papers: Iterable[Paper], address: str, path: str, title: str) -> bytes:
    """An Atom feed of `papers`, every item one paper; the feed lies at `path` of the site at `address`."""
    feed = FeedGenerator()
    feed.id(address + path)
    feed.title(title)
    feed.generator(GENERATOR)
    feed.link(href=address + path, rel="self")
    feed.link(href=address, rel="alternate")
    newest = None
    for paper in papers:
        entry = feed.add_entry(order="append")
        page = f"{address}/papers/{paper.key}"
        entry.id(page)
        entry.title(paper.title)
        entry.summary(paper.abstract)
        entry.link(href=page, rel="alternate")
        if paper.arxiv:
            entry.link(href=f"https://arxiv.org/abs/{paper.arxiv}", rel="related")
        for name in paper.authors or ([paper.organization] if paper.organization else []):
            entry.author(name=name)
        for tag in paper.tags:
            entry.category(term=tag.name)
        if paper.published:
            entry.published(_midnight(paper.published))
        updated = _midnight(paper.listed) if paper.listed else paper.added.replace(tzinfo=UTC)
        entry.updated(updated)
        newest = max(newest, updated) if newest else updated
    feed.updated(newest or datetime.fromtimestamp(0, UTC))
    return bytes(feed.atom_str(pretty=True))


def write_json_feed(papers: Iterable[Paper], address: str, path: str, title: str) -> bytes:
    """The same as a JSON Feed, version 1.1."""
    items = [
        {
            "id": f"{address}/papers/{paper.key}",
            "url": f"{address}/papers/{paper.key}",
            **({"external_url": f"https://arxiv.org/abs/{paper.arxiv}"} if paper.arxiv else {}),
            "title": paper.title,
            "content_text": paper.abstract,
            **({"date_published": _midnight(paper.published).isoformat()} if paper.published else {}),
            "authors": [{"name": name} for name in paper.authors],
            "tags": [tag.name for tag in paper.tags],
        }
        for paper in papers
    ]
    feed = {
        "version": "https://jsonfeed.org/version/1.1",
        "title": title,
        "home_page_url": address,
        "feed_url": address + path,
        "items": items,
    }
    return json.dumps(feed, ensure_ascii=False).encode()


def write_markdown(paper: Paper, verdicts: Iterator[tuple[str, str, str]]) -> str:
    """A paper as Markdown: its title, authors and abstract, and its claims with what came of them."""
    lines = [f"# {paper.title}", "", ", ".join(paper.authors), ""]
    if paper.arxiv:
        lines += [f"arXiv:{paper.arxiv}", ""]
    lines += [paper.abstract, ""]
    claims = [f"- **{ruling}** {statement} ({source})" for ruling, statement, source in verdicts]
    return "\n".join([*lines, *(["## Claims", "", *claims] if claims else [])]).rstrip() + "\n"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
