r"""Federated averaging with clients of unequal speed, and a server that steps at fixed times.

An asynchronous server adds to its current model what a client moved from the older model that it had received. Client
$i$ then counts in proportion to how often it contributes: with equal weights the server minimises a surrogate in which
fast clients count more, with weights inversely proportional to the frequencies of contribution the federated loss
itself. FedFix steps at fixed intervals $\Delta t$ with all who have answered, and lies between FedAvg
($\Delta t \ge \max_i \tau_i$) and asynchronous FedAvg ($\Delta t \to 0$): nothing is thrown away, nobody waits for the
slowest, and one step adds the work of many clients, which makes it steadier than steps for single answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tendsto.evidence import Budget, Check, Estimate, Finding, Paper, at_least, at_most, claim, equal_to
from tendsto.federated import (
    AsynchronousFedAvg,
    Dirichlet,
    FedAvg,
    FederatedQuadratic,
    Network,
    RecordedTimes,
    Schedule,
    linear,
    linear_parameters,
    random_quadratics,
    split,
)
from tendsto.federated.optimizers import GradientStep
from tendsto.federated.schedules import Weighting
from tendsto.iteration import Trace, run
from tendsto.problems import dataset

CARD = Paper(
    slug="fedfix",
    title="A General Theory for Federated Optimization with Asynchronous and Heterogeneous Clients Updates",
    authors=("Yann Fraboni", "Richard Vidal", "Laetitia Kameni", "Marco Lorenzi"),
    arxiv="2206.10189",
    date=date(2022, 6, 21),
    field="federated",
    method=(
        "federated.AsynchronousFedAvg",
        "federated.Schedule",
        "federated.RecordedTimes",
        "federated.ExponentialTimes",
    ),
)

_CLIENTS = 10
# The slowest client needs one second, the fastest a fifth of it: the paper's scenario F-80.
_SECONDS = np.linspace(1.0, 0.2, _CLIENTS)
_INTERVALS = (0.2, 0.5, 0.8)


def _position(problem: Any, state: Any) -> Array:
    del problem
    return jnp.asarray(state.x[0])


def _lines(centres: Any) -> FederatedQuadratic:
    """$½(x - c_i)²$."""
    return FederatedQuadratic(jnp.ones((len(centres), 1, 1)), jnp.asarray(centres, float)[:, None])


def _centres(budget: Budget) -> NDArray[np.float64]:
    """Faster clients lie to the right, as in $c_i = i$, each displaced at random."""
    return np.arange(_CLIENTS) + np.random.default_rng(budget.seed).uniform(-0.5, 0.5, _CLIENTS)


def _schedules(steps: int) -> dict[str, Schedule]:
    times = RecordedTimes(_SECONDS)
    rate = float((1.0 / _SECONDS).sum())
    found = {"asynchronous": Schedule.asynchronous(times, 2.0 * steps / rate)}
    for interval in _INTERVALS:
        found[f"Δt = {interval:g}"] = Schedule.fixed_interval(times, interval, interval * steps)
    return found


def _limit(schedule: Schedule, weighting: Weighting, centres: NDArray[np.float64]) -> float:
    """The mean of the second half of the iterates, with steps so small that they hardly move any more."""
    steps = len(schedule)
    trace = run(
        AsynchronousFedAvg(schedule, GradientStep(0.01), weighting=weighting),
        _lines(centres),
        jnp.zeros(1),
        steps=steps,
        record={"position": _position},
        points=range(steps // 2, steps),
    )
    return float(trace["position"].sel(step=slice(steps // 2, steps - 1)).mean())


# ---- which function is minimised -----------------------------------------------------------------------------------


def _surrogate(name: str) -> NDArray[np.float64]:
    """The weights of the surrogate by the paper's formula: rates of contribution."""
    if name == "asynchronous":
        frequencies = 1.0 / _SECONDS
    else:
        interval = float(name.removeprefix("Δt = "))
        frequencies = 1.0 / np.ceil(np.round(_SECONDS / interval, 9))
    return np.asarray(frequencies / frequencies.sum())


def _minimisers(
    budget: Budget, weighting: Weighting, predict: Callable[[str], NDArray[np.float64]], tolerance: float
) -> Finding:
    centres = _centres(budget)
    rows = [
        (name, float(predict(name) @ centres), _limit(schedule, weighting, centres))
        for name, schedule in _schedules(budget.pick(2000, 4000, 20_000)).items()
    ]
    checks = [
        Check(f"mean iterate, {name}", equal_to(predicted, absolute=tolerance), Estimate.exact(measured))
        for name, predicted, measured in rows
    ]
    table = pd.DataFrame(rows, columns=["schedule", "predicted", "measured"])
    return Finding(checks, tables={f"Limits (federated optimum {centres.mean():.4f})": table})


def _alike(name: str) -> NDArray[np.float64]:
    del name
    return np.full(_CLIENTS, 1.0 / _CLIENTS)


@claim(
    statement=r"With identical weights the server minimises a surrogate in which client $i$ counts $1/\tau_i$ "
    r"(asynchronous FedAvg) or $1/\lceil\tau_i/\Delta t\rceil$ (FedFix)",
    source="Section 4",
    evidence="measured",
)
def identical_weights_minimise_a_surrogate(budget: Budget) -> Finding:
    """Ten quadratics on a line; faster clients lie to the right."""
    return _minimisers(budget, "identical", _surrogate, 0.01)


@identical_weights_minimise_a_surrogate.control
def against_the_federated_optimum(budget: Budget) -> Finding:
    """The same limits against the optimum of the mean."""
    return _minimisers(budget, "identical", _alike, 0.01)


@claim(
    statement=r"With $d_i = \tau_i p_i \sum_j \tau_j^{-1}$ (asynchronous FedAvg) or "
    r"$d_i = \lceil\tau_i/\Delta t\rceil p_i$ (FedFix) the server minimises the federated loss",
    source="Section 4",
    evidence="measured",
)
def weights_by_importance_minimise_the_federated_loss(budget: Budget) -> Finding:
    """The same quadratics with these weights, and the surrogate's weights that the schedule itself counts."""
    finding = _minimisers(budget, "importance", _alike, 0.02)
    biases = [schedule.bias(_alike("")) for schedule in _schedules(2000).values()]
    return Finding(
        [*finding.checks, Check("‖q̃ − p‖₁, largest", at_most(0.01), Estimate.exact(max(biases)))],
        tables=finding.tables,
    )


@weights_by_importance_minimise_the_federated_loss.control
def identical_weights(budget: Budget) -> Finding:
    """The same limits with identical weights."""
    return _minimisers(budget, "identical", _alike, 0.02)


def _frequencies(budget: Budget, predict: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Finding:
    """Contributions counted against `predict(times in intervals)`, in intervals for one contribution."""
    seconds = np.random.default_rng(budget.seed).uniform(0.2, 1.0, _CLIENTS).round(3)
    times, checks = RecordedTimes(seconds), []
    for interval in _INTERVALS:
        schedule = Schedule.fixed_interval(times, interval, interval * 2000)
        counted = schedule.contributors.sum(axis=0)
        off = np.abs(counted - len(schedule) / predict(np.round(seconds / interval, 9))).max()
        checks.append(Check(f"contributions off the formula, Δt = {interval:g}", at_most(1.0), Estimate.exact(off)))
    counted = Schedule.asynchronous(times, 500.0).contributors.sum(axis=0)
    off = np.abs(counted - 500.0 / seconds).max()
    checks.append(Check("contributions off the formula, asynchronous", at_most(1.0), Estimate.exact(off)))
    return Finding(checks)


@claim(
    statement=r"FedFix hears client $i$ in one of $\lceil\tau_i/\Delta t\rceil$ steps, asynchronous FedAvg every "
    r"$\tau_i$ seconds",
    source="Section 4",
    evidence="measured",
)
def clients_contribute_as_often_as_stated(budget: Budget) -> Finding:
    """Simulated schedules of ten clients with random times, counted."""
    return _frequencies(budget, np.ceil)


@clients_contribute_as_often_as_stated.control
def without_rounding_up(budget: Budget) -> Finding:
    """The same counts as if a client that answers within an interval did not wait for its end."""
    return _frequencies(budget, lambda intervals: intervals)


def _heterogeneity(budget: Budget, weighting: Weighting) -> Finding:
    """Distance from the federated optimum, in units of what the surrogate predicts at scale one."""
    schedule = _schedules(2000)["asynchronous"]
    centres = _centres(budget)
    unit = float((_surrogate("asynchronous") - 1.0 / _CLIENTS) @ centres)
    checks = []
    for scale in (1.0, 2.0, 4.0):
        bias = _limit(schedule, weighting, scale * centres) - scale * centres.mean()
        checks.append(
            Check(f"bias, {scale:g} times the distances", equal_to(scale, relative=0.01), Estimate.exact(bias / unit))
        )
    same = _limit(schedule, weighting, np.full(_CLIENTS, centres.mean())) - centres.mean()
    return Finding([*checks, Check("bias, equal clients", equal_to(0.0, absolute=1e-3), Estimate.exact(same / unit))])


@claim(
    statement=r"The residual $R$ of wrong weights grows with the heterogeneity of the clients and vanishes where they "
    r"are alike",
    source="Theorem 1, the term R",
    evidence="measured",
)
def the_bias_grows_with_heterogeneity(budget: Budget) -> Finding:
    """Asynchronous FedAvg with identical weights on quadratics whose distances grow."""
    return _heterogeneity(budget, "identical")


@the_bias_grows_with_heterogeneity.control
def no_bias_by_importance(budget: Budget) -> Finding:
    """The same bias with weights by importance, which have none at any distance."""
    return _heterogeneity(budget, "importance")


# ---- special cases -------------------------------------------------------------------------------------------------


def _special_cases(budget: Budget, interval: float) -> Finding:
    problem = random_quadratics(budget.key, _CLIENTS, 5, noise=0.1, network=Network(latency=jnp.asarray(_SECONDS)))
    times = RecordedTimes(_SECONDS)
    options: dict[str, Any] = {"steps": 20, "record": "objective", "key": budget.key}
    plain = run(FedAvg(GradientStep(0.05), steps=3), problem, jnp.zeros(5), **options)

    def off(name: str, schedule: Schedule) -> Estimate:
        trace = run(AsynchronousFedAvg(schedule, GradientStep(0.05), steps=3), problem, jnp.zeros(5), **options)
        traces[name] = trace
        return Estimate.exact(
            max(
                np.abs(np.asarray(trace.x - plain.x)).max(),
                abs(float(trace["seconds"][0, -1] - plain["seconds"][0, -1])),
            )
        )

    fixed, buffered = Schedule.fixed_interval(times, interval, 20.0), Schedule.buffered(times, 10, 20.0)
    traces = {"FedAvg": plain}
    return Finding(
        [
            Check("FedFix minus FedAvg, iterates and seconds, largest", at_most(1e-9), off("FedFix", fixed)),
            Check("FedBuff with a buffer of all minus FedAvg", at_most(1e-9), off("FedBuff", buffered)),
        ],
        traces=traces,
    )


@claim(
    statement=r"With $\Delta t \ge \max_i \tau_i$ FedFix is FedAvg, and so is FedBuff with a buffer of all clients",
    source="Section 4",
    evidence="measured",
)
def slow_servers_are_federated_averaging(budget: Budget) -> Finding:
    """Iterates and simulated seconds of twenty rounds on noisy quadratics."""
    return _special_cases(budget, 1.0)


@slow_servers_are_federated_averaging.control
def an_interval_too_short_for_the_slowest(budget: Budget) -> Finding:
    """The same with intervals of 0.9 seconds."""
    return _special_cases(budget, 0.9)


# ---- stability and speed -------------------------------------------------------------------------------------------

_CONTRACTIONS = np.geomspace(0.05, 2.5, 100)


def _largest_stable(schedule: Schedule, budget: Budget) -> float:
    r"""The largest contraction $1 - (1 - \eta)^K$ of local work (one step, of size itself) that does not blow up."""
    trace = run(
        AsynchronousFedAvg(schedule, GradientStep(0.1)),
        _lines(np.arange(_CLIENTS)),
        jnp.zeros(1),
        steps=len(schedule),
        record={"position": _position},
        grid={"local.step_size": _CONTRACTIONS.tolist()},
        points=100,
        spacing="linear",
    )
    stable = ~(np.abs(trace["position"].values[:, 0]) > 1e6).any(axis=1) & trace["finite"].values[:, 0].all(axis=1)
    first = len(stable) if stable.all() else int(np.argmin(stable))
    return float(_CONTRACTIONS[first - 1]) if first else 0.0


def _stability(budget: Budget, short: float, long: float) -> Finding:
    times, seconds = RecordedTimes(_SECONDS), budget.pick(400.0, 2000.0, 4000.0)
    schedules = {
        "asynchronous": Schedule.asynchronous(times, seconds),
        f"FedFix, Δt = {short:g}": Schedule.fixed_interval(times, short, seconds),
        f"FedFix, Δt = {long:g}": Schedule.fixed_interval(times, long, seconds),
        "synchronous": Schedule.synchronous(times, seconds),
    }
    found = {name: _largest_stable(schedule, budget) for name, schedule in schedules.items()}
    values = list(found.values())
    table = pd.DataFrame(found.items(), columns=["schedule", "largest stable contraction"])
    return Finding(
        [
            Check("FedFix (longer Δt) over asynchronous", at_least(4.0), Estimate.exact(values[2] / values[0])),
            Check(
                "each over the one before, smallest",
                at_least(1.05),
                Estimate.exact(np.divide(values[1:], values[:-1]).min()),
            ),
        ],
        tables={"Stability": table},
    )


@claim(
    statement=r"Asynchronous FedAvg is unstable where FedFix, whose steps add the work of several clients, is not",
    source="Section 5, by the step sizes that each bears",
    evidence="measured",
)
def fedfix_bears_larger_steps(budget: Budget) -> Finding:
    """A grid of step sizes on quadratics, with weights by importance, until iterates exceed a million."""
    return _stability(budget, 0.2, 0.5)


@fedfix_bears_larger_steps.control
def intervals_as_short_as_answers(budget: Budget) -> Finding:
    """The same with intervals of 0.05 and 0.1 seconds, at which the server steps for one or two answers."""
    return _stability(budget, 0.05, 0.1)


_STEP_SIZES = (0.03, 0.1, 0.3, 1.0, 3.0)


def _race(budget: Budget, methods: Mapping[str, AsynchronousFedAvg], seconds: float) -> dict[str, Trace]:
    """Loss on digits over simulated time, at each method's best step size."""
    clients = split(dataset("digits"), _CLIENTS, Dirichlet(0.1), seed=budget.seed)
    problem = clients.problem(linear, batch=budget.pick(16, 32, 64))
    traces = {}
    for name, method in methods.items():
        trace = run(
            method,
            problem,
            linear_parameters(clients.features.shape[-1], 10),
            steps=int((method.schedule.times <= seconds).sum()),
            seeds=budget.pick(2, 5, 5),
            key=budget.key,
            record="objective",
            points=10,
            spacing="linear",
            grid={"local.step_size": _STEP_SIZES},
        )
        final = trace["objective"].isel(step=slice(-4, None)).mean(["seed", "step"])
        traces[name] = trace.sel(local_step_size=_STEP_SIZES[int(np.argmin(final.values))])
    return traces


def _images(budget: Budget, interval: float, rival: str) -> Finding:
    times, seconds = RecordedTimes(_SECONDS), budget.pick(60.0, 100.0, 300.0)
    # Schedules of equal length, one of them longer than the race: equal shapes compile once.
    steps = 2 * seconds
    methods = {
        "FedFix": AsynchronousFedAvg(
            Schedule.fixed_interval(times, interval, interval * steps), GradientStep(0.1), steps=10
        )
    }
    if rival == "FedAvg":
        methods[rival] = AsynchronousFedAvg(Schedule.synchronous(times, steps), GradientStep(0.1), steps=10)
    else:
        schedule = Schedule.asynchronous(times, seconds)
        methods[rival] = AsynchronousFedAvg(schedule, GradientStep(0.1), steps=10, weighting="identical")
    traces = _race(budget, methods, seconds)
    tails = {name: np.asarray(trace["objective"].isel(step=slice(-4, None))) for name, trace in traces.items()}
    final = {name: tail.mean(axis=1) for name, tail in tails.items()}
    spread = {name: tail.std(axis=1) for name, tail in tails.items()}
    checks = [
        Check(f"loss of FedFix over that of {rival}", at_most(1.0), Estimate.mean(final["FedFix"] / final[rival])),
        Check(
            f"oscillation of FedFix over that of {rival}",
            at_most(1.0),
            Estimate.exact(spread["FedFix"].mean() / spread[rival].mean()),
        ),
    ]
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, trace in traces.items():
        axes.plot(trace["seconds"].mean("seed"), trace["objective"].mean("seed"), marker=".", label=name)
    axes.set(yscale="log", xlabel="simulated seconds", ylabel="federated loss")
    axes.legend()
    table = pd.DataFrame(
        [
            (name, float(trace["local_step_size"]), final[name].mean(), spread[name].mean())
            for name, trace in traces.items()
        ],
        columns=["method", "best step size", "final loss", "oscillation"],
    )
    return Finding(checks, tables={"Digits": table}, figures={"Loss over time": figure})


@claim(
    statement=r"In the same time FedFix reaches a lower loss than FedAvg",
    source="Section 5 and abstract",
    evidence="measured",
)
def fedfix_is_faster_than_synchronous_averaging(budget: Budget) -> Finding:
    """Handwritten digits held by label, a linear model, each method at its best step size of a grid."""
    return _images(budget, 0.5, "FedAvg")


@fedfix_is_faster_than_synchronous_averaging.control
def an_interval_longer_than_the_slowest(budget: Budget) -> Finding:
    """The same race for a server that steps every two seconds, when the slowest need one."""
    return _images(budget, 2.0, "FedAvg")


@claim(
    statement=r"In the same time FedFix reaches a lower loss than asynchronous FedAvg with identical weights, and "
    r"oscillates less",
    source="Section 5 and abstract",
    evidence="measured",
)
def fedfix_is_better_than_asynchronous_averaging(budget: Budget) -> Finding:
    """The same race on the same digits."""
    return _images(budget, 0.5, "asynchronous")


@fedfix_is_better_than_asynchronous_averaging.control
def an_interval_longer_than_the_slowest_here_too(budget: Budget) -> Finding:
    """The same race for a server that steps every two seconds, when the slowest need one."""
    return _images(budget, 2.0, "asynchronous")
