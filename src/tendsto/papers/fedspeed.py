r"""Long local intervals without their bias: a proximal term with a correction, and gradients taken uphill.

A client's local steps are pulled towards the round's iterate, by $(x - x_t)/\lambda$, and corrected by $\hat g_i$, a
running average of its own gradients. At rest $\hat g_i = \nabla f_i(x)$ and their mean is zero, so the fixed points are
the stationary ones for any number $K$ of local steps; as $K \to \infty$ the method is Douglas-Rachford splitting.
Gradients at $x + \rho\nabla f_i(x)$ seek flat minima, and bias the limit by order $\rho$. With noisy gradients the mean
of $\lVert\nabla f\rVert^2$ over $T$ rounds is $O(1/T)$ if $K$ grows like $T$.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tendsto.evidence import Budget, Check, Estimate, Finding, Paper, at_most, between, claim
from tendsto.federated import (
    FedAvg,
    FederatedQuadratic,
    FedSpeed,
    Uniform,
    ascent_gradient,
    feddyn,
    fedprox,
    local_steps,
    random_quadratics,
)
from tendsto.federated.optimizers import GradientStep
from tendsto.iteration import Method, run

CARD = Paper(
    slug="fedspeed",
    title="FedSpeed: Larger Local Interval, Less Communication Round, and Higher Generalization Accuracy",
    authors=("Yan Sun", "Li Shen", "Tiansheng Huang", "Liang Ding", "Dacheng Tao"),
    arxiv="2302.10429",
    date=date(2023, 2, 20),
    field="federated",
    method=(
        "federated.FedSpeed",
        "federated.feddyn",
        "federated.fedprox",
        "federated.fedsam",
        "federated.ascent_gradient",
    ),
)

_DIMENSION = 4


def _quadratics(budget: Budget, **options: Any) -> FederatedQuadratic:
    return random_quadratics(budget.key, 10, _DIMENSION, shift=0.2, spread=3.0, **options)


def _iterate(problem: Any, state: Any) -> Array:
    del problem
    return jnp.asarray(state.x)


def _corrections(problem: Any, state: Any) -> Array:
    del problem
    return jnp.asarray(state.memory)


# --- no bias, whatever the local interval


def _unbiased(
    budget: Budget,
    build: Callable[[int], Method[Any, Any]],
    intervals: Sequence[int],
    grid: dict[str, list[float]] | None,
) -> Finding:
    """The distance from the minimiser after many rounds, by local interval and penalty."""
    rounds, rows = budget.pick(1000, 2000, 10_000), []
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for steps in intervals:
        trace = run(
            build(steps),
            _quadratics(budget),
            jnp.zeros(_DIMENSION),
            steps=rounds,
            key=budget.key,
            record="distance",
            points=range(rounds),
            grid=grid,
            progress=False,
        )
        by_penalty = trace["distance"].values.reshape(-1, rounds + 1)
        penalties = grid["penalty"] if grid else [math.nan]
        for penalty, distances in zip(penalties, by_penalty, strict=True):
            near = np.flatnonzero(distances < 1e-8)
            rows.append((steps, penalty, distances[-1], float(near[0]) if near.size else math.inf))
        axes.plot(np.maximum(by_penalty[len(by_penalty) // 2], 1e-16), label=f"K = {steps}")
    table = pd.DataFrame(rows, columns=["K", "penalty", "distance", "rounds to 1e-8"])
    axes.set(yscale="log", xlim=(0, 300), xlabel="rounds of communication", ylabel="distance from the minimiser")
    axes.legend()
    return Finding(
        [Check(f"‖x − x*‖ after {rounds} rounds, largest", at_most(1e-10), Estimate.exact(table["distance"].max()))],
        tables={"Distance by local interval": table},
        figures={"Distance by local interval": figure},
    )


@claim(
    statement=r"The correction takes away the bias of the proximal term: without a step uphill the limit is the "
    r"minimiser for every local interval $K$ and every penalty",
    source="Section 3, the prox-correction term",
    evidence="measured",
)
def any_local_interval_is_unbiased(budget: Budget) -> Finding:
    """Quadratics of 10 clients that differ, all of them in every round, K up to 100 and three penalties."""
    return _unbiased(budget, lambda steps: feddyn(0.05, 0.5, steps), (1, 5, 20, 100), {"penalty": [0.1, 0.5, 2.0]})


@any_local_interval_is_unbiased.control
def proximal_term_without_correction(budget: Budget) -> Finding:
    """The same for FedProx, K = 5 and 100."""
    return _unbiased(budget, lambda steps: fedprox(0.05, 0.5, steps), (5, 100), {"penalty": [0.1, 0.5, 2.0]})


@any_local_interval_is_unbiased.control
def federated_averaging(budget: Budget) -> Finding:
    """The same for federated averaging, K = 5 and 100."""
    return _unbiased(budget, lambda steps: FedAvg(GradientStep(0.05), steps), (5, 100), None)


# --- the identities of the correction


def _renewal(budget: Budget, factors: Callable[[float, int], NDArray[np.float64]]) -> Finding:
    """How far the corrections, and the iterate, are from their closed forms over 30 rounds, by weight of the ascent."""
    step_size, penalty, steps, rounds = 0.05, 0.5, 5, 30
    weights = jnp.asarray(factors(step_size / penalty, steps))
    problem = _quadratics(budget)
    quasi = {
        alpha: ascent_gradient(problem.client_stochastic_gradient, 0.1, normalise=False, weight=alpha)
        for alpha in (0.0, 0.5, 1.0)
    }

    def method_of(alpha: float) -> FedSpeed:
        return FedSpeed(
            GradientStep(step_size),
            steps,
            penalty=penalty,
            ascent_radius=0.1,
            ascent_weight=alpha,
            normalise_ascent=False,
        )

    def predicted(alpha: float) -> Callable[[Any, Any], Array]:
        def correction(problem: Any, state: Any) -> Array:
            """What the local steps of this round should make of the corrections."""

            def client(data: Any, row: Array) -> Array:
                method = method_of(alpha)
                gradient = method.direction(problem, state.x, row)
                path = [local_steps(method.local, gradient, data, state.x, budget.key, k) for k in range(steps)]
                taken = jnp.stack([quasi[alpha](data, y, budget.key) for y in path])
                return (1.0 - weights.sum()) * row + weights @ taken

            return jnp.asarray(problem.map(client, state.memory))

        return correction

    averages, updates = [], []
    for alpha in quasi:
        trace = run(
            method_of(alpha),
            problem,
            jnp.zeros(_DIMENSION),
            steps=rounds,
            record={"x": _iterate, "kept": _corrections, "predicted": predicted(alpha)},
            points=range(rounds),
            progress=False,
        )
        x, kept, next_kept = (trace[name].values[0] for name in ("x", "kept", "predicted"))
        averages.append(np.abs(kept[1:] - next_kept[:-1]).max())
        updates.append(np.abs(np.diff(x, axis=0) - penalty * (kept[:-1] - 2 * kept[1:]).mean(axis=1)).max())
    return Finding(
        [
            Check("|ĝ − its exponential average|, largest", at_most(1e-12), Estimate.exact(max(averages))),
            Check("|x − λ·mean(ĝ − 2ĝ⁺) − x⁺|, largest", at_most(1e-12), Estimate.exact(max(updates))),
        ],
        tables={"Distances": pd.DataFrame({"alpha": list(quasi), "average": averages, "update": updates})},
    )


def _exponential(ratio: float, steps: int) -> NDArray[np.float64]:
    return np.asarray(ratio * (1.0 - ratio) ** np.arange(steps)[::-1])


@claim(
    statement=r"$\hat g_i^t = (1-\gamma)\hat g_i^{t-1} + \sum_k \gamma_k q_k$ with $\gamma_k = \frac{\eta}{\lambda}"
    r"(1-\frac{\eta}{\lambda})^{K-1-k}$: an exponential average of quasi-gradients",
    source="The appendix's lemmas on the local update",
    evidence="measured",
)
def corrections_are_exponential_averages(budget: Budget) -> Finding:
    """Closed forms of correction and iterate in every round, for no, half and full weight of the gradient uphill."""
    return _renewal(budget, _exponential)


@corrections_are_exponential_averages.control
def plain_averages(budget: Budget) -> Finding:
    """The same with equal weights of the same sum."""
    return _renewal(budget, lambda ratio, steps: np.full(steps, _exponential(ratio, steps).sum() / steps))


# --- the limit of long intervals


def _against_splitting(budget: Budget, steps: int) -> Finding:
    """The distance of 15 iterates from those of Douglas-Rachford splitting."""
    rounds, penalty, problem = 15, 0.5, _quadratics(budget)
    trace = run(
        feddyn(0.02, penalty, steps),
        problem,
        jnp.zeros(_DIMENSION),
        steps=rounds,
        record={"x": _iterate},
        points=range(rounds),
        progress=False,
    )
    hessians, linear = np.asarray(problem.hessians), np.asarray(problem.linear)
    places, iterates = np.zeros_like(linear), []
    for _ in range(rounds):
        right = places / penalty + linear
        reflected = 2 * np.linalg.solve(hessians + np.eye(_DIMENSION) / penalty, right[..., None])[..., 0] - places
        iterates.append(reflected.mean(axis=0))
        places = places / 2 - reflected / 2 + reflected.mean(axis=0)
    apart = np.abs(trace["x"].values[0, 1:] - np.asarray(iterates)).max()
    return Finding([Check("largest distance of iterates", at_most(1e-10), Estimate.exact(apart))])


@claim(
    statement=r"As $K \to \infty$, without a step uphill and with all clients, the iterates are those of "
    r"Douglas-Rachford splitting for $\min \sum_i f_i(x_i)$ subject to $x_1 = \dots = x_n$",
    source="Algorithm 1 with exact proximal steps",
    evidence="measured",
)
def long_intervals_are_douglas_rachford(budget: Budget) -> Finding:
    """5000 local steps against the closed form of the proximal operators."""
    return _against_splitting(budget, 5000)


@long_intervals_are_douglas_rachford.control
def twenty_local_steps(budget: Budget) -> Finding:
    """The same with 20 local steps."""
    return _against_splitting(budget, 20)


# --- the bias of the step uphill

_RADII = [0.003, 0.01, 0.03, 0.1]


def _bias(budget: Budget, weight: float) -> Finding:
    """The limits for raw and normalised steps uphill, by radius, against the closed form for raw ones."""
    problem, rounds = _quadratics(budget), budget.pick(1500, 3000, 10_000)
    limits = []
    for normalise in (False, True):
        method = FedSpeed(GradientStep(0.05), 5, penalty=0.5, ascent_weight=weight, normalise_ascent=normalise)
        trace = run(
            method,
            problem,
            jnp.zeros(_DIMENSION),
            steps=rounds,
            points=1,
            grid={"ascent_radius": _RADII},
            progress=False,
        )
        limits.append(np.asarray(trace.x)[:, 0])
    hessians, linear, best = (np.asarray(each) for each in (problem.hessians, problem.linear, problem.minimiser))
    predicted = []
    for radius in _RADII:
        factors = np.eye(_DIMENSION) + radius * hessians
        predicted.append(np.linalg.solve((factors @ hessians).sum(axis=0), np.einsum("nij,nj->i", factors, linear)))
    distances = np.linalg.norm(np.asarray(limits) - best, axis=2)
    ends = [0, 2]
    slopes = [float(np.polyfit(np.log(np.asarray(_RADII)[ends]), np.log(row[ends]), 1)[0]) for row in distances]
    return Finding(
        [
            Check(
                "|limit − root of Σ Aᵢ(I + ρAᵢ)(x − bᵢ)|, raw, largest",
                at_most(1e-10),
                Estimate.exact(np.abs(limits[0] - np.asarray(predicted)).max()),
            ),
            Check("slope of the distance in ρ, raw", between(0.9, 1.1), Estimate.exact(slopes[0])),
            Check("slope of the distance in ρ, normalised", between(0.9, 1.1), Estimate.exact(slopes[1])),
        ],
        tables={"Distances": pd.DataFrame({"radius": _RADII, "raw": distances[0], "normalised": distances[1]})},
    )


@claim(
    statement=r"The step uphill leaves a bias that vanishes like its radius $\rho$: the limit solves "
    r"$\sum_i A_i (I + \rho A_i)(x - b_i) = 0$ for quadratics and raw steps",
    source="Theorem on the convergence of FedSpeed, the terms in ρ",
    evidence="measured",
)
def the_ascent_leaves_a_bias_of_its_radius(budget: Budget) -> Finding:
    """Quadratics with full participation, gradients taken uphill with weight one."""
    return _bias(budget, 1.0)


@the_ascent_leaves_a_bias_of_its_radius.control
def half_of_the_weight(budget: Budget) -> Finding:
    """The same with half of the weight on the gradient uphill, so with half of the radius in the equation."""
    return _bias(budget, 0.5)


# --- some clients in a round


def _partial(budget: Budget, correction: Any) -> Finding:
    """The distance from the minimiser at the end, by penalty, with 3 of 10 clients in a round."""
    rounds, penalties = budget.pick(3000, 4000, 20_000), [0.05, 0.1, 0.2, 0.5, 2.0]
    trace = run(
        FedSpeed(GradientStep(0.02), 20, ascent_radius=None, correction=correction),
        _quadratics(budget, participation=Uniform(3)),
        jnp.zeros(_DIMENSION),
        steps=rounds,
        seeds=budget.pick(2, 5, 20),
        key=budget.key,
        record="distance",
        points=100,
        spacing="linear",
        grid={"penalty": penalties},
        progress=False,
    )
    tails = trace["distance"].values[:, :, -25:].mean(axis=2)
    return Finding(
        [Check("‖x − x*‖ at the end, largest", at_most(1e-10), Estimate.exact(trace.final("distance").max()))],
        tables={"Mean distance over the last quarter": pd.DataFrame({"penalty": penalties, "mean": tails.mean(1)})},
    )


@claim(
    statement=r"With some of the clients in each round and a constant step size it tends to the minimiser, for every "
    r"penalty, if the corrections are averaged over all clients",
    source="Experiments with 10 % participation; the authors' simulator",
    evidence="measured",
)
def corrections_of_all_clients_converge(budget: Budget) -> Finding:
    """3 of 10 clients in a round, 20 local steps, five penalties."""
    return _partial(budget, "all")


@corrections_of_all_clients_converge.control
def corrections_of_the_round(budget: Budget) -> Finding:
    """The same with the corrections averaged over the clients of the round, as Algorithm 1 writes it."""
    return _partial(budget, "active")


# --- the rate


def _rate(budget: Budget, interval: Callable[[int], int]) -> Finding:
    """The slope in T of the mean of ‖∇f‖² over T rounds with noisy gradients, by local interval."""
    horizons: Sequence[int] = budget.pick((16, 128), (16, 32, 64, 128, 256), (16, 32, 64, 128, 256, 512))
    noise = 20.0 * math.sqrt(_DIMENSION)
    # With sixteen rows the clients are smooth enough for the step size of eight local steps.
    problem = _quadratics(budget, rows=16, noise=noise)
    means = []
    for horizon in horizons:
        steps = interval(horizon)
        trace = run(
            FedSpeed(
                GradientStep(1.5 / steps),
                steps,
                penalty=0.2,
                ascent_radius=0.05 / math.sqrt(horizon),
                normalise_ascent=False,
            ),
            problem,
            jnp.full(_DIMENSION, 5.0),
            steps=horizon,
            seeds=budget.pick(6, 10, 20),
            key=budget.key,
            record="squared_gradient",
            points=range(horizon),
            progress=False,
        )
        means.append(trace["squared_gradient"].values[:, :-1].mean(axis=1))
    values = np.stack(means, axis=1)
    slopes = [np.polyfit(np.log(horizons), np.log(row), 1)[0] for row in values]
    table = pd.DataFrame(
        {"T": horizons, "K": [interval(each) for each in horizons], "mean squared gradient": values.mean(axis=0)}
    )
    return Finding(
        [Check("slope of the mean ‖∇f‖² in T", at_most(-0.9), Estimate.mean(slopes))], tables={"Means": table}
    )


@claim(
    statement=r"$\frac1T\sum_{t<T}\mathbb E\lVert\nabla f(x_t)\rVert^2 = O(1/T)$ with $\eta_\ell = O(1/K)$, "
    r"$\rho = O(1/\sqrt T)$ and $K = O(T)$",
    source="Corollary of the convergence theorem",
    evidence="measured",
)
def intervals_as_long_as_the_run_give_one_over_t(budget: Budget) -> Finding:
    """Quadratics with gradient noise of deviation 20 in each coordinate, K = T."""
    return _rate(budget, lambda horizon: horizon)


@intervals_as_long_as_the_run_give_one_over_t.control
def eight_local_steps(budget: Budget) -> Finding:
    """The same with K = 8 whatever T."""
    return _rate(budget, lambda _: 8)
