r"""Small gradients under differential privacy, faster than by adding noise to every gradient.

With $n$ records in $d$ dimensions, noisy gradient descent reaches gradients of norm $(\sqrt d/n\varepsilon)^{1/2}$.
Private SpiderBoost corrects its estimate of the gradient by noisy differences, whose sensitivity shrinks with the step,
and reaches $(\sqrt d/n\varepsilon)^{2/3}$ on the data (Theorem 4.2). On the population, one pass along a binary tree of
corrections gives $n^{-1/3} + (\sqrt d/n\varepsilon)^{1/2}$ (Theorem 3.2); convex problems allow
$n^{-1/2} + \sqrt d/n\varepsilon$ by recursive regularisation (Theorem 5.1), which no method beats (Theorem 4.3); and
for generalised linear models a random projection replaces $d$ by the rank of the data (Corollary 6.2).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array
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
from tendsto.iteration import run
from tendsto.optimize.private import (
    NoisyGradientDescent,
    NoisyGradientSolver,
    PrivateMethod,
    PrivateSpiderBoost,
    RecursiveRegularization,
    Release,
    SpiderBoostParameters,
    TreeSpider,
    calibrate,
    privacy_spent,
    project_features,
    projection_dimension,
    samples_per_round,
    spiderboost_parameters,
    theorem_parameters,
    unit_noise,
    zcdp_epsilon,
    zcdp_rho,
)
from tendsto.problems import (
    BoundedHuber,
    BoundedLogistic,
    HuberLocation,
    LogisticRegression,
    Problem,
    clip_rows,
    dataset,
)

CARD = Paper(
    slug="dp-stationary",
    title="Faster Rates of Convergence to Stationary Points in Differentially Private Optimization",
    authors=(
        "Raman Arora",
        "Raef Bassily",
        "Tomás González",
        "Cristóbal Guzmán",
        "Michael Menart",
        "Enayat Ullah",
    ),
    arxiv="2206.00846",
    date=date(2022, 6, 2),
    field="optimize",
    method=(
        "optimize.private.PrivateSpiderBoost",
        "optimize.private.TreeSpider",
        "optimize.private.RecursiveRegularization",
        "optimize.private.project_features",
        "optimize.private.NoisyGradientDescent",
        "optimize.private.PrivateLogisticRegression",
        "optimize.private.private_spider",
        "optimize.private.privacy_spent",
    ),
)

_DELTA = 1e-5


@dataclasses.dataclass(frozen=True)
class _Field:
    """A field of the state as a metric; equal names compile once."""

    name: str

    def __call__(self, problem: Any, state: Any) -> Array:
        return jnp.asarray(getattr(state, self.name))


def _leaf_estimate(problem: Any, state: Any) -> Array:
    del problem
    return jnp.asarray(state.estimates[-1])


def _squared_gradient(problem: Problem, state: Any) -> Array:
    return jnp.sum(problem.gradient(state.x) ** 2)


@eqx.filter_jit
def _norms(problem: Problem, points: Array) -> Array:
    """The norm of the gradient at each of the points."""
    norms: Array = jnp.linalg.norm(jax.vmap(problem.gradient)(points), axis=1)
    return norms


def _exact(quantity: str, predicted: Prediction, measured: Any) -> Check:
    return Check(quantity, predicted, Estimate.exact(measured))


def _finished(method: PrivateMethod[Any], problem: Problem, start: Array, budget: Budget, seeds: int) -> Any:
    """The states after all steps, by seed."""
    steps = int(method.steps)
    return run(method, problem, start, steps=steps, seeds=seeds, key=budget.key, record={}, points=[0]).state


# ---- privacy, as accounted -----------------------------------------------------------------------------------------


def _accounting(adjust: Callable[[float, int], float]) -> Finding:
    """Noisy anchors calibrated to a budget, their noise then passed through `adjust(multiplier, count)`."""
    rows = []
    for epsilon, count in itertools.product((0.1, 1.0, 4.0), (1, 100)):
        releases = [Release(adjust(calibrate([Release(1.0, count)], epsilon, _DELTA), count), count)]
        rows.append(
            {
                "epsilon": epsilon,
                "releases": count,
                "multiplier": releases[0].noise_multiplier,
                "PLD": privacy_spent(releases, _DELTA).epsilon,
                "RDP": privacy_spent(releases, _DELTA, accountant="rdp").epsilon,
                "zCDP": zcdp_epsilon(releases, _DELTA),
            }
        )
    table = pd.DataFrame(rows)
    relative = table["PLD"] / table["epsilon"]
    order = np.maximum(table["PLD"] / table["RDP"], table["RDP"] / table["zCDP"]).max()
    rho = zcdp_rho(1.0, _DELTA)
    back = zcdp_epsilon([Release(math.sqrt(2.0 / rho))], _DELTA)
    return Finding(
        [
            _exact("epsilon spent over requested, largest", at_most(1.0), relative.max()),
            _exact("epsilon spent over requested, smallest", at_least(0.9999), relative.min()),
            _exact("PLD over RDP, RDP over zCDP, largest", at_most(1.0), order),
            _exact("zCDP conversion there and back", equal_to(1.0, relative=1e-12), back),
        ],
        tables={"Budgets": table},
    )


@claim(
    statement=r"Gaussian noise with $\sigma_1 \propto L_0\sqrt{T\log(1/\delta)}/(n\varepsilon)$ makes $T$ releases on "
    r"all records $(\varepsilon, \delta)$-differentially private for replaced records",
    source="Theorem 4.2 (privacy), by an accountant in place of its constant",
    evidence="measured",
)
def calibrated_noise_spends_the_budget(budget: Budget) -> Finding:
    """The noise found for a budget, accounted for again; and three accountants in their order."""
    return _accounting(lambda multiplier, _: multiplier)


@calibrated_noise_spends_the_budget.control
def without_the_root_of_the_count(budget: Budget) -> Finding:
    """The same releases with noise that does not grow with their number."""
    return _accounting(lambda multiplier, count: multiplier / math.sqrt(count))


@calibrated_noise_spends_the_budget.control
def sensitivity_without_its_factor_two(budget: Budget) -> Finding:
    """The same releases as if replacing a record moved a mean by the norm of one record."""
    return _accounting(lambda multiplier, _: multiplier / 2.0)


# ---- sensitivity ---------------------------------------------------------------------------------------------------


def _sensitivities(budget: Budget, build: Callable[[Array, Array], Any]) -> Finding:
    """How far replacing a record moves a mean of gradients and a change of it, over the bounds, at random places."""
    records, dimension, pairs = 10, 20, budget.pick(200, 2000, 20000)
    model = BoundedLogistic(jnp.eye(dimension)[:2], jnp.arange(2), 1.0, 0.1)  # its constants hold whatever the data

    def once(key: Array) -> tuple[Array, Array]:
        keys = jax.random.split(key, 6)
        features = jax.random.normal(keys[0], (records, dimension))
        targets = jnp.where(jax.random.bernoulli(keys[1], 0.5, (records,)), 1.0, -1.0)
        other = features.at[0].set(-features[0] * jax.random.exponential(keys[2]))
        # Places where the record to be replaced is as steep, or as curved, as it gets.
        x = jax.random.normal(keys[3], (dimension,)) * 3.0
        y = x + jax.random.normal(keys[4], (dimension,)) * 0.3
        one, two = build(features, targets), build(other, targets)
        mean = jnp.linalg.norm(one.gradient(x) - two.gradient(x))
        change = jnp.linalg.norm(one.gradient(y) - one.gradient(x) - two.gradient(y) + two.gradient(x))
        moved = jnp.linalg.norm(y - x)
        return mean / (2 * model.lipschitz / records), change / (2 * model.smoothness * moved / records)

    means, changes = jax.jit(jax.vmap(once))(jax.random.split(budget.key, pairs))
    return Finding(
        [
            _exact("movement of a mean over 2L₀/n, largest", at_most(1.0 + 1e-9), means.max()),
            _exact("movement of a change over 2L₁‖Δw‖/n, largest", at_most(1.0 + 1e-9), changes.max()),
        ]
    )


@claim(
    statement=r"Replacing a record moves a mean gradient by at most $2L_0/n$ and its change from $w_{t-1}$ to $w_t$ by "
    r"at most $2L_1\lVert w_t-w_{t-1}\rVert/n$",
    source="Proof of Theorem 4.2",
    evidence="measured",
)
def replaced_records_move_means_as_bounded(budget: Budget) -> Finding:
    """Logistic loss with a regulariser that is not convex, on pairs of neighbouring data sets."""
    return _sensitivities(
        budget, lambda features, targets: BoundedLogistic(clip_rows(features, 1.0), targets, 1.0, 0.1)
    )


@replaced_records_move_means_as_bounded.control
def unbounded_features(budget: Budget) -> Finding:
    """The same movements with features of any length."""
    return _sensitivities(budget, LogisticRegression)


# ---- the headline: the exponent 2/3 --------------------------------------------------------------------------------

_DIMENSION = 50
_START = 5.0


def _bowl() -> tuple[HuberLocation, Array, float]:
    """A pseudo-Huber function, as of any number of equal records, its start and gap."""
    problem, start = HuberLocation(jnp.zeros((1, _DIMENSION))), jnp.zeros(_DIMENSION).at[0].set(_START)
    return problem, start, float(problem.objective(start))


def _mean_square(method: PrivateMethod[Any], budget: Budget, seeds: int) -> NDArray[np.float64]:
    r"""$\frac1T\sum_{t<T}\lVert\nabla F(w_t)\rVert^2$ by seed: all of the first iterates, every so many of the rest."""
    problem, start, _ = _bowl()
    steps = int(method.steps)
    first = np.arange(min(steps, 192))
    rest = np.unique(np.rint(np.linspace(first.size, steps - 1, 128)).astype(int)) if steps > first.size else first[:0]
    record = {"square": _squared_gradient}
    points = [*first.tolist(), *rest.tolist()]
    trace = run(method, problem, start, steps=steps, seeds=seeds, key=budget.key, record=record, points=points)
    values = trace["square"].sel(step=points).values
    weight = (steps - first.size) / max(rest.size, 1)
    return np.asarray((values[:, : first.size].sum(1) + weight * values[:, first.size :].sum(1)) / steps)


def _slope(x: Sequence[float], rows: NDArray[np.float64]) -> Estimate:
    """The slope of the logarithms, by seed."""
    return Estimate.mean([np.polyfit(np.log(x), np.log(row), 1)[0] for row in rows])


def _parameters(size: int) -> SpiderBoostParameters:
    constants: dict[str, Any] = {"lipschitz": 1.0, "smoothness": 1.0, "initial_gap": _bowl()[2]}
    return spiderboost_parameters(size, _DIMENSION, noise_multiplier=unit_noise(1.0, _DELTA), **constants)


def _descent(size: int) -> NoisyGradientDescent:
    """DP-GD with the horizon of its own rate, at the same budget."""
    unit = math.sqrt(_DIMENSION * math.log(1.0 / _DELTA)) / size
    steps = math.floor(math.sqrt(_bowl()[2]) / unit)
    return NoisyGradientDescent(0.5, 1.0, unit_noise(1.0, _DELTA) * math.sqrt(steps) / size, steps=steps)


def _squares(budget: Budget, build: Callable[[int], PrivateMethod[Any]], sizes: Sequence[int]) -> NDArray[np.float64]:
    return np.stack([_mean_square(build(size), budget, budget.pick(6, 10, 20)) for size in sizes], axis=1)


def _rate(sizes: Sequence[int], squares: NDArray[np.float64]) -> list[Check]:
    """The slope of the root mean squares, and each size's mean square over its certificate."""
    slope = _slope(sizes, np.sqrt(squares))
    return [
        Check("slope of the root mean square gradient norm in n", between(-0.72, -0.60), slope),
        *(
            Check(
                f"mean of ‖∇F‖² over its certificate, n = {size:,}",
                between(0.5, 1.0),
                Estimate.mean(squares[:, place] / _parameters(size).certificate),
            )
            for place, size in enumerate(sizes)
        ),
    ]


@claim(
    statement=r"Private SpiderBoost finds gradients of norm $O((\sqrt{F_0L_1L_0}\,\sqrt{d\log(1/\delta)}/n\varepsilon)"
    r"^{2/3})$; with constants, the mean of $\lVert\nabla F\rVert^2$ is at most $4L_1F_0/T + d\sigma_1^2$",
    source="Theorem 4.2 and Lemma B.1, with the constants of its proof",
    evidence="measured",
)
def gradients_fall_with_the_exponent_two_thirds(budget: Budget) -> Finding:
    """A pseudo-Huber function in 50 dimensions at ε = 1; only noise depends on n, so no data are needed."""
    sizes = (3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)[: budget.pick(4, 5, 6)]
    found = [_parameters(size) for size in sizes]
    certificates = np.sqrt([each.certificate for each in found])
    squares = _squares(budget, lambda size: _parameters(size).method(), sizes)
    slope = Check("slope of the certificate in n", between(-0.72, -0.60), _slope(sizes, np.stack([certificates] * 2)))
    table = pd.DataFrame(
        {
            "n": sizes,
            "root mean square": np.sqrt(squares).mean(0),
            "certificate": certificates,
            "T": [each.steps for each in found],
            "q": [each.period for each in found],
            "descent": np.sqrt(_squares(budget, _descent, sizes)).mean(0),
        }
    )
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(sizes, table["certificate"], "k--", label="certificate")
    axes.plot(sizes, table["root mean square"], "o-", color="tab:blue", label="private SpiderBoost")
    axes.plot(sizes, table["descent"], "s-", color="tab:orange", label="noisy gradient descent")
    anchor = np.array([sizes[0], sizes[-1]], dtype=float)
    axes.plot(anchor, 0.16 * (anchor / anchor[0]) ** (-2 / 3), color="tab:blue", alpha=0.4, ls=":", label="slope −2/3")
    axes.plot(anchor, 0.16 * (anchor / anchor[0]) ** -0.5, color="tab:orange", alpha=0.4, ls=":", label="slope −1/2")
    axes.set(xscale="log", yscale="log", xlabel="records n", ylabel="root mean square gradient norm")
    axes.legend(fontsize="small")
    ratio = table["descent"] / table["root mean square"]
    return Finding(
        [slope, *_rate(sizes, squares)],
        tables={"Gradient norms": table},
        figures={"Gradient norm against the number of records": figure},
        note=f"Noisy gradient descent has {ratio.iloc[0]:.2f} times the gradient norm at n = {sizes[0]:,} and "
        f"{ratio.iloc[-1]:.2f} times at n = {sizes[-1]:,}.",
    )


@gradients_fall_with_the_exponent_two_thirds.control
def noisy_gradient_descent(budget: Budget) -> Finding:
    """The same slope and certificate for noise on every gradient."""
    sizes = (3_000, 30_000, 100_000)
    return Finding(_rate(sizes, _squares(budget, _descent, sizes)))


@gradients_fall_with_the_exponent_two_thirds.control
def noise_that_ignores_the_step(budget: Budget) -> Finding:
    """The same corrections with noise for the largest possible change, however short the step."""
    sizes = (3_000, 30_000)

    def build(size: int) -> PrivateSpiderBoost:
        return dataclasses.replace(_parameters(size).method(), variation_deviation=1e12)

    return Finding(_rate(sizes, _squares(budget, build, sizes)))


# ---- the parameters of the theorem ---------------------------------------------------------------------------------


def _exponents(calculate: Callable[..., tuple[int, int, int]]) -> Finding:
    r"""How $T$, $q$ and $b_2$ scale with each constant, as exponents of 64-fold changes from a large instance."""
    # By the theorem, where the first term of each maximum is the larger one: T ~ (F0 L1)^(1/3) L0^(-2/3) a^(-4/3) with
    # a = sqrt(d log(1/delta)) / (n eps), q = 1/(T a^2), and b2 ~ (L0 n eps)^(2/3) (F0 L1 d log(1/delta))^(-1/3).
    base: dict[str, Any] = {
        "records": 10**9,
        "dimension": 1,
        "lipschitz": 1.0,
        "smoothness": 4096.0,
        "initial_gap": 1.0,
        "epsilon": 1.0,
        "delta": math.exp(-1.0),
    }
    expected = {
        "records": (4 / 3, 2 / 3, 2 / 3),
        "dimension": (-2 / 3, -1 / 3, -1 / 3),
        "lipschitz": (-2 / 3, 2 / 3, 2 / 3),
        "smoothness": (1 / 3, -1 / 3, -1 / 3),
        "initial_gap": (1 / 3, -1 / 3, -1 / 3),
        "epsilon": (4 / 3, 2 / 3, 2 / 3),
    }
    start, rows = np.array(calculate(**base), dtype=float), []
    for name, exponents in expected.items():
        scaled = np.array(calculate(**base | {name: base[name] * 64}), dtype=float)
        rows.append((name, *(np.log(scaled / start) / math.log(64.0)), *exponents))
    table = pd.DataFrame(rows, columns=["constant", "T", "q", "b₂", "T predicted", "q predicted", "b₂ predicted"])
    worst = np.abs(table[["T", "q", "b₂"]].to_numpy() - table.iloc[:, 4:].to_numpy()).max()
    gaps = []
    for records, dimension, smoothness, *values in ((1000, 4, 1.0, 3968, 62, 62.996), (1000, 1, 8.0, 20_000, 50, 50.0)):
        instance = {"records": records, "dimension": dimension, "smoothness": smoothness}
        gaps.append(np.abs(np.subtract(calculate(**base | instance), values)).max())
    return Finding(
        [
            _exact("exponents of T, q, b₂ in each constant, largest deviation", at_most(0.005), worst),
            _exact("distance from values by hand, which are rounded down", at_most(1.0), max(gaps)),
        ],
        tables={"Exponents": table},
    )


@claim(
    statement=r"$T = (F_0L_1)^{1/3}L_0^{-2/3}\bar\alpha^{-4/3}$ steps, an anchor every $q = 1/(T\bar\alpha^2)$ and "
    r"batches $b_2 = (L_0n\varepsilon/\sqrt{F_0L_1d\log(1/\delta)})^{2/3}$, with "
    r"$\bar\alpha = \sqrt{d\log(1/\delta)}/n\varepsilon$, are what the rate needs",
    source="Theorem B.3, without the factor L₁² that it misprints in q",
    evidence="measured",
)
def parameters_scale_as_stated(budget: Budget) -> Finding:
    """Integers from the calculator against exponents and two instances worked out by hand."""
    return _exponents(theorem_parameters)


@parameters_scale_as_stated.control
def with_the_misprint(budget: Budget) -> Finding:
    """The same with q divided by another L₁², as the theorem prints it."""

    def misprinted(**constants: Any) -> tuple[int, int, int]:
        steps, period, batch = theorem_parameters(**constants)
        return steps, max(1, int(period / constants["smoothness"] ** 2)), batch

    return _exponents(misprinted)


# ---- the tree ------------------------------------------------------------------------------------------------------


def _bookkeeping(budget: Budget, tree: TreeSpider, records: int) -> Finding:
    """One pass of the tree on a model, leaf by leaf."""
    keys = jax.random.split(budget.key, 3)
    features = clip_rows(jax.random.normal(keys[0], (records, 5)), 1.0)
    problem = BoundedLogistic(features, jax.random.bernoulli(keys[1], 0.5, (records,)), 1.0, 0.1)
    leaves = int(tree.steps)
    record = {"x": _Field("x"), "used": _Field("used")}
    trace = run(
        tree, problem, jnp.ones(5), steps=leaves, seeds=2, key=budget.key, record=record, points=range(leaves + 1)
    )
    lengths = np.linalg.norm(np.diff(trace["x"].values, axis=1), axis=2)
    expected = float(tree.length) / (2 ** (tree.depth / 2) * float(tree.smoothness))
    width = 2**tree.depth
    per_round = np.diff(trace["used"].values[0, ::width])
    # The levels of the nodes on the way to each leaf, from the sizes of the batches that were drawn.
    drawn = np.diff(trace["used"].values[0])
    order = [tree.batch // 2 ** (tree.depth - zeros) for zeros in _zeros(tree.depth)] * (leaves // width)
    distinct = len(np.unique(trace.state.order[0][: int(trace.state.used[0])]))
    samples = per_round / samples_per_round(tree.batch, tree.depth)
    one = equal_to(1.0, relative=1e-9)
    return Finding(
        [
            _exact("samples of a round over b(D/2+1), largest", equal_to(1.0), samples.max()),
            _exact("samples of a round over b(D/2+1), smallest", equal_to(1.0), samples.min()),
            _exact("batches that differ from depth-first order", equal_to(0), np.sum(drawn != order)),
            _exact("records used more than once", equal_to(0), drawn.sum() - distinct),
            _exact("step length over β/(2^{D/2}L₁), smallest", one, lengths.min() / expected),
            _exact("step length over β/(2^{D/2}L₁), largest", one, lengths.max() / expected),
        ]
    )


def _zeros(depth: int) -> list[int]:
    """How many zeros end each leaf's number in binary; leaf 0 starts at the root."""
    return [depth] + [(leaf & -leaf).bit_length() - 1 for leaf in range(1, 2**depth)]


def _tree(**changes: Any) -> TreeSpider:
    settings: dict[str, Any] = {
        "depth": 4,
        "batch": 64,
        "lipschitz": 1.5,
        "smoothness": 0.5,
        "length": 0.3,
        "tolerance": 0.0,
        "root_deviation": 0.05,
        "child_deviation": 0.05,
        "steps": 32,
    }
    return TreeSpider(**settings | changes)


@claim(
    statement=r"A round of the tree visits nodes depth first, uses $b(D/2+1)$ records, none of them twice, and makes "
    r"$2^D$ steps of the fixed length $\beta/(2^{D/2}L_1)$",
    source="Algorithm 1 and Section 3",
    evidence="measured",
)
def tree_uses_every_record_once(budget: Budget) -> Finding:
    """Two rounds of a tree of depth 4."""
    return _bookkeeping(budget, _tree(), 400)


@tree_uses_every_record_once.control
def too_few_records_for_two_rounds(budget: Budget) -> Finding:
    """The same count where the second round runs out of records."""
    return _bookkeeping(budget, _tree(), 300)


def _variances(budget: Budget, method: PrivateMethod[Any], record: Callable[[Any, Any], Array], leaves: int) -> Finding:
    """The variance of each estimate, all gradients being equal, so that nothing but noise is left."""
    seeds, dimension = budget.pick(6_000, 20_000, 100_000), 8
    problem = BoundedHuber(jnp.ones((400, dimension)), jnp.full(400, -1e9), 3.0)
    trace = run(
        method, problem, jnp.zeros(dimension), steps=leaves, seeds=seeds, key=budget.key, record={"g": record},
        points=range(leaves + 1),
    )  # fmt: skip
    estimates = trace["g"].values[:, 1:]
    ones = np.array([leaf.bit_count() for leaf in range(leaves)])
    variances = estimates.var(axis=0).mean(axis=-1)
    level = 1.0 - 0.05 / leaves
    freedom = (seeds - 1) * dimension
    low, high = stats.chi2.ppf([(1 - level) / 2, (1 + level) / 2], freedom) / freedom
    ratios = variances[1:] / ones[1:]
    checks = [
        _exact("variance of the estimate at leaf 0", at_most(1e-9), variances[0]),
        *(
            Check(
                f"variance at a leaf over its number of 1 bits, {name}",
                between(0.95, 1.05),
                Estimate(value, value / high, value / low, f"χ² interval at {100 * level:.2f}%, {seeds} runs"),
            )
            for name, value in {"smallest": ratios.min(), "largest": ratios.max()}.items()
        ),
    ]
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(leaves), variances, "o-", label="measured")
    axes.plot(range(leaves), ones, "k--", label="1 bits of the leaf's number")
    axes.plot(range(leaves), np.arange(leaves), color="tab:orange", ls=":", label="one correction a step")
    axes.set(xlabel="leaf", ylabel="variance of the estimate", ylim=(-0.3, 8))
    axes.legend(fontsize="small")
    table = pd.DataFrame({"leaf": range(leaves), "variance": variances, "1 bits": ones})
    return Finding(checks, tables={"Variances": table}, figures={"Noise along the leaves": figure})


@claim(
    statement=r"The estimate at leaf $j$ of the tree is a sum of at most $D$ noisy corrections: with unit noise each, "
    r"and none at the root, its variance is the number of 1 bits of $j$, against $j$ for one correction a step",
    source="Section 3, the idea of the tree",
    evidence="measured",
)
def noise_counts_the_bits_of_the_leaf(budget: Budget) -> Finding:
    """A tree of depth 4 on a function whose gradients are all equal."""
    tree = _tree(root_deviation=0.0, child_deviation=1.0, lipschitz=1.0, steps=16)
    return _variances(budget, tree, _leaf_estimate, 16)


@noise_counts_the_bits_of_the_leaf.control
def sequential_corrections(budget: Budget) -> Finding:
    """The same variances of SpiderBoost, whose corrections pile up from step to step."""
    chain = PrivateSpiderBoost(
        period=1000, step_size=1.0, lipschitz=1.0, smoothness=1.0, anchor_deviation=0.0,
        variation_deviation=1e12, variation_ceiling=1.0, steps=16,
    )  # fmt: skip
    return _variances(budget, chain, _Field("estimate"), 16)


# ---- real data -----------------------------------------------------------------------------------------------------


def _halves(budget: Budget, name: str) -> tuple[BoundedLogistic, BoundedLogistic]:
    """A training and a held-out set: rows within the unit ball, and a penalty that is not convex."""
    if name == "digits 3 and 5":
        features, targets = dataset("digits", classes=(3, 5), standardise=False)
        features = features / 16.0
    elif name == "breast cancer":
        features, targets = dataset("breast_cancer")
    else:
        rng = np.random.default_rng(budget.seed)
        features = rng.standard_normal((3_000, 10))
        targets = rng.random(3_000) < 1.0 / (1.0 + np.exp(-3.0 * features[:, 0]))
    order = np.random.default_rng(budget.seed).permutation(len(targets))
    rows = features[order] / np.linalg.norm(features[order], axis=1, keepdims=True)
    half = len(order) // 2
    train, test = (
        BoundedLogistic(jnp.asarray(rows[part]), jnp.asarray(targets[order[part]]), 1.0, 0.01)
        for part in (slice(half), slice(half, None))
    )
    return train, test


def _silenced(method: Any, factor: float) -> Any:
    """The method with all its noise multiplied."""
    names = [field.name for field in dataclasses.fields(method) if field.name.endswith(("deviation", "ceiling"))]
    return dataclasses.replace(method, **{name: getattr(method, name) * factor for name in names})


def _held_out(budget: Budget, epsilons: Sequence[float], noise: Callable[[float], float]) -> Finding:
    r"""Held-out gradient norms of three methods; `noise` maps a budget to the one whose noise is added."""
    seeds, rows, checks = budget.pick(16, 20, 50), [], []
    for name in budget.pick(("synthetic",), ("synthetic", "digits 3 and 5", "breast cancer"), ("synthetic",)):
        train, test = _halves(budget, name)
        start = jnp.ones(train.features.shape[1])
        gap = float(np.log1p(math.e)) + 0.01 * start.size
        settings: dict[str, Any] = {"delta": _DELTA}
        unit = unit_noise(1.0, _DELTA)
        methods: dict[str, Any] = {
            "SpiderBoost": PrivateSpiderBoost.calibrated(
                train, start, epsilon=1.0, initial_gap=gap, most_steps=100, **settings
            ),
            "noisy gradient descent": NoisyGradientDescent.calibrated(
                train, epsilon=1.0, steps=60, step_size=0.5 / float(train.smoothness), **settings
            ),
            "tree": dataclasses.replace(
                TreeSpider.theory(train, start, epsilon=1.0, tolerance=0.0, **settings), clip=True
            ),
        }
        for label, method in methods.items():
            norms = {}
            for epsilon in epsilons:
                scaled = _silenced(
                    method, unit_noise(noise(epsilon), _DELTA) / unit if math.isfinite(noise(epsilon)) else 0.0
                )
                norms[epsilon] = np.asarray(_norms(test, _finished(scaled, train, start, budget, seeds).x))
                rows.append({"data": name, "method": label, "epsilon": epsilon, "held-out ‖∇F‖": norms[epsilon].mean()})
            quiet = norms[math.inf]
            checks += [
                Check(
                    f"{label}, {name}: ‖∇F‖ at ε = {large:g} minus that at ε = {small:g}",
                    at_most(0.0),
                    Estimate.mean(norms[large] - norms[small]),
                )
                for small, large in ((0.1, 1.0), (1.0, 1e6))
            ]
            apart = np.linalg.norm(norms[1e6] - quiet) / np.linalg.norm(quiet)
            checks.append(_exact(f"{label}, {name}: relative distance of ε = 10⁶ from no noise", at_most(0.02), apart))
    return Finding(checks, tables={"Held-out gradient norms": pd.DataFrame(rows)})


@claim(
    statement=r"The gradient norm on fresh data falls as $\varepsilon$ grows, towards what is found without noise",
    source="Theorems 3.2 and 4.2, as functions of ε",
    evidence="measured",
)
def more_budget_means_smaller_gradients(budget: Budget) -> Finding:
    """Last iterates at four budgets, trained on one half of the data and measured on the other."""
    return _held_out(budget, (0.1, 1.0, 1e6, math.inf), lambda epsilon: epsilon)


@more_budget_means_smaller_gradients.control
def noise_that_ignores_the_budget(budget: Budget) -> Finding:
    """The same norms where every budget gets the noise of ε = 0.1, except the one without noise."""
    return _held_out(budget, (0.1, 1.0, 1e6, math.inf), lambda epsilon: epsilon if math.isinf(epsilon) else 0.1)


# ---- convex problems -----------------------------------------------------------------------------------------------


def _population(budget: Budget, size: int) -> BoundedLogistic:
    rng = np.random.default_rng(budget.seed)
    features = rng.standard_normal((size, 10))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    direction = rng.standard_normal(10)
    direction *= 3.0 / np.linalg.norm(direction)
    labels = rng.random(size) < 1.0 / (1.0 + np.exp(-features @ direction))
    return BoundedLogistic(jnp.asarray(features), jnp.asarray(labels), 1.0)


def _convex(budget: Budget, change: Callable[[RecursiveRegularization], RecursiveRegularization]) -> Finding:
    """Population gradient norms of the output, each seed with its own sample from a pool four times as large."""
    sizes = budget.pick((4_000, 48_000), (3_000, 12_000, 48_000, 192_000), (3_000, 12_000, 48_000, 192_000))
    pool, epsilon, seeds = _population(budget, 4 * sizes[-1]), 20.0, budget.pick(16, 16, 32)
    solver, start, norms = NoisyGradientSolver(budget.pick(40, 300, 1000)), jnp.zeros(10), []
    for size in sizes:
        part, source = (BoundedLogistic(pool.features[:n], pool.targets[:n], 1.0) for n in (size, 4 * size))
        method = RecursiveRegularization.theory(part, start, epsilon=epsilon, delta=_DELTA, radius=4.0, solver=solver)
        norms.append(np.asarray(_norms(pool, _finished(change(method), source, start, budget, seeds).output)))
    rate = np.array([1 / math.sqrt(size) + math.sqrt(10) / (size * epsilon) for size in sizes])
    values = np.stack(norms, axis=1)
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(sizes, values.T, "o", color="tab:blue", alpha=0.4)
    axes.plot(sizes, values.mean(0), color="tab:blue", label="recursive regularisation, by seed and mean")
    axes.plot(sizes, rate * values[:, 0].mean() / rate[0], "k--", label="the rate, through the first mean")
    axes.set(xscale="log", yscale="log", xlabel="records n", ylabel="population gradient norm")
    axes.legend(fontsize="small")
    table = pd.DataFrame({"n": sizes, "gradient norm": values.mean(0), "rate": rate})
    return Finding(
        [Check("slope of the population gradient norm in n", between(-0.65, -0.35), _slope(sizes, values))],
        tables={"Population gradient norms": table},
        figures={"Convex problems": figure},
    )


@claim(
    statement=r"Recursive regularisation makes the population gradient of a convex problem as small as "
    r"$n^{-1/2} + \sqrt d/n\varepsilon$, up to logarithms",
    source="Theorem 5.1",
    evidence="measured",
)
def convex_gradients_fall_with_the_exponent_one_half(budget: Budget) -> Finding:
    """Logistic regression in 10 dimensions at ε = 20, where the first term leads at these sizes."""
    return _convex(budget, lambda method: method)


@convex_gradients_fall_with_the_exponent_one_half.control
def one_strong_regulariser(budget: Budget) -> Finding:
    """The same slope with a single phase and a regulariser that does not weaken."""
    return _convex(budget, lambda method: dataclasses.replace(method, regularisation=0.1, steps=1))


def _floor(budget: Budget, privacy: float) -> Finding:
    """Gradients found at the means of points that no private method can locate well, over the lower bound."""
    dimension, epsilon = 20, 1.0
    rows = []
    for size in (200, 1000):
        rng = np.random.default_rng(budget.seed)
        signs = rng.choice([-1.0, 1.0], (size, dimension)) / math.sqrt(dimension)
        problem, start = HuberLocation(jnp.asarray(signs)), jnp.zeros(dimension)
        method = PrivateSpiderBoost.calibrated(
            problem, start, epsilon=epsilon * privacy, delta=_DELTA, initial_gap=1.0, most_steps=60
        )
        norms = _norms(problem, _finished(method, problem, start, budget, 50).output)
        unit = math.sqrt(dimension * math.log(1.0 / _DELTA)) / (size * epsilon)
        rows.append((size, float(norms.mean()), float(norms.min()), unit))
    table = pd.DataFrame(rows, columns=["n", "mean", "smallest of 50", "unit"])
    ratio = (table["smallest of 50"] / table["unit"]).min()
    return Finding(
        [_exact("gradient norm over √(d log(1/δ))/nε, smallest of 50 runs", at_least(0.02), ratio)],
        tables={"Gradient norms": table},
    )


@claim(
    statement=r"No $(\varepsilon,\delta)$-private method finds gradients below the order of "
    r"$L_0\sqrt{d\log(1/\delta)}/n\varepsilon$, even of convex functions",
    source="Theorem 4.3, on its Huber instance",
    evidence="measured",
)
def lower_bound_is_respected(budget: Budget) -> Finding:
    """Private SpiderBoost on the mean of signs; a sanity check, since it cannot try every method."""
    return _floor(budget, 1.0)


@lower_bound_is_respected.control
def a_budget_a_million_times_larger(budget: Budget) -> Finding:
    """The same ratio for a method that is hardly private, against the bound at ε = 1."""
    return _floor(budget, 1e6)


# ---- generalised linear models -------------------------------------------------------------------------------------


def _embedded(budget: Budget, dimension: int) -> BoundedHuber:
    """Regression data of rank 5 in `dimension` dimensions; the same up to rotation for every dimension."""
    rng = np.random.default_rng(budget.seed)
    low = rng.standard_normal((150, 5))
    low /= np.linalg.norm(low, axis=1, keepdims=True)
    direction = rng.standard_normal(5)
    targets = 3.0 * low @ direction / np.linalg.norm(direction) + 0.1 * rng.standard_normal(150)
    basis = np.linalg.qr(rng.standard_normal((dimension, 5)))[0]
    return BoundedHuber(jnp.asarray(low @ basis.T), jnp.asarray(targets), 1.0)


def _dimensions(budget: Budget, *, project: bool) -> Finding:
    """The root mean square gradient norm in 2000 dimensions over that in 100, at the same budget."""
    rows = []
    for dimension in (100, 2000):
        problem = _embedded(budget, dimension)
        # A public bound: the loss at zero is at most |b|, and the data were made with |b| < 4.
        settings: dict[str, Any] = {"epsilon": 100.0, "delta": _DELTA, "initial_gap": 4.0}
        inner: Any = problem
        lift: Callable[[Array], Array] = jnp.asarray
        if project:
            width = min(dimension, projection_dimension(problem.components, 5, _DELTA))
            inner, lift = project_features(problem, width, jax.random.fold_in(budget.key, dimension))
        start = jnp.zeros(inner.features.shape[1])
        method = PrivateSpiderBoost.calibrated(inner, start, **settings)
        trace = run(
            method, inner, start, steps=int(method.steps), seeds=4, key=budget.key, record={"x": _Field("x")},
            points=100, spacing="linear",
        )  # fmt: skip
        squares = [(_norms(problem, lift(jnp.asarray(iterates))) ** 2).mean() for iterates in trace["x"].values]
        rows.append((dimension, start.size, int(method.steps), *np.sqrt(squares)))
    ratio = np.array(rows[1][3:]) / np.array(rows[0][3:])
    table = pd.DataFrame(
        {"d": [row[0] for row in rows], "k": [row[1] for row in rows], "T": [row[2] for row in rows]}
    ).assign(norm=[np.mean(row[3:]) for row in rows])
    return Finding(
        [Check("gradient norm in 2000 dimensions over that in 100", between(0.7, 1.4), Estimate.mean(ratio))],
        tables={"Root mean square gradient norms": table},
    )


@claim(
    statement=r"For generalised linear models a random projection makes the rate depend on the rank of the data, "
    r"not on $d$",
    source="Corollary 6.2 and Algorithm 4",
    evidence="measured",
)
def projection_forgets_the_dimension(budget: Budget) -> Finding:
    """Pseudo-Huber regression on data of rank 5, embedded in 100 and in 2000 dimensions."""
    return _dimensions(budget, project=True)


@projection_forgets_the_dimension.control
def without_projection(budget: Budget) -> Finding:
    """The same ratio for SpiderBoost on the data as they are."""
    return _dimensions(budget, project=False)


# ---- the audit -----------------------------------------------------------------------------------------------------


def _canaries() -> tuple[BoundedHuber, BoundedHuber]:
    """Two data sets that differ in one record, whose gradient is about as long as can be, in opposite directions."""
    rng = np.random.default_rng(0)
    features = np.asarray(clip_rows(jnp.asarray(rng.standard_normal((20, 2))), 1.0)).copy()
    features[0] = (1.0, 0.0)
    targets = rng.standard_normal(20)
    sides = [np.concatenate([[canary], targets[1:]]) for canary in (4.0, -4.0)]
    rows = jnp.asarray(features)
    return BoundedHuber(rows, jnp.asarray(sides[0]), 1.0), BoundedHuber(rows, jnp.asarray(sides[1]), 1.0)


def _scores(trace: Any, claimed: PrivateSpiderBoost, data: tuple[BoundedHuber, BoundedHuber]) -> NDArray[np.float64]:
    """Two tests of the first data set against the second, given all that each run released, shape `(2, runs)`.

    The likelihood ratio under the noise that is claimed; and the ratio of how far what was released as corrections is
    from either data set's, which is large where noise is missing.
    """
    x, estimates = jnp.asarray(trace["x"].values), jnp.asarray(trace["g"].values)
    gradients = [jax.vmap(jax.vmap(each.gradient))(x) for each in data]
    likelihood, closeness = jnp.zeros(len(x)), jnp.zeros(len(x))
    for step in range(int(claimed.steps)):
        anchor = step % int(claimed.period) == 0
        before = 0.0 if anchor else 1.0
        released = estimates[:, step + 1] - before * estimates[:, step]
        means = [each[:, step] - before * each[:, step - 1] for each in gradients]
        length = jnp.linalg.norm(x[:, step] - x[:, step - 1], axis=1)
        corrected = jnp.minimum(claimed.variation_deviation * length, claimed.variation_ceiling)
        squares = [jnp.sum((released - mean) ** 2, axis=1) for mean in means]
        likelihood += (squares[1] - squares[0]) / (2.0 * (claimed.anchor_deviation if anchor else corrected) ** 2)
        if not anchor:
            closeness += jnp.log((squares[1] + 1e-20) / (squares[0] + 1e-20))
    return np.stack([likelihood, closeness])


def _empirical_epsilon(scores: NDArray[Any], others: NDArray[Any], confidence: float = 0.975) -> float:
    """A lower bound on ε by Clopper-Pearson intervals; thresholds are chosen on the first halves of the scores."""
    half = len(scores) // 2
    candidates = np.quantile(scores[:half], [0.5, 0.8, 0.9, 0.95, 0.99, 0.999])

    def bound(first: NDArray[Any], second: NDArray[Any], threshold: float) -> float:
        hits, false = int((first > threshold).sum()), int((second > threshold).sum())
        risk = (1.0 - confidence) / 2
        low = stats.beta.ppf(risk, hits, len(first) - hits + 1) if hits else 0.0
        high = stats.beta.ppf(1 - risk, false + 1, len(second) - false) if false < len(second) else 1.0
        return math.log((low - _DELTA) / high) if low > _DELTA else 0.0

    best = max(candidates, key=lambda threshold: bound(scores[:half], others[:half], threshold))
    return max(0.0, bound(scores[half:], others[half:], best))


def _audit(
    budget: Budget, epsilons: Sequence[float], mutate: Callable[[PrivateSpiderBoost], PrivateSpiderBoost]
) -> Finding:
    """The most that an observer of every release can prove about ε, who knows both data sets and the claimed noise."""
    data, runs = _canaries(), budget.pick(20_000, 100_000, 1_000_000)
    checks, rows = [], []
    for epsilon in epsilons:
        claimed = PrivateSpiderBoost(
            period=2, step_size=0.5, lipschitz=1.0, smoothness=1.0, anchor_deviation=1.0, variation_deviation=1.0,
            variation_ceiling=2.0, steps=4,
        ).rescaled(20, epsilon, _DELTA)  # fmt: skip
        added = mutate(claimed)
        scores = []
        for side, problem in enumerate(data):
            trace = run(
                added, problem, jnp.zeros(2), steps=4, seeds=runs, key=jax.random.fold_in(budget.key, side),
                record={"x": _Field("x"), "g": _Field("estimate")}, points=range(5),
            )  # fmt: skip
            scores.append(_scores(trace, claimed, data))
        spent = claimed.privacy(20, _DELTA).epsilon
        # Two tests share the risk of error.
        found = max(_empirical_epsilon(*pair) for pair in zip(*scores, strict=True))
        rows.append((epsilon, spent, found))
        checks.append(_exact(f"empirical lower bound on ε, claimed {epsilon:g}", at_most(spent), found))
    table = pd.DataFrame(rows, columns=["ε requested", "ε claimed", "ε at least, with 95% confidence"])
    return Finding(checks, tables={"Audit": table})


@claim(
    statement=r"Private SpiderBoost is $(\varepsilon, \delta)$-differentially private: no test between neighbouring "
    r"data sets does better than $\varepsilon$ allows",
    source="Theorem 4.2 (privacy)",
    evidence="measured",
)
def an_observer_proves_less_than_is_claimed(budget: Budget) -> Finding:
    """Likelihood-ratio tests for a replaced record, from the whole transcript of many runs."""
    return _audit(budget, (0.5, 1.0, 4.0), lambda method: method)


@an_observer_proves_less_than_is_claimed.control
def a_quarter_of_the_noise(budget: Budget) -> Finding:
    """The same tests where every deviation is a quarter of what is claimed."""
    return _audit(budget, (0.5, 1.0), lambda method: _silenced(method, 0.25))


@an_observer_proves_less_than_is_claimed.control
def no_noise_on_corrections(budget: Budget) -> Finding:
    """The same tests where corrections are released without noise."""
    return _audit(budget, (1.0,), lambda method: dataclasses.replace(method, variation_deviation=0.0))
