"""Step-size schedules against their formulas, written out for t = 1, …, T in plain Python."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tendsto.optimize.schedules import (
    CompositeInverseTime,
    ConstantOverHorizon,
    InversePower,
    InverseTime,
    LinearDecay,
    Tabulated,
    TwoPhaseInverseTime,
    WeightedInverseTime,
)

T, ETA, MU, L = 11, 0.7, 0.5, 3.0
KAPPA = L / MU
FORMULAS = {
    "anytime": (InversePower(ETA, 1 / (2 * L)), lambda t: min(1 / (2 * L), ETA / math.sqrt(t))),
    "anytime, heavy": (InversePower(ETA, moment=1.5), lambda t: ETA / t ** (1 / 1.5)),
    "constant": (ConstantOverHorizon(ETA, T, 1 / (2 * L)), lambda t: min(1 / (2 * L), ETA / math.sqrt(T))),
    "constant, heavy": (ConstantOverHorizon(ETA, T, moment=1.5), lambda t: ETA / T ** (1 / 1.5)),
    "linear": (LinearDecay(ETA, T), lambda t: ETA * (T - t + 1) / T**1.5),
    "linear, clipped": (LinearDecay(ETA, T, 0.1), lambda t: min(0.1, ETA * (T - t + 1) / T**1.5)),
    "linear, heavy": (LinearDecay(ETA, T, moment=1.5), lambda t: ETA * (T - t + 1) / T ** (1 + 1 / 1.5)),
    "strongly convex": (InverseTime(MU, L), lambda t: 1 / (MU * (t + 2 * KAPPA))),
    "strongly convex, weighted": (WeightedInverseTime(MU, L), lambda t: 2 / (MU * (t + 1 + 4 * KAPPA))),
    "composite": (CompositeInverseTime(MU, L), lambda t: 2 / (MU * (t + 4 * KAPPA))),
    "two phases": (
        TwoPhaseInverseTime(MU, L, T),
        lambda t: 1 / (MU * (1.5 + 2 * KAPPA)) if t <= 6 else 2 / (MU * (t - 6 + 2 + 4 * KAPPA)),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_is_the_papers_formula_with_t_from_one(name):
    schedule, formula = FORMULAS[name]
    expected = [formula(t) for t in range(1, T + 1)]
    np.testing.assert_allclose(schedule.step_sizes(T), expected, rtol=1e-13)
    np.testing.assert_allclose([schedule.at(count) for count in range(T)], expected, rtol=1e-13)


@pytest.mark.parametrize("name", FORMULAS)
def test_is_an_optax_schedule(name):
    schedule, formula = FORMULAS[name]
    optimiser = optax.sgd(schedule)
    params, state, position = jnp.zeros(()), optimiser.init(jnp.zeros(())), 0.0
    for t in range(1, T + 1):
        update, state = optimiser.update(jnp.ones(()), state, params)
        params, position = params + update, position - formula(t)
    assert float(params) == pytest.approx(position, rel=1e-12)


@pytest.mark.parametrize("condition", [1.0, 4.0, 1e4])
@pytest.mark.parametrize("family", [InverseTime, WeightedInverseTime, CompositeInverseTime])
def test_strongly_convex_steps_are_within_the_limits_of_the_certificate(family, condition):
    steps = family(2.0, 2.0 * condition).step_sizes(20)
    assert steps.max() <= 0.5 / (2.0 * condition)
    two_phase = TwoPhaseInverseTime(2.0, 2.0 * condition, 20).step_sizes(20)
    assert two_phase.max() <= 0.5 / (2.0 * condition)
    assert two_phase.max() < 1.0 / 2.0


def test_linear_decay_ends_above_zero_and_then_rests():
    schedule = LinearDecay(1.0, 9)
    assert schedule.at(8) == pytest.approx(1 / 27, rel=1e-14)
    assert schedule.at(9) == schedule.at(50) == 0.0


def test_two_phases_switch_after_half_of_the_horizon_rounded_up():
    for horizon, late in ((10, 5), (11, 6)):
        steps = np.asarray(TwoPhaseInverseTime(1.0, 1.0, horizon).step_sizes(horizon))
        # With the offset 3/2 the second phase begins with the step of the first.
        np.testing.assert_allclose(steps[: late + 1], steps[0], rtol=1e-14)
        assert np.all(np.diff(steps[late:]) < -1e-3)


def test_tabulated_rows_are_the_schedules_and_rest_after_their_steps():
    schedules = [LinearDecay(1.0, 4), optax.constant_schedule(0.3), lambda count: 0.1 * (count + 1)]
    table = Tabulated.of(schedules, [4, 2, 6])
    expected = [[0.5, 0.375, 0.25, 0.125, 0, 0, 0], [0.3, 0.3, 0, 0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0]]
    for row, steps in enumerate(expected):
        np.testing.assert_allclose(Tabulated(table.table, row).step_sizes(7), steps, atol=1e-15)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: InversePower(0.0), "base"),
        (lambda: InversePower(-1.0), "base"),
        (lambda: InversePower(1.0, 0.0), "largest"),
        (lambda: InversePower(1.0, moment=1.0), "moment"),
        (lambda: LinearDecay(1.0, 10, moment=2.5), "moment"),
        (lambda: LinearDecay(1.0, 0), "horizon"),
        (lambda: ConstantOverHorizon(math.nan, 10), "base"),
        (lambda: InverseTime(0.0, 1.0), "strong_convexity"),
        (lambda: WeightedInverseTime(1.0, -1.0), "smoothness"),
        (lambda: TwoPhaseInverseTime(1.0, 0.1, 10, 0.5), "offset"),
        (lambda: Tabulated([[0.1, -0.1]]), "table"),
        (lambda: Tabulated([[0.1, 0.1]], 1), "row"),
        (lambda: Tabulated.of([LinearDecay(1.0, 4)], [4, 5]), "steps"),
    ],
)
def test_bad_input_is_named(make, named):
    with pytest.raises(ValueError, match=f"^{named}: "):
        make()
