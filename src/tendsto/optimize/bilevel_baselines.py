"""Bilevel methods for bounded smoothness, as rivals: SOBA and MA-SOBA, SABA, TTSA and stocBiO."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from tendsto import validation
from tendsto.iteration import Method, Scalar, hyperparameter
from tendsto.optimize.bilevel import (
    BilevelState,
    OracleCalls,
    blend,
    first_state,
    hypergradient_estimate,
    linear_step,
)
from tendsto.optimize.epoch_sgd import Count, projected_sgd, whole, whole_number
from tendsto.optimize.normalised_momentum import check_momentum
from tendsto.problems import BilevelFiniteSum, BilevelProblem
from tendsto.problems.bilevel import row_count, take_rows


class SOBA(Method[BilevelProblem, BilevelState]):
    r"""One SGD step on each of $y$, $z$ and $x$ in every iteration; with momentum it is MA-SOBA.

    $$y^+ = y - \alpha\nabla_y G(x, y; \pi), \quad z^+ = z - \nu(\nabla^2_{yy} G\,z - \nabla_y F), \quad m^+ = \beta m +
    (1-\beta)(\nabla_x F - \nabla^2_{xy} G\,z), \quad x^+ = x - \eta m^+$$

    all from the old $(x, y, z)$. `alternating` has $z$, $m$ and $x$ use the new $y$ instead: the order of
    `NormalisedBilevel`, which with a period and a lower step of 1 and an infinite radius then differs only in that it
    normalises. MA-SOBA as published moves $x$ along the old average, which delays it by one step; here the new one
    is used, as in `NormalisedBilevel`.

    **Arguments**: `step_size`, $\eta$; `lower_step_size`, $\alpha$; `linear_step_size`, $\nu$; `momentum`, $\beta \in
    [0, 1)$, by default 0; `alternating`.

    **Raises** `ValueError` naming the argument.

    **Source** M. Dagréou, P. Ablin, S. Vaiter, T. Moreau, "A framework for bilevel optimization that enables stochastic
    and global variance reduction algorithms", arXiv:2201.13409 (SOBA); X. Chen, T. Xiao, K. Balasubramanian, "Optimal
    Algorithms for Stochastic Bilevel Optimization under Relaxed Smoothness Conditions", arXiv:2306.12067 (MA-SOBA).
    """

    step_size: Scalar = hyperparameter()
    lower_step_size: Scalar = hyperparameter()
    linear_step_size: Scalar = hyperparameter()
    momentum: Scalar = hyperparameter(default=0.0, kw_only=True)
    alternating: bool = eqx.field(default=False, kw_only=True, static=True)

    def __check_init__(self) -> None:
        _check_steps(self)
        check_momentum(self.momentum)

    def init(self, problem: BilevelProblem, x0: PyTree[Array], key: Key[Array, ""]) -> BilevelState:
        """Start at `x0`, the problem's `lower_start`, and zero."""
        del key
        return first_state(problem, x0)

    def step(self, problem: BilevelProblem, state: BilevelState, key: Key[Array, ""]) -> BilevelState:
        """One step on each variable."""
        lower_key, linear_key, upper_key = jax.random.split(key, 3)
        # The first update of an alternating run waits for the first upper step, as in `NormalisedBilevel`.
        lower_steps = jnp.where(state.count > 0, 1, 0) if self.alternating else 1
        new_y = projected_sgd(
            lambda y, key: problem.lower_gradient(state.x, y, key),
            state.y,
            lower_key,
            lower_steps,
            self.lower_step_size,
            jnp.inf,
        ).last
        y = new_y if self.alternating else state.y
        z = linear_step(problem, state.x, y, state.z, self.linear_step_size, linear_key)
        momentum = blend(self.momentum, state.momentum, hypergradient_estimate(problem, state.x, y, state.z, upper_key))
        x = jax.tree.map(lambda x, m: x - self.step_size * m, state.x, momentum)
        calls = OracleCalls(lower_gradients=lower_steps, upper_gradients=2, hessian_products=1, cross_products=1)
        return BilevelState(x, state.cost + calls.cost, new_y, z, momentum, state.count + 1, state.calls + calls)


class _NeumannSGD(Method[BilevelProblem, BilevelState]):
    """SGD above with a Neumann series for the inverse Hessian; subclasses say how many lower steps and which terms."""

    step_size: eqx.AbstractVar[Scalar]
    lower_step_size: eqx.AbstractVar[Scalar]
    linear_step_size: eqx.AbstractVar[Scalar]
    terms: eqx.AbstractVar[Count]

    @abc.abstractmethod
    def _lower_count(self) -> Count:
        """How many steps the lower variable takes."""

    @abc.abstractmethod
    def _solve(self, multiply: Any, right: PyTree[Array], key: Key[Array, ""]) -> tuple[PyTree[Array], Any]:
        """An estimate of the inverse Hessian times `right`, and the number of products it took."""

    def init(self, problem: BilevelProblem, x0: PyTree[Array], key: Key[Array, ""]) -> BilevelState:
        """Start at `x0` and the problem's `lower_start`."""
        del key
        return first_state(problem, x0)

    def step(self, problem: BilevelProblem, state: BilevelState, key: Key[Array, ""]) -> BilevelState:
        """Lower steps from where the last ones ended, a Neumann series, an upper step."""
        lower_key, right_key, solve_key, upper_key = jax.random.split(key, 4)
        y = projected_sgd(
            lambda y, key: problem.lower_gradient(state.x, y, key),
            state.y,
            lower_key,
            self._lower_count(),
            self.lower_step_size,
            jnp.inf,
        ).last
        right = problem.upper_gradient_y(state.x, y, right_key)

        def multiply(v: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
            product = problem.hessian_product(state.x, y, v, key)
            return jax.tree.map(lambda v, hv: v - self.linear_step_size * hv, v, product)

        z, products = self._solve(multiply, right, solve_key)
        estimate = hypergradient_estimate(problem, state.x, y, z, upper_key)
        x = jax.tree.map(lambda x, g: x - self.step_size * g, state.x, estimate)
        calls = OracleCalls(self._lower_count(), upper_gradients=2, hessian_products=products, cross_products=1)
        return BilevelState(x, state.cost + calls.cost, y, z, estimate, state.count + 1, state.calls + calls)


class StocBiO(_NeumannSGD):
    r"""stocBiO: $N$ lower steps and $Q$ terms of a Neumann series in every iteration, plain SGD above.

    $$z = \nu \sum_{q=0}^{Q-1} \prod_{j=1}^{q} (I - \nu\nabla^2_{yy} G(x, y; \zeta_j))\, \nabla_y F(x, y; \xi)$$

    with $y$ started from where it was.

    **Arguments**: `step_size`, $\eta$; `lower_step_size`, $\alpha$; `linear_step_size`, $\nu$; `lower_steps`, $N$;
    `terms`, $Q$.

    **Raises** `ValueError` or `TypeError` naming the argument.

    **Source** K. Ji, J. Yang, Y. Liang, "Bilevel Optimization: Convergence Analysis and Enhanced Design",
    arXiv:2010.07962, Algorithm 2.
    """

    step_size: Scalar = hyperparameter()
    lower_step_size: Scalar = hyperparameter()
    linear_step_size: Scalar = hyperparameter()
    lower_steps: Count = whole_number(default=5, kw_only=True)
    terms: Count = whole_number(default=5, kw_only=True)

    def __check_init__(self) -> None:
        _check_steps(self)
        whole("lower_steps", self.lower_steps)
        whole("terms", self.terms)

    def _lower_count(self) -> Count:
        return self.lower_steps

    def _solve(self, multiply: Any, right: PyTree[Array], key: Key[Array, ""]) -> tuple[PyTree[Array], Any]:
        def body(number: Any, carry: tuple[PyTree[Array], PyTree[Array]]) -> tuple[PyTree[Array], PyTree[Array]]:
            term, total = carry
            term = multiply(term, jax.random.fold_in(key, number))
            return term, jax.tree.map(jnp.add, total, term)

        _, total = jax.lax.fori_loop(1, self.terms, body, (right, right))
        return jax.tree.map(lambda leaf: self.linear_step_size * leaf, total), self.terms - 1


class TTSA(_NeumannSGD):
    r"""TTSA: one lower step, one random term of the Neumann series, plain SGD above, on two time scales.

    $$z = \nu\, Q \prod_{j=1}^{q} (I - \nu\nabla^2_{yy} G(x, y; \zeta_j))\, \nabla_y F(x, y; \xi), \qquad q \sim
    \mathrm{Uniform}\{0, \dots, Q-1\}$$

    whose mean is the sum of $Q$ terms. The theorem for nonconvex $\Phi$ has $\eta = \Theta(K^{-3/5})$ and $\alpha =
    \Theta(K^{-2/5})$ over a horizon $K$.

    **Arguments**: `step_size`, $\eta$; `lower_step_size`, $\alpha$; `linear_step_size`, $\nu \le 1/L_{g,1}$; `terms`,
    $Q$.

    **Raises** `ValueError` or `TypeError` naming the argument.

    **Source** M. Hong, H.-T. Wai, Z. Wang, Z. Yang, "A Two-Timescale Framework for Bilevel Optimization: Complexity
    Analysis and Application to Actor-Critic", arXiv:2007.05170, Algorithm 1 and equation (10).
    """

    step_size: Scalar = hyperparameter()
    lower_step_size: Scalar = hyperparameter()
    linear_step_size: Scalar = hyperparameter()
    terms: Count = whole_number(default=5, kw_only=True)

    def __check_init__(self) -> None:
        _check_steps(self)
        whole("terms", self.terms)

    def _lower_count(self) -> Count:
        return 1

    def _solve(self, multiply: Any, right: PyTree[Array], key: Key[Array, ""]) -> tuple[PyTree[Array], Any]:
        draw_key, product_key = jax.random.split(key)
        products = jax.random.randint(draw_key, (), 0, self.terms)

        def body(number: Any, term: PyTree[Array]) -> PyTree[Array]:
            return multiply(term, jax.random.fold_in(product_key, number))

        term = jax.lax.fori_loop(0, products, body, right)
        return jax.tree.map(lambda leaf: self.linear_step_size * self.terms * leaf, term), products


class SABAState(BilevelState):
    """The state of a bilevel method, and the last derivatives seen of every sample with their means.

    **Arguments**: `lower_table`, `upper_table`: pytrees with one row a sample, of the three lower derivatives
    (gradient, Hessian product, cross product) and the two upper gradients; `lower_mean`, `upper_mean`.
    """

    lower_table: PyTree[Array]
    upper_table: PyTree[Array]
    lower_mean: PyTree[Array]
    upper_mean: PyTree[Array]


class SABA(Method[BilevelFiniteSum, SABAState]):
    r"""SOBA with SAGA's variance reduction of all five derivatives, for finite sums.

    Each of $\nabla_y G_i$, $\nabla^2_{yy} G_i z$, $\nabla^2_{xy} G_i z$, $\nabla_x F_j$ and $\nabla_y F_j$ is
    estimated by its value at a random sample, minus the value remembered of that sample, plus the mean of all
    remembered values. One sample of each data set a step, whatever the problem's `batch_size`. The start costs a pass
    over both; memory is that of one derivative a sample.

    **Arguments**: `step_size`, $\eta$; `lower_step_size`, $\alpha$; `linear_step_size`, $\nu$.

    **Raises** `ValueError` naming the argument.

    **Source** M. Dagréou, P. Ablin, S. Vaiter, T. Moreau, arXiv:2201.13409, Section 2.3.
    """

    step_size: Scalar = hyperparameter()
    lower_step_size: Scalar = hyperparameter()
    linear_step_size: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        _check_steps(self)

    def init(self, problem: BilevelFiniteSum, x0: PyTree[Array], key: Key[Array, ""]) -> SABAState:
        """Fill the tables at the start.

        **Raises** `ValueError` if the problem has no data.
        """
        del key
        if not jax.tree.leaves(problem.lower_data) or not jax.tree.leaves(problem.upper_data):
            raise ValueError("problem: SABA needs samples, but lower_data or upper_data is empty")
        start = first_state(problem, x0)
        lower_rows, upper_rows = row_count(problem.lower_data), row_count(problem.upper_data)
        lower = jax.lax.map(lambda i: _lower_derivatives(problem, start, i), jnp.arange(lower_rows))
        upper = jax.lax.map(lambda j: _upper_derivatives(problem, start, j), jnp.arange(upper_rows))
        calls = OracleCalls(lower_rows, 2 * upper_rows, lower_rows, lower_rows)
        return SABAState(
            start.x, calls.cost, start.y, start.z, start.momentum, start.count, calls,
            lower, upper, jax.tree.map(_mean, lower), jax.tree.map(_mean, upper),
        )  # fmt: skip

    def step(self, problem: BilevelFiniteSum, state: SABAState, key: Key[Array, ""]) -> SABAState:
        """One corrected step on each variable."""
        lower_key, upper_key = jax.random.split(key)
        i = jax.random.randint(lower_key, (), 0, row_count(problem.lower_data))
        j = jax.random.randint(upper_key, (), 0, row_count(problem.upper_data))
        (gradient, product, cross), lower_table, lower_mean = _saga(
            state.lower_table, state.lower_mean, _lower_derivatives(problem, state, i), i
        )
        (upper_x, upper_y), upper_table, upper_mean = _saga(
            state.upper_table, state.upper_mean, _upper_derivatives(problem, state, j), j
        )
        direction = jax.tree.map(jnp.subtract, upper_x, cross)
        x = jax.tree.map(lambda x, g: x - self.step_size * g, state.x, direction)
        y = jax.tree.map(lambda y, g: y - self.lower_step_size * g, state.y, gradient)
        z = jax.tree.map(lambda z, hz, b: z - self.linear_step_size * (hz - b), state.z, product, upper_y)
        calls = OracleCalls(1, 2, 1, 1)
        return SABAState(
            x, state.cost + calls.cost, y, z, direction, state.count + 1, state.calls + calls,
            lower_table, upper_table, lower_mean, upper_mean,
        )  # fmt: skip


def _mean(leaf: Array) -> Array:
    return leaf.mean(axis=0)


def _lower_derivatives(problem: BilevelFiniteSum, state: BilevelState, row: Array) -> PyTree[Array]:
    one = eqx.tree_at(
        lambda p: p.lower_data, problem, take_rows(problem.lower_data, row[None]), is_leaf=lambda leaf: leaf is None
    )
    x, y, z = state.x, state.y, state.z
    return one.lower_gradient(x, y), one.hessian_product(x, y, z), one.cross_product(x, y, z)


def _upper_derivatives(problem: BilevelFiniteSum, state: BilevelState, row: Array) -> PyTree[Array]:
    one = eqx.tree_at(
        lambda p: p.upper_data, problem, take_rows(problem.upper_data, row[None]), is_leaf=lambda leaf: leaf is None
    )
    return one.upper_gradient_x(state.x, state.y), one.upper_gradient_y(state.x, state.y)


def _saga(
    table: PyTree[Array], mean: PyTree[Array], new: PyTree[Array], row: Array
) -> tuple[PyTree[Array], PyTree[Array], PyTree[Array]]:
    """The corrected estimate, the table with row `row` replaced, and its new mean."""
    change = jax.tree.map(lambda table, new: new - table[row], table, new)
    estimate = jax.tree.map(jnp.add, mean, change)
    updated = jax.tree.map(lambda table, new: table.at[row].set(new), table, new)
    updated_mean = jax.tree.map(lambda mean, change, table: mean + change / len(table), mean, change, table)
    return estimate, updated, updated_mean


def _check_steps(method: Any) -> None:
    for name in ("step_size", "lower_step_size", "linear_step_size"):
        validation.positive(name, getattr(method, name))
