"""Linear models: gradients, constants and solutions against automatic differentiation, SciPy and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
import sklearn.datasets
import sklearn.linear_model

import tendsto as tt

DATA = tt.problems.dataset("breast_cancer")
PROBLEMS = {
    "logistic": tt.problems.LogisticRegression(DATA.features, DATA.targets, l2=1e-2),
    "least squares": tt.problems.LeastSquares(DATA.features, DATA.targets, l2=1e-3),
}


@pytest.fixture(params=PROBLEMS)
def problem(request):
    return PROBLEMS[request.param]


def test_gradients_are_those_of_the_value(problem):
    x = jax.random.normal(jax.random.key(0), (30,))
    np.testing.assert_allclose(problem.gradient(x), jax.grad(problem.smooth_part)(x), rtol=1e-10)
    components = problem.component_gradients(x, jnp.arange(problem.components))
    np.testing.assert_allclose(components.mean(axis=0), problem.gradient(x), rtol=1e-10)


def test_constants_bound_the_hessian_and_the_components(problem):
    eigenvalues = np.linalg.eigvalsh(jax.hessian(problem.smooth_part)(jnp.zeros(30)))
    # At zero the curvature of both losses is the largest it can be.
    assert eigenvalues[-1] == pytest.approx(float(problem.smoothness), rel=1e-10)
    assert eigenvalues[0] >= float(problem.strong_convexity) * (1 - 1e-10)
    assert float(problem.smoothness) <= float(problem.component_smoothness.mean())


def test_minimiser_is_stationary_and_the_best(problem):
    solved = problem.solved()
    assert float(solved.stationarity(solved.minimiser)) < 1e-12
    assert float(solved.gap(solved.minimiser)) == 0.0
    assert float(solved.gap(solved.minimiser + 1e-3)) > 0.0


def test_logistic_solution_is_that_of_scikit_learn():
    problem = PROBLEMS["logistic"].solved()
    peer = sklearn.linear_model.LogisticRegression(
        C=1 / (1e-2 * problem.components), fit_intercept=False, tol=1e-12, max_iter=10_000, solver="newton-cholesky"
    ).fit(DATA.features, DATA.targets)
    np.testing.assert_allclose(problem.minimiser, peer.coef_[0], rtol=1e-6)


def test_minibatch_gradient_is_unbiased_and_counted():
    problem = tt.problems.Minibatch(PROBLEMS["logistic"], 50_000)
    x = jnp.ones(30) / 10
    estimate = problem.stochastic_gradient(x, jax.random.key(0))
    spread = problem.component_gradients(x, jnp.arange(problem.components)).std(axis=0)
    assert np.all(np.abs(estimate - problem.gradient(x)) <= 5 * spread / np.sqrt(50_000))
    trace = tt.run(
        tt.optimize.Optax(optax.sgd(0.1)),
        tt.problems.Minibatch(PROBLEMS["logistic"], 8),
        jnp.zeros(30),
        steps=10,
        record="gap",
    )
    assert trace.final("gradients") == 80


def test_gap_by_name_finds_the_solution_once():
    trace = tt.run(
        tt.optimize.Optax(optax.sgd(0.1)), PROBLEMS["logistic"], jnp.zeros(30), steps=2000, record=["gap", "distance"]
    )
    assert 0 < trace.final("gap")[0] < 1e-2 * trace["gap"].values[0, 0]


def test_two_classes_of_any_kind_and_frames_are_accepted():
    frame = pd.DataFrame(DATA.features)
    names = np.where(DATA.targets == 1, "yes", "no")
    problem = tt.problems.LogisticRegression(frame, names, l2=1e-2)
    np.testing.assert_array_equal(problem.targets, PROBLEMS["logistic"].targets)


def test_single_precision_features_stay_single():
    problem = tt.problems.LogisticRegression(DATA.features.astype(np.float32), DATA.targets, l2=1e-2)
    assert problem.gradient(jnp.zeros(30, jnp.float32)).dtype == jnp.float32


def test_separable_data_without_l2_has_no_minimiser():
    with pytest.raises(ValueError, match="separable"):
        tt.problems.LogisticRegression([[1.0], [2.0], [-1.0]], [1, 1, 0]).solved()


@pytest.mark.parametrize(
    ("features", "targets", "l2", "message"),
    [
        ([[1.0], [np.nan]], [0, 1], 0.0, "features: must be finite"),
        ([], [0, 1], 0.0, "features"),
        ([[1.0], [2.0]], [0, 1, 1], 0.0, "targets: expected one for each"),
        ([[1.0], [2.0]], [0, 0], 0.0, "targets: expected exactly two classes"),
        ([[1.0], [2.0]], [0, 1], -1.0, "l2: must lie in"),
        ([1.0, 2.0], [0, 1], 0.0, "features: expected 2 dimension"),
    ],
)
def test_bad_input_is_named(features, targets, l2, message):
    with pytest.raises(ValueError, match=message):
        tt.problems.LogisticRegression(features, targets, l2=l2)


def test_svmlight_files_round_trip_and_bad_ones_are_named(tmp_path):
    path = tmp_path / "data.svm"
    sklearn.datasets.dump_svmlight_file(DATA.features, DATA.targets, str(path), zero_based=True)
    again = tt.problems.read_svmlight(path)
    np.testing.assert_allclose(again.features, DATA.features)
    path.write_text("1 nonsense\n")
    with pytest.raises(ValueError, match=r"data\.svm"):
        tt.problems.read_svmlight(path)
    with pytest.raises(OSError, match="missing"):
        tt.problems.read_svmlight(tmp_path / "missing")


def test_data_sets_by_name():
    features, targets = tt.problems.dataset("digits", classes=(3, 5), intercept=True)
    assert set(targets) == {3, 5}
    np.testing.assert_allclose(features[:, :-1].mean(axis=0), 0, atol=1e-10)
    assert (features[:, -1] == 1).all()
    with pytest.raises(ValueError, match="california"):
        tt.problems.dataset("california")
    with pytest.raises(ValueError, match="class 77"):
        tt.problems.dataset("digits", classes=(3, 77))
