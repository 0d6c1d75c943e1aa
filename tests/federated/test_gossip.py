"""Decentralised rounds against a transcription in NumPy, their invariants, and the methods that they contain."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg

import tendsto as tt
from tendsto.federated import (
    DFedAvg,
    DFedSAM,
    FedAvg,
    FederatedQuadratic,
    Network,
    Topology,
    Uniform,
    accuracy_on,
    consensus_distance,
    each_model,
    fedsam,
    largest_curvature,
    mlp,
    mlp_parameters,
    random_quadratics,
    split,
)
from tendsto.problems import Gaussian, dataset

RING = Topology.ring(8)
RECORD = {
    "consensus": consensus_distance,
    "before": lambda problem, state: state.disagreement,
    "drift": lambda problem, state: state.drift,
    "models": lambda problem, state: state.models,
    "mean": lambda problem, state: state.x,
}


def quadratics(noise=None, **environment):
    problem = random_quadratics(jax.random.key(3), 8, 4, spread=3.0, **environment)
    return problem if noise is None else dataclasses.replace(problem, noise=Gaussian(noise))


@pytest.fixture(scope="module")
def noisy():
    return quadratics(noise=0.5)


def transcription(problem, matrices, models, *, step_size, steps, gossip_steps, radius, rounds):
    """The rounds of Algorithm 1 without noise; also how the trained models and the displacements are spread."""
    hessians, linear, turn = np.asarray(problem.hessians), np.asarray(problem.linear), 0
    for _ in range(rounds):
        trained = np.empty_like(models)
        for client, model in enumerate(models):
            y = model.copy()
            for _ in range(steps):
                slope = hessians[client] @ y - linear[client]
                y = y - step_size * (hessians[client] @ (y + radius * slope / np.linalg.norm(slope)) - linear[client])
            trained[client] = y
        spreads = [np.sum((v - v.mean(axis=0)) ** 2) / len(v) for v in (trained, trained - models)]
        models = trained
        for _ in range(gossip_steps):
            models = matrices[turn % len(matrices)] @ models
            turn += 1
    return models, spreads


@pytest.mark.parametrize("gossip_steps", [1, 2, 3])
@pytest.mark.parametrize("topology", [RING, Topology.one_peer_exponential(8)], ids=["ring", "one peer"])
def test_rounds_are_those_of_the_algorithm(topology, gossip_steps):
    problem = quadratics()
    method = DFedSAM(0.1, topology, steps=3, gossip_steps=gossip_steps, radius=0.2)
    trace = tt.run(method, problem, jnp.ones(4), steps=7, record=RECORD)
    expected, (before, drift) = transcription(
        problem, np.asarray(topology.matrices), np.ones((8, 4)),
        step_size=0.1, steps=3, gossip_steps=gossip_steps, radius=0.2, rounds=7,
    )  # fmt: skip
    np.testing.assert_allclose(trace.state.models[0], expected, rtol=1e-10)
    np.testing.assert_allclose(trace.x[0], expected.mean(axis=0), rtol=1e-10)
    assert trace.final("before") == pytest.approx(before, rel=1e-9)
    assert trace.final("drift") == pytest.approx(drift, rel=1e-9)
    spread = np.sum((expected - expected.mean(axis=0)) ** 2) / 8
    assert trace.final("consensus") == pytest.approx(spread, rel=1e-9)


def test_momentum_at_the_clients_begins_anew_in_every_round():
    problem = quadratics()
    method = DFedAvg(optax.sgd(0.05, momentum=0.8), RING, steps=3)
    trace = tt.run(method, problem, jnp.ones(4), steps=4)
    models = np.ones((8, 4))
    for _ in range(4):
        y, velocity = models.copy(), np.zeros((8, 4))
        for _ in range(3):
            gradients = np.einsum("nij,nj->ni", problem.hessians, y) - np.asarray(problem.linear)
            velocity = 0.8 * velocity + gradients
            y = y - 0.05 * velocity
        models = np.asarray(RING.matrices[0]) @ y
    np.testing.assert_allclose(trace.state.models[0], models, rtol=1e-10)


def test_without_a_radius_it_is_federated_averaging_bit_for_bit(noisy):
    sharp = tt.run(DFedSAM(0.05, RING, steps=3, radius=0.0), noisy, jnp.ones(4), steps=20)
    plain = tt.run(DFedAvg(0.05, RING, steps=3), noisy, jnp.ones(4), steps=20)
    np.testing.assert_array_equal(sharp.state.models, plain.state.models)
    assert float(sharp["gradients"][0, -1]) == 2 * float(plain["gradients"][0, -1]) == 2 * 20 * 3 * 8


def test_on_the_complete_graph_it_is_fedavg_or_fedsam_with_everyone(noisy):
    gossip = tt.run(DFedAvg(0.05, Topology.complete(8), steps=3), noisy, jnp.ones(4), steps=20)
    server = tt.run(FedAvg(0.05, steps=3), noisy, jnp.ones(4), steps=20)
    np.testing.assert_allclose(gossip.x, server.x, atol=1e-12)
    gossip = tt.run(DFedSAM(0.05, Topology.complete(8), steps=3, radius=0.2), noisy, jnp.ones(4), steps=20)
    server = tt.run(fedsam(0.05, 0.2, steps=3), noisy, jnp.ones(4), steps=20)
    np.testing.assert_allclose(gossip.x, server.x, atol=1e-12)


def test_with_one_local_step_it_is_d_psgd():
    problem = quadratics()
    models, matrix = np.ones((8, 4)), np.asarray(RING.matrices[0])
    for _ in range(15):
        gradients = np.einsum("nij,nj->ni", problem.hessians, models) - np.asarray(problem.linear)
        models = matrix @ (models - 0.1 * gradients)
    trace = tt.run(DFedAvg(0.1, RING), problem, jnp.ones(4), steps=15)
    np.testing.assert_allclose(trace.state.models[0], models, rtol=1e-11)


def test_one_client_with_a_constant_radius_ends_in_a_cycle_of_two():
    problem = FederatedQuadratic(jnp.asarray([[[2.0]]]), jnp.zeros((1, 1)))
    radii = [0.0, 0.05]
    method = DFedSAM(0.2, Topology.complete(1))
    trace = tt.run(method, problem, jnp.ones(1), steps=601, points=[600], grid={"radius": radii}, record=RECORD)
    ends = np.asarray(trace["mean"])[:, 0, -2:, 0]
    np.testing.assert_allclose(np.abs(ends), [[0.0] * 2, [0.2 * 2 * 0.05 / (2 - 0.2 * 2)] * 2], atol=1e-12)
    assert ends[1, 0] == pytest.approx(-ends[1, 1])


def test_the_mean_stays_and_disagreement_shrinks_by_the_power_of_the_mixing(noisy):
    method = DFedSAM(0.05, RING, steps=2, radius=0.1)
    grid = {"gossip_steps": [1, 2, 4]}
    trace = tt.run(method, noisy, jnp.ones(4), steps=60, points=range(60), grid=grid, record=RECORD)
    np.testing.assert_allclose(trace["mean"], trace["models"].mean("models_0"), atol=1e-13)
    ends = []
    for steps in grid["gossip_steps"]:
        one = trace.sel(gossip_steps=steps)
        after, before, drift = (np.sqrt(np.asarray(one[name])[0, 1:]) for name in ("consensus", "before", "drift"))
        factor = RING.mixing**steps
        assert (after <= factor * before * (1 + 1e-10)).all()
        assert after.max() <= factor / (1 - factor) * drift.max()
        ends.append(after[20:].mean())
    assert ends[0] > ends[1] > ends[2] > 0


def test_equal_clients_without_noise_never_disagree():
    problem = quadratics()
    same = FederatedQuadratic(jnp.tile(problem.hessians[:1], (8, 1, 1)), jnp.tile(problem.linear[:1], (8, 1)))
    trace = tt.run(DFedSAM(0.05, RING, steps=3), same, jnp.ones(4), steps=50, record=RECORD)
    assert float(trace["consensus"].max()) < 1e-28


def test_bits_and_seconds_count_neighbours_and_gossip_steps():
    star = np.zeros((8, 8))
    star[0, 1:] = star[1:, 0] = 1.0
    network = Network(upload=100.0, download=200.0)
    problem = quadratics(network=network)
    method = DFedAvg(0.05, Topology.metropolis(star), gossip_steps=3)
    trace = tt.run(method, problem, jnp.ones(4), steps=2, record=RECORD)
    sent = 2 * 3 * 14 * 4 * 64  # rounds, gossip steps, directed links, numbers, bits
    assert trace.final("bits_up") == trace.final("bits_down") == sent
    hub = 2 * 3 * 7 * 4 * 64
    assert trace.final("seconds") == pytest.approx(hub / 100.0 + hub / 200.0)
    assert trace.final("rounds") == 2
    matchings = DFedAvg(0.05, Topology.one_peer_exponential(8), gossip_steps=2)
    assert tt.run(matchings, problem, jnp.ones(4), steps=3).final("bits_up") == 3 * 2 * 8 * 4 * 64


def test_random_matchings_are_fresh_and_doubly_stochastic():
    topology = Topology.random_matchings(9, 3, period=5, seed=1)
    matrices = np.asarray(topology.matrices)
    assert matrices.shape == (5, 9, 9)
    assert np.abs(matrices[0] - matrices[1]).max() > 0
    assert set(np.unique(np.rint(matrices * 4))) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert (np.asarray(topology.degrees(2)) <= 3).all()
    assert 0 < topology.mixing < 1
    np.testing.assert_array_equal(matrices, Topology.random_matchings(9, 3, period=5, seed=1).matrices)
    even = np.asarray(Topology.random_matchings(8, 1, period=20).matrices)
    assert (np.einsum("tii->ti", even) == 0.5).all()


def test_the_theorems_parameters():
    problem = quadratics()
    method = DFedSAM.theory(problem, RING, rounds=10_000, steps=4, gossip_steps=2)
    largest = max(np.linalg.eigvalsh(hessian)[-1] for hessian in np.asarray(problem.hessians))
    assert float(method.local.step_size) == pytest.approx(1 / (largest * 200.0))
    assert float(method.radius) == pytest.approx(0.01)
    assert (method.steps, int(method.gossip_steps)) == (4, 2)
    few = DFedSAM.theory(problem, RING, rounds=10, steps=4)
    assert float(few.local.step_size) == pytest.approx(1 / (40 * largest))


def test_every_clients_own_model_is_measured():
    images, labels = dataset("digits")
    clients = split((images[:400], labels[:400]), 8)
    problem = clients.problem(mlp, batch=8)
    accuracy = accuracy_on((images[400:500], labels[400:500]))
    start = mlp_parameters(jax.random.key(0), (images.shape[1], 5, 10))
    trace = tt.run(
        DFedSAM(0.5, RING, steps=4, radius=0.05), problem, start, steps=10,
        record={"mean": accuracy, "own": each_model(accuracy)}, points=1,
    )  # fmt: skip
    own = np.asarray(trace["own"])[0, -1]
    assert own.shape == (8,)
    assert len(set(own.tolist())) > 1
    models = jax.tree.map(lambda leaf: leaf[0, 3], trace.state.models)
    scores = np.asarray(mlp(models, jnp.asarray(images[400:500])))
    assert own[3] == pytest.approx(np.mean(scores.argmax(axis=1) == labels[400:500]))
    assert float(trace.final("mean")[0]) > 0.2


def test_the_largest_curvature_is_the_largest_eigenvalue():
    matrix = scipy.linalg.hilbert(6) - np.eye(6)
    value = largest_curvature(lambda x: 0.5 * x["a"] @ jnp.asarray(matrix) @ x["a"], {"a": jnp.ones(6)})
    assert value == pytest.approx(np.linalg.eigvalsh(matrix)[-1], rel=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: DFedAvg(0.1, RING, steps=0), ValueError, "steps"),
        (lambda: DFedAvg(0.1, RING, gossip_steps=0), ValueError, "gossip_steps"),
        (lambda: DFedAvg(0.1, RING, gossip_steps=1.5), TypeError, "gossip_steps: expected an integer"),
        (lambda: DFedSAM(0.1, RING, radius=-1.0), ValueError, "radius"),
        (lambda: DFedSAM.theory(quadratics(), RING, rounds=0), ValueError, "rounds"),
        (lambda: tt.run(DFedAvg(0.1, Topology.ring(5)), quadratics(), jnp.ones(4), steps=1), ValueError, "topology"),
        (
            lambda: tt.run(DFedAvg(0.1, RING), quadratics(participation=Uniform(3)), jnp.ones(4), steps=1),
            ValueError,
            "participation: without a server",
        ),
        (lambda: Topology.random_matchings(4, 0), ValueError, "partners"),
    ],
)
def test_bad_input_names_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
