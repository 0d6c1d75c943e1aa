"""What the pages of the site have in common: how they are answered, and the search that an address asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, Query, Request, Response
from fastapi.responses import HTMLResponse

from tendsto.site.search import Filters
from tendsto.site.security import form_token, keep_visitor, site_of

FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
# A figure opened by itself must run nothing and load nothing either.
FIGURE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}

Words = Annotated[str, Query(max_length=1000)]


def show(request: Request, template: str, *, status: int = 200, **context: object) -> HTMLResponse:
    """The page that `template` makes, with the visitor's cookie where it has a form."""
    return answer(request, site_of(request).render(template, csrf=form_token(request), **context), status)


def answer(request: Request, page: str, status: int = 200) -> HTMLResponse:
    """A page for this visitor alone, with their cookie."""
    response = HTMLResponse(page, status)
    response.headers["Cache-Control"] = "private, no-cache"
    keep_visitor(request, response)
    return response


def note(
    request: Request,
    title: str,
    text: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: object,
) -> Response:
    """A page that says one thing, and perhaps asks one."""
    response = show(request, "note.html.jinja", status=status, title=title, text=text, action=None, **context)
    response.headers.update(headers or {})
    return response


def read_filters(
    field: Annotated[str, Query(max_length=50)] = "",
    tag: Annotated[str, Query(max_length=100)] = "",
    year: Annotated[str, Query(max_length=20)] = "",
    evidence: Annotated[str, Query(max_length=20)] = "",
    status: Annotated[str, Query(max_length=20)] = "",
    seconds: Annotated[str, Query(max_length=20)] = "",
) -> Filters:
    """The filters of an address; a number that is none asks for nothing."""
    whole = int(year) if re.fullmatch(r"[1-9]\d{3}", year) else None
    limit = float(seconds) if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", seconds) else None
    return Filters(field, tag, whole, evidence, status, limit)


Asked = Annotated[Filters, Depends(read_filters)]
