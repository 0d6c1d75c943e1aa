"""Local steps with a proximal term and its correction: FedSpeed, and FedProx, FedDyn and FedSAM as cases of it."""

from __future__ import annotations

import math
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from tendsto import validation
from tendsto.federated.averaging import ClientGradient, FederatedAveraging, bits
from tendsto.federated.cohort import Cohort
from tendsto.federated.federation import Federation
from tendsto.federated.sharpness import ascent_gradient
from tendsto.iteration import Cost, Scalar, hyperparameter

CorrectionAverage = Literal["all", "active"]
"""Over whom the server averages the corrections: all clients, or those of the round."""


def _number_or_none(value: Any) -> Array | None:
    return None if value is None else jnp.asarray(value)


class FedSpeed(FederatedAveraging):
    r"""FedSpeed: a proximal term keeps long local intervals near the iterate, a correction takes away its bias.

    From $y_0 = x_t$ a participant makes $K$ steps

    $$y_{k+1} = y_k - \eta_\ell\Bigl(q_k - \hat g_i + \frac{1}{\lambda}(y_k - x_t)\Bigr), \qquad
      \hat g_i \leftarrow \hat g_i - \frac1\lambda (y_K - x_t),$$

    with the quasi-gradient $q_k$ of `ascent_gradient`. The iterate becomes the mean over the participants of
    $y_K - \lambda \hat g_i$ with the new $\hat g_i$; or, with the corrections averaged over all clients,
    $\overline{y_K} - \lambda\sum_i p_i \hat g_i$. Both are the same where everybody takes part. With some of the
    clients, the first moves by $-\lambda\,\overline{\hat g}$ of a random set in every round, and cannot come to rest
    unless the clients agree. A round with nobody in it changes nothing. All $\hat g_i$ start at zero and are an
    exponential average of quasi-gradients.

    **Arguments**

    - `local`: a client's optimiser, a step size $\eta_\ell$ or an optax transformation, fresh in every round. A step
      size below $2\lambda$, or the local steps diverge.
    - `penalty`: $\lambda > 0$; $1/\lambda$ multiplies the distance. Infinity, for no proximal term, only without
      correction.
    - `steps`: $K$.
    - `server`: the server's optimiser; 1 is the method of the paper.
    - `ascent_radius`: $\rho$ of the step uphill; `None` for plain gradients, one in each local step instead of two.
    - `ascent_weight`: $\alpha$ in $[0, 1]$.
    - `normalise_ascent`: whether the step uphill has length $\rho$ or $\rho\lVert g\rVert$, as the theorem has it.
    - `correction`: over whom the corrections are averaged; `None` for no correction, $\hat g_i = 0$.

    **Source**: Y. Sun, L. Shen, T. Huang, L. Ding, D. Tao, *FedSpeed*, 2302.10429, Algorithm 1.
    """

    penalty: Scalar = hyperparameter(default=10.0)
    ascent_radius: Scalar | None = eqx.field(default=0.1, converter=_number_or_none)
    ascent_weight: Scalar = hyperparameter(default=1.0)
    normalise_ascent: bool = eqx.field(static=True, default=True)
    correction: CorrectionAverage | None = eqx.field(static=True, default="all")

    def __check_init__(self) -> None:
        validation.real("penalty", self.penalty, low=0.0, open_low=True)
        validation.real("ascent_weight", self.ascent_weight, low=0.0, high=1.0)
        if self.ascent_radius is not None:
            validation.real("ascent_radius", self.ascent_radius, low=0.0)
        if self.correction is None:
            return
        if self.correction not in ("all", "active"):
            raise ValueError(f"correction: must be 'all', 'active' or None, got {self.correction!r}")
        validation.positive("penalty", self.penalty)

    def remember(self, problem: Federation, x0: PyTree[Array]) -> PyTree[Array]:
        r"""$\hat g_i = 0$."""
        if self.correction is None:
            return None
        return jax.tree.map(lambda leaf: jnp.zeros((problem.clients, *leaf.shape), leaf.dtype), x0)

    def client_memory(self, memory: PyTree[Array]) -> PyTree[Array]:
        r"""$\hat g_i$."""
        return memory

    def direction(self, problem: Federation, x: PyTree[Array], row: PyTree[Array]) -> ClientGradient:
        r"""$q - \hat g_i + (y - x_t)/\lambda$."""
        quasi: ClientGradient = problem.client_stochastic_gradient
        if self.ascent_radius is not None:
            quasi = ascent_gradient(
                quasi, self.ascent_radius, normalise=self.normalise_ascent, weight=self.ascent_weight
            )

        def penalised(data: PyTree[Array], y: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
            pulled = jax.tree.map(
                lambda slope, place, start: slope + (place - start) / self.penalty, quasi(data, y, key), y, x
            )
            return pulled if row is None else jax.tree.map(jnp.subtract, pulled, row)

        return penalised

    def combine(
        self, problem: Federation, memory: PyTree[Array], cohort: Cohort, displacements: PyTree[Array]
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        """The mean displacement, less the penalty times the mean of the renewed corrections."""
        moved = problem.cohort_average(cohort, displacements)
        if memory is None:
            return moved, None
        renewed = jax.tree.map(lambda kept, change: kept - change / self.penalty, cohort.take(memory), displacements)
        memory = cohort.put(memory, renewed)
        mean = problem.average(memory) if self.correction == "all" else problem.cohort_average(cohort, renewed)
        return jax.tree.map(lambda change, correction: change - self.penalty * correction, moved, mean), memory

    def spent(self, problem: Federation, cohort: Cohort, x: PyTree[Array]) -> Cost:
        """Two gradients in each local step if it looks uphill; the iterate sent both ways."""
        each = self.steps * (1 if self.ascent_radius is None else 2)
        gradients = each * cohort.take(problem.client_stochastic_gradient_cost)
        return problem.round_cost(cohort, gradients=gradients, bits_up=bits(x), bits_down=bits(x))


def fedprox(local: Any, penalty: Scalar, steps: int = 1, server: Any = 1.0) -> FedSpeed:
    r"""FedProx: federated averaging of local steps on $f_i(y) + \frac{1}{2\lambda}\lVert y - x_t\rVert^2$.

    **Source**: T. Li et al., *Federated Optimization in Heterogeneous Networks*, 1812.06127.
    """
    return FedSpeed(local, steps, server, penalty, ascent_radius=None, correction=None)


def feddyn(local: Any, penalty: Scalar, steps: int = 1, server: Any = 1.0) -> FedSpeed:
    r"""FedDyn: `FedSpeed` without a step uphill; each client's function is regularised by what it did before.

    $\lambda = 1/\alpha$ of the source, whose local minimisation is done by $K$ steps.

    **Source**: D. A. E. Acar et al., *Federated Learning Based on Dynamic Regularization*, 2111.04263.
    """
    return FedSpeed(local, steps, server, penalty, ascent_radius=None)


def fedsam(local: Any, radius: Scalar, steps: int = 1, server: Any = 1.0) -> FedSpeed:
    r"""FedSAM: federated averaging of local steps with gradients taken a normalised step of length $\rho$ uphill.

    **Source**: Z. Qu et al., *Generalized Federated Learning via Sharpness Aware Minimization*, 2206.02618.
    """
    return FedSpeed(local, steps, server, math.inf, ascent_radius=radius, correction=None)
