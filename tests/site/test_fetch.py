"""Asking others for papers: a server on this machine stands in for theirs, and counts."""

from __future__ import annotations

import http.server
import json
import threading
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from tendsto.site import fetch
from tendsto.site.formats import Imported

ENTRY = "<entry><id>http://arxiv.org/abs/{:04}.{:05}v1</id><title>Paper {}</title></entry>"


class Service(http.server.BaseHTTPRequestHandler):
    """150 papers of arXiv, a day of Daily Papers, and nothing else."""

    def do_GET(self):
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.asked.append(asked | {"agent": self.headers["User-Agent"]})
        if parts.path == "/query":
            start, count = int(asked["start"]), int(asked["max_results"])
            entries = "".join(ENTRY.format(2301, place, place) for place in range(start, min(start + count, 150)))
            body = f'<feed xmlns="http://www.w3.org/2005/Atom"><title>x</title>{entries}</feed>'.encode()
        else:
            body = json.dumps([{"paper": {"id": "2505.19731", "title": "T"}}]).encode()
        self.send_response(200 if parts.path in ("/query", "/daily") else 503)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def service():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.address = f"http://127.0.0.1:{server.server_port}"
        yield server
        server.shutdown()


def test_arxiv_is_asked_in_batches_with_rests_between(service):
    rests = []
    batches = list(fetch.from_arxiv("cat:math.OC", 1000, address=f"{service.address}/query", pause=rests.append))
    assert [len(batch) for batch in batches] == [100, 50]
    assert [asked["start"] for asked in service.asked] == ["0", "100"]
    assert {asked["search_query"] for asked in service.asked} == {"cat:math.OC"}
    assert all(asked["agent"].startswith("tendsto/") for asked in service.asked)
    assert rests == [3.0]


def test_no_more_is_asked_for_than_was_wanted(service):
    (batch,) = fetch.from_arxiv("all", 7, address=f"{service.address}/query", pause=pytest.fail)
    assert len(batch) == 7
    assert service.asked[0]["max_results"] == "7"


def test_a_day_of_daily_papers(service):
    assert fetch.from_daily_papers("2025-05-26", address=f"{service.address}/daily") == [Imported("T", "2505.19731")]
    assert service.asked[0]["date"] == "2025-05-26"


def test_a_service_that_fails_is_told(service):
    with pytest.raises(httpx2.HTTPStatusError, match="503"):
        fetch.from_daily_papers("2025-05-26", address=f"{service.address}/down")
