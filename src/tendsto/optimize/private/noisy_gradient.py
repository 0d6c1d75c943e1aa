"""Gradient descent with noise, on all records or on Poisson samples: what private optimisation starts from."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key

from tendsto import validation
from tendsto.iteration import Cost, Scalar, hyperparameter
from tendsto.optimize.private.accounting import Adjacency, Release, calibrate, poisson_release
from tendsto.optimize.private.estimators import RecordMean, gaussian
from tendsto.optimize.private.method import PrivateMethod, PrivateState, sensitivity_constants


class NoisyGradientDescent(PrivateMethod[PrivateState]):
    r"""$w_{t+1} = \operatorname{prox}_{\eta h}(w_t - \eta[\operatorname{mean}_{i\in B_t}\nabla f_i(w_t) +
    N(0,\sigma^2I)])$: DP-GD, or DP-SGD where batches are sampled.

    **Arguments**

    - `step_size`: $\eta$.
    - `lipschitz`: $L_0$, a bound on every record's gradient; with `clip`, what gradients are clipped to.
    - `deviation`: $\sigma$, of each entry of the mean.
    - `steps`: $T$, after which nothing more is released and the state stands still.
    - `means`: the batches and clipping.

    **Raises** `TypeError` or `ValueError` naming the argument.

    **Source**: R. Bassily, A. Smith, A. Thakurta, arXiv:1405.7085; with sampling and clipping, M. Abadi and others,
    arXiv:1607.00133.
    """

    step_size: Scalar = hyperparameter()
    lipschitz: Scalar = hyperparameter()
    deviation: Scalar = hyperparameter()
    means: RecordMean = RecordMean()

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)
        validation.positive("lipschitz", self.lipschitz)
        validation.real("deviation", self.deviation, low=0.0, high=np.finfo(np.float64).max)

    @classmethod
    def calibrated(
        cls,
        problem: Any,
        *,
        epsilon: float,
        delta: float,
        steps: int,
        step_size: float,
        lipschitz: float | None = None,
        batch_size: int | None = None,
        adjacency: Adjacency = "replace-one",
    ) -> NoisyGradientDescent:
        r"""The method whose noise spends a budget within `steps` steps.

        **Arguments**

        - `problem`: a finite sum.
        - `epsilon`, `delta`, `adjacency`: the budget; see `calibrate`.
        - `steps`, `step_size`: $T$ and $\eta$.
        - `lipschitz`: what gradients are clipped to; by default the problem's own constant, and no clipping.
        - `batch_size`: the expected size of a Poisson sample; by default all records.

        **Raises** `ValueError` naming the argument.
        """
        records = problem.components
        size = records if batch_size is None else batch_size
        validation.integer("batch_size", size, low=1, high=records)
        validation.integer("steps", steps, low=1)
        bound = sensitivity_constants(problem)[0] if lipschitz is None else lipschitz
        validation.positive("lipschitz", bound)
        factor = calibrate([poisson_release(1.0, steps, size / records, records)], epsilon, delta, adjacency=adjacency)
        means = RecordMean(size / records, lipschitz is not None)
        return cls(step_size, bound, factor * bound / size, means, steps=steps)

    @classmethod
    def theory(
        cls,
        problem: Any,
        x0: ArrayLike,
        *,
        epsilon: float,
        delta: float,
        initial_gap: float,
        adjacency: Adjacency = "replace-one",
    ) -> NoisyGradientDescent:
        r"""DP-GD as the rate before: $T = \sqrt{F_0L_1}/(L_0\bar\alpha)$ steps of $1/(2L_1)$ on all records.

        $\bar\alpha = \sqrt{d\log(1/\delta)}/(n\varepsilon)$; the gradient norm then falls as $\bar\alpha^{1/2}$.

        **Arguments**: as for `PrivateSpiderBoost.calibrated`. **Raises** `ValueError` naming the argument.
        """
        lipschitz, smoothness = sensitivity_constants(problem)
        validation.positive("initial_gap", initial_gap)
        validation.positive("epsilon", epsilon)
        validation.real("delta", delta, low=0.0, high=1.0, open_low=True)
        unit = math.sqrt(np.size(x0) * math.log(1.0 / delta)) / (problem.components * epsilon)
        steps = max(1, math.floor(math.sqrt(initial_gap * smoothness) / (lipschitz * unit)))
        return cls.calibrated(
            problem, epsilon=epsilon, delta=delta, steps=steps, step_size=0.5 / smoothness, adjacency=adjacency
        )

    def releases(self, records: int) -> list[Release]:
        """One mean a step."""
        return [self.means.release(records, float(self.deviation), float(self.lipschitz), int(self.steps))]

    def init(self, problem: Any, x0: Float[Array, " d"], key: Key[Array, ""]) -> PrivateState:
        """Start at `x0`."""
        del problem, key
        return PrivateState(x=x0, cost=Cost(), output=x0, count=jnp.asarray(0))

    def advance(self, problem: Any, state: PrivateState, key: Key[Array, ""]) -> PrivateState:
        """One release, one step, and the proximal map of the regulariser, which costs no privacy."""
        batch_key, noise_key = jax.random.split(key)
        mean, gradients = self.means.gradient(problem, state.x, self.lipschitz, batch_key)
        moved = state.x - self.step_size * (mean + gaussian(noise_key, mean, self.deviation))
        x = problem.proximal(moved, self.step_size)
        cost = state.cost + Cost(gradients=gradients, proximal_steps=1)
        return dataclasses.replace(state, x=x, cost=cost)
