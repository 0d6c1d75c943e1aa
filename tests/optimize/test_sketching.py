import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tendsto.optimize import (
    CustomSketch,
    GaussianSketch,
    KaczmarzSketch,
    SketchResult,
    sketch_and_project,
)

RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((6, 6)) + 3.0 * np.eye(6)
SOLUTION = RNG.standard_normal(6)
TARGET = MATRIX @ SOLUTION


def dense_columns(key, rows):
    return jax.random.rademacher(key, (rows, 2), dtype=float)


@pytest.mark.parametrize(
    "sketch",
    [
        "kaczmarz",
        "gaussian",
        KaczmarzSketch(3),
        KaczmarzSketch(2, np.arange(1.0, 7.0)),
        KaczmarzSketch(probabilities=np.sum(MATRIX**2, axis=1)),
        GaussianSketch(2),
        dense_columns,
    ],
)
def test_every_sketch_finds_the_solution(sketch):
    answer = sketch_and_project(MATRIX, TARGET, tolerance=1e-10, sketch=sketch)
    assert answer.converged
    np.testing.assert_allclose(answer.x, SOLUTION, atol=1e-8)
    np.testing.assert_allclose(answer.residual_norm, np.linalg.norm(MATRIX @ answer.x - TARGET), atol=1e-14)


@pytest.mark.parametrize("sketch", [KaczmarzSketch(), KaczmarzSketch(2), GaussianSketch(), GaussianSketch(3)], ids=str)
def test_steps_are_those_of_the_formula(sketch):
    """The recurrence against z - A'S (S'AA'S)^+ S'(Az - b), computed densely from the same draws."""
    key, x = jax.random.key(3), np.ones(6)
    draws = sketch.draw(jax.random.fold_in(key, 0), 6, 256)
    for step in range(5):
        matrix = np.asarray(sketch.compress(draws[step], jnp.eye(6))).T
        inner = np.linalg.pinv(matrix.T @ MATRIX @ MATRIX.T @ matrix)
        x = x - MATRIX.T @ matrix @ inner @ matrix.T @ (MATRIX @ x - TARGET)
    answer = sketch_and_project(MATRIX, TARGET, tolerance=0.0, sketch=sketch, key=key, start=np.ones(6), max_sketches=5)
    np.testing.assert_allclose(answer.x, x, rtol=1e-10)
    assert answer.sketches == 5
    assert answer.result == SketchResult.max_sketches


def test_a_kaczmarz_step_satisfies_its_equations():
    """Projections onto two of three equations and then the third."""
    answer = sketch_and_project(MATRIX, TARGET, tolerance=0.0, sketch=KaczmarzSketch(6), max_sketches=1)
    np.testing.assert_allclose(answer.x, SOLUTION, rtol=1e-9)
    single = sketch_and_project(MATRIX, TARGET, tolerance=0.0, max_sketches=1)
    assert np.sum(np.abs(MATRIX @ single.x - TARGET) < 1e-12) == 1


def test_uniform_rows_have_the_expected_first_step():
    """The mean squared error after one step is e'(I - M)e, M the mean of the projectors onto the rows."""
    rows = MATRIX / np.linalg.norm(MATRIX, axis=1, keepdims=True)
    exact = SOLUTION @ (np.eye(6) - rows.T @ rows / 6) @ SOLUTION

    def one(key):
        return sketch_and_project(MATRIX, TARGET, tolerance=0.0, key=key, max_sketches=1).x

    points = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 4000)))
    errors = np.sum((points - SOLUTION) ** 2, axis=1)
    assert abs(errors.mean() - exact) < 5 * errors.std() / np.sqrt(4000)


@pytest.mark.parametrize(("probabilities", "row"), [([0.0, 1.0, 0.0], 1), ([0.0, 0.0, 5.0], 2)])
def test_rows_are_drawn_by_their_probabilities(probabilities, row):
    answer = sketch_and_project(
        MATRIX[:3], TARGET[:3], tolerance=0.0, sketch=KaczmarzSketch(1, probabilities), max_sketches=300
    )
    expected = MATRIX[row] * TARGET[row] / (MATRIX[row] @ MATRIX[row])
    np.testing.assert_allclose(answer.x, expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(3, 6), (9, 4)])
def test_rectangular_systems_that_have_a_solution(shape):
    matrix = RNG.standard_normal(shape)
    target = matrix @ RNG.standard_normal(shape[1])
    answer = sketch_and_project(matrix, target, tolerance=1e-10)
    assert answer.converged
    # From zero the iterates stay in the row space, so the limit is the solution of least norm.
    np.testing.assert_allclose(answer.x, np.linalg.pinv(matrix) @ target, atol=1e-8)


def test_zero_tolerance_stops_at_rounding_level():
    answer = sketch_and_project(MATRIX, TARGET, tolerance=0.0)
    assert answer.result == SketchResult.rounding
    assert answer.residual_norm < 1e-14 * 100
    assert answer.sketches < 100_000


def test_a_start_that_solves_takes_no_step_and_a_run_resumes():
    assert sketch_and_project(MATRIX, TARGET, start=SOLUTION).sketches == 0
    half = sketch_and_project(MATRIX, TARGET, tolerance=1e-3)
    rest = sketch_and_project(MATRIX, TARGET, tolerance=1e-9, start=half.x, key=1)
    assert rest.sketches > 0
    assert rest.converged


def test_rows_of_zeros_and_systems_without_solution_end():
    matrix = np.vstack([MATRIX[:5], np.zeros(6)])
    consistent = np.append(TARGET[:5], 0.0)
    assert sketch_and_project(matrix, consistent, tolerance=1e-9).converged
    answer = sketch_and_project(matrix, np.append(TARGET[:5], 1.0), tolerance=1e-9, max_sketches=2000)
    assert answer.result == SketchResult.max_sketches
    assert np.isfinite(answer.x).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_scale_of_a_system_does_not_matter(dtype, scale):
    matrix, target = (np.asarray(scale * each, dtype) for each in (MATRIX, TARGET))
    answer = sketch_and_project(matrix, target, tolerance=1e-4 * scale, start=np.zeros(6, dtype))
    assert answer.converged
    np.testing.assert_allclose(answer.x, SOLUTION, atol=1e-3)


def test_overflow_is_reported():
    answer = sketch_and_project(1e200 * MATRIX, TARGET, max_sketches=1000)
    assert answer.result == SketchResult.nonfinite


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"matrix": np.full((6, 6), np.nan)}, ValueError, "matrix: must be finite"),
        ({"target": np.ones(5)}, ValueError, "target: expected shape"),
        ({"start": np.ones(5)}, ValueError, "start: expected shape"),
        ({"tolerance": -1.0}, ValueError, "tolerance: "),
        ({"max_sketches": -1}, ValueError, "max_sketches: "),
        ({"sketch": "newton"}, ValueError, "sketch: must be 'kaczmarz' or 'gaussian'"),
        ({"sketch": 3}, TypeError, "sketch"),
        ({"sketch": KaczmarzSketch(7)}, ValueError, "block_size: must be at most 6"),
        ({"sketch": KaczmarzSketch(1, np.ones(3))}, ValueError, "probabilities: expected shape"),
        ({"sketch": lambda key, rows: jnp.ones((rows + 1, 1))}, ValueError, "sample: must return a matrix of 6 rows"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    given = {"matrix": MATRIX, "target": TARGET, **arguments}
    with pytest.raises(error, match=message):
        sketch_and_project(given.pop("matrix"), given.pop("target"), **given)


@pytest.mark.parametrize(
    "build",
    [lambda: KaczmarzSketch(0), lambda: GaussianSketch(0), lambda: KaczmarzSketch(1, [-1.0, 2.0])],
)
def test_bad_sketches_are_named(build):
    with pytest.raises(ValueError, match=r"block_size|probabilities"):
        build()
    with pytest.raises(TypeError, match="sample"):
        CustomSketch(3)
