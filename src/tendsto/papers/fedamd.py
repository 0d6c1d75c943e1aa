r"""Anchors and miners: variance-reduced federated learning in which few of many clients take part in a round.

Each participant is an anchor with probability $p$, who renews a stored large-batch gradient, or else a miner, who makes
local steps that start from the mean of all stored gradients and correct it by differences on small batches. Only miners
move the iterate. For smooth functions that need not be convex, $\mathbb E\lVert\nabla F\rVert^2 \le \epsilon$ takes
$O(M/(A\epsilon))$ rounds with $A$ of $M$ clients in each, where federated averaging takes $O(1/\epsilon^2)$; under the
Polyak-Łojasiewicz condition the convergence is linear. The bound is smallest at a probability that depends on $A$ and
$M$ alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tendsto.evidence import Budget, Check, Estimate, Finding, Paper, at_least, at_most, between, claim, equal_to
from tendsto.federated import (
    BVRLSGD,
    SCAFFOLD,
    ByLabel,
    ConstantAnchors,
    FedAMD,
    FedAvg,
    FederatedQuadratic,
    FedPAGE,
    Learning,
    Uniform,
    anchor_rounds,
    optimal_anchor_probability,
    random_quadratics,
    split,
)
from tendsto.federated.optimizers import GradientStep
from tendsto.iteration import Method, Trace, fit_power_law, run
from tendsto.problems import dataset

CARD = Paper(
    slug="fedamd",
    title="Anchor Sampling for Federated Learning with Partial Client Participation",
    authors=("Feijie Wu", "Song Guo", "Zhihao Qu", "Shiqi He", "Ziming Liu", "Jing Gao"),
    arxiv="2206.05891",
    date=date(2022, 6, 12),
    field="federated",
    method=(
        "federated.FedAMD",
        "federated.PeriodicAnchors",
        "federated.optimal_anchor_probability",
        "federated.anchor_rounds",
        "federated.FedPAGE",
        "federated.BVRLSGD",
        "federated.SCAFFOLD",
    ),
)

_CLIENTS, _COHORT, _STEPS, _LOCAL = 50, 10, 5, 0.02


def _quadratics(budget: Budget) -> FederatedQuadratic:
    return random_quadratics(budget.key, _CLIENTS, 8, shift=0.3, spread=3.0, participation=Uniform(_COHORT))


def _best() -> float:
    return optimal_anchor_probability(_CLIENTS, _COHORT)


def _iterate(problem: Any, state: Any) -> Array:
    del problem
    return jnp.asarray(state.x)


# --- linear convergence


def _straightness(distances: NDArray[np.float64]) -> list[float]:
    """By seed: decades lost in the second half over decades lost in the first, of what is above rounding."""
    ratios = []
    for row in distances:
        above = np.flatnonzero(row > 1e-12 * row[0])
        end = int(above[-1]) if above.size else 0
        logs = np.log(row[[0, end // 2, 2 * (end // 2)]])
        ratios.append(float((logs[1] - logs[2]) / max(logs[0] - logs[1], 1e-300)))
    return ratios


def _linear(budget: Budget, method: Method[Any, Any]) -> tuple[list[Check], Trace]:
    rounds = 400
    trace = run(
        method,
        _quadratics(budget),
        jnp.zeros(8),
        steps=rounds,
        seeds=budget.pick(4, 20, 100),
        key=budget.key,
        record="distance",
        points=range(0, rounds, 2),
        progress=False,
    )
    distances = trace["distance"].values
    checks = [
        Check("‖x − x*‖ after 400 rounds, largest", at_most(1e-10), Estimate.exact(trace.final("distance").max())),
        Check("decades in the second half over the first", between(0.5, 1.5), Estimate.mean(_straightness(distances))),
    ]
    return checks, trace


@claim(
    statement=r"With a constant step size, some of the clients in each round and clients that differ, FedAMD converges "
    r"linearly where the Polyak-Łojasiewicz condition holds",
    source="Abstract and the theorem for constant probability under the Polyak-Łojasiewicz condition",
    evidence="measured",
)
def linear_convergence_with_few_clients(budget: Budget) -> Finding:
    """Strongly convex quadratics of 50 clients, 10 in each round, 5 local steps; rivals with the same steps."""
    checks, trace = _linear(budget, FedAMD(GradientStep(_LOCAL), ConstantAnchors(_best()), _STEPS))
    rivals = {
        "FedAMD": trace,
        "SCAFFOLD": _linear(budget, SCAFFOLD(GradientStep(_LOCAL), _STEPS))[1],
        "FedAvg": _linear(budget, FedAvg(GradientStep(_LOCAL), _STEPS))[1],
    }
    if budget.name != "quick":
        rivals["FedPAGE"] = _linear(budget, FedPAGE(GradientStep(_LOCAL), 0.2, _STEPS))[1]
        rivals["BVR-L-SGD"] = _linear(budget, BVRLSGD(GradientStep(_LOCAL), _STEPS))[1]
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name, each in rivals.items():
        each.plot("distance", against="rounds", ax=axes, label=name)
    axes.set(xscale="linear", xlabel="rounds of communication", ylabel="distance from the minimiser")
    axes.legend()
    table = pd.DataFrame(
        {
            "method": list(rivals),
            "rounds": [each.final("rounds").mean() for each in rivals.values()],
            "distance": [each.final("distance").mean() for each in rivals.values()],
            "gradients": [each.final("gradients").mean() for each in rivals.values()],
            "bits up": [each.final("bits_up").mean() for each in rivals.values()],
        }
    )
    return Finding(checks, tables={"After 400 steps": table}, figures={"Distance against rounds": figure})


@linear_convergence_with_few_clients.control
def federated_averaging(budget: Budget) -> Finding:
    """The same for federated averaging with the same step size and local steps."""
    return Finding(_linear(budget, FedAvg(GradientStep(_LOCAL), _STEPS))[0])


# --- the probability of anchors


def _rates(budget: Budget, probabilities: Sequence[float]) -> NDArray[np.float64]:
    """By probability and seed: minus the slope of log ‖x - x*‖ in rounds, over what is above rounding."""
    rounds = 400
    trace = run(
        FedAMD(GradientStep(_LOCAL), ConstantAnchors(0.5), _STEPS),
        _quadratics(budget),
        jnp.zeros(8),
        steps=rounds,
        seeds=budget.pick(6, 30, 100),
        key=budget.key,
        record="distance",
        points=range(0, rounds, 4),
        grid={"anchors.probability": list(probabilities)},
        progress=False,
    )
    places, distances = trace["step"].values, trace["distance"].values
    slopes = [
        [np.polyfit(places[above], np.log(row[above]), 1)[0] for row in rows for above in [row > 1e-12 * row[0]]]
        for rows in distances
    ]
    return -np.asarray(slopes)


def _predicted_speedup() -> float:
    return anchor_rounds(0.2, _CLIENTS, _COHORT) / anchor_rounds(_best(), _CLIENTS, _COHORT)


def _speedup(rates: NDArray[np.float64], slow: NDArray[np.float64]) -> Check:
    quantity = "rate at the probability over the rate at 0.2; at least the ratio of the bounds"
    return Check(quantity, at_least(_predicted_speedup()), Estimate.mean(rates / slow))


@claim(
    statement=r"Rounds are proportional to $\phi(p) = \frac{1}{1 - p^A} + \frac{2M}{A p \sqrt{1 - p^A}}$, so that the "
    r"$p$ which minimises it is fast: at least $\phi(0.2)/\phi(p^\star)$ times as fast as $p = 0.2$",
    source="Theorem for constant probability, with the authors' rule for p",
    evidence="measured",
)
def the_optimal_probability_is_fast(budget: Budget) -> Finding:
    """The linear rate over probabilities, at the same step size for all."""
    probabilities = [0.2, 0.5, _best(), 0.95]
    rates = _rates(budget, probabilities)
    table = pd.DataFrame(
        {
            "p": probabilities,
            "nats a round": rates.mean(axis=1),
            "bound, φ(p)": [anchor_rounds(each, _CLIENTS, _COHORT) for each in probabilities],
        }
    )
    return Finding([_speedup(rates[2], rates[0])], tables={"Rates by probability": table})


@the_optimal_probability_is_fast.control
def anchors_alone(budget: Budget) -> Finding:
    """The same ratio for p = 1, where there are no miners."""
    slow, alone = _rates(budget, [0.2, 1.0])
    return Finding([_speedup(alone, slow)])


@the_optimal_probability_is_fast.control
def miners_alone(budget: Budget) -> Finding:
    """The same ratio for p = 0, where the first gradients are never renewed."""
    slow, alone = _rates(budget, [0.2, 0.0])
    return Finding([_speedup(alone, slow)])


def _optimality(probability: Mapping[tuple[int, int], float]) -> Finding:
    """How far a probability for each M and A is from a minimum of the bound."""
    rows = []
    for (clients, cohort), p in probability.items():
        exact = optimal_anchor_probability(clients, cohort)
        least = anchor_rounds(exact, clients, cohort)
        # d/dp of p^2 (1 - p^A), over its first term: zero where the second term of the bound is least.
        slope = 1.0 - (cohort + 2.0) / 2.0 * p**cohort
        # Where the second term is least, the bound exceeds its minimum by less than the first term.
        excess = (anchor_rounds(p, clients, cohort) - least) * (1.0 - p**cohort)
        rows.append((clients, cohort, exact, p, least, excess, slope))
    table = pd.DataFrame(rows, columns=["M", "A", "exact", "rule", "least bound", "excess / first term", "slope"])
    # At M = 1000 A the first term of the bound is below a thousandth of the second.
    crowded = table[table["M"] >= 1000 * table["A"]]
    gap = (crowded["exact"] - crowded["rule"]).abs().max()
    return Finding(
        [
            Check(
                "slope of p²(1 − p^A) at the rule, largest", at_most(1e-12), Estimate.exact(table["slope"].abs().max())
            ),
            Check("|exact − rule| where M = 1000 A, largest", at_most(1e-3), Estimate.exact(gap)),
            Check(
                "excess of the bound over its minimum / its first term, largest",
                at_most(1.0),
                Estimate.exact(table["excess / first term"].max()),
            ),
        ],
        tables={"Probabilities": table},
    )


_SIZES = [(ratio * cohort, cohort) for cohort in (1, 5, 10, 20, 50) for ratio in (2, 5, 10, 1000)]


@claim(
    statement=r"$p = (2/(A+2))^{1/A}$ minimises the bound up to its lower-order term: $p^A = 2/(A+2)$",
    source="The authors' rules for p",
    evidence="measured",
)
def the_closed_form_minimises_the_bound(budget: Budget) -> Finding:
    """The closed form against the minimiser found numerically, over sizes of cohorts and federations."""
    del budget
    return _optimality({size: optimal_anchor_probability(*size, "asymptotic") for size in _SIZES})


@the_closed_form_minimises_the_bound.control
def the_square_root_rule(budget: Budget) -> Finding:
    r"""The same for the authors' other rule, $p = \sqrt{4r^2 + 2r} - 2r$ with $r = M/A$."""
    del budget
    ratios = {size: size[0] / size[1] for size in _SIZES}
    return _optimality({size: float(np.sqrt(4 * r * r + 2 * r) - 2 * r) for size, r in ratios.items()})


# --- what the batches do


def _predict(x: Float[Array, " d"], features: Float[Array, "batch d"]) -> Float[Array, " batch"]:
    return features @ x


def _half_square(predictions: Array, targets: Array) -> Array:
    return 0.5 * (predictions - targets) ** 2


def _regression(budget: Budget, batch: int) -> tuple[Learning, Array]:
    """Linear regression of 20 clients whose true parameters differ, and the minimiser."""
    generator = np.random.default_rng(budget.seed)
    features = generator.normal(size=(20, 64, 5))
    truths = generator.normal(size=(20, 5))
    targets = np.einsum("nmd,nd->nm", features, truths) + 0.5 * generator.normal(size=(20, 64))
    flat: Any = (features.reshape(-1, 5), targets.reshape(-1))
    labels = np.repeat(np.arange(20), 64).tolist()
    clients = split(flat, 20, ByLabel(1), labels=labels)
    problem = clients.problem(_predict, _half_square, batch=batch, participation=Uniform(5))
    return problem, jnp.asarray(np.linalg.lstsq(flat[0], flat[1], rcond=None)[0])


def _one_step_difference(budget: Budget, steps: int) -> Finding:
    """How far runs with small batches of 1 and of 16 are apart over 100 rounds."""
    runs = [
        run(
            FedAMD(GradientStep(0.05), ConstantAnchors(0.7), steps),
            _regression(budget, batch)[0],
            jnp.zeros(5),
            steps=100,
            seeds=4,
            key=budget.key,
            record={"x": _iterate},
            points=range(100),
            progress=False,
        )["x"].values
        for batch in (1, 16)
    ]
    apart = np.abs(runs[0] - runs[1]).max()
    return Finding([Check("largest difference of iterates", equal_to(0.0), Estimate.exact(apart))])


@claim(
    statement=r"With one local step ($K = 1$) every miner returns $\eta_\ell v_t$: the stale averaged gradient method, "
    r"whatever the small batches",
    source="Algorithm 1 with K = 1",
    evidence="measured",
)
def one_local_step_ignores_small_batches(budget: Budget) -> Finding:
    """Iterates of runs with small batches of 1 and of 16, to the last bit."""
    return _one_step_difference(budget, 1)


@one_local_step_ignores_small_batches.control
def two_local_steps(budget: Budget) -> Finding:
    """The same with two local steps, the second of which uses the small batch."""
    return _one_step_difference(budget, 2)


def _floor(budget: Budget, method: Method[Any, Any], batch: int, longer: int = 1) -> float:
    """The mean of ‖x - x*‖² over the last third of a run, over seeds."""
    problem, minimiser = _regression(budget, batch)
    rounds = longer * budget.pick(400, 2000, 10_000)

    def squared(problem: Any, state: Any) -> Array:
        del problem
        return jnp.sum((state.x - minimiser) ** 2)

    trace = run(
        method,
        problem,
        jnp.zeros(5),
        steps=rounds,
        seeds=budget.pick(6, 10, 20),
        key=budget.key,
        record={"squared": squared},
        points=200,
        spacing="linear",
        progress=False,
    )
    return float(trace["squared"].values[:, -67:].mean())


def _floors(batches: Sequence[int], floors: Sequence[float], exact: float) -> Finding:
    slope = float(np.polyfit(np.log(batches), np.log(floors), 1)[0])
    return Finding(
        [
            Check("‖x − x*‖² with exact anchors, small batches of 4", at_most(1e-20), Estimate.exact(exact)),
            Check("slope of the floor in the anchors' batch", between(-1.25, -0.75), Estimate.exact(slope)),
        ],
        tables={"Floors": pd.DataFrame({"batch": [*batches, np.inf], "mean ‖x − x*‖²": [*floors, exact]})},
    )


@claim(
    statement=r"The floor is that of the anchors' batch, of order $\sigma^2/b$; small batches of miners add none",
    source="Theorem for constant probability, the term in the variance of the large batch",
    evidence="measured",
)
def the_anchors_batch_sets_the_floor(budget: Budget) -> Finding:
    """Linear regression: small batches of 4, anchors of 4, 16 and 64 drawn with replacement, and exact ones."""
    method = FedAMD(GradientStep(0.05), ConstantAnchors(0.8), 5)
    floors = [_floor(budget, dataclasses.replace(method, anchor_batches=count), 4) for count in (1, 4, 16)]
    return _floors([4, 16, 64], floors, _floor(budget, method, 4, longer=2))


@the_anchors_batch_sets_the_floor.control
def federated_averaging_has_the_floor_of_small_batches(budget: Budget) -> Finding:
    """The same for federated averaging on batches of 4 and 64, the latter standing for exact ones too."""
    floors = [_floor(budget, FedAvg(GradientStep(0.05), 5), batch) for batch in (4, 64)]
    return _floors([4, 64], floors, floors[-1])


# --- rates without convexity


def _classify(budget: Budget) -> Learning:
    """Small digits against large ones by a logistic loss with a penalty that is not convex, two digits a client."""
    images, labels = dataset("digits", intercept=True)
    signs: Any = (images, np.where(labels >= 5, 1.0, -1.0))
    clients = split(signs, 20, ByLabel(2), labels=labels.tolist(), seed=budget.seed)
    return clients.problem(_predict, _logistic, batch=16, penalty=_penalty, participation=Uniform(4))


def _logistic(predictions: Array, targets: Array) -> Array:
    return jax.nn.softplus(-predictions * targets)


def _penalty(x: Array) -> Float[Array, ""]:
    return 0.1 * jnp.sum(x**2 / (1.0 + x**2))


def _exponent(budget: Budget, method: Method[Any, Any]) -> tuple[Check, Trace]:
    rounds, problem = budget.pick(400, 4000, 40_000), _classify(budget)
    trace = run(
        method,
        problem,
        jnp.zeros(problem.samples.features.shape[-1]),
        steps=rounds,
        seeds=budget.pick(4, 8, 20),
        key=budget.key,
        record="squared_gradient",
        points=100,
        progress=False,
    )
    least = np.minimum.accumulate(trace["squared_gradient"].values, axis=1)
    rate = fit_power_law(trace["step"].values, least)
    quantity = "exponent a of min ‖∇F‖² ~ t^−a"
    return Check(quantity, at_least(0.9), Estimate(-rate.value, -rate.high, -rate.low, rate.method)), trace


@claim(
    statement=r"Without convexity $\min_{s \le t}\lVert\nabla F(x_s)\rVert^2$ falls at least like $1/t$: "
    r"$O(M/(A\epsilon))$ rounds, where federated averaging needs $O(1/\epsilon^2)$",
    source="Abstract and the theorem for constant probability",
    evidence="measured",
)
def gradients_fall_like_one_over_t(budget: Budget) -> Finding:
    """Handwritten digits, two a client, with a penalty that is not convex; 4 of 20 clients in a round."""
    best = ConstantAnchors(optimal_anchor_probability(20, 4))
    check, trace = _exponent(budget, FedAMD(GradientStep(0.05), best, 5))
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    trace.plot("squared_gradient", ax=axes, label="FedAMD")
    _exponent(budget, FedAvg(GradientStep(0.05), 5))[1].plot("squared_gradient", ax=axes, label="FedAvg")
    axes.set(xlabel="rounds", ylabel="‖∇F‖²")
    axes.legend()
    return Finding([check], figures={"Squared gradient against rounds": figure})


@gradients_fall_like_one_over_t.control
def federated_averaging_levels_off(budget: Budget) -> Finding:
    """The same exponent for federated averaging with the same step size and batches."""
    return Finding([_exponent(budget, FedAvg(GradientStep(0.05), 5))[0]])
