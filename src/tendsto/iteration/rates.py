"""Fit rates of convergence, with the interval that the data leave them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

_RESAMPLES = 2_000


@dataclass(frozen=True)
class Rate:
    r"""A fitted rate.

    **Arguments**

    - `kind`: `"power"` for $C\,t^{a}$, `"linear"` for $C\,q^{t}$.
    - `value`: the exponent $a$ or the factor $q$; `low` and `high` bound it at the stated confidence.
    - `constant`: $C$.
    - `window`: the first and last abscissa used.
    - `method`: in words, how the interval came about.
    """

    kind: Literal["power", "linear"]
    value: float
    low: float
    high: float
    constant: float
    window: tuple[float, float]
    method: str

    def __str__(self) -> str:
        shape = f"t^{self.value:.4g}" if self.kind == "power" else f"{self.value:.6g}^t"
        interval = f"[{self.low:.4g}, {self.high:.4g}]"
        return f"{self.constant:.3g} · {shape}  {interval} on [{self.window[0]:g}, {self.window[1]:g}]"


def fit_power_law(
    t: ArrayLike, values: ArrayLike, *, window: tuple[float, float] | None = None, confidence: float = 0.95
) -> Rate:
    r"""Fit $v(t) \approx C\,t^{a}$ by least squares on logarithms; the sublinear rate $O(t^{a})$.

    **Arguments**

    - `t`: abscissae, shape `(points,)`: steps, gradients, bits.
    - `values`: shape `(points,)`, or `(seeds, points)`, whose mean over seeds is fitted.
    - `window`: the range of `t` to use. By default the upper half of the recorded range on the
      logarithmic axis, $[\sqrt{t_{\min} t_{\max}}, t_{\max}]$, cut where the mean first falls to
      rounding level ($10^{-13}$ of its first value).
    - `confidence`: of the bootstrap interval: seeds are resampled if there are several, otherwise the
      residuals of the fit.

    **Returns** a `Rate` whose `value` is $a$.

    **Raises** `ValueError` if fewer than three usable points lie in the window.
    """
    return _fit("power", t, values, window, confidence)


def fit_linear_rate(
    t: ArrayLike, values: ArrayLike, *, window: tuple[float, float] | None = None, confidence: float = 0.95
) -> Rate:
    r"""Fit $v(t) \approx C\,q^{t}$ by least squares on logarithms; the linear rate with factor $q$ a step.

    **Arguments** as for `fit_power_law`, but for the default `window`: the second half of the range in
    which the mean is above rounding level ($10^{-13}$ of its first value).

    **Returns** a `Rate` whose `value` is $q$.

    **Raises** `ValueError` if fewer than three usable points lie in the window.
    """
    return _fit("linear", t, values, window, confidence)


def _fit(
    kind: Literal["power", "linear"],
    t: ArrayLike,
    values: ArrayLike,
    window: tuple[float, float] | None,
    confidence: float,
) -> Rate:
    abscissa = np.asarray(t, dtype=np.float64)
    samples = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if abscissa.ndim != 1 or samples.ndim != 2 or samples.shape[1] != abscissa.size:
        raise ValueError(
            f"values: expected shape (points,) or (seeds, points) with {abscissa.size} points, got {samples.shape}"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: must lie in (0, 1), got {confidence}")
    mean = samples.mean(axis=0)
    low, high = window or _default_window(kind, abscissa, mean)
    used = (abscissa >= low) & (abscissa <= high) & (mean > 0) & np.isfinite(mean)
    if kind == "power":
        used &= abscissa > 0
    if used.sum() < 3:
        raise ValueError(f"window: [{low:g}, {high:g}] holds {used.sum()} usable points, at least 3 are needed")
    u = np.log(abscissa[used]) if kind == "power" else abscissa[used]
    slope, intercept = np.polyfit(u, np.log(mean[used]), 1)
    slope_low, slope_high, method = _interval(u, samples[:, used], slope, intercept, confidence)
    ends = np.array([slope, slope_low, slope_high])
    value, value_low, value_high = (ends if kind == "power" else np.exp(ends)).tolist()
    return Rate(
        kind,
        value,
        value_low,
        value_high,
        float(np.exp(intercept)),
        (float(abscissa[used][0]), float(abscissa[used][-1])),
        method,
    )


def _default_window(
    kind: Literal["power", "linear"], t: NDArray[np.float64], mean: NDArray[np.float64]
) -> tuple[float, float]:
    at_rounding = ~(mean > 1e-13 * mean[0])
    stop = int(np.argmax(at_rounding)) if at_rounding.any() else t.size
    t = t[:stop]
    if kind == "power":
        t = t[t > 0]
    if t.size == 0:
        raise ValueError("values: no point is above rounding level")
    middle = np.sqrt(t[0] * t[-1]) if kind == "power" else (t[0] + t[-1]) / 2
    return float(middle), float(t[-1])


def _interval(
    u: NDArray[np.float64], samples: NDArray[np.float64], slope: float, intercept: float, confidence: float
) -> tuple[float, float, str]:
    """A percentile bootstrap interval for the slope of log(mean(samples)) against `u`."""
    centred = u - u.mean()

    def slope_of(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(logs @ centred / (centred @ centred))

    if len(samples) > 1:

        def statistic(rows: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
            del axis
            with np.errstate(divide="ignore", invalid="ignore"):
                return slope_of(np.log(samples[rows].mean(axis=-2)))

        resampled, what = np.arange(len(samples)), f"{len(samples)} seeds"
    else:
        fitted = intercept + slope * u
        residuals = np.log(samples[0]) - fitted

        def statistic(rows: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
            del axis
            return slope_of(fitted + residuals[rows])

        resampled, what = np.arange(u.size), "the residuals of one seed"
    if len(samples) > 1 and np.ptp(samples, axis=0).max() == 0.0:
        return slope, slope, f"{what}, identical"
    interval = stats.bootstrap(
        (resampled,),
        statistic,
        n_resamples=_RESAMPLES,
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high), f"{confidence:.0%} bootstrap over {what}"
