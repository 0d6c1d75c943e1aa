"""Federated averaging where clients take part with unequal chances, which nobody may know."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from tendsto import validation
from tendsto.federated.averaging import FedAvg, FederatedAveraging
from tendsto.federated.clients import Clients
from tendsto.federated.cohort import Cohort
from tendsto.federated.federation import Federation
from tendsto.iteration import Scalar, hyperparameter


class ParticipationIntervals(eqx.Module):
    r"""How many rounds pass from one participation of each client to the next, on average, kept in three numbers each.

    An interval ends with the round that the client takes part in, and so is 1 for one that is always there; one that
    reaches the cut-off $K$ ends there. The mean estimates $1/p_i$ without knowing $p_i$: for independent rounds it
    tends to $\mathbb E \min(\mathrm{Geom}(p_i), K) = (1 - (1 - p_i)^K)/p_i$. The state before the first round is
    `ParticipationIntervals.start(clients)`.

    **Arguments**, each of shape `(clients,)`

    - `mean`: $\omega_i$, of the intervals that have ended; 1 before the first has.
    - `count`: $M_i$, how many have ended.
    - `running`: $S_i$, rounds since the last one ended.

    **Source**: S. Wang, M. Ji, 2306.03401, Algorithm 2.
    """

    mean: Float[Array, " clients"]
    count: Float[Array, " clients"]
    running: Float[Array, " clients"]

    @classmethod
    def start(cls, clients: int) -> ParticipationIntervals:
        """Nothing has been seen yet."""
        validation.integer("clients", clients, low=1)
        return cls(jnp.ones(clients), jnp.zeros(clients), jnp.zeros(clients))

    def after(self, here: Bool[Array, " clients"], cutoff: Scalar = jnp.inf) -> ParticipationIntervals:
        """The intervals after one more round.

        **Arguments**: `here`, who took part in it, shape `(clients,)`; `cutoff`, $K$.
        """
        running = self.running + 1
        ended = here | (running >= cutoff)
        mean = (self.count * self.mean + running) / (self.count + 1)
        return ParticipationIntervals(
            mean=jnp.where(ended, mean, self.mean),
            count=self.count + ended,
            running=jnp.where(ended, 0.0, running),
        )


class FedAU(FederatedAveraging):
    r"""Federated averaging that weighs each client by the mean interval between its participations.

    $$x_{t+1} = x_t + \eta \sum_{i \in S_t} p_i\, \omega_i^t \Delta_i, \qquad
      \omega_i^t = \text{the mean of } i\text{'s intervals that ended before round } t, \text{ each cut at } K,$$

    with $p_i$ the problem's weights ($1/n$ in the paper) over all clients, never divided by $|S_t|$. The current round
    does not count in $\omega^t$: that would correlate the weight with its own participation. With $K = \infty$ it tends
    to a stationary point of $\sum_i p_i f_i$, whatever the rates of participation; a finite $K$ bounds the weight of
    rare clients (its first value can be huge) and leaves a bias of $(1 - \text{rate})^K$ in independent rounds, and a
    larger one where participation comes in bursts.

    **Arguments**

    - `local`, `steps`, `server`: see `FederatedAveraging`.
    - `cutoff`: $K$, a positive integer or infinity.

    **Source**: S. Wang, M. Ji, *A Lightweight Method for Tackling Unknown Participation Statistics in Federated
    Averaging*, 2306.03401, Algorithms 1 and 2.
    """

    cutoff: Scalar = hyperparameter(default=jnp.inf)

    def __check_init__(self) -> None:
        validation.real("cutoff", self.cutoff, low=1.0)
        if not isinstance(self.cutoff, jax.core.Tracer) and bool(jnp.any(self.cutoff != jnp.floor(self.cutoff))):
            raise ValueError(f"cutoff: must be a whole number of rounds or infinity, got {self.cutoff}")

    def remember(self, problem: Federation, x0: PyTree[Array]) -> ParticipationIntervals:
        """No interval has ended."""
        del x0
        return ParticipationIntervals.start(problem.clients)

    def combine(
        self, problem: Federation, memory: ParticipationIntervals, cohort: Cohort, displacements: PyTree[Array]
    ) -> tuple[PyTree[Array], ParticipationIntervals]:
        """The sum with the weights of past rounds, and the intervals with this round."""
        combined = cohort.weighted_sum(cohort.take(problem.weights * memory.mean), displacements)
        return combined, memory.after(cohort.mask(problem.clients), self.cutoff)


class InverseProbability(FederatedAveraging):
    r"""Federated averaging that knows how often each client takes part: $w_i = p_i / \pi_i$.

    **Arguments**

    - `local`, `steps`, `server`: see `FederatedAveraging`.
    - `probability`: $\pi_i$, one for each client or one for all; by default the share of rounds that the problem's
      participation process states. One for all is averaging over all clients, where the absent count as zero: it tends
      to a point that is stationary for $\sum_i p_i \pi_i f_i$.
    """

    probability: Float[Array, "*clients"] | None = eqx.field(
        default=None, converter=lambda value: None if value is None else jnp.asarray(value, float)
    )

    def __check_init__(self) -> None:
        if self.probability is not None:
            validation.real("probability", self.probability, low=0.0, high=1.0, open_low=True)

    def combine(
        self, problem: Federation, memory: Any, cohort: Cohort, displacements: PyTree[Array]
    ) -> tuple[PyTree[Array], Any]:
        """The sum over those who are there."""
        clients = problem.clients
        known = problem.participation.probabilities(clients) if self.probability is None else self.probability
        if known.shape not in ((), (clients,)):
            raise ValueError(f"probability: expected a number or one for each of {clients} clients, got {known.shape}")
        return cohort.weighted_sum(cohort.take(problem.weights / known), displacements), memory


def _no_displacements(problem: Federation, x0: PyTree[Array]) -> PyTree[Array]:
    return jax.tree.map(lambda leaf: jnp.zeros((problem.clients, *leaf.shape), leaf.dtype), x0)


class MIFA(FederatedAveraging):
    r"""Federated averaging in which the server remembers the last displacement of every client.

    $y_i \leftarrow \Delta_i$ for $i \in S_t$, then $x_{t+1} = x_t + \eta \sum_i p_i y_i$ over all clients, with
    $y_i = 0$ before a client first comes. The memory is $n$ times the model.

    **Arguments**: `local`, `steps`, `server`, see `FederatedAveraging`.

    **Source**: X. Gu et al., *Fast Federated Learning in the Presence of Arbitrary Device Unavailability*, 2106.04159.
    """

    moves_alone: ClassVar[bool] = True

    def remember(self, problem: Federation, x0: PyTree[Array]) -> PyTree[Array]:
        """Zeros."""
        return _no_displacements(problem, x0)

    def combine(
        self, problem: Federation, memory: PyTree[Array], cohort: Cohort, displacements: PyTree[Array]
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        """The mean of what is remembered, this round included."""
        memory = cohort.put(memory, displacements)
        return problem.average(memory), memory


class FedVARP(FedAvg):
    r"""Federated averaging whose mean over the present is corrected by what the server remembers of all.

    $x_{t+1} = x_t + \eta \bigl( \sum_{i \in S_t} w_i (\Delta_i - y_i) + \sum_i p_i y_i \bigr)$ with $w_i$ as in
    `FedAvg`, then $y_i \leftarrow \Delta_i$ for $i \in S_t$; $y_i = 0$ at first. The memory is $n$ times the model.

    **Arguments**: `local`, `steps`, `server`, see `FederatedAveraging`.

    **Source**: D. Jhunjhunwala et al., *FedVARP: Tackling the Variance Due to Partial Client Participation in Federated
    Learning*, 2207.14130.
    """

    moves_alone: ClassVar[bool] = True

    def remember(self, problem: Federation, x0: PyTree[Array]) -> PyTree[Array]:
        """Zeros."""
        return _no_displacements(problem, x0)

    def combine(
        self, problem: Federation, memory: PyTree[Array], cohort: Cohort, displacements: PyTree[Array]
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        """The corrected mean, with the memory of before this round."""
        changes = jax.tree.map(jnp.subtract, displacements, cohort.take(memory))
        correction, _ = super().combine(problem, None, cohort, changes)
        combined = jax.tree.map(jnp.add, correction, problem.average(memory))
        return combined, cohort.put(memory, displacements)


def label_dependent_rates(
    clients: Clients,
    key: Key[Array, ""],
    *,
    mean: float = 0.1,
    lowest: float = 0.02,
    concentration: float = 0.1,
) -> Float[Array, " clients"]:
    r"""Chances of taking part that depend on the classes a client holds, so that who is there biases what is learnt.

    $\max(p_{\min}, \bar p\, C \langle s_i, q \rangle)$, at most 1, with $s_i$ the shares of the $C$ classes among the
    samples of client $i$ and $q$ drawn from a symmetric Dirichlet law.

    **Arguments**

    - `clients`: with classes for targets.
    - `key`: the randomness of $q$.
    - `mean`: $\bar p$; `lowest`: $p_{\min}$; `concentration`: of the Dirichlet law.

    **Returns** the chances, shape `(clients,)`, for `Bernoulli`, `Markov` or `Cyclic`.

    **Source**: S. Wang, M. Ji, 2306.03401, the experiments.
    """
    validation.real("mean", mean, low=0.0, high=1.0, open_low=True)
    validation.real("lowest", lowest, low=0.0, high=1.0, open_low=True)
    validation.positive("concentration", concentration)
    if clients.targets.ndim != 2:
        raise ValueError(f"clients: expected a class for each sample, got targets of shape {clients.targets.shape}")
    samples = jnp.arange(clients.targets.shape[1]) < clients.sizes[:, None]
    kinds = jnp.unique(clients.targets)
    held = jnp.count_nonzero((clients.targets[..., None] == kinds) & samples[..., None], axis=1)
    preference = jax.random.dirichlet(key, jnp.full(kinds.size, concentration))
    return jnp.clip(mean * kinds.size * (held / clients.sizes[:, None]) @ preference, lowest, 1.0)
