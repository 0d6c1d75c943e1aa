import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tendsto.optimize import ExactAugmentedLagrangian
from tendsto.problems import PrimalDual, hock_schittkowski


@pytest.mark.parametrize("number", [7, 40, 77])
def test_the_gradient_is_that_of_the_function(number):
    problem, merit = hock_schittkowski(number), ExactAugmentedLagrangian(3.0, 0.7)
    size = problem.start.size
    multipliers = jnp.linspace(-1.0, 2.0, problem.constraints(problem.start).size)
    point = PrimalDual(problem.start + 0.1 * jnp.arange(size), multipliers)
    expected = jax.grad(lambda at: merit(problem, at))(point)
    ours = merit.gradient(problem, point)
    np.testing.assert_allclose(ours.x, expected.x, rtol=1e-10)
    np.testing.assert_allclose(ours.multipliers, expected.multipliers, rtol=1e-10)


def test_the_value_is_the_formula_term_by_term():
    problem, merit = hock_schittkowski(7), ExactAugmentedLagrangian(3.0, 0.7)
    x, multiplier = np.array([0.5, 1.5]), 0.3
    c = (1 + 0.25) ** 2 + 2.25 - 4
    gradient = np.array([2 * 0.5 / 1.25 + multiplier * 4 * 0.5 * 1.25, -1 + multiplier * 3.0])
    expected = np.log(1.25) - 1.5 + multiplier * c + 1.5 * c**2 + 0.35 * gradient @ gradient
    np.testing.assert_allclose(merit(problem, PrimalDual(jnp.asarray(x), jnp.array([multiplier]))), expected)


def test_penalties_are_positive():
    with pytest.raises(ValueError, match="constraint_penalty"):
        ExactAugmentedLagrangian(0.0, 1.0)
    with pytest.raises(ValueError, match="gradient_penalty"):
        ExactAugmentedLagrangian(1.0, -1.0)
