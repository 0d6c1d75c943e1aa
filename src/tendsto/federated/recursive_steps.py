"""Local steps against a recursive estimate of the global gradient, and the methods that start them from fresh ones."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.federated.averaging import RoundState, bits
from tendsto.federated.cohort import Cohort
from tendsto.federated.federation import Federation, begin
from tendsto.federated.optimizers import GradientStep, Optimizer, OptimizerLike, as_gradient_step, as_optimizer
from tendsto.iteration import Cost, Method, Scalar, hyperparameter


def recursive_steps(
    optimizer: Optimizer,
    problem: Federation,
    data: PyTree[Array],
    x: PyTree[Array],
    direction: PyTree[Array],
    key: Key[Array, ""],
    steps: int,
) -> PyTree[Array]:
    r"""A client's displacement $y_K - x$ after $K$ steps from $y_0 = x$ along a recursive estimate.

    $$y_{k+1} = y_k - \eta\,g_{k+1}, \qquad g_1 = v, \qquad
      g_{k+1} = g_k + \nabla f_i(y_k; \xi_k) - \nabla f_i(y_{k-1}; \xi_k).$$

    Both gradients are taken on the same batch; a fresh one in each would undo the reduction of variance.

    **Arguments**: `optimizer`, $\eta$ or another update; `data`, the client's row; `direction`, $v$; `steps`, $K$.
    """

    def step(carry: Any, key: Key[Array, ""]) -> tuple[Any, None]:
        y, previous, estimate, memory = carry
        new, old = (problem.client_stochastic_gradient(data, place, key) for place in (y, previous))
        estimate = jax.tree.map(lambda kept, plus, minus: kept - minus + plus, estimate, new, old)
        after, memory = optimizer.step(estimate, memory, y)
        return (after, y, estimate, memory), None

    first, memory = optimizer.step(direction, optimizer.init(x), x)
    (last, *_), _ = jax.lax.scan(step, (first, x, direction, memory), jax.random.split(key, steps)[1:])
    return jax.tree.map(jnp.subtract, last, x)


def check_steps(steps: int, anchor_batches: int | None) -> None:
    """Refuse a number of steps or of batches below one."""
    validation.integer("steps", steps, low=1)
    if anchor_batches is not None:
        validation.integer("anchor_batches", anchor_batches, low=1)


def large_batch_gradient(
    problem: Federation, data: PyTree[Array], x: PyTree[Array], key: Key[Array, ""], batches: int | None
) -> PyTree[Array]:
    """A client's gradient on this many of the problem's batches, or its exact one (`None`)."""
    if batches is None:
        return problem.client_gradient(data, x)
    drawn = jax.vmap(lambda each: problem.client_stochastic_gradient(data, x, each))(jax.random.split(key, batches))
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), drawn)


def large_batch_gradients(
    problem: Federation,
    x: PyTree[Array],
    cohort: Cohort,
    keys: Key[Array, " members"],
    batches: int | None,
) -> PyTree[Array]:
    """`large_batch_gradient` of every member, a row for each."""
    return problem.map(lambda data, key: large_batch_gradient(problem, data, x, key, batches), keys, cohort=cohort)


def large_batch_cost(problem: Federation, batches: int | None) -> Float[Array, " clients"]:
    """How many component gradients each client's large batch costs."""
    if batches is None:
        return problem.client_gradient_cost
    return batches * problem.client_stochastic_gradient_cost


class BVRLSGD(Method[Federation, RoundState[None]]):
    r"""Bias-variance reduced local steps (BVR-L-SGD): every client's large-batch gradient before every round.

    $v_t = \sum_i p_i \nabla f_i(x_t; B_i)$ over all clients; then the participants make $K$ recursive steps from $v_t$
    on small batches (`recursive_steps`), and the iterate moves by their mean displacement times the server's step size.

    **Arguments**: `local`, `steps`, `server` and `anchor_batches` as for `FedAMD`.

    **Source**: T. Murata, T. Suzuki, *Bias-Variance Reduced Local SGD for Less Heterogeneous Federated Learning*,
    2102.03198, with one round for each large batch.
    """

    local: OptimizerLike = eqx.field(converter=as_optimizer)
    steps: int = eqx.field(static=True, default=1)
    server: OptimizerLike = eqx.field(converter=as_optimizer, default=1.0)
    anchor_batches: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_steps(self.steps, self.anchor_batches)

    def init(self, problem: Federation, x0: PyTree[Array], key: Key[Array, ""]) -> RoundState[None]:
        """Start at `x0`."""
        participation = begin(problem, x0, key)
        return RoundState(x0, Cost(), self.server.init(x0), participation, None)

    def step(self, problem: Federation, state: RoundState[None], key: Key[Array, ""]) -> RoundState[None]:
        """A large batch of everyone, then local steps of the cohort."""
        of_cohort, of_anchors, of_miners = jax.random.split(key, 3)
        everyone = Cohort.everyone(problem.clients)
        cohort, participation = problem.participation.sample(state.participation, problem.clients, of_cohort)
        anchor_keys = jax.random.split(of_anchors, problem.clients)
        anchors = large_batch_gradients(problem, state.x, everyone, anchor_keys, self.anchor_batches)
        direction = problem.average(anchors)

        def displacement(data: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
            return recursive_steps(self.local, problem, data, state.x, direction, key, self.steps)

        keys = cohort.take(jax.random.split(of_miners, problem.clients))
        moved = problem.cohort_average(cohort, problem.map(displacement, keys, cohort=cohort))
        x, server = self.server.step(jax.tree.map(jnp.negative, moved), state.server, state.x)
        sent = bits(x)
        small = 2 * (self.steps - 1) * cohort.take(problem.client_stochastic_gradient_cost)
        cost = problem.round_cost(
            everyone, gradients=large_batch_cost(problem, self.anchor_batches), bits_up=sent, bits_down=sent
        ) + problem.round_cost(cohort, gradients=small, bits_up=sent, bits_down=sent)
        return RoundState(x, state.cost + cost, server, participation, None)


class PageMemory(eqx.Module):
    """The iterate one round ago, the last direction, and the number of the round."""

    previous: PyTree[Array]
    direction: PyTree[Array]
    round: Int[Array, ""]


class FedPAGE(Method[Federation, RoundState[PageMemory]]):
    r"""FedPAGE: now and then a large batch of everyone, otherwise recursive steps of the participants.

    With probability $q$, and in the first round, the direction is $v_t = \sum_i p_i \nabla f_i(x_t; B_i)$ over all
    clients. Otherwise each participant makes $K$ recursive steps (`recursive_steps`) from
    $v_{t-1} + \nabla f_i(x_t; B_i) - \nabla f_i(x_{t-1}; B_i)$ with the same large batch in both, and
    $v_t = -\frac{1}{K\eta_\ell}\,\overline{\Delta}$ of their displacements. Either way
    $x_{t+1} = x_t - \eta_s K \eta_\ell\, v_t$.

    **Arguments**

    - `local`: $\eta_\ell$, a step size.
    - `probability`: $q$ in $(0, 1]$.
    - `steps`, `server`, `anchor_batches`: as for `FedAMD`.

    **Source**: H. Zhao, Z. Li, P. Richtárik, *FedPAGE*, 2108.04755.
    """

    local: GradientStep = eqx.field(converter=as_gradient_step)
    probability: Scalar = hyperparameter()
    steps: int = eqx.field(static=True, default=1)
    server: OptimizerLike = eqx.field(converter=as_optimizer, default=1.0)
    anchor_batches: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_steps(self.steps, self.anchor_batches)
        validation.real("probability", self.probability, low=0.0, high=1.0, open_low=True)

    def init(self, problem: Federation, x0: PyTree[Array], key: Key[Array, ""]) -> RoundState[PageMemory]:
        """Start at `x0`."""
        participation = begin(problem, x0, key)
        memory = PageMemory(x0, jax.tree.map(jnp.zeros_like, x0), jnp.zeros((), int))
        return RoundState(x0, Cost(), self.server.init(x0), participation, memory)

    def step(self, problem: Federation, state: RoundState[PageMemory], key: Key[Array, ""]) -> RoundState[PageMemory]:
        """One round."""
        of_cohort, of_coin, of_anchors, of_miners = jax.random.split(key, 4)
        everyone, memory = Cohort.everyone(problem.clients), state.memory
        cohort, participation = problem.participation.sample(state.participation, problem.clients, of_cohort)
        full = jax.random.bernoulli(of_coin, self.probability) | (memory.round == 0)
        anchor_keys = jax.random.split(of_anchors, problem.clients)
        new = large_batch_gradients(problem, state.x, everyone, anchor_keys, self.anchor_batches)
        old = large_batch_gradients(problem, memory.previous, cohort, cohort.take(anchor_keys), self.anchor_batches)

        def displacement(data: PyTree[Array], key: Key[Array, ""], plus: PyTree[Array], minus: PyTree[Array]) -> Any:
            start = jax.tree.map(lambda kept, a, b: kept - b + a, memory.direction, plus, minus)
            return recursive_steps(self.local, problem, data, state.x, start, key, self.steps)

        keys = cohort.take(jax.random.split(of_miners, problem.clients))
        moved = problem.cohort_average(cohort, problem.map(displacement, keys, cohort.take(new), old, cohort=cohort))
        length = self.steps * self.local.step_size
        direction = jax.tree.map(
            lambda exact, mean: jnp.where(full, exact, -mean / length), problem.average(new), moved
        )
        scaled = jax.tree.map(lambda leaf: length * leaf, direction)
        after = (*self.server.step(scaled, state.server, state.x), PageMemory(state.x, direction, memory.round + 1))
        large, small = large_batch_cost(problem, self.anchor_batches), problem.client_stochastic_gradient_cost
        sent = bits(state.x)
        of_everyone = problem.round_cost(everyone, gradients=large, bits_up=sent, bits_down=sent)
        of_some = problem.round_cost(
            cohort,
            gradients=2 * cohort.take(large + (self.steps - 1) * small),
            bits_up=sent,
            bits_down=3 * sent,
        )
        cost = jax.tree.map(lambda a, b: jnp.where(full, a, b), of_everyone, of_some)
        # A round with nobody in it changes nothing.
        before = (state.x, state.server, memory)
        x, server, memory = jax.tree.map(lambda a, b: jnp.where(full | (cohort.size > 0), a, b), after, before)
        return RoundState(x, state.cost + cost, server, participation, memory)
