r"""Zero-mean noise models for gradient oracles, each with the constant $\sigma$ that theorems ask for."""

import abc
import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter

Norm = Literal["euclidean", "sup"]
"""The norm in which noise is measured: the dual of the one that distances are measured in."""


class Noise(eqx.Module):
    r"""A distribution of zero-mean vectors $\xi$ with $\mathbb E\lVert\xi\rVert^p \le \sigma^p$.

    A subclass gives `sigma` ($\sigma$, of the whole vector, not of an entry) and `sample`.
    """

    sigma: eqx.AbstractVar[Scalar]

    @property
    def moment(self) -> Scalar:
        r"""$p$, the moment that $\sigma$ bounds: 2 unless the variance is infinite."""
        return 2.0

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""], template: Float[Array, " d"]) -> Float[Array, " d"]:
        """One vector of the shape and type of `template`."""

    def __call__(self, key: Key[Array, ""], like: PyTree[Array]) -> PyTree[Array]:
        """One draw with the structure of the pytree `like`, whose entries count as one vector."""
        flat, unravel = ravel_pytree(like)
        return unravel(self.sample(key, flat))

    def deviation(self, norm: Norm, dimension: int) -> float:
        r"""A bound on $(\mathbb E\lVert\xi\rVert^p)^{1/p}$ in the given norm; exact in the Euclidean one."""
        del norm, dimension  # the Euclidean norm bounds the largest entry
        return float(self.sigma)


class Gaussian(Noise):
    r"""Independent normal entries with $\mathbb E\lVert\xi\rVert_2^2 = \sigma^2$ in total.

    **Arguments**: `sigma`, $\sigma > 0$.
    """

    sigma: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.positive("sigma", self.sigma)

    def sample(self, key: Key[Array, ""], template: Float[Array, " d"]) -> Float[Array, " d"]:
        r"""Each entry has variance $\sigma^2 / d$."""
        scale = self.sigma / math.sqrt(template.size)
        return scale * jax.random.normal(key, template.shape, template.dtype)

    def sub_gaussian(self, dimension: int) -> float:
        r"""The least $s$ with $\mathbb E e^{\lambda\lVert\xi\rVert^2} \le e^{\lambda s^2}$ for $0\le\lambda\le s^{-2}$.

        From $\mathbb E e^{\lambda\lVert\xi\rVert^2} = (1 - 2\lambda\sigma^2/d)^{-d/2}$, whose logarithm is convex in
        $\lambda$, the largest $\lambda$ decides: $s^2 = (2\sigma^2/d) / (1 - e^{-2/d})$.

        **Arguments**: `dimension`, the number $d$ of entries.
        """
        validation.integer("dimension", dimension, low=1)
        return float(self.sigma) * math.sqrt(-(2.0 / dimension) / math.expm1(-2.0 / dimension))


class SubWeibull(Noise):
    r"""A uniform direction times a Weibull radius: $\Pr(\lVert\xi\rVert_2 > r) = e^{-(r/s)^\theta}$.

    All moments are finite, but for $\theta < 2$ the tails are heavier than Gaussian. The scale is
    $s = \sigma/\sqrt{\Gamma(1 + 2/\theta)}$, so that $\mathbb E\lVert\xi\rVert_2^2 = \sigma^2$.

    **Arguments**: `sigma`, $\sigma > 0$; `exponent`, $\theta > 0$.
    """

    sigma: Scalar = hyperparameter()
    exponent: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.positive("sigma", self.sigma)
        validation.positive("exponent", self.exponent)

    def _scale(self) -> Array:
        return self.sigma / jnp.exp(0.5 * jax.scipy.special.gammaln(1.0 + 2.0 / self.exponent))

    def sample(self, key: Key[Array, ""], template: Float[Array, " d"]) -> Float[Array, " d"]:
        """The radius is $s$ times a power of an exponential variable."""
        radius_key, direction_key = jax.random.split(key)
        radius = jax.random.exponential(radius_key, (), template.dtype) ** (1.0 / self.exponent)
        return (self._scale() * radius).astype(template.dtype) * _direction(direction_key, template)

    @property
    def weibull_norm(self) -> float:
        r"""The least $w$ with $\mathbb E \exp((\lVert\xi\rVert_2/w)^\theta) \le e$: $s\,(1-1/e)^{-1/\theta}$."""
        return float(self._scale()) * math.pow(-math.expm1(-1.0), -1.0 / float(self.exponent))


class ParetoTail(Noise):
    r"""A uniform direction times a Pareto radius: $\Pr(\lVert\xi\rVert_2 > r) = (r_0/r)^\alpha$ for $r \ge r_0$.

    The moment of order $p < \alpha$ is finite, $\mathbb E\lVert\xi\rVert_2^p = r_0^p\,\alpha/(\alpha-p) = \sigma^p$;
    the variance is infinite for $\alpha \le 2$.

    **Arguments**

    - `sigma`: $\sigma > 0$, which fixes $r_0$.
    - `order`: $p$ in $(1, 2]$, the moment that $\sigma$ fixes.
    - `tail_index`: $\alpha > p$.
    """

    sigma: Scalar = hyperparameter()
    order: Scalar = hyperparameter()
    tail_index: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.positive("sigma", self.sigma)
        validation.real("order", self.order, low=1.0, high=2.0, open_low=True)
        low = 1.0 if isinstance(self.order, jax.core.Tracer) else float(self.order)
        validation.real("tail_index", self.tail_index, low=low, open_low=True)

    @property
    def moment(self) -> Scalar:
        """$p$."""
        return self.order

    def sample(self, key: Key[Array, ""], template: Float[Array, " d"]) -> Float[Array, " d"]:
        """The radius is $r_0$ times a power of a uniform variable."""
        radius_key, direction_key = jax.random.split(key)
        smallest = self.sigma * (1.0 - self.order / self.tail_index) ** (1.0 / self.order)
        radius = smallest * jnp.exp(jax.random.exponential(radius_key, (), template.dtype) / self.tail_index)
        return radius.astype(template.dtype) * _direction(direction_key, template)


class Rademacher(Noise):
    r"""Independent signs: every entry is $\pm\sigma$, so $\lVert\xi\rVert_\infty = \sigma$ always.

    Bounded, hence sub-Gaussian, in the norm dual to $\lVert\cdot\rVert_1$.

    **Arguments**: `sigma`, $\sigma > 0$, the size of each entry.
    """

    sigma: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.positive("sigma", self.sigma)

    def sample(self, key: Key[Array, ""], template: Float[Array, " d"]) -> Float[Array, " d"]:
        """One fair coin an entry."""
        return self.sigma * jax.random.rademacher(key, template.shape, template.dtype)

    def deviation(self, norm: Norm, dimension: int) -> float:
        r"""$\sigma$ in the sup norm, $\sigma\sqrt d$ in the Euclidean one; both are exact."""
        return float(self.sigma) * (1.0 if norm == "sup" else math.sqrt(dimension))


def _direction(key: Key[Array, ""], template: Float[Array, " d"]) -> Float[Array, " d"]:
    """A uniform point of the unit sphere."""
    normal = jax.random.normal(key, template.shape, template.dtype)
    direction: Array = normal / jnp.linalg.norm(normal)
    return direction
