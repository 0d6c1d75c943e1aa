"""Landscapes against their formulas in NumPy, and their minima against a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tendsto.problems import GrandCanyon, Rastrigin


def canyon(point, ripple):
    x, y = point
    valley = y - (1 / 8 * (x - 1) * (x - 4) ** 2 + 2)
    block = -x - 1.6 * y
    return (
        25 * (1 - np.exp(-1.4 * valley**2 * np.exp(-0.002 * x**4)))
        + 0.4 * x**2
        + 0.2 * y**2
        + ripple * ((1 - np.cos(0.75 * np.pi * x)) + (1 - np.cos(0.75 * np.pi * y)))
        + 4 * np.exp(1 - 2 * valley**4) * max(np.sign(block) * (1 - np.exp(-9 * block**2)), 0)
    )


@pytest.mark.parametrize(("problem", "ripple"), [(GrandCanyon(), 0.25), (GrandCanyon.noisy(), 1.1625)])
def test_the_canyon_is_its_formula(problem, ripple):
    points = np.random.default_rng(0).uniform([-3, -4], [9, 9], size=(200, 2))
    points[:50] = np.random.default_rng(1).uniform(-1, 1, size=(50, 2))
    expected = [canyon(point, ripple) for point in points]
    np.testing.assert_allclose(jax.vmap(problem.objective)(points), expected, rtol=1e-10)
    # The wall is there: it counts on one side alone.
    assert problem.objective(jnp.array([-0.4, -0.5])) > problem.objective(jnp.array([0.4, 0.5])) + 1.0


@pytest.mark.parametrize("problem", [GrandCanyon(), GrandCanyon.noisy(), Rastrigin([0.7, -1.2])])
def test_the_minimum_is_where_it_is_said_to_be(problem):
    axis = np.linspace(-9, 9, 721)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    values = np.asarray(jax.vmap(problem.objective)(grid))
    assert values.min() >= 0.0
    assert np.abs(grid[values.argmin()] - problem.minimiser).max() <= 0.05
    assert float(problem.minimum) == 0.0
    np.testing.assert_allclose(problem.gradient(problem.minimiser), 0.0, atol=1e-12)


def test_rastrigin_in_any_dimension():
    x, centre = np.linspace(-2, 2, 7), np.linspace(0, 1, 7)
    v = x - centre
    expected = np.sum(v**2 + 2.5 * (1 - np.cos(2 * np.pi * v)))
    assert float(Rastrigin(centre).objective(jnp.asarray(x))) == pytest.approx(expected, rel=1e-12)
    steep = Rastrigin(centre, amplitude=10.0)
    largest = np.linalg.eigvalsh(jax.hessian(steep.objective)(jnp.asarray(centre))).max()
    assert float(steep.smoothness) == pytest.approx(largest, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-9, 0.3, 3.0, 1e6])
def test_rastrigin_and_its_gradient_by_the_sine(scale):
    points = scale * np.random.default_rng(0).uniform(-1, 1, (500, 3))
    points = np.concatenate([points, [[0.5, -1.5, 2.0], [0.25, 7.5, -0.75]]])
    fraction = points - np.rint(points)
    problem = Rastrigin(np.zeros(3))
    expected = np.sum(points**2 + 5.0 * np.sin(np.pi * fraction) ** 2, axis=1)
    np.testing.assert_allclose(jax.vmap(problem.objective)(points), expected, rtol=1e-14)
    slopes = 2 * points + 5 * np.pi * np.sin(2 * np.pi * fraction)
    np.testing.assert_allclose(jax.vmap(problem.gradient)(jnp.asarray(points)), slopes, rtol=1e-12, atol=1e-12)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="amplitude: must lie in"):
        Rastrigin([0.0], amplitude=-1.0)
    with pytest.raises(ValueError, match="centre: must be finite"):
        Rastrigin([np.nan])
    with pytest.raises(ValueError, match="ripple: must lie in"):
        GrandCanyon(-1.0)
