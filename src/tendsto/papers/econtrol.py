r"""Compressed gradients from clients that differ, with stochastic gradients, at the price of SGD without compression.

Classical error feedback stops at a distance that grows with how much clients differ; EF21 does not, but noise leaves a
floor that more clients do not lower. EControl feeds a share $\eta$ of the error back into the message that also teaches
the estimates. It has neither fault: the leading term of its rate is that of SGD, with the speed-up of $n$ clients.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from datetime import date
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Key, PyTree
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tendsto.evidence import Budget, Check, Estimate, Finding, Paper, at_most, between, claim, equal_to
from tendsto.federated import (
    EF14,
    ByLabel,
    ClientMemory,
    Clients,
    CompressedGradientMethod,
    CompressedSGD,
    Compressor,
    ControlState,
    Dithering,
    DoubleCompression,
    EControl,
    Exchange,
    FederatedQuadratic,
    IdealErrorFeedback,
    Identity,
    Natural,
    PowerOfTwo,
    RandK,
    ScaledSign,
    TopK,
    UnbiasedRandK,
    linear,
    linear_parameters,
    random_quadratics,
    split,
)
from tendsto.federated.optimizers import GradientStep
from tendsto.iteration import Scalar, Trace, run
from tendsto.problems import Noise, dataset

CARD = Paper(
    slug="econtrol",
    title="EControl: Fast Distributed Optimization with Compression and Error Control",
    authors=("Yuan Gao", "Rustem Islamov", "Sebastian U. Stich"),
    arxiv="2311.05645",
    date=date(2023, 11, 6),
    field="federated",
    method=(
        "federated.EControl",
        "federated.EF14",
        "federated.EF21Momentum",
        "federated.IdealErrorFeedback",
        "federated.DoubleCompression",
        "federated.CompressedSGD",
        "federated.compressed_gradients",
    ),
)


def _norm(problem: Any, state: ControlState) -> Array:
    del problem
    return jnp.asarray(jnp.linalg.norm(state.x))


def _iterate(problem: Any, state: ControlState) -> Array:
    del problem
    return jnp.asarray(state.x)


# ---- without memory ------------------------------------------------------------------------------------------------


def _three_clients() -> FederatedQuadratic:
    """Each client's gradient at $(1, 1, 1)$ is steepest along the coordinate in which the average ascends."""
    vectors = 2.0 - 5.0 * np.eye(3)
    hessians = 2 * np.einsum("ni,nj->nij", vectors, vectors) + np.eye(3) / 2
    return FederatedQuadratic(jnp.asarray(hessians), jnp.zeros((3, 3)))


def _with_and_without_memory(methods: Sequence[tuple[str, CompressedGradientMethod]]) -> Finding:
    problem, start, sizes = _three_clients(), jnp.ones(3), [0.01, 0.003, 0.001]
    naive = run(
        CompressedSGD(TopK(1), GradientStep(0.01)),
        problem,
        start,
        steps=50,
        record={"x": _iterate},
        points=range(50),
        grid={"server.step_size": sizes},
        progress=False,
    )
    exact = (1 + 11 * np.asarray(sizes)[:, None] / 6) ** naive["step"].values
    error = np.abs(naive["x"].values[:, 0] / exact[:, :, None] - 1).max()
    checks = [Check("naive compression over (1 + 11γ/6)^t, farthest from 1", at_most(1e-12), Estimate.exact(error))]
    traces = {}
    for name, method in methods:
        trace = run(method, problem, start, steps=4000, record={"norm": _norm}, progress=False)
        # The server's sum of messages keeps the rounding errors of its first terms.
        checks.append(Check(f"{name}: ‖x‖ after 4,000 rounds", at_most(1e-14), Estimate.exact(trace.final("norm")[0])))
        traces[name] = trace
    return Finding(checks, traces=traces)


@claim(
    statement=r"Three quadratics on which compressed gradients without memory ascend as $(1 + 11\gamma/6)^t$ at any "
    r"step size; EControl, EF21 and classical error feedback converge",
    source="Introduction, with the example of 2002.12410",
    evidence="measured",
)
def memory_is_needed(budget: Budget) -> Finding:
    """Top-1 of three coordinates; nothing is random."""
    del budget
    compressor, step = TopK(1), GradientStep(0.01)
    feedbacks = {"EControl, η = 0.05": 0.05, "EControl, η = 0.1": 0.1, "EControl, η = 0.3": 0.3, "EF21, η = 0": 0.0}
    controlled = [(name, EControl(compressor, step, feedback)) for name, feedback in feedbacks.items()]
    return _with_and_without_memory([*controlled, ("EF14", EF14(compressor, step))])


@memory_is_needed.control
def all_of_the_error(budget: Budget) -> Finding:
    """The same run of EControl with η = 1, three times the contraction."""
    del budget
    return _with_and_without_memory([("EControl, η = 1", EControl(TopK(1), GradientStep(0.01), 1.0))])


# ---- clients that differ -------------------------------------------------------------------------------------------


def _unequal(budget: Budget) -> FederatedQuadratic:
    return random_quadratics(budget.key, 10, 20, shift=0.1, spread=5.0)


def _floors(
    method: CompressedGradientMethod, problem: FederatedQuadratic, sizes: Sequence[float], steps: int
) -> tuple[NDArray[Any], Trace]:
    """The distance from the minimiser in the last 200 rounds, for each step size."""
    points = [*np.unique(np.geomspace(1, steps - 200, 60).astype(int)).tolist(), *range(steps - 199, steps + 1, 4)]
    trace = run(
        method,
        problem,
        jnp.zeros(20),
        steps=steps,
        record="distance",
        points=points,
        grid={"server.step_size": list(sizes)},
        progress=False,
    )
    return trace["distance"].values[:, 0, -50:].mean(axis=1), trace


def _stall(
    budget: Budget, problem: FederatedQuadratic, others: Sequence[tuple[str, CompressedGradientMethod]]
) -> Finding:
    steps, sizes = budget.pick(14_000, 20_000, 100_000), [0.02, 0.01, 0.005]
    classical, trace = _floors(EF14(TopK(2), GradientStep(0.01)), problem, sizes, steps)
    rows, traces = {"EF14": classical}, {"EF14": trace.sel(server_step_size=0.01)}
    checks = []
    for name, method in others:
        rows[name], trace = _floors(method, problem, sizes, steps)
        traces[name] = trace.sel(server_step_size=0.01)
        ratio = (rows[name] / classical).max()
        checks.append(Check(f"{name}: distance over that of EF14, largest", at_most(1e-9), Estimate.exact(ratio)))
    slope = np.polyfit(np.log(sizes), np.log(classical), 1)[0]
    checks.append(Check("EF14: slope of log distance in log γ", between(0.95, 1.05), Estimate.exact(slope)))
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name, trace in traces.items():
        trace.plot("distance", ax=axes, label=name)
    axes.set(xlabel="rounds", ylabel=r"$\|x_t - x^\star\|$")
    axes.legend(fontsize="small")
    table = pd.DataFrame(rows, index=pd.Index(sizes, name="step size")).reset_index()
    return Finding(checks, tables={f"Distance after {steps:,} rounds": table}, figures={"Clients that differ": figure})


@claim(
    statement=r"With exact gradients of clients that differ, classical error feedback stops at a distance in "
    r"proportion to $\gamma$; EControl converges",
    source="Sections 1 and 6",
    evidence="measured",
)
def classical_feedback_stalls_where_clients_differ(budget: Budget) -> Finding:
    """Ten random quadratics with minimisers of their own, top-2 of 20."""
    compressor = TopK(2)
    return _stall(
        budget,
        _unequal(budget),
        [
            ("EControl, η = 0.01", EControl(compressor, GradientStep(0.01), 0.01)),
            ("EF21, η = 0", EControl(compressor, GradientStep(0.01), 0.0)),
            ("EC-Ideal", IdealErrorFeedback(compressor, GradientStep(0.01))),
            ("double compression", DoubleCompression(compressor, GradientStep(0.01))),
        ],
    )


@classical_feedback_stalls_where_clients_differ.control
def clients_that_agree(budget: Budget) -> Finding:
    """The same ratio where all clients have the same function, so that classical error feedback converges too."""
    problem = _unequal(budget)
    same = FederatedQuadratic(
        jnp.broadcast_to(problem.hessians[0], problem.hessians.shape),
        jnp.broadcast_to(problem.linear[0], problem.linear.shape),
    )
    return _stall(budget, same, [("EControl, η = 0.01", EControl(TopK(2), GradientStep(0.01), 0.01))])


# ---- more clients, less noise --------------------------------------------------------------------------------------


class _Skewed(Noise):
    r"""One of three points, $\sqrt{3/10}$ times $(2, 0)$, $(0, 1)$ and $(-2, -1)$: mean zero and variance one."""

    sigma: Scalar = 1.0

    def sample(self, key: Key[Array, ""], template: Float[Array, " d"]) -> Float[Array, " d"]:
        points = math.sqrt(0.3) * jnp.asarray([[2.0, 0.0], [0.0, 1.0], [-2.0, -1.0]], template.dtype)
        return self.sigma * points[jax.random.randint(key, (), 0, 3)]


def _noise_floors(budget: Budget, clients: int, feedbacks: Sequence[float], sizes: Sequence[float]) -> NDArray[Any]:
    """The mean squared distance over the second half, by feedback, step size and seed."""
    problem = FederatedQuadratic(
        jnp.broadcast_to(jnp.eye(2), (clients, 2, 2)), jnp.zeros((clients, 2)), noise=_Skewed()
    )
    steps = budget.pick(25_000, 100_000, 400_000)
    trace = run(
        EControl(TopK(1), GradientStep(0.01), 0.1),
        problem,
        jnp.asarray([0.0, -0.01]),
        steps=steps,
        seeds=10,
        key=budget.key,
        record={"norm": _norm},
        points=range(steps // 2, steps, 25),
        grid={"feedback": list(feedbacks), "server.step_size": list(sizes)},
        progress=False,
    )
    return np.asarray((trace["norm"].values[..., 1:] ** 2).mean(axis=-1))


def _speed_up(budget: Budget, feedback: float, rival: float | None) -> Finding:
    few, many = budget.pick((2, 20), (10, 100), (10, 100))
    sizes = [0.01, 0.001]
    small = _noise_floors(budget, few, [feedback], sizes[:1])[0, 0]
    feedbacks = [feedback] if rival is None else [feedback, rival]
    floors = _noise_floors(budget, many, feedbacks, sizes)
    in_clients = np.log(floors[0, 0] / small) / math.log(many / few)
    decades = math.log(sizes[0] / sizes[1])
    sgd = [size / (many * (2 - size)) for size in sizes]
    name = f"η = {feedback:g}"
    checks = [
        Check(f"{name}: slope of log E‖x‖² in log n", between(-1.15, -0.85), Estimate.mean(in_clients)),
        Check(
            f"{name}: slope of log E‖x‖² in log γ",
            between(0.85, 1.15),
            Estimate.mean(np.log(floors[0, 0] / floors[0, 1]) / decades),
        ),
        Check(f"{name}: E‖x‖² over that of SGD", at_most(1.25), Estimate.mean(floors[0, 0] / sgd[0])),
    ]
    if rival is not None:
        # Beside its floor EF21 has the variance of SGD, which does fall with the step size.
        excess = np.log((floors[1, 0] - sgd[0]) / (floors[1, 1] - sgd[1])) / decades
        checks.append(
            Check("EF21: slope of log of E‖x‖² beyond that of SGD in log γ", between(-0.1, 0.1), Estimate.mean(excess))
        )
    names = [f"η = {each:g}" for each in feedbacks]
    table = pd.DataFrame(floors.mean(axis=-1).T, columns=names)
    table.insert(0, "SGD", sgd)
    table.insert(0, "step size", sizes)
    return Finding(checks, tables={f"Mean squared distance with {many} clients": table})


@claim(
    statement=r"The leading term of EControl's rate is that of SGD, $\sigma^2/n$ without $\delta$; EF21 keeps a floor "
    r"that neither more clients nor shorter steps lower",
    source="Theorems for the three classes of functions; the example is of 2305.15155",
    evidence="measured",
)
def noise_averages_out_over_clients(budget: Budget) -> Finding:
    """A skewed noise of three points on a quadratic in the plane; top-1 of two."""
    return _speed_up(budget, 0.1, 0.0)


@noise_averages_out_over_clients.control
def no_feedback(budget: Budget) -> Finding:
    """The same slopes with η = 0, which is EF21."""
    return _speed_up(budget, 0.0, None)


# ---- what is conserved ---------------------------------------------------------------------------------------------


class _ScaledError(EControl):
    """EControl whose error is scaled by the feedback when it is remembered, too."""

    def exchange(self, memory: ClientMemory, gradient: PyTree[Array], key: Key[Array, ""]) -> Exchange:
        scaled = memory._replace(error=self.feedback * memory.error)
        return EControl(self.compressor, self.server, 1.0).exchange(scaled, gradient, key)


def _conserved(budget: Budget, kind: type[EControl]) -> Finding:
    checks = []
    for compressor in (TopK(2), RandK(2), ScaledSign()):
        worst = []
        for key in jax.random.split(budget.key, 3):
            problem, step_size = random_quadratics(key, 10, 20, spread=5.0), 0.01
            start = jnp.ones(20)

            trace = run(
                kind(compressor, GradientStep(step_size), 0.05),
                problem,
                start,
                steps=300,
                record={"x": _iterate, "gradient": _gradient, "error": _mean_error},
                points=range(300),
                progress=False,
            )
            x, gradient, error = (trace[name].values[0] for name in ("x", "gradient", "error"))
            sums = np.cumsum(gradient, axis=0) - gradient
            worst.append(np.linalg.norm(x - np.asarray(start) + step_size * (sums - error), axis=1).max())
        name = f"{type(compressor).__name__}: largest deviation of the virtual iterate"
        checks.append(Check(name, at_most(1e-10), Estimate.exact(max(worst))))
    return Finding(checks)


def _gradient(problem: FederatedQuadratic, state: ControlState) -> Array:
    return jnp.asarray(problem.gradient(state.x))


def _mean_error(problem: FederatedQuadratic, state: ControlState) -> Array:
    return jnp.asarray(problem.average(state.memory.error))


@claim(
    statement=r"$x_t - \frac{\gamma}{n}\sum_i e_t^i$ follows SGD without compression exactly, whatever the compressor",
    source="Proofs, the virtual iterate",
    evidence="measured",
)
def the_virtual_iterate_is_that_of_sgd(budget: Budget) -> Finding:
    """Three compressors on three random problems of clients that differ."""
    return _conserved(budget, EControl)


@the_virtual_iterate_is_that_of_sgd.control
def feedback_in_the_error_too(budget: Budget) -> Finding:
    """The same identity where η scales the error that is remembered."""
    return _conserved(budget, _ScaledError)


# ---- contraction ---------------------------------------------------------------------------------------------------

_RANDOM = (RandK, Natural, Dithering)


def _contractions(budget: Budget, compressors: Sequence[Compressor]) -> Finding:
    dimension, draws = 16, 2000
    of_vectors, of_choice, of_measure = jax.random.split(budget.key, 3)
    gaussian = jax.random.normal(of_vectors, (budget.pick(1000, 5000, 20_000), dimension))
    # Where the bounds are attained: equal entries, a single one, entries between two powers of two.
    special = jnp.concatenate([jnp.ones((1, dimension)), jnp.eye(dimension)[:1], jnp.full((1, dimension), 4 / 3)])
    vectors = jnp.concatenate([gaussian, special, jnp.full((1, dimension), 2.0 - 1e-9)])
    checks = []
    for compressor in compressors:

        @jax.jit
        def lost(
            vector: Float[Array, " d"], key: Key[Array, ""], compressor: Compressor = compressor
        ) -> Float[Array, ""]:
            return jnp.sum((compressor(vector, key) - vector) ** 2) / jnp.sum(vector**2)

        over_keys = jax.vmap(lost, (None, 0))
        most = 1 - compressor.contraction(vectors[0])
        name = f"{type(compressor).__name__}: share of ‖v‖² that is lost at the worst of {len(vectors)} vectors"
        if isinstance(compressor, _RANDOM):
            shares = jax.vmap(over_keys, (0, None))(vectors, jax.random.split(of_choice, 32)).mean(axis=1)
            worst = vectors[int(jnp.argmax(shares))]
            # Random-k attains its bound at every vector, so that an interval needs room above it.
            found = Estimate.mean(np.asarray(over_keys(worst, jax.random.split(of_measure, draws))))
            checks.append(Check(name, at_most(most + 0.02), found))
        else:
            shares = jax.vmap(lost, (0, None))(vectors, of_choice)
            checks.append(Check(name, at_most(most * (1 + 1e-12) + 1e-15), Estimate.exact(shares.max())))
            if isinstance(compressor, TopK):
                attained = lost(special[0], of_choice)
                checks.append(Check("TopK: at equal entries", equal_to(most, relative=1e-12), Estimate.exact(attained)))
    return Finding(checks)


@claim(
    statement=r"The compressors are contractive: $\mathbb E\lVert C(v) - v\rVert^2 \le (1 - \delta)\lVert v\rVert^2$",
    source="Definition of a contractive compressor",
    evidence="measured",
)
def compressors_contract(budget: Budget) -> Finding:
    """Gaussian vectors and those at which the bounds are attained; random compressors by the mean of many draws."""
    return _contractions(budget, [Identity(), TopK(3), RandK(3), ScaledSign(), Natural(), PowerOfTwo(), Dithering(4)])


class _SaysItContracts(UnbiasedRandK):
    """Scaled random-k with the contraction of the unscaled one."""

    def contraction_of(self, dimension: int) -> float:
        return RandK(self.kept).contraction_of(dimension)


@compressors_contract.control
def unbiased_random_coordinates(budget: Budget) -> Finding:
    """The same share for random coordinates scaled to be unbiased, which loses more than all."""
    return _contractions(budget, [_SaysItContracts(3)])


# ---- bits ----------------------------------------------------------------------------------------------------------


def _bits_to_target(
    method: CompressedGradientMethod, problem: FederatedQuadratic, key: Any, sizes: Sequence[float], target: float
) -> tuple[list[float], float]:
    """Bits from the clients until the mean squared distance is `target`, for each step size; and bits a round."""
    trace = run(
        method,
        problem,
        jnp.zeros(20),
        steps=1500,
        seeds=1 if problem.noise is None else 8,
        key=key,
        record="distance",
        points=range(0, 1500, 5),
        grid={"server.step_size": list(sizes)},
        progress=False,
    )
    reached = (trace["distance"].values ** 2).mean(axis=1) <= target
    spent = trace["bits_up"].values[:, 0]
    first = [bits[np.argmax(row)] if row.any() else math.inf for row, bits in zip(reached, spent, strict=True)]
    return first, float(spent[0, 1] / 5)


def _bits(
    budget: Budget, compressor: Compressor, problem: FederatedQuadratic, sizes: Sequence[float], target: float
) -> tuple[pd.DataFrame, float, float]:
    """Bits of both methods; those of EControl over those of SGD, each at its best; those of EControl a round."""
    control = EControl(compressor, GradientStep(0.01), RandK(2).contraction_of(20) / 2, start="zero")
    ours, a_round = _bits_to_target(control, problem, budget.key, sizes, target)
    plain, _ = _bits_to_target(CompressedSGD(Identity(), GradientStep(0.01)), problem, budget.key, sizes, target)
    table = pd.DataFrame({"step size": sizes, "EControl": ours, "SGD": plain})
    return table, min(ours) / min(plain), a_round


def _noisy_bits(budget: Budget, compressor: Compressor) -> Finding:
    noisy = random_quadratics(budget.key, 10, 20, shift=0.1, spread=5.0, noise=30.0)
    table, ratio, a_round = _bits(budget, compressor, noisy, [0.0035, 0.005, 0.007, 0.01, 0.014, 0.02], 0.4)
    return Finding(
        [
            Check(
                "bits of EControl over bits of SGD, each at its best step size", at_most(0.25), Estimate.exact(ratio)
            ),
            Check("bits a round", equal_to(10 * 2 * (64 + 5)), Estimate.exact(a_round)),
        ],
        tables={"Bits from the clients to a mean squared distance of 0.4": table},
    )


@claim(
    statement=r"Where noise decides, EControl needs as many rounds as SGD: with top-2 of 20 it reaches a target with "
    r"at most a quarter of the bits",
    source="Leading term of the rates",
    evidence="measured",
)
def fewer_bits_to_a_target(budget: Budget) -> Finding:
    """Noisy quadratics of clients that differ, eight seeds; both methods at the best of six step sizes."""
    finding = _noisy_bits(budget, TopK(2))
    table, ratio, _ = _bits(budget, TopK(2), _unequal(budget), [0.04, 0.08, 0.16, 0.32, 0.64, 0.96], 1e-6)
    return dataclasses.replace(
        finding,
        tables={**finding.tables, "Exact gradients, to a squared distance of 1e-6": table},
        note=f"With exact gradients the saving is smaller: {ratio:.2f} times the bits of gradient descent, each at the "
        "best of six step sizes.",
    )


@fewer_bits_to_a_target.control
def no_compression(budget: Budget) -> Finding:
    """The same bits of EControl with messages in full."""
    return _noisy_bits(budget, Identity())


# ---- learning ------------------------------------------------------------------------------------------------------


_KEPT = 0.01


def _digits(budget: Budget) -> Clients:
    return split(dataset("digits", classes=range(5)), 5, ByLabel(1), seed=budget.seed)


def _blank(clients: Clients) -> dict[str, Array]:
    return linear_parameters(clients.features.shape[-1], 5)


def _losses(budget: Budget, method: CompressedGradientMethod, feedbacks: Sequence[float] = ()) -> NDArray[Any]:
    """Training losses at the end by seed, for each feedback (if there are any) at its best step size."""
    clients = _digits(budget)
    grid: dict[str, Any] = {"feedback": list(feedbacks)} if feedbacks else {}
    trace = run(
        method,
        clients.problem(linear, batch=4),
        _blank(clients),
        steps=budget.pick(1000, 10_000, 100_000),
        seeds=3,
        key=budget.key,
        record="objective",
        points=2,
        grid=grid | {"server.step_size": [0.1, 0.3]},
        progress=False,
    )
    losses = trace["objective"].values[..., -1]
    best = losses.mean(axis=-1).argmin(axis=-1)
    return np.asarray(np.take_along_axis(losses, best[..., None, None], axis=-2)[..., 0, :])


def _classical_loss(budget: Budget) -> NDArray[Any]:
    return _losses(budget, EF14(TopK(_KEPT), GradientStep(0.01)))


@claim(
    statement=r"On images dealt out by label with 1% of the coordinates and $\eta = \delta$, EControl ends at a "
    r"training loss no larger than EF21-SGD and classical error feedback",
    source="Section 6, learning; here softmax regression of small digits",
    evidence="measured",
)
def lower_loss_on_digits(budget: Budget) -> Finding:
    """Five clients with a digit each, batches of four, each method at the better of two step sizes."""
    contraction = TopK(_KEPT).contraction(_blank(_digits(budget)))
    feedbacks = [0.0, contraction]
    plain, controlled = _losses(budget, EControl(TopK(_KEPT), GradientStep(0.01), 0.1), feedbacks)
    classical = _classical_loss(budget)
    table = pd.DataFrame(
        [
            ("EF14", classical.mean()),
            (f"EControl, η = {contraction:.2g}", controlled.mean()),
            ("EF21-SGD", plain.mean()),
        ],
        columns=["method", "training loss"],
    )
    return Finding(
        [
            Check("loss over that of EF14", at_most(1), Estimate.mean(controlled / classical)),
            Check("loss over that of EF21-SGD", at_most(1), Estimate.mean(controlled / plain)),
        ],
        tables={"Training loss": table},
    )


@lower_loss_on_digits.control
def without_memory(budget: Budget) -> Finding:
    """The loss of compressed gradients without memory over that of classical error feedback."""
    naive, classical = _losses(budget, CompressedSGD(TopK(_KEPT), GradientStep(0.01))), _classical_loss(budget)
    return Finding([Check("loss over that of EF14", at_most(1), Estimate.mean(naive / classical))])
