"""The smoothed landscape on which consensus hopping descends."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter
from tendsto.optimize.consensus import consensus_point
from tendsto.problems import Problem


class EntropicEnvelope(Problem):
    r"""$E_{\alpha,s}(x) = -\frac1\alpha \log \mathbb{E}\, e^{-\alpha E(x + sZ)}$ with $Z$ standard normal.

    The consensus point of a Gaussian cloud is a gradient step on it, by Tweedie's formula and without any limit:

    $$x_\alpha(\mathcal N(x, s^2 I)) = x - \tau\,\nabla E_{\alpha,s}(x), \qquad \tau = \alpha s^2.$$

    As $\alpha \to \infty$ with $\tau$ fixed it tends to the Moreau envelope $\min_y E(y) + \lVert x-y\rVert^2/(2\tau)$,
    and that step to the proximal point; on a quadratic they agree at every $\alpha$, up to a constant in the value.

    Build it with `monte_carlo` or `quadrature`. It is a problem: gradient methods run on it, its `gradient` uses that
    of $E$ while `proximal_step` uses values of $E$ alone.

    **Arguments**

    - `problem`: $E$, its `objective`.
    - `nodes`: points $z_i$ in place of $Z$, shape `(n, d)`.
    - `log_weights`: logarithms of their weights, shape `(n,)`, up to a constant; they are normalised here.
    - `inverse_temperature`: $\alpha > 0$.
    - `spread`: $s > 0$.

    **Raises** `TypeError` or `ValueError` naming the argument.

    **Source**: the Gaussian identity is B. Efron, "Tweedie's formula and selection bias", 2011, equation (1.4), applied
    to $e^{-\alpha E}$; its use is the link from consensus hopping to gradient descent in K. Riedl, T. Klock, C.
    Geldhauser, M. Fornasier, "Gradient is All You Need?", arXiv:2306.09778.
    """

    problem: Problem
    nodes: Float[Array, "n d"]
    log_weights: Float[Array, " n"]
    inverse_temperature: Scalar = hyperparameter()
    spread: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        if not isinstance(self.problem, Problem):
            raise TypeError(f"problem: expected a Problem, got {type(self.problem).__name__}")
        validation.positive("inverse_temperature", self.inverse_temperature)
        validation.positive("spread", self.spread)
        if self.nodes.ndim != 2 or self.log_weights.shape != self.nodes.shape[:1]:
            raise ValueError(
                f"nodes: expected shape (n, d) with n log_weights, got {self.nodes.shape} and {self.log_weights.shape}"
            )

    @classmethod
    def monte_carlo(
        cls,
        problem: Problem,
        inverse_temperature: Scalar,
        spread: Scalar,
        *,
        dimension: int,
        samples: int,
        key: Key[Array, ""],
    ) -> EntropicEnvelope:
        """With `samples` random nodes, the same at every point (common random numbers): the error is O(samples^-1/2).

        **Arguments**: `dimension`, $d$; `key`, the random key; the others as for the class.
        """
        validation.integer("dimension", dimension, low=1)
        validation.integer("samples", samples, low=1)
        nodes = jax.random.normal(key, (samples, dimension))
        return cls(problem, nodes, jnp.zeros(samples), inverse_temperature, spread)

    @classmethod
    def quadrature(
        cls,
        problem: Problem,
        inverse_temperature: Scalar,
        spread: Scalar,
        *,
        dimension: int = 1,
        nodes: int = 4001,
        radius: float = 12.0,
    ) -> EntropicEnvelope:
        r"""With the trapezoid rule on `nodes` equidistant points of $[-r, r]$ along each axis.

        For smooth $E$ it converges faster than any power of the distance between nodes once that resolves
        $e^{-\alpha E}$, which Gauss-Hermite rules of usual sizes do not.

        **Arguments**: `dimension`, $d$, where `nodes`$^d$ points have to fit into memory; `radius`, $r > 0$; the others
        as for the class.
        """
        validation.integer("dimension", dimension, low=1)
        validation.integer("nodes", nodes, low=3)
        validation.positive("radius", radius)
        # The integrand vanishes at both ends, so that all weights may be equal.
        axis = jnp.linspace(-radius, radius, nodes)
        points = jnp.stack(jnp.meshgrid(*[axis] * dimension, indexing="ij"), axis=-1).reshape(-1, dimension)
        return cls(problem, points, -0.5 * jnp.sum(points**2, axis=1), inverse_temperature, spread)

    @property
    def step_size(self) -> Scalar:
        r"""$\tau = \alpha s^2$."""
        return self.inverse_temperature * self.spread**2

    def smooth_part(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        r"""$E_{\alpha,s}(x)$."""
        exponents = self.log_weights - self.inverse_temperature * jax.vmap(self.problem.objective)(self._points(x))
        total = jax.nn.logsumexp(exponents) - jax.nn.logsumexp(self.log_weights)
        return jnp.asarray(-total / self.inverse_temperature)

    def proximal_step(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        r"""$x_\alpha(\mathcal N(x, s^2 I))$, a relaxed proximal step of size $\tau$, from values of $E$ alone."""
        points = self._points(x)
        # The weights of the nodes enter the exponent as a share of the objective.
        values = jax.vmap(self.problem.objective)(points) - self.log_weights / self.inverse_temperature
        return jnp.asarray(consensus_point(points, values, self.inverse_temperature))

    def _points(self, x: Float[Array, " d"]) -> Float[Array, "n d"]:
        return x + self.spread * self.nodes
