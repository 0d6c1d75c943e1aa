"""Simple convex functions $h$ and their proximal maps; a set stands for its indicator."""

from __future__ import annotations

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import optax.projections
from jaxtyping import Array, Float, PyTree

from tendsto import validation
from tendsto.iteration import Scalar

_INSIDE = 1e-9


class Regulariser(eqx.Module):
    """A closed convex function with a cheap proximal map."""

    @abc.abstractmethod
    def __call__(self, x: PyTree[Array]) -> Float[Array, ""]:
        """$h(x)$; infinite outside the set, for the indicator of a set (up to rounding)."""

    @abc.abstractmethod
    def proximal(self, v: PyTree[Array], step_size: Scalar) -> PyTree[Array]:
        r"""$\arg\min_u h(u) + \lVert u - v \rVert^2 / (2\eta)$ with $\eta$ = `step_size`."""


class Zero(Regulariser):
    """$h = 0$: no regulariser."""

    def __call__(self, x: PyTree[Array]) -> Float[Array, ""]:
        """Zero."""
        return jnp.zeros(())

    def proximal(self, v: PyTree[Array], step_size: Scalar) -> PyTree[Array]:
        """$v$ itself."""
        return v


class L1(Regulariser):
    r"""$h(x) = \lambda \lVert x \rVert_1$; its proximal map is soft thresholding.

    **Arguments**: `strength`, the weight $\lambda > 0$.
    """

    strength: float

    def __check_init__(self) -> None:
        validation.positive("strength", self.strength)

    def __call__(self, x: PyTree[Array]) -> Float[Array, ""]:
        r"""$\lambda \lVert x \rVert_1$."""
        return jnp.asarray(self.strength * sum(jnp.abs(leaf).sum() for leaf in jax.tree.leaves(x)))

    def proximal(self, v: PyTree[Array], step_size: Scalar) -> PyTree[Array]:
        r"""$\operatorname{sign}(v) \max(|v| - \eta\lambda, 0)$."""
        threshold = step_size * self.strength
        return jax.tree.map(lambda leaf: jnp.sign(leaf) * jnp.maximum(jnp.abs(leaf) - threshold, 0.0), v)


class SquaredL2(Regulariser):
    r"""$h(x) = \frac{\mu}{2} \lVert x \rVert^2$, $\mu$-strongly convex.

    **Arguments**: `strength`, the weight $\mu > 0$.
    """

    strength: float

    def __check_init__(self) -> None:
        validation.positive("strength", self.strength)

    def __call__(self, x: PyTree[Array]) -> Float[Array, ""]:
        r"""$\frac{\mu}{2} \lVert x \rVert^2$."""
        return jnp.asarray(0.5 * self.strength * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(x)))

    def proximal(self, v: PyTree[Array], step_size: Scalar) -> PyTree[Array]:
        r"""$v / (1 + \eta\mu)$."""
        return jax.tree.map(lambda leaf: leaf / (1.0 + step_size * self.strength), v)


class Box(Regulariser):
    r"""The indicator of $\{x : a \le x_i \le b\}$.

    **Arguments**: `low` and `high`, the bounds $a < b$.
    """

    low: float
    high: float

    def __check_init__(self) -> None:
        validation.real("low", self.low, high=self.high)
        validation.real("high", self.high, low=self.low)

    def __call__(self, x: PyTree[Array]) -> Float[Array, ""]:
        """Zero inside, infinity outside."""
        inside = [((leaf >= self.low - _INSIDE) & (leaf <= self.high + _INSIDE)).all() for leaf in jax.tree.leaves(x)]
        return jnp.where(jnp.stack(inside).all(), 0.0, jnp.inf)

    def proximal(self, v: PyTree[Array], step_size: Scalar) -> PyTree[Array]:
        """The projection: entries are clipped."""
        return jax.tree.map(lambda leaf: jnp.clip(leaf, self.low, self.high), v)


class Ball(Regulariser):
    r"""The indicator of $\{x : \lVert x \rVert_2 \le r\}$.

    **Arguments**: `radius`, $r > 0$.
    """

    radius: float

    def __check_init__(self) -> None:
        validation.positive("radius", self.radius)

    def __call__(self, x: PyTree[Array]) -> Float[Array, ""]:
        """Zero inside, infinity outside."""
        norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(x)))
        return jnp.where(norm <= self.radius * (1.0 + _INSIDE), 0.0, jnp.inf)

    def proximal(self, v: PyTree[Array], step_size: Scalar) -> PyTree[Array]:
        """The projection: points outside move to the sphere along their ray."""
        return optax.projections.projection_l2_ball(v, self.radius)


class Simplex(Regulariser):
    r"""The indicator of $\{x \ge 0, \sum_i x_i = 1\}$."""

    def __call__(self, x: PyTree[Array]) -> Float[Array, ""]:
        """Zero on the simplex, infinity off it."""
        leaves = jax.tree.leaves(x)
        total = sum(jnp.sum(leaf) for leaf in leaves)
        smallest = jnp.stack([leaf.min() for leaf in leaves]).min()
        return jnp.where((smallest >= -_INSIDE) & (jnp.abs(total - 1.0) <= _INSIDE), 0.0, jnp.inf)

    def proximal(self, v: PyTree[Array], step_size: Scalar) -> PyTree[Array]:
        """The Euclidean projection onto the simplex."""
        # With 64-bit floats enabled, optax computes in them whatever it is given.
        return jax.tree.map(lambda leaf, old: leaf.astype(old.dtype), optax.projections.projection_simplex(v), v)
