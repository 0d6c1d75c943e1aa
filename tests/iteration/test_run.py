"""`run`: what is recorded, and that it does not depend on how the run was cut up."""

import jax.numpy as jnp
import numpy as np
import pytest

import tendsto as tt
from tendsto.iteration import Cost, Method, Scalar, State, hyperparameter


class Contraction(Method[None, State]):
    """x_{t+1} = factor x_t, of which everything is known in closed form."""

    factor: Scalar = hyperparameter()

    def init(self, problem, x0, key):
        return State(x0, Cost())

    def step(self, problem, state, key):
        return State(self.factor * state.x, state.cost + Cost(gradients=2))


def norm(problem, state):
    return jnp.linalg.norm(state.x)


def test_records_the_closed_form_at_the_recorded_steps():
    trace = tt.run(Contraction(0.9), None, jnp.ones(4), steps=200, record={"norm": norm}, points=20, spacing="linear")
    steps = trace["step"].values
    assert steps[0] == 0
    assert steps[-1] == 200
    np.testing.assert_allclose(trace["norm"].values[0], 2.0 * 0.9**steps, rtol=1e-10)
    np.testing.assert_array_equal(trace["gradients"].values[0], 2 * steps)
    assert trace.spent == ("gradients",)
    rate = trace.rate("norm", kind="linear")
    assert rate.value == pytest.approx(0.9, rel=1e-9)


def test_grid_is_the_product_of_its_values_and_a_dimension_each():
    grid = {"factor": [0.5, 0.9, 2.0]}
    trace = tt.run(Contraction(1.0), None, jnp.ones(1), steps=30, seeds=2, record={"norm": norm}, grid=grid)
    assert trace["norm"].dims == ("factor", "seed", "step")
    for factor in grid["factor"]:
        np.testing.assert_allclose(trace.sel(factor=factor).final("norm"), factor**30, rtol=1e-12)


def test_divergence_is_recorded_not_raised():
    trace = tt.run(
        Contraction(1e200), None, jnp.ones(1), steps=5, seeds=2, record={"norm": norm}, grid={"factor": [0.5, 1e200]}
    )
    assert not trace.diverged.sel(factor=0.5).any()
    assert trace.diverged.sel(factor=1e200).all()
