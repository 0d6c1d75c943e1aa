r"""Mirror prox for learning from pairwise preferences, where what is preferred need not be an order.

Two policies play a symmetric game, each wanting its responses preferred to the other's while staying near a reference;
$\beta$ weighs that second wish. Nash-MP takes a proximal step against the current policy and then, from the same
policy, a second one against the result. With the proximal weight $\lambda = 2$ the divergence
$\mathrm{KL}(\pi^\star \Vert \pi_k)$ to the equilibrium falls by $1 + 2\beta$ with every two queries of the preferences,
exploitability and log-probabilities converge linearly too, and the number of actions enters nowhere. Proximal steps may
be found by policy gradients from sampled responses and votes; for networks a slowly moving copy is what the steps are
taken from. The card is of the paper's first version; the second, of another title, has the proximal point method.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tendsto.evidence import (
    Budget,
    Check,
    Estimate,
    Finding,
    Paper,
    at_least,
    at_most,
    claim,
    equal_to,
)
from tendsto.iteration import Method, State, Trace, fit_linear_rate, fit_power_law, run, solve
from tendsto.optimize import (
    DeepNashMirrorProx,
    ExtragradientPreferences,
    NashMirrorDescent,
    NashMirrorProx,
    NashProx,
    NetworkGame,
    OptimisticMirrorDescent,
    SelfPlayMirrorDescent,
    SelfPlayPolicyGradient,
    StochasticNashMirrorProx,
    mirror_prox_bounds,
    queries_to_divergence,
    split_network,
)
from tendsto.problems import (
    LowRankPreferences,
    PerturbedGame,
    PreferenceGame,
    SampledGame,
    cyclic_preferences,
    dataset,
    kullback_leibler,
    random_preferences,
)

CARD = Paper(
    slug="nash-mp",
    title="Accelerating Nash Learning from Human Feedback via Mirror Prox",
    authors=(
        "Daniil Tiapkin",
        "Daniele Calandriello",
        "Denis Belomestny",
        "Éric Moulines",
        "Alexey Naumov",
        "Kashif Rasul",
        "Michal Valko",
        "Pierre Ménard",
    ),
    arxiv="2505.19731",
    date=date(2025, 5, 26),
    field="optimize",
    method=(
        "optimize.NashMirrorProx",
        "optimize.StochasticNashMirrorProx",
        "optimize.DeepNashMirrorProx",
        "optimize.nash_policy_gradient_loss",
        "optimize.NashProx",
    ),
)

Player = Method[Any, Any]
Games = Mapping[str, PreferenceGame]


def _reference(budget: Budget, actions: int) -> Float[Array, " actions"]:
    normal = jax.random.normal(jax.random.fold_in(budget.key, actions), (actions,))
    reference: Float[Array, " actions"] = jax.nn.softmax(normal)
    return reference


def _tournament(budget: Budget, actions: int, beta: float, number: int = 0) -> PreferenceGame:
    """Every pair of actions has a certain winner, drawn by lot."""
    key = jax.random.fold_in(jax.random.fold_in(budget.key, 10_000 + number), actions)
    preferences = random_preferences(key, actions, deterministic=True)
    return PreferenceGame(preferences, beta, _reference(budget, actions)).solved()


def _uniform(budget: Budget, actions: int, beta: float, number: int = 0) -> PreferenceGame:
    """Preferences independent and uniform on [0, 1]."""
    key = jax.random.fold_in(jax.random.fold_in(budget.key, 20_000 + number), actions)
    return PreferenceGame(random_preferences(key, actions), beta, _reference(budget, actions)).solved()


def _low_rank(budget: Budget, actions: int, beta: float) -> PreferenceGame:
    """Rank 8, with features scattered around a common direction, so that there is something to prefer."""
    rank = 8
    scatter, turn = jax.random.split(jax.random.fold_in(budget.key, 30_000))
    features = jax.random.normal(jax.random.fold_in(scatter, actions), (actions, rank)) + jnp.eye(rank)[0]
    features = features / jnp.linalg.norm(features, axis=1, keepdims=True)
    square = jax.random.normal(turn, (rank, rank))
    skew = square - square.T
    skew = 0.5 * skew / jnp.linalg.norm(skew, 2)
    return PreferenceGame(LowRankPreferences(features, skew), beta, _reference(budget, actions)).solved()


def _cycle(beta: float) -> PreferenceGame:
    """Rock, paper, scissors with a reference that is not uniform."""
    return PreferenceGame(cyclic_preferences(3), beta, jax.nn.softmax(jnp.array([1.0, 0.0, -0.5]))).solved()


def _suite(budget: Budget) -> Games:
    """24 games a repetition: 6 kinds of preferences at 4 strengths of regularisation."""
    games = {}
    for beta in (0.01, 0.05, 0.1, 0.5):
        games[f"cycle of 3, β = {beta}"] = _cycle(beta)
        for number in range(budget.pick(1, 5, 20)):
            for actions in (10, 100):
                games[f"uniform {actions}, β = {beta}, {number}"] = _uniform(budget, actions, beta, number)
            for actions in (10, 100, 500):
                games[f"tournament {actions}, β = {beta}, {number}"] = _tournament(budget, actions, beta, number)
    return games


def _watch(method: Player, game: PreferenceGame, steps: int, *measures: str, **options: Any) -> Trace:
    return run(method, game, steps=steps, record=measures, points=range(1, steps), progress=False, **options)


def _largest_ratio(values: NDArray[Any], bounds: NDArray[Any], rounding: float = 1e-20) -> float:
    """The largest value in units of its bound after the start, where the bound is above the rounding of the solution.

    A value that is not finite counts as infinite.
    """
    seen = np.where(np.isfinite(values), values, np.inf)[1:] / bounds[1:]
    return float(seen[bounds[1:] > rounding].max())


# --- The theorem: linear convergence of the divergence


def _certified_rate(method: Player, games: Games, steps: int) -> Finding:
    """Every iterate of every game against the bound of a step size of 2."""
    rows = []
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, game in games.items():
        beta = float(game.regularisation)
        trace = _watch(method, game, steps, "divergence")
        divergence = trace["divergence"].values[0]
        bound = mirror_prox_bounds(beta, steps, divergence=float(divergence[0])).divergence
        rows.append(
            {
                "game": name,
                "KL at the start": divergence[0],
                "KL at the end": divergence[-1],
                "bound at the end": bound[-1],
                "largest KL / bound": _largest_ratio(divergence, bound),
                "KL at the start × 2β": 2.0 * beta * divergence[0],
                "queries a step": trace.final("gradients")[0] / steps,
            }
        )
        if "100" in name or "cycle" in name:
            queries = trace["gradients"].values[0]
            (line,) = axes.plot(queries, np.maximum(divergence, 1e-26), label=name.removesuffix(", 0"), linewidth=1.2)
            axes.plot(queries, np.maximum(bound, 1e-26), "--", color=line.get_color(), linewidth=0.8)
    axes.set(yscale="log", ylim=(1e-22, 1e3), xlabel="queries $N$", ylabel=r"$\mathrm{KL}(\pi^\star \Vert \pi)$")
    figure.legend(loc="outside right upper", fontsize="x-small")
    table = pd.DataFrame(rows)
    checks = [
        Check(
            f"largest KL(π*‖π_k) / ((1+2β)^(-k) KL(π*‖π_0)) over {len(table)} games and k = 1…{steps}",
            at_most(1.0 + 1e-9),
            Estimate.exact(table["largest KL / bound"].max()),
        ),
        Check("largest 2β KL(π*‖reference)", at_most(1.0), Estimate.exact(table["KL at the start × 2β"].max())),
        Check("queries a step", equal_to(2), Estimate.exact(table["queries a step"].max())),
    ]
    return Finding(checks, tables={"Games": table}, figures={"Divergence by queries (dashed: the bound)": figure})


@claim(
    statement=r"After $N$ queries the divergence of Nash-MP with $\lambda = 2$ from the equilibrium is at most "
    r"$(1+2\beta)^{-N/2}\,\mathrm{KL}(\pi^\star \Vert \pi_{\mathrm{ref}}) \le (1+2\beta)^{-N/2}/(2\beta)$, also for "
    r"intransitive preferences",
    source="Abstract and the theorem on the divergence of the last iterate",
    evidence="measured",
)
def the_divergence_falls_at_the_certified_rate(budget: Budget) -> Finding:
    """Every iterate of 24 games a repetition against the bound."""
    return _certified_rate(NashMirrorProx(2.0), _suite(budget), budget.pick(400, 1000, 1000))


@the_divergence_falls_at_the_certified_rate.control
def without_extrapolation(budget: Budget) -> Finding:
    """One proximal step in place of two: online mirror descent, which circles."""
    return _certified_rate(SelfPlayMirrorDescent(2.0), {"cycle of 3, β = 0.01": _cycle(0.01)}, 400)


@the_divergence_falls_at_the_certified_rate.control
def beyond_the_certified_step(budget: Budget) -> Finding:
    """Both steps, with twice the certified length."""
    return _certified_rate(NashMirrorProx(4.0), {"cycle of 3, β = 0.01": _cycle(0.01)}, 400)


# --- The range of step sizes


def _sweep(games: Games, step_sizes: Callable[[float], Sequence[float]], steps: int) -> Finding:
    rows = []
    for name, game in games.items():
        beta = float(game.regularisation)
        tried = step_sizes(beta)
        trace = _watch(NashMirrorProx(2.0), game, steps, "divergence", grid={"step_size": tried})
        for step_size, divergence in zip(tried, trace["divergence"].values[:, 0], strict=True):
            bound = divergence[0] * (1.0 + step_size * beta) ** -np.arange(steps + 1.0)
            rows.append(
                {
                    "game": name,
                    "λ": step_size,
                    "KL at the end": divergence[-1],
                    "largest KL / bound": _largest_ratio(divergence, bound),
                }
            )
    table = pd.DataFrame(rows)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for label, part in table.groupby("game", sort=False):
        axes.plot(part["λ"], np.maximum(part["largest KL / bound"], 1e-3), "o-", label=str(label))
    axes.axhline(1.0, color="k", linestyle="--", label="the bound")
    axes.set(xscale="log", yscale="log", xlabel="step size λ", ylabel=r"largest KL / bound, $k \geq 1$")
    axes.legend(fontsize="x-small")
    worst = Estimate.exact(table["largest KL / bound"].max())
    check = Check("largest KL(π*‖π_k) / ((1+λβ)^(-k) KL(π*‖π_0))", at_most(1.0 + 1e-9), worst)
    return Finding([check], tables={"Step sizes": table}, figures={"Step sizes": figure})


@claim(
    statement=r"Every $\lambda \le 2$ contracts the divergence by $1 + \lambda\beta$ a step; the same proof, its two "
    r"Pinsker terms weighed, reaches $\lambda = 2(\beta + \sqrt{1+\beta^2})$",
    source="Proof of the theorem on the divergence",
    evidence="measured",
)
def step_sizes_up_to_the_limit_contract(budget: Budget) -> Finding:
    """Each step size against its own bound, the last one at the sharper limit."""

    def tried(beta: float) -> list[float]:
        return [0.25, 0.5, 1.0, 2.0, 2.0 * (beta + math.sqrt(1.0 + beta**2))]

    games = {f"cycle of 3, β = {beta}": _cycle(beta) for beta in (0.01, 0.1, 1.0)}
    for number in range(budget.pick(2, 20, 100)):
        for beta in (0.01, 0.1, 1.0):
            games[f"tournament 10, β = {beta}, {number}"] = _tournament(budget, 10, beta, number)
    return _sweep(games, tried, budget.pick(400, 1000, 1000))


@step_sizes_up_to_the_limit_contract.control
def longer_steps(budget: Budget) -> Finding:
    """Step sizes 4 to 16 against their own bounds, on rock, paper, scissors."""
    return _sweep({"cycle of 3, β = 0.01": _cycle(0.01)}, lambda _: [4.0, 6.0, 8.0, 16.0], 400)


# --- Independence of the number of actions


def _by_size(method: Player, families: Mapping[str, Games], max_steps: int) -> Finding:
    """Queries until the divergence is a millionth of that of the reference."""
    rows = []
    for family, games in families.items():
        for name, game in games.items():
            start = float(game.divergence(game.log_reference))
            found = solve(
                method, game, measure="divergence", tol=1e-6 * start, max_steps=max_steps, check_every=1, progress=False
            )
            rows.append(
                {
                    "preferences": family,
                    "actions": game.actions,
                    "KL at the start": start,
                    "queries": float(found.cost.gradients) if found.converged else np.inf,
                    "certified": queries_to_divergence(game, 1e-6 * start),
                    "game": name,
                }
            )
    table = pd.DataFrame(rows)
    checks = []
    for family in families:
        part = table[table["preferences"] == family]
        spread = part["queries"].max() / part["queries"].min()
        most = part["actions"].max()
        checks.append(
            Check(f"{family}: most / fewest queries, up to {most} actions", at_most(2), Estimate.exact(spread))
        )
    ratio = (table["queries"] / table["certified"]).max()
    checks.append(Check("largest queries / certified queries", at_most(1), Estimate.exact(ratio)))
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for label, part in table.groupby("preferences", sort=False):
        axes.plot(part["actions"], part["queries"], "o-", label=str(label))
    axes.plot(table["actions"], table["certified"], "k--", label="certified")
    axes.set(xscale="log", yscale="log", xlabel="actions", ylabel="queries to a millionth of the divergence")
    axes.legend()
    return Finding(checks, tables={"Queries": table}, figures={"Queries by the number of actions": figure})


def _sizes(budget: Budget, beta: float) -> dict[str, Games]:
    dense = (10, 100, 500, *budget.pick((), (2000,), (2000, 5000)))
    structured = (10, 100_000, *budget.pick((), (1000, 1_000_000), (1000, 1_000_000)))
    return {
        "tournament": {str(size): _tournament(budget, size, beta) for size in dense},
        "rank 8": {str(size): _low_rank(budget, size, beta) for size in structured},
    }


@claim(
    statement=r"The rates do not depend on the size of the action space: the queries to a given accuracy stay within a "
    r"factor of two from 10 to 100,000 actions, and within what the theorem certifies",
    source="Abstract",
    evidence="measured",
)
def the_rate_ignores_the_number_of_actions(budget: Budget) -> Finding:
    """Tournaments with a matrix, and preferences of rank 8 without one."""
    return _by_size(NashMirrorProx(2.0), _sizes(budget, 0.05), 2000)


@the_rate_ignores_the_number_of_actions.control
def policy_gradients_on_the_logits(budget: Budget) -> Finding:
    """Self-play policy gradients, in which an action moves in proportion to its probability."""
    games = {str(size): _tournament(budget, size, 0.5) for size in (10, 100)}
    return _by_size(SelfPlayPolicyGradient(1.0), {"tournament": games}, 20_000)


# --- Exploitability and span


def _certificates(method: Player, games: Games, steps: int) -> Finding:
    rows = []
    for name, game in games.items():
        beta = float(game.regularisation)
        trace = _watch(method, game, steps, "exploitability", "span")
        bounds = mirror_prox_bounds(beta, steps)
        gain, spans = trace["exploitability"].values[0], trace["span"].values[0]
        simple = (1.0 + 2.0 * beta) ** -np.arange(steps + 1.0) / beta
        rows.append(
            {
                "game": name,
                "exploitability / certificate": _largest_ratio(gain, bounds.exploitability),
                # Logarithms of the equilibrium carry an error of some units of rounding over β.
                "span / certificate": _largest_ratio(spans, bounds.span, rounding=1e-9),
                "exploitability × β (1+2β)^k": _largest_ratio(gain, simple),
                "exploitability at the end": gain[-1],
                "span at the end": spans[-1],
            }
        )
    table = pd.DataFrame(rows)
    checks = [
        Check(f"largest {column}, k = 1…{steps}", at_most(1.0), Estimate.exact(table[column].max()))
        for column in table.columns[1:4]
    ]
    return Finding(checks, tables={"Certificates": table})


@claim(
    statement=r"Exploitability and the span of $\log\pi_k - \log\pi^\star$ converge linearly too, below certificates "
    r"that know neither the equilibrium nor the number of actions; the former is below $(1+2\beta)^{-N/2}/\beta$",
    source="Abstract and the corollaries of the theorem",
    evidence="measured",
)
def exploitability_and_span_converge_linearly(budget: Budget) -> Finding:
    """Every iterate of 24 games a repetition against the certificates that start from 1/(2β)."""
    return _certificates(NashMirrorProx(2.0), _suite(budget), budget.pick(400, 1000, 1000))


@exploitability_and_span_converge_linearly.control
def a_single_proximal_step(budget: Budget) -> Finding:
    """The same certificates for online mirror descent."""
    return _certificates(SelfPlayMirrorDescent(2.0), {"cycle of 3, β = 0.1": _cycle(0.1)}, 400)


# --- The stopping certificate


def _from_exploitability(game: PreferenceGame, state: State) -> Float[Array, ""]:
    return game.exploitability(state.x)


def _gain_of_the_reference(game: PreferenceGame, state: State) -> Float[Array, ""]:
    """What the reference alone gains by deviating, in place of the best response."""
    return game.payoff(game.log_reference, state.x) - 0.5


def _stopping(budget: Budget, certificate: Callable[[PreferenceGame, State], Float[Array, ""]]) -> Finding:
    methods: dict[str, Player] = {
        "mirror prox": NashMirrorProx(2.0),
        "mirror descent": SelfPlayMirrorDescent(0.5),
        "Nash-MD": NashMirrorDescent(0.1),
    }
    rows = []
    for number in range(budget.pick(2, 10, 50)):
        game = _tournament(budget, 10, 0.1, number)
        for (name, method), tol in ((each, tol) for each in methods.items() for tol in (1e-2, 1e-4, 1e-6)):
            found = solve(method, game, measure=certificate, tol=tol, max_steps=20_000, progress=False)
            error = float(kullback_leibler(found.x, game.equilibrium))
            ratio = error * float(game.regularisation) / tol if found.converged else np.nan
            rows.append({"game": number, "method": name, "tol": tol, "steps": found.steps, "β KL(π‖π*) / tol": ratio})
    table = pd.DataFrame(rows)
    stopped = table[table["method"] == "mirror prox"]
    checks = [
        Check("largest β KL(π‖π*) / tol of all that stopped", at_most(1.0), Estimate.exact(table.iloc[:, -1].max())),
        Check(
            "solves by mirror prox that stopped / tried",
            equal_to(1.0),
            Estimate.exact(stopped.iloc[:, -1].notna().mean()),
        ),
    ]
    return Finding(checks, tables={"Solves": table})


@claim(
    statement=r"Stopping once the exploitability is at most a tolerance, which takes no knowledge of the equilibrium, "
    r"certifies $\mathrm{KL}(\pi \Vert \pi^\star) \le \mathrm{tol}/\beta$",
    source="Definition of suboptimality, and strong concavity of the regularised payoff",
    evidence="measured",
)
def exploitability_is_a_stopping_certificate(budget: Budget) -> Finding:
    """Solves of tournaments by three methods, each stopped by the exploitability."""
    return _stopping(budget, _from_exploitability)


@exploitability_is_a_stopping_certificate.control
def a_weaker_opponent(budget: Budget) -> Finding:
    """Stopped by the gain of the reference, an opponent that does not respond."""
    return _stopping(budget, _gain_of_the_reference)


# --- How fast it really is, near the equilibrium


def _local_exponent(game: PreferenceGame) -> float:
    r"""$2\log r/\log(1+2\beta)$ with $r$ the spectral radius of the step of size 2, linearised at the equilibrium."""
    policy = np.exp(np.asarray(game.equilibrium))
    jacobian = np.asarray(jax.vmap(game.preferences.win_rates)(jnp.eye(game.actions))).T - 0.5
    turn = jacobian @ (np.diag(policy) - np.outer(policy, policy))
    factor = 1.0 + 2.0 * float(game.regularisation)
    identity = np.eye(game.actions)
    step = (identity + 2.0 * turn @ (identity + 2.0 * turn) / factor) / factor
    centred = identity - 1.0 / game.actions
    radius = np.abs(np.linalg.eigvals(centred @ step @ centred)).max()
    return float(2.0 * np.log(radius) / np.log(factor))


def _exponents(method: Player, games: Games) -> Finding:
    rows = []
    for name, game in games.items():
        beta = float(game.regularisation)
        steps = math.ceil(30.0 / math.log1p(2.0 * beta))
        trace = run(method, game, steps=steps, record="divergence", points=range(1, steps), progress=False)
        divergence = trace["divergence"].values[0]
        # Below the start by far enough to be linear, above the rounding of the equilibrium.
        inside = np.flatnonzero((divergence < 1e-8 * divergence[0]) & (divergence > 1e-22))
        window = (float(inside[0]), float(inside[-1])) if inside.size > 2 else (steps / 2, float(steps))
        fitted = fit_linear_rate(trace["step"].values, divergence, window=window)
        exponent = math.log(fitted.value) / math.log1p(2.0 * beta)
        rows.append({"game": name, "linearised": _local_exponent(game), "fitted": exponent})
    table = pd.DataFrame(rows)
    off = (table["fitted"] / table["linearised"] - 1.0).abs().max()
    checks = [
        Check("fitted / linearised exponent - 1, largest in size", at_most(0.03), Estimate.exact(off)),
        Check(
            "exponent of 1+2β in the divergence, slowest game (the theorem: -1)",
            at_most(-1.9),
            Estimate.exact(table["fitted"].max()),
        ),
    ]
    return Finding(checks, tables={"Exponents": table})


def _large_games(budget: Budget) -> dict[str, PreferenceGame]:
    games = {}
    for beta in (0.02, 0.1):
        for size in budget.pick((100,), (100, 300), (100, 300, 1000)):
            games[f"uniform {size}, β = {beta}"] = _uniform(budget, size, beta)
            games[f"tournament {size}, β = {beta}"] = _tournament(budget, size, beta)
    return games


@claim(
    statement=r"The certified exponent is an upper bound: near the equilibrium the divergence falls with the squared "
    r"spectral radius of the linearised step, on large random games about as $(1+2\beta)^{-2k}$",
    source="Linearisation of the two steps at the equilibrium, beside the theorem's exponent",
    evidence="measured",
)
def near_the_equilibrium_it_is_twice_as_fast(budget: Budget) -> Finding:
    """The exponent fitted below a hundred-millionth of the start against that of the linearisation."""
    return _exponents(NashMirrorProx(2.0), _large_games(budget))


@near_the_equilibrium_it_is_twice_as_fast.control
def another_methods_linearisation(budget: Budget) -> Finding:
    """The iterates of online mirror descent against the same linearisation."""
    return _exponents(SelfPlayMirrorDescent(2.0), _large_games(budget))


# --- Against Nash-MD


def _first_below(trace: Trace, target: float) -> NDArray[np.float64]:
    """Queries at which each point of the grid first has a divergence below the target, infinite if none."""
    divergence, queries = trace["divergence"].values[:, 0], trace["gradients"].values[:, 0]
    below = divergence <= target
    return np.where(below.any(axis=1), queries[np.arange(len(queries)), below.argmax(axis=1)], np.inf)


def _advantage(budget: Budget, rival: Player, name: str) -> Finding:
    target, horizon = 1e-6, budget.pick(10_000, 100_000, 1_000_000)
    step_sizes = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3]
    rows = []
    for beta in (0.01, 0.05, 0.1):
        game = _tournament(budget, 100, beta)
        ours = solve(NashMirrorProx(2.0), game, measure="divergence", tol=target, progress=False)
        trace = run(
            rival,
            game,
            steps=horizon,
            record="divergence",
            points=range(1, horizon, 5),
            grid={"step_size": step_sizes},
            progress=False,
        )
        theirs = _first_below(trace, target)
        best = int(np.argmin(theirs))
        rows.append(
            {
                "β": beta,
                "Nash-MP": float(ours.cost.gradients),
                name: theirs[best],
                "best step size": step_sizes[best],
                "certified for Nash-MP": queries_to_divergence(game, target),
            }
        )
    table = pd.DataFrame(rows)
    checks = [
        Check(
            f"queries to KL = 1e-6, best {name} / Nash-MP, β = {row['β']}",
            at_least(8.0),
            Estimate.exact(row[name] / row["Nash-MP"]),
        )
        for _, row in table.iterrows()
    ]
    return Finding(checks, tables={"Queries to KL = 1e-6, tournament of 100 actions": table})


@claim(
    statement=r"Linear convergence pays: Nash-MD with its best constant step size needs at least eight times the "
    r"queries of Nash-MP to a divergence of $10^{-6}$",
    source="Comparison of the rates with Nash-MD, and the tabular experiment",
    evidence="measured",
)
def nash_md_needs_more_queries(budget: Budget) -> Finding:
    """Six step sizes of Nash-MD, the best one chosen in hindsight; infinite if none arrives."""
    return _advantage(budget, NashMirrorDescent(0.1), "Nash-MD")


@nash_md_needs_more_queries.control
def a_rival_that_extrapolates(budget: Budget) -> Finding:
    """Extragradient preference optimisation, which is the same method under another step size, as the rival."""
    return _advantage(budget, ExtragradientPreferences(0.1), "EGPO")


def _floors(budget: Budget, rival: Player, name: str) -> Finding:
    steps = budget.pick(30_000, 100_000, 100_000)
    game = _tournament(budget, 10, 0.1)
    step_sizes = [0.01, 0.03, 0.1, 0.3]
    trace = run(
        rival, game, steps=steps, record="divergence", points=40, grid={"step_size": step_sizes}, progress=False
    )
    floors = trace["divergence"].values[:, 0, -1]
    slope = fit_power_law(step_sizes, floors, window=(0.0, np.inf)).value
    others: dict[str, Player] = {
        "Nash-MP, λ = 2": NashMirrorProx(2.0),
        "optimistic mirror descent, λ = 0.5": OptimisticMirrorDescent(0.5),
        "Nash-MD, decaying steps": NashMirrorDescent.theory(game),
    }
    figure = Figure(figsize=(7.2, 4), layout="constrained")
    axes = figure.subplots()
    rows = [{"method": f"{name}, η = {eta}", "KL": floor} for eta, floor in zip(step_sizes, floors, strict=True)]
    for eta in step_sizes:
        trace.sel(step_size=eta).plot("divergence", against="gradients", ax=axes, label=f"{name}, η = {eta}")
    for label, method in others.items():
        each = run(method, game, steps=steps // 2, record="divergence", points=40, progress=False)
        each.plot("divergence", against="gradients", ax=axes, label=label, linestyle="--")
        rows.append({"method": label, "KL": float(each.final("divergence")[0])})
    axes.set(ylim=(1e-30, 1e2), xlabel="queries", ylabel=r"$\mathrm{KL}(\pi^\star \Vert \pi)$")
    figure.legend(loc="outside right upper", fontsize="small")
    checks = [
        Check(f"{name}: slope of log final KL in log η", equal_to(2.0, absolute=0.1), Estimate.exact(slope)),
        Check(f"{name}: smallest final KL", at_least(1e-12), Estimate.exact(floors.min())),
        Check("Nash-MP: final KL", at_most(1e-20), Estimate.exact(rows[len(step_sizes)]["KL"])),
    ]
    return Finding(checks, tables={"Final divergence": pd.DataFrame(rows)}, figures={"Floors": figure})


@claim(
    statement=r"Nash-MD with a constant step $\eta$ stalls at a bias whose divergence grows as $\eta^2$, where Nash-MP "
    r"goes on to rounding",
    source="Comparison with Nash-MD: its fixed point is that of the mixture with the reference",
    evidence="measured",
)
def constant_steps_of_nash_md_stall(budget: Budget) -> Finding:
    """The divergence left after many queries, by step size."""
    return _floors(budget, NashMirrorDescent(0.1), "Nash-MD")


@constant_steps_of_nash_md_stall.control
def the_extrapolated_steps_do_not(budget: Budget) -> Finding:
    """The same measurement of extragradient preference optimisation, whose fixed point is the equilibrium."""
    return _floors(budget, ExtragradientPreferences(0.1), "EGPO")


# --- Inexact steps and sampled opponents


def _inexact(budget: Budget, step_size: float, game: PreferenceGame) -> Finding:
    widths = [1e-3, 1e-2, 1e-1]
    # An error of the win rates moves the logarithm of the proximal step by this much of it.
    passed_on = step_size / (1.0 + step_size * float(game.regularisation))
    rows = []
    for width in widths:
        trace = run(
            NashMirrorProx(step_size),
            PerturbedGame(game, width / passed_on),
            steps=400,
            seeds=budget.pick(4, 20, 100),
            record=["divergence", "span"],
            points=range(200, 400, 10),
            progress=False,
        )
        late = trace.dataset.sel(step=slice(200, None)).mean(("seed", "step"))
        rows.append({"δ": width, "span": float(late["span"]), "KL": float(late["divergence"])})
    table = pd.DataFrame(rows)
    table["span / δ"] = table["span"] / table["δ"]
    slopes = {name: fit_power_law(widths, table[name], window=(0.0, np.inf)).value for name in ("span", "KL")}
    checks = [
        Check("slope of log span of the error in log δ", equal_to(1.0, absolute=0.1), Estimate.exact(slopes["span"])),
        Check("slope of log KL in log δ", equal_to(2.0, absolute=0.2), Estimate.exact(slopes["KL"])),
    ]
    return Finding(checks, tables={"Error left by the width of the noise in every log-policy": table})


@claim(
    statement=r"Proximal steps that are off by noise of span $\delta$ in the log-policy leave an error whose span is "
    r"proportional to $\delta$, and a divergence proportional to $\delta^2$",
    source="Theorem on approximate Nash-MP: an additive term proportional to the accuracy of the steps",
    evidence="measured",
)
def errors_of_the_steps_do_not_accumulate(budget: Budget) -> Finding:
    """Uniform noise in every step at three widths, on a tournament of 10 actions at β = 0.1."""
    return _inexact(budget, 2.0, _tournament(budget, 10, 0.1))


@errors_of_the_steps_do_not_accumulate.control
def noise_where_the_steps_are_too_long(budget: Budget) -> Finding:
    """The same noise at λ = 4 on rock, paper, scissors at β = 0.01, where even exact steps do not converge."""
    return _inexact(budget, 4.0, _cycle(0.01))


def _sampled(budget: Budget, samples: Mapping[int, int]) -> Finding:
    numbers = list(samples)
    game = _tournament(budget, 10, 0.1)
    floors = []
    for number in numbers:
        trace = run(
            NashMirrorProx(2.0),
            SampledGame(game, samples[number]),
            steps=300,
            seeds=budget.pick(8, 50, 200),
            record="divergence",
            points=range(100, 300, 4),
            progress=False,
        )
        floors.append(trace["divergence"].sel(step=slice(100, None)).mean("step").values)
    fit = fit_power_law(numbers, np.asarray(floors).T, window=(0.0, np.inf))
    table = pd.DataFrame({"n": numbers, "KL": np.mean(floors, axis=1)})
    table["KL × n"] = table["KL"] * table["n"]
    measured = Estimate(fit.value, fit.low, fit.high, fit.method)
    check = Check("slope of log KL in log n", equal_to(-1.0, absolute=0.1), measured)
    return Finding([check], tables={"Divergence left by the number of sampled opponents": table})


@claim(
    statement=r"With $n$ sampled opponents for each query the divergence falls to a floor that is inversely "
    r"proportional to $n$",
    source="Theorem on approximate Nash-MP; the variance of a mean of $n$ samples",
    evidence="measured",
)
def sampled_opponents_leave_a_floor(budget: Budget) -> Finding:
    """The mean divergence of late iterates, for 10 to 1000 samples."""
    return _sampled(budget, {10: 10, 100: 100, 1000: 1000})


@sampled_opponents_leave_a_floor.control
def always_ten_samples(budget: Budget) -> Finding:
    """The same three measurements, with ten samples in each of them."""
    return _sampled(budget, {10: 10, 100: 10, 1000: 10})


# --- Proximal steps by stochastic policy gradients


def _divergences(method: Player, game: PreferenceGame, x0: Array, seeds: int) -> NDArray[np.float64]:
    """By seed and step, steps 0 to 30."""
    trace = run(method, game, x0, steps=30, seeds=seeds, record="divergence", points=range(31), progress=False)
    return np.asarray(trace["divergence"].values)


# The same object every time, so that a control does not compile the loop again.
_DECAYING = optax.sgd(lambda count: 8.0 / (1.0 + count / 10.0))
_adam = functools.cache(optax.adam)


def _approximate(budget: Budget, game: PreferenceGame, step_size: float) -> Finding:
    factor = 1.0 + step_size * float(game.regularisation)
    rows = []
    figure = Figure(figsize=(7.2, 4), layout="constrained")
    axes = figure.subplots()
    seeds = budget.pick(16, 100, 400)
    for inner, samples in ((30, 10), (100, 10), (100, 100), *budget.pick((), ((300, 100),), ((300, 100), (300, 1000)))):
        method = StochasticNashMirrorProx(_DECAYING, inner, samples, step_size)
        # From the equilibrium exact steps stay there, so that the first step shows the accuracy of one.
        settled = _divergences(method, game, game.equilibrium, seeds)
        falling = _divergences(method, game, game.log_reference, seeds).mean(axis=0)
        accuracy, floor = settled[:, 1].mean(), settled[:, 10:].mean()
        # The additive term does not depend on the start, so the floor at the equilibrium is it; twice for its noise.
        # Sums over steps, because the largest of many means over few seeds is that of the luckless one.
        bound = falling[0] * factor ** -np.arange(31.0) + 2.0 * floor
        rows.append(
            {
                "inner steps": inner,
                "samples": samples,
                "accuracy of one step": accuracy,
                "floor": floor,
                "KL / (bound of exact steps + 2 floor), summed over 30 steps": falling[1:].sum() / bound[1:].sum(),
            }
        )
        (line,) = axes.plot(falling, label=f"T = {inner}, n = {samples}")
        axes.axhline(floor, linestyle=":", color=line.get_color())
    axes.plot(falling[0] * factor ** -np.arange(31.0), "k--", label="bound of exact steps")
    axes.set(yscale="log", ylim=(1e-6, 1), xlabel="step", ylabel=r"mean $\mathrm{KL}(\pi^\star \Vert \pi)$")
    figure.legend(loc="outside right upper", fontsize="small")
    table = pd.DataFrame(rows)
    slope = np.nan
    pair = table[["accuracy of one step", "floor"]].to_numpy()
    if ((pair > 0) & np.isfinite(pair)).all():
        slope = fit_power_law(pair[:, 0], pair[:, 1], window=(0.0, np.inf)).value
    checks = [
        Check("slope of log floor in log accuracy", equal_to(1.0, absolute=0.2), Estimate.exact(slope)),
        Check(str(table.columns[-1]), at_most(1.0), Estimate.exact(table.iloc[:, -1].max())),
    ]
    return Finding(checks, tables={"Accuracy and floor": table}, figures={"Policy gradients in place of steps": figure})


@claim(
    statement=r"When each proximal step is found by $T$ stochastic policy gradients from sampled responses and votes, "
    r"the linear rate is kept up to an additive term proportional to the accuracy of a step",
    source="Approximate Nash-MP and its theorem",
    evidence="measured",
)
def policy_gradients_find_the_steps(budget: Budget) -> Finding:
    """Tabular softmax policies and Bernoulli votes, at growing numbers of inner steps and samples."""
    return _approximate(budget, _tournament(budget, 5, 0.5), 2.0)


@policy_gradients_find_the_steps.control
def where_exact_steps_would_circle(budget: Budget) -> Finding:
    """The same at λ = 16 and β = 0.01 on a cycle of five, where the steps are too long for the theorem."""
    return _approximate(budget, PreferenceGame(cyclic_preferences(5), 0.01, _reference(budget, 5)).solved(), 16.0)


# --- The proximal point method of the second version


def _proximal_point(inner_steps: int) -> Finding:
    rows = []
    for step_size in (2.0, 8.0, 32.0):
        game = _cycle(0.05)
        rate = 0.5 / (1.0 + (0.3 / (0.05 + 1.0 / step_size)) ** 2)
        method = NashProx(step_size, inner_steps, rate)
        divergence = _watch(method, game, 60, "divergence")["divergence"].values[0]
        bound = divergence[0] * (1.0 + step_size * 0.05) ** -np.arange(61.0)
        rows.append({"λ": step_size, "KL at the end": divergence[-1], "ratio": _largest_ratio(divergence, bound)})
    table = pd.DataFrame(rows)
    worst = Estimate.exact(table["ratio"].max())
    check = Check("largest KL(π*‖π_k) / ((1+λβ)^(-k) KL(π*‖π_0)), λ = 2, 8, 32", at_most(1.0 + 1e-9), worst)
    return Finding([check], tables={"Proximal point steps": table})


@claim(
    statement=r"Self-play embedded in a proximal point method is stable where it is not on its own: solved to "
    r"accuracy, each step contracts the divergence by $1 + \lambda\beta$ for every $\lambda$",
    source="Abstract of the second version (Nash Prox)",
    evidence="measured",
)
def proximal_points_contract_at_any_length(budget: Budget) -> Finding:
    """Rock, paper, scissors at β = 0.05, with 1000 inner steps."""
    return _proximal_point(1000)


@proximal_points_contract_at_any_length.control
def self_play_without_the_proximal_point(budget: Budget) -> Finding:
    """One inner step."""
    return _proximal_point(1)


# --- Networks


def _answers(beta: float, samples: int) -> tuple[PreferenceGame, Array]:
    """Handwritten digits as prompts: the digit and its two successors beat all others, and each other in a cycle."""
    features, labels = dataset("digits")
    matrices = np.full((10, 10, 10), 0.5)
    for digit in range(10):
        best = [(digit + shift) % 10 for shift in range(3)]
        for winner in best:
            for loser in set(range(10)) - set(best):
                matrices[digit, winner, loser], matrices[digit, loser, winner] = 0.9, 0.1
        for winner, loser, chance in ((0, 1, 0.95), (1, 2, 0.75), (2, 0, 0.85)):
            matrices[digit, best[winner], best[loser]] = chance
            matrices[digit, best[loser], best[winner]] = 1.0 - chance
    game = PreferenceGame(matrices[labels[:samples]], beta)
    return game, jnp.asarray(features[:samples] / 4.0)


@functools.cache
def _prompts(seed: int) -> tuple[PreferenceGame, NetworkGame, list[Array]]:
    """The game, how a small network plays it, and the network's first parameters."""
    game, features = _answers(0.05, 256)
    key = jax.random.key(seed)
    params, rebuild = split_network(eqx.nn.MLP(features.shape[1], 10, 32, 1, key=key))

    def network(weights: Any, contexts: Array) -> Array:
        logits: Array = jax.vmap(rebuild(weights))(contexts)
        return logits

    return game, NetworkGame(network, features, game.log_reference, game.vote, game.regularisation), params


def _networks(budget: Budget, target: Mapping[str, Any]) -> Finding:
    game, prompts, params = _prompts(budget.seed)
    exploitability = jax.jit(jax.vmap(jax.vmap(game.exploitability)))
    steps, seeds = budget.pick(1500, 6000, 30_000), budget.pick(3, 5, 10)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    best: dict[str, NDArray[Any]] = {}
    rows = []
    for name, options in (("target network", target), ("self-play", {"step_size": np.inf, "target_rate": 1.0})):
        for rate in budget.pick((1e-2,), (3e-3, 1e-2, 3e-2), (1e-3, 3e-3, 1e-2, 3e-2)):
            trace = run(
                DeepNashMirrorProx(_adam(rate), 64, **options),
                prompts,
                params,
                steps=steps,
                seeds=range(10 * budget.seed, 10 * budget.seed + seeds),
                record="log_policy",
                points=25,
                spacing="linear",
                progress=False,
            )
            found = np.asarray(exploitability(trace["log_policy"].values))
            label = f"{name}, learning rate {rate:g}"
            Trace.from_arrays(trace["step"].values, {"exploitability": found}).plot(
                "exploitability", ax=axes, label=label
            )
            # The last fifth of the run: a single iterate of a stochastic method says little.
            late = found[:, -5:].mean(axis=1)
            rows.append({"method": name, "learning rate": rate, "exploitability": late.mean()})
            if name not in best or late.mean() < best[name].mean():
                best[name] = late
    start = float(game.exploitability(prompts.log_policy(params)))
    axes.axhline(start, color="k", linestyle="--", label="start")
    axes.set(xscale="linear", xlabel="votes / 64", ylabel="exploitability")
    axes.legend(fontsize="small")
    gain = np.log(best["self-play"] / best["target network"])
    checks = [
        Check("log of exploitability, self-play / target network", at_least(0.0), Estimate.mean(gain)),
        Check(
            "exploitability with a target network, of the start's",
            at_most(1.0),
            Estimate.mean(best["target network"] / start),
        ),
    ]
    return Finding(checks, tables={"Exploitability": pd.DataFrame(rows)}, figures={"Digits as prompts": figure})


@claim(
    statement=r"With a network as policy and a judge's votes, a slowly moving target network brings the exploitability "
    r"lower than self-play policy gradients do from as many votes",
    source="Practical implementation and its experiments, at the scale of a small network",
    evidence="measured",
)
def a_target_network_stabilises_self_play(budget: Budget) -> Finding:
    """A multilayer perceptron on 256 digits as prompts, ten answers and an intransitive judge."""
    return _networks(budget, {"target_rate": 0.01})


@a_target_network_stabilises_self_play.control
def a_target_that_never_lags(budget: Budget) -> Finding:
    """The target copies the online network after every step, so that its term has no gradient."""
    return _networks(budget, {"target_rate": 1.0})
