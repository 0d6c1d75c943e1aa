"""The SciPy form against the JAX method with equal noise, and against SciPy's conventions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, OptimizeWarning, minimize

import tendsto as tt
from tendsto.optimize import ConsensusBased, consensus_based, effective_sample_size
from tendsto.problems import Rastrigin

QUICK = {"particles": 30, "inverse_temperature": 5.0, "noise_strength": 0.8, "time_step": 0.05, "maxiter": 20}


def rastrigin(x):
    return np.sum(x**2 + 2.5 * (1 - np.cos(2 * np.pi * x)), axis=0)


def solve(fun=rastrigin, x0=(2.0, 1.0), *, minimize_options=None, **options):
    return minimize(fun, x0, method=consensus_based, options=QUICK | options, **(minimize_options or {}))


@pytest.mark.parametrize("noise", ["isotropic", "anisotropic"])
@pytest.mark.parametrize("annealed", [False, True])
def test_it_is_the_method_with_the_same_noise(noise, annealed):
    schedules = {"inverse_temperature": lambda k: 5.0 + k, "noise_strength": lambda k: 0.8 / (k + 1.0)}
    options = {"noise": noise, "truncation": 0.9, "initial_spread": 0.6} | (schedules if annealed else {})
    found = solve(rng=7, **options)
    random = np.random.default_rng(7)
    cloud = np.array([2.0, 1.0]) + 0.6 * random.standard_normal((30, 2))
    fields = {name: value for name, value in (QUICK | options).items() if name != "maxiter"}
    method, problem = ConsensusBased(**fields), Rastrigin([0.0, 0.0])
    state = method.init(problem, jnp.asarray(cloud), jax.random.key(0))
    path, variance, sizes = [state.x], [state.variance], [state.effective_size]
    for _ in range(20):
        state = method.advance(problem, state, jnp.asarray(random.standard_normal((30, 2))))
        path.append(state.x)
        variance.append(state.variance)
        sizes.append(state.effective_size)
    np.testing.assert_allclose(found.trajectory, path, rtol=1e-9)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-9)
    np.testing.assert_allclose(found.effective_sample_size, sizes, rtol=1e-9)
    np.testing.assert_allclose(found.particles, state.particles, rtol=1e-9)
    np.testing.assert_array_equal(found.x, found.trajectory[-1])


def test_result_has_what_scipy_promises():
    found = solve()
    assert (found.nit, found.nfev, found.status, found.success) == (20, 31 * 21, 1, False)
    assert "iterations" in found.message
    assert found.fun == rastrigin(found.x)
    assert found.best_fun == rastrigin(found.best_x) <= found.fun_trajectory.min()
    assert found.fun_trajectory[-1] == found.fun
    np.testing.assert_array_equal(solve().x, found.x)
    assert not np.array_equal(solve(seed=1).x, found.x)
    np.testing.assert_array_equal(solve(seed=1).x, solve(rng=np.random.default_rng(1)).x)


def test_consensus_is_success():
    found = solve(tol=1e-3, maxiter=5000, time_step=0.1, inverse_temperature=1e4, initial_spread=2.0, particles=100)
    assert (found.status, found.success) == (0, True)
    assert np.sqrt(found.variance[-1]) <= 1e-3 < np.sqrt(found.variance[-2])
    np.testing.assert_allclose(found.x, 0.0, atol=0.05)
    at_once = minimize(rastrigin, [1.0], method=consensus_based, tol=0.1, options={"initial_spread": 0.0})
    assert (at_once.nit, at_once.success) == (0, True)
    assert float(effective_sample_size(np.zeros(200), 1.0)) == pytest.approx(at_once.effective_sample_size[0])


def test_evaluations_are_counted_and_limited():
    calls = []

    def counting(x, shift):
        calls.append(x.copy())
        x[:] = np.nan  # the caller's particles must not notice
        return np.sum((calls[-1] - shift) ** 2)

    found = solve(counting, minimize_options={"args": (1.0,)}, maxfev=100)
    assert found.nfev == len(calls) == 93
    assert (found.status, found.success, found.nit) == (2, False, 2)
    assert np.isfinite(found.x).all()


def test_vectorized_follows_differential_evolution():
    shapes = []

    def fun(x):
        shapes.append(x.shape)
        return rastrigin(x)

    together = solve(fun, vectorized=True)
    np.testing.assert_allclose(together.trajectory, solve().trajectory, rtol=1e-10)
    assert together.nfev == 31 * 21
    assert set(shapes) == {(2, 30), (2, 1)}
    with pytest.raises(ValueError, match=r"fun: vectorized, must return shape \(30,\)"):
        solve(lambda x: rastrigin(x)[:3], vectorized=True)


def test_callbacks_of_both_signatures_may_stop():
    seen = []

    def new(intermediate_result):
        seen.append(intermediate_result)
        if len(seen) == 3:
            raise StopIteration

    found = solve(minimize_options={"callback": new})
    assert (found.status, found.nit, found.success) == (99, 3, False)
    assert [each.fun for each in seen] == [rastrigin(each.x) for each in seen] == found.fun_trajectory[1:].tolist()
    points = []
    found = solve(minimize_options={"callback": lambda x: points.append(x)})
    np.testing.assert_array_equal(points, found.trajectory[1:])


def test_bounds_are_honoured_by_projection():
    seen = []

    def fun(x):
        seen.append(x)
        return rastrigin(x)

    for bounds in (Bounds([0.7, -1], [3, 1.2]), [(0.7, 3), (-1, 1.2)]):
        found = solve(fun, minimize_options={"bounds": bounds}, noise_strength=3.0)
        points = np.array(seen)
        assert (points >= [0.7, -1]).all()
        assert (points <= [3, 1.2]).all()
        assert (points == 0.7).any()
        assert (found.trajectory >= [0.7, -1]).all()


def test_what_it_cannot_honour_is_said():
    with pytest.raises(ValueError, match="constraints: consensus_based honours bounds alone"):
        solve(minimize_options={"constraints": LinearConstraint([[1, 1]], 0, 1)})
    with pytest.warns(RuntimeWarning, match="does not use jac"):
        solve(minimize_options={"jac": lambda x: 2 * x}, maxiter=1)
    with pytest.warns(OptimizeWarning, match="Unknown solver options: popsize"):
        solve(popsize=3, maxiter=1)


def test_a_function_that_breaks_midway():
    calls = 0

    def turns_nan(x):
        nonlocal calls
        calls += 1
        return np.nan if calls > 200 else rastrigin(x)

    found = solve(turns_nan)
    assert (found.status, found.success) == (3, False)
    assert "not finite" in found.message
    assert np.isnan(found.fun)
    assert found.best_fun == rastrigin(found.best_x)

    def partly(x):
        return np.nan if x[0] < 0.5 else rastrigin(x)

    found = solve(partly, x0=(1.0, 1.0))
    assert np.isfinite(found.x).all()

    def raises(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        solve(raises)
    diverged = solve(lambda x: float(np.abs(x).max()), noise_strength=1e200, time_step=1.0)
    assert (diverged.status, diverged.success) == (3, False)


def test_initial_particles_may_be_given():
    cloud = np.random.default_rng(3).uniform(-3, 3, (30, 2))
    np.testing.assert_array_equal(solve(init=cloud, maxiter=0).particles, cloud)


def test_the_message_is_shown_if_asked(capsys):
    solve(disp=True, maxiter=1)
    assert "Maximum number of iterations" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"particles": 0}, ValueError, "particles: must"),
        ({"inverse_temperature": -1.0}, ValueError, "inverse_temperature: must"),
        ({"maxiter": -1}, ValueError, "maxiter: must"),
        ({"maxfev": 30}, ValueError, "maxfev: must"),
        ({"tol": -1.0}, ValueError, "tol: must"),
        ({"init": np.zeros((3, 2))}, ValueError, "init: expected shape"),
        ({"init": np.full((30, 2), np.nan)}, ValueError, "init: must be finite"),
        ({"rng": 1, "seed": 1}, TypeError, "rng: is the newer name"),
    ],
)
def test_bad_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        solve(**options)


def test_bad_starts_are_named():
    with pytest.raises(ValueError, match="x0: must be finite"):
        solve(x0=(np.nan, 1.0))


def test_tendsto_exports_it():
    assert tt.optimize.consensus_based is consensus_based
