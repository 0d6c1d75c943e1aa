"""Search through a trained network: attacks and direct search together, each alone, and plain gradient ascent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeResult

from tendsto import validation
from tendsto.optimize.attacks import DirectionalAttack
from tendsto.optimize.direct_search import CoveringSteps, Poll, random_on_sphere
from tendsto.optimize.search_loop import Incumbent, begin
from tendsto.problems import FrozenNetwork, NetworkProblem

Vector = NDArray[np.float64]


@runtime_checkable
class Attack(Protocol):
    """What the searches ask of an attack; `DirectionalAttack` is one."""

    @property
    def calls(self) -> int:
        """How many evaluations and gradients one attack costs, taken together."""

    def __call__(self, network: FrozenNetwork, x: Vector, direction: Vector, radius: float) -> Vector:
        r"""A perturbation of `x` of $\infty$-norm at most `radius`."""


class _Radius:
    """A radius between its limits."""

    def __init__(self, name: str, value: float, smallest: float, largest: float) -> None:
        for number in (value, smallest, largest):
            validation.positive(name, number)
        if not smallest <= value <= largest:
            raise ValueError(f"{name}: must lie in [{smallest:g}, {largest:g}], got {value:g}")
        self.value, self.smallest, self.largest = value, smallest, largest

    def set(self, value: float) -> None:
        self.value = min(self.largest, max(self.smallest, value))

    @property
    def at_floor(self) -> bool:
        return self.value <= self.smallest


def _attacked(problem: NetworkProblem, incumbent: Incumbent, attack: Attack, radius: float) -> Vector:
    """The incumbent after an attack along the gradient of the penalised objective at its outputs."""
    incumbent.reserve(attack.calls)
    direction = problem.direction(incumbent.outputs, incumbent.x)
    return incumbent.x + attack(problem.penalised, incumbent.x, direction, radius)


class _HybridSteps:
    """One iteration of the hybrid: an attack, and the covering direct search unless the attack sufficed."""

    def __init__(
        self,
        problem: NetworkProblem,
        incumbent: Incumbent,
        attack: Attack,
        radius: _Radius,
        covering: CoveringSteps,
        sufficient_increase: float,
        forcing: float,
        speculative: bool,
    ) -> None:
        validation.positive("sufficient_increase", sufficient_increase)
        validation.real("forcing", forcing, low=0.0, high=np.finfo(np.float64).max)
        self.problem, self.incumbent, self.attack = problem, incumbent, attack
        self.radius, self.covering = radius, covering
        self.sufficient_increase, self.forcing, self.speculative = sufficient_increase, forcing, speculative
        self._last: Vector | None = None

    def __call__(self) -> str:
        """Take the steps; the name of the last one that succeeded, or `"failure"`."""
        before = self.incumbent.x
        outcome = self._repeat() or self._attack_and_search()
        self._last = None if self.incumbent.x is before else self.incumbent.x - before
        return outcome

    def _repeat(self) -> str:
        if not self.speculative or self._last is None:
            return ""
        x, last = self.incumbent.x, self._last
        moved = self.incumbent.improved_by(x + multiple * last for multiple in (1.5, 1.0, 2.0 / 3.0))
        return "speculation" if moved else ""

    def _attack_and_search(self) -> str:
        before, radius = self.incumbent.value, self.radius.value
        gain = self.incumbent.improve(_attacked(self.problem, self.incumbent, self.attack, radius))
        # Near f = 0 the relative test accepts almost anything; without the absolute one it could skip forever.
        enough = max(self.sufficient_increase * (abs(before) + 1e-10), self.forcing * radius**2)
        if gain >= enough:
            self.radius.set(1.3 * radius)
            self.covering.reopen()
            return "attack"
        self.radius.set(1.1 * radius if gain > 0.0 else radius / 1.3)
        outcome = self.covering()
        return "weak attack" if gain > 0.0 and outcome == "failure" else outcome


def hybrid_direct_search(
    fun: Callable[..., Any],
    x0: ArrayLike,
    args: Sequence[Any] = (),
    *,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    maxfev: int = 20_000,
    maxiter: int | None = None,
    rng: Any = 0,
    initial_radius: float = 1.0,
    final_radius: float = 1e-6,
    largest_radius: float | None = None,
    covering_radius: float | None = None,
    covering_points: int = 100,
    poll: Poll = "n+1",
    attack: Attack | None = None,
    attack_radius: float | None = None,
    smallest_attack_radius: float | None = None,
    largest_attack_radius: float | None = None,
    sufficient_increase: float = 1e-3,
    forcing: float = 1e-6,
    speculative: bool = False,
    tol: float | None = None,
    **unknown: Any,
) -> OptimizeResult:
    r"""Optimise through a network by attacks for speed and covering direct search for the guarantee.

    For `scipy.optimize.minimize(problem, x0, method=hybrid_direct_search, options={…})` with a `NetworkProblem`. One
    iteration at the incumbent $x$, with $o = \tilde f(\tilde\Phi(x))$:

    1. Attack $\tilde\Phi$ at $x$ along $\nabla\tilde f(\tilde\Phi(x))$ within the attack radius $r_a$, and let $g$
       be the gain of the perturbed point. If $g \ge \max(\tau(|o| + 10^{-10}), \kappa r_a^2)$: move,
       $r_a \leftarrow 1.3 r_a$, double the poll radius if it is at its smallest, and end the iteration.
    2. If $g > 0$: move, $r_a \leftarrow 1.1 r_a$. Otherwise $r_a \leftarrow r_a/1.3$.
    3. One iteration of `covering_direct_search` from there.

    Attacks only ever replace $x$ by a better point and, if $\tilde f$ is bounded, cannot suffice forever: each of
    them gains at least $\kappa r_a^2$ while $r_a$ grows. So the guarantee of the covering direct search stands.

    **Arguments**: those of `covering_direct_search`, its `poll` now `"n+1"`, and

    - `fun`: the problem; `maxfev` bounds its evaluations and gradients together (`nfev` + `njev`).
    - `attack`: the attack, by default `DirectionalAttack()`, or any function
      `(network, x, direction, radius) -> d` with a number `calls`.
    - `attack_radius`, `smallest_attack_radius`, `largest_attack_radius`: where $r_a$ starts and its limits, by default
      those of the poll radius.
    - `sufficient_increase`: $\tau$.
    - `forcing`: $\kappa$. The paper has 0; then, where $\tilde f$ tends to 0, ever smaller gains suffice.
    - `speculative`: first try $\frac32$, 1 and $\frac23$ of the last displacement, and end the iteration on success.

    **Returns** an `OptimizeResult` like that of `covering_direct_search`, with `njev`, `attack_radius` in the
    `history`, and `maxcv`, the largest violated constraint at `x`.

    **Raises** `TypeError` if `fun` is not a `NetworkProblem`, and what `covering_direct_search` raises.

    **Source**: P.-Y. Bouchet, T. Vidal, "Optimization by Directional Attacks: Solving Problems with Neural Network
    Surrogates", arXiv:2510.01461, Section 4. The forcing term and the `covering_points` are ours, and so is that a poll
    at its smallest radius is tried once for every incumbent, where the paper's experiments leave it out.
    """
    problem = _network_problem(fun)
    given = (problem, x0, args, bounds, constraints, callback, maxfev, maxiter, rng)
    incumbent = begin("hybrid_direct_search", *given, options=unknown, jac=jac, hess=hess, hessp=hessp)
    covering = CoveringSteps(
        incumbent,
        initial_radius=initial_radius,
        final_radius=final_radius if tol is None else tol,
        largest_radius=largest_radius,
        covering_radius=covering_radius,
        covering_points=covering_points,
        poll=poll,
    )
    radius = _Radius(
        "attack_radius",
        initial_radius if attack_radius is None else attack_radius,
        covering.final_radius if smallest_attack_radius is None else smallest_attack_radius,
        covering.largest_radius if largest_attack_radius is None else largest_attack_radius,
    )
    attack = DirectionalAttack() if attack is None else attack
    steps = _HybridSteps(problem, incumbent, attack, radius, covering, sufficient_increase, forcing, speculative)
    result = incumbent.run(
        steps,
        lambda: {"poll_radius": covering.radius, "attack_radius": radius.value},
        lambda: radius.at_floor and covering.finished,
    )
    result.covered = covering.covered_here
    return result


def attack_search(
    fun: Callable[..., Any],
    x0: ArrayLike,
    args: Sequence[Any] = (),
    *,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    maxfev: int = 20_000,
    maxiter: int | None = None,
    attack: Attack | None = None,
    initial_radius: float = 1.0,
    final_radius: float = 1e-6,
    largest_radius: float | None = None,
    tol: float | None = None,
    **unknown: Any,
) -> OptimizeResult:
    r"""Optimise through a network by attacks alone: a baseline, with no guarantee.

    For `scipy.optimize.minimize(problem, x0, method=attack_search, options={…})`. An iteration attacks with the radii
    $1.1r$ and $r$ and moves to the first point that is better; then $r \leftarrow \lVert d\rVert_\infty$ of the
    perturbation, or $r \leftarrow r/1.5$ if neither is. It stops when $r$ reaches its smallest value.

    **Arguments**: `attack`, `initial_radius`, `final_radius`, `largest_radius`, `maxfev` and `maxiter` as for
    `hybrid_direct_search`.

    **Returns** and **raises** what `hybrid_direct_search` does; `attack_radius` is in the `history`.

    **Source**: arXiv:2510.01461, Section 5 (local attacks).
    """
    problem = _network_problem(fun)
    given = (problem, x0, args, bounds, constraints, callback, maxfev, maxiter)
    incumbent = begin("attack_search", *given, options=unknown, jac=jac, hess=hess, hessp=hessp)
    radius = _baseline_radius(initial_radius, final_radius if tol is None else tol, largest_radius)
    attack = DirectionalAttack() if attack is None else attack

    def trials() -> Iterator[Vector]:
        for multiple in (1.1, 1.0):
            yield _attacked(problem, incumbent, attack, min(radius.largest, multiple * radius.value))

    return _first_success(incumbent, radius, trials, ("attack", "attack_radius"), patience=0, divisor=1.5)


def random_line_search(
    fun: Callable[..., Any],
    x0: ArrayLike,
    args: Sequence[Any] = (),
    *,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    maxfev: int = 20_000,
    maxiter: int | None = None,
    rng: Any = 0,
    initial_radius: float = 1.0,
    final_radius: float = 1e-6,
    largest_radius: float | None = None,
    tol: float | None = None,
    **unknown: Any,
) -> OptimizeResult:
    r"""Minimise along random directions: a baseline that compares values, for any function.

    For `scipy.optimize.minimize(fun, x0, method=random_line_search, options={…})`. An iteration draws two directions
    from the sphere of the $\infty$-norm, tries each at the distances $1.1r$, $r$ and $r/1.1$, and moves to the first
    point that is better; then $r$ is the distance of that point. After $n + 1$ failures in a row every further one
    divides $r$ by 1.3. It stops when $r$ reaches its smallest value.

    **Arguments**: `initial_radius`, `final_radius`, `largest_radius`, `rng`, `maxfev` and `maxiter` as for
    `covering_direct_search`.

    **Returns** and **raises** what `covering_direct_search` does; `radius` is in the `history`.

    **Source**: arXiv:2510.01461, Section 5 (random line searches).
    """
    given = (fun, x0, args, bounds, constraints, callback, maxfev, maxiter, rng)
    incumbent = begin("random_line_search", *given, options=unknown, jac=jac, hess=hess, hessp=hessp)
    radius = _baseline_radius(initial_radius, final_radius if tol is None else tol, largest_radius)

    def trials() -> Iterator[Vector]:
        x = incumbent.x
        for _ in range(2):
            direction = random_on_sphere(x.size, radius.value, incumbent.rng)
            for multiple in (1.1, 1.0, 1.0 / 1.1):
                yield x + multiple * direction

    patience = incumbent.x.size + 1
    return _first_success(incumbent, radius, trials, ("line search", "radius"), patience=patience, divisor=1.3)


def projected_gradient_ascent(
    fun: Callable[..., Any],
    x0: ArrayLike,
    args: Sequence[Any] = (),
    *,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    maxfev: int = 20_000,
    maxiter: int | None = None,
    initial_step: float = 1.0,
    smallest_step: float = 1e-12,
    tol: float | None = None,
    **unknown: Any,
) -> OptimizeResult:
    r"""Optimise through a network by projected gradient ascent with backtracking: the baseline that needs no attack.

    For `scipy.optimize.minimize(problem, x0, method=projected_gradient_ascent, options={…})`. With
    $g = \nabla(\tilde f\circ\tilde\Phi)(x)$ and $P$ the projection onto the bounds, an iteration tries $P(x + sg)$ for
    $s$ halved until $\tilde f$ rises by $10^{-4}\langle g, P(x + sg) - x\rangle$, moves there and doubles $s$. It
    stops when the trial moves no coordinate by more than `smallest_step`.

    **Arguments**: `initial_step` ($s$ at first) and `smallest_step` (or `tol` of `minimize`); `maxfev` and `maxiter`
    as for `hybrid_direct_search`.

    **Returns** and **raises** what `hybrid_direct_search` does; `step_size` is in the `history`.

    **Source**: textbook; arXiv:2510.01461 does not compare with it.
    """
    problem = _network_problem(fun)
    given = (problem, x0, args, bounds, constraints, callback, maxfev, maxiter)
    incumbent = begin("projected_gradient_ascent", *given, options=unknown, jac=jac, hess=hess, hessp=hessp)
    smallest = smallest_step if tol is None else tol
    validation.positive("initial_step", initial_step)
    validation.positive("smallest_step", smallest)
    size, finished = initial_step, False

    def iterate() -> str:
        nonlocal size, finished
        incumbent.reserve(2)
        x = incumbent.x
        gradient = problem.penalised.pullback(x, problem.direction(incumbent.outputs, x))
        while not finished:
            trial = np.clip(x + size * gradient, incumbent.low, incumbent.high)
            finished = not np.abs(trial - x).max() > smallest  # NaN ends it too
            if not finished and incumbent.improve(trial, at_least=1e-4 * float(gradient @ (trial - x))) > 0.0:
                size *= 2.0
                return "gradient"
            size *= 0.5
        return "failure"

    return incumbent.run(iterate, lambda: {"step_size": size}, lambda: finished)


def _network_problem(fun: Any) -> NetworkProblem:
    if not isinstance(fun, NetworkProblem):
        raise TypeError(
            f"fun: expected a NetworkProblem, got {type(fun).__name__}; covering_direct_search takes any function"
        )
    return fun


def _baseline_radius(initial: float, final: float, largest: float | None) -> _Radius:
    return _Radius("initial_radius", initial, final, 10.0 * initial if largest is None else largest)


def _first_success(
    incumbent: Incumbent,
    radius: _Radius,
    trials: Callable[[], Iterable[Vector]],
    names: tuple[str, str],
    *,
    patience: int,
    divisor: float,
) -> OptimizeResult:
    r"""Move to the first of `trials` that is better, and take over its distance as the radius.

    **Arguments**: `names`, those of a success and of the radius in the result; after `patience` failures in a row each
    further one divides the radius by `divisor`.
    """
    success, recorded_as = names
    failures = 0

    def iterate() -> str:
        nonlocal failures
        moved = incumbent.improved_by(trials())
        if moved is not None:
            failures = 0
            radius.set(float(np.abs(moved).max()))
            return success
        failures += 1
        if failures > patience:
            radius.set(radius.value / divisor)
        return "failure"

    return incumbent.run(iterate, lambda: {recorded_as: radius.value}, lambda: radius.at_floor)
