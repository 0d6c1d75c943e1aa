from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tendsto.evidence import (
    Check,
    Estimate,
    Finding,
    Prediction,
    at_least,
    at_most,
    between,
    equal_to,
)

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("predicted", "low", "high", "outcome"),
    [
        (at_most(1), 0.5, 1.0, "holds"),
        (at_most(1), 0.5, 1.1, "undecided"),
        (at_most(1), 1.1, 1.2, "fails"),
        (at_least(1), 1.0, 1.5, "holds"),
        (at_least(1), 0.9, 1.5, "undecided"),
        (at_least(1), 0.8, 0.9, "fails"),
        (between(1, 2), 1.0, 2.0, "holds"),
        (between(1, 2), 0.0, 3.0, "undecided"),
        (between(1, 2), 2.1, INF, "fails"),
        (equal_to(3), 3.0, 3.0, "holds"),
        (equal_to(3), 3.0, np.nextafter(3.0, 4), "undecided"),
        (equal_to(-100, relative=0.01), -101.0, -99.0, "holds"),
        (equal_to(100, relative=0.01, absolute=2), 98.0, 102.0, "holds"),
        (equal_to(0, absolute=1e-9), 2e-9, 2e-9, "fails"),
        (at_most(1), -INF, INF, "undecided"),
        (at_most(1), NAN, NAN, "fails"),
        (at_most(INF), NAN, NAN, "fails"),
    ],
)
def test_an_outcome_depends_on_the_whole_interval(predicted, low, high, outcome):
    assert Check("it", predicted, Estimate(1.0, low, high, "given")).outcome == outcome


def test_a_finding_is_decided_by_its_worst_check():
    holds = Check("a", at_most(1), Estimate.exact(0))
    open_ = Check("b", at_most(1), Estimate(1, 0, 2, "given"))
    fails = Check("c", at_most(1), Estimate.exact(2))
    for checks, outcome, deciding in [
        ([holds, holds], "holds", "a"),
        ([holds, open_], "undecided", "b"),
        ([holds, open_, fails], "fails", "c"),
    ]:
        assert Finding(checks).outcome == outcome
        assert Finding(checks).deciding.quantity == deciding
    with pytest.raises(ValueError, match="checks: must not be empty"):
        Finding([])


def test_mean_agrees_with_scipy():
    samples = np.random.default_rng(0).gamma(2.0, size=30)
    ours = Estimate.mean(samples, confidence=0.9)
    low, high = stats.t.interval(0.9, 29, samples.mean(), stats.sem(samples))
    assert (ours.value, ours.low, ours.high) == pytest.approx((samples.mean(), low, high), rel=1e-14)
    assert ours.method == "90% t interval, 30 seeds"


def test_mean_covers_as_often_as_it_says():
    samples = np.random.default_rng(1).normal(3.0, 2.0, size=(4000, 8))
    estimates = [Estimate.mean(row) for row in samples]
    covered = sum(it.low <= 3.0 <= it.high for it in estimates)
    # The number covered is binomial; these are its 0.001 and 0.999 quantiles.
    low, high = stats.binom.ppf([0.001, 0.999], 4000, 0.95)
    assert low <= covered <= high


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_mean_keeps_its_interval_at_any_scale(scale):
    ours = Estimate.mean(scale * np.array([1.0, 2.0, 3.0]))
    assert ours.low / scale == pytest.approx(-0.4841377, rel=1e-6)
    assert ours.high / scale == pytest.approx(4.4841377, rel=1e-6)


def test_equal_samples_leave_no_width():
    assert Estimate.mean([0.1] * 7) == Estimate(0.1, 0.1, 0.1, "95% t interval, 7 seeds")


@pytest.mark.parametrize("bad", [INF, -INF, NAN])
@pytest.mark.parametrize("predicted", [at_most(1), at_least(1), at_most(INF), between(-INF, INF)])
def test_a_diverged_seed_never_passes(bad, predicted):
    for estimate in (Estimate.mean([0.0, bad, 2.0]), Estimate.quantile([0.0, NAN, 2.0], 0.5)):
        assert Check("it", predicted, estimate).outcome == "fails"
    assert not math.isfinite(Estimate.mean([0.0, bad, 2.0]).value)


@pytest.mark.parametrize("size", [2, 5, 20, 101])
@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_quantile_covers_at_least_as_often_as_it_says(size, level, confidence):
    """With ranks as samples the interval's ends are ranks, and their coverage is exactly binomial."""
    ours = Estimate.quantile(np.arange(1, size + 1), level, confidence)
    below = stats.binom(size, level)
    missed_left = 0.0 if ours.low == -INF else below.cdf(ours.low - 1)
    missed_right = 0.0 if ours.high == INF else below.sf(ours.high - 1)
    assert missed_left + missed_right <= 1 - confidence
    if ours.low > 1 and ours.high < size:  # and is not wider than it must be
        assert below.cdf(ours.low) > (1 - confidence) / 2
        assert below.sf(ours.high - 2) > (1 - confidence) / 2


def test_quantile_takes_an_infinite_seed_for_what_it_is():
    ours = Estimate.quantile([*range(1, 99), INF, INF], 0.5)
    assert (ours.value, ours.low, ours.high) == (50, 40, 61)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Estimate.mean([1.0]), "samples: at least two"),
        (lambda: Estimate.mean([1.0, 2.0], confidence=95), "confidence: must lie strictly"),
        (lambda: Estimate.quantile([1.0, 2.0], 1.0), "level: must lie strictly"),
        (lambda: Estimate(1, 2, 0, "given"), "low=2.0 must not exceed high=0.0"),
        (lambda: between(2, 1), "low=2.0 must not exceed high=1.0"),
        (lambda: at_most(NAN), "no NaN"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (at_most(0.25), "≤ 0.25"),
        (at_least(12345.6), "≥ 1.235e+04"),
        (between(1, 2), "in [1, 2]"),
        (equal_to(4), "= 4"),
        (equal_to(1, relative=1e-9), "= 1 ± 1e-09"),
        (Prediction(INF, INF), "= inf"),
        (Estimate.exact(0.5), "0.5"),
        (Estimate(0.5, 0.25, 1, "given"), "0.5 [0.25, 1]"),
        (Estimate(1, 1 - 2e-9, 1 + 1e-9, "given"), "1 ± 2e-09"),
        (Estimate.exact(NAN), "nan"),
        (Estimate.mean([1.0, INF]), "inf"),
    ],
)
def test_numbers_read_well(shown, text):
    assert str(shown) == text
