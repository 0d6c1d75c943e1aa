"""`MatrixSensing` and its measurement operators: adjoints, scaling, gradients, constants, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tendsto.problems import (
    EntryMeasurements,
    GaussianMeasurements,
    IdentityMeasurements,
    LinearMeasurements,
    MatrixSensing,
    isometry_distortion,
    random_low_rank,
)

KEY = jax.random.key(0)
SHAPE = (7, 5)


def window_sums(matrix):
    return jnp.cumsum(matrix, axis=0)[::2].ravel()


OPERATORS = {
    "identity": IdentityMeasurements(SHAPE),
    "gaussian": GaussianMeasurements.draw(KEY, 40, SHAPE),
    "entries": EntryMeasurements(np.random.default_rng(0).random(SHAPE) < 0.6),
    "linear": LinearMeasurements(SHAPE, window_sums),
    "linear with its adjoint": LinearMeasurements(SHAPE, lambda m: m[0], lambda v: jnp.zeros(SHAPE).at[0].set(v)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_adjoint_and_count(name):
    operator = OPERATORS[name]
    matrix = jax.random.normal(KEY, SHAPE)
    values = operator(matrix)
    assert values.shape == (operator.count,)
    dense = jax.jacfwd(operator)(matrix).reshape(operator.count, -1)
    probe = jax.random.normal(jax.random.key(1), values.shape)
    np.testing.assert_allclose(operator.adjoint(probe), (dense.T @ probe).reshape(SHAPE), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPERATORS)
def test_gradients_are_those_of_the_two_losses(name):
    """1/4 |A(XX') - y|^2 and 1/2 |A(FG') - y|^2, written out, against the problem's closed form."""
    operator = OPERATORS[name]
    left, right = jax.random.normal(KEY, (7, 3)), jax.random.normal(jax.random.key(2), (5, 3))
    values = jax.random.normal(jax.random.key(3), (operator.count,))
    problem = MatrixSensing(operator, values)
    loss = lambda x: 0.5 * jnp.sum((operator(x[0] @ x[1].T) - values) ** 2)  # noqa: E731
    assert problem.objective((left, right)) == pytest.approx(float(loss((left, right))), rel=1e-12)
    for computed, expected in zip(problem.gradient((left, right)), jax.grad(loss)((left, right)), strict=True):
        np.testing.assert_allclose(computed, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("symmetric", [True, False])
def test_symmetric_gradient_is_that_of_its_loss_for_any_sensing_matrices(symmetric):
    operator = GaussianMeasurements.draw(KEY, 30, (6, 6), symmetric=symmetric)
    factor = jax.random.normal(KEY, (6, 3))
    problem = MatrixSensing.from_target(random_low_rank(KEY, (6, 6), 2, symmetric=True), operator)
    loss = lambda x: 0.25 * jnp.sum((operator(x @ x.T) - problem.values) ** 2)  # noqa: E731
    assert problem.objective(factor) == pytest.approx(float(loss(factor)), rel=1e-12)
    np.testing.assert_allclose(problem.gradient(factor), jax.grad(loss)(factor), rtol=1e-11, atol=1e-11)


def test_sensing_matrices_are_taken_inner_products_with():
    matrices = np.random.default_rng(0).standard_normal((9, *SHAPE))
    matrix = np.random.default_rng(1).standard_normal(SHAPE)
    expected = [np.sum(each * matrix) / 3.0 for each in matrices]
    np.testing.assert_allclose(GaussianMeasurements(matrices)(jnp.asarray(matrix)), expected, rtol=1e-13)


def test_operators_keep_the_norm_in_expectation():
    """The mean of |A(M)|^2 over many draws is |M|^2 to four standard errors."""
    matrix = random_low_rank(KEY, SHAPE, 2)
    norm = float(jnp.sum(matrix**2))
    gaussian = jax.vmap(lambda key: jnp.sum(GaussianMeasurements.draw(key, 5, SHAPE)(matrix) ** 2))
    rng = np.random.default_rng(0)
    masks = [EntryMeasurements(rng.permuted(np.arange(35) < 14).reshape(SHAPE)) for _ in range(300)]
    for samples in (gaussian(jax.random.split(KEY, 2000)), np.array([jnp.sum(mask(matrix) ** 2) for mask in masks])):
        assert abs(samples.mean() - norm) < 4 * samples.std() / np.sqrt(samples.size)
    assert isometry_distortion(IdentityMeasurements(SHAPE), 3, KEY) < 1e-14


def test_distortion_falls_with_the_number_of_measurements():
    few, many = (GaussianMeasurements.draw(KEY, count, (10, 10)) for count in (100, 10_000))
    low, high = isometry_distortion(many, 2, KEY), isometry_distortion(few, 2, KEY)
    # A deviation of a chi-squared mean scales as 1/sqrt(m): a factor of 10, within a factor of 2.
    assert 5 < high / low < 20


@pytest.mark.parametrize("symmetric", [True, False])
def test_random_target_has_the_spectrum_asked_for(symmetric):
    shape = (8, 8) if symmetric else (8, 6)
    target = random_low_rank(KEY, shape, 3, condition_number=25.0, symmetric=symmetric)
    np.testing.assert_allclose(np.linalg.svd(target, compute_uv=False)[:4], [1, 0.2, 0.04, 0], atol=1e-14)
    if symmetric:
        assert np.linalg.eigvalsh(target).min() > -1e-14
    problem = MatrixSensing.from_target(target)
    assert problem.rank == 3
    assert problem.condition_number == pytest.approx(25.0)
    assert problem.smallest_singular_value == pytest.approx(0.04)
    assert problem.shape == shape
    assert problem.gradient_cost == target.size


def test_error_is_the_squared_distance():
    target = random_low_rank(KEY, SHAPE, 2)
    left, right = jnp.ones((7, 1)), jnp.ones((5, 1))
    expected = np.linalg.norm(np.ones(SHAPE) - target) ** 2
    assert MatrixSensing.from_target(target).error((left, right)) == pytest.approx(expected)


def test_entries_come_from_a_table_with_gaps():
    table = np.array([[1.0, np.nan], [3.0, 4.0]])
    problem = MatrixSensing.from_entries(table)
    assert problem.measurements.count == 3
    np.testing.assert_allclose(problem.values, np.array([1.0, 3.0, 4.0]) / np.sqrt(0.75))
    with pytest.raises(AttributeError, match="target"):
        problem.error((jnp.ones((2, 1)), jnp.ones((2, 1))))


def test_scale_is_estimated_where_the_target_is_unknown():
    target = 3.0 * random_low_rank(KEY, (10, 10), 2)
    known = MatrixSensing.from_target(target, GaussianMeasurements.draw(KEY, 4000, (10, 10)))
    blind = MatrixSensing(known.measurements, known.values)
    assert known.largest_singular_value == pytest.approx(3.0)
    assert blind.largest_singular_value == pytest.approx(3.0, rel=0.2)


@pytest.mark.parametrize(
    ("build", "error", "name"),
    [
        (lambda: IdentityMeasurements((3, 0)), ValueError, "shape"),
        (lambda: GaussianMeasurements(np.ones((2, 3))), ValueError, "matrices"),
        (lambda: GaussianMeasurements(np.full((1, 2, 2), np.nan)), ValueError, "matrices"),
        (lambda: GaussianMeasurements.draw(KEY, 0, SHAPE), ValueError, "count"),
        (lambda: GaussianMeasurements.draw(KEY, 3, SHAPE, symmetric=True), ValueError, "shape"),
        (lambda: EntryMeasurements(np.ones(SHAPE)), TypeError, "mask"),
        (lambda: EntryMeasurements(np.zeros(SHAPE, dtype=bool)), ValueError, "mask"),
        (lambda: LinearMeasurements(SHAPE, lambda m: m), ValueError, "function"),
        (lambda: LinearMeasurements(SHAPE, lambda m: m[0] ** 2), ValueError, "function"),
        (lambda: LinearMeasurements(SHAPE, lambda m: m[0], lambda v: jnp.zeros(SHAPE)), ValueError, "adjoint_function"),
        (lambda: MatrixSensing(IdentityMeasurements(SHAPE), np.ones(3)), ValueError, "values"),
        (lambda: MatrixSensing(IdentityMeasurements(SHAPE), np.full(35, np.nan)), ValueError, "values"),
        (lambda: MatrixSensing(IdentityMeasurements(SHAPE), np.ones(35), np.ones((5, 7))), ValueError, "target"),
        (lambda: MatrixSensing.from_target(np.ones((5, 7)), IdentityMeasurements(SHAPE)), ValueError, "target"),
        (lambda: MatrixSensing.from_entries(np.full(SHAPE, np.nan)), ValueError, "mask"),
        (lambda: random_low_rank(KEY, SHAPE, 6), ValueError, "rank"),
        (lambda: random_low_rank(KEY, SHAPE, 2, condition_number=0.5), ValueError, "condition_number"),
        (lambda: random_low_rank(KEY, SHAPE, 1, condition_number=2.0), ValueError, "condition_number"),
        (lambda: random_low_rank(KEY, SHAPE, 2, symmetric=True), ValueError, "shape"),
        (lambda: isometry_distortion(IdentityMeasurements(SHAPE), 0, KEY), ValueError, "rank"),
    ],
)
def test_bad_input_is_named(build, error, name):
    with pytest.raises(error, match=name):
        build()
