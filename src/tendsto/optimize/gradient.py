"""Any optax transformation as a method, gradient descent and SGD among them."""

from __future__ import annotations

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Key, PyTree

from tendsto.iteration import Cost, Method, State
from tendsto.problems import Problem


class OptaxState(State):
    """The iterate and what the transformation remembers."""

    memory: PyTree[Array]


class Optax(Method[Problem, OptaxState]):
    r"""Proximal stochastic gradient steps whose update an `optax.GradientTransformation` shapes.

    $x_{t+1} = x_t + u_t$ with $u_t$ the transformation's update for a stochastic gradient at $x_t$.

    **Arguments**

    - `transformation`: any optax transformation, `optax.sgd(0.1)` or `optax.adam(1e-3)`.
    """

    transformation: optax.GradientTransformation = eqx.field(static=True)

    def init(self, problem: Problem, x0: PyTree[Array], key: Key[Array, ""]) -> OptaxState:
        """Start at `x0`."""
        del problem, key
        return OptaxState(x=x0, cost=Cost(), memory=self.transformation.init(x0))

    def step(self, problem: Problem, state: OptaxState, key: Key[Array, ""]) -> OptaxState:
        """One stochastic gradient, one update."""
        gradient = problem.stochastic_gradient(state.x, key)
        update, memory = self.transformation.update(gradient, state.memory, state.x)
        x = jax.tree.map(lambda a, b: a + b, state.x, update)
        return OptaxState(x, state.cost + Cost(gradients=problem.stochastic_gradient_cost), memory)
