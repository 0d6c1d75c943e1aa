r"""Particles that exchange nothing but function values, and whose consensus point walks like gradient descent.

In consensus-based optimisation particles drift to their mean, weighted by $e^{-\alpha E}$, with noise in proportion to
their distance from it. The paper shows that the path of that mean is a stochastic relaxation of gradient descent,
$x_k = x_{k-1} - \tau\nabla E(x_{k-1}) + g_k$ with $g_k$ small where time step, noise and $1/\alpha$ are and particles
are many: the scheme is close to consensus hopping, which samples afresh around the mean, and that to a proximal step.
The link is exact on a smoothed landscape (`EntropicEnvelope`), which is why barriers of the landscape itself do not
stop it. In the mean-field limit the particles reach the global minimiser at an exponential rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from tendsto.evidence import (
    Budget,
    Check,
    Estimate,
    Finding,
    Paper,
    Prediction,
    at_least,
    at_most,
    between,
    claim,
    equal_to,
)
from tendsto.iteration import Method, State, Trace, fit_power_law, run
from tendsto.optimize import (
    AnnealedLangevin,
    ConsensusBased,
    ConsensusHopping,
    EntropicEnvelope,
    InverseLogarithm,
)
from tendsto.problems import DiagonalQuadratic, GrandCanyon, Objective, Problem, Rastrigin

CARD = Paper(
    slug="cbo",
    title="Gradient is All You Need? How Consensus-Based Optimization can be Interpreted as a Stochastic Relaxation of "
    "Gradient Descent",
    authors=("Konstantin Riedl", "Timo Klock", "Carina Geldhauser", "Massimo Fornasier"),
    arxiv="2306.09778",
    date=date(2023, 6, 16),
    field="optimize",
    method=(
        "optimize.ConsensusBased",
        "optimize.ConsensusHopping",
        "optimize.consensus_based",
        "optimize.EntropicEnvelope",
        "optimize.AnnealedLangevin",
    ),
)


def _iterate(problem: Problem, state: State) -> Float[Array, " d"]:
    del problem
    x: Float[Array, " d"] = state.x
    return x


# --- The identity: a consensus point is a gradient step on the envelope

_SETTINGS = ((1.3, 2.0, 0.3), (1.3, 20.0, 0.3), (1.3, 50.0, 0.5), (-2.2, 5.0, 1.0))


def _identity(gradient_of: Callable[[EntropicEnvelope], Problem], nodes: int) -> Finding:
    """|consensus point − gradient step of size αs²| on the one-dimensional Rastrigin function."""
    problem, rows, checks = Rastrigin(jnp.zeros(1)), [], []
    for x, inverse_temperature, spread in _SETTINGS:
        envelope = EntropicEnvelope.quadrature(problem, inverse_temperature, spread, nodes=nodes)
        point = jnp.array([x])
        consensus = float(eqx.filter_jit(envelope.proximal_step)(point)[0])
        step = x - float(envelope.step_size * eqx.filter_jit(gradient_of(envelope).gradient)(point)[0])
        label = f"|consensus point − gradient step|, x = {x:g}, α = {inverse_temperature:g}, s = {spread:g}"
        checks.append(Check(label, at_most(1e-9), Estimate.exact(abs(consensus - step))))
        rows.append((x, inverse_temperature, spread, consensus, step))
    table = pd.DataFrame(rows, columns=["x", "α", "s", "consensus point", "gradient step"])
    return Finding(checks, tables={"Consensus points and gradient steps": table})


@claim(
    statement=r"The consensus point of a Gaussian cloud $\mathcal N(x, s^2)$ is "
    r"$x - \alpha s^2\,\nabla E_{\alpha,s}(x)$ with "
    r"$E_{\alpha,s}(x) = -\frac1\alpha\log\mathbb{E}\,e^{-\alpha E(x + sZ)}$",
    source="The step from consensus hopping to the proximal scheme, sharpened to an identity (Tweedie's formula)",
    evidence="measured",
)
def consensus_is_a_step_on_the_envelope(budget: Budget) -> Finding:
    """Both sides by the trapezoid rule, the gradient by differentiating the logarithm of the mean."""
    finding = _identity(lambda envelope: envelope, budget.pick(200_001, 400_001, 400_001))
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    grid = jnp.linspace(-3.0, 3.0, 401)[:, None]
    axes.plot(grid, jax.vmap(Rastrigin(jnp.zeros(1)).objective)(grid), color="k", lw=1, label="$E$")
    for inverse_temperature, spread in ((20.0, 0.1), (20.0, 0.3), (2.0, 0.3), (2.0, 0.6)):
        envelope = EntropicEnvelope.quadrature(Rastrigin(jnp.zeros(1)), inverse_temperature, spread, nodes=2001)
        values = jax.lax.map(envelope.objective, grid)
        axes.plot(grid, values, label=f"$E_{{\\alpha,s}}$, α = {inverse_temperature:g}, s = {spread:g}")
    axes.set(xlabel="$x$", ylabel="height")
    axes.legend(fontsize="small")
    return Finding(finding.checks, tables=finding.tables, figures={"What the particles see": figure})


@consensus_is_a_step_on_the_envelope.control
def step_on_the_landscape_itself(budget: Budget) -> Finding:
    """The same distance from a gradient step on E, not smoothed."""
    return _identity(lambda envelope: envelope.problem, 20_001)


# --- Consensus hopping on a quadratic is a proximal step, with a Monte-Carlo error

_HESSIAN, _LINEAR = jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([1.0, -1.0])


def _quadratic(x: Float[Array, " 2"]) -> Float[Array, ""]:
    return 0.5 * x @ _HESSIAN @ x - _LINEAR @ x


def _proximal_error(budget: Budget, step_size: Callable[[float, float], float]) -> Finding:
    """The distance of one step from the proximal point of this step size, by the number of particles."""
    inverse_temperature, spread, x = 5.0, 0.4, jnp.array([1.5, -0.5])
    tau = step_size(inverse_temperature, spread)
    proximal = jnp.linalg.solve(jnp.eye(2) + tau * _HESSIAN, x + tau * _LINEAR)
    sizes = [500, 4000, 32_000, *budget.pick([], [256_000], [256_000, 1_000_000])]
    squares, effective = [], []
    for size in sizes:
        method = ConsensusHopping(size, inverse_temperature, spread)
        trace = run(
            method, Objective(_quadratic), x, steps=1, seeds=budget.pick(300, 300, 1000), key=budget.key, progress=False
        )
        squares.append(np.sum(np.asarray(trace.x - proximal) ** 2, axis=1))
        effective.append(float(trace.state.effective_size.mean()))
    errors = np.array(squares).T
    fit = fit_power_law(sizes, errors, window=(sizes[0], sizes[-1]))
    slope = Estimate(fit.value / 2, fit.low / 2, fit.high / 2, fit.method)
    rms = np.sqrt(errors.mean(axis=0))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(sizes, rms, "o-", label=f"distance from the proximal point, τ = {tau:g}")
    axes.plot(sizes, rms[0] * np.sqrt(sizes[0] / np.array(sizes)), "k--", label="$N^{-1/2}$")
    axes.set(xscale="log", yscale="log", xlabel="particles $N$", ylabel="root mean square distance")
    axes.legend()
    table = pd.DataFrame({"particles": sizes, "rms distance": rms, "effective sample size": effective})
    return Finding(
        [Check("exponent of the rms distance in N", equal_to(-0.5, absolute=0.06), slope)],
        tables={"Distance from the proximal point": table},
        figures={"Monte-Carlo rate": figure},
    )


@claim(
    statement=r"On a quadratic a step of consensus hopping is the proximal step of size $\tau = \alpha s^2$ up to an "
    r"error $O(N^{-1/2})$",
    source="The main theorem, its term $N^{-1/2}$",
    evidence="measured",
)
def hopping_is_a_proximal_step(budget: Budget) -> Finding:
    """The exponent fitted over N; the proximal point is known in closed form."""
    return _proximal_error(budget, lambda inverse_temperature, spread: inverse_temperature * spread**2)


@hopping_is_a_proximal_step.control
def twice_the_step_size(budget: Budget) -> Finding:
    """The same exponent of the distance from the proximal point of size 2αs²."""
    return _proximal_error(budget, lambda inverse_temperature, spread: 2.0 * inverse_temperature * spread**2)


@hopping_is_a_proximal_step.control
def step_size_without_the_temperature(budget: Budget) -> Finding:
    """The same exponent of the distance from the proximal point of size s²."""
    return _proximal_error(budget, lambda _, spread: spread**2)


# --- Global against local, on the landscape of the figures

_START, _CLOSE = (8.0, 8.0), 0.5
_CBO = ConsensusBased(
    particles=200,
    inverse_temperature=100.0,
    drift=1.0,
    noise_strength=1.6,
    time_step=0.01,
    noise="isotropic",
    initial_spread=0.5,
)


def _share(trace: Trace, problem: Problem) -> Estimate:
    """The share of runs that end within 0.5 of the minimiser, exact for a deterministic method's only run."""
    distance = np.linalg.norm(np.asarray(trace.x - problem.minimiser), axis=1)
    reached = int(np.sum(distance < _CLOSE))
    if len(distance) == 1:
        return Estimate.exact(reached)
    interval = stats.binomtest(reached, len(distance)).proportion_ci()
    share = reached / len(distance)
    return Estimate(share, min(interval.low, share), max(interval.high, share), f"95% exact, {len(distance)} runs")


Scheme = tuple[Method[Any, Any], int, Prediction, int]


def _success(budget: Budget, problem: Problem, schemes: Mapping[str, Scheme]) -> tuple[Finding, dict[str, Trace]]:
    """The share of successes of each scheme, and its trajectories."""
    checks, traces = [], {}
    for name, (method, steps, predicted, runs) in schemes.items():
        traces[name] = run(
            method,
            problem,
            jnp.array(_START),
            steps=steps,
            seeds=runs,
            key=budget.key,
            record={"x": _iterate},
            points=250,
            spacing="linear",
            progress=False,
        )
        checks.append(Check(f"share of runs at the minimiser, {name}", predicted, _share(traces[name], problem)))
    rows = []
    for (name, trace), check in zip(traces.items(), checks, strict=True):
        height = float(np.median(jax.vmap(problem.objective)(trace.x)))
        rows.append((name, len(trace["seed"]), check.measured.value, height))
    table = pd.DataFrame(rows, columns=["scheme", "runs", "share at the minimiser", "median final height"])
    return Finding(checks, tables={"Where the runs end": table}), traces


def _schemes(budget: Budget) -> dict[str, Scheme]:
    runs = budget.pick(200, 1000, 5000)
    return {
        "consensus-based": (_CBO, 250, at_least(0.95), runs),
        "consensus hopping, s = 0.7": (ConsensusHopping(200, 100.0, 0.7), 250, at_least(0.9), runs),
        "gradient descent": (AnnealedLangevin(0.001), 10_000, equal_to(0), 1),
        "annealed Langevin, σ = 10": (
            AnnealedLangevin(0.001, InverseLogarithm(10.0)),
            10_000,
            between(0.05, 0.9),
            runs,
        ),
        "consensus hopping, s = 0.4": (ConsensusHopping(200, 100.0, 0.4), 250, at_most(0.05), runs),
    }


def _canyon(axes: Axes, problem: GrandCanyon) -> None:
    first, second = np.meshgrid(np.linspace(-4.0, 10.5, 100), np.linspace(-5.0, 10.0, 100))
    points = jnp.stack([jnp.asarray(first), jnp.asarray(second)], axis=-1)
    heights = np.asarray(jax.vmap(jax.vmap(problem.objective))(points))
    axes.contour(first, second, heights, levels=np.linspace(0.0, 60.0, 9), colors="grey", linewidths=0.5, alpha=0.5)


@claim(
    statement="From one start on a landscape with a wall and ripples, consensus-based optimisation and consensus "
    "hopping find the global minimiser; gradient descent is trapped, annealed Langevin dynamics depends on its noise",
    source="Figures 1b and 2",
    evidence="measured",
)
def particles_find_the_global_minimiser(budget: Budget) -> Finding:
    """The share of runs that end within 0.5 of the minimiser, for the five settings of the figures."""
    problem = GrandCanyon.noisy()
    finding, traces = _success(budget, problem, _schemes(budget))
    figure = Figure(figsize=(9, 8), layout="constrained")
    for axes, (name, trace) in zip(figure.subplots(2, 2).ravel(), traces.items(), strict=False):
        _canyon(axes, problem)
        for path in trace["x"].values[:8]:
            axes.plot(path[:, 0], path[:, 1], lw=0.8, alpha=0.7)
        axes.plot(*_START, "k^")
        axes.plot(0.0, 0.0, "k*", ms=12)
        axes.set(title=name, xlim=(-4.0, 10.5), ylim=(-5.0, 10.0))
    rate = _CBO.mean_field_rate(2)
    note = (
        f"The setting of the figure has 2λ − dσ² = {rate:.2f}, so the mean-field theorem does not cover it, and "
        f"λΔt = {float(_CBO.drift * _CBO.time_step):g}, far from the 1 at which it would be consensus hopping."
    )
    return Finding(finding.checks, finding.tables, {"Trajectories on the grand canyon": figure}, note=note)


@particles_find_the_global_minimiser.control
def too_little_noise(budget: Budget) -> Finding:
    """The same shares of the particle methods with a noise of 0.1 and a spread of 0.4."""
    quiet = ConsensusBased(200, 100.0, 1.0, 0.1, 0.01, "isotropic", 0.5)
    schemes: dict[str, Scheme] = {
        "consensus-based": (quiet, 250, at_least(0.95), 200),
        "consensus hopping": (ConsensusHopping(200, 100.0, 0.4), 250, at_least(0.9), 200),
    }
    return _success(budget, GrandCanyon.noisy(), schemes)[0]


@particles_find_the_global_minimiser.control
def a_convex_bowl(budget: Budget) -> Finding:
    """The same share of gradient descent where nothing can trap it."""
    schemes: dict[str, Scheme] = {"gradient descent": (AnnealedLangevin(0.001), 10_000, equal_to(0), 1)}
    return _success(budget, DiagonalQuadratic(jnp.full(2, 0.8)), schemes)[0]


# --- The mean-field rate


def _energy(problem: Problem, state: Any) -> Float[Array, ""]:
    r"""$\frac1{2N}\sum_i \lVert X^i - x^\star\rVert^2$."""
    return 0.5 * jnp.mean(jnp.sum((state.particles - problem.minimiser) ** 2, axis=-1))


def _decay(budget: Budget, settings: Sequence[tuple[ConsensusBased, int]], promised: float | None = None) -> Finding:
    """The fitted rate of the energy over t in [0.2, 2] against the theorem's (or what is `promised` instead)."""
    checks, rows, curves = [], [], []
    for method, dimension in settings:
        trace = run(
            method,
            Rastrigin(jnp.zeros(dimension)),
            jnp.full(dimension, 2.0),
            steps=200,
            seeds=budget.pick(4, 8, 20),
            key=budget.key,
            record={"energy": _energy},
            points=40,
            spacing="linear",
            progress=False,
        )
        fit = trace.rate("energy", kind="linear", window=(20, 200))
        time_step = float(method.time_step)
        rate, low, high = (-np.log(value) / time_step for value in (fit.value, fit.high, fit.low))
        predicted = method.mean_field_rate(dimension) if promised is None else promised
        name = f"{method.noise}, d = {dimension}, σ = {float(method.noise_strength):g}"  # type: ignore[arg-type]
        checks.append(Check(f"rate, {name}", equal_to(predicted, relative=0.03), Estimate(rate, low, high, fit.method)))
        rows.append((method.noise, dimension, method.noise_strength, predicted, rate, low, high))
        curves.append((name, trace["step"].values * time_step, trace["energy"].values.mean(axis=0), predicted))
    table = pd.DataFrame(rows, columns=["noise", "d", "σ", "theorem", "measured", "low", "high"])
    return Finding(checks, tables={"Rates": table}, figures={"Towards the minimiser": _decay_figure(curves)})


def _decay_figure(curves: Sequence[tuple[str, NDArray[Any], NDArray[Any], float]]) -> Figure:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name, times, energies, rate in curves:
        (line,) = axes.plot(times, energies / energies[0], label=f"{name}")
        axes.plot(times, np.exp(-rate * times), "--", color=line.get_color(), lw=1)
    axes.set(yscale="log", xlabel="time $t = k\\,\\Delta t$", ylabel="energy / energy at the start (dashed: theorem)")
    axes.legend(fontsize="small")
    return figure


def _mean_field(noise: Any, sigma: float, particles: int = 20_000) -> ConsensusBased:
    return ConsensusBased(particles, 1e15, 1.0, sigma, 0.01, noise, 2.0)


@claim(
    statement=r"In the mean-field limit, for large $\alpha$, $\frac12\int\lVert x - x^\star\rVert^2 d\rho_t$ decays at "
    r"rate $2\lambda - d\sigma^2$ with isotropic and $2\lambda - \sigma^2$ with anisotropic noise",
    source="Theorem of Fornasier, Klock and Riedl that the paper builds on",
    evidence="measured",
)
def energy_decays_at_the_mean_field_rate(budget: Budget) -> Finding:
    """20,000 particles on the Rastrigin function from a cloud around (2, …, 2); 16 dimensions are only tabulated."""
    finding = _decay(budget, [(_mean_field("isotropic", 0.3), 4), (_mean_field("anisotropic", 0.5), 2)])
    if budget.name == "quick":
        return finding
    beyond = _decay(budget, [(_mean_field("isotropic", 0.3), 16), (_mean_field("anisotropic", 0.3), 16)])
    tables = {**finding.tables, "Rates in 16 dimensions, where 20,000 particles are too few": beyond.tables["Rates"]}
    return Finding(finding.checks, tables=tables, figures=finding.figures)


@energy_decays_at_the_mean_field_rate.control
def noise_beyond_the_condition(budget: Budget) -> Finding:
    """The same rate, as promised for σ = 0.3, with σ = 0.9, where dσ² exceeds 2λ."""
    promised = _mean_field("isotropic", 0.3).mean_field_rate(4)
    return _decay(budget, [(_mean_field("isotropic", 0.9), 4)], promised)


@energy_decays_at_the_mean_field_rate.control
def four_particles(budget: Budget) -> Finding:
    """The same rate with four particles, far from the mean field."""
    return _decay(budget, [(_mean_field("isotropic", 0.3, particles=4), 4)])


# --- Hops point along the smoothed gradient


def _hops(budget: Budget) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Random points, the hops from them, and the descent directions of the envelope and of the landscape."""
    problem, points = Rastrigin(jnp.zeros(2)), budget.pick(50, 200, 500)
    envelope = EntropicEnvelope.quadrature(problem, 2.0, 0.3, dimension=2, nodes=301, radius=8.0)
    starts = jax.random.uniform(budget.key, (points, 2), minval=-2.5, maxval=2.5)
    method = ConsensusHopping(100_000, 2.0, 0.3)
    keys = jax.random.split(jax.random.fold_in(budget.key, 1), points)

    @jax.jit
    def hop(pair: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        start, key = pair
        after = method.step(problem, method.init(problem, start, key), key)
        return after.x - start, -envelope.gradient(start), -problem.gradient(start)

    hops, smoothed, raw = jax.lax.map(hop, (starts, keys))
    return np.asarray(starts), np.asarray(hops), np.asarray(smoothed), np.asarray(raw)


def _cosine_checks(hops: NDArray[Any], directions: NDArray[Any]) -> list[Check]:
    cosines = np.sum(hops * directions, axis=1) / np.linalg.norm(hops, axis=1) / np.linalg.norm(directions, axis=1)
    return [
        Check("cosine of hop and descent direction, median", at_least(0.99), Estimate.exact(np.median(cosines))),
        Check("cosine of hop and descent direction, smallest", at_least(0.95), Estimate.exact(cosines.min())),
    ]


@claim(
    statement=r"Increments of consensus hopping point along the negative gradient of the smoothed landscape "
    r"$E_{\alpha,s}$, although only values of $E$ are used",
    source="The interpretation in the title",
    evidence="measured",
)
def hops_follow_the_smoothed_gradient(budget: Budget) -> Finding:
    """Cosines at random points of the two-dimensional Rastrigin function; the gradient by quadrature."""
    starts, hops, smoothed, raw = _hops(budget)
    ratio = np.linalg.norm(hops, axis=1) / np.linalg.norm(2.0 * 0.3**2 * smoothed, axis=1)
    length = Check(
        "length of hop / (τ · gradient), median", equal_to(1.0, relative=0.02), Estimate.exact(np.median(ratio))
    )
    figure = Figure(figsize=(6.4, 6), layout="constrained")
    axes = figure.subplots()
    first, second = np.meshgrid(*[np.linspace(-3.0, 3.0, 121)] * 2)
    heights = first**2 + second**2 + 2.5 * (2.0 - np.cos(2 * np.pi * first) - np.cos(2 * np.pi * second))
    axes.contourf(first, second, heights, levels=20, alpha=0.25)
    for arrows, colour, label in (
        (hops, "tab:blue", "hop"),
        (smoothed, "tab:orange", r"$-\nabla E_{\alpha,s}$"),
        (raw, "tab:red", r"$-\nabla E$"),
    ):
        unit = arrows / np.linalg.norm(arrows, axis=1, keepdims=True)
        axes.quiver(*starts.T, *unit.T, color=colour, label=label, scale=20, width=0.004, alpha=0.8)
    axes.set(xlabel="$x_1$", ylabel="$x_2$")
    figure.legend(loc="outside upper right", ncols=3)
    return Finding([*_cosine_checks(hops, smoothed), length], figures={"Hops and gradients (directions)": figure})


@hops_follow_the_smoothed_gradient.control
def gradient_of_the_landscape(budget: Budget) -> Finding:
    """The same cosines with the gradient of E itself."""
    _, hops, _, raw = _hops(budget)
    return Finding(_cosine_checks(hops, raw))


# --- Invariances


def _path(method: ConsensusBased, problem: Problem, cloud: Array, increments: Array) -> Float[Array, "steps d"]:
    """The consensus points of a run with given increments."""

    def advance(state: Any, increment: Array) -> tuple[Any, Array]:
        after = method.advance(problem, state, increment)
        return after, after.x

    first = method.init(problem, cloud, jax.random.key(0))
    path: Float[Array, "steps d"] = jax.jit(lambda: jax.lax.scan(advance, first, increments)[1])()
    return path


def _invariance(budget: Budget, noise: Any) -> Finding:
    """How far runs with transformed problem, particles and increments are from the transformed run."""
    steps, dimension = budget.pick(100, 500, 2000), 3
    keys = jax.random.split(budget.key, 4)
    method = ConsensusBased(50, 30.0, 1.0, 0.7, 0.05, noise)
    problem = Rastrigin(jnp.zeros(dimension))
    cloud = 2.0 + jax.random.normal(keys[0], (50, dimension))
    increments = jax.random.normal(keys[1], (steps, 50, dimension))
    shift = 3.0 * jax.random.normal(keys[2], (dimension,))
    rotation = jnp.linalg.qr(jax.random.normal(keys[3], (dimension, dimension)))[0]
    reference = _path(method, problem, cloud, increments)
    shifted, turned, raised = (
        Objective(lambda x: problem.objective(x - shift)),
        Objective(lambda x: problem.objective(x @ rotation)),
        Objective(lambda x: problem.objective(x) + 7.0),
    )
    turn = rotation.T
    runs = {
        "constant added": (_path(method, raised, cloud, increments), reference),
        "space translated": (_path(method, shifted, cloud + shift, increments), reference + shift),
        "space rotated": (_path(method, turned, cloud @ turn, increments @ turn), reference @ turn),
    }
    checks = [
        Check(f"largest difference of trajectories, {name}", at_most(1e-8), Estimate.exact(jnp.abs(one - two).max()))
        for name, (one, two) in runs.items()
    ]
    return Finding(checks)


@claim(
    statement="Adding a constant to the objective, and translating or rotating the space, leaves the law of "
    "consensus-based optimisation with isotropic noise unchanged",
    source="Definition of the method: weights depend on differences of values, noise on the norm of a difference",
    evidence="measured",
)
def isotropic_law_is_invariant(budget: Budget) -> Finding:
    """Run for run, with the increments rotated too, which leaves their law unchanged."""
    return _invariance(budget, "isotropic")


@isotropic_law_is_invariant.control
def anisotropic_noise(budget: Budget) -> Finding:
    """The same differences with noise along the axes, which a rotation moves."""
    return _invariance(budget, "anisotropic")
