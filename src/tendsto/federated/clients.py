"""A data set dealt out to clients, and the learning problem on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PyTree
from numpy.typing import ArrayLike

from tendsto import validation
from tendsto.federated.cohort import Cohort
from tendsto.federated.federation import Federation, client_weights, given_weights
from tendsto.federated.network import Network
from tendsto.federated.participation import Everyone, Participation
from tendsto.federated.partition import IID, Partition

Predict = Callable[[Any, Array], Array]
"""From parameters (any pytree) and a batch of features to a batch of predictions."""
Loss = Callable[[Array, Array], Array]
"""From a batch of predictions and a batch of targets to a loss for each sample."""


class Clients(eqx.Module):
    """The samples of every client. Unequal numbers are padded to the largest; the padding is never read as data.

    **Arguments**

    - `features`: shape `(clients, largest, …)`.
    - `targets`: shape `(clients, largest, …)`.
    - `sizes`: how many rows of each client are samples, shape `(clients,)`.
    - `numbers`: where some of all clients are listed, which ones these are; otherwise `None`.
    """

    features: Float[Array, "clients largest *sample"]
    targets: Array
    sizes: Int[Array, " clients"]
    numbers: Int[Array, " clients"] | None = None

    def __len__(self) -> int:
        return int(self.sizes.shape[0])

    @property
    def by_size(self) -> Float[Array, " clients"]:
        """Each client's share of all samples: weights for the loss averaged over samples."""
        return self.sizes / self.sizes.sum()

    def problem(
        self,
        predict: Predict,
        loss: Loss = optax.softmax_cross_entropy_with_integer_labels,
        *,
        batch: int | None = None,
        penalty: Callable[[Any], Float[Array, ""]] | None = None,
        weights: ArrayLike | None = None,
        participation: Participation | None = None,
        network: Network | None = None,
        block: int | None = None,
    ) -> Learning:
        r"""Learn parameters $x$ with $f_i(x) = \frac{1}{m_i} \sum_j \ell(h_x(a_{ij}), b_{ij}) + r(x)$.

        **Arguments**

        - `predict`: $h$, from parameters and features to predictions; any JAX function, `tt.federated.linear` for one.
        - `loss`: $\ell$, a loss for each sample; by default the cross-entropy of class scores.
        - `batch`: the size of the batches of a stochastic gradient, drawn with replacement; by default all samples.
        - `penalty`: $r$, by default zero.
        - `weights`: $p_i$, by default equal; `clients.by_size` weighs every sample alike.
        - `participation`, `network`, `block`: see `Federation`.
        """
        if batch is not None:
            validation.integer("batch", batch, low=1)
        return Learning(
            samples=self,
            predict=predict,
            loss=loss,
            penalty=penalty,
            batch=batch,
            weights=client_weights(weights, len(self)),
            participation=participation or Everyone(),
            network=network or Network(),
            block=block,
        )


def split(
    data: tuple[ArrayLike, ArrayLike],
    clients: int,
    partition: Partition | None = None,
    *,
    labels: Sequence[Any] | None = None,
    seed: int = 0,
) -> Clients:
    """Deal a data set out to clients.

    **Arguments**

    - `data`: features, shape `(n, …)`, and targets, shape `(n, …)`; a `problems.Dataset` or any pair of arrays.
    - `clients`: how many.
    - `partition`: by which rule; by default in equal parts of a random order.
    - `labels`: what the rule goes by, one for each sample; by default the targets.
    - `seed`: of the rule's randomness.

    **Raises** `ValueError` if the partition cannot be met, or the arguments do not fit together.
    """
    validation.integer("clients", clients, low=1)
    features = np.asarray(validation.finite_array("features", data[0]))
    targets = np.asarray(data[1])
    if len(features) != len(targets):
        raise ValueError(f"data: {len(features)} rows of features, but {len(targets)} targets")
    guide = targets if labels is None else np.asarray(labels)
    if guide.shape != (len(targets),):
        raise ValueError(f"labels: expected one for each of {len(targets)} samples, got shape {guide.shape}")
    shares = (partition or IID()).deal(guide, clients, np.random.default_rng(seed))
    largest = max(map(len, shares))
    # Padding repeats a client's first sample, so that whatever is computed from it is finite.
    rows = np.stack([np.resize(np.append(share, np.full(largest - len(share), share[0])), largest) for share in shares])
    sizes = np.asarray([len(share) for share in shares])
    return Clients(jnp.asarray(features[rows]), jnp.asarray(targets[rows]), jnp.asarray(sizes))


class Learning(Federation):
    r"""$f_i(x) = \frac{1}{m_i} \sum_{j=1}^{m_i} \ell(h_x(a_{ij}), b_{ij}) + r(x)$; made by `Clients.problem`."""

    samples: Clients
    predict: Predict = eqx.field(static=True)
    loss: Loss = eqx.field(static=True)
    penalty: Callable[[Any], Float[Array, ""]] | None = eqx.field(static=True)
    batch: int | None = eqx.field(static=True)
    weights: Float[Array, " clients"] = eqx.field(default=None, converter=given_weights)
    participation: Participation = Everyone()
    network: Network = Network()
    block: int | None = eqx.field(static=True, default=None)

    @property
    def clients(self) -> int:
        """$n$."""
        return len(self.samples)

    @property
    def data(self) -> Clients:
        """The clients' samples."""
        return self.samples

    def rows(self, cohort: Cohort) -> Clients:
        """The members' samples, and where they stand among all samples."""
        rows = cohort.take(self.samples)
        return rows if cohort.indices is None else dataclasses.replace(rows, numbers=cohort.indices)

    def _penalised(self, losses: Float[Array, " rows"], weights: Float[Array, " rows"], x: Any) -> Float[Array, ""]:
        mean = jnp.dot(losses, weights.astype(losses.dtype))
        return mean if self.penalty is None else mean + self.penalty(x)

    def client_loss(self, data: Clients, x: PyTree[Array]) -> Float[Array, ""]:
        """The mean over the client's samples."""
        losses = self.loss(self.predict(x, data.features), data.targets)
        weights = (jnp.arange(losses.shape[0]) < data.sizes) / data.sizes
        return self._penalised(losses, weights, x)

    def batch_loss(self, features: Array, targets: Array, x: PyTree[Array]) -> Float[Array, ""]:
        """The mean over a batch of samples."""
        losses = self.loss(self.predict(x, features), targets)
        return self._penalised(losses, jnp.full(losses.shape[0], 1.0 / losses.shape[0]), x)

    def draw(self, data: Clients, key: Key[Array, ""], size: int) -> tuple[Array, Array]:
        """A batch of one client's samples, drawn uniformly with replacement."""
        rows = jax.random.randint(key, (size,), 0, data.sizes)
        if data.numbers is None:
            return data.features[rows], data.targets[rows]
        # Straight from all samples: a batch is gathered without the rest of the client's samples.
        return self.samples.features[data.numbers, rows], self.samples.targets[data.numbers, rows]

    def client_stochastic_gradient(self, data: Clients, x: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        """The gradient on a batch; equal keys draw equal batches."""
        if self.batch is None:
            return self.client_gradient(data, x)
        return jax.grad(self.batch_loss, argnums=2)(*self.draw(data, key, self.batch), x)

    @property
    def client_gradient_cost(self) -> Float[Array, " clients"]:
        """As many component gradients as the client has samples."""
        return self.samples.sizes.astype(float)

    @property
    def client_stochastic_gradient_cost(self) -> Float[Array, " clients"]:
        """As many component gradients as a batch has samples."""
        return self.client_gradient_cost if self.batch is None else jnp.full(self.clients, float(self.batch))

    def accuracy(self, x: PyTree[Array]) -> Float[Array, ""]:
        """The share of all clients' samples whose largest score is that of their class."""
        right = self.map(lambda data: self._right(data, x))
        return jnp.sum(right) / jnp.sum(self.samples.sizes)

    def _right(self, data: Clients, x: PyTree[Array]) -> Int[Array, ""]:
        hits = jnp.argmax(self.predict(x, data.features), axis=-1) == data.targets
        return jnp.count_nonzero(hits & (jnp.arange(hits.shape[0]) < data.sizes))


def accuracy_on(data: tuple[ArrayLike, ArrayLike]) -> Callable[[Learning, Any], Float[Array, ""]]:
    """A metric for `run`'s `record`: the share of held-out samples that are classified right.

    **Arguments**: `data`, features and classes.
    """
    features, targets = jnp.asarray(data[0]), jnp.asarray(data[1])

    def accuracy(problem: Learning, state: Any) -> Float[Array, ""]:
        return jnp.mean(jnp.argmax(problem.predict(state.x, features), axis=-1) == targets, dtype=float)

    return accuracy
