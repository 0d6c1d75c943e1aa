"""An inexact Newton direction, and how accurate it has to be from step to step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tendsto.optimize.exact_augmented_lagrangian import ExactAugmentedLagrangian

Forcing: TypeAlias = Callable[[Int[Array, ""], Float[Array, ""]], Float[Array, ""]]
r"""$\theta_k$ as a function of $k$ and $\lVert\nabla\mathcal{L}_k\rVert$."""


def inverse_square_forcing(count: Int[Array, ""], kkt_residual: Float[Array, ""]) -> Float[Array, ""]:
    r"""$\theta_k = 1/(k+1)^2$: superlinear convergence without a look at the residual."""
    del kkt_residual
    return 1.0 / (count + 1.0) ** 2


def residual_forcing(count: Int[Array, ""], kkt_residual: Float[Array, ""]) -> Float[Array, ""]:
    r"""$\theta_k = \min(1, \lVert\nabla\mathcal{L}_k\rVert)$: quadratic convergence, as of Newton's own method."""
    del count
    return jnp.minimum(1.0, kkt_residual)


class Direction(eqx.Module):
    r"""An inexact Newton direction that the merit function descends along, and what it took.

    **Arguments**

    - `step`: $z$, shape `(n + m,)`.
    - `residual`: $\lVert\Gamma z + \nabla\mathcal{L}\rVert$.
    - `tolerance`: what the accuracy condition asks of it; where the residual is larger, the status is not `running`
      or the residual is at rounding level.
    - `merit`: the merit function with the penalties that made $z$ a direction of descent.
    - `slope`: $\nabla\mathcal{L}_\eta^\top z$.
    - `accuracy`: $\delta$.
    - `inverse_bound`: $\Psi$.
    - `sketches`, `penalty_updates`: how many it took.
    - `modified`: whether the Hessian was.
    - `status`: a number of `NewtonStatus`.
    """

    step: Float[Array, " n_plus_m"]
    residual: Float[Array, ""]
    tolerance: Float[Array, ""]
    merit: ExactAugmentedLagrangian
    slope: Float[Array, ""]
    accuracy: Float[Array, ""]
    inverse_bound: Float[Array, ""]
    sketches: Int[Array, ""]
    penalty_updates: Int[Array, ""]
    modified: Bool[Array, ""]
    status: Int[Array, ""]
