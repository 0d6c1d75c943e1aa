"""Gradient descent on factors: against plain NumPy, optax, exact identities, closed forms and its local theory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.optimize import (
    FactorizedGradientDescent,
    RescaleAtPlateau,
    RescaleAtStep,
    RescaleBelowResidual,
    error_lower_bound,
    rebalance,
)
from tendsto.problems import GaussianMeasurements, MatrixSensing, random_low_rank

KEY = jax.random.key(0)
STEP = 0.1
TARGET = random_low_rank(KEY, (12, 12), 2, symmetric=True)
POPULATION = MatrixSensing.from_target(TARGET)
RECTANGLE = MatrixSensing.from_target(random_low_rank(KEY, (9, 6), 2, condition_number=3.0))
SENSING = MatrixSensing.from_target(
    random_low_rank(KEY, (9, 6), 2, condition_number=3.0), GaussianMeasurements.draw(KEY, 200, (9, 6))
)
SYMMETRIC_SENSING = MatrixSensing.from_target(TARGET, GaussianMeasurements.draw(KEY, 300, (12, 12)))


def factors(problem, rank=3, scale=0.3):
    """A start of order one, in which the order of updates and every constant matter."""
    rng = np.random.default_rng(1)
    rows, columns = problem.shape
    return scale * rng.standard_normal((rows, rank)), scale / 3 * rng.standard_normal((columns, rank))


def backprojected_error(problem, matrix):
    """A*(A(M) - y) by a loop over the sensing matrices."""
    total = np.zeros(problem.shape)
    matrices = np.asarray(problem.measurements.matrices)
    for sensing, value in zip(matrices, np.asarray(problem.values), strict=True):
        inner = sum(sensing[i, j] * matrix[i, j] for i in range(matrix.shape[0]) for j in range(matrix.shape[1]))
        total += (inner / np.sqrt(len(matrices)) - value) * sensing / np.sqrt(len(matrices))
    return total


def test_asymmetric_steps_follow_the_paper_line_by_line():
    left, right = factors(SENSING)
    trace = tt.run(FactorizedGradientDescent(3, STEP), SENSING, (left, right), steps=5)
    for _ in range(5):
        error = backprojected_error(SENSING, left @ right.T)
        new_left = left - STEP * error @ right
        new_right = right - STEP * error.T @ left
        left, right = new_left, new_right
    np.testing.assert_allclose(trace.x[0][0], left, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(trace.x[1][0], right, rtol=1e-11, atol=1e-13)
    assert trace["gradients"].values[0, -1] == 5 * 200


def test_symmetric_steps_follow_the_paper_line_by_line():
    factor, _ = factors(SYMMETRIC_SENSING)
    method = FactorizedGradientDescent(3, STEP, parameterization="symmetric")
    trace = tt.run(method, SYMMETRIC_SENSING, factor, steps=5)
    for _ in range(5):
        error = backprojected_error(SYMMETRIC_SENSING, factor @ factor.T)
        factor = factor - STEP * (error + error.T) / 2 @ factor
    np.testing.assert_allclose(trace.x[0], factor, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("parameterization", ["symmetric", "asymmetric"])
def test_agrees_with_optax_on_the_losses(parameterization):
    problem = SYMMETRIC_SENSING
    symmetric = parameterization == "symmetric"
    start = factors(problem)[0] if symmetric else factors(problem)
    operator, values = problem.measurements, problem.values

    def loss(x):
        matrix, weight = (x @ x.T, 0.25) if symmetric else (x[0] @ x[1].T, 0.5)
        return weight * jnp.sum((operator(matrix) - values) ** 2)

    x = jax.tree.map(jnp.asarray, start)
    optimiser = optax.sgd(STEP)
    memory = optimiser.init(x)
    for _ in range(20):
        update, memory = optimiser.update(jax.grad(loss)(x), memory)
        x = optax.apply_updates(x, update)
    method = FactorizedGradientDescent(3, STEP, parameterization=parameterization)
    trace = tt.run(method, problem, start, steps=20)
    for computed, expected in zip(jax.tree.leaves(trace.x), jax.tree.leaves(x), strict=True):
        np.testing.assert_allclose(computed[0], expected, rtol=1e-10, atol=1e-12)


def test_imbalance_changes_by_the_exact_second_order_term():
    """F+'F+ - G+'G+ = F'F - G'G + step^2 (G'E'EG - F'EE'F): the first order cancels."""
    left, right = factors(RECTANGLE, scale=1.0)
    (new_left,), (new_right,) = tt.run(FactorizedGradientDescent(3, STEP), RECTANGLE, (left, right), steps=1).x
    error = left @ right.T - np.asarray(RECTANGLE.target)
    change = (new_left.T @ new_left - new_right.T @ new_right) - (left.T @ left - right.T @ right)
    second_order = STEP**2 * (right.T @ error.T @ error @ right - left.T @ error @ error.T @ left)
    np.testing.assert_allclose(change, second_order, atol=1e-13)
    assert np.abs(second_order).max() > 1e-3


def test_scalar_imbalance_identity():
    """On a zero target, f+^2 - g+^2 = (f^2 - g^2)(1 - step^2 f^2 g^2), and f+g+ = fg(1 - step g^2)(1 - step f^2)."""
    problem = MatrixSensing.from_target(np.zeros((1, 1)))
    f, g = 0.9, 0.4
    (left,), (right,) = tt.run(
        FactorizedGradientDescent(1, 0.5), problem, (np.array([[f]]), np.array([[g]])), steps=1
    ).x
    expected = (f**2 - g**2) * (1 - 0.25 * f**2 * g**2)
    assert float(left[0, 0] ** 2 - right[0, 0] ** 2) == pytest.approx(expected, rel=1e-14)
    assert float((left @ right.T)[0, 0]) == pytest.approx(f * g * (1 - 0.5 * g**2) * (1 - 0.5 * f**2), rel=1e-14)


def test_balanced_factors_are_the_symmetric_iteration():
    factor, _ = factors(POPULATION)
    symmetric = tt.run(FactorizedGradientDescent(3, STEP, parameterization="symmetric"), POPULATION, factor, steps=200)
    left, right = tt.run(FactorizedGradientDescent(3, STEP), POPULATION, (factor, factor), steps=200).x
    np.testing.assert_allclose(left, right, rtol=1e-9)
    np.testing.assert_allclose(left, symmetric.x, rtol=1e-9)


def test_width_one_beyond_the_rank_follows_the_scalar_recursion():
    """On a zero target each singular value obeys s+ = s - step s^3, so the error times (2 step t)^2 tends to one."""
    problem = MatrixSensing.from_target(np.zeros((3, 3)))
    start = np.array([[0.3], [0.0], [0.4]])
    trace = tt.run(
        FactorizedGradientDescent(1, STEP, parameterization="symmetric"), problem, start, steps=4000, record="error"
    )
    s, errors = 0.5, {0: 0.5**4}
    for step in range(1, 4001):
        s -= STEP * s**3
        errors[step] = s**4
    np.testing.assert_allclose(trace["error"].values[0], [errors[step] for step in trace["step"].values], rtol=1e-9)


def test_error_lower_bound_holds_at_every_step_and_is_sharp():
    method = FactorizedGradientDescent(5, STEP, parameterization="symmetric")
    first = tt.run(method, POPULATION, steps=0, seeds=5)
    trace = tt.run(method, POPULATION, steps=30_000, seeds=5, record="error", points=100)
    steps = trace["step"].values
    for start, errors in zip(first.x, trace["error"].values, strict=True):
        bound = error_lower_bound(start, 2, STEP, jnp.asarray(steps))
        assert (errors >= bound).all()
        assert errors[-1] < 1.1 * bound[-1]
    assert (error_lower_bound(first.x[0][:, :2], 2, STEP, jnp.asarray(steps)) == 0).all()


def test_random_start_has_the_scales_asked_for():
    method = FactorizedGradientDescent(40, STEP, init_scale=0.2, imbalance=4.0)
    problem = MatrixSensing.from_target(np.ones((60, 50)))
    (left,), (right,) = tt.run(method, problem, steps=0).x
    assert left.shape == (60, 40)
    assert right.shape == (50, 40)
    # The standard deviation of n normal entries is known to 1/sqrt(2n); four of those.
    assert np.std(left) == pytest.approx(0.2, rel=4 / np.sqrt(2 * left.size))
    assert np.std(right) == pytest.approx(0.05, rel=4 / np.sqrt(2 * right.size))


def test_predicted_rate_is_the_population_formula():
    method = FactorizedGradientDescent(3, STEP, init_scale=0.2)
    (left,), (right,) = tt.run(method, POPULATION, steps=3000).x
    slowest = min(np.linalg.svd(left)[1][-1], np.linalg.svd(right)[1][1]) ** 2
    assert float(method.predicted_rate(POPULATION, (left, right))) == pytest.approx(2 * np.log(1 - STEP * slowest))


def test_predicted_rate_of_the_exact_symmetric_iteration():
    target = random_low_rank(KEY, (8, 8), 3, condition_number=4.0, symmetric=True)
    method = FactorizedGradientDescent(3, STEP, parameterization="symmetric")
    problem = MatrixSensing.from_target(target)
    (factor,) = tt.run(method, problem, steps=3000).x
    assert float(method.predicted_rate(problem, factor)) == pytest.approx(2 * np.log(1 - STEP / 4))


@pytest.mark.parametrize("problem", [RECTANGLE, SENSING], ids=["all entries", "sensing"])
def test_predicted_rate_is_the_spectral_radius_of_the_linearised_iteration(problem):
    """Against the power method on the iteration itself: how a small residual shrinks over many steps."""
    method = FactorizedGradientDescent(2, STEP)
    trace = tt.run(method, problem, steps=1500, record="error", points=1500, spacing="linear")
    errors = trace["error"].values[0]
    used = (errors < 1e-18) & (errors > 1e-24)
    slope = np.polyfit(trace["step"].values[used], np.log(errors[used]), 1)[0]
    report = method.rate_report(problem, trace)
    assert slope == pytest.approx(report["predicted"][0], rel=0.02)
    assert report["fitted"][0] == pytest.approx(report["predicted"][0], rel=0.1)


def test_predicted_rate_says_when_a_solution_repels():
    """A fixed point with step * beta^2 > 2 repels; the slope is 2 log|1 - step (beta^2 + 1 / beta^2)|."""
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 2)))[0]
    problem = MatrixSensing.from_target(basis @ basis.T)
    method = FactorizedGradientDescent(2, 0.1)
    rate = method.predicted_rate(problem, (jnp.asarray(5.0 * basis), jnp.asarray(basis / 5.0)))
    assert float(rate) == pytest.approx(2 * np.log(0.1 * (25 + 1 / 25) - 1))


def test_rebalance_keeps_the_product_and_makes_one_factor_orthonormal():
    left, right = (jnp.asarray(factor) for factor in factors(RECTANGLE, rank=4))
    new_left, new_right = rebalance(left, right, 0.7)
    np.testing.assert_allclose(new_left @ new_right.T, left @ right.T, atol=1e-14)
    np.testing.assert_allclose(new_left.T @ new_left, 0.49 * np.eye(4), atol=1e-14)


def test_rescaling_happens_once_in_its_step_and_before_the_gradient():
    start = factors(RECTANGLE)
    plain = tt.run(FactorizedGradientDescent(3, STEP), RECTANGLE, start, steps=7).x
    left, right = (np.asarray(factor[0]) for factor in plain)
    basis, scales, rotation = np.linalg.svd(left, full_matrices=False)
    left, right = 0.8 * basis, right @ rotation.T @ np.diag(scales) / 0.8
    for _ in range(3):
        error = left @ right.T - np.asarray(RECTANGLE.target)
        left, right = left - STEP * error @ right, right - STEP * error.T @ left
    method = FactorizedGradientDescent(3, STEP, rescale=RescaleAtStep(0.8, after=7))
    trace = tt.run(method, RECTANGLE, start, steps=10)
    np.testing.assert_allclose(trace.x[0][0] @ trace.x[1][0].T, left @ right.T, atol=1e-13)
    np.testing.assert_allclose(np.abs(trace.x[0][0]), np.abs(left), atol=1e-12)
    assert trace.state.rescaled.all()


def rescaled(problem, state):
    return state.rescaled


def relative_residual(problem, state):
    return problem.relative_residual(state.x)


def test_residual_trigger_fires_for_each_seed_in_its_own_time():
    method = FactorizedGradientDescent(3, STEP, rescale=RescaleBelowResidual(1.0, tolerance=1e-3))
    record = {"rescaled": rescaled, "residual": relative_residual}
    trace = tt.run(method, POPULATION, steps=200, seeds=4, record=record, points=200, spacing="linear")
    crossings = (trace["residual"].values <= 1e-3).argmax(axis=1)
    firings = trace["rescaled"].values.argmax(axis=1)
    np.testing.assert_array_equal(firings, crossings + 1)
    assert len(set(crossings.tolist())) > 1


def test_plateau_trigger_waits_for_a_steady_slope():
    method = FactorizedGradientDescent(3, STEP, rescale=RescaleAtPlateau(1.0, window=25, tolerance=0.05))
    record = {"rescaled": rescaled, "residual": relative_residual}
    trace = tt.run(method, POPULATION, steps=400, seeds=4, record=record, points=400, spacing="linear")
    for fired, residual in zip(trace["rescaled"].values, np.log(trace["residual"].values), strict=True):
        looks = np.arange(25, 400, 25)
        slopes = (residual[looks] - residual[looks - 25]) / 25
        steady = np.abs(np.diff(slopes)) <= 0.05 * np.abs(slopes[1:])
        first = looks[1:][steady & (residual[looks[1:]] < np.log(0.1))][0]
        assert fired.argmax() == first + 1


def test_rate_after_the_rescaling_is_the_best_at_the_root_of_the_smallest_singular_value():
    rates = {}
    for beta in (0.6, 1.0, 1.6):
        rescale = RescaleBelowResidual(beta, tolerance=1e-8)
        method = FactorizedGradientDescent(3, STEP, init_scale=0.2, rescale=rescale)
        trace = tt.run(method, POPULATION, steps=1500)
        rates[beta] = float(method.predicted_rate(POPULATION, jax.tree.map(lambda leaf: leaf[0], trace.x)))
        assert rates[beta] == pytest.approx(2 * np.log(1 - STEP * min(beta**2, beta**-2)), rel=2e-3)
    assert min(rates, key=rates.get) == 1.0


def test_solve_completes_a_table_without_knowing_the_answer():
    truth = np.asarray(random_low_rank(jax.random.key(4), (30, 20), 2))
    table = np.where(np.random.default_rng(0).random(truth.shape) < 0.7, truth, np.nan)
    problem = MatrixSensing.from_entries(table)
    # Two redundant columns: the measurements fix the answer, the width is only a bound on the rank.
    solution = tt.solve(
        FactorizedGradientDescent.theory(problem, rank=2, init_scale=0.1),
        problem,
        tol=1e-14,
        measure="relative_residual",
        check_every=50,
    )
    assert solution.converged
    np.testing.assert_allclose(solution.x[0] @ solution.x[1].T, truth, atol=1e-5)


def test_single_precision_stays_single():
    problem = MatrixSensing.from_target(np.asarray(TARGET, dtype=np.float32))
    method = FactorizedGradientDescent(3, STEP, init_scale=0.2, rescale=RescaleBelowResidual(1.0))
    trace = tt.run(method, problem, steps=300, record="error")
    assert all(leaf.dtype == jnp.float32 for leaf in trace.x)
    assert trace.final("error") < 1e-11


def test_too_large_a_step_is_reported_as_divergence():
    trace = tt.run(FactorizedGradientDescent(3, 100.0, init_scale=1.0), POPULATION, steps=50, record="error")
    assert trace.diverged.all()


@pytest.mark.parametrize(
    ("build", "error", "name"),
    [
        (lambda: FactorizedGradientDescent(0, STEP), ValueError, "rank"),
        (lambda: FactorizedGradientDescent(2, 0.0), ValueError, "step_size"),
        (lambda: FactorizedGradientDescent(2, STEP, init_scale=-1.0), ValueError, "init_scale"),
        (lambda: FactorizedGradientDescent(2, STEP, imbalance=0.0), ValueError, "imbalance"),
        (
            lambda: FactorizedGradientDescent(
                2, STEP, parameterization="symmetric", rescale=RescaleAtStep(1.0, after=5)
            ),
            ValueError,
            "rescale",
        ),
        (lambda: RescaleAtStep(-1.0, after=5), ValueError, "beta"),
        (lambda: RescaleAtStep(1.0, after=-5), ValueError, "after"),
        (lambda: RescaleBelowResidual(1.0, tolerance=0.0), ValueError, "tolerance"),
        (lambda: RescaleAtPlateau(1.0, window=0), ValueError, "window"),
        (lambda: RescaleAtPlateau(1.0, tolerance=0.0), ValueError, "tolerance"),
        (lambda: rebalance(jnp.ones((2, 3)), jnp.ones((4, 3)), 1.0), ValueError, "left"),
        (lambda: rebalance(jnp.ones((3, 2)), jnp.ones((4, 2)), 0.0), ValueError, "beta"),
        (
            lambda: tt.run(FactorizedGradientDescent(2, STEP, parameterization="symmetric"), RECTANGLE, steps=1),
            ValueError,
            "parameterization",
        ),
        (
            lambda: tt.run(FactorizedGradientDescent(2, STEP), RECTANGLE, (np.ones((9, 3)), np.ones((6, 3))), steps=1),
            ValueError,
            "x0",
        ),
        (lambda: tt.run(FactorizedGradientDescent(2, STEP), RECTANGLE, np.ones((9, 2)), steps=1), ValueError, "x0"),
    ],
)
def test_bad_input_is_named(build, error, name):
    with pytest.raises(error, match=name):
        build()
