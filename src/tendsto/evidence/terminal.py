"""Show verdicts in a terminal: a table of what came out, and the progress of a run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from tendsto.evidence.claim import Claim
from tendsto.evidence.notation import to_unicode
from tendsto.evidence.verdict import Verdict

_STYLES = {"holds": "green", "fails": "bold red", "unsound": "yellow", "not run": "dim"}
_SIGNS = {"holds": "✓", "fails": "✕", "unsound": "?", "not run": "–"}
_PAPER_WIDTH, _CLAIM_WIDTH = 13, 22


def verdict_table(verdicts: Iterable[Verdict]) -> Table:
    """The verdicts as a table that fits 100 columns."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("paper", "claim", "evidence", "predicted", "measured", "control", "verdict"):
        table.add_column(title, overflow="fold", no_wrap=title in ("paper", "claim", "evidence", "verdict"))
    table.add_column("seconds", justify="right", no_wrap=True)
    for verdict in verdicts:
        check = verdict.headline
        table.add_row(
            Text(_fold(verdict.paper, _PAPER_WIDTH)),
            Text(_fold(verdict.claim, _CLAIM_WIDTH)),
            verdict.evidence,
            Text(_stack(check.predicted) if check else ""),
            Text(_stack(check.measured) if check else ""),
            Text(verdict.control, style="dim" if verdict.control == "fails" else "yellow"),
            Text(verdict.verdict, style=_STYLES[verdict.verdict]),
            f"{verdict.seconds:.1f}",
        )
    return table


def remarks(verdicts: Iterable[Verdict]) -> Iterable[Text]:
    """A line on each verdict that is not plain: why a claim fails, is unsound, or was not run."""
    for verdict in verdicts:
        if verdict.verdict != "holds":
            line = Text(f"{verdict.paper}/{verdict.claim} ")
            line.append(verdict.verdict, _STYLES[verdict.verdict])
            yield line.append(f": {to_unicode(verdict.reason)}")


class RunProgress:
    """The progress of a run on standard error: the claims that are running, how many are done, the time.

    Each verdict leaves a line as it lands, so that a log without a terminal shows the same.
    """

    def __init__(self, total: int) -> None:
        self._running: dict[tuple[str, str], str] = {}
        console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start(self, claim: Claim) -> None:
        """Show that `claim` is running."""
        self._running[claim.paper.slug, claim.name] = f"{claim.paper.slug}/{claim.name}"
        self._refresh()

    def land(self, verdict: Verdict) -> None:
        """Show that `verdict` has landed; one that never started was kept from an earlier run."""
        ran = self._running.pop((verdict.paper, verdict.claim), None)
        line = Text(f"{_SIGNS[verdict.verdict]} {verdict.verdict:8}", style=_STYLES[verdict.verdict])
        line.append(f"{verdict.paper}/{verdict.claim}", style="default")
        line.append(f"  {verdict.seconds:.1f} s" if ran else "  kept", style="dim")
        self._bar.console.print(line, soft_wrap=True)
        self._bar.advance(self._task)
        self._refresh()

    def _refresh(self) -> None:
        self._bar.update(self._task, description=", ".join(self._running.values()))


def _stack(quantity: object) -> str:
    """A number above its interval, the ends of an interval above each other."""
    return re.sub(r"(?<!^in) \[", "\n[", str(quantity)).replace(", ", ",\n ")


def _fold(name: str, width: int) -> str:
    """The name of a paper or a claim on lines that break behind hyphens and underscores."""
    lines = [""]
    for word in re.findall(r"[^_-]*[_-]*", name):
        if lines[-1] and len(lines[-1] + word) > width:
            lines.append("")
        lines[-1] += word
    return "\n".join(lines)
