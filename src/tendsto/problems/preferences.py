"""Who is preferred to whom: pairwise preferences over a finite set of actions, dense or structured."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from tendsto import validation


class Preferences(eqx.Module):
    r"""Probabilities $P(y \succ y') = 1 - P(y' \succ y)$ that action $y$ is preferred to $y'$, in each context.

    Nothing is assumed of them otherwise; in particular they may be intransitive. A subclass answers two questions,
    and need not hold a matrix to do so. Its arrays may lead with an axis for contexts (prompts).
    """

    @property
    @abc.abstractmethod
    def actions(self) -> int:
        """$|Y|$, the number of actions."""

    @property
    @abc.abstractmethod
    def contexts(self) -> tuple[int, ...]:
        """`(contexts,)`, or `()` if there is one context."""

    @abc.abstractmethod
    def win_rates(self, policy: Float[Array, "*contexts actions"]) -> Float[Array, "*contexts actions"]:
        r"""$P(y \succ \pi) = \sum_{y'} \pi(y') P(y \succ y')$ for every action $y$; $\pi$ in probabilities."""

    @abc.abstractmethod
    def between(
        self, contexts: Int[Array, "..."], actions: Int[Array, "..."], opponents: Int[Array, "..."]
    ) -> Float[Array, "..."]:
        r"""$P(y \succ y')$ for numbers of contexts (which are ignored if there is one), of $y$ and of $y'$.

        The arguments broadcast against each other; the answer has their common shape.
        """


class MatrixPreferences(Preferences):
    r"""Preferences given by a matrix.

    **Arguments**: `matrix`, entry $(y, y')$ being $P(y \succ y')$, shape
    `(actions, actions)` or `(contexts, actions, actions)`.

    **Raises** `ValueError` if it is not square, leaves $[0, 1]$, or does not sum to one with its transpose.
    """

    matrix: Float[Array, "*contexts actions actions"] = eqx.field(
        converter=lambda value: validation.finite_array("matrix", value)
    )

    def __check_init__(self) -> None:
        shape = self.matrix.shape
        if len(shape) not in (2, 3) or shape[-1] != shape[-2]:
            raise ValueError(f"matrix: expected shape (actions, actions) or (contexts, actions, actions), got {shape}")
        validation.real("matrix", self.matrix, low=0.0, high=1.0)
        if isinstance(self.matrix, jax.core.Tracer):
            return
        defect = np.abs(np.asarray(self.matrix + jnp.swapaxes(self.matrix, -1, -2)) - 1.0).max()
        if defect > 32 * np.finfo(self.matrix.dtype).eps:
            raise ValueError(f"matrix: P(y, y') + P(y', y) must be 1, differs from it by {defect:.3g}")

    @property
    def actions(self) -> int:
        return self.matrix.shape[-1]

    @property
    def contexts(self) -> tuple[int, ...]:
        return self.matrix.shape[:-2]

    def win_rates(self, policy: Float[Array, "*contexts actions"]) -> Float[Array, "*contexts actions"]:
        return jnp.einsum("...ij,...j->...i", self.matrix, policy)

    def between(
        self, contexts: Int[Array, "..."], actions: Int[Array, "..."], opponents: Int[Array, "..."]
    ) -> Float[Array, "..."]:
        return self.matrix[contexts, actions, opponents] if self.contexts else self.matrix[actions, opponents]


class LowRankPreferences(Preferences):
    r"""$P(y \succ y') = \frac12 + u_y^\top S u_{y'}$ with a skew-symmetric $S$: a query costs $O(|Y| r)$.

    **Arguments**

    - `features`: $u_y$, one row an action, shape `(actions, r)` or `(contexts, actions, r)`.
    - `skew`: $S = -S^\top$, shape `(r, r)`.

    **Raises** `ValueError` if `skew` has another shape or is not skew-symmetric, or if
    $\max_y \lVert u_y\rVert \max_y \lVert S u_y\rVert > \frac12$, the bound that keeps every preference a probability
    without looking at all pairs.
    """

    features: Float[Array, "*contexts actions r"] = eqx.field(
        converter=lambda value: validation.finite_array("features", value)
    )
    skew: Float[Array, "r r"] = eqx.field(converter=lambda value: validation.finite_array("skew", value, ndim=2))

    def __check_init__(self) -> None:
        if self.features.ndim not in (2, 3):
            raise ValueError(f"features: expected shape ((contexts,) actions, r), got {self.features.shape}")
        rank = self.features.shape[-1]
        if self.skew.shape != (rank, rank):
            raise ValueError(f"skew: expected shape {(rank, rank)} for these features, got {self.skew.shape}")
        if isinstance(self.features, jax.core.Tracer) or isinstance(self.skew, jax.core.Tracer):
            return
        if (self.skew != -self.skew.T).any():
            raise ValueError("skew: must equal minus its transpose")
        largest = jnp.linalg.norm(self.features, axis=-1).max() * jnp.linalg.norm(self._turned, axis=-1).max()
        if largest > 0.5 * (1 + 32 * np.finfo(self.features.dtype).eps):
            raise ValueError(
                f"features: |u| |S u| must not exceed 1/2, it reaches {float(largest):.3g}; scale them down"
            )

    @property
    def actions(self) -> int:
        return self.features.shape[-2]

    @property
    def contexts(self) -> tuple[int, ...]:
        return self.features.shape[:-2]

    @property
    def _turned(self) -> Float[Array, "*contexts actions r"]:
        return self.features @ self.skew

    def win_rates(self, policy: Float[Array, "*contexts actions"]) -> Float[Array, "*contexts actions"]:
        mean = jnp.einsum("...ij,...i->...j", self.features, policy)
        return 0.5 + jnp.einsum("...ij,...j->...i", self._turned, mean)

    def between(
        self, contexts: Int[Array, "..."], actions: Int[Array, "..."], opponents: Int[Array, "..."]
    ) -> Float[Array, "..."]:
        where = (contexts,) if self.contexts else ()
        left, right = self.features[(*where, actions)], self.features[(*where, opponents)]
        return 0.5 + jnp.sum((left @ self.skew) * right, axis=-1)


class AdditivePreferences(Preferences):
    r"""$P(y \succ y') = \frac12 + \frac12 (s_y - s_{y'})$: transitive, with an equilibrium in closed form.

    $P(y \succ \pi)$ is $s_y/2$ up to a constant, whatever $\pi$ is, so that $\pi^\star \propto
    \pi_{\mathrm{ref}}\, e^{s/(2\beta)}$.

    **Arguments**: `scores`, $s$, shape `(actions,)` or `(contexts, actions)`, whose span must not exceed 1.

    **Raises** `ValueError` if it does.
    """

    scores: Float[Array, "*contexts actions"] = eqx.field(
        converter=lambda value: validation.finite_array("scores", value)
    )

    def __check_init__(self) -> None:
        if self.scores.ndim not in (1, 2):
            raise ValueError(f"scores: expected shape ((contexts,) actions), got {self.scores.shape}")
        if isinstance(self.scores, jax.core.Tracer):
            return
        widest = float(jnp.ptp(self.scores, axis=-1).max())
        if widest > 1.0 + 32 * float(np.finfo(self.scores.dtype).eps):
            raise ValueError(f"scores: must lie within 1 of each other, their span is {widest:.3g}")

    @property
    def actions(self) -> int:
        return self.scores.shape[-1]

    @property
    def contexts(self) -> tuple[int, ...]:
        return self.scores.shape[:-1]

    def win_rates(self, policy: Float[Array, "*contexts actions"]) -> Float[Array, "*contexts actions"]:
        mean = jnp.sum(self.scores * policy, axis=-1, keepdims=True)
        return 0.5 + 0.5 * (self.scores - mean)

    def between(
        self, contexts: Int[Array, "..."], actions: Int[Array, "..."], opponents: Int[Array, "..."]
    ) -> Float[Array, "..."]:
        where = (contexts,) if self.contexts else ()
        return 0.5 + 0.5 * (self.scores[(*where, actions)] - self.scores[(*where, opponents)])


class FunctionPreferences(Preferences):
    r"""Preferences that a function computes for each pair of actions, a block of rows at a time.

    A query costs $|Y|^2$ calls of the function and memory for `block` rows. The same preferences hold in every
    context.

    **Arguments**

    - `function`: $P(y \succ y')$ from what describes $y$ and $y'$, a JAX function of two items.
    - `items`: what describes the actions, an array whose first axis has one entry an action.
    - `block`: how many rows are computed at once.

    **Raises** `TypeError` or `ValueError` naming the argument. That the function's values sum to one with those of the
    swapped pair is checked on the first few actions.
    """

    function: Callable[[Any, Any], Float[Array, ""]] = eqx.field(static=True)
    items: Float[Array, "actions ..."] = eqx.field(converter=lambda value: validation.finite_array("items", value))
    block: int = eqx.field(static=True, default=256)

    def __check_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function: expected a function of two items, got {type(self.function).__name__}")
        validation.integer("block", self.block, low=1)
        if self.items.ndim == 0:
            raise ValueError("items: expected one entry an action, got a number")
        if isinstance(self.items, jax.core.Tracer):
            return
        few = self.items[:8]
        table = jax.vmap(self._row, in_axes=(0, None))(few, few)
        defect = float(jnp.abs(table + table.T - 1.0).max())
        if not defect <= 1e3 * float(np.finfo(table.dtype).eps) or not bool(((table >= 0) & (table <= 1)).all()):
            raise ValueError(f"function: must return probabilities with P(y, y') + P(y', y) = 1, off by {defect:.3g}")

    def _row(self, item: Any, others: Any) -> Float[Array, " others"]:
        row: Float[Array, " others"] = jax.vmap(lambda other: self.function(item, other))(others)
        return row

    @property
    def actions(self) -> int:
        return self.items.shape[0]

    @property
    def contexts(self) -> tuple[int, ...]:
        return ()

    def win_rates(self, policy: Float[Array, "*contexts actions"]) -> Float[Array, "*contexts actions"]:
        rates = jax.lax.map(lambda item: policy @ self._row(item, self.items), self.items, batch_size=self.block)
        return jnp.moveaxis(rates, 0, -1)

    def between(
        self, contexts: Int[Array, "..."], actions: Int[Array, "..."], opponents: Int[Array, "..."]
    ) -> Float[Array, "..."]:
        y, other = jnp.broadcast_arrays(actions, opponents)
        chances = jax.vmap(self.function)(self.items[y.ravel()], self.items[other.ravel()])
        return jnp.broadcast_to(chances.reshape(y.shape), jnp.broadcast_shapes(y.shape, contexts.shape))


def bradley_terry(rewards: Any) -> FunctionPreferences:
    r"""The Bradley-Terry model $P(y \succ y') = 1/(1 + e^{-(r_y - r_{y'})})$: transitive, but not additive.

    **Arguments**: `rewards`, $r$, shape `(actions,)`.

    **Returns** preferences that hold no matrix.
    """
    return FunctionPreferences(_sigmoid_of_difference, validation.finite_array("rewards", rewards, ndim=1))


def _sigmoid_of_difference(reward: Float[Array, ""], other: Float[Array, ""]) -> Float[Array, ""]:
    return jax.nn.sigmoid(reward - other)


def cyclic_preferences(actions: int) -> MatrixPreferences:
    r"""Rock, paper, scissors with an odd number of actions: $y$ beats the $(|Y|-1)/2$ actions before it, cyclically.

    **Raises** `ValueError` for fewer than three actions, or an even number of them.
    """
    validation.integer("actions", actions, low=3)
    if actions % 2 == 0:
        raise ValueError(f"actions: a cycle without ties needs an odd number, got {actions}")
    ahead = (np.arange(actions)[:, None] - np.arange(actions)) % actions
    beats = (ahead > 0) & (ahead <= actions // 2)
    return MatrixPreferences(jnp.where(ahead == 0, 0.5, beats.astype(float)))


def circular_preferences(angles: Any) -> LowRankPreferences:
    r"""Rock, paper, scissors on a circle: $P(y \succ y') = \frac12 + \frac12 \sin(\varphi_y - \varphi_{y'})$, rank 2.

    **Arguments**: `angles`, $\varphi$ in radians, shape `(actions,)` or `(contexts, actions)`.
    """
    phi = validation.finite_array("angles", angles)
    features = jnp.stack([jnp.cos(phi), jnp.sin(phi)], axis=-1)
    half = jnp.asarray(0.5, phi.dtype)
    return LowRankPreferences(features, jnp.array([[0.0 * half, -half], [half, 0.0 * half]]))


def random_preferences(
    key: Key[Array, ""], actions: int, *, deterministic: bool = False, contexts: int | None = None
) -> MatrixPreferences:
    r"""Independent preferences for all pairs, uniform on $[0, 1]$, or 0 and 1 with equal chances.

    **Arguments**

    - `key`: where the randomness comes from.
    - `actions`: $|Y|$.
    - `deterministic`: draw a tournament, in which each pair has a certain winner: the most intransitive case.
    - `contexts`: how many contexts to draw them for; by default one, without an axis.

    **Raises** `ValueError` for fewer than one action or context.
    """
    validation.integer("actions", actions, low=1)
    if contexts is not None:
        validation.integer("contexts", contexts, low=1)
    return MatrixPreferences(_draw(key, actions, deterministic, () if contexts is None else (contexts,)))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _draw(
    key: Key[Array, ""], actions: int, deterministic: bool, contexts: tuple[int, ...]
) -> Float[Array, "*contexts actions actions"]:
    draws = jax.random.uniform(key, (*contexts, actions, actions))
    if deterministic:
        draws = jnp.round(draws)
    upper = jnp.triu(draws, 1)
    lower = jnp.tril(1.0 - jnp.swapaxes(upper, -1, -2), -1)
    matrix: Float[Array, "*contexts actions actions"] = upper + lower + 0.5 * jnp.eye(actions)
    return matrix
