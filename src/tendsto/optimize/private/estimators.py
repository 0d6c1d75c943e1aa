"""Private estimates of a gradient: noisy means of clipped records, fresh or corrected from step to step."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.iteration import Scalar
from tendsto.optimize.private.accounting import Release, batch_capacity, poisson_release
from tendsto.problems import FiniteSum, clip_rows


def gaussian(key: Key[Array, ""], like: Float[Array, "*shape"], deviation: Scalar) -> Float[Array, "*shape"]:
    """Independent normal entries, each of the given standard deviation."""
    return jnp.asarray(deviation, like.dtype) * jax.random.normal(key, like.shape, like.dtype)


class RecordMean(eqx.Module):
    r"""Means over the records of a finite sum, $\frac{1}{pn}\sum_{i\in B}v_i$, exact or over a Poisson sample $B$.

    **Arguments**

    - `sampling`: $p$ in $(0, 1]$, with which each record enters the batch; 1 takes all of them. A batch is cut at
      `batch_capacity` by a random choice, which has a probability of at most $10^{-12}$.
    - `clip`: whether each record's contribution is clipped to the bound that its noise is scaled to. Without, the
      bound must hold by the problem's constants, and privacy rests on them. With, privacy rests on nothing, but where
      clipping bites the mean is biased, and convergence theorems are void.
    """

    sampling: float = eqx.field(static=True, default=1.0)
    clip: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        validation.real("sampling", self.sampling, low=0.0, high=1.0, open_low=True)

    def gradient(
        self, problem: Any, x: Float[Array, " d"], bound: Scalar, key: Key[Array, ""]
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        r"""The mean of $v_i = \nabla f_i(x)$, clipped to `bound`, and how many component gradients it took."""
        if self.sampling == 1.0 and not self.clip:
            return problem.gradient(x), jnp.asarray(float(problem.gradient_cost))
        rows, weights = self._batch(problem, key)
        return self._mean(problem, problem.component_gradients(x, rows), weights, bound), weights.sum()

    def change(
        self, problem: Any, x: Float[Array, " d"], previous: Float[Array, " d"], bound: Scalar, key: Key[Array, ""]
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        r"""The mean of $v_i = \nabla f_i(x) - \nabla f_i(x')$, both gradients on the same batch, clipped; its cost."""
        if self.sampling == 1.0 and not self.clip:
            return problem.gradient(x) - problem.gradient(previous), jnp.asarray(2.0 * problem.gradient_cost)
        rows, weights = self._batch(problem, key)
        changes = problem.component_gradients(x, rows) - problem.component_gradients(previous, rows)
        return self._mean(problem, changes, weights, bound), 2.0 * weights.sum()

    def release(self, records: int, deviation: float, bound: float, count: int) -> Release:
        r"""`count` releases of such a mean with noise of `deviation` an entry, contributions being within `bound`."""
        multiplier = float(deviation) * self.sampling * records / float(bound)
        return poisson_release(multiplier, count, self.sampling, records)

    def _batch(self, problem: Any, key: Key[Array, ""]) -> tuple[Int[Array, " batch"], Float[Array, " batch"]]:
        if not isinstance(problem, FiniteSum):
            raise TypeError(f"problem: clipping and sampling need a FiniteSum, got {type(problem).__name__}")
        if self.sampling == 1.0:
            return jnp.arange(problem.components), jnp.ones(problem.components)
        # The smallest of uniform numbers: those below p are a Poisson sample, and where they are too many, the
        # smallest of them are a uniformly random subset.
        uniform = jax.random.uniform(key, (problem.components,))
        negated, rows = jax.lax.top_k(-uniform, batch_capacity(problem.components, self.sampling))
        return rows, jnp.where(-negated < self.sampling, 1.0, 0.0)

    def _mean(
        self, problem: Any, vectors: Float[Array, "batch d"], weights: Float[Array, " batch"], bound: Scalar
    ) -> Float[Array, " d"]:
        clipped = clip_rows(vectors, bound) if self.clip else vectors
        mean: Float[Array, " d"] = weights.astype(vectors.dtype) @ clipped / (self.sampling * problem.components)
        return mean


class SpiderMemory(eqx.Module):
    """What the estimator carries between updates.

    **Arguments**

    - `estimate`: the private estimate of the gradient at `params`; zero before the first update.
    - `params`: the parameters of the last update.
    - `count`: the number of updates.
    - `key`: the random key of the noise to come.
    """

    estimate: PyTree[Array]
    params: PyTree[Array]
    count: Int[Array, ""]
    key: Key[Array, ""]


def is_anchor(count: Int[Array, ""], period: Int[Array, ""] | int) -> Bool[Array, ""]:
    """Whether update number `count`, counted from 0, starts a phase."""
    return count % period == 0


def variation_deviation(step: Float[Array, " d"], deviation: Scalar, ceiling: Scalar) -> Float[Array, ""]:
    r"""$\min\{\sigma_2\lVert w_t-w_{t-1}\rVert, \hat\sigma_2\}$, the deviation of an entry of a variation's noise."""
    return jnp.minimum(deviation * jnp.linalg.norm(step), ceiling)


def private_spider(
    *,
    lipschitz: float,
    smoothness: float,
    anchor_noise: float,
    variation_noise: float,
    period: int,
    batch_size: float,
    key: int | Key[Array, ""] = 0,
) -> optax.GradientTransformation:
    r"""The private SPIDER estimator for a training loop of one's own, beside `optax.contrib`'s aggregate for DP-SGD.

    Takes gradients of single examples (their leading axis), clips, averages, adds noise, and returns

    $$G_t = \begin{cases}\operatorname{mean}_i\nabla f_i(w_t) + N(0, (z_1L_0/b)^2I) & q \mid t\\
    G_{t-1} + \operatorname{mean}_i[\nabla f_i(w_t)-\nabla f_i(w_{t-1})] + N(0, \min\{z_2 L_1\lVert w_t-w_{t-1}\rVert,
    2z_2L_0\}^2/b^2\,I) & \text{else,}\end{cases}$$

    to be followed by `optax.sgd(1 / (2 * smoothness))`. Each update takes `previous`, the gradients of the same
    examples at `state.params`, which an anchor ignores:

    ```
    updates, state = estimator.update(per_example(params), state, params, previous=per_example(state.params))
    ```

    **Arguments**

    - `lipschitz`, `smoothness`: $L_0$ and $L_1$, to which gradients and their changes are clipped.
    - `anchor_noise`, `variation_noise`: the noise multipliers $z_1$ and $z_2$, as `Release` has them.
    - `period`: $q$, the updates from one anchor to the next.
    - `batch_size`: $b$, the expected size of a batch; the sum is divided by it and not by the actual size, which is
      private. Batches of changing size may be filled up with zeros.
    - `key`: the root of the noise.

    **Returns** an `optax.GradientTransformation` whose `update` needs `params` and `previous`.

    **Raises** `TypeError` or `ValueError` naming the argument.

    **Source**: R. Arora, R. Bassily, T. González, C. Guzmán, M. Menart, E. Ullah, arXiv:2206.00846, Algorithm 2.
    """
    for name, value in {"lipschitz": lipschitz, "smoothness": smoothness, "batch_size": batch_size}.items():
        validation.positive(name, value)
    validation.real("anchor_noise", anchor_noise, low=0.0)
    validation.real("variation_noise", variation_noise, low=0.0)
    validation.integer("period", period, low=1)
    root = jax.random.key(key) if isinstance(key, int) else key

    def init(params: optax.Params) -> SpiderMemory:
        return SpiderMemory(jax.tree.map(jnp.zeros_like, params), params, jnp.asarray(0), root)

    def update(
        updates: optax.Updates, state: SpiderMemory, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, SpiderMemory]:
        previous = extra.get("previous")
        if params is None:
            raise ValueError("params: the current parameters are needed, call update(gradients, state, params, ...)")
        if previous is None:
            raise ValueError("previous: the gradients of the same examples at state.params are needed")
        flat, unravel = ravel_pytree(params)
        now, before = (jax.vmap(_flat)(gradients) for gradients in (updates, previous))
        moved = flat - _flat(state.params)
        anchor = is_anchor(state.count, period)
        reach = jnp.minimum(smoothness * jnp.linalg.norm(moved), 2.0 * lipschitz)
        total = jnp.where(anchor, clip_rows(now, lipschitz).sum(0), clip_rows(now - before, reach).sum(0))
        deviation = jnp.where(
            anchor,
            anchor_noise * lipschitz,
            variation_deviation(moved, variation_noise * smoothness, 2.0 * variation_noise * lipschitz),
        )
        key, noise_key = jax.random.split(state.key)
        start = jnp.where(anchor, 0.0, 1.0) * _flat(state.estimate)
        estimate = unravel(start + (total + gaussian(noise_key, total, deviation)) / batch_size)
        return estimate, SpiderMemory(estimate, params, state.count + 1, key)

    return optax.GradientTransformationExtraArgs(init, update)


def _flat(tree: PyTree[Array]) -> Float[Array, " d"]:
    """All entries of a pytree as one vector."""
    vector: Float[Array, " d"] = ravel_pytree(tree)[0]
    return vector
