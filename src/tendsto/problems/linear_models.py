"""Linear models with a loss: least squares and logistic regression, with their constants and solutions."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float, Int

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter
from tendsto.problems.finite_sum import FiniteSum
from tendsto.problems.regularisers import Regulariser, Zero

M = TypeVar("M", bound="LinearModel")


def _features(value: Any) -> Float[Array, "n d"]:
    return validation.finite_array("features", value, ndim=2)


def _targets(value: Any) -> Float[Array, " n"]:
    return validation.finite_array("targets", value, ndim=1)


def signs(value: Any) -> Float[Array, " n"]:
    """Two classes of any kind as -1 and +1, in sorted order."""
    if isinstance(value, jax.core.Tracer):
        return value
    labels = np.asarray(value)
    if labels.ndim != 1:
        raise ValueError(f"targets: expected 1 dimension, got shape {labels.shape}")
    classes = np.unique(labels)
    if classes.size != 2:
        raise ValueError(f"targets: expected exactly two classes, got {classes.size}: {classes[:5]}")
    # Weakly typed, so that they do not promote 32-bit features.
    return jnp.where(jnp.asarray(labels == classes[1]), 1.0, -1.0)


class GeneralisedLinearModel(FiniteSum):
    r"""$f_i(x) = \varphi(a_i^\top x, b_i) + r(x)$ with a smooth loss $\varphi$ and a smooth penalty $r$.

    **Arguments**

    - `features`: $A$, one row $a_i$ a sample, shape `(n, d)`; an array, nested lists or a pandas frame.
    - `targets`: $b$, one entry a sample.
    """

    features: Float[Array, "n d"] = eqx.field(converter=_features)
    targets: Float[Array, " n"] = eqx.field(converter=_targets)

    def __check_init__(self) -> None:
        if self.features.shape[0] != self.targets.shape[0]:
            raise ValueError(
                f"targets: expected one for each of the {self.features.shape[0]} rows of features, "
                f"got shape {self.targets.shape}"
            )

    @abc.abstractmethod
    def loss(self, margins: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, " n"]:
        r"""$\varphi(z, b)$, elementwise."""

    @abc.abstractmethod
    def loss_derivative(self, margins: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, " n"]:
        r"""$\partial_z \varphi(z, b)$, elementwise."""

    @abc.abstractmethod
    def smooth_penalty(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """$r(x)$."""

    @abc.abstractmethod
    def penalty_gradient(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        r"""$\nabla r(x)$."""

    @property
    def components(self) -> int:
        return self.features.shape[0]

    def smooth_part(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return jnp.mean(self.loss(self.features @ x, self.targets)) + self.smooth_penalty(x)

    def gradient(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        slopes = self.loss_derivative(self.features @ x, self.targets)
        gradient: Float[Array, " d"] = slopes @ self.features / self.components + self.penalty_gradient(x)
        return gradient

    def component_gradients(self, x: Float[Array, " d"], indices: Int[Array, " batch"]) -> Float[Array, "batch d"]:
        rows = self.features[indices]
        return self.loss_derivative(rows @ x, self.targets[indices])[:, None] * rows + self.penalty_gradient(x)


class LinearModel(GeneralisedLinearModel):
    r"""$f_i(x) = \varphi(a_i^\top x, b_i) + \frac{\lambda}{2} \lVert x \rVert^2$.

    The loss $\varphi$ is convex and smooth in its first argument.

    **Arguments**

    - `features`, `targets`: $A$ and $b$.
    - `l2`: $\lambda \ge 0$.
    - `regulariser`: $h$, by default zero.
    - `solution`: a minimiser, where it is known already; `solved` fills it in.
    """

    l2: Scalar = hyperparameter(default=0.0)
    regulariser: Regulariser = Zero()
    solution: Float[Array, " d"] | None = None

    def __check_init__(self) -> None:
        validation.real("l2", self.l2, low=0.0)

    @property
    @abc.abstractmethod
    def curvature(self) -> float:
        r"""$\sup_z \partial_z^2 \varphi(z, b)$."""

    def smooth_penalty(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return 0.5 * self.l2 * jnp.vdot(x, x)

    def penalty_gradient(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.l2 * x

    @property
    def component_smoothness(self) -> Float[Array, " n"]:
        r"""$L_i = c \lVert a_i \rVert^2 + \lambda$ with $c$ the curvature of the loss."""
        return self.curvature * jnp.sum(self.features**2, axis=1) + self.l2

    @property
    def smoothness(self) -> Float[Array, ""]:
        r"""$L = c\,\lambda_{\max}(A^\top A)/n + \lambda$."""
        return jnp.asarray(self.curvature * jnp.linalg.norm(self.features, 2) ** 2 / self.components + self.l2)

    @property
    def strong_convexity(self) -> Float[Array, ""]:
        r"""$\mu = \lambda$: what holds whatever the data."""
        return jnp.asarray(self.l2)

    @property
    def minimiser(self) -> Float[Array, " d"]:
        if self.solution is None:
            raise AttributeError(f"{type(self).__name__}: the minimiser is not known yet; call solved() first")
        return self.solution

    def distance(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        r"""$\lVert x - x^\star \rVert$."""
        return jnp.sqrt(jnp.sum((x - self.minimiser) ** 2))

    def solved(self: M) -> M:
        """This problem with its minimiser found, to rounding.

        **Raises** `ValueError` if there is none (separable data without `l2`), or if there is a regulariser.
        """
        if self.solution is not None:
            return self
        if not isinstance(self.regulariser, Zero):
            raise ValueError(f"{type(self).__name__}: the minimiser is only known without a regulariser")
        return dataclasses.replace(self, solution=self._find_minimiser())

    def _find_minimiser(self) -> Float[Array, " d"]:
        """Trust-region Newton from zero, then Newton steps until rounding stops them."""
        value, gradient = jax.jit(lambda x: self.smooth_part(x)), jax.jit(lambda x: self.gradient(x))
        hessian = jax.jit(jax.jacfwd(lambda x: self.gradient(x)))
        rounding = np.finfo(self.features.dtype).eps
        start = np.zeros(self.features.shape[1])
        x = scipy.optimize.minimize(
            value, start, jac=gradient, hess=hessian, method="trust-exact", options={"gtol": 1e7 * rounding}
        ).x
        for _ in range(3):
            x = x - np.linalg.lstsq(np.asarray(hessian(x)), np.asarray(gradient(x)))[0]
        if not np.linalg.norm(gradient(x)) <= 1e4 * rounding * max(1.0, float(self.smoothness)):
            raise ValueError(f"{type(self).__name__}: found no minimiser; the data may be separable: set l2 > 0")
        return jnp.asarray(x)


class LeastSquares(LinearModel):
    r"""$f(x) = \frac{1}{2n} \lVert A x - b \rVert^2 + \frac{\lambda}{2} \lVert x \rVert^2$."""

    def loss(self, margins: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, " n"]:
        return 0.5 * (margins - targets) ** 2

    def loss_derivative(self, margins: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, " n"]:
        return margins - targets

    @property
    def curvature(self) -> float:
        return 1.0

    @property
    def strong_convexity(self) -> Float[Array, ""]:
        r"""$\mu = \lambda_{\min}(A^\top A)/n + \lambda$."""
        n, d = self.features.shape
        smallest = jnp.linalg.norm(self.features, -2) if n >= d else 0.0
        return jnp.asarray(smallest**2 / n + self.l2)

    def _find_minimiser(self) -> Float[Array, " d"]:
        """The least-squares solution of smallest norm, by SVD of the stacked system."""
        n, d = self.features.shape
        matrix = jnp.concatenate([self.features, jnp.sqrt(n * self.l2) * jnp.eye(d)])
        solution: Float[Array, " d"] = jnp.linalg.lstsq(matrix, jnp.concatenate([self.targets, jnp.zeros(d)]))[0]
        return solution


class LogisticRegression(LinearModel):
    r"""$f(x) = \frac{1}{n} \sum_i \log(1 + e^{-b_i a_i^\top x}) + \frac{\lambda}{2} \lVert x \rVert^2$.

    The targets may be any two classes; the larger one in sorted order counts as $+1$. There is no
    intercept: append a constant feature for one.
    """

    targets: Float[Array, " n"] = eqx.field(converter=signs)

    def loss(self, margins: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, " n"]:
        return jax.nn.softplus(-targets * margins)

    def loss_derivative(self, margins: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, " n"]:
        return -targets * jax.nn.sigmoid(-targets * margins)

    @property
    def curvature(self) -> float:
        return 0.25
