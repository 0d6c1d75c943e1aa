import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from tendsto import extras
from tendsto.problems import (
    EqualityConstrained,
    PrimalDual,
    constrained_logistic_regression,
    cutest_problem,
    dataset,
    elliptic_control,
    hock_schittkowski,
)

NUMBERS = (6, 7, 9, 26, 27, 28, 39, 40, 42, 46, 47, 48, 49, 50, 51, 52, 61, 77, 78, 79)


def test_derivatives_of_a_problem_done_by_hand():
    problem = EqualityConstrained(lambda x: x[0] * x[1] ** 2, lambda x: jnp.stack([x[0] ** 3 + x[1]]))
    point = PrimalDual(jnp.array([2.0, 3.0]), jnp.array([5.0]))
    hessian = np.array([[5.0 * 12.0, 6.0], [6.0, 4.0]])
    assert problem.objective(point) == 18.0
    assert problem.infeasibility(point) == 11.0
    assert problem.lagrangian(point) == 18.0 + 55.0
    np.testing.assert_allclose(problem.gradient(point.x), [9.0, 12.0])
    np.testing.assert_allclose(problem.jacobian(point.x), [[12.0, 1.0]])
    np.testing.assert_allclose(problem.hessian(point), hessian)
    np.testing.assert_allclose(problem.kkt_residual(point), [69.0, 17.0, 11.0])
    np.testing.assert_allclose(problem.stationarity(point), np.linalg.norm([69.0, 17.0, 11.0]))
    expected = np.block([[hessian, np.array([[12.0], [1.0]])], [np.array([[12.0, 1.0, 0.0]])]])
    np.testing.assert_allclose(problem.kkt_matrix(point), expected)
    np.testing.assert_allclose(problem.kkt_matrix(point), jax.jacobian(_flat(problem))(jnp.array([2.0, 3.0, 5.0])))


def _flat(problem):
    return lambda flat: problem.kkt_residual(PrimalDual(flat[:2], flat[2:]))


def test_functions_are_required():
    with pytest.raises(TypeError, match="constraints"):
        EqualityConstrained(lambda x: x.sum(), 3)


def test_elliptic_control_is_the_discretised_problem():
    size, penalty = 4, 0.3
    problem = elliptic_control(size, penalty)
    x = np.random.default_rng(0).standard_normal(2 * size**2)
    state, control = x[: size**2].reshape(size, size), x[size**2 :].reshape(size, size)
    spacing, centre, scale = 2 / (size + 1), (size + 1) / 2, 0.1 / np.sqrt(15)
    value, equations = 0.5 * penalty * np.sum(control**2), []
    for i in range(size):
        for j in range(size):
            target = np.sin(4 + scale * (i + 1 - centre)) + np.cos(3 + scale * (j + 1 - centre))
            value += 0.5 * (state[i, j] - target) ** 2
            beside = sum(
                state[k, el] if 0 <= k < size and 0 <= el < size else 0.0
                for k, el in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1))
            )
            equations.append((beside - 4 * state[i, j]) / spacing**2 + control[i, j])
    np.testing.assert_allclose(problem.function(jnp.asarray(x)), value)
    np.testing.assert_allclose(problem.constraints(jnp.asarray(x)), equations)
    with pytest.raises(ValueError, match="size"):
        elliptic_control(0)
    with pytest.raises(ValueError, match="penalty"):
        elliptic_control(2, 0.0)


def test_logistic_regression_on_planes_and_sphere():
    features, targets = dataset("breast_cancer")
    problem = constrained_logistic_regression(features, targets, key=jax.random.key(0), planes=3)
    x = np.random.default_rng(0).standard_normal(30) / 10
    signs = np.where(targets == 1, 1.0, -1.0)
    np.testing.assert_allclose(
        problem.function(jnp.asarray(x)), np.mean(np.log1p(np.exp(-signs * (features @ x)))), rtol=1e-12
    )
    matrix = np.asarray(problem.jacobian(jnp.asarray(x)))
    assert matrix.shape == (4, 30)
    np.testing.assert_allclose(matrix[3], 2 * x)
    values = np.asarray(problem.constraints(jnp.asarray(x)))
    assert values[3] == pytest.approx(x @ x - 1.0)
    # The nearest point of the planes to the origin lies within the sphere, so both meet.
    nearest = np.linalg.pinv(matrix[:3]) @ (matrix[:3] @ x - values[:3])
    assert np.linalg.norm(nearest) < 1.0
    with pytest.raises(ValueError, match="planes"):
        constrained_logistic_regression(features, targets, key=jax.random.key(0), planes=30)
    with pytest.raises(ValueError, match="targets"):
        constrained_logistic_regression(features, np.arange(len(features)), key=jax.random.key(0))


@pytest.mark.parametrize("number", NUMBERS)
def test_hock_schittkowski_agrees_with_sif2jax(number):
    ours, theirs = hock_schittkowski(number), cutest_problem(f"HS{number}")
    np.testing.assert_allclose(ours.start, theirs.start)
    assert ours.minimum == pytest.approx(theirs.minimum, abs=1e-7)
    x = jnp.asarray(np.random.default_rng(number).uniform(-2, 2, ours.start.size))
    np.testing.assert_allclose(ours.function(x), theirs.function(x), rtol=1e-12)
    np.testing.assert_allclose(ours.gradient(x), theirs.gradient(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.constraints(x), theirs.constraints(x), rtol=1e-12, atol=1e-12)


def test_only_the_problems_asked_for_are_imported():
    cutest_problem("BT3")
    assert "sif2jax" not in sys.modules
    booth = cutest_problem("BOOTH")
    assert booth.constraints(jnp.array([1.0, 3.0])).tolist() == [0.0, 0.0]
    assert booth.objective(PrimalDual(jnp.zeros(2), jnp.zeros(2))) == 0.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NOSUCH", "has no equality-constrained problem"),
        ("../HS7", "has no equality-constrained problem"),
        ("HS21", "inequality"),
        ("HS71", "inequality"),
    ],
)
def test_other_problems_are_refused(name, message):
    with pytest.raises(ValueError, match=f"name: .*{message}"):
        cutest_problem(name)


def test_a_missing_collection_names_what_brings_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "sif2jax", None)
    with pytest.raises(extras.MissingExtra, match=r"tendsto\[cutest\]"):
        cutest_problem("HS7")


def test_an_unknown_number_is_named():
    with pytest.raises(ValueError, match="number: 8 is not one of 6, 7, 9"):
        hock_schittkowski(8)


def test_scipy_solves_a_problem_from_its_own_arguments():
    problem = hock_schittkowski(42)
    result = minimize(**problem.as_scipy(), method="trust-constr")
    assert result.fun == pytest.approx(problem.minimum, abs=1e-6)
