"""Solve a linear system by random projections: sketch-and-project, of which randomised Kaczmarz is one case."""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.iteration import Scalar

# Sketches are drawn this many at a time, or as many as there are between two residuals if that is more.
_CHUNK = 256


class Sketch(eqx.Module):
    r"""A distribution of sketching matrices $S \in \mathbb{R}^{N \times s}$.

    A subclass says how a batch of sketches is drawn and how one of them compresses an array, so that a sketch which
    merely selects rows never becomes a matrix.
    """

    @abc.abstractmethod
    def draw(self, key: Key[Array, ""], rows: int, count: int) -> PyTree[Array]:
        """`count` independent sketches of a system of `rows` equations, stacked along the first dimension."""

    @abc.abstractmethod
    def compress(self, drawn: PyTree[Array], array: Float[Array, "rows ..."]) -> Float[Array, "size ..."]:
        r"""$S^\top A$ for one sketch and a matrix or vector $A$ of `rows` rows."""


class KaczmarzSketch(Sketch):
    r"""Columns of the identity: a step projects onto the solutions of `block_size` of the equations.

    Uniform sampling is the paper's. The rows of a KKT matrix differ in scale by orders of magnitude, which makes
    sampling by squared norms, $p_i \propto \lVert A_i\rVert^2$ (Strohmer and Vershynin), slow there.

    **Arguments**

    - `block_size`: $s$, how many rows a step takes, without replacement.
    - `probabilities`: of the rows, shape `(N,)`, not necessarily normalised; by default uniform.

    **Raises** `ValueError` for a block size below one or negative probabilities; when drawn, for more rows than
    there are, or probabilities of the wrong shape.
    """

    block_size: int = eqx.field(default=1, static=True)
    probabilities: Float[Array, " rows"] | None = eqx.field(
        default=None,
        converter=lambda value: None if value is None else validation.finite_array("probabilities", value, ndim=1),
    )

    def __check_init__(self) -> None:
        validation.integer("block_size", self.block_size, low=1)
        if self.probabilities is not None:
            validation.real("probabilities", self.probabilities, low=0.0)

    def draw(self, key: Key[Array, ""], rows: int, count: int) -> Int[Array, "count size"]:
        """Row numbers."""
        if self.block_size > rows:
            raise ValueError(f"block_size: must be at most {rows}, the number of rows, got {self.block_size}")
        if self.probabilities is not None and self.probabilities.shape != (rows,):
            raise ValueError(f"probabilities: expected shape ({rows},), got {self.probabilities.shape}")
        weights = None if self.probabilities is None else self.probabilities / self.probabilities.sum()
        if self.block_size == 1:
            return jax.random.choice(key, rows, (count, 1), p=weights)

        def block(key: Key[Array, ""]) -> Int[Array, " size"]:
            return jax.random.choice(key, rows, (self.block_size,), replace=False, p=weights)

        return jax.vmap(block)(jax.random.split(key, count))

    def compress(self, drawn: Int[Array, " size"], array: Float[Array, "rows ..."]) -> Float[Array, "size ..."]:
        """The chosen rows."""
        # A slice where one will do: XLA gathers rows in a loop, which takes longer than the projection itself.
        return array[drawn[0]][None] if self.block_size == 1 else array[drawn]


class GaussianSketch(Sketch):
    r"""Independent standard normal entries: a step projects onto random combinations of all equations.

    **Arguments**: `block_size`, $s$. **Raises** `ValueError` if it is below one.
    """

    block_size: int = eqx.field(default=1, static=True)

    def __check_init__(self) -> None:
        validation.integer("block_size", self.block_size, low=1)

    def draw(self, key: Key[Array, ""], rows: int, count: int) -> Float[Array, "count rows size"]:
        """Dense matrices."""
        return jax.random.normal(key, (count, rows, self.block_size))

    def compress(self, drawn: Float[Array, "rows size"], array: Float[Array, "rows ..."]) -> Float[Array, "size ..."]:
        r"""$S^\top A$."""
        return drawn.T.astype(array.dtype) @ array


class CustomSketch(Sketch):
    r"""Sketching matrices of one's own.

    **Arguments**

    - `sample`: a JAX function `(key, rows)` to one random matrix $S$, shape `(rows, s)`; its range must cover the
      space in expectation, or the solver cannot converge.

    **Raises** `TypeError` if it is not a function.
    """

    sample: Callable[[Key[Array, ""], int], Float[Array, "rows size"]]

    def __check_init__(self) -> None:
        if not callable(self.sample):
            raise TypeError(f"sample: expected a function of (key, rows), got {type(self.sample).__name__}")

    def draw(self, key: Key[Array, ""], rows: int, count: int) -> Float[Array, "count rows size"]:
        """Dense matrices.

        **Raises** `ValueError` if they do not have two dimensions, the first of length `rows`.
        """
        drawn = jax.vmap(lambda each: self.sample(each, rows))(jax.random.split(key, count))
        if drawn.ndim != 3 or drawn.shape[1] != rows:
            raise ValueError(f"sample: must return a matrix of {rows} rows, got shape {drawn.shape[1:]}")
        return drawn

    def compress(self, drawn: Float[Array, "rows size"], array: Float[Array, "rows ..."]) -> Float[Array, "size ..."]:
        r"""$S^\top A$."""
        return drawn.T.astype(array.dtype) @ array


class SketchResult(enum.IntEnum):
    """How `sketch_and_project` ended."""

    converged = 0
    rounding = 1
    max_sketches = 2
    nonfinite = 3


class SketchSolution(eqx.Module):
    r"""The answer of `sketch_and_project`.

    **Arguments**

    - `x`: the solution, shape `(d,)`.
    - `residual_norm`: $\lVert Ax - b\rVert$, computed afresh at `x`.
    - `sketches`: how many steps were taken.
    - `result`: a number of `SketchResult`: `converged`; `rounding`, the residual is not above what rounding leaves
      behind, $\epsilon(\lVert A\rVert_F\lVert x\rVert + \lVert b\rVert)$, though above the tolerance; `max_sketches`;
      or `nonfinite`.
    """

    x: Float[Array, " cols"]
    residual_norm: Float[Array, ""]
    sketches: Int[Array, ""]
    result: Int[Array, ""]

    @property
    def converged(self) -> Bool[Array, ""]:
        """Whether the tolerance was reached."""
        return self.result == SketchResult.converged


def as_sketch(sketch: str | Sketch | Callable[[Key[Array, ""], int], Float[Array, "rows size"]]) -> Sketch:
    """The sketch that `"kaczmarz"`, `"gaussian"`, a `Sketch` or a function `(key, rows) -> matrix` stands for.

    **Raises** `ValueError` for another name, `TypeError` for anything else.
    """
    if isinstance(sketch, Sketch):
        return sketch
    if isinstance(sketch, str):
        if sketch not in ("kaczmarz", "gaussian"):
            raise ValueError(f"sketch: must be 'kaczmarz' or 'gaussian', a Sketch or a function, got {sketch!r}")
        return KaczmarzSketch() if sketch == "kaczmarz" else GaussianSketch()
    if callable(sketch):
        return CustomSketch(sketch)
    raise TypeError(f"sketch: expected a name, a Sketch or a function of (key, rows), got {type(sketch).__name__}")


def sketch_and_project(
    matrix: ArrayLike,
    target: ArrayLike,
    *,
    tolerance: Scalar = 1e-8,
    sketch: str | Sketch | Callable[[Key[Array, ""], int], Float[Array, "rows size"]] = "kaczmarz",
    key: int | Key[Array, ""] = 0,
    start: ArrayLike | None = None,
    max_sketches: int | Int[Array, ""] = 1_000_000,
) -> SketchSolution:
    r"""Solve $Ax = b$ by projecting onto one random sketch of it after another, in one compiled loop.

    $$x \leftarrow x - A^\top S\,(S^\top A A^\top S)^\dagger\, S^\top (Ax - b)$$

    For consistent systems $\mathbb{E}\lVert x_t - x^\star\rVert^2 \le (1 - \lambda)^t\lVert x_0 - x^\star\rVert^2$ with
    $\lambda$ the smallest nonzero eigenvalue of $\mathbb{E}[A^\top S(S^\top AA^\top S)^\dagger S^\top A]$. A step
    touches nothing but $S^\top A$ and $S^\top b$, so that with `KaczmarzSketch()` it costs $O(d)$. The residual is
    computed after every $N/s$ steps, which together cost about as much, and so the answer may be better than asked. May
    be traced, batched by `jax.vmap`, and resumed from `start`.

    **Arguments**

    - `matrix`: $A$, shape `(N, d)`.
    - `target`: $b$, shape `(N,)`.
    - `tolerance`: of $\lVert Ax - b\rVert$, absolute; zero asks for all that rounding allows.
    - `sketch`: `"kaczmarz"` (uniform rows), `"gaussian"`, a `Sketch`, or a function `(key, rows)` to a matrix $S$.
    - `key`: of the sketches, an integer or a JAX key.
    - `start`: $x_0$, by default zero.
    - `max_sketches`: the largest number of steps.

    **Returns** a `SketchSolution`, whose `result` says how it ended.

    **Raises** `ValueError` or `TypeError` naming the argument that is wrong.

    **Source**: R. M. Gower, P. Richtárik, "Randomized iterative methods for linear systems", SIAM J. Matrix Anal. Appl.
    36, 2015; as the solver of I. Hong, S. Na, M. W. Mahoney, M. Kolar, arXiv:2305.18379, Section 3.
    """
    matrix = validation.finite_array("matrix", matrix, ndim=2)
    target = validation.finite_array("target", target, ndim=1)
    if target.shape != matrix.shape[:1]:
        raise ValueError(f"target: expected shape {matrix.shape[:1]}, got {target.shape}")
    x = jnp.zeros(matrix.shape[1]) if start is None else validation.finite_array("start", start, ndim=1)
    if x.shape != matrix.shape[1:]:
        raise ValueError(f"start: expected shape {matrix.shape[1:]}, got {x.shape}")
    validation.real("tolerance", tolerance, low=0.0)
    if not isinstance(max_sketches, jax.Array):
        validation.integer("max_sketches", max_sketches, low=0)
    root = jax.random.key(key) if isinstance(key, int) else key
    dtype = jnp.result_type(matrix, target, x)
    system = (matrix.astype(dtype), target.astype(dtype), x.astype(dtype))
    return project_until(
        *system, jnp.asarray(tolerance, dtype), as_sketch(sketch), root, jnp.asarray(max_sketches, int)
    )


class _Progress(eqx.Module):
    x: Float[Array, " cols"]
    residual_norm: Float[Array, ""]
    bound: Float[Array, ""]
    sketches: Int[Array, ""]


@eqx.filter_jit
def project_until(
    matrix: Float[Array, "rows cols"],
    target: Float[Array, " rows"],
    start: Float[Array, " cols"],
    tolerance: Float[Array, ""],
    sketch: Sketch,
    key: Key[Array, ""],
    max_sketches: Int[Array, ""],
) -> SketchSolution:
    """What `sketch_and_project` runs once its arguments are arrays."""
    rows = matrix.shape[0]
    size = jnp.linalg.norm(matrix)
    # The square of what rounding leaves of the matrix: a row below it is one of zeros.
    negligible = (np.finfo(matrix.dtype).eps * size) ** 2 + np.finfo(matrix.dtype).tiny
    block = jax.eval_shape(lambda: sketch.compress(_draw(sketch.draw(key, rows, 1), 0), target)).size
    between_residuals = -(-rows // block)
    drawn_at_once = max(_CHUNK, between_residuals)

    def measured(x: Float[Array, " cols"], sketches: Int[Array, ""]) -> _Progress:
        # Where the products of rows overflow no step is possible, and the loop must not wait for one.
        residual = jnp.where(jnp.isfinite(size), matrix @ x - target, jnp.nan)
        rounding = np.finfo(x.dtype).eps * (size * jnp.linalg.norm(x) + jnp.linalg.norm(target))
        return _Progress(x, jnp.linalg.norm(residual), jnp.maximum(tolerance, rounding), sketches)

    def unfinished(progress: _Progress, end: Int[Array, ""]) -> Bool[Array, ""]:
        # Written so that a residual that is not a number ends the loop.
        above = jnp.isfinite(progress.residual_norm) & (progress.residual_norm > progress.bound)
        return jnp.asarray(above & (progress.sketches < end))

    def chunk(progress: _Progress) -> _Progress:
        first = progress.sketches
        end = jnp.minimum(first + drawn_at_once, max_sketches)
        draws = sketch.draw(jax.random.fold_in(key, first), rows, drawn_at_once)

        def project(number: Int[Array, ""], x: Float[Array, " cols"]) -> Float[Array, " cols"]:
            drawn = _draw(draws, number - first)
            return _project(x, sketch.compress(drawn, matrix), sketch.compress(drawn, target), negligible)

        def stretch(progress: _Progress) -> _Progress:
            until = jnp.minimum(progress.sketches + between_residuals, end)
            return measured(jax.lax.fori_loop(progress.sketches, until, project, progress.x), until)

        return jax.lax.while_loop(lambda progress: unfinished(progress, end), stretch, progress)

    ended = jax.lax.while_loop(
        lambda progress: unfinished(progress, max_sketches), chunk, measured(start, jnp.zeros_like(max_sketches))
    )
    norm = ended.residual_norm
    result = jnp.select(
        [~jnp.isfinite(norm), norm <= tolerance, norm <= ended.bound],
        [SketchResult.nonfinite, SketchResult.converged, SketchResult.rounding],
        SketchResult.max_sketches,
    )
    return SketchSolution(ended.x, norm, ended.sketches, result)


def _draw(draws: PyTree[Array], number: int | Int[Array, ""]) -> PyTree[Array]:
    return jax.tree.map(lambda leaf: leaf[number], draws)


def _project(
    x: Float[Array, " cols"],
    equations: Float[Array, "size cols"],
    right: Float[Array, " size"],
    negligible: Float[Array, ""],
) -> Float[Array, " cols"]:
    """The point nearest to `x` that solves `equations` in the sense of least squares.

    A single equation whose squared norm is `negligible` moves nothing worth the name.
    """
    if right.size == 1:
        row = equations[0]
        # Not a branch, with which XLA would not vectorise the products.
        square = jnp.maximum(row @ row, negligible)
        return jnp.asarray(x - (row @ x - right[0]) / square * row)
    inverse: Any = jnp.linalg.pinv(equations @ equations.T, hermitian=True)
    return jnp.asarray(x - inverse @ (equations @ x - right) @ equations)
