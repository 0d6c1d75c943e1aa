"""FedPAGE and BVR-L-SGD against transcriptions in NumPy, and in the settings where they are something simpler."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.federated import BVRLSGD, FedPAGE, Recorded, Uniform, random_quadratics
from tendsto.optimize import Optax

HISTORY = np.random.default_rng(0).permuted(np.tile([True, False], (14, 3)), axis=1)
HISTORY[3] = False
LOCAL, SERVER, STEPS = 0.04, 0.7, 3


def quadratics(**environment):
    return random_quadratics(jax.random.key(3), 6, 4, spread=3.0, **environment)


def mine(gradient, client, x, estimate):
    previous, y = x, x - LOCAL * estimate
    for _ in range(STEPS - 1):
        estimate = estimate + gradient(client, y) - gradient(client, previous)
        previous, y = y, y - LOCAL * estimate
    return y - x


def oracle(problem):
    hessians, linear = np.asarray(problem.hessians), np.asarray(problem.linear)
    return lambda client, x: hessians[client] @ x - linear[client]


def test_rounds_of_fedpage_are_those_of_the_algorithm():
    problem = quadratics(participation=Recorded(HISTORY))
    method = FedPAGE(LOCAL, 0.3, steps=STEPS, server=SERVER)
    trace = tt.run(method, problem, jnp.ones(4), steps=14, points=range(14), key=1)
    # The coin is random: in a full round six clients receive one vector, otherwise three receive three, or nobody any.
    full = np.diff(trace["bits_down"].values[0]) == 6 * 256
    assert full[0]
    assert 3 <= full.sum() <= 9
    gradient = oracle(problem)
    x, previous, direction = np.ones(4), np.ones(4), np.zeros(4)
    for here, everyone in zip(HISTORY, full, strict=True):
        if everyone:
            direction = np.mean([gradient(client, x) for client in range(6)], axis=0)
        elif here.any():
            moved = [
                mine(gradient, client, x, direction + gradient(client, x) - gradient(client, previous))
                for client in np.flatnonzero(here)
            ]
            direction = -np.mean(moved, axis=0) / (STEPS * LOCAL)
        else:
            continue
        previous, x = x, x - SERVER * STEPS * LOCAL * direction
    np.testing.assert_allclose(trace.x[0], x, rtol=1e-10)
    np.testing.assert_allclose(trace.state.memory.direction[0], direction, rtol=1e-9)


def test_fedpage_with_certain_full_rounds_is_gradient_descent():
    problem = quadratics(participation=Uniform(2))
    rounds = tt.run(FedPAGE(0.02, 1.0, steps=5), problem, jnp.ones(4), steps=30)
    descent = tt.run(Optax(optax.sgd(0.1)), problem, jnp.ones(4), steps=30)
    np.testing.assert_allclose(rounds.x, descent.x, rtol=1e-12)


def test_rounds_of_bvr_are_those_of_the_algorithm():
    problem = quadratics(participation=Recorded(HISTORY), noise=3.0)
    trace = tt.run(BVRLSGD(LOCAL, steps=STEPS, server=SERVER), problem, jnp.ones(4), steps=14)
    gradient = oracle(problem)
    x = np.ones(4)
    for here in HISTORY:
        if here.any():
            direction = np.mean([gradient(client, x) for client in range(6)], axis=0)
            # The additive noise of equal batches cancels.
            x = x + SERVER * np.mean([mine(gradient, client, x, direction) for client in np.flatnonzero(here)], axis=0)
    np.testing.assert_allclose(trace.x[0], x, rtol=1e-10)


def test_costs():
    problem = quadratics(participation=Uniform(2), noise=1.0)
    one = tt.run(BVRLSGD(0.02, steps=4, anchor_batches=5), problem, jnp.ones(4), steps=1)
    assert one.final("gradients") == 6 * 5 + 2 * 2 * 3
    assert one.final("bits_up") == one.final("bits_down") == 8 * 256
    other = tt.run(FedPAGE(0.02, 1e-9, steps=4, anchor_batches=5), problem, jnp.ones(4), steps=2, points=[1])
    assert other["gradients"].values[0].tolist() == [0, 30, 30 + 2 * 2 * (5 + 3)]
    assert other["bits_down"].values[0].tolist() == [0, 6 * 256, 12 * 256]
    assert other["bits_up"].values[0].tolist() == [0, 6 * 256, 8 * 256]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FedPAGE(0.1, 0.0), ValueError, "probability"),
        (lambda: FedPAGE(optax.adam(0.1), 0.5), TypeError, "optimizer: expected a step size"),
        (lambda: FedPAGE(0.1, 0.5, anchor_batches=0), ValueError, "anchor_batches"),
        (lambda: BVRLSGD(0.1, steps=0), ValueError, "steps"),
    ],
)
def test_bad_input_names_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
