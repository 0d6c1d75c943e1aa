"""Search by words and by meaning at once, with the reason for every rank."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sqlalchemy import ColumnElement, and_, column, select, table, text, true
from sqlalchemy.orm import Session, selectinload

from tendsto.site.database import Claim, Paper, Tag, split_words
from tendsto.site.dialects import CLOSED, OPENED, dialect_of
from tendsto.site.meaning import Meaning

PAGE = 20
_CANDIDATES = 200
_FEW = 10
_WORDS = 24
_SMOOTHING = 60
"""What reciprocal rank fusion adds to a rank, so that the first places of one list do not decide alone."""
_LEAST_COSINE = 0.08
_COLUMNS = ("title", "claims", "authors", "abstract")
_SHOWN_WORDS = 5
_TEXT = table("paper_text", column("rowid"))


@dataclass(frozen=True)
class Filters:
    """What a paper must be, beside fitting the query; what is empty or None asks for nothing.

    **Arguments**

    - `field`, `tag`: the paper's.
    - `year`: in which it appeared.
    - `evidence`: that some claim of it has: `measured`, `certified` or `proved`.
    - `status`: what the last verdict on some claim says (`holds`, `fails`, `unsound`, `not run`), or `no method`.
    - `seconds`: within which some claim ran the last time.
    """

    field: str = ""
    tag: str = ""
    year: int | None = None
    evidence: str = ""
    status: str = ""
    seconds: float | None = None

    @property
    def chosen(self) -> dict[str, str]:
        """The filters that ask for something, as an address writes them."""
        return {
            name: f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in vars(self).items()
            if value
        }

    def condition(self) -> ColumnElement[bool]:
        """The filters as SQL."""
        found: list[ColumnElement[bool]] = []
        if self.field:
            found.append(Paper.field == self.field)
        if self.tag:
            found.append(Paper.tags.any(Tag.name == self.tag))
        if self.year is not None:
            found.append(Paper.published.between(date(self.year, 1, 1), date(self.year, 12, 31)))
        wanted: list[ColumnElement[bool]] = []
        if self.evidence:
            wanted.append(Claim.evidence == self.evidence)
        if self.seconds is not None:
            wanted.append(Claim.seconds <= self.seconds)
        if self.status == "no method":
            found.append(~Paper.claims.any())
        elif self.status:
            wanted.append(Claim.ruling == self.status)
        if wanted:
            found.append(Paper.claims.any(and_(*wanted)))
        return and_(true(), *found)


@dataclass(frozen=True)
class Hit:
    """A paper that fits, and why it stands where it does."""

    paper: Paper
    reason: str


@dataclass(frozen=True)
class Results:
    """One page of what was found, how many there are in all (of the first few hundred), and whether more follow."""

    hits: list[Hit]
    total: int
    more: bool


def search(
    session: Session,
    meaning: Meaning | None,
    query: str,
    filters: Filters | None = None,
    *,
    page: int = 1,
    size: int = PAGE,
) -> Results:
    """The papers that fit `query` by their words or by their meaning, the best first; all papers for an empty query.

    Words are ranked by BM25 (a title counts three times, a claim twice), meanings by the cosine between vectors, and
    the two ranks are fused: a paper scores $1/(60 + r)$ for each list in which it has rank $r$.
    """
    wanted = filters or Filters()
    condition = wanted.condition()
    ready = select(Paper).options(selectinload(Paper.tags), selectinload(Paper.claims))
    if not query.strip():
        order = (Paper.listed.desc().nulls_last(), Paper.id.desc())
        found = session.scalars(ready.where(condition).order_by(*order).limit(size + 1).offset(size * (page - 1))).all()
        more = len(found) > size
        return Results([Hit(it, "") for it in found[:size]], size * (page - 1) + len(found), more)
    expression, words = _by_words(session, query, condition if wanted != Filters() else None)
    close = dict(meaning.nearest(query, _CANDIDATES)) if meaning else {}
    close = {identity: cosine for identity, cosine in close.items() if cosine >= _LEAST_COSINE}
    if close:
        kept = set(session.scalars(select(Paper.id).where(Paper.id.in_(close), condition)))
        close = {identity: cosine for identity, cosine in close.items() if identity in kept}
    scores: dict[int, float] = {}
    for ranked in (words, list(close)):
        for rank, identity in enumerate(ranked, 1):
            scores[identity] = scores.get(identity, 0.0) + 1 / (_SMOOTHING + rank)
    order_of = sorted(scores, key=lambda identity: (-scores[identity], identity))
    chosen = order_of[size * (page - 1) : size * page]
    papers = {paper.id: paper for paper in session.scalars(ready.where(Paper.id.in_(chosen)))}
    matched = _matched(session, expression, chosen)
    hits = [
        Hit(papers[it], " · ".join([*matched.get(it, []), *([f"meaning {close[it]:.2f}"] if it in close else [])]))
        for it in chosen
        if it in papers
    ]
    return Results(hits, len(order_of), len(order_of) > size * page)


def matching(session: Session, query: str, filters: Filters, size: int, *, above: int = 0) -> Sequence[Paper]:
    """The newest papers that have every word of `query`: what a feed or a digest holds.

    Only those with an identity larger than `above`.
    """
    found = select(Paper).where(filters.condition(), Paper.id > above)
    words, speech = split_words(query)[:_WORDS], dialect_of(session)
    if words:
        found = found.where(Paper.id.in_(select(_TEXT.c.rowid).where(text(speech.matches))))
    ready = found.options(selectinload(Paper.tags), selectinload(Paper.claims))
    newest = ready.order_by(Paper.listed.desc().nulls_last(), Paper.id.desc()).limit(size)
    return session.scalars(newest, {"expression": speech.every.join(map(speech.word.format, words))}).all()


def _by_words(session: Session, query: str, condition: ColumnElement[bool] | None) -> tuple[str, Sequence[int]]:
    """The expression that found something, and the papers, from the best; all words must match if that suffices."""
    words, speech = split_words(query)[:_WORDS], dialect_of(session)
    telling = [word for word in words if word not in ENGLISH_STOP_WORDS] or words
    if not telling:
        return "", []
    # The last word may still be in the making.
    terms = [*map(speech.word.format, telling[:-1]), speech.beginning.format(telling[-1])]
    matches = select(_TEXT.c.rowid).where(text(speech.matches))
    if condition is not None:
        matches = matches.join(Paper, Paper.id == _TEXT.c.rowid).where(condition)
    ranked = matches.order_by(text(speech.rank), _TEXT.c.rowid).limit(_CANDIDATES)
    for joined in (speech.every, speech.some):
        expression = joined.join(terms)
        found = session.scalars(ranked, {"expression": expression}).all()
        if len(found) >= _FEW or len(terms) == 1:
            break
    return expression, found


def _matched(session: Session, expression: str, identities: Sequence[int]) -> dict[int, list[str]]:
    """The words of each column that the expression matched, as readers see them."""
    if not expression or not identities:
        return {}
    speech = dialect_of(session)
    marks = [text(speech.marked.format(column=name, place=place)) for place, name in enumerate(_COLUMNS)]
    rows = session.execute(
        select(_TEXT.c.rowid, *marks).where(text(speech.matches), _TEXT.c.rowid.in_(identities)),
        {"expression": expression},
    )
    return {row[0]: [it for it in map(_describe, _COLUMNS, row[1:]) if it] for row in rows}


def _describe(column: str, marked: str) -> str:
    words = re.findall(f"{OPENED}([^{CLOSED}]*){CLOSED}", marked)
    unique = list(dict.fromkeys(word.casefold() for word in words))
    return f"{column}: {', '.join(unique[:_SHOWN_WORDS])}{'…' if len(unique) > _SHOWN_WORDS else ''}" if unique else ""
