"""What methods for equality constraints share in SciPy's form: the loop, its history, and its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeResult

from tendsto import validation
from tendsto.optimize.equality_problem import EqualityProblem, Matrix
from tendsto.optimize.newton_system import NewtonStatus
from tendsto.optimize.scipy_interface import STOPPED_BY_CALLBACK, Vector, wants_to_stop


@dataclass(frozen=True)
class Point:
    r"""$(x, \lambda)$ with $f$, $\nabla f$, $c$ and $G$ there."""

    x: Vector
    multipliers: Vector
    function: float
    gradient: Vector
    constraints: Vector
    jacobian: Matrix

    @classmethod
    def at(cls, problem: EqualityProblem, x: Vector, multipliers: Vector) -> Point:
        """The point with the values of `problem` there."""
        return cls(
            x, multipliers, problem.function(x), problem.gradient(x), problem.constraints(x), problem.jacobian(x)
        )

    @property
    def kkt_residual(self) -> Vector:
        r"""$\nabla\mathcal{L} = (\nabla f + G^\top\lambda,\; c)$."""
        return np.concatenate([self.gradient + self.multipliers @ self.jacobian, self.constraints])

    @property
    def finite(self) -> bool:
        """Whether everything known here is."""
        known = (self.x, self.multipliers, self.function, self.gradient, self.constraints, self.jacobian)
        return all(bool(np.isfinite(each).all()) for each in known)


@dataclass(frozen=True)
class Move:
    """Where an iteration led, whether the method can go on, and what it adds to the history."""

    point: Point
    status: NewtonStatus
    record: Mapping[str, float]


def minimize_to_kkt(
    problem: EqualityProblem,
    x0: Vector,
    multipliers: ArrayLike | None,
    advance: Callable[[Point, Matrix, int], Move],
    *,
    tol: float,
    maxiter: int,
    callback: Callable[..., Any] | None,
    disp: bool,
) -> OptimizeResult:
    r"""Iterate until $\lVert\nabla\mathcal{L}\rVert \le$ `tol`.

    **Arguments**

    - `problem`, `x0`: what to minimise, from where.
    - `multipliers`: $\lambda_0$, by default zero.
    - `advance`: one iteration, from a point, the Hessian of the Lagrangian there, and the number of the iteration.
    - `tol`, `maxiter`, `callback`, `disp`: as in `scipy.optimize.minimize`.

    **Returns** an `OptimizeResult`. Besides SciPy's fields it has `v` (a list of the multipliers of each constraint),
    `kkt` ($\lVert\nabla\mathcal{L}\rVert$), `constr_violation` ($\max_i\lvert c_i\rvert$) and `history`, a dictionary
    of arrays: of points, `fun`, `kkt` and `constr_violation`, the start first; of iterations, whatever the method
    records, the one that failed included.

    **Raises** `ValueError` or `TypeError` for an option out of range.
    """
    validation.real("tol", tol, low=0.0)
    validation.integer("maxiter", maxiter, low=0)
    size = sum(problem.sizes)
    first = np.zeros(size) if multipliers is None else np.array(multipliers, dtype=np.float64).ravel()
    if first.shape != (size,) or not np.isfinite(first).all():
        raise ValueError(f"multipliers: expected {size} finite numbers, got {multipliers!r}")

    point, records, nit = Point.at(problem, x0, first), list[Mapping[str, float]](), 0
    trail = [_seen(point)]
    status = NewtonStatus.running if point.finite else NewtonStatus.nonfinite
    stopped = False
    while status is NewtonStatus.running and trail[-1]["kkt"] > tol and nit < maxiter and not stopped:
        hessian = problem.hessian(point.x, point.multipliers)
        if not np.isfinite(hessian).all():
            status = NewtonStatus.nonfinite
            break
        move = advance(point, hessian, nit)
        records.append(move.record)
        status = move.status
        if status is not NewtonStatus.running:
            break
        point, nit = move.point, nit + 1
        trail.append(_seen(point))
        stopped = wants_to_stop(callback, _intermediate(problem, point, nit))

    if stopped:
        code, message = STOPPED_BY_CALLBACK, "`callback` raised `StopIteration`."
    elif status is not NewtonStatus.running:
        code, message = int(status), status.message
    elif trail[-1]["kkt"] <= tol:
        code, message = 0, "The norm of the KKT residual fell to the tolerance."
    else:
        code, message = 1, "The maximum number of iterations was reached."
    history = {name: np.array([each[name] for each in trail]) for name in trail[0]}
    if records:
        history |= {name: np.array([each[name] for each in records]) for name in records[0]}
    if disp:
        print(f"{message} (iterations {nit}, KKT residual {trail[-1]['kkt']:.3g}, f {point.function:.10g})")
    return OptimizeResult(
        _intermediate(problem, point, nit),
        jac=point.gradient,
        success=code == 0,
        status=code,
        message=message,
        history=history,
        **problem.calls,
    )


def _seen(point: Point) -> dict[str, float]:
    return {
        "fun": point.function,
        "kkt": float(np.linalg.norm(point.kkt_residual)),
        "constr_violation": float(np.abs(point.constraints).max()),
    }


def _intermediate(problem: EqualityProblem, point: Point, nit: int) -> OptimizeResult:
    return OptimizeResult(x=np.copy(point.x), v=problem.split(np.copy(point.multipliers)), nit=nit, **_seen(point))
