"""Preference games by sampled responses and votes: the loss, proximal steps by policy gradients, a target network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.iteration import Cost, Method, Scalar, State, hyperparameter
from tendsto.problems import PreferenceGame
from tendsto.problems.preference_games import LogPolicy, context_numbers, sample_actions

Judge = Callable[[Array, Array, Array, Key[Array, ""]], Float[Array, " batch"]]
Opponent = Literal["online", "target"]


def nash_policy_gradient_loss(
    log_policy: Float[Array, "*batch"],
    log_reference: Float[Array, "*batch"],
    log_target: Float[Array, "*batch"],
    preference: Float[Array, "*batch"],
    *,
    regularisation: Scalar,
    step_size: Scalar,
) -> Float[Array, ""]:
    r"""A surrogate whose gradient is the policy gradient of one proximal step, to be minimised by any optimiser.

    $$-\frac1n\sum_i \log\pi_\theta(y_i)\,\operatorname{sg}\Bigl[P_i - \tfrac12
    - \beta\log\frac{\pi_\theta(y_i)}{\pi_{\mathrm{ref}}(y_i)}
    - \frac1\lambda\log\frac{\pi_\theta(y_i)}{\pi_{\mathrm{target}}(y_i)}\Bigr], \qquad y_i \sim \pi_\theta,$$

    with $\operatorname{sg}$ the stopped gradient. Its value means nothing. Log-probabilities of a whole response are
    sums over its tokens.

    **Arguments** (arrays of one shape, an entry for each response $y_i$)

    - `log_policy`: $\log\pi_\theta(y_i)$, which is differentiated.
    - `log_reference`, `log_target`: the same under the reference and under the target network, $\pi_k$.
    - `preference`: $P_i$, the chance that $y_i$ is preferred to the opponent's response, or a vote, 0 or 1.
    - `regularisation`: $\beta$.
    - `step_size`: $\lambda$; infinite for self-play without a target.

    **Returns** the surrogate loss.

    **Raises** `ValueError` if the shapes differ.
    """
    _same_shape(log_policy, log_reference=log_reference, log_target=log_target, preference=preference)
    advantage = preference - 0.5 - regularisation * (log_policy - log_reference) - (log_policy - log_target) / step_size
    return -jnp.mean(log_policy * jax.lax.stop_gradient(advantage))


def online_ipo_loss(
    log_policy: Float[Array, "*batch"],
    log_reference: Float[Array, "*batch"],
    log_policy_other: Float[Array, "*batch"],
    log_reference_other: Float[Array, "*batch"],
    preference: Float[Array, "*batch"],
    *,
    regularisation: Scalar,
) -> Float[Array, ""]:
    r"""The Online IPO loss: regress the difference of two log-ratios on the preference between their responses.

    $$\frac1n\sum_i \Bigl(\log\frac{\pi_\theta(y_i)}{\pi_{\mathrm{ref}}(y_i)}
    - \log\frac{\pi_\theta(y'_i)}{\pi_{\mathrm{ref}}(y'_i)} - \frac{P_i - 1/2}{\beta}\Bigr)^2,
    \qquad y_i, y'_i \sim \pi_\theta.$$

    Its expected gradient is $4/\beta$ times that of `nash_policy_gradient_loss` without a target.

    **Arguments**: as there, `…_other` for $y'_i$, drawn from the policy too. **Returns** the loss. **Raises**
    `ValueError` if the shapes differ.
    """
    _same_shape(
        log_policy,
        log_reference=log_reference,
        log_policy_other=log_policy_other,
        log_reference_other=log_reference_other,
        preference=preference,
    )
    margin = (log_policy - log_reference) - (log_policy_other - log_reference_other)
    return jnp.mean((margin - (preference - 0.5) / regularisation) ** 2)


class StochasticNashMirrorProx(Method[PreferenceGame, State]):
    r"""Mirror prox whose proximal steps are found by stochastic policy gradients on the logits of a softmax policy.

    Each of the two proximal steps from $\pi_k$ starts at $\theta = \log\pi_k$ and takes $T$ steps along
    `nash_policy_gradient_loss` with $n$ responses $y \sim \pi_\theta$ and as many $y'$ of the opponent, $\pi_k$ first
    and then $\pi_{k+1/2}$. The linear rate is kept up to a term proportional to the accuracy of the steps.

    **Arguments**

    - `optimiser`: an optax transformation, started afresh for every proximal step, so that a schedule decays within it.
    - `inner_steps`: $T$.
    - `samples`: $n$, for each context.
    - `step_size`: $\lambda$.
    - `votes`: whether a vote with chances $P(y \succ y')$ is seen, or the chances themselves.

    A step counts $2T$ queries as `gradients`, and $2Tn$ votes for each context as `evaluations`.

    **Source**: arXiv:2505.19731v1, approximate Nash-MP.
    """

    optimiser: optax.GradientTransformation = eqx.field(static=True)
    inner_steps: int = eqx.field(static=True)
    samples: int = eqx.field(static=True)
    step_size: Scalar = hyperparameter(default=2.0)
    votes: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        _optimiser(self.optimiser)
        validation.integer("inner_steps", self.inner_steps, low=1)
        validation.integer("samples", self.samples, low=1)
        validation.positive("step_size", self.step_size)

    def init(self, problem: PreferenceGame, x0: Any, key: Key[Array, ""]) -> State:
        """Start at `x0`, normalised, or at the reference if it is `None`."""
        del key
        return State(problem.start(x0), Cost())

    def step(self, problem: PreferenceGame, state: State, key: Key[Array, ""]) -> State:
        """Two proximal steps from the same policy."""
        first, second = jax.random.split(key)
        ahead = self._prox(problem, state.x, state.x, first)
        x = self._prox(problem, state.x, ahead, second)
        queries = 2 * self.inner_steps
        ballots = queries * self.samples * math.prod(problem.contexts)
        return State(x, state.cost + Cost(gradients=queries, proximal_steps=2, evaluations=ballots))

    def _prox(self, problem: PreferenceGame, centre: LogPolicy, opponent: LogPolicy, key: Key[Array, ""]) -> LogPolicy:
        places = (context_numbers(problem),) if problem.contexts else ()

        def loss(theta: LogPolicy, actions: Array, preference: Array) -> Float[Array, ""]:
            def at(values: LogPolicy) -> Array:
                return values[(*places, actions)]

            one = nash_policy_gradient_loss(
                at(jax.nn.log_softmax(theta)),
                at(problem.log_reference),
                at(centre),
                preference,
                regularisation=problem.regularisation,
                step_size=self.step_size,
            )
            # The mean runs over contexts too; every context takes the step that it would take alone.
            return one * math.prod(problem.contexts)

        def inner(number: Array, carry: tuple[LogPolicy, PyTree[Array]]) -> tuple[LogPolicy, PyTree[Array]]:
            theta, memory = carry
            mine, theirs, ballot = jax.random.split(jax.random.fold_in(key, number), 3)
            actions = sample_actions(mine, jax.nn.log_softmax(theta), self.samples)
            rivals = sample_actions(theirs, opponent, self.samples)
            chance = problem.preferences.between(context_numbers(problem), actions, rivals)
            seen = jax.random.bernoulli(ballot, chance).astype(chance.dtype) if self.votes else chance
            gradient = jax.grad(loss)(theta, actions, seen)
            update, memory = self.optimiser.update(gradient, memory, theta)
            return theta + update, memory

        theta, _ = jax.lax.fori_loop(0, self.inner_steps, inner, (centre, self.optimiser.init(centre)))
        return jax.nn.log_softmax(theta)


class NetworkGame(eqx.Module):
    r"""A preference game played by a network that maps contexts to policies, and known through a judge alone.

    **Arguments**

    - `network`: from parameters (a pytree of arrays) and contexts, shape `(batch, …)`, to logits, shape
      `(batch, actions)`.
    - `features`: the contexts (prompts), shape `(contexts, …)`.
    - `log_reference`: $\log\pi_{\mathrm{ref}}$ in every context, shape `(contexts, actions)`.
    - `judge`: from numbers of contexts, actions, opposing actions (each of shape `(batch,)`) and a random key to the
      preference for the first, in $[0, 1]$; for instance `PreferenceGame.vote`, or what `host_judge` makes of an
      ordinary function.
    - `regularisation`: $\beta > 0$.

    **Raises** `TypeError` or `ValueError` naming the argument.
    """

    network: Callable[[Any, Any], Float[Array, "batch actions"]] = eqx.field(static=True)
    features: Float[Array, "contexts ..."] = eqx.field(
        converter=lambda value: validation.finite_array("features", value)
    )
    log_reference: Float[Array, "contexts actions"] = eqx.field(
        converter=lambda value: validation.finite_array("log_reference", value, ndim=2)
    )
    judge: Judge
    regularisation: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        for name in ("network", "judge"):
            if not callable(getattr(self, name)):
                raise TypeError(f"{name}: expected a function, got {type(getattr(self, name)).__name__}")
        validation.positive("regularisation", self.regularisation)
        rows, contexts = self.log_reference.shape[0], self.features.shape[0]
        if rows != contexts:
            raise ValueError(f"log_reference: expected {contexts} rows, one a context, got {rows}")

    def log_policy(self, params: PyTree[Array]) -> Float[Array, "contexts actions"]:
        """The policy of a network with these parameters in every context, for the measures of a `PreferenceGame`."""
        return jax.nn.log_softmax(self.network(params, self.features))


class TargetNetworkState(State):
    """The parameters of the online network and of the target, the optimiser's memory, and the number of steps."""

    target: PyTree[Array]
    memory: PyTree[Array]
    count: Int[Array, ""]


class DeepNashMirrorProx(Method[NetworkGame, TargetNetworkState]):
    r"""Nash-MP for networks: an online network climbs the proximal objective around a slowly moving target network.

    Each step draws contexts, one response of the online network $\pi_\theta$ and one of the opponent in each, asks the
    judge, and takes one step of the optimiser on `nash_policy_gradient_loss`; every `target_period` steps
    $\theta_{\mathrm{target}} \leftarrow \kappa\theta + (1-\kappa)\theta_{\mathrm{target}}$.

    - $\kappa$ of 0.01 to 0.1 after every step is the paper's practical form, the target standing for $\pi_k$;
    - $\kappa = 1$ after every `target_period` steps is its second version's proximal point method (Nash Prox);
    - an infinite `step_size` leaves regularised self-play policy gradients (Online IPO);
    - a `mixture` above 0 draws the opponent's response as Nash-MD does, from $\pi^{1-\alpha}\pi_{\mathrm{ref}}^\alpha$.

    The text leaves open who the opponent is once the two proximal steps are fused into one. By default it is the online
    network itself, as $\pi_{k+1/2}$ is in the second of them: then a network that has solved its objective stands at
    the proximal point, whatever $\lambda$. With `opponent="target"` it stands at $\pi_{k+1/2}$.

    **Arguments**

    - `optimiser`: any optax transformation.
    - `batch`: how many contexts are drawn (with replacement) in a step.
    - `step_size`: $\lambda$, possibly infinite; the paper's $\eta = 2\beta$ is $\lambda = 2$.
    - `target_rate`: $\kappa \in [0, 1]$.
    - `target_period`: how many steps lie between updates of the target.
    - `opponent`: `"online"` or `"target"`.
    - `mixture`: $\alpha \in [0, 1]$.

    A step counts one query as `gradients`, and `batch` votes as `evaluations`.

    **Source**: arXiv:2505.19731v1, the practical implementation; v2 for Nash Prox.
    """

    optimiser: optax.GradientTransformation = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    step_size: Scalar = hyperparameter(default=2.0)
    target_rate: Scalar = hyperparameter(default=0.05)
    target_period: int = eqx.field(static=True, default=1)
    opponent: Opponent = eqx.field(static=True, default="online")
    mixture: Scalar = hyperparameter(default=0.0)

    def __check_init__(self) -> None:
        _optimiser(self.optimiser)
        validation.integer("batch", self.batch, low=1)
        validation.real("step_size", self.step_size, low=0.0, open_low=True)
        validation.real("target_rate", self.target_rate, low=0.0, high=1.0)
        validation.integer("target_period", self.target_period, low=1)
        if self.opponent not in get_args(Opponent):
            raise ValueError(f"opponent: must be 'online' or 'target', got {self.opponent!r}")
        validation.real("mixture", self.mixture, low=0.0, high=1.0)

    def init(self, problem: NetworkGame, x0: PyTree[Array], key: Key[Array, ""]) -> TargetNetworkState:
        """Online and target network both start with the parameters `x0`."""
        del problem, key
        return TargetNetworkState(x0, Cost(), x0, self.optimiser.init(x0), jnp.asarray(0))

    def step(self, problem: NetworkGame, state: TargetNetworkState, key: Key[Array, ""]) -> TargetNetworkState:
        """One batch, one step of the optimiser, and the target's share of it."""
        draw, mine, theirs, ballot = jax.random.split(key, 4)
        contexts = jax.random.randint(draw, (self.batch,), 0, problem.features.shape[0])
        features, log_reference = problem.features[contexts], problem.log_reference[contexts]
        log_target = jax.nn.log_softmax(problem.network(state.target, features))
        log_online = jax.nn.log_softmax(problem.network(state.x, features))
        rival = log_online if self.opponent == "online" else log_target
        actions = jax.random.categorical(mine, log_online)
        opposing = jax.random.categorical(theirs, (1.0 - self.mixture) * rival + self.mixture * log_reference)
        preference = problem.judge(contexts, actions, opposing, ballot)

        def loss(params: PyTree[Array]) -> Float[Array, ""]:
            def at(values: Float[Array, "batch actions"]) -> Float[Array, " batch"]:
                return jnp.take_along_axis(values, actions[:, None], axis=-1)[:, 0]

            return nash_policy_gradient_loss(
                at(jax.nn.log_softmax(problem.network(params, features))),
                at(log_reference),
                at(log_target),
                preference,
                regularisation=problem.regularisation,
                step_size=self.step_size,
            )

        updates, memory = self.optimiser.update(jax.grad(loss)(state.x), state.memory, state.x)
        x = optax.apply_updates(state.x, updates)
        count = state.count + 1
        rate = jnp.where(count % self.target_period == 0, self.target_rate, 0.0)
        target = optax.incremental_update(x, state.target, rate)
        cost = state.cost + Cost(gradients=1, evaluations=self.batch)
        return TargetNetworkState(x, cost, target, memory, count)


def split_network(model: Any) -> tuple[list[Array], Callable[[Any], Any]]:
    """The arrays of an equinox model, and how to put it together again.

    A model is itself a function, which `run` would take for one that draws a starting point.

    **Arguments**: `model`, for instance an `equinox.nn.MLP` from one context to logits.

    **Returns** the list of its arrays, for `x0`, and a function from such a list to the model, with which
    `NetworkGame(lambda params, contexts: jax.vmap(rebuild(params))(contexts), …)`.
    """
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(arrays)

    def rebuild(params: Any) -> Any:
        return eqx.combine(jax.tree.unflatten(structure, params), rest)

    return leaves, rebuild


def host_judge(function: Callable[[Any, Any, Any], ArrayLike]) -> Judge:
    """A judge for `NetworkGame` from an ordinary Python function: a preference model, a service, a person.

    **Arguments**: `function`, from NumPy arrays of numbers of contexts, actions and opposing actions, each of shape
    `(batch,)`, to preferences for the first in $[0, 1]$.

    **Returns** a judge that leaves the compiled step to ask `function`. Answers outside $[0, 1]$, NaN among them,
    become NaN, so that the run is reported as not finite.
    """
    if not callable(function):
        raise TypeError(f"function: expected a function, got {type(function).__name__}")

    def judge(contexts: Array, actions: Array, opponents: Array, key: Key[Array, ""]) -> Float[Array, " batch"]:
        del key
        dtype = jnp.result_type(float)

        def ask(*batch: Any) -> Any:
            answer = np.asarray(function(*map(np.asarray, batch)), dtype=dtype)
            return np.where((answer >= 0) & (answer <= 1), answer, np.nan)

        shape = jax.ShapeDtypeStruct(contexts.shape, dtype)
        found: Array = jax.pure_callback(ask, shape, contexts, actions, opponents, vmap_method="sequential")
        return found

    return judge


def _optimiser(optimiser: Any) -> None:
    if not isinstance(optimiser, optax.GradientTransformation):
        raise TypeError(f"optimiser: expected an optax.GradientTransformation, got {type(optimiser).__name__}")


def _same_shape(first: Array, **others: Array) -> None:
    for name, array in others.items():
        if jnp.shape(array) != jnp.shape(first):
            raise ValueError(f"{name}: expected shape {jnp.shape(first)}, that of log_policy, got {jnp.shape(array)}")
