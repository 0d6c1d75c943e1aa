"""Feeds for programs that read them, and the forms by which people subscribe and leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from sqlalchemy.orm import Session

from tendsto.site import digest, feed, formats
from tendsto.site.answers import Asked, Words, note, read_filters, show
from tendsto.site.database import Paper
from tendsto.site.search import Filters, matching
from tendsto.site.security import (
    Guards,
    TheSite,
    limit_rate,
)
from tendsto.site.site import Site

router = APIRouter(dependencies=Guards)
files = APIRouter(dependencies=[Depends(limit_rate)])


@files.get("/feed.atom")
def read_atom(site: TheSite, filters: Asked, q: Words = "") -> Response:
    """The newest papers that fit a search, as Atom."""
    return Response(_write_feed(site, formats.write_atom, "/feed.atom", q, filters), media_type="application/atom+xml")


@files.get("/feed.json")
def read_json_feed(site: TheSite, filters: Asked, q: Words = "") -> Response:
    """The newest papers that fit a search, as a JSON Feed."""
    return Response(
        _write_feed(site, formats.write_json_feed, "/feed.json", q, filters), media_type="application/feed+json"
    )


def _write_feed(
    site: Site, write: Callable[[Iterable[Paper], str, str, str], bytes], path: str, query: str, filters: Filters
) -> bytes:
    key = (path, query, filters)
    return site.kept.get(key, lambda: _make_feed(site, write, path, query, filters))


def _make_feed(
    site: Site, write: Callable[[Iterable[Paper], str, str, str], bytes], path: str, query: str, filters: Filters
) -> bytes:
    asked = digest.write_query(query, filters)
    with Session(site.engine) as session:
        found = matching(session, query, filters, feed.PAGE)
        title = (
            f"Tendsto: {', '.join(filter(None, [formats.clean(query), *filters.chosen.values()]))}"
            if asked
            else "Tendsto"
        )
        return write(found, site.settings.address, f"{path}?{asked}" if asked else path, title)


@router.get("/subscribe")
def ask_address(request: Request, site: TheSite, filters: Asked, q: Words = "") -> Response:
    """Feeds, and a form that asks for a mail address."""
    return _ask_address(request, site, q, filters)


def _ask_address(request: Request, site: Site, query: str, filters: Filters, error: str = "") -> Response:
    asked = digest.write_query(query, filters)
    return show(
        request,
        "subscribe.html.jinja",
        status=422 if error else 200,
        section="/subscribe",
        query=query,
        filters=filters,
        feeds=f"?{asked}" if asked else "",
        sends=site.settings.mail is not None and not site.frozen,
        error=error,
    )


@router.post("/subscribe")
def take_address(
    request: Request,
    site: TheSite,
    address: Annotated[str, Form(max_length=300)],
    q: Annotated[str, Form(max_length=1000)] = "",
    field: Annotated[str, Form(max_length=50)] = "",
    tag: Annotated[str, Form(max_length=100)] = "",
    year: Annotated[str, Form(max_length=20)] = "",
    evidence: Annotated[str, Form(max_length=20)] = "",
    status: Annotated[str, Form(max_length=20)] = "",
    seconds: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """Send the mail that asks to confirm."""
    filters = read_filters(field, tag, year, evidence, status, seconds)
    try:
        taken = digest.check_address(address)
        request.app.state.rates.check_mail(request, taken)
        digest.ask_to_confirm(site, taken, digest.write_query(q, filters))
    except ValueError as error:
        return _ask_address(request, site, q, filters, str(error))
    except OSError as error:
        raise HTTPException(503, "The mail could not be sent; try again later.") from error
    return note(request, "Look into your mail", f"A link to confirm the subscription is on its way to {taken}.")


@router.get("/subscribe/confirm/{token}")
def ask_confirmation(request: Request, site: TheSite, token: str) -> Response:
    """Ask once more: programs that look into mails open links too."""
    if digest.read_confirmation(site, token) is None:
        raise HTTPException(404, "This link is too old, or incomplete. Subscribe again.")
    return show(
        request,
        "note.html.jinja",
        title="Confirm",
        text="One more click, and the digest comes to you.",
        action=request.url.path,
        button="Confirm the subscription",
    )


@router.post("/subscribe/confirm/{token}")
def confirm(request: Request, site: TheSite, token: str) -> Response:
    """Store a confirmed subscription."""
    found = digest.read_confirmation(site, token)
    if found is None:
        raise HTTPException(404, "This link is too old, or incomplete. Subscribe again.")
    with Session(site.engine) as session:
        digest.subscribe(session, *found)
    return note(
        request, "Subscribed", "The digest comes to you when something is new. Every one has a link that ends it."
    )


@files.get("/unsubscribe/{token}")
def ask_to_leave(request: Request, token: str) -> Response:
    """Ask before unsubscribing."""
    del token
    return show(
        request,
        "note.html.jinja",
        title="Unsubscribe",
        text="No more mail will come, and the address is deleted.",
        action=request.url.path,
        button="Unsubscribe",
    )


@files.post("/unsubscribe/{token}")
def leave(request: Request, site: TheSite, token: str) -> Response:
    """Unsubscribe; the token in the address is the authority, since mail programs post here without a page of ours."""
    with Session(site.engine) as session:
        if not digest.unsubscribe(site, session, token):
            raise HTTPException(404, "This link is incomplete.")
    return note(request, "Unsubscribed", "No more mail will come, and the address is deleted.")
