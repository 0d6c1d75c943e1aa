"""EF21 against a transcription in NumPy, its identities, and its certificate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tendsto as tt
from tendsto.federated import (
    EF21,
    Bernoulli,
    Cloned,
    Dithering,
    FederatedQuadratic,
    Identity,
    PowerOfTwo,
    RandK,
    Recorded,
    ScaledSign,
    TopK,
    arithmetic_mean,
    clone_counts,
    cloned_mean,
    error_feedback_step_size,
    feature_overlap,
    feedback_constant,
    linear_model_smoothness,
    pooled_smoothness,
    quadratic_mean,
    random_quadratics,
    smoothness_weights,
    split,
)
from tendsto.optimize import Optax
from tendsto.problems import Gaussian, dataset


def quadratics(**environment):
    problem = random_quadratics(jax.random.key(3), 8, 6, spread=3.0)
    scales = jnp.geomspace(0.1, 10.0, 8)
    return FederatedQuadratic(scales[:, None, None] * problem.hessians, scales[:, None] * problem.linear, **environment)


def learning():
    clients = split((np.ones((4, 2)), np.zeros(4)), 2)
    return clients.problem(lambda x, a: a @ x, lambda scores, targets: scores**2)


def transcription(problem, history, x, step_size, weights, kept):
    hessians, linear = np.asarray(problem.hessians), np.asarray(problem.linear)
    clients = len(hessians)

    def target(client):
        return (hessians[client] @ x - linear[client]) / (clients * weights[client])

    def compress(vector):
        sparse = np.zeros_like(vector)
        places = np.argsort(-np.abs(vector), kind="stable")[:kept]
        sparse[places] = vector[places]
        return sparse

    estimates = np.stack([target(client) for client in range(clients)])
    for here in history:
        x = x - step_size * weights @ estimates
        for client in np.flatnonzero(here):
            estimates[client] += compress(target(client) - estimates[client])
    return x, estimates


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "smoothness"])
@pytest.mark.parametrize("partial", [False, True], ids=["all", "some"])
def test_rounds_are_those_of_the_algorithm(weighted, partial):
    history = np.random.default_rng(0).random((25, 8)) < (0.5 if partial else 1.1)
    problem = quadratics(participation=Recorded(history))
    weights = smoothness_weights(problem.client_smoothness) if weighted else None
    trace = tt.run(EF21(TopK(2), 0.01, weights), problem, jnp.ones(6), steps=25)
    plain = np.full(8, 1 / 8) if weights is None else np.asarray(weights)
    x, estimates = transcription(problem, history, np.ones(6), 0.01, plain, 2)
    np.testing.assert_allclose(trace.x[0], x, rtol=1e-10)
    np.testing.assert_allclose(trace.state.estimates[0], estimates, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(trace.state.aggregate[0], plain @ estimates, rtol=1e-9, atol=1e-12)


def test_without_compression_it_is_gradient_descent_on_each_clients_last_gradient():
    problem = quadratics()
    feedback = tt.run(EF21(Identity(), 0.02), problem, jnp.ones(6), steps=60)
    descent = tt.run(Optax(optax.sgd(0.02)), problem, jnp.ones(6), steps=60)
    np.testing.assert_allclose(feedback.x, descent.x, rtol=1e-9)


@pytest.mark.parametrize(
    "compressor", [TopK(2), ScaledSign(), RandK(2), Dithering(4)], ids=["top-k", "sign", "rand-k", "dithering"]
)
def test_weights_change_nothing_for_a_homogeneous_compressor(compressor):
    problem = quadratics()
    weights = smoothness_weights(problem.client_smoothness)
    equal, weighted = (
        tt.run(EF21(compressor, 0.005, each), problem, jnp.ones(6), steps=200) for each in (None, weights)
    )
    np.testing.assert_allclose(weighted.x, equal.x, atol=1e-11)


def test_weights_change_the_path_for_another_compressor():
    problem = quadratics()
    weights = smoothness_weights(problem.client_smoothness)
    equal, weighted = (
        tt.run(EF21(PowerOfTwo(), 0.01, each), problem, jnp.ones(6), steps=5) for each in (None, weights)
    )
    assert float(jnp.abs(weighted.x - equal.x).max()) > 1e-4


@pytest.mark.parametrize("start", ["gradient", "compressed", "zero"])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "smoothness"])
def test_the_certificate_is_the_theorem_from_every_start(start, weighted):
    problem, steps, x0 = quadratics(), 40, jnp.ones(6)
    method = dataclasses.replace(EF21.theory(problem, TopK(1), x0, weighted=weighted), start=start)
    certificate = method.certify(problem, x0, steps=steps)
    smoothness = np.asarray(problem.client_smoothness)
    gradients = np.asarray(problem.client_gradients(x0))
    sent = np.where(np.abs(gradients) == np.abs(gradients).max(axis=1, keepdims=True), gradients, 0.0)
    first = {"gradient": gradients, "compressed": sent, "zero": np.zeros_like(gradients)}[start]
    distortion = np.mean(smoothness.mean() / smoothness * np.sum((first - gradients) ** 2, axis=1))
    gap, step_size = float(problem.gap(x0)), float(method.server.step_size)
    bound = 2 * gap / (step_size * steps) + distortion / ((1 - np.sqrt(5 / 6)) * steps)
    assert certificate.bound == pytest.approx(bound, rel=1e-9)
    squares = certificate.trace["squared_gradient"].values[0]
    assert squares.shape == (steps + 1,)
    assert squares[0] == pytest.approx(float(problem.squared_gradient(x0)), rel=1e-12)
    assert certificate.mean_squared_gradient == pytest.approx([squares[:-1].mean()], rel=1e-12)
    assert certificate.mean_squared_gradient[0] <= certificate.bound


def test_the_certificate_of_a_random_compressor_is_for_the_mean_over_runs():
    problem, x0 = quadratics(), jnp.zeros(6)
    method = dataclasses.replace(EF21.theory(problem, RandK(2), x0), start="compressed")
    certificate = method.certify(problem, x0, steps=30, seeds=3, key=1)
    assert certificate.mean_squared_gradient.shape == (3,)
    assert len(set(certificate.mean_squared_gradient.tolist())) == 3
    assert certificate.mean_squared_gradient.mean() <= certificate.bound


def test_constants_of_a_model_certify_it_on_data():
    clients = split(dataset("breast_cancer", intercept=True), 4, seed=1)
    problem = clients.problem(lambda x, features: features @ x, lambda scores, y: jax.nn.softplus((1 - 2 * y) * scores))
    known = {
        "smoothness": pooled_smoothness(clients, 0.25),
        "client_smoothness": linear_model_smoothness(clients, 0.25),
    }
    x0 = jnp.zeros(31)
    certificate = EF21.theory(problem, TopK(8), x0, **known).certify(problem, x0, steps=20, lower=0.0, **known)
    assert 0.0 < certificate.mean_squared_gradient[0] <= certificate.bound
    hessian = jax.hessian(problem.objective)(x0)
    assert float(jnp.linalg.norm(hessian, 2)) <= known["smoothness"] * (1 + 1e-9)
    assert float(jnp.linalg.norm(hessian, 2)) == pytest.approx(
        known["smoothness"], rel=1e-9
    )  # at zero the bound is met


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"server": 1.0}, "server: the theorem allows step sizes up to"),
        ({"server": optax.adam(0.1)}, "server: the theorem is for a step size"),
        ({"participation": Bernoulli(0.5)}, "problem: .* everyone"),
        ({"noise": Gaussian(1.0)}, "problem: .* noisy"),
        ({"weights": jnp.arange(1.0, 9.0)}, "problem: .* equal weights"),
        ({"client_smoothness": jnp.ones(3)}, "client_smoothness: expected one for each of 8"),
        ({"lower": 1e9}, "lower"),
        ({"steps": 0}, "steps"),
    ],
    ids=["step", "optimiser", "absent", "noise", "weights", "constants", "lower", "steps"],
)
def test_there_is_no_certificate_where_the_theorem_does_not_apply(change, message):
    x0 = jnp.zeros(6)
    method = EF21.theory(quadratics(), TopK(1), x0)
    if "server" in change:
        method = EF21(TopK(1), change.pop("server"))
    environment = {name: change.pop(name) for name in ("participation", "noise", "weights") if name in change}
    with pytest.raises((ValueError, TypeError), match=message):
        method.certify(quadratics(**environment), x0, **({"steps": 3} | change))


def test_clones_leave_the_objective_and_the_iterates_as_they_are():
    problem = quadratics()
    counts = clone_counts(problem.client_smoothness)
    twin = Cloned(problem, counts)
    x = jnp.arange(6.0)
    assert twin.clients == int(counts.sum()) > 8
    assert float(twin.objective(x)) == pytest.approx(float(problem.objective(x)), rel=1e-12)
    np.testing.assert_allclose(twin.gradient(x), problem.gradient(x), rtol=1e-10)
    assert quadratic_mean(twin.client_smoothness) == pytest.approx(cloned_mean(problem.client_smoothness, counts))
    hessians = jax.vmap(jax.hessian(twin.client_loss, 1), (0, None))(twin.data, x)
    np.testing.assert_allclose(twin.client_smoothness, jnp.linalg.norm(hessians, 2, (1, 2)))
    step_size = error_feedback_step_size(float(twin.smoothness), twin.client_smoothness, 1 / 3, "quadratic")
    cloned, plain = (tt.run(EF21(TopK(2), step_size), each, x, steps=100) for each in (twin, problem))
    np.testing.assert_allclose(cloned.x, plain.x, rtol=1e-10)
    assert cloned.final("bits_up") == pytest.approx(plain.final("bits_up") * twin.clients / 8)
    np.testing.assert_array_equal(twin.minimiser, problem.minimiser)


def test_clones_draw_their_own_noise():
    twin = Cloned(quadratics(noise=Gaussian(1.0)), [2] + [1] * 7)
    keys = jax.random.split(jax.random.key(0), 9)
    gradients = twin.map(lambda data, key: twin.client_stochastic_gradient(data, jnp.zeros(6), key), keys)
    assert float(jnp.abs(gradients[0] - gradients[1]).max()) > 0.1


def test_overlap_bounds_how_errors_add_up():
    generator = np.random.default_rng(0)
    used = generator.random((7, 12)) < 0.3
    smoothness = generator.uniform(0.1, 10.0, 7)
    for known, weights in ((None, np.full(7, 1 / 7)), (smoothness, smoothness / smoothness.sum())):
        overlap = feature_overlap(used, known)
        assert overlap == pytest.approx(max(weights[used[:, place]].sum() for place in range(12)))
        worst = 0.0
        for place in range(12):  # attained where errors stand on the fullest coordinate, in proportion to the weights
            errors = np.zeros((7, 12))
            errors[:, place] = weights * used[:, place]
            spread = np.sum(errors**2 / weights[:, None]) / 49
            worst = max(worst, np.sum(errors.mean(axis=0) ** 2) / spread if spread else 0.0)
        assert worst == pytest.approx(overlap)
    plain = error_feedback_step_size(2.0, [1.0, 5.0], 0.25, overlap=0.25)
    assert plain == pytest.approx(1 / (2.0 + 0.5 * 3.0 * feedback_constant(0.25)))


def test_the_distortion_is_that_of_the_estimates():
    problem = quadratics()
    weights = smoothness_weights(problem.client_smoothness)
    method = EF21(TopK(1), 0.01, weights)
    trace = tt.run(
        method,
        problem,
        jnp.ones(6),
        steps=9,
        record={"distortion": lambda problem, state: method.distortion(problem, state)},
    )
    shares = np.asarray(weights)
    x, estimates = transcription(problem, np.ones((9, 8), bool), np.ones(6), 0.01, shares, 1)
    targets = (np.asarray(problem.hessians) @ x - np.asarray(problem.linear)) / (8 * shares[:, None])
    expected = shares @ np.sum((estimates - targets) ** 2, axis=1)
    assert trace.final("distortion") == pytest.approx(expected, rel=1e-9)


def test_the_server_s_sum_never_drifts_and_the_method_converges_with_half_of_the_clients():
    problem = quadratics(participation=Bernoulli(0.5))
    method = EF21.theory(problem, TopK(2), jnp.zeros(6))
    record = {
        "drift": lambda problem, state: jnp.abs(state.aggregate - state.estimates.mean(axis=0)).max(),
        "squared": lambda problem, state: problem.squared_gradient(state.x),
    }
    trace = tt.run(method, problem, jnp.zeros(6), steps=20_000, record=record)
    assert float(trace["drift"].max()) < 1e-11
    assert trace.final("squared") < 1e-16


def test_clients_that_are_away_send_nothing():
    history = np.asarray([[True] * 3 + [False] * 5])
    problem = quadratics(participation=Recorded(history))
    trace = tt.run(EF21(TopK(2), 0.01, start="zero"), problem, jnp.ones(6), steps=10)
    assert trace.final("bits_up") == 10 * 3 * 2 * (64 + 3)
    assert trace.final("bits_down") == 10 * 3 * 6 * 64
    assert not trace.state.estimates[0, 3:].any()
    assert trace.state.estimates[0, :3].any()


@given(arrays(float, st.integers(2, 30), elements=st.floats(1e-3, 1e3)))
def test_cloning_costs_at_most_the_square_root_of_two(smoothness):
    counts = np.asarray(clone_counts(smoothness))
    mean = arithmetic_mean(smoothness)
    assert len(smoothness) <= counts.sum() <= 2 * len(smoothness)
    assert mean * (1 - 1e-12) <= cloned_mean(smoothness, counts) <= np.sqrt(2) * mean * (1 + 1e-12)
    assert cloned_mean(smoothness, np.ones(len(smoothness))) == pytest.approx(quadratic_mean(smoothness))


def test_constants_of_the_example():
    # Four clients, three of them alike.
    smoothness = [1.0, 1.0, 1.0, 100.0]
    assert arithmetic_mean(smoothness) == 25.75
    assert quadratic_mean(smoothness) == pytest.approx(50.0075, abs=1e-4)
    assert [feedback_constant(alpha) for alpha in (1.0, 0.5, 0.1)] == pytest.approx([0.0, 2.41421, 18.48683], abs=1e-5)
    assert error_feedback_step_size(10.0, smoothness, 0.5) == pytest.approx(1 / (10 + 25.75 * (1 + np.sqrt(2))))
    assert error_feedback_step_size(1e9, smoothness, 1.0) == pytest.approx(1 / 25.75)


def test_smoothness_of_linear_models_ignores_the_padding():
    data = dataset("breast_cancer", intercept=True)
    clients = split(data, 7, seed=2)
    size = int(clients.sizes[0])
    assert len(set(clients.sizes.tolist())) == 2
    for number, value in enumerate(linear_model_smoothness(clients, 0.25, 0.1)):
        rows = np.asarray(clients.features[number, : int(clients.sizes[number])])
        expected = 0.25 * np.linalg.eigvalsh(rows.T @ rows / len(rows))[-1] + 0.1
        assert float(value) == pytest.approx(expected, rel=1e-10), size


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EF21(TopK(1), 0.1, start="nowhere"), "start"),
        (lambda: EF21.theory(learning(), TopK(1), jnp.zeros(2)), "smoothness: Learning does not know it"),
        (lambda: EF21(TopK(1), -0.1), "step_size"),
        (lambda: EF21(TopK(1), 0.1, weights=[0.5, 0.0]), "weights"),
        (lambda: tt.run(EF21(TopK(1), 0.1, weights=[0.5, 0.5]), quadratics(), jnp.ones(6), steps=1), "weights"),
        (lambda: tt.run(EF21(TopK(7), 0.1), quadratics(), jnp.ones(6), steps=1), "kept: cannot keep 7 of 6"),
        (lambda: smoothness_weights([1.0, 0.0]), "client_smoothness"),
        (lambda: feedback_constant(0.0), "contraction"),
        (lambda: error_feedback_step_size(1.0, [1.0], 0.5, mean="geometric"), "mean"),
        (lambda: error_feedback_step_size(1.0, [1.0], 0.5, overlap=0.0), "overlap"),
        (lambda: feature_overlap(np.ones((2, 3))), "used"),
        (lambda: feature_overlap(np.ones((2, 3), bool), [1.0]), "client_smoothness"),
        (lambda: feature_overlap(np.ones((2, 3), bool), [1.0, 0.0]), "client_smoothness"),
        (lambda: EF21.theory(quadratics(weights=np.arange(1.0, 9.0)), TopK(1), jnp.zeros(6)), "equal weights"),
        (lambda: Cloned(quadratics(), [1, 2]), "counts: expected one for each of 8"),
        (lambda: Cloned(quadratics(), [0] + [1] * 7), "counts"),
        (lambda: Cloned(quadratics(participation=Bernoulli(0.5)), [1] * 8), "everyone"),
        (lambda: Cloned(quadratics(weights=np.arange(1.0, 9.0)), [1] * 8), "equal weights"),
    ],
)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
