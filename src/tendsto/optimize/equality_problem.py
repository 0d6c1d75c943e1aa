"""SciPy's way of stating a problem, read as a function and its equality constraints, with every call counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.differentiate import jacobian as adaptive_jacobian
from scipy.optimize import Bounds, LinearConstraint, NonlinearConstraint, approx_fprime
from scipy.sparse import issparse

from tendsto.optimize.scipy_interface import Counted, Vector, box

Matrix = NDArray[np.float64]
Constraint: TypeAlias = Any
"""A `LinearConstraint`, a `NonlinearConstraint`, or a dictionary with `type`, `fun`, `jac` and `args`."""

# Steps of forward differences of a derivative: one that is exact to rounding, and one that is itself a difference.
_STEP, _WIDE_STEP = np.finfo(float).eps ** 0.5, 1e-5


class EqualityProblem:
    r"""$f$ and $c$ with their derivatives, from the arguments of `scipy.optimize.minimize`.

    Derivatives that are not given are approximated: first ones by `scipy.differentiate.jacobian`, to nearly full
    accuracy and at the cost of many calls; second ones by forward differences of the first. A scheme named by a string
    (`"2-point"`) or a quasi-Newton update (`BFGS()`, SciPy's default of a `NonlinearConstraint`) counts as not given.

    **Arguments**

    - `fun`, `args`, `jac`, `hess`, `hessp`, `bounds`, `constraints`: as `minimize` passes them.
    - `x0`: the starting vector.

    **Raises** `ValueError` if there is an inequality, a finite bound, no constraint or more of them than variables;
    `TypeError` for a constraint of another kind.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        x0: Vector,
        args: Sequence[Any],
        jac: Any,
        hess: Any,
        hessp: Any,
        bounds: Bounds | Sequence[tuple[float | None, float | None]] | None,
        constraints: Constraint | Sequence[Constraint],
    ) -> None:
        low, high = box(bounds, x0.size)
        if np.isfinite(low).any() or np.isfinite(high).any():
            raise ValueError("bounds: only equality constraints are supported, got a finite bound")
        self._function = Counted(fun, args)
        self._gradient = Counted(jac, args) if callable(jac) else None
        self._hessian = Counted(hess, args) if callable(hess) else None
        self._product = Counted(hessp, args) if callable(hessp) else None
        single = isinstance(constraints, (LinearConstraint, NonlinearConstraint, Mapping))
        listed: Sequence[Any] = [constraints] if single else list(constraints)
        if not listed:
            raise ValueError("constraints: at least one equality constraint is needed")
        self._constraints = [_equality(each, x0) for each in listed]
        self.sizes = [each.value(x0).size for each in self._constraints]
        if not 1 <= sum(self.sizes) <= x0.size:
            raise ValueError(f"constraints: expected 1 to {x0.size} equations, got {sum(self.sizes)}")

    def function(self, x: Vector) -> float:
        """$f(x)$."""
        return self._function.scalar(x)

    def gradient(self, x: Vector) -> Vector:
        r"""$\nabla f(x)$."""
        if self._gradient is None:
            gradient: Vector = _differences(self._function.scalar, x)[0]
            return gradient
        return _shaped("jac", self._gradient(x), x.shape)

    def constraints(self, x: Vector) -> Vector:
        """$c(x)$, all constraints in their order."""
        return np.concatenate([each.value(x) for each in self._constraints])

    def jacobian(self, x: Vector) -> Matrix:
        r"""$G(x) = \nabla c(x)$."""
        return np.vstack([each.jacobian(x) for each in self._constraints])

    def hessian(self, x: Vector, multipliers: Vector) -> Matrix:
        r"""$H = \nabla^2 f + \sum_i\lambda_i\nabla^2 c_i$."""
        total = self._function_hessian(x)
        for each, part in zip(self._constraints, self.split(multipliers), strict=True):
            total = total + each.hessian(x, part)
        return total

    def split(self, multipliers: Vector) -> list[Vector]:
        """The multipliers of each constraint, in the order in which the constraints were given."""
        return np.split(multipliers, np.cumsum(self.sizes)[:-1])

    @property
    def calls(self) -> dict[str, int]:
        """Calls of the user's function, gradient and Hessian (or its products), under SciPy's names."""
        counted = {"nfev": self._function, "njev": self._gradient, "nhev": self._hessian or self._product}
        return {name: each.calls if each is not None else 0 for name, each in counted.items()}

    def _function_hessian(self, x: Vector) -> Matrix:
        if self._hessian is not None:
            return _shaped("hess", self._hessian(x), (x.size, x.size))
        if self._product is not None:
            product, unit = self._product, np.eye(x.size)
            columns = [product.function(np.copy(x), each, *product.args) for each in unit]
            product.calls += x.size
            return _symmetric(np.array(columns, dtype=np.float64))
        return _second_differences(self.gradient, x, exact=self._gradient is not None)


class _Equality:
    """One of the user's constraints, as $c(x) = 0$."""

    def __init__(self, fun: Callable[..., Any], args: Sequence[Any], jac: Any, hess: Any, level: Any) -> None:
        self._function = Counted(fun, args)
        self._jacobian = Counted(lambda *given: _dense(jac(*given)), args) if callable(jac) else None
        self._hessian = hess if callable(hess) else None
        self._level = level

    def value(self, x: Vector) -> Vector:
        return np.atleast_1d(self._function(x) - self._level).ravel()

    def jacobian(self, x: Vector) -> Matrix:
        if self._jacobian is None:
            return _differences(self.value, x)
        return np.atleast_2d(self._jacobian(x))

    def hessian(self, x: Vector, multipliers: Vector) -> Matrix:
        if self._hessian is not None:
            given = _dense(self._hessian(np.copy(x), np.copy(multipliers)))
            return _shaped("hess", np.asarray(given, dtype=np.float64), (x.size, x.size))

        def weighted(at: Vector) -> Vector:
            combined: Vector = multipliers @ self.jacobian(at)
            return combined

        return _second_differences(weighted, x, exact=self._jacobian is not None)


def _equality(constraint: Constraint, x0: Vector) -> _Equality:
    if isinstance(constraint, LinearConstraint):
        matrix = np.atleast_2d(np.asarray(_dense(constraint.A), dtype=np.float64))
        level = _level(constraint.lb, constraint.ub, len(matrix))
        zero = np.zeros((x0.size, x0.size))
        return _Equality(lambda x: matrix @ x, (), lambda _: matrix, lambda _, __: zero, level)
    if isinstance(constraint, NonlinearConstraint):
        size = np.size(constraint.fun(np.copy(x0)))
        level = _level(constraint.lb, constraint.ub, size)
        return _Equality(constraint.fun, (), constraint.jac, constraint.hess, level)
    if isinstance(constraint, Mapping):
        if constraint.get("type") != "eq":
            raise ValueError(f"constraints: only equalities are supported, got type {constraint.get('type')!r}")
        args = constraint.get("args", ())
        return _Equality(constraint["fun"], args, constraint.get("jac"), None, 0.0)
    raise TypeError(
        f"constraints: expected a LinearConstraint, a NonlinearConstraint or a dict, got {type(constraint).__name__}"
    )


def _level(low: Any, high: Any, size: int) -> Vector:
    lower, upper = np.broadcast_to(low, size).astype(float), np.broadcast_to(high, size).astype(float)
    if not np.array_equal(lower, upper) or not np.isfinite(lower).all():
        raise ValueError("constraints: only equalities are supported, got lb and ub that differ or are infinite")
    return lower


def _dense(matrix: Any) -> Any:
    return matrix.toarray() if issparse(matrix) else matrix


def _shaped(name: str, value: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    if value.size != np.prod(shape):
        raise ValueError(f"{name}: expected shape {shape}, got {value.shape}")
    return value.reshape(shape)


def _differences(function: Callable[[Vector], Any], x: Vector) -> Matrix:
    """The Jacobian of a function of a vector, adaptively."""

    def columns(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.apply_along_axis(lambda point: np.atleast_1d(function(point)), 0, points)

    derivative: Matrix = adaptive_jacobian(columns, x, initial_step=1e-2).df
    return derivative


def _second_differences(gradient: Callable[[Vector], Vector], x: Vector, *, exact: bool) -> Matrix:
    """The Hessian by differences of a gradient."""
    step = (_STEP if exact else _WIDE_STEP) * np.maximum(1.0, np.abs(x))
    return _symmetric(approx_fprime(x, gradient, step))


def _symmetric(matrix: Matrix) -> Matrix:
    symmetric: Matrix = 0.5 * (matrix + matrix.T)
    return symmetric
