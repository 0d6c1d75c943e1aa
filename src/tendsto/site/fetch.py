"""Ask arXiv and Daily Papers for papers, no faster than they allow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib import metadata

import httpx2

from tendsto.site.formats import Imported, read_atom, read_daily_papers

ARXIV = "https://export.arxiv.org/api/query"
DAILY_PAPERS = "https://huggingface.co/api/daily_papers"
_SECONDS_BETWEEN = 3.0
"""arXiv asks for one request in three seconds, on one connection."""
_AT_ONCE = 100
_SECONDS_TO_ANSWER = 30.0


def from_arxiv(
    query: str, most: int, *, address: str = ARXIV, pause: Callable[[float], None] = time.sleep
) -> Iterator[list[Imported]]:
    """The newest papers that fit a query of arXiv ("cat:math.OC"), a batch at a time, `most` in all.

    **Raises** `httpx2.HTTPError` if arXiv does not answer as it should.
    """
    with _client() as client:
        for start in range(0, most, _AT_ONCE):
            if start:
                pause(_SECONDS_BETWEEN)
            wanted = min(_AT_ONCE, most - start)
            order = {"sortBy": "submittedDate", "sortOrder": "descending"}
            asked = {"search_query": query, "start": str(start), "max_results": str(wanted)}
            answer = client.get(address, params=asked | order).raise_for_status()
            papers = read_atom(answer.content)
            yield papers
            if len(papers) < wanted:
                return


def from_daily_papers(day: str, *, address: str = DAILY_PAPERS) -> list[Imported]:
    """The papers that Daily Papers listed on `day` ("2025-05-26").

    **Raises** `httpx2.HTTPError` if it does not answer as it should.
    """
    with _client() as client:
        return read_daily_papers(client.get(address, params={"date": day}).raise_for_status().content)


def _client() -> httpx2.Client:
    agent = f"tendsto/{metadata.version('tendsto')}"
    return httpx2.Client(timeout=_SECONDS_TO_ANSWER, headers={"User-Agent": agent}, follow_redirects=True)
