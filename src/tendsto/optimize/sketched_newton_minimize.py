"""The sketched Newton method in SciPy's form, for functions that JAX need not trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeResult

from tendsto import validation
from tendsto.optimize.equality_minimize import Move, Point, minimize_to_kkt
from tendsto.optimize.equality_problem import EqualityProblem, Matrix
from tendsto.optimize.exact_augmented_lagrangian import ExactAugmentedLagrangian, Values
from tendsto.optimize.newton_direction import Direction
from tendsto.optimize.newton_system import SMALLEST_STEP, NewtonStatus
from tendsto.optimize.scipy_interface import starting_vector
from tendsto.optimize.sketched_newton import SketchedNewton


def sketched_newton(
    fun: Callable[..., Any],
    x0: ArrayLike,
    args: Sequence[Any] = (),
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    *,
    tol: float = 1e-6,
    maxiter: int = 1000,
    seed: int = 0,
    multipliers: ArrayLike | None = None,
    disp: bool = False,
    **hyperparameters: Any,
) -> OptimizeResult:
    r"""`SketchedNewton` as `method=` of `scipy.optimize.minimize`.

    The outer iteration calls the user's functions on NumPy arrays; the sketching solver is compiled once for each
    pair of $n$ and $m$, in 64-bit floats whatever JAX is set to.

    **Arguments**

    - `fun`, `x0`, `args`, `jac`, `hess`, `hessp`, `constraints`, `callback`: as `minimize` takes them; `constraints`
      are a `NonlinearConstraint`, a `LinearConstraint`, a dictionary with `"type": "eq"`, or a list of them.
      Derivatives that are not given are approximated by differences, see `equality_problem.EqualityProblem`.
    - `bounds`: none but infinite ones.
    - options: `tol` of $\lVert\nabla\mathcal{L}\rVert$; `maxiter`; `seed` of the sketches; `multipliers`, $\lambda_0$,
      by default zero; `disp`; and every hyper-parameter of `SketchedNewton`.

    **Returns** an `OptimizeResult` with SciPy's fields and `v`, `kkt`, `constr_violation` and `history` (see
    `equality_minimize.minimize_to_kkt`), `constraint_penalty`, `gradient_penalty`, `accuracy`, and `sketches`, their
    total number. `status` is 0 for convergence, 1 at `maxiter`, 99 after a callback's `StopIteration`, else a number of
    `NewtonStatus`.

    **Raises** `ValueError` for inequalities, bounds, or an option out of range; `TypeError` for an unknown option.

    **Source**: arXiv:2305.18379, Algorithm 1.
    """
    validation.integer("seed", seed, low=0)
    start = starting_vector(x0)
    problem = EqualityProblem(fun, start, args, jac, hess, hessp, bounds, constraints)
    with jax.enable_x64(True):
        advance = _Iteration(problem, SketchedNewton(**hyperparameters), seed)
        result = minimize_to_kkt(
            problem, start, multipliers, advance, tol=tol, maxiter=maxiter, callback=callback, disp=disp
        )
    result.update(
        constraint_penalty=float(advance.merit.constraint_penalty),
        gradient_penalty=float(advance.merit.gradient_penalty),
        accuracy=float(advance.accuracy),
        sketches=advance.sketches,
    )
    return result


_direction = eqx.filter_jit(SketchedNewton.direction)
_sufficient = eqx.filter_jit(SketchedNewton.sufficient)


class _Iteration:
    """One iteration after another, with the penalties and the accuracy carried along."""

    def __init__(self, problem: EqualityProblem, method: SketchedNewton, seed: int) -> None:
        self.problem = problem
        self.method = method
        self.key = jax.random.key(seed)
        self.merit = ExactAugmentedLagrangian(
            jnp.asarray(method.constraint_penalty, float), jnp.asarray(method.gradient_penalty, float)
        )
        self.accuracy = jnp.asarray(method.accuracy, float)
        self.sketches = 0

    def __call__(self, point: Point, hessian: Matrix, count: int) -> Move:
        direction = _direction(
            self.method,
            _values(point),
            jnp.asarray(point.multipliers),
            jnp.asarray(hessian),
            self.merit,
            self.accuracy,
            jnp.asarray(count),
            jax.random.fold_in(self.key, count),
            jnp.asarray(int(NewtonStatus.running)),
        )
        self.merit, self.accuracy = direction.merit, direction.accuracy
        self.sketches += int(direction.sketches)
        status, step_size, after = NewtonStatus(int(direction.status)), 0.0, point
        if status is NewtonStatus.running:
            step_size, after = self._searched(point, direction)
            if step_size == 0.0:
                status = NewtonStatus.line_search if after.finite else NewtonStatus.nonfinite
        record = {
            "step_size": step_size,
            "sketches": int(direction.sketches),
            "constraint_penalty": float(direction.merit.constraint_penalty),
            "gradient_penalty": float(direction.merit.gradient_penalty),
            "penalty_updates": int(direction.penalty_updates),
            "accuracy": float(direction.accuracy),
            "inner_residual": float(direction.residual),
            "inner_tolerance": float(direction.tolerance),
            "slope": float(direction.slope),
            "modified": bool(direction.modified),
        }
        return Move(after, status, record)

    def _searched(self, point: Point, direction: Direction) -> tuple[float, Point]:
        """The step size and the point it leads to; zero, and the last point tried, if none will do."""
        step = np.split(np.asarray(direction.step), [point.x.size])
        step_size, before = 1.0, _values(point)
        while True:
            after = Point.at(self.problem, point.x + step_size * step[0], point.multipliers + step_size * step[1])
            if after.finite and _sufficient(
                self.method,
                direction,
                before,
                jnp.asarray(point.multipliers),
                _values(after),
                jnp.asarray(after.multipliers),
                jnp.asarray(step_size),
            ):
                return step_size, after
            if step_size <= SMALLEST_STEP:
                return 0.0, after
            step_size *= 0.5


def _values(point: Point) -> Values:
    known = (point.function, point.gradient, point.constraints, point.jacobian)
    return Values(*(jnp.asarray(each, float) for each in known))
