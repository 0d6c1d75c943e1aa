"""Models with bounded gradients: derivatives, and constants that no record exceeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tendsto.problems import BoundedHuber, BoundedLogistic, BoundedSigmoid, HuberLocation, clip_rows

RNG = np.random.default_rng(0)
ROWS = np.asarray(clip_rows(jnp.asarray(RNG.standard_normal((40, 6))), 1.5))
LABELS = RNG.integers(0, 2, 40)
MODELS = [
    BoundedLogistic(ROWS, LABELS, 1.5, 0.3),
    BoundedSigmoid(ROWS, LABELS, 1.5, 0.1),
    BoundedHuber(ROWS, RNG.standard_normal(40) * 5, 1.5, 0.2, scale=0.7),
    HuberLocation(RNG.standard_normal((40, 6)), 0.6, 2.0),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_gradients_are_derivatives_and_constants_are_bounds(model):
    scale = 3.0
    for key in range(5):
        x, y = scale * jax.random.normal(jax.random.key(key), (2, 6))
        np.testing.assert_allclose(model.gradient(x), jax.grad(model.smooth_part)(x), atol=1e-12)
        here, there = (model.component_gradients(point, jnp.arange(40)) for point in (x, y))
        np.testing.assert_allclose(here.mean(axis=0), model.gradient(x), atol=1e-12)
        assert jnp.linalg.norm(here, axis=1).max() <= model.lipschitz
        assert jnp.linalg.norm(here - there, axis=1).max() <= model.smoothness * jnp.linalg.norm(x - y)
    assert model.component_smoothness.shape == (40,)


@pytest.mark.parametrize(
    ("model", "point", "slope"),
    [
        # Where each derivative is steepest, one record in one dimension attains its bound.
        (BoundedLogistic([[1.5], [-1.5]], [0, 1], 1.5), 60.0, 1.5),
        (BoundedSigmoid([[1.5], [-1.5]], [0, 1], 1.5), 0.0, 1.5 / 4),
        (BoundedHuber([[1.5], [1.5]], [0.0, 0.0], 1.5, scale=0.5), 1e6, 0.75),
        (BoundedLogistic([[1e-9], [-1e-9]], [0, 1], 1e-9, 0.5), 1 / np.sqrt(3), 0.5 * 3 * np.sqrt(3) / 8),
    ],
    ids=["logistic", "sigmoid", "huber", "penalty"],
)
def test_lipschitz_constants_are_attained(model, point, slope):
    gradient = model.component_gradients(jnp.array([point]), jnp.arange(2))
    assert float(jnp.abs(gradient).max()) == pytest.approx(slope, rel=1e-6)
    assert float(model.lipschitz) == pytest.approx(slope, rel=1e-6)


def test_smoothness_constants_are_attained():
    def steepest(model, points):
        curvatures = jax.vmap(jax.hessian(model.smooth_part))(jnp.asarray(points)[:, None])
        return float(jnp.abs(curvatures).max())

    grid = np.linspace(-4, 4, 4001)
    logistic = BoundedLogistic([[1.0], [-1.0]], [0, 1])
    assert steepest(logistic, [0.0]) == pytest.approx(float(logistic.smoothness), rel=1e-9)
    sigmoid = BoundedSigmoid([[1.0], [-1.0]], [0, 1])
    assert steepest(sigmoid, grid) == pytest.approx(float(sigmoid.smoothness), rel=1e-4)
    huber = BoundedHuber([[1.0]], [0.3])
    assert steepest(huber, [0.3]) == pytest.approx(float(huber.smoothness), rel=1e-9)


def test_rows_are_clipped_to_the_bound_and_no_further():
    rows = jnp.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    np.testing.assert_allclose(clip_rows(rows, 1.0), [[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]], rtol=1e-15)
    np.testing.assert_array_equal(clip_rows(rows, jnp.inf), rows)
    np.testing.assert_array_equal(clip_rows(rows, 0.0), jnp.zeros((3, 2)))
    assert jnp.isfinite(jax.jacobian(lambda v: clip_rows(v, 1.0))(rows)).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BoundedLogistic(ROWS, LABELS, 1.0), "features: rows must have norm at most feature_bound=1, the long"),
        (lambda: BoundedLogistic(ROWS, LABELS, 0.0), "feature_bound: must lie in"),
        (lambda: BoundedLogistic(ROWS, LABELS, 2.0, -1.0), "penalty: must lie in"),
        (lambda: BoundedLogistic(ROWS, LABELS[:-1], 2.0), "targets: expected one for each of the 40 rows"),
        (lambda: BoundedHuber(ROWS, np.zeros(40), 2.0, scale=0.0), "scale: must lie in"),
        (lambda: HuberLocation(ROWS, 0.0), "lipschitz: must lie in"),
        (lambda: HuberLocation(ROWS, 1.0, -2.0), "smoothness: must lie in"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
