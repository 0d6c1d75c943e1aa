"""FedSpeed against a transcription in NumPy, its identities, and the methods that are cases of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.federated import (
    FedAvg,
    FederatedQuadratic,
    FedSpeed,
    Recorded,
    Uniform,
    feddyn,
    fedprox,
    fedsam,
    random_quadratics,
)

LOCAL, STEPS, PENALTY, RADIUS = 0.05, 4, 0.5, 0.1


def quadratics(**environment):
    return random_quadratics(jax.random.key(3), 6, 4, spread=3.0, **environment)


def corrections(problem, state):
    return state.memory


def iterate(problem, state):
    return state.x


def transcription(problem, history, x, *, weight, normalise, correction, server, weights):
    """Iterates, corrections and the quasi-gradients of each round."""
    hessians, linear = np.asarray(problem.hessians), np.asarray(problem.linear)
    kept, shares, quasi = np.zeros((len(hessians), x.size)), weights / weights.sum(), []
    for here in history:
        moved, active, taken = np.zeros_like(x), np.zeros_like(x), np.zeros((len(hessians), STEPS, x.size))
        for client in np.flatnonzero(here):
            y = x
            for step in range(STEPS):
                one = hessians[client] @ y - linear[client]
                uphill = y + RADIUS * (one / np.linalg.norm(one) if normalise else one)
                other = hessians[client] @ uphill - linear[client]
                taken[client, step] = (1 - weight) * one + weight * other
                y = y - LOCAL * (taken[client, step] - kept[client] + (y - x) / PENALTY)
            kept[client] = kept[client] - (y - x) / PENALTY
            moved += shares[client] / shares[here].sum() * (y - x)
            active += shares[client] / shares[here].sum() * kept[client]
        quasi.append(taken)
        if here.any():
            x = x + server * (moved - PENALTY * (shares @ kept if correction == "all" else active))
    return x, kept, np.asarray(quasi)


@pytest.mark.parametrize("correction", ["all", "active"])
@pytest.mark.parametrize(("weight", "normalise"), [(1.0, True), (0.4, False)], ids=["normalised", "raw"])
def test_rounds_are_those_of_the_algorithm(correction, weight, normalise):
    history = np.random.default_rng(0).random((15, 6)) < 0.5
    history[4] = False
    weights = np.asarray([1.0, 2.0, 3.0, 1.0, 1.0, 4.0])
    problem = quadratics(participation=Recorded(history), weights=weights)
    method = FedSpeed(
        LOCAL,
        STEPS,
        0.7,
        PENALTY,
        ascent_radius=RADIUS,
        ascent_weight=weight,
        normalise_ascent=normalise,
        correction=correction,
    )
    trace = tt.run(method, problem, jnp.ones(4), steps=15)
    options = {"weight": weight, "normalise": normalise, "correction": correction, "server": 0.7, "weights": weights}
    x, kept, _ = transcription(problem, history, np.ones(4), **options)
    np.testing.assert_allclose(trace.x[0], x, rtol=1e-9)
    np.testing.assert_allclose(trace.state.memory[0], kept, rtol=1e-9, atol=1e-11)
    assert trace.final("gradients") == 2 * STEPS * history.sum()
    assert trace.final("bits_up") == trace.final("bits_down") == history.sum() * 256


def test_corrections_are_exponential_averages_of_quasi_gradients():
    problem = quadratics()
    method = FedSpeed(LOCAL, STEPS, 1.0, PENALTY, ascent_radius=RADIUS, normalise_ascent=False)
    record = {"kept": corrections, "x": iterate}
    trace = tt.run(method, problem, jnp.ones(4), steps=6, record=record, points=range(6))
    kept, x = (trace[name].values[0] for name in ("kept", "x"))
    options = {"weight": 1.0, "normalise": False, "correction": "all", "server": 1.0, "weights": np.ones(6)}
    _, _, quasi = transcription(problem, np.ones((6, 6), bool), np.ones(4), **options)
    ratio = LOCAL / PENALTY
    factors = ratio * (1 - ratio) ** np.arange(STEPS)[::-1]
    expected = (1 - factors.sum()) * kept[:-1] + np.einsum("k,tnkd->tnd", factors, quasi)
    np.testing.assert_allclose(kept[1:], expected, atol=1e-12)
    np.testing.assert_allclose(np.diff(x, axis=0), PENALTY * (kept[:-1] - 2 * kept[1:]).mean(axis=1), atol=1e-12)


def test_long_intervals_are_douglas_rachford_splitting():
    problem = quadratics()
    trace = tt.run(
        feddyn(0.1, PENALTY, steps=400), problem, jnp.ones(4), steps=8, record={"x": iterate}, points=range(8)
    )
    hessians, linear = np.asarray(problem.hessians), np.asarray(problem.linear)
    z = np.ones((6, 4))
    for x in trace["x"].values[0, 1:]:
        proximal = np.linalg.solve(hessians + np.eye(4) / PENALTY, (z / PENALTY + linear)[..., None])[..., 0]
        reflected = 2 * proximal - z
        np.testing.assert_allclose(x, reflected.mean(axis=0), atol=1e-10)
        z = z / 2 - reflected / 2 + reflected.mean(axis=0)


def test_without_proximal_term_and_correction_it_is_federated_averaging():
    problem = quadratics(participation=Uniform(3), noise=1.0)
    averaging = tt.run(FedAvg(0.05, steps=3), problem, jnp.ones(4), steps=10)
    same = tt.run(fedprox(0.05, np.inf, steps=3), problem, jnp.ones(4), steps=10)
    np.testing.assert_array_equal(same.x, averaging.x)
    assert same.final("gradients") == averaging.final("gradients")


def test_fedprox_steps_on_the_penalised_function():
    problem = quadratics()
    trace = tt.run(fedprox(LOCAL, PENALTY, steps=STEPS), problem, jnp.ones(4), steps=5)
    hessians, linear = np.asarray(problem.hessians), np.asarray(problem.linear)
    x = np.ones(4)
    for _ in range(5):
        y = np.tile(x, (6, 1))
        for _ in range(STEPS):
            y = y - LOCAL * (np.einsum("nij,nj->ni", hessians, y) - linear + (y - x) / PENALTY)
        x = y.mean(axis=0)
    np.testing.assert_allclose(trace.x[0], x, rtol=1e-12)
    assert trace.state.memory is None


def test_fedsam_is_averaging_of_gradients_uphill():
    hessians, linear = jnp.asarray([[[2.0]], [[1.0]]]), jnp.asarray([[1.0], [3.0]])
    trace = tt.run(fedsam(0.1, 0.25), FederatedQuadratic(hessians, linear), jnp.asarray([5.0]), steps=1)
    # Gradients 9 and 2; a quarter of a step further up they are 9.5 and 2.25.
    assert float(trace.x[0, 0]) == pytest.approx(5.0 - 0.1 * (9.5 + 2.25) / 2)
    assert trace.final("gradients") == 4


def test_without_ascent_it_is_feddyn():
    problem = quadratics(participation=Uniform(3))
    plain = tt.run(feddyn(LOCAL, PENALTY, steps=3), problem, jnp.ones(4), steps=10)
    grid = {"ascent_weight": [0.0, 1.0], "ascent_radius": [0.0, 0.1]}
    mixed = tt.run(FedSpeed(LOCAL, 3, penalty=PENALTY), problem, jnp.ones(4), steps=10, grid=grid)
    for place in range(3):
        np.testing.assert_allclose(mixed.x[place], plain.x, rtol=1e-12)
    assert float(jnp.abs(mixed.x[3] - plain.x).max()) > 1e-4


def test_it_finds_the_minimiser_with_some_clients_if_all_corrections_are_averaged():
    problem = quadratics(participation=Uniform(2))
    options = {"steps": 1500, "record": "distance"}
    everyone = tt.run(feddyn(LOCAL, PENALTY, steps=8), problem, jnp.ones(4), **options)
    active = tt.run(
        FedSpeed(LOCAL, 8, penalty=PENALTY, ascent_radius=None, correction="active"), problem, jnp.ones(4), **options
    )
    assert everyone.final("distance") < 1e-10
    assert active.final("distance") > 0.1


def test_an_optimiser_of_optax_serves_at_the_clients():
    problem = quadratics()
    plain = tt.run(FedSpeed(LOCAL, 3, penalty=PENALTY), problem, jnp.ones(4), steps=5)
    same = tt.run(FedSpeed(optax.sgd(LOCAL), 3, penalty=PENALTY), problem, jnp.ones(4), steps=5)
    np.testing.assert_allclose(same.x, plain.x, rtol=1e-12)


def test_local_steps_diverge_beyond_twice_the_penalty():
    trace = tt.run(feddyn(0.05, 0.02, steps=50), quadratics(), jnp.ones(4), steps=100)
    assert bool(trace.diverged.all())


def test_an_absent_client_s_nan_does_not_leak():
    hessians = jnp.asarray([[[1.0]], [[1e308]]])
    history = np.asarray([[True, False]])
    problem = FederatedQuadratic(hessians, jnp.asarray([[1.0], [1e308]]), participation=Recorded(history))
    trace = tt.run(FedSpeed(0.1, 40, penalty=PENALTY), problem, jnp.asarray([1.0]), steps=10)
    assert bool(trace["finite"].all())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FedSpeed(0.1, penalty=0.0), ValueError, "penalty"),
        (lambda: FedSpeed(0.1, penalty=np.inf), ValueError, "penalty"),
        (lambda: FedSpeed(0.1, ascent_radius=-1.0), ValueError, "ascent_radius"),
        (lambda: FedSpeed(0.1, ascent_weight=2.0), ValueError, "ascent_weight"),
        (lambda: FedSpeed(0.1, correction="paper"), (ValueError, TypeError), "correction"),
        (lambda: FedSpeed(0.1, steps=0), ValueError, "steps"),
        (lambda: FedSpeed("fast"), TypeError, "optimizer"),
    ],
)
def test_bad_input_names_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
