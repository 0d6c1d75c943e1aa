"""Mirror prox for regularised preference games, its certificates, and the proximal point method behind it."""

from __future__ import annotations

import abc
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from numpy.typing import NDArray

from tendsto import validation
from tendsto.iteration import Cost, Method, Scalar, State, hyperparameter
from tendsto.problems import PreferenceGame
from tendsto.problems.preference_games import LogPolicy


class PolicyMethod(Method[PreferenceGame, State]):
    """A method whose iterate is an array of log-probabilities; it starts at the reference unless told otherwise."""

    def init(self, problem: PreferenceGame, x0: Any, key: Key[Array, ""]) -> State:
        """Start at `x0`, normalised, or at the reference if it is `None`."""
        del key
        return State(problem.start(x0), Cost())

    def step(self, problem: PreferenceGame, state: State, key: Key[Array, ""]) -> State:
        """One step; `Cost.gradients` counts queries, a query being one evaluation of all win rates."""
        x, spent = self.move(problem, state.x, key)
        return State(x, state.cost + spent)

    @abc.abstractmethod
    def move(self, problem: PreferenceGame, x: LogPolicy, key: Key[Array, ""]) -> tuple[LogPolicy, Cost]:
        """The next policy, and what it cost."""


def preference_prox(problem: PreferenceGame, x: LogPolicy, win_rates: LogPolicy, step_size: Scalar) -> LogPolicy:
    r"""The proximal step of a preference game, in closed form:

    $$\arg\max_\pi\; \langle A, \pi\rangle - \beta\,\mathrm{KL}(\pi \Vert \pi_{\mathrm{ref}})
    - \tfrac1\lambda \mathrm{KL}(\pi \Vert \pi_k) \;\propto\;
    \bigl(\pi_k\, \pi_{\mathrm{ref}}^{\lambda\beta}\, e^{\lambda A}\bigr)^{1/(1+\lambda\beta)}.$$

    **Arguments**

    - `problem`: the game, for $\beta$ and $\pi_{\mathrm{ref}}$.
    - `x`: $\log\pi_k$, the centre of the step, shape `(actions,)` or `(contexts, actions)`.
    - `win_rates`: $A$, the win rates against the opponent, of the same shape.
    - `step_size`: $\lambda$.

    **Returns** log-probabilities.
    """
    pull = step_size * problem.regularisation
    return jax.nn.log_softmax((x + pull * problem.log_reference + step_size * win_rates) / (1.0 + pull))


class NashMirrorProx(PolicyMethod):
    r"""Mirror prox: a proximal step against the policy itself, and a second one against what the first one gave.

    With $A(\pi) = P(\cdot \succ \pi)$, both steps from $\pi_k$,

    $$\pi_{k+1/2} = \arg\max_\pi \langle A(\pi_k), \pi\rangle - \beta\,\mathrm{KL}(\pi \Vert \pi_{\mathrm{ref}})
    - \tfrac1\lambda \mathrm{KL}(\pi \Vert \pi_k), \qquad
    \pi_{k+1} = \arg\max_\pi \langle A(\pi_{k+1/2}), \pi\rangle - \beta\,\mathrm{KL}(\pi \Vert \pi_{\mathrm{ref}})
    - \tfrac1\lambda \mathrm{KL}(\pi \Vert \pi_k).$$

    For $\lambda \le 2$ the last iterate obeys
    $\mathrm{KL}(\pi^\star \Vert \pi_k) \le (1 + \lambda\beta)^{-k}\,\mathrm{KL}(\pi^\star \Vert \pi_0)$, whatever the
    number of actions. A step costs two queries, so $k = N/2$ after $N$ of them. The paper has $\lambda = \eta/\beta$.

    **Arguments**: `step_size`, $\lambda > 0$.

    **Source**: D. Tiapkin, D. Calandriello, D. Belomestny, E. Moulines, A. Naumov, K. Rasul, M. Valko, P. Ménard,
    "Accelerating Nash Learning from Human Feedback via Mirror Prox", arXiv:2505.19731v1, Nash-MP and its theorem on
    the divergence of the last iterate.
    """

    step_size: Scalar = hyperparameter(default=2.0)

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)

    @classmethod
    def theory(cls, problem: PreferenceGame, *, sharp: bool = False) -> NashMirrorProx:
        r"""$\lambda = 2$, the theorem's, or with `sharp` the largest that the same proof admits.

        The cross term of the proof is $\frac\lambda2 ab$ with $a^2 \le 2\,\mathrm{KL}(\pi_{k+1/2} \Vert \pi_k)$ and
        $b^2 \le 2\,\mathrm{KL}(\pi_{k+1} \Vert \pi_{k+1/2})$; the second divergence comes with the weight
        $1 + \lambda\beta$, of which the theorem uses 1. Weighing the two accordingly admits every $\lambda$ with
        $\lambda^2 \le 4(1+\lambda\beta)$, hence $\lambda = 2(\beta + \sqrt{1+\beta^2})$ and the factor
        $(\beta + \sqrt{1+\beta^2})^{-2}$ a step.
        """
        beta = problem.regularisation
        return cls(2.0 * (beta + jnp.sqrt(1.0 + beta**2)) if sharp else 2.0)

    def move(self, problem: PreferenceGame, x: LogPolicy, key: Key[Array, ""]) -> tuple[LogPolicy, Cost]:
        first, second = jax.random.split(key)
        ahead = preference_prox(problem, x, problem.sampled_win_rates(x, first), self.step_size)
        x = preference_prox(problem, x, problem.sampled_win_rates(ahead, second), self.step_size)
        return x, Cost(gradients=2, proximal_steps=2)


class NashProx(PolicyMethod):
    r"""The proximal point method: each step plays the game that is also held near the current policy.

    $$\pi_{k+1} \approx \text{equilibrium of } P(\pi \succ \pi') - \beta\,\mathrm{KL}(\pi \Vert \pi_{\mathrm{ref}})
    - \tfrac1\lambda\mathrm{KL}(\pi \Vert \pi_k) + \beta\,\mathrm{KL}(\pi' \Vert \pi_{\mathrm{ref}})
    + \tfrac1\lambda\mathrm{KL}(\pi' \Vert \pi_k),$$

    found by self-play from $\pi_k$: $\log\pi \leftarrow (1-r)\log\pi + r \log\mathrm{prox}(A(\pi))$ with the proximal
    step from $\pi_k$, which is a natural policy gradient step. Exactly solved, it contracts for every $\lambda > 0$:
    $(1+\lambda\beta)\,\mathrm{KL}(\pi^\star \Vert \pi_{k+1}) \le \mathrm{KL}(\pi^\star \Vert \pi_k)$. With $r = 1$, one
    inner step is `SelfPlayMirrorDescent`, and two are `NashMirrorProx`. The inner map contracts the span of
    log-policies with $r = 1$ whenever $\lambda < 2(1+\lambda\beta)$, by the factor $\lambda/(2(1+\lambda\beta))$.

    **Arguments**

    - `step_size`: $\lambda > 0$.
    - `inner_steps`: how many inner steps, a query each.
    - `inner_rate`: $r \in (0, 1]$.

    **Source**: the second version of the paper, "Proximal Point Nash Learning from Human Feedback",
    arXiv:2505.19731v2, with exact win rates and the softmax policy's natural gradient for the inner self-play.
    """

    step_size: Scalar = hyperparameter(default=2.0)
    inner_steps: int = eqx.field(static=True, default=10)
    inner_rate: Scalar = hyperparameter(default=1.0)

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)
        validation.integer("inner_steps", self.inner_steps, low=1)
        validation.real("inner_rate", self.inner_rate, low=0.0, high=1.0, open_low=True)

    def move(self, problem: PreferenceGame, x: LogPolicy, key: Key[Array, ""]) -> tuple[LogPolicy, Cost]:
        def inner(number: Array, policy: LogPolicy) -> LogPolicy:
            rates = problem.sampled_win_rates(policy, jax.random.fold_in(key, number))
            target = preference_prox(problem, x, rates, self.step_size)
            return jax.nn.log_softmax((1.0 - self.inner_rate) * policy + self.inner_rate * target)

        spent = Cost(gradients=self.inner_steps, proximal_steps=self.inner_steps)
        return jax.lax.fori_loop(0, self.inner_steps, inner, x), spent


class MirrorProxBounds(NamedTuple):
    r"""What the theorem guarantees after 0, 1, …, K steps, each of shape `(K + 1,)`.

    **Arguments**

    - `divergence`: of $\mathrm{KL}(\pi^\star \Vert \pi_k)$.
    - `exploitability`: of $\max_{\pi'} P_\beta(\pi' \succ \pi_k) - \frac12$.
    - `span`: of $\lVert\log\pi_k - \log\pi^\star\rVert_{\mathrm{sp}}$.
    """

    divergence: NDArray[np.float64]
    exploitability: NDArray[np.float64]
    span: NDArray[np.float64]


def mirror_prox_bounds(
    regularisation: float, steps: int, *, step_size: float = 2.0, divergence: float | None = None
) -> MirrorProxBounds:
    r"""Certificates of `NashMirrorProx` started at the reference, none of which knows the number of actions.

    With $\rho = 1 + \lambda\beta$ and $D_k = \rho^{-k} D_0$,

    $$\mathrm{KL}(\pi^\star \Vert \pi_k) \le D_k, \qquad
    s_{k+1} \le \frac{s_k + \lambda\sqrt{2 D_k/(\lambda\beta)}}{\rho}, \quad s_0 \le \frac1\beta, \qquad
    \mathrm{SubOpt}_\beta(\pi_k) \le \frac{D_k}{4\beta} + \frac\beta2 \sqrt{2D_k}\, s_k.$$

    **Arguments**

    - `regularisation`: $\beta > 0$.
    - `steps`: $K$.
    - `step_size`: $\lambda$ with $\lambda^2 \le 4(1 + \lambda\beta)$.
    - `divergence`: $D_0 = \mathrm{KL}(\pi^\star \Vert \pi_{\mathrm{ref}})$, by default its bound $1/(2\beta)$.

    **Returns** `MirrorProxBounds`.

    **Raises** `ValueError` naming an argument out of range.
    """
    validation.positive("regularisation", regularisation)
    validation.integer("steps", steps, low=0)
    largest = 2.0 * (regularisation + math.sqrt(1.0 + regularisation**2))
    validation.real("step_size", step_size, low=0.0, high=largest * (1 + 1e-12), open_low=True)
    if divergence is not None:
        validation.real("divergence", divergence, low=0.0)
    start = 1.0 / (2.0 * regularisation) if divergence is None else divergence
    factor = 1.0 + step_size * regularisation
    distances = start * factor ** -np.arange(steps + 1.0)
    spans = np.empty(steps + 1)
    spans[0] = 1.0 / regularisation
    for k in range(steps):
        opponent = math.sqrt(2.0 * distances[k] / (step_size * regularisation))
        spans[k + 1] = (spans[k] + step_size * opponent) / factor
    gains = distances / (4.0 * regularisation) + 0.5 * regularisation * np.sqrt(2.0 * distances) * spans
    return MirrorProxBounds(distances, gains, spans)


def queries_to_divergence(game: PreferenceGame, tol: float, *, step_size: float = 2.0) -> int:
    r"""The number of queries after which $\mathrm{KL}(\pi^\star \Vert \pi) \le$ `tol` is certain, from the reference.

    It is $2\lceil\log(D_0/\mathrm{tol}) / \log(1+\lambda\beta)\rceil$ with $D_0 = 1/(2\beta)$, or for a game that is
    solved $D_0 = \mathrm{KL}(\pi^\star \Vert \pi_{\mathrm{ref}})$.

    **Raises** `ValueError` if `tol` is not positive.
    """
    validation.positive("tol", tol)
    beta = float(game.regularisation)
    known = game.stored_equilibrium is not None
    start = float(game.divergence(game.log_reference)) if known else 1.0 / (2.0 * beta)
    return 2 * max(0, math.ceil(math.log(start / tol) / math.log1p(step_size * beta)))
