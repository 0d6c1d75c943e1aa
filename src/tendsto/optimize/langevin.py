"""Gradient descent with noise that is annealed away."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tendsto import validation
from tendsto.iteration import Cost, Method, Scalar, State, hyperparameter
from tendsto.optimize.annealing import Annealed, annealed, value_at
from tendsto.problems import Problem


class LangevinState(State):
    """The iterate and the number of steps taken."""

    count: Int[Array, ""]


class AnnealedLangevin(Method[Problem, LangevinState]):
    r"""Noisy gradient descent, $x_{k} = x_{k-1} - \eta \nabla f(x_{k-1}) + \sigma_k \sqrt{\eta}\, \xi_k$.

    $\xi_k$ is standard normal. Without noise it is gradient descent; with constant noise it samples from
    $e^{-2f/\sigma^2}$; with $\sigma_k = \sigma/\log(k+1)$ (`InverseLogarithm`) it is the annealed Langevin dynamics
    that the paper compares with. The gradient is the problem's own, where the paper's experiment takes central
    differences, and the paper's learning rate and time step, which only occur as a product, are one number here.

    **Arguments**

    - `step_size`: $\eta > 0$.
    - `noise_strength`: $\sigma_k \ge 0$, a number or a function of the count of steps taken.

    **Raises** `TypeError` or `ValueError` naming the argument.

    **Source**: K. Riedl, T. Klock, C. Geldhauser, M. Fornasier, "Gradient is All You Need?", arXiv:2306.09778,
    Figures 2b and 2c.
    """

    step_size: Scalar = hyperparameter()
    noise_strength: Annealed = annealed(default=0.0)

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)
        if not callable(self.noise_strength):
            validation.real("noise_strength", self.noise_strength, low=0.0)

    def init(self, problem: Problem, x0: Float[Array, " d"], key: Key[Array, ""]) -> LangevinState:
        """Start at `x0`."""
        del problem, key
        return LangevinState(x0, Cost(), jnp.asarray(0))

    def step(self, problem: Problem, state: LangevinState, key: Key[Array, ""]) -> LangevinState:
        """One (stochastic) gradient, one normal vector."""
        for_gradient, for_noise = jax.random.split(key)
        gradient = problem.stochastic_gradient(state.x, for_gradient)
        noise = jax.random.normal(for_noise, state.x.shape, state.x.dtype)
        strength = value_at(self.noise_strength, state.count)
        x = state.x - self.step_size * gradient + strength * self.step_size**0.5 * noise
        cost = state.cost + Cost(gradients=problem.stochastic_gradient_cost)
        return LangevinState(jnp.asarray(x, state.x.dtype), cost, state.count + 1)
