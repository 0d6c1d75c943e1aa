"""The JSON interface: the shapes of Daily Papers, so that its clients work here, and claims with their verdicts."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tendsto.evidence.claim import BudgetName, Evidence
from tendsto.evidence.verdict import Ruling
from tendsto.site import database, feed
from tendsto.site.feed import Period
from tendsto.site.search import Filters, search
from tendsto.site.security import TheSite, limit_rate

router = APIRouter(prefix="/api", dependencies=[Depends(limit_rate)])

_MOST = 100
_TRENDING_DAYS = 30
_RELATED = ("linkedModels", "linkedDatasets", "linkedSpaces")


class Author(BaseModel):
    """An author."""

    name: str
    hidden: bool = False


class Organization(BaseModel):
    """Whom a paper is from."""

    name: str
    fullname: str


class Evidences(BaseModel):
    """What is known about a paper's claims: how many hold, fail, are unsound, have not run."""

    slug: str | None = Field(description="The paper's name in the catalogue; null where it has no method yet.")
    field: str
    tags: list[str]
    claims: dict[str, int]


class PaperInfo(BaseModel):
    """A paper; `publishedAt` is the day it appeared. Keys of an imported paper that are not named here are kept."""

    model_config = ConfigDict(extra="allow")

    id: str
    title: str
    summary: str
    authors: list[Author]
    publishedAt: str | None
    upvotes: int


class DailyPaper(BaseModel):
    """A paper as the feed lists it; `publishedAt` is the day of the feed that it stands in."""

    paper: PaperInfo
    title: str
    summary: str
    publishedAt: str | None
    numComments: int
    organization: Organization | None
    tendsto: Evidences


class ClaimInfo(BaseModel):
    """A claim, and what its last verdict says."""

    paper: str
    claim: str
    statement: str
    source: str
    evidence: Evidence
    verdict: Ruling
    seconds: float | None


class VerdictInfo(BaseModel):
    """A verdict, whole; numbers that are not finite are the strings "inf", "-inf" and "nan"."""

    model_config = ConfigDict(extra="allow")

    paper: str
    claim: str
    verdict: Ruling
    budget: BudgetName
    seed: int
    reason: str
    finished: str


_Page = Annotated[int, Query(ge=0, le=1_000_000, description="The page, from 0.")]
_Limit = Annotated[int, Query(ge=1, le=_MOST, description="How many at most.")]


def _error(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}


@router.get("/daily_papers", responses={404: _error("No such day."), 429: _error("Too many requests.")})
def list_daily_papers(
    site: TheSite,
    day: Annotated[str | None, Query(alias="date", pattern=r"^\d{4}-\d{2}-\d{2}$")] = None,
    week: Annotated[str | None, Query(pattern=r"^\d{4}-W\d{2}$")] = None,
    month: Annotated[str | None, Query(pattern=r"^\d{4}-\d{2}$")] = None,
    submitter: Annotated[
        str | None, Query(max_length=100, pattern=r"^[^\x00]*$", description="Who submitted it, by user name.")
    ] = None,
    sort: Annotated[
        Literal["publishedAt", "trending"],
        Query(
            description="`trending` is votes / (hours + 2)^1.5, hours before the newest; of the period, or of 30 days."
        ),
    ] = "publishedAt",
    p: _Page = 0,
    limit: _Limit = 50,
) -> list[DailyPaper]:
    """The papers of a day, a week or a month, or all of them."""
    asked = {"date": day, "week": week, "month": month}
    periods = []
    for kind, value in asked.items():
        if value is not None:
            try:
                periods.append(Period.parse(kind, value))
            except ValueError as error:
                raise HTTPException(404, str(error)) from error
    found = feed.papers(None)
    for period in periods:
        found = found.where(database.Paper.listed.between(period.first, period.last))
    if submitter is not None:
        found = found.where(database.Paper.extra["submittedBy"]["name"].as_string() == submitter)
    with Session(site.engine) as session:
        if sort == "trending":
            newest = feed.newest_day(session)
            start = date.fromordinal(max(newest.toordinal() - _TRENDING_DAYS, 1)) if newest else date.min
            young = list(session.scalars(found if periods else found.where(database.Paper.listed > start)))
            young.sort(key=lambda paper: (-_trend(paper, newest), -paper.id))
            papers = young[p * limit : (p + 1) * limit]
        else:
            papers = list(session.scalars(found.limit(limit).offset(p * limit)))
        return [_daily(paper) for paper in papers]


def _trend(paper: database.Paper, newest: date | None) -> float:
    hours = 24 * (newest - paper.listed).days if newest and paper.listed else 0
    return float(paper.upvotes / (hours + 2) ** 1.5)


@router.get("/papers/search", responses={429: _error("Too many requests.")})
def search_papers(
    site: TheSite, q: Annotated[str, Query(max_length=1000)] = "", limit: _Limit = 20
) -> list[DailyPaper]:
    """The papers that fit a query by words and by meaning, the best first."""
    with Session(site.engine) as session:
        return [_daily(hit.paper) for hit in search(session, site.meaning, q, Filters(), size=limit).hits]


@router.get("/papers/{id}", responses={404: _error("There is no such paper."), 429: _error("Too many requests.")})
def show_paper(site: TheSite, id: Annotated[str, Path(max_length=200)]) -> PaperInfo:
    """One paper, by its arXiv identifier or its name in the catalogue."""
    return _one(site, id)


@router.get("/papers/{archive}/{number}", responses={404: _error("There is no such paper."), 429: _error("Too many.")})
def show_old_paper(
    site: TheSite, archive: Annotated[str, Path(max_length=50)], number: Annotated[str, Path(max_length=50)]
) -> PaperInfo:
    """One paper, by an arXiv identifier of before 2007 such as `math/0309136`."""
    return _one(site, f"{archive}/{number}")


def _one(site: TheSite, key: str) -> PaperInfo:
    with Session(site.engine) as session:
        paper = database.find_paper(session, key)
        if paper is None:
            raise HTTPException(404, "There is no such paper.")
        info = _info(paper)
        empty: dict[str, Any] = {name: [] for name in _RELATED}
        more = empty | {"numTotalModels": 0, "numTotalDatasets": 0} | _daily(paper).model_dump(exclude={"paper"})
        more |= {"submittedOnDailyAt": _moment(paper.listed)} if paper.listed else {}
        return PaperInfo.model_validate(more | info.model_dump())


@router.get("/claims", responses={429: _error("Too many requests.")})
def list_claims(
    site: TheSite,
    paper: Annotated[str | None, Query(max_length=200)] = None,
    evidence: Evidence | None = None,
    verdict: Ruling | None = None,
) -> list[ClaimInfo]:
    """The claims of the catalogue, each with what its last verdict says."""
    found = select(database.Claim, database.Paper.slug).join(database.Paper).order_by(database.Claim.id)
    if paper is not None:
        found = found.where(database.Paper.slug == paper)
    if evidence is not None:
        found = found.where(database.Claim.evidence == evidence)
    if verdict is not None:
        found = found.where(database.Claim.ruling == verdict)
    with Session(site.engine) as session:
        return [
            ClaimInfo(
                paper=str(slug),
                claim=claim.name,
                statement=claim.statement,
                source=claim.source,
                evidence=claim.evidence,  # type: ignore[arg-type]
                verdict=claim.ruling,  # type: ignore[arg-type]
                seconds=claim.seconds,
            )
            for claim, slug in session.execute(found)
        ]


@router.get("/verdicts", responses={429: _error("Too many requests.")})
def list_verdicts(
    site: TheSite,
    paper: Annotated[str | None, Query(max_length=200)] = None,
    claim: Annotated[str | None, Query(max_length=200)] = None,
    history: Annotated[bool, Query(description="With those that later ones replaced.")] = False,
    p: _Page = 0,
    limit: _Limit = 50,
) -> list[VerdictInfo]:
    """The verdicts, the last first."""
    rows = database.StoredVerdict
    found = select(rows).order_by(rows.finished.desc(), rows.id.desc()).limit(limit).offset(p * limit)
    if paper is not None:
        found = found.where(rows.paper == paper)
    if claim is not None:
        found = found.where(rows.claim == claim)
    if not history:
        found = found.where(rows.current)
    with Session(site.engine) as session:
        return [VerdictInfo(**json.loads(row.body)) for row in session.scalars(found)]


@router.get("/counts", responses={429: _error("Too many requests.")})
def count(site: TheSite) -> dict[str, int]:
    """How many papers are listed, how many claims there are, and how many of each ruling."""
    with Session(site.engine) as session:
        rulings = session.execute(
            select(database.Claim.ruling, func.count()).group_by(database.Claim.ruling).order_by(database.Claim.ruling)
        )
        counts = {str(ruling): int(number) for ruling, number in rulings}
        papers = session.scalar(select(func.count(database.Paper.id))) or 0
        return {"papers": papers, "claims": sum(counts.values())} | counts


def _info(paper: database.Paper) -> PaperInfo:
    named = {
        "id": paper.arxiv or paper.key,
        "title": paper.title,
        "summary": paper.abstract,
        "authors": [Author(name=name) for name in paper.authors],
        "publishedAt": _moment(paper.published),
        "upvotes": paper.upvotes,
    }
    return PaperInfo.model_validate(paper.extra | named)


def _daily(paper: database.Paper) -> DailyPaper:
    organization = paper.organization
    return DailyPaper(
        paper=_info(paper),
        title=paper.title,
        summary=paper.abstract,
        publishedAt=_moment(paper.listed),
        numComments=paper.comments,
        organization=Organization(name=organization, fullname=organization) if organization else None,
        tendsto=Evidences(
            slug=paper.slug,
            field=paper.field,
            tags=[tag.name for tag in paper.tags],
            claims=dict(Counter(claim.ruling for claim in paper.claims)),
        ),
    )


def _moment(day: date | None) -> str | None:
    return f"{day.isoformat()}T00:00:00.000Z" if day else None
