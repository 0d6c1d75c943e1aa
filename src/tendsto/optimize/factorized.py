"""Gradient descent on the factors of a low-rank matrix: symmetric, asymmetric, and with one modified step."""

from __future__ import annotations

import abc
from typing import Any, Generic, Literal, TypeVar, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.iteration import Cost, Method, Scalar, State, Trace, hyperparameter
from tendsto.optimize.rescale import Rescale, rebalance
from tendsto.problems import MatrixSensing
from tendsto.problems.matrix_sensing import Factors, product

Parameterization = Literal["symmetric", "asymmetric"]
StateT = TypeVar("StateT", bound=State)


class FactorizedMethod(Method[MatrixSensing, StateT], Generic[StateT]):
    r"""What methods on factors share: their hyper-parameters and their random start.

    The start has independent entries $X_{ij}, F_{ij} \sim N(0, \alpha^2)$ and
    $G_{ij} \sim N(0, (\alpha/\rho)^2)$, where $\alpha$ is `init_scale` and $\rho$ is `imbalance`.

    **Arguments**

    - `rank`: the number $k$ of columns of the factors, an upper bound on the rank of the target.
    - `step_size`: $\eta$.
    - `init_scale`: $\alpha$, the standard deviation of the entries at the start.
    - `imbalance`: $\rho$, how much larger $F$ starts than $G$; a symmetric start does not use it.
    - `parameterization`: `"asymmetric"` for $F G^\top$, `"symmetric"` for $X X^\top$.

    **Raises** `ValueError` or `TypeError` naming the hyper-parameter out of range.
    """

    rank: int = eqx.field(static=True)
    step_size: Scalar = hyperparameter()
    init_scale: Scalar = hyperparameter(default=0.05, kw_only=True)
    imbalance: Scalar = hyperparameter(default=3.0, kw_only=True)
    parameterization: Parameterization = eqx.field(static=True, default="asymmetric", kw_only=True)

    def __check_init__(self) -> None:
        validation.integer("rank", self.rank, low=1)
        validation.positive("step_size", self.step_size)
        validation.positive("init_scale", self.init_scale)
        validation.positive("imbalance", self.imbalance)
        if self.parameterization not in get_args(Parameterization):
            raise ValueError(f"parameterization: must be 'symmetric' or 'asymmetric', got {self.parameterization!r}")

    @abc.abstractmethod
    def step(self, problem: MatrixSensing, state: StateT, key: Key[Array, ""]) -> StateT:
        """The state after one more step."""

    def start(self, problem: MatrixSensing, x0: PyTree[Array], key: Key[Array, ""]) -> Factors:
        """`x0` after a check of its shape, or a random start if it is `None`."""
        rows, columns = problem.shape
        symmetric = self.parameterization == "symmetric"
        if symmetric and rows != columns:
            raise ValueError(f"parameterization: 'symmetric' needs a square matrix, got shape {problem.shape}")
        expected = [(rows, self.rank)] if symmetric else [(rows, self.rank), (columns, self.rank)]
        if x0 is None:
            draws = [
                jax.random.normal(each, shape, problem.values.dtype)
                for each, shape in zip(jax.random.split(key), expected, strict=False)
            ]
            left = self.init_scale * draws[0]
            return left if symmetric else (left, self.init_scale / self.imbalance * draws[1])
        leaves = jax.tree.leaves(x0)
        if [leaf.shape for leaf in leaves] != expected:
            raise ValueError(f"x0: expected factors of shape {expected}, got {[leaf.shape for leaf in leaves]}")
        return leaves[0] if symmetric else (leaves[0], leaves[1])


class FactorizedState(State):
    """The factors and, for the modified step, how far its trigger has come."""

    steps: Int[Array, ""]
    rescaled: Bool[Array, ""]
    memory: PyTree[Array]


class FactorizedGradientDescent(FactorizedMethod[FactorizedState]):
    r"""Gradient descent on the factors of a matrix, with an optional rescaling of the factors in one step.

    With $E_t = \mathcal{A}^*(\mathcal{A}(M_t) - y)$, symmetric ($M_t = X_t X_t^\top$, $E_t$ symmetrised) and
    asymmetric ($M_t = F_t G_t^\top$, both factors at once):

    $$X_{t+1} = X_t - \eta E_t X_t; \qquad F_{t+1} = F_t - \eta E_t G_t, \quad G_{t+1} = G_t - \eta E_t^\top F_t.$$

    When the width $k$ exceeds the rank $r$ of the target, the squared error $\lVert M_t - M^\star\rVert_F^2$
    falls no faster than $1/t^2$ in the symmetric case (see `error_lower_bound`), and like
    $\exp(-\Omega(\eta\alpha^2 t))$ in the asymmetric case from a start where $F$ is larger than $G$. A rescaling
    $F \leftarrow \beta U$, $G \leftarrow G V S/\beta$ with $F = U S V^\top$, done once near the optimum, makes
    the rate independent of $\alpha$.

    **Arguments** are those of `FactorizedMethod`, and

    - `rescale`: when and how to rescale (`RescaleAtStep`, `RescaleBelowResidual`, `RescaleAtPlateau`), or `None`
      for plain gradient descent; needs the asymmetric parameterisation.

    **Raises** `ValueError` or `TypeError` naming the hyper-parameter out of range.

    **Source** Xiong, Ding and Du (2023), Theorems 1.1 to 1.3 and Section 5. Gaussian entries of standard deviation
    $\alpha$, not normalised by the size, are our reading of the start.
    """

    rescale: Rescale | None = eqx.field(default=None, kw_only=True)

    def __check_init__(self) -> None:
        if self.rescale is not None and self.parameterization == "symmetric":
            raise ValueError("rescale: needs the asymmetric parameterisation, which has two factors to trade between")

    @classmethod
    def theory(cls, problem: MatrixSensing, rank: int, **hyperparameters: Any) -> FactorizedGradientDescent:
        r"""The method with $\eta = 1/(10\sigma_1)$ and, unless given, $\alpha = \sqrt{\sigma_1}/20$.

        The theorems ask for $\eta \le c/\sigma_1$ and $\alpha \le c'\sqrt{\sigma_r}$ with constants that they leave
        open (and powers of the size and the condition number); these are values at which every stability condition
        in the population model holds.
        """
        scale = problem.largest_singular_value
        return cls(rank, 0.1 / scale, **({"init_scale": jnp.sqrt(scale) / 20} | hyperparameters))

    def init(self, problem: MatrixSensing, x0: PyTree[Array], key: Key[Array, ""]) -> FactorizedState:
        """Start at the factors `x0`, or at a random start if it is `None`."""
        memory = () if self.rescale is None else self.rescale.init(problem)
        x = self.start(problem, x0, key)
        return FactorizedState(x, Cost(), steps=jnp.asarray(0), rescaled=jnp.asarray(False), memory=memory)

    def step(self, problem: MatrixSensing, state: FactorizedState, key: Key[Array, ""]) -> FactorizedState:
        """One gradient step, after the rescaling if its time has come."""
        residual = problem.residual(state.x)
        x, rescaled, memory = state.x, state.rescaled, state.memory
        if self.rescale is not None and isinstance(x, tuple):
            relative_residual = jnp.sum(residual**2) / jnp.sum(problem.values**2)
            fires, memory = self.rescale.fires(state.steps, relative_residual, memory)
            x = _rebalance_where(fires & ~rescaled, x, self.rescale.beta)
            rescaled |= fires
        # The rescaling leaves the product as it was, so the residual is still right.
        gradient = problem.chain(x, residual)
        x = jax.tree.map(lambda factor, slope: factor - self.step_size * slope, x, gradient)
        cost = state.cost + Cost(gradients=problem.gradient_cost)
        return FactorizedState(x, cost, state.steps + 1, rescaled, memory)

    @eqx.filter_jit
    def predicted_rate(self, problem: MatrixSensing, x: Factors) -> Float[Array, ""]:
        r"""The slope per step of $\log\lVert M_t - M^\star\rVert_F^2$ that the linearised iteration has at `x`.

        $$2 \log \max_{\lambda > 0} |1 - \eta\lambda|$$

        over the nonzero eigenvalues $\lambda$ of $J J^\top$, with $J$ the Jacobian of $(F, G) \mapsto
        \mathcal{A}(F G^\top)$ (of $X \mapsto \mathcal{A}(X X^\top)$, then halved). With full observation this is
        $2\log(1 - \eta\min(\sigma_k(F)^2, \sigma_r(G)^2))$ for small steps. A positive value says that the
        solution repels.

        **Arguments**

        - `problem`: the problem; a target is not needed.
        - `x`: factors near a solution, so near that the directions of $G$ (or $X$) beyond rank $r$ have died out:
          eigenvalues below $\sqrt{\epsilon}\,\lambda_{\max}$ count as zero. An over-parameterised symmetric
          iteration has no linear rate, and this number then only tends to zero.

        **Returns** the slope, a negative number where the iteration converges.
        """
        flat, unravel = ravel_pytree(x)
        jacobian = jax.jacfwd(lambda vector: problem.measurements(product(unravel(vector))))(flat)
        curvature = jnp.linalg.svd(jacobian, compute_uv=False) ** 2 / (1 if isinstance(x, tuple) else 2)
        active = curvature > np.sqrt(np.finfo(curvature.dtype).eps) * curvature[0]
        return 2.0 * jnp.log(jnp.max(jnp.where(active, jnp.abs(1.0 - self.step_size * curvature), 0.0)))

    def rate_report(
        self, problem: MatrixSensing, trace: Trace, *, window: tuple[float, float] | None = None
    ) -> pd.DataFrame:
        """Set the slope that each seed of a run showed beside the one that `predicted_rate` gives at its end.

        **Arguments**

        - `problem`: the problem that was run.
        - `trace`: a run of this method without a grid, with `error` recorded at linear spacing.
        - `window`: the steps to fit on; by default as in `fit_linear_rate`, for each seed.

        **Returns** a table with one row a seed: `fitted` and `predicted` slope of the logarithm of the squared error
        per step, and the `window` of the fit.

        **Raises** `KeyError` if `error` was not recorded, `ValueError` if the trace carries no final iterate.
        """
        if trace.x is None:
            raise ValueError("trace: carries no final iterate; pass the trace as run returned it")
        predicted = jax.vmap(lambda x: self.predicted_rate(problem, x))(trace.x)
        rates = [trace.sel(seed=[seed]).rate("error", kind="linear", window=window) for seed in trace["seed"].values]
        return pd.DataFrame(
            {
                "fitted": jnp.log(jnp.asarray([rate.value for rate in rates])),
                "predicted": predicted,
                "window": [rate.window for rate in rates],
            },
            index=pd.Index(trace["seed"].values, name="seed"),
        )


def error_lower_bound(
    start: Float[Array, "rows rank"], target_rank: int, step_size: Scalar, steps: Int[Array, " points"]
) -> Float[Array, " points"]:
    r"""A certified lower bound on the squared error of symmetric gradient descent with full observation.

    $$\lVert X_t X_t^\top - M^\star\rVert_F^2 \ge (k - r)\Big/\Big(\frac{1}{\lambda_0} +
    \frac{2\eta t}{1 - 2\eta\lambda_0}\Big)^2, \qquad \lambda_0 = \sigma_k(X_0)^2,$$

    whatever the start, for positive semi-definite $M^\star$ of rank $r < k$, as long as
    $2\eta(\sigma_1(X_s)^2 + \sigma_k(X_s)^2) \le 1$ for all $s < t$. It is asymptotically sharp: the error times
    $(2\eta t)^2$ tends to $k - r$.

    Proof: $X_{t+1}^\top X_{t+1} = X_t^\top (I - \eta E_t)^2 X_t \succeq X_t^\top X_t - 2\eta (X_t^\top X_t)^2$, because
    $(I - \eta E)^2 \succeq I - 2\eta E$ and $M^\star \succeq 0$. So the smallest eigenvalue obeys
    $\lambda_{t+1} \ge \lambda_t - 2\eta\lambda_t^2$, and $k - r$ singular values of the error are at least
    $\lambda_t$ since $M^\star$ has rank $r$.

    **Arguments**

    - `start`: $X_0$, shape `(rows, rank)`.
    - `target_rank`: $r$.
    - `step_size`: $\eta$.
    - `steps`: the $t$ asked for.

    **Returns** the bound at each of `steps`; zero if $k \le r$.

    **Source** an explicit constant for Xiong, Ding and Du (2023), Theorem 1.1, in the population model.
    """
    redundant = max(start.shape[1] - target_rank, 0)
    smallest = jnp.linalg.svd(start, compute_uv=False)[-1] ** 2
    return redundant / (1.0 / smallest + 2.0 * step_size * steps / (1.0 - 2.0 * step_size * smallest)) ** 2


def _rebalance_where(
    now: Bool[Array, ""], x: tuple[Float[Array, "rows rank"], Float[Array, "columns rank"]], beta: Scalar
) -> tuple[Float[Array, "rows rank"], Float[Array, "columns rank"]]:
    # A batched `cond` would pay for the decomposition in every step; a batched loop runs only if some run asks for it.
    def once(carry: Any) -> Any:
        left, right = carry[1]
        return jnp.asarray(False), rebalance(left, right, beta)

    left, right = jax.lax.while_loop(lambda carry: carry[0], once, (now, x))[1]
    return left, right
