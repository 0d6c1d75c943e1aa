"""The classical rival: inexact sequential quadratic programming with GMRES and the l1 penalty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeResult
from scipy.sparse.linalg import gmres

from tendsto import validation
from tendsto.optimize.equality_minimize import Move, Point, minimize_to_kkt
from tendsto.optimize.equality_problem import EqualityProblem, Matrix
from tendsto.optimize.newton_system import SMALLEST_STEP, NewtonStatus, saddle_matrix, with_curvature
from tendsto.optimize.scipy_interface import Vector, starting_vector

# Constants of the method's numerical section: ε, τ, the Armijo constant, and what is added to a raised penalty.
_FEASIBILITY, _REDUCTION, _DECREASE, _MARGIN = 0.1, 0.1, 1e-8, 1e-4
_TIGHTEST = 1e-14


def inexact_sqp(
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
    relative_tolerance: float = 0.1,
    curvature: float = 0.1,
    curvature_threshold: float = 1e-6,
    multipliers: ArrayLike | None = None,
    disp: bool = False,
) -> OptimizeResult:
    r"""Inexact SQP on the $\ell_1$ penalty $\phi_\pi = f + \pi\lVert c\rVert_1$, as `method=` of `minimize`.

    GMRES solves $\Gamma(d, \delta) = -\nabla\mathcal{L}$ to $\lVert(\rho, r)\rVert \le
    \kappa\lVert\nabla\mathcal{L}\rVert$ with $\rho$, $r$ the residuals of the two block rows. With the reduction of the
    model $\Delta m(\pi) = -\nabla f^\top d - \omega + \pi(\lVert c\rVert_1 - \lVert r\rVert_1)$, where $\omega =
    \frac12\max(d^\top B d, 10^{-8}\lVert d\rVert^2)$, the direction is taken

    - if $\Delta m(\pi) \ge \sigma\pi\max(\lVert c\rVert_1, \lVert r\rVert_1 - \lVert c\rVert_1)$;
    - or if $\lVert r\rVert_1 \le \varepsilon\lVert c\rVert_1$, and then $\pi$ is raised to $(\nabla f^\top d +
      \omega)/((1 - \tau)(\lVert c\rVert_1 - \lVert r\rVert_1)) + 10^{-4}$ where it is lower.

    Otherwise GMRES goes on with a tenth of the tolerance. The step is the first of $1, \frac12, \dots$ with
    $\phi_\pi(x + \alpha d) \le \phi_\pi(x) - 10^{-8}\alpha\Delta m$. $\varepsilon = \tau = 0.1$, $\sigma = \tau(1 -
    \varepsilon)$, $\pi_0 = 1$; $B$ is as in `SketchedNewton`.

    **Arguments**: as of `sketched_newton`; `relative_tolerance`, $\kappa \in (0, 1)$; `curvature` and
    `curvature_threshold` as in `SketchedNewton`.

    **Returns** an `OptimizeResult` with `v`, `kkt`, `constr_violation`, `history`, and `penalty`, $\pi$.

    **Raises** `ValueError` or `TypeError` as `sketched_newton` does.

    **Source**: R. H. Byrd, F. E. Curtis, J. Nocedal, "An inexact SQP method for equality constrained optimization",
    SIAM J. Optim. 19, 2008, with a fixed $\kappa$; the baseline of arXiv:2305.18379, Section 5.
    """
    validation.real("relative_tolerance", relative_tolerance, low=0.0, high=0.9999999, open_low=True)
    validation.positive("curvature", curvature)
    validation.real("curvature_threshold", curvature_threshold)
    start = starting_vector(x0)
    problem = EqualityProblem(fun, start, args, jac, hess, hessp, bounds, constraints)
    advance = _Iteration(problem, relative_tolerance, curvature, curvature_threshold)
    with jax.enable_x64(True):
        result = minimize_to_kkt(
            problem, start, multipliers, advance, tol=tol, maxiter=maxiter, callback=callback, disp=disp
        )
    result.penalty = advance.penalty
    return result


_convexified = jax.jit(with_curvature)


class _Iteration:
    """One iteration after another, with the penalty carried along."""

    def __init__(self, problem: EqualityProblem, tolerance: float, curvature: float, threshold: float) -> None:
        self.problem = problem
        self.tolerance = tolerance
        self.curvature = (curvature, threshold)
        self.penalty = 1.0

    def __call__(self, point: Point, hessian: Matrix, count: int) -> Move:
        curved, modified = _convexified(jnp.asarray(hessian), jnp.asarray(point.jacobian), *self.curvature)
        step, products = self._direction(point, np.asarray(curved))
        status, step_size, after = NewtonStatus.inner_solver, 0.0, point
        if step is not None:
            step_size, after = self._searched(point, step, np.asarray(curved))
            status = NewtonStatus.running
            if step_size == 0.0:
                status = NewtonStatus.line_search if after.finite else NewtonStatus.nonfinite
        record = {
            "step_size": step_size,
            "penalty": self.penalty,
            "products": products,
            "modified": bool(modified),
        }
        return Move(after, status, record)

    def _direction(self, point: Point, curved: Matrix) -> tuple[Vector | None, int]:
        """The direction, or none if no tolerance gives one that passes; and the products with the KKT matrix."""
        kkt, size = point.kkt_residual, point.x.size
        system = np.asarray(saddle_matrix(jnp.asarray(curved), jnp.asarray(point.jacobian)))
        step, tolerance = np.zeros_like(kkt), self.tolerance
        products: list[float] = []
        infeasible = float(np.abs(point.constraints).sum())
        while tolerance > _TIGHTEST:
            step, _ = gmres(
                system,
                -kkt,
                step,
                rtol=tolerance,
                restart=kkt.size,
                maxiter=10,
                callback=products.append,
                callback_type="pr_norm",
            )
            residual = system @ step + kkt
            remaining = float(np.abs(residual[size:]).sum())
            accurate = np.linalg.norm(residual) <= self.tolerance * np.linalg.norm(kkt)
            enough = _REDUCTION * (1.0 - _FEASIBILITY) * self.penalty * max(infeasible, remaining - infeasible)
            if accurate and self._reduction(point, step, curved) >= enough:
                return step, len(products)
            if accurate and remaining <= _FEASIBILITY * infeasible and remaining < infeasible:
                cost = point.gradient @ step[:size] + _model_curvature(step[:size], curved)
                needed = cost / ((1.0 - _REDUCTION) * (infeasible - remaining))
                self.penalty = max(self.penalty, float(needed) + _MARGIN)
                return step, len(products)
            tolerance *= 0.1
        return None, len(products)

    def _reduction(self, point: Point, step: Vector, curved: Matrix) -> float:
        """By how much the model of the penalty function falls along `step`."""
        along_x = step[: point.x.size]
        linearised = np.abs(point.constraints + point.jacobian @ along_x).sum()
        return float(
            -point.gradient @ along_x
            - _model_curvature(along_x, curved)
            + self.penalty * (np.abs(point.constraints).sum() - linearised)
        )

    def _penalised(self, point: Point) -> float:
        return point.function + self.penalty * float(np.abs(point.constraints).sum())

    def _searched(self, point: Point, step: Vector, curved: Matrix) -> tuple[float, Point]:
        """The step size and the point it leads to; zero, and the last point tried, if none will do."""
        along_x, along_multipliers = np.split(step, [point.x.size])
        step_size, before, reduction = 1.0, self._penalised(point), self._reduction(point, step, curved)
        rounding = 4.0 * np.finfo(float).eps * (abs(before) + abs(point.function))
        while True:
            moved = (point.x + step_size * along_x, point.multipliers + step_size * along_multipliers)
            after = Point.at(self.problem, *moved)
            bound = before - _DECREASE * step_size * reduction + rounding
            if after.finite and self._penalised(after) <= bound:
                return step_size, after
            if step_size <= SMALLEST_STEP:
                return 0.0, after
            step_size *= 0.5


def _model_curvature(along_x: Vector, curved: Matrix) -> float:
    return 0.5 * max(float(along_x @ curved @ along_x), 1e-8 * float(along_x @ along_x))
