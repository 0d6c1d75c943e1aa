"""Composite stochastic mirror descent, whose last iterate is the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Int, Key, PyTree

from tendsto.iteration import Cost, Method, State
from tendsto.optimize.last_iterate_bound import optimal_base_step
from tendsto.optimize.mirror_maps import Euclidean, MirrorMap, Power
from tendsto.optimize.schedules import (
    CompositeInverseTime,
    ConstantOverHorizon,
    InversePower,
    LinearDecay,
    Schedule,
    TwoPhaseInverseTime,
    WeightedInverseTime,
)
from tendsto.problems import Problem, Regulariser, SquaredL2, Zero


class MirrorDescentState(State):
    """The last iterate, and for comparison the average of the iterates so far (the start not among them).

    `count` is the number of steps taken.
    """

    average: PyTree[Array]
    count: Int[Array, ""]


class MirrorDescent(Method[Problem, MirrorDescentState]):
    r"""Composite stochastic mirror descent; the theorem speaks of its last iterate, with no averaging.

    $$x_{t+1} = \arg\min_x\; h(x) + \langle\hat g_t, x\rangle + D(x, x_t)/\eta_t$$

    with $\hat g_t$ the stochastic gradient at $x_t$. With the Euclidean mirror map and a set's indicator for $h$ this
    is projected SGD, with the $\ell_1$ norm it is iterative soft thresholding, and on the simplex with the entropy
    it is the multiplicative-weights update. `last_iterate_bound` certifies any choice of step sizes.

    **Arguments**

    - `schedule`: the step size as a function of the number of steps taken, from `optimize.schedules` or any
      `optax.Schedule`.
    - `mirror`: the mirror map, by default Euclidean.

    **Source**: Z. Liu, Z. Zhou, "Revisiting the Last-Iterate Convergence of Stochastic Gradient Methods",
    arXiv:2312.08531, Algorithm 1.
    """

    schedule: Callable[[Any], Any]
    mirror: MirrorMap = Euclidean()

    def __check_init__(self) -> None:
        if not callable(self.schedule):
            raise TypeError(f"schedule: expected a function of the step count, got {type(self.schedule).__name__}")
        if not isinstance(self.mirror, MirrorMap):
            raise TypeError(f"mirror: expected a MirrorMap, got {type(self.mirror).__name__}")

    @classmethod
    def theory(
        cls, problem: Problem, x0: PyTree[Array], *, horizon: int | None = None, mirror: MirrorMap | None = None
    ) -> MirrorDescent:
        r"""The method with the step sizes of the theorem that fits the problem's constants.

        | the problem knows | steps, horizon known | steps, any horizon |
        | --- | --- | --- |
        | `lipschitz` ($M = 2G$) | `LinearDecay` | `InversePower` |
        | `smoothness` | `ConstantOverHorizon` | `InversePower` |
        | `smoothness`, `strong_convexity` > 0 | `TwoPhaseInverseTime` | `WeightedInverseTime` |
        | `smoothness`, $h$ is `SquaredL2` | `CompositeInverseTime` | `CompositeInverseTime` |
        | `lipschitz`, noise without variance | `LinearDecay` | `InversePower` |

        $D_1$ is the divergence from `x0` to the problem's `minimiser`, $\sigma$ comes from its `noise` (none for a
        problem that is not `Noisy`), measured in the mirror map's dual norm. For a known horizon the base step
        minimises the certificate; for an unknown one it is $(D_1/(M^p+\sigma^p))^{1/p}$.

        **Arguments**

        - `problem`: the problem, with its constants.
        - `x0`: the start $x_1$.
        - `horizon`: how many steps will be taken, if that is known.
        - `mirror`: by default Euclidean, or `Power` around `x0` if the noise has no variance.

        **Raises** `ValueError` if the start is a minimiser, if there is neither noise nor nonsmoothness to weigh
        against, or if the noise has no variance and the function is not Lipschitz; `AttributeError` if the problem
        knows neither its `smoothness` nor its Lipschitz constant, or not its minimiser.
        """
        noise = getattr(problem, "noise", None)
        moment = 2.0 if noise is None else float(noise.moment)
        if mirror is None:
            mirror = Euclidean() if moment == 2.0 else Power(moment, ravel_pytree(x0)[0])
        smoothness = getattr(problem, "smoothness", None)
        if smoothness is not None and moment == 2.0 and isinstance(mirror, Euclidean):
            curved = _curved_schedule(problem, float(smoothness), horizon)
            if curved is not None:
                return cls(curved, mirror)
        nonsmoothness = 2.0 * float(problem.lipschitz) if smoothness is None else 0.0  # type: ignore[attr-defined]
        if moment < 2.0 and smoothness:
            raise ValueError(
                "problem: noise without variance is covered for Lipschitz functions alone, not smooth ones"
            )
        largest = 0.5 / float(smoothness) if smoothness else float("inf")
        divergence = float(mirror.divergence(problem.minimiser, x0))
        if not divergence > 0.0:
            raise ValueError("x0: is already a minimiser, so no step size is best")
        sigma = 0.0 if noise is None else noise.deviation(mirror.dual_norm, ravel_pytree(x0)[0].size)
        if nonsmoothness + sigma == 0.0:
            raise ValueError(
                "problem: is smooth and free of noise; use a constant step 1/(2L), optax.constant_schedule"
            )
        if horizon is None:
            base = (divergence / (nonsmoothness**moment + sigma**moment)) ** (1.0 / moment)
            return cls(InversePower(base, largest, moment), mirror)
        shape = ConstantOverHorizon if smoothness else LinearDecay
        base = optimal_base_step(
            shape(1.0, horizon, moment=moment).step_sizes(horizon),
            divergence=divergence,
            nonsmoothness=nonsmoothness,
            noise=sigma,
            moment=None if moment == 2.0 else moment,
        )
        return cls(shape(base, horizon, largest, moment), mirror)

    def init(self, problem: Problem, x0: PyTree[Array], key: Key[Array, ""]) -> MirrorDescentState:
        """Start at `x0`."""
        del problem, key
        return MirrorDescentState(x=x0, cost=Cost(), average=x0, count=jnp.asarray(0))

    def step(self, problem: Problem, state: MirrorDescentState, key: Key[Array, ""]) -> MirrorDescentState:
        """One stochastic gradient, one mirror step."""
        gradient = problem.stochastic_gradient(state.x, key)
        x = self.mirror.step(problem.regulariser, state.x, gradient, self.schedule(state.count))
        count = state.count + 1
        average = jax.tree.map(lambda mean, new: mean + (new - mean) / count, state.average, x)
        cost = state.cost + Cost(gradients=problem.stochastic_gradient_cost, proximal_steps=1)
        return MirrorDescentState(x, cost, average, count)


class ProximalState(eqx.Module):
    """The number of updates so far."""

    count: Int[Array, ""]


def proximal_sgd(
    schedule: Callable[[Any], Any], regulariser: Regulariser | None = None, mirror: MirrorMap | None = None
) -> optax.GradientTransformation:
    r"""The same step as an optax transformation, for a training loop of one's own.

    The update is $u_t = \arg\min_x\{h(x) + \langle g_t, x\rangle + D(x, x_t)/\eta_t\} - x_t$; without a regulariser
    and in Euclidean space it is $-\eta_t g_t$.

    **Arguments**

    - `schedule`: as in `MirrorDescent`.
    - `regulariser`: $h$, by default zero.
    - `mirror`: by default Euclidean.

    **Returns** an `optax.GradientTransformation`, whose `update` needs the parameters as its third argument.

    **Raises** `ValueError` from `update` if they are missing.
    """
    chosen = Zero() if regulariser is None else regulariser
    geometry = Euclidean() if mirror is None else mirror

    def init(params: optax.Params) -> ProximalState:
        del params
        return ProximalState(jnp.asarray(0))

    def update(
        updates: optax.Updates, state: ProximalState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ProximalState]:
        if params is None:
            raise ValueError("params: the current parameters are needed, call update(gradient, state, params)")
        moved = geometry.step(chosen, params, updates, schedule(state.count))
        return jax.tree.map(jnp.subtract, moved, params), ProximalState(state.count + 1)

    return optax.GradientTransformation(init, update)


def _curved_schedule(problem: Problem, smoothness: float, horizon: int | None) -> Schedule | None:
    """The steps for a strongly convex $f$ or $h$; none if neither is."""
    if (strong_convexity := float(getattr(problem, "strong_convexity", 0.0))) > 0.0:
        if horizon is None:
            return WeightedInverseTime(strong_convexity, smoothness)
        return TwoPhaseInverseTime(strong_convexity, smoothness, horizon)
    if isinstance(problem.regulariser, SquaredL2):
        return CompositeInverseTime(problem.regulariser.strength, smoothness)
    return None
