r"""How a continued fraction converges, measured without knowing what to: the coordinates in which constants cluster.

The value of a formula says nothing of its kin, and a value nearby even less; how fast the convergents approach, against
how fast their reduced denominators grow, is the same for all formulas of a family (arXiv:2412.16818).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import flint
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tendsto import validation
from tendsto.constants.boxes import Box, representatives
from tendsto.constants.continued_fractions import PCF, Convergent
from tendsto.constants.parts import COEFFICIENTS, Parts, Unit
from tendsto.constants.polynomials import log
from tendsto.constants.screening import promising

Status = Literal["measured", "terminating", "no limit", "large", "rational", "unreduced"]

INFINITE_DEPTH = 10**9
"""$n_0$, the paper's stand-in for infinity in the predicted exponent."""

_LARGE = 1000


class Convergents(Protocol):
    """Whatever has convergents: a continued fraction, a series, a trajectory in a matrix field."""

    def convergents(self, depths: Iterable[int]) -> list[Convergent]:
        """The convergents at ascending `depths`."""


@dataclass(frozen=True)
class Metrics:
    r"""How a continued fraction converges; NaN wherever its status leaves nothing to measure.

    **Arguments**

    - `status`: `"measured"`; `"terminating"` ($b(k) = 0$ for a $k \ge 1$); `"no limit"` (complex eigenvalues, or terms
      that grow too fast); `"large"` ($|\hat L| \ge 1000$, or an infinite value); `"rational"` ($\hat L$ is
      within $2^{-120}$ of a fraction with a denominator below $2^{32}$, or two depths share a convergent; not proved);
      `"unreduced"` (left out by the screening, nothing was measured).
    - `limit`: $\hat L = p_N/q_N$.
    - `blind_delta`, `naive_delta`: see `blind_delta`; the second with $|q_m|$ in the place of $\tilde q_m$.
    - `growth`, `factorial_growth`: $\gamma'$ and $\eta'$ of the fit $\log\tilde q_n \approx \gamma' n + \eta' n\ln n$;
      with $|\eta'| < 0.05$ that fit is made again without the second column, and $\eta' = 0$.
    - `error_power`, `error_rate`, `error_factorial`: $\beta$, $\gamma$, $\eta$ of
      $\log|\hat L - p_n/q_n| \approx \beta\ln n + \gamma n + \eta n\ln n$.
    - `error_residual`: the norm of what that fit leaves. It has no intercept, so 0.5 to 1 is usual; much more tells
      of a transient.
    - `eigenvalue_ratio`: see `eigenvalue_ratio`.
    - `predicted_delta`: see `predicted_delta`.
    """

    status: Status
    limit: float = math.nan
    blind_delta: float = math.nan
    naive_delta: float = math.nan
    growth: float = math.nan
    factorial_growth: float = math.nan
    error_power: float = math.nan
    error_rate: float = math.nan
    error_factorial: float = math.nan
    error_residual: float = math.nan
    eigenvalue_ratio: float = math.nan
    predicted_delta: float = math.nan


_SCHEMA = pa.schema(
    {
        **COEFFICIENTS,
        "status": pa.string(),
        **{field.name: pa.float64() for field in dataclasses.fields(Metrics)[1:]},
    }
)
COLUMNS = tuple(_SCHEMA.names)
"""The columns of a table of metrics."""


def blind_delta(formula: Convergents, depth: int = 2000, ratio: int = 2, *, reduced: bool = True) -> float:
    r"""The irrationality exponent of a convergent, with a deeper one in the place of the unknown limit.

    $$\hat\delta = -1 - \frac{\log|p_N/q_N - p_m/q_m|}{\log\tilde q_m}, \qquad
    \Bigl|\frac{p_N}{q_N} - \frac{p_m}{q_m}\Bigr| = \frac{|p_N q_m - p_m q_N|}{|q_N q_m|}$$

    with $m = \lfloor N/P \rfloor$ and $\tilde q_m = |q_m|/\gcd(p_m, q_m)$, all in exact integers up to the logarithms.
    Where a denominator is zero, the convergent before it is taken, at its own depth.

    **Arguments**

    - `formula`: a continued fraction, or anything else with `convergents(depths)`.
    - `depth`: $N$.
    - `ratio`: $P \ge 2$: with a proxy that is not at least twice as deep as the sample, the error would be too small.
    - `reduced`: with false, $|q_m|$ is not reduced (the naive exponent, which misses the factorial reduction).

    **Returns** the exponent; infinite if both convergents are the same number, NaN if $\tilde q_m = 1$ or a convergent
    and the one before it both have a zero denominator.

    **Raises** `TypeError` or `ValueError` for a depth below `ratio` or a ratio below 2.

    **Source**: section 3 of arXiv:2412.16818 (there $N = 2000$, $P = 2$), where it is called Blind-δ.
    """
    validation.integer("ratio", ratio, low=2)
    validation.integer("depth", depth, low=ratio)
    found = _nonzero(formula, (depth // ratio, depth))
    if found is None:
        return math.nan
    sample, proxy = found
    return _exponent(_log_difference(proxy, sample), _log_denominator(sample, reduced))


def _exponent(log_error: float, log_denominator: float) -> float:
    if math.isinf(log_error):
        return math.inf
    return -1 - log_error / log_denominator if log_denominator > 0 else math.nan


def _log_denominator(convergent: Convergent, reduced: bool) -> float:
    return log(convergent.q) - (log(convergent.common_factor) if reduced else 0.0)


def _log_difference(proxy: Convergent, sample: Convergent) -> float:
    return log(proxy.p * sample.q - sample.p * proxy.q) - log(proxy.q) - log(sample.q)


def _nonzero(formula: Convergents, depths: Sequence[int]) -> list[Convergent] | None:
    """The convergents at `depths`, each with a zero denominator replaced by the one before it."""
    found = formula.convergents(depths)
    for place, convergent in enumerate(found):
        if convergent.q == 0:
            found[place] = formula.convergents([convergent.depth - 1])[0]
    return found if all(convergent.q != 0 for convergent in found) else None


def eigenvalue_ratio(formula: PCF) -> float:
    r"""$r = \lambda_1/\lambda_2$ with $|\lambda_1| \ge |\lambda_2|$, the eigenvalues of the recurrence at infinity.

    Its sign is that of $-B$: errors of one sign for $r > 0$, alternating for $r < 0$. Infinite where convergence is
    super-exponential, $\pm1$ where it is sub-exponential, NaN where there are two complex eigenvalues, or no limit.
    """
    match formula.convergence:
        case "exponential":
            return formula.eigenvalue_ratio
        case "super-exponential":
            return math.copysign(math.inf, -formula.b[0])
        case "sub-exponential":
            return -1.0 if len(formula.b) > 2 * len(formula.a) - 1 else 1.0
        case _:
            return math.nan


def predicted_delta(eigenvalue_ratio: float, growth: float, factorial_growth: float = 0.0) -> float:
    r"""The irrationality exponent that the eigenvalues and the growth of the denominators predict.

    $$\delta = \frac{\ln|r|}{\gamma' + \eta' \ln n_0} - 1, \qquad n_0 = 10^9$$

    Without factorial growth ($\eta' = 0$) it is the limit of the exponents; with it these tend to $-1$. It does not
    apply, and is NaN, where convergence is super-exponential or the denominators do not grow.

    **Source**: section 3.2 of arXiv:2412.16818; for $\eta' = 0$ proved in doi:10.1007/s40598-024-00250-z.
    """
    total = growth + factorial_growth * math.log(INFINITE_DEPTH)
    if not total > 0 or math.isinf(eigenvalue_ratio):
        return math.nan
    return math.log(abs(eigenvalue_ratio)) / total - 1


def metrics(formula: PCF, depth: int = 2000, ratio: int = 2, *, factorial_threshold: float = 0.05) -> Metrics:
    r"""Measure how a continued fraction converges, at the depths $6, m/8, m/4, m/2, m$ and $N$, $m = N/P$.

    **Arguments**

    - `formula`, `depth`, `ratio`: as for `blind_delta`; `depth` must be at least 56 `ratio`: these depths differ.
    - `factorial_threshold`: below which $|\eta'|$ counts as zero. The paper's 0.05 goes with its depth of 2000, and is
      strict even there: for formulas that reduce, transients leave an $\eta'$ of up to 0.1, and of up to 0.27 at depth
      400. For those that do not it is near 0.5 or more, so 0.25 is the safer choice.

    **Returns** the metrics; what cannot be measured is told by their `status`.

    **Raises** `TypeError` or `ValueError` naming the argument.
    """
    validation.integer("ratio", ratio, low=2)
    validation.integer("depth", depth, low=56 * ratio)
    validation.real("factorial_threshold", factorial_threshold, low=0.0)
    if formula.convergence == "terminating":
        return Metrics("terminating")
    if formula.convergence == "none":
        return Metrics("no limit")
    return _measure(formula, depth, depth // ratio, factorial_threshold)


def _measure(formula: PCF, depth: int, last: int, factorial_threshold: float) -> Metrics:
    found = _nonzero(formula, (6, last // 8, last // 4, last // 2, last, depth))
    if found is None:
        raise AssertionError(f"{formula}: two denominators in a row are zero, though no b(k) is")
    *samples, proxy = found
    signed_ratio = eigenvalue_ratio(formula)
    if abs(proxy.p) >= _LARGE * abs(proxy.q):
        return Metrics("large", eigenvalue_ratio=signed_ratio)
    limit = float(flint.arb(proxy.p) / proxy.q)
    reduced = [_log_denominator(sample, reduced=True) for sample in samples]
    errors = [_log_difference(proxy, sample) for sample in samples]
    if not all(map(math.isfinite, errors)):
        return Metrics("rational", limit, eigenvalue_ratio=signed_ratio)
    depths = tuple(sample.depth for sample in samples)
    growth, factorial_growth = fit(depths, reduced, ("n", "n ln n"))[0]
    if abs(factorial_growth) < factorial_threshold:
        (growth,), factorial_growth = fit(depths, reduced, ("n",))[0], 0.0
    (power, rate, factorial), residual = fit(depths, errors, ("ln n", "n", "n ln n"))
    return Metrics(
        "rational" if _nearly_rational(proxy) else "measured",
        limit,
        _exponent(errors[-1], reduced[-1]),
        _exponent(errors[-1], _log_denominator(samples[-1], reduced=False)),
        growth,
        factorial_growth,
        power,
        rate,
        factorial,
        residual,
        signed_ratio,
        predicted_delta(signed_ratio, growth, factorial_growth),
    )


def _nearly_rational(convergent: Convergent) -> bool:
    """Whether a simple fraction, a convergent of the regular continued fraction, lies far nearer than chance has it."""
    numerator, denominator = int((convergent.p << 160) // convergent.q), 1 << 160
    value = numerator
    before, now = (0, 1), (1, 0)
    while denominator:
        quotient, remainder = divmod(numerator, denominator)
        before, now = now, (quotient * now[0] + before[0], quotient * now[1] + before[1])
        if now[1] >= 1 << 32:
            return False
        if abs(value * now[1] - (now[0] << 160)) <= now[1] << 40:
            return True
        numerator, denominator = denominator, remainder
    return True


_Matrix = NDArray[np.float64]
_COLUMNS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "ln n": np.log,
    "n": lambda n: n,
    "n ln n": lambda n: n * np.log(n),
}


def fit(depths: tuple[int, ...], values: Sequence[float], columns: tuple[str, ...]) -> tuple[list[float], float]:
    r"""Unweighted least squares of `values` at `depths` in some of the columns `"ln n"`, `"n"`, `"n ln n"`.

    **Returns** the coefficients in the order of `columns`, and the norm of the residual.
    """
    design, inverse = _least_squares(depths, columns)
    target = np.asarray(values)
    coefficients = inverse @ target
    return coefficients.tolist(), float(np.linalg.norm(design @ coefficients - target))


@functools.lru_cache(maxsize=256)
def _least_squares(
    depths: tuple[int, ...], columns: tuple[str, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    n = np.asarray(depths, dtype=np.float64)
    design = np.column_stack([_COLUMNS[column](n) for column in columns])
    return design, np.asarray(np.linalg.pinv(design), dtype=np.float64)


# --- many fractions


def metrics_table(
    formulas: Iterable[PCF], depth: int = 2000, ratio: int = 2, *, factorial_threshold: float = 0.05
) -> pd.DataFrame:
    """The metrics of many fractions, one row each in their order; columns `COLUMNS`, `a` and `b` as lists.

    **Arguments** and **raises** as for `metrics`.
    """
    measure = functools.partial(metrics, depth=depth, ratio=ratio, factorial_threshold=factorial_threshold)
    return _table([(formula, measure(formula)) for formula in formulas])


def metrics_part(box: Box, depth: int, factorial_threshold: float, reduced_only: bool, unit: Unit) -> pd.DataFrame:
    """The metrics of the fractions of `box` numbered from `unit[0]` to `unit[1]` - 1: what one worker does.

    Fractions that stand for the same number as another of the box (`boxes.representatives`) have no row.

    **Arguments**: as for `metrics`, and `reduced_only`: whether fractions whose factorial growth cannot cancel, by a
    few primes (`screening.promising`), are told as `"unreduced"` without being measured. That is most of a box.
    """
    a, b = box.coefficients(*unit)
    kept = representatives(a, b)
    a, b = a[kept], b[kept]
    measured = promising(a, b) if reduced_only else np.ones(len(a), dtype=np.bool_)
    measure = functools.partial(metrics, depth=depth, factorial_threshold=factorial_threshold)
    rows = []
    for a_row, b_row, wanted in zip(a.tolist(), b.tolist(), measured.tolist(), strict=True):
        formula = PCF(a_row, b_row)
        rows.append((formula, measure(formula) if wanted else Metrics("unreduced")))
    return _table(rows)


def build_metrics(
    box: Box,
    *,
    out: str | os.PathLike[str],
    depth: int = 2000,
    factorial_threshold: float = 0.25,
    reduced_only: bool = False,
    unit: int = 5000,
    workers: int = 1,
    cluster: str | None = None,
    progress: bool | None = None,
) -> Path:
    """Write the metrics of a whole box to a Parquet file; keep every part as it lands.

    Parts are kept beside `out` in a folder until all are there. A build that was stopped or killed goes on from there,
    to the same bytes; a part that cannot be read any more is computed again; one that is complete returns at once.
    Neither the box nor the table is ever in memory as a whole.

    **Arguments**

    - `box`: what to measure; fractions that stand for the same number as another of the box have no row.
    - `out`: the Parquet file to write, columns `COLUMNS`, in the order of the box.
    - `depth`, `factorial_threshold`: as for `metrics`; the threshold by default the safer one.
    - `reduced_only`: as for `metrics_part`.
    - `unit`: fractions a part.
    - `workers`, `cluster`: processes here, or the address of a Dask scheduler.
    - `progress`: show a progress bar; by default on a terminal.

    **Returns** the path of the file, for `pandas.read_parquet`.

    **Raises** `TypeError` or `ValueError` naming the argument, or if the folder beside `out` holds parts of another
    build; `OSError` if there is no room by the end; `RuntimeError` if a part failed on every try. `KeyboardInterrupt`
    passes through, and leaves the parts.
    """
    validation.integer("depth", depth, low=112)
    validation.real("factorial_threshold", factorial_threshold, low=0.0)
    settings = {
        "table": "metrics",
        **vars(box),
        "depth": depth,
        "factorial_threshold": factorial_threshold,
        "reduced_only": reduced_only,
    }
    parts = Parts(out, settings, _SCHEMA, box.size, unit)
    if not parts.is_gathered():
        call = functools.partial(metrics_part, box, depth, factorial_threshold, reduced_only)
        with closing(parts.compute(call, lambda it: it, workers=workers, cluster=cluster, progress=progress)) as landed:
            for _ in landed:
                pass
        parts.gather()
    parts.remove()
    return Path(out)


def _table(rows: Sequence[tuple[PCF, Metrics]]) -> pd.DataFrame:
    values = [(list(it.a), list(it.b), *dataclasses.astuple(found)) for it, found in rows]
    return pd.DataFrame(values, columns=list(COLUMNS)).astype({"status": object})
