"""Normal increments against the generator's published vectors, JAX's own bits, and the normal law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tendsto.optimize.normal_increments import normal_from, standard_normal, threefry


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
    ids=["zeros", "ones", "digits of pi"],
)
def test_generator_has_its_published_answers(key, counter, expected):
    words = threefry(jnp.array(key, jnp.uint32), *(jnp.array([word], jnp.uint32) for word in counter))
    assert [int(word[0]) for word in words] == list(expected)


def test_generator_is_that_of_jax():
    key = jax.random.key(7)
    counters = jnp.arange(1000, dtype=jnp.uint32)
    high, low = threefry(jax.random.key_data(key), jnp.zeros_like(counters), counters)
    np.testing.assert_array_equal(high ^ low, jax.random.bits(key, (1000,), jnp.uint32))


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_law_is_standard_normal(implementation):
    draws = np.asarray(standard_normal(jax.random.key(3, impl=implementation), (1000, 401)), dtype=np.float64)
    assert draws.shape == (1000, 401)
    size = draws.size
    assert stats.kstest(draws.ravel(), "norm").pvalue > 1e-3
    # Moments within four standard errors: Var Z^k = E Z^2k - (E Z^k)^2.
    for order, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert (draws**order).mean() == pytest.approx(moment, abs=4 * (variance / size) ** 0.5)
    # The two words of a counter lie half of the numbers apart.
    flat = draws.ravel()
    for lag in (1, 401, size // 2):
        assert (flat[lag:] * flat[:-lag]).mean() == pytest.approx(0, abs=4 / (size - lag) ** 0.5)


def test_tails_are_those_of_23_bits():
    words = jnp.array([0, 2**9, 2**31, 2**32 - 2**9, 2**32 - 1], jnp.uint32)
    lowest = stats.norm.ppf(2.0**-24)
    expected = [lowest, stats.norm.ppf(3 * 2.0**-24), stats.norm.ppf(0.5 + 2.0**-24), -lowest, -lowest]
    np.testing.assert_allclose(normal_from(words), expected, rtol=1e-4)
    draws = np.asarray(standard_normal(jax.random.key(0), (2_000_000,)))
    expected = 2 * stats.norm.sf(4) * draws.size
    assert (np.abs(draws) > 4).sum() == pytest.approx(expected, abs=4 * expected**0.5)


def test_any_shape_and_a_number_for_every_entry():
    key = jax.random.key(1)
    assert standard_normal(key, ()).shape == ()
    assert standard_normal(key, (0, 3)).shape == (0, 3)
    odd = standard_normal(key, (3, 5))
    assert odd.shape == (3, 5)
    assert odd.dtype == jnp.float32
    assert np.unique(odd).size == 15
    np.testing.assert_array_equal(odd, standard_normal(key, (3, 5)))
    assert not np.isin(odd, standard_normal(jax.random.key(2), (3, 5))).any()
