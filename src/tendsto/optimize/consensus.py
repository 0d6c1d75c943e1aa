"""Particles that agree on where the minimum is: consensus-based optimisation and consensus hopping."""

from __future__ import annotations

from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from tendsto import validation
from tendsto.iteration import Cost, Method, Scalar, State, hyperparameter
from tendsto.optimize.annealing import Annealed, annealed, value_at
from tendsto.optimize.normal_increments import standard_normal
from tendsto.problems import Problem

Noise = Literal["anisotropic", "isotropic"]


def consensus_weights(
    values: Float[Array | np.ndarray, " particles"], inverse_temperature: Any
) -> Float[Array | np.ndarray, " particles"]:
    r"""$w_i = e^{-\alpha E_i} / \sum_j e^{-\alpha E_j}$, computed from $E_i - \min_j E_j$.

    However large $\alpha$ is nothing overflows: towards infinity the weights become those of the argmin. A value that
    is infinite or not a number has weight zero; if none is finite, all weights are NaN.

    **Arguments**

    - `values`: $E_i$, the objective at each particle; a NumPy array gives a NumPy array.
    - `inverse_temperature`: $\alpha > 0$.

    **Returns** the weights, which sum to 1.
    """
    xp: Any = values.__array_namespace__()
    usable = xp.where(xp.isnan(values), xp.inf, values)
    weights = xp.exp(-inverse_temperature * (usable - xp.min(usable)))
    normalised: Float[Array | np.ndarray, " particles"] = weights / xp.sum(weights)
    return normalised


def consensus_point(
    particles: Float[Array | np.ndarray, "particles d"],
    values: Float[Array | np.ndarray, " particles"],
    inverse_temperature: Any,
) -> Float[Array | np.ndarray, " d"]:
    r"""$x_\alpha(\rho) = \sum_i w_i X^i$, the mean of the particles under `consensus_weights`.

    **Arguments**: `particles`, $X^i$; `values` and `inverse_temperature` as for `consensus_weights`.

    **Returns** the point, inside the particles' convex hull.
    """
    return consensus_weights(values, inverse_temperature) @ particles


def effective_sample_size(
    values: Float[Array | np.ndarray, " particles"], inverse_temperature: Any
) -> Float[Array | np.ndarray | np.float64, ""]:
    r"""$(\sum_i w_i)^2 / \sum_i w_i^2$: how many particles the consensus point rests on, between 1 and all.

    **Arguments** as for `consensus_weights`.
    """
    return 1.0 / (consensus_weights(values, inverse_temperature) ** 2).sum()


def move(
    particles: Float[Array | np.ndarray, "particles d"],
    consensus: Float[Array | np.ndarray, " d"],
    increments: Float[Array | np.ndarray, "particles d"],
    *,
    drift: Any,
    noise_strength: Any,
    time_step: Any,
    noise: Noise,
    truncation: Any,
) -> Float[Array | np.ndarray, "particles d"]:
    r"""The particles after one Euler-Maruyama step.

    $X^i - \lambda\,\Delta t\,D_i + \sigma \sqrt{\Delta t}\, S(D_i) B_i$, where $D_i = X^i - x_\alpha$ is taken before
    the drift in both terms. The one formula behind `ConsensusBased` and `consensus_based`; NumPy arrays give a NumPy
    array.

    **Arguments**: `increments`, standard normal $B_i$; the others as for `ConsensusBased`.
    """
    xp: Any = particles.__array_namespace__()
    difference = particles - consensus
    isotropic = noise == "isotropic"
    amplitude = xp.sqrt(xp.sum(difference**2, axis=-1, keepdims=True)) if isotropic else xp.abs(difference)
    amplitude = xp.minimum(amplitude, truncation)
    moved: Float[Array | np.ndarray, "particles d"] = (
        particles - drift * time_step * difference + noise_strength * time_step**0.5 * amplitude * increments
    )
    return moved


class ParticleState(State):
    """The consensus point `x`, and the particles that agreed on it.

    **Arguments**

    - `particles`: shape `(particles, d)`.
    - `values`: the objective at each of them.
    - `effective_size`: the effective sample size of their weights.
    - `best`, `best_value`: the best particle seen so far and its value.
    - `count`: the number of steps taken.
    - `memories`, `memory_values`: the best point that each particle has seen and its value, where the method has a
      `memory_drift`.
    """

    particles: Float[Array, "particles d"]
    values: Float[Array, " particles"]
    effective_size: Float[Array, ""]
    best: Float[Array, " d"]
    best_value: Float[Array, ""]
    count: Int[Array, ""]
    memories: Float[Array, "particles d"] | None = None
    memory_values: Float[Array, " particles"] | None = None

    @property
    def variance(self) -> Float[Array, "..."]:
        r"""$\frac1N \sum_i \lVert X^i - x_\alpha\rVert^2$, how far the particles are from agreeing."""
        return jnp.mean(jnp.sum((self.particles - self.x[..., None, :]) ** 2, axis=-1), axis=-1)


class _ParticleMethod(Method[Problem, ParticleState]):
    # The order of the fields of both methods.
    particles: eqx.AbstractVar[int]
    inverse_temperature: eqx.AbstractVar[Annealed]

    def _meet(
        self,
        problem: Problem,
        particles: Float[Array, "particles d"],
        count: Int[Array, ""],
        cost: Cost,
        memories: tuple[Float[Array, "particles d"], Float[Array, " particles"]] | None = None,
    ) -> ParticleState:
        """Evaluate the objective once at every particle, and find the consensus point of them or of their memories."""
        values = jax.vmap(problem.objective)(particles)
        usable = jnp.where(jnp.isnan(values), jnp.inf, values)
        anchors, heights = particles, values
        if memories is not None:
            improved = usable < memories[1]
            anchors = jnp.where(improved[:, None], particles, memories[0])
            heights = jnp.where(improved, usable, memories[1])
            memories = anchors, heights
        # A schedule may answer in another precision than the particles'.
        weights = jnp.asarray(consensus_weights(heights, value_at(self.inverse_temperature, count)), particles.dtype)
        leader = jnp.argmin(usable)
        return ParticleState(
            x=weights @ anchors,
            cost=cost + Cost(evaluations=self.particles),
            particles=particles,
            values=values,
            effective_size=1.0 / jnp.sum(weights**2),
            best=particles[leader],
            best_value=values[leader],
            count=count,
            memories=None if memories is None else memories[0],
            memory_values=None if memories is None else memories[1],
        )

    def _remember(self, before: ParticleState, after: ParticleState) -> ParticleState:
        """`after`, but for the best particle if that was seen before."""
        older = ~(after.best_value < before.best_value)
        kept = (jnp.where(older, before.best, after.best), jnp.where(older, before.best_value, after.best_value))
        remembered: ParticleState = eqx.tree_at(lambda state: (state.best, state.best_value), after, kept)
        return remembered


class ConsensusBased(_ParticleMethod):
    r"""Consensus-based optimisation (CBO): particles drift to a weighted mean, and stray the more the farther they are.

    $$X^i \leftarrow X^i - \lambda\,\Delta t\,(X^i - x_\alpha) + \sigma\sqrt{\Delta t}\; S(X^i - x_\alpha)\, B^i,
        \qquad x_\alpha = \frac{\sum_i X^i e^{-\alpha E(X^i)}}{\sum_i e^{-\alpha E(X^i)}}$$

    with $B^i$ standard normal and $S(D) = \lVert D\rVert_2 I$ (isotropic) or $\operatorname{diag}(\lvert D\rvert)$
    (anisotropic). `state.x` is the consensus point $x_\alpha$ of the present particles: the trajectory that behaves
    like a stochastic relaxation of gradient descent although only values of $E$ are used. In the limit of infinitely
    many particles and large $\alpha$ their mean squared distance from the minimiser decays at rate `mean_field_rate`.

    Both terms of the update use the difference from before the drift, so $\lambda = 1/\Delta t$ keeps its noise. The
    increments are drawn in single precision, which takes half the time, and scaled in the particles' own.

    **Arguments**

    - `particles`: $N \ge 2$, as many evaluations a step.
    - `inverse_temperature`: $\alpha > 0$; $10^{15}$ makes the best particle the consensus point.
    - `drift`: $\lambda > 0$.
    - `noise_strength`: $\sigma \ge 0$.
    - `time_step`: $\Delta t > 0$.
    - `noise`: `"anisotropic"` (the default: the condition on $\sigma$ is the same in every dimension) or `"isotropic"`.
    - `initial_spread`: the standard deviation of the first particles around the starting point.
    - `truncation`: $M > 0$; the noise's amplitude ($\lVert D\rVert_2$, or each $\lvert D_j\rvert$) is at most this.
    - `gradient_drift`: $\gamma$, adds $-\gamma\,\Delta t\,\nabla f(X^i)$ to the update; by default no gradients are
      taken.
    - `memory_drift`: $\lambda_2$, adds $-\lambda_2\,\Delta t\,(X^i - Y^i)$ to the update, where $Y^i$ is the best point
      that the particle has seen; $x_\alpha$ is then that of the $Y^i$. By default nothing is remembered.

    `inverse_temperature` and `noise_strength` may be functions of the count of steps taken.

    **Raises** `TypeError` or `ValueError` naming the argument.

    **Source**: R. Pinnau, C. Totzeck, O. Tse, S. Martin, "A consensus-based model for global optimization and its
    mean-field limit", arXiv:1604.05648; K. Riedl, T. Klock, C. Geldhauser, M. Fornasier, "Gradient is All You Need?",
    arXiv:2306.09778; truncation: M. Fornasier, P. Richtárik, K. Riedl, L. Sun, arXiv:2310.16610;
    gradients and memory, the latter with its $\kappa = 1/\Delta t$, $\theta = 0$, $\beta = \infty$: K. Riedl,
    arXiv:2211.12184.
    """

    particles: int = eqx.field(static=True, default=200)
    inverse_temperature: Annealed = annealed(default=100.0)
    drift: Scalar = hyperparameter(default=1.0)
    noise_strength: Annealed = annealed(default=1.0)
    time_step: Scalar = hyperparameter(default=0.01)
    noise: Noise = eqx.field(static=True, default="anisotropic")
    initial_spread: Scalar = hyperparameter(default=1.0)
    truncation: Scalar = hyperparameter(default=float("inf"))
    gradient_drift: Scalar | None = annealed(default=None)
    memory_drift: Scalar | None = annealed(default=None)

    def __check_init__(self) -> None:
        validation.integer("particles", self.particles, low=2)
        if not callable(self.inverse_temperature):
            validation.positive("inverse_temperature", self.inverse_temperature)
        validation.positive("drift", self.drift)
        if not callable(self.noise_strength):
            validation.real("noise_strength", self.noise_strength, low=0.0)
        validation.positive("time_step", self.time_step)
        if self.noise not in get_args(Noise):
            raise ValueError(f"noise: must be one of {', '.join(get_args(Noise))}, got {self.noise!r}")
        validation.real("initial_spread", self.initial_spread, low=0.0)
        validation.real("truncation", self.truncation, low=0.0, open_low=True)
        for name in ("gradient_drift", "memory_drift"):
            if getattr(self, name) is not None:
                validation.real(name, getattr(self, name), low=0.0)

    @classmethod
    def theory(
        cls, dimension: int, *, noise: Noise = "anisotropic", fraction: float = 0.5, **others: Any
    ) -> ConsensusBased:
        r"""The method with $\lambda = 1$ and noise of which the mean-field theorem guarantees convergence.

        $\sigma^2$ is `fraction` of its limit, $2\lambda/d$ (isotropic) or $2\lambda$ (anisotropic), so that
        `mean_field_rate` is $2(1 - \text{fraction})$.

        **Arguments**

        - `dimension`: $d$.
        - `noise`: as for the method.
        - `fraction`: in $(0, 1)$.
        - `others`: further arguments of the method.

        **Raises** `TypeError` or `ValueError` naming the argument.

        **Source**: M. Fornasier, T. Klock, K. Riedl, "Consensus-based optimization methods converge globally",
        arXiv:2103.15130, and arXiv:2111.08136 for anisotropic noise.
        """
        validation.integer("dimension", dimension, low=1)
        validation.real("fraction", fraction, low=0.0, high=np.nextafter(1.0, 0.0), open_low=True)
        limit = 2.0 / (dimension if noise == "isotropic" else 1)
        return cls(noise=noise, drift=1.0, noise_strength=(fraction * limit) ** 0.5, **others)

    def mean_field_rate(self, dimension: int, count: int = 0) -> float:
        r"""$2\lambda - d\sigma^2$ (isotropic) or $2\lambda - \sigma^2$ (anisotropic), after `count` steps.

        Where it is positive and $\alpha$ is large, $\int \lVert x - x^\star\rVert^2 d\rho_t$ of infinitely many
        particles decays like $e^{-\text{rate}\cdot t}$; where it is negative the theorem says nothing.
        """
        validation.integer("dimension", dimension, low=1)
        sigma = float(value_at(self.noise_strength, count))
        return float(2.0 * self.drift) - (dimension if self.noise == "isotropic" else 1) * sigma**2

    def init(self, problem: Problem, x0: Float[Array, "..."], key: Key[Array, ""]) -> ParticleState:
        """Particles around the vector `x0`, or the rows of a matrix `x0` as the particles.

        **Raises** `ValueError` for an `x0` of another shape.
        """
        if x0.ndim == 1:
            particles = x0 + self.initial_spread * standard_normal(key, (self.particles, x0.size)).astype(x0.dtype)
        elif x0.ndim == 2 and len(x0) == self.particles:
            particles = x0
        else:
            raise ValueError(f"x0: expected a vector, or a matrix of {self.particles} particles, got shape {x0.shape}")
        particles = particles.astype(x0.dtype)
        # A value that any other replaces.
        nothing = (particles, jnp.full(self.particles, jnp.inf, x0.dtype))
        memories = None if self.memory_drift is None else nothing
        return self._meet(problem, particles, jnp.asarray(0), Cost(), memories)

    def step(self, problem: Problem, state: ParticleState, key: Key[Array, ""]) -> ParticleState:
        """One evaluation and one normal vector for each particle."""
        return self.advance(problem, state, standard_normal(key, state.particles.shape).astype(state.x.dtype))

    def advance(self, problem: Problem, state: ParticleState, increments: Float[Array, "particles d"]) -> ParticleState:
        """The step with these standard normal increments, for those who draw their own."""
        particles = move(
            state.particles,
            state.x,
            increments,
            drift=self.drift,
            noise_strength=value_at(self.noise_strength, state.count),
            time_step=self.time_step,
            noise=self.noise,
            truncation=self.truncation,
        )
        cost = state.cost
        if self.gradient_drift is not None:
            gradients = jax.vmap(problem.gradient)(state.particles)
            particles = particles - self.gradient_drift * self.time_step * gradients
            cost = cost + Cost(gradients=self.particles * problem.gradient_cost)
        memories = None
        if self.memory_drift is not None and state.memories is not None and state.memory_values is not None:
            particles = particles - self.memory_drift * self.time_step * (state.particles - state.memories)
            memories = state.memories, state.memory_values
        particles = jnp.asarray(particles, state.particles.dtype)
        return self._remember(state, self._meet(problem, particles, state.count + 1, cost, memories))


class ConsensusHopping(_ParticleMethod):
    r"""Consensus hopping (CH): sample around the present point, move to the sample's consensus point.

    $Y^i = x_{k-1} + s\, Z^i$ with $Z^i$ standard normal, $x_k = x_\alpha(Y)$. It is consensus-based optimisation
    whose particles all jump to the consensus point and are drawn afresh. With infinitely many samples a step is
    exactly a gradient step of size $\tau = \alpha s^2$ on the `EntropicEnvelope`, and, on a quadratic, exactly a
    proximal step of that size.

    **Arguments**

    - `particles`: $N \ge 1$, as many evaluations a step.
    - `inverse_temperature`: $\alpha > 0$.
    - `spread`: $s \ge 0$, a number or a function of the count of steps taken; the annealed variant of the paper's
      experiments is `optax.exponential_decay(0.7, 100, 0.98, staircase=True)`.

    `inverse_temperature` may be a function of the count of steps taken, too.

    **Raises** `TypeError` or `ValueError` naming the argument.

    **Source**: K. Riedl, T. Klock, C. Geldhauser, M. Fornasier, "Gradient is All You Need?", arXiv:2306.09778.
    """

    particles: int = eqx.field(static=True, default=200)
    inverse_temperature: Annealed = annealed(default=100.0)
    spread: Annealed = annealed(default=0.5)

    def __check_init__(self) -> None:
        validation.integer("particles", self.particles, low=1)
        if not callable(self.inverse_temperature):
            validation.positive("inverse_temperature", self.inverse_temperature)
        if not callable(self.spread):
            validation.real("spread", self.spread, low=0.0)

    @classmethod
    def theory(cls, step_size: float, *, inverse_temperature: float = 100.0, particles: int = 200) -> ConsensusHopping:
        r"""The method whose step is a relaxation of a gradient step of this size, $s = \sqrt{\tau/\alpha}$.

        **Arguments**: `step_size`, $\tau > 0$; `inverse_temperature` and `particles` as for the method.

        **Raises** `TypeError` or `ValueError` naming the argument.
        """
        validation.positive("step_size", step_size)
        validation.positive("inverse_temperature", inverse_temperature)
        return cls(particles, inverse_temperature, (step_size / inverse_temperature) ** 0.5)

    def step_size(self, count: int = 0) -> float:
        r"""$\tau = \alpha s^2$, the size of the proximal step that step number `count` stands for."""
        return float(value_at(self.inverse_temperature, count) * value_at(self.spread, count) ** 2)

    def init(self, problem: Problem, x0: Float[Array, "..."], key: Key[Array, ""]) -> ParticleState:
        """Start at `x0`.

        **Raises** `ValueError` if it is not a vector.
        """
        del key
        if x0.ndim != 1:
            raise ValueError(f"x0: expected a vector, got shape {x0.shape}")
        value = problem.objective(x0)
        return ParticleState(
            x=x0,
            cost=Cost(evaluations=1),
            particles=jnp.broadcast_to(x0, (self.particles, x0.size)),
            values=jnp.broadcast_to(value, (self.particles,)),
            effective_size=jnp.asarray(self.particles, x0.dtype),
            best=x0,
            best_value=value,
            count=jnp.asarray(0),
        )

    def step(self, problem: Problem, state: ParticleState, key: Key[Array, ""]) -> ParticleState:
        """One evaluation and one normal vector for each particle."""
        return self.advance(problem, state, standard_normal(key, state.particles.shape).astype(state.x.dtype))

    def advance(self, problem: Problem, state: ParticleState, increments: Float[Array, "particles d"]) -> ParticleState:
        """The step with these standard normal vectors, for those who draw their own."""
        particles = jnp.asarray(state.x + value_at(self.spread, state.count) * increments, state.particles.dtype)
        return self._remember(state, self._meet(problem, particles, state.count + 1, state.cost))
