"""EControl and what it is compared with: transcriptions in NumPy, exact identities, degenerate settings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.federated import (
    EF14,
    EF21,
    Bernoulli,
    CompressedSGD,
    DoubleCompression,
    EControl,
    EF21Momentum,
    IdealErrorFeedback,
    Identity,
    RandK,
    Recorded,
    ScaledSign,
    TopK,
    UnbiasedRandK,
    compressed_gradients,
    random_quadratics,
)
from tendsto.optimize import Optax
from tendsto.problems import Gaussian

METHODS = {
    "naive": CompressedSGD(TopK(2), 0.01),
    "classical": EF14(TopK(2), 0.01),
    "ideal": IdealErrorFeedback(TopK(2), 0.01),
    "control": EControl(TopK(2), 0.01, 0.1),
    "double": DoubleCompression(TopK(2), 0.01),
    "momentum": EF21Momentum(TopK(2), 0.01, 0.3),
}
WEIGHTS = np.arange(1.0, 7.0) / 21


def quadratics(**environment):
    return dataclasses.replace(random_quadratics(jax.random.key(5), 6, 5, spread=3.0), **environment)


def top(vector, kept=2):
    sparse = np.zeros_like(vector)
    places = np.argsort(-np.abs(vector), kind="stable")[:kept]
    sparse[places] = vector[places]
    return sparse


def transcription(name, problem, history, start, weights):
    """The pseudo-code, client by client, for step size 0.01 and top-2."""
    hessians, linear = np.asarray(problem.hessians), np.asarray(problem.linear)
    clients, dimension = linear.shape
    x = np.ones(dimension)

    def gradient(client, x):
        return hessians[client] @ x - linear[client]

    best = np.linalg.solve(np.tensordot(weights, hessians, 1), weights @ linear)
    errors, estimates = np.zeros((clients, dimension)), np.zeros((clients, dimension))
    averages = np.zeros((clients, dimension))
    if name == "ideal":
        estimates = np.stack([gradient(client, best) for client in range(clients)])
    if name in ("control", "double", "momentum") and start != "zero":
        averages = np.stack([gradient(client, x) for client in range(clients)])
        estimates = averages.copy() if start == "gradient" else np.stack([top(each) for each in averages])
    for here in history:
        direction = weights @ estimates
        for client in np.flatnonzero(here):
            slope = gradient(client, x)
            if name == "naive":
                message = top(slope)
            elif name in ("classical", "ideal"):
                owed = errors[client] + slope - estimates[client]
                message = top(owed)
                errors[client] = owed - message
            elif name == "control":
                change = slope - estimates[client]
                message = top(0.1 * errors[client] + change)
                errors[client] += change - message
                estimates[client] += message
            elif name == "double":
                change = slope - estimates[client]
                message = top(errors[client] + change)
                errors[client] += change - message
                estimates[client] += top(change)
            elif name == "momentum":
                averages[client] = 0.7 * averages[client] + 0.3 * slope
                message = top(averages[client] - estimates[client])
                estimates[client] += message
            direction = direction + weights[client] * message
        x = x - 0.01 * direction
    return x, errors, estimates, averages


@pytest.mark.parametrize("name", METHODS)
def test_rounds_are_those_of_the_algorithm(name):
    history = np.random.default_rng(1).random((30, 6)) < 0.6
    problem = quadratics(weights=WEIGHTS, participation=Recorded(history))
    starts = ["gradient", "compressed", "zero"] if name == "control" else ["gradient"]
    for start in starts:
        method = METHODS[name]
        method = dataclasses.replace(method, start=start) if name == "control" else method
        trace = tt.run(method, problem, jnp.ones(5), steps=30)
        x, *memory = transcription(name, problem, history, start, WEIGHTS)
        np.testing.assert_allclose(trace.x[0], x, rtol=1e-10)
        for kept, expected in zip(trace.state.memory, memory, strict=True):
            if kept is None:
                continue
            np.testing.assert_allclose(kept[0], expected, rtol=1e-9, atol=1e-11)
        mean = WEIGHTS @ memory[1]
        np.testing.assert_allclose(trace.state.control[0], mean, rtol=1e-9, atol=1e-11)


def test_without_compression_all_of_them_are_gradient_descent():
    problem = quadratics()
    descent = tt.run(Optax(optax.sgd(0.01)), problem, jnp.ones(5), steps=20).x
    for method in METHODS.values():
        plain = dataclasses.replace(method, compressor=Identity())
        if isinstance(plain, EF21Momentum):
            plain = dataclasses.replace(plain, weight=1.0)
        np.testing.assert_allclose(tt.run(plain, problem, jnp.ones(5), steps=20).x, descent, rtol=1e-9)


@pytest.mark.parametrize("start", ["gradient", "compressed"])
def test_without_feedback_it_is_ef21(start):
    problem = quadratics()
    feedback = tt.run(EF21(TopK(2), 0.01, start=start), problem, jnp.ones(5), steps=60)
    own = "gradient" if start == "gradient" else "zero"  # the first message from zero is the compressed gradient
    control = tt.run(EControl(TopK(2), 0.01, 0.0, start=own), problem, jnp.ones(5), steps=60)
    momentum = tt.run(EF21Momentum(TopK(2), 0.01, 1.0, start=own), problem, jnp.ones(5), steps=60)
    np.testing.assert_array_equal(control.x, momentum.x)
    np.testing.assert_allclose(control.x, feedback.x, rtol=1e-12)


@pytest.mark.parametrize("compressor", [TopK(2), RandK(2), ScaledSign()], ids=["top-k", "rand-k", "sign"])
def test_the_virtual_iterate_is_that_of_sgd(compressor):
    problem = quadratics(weights=WEIGHTS)
    record = {
        "virtual": lambda problem, state: state.x - 0.02 * problem.average(state.memory.error),
        "gradient": lambda problem, state: problem.gradient(state.x),
    }
    trace = tt.run(EControl(compressor, 0.02, 0.1), problem, jnp.ones(5), steps=20, record=record, points=range(20))
    moved = np.diff(trace["virtual"].values[0], axis=0)
    np.testing.assert_allclose(moved, -0.02 * trace["gradient"].values[0, :-1], rtol=1e-9, atol=1e-12)


def test_noise_is_drawn_anew_for_each_client_and_round():
    """Without compression the estimates are the last stochastic gradients."""
    problem = quadratics(noise=Gaussian(2.0))
    record = {"estimate": lambda problem, state: state.memory.estimate}
    method = EF21Momentum(Identity(), 1e-12, 1.0)
    trace = tt.run(method, problem, jnp.ones(5), steps=2, record=record, points=[1, 2])
    noise = trace["estimate"].values[0] - np.asarray(problem.client_gradients(jnp.ones(5)))
    assert len(np.unique(np.round(noise, 6))) == noise.size
    assert 0.4 < noise.std() < 1.6


def test_messages_are_counted():
    history = np.asarray([[True] * 2 + [False] * 4])
    problem = quadratics(participation=Recorded(history))
    for name, messages in (("control", 1), ("double", 2), ("classical", 1)):
        trace = tt.run(METHODS[name], problem, jnp.ones(5), steps=7)
        first = 0 if name == "classical" else 6 * 5 * 64
        assert trace.final("bits_up") == first + 7 * 2 * messages * 2 * (64 + 3)
    compressed = tt.run(EControl(TopK(2), 0.01, 0.1, start="compressed"), problem, jnp.ones(5), steps=0)
    assert compressed.state.cost.bits_up[0] == 6 * 2 * (64 + 3)
    assert tt.run(EControl(TopK(2), 0.01, 0.1, start="zero"), problem, jnp.ones(5), steps=0).state.cost.bits_up[0] == 0


def test_two_messages_are_compressed_independently():
    method = DoubleCompression(RandK(1), 0.01)
    keys = jax.random.split(jax.random.key(0), 40)
    blank = method.blank(jnp.zeros(20))
    sent, learnt = jax.jit(jax.vmap(lambda key: method.exchange(blank, jnp.ones(20), key)))(keys).messages
    assert np.mean(np.argmax(sent, axis=1) == np.argmax(learnt, axis=1)) < 0.3


def test_half_of_the_clients_suffice():
    problem = quadratics(participation=Bernoulli(0.5))
    trace = tt.run(EControl(TopK(2), 0.02, 0.1), problem, jnp.ones(5), steps=4000, record="distance")
    assert trace.final("distance") < 1e-9


def test_the_step_of_the_theorem():
    assert float(EControl.theory(TopK(2), 0.1, jnp.zeros(8)).feedback) == pytest.approx(0.25 / 400)


@pytest.mark.parametrize("name", ["naive", "classical", "control", "double", "momentum"])
def test_the_transformation_is_the_method(name):
    method, problem, x0 = METHODS[name], quadratics(), jnp.ones(5)
    if hasattr(method, "start"):
        method = dataclasses.replace(method, start="zero")
    chain = optax.chain(compressed_gradients(method, 6, jax.random.key(0)), optax.sgd(0.01))

    @jax.jit
    def update(x, state):
        step, state = chain.update(problem.client_gradients(x), state, x)
        return optax.apply_updates(x, step), state

    x, state = x0, chain.init(x0)
    for _ in range(15):
        x, state = update(x, state)
    np.testing.assert_allclose(x, tt.run(method, problem, x0, steps=15).x[0], rtol=1e-10)


def test_the_transformation_draws_anew_in_every_round_and_keeps_the_structure():
    transformation = compressed_gradients(EF14(RandK(1), 1.0), 2, jax.random.key(0))
    params = {"a": jnp.zeros(20), "b": jnp.zeros((2, 2))}
    gradients = jax.tree.map(lambda leaf: jnp.ones((2, *leaf.shape)), params)
    state, places = transformation.init(params), set()
    for _ in range(6):
        direction, state = transformation.update(gradients, state)
        assert jax.tree.structure(direction) == jax.tree.structure(params)
        places.add(tuple(np.flatnonzero(direction["a"]).tolist()))
    assert len(places) > 2


def test_scaled_random_coordinates_are_unbiased_and_contract_only_with_more_than_half():
    vector = jnp.arange(1.0, 9.0)
    draws = jax.vmap(UnbiasedRandK(6), (None, 0))(vector, jax.random.split(jax.random.key(0), 4000))
    np.testing.assert_allclose(draws.mean(axis=0), vector, atol=6 * 8 * np.sqrt(1 / 3 / 4000))
    lost = jnp.sum((draws - vector) ** 2, axis=1).mean() / jnp.sum(vector**2)
    assert float(lost) == pytest.approx(1 / 3, abs=0.02)
    assert UnbiasedRandK(6).contraction(vector) == pytest.approx(2 / 3)
    for kept in (3, 4):
        with pytest.raises(ValueError, match="no contraction"):
            UnbiasedRandK(kept).contraction(vector)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EControl(TopK(1), 0.1, 1.5), "feedback"),
        (lambda: EControl(TopK(1), 0.1, -0.1), "feedback"),
        (lambda: EControl(TopK(1), 0.1, 0.1, start="nowhere"), "start"),
        (lambda: DoubleCompression(TopK(1), 0.1, start="nowhere"), "start"),
        (lambda: EF21Momentum(TopK(1), 0.1, 0.0), "weight"),
        (lambda: EF14(TopK(1), -0.1), "step_size"),
        (lambda: compressed_gradients(EControl(TopK(1), 0.1, 0.1), 2, jax.random.key(0)), "start='zero'"),
        (lambda: compressed_gradients(IdealErrorFeedback(TopK(1), 0.1), 2, jax.random.key(0)), "method"),
        (lambda: compressed_gradients(EF14(TopK(1), 0.1), 0, jax.random.key(0)), "clients"),
    ],
    ids=["large", "negative", "start", "start of double", "weight", "step", "full start", "ideal", "clients"],
)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
