"""Minimise a function under equality constraints: what a Newton method on the Lagrangian asks of a problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key
from numpy.typing import NDArray
from scipy.optimize import NonlinearConstraint

from tendsto import validation
from tendsto.problems.linear_models import LogisticRegression


class PrimalDual(NamedTuple):
    r"""A point $x$, shape `(n,)`, and multipliers $\lambda$, shape `(m,)`."""

    x: Float[Array, " n"]
    multipliers: Float[Array, " m"]


class EqualityConstrained(eqx.Module):
    r"""Minimise $f(x)$ subject to $c(x) = 0$, with $f$ and $c$ any twice differentiable JAX functions of a vector.

    The Lagrangian is $\mathcal{L}(x, \lambda) = f(x) + \lambda^\top c(x)$. Measures take a `PrimalDual`, so that `run`
    and `solve` find them by name.

    **Arguments**

    - `function`: $f$, from shape `(n,)` to a scalar.
    - `constraints`: $c$, from shape `(n,)` to shape `(m,)` with $1 \le m \le n$.
    - `start`: a starting point, for problems that come with one.
    - `minimum`: $f^\star$, for problems of which it is known.

    Functions may be `equinox` modules; the arrays they hold are then arguments of what JAX compiles.
    """

    function: Callable[[Float[Array, " n"]], Float[Array, ""]]
    constraints: Callable[[Float[Array, " n"]], Float[Array, " m"]]
    start: Float[Array, " n"] | None = eqx.field(
        default=None,
        converter=lambda value: None if value is None else validation.finite_array("start", value, ndim=1),
    )
    minimum: float | None = None

    def __check_init__(self) -> None:
        for name in ("function", "constraints"):
            if not callable(getattr(self, name)):
                raise TypeError(f"{name}: expected a function of x, got {type(getattr(self, name)).__name__}")

    def objective(self, point: PrimalDual) -> Float[Array, ""]:
        """$f(x)$."""
        return jnp.asarray(self.function(point.x))

    def infeasibility(self, point: PrimalDual) -> Float[Array, ""]:
        r"""$\lVert c(x)\rVert$."""
        return jnp.asarray(jnp.linalg.norm(self.constraints(point.x)))

    def stationarity(self, point: PrimalDual) -> Float[Array, ""]:
        r"""$\lVert\nabla\mathcal{L}(x, \lambda)\rVert$, the norm of the KKT residual."""
        return jnp.asarray(jnp.linalg.norm(self.kkt_residual(point)))

    def lagrangian(self, point: PrimalDual) -> Float[Array, ""]:
        r"""$f(x) + \lambda^\top c(x)$."""
        return self.function(point.x) + jnp.dot(point.multipliers, self.constraints(point.x))

    def gradient(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        r"""$\nabla f(x)$."""
        derivative: Float[Array, " n"] = jax.grad(self.function)(x)
        return derivative

    def jacobian(self, x: Float[Array, " n"]) -> Float[Array, "m n"]:
        r"""$G(x) = \nabla c(x)$, a row for each constraint."""
        # Reverse mode costs m passes against n of forward mode, and m is never the larger.
        derivative: Float[Array, "m n"] = jax.jacrev(self.constraints)(x)
        return derivative

    def hessian(self, point: PrimalDual) -> Float[Array, "n n"]:
        r"""$H(x, \lambda) = \nabla_x^2\mathcal{L}$, with the curvature of the constraints."""
        lagrangian = jax.hessian(lambda x: self.lagrangian(PrimalDual(x, point.multipliers)))
        derivative: Float[Array, "n n"] = lagrangian(point.x)
        return derivative

    def kkt_residual(self, point: PrimalDual) -> Float[Array, " n_plus_m"]:
        r"""$\nabla\mathcal{L} = (\nabla f + G^\top\lambda,\; c)$, shape `(n + m,)`."""
        values, pull_back = jax.vjp(self.constraints, point.x)
        return jnp.concatenate([self.gradient(point.x) + pull_back(point.multipliers)[0], values])

    def kkt_matrix(self, point: PrimalDual) -> Float[Array, "n_plus_m n_plus_m"]:
        r"""$\Gamma = \begin{pmatrix} H & G^\top \\ G & 0 \end{pmatrix}$, the derivative of the KKT residual."""
        jacobian = self.jacobian(point.x)
        corner = jnp.zeros((jacobian.shape[0], jacobian.shape[0]), jacobian.dtype)
        return jnp.block([[self.hessian(point), jacobian.T], [jacobian, corner]])

    def as_scipy(self) -> dict[str, Any]:
        """What `scipy.optimize.minimize` takes: `fun`, `jac`, `hess` and `constraints`, compiled; and `x0`, the start.

        Call it in 64-bit precision.
        """

        def hessian(x: Float[Array, " n"]) -> Float[Array, "n n"]:
            derivative: Float[Array, "n n"] = jax.hessian(self.function)(x)
            return derivative

        def curvature(x: Float[Array, " n"], multipliers: Float[Array, " m"]) -> Float[Array, "n n"]:
            derivative: Float[Array, "n n"] = jax.hessian(lambda at: jnp.dot(multipliers, self.constraints(at)))(x)
            return derivative

        value = _host(self.function)
        return {
            "fun": lambda x: float(value(x)),
            "jac": _host(self.gradient),
            "hess": _host(hessian),
            "constraints": NonlinearConstraint(
                _host(self.constraints), 0.0, 0.0, _host(self.jacobian), _host(curvature)
            ),
            "x0": None if self.start is None else np.asarray(self.start),
        }


def _host(function: Callable[..., Array]) -> Callable[..., NDArray[np.float64]]:
    compiled = eqx.filter_jit(function)
    return lambda *arguments: np.asarray(compiled(*map(jnp.asarray, arguments)))


class _Tracking(eqx.Module):
    target: Float[Array, " cells"]
    penalty: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        state, control = jnp.split(x, 2)
        return jnp.asarray(0.5 * jnp.sum((state - self.target) ** 2) + 0.5 * self.penalty * jnp.sum(control**2))


def _poisson(x: Float[Array, " n"]) -> Float[Array, " m"]:
    state, control = jnp.split(x, 2)
    size = round(state.size**0.5)
    padded = jnp.pad(state.reshape(size, size), 1)
    neighbours = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2]
    spacing = 2.0 / (size + 1)
    laplacian = (neighbours - 4.0 * padded[1:-1, 1:-1]) / spacing**2
    return jnp.asarray(laplacian.ravel() + control)


def elliptic_control(size: int, penalty: float = 0.1) -> EqualityConstrained:
    r"""Steer the solution of a Poisson equation on the square $[-1, 1]^2$ towards a target.

    $$\min_{w, z}\; \tfrac12\lVert w - \hat w\rVert^2 + \tfrac{\rho}{2}\lVert z\rVert^2 \quad\text{subject to}\quad
    \Delta_h w + z = 0$$

    with the five-point Laplacian on $N \times N$ cells of spacing $h = 2/(N + 1)$, zero on the boundary, and
    $\hat w_{ij} = \sin(4 + \omega i') + \cos(3 + \omega j')$, $\omega = 0.1/\sqrt{15}$, $i' = i - (N+1)/2$ and
    $j' = j - (N+1)/2$. The variables are $w$, then $z$. It is a convex quadratic programme, which one exact Newton step
    solves.

    **Arguments**: `size`, $N$; `penalty`, $\rho$. **Returns** the problem, whose `start` is all ones.
    **Raises** `ValueError` for a size below one or a penalty that is not positive.

    **Source**: arXiv:2305.18379, Section 5.3, with the constants of the authors' program.
    """
    validation.integer("size", size, low=1)
    validation.positive("penalty", penalty)
    offset = (0.1 / 15**0.5) * (jnp.arange(1, size + 1) - (size + 1) / 2)
    target = jnp.sin(4.0 + offset)[:, None] + jnp.cos(3.0 + offset)[None, :]
    return EqualityConstrained(_Tracking(target.ravel(), float(penalty)), _poisson, jnp.ones(2 * size**2))


class _PlanesAndSphere(eqx.Module):
    matrix: Float[Array, "planes features"]
    offset: Float[Array, " planes"]

    def __call__(self, x: Float[Array, " features"]) -> Float[Array, " constraints"]:
        return jnp.concatenate([self.matrix @ x - self.offset, jnp.sum(x**2)[None] - 1.0])


def constrained_logistic_regression(
    features: ArrayLike, targets: ArrayLike, *, key: Key[Array, ""], planes: int = 10
) -> EqualityConstrained:
    r"""Logistic regression whose weights lie on random planes and on the unit sphere.

    $$\min_x\; \frac1N\sum_i \log(1 + e^{-y_i a_i^\top x}) \quad\text{subject to}\quad Ax = b,\; \lVert x\rVert^2 = 1$$

    with standard normal entries in $A$ and $b$. If the sphere misses the planes there is no feasible point; $b$ is
    then drawn again.

    **Arguments**

    - `features`, `targets`: samples $a_i$, shape `(N, n)`, and their two classes, shape `(N,)`.
    - `key`: of $A$ and $b$.
    - `planes`: the number of rows of $A$.

    **Returns** the problem, with `planes` + 1 constraints, whose `start` is all ones.

    **Raises** `ValueError` unless there are two classes and more features than `planes`, or if a thousand draws of $b$
    leave no feasible point.

    **Source**: arXiv:2305.18379, Section 5.2.
    """
    samples: Any = (features, targets)
    loss = LogisticRegression(*samples)
    size = loss.features.shape[1]
    validation.integer("planes", planes, low=1, high=size - 1)
    matrix_key, offset_key = jax.random.split(key)
    matrix = jax.random.normal(matrix_key, (planes, size))
    nearest = jnp.linalg.pinv(matrix)
    for attempt in range(1000):
        offset = jax.random.normal(jax.random.fold_in(offset_key, attempt), (planes,))
        if jnp.linalg.norm(nearest @ offset) < 1.0:
            return EqualityConstrained(loss.smooth_part, _PlanesAndSphere(matrix, offset), jnp.ones(size))
    raise ValueError(f"planes: no {planes} random planes were found that meet the unit sphere")
