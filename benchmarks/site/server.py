"""A server of the site in a process of its own, on a free port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2

ROOT = Path(__file__).parents[2]
_SECONDS_TO_START, _SECONDS_TO_STOP = 120, 30


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`tendsto serve` over `folder`; `environment` adds to that of this process."""

    def __init__(self, folder: Path, *options: str, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        port = str(free_port())
        self.log = folder / "server.log"
        self.address = f"http://127.0.0.1:{port}"
        self.line = [sys.executable, "-m", "tendsto.cli", "serve", "--folder", str(folder), "--port", port, *options]
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}

    def start(self) -> None:
        """Start it, and return when it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.line, env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < deadline:
            try:
                httpx2.get(f"{self.address}/robots.txt", timeout=5)
                return
            except httpx2.TransportError:
                if self.process.poll() is not None:
                    raise RuntimeError(f"the server ended: {self.log.read_text()}") from None
                time.sleep(0.1)
        raise RuntimeError("the server does not answer")

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(_SECONDS_TO_STOP)


@contextmanager
def serving(folder: Path, *options: str, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server that runs while the block does."""
    server = Server(folder, *options, environment=environment or {})
    server.start()
    try:
        yield server
    finally:
        server.stop()
