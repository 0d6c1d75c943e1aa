"""Bilevel problems: an upper function of two variables, one of which minimises a lower function."""

import abc
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.iteration import Scalar


class BilevelProblem(eqx.Module):
    r"""Minimise $\Phi(x) = f(x, y^\star(x))$ where $y^\star(x) = \arg\min_y g(x, y)$.

    $f = \mathbb E\,F(x, y; \xi)$ and $g = \mathbb E\,G(x, y; \zeta)$, the lower one strongly convex in $y$. A subclass
    gives `upper` ($F$), `lower` ($G$) and `lower_start`, and `upper_batch` and `lower_batch` if they are random; all
    oracles follow by automatic differentiation. The gradient of $\Phi$ (the hypergradient) is

    $$\nabla\Phi(x) = \nabla_x f - \nabla^2_{xy} g\, z^\star, \qquad \nabla^2_{yy} g\, z^\star = \nabla_y f$$

    at $(x, y^\star(x))$. Variables are pytrees of arrays. Every oracle takes a random key, or `None` for the exact
    derivative of $f$ or $g$.

    Constants that a subclass knows are properties: `lower_strong_convexity` ($\mu$), `lower_smoothness` ($L_{g,1}$),
    `cross_bound` ($C_{g_{xy}} \ge \lVert\nabla^2_{xy} g\rVert$), `upper_bound` ($M \ge \lVert\nabla_y f(x,
    y^\star(x))\rVert$), `upper_smoothness` (the Lipschitz constant of $\nabla f(x, \cdot)$ near $y^\star(x)$),
    `relaxed_smoothness` ($K_0, K_1$), `deviation` ($\sigma$), `minimum` ($\inf\Phi$). Asking for one that is not known
    raises `AttributeError`.
    """

    lower_start: eqx.AbstractVar[PyTree[Array]]
    """$y_0$, where solves of the lower level start; it defines the shape of the lower variable."""

    @abc.abstractmethod
    def upper(self, x: PyTree[Array], y: PyTree[Array], batch: Any) -> Float[Array, ""]:
        r"""$F(x, y; \xi)$."""

    @abc.abstractmethod
    def lower(self, x: PyTree[Array], y: PyTree[Array], batch: Any) -> Float[Array, ""]:
        r"""$G(x, y; \zeta)$."""

    def upper_batch(self, key: Key[Array, ""] | None = None) -> Any:
        r"""$\xi$ drawn with `key`; with `None` the batch for which $F$ is $f$."""
        del key
        return None

    def lower_batch(self, key: Key[Array, ""] | None = None) -> Any:
        r"""$\zeta$ drawn with `key`; with `None` the batch for which $G$ is $g$."""
        del key
        return None

    def upper_gradient_x(self, x: PyTree[Array], y: PyTree[Array], key: Key[Array, ""] | None = None) -> PyTree[Array]:
        r"""$\nabla_x F(x, y; \xi)$."""
        return jax.grad(self.upper)(x, y, self.upper_batch(key))

    def upper_gradient_y(self, x: PyTree[Array], y: PyTree[Array], key: Key[Array, ""] | None = None) -> PyTree[Array]:
        r"""$\nabla_y F(x, y; \xi)$."""
        return jax.grad(self.upper, argnums=1)(x, y, self.upper_batch(key))

    def lower_gradient(self, x: PyTree[Array], y: PyTree[Array], key: Key[Array, ""] | None = None) -> PyTree[Array]:
        r"""$\nabla_y G(x, y; \zeta)$."""
        return jax.grad(self.lower, argnums=1)(x, y, self.lower_batch(key))

    def hessian_product(
        self, x: PyTree[Array], y: PyTree[Array], v: PyTree[Array], key: Key[Array, ""] | None = None
    ) -> PyTree[Array]:
        r"""$\nabla^2_{yy} G(x, y; \zeta)\, v$ with the structure of `y`, by forward over reverse differentiation."""
        batch = self.lower_batch(key)
        product: PyTree[Array] = jax.jvp(lambda y: jax.grad(self.lower, argnums=1)(x, y, batch), (y,), (v,))[1]
        return product

    def cross_product(
        self, x: PyTree[Array], y: PyTree[Array], v: PyTree[Array], key: Key[Array, ""] | None = None
    ) -> PyTree[Array]:
        r"""$\nabla^2_{xy} G(x, y; \zeta)\, v$ with the structure of `x`, by reverse over reverse differentiation."""
        batch = self.lower_batch(key)
        _, pull_back = jax.vjp(lambda x: jax.grad(self.lower, argnums=1)(x, y, batch), x)
        product: PyTree[Array] = pull_back(v)[0]
        return product

    def lower_solution(self, x: PyTree[Array]) -> PyTree[Array]:
        r"""$y^\star(x)$ to rounding, by Newton steps with conjugate gradients; NaN where that does not converge."""
        start, unravel = ravel_pytree(self.lower_start)
        batch = self.lower_batch()
        return unravel(_newton(lambda flat: self.lower(x, unravel(flat), batch), start))

    def linear_solution(self, x: PyTree[Array], y: PyTree[Array]) -> PyTree[Array]:
        r"""$z$ with $\nabla^2_{yy} g(x, y)\, z = \nabla_y f(x, y)$, by conjugate gradients."""
        right = self.upper_gradient_y(x, y)
        tolerance = 4.0 * float(np.finfo(ravel_pytree(right)[0].dtype).eps)
        solution: PyTree[Array] = cg(lambda v: self.hessian_product(x, y, v), right, tol=tolerance)[0]
        return solution

    def implicit_hypergradient(
        self, x: PyTree[Array], y: PyTree[Array], z: PyTree[Array] | None = None
    ) -> PyTree[Array]:
        r"""$\nabla_x f(x, y) - \nabla^2_{xy} g(x, y)\, z$, exact derivatives at any $y$ and $z$.

        **Arguments**: `x`; `y`; `z`, by default the solution of the linear system at $(x, y)$. At $y = y^\star(x)$
        the result is then $\nabla\Phi(x)$.
        """
        z = self.linear_solution(x, y) if z is None else z
        return jax.tree.map(jnp.subtract, self.upper_gradient_x(x, y), self.cross_product(x, y, z))

    def hypergradient(self, x: PyTree[Array]) -> PyTree[Array]:
        r"""$\nabla\Phi(x)$, at an accurate solution of the lower level."""
        return self.implicit_hypergradient(x, self.lower_solution(x))

    def objective(self, x: PyTree[Array]) -> Float[Array, ""]:
        r"""$\Phi(x)$, at an accurate solution of the lower level."""
        return self.upper(x, self.lower_solution(x), self.upper_batch())

    def stationarity(self, x: PyTree[Array]) -> Float[Array, ""]:
        r"""$\lVert\nabla\Phi(x)\rVert$, the true one; a method's own direction is no measure of it."""
        norm: Array = optax.tree.norm(self.hypergradient(x))
        return norm

    def check_start(self, x0: PyTree[Array]) -> None:
        """Evaluate the shapes of both functions at `x0` and `lower_start`.

        **Raises** `ValueError` naming `upper` or `lower` if it cannot be evaluated there, or is not a real scalar.
        """
        if x0 is None:
            raise ValueError("x0: the upper variable needs a starting point, got None")
        for name, function, batch in (("upper", self.upper, self.upper_batch), ("lower", self.lower, self.lower_batch)):
            try:
                out = jax.eval_shape(function, x0, self.lower_start, batch())
            except Exception as error:
                # Whatever a user's function raises on pytrees it was not written for.
                raise ValueError(
                    f"{name}: cannot be evaluated at x0 and lower_start; do their structures fit? ({error})"
                ) from error
            if getattr(out, "shape", None) != () or not jnp.issubdtype(out.dtype, jnp.floating):
                raise ValueError(f"{name}: must return a real scalar, got {out}")


def as_arrays(data: Any) -> PyTree[Array]:
    """`data` with JAX arrays for leaves."""
    return jax.tree.map(jnp.asarray, data)


class BilevelFiniteSum(BilevelProblem):
    r"""A bilevel problem whose two functions are means over the rows of two data sets.

    `upper` and `lower` are given a pytree of rows (arrays whose first axis counts samples) and average over them; a
    batch is drawn uniformly with replacement. A subclass has the fields `upper_data`, `lower_data` and `batch_size`,
    the last of which is `None` for exact derivatives.
    """

    upper_data: eqx.AbstractVar[PyTree[Array]]
    lower_data: eqx.AbstractVar[PyTree[Array]]
    batch_size: eqx.AbstractVar[int | None]

    def __check_init__(self) -> None:
        if self.batch_size is not None:
            validation.integer("batch_size", self.batch_size, low=1)
        for name in ("upper_data", "lower_data"):
            sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(getattr(self, name))}
            if len(sizes) > 1 or () in sizes:
                raise ValueError(f"{name}: all arrays must have the same number of rows, got {sorted(sizes)}")

    def upper_batch(self, key: Key[Array, ""] | None = None) -> PyTree[Array]:
        """Random rows of `upper_data`, or all of them."""
        return _draw(self.upper_data, self.batch_size, key)

    def lower_batch(self, key: Key[Array, ""] | None = None) -> PyTree[Array]:
        """Random rows of `lower_data`, or all of them."""
        return _draw(self.lower_data, self.batch_size, key)


class BilevelObjective(BilevelFiniteSum):
    r"""A bilevel problem from two JAX functions.

    **Arguments**

    - `upper_function`: $F(x, y, \text{batch})$, from pytrees of arrays to a scalar.
    - `lower_function`: $G(x, y, \text{batch})$, strongly convex in $y$.
    - `lower_start`: $y_0$, any pytree of arrays; its structure is that of $y$.
    - `upper_data`, `lower_data`: pytrees of arrays whose first axis counts samples, over which the functions average.
      By default there are none, and `batch` is `None`.
    - `batch_size`: how many rows a stochastic oracle sees; by default all.

    **Raises** `TypeError` or `ValueError` naming the argument.
    """

    upper_function: Callable[[Any, Any, Any], Float[Array, ""]] = eqx.field(static=True)
    lower_function: Callable[[Any, Any, Any], Float[Array, ""]] = eqx.field(static=True)
    lower_start: PyTree[Array] = eqx.field(
        converter=lambda start: jax.tree.map(lambda leaf: validation.finite_array("lower_start", leaf), start),
        kw_only=True,
    )
    upper_data: PyTree[Array] = eqx.field(default=None, kw_only=True, converter=as_arrays)
    lower_data: PyTree[Array] = eqx.field(default=None, kw_only=True, converter=as_arrays)
    batch_size: int | None = eqx.field(default=None, static=True, kw_only=True)

    def __check_init__(self) -> None:
        for name in ("upper_function", "lower_function"):
            if not callable(getattr(self, name)):
                raise TypeError(f"{name}: expected a function of x, y and a batch, got {getattr(self, name)!r}")

    def upper(self, x: PyTree[Array], y: PyTree[Array], batch: Any) -> Float[Array, ""]:
        r"""$F(x, y; \xi)$."""
        return self.upper_function(x, y, batch)

    def lower(self, x: PyTree[Array], y: PyTree[Array], batch: Any) -> Float[Array, ""]:
        r"""$G(x, y; \zeta)$."""
        return self.lower_function(x, y, batch)


class _UpperNoise(eqx.Module):
    x: Float[Array, " dx"]
    y: Float[Array, " dy"]


class _LowerNoise(eqx.Module):
    y: Float[Array, " dy"]
    cross: Float[Array, " dy"]


class CoshBilevel(BilevelProblem):
    r"""A bilevel problem with unbounded smoothness whose hypergradient has a closed form.

    $$g(x, y) = \tfrac12 (y - Bx)^\top H (y - Bx), \qquad f(x, y) = \sum_i (\cosh x_i - 1) + \sum_j \log\cosh y_j$$

    so that $y^\star(x) = Bx$, $\nabla\Phi(x) = \sinh x + B^\top \tanh(Bx)$ and $\Phi \ge \Phi(0) = 0$. The curvature of
    $\Phi$ grows like $e^{\lVert x\rVert_\infty}$, as its gradient does.

    With noise, $F = f + \xi_x^\top x + \xi_y^\top y$ and $G = g + \zeta^\top y + (\chi^\top\sin y)\sum_i \sin(x_i)
    / d_x$ with normal $\xi_x, \xi_y, \zeta, \chi$ of mean zero and total deviation $\sigma$ each: every oracle is
    noisy, second derivatives too, with bounded deviations.

    **Arguments**

    - `mixing`: $B$, shape `(dy, dx)`.
    - `hessian`: $H$, symmetric positive definite, shape `(dy, dy)`.
    - `sigma`: $\sigma \ge 0$.
    - `lower_start`: $y_0$, by default zero.

    **Raises** `ValueError` naming the argument.
    """

    mixing: Float[Array, "dy dx"]
    hessian: Float[Array, "dy dy"]
    sigma: Scalar
    lower_start: Float[Array, " dy"]

    def __init__(self, mixing: Any, hessian: Any, sigma: Scalar = 0.0, *, lower_start: Any = None) -> None:
        self.mixing = validation.finite_array("mixing", mixing, ndim=2)
        self.hessian = validation.finite_array("hessian", hessian, ndim=2)
        self.sigma = jnp.asarray(sigma)
        start = jnp.zeros(self.mixing.shape[0]) if lower_start is None else lower_start
        self.lower_start = validation.finite_array("lower_start", start, ndim=1)

    def __check_init__(self) -> None:
        validation.real("sigma", self.sigma, low=0.0)
        size = self.mixing.shape[0]
        if self.hessian.shape != (size, size) or self.lower_start.shape != (size,):
            raise ValueError(f"hessian: expected shape {(size, size)}, and ({size},) for lower_start")
        if not isinstance(self.hessian, jax.core.Tracer):
            host = np.asarray(self.hessian)
            if not np.array_equal(host, host.T) or np.linalg.eigvalsh(host)[0] <= 0.0:
                raise ValueError("hessian: must be symmetric and positive definite")

    @classmethod
    def random(
        cls, key: Key[Array, ""], dimension: int, *, spectrum: tuple[float, float] = (1.0, 4.0), sigma: float = 0.0
    ) -> "CoshBilevel":
        r"""A random instance: $H$ with evenly spaced eigenvalues in `spectrum`, $B$ of Frobenius norm $\sqrt d$."""
        validation.integer("dimension", dimension, low=1)
        basis_key, mixing_key = jax.random.split(key)
        basis = jnp.linalg.qr(jax.random.normal(basis_key, (dimension, dimension)))[0]
        hessian = (basis * jnp.linspace(*spectrum, dimension)) @ basis.T
        mixing = jax.random.normal(mixing_key, (dimension, dimension))
        return cls(mixing * math.sqrt(dimension) / jnp.linalg.norm(mixing), (hessian + hessian.T) / 2.0, sigma)

    def upper(self, x: Float[Array, " dx"], y: Float[Array, " dy"], batch: _UpperNoise) -> Float[Array, ""]:
        r"""$F(x, y; \xi)$."""
        # cosh(x) - 1 without cancellation near zero.
        value = jnp.sum(2.0 * jnp.sinh(x / 2.0) ** 2) + jnp.sum(jnp.logaddexp(y, -y) - math.log(2.0))
        return value + batch.x @ x + batch.y @ y

    def lower(self, x: Float[Array, " dx"], y: Float[Array, " dy"], batch: _LowerNoise) -> Float[Array, ""]:
        r"""$G(x, y; \zeta)$."""
        difference = y - self.mixing @ x
        noise: Array = batch.y @ y + batch.cross @ jnp.sin(y) * jnp.sin(x).mean()
        return 0.5 * difference @ self.hessian @ difference + noise

    def upper_batch(self, key: Key[Array, ""] | None = None) -> _UpperNoise:
        r"""$\xi_x$ and $\xi_y$; zero without a key."""
        rows, columns = self.mixing.shape
        noise = self._noise(key, columns + rows)
        return _UpperNoise(noise[:columns] / math.sqrt(columns), noise[columns:] / math.sqrt(rows))

    def lower_batch(self, key: Key[Array, ""] | None = None) -> _LowerNoise:
        r"""$\zeta$ and $\chi$; zero without a key."""
        rows = self.mixing.shape[0]
        noise = self._noise(key, 2 * rows) / math.sqrt(rows)
        return _LowerNoise(noise[:rows], noise[rows:])

    def _noise(self, key: Key[Array, ""] | None, size: int) -> Array:
        dtype = self.mixing.dtype
        return jnp.zeros(size, dtype) if key is None else self.sigma * jax.random.normal(key, (size,), dtype)

    def lower_solution(self, x: Float[Array, " dx"]) -> Float[Array, " dy"]:
        """$Bx$."""
        return self.mixing @ x

    def linear_solution(self, x: Float[Array, " dx"], y: Float[Array, " dy"]) -> Float[Array, " dy"]:
        r"""$H^{-1} \tanh y$."""
        solution: Array = jnp.linalg.solve(self.hessian, jnp.tanh(y))
        return solution

    def hypergradient(self, x: Float[Array, " dx"]) -> Float[Array, " dx"]:
        r"""$\sinh x + B^\top \tanh(Bx)$."""
        return jnp.sinh(x) + self.mixing.T @ jnp.tanh(self.mixing @ x)

    @property
    def minimum(self) -> Float[Array, ""]:
        r"""$\Phi(0) = 0$."""
        return jnp.zeros(())

    @property
    def lower_strong_convexity(self) -> Float[Array, ""]:
        r"""$\mu = \lambda_{\min}(H)$."""
        value: Array = jnp.linalg.eigvalsh(self.hessian)[0]
        return value

    @property
    def lower_smoothness(self) -> Float[Array, ""]:
        r"""$L_{g,1} = \lambda_{\max}(H)$."""
        value: Array = jnp.linalg.eigvalsh(self.hessian)[-1]
        return value

    @property
    def cross_bound(self) -> Float[Array, ""]:
        r"""$\lVert B^\top H\rVert$."""
        value: Array = jnp.linalg.norm(self.mixing.T @ self.hessian, 2)
        return value

    @property
    def upper_bound(self) -> float:
        r"""$\sqrt{d_y}$, as each entry of $\nabla_y f$ is a hyperbolic tangent."""
        return math.sqrt(self.mixing.shape[0])

    @property
    def upper_smoothness(self) -> float:
        r"""1, the Lipschitz constant of $\nabla f(x, \cdot)$."""
        return 1.0

    @property
    def deviation(self) -> float:
        r"""$\sigma$, of every first and second derivative."""
        return float(self.sigma)

    @property
    def relaxed_smoothness(self) -> tuple[float, float]:
        r"""$(K_0, K_1)$ with $\lVert\nabla\Phi(x) - \nabla\Phi(x')\rVert \le (K_0 + K_1\lVert\nabla\Phi(x)\rVert)
        \lVert x - x'\rVert$ for $\lVert x - x'\rVert \le 1$.

        $\lVert\nabla^2\Phi\rVert \le L_0 + \lVert\nabla\Phi\rVert$ with $L_0 = 1 + \lVert B\rVert^2 + \lVert B\rVert
        \sqrt{d_y}$, because $\cosh t \le 1 + \lvert\sinh t\rvert$; by Grönwall's inequality over a step of length at
        most 1, $K_0 = 2 L_0$ and $K_1 = e - 1$.
        """
        norm = float(jnp.linalg.norm(self.mixing, 2))
        return 2.0 * (1.0 + norm**2 + norm * self.upper_bound), math.e - 1.0


def _draw(data: PyTree[Array], size: int | None, key: Key[Array, ""] | None) -> PyTree[Array]:
    if key is None or size is None or data is None:
        return data
    rows = jax.random.randint(key, (size,), 0, row_count(data))
    return take_rows(data, rows)


def row_count(data: PyTree[Array]) -> int:
    """How many rows the arrays of `data` have."""
    return int(jax.tree.leaves(data)[0].shape[0])


def take_rows(data: PyTree[Array], rows: Int[Array, " batch"]) -> PyTree[Array]:
    """The rows of every array of `data` with these numbers."""
    return jax.tree.map(lambda leaf: leaf[rows], data)


class _Newton(eqx.Module):
    point: Float[Array, " n"]
    gradient: Float[Array, " n"]
    going: Bool[Array, ""]
    count: Int[Array, ""]


def _newton(function: Callable[[Array], Array], start: Float[Array, " n"]) -> Float[Array, " n"]:
    """The minimiser of a strongly convex function; NaN if the gradient does not vanish.

    Steps are halved until the norm of the gradient falls, which near the solution is a sharper test than the value.
    Each loop carries the outcome of its own test: a batched loop evaluates its condition twice, and one that rounds
    differently the second time would never end.
    """
    gradient = jax.grad(function)
    eps = float(np.finfo(start.dtype).eps)
    first = gradient(start)
    scale = 1.0 + jnp.linalg.norm(first)

    def unsolved(gradient: Array) -> Array:
        large: Array = jnp.linalg.norm(gradient) > 0.1 * eps * scale
        return large

    def body(state: _Newton) -> _Newton:
        direction = cg(
            lambda v: jax.jvp(gradient, (state.point,), (v,))[1], -state.gradient, tol=math.sqrt(eps), atol=0.0
        )[0]
        level = jnp.linalg.norm(state.gradient)

        def too_far(size: Array) -> Array:
            trial = jnp.linalg.norm(gradient(state.point + size * direction))
            short_of: Array = ~(trial <= (1.0 - 0.25 * size) * level)
            return short_of

        def halve(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            size, _, halvings = carry
            return 0.5 * size, too_far(0.5 * size), halvings + 1

        whole = jnp.ones((), start.dtype)
        size = jax.lax.while_loop(
            lambda carry: carry[1] & (carry[2] < 20), halve, (whole, too_far(whole), jnp.asarray(0))
        )[0]
        point = state.point + size * direction
        after = gradient(point)
        # A Newton direction that ascends means a Hessian that is not positive: no minimiser lies that way.
        better = (jnp.linalg.norm(after) < level) & (state.gradient @ direction < 0.0)
        point, after = jnp.where(better, point, state.point), jnp.where(better, after, state.gradient)
        return _Newton(point, after, better & unsolved(after), state.count + 1)

    last = jax.lax.while_loop(
        lambda state: state.going & (state.count < 100), body, _Newton(start, first, unsolved(first), jnp.asarray(0))
    )
    solved = jnp.linalg.norm(last.gradient) <= eps**0.6 * scale
    return jnp.where(solved, last.point, jnp.nan)
