"""What every minimisation problem answers: values, gradients, proximal steps and its constants."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from tendsto.iteration import Scalar
from tendsto.problems.regularisers import Regulariser, Zero

P = TypeVar("P", bound="Problem")


class Problem(eqx.Module):
    r"""Minimise $F(x) = f(x) + h(x)$, with $f$ accessible by (sub)gradients and $h$ by its proximal map.

    A subclass gives `smooth_part` ($f$) and, as a field `regulariser`, $h$; everything else follows, and may be
    overridden where a faster form is known. Constants that a subclass knows are properties:
    `smoothness` ($L$), `strong_convexity` ($\mu$), `lipschitz` ($G$), `minimiser`, `minimum`. Asking for one
    that is not known raises `AttributeError` with a sentence.
    """

    @property
    def regulariser(self) -> Regulariser:
        """$h$; zero, unless a subclass declares a field of this name (which must have a default)."""
        return Zero()

    @abc.abstractmethod
    def smooth_part(self, x: PyTree[Array]) -> Float[Array, ""]:
        """$f(x)$, the part that is accessible by gradients."""

    def gradient(self, x: PyTree[Array]) -> PyTree[Array]:
        r"""$\nabla f(x)$, or a subgradient."""
        return jax.grad(self.smooth_part)(x)

    def stochastic_gradient(self, x: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        r"""An unbiased estimate of $\nabla f(x)$; the exact gradient unless the problem is noisy."""
        del key
        return self.gradient(x)

    @property
    def gradient_cost(self) -> int | Float[Array, ""]:
        """How many component gradients one call of `gradient` costs."""
        return 1

    @property
    def stochastic_gradient_cost(self) -> int | Float[Array, ""]:
        """How many component gradients one call of `stochastic_gradient` costs."""
        return self.gradient_cost

    def proximal(self, v: PyTree[Array], step_size: Scalar) -> PyTree[Array]:
        r"""$\operatorname{prox}_{\eta h}(v) = \arg\min_u h(u) + \lVert u - v\rVert^2 / (2\eta)$."""
        return self.regulariser.proximal(v, step_size)

    def objective(self, x: PyTree[Array]) -> Float[Array, ""]:
        """$F(x) = f(x) + h(x)$."""
        return self.smooth_part(x) + self.regulariser(x)

    def gap(self, x: PyTree[Array]) -> Float[Array, ""]:
        r"""$F(x) - F^\star$, for problems that know their minimum."""
        return self.objective(x) - self.minimum

    def stationarity(self, x: PyTree[Array]) -> Float[Array, ""]:
        r"""$\lVert x - \operatorname{prox}_h(x - \nabla f(x))\rVert$, which is zero exactly at stationary points."""
        moved = self.proximal(jax.tree.map(jnp.subtract, x, self.gradient(x)), 1.0)
        difference = jax.tree.map(jnp.subtract, x, moved)
        return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(difference)))

    def solved(self: P) -> P:
        """This problem with its minimiser at hand, for those that must compute it; `run` calls it to record a gap."""
        return self

    @property
    def minimum(self) -> Float[Array, ""]:
        r"""$F^\star$, to rounding."""
        return self.objective(self.minimiser)

    @property
    def minimiser(self) -> PyTree[Array]:
        """A minimiser, to rounding."""
        raise AttributeError(f"{type(self).__name__} does not know its minimiser")


class Objective(Problem):
    r"""Minimise any JAX function, with an optional regulariser.

    **Arguments**

    - `function`: $f$, from a pytree of arrays to a scalar.
    - `regulariser`: $h$, by default zero.
    """

    function: Callable[[Any], Float[Array, ""]] = eqx.field(static=True)
    regulariser: Regulariser = Zero()

    def __check_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function: expected a function of x, got {type(self.function).__name__}")

    def smooth_part(self, x: PyTree[Array]) -> Float[Array, ""]:
        """$f(x)$."""
        return self.function(x)
