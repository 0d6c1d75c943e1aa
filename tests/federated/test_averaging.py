"""Federated averaging against a transcription in NumPy, and in the settings where it is something simpler."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.federated import (
    MIFA,
    Bernoulli,
    FedAU,
    FedAvg,
    FederatedQuadratic,
    FedSpeed,
    Recorded,
    Uniform,
    random_quadratics,
)
from tendsto.federated.averaging import local_steps
from tendsto.federated.federation import begin
from tendsto.federated.optimizers import as_optimizer
from tendsto.optimize import Optax
from tendsto.problems import DiagonalQuadratic


def quadratics(**environment):
    return random_quadratics(jax.random.key(3), 6, 4, spread=3.0, **environment)


def transcription(problem, history, x, *, local, server, steps, weights):
    hessians, linear = np.asarray(problem.hessians), np.asarray(problem.linear)
    for here in history:
        if not here.any():
            continue
        moved = np.zeros_like(x)
        for client in np.flatnonzero(here):
            y = x.copy()
            for _ in range(steps):
                y -= local * (hessians[client] @ y - linear[client])
            moved += weights[client] / weights[here].sum() * (y - x)
        x = x + server * moved
    return x


def test_rounds_are_those_of_the_algorithm():
    history = np.random.default_rng(0).random((15, 6)) < 0.4
    history[4] = False
    weights = np.asarray([1.0, 2.0, 3.0, 1.0, 1.0, 4.0])
    problem = quadratics(participation=Recorded(history), weights=weights)
    trace = tt.run(FedAvg(0.1, steps=3, server=0.7), problem, jnp.ones(4), steps=15)
    expected = transcription(problem, history, np.ones(4), local=0.1, server=0.7, steps=3, weights=weights)
    np.testing.assert_allclose(trace.x[0], expected, rtol=1e-12)


def test_each_local_step_draws_anew():
    def noise(data, y, key):
        return jax.random.normal(key, y.shape)

    last = local_steps(as_optimizer(1.0), noise, (), jnp.zeros(4000), jax.random.key(0), 4)
    assert float(jnp.var(last)) == pytest.approx(4.0, rel=0.1)  # the same noise four times would have 16


def test_with_one_local_step_and_everybody_it_is_gradient_descent():
    problem = quadratics()
    rounds = tt.run(FedAvg(0.1), problem, jnp.ones(4), steps=40)
    descent = tt.run(Optax(optax.sgd(0.1)), problem, jnp.ones(4), steps=40)
    np.testing.assert_allclose(rounds.x, descent.x, rtol=1e-12)


def test_with_one_client_it_is_local_descent():
    problem = FederatedQuadratic(jnp.asarray([[[2.0, 0.5], [0.5, 1.0]]]), jnp.asarray([[1.0, -1.0]]))
    rounds = tt.run(FedAvg(0.1, steps=5), problem, jnp.zeros(2), steps=8)
    descent = tt.run(Optax(optax.sgd(0.1)), problem, jnp.zeros(2), steps=40)
    np.testing.assert_allclose(rounds.x, descent.x, rtol=1e-12)


def test_optax_serves_at_the_client_and_at_the_server():
    problem = quadratics()
    plain = tt.run(FedAvg(0.1, steps=3), problem, jnp.ones(4), steps=10)
    same = tt.run(FedAvg(optax.sgd(0.1), steps=3, server=optax.sgd(1.0)), problem, jnp.ones(4), steps=10)
    np.testing.assert_allclose(same.x, plain.x, rtol=1e-12)
    adam = FedAvg(0.1, server=optax.adam(0.05))
    assert tt.run(adam, problem, jnp.ones(4), steps=400, record=["gap"]).final("gap") < 1e-3


def test_a_clients_optimiser_is_fresh_in_every_round():
    problem = quadratics()
    x = np.ones(4)
    for _ in range(3):
        moved = []
        for hessian, linear in zip(np.asarray(problem.hessians), np.asarray(problem.linear), strict=True):
            y, velocity = x.copy(), np.zeros(4)
            for _ in range(4):
                velocity = 0.9 * velocity + hessian @ y - linear
                y = y - 0.05 * velocity
            moved.append(y - x)
        x = x + np.mean(moved, axis=0)
    trace = tt.run(FedAvg(optax.sgd(0.05, momentum=0.9), steps=4), problem, jnp.ones(4), steps=3)
    np.testing.assert_allclose(trace.x[0], x, rtol=1e-12)


def test_clients_draw_their_own_noise():
    problem = random_quadratics(jax.random.key(0), 400, 3, spread=0.0, noise=1.0)
    at_minimum = tt.run(FedAvg(1.0), problem, problem.minimiser, steps=1, seeds=200)
    # The mean of n independent draws has variance sigma^2 / n.
    assert float(jnp.mean(jnp.sum(at_minimum.x**2, axis=1))) == pytest.approx(1 / 400, rel=0.2)


def test_step_sizes_vary_in_one_run():
    problem = quadratics()
    grid = tt.run(FedAvg(0.1, steps=2), problem, jnp.ones(4), steps=9, grid={"local.step_size": [0.05, 0.1]})
    lone = tt.run(FedAvg(0.05, steps=2), problem, jnp.ones(4), steps=9)
    np.testing.assert_allclose(grid.sel(local_step_size=0.05)["objective"], lone["objective"], rtol=1e-12)


def test_an_empty_round_changes_nothing_and_nan_of_the_absent_does_not_leak():
    history = np.asarray([[True, False], [False, False]])
    # The second client, never there, would answer NaN.
    hessians = jnp.asarray([[[1.0]], [[1e308]]])
    problem = FederatedQuadratic(hessians, jnp.asarray([[1.0], [1e308]]), participation=Recorded(history))
    trace = tt.run(FedAvg(0.5, steps=40), problem, jnp.asarray([5.0]), steps=2, points=[1, 2])
    assert bool(trace["finite"].all())
    assert float(trace["bits_up"][0, 1]) == float(trace["bits_up"][0, 2])
    assert float(trace.x[0, 0]) == pytest.approx(1.0)


def test_divergence_is_a_result():
    trace = tt.run(FedAvg(100.0, steps=50), quadratics(participation=Bernoulli(0.9)), jnp.ones(4), steps=40)
    assert bool(trace.diverged.all())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FedAvg(0.0), ValueError, "step_size"),
        (lambda: FedAvg(0.1, steps=0), ValueError, "steps"),
        (lambda: FedAvg("fast"), TypeError, "optimizer: expected a step size"),
        (lambda: tt.run(FedAvg(0.1), quadratics(), jnp.ones(5), steps=1), ValueError, "x0: the clients' functions"),
        (
            lambda: begin(DiagonalQuadratic([1.0]), jnp.ones(1), jax.random.key(0)),
            TypeError,
            "problem: expected a Federation, got DiagonalQuadratic",
        ),
        (lambda: random_quadratics(jax.random.key(0), 0, 3), ValueError, "clients"),
        (lambda: FederatedQuadratic(jnp.ones((2, 3, 3)), jnp.ones((2, 2))), ValueError, "linear: expected shape"),
        (lambda: quadratics(participation=Uniform(7)), ValueError, "size"),
        (lambda: quadratics(weights=[-1.0, 1, 1, 1, 1, 1]), ValueError, "weights"),
    ],
)
def test_bad_input_names_the_argument(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(("method", "rests"), [(FedAvg, True), (FedAU, True), (FedSpeed, True), (MIFA, False)])
def test_a_server_with_momentum_rests_where_nobody_is_there_unless_it_remembers(method, rests):
    history = np.asarray([[True] * 6, [False] * 6])
    problem = quadratics(participation=Recorded(history))
    trace = tt.run(
        method(0.05, steps=2, server=optax.sgd(0.5, momentum=0.9)),
        problem,
        jnp.ones(4),
        steps=2,
        record={"x": lambda problem, state: state.x},
        points=[1, 2],
    )
    after_one, after_two = trace["x"].values[0, 1:]
    assert np.array_equal(after_one, after_two) == rests
