"""Averages of many functions, each with a gradient of its own."""

from __future__ import annotations

import abc

from jaxtyping import Array, Float, Int

from tendsto.problems.base import Problem


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
