"""Landscapes with many local minima and one global minimum that is known."""

from __future__ import annotations

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter
from tendsto.problems.base import Problem


class Rastrigin(Problem):
    r"""$f(x) = \sum_i (x_i - c_i)^2 + a \sum_i (1 - \cos 2\pi(x_i - c_i))$, with its minimum of 0 at $c$.

    Local minima lie near $c$ plus every vector of integers that is not too far out; there are about $7^d$ of them for
    the default amplitude, where the classical function has $a = 10$.

    **Arguments**

    - `centre`: $c$, shape `(d,)`.
    - `amplitude`: $a \ge 0$.

    **Raises** `TypeError` or `ValueError` naming the argument.

    **Source**: L. A. Rastrigin, "Systems of Extremal Control", 1974; with $a = 2.5$ in K. Riedl, T. Klock,
    C. Geldhauser, M. Fornasier, "Gradient is All You Need?", arXiv:2306.09778.
    """

    centre: Float[Array, " d"] = eqx.field(converter=lambda value: validation.finite_array("centre", value, ndim=1))
    amplitude: Scalar = hyperparameter(default=2.5)

    def __check_init__(self) -> None:
        validation.real("amplitude", self.amplitude, low=0.0)

    def smooth_part(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        r"""$f(x) = \lVert v\rVert^2 + 2a\lVert\sin \pi v\rVert^2$, $v = x - c$."""
        v = x - self.centre
        terms = v**2 + 2.0 * self.amplitude * _sine_up_to_sign(v) ** 2
        # A product with ones, which XLA spreads over a processor's lanes where it adds up a sum one by one.
        return jnp.dot(terms, jnp.ones_like(terms), precision="highest")

    @property
    def smoothness(self) -> Float[Array, ""]:
        r"""$L = 2 + 4\pi^2 a$."""
        return jnp.asarray(2.0 + 4.0 * jnp.pi**2 * self.amplitude)

    @property
    def minimiser(self) -> Float[Array, " d"]:
        """$c$."""
        return self.centre


def _sine_up_to_sign(turns: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""$\sin \pi(x - n)$ with $n$ the integer next to $x$, which is $\pm\sin \pi x$, by its Taylor polynomial.

    Exact to rounding, $(\pi/2)^{25}/25! < 10^{-20}$; a 64-bit cosine takes XLA, which calls the C library for every
    entry, ten times as long.
    """
    remainder = turns - jnp.round(turns)
    square = remainder**2
    polynomial = jnp.zeros_like(square)
    for order in reversed(range(12)):
        polynomial = polynomial * square + (-1) ** order * math.pi ** (2 * order + 1) / math.factorial(2 * order + 1)
    return remainder * polynomial


class GrandCanyon(Problem):
    r"""A winding canyon in the plane, blocked by a wall and rippled by a cosine; its minimum of 0 is at the origin.

    With $v = y - \frac18 (x-1)(x-4)^2 - 2$ and $b = -x - 1.6 y$,

    $$f(x, y) = 25\,(1 - e^{-1.4\, v^2 \exp(-0.002\, x^4)}) + 0.4 x^2 + 0.2 y^2
        + a\,(2 - \cos 0.75\pi x - \cos 0.75\pi y) + 4\, e^{1 - 2 v^4}\, [b > 0]\,(1 - e^{-9 b^2}).$$

    **Arguments**

    - `ripple`: $a \ge 0$, the amplitude of the cosines; `GrandCanyon.noisy()` has 1.1625.

    **Raises** `TypeError` or `ValueError` naming the argument.

    **Source**: the test functions behind the figures of K. Riedl, T. Klock, C. Geldhauser, M. Fornasier, "Gradient is
    All You Need?", arXiv:2306.09778.
    """

    ripple: Scalar = hyperparameter(default=0.25)

    def __check_init__(self) -> None:
        validation.real("ripple", self.ripple, low=0.0)

    @classmethod
    def noisy(cls) -> GrandCanyon:
        """The landscape of the paper's figures, whose ripples trap a gradient method at once."""
        return cls(ripple=1.1625)

    def smooth_part(self, x: Float[Array, " 2"]) -> Float[Array, ""]:
        """$f(x, y)$."""
        first, second = x[0], x[1]
        valley = second - ((first - 1.0) * (first - 4.0) ** 2 / 8.0 + 2.0)
        block = -first - 1.6 * second
        canyon = 25.0 * (1.0 - jnp.exp(-1.4 * valley**2 * jnp.exp(-0.002 * first**4)))
        bowl = 0.4 * first**2 + 0.2 * second**2
        ripples = self.ripple * (2.0 - jnp.cos(0.75 * jnp.pi * first) - jnp.cos(0.75 * jnp.pi * second))
        wall = 4.0 * jnp.exp(1.0 - 2.0 * valley**4) * jnp.where(block > 0.0, 1.0 - jnp.exp(-9.0 * block**2), 0.0)
        return canyon + bowl + ripples + wall

    @property
    def minimiser(self) -> Float[Array, " 2"]:
        """The origin."""
        return jnp.zeros(2)
