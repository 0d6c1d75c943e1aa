"""An inexact Newton method for equality constraints whose linear systems a randomised solver answers."""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from tendsto import validation
from tendsto.iteration import Cost, Method, Scalar, State, hyperparameter
from tendsto.optimize.exact_augmented_lagrangian import ExactAugmentedLagrangian, Values
from tendsto.optimize.newton_direction import Direction, Forcing, inverse_square_forcing
from tendsto.optimize.newton_system import SMALLEST_STEP, NewtonStatus, inverse_bound, saddle_matrix, with_curvature
from tendsto.optimize.sketching import Sketch, SketchResult, as_sketch, project_until
from tendsto.problems import EqualityConstrained, PrimalDual

# The penalties beyond which the descent test is given up.
_LARGEST_CONSTRAINT_PENALTY = 1e8
_SMALLEST_GRADIENT_PENALTY = 1e-8


class SketchedNewtonState(State):
    r"""The point, what is known there, the adaptive parameters, and the last step's particulars.

    **Arguments**

    - `x`: $(x, \lambda)$.
    - `values`: $f$, $\nabla f$, $c$, $G$ at $x$.
    - `merit`: the merit function with its penalties.
    - `accuracy`: $\delta$.
    - `count`, `sketches`, `penalty_updates`: steps, sketches and updates of the penalties so far.
    - `step_size`: $\alpha$ of the last step; zero before the first and once the method has stopped.
    - `inner_residual`, `inner_tolerance`: $\lVert r\rVert$ of the last Newton system and what was asked of it.
    - `slope`: $\nabla\mathcal{L}_\eta^\top z$ of the last step.
    - `decrease`: $\mathcal{L}_\eta$ before minus after the last step.
    - `modified`: whether its Hessian was modified.
    - `status`: a number of `NewtonStatus`.
    """

    values: Values
    merit: ExactAugmentedLagrangian
    accuracy: Float[Array, ""]
    count: Int[Array, ""]
    sketches: Int[Array, ""]
    penalty_updates: Int[Array, ""]
    step_size: Float[Array, ""]
    inner_residual: Float[Array, ""]
    inner_tolerance: Float[Array, ""]
    slope: Float[Array, ""]
    decrease: Float[Array, ""]
    modified: Bool[Array, ""]
    status: Int[Array, ""]


class SketchedNewton(Method[EqualityConstrained, SketchedNewtonState]):
    r"""Adaptive inexact Newton steps on the KKT conditions, with sketch-and-project for the linear algebra.

    At $(x_k, \lambda_k)$ let $\Gamma = \begin{pmatrix} B & G^\top \\ G & 0\end{pmatrix}$ with $B = H$, or $B = H +
    (\xi_B + \lVert H\rVert_F) I$ where $H$ lacks curvature on the kernel of $G$. Random sketches of $\Gamma z =
    -\nabla\mathcal{L}_k$ are projected onto, from $z = 0$, until

    $$\lVert\Gamma z + \nabla\mathcal{L}_k\rVert \le \frac{\theta_k\delta}{\lVert\Gamma\rVert_F\Psi}
    \lVert\nabla\mathcal{L}_k\rVert, \qquad
    \nabla\mathcal{L}_\eta^\top z \le -\tfrac{\eta_2}{2}\lVert\nabla\mathcal{L}_k\rVert^2.$$

    Whenever the first holds without the second, $\eta_1 \leftarrow \nu^2\eta_1$, $\eta_2 \leftarrow \eta_2/\nu$,
    $\delta \leftarrow \min(\delta/\nu^4, \hat\delta)$ with $\hat\delta = (\frac12 - \beta)\eta_2/((1 + \eta_1 +
    \eta_2)\Upsilon^2\Psi^2)$ and $\Upsilon = \max(\lVert G\rVert_F, \lVert H\rVert_F, 1)$, and the projections go on.
    The step is the first of $1, \frac12, \frac14, \dots$ with $\mathcal{L}_\eta(w + \alpha z) \le \mathcal{L}_\eta(w) +
    \alpha\beta\nabla\mathcal{L}_\eta^\top z$. The KKT residual tends to zero almost surely from any start; near a
    regular solution with $B = H$ convergence is linear, and superlinear if $\theta_k \to 0$.

    A start may be a vector $x_0$, with multipliers zero, or a `PrimalDual`. Use 64-bit floats: the accuracy condition
    lies below what 32-bit ones resolve. A residual at rounding level counts as accurate. What makes the method stop
    is in `state.status`; it then holds still. Dense matrices throughout; factorisations of $G$ and the reduced Hessian
    are part of the method, and at sizes where they are cheap so is a direct solve of the Newton system.

    **Arguments**

    - `sketch`: `"kaczmarz"` (uniform rows), `"gaussian"`, a `Sketch`, or a function `(key, rows)` to a matrix.
    - `forcing`: $\theta_k \in (0, 1]$, a number or a JAX function of $k$ and $\lVert\nabla\mathcal{L}_k\rVert$.
    - `inverse_bound`: $\Psi \ge \lVert\Gamma^{-1}\rVert$: `"paper"`, $20\max(\lVert B\rVert_F^2, 1)/(\min(\xi_G, 1)
      \min(\xi_B, 1))$ with $\xi_G = \lambda_{\min}(GG^\top)$, a bound if $B$ has curvature $\xi_B$ on the kernel;
      `"exact"`, from the eigenvalues of $\Gamma$; or a number.
    - `constraint_penalty`, `gradient_penalty`, `accuracy`: the first $\eta_1$, $\eta_2$ and $\delta$.
    - `sufficient_decrease`: $\beta \in (0, \frac12)$.
    - `penalty_growth`: $\nu > 1$.
    - `curvature`: $\xi_B > 0$.
    - `curvature_threshold`: the curvature on the kernel below which $H$ is modified; the authors' program has
      $10^{-6}$, and $10^{-2}$ for logistic regression.
    - `singular_threshold`: $\xi_G$ below which the Jacobian counts as singular; the authors' program gives up below
      $10^{-2}$, which a mere scaling of the constraints brings about.
    - `accuracy_floor`: the smallest $\delta$. The theorem has none.
    - `max_sketches`: the limit for one Newton system.

    **Raises** `ValueError` or `TypeError` for a hyper-parameter out of range; `init` raises `ValueError` for a start of
    the wrong shape and for more constraints than variables.

    **Source**: I. Hong, S. Na, M. W. Mahoney, M. Kolar, "Constrained Optimization via Exact Augmented Lagrangian and
    Randomized Iterative Sketching", arXiv:2305.18379, Algorithm 1.
    """

    sketch: Sketch = eqx.field(default="kaczmarz", converter=as_sketch)
    forcing: Forcing | float = eqx.field(default=1.0, static=True)
    inverse_bound: Literal["paper", "exact"] | float = eqx.field(default="paper", static=True)
    constraint_penalty: Scalar = hyperparameter(default=1.0)
    gradient_penalty: Scalar = hyperparameter(default=0.1)
    accuracy: Scalar = hyperparameter(default=0.1)
    sufficient_decrease: Scalar = hyperparameter(default=0.1)
    penalty_growth: Scalar = hyperparameter(default=1.5)
    curvature: Scalar = hyperparameter(default=0.1)
    curvature_threshold: Scalar = hyperparameter(default=1e-6)
    singular_threshold: Scalar = hyperparameter(default=1e-10)
    accuracy_floor: Scalar = hyperparameter(default=1e-6)
    max_sketches: int = eqx.field(default=10_000_000, static=True)

    def __check_init__(self) -> None:
        for name in ("constraint_penalty", "gradient_penalty", "accuracy", "curvature"):
            validation.positive(name, getattr(self, name))
        for name in ("singular_threshold", "accuracy_floor"):
            validation.real(name, getattr(self, name), low=0.0)
        validation.real("curvature_threshold", self.curvature_threshold)
        validation.real("sufficient_decrease", self.sufficient_decrease, low=0.0, high=0.4999999, open_low=True)
        validation.real("penalty_growth", self.penalty_growth, low=1.0, open_low=True)
        validation.integer("max_sketches", self.max_sketches, low=1)
        if not callable(self.forcing):
            validation.real("forcing", self.forcing, low=0.0, high=1.0, open_low=True)
        if isinstance(self.inverse_bound, str):
            if self.inverse_bound not in ("paper", "exact"):
                raise ValueError(f"inverse_bound: must be 'paper', 'exact' or a number, got {self.inverse_bound!r}")
        else:
            validation.positive("inverse_bound", self.inverse_bound)

    @classmethod
    def theory(cls, *, superlinear: bool = False, **hyperparameters: Any) -> SketchedNewton:
        r"""What the theorems cover: a certified $\Psi$, no floor under $\delta$, and $\theta_k = 1$ or $1/(k+1)^2$.

        **Arguments**: `superlinear`, whether $\theta_k \to 0$; `hyperparameters`, any others.
        """
        forcing = inverse_square_forcing if superlinear else 1.0
        return cls(**{"forcing": forcing, "inverse_bound": "exact", "accuracy_floor": 0.0, **hyperparameters})

    def init(
        self, problem: EqualityConstrained, x0: Float[Array, "..."] | PrimalDual | None, key: Key[Array, ""]
    ) -> SketchedNewtonState:
        """Start at `x0`, by default at the problem's own start."""
        del key
        start = problem.start if x0 is None else x0
        if start is None:
            raise ValueError("x0: this problem has no start of its own; give one")
        x, multipliers = start if isinstance(start, PrimalDual) else (start, None)
        if x.ndim != 1:
            raise ValueError(f"x0: must be a vector, got shape {x.shape}")
        values = Values.at(problem, x)
        if values.constraints.ndim != 1 or not 1 <= values.constraints.size <= x.size:
            raise ValueError(
                f"constraints: must return a vector of 1 to {x.size} entries, got shape {values.constraints.shape}"
            )
        if multipliers is None:
            multipliers = jnp.zeros_like(values.constraints)
        if multipliers.shape != values.constraints.shape:
            raise ValueError(f"x0: expected multipliers of shape {values.constraints.shape}, got {multipliers.shape}")
        zero, none = jnp.zeros((), x.dtype), jnp.asarray(0)
        merit = ExactAugmentedLagrangian(
            jnp.asarray(self.constraint_penalty, x.dtype), jnp.asarray(self.gradient_penalty, x.dtype)
        )
        return SketchedNewtonState(
            x=PrimalDual(x, multipliers),
            cost=Cost(gradients=1, evaluations=1),
            values=values,
            merit=merit,
            accuracy=jnp.asarray(self.accuracy, x.dtype),
            count=none,
            sketches=none,
            penalty_updates=none,
            step_size=zero,
            inner_residual=zero,
            inner_tolerance=zero,
            slope=zero,
            decrease=zero,
            modified=jnp.asarray(False),
            status=jnp.where(_finite(values), NewtonStatus.running, NewtonStatus.nonfinite),
        )

    def step(
        self, problem: EqualityConstrained, state: SketchedNewtonState, key: Key[Array, ""]
    ) -> SketchedNewtonState:
        """One Newton direction and the line search along it; nothing once the method has stopped."""
        direction = self.direction(
            state.values,
            state.x.multipliers,
            problem.hessian(state.x),
            state.merit,
            state.accuracy,
            state.count,
            key,
            state.status,
        )
        return self._searched(problem, state, direction)

    def direction(
        self,
        values: Values,
        multipliers: Float[Array, " m"],
        hessian: Float[Array, "n n"],
        merit: ExactAugmentedLagrangian,
        accuracy: Float[Array, ""],
        count: Int[Array, ""],
        key: Key[Array, ""],
        status: Int[Array, ""],
    ) -> Direction:
        r"""The inexact Newton direction at a point, with the penalties and the accuracy adapted to it.

        **Arguments**

        - `values`, `multipliers`, `hessian`: $f$, $\nabla f$, $c$, $G$; $\lambda$; and $H = \nabla_x^2\mathcal{L}$.
        - `merit`, `accuracy`: $\eta$ and $\delta$ as the last step left them.
        - `count`: $k$.
        - `key`: of the sketches.
        - `status`: of the method; unless it is `running`, nothing is done.
        """
        jacobian = values.jacobian
        kkt = values.kkt_residual(multipliers)
        norm = jnp.linalg.norm(kkt)
        regularity = jnp.linalg.eigvalsh(jacobian @ jacobian.T)[0]
        curved, modified = with_curvature(hessian, jacobian, self.curvature, self.curvature_threshold)
        system = saddle_matrix(curved, jacobian)
        bound = inverse_bound(self.inverse_bound, curved, jacobian, self.curvature)
        largest = jnp.maximum(jnp.maximum(jnp.linalg.norm(jacobian), jnp.linalg.norm(hessian)), 1.0)
        theta = self.forcing(count, norm) if callable(self.forcing) else self.forcing
        relative = theta / (jnp.linalg.norm(system) * bound)

        def capped(accuracy: Float[Array, ""], merit: ExactAugmentedLagrangian) -> Float[Array, ""]:
            scale = (1.0 + merit.constraint_penalty + merit.gradient_penalty) * largest**2 * bound**2
            trial = (0.5 - self.sufficient_decrease) * merit.gradient_penalty / scale
            return jnp.maximum(jnp.minimum(accuracy, trial), self.accuracy_floor)

        healthy = jnp.isfinite(norm) & jnp.isfinite(hessian).all()
        started = jnp.select(
            [status != NewtonStatus.running, ~healthy, ~(regularity >= self.singular_threshold)],
            [status, NewtonStatus.nonfinite, NewtonStatus.singular],
            NewtonStatus.running,
        )

        def attempt(last: Direction) -> tuple[Direction, Bool[Array, ""]]:
            tolerance = relative * last.accuracy * norm
            solved = project_until(
                system,
                -kkt,
                last.step,
                tolerance,
                self.sketch,
                jax.random.fold_in(key, last.penalty_updates),
                self.max_sketches - last.sketches,
            )
            slope = jnp.dot(last.merit.slope_vector(values, multipliers, hessian), solved.x)
            descends = slope <= -0.5 * last.merit.gradient_penalty * norm**2
            merit = ExactAugmentedLagrangian(
                jnp.where(descends, 1.0, self.penalty_growth**2) * last.merit.constraint_penalty,
                last.merit.gradient_penalty / jnp.where(descends, 1.0, self.penalty_growth),
            )
            beyond = (merit.constraint_penalty > _LARGEST_CONSTRAINT_PENALTY) | (
                merit.gradient_penalty < _SMALLEST_GRADIENT_PENALTY
            )
            status = jnp.select(
                [
                    solved.result == SketchResult.nonfinite,
                    solved.result == SketchResult.max_sketches,
                    ~descends & beyond,
                ],
                [NewtonStatus.nonfinite, NewtonStatus.inner_solver, NewtonStatus.penalties],
                NewtonStatus.running,
            )
            lowered = capped(last.accuracy / self.penalty_growth**4, merit)
            return Direction(
                step=solved.x,
                residual=solved.residual_norm,
                tolerance=tolerance,
                merit=merit,
                slope=slope,
                accuracy=jnp.where(descends, last.accuracy, lowered),
                inverse_bound=bound,
                sketches=last.sketches + solved.sketches,
                penalty_updates=last.penalty_updates + ~descends,
                modified=modified,
                status=status,
            ), descends

        first = Direction(
            step=jnp.zeros_like(kkt),
            residual=norm,
            tolerance=jnp.zeros_like(norm),
            merit=merit,
            slope=jnp.zeros_like(norm),
            accuracy=capped(accuracy, merit),
            inverse_bound=bound,
            sketches=jnp.asarray(0),
            penalty_updates=jnp.asarray(0),
            modified=modified,
            status=started,
        )
        found, _ = jax.lax.while_loop(
            lambda carry: (carry[0].status == NewtonStatus.running) & ~carry[1],
            lambda carry: attempt(carry[0]),
            (first, jnp.asarray(False)),
        )
        return found

    def _searched(
        self, problem: EqualityConstrained, state: SketchedNewtonState, direction: Direction
    ) -> SketchedNewtonState:
        """The state after the line search along `direction`, or one that stands where it stood if there is none."""
        active = direction.status == NewtonStatus.running

        def trial(search: _Search) -> _Search:
            step_size = jnp.where(search.trials == 0, 1.0, 0.5 * search.step_size)
            point = _moved(state.x, direction, step_size)
            values = Values.at(problem, point.x)
            accepted = self.sufficient(
                direction, state.values, state.x.multipliers, values, point.multipliers, step_size
            )
            return _Search(step_size, values, search.trials + 1, accepted)

        search = jax.lax.while_loop(
            lambda search: ~search.accepted & (search.step_size > SMALLEST_STEP),
            trial,
            _Search(jnp.ones_like(direction.slope), state.values, jnp.asarray(0), ~active),
        )
        moves = active & search.accepted
        step_size = jnp.where(moves, search.step_size, 0.0)
        point, values = jax.tree.map(
            lambda new, old: jnp.where(moves, new, old),
            (_moved(state.x, direction, step_size), search.values),
            (state.x, state.values),
        )
        drop = direction.merit.value(state.values, state.x.multipliers) - direction.merit.value(
            values, point.multipliers
        )
        failed = jnp.where(_finite(search.values), NewtonStatus.line_search, NewtonStatus.nonfinite)
        return SketchedNewtonState(
            x=point,
            cost=state.cost + Cost(gradients=search.trials, evaluations=search.trials),
            values=values,
            merit=direction.merit,
            accuracy=direction.accuracy,
            count=state.count + moves,
            sketches=state.sketches + direction.sketches,
            penalty_updates=state.penalty_updates + direction.penalty_updates,
            step_size=step_size,
            inner_residual=direction.residual,
            inner_tolerance=direction.tolerance,
            slope=direction.slope,
            decrease=drop,
            modified=direction.modified,
            status=jnp.where(active & ~moves, failed, direction.status),
        )

    def sufficient(
        self,
        direction: Direction,
        values: Values,
        multipliers: Float[Array, " m"],
        new_values: Values,
        new_multipliers: Float[Array, " m"],
        step_size: Float[Array, ""],
    ) -> Bool[Array, ""]:
        r"""Whether a step decreases the merit function by Armijo's rule, up to the rounding of its values."""
        before = direction.merit.value(values, multipliers)
        after = direction.merit.value(new_values, new_multipliers)
        rounding = 4.0 * np.finfo(before.dtype).eps * (jnp.abs(before) + jnp.abs(values.function))
        bound = before + step_size * self.sufficient_decrease * direction.slope + rounding
        return jnp.asarray(_finite(new_values) & (after <= bound))


class _Search(eqx.Module):
    step_size: Float[Array, ""]
    values: Values
    trials: Int[Array, ""]
    accepted: Bool[Array, ""]


def _moved(point: PrimalDual, direction: Direction, step_size: Float[Array, ""]) -> PrimalDual:
    size = point.x.size
    along_x, along_multipliers = direction.step[:size], direction.step[size:]
    return PrimalDual(point.x + step_size * along_x, point.multipliers + step_size * along_multipliers)


def _finite(values: Values) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in values]).all()
