"""Build the report: static pages that show every verdict in a store, and need nothing but a browser."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from tendsto.evidence.claim import Budget, Claim, Paper
from tendsto.evidence.explanation import explain
from tendsto.evidence.notation import to_html
from tendsto.evidence.store import Store
from tendsto.evidence.strip import strip
from tendsto.evidence.verdict import Verdict
from tendsto.files import write_atomically


@runtime_checkable
class PaperEntry(Protocol):
    """A paper as the catalogue lists it."""

    @property
    def card(self) -> Paper:
        """Its card."""

    @property
    def summary(self) -> str:
        """What it does and states, in paragraphs."""

    @property
    def claims(self) -> Mapping[str, Claim]:
        """Its claims by name."""


@dataclass(frozen=True)
class _Row:
    """A verdict as a page shows it; `outdated` says that its code or its libraries have changed since."""

    verdict: Verdict
    outdated: bool
    figures: tuple[tuple[str, str], ...]


def write_report(store: Store, papers: Mapping[str, PaperEntry]) -> Path:
    """Write `index.html` and a page for each paper with a verdict into the store's folder; return the index.

    The pages hold their styles and figures, run no script and load nothing. Verdicts on papers or
    claims that are not among `papers`, by slug, are left out.

    **Raises** `OSError` if a page cannot be written.
    """
    rows: dict[str, dict[str, list[_Row]]] = {}
    counts: Counter[str] = Counter()
    for verdict in store.verdicts():
        if verdict.paper in papers and verdict.claim in papers[verdict.paper].claims:
            row = _row(store, papers[verdict.paper].claims[verdict.claim], verdict)
            rows.setdefault(verdict.paper, {}).setdefault(verdict.claim, []).append(row)
            counts[verdict.verdict] += 1
    shown = {slug: entry for slug, entry in papers.items() if slug in rows}
    for slug, entry in shown.items():
        methods = explain(entry.card)
        _write(store.folder / f"{slug}.html", "paper.html.jinja", entry=entry, methods=methods, rows=rows[slug])
    index = store.folder / "index.html"
    _write(index, "index.html.jinja", papers=shown, rows=rows, counts=counts)
    return index


def _row(store: Store, claim: Claim, verdict: Verdict) -> _Row:
    outdated = verdict.verdict != "not run" and not store.load(claim, Budget(verdict.budget, verdict.seed))
    paths = ((title, store.figure_path(verdict, place)) for place, title in enumerate(verdict.figures))
    figures = ((title, _data_address(path)) for title, path in paths if path.is_file())
    return _Row(verdict, outdated, tuple(figures))


def _data_address(path: Path) -> str:
    # As an image a figure keeps its identifiers and styles to itself, and nothing in it can run.
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _write(path: Path, template: str, **context: object) -> None:
    page = environment().get_template(template).render(context)
    with write_atomically(path) as stream:
        stream.write(page.encode())


@cache
def environment(*packages: str) -> Environment:
    """The templates of `packages` and of the report, with the filters that show formulas, numbers and checks."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in (*packages, "tendsto.evidence")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"notation": to_html, "strip": strip, "cell": _cell, "seconds": _seconds}
    return environment


def _cell(value: float | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _seconds(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
