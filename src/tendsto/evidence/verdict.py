"""The verdict on a claim: what the measurement and its controls say together, and how it is kept as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pandas as pd

from tendsto.evidence.claim import BudgetName, Evidence
from tendsto.evidence.finding import Check, Estimate, Finding, Outcome, Prediction

Ruling = Literal["holds", "fails", "unsound", "not run"]

_DERIVED = ("predicted", "measured", "interval", "control")


@dataclass(frozen=True)
class Column:
    """One column of a table: its title, and cells that are all numbers or all text."""

    title: str
    cells: tuple[float, ...] | tuple[str, ...]

    @property
    def numeric(self) -> bool:
        """Whether the cells are numbers."""
        return all(isinstance(cell, int | float) for cell in self.cells)


@dataclass(frozen=True)
class Table:
    """A table behind a finding, by columns of one length."""

    columns: tuple[Column, ...]

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Table:
        """The table of a data frame; an index that is more than a count of rows becomes its first columns."""
        if not isinstance(frame.index, pd.RangeIndex):
            frame = frame.reset_index()
        return cls(tuple(_column(title, series) for title, series in frame.items()))

    @property
    def rows(self) -> Iterator[tuple[float | str, ...]]:
        """The rows, from the first."""
        return zip(*(column.cells for column in self.columns), strict=True)


@dataclass(frozen=True)
class ControlResult:
    """What one control showed; `obstacle` says why it could not run, and is empty when it did."""

    name: str
    description: str
    checks: tuple[Check, ...]
    note: str = ""
    obstacle: str = ""

    @property
    def outcome(self) -> Outcome | Literal["not run"]:
        """`fails` is what a control owes."""
        return Finding(self.checks).outcome if self.checks else "not run"


@dataclass(frozen=True)
class Verdict:
    """What came of checking one claim once, with all that is needed to judge it and to get it again.

    The headline (`predicted`, `measured`, `interval`) is the check that decided the claim's outcome.
    `errored` marks a claim that is not run because it is broken, not because something is missing.
    `seconds`, `hardware` and `finished` describe the occasion; nothing else here depends on it.
    """

    paper: str
    claim: str
    statement: str
    source: str
    evidence: Evidence
    verdict: Ruling
    reason: str
    budget: BudgetName
    seed: int
    checks: tuple[Check, ...] = ()
    controls: tuple[ControlResult, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    figures: tuple[str, ...] = ()
    note: str = ""
    errored: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    hardware: str = ""
    finished: str = ""

    @property
    def headline(self) -> Check | None:
        """The check that decides the claim's outcome; None when nothing was measured."""
        return Finding(self.checks).deciding if self.checks else None

    @property
    def predicted(self) -> Prediction | None:
        """The headline's prediction."""
        return self.headline.predicted if self.headline else None

    @property
    def measured(self) -> float | None:
        """The headline's measured value."""
        return self.headline.measured.value if self.headline else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The headline's confidence interval."""
        return (self.headline.measured.low, self.headline.measured.high) if self.headline else None

    @property
    def control(self) -> str:
        """`fails` when every control does, as it must; else the worst of them; `none` when there is none."""
        outcomes = {control.outcome for control in self.controls}
        return next((it for it in ("holds", "undecided", "not run", "fails") if it in outcomes), "none")

    def to_json(self) -> str:
        """One line of strict JSON; numbers that are not finite are the strings "inf", "-inf" and "nan"."""
        plain = asdict(self) | {
            "predicted": self.predicted and asdict(self.predicted),
            "measured": self.measured,
            "interval": self.interval,
            "control": self.control,
        }
        for title, table in self.tables.items():
            for column, written in zip(table.columns, plain["tables"][title]["columns"], strict=True):
                written["numeric"] = column.numeric
        return json.dumps(_without_infinities(plain), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Verdict:
        """The verdict that `to_json` wrote.

        **Raises** `ValueError` if `text` is anything else.
        """
        try:
            plain = json.loads(text)
            for derived in _DERIVED:
                plain.pop(derived)
            plain["checks"] = _read_checks(plain["checks"])
            plain["controls"] = tuple(
                ControlResult(**control | {"checks": _read_checks(control["checks"])}) for control in plain["controls"]
            )
            plain["tables"] = {title: _read_table(table) for title, table in plain["tables"].items()}
            plain["figures"] = tuple(plain["figures"])
            plain["seconds"] = float(plain["seconds"])
            return cls(**plain)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"text: not the JSON of a verdict ({type(error).__name__}: {error})") from error


def _column(title: object, series: pd.Series[Any]) -> Column:
    name = ", ".join(map(str, title)) if isinstance(title, tuple) else str(title)
    numeric = pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series)
    cells = zip(series.tolist(), series.isna(), strict=True)
    if numeric:
        return Column(name, tuple(math.nan if missing else cell for cell, missing in cells))
    return Column(name, tuple("" if missing else str(cell) for cell, missing in cells))


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinities(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _read_checks(plain: list[dict[str, Any]]) -> tuple[Check, ...]:
    return tuple(
        Check(check["quantity"], Prediction(**check["predicted"]), Estimate(**check["measured"])) for check in plain
    )


def _read_table(plain: dict[str, Any]) -> Table:
    return Table(tuple(_read_column(**column) for column in plain["columns"]))


def _read_column(title: str, cells: list[Any], numeric: bool) -> Column:
    # JSON tells whole numbers from others by itself; only those that are not finite were written as text.
    return Column(title, tuple(float(it) if numeric and isinstance(it, str) else it for it in cells))
