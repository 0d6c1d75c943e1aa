"""Find a zero of a monotone operator that is an average of n components, without evaluating all of them each time.

Halpern's iteration pulls every step back towards the starting point, which makes the *last* iterate's residual
fall like 1/k. The paper feeds it a recursive estimate of the operator (Algorithm 1, for components that are
cocoercive on average) and applies it inexactly to a large resolvent step (Algorithm 2, for components that are
only Lipschitz on average). Both reach a computable residual epsilon with about n + sqrt(n) L / epsilon components,
where deterministic methods need n L_F / epsilon: the gain is up to sqrt(n) where L, the constant of the *average*
over components, is not much larger than L_F, the constant of their mean. Algorithm 1 guarantees a root mean
square residual of 16 L R / (k + 4) after k steps from distance R.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import scipy.optimize
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tendsto.assistants import Development
from tendsto.evidence import (
    Budget,
    Check,
    Estimate,
    Finding,
    Paper,
    at_least,
    at_most,
    between,
    claim,
    equal_to,
    proved,
)
from tendsto.iteration import Method, State, Trace, run
from tendsto.optimize import (
    Halpern,
    Optax,
    ResolventHalpern,
    VarianceReducedHalpern,
    anchored_gradient,
    certified_residual,
    certify,
    page_estimate,
    resolvent_residual,
)
from tendsto.problems import (
    Box,
    ConstrainedQuadratic,
    FiniteSumInclusion,
    GradientField,
    Inclusion,
    LeastSquares,
    MatrixGame,
    Operator,
)

CARD = Paper(
    slug="vr-halpern",
    title="Variance Reduced Halpern Iteration for Finite-Sum Monotone Inclusions",
    authors=("Xufeng Cai", "Ahmet Alacaoglu", "Jelena Diakonikolas"),
    arxiv="2310.02987",
    date=date(2023, 10, 4),
    field="optimize",
    method=(
        "optimize.VarianceReducedHalpern",
        "optimize.ResolventHalpern",
        "optimize.VarianceReducedForwardReflectedBackward",
        "optimize.Halpern",
        "optimize.ExtraAnchoredGradient",
        "optimize.Extragradient",
    ),
)


def _spread_rows(budget: Budget, n: int, d: int) -> GradientField:
    """Least squares over a box, with rows of very different norms: L is far above L_F."""
    generator = np.random.default_rng([budget.seed, n, d])
    features = generator.standard_normal((n, d)) / math.sqrt(d) * generator.lognormal(0.0, 0.4, (n, 1))
    targets = features @ generator.standard_normal(d) + 0.1 * generator.standard_normal(n)
    return GradientField(LeastSquares(jnp.asarray(features), jnp.asarray(targets), regulariser=Box(-0.5, 0.5)))


def _aligned_rows(budget: Budget, n: int, d: int = 40) -> GradientField:
    """Least squares whose unit rows share a direction, so that L = 1 is close to L_F = 0.7."""
    generator = np.random.default_rng([budget.seed, d])
    solution = 3.0 * generator.standard_normal(d)
    scales = np.concatenate([[0.0, 1.0], np.arange(2.0, d) ** -1.5])
    rest = generator.standard_normal((n, d)) * scales
    features = math.sqrt(0.3) * rest / np.linalg.norm(rest, axis=1, keepdims=True)
    features[:, 0] = math.sqrt(0.7)
    targets = features @ solution + 0.1 * generator.standard_normal(n)
    return GradientField(LeastSquares(jnp.asarray(features), jnp.asarray(targets)))


def _distance_to_solution(problem: GradientField) -> float:
    """R, from the origin."""
    inner: Any = problem.problem
    bounds = (-0.5, 0.5) if isinstance(problem.regulariser, Box) else (-np.inf, np.inf)
    return float(np.linalg.norm(scipy.optimize.lsq_linear(inner.features, inner.targets, bounds, tol=1e-12).x))


def _origin(problem: GradientField) -> Float[Array, " d"]:
    inner: Any = problem.problem
    return jnp.zeros(inner.features.shape[1])


# --- Algorithm 1: the bound ------------------------------------------------------------------------------------


def _bound_of_the_last_iterate(
    budget: Budget, problems: dict[str, GradientField], factor: float, steps: int
) -> Finding:
    """Largest ratio of the rms residual to 16 L R / (k + 4), for `factor` times the theorem's step size."""
    seeds, checks, traces = budget.pick(10, 20, 50), [], {}
    figure = Figure(figsize=(5.5 * len(problems), 4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(problems)))
    for axes, (name, problem) in zip(panels, problems.items(), strict=True):
        theory = VarianceReducedHalpern.theory(problem)
        trace = run(
            dataclasses.replace(theory, step_size=factor * theory.step_size),
            problem,
            _origin(problem),
            steps=steps,
            seeds=seeds,
            key=budget.key,
            record={"residual": certified_residual},
        )
        scale = 16.0 * _distance_to_solution(problem) / float(problem.constant("average_cocoercivity"))
        k = trace["step"].values[1:]
        squares = (trace["residual"].values[:, 1:] * (k + 4.0) / scale) ** 2
        worst = int(squares.mean(axis=0).argmax())
        checks.append(
            Check(
                f"largest mean of [‖F(x_k) + g_k‖ (k + 4) / (16 L R)]², {name}, at k = {k[worst]}",
                at_most(1.0),
                Estimate.mean(squares[:, worst]),
            )
        )
        trace.plot("residual", ax=axes, label=f"Algorithm 1, {seeds} seeds")
        axes.plot(k, scale / (k + 4.0), "k--", label="$16 L R / (k + 4)$")
        axes.set(title=name, ylabel=r"$\Vert F(x_k) + g_k \Vert$")
        axes.legend()
        traces[name] = trace
    return Finding(checks, figures={"The last iterate against its bound": figure}, traces=traces)


@claim(
    statement=r"For components that are cocoercive on average, the last iterate of Algorithm 1 satisfies "
    r"$(\mathbb{E}\|F(x_k)+g_k\|^2)^{1/2} \le 16 L \|x_0-x^\star\| / (k+4)$",
    source="Theorem for Algorithm 1 (cocoercive case)",
    evidence="measured",
)
def the_last_residual_stays_below_its_bound(budget: Budget) -> Finding:
    """Least squares, uniform sampling: over a box with L far above L_F, and without one with L close to L_F."""
    problems = {"spread rows in a box": _spread_rows(budget, 1000, 50), "aligned rows": _aligned_rows(budget, 500)}
    return _bound_of_the_last_iterate(budget, problems, 1.0, budget.pick(3_000, 10_000, 100_000))


@the_last_residual_stays_below_its_bound.control
def a_step_size_beyond_stability_breaks_the_bound(budget: Budget) -> Finding:
    """Sixteen times the step size, on rows for which 4 / L exceeds 2 / L_F."""
    return _bound_of_the_last_iterate(budget, {"aligned rows": _aligned_rows(budget, 500)}, 16.0, 60)


# --- Algorithm 1: how many components it takes -----------------------------------------------------------------


class _Costs(NamedTuple):
    """Components spent until the residual first was at most the accuracy, infinite if it never was."""

    variance_reduced: NDArray[np.float64]
    same_step: float
    half_step: float
    longest_step: float


def _spent_until(trace: Trace, accuracy: float) -> NDArray[np.float64]:
    reached = trace["residual"].values <= accuracy
    first = reached.argmax(axis=1)
    spent = trace["gradients"].values[np.arange(len(reached)), first]
    return np.where(reached.any(axis=1), spent, np.inf)


def _costs(budget: Budget, problem: GradientField, accuracy: float, steps: int) -> _Costs:
    """What each method spends; the variance-reduced one also pays the full pass that certifies its answer."""
    theory = VarianceReducedHalpern.theory(problem)
    short, half = float(theory.step_size), 0.5 / float(problem.constant("lipschitz"))
    x0, record = _origin(problem), {"residual": _natural_residual}
    seeds = 16
    shared: dict[str, Any] = {"steps": steps, "record": record, "points": 300, "key": budget.key}
    random = run(theory, problem, x0, seeds=seeds, **shared)
    exact = run(dataclasses.replace(theory, probability=1.0), problem, x0, grid={"step_size": [short, half]}, **shared)
    longest = run(Halpern.theory(problem), problem, x0, **shared)
    same, long = (float(_spent_until(exact.sel(step_size=size), accuracy)[0]) for size in (short, half))
    return _Costs(
        _spent_until(random, accuracy) + problem.components, same, long, float(_spent_until(longest, accuracy)[0])
    )


def _natural_residual(problem: Inclusion, state: State) -> Float[Array, ""]:
    """The natural residual, which all methods share; it is the norm of F where there is no constraint."""
    return problem.stationarity(state.x)


def _ratio(cost: float, of_sampling: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many times `cost` a method that takes `of_sampling` saves; one that never arrives saves nothing."""
    return np.array([cost / each if math.isfinite(each) else 0.0 for each in of_sampling])


def _savings(budget: Budget, problems: list[GradientField], accuracy: float, steps: int) -> Finding:
    """How many times fewer components Algorithm 1 takes than deterministic Halpern iteration."""
    found = [_costs(budget, problem, accuracy, steps) for problem in problems]
    sizes = [problem.components for problem in problems]
    against_same, against_half = (
        [_ratio(getattr(cost, name), cost.variance_reduced) for cost in found] for name in ("same_step", "half_step")
    )
    table = pd.DataFrame(
        {
            "n": sizes,
            "L": [1.0 / float(problem.constant("average_cocoercivity")) for problem in problems],
            "L_F": [float(problem.constant("lipschitz")) for problem in problems],
            "Algorithm 1, certified": [c.variance_reduced.mean() for c in found],
            "deterministic, η = 1/(4L)": [c.same_step for c in found],
            "deterministic, η = 1/(2 L_F)": [c.half_step for c in found],
            "classical Halpern, η = 2/L_F": [c.longest_step for c in found],
        }
    )
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for column in table.columns[3:]:
        axes.plot(sizes, table[column], "o-", label=column)
    axes.set(xscale="log", yscale="log", xlabel="components $n$", ylabel=f"components until residual {accuracy:g}")
    axes.legend()
    checks = [
        Check(
            f"times fewer components than the same step size without sampling, n = {sizes[-1]}",
            at_least(8.0),
            Estimate.mean(against_same[-1]),
        ),
        Check(
            f"times fewer components than deterministic steps 1/(2 L_F), n = {sizes[-1]}",
            at_least(3.0),
            Estimate.mean(against_half[-1]),
        ),
    ]
    if len(sizes) > 1:
        checks.append(
            Check(
                f"growth of the first ratio from n = {sizes[0]} to {sizes[-1]}, relative to the square root's",
                at_least(0.5),
                Estimate.mean(against_same[-1] / against_same[0].mean() / math.sqrt(sizes[-1] / sizes[0])),
            )
        )
    best = _ratio(found[-1].longest_step, found[-1].variance_reduced).mean()
    return Finding(
        checks,
        tables={f"Components until the residual is {accuracy:g}": table},
        figures={"Components against n": figure},
        note=f"Against classical Halpern iteration with its longest admissible step, 2/L_F, Algorithm 1 takes "
        f"{best:.2g} times fewer components at n = {sizes[-1]}: its order in n is better, its constants are worse.",
    )


@claim(
    statement=r"Algorithm 1 reaches a residual $\epsilon$ with $\tilde O(n + \sqrt n L/\epsilon)$ components, up to "
    r"$\sqrt n$ times fewer than deterministic Halpern iteration, where $L$ is close to $L_F$",
    source="Theorem for Algorithm 1 and abstract",
    evidence="measured",
)
def sampling_saves_components_in_proportion_to_sqrt_n(budget: Budget) -> Finding:
    """Rows with a common direction (L = 1, L_F = 0.7) and one true solution, at growing n."""
    sizes = budget.pick((500, 4_000), (500, 4_000, 32_000), (500, 4_000, 32_000, 256_000))
    return _savings(budget, [_aligned_rows(budget, n) for n in sizes], 0.03, 3_000)


@sampling_saves_components_in_proportion_to_sqrt_n.control
def sampling_saves_nothing_where_the_average_constant_is_large(budget: Budget) -> Finding:
    """Rows of very different norms: L is many times L_F, and the deterministic method's long steps win."""
    return _savings(budget, [_spread_rows(budget, 1000, 50)], 0.15, 3_000)


def _spent_within_the_theorem(budget: Budget, factor: float) -> Finding:
    """Largest ratio of the components spent to those the theorem allows, over n and the accuracy."""
    rows = []
    for n in budget.pick((100, 1_600), (100, 1_000, 10_000), (100, 1_000, 10_000, 100_000)):
        problem = _aligned_rows(budget, n)
        theory = VarianceReducedHalpern.theory(problem)
        scale = 16.0 * _distance_to_solution(problem) / float(problem.constant("average_cocoercivity"))
        trace = run(
            dataclasses.replace(theory, step_size=factor * theory.step_size),
            problem,
            _origin(problem),
            steps=budget.pick(1_000, 4_000, 4_000),
            seeds=4,
            key=budget.key,
            record=["residual"],
            points=300,
        )
        for accuracy in (0.3, 0.2, 0.1):
            allowed = theory.expected_cost(problem, math.ceil(scale / accuracy))
            rows.append((n, accuracy, _spent_until(trace, accuracy).mean(), allowed))
    table = pd.DataFrame(rows, columns=["n", "residual", "components spent", "components allowed"])
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for size, part in table.groupby("n"):
        (line,) = axes.plot(1.0 / part["residual"], part["components spent"], "o-", label=f"n = {size}")
        axes.plot(1.0 / part["residual"], part["components allowed"], "--", color=line.get_color())
    axes.set(xscale="log", yscale="log", xlabel=r"$1/\epsilon$", ylabel="components (dashed: allowed)")
    axes.legend()
    worst = float((table["components spent"] / table["components allowed"]).max())
    return Finding(
        [Check("components spent, relative to the theorem's count, at worst", at_most(1.0), Estimate.exact(worst))],
        tables={"Components by n and accuracy": table},
        figures={"Components against the accuracy": figure},
    )


@claim(
    statement=r"Algorithm 1 needs no more than the expected components of $16 L \|x_0 - x^\star\|/\epsilon$ steps, "
    r"$n + \sum_k [p_k n + 2(1-p_k) \lceil\sqrt n\rceil]$, for a residual $\epsilon$",
    source="Theorem for Algorithm 1 (oracle complexity)",
    evidence="measured",
)
def components_stay_within_the_oracle_complexity(budget: Budget) -> Finding:
    """Every n and accuracy of a grid."""
    return _spent_within_the_theorem(budget, 1.0)


@components_stay_within_the_oracle_complexity.control
def a_step_size_beyond_stability_never_arrives(budget: Budget) -> Finding:
    """Sixteen times the step size: 4 / L exceeds 2 / L_F."""
    return _spent_within_the_theorem(budget, 16.0)


# --- Algorithm 2 -----------------------------------------------------------------------------------------------


def _game(budget: Budget, size: int) -> MatrixGame:
    payoff = np.random.default_rng([budget.seed, size]).standard_normal((size, size))
    return MatrixGame(payoff / np.linalg.norm(payoff, 2))


def _rates_on_a_game(budget: Budget, **changes: Any) -> Finding:
    """The exponents at which Algorithm 2's residuals fall on a Gaussian matrix game."""
    game, steps = _game(budget, 50), budget.pick(40, 80, 200)
    method = dataclasses.replace(ResolventHalpern.theory(game), **changes)
    trace = run(
        method,
        game,
        game.uniform,
        steps=steps,
        key=budget.key,
        record={"displacement": resolvent_residual, "residual": certified_residual},
        points=list(range(steps + 1)),
    )
    equilibrium = game.equilibrium()
    start = jnp.concatenate(game.uniform)
    radius = float(jnp.linalg.norm(start - jnp.concatenate([equilibrium.x, equilibrium.y])))
    k = trace["step"].values[5:]
    # Step number k of the run computes x_{k-1} from u_{k-1}.
    bounded = trace["displacement"].values[:, 5:] * (k - 1.0) / (7.0 * radius)
    rates = [trace.rate(name, window=(5.0, steps)) for name in ("displacement", "residual")]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = trace.plot("residual", ax=figure.subplots(), label=r"$\Vert F(x_k) + g_k \Vert$")
    axes.plot(k, 7.0 * radius / (k - 1.0) / float(method.step_size), "k--", label=r"$7 R / (\eta k)$")
    axes.set(xlabel="outer iteration", ylabel="residual")
    axes.legend()
    names = ("‖u_k − x_k‖ / η", "the certified residual ‖F(x_k) + g_k‖")
    return Finding(
        [
            *(
                Check(f"exponent of {name} in k", between(-1.25, -0.85), _as_estimate(rate))
                for name, rate in zip(names, rates, strict=True)
            ),
            Check("largest ratio of ‖u_k − x_k‖ to 7 R / k", at_most(1.0), Estimate.exact(bounded.max())),
        ],
        figures={"Last residual of Algorithm 2": figure},
        traces={"residual": trace},
    )


def _as_estimate(rate: Any) -> Estimate:
    return Estimate(rate.value, rate.low, rate.high, rate.method)


@claim(
    statement=r"For components that are only Lipschitz on average, the last iterate of Algorithm 2 has "
    r"$\mathbb{E}\|u_k - J(u_k)\| \le 7\|x_0-x^\star\|/k$ and a residual of order $L\|x_0-x^\star\|/(\sqrt n\, k)$",
    source="Theorem for Algorithm 2 (monotone Lipschitz case)",
    evidence="measured",
)
def the_residual_on_a_matrix_game_falls_as_one_over_k(budget: Budget) -> Finding:
    """A 50 x 50 Gaussian game, sampled by the norms of its rows and columns."""
    return _rates_on_a_game(budget)


@the_residual_on_a_matrix_game_falls_as_one_over_k.control
def an_anchor_that_never_lets_go_stalls(budget: Budget) -> Finding:
    """The constant weight 1/2 in place of 1 / (k + 2)."""
    return _rates_on_a_game(budget, anchor_weight=optax.constant_schedule(0.5))


def _inner_accuracy(budget: Budget, inner_factor: float) -> Finding:
    """Largest mean squared error of the inner solves, relative to what the analysis asks for."""
    generator = np.random.default_rng(budget.seed)
    n, d, steps = 20, 30, budget.pick(12, 20, 40)
    root = generator.standard_normal((d, d)) / math.sqrt(d)
    constraints = generator.standard_normal((n, d)) / math.sqrt(d)
    problem = ConstrainedQuadratic(
        0.1 * root @ root.T, generator.standard_normal(d), constraints, generator.standard_normal(n)
    )
    method = dataclasses.replace(ResolventHalpern.theory(problem), inner_factor=inner_factor)
    eta = float(method.step_size)
    x0 = (jnp.zeros(d), jnp.zeros(n))
    trace = run(
        method,
        problem,
        x0,
        steps=steps,
        seeds=budget.pick(8, 16, 32),
        key=budget.key,
        record={"errors": _ResolventErrors(eta)},
        points=list(range(steps + 1)),
    )
    errors, displacements = np.moveaxis(trace["errors"].values[:, 1:], -1, 0)
    k = np.arange(steps)
    ratios = errors / displacements * (k + 2.0) ** 8
    radius = float(optax.tree_utils.tree_norm(problem.solution(x0)))
    bounded = np.sqrt(displacements).mean(axis=0)[1:] * k[1:] / (7.0 * radius)
    worst = int(ratios.mean(axis=0).argmax())
    return Finding(
        [
            Check(
                "largest mean of ‖x_k − J(u_k)‖² (k+2)^8 / ‖u_k − J(u_k)‖²",
                at_most(1.0),
                Estimate.mean(ratios[:, worst]),
            ),
            Check("largest ratio of E‖u_k − J(u_k)‖ to 7 R / k", at_most(1.0), Estimate.exact(bounded.max())),
        ],
        tables={"Accuracy by outer iteration": pd.DataFrame({"k": k, "relative to (k+2)^-8": ratios.mean(axis=0)})},
    )


class _ResolventErrors(eqx.Module):
    r"""$\lVert x_k - J(u_k) \rVert^2$ and $\lVert u_k - J(u_k) \rVert^2$, with the exact resolvent $J$."""

    step_size: float = eqx.field(static=True)

    def __call__(self, problem: ConstrainedQuadratic, state: Any) -> Float[Array, "2"]:
        exact = jnp.concatenate(problem.exact_resolvent(state.centre, self.step_size))
        points = jnp.stack([jnp.concatenate(state.x), jnp.concatenate(state.centre)])
        return jnp.sum((points - exact) ** 2, axis=1)


@claim(
    statement=r"$M_k = \lceil c\,n\log(1.252(k+2))\rceil$ inner steps make "
    r"$\mathbb{E}\|x_k - J(u_k)\|^2 \le \|u_k - J(u_k)\|^2/(k+2)^8$ without checking, and then "
    r"$\mathbb{E}\|u_k - J(u_k)\| \le 7\|x_0-x^\star\|/k$",
    source="Theorem for Algorithm 2 and its inner Algorithm 3",
    evidence="measured",
)
def inner_solves_are_accurate_without_checking(budget: Budget) -> Finding:
    """A constrained quadratic programme, whose resolvent is a linear system."""
    return _inner_accuracy(budget, 24.0)


@inner_solves_are_accurate_without_checking.control
def too_few_inner_steps_are_not_accurate(budget: Budget) -> Finding:
    """A sixteenth of the inner steps."""
    return _inner_accuracy(budget, 1.5)


# --- The estimator, the deterministic skeleton, the exit criterion and the cost ---------------------------------


class _Drawn(FiniteSumInclusion):
    """A finite sum that draws the indices it is told to."""

    problem: FiniteSumInclusion = eqx.field(kw_only=True)
    indices: Array = eqx.field(kw_only=True)

    @property
    def components(self) -> int:
        return self.problem.components

    def operator(self, x: Array) -> Array:
        value: Array = self.problem.operator(x)
        return value

    def sample(self, key: Key[Array, ""], size: int) -> Array:
        return self.indices

    def scaled_components(self, x: Array, indices: Array) -> Array:
        value: Array = self.problem.scaled_components(x, indices)
        return value


def _estimator_moments(budget: Budget, *, from_start: bool) -> Finding:
    """Mean and variance of one recursion over every batch of two from five components, importance sampling."""
    generator = np.random.default_rng(budget.seed)
    features = generator.standard_normal((5, 3)) * np.arange(1.0, 6.0)[:, None]
    problem = GradientField(
        LeastSquares(jnp.asarray(features), jnp.asarray(generator.standard_normal(5))), "importance"
    )
    start, before, after, error = (jnp.asarray(row) for row in generator.standard_normal((4, 3)))
    estimate = problem.operator(before) + error
    batches = jnp.asarray(list(itertools.product(range(5), repeat=2)))
    weights = problem.sampling.probabilities[batches].prod(axis=1)

    def followed(batch: Array) -> Array:
        drawn = _Drawn(problem=problem, indices=batch)
        previous = start if from_start else before
        value: Array = page_estimate(drawn, after, previous, estimate, 0.0, budget.key, batch=2).value
        return value

    outcomes = jax.vmap(followed)(batches)
    bias = jnp.linalg.norm(weights @ outcomes - (problem.operator(after) + error))
    every = jnp.arange(5)
    changes = problem.scaled_components(after, every) - problem.scaled_components(before, every)
    allowed = jnp.sum(error**2) + problem.sampling.probabilities @ jnp.sum(changes**2, axis=1) / 2.0
    variance = weights @ jnp.sum((outcomes - problem.operator(after)) ** 2, axis=1)
    scale = float(jnp.linalg.norm(problem.operator(after)))
    return Finding(
        [
            Check(
                "‖E F̃_{k+1} − [F(x_{k+1}) + F̃_k − F(x_k)]‖, relative to ‖F(x_{k+1})‖",
                at_most(1e-12),
                Estimate.exact(bias / scale),
            ),
            Check(
                "mean squared error, relative to ‖F̃_k − F(x_k)‖² + E‖F_q(x_{k+1}) − F_q(x_k)‖² / b",
                at_most(1.0),
                Estimate.exact(variance / allowed),
            ),
        ]
    )


@claim(
    statement=r"Without renewal, one recursion keeps the error in the mean, "
    r"$\mathbb{E}\tilde F_{k+1} = F(x_{k+1}) + \tilde F_k - F(x_k)$, and adds at most "
    r"$\mathbb{E}\|F_q(x_{k+1})-F_q(x_k)\|^2/b$ to its square",
    source="Variance recursion of the PAGE estimator",
    evidence="measured",
)
def the_estimator_has_the_stated_moments(budget: Budget) -> Finding:
    """Exhaustive over all batches, weighted by their probabilities."""
    return _estimator_moments(budget, from_start=False)


@the_estimator_has_the_stated_moments.control
def differences_from_the_start_are_biased(budget: Budget) -> Finding:
    """The recursion taken from x_0 instead of x_k."""
    return _estimator_moments(budget, from_start=True)


class _fixed_point_residual(eqx.Module):
    r"""$\lVert x - (I + \eta G)^{-1}(x - \eta F(x)) \rVert / \eta$."""

    step_size: float = eqx.field(static=True)

    def __call__(self, problem: Inclusion, state: State) -> Float[Array, ""]:
        change = jax.tree.map(jnp.subtract, state.x, problem.forward_backward(state.x, self.step_size))
        return jnp.asarray(optax.tree_utils.tree_norm(change) / self.step_size)


class _FixedPointResidual(eqx.Module):
    r"""$\lVert x - T x \rVert$ for the forward-backward map $T$."""

    step_size: float = eqx.field(static=True)

    def __call__(self, problem: Inclusion, state: State) -> Float[Array, ""]:
        return jnp.asarray(jnp.linalg.norm(state.x - problem.forward_backward(state.x, self.step_size)))


def _capped(x: Array) -> Array:
    return jnp.clip(2.0 * x, -1.0, 1.0)


def _rotated(x: Array) -> Array:
    return jnp.stack([x[1], -x[0]])


def _halpern_against_its_bound(problem: Inclusion, x0: Array, step_size: float, steps: int) -> Trace:
    """Residuals of x - Tx times (k + 1) / (2 R), for solutions at the origin."""
    trace = run(
        Halpern(step_size),
        problem,
        x0,
        steps=steps,
        record={"residual": _FixedPointResidual(step_size)},
        points=list(range(steps + 1)),
    )
    bound = 2.0 * float(jnp.linalg.norm(x0)) / (trace["step"] + 1.0)
    return Trace(trace.dataset.assign(ratio=trace["residual"] / bound), trace.state)


def _skeleton(budget: Budget, problem: Inclusion, x0: Array, step_size: float, steps: int) -> Finding:
    generator = np.random.default_rng(budget.seed)
    features, targets = (jnp.asarray(generator.standard_normal(shape)) for shape in ((50, 8), 50))
    field = GradientField(LeastSquares(features, targets))
    theory = VarianceReducedHalpern.theory(field)
    shared: dict[str, Any] = {"steps": 200, "key": budget.key, "record": ["objective"]}
    renewed = run(dataclasses.replace(theory, probability=1.0), field, jnp.ones(8), **shared)
    plain = run(Optax(anchored_gradient(float(theory.step_size))), field.problem, jnp.ones(8), **shared)
    trace = _halpern_against_its_bound(problem, x0, step_size, steps)
    ratio, last = trace["ratio"].values[0], float(jnp.linalg.norm(trace.x) / jnp.linalg.norm(x0))
    return Finding(
        [
            Check("largest ‖x_k − T x_k‖ (k + 1) / (2 R)", at_most(1.0 + 1e-12), Estimate.exact(ratio.max())),
            Check("the same at the last step", equal_to(1.0, relative=1e-10), Estimate.exact(ratio[-1])),
            Check(
                "distance of the last iterate from the solution, relative to R",
                equal_to(1.0 / (steps + 1.0), relative=1e-10),
                Estimate.exact(last),
            ),
            Check(
                "distance from anchored gradient steps with p_k = 1",
                at_most(1e-12),
                Estimate.exact(jnp.linalg.norm(renewed.x - plain.x)),
            ),
        ],
    )


@claim(
    statement=r"With an exact operator the methods are Halpern's: $p_k = 1$ gives plain anchored steps, and for "
    r"nonexpansive $T$ the bound $\|x_k - T x_k\| \le 2\|x_0-x^\star\|/(k+1)$ holds and is attained",
    source="Deterministic Halpern iteration (Lieder 2021, Theorem 2.1)",
    evidence="measured",
)
def exact_operators_give_the_tight_deterministic_rate(budget: Budget) -> Finding:
    """The worst case: T moves every point by a constant length, up to a reflection close to the solution."""
    steps = budget.pick(50, 500, 5_000)
    # With x_0 = (N + 1) / 2 the iterate reaches the corner of T exactly at step N.
    return _skeleton(budget, Operator(_capped), jnp.full(1, (steps + 1.0) / 2.0), 1.0, steps)


@exact_operators_give_the_tight_deterministic_rate.control
def an_expansive_map_breaks_the_deterministic_rate(budget: Budget) -> Finding:
    """A rotation field is monotone but not cocoercive: the forward step is expansive."""
    return _skeleton(budget, Operator(_rotated), jnp.ones(2), 1.0, budget.pick(50, 500, 5_000))


def _certificates(budget: Budget, *, honest: bool) -> Finding:
    """The worst margin of each property of (x, g), over both algorithms and some steps."""
    game, field = _game(budget, 20), _spread_rows(budget, 200, 20)
    memberships, naturals, gaps = [], [], []
    starts: list[tuple[Method[Any, Any], FiniteSumInclusion, Any]] = [
        (VarianceReducedHalpern.theory(field), field, _origin(field)),
        (ResolventHalpern.theory(game), game, game.uniform),
    ]
    for method, problem, x0 in starts:
        for steps in budget.pick((4,), (1, 4, 16), (1, 4, 16, 64)):
            trace = run(method, problem, x0, steps=steps, record={"residual": certified_residual}, key=budget.key)
            state = jax.tree.map(lambda leaf: leaf[0], trace.state)
            if not honest:
                claimed = optax.tree_utils.tree_scale(-0.5, problem.operator(state.x))
                state = dataclasses.replace(state, element=claimed)
            x, element, residual = certify(problem, state)
            back = problem.resolvent(optax.tree_utils.tree_add(x, element), 1.0)
            memberships.append(float(optax.tree_utils.tree_norm(jax.tree.map(jnp.subtract, back, x))))
            naturals.append(float(problem.stationarity(x) / residual))
            if isinstance(problem, MatrixGame):
                gaps.append(float(problem.duality_gap(x) / (2.0 * residual)))
    return Finding(
        [
            Check(
                "largest ‖x − (I + G)^{-1}(x + g)‖, zero if g ∈ G(x)", at_most(1e-10), Estimate.exact(max(memberships))
            ),
            Check("largest natural residual relative to ‖F(x) + g‖", at_most(1.0), _worst(naturals)),
            Check(
                "largest duality gap relative to ‖F(x) + g‖ times the diameter 2",
                at_most(1.0),
                Estimate.exact(max(gaps)),
            ),
        ]
    )


def _worst(values: list[float]) -> Estimate:
    return Estimate.exact(max(values))


@claim(
    statement=r"The residual is a computable exit criterion: $g \in G(x)$, and $\|F(x)+g\|$ bounds the natural "
    r"residual and, times the diameter, the gap of the variational inequality",
    source="Optimality measure (introduction) and remark on stopping",
    evidence="measured",
)
def the_residual_is_a_valid_exit_criterion(budget: Budget) -> Finding:
    """A box and a product of simplices, iterates of both algorithms."""
    return _certificates(budget, honest=True)


@the_residual_is_a_valid_exit_criterion.control
def a_made_up_element_is_found_out(budget: Budget) -> Finding:
    """g = -F(x)/2, which halves the residual, is not an element of the normal cone."""
    return _certificates(budget, honest=False)


def _cost_in_standard_errors(budget: Budget, probability: float | None) -> Finding:
    """Deviation of the mean number of components from n + sum of p_k n + 2 (1 - p_k) b."""
    problem, steps, seeds = _aligned_rows(budget, 400), 400, budget.pick(100, 400, 1_000)
    theory = VarianceReducedHalpern.theory(problem)
    method = dataclasses.replace(theory, probability=probability)
    trace = run(
        method, problem, _origin(problem), steps=steps, seeds=seeds, key=budget.key, record=["residual"], points=1
    )
    spent, expected = trace.final("gradients"), theory.expected_cost(problem, steps)
    error = float(spent.std(ddof=1)) / math.sqrt(seeds)
    return Finding(
        [
            Check(
                "mean number of components, in standard errors from its expectation",
                between(-3.0, 3.0),
                Estimate.exact((spent.mean() - expected) / error),
            )
        ],
        tables={
            "Components": pd.DataFrame(
                {"steps": [steps], "expected": [expected], "mean": [spent.mean()], "standard error": [error]}
            )
        },
    )


@claim(
    statement=r"A step of Algorithm 1 costs $p_k n + 2(1-p_k)b$ components on average, after $n$ for the first "
    r"estimate",
    source="Oracle complexity of Algorithm 1",
    evidence="measured",
)
def the_expected_cost_of_a_step_is_as_stated(budget: Budget) -> Finding:
    """Counted over many seeds."""
    return _cost_in_standard_errors(budget, None)


@the_expected_cost_of_a_step_is_as_stated.control
def twice_the_renewals_cost_more(budget: Budget) -> Finding:
    """A constant probability, twice what the schedule tends to."""
    return _cost_in_standard_errors(budget, 8.0 / (math.sqrt(400) + 5.0))


# --- Formal proofs ---------------------------------------------------------------------------------------------

_PROOFS = Development.read(Path(__file__).parent / "proofs" / "vr_halpern.v")


@claim(
    statement=r"With the exact operator the potential contracts by $1 - \lambda_k$ a step, and where it is not "
    r"positive, $\lVert r_k \rVert \le 16 L \lVert x_0 - x^\star \rVert/(k+4)$",
    source="The potential argument behind the bound of Algorithm 1",
    evidence="proved",
)
def the_lemmas_are_proved(budget: Budget) -> Finding:
    """Rocq accepts every statement, from no axioms but those of the real numbers."""
    return proved(_PROOFS)


@the_lemmas_are_proved.control
def a_false_variant_is_rejected(budget: Budget) -> Finding:
    """The constant 15 in place of 16, which the extreme case exceeds."""
    return proved(_PROOFS.falsified())


@the_lemmas_are_proved.control
def a_postulate_is_rejected(budget: Budget) -> Finding:
    """The false variant assumed as an axiom."""
    return proved(_PROOFS.postulated())
