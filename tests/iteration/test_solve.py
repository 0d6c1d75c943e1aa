"""`solve`: the answer, and how the search for it ended."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.problems import L1

DATA = tt.problems.dataset("diabetes")
PROBLEM = tt.problems.LeastSquares(DATA.features, DATA.targets - DATA.targets.mean(), l2=0.1)
GRADIENT_DESCENT = tt.optimize.Optax(optax.sgd(0.2))


def test_finds_the_minimiser_and_stops_at_the_first_step_that_will_do():
    solution = tt.solve(GRADIENT_DESCENT, PROBLEM, jnp.zeros(10), tol=1e-8)
    assert solution.converged
    assert solution.result is tt.Result.converged
    np.testing.assert_allclose(solution.x, PROBLEM.solved().minimiser, atol=1e-6)
    trace = tt.run(GRADIENT_DESCENT, PROBLEM, jnp.zeros(10), steps=solution.steps, record="stationarity", points=5000)
    measured = trace["stationarity"].values[0]
    assert measured[-1] <= 1e-8 < measured[-2]
    assert solution.measure == measured[-1]
    assert solution.cost.gradients == solution.steps * PROBLEM.components
    np.testing.assert_array_equal(solution.x, trace.x[0])


def test_stopping_test_can_be_spaced_out():
    every = tt.solve(GRADIENT_DESCENT, PROBLEM, jnp.zeros(10), tol=1e-8)
    spaced = tt.solve(GRADIENT_DESCENT, PROBLEM, jnp.zeros(10), tol=1e-8, check_every=50)
    assert spaced.steps == -(-every.steps // 50) * 50
    limited = tt.solve(GRADIENT_DESCENT, PROBLEM, jnp.zeros(10), tol=1e-8, check_every=50, max_steps=70)
    assert limited.steps == 70


def test_running_out_of_steps_and_diverging_are_results():
    short = tt.solve(GRADIENT_DESCENT, PROBLEM, jnp.zeros(10), tol=1e-8, max_steps=3)
    assert (short.result, short.steps) == (tt.Result.max_steps, 3)
    wild = tt.solve(tt.optimize.Optax(optax.sgd(100.0)), PROBLEM, jnp.zeros(10))
    assert wild.result is tt.Result.nonfinite
    with pytest.raises(RuntimeError, match="diverged"):
        tt.solve(tt.optimize.Optax(optax.sgd(100.0)), PROBLEM, jnp.zeros(10), throw=True)


def test_a_start_that_is_good_enough_takes_no_step():
    solution = tt.solve(GRADIENT_DESCENT, PROBLEM, PROBLEM.solved().minimiser)
    assert (solution.steps, solution.converged) == (0, True)


def test_any_function_can_be_minimised():
    rosenbrock = tt.problems.Objective(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    solution = tt.solve(tt.optimize.Optax(optax.adam(1e-2)), rosenbrock, [-1.0, 1.0], tol=1e-6)
    np.testing.assert_allclose(solution.x, 1.0, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tol": 0.0}, ValueError, "tol: must lie in"),
        ({"tol": float("nan")}, ValueError, "tol: must lie in"),
        ({"max_steps": -1}, ValueError, "max_steps: must lie in"),
        ({"check_every": 0}, ValueError, "check_every: must lie in"),
        ({"measure": "beauty"}, ValueError, "measure: LeastSquares has no measure 'beauty'"),
        ({"x0": np.array(["a"])}, TypeError, "x0: expected an array of real numbers"),
    ],
)
def test_bad_input_is_named(options, error, message):
    with pytest.raises(error, match=message):
        tt.solve(GRADIENT_DESCENT, PROBLEM, **({"x0": np.zeros(10)} | options))


def test_regulariser_strength_must_be_positive():
    with pytest.raises(ValueError, match="strength: must lie in"):
        L1(-1.0)
