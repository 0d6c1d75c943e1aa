"""The Newton system of the KKT conditions: its matrix, the curvature it needs, how far its inverse can reach."""

from __future__ import annotations

import enum
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tendsto.iteration import Scalar

SMALLEST_STEP = 2.0**-50
"""The step size at which a line search gives up."""


class NewtonStatus(enum.IntEnum):
    """Whether a sketched Newton method can go on, and if not, why; a stopped method holds still."""

    running = 0
    singular = 2
    inner_solver = 3
    penalties = 4
    line_search = 5
    nonfinite = 6

    @property
    def message(self) -> str:
        """The status in words."""
        return _MESSAGES[self]


_MESSAGES = {
    NewtonStatus.running: "The method can take further steps.",
    NewtonStatus.singular: "The constraint Jacobian lost full row rank.",
    NewtonStatus.inner_solver: "The inner solver reached its limit before the Newton system was solved accurately.",
    NewtonStatus.penalties: "No penalty parameters within limits made the direction a descent direction.",
    NewtonStatus.line_search: "The line search found no step that decreases the merit function.",
    NewtonStatus.nonfinite: "The function, the constraints or a derivative is not finite here.",
}


def with_curvature(
    hessian: Float[Array, "n n"], jacobian: Float[Array, "m n"], curvature: Scalar, threshold: Scalar
) -> tuple[Float[Array, "n n"], Bool[Array, ""]]:
    r"""$B$, and whether it differs from $H$: $H + (\xi_B + \lVert H\rVert_F) I$ where $H$ lacks curvature on $\ker G$.

    It does where the smallest eigenvalue of $Q^\top H Q$, with $Q$ an orthonormal basis of the kernel, is below
    `threshold`. With as many constraints as variables there is no kernel, and $B = H$.

    **Arguments**: `hessian`, $H$; `jacobian`, $G$; `curvature`, $\xi_B$; `threshold`.
    """
    constraints, size = jacobian.shape
    if constraints == size:
        return hessian, jnp.asarray(False)
    kernel = jnp.linalg.qr(jacobian.T, mode="complete")[0][:, constraints:]
    lacking = jnp.linalg.eigvalsh(kernel.T @ hessian @ kernel)[0] < threshold
    shift = jnp.where(lacking, curvature + jnp.linalg.norm(hessian), 0.0)
    return hessian + shift * jnp.eye(size, dtype=hessian.dtype), lacking


def saddle_matrix(hessian: Float[Array, "n n"], jacobian: Float[Array, "m n"]) -> Float[Array, "n_plus_m n_plus_m"]:
    r"""$\Gamma = \begin{pmatrix} B & G^\top \\ G & 0 \end{pmatrix}$."""
    corner = jnp.zeros((jacobian.shape[0], jacobian.shape[0]), hessian.dtype)
    return jnp.block([[hessian, jacobian.T], [jacobian, corner]])


def inverse_bound(
    kind: Literal["paper", "exact"] | float,
    hessian: Float[Array, "n n"],
    jacobian: Float[Array, "m n"],
    curvature: Scalar,
) -> Float[Array, ""]:
    r"""$\Psi \ge \lVert\Gamma^{-1}\rVert$.

    **Arguments**

    - `kind`: `"paper"`, $20\max(\lVert B\rVert_F^2, 1)/(\min(\xi_G, 1)\min(\xi_B, 1))$ with $\xi_G =
      \lambda_{\min}(GG^\top)$, a bound wherever $B$ has curvature $\xi_B$ on the kernel of $G$; `"exact"`,
      $1/\min_i\lvert\lambda_i(\Gamma)\rvert$; or a number, which is taken as it is.
    - `hessian`, `jacobian`, `curvature`: $B$, $G$, $\xi_B$.
    """
    if kind == "exact":
        return 1.0 / jnp.min(jnp.abs(jnp.linalg.eigvalsh(saddle_matrix(hessian, jacobian))))
    if kind == "paper":
        regularity = jnp.linalg.eigvalsh(jacobian @ jacobian.T)[0]
        largest = jnp.maximum(jnp.sum(hessian**2), 1.0)
        return 20.0 * largest / (jnp.minimum(regularity, 1.0) * jnp.minimum(curvature, 1.0))
    return jnp.asarray(kind, hessian.dtype)
