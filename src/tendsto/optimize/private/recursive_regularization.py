"""Recursive regularisation: convex problems whose regularisers grow around ever better private centres."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from tendsto import validation
from tendsto.iteration import Cost, Scalar, hyperparameter
from tendsto.optimize.private.accounting import Adjacency, PrivacySpent, Release, calibrate, privacy_spent
from tendsto.optimize.private.estimators import gaussian
from tendsto.optimize.private.method import (
    PrivateMethod,
    PrivateState,
    replacement_only,
    sensitivity_constants,
)
from tendsto.problems import FiniteSum, clip_rows


class Subproblem(eqx.Module):
    r"""$F(w) + \frac\Lambda2\lVert w\rVert^2 - \langle C, w\rangle$ on some of the records, over a ball.

    **Arguments**

    - `problem`, `rows`: the finite sum and the records of it that $F$ is the mean of.
    - `modulus`, `pull`: $\Lambda = \sum_j\lambda_j$ and $C = \sum_j\lambda_jc_j$ of the regularisers
      $\frac{\lambda_j}2\lVert w-c_j\rVert^2$, which no record enters.
    - `centre`, `radius`: of the ball.
    - `lipschitz`, `smoothness`: $L_0$ and $L_1$ of the records.
    - `bound`: what records' gradients are clipped to; infinite where they need no clipping.
    """

    problem: FiniteSum
    rows: Int[Array, " m"]
    modulus: Array
    pull: Float[Array, " d"]
    centre: Float[Array, " d"]
    radius: Array
    lipschitz: Array
    smoothness: Array
    bound: Array

    def gradients(self, w: Float[Array, " d"], rows: Int[Array, " batch"]) -> Float[Array, "batch d"]:
        """Gradients of the records' part, clipped."""
        clipped: Float[Array, "batch d"] = clip_rows(self.problem.component_gradients(w, rows), self.bound)
        return clipped

    def move(self, w: Float[Array, " d"], gradient: Float[Array, " d"], step_size: Array) -> Float[Array, " d"]:
        """A step on the whole, `gradient` being that of the records' part, and the projection onto the ball."""
        away = w - step_size * (gradient + self.modulus * w - self.pull) - self.centre
        norm = jnp.linalg.norm(away)
        return self.centre + away * jnp.minimum(1.0, self.radius / jnp.where(norm > 0.0, norm, 1.0))


class Subsolver(eqx.Module):
    r"""A private method for a strongly convex subproblem; each record of the chunk spends the whole budget on it.

    It starts at the centre found before, where the paper starts at $w_0$ again: that is as private, and nearer. Step
    sizes and weights have the modulus $\Lambda$ of the subproblem where the paper's theorem has
    $\lambda_t = \Lambda + \lambda$.
    """

    def least_regularisation(self, records: int, smoothness: float) -> float:
        r"""The least $\lambda$ with which the theorem uses this solver on so many records."""
        return 0.0

    @abc.abstractmethod
    def solve(
        self, task: Subproblem, w: Float[Array, " d"], multiplier: Scalar, key: Key[Array, ""]
    ) -> tuple[Float[Array, " d"], Array]:
        """The private solution from the start `w`, and how many component gradients it took.

        `multiplier` is that of a single release which spends the budget; see `unit_noise`.
        """


class NoisyGradientSolver(Subsolver):
    r"""Projected gradient descent on the chunk with noise, and an average that favours later iterates.

    $K = \max\{\kappa\log\kappa, \frac{m^2}{dz^2}(1 + (G/L_0)^2)\}$ steps with $\kappa = (L_1+\Lambda)/\Lambda$ and
    $G = \lVert\Lambda w_0 - C\rVert + \Lambda R$, a Lipschitz constant of the regularisers on the ball,
    step size $\min\{\log K/(\Lambda K), 1/(L_1+\Lambda)\}$, noise of deviation $z\sqrt K L_0/m$, and weights
    proportional to $(1-\eta\Lambda)^{-k}$ on the iterates $w_1,\dots,w_K$. The second term of $K$, where the noise
    outweighs the error of the descent, is the paper's with its constant replaced by what $z$ says.

    **Arguments**: `most_iterations`, a cap on $K$.

    **Source**: arXiv:2206.00846, Algorithm 7.
    """

    most_iterations: int = eqx.field(static=True, default=100_000)

    def __check_init__(self) -> None:
        validation.integer("most_iterations", self.most_iterations, low=1)

    def iterations(self, task: Subproblem, multiplier: Scalar, dimension: int) -> Array:
        """$K$."""
        condition = (task.smoothness + task.modulus) / task.modulus
        statistical = (task.rows.size / multiplier) ** 2 / dimension
        steepest = jnp.linalg.norm(task.modulus * task.centre - task.pull) + task.modulus * task.radius
        statistical *= 1.0 + (steepest / task.lipschitz) ** 2
        wanted = jnp.maximum(condition * jnp.log(condition), statistical)
        return jnp.asarray(jnp.clip(jnp.ceil(wanted), 2, self.most_iterations))

    def solve(
        self, task: Subproblem, w: Float[Array, " d"], multiplier: Scalar, key: Key[Array, ""]
    ) -> tuple[Float[Array, " d"], Array]:
        """The weighted average."""
        size = task.rows.size
        count = self.iterations(task, multiplier, w.size)
        step_size = jnp.minimum(jnp.log(count) / (task.modulus * count), 1.0 / (task.smoothness + task.modulus))
        deviation = multiplier * jnp.sqrt(count) * task.lipschitz / size

        def iterate(number: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            w, average, weight = carry
            mean = task.gradients(w, task.rows).mean(axis=0)
            noise = gaussian(jax.random.fold_in(key, number), mean, deviation)
            w = task.move(w, mean + noise, step_size)
            # The sum of all weights so far over the newest one, which stays bounded where the weights do not.
            weight = 1.0 + (1.0 - step_size * task.modulus) * weight
            return w, average + (w - average) / weight, weight

        start = (w, jnp.zeros_like(w), jnp.zeros((), w.dtype))
        _, average, _ = jax.lax.fori_loop(0, count.astype(int), iterate, start)
        return average, count * size


class PhasedSolver(Subsolver):
    r"""One pass of SGD in phases of $m/2^k$ records with steps $\eta/4^k$, each phase's average published with noise.

    $\eta = \min\{\log m/(\Lambda m), 1/(L_1+\Lambda)\}$, phases $k < \lceil\log_2m\rceil$, and weights proportional to
    $(1-\eta\Lambda)^{-j}$ on the iterates of a phase. Replacing a record moves such an average by at most $2L_0\eta_k$,
    as long as records' losses are convex and $\eta_k \le 2/(L_1+\Lambda)$, so noise of deviation $zL_0\eta_k$ will do.
    Takes time linear in the records, and wants $\lambda \ge L_1\log(n)/n$.

    **Source**: arXiv:2206.00846, Algorithms 5 and 6 with Theorem 5.1, after V. Feldman, T. Koren, K. Talwar,
    arXiv:2005.04763.
    """

    def least_regularisation(self, records: int, smoothness: float) -> float:
        r"""$L_1\log(n)/n$."""
        return smoothness * math.log(records) / records

    def solve(
        self, task: Subproblem, w: Float[Array, " d"], multiplier: Scalar, key: Key[Array, ""]
    ) -> tuple[Float[Array, " d"], Array]:
        """The last phase's published average."""
        size = task.rows.size
        base = jnp.minimum(math.log(size) / (task.modulus * size), 1.0 / (task.smoothness + task.modulus))
        used = 0
        for phase in range(1, max(2, math.ceil(math.log2(size)))):
            length = max(1, size // 2**phase)
            step_size = base / 4.0**phase

            def one(carry: Array, row: Array, step_size: Array = step_size) -> tuple[Array, Array]:
                after = task.move(carry, task.gradients(carry, row[None])[0], step_size)
                return after, after

            _, iterates = jax.lax.scan(one, w, task.rows[used : used + length])
            weights = (1.0 - base * task.modulus) ** jnp.arange(length - 1.0, -1.0, -1.0, w.dtype)
            average = weights @ iterates / weights.sum()
            deviation = multiplier * task.lipschitz * step_size
            w = average + gaussian(jax.random.fold_in(key, phase), average, deviation)
            used += length
        return w, jnp.asarray(float(used))


class RecursiveState(PrivateState):
    r"""Adds the regularisers so far ($\Lambda$ and $C$ of `Subproblem`), the start, and the order of the records."""

    order: Int[Array, " n"]
    modulus: Array
    pull: Float[Array, " d"]
    start: Float[Array, " d"]


class RecursiveRegularization(PrivateMethod[RecursiveState]):
    r"""For $t = 1, \dots, T$: solve $f^{(t-1)}$ privately on fresh records for $\bar w_t$, and add
    $\frac{\lambda_t}2\lVert w-\bar w_t\rVert^2$ to it.

    $f^{(0)} = f + \frac{\lambda_0}2\lVert w-w_0\rVert^2$, $\lambda_t = 2^t\lambda$, and the $t$-th solution is sought
    within $R_t = (\sqrt2)^tR$ of $w_0$. A step of this method is one such solve; the output is the last $\bar w_t$.
    Strong convexity turns closeness to the minimiser into a small gradient, and the growing weights keep the centres
    from mattering. For convex problems.

    **Arguments**

    - `lipschitz`, `smoothness`: $L_0$ and $L_1$, bounds for every record.
    - `regularisation`: $\lambda$.
    - `radius`: $R$, a public upper bound on the distance from $w_0$ to a minimiser.
    - `noise_multiplier`: $z$, of a single release that spends the whole budget; see `unit_noise`.
    - `chunk`: the records of a phase.
    - `solver`: `NoisyGradientSolver` (optimal rate) or `PhasedSolver` (linear time).
    - `clip`: clip gradients of records to $L_0$; not with `PhasedSolver`, whose privacy rests on convex losses, which
      clipped ones need not be.
    - `steps`: $T$.

    **Raises** `TypeError` or `ValueError` naming the argument.

    **Source**: R. Arora, R. Bassily, T. González, C. Guzmán, M. Menart, E. Ullah, "Faster Rates of Convergence to
    Stationary Points in Differentially Private Optimization", arXiv:2206.00846, Algorithm 3.
    """

    chunk: int = eqx.field(static=True)
    lipschitz: Scalar = hyperparameter()
    smoothness: Scalar = hyperparameter()
    regularisation: Scalar = hyperparameter()
    radius: Scalar = hyperparameter()
    noise_multiplier: Scalar = hyperparameter()
    solver: Subsolver = NoisyGradientSolver()
    clip: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        for name in ("lipschitz", "smoothness", "regularisation", "radius"):
            validation.positive(name, getattr(self, name))
        validation.real("noise_multiplier", self.noise_multiplier, low=0.0, high=np.finfo(np.float64).max)
        validation.integer("chunk", self.chunk, low=1)
        if not isinstance(self.solver, Subsolver):
            raise TypeError(f"solver: expected a Subsolver, got {type(self.solver).__name__}")
        if self.clip and isinstance(self.solver, PhasedSolver):
            raise ValueError("clip: clipped losses need not be convex, on which the privacy of PhasedSolver rests")

    @classmethod
    def theory(
        cls,
        problem: FiniteSum,
        x0: ArrayLike,
        *,
        epsilon: float,
        delta: float,
        radius: float,
        solver: Subsolver | None = None,
        clip: bool = False,
    ) -> RecursiveRegularization:
        r"""The method with the settings of Theorem 5.1, its noise found by the accountant.

        $\lambda = \frac{L_0^2}{L_1R^2}\min\{\frac1n, \frac{d}{(n\varepsilon)^2}\}$, at least $L_1\log(n)/n$ with
        `PhasedSolver`, and $T = \lfloor\log_2(L_1/\lambda)\rfloor$ phases of $\lfloor n/T\rfloor$ records.

        **Arguments**

        - `problem`: a convex finite sum with `lipschitz` and `smoothness` that hold for every record.
        - `x0`: the start, of which only the dimension matters.
        - `epsilon`, `delta`: the budget, for replaced records.
        - `radius`: $R$.
        - `solver`: by default `NoisyGradientSolver()`.
        - `clip`: clip records to the constants all the same.

        **Raises** `ValueError` naming the argument; for `problem` if there are fewer records than phases.
        """
        lipschitz, smoothness = sensitivity_constants(problem)
        validation.positive("radius", radius)
        multiplier = calibrate([Release(1.0)], epsilon, delta)
        records = problem.components
        smallest = min(1.0 / records, np.size(x0) / (records * epsilon) ** 2)
        solver = NoisyGradientSolver() if solver is None else solver
        regularisation = lipschitz**2 / (smoothness * radius**2) * smallest
        regularisation = max(regularisation, solver.least_regularisation(records, smoothness))
        phases = max(1, math.floor(math.log2(smoothness / regularisation)))
        if records < phases:
            raise ValueError(f"problem: {phases} phases need as many records, there are {records}")
        return cls(
            lipschitz=lipschitz,
            smoothness=smoothness,
            regularisation=regularisation,
            radius=radius,
            noise_multiplier=multiplier,
            chunk=records // phases,
            solver=solver,
            clip=clip,
            steps=phases,
        )

    def releases(self, records: int) -> list[Release]:
        """What each record goes through in the phase that it belongs to: as much as one release."""
        return [Release(float(self.noise_multiplier))]

    def privacy(self, records: int, delta: float, *, adjacency: Adjacency = "replace-one") -> PrivacySpent:
        """The guarantee of one phase, which holds for all of them since their records are disjoint."""
        replacement_only(adjacency, type(self).__name__)
        if int(self.steps) * self.chunk > records:
            raise ValueError(f"chunk: {int(self.steps)} phases of {self.chunk} records each, but there are {records}")
        spent = privacy_spent(self.releases(records), delta)
        return dataclasses.replace(spent, accounting=f"{spent.accounting}; parallel composition over disjoint chunks")

    def init(self, problem: FiniteSum, x0: Float[Array, " d"], key: Key[Array, ""]) -> RecursiveState:
        """Start at `x0`, with the records in random order."""
        return RecursiveState(
            x=x0,
            cost=Cost(),
            output=x0,
            count=jnp.asarray(0),
            order=jax.random.permutation(key, problem.components),
            modulus=jnp.asarray(self.regularisation, x0.dtype),
            pull=(self.regularisation * x0).astype(x0.dtype),
            start=x0,
        )

    def affordable(self, problem: FiniteSum, state: RecursiveState) -> Bool[Array, ""]:
        """Whether there are fresh records for the next phase."""
        return jnp.asarray((state.count + 1) * self.chunk <= problem.components)

    def publish(self, state: RecursiveState, after: RecursiveState, key: Key[Array, ""]) -> Float[Array, " d"]:
        """The newest solution."""
        newest: Float[Array, " d"] = after.x
        return newest

    def advance(self, problem: Any, state: RecursiveState, key: Key[Array, ""]) -> RecursiveState:
        """One phase."""
        growth = state.count + 1.0
        rows = jax.lax.dynamic_slice(state.order, (state.count * self.chunk,), (self.chunk,))
        dtype = state.x.dtype
        task = Subproblem(
            problem=problem,
            rows=rows,
            modulus=state.modulus,
            pull=state.pull,
            centre=state.start,
            radius=jnp.asarray(2.0 ** (growth / 2.0) * self.radius, dtype),
            lipschitz=jnp.asarray(self.lipschitz, dtype),
            smoothness=jnp.asarray(self.smoothness, dtype),
            bound=jnp.asarray(self.lipschitz if self.clip else jnp.inf, dtype),
        )
        x, gradients = self.solver.solve(task, state.x, self.noise_multiplier, key)
        weight = jnp.asarray(2.0**growth * self.regularisation, dtype)
        return dataclasses.replace(
            state,
            x=x,
            cost=state.cost + Cost(gradients=gradients),
            modulus=state.modulus + weight,
            pull=state.pull + weight * x,
        )
