"""SCAFFOLD against a transcription in NumPy, and in the settings where it is something simpler."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.federated import SCAFFOLD, FedAvg, Recorded, Uniform, random_quadratics


def quadratics(**environment):
    return random_quadratics(jax.random.key(3), 6, 4, spread=3.0, **environment)


def test_rounds_are_those_of_the_algorithm():
    history = np.random.default_rng(0).random((15, 6)) < 0.4
    history[4] = False
    weights = np.asarray([1.0, 2.0, 3.0, 1.0, 1.0, 4.0])
    problem = quadratics(participation=Recorded(history), weights=weights)
    trace = tt.run(SCAFFOLD(0.05, steps=3, server=0.7), problem, jnp.ones(4), steps=15)
    hessians, linear, shares = np.asarray(problem.hessians), np.asarray(problem.linear), weights / weights.sum()
    x, own, mean = np.ones(4), np.zeros((6, 4)), np.zeros(4)
    for here in history:
        if not here.any():
            continue
        moved, drift = np.zeros(4), np.zeros(4)
        for client in np.flatnonzero(here):
            y = x
            for _ in range(3):
                y = y - 0.05 * (hessians[client] @ y - linear[client] - own[client] + mean)
            renewed = own[client] - mean + (x - y) / (3 * 0.05)
            moved += shares[client] / shares[here].sum() * (y - x)
            drift += shares[client] * (renewed - own[client])
            own[client] = renewed
        x, mean = x + 0.7 * moved, mean + drift
    np.testing.assert_allclose(trace.x[0], x, rtol=1e-10)
    np.testing.assert_allclose(trace.state.memory.clients[0], own, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(trace.state.memory.mean[0], mean, rtol=1e-9, atol=1e-12)


def test_the_first_round_is_federated_averaging_and_the_limit_is_the_minimiser():
    problem = quadratics(participation=Uniform(2))
    first, other = (tt.run(method(0.02, steps=4), problem, jnp.ones(4), steps=1) for method in (SCAFFOLD, FedAvg))
    np.testing.assert_allclose(first.x, other.x, rtol=1e-12)
    trace = tt.run(SCAFFOLD(0.02, steps=4), problem, jnp.ones(4), steps=3000, record="distance")
    assert trace.final("distance") < 1e-10
    assert trace.final("bits_up") == trace.final("bits_down") == 3000 * 2 * 2 * 256
    assert trace.final("gradients") == 3000 * 2 * 4


def test_control_variates_need_a_step_size():
    with pytest.raises(TypeError, match="optimizer: expected a step size"):
        SCAFFOLD(optax.adam(0.1))
