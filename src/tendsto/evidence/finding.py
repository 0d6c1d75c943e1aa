"""What a claim's function returns: predictions beside measurements, and the exhibits that show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tendsto.iteration import Trace

Outcome = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True)
class Prediction:
    """The closed interval in which a theorem says a quantity lies; build one with `at_most` and its kin."""

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        for side in ("low", "high"):
            object.__setattr__(self, side, float(getattr(self, side)))
        if not self.low <= self.high:
            raise ValueError(f"Prediction: low={self.low} must not exceed high={self.high}, and no NaN")

    def __str__(self) -> str:
        if self.low == self.high:
            return f"= {self.low:.4g}"
        if self.low == -math.inf:
            return f"≤ {self.high:.4g}"
        if self.high == math.inf:
            return f"≥ {self.low:.4g}"
        if f"{self.low:.4g}" == f"{self.high:.4g}":
            return f"= {(self.low + self.high) / 2:.4g} ± {(self.high - self.low) / 2:.2g}"
        return f"in [{self.low:.4g}, {self.high:.4g}]"


def at_most(bound: float) -> Prediction:
    """Predict a quantity that does not exceed `bound`."""
    return Prediction(high=float(bound))


def at_least(bound: float) -> Prediction:
    """Predict a quantity that does not fall below `bound`."""
    return Prediction(low=float(bound))


def between(low: float, high: float) -> Prediction:
    """Predict a quantity in the closed interval from `low` to `high`."""
    return Prediction(float(low), float(high))


def equal_to(value: float, *, relative: float = 0.0, absolute: float = 0.0) -> Prediction:
    """Predict `value` within the larger of `relative * |value|` and `absolute`; both 0: to the last bit."""
    slack = max(relative * abs(value), absolute)
    return Prediction(float(value) - slack, float(value) + slack)


@dataclass(frozen=True)
class Estimate:
    """A measured number and the interval that holds it at the stated confidence.

    `method` says in words how the interval came about; an `exact` estimate (a deterministic run, a
    count) has an interval of width zero.
    """

    value: float
    low: float
    high: float
    method: str

    def __post_init__(self) -> None:
        for side in ("value", "low", "high"):
            object.__setattr__(self, side, float(getattr(self, side)))
        if self.low > self.high:
            raise ValueError(f"Estimate: low={self.low} must not exceed high={self.high}")

    @classmethod
    def exact(cls, value: ArrayLike) -> Estimate:
        """A number that carries no sampling error."""
        number = float(np.asarray(value))
        return cls(number, number, number, "deterministic")

    @classmethod
    def mean(cls, samples: ArrayLike, confidence: float = 0.95) -> Estimate:
        """The mean of independent `samples` (one a seed) with Student's t interval.

        **Raises** `ValueError` for fewer than two samples, or a confidence outside (0, 1). A sample that
        is not finite leaves no interval, so no prediction about the mean holds of it: a diverged seed
        can never pass for a measurement.
        """
        values = _samples(samples)
        _check_fraction("confidence", confidence)
        label = f"{100 * confidence:.4g}% t interval, {values.size} seeds"
        if not np.isfinite(values).all():
            label = f"none: not all of {values.size} seeds are finite"
            with np.errstate(invalid="ignore"):
                return cls(values.sum(), math.nan, math.nan, label)
        if np.ptp(values) == 0.0:
            return cls(values[0], values[0], values[0], label)
        # Squares of a run that nearly overflowed would overflow; a power of two changes no digit.
        exponent = int(np.frexp(np.abs(values).max())[1])
        scaled = np.ldexp(values, -exponent)
        interval = stats.ttest_1samp(scaled, 0.0).confidence_interval(confidence)
        with np.errstate(over="ignore"):
            value, low, high = np.ldexp([scaled.mean(), interval.low, interval.high], exponent)
        return cls(value, low, high, label)

    @classmethod
    def quantile(cls, samples: ArrayLike, level: float, confidence: float = 0.95) -> Estimate:
        """The `level`-quantile of independent `samples` with its distribution-free order-statistics interval.

        The interval covers the quantile with at least the stated confidence, whatever the
        distribution; a side for which there are too few samples is infinite.

        **Raises** `ValueError` for fewer than two samples, or a level or confidence outside (0, 1). A
        sample that is NaN has no place in the order, so it leaves no interval.
        """
        values = _samples(samples)
        _check_fraction("level", level)
        _check_fraction("confidence", confidence)
        label = f"{100 * confidence:.4g}% order-statistics interval, {values.size} seeds"
        if np.isnan(values).any():
            return cls(math.nan, math.nan, math.nan, f"none: not all of {values.size} seeds are numbers")
        low, high = stats.quantile_test(values, p=level).confidence_interval(confidence)
        low, high = -math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high
        return cls(np.quantile(values, level, method="inverted_cdf"), low, high, label)

    def __str__(self) -> str:
        if self.low == self.value == self.high or math.isnan(self.low) or math.isnan(self.high):
            return f"{self.value:.4g}"
        if f"{self.low:.4g}" == f"{self.high:.4g}":
            return f"{self.value:.4g} ± {max(self.high - self.value, self.value - self.low):.2g}"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class Check:
    """One comparison: `quantity` was `predicted` to lie somewhere and was `measured`."""

    quantity: str
    predicted: Prediction
    measured: Estimate

    @property
    def outcome(self) -> Outcome:
        """`holds` if the whole interval lies inside the prediction, `fails` if all of it lies outside.

        Otherwise it is `undecided`. A measurement that is NaN, or that has no interval, fails.
        """
        low, high = self.measured.low, self.measured.high
        if math.isnan(self.measured.value) or math.isnan(low) or math.isnan(high):
            return "fails"
        if self.predicted.low <= low and high <= self.predicted.high:
            return "holds"
        if high < self.predicted.low or low > self.predicted.high:
            return "fails"
        return "undecided"


@dataclass(frozen=True)
class Finding:
    """All that one run of a claim (or of its control) found.

    **Arguments**

    - `checks`: the comparisons; the claim holds when every one of them does. The first is the headline.
    - `tables`, `figures`, `traces`: the exhibits behind the checks, by title.
    - `note`: one or two sentences computed with the result, shown beside it.
    """

    checks: Sequence[Check]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    traces: Mapping[str, Trace] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        if not self.checks:
            raise ValueError("checks: must not be empty; a finding that compares nothing can never fail")

    @property
    def outcome(self) -> Outcome:
        """`holds` if every check holds, `fails` if any check fails, else `undecided`."""
        outcomes = {check.outcome for check in self.checks}
        if outcomes == {"holds"}:
            return "holds"
        return "fails" if "fails" in outcomes else "undecided"

    @property
    def deciding(self) -> Check:
        """The check that settles the outcome: the first that agrees with it."""
        return next(check for check in self.checks if check.outcome == self.outcome)


def _samples(samples: ArrayLike) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = np.asarray(samples, dtype=np.float64).ravel()
    if values.size < 2:
        raise ValueError(f"samples: at least two are needed for an interval, got {values.size}")
    return values


def _check_fraction(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name}: must lie strictly between 0 and 1, got {value}")
