"""Bilevel optimisation under unbounded smoothness: normalised momentum above, rare careful updates below."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key, PyTree
from scipy.optimize import brentq

from tendsto import validation
from tendsto.iteration import Cost, Method, Scalar, State, hyperparameter
from tendsto.optimize.epoch_sgd import Count, EpochSGD, projected_sgd, whole, whole_number
from tendsto.optimize.normalised_momentum import FLOOR, check_momentum
from tendsto.problems import BilevelProblem


def _call_count(value: Any) -> Array:
    return jnp.asarray(value, dtype=jnp.result_type(float))


class OracleCalls(eqx.Module):
    """How often each stochastic oracle was called, a call being one batch; counts add up with `+`.

    **Arguments** (all default to zero): `lower_gradients`, `upper_gradients` (in $x$ and in $y$ count one each),
    `hessian_products`, `cross_products`.
    """

    lower_gradients: Scalar = eqx.field(default=0.0, converter=_call_count)
    upper_gradients: Scalar = eqx.field(default=0.0, converter=_call_count)
    hessian_products: Scalar = eqx.field(default=0.0, converter=_call_count)
    cross_products: Scalar = eqx.field(default=0.0, converter=_call_count)

    def __add__(self, other: OracleCalls) -> OracleCalls:
        total: OracleCalls = jax.tree.map(jnp.add, self, other)
        return total

    @property
    def cost(self) -> Cost:
        """All calls together as `Cost.gradients`: the complexity that the theorems speak of."""
        return Cost(gradients=self.lower_gradients + self.upper_gradients + self.hessian_products + self.cross_products)


class BilevelState(State):
    r"""The upper iterate and what a bilevel method carries beside it.

    `cost.gradients` is the number of all oracle calls.

    **Arguments**

    - `y`: the lower iterate.
    - `z`: the approximate solution of the linear system.
    - `momentum`: $m$, the average of the stochastic hypergradients.
    - `count`: the number of steps taken.
    - `calls`: the oracle calls by kind.
    """

    y: PyTree[Array]
    z: PyTree[Array]
    momentum: PyTree[Array]
    count: Int[Array, ""]
    calls: OracleCalls


def first_state(problem: BilevelProblem, x0: PyTree[Array]) -> BilevelState:
    """At `x0` and the problem's `lower_start`, with zero for everything else.

    **Raises** `ValueError` if the problem cannot be evaluated there.
    """
    problem.check_start(x0)
    y = problem.lower_start
    zeros = jax.tree.map(jnp.zeros_like, (y, x0))
    return BilevelState(x0, Cost(), y, zeros[0], zeros[1], jnp.asarray(0), OracleCalls())


def linear_step(
    problem: BilevelProblem,
    x: PyTree[Array],
    y: PyTree[Array],
    z: PyTree[Array],
    step_size: Scalar,
    key: Key[Array, ""],
) -> PyTree[Array]:
    r"""$z - \nu(\nabla^2_{yy} G(x, y; \zeta) z - \nabla_y F(x, y; \xi))$, one SGD step on the linear system."""
    lower_key, upper_key = jax.random.split(key)
    product = problem.hessian_product(x, y, z, lower_key)
    right = problem.upper_gradient_y(x, y, upper_key)
    return jax.tree.map(lambda z, hz, b: z - step_size * (hz - b), z, product, right)


def hypergradient_estimate(
    problem: BilevelProblem, x: PyTree[Array], y: PyTree[Array], z: PyTree[Array], key: Key[Array, ""]
) -> PyTree[Array]:
    r"""$\nabla_x F(x, y; \xi') - \nabla^2_{xy} G(x, y; \zeta') z$."""
    lower_key, upper_key = jax.random.split(key)
    direct = problem.upper_gradient_x(x, y, upper_key)
    return jax.tree.map(jnp.subtract, direct, problem.cross_product(x, y, z, lower_key))


class NormalisedBilevel(Method[BilevelProblem, BilevelState]):
    r"""BO-REP: normalised momentum above, initialisation refinement and periodic updates below.

    Before the first step, `refinement` brings $y_0$ close to $y^\star(x_0)$. Then, for $k = 0, 1, \dots$:

    $$y_k = \begin{cases} N \text{ steps } y \leftarrow \Pi_{B(y_{k-1}, R)}(y - \alpha\nabla_y G(x_k, y; \pi)) \text{
    from } y_{k-1} & \text{if } k > 0 \text{ and } I \text{ divides } k\\ y_{k-1} & \text{otherwise}\end{cases}$$

    $$z_{k+1} = z_k - \nu(\nabla^2_{yy} G(x_k, y_k; \zeta) z_k - \nabla_y F(x_k, y_k; \xi))$$

    $$m_{k+1} = \beta m_k + (1-\beta)(\nabla_x F(x_k, y_k; \xi') - \nabla^2_{xy} G(x_k, y_k; \zeta') z_k), \qquad
    x_{k+1} = x_k - \eta\, m_{k+1}/(\lVert m_{k+1}\rVert + 10^{-10})$$

    from $m_0 = 0$, which the normalisation makes the first stochastic hypergradient. The norm is that of all leaves
    together. The theorem speaks of a uniformly random iterate; in practice one takes the last.

    A step costs two upper gradients, one Hessian-vector product and one cross product, and every $I$-th one $N$ lower
    gradients (and as many projections, counted as proximal steps). Since a step has length $\eta$, the lower solution
    drifts by at most $\eta I L_{y^\star}$ between two updates, whatever the gradient is: this is what lets $y$ rest.

    **Arguments**

    - `step_size`: $\eta > 0$, the length of an upper step.
    - `lower_step_size`: $\alpha > 0$.
    - `linear_step_size`: $\nu > 0$; below $2/\lambda_{\max}(\nabla^2_{yy} g)$, or $z$ diverges (which a run reports).
    - `momentum`: $\beta \in [0, 1)$.
    - `period`: $I$, a positive integer.
    - `lower_steps`: $N$, a positive integer.
    - `radius`: $R > 0$, by default infinite.
    - `average`: take the average of the points that the $N$ steps led to instead of the last one.
    - `refinement`: the initialisation refinement; by default none, and $y_0$ is the problem's `lower_start`.
    - `linear_warmup`: how many steps on the linear system are taken at $(x_0, y_0)$, $z$ being zero before. Give
      $1/(\nu\mu)$ or so where $\nabla_x f$ vanishes, for there a zero $z$ leaves no first direction.

    **Raises** `ValueError` or `TypeError` naming the argument.

    **Source** J. Hao, X. Gong, M. Liu, "Bilevel Optimization under Unbounded Smoothness: A New Algorithm and
    Convergence Analysis", arXiv:2401.09587, Algorithm 1.
    """

    step_size: Scalar = hyperparameter()
    lower_step_size: Scalar = hyperparameter()
    linear_step_size: Scalar = hyperparameter()
    momentum: Scalar = hyperparameter(default=0.9, kw_only=True)
    period: Count = whole_number(default=1, kw_only=True)
    lower_steps: Count = whole_number(default=1, kw_only=True)
    radius: Scalar = hyperparameter(default=math.inf, kw_only=True)
    average: bool = eqx.field(default=False, kw_only=True, static=True)
    refinement: EpochSGD | None = eqx.field(default=None, kw_only=True)
    linear_warmup: Count = whole_number(default=0, kw_only=True)

    def __check_init__(self) -> None:
        for name in ("step_size", "lower_step_size", "linear_step_size"):
            validation.positive(name, getattr(self, name))
        check_momentum(self.momentum)
        whole("period", self.period)
        whole("lower_steps", self.lower_steps)
        validation.real("radius", self.radius, low=0.0, open_low=True)
        whole("linear_warmup", self.linear_warmup, low=0)
        if not (self.refinement is None or isinstance(self.refinement, EpochSGD)):
            raise TypeError(f"refinement: expected an EpochSGD or None, got {type(self.refinement).__name__}")

    @classmethod
    def theory(
        cls,
        problem: BilevelProblem,
        x0: PyTree[Array],
        *,
        epsilon: float | None = None,
        horizon: int | None = None,
    ) -> NormalisedBilevel:
        r"""The parameters of the theorem, for an accuracy or for a number of steps.

        With $\sigma_h^2 = \sigma^2(1 + M^2/\mu^2)$, the Lipschitz constant $\ell = C_{g_{xy}}/\mu$ of $y^\star$, and
        $\delta = \epsilon/(L_f(1 + \ell))$, the error in $y$ that costs $\epsilon$ in the hypergradient:

        $$1-\beta = \min(1, \epsilon^2/\sigma_h^2),\quad \eta = (1-\beta)\min(\epsilon/K_0, 1/(8K_1)),\quad
        \nu = \min(1/L_{g,1}, (1-\beta)/\mu),\quad I = \lfloor\delta/(\ell\eta)\rfloor,$$
        $$\alpha = \min(1/(2L_{g,1}), \mu\delta^2/\sigma^2),\quad N = \lceil 2/(\mu\alpha)\rceil,\quad R = 2\delta,
        \quad K = \Phi(x_0) - \inf\Phi \text{ over } \eta\epsilon.$$

        So $1-\beta = \Theta(\epsilon^2)$, $\eta = \Theta(\epsilon^3)$, $I$ and $N$ are $\Theta(\epsilon^{-2})$ and
        $K = \Theta(\epsilon^{-4})$, as in the theorem. It leaves absolute constants and logarithms open; these are
        ours, and balance the terms of the proof without a factor of safety. Refinement reaches $\delta$
        (`EpochSGD.theory`).

        **Arguments**

        - `problem`: the problem, with all constants that `BilevelProblem` lists.
        - `x0`: the start.
        - `epsilon`: $\epsilon$; `horizon` gives the steps it takes.
        - `horizon`: $K$; the accuracy is then the one for which $K$ steps are prescribed (see `accuracy`).

        **Raises** `ValueError` unless exactly one of `epsilon` and `horizon` is given; `AttributeError` if the problem
        does not know a constant.
        """
        if (epsilon is None) == (horizon is None):
            raise ValueError("epsilon, horizon: give exactly one of the two")
        if epsilon is None:
            epsilon = cls.accuracy(problem, x0, horizon)  # type: ignore[arg-type]
        validation.positive("epsilon", epsilon)
        known: Any = problem
        mu, smoothness = float(known.lower_strong_convexity), float(known.lower_smoothness)
        lipschitz = float(known.cross_bound) / mu
        momentum_rate, step_size = _upper_parameters(problem, epsilon)
        delta = epsilon / (float(known.upper_smoothness) * (1.0 + lipschitz))
        sigma = float(known.deviation)
        lower_step_size = min(0.5 / smoothness, mu * delta**2 / sigma**2) if sigma else 0.5 / smoothness
        linear_step_size = min(1.0 / smoothness, momentum_rate / mu)
        distance = float(optax.tree.norm(problem.lower_gradient(x0, problem.lower_start))) / mu
        refinement = None
        if distance > delta:
            refinement = EpochSGD.theory(
                strong_convexity=mu, smoothness=smoothness, deviation=sigma, distance=distance, accuracy=delta
            )
        return cls(
            step_size,
            lower_step_size,
            linear_step_size,
            momentum=1.0 - momentum_rate,
            period=max(1, math.floor(delta / (lipschitz * step_size))),
            lower_steps=math.ceil(2.0 / (mu * lower_step_size)),
            radius=2.0 * delta,
            refinement=refinement,
            linear_warmup=math.ceil(1.0 / (linear_step_size * mu)),
        )

    @staticmethod
    def horizon(problem: BilevelProblem, x0: PyTree[Array], epsilon: float) -> float:
        r"""$K = (\Phi(x_0) - \inf\Phi)/(\eta\epsilon)$, the steps that `theory` prescribes for an accuracy."""
        validation.positive("epsilon", epsilon)
        gap = float(problem.objective(x0) - problem.minimum)  # type: ignore[attr-defined]
        return gap / (_upper_parameters(problem, epsilon)[1] * epsilon)

    @staticmethod
    def accuracy(problem: BilevelProblem, x0: PyTree[Array], horizon: int) -> float:
        r"""The $\epsilon$ for which `theory` prescribes `horizon` steps; of order $K^{-1/4}$ with noise."""
        validation.integer("horizon", horizon, low=1)

        def excess(log_epsilon: float) -> float:
            return math.log(NormalisedBilevel.horizon(problem, x0, math.exp(log_epsilon)) / horizon)

        return math.exp(brentq(excess, -50.0, 50.0))

    def init(self, problem: BilevelProblem, x0: PyTree[Array], key: Key[Array, ""]) -> BilevelState:
        """Refine the lower start, then warm up the linear system."""
        state = first_state(problem, x0)
        refine_key, linear_key = jax.random.split(key)
        y, calls = state.y, OracleCalls(hessian_products=self.linear_warmup, upper_gradients=self.linear_warmup)
        cost = Cost()
        if self.refinement is not None:
            y = self.refinement(lambda y, key: problem.lower_gradient(x0, y, key), y, refine_key)
            calls = calls + OracleCalls(lower_gradients=self.refinement.calls)
            cost = Cost(proximal_steps=self.refinement.calls)

        def warm(number: Any, z: PyTree[Array]) -> PyTree[Array]:
            return linear_step(problem, x0, y, z, self.linear_step_size, jax.random.fold_in(linear_key, number))

        z = jax.lax.fori_loop(0, self.linear_warmup, warm, state.z)
        return BilevelState(x0, cost + calls.cost, y, z, state.momentum, state.count, calls)

    def step(self, problem: BilevelProblem, state: BilevelState, key: Key[Array, ""]) -> BilevelState:
        """Update the lower variable if it is due, then the linear system, the momentum and the upper variable."""
        lower_key, linear_key, upper_key = jax.random.split(key, 3)
        due = (state.count > 0) & (state.count % self.period == 0)
        # A loop of length zero costs nothing, even when runs are batched; a conditional would run both branches.
        lower_steps = jnp.where(due, self.lower_steps, 0)
        walk = projected_sgd(
            lambda y, key: problem.lower_gradient(state.x, y, key),
            state.y,
            lower_key,
            lower_steps,
            self.lower_step_size,
            self.radius,
        )
        y = walk.average if self.average else walk.last
        z = linear_step(problem, state.x, y, state.z, self.linear_step_size, linear_key)
        estimate = hypergradient_estimate(problem, state.x, y, state.z, upper_key)
        momentum = blend(self.momentum, state.momentum, estimate)
        scale = self.step_size / (optax.tree.norm(momentum) + FLOOR)
        x = jax.tree.map(lambda x, m: x - scale * m, state.x, momentum)
        calls = OracleCalls(lower_gradients=lower_steps, upper_gradients=2, hessian_products=1, cross_products=1)
        cost = state.cost + calls.cost + Cost(proximal_steps=lower_steps)
        return BilevelState(x, cost, y, z, momentum, state.count + 1, state.calls + calls)


def blend(momentum: Scalar, old: PyTree[Array], new: PyTree[Array]) -> PyTree[Array]:
    r"""$\beta m + (1-\beta) g$, leaf by leaf."""
    return jax.tree.map(lambda m, g: momentum * m + (1.0 - momentum) * g, old, new)


def _upper_parameters(problem: Any, epsilon: float) -> tuple[float, float]:
    r"""$1-\beta$ and $\eta$ of `NormalisedBilevel.theory`."""
    mu = float(problem.lower_strong_convexity)
    variance = float(problem.deviation) ** 2 * (1.0 + (float(problem.upper_bound) / mu) ** 2)
    rate = min(1.0, epsilon**2 / variance) if variance else 1.0
    constant, slope = problem.relaxed_smoothness
    return rate, rate * min(epsilon / constant, 0.125 / slope)
