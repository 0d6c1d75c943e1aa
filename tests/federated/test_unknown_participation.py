"""FedAU and its rivals against a transcription in NumPy, and where they are something simpler."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tendsto as tt
from tendsto.federated import (
    MIFA,
    Bernoulli,
    Dirichlet,
    FedAU,
    FedAvg,
    FedVARP,
    InverseProbability,
    ParticipationIntervals,
    Recorded,
    label_dependent_rates,
    linear,
    linear_parameters,
    random_quadratics,
    split,
)
from tendsto.problems import dataset

ROUNDS, CLIENTS = 40, 6
WEIGHTS = np.asarray([1.0, 2.0, 3.0, 1.0, 1.0, 4.0]) / 12
RATES = np.asarray([0.1, 0.2, 0.3, 0.5, 0.9, 1.0])


@pytest.fixture(scope="module")
def history():
    chances = np.asarray([0.05, 0.2, 0.4, 0.6, 0.9, 1.0])
    here = np.random.default_rng(0).random((ROUNDS, CLIENTS)) < chances
    here[:, 0] = False
    here[[9, 30], 0] = True
    here[12] = False
    return here


def quadratics(**environment):
    return random_quadratics(jax.random.key(3), CLIENTS, 4, spread=3.0, **environment)


def interval_weights(before, cutoff):
    """Algorithm 2 from the rounds before the current one: each client's list of intervals, and the mean of it."""
    weights = np.ones(before.shape[1])
    for client, column in enumerate(before.T):
        lengths, length = [], 0
        for here in column:
            length += 1
            if here or length == cutoff:
                lengths.append(length)
                length = 0
        if lengths:
            weights[client] = np.mean(lengths)
    return weights


def transcription(rule, problem, history, x, *, local, server, steps):
    """`rule(past, here, displacements, memory)` gives the sum of weighted displacements; it may change the memory."""
    hessians, linear_terms = np.asarray(problem.hessians), np.asarray(problem.linear)
    memory = np.zeros((CLIENTS, x.size))
    for number, here in enumerate(history):
        moved = np.zeros((CLIENTS, x.size))
        for client in np.flatnonzero(here):
            y = x.copy()
            for _ in range(steps):
                y = y - local * (hessians[client] @ y - linear_terms[client])
            moved[client] = y - x
        x = x + server * rule(history[:number], here, moved, memory)
    return x


def adaptive(cutoff):
    return lambda past, here, moved, memory: (WEIGHTS * interval_weights(past, cutoff)) @ moved


def known(past, here, moved, memory):
    return (WEIGHTS / RATES) @ moved


def everyone(past, here, moved, memory):
    return WEIGHTS @ moved


def mifa(past, here, moved, memory):
    memory[here] = moved[here]
    return WEIGHTS @ memory


def fedvarp(past, here, moved, memory):
    total = WEIGHTS @ memory
    if here.any():
        total = total + WEIGHTS[here] @ (moved[here] - memory[here]) / WEIGHTS[here].sum()
    memory[here] = moved[here]
    return total


METHODS = {
    "interval": (FedAU(0.1, steps=3, server=0.7), adaptive(np.inf)),
    "cut at 7": (FedAU(0.1, steps=3, server=0.7, cutoff=7), adaptive(7)),
    "cut at 1": (FedAU(0.1, steps=3, server=0.7, cutoff=1), everyone),
    "known": (InverseProbability(0.1, steps=3, server=0.7, probability=RATES), known),
    "all": (InverseProbability(0.1, steps=3, server=0.7, probability=1.0), everyone),
    "mifa": (MIFA(0.1, steps=3, server=0.7), mifa),
    "fedvarp": (FedVARP(0.1, steps=3, server=0.7), fedvarp),
}


@pytest.mark.parametrize("name", METHODS)
def test_rounds_are_those_of_the_algorithm(name, history):
    method, rule = METHODS[name]
    problem = quadratics(participation=Recorded(history), weights=WEIGHTS)
    trace = tt.run(method, problem, jnp.ones(4), steps=ROUNDS)
    expected = transcription(rule, problem, history, np.ones(4), local=0.1, server=0.7, steps=3)
    np.testing.assert_allclose(trace.x[0], expected, rtol=1e-11)


@settings(max_examples=30)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.sampled_from([1, 2, 5, np.inf]))
def test_the_recursion_is_the_mean_of_the_intervals(here, cutoff):
    intervals = ParticipationIntervals.start(1)
    for each in here:
        intervals = intervals.after(jnp.asarray([each]), cutoff)
    np.testing.assert_allclose(intervals.mean, interval_weights(np.asarray(here)[:, None], cutoff), rtol=1e-13)
    # Ended and running intervals cover all rounds, each once.
    assert float(intervals.mean[0] * intervals.count[0] + intervals.running[0]) == pytest.approx(len(here))


@pytest.mark.parametrize("cutoff", [3, np.inf])
def test_on_average_over_all_histories_it_is_the_mean_of_cut_intervals(cutoff):
    # Over all 2^10 histories of ten rounds, the expected first interval that ends within them, by its law.
    rate, rounds = 0.3, 10
    histories = np.asarray(list(np.ndindex(*[2] * rounds)), bool)
    chances = np.prod(np.where(histories, rate, 1 - rate), axis=1)
    intervals = ParticipationIntervals.start(len(histories))
    first = np.zeros(len(histories))
    for here in histories.T:
        intervals = intervals.after(jnp.asarray(here), cutoff)
        first = np.where((first == 0) & (np.asarray(intervals.count) == 1), intervals.mean, first)
    lengths = np.arange(1, rounds + 1)
    if cutoff == 3:
        assert chances @ first == pytest.approx((1 - (1 - rate) ** 3) / rate)
    else:
        assert chances @ first == pytest.approx(np.sum(lengths * rate * (1 - rate) ** (lengths - 1)))


def test_with_everybody_there_all_are_federated_averaging():
    problem = quadratics(weights=WEIGHTS)
    plain = tt.run(FedAvg(0.1, steps=3), problem, jnp.ones(4), steps=12)
    for kind in (FedAU, InverseProbability, MIFA, FedVARP):
        trace = tt.run(kind(0.1, steps=3), problem, jnp.ones(4), steps=12)
        np.testing.assert_allclose(trace.x, plain.x, rtol=1e-12)
        assert trace.final("bits_up") == plain.final("bits_up")


def test_known_probabilities_are_those_of_the_process():
    problem = quadratics(participation=Bernoulli(RATES))
    by_process = tt.run(InverseProbability(0.1), problem, jnp.ones(4), steps=12)
    by_hand = tt.run(InverseProbability(0.1, probability=RATES), problem, jnp.ones(4), steps=12)
    np.testing.assert_array_equal(by_process.x, by_hand.x)


def test_cutoffs_vary_in_one_run(history):
    problem = quadratics(participation=Recorded(history))
    grid = tt.run(FedAU(0.1), problem, jnp.ones(4), steps=ROUNDS, grid={"cutoff": [4, np.inf]})
    for place, cutoff in enumerate([4, np.inf]):
        lone = tt.run(FedAU(0.1, cutoff=cutoff), problem, jnp.ones(4), steps=ROUNDS)
        np.testing.assert_allclose(grid.x[place], lone.x, rtol=1e-12)
    assert float(jnp.abs(grid.x[0] - grid.x[1]).max()) > 1e-3


def test_fixed_points_of_the_right_and_of_the_wrong_objective():
    rates = jnp.linspace(0.1, 1.0, CLIENTS)
    problem = quadratics(participation=Bernoulli(rates))
    wrong = quadratics(weights=rates)
    record = {"x": lambda problem, state: state.x}
    tails = {}
    for name, method in {"fedau": FedAU(0.002), "all": InverseProbability(0.002, probability=1.0)}.items():
        trace = tt.run(
            method, problem, problem.minimiser, steps=20_000, seeds=4, record=record, points=range(0, 20_001, 20)
        )
        tails[name] = trace["x"].values[:, 500:].mean(axis=(0, 1))
    apart = float(jnp.linalg.norm(problem.minimiser - wrong.minimiser))
    assert np.linalg.norm(tails["fedau"] - problem.minimiser) < 0.1 * apart
    assert np.linalg.norm(tails["all"] - wrong.minimiser) < 0.1 * apart


def test_it_learns_with_optax_and_a_pytree_of_parameters():
    data = dataset("digits")
    features = data.features.shape[1]
    clients = split(data, 8, Dirichlet(0.3), seed=1)
    rates = label_dependent_rates(clients, jax.random.key(1), mean=0.3)
    problem = clients.problem(linear, batch=16, participation=Bernoulli(rates))
    method = FedAU(optax.sgd(0.1), steps=5, cutoff=50)
    trace = tt.run(method, problem, linear_parameters(features, 10), steps=60, record="accuracy", points=2)
    assert trace.final("accuracy") > 0.7
    assert trace.state.memory.mean.shape == (1, 8)


def test_rates_follow_the_classes_that_clients_hold():
    labels = np.repeat(np.arange(4), 30)
    clients = split((np.zeros((120, 1)), labels), 12, Dirichlet(0.2), seed=3)
    key = jax.random.key(5)
    preference = np.asarray(jax.random.dirichlet(key, jnp.full(4, 0.1)))
    rates = label_dependent_rates(clients, key)
    for number, rate in enumerate(rates):
        held = np.asarray(clients.targets[number, : int(clients.sizes[number])])
        shares = np.bincount(held, minlength=4) / held.size
        assert float(rate) == pytest.approx(max(0.02, 0.1 * 4 * shares @ preference))
    assert len(set(clients.sizes.tolist())) > 1  # so that there is padding to leave out
    assert float(label_dependent_rates(clients, key, mean=1.0).max()) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FedAU(0.1, cutoff=0), "cutoff"),
        (lambda: FedAU(0.1, cutoff=2.5), "cutoff: must be a whole number of rounds or infinity"),
        (lambda: FedAU(0.1, cutoff=jnp.nan), "cutoff"),
        (lambda: FedAU(0.1, steps=0), "steps"),
        (lambda: ParticipationIntervals.start(0), "clients"),
        (lambda: InverseProbability(0.1, probability=[0.5, 0.0]), "probability"),
        (lambda: tt.run(InverseProbability(0.1, probability=[0.5]), quadratics(), jnp.ones(4), steps=1), "probability"),
        (lambda: label_dependent_rates(some_clients(), jax.random.key(0), mean=0.0), "mean"),
        (lambda: label_dependent_rates(some_clients(), jax.random.key(0), lowest=2.0), "lowest"),
        (lambda: label_dependent_rates(some_clients(), jax.random.key(0), concentration=0.0), "concentration"),
        (lambda: label_dependent_rates(some_clients(columns=2), jax.random.key(0)), "clients: expected a class"),
    ],
)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def some_clients(columns=None):
    targets = np.arange(12) % 3
    labels = targets.tolist() if columns else None
    return split((np.zeros((12, 1)), np.stack([targets] * columns, 1) if columns else targets), 2, labels=labels)
