"""Hyper-parameters that may change from step to step: a number, or any function of the count of steps taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter
from tendsto.optimize.schedules import Count, Schedule

Annealed = Scalar | Callable[[Any], Any]
"""A number, or a function from the count of steps taken (0 in the first step) to one, such as an `optax.Schedule`."""


def _kept(value: Any) -> Any:
    if value is None or callable(value):
        return value
    # A Python number stays weakly typed, so that it does not promote 32-bit particles.
    return jnp.asarray(float(value) if isinstance(value, int) else value)


def annealed(**kwargs: Any) -> Any:
    """Declare a hyper-parameter of type `Annealed` or one that may be `None`; numbers are kept as arrays."""
    return eqx.field(converter=_kept, **kwargs)


def value_at(parameter: Annealed, count: Count) -> Any:
    """The value of `parameter` after `count` steps."""
    return parameter(count) if callable(parameter) else parameter


class InverseLogarithm(Schedule):
    r"""$\sigma_k = \sigma / \log(k + 1)$ with $k$ = `count` + 1, so that the first step has $\sigma/\log 2$.

    **Arguments**: `base`, $\sigma \ge 0$.
    """

    base: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.real("base", self.base, low=0.0)

    def __call__(self, count: Count) -> Float[Array, ""]:
        return jnp.asarray(self.base / jnp.log(count + 2.0))
