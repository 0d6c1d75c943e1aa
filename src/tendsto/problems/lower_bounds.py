"""Instances on which a method is provably slow."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from tendsto import validation
from tendsto.problems.base import Problem
from tendsto.problems.regularisers import Ball, Regulariser

_ACTIVE = 1e-12


class LastIterateLowerBound(Problem):
    r"""The piecewise linear function on which the last subgradient iterate with steps $1/\sqrt t$ lags by $\log T$.

    $f(x) = \max_{1\le i\le T+1} \langle h_i, x\rangle$ over the unit ball of $\mathbb R^T$, where $h_i$ has the entries
    $a_j = 1/(8(T-j+1))$ for $j < i$, then $-\sqrt i/(2\sqrt T)$ at $j = i$, then zeros. The oracle answers with the
    first maximal piece. From $x_1 = 0$, $T$ projected steps of size $1/\sqrt t$ end with
    $f(x_{T+1}) \ge \log T/(32\sqrt T)$.

    The minimum is 0, at the origin alone: $0$ is a convex combination of the $h_i$ with positive weights, and they
    span the space. Pieces within $10^{-12}$ of the maximum count as maximal, so use 64-bit floats.

    **Arguments**: `horizon`, $T \ge 1$, the number of steps and the dimension.

    **Source**: N. Harvey, C. Liaw, Y. Plan, S. Randhawa, "Tight analyses for non-smooth stochastic gradient descent"
    (2019), Theorem 3.1.
    """

    horizon: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        validation.integer("horizon", self.horizon, low=1)

    @property
    def regulariser(self) -> Regulariser:
        """The unit ball's indicator."""
        return Ball(1.0)

    @property
    def rising(self) -> Float[Array, " horizon"]:
        """The entries $a_j$ before the diagonal."""
        return 1.0 / (8.0 * jnp.arange(self.horizon, 0, -1))

    @property
    def falling(self) -> Float[Array, " horizon"]:
        r"""$\sqrt i/(2\sqrt T)$, the diagonal entries with their sign turned."""
        return 0.5 * jnp.sqrt(jnp.arange(1, self.horizon + 1) / self.horizon)

    def pieces(self, x: Float[Array, " horizon"]) -> Float[Array, " pieces"]:
        r"""All $\langle h_i, x\rangle$, $T + 1$ of them, in $O(T)$."""
        before = jnp.concatenate([jnp.zeros(1, x.dtype), jnp.cumsum(self.rising * x)])
        return before - jnp.concatenate([self.falling * x, jnp.zeros(1, x.dtype)])

    def smooth_part(self, x: Float[Array, " horizon"]) -> Float[Array, ""]:
        r"""$\max_i \langle h_i, x\rangle$."""
        return self.pieces(x).max()

    def gradient(self, x: Float[Array, " horizon"]) -> Float[Array, " horizon"]:
        """$h_i$ of the first maximal piece."""
        pieces = self.pieces(x)
        first = jnp.argmax(pieces >= pieces.max() - _ACTIVE)
        j = jnp.arange(self.horizon)
        return jnp.where(j < first, self.rising, jnp.where(j == first, -self.falling, 0.0)).astype(x.dtype)

    @property
    def lipschitz(self) -> Float[Array, ""]:
        r"""$G = \max_i \lVert h_i\rVert_2$, below 0.53."""
        before = jnp.concatenate([jnp.zeros(1), jnp.cumsum(self.rising**2)])
        return jnp.sqrt((before + jnp.concatenate([self.falling**2, jnp.zeros(1)])).max())

    @property
    def minimum(self) -> Float[Array, ""]:
        """0, the value of every piece at the origin."""
        return jnp.zeros(())

    @property
    def minimiser(self) -> Float[Array, " horizon"]:
        """The origin."""
        return jnp.zeros(self.horizon)
