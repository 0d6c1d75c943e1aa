import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.optimize import AnnealedLangevin, InverseLogarithm, Optax
from tendsto.problems import DiagonalQuadratic, GrandCanyon


def iterate(problem, state):
    return state.x


def test_without_noise_it_is_gradient_descent():
    problem, x0 = GrandCanyon(), jnp.array([3.0, 2.0])
    ours = tt.run(AnnealedLangevin(0.001), problem, x0, steps=50, record={"x": iterate})
    theirs = tt.run(Optax(optax.sgd(0.001)), problem, x0, steps=50, record={"x": iterate})
    np.testing.assert_allclose(ours["x"].values, theirs["x"].values, rtol=1e-12)
    assert ours.final("gradients") == 50


def test_the_schedule_divides_by_the_logarithm():
    schedule = InverseLogarithm(10.0)
    assert [schedule.at(k - 1) for k in (1, 2, 50)] == pytest.approx([10 / np.log(k + 1) for k in (1, 2, 50)])


def test_constant_noise_samples_from_the_gibbs_measure():
    # The chain x ← (1 - ηa) x + σ√η ξ is autoregressive, with a variance known in closed form.
    step, strength = 0.1, 0.5
    curvatures = np.array([1.0, 4.0])
    trace = tt.run(AnnealedLangevin(step, strength), DiagonalQuadratic(curvatures), jnp.zeros(2), steps=200, seeds=4000)
    expected = strength**2 * step / (1 - (1 - step * curvatures) ** 2)
    np.testing.assert_allclose(np.var(trace.x, axis=0), expected, rtol=0.1)


def test_annealed_noise_of_a_step():
    flat = DiagonalQuadratic([0.0])
    trace = tt.run(AnnealedLangevin(0.04, InverseLogarithm(3.0)), flat, jnp.zeros(1), steps=3, seeds=4000, points=[1])
    expected = 9.0 * 0.04 * sum(1 / np.log(k + 1) ** 2 for k in (1, 2, 3))
    assert float(np.var(trace.x)) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("arguments", "name"), [((0.0,), "step_size"), ((0.1, -1.0), "noise_strength")])
def test_bad_input_is_named(arguments, name):
    with pytest.raises(ValueError, match=f"{name}: must lie in"):
        AnnealedLangevin(*arguments)
    with pytest.raises(ValueError, match="base: must lie in"):
        InverseLogarithm(-1.0)
