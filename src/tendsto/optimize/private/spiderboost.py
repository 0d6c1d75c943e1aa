"""Private SpiderBoost: gradients that are corrected privately from step to step, and refreshed now and then."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key

from tendsto import validation
from tendsto.iteration import Cost, Scalar, hyperparameter
from tendsto.optimize.private.accounting import Adjacency, Release, calibrate, poisson_release, unit_noise
from tendsto.optimize.private.estimators import RecordMean, gaussian, is_anchor, variation_deviation
from tendsto.optimize.private.method import PrivateMethod, PrivateState, Whole, sensitivity_constants, whole

_ALL = RecordMean()


class SpiderBoostState(PrivateState):
    r"""Adds $w_{t-1}$ and the private estimate $G_{t-1}$ of the gradient there."""

    previous: Float[Array, " d"]
    estimate: Float[Array, " d"]


class PrivateSpiderBoost(PrivateMethod[SpiderBoostState]):
    r"""Gradient steps $w_{t+1} = w_t - \eta G_t$ on a private estimate that costs little where the step is short.

    $$G_t = \begin{cases} \operatorname{mean}_{i\in B_t}\nabla f_i(w_t) + N(0, \sigma_1^2 I) & q \mid t \\
    G_{t-1} + \operatorname{mean}_{i\in B_t}[\nabla f_i(w_t) - \nabla f_i(w_{t-1})]
    + N(0, \min\{\sigma_2\lVert w_t-w_{t-1}\rVert, \hat\sigma_2\}^2 I) & \text{else.}\end{cases}$$

    Replacing a record moves a mean by at most $2L_0/b$ and a change by at most $2L_1\lVert w_t-w_{t-1}\rVert/b$, so the
    noise of a correction shrinks with the step. The output is a random one of $w_1, \dots, w_T$.

    **Arguments**

    - `step_size`: $\eta$, $1/(2L_1)$ in the theorems.
    - `lipschitz`, `smoothness`: $L_0$ and $L_1$, bounds for every record; with `clip`, what is clipped to.
    - `anchor_deviation`: $\sigma_1$ of each entry of the mean.
    - `variation_deviation`, `variation_ceiling`: $\sigma_2$ and $\hat\sigma_2$.
    - `period`: $q$, the steps from one anchor to the next.
    - `steps`: $T$, after which nothing more is released and the state stands still.
    - `anchors`, `variations`: the batches and clipping of both kinds of release.

    **Raises** `TypeError` or `ValueError` naming the argument.

    **Source**: R. Arora, R. Bassily, T. González, C. Guzmán, M. Menart, E. Ullah, "Faster Rates of Convergence to
    Stationary Points in Differentially Private Optimization", arXiv:2206.00846, Algorithm 2.
    """

    period: Whole = eqx.field(converter=jnp.asarray)
    step_size: Scalar = hyperparameter()
    lipschitz: Scalar = hyperparameter()
    smoothness: Scalar = hyperparameter()
    anchor_deviation: Scalar = hyperparameter()
    variation_deviation: Scalar = hyperparameter()
    variation_ceiling: Scalar = hyperparameter()
    anchors: RecordMean = _ALL
    variations: RecordMean = _ALL

    def __check_init__(self) -> None:
        for name in ("step_size", "lipschitz", "smoothness"):
            validation.positive(name, getattr(self, name))
        for name in ("anchor_deviation", "variation_deviation", "variation_ceiling"):
            validation.real(name, getattr(self, name), low=0.0, high=np.finfo(np.float64).max)
        whole("period", self.period)

    @classmethod
    def calibrated(
        cls,
        problem: Any,
        x0: ArrayLike,
        *,
        epsilon: float,
        delta: float,
        initial_gap: float,
        most_steps: int | None = None,
        adjacency: Adjacency = "replace-one",
        clip: bool = False,
    ) -> PrivateSpiderBoost:
        r"""The method on all records that makes the certificate of `spiderboost_parameters` smallest, and spends all.

        **Arguments**

        - `problem`: a finite sum with `lipschitz` and `smoothness` that hold for every record.
        - `x0`: the start, of which only the dimension matters.
        - `epsilon`, `delta`, `adjacency`: the budget; see `calibrate`.
        - `initial_gap`: a public upper bound on $F(x_0) - \min F$.
        - `most_steps`: a cap on the number of steps, each of which passes over all records.
        - `clip`: clip records to the constants all the same.

        **Raises** `ValueError` naming the argument.
        """
        lipschitz, smoothness = sensitivity_constants(problem)
        parameters = spiderboost_parameters(
            problem.components,
            np.size(x0),
            lipschitz=lipschitz,
            smoothness=smoothness,
            initial_gap=initial_gap,
            noise_multiplier=unit_noise(epsilon, delta, adjacency=adjacency),
            most_steps=most_steps,
        )
        means = RecordMean(clip=clip)
        method = parameters.method(anchors=means, variations=means)
        return method.rescaled(problem.components, epsilon, delta, adjacency)

    @classmethod
    def theory(
        cls,
        problem: Any,
        x0: ArrayLike,
        *,
        epsilon: float,
        delta: float,
        initial_gap: float,
        adjacency: Adjacency = "replace-one",
        clip: bool = False,
    ) -> PrivateSpiderBoost:
        r"""The method with the horizon, period and batches of Theorem B.3, its constants set to 1.

        $\sigma_1 \propto L_0\max\{1/b_1, \sqrt{T/q}/n\}$, $\sigma_2 \propto L_1\max\{1/b_2, \sqrt T/n\}$ and
        $\hat\sigma_2 = 2(L_0/L_1)\sigma_2$, by a common factor that the theorem leaves open and the accountant finds.
        Corrections are made on Poisson samples of expected size $b_2$, anchors on all records. `calibrated` makes
        far better use of a budget.

        **Arguments**: as for `calibrated`, without a cap.

        **Raises** `ValueError` naming the argument, for `problem` if it has fewer records than the theorem requires.

        **Source**: arXiv:2206.00846, Algorithm 2 and Theorem B.3.
        """
        lipschitz, smoothness = sensitivity_constants(problem)
        records = problem.components
        steps, period, batch = theorem_parameters(
            records,
            np.size(x0),
            lipschitz=lipschitz,
            smoothness=smoothness,
            initial_gap=initial_gap,
            epsilon=epsilon,
            delta=delta,
        )
        sampling = batch / records
        shapes = _Shape(steps, period)
        anchor, variation = max(1.0, math.sqrt(steps / period)), max(1.0, math.sqrt(steps) * sampling)
        factor = calibrate(
            [
                Release(anchor, shapes.anchors),
                poisson_release(variation, shapes.variations, sampling, records),
            ],
            epsilon,
            delta,
            adjacency=adjacency,
        )
        return cls(
            step_size=0.5 / smoothness,
            lipschitz=lipschitz,
            smoothness=smoothness,
            anchor_deviation=factor * anchor * lipschitz / records,
            variation_deviation=factor * variation * smoothness / batch,
            variation_ceiling=2.0 * factor * variation * lipschitz / batch,
            period=period,
            steps=steps,
            anchors=RecordMean(clip=clip),
            variations=RecordMean(sampling, clip),
        )

    def releases(self, records: int) -> list[Release]:
        """The anchors, and the corrections, whose noise is smallest where it is least for their sensitivity."""
        shape = _Shape(int(self.steps), int(self.period))
        slope, curvature = float(self.lipschitz), float(self.smoothness)
        scaled = self.variations.release(records, float(self.variation_deviation), curvature, shape.variations)
        capped = self.variations.release(records, float(self.variation_ceiling), 2.0 * slope, shape.variations)
        return [
            self.anchors.release(records, float(self.anchor_deviation), slope, shape.anchors),
            min(scaled, capped, key=lambda release: release.noise_multiplier),
        ]

    def rescaled(
        self, records: int, epsilon: float, delta: float, adjacency: Adjacency = "replace-one"
    ) -> PrivateSpiderBoost:
        """The same with all noise multiplied by the factor at which it spends `epsilon`; see `calibrate`."""
        factor = calibrate(self.releases(records), epsilon, delta, adjacency=adjacency)
        return dataclasses.replace(
            self,
            anchor_deviation=self.anchor_deviation * factor,
            variation_deviation=self.variation_deviation * factor,
            variation_ceiling=self.variation_ceiling * factor,
        )

    def init(self, problem: Any, x0: Float[Array, " d"], key: Key[Array, ""]) -> SpiderBoostState:
        """Start at `x0`; step 0 is an anchor."""
        del problem, key
        return SpiderBoostState(
            x=x0, cost=Cost(), output=x0, count=jnp.asarray(0), previous=x0, estimate=jnp.zeros_like(x0)
        )

    def advance(self, problem: Any, state: SpiderBoostState, key: Key[Array, ""]) -> SpiderBoostState:
        """One release and one gradient step."""
        batch_key, noise_key = jax.random.split(key)
        moved = state.x - state.previous

        def anchor() -> tuple[Array, Array, Array]:
            mean, cost = self.anchors.gradient(problem, state.x, self.lipschitz, batch_key)
            return mean, jnp.asarray(self.anchor_deviation, state.x.dtype), cost.astype(float)

        def variation() -> tuple[Array, Array, Array]:
            reach = jnp.minimum(self.smoothness * jnp.linalg.norm(moved), 2.0 * self.lipschitz)
            change, cost = self.variations.change(problem, state.x, state.previous, reach, batch_key)
            deviation = variation_deviation(moved, self.variation_deviation, self.variation_ceiling)
            return state.estimate + change, deviation.astype(state.x.dtype), cost.astype(float)

        mean, deviation, gradients = jax.lax.cond(is_anchor(state.count, jnp.asarray(self.period)), anchor, variation)
        estimate = mean + gaussian(noise_key, mean, deviation)
        x = state.x - self.step_size * estimate
        cost = state.cost + Cost(gradients=gradients)
        return dataclasses.replace(state, x=x, cost=cost, previous=state.x, estimate=estimate)


@dataclasses.dataclass(frozen=True)
class SpiderBoostParameters:
    r"""What `spiderboost_parameters` finds.

    **Arguments**

    - `steps`, `period`, `anchors`: $T$, $q$ and $N_1$.
    - `lipschitz`, `smoothness`: $L_0$ and $L_1$.
    - `anchor_deviation`, `variation_deviation`, `variation_ceiling`: $\sigma_1$, $\sigma_2$ and $\hat\sigma_2$.
    - `certificate`: the bound on the mean of $\mathbb E\lVert\nabla F(w_t)\rVert^2$ over $t < T$.
    """

    steps: int
    period: int
    anchors: int
    lipschitz: float
    smoothness: float
    anchor_deviation: float
    variation_deviation: float
    variation_ceiling: float
    certificate: float

    def method(self, *, anchors: RecordMean = _ALL, variations: RecordMean = _ALL) -> PrivateSpiderBoost:
        r"""The method with these parameters and $\eta = 1/(2L_1)$."""
        return PrivateSpiderBoost(
            step_size=0.5 / self.smoothness,
            lipschitz=self.lipschitz,
            smoothness=self.smoothness,
            anchor_deviation=self.anchor_deviation,
            variation_deviation=self.variation_deviation,
            variation_ceiling=self.variation_ceiling,
            period=self.period,
            steps=self.steps,
            anchors=anchors,
            variations=variations,
        )


def spiderboost_parameters(
    records: int,
    dimension: int,
    *,
    lipschitz: float,
    smoothness: float,
    initial_gap: float,
    noise_multiplier: float,
    most_steps: int | None = None,
) -> SpiderBoostParameters:
    r"""Horizon, period and noise on all records that make a bound with explicit constants smallest.

    With $\eta = 1/(2L_1)$, and if $(q-1)\,d\,\sigma_2^2 \le 2L_1^2$, then

    $$\frac1T\sum_{t<T}\mathbb E\lVert\nabla F(w_t)\rVert^2 \le \frac{4L_1(F(w_0)-\min F)}{T} + d\,\sigma_1^2.$$

    For each $T$ on a geometric grid $\sigma_2^2 = 2Tz^2L_1^2/n^2$, which is half the budget; $q$ is the largest period
    that the condition allows; and $\sigma_1^2 = 2N_1z^2L_0^2/n^2$ with $N_1 = \lfloor(T-1)/q\rfloor + 1$ anchors is
    the other half. The paper's settings, which leave constants open, waste large factors.

    **Arguments**

    - `records`, `dimension`: $n$ and $d$.
    - `lipschitz`, `smoothness`: $L_0$ and $L_1$.
    - `initial_gap`: a public upper bound on $F(w_0) - \min F$.
    - `noise_multiplier`: $z$ of a single release that would spend the whole budget: `unit_noise(epsilon, delta)`, or
      $\sqrt{2/\rho}$ for $\rho$-zCDP with replaced records.
    - `most_steps`: a cap on $T$.

    **Returns** `SpiderBoostParameters`.

    **Raises** `TypeError` or `ValueError` naming the argument.

    **Source**: the proof of arXiv:2206.00846, Lemma B.1, with its constants kept.
    """
    validation.integer("records", records, low=1)
    validation.integer("dimension", dimension, low=1)
    for name, value in {
        "lipschitz": lipschitz,
        "smoothness": smoothness,
        "initial_gap": initial_gap,
        "noise_multiplier": noise_multiplier,
    }.items():
        validation.positive(name, value)
    # Beyond this horizon every step is an anchor.
    longest = max(1.0, records**2 / (dimension * noise_multiplier**2))
    if most_steps is not None:
        validation.integer("most_steps", most_steps, low=1)
        longest = min(longest, most_steps)
    steps = np.unique(np.rint(np.geomspace(1.0, longest, 4000)))
    variance = 2.0 * steps * (noise_multiplier * smoothness / records) ** 2
    period = 1.0 + np.floor(2.0 * smoothness**2 / (dimension * variance))
    anchors = np.floor((steps - 1.0) / period) + 1.0
    anchor_variance = 2.0 * anchors * (noise_multiplier * lipschitz / records) ** 2
    bound = 4.0 * smoothness * initial_gap / steps + dimension * anchor_variance
    best = int(np.argmin(bound))
    deviation = math.sqrt(variance[best])
    return SpiderBoostParameters(
        steps=int(steps[best]),
        period=int(period[best]),
        anchors=int(anchors[best]),
        lipschitz=lipschitz,
        smoothness=smoothness,
        anchor_deviation=math.sqrt(anchor_variance[best]),
        variation_deviation=deviation,
        variation_ceiling=2.0 * lipschitz / smoothness * deviation,
        certificate=float(bound[best]),
    )


def theorem_parameters(
    records: int,
    dimension: int,
    *,
    lipschitz: float,
    smoothness: float,
    initial_gap: float,
    epsilon: float,
    delta: float,
) -> tuple[int, int, int]:
    r"""$T$, $q$ and $b_2$ of Theorem B.3, rounded down, at least 1 and $b_2$ at most $n$.

    With $\bar\alpha = \sqrt{d\log(1/\delta)}/(n\varepsilon)$ and the gap $F_0$:
    $T = \max\{(F_0L_1)^{1/3}L_0^{-2/3}\bar\alpha^{-4/3}, 1/\bar\alpha\}$, $q = 1/(T\bar\alpha^2)$ and
    $b_2 = \max\{(L_0n\varepsilon/\sqrt{F_0L_1d\log(1/\delta)})^{2/3},
    (L_0nd\log(1/\delta))^{1/3}(L_1F_0)^{-1/6}\varepsilon^{-2/3}\}$. The theorem prints another $L_1^2$ in the
    denominator of $q$; its proof has none, nor do the units.

    **Arguments**: as in `spiderboost_parameters`, with the budget `epsilon`, `delta`.

    **Raises** `ValueError` naming the argument; for `records` if there are fewer than
    $\max\{(L_0\varepsilon)^2/(F_0L_1d\log(1/\delta)), \sqrt d\max\{1, \sqrt{L_1F_0}/L_0\}/\varepsilon\}$.

    **Source**: arXiv:2206.00846, Theorem B.3.
    """
    validation.integer("records", records, low=1)
    validation.integer("dimension", dimension, low=1)
    for name, value in {"lipschitz": lipschitz, "smoothness": smoothness, "initial_gap": initial_gap}.items():
        validation.positive(name, value)
    validation.positive("epsilon", epsilon)
    validation.real("delta", delta, low=0.0, high=1.0, open_low=True)
    weight = dimension * math.log(1.0 / delta)
    product = initial_gap * smoothness
    fewest = max(
        (lipschitz * epsilon) ** 2 / (product * weight),
        math.sqrt(dimension) * max(1.0, math.sqrt(product) / lipschitz) / epsilon,
    )
    if records < fewest:
        raise ValueError(f"records: the theorem requires at least {fewest:.4g} of them here, got {records}")
    unit = math.sqrt(weight) / (records * epsilon)
    horizon = max(product ** (1 / 3) * lipschitz ** (-2 / 3) * unit ** (-4 / 3), 1.0 / unit)
    steps = max(1, math.floor(horizon))
    period = max(1, math.floor(1.0 / (horizon * unit**2)))
    batch = max(
        (lipschitz * records * epsilon / math.sqrt(product * weight)) ** (2 / 3),
        (lipschitz * records * weight) ** (1 / 3) / (product ** (1 / 6) * epsilon ** (2 / 3)),
    )
    return steps, period, min(records, max(1, math.floor(batch)))


@dataclasses.dataclass(frozen=True)
class _Shape:
    steps: int
    period: int

    @property
    def anchors(self) -> int:
        return (self.steps - 1) // self.period + 1

    @property
    def variations(self) -> int:
        return self.steps - self.anchors
