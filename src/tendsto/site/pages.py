"""The feed, the search, and the files that pages load."""

from __future__ import annotations

import mimetypes
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tendsto.listing import card_date
from tendsto.site import digest, feed
from tendsto.site.answers import FIGURE_HEADERS, FOREVER, Asked, Words, answer, show
from tendsto.site.database import Claim, Paper, Tag, now
from tendsto.site.feed import Period
from tendsto.site.search import Filters, search
from tendsto.site.security import (
    Guards,
    TheSite,
    keep_visitor,
    limit_rate,
    sign_in,
)
from tendsto.site.site import STATIC, Site, style

router = APIRouter(dependencies=Guards)
files = APIRouter(dependencies=[Depends(limit_rate)])

_SEEN, _VISIT, _A_YEAR = "seen", timedelta(minutes=30), 365 * 24 * 3600
_SIMILAR = 5
_LIKED = 1000


# --- the feed


@router.get("/")
def read_all(request: Request, site: TheSite) -> Response:
    """Everything, from the newest."""
    return _feed(request, site, None, 1)


@router.get("/page/{number}")
def read_page(request: Request, site: TheSite, number: int) -> Response:
    """A later page of everything."""
    return _feed(request, site, None, number)


@router.get("/date/{name}")
@router.get("/week/{name}")
@router.get("/month/{name}")
@router.get("/date/{name}/page/{number}")
@router.get("/week/{name}/page/{number}")
@router.get("/month/{name}/page/{number}")
def read_period(request: Request, site: TheSite, name: str, number: int = 1) -> Response:
    """What was listed on a day, in a week or in a month."""
    kind = request.url.path.split("/")[1]
    try:
        period = Period.parse(kind, name)
    except ValueError as error:
        raise HTTPException(404, "There is no such page.") from error
    return _feed(request, site, period, number)


def _feed(request: Request, site: Site, period: Period | None, number: int) -> Response:
    today = site.today()
    if not 1 <= number <= 10**6:
        raise HTTPException(404, "There is no such page.")
    since, seen = _last_visit(request)
    newest = site.kept.get("newest", lambda: _newest(site))
    # To whom nothing is new the page is the same as to all others.
    if newest is None or since >= newest:
        page = site.kept.get((request.url.path, today), lambda: _render_feed(site, period, number, datetime.max))
    else:
        page = _render_feed(site, period, number, since)
    response = answer(request, page)
    response.set_cookie(_SEEN, seen, max_age=_A_YEAR, httponly=True, samesite="lax")
    return response


def _newest(site: Site) -> datetime | None:
    """When the newest paper was added."""
    with Session(site.engine) as session:
        return session.scalar(select(func.max(Paper.added)))


def _render_feed(site: Site, period: Period | None, number: int, since: datetime) -> str:
    today = site.today()
    with Session(site.engine) as session:
        papers, more = feed.page(session, period, number)
        if number > 1 and not papers:
            raise HTTPException(404, "There is no such page.")
        newest = period.last if period else feed.newest_day(session)
        days = {
            kind: Period.around(kind, min(newest, today) if newest else today) for kind in ("date", "week", "month")
        }
        earlier, later = feed.neighbours(session, period) if period else (None, None)
        base = period.address if period else ""
        return site.render(
            "feed.html.jinja",
            section="/",
            title=period.title(card_date(period.first, today)) if period else "All papers",
            lede=None if period else "Papers that prove something, and claims that anyone can run.",
            periods={
                "Day": days["date"].address,
                "Week": days["week"].address,
                "Month": days["month"].address,
                "All": "/",
            },
            period={"date": "Day", "week": "Week", "month": "Month"}[period.kind] if period else "All",
            earlier=earlier and earlier.address,
            later=later and later.address,
            papers=papers,
            since=since,
            today=today,
            more=f"{base}/page/{number + 1}" if more else None,
            rulings=feed.count(session, Claim.ruling),
            fields=feed.count(session, Paper.field),
        )


def _last_visit(request: Request) -> tuple[datetime, str]:
    """The end of the visitor's last visit, and the cookie that will tell the next.

    A visit ends with half an hour's rest. On the first visit nothing is new.
    """
    moment = now()
    try:
        since, seen = (
            datetime.fromtimestamp(int(part), UTC).replace(tzinfo=None) for part in request.cookies[_SEEN].split("-")
        )
    except (KeyError, ValueError, OverflowError, OSError):
        since = seen = moment
    if moment - seen > _VISIT:
        since = seen
    stamps = (int(it.replace(tzinfo=UTC).timestamp()) for it in (since, moment))
    return since, "-".join(map(str, stamps))


# --- search


@router.get("/search")
def read_search(
    request: Request,
    site: TheSite,
    filters: Asked,
    q: Words = "",
    page: Annotated[int, Query(ge=1, le=1000)] = 1,
) -> Response:
    """What fits the query, with the reason for each rank; only the results where a script asks while someone types."""
    template = "results.html.jinja" if request.headers.get("hx-target") == "results" else "search.html.jinja"
    key = (template, q, filters, page, site.today(), site.meaning and site.meaning.stamp)
    response = answer(request, site.kept.get(key, lambda: _render_search(site, template, q, filters, page)))
    response.headers["Vary"] = "HX-Target"
    return response


def _render_search(site: Site, template: str, q: str, filters: Filters, page: int) -> str:
    with Session(site.engine) as session:
        results = search(session, site.meaning, q, filters, page=page)
        asked = digest.write_query(q, filters)
        return site.render(
            template,
            section="/search",
            query=q,
            filters=filters,
            results=results,
            today=site.today(),
            since=now(),
            feeds=f"?{asked}" if asked else "",
            more=f"/search?{asked}{'&' * bool(asked)}page={page + 1}" if results.more else None,
            fields=session.scalars(select(Paper.field).where(Paper.field != "").distinct().order_by(Paper.field)).all(),
            years=_years(session),
        )


def _years(session: Session) -> list[int]:
    first, last = session.execute(select(func.min(Paper.published), func.max(Paper.published))).one()
    return list(range(last.year, first.year - 1, -1)) if first and last else []


@router.get("/tag/{name}")
def read_tag(request: Request, site: TheSite, name: str) -> Response:
    """The papers under a tag, and those that stand near to them."""
    with Session(site.engine) as session:
        results = search(session, None, "", Filters(tag=name), size=feed.PAGE)
        if not results.hits:
            raise HTTPException(404, "There is no such tag.")
        tagged = session.scalars(select(Tag.paper_id).where(Tag.name == name).limit(_LIKED)).all()
        near = dict(site.meaning.recommend(tagged, _SIMILAR)) if site.meaning else {}
        found = {it.id: it for it in session.scalars(select(Paper).where(Paper.id.in_(near)))}
        return show(
            request,
            "tag.html.jinja",
            section="/",
            name=name,
            papers=[hit.paper for hit in results.hits],
            near=[(found[identity], score) for identity, score in near.items() if identity in found],
            today=site.today(),
        )


# --- the interface for programs, and the administrator


@router.get("/api")
def read_api(request: Request) -> Response:
    """What the JSON interface offers."""
    return show(request, "api.html.jinja", section="/api", document=request.app.openapi())


@router.get("/admin")
def ask_token(request: Request) -> Response:
    """Ask for the administrator's token."""
    return show(request, "admin.html.jinja", error=None)


@router.post("/admin")
def check_token(request: Request, token: Annotated[str, Form(max_length=200)]) -> Response:
    """Let the administrator in."""
    response = RedirectResponse("/runs", 303)
    if not sign_in(request, response, token):
        return show(request, "admin.html.jinja", status=403, error="This is not the token.")
    keep_visitor(request, response)
    return response


# --- files


@files.get("/static/{name:path}")
def read_static(name: str) -> Response:
    """A file of the site's own."""
    if name == "site.css":
        return Response(style(), media_type="text/css", headers=FOREVER)
    if (
        not re.fullmatch(r"(vendor/(fonts/)?)?[A-Za-z0-9][A-Za-z0-9._-]*", name)
        or not (path := STATIC / name).is_file()
    ):
        raise HTTPException(404, "There is no such file.")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(path.read_bytes(), media_type=kind, headers=FOREVER)


@files.get("/figures/{paper}/{name}")
def read_figure(site: TheSite, paper: str, name: str) -> Response:
    """A figure of a verdict."""
    path = site.settings.folder / "figures" / paper / name
    if paper not in site.papers or not re.fullmatch(r"[A-Za-z0-9_.-]+\.svg", name) or not path.is_file():
        raise HTTPException(404, "There is no such figure.")
    return FileResponse(path, media_type="image/svg+xml", headers=FIGURE_HEADERS | FOREVER)


@files.get("/robots.txt")
def read_robots() -> Response:
    """What crawlers may read."""
    return PlainTextResponse("User-agent: *\nDisallow: /runs\nDisallow: /search\n")
