"""The same objective with every client replaced by copies of itself."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from tendsto import validation
from tendsto.federated.federation import Federation
from tendsto.federated.participation import Everyone


def _counts(value: Any) -> tuple[int, ...]:
    return tuple(np.asarray(value).tolist())


class Cloned(Federation):
    r"""Client $i$ becomes $N_i$ clients with the function $\frac{N}{n N_i} f_i$, $N = \sum_i N_i$; $f$ stays the same.

    With `clone_counts` the quadratic mean of the clones' smoothness constants comes close to the arithmetic mean of the
    clients'. Clones send the same messages unless their compressor is random: a thought experiment, which this runs.

    **Arguments**

    - `problem`: with equal weights and everyone taking part.
    - `counts`: $N_i \ge 1$, shape `(clients,)`.

    **Raises** `ValueError` naming the argument.

    **Source**: P. Richtárik, E. Gasanov, K. Burlachenko, *Error Feedback Reloaded*, 2402.10774, Theorem 2.
    """

    problem: Any
    counts: tuple[int, ...] = eqx.field(static=True, converter=_counts)

    def __check_init__(self) -> None:
        if len(self.counts) != self.problem.clients:
            raise ValueError(f"counts: expected one for each of {self.problem.clients} clients, got {len(self.counts)}")
        for count in self.counts:
            validation.integer("counts", count, low=1)
        if not np.allclose(self.problem.weights, 1.0 / self.problem.clients, rtol=1e-6):
            raise ValueError("problem: only clients of equal weights can be cloned")
        if not isinstance(self.problem.participation, Everyone):
            raise ValueError("problem: clients can be cloned only where everyone takes part")

    @property
    def clients(self) -> int:
        """$N$."""
        return sum(self.counts)

    @property
    def block(self) -> int | None:
        """As many at once as of the clients that are cloned."""
        return self.problem.block  # type: ignore[no-any-return]

    def _repeat(self, per_client: PyTree[Array]) -> PyTree[Array]:
        times = np.asarray(self.counts)
        return jax.tree.map(lambda leaf: jnp.repeat(leaf, times, axis=0, total_repeat_length=self.clients), per_client)

    @property
    def scales(self) -> Float[Array, " clones"]:
        """$N/(n N_i)$ of every clone."""
        counts = jnp.asarray(self.counts, float)
        return self._repeat(self.clients / (len(self.counts) * counts))  # type: ignore[no-any-return]

    @property
    def data(self) -> tuple[PyTree[Array], Float[Array, " clones"]]:
        """The client's data and the factor of its function."""
        return self._repeat(self.problem.data), self.scales

    def client_loss(self, data: Any, x: PyTree[Array]) -> Float[Array, ""]:
        r"""$\frac{N}{n N_i} f_i(x)$."""
        original, scale = data
        return jnp.asarray(scale * self.problem.client_loss(original, x))

    def client_stochastic_gradient(self, data: Any, x: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        """The client's own, scaled; clones draw independently."""
        original, scale = data
        gradient = self.problem.client_stochastic_gradient(original, x, key)
        return jax.tree.map(lambda leaf: scale.astype(leaf.dtype) * leaf, gradient)

    @property
    def client_smoothness(self) -> Float[Array, " clones"]:
        r"""$\frac{N}{n N_i} L_i$."""
        return jnp.asarray(self.scales * self._repeat(self.problem.client_smoothness))

    @property
    def smoothness(self) -> Float[Array, ""]:
        """$L$, as without clones."""
        return jnp.asarray(self.problem.smoothness)

    @property
    def minimiser(self) -> PyTree[Array]:
        """As without clones."""
        return self.problem.minimiser
