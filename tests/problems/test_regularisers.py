"""Proximal maps against their definition, solved by SciPy, and against the properties that all of them have."""

import hypothesis.extra.numpy as arrays
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from tendsto.problems import L1, Ball, Box, Simplex, SquaredL2, Zero

REGULARISERS = [Zero(), L1(0.3), SquaredL2(2.0), Box(-0.5, 1.0), Ball(0.7), Simplex()]
CONSTRAINTS = {
    Ball: {"type": "ineq", "fun": lambda u: 0.7**2 - u @ u},
    Simplex: {"type": "eq", "fun": lambda u: u.sum() - 1},
}
BOUNDS = {Box: [(-0.5, 1.0)] * 4, Simplex: [(0, None)] * 4}
VECTORS = arrays.arrays(np.float64, 4, elements=st.floats(-3, 3))


@pytest.mark.parametrize("regulariser", REGULARISERS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("step_size", [0.1, 1.0, 3.0])
def test_proximal_map_minimises_what_defines_it(regulariser, step_size):
    v = np.array([1.3, -0.2, 0.05, -2.0])
    kind = type(regulariser)
    # SLSQP wants a smooth function: the absolute value is split into its two parts.
    penalty = (lambda u: 0.0) if kind in (Box, Ball, Simplex) else lambda u: float(regulariser(jnp.asarray(u)))
    if kind is L1:
        split = scipy.optimize.minimize(
            lambda w: 0.3 * w.sum() + ((w[:4] - w[4:] - v) ** 2).sum() / (2 * step_size),
            np.full(8, 0.1),
            bounds=[(0, None)] * 8,
            tol=1e-14,
        ).x
        expected = split[:4] - split[4:]
    else:
        expected = scipy.optimize.minimize(
            lambda u: penalty(u) + ((u - v) ** 2).sum() / (2 * step_size),
            np.full(4, 0.25),
            bounds=BOUNDS.get(kind),
            constraints=CONSTRAINTS.get(kind, ()),
            tol=1e-14,
        ).x
    np.testing.assert_allclose(regulariser.proximal(jnp.asarray(v), step_size), expected, atol=1e-5)


@pytest.mark.parametrize("regulariser", REGULARISERS, ids=lambda each: type(each).__name__)
@settings(deadline=None, max_examples=30)
@given(u=VECTORS, v=VECTORS)
def test_proximal_maps_are_firmly_nonexpansive(regulariser, u, v):
    difference = np.asarray(regulariser.proximal(jnp.asarray(u), 0.7) - regulariser.proximal(jnp.asarray(v), 0.7))
    assert difference @ difference <= difference @ (u - v) + 1e-9


@pytest.mark.parametrize("regulariser", [Box(-0.5, 1.0), Ball(0.7), Simplex()], ids=lambda each: type(each).__name__)
def test_indicators_are_zero_on_their_set_and_infinite_off_it(regulariser):
    v = jnp.asarray([1.3, -0.2, 0.05, -2.0])
    assert regulariser(regulariser.proximal(v, 1.0)) == 0
    assert regulariser(v) == jnp.inf


@pytest.mark.parametrize(
    "build", [lambda: L1(0.0), lambda: SquaredL2(-1.0), lambda: Ball(float("nan")), lambda: Box(1.0, 0.0)]
)
def test_bad_parameters_are_refused(build):
    with pytest.raises(ValueError, match="must lie in"):
        build()
