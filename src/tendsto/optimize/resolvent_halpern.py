"""Halpern iteration on the resolvent of a monotone inclusion, solved inexactly by a variance-reduced inner method."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import optax.tree_utils as otu
from jaxtyping import Array, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.iteration import Cost, Method, Scalar, hyperparameter
from tendsto.optimize.halpern import CertifiedState, harmonic_anchor, one_at_a_time, resolve
from tendsto.problems import FiniteSumInclusion, ProximalSubproblem


class ForwardReflectedBackwardState(CertifiedState):
    r"""The iterate $z$ with its element of $G$, the snapshots $w_t$ and $w_{t-1}$, and $F(w_t)$."""

    snapshot: PyTree[Array]
    last_snapshot: PyTree[Array]
    value: PyTree[Array]


class VarianceReducedForwardReflectedBackward(Method[FiniteSumInclusion, ForwardReflectedBackwardState]):
    r"""Forward-reflected-backward steps with a loopless snapshot (VR-FoRB).

    With $\bar z_t = (1 - p) z_t + p w_t$ and one index $q \sim Q$,
    $$z_{t+1} = (I + \tau G)^{-1}\bigl(\bar z_t - \tau [F(w_t) + F_q(z_t) - F_q(w_{t-1})]\bigr), \qquad
    w_{t+1} = \begin{cases} z_{t+1} & \text{with probability } p, \\ w_t & \text{otherwise.} \end{cases}$$

    The reflection is at the *previous* snapshot, which is kept for one step after a renewal. For $G$ with strong
    monotonicity $\mu$ the method converges linearly. A step costs 2 components, and $n$ more when the snapshot is
    renewed.

    **Arguments**

    - `step_size`: $\tau$.
    - `probability`: $p$.

    **Source**: Alacaoglu and Malitsky, "Stochastic variance reduction for variational inequality methods" (2022);
    Algorithm 3 of Cai, Alacaoglu and Diakonikolas (2023).
    """

    step_size: Scalar = hyperparameter()
    probability: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)
        validation.real("probability", self.probability, low=0.0, high=1.0, open_low=True)

    @classmethod
    def theory(cls, problem: FiniteSumInclusion) -> VarianceReducedForwardReflectedBackward:
        r"""$p = 1/n$ and $\tau = \sqrt p / (2 L)$, with $L$ the average Lipschitz constant.

        **Raises** `ValueError` if the problem does not know $L$.
        """
        p = 1.0 / problem.components
        return cls(math.sqrt(p) / (2.0 * problem.constant("average_lipschitz")), p)

    def init(
        self, problem: FiniteSumInclusion, x0: PyTree[Array], key: Key[Array, ""]
    ) -> ForwardReflectedBackwardState:
        r"""Start at $(I + \tau G)^{-1}(x_0)$, with one full evaluation."""
        del key
        x, element = resolve(problem, x0, self.step_size)
        return self._begin(problem, x, element, Cost(proximal_steps=1))

    def begin(self, problem: FiniteSumInclusion, x0: PyTree[Array]) -> ForwardReflectedBackwardState:
        """Start exactly at `x0`, without a resolvent; no element of $G$ is known there."""
        return self._begin(problem, x0, otu.tree_full_like(x0, jnp.inf), Cost())

    def _begin(
        self, problem: FiniteSumInclusion, x: PyTree[Array], element: PyTree[Array], cost: Cost
    ) -> ForwardReflectedBackwardState:
        spent = cost + Cost(gradients=problem.operator_cost)
        return ForwardReflectedBackwardState(x, spent, element, x, x, problem.operator(x))

    def step(
        self, problem: FiniteSumInclusion, state: ForwardReflectedBackwardState, key: Key[Array, ""]
    ) -> ForwardReflectedBackwardState:
        """One component at two points, one resolvent, and a full evaluation when the coin says so."""
        index_key, coin_key = jax.random.split(key)
        index = problem.sample(index_key, 1)

        def forward(z: Array, w: Array, value: Array, here: Array, there: Array) -> Array:
            mean = z + self.probability * (w - z)
            return mean - self.step_size * (value + here[0] - there[0])

        moved = jax.tree.map(
            forward,
            state.x,
            state.snapshot,
            state.value,
            problem.scaled_components(state.x, index),
            problem.scaled_components(state.last_snapshot, index),
        )
        x, element = resolve(problem, moved, self.step_size)
        renew = jax.random.uniform(coin_key) < self.probability
        snapshot, value = one_at_a_time(_renewed, problem, renew, x, state.snapshot, state.value)
        spent = Cost(gradients=2 + problem.operator_cost * renew, proximal_steps=1)
        return ForwardReflectedBackwardState(x, state.cost + spent, element, snapshot, state.snapshot, value)


def _renewed(
    problem: FiniteSumInclusion,
    renew: Array,
    x: PyTree[Array],
    snapshot: PyTree[Array],
    value: PyTree[Array],
) -> tuple[PyTree[Array], PyTree[Array]]:
    pair: tuple[PyTree[Array], PyTree[Array]] = jax.lax.cond(
        renew, lambda: (x, problem.operator(x)), lambda: (snapshot, value)
    )
    return pair


class ResolventHalpernState(CertifiedState):
    r"""The iterate with its element of $G$, the anchor $u_0$, the centre $u_k$ and the number of steps taken."""

    anchor: PyTree[Array]
    centre: PyTree[Array]
    count: Int[Array, ""]


class ResolventHalpern(Method[FiniteSumInclusion, ResolventHalpernState]):
    r"""Halpern iteration on the resolvent of a monotone inclusion, each step solved by an inner method.

    $$x_k \approx (I + \eta (F + G))^{-1}(u_k), \qquad u_{k+1} = \lambda_k u_0 + (1 - \lambda_k) x_k, \qquad
    \lambda_k = \tfrac{1}{k+2},$$

    with $u_0 = x_0$. One step is one outer iteration $k$; its inner method takes
    $M_k = \lceil c\, n \log(1.252 (k + 2)) \rceil$ steps from $u_k$, which is enough for
    $\mathbb{E} \lVert x_k - J(u_k) \rVert^2 \le \lVert u_k - J(u_k) \rVert^2 / (k + 2)^8$ without checking. Then
    $\mathbb{E} \lVert u_k - J(u_k) \rVert \le 7 \lVert x_0 - x^\star \rVert / k$, and with `theory` the whole run
    takes $\tilde O(n + \sqrt n L / \epsilon)$ components to a residual $\epsilon$.

    The strongly monotone part of the inner problem is treated by its resolvent (see `ProximalSubproblem`). For
    that form and `theory`, the quantity
    $(1 - \tfrac p2) \lVert z_t - J \rVert^2 + \tfrac32 \lVert w_t - J \rVert^2 + \dots$ contracts by $1 - p/3$ in
    expectation, so that $\mathbb{E} \lVert z_M - J \rVert^2 \le 4.5 (1 - \tfrac{1}{3n})^M \lVert u - J \rVert^2$
    for $n \ge 2$, and $c = 24$ suffices.

    **Arguments**

    - `step_size`: $\eta$.
    - `inner`: the inner method.
    - `inner_factor`: $c$.
    - `anchor_weight`: the schedule $\lambda_k$, by default `harmonic_anchor`.

    **Source**: Cai, Alacaoglu and Diakonikolas (2023), Algorithms 2 and 3.
    """

    step_size: Scalar = hyperparameter()
    inner: VarianceReducedForwardReflectedBackward = eqx.field(kw_only=True)
    inner_factor: Scalar = hyperparameter(default=24.0)
    anchor_weight: optax.Schedule = eqx.field(static=True, default=harmonic_anchor)

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)
        validation.positive("inner_factor", self.inner_factor)

    @classmethod
    def theory(cls, problem: FiniteSumInclusion) -> ResolventHalpern:
        r"""$\eta = \sqrt n / L$, and the inner method with $p = 1/n$ and $\tau = \sqrt p / (2 \eta L) = 1/(2n)$.

        **Raises** `ValueError` if the problem does not know its average Lipschitz constant $L$.
        """
        n = problem.components
        return cls(
            math.sqrt(n) / problem.constant("average_lipschitz"),
            inner=VarianceReducedForwardReflectedBackward(1.0 / (2.0 * n), 1.0 / n),
        )

    def inner_steps(self, problem: FiniteSumInclusion, count: Int[Array, ""]) -> Int[Array, ""]:
        r"""$M_k = \lceil c\, n \log(1.252 (k + 2)) \rceil$ for $k$ = `count`."""
        exact = self.inner_factor * problem.components * jnp.log(1.252 * (count + 2.0))
        return jnp.ceil(exact).astype(jnp.int32)

    def init(self, problem: FiniteSumInclusion, x0: PyTree[Array], key: Key[Array, ""]) -> ResolventHalpernState:
        r"""Start at $(I + \eta G)^{-1}(x_0)$, which stays the anchor."""
        del key
        x, element = resolve(problem, x0, self.step_size)
        return ResolventHalpernState(x, Cost(proximal_steps=1), element, x, x, jnp.asarray(0))

    def step(
        self, problem: FiniteSumInclusion, state: ResolventHalpernState, key: Key[Array, ""]
    ) -> ResolventHalpernState:
        """One outer iteration: the next centre, and all inner steps from it."""
        weight = jnp.where(state.count == 0, 1.0, self.anchor_weight(state.count - 1))

        def mixed(anchor: Array, x: Array) -> Array:
            share = jnp.asarray(weight, x.dtype)
            return share * anchor + (1 - share) * x

        centre = jax.tree.map(mixed, state.anchor, state.x)
        inner = one_at_a_time(
            _solve_inner, self.inner, problem, centre, self.step_size, self.inner_steps(problem, state.count), key
        )
        # The inner element lies in z - u + eta G(z).
        element = jax.tree.map(lambda a, z, u: (a - (z - u)) / self.step_size, inner.element, inner.x, centre)
        return ResolventHalpernState(inner.x, state.cost + inner.cost, element, state.anchor, centre, state.count + 1)


def _solve_inner(
    method: VarianceReducedForwardReflectedBackward,
    problem: FiniteSumInclusion,
    centre: PyTree[Array],
    step_size: Scalar,
    steps: Int[Array, ""],
    key: Key[Array, ""],
) -> ForwardReflectedBackwardState:
    """All inner steps for the resolvent at `centre`, started there."""
    subproblem = ProximalSubproblem(problem, centre, step_size)

    def one_step(number: Int[Array, ""], state: ForwardReflectedBackwardState) -> ForwardReflectedBackwardState:
        return method.step(subproblem, state, jax.random.fold_in(key, number))

    last: ForwardReflectedBackwardState = jax.lax.fori_loop(0, steps, one_step, method.begin(subproblem, centre))
    return last


def resolvent_residual(problem: FiniteSumInclusion, state: ResolventHalpernState) -> Float[Array, ""]:
    r"""$\lVert u_k - x_k \rVert$, which estimates $\lVert u_k - J(u_k) \rVert$; a metric for `run`.

    Divided by the step size, it is the norm of $(u_k - x_k) / \eta$, which would lie in $(F + G)(x_k)$ if the
    inner problem were solved exactly; the certified residual is that of `certify`.
    """
    del problem
    return jnp.asarray(otu.tree_norm(otu.tree_sub(state.centre, state.x)))
