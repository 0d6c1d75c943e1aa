"""Noise models against SciPy's distributions, and their constants against moments computed there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import gamma

from tendsto.problems import Gaussian, ParetoTail, Rademacher, SubWeibull

SAMPLES, DIMENSION = 20_000, 3


def draw(noise, dimension=DIMENSION):
    keys = jax.random.split(jax.random.key(7), SAMPLES)
    return np.asarray(jax.vmap(lambda key: noise(key, jnp.zeros(dimension)))(keys))


def radius_law(noise):
    """The distribution of the Euclidean length."""
    if isinstance(noise, Gaussian):
        return stats.chi(DIMENSION, scale=float(noise.sigma) / np.sqrt(DIMENSION))
    if isinstance(noise, SubWeibull):
        theta = float(noise.exponent)
        return stats.weibull_min(theta, scale=float(noise.sigma) / np.sqrt(gamma(1 + 2 / theta)))
    p, alpha = float(noise.order), float(noise.tail_index)
    return stats.pareto(alpha, scale=float(noise.sigma) * (1 - p / alpha) ** (1 / p))


NOISES = [
    Gaussian(1.7),
    SubWeibull(1.7, 0.8),
    SubWeibull(0.5, 1.5),
    ParetoTail(1.7, 1.5, 1.6),
    ParetoTail(0.5, 2.0, 3.0),
]


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_lengths_have_the_stated_law_whose_moment_is_sigma(noise):
    lengths, law = np.linalg.norm(draw(noise), axis=1), radius_law(noise)
    assert stats.kstest(lengths, law.cdf).pvalue > 1e-3
    p = float(noise.moment)
    if isinstance(noise, ParetoTail):
        # A Pareto radius to the power p is Pareto with index α/p.
        assert stats.pareto(float(noise.tail_index) / p, scale=law.kwds["scale"] ** p).mean() == pytest.approx(
            float(noise.sigma) ** p, rel=1e-9
        )
    else:
        assert law.moment(2) == pytest.approx(float(noise.sigma) ** 2, rel=1e-6)
    assert noise.deviation("euclidean", DIMENSION) == float(noise.sigma)
    assert noise.deviation("sup", DIMENSION) == float(noise.sigma)


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_directions_are_uniform(noise):
    draws = draw(noise)
    directions = draws / np.linalg.norm(draws, axis=1, keepdims=True)
    # In three dimensions each coordinate of a uniform direction is uniform on [-1, 1] (Archimedes).
    for axis in range(DIMENSION):
        assert stats.kstest(directions[:, axis], stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_rademacher_is_of_constant_size_and_fair():
    draws = draw(Rademacher(0.5), 4)
    np.testing.assert_array_equal(np.abs(draws), 0.5)
    assert all(stats.binomtest(int((column > 0).sum()), SAMPLES).pvalue > 1e-3 for column in draws.T)
    assert Rademacher(0.5).deviation("sup", 4) == 0.5
    assert Rademacher(0.5).deviation("euclidean", 4) == 1.0


@pytest.mark.parametrize("dimension", [1, 5, 1000])
def test_gaussian_sub_gaussian_constant_is_valid_and_least(dimension):
    sigma = 1.3
    constant = Gaussian(sigma).sub_gaussian(dimension)
    rate = np.linspace(0, 1, 200)[1:] / constant**2
    logarithm = -dimension / 2 * np.log1p(-2 * rate * sigma**2 / dimension)  # of the chi-square's transform
    assert np.all(logarithm <= rate * constant**2 * (1 + 1e-12))
    assert logarithm[-1] == pytest.approx(1.0, rel=1e-9)
    assert constant > sigma


def test_weibull_norm_solves_its_equation():
    noise = SubWeibull(1.7, 0.8)
    law = radius_law(noise)
    moment = law.expect(lambda r: np.exp((r / noise.weibull_norm) ** 0.8), ub=law.ppf(1 - 1e-12))
    assert moment == pytest.approx(np.e, rel=1e-3)


def test_a_pytree_counts_as_one_vector():
    like = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(5)}
    draw = Gaussian(2.0)(jax.random.key(0), like)
    assert jax.tree.map(jnp.shape, draw) == {"a": (2, 2), "b": (5,)}
    keys = jax.random.split(jax.random.key(1), SAMPLES)
    squares = jax.vmap(lambda key: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(Gaussian(2.0)(key, like))))(keys)
    assert abs(squares.mean() - 4.0) < 5 * squares.std() / np.sqrt(SAMPLES)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Gaussian(0.0), "sigma"),
        (lambda: SubWeibull(1.0, -1.0), "exponent"),
        (lambda: ParetoTail(1.0, 1.0, 1.5), "order"),
        (lambda: ParetoTail(1.0, 1.5, 1.5), "tail_index"),
        (lambda: Rademacher(-1.0), "sigma"),
        (lambda: Gaussian(1.0).sub_gaussian(0), "dimension"),
    ],
)
def test_bad_input_is_named(make, named):
    with pytest.raises(ValueError, match=f"^{named}: "):
        make()
