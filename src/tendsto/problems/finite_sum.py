"""Averages of many functions, and the stochastic gradients that sampling them gives."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int, Key

from tendsto import validation
from tendsto.problems.base import Problem
from tendsto.problems.regularisers import Regulariser


class FiniteSum(Problem):
    r"""Minimise $F(x) = \frac{1}{n} \sum_{i=1}^{n} f_i(x) + h(x)$ over vectors $x \in \mathbb{R}^d$.

    A subclass gives `components` ($n$), `smooth_part` and `component_gradients`, and the constants it knows:
    `component_smoothness` ($L_i$), `smoothness` ($L$), `strong_convexity` ($\mu$).
    """

    @property
    @abc.abstractmethod
    def components(self) -> int:
        """$n$, the number of functions."""

    @abc.abstractmethod
    def component_gradients(self, x: Float[Array, " d"], indices: Int[Array, " batch"]) -> Float[Array, "batch d"]:
        r"""$\nabla f_i(x)$ for each index $i$."""

    @property
    @abc.abstractmethod
    def component_smoothness(self) -> Float[Array, " n"]:
        r"""$L_i$, the Lipschitz constant of $\nabla f_i$, for each component."""

    @property
    def gradient_cost(self) -> int:
        """A full gradient costs $n$ component gradients."""
        return self.components


class Minibatch(Problem):
    r"""A finite sum whose stochastic gradient is the average over a batch drawn uniformly with replacement.

    Everything else is the finite sum's.

    **Arguments**

    - `problem`: the finite sum.
    - `size`: the number of components in a batch.
    """

    problem: FiniteSum
    size: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        validation.integer("size", self.size, low=1)

    @property
    def regulariser(self) -> Regulariser:
        return self.problem.regulariser

    def smooth_part(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return self.problem.smooth_part(x)

    def gradient(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        gradient: Float[Array, " d"] = self.problem.gradient(x)
        return gradient

    @property
    def gradient_cost(self) -> int:
        return self.problem.gradient_cost

    def stochastic_gradient(self, x: Float[Array, " d"], key: Key[Array, ""]) -> Float[Array, " d"]:
        r"""$\frac{1}{b} \sum_{i \in S} \nabla f_i(x)$ with $|S| = b$."""
        indices = jax.random.randint(key, (self.size,), 0, self.problem.components)
        return self.problem.component_gradients(x, indices).mean(axis=0)

    @property
    def stochastic_gradient_cost(self) -> int:
        """One component gradient for each member of the batch."""
        return self.size

    def solved(self) -> Minibatch:
        return Minibatch(self.problem.solved(), self.size)

    def __getattr__(self, name: str) -> Any:
        # Fields are missing only while the module is being built; looking them up here would not end.
        if name in ("problem", "size") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.problem, name)
