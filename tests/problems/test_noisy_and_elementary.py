"""Noisy oracles and the small problems: what they delegate, and their constants against independent computations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

from tendsto.problems import (
    L1,
    DiagonalQuadratic,
    EuclideanNorm,
    Gaussian,
    LastIterateLowerBound,
    LinearOnSimplex,
    Noisy,
    Objective,
    Simplex,
    SquaredL2,
)


def square(x):
    return jnp.sum(x**2)


def test_noisy_answers_as_the_problem_but_for_the_noise():
    plain = DiagonalQuadratic([1.0, 4.0], SquaredL2(0.5))
    noisy, x = Noisy(plain, Gaussian(1.0)), jnp.array([0.3, -2.0])
    for name in ("smooth_part", "gradient", "objective", "gap", "stationarity"):
        np.testing.assert_array_equal(getattr(noisy, name)(x), getattr(plain, name)(x))
    np.testing.assert_array_equal(noisy.proximal(x, 0.7), plain.proximal(x, 0.7))
    for name in ("smoothness", "strong_convexity", "curvatures", "minimum", "minimiser", "gradient_cost"):
        np.testing.assert_array_equal(getattr(noisy, name), getattr(plain, name))
    assert noisy.regulariser is plain.regulariser
    assert noisy.stochastic_gradient_cost == 1


def test_noise_is_added_to_the_gradient_and_averages_out():
    noisy, x = Noisy(DiagonalQuadratic([1.0, 4.0]), Gaussian(2.0)), jnp.array([0.3, -2.0])
    keys = jax.random.split(jax.random.key(0), 20_000)
    answers = np.asarray(jax.vmap(lambda key: noisy.stochastic_gradient(x, key))(keys))
    np.testing.assert_allclose(answers[0] - noisy.gradient(x), noisy.noise(keys[0], x), rtol=1e-12)
    error = answers - np.asarray(noisy.gradient(x))
    assert np.all(np.abs(error.mean(axis=0)) < 5 * np.sqrt(2.0 / len(keys)))
    assert np.sum(error**2, axis=1).mean() == pytest.approx(4.0, rel=0.05)


def test_unknown_constants_are_reported_by_the_wrapped_problem():
    noisy = Noisy(Objective(square, L1(0.1)), Gaussian(1.0))
    with pytest.raises(AttributeError, match="Objective does not know its minimiser"):
        noisy.minimiser  # noqa: B018
    with pytest.raises(AttributeError, match="smoothness"):
        noisy.smoothness  # noqa: B018
    assert not hasattr(noisy, "lipschitz")


def test_wrong_kinds_are_named():
    from tendsto.problems.stochastic import Wrapped

    with pytest.raises(TypeError):
        Noisy(square, Gaussian(1.0))
    with pytest.raises(TypeError):
        Noisy(EuclideanNorm([0.0]), 1.0)
    assert issubclass(Noisy, Wrapped)


def test_the_norm_has_a_subgradient_everywhere():
    problem = EuclideanNorm([1.0, 2.0])
    np.testing.assert_array_equal(problem.gradient(jnp.array([1.0, 2.0])), [0.0, 0.0])
    x = jnp.array([4.0, 6.0])
    np.testing.assert_allclose(problem.gradient(x), jax.grad(problem.smooth_part)(x), rtol=1e-14)
    assert float(problem.gap(x)) == 5.0
    assert float(problem.minimum) == 0.0


def test_linear_costs_on_the_simplex():
    problem = LinearOnSimplex([0.3, 0.1, 0.2])
    np.testing.assert_array_equal(problem.minimiser, [0.0, 1.0, 0.0])
    x = jnp.array([0.5, 0.25, 0.25])
    assert float(problem.gap(x)) == pytest.approx(float(problem.objective(x) - problem.minimum), abs=1e-15)
    assert float(problem.gap(problem.minimiser)) == 0.0
    assert isinstance(problem.regulariser, Simplex)
    np.testing.assert_allclose(problem.gradient(x), jax.grad(problem.smooth_part)(x))


def test_the_quadratic_knows_its_curvature():
    problem = DiagonalQuadratic([2.0, 1.0, 4.0])
    hessian = jax.hessian(problem.smooth_part)(jnp.ones(3))
    eigenvalues = np.linalg.eigvalsh(hessian)
    assert (float(problem.strong_convexity), float(problem.smoothness)) == (eigenvalues[0], eigenvalues[-1])
    np.testing.assert_allclose(problem.gradient(jnp.arange(3.0)), jax.grad(problem.smooth_part)(jnp.arange(3.0)))
    assert float(problem.gap(jnp.zeros(3))) == 0.0


def dense_pieces(horizon):
    rows = np.zeros((horizon + 1, horizon))
    for i in range(1, horizon + 2):
        rows[i - 1, : i - 1] = [1 / (8 * (horizon - j + 1)) for j in range(1, i)]
        if i <= horizon:
            rows[i - 1, i - 1] = -np.sqrt(i) / (2 * np.sqrt(horizon))
    return rows


@pytest.mark.parametrize("horizon", [1, 7, 40])
def test_the_lower_bound_instance_is_its_pieces(horizon):
    problem, rows = LastIterateLowerBound(horizon), dense_pieces(horizon)
    x = np.random.default_rng(0).normal(size=horizon)
    np.testing.assert_allclose(problem.pieces(jnp.asarray(x)), rows @ x, atol=1e-14)
    assert float(problem.smooth_part(jnp.asarray(x))) == pytest.approx((rows @ x).max())
    np.testing.assert_allclose(problem.gradient(jnp.asarray(x)), rows[np.argmax(rows @ x)], atol=1e-16)
    np.testing.assert_allclose(problem.gradient(jnp.zeros(horizon)), rows[0], atol=1e-16)
    assert float(problem.lipschitz) == pytest.approx(np.linalg.norm(rows, axis=1).max(), rel=1e-12)


def test_the_lower_bound_instance_is_least_at_the_origin():
    """0 is a convex combination of the pieces, so that their maximum is nowhere negative."""
    rows = dense_pieces(25)
    _, residual = nnls(np.vstack([rows.T, np.ones(26)]), np.append(np.zeros(25), 1.0))
    assert residual < 1e-12
    problem = LastIterateLowerBound(25)
    assert float(problem.gap(problem.minimiser)) == 0.0
    assert np.isinf(problem.objective(jnp.full(25, 1.0)))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: DiagonalQuadratic([1.0, -1.0]), "curvatures"),
        (lambda: EuclideanNorm([[1.0]]), "centre"),
        (lambda: LinearOnSimplex([]), "costs"),
        (lambda: LastIterateLowerBound(0), "horizon"),
    ],
)
def test_bad_input_is_named(make, named):
    with pytest.raises(ValueError, match=f"^{named}: "):
        make()
