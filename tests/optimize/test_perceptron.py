"""Separating methods against loops in NumPy, closed forms, exact identities and their bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import sklearn.linear_model

import tendsto as tt
from tendsto.optimize import (
    BatchPerceptron,
    LogisticGradientDescent,
    NormalisedLogisticGradientDescent,
    Optax,
    Perceptron,
    iterations_to_separate,
    scale_by_inverse_mean_residual,
)
from tendsto.problems import (
    LinearSeparation,
    LogisticRegression,
    batch_perceptron_worst_case,
    dataset,
    gaussian_separation,
    margin_certificate,
    misleading_loss_pair,
)

PROBLEM = gaussian_separation(jax.random.key(3), 60, 8, 0.15)
SIGNED = np.asarray(PROBLEM.targets)[:, None] * np.asarray(PROBLEM.features)


def logistic(step_size):
    def increment(t, margins):
        return step_size / len(margins) * sum(z / (1 + np.exp(m)) for z, m in zip(SIGNED, margins, strict=True))

    return increment


def normalised(step_size):
    def increment(t, margins):
        residuals = scipy.special.expit(-margins)
        gradient = -np.mean(residuals[:, None] * SIGNED, axis=0)
        return -step_size / np.mean(residuals) * gradient

    return increment


def batch(t, margins):
    total = np.zeros(SIGNED.shape[1])
    for z, m in zip(SIGNED, margins, strict=True):
        if m <= 0:
            total += z
    return total / len(margins) / (2 if t == 0 else 1)


def batch_of_mistakes(t, margins):
    return SIGNED[margins <= 0].mean(axis=0)


def worst_mistake(t, margins):
    return SIGNED[np.argmin(margins)]


def first_mistake(t, margins):
    return SIGNED[np.flatnonzero(margins <= 0)[0]]


def loop(increment, limit=3000):
    """The pseudo-code of all five algorithms: add an increment until every margin is positive."""
    theta, iterates = np.zeros(SIGNED.shape[1]), [np.zeros(SIGNED.shape[1])]
    while not (SIGNED @ theta > 0).all() and len(iterates) <= limit:
        theta = theta + increment(len(iterates) - 1, SIGNED @ theta)
        iterates.append(theta)
    return np.array(iterates)


def iterate(problem, state):
    return state.x


TABLE = {
    "gradient descent": (LogisticGradientDescent(5.0), logistic(5.0)),
    "small step": (LogisticGradientDescent(0.5), logistic(0.5)),
    "normalised": (NormalisedLogisticGradientDescent(0.7), normalised(0.7)),
    "batch": (BatchPerceptron(), batch),
    "batch of mistakes": (BatchPerceptron("mistakes"), batch_of_mistakes),
    "worst": (Perceptron("worst"), worst_mistake),
    "first": (Perceptron("first"), first_mistake),
}


@pytest.mark.parametrize("name", TABLE)
def test_iterates_are_those_of_the_pseudo_code(name):
    method, increment = TABLE[name]
    expected = loop(increment)
    updates = len(expected) - 1
    assert 2 <= updates < 3000
    assert iterations_to_separate(method, PROBLEM) == updates
    # Two steps more than needed: the iterate, the count and the cost hold still.
    trace = tt.run(method, PROBLEM, steps=updates + 2, points=range(updates + 2), record={"iterate": iterate})
    np.testing.assert_allclose(trace["iterate"].values[0, :-2], expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(trace["iterate"].values[0, -1], trace["iterate"].values[0, -3])
    assert trace.state.updates[0] == updates
    np.testing.assert_array_equal(trace.final("gradients"), [60 * updates])


def test_cyclic_perceptron_is_that_of_scikit_learn():
    # With a constant feature instead of an intercept and no shuffling, its sweeps visit mistakes in our order.
    features, targets = dataset("digits", classes=(3, 5), intercept=True)
    problem = LinearSeparation(features, targets)
    peer = sklearn.linear_model.Perceptron(fit_intercept=False, shuffle=False, tol=None, max_iter=200)
    peer.fit(features, targets)
    solution = tt.solve(Perceptron(), problem, measure="mistakes", tol=0.5)
    np.testing.assert_allclose(solution.x, peer.coef_[0], atol=1e-9)


def test_random_perceptron_picks_every_mistake_and_mistakes_only():
    problem = LinearSeparation([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], [1, 1, 0])
    trace = tt.run(Perceptron("random"), problem, jnp.array([1.0, -0.5]), steps=1, seeds=200)
    # Margins are 1, -1/2 and 1/2: only the second sample is a mistake.
    assert set(trace.state.last.tolist()) == {1}
    trace = tt.run(Perceptron("random"), problem, steps=1, seeds=200)
    picked = np.bincount(trace.state.last, minlength=3)
    assert picked.min() > 40


def test_first_table_row_of_the_paper():
    problem = batch_perceptron_worst_case(1000)
    grid = {"step_size": [100.0, 10.0, 1.0, 0.1]}
    trace = tt.run(NormalisedLogisticGradientDescent(1.0), problem, steps=200, grid=grid)
    assert trace.state.updates[:, 0].tolist() == [2, 2, 16, 157]
    assert iterations_to_separate(LogisticGradientDescent(100.0), problem) == 308


@pytest.mark.parametrize("samples", [2, 3, 17, 100])
def test_batch_perceptron_takes_its_closed_form_on_the_worst_case(samples):
    assert (
        iterations_to_separate(BatchPerceptron(), batch_perceptron_worst_case(samples)) == (3 * samples + 2) // 10 + 1
    )


def test_two_steps_of_the_misleading_pair():
    trace = tt.run(LogisticGradientDescent(200.0), misleading_loss_pair(), steps=2, points=[1])
    loss = trace["objective"].values[0]
    assert loss[0] == pytest.approx(np.log(2))
    assert loss[1] == pytest.approx(25.0)
    assert loss[2] < 1e-60
    np.testing.assert_allclose(trace.x[0], [200.0, 50.0], rtol=1e-12)


def test_normalised_gradient_tends_to_the_normalised_batch_perceptron():
    step_size = 1e10
    options = {"steps": 8, "points": range(8), "record": {"iterate": iterate}}
    scaled = tt.run(NormalisedLogisticGradientDescent(step_size), PROBLEM, **options)["iterate"].values / step_size
    limit = tt.run(BatchPerceptron("mistakes"), PROBLEM, **options)["iterate"].values
    np.testing.assert_allclose(scaled, limit, atol=1e-12)


def test_normalised_weights_stay_a_mean_where_every_residual_underflows():
    state = tt.solve(LogisticGradientDescent(1e12), PROBLEM, measure="mistakes", tol=0.5).state
    assert jax.nn.sigmoid(-state.margins).sum() == 0
    weights = NormalisedLogisticGradientDescent(3.0).weights(state, jax.random.key(0))
    assert float(weights.sum()) == pytest.approx(3.0)


def test_gradient_descent_is_optax_sgd_on_the_logistic_loss():
    rival = LogisticRegression(PROBLEM.features, PROBLEM.targets)
    steps = iterations_to_separate(LogisticGradientDescent(2.0), PROBLEM)
    ours = tt.run(LogisticGradientDescent(2.0), PROBLEM, steps=int(steps)).x[0]
    theirs = tt.run(Optax(optax.sgd(2.0)), rival, jnp.zeros(8), steps=int(steps)).x[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_transformation_makes_sgd_the_normalised_method():
    transformation = optax.chain(scale_by_inverse_mean_residual(), optax.sgd(0.7))
    theta = jnp.zeros(8)
    state = transformation.init(theta)
    for expected in loop(normalised(0.7))[1:]:
        residuals = jax.nn.sigmoid(-PROBLEM.margins(theta))
        updates, state = transformation.update(PROBLEM.gradient(theta), state, theta, residuals=residuals)
        theta = optax.apply_updates(theta, updates)
        np.testing.assert_allclose(theta, expected, rtol=1e-9)
    nothing, _ = transformation.update(jnp.zeros(8), state, theta, residuals=jnp.zeros(60))
    np.testing.assert_array_equal(nothing, jnp.zeros(8))


@pytest.mark.parametrize("key", range(2))
def test_bounds_hold_that_of_plain_gradient_descent_too(key):
    problem = gaussian_separation(jax.random.key(key), 30, 6, 0.2)
    certificate = margin_certificate(problem.features, problem.targets)
    for step_size in (0.1, 1.0, 30.0):
        plain = iterations_to_separate(LogisticGradientDescent(step_size), problem)
        assert plain <= certificate.gradient_bound(step_size)
        scaled = iterations_to_separate(NormalisedLogisticGradientDescent(step_size), problem)
        assert scaled <= certificate.normalised_gradient_bound(step_size)
    for choice in ("cyclic", "first", "random", "worst"):
        assert iterations_to_separate(Perceptron(choice), problem) <= certificate.perceptron_bound()


@pytest.mark.parametrize("slack", [0.5, 1.0])
def test_theory_keeps_the_bound_within_its_slack(slack):
    certificate = margin_certificate(PROBLEM.features, PROBLEM.targets)
    step_size = float(NormalisedLogisticGradientDescent.theory(PROBLEM, slack=slack).step_size)
    bound = certificate.normalised_gradient_bound(step_size)
    assert bound == pytest.approx((1 + slack) * certificate.perceptron_bound(), rel=1e-9)
    plain = LogisticGradientDescent.theory(PROBLEM, slack=slack)
    assert float(plain.step_size) == step_size


@pytest.mark.parametrize("name", TABLE)
def test_scale_of_the_data_and_single_precision(name):
    method, _ = TABLE[name]
    small = LinearSeparation(np.asarray(PROBLEM.features, np.float32), PROBLEM.targets)
    solution = tt.solve(method, small, measure="mistakes", tol=0.5, max_steps=5000)
    assert solution.x.dtype == jnp.float32
    assert solution.converged


def test_inseparable_data_and_separating_starts():
    contradiction = LinearSeparation([[1.0], [1.0]], [0, 1])
    assert iterations_to_separate(Perceptron(), contradiction, max_steps=50) == np.inf
    assert iterations_to_separate(Perceptron(), misleading_loss_pair(), jnp.array([1.0, 0.25])) == 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LogisticGradientDescent(0.0), "step_size: must lie in"),
        (lambda: NormalisedLogisticGradientDescent(-1.0), "step_size: must lie in"),
        (lambda: NormalisedLogisticGradientDescent.theory(PROBLEM, slack=0.0), "slack: must lie in"),
        (lambda: BatchPerceptron(first_weight=0.0), "first_weight: must lie in"),
        (lambda: iterations_to_separate(Perceptron(), PROBLEM, jnp.zeros(3)), r"x0: expected shape \(8,\)"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(("cls", "name"), [(BatchPerceptron, "normalise"), (Perceptron, "choice")])
def test_unknown_names_are_refused(cls, name):
    with pytest.raises((ValueError, TypeError), match=name):
        cls("best")
