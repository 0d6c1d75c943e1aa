"""Who talks to whom without a server: gossip matrices and how fast they mix."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.csgraph
from jaxtyping import Array, Float, Int, PyTree
from numpy.typing import ArrayLike, NDArray

from tendsto import validation


def _stacked(value: Any) -> Float[Array, "period clients clients"]:
    matrices = validation.finite_array("matrices", value)
    if matrices.ndim not in (2, 3) or matrices.shape[-1] != matrices.shape[-2]:
        raise ValueError(f"matrices: expected shape (period, clients, clients), got {matrices.shape}")
    return matrices.reshape(-1, *matrices.shape[-2:])


class Topology(eqx.Module):
    r"""Gossip matrices $W$: symmetric, non-negative, rows that sum to one; one matrix, or several in turns.

    **Arguments**: `matrices`, shape `(period, clients, clients)` or `(clients, clients)`.

    **Raises** `ValueError` if a matrix is not square, negative, not symmetric or not doubly stochastic, or if the
    clients cannot reach each other over the period.
    """

    matrices: Float[Array, "period clients clients"] = eqx.field(converter=_stacked)

    def __check_init__(self) -> None:
        matrices = np.asarray(self.matrices)
        validation.real("matrices", matrices, low=0.0, high=1.0 + 1e-9)
        if not np.allclose(matrices.sum(axis=2), 1.0, atol=1e-9):
            raise ValueError(f"matrices: each row must sum to one, got {matrices.sum(axis=2).ravel()[:5]}")
        if not np.allclose(matrices, matrices.transpose(0, 2, 1), atol=1e-9):
            raise ValueError("matrices: must be symmetric, or the clients' mean would drift")
        if scipy.sparse.csgraph.connected_components(matrices.sum(axis=0), directed=False)[0] > 1:
            raise ValueError("matrices: the topology is disconnected; some clients never hear of others")

    @property
    def clients(self) -> int:
        """How many clients."""
        return int(self.matrices.shape[1])

    @property
    def degree(self) -> Float[Array, ""]:
        """How many neighbours a client sends to in a gossip step, on average."""
        return jnp.mean(jax.vmap(self.degrees)(jnp.arange(len(self.matrices))))

    def degrees(self, step: Int[Array, ""] | int = 0) -> Float[Array, " clients"]:
        """How many neighbours each client sends to; `step` says which matrix's turn it is."""
        links = (self.matrices[step % len(self.matrices)] > 0) & ~jnp.eye(self.clients, dtype=bool)
        return jnp.sum(links, axis=1, dtype=float)

    @property
    def mixing(self) -> float:
        r"""How much disagreement a gossip step leaves; of several matrices, the geometric mean over a period.

        $\lambda = \max(|\lambda_2|, |\lambda_n|) = \lVert W - \tfrac1n 1 1^\top\rVert_2$.
        """
        mean = np.full((self.clients, self.clients), 1.0 / self.clients)
        product = np.eye(self.clients)
        for matrix in np.asarray(self.matrices):
            product = (matrix - mean) @ product
        return float(np.linalg.norm(product, 2) ** (1.0 / len(self.matrices)))

    @property
    def spectral_gap(self) -> float:
        r"""$1 - \lambda$."""
        return 1.0 - self.mixing

    def gossip(self, per_client: PyTree[Array], step: Int[Array, ""] | int = 0) -> PyTree[Array]:
        r"""$X \mapsto W X$ on arrays with a row for each client; `step` says which matrix's turn it is."""
        matrix = self.matrices[step % len(self.matrices)]
        return jax.tree.map(lambda leaf: jnp.tensordot(matrix.astype(leaf.dtype), leaf, 1), per_client)

    @classmethod
    def metropolis(cls, adjacency: ArrayLike) -> Topology:
        r"""Metropolis-Hastings weights $w_{ij} = 1/(1 + \max(\deg i, \deg j))$ on the links of a graph.

        **Arguments**: `adjacency`, symmetric, shape `(clients, clients)`; non-zero entries off the diagonal are links
        (`networkx.to_numpy_array(graph)`).
        """
        links = (np.asarray(adjacency) != 0).astype(float)
        if links.ndim != 2 or links.shape[0] != links.shape[1] or (links != links.T).any():
            raise ValueError(f"adjacency: expected a symmetric matrix, got shape {links.shape}")
        np.fill_diagonal(links, 0.0)
        degree = links.sum(axis=1)
        weights = links / (1.0 + np.maximum.outer(degree, degree))
        return cls(jnp.asarray(weights + np.diag(1.0 - weights.sum(axis=1))))

    @classmethod
    def complete(cls, clients: int) -> Topology:
        r"""Everyone with everyone: $W = \tfrac1n 1 1^\top$, $\lambda = 0$."""
        validation.integer("clients", clients, low=1)
        return cls(jnp.asarray(np.full((clients, clients), 1.0 / clients)))

    @classmethod
    def ring(cls, clients: int) -> Topology:
        r"""A third each from itself and both neighbours: $\lambda = (1 + 2\cos(2\pi/n))/3$ for even $n$."""
        validation.integer("clients", clients, low=3)
        return cls(jnp.asarray(_circulant(clients, (0, 1, -1))))

    @classmethod
    def torus(cls, rows: int, columns: int) -> Topology:
        """A fifth each from itself and the four neighbours on a grid that closes on itself."""
        validation.integer("rows", rows, low=3)
        validation.integer("columns", columns, low=3)
        shifts = [np.kron(np.roll(np.eye(rows), by, axis=1), np.eye(columns)) for by in (1, -1)]
        shifts += [np.kron(np.eye(rows), np.roll(np.eye(columns), by, axis=1)) for by in (1, -1)]
        return cls(jnp.asarray((np.eye(rows * columns) + sum(shifts)) / 5.0))

    @classmethod
    def exponential(cls, clients: int) -> Topology:
        r"""Neighbours at distances $1, 2, 4, \dots$ on a ring, both ways, with equal weights."""
        validation.integer("clients", clients, low=2)
        hops = {0}
        for power in range(max(1, (clients - 1).bit_length())):
            hops |= {2**power % clients, -(2**power) % clients}
        return cls(jnp.asarray(_circulant(clients, sorted(hops))))

    @classmethod
    def one_peer_exponential(cls, clients: int) -> Topology:
        r"""In turns: step $k$ averages pairs along one side of a hypercube; after $\log_2 n$ steps all agree exactly.

        **Raises** `ValueError` unless the number of clients is a power of two.
        """
        validation.integer("clients", clients, low=2)
        if clients & (clients - 1):
            raise ValueError(f"clients: must be a power of two, got {clients}")
        numbers = np.arange(clients)
        rounds = [np.eye(clients)[numbers ^ (1 << bit)] for bit in range(clients.bit_length() - 1)]
        return cls(jnp.asarray(np.stack([(np.eye(clients) + swap) / 2.0 for swap in rounds])))

    @classmethod
    def random_matchings(cls, clients: int, partners: int, *, period: int = 64, seed: int = 0) -> Topology:
        r"""In turns, neighbours drawn afresh: $W = (I + P_1 + \dots + P_k)/(k+1)$ with random perfect matchings $P_j$.

        With an odd number of clients each matching leaves one alone.

        **Arguments**: `partners`, $k$; `period`, after how many steps the drawn matrices come again; `seed`.
        """
        validation.integer("clients", clients, low=2)
        validation.integer("partners", partners, low=1)
        validation.integer("period", period, low=1)
        generator = np.random.default_rng(seed)

        def matching() -> NDArray[np.float64]:
            order = generator.permutation(clients)
            partner = np.arange(clients)
            left, right = order[0 : clients - 1 : 2], order[1::2]
            partner[left], partner[right] = right, left
            return np.eye(clients)[partner]

        drawn = [sum((matching() for _ in range(partners)), np.eye(clients)) for _ in range(period)]
        return cls(jnp.asarray(np.stack(drawn) / (partners + 1.0)))


def _circulant(clients: int, hops: Any) -> NDArray[np.float64]:
    return np.asarray(sum(np.roll(np.eye(clients), hop, axis=1) for hop in hops)) / len(hops)
