"""What tests of tables that are computed in parts wait for."""

import time
from pathlib import Path


def wait_for_parts(out: Path, count: int) -> None:
    """Return when so many parts of the table `out` are on disk."""
    folder = out.with_name(f".{out.name}.parts")
    limit = time.monotonic() + 120
    while len(list(folder.glob("*.parquet"))) < count:
        assert time.monotonic() < limit, "no part landed"
        time.sleep(0.01)
