"""Gossip matrices: known spectra, and what is refused."""

import jax.numpy as jnp
import networkx
import numpy as np
import pytest

from tendsto.federated import Topology


@pytest.mark.parametrize(
    ("topology", "mixing"),
    [
        (Topology.ring(16), (1 + 2 * np.cos(np.pi / 8)) / 3),
        (Topology.ring(100), (1 + 2 * np.cos(np.pi / 50)) / 3),
        (Topology.torus(4, 4), 0.6),
        (Topology.torus(10, 10), (3 + 2 * np.cos(np.pi / 5)) / 5),
        (Topology.complete(7), 0.0),
        (Topology.one_peer_exponential(8), 0.0),
    ],
    ids=["ring 16", "ring 100", "torus 4", "torus 10", "complete", "one peer"],
)
def test_mixing_is_that_of_the_closed_form(topology, mixing):
    assert topology.mixing == pytest.approx(mixing, abs=1e-12)
    assert topology.spectral_gap == pytest.approx(1 - mixing, abs=1e-12)


def test_degrees():
    assert float(Topology.ring(9).degree) == 2
    assert float(Topology.torus(3, 5).degree) == 4
    assert float(Topology.exponential(16).degree) == 7  # 1, 2, 4 both ways, and 8
    assert float(Topology.complete(6).degree) == 5
    assert float(Topology.one_peer_exponential(16).degree) == 1


def test_metropolis_weights_on_a_star_and_a_random_graph():
    star = networkx.star_graph(3)
    weights = np.asarray(Topology.metropolis(networkx.to_numpy_array(star)).matrices[0])
    expected = np.full((4, 4), 0.0)
    expected[0, 1:] = expected[1:, 0] = 0.25
    np.fill_diagonal(expected, [0.25, 0.75, 0.75, 0.75])
    np.testing.assert_allclose(weights, expected)
    graph = networkx.connected_watts_strogatz_graph(20, 4, 0.3, seed=1)
    topology = Topology.metropolis(networkx.to_numpy_array(graph))
    values = np.linalg.eigvalsh(np.asarray(topology.matrices[0]))
    assert topology.mixing == pytest.approx(max(abs(values[0]), values[-2]))
    assert 0 < topology.mixing < 1


def test_gossip_keeps_the_mean_and_shrinks_disagreement_by_the_mixing():
    topology = Topology.ring(12)
    values, vectors = np.linalg.eigh(np.asarray(topology.matrices[0]))
    slowest = vectors[:, np.argsort(np.abs(values))[-2]]
    rows = {"x": jnp.asarray(3.0 + np.outer(slowest, [1.0, -2.0]))}
    after = topology.gossip(rows)["x"]
    np.testing.assert_allclose(after.mean(axis=0), rows["x"].mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(after - 3.0, values[np.argsort(np.abs(values))[-2]] * (rows["x"] - 3.0), atol=1e-14)


def test_matrices_take_turns():
    topology = Topology.one_peer_exponential(4)
    rows = jnp.asarray([1.0, 2.0, 3.0, 4.0])
    first = topology.gossip(rows, 0)
    np.testing.assert_array_equal(first, [1.5, 1.5, 3.5, 3.5])
    np.testing.assert_array_equal(topology.gossip(first, 1), [2.5] * 4)
    np.testing.assert_array_equal(topology.gossip(rows, 2), first)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((2, 3)) / 3, "expected shape"),
        (np.eye(3) * 0.9, "each row must sum to one"),
        (np.asarray([[1.5, -0.5], [-0.5, 1.5]]), "must lie in"),
        (np.asarray([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]), "must be symmetric"),
        (np.eye(3), "disconnected"),
    ],
    ids=["not square", "not stochastic", "negative", "not symmetric", "disconnected"],
)
def test_what_is_no_gossip_matrix_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        Topology(matrix)


def test_makers_refuse_too_few_clients():
    for make in (lambda: Topology.ring(2), lambda: Topology.torus(2, 3), lambda: Topology.one_peer_exponential(6)):
        with pytest.raises(ValueError, match="must"):
            make()
    with pytest.raises(ValueError, match="adjacency: expected a symmetric matrix"):
        Topology.metropolis(np.triu(np.ones((3, 3))))
