"""A server of the site that knows the toy papers, and where its assets are."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.site import server
from benchmarks.site.server import ROOT

TOYS = ROOT / "tests" / "toys"
SITE = ROOT / "src" / "tendsto" / "site"
AXE = ROOT / ".venv" / "site" / "node_modules" / "axe-core" / "axe.min.js"
VENDOR = SITE / "static" / "vendor"
SCREENSHOTS = ROOT / "tests" / "site" / "screenshots"


def serving(folder: Path, *options: str, seconds: float = 0.0) -> AbstractContextManager[server.Server]:
    """A server whose toy claims take `seconds`."""
    path = os.pathsep.join([str(ROOT / "src"), str(TOYS)])
    return server.serving(folder, *options, environment={"PYTHONPATH": path, "TOY_SECONDS": str(seconds)})
