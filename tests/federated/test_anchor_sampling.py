"""Anchor sampling against a transcription in NumPy, and in the settings where it is something simpler."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.federated import (
    ConstantAnchors,
    FedAMD,
    FederatedQuadratic,
    PeriodicAnchors,
    Recorded,
    Uniform,
    anchor_rounds,
    optimal_anchor_probability,
    random_quadratics,
    split,
)
from tendsto.optimize import Optax


def quadratics(**environment):
    return random_quadratics(jax.random.key(3), 6, 4, spread=3.0, **environment)


def stored(problem, state):
    return state.gradients


def iterate(problem, state):
    return state.x


def transcription(problem, history, stored, x, *, local, server, steps, weights):
    """The rounds of the algorithm, with the anchors' gradients as they were `stored` after each."""
    hessians, linear = np.asarray(problem.hessians), np.asarray(problem.linear)
    shares = weights / weights.sum()

    def gradient(client, place):
        return hessians[client] @ place - linear[client]

    for here, kept, renewed in zip(history, stored[:-1], stored[1:], strict=True):
        # The roles are random: an anchor is who stores another noisy gradient.
        anchors = (renewed != kept).any(axis=1)
        assert not anchors[~here].any()
        for client in np.flatnonzero(anchors):
            np.testing.assert_allclose(renewed[client], gradient(client, x), atol=0.01)
        moved, total = np.zeros_like(x), 0.0
        for client in np.flatnonzero(here & ~anchors):
            y, previous, estimate = x, x, shares @ kept
            for _ in range(steps):
                estimate = estimate - gradient(client, previous) + gradient(client, y)
                previous, y = y, y - local * estimate
            moved = moved + shares[client] * (x - y)
            total += shares[client]
        if total > 0:
            x = x - server * moved / total
    return x


def test_rounds_are_those_of_the_algorithm():
    history = np.random.default_rng(0).random((20, 6)) < 0.6
    history[4] = False
    weights = np.asarray([1.0, 2.0, 3.0, 1.0, 1.0, 4.0])
    problem = quadratics(participation=Recorded(history), weights=weights, noise=1e-3)
    method = FedAMD(0.05, 0.4, steps=3, server=0.7, anchor_batches=1)
    trace = tt.run(method, problem, jnp.ones(4), steps=20, record={"stored": stored}, points=range(20))
    kept = trace["stored"].values[0]
    assert 15 < (kept[1:] != kept[:-1]).any(axis=2).sum() < 40
    x = transcription(problem, history, kept, np.ones(4), local=0.05, server=0.7, steps=3, weights=weights)
    np.testing.assert_allclose(trace.x[0], x, rtol=1e-9)


def test_periodic_anchors_take_whole_rounds():
    problem = quadratics(participation=Uniform(3))
    record = {"stored": stored, "x": iterate}
    trace = tt.run(FedAMD(0.05, PeriodicAnchors(3), 2), problem, jnp.ones(4), steps=9, record=record, points=range(9))
    # Up to rounding, those of the first round store what they have stored before.
    renewed = (np.abs(np.diff(trace["stored"].values[0], axis=0)) > 1e-13).any(axis=2).sum(axis=1)
    moved = (np.diff(trace["x"].values[0], axis=0) != 0).any(axis=1)
    assert renewed.tolist() == [0, 0, 0, 3, 0, 0, 3, 0, 0]
    assert moved.tolist() == [False, True, True] * 3


def test_one_client_alternating_is_gradient_descent():
    problem = FederatedQuadratic(jnp.asarray([[[2.0, 0.5], [0.5, 1.0]]]), jnp.asarray([[1.0, -1.0]]))
    rounds = tt.run(FedAMD(0.1, PeriodicAnchors(2), steps=5), problem, jnp.zeros(2), steps=16)
    descent = tt.run(Optax(optax.sgd(0.1)), problem, jnp.zeros(2), steps=40)
    np.testing.assert_allclose(rounds.x, descent.x, rtol=1e-12)


def test_one_local_step_is_the_stale_averaged_gradient_whatever_the_batches():
    generator = np.random.default_rng(0)
    features, targets = generator.normal(size=(60, 3)), generator.normal(size=60)
    clients = split((features, targets), 6)

    def squared(predictions, targets):
        return 0.5 * (predictions - targets) ** 2

    def predict(x, features):
        return features @ x

    runs = []
    for batch in (1, 4, None):
        problem = clients.problem(predict, squared, batch=batch, participation=Uniform(3))
        record = {"stored": stored, "x": iterate}
        runs.append(
            tt.run(FedAMD(0.1, 0.5), problem, jnp.ones(3), steps=12, record=record, points=range(12), spacing="linear")
        )
    x, kept = (runs[0][name].values[0] for name in ("x", "stored"))
    for other in runs[1:]:
        np.testing.assert_array_equal(x, other["x"].values[0])
    moved = (x[1:] != x[:-1]).any(axis=1)
    assert 6 <= moved.sum() < 12
    np.testing.assert_allclose(x[1:][moved], (x[:-1] - 0.1 * kept[:-1].mean(axis=1))[moved], rtol=1e-12)


def test_anchors_alone_move_nothing_and_miners_alone_keep_a_direction():
    problem = quadratics(participation=Uniform(3))
    grid = {"anchors.probability": [0.0, 1.0]}
    trace = tt.run(FedAMD(0.01, 0.5), problem, jnp.ones(4), steps=7, grid=grid)
    np.testing.assert_array_equal(trace.x[1, 0], np.ones(4))
    np.testing.assert_allclose(trace.x[0, 0], np.ones(4) - 0.07 * problem.gradient(jnp.ones(4)), rtol=1e-12)


def test_additive_noise_of_the_miners_cancels():
    runs = [
        tt.run(FedAMD(0.05, 0.5, steps=4), quadratics(participation=Uniform(3), noise=noise), jnp.ones(4), steps=20)
        for noise in (None, 5.0)
    ]
    np.testing.assert_allclose(runs[1].x, runs[0].x, rtol=1e-9)


def test_the_variance_of_an_anchor_is_that_of_its_batch():
    problem = random_quadratics(jax.random.key(0), 2000, 3, noise=2.0)
    trace = tt.run(FedAMD(0.1, 0.5, anchor_batches=5), problem, jnp.ones(3), steps=0)
    errors = trace.state.gradients[0] - problem.client_gradients(jnp.ones(3))
    assert float(jnp.mean(jnp.sum(errors**2, axis=1))) == pytest.approx(4.0 / 5, rel=0.1)
    again = tt.run(FedAMD(0.1, 1.0, anchor_batches=5), problem, jnp.ones(3), steps=1)
    assert float(jnp.abs(again.state.gradients - trace.state.gradients).min()) > 0


def test_it_converges_with_few_clients_by_the_prescribed_parameters():
    problem = quadratics(participation=Uniform(2))
    method = FedAMD.theory(problem, steps=3)
    assert float(method.anchors.probability) == pytest.approx(optimal_anchor_probability(6, 2))
    factor = anchor_rounds(optimal_anchor_probability(6, 2), 6, 2)
    assert float(method.local.step_size) == pytest.approx(1 / (3 * float(problem.smoothness) * factor))
    trace = tt.run(method, problem, jnp.ones(4), steps=6000, record="distance")
    assert trace.final("distance") < 1e-10


def test_a_server_with_momentum_rests_in_rounds_without_miners():
    problem = quadratics(participation=Uniform(3))
    method = FedAMD(0.05, PeriodicAnchors(4), server=optax.sgd(1.0, momentum=0.9))
    trace = tt.run(method, problem, jnp.ones(4), steps=9, record={"x": iterate}, points=range(9))
    moved = (np.diff(trace["x"].values[0], axis=0) != 0).any(axis=1)
    assert moved.tolist() == [False, True, True, True] * 2 + [False]


def test_costs_are_those_of_the_roles():
    problem = quadratics(participation=Uniform(3), noise=1.0)
    method = FedAMD(0.05, PeriodicAnchors(2), steps=4, anchor_batches=5)
    trace = tt.run(method, problem, jnp.ones(4), steps=2, points=[1])
    # Six anchors at the start, then three anchors, then three miners.
    assert trace["gradients"].values[0].tolist() == [30, 45, 45 + 3 * 2 * 3]
    assert trace["bits_up"].values[0].tolist() == [6 * 256, 9 * 256, 12 * 256]
    assert trace["bits_down"].values[0].tolist() == [6 * 256, 9 * 256, 15 * 256]


def test_an_absent_client_s_nan_does_not_leak():
    hessians = jnp.asarray([[[1.0]], [[1e308]]])
    history = np.asarray([[True, False]])
    problem = FederatedQuadratic(hessians, jnp.asarray([[1.0], [1e308]]), participation=Recorded(history))
    trace = tt.run(FedAMD(0.5, 0.5, steps=40), problem, jnp.asarray([1.0]), steps=10)
    assert bool(trace["finite"].all())


@pytest.mark.parametrize(
    ("clients", "cohort", "exact", "asymptotic"),
    [
        (100, 20, 0.8802, 0.8870),
        (100, 10, 0.8299, 0.8360),
        (100, 50, 0.9299, 0.9369),
        (20, 10, 0.8106, 0.8360),
        (10, 5, 0.7387, 0.7784),
        (100, 1, 0.6641, 0.6667),
    ],
)
def test_optimal_probabilities(clients, cohort, exact, asymptotic):
    assert optimal_anchor_probability(clients, cohort) == pytest.approx(exact, abs=1e-4)
    assert optimal_anchor_probability(clients, cohort, "asymptotic") == pytest.approx(asymptotic, abs=1e-4)


def test_the_bound_at_a_point():
    # 1 - (1/2)^2 = 3/4
    assert anchor_rounds(0.5, 6, 2) == pytest.approx(4 / 3 + 12 / np.sqrt(0.75))
    assert anchor_rounds(0.0, 6, 2) == anchor_rounds(1.0, 6, 2) == np.inf


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FedAMD(0.1, 1.5), ValueError, "probability"),
        (lambda: FedAMD(0.1, 0.5, steps=0), ValueError, "steps"),
        (lambda: FedAMD(0.1, 0.5, anchor_batches=0), ValueError, "anchor_batches"),
        (lambda: FedAMD("fast", 0.5), TypeError, "optimizer"),
        (lambda: PeriodicAnchors(1), ValueError, "period"),
        (lambda: ConstantAnchors(-0.1), ValueError, "probability"),
        (lambda: optimal_anchor_probability(5, 6), ValueError, "cohort"),
        (lambda: optimal_anchor_probability(5, 2, "best"), (ValueError, TypeError), "rule"),
        (lambda: anchor_rounds(2.0, 5, 2), ValueError, "probability"),
    ],
)
def test_bad_input_names_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
