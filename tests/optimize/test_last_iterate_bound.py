"""The certificate: its algebra in exact fractions, its validity by enumeration and by worst-case analysis."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from tendsto.optimize import (
    heavy_tail_last_iterate_bound,
    last_iterate_bound,
    last_iterate_quantile_bound,
    optimal_base_step,
)
from tendsto.optimize.schedules import (
    CompositeInverseTime,
    ConstantOverHorizon,
    InversePower,
    LinearDecay,
    TwoPhaseInverseTime,
    WeightedInverseTime,
)


def random_fractions(rng, count, low, high):
    return [Fraction(int(value), 1000) for value in rng.integers(1000 * low, 1000 * high, count)]


def weights(eta, mu_f, mu_h):
    gamma, product = [], Fraction(1)
    for t, step in enumerate(eta):
        if t > 0:
            product *= (1 + mu_h * eta[t - 1]) / (1 - mu_f * step)
        gamma.append(step * product)
    return gamma


def exact_bound(eta, d1, m, sigma, mu_f, mu_h):
    gamma = weights(eta, mu_f, mu_h)
    tails = [sum(gamma[t:]) for t in range(len(gamma))]
    spread = sum(g * e / s for g, e, s in zip(gamma, eta, tails, strict=True))
    return (1 - mu_f * eta[0]) * d1 / tails[0] + 2 * (m**2 + sigma**2) * spread


@pytest.mark.parametrize(("mu_f", "mu_h"), [(0, 0), (Fraction(1, 3), 0), (0, Fraction(2, 5)), (Fraction(1, 7), 2)])
def test_equals_the_formula_in_exact_fractions(mu_f, mu_h):
    rng = np.random.default_rng(1)
    for steps in (1, 2, 9, 30):
        eta = random_fractions(rng, steps, 0.05, 0.5)
        exact = exact_bound(eta, Fraction(3, 2), Fraction(2), Fraction(1, 2), mu_f, mu_h)
        found = last_iterate_bound(
            [float(step) for step in eta],
            divergence=1.5,
            nonsmoothness=2.0,
            noise=0.5,
            smoothness=1.0,
            strong_convexity=float(mu_f),
            composite_strong_convexity=float(mu_h),
        )
        assert found == pytest.approx(float(exact), rel=1e-12)


def test_weighted_gaps_telescope_to_the_last_one():
    """Σ γ_t v_t (a_{t+1} − Σ_{s≤t} ((v_s − v_{s−1})/v_t) a_s) = γ_T a_{T+1}, for any a: the heart of the proof."""
    rng = np.random.default_rng(2)
    for steps in (1, 2, 7):
        gamma = weights(random_fractions(rng, steps, 0.1, 0.9), Fraction(1, 5), Fraction(1, 2))
        a = random_fractions(rng, steps + 1, -3, 3)  # a[t] is a_{t+1}
        v = [gamma[-1] / sum(gamma[t:]) for t in range(steps)]
        total = sum(
            gamma[t] * (v[t] * a[t + 1] - sum((v[s] - v[s - 1]) * a[s] for s in range(1, t + 1))) for t in range(steps)
        )
        assert total == gamma[-1] * a[-1]


@pytest.mark.parametrize("horizon", [1, 4, 100, 2500])
def test_closed_forms_of_linear_decay_and_constant_steps(horizon):
    eta, d1, spread = 0.3, 0.8, 2.0**2 + 1.5**2
    constants = {"divergence": d1, "nonsmoothness": 2.0, "noise": 1.5}
    harmonic = sum(1.0 / k for k in range(1, horizon + 1))
    root = math.sqrt(horizon)

    constant = last_iterate_bound(ConstantOverHorizon(eta, horizon).step_sizes(horizon), **constants)
    assert constant == pytest.approx(d1 / (eta * root) + 2 * eta * spread * harmonic / root, rel=1e-12)

    # Σ_{s≥t} η_s = η (T−t+1)(T−t+2)/(2 T^{3/2}), so that the t-th term is 2η/T^{3/2} (T−t+1)/(T−t+2).
    linear = last_iterate_bound(LinearDecay(eta, horizon).step_sizes(horizon), **constants)
    ratios = horizon + 1 - harmonic - 1 / (horizon + 1)
    assert linear == pytest.approx(
        2 * d1 * root / (eta * (horizon + 1)) + 4 * eta * spread * ratios / horizon**1.5, rel=1e-12
    )
    best = LinearDecay(math.sqrt(d1 / (2 * spread)), horizon).step_sizes(horizon)
    assert last_iterate_bound(best, **constants) <= 4 * math.sqrt(2 * d1 * spread / horizon)


def test_suffix_sums_of_linear_decay_are_exact_in_fractions():
    horizon = 16  # T^{3/2} = 64
    eta = [Fraction(horizon - t + 1, 64) for t in range(1, horizon + 1)]
    for t in range(1, horizon + 1):
        assert sum(eta[t - 1 :]) == Fraction((horizon - t + 1) * (horizon - t + 2), 2 * 64)
    np.testing.assert_array_equal(LinearDecay(1.0, horizon).step_sizes(horizon), [float(step) for step in eta])


def one_dimensional(kind):
    """f, its subgradient, h, prox of h, and the constants (M, L, mu_f, mu_h); F is minimal, 0, at 0."""
    return {
        "norm": (np.abs, np.sign, lambda x: 0 * x, lambda v, s: v, (2.0, 0.0, 0.0, 0.0)),
        "quadratic": (lambda x: x**2 / 2, lambda x: x, lambda x: 0 * x, lambda v, s: v, (0.0, 1.0, 1.0, 0.0)),
        "huber": (
            lambda x: np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5),
            lambda x: np.clip(x, -1, 1),
            lambda x: np.abs(x) / 2,
            lambda v, s: np.sign(v) * np.maximum(np.abs(v) - s / 2, 0),
            (0.0, 1.0, 0.0, 0.0),
        ),
        "composite": (np.abs, np.sign, lambda x: x**2 / 2, lambda v, s: v / (1 + s), (2.0, 0.0, 0.0, 1.0)),
    }[kind]


@pytest.mark.parametrize("kind", ["norm", "quadratic", "huber", "composite"])
@pytest.mark.parametrize("start", [0.0, 0.4, 3.0])
def test_the_expectation_over_every_sequence_of_coin_flips_is_within_the_bound(kind, start):
    f, slope, h, prox, (m, smoothness, mu_f, mu_h) = one_dimensional(kind)
    steps, rng = 10, np.random.default_rng(3)
    flips = np.array(list(itertools.product([-1.0, 1.0], repeat=steps)))
    tightest = 0.0
    for sigma in (0.3, 1.0, 3.0):
        for _ in range(10):
            eta = rng.uniform(0.02, 0.5, steps) * rng.choice([0.1, 1.0])
            x = np.full(len(flips), start)
            for t in range(steps):
                x = prox(x - eta[t] * (slope(x) + sigma * flips[:, t]), eta[t])
            bound = last_iterate_bound(
                eta,
                divergence=start**2 / 2,
                nonsmoothness=m,
                noise=sigma,
                smoothness=smoothness,
                strong_convexity=mu_f,
                composite_strong_convexity=mu_h,
            )
            tightest = max(tightest, np.mean(f(x) + h(x)) / bound)
    assert 0.01 < tightest <= 1.0


@pytest.mark.parametrize(
    "schedule", [LinearDecay(0.25, 3), InversePower(0.25), ConstantOverHorizon(0.25, 3)], ids=lambda s: type(s).__name__
)
def test_worst_case_over_lipschitz_functions_is_within_the_bound_and_not_far_below(schedule):
    from PEPit import PEP
    from PEPit.functions import ConvexLipschitzFunction

    eta = np.asarray(schedule.step_sizes(3))
    problem = PEP()
    f = problem.declare_function(ConvexLipschitzFunction, M=1.0)
    best = f.stationary_point()
    x = start = problem.set_initial_point()
    problem.set_initial_condition((start - best) ** 2 <= 1)
    for step in eta:
        x = x - float(step) * f.gradient(x)
    problem.set_performance_metric(f(x) - f(best))
    worst = problem.solve(verbose=0)
    bound = last_iterate_bound(eta, divergence=0.5, nonsmoothness=2.0)
    assert bound / 12 < worst <= bound


def test_worst_case_over_smooth_functions_is_half_of_the_bound():
    """With steps 1/(2L) the worst case of the last iterate is known: L D_1 / (T + 1) (Drori and Teboulle, 2014)."""
    smoothness, steps = 3.0, 20
    bound = last_iterate_bound(np.full(steps, 0.5 / smoothness), divergence=1.0, smoothness=smoothness)
    assert bound == pytest.approx(2 * (smoothness / (steps + 1)) * (steps + 1) / steps, rel=1e-12)


def test_long_horizons_do_not_overflow():
    steps, eta, mu = 20_000, 0.25, 1.0
    q = 1 / (1 - mu * eta)  # γ_t = η q^{t−1}: geometric sums
    k = np.arange(1, steps + 1)
    spread = eta * np.sum((q - 1) * q ** (-k) / (1 - q ** (-k)))
    with np.errstate(all="raise", under="ignore"):
        found = last_iterate_bound(np.full(steps, eta), divergence=1e10, noise=1.0, strong_convexity=mu)
    assert found == pytest.approx(2 * spread, rel=1e-9)


@pytest.mark.parametrize("schedule", [WeightedInverseTime(1.0, 4.0), CompositeInverseTime(1.0, 4.0)])
def test_weighted_schedules_grow_their_weights_linearly(schedule):
    eta = [Fraction(step).limit_denominator(10_000) for step in np.asarray(schedule.step_sizes(12)).tolist()]
    composite = isinstance(schedule, CompositeInverseTime)
    gamma = weights(eta, 0 if composite else 1, 1 if composite else 0)
    assert len(set(np.diff(gamma))) == 1


def test_two_phases_forget_the_start_exponentially():
    def bias(schedule, horizon):
        return last_iterate_bound(schedule.step_sizes(horizon), divergence=1.0, smoothness=2.0, strong_convexity=1.0)

    halving = bias(TwoPhaseInverseTime(1.0, 2.0, 200), 200) / bias(TwoPhaseInverseTime(1.0, 2.0, 100), 100)
    assert halving < (1 - 1 / 5.5) ** 49  # 50 more steps of the first phase
    polynomial = bias(WeightedInverseTime(1.0, 2.0), 200) / bias(WeightedInverseTime(1.0, 2.0), 100)
    assert polynomial == pytest.approx(0.25, rel=0.1)


def test_quantile_bound_is_its_formula_and_grows_with_confidence():
    eta = [0.3, 0.2, 0.1]
    spread = 4.0 + 2.25 * (1 + 2 * math.log(2 / 0.05))
    sums = 0.3 * 0.3 / 0.6 + 0.2 * 0.2 / 0.3 + 0.1
    found = last_iterate_quantile_bound(eta, failure_probability=0.05, divergence=0.7, nonsmoothness=2.0, noise=1.5)
    assert found == pytest.approx(4 * (0.7 / 0.6 + spread * sums), rel=1e-12)
    gamma = [0.3, 0.2 / (1 - 0.2), 0.1 / (1 - 0.2) / (1 - 0.1)]
    sums = sum(gamma[t] * eta[t] / sum(gamma[t:]) for t in range(3))
    curved = last_iterate_quantile_bound(
        eta, failure_probability=0.05, divergence=0.7, nonsmoothness=2.0, noise=1.5, strong_convexity=1.0
    )
    assert curved == pytest.approx(2 * (1 + 1 / 0.8) * (0.7 / sum(gamma) + spread * sums), rel=1e-12)
    tighter = [
        last_iterate_quantile_bound(eta, failure_probability=delta, divergence=0.7, noise=1.5)
        for delta in (0.5, 0.1, 0.01)
    ]
    assert tighter == sorted(tighter)
    assert tighter[0] > last_iterate_bound(eta, divergence=0.7, noise=1.5)


def test_heavy_tail_bound_is_its_formula_and_the_finer_one_at_two_moments():
    eta, p = [0.3, 0.2, 0.1], 1.5
    sums = sum(step**p / tail for step, tail in zip(eta, (0.6, 0.3, 0.1), strict=True))
    found = heavy_tail_last_iterate_bound(eta, moment=p, divergence=0.7, nonsmoothness=2.0, noise=3.0)
    assert found == pytest.approx(0.7 / 0.6 + math.sqrt(2.0) / p * (2.0**p + 3.0**p) * sums, rel=1e-12)
    fine = heavy_tail_last_iterate_bound(eta, moment=2.0, divergence=0.0, nonsmoothness=2.0, noise=3.0)
    assert 2 * fine == pytest.approx(last_iterate_bound(eta, divergence=0.0, nonsmoothness=2.0, noise=3.0), rel=1e-12)


@pytest.mark.parametrize("moment", [None, 2.0, 1.5, 1.1])
def test_optimal_base_step_is_where_a_numerical_minimiser_finds_it(moment):
    shape = np.asarray(LinearDecay(1.0, 50, moment=moment or 2.0).step_sizes(50))
    constants = {"divergence": 0.7, "nonsmoothness": 2.0, "noise": 1.0}

    def bound(log_base):
        eta = math.exp(log_base) * shape
        if moment is None:
            return last_iterate_bound(eta, **constants)
        return heavy_tail_last_iterate_bound(eta, moment=moment, **constants)

    expected = math.exp(minimize_scalar(bound, bracket=(-3, 1), tol=1e-10).x)
    assert optimal_base_step(shape, moment=moment, **constants) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("eta", "constants", "named"),
    [
        ([0.2, 0.3], {"smoothness": 2.0}, "step_sizes"),
        ([0.2, 1.0], {"strong_convexity": 1.0}, "step_sizes"),
        ([0.2, 0.0], {}, "step_sizes"),
        ([0.2, math.nan], {}, "step_sizes"),
        ([], {}, "step_sizes"),
        ([[0.2]], {}, "step_sizes"),
        ([0.2], {"noise": -1.0}, "noise"),
        ([0.2], {"nonsmoothness": math.inf}, "nonsmoothness"),
        ([0.2], {"composite_strong_convexity": -0.1}, "composite_strong_convexity"),
    ],
)
def test_bad_input_is_named(eta, constants, named):
    with pytest.raises(ValueError, match=f"^{named}: "):
        last_iterate_bound(eta, divergence=1.0, **constants)
    with pytest.raises(ValueError, match=f"^{named}: "):
        last_iterate_quantile_bound(eta, failure_probability=0.1, divergence=1.0, **constants)


def test_other_bad_input_is_named():
    with pytest.raises(ValueError, match=r"^failure_probability: "):
        last_iterate_quantile_bound([0.1], failure_probability=1.0, divergence=1.0)
    with pytest.raises(ValueError, match=r"^moment: "):
        heavy_tail_last_iterate_bound([0.1], moment=1.0, divergence=1.0)
    with pytest.raises(ValueError, match=r"^divergence: "):
        optimal_base_step([0.1], divergence=0.0, noise=1.0)
    assert last_iterate_bound([0.25], divergence=1.0, smoothness=2.0) == 4.0  # the limit 1/(2L) itself is allowed
