"""The page of a paper with its claims."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tendsto.evidence import Verdict
from tendsto.evidence.claim import BudgetName
from tendsto.evidence.explanation import explain
from tendsto.site import compare, formats, runs
from tendsto.site.answers import answer
from tendsto.site.database import Claim, Paper, Run, StoredVerdict, find_paper
from tendsto.site.manual import manuals
from tendsto.site.run_pages import status_of
from tendsto.site.security import (
    Guards,
    TheSite,
    form_token,
    is_admin,
    limit_rate,
    visitor_of,
)
from tendsto.site.site import Site

router = APIRouter(dependencies=Guards)
files = APIRouter(dependencies=[Depends(limit_rate)])

# Stands in kept pages for the token of whoever reads them; nobody can write it into a paper.
_ANY_TOKEN = secrets.token_hex(32)
_SIMILAR = 5


# --- a paper


@files.get("/papers/{key:path}.md")
def read_markdown(site: TheSite, key: str) -> Response:
    """A paper as Markdown."""
    with Session(site.engine) as session:
        paper = find_paper(session, key)
        if paper is None:
            raise HTTPException(404, "There is no such paper.")
        claims = ((claim.ruling, claim.statement, claim.source) for claim in paper.claims)
        return Response(formats.write_markdown(paper, claims), media_type="text/markdown")


@dataclass(frozen=True)
class _Figure:
    title: str
    address: str
    size: tuple[int, int] | None


@dataclass(frozen=True)
class _Shown:
    """A claim as its paper's page shows it."""

    claim: Claim
    verdict: Verdict | None
    outdated: bool
    figures: list[_Figure]
    history: list[StoredVerdict]
    run: dict[str, Any] | None
    compared: bool


@router.get("/papers/{key:path}")
def read_paper(request: Request, site: TheSite, key: str) -> Response:
    """A paper, its method, its claims and what came of them."""
    with Session(site.engine) as session:
        waits = session.scalar(select(func.count()).where(Run.visitor == visitor_of(request), Run.state.in_(runs.OPEN)))
    if waits:
        page = _render_paper(request, site, key, form_token(request))
        return page if isinstance(page, Response) else answer(request, page)
    # But for the token in its forms the page is the same to all who wait for nothing.
    kept = ("paper", key, is_admin(request), site.today(), site.meaning and site.meaning.stamp)
    page = site.kept.get(kept, lambda: _render_paper(request, site, key, _ANY_TOKEN))
    return page if isinstance(page, Response) else answer(request, page.replace(_ANY_TOKEN, form_token(request)))


def _render_paper(request: Request, site: Site, key: str, token: str) -> str | Response:
    with Session(site.engine) as session:
        paper = find_paper(session, key)
        if paper is None:
            raise HTTPException(404, "There is no such paper.")
        if paper.key != key:
            return RedirectResponse(f"/papers/{paper.key}", 301)
        entry = site.papers.get(paper.slug or "")
        return site.render(
            "paper.html.jinja",
            csrf=token,
            section="/",
            paper=paper,
            entry=entry,
            today=site.today(),
            methods=list(zip(explain(entry.card), manuals(entry.card), strict=True)) if entry else [],
            claims=[_shown(request, session, site, paper, claim) for claim in paper.claims],
            sizes=allowed_budgets(site),
            may_run=is_admin(request),
            similar=_similar(session, site, paper),
        )


def _similar(session: Session, site: Site, paper: Paper) -> list[tuple[Paper, float]]:
    close = dict(site.meaning.similar(paper.id, _SIMILAR)) if site.meaning else {}
    found = {it.id: it for it in session.scalars(select(Paper).where(Paper.id.in_(close)))}
    return [(found[identity], cosine) for identity, cosine in close.items() if identity in found]


def allowed_budgets(site: Site) -> tuple[str, ...]:
    """The budgets that the site spends on a run."""
    sizes = get_args(BudgetName)
    return sizes[: sizes.index(site.settings.largest_budget) + 1]


def _shown(request: Request, session: Session, site: Site, paper: Paper, claim: Claim) -> _Shown:
    rows = session.scalars(
        select(StoredVerdict)
        .where(StoredVerdict.paper == paper.slug, StoredVerdict.claim == claim.name)
        .order_by(StoredVerdict.finished.desc(), StoredVerdict.id.desc())
    ).all()
    last = next((row for row in rows if row.current), None)
    verdict = Verdict.from_json(last.body) if last else None
    run = session.scalars(
        select(Run)
        .where(
            Run.paper == paper.slug,
            Run.claim == claim.name,
            Run.state.in_(runs.OPEN),
            Run.visitor == visitor_of(request),
        )
        .order_by(Run.id.desc())
    ).first()
    return _Shown(
        claim,
        verdict,
        bool(last and last.outdated),
        _figures(site, verdict) if verdict else [],
        list(rows),
        status_of(request, session, run) if run else None,
        bool(compare.sources(session, site.store, str(paper.slug), claim.name)),
    )


def _figures(site: Site, verdict: Verdict) -> list[_Figure]:
    figures = []
    for place, title in enumerate(verdict.figures):
        path = site.store.figure_path(verdict, place)
        if path.is_file():
            stamp = path.stat().st_mtime_ns
            figures.append(_Figure(title, f"/figures/{verdict.paper}/{path.name}?{stamp}", _size(path)))
    return figures


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height of the figure, so that the page does not jump when it comes."""
    with path.open() as stream:
        head = stream.read(2000)
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    return (round(float(found[1]) * 4 / 3), round(float(found[2]) * 4 / 3)) if found else None
