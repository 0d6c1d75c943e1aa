"""Convex-concave saddle points as monotone inclusions, and a search for pairs that show an operator is not monotone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax.tree_utils as otu
import scipy.optimize
from jaxtyping import Array, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.problems.inclusions import FiniteSumInclusion, Inclusion, Sampling
from tendsto.problems.regularisers import Regulariser, Simplex

Pair = tuple[Float[Array, " rows"], Float[Array, " columns"]]


class Blocks(Regulariser):
    r"""$h(x_1, x_2, \dots) = \sum_j h_j(x_j)$: one regulariser for each entry of a tuple.

    **Arguments**: `parts`, the regularisers $h_j$.
    """

    parts: tuple[Regulariser, ...] = eqx.field(converter=tuple)

    def __call__(self, x: PyTree[Array]) -> Float[Array, ""]:
        r"""$\sum_j h_j(x_j)$."""
        return jnp.asarray(sum(part(block) for part, block in zip(self.parts, x, strict=True)))

    def proximal(self, v: PyTree[Array], step_size: Any) -> PyTree[Array]:
        """Each block's proximal map."""
        return tuple(part.proximal(block, step_size) for part, block in zip(self.parts, v, strict=True))


class Equilibrium(NamedTuple):
    """Optimal strategies `x` (rows) and `y` (columns) of a zero-sum game, and its value."""

    x: Float[Array, " rows"]
    y: Float[Array, " columns"]
    value: float


class MatrixGame(FiniteSumInclusion):
    r"""The zero-sum game $\min_{x \in \Delta} \max_{y \in \Delta} x^\top M y$ over mixed strategies.

    $F(x, y) = (M y, -M^\top x)$, and $G$ is the normal cone of the two simplices; points are pairs `(x, y)`. A
    component is a column $j$ and a row $i$, drawn independently with probabilities $p_j$ and $r_i$ proportional to
    their squared norms:
    $F_q(x, y) = (M_{:j}\, y_j / p_j,\; -M_{i:}^\top x_i / r_i)$. Then
    $\mathbb{E}_q \lVert F_q(u) - F_q(v) \rVert^2 = \lVert M \rVert_F^2 \lVert u - v \rVert^2$, so $L$ is the Frobenius
    norm and $L_F$ the spectral norm. A full evaluation counts as $n = \max(\text{rows}, \text{columns})$ components.

    **Arguments**

    - `payoff`: $M$, shape `(rows, columns)`: what the row player pays to the column player.

    **Raises** `ValueError` if `payoff` is not a finite matrix or is zero.
    """

    payoff: Float[Array, "rows columns"] = eqx.field(kw_only=True)
    rows: Sampling = eqx.field(kw_only=True)
    columns: Sampling = eqx.field(kw_only=True)

    def __init__(self, payoff: Any) -> None:
        self.payoff = validation.finite_array("payoff", payoff, ndim=2)
        squares = self.payoff**2
        self.rows = Sampling(squares.shape[0], squares.sum(axis=1))
        self.columns = Sampling(squares.shape[1], squares.sum(axis=0))
        self.regulariser = Blocks((Simplex(), Simplex()))
        self.lipschitz = jnp.linalg.norm(self.payoff, 2)
        self.average_lipschitz = jnp.linalg.norm(self.payoff)

    @property
    def components(self) -> int:
        return max(self.payoff.shape)

    @property
    def uniform(self) -> Pair:
        """The pair of uniform strategies, a natural start."""
        rows, columns = self.payoff.shape
        return jnp.full(rows, 1 / rows, self.payoff.dtype), jnp.full(columns, 1 / columns, self.payoff.dtype)

    def operator(self, x: Pair) -> Pair:
        return self.payoff @ x[1], -(x[0] @ self.payoff)

    def sample(self, key: Key[Array, ""], size: int) -> tuple[Int[Array, " size"], Int[Array, " size"]]:
        row_key, column_key = jax.random.split(key)
        return self.rows.draw(row_key, size), self.columns.draw(column_key, size)

    def scaled_components(
        self, x: Pair, indices: tuple[Int[Array, " batch"], Int[Array, " batch"]]
    ) -> tuple[Float[Array, "batch rows"], Float[Array, "batch columns"]]:
        rows, columns = indices
        weights = x[0][rows] / self.rows.probabilities[rows], x[1][columns] / self.columns.probabilities[columns]
        return weights[1][:, None] * self.payoff.T[columns], -weights[0][:, None] * self.payoff[rows]

    def duality_gap(self, x: Pair) -> Float[Array, ""]:
        r"""$\max_j (M^\top x)_j - \min_i (M y)_i$: what the two players together could gain by deviating."""
        return jnp.max(x[0] @ self.payoff) - jnp.min(self.payoff @ x[1])

    def equilibrium(self) -> Equilibrium:
        """An equilibrium, by linear programming (SciPy's HiGHS)."""
        matrix = np.asarray(self.payoff, dtype=np.float64)
        rows, columns = matrix.shape
        answer = scipy.optimize.linprog(
            np.append(np.zeros(rows), 1.0),
            A_ub=np.column_stack([matrix.T, -np.ones(columns)]),
            b_ub=np.zeros(columns),
            A_eq=np.append(np.ones(rows), 0.0)[None],
            b_eq=[1.0],
            bounds=[(0, None)] * rows + [(None, None)],
        )
        return Equilibrium(jnp.asarray(answer.x[:-1]), jnp.asarray(-answer.ineqlin.marginals), float(answer.fun))


class ConstrainedQuadratic(FiniteSumInclusion):
    r"""The quadratic programme $\min_x \frac12 x^\top H x - h^\top x$ subject to $A x = b$, as a saddle point.

    $F(x, y) = (H x - h - A^\top y,\; A x - b)$ and $G = 0$; points are pairs of $x$ and the multipliers $y$. A
    component is one of the $n$ constraints, drawn with probability $q_i \propto \lVert a_i \rVert^2$:
    $F_q(x, y) = (H x - h - a_i y_i / q_i,\; e_i (a_i^\top x - b_i) / q_i)$.

    **Arguments**

    - `quadratic`: $H$, symmetric and positive semidefinite, shape `(d, d)`.
    - `linear`: $h$, shape `(d,)`.
    - `constraints`: $A$, one row a constraint, shape `(n, d)`.
    - `targets`: $b$, shape `(n,)`.

    **Raises** `ValueError` if shapes disagree, a row of `constraints` is zero, or `quadratic` is not symmetric
    positive semidefinite.
    """

    quadratic: Float[Array, "d d"] = eqx.field(kw_only=True)
    linear: Float[Array, " d"] = eqx.field(kw_only=True)
    constraints: Float[Array, "n d"] = eqx.field(kw_only=True)
    targets: Float[Array, " n"] = eqx.field(kw_only=True)
    sampling: Sampling = eqx.field(kw_only=True)

    def __init__(self, quadratic: Any, linear: Any, constraints: Any, targets: Any) -> None:
        self.quadratic = validation.finite_array("quadratic", quadratic, ndim=2)
        self.linear = validation.finite_array("linear", linear, ndim=1)
        self.constraints = validation.finite_array("constraints", constraints, ndim=2)
        self.targets = validation.finite_array("targets", targets, ndim=1)
        n, d = self.constraints.shape
        for name, array, shape in (
            ("quadratic", self.quadratic, (d, d)),
            ("linear", self.linear, (d,)),
            ("targets", self.targets, (n,)),
        ):
            if array.shape != shape:
                raise ValueError(f"{name}: expected shape {shape} for constraints of shape {(n, d)}, got {array.shape}")
        _check_positive_semidefinite("quadratic", self.quadratic)
        squares = jnp.sum(self.constraints**2, axis=1)
        if not isinstance(squares, jax.core.Tracer) and not bool((squares > 0).all()):
            raise ValueError(f"constraints: row {int(jnp.argmin(squares))} is zero")
        self.sampling = Sampling(n, squares)
        self.lipschitz = jnp.linalg.norm(self._matrix, 2)
        # E||F_q(u) - F_q(v)||^2 is a quadratic form in u - v; with these probabilities ||a_i||^2 / q_i = ||A||_F^2.
        total, coupling = squares.sum(), self.quadratic @ self.constraints.T
        rescaled = self.constraints / jnp.sqrt(squares)[:, None]
        form = jnp.block(
            [
                [self.quadratic @ self.quadratic + total * rescaled.T @ rescaled, -coupling],
                [-coupling.T, total * jnp.eye(n)],
            ]
        )
        self.average_lipschitz = jnp.sqrt(jnp.linalg.eigvalsh(form)[-1])

    @property
    def _matrix(self) -> Float[Array, "size size"]:
        n = self.constraints.shape[0]
        return jnp.block([[self.quadratic, -self.constraints.T], [self.constraints, jnp.zeros((n, n))]])

    @property
    def components(self) -> int:
        return self.constraints.shape[0]

    def operator(self, x: Pair) -> Pair:
        primal, dual = x
        return (
            self.quadratic @ primal - self.linear - dual @ self.constraints,
            self.constraints @ primal - self.targets,
        )

    def sample(self, key: Key[Array, ""], size: int) -> Int[Array, " size"]:
        return self.sampling.draw(key, size)

    def scaled_components(
        self, x: Pair, indices: Int[Array, " batch"]
    ) -> tuple[Float[Array, "batch d"], Float[Array, "batch n"]]:
        primal, dual = x
        rows = self.constraints[indices]
        weights = 1.0 / self.sampling.probabilities[indices]
        violation = weights * (rows @ primal - self.targets[indices])
        pull = (weights * dual[indices])[:, None] * rows
        return (
            (self.quadratic @ primal - self.linear) - pull,
            violation[:, None] * jax.nn.one_hot(indices, self.components, dtype=violation.dtype),
        )

    def exact_resolvent(self, u: Pair, step_size: float) -> Pair:
        r"""$(I + \eta F)^{-1}(u)$, by solving its linear system."""
        d = self.linear.size
        right = jnp.concatenate(u) + step_size * jnp.concatenate([self.linear, self.targets])
        solution = jnp.linalg.solve(jnp.eye(right.size) + step_size * self._matrix, right)
        return solution[:d], solution[d:]

    def solution(self, x: Pair) -> Pair:
        """The primal-dual solution nearest to `x`, by SVD."""
        start, d = jnp.concatenate(x), self.linear.size
        target = jnp.concatenate([self.linear, self.targets])
        nearest = start + jnp.linalg.lstsq(self._matrix, target - self._matrix @ start)[0]
        return nearest[:d], nearest[d:]


def saddle_operator(function: Callable[[Any, Any], Float[Array, ""]]) -> Callable[[Any], Any]:
    r"""The operator $F(x, y) = (\nabla_x \varphi(x, y), -\nabla_y \varphi(x, y))$ of $\min_x \max_y \varphi(x, y)$.

    It is monotone if $\varphi$ is convex in `x` and concave in `y`.

    **Arguments**: `function`, $\varphi$ of two pytrees of arrays.

    **Returns** a function of the pair `(x, y)`, for `Operator`.
    """

    def operator(point: Any) -> Any:
        descent, ascent = jax.grad(function, argnums=(0, 1))(*point)
        return descent, otu.tree_scale(-1.0, ascent)

    return operator


class Audit(NamedTuple):
    r"""The extremes over sampled pairs $(u, v)$; each is the best constant that no pair contradicted.

    **Arguments**

    - `monotonicity`: the smallest $\langle F(u) - F(v), u - v \rangle / \lVert u - v \rVert^2$; negative proves that
      $F$ is not monotone.
    - `lipschitz`: the largest $\lVert F(u) - F(v) \rVert / \lVert u - v \rVert$.
    - `cocoercivity`: the smallest $\langle F(u) - F(v), u - v \rangle / \lVert F(u) - F(v) \rVert^2$.
    - `average_lipschitz`: the largest root mean square of $\lVert F_q(u) - F_q(v) \rVert / \lVert u - v \rVert$ over a
      batch of sampled components; `None` for an inclusion that is not a finite sum.
    """

    monotonicity: float
    lipschitz: float
    cocoercivity: float
    average_lipschitz: float | None


def audit(
    problem: Inclusion,
    x: PyTree[Array],
    *,
    pairs: int = 256,
    radius: float = 1.0,
    batch: int = 256,
    key: int | Key[Array, ""] = 0,
) -> Audit:
    """Look for pairs of points that contradict the assumptions on an operator.

    **Arguments**

    - `problem`: the inclusion.
    - `x`: the point around which pairs are drawn, from a normal distribution of standard deviation `radius`.
    - `pairs`: how many pairs.
    - `batch`: how many components are drawn for each pair, for `average_lipschitz`.
    - `key`: the root of all randomness.

    **Returns** an `Audit`. Only a violation is conclusive.
    """
    validation.integer("pairs", pairs, low=1)
    validation.integer("batch", batch, low=1)
    validation.positive("radius", radius)
    start = jax.tree.map(lambda leaf: validation.finite_array("x", leaf), x)
    root = jax.random.key(key) if isinstance(key, int) else key

    def examine(key: Key[Array, ""]) -> tuple[Array, Array, Array, Array]:
        keys = jax.random.split(key, 3)
        u, v = (otu.tree_add_scale(start, radius, otu.tree_random_like(each, start)) for each in keys[:2])
        step, change = otu.tree_sub(u, v), otu.tree_sub(problem.operator(u), problem.operator(v))
        inner, length, growth = otu.tree_vdot(change, step), otu.tree_norm(step), otu.tree_norm(change)
        average = jnp.asarray(jnp.nan)
        if isinstance(problem, FiniteSumInclusion):
            indices = problem.sample(keys[2], batch)
            spread = otu.tree_sub(problem.scaled_components(u, indices), problem.scaled_components(v, indices))
            average = otu.tree_norm(spread) / jnp.sqrt(batch) / length
        return inner / length**2, growth / length, inner / growth**2, average

    found = [np.asarray(each) for each in jax.jit(jax.vmap(examine))(jax.random.split(root, pairs))]
    average = float(found[3].max()) if isinstance(problem, FiniteSumInclusion) else None
    return Audit(float(found[0].min()), float(found[1].max()), float(found[2].min()), average)


def _check_positive_semidefinite(name: str, matrix: Float[Array, "d d"]) -> None:
    if isinstance(matrix, jax.core.Tracer):
        return
    values = np.asarray(matrix, dtype=np.float64)
    scale = np.abs(values).max()
    tolerance = 100 * len(values) * np.finfo(matrix.dtype).eps * scale
    if np.abs(values - values.T).max() > tolerance:
        raise ValueError(
            f"{name}: must be symmetric, differs from its transpose by {np.abs(values - values.T).max():g}"
        )
    if (smallest := np.linalg.eigvalsh(values)[0]) < -tolerance:
        raise ValueError(f"{name}: must be positive semidefinite, its smallest eigenvalue is {smallest:g}")
