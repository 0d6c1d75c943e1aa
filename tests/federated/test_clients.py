"""Padded samples of clients behave as the samples do, in whatever way they are dealt out and computed."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

import tendsto as tt
from tendsto.federated import (
    Bernoulli,
    ByQuantity,
    Cohort,
    Dirichlet,
    FedAvg,
    Network,
    Uniform,
    accuracy_on,
    cnn,
    cnn_parameters,
    linear,
    linear_parameters,
    mlp,
    mlp_parameters,
    split,
)
from tendsto.iteration import Cost, State
from tendsto.problems import LogisticRegression, dataset

DIGITS = dataset("digits")


def squared(predictions, targets):
    return 0.5 * (predictions - targets) ** 2


def line(parameters, features):
    return features @ parameters


@pytest.fixture(scope="module")
def unequal():
    return split(DIGITS, 12, ByQuantity(0.5, fewest=3), seed=1)


def of_client(clients, number):
    size = int(clients.sizes[number])
    return clients.features[number, :size], clients.targets[number, :size]


def test_padding_is_never_read(unequal):
    parameters = mlp_parameters(jax.random.key(0), (DIGITS.features.shape[1], 8, 10))
    problem = unequal.problem(mlp, batch=5)
    assert len(set(unequal.sizes.tolist())) > 3
    scores = np.asarray(jax.jit(jax.vmap(mlp, (None, 0)))(parameters, unequal.features))
    for number, loss in enumerate(eqx.filter_jit(problem.client_losses)(parameters)):
        own = scores[number, : unequal.sizes[number]]
        _, targets = of_client(unequal, number)
        expected = np.mean(scipy.special.logsumexp(own, axis=1) - own[np.arange(len(own)), np.asarray(targets)])
        assert float(loss) == pytest.approx(expected, rel=1e-12)
    smallest = int(np.argmin(unequal.sizes))
    few = jax.tree.map(lambda leaf: leaf[smallest], unequal)
    keys = jax.random.split(jax.random.key(1), 40)
    drawn, _ = jax.jit(jax.vmap(lambda key: problem.draw(few, key, 5)))(keys)
    rows = {tuple(row) for row in np.asarray(drawn).reshape(200, -1)}
    assert rows == {tuple(row) for row in np.asarray(of_client(unequal, smallest)[0])}


def test_weights_by_size_give_the_mean_over_all_samples(unequal):
    labels = (DIGITS.targets > 4).astype(int)
    clients = split((DIGITS.features, labels), 12, ByQuantity(0.5, fewest=3), seed=1)
    x = jnp.asarray(np.random.default_rng(0).normal(size=DIGITS.features.shape[1])) / 10
    problem = clients.problem(line, lambda z, y: jax.nn.softplus(jnp.where(y == 1, -z, z)), weights=clients.by_size)
    pooled = LogisticRegression(DIGITS.features, labels)
    assert float(problem.objective(x)) == pytest.approx(float(pooled.objective(x)), rel=1e-12)
    np.testing.assert_allclose(problem.gradient(x), pooled.gradient(x), rtol=1e-10)
    assert problem.gradient_cost == len(labels)


def test_stochastic_gradients_are_unbiased(unequal):
    problem = unequal.problem(linear, batch=4)
    x = linear_parameters(DIGITS.features.shape[1], 10)
    keys = jax.random.split(jax.random.key(0), 4000)
    sample = jax.jit(jax.vmap(lambda key: problem.stochastic_gradient(x, key)["bias"]))(keys)
    error = np.asarray(sample).std(axis=0) / np.sqrt(4000)
    assert (np.abs(sample.mean(axis=0) - problem.gradient(x)["bias"]) <= 4.5 * error).all()


@pytest.mark.parametrize("participation", [None, Uniform(4), Bernoulli(0.4)], ids=["all", "uniform", "bernoulli"])
def test_blocks_change_nothing_but_the_memory(unequal, participation):
    x = linear_parameters(DIGITS.features.shape[1], 10)
    whole, blocks = (
        tt.run(
            FedAvg(0.1, steps=2),
            unequal.problem(linear, batch=4, participation=participation, block=block),
            x,
            steps=5,
            record=(),
        )
        for block in (None, 5)
    )
    np.testing.assert_allclose(blocks.x["weights"], whole.x["weights"], rtol=1e-10, atol=1e-14)


def test_a_listed_cohort_draws_the_same_batches_as_a_marked_one(unequal):
    problem = unequal.problem(linear, batch=4)
    x = linear_parameters(DIGITS.features.shape[1], 10)
    keys = jax.random.split(jax.random.key(0), 12)

    @jax.jit
    def gradients(cohort):
        return problem.map(
            lambda data, key: problem.client_stochastic_gradient(data, x, key), cohort.take(keys), cohort=cohort
        )["weights"]

    listed = gradients(Cohort(jnp.ones(3, bool), jnp.asarray([2, 5, 11])))
    np.testing.assert_array_equal(listed, gradients(Cohort.everyone(12))[jnp.asarray([2, 5, 11])])


def test_accuracy_counts_samples_once(unequal):
    trained = tt.run(FedAvg(0.5), unequal.problem(linear), linear_parameters(DIGITS.features.shape[1], 10), steps=30).x
    parameters = jax.tree.map(lambda leaf: leaf[0], trained)
    problem = unequal.problem(linear)
    scores = np.asarray(linear(parameters, jnp.asarray(DIGITS.features)))
    right = float(np.mean(np.argmax(scores, axis=1) == DIGITS.targets))
    assert 0.5 < right < 1
    assert float(problem.accuracy(parameters)) == pytest.approx(right, abs=1e-12)
    state = State(x=parameters, cost=Cost())
    assert float(accuracy_on(DIGITS)(problem, state)) == pytest.approx(right, abs=1e-12)


def test_a_small_convolutional_network_learns():
    images = DIGITS_IMAGES[:300].reshape(300, 8, 8, 1) / 16
    clients = split((images, TARGETS[:300]), 5, Dirichlet(1.0))
    parameters = cnn_parameters(jax.random.key(0), (8, 8, 1), 10, channels=4, width=16)
    trace = tt.run(
        FedAvg(optax.adam(1e-2), steps=5), clients.problem(cnn, batch=20), parameters, steps=30, record=["accuracy"]
    )
    assert trace["accuracy"].values[0, 0] < 0.3 < 0.7 < trace.final("accuracy")[0]


DIGITS_IMAGES, TARGETS = dataset("digits", standardise=False)


def test_rounds_last_as_long_as_their_slowest_member():
    network = Network(latency=1.0, download=10.0, upload=[2.0, 4.0, 8.0], compute=[0.5, 0.0, 3.0])
    cohort = Cohort(jnp.asarray([True, True, False]))
    # 1 + 20/10 + 3 * 0.5 + 6/2 = 7.5; the third, absent, would need longer.
    assert float(network.seconds(3, cohort, 3.0, 6.0, 20.0)) == pytest.approx(7.5)
    assert float(network.seconds(3, Cohort(jnp.zeros(3, bool)), 3.0, 6.0, 20.0)) == 0.0
    with pytest.raises(ValueError, match="upload"):
        Network(upload=0.0)


def test_what_is_spent_is_counted(unequal):
    network = Network(upload=1e6)
    problem = unequal.problem(linear, batch=4, participation=Uniform(5), network=network)
    x = linear_parameters(DIGITS.features.shape[1], 10)
    trace = tt.run(FedAvg(0.1, steps=3), problem, x, steps=7)
    size = 64 * (x["weights"].size + x["bias"].size)
    assert trace.final("gradients") == 7 * 5 * 3 * 4
    assert trace.final("bits_up") == trace.final("bits_down") == 7 * 5 * size
    assert trace.final("rounds") == 7
    assert trace.final("seconds") == pytest.approx(7 * size / 1e6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split(DIGITS, 0), "clients"),
        (lambda: split((np.ones((3, 2)), np.ones(2)), 2), "data: 3 rows of features, but 2 targets"),
        (lambda: split((np.full((3, 2), np.nan), np.ones(3)), 2), "features"),
        (lambda: split(DIGITS, 5, labels=[1, 2]), "labels: expected one for each"),
        (lambda: split(DIGITS, 5).problem(linear, batch=0), "batch"),
        (lambda: split(DIGITS, 5).problem(linear, weights=[1.0, 2.0]), "weights: expected one for each of 5"),
        (lambda: split(DIGITS, 5).problem(linear, weights=[0.0] * 5), "weights: must not all be zero"),
        (lambda: split(DIGITS, 5).problem(linear, participation=Uniform(6)), "size"),
        (lambda: split(DIGITS, 5).problem(linear, block=0), "block"),
        (lambda: mlp_parameters(jax.random.key(0), (3,)), "widths"),
    ],
)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_clients_spread_over_devices_give_the_same_result():
    # The number of devices is fixed when JAX starts, so another process has two.
    code = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
import tendsto as tt
from jax.sharding import Mesh
problem = tt.federated.random_quadratics(jax.random.key(0), 8, 3)
mesh = Mesh(np.asarray(jax.devices()), ("clients",))
spread = problem.sharded(mesh)
assert len(spread.hessians.sharding.device_set) == 2 and not spread.hessians.sharding.is_fully_replicated
method = tt.federated.EF21.theory(problem, tt.federated.TopK(1), jnp.zeros(3))
one, two = (tt.run(method, each, jnp.zeros(3), steps=50, record=["gap"]) for each in (problem, spread))
np.testing.assert_allclose(two.x, one.x, rtol=1e-12)
try:
    tt.federated.random_quadratics(jax.random.key(0), 7, 3).sharded(mesh)
except ValueError as error:
    assert "mesh: 7 clients" in str(error)
else:
    raise AssertionError
"""
    environment = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PATH": "",
        "PYTHONPATH": ":".join(sys.path),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
