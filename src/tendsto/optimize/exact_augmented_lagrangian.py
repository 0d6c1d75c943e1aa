r"""The exact augmented Lagrangian, a smooth merit function of $(x, \lambda)$ whose minimisers are KKT points."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter
from tendsto.problems import EqualityConstrained, PrimalDual


class Values(NamedTuple):
    r"""What is known of a problem at a point $x$ without its Hessian.

    **Arguments**

    - `function`: $f$, a scalar.
    - `gradient`: $\nabla f$, shape `(n,)`.
    - `constraints`: $c$, shape `(m,)`.
    - `jacobian`: $G$, shape `(m, n)`.
    """

    function: Float[Array, ""]
    gradient: Float[Array, " n"]
    constraints: Float[Array, " m"]
    jacobian: Float[Array, "m n"]

    @classmethod
    def at(cls, problem: EqualityConstrained, x: Float[Array, " n"]) -> Values:
        """The values of `problem` at `x`."""
        return cls(jnp.asarray(problem.function(x)), problem.gradient(x), problem.constraints(x), problem.jacobian(x))

    def lagrangian_gradient(self, multipliers: Float[Array, " m"]) -> Float[Array, " n"]:
        r"""$\nabla_x\mathcal{L} = \nabla f + G^\top\lambda$."""
        return self.gradient + multipliers @ self.jacobian

    def kkt_residual(self, multipliers: Float[Array, " m"]) -> Float[Array, " n_plus_m"]:
        r"""$\nabla\mathcal{L} = (\nabla_x\mathcal{L},\; c)$."""
        return jnp.concatenate([self.lagrangian_gradient(multipliers), self.constraints])


class ExactAugmentedLagrangian(eqx.Module):
    r"""The merit function $\mathcal{L}_\eta$, differentiable once more than its gradient needs.

    $$\mathcal{L}_\eta(x, \lambda) = f + \lambda^\top c + \tfrac{\eta_1}{2}\lVert c\rVert^2
    + \tfrac{\eta_2}{2}\lVert\nabla_x\mathcal{L}\rVert^2$$

    For $\eta_1$ large and $\eta_2$ small enough its stationary points in a compact set are the KKT points, without
    $\eta_1$ going to infinity as the quadratic penalty's does.

    **Arguments**

    - `constraint_penalty`: $\eta_1 > 0$.
    - `gradient_penalty`: $\eta_2 > 0$.

    **Raises** `ValueError` for a penalty that is not positive.

    **Source**: arXiv:2305.18379, equation (3); the function goes back to G. Di Pillo and L. Grippo, 1979.
    """

    constraint_penalty: Scalar = hyperparameter(default=1.0)
    gradient_penalty: Scalar = hyperparameter(default=0.1)

    def __check_init__(self) -> None:
        validation.positive("constraint_penalty", self.constraint_penalty)
        validation.positive("gradient_penalty", self.gradient_penalty)

    def __call__(self, problem: EqualityConstrained, point: PrimalDual) -> Float[Array, ""]:
        r"""$\mathcal{L}_\eta(x, \lambda)$."""
        return self.value(Values.at(problem, point.x), point.multipliers)

    def gradient(self, problem: EqualityConstrained, point: PrimalDual) -> PrimalDual:
        r"""$\nabla\mathcal{L}_\eta(x, \lambda)$, from the Hessian of the Lagrangian."""
        values = Values.at(problem, point.x)
        flat = self.slope_vector(values, point.multipliers, problem.hessian(point))
        return PrimalDual(flat[: point.x.size], flat[point.x.size :])

    def value(self, values: Values, multipliers: Float[Array, " m"]) -> Float[Array, ""]:
        r"""$\mathcal{L}_\eta$ where a problem has these `values`."""
        lagrangian = values.function + jnp.dot(multipliers, values.constraints)
        infeasible = 0.5 * self.constraint_penalty * jnp.sum(values.constraints**2)
        return (
            lagrangian
            + infeasible
            + 0.5 * self.gradient_penalty * jnp.sum(values.lagrangian_gradient(multipliers) ** 2)
        )

    def slope_vector(
        self, values: Values, multipliers: Float[Array, " m"], hessian: Float[Array, "n n"]
    ) -> Float[Array, " n_plus_m"]:
        r"""$\nabla\mathcal{L}_\eta$ as one vector, from `values` and the Hessian $H$ of the Lagrangian.

        $$\nabla_x\mathcal{L}_\eta = (I + \eta_2 H)\nabla_x\mathcal{L} + \eta_1 G^\top c, \qquad
        \nabla_\lambda\mathcal{L}_\eta = c + \eta_2 G\,\nabla_x\mathcal{L}$$

        The Hessian of the objective in place of $H$ is wrong for curved constraints.
        """
        gradient = values.lagrangian_gradient(multipliers)
        along_x = (
            gradient
            + self.gradient_penalty * hessian @ gradient
            + self.constraint_penalty * values.constraints @ values.jacobian
        )
        along_multipliers = values.constraints + self.gradient_penalty * values.jacobian @ gradient
        return jnp.concatenate([along_x, along_multipliers])
