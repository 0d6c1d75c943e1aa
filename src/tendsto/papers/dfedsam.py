r"""Federated learning without a server: sharpness-aware local steps, then one or several gossip steps with neighbours.

Clients on a graph with gossip matrix $W$ take $K$ local steps, each along the gradient at a point uphill, and average
their models with their neighbours' $Q$ times. With $\lambda$ the mixing of $W$, after $T$ rounds the mean squared
gradient at the mean of the models is $O(1/\sqrt{KT} + 1/T + 1/(K^{1/2}T^{3/2}(1-\lambda)^2))$ for $Q = 1$, and several
gossip steps replace $\lambda$ by $\lambda^Q$ there. Gossip leaves the mean where it is and shrinks what the models
disagree by $\lambda^Q$, which bounds their consensus distance by that of the local displacements.
"""

from __future__ import annotations

import dataclasses
import math
from datetime import date
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Key, PyTree
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

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
from tendsto.federated import (
    DFedAvg,
    DFedSAM,
    Dirichlet,
    FedAvg,
    FederatedQuadratic,
    Federation,
    GossipState,
    Topology,
    accuracy_on,
    consensus_distance,
    each_model,
    fedsam,
    largest_curvature,
    mlp,
    mlp_parameters,
    split,
)
from tendsto.federated.averaging import ClientGradient
from tendsto.iteration import Method, fit_power_law, run
from tendsto.problems import Gaussian, dataset

CARD = Paper(
    slug="dfedsam",
    title="Improving the Model Consistency of Decentralized Federated Learning",
    authors=(
        "Yifan Shi",
        "Li Shen",
        "Kang Wei",
        "Yan Sun",
        "Bo Yuan",
        "Xueqian Wang",
        "Dacheng Tao",
    ),
    arxiv="2302.04083",
    date=date(2023, 2, 8),
    field="federated",
    method=("federated.DFedSAM", "federated.DFedAvg", "federated.Topology", "federated.consensus_distance"),
)

_CLIENTS, _DIMENSION = 16, 10


def _quadratics(seed: int, noise: float) -> FederatedQuadratic:
    """Sixteen quadratics with minimisers $3z_i$; `noise` is the deviation of each entry of a stochastic gradient."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((_CLIENTS, 12, _DIMENSION))
    hessians = np.einsum("nmi,nmj->nij", factors, factors) / 12.0
    linear = np.einsum("nij,nj->ni", hessians, 3.0 * rng.standard_normal((_CLIENTS, _DIMENSION)))
    return FederatedQuadratic(
        jnp.asarray(hessians), jnp.asarray(linear), noise=Gaussian(noise * math.sqrt(_DIMENSION)) if noise else None
    )


def _alike(problem: FederatedQuadratic) -> FederatedQuadratic:
    """All clients have the function of the first."""
    hessians, linear = (jnp.broadcast_to(array[:1], array.shape) for array in (problem.hessians, problem.linear))
    return FederatedQuadratic(hessians, linear)


def _squared_gradient(problem: Federation, state: GossipState) -> Array:
    return problem.squared_gradient(state.x)


def _before(problem: Federation, state: GossipState) -> Array:
    del problem
    return state.disagreement


def _drift(problem: Federation, state: GossipState) -> Array:
    del problem
    return state.drift


def _mean(problem: Federation, state: GossipState) -> Array:
    del problem
    return jnp.asarray(state.x)


def _models(problem: Federation, state: GossipState) -> Array:
    del problem
    return jnp.asarray(state.models)


# ---- gossip keeps the mean and shrinks disagreement ----------------------------------------------------------------


def _topologies(seed: int) -> dict[str, Topology]:
    chords = np.triu(np.random.default_rng(seed).random((_CLIENTS, _CLIENTS)) < 0.15, 1)
    graph = chords | chords.T | (np.asarray(Topology.ring(_CLIENTS).matrices[0]) > 0)
    return {
        "ring": Topology.ring(_CLIENTS),
        "torus": Topology.torus(4, 4),
        "exponential": Topology.exponential(_CLIENTS),
        "random graph": Topology.metropolis(graph),
    }


def _invariants(budget: Budget, topologies: dict[str, Topology]) -> Finding:
    """How far gossip moves the mean, and what it leaves of the disagreement, over the rounds of a noisy run."""
    problem, powers, rows = _quadratics(budget.seed, 0.1), [1, 2, 4], []
    start, rounds = jnp.zeros(_DIMENSION), budget.pick(30, 300, 3000)
    everyone, key = Topology.complete(_CLIENTS), jax.random.fold_in(budget.key, 1)
    one_round = eqx.filter_jit(lambda method, state: method.step(problem, state, key).x)
    record = {"mean": _mean, "models": _models, "after": consensus_distance, "before": _before}
    for name, topology in topologies.items():
        method = DFedSAM(0.05, topology, steps=3)
        trace = run(
            method, problem, start, steps=rounds, key=budget.key, record=record, points=range(rounds),
            grid={"gossip_steps": powers},
        )  # fmt: skip
        # Complete averaging of what the same round's local steps gave is the mean before the gossip.
        for index, power in enumerate(powers):
            models = jnp.asarray(trace["models"].values[index, 0, -1])
            state = dataclasses.replace(method.init(problem, start, key), models=models)
            moved = [
                one_round(dataclasses.replace(method, topology=each, gossip_steps=power), state)
                for each in (topology, everyone)
            ]
            values, vectors = np.linalg.eigh(np.asarray(topology.matrices[0]))
            slow = jnp.asarray(vectors[:, np.argsort(np.abs(values))[-2]])
            mixed = slow
            for _ in range(power):
                mixed = topology.gossip(mixed)
            after, before = (trace[each].values[index, 0, 1:] for each in ("after", "before"))
            rows.append(
                {
                    "topology": name,
                    "gossip steps": power,
                    "mean moved": float(jnp.abs(moved[0] - moved[1]).max()),
                    "bound": topology.mixing**power,
                    "largest ratio": float(np.sqrt(after / before).max()),
                    "slowest mode": float(jnp.linalg.norm(mixed - mixed.mean())),
                }
            )
    table = pd.DataFrame(rows)
    return Finding(
        [
            Check("largest move of the mean by gossip", at_most(1e-12), Estimate.exact(table["mean moved"].max())),
            Check(
                "disagreement left by gossip over λ^Q, largest",
                at_most(1.0 + 1e-10),
                Estimate.exact((table["largest ratio"] / table["bound"]).max()),
            ),
            Check(
                "the same of the slowest mode, smallest",
                equal_to(1.0, absolute=1e-10),
                Estimate.exact((table["slowest mode"] / table["bound"]).min()),
            ),
        ],
        tables={"Gossip": table},
    )


@claim(
    statement=r"Gossip leaves the mean of the models where it is and shrinks their disagreement by $\lambda^Q$, "
    r"with equality for the slowest mode of $W$",
    source="Lemma on the gossip matrix",
    evidence="measured",
)
def gossip_keeps_the_mean_and_contracts(budget: Budget) -> Finding:
    """Every round of noisy runs on four topologies with one, two and four gossip steps."""
    return _invariants(budget, _topologies(budget.seed))


@gossip_keeps_the_mean_and_contracts.control
def weights_by_sample_numbers(budget: Budget) -> Finding:
    """The same on a ring whose neighbours count by unequal sample numbers: rows sum to one, columns do not."""
    ring = Topology.ring(_CLIENTS)
    weighted = np.asarray(ring.matrices[0]) * np.arange(1, _CLIENTS + 1)
    matrices = jnp.asarray(weighted / weighted.sum(axis=1, keepdims=True))[None]
    # What the constructor refuses.
    return _invariants(budget, {"weighted ring": eqx.tree_at(lambda topology: topology.matrices, ring, matrices)})


# ---- several gossip steps ------------------------------------------------------------------------------------------

_POWERS = [1, 2, 4, 8, 16]


def _consensus(budget: Budget, problem: FederatedQuadratic) -> Finding:
    """Steady consensus distances on a ring by the number of gossip steps, against the bound from the drift."""
    topology, rounds = Topology.ring(_CLIENTS), budget.pick(600, 600, 6000)
    method = DFedSAM(0.02, topology, steps=5)
    record = {"consensus": consensus_distance, "drift": _drift, "squared": _squared_gradient}
    trace = run(
        method, problem, jnp.zeros(_DIMENSION), steps=rounds, seeds=budget.pick(2, 10, 10), key=budget.key,
        record=record, points=range(rounds), grid={"gossip_steps": _POWERS},
    )  # fmt: skip
    tail = {name: trace[name].values[:, :, -100:].mean(axis=(1, 2)) for name in record}
    largest = np.sqrt(trace["consensus"].values.max(axis=2)).max(axis=1)
    drift = np.sqrt(trace["drift"].values.max(axis=2)).max(axis=1)
    factors = topology.mixing ** np.asarray(_POWERS)
    bound = factors / (1 - factors) * drift
    falls = max(float((tail[name][1:] / tail[name][:-1]).max()) for name in ("consensus", "squared"))
    table = pd.DataFrame(
        {"gossip steps": _POWERS, "consensus distance": tail["consensus"], "squared gradient": tail["squared"]}
        | {"largest, root": largest, "bound on it": bound}
    )
    figure = Figure(figsize=(7.6, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, power in enumerate(_POWERS):
        curve = trace["consensus"].values[index].mean(axis=0)
        left.plot(np.arange(1, curve.size), curve[1:], label=f"Q = {power}")
    left.set(xscale="log", yscale="log", xlabel="round", ylabel="consensus distance")
    left.legend(fontsize="small")
    right.plot(_POWERS, largest, "o-", label="largest, root")
    right.plot(_POWERS, bound, "k--", label="bound from the drift")
    right.set(xscale="log", yscale="log", xlabel="gossip steps Q")
    right.legend(fontsize="small")
    return Finding(
        [
            Check(
                "consensus distance and squared gradient over those of half as many gossip steps, largest",
                at_most(1.0 - 1e-9),
                Estimate.exact(falls),
            ),
            Check(
                "consensus distance (root) over its bound, largest",
                at_most(1.0),
                Estimate.exact(_worst(largest, bound)),
            ),
        ],
        tables={"By gossip steps": table},
        figures={"Consensus by gossip steps": figure},
    )


def _worst(measured: NDArray[np.float64], bound: NDArray[np.float64]) -> float:
    """The largest ratio, zero where both are rounding."""
    return float(np.divide(measured, bound, out=np.zeros_like(measured), where=bound > 1e-12).max())


@claim(
    statement=r"More gossip steps bring the models closer together, within $\lambda^Q/(1-\lambda^Q)$ times the spread "
    r"of what local steps add, and the mean nearer to a stationary point",
    source="Theorem 2 and Section 5.4 (the effect of Q)",
    evidence="measured",
)
def gossip_steps_bring_consensus(budget: Budget) -> Finding:
    """Heterogeneous noisy quadratics on a ring of sixteen clients."""
    return _consensus(budget, _quadratics(budget.seed, 0.1))


@gossip_steps_bring_consensus.control
def equal_clients_without_noise(budget: Budget) -> Finding:
    """The same where all clients have one function and exact gradients, so that gossip has nothing to do."""
    problem = _quadratics(budget.seed, 0.0)
    return _consensus(budget, _alike(problem))


# ---- the rate ------------------------------------------------------------------------------------------------------


def _rate(budget: Budget, *, fixed: bool) -> Finding:
    """The squared gradient at the mean of the models, averaged over the rounds, by the number of rounds."""
    longest = [6400, 12_800, 25_600]
    horizons = [200, 400, 800, 1600, 3200, *budget.pick([], longest[:1], longest)]
    problem, steps, powers, averages = _quadratics(budget.seed, 1.0), 5, [1, 4], []
    for rounds in horizons:
        scale = horizons[0] if fixed else rounds
        # Every round of the start, where the gradient falls by orders of magnitude; as many in all for each horizon.
        points = [*range(40), *np.linspace(40, rounds, 60).round().astype(int).tolist()]
        method = DFedSAM(
            0.5 / math.sqrt(steps * scale), Topology.ring(_CLIENTS), steps=steps, radius=0.1 / math.sqrt(scale)
        )
        trace = run(
            method, problem, jnp.zeros(_DIMENSION), steps=rounds, seeds=budget.pick(4, 16, 16), key=budget.key,
            record={"squared": _squared_gradient}, points=points, grid={"gossip_steps": powers},
        )  # fmt: skip
        recorded = trace["step"].values
        # What each recorded round counts in the mean over all rounds, with straight lines between them.
        shares = np.asarray([np.interp(np.arange(rounds), recorded, unit).mean() for unit in np.eye(len(recorded))])
        averages.append(trace["squared"].values @ shares)
    values = np.stack(averages, axis=2)  # gossip steps, seeds, horizons
    rates = {power: fit_power_law(horizons, values[index], window=(1, math.inf)) for index, power in enumerate(powers)}
    checks = [
        Check(
            f"exponent of the mean squared gradient in T, Q = {power}",
            between(-0.65, -0.42),
            Estimate(rate.value, rate.low, rate.high, rate.method),
        )
        for power, rate in rates.items()
    ]
    means = values.mean(axis=1)
    checks.append(Check("Q = 4 over Q = 1, largest", at_most(1.0), Estimate.exact((means[1] / means[0]).max())))
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    axes = figure.subplots()
    for power, mean in zip(powers, means, strict=True):
        axes.plot(horizons, mean, "o-", label=f"Q = {power}")
    axes.plot(horizons, means[0, 0] * np.sqrt(horizons[0] / np.asarray(horizons)), "k--", label="$T^{-1/2}$")
    axes.set(xscale="log", yscale="log", xlabel="rounds T", ylabel="mean squared gradient")
    axes.legend()
    table = pd.DataFrame({"T": horizons} | {f"Q = {power}": means[index] for index, power in enumerate(powers)})
    return Finding(checks, tables={"Mean squared gradients": table}, figures={"Rate": figure})


@claim(
    statement=r"With $\eta \propto 1/\sqrt{KT}$ and $\rho \propto 1/\sqrt T$ the mean squared gradient falls like "
    r"$1/\sqrt T$, and is smaller with more gossip steps",
    source="Theorems 1 and 2",
    evidence="measured",
)
def gradients_fall_with_the_square_root(budget: Budget) -> Finding:
    """Noisy heterogeneous quadratics on a ring, each horizon with its own step size and radius."""
    return _rate(budget, fixed=False)


@gradients_fall_with_the_square_root.control
def parameters_of_the_shortest_run(budget: Budget) -> Finding:
    """The same exponents where every horizon has the step size and the radius of the shortest."""
    return _rate(budget, fixed=True)


# ---- a radius that stays -------------------------------------------------------------------------------------------


def _cycle(radius: float) -> Finding:
    curvature, step_size = 2.0, 0.2
    problem = FederatedQuadratic(jnp.asarray([[[curvature]]]), jnp.zeros((1, 1)))
    method = DFedSAM(step_size, Topology.complete(1), radius=radius)
    trace = run(method, problem, jnp.ones(1), steps=2000, points=[1999], record={"x": _mean})
    last = trace["x"].values[0, -2:, 0]
    predicted = step_size * curvature * 0.05 / (2.0 - step_size * curvature)
    checks = [
        Check(f"|x| after {step} steps", equal_to(predicted, absolute=1e-12), Estimate.exact(abs(value)))
        for step, value in zip((1999, 2000), last, strict=True)
    ]
    checks.append(Check("sum of both", equal_to(0.0, absolute=1e-12), Estimate.exact(last.sum())))
    return Finding(checks)


@claim(
    statement=r"On $\frac a2x^2$ sharpness-aware steps with a constant radius end in the cycle "
    r"$|x| = \eta a\rho/(2-\eta a)$: the radius has to fall, as the theorem has it",
    source="the condition ρ = Θ(1/√T) of Theorem 1",
    evidence="measured",
)
def a_constant_radius_ends_in_a_cycle(budget: Budget) -> Finding:
    """One client without noise, a = 2, η = 0.2, ρ = 0.05."""
    return _cycle(0.05)


@a_constant_radius_ends_in_a_cycle.control
def without_a_radius(budget: Budget) -> Finding:
    """The same cycle predicted of plain local steps."""
    return _cycle(0.0)


# ---- special cases -------------------------------------------------------------------------------------------------


def _difference(budget: Budget, one: Method[Any, Any], other: Method[Any, Any]) -> Estimate:
    problem, rounds = _quadratics(budget.seed, 0.3), budget.pick(50, 500, 5000)
    ends = [
        run(method, problem, jnp.zeros(_DIMENSION), steps=rounds, key=budget.key, points=1).x for method in (one, other)
    ]
    return Estimate.exact(jnp.abs(ends[0] - ends[1]).max())


def _special_cases(budget: Budget, topology: Topology, radius: float) -> Finding:
    steps = 4
    without = _difference(
        budget,
        DFedSAM(0.05, Topology.ring(_CLIENTS), steps, radius=radius),
        DFedAvg(0.05, Topology.ring(_CLIENTS), steps),
    )
    complete = _difference(budget, DFedAvg(0.05, topology, steps), FedAvg(0.05, steps))
    sharp = _difference(budget, DFedSAM(0.05, topology, steps, radius=0.05), fedsam(0.05, 0.05, steps))
    return Finding(
        [
            Check("DFedSAM with ρ = 0 against DFedAvg, same batches", equal_to(0.0), without),
            Check("DFedAvg on the complete graph against FedAvg, same batches", at_most(1e-12), complete),
            Check("DFedSAM on the complete graph against FedSAM, same batches", at_most(1e-12), sharp),
        ]
    )


@claim(
    statement=r"With $\rho = 0$ the method is DFedAvg; on the complete graph these are FedSAM and FedAvg with everyone",
    source="Section 4 (relation to other methods)",
    evidence="measured",
)
def special_cases_are_the_known_methods(budget: Budget) -> Finding:
    """Largest differences of the last iterates between separately written methods that share their random keys."""
    return _special_cases(budget, Topology.complete(_CLIENTS), 0.0)


@special_cases_are_the_known_methods.control
def a_torus_and_a_small_radius(budget: Budget) -> Finding:
    """The same differences where the graph is a torus and the radius is 0.001."""
    return _special_cases(budget, Topology.torus(4, 4), 0.001)


# ---- topologies ----------------------------------------------------------------------------------------------------


def _ordering(budget: Budget, problem: FederatedQuadratic) -> Finding:
    """Steady mean squared gradients of f at the clients' own models, by the mixing of the topology."""
    topologies = {
        "complete": Topology.complete(_CLIENTS),
        "exponential": Topology.exponential(_CLIENTS),
        "torus": Topology.torus(4, 4),
        "ring": Topology.ring(_CLIENTS),
    }
    rounds, floors = budget.pick(400, 2000, 20_000), []
    for topology in topologies.values():
        trace = run(
            DFedSAM(0.02, topology, steps=5), problem, jnp.zeros(_DIMENSION), steps=rounds, key=budget.key,
            record={"own": each_model(_squared_gradient)}, points=20, spacing="linear",
        )  # fmt: skip
        floors.append(float(trace["own"].values[0, 10:].mean()))
    mixing = [topology.mixing for topology in topologies.values()]
    steps_up = float((np.asarray(floors[1:]) / np.asarray(floors[:-1])).min())
    table = pd.DataFrame({"topology": list(topologies), "mixing": mixing, "squared gradient": floors})
    return Finding(
        [
            Check(
                "λ over that of the topology before, least",
                at_least(1.0),
                Estimate.exact(np.divide(mixing[2:], mixing[1:-1]).min()),
            ),
            Check(
                "squared gradient at the clients' models over that of the topology before, least",
                at_least(1.0 + 1e-6),
                Estimate.exact(steps_up),
            ),
        ],
        tables={"Topologies": table},
    )


@claim(
    statement=r"Sparser communication is worse in the order of the spectral gap: complete, exponential, torus, ring",
    source="Section 5.3 (topologies), Table 3",
    evidence="measured",
)
def topologies_rank_by_their_mixing(budget: Budget) -> Finding:
    """The gradient of the whole objective at each client's own model, once it no longer falls."""
    return _ordering(budget, _quadratics(budget.seed, 0.1))


@topologies_rank_by_their_mixing.control
def clients_that_agree(budget: Budget) -> Finding:
    """The same order where all clients have one function and exact gradients."""
    problem = _quadratics(budget.seed, 0.0)
    return _ordering(budget, _alike(problem))


# ---- flat minima ---------------------------------------------------------------------------------------------------


class _RandomDirection(DFedSAM):
    """Gradients at a point in a random direction, as far away as the one uphill would be."""

    def direction(self, problem: Federation) -> ClientGradient:
        def aside(data: PyTree[Array], y: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
            moved = Gaussian(1.0)(jax.random.fold_in(key, 1), y)
            length = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(moved)))
            place = jax.tree.map(lambda at, along: at + self.radius / length * along, y, moved)
            return problem.client_stochastic_gradient(data, place, key)

        return aside


def _digits(budget: Budget, perturbed: type[DFedSAM]) -> Finding:
    """Digits dealt out by Dirichlet 0.3 on a ring: accuracy and curvature at the mean model, seeds side by side."""
    images, labels = dataset("digits", standardise=False)
    parts = train_test_split(images / 16.0, labels, test_size=360, random_state=budget.seed, stratify=labels)
    train, test = (parts[0], parts[2]), (parts[1], parts[3])
    problem = split(train, _CLIENTS, Dirichlet(0.3, fewest=5), seed=budget.seed).problem(mlp, batch=32)
    rounds, steps, seeds = budget.pick(60, 150, 1000), 3, budget.pick(3, 5, 10)
    ring, accuracy = Topology.ring(_CLIENTS), accuracy_on(test)
    methods: dict[str, DFedAvg] = {
        "DFedAvg": DFedAvg(0.1, ring, steps),
        "DFedSAM": perturbed(0.1, ring, steps, radius=0.05),
        "DFedSAM-MGS, Q = 4": perturbed(0.1, ring, steps, 4, radius=0.05),
    }
    rows, curvature = [], {}
    for name, method in methods.items():
        trace = run(
            method, problem, lambda key: mlp_parameters(key, (64, 32, 10)), steps=rounds, seeds=seeds, key=budget.key,
            record={"mean": accuracy, "own": each_model(accuracy)}, points=1,
        )  # fmt: skip
        ends = [jax.tree.map(lambda leaf, seed=seed: leaf[seed], trace.x) for seed in range(seeds)]
        curvature[name] = np.asarray([largest_curvature(problem.objective, end) for end in ends])
        own = np.asarray(trace["own"])[:, -1].mean(axis=1)
        rows.append((name, np.median(trace.final("mean")), np.median(own), np.median(curvature[name])))
    table = pd.DataFrame(rows, columns=["method", "accuracy of the mean", "of own models", "largest curvature"])
    scores = 100.0 * table["accuracy of the mean"].to_numpy()
    return Finding(
        [
            Check(
                "log ratio of the curvature, DFedSAM over DFedAvg",
                at_most(0.0),
                Estimate.mean(np.log(curvature["DFedSAM"] / curvature["DFedAvg"])),
            ),
            Check("accuracy of DFedSAM less DFedAvg's, points", at_least(-0.5), Estimate.exact(scores[1] - scores[0])),
            Check("accuracy with Q = 4 less Q = 1, points", at_least(-0.5), Estimate.exact(scores[2] - scores[1])),
        ],
        tables={"Digits on a ring": table},
    )


@claim(
    statement=r"Sharpness-aware local steps lead to flatter models, no less accurate, and several gossip steps are no "
    r"less accurate than one",
    source="Section 5.2 and the motivation by flat landscapes, on digits in place of CIFAR",
    evidence="measured",
)
def sharpness_aware_steps_find_flatter_models(budget: Budget) -> Finding:
    """A multilayer perceptron of 64-32-10 on a ring of sixteen clients with Dirichlet 0.3 labels."""
    if budget.name == "quick":
        raise NotRun("needs the standard budget: 60 rounds do not tell the gradient's direction from a random one")
    return _digits(budget, DFedSAM)


@sharpness_aware_steps_find_flatter_models.control
def perturbed_in_a_random_direction(budget: Budget) -> Finding:
    """The same where the gradient is taken as far away, but in a random direction."""
    return _digits(budget, _RandomDirection)
