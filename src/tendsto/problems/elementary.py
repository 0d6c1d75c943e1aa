"""Small problems of which everything is known in closed form."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from tendsto import validation
from tendsto.problems.base import Problem
from tendsto.problems.regularisers import Regulariser, Simplex, Zero


class EuclideanNorm(Problem):
    r"""$f(x) = \lVert x - c\rVert_2$: 1-Lipschitz, not smooth, with a sharp minimum of 0 at $c$.

    **Arguments**: `centre`, $c$, shape `(d,)`.
    """

    centre: Float[Array, " d"] = eqx.field(converter=lambda value: validation.finite_array("centre", value, ndim=1))

    def smooth_part(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        r"""$\lVert x - c\rVert_2$."""
        return jnp.asarray(jnp.linalg.norm(x - self.centre))

    def gradient(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The unit vector away from $c$; zero, which is a subgradient, at $c$ itself."""
        away = x - self.centre
        length = jnp.linalg.norm(away)
        return away / jnp.where(length > 0, length, 1.0)

    @property
    def lipschitz(self) -> float:
        """$G = 1$."""
        return 1.0

    @property
    def minimiser(self) -> Float[Array, " d"]:
        """$c$."""
        return self.centre


class LinearOnSimplex(Problem):
    r"""$f(x) = \langle c, x\rangle$ over the probability simplex: choose the cheapest of $d$ actions.

    **Arguments**: `costs`, $c$, shape `(d,)`.
    """

    costs: Float[Array, " d"] = eqx.field(converter=lambda value: validation.finite_array("costs", value, ndim=1))

    @property
    def regulariser(self) -> Regulariser:
        """The simplex's indicator."""
        return Simplex()

    def smooth_part(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        r"""$\langle c, x\rangle$."""
        return jnp.dot(self.costs, x)

    def gradient(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """$c$."""
        return self.costs.astype(x.dtype)

    def gap(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        r"""$\langle c - \min_i c_i, x\rangle$, a sum of terms that are not negative on the simplex."""
        return jnp.dot(self.costs - self.costs.min(), x)

    @property
    def smoothness(self) -> float:
        """$L = 0$ in any norm."""
        return 0.0

    @property
    def minimiser(self) -> Float[Array, " d"]:
        """The vertex of (the first of) the smallest costs."""
        return jnp.zeros_like(self.costs).at[jnp.argmin(self.costs)].set(1.0)


class DiagonalQuadratic(Problem):
    r"""$f(x) = \frac12\sum_i a_i x_i^2$, minimised at 0 (together with a regulariser that is, too).

    **Arguments**

    - `curvatures`: $a \ge 0$, shape `(d,)`.
    - `regulariser`: $h$, by default zero; its minimum must be 0, at the origin.
    """

    curvatures: Float[Array, " d"] = eqx.field(
        converter=lambda value: validation.finite_array("curvatures", value, ndim=1)
    )
    regulariser: Regulariser = Zero()

    def __check_init__(self) -> None:
        validation.real("curvatures", self.curvatures, low=0.0)

    def smooth_part(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        r"""$\frac12\sum_i a_i x_i^2$."""
        return 0.5 * jnp.dot(self.curvatures, x**2)

    def gradient(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """$a_i x_i$, entry by entry."""
        return self.curvatures * x

    @property
    def smoothness(self) -> Float[Array, ""]:
        r"""$L = \max_i a_i$."""
        return self.curvatures.max()

    @property
    def strong_convexity(self) -> Float[Array, ""]:
        r"""$\mu_f = \min_i a_i$, of the smooth part alone."""
        return self.curvatures.min()

    @property
    def minimiser(self) -> Float[Array, " d"]:
        """The origin."""
        return jnp.zeros_like(self.curvatures)
