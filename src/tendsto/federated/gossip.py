"""Federated learning without a server: local steps, sharpness-aware if wished, then gossip among neighbours."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.federated.averaging import ClientGradient, bits, local_steps
from tendsto.federated.cohort import Cohort
from tendsto.federated.federation import Federation, begin, squared_norm
from tendsto.federated.optimizers import OptimizerLike, as_optimizer
from tendsto.federated.participation import Everyone
from tendsto.federated.sharpness import ascent_gradient
from tendsto.federated.topology import Topology
from tendsto.iteration import Cost, Method, Scalar, State, hyperparameter


def _count(value: Any) -> Int[Array, ""]:
    if not isinstance(value, jax.Array):
        validation.integer("gossip_steps", value, low=1)
    return jnp.asarray(value)


class GossipState(State):
    r"""Every client's model; `x` is their mean.

    **Arguments**

    - `models`: $x_i$, with a row for each client.
    - `turn`: how many gossip steps there were so far: whose turn it is among a topology's matrices.
    - `disagreement`: the consensus distance of the last round's models before their gossip.
    - `drift`: the same of what the last round's local steps added, $\frac1n\sum_i \lVert\Delta_i-\bar\Delta\rVert^2$.
    """

    models: PyTree[Array]
    turn: Int[Array, ""]
    disagreement: Float[Array, ""]
    drift: Float[Array, ""]


class DFedAvg(Method[Federation, GossipState]):
    r"""Decentralised federated averaging: $K$ local steps at every client, then $Q$ gossip steps with its neighbours.

    $$z_i = \text{local steps from } x_i^t, \qquad X^{t+1} = W^Q Z.$$

    Each gossip step averages the neighbours' current models: it leaves their mean where it is, and shrinks what they
    disagree by $\lambda$. With $K = 1$ this is D-PSGD (adapt, then combine), with `Topology.complete` FedAvg with
    everyone, with `local=optax.sgd(step_size, momentum)` DFedAvgM.

    **Arguments**

    - `local`: a client's optimiser, a step size $\eta$ or an optax transformation, fresh in every round.
    - `topology`: $W$, with as many clients as the problem, which all take part and count alike.
    - `steps`: $K$, how many local steps.
    - `gossip_steps`: $Q$, how many gossip steps a round.

    **Raises** `ValueError` naming the argument; at the start of a run, if the problem does not fit.

    **Source**: T. Sun, D. Li, B. Wang, *Decentralized Federated Averaging*, 2104.11375; its gossip with $Q > 1$ from
    Y. Shi et al., *Improving the Model Consistency of Decentralized Federated Learning*, 2302.04083, Algorithm 1.
    """

    local: OptimizerLike = eqx.field(converter=as_optimizer)
    topology: Topology
    steps: int = eqx.field(static=True, default=1)
    gossip_steps: Int[Array, ""] | int = eqx.field(converter=_count, default=1)

    def __check_init__(self) -> None:
        validation.integer("steps", self.steps, low=1)

    def direction(self, problem: Federation) -> ClientGradient:
        """What local steps go against."""
        return problem.client_stochastic_gradient

    @property
    def gradients_per_step(self) -> int:
        """How many stochastic gradients a local step takes."""
        return 1

    def init(self, problem: Federation, x0: PyTree[Array], key: Key[Array, ""]) -> GossipState:
        """Everyone starts at `x0`."""
        begin(problem, x0, key)
        if not isinstance(problem.participation, Everyone):
            raise ValueError("participation: without a server every client takes part in every round")
        if self.topology.clients != problem.clients:
            raise ValueError(f"topology: has {self.topology.clients} clients, but the problem has {problem.clients}")
        return GossipState(
            x=x0,
            cost=Cost(),
            models=jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (problem.clients, *leaf.shape)), x0),
            turn=jnp.zeros((), int),
            disagreement=jnp.zeros(()),
            drift=jnp.zeros(()),
        )

    def step(self, problem: Federation, state: GossipState, key: Key[Array, ""]) -> GossipState:
        """One round."""
        # Split as FederatedAveraging does, so that equal keys draw equal batches.
        _, of_clients = jax.random.split(key)
        gradient = self.direction(problem)

        def train(data: PyTree[Array], model: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
            return local_steps(self.local, gradient, data, model, key, self.steps)

        trained = problem.map(train, state.models, jax.random.split(of_clients, problem.clients))

        def mix(number: Int[Array, ""], carry: tuple[Any, Any]) -> tuple[Any, Any]:
            models, sent = carry
            turn = state.turn + number
            return self.topology.gossip(models, turn), sent + self.topology.degrees(turn)

        models, sent = jax.lax.fori_loop(0, self.gossip_steps, mix, (trained, jnp.zeros(problem.clients)))
        # Links are symmetric: a client hears from as many as it sends to.
        cost = problem.round_cost(
            Cohort.everyone(problem.clients),
            gradients=self.gradients_per_step * self.steps * problem.client_stochastic_gradient_cost,
            bits_up=sent * bits(state.x),
            bits_down=sent * bits(state.x),
        )
        return GossipState(
            x=_mean(models),
            cost=state.cost + cost,
            models=models,
            turn=state.turn + self.gossip_steps,
            disagreement=spread(trained),
            drift=spread(jax.tree.map(jnp.subtract, trained, state.models)),
        )


class DFedSAM(DFedAvg):
    r"""Decentralised federated averaging with sharpness-aware local steps (with $Q > 1$, DFedSAM-MGS).

    A local step from $y$ on a batch $\xi$ goes against the gradient uphill, on the same batch:

    $$g = \nabla F_i(y;\xi), \qquad y^+ = y - \eta \nabla F_i\!\left(y + \rho\, g/\lVert g\rVert;\, \xi\right).$$

    Two gradients a local step. With `Topology.complete` it is FedSAM with everyone, with $\rho = 0$ `DFedAvg`. A radius
    that stays the same keeps the iterates away from a minimiser; the theorem has it fall with the number of rounds.

    **Arguments** those of `DFedAvg`, and `radius`, $\rho \ge 0$.

    **Source**: Y. Shi, L. Shen, K. Wei, Y. Sun, B. Yuan, X. Wang, D. Tao, *Improving the Model Consistency of
    Decentralized Federated Learning*, 2302.04083, Algorithm 1.
    """

    radius: Scalar = hyperparameter(default=0.01)

    def __check_init__(self) -> None:
        validation.real("radius", self.radius, low=0.0)

    @classmethod
    def theory(cls, problem: Any, topology: Topology, *, rounds: int, steps: int = 1, gossip_steps: int = 1) -> DFedSAM:
        r"""With $\eta = \min\{1/(L\sqrt{KT}),\, 1/(10KL)\}$ and $\rho = 1/\sqrt T$ for $T$ rounds.

        The theorem gives both up to constants, which are taken to be one.

        **Arguments**: `problem`, with the constants `client_smoothness`, whose largest is $L$; `rounds`, $T$.

        **Source**: 2302.04083, Theorems 1 and 2.
        """
        validation.integer("rounds", rounds, low=1)
        validation.integer("steps", steps, low=1)
        largest = float(jnp.max(problem.client_smoothness))
        step_size = min(1.0 / (largest * math.sqrt(steps * rounds)), 1.0 / (10.0 * steps * largest))
        return cls(step_size, topology, steps, gossip_steps, radius=1.0 / math.sqrt(rounds))

    def direction(self, problem: Federation) -> ClientGradient:
        """The gradient uphill."""
        return ascent_gradient(problem.client_stochastic_gradient, self.radius)

    @property
    def gradients_per_step(self) -> int:
        """Two."""
        return 2


def _mean(per_client: PyTree[Array]) -> PyTree[Array]:
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), per_client)


def spread(per_client: PyTree[Array]) -> Float[Array, ""]:
    r"""$\frac1n \sum_i \lVert v_i - \bar v\rVert^2$ of arrays with a row for each client."""
    clients = len(jax.tree.leaves(per_client)[0])
    return squared_norm(jax.tree.map(lambda leaf: leaf - jnp.mean(leaf, axis=0), per_client)) / clients


def consensus_distance(problem: Federation, state: GossipState) -> Float[Array, ""]:
    r"""A metric for `run`'s `record`: $\frac1n \sum_i \lVert x_i - \bar x\rVert^2$, how far the models disagree."""
    del problem
    return spread(state.models)


def each_model(metric: Callable[[Any, Any], Array]) -> Callable[[Any, GossipState], Array]:
    """The metric of every client's own model, where `metric` alone measures the mean of the models.

    What the mean gains over the clients' models is their lack of consistency:
    `record={"mean": accuracy_on(test), "own": each_model(accuracy_on(test))}`.
    """

    def of_each(problem: Any, state: GossipState) -> Array:
        return jax.vmap(lambda model: metric(problem, dataclasses.replace(state, x=model)))(state.models)

    return of_each
