r"""Bounds on the last iterate of composite stochastic mirror descent, for any step sizes, in $O(T)$.

All hold for $F = f + h$ where $f(x) - f(y) - \langle g, x-y\rangle \le \frac L2\lVert x-y\rVert^2 + M\lVert x-y\rVert$
for $g\in\partial f(y)$. A $G$-Lipschitz $f$ has $L = 0$ and $M = 2G$ (not $G$); an $L$-smooth one has $M = 0$. They
are evaluated in 64-bit NumPy, whatever JAX is set to.

**Source**: Z. Liu, Z. Zhou, "Revisiting the Last-Iterate Convergence of Stochastic Gradient Methods",
arXiv:2312.08531. The first and the third bound are derived anew below, with their constants.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tendsto import validation

_ROUNDING = 1e-6  # step sizes may have been computed in 32-bit floats


def last_iterate_bound(
    step_sizes: ArrayLike,
    *,
    divergence: float,
    nonsmoothness: float = 0.0,
    noise: float = 0.0,
    smoothness: float = 0.0,
    strong_convexity: float = 0.0,
    composite_strong_convexity: float = 0.0,
) -> float:
    r"""A bound on $\mathbb E\,F(x_{T+1}) - F(x)$ for these steps, with every constant.

    $$\frac{(1-\mu_f\eta_1) D(x, x_1)}{\sum_t \gamma_t}
      + 2(M^2+\sigma^2)\sum_{t=1}^T \frac{\gamma_t\eta_t}{\sum_{s\ge t}\gamma_s},
      \qquad \gamma_t = \eta_t\prod_{s=2}^t\frac{1+\mu_h\eta_{s-1}}{1-\mu_f\eta_s}.$$

    Proof in three lines. With $\eta_t \le 1/(2L)$, optimality of $x_{t+1}$ and Young's inequality give, for every $y$,
    $\eta_t(F(x_{t+1}) - F(y)) \le (1-\mu_f\eta_t)D(y,x_t) - (1+\mu_h\eta_t)D(y,x_{t+1}) + \eta_t\langle\xi_t,
    y-x_t\rangle + 2\eta_t^2(M^2+\lVert\xi_t\rVert_*^2)$. Take for $y$ the averages $z_t = (1 - v_{t-1}/v_t)x_t +
    (v_{t-1}/v_t)z_{t-1}$, $z_0 = x$, with $v_t = \gamma_T/\sum_{s\ge t}\gamma_s$, and sum with weights
    $v_t\gamma_t/\eta_t$: divergences telescope since $D(\cdot,x_t)$ is convex. The left-hand sides add up to at least
    $\gamma_T(F(x_{T+1}) - F(x))$, since $(v_s - v_{s-1})\sum_{u\ge s}\gamma_u = \gamma_{s-1}v_{s-1}$.

    **Arguments**

    - `step_sizes`: $\eta_1, \dots, \eta_T > 0$, shape `(T,)`; at most $1/(2L)$ and less than $1/\mu_f$.
    - `divergence`: $D(x, x_1)$ from the start to the point that is compared with, say a minimiser.
    - `nonsmoothness`: $M$; twice the Lipschitz constant of a Lipschitz $f$.
    - `noise`: $\sigma$ with $\mathbb E\lVert\xi_t\rVert_*^2 \le \sigma^2$ in the dual norm, of the whole vector.
    - `smoothness`: $L$; only the limit on the step sizes depends on it.
    - `strong_convexity`, `composite_strong_convexity`: $\mu_f$ of $f$ and $\mu_h$ of $h$, relative to the mirror map.

    **Returns** the bound.

    **Raises** `ValueError` naming the argument, among others if $\eta_t > 1/(2L)$ or $\eta_t \ge 1/\mu_f$ for some $t$.

    **Source**: Lemmas 4.1 and 4.2 in expectation, constants derived as above.
    """
    sums = _weighted_sums(step_sizes, divergence, smoothness, strong_convexity, composite_strong_convexity)
    _not_negative(nonsmoothness=nonsmoothness, noise=noise)
    return (1.0 - strong_convexity * sums.first) * sums.bias + 2.0 * (nonsmoothness**2 + noise**2) * sums.spread


def last_iterate_quantile_bound(
    step_sizes: ArrayLike,
    *,
    failure_probability: float,
    divergence: float,
    nonsmoothness: float = 0.0,
    noise: float = 0.0,
    smoothness: float = 0.0,
    strong_convexity: float = 0.0,
    composite_strong_convexity: float = 0.0,
) -> float:
    r"""A bound that $F(x_{T+1}) - F(x)$ exceeds with probability at most $\delta$, under sub-Gaussian noise.

    $$2\Big(1+\max_{t\ge2}\frac1{1-\mu_f\eta_t}\Big)\Big[\frac{D(x,x_1)}{\sum_t\gamma_t}
      + \big(M^2+\sigma^2(1+2\log\tfrac2\delta)\big)\sum_t\frac{\gamma_t\eta_t}{\sum_{s\ge t}\gamma_s}\Big]$$

    The constants are as attributed to the paper; unlike those of `last_iterate_bound` they are not derived here.

    **Arguments** as for `last_iterate_bound`, but for

    - `failure_probability`: $\delta$ in $(0, 1)$.
    - `noise`: $\sigma$ with $\mathbb E e^{\lambda\lVert\xi_t\rVert_*^2} \le e^{\lambda\sigma^2}$ for
      $0\le\lambda\le\sigma^{-2}$, which is larger than the standard deviation (see `problems.Gaussian.sub_gaussian`).

    **Returns** the bound. **Raises** as `last_iterate_bound` does.
    """
    sums = _weighted_sums(step_sizes, divergence, smoothness, strong_convexity, composite_strong_convexity)
    _not_negative(nonsmoothness=nonsmoothness, noise=noise)
    validation.real("failure_probability", failure_probability, low=0.0, high=1.0, open_low=True)
    if failure_probability == 1.0:
        raise ValueError("failure_probability: must lie in (0, 1), got 1.0")
    prefactor = 2.0 * (1.0 + 1.0 / (1.0 - strong_convexity * sums.largest_later))
    spread = nonsmoothness**2 + noise**2 * (1.0 + 2.0 * math.log(2.0 / failure_probability))
    return prefactor * (sums.bias + spread * sums.spread)


def heavy_tail_last_iterate_bound(
    step_sizes: ArrayLike, *, moment: float, divergence: float, nonsmoothness: float = 0.0, noise: float = 0.0
) -> float:
    r"""A bound on $\mathbb E\,F(x_{T+1}) - F(x)$ under noise that has only a moment of order $p$.

    $$\frac{D(x,x_1)}{\sum_t\eta_t} + \frac{2^{p-1}}p (M^p+\sigma^p)\sum_t\frac{\eta_t^p}{\sum_{s\ge t}\eta_s}$$

    for $L = 0$ and a mirror map with $D(x,y) \ge \lVert x-y\rVert^q/q$, $q = p/(p-1)$, such as `Power`. The proof is
    that of `last_iterate_bound`, with $\eta(M+\lVert\xi\rVert)r - r^q/q \le \eta^p(M+\lVert\xi\rVert)^p/p$ in its
    first line. At $p = 2$ it is therefore the smaller of the two by a factor 2 in the second term.

    **Arguments**

    - `step_sizes`, `divergence`, `nonsmoothness`: as in `last_iterate_bound`; `divergence` is that of the mirror map.
    - `moment`: $p$ in $(1, 2]$.
    - `noise`: $\sigma$ with $\mathbb E\lVert\xi_t\rVert_*^p \le \sigma^p$.

    **Returns** the bound. **Raises** `ValueError` naming the argument.
    """
    validation.real("moment", moment, low=1.0, high=2.0, open_low=True)
    _not_negative(divergence=divergence, nonsmoothness=nonsmoothness, noise=noise)
    eta = _step_sizes(step_sizes)
    spread = float(np.sum(eta**moment / _tails(eta)))
    return divergence / float(eta.sum()) + _heavy_constant(moment, nonsmoothness, noise) * spread


def optimal_base_step(
    shape: ArrayLike, *, divergence: float, nonsmoothness: float = 0.0, noise: float = 0.0, moment: float | None = None
) -> float:
    r"""The $\eta$ for which the steps $\eta s_1, \dots, \eta s_T$ have the least bound, for $\mu_f = \mu_h = 0$.

    $\eta = \sqrt{D_1/(2(M^2+\sigma^2)\sum_t s_t \sum_t s_t^2/\sum_{u\ge t}s_u)}$ for `last_iterate_bound`, and for
    `heavy_tail_last_iterate_bound`
    $\eta^p = D_1/((p-1)\frac{2^{p-1}}p(M^p+\sigma^p)\sum_t s_t\sum_t s_t^p/\sum_{u\ge t}s_u)$.

    **Arguments**

    - `shape`: $s_1, \dots, s_T > 0$, shape `(T,)`.
    - `divergence`, `nonsmoothness`, `noise`: as in the bound that is minimised; the first must be
      positive, and so must the sum of the other two.
    - `moment`: $p$, for the heavy-tail bound; by default the other one.

    **Returns** $\eta$; for a smooth $f$ it may exceed what $1/(2L)$ allows.

    **Raises** `ValueError` naming the argument.
    """
    validation.positive("divergence", divergence)
    _not_negative(nonsmoothness=nonsmoothness, noise=noise)
    validation.positive("nonsmoothness + noise", nonsmoothness + noise)
    s = _step_sizes(shape)
    if moment is None:
        power, constant = 2.0, 2.0 * (nonsmoothness**2 + noise**2)
    else:
        validation.real("moment", moment, low=1.0, high=2.0, open_low=True)
        power, constant = moment, (moment - 1.0) * _heavy_constant(moment, nonsmoothness, noise)
    spread = float(np.sum(s**power / _tails(s)))
    return float((divergence / (constant * float(s.sum()) * spread)) ** (1.0 / power))


class _Sums(NamedTuple):
    bias: float  # D(x, x_1) / Σ γ_t
    spread: float  # Σ γ_t η_t / Σ_{s≥t} γ_s
    first: float  # η_1
    largest_later: float  # max of η_t over t ≥ 2


def _weighted_sums(
    step_sizes: ArrayLike, divergence: float, smoothness: float, strong_convexity: float, composite: float
) -> _Sums:
    _not_negative(
        divergence=divergence,
        smoothness=smoothness,
        strong_convexity=strong_convexity,
        composite_strong_convexity=composite,
    )
    eta = _step_sizes(step_sizes)
    largest = float(eta.max())
    if 2.0 * smoothness * largest > 1.0 + _ROUNDING:
        raise ValueError(f"step_sizes: must not exceed 1/(2L) = {0.5 / smoothness:g}, got {largest:g}")
    if strong_convexity * largest >= 1.0:
        raise ValueError(f"step_sizes: must be less than 1/mu_f = {1.0 / strong_convexity:g}, got {largest:g}")
    # The products overflow on long horizons: they are kept as logarithms, and scaled to end at 1, which the second
    # term does not see. They never decrease, so the last one is the largest.
    logs = np.zeros(eta.size)
    logs[1:] = np.cumsum(np.log1p(composite * eta[:-1]) - np.log1p(-strong_convexity * eta[1:]))
    weights = eta * np.exp(logs - logs[-1])
    tails = _tails(weights)
    return _Sums(
        bias=divergence * math.exp(-logs[-1]) / float(tails[0]),
        spread=float(np.sum(weights * eta / tails)),
        first=float(eta[0]),
        largest_later=float(eta[1:].max(initial=0.0)),
    )


def _step_sizes(values: ArrayLike) -> NDArray[np.float64]:
    eta = np.asarray(values, dtype=np.float64)
    if eta.ndim != 1 or eta.size == 0:
        raise ValueError(f"step_sizes: expected one dimension and at least one entry, got shape {eta.shape}")
    if not (np.isfinite(eta) & (eta > 0)).all():
        raise ValueError("step_sizes: must all be positive and finite")
    return eta


def _tails(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cumsum(values[::-1])[::-1]


def _heavy_constant(moment: float, nonsmoothness: float, noise: float) -> float:
    powers = math.pow(nonsmoothness, moment) + math.pow(noise, moment)
    return math.pow(2.0, moment - 1.0) / moment * powers


def _not_negative(**values: float) -> None:
    for name, value in values.items():
        validation.real(name, value, low=0.0)
        if not math.isfinite(value):
            raise ValueError(f"{name}: must be finite, got {value}")
