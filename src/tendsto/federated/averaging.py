"""Federated averaging: local steps at the clients, and a weighted mean of what they moved."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from tendsto import validation
from tendsto.federated.cohort import Cohort
from tendsto.federated.federation import Federation, begin
from tendsto.federated.optimizers import Optimizer, OptimizerLike, as_optimizer
from tendsto.federated.rounds import Call, RoundMethod
from tendsto.iteration import Cost, State

ClientGradient = Callable[[PyTree[Array], PyTree[Array], Key[Array, ""]], PyTree[Array]]
"""From a client's data, its local iterate and a key to the direction it steps against."""


def local_steps(
    optimizer: Optimizer,
    gradient: ClientGradient,
    data: PyTree[Array],
    x: PyTree[Array],
    key: Key[Array, ""],
    steps: int,
) -> PyTree[Array]:
    r"""The last of $K$ iterates $y_{k+1} = y_k - \eta\, g(y_k; \xi_k)$ from $y_0 = x$, or as the optimiser updates."""

    def step(carry: tuple[Any, Any], key: Key[Array, ""]) -> tuple[tuple[Any, Any], None]:
        y, memory = carry
        return optimizer.step(gradient(data, y, key), memory, y), None

    (last, _), _ = jax.lax.scan(step, (x, optimizer.init(x)), jax.random.split(key, steps))
    return last


def scalars(x: PyTree[Array]) -> int:
    """How many numbers a pytree of arrays holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(x))


def bits(x: PyTree[Array]) -> int:
    """How many bits it takes to send a pytree of arrays as it is."""
    return sum(8 * leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(x))


MemoryT = TypeVar("MemoryT")


class RoundState(State, Generic[MemoryT]):
    """The server's iterate; what its optimiser, the participation process and the method remember."""

    server: PyTree[Array]
    participation: PyTree[Array]
    memory: MemoryT


class FederatedAveraging(RoundMethod[RoundState[Any]]):
    r"""Rounds of local steps: the server adds a combination of the displacements that its cohort sends.

    In round $t$ each member $i$ of the cohort $S_t$ takes $K$ steps from $x_t$ on its own function and sends
    $\Delta_i = y_{i,K} - x_t$; the server takes $-\sum_{i \in S_t} w_i \Delta_i$ for a gradient and steps with it:
    $x_{t+1} = x_t + \eta \sum_{i \in S_t} w_i \Delta_i$ unless its optimiser does otherwise. A subclass chooses $w_i$
    and may choose what the local steps go against.

    **Arguments**

    - `local`: a client's optimiser, a step size or an optax transformation, fresh in every round.
    - `steps`: $K$, how many local steps.
    - `server`: the server's optimiser, a step size $\eta$ or an optax transformation.
    """

    local: OptimizerLike = eqx.field(converter=as_optimizer)
    steps: int = eqx.field(static=True, default=1)
    server: OptimizerLike = eqx.field(converter=as_optimizer, default=1.0)
    moves_alone: ClassVar[bool] = False
    """Whether the server steps in a round with nobody in it, by what it remembers."""

    def __check_init__(self) -> None:
        validation.integer("steps", self.steps, low=1)

    def remember(self, problem: Federation, x0: PyTree[Array]) -> Any:
        """What the method remembers before the first round."""
        del problem, x0

    def client_memory(self, memory: Any) -> PyTree[Array]:
        """What of the memory has a row for each client and is read in its local steps."""
        del memory

    def direction(self, problem: Federation, x: PyTree[Array], row: PyTree[Array]) -> ClientGradient:
        """What a client steps against, given the iterate and its row of `client_memory`; by default its gradient."""
        del x, row
        return problem.client_stochastic_gradient

    @abc.abstractmethod
    def combine(
        self, problem: Federation, memory: Any, cohort: Cohort, displacements: PyTree[Array]
    ) -> tuple[PyTree[Array], Any]:
        r"""$\sum_i w_i \Delta_i$ from the cohort's displacements, and what to remember."""

    def spent(self, problem: Federation, cohort: Cohort, x: PyTree[Array]) -> Cost:
        """What a round costs; by default a gradient in each local step, and the iterate sent both ways."""
        gradients = self.steps * cohort.take(problem.client_stochastic_gradient_cost)
        return problem.round_cost(cohort, gradients=gradients, bits_up=bits(x), bits_down=bits(x))

    def open(self, problem: Federation, x0: PyTree[Array], key: Key[Array, ""]) -> tuple[RoundState[Any], Call | None]:
        """Start at `x0`; nobody is asked anything."""
        state: RoundState[Any] = RoundState(
            x=x0,
            cost=Cost(),
            server=self.server.init(x0),
            participation=begin(problem, x0, key),
            memory=self.remember(problem, x0),
        )
        return state, None

    def call(self, problem: Federation, state: RoundState[Any], key: Key[Array, ""]) -> tuple[RoundState[Any], Call]:
        """The iterate to all members, and to each a key and its row of `client_memory`."""
        of_cohort, of_clients = jax.random.split(key)
        cohort, participation = problem.participation.sample(state.participation, problem.clients, of_cohort)
        keys = cohort.take(jax.random.split(of_clients, problem.clients))
        rows = cohort.take(self.client_memory(state.memory))
        return dataclasses.replace(state, participation=participation), Call(cohort, state.x, (keys, rows))

    def answer(
        self,
        problem: Federation,
        data: PyTree[Array],
        shared: PyTree[Array],
        row: PyTree[Array],
        kept: PyTree[Array],
        opening: bool,
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        r"""$\Delta_i$; nothing is kept."""
        key, memory = row
        last = local_steps(self.local, self.direction(problem, shared, memory), data, shared, key, self.steps)
        return jax.tree.map(jnp.subtract, last, shared), kept

    def receive(
        self, problem: Federation, state: RoundState[Any], call: Call, answers: PyTree[Array]
    ) -> RoundState[Any]:
        """The server's step along the combined displacements."""
        combined, memory = self.combine(problem, state.memory, call.cohort, answers)
        stepped = self.server.step(jax.tree.map(jnp.negative, combined), state.server, state.x)
        # An optimiser with momentum would move on the zero that an empty round leaves.
        moves = self.moves_alone | (call.cohort.size > 0)
        x, server = jax.tree.map(lambda new, old: jnp.where(moves, new, old), stepped, (state.x, state.server))
        cost = state.cost + self.spent(problem, call.cohort, x)
        return RoundState(x, cost, server, state.participation, memory)


class FedAvg(FederatedAveraging):
    r"""Federated averaging: $w_i = p_i / \sum_{j \in S_t} p_j$ over those who are there.

    A round with nobody in it changes nothing. With unequal chances of taking part it tends to a point that is
    stationary for the wrong objective; `FedAU` mends that.

    **Source**: H. B. McMahan et al., *Communication-Efficient Learning of Deep Networks from Decentralized Data*,
    1602.05629, Algorithm 1.
    """

    def combine(
        self, problem: Federation, memory: Any, cohort: Cohort, displacements: PyTree[Array]
    ) -> tuple[PyTree[Array], Any]:
        """The weighted mean over those who are there."""
        return problem.cohort_average(cohort, displacements), memory
