"""What searches that compare values share: the incumbent, its barrier, the budget and the journal."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import LinearConstraint, NonlinearConstraint, OptimizeResult, OptimizeWarning

from tendsto import validation
from tendsto.iteration import Trace
from tendsto.optimize.scipy_interface import (
    STOPPED_BY_CALLBACK,
    Counted,
    box,
    starting_vector,
    wants_to_stop,
    warn_unused,
)
from tendsto.problems import NetworkProblem

Vector = NDArray[np.float64]

CONVERGED, OUT_OF_EVALUATIONS, OUT_OF_ITERATIONS, UNBOUNDED, INFEASIBLE_START, NEVER_FINITE = range(6)
MESSAGES = {
    CONVERGED: "The radii fell to their smallest values without a better point.",
    OUT_OF_EVALUATIONS: "The evaluations that maxfev allows are spent.",
    OUT_OF_ITERATIONS: "The iterations that maxiter allows are spent.",
    UNBOUNDED: "The objective fell to minus infinity.",
    INFEASIBLE_START: "The starting point violates a constraint, and the extreme barrier needs one that does not.",
    NEVER_FINITE: "No point with a finite value was found.",
    STOPPED_BY_CALLBACK: "The callback raised StopIteration.",
}


class OutOfEvaluations(Exception):
    """Raised inside an iteration that has no evaluation left."""


class Incumbent:
    """The best point so far; trial points replace it when their value is smaller.

    Points outside the bounds or the constraints have the value infinity and cost no evaluation, NaN counts as
    infinity. Evaluations and gradients together never exceed `maxfev`.

    **Arguments**

    - `fun`, `x0`, `args`, `bounds`, `constraints`, `callback`: as in `scipy.optimize.minimize`.
    - `maxfev`, `maxiter`: the budget; `None` for no limit on iterations.
    - `rng`: what `numpy.random.default_rng` takes.

    **Attributes**

    - `x`, `value`: the incumbent and its value.
    - `outputs`: the network's outputs at `x` if `fun` is a `NetworkProblem`.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        x0: ArrayLike,
        args: Sequence[Any],
        bounds: Any,
        constraints: Any,
        callback: Callable[..., Any] | None,
        maxfev: int,
        maxiter: int | None,
        rng: Any,
    ) -> None:
        validation.integer("maxfev", maxfev, low=0)
        if maxiter is not None:
            validation.integer("maxiter", maxiter, low=0)
        start = starting_vector(x0)
        self.low, self.high = box(bounds, start.size)
        self.x: Vector = np.clip(start, self.low, self.high)
        if not np.array_equal(self.x, start):
            warnings.warn("x0 violates the bounds and was moved onto them.", OptimizeWarning, stacklevel=5)
        self.value: float = np.inf
        self.outputs: Any = None
        self.rng = np.random.default_rng(rng)
        self.maxfev, self.maxiter = maxfev, maxiter
        self._fun = Counted(fun, args if isinstance(args, tuple) else (args,))
        self._problem = fun if isinstance(fun, NetworkProblem) else None
        self._network = self._problem.penalised if self._problem else None
        self._before = (self._network.evaluations, self._network.gradients) if self._network else (0, 0)
        self._feasible = _membership(constraints)
        self._callback = callback

    @property
    def nfev(self) -> int:
        """Evaluations so far, those inside gradients included."""
        return self._network.evaluations - self._before[0] if self._network else self._fun.calls

    @property
    def njev(self) -> int:
        """Gradients of the network so far."""
        return self._network.gradients - self._before[1] if self._network else 0

    def reserve(self, calls: int) -> None:
        """Make sure that `calls` evaluations and gradients remain, else raise `OutOfEvaluations`."""
        if self.nfev + self.njev + calls > self.maxfev:
            raise OutOfEvaluations

    def evaluate(self, x: Vector) -> float:
        """The value at `x`, infinity outside the constraints or where it is not a number."""
        if (x < self.low).any() or (x > self.high).any() or not self._feasible(x):
            return np.inf
        self.reserve(1)
        value = self._fun.scalar(x)
        return np.inf if np.isnan(value) else value

    def improve(self, x: Vector, at_least: float = 0.0) -> float:
        """Evaluate `x`, and move there if its value is smaller by `at_least`; by how much it fell, zero if it stays."""
        value = self.evaluate(x)
        if not (value < self.value and self.value - value >= at_least):
            return 0.0
        gain = self.value - value
        self._move(x, value)
        return gain

    def improved_by(self, trials: Iterable[Vector]) -> Vector | None:
        """Move to the first of `trials` that has a smaller value, and return the displacement, or `None`."""
        before = self.x
        for trial in trials:
            if self.improve(trial) > 0.0:
                return self.x - before
        return None

    def _move(self, x: Vector, value: float) -> None:
        self.x, self.value = x, value
        self.outputs = self._problem.outputs if self._problem else None

    def run(
        self, iterate: Callable[[], str], radii: Callable[[], Mapping[str, float]], converged: Callable[[], bool]
    ) -> OptimizeResult:
        """Iterate until convergence, the end of the budget, or the callback's word.

        **Arguments**

        - `iterate`: one iteration; returns the name of what succeeded in it.
        - `radii`: what the journal records beside values and costs.
        - `converged`: whether to stop, asked before every iteration.

        **Returns** the `OptimizeResult`, with `history` (a `Trace` by iteration) and `successes` (counts by name).
        """
        if not self._feasible(self.x):
            return self._result(INFEASIBLE_START, [], {}, np.nan)
        if self.maxfev == 0:
            return self._result(OUT_OF_EVALUATIONS, [], {}, np.nan)
        self._move(self.x, self.evaluate(self.x))
        journal, successes = [self._entry(radii)], dict[str, int]()
        status: int | None = None
        while status is None:
            if self.value == -np.inf:
                status = UNBOUNDED
            elif converged():
                status = CONVERGED if np.isfinite(self.value) else NEVER_FINITE
            elif self.nfev + self.njev >= self.maxfev:
                status = OUT_OF_EVALUATIONS
            elif self.maxiter is not None and len(journal) > self.maxiter:
                status = OUT_OF_ITERATIONS
            else:
                try:
                    outcome = iterate()
                    successes[outcome] = successes.get(outcome, 0) + 1
                except OutOfEvaluations:
                    status = OUT_OF_EVALUATIONS
                journal.append(self._entry(radii))
                report = OptimizeResult(x=np.copy(self.x), fun=self.value, nit=len(journal) - 1, nfev=self.nfev)
                if wants_to_stop(self._callback, report):
                    status = STOPPED_BY_CALLBACK
        return self._result(status, journal, successes, self.value)

    def _entry(self, radii: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        return {"objective": self.value, "evaluations": self.nfev, "gradients": self.njev, **radii()}

    def _result(
        self, status: int, journal: list[dict[str, float]], successes: dict[str, int], value: float
    ) -> OptimizeResult:
        result = OptimizeResult(
            x=np.copy(self.x),
            fun=value,
            nit=max(len(journal) - 1, 0),
            nfev=self.nfev,
            success=status == CONVERGED,
            status=status,
            message=MESSAGES[status],
            successes=successes,
        )
        if journal:
            columns = {name: np.array([entry[name] for entry in journal], dtype=float) for name in journal[0]}
            result.history = Trace.from_arrays(np.arange(len(journal)), columns)
        if self._problem:
            result.njev = self.njev
            if self.outputs is not None:
                result.maxcv = self._problem.violation(self.outputs, self.x)
        return result


def begin(
    method: str,
    fun: Callable[..., Any],
    x0: ArrayLike,
    args: Sequence[Any],
    bounds: Any,
    constraints: Any,
    callback: Callable[..., Any] | None,
    maxfev: int,
    maxiter: int | None,
    rng: Any = 0,
    *,
    options: Mapping[str, Any],
    **unused: Any,
) -> Incumbent:
    """The incumbent that a method of `scipy.optimize.minimize` starts from, after warnings of what it does not use.

    **Arguments**: `method`, its name; `options`, those it does not know; `unused`, arguments of `minimize` that it
    makes no use of; the others as for `Incumbent`.
    """
    warn_unused(method, options=options, **unused)
    return Incumbent(fun, x0, args, bounds, constraints, callback, maxfev, maxiter, rng)


def _membership(constraints: Any) -> Callable[[Vector], bool]:
    """Whether a point satisfies every one of SciPy's `constraints`, in any of its forms.

    **Raises** `TypeError` for what is no constraint, `ValueError` for an equality.
    """
    alone = isinstance(constraints, (LinearConstraint, NonlinearConstraint, Mapping))
    tests = [_inside(each) for each in ([constraints] if alone else constraints or ())]
    return lambda x: all(test(x) for test in tests)


def _inside(constraint: Any) -> Callable[[Vector], bool]:
    if isinstance(constraint, Mapping):
        if constraint.get("type") != "ineq":
            raise ValueError(
                f"constraints: the extreme barrier takes inequalities, got type {constraint.get('type')!r}"
            )
        function, args = constraint["fun"], tuple(constraint.get("args", ()))
        return lambda x: bool((np.asarray(function(np.copy(x), *args)) >= 0.0).all())
    if not isinstance(constraint, (LinearConstraint, NonlinearConstraint)):
        raise TypeError(f"constraints: expected constraints of scipy.optimize, got {type(constraint).__name__}")
    low, high = np.asarray(constraint.lb), np.asarray(constraint.ub)
    if (low == high).any():
        raise ValueError("constraints: the extreme barrier takes inequalities, got an equality (lb == ub)")

    def inside(x: Vector) -> bool:
        linear = isinstance(constraint, LinearConstraint)
        values = constraint.A @ x if linear else np.asarray(constraint.fun(np.copy(x)), dtype=np.float64)
        return bool(((values >= low) & (values <= high)).all())

    return inside
