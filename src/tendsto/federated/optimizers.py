"""The optimiser that a client or the server steps with: a step size, or any optax transformation."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter

OptimizerLike = Any
"""What a field takes that becomes an `Optimizer`: a step size, an optax transformation, or an optimiser."""


class Optimizer(eqx.Module):
    """Turns a gradient into the next iterate."""

    @abc.abstractmethod
    def init(self, x: PyTree[Array]) -> PyTree[Array]:
        """What it remembers before its first step from `x`."""

    @abc.abstractmethod
    def step(self, gradient: PyTree[Array], memory: PyTree[Array], x: PyTree[Array]) -> tuple[Any, PyTree[Array]]:
        """The next iterate and memory."""


class GradientStep(Optimizer):
    r"""$x - \eta g$; the step size is a hyper-parameter that a grid may vary.

    **Arguments**: `step_size`, $\eta > 0$.
    """

    step_size: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)

    def init(self, x: PyTree[Array]) -> None:
        """Nothing."""

    def step(self, gradient: PyTree[Array], memory: PyTree[Array], x: PyTree[Array]) -> tuple[Any, PyTree[Array]]:
        """One step down."""
        return jax.tree.map(lambda value, slope: value - self.step_size * slope, x, gradient), memory


class OptaxStep(Optimizer):
    """The update of an optax transformation.

    **Arguments**: `transformation`, `optax.adam(1e-3)` or any other.
    """

    transformation: optax.GradientTransformation = eqx.field(static=True)

    def init(self, x: PyTree[Array]) -> PyTree[Array]:
        """The transformation's."""
        return self.transformation.init(x)

    def step(self, gradient: PyTree[Array], memory: PyTree[Array], x: PyTree[Array]) -> tuple[Any, PyTree[Array]]:
        """One update."""
        update, memory = self.transformation.update(gradient, memory, x)
        return jax.tree.map(jnp.add, x, update), memory


def as_optimizer(value: Any) -> Optimizer:
    """A number is the step size of gradient steps; an optax transformation is itself.

    **Raises** `TypeError` for anything else.
    """
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, optax.GradientTransformation):
        return OptaxStep(value)
    if isinstance(value, (int, float, jax.Array)):
        return GradientStep(value)
    raise TypeError(f"optimizer: expected a step size or an optax.GradientTransformation, got {type(value).__name__}")


def as_gradient_step(value: Any) -> GradientStep:
    """A number is the step size of gradient steps, for methods that divide by it.

    **Raises** `TypeError` for any other optimiser.
    """
    optimizer = as_optimizer(value)
    if not isinstance(optimizer, GradientStep):
        raise TypeError(f"optimizer: expected a step size, got {type(optimizer).__name__}")
    return optimizer
