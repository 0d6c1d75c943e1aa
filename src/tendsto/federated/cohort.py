"""The clients that take part in a round, and what is taken from all clients' memory for them."""

from __future__ import annotations

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

T = TypeVar("T", bound=PyTree)


class Cohort(eqx.Module):
    """The clients of one round: which ones are computed, and which of these are truly there.

    A participation model that fixes the number of participants gives their indices, so that nobody else is computed.
    One that does not lists everybody and marks those who are there.

    **Arguments**

    - `active`: whether each member is there, shape `(members,)`.
    - `indices`: the members' numbers, all different, shape `(members,)`; `None` for all clients in their order.
    """

    active: Bool[Array, " members"]
    indices: Int[Array, " members"] | None = None

    @classmethod
    def everyone(cls, clients: int) -> Cohort:
        """All of the clients."""
        return cls(jnp.ones(clients, bool))

    @property
    def size(self) -> Int[Array, ""]:
        """How many are there."""
        return jnp.count_nonzero(self.active)

    def take(self, per_client: T) -> T:
        """The members' rows of a pytree whose arrays have a row for each client."""
        if self.indices is None:
            return per_client
        rows: T = jax.tree.map(lambda leaf: leaf[self.indices], per_client)
        return rows

    def put(self, per_client: T, rows: T) -> T:
        """`per_client` with the rows of those who are there replaced."""

        def replace(old: Array, new: Array) -> Array:
            if self.indices is None:
                return jnp.where(_along(self.active, new), new, old)
            # An absent member writes beyond the end, where a write is dropped.
            return old.at[jnp.where(self.active, self.indices, len(old))].set(new, mode="drop")

        replaced: T = jax.tree.map(replace, per_client, rows)
        return replaced

    def present(self, rows: T) -> T:
        """`rows` with zeros for those who are not there, whatever stood there (NaN too)."""
        shown: T = jax.tree.map(lambda leaf: jnp.where(_along(self.active, leaf), leaf, 0), rows)
        return shown

    def weighted_sum(self, weights: Float[Array, " members"], rows: PyTree[Array]) -> PyTree[Array]:
        r"""$\sum_{i \in S} w_i v_i$ over those who are there."""
        return jax.tree.map(lambda leaf: jnp.tensordot(weights.astype(leaf.dtype), leaf, 1), self.present(rows))

    def mask(self, clients: int) -> Bool[Array, " clients"]:
        """Whether each of all the clients is there."""
        return self.put(jnp.zeros(clients, bool), self.active)


def _along(mask: Bool[Array, " members"], leaf: Array) -> Bool[Array, "..."]:
    return mask.reshape(mask.shape + (1,) * (leaf.ndim - 1))
