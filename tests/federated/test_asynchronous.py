"""Asynchronous federated averaging against a transcription in NumPy, and where it is something simpler."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.federated import AsynchronousFedAvg, FedAvg, Network, RecordedTimes, Schedule, random_quadratics

SECONDS = np.asarray([1.0, 0.7, 0.2, 0.5])
WEIGHTS = np.asarray([0.1, 0.2, 0.3, 0.4])
TIMES = RecordedTimes(SECONDS)
SCHEDULES = {
    "synchronous": Schedule.synchronous(TIMES, 6.0),
    "asynchronous": Schedule.asynchronous(TIMES, 3.0),
    "buffered": Schedule.buffered(TIMES, 2, 6.0),
    "fixed": Schedule.fixed_interval(TIMES, 0.3, 6.0),
}


def quadratics(**environment):
    return random_quadratics(jax.random.key(3), 4, 3, spread=3.0, **environment)


def transcription(problem, schedule, x, *, local, server, steps, weighting):
    hessians, linear_terms = np.asarray(problem.hessians), np.asarray(problem.linear)
    frequencies = np.asarray(schedule.frequencies)
    by_importance, alike = WEIGHTS / frequencies, np.full(4, 1 / frequencies.sum())
    weights = by_importance if weighting == "importance" else alike
    step_sizes = local * (by_importance / alike if weighting == "step_size" else np.ones(4))
    received = np.stack([x] * 4)
    for here in schedule.contributors:
        total = np.zeros_like(x)
        for client in np.flatnonzero(here):
            y = received[client].copy()
            for _ in range(steps):
                y = y - step_sizes[client] * (hessians[client] @ y - linear_terms[client])
            total += weights[client] * (y - received[client])
        x = x + server * total
        received[here] = x
    return x, received


@pytest.mark.parametrize(
    ("name", "weighting"),
    [
        ("synchronous", "identical"),
        ("asynchronous", "importance"),
        ("asynchronous", "step_size"),
        ("buffered", "step_size"),
        ("buffered", "identical"),
        ("fixed", "importance"),
        ("fixed", "identical"),
    ],
)
def test_steps_are_those_of_the_algorithm(name, weighting):
    schedule, problem = SCHEDULES[name], quadratics(weights=WEIGHTS)
    method = AsynchronousFedAvg(schedule, 0.05, steps=3, server=0.7, weighting=weighting)
    trace = tt.run(method, problem, jnp.ones(3), steps=len(schedule), points=2)
    x, received = transcription(problem, schedule, np.ones(3), local=0.05, server=0.7, steps=3, weighting=weighting)
    np.testing.assert_allclose(trace.x[0], x, rtol=1e-11)
    np.testing.assert_allclose(trace.state.received[0], received, rtol=1e-11)
    assert trace.final("seconds") == pytest.approx(float(schedule.times[-1]))
    contributions = schedule.contributors.sum()
    assert trace.final("gradients") == 3 * contributions
    assert trace.final("bits_up") == trace.final("bits_down") == 3 * 64 * contributions
    assert trace.final("rounds") == len(schedule)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule.synchronous(TIMES, 15.0),
        Schedule.fixed_interval(TIMES, 1.0, 15.0),
        Schedule.buffered(TIMES, 4, 15.0),
    ],
    ids=["synchronous", "fixed", "buffered"],
)
def test_when_all_contribute_it_is_federated_averaging_with_the_same_noise_and_cost(schedule):
    problem = quadratics(noise=0.5, network=Network(latency=SECONDS))
    plain = tt.run(FedAvg(0.05, steps=3), problem, jnp.ones(3), steps=15, points=2)
    trace = tt.run(AsynchronousFedAvg(schedule, 0.05, steps=3), problem, jnp.ones(3), steps=15, points=2)
    np.testing.assert_allclose(trace.x, plain.x, rtol=1e-13)
    for cost in plain.spent:
        np.testing.assert_allclose(trace.final(cost), plain.final(cost))


def test_with_one_client_every_answer_is_a_round_of_local_steps():
    problem = random_quadratics(jax.random.key(1), 1, 3)
    schedule = Schedule.asynchronous(RecordedTimes([0.5]), 5.0)
    trace = tt.run(AsynchronousFedAvg(schedule, 0.1, steps=4), problem, jnp.ones(3), steps=10)
    plain = tt.run(FedAvg(0.1), problem, jnp.ones(3), steps=40)
    np.testing.assert_allclose(trace.x, plain.x, rtol=1e-12)


def test_after_the_schedule_nobody_contributes():
    schedule, problem = SCHEDULES["fixed"], quadratics()
    method = AsynchronousFedAvg(schedule, 0.05)
    whole = tt.run(method, problem, jnp.ones(3), steps=len(schedule))
    beyond = tt.run(method, problem, jnp.ones(3), steps=len(schedule) + 7)
    np.testing.assert_array_equal(beyond.x, whole.x)
    assert beyond.final("bits_up") == whole.final("bits_up")
    assert beyond.final("seconds") == whole.final("seconds")


def test_optax_and_pytrees_pass_through():
    schedule = SCHEDULES["buffered"]
    problem = quadratics()
    plain = tt.run(AsynchronousFedAvg(schedule, 0.05, steps=2), problem, jnp.ones(3), steps=len(schedule))
    method = AsynchronousFedAvg(schedule, optax.sgd(0.05), steps=2, server=optax.sgd(1.0))
    np.testing.assert_allclose(tt.run(method, problem, jnp.ones(3), steps=len(schedule)).x, plain.x, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AsynchronousFedAvg(SCHEDULES["fixed"], 0.1, weighting="fair"), "weighting"),
        (lambda: AsynchronousFedAvg(SCHEDULES["fixed"], 0.1, steps=0), "steps"),
        (lambda: AsynchronousFedAvg(SCHEDULES["fixed"], -0.1), "step_size"),
        (
            lambda: tt.run(
                AsynchronousFedAvg(Schedule.synchronous(RecordedTimes([1.0]), 3.0), 0.1),
                quadratics(),
                jnp.ones(3),
                steps=1,
            ),
            "schedule: of 1 clients, the problem has 4",
        ),
    ],
)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
