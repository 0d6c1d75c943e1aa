"""Keep verdicts on disk, so that a killed run goes on where it stopped and a report can be built again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet

from tendsto.evidence import provenance
from tendsto.evidence.claim import Budget, Claim
from tendsto.evidence.judge import Exhibits
from tendsto.evidence.verdict import Verdict
from tendsto.files import write_atomically


class Store:
    """The verdicts below one folder.

    `verdicts/<paper>/<claim>.<budget>.<seed>.json` holds a verdict with its tables, and the digest of all
    that its numbers depend on; `figures/<paper>/` its figures as SVG; `traces/<paper>/` its traces as
    Parquet. A verdict is written last and every file atomically: whatever kills the process, a verdict
    that is there is whole.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def load(self, claim: Claim, budget: Budget) -> Verdict | None:
        """The stored verdict on `claim` at `budget`, or None where the claim must be run.

        That is where there is none, where its file is damaged, where the claim's source or a version has
        changed since, and where it was not run.
        """
        path = self._path("verdicts", claim.paper.slug, claim.name, budget.name, budget.seed, ".json")
        stored = _read(path)
        if stored is None or stored[0] != provenance.digest(claim, budget):
            return None
        verdict = stored[1]
        complete = all(self.figure_path(verdict, place).is_file() for place in range(len(verdict.figures)))
        return verdict if complete and verdict.verdict != "not run" else None

    def save(self, verdict: Verdict, exhibits: Exhibits, digest: str) -> None:
        """Keep `verdict` with its exhibits; `digest` is that of its claim and budget before the run.

        **Raises** `OSError` (a full disk, a folder that is read-only) with the path named.
        """
        for place, svg in enumerate(exhibits.figures.values()):
            with write_atomically(self.figure_path(verdict, place)) as stream:
                stream.write(svg.encode())
        traces = {self._of(verdict, "traces", f".{_file_name(title)}.parquet"): title for title in exhibits.traces}
        for path, title in traces.items():
            named = exhibits.traces[title].copy(deep=False)
            named.attrs["title"] = title
            with write_atomically(path) as stream:
                named.to_parquet(stream)
        for path in set(self.trace_paths(verdict)) - traces.keys():  # of the verdict before, under another title
            path.unlink(missing_ok=True)
        with write_atomically(self._of(verdict, "verdicts", ".json")) as stream:
            stream.write(json.dumps({"digest": digest, "verdict": json.loads(verdict.to_json())}).encode())

    def verdicts(self) -> Iterator[Verdict]:
        """Every verdict in the store, current or not, ordered by file name; damaged files are skipped."""
        for path in sorted(self.folder.glob("verdicts/*/*.json")):
            if stored := _read(path):
                yield stored[1]

    def figure_path(self, verdict: Verdict, place: int) -> Path:
        """Where the SVG of the verdict's figure number `place`, from 0, lies."""
        return self._of(verdict, "figures", f".{place + 1}-{_file_name(verdict.figures[place])}.svg")

    def trace_paths(self, verdict: Verdict) -> list[Path]:
        """The Parquet files of the verdict's traces, ordered by name."""
        prefix = self._of(verdict, "traces", ".")
        return sorted(path for path in prefix.parent.glob("*.parquet") if path.name.startswith(prefix.name))

    def trace_labels(self, verdict: Verdict) -> dict[Path, dict[str, Any]]:
        """What the verdict's traces say of themselves, by file: `title`, and what `Trace.to_dataframe` notes."""
        schemas = {path: pyarrow.parquet.read_schema(path) for path in self.trace_paths(verdict)}
        labels = {path: json.loads((it.metadata or {}).get(b"PANDAS_ATTRS", b"{}")) for path, it in schemas.items()}
        return {path: label for path, label in labels.items() if "title" in label}

    def _of(self, verdict: Verdict, kind: str, suffix: str) -> Path:
        return self._path(kind, verdict.paper, verdict.claim, verdict.budget, verdict.seed, suffix)

    def _path(self, kind: str, paper: str, claim: str, budget: str, seed: int, suffix: str) -> Path:
        return self.folder / kind / paper / f"{claim}.{budget}.{seed}{suffix}"


def _read(path: Path) -> tuple[str, Verdict] | None:
    try:
        plain = json.loads(path.read_bytes())
        return str(plain["digest"]), Verdict.from_json(json.dumps(plain["verdict"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _file_name(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", title).strip("-")[:60] or "untitled"
