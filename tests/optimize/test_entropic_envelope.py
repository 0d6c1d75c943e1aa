"""The envelope against integrals by SciPy, closed forms on quadratics and the limits that define it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

import tendsto as tt
from tendsto.optimize import ConsensusHopping, EntropicEnvelope, Optax
from tendsto.problems import Objective, Rastrigin

HESSIAN, LINEAR = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([1.0, -1.0])


def quadratic(x):
    return 0.5 * x @ HESSIAN @ x - LINEAR @ x


def absolute(x):
    return jnp.abs(x).sum()


@pytest.mark.parametrize(("x", "inverse_temperature", "spread"), [(1.3, 2.0, 0.3), (-0.4, 5.0, 0.5)])
def test_value_and_consensus_are_integrals(x, inverse_temperature, spread):
    envelope = EntropicEnvelope.quadrature(Rastrigin([0.0]), inverse_temperature, spread)

    def weight(z, power):
        y = x + spread * z
        energy = y**2 + 2.5 * (1 - np.cos(2 * np.pi * y))
        return y**power * np.exp(-inverse_temperature * energy - z**2 / 2) / np.sqrt(2 * np.pi)

    mass, moment = (integrate.quad(weight, -12, 12, (power,), limit=500, epsabs=1e-13)[0] for power in (0, 1))
    point = jnp.array([x])
    assert float(envelope.objective(point)) == pytest.approx(-np.log(mass) / inverse_temperature, rel=1e-9)
    assert float(envelope.proximal_step(point)[0]) == pytest.approx(moment / mass, rel=1e-9)
    # Tweedie's formula, with the step size αs².
    step = point - inverse_temperature * spread**2 * envelope.gradient(point)
    np.testing.assert_allclose(envelope.proximal_step(point), step, atol=1e-11)


def test_on_a_quadratic_the_step_is_proximal_and_the_value_known():
    inverse_temperature, spread, x = 5.0, 0.4, jnp.array([3.0, -2.0])
    tau = inverse_temperature * spread**2
    envelope = EntropicEnvelope.quadrature(Objective(quadratic), inverse_temperature, spread, dimension=2, nodes=401)
    proximal = np.linalg.solve(np.eye(2) + tau * HESSIAN, x + tau * LINEAR)
    np.testing.assert_allclose(envelope.proximal_step(x), proximal, rtol=1e-9)
    moreau = quadratic(proximal) + np.sum((x - proximal) ** 2) / (2 * tau)
    shift = np.log(np.linalg.det(np.eye(2) + tau * HESSIAN)) / (2 * inverse_temperature)
    assert float(envelope.objective(x)) == pytest.approx(float(moreau + shift), rel=1e-9)
    assert float(envelope.step_size) == pytest.approx(tau)


def test_the_cold_limit_is_the_moreau_envelope():
    # The Moreau envelope of |x| is Huber's function, its proximal map soft thresholding.
    tau, x, inverse_temperature = 0.5, jnp.array([1.7]), 4000.0
    spread = float(np.sqrt(tau / inverse_temperature))
    envelope = EntropicEnvelope.quadrature(Objective(absolute), inverse_temperature, spread, nodes=40_001, radius=80.0)
    np.testing.assert_allclose(envelope.proximal_step(x), x - tau, atol=1e-3)
    assert float(envelope.objective(x)) == pytest.approx(1.7 - tau / 2, abs=2e-3)


def test_monte_carlo_agrees_with_quadrature_and_with_a_hop():
    problem, x, key = Rastrigin([0.0]), jnp.array([1.3]), jax.random.key(0)
    exact = EntropicEnvelope.quadrature(problem, 2.0, 0.3)
    sampled = EntropicEnvelope.monte_carlo(problem, 2.0, 0.3, dimension=1, samples=400_000, key=key)
    np.testing.assert_allclose(sampled.objective(x), exact.objective(x), atol=5e-3)
    np.testing.assert_allclose(sampled.gradient(x), exact.gradient(x), atol=0.1)
    np.testing.assert_allclose(sampled.proximal_step(x), exact.proximal_step(x), atol=5e-3)
    method = ConsensusHopping(sampled.nodes.shape[0], 2.0, 0.3)
    hop = method.advance(problem, method.init(problem, x, key), sampled.nodes)
    np.testing.assert_allclose(hop.x, sampled.proximal_step(x), atol=1e-12)


def test_gradient_descent_on_it_is_hopping_with_infinitely_many_particles():
    import optax

    envelope = EntropicEnvelope.quadrature(Rastrigin([0.0]), 2.0, 0.5)
    trace = tt.run(Optax(optax.sgd(0.5)), envelope, jnp.array([2.2]), steps=40, points=1)
    x = jnp.array([2.2])
    for _ in range(40):
        x = envelope.proximal_step(x)
    np.testing.assert_allclose(trace.x[0], x, atol=1e-9)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: EntropicEnvelope.quadrature(Rastrigin([0.0]), 0.0, 1.0), ValueError, "inverse_temperature: must"),
        (lambda: EntropicEnvelope.quadrature(Rastrigin([0.0]), 1.0, -1.0), ValueError, "spread: must"),
        (lambda: EntropicEnvelope.quadrature(Rastrigin([0.0]), 1.0, 1.0, nodes=1), ValueError, "nodes: must"),
        (lambda: EntropicEnvelope.quadrature(Rastrigin([0.0]), 1.0, 1.0, dimension=0), ValueError, "dimension: must"),
        (
            lambda: EntropicEnvelope.monte_carlo(
                Rastrigin([0.0]), 1.0, 1.0, dimension=1, samples=0, key=jax.random.key(0)
            ),
            ValueError,
            "samples: must",
        ),
    ],
)
def test_bad_input_is_named(build, error, message):
    with pytest.raises(error, match=message):
        build()
