"""Federated averaging with clients of unequal speed: the server adds work that began on older models."""

from __future__ import annotations

import dataclasses
from typing import get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.federated.averaging import bits, local_steps
from tendsto.federated.cohort import Cohort
from tendsto.federated.federation import Federation, begin
from tendsto.federated.optimizers import OptimizerLike, as_optimizer
from tendsto.federated.schedules import Schedule, Weighting
from tendsto.iteration import Cost, Method, State


class AsynchronousState(State):
    """The server's iterate, what its optimiser remembers, the model that each client last received, and the step."""

    server: PyTree[Array]
    received: PyTree[Array]
    number: Int[Array, ""]


class AsynchronousFedAvg(Method[Federation, AsynchronousState]):
    r"""Federated averaging along a schedule: a contribution is what a client moved from the model that it received.

    $$x_{n+1} = x_n + \eta \sum_{i \in S_n} d_i \Delta_i, \qquad \Delta_i = y_{i,K} - y_{i,0}, \quad
      y_{i,0} = x_{\rho_i(n)},$$

    where $S_n$ contributes to step $n$ and $\rho_i(n)$ is the step that client $i$ last received a model from. The
    schedule makes it FedAvg (`Schedule.synchronous`), asynchronous FedAvg, FedBuff (`buffered`) or FedFix
    (`fixed_interval`). With $d_i = p_i/f_i$, $f_i$ the share of steps that client $i$ contributes to, it minimises
    $\sum_i p_i f_i(x)$; with equal weights it minimises a function in which fast clients count more. One answer then
    stands for the whole federation, so that asynchronous steps must be small. The problem's `participation` and
    `network` play no part: the schedule says who is there and how long it takes. Run at most `len(schedule)` steps;
    nobody contributes to later ones.

    **Arguments**

    - `schedule`: when the server steps and with whose work.
    - `local`: a client's optimiser, a step size or an optax transformation, fresh for every contribution.
    - `steps`: $K$, how many local steps.
    - `server`: the server's optimiser, a step size $\eta$ or an optax transformation.
    - `weighting`: $d_i$ by `"importance"`; `"identical"`; or `"step_size"`, identical while the gradients of client $i$
      are multiplied by what $d_i$ by importance would be in these units, which for `local` a step size scales it.

    **Source**: Y. Fraboni, R. Vidal, L. Kameni, M. Lorenzi, *A General Theory for Federated Optimization with
    Asynchronous and Heterogeneous Clients Updates*, 2206.10189.
    """

    schedule: Schedule
    local: OptimizerLike = eqx.field(converter=as_optimizer)
    steps: int = eqx.field(static=True, default=1)
    server: OptimizerLike = eqx.field(converter=as_optimizer, default=1.0)
    weighting: Weighting = eqx.field(static=True, default="importance")

    def __check_init__(self) -> None:
        validation.integer("steps", self.steps, low=1)
        if self.weighting not in get_args(Weighting):
            raise ValueError(f"weighting: must be one of {', '.join(get_args(Weighting))}, got {self.weighting!r}")

    def init(self, problem: Federation, x0: PyTree[Array], key: Key[Array, ""]) -> AsynchronousState:
        """Every client has received `x0`."""
        begin(problem, x0, key)
        if len(self.schedule.frequencies) != problem.clients:
            raise ValueError(
                f"schedule: of {len(self.schedule.frequencies)} clients, the problem has {problem.clients}"
            )
        received = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (problem.clients, *leaf.shape)), x0)
        return AsynchronousState(x0, Cost(), self.server.init(x0), received, jnp.zeros((), int))

    def step(self, problem: Federation, state: AsynchronousState, key: Key[Array, ""]) -> AsynchronousState:
        """One step of the server."""
        _, of_clients = jax.random.split(key)
        schedule, last = self.schedule, len(self.schedule) - 1
        here = jnp.minimum(state.number, last)
        cohort = Cohort(schedule.active[here] & (state.number <= last), schedule.members[here])
        weights = schedule.weights(problem.weights, self.weighting)
        scales = jnp.ones_like(weights)
        if self.weighting == "step_size":
            scales = schedule.weights(problem.weights, "importance") / weights

        def displacement(
            data: PyTree[Array], start: PyTree[Array], scale: Float[Array, ""], key: Key[Array, ""]
        ) -> PyTree[Array]:
            def gradient(data: PyTree[Array], y: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
                slope = problem.client_stochastic_gradient(data, y, key)
                return jax.tree.map(lambda leaf: scale.astype(leaf.dtype) * leaf, slope)

            return jax.tree.map(jnp.subtract, local_steps(self.local, gradient, data, start, key, self.steps), start)

        rows = cohort.take((state.received, scales, jax.random.split(of_clients, problem.clients)))
        moved = cohort.weighted_sum(cohort.take(weights), problem.map(displacement, *rows, cohort=cohort))
        x, server = self.server.step(jax.tree.map(jnp.negative, moved), state.server, state.x)
        sent = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(cohort.active), *leaf.shape)), x)
        gradients = self.steps * cohort.take(problem.client_stochastic_gradient_cost)
        cost = state.cost + problem.round_cost(cohort, gradients=gradients, bits_up=bits(x), bits_down=bits(x))
        return AsynchronousState(
            x=x,
            cost=dataclasses.replace(cost, seconds=schedule.times[here]),
            server=server,
            received=cohort.put(state.received, sent),
            number=state.number + 1,
        )
