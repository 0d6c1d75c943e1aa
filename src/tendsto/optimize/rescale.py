"""The modified step: trade scale between two factors without changing their product, and when to do so."""

from __future__ import annotations

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter
from tendsto.problems import MatrixSensing


def rebalance(
    left: Float[Array, "rows rank"], right: Float[Array, "columns rank"], beta: Scalar
) -> tuple[Float[Array, "rows rank"], Float[Array, "columns rank"]]:
    r"""Make the left factor $\beta$ times orthonormal, and keep the product.

    With the thin decomposition $F = U S V^\top$: $F \leftarrow \beta U$, $G \leftarrow G V S / \beta$. Then
    $F^\top F = \beta^2 I$ and $F G^\top$ is what it was. Works on any pair of factors; for the two matrices $B A$ of a
    low-rank adapter, `left` is $B$ and `right` is $A^\top$.

    **Arguments**

    - `left`: $F$, shape `(rows, rank)` with `rank <= rows`.
    - `right`: $G$, shape `(columns, rank)`.
    - `beta`: $\beta > 0$. Gradient descent with full observation then has the rate
      $2\log(1 - \eta\min(\beta^2, \sigma_r(M^\star)^2/\beta^2))$, best at $\beta^2 = \sigma_r(M^\star)$.

    **Returns** the new pair.

    **Raises** `ValueError` if `rank` exceeds `rows` or `beta` is not positive.

    **Source** Xiong, Ding and Du (2023), Section 5.
    """
    validation.positive("beta", beta)
    if left.shape[0] < left.shape[1]:
        raise ValueError(f"left: needs at least as many rows as columns, got shape {left.shape}")
    basis, scales, rotation = jnp.linalg.svd(left, full_matrices=False)
    return beta * basis, (right @ rotation.T) * (scales / beta)


class Rescale(eqx.Module):
    r"""When to `rebalance`, and to which $\beta$; it is done once.

    The theorem wants it done once the iterate is close to the target, which cannot be seen without knowing the
    target. Subclasses are three stand-ins; all but `RescaleAtStep` are ours.
    """

    beta: eqx.AbstractVar[Scalar]

    def __check_init__(self) -> None:
        validation.positive("beta", self.beta)

    def init(self, problem: MatrixSensing) -> PyTree[Array]:
        """What the trigger remembers before the first step."""
        del problem
        return ()

    @abc.abstractmethod
    def fires(
        self, steps: Int[Array, ""], relative_residual: Float[Array, ""], memory: PyTree[Array]
    ) -> tuple[Bool[Array, ""], PyTree[Array]]:
        r"""Whether to rescale now, from the steps done and $\lVert\mathcal{A}(M) - y\rVert^2/\lVert y\rVert^2$."""


class RescaleAtStep(Rescale):
    r"""Rescale after a fixed number of steps.

    **Arguments**: `beta`, $\beta$; `after`, the number of steps to take first.
    """

    beta: Scalar = hyperparameter()
    after: Scalar = hyperparameter(kw_only=True)

    def __check_init__(self) -> None:
        validation.real("after", self.after, low=0.0)

    def fires(
        self, steps: Int[Array, ""], relative_residual: Float[Array, ""], memory: PyTree[Array]
    ) -> tuple[Bool[Array, ""], PyTree[Array]]:
        return steps >= self.after, memory


class RescaleBelowResidual(Rescale):
    r"""Rescale once the relative residual $\lVert\mathcal{A}(M) - y\rVert^2 / \lVert y\rVert^2$ is small.

    **Arguments**: `beta`, $\beta$; `tolerance`, the relative residual to wait for.
    """

    beta: Scalar = hyperparameter()
    tolerance: Scalar = hyperparameter(default=1e-4, kw_only=True)

    def __check_init__(self) -> None:
        validation.positive("tolerance", self.tolerance)

    def fires(
        self, steps: Int[Array, ""], relative_residual: Float[Array, ""], memory: PyTree[Array]
    ) -> tuple[Bool[Array, ""], PyTree[Array]]:
        return relative_residual <= self.tolerance, memory


class _Slope(eqx.Module):
    """The logarithm of the residual when it was last looked at, and its slope up to then."""

    level: Float[Array, ""]
    slope: Float[Array, ""]


class RescaleAtPlateau(Rescale):
    r"""Rescale once the logarithm of the residual falls at a steady slope: the slow linear phase has begun.

    Every `window` steps the slope over the last window is compared with that over the window before. Only residuals
    below a tenth of $\lVert y\rVert^2$ count, because the start of a run is flat as well. For a target of large
    condition number a steady slope may also be seen between two singular values that are being learnt.

    **Arguments**

    - `beta`: $\beta$.
    - `window`: how many steps a slope is taken over.
    - `tolerance`: the relative change of slope that counts as steady.
    """

    beta: Scalar = hyperparameter()
    window: int = eqx.field(default=50, kw_only=True, static=True)
    tolerance: Scalar = hyperparameter(default=0.05, kw_only=True)

    def __check_init__(self) -> None:
        validation.integer("window", self.window, low=1)
        validation.positive("tolerance", self.tolerance)

    def init(self, problem: MatrixSensing) -> PyTree[Array]:
        unknown = jnp.asarray(jnp.inf, problem.values.dtype)
        return _Slope(unknown, unknown)

    def fires(
        self, steps: Int[Array, ""], relative_residual: Float[Array, ""], memory: PyTree[Array]
    ) -> tuple[Bool[Array, ""], PyTree[Array]]:
        look = (steps > 0) & (steps % self.window == 0)
        level = jnp.log(relative_residual)
        slope = (level - memory.level) / self.window
        steady = jnp.abs(slope - memory.slope) <= self.tolerance * jnp.abs(slope)
        seen = _Slope(jnp.where(look, level, memory.level), jnp.where(look, slope, memory.slope))
        return look & steady & jnp.isfinite(slope) & (relative_residual < 0.1), seen
