"""Preconditioned gradient descent on factors: ScaledGD and PrecGD."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree

from tendsto import validation
from tendsto.iteration import Cost, Scalar, State, hyperparameter
from tendsto.optimize.factorized import FactorizedMethod
from tendsto.problems import MatrixSensing
from tendsto.problems.matrix_sensing import Factors


def precondition(gradient: Factors, x: Factors, damping: Scalar) -> Factors:
    r"""Multiply the gradient of each factor by the inverse Gram matrix of its partner.

    $\nabla_X (X^\top X + \lambda I)^{-1}$ for one factor;
    $\nabla_F (G^\top G + \lambda I)^{-1}$ and $\nabla_G (F^\top F + \lambda I)^{-1}$ for a pair.

    **Arguments**

    - `gradient`: shaped like `x`.
    - `x`: the factors, $X$ or $(F, G)$.
    - `damping`: $\lambda \ge 0$, raised to rounding level of the Gram matrix where it is smaller.

    **Returns** the preconditioned gradient.
    """
    if isinstance(x, tuple) and isinstance(gradient, tuple):
        (left, right), (left_gradient, right_gradient) = x, gradient
        return _divide(left_gradient, right, damping), _divide(right_gradient, left, damping)
    (only_gradient,), (only_factor,) = jax.tree.leaves(gradient), jax.tree.leaves(x)
    return _divide(only_gradient, only_factor, damping)


def scale_by_gram(damping: float = 0.0) -> optax.GradientTransformation:
    r"""`precondition` as an optax transformation: chain it with `optax.scale(-step_size)` for ScaledGD.

    **Arguments**: `damping`, $\lambda \ge 0$.

    **Returns** a transformation whose `update` needs the parameters, one factor or a pair.

    **Raises** `ValueError` for negative `damping`, or in `update` if the parameters are not passed.
    """
    validation.real("damping", damping, low=0.0)

    def init(params: PyTree[Array]) -> Any:
        del params
        return optax.EmptyState()

    def update(updates: PyTree[Array], state: Any, params: PyTree[Array] | None = None) -> tuple[PyTree[Array], Any]:
        if params is None:
            raise ValueError("params: the Gram matrices need the factors; call update(updates, state, params)")
        return precondition(updates, params, damping), state

    return optax.GradientTransformation(init, update)


class ScaledGradientDescent(FactorizedMethod[State]):
    r"""ScaledGD: each factor's gradient is multiplied by the inverse Gram matrix of the other factor.

    $$F_{t+1} = F_t - \eta E_t G_t (G_t^\top G_t + \lambda I)^{-1}, \qquad
      G_{t+1} = G_t - \eta E_t^\top F_t (F_t^\top F_t + \lambda I)^{-1},$$

    and $X_{t+1} = X_t - \eta E_t X_t (X_t^\top X_t + \lambda I)^{-1}$ in the symmetric case. Its rate does not depend
    on the condition number of the target. The theory is local: with $\lambda = 0$ a small random start may fail. A
    step costs two solves with $k \times k$ matrices on top of the gradient.

    **Arguments** are those of `FactorizedMethod` (here $\eta \le 1$ for a pair and $\eta \le 1/2$ for one factor
    are usual, whatever the scale of the target), and

    - `damping`: $\lambda \ge 0$; zero for the exact rank, positive for an upper bound on it. Where a redundant
      direction of both factors has shrunk below $\sqrt\lambda$, the step is again one of gradient descent, and slow.

    **Source** Tong, Ma and Chi (2021), *Accelerating ill-conditioned low-rank matrix estimation via scaled gradient
    descent*; with fixed $\lambda > 0$, Xu et al. (2023).
    """

    damping: Scalar = hyperparameter(default=0.0, kw_only=True)

    def __check_init__(self) -> None:
        validation.real("damping", self.damping, low=0.0)

    def init(self, problem: MatrixSensing, x0: PyTree[Array], key: Key[Array, ""]) -> State:
        """Start at the factors `x0`, or at a random start if it is `None`."""
        return State(self.start(problem, x0, key), Cost())

    def step(self, problem: MatrixSensing, state: State, key: Key[Array, ""]) -> State:
        """One gradient, one or two solves."""
        gradient = problem.gradient(state.x)
        return _descend(problem, state, precondition(gradient, state.x, self.damping), self.step_size)


class PreconditionedGradientDescent(FactorizedMethod[State]):
    r"""PrecGD: ScaledGD with damping that follows the residual, for a rank that is only bounded.

    $$X_{t+1} = X_t - \eta E_t X_t (X_t^\top X_t + \lambda_t I)^{-1}, \qquad
      \lambda_t = c\,\lVert \mathcal{A}(M_t) - y\rVert,$$

    and likewise for a pair. Damping of the order of the error keeps the redundant directions well conditioned and
    the rate linear.

    **Arguments** are those of `FactorizedMethod`, and

    - `damping_ratio`: $c > 0$.

    **Source** Zhang, Fattahi and Zhang (2021), *Preconditioned gradient descent for over-parameterized nonconvex
    matrix factorization*, whose damping is the square root of the loss.
    """

    damping_ratio: Scalar = hyperparameter(default=0.1, kw_only=True)

    def __check_init__(self) -> None:
        validation.positive("damping_ratio", self.damping_ratio)

    def init(self, problem: MatrixSensing, x0: PyTree[Array], key: Key[Array, ""]) -> State:
        """Start at the factors `x0`, or at a random start if it is `None`."""
        return State(self.start(problem, x0, key), Cost())

    def step(self, problem: MatrixSensing, state: State, key: Key[Array, ""]) -> State:
        """One gradient, one or two solves."""
        residual = problem.residual(state.x)
        damping = self.damping_ratio * jnp.linalg.norm(residual)
        direction = precondition(problem.chain(state.x, residual), state.x, damping)
        return _descend(problem, state, direction, self.step_size)


def _descend(problem: MatrixSensing, state: State, direction: Factors, step_size: Scalar) -> State:
    x = jax.tree.map(lambda factor, slope: factor - step_size * slope, state.x, direction)
    return State(x, state.cost + Cost(gradients=problem.gradient_cost))


def _divide(
    gradient: Float[Array, "rows rank"], factor: Float[Array, "others rank"], damping: Scalar
) -> Float[Array, "rows rank"]:
    gram = factor.T @ factor
    # The Gram matrix is only known to this much; without a floor, a direction that has died out divides 0 by 0.
    floor = np.finfo(factor.dtype).eps * jnp.trace(gram)
    gram += jnp.maximum(damping, floor) * jnp.eye(factor.shape[1], dtype=factor.dtype)
    solved: Float[Array, "rows rank"] = jnp.linalg.solve(gram, gradient.T).T
    return solved
