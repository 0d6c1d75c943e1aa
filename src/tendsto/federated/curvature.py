"""How sharply a function bends at a point: what sharpness-aware steps are to lower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree
from scipy.sparse.linalg import LinearOperator, eigsh


def largest_curvature(function: Callable[[Any], Float[Array, ""]], x: PyTree[Array]) -> float:
    """The largest eigenvalue of the Hessian of `function` at `x`, by Lanczos' method on Hessian-vector products.

    **Arguments**: `function`, from a pytree like `x` to a number, such as `problem.objective`; `x`, of two numbers or
    more.
    """
    flat, restore = ravel_pytree(x)

    @jax.jit
    def product(direction: Float[Array, " d"]) -> Float[Array, " d"]:
        slope = jax.grad(lambda point: function(restore(point)))
        return jnp.asarray(jax.jvp(slope, (flat,), (direction,))[1])

    operator = LinearOperator((flat.size, flat.size), lambda v: np.asarray(product(jnp.ravel(v))), dtype=flat.dtype)
    # From a fixed vector, so that the same point gives the same bits.
    start = np.random.default_rng(0).standard_normal(flat.size)
    return float(eigsh(operator, k=1, which="LA", return_eigenvectors=False, v0=start, tol=1e-6)[0])
