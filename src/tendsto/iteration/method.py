"""What a method is: hyper-parameters, a first state, and a step."""

from __future__ import annotations

import abc
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

Scalar = Float[Array, ""] | float
"""A real number: a hyper-parameter or a step size."""


def _number(value: Any) -> Array:
    # A Python number stays weakly typed, so that it does not promote 32-bit iterates.
    return jnp.asarray(float(value) if isinstance(value, int) else value)


def _counter(value: Any) -> Array:
    return jnp.asarray(value, dtype=jnp.result_type(float))


class Cost(eqx.Module):
    """What an iteration has spent so far; costs add up with `+`.

    **Arguments** (all default to zero)

    - `gradients`: component gradients or operator components, so that a full pass over $n$ components costs $n$.
    - `evaluations`: function values.
    - `proximal_steps`: proximal steps, projections or resolvents.
    - `rounds`: communication rounds.
    - `bits_up`, `bits_down`: bits sent by the clients and to them.
    - `seconds`: simulated wall-clock time, by a model of the network.

    Counts are exact up to $2^{53}$ with 64-bit floats and up to $2^{24}$ with 32-bit ones.
    """

    gradients: Scalar = eqx.field(default=0.0, converter=_counter)
    evaluations: Scalar = eqx.field(default=0.0, converter=_counter)
    proximal_steps: Scalar = eqx.field(default=0.0, converter=_counter)
    rounds: Scalar = eqx.field(default=0.0, converter=_counter)
    bits_up: Scalar = eqx.field(default=0.0, converter=_counter)
    bits_down: Scalar = eqx.field(default=0.0, converter=_counter)
    seconds: Scalar = eqx.field(default=0.0, converter=_counter)

    def __add__(self, other: Cost) -> Cost:
        total: Cost = jax.tree.map(jnp.add, self, other)
        return total


class State(eqx.Module):
    """What a method carries from step to step; methods add their own fields.

    **Arguments**

    - `x`: the iterate that the method's theorem speaks of, any pytree of arrays.
    - `cost`: what has been spent to get here.
    """

    x: PyTree[Array]
    cost: Cost


ProblemT = TypeVar("ProblemT")
StateT = TypeVar("StateT", bound=State)


class Method(eqx.Module, Generic[ProblemT, StateT]):
    """An iterative method: its fields are its hyper-parameters, `init` and `step` are pure functions.

    A step touches the iterate by linear operations and oracle calls only, wherever the method allows
    it, so that the same code can be run on coordinates by a worst-case analysis.
    """

    @abc.abstractmethod
    def init(self, problem: ProblemT, x0: PyTree[Array], key: Key[Array, ""]) -> StateT:
        """The state before the first step, from the starting point `x0` and a random key."""

    @abc.abstractmethod
    def step(self, problem: ProblemT, state: StateT, key: Key[Array, ""]) -> StateT:
        """The state after one more step; `key` is fresh in every step."""


def hyperparameter(**kwargs: Any) -> Any:
    """Declare a numeric hyper-parameter: kept as an array, so that changing its value never recompiles.

    Annotate it as `Scalar` (or as an array type) and check its range in `__check_init__`. Accepts the arguments
    of `equinox.field`. A grid may run over fields declared this way.
    """
    return eqx.field(converter=_number, **kwargs)
