r"""Matrix fields that hold all the known continued fractions of a constant, and the searches that led to them.

A conservative matrix field assigns matrices to the unit steps of a lattice so that the product along a path depends on
its end points alone: $M_x(x,y) M_y(x+1,y) = M_y(x,y) M_x(x,y+1)$. Two polynomials $f$, $\bar f$ with a linear and a
quadratic condition give one, and each of its rows is a polynomial continued fraction. In every direction of the open
quadrant the quotients tend to one number, at different rates and with different common factors. Where the reduced
denominators stay small enough for the rate, the limit is irrational: in the field of $\zeta(3)$ the diagonal does so,
with the exponent of Apéry's proof. That fields unify all formulas of a constant is the paper's conjecture.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from datetime import date

import flint
import mpmath
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tendsto.assistants import Rocq
from tendsto.constants import (
    PCF,
    ConservativeMatrixField,
    KnownField,
    NoField,
    field_development,
    field_families,
    find_field,
    identify,
    known_field,
    known_fields,
    plot_scan,
    promising,
    scan_directions,
)
from tendsto.evidence import Budget, Check, Estimate, Finding, Paper, at_least, at_most, claim, equal_to, proved

CARD = Paper(
    slug="matrix-fields",
    title="Algorithm-assisted discovery of an intrinsic order among mathematical constants",
    authors=(
        "Rotem Elimelech",
        "Ofir David",
        "Carlos De la Cruz Mengual",
        "Rotem Kalisch",
        "Wolfgang Berndt",
        "Michael Shalyt",
        "Mark Silberstein",
        "Yaron Hadad",
        "Ido Kaminer",
    ),
    arxiv="2308.11829",
    date=date(2023, 8, 22),
    field="constants",
    method=(
        "constants.ConservativeMatrixField",
        "constants.Trajectory",
        "constants.scan_directions",
        "constants.find_field",
        "constants.certify",
        "constants.PCF",
        "constants.discover",
        "constants.identify",
    ),
)

_DIRECTIONS = [(1, 1), (2, 1), (1, 2), (3, 2), (2, 3), (3, 1)]
_NAMES = ["ln2", "e", "pi", "zeta2", "zeta3"]


def _fields() -> dict[str, KnownField]:
    known = known_fields()
    return {name: known[name] for name in _NAMES}


def _perturbed(name: str) -> ConservativeMatrixField:
    """The field with $a(x, y) + 1$ in place of $a(x, y)$."""
    field = known_field(name).field
    x, y = field.axes
    changed = field.matrices[x].as_mutable()
    changed[1, 1] += 1
    return ConservativeMatrixField({x: changed, y: field.matrices[y]})


# --- The identity


@claim(
    statement=r"The fields of $\ln 2$, $e$, $\pi$, $\zeta(2)$ and $\zeta(3)$, and parametric families around them, are "
    r"conservative: $M_x(x,y) M_y(x+1,y) = M_y(x,y) M_x(x,y+1)$",
    source="Section 2 and appendix B",
    evidence="proved",
)
def the_fields_are_conservative(budget: Budget) -> Finding:
    """Rocq accepts a lemma for every entry, for all integers and all values of the parameters, from no axiom.

    The two quadratic families, dear to `ring`, enter the quick budget as members with random parameters.
    """
    fields = {name: known.field for name, known in known_fields().items()}
    random = np.random.default_rng(budget.seed)
    for name, family in field_families().items():
        member = {
            symbol: int(value) for symbol, value in zip(family.parameters, random.integers(1, 10, 4), strict=False)
        }
        whole = budget.name != "quick" or "quadratic" not in name
        fields[f"{name} family"] = family if whole else family.subs(member)
    development = field_development({name.replace(" ", "_"): field for name, field in fields.items()})
    return proved(development, assistant=Rocq(axioms=()))


@the_fields_are_conservative.control
def one_more_in_a_corner(budget: Budget) -> Finding:
    """The field of zeta(3) with a(x, y) + 1 in place of a(x, y)."""
    return proved(field_development({"perturbed": _perturbed("zeta3")}), assistant=Rocq(axioms=()))


@the_fields_are_conservative.control
def two_for_one(budget: Budget) -> Finding:
    """The field of e with f̄ = 2 in place of 1 in the matrix along y alone."""
    field = known_field("e").field
    x, y = field.axes
    changed = field.matrices[y].as_mutable()
    changed[0, 0] = 2
    perturbed = ConservativeMatrixField({x: field.matrices[x], y: changed})
    return proved(field_development({"perturbed": perturbed}), assistant=Rocq(axioms=()))


# --- Path independence


def _works(fields: Mapping[str, ConservativeMatrixField], budget: Budget) -> Finding:
    """How many different matrices come out along random monotone paths from (1, 1) to (12, 9)."""
    random = np.random.default_rng(budget.seed)
    number = budget.pick(100, 1000, 10_000)
    rows = []
    for name, field in fields.items():
        x, y = field.axes
        steps = np.array([x] * 11 + [y] * 8)
        works = {str(field.work((1, 1), (12, 9), list(random.permutation(steps)))) for _ in range(number)}
        rows.append((name, number, len(works)))
    checks = [
        Check(f"{name}: different matrices along {paths} paths", equal_to(1), Estimate.exact(found))
        for name, paths, found in rows
    ]
    return Finding(checks, tables={"Work": pd.DataFrame(rows, columns=["field", "paths", "different matrices"])})


@claim(
    statement=r"The work between two points of a conservative matrix field is the same along every path",
    source="Section 2",
    evidence="certified",
)
def work_depends_on_the_end_points(budget: Budget) -> Finding:
    """Exact integer matrices along random paths from (1, 1) to (12, 9), in each of the five fields."""
    return _works({name: known.field for name, known in _fields().items()}, budget)


@work_depends_on_the_end_points.control
def paths_in_perturbed_fields(budget: Budget) -> Finding:
    """The same matrices in fields with a(x, y) + 1 in place of a(x, y)."""
    return _works({name: _perturbed(name) for name in _NAMES}, budget)


# --- Limits


def _distance(one: flint.arb, other: flint.arb) -> float:
    """A rigorous upper bound on the distance of two numbers in balls."""
    return float(abs(one - other).upper())


def _limits(digits: int, start: tuple[int, int]) -> Finding:
    """The limits from `start`, against the closed form that belongs to (1, 1)."""
    rows = []
    for name, known in _fields().items():
        with flint.ctx.workdps(digits + 20):
            closed = known.limit(digits + 10)
            for direction in _DIRECTIONS:
                ball = known.field.trajectory(direction, start).limit(digits + 10)
                rows.append((name, str(direction), _distance(ball, closed)))
    table = pd.DataFrame(rows, columns=["field", "direction", "distance at most"])
    checks = [
        Check(
            f"{name}: distance from {known_field(name).formula()}, largest of {len(_DIRECTIONS)} directions",
            at_most(10.0**-digits),
            Estimate.exact(table[table["field"] == name]["distance at most"].max()),
        )
        for name in _NAMES
    ]
    return Finding(checks, tables={"Limits": table})


@claim(
    statement=r"In every direction of the open quadrant the limit from $(1,1)$ is the same: $1/\ln 2 - 1$, $1/(e-1)$, "
    r"$(3\pi-10)/(4-\pi)$, $2(1/\zeta(2)-1)$, $1/\zeta(3)-1$",
    source="Section 2",
    evidence="certified",
)
def all_directions_share_a_limit(budget: Budget) -> Finding:
    """Rigorous balls around the limits and the closed forms, which agree to the digits stated."""
    return _limits(budget.pick(40, 200, 300), (1, 1))


@all_directions_share_a_limit.control
def another_starting_point(budget: Budget) -> Finding:
    """The limits of walks that begin at (2, 1): Möbius images of those from (1, 1), and other numbers."""
    return _limits(budget.pick(40, 200, 300), (2, 1))


def _links(digits: int, shifted: bool) -> Finding:
    rows = []
    for name, known in known_fields().items():
        for start in list(known.limits)[1:]:
            with flint.ctx.workdps(digits + 20):
                closed = known.limit(digits + 10, start)
                ball = known.field.trajectory((1, 1), start if shifted else (1, 1)).limit(digits + 10)
                rows.append((name, str(start), str(known.formula(start)), _distance(ball, closed)))
    table = pd.DataFrame(rows, columns=["field", "start", "limit", "distance at most"])
    checks = [
        Check(f"{name} from {start}: distance from {limit}", at_most(10.0**-digits), Estimate.exact(distance))
        for name, start, limit, distance in rows
    ]
    return Finding(checks, tables={"Links between constants": table})


@claim(
    statement=r"Shifted by fractions, a field carries other constants: that of $\pi^2$ Catalan's constant, that of "
    r"$\zeta(3)$ the number $\pi^3$, that of $\ln 2$ the number $\pi$",
    source="Section 3",
    evidence="certified",
)
def shifts_link_constants(budget: Budget) -> Finding:
    """Rigorous balls around the limits from shifted points and the closed forms found for them."""
    return _links(budget.pick(50, 200, 300), shifted=True)


@shifts_link_constants.control
def without_the_shift(budget: Budget) -> Finding:
    """The same closed forms against the limits from (1, 1)."""
    return _links(budget.pick(50, 200, 300), shifted=False)


# --- Irrationality


def _apery(budget: Budget, reduced: bool) -> Finding:
    known = known_field("zeta3")
    closed = known.limit(20_000)
    scan = scan_directions(known.field, limit=closed, reduced=reduced)
    diagonal = (scan["x"] == 1) & (scan["y"] == 1)
    depths = [50, 100, 200, 400, 600, *budget.pick([], [1000], [1000, 2000])]
    evidence = known.field.trajectory((1, 1)).irrationality(depths, closed, reduced=reduced)
    deltas = [float(delta.mid()) for delta in evidence.deltas]
    rate = 4 * math.log(1 + math.sqrt(2))
    theory = (rate - 3) / (rate + 3)
    checks = [
        Check("δ on the diagonal, least of the depths", at_least(theory), Estimate.exact(min(deltas))),
        Check("δ on the diagonal, largest of the depths", at_most(0.125), Estimate.exact(max(deltas))),
        Check(
            f"δ on the diagonal at depth {depths[-1]}, Apéry's value in the limit",
            equal_to(theory, absolute=0.05),
            Estimate.exact(deltas[-1]),
        ),
        Check(
            "other directions with s, t ≤ 3 whose δ is as large",
            equal_to(0),
            Estimate.exact((scan["delta"][~diagonal] >= scan["delta"][diagonal].item()).sum()),
        ),
        Check("δ in the other directions, largest", at_most(0.001), Estimate.exact(scan["delta"][~diagonal].max())),
        Check(
            "depths whose δ is certainly positive", equal_to(len(depths)), Estimate.exact(_positive(evidence.deltas))
        ),
    ]
    tables = {"Directions in the field of ζ(3)": scan, "The diagonal": pd.DataFrame({"depth": depths, "δ": deltas})}
    return Finding(checks, tables=tables, note=f"Apéry's exponent is {theory:.6f}, his measure {1 + 1 / theory:.4f}.")


def _positive(deltas: tuple[flint.arb, ...]) -> int:
    return sum(delta > 0 for delta in deltas)


@claim(
    statement=r"Of the directions through the field of $\zeta(3)$ the diagonal has the largest irrationality exponent, "
    r"and it is positive: $\delta \to (4\ln(1+\sqrt2)-3)/(4\ln(1+\sqrt2)+3) = 0.0805$, Apéry's",
    source="Section 3",
    evidence="certified",
)
def the_diagonal_is_aperys_proof(budget: Budget) -> Finding:
    """Exponents with reduced denominators, in all primitive directions and at several depths, as rigorous balls."""
    finding = _apery(budget, reduced=True)
    tables, steps = dict(finding.tables), budget.pick(240, 1200, 2400)
    wide = {
        name: scan_directions(known.field, largest=budget.pick(5, 7, 10), steps=steps, limit=known.limit(20_000))
        for name, known in _fields().items()
    }
    for name, scan in wide.items():
        small = scan[(scan["x"] <= 3) & (scan["y"] <= 3)]
        tables[f"Directions, field of {name}"] = small
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_scan(wide["zeta3"], left)
    left.set_title(r"field of $\zeta(3)$")
    for (name, scan), marker in zip(wide.items(), itertools.cycle("osD^v")):
        inside = scan[(scan["x"] > 0) & (scan["y"] > 0)]
        angles = np.degrees(np.arctan2(np.asarray(inside["y"]), np.asarray(inside["x"])))
        order = np.argsort(angles)
        right.plot(angles[order], np.asarray(inside["delta"])[order], marker=marker, markersize=3, label=name)
    right.axhline(0.0, color="k", linestyle="--", label="irrational above")
    right.set(xlabel="angle of the direction in degrees", ylabel=r"$\delta$", xlim=(0, 90))
    right.legend(fontsize="small")
    return Finding(finding.checks, tables=tables, figures={"Irrationality by direction": figure}, note=finding.note)


@the_diagonal_is_aperys_proof.control
def denominators_not_reduced(budget: Budget) -> Finding:
    """The same exponents with the denominators as the product of matrices leaves them."""
    return _apery(budget, reduced=False)


# --- From a row to its field


def _recovered(change: int) -> Finding:
    rows = []
    for name, known in _fields().items():
        x, y = known.field.axes
        a = known.field.matrices[x][1, 1].subs(y, 1) + change
        b = known.field.matrices[x][0, 1]
        try:
            found = find_field(PCF(a.expand(), b))
            outcome = "recovered" if found.verify() and found == known.field else "another field"
        except NoField:
            outcome = "none"
        rows.append((name, str(a.expand()), str(b), outcome))
    table = pd.DataFrame(rows, columns=["field", "a(x)", "b(x)", "outcome"])
    recovered = int((table["outcome"] == "recovered").sum())
    check = Check("fields recovered from their row y = 1", equal_to(len(rows)), Estimate.exact(recovered))
    return Finding([check], tables={"Rows": table})


@claim(
    statement=r"From a single continued fraction the linear and the quadratic condition determine its field",
    source="Appendix B",
    evidence="certified",
)
def a_row_determines_its_field(budget: Budget) -> Finding:
    """The solver on the row y = 1 of each of the five fields, and exact comparison with the field."""
    return _recovered(0)


@a_row_determines_its_field.control
def perturbed_rows(budget: Budget) -> Finding:
    """The solver on the same rows with a(x) + 1 in place of a(x)."""
    return _recovered(1)


# --- Section 2: the search


_CLASSICAL = ((2, 1, 1), (3, 2, 1), (7, -8, 2), (10, 9, 3), (11, -1, 3), (17, 72, 6), (8, 16, 3), (8, 16, 7))
"""The sporadic and hypergeometric sequences with real eigenvalues: $a = An^2 + An + c$, $b = -Bn^4$ as $(A, B, c)$."""


def _classical_box(largest: int) -> list[tuple[int, int, int]]:
    return [
        (A, B, c)
        for A in range(1, 18)
        for c in range(A + 1)
        for B in range(-largest, largest + 1)
        if B and A * A >= 4 * B
    ]


def _against_the_classical_list(box: Sequence[tuple[int, int, int]], shift: int, depth: int) -> Finding:
    """Screen a box whose $c$ is shifted; the fractions found should be the classical ones and their inflations."""
    a = np.array([[A, A, c + shift] for A, _, c in box])
    b = np.array([[-B, 0, 0, 0, 0] for _, B, _ in box])
    chosen = promising(a, b)
    ratios = np.array(
        [PCF(*pair).factorial_reduction(depth).ratio for pair in zip(a.tolist(), b.tolist(), strict=True)]
    )
    listed = {(t * A, t * t * B, t * c) for A, B, c in _CLASSICAL for t in range(1, 18)} & set(box)
    is_listed = np.array([row in listed for row in box])
    found = ratios > 0.57
    checks = [
        Check("classical fractions that do not reduce", equal_to(0), Estimate.exact((is_listed & ~found).sum())),
        Check("other fractions that do", equal_to(0), Estimate.exact((found & ~is_listed).sum())),
        Check(
            "classical fractions lost by arithmetic modulo primes",
            equal_to(0),
            Estimate.exact((is_listed & ~chosen).sum()),
        ),
        Check("largest ratio of the others", at_most(0.54), Estimate.exact(ratios[~is_listed].max())),
    ]
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.hist([ratios[~is_listed], ratios[is_listed]], bins=60, log=True, stacked=True, label=["others", "classical"])
    axes.set(xlabel=r"$\log g_n / (2\log n!)$", ylabel="fractions")
    axes.legend()
    note = f"{len(box)} fractions, {found.sum()} reduce; modulo primes {chosen.sum()} were promising."
    return Finding(checks, figures={f"Factorial reduction at depth {depth}": figure}, note=note)


@claim(
    statement=r"Among the fractions $a = An^2 + An + c$, $b = -Bn^4$ with $1 \le A \le 17$, $0 \le c \le A$, "
    r"$|B| \le 100$ and $A^2 \ge 4B$, factorial reduction singles out the classical ones: eight up to inflation",
    source="Section 2, the distributed factorial reduction search",
    evidence="measured",
)
def factorial_reduction_finds_the_classical_fractions(budget: Budget) -> Finding:
    """The ratio at depth 120 against the list of sporadic and hypergeometric sequences, and their inflations."""
    return _against_the_classical_list(_classical_box(100), 0, budget.pick(120, 240, 480))


@factorial_reduction_finds_the_classical_fractions.control
def with_the_last_coefficient_off_by_one(budget: Budget) -> Finding:
    """The same with $c + 1$ in place of $c$ throughout."""
    return _against_the_classical_list(_classical_box(20), 1, budget.pick(120, 240, 480))


def _random_digits(budget: Budget, count: int) -> list[str]:
    rng = np.random.default_rng(budget.seed)
    return ["0." + "".join(map(str, rng.integers(0, 10, 60))) for _ in range(count)]


def _named(names: Sequence[bool], formula_named: bool) -> Finding:
    return Finding(
        [
            Check("random numbers that get a name", equal_to(0), Estimate.exact(sum(names))),
            Check("4/π gets its name", equal_to(1), Estimate.exact(int(formula_named))),
        ]
    )


@claim(
    statement="A relation with a constant counts only if its coefficients have at most half the digits that are known: "
    "random numbers of sixty digits then get no name, and a formula keeps its own",
    source="Appendix B.2, with thresholds of our own",
    evidence="measured",
)
def random_numbers_get_no_name(budget: Budget) -> Finding:
    """Random digits against the whole library of constants."""
    names = [identify(digits) is not None for digits in _random_digits(budget, budget.pick(10, 100, 1000))]
    return _named(names, str(identify(PCF([2, 1], [1, 0, 0]))) == "4/pi")


@random_numbers_get_no_name.control
def without_the_guard(budget: Budget) -> Finding:
    """Any relation with $\\pi$ whose coefficients have at most twenty digits each, as PSLQ finds it."""
    with mpmath.workdps(60):
        names = []
        for digits in _random_digits(budget, 10):
            value = mpmath.mpf(digits)
            relation = mpmath.pslq([1, mpmath.pi, value, value * mpmath.pi], maxcoeff=10**20, maxsteps=10**5)
            names.append(relation is not None)
    return _named(names, True)
