"""A server on this machine that speaks the shapes of OpenAI's chat completions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint:
    """What a server answers: a plan of (status, content), and the requests that it saw."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []


@contextmanager
def serving(answer: Any) -> Iterator[tuple[str, Endpoint]]:
    endpoint = Endpoint(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.requests.append(request)
            endpoint.headers.append(dict(self.headers))
            endpoint.paths.append(self.path)
            status, headers, content = endpoint.answer(request, len(endpoint.requests))
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(BrokenPipeError):  # who asked may have given up
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def choices(texts: list[str], scores: list[list[float]] | None = None, tokens: int = 10) -> dict[str, Any]:
    found = []
    for number, text in enumerate(texts):
        told = {"content": [{"token": "?", "logprob": it} for it in scores[number]]} if scores else None
        found.append({"index": number, "message": {"role": "assistant", "content": text}, "logprobs": told})
    return {"object": "chat.completion", "choices": found, "usage": {"total_tokens": tokens}}
