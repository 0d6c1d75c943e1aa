"""Fitted rates against exact laws, and their intervals against the coverage they promise."""

import numpy as np
import pytest

from tendsto.iteration import fit_linear_rate, fit_power_law

T = np.unique(np.geomspace(1, 10_000, 60).astype(int))


def test_exact_laws_are_recovered():
    power = fit_power_law(T, 3.0 * T**-1.5)
    assert power.value == pytest.approx(-1.5, rel=1e-12)
    assert power.constant == pytest.approx(3.0, rel=1e-10)
    linear = fit_linear_rate(np.arange(200), 5.0 * 0.97 ** np.arange(200))
    assert linear.value == pytest.approx(0.97, rel=1e-12)
    assert linear.low == pytest.approx(0.97, rel=1e-10)


def test_default_windows_skip_the_transient_and_the_rounding_floor():
    with_transient = 1.0 / T + 100.0 * np.exp(-T / 2.0)
    assert fit_power_law(T, with_transient).value == pytest.approx(-1.0, rel=1e-6)
    assert fit_power_law(T, with_transient).window[0] >= 100
    steps = np.arange(400)
    with_floor = np.maximum(0.9**steps, 1e-16)
    rate = fit_linear_rate(steps, with_floor)
    assert rate.value == pytest.approx(0.9, rel=1e-12)
    assert rate.window[1] < 300


@pytest.mark.parametrize("fit", ["power", "linear"])
def test_intervals_cover_the_truth_about_as_often_as_promised(fit):
    rng = np.random.default_rng(1)
    t = np.linspace(1, 50, 30)
    truth, curve, law = (-1.0, 1 / t, fit_power_law) if fit == "power" else (0.9, 0.9**t, fit_linear_rate)
    covered = 0
    for _ in range(100):
        # One factor for each seed and point, of mean one: the mean over seeds follows the curve.
        noise = rng.lognormal(-0.02, 0.2, size=(20, t.size))
        rate = law(t, curve * noise, window=(1, 50))
        covered += rate.low <= truth <= rate.high
    assert 84 <= covered <= 100


def test_several_seeds_are_averaged_before_the_fit():
    samples = np.stack([1.0 / T, 3.0 / T])
    rate = fit_power_law(T, samples)
    assert rate.value == pytest.approx(-1.0)
    assert rate.constant == pytest.approx(2.0)
    assert "2 seeds" in rate.method


@pytest.mark.parametrize(
    ("t", "values", "options", "message"),
    [
        ([1, 2, 3], [1.0, 2.0], {}, "values: expected shape"),
        (T, np.zeros(T.size), {}, "values: no point is above rounding"),
        (T, 1.0 / T, {"window": (1, 2)}, "window: .* at least 3"),
        (T, 1.0 / T, {"confidence": 1.5}, "confidence: must lie"),
        (T, np.full(T.size, np.nan), {}, "values: no point is above rounding"),
    ],
)
def test_bad_input_is_named(t, values, options, message):
    with pytest.raises(ValueError, match=message):
        fit_power_law(t, values, **options)
