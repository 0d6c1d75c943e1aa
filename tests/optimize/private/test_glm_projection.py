"""The random projection of generalised linear models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tendsto.optimize.private import project_features, projection_dimension
from tendsto.problems import BoundedHuber, BoundedLogistic, LogisticRegression, clip_rows

RNG = np.random.default_rng(3)
ROWS = np.asarray(clip_rows(jnp.asarray(RNG.standard_normal((50, 400))), 2.0))
PROBLEM = BoundedHuber(ROWS, RNG.standard_normal(50), 2.0)
UNBOUNDED = LogisticRegression(ROWS, ROWS[:, 0] > 0)


def test_projection_keeps_norms_and_models():
    projected, lift = project_features(PROBLEM, 300, jax.random.key(0))
    norms = np.linalg.norm(projected.features, axis=1)
    np.testing.assert_allclose(norms, 2.0, rtol=0.25)
    assert abs(np.mean(norms**2) - 4) < 0.3
    assert float(projected.lipschitz) == 2 * float(PROBLEM.lipschitz)
    assert float(projected.smoothness) == 4 * float(PROBLEM.smoothness)
    # The model after the way back is the projected model, margins and all.
    v = jnp.asarray(RNG.standard_normal(300)) / 20
    assert float(PROBLEM.objective(lift(v))) == pytest.approx(float(projected.objective(v)), rel=1e-9)
    pulled = jax.grad(lambda v: PROBLEM.objective(lift(v)))(v)
    np.testing.assert_allclose(pulled, projected.gradient(v), rtol=1e-6, atol=1e-12)
    assert lift(jnp.ones((7, 300))).shape == (7, 400)


def test_long_rows_are_shortened():
    # In one dimension a projection is a sum of signs, which often exceeds twice the norm.
    projected, _ = project_features(PROBLEM, 1, jax.random.key(1))
    assert float(jnp.abs(projected.features).max()) <= 4.0 * (1 + 1e-12)


def test_dimension_of_the_theorem():
    assert projection_dimension(1000, 5, 1e-5) == np.ceil(5 * np.log(2e8))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: project_features(UNBOUNDED, 3, jax.random.key(0)),
            TypeError,
            "problem",
        ),
        (lambda: project_features(PROBLEM, 0, jax.random.key(0)), ValueError, "dimension: must lie in"),
        (
            lambda: project_features(BoundedLogistic(ROWS, ROWS[:, 0] > 0, 2.0, 0.1), 3, jax.random.key(0)),
            ValueError,
            "problem: the projection allows no penalty",
        ),
        (lambda: projection_dimension(10, 0, 0.1), ValueError, "rank: must lie in"),
        (lambda: projection_dimension(10, 2, 2.0), ValueError, "delta: must lie in"),
    ],
)
def test_bad_input_is_named(build, error, message):
    with pytest.raises(error, match=message):
        build()
