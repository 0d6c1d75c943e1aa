"""Which clients take part in a round: chosen by the server, or by chances nobody knows."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.federated.cohort import Cohort
from tendsto.iteration import Scalar, hyperparameter


class Participation(eqx.Module):
    """A random process of cohorts. Its state is carried from round to round, for those that have a memory."""

    def init(self, clients: int, key: Key[Array, ""]) -> PyTree[Array]:
        """The state before the first round."""
        del clients, key
        return None

    @abc.abstractmethod
    def sample(self, state: PyTree[Array], clients: int, key: Key[Array, ""]) -> tuple[Cohort, PyTree[Array]]:
        """The cohort of the next round and the state after it."""

    @abc.abstractmethod
    def probabilities(self, clients: int) -> Float[Array, " clients"]:
        """In the long run, the share of rounds that each client takes part in."""

    def check(self, clients: int) -> None:
        """Refuse a number of clients that does not fit; raises `ValueError`."""


class Everyone(Participation):
    """All clients in every round."""

    def sample(self, state: PyTree[Array], clients: int, key: Key[Array, ""]) -> tuple[Cohort, PyTree[Array]]:
        """Everyone."""
        del key
        return Cohort.everyone(clients), state

    def probabilities(self, clients: int) -> Float[Array, " clients"]:
        """One."""
        return jnp.ones(clients)


class Uniform(Participation):
    """A fixed number of clients, drawn by the server uniformly without replacement.

    **Arguments**: `size`, how many.
    """

    size: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        validation.integer("size", self.size, low=1)

    def check(self, clients: int) -> None:
        """At most all of them can be drawn."""
        validation.integer("size", self.size, low=1, high=clients)

    def sample(self, state: PyTree[Array], clients: int, key: Key[Array, ""]) -> tuple[Cohort, PyTree[Array]]:
        """A uniformly random subset."""
        if self.size == clients:
            return Cohort.everyone(clients), state
        drawn = jnp.sort(jax.random.choice(key, clients, (self.size,), replace=False))
        return Cohort(jnp.ones(self.size, bool), drawn), state

    def probabilities(self, clients: int) -> Float[Array, " clients"]:
        """$A/N$ for everyone."""
        return jnp.full(clients, self.size / clients)


def _chances(value: Any) -> Float[Array, "*clients"]:
    return jnp.asarray(value, float)


class Bernoulli(Participation):
    r"""Each client is there with its own probability, independently of the others and of other rounds.

    **Arguments**: `probability`, $p_i \in (0, 1]$, one for each client or one for all.
    """

    probability: Float[Array, "*clients"] = eqx.field(converter=_chances)

    def __check_init__(self) -> None:
        validation.real("probability", self.probability, low=0.0, high=1.0, open_low=True)

    def check(self, clients: int) -> None:
        """One probability for each client."""
        _one_for_each("probability", self.probability, clients)

    def sample(self, state: PyTree[Array], clients: int, key: Key[Array, ""]) -> tuple[Cohort, PyTree[Array]]:
        """Independent coins."""
        return Cohort(jax.random.bernoulli(key, self.probabilities(clients))), state

    def probabilities(self, clients: int) -> Float[Array, " clients"]:
        """$p_i$."""
        return jnp.broadcast_to(self.probability, clients)


class Markov(Participation):
    r"""Each client goes on and off as a two-state Markov chain that is on a share $p_i$ of the time.

    From off to on with probability $a$, from on to off with probability $a(1/p_i - 1)$; where the latter would exceed
    one, it is one and $a$ is $p_i/(1 - p_i)$. The first state is drawn from the stationary law.

    **Arguments**

    - `probability`: $p_i \in (0, 1]$, one for each client or one for all.
    - `wake_up`: $a \in (0, 1]$.

    **Source**: the participation patterns of Wang and Ji, 2306.03401.
    """

    probability: Float[Array, "*clients"] = eqx.field(converter=_chances)
    wake_up: Scalar = hyperparameter(default=0.05)

    def __check_init__(self) -> None:
        validation.real("probability", self.probability, low=0.0, high=1.0, open_low=True)
        validation.real("wake_up", self.wake_up, low=0.0, high=1.0, open_low=True)

    def check(self, clients: int) -> None:
        """One probability for each client."""
        _one_for_each("probability", self.probability, clients)

    def init(self, clients: int, key: Key[Array, ""]) -> Bool[Array, " clients"]:
        """Drawn from the stationary law."""
        return jax.random.bernoulli(key, self.probabilities(clients))

    def sample(self, state: PyTree[Array], clients: int, key: Key[Array, ""]) -> tuple[Cohort, PyTree[Array]]:
        """The clients that are on now; then every chain moves."""
        odds_against = 1.0 / self.probabilities(clients) - 1.0
        fall_asleep = jnp.minimum(self.wake_up * odds_against, 1.0)
        wake_up = jnp.minimum(self.wake_up, 1.0 / odds_against)
        return Cohort(state), jax.random.bernoulli(key, jnp.where(state, 1.0 - fall_asleep, wake_up))

    def probabilities(self, clients: int) -> Float[Array, " clients"]:
        """$p_i$."""
        return jnp.broadcast_to(self.probability, clients)


class Cyclic(Participation):
    r"""Each client is there for a run of rounds, then away for a run, over and over.

    Of $c$ rounds it is there $\max(1, [c p_i])$, then away $\max(1, c - \text{those})$; it begins away, at a uniformly
    random place of its absence.

    **Arguments**

    - `probability`: $p_i \in (0, 1]$, one for each client or one for all.
    - `period`: $c$.

    **Source**: the participation patterns of Wang and Ji, 2306.03401.
    """

    probability: Float[Array, "*clients"] = eqx.field(converter=_chances)
    period: int = eqx.field(static=True, default=100)

    def __check_init__(self) -> None:
        validation.real("probability", self.probability, low=0.0, high=1.0, open_low=True)
        validation.integer("period", self.period, low=2)

    def check(self, clients: int) -> None:
        """One probability for each client."""
        _one_for_each("probability", self.probability, clients)

    def _spells(self, clients: int) -> tuple[Int[Array, " clients"], Int[Array, " clients"]]:
        share = self.period * jnp.broadcast_to(self.probability, clients)
        present = jnp.maximum(1, jnp.rint(share).astype(int))
        return present, jnp.maximum(1, self.period - present)

    def init(self, clients: int, key: Key[Array, ""]) -> Int[Array, " clients"]:
        """Rounds until each client comes next."""
        _, absent = self._spells(clients)
        return jax.random.randint(key, (clients,), 1, absent + 1)

    def sample(self, state: PyTree[Array], clients: int, key: Key[Array, ""]) -> tuple[Cohort, PyTree[Array]]:
        """Positive: rounds of absence that are left; otherwise present, since that many rounds."""
        del key
        present, absent = self._spells(clients)
        here = state <= 0
        left = state - 1
        return Cohort(here), jnp.where(left <= -present, absent, left)

    def probabilities(self, clients: int) -> Float[Array, " clients"]:
        """The share of a cycle that each client is there."""
        present, absent = self._spells(clients)
        return present / (present + absent)


class Recorded(Participation):
    """A recorded history: row $t$ says who is there in round $t$; after the last row it starts again.

    **Arguments**: `history`, booleans of shape `(rounds, clients)`.
    """

    history: Bool[Array, "rounds clients"] = eqx.field(converter=lambda value: jnp.asarray(value, bool))

    def __check_init__(self) -> None:
        if self.history.ndim != 2 or self.history.shape[0] == 0:
            raise ValueError(f"history: expected shape (rounds, clients), got {self.history.shape}")

    @classmethod
    def from_csv(cls, path: str) -> Recorded:
        """Read a table with a row for each round and a column of 0 and 1 for each client, with a header line.

        **Raises** `ValueError` if an entry is neither 0 nor 1.
        """
        table = pd.read_csv(path)
        if not table.isin([0, 1]).to_numpy().all():
            raise ValueError(f"path: {path} must hold only 0 and 1 below its header")
        return cls(jnp.asarray(table.to_numpy(dtype=bool)))

    def check(self, clients: int) -> None:
        """One column for each client."""
        if self.history.shape[1] != clients:
            raise ValueError(f"history: expected {clients} columns, one for each client, got {self.history.shape[1]}")

    def init(self, clients: int, key: Key[Array, ""]) -> Int[Array, ""]:
        """The first row."""
        del clients, key
        return jnp.zeros((), int)

    def sample(self, state: PyTree[Array], clients: int, key: Key[Array, ""]) -> tuple[Cohort, PyTree[Array]]:
        """The next row."""
        del clients, key
        return Cohort(self.history[state]), (state + 1) % len(self.history)

    def probabilities(self, clients: int) -> Float[Array, " clients"]:
        """The share of rows."""
        del clients
        return jnp.mean(self.history, axis=0, dtype=float)


def _one_for_each(name: str, value: Float[Array, "*clients"], clients: int) -> None:
    if np.shape(value) not in ((), (clients,)):
        raise ValueError(f"{name}: expected a number or one for each of {clients} clients, got shape {np.shape(value)}")
