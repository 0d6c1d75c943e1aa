"""Problems seen through a stochastic oracle: added noise, or a batch of a finite sum."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from tendsto import validation
from tendsto.iteration import Scalar
from tendsto.problems.base import Problem
from tendsto.problems.finite_sum import FiniteSum
from tendsto.problems.noise import Noise
from tendsto.problems.regularisers import Regulariser

W = TypeVar("W", bound="Wrapped")


class Wrapped(Problem):
    """A problem that answers everything as another one does; a subclass changes the answers it is about.

    **Arguments**: `problem`, the problem that answers.
    """

    problem: Problem

    def __check_init__(self) -> None:
        if not isinstance(self.problem, Problem):
            raise TypeError(f"problem: expected a Problem, got {type(self.problem).__name__}")

    @property
    def regulariser(self) -> Regulariser:
        """The wrapped problem's."""
        return self.problem.regulariser

    def smooth_part(self, x: PyTree[Array]) -> Float[Array, ""]:
        """The wrapped problem's."""
        return self.problem.smooth_part(x)

    def gradient(self, x: PyTree[Array]) -> PyTree[Array]:
        """The wrapped problem's."""
        return self.problem.gradient(x)

    def stochastic_gradient(self, x: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        """The wrapped problem's."""
        return self.problem.stochastic_gradient(x, key)

    @property
    def gradient_cost(self) -> int | Float[Array, ""]:
        """The wrapped problem's."""
        return self.problem.gradient_cost

    @property
    def stochastic_gradient_cost(self) -> int | Float[Array, ""]:
        """The wrapped problem's."""
        return self.problem.stochastic_gradient_cost

    def proximal(self, v: PyTree[Array], step_size: Scalar) -> PyTree[Array]:
        """The wrapped problem's."""
        return self.problem.proximal(v, step_size)

    def objective(self, x: PyTree[Array]) -> Float[Array, ""]:
        """The wrapped problem's."""
        return self.problem.objective(x)

    def gap(self, x: PyTree[Array]) -> Float[Array, ""]:
        """The wrapped problem's."""
        return self.problem.gap(x)

    def stationarity(self, x: PyTree[Array]) -> Float[Array, ""]:
        """The wrapped problem's."""
        return self.problem.stationarity(x)

    @property
    def minimum(self) -> Float[Array, ""]:
        """The wrapped problem's."""
        return self.problem.minimum

    @property
    def minimiser(self) -> PyTree[Array]:
        """The wrapped problem's."""
        return self.problem.minimiser

    def solved(self: W) -> W:
        """With the wrapped problem solved."""
        return dataclasses.replace(self, problem=self.problem.solved())

    def __getattr__(self, name: str) -> Any:
        # Reached for names that Problem does not define (constants, data), and for a constant that is not known, whose
        # AttributeError then comes from the wrapped problem. While this module is being built it has no fields yet.
        if name.startswith("__") or "problem" not in vars(self):
            raise AttributeError(name)
        return getattr(self.problem, name)


class Noisy(Wrapped):
    r"""A problem whose stochastic gradient is its gradient plus noise, $\hat g = g + \xi$.

    **Arguments**

    - `problem`: the problem; everything but `stochastic_gradient` is its own.
    - `noise`: the distribution of $\xi$, independent from call to call.

    **Raises** `TypeError` if an argument is of another kind.
    """

    noise: Noise

    def __check_init__(self) -> None:
        if not isinstance(self.noise, Noise):
            raise TypeError(f"noise: expected a Noise, got {type(self.noise).__name__}")

    def stochastic_gradient(self, x: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        r"""$g + \xi$ with $g$ the (sub)gradient at `x`."""
        return jax.tree.map(jnp.add, self.problem.gradient(x), self.noise(key, x))

    @property
    def stochastic_gradient_cost(self) -> int | Float[Array, ""]:
        """That of a gradient."""
        return self.problem.gradient_cost


class Minibatch(Wrapped):
    r"""A finite sum whose stochastic gradient is the average over a batch drawn uniformly with replacement.

    **Arguments**

    - `problem`: the finite sum; everything but `stochastic_gradient` is its own.
    - `size`: $b$, the number of components in a batch.

    **Raises** `TypeError` or `ValueError` naming the argument.
    """

    problem: FiniteSum
    size: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        if not isinstance(self.problem, FiniteSum):
            raise TypeError(f"problem: expected a FiniteSum, got {type(self.problem).__name__}")
        validation.integer("size", self.size, low=1)

    def stochastic_gradient(self, x: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        r"""$\frac{1}{b} \sum_{i \in S} \nabla f_i(x)$ with $|S| = b$."""
        indices = jax.random.randint(key, (self.size,), 0, self.problem.components)
        return self.problem.component_gradients(x, indices).mean(axis=0)

    @property
    def stochastic_gradient_cost(self) -> int:
        """One component gradient for each member of the batch."""
        return self.size
