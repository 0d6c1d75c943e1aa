r"""Optimise through a trained network by attacking it: perturbations that push its outputs where the objective rises.

Maximise $f(\Phi(x))$ subject to constraints on $\Phi(x)$ and $x$, with $\Phi$ a frozen network. An attack of radius $r$
along $u = \nabla f(\Phi(x))$ looks for $\lVert d\rVert_\infty \le r$ that makes $\langle u, \Phi(x+d) - \Phi(x)\rangle$
large; signed gradients do, and are optimal if the network is affine. Attacks alone come with no guarantee, so the
hybrid follows each one that does not gain enough by an iteration of the covering direct search, whose trial points
become dense around every point that it refines: those points are local solutions, even of discontinuous problems. The
experiments compare it with its parts and with random line searches on three problems.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize

from tendsto.evidence import Budget, Check, Estimate, Finding, Paper, at_least, at_most, claim, equal_to
from tendsto.extras import load
from tendsto.optimize import (
    DirectionalAttack,
    attack_search,
    cosine_measure,
    covering_direct_search,
    hybrid_direct_search,
    poll_basis,
    projected_gradient_ascent,
    random_line_search,
)
from tendsto.problems import (
    FrozenNetwork,
    NetworkProblem,
    Surrogate,
    freeze,
    image_barycentre,
    path_counterfactual,
    wine_process,
)

CARD = Paper(
    slug="directional-attacks",
    title="Optimization by Directional Attacks: Solving Problems with Neural Network Surrogates",
    authors=("Pierre-Yves Bouchet", "Thibaut Vidal"),
    arxiv="2510.01461",
    date=date(2025, 10, 1),
    field="optimize",
    method=(
        "optimize.hybrid_direct_search",
        "optimize.covering_direct_search",
        "optimize.DirectionalAttack",
        "problems.NetworkProblem",
    ),
)

Vector = NDArray[np.float64]


# --- The attack operator


def _affine_gains(attack: DirectionalAttack, budget: Budget, outputs: int = 6) -> Vector:
    """Gains over $r\\lVert W^\\top u\\rVert_1$ for random affine networks, directions and radii."""
    rng = np.random.default_rng([budget.seed, 1])
    ratios = []
    for _ in range(budget.pick(20, 200, 1000)):
        weights, bias = rng.standard_normal((outputs, 12)), rng.standard_normal(outputs)
        x, direction, radius = rng.standard_normal(12), rng.standard_normal(outputs), rng.uniform(0.1, 3.0)
        network = freeze(lambda x, weights=weights, bias=bias: weights @ x + bias)
        found = attack(network, x, direction, radius)
        assert np.abs(found).max() <= radius * (1.0 + 1e-12)
        gain = direction @ (network(x + found) - network(x))
        ratios.append(gain / (radius * np.abs(weights.T @ direction).sum()))
    return np.array(ratios)


def _exactness(attacks: Mapping[str, DirectionalAttack], budget: Budget, outputs: int = 6) -> Finding:
    rows = {name: _affine_gains(attack, budget, outputs) for name, attack in attacks.items()}
    checks = [
        Check(f"{name}: smallest gain / (r ‖Wᵀu‖₁)", equal_to(1.0, absolute=1e-10), Estimate.exact(ratios.min()))
        for name, ratios in rows.items()
    ]
    return Finding(checks, tables={"Gain over the largest possible one": pd.DataFrame(rows).describe().reset_index()})


@claim(
    statement=r"On an affine network $Wx + b$ the attack along $u$ attains the largest gain within "
    r"$\lVert d\rVert_\infty \le r$, which is $r\lVert W^\top u\rVert_1$",
    source="Section 3 (attack operator)",
    evidence="measured",
)
def fgsm_is_exact_on_affine_networks(budget: Budget) -> Finding:
    """Gains on random affine networks, of one signed step and of projected steps that reach the boundary."""
    attacks = {"FGSM": DirectionalAttack(), "PGD": DirectionalAttack("pgd", steps=5, step_size=0.1)}
    return _exactness(attacks, budget)


@fgsm_is_exact_on_affine_networks.control
def cross_entropy_loses_the_mean(budget: Budget) -> Finding:
    """The same gains from the loss that libraries of attacks minimise, which ignores the mean of u."""
    return _exactness({"FGSM": DirectionalAttack(loss="cross-entropy")}, budget)


@fgsm_is_exact_on_affine_networks.control
def cross_entropy_is_blind_to_one_output(budget: Budget) -> Finding:
    """The same loss on networks of a single output, where the attack stands still."""
    return _exactness({"FGSM": DirectionalAttack(loss="cross-entropy")}, budget, outputs=1)


def _success_shares(surrogate: Surrogate, attacks: Sequence[Any], radii: Sequence[float], points: Vector) -> Vector:
    """How often each attack (rows) of each radius (columns) raises the penalised objective."""
    problem = surrogate.problem
    shares = np.zeros((len(attacks), len(radii)))
    for x in points:
        value = problem(x)
        direction = problem.direction(problem.outputs, x)
        for row, attack in enumerate(attacks):
            for column, radius in enumerate(radii):
                shares[row, column] += problem(x + attack(problem.penalised, x, direction, radius)) < value
    return shares / len(points)


_PROBLEMS: Mapping[str, Callable[..., Surrogate]] = {
    "images": image_barycentre,
    "maps": path_counterfactual,
    "process": wine_process,
}


@functools.cache
def _surrogate(name: str, seed: int) -> Surrogate:
    """One problem, compiled once for a claim and its controls."""
    return _PROBLEMS[name](seed=seed)


def _success(attacks: Mapping[str, Any], budget: Budget) -> Finding:
    radii = np.geomspace(1e-3, 10.0, 5).tolist()
    checks, rows = [], []
    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    panels = figure.subplots(1, len(_PROBLEMS), sharey=True)
    for axes, name in zip(panels, _PROBLEMS, strict=True):
        surrogate = _surrogate(name, budget.seed)
        rng = np.random.default_rng([budget.seed, 2])
        size = surrogate.start.size
        points = surrogate.start + rng.uniform(-1.0, 1.0, (budget.pick(15, 400, 2000), size))
        shares = _success_shares(surrogate, list(attacks.values()), radii, points)
        for attack, share in zip(attacks, shares, strict=True):
            rows += [(name, attack, radius, value) for radius, value in zip(radii, share, strict=True)]
            axes.plot(radii, share, "o-", label=attack)
            small = f"{name}: share of {attack} attacks of radius {radii[0]:g} that succeed"
            checks.append(Check(small, at_least(0.5), Estimate.exact(share[0])))
        if "PGD" in attacks:
            gain = float((shares[1] - shares[0]).mean())
            checks.append(
                Check(f"{name}: success of PGD less that of FGSM, mean over radii", at_least(0.0), Estimate.exact(gain))
            )
        axes.axhline(0.5, color="k", linestyle="--", linewidth=0.8)
        axes.set(xscale="log", xlabel="attack radius", title=name)
    panels[0].set(ylabel="share of attacks that succeed")
    panels[0].legend()
    table = pd.DataFrame(rows, columns=["problem", "attack", "radius", "share"])
    return Finding(checks, tables={"Success by radius": table}, figures={"Success of attacks by radius": figure})


@claim(
    statement=r"Attacks along $\nabla f(\Phi(x))$ raise the objective often: at small radii more than half of them do, "
    "and those of PGD, averaged over radii, more often than those of FGSM",
    source="Section 5 (efficiency of the attack step)",
    evidence="measured",
)
def attacks_succeed_at_small_radii(budget: Budget) -> Finding:
    """The share of successes at random points of the three problems, over radii from 0.001 to 10."""
    return _success({"FGSM": DirectionalAttack(), "PGD": DirectionalAttack("pgd")}, budget)


class _Against:
    """An attack along the opposite of the direction that it is given."""

    def __init__(self, attack: DirectionalAttack) -> None:
        self.attack, self.calls = attack, attack.calls

    def __call__(self, network: FrozenNetwork, x: Vector, direction: Vector, radius: float) -> Vector:
        return self.attack(network, x, -direction, radius)


@attacks_succeed_at_small_radii.control
def attacks_against_the_gradient(budget: Budget) -> Finding:
    """The same share for attacks along the opposite direction."""
    return _success({"FGSM": _Against(DirectionalAttack())}, budget)


# --- What the search alone guarantees


def _code_of_the_authors(size: int, rng: np.random.Generator) -> Vector:
    """Directions that vanish beyond half of the coordinates, as the rotation in the authors' code leaves them."""
    directions = poll_basis(size, "n+1", rng)
    directions[:, size // 2 + 1 :] = 0.0
    moving: Vector = directions[np.abs(directions).max(axis=1) > 0.0]
    return moving


def _spanning(
    bases: Mapping[str, Callable[[int, np.random.Generator], Vector]], sizes: Sequence[int], seed: int
) -> Finding:
    formulas = {
        "2n": lambda n: 1.0 / math.sqrt(n),
        "n+1": lambda n: 1.0 / math.sqrt(n**2 + 2.0 * (n - 1) * math.sqrt(n)),
    }
    checks = []
    for name, basis in bases.items():
        for size in sizes:
            measured = cosine_measure(basis(size, np.random.default_rng([seed, size])))
            expected = equal_to(formulas[name](size), relative=1e-9)
            checks.append(Check(f"cosine measure of the {name} poll, n = {size}", expected, Estimate.exact(measured)))
    return Finding(checks)


@claim(
    statement=r"The poll directions positively span $R^n$: whatever the descent direction, one of them makes an angle "
    r"with it whose cosine is at least $1/\sqrt n$ ($2n$ directions) or $1/\sqrt{n^2 + 2(n-1)\sqrt n}$ ($n+1$)",
    source="Section 4 (poll step)",
    evidence="measured",
)
def poll_directions_positively_span(budget: Budget) -> Finding:
    """The exact cosine measure of random bases against its formula."""
    sizes = [2, 5, 64, 100]
    bases = {
        "2n": lambda size, rng: poll_basis(size, "2n", rng),
        "n+1": lambda size, rng: poll_basis(size, "n+1", rng),
    }
    return _spanning(bases, sizes, budget.seed)


@poll_directions_positively_span.control
def half_of_the_coordinates(budget: Budget) -> Finding:
    """Directions that never move half of the coordinates, as in the code that the authors published."""
    return _spanning({"n+1": _code_of_the_authors}, [64, 100], budget.seed)


@poll_directions_positively_span.control
def without_the_opposite(budget: Budget) -> Finding:
    """The n columns alone: a basis, but no positive one."""
    return _spanning({"n+1": lambda size, rng: poll_basis(size, "n+1", rng)[:-1]}, [2, 64], budget.seed)


def _bowl_with_a_hole(size: int) -> Callable[[Vector], float]:
    """$\\lVert x\\rVert^2$, but $-1$ on an interval of length 0.04, or a disc of radius 0.05, away from zero."""
    centre, radius = np.array([0.42, 0.0][:size]), (0.02 if size == 1 else 0.05)

    def value(x: Vector) -> float:
        return -1.0 if np.linalg.norm(x - centre) <= radius else float(x @ x)

    return value


def _starts(size: int, number: int, seed: int) -> Vector:
    return np.random.default_rng([seed, 3, size]).uniform(-1.2, -0.8, (number, size))


def _into_the_hole(budget: Budget, covering_radius: float) -> Finding:
    checks, rows = [], []
    for size, runs, maxfev in ((1, 100, 2000), (2, budget.pick(30, 100, 100), budget.pick(4000, 20_000, 20_000))):
        for number, start in enumerate(_starts(size, runs, budget.seed)):
            options = {
                "covering_radius": covering_radius,
                "covering_points": maxfev,
                "maxfev": maxfev,
                "rng": [budget.seed, number],
            }
            result = minimize(
                _bowl_with_a_hole(size), start, method=covering_direct_search, options=options, callback=_until_found
            )
            rows.append((size, number, result.fun, result.nfev))
        found = [value == -1.0 for n, _, value, _ in rows if n == size]
        quantity = f"share of runs that end at the local (and global) solution, n = {size}"
        checks.append(Check(quantity, at_least(0.95), Estimate.mean(found)))
    frame = pd.DataFrame(rows, columns=["n", "run", "value", "evaluations"])
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for dimension, group in frame[frame["value"] == -1.0].groupby("n"):
        counts = np.sort(group["evaluations"])
        share = np.arange(1, len(counts) + 1) / (frame["n"] == dimension).sum()
        axes.step(counts, share, label=f"n = {dimension}")
    axes.set(xscale="log", xlabel="evaluations", ylabel="share of runs that have found the hole", ylim=(0, 1.05))
    if axes.has_data():
        axes.legend()
    return Finding(checks, tables={"Runs": frame}, figures={"Time to the local solution": figure})


def _until_found(intermediate_result: OptimizeResult) -> None:
    if intermediate_result.fun == -1.0:
        raise StopIteration


@claim(
    statement="Every point that the search with a covering step refines is a local solution, even where the objective "
    r"is discontinuous: it leaves the minimiser of $\lVert x\rVert^2$ for a small set nearby where the value is $-1$",
    source="Theorem of convergence of the covering direct search (arXiv:2401.07097), recalled in Section 4",
    evidence="measured",
)
def covering_finds_what_polling_misses(budget: Budget) -> Finding:
    """The share of runs that end in the small set, with covering points in a ball that reaches it."""
    return _into_the_hole(budget, covering_radius=0.6)


@covering_finds_what_polling_misses.control
def polling_alone(budget: Budget) -> Finding:
    """The same search without covering points: zero is refined, and is no local solution within the ball."""
    return _into_the_hole(budget, covering_radius=0.0)


def _hybrid_into_the_hole(budget: Budget, method: Callable[..., Any], **options: Any) -> Finding:
    """The network answers with the bowl that has a hole; its gradient is that of the bowl."""
    size, maxfev = 2, budget.pick(6000, 20_000, 20_000)
    centre = jnp.array([0.42, 0.0])
    problem = NetworkProblem(
        lambda y: y[0],
        lambda x: jnp.where(jnp.linalg.norm(x - centre) <= 0.05, 1.0, -jnp.sum(x**2))[None],
    )
    found = []
    for number, start in enumerate(_starts(size, budget.pick(20, 100, 100), budget.seed)):
        given = options | {"maxfev": maxfev} | ({"rng": [budget.seed, number]} if "covering_radius" in options else {})
        result = minimize(problem, start, method=method, options=given, callback=_until_found)
        found.append(result.fun == -1.0)
    return Finding(
        [Check("share of runs that end at the local (and global) solution", at_least(0.95), Estimate.mean(found))]
    )


@claim(
    statement="The hybrid inherits the guarantee: attacks replace the incumbent by better points alone, and the points "
    "that it refines are local solutions, even where the network is discontinuous",
    source="Section 4 (convergence of the hybrid)",
    evidence="measured",
)
def hybrid_inherits_the_guarantee(budget: Budget) -> Finding:
    """The share of runs that leave the bowl for the small set that its gradients do not show."""
    return _hybrid_into_the_hole(budget, hybrid_direct_search, covering_radius=0.6, covering_points=100_000)


@hybrid_inherits_the_guarantee.control
def hybrid_without_covering(budget: Budget) -> Finding:
    """The same hybrid with neither covering nor search steps."""
    return _hybrid_into_the_hole(budget, hybrid_direct_search, covering_radius=0.0)


@hybrid_inherits_the_guarantee.control
def attacks_by_themselves(budget: Budget) -> Finding:
    """Attacks alone, which stop at the bottom of the bowl."""
    return _hybrid_into_the_hole(budget, attack_search)


def _counted_network(torch: Any, seed: int) -> tuple[Any, dict[str, int]]:
    """A small PyTorch network whose own hooks count its forward and backward passes."""
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4)).double()
    counts = {"forward": 0, "backward": 0}

    def forward(_: Any, __: Any, output: Any) -> None:
        counts["forward"] += 1
        if output.requires_grad:
            output.register_hook(backward)

    def backward(gradient: Any) -> None:
        counts["backward"] += 1

    network.register_forward_hook(forward)
    return network, counts


def _watched(
    problem: NetworkProblem, method: Callable[..., Any], options: Mapping[str, Any]
) -> tuple[OptimizeResult, list[float]]:
    """The result of a run from zero, and the incumbent's value after each iteration."""
    values: list[float] = []

    def remember(intermediate_result: OptimizeResult) -> None:
        values.append(intermediate_result.fun)

    return minimize(problem, np.zeros(8), method=method, options=options, callback=remember), values


def _counters(budget: Budget, reported: Callable[[OptimizeResult], int]) -> Finding:
    torch = load("torch", extra="torch")
    methods = {
        "hybrid": (hybrid_direct_search, {}),
        "hybrid, PGD": (hybrid_direct_search, {"attack": DirectionalAttack("pgd")}),
        "direct search": (covering_direct_search, {}),
        "attacks alone": (attack_search, {}),
        "line searches": (random_line_search, {}),
        "gradient ascent": (projected_gradient_ascent, {}),
    }
    checks = []
    with torch.random.fork_rng(devices=[]):
        for name, (method, options) in methods.items():
            network, counts = _counted_network(torch, budget.seed)
            problem = NetworkProblem(lambda y: -jnp.sum((y - 0.3) ** 2), network, lambda y: y[:1] - 0.2)
            maxfev = budget.pick(300, 3000, 20_000)
            result, values = _watched(problem, method, options | {"maxfev": maxfev})
            gradients = result.get("njev", 0)
            rise = max(np.diff(values), default=0.0)
            checks += [
                Check(
                    f"{name}: evaluations reported − forward passes of the network",
                    equal_to(0),
                    Estimate.exact(reported(result) - counts["forward"]),
                ),
                Check(
                    f"{name}: gradients reported − backward passes",
                    equal_to(0),
                    Estimate.exact(gradients - counts["backward"]),
                ),
                Check(
                    f"{name}: evaluations and gradients / budget",
                    at_most(1.0),
                    Estimate.exact((result.nfev + gradients) / maxfev),
                ),
                Check(f"{name}: largest rise of the incumbent's value", at_most(0.0), Estimate.exact(rise)),
            ]
    return Finding(checks)


@claim(
    statement="The incumbent never gets worse, and the evaluations that are reported are all that were made, those "
    "inside gradients among them, within the budget",
    source="Section 4 (algorithm) and Section 5 (budgets)",
    evidence="measured",
)
def counters_are_honest(budget: Budget) -> Finding:
    """Reports of every method against the network's own count of its forward and backward passes."""
    return _counters(budget, lambda result: int(result.nfev))


@counters_are_honest.control
def trial_points_alone(budget: Budget) -> Finding:
    """The same comparison for a count of trial points, as the authors' code keeps it: passes of attacks are missing."""
    return _counters(budget, lambda result: int(result.nfev - result.get("njev", 0)))


# --- Comparisons at equal budgets

Runs = dict[str, NDArray[np.float64]]


def _values(result: OptimizeResult, marks: Sequence[int]) -> Vector:
    """The best value after each number of evaluations and gradients taken together."""
    dataset = result.history.dataset.isel(seed=0)
    spent = np.asarray(dataset["evaluations"] + dataset["gradients"])
    return np.asarray(dataset["objective"])[np.searchsorted(spent, marks, side="right") - 1]


def _medians_figure(marks: Sequence[int], gaps: Runs, ylabel: str) -> Figure:
    figure = Figure(figsize=(6.8, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, values in gaps.items():
        (line,) = axes.plot(marks, np.median(values, axis=0), label=name)
        low, high = np.quantile(values, [0.25, 0.75], axis=0)
        axes.fill_between(marks, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(xscale="log", yscale="log", xlabel="evaluations and gradients", ylabel=ylabel)
    axes.legend(fontsize="small")
    return figure


@functools.cache
def _random_network(seed: int, number: int) -> Surrogate:
    """A random network of two hidden layers, whose outputs at a point of the cube are to be met."""
    sizes = (40, 64, 64, 10)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), 4)
    weights = [
        1.5 * jax.random.normal(each, shape) / shape[0] ** 0.5
        for each, shape in zip(keys, itertools.pairwise(sizes), strict=False)
    ]

    def network(x: Any) -> Any:
        return jnp.tanh(jnp.tanh(x @ weights[0]) @ weights[1]) @ weights[2]

    target = network(jax.random.uniform(keys[3], sizes[:1], minval=-1.0, maxval=1.0))
    problem = NetworkProblem(lambda y: -jnp.sum((y - target) ** 2), network, None, lambda x: jnp.abs(x) - 2.0)
    return Surrogate(problem, np.zeros(sizes[0]))


_PUBLISHED_FACTOR = 44.9 / 10.5
"""Gap of the direct search over that of the hybrid after 1000 evaluations, the smaller of the authors' two: maps."""


def _anytime(budget: Budget, rivals: Mapping[str, tuple[Callable[..., Any], dict[str, Any]]]) -> Finding:
    """Gaps by method and budget; the first method is compared with the direct search."""
    maxfev = budget.pick(2000, 4000, 20_000)
    marks = np.unique(np.geomspace(10, maxfev, 40).astype(int)).tolist()
    gaps: dict[str, list[Vector]] = {name: [] for name in rivals}
    for number in range(budget.pick(8, 32, 100)):
        problem, start = _random_network(budget.seed, number)
        for name, (method, options) in rivals.items():
            seeded = {"rng": [budget.seed, number]} if method in (hybrid_direct_search, covering_direct_search) else {}
            result = minimize(problem, start, method=method, options=options | seeded | {"maxfev": maxfev})
            gaps[name].append(_values(result, [*marks, 1000]))
    table = {name: np.array(rows) for name, rows in gaps.items()}
    challenger = next(iter(table))
    logs = np.log10(table["direct search"] / table[challenger])
    checks = [
        Check(
            f"log₁₀ of gap of direct search / gap of {challenger}, 1000 evaluations",
            at_least(math.log10(_PUBLISHED_FACTOR)),
            Estimate.mean(logs[:, -1]),
        ),
        Check(f"the same, {maxfev} evaluations", at_least(0.0), Estimate.mean(logs[:, len(marks) - 1])),
    ]
    frame = pd.DataFrame({name: np.median(rows[:, :-1], axis=0) for name, rows in table.items()})
    frame.insert(0, "evaluations", marks)
    return Finding(
        checks,
        tables={"Median gap": frame},
        figures={
            "Gap to the optimum": _medians_figure(marks, {n: r[:, :-1] for n, r in table.items()}, "gap to the optimum")
        },
    )


@claim(
    statement="Attacks speed up the direct search: after as many evaluations, gradients counted, the hybrid is several "
    "times closer to the optimum than the covering direct search alone",
    source="Section 5, and the authors' stored runs",
    evidence="measured",
)
def attacks_speed_up_direct_search(budget: Budget) -> Finding:
    """Gaps on random networks of 40 inputs; attacks alone and gradient ascent, which the paper omits, in the table."""
    return _anytime(
        budget,
        {
            "hybrid": (hybrid_direct_search, {}),
            "direct search": (covering_direct_search, {}),
            "attacks alone": (attack_search, {}),
            "gradient ascent": (projected_gradient_ascent, {}),
        },
    )


@attacks_speed_up_direct_search.control
def reversed_attacks(budget: Budget) -> Finding:
    """The same hybrid with attacks along minus the gradient."""
    attack = _Against(DirectionalAttack())
    rivals = {"hybrid": (hybrid_direct_search, {"attack": attack}), "direct search": (covering_direct_search, {})}
    return _anytime(budget, rivals)


def _radii(name: str) -> dict[str, float]:
    """The paper's radii; those of its third problem, whose domain is the unit square, times four."""
    initial, poll, attack = {
        "images": (1.0, (1e-5, 10.0), (1e-6, 10.0)),
        "maps": (1.0, (1e-4, 200.0), (1e-5, 5.0)),
        "process": (4e-3, (4e-6, 0.4), (4e-6, 4.0)),
    }[name]
    return {
        "initial_radius": initial,
        "final_radius": poll[0],
        "largest_radius": poll[1],
        "smallest_attack_radius": attack[0],
        "largest_attack_radius": attack[1],
    }


def _contenders(name: str) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """The paper's four methods with its radii, and the gradient ascent that it omits."""
    hybrid = _radii(name)
    search = {key: hybrid[key] for key in ("initial_radius", "final_radius", "largest_radius")}
    attacks = search | {
        "final_radius": hybrid["smallest_attack_radius"],
        "largest_radius": hybrid["largest_attack_radius"],
    }
    return {
        "hybrid": (hybrid_direct_search, dict(hybrid)),
        "direct search": (covering_direct_search, dict(search)),
        "line searches": (random_line_search, dict(search)),
        "attacks alone": (attack_search, attacks),
        "gradient ascent": (projected_gradient_ascent, {}),
    }


def _comparison(name: str, budget: Budget, challenger: str = "hybrid", attack: Any = None) -> Finding:
    """Distances to the best known value by method, at marks from 100 evaluations to the whole budget."""
    maxfev = budget.pick(1000, 4000, 20_000)
    marks = [mark for mark in (100, 200, 500, 1000, 4000, 20_000) if mark <= maxfev]
    curve = np.unique(np.geomspace(10, maxfev, 40).astype(int)).tolist()
    problem, start = _surrogate(name, budget.seed)
    contenders = _contenders(name)
    if attack is not None:
        contenders["hybrid"][1]["attack"] = attack
    if challenger != "hybrid" or attack is not None:
        contenders = {each: contenders[each] for each in (challenger, "direct search")}
    values: dict[str, list[Vector]] = {each: [] for each in contenders}
    for number in range(budget.pick(20, 50, 100)):
        # The process starts anywhere, as its surrogate has one instance; the others start where the paper does.
        random_start = wine_process(seed=1000 * budget.seed + number).start if name == "process" else start
        for each, (method, options) in contenders.items():
            deterministic = method in (attack_search, projected_gradient_ascent)
            if deterministic and number and name != "process":
                values[each].append(values[each][0])
                continue
            seeded = {} if deterministic else {"rng": [budget.seed, number]}
            result = minimize(problem, random_start, method=method, options=options | seeded | {"maxfev": maxfev})
            values[each].append(_values(result, [*curve, *marks]))
    table = {each: np.array(rows) for each, rows in values.items()}
    if name == "images":
        best, floor = 0.0, 1e-16
    else:
        best = min(rows.min() for rows in table.values())
        floor = 1e-4 * abs(best)  # differences that do not matter to the paper's figures
    gaps = {each: rows - best + floor for each, rows in table.items()}
    checks = []
    for baseline in ("direct search", "line searches"):
        if baseline in gaps and baseline != challenger:
            logs = np.log10(gaps[baseline] / gaps[challenger])[:, len(curve) :]
            quantity = (
                f"log₁₀ of gap of {baseline} / gap of {challenger}, mean over {', '.join(map(str, marks))} evaluations"
            )
            checks.append(Check(quantity, at_least(0.0), Estimate.mean(logs.mean(axis=1))))
    frame = pd.DataFrame({each: np.median(rows[:, len(curve) :], axis=0) for each, rows in table.items()})
    frame.insert(0, "evaluations", marks)
    curves = {each: rows[:, : len(curve)] for each, rows in gaps.items()}
    return Finding(
        checks,
        tables={"Median of the penalised objective, negated": frame},
        figures={"Gap to the best known value": _medians_figure(curve, curves, "gap to the best known value")},
    )


@claim(
    statement="On the mixture of 100 images that a classifier must take for another one, the hybrid outperforms direct "
    "search and random line searches at equal numbers of evaluations",
    source="Section 5, first problem, and abstract ('consistently outperforms standard DFO baselines')",
    evidence="measured",
)
def hybrid_outperforms_on_images(budget: Budget) -> Finding:
    """Gaps to the known optimum 0, with digits for ImageNet and a small classifier for ResNet-18."""
    return _comparison("images", budget)


@hybrid_outperforms_on_images.control
def line_searches_for_the_hybrid(budget: Budget) -> Finding:
    """The same comparison with random line searches in the place of the hybrid."""
    return _comparison("images", budget, challenger="line searches")


@claim(
    statement="On the counterfactual map, 16 latent variables and two constraints, the hybrid outperforms direct "
    "search and random line searches at equal numbers of evaluations",
    source="Section 5, second problem, and abstract ('consistently outperforms standard DFO baselines')",
    evidence="measured",
)
def hybrid_outperforms_on_maps(budget: Budget) -> Finding:
    """Gaps to the best value found by any method, with digits for the maps of Warcraft."""
    return _comparison("maps", budget)


@hybrid_outperforms_on_maps.control
def wasted_attacks(budget: Budget) -> Finding:
    """The same comparison when every attack takes ten gradients against the objective."""
    return _comparison("maps", budget, attack=_Against(DirectionalAttack("pgd")))


@claim(
    statement="On the process with two controls and seven constraints, the hybrid outperforms direct search and random "
    "line searches at equal numbers of evaluations",
    source="Section 5, third problem, and abstract ('consistently outperforms standard DFO baselines')",
    evidence="measured",
)
def hybrid_outperforms_on_the_process(budget: Budget) -> Finding:
    """Gaps to the best value found by any method, on a surrogate of wines in place of the biodiesel reactor."""
    return _comparison("process", budget)


@hybrid_outperforms_on_the_process.control
def line_searches_on_the_process(budget: Budget) -> Finding:
    """The same comparison with random line searches in the place of the hybrid."""
    return _comparison("process", budget, challenger="line searches")
