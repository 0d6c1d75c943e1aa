"""Recover a low-rank matrix from linear measurements, through its factors."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key

from tendsto import validation
from tendsto.problems.base import Problem
from tendsto.problems.measurements import EntryMeasurements, IdentityMeasurements, Matrix, Measured, Measurements

Factor = Float[Array, "rows rank"]
Factors = Factor | tuple[Factor, Float[Array, "columns rank"]]
"""A factor $X$ that stands for $X X^\\top$, or a pair $(F, G)$ that stands for $F G^\\top$."""


def product(x: Factors) -> Matrix:
    r"""The matrix that factors stand for: $X X^\top$ for one factor, $F G^\top$ for a pair."""
    left, right = x if isinstance(x, tuple) else (x, x)
    return left @ right.T


class MatrixSensing(Problem):
    r"""Find factors whose product $M$ satisfies $\mathcal{A}(M) = y$, by least squares.

    $$f(X) = \tfrac14 \lVert \mathcal{A}(X X^\top) - y\rVert^2, \qquad
      f(F, G) = \tfrac12 \lVert \mathcal{A}(F G^\top) - y\rVert^2.$$

    With $E = \mathcal{A}^*(\mathcal{A}(M) - y)$ the gradients are $\tfrac12 (E + E^\top) X$ and
    $(E G, E^\top F)$: the two weights $\tfrac14$ and $\tfrac12$ give both the same coefficient. The iterate says
    which loss is meant: one array is $X$, a pair is $(F, G)$.

    **Arguments**

    - `measurements`: the operator $\mathcal{A}$.
    - `values`: $y$, shape `(measurements,)`, in the operator's scaling.
    - `target`: the matrix $M^\star$ sought, shape `(rows, columns)`, where it is known; `error` and the spectral
      constants come from it.

    **Raises** `ValueError` if the shapes do not fit.

    **Source** Xiong, Ding and Du (2023), Section 1.
    """

    measurements: Measurements
    values: Measured = eqx.field(converter=lambda value: validation.finite_array("values", value, ndim=1))
    target: Matrix | None = eqx.field(
        default=None,
        converter=lambda value: None if value is None else validation.finite_array("target", value, ndim=2),
    )

    def __check_init__(self) -> None:
        if self.values.size != self.measurements.count:
            raise ValueError(f"values: expected {self.measurements.count} measurements, got {self.values.size}")
        if self.target is not None and self.target.shape != self.measurements.shape:
            raise ValueError(f"target: expected shape {self.measurements.shape}, got {self.target.shape}")

    @classmethod
    def from_target(cls, target: ArrayLike, measurements: Measurements | None = None) -> MatrixSensing:
        """Measure a known matrix without noise; all of its entries, unless `measurements` says otherwise."""
        matrix = validation.finite_array("target", target, ndim=2)
        if measurements is None:
            measurements = IdentityMeasurements((matrix.shape[0], matrix.shape[1]))
        if matrix.shape != measurements.shape:
            raise ValueError(f"target: expected shape {measurements.shape}, got {matrix.shape}")
        return cls(measurements, measurements(matrix), matrix)

    @classmethod
    def from_entries(cls, entries: ArrayLike) -> MatrixSensing:
        """Complete a matrix whose missing entries are NaN (a pandas frame or an array), shape `(rows, columns)`."""
        table = np.asarray(entries, dtype=np.float64)
        mask = ~np.isnan(table)
        measurements = EntryMeasurements(mask)
        return cls(measurements, measurements(jnp.asarray(np.where(mask, table, 0.0))))

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the matrix sought."""
        return self.measurements.shape

    @property
    def gradient_cost(self) -> int:
        """One component gradient for each measurement."""
        return self.measurements.count

    def residual(self, x: Factors) -> Measured:
        r"""$\mathcal{A}(M) - y$."""
        return self.measurements(product(x)) - self.values

    def smooth_part(self, x: Factors) -> Float[Array, ""]:
        """$f$, whose weight depends on the kind of factors."""
        return jnp.sum(self.residual(x) ** 2) / (2 if isinstance(x, tuple) else 4)

    def gradient(self, x: Factors) -> Factors:
        r"""$(E G, E^\top F)$ or $\tfrac12 (E + E^\top) X$."""
        return self.chain(x, self.residual(x))

    def chain(self, x: Factors, residual: Measured) -> Factors:
        r"""The gradient from a residual that is already known, with $E = \mathcal{A}^*(\text{residual})$."""
        error = self.measurements.adjoint(residual)
        if isinstance(x, tuple):
            left, right = x
            return error @ right, error.T @ left
        return (error + error.T) @ x / 2

    def error(self, x: Factors) -> Float[Array, ""]:
        r"""$\lVert M - M^\star\rVert_F^2$, the squared distance to the target."""
        return jnp.sum((product(x) - self._known_target) ** 2)

    def relative_residual(self, x: Factors) -> Float[Array, ""]:
        r"""$\lVert \mathcal{A}(M) - y\rVert^2 / \lVert y\rVert^2$, which needs no target."""
        return jnp.sum(self.residual(x) ** 2) / jnp.sum(self.values**2)

    @property
    def largest_singular_value(self) -> Float[Array, ""]:
        r"""$\sigma_1(M^\star)$; estimated by $\lVert\mathcal{A}^*(y)\rVert_2$ where the target is not known."""
        matrix = self.measurements.adjoint(self.values) if self.target is None else self.target
        norm: Float[Array, ""] = jnp.linalg.norm(matrix, 2)
        return norm

    @property
    def rank(self) -> int:
        """The rank $r$ of the target, to rounding."""
        return int(jnp.linalg.matrix_rank(self._known_target))

    @property
    def smallest_singular_value(self) -> Float[Array, ""]:
        r"""$\sigma_r(M^\star)$, the smallest singular value that is not zero."""
        return jnp.linalg.svd(self._known_target, compute_uv=False)[self.rank - 1]

    @property
    def condition_number(self) -> Float[Array, ""]:
        r"""$\kappa = \sigma_1(M^\star) / \sigma_r(M^\star)$."""
        return self.largest_singular_value / self.smallest_singular_value

    @property
    def _known_target(self) -> Matrix:
        if self.target is None:
            raise AttributeError("MatrixSensing does not know its target; use relative_residual instead")
        return self.target


def random_low_rank(
    key: Key[Array, ""],
    shape: tuple[int, int],
    rank: int,
    *,
    condition_number: float = 1.0,
    symmetric: bool = False,
) -> Matrix:
    r"""A random matrix of given rank and condition number, with largest singular value one.

    $M = U \operatorname{diag}(\sigma) V^\top$ with $U, V$ uniformly random orthonormal and $\sigma$ spaced
    geometrically from $1$ to $1/\kappa$; $V = U$ makes it positive semi-definite.

    **Arguments**

    - `key`: the random key.
    - `shape`: `(rows, columns)`.
    - `rank`: $r$, at most the smaller side.
    - `condition_number`: $\kappa \ge 1$; must be 1 for rank 1.
    - `symmetric`: take $V = U$; needs a square shape.

    **Raises** `ValueError` or `TypeError` naming the argument that is wrong.
    """
    validation.integer("rank", rank, low=1, high=min(shape))
    validation.real("condition_number", condition_number, low=1.0)
    if rank == 1 and condition_number != 1.0:
        raise ValueError(f"condition_number: a matrix of rank 1 has condition number 1, got {condition_number}")
    if symmetric and shape[0] != shape[1]:
        raise ValueError(f"shape: a symmetric matrix needs a square shape, got {shape}")
    left_key, right_key = jax.random.split(key)
    left = jnp.linalg.qr(jax.random.normal(left_key, (shape[0], rank))).Q
    right = left if symmetric else jnp.linalg.qr(jax.random.normal(right_key, (shape[1], rank))).Q
    return (left * jnp.geomspace(1.0, 1.0 / condition_number, rank)) @ right.T
