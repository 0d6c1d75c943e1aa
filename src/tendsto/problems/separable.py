"""Two classes to separate by a hyperplane through the origin: the problem, its margin, and what the margin bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.special
from jaxtyping import Array, Float, Key
from numpy.typing import ArrayLike, NDArray

from tendsto import validation
from tendsto.problems.linear_models import LogisticRegression
from tendsto.problems.regularisers import Zero

BoundKind = Literal["paper", "sharp"]
_ROUNDING = float(np.finfo(np.float64).eps) / 2


class LinearSeparation(LogisticRegression):
    r"""Find $\theta$ with $b_i a_i^\top \theta > 0$ for all $i$; the objective is the logistic loss.

    $f(\theta) = \frac1n \sum_i \log(1 + e^{-m_i})$ with the margins $m_i = b_i a_i^\top \theta$. The problem is
    solved as soon as every margin is strictly positive, long before the loss is small. There is no intercept:
    append a constant feature for one.

    **Arguments**

    - `features`: one row $a_i$ a sample, shape `(n, d)`.
    - `targets`: any two classes; the larger one in sorted order counts as $b_i = +1$.

    **Raises** `ValueError` for bad data, and for an `l2` or a `regulariser`, which this problem does not have.
    """

    def __check_init__(self) -> None:
        validation.real("l2", self.l2, low=0.0, high=0.0)
        if not isinstance(self.regulariser, Zero):
            raise ValueError(f"regulariser: LinearSeparation has none, got {type(self.regulariser).__name__}")

    @property
    def signs(self) -> Float[Array, " n"]:
        """$b_i$ in the precision of the features."""
        return self.targets.astype(self.features.dtype)

    def margins(self, x: Float[Array, " d"]) -> Float[Array, " n"]:
        r"""$m_i = b_i a_i^\top \theta$."""
        return self.signs * (self.features @ x)

    def combination(self, weights: Float[Array, " n"]) -> Float[Array, " d"]:
        r"""$\sum_i w_i b_i a_i$."""
        return (weights * self.signs) @ self.features

    def mistakes(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """How many margins are not strictly positive; zero exactly when `x` separates the classes."""
        return count_mistakes(self.margins(x))


def _separation(features: Any, labels: Any) -> LinearSeparation:
    # Type checkers do not see the conversion that the fields of a module make.
    return LinearSeparation(features, labels)


def count_mistakes(margins: Float[Array, " n"]) -> Float[Array, ""]:
    """How many margins are not strictly positive, NaN among them."""
    return jnp.sum(~(margins > 0)).astype(margins.dtype)


def weighted_margin_bound(samples: int, bound: BoundKind = "sharp") -> float:
    r"""A constant $c$ with $\sum_i p_i m_i \le c \sum_i p_i$, $p_i = 1/(1 + e^{m_i})$, while some $m_j \le 0$.

    - `"paper"`: $c = \log(2n - 1)$, the constant of Theorem 6.1.
    - `"sharp"`: $c = \frac{2(n-1)}{2n-1} W\!\left(\frac{2n-1}{e}\right)$ with Lambert's $W$, the supremum itself.
      It is attained at $m_j = 0$ and all other margins equal to the maximiser of $(m - c)/(1 + e^m)$.

    **Arguments**: `samples`, $n \ge 1$; `bound`, which constant.

    **Raises** `ValueError` for fewer than one sample or an unknown constant.
    """
    validation.integer("samples", samples, low=1)
    if bound not in get_args(BoundKind):
        raise ValueError(f"bound: must be 'paper' or 'sharp', got {bound!r}")
    if bound == "paper":
        return math.log(2 * samples - 1)
    scale = 2 * samples - 1
    return 2 * (samples - 1) / scale * float(scipy.special.lambertw(scale / math.e).real)


@dataclass(frozen=True)
class MarginCertificate:
    r"""Bounds on the margin $\mu = \max_{\lVert\theta\rVert=1} \min_i b_i a_i^\top \theta$ and what follows from them.

    Both bounds hold whatever solver found `direction` and `weights`, rounding errors included: every unit
    vector bounds $\mu$ from below by its smallest margin, and every convex combination of the $b_i a_i$
    bounds it from above by its norm.

    **Arguments**

    - `lower`, `upper`: $\mu$ lies between them. Data that cannot be separated have `lower` $\le 0$, and `upper`
      then says that no unit vector has a margin above it: rounding level if the solver did its work.
    - `radius`: $R = \max_i \lVert a_i \rVert$, rounded up.
    - `direction`: the unit vector $\theta$ behind `lower`, shape `(d,)`.
    - `weights`: the convex weights behind `upper`, shape `(n,)`.

    The bounds below are on the number of updates from $\theta_0 = 0$ to the first $\theta_t$ that separates. They
    take `lower` for $\mu$, and are infinite for data that were not shown to be separable.
    """

    lower: float
    upper: float
    radius: float
    direction: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def samples(self) -> int:
        """$n$."""
        return self.weights.size

    @property
    def separable(self) -> bool:
        """Whether `direction` provably separates the classes."""
        return self.lower > 0

    def perceptron_bound(self) -> float:
        r"""$R^2/\mu^2$, for the Perceptron and the Normalised Batch Perceptron (Theorems 5.2 and 5.3)."""
        return (self.radius / self.lower) ** 2 if self.separable else math.inf

    def batch_perceptron_bound(self) -> float:
        r"""$n R^2/\mu^2$, for the Batch Perceptron (Theorem 3.3)."""
        return self.samples * self.perceptron_bound()

    def normalised_gradient_bound(self, step_size: float, bound: BoundKind = "sharp") -> float:
        r"""$R^2/\mu^2 + 2c/(\gamma\mu^2)$, for normalised gradient descent on the logistic loss (Theorem 6.1).

        **Arguments**: `step_size`, $\gamma > 0$; `bound`, which $c$ (see `weighted_margin_bound`).
        """
        validation.positive("step_size", step_size)
        c = weighted_margin_bound(self.samples, bound)
        return self.perceptron_bound() * (1 + 2 * c / (step_size * self.radius**2))

    def gradient_bound(self, step_size: float, bound: BoundKind = "sharp") -> float:
        r"""$2n\,(R^2/\mu^2 + 2c/(\gamma\mu^2))$, for gradient descent on the logistic loss at any step size.

        Not in the paper, which treats $\gamma \to \infty$; its proof of Theorem 6.1 gives it. With
        $s_t = \frac1n \sum_i p_i \le 1$ the step is $\gamma s_t$ times the normalised one, so the same potential
        argument bounds $\sum_t s_t$ by the bracket, and $s_t \ge 1/(2n)$ as long as some $m_j \le 0$.

        **Arguments**: `step_size`, $\gamma > 0$; `bound`, which $c$ (see `weighted_margin_bound`).
        """
        return 2 * self.samples * self.normalised_gradient_bound(step_size, bound)


def margin_certificate(features: ArrayLike, labels: ArrayLike) -> MarginCertificate:
    r"""The margin of labelled data through the origin, enclosed rigorously, or the proof that there is none.

    The hard-margin problem $\min \lVert\theta\rVert^2$ s.t. $b_i a_i^\top\theta \ge 1$ is solved as a
    non-negative least-squares problem (Lawson and Hanson's reduction), whose multipliers are the dual weights.

    **Arguments**

    - `features`: one row a sample, shape `(n, d)`; append a constant feature first if you fit an intercept.
    - `labels`: any two classes, shape `(n,)`.

    **Returns** a `MarginCertificate`.

    **Raises** `ValueError` for bad data.
    """
    problem = _separation(features, labels)
    signed = np.asarray(problem.features, dtype=np.float64) * np.asarray(problem.targets, dtype=np.float64)[:, None]
    certificate = _certify(signed, _dual_weights(signed, 1.0))
    if certificate.separable:
        # The reduction is best conditioned when the required margin is the attainable one.
        refined = _certify(signed, _dual_weights(signed, certificate.upper / certificate.radius))
        certificate = min(certificate, refined, key=lambda each: each.upper - each.lower)
    return certificate


def _dual_weights(signed: NDArray[np.float64], required: float) -> NDArray[np.float64]:
    scaled = signed / (np.linalg.norm(signed, axis=1).max() or 1.0)
    matrix = np.vstack([scaled.T, np.full(len(signed), required)])
    multipliers, _ = scipy.optimize.nnls(matrix, np.append(np.zeros(signed.shape[1]), 1.0), maxiter=30 * len(signed))
    return np.asarray(multipliers / multipliers.sum())


def _certify(signed: NDArray[np.float64], weights: NDArray[np.float64]) -> MarginCertificate:
    """The bounds that `weights` give, widened by the rounding error of a product of this size (Higham's gamma_k)."""
    operations = 2 * sum(signed.shape) + 10
    slack = operations * _ROUNDING / (1 - operations * _ROUNDING)
    radius = float(np.linalg.norm(signed, axis=1).max()) * (1 + slack)
    direction = weights @ signed
    norm = float(np.linalg.norm(direction))
    if norm > 0:
        direction = direction / norm
    lower = float((signed @ direction).min()) - slack * radius
    return MarginCertificate(lower, norm + slack * radius, radius, direction, weights)


def batch_perceptron_worst_case(samples: int) -> LinearSeparation:
    r"""The data on which the Batch Perceptron needs $\Omega(n)$ iterations (Theorem 5.1): $\mu = 1/2$, $R^2 = 5/4$.

    One sample $(0.5, -1)$ of class $+1$ and $n - 1$ samples $(-0.5, -1)$ of class $-1$. From zero the Batch
    Perceptron separates them after exactly $\lfloor (3n + 2)/10 \rfloor + 1$ updates.

    **Arguments**: `samples`, $n \ge 2$. **Raises** `ValueError` for fewer.
    """
    validation.integer("samples", samples, low=2)
    first = np.arange(samples) == 0
    return _separation(np.column_stack([np.where(first, 0.5, -0.5), -np.ones(samples)]), np.where(first, 1, -1))


def misleading_loss_pair() -> LinearSeparation:
    r"""Two samples on which gradient descent with a large step size passes through a huge loss (Theorem 4.1).

    $(1, -1)$ of class $+1$ and $(-1, -4)$ of class $-1$. From zero, $\theta_1 = \gamma(\frac12, \frac34)$ has loss
    $\frac12[\log(1 + e^{\gamma/4}) + \log(1 + e^{-7\gamma/2})]$, and $\theta_2 \approx \gamma(1, \frac14)$ separates.
    """
    return _separation([[1.0, -1.0], [-1.0, -4.0]], [1, -1])


def gaussian_separation(key: Key[Array, ""], samples: int, dimension: int, margin: float) -> LinearSeparation:
    r"""Gaussian data in two balanced classes whose margin is exactly `margin`, up to rounding.

    $b_i a_i = (\mu + |g_i^\top u|)\,u + (I - u u^\top) g_i$ for Gaussian $g_i$ and a random unit vector $u$, which
    has margin $\mu$. The first $k = \min(n, d)$ samples have height $\mu$ alone, and the last of them is turned so
    that zero is a convex combination of their components across $u$: no direction has a larger margin.

    **Arguments**

    - `key`: the random key.
    - `samples`, `dimension`: $n \ge 2$ and $d \ge 2$.
    - `margin`: $\mu > 0$.

    **Raises** `ValueError` or `TypeError` for a number out of range.
    """
    validation.integer("samples", samples, low=2)
    validation.integer("dimension", dimension, low=2)
    validation.positive("margin", margin)
    direction_key, sample_key = jax.random.split(key)
    direction = jax.random.normal(direction_key, (dimension,))
    direction = direction / jnp.linalg.norm(direction)
    gaussian = jax.random.normal(sample_key, (samples, dimension))
    along = gaussian @ direction
    across = gaussian - along[:, None] * direction
    support = min(samples, dimension)
    heights = (margin + jnp.abs(along)).at[:support].set(margin)
    across = across.at[support - 1].set(-across[: support - 1].sum(axis=0) / math.sqrt(support - 1))
    signed = heights[:, None] * direction + across
    signs = jnp.where(jnp.arange(samples) % 2 == 0, 1.0, -1.0)
    return _separation(signs[:, None] * signed, np.asarray(signs))
