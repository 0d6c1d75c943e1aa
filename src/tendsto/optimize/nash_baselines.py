"""Rivals of mirror prox on regularised preference games, in the same interface and the same currency of queries."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from tendsto import validation
from tendsto.iteration import Cost, Method, Scalar, State, hyperparameter
from tendsto.optimize.nash_mirror_prox import PolicyMethod, preference_prox
from tendsto.problems import PreferenceGame
from tendsto.problems.preference_games import LogPolicy


class SelfPlayMirrorDescent(PolicyMethod):
    r"""Online mirror descent in self-play: one proximal step against the policy itself, without extrapolation.

    $$\pi_{k+1} \propto \bigl(\pi_k\, \pi_{\mathrm{ref}}^{\lambda\beta}\,
    e^{\lambda P(\cdot \succ \pi_k)}\bigr)^{1/(1+\lambda\beta)}.$$

    **Arguments**: `step_size`, $\lambda > 0$.

    **Source**: Y. Zhang et al., "Iterative Nash Policy Optimization: Aligning LLMs with General Preferences via
    No-Regret Learning", arXiv:2407.00617, with exact proximal steps.
    """

    step_size: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)

    def move(self, problem: PreferenceGame, x: LogPolicy, key: Key[Array, ""]) -> tuple[LogPolicy, Cost]:
        return preference_prox(problem, x, problem.sampled_win_rates(x, key), self.step_size), Cost(
            gradients=1, proximal_steps=1
        )


class NashMirrorDescentState(State):
    """The last policy and the number of steps taken."""

    count: Int[Array, ""]


class NashMirrorDescent(Method[PreferenceGame, NashMirrorDescentState]):
    r"""Nash-MD: a mirror step away from, and an opponent drawn from, a geometric mixture with the reference.

    $$\bar\pi_k \propto \pi_k^{1-\eta_k\beta}\, \pi_{\mathrm{ref}}^{\eta_k\beta}, \qquad
    \pi_{k+1} \propto \bar\pi_k\, e^{\eta_k P(\cdot \succ \bar\pi_k)}, \qquad \eta_k = \frac{\eta}{1 + dk}.$$

    With a constant step it stalls at the policy $\pi \propto \pi_{\mathrm{ref}} \exp(P(\cdot \succ \bar\pi)/\beta)$,
    whose distance from $\pi^\star$ is proportional to $\eta^2$ in divergence.

    **Arguments**

    - `step_size`: $\eta > 0$; $\bar\pi$ is a mixture if $\eta\beta \le 1$, and larger values are cut there.
    - `decay`: $d \ge 0$.

    **Source**: R. Munos et al., "Nash Learning from Human Feedback", arXiv:2312.00886.
    """

    step_size: Scalar = hyperparameter()
    decay: Scalar = hyperparameter(default=0.0)

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)
        validation.real("decay", self.decay, low=0.0)

    @classmethod
    def theory(cls, problem: PreferenceGame) -> NashMirrorDescent:
        r"""$\eta_k = 2/(\beta(k+2))$, for which $\mathrm{KL}(\pi^\star \Vert \pi_k) \le 8/(\beta^2(k+1))$ is proved."""
        return cls(1.0 / problem.regularisation, 0.5)

    def init(self, problem: PreferenceGame, x0: Any, key: Key[Array, ""]) -> NashMirrorDescentState:
        """Start at `x0`, normalised, or at the reference if it is `None`."""
        del key
        return NashMirrorDescentState(problem.start(x0), Cost(), jnp.asarray(0))

    def step(
        self, problem: PreferenceGame, state: NashMirrorDescentState, key: Key[Array, ""]
    ) -> NashMirrorDescentState:
        """One query at the mixture, one mirror step from it."""
        step_size = jnp.minimum(self.step_size / (1.0 + self.decay * state.count), 1.0 / problem.regularisation)
        weight = step_size * problem.regularisation
        mixture = jax.nn.log_softmax((1.0 - weight) * state.x + weight * problem.log_reference)
        x = jax.nn.log_softmax(mixture + step_size * problem.sampled_win_rates(mixture, key))
        return NashMirrorDescentState(x, state.cost + Cost(gradients=1, proximal_steps=1), state.count + 1)


class OptimisticState(State):
    """The last policy and the win rates of the step before; at the start those of the start."""

    previous: LogPolicy


class OptimisticMirrorDescent(Method[PreferenceGame, OptimisticState]):
    r"""Optimistic mirror descent: one query a step, extrapolated from the one before.

    $$\pi_{k+1} \propto \bigl(\pi_k\, \pi_{\mathrm{ref}}^{\lambda\beta}\,
    e^{\lambda (2 A_k - A_{k-1})}\bigr)^{1/(1+\lambda\beta)}, \qquad A_k = P(\cdot \succ \pi_k).$$

    **Arguments**: `step_size`, $\lambda > 0$.
    """

    step_size: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)

    def init(self, problem: PreferenceGame, x0: Any, key: Key[Array, ""]) -> OptimisticState:
        """Start at `x0`, normalised, or at the reference if it is `None`; one query."""
        x = problem.start(x0)
        return OptimisticState(x, Cost(gradients=1), problem.sampled_win_rates(x, key))

    def step(self, problem: PreferenceGame, state: OptimisticState, key: Key[Array, ""]) -> OptimisticState:
        """One query, one proximal step."""
        rates = problem.sampled_win_rates(state.x, key)
        x = preference_prox(problem, state.x, 2.0 * rates - state.previous, self.step_size)
        return OptimisticState(x, state.cost + Cost(gradients=1, proximal_steps=1), rates)


class ExtragradientPreferences(PolicyMethod):
    r"""Extragradient preference optimisation (EGPO): two explicit steps on the logits, both from the current ones.

    $$\theta_{k+1/2} = (1-\eta\beta)\theta_k + \eta\beta\theta_{\mathrm{ref}} + \eta P(\cdot \succ \pi_k), \qquad
    \theta_{k+1} = (1-\eta\beta)\theta_k + \eta\beta\theta_{\mathrm{ref}} + \eta P(\cdot \succ \pi_{k+1/2}).$$

    With exact queries it is `NashMirrorProx` under another name for its step: $\eta = \lambda/(1+\lambda\beta)$.

    **Arguments**: `step_size`, $\eta > 0$ with $\eta\beta \le 1$.

    **Source**: R. Zhou, M. Fazel, S. S. Du, "Extragradient Preference Optimization (EGPO): Beyond Last-Iterate
    Convergence for Nash Learning from Human Feedback", arXiv:2503.08942.
    """

    step_size: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)

    def move(self, problem: PreferenceGame, x: LogPolicy, key: Key[Array, ""]) -> tuple[LogPolicy, Cost]:
        first, second = jax.random.split(key)
        weight = self.step_size * problem.regularisation
        base = (1.0 - weight) * x + weight * problem.log_reference
        ahead = jax.nn.log_softmax(base + self.step_size * problem.sampled_win_rates(x, first))
        x = jax.nn.log_softmax(base + self.step_size * problem.sampled_win_rates(ahead, second))
        return x, Cost(gradients=2)


class FictitiousState(State):
    """The last best response, the logarithm of the average policy, and the number of steps taken."""

    average: LogPolicy
    count: Int[Array, ""]


class RegularisedFictitiousPlay(Method[PreferenceGame, FictitiousState]):
    r"""Fictitious play: the regularised best response to the average of all policies so far.

    $$\pi_{k+1} \propto \pi_{\mathrm{ref}} \exp\bigl(P(\cdot \succ \bar\pi_k)/\beta\bigr), \qquad
    \bar\pi_k = \frac{1}{k+1}\sum_{j \le k} \pi_j.$$
    """

    def init(self, problem: PreferenceGame, x0: Any, key: Key[Array, ""]) -> FictitiousState:
        """Start at `x0`, normalised, or at the reference if it is `None`."""
        del key
        x = problem.start(x0)
        return FictitiousState(x, Cost(), x, jnp.asarray(0))

    def step(self, problem: PreferenceGame, state: FictitiousState, key: Key[Array, ""]) -> FictitiousState:
        """One query at the average, one best response."""
        rates = problem.sampled_win_rates(state.average, key)
        x = jax.nn.log_softmax(problem.log_reference + rates / problem.regularisation)
        count = state.count + 1
        total = jnp.logaddexp(state.average + jnp.log(count), x)
        cost = state.cost + Cost(gradients=1, proximal_steps=1)
        return FictitiousState(x, cost, jax.nn.log_softmax(total), count)


class SelfPlayPolicyGradient(PolicyMethod):
    r"""Self-play policy gradient on the logits of a softmax policy, which is Online IPO up to a factor in its step.

    $$\theta_{k+1} = \theta_k + \alpha\, \pi_k \odot (f_k - \langle\pi_k, f_k\rangle), \qquad
    f_k = P(\cdot \succ \pi_k) - \beta\log\frac{\pi_k}{\pi_{\mathrm{ref}}}.$$

    The gradient of the Online IPO loss is $-\frac4\beta$ times this one (see `online_ipo_loss`). An action moves in
    proportion to its probability, so that, unlike with proximal steps, more actions take more steps.

    **Arguments**: `learning_rate`, $\alpha > 0$.

    **Source**: D. Calandriello et al., "Human Alignment of Large Language Models through Online Preference
    Optimisation", arXiv:2403.08635; arXiv:2505.19731v2.
    """

    learning_rate: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.positive("learning_rate", self.learning_rate)

    def move(self, problem: PreferenceGame, x: LogPolicy, key: Key[Array, ""]) -> tuple[LogPolicy, Cost]:
        policy = jnp.exp(x)
        values = problem.sampled_win_rates(x, key) - problem.regularisation * (x - problem.log_reference)
        advantage = values - jnp.sum(policy * values, axis=-1, keepdims=True)
        return jax.nn.log_softmax(x + self.learning_rate * policy * advantage), Cost(gradients=1)
