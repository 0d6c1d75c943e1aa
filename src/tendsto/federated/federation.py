"""Problems that are spread over clients, and what all of them answer."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Key, PyTree

from tendsto import validation
from tendsto.federated.cohort import Cohort
from tendsto.federated.network import Network, PerClient
from tendsto.federated.participation import Everyone, Participation
from tendsto.iteration import Cost
from tendsto.problems import Gaussian, Noise, Problem


class Federation(Problem):
    r"""Minimise $f(x) = \sum_{i=1}^n p_i f_i(x)$, where only client $i$ knows $f_i$.

    A subclass gives `clients` ($n$), `data` (what each client knows, a pytree whose arrays have a row for each client)
    and `client_loss`; it may give `client_gradient` and `client_stochastic_gradient`, and constants that it knows:
    `client_smoothness` ($L_i$), `smoothness` ($L$), `strong_convexity` ($\mu$), `minimiser`. As fields with a default
    it may have


    - `weights`: $p_i \ge 0$ with $\sum_i p_i = 1$, shape `(clients,)`.
    - `participation`: who takes part in a round; by default everyone.
    - `network`: how long a round takes; by default no time.
    - `block`: how many clients to compute at once. By default all of them; a smaller number bounds the memory.
    """

    def __check_init__(self) -> None:
        if self.block is not None:
            validation.integer("block", self.block, low=1)
        self.participation.check(self.clients)

    @property
    @abc.abstractmethod
    def clients(self) -> int:
        """$n$, the number of clients."""

    @property
    def weights(self) -> Float[Array, " clients"]:
        """$p_i$."""
        return jnp.full(self.clients, 1.0 / self.clients)

    @property
    def participation(self) -> Participation:
        """Who takes part in a round."""
        return Everyone()

    @property
    def network(self) -> Network:
        """How long a round takes."""
        return Network()

    @property
    def block(self) -> int | None:
        """How many clients to compute at once."""
        return None

    @property
    @abc.abstractmethod
    def data(self) -> PyTree[Array]:
        """What the clients know: arrays with a row for each."""

    @abc.abstractmethod
    def client_loss(self, data: PyTree[Array], x: PyTree[Array]) -> Float[Array, ""]:
        """$f_i(x)$ from one client's row of `data`."""

    def client_gradient(self, data: PyTree[Array], x: PyTree[Array]) -> PyTree[Array]:
        r"""$\nabla f_i(x)$ from one client's row of `data`."""
        return jax.grad(self.client_loss, argnums=1)(data, x)

    def client_stochastic_gradient(self, data: PyTree[Array], x: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        r"""An unbiased estimate of $\nabla f_i(x)$; the exact gradient unless the problem is noisy."""
        del key
        return self.client_gradient(data, x)

    @property
    def client_gradient_cost(self) -> Float[Array, " clients"]:
        """How many component gradients each client's gradient costs."""
        return jnp.ones(self.clients)

    @property
    def client_stochastic_gradient_cost(self) -> Float[Array, " clients"]:
        """How many component gradients each client's stochastic gradient costs."""
        return self.client_gradient_cost

    def map(self, function: Callable[..., Any], *per_member: PyTree[Array], cohort: Cohort | None = None) -> Any:
        """`function(data, *rows)` for every member of `cohort` (by default every client), as arrays with a row each.

        `data` is the member's row of the problem's data, `rows` its rows of each of `per_member`. What all members
        share comes in by closure. Large cohorts are computed `block` clients at a time.
        """
        arguments = (self.data if cohort is None else self.rows(cohort), *per_member)
        members = len(jax.tree.leaves(arguments)[0])
        if self.block is None or self.block >= members:
            return jax.vmap(function)(*arguments)
        return jax.lax.map(lambda rows: function(*rows), arguments, batch_size=self.block)

    def rows(self, cohort: Cohort) -> PyTree[Array]:
        """The members' rows of `data`."""
        return cohort.take(self.data)

    def client_losses(self, x: PyTree[Array]) -> Float[Array, " clients"]:
        """$f_i(x)$ for every client."""
        losses: Float[Array, " clients"] = self.map(lambda data: self.client_loss(data, x))
        return losses

    def client_gradients(self, x: PyTree[Array]) -> PyTree[Array]:
        r"""$\nabla f_i(x)$ for every client, with a leading axis of clients."""
        return self.map(lambda data: self.client_gradient(data, x))

    def smooth_part(self, x: PyTree[Array]) -> Float[Array, ""]:
        r"""$\sum_i p_i f_i(x)$."""
        return jnp.dot(self.weights, self.client_losses(x))

    def gradient(self, x: PyTree[Array]) -> PyTree[Array]:
        r"""$\sum_i p_i \nabla f_i(x)$."""
        return self.average(self.client_gradients(x))

    def stochastic_gradient(self, x: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        """The weighted mean of every client's stochastic gradient, with independent keys."""
        keys = jax.random.split(key, self.clients)
        return self.average(self.map(lambda data, each: self.client_stochastic_gradient(data, x, each), keys))

    @property
    def gradient_cost(self) -> Float[Array, ""]:
        """Every client's."""
        return jnp.sum(self.client_gradient_cost)

    @property
    def stochastic_gradient_cost(self) -> Float[Array, ""]:
        """Every client's."""
        return jnp.sum(self.client_stochastic_gradient_cost)

    def average(self, per_client: PyTree[Array]) -> PyTree[Array]:
        r"""$\sum_i p_i v_i$ of arrays with a row for each client."""
        return jax.tree.map(lambda leaf: jnp.tensordot(self.weights.astype(leaf.dtype), leaf, 1), per_client)

    def cohort_average(self, cohort: Cohort, rows: PyTree[Array]) -> PyTree[Array]:
        r"""$\sum_{i \in S} p_i v_i / \sum_{i \in S} p_i$ over those who are there; zero if nobody is."""
        weights = jnp.where(cohort.active, cohort.take(self.weights), 0.0)
        total = jnp.sum(weights)
        shares: Float[Array, " members"] = weights / jnp.where(total > 0, total, 1.0)
        return cohort.weighted_sum(shares, rows)

    def squared_gradient(self, x: PyTree[Array]) -> Float[Array, ""]:
        r"""$\lVert \nabla f(x) \rVert^2$."""
        return squared_norm(self.gradient(x))

    def round_cost(
        self,
        cohort: Cohort,
        *,
        gradients: PerClient = 0.0,
        bits_up: PerClient = 0.0,
        bits_down: PerClient = 0.0,
    ) -> Cost:
        """What a round costs in which each member of `cohort` computes and sends this much.

        **Arguments**: component gradients, bits sent to the server and bits received; a number or one for each member.
        """

        def total(value: PerClient) -> Float[Array, ""]:
            return jnp.sum(jnp.where(cohort.active, value, 0.0))

        return Cost(
            gradients=total(gradients),
            rounds=1,
            bits_up=total(bits_up),
            bits_down=total(bits_down),
            seconds=self.network.seconds(self.clients, cohort, gradients, bits_up, bits_down),
        )

    def check_start(self, x0: PyTree[Array]) -> None:
        """Refuse a starting point at which the clients' functions cannot be evaluated; raises `ValueError`."""
        try:
            jax.eval_shape(self.client_losses, x0)
        except Exception as error:  # a model may raise whatever it will
            raise ValueError(f"x0: the clients' functions cannot be evaluated there: {error}") from error

    def sharded(self, mesh: Mesh, axis: str = "clients") -> "Federation":
        """The same problem with its clients spread over the devices of a mesh; what is computed stays the same.

        **Arguments**: `mesh`, with an axis of that name whose size divides the number of clients.

        **Raises** `ValueError` if it does not.
        """
        if axis not in mesh.shape or self.clients % mesh.shape[axis]:
            raise ValueError(f"mesh: {self.clients} clients cannot be spread evenly over the axis {axis!r} of {mesh}")
        by_client = NamedSharding(mesh, PartitionSpec(axis))
        everywhere = NamedSharding(mesh, PartitionSpec())
        clients = {id(leaf) for leaf in jax.tree.leaves(self.data)}

        def place(leaf: Any) -> Any:
            if not eqx.is_array(leaf):
                return leaf
            return jax.device_put(leaf, by_client if id(leaf) in clients else everywhere)

        spread: "Federation" = jax.tree.map(place, self)
        return spread


def begin(problem: Any, x0: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
    """The participation process before the first round of a run from `x0`.

    **Raises** `TypeError` for a problem that is not spread over clients, `ValueError` if `x0` does not fit it.
    """
    if not isinstance(problem, Federation):
        raise TypeError(f"problem: expected a Federation, got {type(problem).__name__}")
    problem.check_start(x0)
    return problem.participation.init(problem.clients, key)


def squared_norm(tree: PyTree[Array]) -> Float[Array, ""]:
    """The sum of the squares of all entries of a pytree."""
    return jnp.asarray(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


def client_weights(value: Any, clients: int) -> Float[Array, " clients"]:
    """`value` as weights that sum to one; `None` gives equal ones.

    **Raises** `ValueError` if there is not one for each client, or one is negative, or all are zero.
    """
    if value is None:
        return jnp.full(clients, 1.0 / clients)
    weights = validation.finite_array("weights", value, ndim=1)
    if weights.shape != (clients,):
        raise ValueError(f"weights: expected one for each of {clients} clients, got shape {weights.shape}")
    validation.real("weights", weights, low=0.0)
    if not float(weights.sum()) > 0.0:
        raise ValueError("weights: must not all be zero")
    return weights / weights.sum()


def given_weights(value: Any) -> Any:
    """What a user gives for `weights`: `None`, or one for each client."""
    return None if value is None else validation.finite_array("weights", value, ndim=1)


def _hessians(value: Any) -> Float[Array, "clients d d"]:
    return validation.finite_array("hessians", value, ndim=3)


def _linear(value: Any) -> Float[Array, "clients d"]:
    return validation.finite_array("linear", value, ndim=2)


class FederatedQuadratic(Federation):
    r"""$f_i(x) = \tfrac12 x^\top H_i x - b_i^\top x$, with noise in the gradients if asked for.

    **Arguments**

    - `hessians`: symmetric $H_i$, shape `(clients, d, d)`.
    - `linear`: $b_i$, shape `(clients, d)`.
    - `noise`: what `client_stochastic_gradient` adds to the gradient, independently at each client; by default nothing.
    - `weights`, `participation`, `network`, `block`: see `Federation`.

    **Raises** `ValueError` naming the argument.
    """

    hessians: Float[Array, "clients d d"] = eqx.field(converter=_hessians)
    linear: Float[Array, "clients d"] = eqx.field(converter=_linear)
    noise: Noise | None = None
    weights: Float[Array, " clients"] = eqx.field(default=None, converter=given_weights)
    participation: Participation = Everyone()
    network: Network = Network()
    block: int | None = eqx.field(static=True, default=None)

    def __post_init__(self) -> None:
        clients, rows, columns = self.hessians.shape
        if rows != columns or self.linear.shape != (clients, rows):
            raise ValueError(
                f"linear: expected shape {(clients, rows)} for hessians of shape {self.hessians.shape}, "
                f"got {self.linear.shape}"
            )
        self.weights = client_weights(self.weights, clients)

    @property
    def clients(self) -> int:
        """$n$."""
        return int(self.hessians.shape[0])

    @property
    def data(self) -> tuple[Float[Array, "clients d d"], Float[Array, "clients d"]]:
        """$H_i$ and $b_i$."""
        return self.hessians, self.linear

    def client_loss(self, data: Any, x: Float[Array, " d"]) -> Float[Array, ""]:
        r"""$\tfrac12 x^\top H_i x - b_i^\top x$."""
        hessian, linear = data
        return jnp.asarray(0.5 * x @ hessian @ x - linear @ x)

    def client_gradient(self, data: Any, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """$H_i x - b_i$."""
        hessian, linear = data
        gradient: Float[Array, " d"] = hessian @ x - linear
        return gradient

    def client_stochastic_gradient(self, data: Any, x: Float[Array, " d"], key: Key[Array, ""]) -> Float[Array, " d"]:
        r"""$H_i x - b_i + \xi$."""
        gradient = self.client_gradient(data, x)
        return gradient if self.noise is None else gradient + self.noise(key, gradient)

    @property
    def client_smoothness(self) -> Float[Array, " clients"]:
        """$L_i$, the largest absolute eigenvalue of $H_i$."""
        return jnp.max(jnp.abs(jnp.linalg.eigvalsh(self.hessians)), axis=1)

    @property
    def smoothness(self) -> Float[Array, ""]:
        r"""$L$, the largest absolute eigenvalue of $\sum_i p_i H_i$."""
        return jnp.max(jnp.abs(jnp.linalg.eigvalsh(self.average(self.hessians))))

    @property
    def strong_convexity(self) -> Float[Array, ""]:
        r"""$\mu$, the smallest eigenvalue of $\sum_i p_i H_i$."""
        return jnp.min(jnp.linalg.eigvalsh(self.average(self.hessians)))

    @property
    def minimiser(self) -> Float[Array, " d"]:
        r"""$(\sum_i p_i H_i)^{-1} \sum_i p_i b_i$."""
        return jnp.asarray(jnp.linalg.solve(self.average(self.hessians), self.average(self.linear)))

    def distance(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        r"""$\lVert x - x^\star \rVert$."""
        return jnp.asarray(jnp.linalg.norm(x - self.minimiser))


def random_quadratics(
    key: Key[Array, ""],
    clients: int,
    dimension: int,
    *,
    rows: int | None = None,
    shift: float = 0.1,
    spread: float = 1.0,
    noise: float | None = None,
    **environment: Any,
) -> FederatedQuadratic:
    r"""Heterogeneous random quadratics.

    $H_i = A_i^\top A_i / m + s I$ with $A_i$ Gaussian of $m$ rows, and $b_i \sim \zeta\, \mathcal N(0, I)$.

    **Arguments**

    - `key`, `clients`, `dimension`: the randomness, $n$ and $d$.
    - `rows`: $m$, by default $d$.
    - `shift`: $s \ge 0$, a bound on $\mu$ from below.
    - `spread`: $\zeta \ge 0$, how different the clients' minimisers are.
    - `noise`: $\sigma$ of Gaussian noise in the stochastic gradients, $\mathbb E\lVert\xi\rVert^2 = \sigma^2$.
    - `environment`: `weights`, `participation`, `network`, `block`.
    """
    validation.integer("clients", clients, low=1)
    validation.integer("dimension", dimension, low=1)
    validation.real("shift", shift, low=0.0)
    validation.real("spread", spread, low=0.0)
    rows = dimension if rows is None else rows
    of_factors, of_linear = jax.random.split(key)
    factors = jax.random.normal(of_factors, (clients, rows, dimension))
    hessians = jnp.einsum("nmi,nmj->nij", factors, factors) / rows + shift * jnp.eye(dimension)
    linear = spread * jax.random.normal(of_linear, (clients, dimension))
    return FederatedQuadratic(hessians, linear, noise=None if noise is None else Gaussian(noise), **environment)
