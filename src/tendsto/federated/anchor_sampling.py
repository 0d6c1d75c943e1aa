"""Anchor sampling: part of a cohort refreshes large-batch gradients, the rest makes variance-reduced local steps."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree
from scipy.optimize import minimize_scalar

from tendsto import validation
from tendsto.federated.averaging import bits
from tendsto.federated.cohort import Cohort
from tendsto.federated.error_feedback import per_client_zeros
from tendsto.federated.federation import Federation, begin
from tendsto.federated.optimizers import GradientStep, OptimizerLike, as_optimizer
from tendsto.federated.recursive_steps import check_steps, large_batch_cost, large_batch_gradient, recursive_steps
from tendsto.federated.rounds import Call, RoundMethod
from tendsto.iteration import Cost, Scalar, State, hyperparameter


class AnchorSchedule(eqx.Module):
    """With what probability a participant of each round is an anchor."""

    @abc.abstractmethod
    def probability_in(self, round: Int[Array, ""]) -> Scalar:
        """$p_t$ in round $t$, counted from 0."""


class ConstantAnchors(AnchorSchedule):
    """The same probability in every round.

    **Arguments**: `probability`, $p$ in $[0, 1]$. At 1 nothing ever moves the iterate, at 0 nothing refreshes the
    gradients.
    """

    probability: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.real("probability", self.probability, low=0.0, high=1.0)

    def probability_in(self, round: Int[Array, ""]) -> Scalar:
        """$p$."""
        del round
        return self.probability


class PeriodicAnchors(AnchorSchedule):
    r"""Everyone is an anchor in every $\tau$-th round, the first included, and a miner in the others.

    **Arguments**: `period`, $\tau \ge 2$.
    """

    period: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        validation.integer("period", self.period, low=2)

    def probability_in(self, round: Int[Array, ""]) -> Scalar:
        """One or zero."""
        return jnp.where(round % self.period == 0, 1.0, 0.0)


def _as_schedule(value: Any) -> AnchorSchedule:
    return value if isinstance(value, AnchorSchedule) else ConstantAnchors(value)


class AnchorState(State):
    r"""The iterate, and the last large-batch gradient $v^{(i)}$ of every client, which the server keeps."""

    server: PyTree[Array]
    participation: PyTree[Array]
    gradients: PyTree[Array]
    round: Int[Array, ""]


class FedAMD(RoundMethod[AnchorState]):
    r"""Anchor sampling (FedAMD): converges linearly with few of many clients in a round, however different they are.

    In round $t$ each participant is an anchor with probability $p_t$, otherwise a miner. An anchor replaces its stored
    gradient by $v^{(i)} = \nabla f_i(x_t; B_i)$ on a large batch. A miner starts from the mean of what was stored
    before the round, $g_1 = v_t = \sum_i p_i v_t^{(i)}$, and makes $K$ local steps

    $$y_{k+1} = y_k - \eta_\ell\, g_{k+1}, \qquad
      g_{k+1} = g_k + \nabla f_i(y_k; \xi_k) - \nabla f_i(y_{k-1}; \xi_k), \qquad y_{-1} = y_0 = x_t,$$

    with the same small batch in both gradients. The iterate moves by the mean displacement of the miners alone, times
    the server's step size; a round without miners leaves it where it is. With $K = 1$ it is the stale averaged gradient
    method, whatever the small batches. Every client's gradient is computed at the start once.

    **Arguments**

    - `local`: a miner's optimiser, a step size $\eta_\ell$ or an optax transformation, fresh in every round.
    - `anchors`: $p_t$, a probability or an `AnchorSchedule`; see `optimal_anchor_probability`.
    - `steps`: $K$, how many local steps.
    - `server`: the server's optimiser, a step size $\eta_s$ or an optax transformation.
    - `anchor_batches`: of how many of the problem's batches a large batch consists; by default the exact gradient.

    **Source**: F. Wu, S. Guo, Z. Qu, S. He, Z. Liu, J. Gao, *Anchor Sampling for Federated Learning with Partial Client
    Participation*, 2206.05891, Algorithm 1.
    """

    local: OptimizerLike = eqx.field(converter=as_optimizer)
    anchors: AnchorSchedule = eqx.field(converter=_as_schedule)
    steps: int = eqx.field(static=True, default=1)
    server: OptimizerLike = eqx.field(converter=as_optimizer, default=1.0)
    anchor_batches: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_steps(self.steps, self.anchor_batches)

    @classmethod
    def theory(cls, problem: Any, steps: int = 1) -> FedAMD:
        r"""The probability that minimises `anchor_rounds`, $\phi$, and $\eta_\ell = 1/(K L \phi)$ with $\eta_s = 1$.

        The theorem prescribes this order of the step size for constant $p$; its constant is here taken as one.

        **Arguments**

        - `problem`: with the constant `smoothness`, a bound on the smoothness of each client.
        - `steps`: $K$.
        """
        cohort = float(jnp.sum(problem.participation.probabilities(problem.clients)))
        probability = optimal_anchor_probability(problem.clients, cohort)
        factor = anchor_rounds(probability, problem.clients, cohort)
        step_size = 1.0 / (steps * float(problem.smoothness) * factor)
        return cls(GradientStep(step_size), ConstantAnchors(probability), steps)

    def open(self, problem: Federation, x0: PyTree[Array], key: Key[Array, ""]) -> tuple[AnchorState, Call | None]:
        """Start at `x0`, where all clients are anchors once."""
        of_participation, of_gradients = jax.random.split(key)
        state = AnchorState(
            x=x0,
            cost=Cost(),
            server=self.server.init(x0),
            participation=begin(problem, x0, of_participation),
            gradients=per_client_zeros(problem, x0),
            round=jnp.zeros((), int),
        )
        keys = jax.random.split(of_gradients, problem.clients)
        shared = (x0, jax.tree.map(jnp.zeros_like, x0))
        everyone = Cohort.everyone(problem.clients)
        return state, Call(everyone, shared, (everyone.active, keys, keys), opening=True)

    def call(self, problem: Federation, state: AnchorState, key: Key[Array, ""]) -> tuple[AnchorState, Call]:
        """The iterate and the mean of what is stored to all members, and to each its role and its keys."""
        of_cohort, of_roles, of_anchors, of_miners = jax.random.split(key, 4)
        cohort, participation = problem.participation.sample(state.participation, problem.clients, of_cohort)
        probability = self.anchors.probability_in(state.round)
        is_anchor = jax.random.bernoulli(of_roles, probability, (problem.clients,))
        keys = (jax.random.split(each, problem.clients) for each in (of_anchors, of_miners))
        state = dataclasses.replace(state, participation=participation, round=state.round + 1)
        shared = (state.x, problem.average(state.gradients))
        return state, Call(cohort, shared, cohort.take((is_anchor, *keys)))

    def answer(
        self,
        problem: Federation,
        data: PyTree[Array],
        shared: PyTree[Array],
        row: PyTree[Array],
        kept: PyTree[Array],
        opening: bool,
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        r"""An anchor's large-batch gradient, a miner's displacement $y_K - x_t$; nothing is kept."""
        (x, direction), (is_anchor, of_anchor, of_miner) = shared, row

        def anchor() -> PyTree[Array]:
            return large_batch_gradient(problem, data, x, of_anchor, self.anchor_batches)

        def miner() -> PyTree[Array]:
            return recursive_steps(self.local, problem, data, x, direction, of_miner, self.steps)

        return anchor() if opening else jax.lax.cond(is_anchor, anchor, miner), kept

    def receive(self, problem: Federation, state: AnchorState, call: Call, answers: PyTree[Array]) -> AnchorState:
        """The anchors' gradients stored, and the server's step along the miners' mean displacement."""
        cohort, (is_anchor, *_) = call.cohort, call.rows
        anchors = Cohort(cohort.active & is_anchor, cohort.indices)
        miners = Cohort(cohort.active & ~is_anchor, cohort.indices)
        moved = problem.cohort_average(miners, answers)
        stepped = self.server.step(jax.tree.map(jnp.negative, moved), state.server, state.x)
        # A server's optimiser with momentum would move on a zero gradient.
        x, server = jax.tree.map(
            lambda new, old: jnp.where(miners.size > 0, new, old), stepped, (state.x, state.server)
        )
        mining = 2 * (self.steps - 1) * cohort.take(problem.client_stochastic_gradient_cost)
        cost = problem.round_cost(
            cohort,
            gradients=jnp.where(is_anchor, cohort.take(large_batch_cost(problem, self.anchor_batches)), mining),
            bits_up=bits(x),
            bits_down=jnp.where(is_anchor, bits(x), 2.0 * bits(x)),
        )
        gradients = anchors.put(state.gradients, answers)
        return AnchorState(x, state.cost + cost, server, state.participation, gradients, state.round)


def _check_cohort(clients: float, cohort: float) -> None:
    validation.positive("clients", clients)
    validation.real("cohort", cohort, low=1.0, high=clients)


def anchor_rounds(probability: float, clients: float, cohort: float) -> float:
    r"""What the bound on the number of rounds is proportional to, as a function of the anchors' probability.

    $$\phi(p) = \frac{1}{1 - p^A} + \frac{2M}{A\,p\,\sqrt{1 - p^A}}.$$

    $1 - p^A$ is the chance that a round has a miner; $Ap/M$ is how often a client's gradient is refreshed.

    **Arguments**: `probability`, $p \in [0, 1]$; `clients`, $M$; `cohort`, $A \le M$, how many take part in a round.

    **Returns** infinity at 0 and at 1.

    **Source**: 2206.05891, the bound for constant probability.
    """
    _check_cohort(clients, cohort)
    validation.real("probability", probability, low=0.0, high=1.0)
    moving = -math.expm1(cohort * math.log(probability)) if probability > 0 else 1.0
    if probability == 0 or moving == 0:
        return math.inf
    return 1.0 / moving + 2.0 * clients / (cohort * probability * math.sqrt(moving))


def optimal_anchor_probability(clients: float, cohort: float, rule: Literal["exact", "asymptotic"] = "exact") -> float:
    r"""The probability of anchors that needs the fewest rounds by the bound.

    `"exact"` minimises `anchor_rounds`; `"asymptotic"` minimises its second term alone, which leads where $M \gg A$:
    $p = (2/(A+2))^{1/A}$, hence $p^A = 2/(A + 2)$.

    **Arguments**: `clients`, $M$; `cohort`, $A \le M$, how many take part in a round; `rule`.

    **Source**: 2206.05891, the choice of $p$ for constant probability.
    """
    _check_cohort(clients, cohort)
    if rule not in ("exact", "asymptotic"):
        raise ValueError(f"rule: must be 'exact' or 'asymptotic', got {rule!r}")
    if rule == "asymptotic":
        return float((2.0 / (cohort + 2.0)) ** (1.0 / cohort))
    # phi is flat at its minimum: half of the digits of p are all that can be found by its values.
    found = minimize_scalar(
        lambda p: anchor_rounds(p, clients, cohort), bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-10}
    )
    return float(found.x)
