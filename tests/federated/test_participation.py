"""Cohorts: who is there how often, and what is taken from and put back into the memory of all clients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tendsto.federated import Bernoulli, Cohort, Cyclic, Everyone, Markov, Recorded, Uniform

RATES = jnp.asarray([0.05, 0.2, 0.5, 0.9, 1.0])
PROCESSES = {
    "everyone": Everyone(),
    "uniform": Uniform(2),
    "bernoulli": Bernoulli(RATES),
    "markov": Markov(RATES),
    "cyclic": Cyclic(RATES, period=20),
    "recorded": Recorded(np.eye(5, dtype=bool)[[0, 1, 1, 2, 3, 4]]),
}


def history(process, rounds, clients=5, seed=0):
    key = jax.random.key(seed)

    def step(state, key):
        cohort, state = process.sample(state, clients, key)
        return state, cohort.mask(clients)

    start = process.init(clients, jax.random.fold_in(key, 1))
    return np.asarray(jax.lax.scan(step, start, jax.random.split(key, rounds))[1])


@pytest.mark.parametrize("name", PROCESSES)
def test_shares_of_rounds_are_the_probabilities(name):
    process = PROCESSES[name]
    shares = history(process, 6000).mean(axis=0)
    expected = np.asarray(process.probabilities(5))
    # A Markov chain's sample mean varies (1 + r)/(1 - r) times as much, r its correlation from round to round.
    correlation = 1 - 0.05 / (1 - np.minimum(expected, 0.99)) if name == "markov" else 0.0
    variance = expected * (1 - expected) * (1 + correlation) / (1 - correlation) / 6000
    assert (np.abs(shares - expected) <= 4 * np.sqrt(variance) + 2e-2 * (name == "cyclic")).all()


def test_uniform_cohorts_have_their_size_and_all_pairs_are_equally_likely():
    masks = history(Uniform(2), 10_000)
    assert set(masks.sum(axis=1)) == {2}
    pairs = np.asarray([masks[:, i] & masks[:, j] for i in range(5) for j in range(i)]).mean(axis=1)
    assert np.abs(pairs - 0.1).max() < 4 * np.sqrt(0.09 / 10_000)


def test_bernoulli_rounds_are_independent_and_markov_rounds_are_not():
    def correlation(process):
        here = history(process, 20_000)[:, 1].astype(float)
        return np.corrcoef(here[1:], here[:-1])[0, 1]

    # Of the chain: 1 - a - a(1/p - 1) = 1 - a/p.
    assert abs(correlation(PROCESSES["bernoulli"])) < 0.03
    assert correlation(PROCESSES["markov"]) == pytest.approx(1 - 0.05 / 0.2, abs=0.03)


def test_a_rare_markov_client_leaves_at_once():
    # With p = 0.02 the chance to fall asleep, 0.05 * 49, would exceed one.
    here = history(Markov(0.02), 50_000, clients=1)[:, 0]
    assert not (here[1:] & here[:-1]).any()
    assert here.mean() == pytest.approx(0.02, abs=0.004)


def test_cyclic_clients_come_in_runs_of_the_stated_length():
    here = history(Cyclic(jnp.asarray([0.25, 0.25, 0.25, 0.25, 0.25]), period=20), 400)
    for client in here.T:
        changes = np.flatnonzero(np.diff(client.astype(int)))
        runs = np.diff(changes)
        assert set(runs) == {5, 15}
        assert not client[0]
    assert len({tuple(client) for client in here.T}) > 1


def test_a_recorded_history_is_played_in_turns(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("first,second\n1,0\n0,1\n1,1\n")
    np.testing.assert_array_equal(
        history(Recorded.from_csv(str(path)), 5, clients=2), [[1, 0], [0, 1], [1, 1], [1, 0], [0, 1]]
    )
    path.write_text("first,second\n1,2\n")
    with pytest.raises(ValueError, match="must hold only 0 and 1"):
        Recorded.from_csv(str(path))


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (Uniform(6), "size: must lie in"),
        (Bernoulli(jnp.ones(4)), "probability: expected a number or one for each of 5 clients"),
        (Markov(jnp.ones(4)), "probability"),
        (Cyclic(jnp.ones(4)), "probability"),
        (Recorded(np.ones((3, 4))), "history: expected 5 columns"),
    ],
)
def test_what_does_not_fit_the_clients_is_an_error(process, message):
    with pytest.raises(ValueError, match=message):
        process.check(5)


@pytest.mark.parametrize("make", [Bernoulli, Markov, Cyclic])
def test_probabilities_are_positive_and_at_most_one(make):
    for bad in (0.0, 1.5, jnp.nan):
        with pytest.raises(ValueError, match="probability"):
            make(bad)


def by_mask(mask):
    return Cohort(jnp.asarray(mask, bool))


def by_number(indices, active):
    return Cohort(jnp.asarray(active), jnp.asarray(indices))


def test_listed_and_marked_cohorts_do_the_same():
    memory = {"a": jnp.arange(15.0).reshape(5, 3), "b": jnp.arange(5.0)}
    marked, listed = by_mask([0, 1, 0, 1, 0]), by_number([1, 3, 4], [True, True, False])
    for cohort in (marked, listed):
        rows = jax.tree.map(lambda leaf: leaf + 100, cohort.take(memory))
        after = cohort.put(memory, rows)
        expected = jax.tree.map(lambda leaf: leaf.at[jnp.asarray([1, 3])].add(100), memory)
        assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), after, expected))
        assert int(cohort.size) == 2
        np.testing.assert_array_equal(cohort.mask(5), [0, 1, 0, 1, 0])


def test_absent_members_never_count_whatever_they_hold():
    cohort = by_number([0, 2], [True, False])
    rows = jnp.asarray([[1.0, 2.0], [jnp.nan, jnp.inf]])
    np.testing.assert_array_equal(cohort.weighted_sum(jnp.asarray([2.0, 5.0]), rows), [2.0, 4.0])
    np.testing.assert_array_equal(cohort.put(jnp.zeros((3, 2)), rows), [[1, 2], [0, 0], [0, 0]])
