"""Gradients taken uphill, which lead to flat minima."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from tendsto.federated.averaging import ClientGradient
from tendsto.federated.federation import squared_norm
from tendsto.iteration import Scalar


def ascent_gradient(
    gradient: ClientGradient, radius: Scalar, *, normalise: bool = True, weight: Scalar = 1.0
) -> ClientGradient:
    r"""A gradient after a step uphill, mixed with the one before it.

    $q = (1 - \alpha)\,g_1 + \alpha\,g_2$ with $g_1 = \nabla f_i(y; \xi)$ and $g_2 = \nabla f_i(y + \rho g_1; \xi)$, or
    $g_2 = \nabla f_i(y + \rho g_1/\lVert g_1\rVert; \xi)$ where it is normalised; both on the same batch.

    **Arguments**

    - `gradient`: what gives $g_1$ and $g_2$, called twice with the same key.
    - `radius`: $\rho$.
    - `normalise`: whether the step has length $\rho$, over all arrays of the pytree. At a zero gradient it has none.
    - `weight`: $\alpha$.

    **Source**: P. Foret et al., *Sharpness-Aware Minimization*, 2010.01412; Y. Sun et al., *FedSpeed*, 2302.10429.
    """

    def mixed(data: PyTree[Array], y: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        here = gradient(data, y, key)
        length = radius
        if normalise:
            squared = squared_norm(here)
            length = radius / jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
        uphill = jax.tree.map(lambda place, slope: place + length * slope, y, here)
        there = gradient(data, uphill, key)
        return jax.tree.map(lambda one, other: (1.0 - weight) * one + weight * other, here, there)

    return mixed
