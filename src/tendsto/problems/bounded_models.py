"""Finite sums whose gradients are bounded by constants known before the data are: what private methods need."""

from __future__ import annotations

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter
from tendsto.problems.finite_sum import FiniteSum
from tendsto.problems.linear_models import GeneralisedLinearModel, signs


@jax.jit
def clip_rows(rows: Float[Array, "n d"], bound: Scalar) -> Float[Array, "n d"]:
    r"""Each row $v$ scaled to $v \min\{1, c/\lVert v\rVert\}$.

    **Arguments**: `rows`, the vectors; `bound`, $c \ge 0$.
    """
    squares = jnp.sum(rows**2, axis=1, keepdims=True)
    norms = jnp.sqrt(jnp.where(squares > 0.0, squares, 1.0))
    return rows * jnp.minimum(1.0, jnp.where(squares > 0.0, bound / norms, 1.0))


class BoundedModel(GeneralisedLinearModel):
    r"""$f_i(x) = \varphi(a_i^\top x, b_i) + \lambda \sum_j x_j^2/(1+x_j^2)$ with $\lVert a_i\rVert \le X$.

    The loss $\varphi$ has bounded first and second derivatives in its first argument, and the regulariser, which is
    not convex, has too. So the constants below hold for every record that there could be, and disclose nothing.

    **Arguments**

    - `features`: $A$, one row $a_i$ a record, shape `(n, d)`; `clip_rows` brings rows within a bound.
    - `targets`: $b$, one entry a record.
    - `feature_bound`: $X > 0$, fixed without looking at the data.
    - `penalty`: $\lambda \ge 0$.

    **Raises** `ValueError` for a row longer than `feature_bound`.
    """

    feature_bound: Scalar = hyperparameter(default=1.0)
    penalty: Scalar = hyperparameter(default=0.0)

    def __check_init__(self) -> None:
        validation.positive("feature_bound", self.feature_bound)
        validation.real("penalty", self.penalty, low=0.0, high=np.finfo(np.float64).max)
        if isinstance(self.features, jax.core.Tracer) or isinstance(self.feature_bound, jax.core.Tracer):
            return
        longest = np.linalg.norm(np.asarray(self.features), axis=1).max()
        rounding = 16 * np.finfo(self.features.dtype).eps
        if longest > self.feature_bound * (1.0 + rounding):
            raise ValueError(
                f"features: rows must have norm at most feature_bound={float(self.feature_bound):g}, the longest has "
                f"{float(longest):g}; problems.clip_rows(features, bound) shortens rows"
            )

    @property
    @abc.abstractmethod
    def slope(self) -> Scalar:
        r"""$\sup_z |\partial_z \varphi(z, b)|$."""

    @property
    @abc.abstractmethod
    def curvature(self) -> Scalar:
        r"""$\sup_z |\partial_z^2 \varphi(z, b)|$."""

    def smooth_penalty(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        squares = x**2
        return self.penalty * jnp.sum(squares / (1.0 + squares))

    def penalty_gradient(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.penalty * 2.0 * x / (1.0 + x**2) ** 2

    @property
    def lipschitz(self) -> Float[Array, ""]:
        r"""$L_0 = X \sup|\varphi'| + \lambda\sqrt d\, 3\sqrt3/8$, which bounds $\lVert\nabla f_i\rVert$."""
        steepest = math.sqrt(self.features.shape[1]) * 3.0 * math.sqrt(3.0) / 8.0
        return jnp.asarray(self.slope * self.feature_bound + self.penalty * steepest)

    @property
    def smoothness(self) -> Float[Array, ""]:
        r"""$L_1 = X^2 \sup|\varphi''| + 2\lambda$, a Lipschitz constant of every $\nabla f_i$."""
        return jnp.asarray(self.curvature * self.feature_bound**2 + 2.0 * self.penalty)

    @property
    def component_smoothness(self) -> Float[Array, " n"]:
        r"""$L_1$ for each component."""
        return jnp.full(self.components, self.smoothness)


class BoundedLogistic(BoundedModel):
    r"""$\varphi(z, b) = \log(1 + e^{-bz})$ with two classes $b = \pm1$: slope 1, curvature 1/4.

    The targets may be any two classes; the larger one in sorted order counts as $+1$.
    """

    targets: Float[Array, " n"] = eqx.field(converter=signs)

    def loss(self, margins: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, " n"]:
        return jax.nn.softplus(-targets * margins)

    def loss_derivative(self, margins: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, " n"]:
        return -targets * jax.nn.sigmoid(-targets * margins)

    @property
    def slope(self) -> float:
        return 1.0

    @property
    def curvature(self) -> float:
        return 0.25


class BoundedSigmoid(BoundedLogistic):
    r"""$\varphi(z, b) = 1/(1 + e^{bz})$, a smooth count of mistakes, not convex: slope 1/4, curvature $1/(6\sqrt3)$."""

    def loss(self, margins: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, " n"]:
        return jax.nn.sigmoid(-targets * margins)

    def loss_derivative(self, margins: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, " n"]:
        return -targets * jax.nn.sigmoid(targets * margins) * jax.nn.sigmoid(-targets * margins)

    @property
    def slope(self) -> float:
        return 0.25

    @property
    def curvature(self) -> float:
        return 1.0 / (6.0 * math.sqrt(3.0))


class BoundedHuber(BoundedModel):
    r"""$\varphi(z, b) = s^2(\sqrt{1 + ((z-b)/s)^2} - 1)$, the pseudo-Huber loss: slope $s$, curvature 1.

    **Arguments**: `scale`, $s > 0$, where the loss turns from quadratic to linear; the others are those of
    `BoundedModel`.
    """

    scale: Scalar = hyperparameter(default=1.0)

    def __check_init__(self) -> None:
        validation.positive("scale", self.scale)

    def loss(self, margins: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.scale**2 * (jnp.sqrt(1.0 + ((margins - targets) / self.scale) ** 2) - 1.0)

    def loss_derivative(self, margins: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, " n"]:
        residuals = margins - targets
        return residuals / jnp.sqrt(1.0 + (residuals / self.scale) ** 2)

    @property
    def slope(self) -> Scalar:
        return self.scale

    @property
    def curvature(self) -> float:
        return 1.0


class HuberLocation(FiniteSum):
    r"""$f_i(x) = \frac{L_0^2}{L_1}(\sqrt{1 + (L_1\lVert x - z_i\rVert/L_0)^2} - 1)$: the centre of points, robustly.

    Convex, $L_0$-Lipschitz and $L_1$-smooth whatever the points are; near its point each component is
    $\frac{L_1}{2}\lVert x - z_i\rVert^2$, so that for close points the minimiser is their mean.

    **Arguments**

    - `points`: $z$, shape `(n, d)`.
    - `lipschitz`: $L_0 > 0$.
    - `smoothness`: $L_1 > 0$.
    """

    points: Float[Array, "n d"] = eqx.field(converter=lambda value: validation.finite_array("points", value, ndim=2))
    lipschitz: Scalar = hyperparameter(default=1.0)
    smoothness: Scalar = hyperparameter(default=1.0)

    def __check_init__(self) -> None:
        validation.positive("lipschitz", self.lipschitz)
        validation.positive("smoothness", self.smoothness)

    @property
    def components(self) -> int:
        return self.points.shape[0]

    def smooth_part(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return self.lipschitz**2 / self.smoothness * jnp.mean(self._roots(x - self.points) - 1.0)

    def gradient(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.component_gradients(x, jnp.arange(self.components)).mean(axis=0)

    def component_gradients(self, x: Float[Array, " d"], indices: Int[Array, " batch"]) -> Float[Array, "batch d"]:
        away = x - self.points[indices]
        return self.smoothness * away / self._roots(away)[:, None]

    @property
    def component_smoothness(self) -> Float[Array, " n"]:
        r"""$L_1$ for each component."""
        return jnp.full(self.components, self.smoothness)

    def _roots(self, away: Float[Array, "batch d"]) -> Float[Array, " batch"]:
        ratio = self.smoothness / self.lipschitz
        return jnp.sqrt(1.0 + ratio**2 * jnp.sum(away**2, axis=1))
