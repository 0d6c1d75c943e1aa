"""Write the pages of a site as files for any web host: nothing can be run or subscribed to, all else works."""

from __future__ import annotations

import asyncio
import json
import posixpath
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import httpx2
from lxml import html
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from tendsto.files import write_atomically
from tendsto.site.app import create_app
from tendsto.site.database import Paper
from tendsto.site.site import STATIC, Site

_STARTS = (
    "/",
    "/search",
    "/compare",
    "/subscribe",
    "/api",
    "/feed.atom",
    "/feed.json",
    "/api/openapi.json",
    "/robots.txt",
)
_INDEX = "/static/search-index.js"


def build(site: Site, target: Path) -> int:
    """Write every page that can be reached from the front page into `target`; return how many files there are.

    Links are relative, so the files may lie anywhere. The search looks for words, in the browser.

    **Raises** `OSError` if a file cannot be written; `RuntimeError` if a page cannot be made.
    """
    # A notebook's own loop runs in this thread already.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(_build(site, target))).result()


async def _build(site: Site, target: Path) -> int:
    transport = httpx2.ASGITransport(create_app(site))
    waiting = deque([*_STARTS, *(f"/static/{path}" for path in _fonts())])
    seen = set(waiting)
    index = Path(target, _INDEX[1:])
    with write_atomically(index) as stream:
        stream.write(b"const tendstoPapers = " + json.dumps(_index(site), ensure_ascii=False).encode() + b";\n")
    async with httpx2.AsyncClient(transport=transport, base_url=site.settings.address) as client:
        while waiting:
            address = waiting.popleft()
            answer = await client.get(address)
            if answer.is_redirect:
                continue
            if answer.is_error:
                raise RuntimeError(f"{address}: {answer.status_code}")
            kind = answer.headers["content-type"].partition(";")[0]
            content = answer.content
            if kind == "text/html":
                content, links = _relative(content, address)
                fresh = [link for link in links if link not in seen]
                seen.update(fresh)
                waiting.extend(fresh)
            with write_atomically(target / file_of(address, page=kind == "text/html")) as stream:
                stream.write(content)
    return len(seen) + 1


def _fonts() -> list[str]:
    return [f"vendor/fonts/{path.name}" for path in (STATIC / "vendor" / "fonts").iterdir()] if _has_fonts() else []


def _has_fonts() -> bool:
    return (STATIC / "vendor" / "fonts").is_dir()


def file_of(address: str, *, page: bool) -> str:
    """The file, relative to the target, that holds what lies at `address`."""
    parts = urlsplit(address)
    name = unquote(parts.path).strip("/")
    if page:
        return posixpath.join(name, "index.html")
    if parts.query and not name.startswith(("static/", "figures/")):
        stem, suffix = posixpath.splitext(name)
        return f"{stem}@{quote(unquote(parts.query), safe='=,+ ')}{suffix}"
    return name


def _relative(content: bytes, address: str) -> tuple[bytes, list[str]]:
    """The page with its links relative to its own file, and the addresses on this site that it leads to."""
    page = html.document_fromstring(content, parser=html.HTMLParser(encoding="utf-8"))
    here = posixpath.dirname(file_of(address, page=True))
    links = []
    for element, attribute, link, _ in page.iterlinks():
        if not link.startswith("/") or link.startswith("//"):
            continue
        parts = urlsplit(link)
        plain, query, fragment = parts.path, parts.query, f"#{parts.fragment}" * bool(parts.fragment)
        if element.tag == "form" or (plain == "/search" and query):
            kept = f"?{query}" if query else ""
            element.set(attribute, posixpath.relpath(file_of("/search", page=True), here or ".") + kept + fragment)
            continue
        whole = f"{plain}?{query}" if query else plain
        if plain != _INDEX:
            links.append(whole)
        file = file_of(whole, page=_is_page(plain))
        element.set(attribute, quote(posixpath.relpath(file, here or "."), safe="/@=,+") + fragment)
    return html.tostring(page, doctype="<!doctype html>", encoding="utf-8"), links


def _is_page(path: str) -> bool:
    """Whether what lies at `path` is a page: anything else has the ending of its kind, or is for programs."""
    return not (
        path.startswith(("/static/", "/figures/", "/api/"))
        or path.endswith((".atom", ".json", ".md", ".csv", ".parquet", ".svg", ".txt"))
    )


def _index(site: Site) -> list[dict[str, object]]:
    """What the search in the browser looks through."""
    with Session(site.engine) as session:
        papers = session.scalars(
            select(Paper)
            .options(selectinload(Paper.claims), selectinload(Paper.tags))
            .order_by(Paper.listed.desc().nulls_last(), Paper.id.desc())
        )
        return [
            {
                "page": quote(file_of(f"/papers/{paper.key}", page=True), safe="/"),
                "title": paper.title,
                "authors": ", ".join(paper.authors),
                "abstract": paper.abstract,
                "claims": " ".join(claim.statement for claim in paper.claims),
                "field": paper.field,
                "tags": [tag.name for tag in paper.tags],
                "year": paper.published.year if paper.published else None,
                "evidence": sorted({claim.evidence for claim in paper.claims}),
                "status": sorted({claim.ruling for claim in paper.claims}) or ["no method"],
                "seconds": min((claim.seconds for claim in paper.claims if claim.seconds is not None), default=None),
            }
            for paper in papers
        ]
