"""Preference games between two policies, regularised towards a reference, with certificates that need no solution."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from tendsto import validation
from tendsto.iteration import Scalar
from tendsto.problems.preferences import MatrixPreferences, Preferences

LogPolicy = Float[Array, "*contexts actions"]


class PreferenceGame(eqx.Module):
    r"""The symmetric game in which each player wants its policy preferred to the other's, and near the reference.

    $$P_\beta(\pi \succ \pi') = P(\pi \succ \pi') - \beta\,\mathrm{KL}(\pi \Vert \pi_{\mathrm{ref}})
    + \beta\,\mathrm{KL}(\pi' \Vert \pi_{\mathrm{ref}}), \qquad
    P(\pi \succ \pi') = \sum_{y, y'} \pi(y)\,\pi'(y')\,P(y \succ y').$$

    Its value is 1/2, and its one equilibrium satisfies $\pi^\star \propto \pi_{\mathrm{ref}} \exp(P(\cdot \succ
    \pi^\star)/\beta)$. Policies are arrays of **log-probabilities** `x`, shape `(…, actions)`, with a leading axis for
    contexts where there are several: a game of its own is played in each. Measures are means over contexts, `span` the
    largest.

    **Arguments**

    - `preferences`: a `Preferences`, or a matrix of $P(y \succ y')$, shape `(actions, actions)` or
      `(contexts, actions, actions)`.
    - `regularisation`: $\beta > 0$.
    - `reference`: $\pi_{\mathrm{ref}}$, positive probabilities, shape `(actions,)` or `(contexts, actions)`; by default
      uniform.

    **Raises** `TypeError` or `ValueError` naming the argument.
    """

    preferences: Preferences
    regularisation: Scalar
    log_reference: LogPolicy
    stored_equilibrium: LogPolicy | None

    def __init__(self, preferences: Any, regularisation: Any, reference: Any = None) -> None:
        validation.positive("regularisation", regularisation)
        if isinstance(regularisation, (int, float)):
            regularisation = jnp.asarray(float(regularisation))
        self.regularisation = regularisation
        self.preferences = preferences if isinstance(preferences, Preferences) else MatrixPreferences(preferences)
        shape = (*self.preferences.contexts, self.preferences.actions)
        self.log_reference = _log_reference(reference, shape, jnp.result_type(*jax.tree.leaves(self.preferences)))
        self.stored_equilibrium = None

    @property
    def actions(self) -> int:
        """$|Y|$, the number of actions."""
        return self.preferences.actions

    @property
    def contexts(self) -> tuple[int, ...]:
        """`(contexts,)`, or `()` if there is one context."""
        return self.log_reference.shape[:-1]

    def start(self, x0: Any) -> LogPolicy:
        """`x0` normalised, or the reference if it is `None`.

        **Raises** `ValueError` if `x0` has another shape.
        """
        if x0 is None:
            return self.log_reference
        if not isinstance(x0, jax.Array) or x0.shape != self.log_reference.shape:
            raise ValueError(f"x0: expected shape {self.log_reference.shape}, got {np.shape(x0)}")
        return jax.nn.log_softmax(x0)

    def win_rates(self, x: LogPolicy) -> LogPolicy:
        r"""$P(y \succ \pi)$ for every action $y$: one query."""
        return self.preferences.win_rates(jnp.exp(x))

    def sampled_win_rates(self, x: LogPolicy, key: Key[Array, ""]) -> LogPolicy:
        """An unbiased estimate of `win_rates`, which methods use; exact unless a subclass says otherwise."""
        del key
        return self.win_rates(x)

    def vote(
        self,
        contexts: Int[Array, " batch"],
        actions: Int[Array, " batch"],
        opponents: Int[Array, " batch"],
        key: Key[Array, ""],
    ) -> Float[Array, " batch"]:
        r"""A judge: 1 where `actions` beat `opponents` in a vote with chances $P(y \succ y')$, else 0.

        **Arguments**: numbers of contexts (ignored if there is one), of the actions $y$ and of the actions $y'$; a
        random key.
        """
        chance = self.preferences.between(contexts, actions, opponents)
        return jax.random.bernoulli(key, chance).astype(chance.dtype)

    def payoff(self, x: LogPolicy, other: LogPolicy) -> Float[Array, ""]:
        r"""$P_\beta(\pi \succ \pi')$, the mean over contexts."""
        preferred = jnp.sum(jnp.exp(x) * self.win_rates(other), axis=-1)
        cost = kullback_leibler(x, self.log_reference) - kullback_leibler(other, self.log_reference)
        return jnp.mean(preferred - self.regularisation * cost)

    def best_response(self, x: LogPolicy) -> LogPolicy:
        r"""The logarithm of $\mathrm{BR}(\pi) \propto \pi_{\mathrm{ref}} \exp(P(\cdot \succ \pi)/\beta)$."""
        return jax.nn.log_softmax(self.log_reference + self.win_rates(x) / self.regularisation)

    def exploitability(self, x: LogPolicy) -> Float[Array, ""]:
        r"""$\max_{\pi'} P_\beta(\pi' \succ \pi) - \frac12 = \beta\,\mathrm{KL}(\pi \Vert \mathrm{BR}(\pi))$.

        It is zero at the equilibrium alone, needs no knowledge of it, and bounds the distance to it:
        $\mathrm{KL}(\pi \Vert \pi^\star) \le \mathrm{exploitability}/\beta$.
        """
        return self.regularisation * jnp.mean(kullback_leibler(x, self.best_response(x)))

    def stationarity(self, x: LogPolicy) -> Float[Array, ""]:
        r"""The largest span of $\log\pi - \log\mathrm{BR}(\pi)$ over contexts, zero at the equilibrium alone."""
        return span(x - self.best_response(x))

    def divergence(self, x: LogPolicy) -> Float[Array, ""]:
        r"""$\mathrm{KL}(\pi^\star \Vert \pi)$, the mean over contexts."""
        return jnp.mean(kullback_leibler(self.equilibrium, x))

    def span(self, x: LogPolicy) -> Float[Array, ""]:
        r"""The span of $\log\pi - \log\pi^\star$, its largest entry minus its smallest; the largest over contexts."""
        return span(x - self.equilibrium)

    @property
    def equilibrium(self) -> LogPolicy:
        r"""$\log\pi^\star$ to rounding; computed at every call, unless the game is `solved`."""
        return self._search() if self.stored_equilibrium is None else self.stored_equilibrium

    def solved(self) -> PreferenceGame:
        """This game with its equilibrium at hand, so that `divergence` and `span` do not search for it at every call.

        **Raises** `RuntimeError` if the search does not end at rounding level.
        """
        if self.stored_equilibrium is not None:
            return self
        found, residual = _solve(self)
        # Logarithms reach 1/beta in size, and so do the win rates once they are divided by beta.
        level = (
            1e3 * float(np.finfo(found.dtype).eps) * (1.0 / float(self.regularisation) + float(jnp.abs(found).max()))
        )
        if not float(residual) <= level:
            raise RuntimeError(
                f"equilibrium: the residual {float(residual):.3g} stayed above rounding level, {level:.3g}"
            )
        known: PreferenceGame = eqx.tree_at(
            lambda game: game.stored_equilibrium, self, found, is_leaf=lambda leaf: leaf is None
        )
        return known

    def _search(self) -> LogPolicy:
        """Extrapolated steps of certified length, then one step beyond the tolerance; the residual is the witness."""
        beta = self.regularisation
        step = 2.0 * (beta + jnp.sqrt(1.0 + beta**2))
        weight = step * beta / (1.0 + step * beta)
        scale = 1.0 / beta + jnp.abs(self.log_reference).max()
        tol = 8 * np.finfo(self.log_reference.dtype).eps * scale
        limit = jnp.ceil(80.0 / jnp.log1p(step * beta)) + 200

        def moved(x: LogPolicy, towards: LogPolicy) -> LogPolicy:
            nearer: LogPolicy = jax.nn.log_softmax((1.0 - weight) * x + weight * towards)
            return nearer

        def advance(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            x, response, count = carry
            x = moved(x, self.best_response(moved(x, response)))
            return x, self.best_response(x), count + 1

        def going(carry: tuple[Array, Array, Array]) -> Array:
            x, response, count = carry
            unfinished: Array = (span(x - response) > tol) & (count < limit)
            return unfinished

        start = self.log_reference
        begin: tuple[Array, Array, Array] = (start, self.best_response(start), jnp.asarray(0))
        x, response, _ = jax.lax.while_loop(going, advance, begin)
        return moved(x, response)


class SampledGame(PreferenceGame):
    r"""A game whose win rates are estimated from opponents drawn from the policy.

    One query draws $y'_1, \dots, y'_n \sim \pi$ and answers $\frac1n \sum_i P(y \succ y'_i)$, or the share of $n$ votes
    with these chances, for every action $y$.

    **Arguments**

    - `game`: the game; everything but `sampled_win_rates` is its own.
    - `samples`: $n$.
    - `votes`: whether votes are counted in place of probabilities.

    **Raises** `TypeError` or `ValueError` naming the argument.
    """

    samples: int = eqx.field(static=True)
    votes: bool = eqx.field(static=True)

    def __init__(self, game: PreferenceGame, samples: int, *, votes: bool = False) -> None:
        validation.integer("samples", samples, low=1)
        _copy(game, self)
        self.samples = samples
        self.votes = votes

    def sampled_win_rates(self, x: LogPolicy, key: Key[Array, ""]) -> LogPolicy:
        draw, ballot = jax.random.split(key)
        opponents = sample_actions(draw, x, self.samples)
        if self.votes:
            everyone = jnp.arange(self.actions)
            chances = self.preferences.between(context_numbers(self)[..., None], everyone, opponents[..., None])
            return jax.random.bernoulli(ballot, chances).astype(x.dtype).mean(axis=0)
        drawn = jax.nn.one_hot(opponents, self.actions, dtype=x.dtype).mean(axis=0)
        return self.preferences.win_rates(drawn)


class PerturbedGame(PreferenceGame):
    r"""A game whose win rates are off by independent errors, uniform on $[-\delta/2, \delta/2]$ for every action.

    **Arguments**

    - `game`: the game; everything but `sampled_win_rates` is its own.
    - `width`: $\delta \ge 0$.

    **Raises** `TypeError` or `ValueError` naming the argument.
    """

    width: Scalar

    def __init__(self, game: PreferenceGame, width: Any) -> None:
        validation.real("width", width, low=0.0, high=np.finfo(np.float64).max)
        _copy(game, self)
        self.width = jnp.asarray(width, game.log_reference.dtype)

    def sampled_win_rates(self, x: LogPolicy, key: Key[Array, ""]) -> LogPolicy:
        return self.win_rates(x) + self.width * (jax.random.uniform(key, x.shape, x.dtype) - 0.5)


@eqx.filter_jit
def _solve(game: PreferenceGame) -> tuple[LogPolicy, Float[Array, ""]]:
    found = game._search()
    return found, game.stationarity(found)


def context_numbers(game: PreferenceGame) -> Int[Array, " *contexts"]:
    """The number of every context; zero for a game that has no axis for them."""
    return jnp.arange(math.prod(game.contexts)).reshape(game.contexts)


def sample_actions(key: Key[Array, ""], x: LogPolicy, samples: int) -> Int[Array, "..."]:
    """Independent actions of the policy in every context, by inverting its distribution function."""
    uniform = jax.random.uniform(key, (*x.shape[:-1], samples), x.dtype)
    cumulative = jnp.cumsum(jnp.exp(x), axis=-1)
    # Rounding may leave the last sum below 1; the clip gives what lies above it to the last action.
    find = jnp.vectorize(lambda sums, levels: jnp.searchsorted(sums, levels, side="right"), signature="(a),(n)->(n)")
    return jnp.moveaxis(jnp.clip(find(cumulative, uniform), max=x.shape[-1] - 1), -1, 0)


def kullback_leibler(x: LogPolicy, other: LogPolicy) -> Float[Array, " *contexts"]:
    r"""$\mathrm{KL}(\pi \Vert \pi')$ of two arrays of log-probabilities, to relative precision however small it is.

    Every summand $\pi' - \pi + \pi\log(\pi/\pi')$ is nonnegative, so nothing cancels between actions.
    """
    ratio = x - other
    near = jnp.exp(x) * (ratio + jnp.expm1(-jnp.clip(ratio, -1.0)))
    far = jnp.exp(x) * ratio + jnp.exp(other) - jnp.exp(x)
    return jnp.sum(jnp.where(ratio > -1.0, near, far), axis=-1)


def span(values: Float[Array, "*contexts actions"]) -> Float[Array, ""]:
    """The largest entry minus the smallest one, the largest such difference over contexts."""
    return jnp.max(jnp.ptp(values, axis=-1))


def _log_reference(reference: Any, shape: tuple[int, ...], dtype: Any) -> LogPolicy:
    if shape[-1] == 0:
        raise ValueError("preferences: there must be at least one action")
    if reference is None:
        return jnp.full(shape, -math.log(shape[-1]), dtype)
    array = validation.finite_array("reference", reference)
    if array.ndim == 0 or array.shape[-1] != shape[-1]:
        raise ValueError(
            f"reference: expected {shape[-1]} entries along the last axis, one an action, got {array.shape}"
        )
    if array.ndim > 2 or (array.ndim == len(shape) == 2 and array.shape != shape):
        raise ValueError(f"reference: contexts {array.shape[:-1]} are not those of the preferences, {shape[:-1]}")
    whole = max(array.shape, shape, key=len)
    if not isinstance(array, jax.core.Tracer):
        if not bool((array > 0).all()):
            raise ValueError("reference: must have full support, but some action has probability 0 or less")
        total = np.asarray(array.sum(axis=-1))
        if np.abs(total - 1).max() > 1e4 * np.finfo(array.dtype).eps:
            raise ValueError(f"reference: probabilities must sum to 1 over actions, got {total.ravel()[0]:.6g}")
    return jnp.broadcast_to(jax.nn.log_softmax(jnp.log(array)), whole)


def _copy(game: PreferenceGame, to: PreferenceGame) -> None:
    if not isinstance(game, PreferenceGame):
        raise TypeError(f"game: expected a PreferenceGame, got {type(game).__name__}")
    for field in dataclasses.fields(PreferenceGame):
        object.__setattr__(to, field.name, getattr(game, field.name))
