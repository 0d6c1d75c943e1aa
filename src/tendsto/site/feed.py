"""The feed by day, week, month and all time: what a period holds, and the periods before and after it."""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session, selectinload

from tendsto.site.database import Paper

PAGE = 50
_WEEK = re.compile(r"(\d{4})-W(\d{2})")
_MONTH = re.compile(r"(\d{4})-(\d{2})")


@dataclass(frozen=True)
class Period:
    """The days from `first` to `last`, both among them; `kind` is `date`, `week` or `month`."""

    kind: str
    first: date
    last: date

    @classmethod
    def parse(cls, kind: str, text: str) -> Period:
        """The period that an address names: `2024-05-23`, `2024-W21` or `2024-05`.

        **Raises** `ValueError` if it names none.
        """
        message = f"{kind}: {text!r} is not one"
        try:
            if kind == "date" and re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
                return cls.around(kind, date.fromisoformat(text))
            if kind == "week" and (week := _WEEK.fullmatch(text)):
                return cls.around(kind, date.fromisocalendar(int(week[1]), int(week[2]), 1))
            if kind == "month" and (month := _MONTH.fullmatch(text)):
                return cls.around(kind, date(int(month[1]), int(month[2]), 1))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{message}: {error}") from error
        raise ValueError(message)

    @classmethod
    def around(cls, kind: str, day: date) -> Period:
        """The period of that kind in which `day` lies."""
        if kind == "week":
            first = date.fromordinal(max(day.toordinal() - day.weekday(), 1))
            return cls(kind, first, date.fromordinal(min(first.toordinal() + 6, date.max.toordinal())))
        if kind == "month":
            return cls(kind, day.replace(day=1), day.replace(day=calendar.monthrange(day.year, day.month)[1]))
        return cls(kind, day, day)

    @property
    def name(self) -> str:
        """The period as its address names it."""
        if self.kind == "week":
            year, week, _ = self.first.isocalendar()
            return f"{year:04}-W{week:02}"
        return f"{self.first:%Y-%m}".rjust(7, "0") if self.kind == "month" else self.first.isoformat()

    @property
    def address(self) -> str:
        """Where the period's page is."""
        return f"/{self.kind}/{self.name}"

    def title(self, day: str) -> str:
        """The period in words; `day` is its first day as cards show it."""
        if self.kind == "week":
            year, week, _ = self.first.isocalendar()
            return f"Week {week}, {year}"
        return f"{self.first:%B %Y}" if self.kind == "month" else day


def papers(period: Period | None) -> Select[Paper]:
    """The papers of `period`, or of all time, from the newest; those without a date come last."""
    found = select(Paper).options(selectinload(Paper.tags), selectinload(Paper.claims))
    if period:
        found = found.where(Paper.listed.between(period.first, period.last))
    return found.order_by(Paper.listed.desc().nulls_last(), Paper.id.desc())


def page(session: Session, period: Period | None, number: int) -> tuple[Sequence[Paper], bool]:
    """The papers on page `number`, from 1, and whether there are more."""
    found = session.scalars(papers(period).limit(PAGE + 1).offset(PAGE * (number - 1))).all()
    return found[:PAGE], len(found) > PAGE


def neighbours(session: Session, period: Period) -> tuple[Period | None, Period | None]:
    """The nearest periods of the same kind, before and after, in which something was listed."""
    before = session.scalar(select(func.max(Paper.listed)).where(Paper.listed < period.first))
    after = session.scalar(select(func.min(Paper.listed)).where(Paper.listed > period.last))
    return (
        Period.around(period.kind, before) if before else None,
        Period.around(period.kind, after) if after else None,
    )


def newest_day(session: Session) -> date | None:
    """The last day on which something was listed."""
    return session.scalar(select(func.max(Paper.listed)))


def count(session: Session, column: InstrumentedAttribute[str]) -> list[tuple[str, int]]:
    """How often each value of `column` stands there, the most frequent first; empty values are left out."""
    number = func.count()
    rows = session.execute(select(column, number).where(column != "").group_by(column).order_by(number.desc(), column))
    return [(value, times) for value, times in rows]
