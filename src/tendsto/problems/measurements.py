"""Linear measurements of a matrix, scaled so that they nearly keep its Frobenius norm."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key

from tendsto import validation

Matrix = Float[Array, "rows columns"]
Measured = Float[Array, " measurements"]


class Measurements(eqx.Module):
    r"""A linear operator $\mathcal{A}$ from matrices to vectors, with its adjoint $\mathcal{A}^*$.

    The theory of matrix sensing wants $\mathcal{A}$ near-isotropic: $\lVert\mathcal{A}(M)\rVert^2 \approx
    \lVert M\rVert_F^2$ on matrices of low rank (see `isometry_distortion`). The operators here carry the factor
    that makes it so in expectation. `shape` is the shape of the matrices that are measured.
    """

    shape: eqx.AbstractVar[tuple[int, int]]

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """The number $m$ of measurements."""

    @abc.abstractmethod
    def __call__(self, matrix: Matrix) -> Measured:
        r"""$\mathcal{A}(M)$."""

    @abc.abstractmethod
    def adjoint(self, values: Measured) -> Matrix:
        r"""$\mathcal{A}^*(v)$, with $\langle \mathcal{A}(M), v\rangle = \langle M, \mathcal{A}^*(v)\rangle$."""


class IdentityMeasurements(Measurements):
    r"""$\mathcal{A}$ lists all entries, so that $\mathcal{A}^*\mathcal{A} = I$: matrix factorisation.

    This is also the population limit of Gaussian sensing with infinitely many measurements.

    **Arguments**: `shape`, the shape of the matrices.
    """

    shape: tuple[int, int] = eqx.field(static=True)

    def __check_init__(self) -> None:
        _check_shape(self.shape)

    @property
    def count(self) -> int:
        return self.shape[0] * self.shape[1]

    def __call__(self, matrix: Matrix) -> Measured:
        return matrix.ravel()

    def adjoint(self, values: Measured) -> Matrix:
        return values.reshape(self.shape)


class GaussianMeasurements(Measurements):
    r"""$\mathcal{A}(M)_i = \langle A_i, M\rangle / \sqrt{m}$, for $A_i$ of your own or from `draw`.

    **Arguments**: `matrices`, the $A_i$, shape `(measurements, rows, columns)`, entries of order one.

    **Raises** `ValueError` for another number of dimensions or entries that are not finite.
    """

    matrices: Float[Array, "measurements rows columns"]
    shape: tuple[int, int] = eqx.field(static=True)

    def __init__(self, matrices: ArrayLike) -> None:
        self.matrices = validation.finite_array("matrices", matrices, ndim=3)
        self.shape = (self.matrices.shape[1], self.matrices.shape[2])

    @classmethod
    def draw(
        cls, key: Key[Array, ""], count: int, shape: tuple[int, int], *, symmetric: bool = False
    ) -> GaussianMeasurements:
        r"""Draw $A_i$ with independent standard normal entries.

        **Arguments**

        - `key`: the random key.
        - `count`: the number $m$ of measurements; $m \gtrsim (n_1 + n_2) k / \delta^2$ gives distortion $\delta$.
        - `shape`: the shape of the matrices.
        - `symmetric`: replace $A_i$ by $(A_i + A_i^\top)/2$; needs a square shape. This measures a symmetric matrix
          just alike, but is blind to the skew-symmetric part of any other, so near-isotropy is lost for an
          asymmetric pair of factors.
        """
        validation.integer("count", count, low=1)
        _check_shape(shape)
        matrices = jax.random.normal(key, (count, *shape))
        if symmetric:
            if shape[0] != shape[1]:
                raise ValueError(f"shape: symmetric measurements need a square shape, got {shape}")
            matrices = (matrices + matrices.mT) / 2
        return cls(matrices)

    @property
    def count(self) -> int:
        return self.matrices.shape[0]

    def __call__(self, matrix: Matrix) -> Measured:
        values: Measured = self._rows @ matrix.ravel() / np.sqrt(self.count)
        return values

    def adjoint(self, values: Measured) -> Matrix:
        matrix: Matrix = (values @ self._rows).reshape(self.shape) / np.sqrt(self.count)
        return matrix

    @property
    def _rows(self) -> Float[Array, "measurements entries"]:
        return self.matrices.reshape(self.count, -1)


class EntryMeasurements(Measurements):
    r"""Observe the entries of a mask $\Omega$, as in matrix completion: $(M_{ij})_{(i,j)\in\Omega} / \sqrt{p}$.

    $p = |\Omega| / (n_1 n_2)$ is the share that is observed. Near-isotropy holds for matrices whose mass is spread
    over the entries (incoherent ones) only.

    **Arguments**: `mask`, boolean, shape `(rows, columns)`, true where observed.

    **Raises** `ValueError` if it is not a matrix or observes nothing, `TypeError` if it is not boolean.
    """

    rows: Int[Array, " measurements"]
    columns: Int[Array, " measurements"]
    shape: tuple[int, int] = eqx.field(static=True)

    def __init__(self, mask: ArrayLike) -> None:
        observed = np.asarray(mask)
        if observed.dtype != np.bool_:
            raise TypeError(f"mask: expected booleans, got dtype {observed.dtype}")
        if observed.ndim != 2 or not observed.any():
            raise ValueError(f"mask: expected a matrix with an observed entry, got shape {observed.shape}")
        rows, columns = np.nonzero(observed)
        self.rows, self.columns = jnp.asarray(rows), jnp.asarray(columns)
        self.shape = (observed.shape[0], observed.shape[1])

    @property
    def count(self) -> int:
        return self.rows.size

    @property
    def share(self) -> float:
        """The share $p$ of the entries that is observed."""
        return self.count / (self.shape[0] * self.shape[1])

    def __call__(self, matrix: Matrix) -> Measured:
        values: Measured = matrix[self.rows, self.columns] / np.sqrt(self.share)
        return values

    def adjoint(self, values: Measured) -> Matrix:
        zeros = jnp.zeros(self.shape, values.dtype)
        return zeros.at[self.rows, self.columns].add(values / np.sqrt(self.share), unique_indices=True)


class LinearMeasurements(Measurements):
    r"""Any linear JAX function as $\mathcal{A}$.

    **Arguments**

    - `shape`: the shape of the matrices.
    - `function`: $\mathcal{A}$, from a matrix to a vector; it must be linear.
    - `adjoint_function`: $\mathcal{A}^*$; by default the transpose that JAX derives from `function`.

    **Raises** `ValueError` if `function` does not return a vector, is not linear, or if `adjoint_function` is not its
    adjoint; each is tested on two random matrices and a random vector.
    """

    shape: tuple[int, int] = eqx.field(static=True)
    function: Callable[[Any], Any] = eqx.field(static=True)
    adjoint_function: Callable[[Any], Any] | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        _check_shape(self.shape)
        first, second = jax.random.normal(jax.random.key(0), (2, *self.shape))
        values = self.function(first)
        if values.ndim != 1:
            raise ValueError(f"function: must return a vector, got shape {values.shape}")
        size = jnp.linalg.norm(values) + jnp.linalg.norm(self.function(second))
        tolerance = float(np.sqrt(np.finfo(values.dtype).eps))
        if jnp.linalg.norm(self.function(first - 2 * second) - values + 2 * self.function(second)) > tolerance * size:
            raise ValueError("function: is not linear")
        probe = jax.random.normal(jax.random.key(1), values.shape)
        mismatch = jnp.abs(probe @ values - jnp.sum(first * self.adjoint(probe)))
        if mismatch > tolerance * jnp.linalg.norm(probe) * size:
            raise ValueError("adjoint_function: <A(M), v> differs from <M, A*(v)>")

    @property
    def count(self) -> int:
        measured: int = jax.eval_shape(self.function, jnp.zeros(self.shape)).size
        return measured

    def __call__(self, matrix: Matrix) -> Measured:
        measured: Measured = self.function(matrix)
        return measured

    def adjoint(self, values: Measured) -> Matrix:
        if self.adjoint_function is not None:
            given: Matrix = self.adjoint_function(values)
            return given
        transpose = jax.linear_transpose(self.function, jnp.zeros(self.shape, values.dtype))
        derived: Matrix = transpose(values)[0]
        return derived


def isometry_distortion(
    measurements: Measurements, rank: int, key: Key[Array, ""], *, samples: int = 200
) -> Float[Array, ""]:
    r"""Probe the restricted isometry property: $\max_M \big|\lVert\mathcal{A}(M)\rVert^2 - 1\big|$ over random $M$.

    **Arguments**

    - `measurements`: the operator $\mathcal{A}$.
    - `rank`: the rank of the random matrices, which have Gaussian factors and unit Frobenius norm. The error of
      a rank-$k$ estimate of a rank-$k$ matrix has rank up to $2k$.
    - `key`: the random key.
    - `samples`: how many matrices to try.

    **Returns** a lower bound on the restricted isometry constant $\delta$ for that rank; zero up to rounding for
    `IdentityMeasurements`. Where it is small, the formulas for full observation are a good guide.
    """
    validation.integer("rank", rank, low=1, high=min(measurements.shape))
    validation.integer("samples", samples, low=1)

    def distortion(key: Key[Array, ""]) -> Float[Array, ""]:
        left, right = (
            jax.random.normal(each, (size, rank))
            for each, size in zip(jax.random.split(key), measurements.shape, strict=True)
        )
        matrix = left @ right.T
        squared_norm: Float[Array, ""] = jnp.sum(measurements(matrix / jnp.linalg.norm(matrix)) ** 2)
        return jnp.abs(squared_norm - 1.0)

    return jnp.max(jax.lax.map(distortion, jax.random.split(key, samples)))


def _check_shape(shape: tuple[int, int]) -> None:
    if len(shape) != 2:
        raise ValueError(f"shape: expected (rows, columns), got {shape}")
    for size in shape:
        validation.integer("shape", size, low=1)
