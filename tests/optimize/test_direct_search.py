"""Covering direct search against closed forms, a loop in NumPy, and SciPy's own conventions."""

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, NonlinearConstraint, OptimizeWarning, linprog, minimize, rosen

from tendsto.optimize import cosine_measure, covering_direct_search, poll_basis
from tendsto.optimize.direct_search import random_on_sphere


def search(fun, x0, **options):
    given = {
        name: options.pop(name) for name in ("bounds", "constraints", "callback", "args", "tol") if name in options
    }
    return minimize(fun, x0, method=covering_direct_search, options=options, **given)


def bowl(x):
    return float(x @ x)


@pytest.mark.parametrize("kind", ["2n", "n+1"])
@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_bases_span_positively_with_their_classical_cosine_measure(size, kind):
    directions = poll_basis(size, kind, 3)
    assert directions.shape == ((2 * size if kind == "2n" else size + 1), size)
    np.testing.assert_allclose(np.abs(directions).max(axis=1), 1.0)
    expected = 1 / np.sqrt(size) if kind == "2n" else 1 / np.sqrt(size**2 + 2 * (size - 1) * np.sqrt(size))
    assert cosine_measure(directions) == pytest.approx(expected, rel=1e-9)


def test_bases_differ_and_are_orthogonal_before_they_are_scaled():
    rng = np.random.default_rng(0)
    one, other = poll_basis(6, "2n", rng), poll_basis(6, "2n", rng)
    assert np.abs(one - other).max() > 0.1
    unit = one[:6] / np.linalg.norm(one[:6], axis=1, keepdims=True)
    np.testing.assert_allclose(unit @ unit.T, np.eye(6), atol=1e-12)
    np.testing.assert_array_equal(one[6:], -one[:6])


def test_cosine_measure_is_the_worst_angle():
    """Against the largest of many random directions, and where it is known or zero."""
    rng = np.random.default_rng(1)
    some = rng.standard_normal((5, 3))
    directions = np.concatenate([some, -some.sum(axis=0, keepdims=True)])
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    probes = rng.standard_normal((200_000, 3))
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    sampled = (probes @ unit.T).max(axis=1).min()
    measure = cosine_measure(directions)
    assert measure <= sampled <= measure + 0.02
    triangle = np.array([[0.0, 1.0], [np.sqrt(3) / 2, -0.5], [-np.sqrt(3) / 2, -0.5]])
    assert cosine_measure(triangle) == pytest.approx(0.5)
    assert cosine_measure(np.eye(3)) == 0.0
    assert cosine_measure(np.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]])) == 0.0
    # A half-space whose border is touched: zero is a combination, but not one with every coefficient positive.
    assert cosine_measure(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])) == 0.0


def test_points_of_the_sphere_are_uniform_on_its_faces():
    rng = np.random.default_rng(0)
    points = np.array([random_on_sphere(3, 2.0, rng) for _ in range(4000)])
    np.testing.assert_allclose(np.abs(points).max(axis=1), 2.0)
    faces = np.abs(points).argmax(axis=1)
    np.testing.assert_allclose(np.bincount(faces) / 4000, 1 / 3, atol=0.04)
    assert abs(points.mean()) < 0.08
    inner = np.sort(np.abs(points), axis=1)[:, 0]
    assert inner.mean() == pytest.approx(2.0 / 3.0, abs=0.05)  # the smaller of two uniforms on [0, 2]


def transcription(fun, x, *, maxfev, r0, smallest, largest, seed, size, trials):
    """The method's three steps as a plain loop, with the same draws; the values and radii after each iteration."""
    rng, value, calls, radius, searches = np.random.default_rng(seed), fun(x), 1, r0, 0
    rows = [(value, calls, radius)]
    while calls < maxfev:
        trial = x + rng.uniform(-r0, r0, size)
        calls += 1
        trials.append(trial)
        if fun(trial) < value:
            x, value = trial, fun(trial)
        else:
            searches += 1
            trial = x + random_on_sphere(size, min(r0 * np.sqrt(searches), largest), rng)
            calls += 1
            trials.append(trial)
            if fun(trial) < value:
                x, value, radius = trial, fun(trial), min(2 * radius, largest)
            else:
                normal = rng.standard_normal(size)
                unit = normal / np.linalg.norm(normal)
                columns = [np.eye(size)[i] - 2 * unit[i] * unit for i in range(size)]
                for direction in [*columns, *(-column for column in columns)]:
                    trial = x + radius * direction / np.abs(direction).max()
                    calls += 1
                    trials.append(trial)
                    if fun(trial) < value:
                        x, value, radius = trial, fun(trial), min(2 * radius, largest)
                        break
                else:
                    radius = max(radius / 2, smallest)
        rows.append((value, calls, radius))
    return x, np.array(rows)


@pytest.mark.parametrize("fun", [rosen, lambda x: np.abs(x).sum() + np.floor(3 * np.abs(x)).max()])
def test_iterations_are_those_of_the_pseudo_code(fun):
    start, expected, seen = np.array([-1.2, 1.0, 0.7]), [], []
    x, rows = transcription(fun, start, maxfev=400, r0=0.5, smallest=1e-9, largest=1.2, seed=7, size=3, trials=expected)
    result = search(
        lambda x: seen.append(x) or fun(x),
        start,
        maxfev=int(rows[-1, 1]),
        rng=7,
        initial_radius=0.5,
        final_radius=1e-9,
        largest_radius=1.2,
    )
    np.testing.assert_allclose(seen[1:], expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.x, x, rtol=1e-9, atol=1e-12)
    history = result.history
    assert {"covering", "search", "poll", "failure"} >= set(result.successes) >= {"poll", "failure"}
    np.testing.assert_allclose(history["objective"].values[0], rows[:, 0], rtol=1e-12)
    np.testing.assert_array_equal(history["evaluations"].values[0], rows[:, 1])
    np.testing.assert_array_equal(history["poll_radius"].values[0], rows[:, 2])
    assert result.nit == len(rows) - 1 == sum(result.successes.values())


@pytest.mark.parametrize("poll", ["2n", "n+1"])
def test_it_converges_on_a_quadratic_of_known_minimiser(poll):
    matrix = np.random.default_rng(2).standard_normal((4, 4))
    hessian, shift = matrix @ matrix.T + np.eye(4), np.arange(4.0)
    result = search(lambda x: (x - shift) @ hessian @ (x - shift), np.zeros(4), poll=poll, covering_points=20)
    assert result.success
    assert result.status == 0
    values = result.history["objective"].values[0]
    assert 20 <= result.covered == (values == values[-1]).sum() - 1
    np.testing.assert_allclose(result.x, shift, atol=1e-4)
    assert result.fun == pytest.approx((result.x - shift) @ hessian @ (result.x - shift))


def test_a_linear_programme_through_the_barrier():
    """Against the vertex that HiGHS finds; the barrier is slower at corners, hence the tolerance."""
    cost, matrix, limit = np.array([-1.0, -2.0]), np.array([[1.0, 1.0], [1.0, 3.0]]), np.array([4.0, 6.0])
    exact = linprog(cost, matrix, limit)
    constraints = [LinearConstraint(matrix, -np.inf, limit), {"type": "ineq", "fun": lambda x: x}]
    result = search(lambda x: cost @ x, [0.1, 0.1], constraints=constraints, maxfev=40_000, covering_points=4000)
    assert (matrix @ result.x <= limit).all()
    assert result.fun == pytest.approx(exact.fun, abs=0.03)


def test_points_outside_are_never_evaluated():
    seen = []

    def fun(x):
        seen.append(x)
        return -x.sum()

    disc = NonlinearConstraint(lambda x: x @ x, -np.inf, 0.9)
    result = search(fun, [0.0, 0.0], bounds=[(-1, 0.5), (None, 0.7)], constraints=disc, maxfev=2000)
    points = np.array(seen)
    assert (points[:, 0] <= 0.5).all()
    assert (points[:, 0] >= -1).all()
    assert (points[:, 1] <= 0.7).all()
    assert ((points**2).sum(axis=1) <= 0.9).all()
    assert result.nfev == len(seen) <= 2000
    assert result.fun == pytest.approx(-1.2, abs=0.02)


def test_a_start_outside_the_bounds_is_moved_onto_them():
    with pytest.warns(OptimizeWarning, match="moved onto"):
        result = search(bowl, [3.0, 3.0], bounds=Bounds(1.0, 2.0))
    np.testing.assert_allclose(result.x, [1.0, 1.0], atol=1e-5)


def test_an_infeasible_start_is_reported():
    calls = []
    result = search(lambda x: calls.append(x) or 0.0, [0.0], constraints=NonlinearConstraint(lambda x: x, 1.0, 2.0))
    assert (result.success, result.status, result.nfev, result.nit) == (False, 4, 0, 0)
    assert "starting point violates" in result.message
    assert np.isnan(result.fun)
    assert not calls


@pytest.mark.parametrize(("maxfev", "nfev"), [(0, 0), (1, 1), (2, 2), (37, 37)])
def test_the_budget_of_evaluations_is_spent_and_not_exceeded(maxfev, nfev):
    calls = []

    def fun(x):
        calls.append(x)
        return rosen(x)

    result = search(fun, [5.0, -3.0, 2.0], maxfev=maxfev)
    assert (result.status, result.success) == (1, False)
    assert len(calls) == result.nfev == nfev
    if maxfev:
        assert result.fun == min(map(rosen, calls))
        assert result.history["evaluations"].values[0, -1] == nfev
    else:
        assert np.isnan(result.fun)
        np.testing.assert_array_equal(result.x, [5.0, -3.0, 2.0])


def test_the_budget_of_iterations():
    result = search(rosen, [2.0, 2.0], maxiter=5)
    assert (result.status, result.nit) == (2, 5)
    assert "maxiter" in result.message
    assert search(rosen, [2.0, 2.0], maxiter=0).nfev == 1


def test_callbacks_of_both_forms_stop_it():
    seen = []

    def by_result(intermediate_result):
        seen.append(intermediate_result.fun)
        if intermediate_result.nit == 4:
            raise StopIteration

    result = search(rosen, [2.0, 2.0], callback=by_result)
    assert (result.status, result.nit, len(seen)) == (99, 4, 4)
    np.testing.assert_array_equal(result.history["objective"].values[0, 1:], seen)
    points = []
    search(rosen, [2.0, 2.0], callback=points.append, maxiter=3)
    assert np.shape(points) == (3, 2)


def test_what_the_function_raises_passes_through():
    def fails_later(x):
        if x[0] < 1.5:
            raise ZeroDivisionError("inside")
        return bowl(x)

    with pytest.raises(ZeroDivisionError, match="inside"):
        search(fails_later, [2.0, 2.0])


def test_values_that_are_no_numbers_are_worse_than_any():
    result = search(lambda x: np.nan if x[0] < 0.5 else bowl(x), [2.0, 2.0], covering_points=3000)
    np.testing.assert_allclose(result.x, [0.5, 0.0], atol=0.05)
    assert result.x[0] >= 0.5
    recovered = search(lambda x: np.nan if x[0] > 1 else bowl(x), [1.5], rng=1)
    assert recovered.success
    assert recovered.fun < 1e-10
    lost = search(lambda x: np.nan, [1.0])
    assert (lost.success, lost.status) == (False, 5)
    assert "finite" in lost.message


def test_minus_infinity_is_reported():
    result = search(lambda x: -np.inf if x[0] < 0 else x[0], [1.0])
    assert (result.success, result.status, result.fun) == (False, 3, -np.inf)


def test_same_seed_same_run_and_generators_are_used_up():
    one, other = (search(rosen, [2.0, 2.0], maxfev=200, rng=5) for _ in range(2))
    np.testing.assert_array_equal(one.x, other.x)
    rng = np.random.default_rng(5)
    assert search(rosen, [2.0, 2.0], maxfev=200, rng=rng).fun == one.fun
    assert search(rosen, [2.0, 2.0], maxfev=200, rng=rng).fun != one.fun


def test_extra_arguments_and_the_tolerance_of_minimize():
    result = search(lambda x, shift: bowl(x - shift), [0.0], args=(3.0,), tol=1e-2)
    assert result.x[0] == pytest.approx(3.0, abs=0.02)
    assert result.history["poll_radius"].values[0, -1] == 1e-2


def test_covering_points_are_uniform_in_the_ball_and_dense_around_the_incumbent():
    seen = []

    def fun(x):
        seen.append(x)
        return bowl(x)

    result = search(fun, np.zeros(2), covering_radius=0.5, initial_radius=1e-6, covering_points=3000, maxfev=9000)
    # At the minimiser, with the poll at rest, every further point is a covering point.
    covering = np.array(seen[-2900:])
    assert result.success
    assert np.abs(covering).max() <= 0.5
    share = (np.abs(covering).max(axis=1) <= 0.25).mean()
    assert share == pytest.approx(0.25, abs=0.03)
    radii = np.abs(covering).max(axis=1)
    assert np.median(radii) == pytest.approx(0.5 * 0.5**0.5, abs=0.01)


def test_without_covering_only_polls_remain():
    result = search(rosen, [2.0, 2.0], covering_radius=0.0)
    assert set(result.successes) <= {"poll", "failure"}
    assert result.covered == 0
    assert result.success


def test_covering_goes_on_at_the_smallest_radius_and_reopens_the_poll():
    """A step down beside a minimiser, with a slope behind it that only a poll descends to its end."""

    def cliff(x):
        return float(x @ x) if x[0] < 0.3 else float(x[0] - 0.5) ** 2 + float(x[1:] @ x[1:]) - 1.0

    smallest = {"initial_radius": 1e-6, "final_radius": 1e-6, "largest_radius": 1.0}
    result = search(cliff, [0.0, 0.0], covering_points=300, covering_radius=0.6, **smallest)
    np.testing.assert_allclose(result.x, [0.5, 0.0], atol=1e-5)
    assert search(cliff, [0.0, 0.0], covering_radius=0.0, **smallest).fun == 0.0


@pytest.mark.parametrize(
    ("x0", "options", "error", "message"),
    [
        ([np.inf], {}, ValueError, "x0: must be finite"),
        ([], {}, ValueError, "x0: must not be empty"),
        ([1.0], {"maxfev": -1}, ValueError, "maxfev"),
        ([1.0], {"maxiter": 1.5}, TypeError, "maxiter"),
        ([1.0], {"initial_radius": 0.0}, ValueError, "initial_radius"),
        ([1.0], {"initial_radius": np.nan}, ValueError, "initial_radius"),
        ([1.0], {"final_radius": 2.0}, ValueError, "initial_radius: must lie between"),
        ([1.0], {"largest_radius": 0.5}, ValueError, "initial_radius: must lie between"),
        ([1.0], {"covering_radius": -1.0}, ValueError, "covering_radius"),
        ([1.0], {"covering_points": -1}, ValueError, "covering_points"),
        ([1.0], {"poll": "3n"}, (ValueError, TypeError), "poll"),
        ([1.0], {"bounds": [(2, 1)]}, ValueError, "bounds"),
        ([1.0], {"constraints": {"type": "eq", "fun": bowl}}, ValueError, "constraints: .*equalities"),
        ([1.0], {"constraints": NonlinearConstraint(bowl, 1.0, 1.0)}, ValueError, "constraints: .*equality"),
        ([1.0], {"constraints": ["x > 0"]}, TypeError, "constraints: expected"),
    ],
)
def test_bad_input_is_named(x0, options, error, message):
    with pytest.raises(error, match=message):
        search(bowl, x0, **options)


def test_bad_directions_are_named():
    with pytest.raises(ValueError, match="size"):
        poll_basis(0)
    with pytest.raises((ValueError, TypeError), match="kind"):
        poll_basis(2, "3n")
    with pytest.raises(ValueError, match="zero vector"):
        cosine_measure([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="too many subsets"):
        cosine_measure(np.concatenate([np.eye(30), -np.eye(30) - 0.01 * np.eye(30)[::-1]]))


def test_a_function_that_is_not_scalar_is_named():
    with pytest.raises(ValueError, match="fun: must return a scalar"):
        search(lambda x: x, [1.0, 2.0])


def test_what_is_not_used_is_said():
    with pytest.warns(RuntimeWarning, match="does not use jac"):
        minimize(bowl, [1.0], jac=lambda x: 2 * x, method=covering_direct_search)
    with pytest.warns(OptimizeWarning, match="speed"):
        search(bowl, [1.0], speed=1)
