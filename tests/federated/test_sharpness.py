"""The gradient uphill on a function whose gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tendsto.federated import ascent_gradient

HESSIAN = np.asarray([[2.0, 0.5], [0.5, 1.0]])


def gradient(data, y, key):
    """Of a quadratic, with noise that the key alone determines."""
    return {"a": data[0] @ y["a"] + jax.random.normal(key, (2,)), "b": data[1] * y["b"]}


@pytest.mark.parametrize("normalise", [False, True], ids=["raw", "normalised"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_it_is_the_mixture_of_two_gradients_on_one_batch(normalise, weight):
    key, data = jax.random.key(0), (jnp.asarray(HESSIAN), jnp.asarray(3.0))
    y = {"a": jnp.asarray([1.0, -2.0]), "b": jnp.asarray([0.7])}
    found = ascent_gradient(gradient, 0.1, normalise=normalise, weight=weight)(data, y, key)
    noise = np.asarray(jax.random.normal(key, (2,)))
    here = np.concatenate([HESSIAN @ np.asarray(y["a"]) + noise, 3.0 * np.asarray(y["b"])])
    uphill = np.asarray([1.0, -2.0, 0.7]) + 0.1 * here / (np.linalg.norm(here) if normalise else 1.0)
    there = np.concatenate([HESSIAN @ uphill[:2] + noise, 3.0 * uphill[2:]])
    expected = (1 - weight) * here + weight * there
    np.testing.assert_allclose(np.concatenate([found["a"], found["b"]]), expected, rtol=1e-12)


def test_at_a_zero_gradient_it_is_zero():
    found = ascent_gradient(lambda data, y, key: data * y, 0.1)(jnp.asarray(2.0), jnp.zeros(3), jax.random.key(0))
    np.testing.assert_array_equal(found, np.zeros(3))
