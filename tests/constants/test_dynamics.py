"""Blind metrics against a measured table, a peer, closed forms and certified limits."""

import math
from fractions import Fraction

import numpy as np
import pytest

from tendsto.constants import (
    PCF,
    Box,
    Convergent,
    blind_delta,
    eigenvalue_ratio,
    metrics,
    metrics_part,
    metrics_table,
    predicted_delta,
)
from tendsto.constants.dynamics import COLUMNS, fit

# Computed with Python integers and mpmath, apart from this package: blind and naive exponent, growth, prediction.
TABLE = [
    ([2, 1], [1, 0, 0], -0.202192942, -0.740506, 2.19999, -0.198747),
    ([4, 2], [1, 0, 0], -0.072193896, -0.607446, 3.10308, -0.069547),
    ([6, 3], [-1, 0, 0], 0.281813014, -0.540596, 2.74237, 0.285566),
    ([11, 11, 3], [1, 0, 0, 0, 0], 0.100050116, -0.661805, 4.37014, 0.101136),
    ([5], [1], 1.001022130, 1.001022, 1.64718, 1.000063),
]


@pytest.mark.parametrize(("a", "b", "blind", "naive", "growth", "predicted"), TABLE)
def test_the_measured_table(a, b, blind, naive, growth, predicted):
    found = metrics(PCF(a, b))
    assert found.status == "measured"
    assert found.blind_delta == pytest.approx(blind, abs=6e-10)
    assert found.naive_delta == pytest.approx(naive, abs=6e-7)
    assert found.growth == pytest.approx(growth, abs=6e-6)
    assert found.factorial_growth == 0.0
    assert found.predicted_delta == pytest.approx(predicted, abs=6e-7)
    assert blind_delta(PCF(a, b)) == found.blind_delta
    assert blind_delta(PCF(a, b), reduced=False) == found.naive_delta


def test_a_formula_of_e_keeps_its_factorial():
    found = metrics(PCF([1, 1], [1, 1]))
    assert found.blind_delta == pytest.approx(0.002572570, abs=6e-10)
    assert found.factorial_growth == pytest.approx(0.98892, abs=6e-6)
    assert found.limit == pytest.approx(math.e - 1, abs=1e-15)
    assert found.error_factorial == pytest.approx(-1.0, abs=2e-3)
    assert math.isnan(found.predicted_delta)


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_blind_is_the_certified_exponent(row):
    formula = PCF(row[0], row[1])
    assert blind_delta(formula, 400) == pytest.approx(float(formula.delta(200)), abs=1e-12)
    assert blind_delta(formula, 600, 3) == pytest.approx(float(formula.delta(200)), abs=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_ramanujantools_measures_the_same():
    tools = pytest.importorskip("ramanujantools.pcf")
    n = pytest.importorskip("sympy").Symbol("n")
    ours, theirs = PCF([2, 1], [1, 0, 0]), tools.PCF(2 * n + 1, n**2)
    # Without a limit, theirs is blind too: twice the depth stands for it.
    assert blind_delta(ours, 200) == pytest.approx(float(theirs.delta(100)), abs=1e-12)
    assert metrics(ours, 200).limit == pytest.approx(float(theirs.limit(200).as_float()), abs=1e-12)


def test_metrics_are_those_of_a_loop_in_plain_integers():
    formula, depths = PCF([3, -2, 4], [2, 1, 3]), [6, 25, 50, 100, 200, 400]
    before, now, kept = (1, 0), (4, 1), {}
    for n in range(1, 401):
        a, b = 3 * n * n - 2 * n + 4, 2 * n * n + n + 3
        before, now = now, (a * now[0] + b * before[0], a * now[1] + b * before[1])
        kept[n] = now
    logs = [math.log(Fraction(*kept[n]).denominator) for n in depths[:-1]]
    limit = Fraction(*kept[400])
    errors = [abs(limit - Fraction(*kept[n])) for n in depths[:-1]]
    errors = [math.log(error.numerator) - math.log(error.denominator) for error in errors]
    n = np.array(depths[:-1], dtype=float)
    growth = np.linalg.lstsq(np.column_stack([n, n * np.log(n)]), logs, rcond=None)[0]
    design = np.column_stack([np.log(n), n, n * np.log(n)])
    error = np.linalg.lstsq(design, errors, rcond=None)[0]
    found = metrics(formula, 400)
    np.testing.assert_allclose([found.growth, found.factorial_growth], growth, rtol=1e-8)
    np.testing.assert_allclose([found.error_power, found.error_rate, found.error_factorial], error, rtol=1e-6)
    assert found.error_residual == pytest.approx(np.linalg.norm(design @ error - errors), rel=1e-6)
    assert found.blind_delta == pytest.approx(-1 - errors[-1] / logs[-1], abs=1e-12)


def test_fit_recovers_its_own_model_and_takes_natural_logarithms():
    depths = (6, 25, 50, 100, 200)
    values = [2.0 * math.log(n) - 3.0 * n + 0.5 * n * math.log(n) for n in depths]
    coefficients, residual = fit(depths, values, ("ln n", "n", "n ln n"))
    np.testing.assert_allclose(coefficients, [2.0, -3.0, 0.5], rtol=1e-9)
    assert residual < 1e-9
    assert fit(depths, [7.0 * n for n in depths], ("n",))[0] == pytest.approx([7.0])


def test_a_threshold_takes_the_factorial_out():
    formula = PCF([10, 10, 3], [-9, 0, 0, 0, 0])
    assert metrics(formula).factorial_growth == pytest.approx(0.063, abs=5e-4)
    loose = metrics(formula, factorial_threshold=0.25)
    assert loose.factorial_growth == 0.0
    assert loose.predicted_delta == pytest.approx(math.log(9) / loose.growth - 1)


def test_inflation_changes_nothing_that_is_reduced():
    plain, inflated = metrics(PCF(1, 1), 400), metrics(PCF([1, 1], [1, 1, 0]), 400, factorial_threshold=0.25)
    assert inflated.blind_delta == pytest.approx(plain.blind_delta, abs=1e-9)
    assert inflated.growth == pytest.approx(plain.growth, abs=1e-9)
    assert inflated.naive_delta < -0.5


@pytest.mark.parametrize(
    ("a", "b", "status", "ratio"),
    [
        ([2, 1], [1, -4, 4], "terminating", math.nan),
        ([1, 1], [-1, 0, 0], "no limit", math.nan),
        ([1], [1, 0, 0, 0], "no limit", math.nan),
        ([5000], [1], "large", None),
        ([1, 0], [1, 1], "rational", -math.inf),
        ([1, 1], [2, 0, 0], "measured", -2.0),
        ([3, 0], [-2, 0, 0], "measured", 2.0),
        ([1, 1], [-1, 1], "terminating", math.nan),
        ([1, 3], [-1, -1], "measured", math.inf),
        ([1], [1, 0], "measured", -1.0),
    ],
)
def test_every_fraction_has_a_status(a, b, status, ratio):
    found = metrics(PCF(a, b), 112)
    assert found.status == status
    if ratio is not None:
        assert found.eigenvalue_ratio == pytest.approx(ratio, nan_ok=True)
    if status in ("terminating", "no limit"):
        assert math.isnan(found.blind_delta)


class Steps:
    """Convergents of no continued fraction: p and q by depth."""

    def __init__(self, p, q):
        self.p, self.q = p, q

    def convergents(self, depths):
        import flint

        return [Convergent(n, flint.fmpz(self.p(n)), flint.fmpz(self.q(n))) for n in depths]


def test_a_zero_denominator_hands_on_to_the_depth_before_it():
    # sum of 2^-k to n: distance 2^-m - 2^-N, denominator 2^m; no denominator at depth 20
    steps = Steps(lambda n: 2 ** (n + 1) - 1, lambda n: 0 if n == 20 else 2**n)
    expected = -1 - math.log(2.0**-19 - 2.0**-40) / (19 * math.log(2))
    assert blind_delta(steps, 40) == pytest.approx(expected, abs=1e-12)
    assert math.isnan(blind_delta(Steps(lambda n: 1, lambda n: 0), 40))
    assert blind_delta(Steps(lambda n: 1, lambda n: 3), 40) == math.inf
    assert math.isnan(blind_delta(Steps(lambda n: n, lambda n: 1), 40))


def test_a_fraction_with_a_zero_denominator_keeps_its_own_depths():
    found = PCF([1, -4], [1, -5, 2])
    assert found.convergent(6).q == 0
    kept = metrics(found, 400)
    shallow = (5, 25, 50, 100, 200)
    errors = [_log_error(found, n, 400) for n in shallow]
    coefficients = fit(shallow, errors, ("ln n", "n", "n ln n"))[0]
    assert [kept.error_power, kept.error_rate, kept.error_factorial] == pytest.approx(coefficients, rel=1e-6)


def _log_error(formula, n, deep):
    x, y = (Fraction(int(it.p), int(it.q)) for it in formula.convergents([n, deep]))
    return math.log(abs(x - y).numerator) - math.log(abs(x - y).denominator)


@pytest.mark.parametrize(
    ("depth", "ratio", "error", "match"),
    [
        (0, 2, ValueError, "depth"),
        (2000.0, 2, TypeError, "depth"),
        (2000, 1, ValueError, "ratio"),
        (2000, 2.0, TypeError, "ratio"),
    ],
)
def test_bad_depths_are_named(depth, ratio, error, match):
    for call in (blind_delta, metrics):
        with pytest.raises(error, match=match):
            call(PCF(1, 1), depth, ratio)
    with pytest.raises(ValueError, match="depth"):
        metrics(PCF(1, 1), 111)
    with pytest.raises(ValueError, match="factorial_threshold"):
        metrics(PCF(1, 1), factorial_threshold=-1.0)


def test_prediction_with_and_without_a_factorial():
    assert predicted_delta(-(math.e**2), 1.0) == pytest.approx(1.0)
    assert predicted_delta(math.e**2, 1.0, 1.0) == pytest.approx(2 / (1 + math.log(10**9)) - 1)
    assert math.isnan(predicted_delta(math.inf, 1.0))
    assert math.isnan(predicted_delta(2.0, 0.0))
    assert eigenvalue_ratio(PCF([2, 1], [1, 0, 0])) == pytest.approx(-(3 + math.sqrt(8)))


def test_a_part_of_a_box_is_the_table_of_its_representatives():
    box = Box(1, 2, 2)
    whole = metrics_part(box, 112, 0.05, False, (0, box.size))
    halves = [metrics_part(box, 112, 0.05, False, unit) for unit in ((0, 1000), (1000, box.size))]
    assert list(whole.columns) == list(COLUMNS)
    assert sum(map(len, halves)) == len(whole)
    formulas = [PCF(a, b) for a, b in zip(whole["a"], whole["b"], strict=True)]
    same = metrics_table(formulas, 112)
    assert (same["status"] == whole["status"]).all()
    np.testing.assert_array_equal(same["blind_delta"], whole["blind_delta"])
    screened = metrics_part(box, 112, 0.05, True, (0, box.size))
    left_out = screened["status"] == "unreduced"
    assert 0.5 < left_out.mean() < 1
    np.testing.assert_array_equal(screened["growth"][~left_out], whole["growth"][~left_out])


def test_an_empty_table_has_its_columns():
    assert list(metrics_table([]).columns) == list(COLUMNS)
    assert len(metrics_part(Box(1, 1, 1), 112, 0.05, False, (3, 3))) == 0
