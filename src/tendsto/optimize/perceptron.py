"""Separate two classes: gradient descent on the logistic loss at any step size, and the perceptrons it turns into."""

from __future__ import annotations

import abc
import math
from typing import Any, Literal, TypeVar, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float, Int, Key

from tendsto import validation
from tendsto.iteration import Cost, Method, Scalar, State, hyperparameter, solve
from tendsto.problems.separable import LinearSeparation, count_mistakes, weighted_margin_bound

Choice = Literal["cyclic", "first", "random", "worst"]
StepT = TypeVar("StepT", bound="_LogisticStep")


class SeparationState(State):
    r"""The iterate, its margins, and how many updates led to it.

    **Arguments**

    - `margins`: $m_i = b_i a_i^\top \theta_t$, which the next step and the stopping test share.
    - `updates`: the number of updates; it stands still once the iterate separates.
    - `last`: the sample that weighed most in the last update, -1 before the first.
    """

    margins: Float[Array, " n"]
    updates: Int[Array, ""]
    last: Int[Array, ""]


class Separator(Method[LinearSeparation, SeparationState]):
    r"""Methods that add a weighted sum of signed samples, $\theta_{t+1} = \theta_t + \sum_i w_i b_i a_i$.

    The iterate holds still once it separates, so `state.updates` of a longer run is the number of iterations that
    separation took.
    """

    @abc.abstractmethod
    def weights(self, state: SeparationState, key: Key[Array, ""]) -> Float[Array, " n"]:
        """$w$ at an iterate that does not separate."""

    def init(self, problem: LinearSeparation, x0: Float[Array, " d"] | None, key: Key[Array, ""]) -> SeparationState:
        r"""Start at `x0`; by default at zero, where the theorems start.

        **Raises** `ValueError` for an `x0` of the wrong shape.
        """
        del key
        shape, dtype = problem.features.shape[1:], problem.features.dtype
        x = jnp.zeros(shape, dtype) if x0 is None else jnp.asarray(x0, dtype)
        if x.shape != shape:
            raise ValueError(f"x0: expected shape {shape}, got {x.shape}")
        return SeparationState(x, Cost(), problem.margins(x), jnp.asarray(0), jnp.asarray(-1))

    def step(self, problem: LinearSeparation, state: SeparationState, key: Key[Array, ""]) -> SeparationState:
        """One update, or none if the iterate separates."""
        active = count_mistakes(state.margins) > 0
        weights = jnp.where(active, self.weights(state, key), 0.0)
        x = state.x + problem.combination(weights)
        return SeparationState(
            x,
            state.cost + Cost(gradients=active * problem.gradient_cost),
            problem.margins(x),
            state.updates + active,
            jnp.where(active, jnp.argmax(weights), state.last),
        )


class _LogisticStep(Separator):
    step_size: Scalar = hyperparameter()

    def __check_init__(self) -> None:
        validation.positive("step_size", self.step_size)

    @classmethod
    def theory(cls: type[StepT], problem: LinearSeparation, *, slack: float = 1.0) -> StepT:
        r"""The step size that keeps the iteration bound within a factor $1 + s$ of its limit for $\gamma \to \infty$.

        $\gamma = 2c/(s R^2)$ with the sharp $c$ of `tendsto.problems.weighted_margin_bound`.

        **Arguments**: `problem`; `slack`, $s > 0$. **Raises** `ValueError` for a slack out of range.
        """
        validation.positive("slack", slack)
        radius_squared = jnp.max(jnp.sum(problem.features**2, axis=1))
        c = weighted_margin_bound(problem.components)
        return cls(step_size=2.0 * c / (slack * float(radius_squared)))


class LogisticGradientDescent(_LogisticStep):
    r"""Gradient descent on the logistic loss, at any step size.

    $\theta_{t+1} = \theta_t + \frac{\gamma}{n} \sum_i p_i b_i a_i$ with $p_i = 1/(1 + e^{m_i})$, from $\theta_0 = 0$.
    As $\gamma \to \infty$, $\theta_t/\gamma$ tends to the iterates of `BatchPerceptron` for almost all data
    (Theorem 3.2), while the loss may grow without bound on the way (Theorem 4.1).

    **Arguments**

    - `step_size`: $\gamma > 0$; $2/L$ is no limit here.

    Source: Tyurin, "From Logistic Regression to the Perceptron Algorithm", equation (3) and Section 3;
    iterations to separate: `tendsto.problems.MarginCertificate.gradient_bound`.
    """

    def weights(self, state: SeparationState, key: Key[Array, ""]) -> Float[Array, " n"]:
        del key
        return self.step_size / state.margins.size * jax.nn.sigmoid(-state.margins)


class NormalisedLogisticGradientDescent(_LogisticStep):
    r"""Gradient descent on the logistic loss, divided by the mean residual.

    $\theta_{t+1} = \theta_t - \gamma\beta_t \nabla f(\theta_t)$ with $\beta_t = \left(\frac1n \sum_i p_i\right)^{-1}$
    and $p_i = 1/(1 + e^{m_i})$: the step is $\gamma$ times a weighted mean of the $b_i a_i$ that the badly classified
    samples dominate. It separates within $R^2/\mu^2 + 2\log(2n-1)/(\gamma\mu^2)$ iterations from zero (Theorem 6.1),
    free of the factor $n$ that plain gradient descent can pay. As $\gamma \to \infty$, $\beta_t \to n/|S_t|$ and
    $\theta_t/\gamma$ tends to the iterates of the Batch Perceptron normalised by mistakes.

    **Arguments**

    - `step_size`: $\gamma > 0$; the larger, the better the bound.

    Source: Tyurin, "From Logistic Regression to the Perceptron Algorithm", Section 6.
    """

    def weights(self, state: SeparationState, key: Key[Array, ""]) -> Float[Array, " n"]:
        del key
        # p / sum(p) through logarithms, because every p underflows where a large step has separated by far.
        return self.step_size * jax.nn.softmax(jax.nn.log_sigmoid(-state.margins))


class BatchPerceptron(Separator):
    r"""The Batch Perceptron, which adds all misclassified samples at once, $S_t = \{i : m_i \le 0\}$.

    - `normalise="samples"`: $\theta_{t+1} = \theta_t + \frac{v_t}{n} \sum_{i \in S_t} b_i a_i$, with $v_0 = 1/2$ and
      $v_t = 1$ after the first step; at most $n R^2/\mu^2$ iterations (Theorem 3.3).
    - `normalise="mistakes"`: $\theta_{t+1} = \theta_t + \frac{1}{|S_t|} \sum_{i \in S_t} b_i a_i$, the Normalised
      Batch Perceptron; at most $R^2/\mu^2$ iterations (Theorem 5.3).

    The half weight is what makes the first the limit of gradient descent on the logistic loss, all of whose
    residuals are 1/2 at zero. A sample with margin exactly zero is a mistake.

    **Arguments**

    - `normalise`: what the sum is divided by.
    - `first_weight`: $v_0 > 0$, for `"samples"`; 1 gives the textbooks' Batch Perceptron.

    Source: Tyurin, "From Logistic Regression to the Perceptron Algorithm", Algorithms 2 and 4.
    """

    normalise: Literal["samples", "mistakes"] = "samples"
    first_weight: Scalar = hyperparameter(default=0.5)

    def __check_init__(self) -> None:
        if self.normalise not in ("samples", "mistakes"):
            raise ValueError(f"normalise: must be 'samples' or 'mistakes', got {self.normalise!r}")
        validation.positive("first_weight", self.first_weight)

    def weights(self, state: SeparationState, key: Key[Array, ""]) -> Float[Array, " n"]:
        del key
        mistaken = (~(state.margins > 0)).astype(state.margins.dtype)
        if self.normalise == "mistakes":
            return mistaken / mistaken.sum()
        return jnp.where(state.updates == 0, self.first_weight, 1.0) * mistaken / mistaken.size


class Perceptron(Separator):
    r"""Rosenblatt's Perceptron: $\theta_{t+1} = \theta_t + b_j a_j$ for one misclassified sample, $m_j \le 0$.

    At most $R^2/\mu^2$ iterations from zero, whatever the choice (Novikoff; Theorem 5.2).

    **Arguments**

    - `choice`: which sample: `"cyclic"`, the next one after the last used (the sweep over the data of most
      implementations); `"first"`, the smallest index; `"worst"`, the smallest margin; or `"random"`, uniform.

    Finding the sample costs up to $n$ margins, which are counted as gradients are.

    Source: Tyurin, "From Logistic Regression to the Perceptron Algorithm", Algorithm 3.
    """

    choice: Choice = "cyclic"

    def __check_init__(self) -> None:
        if self.choice not in get_args(Choice):
            raise ValueError(f"choice: must be one of {', '.join(get_args(Choice))}, got {self.choice!r}")

    def weights(self, state: SeparationState, key: Key[Array, ""]) -> Float[Array, " n"]:
        mistaken = ~(state.margins > 0)
        order = self._preference(state, key)
        chosen = jnp.argmin(jnp.where(mistaken, order, jnp.inf))
        return jax.nn.one_hot(chosen, mistaken.size, dtype=state.margins.dtype)

    def _preference(self, state: SeparationState, key: Key[Array, ""]) -> Float[Array, " n"] | Int[Array, " n"]:
        """A number for each sample; the mistake with the smallest is chosen."""
        index = jnp.arange(state.margins.size)
        if self.choice == "cyclic":
            return (index - state.last - 1) % index.size
        if self.choice == "random":
            return jax.random.permutation(key, index.size)
        return index if self.choice == "first" else state.margins


def iterations_to_separate(
    method: Method[Any, Any],
    problem: LinearSeparation,
    x0: ArrayLike | None = None,
    *,
    max_steps: int = 100_000,
    key: int | Key[Array, ""] = 0,
) -> float:
    """How many updates `method` makes before the first iterate that separates the classes; a start that does counts 0.

    **Arguments**

    - `method`: any method whose state has the iterate `x`.
    - `problem`: the data.
    - `x0`: the starting point, by default the method's own (zero).
    - `max_steps`: where to give up.
    - `key`: the random key, for methods that choose at random.

    **Returns** the number, or infinity if `max_steps` updates did not separate or the iterate stopped being finite.
    """
    solution = solve(method, problem, x0, tol=0.5, max_steps=max_steps, measure=_mistakes, key=key, progress=False)
    return float(solution.steps) if solution.converged else math.inf


def _mistakes(problem: LinearSeparation, state: State) -> Float[Array, ""]:
    return count_mistakes(state.margins) if isinstance(state, SeparationState) else problem.mistakes(state.x)


def scale_by_inverse_mean_residual() -> optax.GradientTransformationExtraArgs:
    r"""Divide the gradient by the mean residual: $g_t / \left(\frac1n \sum_i p_i\right)$.

    For the logistic loss on full batches, $p_i = 1/(1 + e^{m_i})$ is one minus the probability given to the true
    class, and `optax.chain(scale_by_inverse_mean_residual(), optax.sgd(step_size))` is
    `NormalisedLogisticGradientDescent`. Pass the residuals to every update,
    `transformation.update(gradient, state, params, residuals=p)`, shape `(n,)`. Residuals that have all underflowed
    leave a zero update.

    Source: Tyurin, "From Logistic Regression to the Perceptron Algorithm", Section 6.
    """

    def init(params: optax.Params) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(
        updates: optax.Updates,
        state: optax.EmptyState,
        params: optax.Params | None = None,
        *,
        residuals: Float[Array, " n"],
        **extra: Any,
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del params, extra
        mean = jnp.mean(residuals)
        # The inner `where` keeps 0/0 out of the branch that is not taken, and out of its derivative.
        scale = jnp.where(mean > 0, 1.0 / jnp.where(mean > 0, mean, 1.0), 0.0)
        return jax.tree.map(lambda leaf: (scale * leaf).astype(leaf.dtype), updates), state

    return optax.GradientTransformationExtraArgs(init, update)
