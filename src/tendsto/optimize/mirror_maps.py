"""Mirror maps: what a step of mirror descent measures distance with."""

from __future__ import annotations

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.special import rel_entr
from jaxtyping import Array, Float, PyTree

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter
from tendsto.problems import Regulariser, Simplex, Zero
from tendsto.problems.noise import Norm


class MirrorMap(eqx.Module):
    r"""A convex function $\psi$ with its divergence $D(x,y) = \psi(x)-\psi(y)-\langle\nabla\psi(y), x-y\rangle$.

    `dual_norm` names the norm that gradients and noise are measured in.
    """

    dual_norm: ClassVar[Norm] = "euclidean"

    @abc.abstractmethod
    def step(
        self, regulariser: Regulariser, x: PyTree[Array], gradient: PyTree[Array], step_size: Scalar
    ) -> PyTree[Array]:
        r"""$\arg\min_u h(u) + \langle g, u\rangle + D(u, x)/\eta$ for the regulariser $h$.

        **Raises** `TypeError` for a regulariser with which this has no closed form.
        """

    @abc.abstractmethod
    def divergence(self, x: PyTree[Array], y: PyTree[Array]) -> Float[Array, ""]:
        """$D(x, y)$."""


class Euclidean(MirrorMap):
    r"""$\psi(x) = \frac12\lVert x\rVert_2^2$: a step is a proximal gradient step, with any regulariser."""

    def step(
        self, regulariser: Regulariser, x: PyTree[Array], gradient: PyTree[Array], step_size: Scalar
    ) -> PyTree[Array]:
        r"""$\operatorname{prox}_{\eta h}(x - \eta g)$."""
        moved = regulariser.proximal(jax.tree.map(lambda a, b: a - step_size * b, x, gradient), step_size)
        # A step size of higher precision must not promote the iterate.
        return jax.tree.map(lambda new, old: new.astype(old.dtype), moved, x)

    def divergence(self, x: PyTree[Array], y: PyTree[Array]) -> Float[Array, ""]:
        r"""$\frac12\lVert x-y\rVert_2^2$."""
        difference, _ = ravel_pytree(jax.tree.map(jnp.subtract, x, y))
        return 0.5 * jnp.dot(difference, difference)


class Entropy(MirrorMap):
    r"""$\psi(x) = \sum_i x_i\log x_i$ on the simplex: a step is a multiplicative update.

    1-strongly convex in $\lVert\cdot\rVert_1$, so gradients are measured by their largest entry, and from the uniform
    start no point is farther than $D = \log d$. The entries of a pytree count as one vector.
    """

    dual_norm: ClassVar[Norm] = "sup"

    def step(
        self, regulariser: Regulariser, x: PyTree[Array], gradient: PyTree[Array], step_size: Scalar
    ) -> PyTree[Array]:
        r"""$x_i e^{-\eta g_i} / \sum_j x_j e^{-\eta g_j}$, in logarithms."""
        if not isinstance(regulariser, Simplex):
            raise TypeError(f"regulariser: Entropy needs a Simplex, got {type(regulariser).__name__}")
        flat, unravel = ravel_pytree(x)
        slope, _ = ravel_pytree(gradient)
        return unravel(jax.nn.softmax(jnp.log(flat) - step_size * slope).astype(flat.dtype))

    def divergence(self, x: PyTree[Array], y: PyTree[Array]) -> Float[Array, ""]:
        r"""$\sum_i x_i\log(x_i/y_i)$, for points of the simplex."""
        return rel_entr(ravel_pytree(x)[0], ravel_pytree(y)[0]).sum()


class Power(MirrorMap):
    r"""$\psi(x) = \frac{2^{q-2}}q\lVert x - c\rVert_2^q$ with $q = p/(p-1)$: for noise with only a $p$-th moment.

    Uniformly convex of degree $q$: $D(x,y) \ge \lVert x-y\rVert_2^q/q$ on the whole space, which
    $\frac12\lVert x\rVert^2$ is not. With $u = x - c$, $\nabla\psi(x) = 2^{q-2}\lVert u\rVert^{q-2}u$. At $p = 2$
    this is `Euclidean`, without a regulariser.

    **Arguments**

    - `moment`: $p$ in $(1, 2]$.
    - `centre`: $c$, a point or a number for all entries; by default 0.
    """

    moment: Scalar = hyperparameter()
    centre: Float[Array, "..."] = hyperparameter(default=0.0)

    def __check_init__(self) -> None:
        validation.real("moment", self.moment, low=1.0, high=2.0, open_low=True)
        validation.real("centre", self.centre)

    @property
    def degree(self) -> Scalar:
        """$q = p/(p-1)$."""
        return self.moment / (self.moment - 1.0)

    def step(
        self, regulariser: Regulariser, x: PyTree[Array], gradient: PyTree[Array], step_size: Scalar
    ) -> PyTree[Array]:
        r"""$\nabla\psi^*(\nabla\psi(x) - \eta g)$."""
        if not isinstance(regulariser, Zero):
            raise TypeError(f"regulariser: Power works without one (Zero), got {type(regulariser).__name__}")
        flat, unravel = ravel_pytree(x)
        slope, _ = ravel_pytree(gradient)
        u = flat - self.centre
        dual = self._scale * jnp.linalg.norm(u) ** (self.degree - 2.0) * u - step_size * slope
        length = jnp.linalg.norm(dual)
        # The map back is (|θ| / scale)^(1/(q-1)) θ/|θ|, with 1/(q-1) = p - 1; it takes 0 to 0.
        direction = dual / jnp.where(length > 0, length, 1.0)
        moved = self.centre + (length / self._scale) ** (self.moment - 1.0) * direction
        return unravel(moved.astype(flat.dtype))

    def divergence(self, x: PyTree[Array], y: PyTree[Array]) -> Float[Array, ""]:
        r"""$\psi(x) - \psi(y) - \langle\nabla\psi(y), x - y\rangle$."""
        u, v = ravel_pytree(x)[0] - self.centre, ravel_pytree(y)[0] - self.centre
        length = jnp.linalg.norm(v)
        potential = (jnp.linalg.norm(u) ** self.degree - length**self.degree) / self.degree
        value: Array = self._scale * (potential - length ** (self.degree - 2.0) * jnp.dot(v, u - v))
        return value

    @property
    def _scale(self) -> Array:
        return jnp.exp2(self.degree - 2.0)
