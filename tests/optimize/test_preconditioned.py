"""ScaledGD and PrecGD: against plain NumPy, invariance, and the rate that does not depend on conditioning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.optimize import PreconditionedGradientDescent, ScaledGradientDescent, scale_by_gram
from tendsto.problems import GaussianMeasurements, MatrixSensing, random_low_rank

KEY = jax.random.key(0)
TARGET = random_low_rank(KEY, (8, 8), 2, condition_number=3.0, symmetric=True)
SENSING = MatrixSensing.from_target(TARGET, GaussianMeasurements.draw(KEY, 300, (8, 8)))
RNG = np.random.default_rng(0)
LEFT, RIGHT = RNG.standard_normal((8, 3)), RNG.standard_normal((8, 3))


def backprojected_error(matrix):
    """A*(A(M) - y) and the norm of the residual, by a loop over the sensing matrices."""
    total, squares = np.zeros((8, 8)), 0.0
    matrices = np.asarray(SENSING.measurements.matrices)
    for sensing, value in zip(matrices, np.asarray(SENSING.values), strict=True):
        residual = np.sum(sensing * matrix) / np.sqrt(300) - value
        total += residual * sensing / np.sqrt(300)
        squares += residual**2
    return total, np.sqrt(squares)


def peer(x, damping_of, step_size=0.05, steps=4):
    """The published updates with explicit inverses."""
    for _ in range(steps):
        left, right = x if isinstance(x, tuple) else (x, x)
        error, norm = backprojected_error(left @ right.T)
        ridge = damping_of(norm) * np.eye(3)
        if isinstance(x, tuple):
            new_left = left - step_size * error @ right @ np.linalg.inv(right.T @ right + ridge)
            right = right - step_size * error.T @ left @ np.linalg.inv(left.T @ left + ridge)
            x = (new_left, right)
        else:
            x = x - step_size * (error + error.T) / 2 @ x @ np.linalg.inv(x.T @ x + ridge)
    return x


@pytest.mark.parametrize(("parameterization", "start"), [("symmetric", LEFT), ("asymmetric", (LEFT, RIGHT))])
@pytest.mark.parametrize(
    ("method", "options", "damping"),
    [
        (ScaledGradientDescent, {}, lambda norm: 0.0),
        (ScaledGradientDescent, {"damping": 0.3}, lambda norm: 0.3),
        (PreconditionedGradientDescent, {"damping_ratio": 0.2}, lambda norm: 0.2 * norm),
    ],
    ids=["ScaledGD", "damped ScaledGD", "PrecGD"],
)
def test_steps_follow_the_published_updates(parameterization, start, method, options, damping):
    trace = tt.run(method(3, 0.05, parameterization=parameterization, **options), SENSING, start, steps=4)
    expected = peer(start, damping)
    for computed, wanted in zip(jax.tree.leaves(trace.x), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(computed[0], wanted, rtol=1e-8, atol=1e-10)
    assert trace["gradients"].values[0, -1] == 4 * 300


def test_product_of_scaled_descent_does_not_depend_on_the_factorisation():
    """(FQ, GQ^-T) has the product of (F, G) and keeps it: the invariance that makes the rate free of conditioning."""
    change = RNG.standard_normal((3, 3)) + 3 * np.eye(3)
    pairs = [(LEFT, RIGHT), (LEFT @ change, RIGHT @ np.linalg.inv(change).T)]
    products = []
    for pair in pairs:
        (left,), (right,) = tt.run(ScaledGradientDescent(3, 0.1), SENSING, pair, steps=10).x
        products.append(left @ right.T)
    np.testing.assert_allclose(products[0], products[1], atol=1e-10)


CONDITION_NUMBERS = pytest.mark.parametrize("condition_number", [1.0, 100.0])


@CONDITION_NUMBERS
@pytest.mark.parametrize(
    "method",
    [
        ScaledGradientDescent(3, 0.5),
        PreconditionedGradientDescent(3, 0.5),
        PreconditionedGradientDescent(3, 0.25, parameterization="symmetric"),
    ],
    ids=["ScaledGD", "PrecGD", "symmetric PrecGD"],
)
def test_converges_whatever_the_condition_number_and_stays_finite(method, condition_number):
    target = random_low_rank(KEY, (8, 8), 2, condition_number=condition_number, symmetric=True)
    trace = tt.run(method, MatrixSensing.from_target(target), steps=400, seeds=5, record="error")
    assert not trace.diverged.any()
    assert (trace.final("error") < 1e-16).all()


@CONDITION_NUMBERS
def test_local_rate_of_scaled_descent_is_free_of_conditioning(condition_number):
    """Near the target the error obeys D+ = D - step (P_F D + D P_G), whose slowest factor is 1 - step."""
    left, spectrum, right = np.linalg.svd(random_low_rank(KEY, (8, 7), 2, condition_number=condition_number))
    problem = MatrixSensing.from_target((left[:, :2] * spectrum[:2]) @ right[:2])
    noise = 0.01 * np.sqrt(spectrum[1])
    start = (
        left[:, :2] * np.sqrt(spectrum[:2]) + noise * RNG.standard_normal((8, 2)),
        right[:2].T * np.sqrt(spectrum[:2]) + noise * RNG.standard_normal((7, 2)),
    )
    errors = tt.run(ScaledGradientDescent(2, 0.3), problem, start, steps=25, record="error", points=range(26))
    ratios = errors["error"].values[0, 16:] / errors["error"].values[0, 15:-1]
    np.testing.assert_allclose(ratios, 0.7**2, rtol=1e-3)


def test_optax_transformation_is_the_same_update():
    x = (jnp.asarray(LEFT), jnp.asarray(RIGHT))
    transformation = optax.chain(scale_by_gram(0.1), optax.scale(-0.05))
    memory = transformation.init(x)
    for _ in range(6):
        update, memory = transformation.update(jax.grad(SENSING.objective)(x), memory, x)
        x = optax.apply_updates(x, update)
    trace = tt.run(ScaledGradientDescent(3, 0.05, damping=0.1), SENSING, (LEFT, RIGHT), steps=6)
    for computed, expected in zip(trace.x, x, strict=True):
        np.testing.assert_allclose(computed[0], expected, rtol=1e-9, atol=1e-11)
    through_method = tt.run(tt.optimize.Optax(transformation), SENSING, (LEFT, RIGHT), steps=6)
    np.testing.assert_allclose(through_method.x[0], trace.x[0], rtol=1e-9, atol=1e-11)


def test_single_precision_stays_single():
    problem = MatrixSensing.from_target(np.asarray(TARGET, dtype=np.float32))
    trace = tt.run(PreconditionedGradientDescent(3, 0.5), problem, steps=100, record="error")
    assert all(leaf.dtype == jnp.float32 for leaf in trace.x)
    assert trace.final("error") < 1e-10


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="damping"):
        ScaledGradientDescent(2, 0.1, damping=-1.0)
    with pytest.raises(ValueError, match="damping_ratio"):
        PreconditionedGradientDescent(2, 0.1, damping_ratio=0.0)
    with pytest.raises(ValueError, match="step_size"):
        PreconditionedGradientDescent(2, -0.1)
    with pytest.raises(ValueError, match="damping"):
        scale_by_gram(-1.0)
    with pytest.raises(ValueError, match="params"):
        scale_by_gram().update(jnp.asarray(LEFT), optax.EmptyState())
