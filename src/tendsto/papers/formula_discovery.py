r"""Formulas for constants found by how they converge, before anyone knows what they converge to.

For a continued fraction with polynomial terms the error of the $n$-th convergent falls like $|r|^{-n}$, $r$ the ratio
of the eigenvalues of its recurrence, and where the factorial growth of the denominators cancels they grow like
$e^{\gamma' n}$. So the irrationality exponent of its convergents tends to $\ln|r|/\gamma' - 1$, whatever the limit is.
Such metrics, computed blindly with a deep convergent in the place of the limit, put formulas of one constant side by
side: they are clustered, and a cluster is named by one known formula in it, or by a few integer relations.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
import tracemalloc
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tendsto.constants import (
    LIBRARY,
    PCF,
    Box,
    FormulaClusterer,
    Identifier,
    arctangent,
    area_tangent,
    blind_delta,
    build_metrics,
    eigenvalue_ratio,
    label_clusters,
    limit_of,
    metrics,
    metrics_part,
    predicted_delta,
    reducing,
    split_by_eigenvalue_ratio,
)
from tendsto.constants.clustering import exponential
from tendsto.constants.dynamics import fit
from tendsto.constants.polynomials import log
from tendsto.evidence import Budget, Check, Estimate, Finding, Paper, at_least, at_most, claim, equal_to

CARD = Paper(
    slug="formula-discovery",
    title="Unsupervised Discovery of Formulas for Mathematical Constants",
    authors=(
        "Michael Shalyt",
        "Uri Seligmann",
        "Itay Beit Halachmi",
        "Ofir David",
        "Rotem Elimelech",
        "Ido Kaminer",
    ),
    arxiv="2412.16818",
    date=date(2024, 12, 22),
    field="constants",
    method=(
        "constants.blind_delta",
        "constants.metrics",
        "constants.FormulaClusterer",
        "constants.label_clusters",
        "constants.find_families",
    ),
)

_SAFE_THRESHOLD = 0.25  # of the factorial growth; see `metrics`


# --- the predicted exponent


def _formulas() -> list[PCF]:
    rows = [PCF([11, 11, 3], [1, 0, 0, 0, 0]), arctangent(1, 2).formula, PCF([6, 3], [-1, 0, 0])]
    rows += [PCF([2 * k, k], [1, 0, 0]) for k in range(1, 13)]
    return rows + [PCF([2 * k, k], [-1, 0, 0]) for k in range(2, 13)]


def _exponents(formulas: Sequence[PCF], depth: int, *, reduced: bool) -> pd.DataFrame:
    """Predicted, blind and certified exponents; predictions from denominators that are reduced or as they come."""
    rows = []
    for formula in formulas:
        if reduced:
            predicted = metrics(formula, depth, factorial_threshold=_SAFE_THRESHOLD).predicted_delta
        else:
            growth, factorial = _raw_growth(formula, depth)
            predicted = predicted_delta(eigenvalue_ratio(formula), growth, factorial)
        rows.append((str(formula), predicted, blind_delta(formula, depth), float(formula.delta(depth // 2).mid())))
    return pd.DataFrame(rows, columns=["formula", "predicted", "blind", "certified"])


def _raw_growth(formula: PCF, depth: int) -> tuple[float, float]:
    last = depth // 2
    depths = (6, last // 8, last // 4, last // 2, last)
    growth, factorial = fit(depths, [log(it.q) for it in formula.convergents(depths)], ("n", "n ln n"))[0]
    return growth, factorial


def _exponent_finding(table: pd.DataFrame) -> Finding:
    worst = (table["predicted"] - table["blind"]).abs().max()
    blind = (table["blind"] - table["certified"]).abs().max()
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(table["predicted"], table["blind"], s=18, alpha=0.7)
    ends = [table["blind"].min(), table["blind"].max()]
    axes.plot(ends, ends, "k--", linewidth=0.8)
    axes.set(xlabel=r"predicted, $\ln|r|/\gamma' - 1$", ylabel="blind exponent")
    return Finding(
        [
            Check("largest |predicted − blind| exponent", at_most(0.01), Estimate.exact(worst)),
            Check("largest |blind − certified| exponent", at_most(1e-9), Estimate.exact(blind)),
        ],
        tables={"Irrationality exponents": table},
        figures={"Predicted and blind exponents": figure},
    )


@claim(
    statement=r"With factorial reduction the irrationality exponent is $\ln|r|/\gamma' - 1$, known without the limit; "
    r"and a deep convergent in the place of the limit gives the same exponent",
    source="Section 3 and its equation for the predicted δ",
    evidence="measured",
)
def prediction_meets_the_blind_exponent(budget: Budget) -> Finding:
    """$a = k(2n+1)$, $b = \\pm n^2$ and two more; exponents with a rigorously enclosed limit beside them."""
    return _exponent_finding(_exponents(_formulas(), budget.pick(2000, 4000, 20_000), reduced=True))


@prediction_meets_the_blind_exponent.control
def denominators_as_they_come(budget: Budget) -> Finding:
    """The same prediction from denominators that still hold the factor they share with the numerators."""
    return _exponent_finding(_exponents(_formulas(), 2000, reduced=False))


# --- which formulas reduce


def _fitted(formula: PCF, depth: int, *, reduced: bool) -> float:
    if reduced:
        return metrics(formula, depth, factorial_threshold=0.0).factorial_growth
    return _raw_growth(formula, depth)[1]


def _anchors_of_degree_one() -> list[PCF]:
    inverse = [arctangent(1, t) for t in range(1, 16)] + [area_tangent(1, t) for t in range(2, 17)]
    return [it.formula for it in inverse + [arctangent(s) for s in range(2, 17)]] + [
        PCF([11, 11, 3], [1, 0, 0, 0, 0]),
        PCF([34, 51, 27, 5], [-1, 0, 0, 0, 0, 0, 0]),
    ]


def _balanced(number: int, seed: int) -> list[PCF]:
    """Random fractions with deg b = 2 deg a = 2 that converge exponentially to no rational number."""
    generator, box = np.random.default_rng(seed), Box(1, 2, 5)
    found: list[PCF] = []
    while len(found) < number:
        start = int(generator.integers(box.size))
        a, b = box.coefficients(start, start + 1)
        formula = PCF(a[0].tolist(), b[0].tolist())
        balanced = len(formula.a) == 2 and formula.convergence == "exponential"
        if balanced and metrics(formula, 112).status == "measured":
            found.append(formula)
    return found


def _confusion(number: int, depth: int, seed: int, *, reduced: bool) -> Finding:
    identifier, rows = Identifier(), []
    for kind, formulas in (("known in closed form", _anchors_of_degree_one()), ("random", _balanced(number, seed))):
        for formula in formulas:
            eta = abs(_fitted(formula, depth, reduced=reduced))
            named = kind != "random" or identifier(formula, LIBRARY.values()) is not None
            rows.append((kind, named, eta))
    table = pd.DataFrame(rows, columns=["kind", "named", "eta"])
    small = table["eta"] < 0.05
    counts = pd.crosstab([table["kind"], table["named"]], np.where(small, "|η'| < 0.05", "|η'| ≥ 0.05")).reset_index()
    known, unnamed = table["kind"] != "random", ~table["named"]
    return Finding(
        [
            Check("formulas known in closed form with |η'| < 0.05, share", at_least(0.95), _share(small[known])),
            Check("random formulas without a name with |η'| ≥ 0.05, share", at_least(0.95), _share(~small[unnamed])),
        ],
        tables={"Confusion matrix": counts},
        note=f"Fitted at depth {depth}. Without a name, the smallest |η'| is {table['eta'][unnamed].min():.3f}; "
        f"known in closed form, the largest is {table['eta'][known].max():.3f}.",
    )


def _share(values: pd.Series) -> Estimate:
    return Estimate.exact(values.mean())


@claim(
    statement=r"A fit of $\log\tilde q_n \approx \gamma' n + \eta' n\ln n$ at five depths tells formulas of constants "
    r"from others: $|\eta'| < 0.05$",
    source="Section 3",
    evidence="measured",
)
def the_fit_tells_formulas_from_others(budget: Budget) -> Finding:
    """47 formulas of known value of degree at least one, and random fractions, each looked up in the library."""
    return _confusion(budget.pick(100, 400, 2000), 2000, budget.seed, reduced=True)


@the_fit_tells_formulas_from_others.control
def fit_without_reduction(budget: Budget) -> Finding:
    """The same fit to the denominators as they come, which grow factorially in every case."""
    return _confusion(20, 2000, budget.seed, reduced=False)


# --- clusters are constants


@functools.cache
def _study(bound: int) -> pd.DataFrame:
    """The fractions of a box with a linear and b quadratic that reduce factorially, and are no rational number."""
    box = Box(1, 2, bound)
    return reducing(metrics_part(box, 2000, _SAFE_THRESHOLD, True, (0, box.size)))


@functools.cache
def _names(bound: int) -> tuple[str, ...]:
    """What each of them is by brute force, formula by formula and constant by constant; and what that took."""
    identifier, table = Identifier(), _study(bound)
    found = [identifier(PCF(a, b), LIBRARY.values()) for a, b in zip(table["a"], table["b"], strict=True)]
    return (*("" if it is None else it.name for it in found), str(identifier.relations))


def _agreeing_pairs(labels: NDArray[np.intp], names: NDArray[np.object_]) -> float:
    """Of the pairs of named formulas in one cluster, the share with the same constant; NaN if there is none."""
    same, pairs = 0, 0
    for label in range(labels.max(initial=-1) + 1):
        found = names[(labels == label) & (names != "")]
        pairs += len(found) * (len(found) - 1) // 2
        same += sum(x == y for x, y in itertools.combinations(found, 2))
    return same / pairs if pairs else float("nan")


def _pairs_check(share: float) -> Check:
    return Check(
        "pairs of named formulas in one cluster that share the constant", at_least(0.95), Estimate.exact(share)
    )


def _mixed(labels: NDArray[np.intp], names: NDArray[np.object_]) -> int:
    """How many clusters hold formulas both of pi and of ln(2 + sqrt 3)."""
    return sum(
        {"pi", "ln(2+sqrt3)*sqrt3"} <= set(names[labels == label]) for label in range(labels.max(initial=-1) + 1)
    )


def _related_share(table: pd.DataFrame, groups: Sequence[NDArray[np.intp]], pairs: int, seed: int) -> float:
    """The share of groups in which all of some random pairs satisfy a_0 + a_1 x + a_2 y + a_3 xy = 0."""
    generator, identifier, good = np.random.default_rng(seed), Identifier(), 0
    for rows in groups:
        formulas = [PCF(table["a"][row], table["b"][row]) for row in rows]
        chosen = list(itertools.combinations(formulas, 2))
        if len(chosen) > pairs:
            chosen = [chosen[i] for i in generator.choice(len(chosen), pairs, replace=False)]
        hits = [identifier(x, [limit_of(y)]) for x, y in chosen]
        good += all(hit is not None for hit in hits)
    return good / len(groups)


def _cluster_figure(table: pd.DataFrame, labels: NDArray[np.object_]) -> Figure:
    figure = Figure(figsize=(8.2, 4.8), layout="constrained")
    axes = figure.subplots()
    ratio = np.sign(table["eigenvalue_ratio"]) * np.log(table["eigenvalue_ratio"].abs())
    shown = pd.Series([it if not it.startswith("limit of") else "a constant without a name" for it in labels])
    order = ["", "a constant without a name", *[it for it in shown.value_counts().index if it and "without" not in it]]
    for label, marker in zip(order, itertools.cycle("xosD^vP*<>"), strict=False):
        rows = (shown == label).to_numpy()
        if rows.any():
            shade = None if label else "0.6"
            text = label or "not in a named cluster"
            x, y = table["blind_delta"][rows], ratio[rows]
            axes.scatter(x, y, s=26, marker=marker, alpha=0.75, label=text, color=shade)
    axes.set(xlabel=r"blind exponent $\hat\delta$", ylabel=r"$\operatorname{sign}(r)\,\ln|r|$")
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


@claim(
    statement="Formulas in one cluster of convergence metrics are related to the same constant; clusters that "
    "hold two constants are noticed and split",
    source="Section 4 and Figure 1",
    evidence="measured",
)
def clusters_are_constants(budget: Budget) -> Finding:
    """The small box; the paper's planes and settings, then the sign and size of r; names by brute force beside it."""
    bound = budget.pick(3, 4, 5)
    table, names = _study(bound), np.array(_names(bound)[:-1], dtype=object)
    plane = FormulaClusterer().fit(table).labels_
    split = split_by_eigenvalue_ratio(table, plane)
    final = label_clusters(table, seed=budget.seed)
    groups = [it.members for it in final.clusters if len(it.members) > 1]
    related = _related_share(table, groups, budget.pick(6, 20, 100), budget.seed)
    return Finding(
        [
            _pairs_check(_agreeing_pairs(split, names)),
            Check("final clusters with all sampled pairs related, share", at_least(0.95), Estimate.exact(related)),
            Check(
                "clusters of the plane that mix π and ln(2+√3)/√3", at_least(1), Estimate.exact(_mixed(plane, names))
            ),
            Check("the same after the split by r", equal_to(0), Estimate.exact(_mixed(split, names))),
        ],
        tables={"Final clusters": final.to_frame()},
        figures={"Clusters of formulas": _cluster_figure(table, final.labels)},
        note=f"{len(table)} formulas, {final.contradictory} clusters split on the way, {final.relations} relations. "
        f"Before the split by r, {_agreeing_pairs(plane, names):.2f} of the pairs agree.",
    )


@clusters_are_constants.control
def clusters_of_the_value(budget: Budget) -> Finding:
    """The same clustering of the numerical value, in which nearby formulas have nothing to do with each other."""
    table, names = _study(3), np.array(_names(3)[:-1], dtype=object)
    labels = FormulaClusterer(planes=(("limit", "limit"),), min_cluster_size=2, reach=1.0).fit(table).labels_
    return Finding([_pairs_check(_agreeing_pairs(labels, names))])


@clusters_are_constants.control
def metrics_of_another_formula(budget: Budget) -> Finding:
    """The same clusters with each formula given the metrics of another one at random."""
    table, names = _study(3), np.array(_names(3)[:-1], dtype=object)
    labels = split_by_eigenvalue_ratio(table, FormulaClusterer().fit(table).labels_)
    shuffled = np.random.default_rng(budget.seed).permutation(labels)
    return Finding([_pairs_check(_agreeing_pairs(shuffled, names))])


# --- fewer integer relations


def _relations(bound: int, seed: int, clusterer: FormulaClusterer) -> Finding:
    table, brute = _study(bound), _names(bound)
    names = np.array(brute[:-1], dtype=object)
    final = label_clusters(table, seed=seed, clusterer=clusterer)
    common = [name for name, count in zip(*np.unique(names[names != ""], return_counts=True), strict=True) if count > 1]
    named = np.isin(names, common)
    found = float((final.labels[named] == names[named]).mean())
    return Finding(
        [
            Check(
                "integer relations with clusters / one by one",
                at_most(0.2),
                Estimate.exact(final.relations / int(brute[-1])),
            ),
            Check(
                "formulas of constants with more than one that get their name", at_least(0.95), Estimate.exact(found)
            ),
        ],
        tables={"Final clusters": final.to_frame()},
        note=f"{final.relations} relations against {brute[-1]} for {len(table)} formulas and {len(LIBRARY)} constants. "
        f"Clusters also relate {int(np.char.startswith(final.labels.astype(str), 'limit of').sum())} formulas that no "
        "constant of the library names, which one by one is not even asked.",
    )


@claim(
    statement="Clusters are named by a few integer relations each, at most a fifth of those that every formula with "
    "every constant would take",
    source="Section 4; the fifth is ours",
    evidence="measured",
)
def clusters_save_integer_relations(budget: Budget) -> Finding:
    """Relations looked for in the labelling loop, and one by one, counted on the same formulas."""
    return _relations(budget.pick(3, 4, 5), budget.seed, FormulaClusterer())


@clusters_save_integer_relations.control
def clusters_that_mean_nothing(budget: Budget) -> Finding:
    """The same loop on clusters of the numerical value."""
    planes = (("limit", "limit"),)
    return _relations(3, budget.seed, FormulaClusterer(planes, min_cluster_size=2, reach=1.0))


# --- names from half of what is known


def _held_back(bound: int, seeds: Sequence[int], *, shuffled: bool) -> Finding:
    table, names = _study(bound), np.array(_names(bound)[:-1], dtype=object)
    known = np.flatnonzero(names != "")
    precisions, recalls = [], []
    labels = split_by_eigenvalue_ratio(table, FormulaClusterer().fit(table).labels_)
    for seed in seeds:
        generator = np.random.default_rng(seed)
        order = generator.permutation(known)
        told, asked = order[: len(order) // 2], order[len(order) // 2 :]
        used = generator.permutation(labels) if shuffled else labels
        guesses = {
            label: pd.Series(names[told[used[told] == label]]).mode().iloc[0] for label in set(used[told]) if label >= 0
        }
        answers = np.array([guesses.get(used[row], "") for row in asked], dtype=object)
        right = int((answers == names[asked]).sum())
        precisions.append(right / max(int((answers != "").sum()), 1))
        recalls.append(right / len(asked))
    return Finding(
        [
            Check("precision of the names given to held-back formulas", at_least(0.9), Estimate.mean(precisions)),
            Check("recall of the held-back formulas", at_least(0.5), Estimate.mean(recalls)),
        ],
        tables={"Held-back halves": pd.DataFrame({"precision": precisions, "recall": recalls})},
        note=f"{len(known)} formulas known by brute force, of which half name the clusters and half are asked.",
    )


@claim(
    statement="The known formulas in a cluster name the others in it, without a relation looked for",
    source="Section 4, step (d)",
    evidence="measured",
)
def known_formulas_name_the_others(budget: Budget) -> Finding:
    """Half of the formulas known by brute force name the clusters; the other half is asked, over random halves."""
    seeds = [1000 * budget.seed + i for i in range(budget.pick(20, 100, 400))]
    return _held_back(budget.pick(3, 4, 5), seeds, shuffled=False)


@known_formulas_name_the_others.control
def clusters_drawn_at_random(budget: Budget) -> Finding:
    """The same with the labels of clusters dealt out at random."""
    return _held_back(3, [1000 * budget.seed + i for i in range(20)], shuffled=True)


# --- the box


def _count(bounds: Sequence[int], *, zero: bool) -> Finding:
    checks = []
    for bound in bounds:
        box, base, found, last = Box(2, 2, bound), 2 * bound + 1, 0, -1
        weights = base ** np.arange(5, -1, -1)
        for start in range(0, box.size, 50_000):
            keys = (np.hstack(box.coefficients(start, min(start + 50_000, box.size))) + bound) @ weights
            if keys[0] <= last or (np.diff(keys) <= 0).any():
                raise AssertionError("the box repeats a formula")
            found, last = found + len(keys), int(keys[-1])
        expected = base**6 if zero else (base**3 - 1) ** 2
        checks.append(Check(f"formulas with coefficients up to {bound}", equal_to(expected), Estimate.exact(found)))
    return Finding(checks)


@claim(
    statement=r"With $a$ and $b$ of degree at most 2, not zero, and coefficients up to 5 there are "
    r"$(11^3-1)^2 = 1{,}768{,}900$ formulas",
    source="Section 2",
    evidence="measured",
)
def the_box_has_its_size(budget: Budget) -> Finding:
    """Every formula enumerated in parts, in strictly ascending order throughout, so that none comes twice."""
    tracemalloc.start()
    try:
        finding = _count([3, 5], zero=False)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    memory = Check("peak memory of the enumeration, MiB", at_most(64), Estimate.exact(peak))
    return Finding([*finding.checks, memory])


@the_box_has_its_size.control
def zero_polynomials_counted(budget: Budget) -> Finding:
    """The same count against what it would be with zero polynomials allowed."""
    return _count([3], zero=True)


# --- the data set


def _scan(box: Box, depth: int, threshold: float) -> Finding:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "metrics.parquet"
        build_metrics(box, out=out, depth=depth, factorial_threshold=threshold, progress=False)
        table = pd.read_parquet(out, columns=["status", "eigenvalue_ratio", "factorial_growth"])
    measured = table[table["status"] == "measured"]
    balanced = measured[exponential(measured["eigenvalue_ratio"])]
    growth = balanced["factorial_growth"][balanced["factorial_growth"].abs() < 0.35]
    doubtful = float((growth != 0).mean())
    return Finding(
        [
            Check(
                "of the balanced formulas with |η'| < 0.35, share at or above the threshold",
                at_most(0.05),
                Estimate.exact(doubtful),
            )
        ],
        tables={"Status": table["status"].value_counts().rename_axis("status").reset_index()},
        note=f"{len(table):,} of {box.size:,} formulas, none known to be the same number as another; "
        f"{len(balanced):,} are balanced.",
    )


@claim(
    statement="Over a whole box, formulas either reduce factorially or clearly do not: few are in doubt",
    source="Section 3",
    evidence="measured",
)
def a_box_falls_in_two(budget: Budget) -> Finding:
    """Both of degree 2, depth 400: coefficients up to 2, at the standard budget to 4; at the full one 5, depth 2000."""
    return _scan(Box(2, 2, budget.pick(2, 4, 5)), budget.pick(400, 400, 2000), _SAFE_THRESHOLD)


@a_box_falls_in_two.control
def with_the_strict_threshold(budget: Budget) -> Finding:
    """The small box at depth 400 with the threshold 0.05, which the paper uses at depth 2000."""
    return _scan(Box(2, 2, 2), 400, 0.05)
