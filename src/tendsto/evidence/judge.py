"""Check one claim: run it and its controls, and reach the verdict."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from inspect import getdoc

import jax
import pandas as pd
from threadpoolctl import threadpool_limits

from tendsto.evidence import figures, provenance
from tendsto.evidence.claim import Budget, Claim, ClaimFunction, NotRun
from tendsto.evidence.finding import Check, Finding
from tendsto.evidence.verdict import ControlResult, Ruling, Table, Verdict
from tendsto.extras import MissingExtra

# Drawing styles and standard output belong to the process: two claims in one process take turns.
_TURN = threading.Lock()


@dataclass(frozen=True)
class Exhibits:
    """What a verdict shows beside its numbers: figures as SVG text and traces as data frames, by title."""

    figures: Mapping[str, str] = field(default_factory=dict)
    traces: Mapping[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class _Run:
    """One run of a claim or a control: its finding, or why there is none."""

    function: ClaimFunction
    finding: Finding | None = None
    exhibits: Exhibits = field(default_factory=Exhibits)
    tables: Mapping[str, Table] = field(default_factory=dict)
    obstacle: str = ""
    errored: bool = False

    @property
    def checks(self) -> tuple[Check, ...]:
        return tuple(self.finding.checks) if self.finding else ()

    @property
    def note(self) -> str:
        return self.finding.note if self.finding else ""


def check_claim(claim: Claim, budget: Budget) -> tuple[Verdict, Exhibits]:
    """Run `claim` and its controls at `budget`, and say what they show together.

    The claim `holds` if its finding does and every control clearly fails. It is `unsound` if a control
    does not fail, or if there is none, whatever was measured. An interval that straddles its bound
    is a claim that `fails` at this budget. A claim that lacks something here, or that raises, is `not run`.

    All of it runs in float64 and on one thread a library, so that the numbers do not depend on the
    number of cores; what the claim prints goes to standard error. No global setting stays changed.

    **Raises** `TypeError` if the claim's module has no `CARD`.
    """
    paper, started = claim.paper, time.perf_counter()
    with (
        _TURN,
        jax.enable_x64(True),
        threadpool_limits(1),
        figures.drawing_style(),
        contextlib.redirect_stdout(sys.stderr),
    ):
        run = _run(claim.function, budget)
        controls = [_run(control, budget) for control in claim.controls if run.finding]
    ruling, reason = _rule(run, controls, budget)
    verdict = Verdict(
        paper=paper.slug,
        claim=claim.name,
        statement=claim.statement,
        source=claim.source,
        evidence=claim.evidence,
        verdict=ruling,
        reason=reason,
        budget=budget.name,
        seed=budget.seed,
        checks=run.checks,
        controls=tuple(map(_control_result, controls)),
        tables=run.tables,
        figures=tuple(run.exhibits.figures),
        note=run.note,
        errored=any(it.errored for it in [run, *controls]),
        versions=provenance.versions(),
        seconds=time.perf_counter() - started,
        hardware=provenance.hardware(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return verdict, run.exhibits


def died(claim: Claim, budget: Budget, reason: str) -> Verdict:
    """The verdict on a claim whose process ended under it."""
    return Verdict(
        paper=claim.paper.slug,
        claim=claim.name,
        statement=claim.statement,
        source=claim.source,
        evidence=claim.evidence,
        verdict="not run",
        reason=f"error: {reason}",
        budget=budget.name,
        seed=budget.seed,
        errored=True,
        versions=provenance.versions(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _run(function: ClaimFunction, budget: Budget) -> _Run:
    try:
        finding = function(budget)
        if not isinstance(finding, Finding):
            raise TypeError(f"{function.__name__} must return a Finding, got {type(finding).__name__}")
        exhibits = Exhibits(
            figures={title: figures.render_svg(figure) for title, figure in finding.figures.items()},
            traces={title: trace.to_dataframe() for title, trace in finding.traces.items()},
        )
        tables = {title: Table.from_frame(frame) for title, frame in finding.tables.items()}
        return _Run(function, finding, exhibits, tables)
    except (NotRun, MissingExtra) as error:
        return _Run(function, obstacle=str(error) or "a requirement is missing here")
    except Exception as error:
        return _Run(function, obstacle=f"error: {_describe(error, function.__module__)}", errored=True)


def _describe(error: Exception, module: str) -> str:
    """The exception's type and message, and the last line of the project's own code that it passed."""
    frames = [
        (frame.f_globals.get("__name__", ""), line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    own = [it for it in frames if it[0] == module or (it[0].startswith("tendsto.") and it[0] != __name__)]
    place = " at {}:{} in {}".format(*own[-1]) if own else ""
    return f"{' '.join(f'{type(error).__name__}: {error}'.split())}{place}"


def _control_result(run: _Run) -> ControlResult:
    function = run.function
    return ControlResult(function.__name__, getdoc(function) or "", run.checks, run.note, run.obstacle)


def _rule(run: _Run, controls: list[_Run], budget: Budget) -> tuple[Ruling, str]:
    if run.finding is None:
        return "not run", run.obstacle
    for control in controls:
        if control.errored:
            return "not run", f"{control.obstacle} (control {control.function.__name__})"
    for control in controls:
        if control.finding and control.finding.outcome != "fails":
            fault = "holds" if control.finding.outcome == "holds" else "does not clearly fail"
            name = control.function.__name__
            return "unsound", f"The control {name} {fault} where the theorem does not apply."
    for control in controls:
        if control.finding is None:
            return "not run", f"{control.obstacle} (control {control.function.__name__})"
    if not controls:
        return "unsound", "It has no control, so nothing shows that the measurement could have failed."
    return _rule_on_finding(run.finding, budget)


def _rule_on_finding(finding: Finding, budget: Budget) -> tuple[Ruling, str]:
    check = finding.deciding
    comparison = f"{check.quantity}: predicted {check.predicted}, measured {check.measured}"
    match finding.outcome:
        case "holds":
            return "holds", "Every check holds, and every control fails as it must."
        case "fails":
            return "fails", f"{comparison}."
        case "undecided":
            return "fails", f"{comparison}; at the {budget.name} budget the interval straddles the bound."
