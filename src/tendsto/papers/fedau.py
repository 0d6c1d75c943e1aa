r"""Federated averaging where clients take part with unequal chances that nobody knows.

Averaging the displacements of those who are there optimises the wrong objective: with weights $\omega_n$ and
participation rates $p_n$ it tends to a stationary point of $\sum_n \omega_n p_n F_n$ (Theorem 1), right only for
$\omega_n \propto 1/p_n$. FedAU weighs client $n$ by the mean number of rounds between its participations, each interval
cut off after $K$ rounds: an online estimate of $1/p_n$ that costs three numbers a client. Theorem 2 bounds the gradient
by the error $\mathbb E(p_n\omega_n - 1)^2$, whose variance falls like $1/T$ and whose bias is $(1 - p_n)^K$.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tendsto.evidence import Budget, Check, Estimate, Finding, Paper, at_least, at_most, between, claim, equal_to
from tendsto.federated import (
    MIFA,
    Bernoulli,
    Cyclic,
    Dirichlet,
    FedAU,
    FedAvg,
    FederatedAveraging,
    FederatedQuadratic,
    FedVARP,
    InverseProbability,
    Markov,
    Participation,
    ParticipationIntervals,
    accuracy_on,
    label_dependent_rates,
    linear,
    linear_parameters,
    split,
)
from tendsto.federated.optimizers import GradientStep
from tendsto.iteration import run
from tendsto.problems import dataset

CARD = Paper(
    slug="fedau",
    title="A Lightweight Method for Tackling Unknown Participation Statistics in Federated Averaging",
    authors=("Shiqiang Wang", "Mingyue Ji"),
    arxiv="2306.03401",
    date=date(2023, 6, 6),
    field="federated",
    method=(
        "federated.FedAU",
        "federated.ParticipationIntervals",
        "federated.InverseProbability",
        "federated.MIFA",
        "federated.FedVARP",
        "federated.label_dependent_rates",
    ),
)

_INFINITE = float("inf")


# ---- the estimate --------------------------------------------------------------------------------------------------


def _watch(
    process: Participation,
    clients: int,
    cutoffs: Sequence[float],
    rounds: int,
    budget: Budget,
    look: Callable[[Array, Array], Any],
) -> tuple[Array, Any]:
    """Weights after the last round, shape `(cutoffs, clients)`, and `look(here, weights)` of every round."""
    of_start, of_rounds = jax.random.split(budget.key)

    def advance(carry: Any, key: Array) -> tuple[Any, Any]:
        state, intervals = carry
        cohort, state = process.sample(state, clients, key)
        here = cohort.mask(clients)
        after = jax.vmap(lambda each, cutoff: each.after(here, cutoff))(intervals, jnp.asarray(cutoffs))
        return (state, after), look(here, intervals.mean)

    @jax.jit
    def play(keys: Array) -> tuple[Any, Any]:
        start = ParticipationIntervals.start(clients)
        several = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(cutoffs), clients)), start)
        return jax.lax.scan(advance, (process.init(clients, of_start), several), keys)

    (_, intervals), seen = play(jax.random.split(of_rounds, rounds))
    return intervals.mean, seen


def _nothing(here: Array, mean: Array) -> None:
    del here, mean


def _mean_of_intervals(history: NDArray[np.bool_], cutoff: float) -> NDArray[np.float64]:
    """For every round of one client, the mean of the intervals that ended before it."""
    weights: list[float] = []
    lengths: list[int] = []
    length = 0
    for here in history:
        weights.append(float(np.mean(lengths)) if lengths else 1.0)
        length += 1
        if here or length == cutoff:
            lengths.append(length)
            length = 0
    return np.asarray(weights)


def _recursion(budget: Budget, ahead: int) -> Finding:
    rates, cutoffs = (0.02, 0.1, 0.3, 0.9), (_INFINITE, 50.0, 10.0)
    rounds = budget.pick(1500, 3000, 10_000)
    _, (history, weights) = _watch(
        Bernoulli(jnp.asarray(rates)), len(rates), cutoffs, rounds, budget, lambda here, mean: (here, mean)
    )
    differences = [
        np.abs(_mean_of_intervals(np.asarray(column), cutoff)[: rounds - ahead] - np.asarray(found)[ahead:]).max()
        for cutoff, estimates in zip(cutoffs, weights.transpose(1, 2, 0), strict=True)
        for column, found in zip(history.T, estimates, strict=True)
    ]
    return Finding(
        [Check("recursion minus mean of intervals, largest", at_most(1e-12), Estimate.exact(max(differences)))]
    )


@claim(
    statement=r"The weight that three numbers a client keep online, $\omega \gets (M\omega + S)/(M + 1)$, is the mean "
    r"of all intervals between participations before the round, each cut off after $K$ rounds",
    source="Algorithm 2",
    evidence="measured",
)
def three_numbers_are_the_mean_of_all_intervals(budget: Budget) -> Finding:
    """Every round of histories with four rates and three cut-offs, against lists of intervals."""
    return _recursion(budget, 0)


@three_numbers_are_the_mean_of_all_intervals.control
def with_the_current_round(budget: Budget) -> Finding:
    """The same against weights that know already who takes part in the round."""
    return _recursion(budget, 1)


def _limits(budget: Budget, predict: Callable[[Array | NDArray[np.float64], float], Any], markov: Any) -> Finding:
    copies, rounds = budget.pick(150, 300, 600), budget.pick(20_000, 40_000, 100_000)
    rows = []
    for name, process, rates, cutoffs, law in (
        ("independent rounds", Bernoulli, (0.05, 0.1, 0.3), (3.0, 10.0, 50.0, _INFINITE), predict),
        ("Markov chain", Markov, (0.1, 0.3), (10.0, 50.0, _INFINITE), markov),
    ):
        everyone = jnp.repeat(jnp.asarray(rates), copies)
        weights, _ = _watch(process(everyone), everyone.size, cutoffs, rounds, budget, _nothing)
        found = np.asarray(weights * everyone).reshape(len(cutoffs), len(rates), copies)
        rows += [
            (name, rate, cutoff, float(law(np.asarray(rate), cutoff)), Estimate.mean(found[row, column]))
            for row, cutoff in enumerate(cutoffs)
            for column, rate in enumerate(rates)
        ]
    checks = [
        Check(f"p ω, {name}, p = {rate:g}, K = {cutoff:g}", equal_to(limit, relative=0.02), measured)
        for name, rate, cutoff, limit, measured in rows
    ]
    table = pd.DataFrame(
        [(name, rate, cutoff, limit, measured.value) for name, rate, cutoff, limit, measured in rows],
        columns=["process", "rate", "cut-off", "limit", "measured"],
    )
    return Finding(checks, tables={"Rate times weight": table}, figures={"What a cut-off leaves": _limit_figure(table)})


def _limit_figure(table: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    cutoffs = np.geomspace(1.0, 300.0, 200)
    for color, (process, law) in zip(
        ("tab:blue", "tab:orange"),
        {"independent rounds": _bernoulli_limit, "Markov chain": _markov_limit}.items(),
        strict=True,
    ):
        rows = table[table["process"] == process]
        for rate in rows["rate"].unique().tolist():
            group = rows[rows["rate"] == rate]
            axes.plot(cutoffs, law(np.asarray(rate), cutoffs), color=color, alpha=0.3 + 2 * rate)
            finite = group[np.isfinite(group["cut-off"])]
            label = f"{process}, $p = {rate:g}$"
            axes.plot(finite["cut-off"], finite["measured"], "o", color=color, alpha=0.3 + 2 * rate, label=label)
    axes.set(xscale="log", xlabel="cut-off $K$", ylabel=r"$p\,\omega$ (1: no bias)")
    axes.legend(fontsize="small")
    return figure


def _bernoulli_limit(rate: Any, cutoff: Any) -> Any:
    return 1.0 - (1.0 - rate) ** cutoff


def _markov_limit(rate: Any, cutoff: Any, wake_up: float = 0.05) -> Any:
    r"""$1/\mathbb E\lceil L/K\rceil$ of the interval $L$: 1 with probability $1 - b$, else $1 + \mathrm{Geom}(a)$."""
    asleep = 1.0 - wake_up
    return 1.0 / (1.0 + wake_up * (1.0 / rate - 1.0) * asleep ** (cutoff - 1.0) / (1.0 - asleep**cutoff))


@claim(
    statement=r"The mean interval tends to $1/p$ without a cut-off; cut off after $K$ rounds it leaves "
    r"$p\,\omega \to 1 - (1 - p)^K$ in independent rounds, and $1/\mathbb E\lceil L/K\rceil$ for any interval $L$",
    source="Theorem 3; the law for dependent rounds is our addition",
    evidence="measured",
)
def a_cutoff_leaves_the_stated_bias(budget: Budget) -> Finding:
    """Many independent clients at every rate and cut-off, in independent rounds and with Markov chains."""
    return _limits(budget, _bernoulli_limit, _markov_limit)


@a_cutoff_leaves_the_stated_bias.control
def as_if_nothing_were_cut(budget: Budget) -> Finding:
    """The same means against 1, the limit without a cut-off."""

    def one(rate: Any, cutoff: float) -> float:
        del rate, cutoff
        return 1.0

    return _limits(budget, one, one)


def _variance(budget: Budget, cutoff: float) -> Finding:
    rates, copies = (0.05, 0.2), budget.pick(8000, 32_000, 128_000)
    rounds = np.asarray((1600, 3200, 6400))
    everyone = jnp.repeat(jnp.asarray(rates), copies)

    def square(here: Array, mean: Array) -> Array:
        del here
        return (everyone * mean[0] - 1.0).reshape(len(rates), copies) ** 2

    chunks = 20

    def by_chunk(here: Array, mean: Array) -> Array:
        return square(here, mean).reshape(len(rates), chunks, -1).mean(axis=2)

    _, errors = _watch(Bernoulli(everyone), everyone.size, (cutoff,), int(rounds[-1]) + 1, budget, by_chunk)
    at = np.asarray(errors)[rounds]  # rounds, rates, chunks
    checks = []
    for place, rate in enumerate(rates):
        scaled = rounds[-1] * rate / (1 - rate) * at[-1, place]
        slopes = [np.polyfit(np.log(rounds), np.log(column), 1)[0] for column in at[:, place].T]
        checks += [
            Check(f"T E(pω − 1)² p/(1 − p), p = {rate:g}, T = {rounds[-1]}", between(0.9, 1.1), Estimate.mean(scaled)),
            Check(f"slope of E(pω − 1)² in T, p = {rate:g}", between(-1.1, -0.9), Estimate.mean(slopes)),
        ]
    return Finding(checks)


@claim(
    statement=r"The weights' error $\mathbb E(p_n\omega_n - 1)^2$ falls like $1/T$; without a cut-off "
    r"$T\,\mathbb E(p\,\omega - 1)^2 \to (1 - p)/p$",
    source="Theorem 3; the constant is our addition",
    evidence="measured",
)
def the_weights_error_falls_like_one_over_rounds(budget: Budget) -> Finding:
    """Thousands of independent clients at two rates, at three horizons."""
    return _variance(budget, _INFINITE)


@the_weights_error_falls_like_one_over_rounds.control
def with_a_short_cutoff(budget: Budget) -> Finding:
    """The same with intervals cut off after five rounds, whose bias does not fall."""
    return _variance(budget, 5.0)


# ---- where it converges to -----------------------------------------------------------------------------------------

_RATES = np.linspace(0.05, 0.9, 20)


def _bowls(budget: Budget, participation: Participation) -> FederatedQuadratic:
    """$F_n(x) = ½‖x - b_n‖²$ with minimisers that go along with the rates of participation."""
    noise = jax.random.normal(jax.random.fold_in(budget.key, 1), (20, 5))
    trend = 7.0 * jnp.asarray(_RATES - _RATES.mean())[:, None] * jnp.ones(5)
    return FederatedQuadratic(jnp.broadcast_to(jnp.eye(5), (20, 5, 5)), trend + noise, participation=participation)


def _weighted_mean(problem: FederatedQuadratic, weights: Any) -> NDArray[np.float64]:
    """The minimiser of $\\sum_n w_n F_n$."""
    return np.average(np.asarray(problem.linear), axis=0, weights=np.asarray(weights))


def _position(problem: FederatedQuadratic, state: Any) -> Array:
    del problem
    return jnp.asarray(state.x)


def _tail(
    method: FederatedAveraging, problem: FederatedQuadratic, budget: Budget, **options: Any
) -> NDArray[np.float64]:
    """The mean of the second half of the iterates, by seed (and by point of the grid), from the minimiser on."""
    rounds = budget.pick(20_000, 60_000, 200_000)
    points = range(rounds // 2, rounds, 25)
    seeds = budget.pick(3, 5, 10)
    trace = run(
        method,
        problem,
        jnp.zeros(5),
        steps=rounds,
        seeds=seeds,
        key=budget.key,
        record={"position": _position},
        points=points,
        **options,
    )
    return np.asarray(trace["position"].sel(step=list(points)).mean("step"))


def _farthest(tails: NDArray[np.float64], point: NDArray[np.float64]) -> Estimate:
    return Estimate.exact(np.linalg.norm(tails - point, axis=-1).max())


def _right_objective(budget: Budget, methods: Mapping[str, FederatedAveraging]) -> Finding:
    problem = _bowls(budget, Bernoulli(jnp.asarray(_RATES)))
    right, wrong = np.asarray(problem.minimiser), _weighted_mean(problem, _RATES)
    apart = float(np.linalg.norm(right - wrong))
    tails = {name: _tail(method, problem, budget) for name, method in methods.items()}
    checks = [
        Check(
            f"{name}: distance to the right minimiser over that of the wrong one",
            at_most(0.03),
            _over(each, right, apart),
        )
        for name, each in tails.items()
    ]
    table = pd.DataFrame(
        [(name, _farthest(each, right).value, _farthest(each, wrong).value) for name, each in tails.items()],
        columns=["method", "from the right minimiser", "from the wrong one"],
    )
    return Finding(checks, tables={f"Distances (of the minimisers: {apart:.3g})": table})


def _over(tails: NDArray[np.float64], point: NDArray[np.float64], unit: float) -> Estimate:
    return Estimate.exact(_farthest(tails, point).value / unit)


@claim(
    statement=r"With rates of participation that are unequal and unknown, FedAU tends to the minimiser of "
    r"$\frac1N\sum_n F_n$, as with known rates",
    source="Theorems 1 and 2",
    evidence="measured",
)
def fedau_minimises_the_right_objective(budget: Budget) -> Finding:
    """Twenty quadratics whose minimisers go along with the rates; means of the second half of the iterates."""
    return _right_objective(
        budget, {"FedAU": FedAU(GradientStep(0.05)), "known rates": InverseProbability(GradientStep(0.05))}
    )


@fedau_minimises_the_right_objective.control
def averages_of_those_who_are_there(budget: Budget) -> Finding:
    """The same distance for federated averaging over the clients of the round."""
    return _right_objective(budget, {"average of participants": FedAvg(GradientStep(0.05))})


def _wrong_objective(budget: Budget, method: FederatedAveraging) -> Finding:
    problem = _bowls(budget, Bernoulli(jnp.asarray(_RATES)))
    right, wrong = np.asarray(problem.minimiser), _weighted_mean(problem, _RATES)
    tails = _tail(method, problem, budget)
    apart = float(np.linalg.norm(right - wrong))
    nearest = np.linalg.norm(tails - right, axis=-1).min() / apart
    return Finding(
        [
            Check(
                "distance to the wrong minimiser, largest, over that of both", at_most(0.03), _over(tails, wrong, apart)
            ),
            Check("distance to the right minimiser, smallest, over the same", at_least(0.9), Estimate.exact(nearest)),
        ]
    )


@claim(
    statement=r"Federated averaging with equal weights tends to the minimiser of $\sum_n p_n F_n$ instead",
    source="Theorem 1",
    evidence="measured",
)
def equal_weights_minimise_the_wrong_objective(budget: Budget) -> Finding:
    """Averages over all clients, the absent as zeros, on the same quadratics."""
    return _wrong_objective(budget, InverseProbability(GradientStep(0.05), probability=jnp.asarray(1.0)))


@equal_weights_minimise_the_wrong_objective.control
def intervals_for_weights(budget: Budget) -> Finding:
    """The same distances for FedAU."""
    return _wrong_objective(budget, FedAU(GradientStep(0.05)))


def _cut_off(budget: Budget, limit: Callable[[Any, float], Any]) -> Finding:
    problem = _bowls(budget, Bernoulli(jnp.asarray(_RATES)))
    right = np.asarray(problem.minimiser)
    apart = float(np.linalg.norm(right - _weighted_mean(problem, _RATES)))
    cutoffs = (2.0, 5.0, 20.0)
    tails = _tail(FedAU(GradientStep(0.05)), problem, budget, grid={"cutoff": cutoffs})
    points = [_weighted_mean(problem, limit(_RATES, cutoff)) for cutoff in cutoffs]
    checks = [
        Check(
            f"distance to the predicted point, K = {cutoff:g}, over that of the minimisers",
            at_most(0.03),
            _over(each, point, apart),
        )
        for cutoff, each, point in zip(cutoffs, tails, points, strict=True)
    ]
    table = pd.DataFrame(
        [
            (cutoff, np.linalg.norm(point - right), _farthest(each, point).value, _farthest(each, right).value)
            for cutoff, each, point in zip(cutoffs, tails, points, strict=True)
        ],
        columns=["cut-off", "bias predicted", "from the predicted point", "from the minimiser"],
    )
    return Finding(checks, tables={"Distances": table})


@claim(
    statement=r"With a cut-off $K$ FedAU tends to the minimiser of $\sum_n (1 - (1 - p_n)^K) F_n$",
    source="Theorems 1 and 3",
    evidence="measured",
)
def a_cutoff_moves_the_minimiser_as_predicted(budget: Budget) -> Finding:
    """Three cut-offs on the same quadratics."""
    return _cut_off(budget, _bernoulli_limit)


@a_cutoff_moves_the_minimiser_as_predicted.control
def the_minimiser_itself(budget: Budget) -> Finding:
    """The same distances from the minimiser of the mean."""
    return _cut_off(budget, lambda rates, _: np.ones_like(rates))


def _dependent_rounds(budget: Budget, method: FederatedAveraging) -> Finding:
    rates = jnp.asarray(_RATES)
    checks = []
    for name, process in {"Markov": Markov(rates), "cyclic": Cyclic(rates)}.items():
        problem = _bowls(budget, process)
        right = np.asarray(problem.minimiser)
        apart = float(np.linalg.norm(right - _weighted_mean(problem, _RATES)))
        measured = _over(_tail(method, problem, budget), right, apart)
        checks.append(
            Check(f"{name}: distance to the right minimiser over that of the wrong one", at_most(0.05), measured)
        )
    return Finding(checks)


@claim(
    statement=r"FedAU finds the right minimiser also where participation is a Markov chain or cyclic",
    source="Section 6, participation patterns",
    evidence="measured",
)
def fedau_bears_dependent_rounds(budget: Budget) -> Finding:
    """The same quadratics with a step size of 0.005, small against the length of bursts."""
    return _dependent_rounds(budget, FedAU(GradientStep(0.005)))


@fedau_bears_dependent_rounds.control
def participants_in_bursts(budget: Budget) -> Finding:
    """The same distances for federated averaging over the clients of the round."""
    return _dependent_rounds(budget, FedAvg(GradientStep(0.005)))


# ---- images --------------------------------------------------------------------------------------------------------


def _images(budget: Budget, challenger: FederatedAveraging, more: Mapping[str, FederatedAveraging]) -> Finding:
    """Test accuracy on digits, averaged over the last tenth of the rounds, by seed."""
    images, labels = dataset("digits", intercept=False)
    order = np.asarray(jax.random.permutation(budget.key, len(labels)))
    images, labels = np.asarray(images)[order], np.asarray(labels)[order]
    clients = split((images[:1400], labels[:1400]), budget.pick(20, 50, 50), Dirichlet(0.1), seed=budget.seed)
    rates = label_dependent_rates(clients, budget.key)
    problem = clients.problem(linear, batch=budget.pick(8, 16, 16), participation=Bernoulli(rates))
    rounds, seeds = budget.pick(300, 2000, 10_000), budget.pick(2, 4, 5)
    points = range(rounds - rounds // 10, rounds, max(1, rounds // 200))
    record = {"accuracy": accuracy_on((images[1400:], labels[1400:]))}

    def accuracy(method: FederatedAveraging) -> NDArray[np.float64]:
        trace = run(
            method,
            problem,
            linear_parameters(images.shape[1], 10),
            steps=rounds,
            seeds=seeds,
            key=budget.key,
            record=record,
            points=points,
        )
        return np.asarray(trace["accuracy"].sel(step=list(points)).mean("step"))

    plain = FedAvg(GradientStep(0.2), steps=5)
    found = {name: accuracy(method) for name, method in {"challenger": challenger, "plain": plain, **more}.items()}
    table = pd.DataFrame(
        {name: (values.mean(), values.std(ddof=1)) for name, values in found.items()}, index=["mean", "deviation"]
    )
    least = (found["challenger"] - found["plain"]).min()
    return Finding(
        [
            Check(
                "accuracy above the average of participants, smallest of all seeds",
                at_least(0.0),
                Estimate.exact(least),
            )
        ],
        tables={"Accuracy": table.reset_index()},
    )


@claim(
    statement=r"On images held by label, with rates that depend on the labels, FedAU classifies better than the "
    r"average of participants",
    source="Section 6, Table 1",
    evidence="measured",
)
def fedau_classifies_better(budget: Budget) -> Finding:
    """Handwritten digits and a linear model; at larger budgets beside every rival."""
    rivals: dict[str, FederatedAveraging] = {
        "average of all, server 10": InverseProbability(
            GradientStep(0.2), steps=5, server=GradientStep(10.0), probability=jnp.asarray(1.0)
        ),
        "known rates": InverseProbability(GradientStep(0.2), steps=5),
        "FedVARP": FedVARP(GradientStep(0.2), steps=5),
        "MIFA": MIFA(GradientStep(0.2), steps=5),
    }
    return _images(budget, FedAU(GradientStep(0.2), steps=5, cutoff=50), {} if budget.name == "quick" else rivals)


@fedau_classifies_better.control
def with_a_cutoff_of_one_round(budget: Budget) -> Finding:
    """The same comparison with intervals cut off after one round: all weights are 1; the server's step is ten times."""
    return _images(budget, FedAU(GradientStep(0.2), steps=5, server=GradientStep(10.0), cutoff=1), {})
