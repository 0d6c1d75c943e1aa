"""Every compressor keeps its contraction, and sends the bits it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tendsto.federated import (
    Dithering,
    Identity,
    Leafwise,
    LowRank,
    Natural,
    PowerOfTwo,
    RandK,
    ScaledSign,
    TopK,
)

VECTOR_COMPRESSORS = {
    "identity": Identity(),
    "top-3": TopK(3),
    "top-20%": TopK(0.2),
    "random-3": RandK(3),
    "sign": ScaledSign(),
    "natural": Natural(),
    "power of two": PowerOfTwo(),
    "dithering 1": Dithering(1),
    "dithering 8": Dithering(8),
}
# Vectors at which a bound is attained or nearly so.
WORST = {
    "identity": np.ones(12),
    "top-3": np.ones(12),
    "top-20%": np.ones(12),
    "random-3": np.ones(12),
    "sign": np.eye(12)[0],
    "natural": np.full(12, 4 / 3),
    "power of two": np.full(12, np.nextafter(2.0, 0.0)),
}


def distortion(compressor, vector, draws=2000):
    keys = jax.random.split(jax.random.key(0), draws)
    errors = jax.vmap(lambda key: jnp.sum((compressor.compress(vector, key) - vector) ** 2))(keys)
    return np.asarray(errors) / float(jnp.sum(vector**2))


@pytest.mark.parametrize("name", VECTOR_COMPRESSORS)
def test_no_vector_loses_more_than_the_contraction_says(name):
    compressor = VECTOR_COMPRESSORS[name]
    generator = np.random.default_rng(1)
    vectors = [generator.normal(size=12), generator.standard_cauchy(12), np.ones(12), np.eye(12)[3], np.arange(12.0)]
    for vector in vectors:
        errors = distortion(compressor, jnp.asarray(vector))
        assert errors.mean() <= 1 - compressor.contraction_of(12) + 4 * errors.std() / np.sqrt(len(errors)) + 1e-12


@pytest.mark.parametrize("name", WORST)
def test_the_contraction_is_attained(name):
    compressor = VECTOR_COMPRESSORS[name]
    errors = distortion(compressor, jnp.asarray(WORST[name]), draws=8000)
    slack = 4 * errors.std() / np.sqrt(len(errors)) + 1e-9
    assert errors.mean() == pytest.approx(1 - compressor.contraction_of(12), abs=slack)


@given(arrays(float, 7, elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False)), st.integers(1, 7))
def test_top_k_is_the_nearest_sparse_vector(vector, kept):
    sparse = np.asarray(TopK(kept).compress(jnp.asarray(vector), jax.random.key(0)))
    order = sorted(range(7), key=lambda place: (-abs(vector[place]), place))[:kept]
    expected = np.zeros(7)
    expected[order] = vector[order]
    np.testing.assert_array_equal(sparse, expected)


@pytest.mark.parametrize("compressor", [Natural(), Dithering(3)], ids=["natural", "dithering"])
def test_random_rounding_is_unbiased_up_to_its_scale(compressor):
    vector = jnp.asarray(np.random.default_rng(0).normal(size=6))
    keys = jax.random.split(jax.random.key(1), 20_000)
    sample = np.asarray(jax.vmap(lambda key: compressor.compress(vector, key))(keys))
    scale = 1.0 if isinstance(compressor, Natural) else compressor.contraction_of(6)
    error = sample.std(axis=0) / np.sqrt(len(sample))
    assert (np.abs(sample.mean(axis=0) - scale * vector) <= 4 * error + 1e-12).all()


def test_powers_of_two():
    values = jnp.asarray([0.0, 1.0, -1.0, 3.0, -0.3, 4.0, 1e-3])
    expected = [0.0, 1.0, -1.0, 2.0, -0.25, 4.0, 2.0**-10]
    np.testing.assert_array_equal(PowerOfTwo().compress(values, jax.random.key(0)), expected)
    natural = np.asarray(Natural().compress(values, jax.random.key(0)))
    assert natural[0] == 0
    assert set(np.log2(np.abs(natural[1:])) % 1) == {0.0}


@pytest.mark.parametrize("name", VECTOR_COMPRESSORS)
def test_homogeneous_compressors_scale(name):
    compressor, key = VECTOR_COMPRESSORS[name], jax.random.key(2)
    vector = jnp.asarray(np.random.default_rng(5).normal(size=12))
    scaled = np.asarray(compressor.compress(1.37 * vector, key))
    same = np.allclose(scaled, 1.37 * compressor.compress(vector, key), rtol=1e-12)
    assert same == compressor.homogeneous


@pytest.mark.parametrize("name", VECTOR_COMPRESSORS)
def test_zero_stays_zero(name):
    if name != "sign":
        assert not np.asarray(VECTOR_COMPRESSORS[name].compress(jnp.zeros(12), jax.random.key(0))).any()
    assert not np.asarray(ScaledSign().compress(jnp.zeros(12), jax.random.key(0))).any()


def test_low_rank_is_the_truncated_decomposition_and_attains_its_contraction():
    compressor, key = LowRank(2), jax.random.key(0)
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)))
    tree = {"matrix": matrix, "bias": jnp.arange(3.0)}
    cut = compressor(tree, key)
    np.testing.assert_array_equal(cut["bias"], tree["bias"])
    values = np.linalg.svd(matrix, compute_uv=False)
    assert float(jnp.sum((cut["matrix"] - matrix) ** 2)) == pytest.approx(np.sum(values[2:] ** 2))
    assert compressor.contraction(tree) == 0.5
    orthogonal = jnp.eye(4)
    assert float(jnp.sum((compressor(orthogonal, key) - orthogonal) ** 2)) == pytest.approx(0.5 * 4)
    assert compressor.bits(tree) == 64 * (2 * (5 + 4) + 3)


def test_a_pytree_is_one_vector_and_leafwise_many():
    tree = {"a": jnp.asarray([5.0, -4.0, 3.0]), "b": jnp.asarray([[0.2, 0.1]])}
    whole = TopK(2)(tree, jax.random.key(0))
    np.testing.assert_array_equal(whole["a"], [5, -4, 0])
    np.testing.assert_array_equal(whole["b"], [[0, 0]])
    leafwise = Leafwise(TopK(1))
    parts = leafwise(tree, jax.random.key(0))
    np.testing.assert_array_equal(parts["a"], [5, 0, 0])
    np.testing.assert_array_equal(parts["b"], [[0.2, 0]])
    assert leafwise.contraction(tree) == pytest.approx(1 / 3)
    assert leafwise.homogeneous
    assert not Leafwise(Natural()).homogeneous


def test_leafwise_random_choices_are_independent():
    leaf = jnp.ones(200)
    first, second = Leafwise(RandK(100))([leaf, leaf], jax.random.key(0))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("compressor", "bits"),
    [
        (Identity(), 1000 * 32),
        (TopK(10), 10 * (32 + 10)),
        (RandK(0.01), 10 * 32),
        (ScaledSign(), 1000 + 32),
        (Natural(), 1000 * 9),
        (Dithering(3), 32 + 1000 * 3),
    ],
    ids=["identity", "top-k", "rand-k", "sign", "natural", "dithering"],
)
def test_bits(compressor, bits):
    assert compressor.bits(jnp.zeros(1000, jnp.float32)) == bits


def test_errors():
    with pytest.raises(ValueError, match="kept"):
        TopK(0)
    with pytest.raises(ValueError, match="kept"):
        TopK(1.5)
    with pytest.raises(ValueError, match="kept: cannot keep 13 of 12"):
        TopK(13).compress(jnp.ones(12), jax.random.key(0))
    with pytest.raises(ValueError, match="levels"):
        Dithering(0)
    with pytest.raises(ValueError, match="rank"):
        LowRank(0)
