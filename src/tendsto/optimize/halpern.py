"""Halpern iteration for monotone inclusions: deterministic, and with a variance-reduced operator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import optax.tree_utils as otu
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.iteration import Cost, Method, Scalar, State, hyperparameter
from tendsto.problems import Certificate, FiniteSumInclusion, Inclusion

T = TypeVar("T")


class CertifiedState(State):
    """A state that proves how good its iterate is.

    **Arguments**

    - `x`, `cost`: as in every state.
    - `element`: $g \\in G(x)$.
    """

    element: PyTree[Array]


def certify(problem: Inclusion, state: CertifiedState) -> Certificate:
    r"""The certificate of a state's iterate, with its exact residual $\lVert F(x) + g \rVert$.

    **Arguments**: the inclusion, and a state of a method that keeps $g \in G(x)$.

    **Returns** a `Certificate` at `state.x`. It costs one full evaluation of $F$, which no state counts.
    """
    residual = otu.tree_norm(otu.tree_add(problem.operator(state.x), state.element))
    return Certificate(state.x, state.element, residual)


def certified_residual(problem: Inclusion, state: CertifiedState) -> Float[Array, ""]:
    r"""$\lVert F(x) + g \rVert$ at a state's iterate: the `measure` for `solve`, or a metric for `run`."""
    return certify(problem, state).residual


def resolve(problem: Inclusion, v: PyTree[Array], step_size: Scalar) -> tuple[PyTree[Array], PyTree[Array]]:
    r"""$x = (I + \eta G)^{-1}(v)$ and the element $g = (v - x) / \eta$ of $G(x)$ that comes with it."""
    x = problem.resolvent(v, step_size)
    return x, jax.tree.map(lambda a, b: (a - b) / step_size, v, x)


def harmonic_anchor(count: Int[Array, ""]) -> Float[Array, ""]:
    r"""The classical weights of the anchor, $\lambda_k = 1 / (k + 2)$."""
    return 1.0 / (count + 2.0)


class HalpernState(State):
    """The iterate, the anchor $x_0$ and the number of steps taken."""

    anchor: PyTree[Array]
    count: Int[Array, ""]


class Halpern(Method[Inclusion, HalpernState]):
    r"""Halpern iteration of the forward-backward map $T = (I + \eta G)^{-1}(I - \eta F)$.

    $$x_{k+1} = \lambda_k x_0 + (1 - \lambda_k)\, T x_k, \qquad \lambda_k = \tfrac{1}{k+2}.$$

    If $T$ is nonexpansive (which $\eta \le 2\beta$ gives for a $\beta$-cocoercive $F$), then
    $\lVert x_k - T x_k \rVert \le 2 \lVert x_0 - x^\star \rVert / (k + 1)$, and no smaller constant will do.
    A step costs one full evaluation.

    **Arguments**

    - `step_size`: $\eta$.
    - `anchor_weight`: the schedule $\lambda_k$, by default `harmonic_anchor`.

    **Source**: Halpern (1967); the constant is that of Lieder, "On the convergence rate of the Halpern-iteration"
    (2021), Theorem 2.1.
    """

    step_size: Scalar = hyperparameter()
    anchor_weight: optax.Schedule = eqx.field(static=True, default=harmonic_anchor)

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)

    @classmethod
    def theory(cls, problem: Inclusion) -> Halpern:
        r"""The largest step for which the map is nonexpansive, $\eta = 2\beta$.

        **Raises** `ValueError` if the problem does not know its cocoercivity.
        """
        return cls(2.0 * problem.constant("cocoercivity"))

    def init(self, problem: Inclusion, x0: PyTree[Array], key: Key[Array, ""]) -> HalpernState:
        """Start at `x0`, which stays the anchor."""
        del problem, key
        return HalpernState(x0, Cost(), x0, jnp.asarray(0))

    def step(self, problem: Inclusion, state: HalpernState, key: Key[Array, ""]) -> HalpernState:
        """One application of the map, pulled back towards the anchor."""
        del key
        weight = self.anchor_weight(state.count)
        mapped = problem.forward_backward(state.x, self.step_size)
        x = jax.tree.map(lambda a, b: _mix(weight, a, b), state.anchor, mapped)
        spent = Cost(gradients=problem.operator_cost, proximal_steps=1)
        return HalpernState(x, state.cost + spent, state.anchor, state.count + 1)


class VarianceReducedHalpernState(CertifiedState):
    r"""The iterate with its element of $G$, the anchor, the estimate of $F(x)$ and the number of steps taken."""

    anchor: PyTree[Array]
    estimate: PyTree[Array]
    count: Int[Array, ""]


class VarianceReducedHalpern(Method[FiniteSumInclusion, VarianceReducedHalpernState]):
    r"""Anchored forward-backward steps on a recursive estimate of the operator (Halpern with PAGE).

    $$v_k = \lambda_k x_0 + (1 - \lambda_k) x_k - \eta \tilde F_k, \qquad x_{k+1} = (I + \eta G)^{-1}(v_k), \qquad
    g_{k+1} = (v_k - x_{k+1}) / \eta \in G(x_{k+1}),$$

    with $\lambda_k = 2/(k+4)$ and $\tilde F_0 = F(x_0)$. With probability
    $p_{k+1}$, where $p_k = 4 / (\min(k, \sqrt n) + 5)$, the estimate is renewed, $\tilde F_{k+1} = F(x_{k+1})$,
    at the cost of $n$ components; otherwise it follows a batch $S$ of $b$ independent draws at the cost of $2b$,
    $$\tilde F_{k+1} = \tilde F_k + \frac1b \sum_{q \in S} \bigl(F_q(x_{k+1}) - F_q(x_k)\bigr).$$

    With `theory`, $(\mathbb{E} \lVert F(x_k) + g_k \rVert^2)^{1/2} \le 16 L \lVert x_0 - x^\star \rVert / (k + 4)$
    for the last iterate.

    The coin for $\tilde F_{k+1}$ has probability $p_{k+1}$, so that every estimate carries its own index. The
    start is moved to $(I + \eta G)^{-1}(x_0)$ (for a set: projected), so that an element of $G$ is known from the
    first state on. Seeds that `run` advances together take their estimates one after the other: each pays for a
    full evaluation only when its own coin says so.

    **Arguments**

    - `step_size`: $\eta$.
    - `batch`: $b$.
    - `probability`: a constant probability of renewal in place of the schedule $p_k$; with 1, the method is
      deterministic.

    **Source**: Cai, Alacaoglu and Diakonikolas, "Variance Reduced Halpern Iteration for Finite-Sum Monotone
    Inclusions" (2023), Algorithm 1.
    """

    step_size: Scalar = hyperparameter()
    batch: int = eqx.field(static=True, kw_only=True)
    probability: Scalar | None = eqx.field(
        default=None, converter=lambda value: None if value is None else jnp.asarray(value)
    )

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)
        validation.integer("batch", self.batch, low=1)
        if self.probability is not None:
            validation.real("probability", self.probability, low=0.0, high=1.0)

    @classmethod
    def theory(cls, problem: FiniteSumInclusion) -> VarianceReducedHalpern:
        r"""$\eta = 1/(4L)$ with $1/L$ the average cocoercivity, and $b = \lceil \sqrt n \rceil$.

        **Raises** `ValueError` if the problem does not know its average cocoercivity.
        """
        return cls(problem.constant("average_cocoercivity") / 4.0, batch=math.ceil(math.sqrt(problem.components)))

    def renewal_probability(self, problem: FiniteSumInclusion, count: Int[Array, ""]) -> Float[Array, ""]:
        r"""$p_k = 4 / (\min(k, \sqrt n) + 5)$ for $k$ = `count`, unless a constant was chosen."""
        if self.probability is not None:
            return jnp.asarray(self.probability)
        return 4.0 / (jnp.minimum(count, math.sqrt(problem.components)) + 5.0)

    def expected_cost(self, problem: FiniteSumInclusion, steps: int) -> float:
        r"""The expected number of components that `steps` steps take, $n + \sum_k p_k n + 2 (1 - p_k) b$."""
        n = problem.components
        chance = jax.vmap(lambda count: jnp.broadcast_to(self.renewal_probability(problem, count), ()))(
            jnp.arange(1, steps + 1)
        )
        return n + float(jnp.sum(chance * n + 2.0 * (1.0 - chance) * self.batch))

    def init(self, problem: FiniteSumInclusion, x0: PyTree[Array], key: Key[Array, ""]) -> VarianceReducedHalpernState:
        """Start at `x0` with one full evaluation."""
        del key
        x, element = resolve(problem, x0, self.step_size)
        spent = Cost(gradients=problem.operator_cost, proximal_steps=1)
        return VarianceReducedHalpernState(x, spent, element, x, problem.operator(x), jnp.asarray(0))

    def step(
        self, problem: FiniteSumInclusion, state: VarianceReducedHalpernState, key: Key[Array, ""]
    ) -> VarianceReducedHalpernState:
        """One anchored forward-backward step, then the estimate at the new point."""
        weight, count = 2.0 / (state.count + 4.0), state.count + 1
        moved = jax.tree.map(
            lambda anchor, x, estimate: _mix(weight, anchor, x) - self.step_size * estimate,
            state.anchor,
            state.x,
            state.estimate,
        )
        x, element = resolve(problem, moved, self.step_size)
        drawn = one_at_a_time(
            page_estimate,
            problem,
            x,
            state.x,
            state.estimate,
            self.renewal_probability(problem, count),
            key,
            batch=self.batch,
        )
        spent = Cost(gradients=drawn.cost, proximal_steps=1)
        return VarianceReducedHalpernState(x, state.cost + spent, element, state.anchor, drawn.value, count)


class Estimate(NamedTuple):
    """An estimate of an operator's value, and how many components it cost."""

    value: PyTree[Array]
    cost: Float[Array, ""]


def page_estimate(
    problem: FiniteSumInclusion,
    x: PyTree[Array],
    previous: PyTree[Array],
    estimate: PyTree[Array],
    probability: Scalar,
    key: Key[Array, ""],
    *,
    batch: int,
) -> Estimate:
    r"""The probabilistic recursive estimator (PAGE) of $F(x)$.

    **Arguments**

    - `problem`: the finite sum.
    - `x`, `previous`: the point of interest $x_{k+1}$ and the one before, $x_k$.
    - `estimate`: $\tilde F_k$, an estimate of $F(x_k)$.
    - `probability`: of a full evaluation.
    - `key`: of the coin and the batch.
    - `batch`: $b$.

    **Returns** $F(x_{k+1})$, or $\tilde F_k$ plus the mean of $F_q(x_{k+1}) - F_q(x_k)$ over the batch.

    **Source**: Li, Bao, Zhang and Richtárik (2021), Algorithm 1.
    """
    coin_key, batch_key = jax.random.split(key)

    def renewed() -> Estimate:
        return Estimate(problem.operator(x), jnp.asarray(problem.operator_cost, dtype=float))

    def followed() -> Estimate:
        indices = problem.sample(batch_key, batch)
        new, old = problem.scaled_components(x, indices), problem.scaled_components(previous, indices)
        value = jax.tree.map(lambda last, a, b: last + (a - b).mean(axis=0), estimate, new, old)
        return Estimate(value, jnp.asarray(2 * batch, dtype=float))

    chosen: Estimate = jax.lax.cond(jax.random.uniform(coin_key) < probability, renewed, followed)
    return chosen


def one_at_a_time(function: Callable[..., T], *args: Any, **options: Any) -> T:
    """`function(*args, **options)`, evaluated for one element of a batch after the other where it is vectorised.

    Vectorising turns a branch into a selection that pays for both sides; this keeps a rare and expensive
    branch rare.
    """
    dynamic, static = eqx.partition(args, eqx.is_array)

    def call(dynamic: Any) -> T:
        return function(*eqx.combine(dynamic, static), **options)

    result: T = sequential_vmap(call)(dynamic)
    return result


class AnchoredGradientState(NamedTuple):
    """The anchor and the number of updates."""

    anchor: PyTree[Array]
    steps: Int[Array, ""]


def anchored_gradient(step_size: float) -> optax.GradientTransformation:
    r"""Halpern-anchored gradient steps as an optax transformation, for an unconstrained $F$ (a gradient, say).

    $x_{k+1} = \lambda_k x_0 + (1 - \lambda_k) x_k - \eta F(x_k)$ with $\lambda_k = 2 / (k + 4)$: the
    deterministic form of `VarianceReducedHalpern`. For a $\beta$-cocoercive $F$ and $\eta \le \beta$, the last
    iterate has $\lVert F(x_k) \rVert \le 4 \lVert x_0 - x^\star \rVert / (\eta (k + 3))$.

    **Arguments**: `step_size`, $\eta$.

    **Returns** an `optax.GradientTransformation`; its `update` needs the parameters.

    **Raises** `ValueError` if `step_size` is not positive, or if `update` is called without parameters.
    """
    validation.positive("step_size", step_size)

    def init(params: PyTree[Array]) -> AnchoredGradientState:
        return AnchoredGradientState(params, jnp.asarray(0))

    def update(
        updates: PyTree[Array], state: AnchoredGradientState, params: PyTree[Array] | None = None
    ) -> tuple[PyTree[Array], AnchoredGradientState]:
        if params is None:
            raise ValueError("params: anchored_gradient needs the current parameters in update")
        weight = 2.0 / (state.steps + 4.0)
        moved = jax.tree.map(
            lambda anchor, x, gradient: _mix(weight, anchor, x) - x - step_size * gradient,
            state.anchor,
            params,
            updates,
        )
        return moved, AnchoredGradientState(state.anchor, state.steps + 1)

    return optax.GradientTransformation(init, update)


def _mix(weight: Scalar, anchor: Array, x: Array) -> Array:
    # The count that weights derive from has the default precision, which must not promote 32-bit iterates.
    weight = jnp.asarray(weight, x.dtype)
    return weight * anchor + (1 - weight) * x
