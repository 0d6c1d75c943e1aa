"""SGD in epochs of halving steps and doubling lengths, each inside a shrinking ball."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, Key, PyTree

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter

Count = Int[Array, ""] | int
"""A whole number that may be an array, so that changing it never recompiles."""


def whole_number(**kwargs: Any) -> Any:
    """Declare a field that holds a `Count`; accepts the arguments of `equinox.field`. Check it with `whole`."""
    return eqx.field(converter=jnp.asarray, **kwargs)


Oracle = Callable[[PyTree[Array], Key[Array, ""]], PyTree[Array]]


class EpochSGD(eqx.Module):
    r"""Minimise a strongly convex function, with high probability, from its stochastic gradients.

    Epoch $s = 1, \dots, S$ takes $T_s$ projected steps $y \leftarrow \Pi_{B(\bar y_s, V_s)}(y - \alpha_s \hat g(y))$
    from its centre $\bar y_s$, whose iterates average to $\bar y_{s+1}$; then $\alpha_{s+1} = \alpha_s/2$,
    $T_{s+1} = 2T_s$ and $V_{s+1} = V_s/\sqrt2$. The average is over the $T_s$ points that the steps lead to.

    **Arguments**

    - `step_size`: $\alpha_1 > 0$.
    - `steps`: $T_1$, a positive integer.
    - `epochs`: $S$, a positive integer.
    - `radius`: $V_1 > 0$, no less than the distance from the start to the minimiser; by default infinite.

    **Raises** `ValueError` or `TypeError` naming the argument.

    **Source** J. Hao, X. Gong, M. Liu, "Bilevel Optimization under Unbounded Smoothness: A New Algorithm and
    Convergence Analysis", arXiv:2401.09587, initialisation refinement.
    """

    step_size: Scalar = hyperparameter()
    steps: Count = whole_number()
    epochs: Count = whole_number()
    radius: Scalar = hyperparameter(default=math.inf)

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)
        whole("steps", self.steps)
        whole("epochs", self.epochs)
        validation.real("radius", self.radius, low=0.0, open_low=True)

    @classmethod
    def theory(
        cls, *, strong_convexity: float, smoothness: float, deviation: float, distance: float, accuracy: float
    ) -> EpochSGD:
        r"""The parameters that halve the squared error in every epoch, down to an accuracy.

        While $\alpha \le 1/(2L)$ an epoch has $\mathbb E\lVert\bar y_{s+1} - y^\star\rVert^2 \le \frac2\mu\bigl(
        \frac{V_s^2}{2\alpha_s T_s} + \alpha_s\sigma^2\bigr)$, which is at most $V_s^2/2$ for $\alpha_1 = \min(1/(2L),
        \mu V_1^2/(8\sigma^2))$ and $T_1 = \lceil 4/(\mu\alpha_1)\rceil$. The paper adds logarithms for high
        probability.

        **Arguments**: `strong_convexity`, $\mu$; `smoothness`, $L$; `deviation`, $\sigma$; `distance`, $V_1$;
        `accuracy`, the distance to reach.
        """
        for name, value in (
            ("strong_convexity", strong_convexity),
            ("smoothness", smoothness),
            ("distance", distance),
            ("accuracy", accuracy),
        ):
            validation.positive(name, value)
        validation.real("deviation", deviation, low=0.0)
        step_size = 0.5 / smoothness
        if deviation > 0.0:
            step_size = min(step_size, strong_convexity * distance**2 / (8.0 * deviation**2))
        epochs = max(1, math.ceil(2.0 * math.log2(distance / accuracy)))
        return cls(step_size, math.ceil(4.0 / (strong_convexity * step_size)), epochs, distance)

    @property
    def calls(self) -> Count:
        """The number of stochastic gradients, $T_1 (2^S - 1)$."""
        return self.steps * (2**self.epochs - 1)

    def __call__(self, oracle: Oracle, start: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        """The last epoch's average.

        **Arguments**: `oracle`, from a point and a key to a stochastic gradient; `start`, a pytree of arrays; `key`.
        """

        def epoch(number: Any, centre: PyTree[Array]) -> PyTree[Array]:
            return projected_sgd(
                oracle,
                centre,
                jax.random.fold_in(key, number),
                self.steps * 2**number,
                self.step_size * 0.5**number,
                self.radius * 0.5 ** (0.5 * number),
            ).average

        last: PyTree[Array] = jax.lax.fori_loop(0, self.epochs, epoch, start)
        return last


class Walk(eqx.Module):
    """The last point of a projected SGD, and the average of the points its steps led to."""

    last: PyTree[Array]
    average: PyTree[Array]


def projected_sgd(
    oracle: Oracle,
    centre: PyTree[Array],
    key: Key[Array, ""],
    steps: Count,
    step_size: Scalar,
    radius: Scalar,
) -> Walk:
    r"""`steps` steps $y \leftarrow \Pi_{B(y^0, R)}(y - \alpha\hat g(y))$ from the centre $y^0$ of the ball.

    **Arguments**: `oracle`, `key` as in `EpochSGD`; `centre`, $y^0$; `steps`, which may be traced, and zero of them
    cost nothing; `step_size`, $\alpha$; `radius`, $R$.
    """

    def body(number: Any, walk: Walk) -> Walk:
        gradient = oracle(walk.last, jax.random.fold_in(key, number))
        last = jax.tree.map(lambda y, g: y - step_size * g, walk.last, gradient)
        last = project_on_ball(last, centre, radius)
        average = jax.tree.map(lambda mean, new: mean + (new - mean) / (number + 1), walk.average, last)
        return Walk(last, average)

    walk: Walk = jax.lax.fori_loop(0, steps, body, Walk(centre, centre))
    return walk


def whole(name: str, value: Any, low: int = 1) -> None:
    """Require an integer that is at least `low`, or an array of them; a traced value passes unseen.

    **Raises** `TypeError` or `ValueError` naming the argument.
    """
    if isinstance(value, jax.core.Tracer):
        return
    number = np.asarray(value)
    if not np.issubdtype(number.dtype, np.integer):
        raise TypeError(f"{name}: expected an integer, got {value}")
    if (number < low).any():
        raise ValueError(f"{name}: must be at least {low}, got {value}")


def project_on_ball(point: PyTree[Array], centre: PyTree[Array], radius: Scalar) -> PyTree[Array]:
    """The nearest point of the closed ball, in the norm of all leaves together; unchanged if it lies inside."""
    difference = jax.tree.map(jnp.subtract, point, centre)
    norm = optax.tree.norm(difference)
    outside = norm > radius
    # A safe denominator, so that derivatives through the branch not taken stay finite.
    scale = radius / jnp.where(outside, norm, 1.0)
    return jax.tree.map(lambda p, c, d: jnp.where(outside, c + scale * d, p), point, centre, difference)
