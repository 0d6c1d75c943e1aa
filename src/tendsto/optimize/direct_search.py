"""Direct search with a covering step: minimise by comparing values, with a guarantee beyond smoothness."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeResult, linprog

from tendsto import validation
from tendsto.optimize.search_loop import Incumbent, begin

Vector = NDArray[np.float64]
Directions = NDArray[np.float64]
Poll = Literal["2n", "n+1"]


def poll_basis(size: int, kind: Poll = "2n", rng: Any = 0) -> Directions:
    r"""A random set of directions that positively spans $R^n$: one of them descends on any smooth function.

    From a random reflection $H = I - 2vv^\top$, $v$ uniform on the unit sphere: its columns and their opposites
    (`"2n"`, a maximal positive basis of cosine measure $1/\sqrt n$), or its columns and minus their sum (`"n+1"`, a
    minimal one of cosine measure $1/\sqrt{n^2 + 2(n-1)\sqrt n}$).

    **Arguments**

    - `size`: $n$.
    - `kind`: `"2n"` or `"n+1"`.
    - `rng`: what `numpy.random.default_rng` takes.

    **Returns** the directions as rows, shape `(2n, n)` or `(n + 1, n)`, each of $\infty$-norm 1.

    **Raises** `ValueError` or `TypeError` naming the argument.

    **Source**: arXiv:2510.01461, Section 4 (poll step); the cosine measures are classical.
    """
    validation.integer("size", size, low=1)
    if kind not in get_args(Poll):
        raise ValueError(f"kind: {kind!r} is not one of {', '.join(get_args(Poll))}")
    normal = np.random.default_rng(rng).standard_normal(size)
    unit = normal / np.linalg.norm(normal)
    reflection = np.eye(size) - 2.0 * np.outer(unit, unit)
    opposite = -reflection if kind == "2n" else -reflection.sum(axis=0, keepdims=True)
    directions = np.concatenate([reflection, opposite])
    scaled: Directions = directions / np.abs(directions).max(axis=1, keepdims=True)
    return scaled


def cosine_measure(directions: ArrayLike) -> float:
    r"""How well directions cover the space: $\min_{\lVert w\rVert = 1} \max_d \langle d, w\rangle/\lVert d\rVert$.

    Positive exactly if the directions positively span the space. It is computed exactly: from the vertices at which
    $n$ independent directions have one and the same product with $w$, or by the formula $1/\sqrt n$ for an orthogonal
    basis with its opposites.

    **Arguments**

    - `directions`: $d$ as rows, shape `(k, n)`, none of them zero.

    **Returns** the measure; 0 if the directions do not positively span the space.

    **Raises** `ValueError` if a direction is zero or not finite, or if there are more than 100,000 subsets of $n$
    directions to go through.
    """
    given = np.asarray(validation.finite_array("directions", directions, ndim=2), dtype=np.float64)
    count, size = given.shape
    norms = np.linalg.norm(given, axis=1, keepdims=True)
    if not (norms > 0.0).all():
        raise ValueError("directions: must not contain the zero vector")
    unit = given / norms
    if not _positively_spans(unit):
        return 0.0
    half = unit[:size]
    opposites = count == 2 * size and np.allclose(unit[size:], -half, rtol=0.0, atol=1e-12)
    if opposites and np.allclose(half @ half.T, np.eye(size), rtol=0.0, atol=1e-12):
        return 1.0 / math.sqrt(size)
    if math.comb(count, size) > 100_000:
        raise ValueError(f"directions: {count} directions of dimension {size} have too many subsets to go through")
    return min(_vertex_measures(unit))


def _positively_spans(unit: Directions) -> bool:
    """Full rank, and zero is a combination of the directions with positive coefficients."""
    count, size = unit.shape
    if np.linalg.matrix_rank(unit) < size:
        return False
    feasible = linprog(np.ones(count), A_eq=unit.T, b_eq=np.zeros(size), bounds=(1.0, None))
    return bool(feasible.status == 0)


def _vertex_measures(unit: Directions) -> Iterator[float]:
    """The measure at each unit vector that has equal products with a basis among the directions, none larger."""
    count, size = unit.shape
    for chosen in itertools.combinations(range(count), size):
        basis = unit[list(chosen)]
        if np.linalg.matrix_rank(basis) < size:
            continue
        vertex = np.linalg.solve(basis, np.ones(size))
        length = float(np.linalg.norm(vertex))
        if (unit @ vertex).max() <= 1.0 + 1e-9:
            yield 1.0 / length


def random_on_sphere(size: int, radius: float, rng: np.random.Generator) -> Vector:
    r"""A point drawn uniformly from the sphere of the $\infty$-norm: one coordinate $\pm r$, the others in between."""
    point = rng.uniform(-radius, radius, size)
    point[rng.integers(size)] = radius * rng.choice([-1.0, 1.0])
    return point


class CoveringSteps:
    r"""One iteration of the covering direct search: cover, search, poll, until one of them succeeds.

    **Arguments**

    - `incumbent`: the incumbent that the steps improve.
    - `initial_radius`, `final_radius`, `largest_radius`: where the poll radius starts and its limits.
    - `covering_radius`: $r_0$; zero for no covering and no search step.
    - `covering_points`: how many covering points must have failed around the incumbent before the search may stop.
    - `poll`: which basis to poll.

    **Attributes**

    - `radius`: the poll radius.
    - `covered`: how many covering points have failed since the incumbent last moved.
    """

    def __init__(
        self,
        incumbent: Incumbent,
        *,
        initial_radius: float,
        final_radius: float,
        largest_radius: float | None,
        covering_radius: float | None,
        covering_points: int,
        poll: Poll,
    ) -> None:
        validation.positive("initial_radius", initial_radius)
        validation.positive("final_radius", final_radius)
        largest = 10.0 * initial_radius if largest_radius is None else largest_radius
        validation.positive("largest_radius", largest)
        if not final_radius <= initial_radius <= largest:
            raise ValueError(
                "initial_radius: must lie between final_radius and largest_radius, "
                f"got {final_radius:g}, {initial_radius:g}, {largest:g}"
            )
        covering = initial_radius if covering_radius is None else covering_radius
        validation.real("covering_radius", covering, low=0.0, high=np.finfo(np.float64).max)
        validation.integer("covering_points", covering_points, low=0)
        if poll not in get_args(Poll):
            raise ValueError(f"poll: {poll!r} is not one of {', '.join(get_args(Poll))}")
        self.incumbent = incumbent
        self.radius, self.final_radius, self.largest_radius = initial_radius, final_radius, largest
        self.covering_radius, self.covering_points = covering, covering_points
        self.poll = poll
        self.covered, self.searches = 0, 0
        self._covered_at: Vector | None = None
        self._polled_at: Vector | None = None

    @property
    def finished(self) -> bool:
        """Whether a poll failed at the smallest radius and enough covering points failed, the incumbent at rest."""
        return self._resting and (self.covering_radius == 0.0 or self.covered_here >= self.covering_points)

    @property
    def _resting(self) -> bool:
        return self.radius <= self.final_radius and self._polled_at is self.incumbent.x

    def __call__(self) -> str:
        """Take the steps; the name of the one that succeeded, or `"failure"`."""
        if self.covering_radius > 0.0 and self._cover():
            return "covering"
        # A poll that failed at the smallest radius is not repeated before the incumbent moves.
        if self._resting:
            return "failure"
        if self.covering_radius > 0.0 and self._search():
            self._enlarge()
            return "search"
        if self._poll():
            self._enlarge()
            return "poll"
        self.radius = max(self.final_radius, 0.5 * self.radius)
        return "failure"

    def reopen(self) -> None:
        """Double the poll radius if it is at its smallest."""
        if self.radius <= self.final_radius:
            self._enlarge()

    @property
    def covered_here(self) -> int:
        """How many covering points have failed around the incumbent."""
        return self.covered if self._covered_at is self.incumbent.x else 0

    def _enlarge(self) -> None:
        self.radius = min(self.largest_radius, 2.0 * self.radius)

    def _cover(self) -> bool:
        """A point drawn uniformly from the ball of radius $r_0$, so that the trial points become dense in it."""
        x = self.incumbent.x
        if self._covered_at is not x:
            self.covered, self._covered_at = 0, x
        offset = self.incumbent.rng.uniform(-self.covering_radius, self.covering_radius, x.size)
        succeeded = self.incumbent.improve(x + offset) > 0.0
        self.covered += not succeeded
        return succeeded

    def _search(self) -> bool:
        """A point drawn uniformly from the sphere of a radius that grows with the number of searches."""
        self.searches += 1
        radius = min(self.covering_radius * math.sqrt(self.searches), self.largest_radius)
        x = self.incumbent.x
        return self.incumbent.improve(x + random_on_sphere(x.size, radius, self.incumbent.rng)) > 0.0

    def _poll(self) -> bool:
        x, radius = self.incumbent.x, self.radius
        basis = poll_basis(x.size, self.poll, self.incumbent.rng)
        succeeded = self.incumbent.improved_by(x + radius * direction for direction in basis) is not None
        if not succeeded and radius <= self.final_radius:
            self._polled_at = x
        return succeeded


def covering_direct_search(
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
    poll: Poll = "2n",
    tol: float | None = None,
    **unknown: Any,
) -> OptimizeResult:
    r"""Minimise by the covering direct search method (cDSM), which compares values and needs no derivative.

    For `scipy.optimize.minimize(fun, x0, method=covering_direct_search, options={…})`. One iteration at the incumbent
    $x$, ended by the first step that finds a smaller value, which moves there:

    1. *covering*: one point drawn uniformly from $\lVert d\rVert_\infty \le r_0$; the poll radius stays.
    2. *search*: one point drawn uniformly from $\lVert d\rVert_\infty = \min(r_0\sqrt{k}, r_{\max})$ in the $k$-th
       search; $r \leftarrow \min(2r, r_{\max})$.
    3. *poll*: the directions of a fresh `poll_basis` at distance $r$, the first success ends it;
       $r \leftarrow \min(2r, r_{\max})$.

    If all fail, $r \leftarrow \max(r/2, r_{\min})$. The covering points become dense around any point that the
    search refines, and so every such point is a **local minimiser**, under a mild regularity even of a discontinuous
    function. Once a poll has failed at $r_{\min}$, covering goes on alone until the incumbent moves.

    Bounds and constraints are an extreme barrier: points outside have the value infinity and cost no evaluation.
    `LinearConstraint`, `NonlinearConstraint` and inequalities in dictionaries are accepted; the start must satisfy
    them (outside the bounds it is moved onto them, with a warning). NaN counts as infinity.

    **Arguments**, beside those of `scipy.optimize.minimize`

    - `maxfev`: the largest number of evaluations; it is never exceeded.
    - `maxiter`: the largest number of iterations, by default none.
    - `rng`: seed or generator of all random directions, what `numpy.random.default_rng` takes.
    - `initial_radius`, `final_radius`, `largest_radius`: where the poll radius $r$ starts, $r_{\min}$, and
      $r_{\max}$ (by default ten times the start). `tol` of `minimize` sets `final_radius`.
    - `covering_radius`: $r_0$, by default the initial radius. Zero leaves the classical poll alone.
    - `covering_points`: $N$; the search stops at $r_{\min}$ when as many covering points have failed in a row around
      the incumbent. Then, at 95% confidence, less than a fraction $3/N$ of the ball of radius $r_0$ is better than
      it. Zero stops as soon as $r$ reaches $r_{\min}$.
    - `poll`: `"2n"` or `"n+1"`.

    **Returns** an `OptimizeResult`. `status` is 0 (converged), 1 (`maxfev`), 2 (`maxiter`), 3 (the value fell to minus
    infinity), 4 (the start violates a constraint; nothing was evaluated), 5 (no finite value was found) or 99 (the
    callback raised `StopIteration`). `history` is a `Trace` by iteration with `objective`, `evaluations` and
    `poll_radius`; `successes` counts the iterations by what succeeded; `covered` is the number of covering points that
    have failed around `x`.

    **Raises** `ValueError` or `TypeError` naming the argument; what `fun` raises passes through.

    **Source**: P.-Y. Bouchet, T. Vidal, "Optimization by Directional Attacks: Solving Problems with Neural Network
    Surrogates", arXiv:2510.01461, Section 4; C. Audet, P.-Y. Bouchet, L. Bourdin, "Convergence towards a local
    minimum by direct search methods with a covering step", arXiv:2401.07097. Searching at a radius that grows, one
    covering point an iteration, and polling by a reflection are the choices of the former; `covering_points` is ours.
    """
    given = (fun, x0, args, bounds, constraints, callback, maxfev, maxiter, rng)
    incumbent = begin("covering_direct_search", *given, options=unknown, jac=jac, hess=hess, hessp=hessp)
    steps = CoveringSteps(
        incumbent,
        initial_radius=initial_radius,
        final_radius=final_radius if tol is None else tol,
        largest_radius=largest_radius,
        covering_radius=covering_radius,
        covering_points=covering_points,
        poll=poll,
    )
    result = incumbent.run(steps, lambda: {"poll_radius": steps.radius}, lambda: steps.finished)
    result.covered = steps.covered_here
    return result
