r"""Step-size schedules under which the last iterate of a stochastic method converges.

Each is an `optax.Schedule`: a function of the count of steps already taken, which starts at 0, so that
`schedule(count)` is the paper's $\eta_{t}$ with $t$ = `count` + 1. Each is also an equinox module whose numbers are
hyper-parameters, so a grid may run over them (`grid={"schedule.base": [...]}`). For PyTorch, give the bound method
`at` to `torch.optim.lr_scheduler.LambdaLR` over an optimiser with `lr=1.0`.

**Source** of all: Z. Liu, Z. Zhou, "Revisiting the Last-Iterate Convergence of Stochastic Gradient Methods",
arXiv:2312.08531.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter

Count = Int[Array, ""] | int


class Schedule(eqx.Module):
    """A step size as a function of the number of steps taken."""

    @abc.abstractmethod
    def __call__(self, count: Count) -> Float[Array, ""]:
        """The step size of step number `count`, counted from 0."""

    def at(self, count: int) -> float:
        """The same as a Python number."""
        return float(self(count))

    def step_sizes(self, steps: int) -> Float[Array, " steps"]:
        r"""$\eta_1, \dots, \eta_T$ for $T$ = `steps`."""
        validation.integer("steps", steps, low=1)
        return jax.vmap(self.__call__)(jnp.arange(steps))


class InversePower(Schedule):
    r"""$\eta_t = \min(\eta_{\max}, \eta / t^{1/p})$: for convex functions, when the horizon is not known.

    The last iterate is within $O(\log T/\sqrt T)$ of the minimum for $p = 2$, and within $\tilde O(T^{1/p-1})$ under
    noise that has only a $p$-th moment.

    **Arguments**

    - `base`: $\eta > 0$.
    - `largest`: $\eta_{\max}$; $1/(2L)$ for $L$-smooth functions, infinite (the default) for Lipschitz ones.
    - `moment`: $p$ in $(1, 2]$, by default 2.
    """

    base: Scalar = hyperparameter()
    largest: Scalar = hyperparameter(default=float("inf"))
    moment: Scalar = hyperparameter(default=2.0)

    def __check_init__(self) -> None:
        _check_shape(self.base, self.largest, self.moment)

    def __call__(self, count: Count) -> Float[Array, ""]:
        return jnp.minimum(self.largest, self.base * (count + 1.0) ** (-1.0 / self.moment))


class ConstantOverHorizon(Schedule):
    r"""$\eta_t = \min(\eta_{\max}, \eta / T^{1/p})$: for smooth convex functions, when the horizon is known.

    The last iterate is within $O(\sqrt{\log T/T})$ of the minimum for $p = 2$ and the best $\eta$.

    **Arguments**

    - `base`: $\eta > 0$.
    - `horizon`: $T$, the number of steps that will be taken.
    - `largest`, `moment`: as in `InversePower`.
    """

    base: Scalar = hyperparameter()
    horizon: Scalar = hyperparameter()
    largest: Scalar = hyperparameter(default=float("inf"))
    moment: Scalar = hyperparameter(default=2.0)

    def __check_init__(self) -> None:
        _check_shape(self.base, self.largest, self.moment)
        validation.real("horizon", self.horizon, low=1.0)

    def __call__(self, count: Count) -> Float[Array, ""]:
        return jnp.minimum(self.largest, self.base * self.horizon ** (-1.0 / self.moment))


class LinearDecay(Schedule):
    r"""$\eta_t = \min(\eta_{\max}, \eta\,(T-t+1)/T^{1+1/p})$: for Lipschitz functions, when the horizon is known.

    The last iterate is within $O(1/\sqrt T)$ of the minimum for $p = 2$, with no logarithm, and within
    $O(T^{1/p-1})$ under noise that has only a $p$-th moment. The last step is still positive; steps beyond the
    horizon are zero. The theorem takes `largest` infinite; for what it gives otherwise see `last_iterate_bound`.

    **Arguments** as for `ConstantOverHorizon`.
    """

    base: Scalar = hyperparameter()
    horizon: Scalar = hyperparameter()
    largest: Scalar = hyperparameter(default=float("inf"))
    moment: Scalar = hyperparameter(default=2.0)

    def __check_init__(self) -> None:
        _check_shape(self.base, self.largest, self.moment)
        validation.real("horizon", self.horizon, low=1.0)

    def __call__(self, count: Count) -> Float[Array, ""]:
        left = jnp.maximum(self.horizon - count, 0.0) / self.horizon
        return jnp.minimum(self.largest, self.base * left * self.horizon ** (-1.0 / self.moment))


class InverseTime(Schedule):
    r"""$\eta_t = 1/(\mu_f (t + 2\kappa))$ with $\kappa = L/\mu_f$: for strongly convex functions, any horizon.

    The last iterate is within $\tilde O(1/T)$ of the minimum; what it remembers of the start fades only like $1/T$,
    which `WeightedInverseTime` improves to $1/T^2$. For $L = 0$ the first step is $1/\mu_f$, which no certificate
    covers. (The formula is as attributed to the paper; that it satisfies $\eta_t \le 1/(2L)$ is immediate.)

    **Arguments**

    - `strong_convexity`: $\mu_f > 0$.
    - `smoothness`: $L \ge 0$.
    """

    strong_convexity: Scalar = hyperparameter()
    smoothness: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        _check_curvature(self.strong_convexity, self.smoothness)

    def __call__(self, count: Count) -> Float[Array, ""]:
        return jnp.asarray(1.0 / (self.strong_convexity * (count + 1.0) + 2.0 * self.smoothness))


class WeightedInverseTime(Schedule):
    r"""$\eta_t = 2/(\mu_f(t + 1 + 4\kappa))$ with $\kappa = L/\mu_f$: for strongly convex functions, any horizon.

    The last iterate is within $O(L(1+\kappa)D_1/(T(T+\kappa)) + (M^2+\sigma^2)\log T/(\mu_f(T+\kappa)))$ of the
    minimum: the weights $\gamma_t$ of the certificate grow linearly. (The formula is as attributed to the paper.)

    **Arguments** as for `InverseTime`.
    """

    strong_convexity: Scalar = hyperparameter()
    smoothness: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        _check_curvature(self.strong_convexity, self.smoothness)

    def __call__(self, count: Count) -> Float[Array, ""]:
        return jnp.asarray(2.0 / (self.strong_convexity * (count + 2.0) + 4.0 * self.smoothness))


class CompositeInverseTime(Schedule):
    r"""$\eta_t = 2/(\mu_h(t + 4L/\mu_h))$: when the regulariser $h$ brings the strong convexity.

    With it the weights $\gamma_t$ of the certificate grow linearly in $t$, as those of `WeightedInverseTime` do. The
    shape is as attributed to the paper; the offset $4L/\mu_h$ is chosen here, so that $\eta_t < 1/(2L)$ always.

    **Arguments**

    - `strong_convexity`: $\mu_h > 0$.
    - `smoothness`: $L \ge 0$, of the smooth part.
    """

    strong_convexity: Scalar = hyperparameter()
    smoothness: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        _check_curvature(self.strong_convexity, self.smoothness)

    def __call__(self, count: Count) -> Float[Array, ""]:
        return jnp.asarray(2.0 / (self.strong_convexity * (count + 1.0) + 4.0 * self.smoothness))


class TwoPhaseInverseTime(Schedule):
    r"""Constant for half of a known horizon, then `WeightedInverseTime` afresh: for strongly convex functions.

    With $\tau = \lceil T/2\rceil$, $\eta_t = 1/(\mu_f(a + 2\kappa))$ for $t \le \tau$ and
    $\eta_t = 2/(\mu_f(t - \tau + 2 + 4\kappa))$ after it. The start is forgotten exponentially fast, the rest is
    $\tilde O((M^2+\sigma^2)/(\mu_f T))$. (The formula and $a = 3/2$, with which the two phases join
    without a jump, are as attributed to the paper.)

    **Arguments**

    - `strong_convexity`, `smoothness`: $\mu_f > 0$ and $L \ge 0$, as in `InverseTime`.
    - `horizon`: $T$, the number of steps that will be taken.
    - `offset`: $a > 0$ with $a + 2\kappa > 1$, so that $\eta_t < 1/\mu_f$; by default 3/2.
    """

    strong_convexity: Scalar = hyperparameter()
    smoothness: Scalar = hyperparameter()
    horizon: Scalar = hyperparameter()
    offset: Scalar = hyperparameter(default=1.5)

    def __check_init__(self) -> None:
        _check_curvature(self.strong_convexity, self.smoothness)
        validation.real("horizon", self.horizon, low=1.0)
        condition = self.smoothness / self.strong_convexity
        if not isinstance(condition, jax.core.Tracer):
            validation.positive("offset", self.offset)
            validation.real("offset", self.offset, low=1.0 - 2.0 * float(condition), open_low=True)

    def __call__(self, count: Count) -> Float[Array, ""]:
        late = count + 1.0 - jnp.ceil(self.horizon / 2.0)
        first = 1.0 / (self.strong_convexity * self.offset + 2.0 * self.smoothness)
        second = 2.0 / (self.strong_convexity * (jnp.maximum(late, 1.0) + 2.0) + 4.0 * self.smoothness)
        return jnp.where(late <= 0, first, second)


class Tabulated(Schedule):
    r"""Listed step sizes: one row of a table, so that one run can compare many schedules.

    `grid={"schedule.row": range(rows)}` runs them all. Beyond the end of the table steps are zero.

    **Arguments**

    - `table`: $\eta_1, \dots, \eta_T$ in each row, shape `(rows, steps)`, or `(steps,)` for one row; not negative.
    - `row`: which row, from 0.
    """

    table: Float[Array, "rows steps"] = eqx.field(
        converter=lambda value: jnp.atleast_2d(validation.finite_array("table", value))
    )
    row: Scalar = hyperparameter(default=0)

    def __check_init__(self) -> None:
        validation.real("table", self.table, low=0.0)
        validation.real("row", self.row, low=0.0, high=len(self.table) - 1.0)

    @classmethod
    def of(cls, schedules: Sequence[Callable[[Any], Any]], steps: Sequence[int]) -> Tabulated:
        """One row for each schedule, which takes as many steps as its entry of `steps` says and then rests."""
        if len(schedules) != len(steps) or not schedules:
            raise ValueError(f"steps: expected one number a schedule, got {len(steps)} for {len(schedules)}")
        longest = max(steps)
        rows = [
            jnp.pad(
                jax.vmap(lambda count, each=each: jnp.asarray(each(count), float))(jnp.arange(taken)),
                (0, longest - taken),
            )
            for each, taken in zip(schedules, steps, strict=True)
        ]
        return cls(jnp.stack(rows))

    def __call__(self, count: Count) -> Float[Array, ""]:
        return self.table.at[jnp.asarray(self.row, int), count].get(mode="fill", fill_value=0.0)


def _check_shape(base: Scalar, largest: Scalar, moment: Scalar) -> None:
    validation.positive("base", base)
    validation.real("largest", largest, low=0.0, open_low=True)
    validation.real("moment", moment, low=1.0, high=2.0, open_low=True)


def _check_curvature(strong_convexity: Scalar, smoothness: Scalar) -> None:
    validation.positive("strong_convexity", strong_convexity)
    validation.real("smoothness", smoothness, low=0.0)
