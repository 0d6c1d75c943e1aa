r"""Federated adversarial learning: clients train on samples that an adversary perturbs anew in every local step.

The adversary moves each sample within a ball of radius $\rho$ to where the client's current model loses most; the
server averages what local steps moved. For a two-layer network of $m$ rectified units, and data whose least distance
$\delta$ exceeds $2\rho$ (separability $\gamma = \delta(\delta - 2\rho) > 0$), the theorem states that for large $m$ and
small steps the least robust training loss over $T$ rounds goes to zero, whatever the clients' distributions and the
number of local steps. Its proof couples the network with its linearisation, which differ by $O(R^2 m^{-1/6})$ while no
unit moves by more than $R m^{-2/3}$.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Key
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
    PGD,
    Among,
    Clients,
    Dirichlet,
    FedAvg,
    Learning,
    OneAttackPerRound,
    RandomNoise,
    Strongest,
    accuracy_on,
    adversarial,
    certified_loss,
    fgsm,
    into_interval,
    linearised_two_layer,
    mlp,
    mlp_parameters,
    pairwise_robust_lower_bound,
    robust_accuracy_on,
    separability,
    separated_points,
    smooth_absolute,
    split,
    two_layer,
    two_layer_bounds,
    two_layer_parameters,
    unperturbed,
)
from tendsto.federated.adversaries import Adversary
from tendsto.iteration import Method, State, Trace, fit_power_law, run
from tendsto.problems import dataset

CARD = Paper(
    slug="fal",
    title="Federated Adversarial Learning: A Framework with Convergence Analysis",
    authors=("Xiaoxiao Li", "Zhao Song", "Jiaming Yang"),
    arxiv="2208.03635",
    date=date(2022, 8, 7),
    field="federated",
    method=(
        "federated.adversarial",
        "federated.PGD",
        "federated.fgsm",
        "federated.certified_loss",
        "federated.pairwise_robust_lower_bound",
        "federated.two_layer",
    ),
)

_DIMENSION, _CLIENTS, _SAMPLES, _NEAR = 10, 4, 5, 0.09


def _separated(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Twenty points of pairwise distance at least 1/2; two clients have label 1 only, two have label -1 only."""
    features = np.array(separated_points(_CLIENTS * _SAMPLES, _DIMENSION, 0.5, seed=seed))
    return features, np.repeat([1.0, -1.0], len(features) // 2)


def _with_a_near_pair(seed: int, distance: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same, but for one point of the third client, which is moved next to one of the first."""
    features, labels = _separated(seed)
    aside = np.random.default_rng(seed).standard_normal(_DIMENSION - 1)
    base = features[0, :-1]
    aside -= aside @ base * base / (base @ base)
    angle = 2.0 * math.asin(distance / (2.0 * np.linalg.norm(base)))
    turned = math.cos(angle) * base + math.sin(angle) * np.linalg.norm(base) * aside / np.linalg.norm(aside)
    features[2 * _SAMPLES] = np.append(turned, 0.5)
    return features, labels


def _problem(features: NDArray[np.float64], labels: NDArray[np.float64]) -> Learning:
    shape = (_CLIENTS, _SAMPLES)
    clients = Clients(
        jnp.asarray(features.reshape(*shape, -1)), jnp.asarray(labels.reshape(shape)), jnp.full(_CLIENTS, _SAMPLES)
    )
    return clients.problem(two_layer, smooth_absolute)


# Cached, as the metrics are: a control with the same functions runs its claim's compiled program.
@functools.cache
def _start(width: int) -> Callable[[Array], dict[str, Array]]:
    return lambda key: two_layer_parameters(key, _DIMENSION, width)


def _attack(radius: float, steps: int = 10) -> PGD:
    return PGD(radius, steps=steps, random_start=False)


@functools.cache
def _robust_loss(radius: float, near_pair_of: int | None = None) -> Callable[[Learning, State], Array]:
    """Under an attack three times as long as the one trained with; with a near pair, its midpoint is tried too."""
    adversary = Strongest((_attack(radius, 30), unperturbed))
    if near_pair_of is not None:
        features, _ = _with_a_near_pair(near_pair_of, _NEAR)
        middle = (features[:1] + features[2 * _SAMPLES][None]) / 2.0
        adversary = Strongest((*adversary.adversaries, Among(jnp.asarray(middle), radius)))

    def robust_loss(problem: Learning, state: State) -> Array:
        return adversarial(problem, adversary).objective(state.x)

    return robust_loss


@functools.cache
def _certified(radius: float) -> Callable[[Learning, State], Array]:
    def certified(problem: Learning, state: State) -> Array:
        return certified_loss(problem, state.x, lambda x, features: two_layer_bounds(x, features, radius))

    return certified


def _train(
    budget: Budget,
    problem: Learning,
    adversary: Adversary,
    *,
    width: int,
    rounds: int,
    steps: int = 5,
    method: Method[Any, Any] | None = None,
    record: dict[str, Callable[[Learning, State], Array]],
) -> Trace:
    return run(
        method or FedAvg(1.0, steps=steps), adversarial(problem, adversary) if method is None else problem,
        _start(width), steps=rounds, seeds=3, key=budget.key, record=record, points=30,
    )  # fmt: skip


def _best(trace: Trace, metric: str = "robust") -> NDArray[np.float64]:
    """The least value so far, by seed and step."""
    return np.minimum.accumulate(trace[metric].values, axis=1)


# ---- the theorem ---------------------------------------------------------------------------------------------------


def _convergence(budget: Budget, features: NDArray[np.float64], labels: NDArray[np.float64]) -> Finding:
    radius, rounds, width = 0.05, budget.pick(1000, 1000, 3000), budget.pick(128, 512, 2048)
    local_steps, problem, checks, rows = budget.pick([5], [5], [1, 5, 20]), _problem(features, labels), [], []
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    record = {"robust": _robust_loss(radius), "certified": _certified(radius)}
    for steps in local_steps:
        trace = _train(budget, problem, _attack(radius), width=width, rounds=rounds, steps=steps, record=record)
        best, at = _best(trace), trace["step"].values
        name = f"least robust loss after {rounds:,} rounds, K = {steps}, worst of 3 seeds"
        checks.append(Check(name, at_most(0.01), Estimate.exact(best[:, -1].max())))
        certified = _best(trace, "certified")
        rows.append((steps, best[:, 0].mean(), best[:, -1].mean(), certified[:, 0].mean(), certified[:, -1].mean()))
        axes.plot(at[1:], best.mean(axis=0)[1:], label=f"under attack, K = {steps}")
        axes.plot(at[1:], certified.mean(axis=0)[1:], ":", label=f"certified, K = {steps}")
    axes.set(xscale="log", yscale="log", xlabel="round", ylabel="least robust loss so far")
    axes.legend(fontsize="small")
    gap = separability(features, radius)
    columns = ["local steps", "loss at the start", "least", "certified at the start", "least certified"]
    return Finding(
        checks,
        tables={"Robust losses": pd.DataFrame(rows, columns=columns)},
        figures={"Robust loss": figure},
        note=f"The least distance of two samples is {gap.distance:.3g}, the separability {gap.gamma:.3g}.",
    )


@claim(
    statement=r"On separable data the least robust training loss over the rounds goes to zero, with several local "
    r"steps and clients of one label each",
    source="Main theorem",
    evidence="measured",
)
def robust_loss_goes_to_zero(budget: Budget) -> Finding:
    """Four clients, ρ = 0.05, measured by a longer attack than trained with; the certificate is an upper bound."""
    return _convergence(budget, *_separated(budget.seed))


@robust_loss_goes_to_zero.control
def data_that_are_not_separable(budget: Budget) -> Finding:
    """The same where two samples with opposite labels are nearer to each other than 2ρ."""
    return _convergence(budget, *_with_a_near_pair(budget.seed, 0.05))


# ---- the inner loop ------------------------------------------------------------------------------------------------


def _against_clean(budget: Budget, trained: Adversary) -> Finding:
    """Robust losses at ρ = 0.1 of training with each adversary, over that with `trained`."""
    if budget.name == "quick":
        raise NotRun("needs the standard budget: 600 rounds of a network of 1,024 units")
    radius, rounds, width = 0.1, budget.pick(0, 600, 2000), budget.pick(0, 1024, 2048)
    problem, record = _problem(*_separated(budget.seed)), {"robust": _robust_loss(radius)}
    arms: dict[str, tuple[Adversary, Method[Any, Any] | None]] = {
        "adversarial": (trained, None),
        "clean": (unperturbed, None),
        "noise": (RandomNoise(radius), None),
    }
    if budget.name == "full":
        arms["one gradient step"] = fgsm(radius, "euclidean"), None
        arms["one attack a round"] = unperturbed, OneAttackPerRound(FedAvg(1.0, steps=5), _attack(radius))
    least = {}
    for name, (adversary, method) in arms.items():
        trace = _train(budget, problem, adversary, width=width, rounds=rounds, method=method, record=record)
        least[name] = _best(trace)[:, -1]
    ratio = {name: least[name] / least["adversarial"] for name in ("clean", "noise")}
    return Finding(
        [
            Check("robust loss of clean training over FAL's, least of 3 seeds", at_least(3.0), _least(ratio["clean"])),
            Check("the same of training with noise", at_least(1.0 + 1e-9), _least(ratio["noise"])),
        ],
        tables={"Least robust loss by seed": pd.DataFrame(least).rename_axis("seed").reset_index()},
    )


def _least(values: NDArray[np.float64]) -> Estimate:
    return Estimate.exact(values.min())


@claim(
    statement=r"It is the adversary in the inner loop that makes the model robust: training on clean samples, or on "
    r"noisy ones, is left with a much larger robust loss",
    source="Algorithm 1, inner loop",
    evidence="measured",
)
def the_inner_loop_makes_it_robust(budget: Budget) -> Finding:
    """The same program with and without its adversary at ρ = 0.1."""
    return _against_clean(budget, _attack(0.1))


@the_inner_loop_makes_it_robust.control
def without_an_adversary(budget: Budget) -> Finding:
    """The same ratios where the adversary trained with does nothing."""
    return _against_clean(budget, unperturbed)


# ---- separability is necessary -------------------------------------------------------------------------------------


def _floor(budget: Budget, *, conflict: bool) -> Finding:
    radius, width, rounds = 0.05, budget.pick(128, 512, 2048), budget.pick(300, 1000, 3000)
    features, labels = _with_a_near_pair(budget.seed, _NEAR)
    floor = pairwise_robust_lower_bound(features, labels, radius)
    if not conflict:
        labels[2 * _SAMPLES] = labels[0]
    record = {"robust": _robust_loss(radius, budget.seed)}
    trace = _train(budget, _problem(features, labels), _attack(radius), width=width, rounds=rounds, record=record)
    least = trace["robust"].values.min()
    exact = 2.0 * (math.sqrt(2.0) - 1.0) / len(features)
    return Finding(
        [
            Check("robust loss over its floor, least of all iterates", at_least(1.0), Estimate.exact(least / floor)),
            Check("the floor, 2(√2 - 1)/20", equal_to(exact, relative=1e-12), Estimate.exact(floor)),
        ],
        tables={"Least robust loss by seed": pd.DataFrame({"loss": _best(trace)[:, -1], "floor": floor})},
    )


@claim(
    statement=r"Separability is necessary: two samples with opposite labels within $2\rho$ keep the robust loss of any "
    r"model above $2\varphi(1)/NJ$",
    source="the assumption γ ≤ δ(δ - 2ρ); the pair's midpoint lies in both balls",
    evidence="measured",
)
def near_pairs_bound_the_loss_from_below(budget: Budget) -> Finding:
    """Every recorded iterate of training at ρ = 0.05 on data with a pair at distance 0.09."""
    return _floor(budget, conflict=True)


@near_pairs_bound_the_loss_from_below.control
def a_near_pair_of_one_label(budget: Budget) -> Finding:
    """The same floor where both samples of the pair have the same label."""
    return _floor(budget, conflict=False)


# ---- coupling ------------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="width")
def _differences(
    keys: Key[Array, " nets"], points: Float[Array, "points d"], moves: Float[Array, " moves"], width: int
) -> Float[Array, "moves nets"]:
    """What network and linearisation differ by after each of the moves, in the mean over points, for each network."""

    def of_network(key: Key[Array, ""]) -> Float[Array, " moves"]:
        start = two_layer_parameters(key, _DIMENSION, width)

        def at(point: Float[Array, " d"], move: Float[Array, ""]) -> Float[Array, ""]:
            moved = start | {"weights": start["weights"] + move * point[:, None] * (start["outer"] > 0)}
            return two_layer(moved, point[None])[0] - linearised_two_layer(start, moved, point[None])[0]

        return jnp.mean(jax.lax.map(lambda point: jax.vmap(at, (None, 0))(point, moves), points), axis=0)

    return jnp.transpose(jax.lax.map(of_network, keys))


def _coupling(budget: Budget, exponent: float) -> Finding:
    """The mean difference of network and linearisation after moving each unit with $a_r > 0$ by $R m^{exponent}$ x."""
    widths = [2**power for power in budget.pick((10, 12, 14, 16), range(10, 20, 2), range(10, 23, 2))]
    nets, constant, sizes = budget.pick(12, 50, 100), 1.0 / (8.0 * math.sqrt(math.pi)), (1.0, 2.0)
    points = separated_points(8, _DIMENSION, 0.5, seed=budget.seed)
    rows, checks, gaps = [], [], []
    for width in widths:
        keys = jax.random.split(jax.random.fold_in(budget.key, width), nets)
        gaps.append(np.asarray(_differences(keys, points, width**exponent * jnp.asarray(sizes), width)))
    for size, values in zip(sizes, np.stack(gaps, axis=2), strict=True):
        slope = fit_power_law(widths, values, window=(1, math.inf))
        checks.append(
            Check(
                f"exponent of f - g in the width, R = {size:g}",
                between(-0.18, -0.15),
                Estimate(slope.value, slope.low, slope.high, slope.method),
            )
        )
        scaled = values * np.asarray(widths) ** (1 / 6) / size**2
        checks += [
            Check(
                f"constant at m = {width}, R = {size:g}, over 1/(8√π)",
                between(0.94, 1.06),
                Estimate.mean(scaled[:, index] / constant),
            )
            for index, width in enumerate(widths)
            if width >= 2**16
        ]
        rows += [(size, width, mean) for width, mean in zip(widths, values.mean(axis=0), strict=True)]
    return Finding(checks, tables={"f - g": pd.DataFrame(rows, columns=["R", "width", "mean"])})


@claim(
    statement=r"The network and its linearisation differ by $O(R^2 m^{-1/6})$ while no unit moves by more than "
    r"$R m^{-2/3}$, and this order is attained with the constant $1/(8\sqrt\pi)$",
    source="Coupling lemma",
    evidence="measured",
)
def coupling_has_the_exponent_one_sixth(budget: Budget) -> Finding:
    """Units with positive output weights are all moved towards the sample, at widths up to 2¹⁶ and beyond."""
    return _coupling(budget, -2.0 / 3.0)


@coupling_has_the_exponent_one_sixth.control
def larger_moves(budget: Budget) -> Finding:
    """The same exponent and constant where units move by R m^(-1/2)."""
    return _coupling(budget, -0.5)


# ---- special cases -------------------------------------------------------------------------------------------------


def _special(budget: Budget, radius: float, steps: int) -> Finding:
    problem, rounds = _problem(*_separated(budget.seed)), budget.pick(20, 100, 1000)
    start = two_layer_parameters(budget.key, _DIMENSION, 64)

    def last(method: Method[Any, Any], problem: Learning) -> Array:
        return jnp.asarray(run(method, problem, start, steps=rounds, key=budget.key, record=()).x["weights"])

    same = last(FedAvg(1.0, steps=5), adversarial(problem, PGD(radius))) - last(FedAvg(1.0, steps=5), problem)
    attack = _attack(0.05)
    central = last(FedAvg(1.0), adversarial(_pooled(problem), attack)) - last(
        FedAvg(1.0, steps=steps), adversarial(problem, attack)
    )
    return Finding(
        [
            Check("ρ = 0 against FedAvg", at_most(1e-12), Estimate.exact(jnp.abs(same).max())),
            Check(
                "K = 1 against central training on all samples", at_most(1e-12), Estimate.exact(jnp.abs(central).max())
            ),
        ]
    )


def _pooled(problem: Learning) -> Learning:
    """One client with everyone's samples."""
    samples = problem.samples
    features = samples.features.reshape(1, -1, samples.features.shape[-1])
    return Clients(features, samples.targets.reshape(1, -1), jnp.asarray([features.shape[1]])).problem(
        problem.predict, problem.loss
    )


@claim(
    statement=r"With $\rho = 0$ it is FedAvg, and with one local step and clients of equal size central adversarial "
    r"training",
    source="Algorithm 1",
    evidence="measured",
)
def special_cases_are_the_known_methods(budget: Budget) -> Finding:
    """Largest differences of the last weights."""
    return _special(budget, 0.0, 1)


@special_cases_are_the_known_methods.control
def a_radius_and_two_local_steps(budget: Budget) -> Finding:
    """The same differences with ρ = 0.01 and two local steps."""
    return _special(budget, 0.01, 2)


# ---- width ---------------------------------------------------------------------------------------------------------


def _widths(budget: Budget, widths: Sequence[int]) -> Finding:
    radius, rounds = 0.05, budget.pick(200, 200, 1000)
    problem, least = _problem(*_separated(budget.seed)), []
    for width in widths:
        trace = _train(
            budget, problem, _attack(radius), width=width, rounds=rounds, record={"robust": _robust_loss(radius)}
        )
        least.append(_best(trace)[:, -1])
    ratio = (least[-1] / least[0]).max()
    table = pd.DataFrame(
        {f"m = {width}, {place}": values for place, (width, values) in enumerate(zip(widths, least, strict=True))}
    )
    return Finding(
        [
            Check(
                "robust loss of the widest over the narrowest, largest of 3 seeds",
                at_most(1 - 1e-9),
                Estimate.exact(ratio),
            )
        ],
        tables={"Least robust loss by seed": table},
    )


@claim(
    statement=r"A wide network reaches a smaller robust loss than a narrow one in the same rounds",
    source="the width that the main theorem asks for",
    evidence="measured",
)
def width_helps(budget: Budget) -> Finding:
    """Widths 16 and 256 with single-label clients."""
    return _widths(budget, budget.pick([16, 256], [16, 64, 256], [16, 64, 256]))


@width_helps.control
def the_same_width(budget: Budget) -> Finding:
    """The same ratio where both networks are narrow."""
    return _widths(budget, [16, 16])


# ---- images --------------------------------------------------------------------------------------------------------


def _digits(budget: Budget, adversary: Adversary, radius: float) -> Finding:
    """Accuracy on held-out digits under a long attack, trained with `adversary` and with none."""
    if budget.name == "quick":
        raise NotRun("needs the standard budget: the gain still grows after the rounds that fit into the quick one")
    images, labels = dataset("digits", standardise=False)
    parts = train_test_split(images / 16.0, labels, test_size=360, random_state=budget.seed, stratify=labels)
    clients = split((parts[0], parts[2]), 10, Dirichlet(0.3, fewest=5), seed=budget.seed)
    problem, held_out = clients.problem(mlp, batch=32), (parts[1], parts[3])
    attack = PGD(radius, "sup", steps=50, restarts=budget.pick(0, 2, 5), project=into_interval(0.0, 1.0))
    record = {"clean": accuracy_on(held_out), "robust": robust_accuracy_on(held_out, attack)}
    rows, robust = [], []
    for name, each in (("trained with the adversary", adversary), ("without", unperturbed)):
        trace = run(
            FedAvg(0.2, steps=5), adversarial(problem, each), lambda key: mlp_parameters(key, (64, 64, 10)),
            steps=budget.pick(0, 300, 2000), seeds=3, key=budget.key, record=record, points=1,
        )  # fmt: skip
        robust.append(100.0 * trace.final("robust"))
        rows.append((name, 100.0 * trace.final("clean").mean(), robust[-1].mean()))
    table = pd.DataFrame(rows, columns=["training", "accuracy, %", "robust accuracy, %"])
    return Finding(
        [Check("robust accuracy gained, points, least of 3 seeds", at_least(25.0), _least(robust[0] - robust[1]))],
        tables={"Digits": table},
    )


@claim(
    statement=r"On images dealt out unevenly, federated adversarial training gains at least 25 points of accuracy "
    r"under attack over federated averaging",
    source="Experiments, on digits in place of CIFAR-10",
    evidence="measured",
)
def images_become_robust(budget: Budget) -> Finding:
    """Handwritten digits, ten clients, Dirichlet 0.3, sup-norm attacks of radius 0.15 on pixels in [0, 1]."""
    return _digits(budget, PGD(0.15, "sup", steps=7, project=into_interval(0.0, 1.0)), 0.15)


@images_become_robust.control
def noise_in_place_of_the_adversary(budget: Budget) -> Finding:
    """The same gain where training perturbs pixels by random signs of the same size."""
    return _digits(budget, RandomNoise(0.15, "sup"), 0.15)
